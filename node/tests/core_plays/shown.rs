//! Friends who meet nobody but their server, never at the same time: each is shown how the other was, with age, as long as that counts,
//! and knows then when the other was here; nobody else is told anything.

use crosstalk::core::admin::{Command, ContactView, Reply};

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{BEGIN, Client, Play, says};

const MINUTE: u64 = 60_000;
const SETTLED: u64 = 2 * MINUTE;

/// Anna and Bob, enrolled at one server, who see each other; and whoever else is given.
struct Village {
    server: Play,
    anna: Play,
    bob: Play,
    of_anna: Client,
    of_bob: Client,
}

impl Village {
    fn new() -> Self {
        let (anna, bob) = (Play::enrolled(1, |_| {}), Play::enrolled(2, |_| {}));
        let (of_anna, of_bob) = (anna.online("anna/desk"), bob.online("bob/phone"));
        join(&[&anna, &bob], &anna, &bob);
        for (asks, grants) in [(&of_anna, &of_bob), (&of_bob, &of_anna)] {
            asks.send(&format!("<presence to='{}' type='subscribe'/>", grants.bare()));
            rest(&[&anna, &bob]);
            grants.send(&format!("<presence to='{}' type='subscribed'/>", asks.bare()));
            rest(&[&anna, &bob]);
        }
        cut(&[&anna, &bob], &anna, &bob);
        let village = Self { server: Play::server(), anna, bob, of_anna, of_bob };
        // Until each has given up what it asked the server, which was not there.
        village.wait(SETTLED);
        village.forget();
        village
    }

    fn forget(&self) {
        self.of_anna.forget();
        self.of_bob.forget();
    }

    /// One of the two meets the server for some seconds, which is less than a minute.
    fn meets(&self, who: fn(&Self) -> &Play) {
        let nodes = [&self.server, who(self)];
        join(&nodes, nodes[0], nodes[1]);
        for _ in 0..5 {
            nodes.iter().for_each(|node| node.wait(2_000));
            rest(&nodes);
        }
        cut(&nodes, nodes[0], nodes[1]);
    }

    fn wait(&self, millis: u64) {
        [&self.server, &self.anna, &self.bob].iter().for_each(|node| node.wait(millis));
    }

    /// How a contact stands in somebody's list.
    fn listed(play: &Play, account: &str, contact: &str) -> ContactView {
        let Reply::Contacts(contacts) = play.command(Command::Contacts(account.to_owned())) else {
            panic!("no contacts")
        };
        contacts.into_iter().find(|view| view.jid.starts_with(contact)).expect("is listed")
    }

    /// When Anna saw Bob last, in minutes since the beginning.
    fn bob_seen(&self) -> Option<u64> {
        Self::listed(&self.anna, "anna", "bob@")
            .last_seen
            .map(|seen| seen.saturating_sub(BEGIN + SETTLED) / MINUTE)
    }
}

impl Drop for Village {
    fn drop(&mut self) {
        self.forget();
    }
}

#[test]
fn who_was_at_the_server_just_now_is_shown_with_age_until_that_counts_no_more() {
    let village = Village::new();
    village.wait(100 * MINUTE);
    village.of_bob.send("<presence><show>dnd</show></presence>");
    village.meets(|village| &village.bob);
    village.wait(10 * MINUTE);
    village.forget();
    village.meets(|village| &village.anna);
    village.of_anna.expects(
        "<presence from='bob@school.example/phone'><show>dnd</show>\
         <delay xmlns='urn:xmpp:delay' from='bob@school.example' stamp='*'/>…</presence>",
    );
    assert!(Village::listed(&village.anna, "anna", "bob@").online);
    village.wait(30 * MINUTE);
    village.of_anna.expects("<presence from='bob@school.example/phone' type='unavailable'/>");
    assert!(!Village::listed(&village.anna, "anna", "bob@").online);
    assert_eq!(village.bob_seen(), Some(100));
}

#[test]
fn who_was_at_the_server_long_ago_is_not_shown_and_it_is_known_when() {
    let village = Village::new();
    village.wait(100 * MINUTE);
    village.of_bob.send("<presence><show>away</show></presence>");
    village.meets(|village| &village.bob);
    village.wait(30 * 60 * MINUTE);
    village.forget();
    village.meets(|village| &village.anna);
    village.of_anna.hears_nothing();
    assert_eq!(village.bob_seen(), Some(100));
    // What is not urgent goes with what is.
    village.of_anna.send(
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='c@far.example'/></query></iq>",
    );
    village.forget();
    village.anna.restart();
    assert_eq!(village.bob_seen(), Some(100), "also after a restart");
    // Bob, who is at home still, shows that anew.
    village.meets(|village| &village.bob);
    village.meets(|village| &village.anna);
    assert_eq!(village.bob_seen(), Some(31 * 60 + 40));
}

#[test]
fn who_has_gone_is_shown_as_gone() {
    let village = Village::new();
    village.meets(|village| &village.bob);
    village.meets(|village| &village.anna);
    village.of_anna.expects(
        "<presence from='bob@school.example/phone'>\
         <delay xmlns='urn:xmpp:delay' from='bob@school.example' stamp='*'/>…</presence>",
    );
    village.wait(3 * MINUTE);
    village.of_bob.send("<presence type='unavailable'/>");
    village.meets(|village| &village.bob);
    village.forget();
    village.meets(|village| &village.anna);
    village.of_anna.expects("<presence from='bob@school.example/phone' type='unavailable'/>");
    assert_eq!(village.bob_seen(), Some(3));
}

/// What the server told is told again, once the connection that said more has ended.
#[test]
fn who_has_left_the_link_is_as_the_server_said_before() {
    let village = Village::new();
    village.meets(|village| &village.bob);
    village.meets(|village| &village.anna);
    let shown = "<presence from='bob@school.example/phone'>\
         <delay xmlns='urn:xmpp:delay' from='bob@school.example' stamp='*'/>…</presence>";
    village.of_anna.expects(shown);
    join(&[&village.anna, &village.bob], &village.anna, &village.bob);
    village.forget();
    cut(&[&village.anna, &village.bob], &village.anna, &village.bob);
    village.wait(MINUTE);
    village.of_anna.expects("<presence from='bob@school.example/phone' type='unavailable'/>");
    assert!(!Village::listed(&village.anna, "anna", "bob@").online);
    village.forget();
    village.meets(|village| &village.anna);
    village.of_anna.expects(shown);
    assert!(Village::listed(&village.anna, "anna", "bob@").online);
}

/// Whoever asked and was not answered, was refused, or is blocked.
#[test]
fn the_server_tells_nobody_who_may_not_see() {
    for hides in [
        "<presence to='anna@school.example' type='unsubscribed'/>",
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='anna@school.example'/></block></iq>",
    ] {
        let village = Village::new();
        village.meets(|village| &village.bob);
        village.meets(|village| &village.anna);
        village.wait(100 * MINUTE);
        village.of_bob.send(hides);
        village.of_bob.send("<presence><show>dnd</show></presence>");
        village.meets(|village| &village.bob);
        assert!(village.server.desk(|desk| std::mem::take(&mut desk.told_of)) > 0);
        village.forget();
        village.meets(|village| &village.anna);
        assert_eq!(village.server.desk(|desk| desk.told_of), 0, "{hides}");
        assert!(!village.of_anna.takes_all().iter().any(|element| says(element, "dnd")), "{hides}");
        assert!(village.bob_seen().is_none_or(|seen| seen < 100), "{hides}: {:?}", village.bob_seen());
    }
}

#[test]
fn a_server_that_invents_presence_is_not_believed() {
    let village = Village::new();
    village.wait(100 * MINUTE);
    village.of_bob.send("<presence><show>dnd</show></presence>");
    village.meets(|village| &village.bob);
    village.forget();
    village.server.desk(|desk| desk.lies = true);
    village.meets(|village| &village.anna);
    village.of_anna.hears_nothing();
    assert!(village.bob_seen().is_none_or(|seen| seen < 100));
}

/// Where nothing was shown anew, a pass is one question and less than 1 kB.
#[test]
fn what_is_known_costs_nothing() {
    let village = Village::new();
    village.meets(|village| &village.bob);
    village.meets(|village| &village.anna);
    village.server.desk(|desk| desk.asked.clear());
    village.wait(MINUTE);
    village.meets(|village| &village.anna);
    let asked = village.server.desk(|desk| desk.asked.clone());
    assert_eq!(asked.get("Look"), None, "{asked:?}");
    let Reply::Status(status) = village.anna.command(Command::Status) else { panic!("no status") };
    let bytes = status.servers[0].sent + status.servers[0].received;
    assert!(bytes < 1_024, "{bytes}");
    village.forget();
}

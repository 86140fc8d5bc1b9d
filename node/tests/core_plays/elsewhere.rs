//! Users of other nodes: how many of them may ask, under which addresses they are blocked, what is left when they go.

use crosstalk::core::Settings;
use crosstalk::xmpp::Element;
use crosstalk_overlay::keys::AuthorityKey;

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{Client, Play};
use crate::management::{manage, resume};

/// Anna on a node with these settings, the others on one with a domain.
fn apart(change: impl FnOnce(&mut Settings), others: &[&str]) -> (Play, Play, Client, Vec<Client>) {
    let here = Play::elsewhere_with(1, change);
    let authority = AuthorityKey::from_seed([9; 32]).id();
    let there =
        Play::elsewhere_with(2, |settings| settings.domain = Some(("far.example".to_owned(), authority)));
    here.account("anna");
    others.iter().for_each(|name| there.account(name));
    join(&[&here, &there], &here, &there);
    let anna = here.online("anna/desk");
    let others: Vec<_> = others.iter().map(|name| there.online(&format!("{name}/phone"))).collect();
    rest(&[&here, &there]);
    anna.forget();
    (here, there, anna, others)
}

fn ask(others: &[Client]) {
    for other in others {
        other.send("<presence to='anna@xid' type='subscribe'/>");
    }
}

/// Who asked, as Anna sees it.
fn asked(anna: &Client) -> usize {
    anna.takes_all().iter().filter(|element| element.get_attr("type") == Some("subscribe")).count()
}

/// Requests of strangers beyond the limit are refused until some were answered.
#[test]
fn requests_of_strangers_are_limited() {
    let (here, there, anna, others) = apart(|settings| settings.request_limit = 2, &["bob", "carl", "dora"]);
    let nodes = [&here, &there];
    ask(&others);
    rest(&nodes);
    assert_eq!(asked(&anna), 2);
    assert_eq!(here.stored(crosstalk_storage::Tree::ContactRecord), 2);
    others.iter().for_each(|other| assert!(other.forget() > 0));
}

/// So are relations in all, twice as many as contacts.
#[test]
fn relations_are_limited() {
    let (here, there, anna, others) = apart(|settings| settings.roster_limit = 1, &["bob", "carl", "dora"]);
    ask(&others);
    rest(&[&here, &there]);
    assert_eq!(asked(&anna), 2);
    others.iter().for_each(|other| assert!(other.forget() > 0));
}

/// XEP-0191 §5: whoever is blocked is blocked under each address: the self-certified one, the certified one, its domain.
#[test]
fn every_address_of_a_user_blocks() {
    for blocked in ["", "bob@xid", "bob@far.example", "far.example", "bob@far.example/phone"] {
        blocks(blocked, |_| {});
    }
    // Where the other is shown under its certified name.
    let authority = AuthorityKey::from_seed([9; 32]).id();
    blocks("bob@xid", |settings| settings.domain = Some(("far.example".to_owned(), authority)));
}

fn blocks(blocked: &str, change: impl FnOnce(&mut Settings)) {
    let (here, there, anna, others) = apart(change, &["bob"]);
    if !blocked.is_empty() {
        anna.send(&format!(
            "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{blocked}'/></block></iq>"
        ));
        anna.expects("<iq type='result' id='b'/>");
    }
    others[0].send("<message to='anna@xid' type='chat'><body>hi</body></message>");
    others[0].send("<presence to='anna@xid' type='subscribe'/>");
    others[0].send("<presence to='anna@xid/desk'/>");
    rest(&[&here, &there]);
    let heard = anna.takes_all().iter().filter(|element| element.get_attr("id").is_none()).count();
    let whole = blocked.is_empty() || blocked.contains('/');
    assert_eq!(heard, if whole { 3 } else { 0 }, "{blocked}");
    others[0].forget();
}

/// RFC 6121 §4.6: directed presence of somebody elsewhere is taken back when that node is gone, and then not again.
#[test]
fn directed_presence_from_elsewhere_is_taken_back() {
    let (here, there, anna, others) = apart(|_| {}, &["bob"]);
    let nodes = [&here, &there];
    others[0].send("<presence to='anna@xid/desk'><show>chat</show></presence>");
    rest(&nodes);
    anna.expects("<presence from='bob@xid/phone'><show>chat</show></presence>");
    cut(&nodes, &here, &there);
    anna.expects("<presence from='bob@xid/phone' type='unavailable'/>");
    join(&nodes, &here, &there);
    cut(&nodes, &here, &there);
    anna.hears_nothing();
    join(&nodes, &here, &there);
    for type_ in ["", "type='unavailable'"] {
        others[0].send(&format!("<presence to='anna@xid/desk' {type_}/>"));
        rest(&nodes);
        anna.expects(&format!("<presence from='bob@xid/phone' {type_}/>"));
    }
    cut(&nodes, &here, &there);
    anna.hears_nothing();
}

/// Two on one node see the same person: who of them is blocked sees nothing, and the other nothing of that (XEP-0191 §3.3).
#[test]
fn on_a_shared_node_each_sees_what_is_meant_for_them() {
    let (here, there, anna, others) = apart(|_| {}, &["bob"]);
    let (nodes, bob) = ([&here, &there], &others[0]);
    let carl = here.online("carl/tablet");
    join(&nodes, &here, &there);
    for viewer in [&anna, &carl] {
        viewer.send("<presence to='bob@xid' type='subscribe'/>");
        rest(&nodes);
        bob.send(&format!("<presence to='{}@xid' type='subscribed'/>", viewer.name));
        rest(&nodes);
        viewer.forget();
    }
    let block = |jid| {
        format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{jid}'/></block></iq>")
    };
    bob.send(&block("carl@xid"));
    rest(&nodes);
    carl.expects("<presence from='bob@xid/phone' type='unavailable'/>");
    anna.hears_nothing();
    bob.send("<presence><show>dnd</show></presence>");
    rest(&nodes);
    anna.expects("<presence from='bob@xid/phone'><show>dnd</show></presence>");
    carl.hears_nothing();
    let second = here.online("carl/second");
    second.hears_nothing();
    bob.send("<presence type='unavailable'/>");
    rest(&nodes);
    anna.expects("<presence from='bob@xid/phone' type='unavailable'/>");
    carl.forget();
    bob.forget();
}

/// What somebody lets see, and that they let it, go different ways: the presence is there first here, as it is sent to
/// whoever comes before what waits for them.
#[test]
fn presence_that_comes_before_its_grant_is_shown_with_it() {
    let (here, there, anna, others) = apart(|_| {}, &["bob"]);
    let nodes = [&here, &there];
    ask(&others);
    rest(&nodes);
    cut(&nodes, &here, &there);
    anna.send("<presence to='bob@xid' type='subscribed'/>");
    rest(&nodes);
    others[0].forget();
    join(&nodes, &here, &there);
    rest(&nodes);
    let shown = |element: &Element| {
        element.name() == "presence"
            && element.get_attr("type").is_none()
            && element.get_attr("from") == Some("anna@xid/desk")
    };
    assert_eq!(others[0].takes_all().iter().filter(|element| shown(element)).count(), 1);
    anna.forget();
}

/// What is known of the devices of somebody goes with the last who saw them.
#[test]
fn of_a_removed_contact_no_presence_is_kept() {
    let (here, there, anna, others) = apart(|_| {}, &["bob"]);
    let nodes = [&here, &there];
    let kept = || here.stored(crosstalk_storage::Tree::Presence);
    let before = kept();
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    rest(&nodes);
    others[0].send("<presence to='anna@xid' type='subscribed'/>");
    rest(&nodes);
    here.wait(120_000);
    assert_eq!(kept(), before + 1);
    anna.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='bob@xid' subscription='remove'/></query></iq>");
    rest(&nodes);
    here.wait(120_000);
    assert_eq!(kept(), before);
    anna.forget();
    others[0].forget();
}

/// XEP-0280 between two nodes: copies of what was sent on the one side and of what was received on the other.
#[test]
fn carbons_on_both_sides() {
    let (here, there, anna, others) = apart(|_| {}, &["bob"]);
    let nodes = [&here, &there];
    let (phone, tablet) = (here.login("anna/phone"), there.login("bob/tablet"));
    for client in [&phone, &tablet] {
        client.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        client.expects("<iq type='result' id='c'/>");
    }
    anna.send("<message to='bob@xid/phone' type='chat'><body>hi</body></message>");
    rest(&nodes);
    let body = |client: &Client, direction: &str| {
        let copy = client.takes_all().into_iter().next().expect("a copy");
        assert_eq!(copy.get_attr("from"), Some(client.bare().as_str()));
        let copied = copy.get(direction, "urn:xmpp:carbons:2").expect("of this direction").to_bytes("");
        assert!(String::from_utf8(copied).unwrap().contains("<body>hi</body>"));
    };
    body(&phone, "sent");
    body(&tablet, "received");
    others[0].expects("<message from='anna@xid/desk' to='*' type='chat'><body>hi</body></message>");
    others[0].forget();
    anna.forget();
}

/// The end of a message that was taken is told to whoever comes next, also after a restart.
#[test]
fn what_failed_meanwhile_is_told_at_the_next_login() {
    let (here, there, anna, others) = apart(|_| {}, &["bob"]);
    let nodes = [&here, &there];
    cut(&nodes, &here, &there);
    anna.send("<message to='bob@xid/nowhere' id='m'><body>hi</body></message>");
    anna.leaves();
    others[0].forget();
    join(&nodes, &here, &there);
    rest(&nodes);
    here.restart();
    let anna = here.login("anna/desk");
    anna.send("<presence/>");
    anna.expects("<presence from='anna@xid/desk'/>");
    anna.expects(
        "<message type='error' from='bob@xid/nowhere' id='m'><error type='cancel'>\
         <service-unavailable/></error><delay xmlns='urn:xmpp:delay' from='*' stamp='*'/></message>",
    );
    anna.answers_ping();
    assert_eq!(here.stored(crosstalk_storage::Tree::Inbox), 0);
}

/// XEP-0198 §5: a client that resumes after a restart may show somebody who has logged out since, in the hearing of the node:
/// it is told, also if the process ends once more before it is back.
#[test]
fn who_left_before_a_client_of_before_a_restart_is_back_is_taken_back() {
    for restarts in [1, 2] {
        let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
        here.account("anna");
        there.account("bob");
        let nodes = [&here, &there];
        join(&nodes, &here, &there);
        let (anna, stream) = manage(&here, "anna/desk");
        let bob = there.online("bob/phone");
        for (asks, grants) in [(&anna, &bob), (&bob, &anna)] {
            asks.send(&format!("<presence to='{}@xid' type='subscribe'/>", grants.name));
            rest(&nodes);
            grants.send(&format!("<presence to='{}@xid' type='subscribed'/>", asks.name));
            rest(&nodes);
        }
        bob.send("<presence><show>dnd</show></presence>");
        rest(&nodes);
        let shown = |type_: Option<&str>| {
            let seen = anna.takes_all();
            let phone =
                |element: &Element| element.get_attr("from").is_some_and(|from| from.ends_with("/phone"));
            seen.iter().any(|element| phone(element) && element.get_attr("type") == type_)
        };
        assert!(shown(None), "Bob is seen");
        cut(&nodes, &here, &there);
        here.restart();
        bob.send("<presence type='unavailable'/>");
        join(&nodes, &here, &there);
        if restarts == 2 {
            cut(&nodes, &here, &there);
            here.restart();
        }
        resume(&anna, &stream, 1);
        assert!(shown(Some("unavailable")), "after {restarts} restarts");
        bob.forget();
    }
}

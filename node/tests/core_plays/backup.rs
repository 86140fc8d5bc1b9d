//! A node that is put back from an older back-up: what others remember of it since makes nobody lose or see twice anything.

use crosstalk::backup::Renewal;
use crosstalk_storage::{Contents, Tree, WriteSet};

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{Client, Play, says};

/// The node loses its disk, and gets what `crosstalk restore` makes of a snapshot.
fn restore(node: &Play, before: &Contents, now: u64) {
    let renewal = Renewal { now, secret: [5; 16] };
    let mut writes = WriteSet::new();
    for tree in Tree::ALL {
        for (key, value) in before.tree(*tree) {
            writes.put(*tree, renewal.key(*tree, key.to_vec()), renewal.value(*tree, value).unwrap());
        }
    }
    let mut restored = Contents::default();
    restored.apply(&writes);
    node.turn_back(restored);
    node.restart();
}

fn says_to(from: &Client, to: &str, body: &str) {
    from.send(&format!("<message to='{to}@xid' type='chat' id='{body}'><body>{body}</body></message>"));
}

/// The bodies that were shown, in their order.
fn shown(client: &Client) -> Vec<String> {
    client.answers_pings();
    let all = client.takes_all();
    let messages = all.iter().filter(|element| element.name() == "message");
    messages
        .filter_map(|message| message.get("body", "jabber:client"))
        .map(|body| body.own_text().to_string())
        .collect()
}

#[test]
fn what_is_written_after_a_restore_is_no_repeat_and_what_was_is_shown_once() {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    let nodes = [&here, &there];
    here.account("anna");
    there.account("bob");
    join(&nodes, &here, &there);
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    rest(&nodes);
    says_to(&anna, "bob", "first");
    rest(&nodes);
    assert_eq!(shown(&bob), ["first"]);
    cut(&nodes, &here, &there);
    says_to(&anna, "bob", "waits");
    let before = here.snapshot();
    join(&nodes, &here, &there);
    rest(&nodes);
    for body in ["later", "last"] {
        says_to(&anna, "bob", body);
        says_to(&bob, "anna", body);
        rest(&nodes);
    }
    assert_eq!(shown(&bob), ["waits", "later", "last"]);
    assert_eq!(shown(&anna), ["later", "last"]);
    for round in 1..=2 {
        // Twice from the same file: nothing of the first time may count for the second.
        cut(&nodes, &here, &there);
        restore(&here, &before, 1_900_000_000_000 + round);
        join(&nodes, &here, &there);
        let anna = here.online("anna/desk");
        rest(&nodes);
        anna.forget();
        assert_eq!(shown(&bob), Vec::<String>::new(), "what waited has been delivered since");
        let bodies: Vec<String> = (0..6).map(|number| format!("{round}-{number}")).collect();
        for body in &bodies {
            says_to(&anna, "bob", body);
            says_to(&bob, "anna", body);
            rest(&nodes);
        }
        assert_eq!(shown(&bob), bodies);
        assert_eq!(shown(&anna), bodies);
    }
}

/// A client that keeps its list (XEP-0237) has versions from after the back-up: each is given again, to other changes.
#[test]
fn a_client_that_keeps_its_list_gets_all_of_it_after_a_restore() {
    let here = Play::elsewhere(1);
    let anna = here.online("anna/desk");
    let set = |item: &str| {
        anna.send(&format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
        anna.forget();
    };
    let fetch = |anna: &Client, version: &str| {
        anna.send(&format!("<iq type='get' id='v'><query xmlns='jabber:iq:roster' ver='{version}'/></iq>"));
        let answer =
            anna.takes_all().into_iter().find(|element| element.get_attr("id") == Some("v")).unwrap();
        let query = answer
            .get("query", "jabber:iq:roster")
            .map(|query| (query.get_attr("ver").unwrap().to_owned(), query.children().count()));
        query.unwrap_or_default()
    };
    set("<item jid='bob@far.example'/>");
    let before = here.snapshot();
    set("<item jid='carl@far.example'/>");
    set("<item jid='dora@far.example'/>");
    let (kept, all) = fetch(&anna, "");
    assert_eq!(all, 3);
    anna.leaves();
    restore(&here, &before, 1_900_000_000_000);
    let anna = here.online("anna/desk");
    let set = |item: &str| {
        anna.send(&format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
        anna.forget();
    };
    set("<item jid='eve@far.example'/>");
    set("<item jid='fay@far.example'/>");
    let (anew, all) = fetch(&anna, &kept);
    assert_eq!(all, 3, "bob, eve and fay, and neither carl nor dora");
    assert_eq!(fetch(&anna, &anew).1, 0, "from then on changes are told");
    here.restart();
    let anna = here.online("anna/desk");
    assert_eq!(fetch(&anna, &kept).1, 3, "also after a restart");
    assert_eq!(fetch(&anna, &anew).1, 0);
    // Once more from the same file: what was given after the first time does not count either.
    anna.leaves();
    restore(&here, &before, 1_900_000_000_001);
    let anna = here.online("anna/desk");
    assert_eq!(fetch(&anna, &anew).1, 1, "bob");
}

/// Its client would go on where the node is not, and the node take new messages for ones that it has.
#[test]
fn a_session_from_before_cannot_be_resumed_and_what_it_had_not_is_held() {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    let nodes = [&here, &there];
    here.account("anna");
    there.account("bob");
    join(&nodes, &here, &there);
    let anna = here.login("anna/desk");
    let session = anna.enables_management();
    anna.send("<presence/>");
    let bob = there.online("bob/phone");
    rest(&nodes);
    anna.forget();
    says_to(&bob, "anna", "held");
    rest(&nodes);
    let before = here.snapshot();
    assert_eq!(before.tree(Tree::Session).count(), 1);
    restore(&here, &before, 1_900_000_000_000);
    anna.reconnects();
    anna.send(&format!("<resume xmlns='urn:xmpp:sm:3' h='0' previd='{session}'/>"));
    anna.expects("<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>");
    anna.bind("desk");
    anna.send("<presence/>");
    let held = anna.takes_all();
    assert!(held.iter().any(|element| says(element, "held")), "{held:?}");
}

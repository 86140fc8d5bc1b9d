//! Friends found in the hash table: seen, with age, before there is any connection to them, and only by who may.

use crosstalk::core::io::Input;
use crosstalk_overlay::id::NodeId;
use crosstalk_storage::Tree;

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{Client, Play, Table};

const MINUTE: u64 = 60_000;

/// Anna and Bob, on nodes that reach a hash table, see each other; now no way but that leads from one to the other.
fn apart() -> (Play, Play, Client, Client) {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    here.account("anna");
    there.account("bob");
    join(&[&here, &there], &here, &there);
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    let table = Table::default();
    [&here, &there].iter().for_each(|node| node.find_table(&table));
    for (asks, grants) in [(&anna, &bob), (&bob, &anna)] {
        asks.send(&format!("<presence to='{}@xid' type='subscribe'/>", grants.name));
        rest(&[&here, &there]);
        grants.send(&format!("<presence to='{}@xid' type='subscribed'/>", asks.name));
        rest(&[&here, &there]);
    }
    bob.send("<presence><show>dnd</show></presence>");
    both_wait(&here, &there, MINUTE);
    cut(&[&here, &there], &here, &there);
    anna.forget();
    bob.forget();
    (here, there, anna, bob)
}

fn both_wait(here: &Play, there: &Play, millis: u64) {
    for _ in 0..millis / 1_000 {
        here.wait(1_000);
        there.wait(1_000);
    }
}

/// Anna's node is started again, and she comes.
fn comes_again(here: &Play) -> Client {
    here.restart();
    let anna = here.login("anna/desk");
    anna.fetch_contacts();
    anna.send("<presence/>");
    here.wait(2_000);
    anna.expects("<presence from='anna@xid/desk'/>");
    anna
}

#[test]
fn whoever_comes_sees_friends_with_age_though_their_node_is_down() {
    let (here, _down, anna, _bob) = apart();
    anna.breaks();
    here.wait(15 * MINUTE);
    let anna = comes_again(&here);
    anna.expects(
        "<presence from='bob@xid/phone'><show>dnd</show>\
         <delay xmlns='urn:xmpp:delay' from='bob@xid' stamp='*'/></presence>",
    );
    here.wait(10 * MINUTE);
    anna.hears_nothing();
    here.wait(6 * MINUTE);
    anna.expects("<presence from='bob@xid/phone' type='unavailable'/>");
    here.wait(30 * MINUTE);
    anna.hears_nothing();
    anna.breaks();
    let anna = comes_again(&here);
    anna.hears_nothing();
}

#[test]
fn what_was_found_loses_its_age_when_the_friend_is_heard() {
    let (here, there, anna, bob) = apart();
    anna.breaks();
    let anna = comes_again(&here);
    assert_eq!(anna.forget(), 1);
    join(&[&here, &there], &here, &there);
    anna.expects("<presence from='bob@xid/phone'><show>dnd</show></presence>");
    bob.forget();
}

/// XEP-0191 and RFC 6121 §2.5: whoever is blocked or removed finds nothing new, though it was told where to look.
#[test]
fn whoever_may_no_more_see_somebody_finds_nothing_new() {
    let remove = "<iq type='set' id='r'><query xmlns='jabber:iq:roster'>\
                  <item jid='anna@xid' subscription='remove'/></query></iq>";
    let block = "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='anna@xid'/></block></iq>";
    for (change, news) in [("", 1), (remove, 0), (block, 0)] {
        let (here, there, anna, bob) = apart();
        anna.breaks();
        if !change.is_empty() {
            bob.send(change);
        }
        bob.send("<presence><show>chat</show><status>news</status></presence>");
        both_wait(&here, &there, 12 * MINUTE);
        let anna = comes_again(&here);
        let text = |element: &crosstalk::xmpp::Element| String::from_utf8(element.to_bytes("")).unwrap();
        let seen = anna.takes_all().iter().filter(|element| text(element).contains("news")).count();
        assert_eq!(seen, news, "{change}");
        bob.forget();
    }
}

/// Somebody who was there for a moment comes back without those that it was told to begin at.
#[test]
fn nodes_of_the_table_are_remembered_at_once_and_the_later_ones_at_an_orderly_stop() {
    let here = Play::elsewhere(1);
    let members = |bytes: &[u8]| {
        let node = |byte| (NodeId::from_bytes([byte; 32]), vec!["/ip4/203.0.113.9/tcp/1".to_owned()]);
        Input::Members(bytes.iter().copied().map(node).collect())
    };
    here.input(members(&[1]));
    here.input(members(&[1, 2, 3]));
    assert_eq!(here.stored(Tree::Node), 3);
    here.input(members(&[3, 4]));
    assert_eq!(here.stored(Tree::Node), 3, "it can wait for the next flush");
    here.input(Input::Stopping);
    assert_eq!(here.stored(Tree::Node), 4);
}

//! DESIGN §8: while the store cannot write, nothing durable is promised, and everything else goes on.

use crate::core_support::link::{join, rest};
use crate::core_support::{Client, Play};
use crosstalk::core::admin::{Command, Refused, Reply};

const TROUBLE: &str = "the disk is full: make room";

fn is_refused(client: &Client, stanza: &str, from: &str, id: &str) {
    let from = if from.is_empty() { String::new() } else { format!("from='{from}'") };
    client.expects(&format!(
        "<{stanza} type='error' {from} id='{id}'><error type='wait'><resource-constraint/></error></{stanza}>"
    ));
}

/// RFC 6120 §8.3.3.18: messages, contact list, subscriptions, block list, vCard, password are refused with the reason.
#[test]
fn durable_things_are_refused() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    play.account("bob");
    play.store_trouble(Some(TROUBLE));
    anna.send("<message to='bob@school.example' type='chat' id='m'><body>x</body></message>");
    is_refused(&anna, "message", "bob@school.example", "m");
    for payload in [
        "<query xmlns='jabber:iq:roster'><item jid='bob@school.example'/></query>",
        "<block xmlns='urn:xmpp:blocking'><item jid='eve@school.example'/></block>",
        "<vCard xmlns='vcard-temp'><FN>A</FN></vCard>",
        "<query xmlns='jabber:iq:register'><username>anna</username><password>p</password></query>",
        "<query xmlns='jabber:iq:register'><remove/></query>",
    ] {
        anna.send(&format!("<iq type='set' id='q'>{payload}</iq>"));
        is_refused(&anna, "iq", "", "q");
    }
    anna.send("<presence to='bob@school.example' type='subscribe' id='s'/>");
    is_refused(&anna, "presence", "bob@school.example", "s");
    play.store_trouble(None);
    anna.send("<message to='bob@school.example' type='chat' id='m'><body>x</body></message>");
    anna.hears_nothing();
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 1);
}

/// DESIGN §5, classes latest and live: presence, chat states and requests need no disk.
#[test]
fn presence_and_live_things_go_on() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.befriend(&anna, &bob);
    play.store_trouble(Some(TROUBLE));
    play.hold_commits();
    anna.send("<presence><show>away</show></presence>");
    anna.expects("<presence from='anna@school.example/desk'><show>away</show></presence>");
    bob.expects("<presence from='anna@school.example/desk'><show>away</show></presence>");
    anna.send(
        "<message to='bob@school.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    bob.expects(
        "<message from='anna@school.example/desk' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    anna.send("<iq type='get' id='p' to='school.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='result' from='school.example' id='p'/>");
    anna.send("<iq type='get' id='v' to='bob@school.example/phone'><query xmlns='jabber:iq:version'/></iq>");
    bob.expects(
        "<iq type='get' from='anna@school.example/desk' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
}

/// While the store cannot write, nothing is given to it and nothing durable is promised; everything else is answered.
#[test]
fn nothing_is_promised_until_the_store_works_again() {
    let play = Play::new();
    let (anna, _) = crate::management::manage(&play, "anna/desk");
    let bob = play.online("bob/phone");
    anna.send("<message to='bob@school.example' type='chat'><body>before</body></message>");
    bob.forget();
    let before = play.stored(crosstalk_storage::Tree::Session);
    play.store_trouble(Some(TROUBLE));
    // What was handled is not said as long as it is not durable; a question that changes nothing is answered.
    anna.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><r xmlns='urn:xmpp:sm:3'/>");
    anna.expects("<iq type='result' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    anna.expects("<r xmlns='urn:xmpp:sm:3'/>");
    anna.send("<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    anna.expects("<iq type='result' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    anna.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    anna.expects("<iq type='result' id='c'/>");
    // Nor is a resumption promised.
    bob.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    bob.expects("<enabled xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(play.stored(crosstalk_storage::Tree::Session), before);
    play.store_trouble(None);
    anna.send("<r xmlns='urn:xmpp:sm:3'/>");
    anna.expects("<a xmlns='urn:xmpp:sm:3' h='*'/>");
    assert_eq!(play.stored(crosstalk_storage::Tree::Session), before);
}

/// The command line is answered at once that nothing can be saved.
#[test]
fn a_refusal_is_no_promise() {
    let play = Play::new();
    play.account("anna");
    play.hold_commits();
    play.store_trouble(Some(TROUBLE));
    let reply = play.command(Command::RemoveAccount("anna".to_owned()));
    assert!(matches!(reply, Reply::Refused(Refused::Store(_))), "{reply:?}");
}

/// What queues behind a promise is bounded: then the client is told that it has to come back.
#[test]
fn who_has_too_much_waiting_is_closed() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.hold_commits();
    anna.send(
        "<iq type='set' id='q'><query xmlns='jabber:iq:roster'><item jid='eve@school.example'/></query></iq>",
    );
    let text = "x".repeat(200 << 10);
    for _ in 0..84 {
        bob.send(&format!(
            "<message to='anna@school.example/desk' type='headline'><body>{text}</body></message>"
        ));
    }
    anna.is_closed_with("resource-constraint");
    play.commit();
}

/// The longest addresses and ids that a client can send.
#[test]
fn no_client_makes_what_the_store_refuses() {
    let play = Play::new();
    let (anna, _) = crate::management::manage(&play, "anna/desk");
    let bob = play.online("bob/phone");
    let far = format!("{}@school.example", "x".repeat(1_020));
    anna.send(&format!(
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{far}/{}'/></block></iq>",
        "r".repeat(1_000)
    ));
    anna.send(&format!(
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='{far}'/></query></iq>"
    ));
    for number in 0..30 {
        let id = format!("{number}{}", "i".repeat(60 << 10));
        anna.send(&format!(
            "<iq type='get' to='bob@school.example/phone' id='{id}'><query xmlns='jabber:iq:version'/></iq>"
        ));
    }
    anna.send("<r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(play.stored(crosstalk_storage::Tree::Block), 1);
    assert_eq!(play.stored(crosstalk_storage::Tree::Roster), 1);
    anna.forget();
    bob.forget();
}

/// DESIGN §5: what another node has promised to deliver is not refused for want of room here: it waits there.
#[test]
fn what_others_have_promised_is_not_refused() {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    let nodes = [&here, &there];
    here.account("anna");
    there.account("bob");
    join(&nodes, &here, &there);
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    rest(&nodes);
    anna.forget();
    bob.forget();
    there.store_trouble(Some(TROUBLE));
    anna.send("<message to='bob@xid' type='chat' id='m'><body>x</body></message>");
    rest(&nodes);
    anna.hears_nothing();
    bob.hears_nothing();
    let kept = [crosstalk_storage::Tree::Outbox, crosstalk_storage::Tree::Inbox];
    assert_eq!([here.stored(kept[0]), there.stored(kept[1])], [1, 0]);
    there.store_trouble(None);
    rest(&nodes);
    bob.expects("<message from='anna@xid/desk' to='*' type='chat' id='m'><body>x</body></message>");
    bob.answers_ping();
    anna.hears_nothing();
    assert_eq!(here.stored(kept[0]), 0);
}

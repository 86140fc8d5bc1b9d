//! DESIGN §8: while the store cannot write, nothing durable is promised, and everything else goes on.

use crate::core_support::{Client, Play};

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

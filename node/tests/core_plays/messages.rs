//! RFC 6121 §8: where messages go; XEP-0160 and XEP-0203: messages that wait; XEP-0359: their ids.

use crosstalk::xmpp::{Element, ns};

use crate::core_support::{BEGIN, Client, Play, says};

/// Id that the node of `bob` stamped on a message.
fn id_of(message: &Element) -> String {
    let ids: Vec<_> = message.children().filter(|child| child.is("stanza-id", ns::STANZA_ID)).collect();
    assert_eq!(ids.len(), 1, "one stanza-id");
    assert_eq!(ids[0].get_attr("by"), Some("bob@school.example"));
    ids[0].get_attr("id").unwrap().to_owned()
}

fn chat(client: &Client, to: &str, body: &str) {
    client.send(&format!("<message to='{to}' type='chat' id='{body}'><body>{body}</body></message>"));
}

fn hears(client: &Client, body: &str) -> Element {
    client.expects(&format!(
        "<message from='anna@school.example/desk' to='*' type='chat' id='{body}'><body>{body}</body></message>"
    ))
}

/// A message that waited, with the time at which it came.
fn hears_late(client: &Client, body: &str) -> Element {
    client.expects(&format!(
        "<message from='anna@school.example/desk' to='*' type='chat' id='{body}'><body>{body}</body>\
         <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>"
    ))
}

/// RFC 6121 §8.5.2.1.1: to the bare address: all resources of the highest priority.
#[test]
fn a_chat_message_goes_to_the_highest_priority() {
    let play = Play::new();
    let (anna, desk, phone, tablet) = (
        play.online("anna/desk"),
        play.online("bob/desk"),
        play.online("bob/phone"),
        play.online("bob/tablet"),
    );
    desk.send("<presence><priority>5</priority></presence>");
    phone.send("<presence><priority>5</priority></presence>");
    for client in [&desk, &phone, &tablet] {
        client.forget();
    }
    chat(&anna, "bob@school.example", "hi");
    let ids = [id_of(&hears(&desk, "hi")), id_of(&hears(&phone, "hi"))];
    assert_eq!(ids[0], ids[1]);
    tablet.hears_nothing();
    anna.send("<message to='bob@school.example'><subject>s</subject><body>normal</body></message>");
    for client in [&desk, &phone] {
        client.expects(
            "<message from='anna@school.example/desk'><subject>s</subject><body>normal</body></message>",
        );
    }
}

/// RFC 6121 §8.5.3.1: to a full address: that session only, whatever its priority.
#[test]
fn a_message_to_a_full_address() {
    let play = Play::new();
    let (anna, desk, phone) = (play.online("anna/desk"), play.online("bob/desk"), play.online("bob/phone"));
    phone.send("<presence><priority>-5</priority></presence>");
    desk.forget();
    phone.forget();
    for type_ in ["chat", "normal", "headline", "groupchat", "error"] {
        anna.send(&format!("<message to='bob@school.example/phone' type='{type_}'><body>x</body></message>"));
        let type_ = if type_ == "normal" { String::new() } else { format!("type='{type_}'") };
        phone.expects(&format!("<message from='anna@school.example/desk' {type_}><body>x</body></message>"));
    }
    desk.hears_nothing();
}

/// RFC 6121 §8.5.3.2.1: a session that is gone: chat goes to the others, an alert to nobody; of a message of no type and
/// of group chat the sender is told.
#[test]
fn a_message_to_a_session_that_is_gone() {
    let play = Play::new();
    let (anna, desk) = (play.online("anna/desk"), play.online("bob/desk"));
    chat(&anna, "bob@school.example/gone", "hi");
    hears(&desk, "hi");
    anna.send("<message to='bob@school.example/gone' type='headline'><body>x</body></message>");
    anna.send("<message to='bob@school.example/gone' type='error'><body>x</body></message>");
    for type_ in ["groupchat", "normal"] {
        anna.send(&format!(
            "<message to='bob@school.example/gone' type='{type_}' id='g'><body>x</body></message>"
        ));
        anna.expects(
            "<message from='bob@school.example/gone' type='error' id='g'>\
             <error type='cancel'><service-unavailable/></error></message>",
        );
    }
    desk.hears_nothing();
}

/// RFC 6121 §8.5.2.1.1: headlines go to all sessions that take messages; group chat and errors to none.
#[test]
fn other_types_to_a_bare_address() {
    let play = Play::new();
    let (anna, desk, phone, shy) =
        (play.online("anna/desk"), play.online("bob/desk"), play.online("bob/phone"), play.online("bob/shy"));
    desk.send("<presence><priority>5</priority></presence>");
    shy.send("<presence><priority>-1</priority></presence>");
    for client in [&desk, &phone, &shy] {
        client.forget();
    }
    anna.send("<message to='bob@school.example' type='headline'><body>news</body></message>");
    for client in [&desk, &phone] {
        client
            .expects("<message from='anna@school.example/desk' type='headline'><body>news</body></message>");
    }
    anna.send("<message to='bob@school.example' type='error'><error type='cancel'/></message>");
    anna.send("<message to='bob@school.example' type='groupchat' id='g'><body>x</body></message>");
    anna.expects(
        "<message from='bob@school.example' type='error' id='g'>\
         <error type='cancel'><service-unavailable/></error></message>",
    );
}

/// RFC 6121 §8.5.1, RFC 6120 §10: nobody has this address.
#[test]
fn a_message_to_nobody() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    for (to, condition) in [
        ("nobody@school.example", "item-not-found"),
        ("eve@far.example", "remote-server-not-found"),
        ("school.example", "service-unavailable"),
    ] {
        anna.send(&format!("<message to='{to}' type='chat' id='m'><body>x</body></message>"));
        anna.expects(&format!(
            "<message from='{to}' type='error' id='m'><error type='cancel'><{condition}/></error></message>"
        ));
    }
}

/// RFC 6121 §8.1: a message without address is for the own account.
#[test]
fn a_message_without_address_is_for_the_own_account() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    anna.send("<message type='chat' id='memo'><body>memo</body></message>");
    hears(&anna, "memo");
}

/// RFC 6121 §8.5.2.2.1, XEP-0160, XEP-0203: messages wait in order, with the time at which they came.
#[test]
fn messages_wait_for_the_next_login() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    play.account("bob");
    chat(&anna, "bob@school.example", "one");
    play.wait(60_000);
    chat(&anna, "bob@school.example/phone", "two");
    play.wait(3_600_000);
    anna.send("<message to='bob@school.example' id='three'><body>three</body></message>");
    let bob = play.login("bob/phone");
    bob.hears_nothing();
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    assert_eq!(BEGIN, 1_800_000_000_000);
    for (body, type_, stamp) in [
        ("one", "type='chat'", "2027-01-15T08:00:00.000Z"),
        ("two", "type='chat'", "2027-01-15T08:01:00.000Z"),
        ("three", "", "2027-01-15T09:01:00.000Z"),
    ] {
        bob.expects(&format!(
            "<message from='anna@school.example/desk' to='*' {type_} id='{body}'><body>{body}</body>\
             <delay xmlns='urn:xmpp:delay' from='school.example' stamp='{stamp}'/></message>"
        ));
    }
    bob.answers_ping();
    bob.leaves();
    let bob = play.login("bob/phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    anna.hears_nothing();
}

/// XEP-0160: what waits survives a restart, once its sender had no more reason to wait.
#[test]
fn waiting_messages_survive_a_restart() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    play.account("bob");
    chat(&anna, "bob@school.example", "one");
    play.restart();
    let bob = play.login("bob/phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    hears_late(&bob, "one");
    bob.answers_ping();
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 0);
    anna.forget();
}

/// XEP-0085 §5.6, XEP-0334 §4: what is only for now does not wait.
#[test]
fn nothing_for_now_only_is_stored() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    play.account("bob");
    let to = "to='bob@school.example' type='chat'";
    anna.send(&format!("<message {to}><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"));
    anna.send(&format!(
        "<message {to}><active xmlns='http://jabber.org/protocol/chatstates'/><thread>t</thread></message>"
    ));
    anna.send(&format!("<message {to}><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>"));
    anna.send(&format!("<message {to}><body>x</body><no-permanent-store xmlns='urn:xmpp:hints'/></message>"));
    anna.send("<message to='bob@school.example' type='headline'><body>x</body></message>");
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 0);
    anna.send(&format!(
        "<message {to} id='kept'><x xmlns='urn:example:x'/><store xmlns='urn:xmpp:hints'/></message>"
    ));
    anna.send(&format!("<message {to} id='receipt'><received xmlns='urn:xmpp:receipts' id='r'/></message>"));
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 2);
    anna.hears_nothing();
}

/// XEP-0160 §2: a full inbox is told to the sender; nobody sees a copy of what was refused.
#[test]
fn a_full_inbox_is_told() {
    let play = Play::with(|settings| settings.inbox_limit = 2);
    let anna = play.online("anna/desk");
    let shy = play.online("bob/shy");
    shy.send("<presence><priority>-1</priority></presence>");
    shy.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    shy.forget();
    for body in ["one", "two", "three"] {
        chat(&anna, "bob@school.example", body);
    }
    anna.expects(
        "<message from='bob@school.example' type='error' id='three'>\
         <error type='wait'><resource-constraint/></error></message>",
    );
    shy.forget();
}

/// XEP-0359 §3: ids that claim to be the node's are removed; others and origin ids stay.
#[test]
fn forged_stanza_ids_are_removed() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    anna.send(
        "<message to='bob@school.example' type='chat'><body>x</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='bob@school.example' id='forged'/>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='room@far.example' id='theirs'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='mine'/></message>",
    );
    let message = bob.expects(
        "<message from='anna@school.example/desk' type='chat'><body>x</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='room@far.example' id='theirs'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='mine'/>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='bob@school.example' id='*'/></message>",
    );
    assert!(!says(&message, "forged"));
}

/// XEP-0359 §3: each message has an id of its own, also across streams and stream management.
#[test]
fn ids_are_unique() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        chat(&anna, "bob@school.example", "x");
        ids.insert(id_of(&hears(&bob, "x")));
    }
    let phone = play.login("anna/phone");
    for body in ["a", "b"] {
        chat(&phone, "bob@school.example", body);
    }
    phone.enables_management();
    for body in ["c", "d"] {
        chat(&phone, "bob@school.example", body);
    }
    for message in bob.takes_all() {
        if message.is("message", ns::CLIENT) {
            ids.insert(id_of(&message));
        }
    }
    assert_eq!(ids.len(), 7);
}

/// RFC 6120 §10.1: messages of one client arrive in its order, whoever else sends.
#[test]
fn order_is_kept() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    anna.send(
        "<message to='bob@school.example' type='chat' id='1'><body>1</body></message>\
         <message to='bob@school.example/desk' type='chat' id='2'><body>2</body></message>\
         <message to='bob@school.example' type='chat' id='3'><body>3</body></message>",
    );
    for body in ["1", "2", "3"] {
        hears(&bob, body);
    }
}

/// RFC 6121 §8.5.2.1.1: several sessions have one message: one that proves it is enough, and a break of one brings
/// it to nobody twice.
#[test]
fn several_sessions_have_one_message() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.enables_management();
    let (one, two) = (play.online("bob/one"), play.online("bob/two"));
    one.forget();
    chat(&anna, "bob@school.example", "x");
    for client in [&one, &two] {
        hears(client, "x");
    }
    two.answers_ping();
    one.expects_ping();
    one.breaks();
    two.expects("<presence from='bob@school.example/one' type='unavailable'/>");
    two.hears_nothing();
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 0);
}

/// DESIGN §5: a session that is lost leaves what the others have to them, and to the next login if nobody proves it.
#[test]
fn a_message_waits_until_any_session_proves_it() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.enables_management();
    let (one, two) = (play.online("bob/one"), play.online("bob/two"));
    one.forget();
    chat(&anna, "bob@school.example", "x");
    for client in [&one, &two] {
        hears(client, "x");
        client.expects_ping();
    }
    one.breaks();
    two.forget();
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 1);
    two.breaks();
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 1);
    let bob = play.login("bob/one");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/one'/>");
    hears_late(&bob, "x");
    bob.answers_ping();
}

/// RFC 6121 §8.5.2: a message between two sessions of one account is no exception when its session is lost.
#[test]
fn a_message_between_own_sessions_is_not_lost() {
    let play = Play::new();
    let (desk, phone) = (play.online("anna/desk"), play.online("anna/phone"));
    desk.forget();
    phone.enables_management();
    chat(&desk, "anna@school.example/phone", "memo");
    phone.forget();
    phone.leaves();
    desk.expects("<presence from='anna@school.example/phone' type='unavailable'/>");
    desk.expects(
        "<message from='anna@school.example/desk' to='*' type='chat' id='memo'><body>memo</body></message>",
    );
}

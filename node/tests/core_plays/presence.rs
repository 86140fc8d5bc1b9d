//! RFC 6121 §4: who is told that somebody is here.

use crate::core_support::{Client, Play};

/// Anna and Bob, friends and online; Eve knows nobody.
fn friends() -> (Play, Client, Client, Client) {
    let play = Play::new();
    let (anna, bob, eve) = (play.online("anna/desk"), play.online("bob/phone"), play.online("eve/cellar"));
    play.befriend(&anna, &bob);
    (play, anna, bob, eve)
}

/// RFC 6121 §4.2: initial presence is echoed, shown to those who may see it, and shows those who are here.
#[test]
fn initial_presence() {
    let (play, anna, bob, eve) = friends();
    let phone = play.login("anna/phone");
    phone.send("<presence><status>hello</status><priority>5</priority></presence>");
    let hello =
        "<presence from='anna@school.example/phone'><status>hello</status><priority>5</priority></presence>";
    phone.expects_all(&[
        hello,
        "<presence from='anna@school.example/desk'/>",
        "<presence from='bob@school.example/phone'/>",
    ]);
    anna.expects(hello);
    bob.expects(hello);
    eve.hears_nothing();
}

/// RFC 6121 §4.4: a change goes to the same people; payload that is not understood goes with it.
#[test]
fn changed_presence() {
    let (_play, anna, bob, eve) = friends();
    anna.send("<presence id='p7'><show>dnd</show><x xmlns='urn:example:extra'>y</x></presence>");
    let change = "<presence id='p7' from='anna@school.example/desk'><show>dnd</show>\
                  <x xmlns='urn:example:extra'>y</x></presence>";
    anna.expects(change);
    bob.expects(change);
    eve.hears_nothing();
}

/// RFC 6121 §4.5.2: leaving with a status; the leaver is told too, and no more afterwards.
#[test]
fn unavailable_with_a_status() {
    let (_play, anna, bob, eve) = friends();
    anna.send("<presence type='unavailable'><status>gone fishing</status></presence>");
    let gone = "<presence from='anna@school.example/desk' type='unavailable'><status>gone fishing</status></presence>";
    anna.expects(gone);
    bob.expects(gone);
    bob.send("<presence><show>xa</show></presence>");
    bob.forget();
    anna.hears_nothing();
    anna.send("<presence type='unavailable'/>");
    bob.hears_nothing();
    eve.hears_nothing();
}

/// RFC 6121 §4.5.2: a stream that ends takes its presence back, once.
#[test]
fn the_end_of_a_stream_is_unavailable() {
    for broken in [false, true] {
        let (play, anna, bob, _eve) = friends();
        let phone = play.online("anna/phone");
        anna.forget();
        bob.forget();
        if broken {
            phone.breaks()
        } else {
            phone.leaves()
        }
        let gone = "<presence from='anna@school.example/phone' type='unavailable'/>";
        anna.expects(gone);
        bob.expects(gone);
    }
}

/// RFC 6121 §4.2.2: a session that is not available sees and shows nothing.
#[test]
fn a_session_without_presence_is_told_nothing() {
    let (play, anna, bob, _eve) = friends();
    let phone = play.login("anna/phone");
    phone.fetch_contacts();
    bob.send("<presence><show>away</show></presence>");
    bob.forget();
    anna.forget();
    phone.hears_nothing();
    phone.leaves();
    bob.hears_nothing();
}

/// RFC 6121 §4.6: directed presence to somebody without subscription, and its end when the sender leaves.
#[test]
fn directed_presence() {
    let (_play, anna, bob, eve) = friends();
    anna.send("<presence to='eve@school.example'><status>psst</status></presence>");
    eve.expects("<presence from='anna@school.example/desk'><status>psst</status></presence>");
    anna.send("<presence><show>away</show></presence>");
    anna.forget();
    bob.forget();
    eve.hears_nothing();
    anna.breaks();
    eve.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
    bob.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
}

/// RFC 6121 §4.6.3: directed presence is taken back by directed `unavailable`, and then not again.
#[test]
fn directed_presence_is_taken_back() {
    let (_play, anna, bob, eve) = friends();
    anna.send("<presence to='eve@school.example/cellar'/>");
    eve.expects("<presence to='eve@school.example/cellar' from='anna@school.example/desk'/>");
    anna.send("<presence to='eve@school.example/cellar' type='unavailable'/>");
    eve.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
    anna.leaves();
    eve.hears_nothing();
    bob.forget();
}

/// RFC 6121 §4.6.3: a session that showed itself to one person only is taken back there.
#[test]
fn directed_presence_without_general_presence() {
    let (play, anna, _bob, eve) = friends();
    let phone = play.login("anna/phone");
    for leaves in [false, true] {
        phone.send("<presence to='eve@school.example'/>");
        eve.expects("<presence from='anna@school.example/phone'/>");
        if leaves {
            phone.leaves()
        } else {
            phone.send("<presence type='unavailable'/>")
        }
        eve.expects("<presence from='anna@school.example/phone' type='unavailable'/>");
    }
    phone.forget();
    anna.hears_nothing();
}

/// RFC 6121 §4.6.3: who sees the broadcast is not told twice.
#[test]
fn directed_presence_to_a_contact_ends_once() {
    let (_play, anna, bob, _eve) = friends();
    anna.send("<presence to='bob@school.example/phone'><show>chat</show></presence>");
    bob.expects("<presence from='anna@school.example/desk'><show>chat</show></presence>");
    anna.leaves();
    bob.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
}

/// RFC 6121 §4.3: probes are the nodes' business, not the clients'.
#[test]
fn probes_of_clients_are_ignored() {
    let (_play, anna, bob, eve) = friends();
    eve.send("<presence to='bob@school.example' type='probe'/>");
    anna.send("<presence to='bob@school.example/phone' type='probe'/>");
    for client in [&anna, &bob, &eve] {
        client.hears_nothing();
    }
}

/// RFC 6121 §4.7.1: a type that does not exist.
#[test]
fn an_unknown_type_is_refused() {
    let (_play, anna, bob, _eve) = friends();
    anna.send("<presence type='invisible' id='i'/>");
    anna.expects("<presence type='error' id='i'><error type='modify'><bad-request/></error></presence>");
    bob.hears_nothing();
}

/// RFC 6121 §4.7.2.3: a negative priority takes no messages; they wait until it rises.
#[test]
fn a_negative_priority_takes_no_messages() {
    let (_play, anna, bob, _eve) = friends();
    bob.send("<presence><priority>-1</priority></presence>");
    bob.forget();
    anna.forget();
    anna.send("<message to='bob@school.example' type='chat'><body>later</body></message>");
    bob.hears_nothing();
    anna.send("<message to='bob@school.example/phone' type='chat'><body>now</body></message>");
    bob.expects("<message to='bob@school.example/phone' from='anna@school.example/desk' type='chat'><body>now</body></message>");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    bob.expects(
        "<message from='anna@school.example/desk' type='chat'><body>later</body>\
         <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>",
    );
    bob.answers_ping();
    anna.forget();
}

/// RFC 6121 §8.5.3.1: the same for a sender that is promised delivery: what waits stays where it is.
#[test]
fn a_promised_message_to_a_negative_priority() {
    let (_play, anna, bob, _eve) = friends();
    anna.enables_management();
    bob.send("<presence><priority>-1</priority></presence>");
    bob.forget();
    anna.forget();
    anna.send("<message to='bob@school.example' type='chat'><body>later</body></message>");
    anna.send("<message to='bob@school.example/phone' type='chat'><body>now</body></message>");
    bob.expects("<message to='bob@school.example/phone' from='anna@school.example/desk' type='chat'><body>now</body></message>");
    bob.answers_ping();
    bob.hears_nothing();
    anna.forget();
}

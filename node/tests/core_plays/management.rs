//! XEP-0198: stream management.

use crosstalk_storage::Tree;

use crate::core_support::{Client, Play};

pub(crate) const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// Anna and Bob with stream management, both online, everything acknowledged; and the ids of their streams.
pub(crate) fn managed() -> (Play, Client, Client, String, String) {
    let play = Play::new();
    let (anna, anna_stream) = manage(&play, "anna/desk");
    let (bob, bob_stream) = manage(&play, "bob/phone");
    (play, anna, bob, anna_stream, bob_stream)
}

pub(crate) fn manage(play: &Play, who: &str) -> (Client, String) {
    let client = play.login(who);
    let stream = client.enables_management();
    client.send("<presence/>");
    client.expects(&format!("<presence from='{}'/>", client.jid.borrow()));
    client.expects(R);
    client.acknowledges(1);
    (client, stream)
}

pub(crate) fn chat(client: &Client, body: &str) {
    client.send(&format!("<message to='bob@school.example' type='chat'><body>{body}</body></message>"));
}

pub(crate) fn hears(client: &Client, body: &str) -> String {
    let message = client.expects(&format!(
        "<message from='anna@school.example/desk' type='chat'><body>{body}</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='bob@school.example' id='*'/></message>"
    ));
    message.children().last().unwrap().get_attr("id").unwrap().to_owned()
}

pub(crate) fn resume(client: &Client, stream: &str, handled: u32) {
    client.reconnects();
    client.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{stream}' h='{handled}'/>"));
}

pub(crate) fn is_resumed(client: &Client, stream: &str, handled: u32) {
    client.expects(&format!("<resumed xmlns='urn:xmpp:sm:3' previd='{stream}' h='{handled}'/>"));
}

pub(crate) fn failed(client: &Client, condition: &str) {
    client.expects(&format!(
        "<failed xmlns='urn:xmpp:sm:3'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    ));
}

/// XEP-0198 §4: counting begins with `<enable/>`; an answer says how many stanzas were handled.
#[test]
fn requests_are_answered_with_the_count() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.forget();
    anna.enables_management();
    anna.send(R);
    anna.expects("<a xmlns='urn:xmpp:sm:3' h='0'/>");
    anna.send("<iq type='get' id='2'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='result' id='2'/>");
    anna.expects(R);
    anna.send(R);
    anna.expects("<a xmlns='urn:xmpp:sm:3' h='1'/>");
}

/// XEP-0198 §3: enabling twice, before binding, or asking without having enabled.
#[test]
fn wrong_uses_fail() {
    let play = Play::new();
    let anna = play.connect("anna");
    anna.send("<enable xmlns='urn:xmpp:sm:3'/>");
    failed(&anna, "unexpected-request");
    anna.bind("desk");
    anna.send(R);
    failed(&anna, "unexpected-request");
    anna.send("<enable xmlns='urn:xmpp:sm:3'/>");
    anna.expects("<enabled xmlns='urn:xmpp:sm:3'/>");
    anna.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    failed(&anna, "unexpected-request");
}

/// XEP-0198 §5: a stream that was enabled without resumption ends with its connection.
#[test]
fn a_stream_that_is_not_resumable_ends_with_its_connection() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<enable xmlns='urn:xmpp:sm:3'/>");
    anna.expects("<enabled xmlns='urn:xmpp:sm:3'/>");
    let (bob, _) = manage(&play, "bob/phone");
    chat(&bob, "x");
    bob.forget();
    anna.breaks();
    assert_eq!(play.stored(Tree::Session), 1, "Bob's only");
}

/// XEP-0198 §4: a malformed answer, and one that claims more than was sent.
#[test]
fn answers_beyond_what_was_sent_end_the_stream() {
    let (_play, anna, bob, _, _) = managed();
    anna.send("<a xmlns='urn:xmpp:sm:3'/>");
    anna.is_closed_with("bad-format");
    bob.acknowledges(7);
    bob.is_closed_with("undefined-condition");
}

/// XEP-0198 §4: the node counts error answers to malformed stanzas too.
#[test]
fn every_stanza_to_the_client_is_counted() {
    let (_play, anna, _bob, _, _) = managed();
    anna.send("<iq type='get'/>");
    anna.expects("<iq type='error'><error type='modify'><bad-request/></error></iq>");
    anna.expects(R);
    anna.acknowledges(2);
    anna.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='result' id='p'/>");
    anna.expects(R);
}

/// DESIGN §8: an acknowledgement promises that what it counts is durable; delivery to the other waits for it too.
#[test]
fn an_acknowledgement_waits_for_the_commit() {
    let (play, anna, bob, _, _) = managed();
    play.hold_commits();
    chat(&anna, "hi");
    anna.send(R);
    anna.hears_nothing();
    bob.hears_nothing();
    play.commit();
    anna.expects("<a xmlns='urn:xmpp:sm:3' h='2'/>");
    hears(&bob, "hi");
    bob.expects(R);
    assert_eq!(play.stored(Tree::Inbox), 1);
    bob.acknowledges(2);
    play.commit();
    assert_eq!(play.stored(Tree::Inbox), 0);
}

/// XEP-0198 §6: messages of a stream that is given up go to another session at once.
#[test]
fn another_session_gets_what_was_not_acknowledged() {
    let (play, anna, bob, _, _) = managed();
    chat(&anna, "one");
    bob.forget();
    let tablet = play.online("bob/tablet");
    bob.forget();
    bob.leaves();
    tablet.expects("<presence from='bob@school.example/phone' type='unavailable'/>");
    tablet.expects(
        "<message from='anna@school.example/desk' type='chat'><body>one</body>\
         <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>",
    );
    tablet.answers_ping();
    anna.forget();
}

/// A client that has miscounted is not asked for ever.
#[test]
fn an_acknowledgement_that_covers_nothing_is_not_answered_by_a_request() {
    let (_play, anna, bob, _, _) = managed();
    chat(&anna, "hello");
    hears(&bob, "hello");
    bob.expects(R);
    bob.acknowledges(1);
    bob.hears_nothing();
    chat(&anna, "again");
    hears(&bob, "again");
    bob.expects(R);
    bob.acknowledges(3);
    bob.hears_nothing();
    anna.forget();
}

/// DESIGN §8: a client that never acknowledges is given up; its messages wait.
#[test]
fn too_much_unacknowledged_ends_the_session() {
    let play = Play::with(|settings| settings.unacked_limit = 3);
    let (anna, _) = manage(&play, "anna/desk");
    let (bob, _) = manage(&play, "bob/phone");
    for body in ["1", "2", "3", "4"] {
        chat(&anna, body);
    }
    bob.is_closed_with("policy-violation");
    assert_eq!(play.stored(Tree::Inbox), 4);
    bob.forget();
    anna.forget();
}

/// So is one that leaves too many bytes; what it acknowledges makes room.
#[test]
fn too_many_bytes_unacknowledged_end_the_session() {
    let play = Play::with(|settings| settings.unacked_bytes = 10_000);
    let (anna, stream) = manage(&play, "anna/desk");
    let ask =
        || anna.send(&format!("<iq type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>", "i".repeat(900)));
    for handled in 0..20 {
        ask();
        anna.acknowledges(2 + handled);
    }
    (0..9).for_each(|_| ask());
    anna.breaks();
    resume(&anna, &stream, 22);
    (0..3).for_each(|_| ask());
    assert!(anna.forget() > 2);
    anna.is_closed_with("policy-violation");
}

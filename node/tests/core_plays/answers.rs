//! XEP-0198 §5 and RFC 6120 §8.2.3: what a client is owed when the node dies after it acknowledged a request.

use crate::core_support::{Client, Play};
use crate::management::{R, chat, hears, is_resumed, manage, managed, resume};

fn asks(client: &Client, id: &str, to: &str, payload: &str) {
    client.send(&format!("<iq type='get' id='{id}' {to}>{payload}</iq>{R}"));
}

const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";
const VERSION: &str = "<query xmlns='jabber:iq:version'/>";
const CARD: &str = "<vCard xmlns='vcard-temp'/>";

/// An answer that was not acknowledged comes again, and once it was, no more.
#[test]
fn an_answer_survives_a_restart() {
    let (play, anna, _bob, stream, _) = managed();
    asks(&anna, "p", "", PING);
    anna.expects("<iq type='result' id='p'/>");
    anna.expects("<a xmlns='urn:xmpp:sm:3' h='2'/>");
    anna.forget();
    play.restart();
    resume(&anna, &stream, 1);
    is_resumed(&anna, &stream, 2);
    anna.expects("<iq type='result' id='p'/>");
    anna.expects(R);
    play.restart();
    resume(&anna, &stream, 2);
    is_resumed(&anna, &stream, 2);
}

/// Answers that are too large to be kept are errors after a restart: the client asks again.
#[test]
fn large_answers_are_errors_after_a_restart() {
    let play = Play::new();
    let (anna, stream) = manage(&play, "anna/desk");
    let picture = "x".repeat(40_000);
    anna.send(&format!("<iq type='set' id='s'><vCard xmlns='vcard-temp'><FN>{picture}</FN></vCard></iq>"));
    anna.forget();
    anna.acknowledges(2);
    asks(&anna, "1", "", CARD);
    asks(&anna, "2", "", CARD);
    anna.forget();
    play.restart();
    resume(&anna, &stream, 2);
    is_resumed(&anna, &stream, 4);
    anna.expects("<iq type='result' id='1'><vCard xmlns='vcard-temp'>…</vCard></iq>");
    anna.expects("<iq type='error' id='2'><error type='wait'><resource-constraint/></error></iq>");
    anna.expects(R);
}

/// RFC 6121 §3.1.3: what somebody said about a subscription comes again.
#[test]
fn subscription_stanzas_survive_a_restart() {
    let (play, anna, bob, _, stream) = managed();
    anna.send("<presence to='bob@school.example' type='subscribe'/>");
    bob.expects("<presence from='anna@school.example' type='subscribe'/>");
    bob.expects(R);
    play.restart();
    resume(&bob, &stream, 1);
    is_resumed(&bob, &stream, 1);
    bob.expects("<presence from='anna@school.example' type='subscribe'/>");
    bob.expects(R);
    anna.forget();
}

/// XEP-0191 §3.3: so does a change of the block list.
#[test]
fn changes_of_the_block_list_survive_a_restart() {
    let play = Play::new();
    let (bob, stream) = manage(&play, "bob/phone");
    bob.send("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    bob.forget();
    let other = play.login("bob/other");
    other.send(
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='b@far.example'/></block></iq>",
    );
    other.forget();
    bob.forget();
    play.restart();
    resume(&bob, &stream, 2);
    is_resumed(&bob, &stream, 2);
    bob.expects(
        "<iq type='set' id='*'><block xmlns='urn:xmpp:blocking'><item jid='b@far.example'/></block></iq>",
    );
    bob.expects(R);
}

/// A request that had not been answered when the node died is answered by the node; what comes later is dropped.
#[test]
fn a_request_under_way_is_an_error_after_a_restart() {
    let (play, anna, bob, stream, bob_stream) = managed();
    asks(&anna, "v", "to='bob@school.example/phone'", VERSION);
    bob.forget();
    anna.forget();
    play.restart();
    resume(&anna, &stream, 1);
    is_resumed(&anna, &stream, 2);
    anna.expects(
        "<iq from='bob@school.example/phone' type='error' id='v'><error type='wait'><recipient-unavailable/></error></iq>",
    );
    anna.expects(R);
    resume(&bob, &bob_stream, 2);
    bob.forget();
    bob.send(&format!("<iq type='result' id='v' to='anna@school.example/desk'>{VERSION}</iq>"));
    anna.hears_nothing();
    bob.forget();
}

/// An answer of somebody else leaves only when it is durable that the request is answered: it comes once.
#[test]
fn an_answer_of_somebody_else_waits_for_the_commit() {
    let (play, anna, bob, stream, _) = managed();
    asks(&anna, "v", "to='bob@school.example/phone'", VERSION);
    bob.forget();
    anna.forget();
    play.hold_commits();
    bob.send(&format!("<iq type='result' id='v' to='anna@school.example/desk'>{VERSION}</iq>"));
    anna.hears_nothing();
    play.commit();
    anna.expects(&format!("<iq from='bob@school.example/phone' type='result' id='v'>{VERSION}</iq>"));
    anna.forget();
    play.restart();
    resume(&anna, &stream, 1);
    play.commit();
    is_resumed(&anna, &stream, 2);
    anna.expects(&format!("<iq from='bob@school.example/phone' type='result' id='v'>{VERSION}</iq>"));
    anna.expects(R);
    bob.forget();
}

/// XEP-0198 §5: what comes again after a restart comes in the order of before, held messages between answers.
#[test]
fn the_order_is_that_of_before() {
    let (play, anna, bob, _, stream) = managed();
    asks(&bob, "1", "", PING);
    chat(&anna, "one");
    asks(&bob, "2", "", PING);
    bob.forget();
    anna.forget();
    play.restart();
    resume(&bob, &stream, 1);
    is_resumed(&bob, &stream, 3);
    bob.expects("<iq type='result' id='1'/>");
    hears(&bob, "one");
    bob.expects("<iq type='result' id='2'/>");
    bob.expects(R);
}

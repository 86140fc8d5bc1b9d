//! DESIGN §5: what proves that a client has a message: with XEP-0198 its answers, without it the answer to a ping.

use crosstalk_storage::Tree;

use crate::core_support::Play;
use crate::management::{chat, hears, manage};

/// DESIGN §5: without stream management the answer to a ping proves what came before it.
#[test]
fn a_ping_proves_what_came() {
    let play = Play::new();
    let (anna, _) = manage(&play, "anna/desk");
    let bob = play.online("bob/phone");
    chat(&anna, "one");
    hears(&bob, "one");
    let ping = bob.expects_ping();
    chat(&anna, "two");
    hears(&bob, "two");
    assert_eq!(play.stored(Tree::Inbox), 2);
    bob.send(&format!("<iq type='result' to='school.example' id='{ping}'/>"));
    assert_eq!(play.stored(Tree::Inbox), 1);
    bob.answers_ping();
    assert_eq!(play.stored(Tree::Inbox), 0);
    anna.forget();
}

/// DESIGN §5: a break before that: the message comes again at the next login, with the same id.
#[test]
fn a_break_before_the_proof_brings_the_message_again() {
    let play = Play::new();
    let (anna, _) = manage(&play, "anna/desk");
    let bob = play.online("bob/phone");
    chat(&anna, "one");
    let id = hears(&bob, "one");
    bob.expects_ping();
    bob.breaks();
    let bob = play.login("bob/phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    bob.expects(&format!(
        "<message from='anna@school.example/desk' type='chat'><body>one</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='bob@school.example' id='{id}'/>\
         <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>"
    ));
    bob.answers_ping();
    anna.forget();
}

/// DESIGN §5: a ping that nobody answers ends the session; the message waits.
#[test]
fn an_unanswered_ping_ends_the_session() {
    let play = Play::new();
    let (anna, _) = manage(&play, "anna/desk");
    let bob = play.online("bob/phone");
    chat(&anna, "one");
    hears(&bob, "one");
    bob.expects_ping();
    play.wait(59_000);
    bob.hears_nothing();
    play.wait(2_000);
    bob.is_closed_with("connection-timeout");
    assert_eq!(play.stored(Tree::Inbox), 1);
    anna.forget();
}

/// DESIGN §5: between two sessions that are there and know no XEP-0198 a message touches no disk.
#[test]
fn a_message_between_plain_sessions_touches_no_disk() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.hold_commits();
    chat(&anna, "hi");
    hears(&bob, "hi");
    bob.hears_nothing();
    assert_eq!(play.stored(Tree::Inbox), 0);
}

/// DESIGN §8: more waits than a session may leave unacknowledged: it comes in parts, in order, and all of it.
#[test]
fn a_full_inbox_comes_in_parts() {
    for managed in [true, false] {
        let play = Play::new();
        let anna = play.online("anna/desk");
        play.account("bob");
        for number in 0..250 {
            chat(&anna, &number.to_string());
        }
        let bob = play.login("bob/phone");
        if managed {
            bob.enables_management();
        }
        bob.send("<presence/>");
        bob.expects("<presence from='bob@school.example/phone'/>");
        let (mut bodies, mut handled) = (Vec::new(), 1);
        chat(&anna, "250");
        loop {
            let part = bob.takes_all();
            let messages = part.iter().filter(|element| element.name() == "message");
            let before = bodies.len();
            bodies.extend(messages.map(|message| message.children().next().unwrap().own_text().to_string()));
            if bodies.len() == before {
                break;
            }
            assert!(bodies.len() - before <= 100, "a part is bounded");
            handled += u32::try_from(bodies.len() - before).unwrap();
            match part.iter().find(|element| element.name() == "iq") {
                Some(ping) => {
                    let id = ping.get_attr("id").unwrap();
                    bob.send(&format!("<iq type='result' to='school.example' id='{id}'/>"));
                }
                None => bob.acknowledges(handled),
            }
        }
        let all: Vec<_> = (0..=250).map(|number| number.to_string()).collect();
        assert_eq!(bodies, all);
        assert_eq!(play.stored(Tree::Inbox), 0);
    }
}

//! DESIGN §5: held messages on their way: no more than a window of them, and one that several sessions have, once.

use crosstalk_storage::Tree;

use crate::core_support::{Client, Play};
use crate::management::{chat, hears, manage};

/// Anna sends so many messages of so many bytes to Bob, who is away; then Bob comes, with stream management.
fn backlog(count: usize, bytes: usize) -> (Play, Client) {
    let play = Play::new();
    play.account("bob");
    let anna = play.login("anna/desk");
    for _ in 0..count {
        chat(&anna, &"x".repeat(bytes));
    }
    let bob = play.login("bob/phone");
    bob.enables_management();
    bob.send("<presence/>");
    (play, bob)
}

fn messages(client: &Client) -> usize {
    client.takes_all().iter().filter(|element| element.name() == "message").count()
}

/// A hundred, and the rest as they are acknowledged.
#[test]
fn a_window_of_a_hundred_messages() {
    let (play, bob) = backlog(250, 3);
    assert_eq!(messages(&bob), 100);
    bob.acknowledges(1 + 40);
    assert_eq!(messages(&bob), 40);
    bob.acknowledges(1 + 140);
    assert_eq!(messages(&bob), 100);
    bob.acknowledges(1 + 240);
    assert_eq!(messages(&bob), 10);
    bob.acknowledges(1 + 250);
    assert_eq!((messages(&bob), play.stored(Tree::Inbox)), (0, 0));
}

/// 256 KiB, and one more message at most.
#[test]
fn a_window_of_bytes() {
    let (play, bob) = backlog(12, 60 << 10);
    assert_eq!(messages(&bob), 5);
    bob.acknowledges(1 + 5);
    assert_eq!(messages(&bob), 5);
    bob.acknowledges(1 + 10);
    assert_eq!(messages(&bob), 2);
    assert_eq!(play.stored(Tree::Inbox), 2);
}

/// Each message counts what it takes beside its text, so that many short ones for many accounts are bounded too.
#[test]
fn short_messages_of_all_accounts_are_bounded() {
    let play = Play::with(|settings| settings.held_bytes = 8 << 10);
    let anna = play.login("anna/desk");
    for number in 0..20 {
        play.account(&format!("user{number}"));
        anna.send(&format!("<message to='user{number}@school.example' type='chat'><body>x</body></message>"));
    }
    let held = play.stored(Tree::Inbox);
    assert!((10..16).contains(&held), "{held}");
    assert_eq!(anna.forget(), 20 - held);
}

/// The same towards a client without stream management, whose answers to pings take the place of acknowledgements.
#[test]
fn a_window_without_stream_management() {
    let play = Play::new();
    play.account("bob");
    let anna = play.login("anna/desk");
    for _ in 0..130 {
        chat(&anna, "x");
    }
    let bob = play.login("bob/phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    let seen: Vec<_> = (0..100).map(|_| bob.expects("<message from='*' type='chat'>…</message>")).collect();
    assert_eq!(seen.len(), 100);
    bob.answers_ping();
    assert_eq!(play.stored(Tree::Inbox), 30);
    assert_eq!(messages(&bob), 30);
}

/// Two sessions of Bob with XEP-0198, of one priority, who have acknowledged all so far.
fn both_of_bob(play: &Play) -> [Client; 2] {
    let both = ["bob/phone", "bob/tablet"].map(|who| play.login(who));
    for client in &both {
        client.enables_management();
        client.send("<presence/>");
    }
    for client in &both {
        client.forget();
        client.acknowledges(2);
    }
    both
}

/// A message to sessions of one priority is held once: the word of one is enough, and the end of another returns nothing.
#[test]
fn a_message_of_several_sessions_is_held_once() {
    let play = Play::new();
    let (anna, _) = manage(&play, "anna/desk");
    let [phone, tablet] = both_of_bob(&play);
    chat(&anna, "one");
    for client in [&phone, &tablet] {
        hears(client, "one");
        client.forget();
    }
    assert_eq!(play.stored(Tree::Inbox), 1);
    phone.leaves();
    tablet.expects("<presence from='bob@school.example/phone' type='unavailable'/>");
    tablet.hears_nothing();
    assert_eq!(play.stored(Tree::Inbox), 1, "the tablet has it still");
    tablet.acknowledges(3);
    assert_eq!(play.stored(Tree::Inbox), 0);
    tablet.forget();
    anna.forget();
}

/// Nor does it matter whose word it is.
#[test]
fn the_word_of_the_other_session_is_enough() {
    let play = Play::new();
    let (anna, _) = manage(&play, "anna/desk");
    let [phone, tablet] = both_of_bob(&play);
    chat(&anna, "one");
    tablet.acknowledges(3);
    assert_eq!(play.stored(Tree::Inbox), 0);
    phone.leaves();
    tablet.forget();
    phone.forget();
    tablet.hears_nothing();
    anna.forget();
}

/// XEP-0280 §6.1: what waits behind a backlog is for one session: no copies of it now.
#[test]
fn no_copies_of_what_waits_behind_a_backlog() {
    let (play, bob) = backlog(150, 3);
    let tablet = play.login("bob/tablet");
    tablet.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    tablet.expects("<iq type='result' id='c'/>");
    bob.forget();
    chat(&play.login("anna/desk"), "late");
    tablet.hears_nothing();
    bob.hears_nothing();
}

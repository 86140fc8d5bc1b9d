//! XEP-0198 §5: what a client has that resumes its stream: in the same process, after a restart, or too late.

use crosstalk_storage::Tree;

use crate::core_support::{Client, Play};
use crate::management::{R, chat, failed, hears, is_resumed, manage, managed, resume};

/// XEP-0198 §5: resumption in the same process; what was not acknowledged comes again, once, with the same id.
#[test]
fn a_lost_stream_is_resumed() {
    let (play, anna, bob, _, stream) = managed();
    chat(&anna, "one");
    chat(&anna, "two");
    let one = hears(&bob, "one");
    bob.expects(R);
    let two = hears(&bob, "two");
    bob.breaks();
    chat(&anna, "three");
    resume(&bob, &stream, 2);
    is_resumed(&bob, &stream, 1);
    assert_eq!(hears(&bob, "two"), two);
    assert!(hears(&bob, "three") != two && one != two);
    bob.expects(R);
    bob.acknowledges(4);
    assert_eq!(play.stored(Tree::Inbox), 0);
    bob.send("<presence><show>away</show></presence>");
    bob.expects("<presence from='bob@school.example/phone'><show>away</show></presence>");
    bob.expects(R);
}

/// XEP-0198 §5: what the client resends because it had no acknowledgement is the same message, and what the node
/// counted before the break is not asked for again.
#[test]
fn the_client_resends_what_the_node_did_not_count() {
    let (_play, anna, bob, stream, _) = managed();
    chat(&anna, "one");
    let one = hears(&bob, "one");
    bob.forget();
    anna.breaks();
    resume(&anna, &stream, 1);
    is_resumed(&anna, &stream, 2);
    chat(&anna, "two");
    assert!(hears(&bob, "two") != one);
    bob.forget();
}

/// XEP-0198 §5, DESIGN §5: resumption after a restart: exactly once towards the client.
#[test]
fn a_stream_is_resumed_after_a_restart() {
    let (play, anna, bob, _, stream) = managed();
    chat(&anna, "one");
    chat(&anna, "two");
    hears(&bob, "one");
    bob.forget();
    play.restart();
    resume(&bob, &stream, 2);
    is_resumed(&bob, &stream, 1);
    hears(&bob, "two");
    bob.expects_all(&[R]);
    bob.acknowledges(3);
    assert_eq!(play.stored(Tree::Inbox), 0);
    anna.forget();
}

/// DESIGN §5: the sender resends after a restart what was not committed; what was committed keeps its id and count.
#[test]
fn the_sender_resends_after_a_restart_exactly_what_was_lost() {
    let (play, anna, bob, anna_stream, bob_stream) = managed();
    chat(&anna, "one");
    let one = hears(&bob, "one");
    play.hold_commits();
    chat(&anna, "two");
    bob.forget();
    play.restart();
    play.commit();
    resume(&anna, &anna_stream, 1);
    play.commit();
    is_resumed(&anna, &anna_stream, 2);
    chat(&anna, "two");
    play.commit();
    resume(&bob, &bob_stream, 2);
    play.commit();
    is_resumed(&bob, &bob_stream, 1);
    assert!(hears(&bob, "two") != one);
    bob.forget();
    anna.forget();
}

/// DESIGN §5: the id of a message does not change when it is sent again after a restart.
#[test]
fn a_message_sent_again_has_the_same_id() {
    let (play, anna, bob, stream, _) = managed();
    play.hold_commits();
    chat(&anna, "one");
    bob.hears_nothing();
    // Another node would have got it before; here we look at what the next life of the node gives it.
    let ids: Vec<String> = (0..2)
        .map(|_| {
            play.restart();
            play.commit();
            resume(&anna, &stream, 1);
            play.commit();
            is_resumed(&anna, &stream, 1);
            let bob = play.online("bob/other");
            play.commit();
            bob.forget();
            chat(&anna, "one");
            let id = loop_until_message(&play, &bob);
            anna.forget();
            id
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    bob.forget();
}

/// What a client is sent once it is durable in the eyes of the core; the restart then loses it.
fn loop_until_message(play: &Play, bob: &Client) -> String {
    let before = play.snapshot();
    play.commit();
    let id = hears(bob, "one");
    bob.forget();
    play.turn_back(before);
    id
}

/// XEP-0198 §5: an unknown stream cannot be resumed; binding goes on.
#[test]
fn an_unknown_stream_is_not_resumed() {
    let (play, anna, bob, anna_stream, _) = managed();
    bob.breaks();
    for previd in ["", "0123", &anna_stream] {
        resume(&bob, previd, 1);
        failed(&bob, "item-not-found");
    }
    bob.bind("phone");
    drop(play);
    anna.forget();
}

/// XEP-0198 §5: a client that has handled more than it was sent is confused: it starts anew and loses nothing.
#[test]
fn a_resumption_beyond_what_was_sent_is_refused() {
    let (play, anna, bob, _, stream) = managed();
    chat(&anna, "one");
    bob.forget();
    bob.breaks();
    resume(&bob, &stream, 9);
    failed(&bob, "item-not-found");
    assert_eq!(play.stored(Tree::Inbox), 1);
    bob.bind("phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    bob.expects(
        "<message from='anna@school.example/desk' type='chat'><body>one</body>\
         <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>",
    );
    bob.answers_ping();
    anna.forget();
}

/// XEP-0198 §5, XEP-0352 §5: an inactive client that resumes on a new connection gets what it was spared.
#[test]
fn an_inactive_client_resumes_over_a_connection_that_seems_alive() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let (bob, stream) = manage(&play, "bob/phone");
    bob.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    anna.send("<presence to='bob@school.example'><show>away</show></presence>");
    bob.hears_nothing();
    let again = play.connect("bob");
    again.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{stream}' h='1'/>"));
    is_resumed(&again, &stream, 1);
    again.expects("<presence from='anna@school.example/desk' to='*'><show>away</show></presence>");
    again.expects(R);
    bob.is_closed_with("conflict");
}

/// What it was spared may be more than it may leave unacknowledged: then there is nothing to resume, and it is told.
#[test]
fn an_inactive_client_that_was_spared_too_much_is_told() {
    let play = Play::with(|settings| settings.unacked_limit = 3);
    let (bob, stream) = manage(&play, "bob/phone");
    bob.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    for resource in ["a", "b", "c", "d"] {
        let anna = play.online(&format!("anna/{resource}"));
        anna.send("<presence to='bob@school.example'><show>away</show></presence>");
        anna.forget();
        play.wait(1);
    }
    let again = play.connect("bob");
    again.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{stream}' h='1'/>"));
    failed(&again, "item-not-found");
    again.bind("tablet");
    bob.forget();
}

/// XEP-0198 §5: the stream is resumed while the old connection seems to be alive.
#[test]
fn a_resumption_takes_the_place_of_the_old_connection() {
    let (play, _anna, bob, _, stream) = managed();
    let other = play.connect("bob");
    other.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{stream}' h='1'/>"));
    is_resumed(&other, &stream, 1);
    bob.is_closed_with("conflict");
}

/// XEP-0198 §6: a stream that is not resumed in time: its messages wait, its requests are answered, it is unavailable.
#[test]
fn a_stream_that_is_not_resumed_in_time() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let (bob, stream) = manage(&play, "bob/phone");
    play.befriend(&anna, &bob);
    bob.breaks();
    chat(&anna, "wait for me");
    anna.send("<iq type='get' id='v' to='bob@school.example/phone'><query xmlns='jabber:iq:version'/></iq>");
    play.wait(599_000);
    anna.hears_nothing();
    play.wait(2_000);
    anna.expects_all(&[
        "<presence from='bob@school.example/phone' type='unavailable'/>",
        "<iq from='bob@school.example/phone' type='error' id='v'><error type='cancel'><service-unavailable/></error></iq>",
    ]);
    resume(&bob, &stream, 1);
    failed(&bob, "item-not-found");
    bob.bind("phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    bob.expects("<presence from='anna@school.example/desk'/>");
    bob.expects(
        "<message from='anna@school.example/desk' type='chat'><body>wait for me</body>\
         <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>",
    );
    bob.answers_ping();
    assert_eq!(play.stored(Tree::Inbox), 0);
    anna.forget();
}

/// XEP-0352 §5, XEP-0198 §5: what an inactive client was spared comes when its stream is resumed.
#[test]
fn what_was_spared_comes_after_a_resumption() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let (bob, stream) = manage(&play, "bob/phone");
    play.befriend(&anna, &bob);
    bob.send("<r xmlns='urn:xmpp:sm:3'/>");
    bob.forget();
    bob.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    anna.send("<presence><show>away</show></presence>");
    anna.forget();
    bob.hears_nothing();
    bob.breaks();
    // The list was not fetched: one presence, two requests and answers, anna's presence.
    resume(&bob, &stream, 1);
    let seen = bob.takes_all();
    let last = seen.iter().rfind(|element| element.name() == "presence").unwrap();
    assert_eq!(last.children().next().unwrap().own_text(), "away");
}

/// XEP-0198 §5, RFC 6121 §4: subscriptions and presence that came while the stream was lost are there after it is
/// resumed, in order.
#[test]
fn presence_that_came_meanwhile_is_there_after_a_resumption() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let (bob, stream) = manage(&play, "bob/phone");
    play.befriend(&anna, &bob);
    bob.send("<presence/>");
    bob.forget();
    anna.forget();
    bob.breaks();
    anna.send("<presence><show>away</show></presence>");
    anna.send("<presence type='unavailable'/>");
    anna.forget();
    resume(&bob, &stream, 1);
    let seen = bob.takes_all();
    let presence: Vec<_> = seen
        .iter()
        .filter(|element| element.get_attr("from") == Some("anna@school.example/desk"))
        .map(|element| element.get_attr("type").map(str::to_owned))
        .collect();
    assert_eq!(presence.last().unwrap().as_deref(), Some("unavailable"));
    assert_eq!(presence.iter().filter(|type_| type_.is_none()).count(), 2, "as a friend, and away");
}

/// XEP-0198 §5, RFC 6120 §7.7.2.2: a client that binds its resource anew instead of resuming loses nothing.
#[test]
fn binding_anew_instead_of_resuming_loses_nothing() {
    let (play, anna, bob, _, _) = managed();
    chat(&anna, "one");
    bob.forget();
    bob.breaks();
    chat(&anna, "two");
    bob.reconnects();
    bob.bind("phone");
    assert_eq!(play.stored(Tree::Session), 1, "Anna's only");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    for body in ["one", "two"] {
        bob.expects(&format!(
            "<message from='anna@school.example/desk' type='chat'><body>{body}</body>\
             <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>"
        ));
    }
    bob.answers_ping();
    assert_eq!(play.stored(Tree::Inbox), 0);
    anna.forget();
}

/// XEP-0198 §5: nobody waits for the end of a session that its program has forgotten; should it be resumed after all, it has
/// the messages too, and each client has each of them once.
#[test]
fn another_session_has_at_once_what_one_without_a_connection_was_to_have() {
    for resumed in [false, true] {
        let (play, anna, bob, _, stream) = managed();
        bob.breaks();
        chat(&anna, "one");
        chat(&anna, "two");
        let tablet = play.login("bob/tablet");
        tablet.send("<presence/>");
        tablet.expects("<presence from='bob@school.example/tablet'/>");
        tablet.expects_all(&["<presence from='bob@school.example/phone'/>"]);
        for body in ["one", "two"] {
            tablet.expects(&format!(
                "<message from='anna@school.example/desk' type='chat'><body>{body}</body>\
                 <delay xmlns='urn:xmpp:delay' from='school.example' stamp='*'/></message>"
            ));
        }
        if resumed {
            resume(&bob, &stream, 1);
            is_resumed(&bob, &stream, 1);
            hears(&bob, "one");
            hears(&bob, "two");
            bob.forget();
            bob.acknowledges(4);
            bob.hears_nothing();
        } else {
            tablet.answers_ping();
            play.wait(601_000);
        }
        assert_eq!(play.stored(Tree::Inbox), 0);
        tablet.forget();
        tablet.hears_nothing();
        anna.forget();
    }
}

/// XEP-0198 §5: a stream that is closed is not resumed.
#[test]
fn a_closed_stream_is_not_resumed() {
    let (play, _anna, bob, _, stream) = managed();
    bob.leaves();
    assert_eq!(play.stored(Tree::Session), 1, "Anna's only");
    resume(&bob, &stream, 1);
    failed(&bob, "item-not-found");
}

/// DESIGN §5: what a session asked for is there after a restart: presence, carbons, interest in both lists.
#[test]
fn a_session_is_what_it_was_after_a_restart() {
    let play = Play::new();
    let (bob, stream) = manage(&play, "bob/phone");
    bob.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    bob.send("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    bob.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    bob.forget();
    bob.acknowledges(4);
    play.restart();
    resume(&bob, &stream, 4);
    is_resumed(&bob, &stream, 4);
    bob.forget();
    let other = play.login("bob/other");
    other.send("<presence/>");
    other.expects_all(&[
        "<presence from='bob@school.example/other'/>",
        "<presence from='bob@school.example/phone'/>",
    ]);
    other.send(
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='a@far.example'/></query></iq>\
         <iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='b@far.example'/></block></iq>\
         <message to='bob@school.example/other' type='chat'><body>memo</body></message>",
    );
    other.forget();
    bob.expects("<presence from='bob@school.example/other'/>");
    bob.expects(R);
    bob.expects_item("<item jid='a@far.example' subscription='none'/>");
    bob.expects(
        "<iq type='set' id='*'><block xmlns='urn:xmpp:blocking'><item jid='b@far.example'/></block></iq>",
    );
    let copies = bob.takes_all();
    assert!(
        !copies.is_empty() && copies.iter().all(|copy| copy.get_attr("from") == Some("bob@school.example"))
    );
}

/// XEP-0198 §5: after a restart the client may have counted more than was stored; what came for it meanwhile is not lost.
#[test]
fn a_client_that_counted_more_than_was_stored() {
    let (play, anna, bob, _, stream) = managed();
    for show in ["away", "dnd", "xa"] {
        anna.send(&format!("<presence to='bob@school.example/phone'><show>{show}</show></presence>"));
    }
    assert!(bob.forget() >= 3);
    anna.forget();
    play.restart();
    let eve = play.login("eve/desk");
    chat(&eve, "meanwhile");
    resume(&bob, &stream, 4);
    is_resumed(&bob, &stream, 1);
    bob.expects("<message from='eve@school.example/desk' type='chat'>…</message>");
    bob.forget();
}

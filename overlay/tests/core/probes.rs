//! Datagrams to silent peers: who is there stays shown, who is gone does not, and nobody else can say so.

use crosstalk_overlay::core::*;
use crosstalk_overlay::enrol::Seen;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::probe::{Key, Kind, Probe, SIZE};
use crosstalk_overlay::time::{MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, decode};

use crate::pump::*;

/// Two hosts who see each other's user nearby, at rest.
fn scene() -> (Net, UserId) {
    let mut net = Net::two();
    for host in 0..2 {
        let user = net.user(host);
        net.with(host, |core, now| core.set_link_presence(&user, Some(link_status("ben")), now));
    }
    net.run(2 * MINUTE + 7_300);
    let user = net.user(1);
    assert_eq!(shown(&net, user), (1, 0));
    (net, user)
}

/// How often the first host was told that a user came nearby, and that it left.
fn shown(net: &Net, user: UserId) -> (usize, usize) {
    let came = |event: &Output| matches!(event, Output::LinkPresence(presence) if presence.user == user);
    let left = |event: &Output| matches!(event, Output::LinkAbsence { user: who, .. } if *who == user);
    (net.count(0, came), net.count(0, left))
}

fn drops(net: &Net, host: usize, reason: &str) -> u64 {
    net.hosts[host].core.counters().dropped.get(reason).copied().unwrap_or_default()
}

fn give(net: &mut Net, host: usize, bytes: &[u8]) {
    net.peer_event(host, PeerEvent::Datagram(bytes.to_vec()));
}

/// The key of the session that both hosts have, as their Hellos make it.
fn agreed(net: &Net) -> Key {
    let secret = |host| {
        let mut hellos = net.tape.iter().filter(|(from, ..)| *from == host).filter_map(|(.., frame)| {
            match decode(frame) {
                Ok(Frame::Hello(hello)) => hello.probe,
                _ => None,
            }
        });
        hellos.next_back().unwrap().secret
    };
    Key::agree((&node_id(0), &secret(0)), (&node_id(1), &secret(1)))
}

#[test]
fn a_good_link_carries_none() {
    let (mut net, user) = scene();
    net.run(30 * MINUTE);
    assert_eq!((net.datagrams.len(), shown(&net, user).1), (0, 0));
}

#[test]
fn whoever_answers_stays_shown_while_tcp_is_stuck_and_no_longer() {
    let (mut net, user) = scene();
    net.stalled = true;
    net.run(5 * MINUTE);
    assert_eq!(shown(&net, user), (1, 0), "it is there");
    let (asks, seconds) = (net.datagrams.len() as u64, 5 * 60);
    assert!(asks < seconds, "{asks} datagrams for two nodes in {seconds} s");
    net.power_off(1);
    net.run(30 * SECOND);
    assert_eq!(shown(&net, user), (1, 1), "it is not");
    let quiet = net.datagrams.len();
    net.run(5 * MINUTE);
    assert_eq!(net.datagrams.len(), quiet, "nobody waits for an answer any more");
}

#[test]
fn a_connection_that_tcp_holds_up_is_made_anew() {
    let (mut net, user) = scene();
    net.stalled = true;
    net.run(40 * SECOND);
    assert!(net.hosts[0].core.peers().is_empty(), "given up");
    net.flow(0, 1);
    net.run(10 * SECOND);
    assert_eq!((net.hosts[0].core.peers().len(), shown(&net, user)), (1, (1, 0)));
    let sent = net.datagrams.len();
    net.run(10 * MINUTE);
    assert_eq!(net.datagrams.len(), sent, "all is well again");
}

#[test]
fn a_broken_connection_hides_nobody_who_answers() {
    let (mut net, user) = scene();
    net.stalled = true;
    net.break_link(0, 1);
    net.run(MINUTE);
    assert_eq!(shown(&net, user), (1, 0));
    // Nobody answers: it crashed.
    let (mut net, user) = scene();
    net.power_off(1);
    net.run(11 * SECOND);
    assert_eq!(shown(&net, user), (1, 1));
}

#[test]
fn a_vanished_host_is_asked_a_few_times_and_gone_within_thirty_seconds() {
    let (mut net, user) = scene();
    net.cut_silently(0, 1);
    net.run(30 * SECOND);
    assert_eq!(shown(&net, user), (1, 1));
    let asks = net.datagrams.iter().filter(|(from, ..)| *from == 0).count();
    assert!((20..=60).contains(&asks), "{asks}");
    net.run(MINUTE);
    assert_eq!(net.datagrams.iter().filter(|(from, ..)| *from == 0).count(), asks);
}

/// What a device whose connection is silent says to its server counts from then on: the end of the silence takes nothing of it back.
#[test]
fn what_is_said_elsewhere_while_a_connection_is_silent_stays_shown() {
    let (mut net, user) = scene();
    let (anna, ben) = (net.user(0), Account::new(2, 102));
    assert_eq!(ben.user, user);
    for host in 0..2 {
        let own = net.user(host);
        net.with(host, |core, now| core.set_presence(&own, vec![session("desk")], vec![anna, user], now));
    }
    net.run(10 * SECOND);
    let told = |event: &Output| matches!(event, Output::Presence { from, .. } if *from == user);
    assert_eq!(net.count(0, told), 1);
    net.stalled = true;
    net.break_link(0, 1);
    net.run(5 * SECOND);
    assert_eq!(net.count(0, |event| matches!(event, Output::Unreachable { .. })), 0, "it still answers");
    let mut seen = None;
    net.with(1, |core, now| {
        core.set_presence(&user, vec![session("phone")], vec![anna], now);
        seen = core.presence_for_server(&user, now);
    });
    let presence = seen.unwrap().bytes().to_vec();
    let seen = Seen { presence, certificate: ben.cert };
    net.with(0, |core, now| core.presence_from_server(&anna, &seen, now).unwrap());
    net.power_off(1);
    net.run(5 * MINUTE);
    let events = net.hosts[0].events.iter();
    let of_ben = events.filter(|event| {
        told(event) || matches!(event, Output::Unreachable { user: who, .. } if *who == user)
    });
    let of_ben: Vec<&str> = of_ben
        .map(|event| match event {
            Output::Presence { live: true, .. } => "shown by the connection",
            Output::Presence { .. } => "shown by the server",
            _ => "gone",
        })
        .collect();
    assert_eq!(of_ben, ["shown by the connection", "gone", "shown by the server"]);
}

/// Of what a server tells the newest counts, in whatever order it comes.
#[test]
fn an_older_word_of_the_server_hides_nothing() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    let (anna, user) = (net.user(0), net.user(1));
    let mut said = Vec::new();
    for sessions in [vec![], vec![session("desk")], vec![session("desk")]] {
        net.run(SECOND);
        net.with(1, |core, now| {
            core.set_presence(&user, vec![], vec![anna], now);
            core.set_presence(&user, sessions, vec![anna], now);
            let presence = core.presence_for_server(&user, now).unwrap().bytes().to_vec();
            said.push(Seen { presence, certificate: Account::new(2, 102).cert });
        });
    }
    for number in [1, 0, 2, 1] {
        let seen = &said[number];
        net.with(0, |core, now| core.presence_from_server(&anna, seen, now).unwrap());
    }
    let gone = |event: &Output| matches!(event, Output::Unreachable { .. });
    let told =
        |event: &Output| matches!(event, Output::Presence { record, .. } if !record.sessions.is_empty());
    assert_eq!((net.count(0, told), net.count(0, gone)), (2, 0));
}

#[test]
fn a_goodbye_is_believed_at_once() {
    let (mut net, user) = scene();
    net.inject(1, 0, crosstalk_overlay::wire::encode(&Frame::Goodbye { reason: "shutting down".into() }));
    net.power_off(1);
    net.run(SECOND);
    assert_eq!((shown(&net, user), net.datagrams.len()), ((1, 1), 0));
}

#[test]
fn a_peer_beyond_the_link_learns_no_way_to_be_probed() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    net.join_beyond(0, 1);
    net.link(0, 1);
    net.run(SECOND);
    let hellos: Vec<_> = net
        .tape
        .iter()
        .filter_map(|(.., frame)| match decode(frame) {
            Ok(Frame::Hello(hello)) => Some(hello.probe),
            _ => None,
        })
        .collect();
    assert_eq!(hellos, [None, None]);
    net.stalled = true;
    net.run(MINUTE);
    assert!(net.datagrams.is_empty());
}

#[test]
fn nobody_else_can_answer_or_ask() {
    let (mut net, user) = scene();
    let key = agreed(&net);
    net.cut_silently(0, 1);
    net.run(23 * SECOND);
    let asks: Vec<_> =
        net.datagrams.iter().filter(|(from, ..)| *from == 0).map(|(.., bytes)| bytes.clone()).collect();
    assert!(!asks.is_empty());
    let sent = net.datagrams.len();
    for ask in &asks {
        // Sent back, truncated, longer, changed in each byte; made with another key; by a node that is not the peer.
        give(&mut net, 0, ask);
        give(&mut net, 0, &ask[..SIZE - 1]);
        give(&mut net, 0, &[ask.as_slice(), &[0]].concat());
        for at in 0..SIZE {
            let mut changed = ask.clone();
            changed[at] ^= 0x11;
            give(&mut net, 0, &changed);
        }
        let mut answer = ask.clone();
        answer[16] = 2;
        give(&mut net, 0, &answer);
    }
    let other = Key::agree((&node_id(0), &[1; 16]), (&node_id(1), &[2; 16]));
    for kind in [Kind::Ask, Kind::Answer] {
        give(&mut net, 0, &other.seal(&node_id(1), Probe { kind, number: 1 }));
        give(&mut net, 0, &key.seal(&node_id(0), Probe { kind, number: 1 }));
    }
    // Questions that were never asked, and one that is none.
    for number in [0, asks.len() as u64 + 1, u64::MAX] {
        give(&mut net, 0, &key.seal(&node_id(1), Probe { kind: Kind::Answer, number }));
    }
    assert_eq!(net.datagrams.len(), sent, "no answer to any of them");
    assert!(drops(&net, 0, "probe that is forged") > 0);
    net.run(7 * SECOND);
    assert_eq!(shown(&net, user), (1, 1), "gone all the same");
}

#[test]
fn what_was_said_before_counts_no_more() {
    let (mut net, user) = scene();
    net.stalled = true;
    net.run(60 * SECOND);
    let former = net.datagrams.clone();
    assert!(former.iter().any(|(from, ..)| *from == 1));
    net.power_off(1);
    for _ in 0..30 {
        net.run(SECOND);
        let sent = net.datagrams.len();
        former.iter().filter(|(from, ..)| *from == 1).for_each(|(.., bytes)| give(&mut net, 0, bytes));
        assert_eq!(net.datagrams.len(), sent, "an old question is not answered again");
    }
    assert!(drops(&net, 0, "probe that came before") > 0);
    assert_eq!(shown(&net, user), (1, 1));
}

#[test]
fn a_late_answer_does_not_outlive_its_session() {
    let (mut net, user) = scene();
    let key = agreed(&net);
    net.cut_silently(0, 1);
    net.run(23 * SECOND);
    let asked = net.datagrams.len();
    assert!(asked > 0);
    net.join(0, 1);
    net.run(10 * SECOND);
    assert_eq!((net.hosts[0].core.peers().len(), shown(&net, user)), (1, (1, 0)));
    // Now it vanishes; the answers to all questions before were held back by somebody.
    net.power_off(1);
    for number in 1..=asked as u64 {
        give(&mut net, 0, &key.seal(&node_id(1), Probe { kind: Kind::Answer, number }));
    }
    net.run(11 * SECOND);
    assert_eq!(shown(&net, user), (1, 1));
}

#[test]
fn one_who_asks_without_end_is_answered_ten_times_a_second() {
    let (mut net, _) = scene();
    let key = agreed(&net);
    for number in 1..=1_000 {
        give(&mut net, 0, &key.seal(&node_id(1), Probe { kind: Kind::Ask, number }));
        net.run(1);
    }
    let answers = net.datagrams.iter().filter(|(from, ..)| *from == 0).count();
    assert!((5..=10).contains(&answers), "{answers}");
    assert!(net.datagrams.iter().all(|(.., bytes)| bytes.len() == SIZE), "no larger than the questions");
}

#[test]
fn whoever_connects_anew_is_there_though_no_frame_gets_through() {
    let (mut net, user) = scene();
    net.deaf = true;
    net.break_link(0, 1);
    net.link(0, 1);
    net.stalled = true;
    net.run(20 * SECOND);
    assert_eq!(shown(&net, user), (1, 0));
}

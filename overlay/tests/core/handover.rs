//! A conversation whose people change places: link, beyond it, mailboxes and back; and what a node does that has moved.

use crosstalk_overlay::core::*;
use crosstalk_overlay::dht::Key;
use crosstalk_overlay::time::{MINUTE, SECOND};

use crate::pump::*;

const MESSAGES: u64 = 1_000;
/// Numbers of what the second says begin here.
const ANSWERS: u64 = 1_000_000;

/// Two friends on a link, and three nodes far from both that hold the hash table and mail.
fn friends() -> Net {
    let mut limits = Limits::default();
    limits.mailbox.bits = 2;
    let accounts = |host: u8| if host < 2 { vec![Account::new(host + 1, host + 101)] } else { Vec::new() };
    let mut net = Net::with_limits((0..5).map(accounts).collect(), limits);
    for host in 0..2 {
        (2..5).for_each(|node| net.join_beyond(host, node));
    }
    net.set_table(vec![2, 3, 4]);
    for host in 0..2 {
        let (user, friend) = (net.user(host), net.user(1 - host));
        net.with(host, |core, now| {
            core.keep(&friend);
            core.set_presence(&user, vec![session("desk")], vec![friend], now);
        });
    }
    net.join(0, 1);
    net.run(10 * SECOND);
    for host in 0..2 {
        assert_eq!(net.hosts[host].core.reach(&net.user(1 - host)), Reach::Live);
        assert_eq!(net.hosts[host].core.outbox().count(), 0, "the keys to be found by have arrived");
    }
    net
}

/// What joins the two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    Link,
    Beyond,
    /// Nothing but nodes that hold mail for either.
    Mailbox,
}

fn go(net: &mut Net, path: Path) {
    net.cut(0, 1);
    match path {
        Path::Link => net.join(0, 1),
        Path::Beyond => net.join_beyond(0, 1),
        Path::Mailbox => {}
    }
    if path != Path::Mailbox {
        for host in 0..2 {
            let address = format!("/memory/{host}/{path:?}/{}", net.mono);
            net.peer_event(host, PeerEvent::Addresses(vec![address]));
        }
    }
}

#[test]
fn a_thousand_messages_survive_five_changes_of_their_path() {
    use Path::*;
    let mut slowest = [Beyond, Mailbox, Link, Beyond, Link].map(|path| (path, 0));
    for seed in 0..3 {
        let mut net = friends();
        net.shuffle_dice(seed);
        let (mut changes, mut waited) = (slowest.iter_mut(), None);
        for number in 1..=MESSAGES {
            if number % (MESSAGES / 6) == 0 && waited.is_none() {
                waited = changes.next().map(|change| (net.mono, number, change));
                waited.iter().for_each(|(_, _, change)| go(&mut net, change.0));
            }
            net.send(0, net.user(1), number);
            net.send(1, net.user(0), ANSWERS + number);
            let pause = u64::from(net.roll(200));
            net.run(pause);
            // What was said after the change has arrived by the new path.
            let heard = net.got(1, net.user(0)).last().copied();
            if let Some((moment, _, (_, most))) = waited.take_if(|(_, first, _)| heard >= Some(*first)) {
                *most = (*most).max(net.mono - moment);
            }
        }
        assert!(waited.is_none() && changes.next().is_none(), "seed {seed}: nothing arrives by {waited:?}");
        net.run(2 * MINUTE);
        let heard = net.got(1, net.user(0));
        assert!(heard.iter().copied().eq(1..=MESSAGES), "seed {seed}: {} arrived", heard.len());
        let answers = net.got(0, net.user(1));
        assert!(
            answers.iter().copied().eq(ANSWERS + 1..=ANSWERS + MESSAGES),
            "seed {seed}: {}",
            answers.len()
        );
    }
    println!("the slowest hand-overs, ms: {slowest:?}");
}

#[test]
fn a_friend_whose_connection_is_lost_is_looked_for_at_once() {
    let mut net = friends();
    net.run(MINUTE);
    let before = net.asked;
    net.cut(0, 1);
    net.run(SECOND);
    assert!(net.asked > before, "where it is now");
}

#[test]
fn from_a_new_place_whoever_is_wanted_is_dialled_at_once() {
    let mut net = friends();
    go(&mut net, Path::Mailbox);
    net.run(20 * MINUTE);
    assert_ne!(net.hosts[0].core.reach(&net.user(1)), Reach::Live);
    net.join_beyond(0, 1);
    net.peer_event(0, PeerEvent::Addresses(vec!["/memory/elsewhere".into()]));
    net.run(SECOND);
    assert_eq!(net.hosts[0].core.reach(&net.user(1)), Reach::Live);
}

#[test]
fn friends_are_told_of_a_new_place_within_seconds() {
    let mut net = friends();
    let told =
        |net: &Net| net.table.as_ref().unwrap().iter().map(|(key, value)| (*key, value.clone())).collect();
    net.run(MINUTE);
    net.peer_event(0, PeerEvent::Addresses(vec!["/memory/here".into()]));
    net.run(3 * SECOND);
    let before: Vec<(Key, Vec<u8>)> = told(&net);
    net.peer_event(0, PeerEvent::Addresses(vec!["/memory/there".into()]));
    net.run(6 * SECOND);
    assert!(before != told(&net));
}

/// The second of two friends goes elsewhere while the first writes; the first is where nobody can dial it. What the first
/// wrote arrives after so many milliseconds.
fn followed_after(skew: i64) -> u64 {
    let mut net = friends();
    net.hosts[1].skew = skew;
    net.restart(1);
    net.with(1, |core, now| {
        let friend = Account::new(1, 101).user;
        core.keep(&friend);
        core.set_presence(&Account::new(2, 102).user, vec![session("desk")], vec![friend], now);
    });
    net.join(0, 1);
    net.run(MINUTE);
    net.walled.insert(0);
    net.leave(1, 0);
    let (moment, recipient, sender) = (net.mono, net.user(1), net.user(0));
    net.run(SECOND);
    net.join_beyond(0, 1);
    net.peer_event(1, PeerEvent::Addresses(vec!["/memory/elsewhere".into()]));
    let mut number = 0;
    while net.got(1, sender).is_empty() && number < 400 {
        number += 1;
        net.send(0, recipient, number);
        net.run(100);
    }
    let after = net.mono - moment;
    net.run(MINUTE);
    assert!(net.got(1, sender).iter().copied().eq(1..=number), "each once, in order");
    after
}

#[test]
fn whoever_stays_behind_a_wall_follows_within_seconds_who_has_gone_elsewhere() {
    for skew in [0, 30 * SECOND as i64, -30 * SECOND as i64] {
        let after = followed_after(skew);
        println!("clocks {skew} ms apart: {after} ms");
        assert!((2 * SECOND..10 * SECOND).contains(&after), "{skew}: {after} ms");
    }
}

/// As on a bad radio: an answer that is late is no reason to give up a connection, nor does the table have to be asked often.
#[test]
fn whoever_only_does_not_answer_for_a_while_stays_connected() {
    let mut net = friends();
    net.run(MINUTE);
    net.send(1, net.user(0), 1);
    net.run(SECOND);
    net.stalled = true;
    net.send(0, net.user(1), 1);
    let asked = net.gets.len();
    net.run(18 * SECOND);
    assert_eq!(net.hosts[0].core.reach(&net.user(1)), Reach::Live);
    assert!((1..=10).contains(&(net.gets.len() - asked)), "{} questions", net.gets.len() - asked);
    net.flow(0, 1);
    net.run(2 * SECOND);
    assert_eq!(net.outcomes(0, 1), vec![Outcome::Delivered]);
}

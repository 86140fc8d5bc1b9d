//! What is remembered of others is bounded, and what has to go goes without harm.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::time::SECOND;
use crosstalk_overlay::wire::{Frame, encode};

use crate::pump::*;

/// Host 0 with these limits; host 1 is played by the test.
fn scene(limits: Limits) -> Net {
    let mut net = Net::with_limits(vec![vec![Account::new(1, 101)], vec![]], limits);
    net.peer_event(0, connected());
    net.inject(1, 0, hello(1, START));
    net
}

fn connected() -> PeerEvent {
    PeerEvent::Connected { node: node_id(1), address: "/memory/1".into(), inbound: true, near: true }
}

fn account(seed: u8) -> Account {
    Account::new(seed, 255 - seed)
}

/// Host 1 says that a user is there.
fn show(net: &mut Net, seed: u8) {
    let frame = user_frame(&account(seed), seed, START, node_key(1));
    net.inject(1, 0, encode(&Frame::Records(vec![frame])));
    net.mono += 1;
}

fn reconnect(net: &mut Net, session: u64) {
    net.peer_event(0, PeerEvent::Disconnected { node: node_id(1) });
    net.peer_event(0, connected());
    net.inject(1, 0, hello(session, START));
}

fn reach(net: &Net, seed: u8) -> Reach {
    net.hosts[0].core.reach(&account(seed).user)
}

fn drops(net: &Net, reason: &str) -> u64 {
    net.hosts[0].core.counters().dropped.get(reason).copied().unwrap_or_default()
}

fn size() -> usize {
    user_frame(&account(9), 9, START, node_key(1)).record.len()
}

#[test]
fn records_are_bounded_by_bytes_and_those_that_matter_stay() {
    // Of five, one is our own user.
    let mut net = scene(Limits { user_bytes: 5 * size() + size() / 2, ..Limits::default() });
    for seed in 10..14 {
        show(&mut net, seed);
        reconnect(&mut net, u64::from(seed));
    }
    let waited_for = account(11).user;
    net.with(0, |core, _| core.keep(&account(10).user));
    net.send(0, waited_for, 1);
    show(&mut net, 14);
    assert_eq!(reach(&net, 12), Reach::Unknown, "the oldest that is neither kept nor waited for");
    assert!(!net.hosts[0].store.records.contains_key(&account(12).user));
    for (seed, reach_now) in [(10, Reach::Known), (11, Reach::Known), (13, Reach::Known), (14, Reach::Live)] {
        assert_eq!(reach(&net, seed), reach_now, "{seed}");
    }
    reconnect(&mut net, 14);
    show(&mut net, 15);
    assert_eq!(reach(&net, 13), Reach::Unknown);
    let bytes: usize = net.hosts[0].store.records.values().map(|cached| cached.record.len()).sum();
    assert!(bytes <= 6 * size(), "{bytes}");
}

#[test]
fn one_peer_does_not_take_the_bytes_of_all() {
    let mut net = scene(Limits { user_bytes: 8 * size(), ..Limits::default() });
    (10..16).for_each(|seed| show(&mut net, seed));
    assert_eq!(reach(&net, 13), Reach::Live, "half of it is for whoever comes first");
    assert_eq!(reach(&net, 14), Reach::Unknown);
    assert_eq!(drops(&net, "more bytes of records than a peer may have"), 2);
    let other =
        PeerEvent::Connected { node: node_id(2), address: "/memory/2".into(), inbound: true, near: true };
    net.peer_event(0, other);
    net.inject(2, 0, hello(1, START));
    let frame = user_frame(&account(20), 20, START, node_key(2));
    net.inject(2, 0, encode(&Frame::Records(vec![frame])));
    assert_eq!(reach(&net, 20), Reach::Live, "the rest is for others");
}

#[test]
fn coming_back_gives_a_peer_no_new_credit() {
    let mut net = scene(Limits { users_per_peer: 2, ..Limits::default() });
    show(&mut net, 10);
    show(&mut net, 11);
    reconnect(&mut net, 2);
    show(&mut net, 12);
    assert_eq!(reach(&net, 12), Reach::Unknown);
    assert_eq!(drops(&net, "more records than a peer may send"), 1);
    net.run(SECOND);
    show(&mut net, 12);
    assert_eq!(reach(&net, 12), Reach::Live, "but time does");
}

#[test]
fn the_pair_used_longest_ago_is_forgotten_and_its_next_message_arrives() {
    let limits = Limits { pairs: 2, ..Limits::default() };
    let accounts = (1..=4).map(|index| vec![Account::new(index, 100 + index)]).collect();
    let mut net = Net::with_limits(accounts, limits);
    let anna = net.user(0);
    for sender in 1..4 {
        net.join(0, sender);
        net.run(5 * SECOND);
        // Two each, so that the next place of the forgotten pair is not the first.
        net.send(sender, anna, 10 * sender as u64);
        net.send(sender, anna, 10 * sender as u64 + 1);
        net.run(SECOND);
    }
    let known = |net: &Net, sender: usize| {
        let device = net.hosts[sender].accounts[0].device.id();
        net.hosts[0].store.inbound.keys().any(|(from, _)| *from == device)
    };
    assert_eq!([1, 2, 3].map(|sender| known(&net, sender)), [false, true, true], "also in the store");
    net.restart(0);
    for sender in 1..4 {
        net.send(sender, anna, 10 * sender as u64 + 2);
        net.run(5 * SECOND);
        assert!(known(&net, sender));
        let number = 10 * sender as u64;
        assert_eq!(net.got(0, net.user(sender)), vec![number, number + 1, number + 2], "no loss, no repeat");
        assert_eq!(net.outcomes(sender, number + 2), vec![Outcome::Delivered]);
    }
    assert_eq!(net.hosts[0].store.inbound.len(), 2);
}

#[test]
fn what_is_written_to_more_devices_than_an_order_is_kept_with_waits() {
    let limits = Limits { lanes: 1, ..Limits::default() };
    let accounts = (1..=3).map(|index| vec![Account::new(index, 100 + index)]).collect();
    let mut net = Net::with_limits(accounts, limits);
    for (recipient, number) in [(1, 10), (2, 20), (1, 11)] {
        net.join(0, recipient);
        net.run(5 * SECOND);
        net.send(0, net.user(recipient), number);
        net.run(5 * SECOND);
    }
    assert_eq!(net.got(1, net.user(0)), vec![10, 11]);
    assert_eq!(net.got(2, net.user(0)), Vec::<u64>::new());
    assert_eq!(net.hosts[0].store.outbox.len(), 1, "it is not lost");
    assert!(drops(&net, "no room for another pair of devices") > 0);
}

/// A node of this number that nobody has.
fn invented(number: u16) -> PeerEvent {
    let mut id = [0xee; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    PeerEvent::Discovered { node: NodeId::from_bytes(id), addresses: vec!["/memory/99".into()] }
}

#[test]
fn invented_nodes_push_out_nobody_who_was_connected() {
    let limits = Limits { candidates: 8, ..Limits::default() };
    let mut net = Net::with_limits(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]], limits);
    net.join(0, 1);
    net.run(SECOND);
    let there = |net: &Net| net.hosts[0].core.peers().iter().any(|peer| peer.node == node_id(1));
    assert!(there(&net));
    // It is out of reach for a moment, and has forgotten us when it is back.
    net.cut(0, 1);
    net.restart(1);
    for number in 0..1_024 {
        net.peer_event(0, invented(number));
        net.run(10);
    }
    net.lay(0, 1);
    net.run(30 * SECOND);
    assert!(there(&net), "it was forgotten");
}

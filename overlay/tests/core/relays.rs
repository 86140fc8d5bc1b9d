//! What one peer tells of others costs the core little, is bounded, and is kept as small as it can be.

use crosstalk_overlay::core::*;
use crosstalk_overlay::keys::NodeKey;
use crosstalk_overlay::record::{NodeBinding, NodeLinks, NodePrefix, Verified};
use crosstalk_overlay::time::{HOUR, Hlc, SECOND};
use crosstalk_overlay::wire::{Frame, Mark, Relayed, UserFrame, decode, encode};
use sha2::{Digest as _, Sha256};

use crate::pump::*;

/// Host 0 with these limits; host 1 is a node that says what the test wants.
fn scene(limits: Limits) -> Net {
    let mut net = Net::with_limits(vec![vec![Account::new(1, 101)], vec![]], limits);
    net.join(0, 1);
    net.run(10 * SECOND);
    net
}

fn says(net: &mut Net, frame: &Frame) {
    net.inject(1, 0, encode(frame));
}

fn account(seed: u8) -> Account {
    Account::new(seed, 255 - seed)
}

fn made_up(number: u8) -> NodeKey {
    NodeKey::from_seed([0xa0 ^ number; 32])
}

fn links(number: u8) -> Vec<u8> {
    let (key, at) = (made_up(number), Hlc { millis: START, counter: 0 });
    let hears: Vec<NodePrefix> = vec![NodePrefix::of(&node_id(1))];
    let links = NodeLinks { node: key.id(), at, expires: START + HOUR, hears };
    Verified::sign(links, &key, None).unwrap().bytes().to_vec()
}

fn only_links(number: u8) -> Frame {
    Frame::Relayed(Relayed { links: vec![links(number)], ..Relayed::default() })
}

fn only_user(frame: UserFrame) -> Frame {
    Frame::Relayed(Relayed { users: vec![frame], ..Relayed::default() })
}

/// A user on a node of its own.
fn user(number: u8) -> UserFrame {
    user_frame(&account(number), number, START, &made_up(number))
}

fn mark(bytes: &[u8]) -> Mark {
    Sha256::digest(bytes).first_chunk().copied().unwrap()
}

/// How many questions host 0 has put.
fn questions(net: &Net) -> usize {
    let asked = |(from, _, frame): &&(usize, usize, Vec<u8>)| {
        *from == 0 && matches!(decode(frame), Ok(Frame::Want(_)))
    };
    net.tape.iter().filter(asked).count()
}

fn user_mark(number: u8) -> Mark {
    let UserFrame { record, binding } = user(number);
    mark(&[record, binding].concat())
}

/// Whether host 0 has offered a statement to another.
fn has_offered(net: &Net, to: usize, mark: Mark) -> bool {
    net.tape.iter().any(|(from, at, frame)| {
        (*from, *at) == (0, to) && matches!(decode(frame), Ok(Frame::Have(marks)) if marks.contains(&mark))
    })
}

fn drops(net: &Net, reason: &str) -> u64 {
    net.hosts[0].core.counters().dropped.get(reason).copied().unwrap_or_default()
}

#[test]
fn many_small_frames_lead_to_one_question() {
    let mut net = scene(Limits::default());
    for number in 0..64 {
        says(&mut net, &Frame::Have(vec![mark(&links(number))]));
    }
    net.run(100);
    assert!((1..=2).contains(&questions(&net)), "{} questions after 64 offers", questions(&net));
    let before = questions(&net);
    let asked: Vec<Mark> = net
        .tape
        .iter()
        .filter_map(|(.., frame)| match decode(frame) {
            Ok(Frame::Want(marks)) => Some(marks),
            _ => None,
        })
        .flatten()
        .collect();
    for number in (0..64).filter(|number| asked.contains(&mark(&links(*number)))) {
        says(&mut net, &only_links(number));
    }
    net.run(100);
    let after = questions(&net) - before;
    assert!((1..=2).contains(&after), "{after} questions after 32 answers");
}

#[test]
fn what_is_told_on_stays_within_its_bytes() {
    let size = user(9).record.len() + user(9).binding.len();
    let limit = size + 250;
    let mut net = scene(Limits { relayed_bytes: limit, ..Limits::default() });
    for number in 0..8 {
        says(&mut net, &only_links(number));
    }
    net.run(SECOND);
    says(&mut net, &only_user(user(9)));
    let (_, bytes) = net.hosts[0].core.relay_load();
    assert!(bytes <= limit, "{bytes} bytes of {limit}");
    assert_eq!(net.hosts[0].core.reach(&account(9).user), Reach::Known, "the older ones have made room");
}

#[test]
fn people_who_have_left_a_node_take_no_room_from_those_elsewhere() {
    let mut net = scene(Limits { relayed_users: 8, relayed_users_per_node: 4, ..Limits::default() });
    for number in 10..20 {
        let account = account(number);
        let left = NodeBinding::agreed(account.user, account.device.id(), node_key(1), START, START);
        let binding = Verified::sign(left, &account.device, None).unwrap().bytes().to_vec();
        let record = user_frame(&account, number, START, node_key(1)).record;
        says(&mut net, &only_user(UserFrame { record, binding }));
    }
    let (items, _) = net.hosts[0].core.relay_load();
    assert!(items <= 4 + 1, "{items} statements about one node");
    says(&mut net, &only_user(user(9)));
    assert_eq!(net.hosts[0].core.relay_load().0, items + 1);
}

/// A field that nobody knows, of so many bytes.
fn padding(bytes: usize) -> Vec<u8> {
    let mut field = vec![0xfa, 0x01];
    prost::encoding::encode_varint(bytes as u64, &mut field);
    field.resize(field.len() + bytes, 0);
    field
}

#[test]
fn what_a_relay_adds_to_a_record_is_not_kept() {
    let mut net = scene(Limits::default());
    let honest = user(9);
    let mut padded = honest.clone();
    padded.record.extend(padding(20_000));
    let offered = mark(&[padded.record.as_slice(), &padded.binding].concat());
    says(&mut net, &only_user(padded.clone()));
    assert_eq!(net.hosts[0].core.reach(&account(9).user), Reach::Known);
    let (_, bytes) = net.hosts[0].core.relay_load();
    assert!(bytes < honest.record.len() + honest.binding.len() + 1_000, "{bytes} bytes");
    let before = questions(&net);
    says(&mut net, &Frame::Have(vec![offered, mark(&[honest.record, honest.binding].concat())]));
    net.run(100);
    assert_eq!(questions(&net), before, "neither is asked for again");
}

#[test]
fn what_a_relay_adds_to_a_signed_record_is_an_offence() {
    let mut net = scene(Limits::default());
    let mut honest = user(9);
    honest.binding.extend(padding(100));
    says(&mut net, &only_user(honest));
    assert_eq!(net.hosts[0].core.relay_load(), scene(Limits::default()).hosts[0].core.relay_load());
    assert_eq!(net.hosts[0].core.counters().offences.values().sum::<u64>(), 1);
}

#[test]
fn one_relay_does_not_take_the_bytes_of_all() {
    let size = user(9).record.len();
    let mut net = scene(Limits { user_bytes: 16 * size, ..Limits::default() });
    for number in 10..40 {
        says(&mut net, &only_user(user(number)));
    }
    let known = (10..40).filter(|number| net.hosts[0].core.reach(&account(*number).user) == Reach::Known);
    assert!((8..=9).contains(&known.count()), "half of it is for whoever comes first");
    assert!(drops(&net, "more bytes of records than a peer may have") > 20);
    let other =
        PeerEvent::Connected { node: node_id(2), address: "/memory/2".into(), inbound: true, near: true };
    net.peer_event(0, other);
    net.inject(2, 0, hello(1, START));
    net.inject(2, 0, encode(&only_user(user(50))));
    assert_eq!(net.hosts[0].core.reach(&account(50).user), Reach::Known, "the rest is for others");
}

/// What was forgotten with a node that had gone is asked for when it is back: it may be the same word for word.
#[test]
fn who_is_back_after_long_is_known_again() {
    let mut net = scene(Limits::default());
    says(&mut net, &only_links(9));
    says(&mut net, &only_user(user(9)));
    net.run(SECOND);
    says(&mut net, &Frame::Have(vec![user_mark(9)]));
    net.run(SECOND);
    assert_eq!(questions(&net), 0, "known");
    net.run(HOUR);
    says(&mut net, &Frame::Have(vec![user_mark(9)]));
    net.run(SECOND);
    assert_eq!(questions(&net), 1);
}

/// The same, for whoever was met more than once: what was said again was not unwanted.
#[test]
fn who_was_met_twice_is_known_again_too() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![], vec![]]);
    net.join(0, 1);
    net.join(0, 2);
    net.run(SECOND);
    let frame = user_frame(&account(9), 9, START, node_key(1));
    let mark = mark(&[frame.record.clone(), frame.binding.clone()].concat());
    for _ in 0..2 {
        says(&mut net, &Frame::Records(vec![frame.clone()]));
        net.run(SECOND);
    }
    net.cut(0, 1);
    net.run(HOUR);
    let before = questions(&net);
    net.inject(2, 0, encode(&Frame::Have(vec![mark])));
    net.run(SECOND);
    assert_eq!(questions(&net) - before, 1);
}

/// Those who may not be here are not told on, until their node is heard of.
#[test]
fn who_is_silent_is_offered_when_it_speaks() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![], vec![]]);
    net.join(0, 1);
    net.run(SECOND);
    says(&mut net, &only_user(user(9)));
    net.run(SECOND);
    net.join(0, 2);
    net.run(SECOND);
    assert!(!has_offered(&net, 2, user_mark(9)), "nobody has heard that node");
    says(&mut net, &only_links(9));
    net.run(SECOND);
    assert!(has_offered(&net, 2, user_mark(9)));
}

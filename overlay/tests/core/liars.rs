//! Among many nodes one tells lies about the others: what it can do is little, and what honest ones relay is not held
//! against them.

use std::collections::BTreeMap;

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::{DeviceKey, Domain, NodeKey, Signs, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, HOUR, Hlc, MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, Relayed, UserFrame, encode};
use prost::Message as _;

use crate::crowd::*;
use crate::pump::{Account, Net, START, node_id, node_key, user_frame};

/// The liar, an honest core whose words the tests put others beside; it is connected to the victim.
const LIAR: usize = 0;

fn peers(crowd: &Crowd, index: usize) -> Vec<usize> {
    let peers = crowd.members[index].core.peers();
    peers.iter().filter_map(|peer| crowd.index(peer.node)).collect()
}

/// The liar says this to one of its peers.
fn says(crowd: &mut Crowd, to: usize, frame: &Frame) {
    crowd.tell(to, PeerEvent::Frame { node: member_id(LIAR), frame: encode(frame) });
}

fn says_to_all(crowd: &mut Crowd, frame: &Frame) {
    for peer in peers(crowd, LIAR) {
        says(crowd, peer, frame);
    }
}

fn links(key: &NodeKey, at: u64, hears: &[NodeId]) -> Vec<u8> {
    let mut hears: Vec<NodePrefix> = hears.iter().map(NodePrefix::of).collect();
    hears.sort();
    let at = Hlc { millis: at, counter: 0 };
    let links = NodeLinks { node: key.id(), at, expires: at.millis + HOUR, hears };
    Verified::sign(links, key, None).unwrap().bytes().to_vec()
}

/// What a node would say, signed by a key that is not its own.
fn forged_links(node: NodeId, at: u64, signer: &impl Signs) -> Vec<u8> {
    let honest = SignedRecord::decode(links(member_key(LIAR), at, &[]).as_slice()).unwrap();
    let at = Hlc { millis: at, counter: 0 };
    let payload = NodeLinks { node, at, expires: at.millis + HOUR, hears: Vec::new() }.to_payload();
    let signature = signer.sign(Domain::NodeLinks, &payload).to_vec();
    SignedRecord { payload, signature, signer: signer.public().to_vec(), ..honest }.encode_to_vec()
}

/// Somebody of the liar's, who says to be on another node, which did not agree to that.
fn put_on(node: NodeId, honest: UserFrame, account: &Account) -> UserFrame {
    let agreed = SignedRecord::decode(honest.binding.as_slice()).unwrap();
    let agreed = NodeBinding::from_payload(&agreed.payload).unwrap();
    let forged = Verified::sign(NodeBinding { node, ..agreed }, &account.device, None).unwrap();
    UserFrame { binding: forged.bytes().to_vec(), ..honest }
}

fn only_links(bytes: Vec<u8>) -> Frame {
    Frame::Relayed(Relayed { links: vec![bytes], ..Relayed::default() })
}

fn offences(crowd: &Crowd) -> BTreeMap<usize, u64> {
    let count = |member: &Member| member.core.counters().offences.values().sum::<u64>();
    crowd.members.iter().map(count).enumerate().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn one_voice_keeps_no_dead_node_alive() {
    let mut crowd = Crowd::settled(50);
    let victim = peers(&crowd, LIAR)[0];
    let rest: Vec<usize> = (1..50).filter(|index| *index != victim).collect();
    let mut heard: Vec<NodeId> = peers(&crowd, LIAR).into_iter().map(member_id).collect();
    heard.sort();
    crowd.vanish(victim);
    let mut gone = None;
    for second in 0..30 {
        let at = crowd.now().wall + 5;
        let lie = links(member_key(LIAR), at, &heard);
        says_to_all(&mut crowd, &only_links(lie));
        crowd.run(SECOND);
        if crowd.none_sees(&rest, &[victim]) {
            gone = gone.or(Some(second));
        }
    }
    assert!(gone.is_some(), "still shown after 30 s");
    assert!(crowd.none_sees(&rest, &[victim]), "and shown again by nobody");
}

#[test]
fn one_voice_removes_nobody_but_itself() {
    let mut crowd = Crowd::settled(50);
    let rest: Vec<usize> = (1..50).collect();
    for _ in 0..20 {
        let at = crowd.now().wall + 5;
        let lie = links(member_key(LIAR), at, &[]);
        says_to_all(&mut crowd, &only_links(lie));
        crowd.run(SECOND);
        assert!(crowd.all_see(&rest, &rest));
    }
    assert_eq!(offences(&crowd), BTreeMap::new(), "nobody can be blamed");
}

#[test]
fn forged_statements_count_for_nothing_and_against_whoever_sent_them() {
    let mut crowd = Crowd::settled(50);
    let to = peers(&crowd, LIAR)[0];
    let rest: Vec<usize> = (1..50).collect();
    let victim = (1..50).find(|index| !crowd.are_connected(to, *index) && *index != to).unwrap();
    let (at, device) = (crowd.now().wall + 5, crowd.members[LIAR].account.device.clone());
    // With a byte changed; by the liar's device, and by its node, for somebody else's node.
    let mut altered = links(member_key(victim), at, &[]);
    let last = altered.len() - 40;
    altered[last] ^= 1;
    let by_device = forged_links(member_id(victim), at, &device);
    let by_node = forged_links(member_id(victim), at, member_key(LIAR));
    for forged in [altered, by_device, by_node] {
        says(&mut crowd, to, &only_links(forged));
    }
    crowd.run(5 * SECOND);
    assert!(crowd.all_see(&rest, &rest));
    assert_eq!(offences(&crowd), BTreeMap::from([(to, 3)]), "what cannot be a misunderstanding");
    for number in 0..8 {
        let mut forged = links(member_key(victim), at + number, &[]);
        forged[last] ^= 1;
        says(&mut crowd, to, &only_links(forged));
    }
    crowd.run(SECOND);
    assert!(!crowd.are_connected(to, LIAR), "closed");
    assert_eq!(offences(&crowd).len(), 1, "nobody relayed it");
}

#[test]
fn a_flood_of_true_statements_is_told_on_slowly() {
    let mut crowd = Crowd::settled(50);
    let to = peers(&crowd, LIAR)[0];
    let heard: Vec<NodeId> = peers(&crowd, LIAR).into_iter().map(member_id).collect();
    let (before, at) = (crowd.sent(), crowd.now().wall);
    for number in 0..1_000 {
        let true_ = links(member_key(LIAR), at + number, &heard);
        says(&mut crowd, to, &only_links(true_));
        crowd.run(10);
    }
    let after = crowd.sent();
    let (frames, bytes) = (after.0 - before.0, after.1 - before.1);
    println!("1,000 statements in 10 s: {frames} frames and {bytes} bytes by 50 nodes");
    // Eight at once and one each 3 s: 11, each taken by 49 nodes and offered by them to their peers.
    assert!(bytes < 11 * 49 * (300 + 20 * 12) + 50 * 10 * 200, "{bytes} bytes");
    assert!(crowd.all_see(&(1..50).collect::<Vec<_>>(), &(1..50).collect::<Vec<_>>()));
}

#[test]
fn a_flood_of_offers_is_asked_for_slowly() {
    let mut crowd = Crowd::settled(50);
    let to = peers(&crowd, LIAR)[0];
    let before = crowd.members[to].bytes;
    for number in 0..20_u64 {
        let marks = (0..4_096_u64).map(|mark| (number << 32 | mark).to_be_bytes()).collect();
        says(&mut crowd, to, &Frame::Have(marks));
    }
    crowd.run(MINUTE);
    let bytes = crowd.members[to].bytes - before;
    // 128 marks each three seconds, and what it says anyway.
    assert!(bytes < 128 * 8 * 21 + 4_000, "{bytes} bytes");
    let drops = &crowd.members[to].core.counters().dropped;
    assert!(
        drops.get("offer of more statements than a peer may have open").is_some_and(|count| *count > 70_000)
    );
}

/// A user made up, on a node made up, with everything signed as it should be.
fn invented(number: usize, millis: u64) -> UserFrame {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let (user, device) = (UserKey::from_seed(seed), DeviceKey::from_seed(seed));
    let cert = DeviceCert::issue(&user, device.id(), millis).unwrap();
    let (user, id, expires) = (user.id(), device.id(), millis + 7 * DAY);
    let sealing = vec![SealingPublic { public: account(0).sealing[0].public(), created: START }];
    let info = DeviceInfo {
        user,
        device: id,
        sealing,
        epoch: 1,
        at: Hlc { millis, counter: 0 },
        expires,
        mailboxes: vec![],
    };
    let info = Verified::sign(info, &device, None).unwrap();
    let binding = NodeBinding::agreed(user, id, &NodeKey::from_seed(seed), millis, expires);
    let binding = Verified::sign(binding, &device, None).unwrap().bytes().to_vec();
    UserFrame { record: UserRecord::new(cert, info, None).unwrap().encode(), binding }
}

#[test]
fn people_on_nodes_that_nobody_met_are_bounded_and_not_shown() {
    let mut crowd = Crowd::settled(20);
    let to = peers(&crowd, LIAR)[0];
    let wall = crowd.now().wall;
    for number in 0..1_500 {
        let relayed = Relayed { users: vec![invented(number, wall)], ..Relayed::default() };
        says(&mut crowd, to, &Frame::Relayed(relayed));
        crowd.run(20);
    }
    crowd.run(30 * SECOND);
    for member in &crowd.members {
        let (items, bytes) = member.core.relay_load();
        assert!(items <= 1_024 + 40 && bytes <= 4 * 1_024 * 1_024, "{items} statements, {bytes} bytes");
    }
    assert!(crowd.all_see(&(0..20).collect::<Vec<_>>(), &(0..20).collect::<Vec<_>>()));
    assert!(crowd.members.iter().all(|member| member.seen.len() <= 20), "nobody who is not there is shown");
    assert_eq!(offences(&crowd), BTreeMap::new());
}

#[test]
fn nobody_speaks_for_the_nodes_of_others() {
    let mut crowd = Crowd::settled(50);
    let rest: Vec<usize> = (1..50).collect();
    // Devices of the liar's own, bound to the nodes of others, say that these hear nobody.
    let devices: Vec<Account> = (0..20).map(|number| Account::new(66, 166 + number)).collect();
    for round in 0..20 {
        let at = crowd.now().wall + 1_000;
        for (device, victim) in devices.iter().zip(&rest) {
            let users =
                vec![put_on(member_id(*victim), user_frame(device, 66, at, member_key(LIAR)), device)];
            let links = vec![forged_links(member_id(*victim), at, &device.device)];
            says_to_all(&mut crowd, &Frame::Relayed(Relayed { users, links, ..Relayed::default() }));
        }
        crowd.run(SECOND);
        assert!(crowd.all_see(&rest, &rest), "shown as gone in round {round}");
    }
    assert_eq!(peers(&crowd, LIAR), Vec::<usize>::new(), "and nobody talks to the liar any more");
}

#[test]
fn made_up_nodes_that_hear_each_other_take_no_room_from_others() {
    // Host 2 is the liar, host 3 is known to host 0 by what host 1 tells, and by multicast.
    let limits = Limits { relayed_nodes: 3, ..Limits::default() };
    let accounts =
        vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![], vec![Account::new(4, 104)]];
    let mut net = Net::with_limits(accounts, limits);
    net.join(0, 1);
    net.join(0, 2);
    net.run(SECOND);
    let made_up: Vec<NodeKey> = (0..3).map(|seed| NodeKey::from_seed([0xa0 + seed; 32])).collect();
    let at = START + net.mono + 5;
    let ids: Vec<NodeId> = made_up.iter().map(NodeKey::id).chain([node_id(0)]).collect();
    let mut said = vec![links(node_key(2), at, &ids)];
    said.extend(made_up.iter().map(|key| links(key, at, &[node_id(2)])));
    for bytes in said {
        net.inject(2, 0, encode(&only_links(bytes)));
    }
    net.run(10 * SECOND);
    let far = net.user(3);
    net.peer_event(0, PeerEvent::Discovered { node: node_id(3), addresses: vec!["/memory/3".into()] });
    net.join(1, 3);
    net.run(10 * SECOND);
    assert_eq!(net.hosts[0].core.reach(&far), Reach::Live);
}

#[test]
fn nobody_puts_people_on_the_node_of_another() {
    let accounts =
        vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![], vec![Account::new(4, 104)]];
    let mut net = Net::new(accounts);
    net.join(0, 1);
    net.join(0, 2);
    net.run(SECOND);
    // As many as are remembered of one node.
    let crowd: Vec<Account> = (0..32).map(|number| Account::new(66, 200 + number)).collect();
    for account in &crowd {
        let users = vec![put_on(node_id(3), user_frame(account, 66, START, node_key(2)), account)];
        net.inject(2, 0, encode(&Frame::Relayed(Relayed { users, ..Relayed::default() })));
    }
    let far = net.user(3);
    net.peer_event(0, PeerEvent::Discovered { node: node_id(3), addresses: vec!["/memory/3".into()] });
    net.join(1, 3);
    net.run(10 * SECOND);
    assert_eq!(net.hosts[0].core.reach(&far), Reach::Live);
    assert_ne!(net.hosts[0].core.reach(&crowd[0].user), Reach::Live);
}

#[test]
fn a_flood_of_invented_names_hides_nobody_who_is_here() {
    let mut crowd = Crowd::settled(25);
    let rest: Vec<usize> = (0..25).collect();
    for round in 0..2 {
        for number in 0..1_024_u16 {
            let mut id = [0xe0 + round; 32];
            id[..2].copy_from_slice(&number.to_be_bytes());
            let addresses = vec!["/memory/nowhere".to_owned()];
            crowd.tell(0, PeerEvent::Discovered { node: NodeId::from_bytes(id), addresses });
        }
        crowd.run(20 * SECOND);
        assert!(crowd.all_see(&[0], &rest), "somebody was pushed out in round {round}");
    }
}

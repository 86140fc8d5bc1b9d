//! What is void: told to everybody at once, learnt at meetings by who was away, kept, and followed everywhere.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{AuthorityKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, Revocations, RevokedDigest, RevokedList, decode, encode};

use crate::pump::*;

fn device_void(user: u8, device: &Account) -> Verified<Revocation> {
    let key = UserKey::from_seed([user; 32]);
    let what = Revoked::Device(key.id(), device.device.id());
    Verified::sign(Revocation { what, by: RevokedBy::User, since: START }, &key, None).unwrap()
}

fn school() -> AuthorityKey {
    AuthorityKey::from_seed([9; 32])
}

fn name_void(number: u32, user: UserId) -> Verified<Revocation> {
    let address = format!("pupil{number}@school.example");
    let (what, by) = (Revoked::Name(address, user), RevokedBy::Authority(school().id()));
    Verified::sign(Revocation { what, by, since: START }, &school(), None).unwrap()
}

fn revoke(net: &mut Net, host: usize, revocation: &Verified<Revocation>) {
    net.with(host, |core, now| assert_eq!(core.add_revocation(revocation.bytes(), now), Ok(true)));
}

fn known(net: &Net, host: usize) -> usize {
    net.hosts[host].core.revocations().len()
}

/// Frames from 27 on between two hosts since the tape was cleared.
fn frames(net: &Net, from: usize, to: usize) -> Vec<Frame> {
    let between = net.tape.iter().filter(|(a, b, _)| (*a, *b) == (from, to));
    let frames = between.map(|(_, _, frame)| decode(frame).unwrap());
    frames.filter(|frame| matches!(frame, Frame::Revoked(_) | Frame::Revocations(_))).collect()
}

/// Five hosts in a row, with one user each; the user of the first has a second device, on the last.
fn row() -> Net {
    let mut accounts: Vec<Vec<Account>> = (1..=5).map(|user| vec![Account::new(user, 100 + user)]).collect();
    accounts[4].push(Account::new(1, 111));
    let mut net = Net::new(accounts);
    (0..4).for_each(|host| net.join(host, host + 1));
    net.run(10 * SECOND);
    net
}

#[test]
fn what_is_revoked_at_one_end_is_void_at_the_other_at_once() {
    let mut net = row();
    let lost = net.hosts[4].accounts[1].clone();
    assert_eq!(net.hosts[3].core.reach(&lost.user), Reach::Live, "the device on the last is there");
    net.tape.clear();
    revoke(&mut net, 0, &device_void(1, &lost));
    net.run(10);
    assert_eq!((0..5).map(|host| known(&net, host)).collect::<Vec<_>>(), vec![1; 5]);
    assert_ne!(net.hosts[3].core.reach(&lost.user), Reach::Live);
    let ended = |event: &Output| matches!(event, Output::Revoked { user } if *user == lost.user);
    assert_eq!(net.count(4, ended), 1);
    net.run(MINUTE);
    assert_eq!(net.verdicts, (1..5).map(|host| (host, Verdict::Accept)).collect::<Vec<_>>(), "told on once");
    let void = |host: usize| net.hosts[host].store.records[&lost.user].record.clone();
    assert!((0..5).all(|host| void(host) == void(0)), "and the record says so everywhere");
    for host in 0..5 {
        assert!(net.hosts[host].core.counters().offences.is_empty(), "{host}");
    }
}

#[test]
fn forged_and_oversized_news_are_not_told_on_and_their_sender_is_closed() {
    let mut net = row();
    let lost = net.hosts[4].accounts[1].clone();
    let good = device_void(1, &lost).bytes().to_vec();
    for number in 0..7u8 {
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1 + number;
        net.news_arrive(0, 1, forged);
    }
    assert_eq!(net.verdicts, vec![(1, Verdict::Reject); 7]);
    assert!(net.hosts[1].core.peers().iter().any(|peer| peer.node == node_id(0)));
    net.news_arrive(0, 1, vec![7; 2_000]);
    net.run(SECOND);
    assert_eq!(net.verdicts.len(), 8, "nobody else was told");
    assert_eq!(net.verdicts[7], (1, Verdict::Reject));
    assert!(!net.hosts[1].core.peers().iter().any(|peer| peer.node == node_id(0)), "closed");
    assert_eq!((1..5).map(|host| known(&net, host)).sum::<usize>(), 0);
}

#[test]
fn a_storm_of_strangers_is_not_kept_and_ends_with_its_sender() {
    let mut net = row();
    let storm = |number: u16| {
        let mut seed = [77; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        let key = UserKey::from_seed(seed);
        let what = Revoked::Device(key.id(), Account::new(1, 1).device.id());
        Verified::sign(Revocation { what, by: RevokedBy::User, since: START }, &key, None).unwrap()
    };
    for number in 0..600 {
        net.news_arrive(0, 1, storm(number).bytes().to_vec());
    }
    assert!(net.verdicts.iter().all(|(host, verdict)| (*host, *verdict) == (1, Verdict::Ignore)));
    assert!(!net.hosts[1].core.peers().iter().any(|peer| peer.node == node_id(0)), "closed");
    assert_eq!(net.hosts[1].core.counters().offences.get("more news than an honest node tells"), Some(&8));
    assert_eq!(known(&net, 1), 0);
    // Also by frames.
    let records = (0..200).map(|number| storm(number).bytes().to_vec()).collect();
    net.inject(2, 1, encode(&Frame::Revocations(Revocations { records, ..Revocations::default() })));
    assert_eq!((known(&net, 1), net.hosts[1].core.counters().offences.len()), (0, 1));
}

#[test]
fn who_was_away_learns_at_the_next_meeting_what_it_lacks_and_no_more() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![]]);
    for host in 0..3 {
        net.with(host, |core, now| {
            core.pin_authority("school.example", school().id(), Provenance::Enrolled, now)
        });
    }
    let user = net.user(0);
    (0..300)
        .for_each(|number| revoke(&mut net, 0, &name_void(number, UserId::from_bytes([number as u8; 32]))));
    (1..301)
        .for_each(|number| revoke(&mut net, 1, &name_void(number, UserId::from_bytes([number as u8; 32]))));
    net.join(0, 1);
    net.run(SECOND);
    assert_eq!((known(&net, 0), known(&net, 1)), (301, 301));
    let sent = [frames(&net, 0, 1), frames(&net, 1, 0)].concat();
    let records =
        sent.iter().map(|frame| if let Frame::Revocations(told) = frame { told.records.len() } else { 0 });
    assert!(records.sum::<usize>() <= 4, "not the 299 that both have");
    // The third has none, and gets all.
    net.join(1, 2);
    net.run(3 * SECOND);
    assert_eq!(known(&net, 2), 301);
    net.tape.clear();
    net.cut(1, 2);
    net.join(1, 2);
    net.run(SECOND);
    let again = [frames(&net, 1, 2), frames(&net, 2, 1)].concat();
    assert!(
        again.iter().all(|frame| matches!(frame, Frame::Revoked(digests) if digests.len() == 1)),
        "{again:?}"
    );
    assert_eq!(again.len(), 2, "two equal digests");
    net.restart(2);
    assert_eq!(known(&net, 2), 301, "kept");
    assert!(user != UserId::from_bytes([1; 32]));
}

#[test]
fn an_authority_that_is_not_pinned_is_not_heard() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    net.with(0, |core, now| core.pin_authority("school.example", school().id(), Provenance::Enrolled, now));
    let ben = net.user(1);
    revoke(&mut net, 0, &name_void(1, ben));
    net.join(0, 1);
    net.run(5 * SECOND);
    assert_eq!((known(&net, 0), known(&net, 1)), (1, 0));
    assert!(
        net.hosts[1].core.counters().offences.is_empty() && net.hosts[0].core.counters().offences.is_empty()
    );
}

#[test]
fn many_at_once_are_offered_by_digest_and_arrive_all_the_same() {
    let mut net = row();
    for host in 0..5 {
        net.with(host, |core, now| {
            core.pin_authority("school.example", school().id(), Provenance::Enrolled, now)
        });
    }
    let ben = net.user(1);
    // One name cannot be counted to the limit of a user: they are of many.
    (0..400)
        .for_each(|number| revoke(&mut net, 0, &name_void(number, UserId::from_bytes([number as u8; 32]))));
    assert!(net.hosts[0].core.user_by_name("nobody@school.example").is_none() && ben != net.user(0));
    net.run(20 * SECOND);
    assert_eq!((0..5).map(|host| known(&net, host)).collect::<Vec<_>>(), vec![400; 5]);
    let accepted = net.verdicts.iter().filter(|(host, _)| *host == 1).count();
    assert!(accepted <= 64, "{accepted} as news");
}

#[test]
fn of_a_contact_who_is_not_here_the_link_learns_nothing_but_who_knows_it_too() {
    let mut net = Net::new(vec![
        vec![Account::new(1, 101)],
        vec![Account::new(2, 102)],
        vec![Account::new(3, 103)],
        vec![Account::new(4, 104)],
    ]);
    // Host 3 has met both 0 and 1, never 2, and goes.
    net.join(0, 3);
    net.join(1, 3);
    net.run(5 * SECOND);
    net.power_off(3);
    // Until nobody tells on who was on the link then.
    net.run(60 * MINUTE);
    net.join(0, 2);
    net.join(0, 1);
    net.join(1, 2);
    net.run(MINUTE);
    let lost = net.hosts[3].accounts[0].clone();
    net.tape.clear();
    revoke(&mut net, 0, &device_void(4, &lost));
    net.run(10 * SECOND);
    assert_eq!((known(&net, 0), known(&net, 1)), (1, 1), "both know the user");
    let told = frames(&net, 0, 2);
    let shown = |frame: &Frame| matches!(frame, Frame::Revocations(told) if !told.records.is_empty());
    assert!(!told.is_empty() && !told.iter().any(shown), "{told:?}");
    assert_eq!((known(&net, 2), net.verdicts.len()), (0, 0));
}

#[test]
fn a_peer_beyond_the_link_is_spoken_to_about_those_only_who_are_there() {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102), Account::new(3, 103)], vec![]];
    let mut net = Net::new(accounts);
    let frame = |net: &Net, user: usize| {
        let account = net.hosts[1].accounts[user].clone();
        let frame = user_frame(&account, user as u8 + 2, net.now(1).wall, node_key(1));
        encode(&Frame::Records(vec![frame]))
    };
    net.join_beyond(0, 1);
    net.link(0, 1);
    net.run(100);
    let (ben, carol) = (frame(&net, 0), frame(&net, 1));
    net.inject(1, 0, carol);
    let lost = net.hosts[1].accounts[1].clone();
    net.cut(0, 1);
    revoke(&mut net, 0, &device_void(3, &lost));
    net.join_beyond(0, 1);
    net.tape.clear();
    net.link(0, 1);
    net.run(100);
    net.inject(1, 0, ben);
    net.run(5 * SECOND);
    assert_eq!(frames(&net, 0, 1), vec![], "nothing of Carol while only Ben is there");
    assert_eq!(known(&net, 1), 0);
    // Ben's other device is void: whoever is connected because of Ben is told at once.
    let other = Account::new(2, 112);
    revoke(&mut net, 0, &device_void(2, &other));
    net.run(100);
    assert_eq!(known(&net, 1), 1);
}

#[test]
fn a_void_device_gets_nothing_and_its_user_is_written_to_elsewhere() {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(2, 112)]];
    let mut net = Net::new(accounts);
    net.join(0, 1);
    net.join(0, 2);
    net.run(5 * SECOND);
    net.power_off(1);
    net.run(MINUTE);
    let (anna, ben) = (net.user(0), net.user(1));
    net.send(0, ben, 1);
    net.run(SECOND);
    assert_eq!(net.got(2, anna), vec![1]);
    assert_eq!(net.hosts[0].core.outbox().count(), 1, "a copy waits for the other device");
    let lost = net.hosts[1].accounts[0].clone();
    revoke(&mut net, 2, &device_void(2, &lost));
    net.run(SECOND);
    assert_eq!(net.hosts[0].core.outbox().count(), 0, "not any more");
    net.power_on(1);
    net.run(10 * SECOND);
    net.send(0, ben, 2);
    net.with(1, |core, now| core.send(outgoing(ben, anna, 3), now).unwrap());
    net.run(MINUTE);
    assert_eq!((net.got(2, anna), net.got(1, anna)), (vec![1, 2], vec![]));
    assert_eq!(net.got(0, ben), Vec::<u64>::new(), "nor is anything taken from it");
    assert!(net.hosts[0].core.counters().offences.is_empty(), "{:?}", net.hosts[0].core.counters().offences);
}

#[test]
fn a_record_tells_of_itself_what_is_void() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    let lost = Account::new(1, 111);
    revoke(&mut net, 0, &device_void(1, &lost));
    net.join_beyond(0, 1);
    net.link(0, 1);
    net.run(100);
    let record = net.hosts[0].store.records[&net.user(0)].record.clone();
    let binding = user_frame(&net.hosts[0].accounts[0], 1, net.now(0).wall, node_key(0)).binding;
    net.inject(0, 1, encode(&Frame::Records(vec![crosstalk_overlay::wire::UserFrame { record, binding }])));
    assert_eq!(known(&net, 1), 1);
}

#[test]
fn lists_that_ask_for_everything_are_answered_within_bounds() {
    let mut net = row();
    let lost = net.hosts[4].accounts[1].clone();
    revoke(&mut net, 0, &device_void(1, &lost));
    net.run(SECOND);
    net.tape.clear();
    let digest = RevokedDigest { scope: [1; 8], digest: [2; 8] };
    let list = RevokedList { scope: [1; 8], have: Vec::new() };
    net.inject(1, 2, encode(&Frame::Revoked(vec![digest; 4_096])));
    let lists = vec![list; 4_096];
    net.inject(1, 2, encode(&Frame::Revocations(Revocations { lists, ..Revocations::default() })));
    net.run(SECOND);
    assert_eq!(frames(&net, 2, 1), vec![], "scopes that nobody knows");
}

//! A further device joins by a code: on a link and beyond it, once, in time, and with the right code only.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::join::JoinCode;
use crosstalk_overlay::keys::UserKey;
use crosstalk_overlay::record::{Revocation, Revoked, RevokedBy, Verified};
use crosstalk_overlay::time::{MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, encode};

use crate::pump::*;

/// Host 0 has a user; hosts 1 and 2 have none.
fn net() -> Net {
    Net::new(vec![vec![Account::new(1, 101)], vec![], vec![]])
}

/// The typed and the scanned code.
fn offer(net: &mut Net) -> (String, String) {
    let user = net.user(0);
    let mut codes = None;
    net.with(0, |core, now| {
        let offered = core.offer_device(&user, b"account".to_vec(), now);
        codes = Some((offered.typed.to_string(), offered.scanned.to_string()));
    });
    codes.unwrap()
}

fn begin(net: &mut Net, host: usize, code: &str) {
    net.with(host, |core, now| core.join(7, code, now).unwrap());
}

fn ended(net: &Net, host: usize) -> Option<Result<Joined, JoinFailure>> {
    net.hosts[host].events.iter().rev().find_map(|event| match event {
        Output::Joined { ticket: 7, joined } => Some(joined.clone()),
        _ => None,
    })
}

fn got(net: &Net, host: usize) -> bool {
    let account = |joined: &Joined| joined.user == net.user(0) && joined.account.as_slice() == b"account";
    ended(net, host).is_some_and(|joined| joined.as_ref().is_ok_and(account))
}

#[test]
fn on_a_link_the_short_code_is_enough() {
    let mut net = net();
    net.join(0, 1);
    net.run(3_000);
    let (typed, _) = offer(&mut net);
    begin(&mut net, 1, &typed);
    net.run(100);
    assert!(got(&net, 1));
    assert_eq!(net.hosts[1].core.reach(&net.user(0)), Reach::Live, "the record came along");
}

/// The laptops are put on one network after the code was typed.
#[test]
fn the_other_node_may_come_later() {
    let mut net = net();
    let (typed, _) = offer(&mut net);
    begin(&mut net, 1, &typed);
    net.run(20_000);
    assert!(ended(&net, 1).is_none());
    net.join(0, 1);
    net.run(3_000);
    assert!(got(&net, 1));
}

#[test]
fn beyond_the_link_the_long_code_has_the_address() {
    let mut net = net();
    net.join_beyond(0, 1);
    net.peer_event(0, PeerEvent::Addresses(vec!["/memory/0".to_owned()]));
    let (_, scanned) = offer(&mut net);
    begin(&mut net, 1, &scanned);
    net.run(3_000);
    assert!(got(&net, 1));
    // The new device is there now: both learn of each other, and of nobody else's business.
    let second = Account::new(1, 102);
    let user = second.user;
    net.with(1, |core, now| core.add_local(second.local(), now).unwrap());
    net.run(3_000);
    for host in 0..2 {
        let devices = net.hosts[host].core.own_devices(&user);
        assert_eq!(
            (devices.len(), devices.iter().all(|device| device.here != device.live)),
            (2, true),
            "{host}"
        );
    }
}

#[test]
fn a_code_is_for_one_node_which_may_ask_again() {
    let mut net = net();
    net.join(0, 1);
    net.join(0, 2);
    net.run(3_000);
    let (typed, _) = offer(&mut net);
    for _ in 0..2 {
        begin(&mut net, 1, &typed);
        net.run(100);
        assert!(got(&net, 1));
    }
    begin(&mut net, 2, &typed);
    net.run(100);
    assert_eq!(ended(&net, 2), Some(Err(JoinFailure::Denied)));
}

#[test]
fn a_code_ends() {
    let mut net = net();
    net.join(0, 1);
    net.run(3_000);
    let (typed, _) = offer(&mut net);
    net.run(10 * MINUTE);
    begin(&mut net, 1, &typed);
    net.run(100);
    assert_eq!(ended(&net, 1), Some(Err(JoinFailure::Denied)));
    let (first, _) = offer(&mut net);
    offer(&mut net);
    begin(&mut net, 1, &first);
    net.run(100);
    assert_eq!(ended(&net, 1), Some(Err(JoinFailure::Denied)), "a new code takes the place of the former");
}

#[test]
fn who_is_not_there_is_said_so() {
    let mut net = net();
    let (typed, scanned) = offer(&mut net);
    begin(&mut net, 1, &typed);
    net.with(1, |core, now| core.join(8, &scanned, now).unwrap());
    let busy = Output::Joined { ticket: 8, joined: Err(JoinFailure::Busy) };
    assert_eq!(net.count(1, |event| format!("{event:?}") == format!("{busy:?}")), 1);
    net.run(41_000);
    assert_eq!(ended(&net, 1), Some(Err(JoinFailure::NotFound)));
    net.peer_event(1, PeerEvent::Discovered { node: node_id(0), addresses: vec!["/memory/0".to_owned()] });
    begin(&mut net, 1, &typed);
    net.run(41_000);
    assert_eq!(ended(&net, 1), Some(Err(JoinFailure::Unreachable)));
    let now = net.now(1);
    assert!(net.hosts[1].core.join(9, "ABCD", now).is_err());
}

/// Who has no code gets nothing, says it what it likes; and a proof is of no use to another node that has seen it.
#[test]
fn without_the_code_there_is_nothing() {
    let mut net = net();
    net.join(0, 1);
    net.join(0, 2);
    net.run(3_000);
    let (typed, _) = offer(&mut net);
    let code = JoinCode::parse(&typed).unwrap();
    let seen = code.proof(&node_id(1), &node_id(0));
    for proof in [[0; 32], seen] {
        net.inject(2, 0, encode(&Frame::Join { offer: code.offer(), proof }));
        net.run(100);
    }
    net.inject(2, 0, encode(&Frame::Join { offer: [0; 8], proof: [0; 32] }));
    net.run(100);
    let given = net.tape.iter().filter(|(from, to, frame)| {
        (*from, *to) == (0, 2)
            && format!("{:?}", crosstalk_overlay::wire::decode(frame)).contains("JoinAnswer")
    });
    assert_eq!(given.count(), 1, "only what is unknown is answered, with no");
    assert_eq!(net.hosts[0].core.counters().offences.values().sum::<u64>(), 2);
    begin(&mut net, 1, &typed);
    net.run(100);
    assert!(got(&net, 1), "and the right one still can");
}

/// Two laptops of one person in different networks, restarted: each finds by the hash table where the other is, and only
/// they do.
#[test]
fn devices_of_one_user_find_each_other_beyond_the_link() {
    let mut net = net();
    net.open_table();
    net.join_beyond(0, 1);
    net.join_beyond(0, 2);
    let (_, scanned) = offer(&mut net);
    begin(&mut net, 1, &scanned);
    net.run(3_000);
    let second = Account::new(1, 102);
    let user = second.user;
    net.with(1, |core, now| core.add_local(second.local(), now).unwrap());
    net.hosts[1].accounts.push(second);
    for host in 0..2 {
        net.with(host, |core, now| core.set_presence(&user, vec![session("desk")], vec![], now));
    }
    net.run(MINUTE);
    (0..2).for_each(|host| net.power_off(host));
    net.run(MINUTE);
    for host in 0..2 {
        net.power_on(host);
        net.with(host, |core, now| core.set_presence(&user, vec![session("desk")], vec![], now));
    }
    net.run(15 * MINUTE);
    for host in 0..2 {
        assert!(
            net.hosts[host].core.own_devices(&user).iter().all(|device| device.here != device.live),
            "{host}"
        );
    }
    assert_eq!(net.hosts[2].core.reach(&user), Reach::Unknown);

    // One is revoked: it keeps what it knew, and that is of no use any more.
    let known =
        |net: &Net| net.hosts[0].store.own_audiences().map(|own| own.presence.clone()).collect::<Vec<_>>();
    let before = known(&net);
    let what = Revoked::Device(user, net.hosts[1].accounts[0].device.id());
    let revocation = Revocation { what, by: RevokedBy::User, since: START };
    let revocation = Verified::sign(revocation, &UserKey::from_seed([1; 32]), None).unwrap();
    net.with(0, |core, now| assert!(core.add_revocation(revocation.bytes(), now).unwrap()));
    net.with(0, |core, now| core.set_presence(&user, vec![session("desk")], vec![], now));
    assert_ne!(known(&net), before);
    assert_eq!(net.hosts[0].core.own_devices(&user).len(), 1);
    net.with(1, |core, now| assert!(core.add_revocation(revocation.bytes(), now).unwrap()));
    assert_eq!(net.count(1, |event| matches!(event, Output::Revoked { user: lost } if *lost == user)), 1);
}

/// Anna has a second laptop; Ben, who may see her, is away.
fn away() -> (Net, UserId) {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(1, 102)], vec![Account::new(2, 103)]];
    let mut net = Net::new(accounts);
    net.open_table();
    net.join(0, 1);
    net.join(0, 2);
    net.run(10 * SECOND);
    let ben = net.user(2);
    net.with(0, |core, _| core.keep(&ben));
    shows(&mut net, &[ben]);
    net.run(MINUTE);
    net.power_off(2);
    (net, ben)
}

/// Says whom Anna lets see her.
fn shows(net: &mut Net, watchers: &[UserId]) {
    let anna = net.user(0);
    net.with(0, |core, now| core.set_presence(&anna, vec![session("desk")], watchers.to_vec(), now));
}

fn pairs(net: &Net) -> Vec<Vec<u8>> {
    net.hosts[0].store.own_audiences().map(|own| own.presence.clone()).collect()
}

fn waiting(net: &Net) -> usize {
    net.hosts[0].core.outbox().count()
}

#[test]
fn a_restart_is_no_reason_for_a_new_pair() {
    let (mut net, ben) = away();
    let before = (pairs(&net), waiting(&net));
    assert_eq!(before.0.len(), 1);
    for _ in 0..3 {
        net.restart(0);
        net.run(MINUTE);
        shows(&mut net, &[ben]);
        net.run(MINUTE);
    }
    assert_eq!((pairs(&net), waiting(&net)), before);
}

#[test]
fn of_many_pairs_the_last_one_is_told_only() {
    let (mut net, ben) = away();
    let before = pairs(&net);
    for other in 50..60 {
        shows(&mut net, &[ben, UserId::from_bytes([other; 32])]);
        shows(&mut net, &[ben]);
    }
    assert_ne!(pairs(&net), before);
    // To Ben and her other laptop the pair; to the others the tokens that they were given before they were removed.
    assert_eq!(waiting(&net), 2 + 10, "{:?}", net.hosts[0].core.outbox().collect::<Vec<_>>());
}

#[test]
fn that_somebody_loses_a_device_which_never_was_changes_nothing() {
    let (mut net, ben) = away();
    let before = (pairs(&net), waiting(&net));
    for device in 0..9 {
        let what = Revoked::Device(ben, Account::new(2, 200 + device).device.id());
        let revocation = Revocation { what, by: RevokedBy::User, since: START };
        let revocation = Verified::sign(revocation, &UserKey::from_seed([2; 32]), None).unwrap();
        net.with(0, |core, now| assert!(core.add_revocation(revocation.bytes(), now).unwrap()));
    }
    assert_eq!((pairs(&net), waiting(&net)), before);
}

/// Her node has started again and she has not logged in when a laptop of Ben is void: whoever has it knows the pair.
#[test]
fn a_pair_in_wrong_hands_is_not_used_again_after_a_restart() {
    let (mut net, ben) = away();
    let before = pairs(&net);
    net.restart(0);
    let what = Revoked::Device(ben, net.hosts[2].accounts[0].device.id());
    let revocation = Revocation { what, by: RevokedBy::User, since: START };
    let revocation = Verified::sign(revocation, &UserKey::from_seed([2; 32]), None).unwrap();
    net.with(0, |core, now| assert!(core.add_revocation(revocation.bytes(), now).unwrap()));
    shows(&mut net, &[ben]);
    assert_eq!(pairs(&net).len(), 1);
    assert_ne!(pairs(&net), before);
}

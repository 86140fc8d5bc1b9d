//! A stolen user key, and a stolen laptop: what either said counts no more, and nothing goes to whoever has it.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::UserKey;
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{HOUR, MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, decode, encode};

use crate::pump::*;

fn void(user: u8, what: impl FnOnce(UserId) -> Revoked) -> Verified<Revocation> {
    let key = UserKey::from_seed([user; 32]);
    let revocation = Revocation { what: what(key.id()), by: RevokedBy::User, since: START };
    Verified::sign(revocation, &key, None).unwrap()
}

fn revoke(net: &mut Net, host: usize, revocation: &Verified<Revocation>) {
    net.with(host, |core, now| assert_eq!(core.add_revocation(revocation.bytes(), now), Ok(true)));
}

fn alarms(net: &Net, host: usize) -> usize {
    net.count(host, |event| matches!(event, Output::Alarm(Alarm::Compromised { .. })))
}

/// The user of a host shows itself to a friend, and knows it.
fn befriend(net: &mut Net, host: usize, friend: UserId) {
    let user = net.user(host);
    net.with(host, |core, now| {
        core.keep(&friend);
        core.set_presence(&user, vec![session("desk")], vec![friend], now);
    });
}

#[test]
fn a_stolen_key_ends_its_user_everywhere_and_whoever_knows_that_user_is_warned() {
    let mut accounts: Vec<Vec<Account>> = (1..=4).map(|user| vec![Account::new(user, 100 + user)]).collect();
    accounts[3] = vec![Account::new(1, 111)];
    let mut net = Net::new(accounts);
    (0..3).for_each(|host| net.join(host, host + 1));
    let user = net.user(0);
    net.with(1, |core, _| core.keep(&user));
    net.run(10 * SECOND);
    net.send(2, user, 1);
    net.run(SECOND);
    assert_eq!(net.outcomes(2, 1), vec![Outcome::Delivered]);
    revoke(&mut net, 0, &void(1, Revoked::User));
    net.run(SECOND);
    for host in 0..4 {
        assert!(net.hosts[host].core.revocations().is_compromised(&user), "{host}");
        assert!(net.hosts[host].core.counters().offences.is_empty(), "{host}");
    }
    let ended = |event: &Output| matches!(event, Output::Revoked { user: ended } if *ended == user);
    assert_eq!([0, 3].map(|host| net.count(host, ended)), [1, 1], "on all laptops");
    assert_eq!([1, 2].map(|host| alarms(&net, host)), [1, 0], "nobody else knows that user");
    let refused = vec![Outcome::Failed(FailReason::Compromised)];
    net.send(2, user, 2);
    net.run(SECOND);
    assert_eq!(net.outcomes(2, 2), refused);
    // Whoever has the key certifies another laptop in vain, also at a node that was started anew.
    let thief = Account::new(1, 150);
    for restarted in [false, true] {
        if restarted {
            net.restart(1);
            net.run(30 * SECOND);
        }
        let frame = user_frame(&thief, 1, net.now(1).wall, node_key(0));
        net.inject(0, 1, encode(&Frame::Records(vec![frame])));
        net.run(SECOND);
        assert_ne!(net.hosts[1].core.reach(&user), Reach::Live, "{restarted}");
        net.send(1, user, 3 + u64::from(restarted));
        net.run(SECOND);
        assert_eq!(net.outcomes(1, 3 + u64::from(restarted)), refused);
    }
    assert_eq!(alarms(&net, 1), 1, "once");
}

#[test]
fn who_was_away_learns_of_a_stolen_key_from_the_hash_table_and_what_waited_fails() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    let (user, friend) = (net.user(0), net.user(1));
    net.join(0, 1);
    befriend(&mut net, 0, friend);
    befriend(&mut net, 1, user);
    net.run(MINUTE);
    net.cut(0, 1);
    net.run(MINUTE);
    net.send(1, user, 1);
    net.power_off(1);
    net.open_table();
    net.run(MINUTE);
    revoke(&mut net, 0, &void(1, Revoked::User));
    net.with(0, |core, now| core.remove_local(&user, now));
    net.run(13 * HOUR);
    net.power_on(1);
    assert_eq!(alarms(&net, 1), 0);
    befriend(&mut net, 1, user);
    net.run(MINUTE);
    assert_eq!(alarms(&net, 1), 1);
    assert_eq!(net.outcomes(1, 1), vec![Outcome::Failed(FailReason::Compromised)]);
    // It is told again, though the account is gone.
    net.table.as_mut().unwrap().clear();
    net.run(13 * HOUR);
    let key = crosstalk_overlay::dht::Key::user(&user);
    assert!(net.table.as_ref().unwrap().contains_key(&key));
}

#[test]
fn many_revocations_by_a_thief_leave_room_for_the_last_one() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)]]);
    for device in 0..64 {
        let device = crosstalk_overlay::id::DeviceId::from_bytes([device; 32]);
        revoke(&mut net, 0, &void(1, |user| Revoked::Device(user, device)));
    }
    revoke(&mut net, 0, &void(1, Revoked::User));
}

#[test]
fn nothing_goes_to_a_laptop_that_was_revoked() {
    let mut net =
        Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(2, 112)]]);
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        net.join(one, other);
    }
    let (user, friend, lost) = (net.user(0), net.user(1), net.hosts[2].accounts[0].device.id());
    befriend(&mut net, 0, friend);
    befriend(&mut net, 1, user);
    net.run(MINUTE);
    let for_it = |net: &Net| {
        let frames = net.tape.iter().filter(|(from, to, _)| (*from, *to) == (0, 2));
        let for_users = |frame: &Frame| {
            matches!(frame, Frame::Envelope(_) | Frame::Presence { .. } | Frame::Live(_) | Frame::Mail(_))
        };
        frames.filter(|(_, _, frame)| for_users(&decode(frame).unwrap())).count()
    };
    net.send(0, friend, 1);
    net.run(SECOND);
    assert!(for_it(&net) > 0 && net.got(2, user) == [1], "a laptop like any other");
    revoke(&mut net, 1, &void(2, |user| Revoked::Device(user, lost)));
    net.run(SECOND);
    for restarted in [false, true] {
        if restarted {
            net.restart(0);
        }
        net.tape.clear();
        befriend(&mut net, 0, friend);
        let number = 2 + u64::from(restarted);
        net.send(0, friend, number);
        net.run(HOUR);
        assert_eq!(for_it(&net), 0, "{restarted}");
        assert_eq!(net.outcomes(0, number), vec![Outcome::Delivered], "the other has it");
    }
    assert_eq!((net.got(1, user), net.got(2, user)), (vec![1, 2, 3], vec![1]));
}

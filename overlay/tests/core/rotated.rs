//! The key of an authority is handed over: who has pinned it follows, also who hears of it from others, after a restart, and
//! when the name by the new key comes first; what is forged or in dispute is not followed, and said.

use crosstalk_overlay::authority::certify;
use crosstalk_overlay::core::*;
use crosstalk_overlay::id::AuthorityId;
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, SECOND};
use crosstalk_overlay::wire::{Frame, encode};

use crate::pump::*;

const DOMAIN: &str = "school.example";

fn key(seed: u8) -> AuthorityKey {
    AuthorityKey::from_seed([seed; 32])
}

fn step(old: u8, new: u8) -> Verified<Rotation> {
    Rotation::issue(&key(old), &key(new), DOMAIN, START).unwrap()
}

fn pin(net: &mut Net, host: usize, seed: u8) {
    net.with(host, |core, now| core.pin_authority(DOMAIN, key(seed).id(), Provenance::Enrolled, now));
}

fn rotate(net: &mut Net, host: usize, step: &Verified<Rotation>) {
    net.with(host, |core, now| assert_eq!(core.add_rotation(step.bytes(), now), Ok(true)));
}

fn pinned(net: &Net, host: usize) -> Option<AuthorityId> {
    net.hosts[host].core.pinned_authority(DOMAIN)
}

fn alarms(net: &Net, host: usize) -> Vec<String> {
    let alarm = |event: &Output| match event {
        Output::Alarm(alarm) => Some(alarm.to_string()),
        _ => None,
    };
    net.hosts[host].events.iter().filter_map(alarm).collect()
}

/// Of users 1, 2 … one each; the first is named by that authority.
fn some(hosts: u8, named_by: u8) -> Net {
    let account = |user: u8| {
        let account = Account::new(user, 100 + user);
        let name = certify(&key(named_by), "anna@school.example", account.user, 0, START).unwrap();
        vec![if user == 1 { account.named(&name) } else { account }]
    };
    Net::new((1..=hosts).map(account).collect())
}

fn certified(net: &Net, host: usize) -> bool {
    let now = net.now(host);
    matches!(net.hosts[host].core.tier(&net.user(0), now), Tier::Certified { valid: true, .. })
}

#[test]
fn who_has_pinned_the_old_key_follows_through_others_and_keeps_that() {
    let mut net = some(4, 9);
    (0..4).for_each(|host| pin(&mut net, host, 9));
    rotate(&mut net, 0, &step(9, 10));
    rotate(&mut net, 0, &step(10, 11));
    // Each meets only the next, one after the other.
    for host in 0..3 {
        net.join(host, host + 1);
        net.run(2 * SECOND);
        net.cut(host, host + 1);
    }
    assert_eq!((0..4).map(|host| pinned(&net, host)).collect::<Vec<_>>(), vec![Some(key(11).id()); 4]);
    assert!(certified(&net, 1), "by the first key, until that ends");
    net.restart(3);
    assert_eq!(pinned(&net, 3), Some(key(11).id()));
    let told = alarms(&net, 3);
    assert!(told.iter().all(|text| text.contains("nothing is to be done")), "{told:?}");
    for host in 0..4 {
        assert!(net.hosts[host].core.counters().offences.is_empty(), "{host}");
    }
}

/// What is connected is told at once, and the name by the new key is no alarm.
#[test]
fn a_name_by_the_new_key_comes_with_what_led_to_it() {
    let mut net = some(3, 10);
    pin(&mut net, 1, 9);
    pin(&mut net, 2, 9);
    pin(&mut net, 0, 9);
    rotate(&mut net, 0, &step(9, 10));
    net.join(0, 1);
    net.run(5 * SECOND);
    assert!(certified(&net, 1));
    assert!(!alarms(&net, 1).iter().any(|text| text.contains("second authority")), "{:?}", alarms(&net, 1));
    // Beyond the link: with whoever it concerns.
    net.join(1, 2);
    net.run(2 * SECOND);
    rotate(&mut net, 0, &step(10, 11));
    net.run(SECOND);
    assert_eq!((1..3).map(|host| pinned(&net, host)).collect::<Vec<_>>(), vec![Some(key(11).id()); 2]);
}

#[test]
fn two_that_follow_are_shown_and_neither_is_believed() {
    let mut net = some(3, 10);
    (0..3).for_each(|host| pin(&mut net, host, 9));
    rotate(&mut net, 0, &step(9, 10));
    rotate(&mut net, 2, &step(9, 66));
    net.join(0, 1);
    net.run(5 * SECOND);
    assert!(certified(&net, 1) && pinned(&net, 1) == Some(key(10).id()));
    net.join(1, 2);
    net.run(5 * SECOND);
    for host in 0..3 {
        assert_eq!(pinned(&net, host), Some(key(9).id()), "{host}");
        assert_eq!(net.hosts[host].core.disputed_domains(), [DOMAIN]);
        let told = alarms(&net, host);
        assert_eq!(told.iter().filter(|text| text.contains("in other hands")).count(), 1, "{told:?}");
    }
    assert!(!certified(&net, 1));
    net.restart(1);
    assert_eq!(net.hosts[1].core.disputed_domains(), [DOMAIN], "and so it stays");
    // Until a person enrols with the one that is right.
    pin(&mut net, 1, 10);
    assert_eq!((pinned(&net, 1), net.hosts[1].core.disputed_domains().len()), (Some(key(10).id()), 0));
    net.run(SECOND);
    assert_eq!(pinned(&net, 1), Some(key(10).id()));
}

#[test]
fn what_is_forged_of_strangers_or_leads_back_is_not_followed() {
    let mut net = some(2, 9);
    pin(&mut net, 0, 9);
    let mut forged = step(9, 10).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    net.join(0, 1);
    net.run(SECOND);
    let frame = |records: Vec<Vec<u8>>| encode(&Frame::Rotations(records));
    net.inject(1, 0, frame(vec![step(7, 8).bytes().to_vec()]));
    assert!(net.hosts[0].core.counters().offences.is_empty(), "who tells that may know more domains");
    net.inject(1, 0, frame(vec![forged]));
    assert_eq!(net.hosts[0].core.counters().offences.len(), 1);
    let ahead = Rotation::issue(&key(9), &key(12), DOMAIN, net.now(0).wall + 3 * DAY).unwrap();
    net.inject(1, 0, frame(vec![ahead.bytes().to_vec()]));
    assert_eq!(pinned(&net, 0), Some(key(9).id()));
    rotate(&mut net, 0, &step(9, 10));
    net.with(0, |core, now| assert!(core.add_rotation(step(10, 9).bytes(), now).is_err()));
    net.with(0, |core, now| assert_eq!(core.add_rotation(step(9, 10).bytes(), now), Ok(false)));
    assert_eq!(pinned(&net, 0), Some(key(10).id()));
}

/// Whoever has a key that was left can make a certificate that looks old, with a serial above all others.
#[test]
fn who_has_the_left_key_draws_no_name_to_itself() {
    let name =
        |by: u8, user, serial| NameCert::issue(&key(by), "anna@school.example", user, serial, START).unwrap();
    for mallory_first in [false, true] {
        let (anna, mallory) = (Account::new(1, 101), Account::new(2, 102));
        let (of_anna, of_mallory) = (anna.user, mallory.user);
        let (anna, mallory) =
            (anna.named(&name(10, of_anna, 1)), mallory.named(&name(9, of_mallory, u64::MAX)));
        let mut net = Net::new(vec![vec![Account::new(3, 103)], vec![anna], vec![mallory]]);
        pin(&mut net, 0, 9);
        rotate(&mut net, 0, &step(9, 10));
        for host in if mallory_first { [2, 1] } else { [1, 2] } {
            net.join(0, host);
            net.run(5 * SECOND);
        }
        let (core, now) = (&net.hosts[0].core, net.now(0));
        assert_eq!(core.user_by_name("anna@school.example"), Some(of_anna), "{mallory_first}");
        assert!(matches!(core.tier(&of_anna, now), Tier::Certified { valid: true, .. }));
        assert_eq!(core.tier(&of_mallory, now), Tier::Key, "{mallory_first}");
        assert!(!core.name_of(&of_mallory).unwrap().pinned);
    }
}

//! Names that authorities give: tiers, claims, alarms, and a clock that is not believed.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::record::{NameCert, Revocation, Revoked, RevokedBy, Verified};
use crosstalk_overlay::time::{DAY, MINUTE, SECOND};

use crate::pump::*;

const ADDRESS: &str = "alice@school.example";

fn authority(seed: u8) -> AuthorityKey {
    AuthorityKey::from_seed([seed; 32])
}

fn cert(seed: u8, user: UserId, serial: u64) -> Verified<NameCert> {
    NameCert::issue(&authority(seed), ADDRESS, user, serial, START).unwrap()
}

/// Host 0 meets Alice, whose name was given by authority 1; and perhaps Mallory, who claims the same name.
fn scene(mallory: Option<Verified<NameCert>>) -> Net {
    let alice = Account::new(2, 102);
    let alice = alice.clone().named(&cert(1, alice.user, 1));
    let mut others = vec![alice];
    others.extend(mallory.map(|cert| Account::new(3, 103).named(&cert)));
    let mut net = Net::new(vec![vec![Account::new(1, 101)], others]);
    net.hosts[0].events.clear();
    net
}

fn meet(net: &mut Net) {
    net.join(0, 1);
    net.run(10);
}

fn alarms(net: &Net) -> Vec<Alarm> {
    let alarms = net.hosts[0].events.iter().filter_map(|event| match event {
        Output::Alarm(alarm) => Some(alarm.clone()),
        _ => None,
    });
    alarms.collect()
}

#[test]
fn a_name_by_an_unknown_authority_is_a_claim_at_first_sight() {
    let mut net = scene(None);
    meet(&mut net);
    let (core, alice) = (&net.hosts[0].core, net.user(1));
    let name = core.name_of(&alice).unwrap();
    assert_eq!(
        (name.address.as_str(), name.pinned, name.how),
        (ADDRESS, false, Some(Provenance::FirstSight))
    );
    assert_eq!(core.tier(&alice, net.now(0)), Tier::Key);
    assert_eq!(core.user_by_name(ADDRESS), None);
}

#[test]
fn a_pinned_authority_certifies_until_a_date() {
    let mut net = scene(None);
    meet(&mut net);
    net.with(0, |core, now| {
        core.pin_authority("school.example", authority(1).id(), Provenance::Enrolled, now)
    });
    let alice = net.user(1);
    let until = START + 400 * DAY;
    let check = |net: &Net, valid| {
        let core = &net.hosts[0].core;
        assert_eq!(core.tier(&alice, net.now(0)), Tier::Certified { until, valid });
        assert_eq!(core.user_by_name(ADDRESS), Some(alice));
        assert!(core.name_of(&alice).unwrap().pinned);
    };
    check(&net, true);
    net.cut(0, 1);
    net.restart(0);
    check(&net, true);
    net.hosts[0].skew = 401 * DAY as i64;
    check(&net, false);
    assert_eq!(net.hosts[0].core.reach(&alice), Reach::Known, "an expired name is still the same person");
}

#[test]
fn a_second_authority_for_a_known_domain_is_an_alarm_and_certifies_nothing() {
    let mallory = Account::new(3, 103).user;
    let mut net = scene(Some(cert(9, mallory, 5)));
    net.with(0, |core, now| {
        core.pin_authority("school.example", authority(1).id(), Provenance::Enrolled, now)
    });
    meet(&mut net);
    let (known, claimed) = (authority(1).id(), authority(9).id());
    let alarm = Alarm::SecondAuthority { domain: "school.example".into(), known, claimed };
    assert_eq!(alarms(&net), vec![alarm.clone()]);
    assert_eq!(net.hosts[0].core.user_by_name(ADDRESS), Some(net.user(1)));
    assert_eq!(net.hosts[0].core.tier(&mallory, net.now(0)), Tier::Key);
    net.cut(0, 1);
    meet(&mut net);
    assert_eq!(alarms(&net), vec![alarm], "told once");
}

#[test]
fn a_weaker_word_does_not_replace_a_pinned_key() {
    let mut net = scene(None);
    net.with(0, |core, now| {
        core.pin_authority("school.example", authority(1).id(), Provenance::Enrolled, now);
        core.pin_authority("school.example", authority(9).id(), Provenance::Introduced, now);
    });
    meet(&mut net);
    assert_eq!(net.hosts[0].core.user_by_name(ADDRESS), Some(net.user(1)));
    assert_eq!(alarms(&net).len(), 1);
}

#[test]
fn a_name_that_moves_by_a_higher_serial_is_told_and_by_a_lower_one_does_not_move() {
    for (serial, moves) in [(2, true), (0, false)] {
        let (alice, other) = (Account::new(2, 102), Account::new(3, 103));
        let (from, to) = (alice.user, other.user);
        let (alice, other) = (alice.named(&cert(1, from, 1)), other.named(&cert(1, to, serial)));
        let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![alice], vec![other]]);
        net.with(0, |core, now| {
            core.pin_authority("school.example", authority(1).id(), Provenance::Enrolled, now)
        });
        meet(&mut net);
        net.join(0, 2);
        net.run(10);
        let moved = Alarm::NameMoved { address: ADDRESS.into(), from, to };
        assert_eq!(alarms(&net), if moves { vec![moved] } else { vec![] });
        assert_eq!(net.hosts[0].core.user_by_name(ADDRESS), Some(if moves { to } else { from }));
    }
}

#[test]
fn an_authority_takes_back_its_own_names_only() {
    let mut net = scene(None);
    meet(&mut net);
    net.with(0, |core, now| {
        core.pin_authority("school.example", authority(1).id(), Provenance::Enrolled, now)
    });
    let alice = net.user(1);
    let revoke = |seed: u8| {
        let (what, by) = (Revoked::Name(ADDRESS.into(), alice), RevokedBy::Authority(authority(seed).id()));
        Verified::sign(Revocation { what, by, since: START }, &authority(seed), None).unwrap()
    };
    net.with(0, |core, now| {
        assert!(core.add_revocation(revoke(9).bytes(), now).is_err());
        assert_eq!(core.add_revocation(revoke(1).bytes(), now), Ok(true));
        assert_eq!(core.add_revocation(revoke(1).bytes(), now), Ok(false));
    });
    assert_eq!(net.hosts[0].core.tier(&alice, net.now(0)), Tier::Key);
    assert_eq!(net.hosts[0].core.user_by_name(ADDRESS), None);
}

#[test]
fn a_clock_that_is_not_set_is_told_and_people_can_talk_all_the_same() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    net.hosts[0].skew = -(10_000 * DAY as i64);
    net.restart(0);
    meet(&mut net);
    let (anna, ben) = (net.user(0), net.user(1));
    assert!(alarms(&net).contains(&Alarm::ClockNotCredible));
    net.send(0, ben, 1);
    net.send(1, anna, 2);
    net.run(MINUTE);
    assert_eq!(net.got(1, anna), vec![1], "from the wrong clock");
    assert_eq!(net.got(0, ben), vec![2], "to the wrong clock");
    net.hosts[0].skew = 0;
    net.run(61 * MINUTE);
    assert_eq!(alarms(&net).last(), Some(&Alarm::ClockCredible));
}

#[test]
fn one_wrong_clock_among_good_ones_is_corrected_and_nobody_refuses_its_records() {
    for days in [-10_000i64, 1_000] {
        let accounts = (1..=4).map(|index| vec![Account::new(index, 100 + index)]).collect();
        let mut net = Net::new(accounts);
        for (a, b) in [(1, 2), (1, 3), (2, 3)] {
            net.join(a, b);
        }
        net.hosts[0].skew = days * DAY as i64;
        net.restart(0);
        let (wrong, good) = (net.user(0), net.user(1));
        net.with(0, |core, now| core.set_link_presence(&wrong, Some(link_status("wrong")), now));
        for other in 1..4 {
            net.join(0, other);
        }
        net.run(2 * MINUTE);
        assert!(
            !net.hosts[0].core.clock().credible(net.now(0)) && net.hosts[1].core.clock().credible(net.now(1))
        );
        assert_eq!(net.hosts[1].core.reach(&wrong), Reach::Live, "{days}");
        let seen = net.count(1, |event| matches!(event, Output::LinkPresence(shown) if shown.user == wrong));
        assert_eq!(seen, 1, "{days}");
        net.send(0, good, 1);
        net.run(SECOND);
        assert_eq!(net.got(1, wrong), vec![1], "{days}");
        for host in 0..4 {
            assert!(net.hosts[host].core.counters().offences.is_empty());
        }
    }
}

#[test]
fn a_certificate_of_another_user_is_no_account() {
    let (mut mine, other) = (Account::new(1, 101), Account::new(2, 102));
    mine.cert = other.cert.clone();
    let mut net = Net::new(vec![vec![]]);
    net.with(0, |core, now| assert!(core.add_local(mine.local(), now).is_err()));
    net.run(SECOND);
    assert_eq!(net.hosts[0].core.reach(&mine.user), Reach::Unknown);
}

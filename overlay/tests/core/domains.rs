//! Domains of others: introduced by the authority of one's own, seen first, or told by a person; what conflicts is an alarm.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::AuthorityId;
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, HOUR, SECOND};

use crate::pump::*;

const SCHOOL: &str = "school.example";
const OFFICE: &str = "office.example";
const CLUB: &str = "club.example";

fn key(seed: u8) -> AuthorityKey {
    AuthorityKey::from_seed([seed; 32])
}

fn id(seed: u8) -> AuthorityId {
    key(seed).id()
}

/// By the school, whose key is 1.
fn says(domain: &str, of: Option<u8>, serial: u64) -> Vec<u8> {
    by((1, SCHOOL), domain, of, serial)
}

fn by((seed, school): (u8, &str), domain: &str, of: Option<u8>, serial: u64) -> Vec<u8> {
    let said = Introduction::issue(&key(seed), school, (domain, of.map(id)), serial, START).unwrap();
    said.bytes().to_vec()
}

/// A laptop of the school, and somebody of the office, whose key is 8.
fn scene() -> Net {
    let bob = Account::new(2, 102);
    let name = NameCert::issue(&key(8), "bob@office.example", bob.user, 1, START).unwrap();
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![bob.named(&name)]]);
    net.with(0, |core, now| core.pin_authority(SCHOOL, id(1), Provenance::Enrolled, now));
    net
}

fn hear(net: &mut Net, said: &[u8]) -> Result<bool, Refusal> {
    let mut heard = Ok(false);
    net.with(0, |core, now| heard = core.add_introduction(said, now));
    heard
}

fn how(net: &Net, domain: &str) -> Option<(AuthorityId, Provenance)> {
    let known = net.hosts[0].core.known_domains();
    known.into_iter().find(|known| known.domain == domain).map(|known| (known.key, known.how))
}

fn certified(net: &Net) -> bool {
    matches!(net.hosts[0].core.tier(&net.user(1), net.now(0)), Tier::Certified { valid: true, .. })
}

fn alarms(net: &Net) -> Vec<Alarm> {
    let alarms = net.hosts[0].events.iter().filter_map(|event| match event {
        Output::Alarm(alarm) => Some(alarm.clone()),
        _ => None,
    });
    alarms.collect()
}

#[test]
fn who_is_enrolled_believes_whom_its_authority_introduces_until_that_is_taken_back() {
    let mut net = scene();
    net.join(0, 1);
    net.run(10 * SECOND);
    assert_eq!((how(&net, OFFICE), certified(&net)), (Some((id(8), Provenance::FirstSight)), false));
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    let check = |net: &Net| {
        assert_eq!(how(net, OFFICE), Some((id(8), Provenance::Introduced)));
        assert!(certified(net) && net.hosts[0].core.is_domain_of_names(OFFICE));
        assert_eq!(net.hosts[0].core.introducers(OFFICE), [SCHOOL]);
        assert_eq!(net.hosts[0].core.introduced_until(SCHOOL), 5);
    };
    check(&net);
    net.cut(0, 1);
    net.restart(0);
    check(&net);
    assert_eq!(net.hosts[0].core.name_of(&net.user(1)).unwrap().how, Some(Provenance::Introduced));
    assert_eq!(hear(&mut net, &says(OFFICE, None, 5)), Ok(false), "one of that serial was heard");
    assert!(certified(&net));
    assert_eq!(hear(&mut net, &says(OFFICE, None, 6)), Ok(true));
    assert_eq!((how(&net, OFFICE), certified(&net)), (Some((id(8), Provenance::FirstSight)), false));
    let told = Alarm::NotIntroduced { domain: OFFICE.into(), key: id(8) };
    assert_eq!(alarms(&net), vec![told]);
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(false), "replayed");
    assert!(!certified(&net));
    net.restart(0);
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(false), "replayed after a restart");
}

#[test]
fn nobody_introduces_but_the_authority_of_ones_own_domain() {
    let mut net = scene();
    let strangers = [
        by((7, SCHOOL), OFFICE, Some(8), 5),
        by((8, OFFICE), CLUB, Some(9), 5),
        by((7, "nowhere.example"), OFFICE, Some(8), 5),
    ];
    for said in &strangers {
        assert!(hear(&mut net, said).is_err());
    }
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    assert!(hear(&mut net, &strangers[1]).is_err(), "whom it introduces introduces nobody");
    let mut forged = says(CLUB, Some(9), 6);
    *forged.last_mut().unwrap() ^= 1;
    assert!(hear(&mut net, &forged).is_err());
    assert_eq!(how(&net, CLUB), None);
    // A key that the school has left says nothing new.
    let left = Rotation::issue(&key(1), &key(2), SCHOOL, START - 3 * DAY).unwrap();
    net.with(0, |core, now| assert_eq!(core.add_rotation(left.bytes(), now), Ok(true)));
    assert!(hear(&mut net, &says(CLUB, Some(9), 6)).is_err());
    assert_eq!(hear(&mut net, &by((2, SCHOOL), CLUB, Some(9), 6)), Ok(true));
}

#[test]
fn a_key_that_conflicts_is_an_alarm_and_the_better_word_counts() {
    let conflict = |claimed: u8, known: u8| Alarm::SecondAuthority {
        domain: OFFICE.into(),
        known: id(known),
        claimed: id(claimed),
    };
    for (before, after) in [
        (Provenance::FirstSight, (id(9), Provenance::Introduced)),
        (Provenance::WellKnown, (id(9), Provenance::Introduced)),
        (Provenance::ByHand, (id(8), Provenance::ByHand)),
        (Provenance::Enrolled, (id(8), Provenance::Enrolled)),
    ] {
        let mut net = scene();
        net.with(0, |core, now| core.pin_authority(OFFICE, id(8), before, now));
        assert_eq!(hear(&mut net, &says(OFFICE, Some(9), 5)), Ok(true));
        assert_eq!((how(&net, OFFICE), alarms(&net)), (Some(after), vec![conflict(9, 8)]), "{before:?}");
    }
    // The same domain says otherwise than before; and another one does.
    let mut net = scene();
    net.with(0, |core, now| core.pin_authority(CLUB, id(3), Provenance::Enrolled, now));
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    assert_eq!(hear(&mut net, &says(OFFICE, Some(9), 6)), Ok(true));
    assert_eq!((how(&net, OFFICE), alarms(&net).len()), (Some((id(9), Provenance::Introduced)), 1));
    assert_eq!(hear(&mut net, &by((3, CLUB), OFFICE, Some(8), 5)), Ok(true));
    assert_eq!((how(&net, OFFICE), alarms(&net).len()), (Some((id(9), Provenance::Introduced)), 2));
    let shown = net.hosts[0].core.known_domains().into_iter().find(|known| known.domain == OFFICE).unwrap();
    assert_eq!(shown.claimed, [id(8)]);
    // A person decides, and nothing that others say changes it.
    net.with(0, |core, now| core.pin_authority(OFFICE, id(8), Provenance::ByHand, now));
    assert_eq!(hear(&mut net, &says(OFFICE, Some(9), 7)), Ok(true));
    assert_eq!(how(&net, OFFICE), Some((id(8), Provenance::ByHand)));
}

/// What was fetched once is not replaced by what is fetched later: whoever stands between for a moment wins nothing.
#[test]
fn the_web_server_confirms_what_was_seen_and_replaces_nothing() {
    let mut net = scene();
    net.join(0, 1);
    net.run(10 * SECOND);
    net.with(0, |core, now| core.pin_authority(OFFICE, id(8), Provenance::WellKnown, now));
    assert!(certified(&net) && alarms(&net).is_empty());
    net.with(0, |core, now| core.pin_authority(OFFICE, id(9), Provenance::WellKnown, now));
    assert_eq!((how(&net, OFFICE), alarms(&net).len()), (Some((id(8), Provenance::WellKnown)), 1));
}

#[test]
fn an_introduction_ends_and_its_rotations_are_followed() {
    let mut net = scene();
    net.join(0, 1);
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    let step = Rotation::issue(&key(8), &key(9), OFFICE, START).unwrap();
    net.with(0, |core, now| assert_eq!(core.add_rotation(step.bytes(), now), Ok(true)));
    net.run(HOUR);
    assert_eq!((how(&net, OFFICE), certified(&net)), (Some((id(9), Provenance::Introduced)), true));
    net.cut(0, 1);
    net.hosts[0].skew = 402 * DAY as i64 - 3 * HOUR as i64;
    net.restart(0);
    net.run(HOUR);
    assert_eq!(how(&net, OFFICE), Some((id(9), Provenance::Introduced)), "clocks differ by two days");
    net.hosts[0].skew += 2 * HOUR as i64;
    net.restart(0);
    net.run(2 * HOUR);
    assert_eq!(how(&net, OFFICE), Some((id(9), Provenance::FirstSight)));
}

#[test]
fn what_is_forgotten_is_told_again() {
    let mut net = scene();
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    net.with(0, |core, now| assert!(core.forget_domain(OFFICE, now) && !core.forget_domain(OFFICE, now)));
    net.restart(0);
    assert_eq!((how(&net, OFFICE), net.hosts[0].core.introduced_until(SCHOOL)), (None, 0));
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    assert_eq!(how(&net, OFFICE), Some((id(8), Provenance::Introduced)));
}

/// Otherwise whoever is introduced could end laptops of domains that have nothing to do with it.
#[test]
fn whoever_is_introduced_ends_no_device_of_users_whom_it_has_not_named() {
    let mut net = scene();
    assert_eq!(hear(&mut net, &says(OFFICE, Some(8), 5)), Ok(true));
    let stranger = Account::new(5, 105);
    let void = |seed: u8| {
        let (what, by) =
            (Revoked::Device(stranger.user, stranger.device.id()), RevokedBy::Authority(id(seed)));
        Verified::sign(Revocation { what, by, since: START }, &key(seed), None).unwrap()
    };
    net.with(0, |core, now| {
        assert!(core.add_revocation(void(8).bytes(), now).is_err());
        assert_eq!(core.add_revocation(void(1).bytes(), now), Ok(true));
    });
}

/// What was only seen makes room for an introduction; where nothing can, the same word counts when it comes again.
#[test]
fn an_introduction_without_room_is_taken_once_there_is_some() {
    let bob = Account::new(2, 102);
    let name = NameCert::issue(&key(8), "bob@office.example", bob.user, 1, START).unwrap();
    let limits = Limits { authorities: 2, ..Limits::default() };
    let mut net = Net::with_limits(vec![vec![Account::new(1, 101)], vec![bob.named(&name)]], limits);
    net.with(0, |core, now| core.pin_authority(SCHOOL, id(1), Provenance::Enrolled, now));
    net.join(0, 1);
    net.run(SECOND);
    assert_eq!(how(&net, OFFICE), Some((id(8), Provenance::FirstSight)));
    assert_eq!(hear(&mut net, &says(CLUB, Some(9), 5)), Ok(true));
    assert_eq!((how(&net, OFFICE), how(&net, CLUB)), (None, Some((id(9), Provenance::Introduced))));
    // Both that are known count, so nobody makes room for a third.
    let third = says("town.example", Some(7), 6);
    assert_eq!(hear(&mut net, &third), Ok(false));
    net.with(0, |core, now| assert!(core.forget_domain(CLUB, now)));
    assert_eq!(hear(&mut net, &third), Ok(true), "it had not been heard");
    assert_eq!(how(&net, "town.example"), Some((id(7), Provenance::Introduced)));
}

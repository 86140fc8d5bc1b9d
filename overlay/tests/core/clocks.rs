//! Clocks that are or were wrong: what was stored meanwhile stops nobody, and no peer drives our clock to nonsense.

use crosstalk_overlay::core::*;
use crosstalk_overlay::keys::{AuthorityKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, Hlc, MAX_SKEW, SECOND};

use crate::pump::*;

/// Host 1 is played by the test.
fn scene() -> Net {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![]]);
    net.join(0, 1);
    net.run(10 * SECOND);
    net
}

fn request(
    from: &Account,
    seed: u8,
    to: crosstalk_overlay::id::UserId,
    millis: u64,
) -> Verified<ContactRecord> {
    let cert = DeviceCert::issue(&UserKey::from_seed([seed; 32]), from.device.id(), START).unwrap();
    let at = Hlc { millis, counter: 0 };
    let record = ContactRecord {
        from: from.user,
        to,
        device: from.device.id(),
        side: Side::Watcher,
        says: Says::Request,
        at,
    };
    Verified::sign(record, &from.device, Some(&cert)).unwrap()
}

#[test]
fn an_account_made_while_the_clock_was_ahead_starts_after_it_was_put_right() {
    let mut account = Account::new(1, 101);
    let user = UserKey::from_seed([1; 32]);
    let made = START + 30 * DAY;
    let cert = DeviceCert::issue(&user, account.device.id(), made).unwrap();
    account.cert = cert.bytes().to_vec();
    let authority = AuthorityKey::from_seed([3; 32]);
    let name = NameCert {
        user: user.id(),
        address: "anna@school.example".into(),
        authority: authority.id(),
        serial: 1,
        issued: made,
        expires: made + DAY,
    };
    account = account.named(&Verified::sign(name, &authority, None).unwrap());
    let mut net = Net::new(vec![vec![], vec![Account::new(2, 102)]]);
    net.hosts[0].accounts = vec![account];
    net.hosts[0].skew = 30 * DAY as i64;
    net.restart(0);
    net.run(SECOND);
    assert_eq!(net.hosts[0].store.records.len(), 1);
    net.hosts[0].skew = 0;
    // The pump unwraps what `add_local` says.
    net.restart(0);
    net.with(0, |core, now| {
        core.pin_authority("school.example", authority.id(), Provenance::Enrolled, now);
        assert!(core.clock().credible(now), "a name made by a wrong clock does not raise the floor");
    });
    assert!(net.hosts[0].core.counters().dropped.is_empty(), "{:?}", net.hosts[0].core.counters());
}

#[test]
fn a_stored_contact_record_of_the_far_future_is_read_and_does_not_drive_the_clock() {
    let mut net = scene();
    let anna = net.user(0);
    let (ben, carl) = (Account::new(2, 102), Account::new(3, 103));
    let far = request(&ben, 2, anna, 250_000_000_000_000);
    let near = request(&carl, 3, anna, START + DAY);
    net.with(0, |core, now| {
        let refused = Err(Refusal::TooFarAhead { kind: "contact" });
        assert_eq!(core.verify_contact(far.bytes(), now).map(drop), refused);
        assert_eq!(core.reread_contact(far.bytes(), now), Ok(far));
        assert!(core.tick(now).millis < START + DAY);
        assert_eq!(core.reread_contact(near.bytes(), now), Ok(near.clone()));
        assert!(core.tick(now) > near.at, "an answer is later than the question");
        let mut forged = near.bytes().to_vec();
        forged[10] ^= 1;
        assert!(core.reread_contact(&forged, now).is_err());
    });
}

#[test]
fn a_peer_alone_does_not_make_everything_believable() {
    let mut net = scene();
    let (anna, ben) = (net.user(0), Account::new(2, 102));
    let wall = START + 300 * DAY;
    net.inject(1, 0, hello(99, wall));
    net.with(0, |core, now| {
        assert!(!core.clock().credible(now), "one of one differs");
        let latest = wall + MAX_SKEW;
        assert!(core.verify_contact(request(&ben, 2, anna, latest).bytes(), now).is_ok());
        assert!(core.verify_contact(request(&ben, 2, anna, latest + DAY).bytes(), now).is_err());
    });
}

#[test]
fn a_peer_whose_clock_is_nonsense_is_not_asked() {
    let mut net = scene();
    let anna = net.user(0);
    net.with(0, |core, now| {
        core.set_link_presence(&anna, Some(link_status("anna")), now);
        core.set_presence(&anna, vec![session("desk")], vec![], now);
    });
    for (session, wall) in [(97, 0), (98, 1 << 44), (99, u64::MAX)] {
        net.inject(1, 0, hello(session, wall));
        net.run(SECOND);
        assert!(net.hosts[0].core.clock().credible(net.now(0)), "{wall}");
    }
    assert!(net.hosts[0].core.own_presence(&anna).unwrap().at.millis < START + DAY);
}

#[test]
fn two_nodes_without_a_clock_whose_floors_differ_can_talk() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    for host in 0..2 {
        net.hosts[host].skew = -(15_000 * DAY as i64);
    }
    net.hosts[1].store.time_floor = START + 700 * DAY;
    net.restart(0);
    net.restart(1);
    net.join(0, 1);
    net.run(10 * SECOND);
    let (anna, ben) = (net.user(0), net.user(1));
    net.send(0, ben, 1);
    net.send(1, anna, 2);
    net.run(SECOND);
    assert_eq!((net.got(1, anna), net.got(0, ben)), (vec![1], vec![2]));
}

#[test]
fn a_local_clock_at_its_end_breaks_nothing() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![]]);
    net.hosts[0].skew = i64::MAX;
    net.restart(0);
    let anna = net.user(0);
    net.with(0, |core, mut now| {
        now.wall = u64::MAX;
        core.set_link_presence(&anna, Some(link_status("anna")), now);
        core.set_presence(&anna, vec![session("desk")], vec![], now);
        core.send(outgoing(anna, Account::new(2, 102).user, 1), now).unwrap();
        core.handle_timeout(crosstalk_overlay::time::Now { mono: now.mono + 8 * DAY, ..now });
    });
}

//! A lost laptop as the server sees it: revoked by its user from another laptop, or by whoever runs the server.

use crosstalk_overlay::enrol::{self, Answer as Said, Ask, Why};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::{
    Context, DeviceCert, DeviceInfo, NoCertificates, Revocation, RevocationSet, Revoked, RevokedBy,
    SealingPublic, Unverified, UserRecord, Verified,
};
use crosstalk_overlay::time::{DAY, Hlc, TrustedTime};

use super::{ALICE, Stage, begin, key, say, why};
use crate::authority::{Answer, DeviceView, Question};
use crate::event_loop::clock::wall_millis;

/// A device of the user of that seed, as its record tells it.
pub(in crate::authority) fn record(user: u8, device: u8) -> UserRecord {
    let (user, device) = (UserKey::from_seed([user; 32]), DeviceKey::from_seed([device; 32]));
    let now = wall_millis();
    let cert = DeviceCert::issue(&user, device.id(), now).expect("signed");
    let sealing = SealingKey::from_seed([9; 32], now);
    let info = DeviceInfo {
        user: user.id(),
        device: device.id(),
        sealing: vec![SealingPublic { public: sealing.public(), created: now }],
        epoch: 1,
        at: Hlc { millis: now, counter: 0 },
        expires: now + 7 * DAY,
        mailboxes: Vec::new(),
    };
    let info = Verified::sign(info, &device, None).expect("signed");
    UserRecord::new(cert, info, None).expect("a record")
}

fn revoked(user: u8, device: u8) -> Verified<Revocation> {
    let (key, device) = (UserKey::from_seed([user; 32]), DeviceKey::from_seed([device; 32]));
    let what = Revoked::Device(key.id(), device.id());
    Verified::sign(Revocation { what, by: RevokedBy::User, since: wall_millis() }, &key, None)
        .expect("signed")
}

/// What the authority says to be void, of what it gives the overlay.
fn void(bytes: &[u8]) -> Revoked {
    let none = RevocationSet::default();
    let time = TrustedTime::certain(wall_millis());
    let context = Context { time, certificates: &NoCertificates, revocations: &none, enforce_end: true };
    let revocation =
        Unverified::<Revocation>::parse(bytes).and_then(|one| one.verify(&context)).expect("signed");
    assert_eq!(revocation.by, RevokedBy::Authority(key().id()));
    revocation.what.clone()
}

pub(in crate::authority) fn tells(
    stage: &mut Stage,
    laptop: &NodeKey,
    session: u64,
    record: &UserRecord,
) -> Said {
    say(stage, laptop, &Ask::Tell(enrol::Tell { session, statements: Vec::new(), record: record.encode() }))
}

fn session(said: &Said) -> u64 {
    let Said::Begun(begun) = said else { panic!("{said:?}") };
    begun.session
}

fn views(stage: &mut Stage) -> Vec<DeviceView> {
    match stage.office.answer(Question::Devices { name: "alice".into() }) {
        Answer::Devices(views) => views,
        other => panic!("{other:?}"),
    }
}

/// `begin` certifies the device of seed 0x80 | user.
#[test]
fn what_a_laptop_revokes_the_authority_revokes_too() {
    let (kept, lost) = (NodeKey::from_seed([5; 32]), NodeKey::from_seed([6; 32]));
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let of_lost = super::begin_as(3, 0x70, ALICE, &lost);
    let lost_session = session(&say(&mut stage, &lost, &of_lost));
    let kept_session = session(&say(&mut stage, &kept, &begin(3, ALICE, &kept)));
    let mut both = record(3, 0x83);
    both.merge(&record(3, 0x70));
    tells(&mut stage, &kept, kept_session, &both);
    assert!(stage.office.take_news().is_empty());
    assert_eq!(views(&mut stage).len(), 2);
    both.add_revocation(revoked(3, 0x70));
    assert!(matches!(tells(&mut stage, &kept, kept_session, &both), Said::Statements(_)));
    let news = stage.office.take_news();
    let expected = Revoked::Device(UserKey::from_seed([3; 32]).id(), DeviceKey::from_seed([0x70; 32]).id());
    assert_eq!(news.iter().map(|one| void(one)).collect::<Vec<_>>(), [expected]);
    // Once: not again by what is told next, nor after a restart.
    tells(&mut stage, &kept, kept_session, &both);
    assert!(stage.office.take_news().is_empty());
    let compare = |session| Ask::Compare(enrol::Compare { session, buckets: vec![0] });
    assert_eq!(why(&say(&mut stage, &lost, &compare(lost_session))), Why::Forgotten);
    let mut stage = stage.again();
    assert_eq!(why(&say(&mut stage, &lost, &of_lost)), Why::Revoked);
    session(&say(&mut stage, &kept, &begin(3, ALICE, &kept)));
    assert!(stage.office.take_news().is_empty());
    let revoked: Vec<bool> = views(&mut stage).iter().map(|view| view.revoked).collect();
    assert_eq!(revoked, [false, true], "shown, also when the record has it no more");
    assert!(stage.told().contains(&("device revoked".to_owned(), "alice".to_owned())));
}

#[test]
fn whoever_runs_the_server_ends_a_laptop_whose_user_has_no_other() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let number = session(&say(&mut stage, &laptop, &begin(3, ALICE, &laptop)));
    tells(&mut stage, &laptop, number, &record(3, 0x83));
    let device = DeviceKey::from_seed([0x83; 32]).id().to_hex();
    let revoke =
        |name: &str, device: &str| Question::RevokeDevice { name: name.into(), device: device.into() };
    for (name, said) in [("alice", &device[..3]), ("alice", "ffffffff"), ("bob", &device[..8])] {
        assert!(stage.no(revoke(name, said)).contains("user devices"), "{name} {said}");
    }
    let signed = stage.done(revoke("alice", &device[..8]));
    assert_eq!(signed.len(), 1);
    assert!(matches!(void(&signed[0]), Revoked::Device(..)));
    assert_eq!(why(&say(&mut stage, &laptop, &begin(3, ALICE, &laptop))), Why::Revoked);
    assert!(stage.done(revoke("alice", &device[..8])).is_empty(), "once");
}

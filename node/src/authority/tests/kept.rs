//! What the server keeps of a user when there is more than it may have, and when the user is no more.

use crosstalk_overlay::enrol::{self, Answer as Said, Ask, Statement, Statements, Why};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{DeviceKey, NodeKey, UserKey};
use crosstalk_overlay::record::{DeviceCert, Verified};
use crosstalk_storage::tree::authority::Said as StoredSaid;
use sha2::{Digest as _, Sha256};

use super::{ALICE, DAY, Stage, begin_as, say, why};
use crate::authority::Question;
use crate::authority::database::Change;
use crate::event_loop::clock::wall_millis;

fn alice() -> UserId {
    UserKey::from_seed([3; 32]).id()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag], varint(content.len() as u64).as_slice(), content].concat()
}

/// That somebody is blocked, since then.
fn block(number: u8, at: u64) -> Vec<u8> {
    let edit = field(0x12, &[&[8][..], &varint(at)].concat());
    let blocked = [&[8][..], &varint(at), &edit].concat();
    let jid = format!("e{number}@far.example");
    let block = [field(0x0a, jid.as_bytes()), field(0x12, &blocked)].concat();
    [vec![8, 1], field(0x1a, &block)].concat()
}

/// A device of alice on a node, with its session.
fn comes(stage: &mut Stage, device: u8) -> (NodeKey, u64) {
    let laptop = NodeKey::from_seed([device; 32]);
    match say(stage, &laptop, &begin_as(3, device, ALICE, &laptop)) {
        Said::Begun(begun) => (laptop, begun.session),
        other => panic!("{device}: {other:?}"),
    }
}

fn tells(stage: &mut Stage, device: u8, said: Vec<u8>) -> Said {
    let (laptop, session) = comes(stage, device);
    let statements = vec![Statement::sign(&alice(), said, &DeviceKey::from_seed([device; 32]))];
    say(stage, &laptop, &Ask::Tell(enrol::Tell { session, statements, record: Vec::new() }))
}

/// All that it hands out, page by page.
fn gives(stage: &mut Stage) -> usize {
    let (laptop, session) = comes(stage, 200);
    let buckets = (0..=255).collect();
    let Said::Compared(compared) = say(stage, &laptop, &Ask::Compare(enrol::Compare { session, buckets }))
    else {
        panic!("not compared")
    };
    let (mut marks, mut given) = (&compared.marks[..], 0);
    while !marks.is_empty() {
        let fetch = Ask::Fetch(enrol::Fetch { session, marks: marks.to_vec() });
        let Said::Statements(page) = say(stage, &laptop, &fetch) else { panic!("not fetched") };
        given += page.statements.len();
        marks = &marks[enrol::MARK * usize::try_from(page.marks).expect("few")..];
    }
    given
}

/// A device whose word nobody could verify without its certificate keeps that.
#[test]
fn of_many_devices_none_that_has_something_to_say_is_forgotten() {
    let now = wall_millis();
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    for device in 1..=80 {
        assert!(matches!(tells(&mut stage, device, block(device, now)), Said::Statements(_)), "{device}");
    }
    assert_eq!(gives(&mut stage), 80);
    // Others have been lost since, as many as there may be: each has said something.
    fill(&mut stage);
    assert_eq!(why(&tells(&mut stage, 81, block(81, now))), Why::Full);
    assert_eq!(gives(&mut stage), 256, "nothing was lost");
    // What the first has said another says better: the first gives way.
    assert!(matches!(tells(&mut stage, 2, block(1, now + 1)), Said::Statements(_)));
    assert!(matches!(tells(&mut stage, 81, block(81, now)), Said::Statements(_)));
    assert_eq!(gives(&mut stage), 257);
}

/// Up to as many devices as there may be of a user, whom nobody has ever seen again.
fn fill(stage: &mut Stage) {
    let mut owner = stage.office.database.owner(&alice()).expect("read");
    let mut change = Change::default();
    for number in owner.certificates.len()..256 {
        let mut seed = [77; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let key = DeviceKey::from_seed(seed);
        let cert = DeviceCert { user: alice(), device: key.id(), issued: 1, expires: 2 };
        let cert = Verified::sign(cert, &UserKey::from_seed([3; 32]), None).expect("signs");
        owner.certificates.push(cert.bytes().to_vec());
        let said = [
            vec![8, 1],
            field(0x1a, &{
                let blocked = [&[8][..], &varint(1), &field(0x12, &[8, 1])].concat();
                [field(0x0a, format!("f{number}@far.example").as_bytes()), field(0x12, &blocked)].concat()
            }),
        ]
        .concat();
        let place = Sha256::digest(format!("bf{number}@far.example"))[..16].try_into().expect("16 bytes");
        let statements = vec![Statement::sign(&alice(), said, &key)];
        change = change.said(&alice(), &place, StoredSaid { statements });
    }
    owner.changes += 1;
    stage.office.database.commit(change.owner(&alice(), owner)).expect("written");
}

/// A laptop that is newer than the server says something that the server does not understand: it is left out, counted and said, and the
/// rest is taken; what another has signed is taken for no reason.
#[test]
fn what_is_not_understood_is_left_out_and_the_rest_is_taken() {
    let now = wall_millis();
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let tell = |stage: &mut Stage, said: Vec<(Vec<u8>, u8)>| {
        let (laptop, session) = comes(stage, 1);
        let signed =
            |(said, by): (Vec<u8>, u8)| Statement::sign(&alice(), said, &DeviceKey::from_seed([by; 32]));
        let statements = said.into_iter().map(signed).collect();
        say(stage, &laptop, &Ask::Tell(enrol::Tell { session, statements, record: Vec::new() }))
    };
    // A field of tomorrow, and a thing of today.
    let tomorrow = [vec![8, 1], field(0x7a, b"what was not thought of")].concat();
    match tell(&mut stage, vec![(tomorrow, 1), (block(1, now), 1)]) {
        Said::Statements(page) => assert_eq!((page.unread, page.full, page.ahead), (1, 0, 0)),
        other => panic!("{other:?}"),
    }
    assert_eq!(gives(&mut stage), 1);
    let refused = stage.office.database.signs().figures().refused;
    assert_eq!(refused.get("unreadable"), Some(&1));
    assert_eq!(why(&tell(&mut stage, vec![(block(2, now), 9), (block(3, now), 1)])), Why::Policy);
    assert_eq!(gives(&mut stage), 1, "nothing that is signed by others is kept, nor what comes with it");
}

#[test]
fn what_was_made_in_the_future_is_not_taken_and_said_so() {
    let now = wall_millis();
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let ahead = |said: Said| match said {
        Said::Statements(Statements { ahead, .. }) => ahead,
        other => panic!("{other:?}"),
    };
    assert_eq!(ahead(tells(&mut stage, 1, block(1, now + 3 * DAY))), 1);
    assert_eq!(ahead(tells(&mut stage, 1, block(1, now + DAY))), 0);
    assert_eq!(gives(&mut stage), 1);
}

#[test]
fn what_is_kept_of_a_user_ends_with_its_key() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    tells(&mut stage, 1, block(1, wall_millis()));
    let kept = |stage: &Stage| {
        let said = stage.office.database.all_said(&alice(), 9).expect("read").len();
        (said, stage.office.database.owner(&alice()).expect("read").certificates.len())
    };
    assert_eq!(kept(&stage), (1, 1));
    stage.done(Question::DisableUser { name: "alice".into() });
    assert_eq!(kept(&stage), (1, 1), "somebody may have to look at it");
    stage.done(Question::ResetUser { name: "alice".into() });
    assert_eq!(kept(&stage), (0, 0));
    assert_eq!(kept(&stage.again()), (0, 0));
}

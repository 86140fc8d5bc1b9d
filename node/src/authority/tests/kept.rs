//! What the server keeps of a user when there is more than it may have, and when the user is no more.

use crosstalk_overlay::enrol::{self, Answer as Said, Ask, Statement, Statements, Why};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{DeviceKey, NodeKey, UserKey};

use super::{ALICE, DAY, Stage, begin_as, say, why};
use crate::authority::Question;
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

/// All that it hands out.
fn gives(stage: &mut Stage) -> usize {
    let (laptop, session) = comes(stage, 200);
    let buckets = (0..=255).collect();
    let Said::Compared(compared) = say(stage, &laptop, &Ask::Compare(enrol::Compare { session, buckets }))
    else {
        panic!("not compared")
    };
    let fetch = Ask::Fetch(enrol::Fetch { session, marks: compared.marks });
    let Said::Statements(page) = say(stage, &laptop, &fetch) else { panic!("not fetched") };
    page.statements.len()
}

/// A device whose word nobody could verify without its certificate keeps that.
#[test]
fn of_many_devices_none_that_has_something_to_say_is_forgotten() {
    let now = wall_millis();
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    for device in 1..=64 {
        assert!(matches!(tells(&mut stage, device, block(device, now)), Said::Statements(_)), "{device}");
    }
    assert_eq!(gives(&mut stage), 64);
    assert_eq!(why(&tells(&mut stage, 65, block(65, now))), Why::Full);
    assert_eq!(gives(&mut stage), 64, "nothing was lost");
    // What the first has said another says better: the first gives way.
    assert!(matches!(tells(&mut stage, 2, block(1, now + 1)), Said::Statements(_)));
    assert!(matches!(tells(&mut stage, 65, block(65, now)), Said::Statements(_)));
    assert_eq!(gives(&mut stage), 65);
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

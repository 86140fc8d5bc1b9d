//! Other domains that the server introduces: told to laptops once, in the order of their serials, taken back, signed anew.

use crosstalk_overlay::enrol::{Answer as Said, Ask, MAX_INTRODUCTIONS};
use crosstalk_overlay::id::AuthorityId;
use crosstalk_overlay::keys::{AuthorityKey, NodeKey};
use crosstalk_overlay::record::{Introduction, Record as _, SignedRecord};
use prost::Message as _;

use super::{ALICE, Stage, begin, key, say};
use crate::authority::database::Change;
use crate::authority::introduce::signed;
use crate::authority::{Answer, Question};
use crate::event_loop::clock::wall_millis;
use crate::well_known::Document;
use crosstalk_storage::tree::authority::StoredIntroduction;

fn other(seed: u8) -> AuthorityId {
    AuthorityKey::from_seed([seed; 32]).id()
}

fn introduce(domain: &str, seed: u8) -> Question {
    Question::Introduce { domain: domain.into(), key: Some(other(seed).to_hex()) }
}

fn read(bytes: &[u8]) -> Introduction {
    Introduction::from_payload(&SignedRecord::decode(bytes).expect("signed").payload)
        .expect("an introduction")
}

/// What a laptop is told that has everything up to a serial.
fn told(stage: &mut Stage, serial: u64) -> Vec<Introduction> {
    let laptop = NodeKey::from_seed([5; 32]);
    let Ask::Begin(mut ask) = begin(3, ALICE, &laptop) else { panic!("other") };
    ask.introduced = serial;
    match say(stage, &laptop, &Ask::Begin(ask)) {
        Said::Begun(begun) => begun.introductions.iter().map(|bytes| read(bytes)).collect(),
        other => panic!("{other:?}"),
    }
}

fn views(stage: &mut Stage) -> Vec<(String, Option<String>)> {
    match stage.office.answer(Question::Introduced) {
        Answer::Introduced(all) => all.into_iter().map(|one| (one.domain, one.key)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_laptop_is_told_once_whom_its_server_introduces_and_what_is_taken_back() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    assert!(told(&mut stage, 0).is_empty());
    stage.done(introduce("office.example", 8));
    stage.done(introduce("club.example", 9));
    let first = told(&mut stage, 0);
    let said: Vec<_> = first.iter().map(|one| (one.domain.as_str(), one.key)).collect();
    assert_eq!(said, [("office.example", Some(other(8))), ("club.example", Some(other(9)))]);
    assert!(first[0].serial < first[1].serial && first.iter().all(|one| one.by == "school.example"));
    assert!(told(&mut stage, first[1].serial).is_empty());
    assert_eq!(told(&mut stage, first[0].serial), first[1..]);
    stage.done(Question::Withdraw { domain: "office.example".into() });
    let back = told(&mut stage, first[1].serial);
    assert_eq!((back.len(), back[0].domain.as_str(), back[0].key), (1, "office.example", None));
    let fresh: Vec<_> = told(&mut stage, 0).into_iter().map(|one| one.domain).collect();
    assert_eq!(
        fresh,
        ["club.example", "office.example"],
        "who has forgotten how far it was is told of the end, too"
    );
    let mut stage = stage.again();
    assert_eq!(
        views(&mut stage),
        [("club.example".into(), Some(other(9).to_hex())), ("office.example".into(), None)]
    );
    assert!(stage.no(Question::Withdraw { domain: "office.example".into() }).contains("not introduced"));
    assert!(stage.no(introduce("school.example", 8)).contains("itself"));
    let short = Question::Introduce { domain: "office.example".into(), key: Some("12".into()) };
    assert!(stage.no(short).contains("64 digits"));
    let log = stage.told();
    for what in ["domain introduced", "domain withdrawn"] {
        assert!(log.contains(&(what.to_owned(), "office.example".to_owned())), "{log:?}");
    }
    assert_eq!(signed(&stage.office.database).expect("read").len(), 2);
}

#[test]
fn what_ends_soon_or_is_by_a_key_that_was_left_is_signed_anew() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let day = 24 * 60 * 60 * 1_000;
    let old = |domain: &str, serial, ago: u64| {
        let made = wall_millis() - ago * day;
        let said = Introduction::issue(&key(), "school.example", (domain, Some(other(8))), serial, made);
        StoredIntroduction { signed: said.expect("signed").bytes().to_vec() }
    };
    let change = Change::default()
        .introduction("office.example", Some(old("office.example", 1, 61)))
        .introduction("club.example", Some(old("club.example", 2, 59)));
    stage.office.database.commit(change).expect("durable");
    let said = told(&mut stage, 2);
    assert_eq!(said.iter().map(|one| one.domain.as_str()).collect::<Vec<_>>(), ["office.example"]);
    assert!(told(&mut stage, said[0].serial).is_empty());
    assert_eq!(stage.office.take_introduced().len(), 1, "for the users of this very node");
    assert!(matches!(stage.office.answer(Question::RotateKey), Answer::Rotated { .. }));
    let again = told(&mut stage, said[0].serial);
    assert_eq!((again.len(), again[0].authority == key().id()), (2, false));
}

#[test]
fn so_many_are_introduced_and_no_more() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    for number in 0..MAX_INTRODUCTIONS {
        stage.done(introduce(&format!("d{number}.example"), 8));
    }
    assert!(stage.no(introduce("office.example", 8)).contains("at most"));
    // What was said already can be changed and taken back.
    stage.done(introduce("d0.example", 9));
    stage.done(Question::Withdraw { domain: "d1.example".into() });
    assert_eq!(told(&mut stage, 1).len(), MAX_INTRODUCTIONS);
}

#[test]
fn the_web_server_is_to_say_the_present_key_and_what_led_to_it() {
    let mut stage = Stage::new();
    let document = |stage: &mut Stage| match stage.office.answer(Question::Document) {
        Answer::Document(document) => serde_json::to_vec(&document).expect("json"),
        other => panic!("{other:?}"),
    };
    let before = Document::read("school.example", &document(&mut stage)).expect("read");
    assert_eq!((before.key, before.rotations.len()), (key().id(), 0));
    assert!(matches!(stage.office.answer(Question::RotateKey), Answer::Rotated { .. }));
    let after = Document::read("school.example", &document(&mut stage)).expect("read");
    assert_eq!((after.key == key().id(), after.rotations.len()), (false, 1));
}

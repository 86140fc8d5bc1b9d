//! Several processes of one server on one PostgreSQL, and what happens while that is away.

use std::time::Duration;

use crosstalk_overlay::enrol::{self, Ask, Why};
use crosstalk_overlay::keys::NodeKey;
use crosstalk_storage::tree::authority::{AuditLine, Member};
use tokio::time::Instant;

use super::Question;
use super::database::{Change, Database, DatabaseError, Home};
use super::private::{Instance, home};
use super::standing::Signs;
use super::tests_on_postgres::{ALICE, BLOCK, Said, Stage, begin, say, told, user, why};

fn opened(home: &Home) -> (Database, Signs) {
    let signs = Signs::default();
    (Database::open(home, &signs).expect("opened"), signs)
}

/// One more, by reading and then writing. Others may be doing the same.
fn raise(database: &Database) -> Result<(), DatabaseError> {
    let raised = database.member("alice").and_then(|member| {
        let mut member = member.unwrap_or_default();
        member.serial += 1;
        database.commit(Change::told(AuditLine::default()).member("alice", member))
    });
    database.rest();
    raised
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_two_processes_check_and_then_change_is_changed_by_both_in_turn() {
    let home = home(&Instance::shared().database());
    let count = |home: Home| {
        move || {
            let (database, _) = opened(&home);
            let mut refused = 0_u32;
            for _ in 0..100 {
                while let Err(error) = raise(&database) {
                    assert!(matches!(error, DatabaseError::Changed), "{error}");
                    refused += 1;
                }
            }
            refused
        }
    };
    let both = [std::thread::spawn(count(home.clone())), std::thread::spawn(count(home.clone()))];
    let refused: u32 = both.map(|one| one.join().expect("ended")).iter().sum();
    assert!(refused > 0, "they never met");
    let (database, _) = opened(&home);
    assert_eq!(database.member("alice").expect("read").map(|member| member.serial), Some(200));
    let numbers: Vec<u64> = database.audit(1_000).expect("read").iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<u64>>());
}

#[test]
fn one_process_leads_and_another_when_it_ends() {
    let home = home(&Instance::shared().database());
    let ((first, of_first), (second, of_second)) = (opened(&home), opened(&home));
    for _ in 0..3 {
        first.maintain().expect("there");
        second.maintain().expect("there");
        assert_eq!([&of_first, &of_second].map(|of| of.standing().leads), [true, false]);
    }
    first.close().expect("closed");
    assert!(!of_first.standing().leads);
    until("nobody leads", || second.maintain().is_ok() && of_second.standing().leads);
    // As a process that dies.
    let (third, of_third) = opened(&home);
    drop(second);
    until("nobody leads", || third.maintain().is_ok() && of_third.standing().leads);
}

#[test]
fn a_database_that_goes_away_is_said_waited_for_and_has_what_was_acknowledged() {
    let mut postgres = Instance::new();
    let home = home(&postgres.database());
    let (database, signs) = opened(&home);
    let (mut acknowledged, mut unknown) = (0, 0);
    for _ in 0..3 {
        for _ in 0..5 {
            raise(&database).expect("there");
            acknowledged += 1;
        }
        database.maintain().expect("there");
        assert!(signs.standing().up && signs.standing().leads);
        postgres.stop();
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(matches!(raise(&database), Err(DatabaseError::Away(_))));
            unknown += 1;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        let standing = signs.standing();
        assert!(!standing.up && !standing.leads && standing.why.is_some(), "{standing:?}");
        postgres.start();
        until("it is not found again", || database.maintain().is_ok());
        assert!(signs.standing().up);
    }
    let serial = database.member("alice").expect("read").map_or(0, |member: Member| member.serial);
    assert!((acknowledged..=acknowledged + unknown).contains(&serial), "{serial} of {acknowledged}");
    assert_eq!(serial, database.next_line().expect("read") - 1, "a change and its line are one");
}

/// The database is away at the start, too: the node runs, and serves when it is there.
#[test]
fn laptops_are_told_to_come_again_and_nothing_is_there_twice() {
    let mut postgres = Instance::new();
    let mut stage = Stage::at(home(&postgres.database()));
    let invitation = stage.invite("alice", 1_000_000);
    let ask = stage.register(&invitation, 3).expect("registered");
    postgres.stop();
    assert_eq!(why(&stage.ask(1, &ask)), Why::Trouble);
    assert_eq!(stage.log_in(2, ALICE, b"wherefore").err(), Some(Why::Trouble));
    assert!(stage.no(Question::AddUser { name: "carol".into() }).contains("away"));
    postgres.start();
    until("it is not found again", || matches!(stage.ask(1, &ask), Said::Enrolled(_)));
    assert!(matches!(stage.ask(1, &ask), Said::Enrolled(_)));
    let issued = stage.told().into_iter().filter(|(what, _)| what == "name issued").count();
    assert_eq!(issued, 1);
    // Where it was away nobody has failed: five tries are free.
    for _ in 0..4 {
        assert_eq!(stage.log_in(2, ALICE, b"thou").err(), Some(Why::Password));
    }
}

#[test]
fn who_loses_the_name_at_one_process_is_nobody_at_the_other() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut first = Stage::at(home(&Instance::shared().database()));
    first.enrolled("alice", 3);
    let mut second = first.beside();
    let Said::Begun(begun) = say(&mut second, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    let compare = Ask::Compare(enrol::Compare { session: begun.session, buckets: vec![0] });
    assert!(matches!(say(&mut second, &laptop, &compare), Said::Compared(_)));
    assert!(second.office.look().expect("there").is_empty());
    let revoked = first.done(Question::DisableUser { name: "alice".into() });
    assert_eq!(why(&say(&mut second, &laptop, &compare)), Why::Forgotten);
    assert_eq!(second.office.look().expect("there"), revoked, "and its node hears of it");
    assert!(second.office.look().expect("there").is_empty(), "once");
}

/// What one process has been told, the other finds, although it has read before what there was.
#[test]
fn what_is_told_to_one_process_is_found_at_the_other() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut first = Stage::at(home(&Instance::shared().database()));
    first.enrolled("alice", 3);
    let mut second = first.beside();
    let buckets = |stage: &mut Stage| match say(stage, &laptop, &begin(3, ALICE, &laptop)) {
        Said::Begun(begun) => (begun.session, begun.buckets),
        other => panic!("{other:?}"),
    };
    let (session, before) = buckets(&mut first);
    assert_eq!(buckets(&mut second).1, before);
    let block = told(session, 0x83, &user(3), BLOCK);
    assert!(matches!(say(&mut first, &laptop, &block), Said::Statements(_)));
    let after = buckets(&mut first).1;
    assert_ne!(after, before);
    assert_eq!(buckets(&mut second).1, after);
}

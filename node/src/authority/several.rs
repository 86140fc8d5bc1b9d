//! Several processes of one server on one PostgreSQL, and what happens while that is away.

use std::time::Duration;

use crosstalk_overlay::enrol::{self, Ask, Servers, Why};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::NodeKey;
use crosstalk_storage::tree::authority::{AuditLine, Member};
use tokio::time::Instant;

use super::database::{Change, Database, DatabaseError, Home};
use super::private::{Instance, home};
use super::servers::Processes;
use super::standing::Signs;
use super::tests_on_postgres::{ALICE, BLOCK, Said, Stage, begin, say, told, user, why};
use super::{Answer, Question};

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

/// Each says that it is here, laptops are told of the others at once, and of none once it is taken out of service.
#[test]
fn the_servers_of_a_domain_know_each_other() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut first = Stage::at(home(&Instance::shared().database()));
    first.enrolled("alice", 3);
    first.office.maintain();
    let told = |stage: &mut Stage, digest: &[u8]| {
        let Ask::Begin(ask) = begin(3, ALICE, &laptop) else { panic!("no begin") };
        let ask = Ask::Begin(enrol::Begin { servers: digest.to_vec(), ..ask });
        let Said::Begun(begun) = say(stage, &laptop, &ask) else { panic!("refused") };
        begun.servers
    };
    assert_eq!(told(&mut first, &[]), None, "it is alone");
    let known = [1; 8];
    assert_eq!(told(&mut first, &known), Some(Servers::default()), "it has looked, and there is none");
    let mut second = first.beside();
    second.office.node = NodeId::from_bytes([9; 32]);
    // The second knows the first as soon as it has looked, with its address; so does the first.
    for stage in [&mut first, &mut second] {
        stage.office.processes = Processes::default();
        assert_eq!(told(stage, &known), None, "who has not looked knows of none, and of none that is gone");
        // No laptop has to have asked.
        stage.office.processes.is_at(&["/ip4/192.0.2.1/tcp/14774".to_owned()]);
        stage.office.look_for_servers().expect("there");
    }
    first.office.look_for_servers().expect("there");
    let of_first = told(&mut first, &[]).expect("told");
    assert_eq!(of_first.servers.iter().map(|one| one.node[0]).collect::<Vec<_>>(), [9]);
    let of_second = told(&mut second, &[]).expect("told");
    assert_eq!(of_second.servers[0].places, ["/ip4/192.0.2.1/tcp/14774"]);
    assert_eq!(told(&mut first, &of_first.digest()), None, "the laptop knows it");
    // Nothing is written while nothing is new.
    let count = |stage: &Stage| stage.office.database.signs().figures().commits;
    let before = count(&second);
    (0..5).for_each(|_| second.office.look_for_servers().expect("there"));
    assert_eq!(count(&second), before);
    // Taken out of service, by somebody at the first.
    assert!(first.no(Question::ForgetServer { node: "00".into() }).contains("this very server"));
    assert!(first.no(Question::ForgetServer { node: "77".into() }).contains("authority show"));
    assert!(first.no(Question::ForgetServer { node: String::new() }).contains("several servers"));
    first.done(Question::ForgetServer { node: "0909".into() });
    assert_eq!(told(&mut first, &of_first.digest()), Some(Servers::default()));
    let Answer::Audit(lines) = first.office.answer(Question::Audit { most: 1 }) else { panic!("no lines") };
    assert_eq!((lines[0].what.as_str(), lines[0].node.as_str()), ("server forgotten", &*"09".repeat(32)));
    let Answer::Domain(view) = first.office.answer(Question::Show) else { panic!("no domain") };
    assert_eq!(view.servers.iter().map(|server| server.this).collect::<Vec<_>>(), [true]);
}

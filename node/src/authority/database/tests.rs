//! The database, whatever holds it.

use crosstalk_overlay::enrol::Statement;
use crosstalk_overlay::id::NodeId;
use crosstalk_storage::tree::authority::ServerProcess;
use crosstalk_storage::tree::upstream::{Device, HeldStanza, OutsideState, Queue, State, of_device, queued};

use super::super::private::{self, Data, Instance};
use super::*;

fn line(what: &str) -> AuditLine {
    AuditLine { what: what.into(), ..AuditLine::default() }
}

/// The log forgets its oldest lines: names can be given and taken back however long it is.
#[test]
fn a_full_log_makes_room_for_a_new_line() {
    let data = Data::new(module_path!());
    let database = data.open();
    database.commit(Change::told(line("first"))).expect("durable");
    database.commit(Change::told(line("second"))).expect("durable");
    let mut later = WriteSet::new();
    later.put(Tree::Meta, NEXT_LINE, (1 + Tree::Audit.limit() as u64).to_be_bytes());
    database.engine.commit(later).expect("durable");
    database.commit(Change::told(line("last"))).expect("durable");
    let kept = |number: u64| {
        database.engine.get(Tree::Audit, &[number.to_be_bytes().to_vec()]).expect("read")[0].is_some()
    };
    assert_eq!([1, 2, 1 + Tree::Audit.limit() as u64].map(kept), [false, true, true]);
}

#[test]
fn as_many_users_as_a_domain_may_have_and_no_more() {
    let data = Data::new(module_path!());
    let database = data.open();
    let mut change = Change::told(line("added"));
    for number in 0..Tree::Member.limit() {
        change = change.member(&number.to_string(), Member::default());
    }
    database.commit(change).expect("durable");
    let one_more = Change::told(line("added")).member("more", Member::default());
    assert!(matches!(database.commit(one_more), Err(DatabaseError::Full { what: "users", .. })));
    database.commit(Change::told(line("disabled")).member("7", Member::default())).expect("durable");
}

/// As a process that dies leaves it.
#[test]
fn what_was_committed_is_there_again() {
    let data = Data::new(module_path!());
    let database = data.open();
    let member = Member { serial: 7, ..Member::default() };
    let invitation = StoredInvitation { name: "alice".into(), ..StoredInvitation::default() };
    let change = Change::told(line("added"))
        .member("alice", member.clone())
        .invitation([1; 32], Some(invitation.clone()))
        .invitation([2; 32], Some(invitation.clone()));
    database.commit(change).expect("durable");
    database.commit(Change::told(line("withdrawn")).invitation([2; 32], None)).expect("durable");
    drop(database);
    let database = data.open();
    assert_eq!(database.member("alice").expect("read"), Some(member));
    assert_eq!(database.invitations().expect("read"), [([1; 32], invitation)]);
    database.commit(Change::told(line("last"))).expect("durable");
    let told: Vec<_> = database.audit(2).expect("read").into_iter().map(|(n, l)| (n, l.what)).collect();
    assert_eq!(told, [(2, "withdrawn".to_owned()), (3, "last".to_owned())]);
    database.close().expect("closed");
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let data = Data::new(module_path!());
    let database = data.open();
    database.commit(Change::told(line("first"))).expect("durable");
    let raise = |database: &Database, to: u32| {
        let mut writes = WriteSet::new();
        writes.put(Tree::Meta, versions::VERSION, to.to_be_bytes());
        database.engine.commit(writes).expect("durable");
    };
    raise(&database, versions::newest() + 1);
    drop(database);
    let refused = |error: &DatabaseError| {
        assert!(matches!(error, DatabaseError::Newer { .. }), "{error}");
        assert!(error.to_string().contains("start the newer program again"));
    };
    match Database::open(&data.home, &Signs::default()) {
        Err(error) => refused(&error),
        Ok(database) => refused(&database.audit(1).expect_err("newer")),
    }
}

/// As it was before there were versions: its lines are counted once.
#[test]
fn an_older_database_is_raised_and_keeps_what_it_has() {
    let data = Data::new(module_path!());
    let database = data.open();
    for what in ["first", "second"] {
        database.commit(Change::told(line(what)).member(what, Member::default())).expect("durable");
    }
    let mut older = WriteSet::new();
    older.delete(Tree::Meta, versions::VERSION);
    older.delete(Tree::Meta, NEXT_LINE);
    database.engine.commit(older).expect("durable");
    drop(database);
    let database = data.open();
    database.commit(Change::told(line("third"))).expect("durable");
    let told: Vec<_> = database.audit(9).expect("read").into_iter().map(|(n, l)| (n, l.what)).collect();
    let expected = [(1, "first"), (2, "second"), (3, "third")].map(|(n, what)| (n, what.to_owned()));
    assert_eq!(told, expected);
    assert_eq!(database.members().expect("read").len(), 2);
}

#[test]
fn more_than_a_page_is_read_in_order_and_by_prefix() {
    let data = Data::new(module_path!());
    let database = data.open();
    let users = [[1; 32], [255; 32]].map(UserId::from_bytes);
    let said = |byte: u8| Said {
        statements: vec![Statement { said: vec![byte], device: vec![2], signature: vec![3] }],
    };
    let mut change = Change::default();
    for number in 0..2_500_u32 {
        change =
            change.member(&format!("{number:05}"), Member { serial: number.into(), ..Member::default() });
    }
    for place in 0..5 {
        change = change.said(&users[0], &[place; 16], said(place)).said(&users[1], &[place; 16], said(9));
    }
    database.commit(change).expect("durable");
    let members = database.members().expect("read");
    assert!(members.iter().map(|(_, member)| member.serial).eq(0..2_500));
    for (user, expected) in users.iter().zip([vec![0, 1, 2, 3, 4], vec![9; 5]]) {
        let all = database.all_said(user, 9).expect("read");
        assert_eq!(all.iter().map(|(_, said)| said.statements[0].said[0]).collect::<Vec<_>>(), expected);
        assert_eq!(database.all_said(user, 3).expect("read").len(), 3);
    }
    let some = database.said(&users[0], &[[4; 16], [7; 16], [0; 16]]).expect("read");
    assert_eq!(some, [said(4), Said::default(), said(0)]);
}

/// Into each kind of database from each: what was there is there, and nothing else is overwritten by it.
#[test]
fn a_back_up_moves_to_either_kind_of_database() {
    let (data, files) = (Data::new(module_path!()), tempfile::tempdir().expect("dir"));
    let database = data.open();
    let domain = ServedDomain { domain: "school.example".into(), ..ServedDomain::default() };
    let mut change = Change::told(line("made")).domain(domain.clone());
    for number in 0..1_500 {
        change = change.member(&format!("user{number}"), Member { serial: number, ..Member::default() });
    }
    database.commit(change).expect("durable");
    let path = files.path().join("school");
    let written = database.back_up(&path).expect("written");
    assert!(database.back_up(&path).is_err(), "nothing is overwritten");
    assert!(matches!(database.restore(&path), Err(DatabaseError::Archive(ArchiveError::NotEmpty))));
    let dir = tempfile::tempdir().expect("dir");
    for home in [Home::Own(dir.path().to_owned()), private::home(&Instance::shared().database())] {
        let other = Database::open(&home, &Signs::default()).expect("opened");
        assert_eq!(other.restore(&path).expect("restored"), written);
        assert_eq!(other.domain().expect("read"), Some(domain.clone()));
        assert_eq!(other.members().expect("read"), database.members().expect("read"));
        other.commit(Change::told(line("second"))).expect("durable");
        let told: Vec<_> = other.audit(9).expect("read").into_iter().map(|(n, l)| (n, l.what)).collect();
        assert_eq!(told, [(1, "made".to_owned()), (2, "second".to_owned())]);
    }
}

#[test]
fn a_damaged_back_up_changes_nothing_and_one_that_was_cut_off_is_begun_again() {
    let (data, files) = (Data::new(module_path!()), tempfile::tempdir().expect("dir"));
    let database = data.open();
    let domain = ServedDomain { domain: "school.example".into(), ..ServedDomain::default() };
    database
        .commit(Change::told(line("made")).domain(domain).member("alice", Member::default()))
        .expect("durable");
    let path = files.path().join("school");
    database.back_up(&path).expect("written");
    let whole = std::fs::read(&path).expect("read");
    let empty = Data::new(module_path!());
    let other = empty.open();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        std::fs::write(&path, &changed).expect("written");
        assert!(other.restore(&path).is_err(), "byte {at}");
        std::fs::write(&path, &whole[..at]).expect("written");
        assert!(other.restore(&path).is_err(), "cut at {at}");
    }
    assert!(other.members().expect("read").is_empty() && other.domain().expect("read").is_none());
    // As a process that dies in the middle leaves it.
    let mut begun = WriteSet::new();
    begun.put(Tree::Meta, b"restoring".to_vec(), [1]);
    begun.put(Tree::Member, b"eve".to_vec(), encode(&Member::default()));
    other.engine.commit(begun).expect("durable");
    std::fs::write(&path, &whole).expect("written");
    other.restore(&path).expect("restored");
    let names: Vec<String> = other.members().expect("read").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["alice"]);
}

/// Some at a time, and yet all, each once, in their order.
#[test]
fn what_is_large_is_read_in_pages() {
    let data = Data::new(module_path!());
    let database = data.open();
    let (user, many) = ([7; 32], 2 * u64::try_from(AT_ONCE).expect("small") + 3);
    let mut change = Change::default();
    for number in 0..many {
        let letter = HeldStanza { at: number, ..HeldStanza::default() };
        change = change.upstream(queued(&user, number), Some(&letter));
    }
    // Of somebody else, behind them.
    change = change.upstream(queued(&[8; 32], 1), Some(&HeldStanza::default()));
    database.commit(change).expect("written");
    let prefix = queue_of(&user);
    let read = |most| {
        let mut read = Vec::new();
        database.each_upstream(&prefix, most, |_, letter: HeldStanza| read.push(letter.at)).expect("read");
        read
    };
    assert_eq!(read(usize::MAX), (0..many).collect::<Vec<_>>());
    for most in [0, 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE] {
        assert_eq!(read(most).len(), most);
        assert_eq!(database.all_upstream::<HeldStanza>(&prefix, most).expect("read").len(), most);
    }
}

/// Laptops know numbers that were given after the back-up: they must not count for what is restored.
#[test]
fn what_goes_outside_gets_other_queues_with_a_restore() {
    let (data, other) = (Data::new(module_path!()), Data::new(module_path!()));
    let (database, restored) = (data.open(), other.open());
    let state = |state| OutsideState { state: Some(state) };
    let queue = Queue { id: 9, last: 5, version: 4 };
    let device = State::Device(Device { taken: 3, come: 2, heard: 1 });
    let change = Change::default()
        .domain(ServedDomain { domain: "school.example".to_owned(), ..ServedDomain::default() })
        .upstream(of_user(&[7; 32]), Some(&state(State::Queue(queue))))
        .upstream(of_device(&[7; 32], &[1; 32]), Some(&state(device.clone())));
    database.commit(change).expect("written");
    let path = data.dir.path().join("file");
    database.back_up(&path).expect("written");
    restored.restore(&path).expect("restored");
    let read =
        |key: &[u8]| restored.upstream::<OutsideState>(key).expect("read").and_then(|found| found.state);
    let Some(State::Queue(found)) = read(&of_user(&[7; 32])) else { panic!("no queue") };
    assert!(found.id != queue.id && found.id != 0);
    assert_eq!(Queue { id: queue.id, ..found }, queue);
    assert_eq!(read(&of_device(&[7; 32], &[1; 32])), Some(device));
}

#[test]
fn servers_stand_there_until_they_are_forgotten_and_are_in_the_back_up() {
    let (data, other) = (Data::new(module_path!()), Data::new(module_path!()));
    let (database, restored) = (data.open(), other.open());
    let node = |byte: u8| NodeId::from_bytes([byte; 32]);
    let process = |here: u64| ServerProcess { places: vec!["/ip4/192.0.2.1/tcp/14774".to_owned()], here };
    let change = Change::default()
        .domain(ServedDomain { domain: "school.example".to_owned(), ..ServedDomain::default() })
        .server(&node(2), Some(&process(2)))
        .server(&node(1), Some(&process(1)));
    database.commit(change).expect("written");
    database.commit(Change::default().server(&node(1), Some(&process(3)))).expect("written");
    let all = vec![(node(1), process(3)), (node(2), process(2))];
    assert_eq!(database.servers().expect("read"), all);
    let path = data.dir.path().join("file");
    database.back_up(&path).expect("written");
    restored.restore(&path).expect("restored");
    assert_eq!(restored.servers().expect("read"), all);
    database.commit(Change::default().server(&node(1), None)).expect("written");
    assert_eq!(database.servers().expect("read"), [(node(2), process(2))]);
}

//! The directory: who stands in it, and who is found.

use crosstalk_overlay::enrol::{self, Answer as Said, Ask, MAX_PEOPLE, Person, Search, Statement, Why};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, UserKey};
use crosstalk_storage::tree::directory::{Listing, Shown};
use crosstalk_storage::tree::roster::Edit;

use super::{Stage, begin_as, say, why};
use crate::authority::{Answer, Question};
use crate::core::sync::entry::Entry;
use crate::event_loop::clock::wall_millis;

fn session(stage: &mut Stage, name: &str, user: u8) -> (NodeKey, u64) {
    let laptop = NodeKey::from_seed([user; 32]);
    let address = format!("{name}@school.example");
    match say(stage, &laptop, &begin_as(user, user, &address, &laptop)) {
        Said::Begun(begun) => (laptop, begun.session),
        other => panic!("{name}: {other:?}"),
    }
}

/// A user says what may be shown, at a time from now.
fn shows(stage: &mut Stage, (name, user): (&str, u8), shown: Shown, names: (&str, &str), later: u64) -> Said {
    let (laptop, session) = session(stage, name, user);
    let edit = Some(Edit { millis: wall_millis() + later, ..Edit::default() });
    let (nickname, full_name) = (names.0.to_owned(), names.1.to_owned());
    let said = Entry::Listing(Box::new(Listing { shown: shown.into(), nickname, full_name, edit }));
    let (user, device) = (UserKey::from_seed([user; 32]).id(), DeviceKey::from_seed([user; 32]));
    let statements = vec![Statement::sign(&user, said.part().write(), &device)];
    say(stage, &laptop, &Ask::Tell(enrol::Tell { session, statements, record: Vec::new() }))
}

fn search(stage: &mut Stage, text: &str) -> Said {
    let (laptop, session) = session(stage, "bob", 5);
    say(stage, &laptop, &Ask::Search(Search { session, text: text.into() }))
}

fn found(stage: &mut Stage, text: &str) -> Vec<String> {
    match search(stage, text) {
        Said::People(people) => people.people.into_iter().map(|person| person.address).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

fn rows(stage: &Stage) -> usize {
    stage.office.database.found_by("", 99).expect("read").expect("few").len()
}

fn school() -> Stage {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    stage.enrolled("bob", 5);
    stage.office.set_directory(true);
    stage
}

const MINUTE: u64 = 60_000;
const ALICE: (&str, u8) = ("alice", 3);
const NAMES: (&str, &str) = ("Anni", "Anna Maria Müller");

#[test]
fn who_has_agreed_is_found_and_nobody_else() {
    let mut stage = school();
    assert!(found(&mut stage, "an").is_empty() && found(&mut stage, "alice").is_empty());
    shows(&mut stage, ALICE, Shown::FullName, NAMES, 0);
    for text in ["anni", "MUL mar", "alice", "alice@school.example", "an"] {
        assert_eq!(found(&mut stage, text), ["alice@school.example"], "{text}");
    }
    assert!(found(&mut stage, "nni").is_empty() && found(&mut stage, "anni bob").is_empty());
    let Said::People(people) = search(&mut stage, "anni") else { panic!("not found") };
    let person = Person {
        address: "alice@school.example".into(),
        nickname: "Anni".into(),
        full_name: "Anna Maria Müller".into(),
    };
    assert_eq!(people.people, [person]);
    // Less is shown: what is not shown any more finds nobody.
    shows(&mut stage, ALICE, Shown::Nickname, ("Anni", ""), MINUTE);
    assert!(found(&mut stage, "muller").is_empty());
    assert_eq!(found(&mut stage, "anni"), ["alice@school.example"]);
    // An earlier word that comes later changes nothing.
    shows(&mut stage, ALICE, Shown::FullName, NAMES, 0);
    assert!(found(&mut stage, "muller").is_empty());
    // It outlives the process, and taking it back is at once.
    let mut stage = stage.again();
    stage.office.set_directory(true);
    assert_eq!(found(&mut stage, "anni"), ["alice@school.example"]);
    shows(&mut stage, ALICE, Shown::Nothing, ("", ""), 2 * MINUTE);
    assert!(found(&mut stage, "anni").is_empty());
    assert_eq!(rows(&stage), 0);
}

#[test]
fn a_name_that_is_taken_back_leaves_the_directory_in_that_change() {
    for (reset, question) in [
        (false, Question::DisableUser { name: "alice".into() }),
        (true, Question::ResetUser { name: "alice".into() }),
    ] {
        let mut stage = school();
        shows(&mut stage, ALICE, Shown::FullName, NAMES, 0);
        let Answer::Directory { on: true, people } = stage.office.answer(Question::Directory) else {
            panic!("no directory")
        };
        assert_eq!((people.len(), people[0].full_name.as_deref()), (1, Some(NAMES.1)));
        stage.done(question);
        assert!(found(&mut stage, "anni").is_empty(), "reset: {reset}");
        assert_eq!(rows(&stage), 0);
        let Answer::Audit(lines) = stage.office.answer(Question::Audit { most: 9 }) else { panic!("no log") };
        assert!(lines.iter().any(|line| line.what == "taken out of the directory" && line.name == "alice"));
    }
}

#[test]
fn what_cannot_be_searched_is_said() {
    let mut stage = school();
    for text in ["", "a", "!!"] {
        assert_eq!(why(&search(&mut stage, text)), Why::TooShort, "{text}");
    }
    assert_eq!(why(&search(&mut stage, &"x".repeat(256))), Why::Policy);
    stage.office.set_directory(false);
    assert_eq!(why(&search(&mut stage, "anni")), Why::NoDirectory);
}

/// What is shown to others is signed by its user, and has to be fit to be shown.
#[test]
fn nobody_puts_anything_else_there() {
    let mut stage = school();
    for (shown, names) in [
        (Shown::FullName, ("An\u{202e}ni", "")),
        (Shown::Nickname, ("Anni", "Anna")),
        (Shown::Nothing, ("Anni", "")),
        (Shown::FullName, ("Anni (certified)", "")),
    ] {
        let said = shows(&mut stage, ALICE, shown, names, 0);
        assert!(matches!(said, Said::Statements(page) if page.unread == 1), "{names:?}");
    }
    // Bob's laptop says something of alice.
    let (laptop, session) = session(&mut stage, "bob", 5);
    let edit = Some(Edit { millis: wall_millis(), ..Edit::default() });
    let listing =
        Listing { shown: Shown::Nickname.into(), nickname: "Eve".into(), edit, ..Listing::default() };
    let said = Entry::Listing(Box::new(listing)).part().write();
    let statements =
        vec![Statement::sign(&UserKey::from_seed([3; 32]).id(), said, &DeviceKey::from_seed([5; 32]))];
    let tell = Ask::Tell(enrol::Tell { session, statements, record: Vec::new() });
    assert_eq!(why(&say(&mut stage, &laptop, &tell)), Why::Policy);
    assert_eq!(rows(&stage), 0);
}

#[test]
fn who_is_one_of_very_many_is_not_shown_and_who_copies_waits() {
    let mut stage = school();
    let person = |number: usize| {
        let listing = Listing {
            shown: Shown::Nickname.into(),
            nickname: format!("Anna {}", if number < MAX_PEOPLE { "Able" } else { "Baker" }),
            ..Listing::default()
        };
        crate::authority::directory::person(&format!("u{number:04}"), &listing).expect("agreed")
    };
    for number in 0..=MAX_PEOPLE {
        let change = crate::authority::database::Change::default();
        let change = change.person(&format!("u{number:04}"), None, Some(&person(number)));
        stage.office.database.commit(change).expect("durable");
    }
    assert_eq!(why(&search(&mut stage, "anna")), Why::TooMany);
    assert_eq!(found(&mut stage, "anna ab").len(), MAX_PEOPLE);
    let slowed = (0..10).find_map(|_| match search(&mut stage, "able") {
        Said::Refused(no) => Some(no),
        _ => None,
    });
    let slowed = slowed.expect("somebody who copies is slowed");
    assert_eq!((slowed.why(), slowed.wait > 0), (Why::Slowly, true));
    // Nobody else is.
    let (laptop, session) = session(&mut stage, "alice", 3);
    let ask = Ask::Search(Search { session, text: "baker".into() });
    assert!(matches!(say(&mut stage, &laptop, &ask), Said::People(people) if people.people.len() == 1));
}

/// A word of more people than are looked at is too wide, however few of them have the other word.
#[test]
fn a_question_of_which_not_all_is_looked_at_finds_nobody_rather_than_some() {
    let mut stage = school();
    for number in 0..520 {
        let nickname = format!("Alexandra {}", if number % 260 == 259 { "Able" } else { "Baker" });
        let listing = Listing { shown: Shown::Nickname.into(), nickname, ..Listing::default() };
        let name = format!("u{number:04}");
        let person = crate::authority::directory::person(&name, &listing).expect("agreed");
        let change = crate::authority::database::Change::default().person(&name, None, Some(&person));
        stage.office.database.commit(change).expect("durable");
    }
    assert_eq!(why(&search(&mut stage, "alexandra able")), Why::TooMany);
    assert_eq!(found(&mut stage, "able").len(), 2);
}

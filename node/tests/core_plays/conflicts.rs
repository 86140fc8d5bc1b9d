//! One laptop removes a contact while another one changes it: it is kept, listed as a conflict on both, told to the clients once,
//! and settled by whatever its person does with it next.

use crate::core_support::says;
use crate::server::School;
use crosstalk::core::admin::{Command, Reply};

const BOB: &str = "bob@far.example";

/// Both have bob, and are apart.
fn apart() -> School {
    let school = School::new(2);
    school.set(0, &format!("<item jid='{BOB}' name='Bob'><group>Work</group></item>"));
    school.meet(0);
    school.meet(1);
    school
}

fn remove(school: &School, laptop: usize) {
    school.set(laptop, &format!("<item jid='{BOB}' subscription='remove'/>"));
}

fn rename(school: &School, laptop: usize, name: &str) {
    school.set(laptop, &format!("<item jid='{BOB}' name='{name}'/>"));
}

fn meet(school: &School, order: &[usize]) {
    order.iter().for_each(|laptop| school.meet(*laptop));
}

/// Whichever came first by the clock, and whichever the server hears of first.
#[test]
fn who_is_removed_here_and_changed_there_is_kept_as_a_conflict() {
    for (removed_later, order) in
        [(true, [0, 1, 0]), (true, [1, 0, 1]), (false, [0, 1, 0]), (false, [1, 0, 1])]
    {
        let school = apart();
        if removed_later {
            rename(&school, 1, "Robert");
            school.laptops.iter().for_each(|laptop| laptop.wait(5_000));
            remove(&school, 0);
        } else {
            remove(&school, 0);
            school.laptops.iter().for_each(|laptop| laptop.wait(5_000));
            rename(&school, 1, "Robert");
        }
        assert!(school.list(0).is_empty() && school.conflicts(1).is_empty());
        meet(&school, &order);
        for laptop in [0, 1] {
            assert_eq!(school.list(laptop)[BOB].0.as_deref(), Some("Robert"));
            assert_eq!(school.conflicts(laptop).len(), 1, "removed later: {removed_later}, {order:?}");
        }
        let (here, there) = (&school.conflicts(0)[BOB], &school.conflicts(1)[BOB]);
        assert!(
            here.contains("removed on this laptop") && here.contains("contact keep bob@far.example"),
            "{here}"
        );
        assert!(there.contains("removed on another laptop"), "{there}");
    }
}

/// A laptop that came after the removal, and so knows nothing of it.
#[test]
fn who_was_removed_long_ago_is_simply_added_again() {
    let school = School::new(2);
    school.set(0, &format!("<item jid='{BOB}' name='Bob'/>"));
    school.meet(0);
    remove(&school, 0);
    school.meet(0);
    school.laptops.iter().for_each(|laptop| laptop.wait(60_000));
    school.meet(1);
    rename(&school, 1, "Robert");
    school.join(1);
    school.rest(1);
    let told = school.clients[1].takes_all();
    assert!(!told.iter().any(|element| element.name() == "message"), "{told:?}");
    school.part(1);
    rename(&school, 1, "Bobby");
    meet(&school, &[1, 0, 1]);
    for laptop in [0, 1] {
        assert_eq!(school.list(laptop)[BOB].0.as_deref(), Some("Bobby"));
        assert!(school.conflicts(laptop).is_empty(), "{:?}", school.conflicts(laptop));
    }
}

#[test]
fn clients_are_told_once() {
    let school = apart();
    remove(&school, 0);
    rename(&school, 1, "Robert");
    school.meet(1);
    school.join(0);
    school.rest(0);
    let told = school.clients[0].takes_all();
    let news = |told: &[crosstalk::xmpp::Element]| {
        told.iter()
            .filter(|element| {
                says(element, "bob@far.example was removed on one laptop and is kept by another")
            })
            .count()
    };
    assert_eq!(news(&told), 1, "{told:?}");
    let back = |element: &&crosstalk::xmpp::Element| {
        element.to_bytes("jabber:client").windows(6).any(|part| part == b"Robert")
    };
    assert!(told.iter().any(|element| back(&element)), "the list has it again: {told:?}");
    school.part(0);
    school.join(1);
    school.rest(1);
    assert_eq!(news(&school.clients[1].takes_all()), 1);
    school.part(1);
    rename(&school, 1, "Bobby");
    school.meet(1);
    school.join(0);
    school.rest(0);
    assert_eq!(news(&school.clients[0].takes_all()), 0);
    school.part(0);
}

#[test]
fn a_conflict_is_settled_by_what_its_person_does_next() {
    type Settle = fn(&School);
    let keep: Settle = |school| {
        let keep = Command::KeepContact { account: "anna".to_owned(), jid: BOB.to_owned() };
        let reply = school.laptops[0].command(keep);
        assert!(matches!(reply, Reply::Done), "{reply:?}");
        school.forget();
    };
    let same: Settle = |school| rename(school, 0, "Robert");
    let change: Settle = |school| rename(school, 1, "Bobby");
    let remove: Settle = |school| remove(school, 1);
    for (how, settle, stays) in [
        ("keep", keep, true),
        ("the same again", same, true),
        ("a change", change, true),
        ("a removal", remove, false),
    ] {
        let school = apart();
        self::remove(&school, 0);
        rename(&school, 1, "Robert");
        meet(&school, &[0, 1, 0]);
        assert_eq!(school.conflicts(0).len(), 1, "{how}");
        settle(&school);
        meet(&school, &[0, 1, 0, 1]);
        for laptop in [0, 1] {
            assert_eq!(school.list(laptop).contains_key(BOB), stays, "{how}");
            assert!(school.conflicts(laptop).is_empty(), "{how}: {:?}", school.conflicts(laptop));
        }
    }
}

/// A group, and leave to see, are as good as a name.
#[test]
fn any_edit_keeps_the_contact() {
    let carl = "carl@school.example";
    let grouped = format!(
        "<iq type='set' id='g'><query xmlns='jabber:iq:roster'><item jid='{carl}'><group>Work</group></item></query></iq>"
    );
    for edit in [grouped, format!("<presence to='{carl}' type='subscribed'/>")] {
        let school = School::new(2);
        school.set(0, &format!("<item jid='{carl}'/>"));
        meet(&school, &[0, 1]);
        school.set(0, &format!("<item jid='{carl}' subscription='remove'/>"));
        school.clients[1].send(&edit);
        school.forget();
        meet(&school, &[0, 1, 0]);
        assert_eq!((school.conflicts(0).len(), school.conflicts(1).len()), (1, 1), "{edit}");
    }
}

/// Who knows of a removal and adds the contact again is in no conflict with it, and who removes what it knows of neither.
#[test]
fn what_follows_what_is_known_is_no_conflict() {
    let school = apart();
    remove(&school, 0);
    meet(&school, &[0, 1]);
    rename(&school, 1, "Bob again");
    meet(&school, &[1, 0]);
    assert_eq!((school.list(0).len(), school.conflicts(0).len()), (1, 0));
    remove(&school, 0);
    meet(&school, &[0, 1]);
    assert_eq!((school.list(1).len(), school.conflicts(1).len()), (0, 0));
}

/// It stands in the store, and in what is told: a restart and a third laptop have it, too.
#[test]
fn a_conflict_outlives_restarts_and_reaches_other_laptops() {
    let mut school = School::new(3);
    rename(&school, 0, "Bob");
    meet(&school, &[0, 1]);
    remove(&school, 0);
    rename(&school, 1, "Robert");
    meet(&school, &[1, 0]);
    school.restart(0);
    school.server.desk(|desk| desk.restart());
    school.laptops[2].wait(20 * 60_000);
    school.meet(2);
    assert_eq!((school.conflicts(0).len(), school.conflicts(2).len()), (1, 1));
}

/// What cannot be kept is not listed, and nothing but a listed contact can be kept.
#[test]
fn nobody_keeps_who_is_not_listed() {
    let school = School::new(1);
    let keep = Command::KeepContact { account: "anna".to_owned(), jid: BOB.to_owned() };
    let reply = school.laptops[0].command(keep);
    assert!(
        matches!(&reply, Reply::Refused(why) if why.to_string().contains("not in this contact list")),
        "{reply:?}"
    );
}

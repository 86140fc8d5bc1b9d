//! One person's laptops and the server of the domain, which meet now and then: all have the same in the end, nothing is
//! deleted silently, and bytes are near what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::core_support::link::{cut, join, rest, rest_until};
use crate::core_support::{Client, Play};
use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::directory::Show;
use crosstalk::core::sync::server::ServerView;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::{Tree, decode};

const MINUTE: u64 = 60_000;

/// A server and laptops of anna, each logged in, nobody joined.
pub(crate) struct School {
    pub(crate) server: Play,
    pub(crate) laptops: Vec<Play>,
    pub(crate) clients: Vec<Client>,
}

impl School {
    pub(crate) fn new(count: u8) -> Self {
        Self::of((1..=count).map(|n| Play::enrolled(n, |_| {})).collect())
    }

    /// Nodes that pay next to no work for each other's mailboxes, with their stores on disks if it is to be so.
    pub(crate) fn with_cheap_mail(count: u8, on_disks: bool) -> Self {
        let laptop = |n| {
            let laptop = Play::enrolled(n, |settings| settings.mail_bits = 4);
            if on_disks { laptop.on_disk() } else { laptop }
        };
        let server = Play::server_with(|settings| settings.mail_bits = 4);
        Self::at(server, (1..=count).map(laptop).collect())
    }

    /// Laptops whose lists have few contacts at most.
    fn with_limit(count: u8, limit: usize) -> Self {
        let laptop = |n| Play::enrolled(n, |settings| settings.roster_limit = limit);
        Self::of((1..=count).map(laptop).collect())
    }

    fn of(laptops: Vec<Play>) -> Self {
        Self::at(Play::server(), laptops)
    }

    fn at(server: Play, laptops: Vec<Play>) -> Self {
        let clients = laptops.iter().map(|laptop| laptop.online("anna/desk")).collect();
        Self { server, laptops, clients }
    }

    /// The contacts about which there is a conflict, as one laptop shows them, and what it says.
    pub(crate) fn conflicts(&self, laptop: usize) -> BTreeMap<String, String> {
        let reply = self.laptops[laptop].command(Command::Contacts("anna".to_owned()));
        let Reply::Contacts(contacts) = reply else { panic!("{reply:?}") };
        contacts.into_iter().filter_map(|contact| Some((contact.jid, contact.conflict?))).collect()
    }

    pub(crate) fn all(&self) -> Vec<&Play> {
        std::iter::once(&self.server).chain(&self.laptops).collect()
    }

    /// A laptop meets the server for a while.
    pub(crate) fn meet(&self, laptop: usize) {
        self.join(laptop);
        self.rest(laptop);
        self.part(laptop);
    }

    /// What changes while a pass is under way is told a second later.
    pub(crate) fn rest(&self, laptop: usize) {
        rest(&self.all());
        self.laptops[laptop].wait(2_000);
        rest(&self.all());
    }

    pub(crate) fn join(&self, laptop: usize) {
        join(&self.all(), &self.server, &self.laptops[laptop]);
    }

    pub(crate) fn part(&self, laptop: usize) {
        cut(&self.all(), &self.server, &self.laptops[laptop]);
        self.forget();
    }

    pub(crate) fn forget(&self) {
        for client in &self.clients {
            client.forget();
        }
    }

    pub(crate) fn set(&self, laptop: usize, item: &str) {
        self.clients[laptop]
            .send(&format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
        self.clients[laptop].forget();
        self.laptops[laptop].wait(3);
    }

    pub(crate) fn block(&self, laptop: usize, what: &str, jid: &str) {
        self.clients[laptop].send(&format!(
            "<iq type='set' id='b'><{what} xmlns='urn:xmpp:blocking'><item jid='{jid}'/></{what}></iq>"
        ));
        self.clients[laptop].forget();
        self.laptops[laptop].wait(3);
    }

    pub(crate) fn list(&self, laptop: usize) -> BTreeMap<String, (Option<String>, Vec<String>)> {
        let reply = self.laptops[laptop].command(Command::Contacts("anna".to_owned()));
        let Reply::Contacts(contacts) = reply else { panic!("{reply:?}") };
        contacts.into_iter().map(|contact| (contact.jid, (contact.name, contact.groups))).collect()
    }

    pub(crate) fn blocks(&self, laptop: usize) -> BTreeSet<String> {
        let contents = self.laptops[laptop].snapshot();
        let entry = |(key, value): (&[u8], &[u8])| {
            let blocked: Blocked = decode(value).unwrap();
            (!blocked.lifted).then(|| String::from_utf8_lossy(&key[32..]).into_owned())
        };
        contents.tree(Tree::Block).filter_map(entry).collect()
    }

    pub(crate) fn view(&self, laptop: usize) -> ServerView {
        let reply = self.laptops[laptop].command(Command::Status);
        let Reply::Status(status) = reply else { panic!("{reply:?}") };
        status.servers[0].clone()
    }

    pub(crate) fn restart(&mut self, laptop: usize) {
        self.clients[laptop].forget();
        self.laptops[laptop].restart();
        self.clients[laptop] = self.laptops[laptop].online("anna/again");
        self.forget();
    }
}

impl Drop for School {
    fn drop(&mut self) {
        self.forget();
    }
}

#[test]
fn a_second_laptop_has_everything_while_the_first_is_away() {
    let school = School::new(2);
    school.set(0, "<item jid='bob@far.example' name='Bob'><group>Work</group></item>");
    school.set(0, "<item jid='carl@far.example'/>");
    school.set(0, "<item jid='carl@far.example' subscription='remove'/>");
    school.block(0, "block", "eve@far.example");
    school.meet(0);
    school.meet(1);
    let bob = (Some("Bob".to_owned()), vec!["Work".to_owned()]);
    assert_eq!(school.list(1), BTreeMap::from([("bob@far.example".to_owned(), bob)]));
    assert_eq!(school.blocks(1), BTreeSet::from(["eve@far.example".to_owned()]));
}

#[test]
fn nickname_vcard_and_what_the_directory_may_show_follow_to_the_next_laptop() {
    let school = School::new(2);
    let anna = |laptop: usize| {
        let Reply::Accounts(accounts) = school.laptops[laptop].command(Command::ListAccounts) else {
            panic!("no accounts")
        };
        let cards = school.laptops[laptop].snapshot();
        let card =
            cards.tree(Tree::VCard).next().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        (accounts[0].nickname.clone(), card.unwrap_or_default())
    };
    let shown = |laptop: usize, show: Option<Show>| {
        let listing = Command::Listing { account: "anna".to_owned(), show };
        match school.laptops[laptop].command(listing) {
            Reply::Listing(view) => Ok((view.shown, view.full_name)),
            Reply::Refused(why) => Err(why.to_string()),
            other => panic!("{other:?}"),
        }
    };
    let card = |laptop: usize, name: &str| {
        school.clients[laptop].send(&format!(
            "<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>{name} M</FN><NICKNAME>{name}</NICKNAME></vCard></iq>"
        ));
        school.laptops[laptop].wait(3);
    };
    // There is none yet as far as is known.
    assert!(shown(0, Some(Show::Nickname)).unwrap_err().contains("no directory"));
    card(0, "Anni");
    school.meet(0);
    assert_eq!(shown(0, Some(Show::FullName)), Ok((Show::FullName, "Anni M".to_owned())));
    assert_eq!(school.view(0).held, 1);
    school.meet(0);
    assert_eq!(school.view(0).held, 0);
    school.meet(1);
    assert_eq!(anna(1), anna(0));
    assert!(anna(1).0 == "Anni" && anna(1).1.contains("Anni M"), "{:?}", anna(1));
    assert_eq!(shown(1, None), Ok((Show::FullName, "Anni M".to_owned())));
    // Both edit apart, in one's hour after the other's: of each thing the later edit counts.
    card(0, "Anna");
    school.laptops[1].wait(60 * MINUTE);
    let nickname = Some("Nan".to_owned());
    school.laptops[1].command(Command::SetProfile { account: "anna".to_owned(), nickname, visible: None });
    assert_eq!(shown(1, Some(Show::Off)).map(|(shown, _)| shown), Ok(Show::Off));
    for laptop in [0, 1, 0, 1] {
        school.meet(laptop);
    }
    assert_eq!(anna(0), anna(1));
    assert!(anna(0).0 == "Nan" && anna(0).1.contains("Anna M"), "{:?}", anna(0));
    for laptop in [0, 1] {
        assert_eq!(shown(laptop, None), Ok((Show::Off, "Anna M".to_owned())), "{laptop}");
        assert_eq!(school.view(laptop).held, 0);
    }
}

/// The one agrees to stand in the directory, the other, which has not heard of that, changes the name: whichever meets the server
/// first, the directory shows the name that counts.
#[test]
fn the_directory_follows_a_name_that_was_changed_on_another_laptop() {
    for order in [[0, 1], [1, 0]] {
        let school = School::new(2);
        let rename = |laptop: usize, name: &str| {
            let (account, nickname) = ("anna".to_owned(), Some(name.to_owned()));
            school.laptops[laptop].command(Command::SetProfile { account, nickname, visible: None });
        };
        rename(0, "Anni");
        // Twice: the first time they learn that there is a directory.
        for laptop in [0, 1, 0, 1] {
            school.meet(laptop);
        }
        let listing = Command::Listing { account: "anna".to_owned(), show: Some(Show::Nickname) };
        let reply = school.laptops[0].command(listing);
        assert!(matches!(reply, Reply::Listing(_)), "{reply:?}");
        school.laptops[1].wait(60 * MINUTE);
        rename(1, "Nan");
        for laptop in order {
            school.meet(laptop);
        }
        let shown = school.server.desk(|desk| desk.shows("anna"));
        assert_eq!(shown, Some(("Nan".to_owned(), String::new())), "{order:?}");
    }
}

const SEARCH: &str = "<iq type='set' id='f' to='directory.school.example'><query xmlns='jabber:iq:search'><nick>ben</nick></query></iq>";

/// One laptop at the server, which has told it that there is a directory.
fn with_directory() -> School {
    let school = School::new(1);
    school.join(0);
    for _ in 0..2 {
        school.rest(0);
    }
    school.forget();
    school
}

/// A server that was started anew knows no sessions: a search is put again by the next one. Where that is forgotten too, the
/// client is told to search again, and not that it may not.
#[test]
fn a_search_in_a_forgotten_session_is_put_again() {
    let school = with_directory();
    let search = || {
        school.clients[0].send(SEARCH);
        for _ in 0..3 {
            school.rest(0);
        }
    };
    school.server.desk(|desk| desk.restart());
    search();
    school.clients[0].expects("<iq from='directory.school.example' type='result' id='f'>…</iq>");
    school.server.desk(|desk| desk.dies_at_searches = true);
    search();
    school.clients[0].expects(
        "<iq from='directory.school.example' type='error' id='f'><error type='wait'><remote-server-timeout/>…</error>…</iq>",
    );
    school.forget();
}

/// What the server said of a former pass says nothing of the one that has begun since: the search is put by that one.
#[test]
fn a_search_that_a_pass_has_overtaken_begins_no_other_pass() {
    let school = with_directory();
    let passes = || {
        let begun = |(ask, count): (&String, &usize)| if ask.starts_with("Begin") { *count } else { 0 };
        school.server.desk(|desk| desk.asked.iter().map(begun).sum::<usize>())
    };
    school.server.desk(|desk| desk.dies_at_searches = true);
    school.server.answers_late(true);
    school.clients[0].send(SEARCH);
    rest(&school.all());
    school.server.desk(|desk| desk.dies_at_searches = false);
    // The server was started anew, so the next pass is a whole one.
    school.clients[0].send(
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='carl@far.example'/></query></iq>",
    );
    for _ in 0..3 {
        school.rest(0);
    }
    school.forget();
    let before = passes();
    school.server.answers_late(false);
    rest(&school.all());
    school.clients[0].expects("<iq from='directory.school.example' type='result' id='f'>…</iq>");
    assert_eq!(passes(), before);
    school.forget();
}

#[test]
fn edits_made_apart_are_merged_by_the_server_that_cannot_read_minds() {
    let school = School::new(2);
    school.set(0, "<item jid='bob@far.example' name='Bob'/>");
    school.set(0, "<item jid='carl@far.example'/>");
    school.block(0, "block", "eve@far.example");
    school.meet(0);
    school.meet(1);
    // The name is changed here, the groups there; carl is removed here, and wanted there later; eve is unblocked.
    school.set(0, "<item jid='bob@far.example' name='Robert'/>");
    school.set(0, "<item jid='carl@far.example' subscription='remove'/>");
    school.block(0, "unblock", "eve@far.example");
    school.laptops.iter().for_each(|laptop| laptop.wait(100));
    school.set(1, "<item jid='bob@far.example' name='Bob'><group>Work</group></item>");
    school.set(1, "<item jid='carl@far.example' name='Carl'/>");
    assert_eq!((school.view(0).held, school.view(1).held), (3, 2));
    for laptop in [0, 1, 0] {
        school.meet(laptop);
    }
    let bob = (Some("Robert".to_owned()), vec!["Work".to_owned()]);
    assert_eq!(school.list(0), school.list(1));
    assert_eq!(school.list(1)["bob@far.example"], bob);
    assert_eq!(school.list(1)["carl@far.example"].0.as_deref(), Some("Carl"));
    assert!(school.blocks(0).is_empty() && school.blocks(1).is_empty());
    assert_eq!((school.view(0).held, school.view(1).held), (0, 0));
}

/// A removal at a laptop that the server learns last does not bring the contact back anywhere.
#[test]
fn a_removal_reaches_all() {
    let school = School::new(2);
    school.set(0, "<item jid='bob@far.example'/>");
    school.meet(0);
    school.meet(1);
    school.set(0, "<item jid='bob@far.example' subscription='remove'/>");
    for laptop in [1, 0, 1] {
        school.meet(laptop);
    }
    assert!(school.list(0).is_empty() && school.list(1).is_empty());
}

#[test]
fn the_state_of_the_server_is_told() {
    let school = School::new(1);
    school.laptops[0].wait(MINUTE);
    let view = school.view(0);
    assert_eq!((view.state.as_str(), view.synced), ("down", 0));
    school.set(0, "<item jid='bob@far.example'/>");
    assert_eq!(school.view(0).held, 1);
    school.join(0);
    school.rest(0);
    let view = school.view(0);
    assert_eq!((view.state.as_str(), view.held), ("up", 0));
    assert!(view.synced > 0 && view.since > 0 && view.sent > 100 && view.received > 100);
    // What is changed while it is up is told at once.
    school.set(0, "<item jid='carl@far.example'/>");
    school.rest(0);
    assert_eq!(school.view(0).held, 0);
    school.part(0);
    school.laptops[0].wait(10 * MINUTE);
    assert_eq!(school.view(0).state, "down");
}

/// Two laptops lose the server at one moment: each asks for it within seconds, at a moment of its own, and knows that it is away
/// once it has had its forty seconds to answer.
#[test]
fn a_server_that_stops_is_down_within_a_minute() {
    let school = School::new(2);
    for laptop in 0..2 {
        school.join(laptop);
        school.rest(laptop);
        assert_eq!(school.view(laptop).state, "up");
    }
    for laptop in 0..2 {
        school.part(laptop);
    }
    let mut asked = [0, 0];
    for second in 1..=60 {
        for (laptop, when) in asked.iter_mut().enumerate() {
            school.laptops[laptop].wait(1_000);
            if *when == 0 && school.view(laptop).state == "down" {
                *when = second;
            }
        }
    }
    assert!(asked.iter().all(|when| (1..=45).contains(when)), "{asked:?}");
    let apart = school.view(0).since.abs_diff(school.view(1).since);
    assert!(apart > 100, "a class would ask at once: {apart} ms apart");
    // A change meanwhile is held, and told as soon as the server is met.
    school.set(0, "<item jid='bob@far.example'/>");
    assert_eq!((school.view(0).state.as_str(), school.view(0).held), ("down", 1));
    school.meet(0);
    assert_eq!((school.view(0).state.as_str(), school.view(0).held), ("up", 0));
    school.forget();
}

/// More than are remembered otherwise: what the server has not been told of it would undo.
#[test]
fn who_is_unblocked_before_the_server_knows_stays_unblocked() {
    let school = School::new(1);
    for number in 0..300 {
        school.block(0, "block", &format!("eve{number}@far.example"));
    }
    school.meet(0);
    assert_eq!(school.blocks(0).len(), 300);
    school.clients[0].send("<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'/></iq>");
    school.forget();
    school.meet(0);
    school.meet(0);
    assert_eq!(school.blocks(0).len(), 0);
}

/// A contact that the server has and that has no room here: both stay as they are, and the pass comes to an end.
#[test]
fn what_cannot_be_taken_in_is_not_told_again_and_again() {
    let school = School::with_limit(2, 2);
    school.set(0, "<item jid='bob@far.example'/>");
    school.meet(0);
    school.meet(1);
    school.set(1, "<item jid='bob@far.example' subscription='remove'/>");
    school.set(1, "<item jid='carl@far.example'/>");
    school.set(1, "<item jid='dora@far.example'/>");
    school.laptops[0].wait(MINUTE);
    school.set(0, "<item jid='bob@far.example' name='Bob'/>");
    school.meet(0);
    school.server.desk(|desk| desk.asked.clear());
    school.join(1);
    school.rest(1);
    assert_eq!(school.view(1).state, "up");
    let asked: usize = school.server.desk(|desk| desk.asked.values().sum());
    assert!(asked < 20, "{asked} questions");
    school.part(1);
    assert_eq!(school.list(1).len(), 2);
}

/// Whatever the server says for a device, that device has to have signed.
#[test]
fn a_server_that_invents_edits_is_not_believed() {
    let school = School::new(2);
    school.set(0, "<item jid='bob@far.example' name='Bob'/>");
    school.meet(0);
    school.server.desk(|desk| desk.lies = true);
    school.meet(1);
    assert!(school.list(1).is_empty());
    assert_ne!(school.view(1).state, "up");
    school.server.desk(|desk| desk.lies = false);
    school.laptops[1].wait(20 * MINUTE);
    school.meet(1);
    assert_eq!(school.list(1).len(), 1);
}

/// The connection, the laptop or the server breaks off after any number of frames: the next meeting completes.
#[test]
fn a_pass_that_breaks_off_is_completed_by_the_next() {
    for broken in 0..40 {
        let mut school = School::new(2);
        for laptop in 0..2 {
            for n in 0..6 {
                school.set(laptop, &format!("<item jid='c{laptop}{n}@far.example' name='{n}'/>"));
            }
        }
        school.meet(0);
        school.join(1);
        rest_until(&school.all(), broken);
        school.part(1);
        match broken % 3 {
            0 => school.restart(1),
            1 => school.server.desk(|desk| desk.restart()),
            _ => {}
        }
        school.laptops[1].wait(20 * MINUTE);
        for laptop in [1, 0] {
            school.meet(laptop);
        }
        assert_eq!(school.list(0).len(), 12, "broken off after {broken} frames");
        assert_eq!(school.list(0), school.list(1), "broken off after {broken} frames");
    }
}

/// 5,000 contacts: first, after 10 changes, and after none.
#[test]
#[allow(clippy::disallowed_methods, reason = "how long it takes is printed, and decides nothing")]
fn bytes_are_near_what_changed() {
    const CONTACTS: usize = 5_000;
    let school = School::new(2);
    let add = |n: usize| Command::AddContact {
        account: "anna".to_owned(),
        jid: format!("contact{n}@far.example"),
        name: Some(format!("Contact number {n}")),
    };
    let before = resident();
    for n in 0..CONTACTS {
        school.laptops[0].command(add(n));
    }
    school.forget();
    println!(
        "{CONTACTS} contacts on one laptop: {} kB more in memory",
        resident().saturating_sub(before) / 1_000
    );
    let pass = |laptop: usize| {
        let (begin, before) = (Instant::now(), resident());
        school.join(laptop);
        // What the whole pass was; a second later another one finds that nothing is left.
        let view = school.view(laptop);
        let more = resident().saturating_sub(before);
        school.rest(laptop);
        school.part(laptop);
        assert_eq!((view.state.as_str(), school.view(laptop).held), ("up", 0));
        let took = begin.elapsed();
        school.laptops[laptop].wait(10 * MINUTE);
        (view.sent + view.received, format!("{took:?}, {} kB more in memory", more / 1_000))
    };
    for (what, laptop) in [("all told", 0), ("all fetched", 1)] {
        let (bytes, took) = pass(laptop);
        println!("{CONTACTS} contacts, {what}: {bytes} bytes, {took}");
        assert!((100 * CONTACTS as u64..500 * CONTACTS as u64).contains(&bytes), "{what}: {bytes}");
    }
    assert_eq!(school.list(1).len(), CONTACTS);
    for n in 0..10 {
        school.laptops[0].command(add(n * 500 + 3).renamed());
    }
    let contents = school.laptops[0].snapshot();
    let changed = |n: usize| {
        let mut entries = contents.tree(Tree::Roster);
        let jid = format!("contact{}@far.example", n * 500 + 3);
        entries.find(|(key, _)| key.ends_with(jid.as_bytes()) && key.len() == 32 + jid.len()).unwrap().1.len()
    };
    let changes = (0..10).map(changed).sum::<usize>() as u64;
    for (what, laptop) in [("10 changes told", 0), ("10 changes fetched", 1)] {
        let (bytes, took) = pass(laptop);
        println!(
            "{CONTACTS} contacts, {what}: {bytes} bytes, {:.1} times the changes' {changes}, {took}",
            bytes as f64 / changes as f64
        );
        assert!(bytes <= 5 * changes, "{what}: {bytes} bytes for {changes}");
    }
    assert_eq!(school.list(0), school.list(1));
    let (bytes, took) = pass(1);
    println!("{CONTACTS} contacts, nothing changed: {bytes} bytes, {took}");
    assert!(bytes < 1_024, "{bytes}");
}

/// Bytes that this process holds, with the server and both laptops.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4_096
}

trait Renamed {
    fn renamed(self) -> Self;
}

impl Renamed for Command {
    fn renamed(self) -> Self {
        match self {
            Self::AddContact { account, jid, .. } => {
                Self::AddContact { account, jid, name: Some("A new name".to_owned()) }
            }
            other => other,
        }
    }
}

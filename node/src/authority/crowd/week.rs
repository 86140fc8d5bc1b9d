//! A school of which everybody comes back after a week in which the server could not be reached by anybody, within one hour of the
//! server's clock: with a week's edits, letters that were written offline, a certificate to be renewed, domains that were introduced
//! meanwhile, letters from outside and envelopes that wait. Some come with another laptop, and a password that they mistype first;
//! some laptops were lost, and come in other hands; some users were disabled. What each is told is compared with what it is to be
//! told at that moment: nothing is refused that should pass, nothing passes that should be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crosstalk_overlay::enrol::{self, Ask, Why};
use crosstalk_overlay::id::{MessageId, UserId};
use crosstalk_overlay::keys::AuthorityKey;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::laptop::{Laptop, key_of};
use super::mail::Mail;
use super::pupils::{
    CONTACTS, Fate, PASSWORD, before_the_week, enrol, fate, friends_of, lives_for_a_week, log_in, next,
    without,
};
use super::{DAY, Measured, many};
use crate::authority::Question;
use crate::authority::machine::Machine as _;
use crate::authority::opaque::{Account, Registration};
use crate::authority::tests_on_postgres::Said;
use crate::upstream::connection::Event;
use crate::xmpp::Stanza;

const HOUR: u64 = 60 * 60 * 1_000;
const MINUTE: u64 = 60 * 1_000;
/// Letters from outside that wait for each, and envelopes.
const LETTERS: usize = 2;
const ENVELOPES: usize = 2;
/// Questions of a laptop that are answered at once, as the limit for all peers says (ARCHITECTURE.md).
const AT_ONCE: usize = 512;
/// What their laptops that are not the first ones are.
const SECOND: usize = 1;
const LOST: usize = 2;

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Letter(usize),
    Envelope(usize),
    Revoked(usize),
    Disabled(usize),
    /// The first laptop comes; then, some minutes later, once more.
    Comes(usize),
    Again(usize),
    /// The second one does.
    Second(usize),
    /// A lost one does, in other hands.
    Thief(usize),
}

/// A number below `span`, always the same for the same.
fn draw(what: &str, number: usize, span: u64) -> u64 {
    let hash = Sha256::digest(format!("{what} {number}"));
    hash[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) % span
}

struct School {
    server: Measured,
    laptops: Vec<Laptop>,
    seconds: BTreeMap<usize, Laptop>,
    thieves: BTreeMap<usize, Laptop>,
    mail: Mail,
    /// What was written to the stock server.
    written: Option<mpsc::Receiver<Vec<u8>>>,
    /// Ids of the letters that came there.
    outside: Vec<String>,
    /// Who was here, with its first laptop.
    came: BTreeSet<usize>,
    /// Envelopes that were fetched.
    fetched: Vec<MessageId>,
    refused: BTreeMap<String, u64>,
    revoked: usize,
}

impl School {
    fn new(server: Measured, many: usize) -> Self {
        let now = server.wall();
        let mut laptops: Vec<Laptop> = (0..many).map(|user| Laptop::new(user, 0, now)).collect();
        let certificates: Vec<_> = laptops.iter().map(|laptop| laptop.certificate.clone()).collect();
        for (user, laptop) in laptops.iter_mut().enumerate() {
            before_the_week(laptop, user, &certificates, now - 2 * DAY);
        }
        let of = |wanted: &[Fate], number: usize| {
            let users = (0..many).filter(|user| wanted.contains(&fate(*user)));
            users.map(|user| (user, Laptop::new(user, number, now))).collect()
        };
        let (seconds, thieves) = (of(&[Fate::Another], SECOND), of(&[Fate::Lost, Fate::Revoked], LOST));
        let mut school = Self {
            server,
            laptops,
            seconds,
            thieves,
            mail: Mail::default(),
            written: None,
            outside: Vec::new(),
            came: BTreeSet::new(),
            fetched: Vec::new(),
            refused: BTreeMap::new(),
            revoked: 0,
        };
        for user in 0..many {
            match fate(user) == Fate::Another {
                true => school.enrol_with_password(user),
                false => enrol(&school.server.stage.office, &school.laptops[user], user, now),
            }
        }
        school
    }

    /// By an invitation, with a password.
    fn enrol_with_password(&mut self, user: usize) {
        let (server, laptop, name) = (&mut self.server, &self.laptops[user], format!("pupil{user}"));
        server.stage.done(Question::AddUser { name: name.clone() });
        let invitation = server.stage.invite(&name, DAY);
        let account = Account { address: &invitation.address, authority: &invitation.authority };
        let begun = Registration::start(PASSWORD).expect("begun");
        let token = invitation.token.to_vec();
        let register = enrol::Register { token: token.clone(), request: begun.request.clone() };
        let Said::Registering(said) = server.ask(laptop.node.id(), &Ask::Register(register)) else {
            panic!("refused")
        };
        let (upload, _) = begun.finish(PASSWORD, &said.response, account).expect("ended");
        let consent = enrol::consent(&laptop.user, account.authority, account.address).to_vec();
        let (user, sealed, recovery) = (laptop.user.id().as_bytes().to_vec(), vec![7; 98], vec![8; 98]);
        let ask = Ask::Enrol(enrol::Enrol { token, upload, user, sealed, recovery, consent });
        let said = server.ask(laptop.node.id(), &ask);
        assert!(matches!(said, Said::Enrolled(_)), "{said:?}");
    }

    /// What happens when: within a week, and an hour after it.
    fn timetable(&self) -> BTreeSet<(u64, Step)> {
        let (many, begin) = (self.laptops.len(), self.server.machine.mono());
        let back = begin + 7 * DAY;
        let mut table = BTreeSet::new();
        for letter in 0..many * LETTERS {
            table.insert((begin + draw("letter", letter, 7 * DAY), Step::Letter(letter)));
        }
        for envelope in 0..many * ENVELOPES {
            table.insert((begin + draw("envelope", envelope, 7 * DAY), Step::Envelope(envelope)));
        }
        for user in 0..many {
            // A third of them when the bell rings.
            let span = if user % 3 == 0 { 2 * MINUTE } else { HOUR - 10 * MINUTE };
            let comes = back + draw("comes", user, span);
            table.insert((comes, Step::Comes(user)));
            table.insert((comes + MINUTE + draw("again", user, 8 * MINUTE), Step::Again(user)));
            let later = back + draw("other", user, HOUR - 10 * MINUTE);
            match fate(user) {
                Fate::Another => {
                    table.insert((later, Step::Second(user)));
                }
                Fate::Revoked => {
                    table.insert((begin + draw("revoked", user, 7 * DAY), Step::Revoked(user)));
                    table.insert((later, Step::Thief(user)));
                }
                Fate::Lost => {
                    table.insert((later, Step::Thief(user)));
                }
                Fate::Disabled => {
                    table.insert((begin + draw("disabled", user, 7 * DAY), Step::Disabled(user)));
                }
                Fate::Plain | Fate::Blocks | Fate::BlocksListed => {}
            }
        }
        table
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Letter(letter) => self.letter_comes(letter),
            Step::Envelope(envelope) => {
                let (many, now) = (self.laptops.len(), self.server.machine.now());
                let (from, to) = (&self.laptops[(envelope + 1) % many], &self.laptops[envelope % many]);
                self.mail.deposit(from, to, now);
            }
            Step::Revoked(user) => {
                let device = self.thieves[&user].device.id().to_hex();
                let name = format!("pupil{user}");
                let signed = self.server.stage.done(Question::RevokeDevice { name, device });
                assert_eq!(signed.len(), 1);
            }
            Step::Disabled(user) => {
                let signed = self.server.stage.done(Question::DisableUser { name: format!("pupil{user}") });
                assert_eq!(signed.len(), 1);
            }
            Step::Comes(user) => self.comes(user),
            Step::Again(user) => self.comes_again(user),
            Step::Second(user) => self.second_comes(user),
            Step::Thief(user) => self.thief_comes(user),
        }
        self.server.work(|stage| stage.office.component_event(Event::Tick));
        self.stock_server();
    }

    fn refuses(&mut self, why: Why) {
        *self.refused.entry(format!("{why:?}").to_lowercase()).or_default() += 1;
    }

    fn is_disabled(&mut self, user: usize) -> bool {
        if fate(user) != Fate::Disabled {
            return false;
        }
        assert_eq!(self.laptops[user].pass(&mut self.server), Err(Why::Disabled));
        self.refuses(Why::Disabled);
        true
    }

    fn comes(&mut self, user: usize) {
        if self.is_disabled(user) {
            return;
        }
        let now = self.server.wall();
        let laptop = &mut self.laptops[user];
        let others =
            laptop.has.values().filter(|entry| entry.edits().iter().any(|edit| edit.millis > now - 2 * DAY));
        let edited = others.count();
        if fate(user) == Fate::Lost {
            // The news of it wait in the laptop for the server.
            laptop.record = without(laptop, &self.thieves[&user], now);
        }
        let (told, _) = laptop.pass(&mut self.server).expect("let in");
        assert!(told <= edited && (told == edited || fate(user) == Fate::Another), "{told} of {edited}");
        assert_eq!(laptop.begun.introductions.len(), 3);
        assert!(!laptop.begun.name.is_empty(), "the certificate is renewed");
        laptop.look(&mut self.server);
        laptop.exchange(&mut self.server);
        self.fetch_envelopes(user);
        self.came.insert(user);
        let news = self.server.stage.office.take_news();
        assert_eq!(news.len(), usize::from(fate(user) == Fate::Lost), "the authority says it, too");
        self.revoked += news.len();
        if let Some(thief) = self.thieves.get(&user) {
            assert!(!thief.goes_on(&mut self.server), "a lost laptop that is there already is");
            self.refuses(Why::Forgotten);
        }
    }

    fn fetch_envelopes(&mut self, user: usize) {
        let now = self.server.machine.now();
        let got = self.mail.take(&self.laptops[user], now);
        self.fetched.extend(got);
    }

    fn comes_again(&mut self, user: usize) {
        if self.is_disabled(user) {
            return;
        }
        let laptop = &mut self.laptops[user];
        assert_eq!(laptop.pass(&mut self.server).expect("let in").0, 0, "all is told");
        laptop.look(&mut self.server);
        laptop.exchange(&mut self.server);
        self.fetch_envelopes(user);
    }

    fn second_comes(&mut self, user: usize) {
        let second = self.seconds.get_mut(&user).expect("one");
        log_in(&mut self.server, second);
        let (told, taken) = second.pass(&mut self.server).expect("let in");
        assert!(told == 0 && taken >= CONTACTS, "{told} told, {taken} taken");
        second.edit(CONTACTS, "Found by the second one", self.server.wall());
        assert_eq!(second.pass(&mut self.server).expect("let in").0, 1);
    }

    /// Who has lost it decides when that counts.
    fn thief_comes(&mut self, user: usize) {
        let thief = self.thieves.get_mut(&user).expect("one");
        let known = fate(user) == Fate::Revoked || self.came.contains(&user);
        match thief.pass(&mut self.server) {
            Ok(_) => {
                assert!(!known, "a laptop that is known to be lost is let in");
                thief.look(&mut self.server);
            }
            Err(why) => {
                assert!(known && why == Why::Revoked, "{why:?}");
                self.refuses(why);
            }
        }
    }

    /// The door is opened, and the stock server there.
    fn open_door(&mut self) {
        let office = &mut self.server.stage.office;
        office.open_door("stock:5347").expect("opened");
        let begun = Instant::now();
        while !matches!(&office.component().expect("a door").state[..], "down" | "up") {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody leads");
            office.maintain();
            office.attend();
            std::thread::sleep(Duration::from_millis(20));
        }
        let (orders, written) = mpsc::channel(65_536);
        office.component_event(Event::Up(orders));
        self.written = Some(written);
    }

    fn letter_comes(&mut self, letter: usize) {
        let many = self.laptops.len();
        let xml = format!(
            "<message from='aunt{letter}@s{}.example/o' to='pupil{}@school.example' type='chat' id='{letter}'><body>When do you \
             come home?</body></message>",
            letter % 97,
            letter % many,
        );
        let element = Stanza::read(xml.as_bytes()).expect("a stanza").to_element();
        self.server.work(|stage| stage.office.component_event(Event::Element(element)));
    }

    /// It takes what is written to it, and sends back what is for the component.
    fn stock_server(&mut self) {
        let Some(written) = self.written.as_mut() else { return };
        let mut echoes = Vec::new();
        while let Ok(bytes) = written.try_recv() {
            for stanza in stanzas(&String::from_utf8(bytes).expect("text")) {
                let to = stanza.to.as_ref().map(ToString::to_string).unwrap_or_default();
                match &to[..] {
                    "school.example" => echoes.push(stanza),
                    to if to.starts_with("uncle") => {
                        self.outside.push(stanza.id.unwrap_or_default().to_string());
                    }
                    _ => {}
                }
            }
        }
        for echo in echoes {
            self.server.work(|stage| stage.office.component_event(Event::Element(echo.to_element())));
        }
    }

    fn friends(&self, user: usize) -> BTreeSet<usize> {
        friends_of(user, self.laptops.len())
    }

    /// At the end each has everything, once.
    fn settled(&mut self) {
        let many = self.laptops.len();
        let refused = self.server.stage.office.database.signs().figures().refused;
        assert_eq!(refused, self.refused, "nothing else was refused");
        for user in (0..many).filter(|user| fate(*user) != Fate::Disabled) {
            let laptop = &mut self.laptops[user];
            laptop.pass(&mut self.server).expect("let in");
            assert_eq!(laptop.pass(&mut self.server), Ok((0, 0)), "in step");
            if let Some(second) = self.seconds.get_mut(&user) {
                second.pass(&mut self.server).expect("let in");
                assert_eq!(second.marks(), laptop.marks());
            }
            laptop.look(&mut self.server);
            let mut letters = laptop.letters.clone();
            letters.sort_by_key(|id| id.parse::<usize>().expect("a number"));
            let sent: Vec<String> = (0..LETTERS).map(|letter| (user + letter * many).to_string()).collect();
            assert_eq!(letters, sent, "letters of {user}");
            assert!(laptop.writes.is_none());
        }
        self.outside.sort_by_key(|id| id.parse::<usize>().expect("a number"));
        let wrote = (0..many).filter(|user| fate(*user) != Fate::Disabled).map(|user| user.to_string());
        assert_eq!(self.outside, wrote.collect::<Vec<_>>(), "what they wrote");
        let disabled = (0..many).filter(|user| fate(*user) == Fate::Disabled);
        let disabled: BTreeSet<UserId> = disabled.map(|user| key_of(user).id()).collect();
        assert_eq!(self.mail.left(), disabled, "envelopes");
        let fetched: BTreeSet<&MessageId> = self.fetched.iter().collect();
        assert_eq!((fetched.len(), self.fetched.len()), ((many - disabled.len()) * ENVELOPES, fetched.len()));
        self.everybody_sees(many);
        let lost = self.thieves.keys().copied().collect::<Vec<_>>();
        lost.into_iter().for_each(|user| self.thief_comes(user));
        assert_eq!(self.revoked, (0..many).filter(|user| fate(*user) == Fate::Lost).count());
    }

    /// Whom they may see, and nobody else.
    fn everybody_sees(&self, many: usize) {
        for user in (0..many).filter(|user| fate(*user) != Fate::Disabled) {
            let blocks = |other: usize| matches!(fate(other), Fate::Blocks | Fate::BlocksListed);
            let blocked = |other: &usize| blocks(*other) && next(*other, many) == user;
            let sees = self
                .friends(user)
                .into_iter()
                .filter(|other| fate(*other) != Fate::Disabled && !blocked(other));
            assert_eq!(self.laptops[user].seen(), sees.map(|other| key_of(other).id()).collect(), "{user}");
            let lost: BTreeSet<_> = self.thieves.values().map(|thief| thief.device.id()).collect();
            let sees_lost = self.laptops[user].sees.values().any(|seen| lost.contains(&seen.device));
            assert!(!sees_lost, "what a lost laptop has shown");
        }
    }
}

/// One behind the other, as they are on a stream.
fn stanzas(text: &str) -> Vec<Stanza> {
    let begins = text.match_indices('<').map(|(at, _)| at);
    let begins = begins
        .filter(|at| ["<message ", "<iq ", "<presence "].iter().any(|tag| text[*at..].starts_with(tag)));
    let begins: Vec<usize> = begins.chain([text.len()]).collect();
    let each = begins.windows(2).map(|pair| &text[pair[0]..pair[1]]);
    each.map(|stanza| Stanza::read(stanza.as_bytes()).expect("a stanza")).collect()
}

fn comes_back_after_a_week(server: Measured) {
    let many = many("CROSSTALK_SCHOOL", 60);
    let mut school = School::new(server, many);
    let now = school.server.wall();
    school.server.start();
    for user in 0..many {
        if let Some(lost) = school.thieves.get(&user) {
            school.laptops[user].record = school.laptops[user].devices(&[lost], now).encode();
        }
        let things = school.laptops[user].has.len();
        assert_eq!(school.laptops[user].pass(&mut school.server), Ok((things, 0)));
    }
    school.server.print(&format!("{many} tell a list of {CONTACTS}"));
    for (domain, seed) in [("office.example", 21), ("club.example", 22), ("town.example", 23)] {
        let key = Some(AuthorityKey::from_seed([seed; 32]).id().to_hex());
        school.server.stage.done(Question::Introduce { domain: domain.into(), key });
    }
    school.open_door();
    for (user, laptop) in school.laptops.iter_mut().enumerate() {
        lives_for_a_week(laptop, user, many, now + 6 * DAY);
    }
    let table = school.timetable();
    let back = school.server.machine.mono() + 7 * DAY;
    let mut away = true;
    school.server.start();
    for (at, step) in table {
        if at >= back && std::mem::take(&mut away) {
            school.server.print("the week without them");
            school.server.start();
        }
        school.server.machine.set(at);
        school.step(step);
    }
    assert!(school.server.machine.mono() < back + HOUR);
    school.server.print(&format!("{many} come back within an hour after a week"));
    assert!(school.server.asked.values().all(|asked| *asked < AT_ONCE));
    school.settled();
    let (may, holds) = school.mail.bytes();
    println!("envelopes of who was disabled: {holds} bytes, {may} at most");
}

#[test]
fn a_school_comes_back_after_a_week() {
    comes_back_after_a_week(Measured::own());
}

#[test]
fn a_school_comes_back_after_a_week_on_postgres() {
    comes_back_after_a_week(Measured::on_postgres());
}

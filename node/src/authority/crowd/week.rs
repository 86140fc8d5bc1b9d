//! A school of which everybody comes back after a week in which the server was away: with a week's edits, to a certificate that has
//! to be renewed, domains that were introduced, and letters that wait; some with another laptop, and a password that they
//! mistype first. The clocks are real, and all come within far less than the hour that they have: what is refused to nobody
//! then is refused to nobody in an hour.

use std::time::Duration;

use crosstalk_overlay::authority::certify;
use crosstalk_overlay::enrol::{self, Ask, Exchange, Why, login_context};
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_storage::tree::authority::{Member, MemberState};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{DAY, Laptop, Measured, many};
use crate::authority::Question;
use crate::authority::database::Change;
use crate::authority::opaque::{Account, LoginAttempt, Registration};
use crate::authority::tests_on_postgres::Said;
use crate::event_loop::clock::wall_millis;
use crate::upstream::connection::Event;
use crate::xmpp::Stanza;

const PASSWORD: &[u8] = b"four words are better";
/// One in so many has another laptop.
const SECOND: usize = 20;
/// Letters from outside that wait for each.
const LETTERS: usize = 2;
/// Questions of a laptop that are answered at once, as the limit for all peers says (ARCHITECTURE.md).
const AT_ONCE: usize = 512;

/// A pupil's laptop as it was a week ago.
fn laptop(user: usize, now: u64) -> Laptop {
    let mut laptop = Laptop::new(user, 0);
    (0..30).for_each(|contact| laptop.edit(contact, &format!("Contact number {contact}"), now - 8 * DAY));
    laptop.serial = 1;
    laptop
}

/// As in the spring: its certificate is to be renewed by now.
fn enrol(server: &mut Measured, user: usize, now: u64) {
    let laptop = Laptop::new(user, 0);
    let (state, key) = (MemberState::Enrolled.into(), laptop.user.id().as_bytes().to_vec());
    let old = certify(&server.stage.office.key, &laptop.address, laptop.user.id(), 0, now - 61 * DAY);
    let name = old.expect("certified").bytes().to_vec();
    let member = Member { state, user: key, name, ..Member::default() };
    let database = &server.stage.office.database;
    database.commit(Change::default().member(&format!("pupil{user}"), member)).expect("durable");
}

/// The same by an invitation, with a password.
fn enrol_with_password(server: &mut Measured, user: usize) {
    let (laptop, name) = (Laptop::new(user, 0), format!("pupil{user}"));
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

/// Mistypes the password, and then does not.
fn log_in(server: &mut Measured, laptop: &Laptop) {
    for password in [&b"four worse are bitter"[..], PASSWORD] {
        let begun = LoginAttempt::start(password).expect("begun");
        let (address, request) = (laptop.address.clone(), begun.request.clone());
        let login = enrol::Login { address, request, nonce: 0, derived: false };
        let said = server.ask(laptop.node.id(), &Ask::Login(login));
        let Said::Challenged(said) = said else { panic!("refused: {said:?}") };
        let authority = server.stage.office.key.id();
        let context = login_context(&laptop.node.id(), &server.stage.office.node);
        let account = Account { address: &laptop.address, authority: &authority };
        let finished = begun.finish(password, &said.response, account, &context);
        let Ok((proof, _)) = finished else { continue };
        let prove = enrol::Prove { login: said.login, proof, client_key: Vec::new() };
        let said = server.ask(laptop.node.id(), &Ask::Prove(prove));
        assert!(matches!(said, Said::Enrolled(_)), "{said:?}");
        return;
    }
    panic!("{:?}", Why::Password);
}

/// What came from outside during the week.
fn letters_come(server: &mut Measured, school: usize) -> mpsc::Receiver<Vec<u8>> {
    let office = &mut server.stage.office;
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
    for letter in 0..school * LETTERS {
        // Many senders at many servers: one alone would not be let write so much.
        let xml = format!(
            "<message from='aunt{letter}@s{}.example/o' to='pupil{}@school.example' type='chat' id='{letter}'><body>When do you \
             come home?</body></message>",
            letter % 97,
            letter % school,
        );
        let stanza = Stanza::read(xml.as_bytes()).expect("a stanza");
        office.component_event(Event::Element(stanza.to_element()));
    }
    written
}

/// The laptop gets its letters, and says that it has them.
fn fetch_letters(server: &mut Measured, laptop: &Laptop) -> usize {
    let session = laptop.begun.session;
    let mut ask = Exchange { session, fresh: true, ..Exchange::default() };
    let mut got = 0;
    for _ in 0..4 {
        let said = server.ask(laptop.node.id(), &Ask::Exchange(ask));
        let Said::Exchanged(said) = said else { panic!("refused: {said:?}") };
        got += said.letters.len();
        let come = said.letters.last().map_or(0, |letter| letter.number);
        if come == 0 {
            break;
        }
        ask = Exchange { session, queue: said.queue, come, ..Exchange::default() };
    }
    got
}

/// One comes back; how many statements it told and took.
fn comes_back(server: &mut Measured, user: usize, now: u64) {
    let mut first = laptop(user, now);
    (0..10).for_each(|contact| first.edit(contact, &format!("Renamed {contact}"), now - DAY));
    assert_eq!(first.pass(server), (10, 10), "and what they were before");
    assert_eq!(first.begun.introductions.len(), 3);
    assert!(!first.begun.name.is_empty(), "the certificate is renewed");
    assert_eq!(fetch_letters(server, &first), LETTERS);
    if user.is_multiple_of(SECOND) {
        let mut second = Laptop::new(user, 1);
        log_in(server, &second);
        assert_eq!(second.pass(server), (0, 30));
        assert_eq!(first.marks(), second.marks());
    }
    assert_eq!(first.pass(server), (0, 0), "in step");
}

/// Each has 30 contacts at the server and has changed ten meanwhile.
#[test]
fn a_school_comes_back_after_a_week() {
    let school = many("CROSSTALK_SCHOOL", 60);
    for mut server in Measured::both() {
        let now = wall_millis();
        for user in 0..school {
            match user.is_multiple_of(SECOND) {
                true => enrol_with_password(&mut server, user),
                false => enrol(&mut server, user, now),
            }
        }
        server.start();
        for user in 0..school {
            assert_eq!(laptop(user, now).pass(&mut server), (30, 0));
        }
        server.print(&format!("{school} tell a list of 30"));
        for (domain, seed) in [("office.example", 21), ("club.example", 22), ("town.example", 23)] {
            let key = Some(AuthorityKey::from_seed([seed; 32]).id().to_hex());
            server.stage.done(Question::Introduce { domain: domain.into(), key });
        }
        let _written = letters_come(&mut server, school);
        server.start();
        for user in 0..school {
            comes_back(&mut server, user, now);
        }
        server.print(&format!("{school} come back after a week"));
        assert!(server.begun.elapsed() < Duration::from_secs(3_600));
        assert!(server.asked.values().all(|asked| *asked < AT_ONCE));
    }
}

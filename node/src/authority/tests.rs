//! The server as laptops and the command line see it, without a network.

use std::sync::Arc;

pub(super) use crosstalk_overlay::enrol::Answer as Said;
use crosstalk_overlay::enrol::{
    self, Ask, Enrol, Find, Invitation, Login, Prove, Register, Statement, Why, login_context,
};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::keys::{AuthorityKey, DeviceKey, NodeKey, UserKey};
use crosstalk_overlay::record::{DeviceCert, NodeBinding, Verified};

use super::database::Home;
use super::machine::{Machine, ThisMachine};
use super::office::{Office, certificate, founding};
use super::opaque::{Account, LoginAttempt, Registration, Server};
use super::private::Data;
use super::{Answer, Authority, Question, StartError};
use crate::accounts::key_dir::KeyDir;
use crate::event_loop::clock::wall_millis;

#[path = "tests/introduced.rs"]
mod introduced;
#[path = "tests/kept.rs"]
mod kept;
#[path = "tests/listed.rs"]
mod listed;
#[path = "tests/lost.rs"]
pub(super) mod lost;
#[path = "tests/moved.rs"]
mod moved;
#[path = "tests/rotated.rs"]
mod rotated;

pub(super) const ALICE: &str = "alice@school.example";
const PASSWORD: &[u8] = b"wherefore";
const DAY: u64 = 24 * 60 * 60 * 1_000;

pub(super) struct Stage {
    data: Data,
    machine: Arc<dyn Machine>,
    pub(super) office: Office,
}

fn key() -> AuthorityKey {
    AuthorityKey::from_seed([1; 32])
}

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn this() -> Arc<dyn Machine> {
    Arc::new(ThisMachine::start())
}

fn open(data: &Data, machine: &Arc<dyn Machine>) -> Office {
    let database = data.open();
    if database.domain().expect("read").is_none() {
        database.commit(founding("school.example", key().id(), machine.now().wall)).expect("durable");
    }
    let keys = (key(), KeyDir::open(data.dir.path()).expect("keys"));
    let opaque = Server::from_seed(&[2; 32]);
    Office::new(database, "school.example".into(), keys, opaque, node(0), machine.clone())
}

impl Stage {
    /// With alice and bob added.
    fn new() -> Self {
        Self::of(Data::new(module_path!()), this()).with_both()
    }

    fn with_both(mut self) -> Self {
        for name in ["alice", "bob"] {
            self.done(Question::AddUser { name: name.into() });
        }
        self
    }

    /// At a new database, with the same added.
    pub(super) fn at(home: Home) -> Self {
        Self::on(home, this())
    }

    /// The same, on a machine with other clocks.
    pub(super) fn on(home: Home, machine: Arc<dyn Machine>) -> Self {
        Self::of(Data::at(home), machine).with_both()
    }

    fn of(data: Data, machine: Arc<dyn Machine>) -> Self {
        Self { office: open(&data, &machine), data, machine }
    }

    /// Another process on the same database.
    pub(super) fn beside(&self) -> Self {
        Self::of(Data::at(self.data.home.clone()), self.machine.clone())
    }

    /// As after a crash.
    fn again(self) -> Self {
        let Self { data, office, machine } = self;
        drop(office);
        Self::of(data, machine)
    }

    pub(super) fn done(&mut self, question: Question) -> Vec<Vec<u8>> {
        match self.office.answer(question) {
            Answer::Done { revocations } => revocations,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn no(&mut self, question: Question) -> String {
        match self.office.answer(question) {
            Answer::Refused(text) => text,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn invite(&mut self, name: &str, life: u64) -> Invitation {
        match self.office.answer(Question::Invite { name: name.into(), life, places: Vec::new() }) {
            Answer::Invited(view) => Invitation::parse(view.link.reveal()).expect("a link"),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ask(&mut self, from: u8, ask: &Ask) -> Said {
        let answer = self.office.serve(node(from), &ask.to_bytes(), &[]);
        Said::from_bytes(&answer).expect("an answer")
    }

    pub(super) fn register(&mut self, invitation: &Invitation, user: u8) -> Result<Ask, Why> {
        let account = Account { address: &invitation.address, authority: &invitation.authority };
        let begun = Registration::start(PASSWORD).expect("begun");
        let token = invitation.token.to_vec();
        let ask = Ask::Register(Register { token: token.clone(), request: begun.request.clone() });
        let response = match self.ask(1, &ask) {
            Said::Registering(registering) => registering.response,
            other => return Err(why(&other)),
        };
        let (upload, _) = begun.finish(PASSWORD, &response, account).expect("ended");
        let key = UserKey::from_seed([user; 32]);
        let consent = enrol::consent(&key, account.authority, account.address).to_vec();
        let (user, sealed, recovery) = (key.id().as_bytes().to_vec(), vec![7; 98], vec![8; 98]);
        Ok(Ask::Enrol(Enrol { token, upload, user, sealed, recovery, consent }))
    }

    pub(super) fn enrolled(&mut self, name: &str, user: u8) -> enrol::Enrolled {
        let invitation = self.invite(name, DAY);
        let ask = self.register(&invitation, user).expect("registered");
        let Said::Enrolled(enrolled) = self.ask(1, &ask) else { panic!("not enrolled") };
        enrolled
    }

    pub(super) fn log_in(
        &mut self,
        from: u8,
        address: &str,
        password: &[u8],
    ) -> Result<enrol::Enrolled, Why> {
        let begun = LoginAttempt::start(password).expect("begun");
        let login =
            Login { address: address.into(), request: begun.request.clone(), nonce: 0, derived: false };
        let challenged = match self.ask(from, &Ask::Login(login)) {
            Said::Challenged(challenged) => challenged,
            other => return Err(why(&other)),
        };
        let (authority, context) = (key().id(), login_context(&node(from), &node(0)));
        let account = Account { address, authority: &authority };
        let finished = begun.finish(password, &challenged.response, account, &context);
        let (proof, _) = finished.map_err(|_| Why::Password)?;
        match self.ask(from, &Ask::Prove(Prove { login: challenged.login, proof, client_key: Vec::new() })) {
            Said::Enrolled(enrolled) => Ok(enrolled),
            other => Err(why(&other)),
        }
    }

    pub(super) fn told(&mut self) -> Vec<(String, String)> {
        match self.office.answer(Question::Audit { most: 100 }) {
            Answer::Audit(lines) => lines.into_iter().map(|line| (line.what, line.name)).collect(),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn why(said: &Said) -> Why {
    match said {
        Said::Refused(refused) => refused.why(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn user(byte: u8) -> UserId {
    UserKey::from_seed([byte; 32]).id()
}

/// Also if the laptop never hears the answer, or the server dies after it: the same again, and nothing twice.
#[test]
fn an_invitation_enrols_once_and_answers_again() {
    let mut stage = Stage::new();
    let invitation = stage.invite("alice", DAY);
    let ask = stage.register(&invitation, 3).expect("registered");
    let first = stage.ask(1, &ask);
    let mut stage = stage.again();
    assert_eq!(stage.ask(1, &ask), first);
    let Said::Enrolled(enrolled) = first else { panic!("not enrolled") };
    let cert = certificate(&enrolled.name).expect("a certificate");
    assert_eq!((cert.user, cert.address.as_str(), cert.authority), (user(3), ALICE, key().id()));
    assert_eq!(stage.register(&invitation, 4).err(), Some(Why::Used));
    let issued = stage.told().into_iter().filter(|(what, _)| what == "name issued").count();
    assert_eq!(issued, 1);
    let again = stage.log_in(2, ALICE, PASSWORD).expect("in");
    assert_eq!((again.user, again.sealed, again.name), (enrolled.user, vec![7; 98], enrolled.name));
}

#[test]
fn invitations_end_and_are_withdrawn() {
    let mut stage = Stage::new();
    let ended = stage.invite("alice", 0);
    assert_eq!(stage.register(&ended, 3).err(), Some(Why::Ended));
    let withdrawn = stage.invite("alice", DAY);
    stage.done(Question::ResetUser { name: "alice".into() });
    assert_eq!(stage.register(&withdrawn, 3).err(), Some(Why::NoInvitation));
    let all: Vec<Invitation> = (0..6).map(|day| stage.invite("alice", day * DAY + DAY)).collect();
    let good = all.iter().filter(|one| stage.register(one, 3).is_ok()).count();
    assert_eq!(good, 4, "the newest of one user");
}

#[test]
fn nobody_gets_a_name_for_a_key_without_its_consent() {
    let mut stage = Stage::new();
    let invitation = stage.invite("alice", DAY);
    let Ask::Enrol(mut ask) = stage.register(&invitation, 3).expect("registered") else { panic!("other") };
    ask.user = user(4).as_bytes().to_vec();
    assert_eq!(why(&stage.ask(1, &Ask::Enrol(ask))), Why::Policy);
    assert!(
        stage.office.database.member("alice").expect("read").is_some_and(|member| member.user.is_empty())
    );
}

#[test]
fn a_wrong_password_and_a_name_that_nobody_has_are_alike() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    assert_eq!(stage.log_in(2, ALICE, b"thou").err(), Some(Why::Password));
    assert_eq!(stage.log_in(2, "nobody@school.example", b"thou").err(), Some(Why::Password));
    assert_eq!(stage.log_in(2, "bob@school.example", b"thou").err(), Some(Why::Password));
    assert_eq!(stage.log_in(2, "alice@office.example", b"thou").err(), Some(Why::Elsewhere));
    for _ in 0..2 {
        assert_eq!(stage.log_in(2, ALICE, b"thou").err(), Some(Why::Password));
    }
    assert_eq!(stage.log_in(2, ALICE, PASSWORD).err(), Some(Why::Slowly));
    assert!(stage.log_in(3, ALICE, PASSWORD).is_ok(), "another laptop");
}

/// The proof of one login is worth nothing for another node, nor twice.
#[test]
fn a_login_is_for_one_node() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let begun = LoginAttempt::start(PASSWORD).expect("begun");
    let login = Login { address: ALICE.into(), request: begun.request.clone(), nonce: 0, derived: false };
    let Said::Challenged(challenged) = stage.ask(2, &Ask::Login(login)) else { panic!("no challenge") };
    let (authority, context) = (key().id(), login_context(&node(2), &node(0)));
    let account = Account { address: ALICE, authority: &authority };
    let (proof, _) = begun.finish(PASSWORD, &challenged.response, account, &context).expect("in");
    let prove = Ask::Prove(Prove { login: challenged.login, proof, client_key: Vec::new() });
    assert_eq!(why(&stage.ask(3, &prove)), Why::Password);
    assert!(matches!(stage.ask(2, &prove), Said::Enrolled(_)));
    assert_eq!(why(&stage.ask(2, &prove)), Why::Password);
}

#[test]
fn a_name_is_taken_back_and_goes_to_a_new_key() {
    let mut stage = Stage::new();
    let first = stage.enrolled("alice", 3);
    assert_eq!(stage.done(Question::DisableUser { name: "alice".into() }).len(), 1);
    assert_eq!(stage.log_in(2, ALICE, PASSWORD).err(), Some(Why::Disabled));
    // Said twice, it is done and told once.
    assert!(stage.done(Question::DisableUser { name: "alice".into() }).is_empty());
    let Answer::Audit(lines) = stage.office.answer(Question::Audit { most: 100 }) else { panic!("no lines") };
    assert_eq!(lines.iter().filter(|line| line.what == "user disabled").count(), 1);
    assert!(
        stage.no(Question::Invite { name: "alice".into(), life: DAY, places: Vec::new() }).contains("reset")
    );
    assert_eq!(stage.done(Question::ResetUser { name: "alice".into() }).len(), 0, "revoked already");
    let mut stage = stage.again();
    let second = stage.enrolled("alice", 4);
    let serial = |enrolled: &enrol::Enrolled| certificate(&enrolled.name).map(|cert| cert.serial);
    assert!(serial(&second) > serial(&first));
    let revocations =
        stage.office.database.member("alice").expect("read").map(|member| member.revocations.len());
    assert_eq!(revocations, Some(1), "told again at each start");
    assert_eq!(stage.done(Question::ResetUser { name: ALICE.into() }).len(), 1);
}

/// What the device of a user says who has come with it to a node.
pub(super) fn begin(user: u8, address: &str, on: &NodeKey) -> Ask {
    begin_as(user, user ^ 0x80, address, on)
}

fn begin_as(user: u8, device: u8, address: &str, on: &NodeKey) -> Ask {
    let (key, device) = (UserKey::from_seed([user; 32]), DeviceKey::from_seed([device; 32]));
    let now = wall_millis();
    let cert = DeviceCert::issue(&key, device.id(), now).expect("issued");
    let binding = NodeBinding::agreed(key.id(), device.id(), on, now, now + 7 * DAY);
    let binding = Verified::sign(binding, &device, None).expect("signed");
    Ask::Begin(enrol::Begin {
        address: address.into(),
        user: key.id().as_bytes().to_vec(),
        certificate: cert.bytes().to_vec(),
        binding: binding.bytes().to_vec(),
        ..enrol::Begin::default()
    })
}

pub(super) fn say(stage: &mut Stage, from: &NodeKey, ask: &Ask) -> Said {
    let places = ["/ip4/192.0.2.1/tcp/14774".to_owned()];
    Said::from_bytes(&stage.office.serve(from.id(), &ask.to_bytes(), &places)).expect("an answer")
}

#[test]
fn a_sync_begins_with_who_proves_to_be_a_device_on_that_node() {
    let (laptop, thief) = (NodeKey::from_seed([5; 32]), NodeKey::from_seed([6; 32]));
    let mut stage = Stage::new();
    let enrolled = stage.enrolled("alice", 3);
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    assert_eq!(begun.name, enrolled.name, "it knew no certificate");
    assert_eq!(begun.places, ["/ip4/192.0.2.1/tcp/14774"]);
    assert!(begun.other_record && begun.record.is_empty());
    // The same proof from another node, another user's, a user who is not enrolled.
    for (from, ask) in [
        (&thief, begin(3, ALICE, &laptop)),
        (&laptop, begin(4, ALICE, &laptop)),
        (&laptop, begin(3, "bob@school.example", &laptop)),
    ] {
        assert_eq!(why(&say(&mut stage, from, &ask)), Why::Password);
    }
    // The session is of that node, and of this life of the server.
    let compare = Ask::Compare(enrol::Compare { session: begun.session, buckets: vec![0] });
    assert!(matches!(say(&mut stage, &laptop, &compare), Said::Compared(_)));
    assert_eq!(why(&say(&mut stage, &thief, &compare)), Why::Forgotten);
    let mut stage = stage.again();
    assert_eq!(why(&say(&mut stage, &laptop, &compare)), Why::Forgotten);
    assert!(
        stage.office.serve(node(5), &begin(3, "alice@office.example", &laptop).to_bytes(), &[]).is_empty()
    );
    stage.done(Question::DisableUser { name: "alice".into() });
    assert_eq!(why(&say(&mut stage, &laptop, &begin(3, ALICE, &laptop))), Why::Disabled);
}

/// What was begun before ends with the name.
#[test]
fn who_has_no_name_any_more_reads_and_writes_nothing() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    let compare = Ask::Compare(enrol::Compare { session: begun.session, buckets: vec![0] });
    assert!(matches!(say(&mut stage, &laptop, &compare), Said::Compared(_)));
    stage.done(Question::DisableUser { name: "alice".into() });
    assert_eq!(why(&say(&mut stage, &laptop, &compare)), Why::Forgotten);
}

/// The block of `eve@b`.
pub(super) const BLOCK: &[u8] = &[8, 1, 26, 11, 10, 5, 101, 118, 101, 64, 98, 18, 2, 8, 9];

pub(super) fn told(session: u64, by: u8, of: &UserId, said: &[u8]) -> Ask {
    let statements = vec![Statement::sign(of, said.to_vec(), &DeviceKey::from_seed([by; 32]))];
    Ask::Tell(enrol::Tell { session, statements, record: Vec::new() })
}

#[test]
fn nobody_says_anything_for_a_device() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    let alice = UserKey::from_seed([3; 32]).id();
    let session = begun.session;
    for ask in [
        told(session, 0x42, &alice, BLOCK),
        told(session, 0x83, &user(4), BLOCK),
        told(session, 0x42, &alice, &[8, 1]),
    ] {
        assert_eq!(why(&say(&mut stage, &laptop, &ask)), Why::Policy);
    }
    let nothing = say(&mut stage, &laptop, &told(session, 0x83, &alice, &[8, 1]));
    assert!(matches!(nothing, Said::Statements(page) if page.unread == 1));
    assert!(matches!(say(&mut stage, &laptop, &told(session, 0x83, &alice, BLOCK)), Said::Statements(_)));
    let mut stage = stage.again();
    let kept = stage.office.database.all_said(&alice, 9).expect("read");
    assert_eq!(kept.len(), 1, "durable, once");
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    assert_eq!(begun.buckets.len(), 2_048);
}

#[test]
fn the_server_is_found_by_its_domain_only() {
    let mut stage = Stage::new();
    let find = |domain: &str| Ask::Find(Find { domain: domain.into() });
    let Said::Found(found) = stage.ask(1, &find("school.example")) else { panic!("not found") };
    assert_eq!(found.authority, key().id().as_bytes());
    assert!(stage.office.serve(node(1), &find("office.example").to_bytes(), &[]).is_empty());
    assert_eq!(stage.office.serve(node(1), b"nonsense", &[]), Said::refused(Why::Policy).to_bytes());
}

#[test]
fn users_are_added_once_and_named_properly() {
    let mut stage = Stage::new();
    assert!(stage.no(Question::AddUser { name: "alice".into() }).contains("already"));
    assert!(stage.no(Question::AddUser { name: "a b".into() }).contains("cannot be an account name"));
    assert!(stage.no(Question::AddUser { name: "zoe@school.example".into() }).contains("user add zoe`"));
    assert!(stage.no(Question::DisableUser { name: "carol".into() }).contains("user add carol"));
    stage.enrolled("alice", 3);
    assert!(
        stage
            .no(Question::Invite { name: "alice".into(), life: DAY, places: Vec::new() })
            .contains("enrolled")
    );
    let told = stage.told();
    let what: Vec<&str> = told.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(what, ["domain made", "user added", "user added", "user invited", "name issued"]);
}

/// What no user can be called is refused before it is remembered, and who waits does so by a clock that nobody sets.
#[test]
fn a_login_is_counted_by_name_and_by_the_time_since_the_start() {
    let mut stage = Stage::new();
    for name in ["a b".to_owned(), "x".repeat(256), "\u{0}".to_owned()] {
        let said = stage.log_in(9, &format!("{name}@school.example"), PASSWORD);
        assert_eq!(said.err(), Some(Why::Policy), "{name}");
    }
    assert_eq!(stage.office.counter.under_way(), None);
    assert_eq!(stage.log_in(9, "nobody@school.example", PASSWORD).err(), Some(Why::Password));
    let an_hour = 60 * 60 * 1_000;
    assert!(stage.office.counter.under_way().is_some_and(|since| since < an_hour));
}

/// A lost or another key for passwords is told at the start, and not replaced.
#[test]
fn the_server_starts_only_with_what_the_passwords_were_registered_with() {
    let data = Data::new(module_path!());
    let keys = KeyDir::open(data.dir.path()).expect("keys");
    let open = || {
        Authority::open(data.home.clone(), keys.clone(), node(0), None, None, false)
            .map(|(authority, _)| authority)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let init = || Question::Init { domain: "school.example".into() };
    let (made, file) = (open().expect("none yet"), &keys.authority_files()[1]);
    assert!(matches!(runtime.block_on(made.ask(init())), Answer::Done { .. }));
    runtime.block_on(made.close());
    let right = std::fs::read(file).expect("a key");
    std::fs::remove_file(file).expect("lost");
    assert!(matches!(open(), Err(StartError::OtherEnrolment(_))));
    assert!(!file.exists(), "no other takes its place");
    keys.enrolment_seed().expect("another");
    assert!(matches!(open(), Err(StartError::OtherEnrolment(_))));
    std::fs::write(file, right).expect("put back");
    let again = open().expect("in order");
    assert_eq!(again.domain().map(|(domain, _)| domain), Some("school.example"));
    runtime.block_on(again.close());
}

//! The server as laptops and the command line see it, without a network.

use crosstalk_overlay::enrol::{
    self, Answer as Said, Ask, Enrol, Find, Invitation, Login, Prove, Register, Renew, Why, login_context,
};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::keys::{AuthorityKey, UserKey};

use super::database::Database;
use super::office::{Office, certificate, founding};
use super::opaque::{Account, LoginAttempt, Registration};
use super::{Answer, Question};

const ALICE: &str = "alice@school.example";
const PASSWORD: &[u8] = b"wherefore";
const DAY: u64 = 24 * 60 * 60 * 1_000;

struct Stage {
    data: tempfile::TempDir,
    office: Office,
}

fn key() -> AuthorityKey {
    AuthorityKey::from_seed([1; 32])
}

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn open(data: &tempfile::TempDir) -> Office {
    let mut database = Database::open(data.path()).expect("opened");
    if database.domain().is_none() {
        database.commit(founding("school.example", key().id())).expect("durable");
    }
    Office::new(database, "school.example".into(), key(), &[2; 32], node(0))
}

impl Stage {
    /// With alice and bob added.
    fn new() -> Self {
        let data = tempfile::tempdir().expect("dir");
        let mut stage = Self { office: open(&data), data };
        for name in ["alice", "bob"] {
            stage.done(Question::AddUser { name: name.into() });
        }
        stage
    }

    /// As after a crash.
    fn again(self) -> Self {
        let Self { data, office } = self;
        drop(office);
        Self { office: open(&data), data }
    }

    fn done(&mut self, question: Question) -> Vec<Vec<u8>> {
        match self.office.answer(question) {
            Answer::Done { revocations } => revocations,
            other => panic!("{other:?}"),
        }
    }

    fn no(&mut self, question: Question) -> String {
        match self.office.answer(question) {
            Answer::Refused(text) => text,
            other => panic!("{other:?}"),
        }
    }

    fn invite(&mut self, name: &str, life: u64) -> Invitation {
        match self.office.answer(Question::Invite { name: name.into(), life, places: Vec::new() }) {
            Answer::Invited(view) => Invitation::parse(view.link.reveal()).expect("a link"),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, from: u8, ask: &Ask) -> Said {
        let answer = self.office.serve(node(from), &ask.to_bytes());
        Said::from_bytes(&answer).expect("an answer")
    }

    fn register(&mut self, invitation: &Invitation, user: u8) -> Result<Ask, Why> {
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

    fn enrolled(&mut self, name: &str, user: u8) -> enrol::Enrolled {
        let invitation = self.invite(name, DAY);
        let ask = self.register(&invitation, user).expect("registered");
        let Said::Enrolled(enrolled) = self.ask(1, &ask) else { panic!("not enrolled") };
        enrolled
    }

    fn log_in(&mut self, from: u8, address: &str, password: &[u8]) -> Result<enrol::Enrolled, Why> {
        let begun = LoginAttempt::start(password).expect("begun");
        let login = Login { address: address.into(), request: begun.request.clone(), nonce: 0 };
        let challenged = match self.ask(from, &Ask::Login(login)) {
            Said::Challenged(challenged) => challenged,
            other => return Err(why(&other)),
        };
        let (authority, context) = (key().id(), login_context(&node(from), &node(0)));
        let account = Account { address, authority: &authority };
        let finished = begun.finish(password, &challenged.response, account, &context);
        let (proof, _) = finished.map_err(|_| Why::Password)?;
        match self.ask(from, &Ask::Prove(Prove { login: challenged.login, proof })) {
            Said::Enrolled(enrolled) => Ok(enrolled),
            other => Err(why(&other)),
        }
    }

    fn told(&mut self) -> Vec<(String, String)> {
        match self.office.answer(Question::Audit { most: 100 }) {
            Answer::Audit(lines) => lines.into_iter().map(|line| (line.what, line.name)).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn why(said: &Said) -> Why {
    match said {
        Said::Refused(refused) => refused.why(),
        other => panic!("{other:?}"),
    }
}

fn user(byte: u8) -> UserId {
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
    assert!(stage.office.database.member("alice").is_some_and(|member| member.user.is_empty()));
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
    let login = Login { address: ALICE.into(), request: begun.request.clone(), nonce: 0 };
    let Said::Challenged(challenged) = stage.ask(2, &Ask::Login(login)) else { panic!("no challenge") };
    let (authority, context) = (key().id(), login_context(&node(2), &node(0)));
    let account = Account { address: ALICE, authority: &authority };
    let (proof, _) = begun.finish(PASSWORD, &challenged.response, account, &context).expect("in");
    let prove = Ask::Prove(Prove { login: challenged.login, proof });
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
    assert!(
        stage.no(Question::Invite { name: "alice".into(), life: DAY, places: Vec::new() }).contains("reset")
    );
    assert_eq!(stage.done(Question::ResetUser { name: "alice".into() }).len(), 0, "revoked already");
    let mut stage = stage.again();
    let second = stage.enrolled("alice", 4);
    let serial = |enrolled: &enrol::Enrolled| certificate(&enrolled.name).map(|cert| cert.serial);
    assert!(serial(&second) > serial(&first));
    let revocations = stage.office.database.member("alice").map(|member| member.revocations.len());
    assert_eq!(revocations, Some(1), "told again at each start");
    assert_eq!(stage.done(Question::ResetUser { name: ALICE.into() }).len(), 1);
}

#[test]
fn a_certificate_is_given_to_who_knows_the_key() {
    let mut stage = Stage::new();
    let enrolled = stage.enrolled("alice", 3);
    let renew = |byte| Ask::Renew(Renew { address: ALICE.into(), user: user(byte).as_bytes().to_vec() });
    let Said::Enrolled(renewed) = stage.ask(5, &renew(3)) else { panic!("not renewed") };
    assert_eq!(renewed.name, enrolled.name, "not due yet");
    assert!(renewed.sealed.is_empty() && renewed.recovery.is_empty());
    assert_eq!(why(&stage.ask(5, &renew(4))), Why::Password);
    let nobody = Ask::Renew(Renew { address: "bob@school.example".into(), user: Vec::new() });
    assert_eq!(why(&stage.ask(5, &nobody)), Why::Password);
    let elsewhere = Ask::Renew(Renew { address: "alice@office.example".into(), user: Vec::new() });
    assert!(stage.office.serve(node(5), &elsewhere.to_bytes()).is_empty());
}

#[test]
fn the_server_is_found_by_its_domain_only() {
    let mut stage = Stage::new();
    let find = |domain: &str| Ask::Find(Find { domain: domain.into() });
    let Said::Found(found) = stage.ask(1, &find("school.example")) else { panic!("not found") };
    assert_eq!(found.authority, key().id().as_bytes());
    assert!(stage.office.serve(node(1), &find("office.example").to_bytes()).is_empty());
    assert_eq!(stage.office.serve(node(1), b"nonsense"), Said::refused(Why::Policy).to_bytes());
}

#[test]
fn users_are_added_once_and_named_properly() {
    let mut stage = Stage::new();
    assert!(stage.no(Question::AddUser { name: "alice".into() }).contains("already"));
    assert!(stage.no(Question::AddUser { name: "a b".into() }).contains("cannot be an account name"));
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

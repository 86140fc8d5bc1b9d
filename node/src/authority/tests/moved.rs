//! Users whom another server had, and passwords that are changed, as the server sees them.

use crosstalk_overlay::enrol::{
    self, Answer as Said, Ask, Change, Changed, Collect, Enrol, Login, Prove, Register, Salted, Scheme, Why,
    login_context, permit,
};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, UserKey};
use crosstalk_storage::tree::upstream::{Contact, OutsideState, State, contacts_of, of_user};

use super::{ALICE, PASSWORD, Stage, begin, key, node, say, user, why};
use crate::authority::derived::{self, Derived, from_password, stretched, verifier_of};
use crate::authority::import::{ImportView, ImportedContact, ImportedUser};
use crate::authority::opaque::{Account, LoginAttempt, Registration};
use crate::authority::{Answer, Question};
use crate::event_loop::clock::wall_millis;

const CAROL: &str = "carol@school.example";

fn contact(address: &str) -> ImportedContact {
    ImportedContact { address: address.into(), listed: true, ..ImportedContact::default() }
}

fn carol() -> ImportedUser {
    let outside = ImportedContact { to: true, from: true, ..contact("romeo@stock.example") };
    let inside = ImportedContact { to: true, from: true, ..contact(ALICE) };
    ImportedUser {
        name: "carol".into(),
        verifier: Some(verifier_of("wherefore", &[9; 16]).into()),
        contacts: vec![outside, inside, contact("nobody@stock.example")],
        nickname: "Carol".into(),
        ..ImportedUser::default()
    }
}

impl Stage {
    fn import(&mut self, users: Vec<ImportedUser>, really: bool) -> ImportView {
        match self.office.answer(Question::Import { users, really }) {
            Answer::Imported(view) => view,
            other => panic!("{other:?}"),
        }
    }

    fn salted(&mut self, address: &str) -> Result<Salted, Box<Said>> {
        let begun = LoginAttempt::start(PASSWORD).expect("begun");
        let login = Login { address: address.into(), request: begun.request, nonce: 0, derived: false };
        match self.ask(4, &Ask::Login(login)) {
            Said::Salted(salted) => Ok(salted),
            other => Err(Box::new(other)),
        }
    }

    /// Logs in over a derived secret.
    fn prove(&mut self, address: &str, secret: &[u8], client_key: &[u8]) -> Result<Said, Why> {
        let begun = LoginAttempt::start(secret).expect("begun");
        let login =
            Login { address: address.into(), request: begun.request.clone(), nonce: 0, derived: true };
        let challenged = match self.ask(4, &Ask::Login(login)) {
            Said::Challenged(challenged) => challenged,
            other => return Err(why(&other)),
        };
        let (authority, context) = (key().id(), login_context(&node(4), &node(0)));
        let account = Account { address, authority: &authority };
        let finished = begun.finish(secret, &challenged.response, account, &context);
        let (proof, _) = finished.map_err(|_| Why::Password)?;
        let prove = Prove { login: challenged.login, proof, client_key: client_key.to_vec() };
        match self.ask(4, &Ask::Prove(prove)) {
            Said::Refused(refused) => Err(refused.why()),
            other => Ok(other),
        }
    }

    /// The user of that seed is enrolled with the token that a right password gave.
    fn enrol_admitted(&mut self, token: Vec<u8>, seed: u8) -> Said {
        let (begun, authority) = (Registration::start(PASSWORD).expect("begun"), key().id());
        let register = Register { token: token.clone(), request: begun.request.clone() };
        let Said::Registering(registering) = self.ask(4, &Ask::Register(register)) else { panic!("refused") };
        let account = Account { address: CAROL, authority: &authority };
        let (upload, _) = begun.finish(PASSWORD, &registering.response, account).expect("ended");
        let key = UserKey::from_seed([seed; 32]);
        let consent = enrol::consent(&key, &authority, CAROL).to_vec();
        let (user, sealed, recovery) = (key.id().as_bytes().to_vec(), vec![7; 98], vec![8; 98]);
        self.ask(4, &Ask::Enrol(Enrol { token, upload, user, sealed, recovery, consent }))
    }
}

fn with_password(salted: &Salted, password: &str) -> (Derived, Derived) {
    from_password(password, salted).expect("derived")
}

/// From the import to what the first laptop collects; who has stolen what the other server kept gets nothing.
#[test]
fn an_imported_user_logs_in_with_the_password_that_there_was() {
    let mut stage = Stage::new();
    assert_eq!(stage.import(vec![carol()], true).added, ["carol"]);
    let salted = stage.salted(CAROL).expect("imported");
    assert_eq!((salted.scheme, salted.salt.len()), (i32::from(Scheme::ScramSha256), 16));
    let (wrong, wrong_key) = with_password(&salted, "therefore");
    assert_eq!(stage.prove(CAROL, &wrong, &wrong_key), Err(Why::Password));
    let (secret, client_key) = with_password(&salted, "wherefore");
    let stolen = derived::secret_of(&carol().verifier.expect("kept").into());
    assert_eq!(secret, stolen);
    assert_eq!(stage.prove(CAROL, &stolen, &wrong_key), Err(Why::Password));
    // The server may die at any time: the next try is as the first.
    let mut stage = stage.again();
    for _ in 0..2 {
        let said = stage.prove(CAROL, &secret, &client_key).expect("in");
        assert!(matches!(said, Said::Admitted(_)));
    }
    let Ok(Said::Admitted(admitted)) = stage.prove(CAROL, &secret, &client_key) else { panic!("refused") };
    assert!(matches!(stage.enrol_admitted(admitted.token, 3), Said::Enrolled(_)));
    // From now on by OPAQUE over the password, and by nothing else.
    assert!(stage.log_in(6, CAROL, PASSWORD).is_ok());
    assert_eq!(stage.prove(CAROL, &secret, &client_key), Err(Why::Password));
    // Outside everything stands as it stood.
    let contacts = stage.office.database.all_upstream::<OutsideState>(&contacts_of(user(3).as_bytes()), 9);
    let both = Contact { to: true, from: true, version: 1, ..Contact::default() };
    let contacts: Vec<_> = contacts.expect("read").into_iter().map(|(_, state)| state.state).collect();
    assert_eq!(contacts, [Some(State::Contact(both))]);
    assert!(
        stage.office.database.upstream::<OutsideState>(&of_user(user(3).as_bytes())).expect("read").is_some()
    );
    // The laptop collects, and what it has on its disk goes.
    let laptop = NodeKey::from_seed([5; 32]);
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, CAROL, &laptop)) else { panic!("refused") };
    assert!(begun.brought);
    let collect = |taken| Ask::Collect(Collect { session: begun.session, taken });
    for _ in 0..2 {
        let Said::Collected(page) = say(&mut stage, &laptop, &collect(0)) else { panic!("refused") };
        let brought = page.page.expect("a page");
        assert_eq!((page.number, brought.contacts.len(), brought.nickname.as_str()), (1, 3, "Carol"));
    }
    let Said::Collected(page) = say(&mut stage, &laptop, &collect(1)) else { panic!("refused") };
    assert_eq!((page.number, page.page), (0, None));
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, CAROL, &laptop)) else { panic!("refused") };
    assert!(!begun.brought);
}

#[test]
fn an_import_may_be_repeated_and_overwrites_nobody() {
    let mut stage = Stage::new();
    let disabled = ImportedUser { name: "dan".into(), disabled: true, ..carol() };
    let unknown = ImportedUser { name: "eve".into(), verifier: None, ..carol() };
    let bad = ImportedUser { name: "a b".into(), ..carol() };
    let alice = ImportedUser { name: "Alice".into(), ..carol() };
    let users = || vec![carol(), disabled.clone(), unknown.clone(), bad.clone(), alice.clone(), carol()];
    for really in [false, true] {
        let view = stage.import(users(), really);
        assert_eq!(view.added, ["carol", "dan", "eve"]);
        assert_eq!((view.to_invite.as_slice(), view.existed.len()), (&["eve".to_owned()][..], 2));
        assert_eq!(view.refused.len(), 1);
    }
    let mut stage = stage.again();
    assert!(stage.import(users(), true).added.is_empty());
    let imported = stage.told().into_iter().filter(|(what, _)| what == "user imported").count();
    assert_eq!(imported, 3);
    // Who may not log in looks like nobody; who has no password is invited, and still has the list.
    assert!(stage.salted("dan@school.example").is_err());
    assert!(stage.salted(ALICE).is_err());
    stage.enrolled("eve", 4);
    let laptop = NodeKey::from_seed([5; 32]);
    let said = say(&mut stage, &laptop, &begin(4, "eve@school.example", &laptop));
    assert!(matches!(said, Said::Begun(begun) if begun.brought));
}

/// What somebody brought along is nobody else's: the next holder of the name does not get it.
#[test]
fn what_was_brought_along_goes_with_the_name() {
    let mut stage = Stage::new();
    let unknown = ImportedUser { name: "eve".into(), verifier: None, ..carol() };
    stage.import(vec![unknown], true);
    stage.enrolled("eve", 4);
    stage.done(Question::ResetUser { name: "eve".into() });
    stage.enrolled("eve", 7);
    let laptop = NodeKey::from_seed([5; 32]);
    let said = say(&mut stage, &laptop, &begin(7, "eve@school.example", &laptop));
    assert!(matches!(&said, Said::Begun(begun) if !begun.brought), "{said:?}");
}

/// A new password with the user key's word for it; the later one counts, and a reset ends all.
#[test]
fn a_changed_password_takes_the_place_of_the_old_one() {
    let laptop = NodeKey::from_seed([5; 32]);
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let Said::Begun(begun) = say(&mut stage, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    let (authority, device) = (key().id(), DeviceKey::from_seed([0x83; 32]).id());
    let account = Account { address: ALICE, authority: &authority };
    let now = wall_millis();
    assert_eq!(begun.password, Some(0));
    let change = |stage: &mut Stage, password: &[u8], at: u64, by: u8| {
        let secret = stretched(password, account).expect("stretched");
        let registration = Registration::start(&secret).expect("begun");
        let request = registration.request.clone();
        let ask = Ask::Change(Change { session: begun.session, request });
        let Said::Registering(registering) = say(stage, &laptop, &ask) else { panic!("refused") };
        let (upload, _) = registration.finish(&secret, &registering.response, account).expect("ended");
        let permit = permit(&UserKey::from_seed([by; 32]), &authority, ALICE, &device, (at, &[])).to_vec();
        let (session, sealed) = (begun.session, vec![1; 139]);
        let changed = Changed { session, upload, sealed, at, permit, ..Changed::default() };
        say(stage, &laptop, &Ask::Changed(changed))
    };
    let is_of = |said: Said, at: u64| matches!(said, Said::PasswordOf(counts) if counts.at == at);
    // Nobody changes it without the user key, or for a time that is to come.
    assert_eq!(why(&change(&mut stage, b"one", now, 4)), Why::Policy);
    assert_eq!(why(&change(&mut stage, b"one", now + 30 * super::DAY, 3)), Why::Policy);
    assert!(stage.log_in(6, ALICE, PASSWORD).is_ok());
    assert!(is_of(change(&mut stage, b"one", now, 3), now));
    let proves = |stage: &mut Stage, password: &[u8]| {
        let secret = stretched(password, account).expect("stretched");
        stage.prove(ALICE, &secret, &[]).is_ok_and(|said| matches!(said, Said::Enrolled(_)))
    };
    let mut stage = stage.again();
    assert_eq!(stage.salted(ALICE).map(|salted| salted.scheme), Ok(Scheme::Stretched.into()));
    assert!(proves(&mut stage, b"one") && !proves(&mut stage, PASSWORD));
    stage.done(Question::ResetUser { name: "alice".into() });
    assert!(!proves(&mut stage, b"one"));
    stage.enrolled("alice", 6);
    assert!(stage.log_in(7, ALICE, PASSWORD).is_ok());
}

/// Changes of alice's password, by a laptop that says what each was made after; which count, each time.
fn changes(stage: &mut Stage, made: &[(&[u8], u64, &[u64])]) -> Vec<Result<u64, Why>> {
    let laptop = NodeKey::from_seed([5; 32]);
    let Said::Begun(begun) = say(stage, &laptop, &begin(3, ALICE, &laptop)) else { panic!("refused") };
    let (authority, device) = (key().id(), DeviceKey::from_seed([0x83; 32]).id());
    let account = Account { address: ALICE, authority: &authority };
    let change = |(password, at, follows): &(&[u8], u64, &[u64])| {
        let registration = Registration::start(password).expect("begun");
        let ask = Ask::Change(Change { session: begun.session, request: registration.request.clone() });
        let Said::Registering(registering) = say(stage, &laptop, &ask) else { panic!("refused") };
        let (upload, _) = registration.finish(password, &registering.response, account).expect("ended");
        let user = UserKey::from_seed([3; 32]);
        let permit = permit(&user, &authority, ALICE, &device, (*at, follows)).to_vec();
        let (session, sealed, follows) = (begun.session, vec![1; 139], follows.to_vec());
        match say(
            stage,
            &laptop,
            &Ask::Changed(Changed { session, upload, sealed, at: *at, permit, follows }),
        ) {
            Said::PasswordOf(of) => Ok(of.at),
            other => Err(why(&other)),
        }
    };
    made.iter().map(change).collect()
}

/// Whatever the clocks say; also one that is days ahead.
#[test]
fn of_two_changes_the_one_that_knew_of_the_other_counts() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let (now, fast) = (wall_millis(), wall_millis() + 400 * super::DAY);
    let made: [(&[u8], u64, &[u64]); 6] = [
        (b"fast clock", fast, &[0]),
        (b"fast clock", fast, &[0]),
        (b"made apart", now - 9, &[0]),
        (b"knew of it", now, &[fast]),
        // It came before, its answer was lost, and another change followed on that laptop.
        (b"held", now + 2, &[fast, now, now + 1]),
        (b"fast clock", fast, &[0]),
    ];
    let counts = changes(&mut stage, &made);
    assert_eq!(counts, [Ok(fast), Ok(fast), Ok(fast), Ok(now), Ok(now + 2), Ok(now + 2)]);
    assert!(stage.prove(ALICE, b"held", &[]).is_ok());
    let told = stage.told().into_iter().filter(|(what, _)| what == "password changed").count();
    assert_eq!(told, 3);
    let many: Vec<u64> = (0..65).collect();
    assert_eq!(changes(&mut stage, &[(b"more", now, &many)]), [Err(Why::Policy)]);
}

/// From laptops that were never told which counts.
#[test]
fn of_two_changes_without_a_past_the_later_one_counts() {
    let mut stage = Stage::new();
    stage.enrolled("alice", 3);
    let now = wall_millis();
    let made: [(&[u8], u64, &[u64]); 3] =
        [(b"later", now, &[]), (b"earlier", now - 9, &[]), (b"later", now, &[])];
    assert_eq!(changes(&mut stage, &made), [Ok(now); 3]);
    assert!(stage.prove(ALICE, b"later", &[]).is_ok());
}

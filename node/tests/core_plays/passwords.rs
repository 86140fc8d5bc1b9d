//! Changed passwords that wait for the server: each account's has its turn, a second change goes after the first, and none goes with
//! a key that it was not made for.

use crosstalk::core::admin::{Command, Reply, Sealed};
use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::account::HeldPassword;

use crate::core_support::link::{join, rest};
use crate::core_support::{Play, credentials};

/// A laptop of two users who are in step with their server.
struct Laptop(Play);

impl Laptop {
    fn new() -> Self {
        let (server, laptop) = (Play::server(), Play::enrolled(1, |_| {}));
        ["anna", "carol"].iter().for_each(|name| drop(laptop.online(&format!("{name}/desk"))));
        join(&[&server, &laptop], &server, &laptop);
        for _ in 0..5 {
            [&server, &laptop].iter().for_each(|node| node.wait(2_000));
            rest(&[&server, &laptop]);
        }
        Self(laptop)
    }

    fn user(&self, name: &str) -> UserId {
        self.0.user(name)
    }

    fn changes(&self, name: &str, held: Option<(u64, &[u64])>) {
        let held = held.map(|(at, follows)| HeldPassword {
            at,
            follows: follows.to_vec(),
            ..HeldPassword::default()
        });
        let (account, credentials) = (name.to_owned(), credentials(self.user(name)));
        let sealed = Some(Sealed(vec![u8::from(held.is_some())]));
        self.0.command(Command::SetPassword { account, credentials, sealed, held });
    }

    /// Whose password of which time is due; nobody's.
    fn due(&self) -> Option<(UserId, u64)> {
        let request = self.0.begin(Command::AwaitPassword);
        match self.0.reply(request)? {
            Reply::DuePassword(due) => Some((UserId::from_bytes(due.user), due.at)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_password_that_the_server_refuses_holds_up_nobody_elses() {
    let laptop = Laptop::new();
    let both = ["anna", "carol"].map(|name| laptop.user(name));
    laptop.changes("anna", Some((1, &[])));
    laptop.changes("carol", Some((2, &[])));
    let mut due = Vec::new();
    for _ in 0..4 {
        due.push(laptop.due().expect("due").0);
        // Nothing is told: the server did not take it.
        laptop.0.wait(10);
    }
    assert!(both.iter().all(|user| due.iter().filter(|due| *due == user).count() == 2), "in turn");
}

#[test]
fn what_is_held_goes_with_the_key_that_was_sealed_under_it() {
    let laptop = Laptop::new();
    laptop.changes("anna", Some((1, &[])));
    assert_eq!(laptop.due(), Some((laptop.user("anna"), 1)));
    laptop.changes("anna", None);
    assert_eq!(laptop.due(), None, "the key is sealed under another one");
}

#[test]
fn a_second_change_is_told_after_the_first() {
    let laptop = Laptop::new();
    let anna = laptop.user("anna");
    laptop.changes("anna", Some((1, &[9])));
    assert_eq!(laptop.due(), Some((anna, 1)));
    // While that is on its way.
    laptop.changes("anna", Some((2, &[9, 1])));
    laptop.0.command(Command::PasswordTold { user: anna, at: 1 });
    assert_eq!(laptop.due(), Some((anna, 2)));
    laptop.0.command(Command::PasswordTold { user: anna, at: 2 });
    assert_eq!(laptop.due(), None);
}

/// A server of before there was an order of changes says nothing of it: there the clocks decide, and what it has not taken is told
/// once, and not again and again.
#[test]
fn a_server_that_knows_no_order_of_changes_is_told_once() {
    let laptop = Laptop::new();
    let anna = laptop.user("anna");
    let follows = || match laptop.0.command(Command::PasswordHome("anna".to_owned())) {
        Reply::PasswordHome(home) => home.expect("a server").follows,
        other => panic!("{other:?}"),
    };
    laptop.changes("anna", Some((5, &follows())));
    assert_eq!(laptop.due(), Some((anna, 5)));
    laptop.0.command(Command::PasswordTold { user: anna, at: 5 });
    assert_eq!(laptop.due(), None);
    // The clock was set back meanwhile, so that the earlier change counts there.
    laptop.changes("anna", Some((3, &follows())));
    assert_eq!(laptop.due(), Some((anna, 3)));
    laptop.0.command(Command::PasswordTold { user: anna, at: 5 });
    assert_eq!(laptop.due(), None, "it is told without end");
}

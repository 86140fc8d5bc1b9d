//! A play with one node and its clients: what a client sends and what it must see next, as XML. *Pure.*
//!
//! A pattern matches an element that has the same name, attributes, text and children, with these liberties:
//!
//! - the value `*` of an attribute, and the text `*`, match anything; the text `…` allows more children;
//! - `to` may be left out where it is the client's own address;
//! - below `<error/>` conditions need no namespace, and the `<text/>` for people may be left out;
//! - the `<stanza-id/>` of a message may be left out.
//!
//! A client that leaves the play with something unread fails the test.

#![allow(dead_code, unreachable_pub, reason = "each file of plays uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a play that goes wrong is a test that fails"
)]

pub mod bonjour;
mod client;
mod desk;
pub mod link;
mod matching;
mod stage;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::{Input, Output, Settings};
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_storage::Contents;

pub use client::{Client, says};
pub use desk::Desk;
pub use stage::{BEGIN, DOMAIN, Table, credentials, home};
use stage::{NODE, Stage};

/// The play: one node, driven by the law of its core.
pub struct Play(Rc<RefCell<Stage>>);

impl Play {
    /// A node with a domain of its own: addresses are `NAME@school.example`, and nobody is "Nearby".
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A node without domain: `NAME@xid` in scripts stands for the self-certified address of NAME.
    pub fn without_domain() -> Self {
        Self::with(|settings| settings.domain = None)
    }

    /// A node with other settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let authority = AuthorityKey::from_seed([9; 32]).id();
        let mut settings = Settings { domain: Some((DOMAIN.to_owned(), authority)), ..Settings::default() };
        change(&mut settings);
        Self::at(NODE, settings)
    }

    /// Another node, to be joined by [`link`]: of no domain, with no "Nearby". A name stands for the same user on all
    /// such nodes, with a device on each.
    pub fn elsewhere(number: u8) -> Self {
        Self::elsewhere_with(number, |_| {})
    }

    /// The same with other settings; with a domain, its people have certified names.
    pub fn elsewhere_with(number: u8, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { visible: false, local_nearby: Some(false), ..Settings::default() };
        change(&mut settings);
        Self::at(number, settings)
    }

    /// A laptop whose people are enrolled at [`Self::server`].
    pub fn enrolled(number: u8, change: impl FnOnce(&mut Settings)) -> Self {
        let play = Self::elsewhere_with(number, change);
        play.0.borrow_mut().enrolled = true;
        play
    }

    /// The same, with a store on a disk.
    pub fn on_disk(self) -> Self {
        self.0.borrow_mut().disk = Some(stage::OnDisk::new());
        self
    }

    /// The server of [`DOMAIN`].
    pub fn server() -> Self {
        Self::server_with(|_| {})
    }

    /// The same with other settings.
    pub fn server_with(change: impl FnOnce(&mut Settings)) -> Self {
        let play = Self::elsewhere_with(stage::SERVER, change);
        play.0.borrow_mut().desk = Some(Desk::new());
        let authority = AuthorityKey::from_seed([9; 32]).id();
        play.command(Command::Serve { domain: DOMAIN.to_owned(), authority });
        play
    }

    /// Another process of a server, with a node of its own.
    pub fn beside(server: &Self) -> Self {
        let play = Self::elsewhere_with(stage::SERVER - 1, |_| {});
        play.0.borrow_mut().desk = Some(server.desk(|desk| desk.beside()));
        let authority = AuthorityKey::from_seed([9; 32]).id();
        play.command(Command::Serve { domain: DOMAIN.to_owned(), authority });
        play
    }

    /// The id of the node.
    pub fn node(&self) -> crosstalk_overlay::id::NodeId {
        self.0.borrow().id
    }

    /// Does something with the desk of the server.
    pub fn desk<T>(&self, with: impl FnOnce(&mut Desk) -> T) -> T {
        with(self.0.borrow_mut().desk.as_mut().expect("a server"))
    }

    /// Does something at the door of the server.
    pub fn door<T>(&self, with: impl FnOnce(&mut Desk, crosstalk_overlay::time::Now) -> T) -> T {
        let done = {
            let mut stage = self.0.borrow_mut();
            let now = stage.now;
            let done = with(stage.desk.as_mut().expect("a server"), now);
            stage.door_news();
            done
        };
        self.0.borrow_mut().drain();
        done
    }

    /// From now on the server is late with answers to what is asked beside passes: they leave when it is in time again.
    pub fn answers_late(&self, late: bool) {
        let answers = std::mem::replace(&mut self.0.borrow_mut().late, late.then(Vec::new));
        answers.into_iter().flatten().for_each(|answer| self.input(answer));
    }

    /// The key of somebody here.
    pub fn user(&self, name: &str) -> crosstalk_overlay::id::UserId {
        self.0.borrow().people[name].user
    }

    fn at(node: u8, settings: Settings) -> Self {
        let play = Self(Rc::new(RefCell::new(Stage::new(node, settings))));
        play.0.borrow_mut().drain();
        play
    }

    /// Gives somebody an account.
    pub fn account(&self, name: &str) {
        self.0.borrow_mut().account(name);
    }

    /// A client of NAME after SASL, before binding. Accounts come into being here.
    pub fn connect(&self, name: &str) -> Client {
        let conn = self.0.borrow_mut().connect(name);
        Client {
            stage: Rc::clone(&self.0),
            name: name.to_owned(),
            conn: Cell::new(conn),
            jid: RefCell::default(),
        }
    }

    /// A client of `NAME/RESOURCE` that has bound it and done no more.
    pub fn login(&self, who: &str) -> Client {
        let (name, resource) = who.split_once('/').unwrap();
        let client = self.connect(name);
        client.bind(resource);
        client
    }

    /// A client that fetched its contact list and is available; what it was told so far is read.
    pub fn online(&self, who: &str) -> Client {
        let client = self.login(who);
        client.fetch_contacts();
        client.send("<presence/>");
        client.forget();
        client
    }

    /// Both see each other from now on; what they were told about it is read.
    pub fn befriend(&self, one: &Client, other: &Client) {
        for (asks, grants) in [(one, other), (other, one)] {
            asks.send(&format!("<presence to='{}' type='subscribe'/>", grants.bare()));
            grants.send(&format!("<presence to='{}' type='subscribed'/>", asks.bare()));
        }
        one.forget();
        other.forget();
    }

    /// The node reaches a hash table from now on.
    pub fn find_table(&self, table: &Table) {
        let mut stage = self.0.borrow_mut();
        stage.table = Some(Rc::clone(table));
        stage.find_table();
    }

    /// Time goes by; timers come due one after the other.
    pub fn wait(&self, millis: u64) {
        self.0.borrow_mut().wait(millis);
    }

    /// From now on nothing is durable until [`Self::commit`].
    pub fn hold_commits(&self) {
        self.0.borrow_mut().asleep = true;
    }

    /// Everything written so far is durable.
    pub fn commit(&self) {
        self.0.borrow_mut().commit();
    }

    /// The process dies and starts again with what was durable. Clients must reconnect.
    pub fn restart(&self) {
        self.0.borrow_mut().restart();
    }

    /// The machine is off for so long. Clients must reconnect.
    pub fn restart_after(&self, millis: u64) {
        let mut stage = self.0.borrow_mut();
        stage.now.wall += millis;
        stage.restart();
    }

    /// The store fails, or works again.
    pub fn store_trouble(&self, trouble: Option<&str>) {
        self.0.borrow_mut().handle(Input::StoreTrouble(trouble.map(str::to_owned)));
    }

    /// A command of the CLI.
    pub fn command(&self, command: Command) -> Reply {
        self.0.borrow_mut().command(command)
    }

    /// A command that is answered later: its number, for [`Self::reply`].
    pub fn begin(&self, command: Command) -> u64 {
        self.0.borrow_mut().begin(command)
    }

    /// What it came to.
    pub fn reply(&self, request: u64) -> Option<Reply> {
        self.0.borrow_mut().replies.remove(&request)
    }

    /// What the shell was asked for beside clients and commits, since it was last looked at.
    pub fn others(&self) -> Vec<Output> {
        std::mem::take(&mut self.0.borrow_mut().others)
    }

    /// The shell hands something in.
    pub fn input(&self, input: Input) {
        self.0.borrow_mut().handle(input);
    }

    /// What is durable.
    pub fn snapshot(&self) -> Contents {
        self.0.borrow().contents.clone()
    }

    /// The disk loses what was written since a snapshot, as if it had not been committed; a restart follows.
    pub fn turn_back(&self, snapshot: Contents) {
        self.0.borrow_mut().contents = snapshot;
    }

    /// Entries of a tree in the store.
    pub fn stored(&self, tree: crosstalk_storage::Tree) -> usize {
        self.0.borrow().contents.tree(tree).count()
    }
}

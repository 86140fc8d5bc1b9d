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

mod matching;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crosstalk::core::admin::{Command, NewAccount, Reply};
use crosstalk::core::io::{Credentials, Ending, ScramKeys};
use crosstalk::core::settings::DeviceKeys;
use crosstalk::core::{ConnId, Core, Input, Output, Settings, Setup};
use crosstalk::xmpp::element::Node;
use crosstalk::xmpp::{Element, ns};
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use crosstalk_overlay::keys::{AuthorityKey, DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::DeviceCert;
use crosstalk_overlay::time::Now;
use crosstalk_storage::{Contents, WriteSet};

use matching::matches;

/// Domain of the node, where it has one.
pub const DOMAIN: &str = "school.example";
/// Wall clock at the beginning: 2027-01-15T08:00:00Z.
pub const BEGIN: u64 = 1_800_000_000_000;

/// The play: one node, driven by the law of its core.
pub struct Play(Rc<RefCell<Stage>>);

struct Stage {
    core: Core,
    now: Now,
    settings: Settings,
    contents: Contents,
    people: BTreeMap<String, Person>,
    wires: BTreeMap<ConnId, Wire>,
    next_conn: u64,
    /// The store is asleep: commits wait.
    asleep: bool,
    waiting: VecDeque<(u64, WriteSet)>,
    replies: BTreeMap<u64, Reply>,
    others: Vec<Output>,
}

struct Person {
    user: UserId,
    device: DeviceKey,
    sealing: SealingKey,
    xid: String,
}

#[derive(Default)]
struct Wire {
    received: VecDeque<Element>,
    closed: Option<String>,
}

/// A client on one connection.
pub struct Client {
    stage: Rc<RefCell<Stage>>,
    pub name: String,
    conn: Cell<ConnId>,
    /// Full address, once it is bound.
    pub jid: RefCell<String>,
}

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
        let now = Now { mono: 1_000, wall: BEGIN };
        let contents = Contents::default();
        let core = start(&settings, &contents, BTreeMap::new(), now, 1);
        let stage = Stage {
            core,
            now,
            settings,
            contents,
            people: BTreeMap::new(),
            wires: BTreeMap::new(),
            next_conn: 1,
            asleep: false,
            waiting: VecDeque::new(),
            replies: BTreeMap::new(),
            others: Vec::new(),
        };
        let play = Self(Rc::new(RefCell::new(stage)));
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

    /// The store fails, or works again.
    pub fn store_trouble(&self, trouble: Option<&str>) {
        self.0.borrow_mut().handle(Input::StoreTrouble(trouble.map(str::to_owned)));
    }

    /// A command of the CLI.
    pub fn command(&self, command: Command) -> Reply {
        self.0.borrow_mut().command(command)
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

impl Client {
    fn conn(&self) -> ConnId {
        self.conn.get()
    }

    /// The own bare address, as scripts write it.
    pub fn bare(&self) -> String {
        self.jid.borrow().split('/').next().unwrap().to_owned()
    }

    /// Binds a resource (RFC 6120 §7).
    pub fn bind(&self, resource: &str) {
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ));
        let result = self.next();
        let jid = result.get("bind", ns::BIND).and_then(|bind| bind.get("jid", ns::BIND));
        let jid = jid.unwrap_or_else(|| panic!("{} was not bound: {}", self.name, shown(&result)));
        *self.jid.borrow_mut() = self.stage.borrow().readable(&jid.own_text());
    }

    /// Fetches the contact list and reads it.
    pub fn fetch_contacts(&self) {
        self.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
        self.forget();
    }

    /// Elements from this client.
    pub fn send(&self, xml: &str) {
        let mut stage = self.stage.borrow_mut();
        let xml = stage.real(xml);
        let elements = elements(&xml);
        stage.handle(Input::Elements { conn: self.conn(), elements });
    }

    /// The client has handled what comes next, which must match.
    #[track_caller]
    pub fn expects(&self, pattern: &str) -> Element {
        let element = self.next();
        let pattern = self.pattern(pattern);
        let own = self.jid.borrow().clone();
        if let Err(why) = matches(&pattern, &element, &own) {
            panic!("{}\n expected {}\n received {}\n ({why})", self.name, shown(&pattern), shown(&element));
        }
        element
    }

    /// As many elements come next as there are patterns, in any order.
    #[track_caller]
    pub fn expects_all(&self, patterns: &[&str]) {
        let own = self.jid.borrow().clone();
        let mut patterns: Vec<Element> = patterns.iter().map(|pattern| self.pattern(pattern)).collect();
        while !patterns.is_empty() {
            let element = self.next();
            let Some(at) = patterns.iter().position(|pattern| matches(pattern, &element, &own).is_ok())
            else {
                let left: Vec<_> = patterns.iter().map(shown).collect();
                panic!("{}\n expected one of {left:#?}\n received {}", self.name, shown(&element));
            };
            patterns.remove(at);
        }
    }

    /// Nothing has come.
    #[track_caller]
    pub fn hears_nothing(&self) {
        let stage = self.stage.borrow();
        let received: Vec<_> =
            stage.wires.get(&self.conn()).into_iter().flat_map(|wire| &wire.received).map(shown).collect();
        assert!(received.is_empty(), "{} received {received:#?}", self.name);
    }

    /// The stream was closed with this error; an empty one means in peace.
    #[track_caller]
    pub fn is_closed_with(&self, condition: &str) {
        let stage = self.stage.borrow();
        let closed = stage.wires.get(&self.conn()).and_then(|wire| wire.closed.clone());
        assert_eq!(closed.as_deref(), Some(condition), "how the stream of {} was closed", self.name);
    }

    /// Reads what came without looking.
    pub fn forget(&self) -> usize {
        let mut stage = self.stage.borrow_mut();
        stage.wires.get_mut(&self.conn()).map_or(0, |wire| wire.received.drain(..).count())
    }

    /// Everything that came.
    pub fn takes_all(&self) -> Vec<Element> {
        let mut stage = self.stage.borrow_mut();
        stage.wires.get_mut(&self.conn()).map(|wire| wire.received.drain(..).collect()).unwrap_or_default()
    }

    /// The next is a roster push of this item (RFC 6121 §2.1.6), without `from`.
    #[track_caller]
    pub fn expects_item(&self, item: &str) {
        self.expects(&format!(
            "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>{item}</query></iq>"
        ));
    }

    /// The connection breaks.
    pub fn breaks(&self) {
        self.stage.borrow_mut().handle(Input::Ended { conn: self.conn(), how: Ending::Lost });
    }

    /// The client closes its stream.
    pub fn leaves(&self) {
        self.stage.borrow_mut().handle(Input::Ended { conn: self.conn(), how: Ending::Closed });
    }

    /// Connects and authenticates again; what the old connection brought is forgotten.
    pub fn reconnects(&self) {
        let conn = self.stage.borrow_mut().connect(&self.name);
        self.stage.borrow_mut().wires.remove(&self.conn());
        self.conn.set(conn);
    }

    /// Enables resumable stream management. Returns the id of the stream.
    #[track_caller]
    pub fn enables_management(&self) -> String {
        self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let enabled = self.expects("<enabled xmlns='urn:xmpp:sm:3' resume='true' id='*' max='600'/>");
        enabled.get_attr("id").unwrap().to_owned()
    }

    /// Says how many stanzas it has handled.
    pub fn acknowledges(&self, handled: u32) {
        self.send(&format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>"));
    }

    /// The ping that proves that a client without stream management has what was sent before it.
    #[track_caller]
    pub fn expects_ping(&self) -> String {
        let ping = self.expects("<iq from='*' type='get' id='*'><ping xmlns='urn:xmpp:ping'/></iq>");
        ping.get_attr("id").unwrap().to_owned()
    }

    /// Gets that ping and answers it.
    #[track_caller]
    pub fn answers_ping(&self) {
        let id = self.expects_ping();
        let node = self.stage.borrow().domain();
        self.send(&format!("<iq type='result' to='{node}' id='{id}'/>"));
    }

    #[track_caller]
    fn next(&self) -> Element {
        let mut stage = self.stage.borrow_mut();
        let wire = stage.wires.get_mut(&self.conn());
        wire.and_then(|wire| wire.received.pop_front())
            .unwrap_or_else(|| panic!("{} received nothing more", self.name))
    }

    fn pattern(&self, pattern: &str) -> Element {
        elements(pattern).into_iter().next().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.hears_nothing();
        }
    }
}

impl Stage {
    fn account(&mut self, name: &str) {
        if self.people.contains_key(name) {
            return;
        }
        let number = u8::try_from(self.people.len()).unwrap();
        let key = UserKey::from_seed([number + 10; 32]);
        let device = DeviceKey::from_seed([number + 60; 32]);
        let sealing = SealingKey::from_seed([number + 110; 32], self.now.wall);
        let cert = DeviceCert::issue(&key, device.id(), self.now.wall).unwrap();
        let user = key.id();
        let xid = format!("{}@{XID_DOMAIN}", user.xid());
        let person = Person { user, device: device.clone(), sealing: sealing.clone(), xid };
        self.people.insert(name.to_owned(), person);
        let account = NewAccount {
            name: name.to_owned(),
            domain: self.domain(),
            user,
            device,
            sealing,
            device_cert: cert.bytes().to_vec(),
            name_cert: None,
            credentials: credentials(user),
            sealed_by_password: Vec::new(),
            sealed_by_recovery: Vec::new(),
            nickname: name.to_owned(),
        };
        let asleep = std::mem::replace(&mut self.asleep, false);
        let reply = self.command(Command::AddAccount(Box::new(account)));
        assert!(matches!(reply, Reply::Account(_)), "{name} got no account: {reply:?}");
        self.asleep = asleep;
    }

    fn domain(&self) -> String {
        self.settings.domain.as_ref().map_or_else(|| XID_DOMAIN.to_owned(), |(domain, _)| domain.clone())
    }

    fn connect(&mut self, name: &str) -> ConnId {
        self.account(name);
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.wires.insert(conn, Wire::default());
        let user = self.people[name].user;
        self.handle(Input::Authenticated { conn, user });
        conn
    }

    fn command(&mut self, command: Command) -> Reply {
        let request = 1 + self.replies.keys().last().copied().unwrap_or_default();
        self.handle(Input::Admin { request, command: Box::new(command) });
        let reply = self.replies.get_mut(&request).expect("an answer to the command");
        std::mem::replace(reply, Reply::Done)
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(input, self.now);
        self.drain();
    }

    /// Performs what the core asks for until it asks for nothing.
    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Client { conn, data } => {
                    let text = self.readable(&String::from_utf8(data).unwrap());
                    let wire = self.wires.entry(conn).or_default();
                    assert!(wire.closed.is_none(), "written after the end of the stream: {text}");
                    wire.received.extend(elements(&text));
                }
                Output::CloseClient { conn, error } => {
                    let how = error.map_or("", |error| error.condition.as_str());
                    self.wires.entry(conn).or_default().closed = Some(how.to_owned());
                }
                Output::Commit { batch, writes } => {
                    self.waiting.push_back((batch, writes));
                    if !self.asleep {
                        self.commit_waiting();
                    }
                }
                Output::Answer { request, reply } => {
                    self.replies.insert(request, *reply);
                }
                other => self.others.push(other),
            }
        }
    }

    fn commit(&mut self) {
        self.commit_waiting();
        self.drain();
    }

    fn commit_waiting(&mut self) {
        while let Some((batch, writes)) = self.waiting.pop_front() {
            self.contents.apply(&writes);
            self.core.handle(Input::Committed { batch }, self.now);
        }
    }

    fn wait(&mut self, millis: u64) {
        let end = self.now.mono + millis;
        loop {
            let due = self.core.poll_timeout().map(|(when, _)| when).filter(|when| *when <= end);
            let to = due.unwrap_or(end).max(self.now.mono);
            let passed = to - self.now.mono;
            self.now = Now { mono: to, wall: self.now.wall + passed };
            if due.is_none() {
                return;
            }
            self.handle(Input::Timeout);
        }
    }

    fn restart(&mut self) {
        self.waiting.clear();
        let keys = self.people.values().map(|person| {
            (person.user, DeviceKeys { device: person.device.clone(), sealing: vec![person.sealing.clone()] })
        });
        let seed = u8::try_from(self.next_conn % 200).unwrap() + 20;
        self.core = start(&self.settings, &self.contents, keys.collect(), self.now, seed);
        self.drain();
    }

    /// Self-certified addresses as `NAME@xid`.
    fn readable(&self, text: &str) -> String {
        self.people
            .iter()
            .fold(text.to_owned(), |text, (name, person)| text.replace(&person.xid, &format!("{name}@xid")))
    }

    fn real(&self, text: &str) -> String {
        self.people
            .iter()
            .fold(text.to_owned(), |text, (name, person)| text.replace(&format!("{name}@xid"), &person.xid))
    }
}

/// Credentials that nobody looks at: SASL happens before the core.
pub fn credentials(user: UserId) -> Credentials {
    let keys = || ScramKeys {
        salt: vec![0; 16],
        iterations: 4_096,
        stored_key: vec![0; 20],
        server_key: vec![0; 20],
    };
    Credentials { user, sha1: keys(), sha256: keys() }
}

fn start(
    settings: &Settings,
    contents: &Contents,
    keys: BTreeMap<UserId, DeviceKeys>,
    now: Now,
    seed: u8,
) -> Core {
    let node = NodeKey::from_seed([7; 32]).id();
    let settings = settings.clone();
    let setup = Setup {
        node,
        seed: [seed; 32],
        settings,
        contents: contents.clone(),
        keys,
        built: BEGIN - 1_000_000,
    };
    Core::new(setup, now).expect("the core starts")
}

/// The elements of a piece of stream.
fn elements(xml: &str) -> Vec<Element> {
    let all = format!("<all>{xml}</all>");
    let all = Element::read(all.as_bytes()).unwrap_or_else(|why| panic!("{xml}: {why}"));
    all.into_children().collect()
}

fn shown(element: &Element) -> String {
    String::from_utf8(element.to_bytes(ns::CLIENT)).unwrap()
}

/// Whether an element or anything in it has this text.
pub fn says(element: &Element, text: &str) -> bool {
    element.nodes().iter().any(|node| match node {
        Node::Text(found) => found == text,
        Node::Element(child) => says(child, text),
    })
}

//! The node of a play with its clock, its store and its wires, driven by the law of its core. *Pure.*

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crosstalk::core::admin::{Command, NewAccount, Reply};
use crosstalk::core::enrol::Home;
use crosstalk::core::io::{Credentials, ScramKeys};
use crosstalk::core::settings::DeviceKeys;
use crosstalk::core::{ConnId, Core, Input, Output, Settings, Setup};
use crosstalk::xmpp::Element;
use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::dht::{Answer, Key, Query, Trace};
use crosstalk_overlay::enrol::Ask;
use crosstalk_overlay::id::{NodeId, UserId, XID_DOMAIN};
use crosstalk_overlay::keys::{AuthorityKey, DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::{DeviceCert, NameCert};
use crosstalk_overlay::time::Now;
use crosstalk_storage::{Contents, MAX_KEY, MAX_VALUE, Options, Store, WriteSet};

/// Domain of the node, where it has one.
pub const DOMAIN: &str = "school.example";
/// Wall clock at the beginning: 2027-01-15T08:00:00Z.
pub const BEGIN: u64 = 1_800_000_000_000;
/// Seed of the node that most plays are about.
pub(super) const NODE: u8 = 7;
/// Seed of the server of the domain.
pub(super) const SERVER: u8 = 99;

pub(super) struct Stage {
    pub(super) node: u8,
    pub(super) id: NodeId,
    pub(super) core: Core,
    pub(super) now: Now,
    pub(super) settings: Settings,
    pub(super) contents: Contents,
    /// People of other nodes: their addresses and names in scripts.
    pub(super) elsewhere: BTreeMap<String, String>,
    pub(super) people: BTreeMap<String, Person>,
    pub(super) wires: BTreeMap<ConnId, Wire>,
    pub(super) next_conn: u64,
    starts: u64,
    /// The store is asleep: commits wait.
    pub(super) asleep: bool,
    pub(super) waiting: VecDeque<(u64, WriteSet)>,
    pub(super) replies: BTreeMap<u64, Reply>,
    pub(super) others: Vec<Output>,
    /// The hash table, where there is one: it takes what it is given, and answers at once.
    pub(super) table: Option<Table>,
    /// The task of a server, if it is one.
    pub(super) desk: Option<super::Desk>,
    /// Its answers to what is asked beside passes, where they take their time.
    pub(super) late: Option<Vec<Input>>,
    /// People here are enrolled at the server.
    pub(super) enrolled: bool,
    /// The store of the program, where what is kept is on a disk too.
    pub(super) disk: Option<OnDisk>,
}

/// A store in a directory of its own.
pub(super) struct OnDisk {
    dir: tempfile::TempDir,
    store: Option<Store>,
}

impl OnDisk {
    pub(super) fn new() -> Self {
        let mut disk = Self { dir: tempfile::TempDir::new().unwrap(), store: None };
        disk.open();
        disk
    }

    /// As after SIGKILL: nothing was closed.
    fn open(&mut self) -> Contents {
        drop(self.store.take());
        let (store, contents, _) = Store::open(self.dir.path(), Options::default()).unwrap();
        self.store = Some(store);
        contents
    }

    fn commit(&mut self, writes: &WriteSet) {
        let store = self.store.as_mut().unwrap();
        store.commit(std::slice::from_ref(writes)).unwrap();
        store.maintain().unwrap();
    }
}

/// What stands in a hash table that several nodes reach.
pub type Table = Rc<RefCell<BTreeMap<Key, Vec<u8>>>>;

pub(super) struct Person {
    pub(super) user: UserId,
    pub(super) device: DeviceKey,
    pub(super) sealing: SealingKey,
    pub(super) xid: String,
}

#[derive(Default)]
pub(super) struct Wire {
    pub(super) received: VecDeque<Element>,
    pub(super) closed: Option<String>,
}

impl Stage {
    pub(super) fn new(node: u8, settings: Settings) -> Self {
        let now = Now { mono: 1_000, wall: BEGIN };
        let contents = Contents::default();
        let core = start(node, &settings, &contents, BTreeMap::new(), now, node);
        Self {
            node,
            id: NodeKey::from_seed([node; 32]).id(),
            core,
            now,
            settings,
            contents,
            elsewhere: BTreeMap::new(),
            people: BTreeMap::new(),
            wires: BTreeMap::new(),
            next_conn: 1,
            starts: 0,
            asleep: false,
            waiting: VecDeque::new(),
            replies: BTreeMap::new(),
            others: Vec::new(),
            table: None,
            desk: None,
            late: None,
            enrolled: false,
            disk: None,
        }
    }

    pub(super) fn account(&mut self, name: &str) {
        if self.people.contains_key(name) {
            return;
        }
        let (user, device, sealing) = self.seeds(name);
        let key = UserKey::from_seed(user);
        let device = DeviceKey::from_seed(device);
        let sealing = SealingKey::from_seed(sealing, self.now.wall);
        let cert = DeviceCert::issue(&key, device.id(), self.now.wall).unwrap();
        let user = key.id();
        let xid = format!("{}@{XID_DOMAIN}", user.xid());
        let person = Person { user, device: device.clone(), sealing: sealing.clone(), xid };
        self.people.insert(name.to_owned(), person);
        let account = NewAccount {
            name: name.to_owned(),
            domain: if self.enrolled { DOMAIN.to_owned() } else { self.domain() },
            user,
            device,
            sealing,
            device_cert: cert.bytes().to_vec(),
            name_cert: self.name_cert(name, user),
            credentials: credentials(user),
            sealed_by_password: Vec::new(),
            sealed_by_recovery: Vec::new(),
            nickname: name.to_owned(),
        };
        let asleep = std::mem::replace(&mut self.asleep, false);
        let add = match self.enrolled {
            true => Command::AddEnrolled { account: Box::new(account), home: home() },
            false => Command::AddAccount(Box::new(account)),
        };
        let reply = self.command(add);
        assert!(matches!(reply, Reply::Account(_)), "{name} got no account: {reply:?}");
        self.asleep = asleep;
    }

    fn name_cert(&self, name: &str, user: UserId) -> Option<Vec<u8>> {
        let domain = Some(self.domain()).filter(|domain| self.node != NODE && domain != XID_DOMAIN)?;
        let (authority, now) = (AuthorityKey::from_seed([9; 32]), self.now.wall);
        let cert = NameCert::issue(&authority, &format!("{name}@{domain}"), user, 1, now).unwrap();
        Some(cert.bytes().to_vec())
    }

    /// Seeds of the keys of a new account: user, device, sealing.
    fn seeds(&self, name: &str) -> ([u8; 32], [u8; 32], [u8; 32]) {
        let number = u8::try_from(self.people.len()).unwrap();
        if self.node == NODE {
            return ([number + 10; 32], [number + 60; 32], [number + 110; 32]);
        }
        let (mut user, mut device) = ([200; 32], [self.node; 32]);
        user[..name.len()].copy_from_slice(name.as_bytes());
        device[..name.len()].copy_from_slice(name.as_bytes());
        (user, device, device)
    }

    pub(super) fn domain(&self) -> String {
        match &self.settings.domain {
            Some((domain, _)) => domain.clone(),
            None if self.enrolled => DOMAIN.to_owned(),
            None => XID_DOMAIN.to_owned(),
        }
    }

    pub(super) fn connect(&mut self, name: &str) -> ConnId {
        self.account(name);
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.wires.insert(conn, Wire::default());
        let user = self.people[name].user;
        self.handle(Input::Authenticated { conn, user });
        conn
    }

    pub(super) fn command(&mut self, command: Command) -> Reply {
        let request = 1 + self.replies.keys().last().copied().unwrap_or_default();
        self.handle(Input::Admin { request, command: Box::new(command) });
        let reply = self.replies.get_mut(&request).expect("an answer to the command");
        std::mem::replace(reply, Reply::Done)
    }

    /// One that is answered later.
    pub(super) fn begin(&mut self, command: Command) -> u64 {
        let request = 1_000 + 1 + self.replies.keys().last().copied().unwrap_or_default();
        self.handle(Input::Admin { request, command: Box::new(command) });
        request
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.core.handle(input, self.now);
        self.drain();
    }

    /// Performs what the core asks for until it asks for nothing.
    pub(super) fn drain(&mut self) {
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
                    let sound = |key: &[u8], value: Option<&[u8]>| {
                        key.len() <= MAX_KEY && value.is_none_or(|value| value.len() <= MAX_VALUE)
                    };
                    let refused = writes.iter().find(|(_, key, value)| !sound(key, *value));
                    assert!(
                        refused.is_none(),
                        "the store would refuse this of {:?}",
                        refused.map(|(tree, ..)| tree)
                    );
                    self.waiting.push_back((batch, writes));
                    if !self.asleep {
                        self.commit_waiting();
                    }
                }
                Output::Answer { request, reply } => {
                    self.replies.insert(request, *reply);
                }
                Output::Enrolment { node, request, ask, .. } if self.desk.is_some() => {
                    let (this, now) = (self.id, self.now);
                    let answer =
                        self.desk.as_mut().map(|desk| desk.serve(this, node, &ask, now)).unwrap_or_default();
                    let beside = matches!(Ask::from_bytes(&ask), Some(Ask::Exchange(_) | Ask::Search(_)));
                    let answer = Input::EnrolmentAnswer { node, request, answer };
                    match &mut self.late {
                        Some(late) if beside => late.push(answer),
                        _ => self.core.handle(answer, self.now),
                    }
                    self.door_news();
                }
                Output::Query { id, query } if self.table.is_some() => self.ask_table(id, query),
                other => self.others.push(other),
            }
        }
    }

    /// What the door has for laptops is told to them.
    pub(super) fn door_news(&mut self) {
        let door = self.desk.as_mut().and_then(|desk| desk.door.as_mut());
        for node in door.map(|door| std::mem::take(&mut door.news)).unwrap_or_default() {
            self.core.handle(Input::UpstreamNews { node }, self.now);
        }
    }

    fn ask_table(&mut self, id: u64, query: Query) {
        let Some(table) = &self.table else { return };
        let answer = match query {
            Query::Get(key) | Query::Walk(key) => {
                Answer::Values(table.borrow().get(&key).cloned().into_iter().collect())
            }
            Query::Closest(_) | Query::Node(_) => Answer::Nodes(Vec::new()),
            Query::Put { key, value, .. } => {
                table.borrow_mut().insert(key, value);
                Answer::Stored(3)
            }
        };
        let trace = Trace { asked: 3, answered: 3, ..Trace::default() };
        self.core.handle(Input::Peer(PeerEvent::Answer { id, answer, trace }), self.now);
    }

    pub(super) fn find_table(&mut self) {
        if self.table.is_some() {
            let address = format!("/ip4/198.51.100.{}/tcp/14774", self.node);
            self.handle(Input::Peer(PeerEvent::Addresses(vec![address])));
            self.handle(Input::Peer(PeerEvent::Table { nodes: 3 }));
        }
    }

    pub(super) fn commit(&mut self) {
        self.commit_waiting();
        self.drain();
    }

    pub(super) fn commit_waiting(&mut self) {
        while let Some((batch, writes)) = self.waiting.pop_front() {
            self.contents.apply(&writes);
            if let Some(disk) = &mut self.disk {
                disk.commit(&writes);
            }
            self.core.handle(Input::Committed { batch }, self.now);
        }
    }

    pub(super) fn wait(&mut self, millis: u64) {
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

    pub(super) fn restart(&mut self) {
        self.waiting.clear();
        if let Some(disk) = &mut self.disk {
            assert_eq!(disk.open(), self.contents, "the disk holds what was committed");
        }
        let keys = self.people.values().map(|person| {
            (person.user, DeviceKeys { device: person.device.clone(), sealing: vec![person.sealing.clone()] })
        });
        // Never the same twice: what a node draws at random is not drawn again after a restart.
        self.starts += 1;
        let seed = u8::try_from(self.starts % 200).unwrap() + 20;
        self.core = start(self.node, &self.settings, &self.contents, keys.collect(), self.now, seed);
        self.drain();
        self.find_table();
    }

    /// Self-certified addresses as `NAME@xid`.
    pub(super) fn readable(&self, text: &str) -> String {
        self.xids().fold(text.to_owned(), |text, (name, xid)| text.replace(xid, &format!("{name}@xid")))
    }

    pub(super) fn real(&self, text: &str) -> String {
        self.xids().fold(text.to_owned(), |text, (name, xid)| text.replace(&format!("{name}@xid"), xid))
    }

    fn xids(&self) -> impl Iterator<Item = (&String, &String)> {
        let own = self.people.iter().map(|(name, person)| (name, &person.xid));
        own.chain(self.elsewhere.iter().map(|(xid, name)| (name, xid)))
    }
}

/// The server of [`DOMAIN`], as its laptops know it.
pub fn home() -> Home {
    let authority = *AuthorityKey::from_seed([9; 32]).id().as_bytes();
    Home {
        authority,
        server: *NodeKey::from_seed([SERVER; 32]).id().as_bytes(),
        places: Vec::new(),
        rotations: Vec::new(),
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
    node: u8,
    settings: &Settings,
    contents: &Contents,
    keys: BTreeMap<UserId, DeviceKeys>,
    now: Now,
    seed: u8,
) -> Core {
    let node = NodeKey::from_seed([node; 32]);
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
pub(super) fn elements(xml: &str) -> Vec<Element> {
    let all = format!("<all>{xml}</all>");
    let all = Element::read(all.as_bytes()).unwrap_or_else(|why| panic!("{xml}: {why}"));
    all.into_children().collect()
}

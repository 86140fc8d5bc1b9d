//! A class that enrols at once, and a school that comes back after a week: what that costs the server. Each figure is
//! printed. `CROSSTALK_CLASS` and `CROSSTALK_SCHOOL` say how many they are.

mod week;

use std::collections::BTreeMap;
use std::time::Duration;

use crosstalk_overlay::enrol::{self, Answer, Ask, Begun, Statement};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::{DeviceKey, NodeKey, UserKey};
use crosstalk_overlay::record::{DeviceCert, NodeBinding, Verified};
use crosstalk_storage::tree::roster::{Edit, RosterItem};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::Question;
use super::database::Home;
use super::opaque::{Account, Registration};
use super::private::{self, Instance, home};
use super::tests_on_postgres::{Said, Stage};
use crate::core::sync::entry::{Entry, Mark, Marks, marks};
use crate::event_loop::clock::wall_millis;

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn many(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A server, and what its answers take.
struct Measured {
    stage: Stage,
    kind: &'static str,
    url: Option<String>,
    dir: tempfile::TempDir,
    cpu: Duration,
    begun: Instant,
    bytes: (usize, usize),
    size: u64,
    /// Bytes of memory of this process: when it was begun to measure, and most after an answer.
    memory: (u64, u64),
    /// How many questions each node has put.
    asked: BTreeMap<NodeId, usize>,
}

impl Measured {
    fn both() -> [Self; 2] {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
        let [own, other] = dirs;
        let url = Instance::shared().database();
        let of_own = Home::Own(own.path().to_owned());
        [Self::at("own", of_own, None, own), Self::at("PostgreSQL", home(&url), Some(url), other)]
    }

    fn at(kind: &'static str, home: Home, url: Option<String>, dir: tempfile::TempDir) -> Self {
        let (stage, begun) = (Stage::at(home), Instant::now());
        let (cpu, bytes, asked) = (Duration::ZERO, (0, 0), BTreeMap::new());
        let mut made = Self { stage, kind, url, dir, cpu, begun, bytes, size: 0, memory: (0, 0), asked };
        made.start();
        made
    }

    fn start(&mut self) {
        (self.cpu, self.bytes, self.begun) = (Duration::ZERO, (0, 0), Instant::now());
        self.size = self.held();
        self.memory = (resident(), 0);
        self.asked.clear();
    }

    /// Bytes of the database on disk.
    fn held(&self) -> u64 {
        match &self.url {
            Some(url) => private::number(url, "SELECT pg_database_size(current_database())"),
            None => {
                let sizes = std::fs::read_dir(self.dir.path().join("authority")).expect("a store").flatten();
                sizes.map(|file| file.metadata().map_or(0, |meta| size_of(&file.path(), &meta))).sum()
            }
        }
    }

    fn work<T>(&mut self, work: impl FnOnce(&mut Stage) -> T) -> T {
        let before = cpu();
        let done = work(&mut self.stage);
        self.cpu += cpu().saturating_sub(before);
        done
    }

    fn ask(&mut self, from: NodeId, ask: &Ask) -> Said {
        let ask = ask.to_bytes();
        let answer = self.work(|stage| stage.office.serve(from, &ask, &[]));
        *self.asked.entry(from).or_default() += 1;
        self.memory.1 = self.memory.1.max(resident());
        self.bytes = (self.bytes.0 + ask.len(), self.bytes.1 + answer.len());
        Said::from_bytes(&answer).expect("an answer")
    }

    fn print(&self, what: &str) {
        let (before, most) = self.memory;
        println!(
            "{what}, {}: {:.1} s, of which the server's task {:.2} s of CPU; {} kB in, {} kB out; database {} kB larger; {} kB of memory, \
             {} kB more than before (one laptop at a time included); {} questions of one laptop at most",
            self.kind,
            self.begun.elapsed().as_secs_f32(),
            self.cpu.as_secs_f32(),
            self.bytes.0 / 1_000,
            self.bytes.1 / 1_000,
            self.held().saturating_sub(self.size) / 1_000,
            most / 1_000,
            most.saturating_sub(before) / 1_000,
            self.asked.values().max().copied().unwrap_or_default(),
        );
    }
}

fn size_of(path: &std::path::Path, meta: &std::fs::Metadata) -> u64 {
    match meta.is_dir() {
        true => std::fs::read_dir(path)
            .map(|files| {
                files.flatten().filter_map(|file| Some(size_of(&file.path(), &file.metadata().ok()?))).sum()
            })
            .unwrap_or(0),
        false => meta.len(),
    }
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4_096
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.try_into().unwrap_or(0))
}

fn node(number: usize) -> NodeKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    NodeKey::from_seed(seed)
}

/// All ask for their registration before the first one is enrolled.
#[test]
fn a_class_enrols_at_once() {
    let class = many("CROSSTALK_CLASS", 50);
    for mut school in Measured::both() {
        let mut laptops = Vec::new();
        for number in 0..class {
            let name = format!("pupil{number}");
            school.stage.done(Question::AddUser { name: name.clone() });
            laptops.push((number, school.stage.invite(&name, DAY)));
        }
        school.start();
        let mut asks = Vec::new();
        for (number, invitation) in &laptops {
            let account = Account { address: &invitation.address, authority: &invitation.authority };
            let begun = Registration::start(b"four words are better").expect("begun");
            let token = invitation.token.to_vec();
            let ask = Ask::Register(enrol::Register { token: token.clone(), request: begun.request.clone() });
            let Said::Registering(said) = school.ask(node(*number).id(), &ask) else { panic!("refused") };
            let (upload, _) = begun.finish(b"four words are better", &said.response, account).expect("ended");
            let key = UserKey::from_seed(*node(*number + class).seed());
            let consent = enrol::consent(&key, account.authority, account.address).to_vec();
            let (user, sealed, recovery) = (key.id().as_bytes().to_vec(), vec![7; 98], vec![8; 98]);
            asks.push(Ask::Enrol(enrol::Enrol { token, upload, user, sealed, recovery, consent }));
        }
        for (number, ask) in asks.iter().enumerate() {
            let said = school.ask(node(number).id(), ask);
            assert!(matches!(said, Answer::Enrolled(_)), "pupil {number}: {said:?}");
        }
        school.print(&format!("a class of {class} enrols"));
        let issued = school.stage.office.database.audit(10_000).expect("read");
        assert_eq!(issued.iter().filter(|(_, line)| line.what == "name issued").count(), class);
    }
}

/// A laptop of a user: its keys, and what it has.
struct Laptop {
    node: NodeKey,
    user: UserKey,
    device: DeviceKey,
    address: String,
    has: BTreeMap<String, Entry>,
    /// The serial of its certificate.
    serial: u64,
    /// How its last pass began.
    begun: Begun,
}

impl Laptop {
    fn new(user: usize, number: usize) -> Self {
        let of = |seed: usize| *node(1_000_000 + 10 * user + seed).seed();
        let (user_key, device) = (UserKey::from_seed(of(0)), DeviceKey::from_seed(of(1 + number)));
        let (node, address) = (NodeKey::from_seed(of(4 + number)), format!("pupil{user}@school.example"));
        Self {
            node,
            user: user_key,
            device,
            address,
            has: BTreeMap::new(),
            serial: u64::MAX,
            begun: Begun::default(),
        }
    }

    fn edit(&mut self, number: usize, name: &str, at: u64) {
        let edit = Edit { millis: at, by: self.device.id().as_bytes().to_vec(), ..Edit::default() };
        let jid = format!("contact{number}@school.example");
        let item = RosterItem {
            jid: jid.clone(),
            name: Some(name.to_owned()),
            name_edit: Some(edit.clone()),
            groups_edit: Some(edit.clone()),
            approved_edit: Some(edit.clone()),
            listed_edit: Some(edit.clone()),
            user_edit: Some(edit),
            ..RosterItem::default()
        };
        self.has.insert(jid, Entry::Contact(Box::new(item)));
    }

    fn marks(&self) -> Marks {
        Marks(self.has.values().filter_map(Entry::mark).collect())
    }

    /// One whole pass; how many statements it told and took.
    fn pass(&mut self, school: &mut Measured) -> (usize, usize) {
        let now = wall_millis();
        let cert = DeviceCert::issue(&self.user, self.device.id(), now).expect("issued");
        let binding = NodeBinding::agreed(self.user.id(), self.device.id(), &self.node, now, now + 7 * DAY);
        let binding = Verified::sign(binding, &self.device, None).expect("signed");
        let begin = Ask::Begin(enrol::Begin {
            address: self.address.clone(),
            user: self.user.id().as_bytes().to_vec(),
            certificate: cert.bytes().to_vec(),
            binding: binding.bytes().to_vec(),
            root: self.marks().root().to_vec(),
            serial: self.serial,
            ..enrol::Begin::default()
        });
        let Said::Begun(begun) = school.ask(self.node.id(), &begin) else { panic!("refused") };
        self.begun = begun.clone();
        if begun.buckets.is_empty() {
            return (0, 0);
        }
        let (session, differing) = (begun.session, self.marks().differing(&begun.buckets));
        let compare = Ask::Compare(enrol::Compare { session, buckets: differing.clone() });
        let Said::Compared(theirs) = school.ask(self.node.id(), &compare) else { panic!("refused") };
        let theirs: std::collections::BTreeSet<Mark> = marks(&theirs.marks).collect();
        let mine = self.marks();
        let lacking: Vec<u8> =
            theirs.iter().filter(|mark| !mine.0.contains(*mark)).flatten().copied().collect();
        let taken = self.fetch(school, session, lacking);
        let told: Vec<Statement> = self
            .has
            .values()
            .filter(|entry| {
                entry.mark().is_some_and(|mark| differing.contains(&mark[0]) && !theirs.contains(&mark))
            })
            .map(|entry| Statement::sign(&self.user.id(), entry.part().write(), &self.device))
            .collect();
        for page in told.chunks(100) {
            let tell = Ask::Tell(enrol::Tell { session, statements: page.to_vec(), record: Vec::new() });
            let said = school.ask(self.node.id(), &tell);
            assert!(matches!(said, Said::Statements(_)), "{said:?}");
        }
        (told.len(), taken)
    }

    fn fetch(&mut self, school: &mut Measured, session: u64, lacking: Vec<u8>) -> usize {
        let (mut left, mut taken) = (lacking, 0);
        while !left.is_empty() {
            let fetch = Ask::Fetch(enrol::Fetch { session, marks: left.clone() });
            let Said::Statements(page) = school.ask(self.node.id(), &fetch) else { panic!("refused") };
            for statement in &page.statements {
                let entry = Entry::read(&statement.said).expect("one thing");
                let Entry::Contact(item) = &entry else { panic!("a contact") };
                let jid = item.jid.clone();
                let merged = match self.has.remove(&jid) {
                    Some(mine) => mine.merge(entry),
                    None => entry,
                };
                self.has.insert(jid, merged);
                taken += 1;
            }
            left.drain(
                ..left.len().min(usize::try_from(page.marks).expect("few") * std::mem::size_of::<Mark>()),
            );
            assert!(page.marks > 0, "it goes on");
        }
        taken
    }
}

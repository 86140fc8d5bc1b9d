//! A class that enrols at once, and a school that comes back after a week: what that costs the server. Each figure is
//! printed. `CROSSTALK_CLASS` and `CROSSTALK_SCHOOL` say how many they are.

mod hides;
mod laptop;
mod looks;
mod mail;
mod pupils;
mod week;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosstalk_overlay::enrol::{self, Answer, Ask};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::{NodeKey, UserKey};
use crosstalk_overlay::time::Now;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::Question;
use super::database::Home;
use super::machine::Machine;
use super::opaque::{Account, Registration};
use super::private::{self, Instance, home};
use super::tests_on_postgres::{Said, Stage};
use crate::accounts::random::{self, NoRandomness};
use crate::event_loop::clock::wall_millis;

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn many(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Clocks that go when they are told to.
#[derive(Debug)]
struct Clockwork(Mutex<Now>);

impl Clockwork {
    fn mono(&self) -> u64 {
        self.now().mono
    }

    fn set(&self, mono: u64) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (now.wall, now.mono) = (now.wall + (mono - now.mono), mono);
    }
}

impl Machine for Clockwork {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        random::fill(bytes)
    }
}

/// A server, and what its answers take.
struct Measured {
    stage: Stage,
    machine: Arc<Clockwork>,
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
        [Self::own(), Self::on_postgres()]
    }

    fn own() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        Self::at("own", Home::Own(dir.path().to_owned()), None, dir)
    }

    fn on_postgres() -> Self {
        let url = Instance::shared().database();
        Self::at("PostgreSQL", home(&url), Some(url), tempfile::tempdir().expect("dir"))
    }

    fn at(kind: &'static str, home: Home, url: Option<String>, dir: tempfile::TempDir) -> Self {
        let machine = Arc::new(Clockwork(Mutex::new(Now { mono: 0, wall: wall_millis() })));
        let (stage, begun) = (Stage::on(home, machine.clone()), Instant::now());
        let (cpu, bytes, asked) = (Duration::ZERO, (0, 0), BTreeMap::new());
        let memory = (0, 0);
        let mut made = Self { stage, machine, kind, url, dir, cpu, begun, bytes, size: 0, memory, asked };
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

    /// By its own clock, Unix milliseconds.
    fn wall(&self) -> u64 {
        self.machine.now().wall
    }

    /// As its task does: it answers, and does then what is due.
    fn ask(&mut self, from: NodeId, ask: &Ask) -> Said {
        let ask = ask.to_bytes();
        let answer = self.work(|stage| {
            let answer = stage.office.serve(from, &ask, &[]);
            stage.office.maintain();
            stage.office.attend();
            answer
        });
        *self.asked.entry(from).or_default() += 1;
        self.memory.1 = self.memory.1.max(resident());
        self.bytes = (self.bytes.0 + ask.len(), self.bytes.1 + answer.len());
        Said::from_bytes(&answer).expect("an answer")
    }

    fn print(&self, what: &str) {
        let (before, most) = self.memory;
        println!(
            "{what}, {}: {:.1} s, of which the server's task {:.2} s of CPU; {} kB in, {} kB out; database {} kB larger; {} kB of memory, \
             {} kB more than before (what laptops learn included); {} questions of one laptop at most",
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

//! Many nodes on a virtual clock and a simulated network: what happens next, and that it keeps every promise. *Pure.*
//!
//! | file | owns |
//! | --- | --- |
//! | `events` | the queue of what will happen |
//! | `incidents` | what of it a run can be told without |
//! | `dice`, `story` | chance; what is told and hashed |
//! | `host`, `disk` | one core by its law; its store, crashes |
//! | `network` | links, cables, discovery |
//! | `news` | what neighbours tell each other on |
//! | `ground` | places, roads and fields; lids that are closed |
//! | `radio` | loss, rate and traffic of a link |
//! | `streams` | between clients and their node |
//! | `people` | keys, certificates, accounts |
//! | `office` | the server of a domain on a host |
//! | `enrolment` | how people get their names there |
//! | `faults` | what goes wrong |
//! | `attacker` | a peer that means harm |
//! | `spam` | strangers who write and ask without end, and how they are blocked |
//! | `theft` | a laptop in other hands |
//! | `meter` | what a run costs, and how well it serves |
//! | `sabotage` | promises that the world breaks to try out the invariants |

pub(crate) mod attacker;
pub(crate) mod dice;
pub(crate) mod disk;
mod enrolment;
pub(crate) mod events;
pub(crate) mod faults;
pub(crate) mod ground;
pub(crate) mod host;
pub mod incidents;
pub mod meter;
pub(crate) mod network;
pub(crate) mod news;
pub(crate) mod office;
pub(crate) mod people;
pub(crate) mod radio;
pub mod sabotage;
pub(crate) mod spam;
pub mod story;
pub(crate) mod streams;
pub(crate) mod theft;

use std::collections::BTreeMap;

use crosstalk::core::ConnId;
use crosstalk::xmpp::Element;

use crate::client::Client;
use crate::errors::logged_error;
use crate::invariants::Book;
use dice::Dice;
use events::{Event, PersonId, Queue};
use host::{Host, Power};
use incidents::Incidents;
use network::Network;
use people::Person;
use sabotage::Sabotage;
use story::{Checked, Story};

pub use radio::Traffic;
pub use story::Violation;

/// How often what needs a clock is looked at, milliseconds.
const WATCH: u64 = 5_000;
/// And while no machine runs.
const NIGHT_WATCH: u64 = 600_000;
/// Events that are planned at once; more means that something floods.
const MOST_PLANNED: usize = 100_000;

/// Everything.
pub(crate) struct World {
    /// Virtual milliseconds since the start.
    pub(crate) time: u64,
    pub(crate) dice: Dice,
    pub(crate) queue: Queue,
    pub(crate) incidents: Incidents,
    pub(crate) story: Story,
    pub(crate) hosts: Vec<Host>,
    pub(crate) people: Vec<Person>,
    /// Who has which bare address.
    addresses: BTreeMap<String, PersonId>,
    pub(crate) clients: Vec<Client>,
    pub(crate) network: Network,
    pub(crate) ground: ground::Ground,
    pub(crate) streams: BTreeMap<ConnId, streams::Stream>,
    pub(crate) next_conn: u64,
    pub(crate) book: Book,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) theft: Option<theft::Theft>,
    /// Looks on, if somebody wants figures.
    pub(crate) meter: Option<Box<meter::Meter>>,
    /// Whether somebody still wants to know what happens, asked every few virtual seconds.
    goes_on: Box<dyn Fn() -> bool>,
    /// Nobody does.
    pub(crate) stopped: bool,
    /// When the next look is.
    watch: u64,
    /// All is well again: what was still to go wrong does not.
    pub(crate) healed: bool,
    /// For a sabotage: what is held back of a stream.
    swapped: BTreeMap<ConnId, Vec<Element>>,
}

impl World {
    /// An empty world.
    pub(crate) fn new(seed: u64, story: Story, sabotage: Option<Sabotage>, incidents: Incidents) -> Self {
        let mut queue = Queue::default();
        queue.push(WATCH, Event::Watch);
        Self {
            time: 0,
            dice: Dice::new(seed),
            queue,
            incidents,
            story,
            hosts: Vec::new(),
            people: Vec::new(),
            addresses: BTreeMap::new(),
            clients: Vec::new(),
            network: Network::default(),
            ground: ground::Ground::default(),
            streams: BTreeMap::new(),
            next_conn: 0,
            book: Book::default(),
            sabotage,
            theft: None,
            meter: None,
            goes_on: Box::new(|| true),
            stopped: false,
            watch: WATCH,
            healed: false,
            swapped: BTreeMap::new(),
        }
    }

    /// It ends when `goes_on` says no.
    pub(crate) fn go_on_while(&mut self, goes_on: impl Fn() -> bool + 'static) {
        self.goes_on = Box::new(goes_on);
    }

    /// The next thing happens.
    pub(crate) fn step(&mut self) -> Checked {
        let Some((when, event)) = self.queue.pop() else { return Ok(()) };
        self.time = when;
        let Some(event) = self.put_off(event) else { return Ok(()) };
        match event {
            Event::Drain(life) if self.lives(life) => self.drain(life.host)?,
            Event::Timeout(life) if self.lives(life) => self.timed_out(life.host),
            Event::Written(life) if self.lives(life) => self.written(life.host)?,
            Event::SealingKey(life, user) if self.lives(life) => self.sealing_key_made(life.host, user),
            Event::Dialled(life, node) if self.lives(life) => self.dialled(life.host, node),
            Event::Query(life, again) if self.lives(life) => self.query(life, again),
            Event::Attack(life) if self.lives(life) => self.attack(life.host),
            Event::Asked(life) if self.lives(life) => self.serve(life.host)?,
            Event::Served(life, served) if self.lives(life) => self.served(life.host, *served),
            Event::Drain(_)
            | Event::Timeout(_)
            | Event::Written(_)
            | Event::SealingKey(..)
            | Event::Dialled(..)
            | Event::Query(..)
            | Event::Attack(_)
            | Event::Asked(_)
            | Event::Served(..) => {}
            Event::Parcel(pipe, end, parcel) => self.arrived(pipe, end, parcel),
            Event::Datagram(from, to, bytes) => self.datagram_arrived(from, to, bytes),
            Event::Broken(pipe, end) => self.pipe_ended(pipe, end),
            Event::Resume(pipe, end) => self.resume_pipe(pipe, end),
            Event::Up(conn, what) => self.came_up(conn, what),
            Event::Down(conn, what) => self.came_down(conn, what)?,
            Event::Wake(client, token) => self.client_wakes(client, token)?,
            Event::Say(client, to) => self.say(client, to)?,
            Event::Edit(client) => self.edit_contacts(client),
            Event::Fault(fault) if !self.healed => self.suffer(fault)?,
            Event::Fault(_) => {}
            Event::Walk => self.step_on(),
            Event::Watch => self.watch()?,
        }
        match logged_error() {
            Some(error) => Err(self.violation(format!("an ERROR was logged: {error}"))),
            None => Ok(()),
        }
    }

    /// Regularly: what only a clock brings to light, and bounds.
    ///
    /// # Errors
    /// A broken promise; or that it was stopped, which is none.
    fn watch(&mut self) -> Checked {
        if self.time != self.watch {
            return Ok(());
        }
        self.stopped = !(self.goes_on)();
        if self.stopped {
            return Err(self.violation("stopped"));
        }
        let awake = self.hosts.iter().any(|host| host.power == Power::On);
        self.watch_after(if awake { WATCH } else { NIGHT_WATCH });
        self.sweep_pipes();
        self.meter_watch(WATCH);
        if self.queue.len() > MOST_PLANNED {
            return Err(self.violation(format!("{} events are planned: something floods", self.queue.len())));
        }
        self.check_departed()
    }

    fn watch_after(&mut self, millis: u64) {
        self.watch = self.time + millis;
        self.queue.push(self.watch, Event::Watch);
    }

    /// A machine runs again.
    fn watch_again(&mut self) {
        if self.watch > self.time + WATCH {
            self.watch_after(WATCH);
        }
    }

    /// Runs for some milliseconds.
    pub(crate) fn run(&mut self, millis: u64) -> Checked {
        let until = self.time + millis;
        while self.queue.next_at().is_some_and(|when| when <= until) {
            self.step()?;
        }
        self.time = until;
        Ok(())
    }

    /// Runs until something is true. It is a violation if that takes more than `within` milliseconds.
    pub(crate) fn until(&mut self, what: &str, within: u64, mut is_so: impl FnMut(&Self) -> bool) -> Checked {
        let limit = self.time + within;
        while !is_so(self) {
            if self.time > limit {
                let seconds = within / 1_000;
                return Err(self.violation(format!("after {seconds} s it is still not so that {what}")));
            }
            self.step()?;
        }
        self.story.tell(self.time, || format!("--- {what}"));
        Ok(())
    }
}

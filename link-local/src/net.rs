//! Multicast DNS on real sockets: the shell around [`Mdns`], with the machine's interfaces and clocks.
//!
//! | file | owns |
//! | --- | --- |
//! | `sockets` | which sockets there are on port 5353, and opening them again when they fail |
//! | `interfaces` | interfaces and addresses as the kernel tells them |
//!
//! One task drives the engine. It wakes for packets, commands, changes of interfaces and the engine's own deadlines,
//! and for nothing else. Queues are bounded: while nobody takes the events, packets stay in the kernel's buffers, which
//! drop what they have no room for; multicast DNS lives with that.

mod interfaces;
mod sockets;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crosstalk_overlay::time::Now;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::instance::Instance;
use crate::mdns::{
    Airtime, Config, Event, Interface, Mdns, Output, P2pService, Presence, ServiceId, Transmit,
};
use interfaces::Links;
use sockets::{Alone, Heard, Sockets};

/// Commands that wait at most; a further one is given back.
pub const COMMANDS: usize = 256;
/// Events that wait in the channel at most.
const EVENTS: usize = 64;
/// Events that wait for room in the channel; with more, no packet is read.
const HELD: usize = 256;
/// Packets that wait at most.
const PACKETS: usize = 64;
/// How long the goodbyes of the end may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// The clocks differ by more than this after the machine has slept, milliseconds.
const SLEPT: u64 = 5_000;

/// What can be asked of multicast DNS. See the functions of [`Mdns`] with these names.
#[derive(Debug)]
pub enum Command {
    /// Announce a user, or announce it changed.
    Announce {
        /// Number of the announcement.
        id: ServiceId,
        /// What is said.
        presence: Box<Presence>,
    },
    /// Say goodbye for a user.
    Withdraw {
        /// Number of the announcement.
        id: ServiceId,
    },
    /// Look for others, or no longer.
    SetBrowsing(bool),
    /// Fetch a picture.
    AskPicture(Instance),
    /// Check at once whether somebody is still there.
    Suspect(Instance),
    /// Whose hosts another layer watches, all of them.
    Vouched(BTreeSet<Instance>),
    /// Announce this node to others of its kind over IPv6.
    SetP2p(Option<P2pService>),
    /// What was sent and heard so far.
    Airtime(oneshot::Sender<Airtime>),
}

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Too many wait; try again when the task had a chance to run.
    #[error("{COMMANDS} commands wait for multicast DNS already")]
    Full(Box<Command>),
    /// The task has ended.
    #[error("multicast DNS has stopped")]
    Stopped,
}

/// The running task. Dropped, it says its goodbyes and ends.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    interfaces: watch::Receiver<Vec<Interface>>,
    task: JoinHandle<()>,
}

/// Asks the running task without owning it.
#[derive(Clone, Debug)]
pub struct Asker {
    commands: mpsc::WeakSender<Command>,
    interfaces: watch::Receiver<Vec<Interface>>,
}

impl Asker {
    /// What was sent and heard so far; `None` when the task has ended.
    pub async fn airtime(&self) -> Option<Airtime> {
        let (answer, airtime) = oneshot::channel();
        self.commands.upgrade()?.send(Command::Airtime(answer)).await.ok()?;
        airtime.await.ok()
    }

    /// Names of the interfaces in use.
    pub fn interfaces(&self) -> Vec<String> {
        self.interfaces.borrow().iter().map(|interface| interface.name.clone()).collect()
    }
}

impl Handle {
    /// Gives a command.
    ///
    /// # Errors
    /// [`SendError::Full`] gives it back.
    pub fn try_send(&self, command: Command) -> Result<(), SendError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) => SendError::Full(Box::new(command)),
            TrySendError::Closed(_) => SendError::Stopped,
        })
    }

    /// Whether a command will be taken, if this is the only task that gives any.
    pub fn has_room(&self) -> bool {
        self.commands.capacity() > 0 || self.commands.is_closed()
    }

    /// For questions from elsewhere.
    pub fn asker(&self) -> Asker {
        Asker { commands: self.commands.downgrade(), interfaces: self.interfaces.clone() }
    }

    /// The interfaces in use, as they change.
    pub fn interfaces(&self) -> watch::Receiver<Vec<Interface>> {
        self.interfaces.clone()
    }

    /// Says goodbye for all and ends, within half a second.
    pub async fn shutdown(self) {
        let Self { commands, interfaces, task } = self;
        drop(commands);
        drop(interfaces);
        let abort = task.abort_handle();
        if timeout(FAREWELL * 2, task).await.is_err() {
            abort.abort();
        }
    }
}

/// Starts multicast DNS in a task of the current runtime. `clock` gives the node's time.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start(config: Config, clock: impl Fn() -> Now + Send + 'static) -> (Handle, mpsc::Receiver<Event>) {
    // Before anything of ours is bound there.
    let alone = Alone::find_out();
    let (commands, commanded) = mpsc::channel(COMMANDS);
    let (events, received) = mpsc::channel(EVENTS);
    let (told, interfaces) = watch::channel(Vec::new());
    let (heard, packets) = mpsc::channel(PACKETS);
    let now = clock();
    let driver = Driver {
        engine: Mdns::new(config, now),
        clock,
        sockets: Sockets::new(alone, heard),
        links: Links::new(),
        told,
        events,
        held: VecDeque::new(),
        awake: (now.mono, Instant::now()),
        unsent: 0,
    };
    let task = tokio::spawn(driver.run(commanded, packets, interfaces::watch()));
    (Handle { commands, interfaces, task }, received)
}

struct Driver<C> {
    engine: Mdns,
    clock: C,
    sockets: Sockets,
    links: Links,
    told: watch::Sender<Vec<Interface>>,
    events: mpsc::Sender<Event>,
    /// Events that had no room; at most [`HELD`] and what one packet gives.
    held: VecDeque<Event>,
    /// Both clocks at one moment, to notice that the machine has slept.
    awake: (u64, Instant),
    /// Packets that no socket took.
    unsent: u64,
}

impl<C: Fn() -> Now> Driver<C> {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut packets: mpsc::Receiver<Heard>,
        mut changes: mpsc::Receiver<Links>,
    ) {
        let events = self.events.clone();
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some(links) = changes.recv() => self.changed(links),
                room = events.reserve(), if !self.held.is_empty() => match room {
                    Ok(room) => if let Some(event) = self.held.pop_front() { room.send(event) },
                    Err(_) => break,
                },
                Some(heard) = packets.recv(), if self.held.len() < HELD => self.hear(heard),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.sockets.retry(Instant::now());
                    self.engine.handle_timeout((self.clock)());
                }
            }
            self.notice_sleep();
            self.perform();
        }
        self.part().await;
    }

    /// When there is something to do without being told.
    fn due(&self) -> Option<Instant> {
        let engine = self.engine.poll_timeout().map(|(when, _)| {
            // At least a millisecond, so that a time in the past cannot starve the rest.
            let after = when.saturating_sub((self.clock)().mono).max(1);
            Instant::now() + Duration::from_millis(after)
        });
        engine.into_iter().chain(self.sockets.due()).min()
    }

    fn obey(&mut self, command: Command) {
        let now = (self.clock)();
        match command {
            Command::Announce { id, presence } => {
                if !self.engine.announce(id, *presence, now) {
                    tracing::warn!("so many users are announced on the link that another one is not");
                }
            }
            Command::Withdraw { id } => self.engine.withdraw(id, now),
            Command::SetBrowsing(on) => self.engine.set_browsing(on, now),
            Command::AskPicture(instance) => self.engine.ask_picture(&instance, now),
            Command::Suspect(instance) => self.engine.suspect(&instance, now),
            Command::Vouched(instances) => self.engine.set_vouched(&instances, now),
            Command::SetP2p(service) => self.engine.set_p2p(service, now),
            Command::Airtime(answer) => {
                self.engine.handle_timeout(now);
                // Who asked may have gone away meanwhile.
                let _ = answer.send(self.engine.airtime().clone());
            }
        }
    }

    fn changed(&mut self, links: Links) {
        let now = (self.clock)();
        let restored = interfaces::restored(&self.links, &links);
        self.sockets.follow(&links);
        let all: Vec<Interface> = links.values().map(|link| link.interface.clone()).collect();
        self.engine.set_interfaces(all.clone(), now);
        let lost = links.iter().filter(|(_, link)| !link.running).map(|(index, _)| *index);
        lost.for_each(|index| self.engine.carrier_lost(index, now));
        restored.into_iter().for_each(|index| self.engine.carrier_back(index, now));
        self.links = links;
        self.told.send_replace(all);
    }

    fn hear(&mut self, heard: Heard) {
        let now = (self.clock)();
        match heard {
            Heard::Datagram { place, from, bytes } => {
                self.engine.datagram(place.interface, from, place.is_multicast(), &bytes, now);
            }
            Heard::Failed { place, error } => self.sockets.failed(place, &error),
        }
    }

    /// Who slept knows nothing of what went on meanwhile: as if all carriers had been away.
    fn notice_sleep(&mut self) {
        let (now, instant) = ((self.clock)(), Instant::now());
        let (mono, before) = std::mem::replace(&mut self.awake, (now.mono, instant));
        let ticked = u64::try_from(instant.duration_since(before).as_millis()).unwrap_or(u64::MAX);
        if now.mono.saturating_sub(mono) > ticked.saturating_add(SLEPT) {
            tracing::debug!("the machine has slept");
            let all: BTreeSet<u32> = self.links.keys().copied().collect();
            all.into_iter().for_each(|index| self.engine.carrier_back(index, now));
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send(transmit) => self.send(&transmit),
                Output::Event(event) => self.tell(event),
            }
        }
    }

    fn send(&mut self, transmit: &Transmit) {
        if !self.sockets.send(transmit) {
            self.unsent += 1;
            tracing::trace!(unsent = self.unsent, "a packet was not sent");
        }
    }

    fn tell(&mut self, event: Event) {
        if self.held.is_empty() {
            match self.events.try_send(event) {
                Err(TrySendError::Full(event)) => self.held.push_back(event),
                Ok(()) | Err(TrySendError::Closed(_)) => {}
            }
        } else {
            self.held.push_back(event);
        }
    }

    /// Goodbyes for all, as long as the engine has any to send.
    async fn part(mut self) {
        self.engine.shutdown((self.clock)());
        self.perform();
        let end = Instant::now() + FAREWELL;
        while let Some(due) = self.due().filter(|due| *due < end) {
            sleep_until(due).await;
            self.engine.handle_timeout((self.clock)());
            self.perform();
        }
    }
}

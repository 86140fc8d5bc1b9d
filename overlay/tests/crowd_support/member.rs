//! One node of the crowd: a whole swarm, the overlay core, and a store in memory; what `node/src/event_loop.rs` is to a
//! real node.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crosstalk_overlay::core::*;
use crosstalk_overlay::dht::{Answer, Query, Table, Trace};
use crosstalk_overlay::id::{MessageId, NodeId, UserId};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::mailbox::Bounds;
use crosstalk_overlay::record::DeviceCert;
use crosstalk_overlay::swarm::{
    self, Command, Config, DhtConfig, DhtMode, Event, Handle, SendError, start_over,
};
use crosstalk_overlay::time::Now;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::air::{Air, Meter};
use super::pump::Store;

/// Questions of tests begin here: the core's own are numbered from 1.
const QUESTIONS: u64 = 1 << 40;
pub const PORT: u16 = 4_001;

/// 32 bytes of its own for each number and use.
pub fn seed(number: u32, what: u8) -> [u8; 32] {
    let mut seed = [what; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    seed
}

pub fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The user of a number.
pub fn user_of(number: u32) -> UserId {
    UserKey::from_seed(seed(number, 1)).id()
}

pub fn node_of(number: u32) -> NodeId {
    NodeKey::from_seed(seed(number, 3)).id()
}

/// A public address: hosts are spread over networks like anybody's.
pub fn address_of(number: u32) -> SocketAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    let ip = Ipv4Addr::new(20, low, middle, high ^ 7);
    SocketAddr::new(IpAddr::V4(ip), PORT)
}

pub fn way_to(number: u32) -> String {
    let at = address_of(number);
    let peer = swarm::peer_id(&node_of(number)).unwrap();
    format!("/ip4/{}/tcp/{}/p2p/{peer}", at.ip(), at.port())
}

fn local(number: u32, epoch: u64) -> LocalUser {
    let (user, device) = (UserKey::from_seed(seed(number, 1)), DeviceKey::from_seed(seed(number, 2)));
    let now = wall();
    // Issued on the same day whatever the life: one certificate for one device.
    let cert = DeviceCert::issue(&user, device.id(), now - now % 86_400_000).unwrap().bytes().to_vec();
    let sealing = vec![SealingKey::from_seed(seed(number, 4), now)];
    LocalUser { user: user.id(), device, cert, sealing, name: None, epoch }
}

/// What a test does with a node.
type Job = Box<dyn FnOnce(&mut Host, Now) + Send>;

/// The parts of a node that a test may touch.
pub struct Host {
    pub core: Overlay,
    pub store: Store,
    /// What a test asked the hash table.
    asked: BTreeMap<u64, oneshot::Sender<(Answer, Trace)>>,
    next: u64,
    commands: VecDeque<Command>,
    pub settled: BTreeMap<MessageId, Outcome>,
    /// Nodes in its tables.
    pub known: usize,
    /// Copies of its user's record at the last put.
    pub copies: usize,
    /// What it holds of the hash table.
    pub held: BTreeMap<(Table, [u8; 32]), Vec<u8>>,
    /// All frames that it is sent from now on, if a test wants them.
    pub heard: Option<Vec<(NodeId, Vec<u8>)>>,
    start: Instant,
}

/// A running node.
pub struct Member {
    pub number: u32,
    pub meter: Arc<Meter>,
    jobs: mpsc::UnboundedSender<Job>,
    task: JoinHandle<Store>,
    air: Arc<Air>,
}

/// How all nodes are set up.
#[derive(Clone)]
pub struct Ways {
    pub dht: DhtConfig,
    pub limits: Limits,
    pub max_connections: u32,
}

impl Default for Ways {
    fn default() -> Self {
        let bounds = Bounds { bits: 6, ..Bounds::default() };
        Self {
            dht: DhtConfig { mode: DhtMode::Server, ..DhtConfig::default() },
            limits: Limits { mailbox: bounds, ..Limits::default() },
            max_connections: 64,
        }
    }
}

impl Member {
    /// Starts node and user of this number on a runtime; `store`: what is left of an earlier life.
    pub fn start(
        on: &runtime::Handle,
        air: &Arc<Air>,
        number: u32,
        ways: &Ways,
        bootstrap: Vec<String>,
        store: Store,
    ) -> Self {
        let at = address_of(number);
        let (carrier, meter) = air.carrier(at.ip());
        let config = Config {
            node_seed: Zeroizing::new(seed(number, 3)),
            listen: vec![at],
            quic: false,
            mdns: false,
            max_connections: ways.max_connections,
            dht: Some(ways.dht.clone()),
        };
        let (jobs, todo) = mpsc::unbounded_channel();
        let limits = ways.limits.clone();
        let task = on.spawn(async move {
            let (handle, events) = start_over(config, carrier).unwrap();
            handle.try_send(Command::Bootstrap { addresses: bootstrap }).unwrap();
            let host = Host::new(number, limits, store);
            host.run(handle, events, todo).await
        });
        Self { number, meter, jobs, task, air: Arc::clone(air) }
    }

    /// Does something with the node.
    pub async fn with<T: Send + 'static>(&self, job: impl FnOnce(&mut Host, Now) -> T + Send + 'static) -> T {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |host, now| drop(tell.send(job(host, now))));
        assert!(self.jobs.send(job).is_ok(), "node {} has stopped", self.number);
        told.await.unwrap()
    }

    /// Asks the hash table.
    pub async fn ask(&self, query: Query) -> (Answer, Trace) {
        let (tell, told) = oneshot::channel();
        self.with(move |host, _| {
            host.next += 1;
            host.asked.insert(host.next, tell);
            host.commands.push_back(Command::Query { id: host.next, query });
        })
        .await;
        told.await.unwrap()
    }

    /// Loses its power (`dark`: nobody is told), or ends properly. What its store held.
    pub async fn stop(self, dark: bool) -> Store {
        if dark {
            self.air.darken(&self.meter);
        }
        drop(self.jobs);
        self.task.await.unwrap()
    }
}

impl Host {
    fn new(number: u32, limits: Limits, store: Store) -> Self {
        let (start, now) = (Instant::now(), Now { mono: 0, wall: wall() });
        let mut life = seed(number, 5);
        life[8..16].copy_from_slice(&now.wall.to_be_bytes());
        let setup = Setup {
            node: NodeKey::from_seed(seed(number, 3)),
            seed: life,
            limits,
            restored: store.restored(),
            built: now.wall - 86_400_000,
            publishes: true,
        };
        let mut core = Overlay::new(setup, now);
        core.add_local(local(number, 1), now).unwrap();
        Self {
            core,
            store,
            asked: BTreeMap::new(),
            next: QUESTIONS,
            commands: VecDeque::new(),
            settled: BTreeMap::new(),
            known: 0,
            copies: 0,
            held: BTreeMap::new(),
            heard: None,
            start,
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.start.elapsed().as_millis() as u64, wall: wall() }
    }

    async fn run(
        mut self,
        handle: Handle,
        mut events: mpsc::Receiver<Event>,
        mut todo: mpsc::UnboundedReceiver<Job>,
    ) -> Store {
        self.drain();
        loop {
            self.command(&handle);
            let due = self.core.poll_timeout().map_or(u64::MAX, |(due, _)| due);
            let wait = Duration::from_millis(due.saturating_sub(self.now().mono).min(60_000));
            // The swarm's queue is full: a moment later there is room.
            let wait = if self.commands.is_empty() { wait } else { Duration::from_millis(5) };
            tokio::select! {
                job = todo.recv() => match job {
                    Some(job) => {
                        let now = self.now();
                        job(&mut self, now);
                    }
                    None => break,
                },
                event = events.recv() => self.happened(event.unwrap()),
                () = tokio::time::sleep(wait) => {}
            }
            if self.core.poll_timeout().is_some_and(|(due, _)| due <= self.now().mono) {
                self.core.handle_timeout(self.now());
            }
            self.drain();
        }
        drop(events);
        handle.shutdown().await;
        self.store
    }

    fn command(&mut self, handle: &Handle) {
        while let Some(command) = self.commands.pop_front() {
            if let Err(SendError::Full(back)) = handle.try_send(command) {
                return self.commands.push_front(back);
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Peer(PeerEvent::Answer { id, answer, trace }) if id > QUESTIONS => {
                if let Some(tell) = self.asked.remove(&id) {
                    drop(tell.send((answer, trace)));
                }
            }
            Event::Peer(event) => {
                match &event {
                    PeerEvent::Frame { node, frame } => {
                        if let Some(heard) = &mut self.heard {
                            heard.push((*node, frame.clone()));
                        }
                    }
                    PeerEvent::Table { nodes } => self.known = *nodes,
                    PeerEvent::Answer { answer: Answer::Stored(copies), .. } => self.copies = *copies,
                    _ => {}
                }
                self.core.handle_peer(event, self.now());
            }
            Event::Held { table, key, value: Some((value, _)) } => {
                self.held.insert((table, *key.as_bytes()), value);
            }
            Event::Held { table, key, value: None } => {
                self.held.remove(&(table, *key.as_bytes()));
            }
            _ => {}
        }
    }

    /// Sends what its core never would, on the link that there is.
    pub fn says(&mut self, node: NodeId, frame: Vec<u8>) {
        self.commands.push_back(Command::Send { node, frame });
    }

    pub fn dials(&mut self, number: u32) {
        let (node, addresses) = (node_of(number), vec![way_to(number)]);
        self.commands.push_back(Command::Dial { node, addresses });
    }

    /// Performs the outputs of one batch: what is written counts at once.
    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Write(write) => self.store.write(write),
                Output::Deliver(delivery) => {
                    let Delivery { from, to, message, content, ticket, .. } = delivery;
                    self.store.inbox.push((from, to, message, super::pump::body(content)));
                    self.core.settle(ticket, Disposition::Held, self.now());
                }
                Output::Settled { message, outcome, .. } => {
                    self.settled.insert(message, outcome);
                }
                Output::Send { node, frame, .. } => self.commands.push_back(Command::Send { node, frame }),
                Output::Dial { node, addresses } => {
                    self.commands.push_back(Command::Dial { node, addresses });
                }
                Output::Close { node, reason } => self.commands.push_back(Command::Close { node, reason }),
                Output::Query { id, query } => self.commands.push_back(Command::Query { id, query }),
                _ => {}
            }
        }
    }
}

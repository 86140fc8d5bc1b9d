//! Nodes of the table alone, on loopback.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::super::{swarm_config, transport};
use super::super::*;
use crate::dht::{Answer, Value};
use crate::id::NodeId;
use crate::record::testing::NOW;

/// Long, because the machine may be busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

type Job = Box<dyn FnOnce(&mut Swarm<Behaviour>) + Send>;
pub(super) type Held = (dht::Table, dht::Key, Option<(Vec<u8>, u64)>);

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) peer: PeerId,
    pub(super) address: Multiaddr,
    jobs: mpsc::Sender<Job>,
    answers: tokio::sync::Mutex<mpsc::Receiver<(u64, Answer)>>,
    held: tokio::sync::Mutex<mpsc::Receiver<Held>>,
    /// Connections open now.
    pub(super) open: Arc<AtomicUsize>,
    /// Most that were open at a time.
    pub(super) most: Arc<AtomicUsize>,
    /// All that were ever made.
    pub(super) made: Arc<AtomicUsize>,
    /// Nodes to come back by, as they were told last: full addresses.
    pub(super) told: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// Loopback counts as private.
pub(super) fn lan() -> DhtConfig {
    let networks = Networks { private: vec![(Ipv4Addr::LOCALHOST.into(), 8)], ..Networks::default() };
    DhtConfig { networks, ..DhtConfig::default() }
}

/// Loopback counts as public.
pub(super) fn wan(mode: DhtMode) -> DhtConfig {
    let networks = Networks { public: vec![(Ipv4Addr::LOCALHOST.into(), 8)], ..Networks::default() };
    DhtConfig { networks, mode, ..DhtConfig::default() }
}

pub(super) fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).expect("a key")
}

pub(super) async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

pub(super) fn put_of(value: &Value) -> Query {
    Query::Put { key: value.key(), value: value.encode(), expires_wall: u64::MAX }
}

impl Node {
    pub(super) async fn start(seed: u8, config: DhtConfig) -> Self {
        Self::start_with(seed, config, swarm_config()).await
    }

    pub(super) async fn start_with(seed: u8, config: DhtConfig, swarm: libp2p::swarm::Config) -> Self {
        let keypair = keypair(seed);
        let peer = keypair.public().to_peer_id();
        let transport = transport::build(&keypair, false).expect("a transport");
        let mut restored = config;
        let values = std::mem::take(&mut restored.restored);
        let mut behaviour = Behaviour::new(keypair.public(), restored, &Arc::default());
        behaviour.judge(TrustedTime::certain(NOW), RevocationSet::default());
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm);
        let address = listen(&mut swarm).await;
        // Only now: what the node says while it begins to listen is not heard.
        for (kind, key, value, ends) in values {
            swarm.behaviour_mut().parts.table(kind).records().restore(key, &value, ends);
        }
        let (jobs, todo) = mpsc::channel(4_096);
        let (tell_answer, answers) = mpsc::channel(4_096);
        let (tell_held, held) = mpsc::channel(4_096);
        let (open, most, made) = (Arc::default(), Arc::default(), Arc::default());
        let counts = [Arc::clone(&open), Arc::clone(&most), Arc::clone(&made)];
        let told = Arc::default();
        let run = run(swarm, todo, tell_answer, tell_held, counts, Arc::clone(&told));
        Self {
            id: address::node(&peer).expect("Ed25519"),
            peer,
            address,
            jobs,
            answers: answers.into(),
            held: held.into(),
            open,
            most,
            made,
            told,
            task: tokio::spawn(run),
        }
    }

    /// Does something with the swarm.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Swarm<Behaviour>) -> T + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |swarm| drop(tell.send(job(swarm))));
        assert!(self.jobs.try_send(job).is_ok(), "the node has stopped");
        told.await.expect("an answer")
    }

    fn order(&self, job: impl FnOnce(&mut Swarm<Behaviour>) + Send + 'static) {
        assert!(self.jobs.try_send(Box::new(job)).is_ok(), "the node has stopped");
    }

    pub(super) async fn ask(&self, query: Query) -> Answer {
        self.order(move |swarm| swarm.behaviour_mut().ask(7, query));
        let mut answers = self.answers.lock().await;
        let answer = tokio::time::timeout(PATIENCE, answers.recv()).await.expect("an answer in time");
        answer.expect("the node runs").1
    }

    pub(super) async fn put(&self, value: &Value) -> usize {
        match self.ask(put_of(value)).await {
            Answer::Stored(copies) => copies,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn get(&self, key: &dht::Key) -> Vec<Vec<u8>> {
        match self.ask(Query::Get(*key)).await {
            Answer::Values(values) => values,
            other => panic!("{other:?}"),
        }
    }

    /// Whether exactly this stands in one of its stores.
    pub(super) async fn holds(&self, value: &Value) -> bool {
        let (key, bytes) = (value.key(), value.encode());
        self.with(move |swarm| {
            [dht::Table::Lan, dht::Table::Wan].into_iter().any(|kind| {
                let records = swarm.behaviour_mut().parts.table(kind).records();
                let time = records.judge.time();
                records.store.get(&key, time) == Some(&bytes[..])
            })
        })
        .await
    }

    /// Values in both stores.
    pub(super) async fn values(&self) -> usize {
        self.with(|swarm| {
            let parts = &mut swarm.behaviour_mut().parts;
            parts.lan.records().store.len() + parts.wan.records().store.len()
        })
        .await
    }

    /// Nodes in both tables.
    pub(super) async fn members(&self) -> usize {
        self.with(|swarm| swarm.behaviour().parts.lan.len() + swarm.behaviour().parts.wan.len()).await
    }

    /// The addresses of a node in the tables.
    pub(super) async fn addresses_of(&self, peer: PeerId) -> Vec<String> {
        self.with(move |swarm| {
            let parts = &mut swarm.behaviour_mut().parts;
            [dht::Table::Lan, dht::Table::Wan]
                .into_iter()
                .flat_map(|kind| parts.table(kind).addresses(&peer, &[]))
                .map(|address| address.to_string())
                .collect()
        })
        .await
    }

    pub(super) fn bootstrap(&self, other: &Node) {
        let address = format!("{}/p2p/{}", other.address, other.peer);
        self.order(move |swarm| swarm.behaviour_mut().bootstrap(&[address]));
    }

    pub(super) fn judge(&self, millis: u64) {
        self.order(move |swarm| {
            swarm.behaviour_mut().judge(TrustedTime::certain(millis), RevocationSet::default());
        });
    }

    pub(super) fn confirm_address(&self) {
        let address = self.address.clone();
        self.order(move |swarm| swarm.add_external_address(address));
    }

    /// The next change for the disk.
    pub(super) async fn held(&self) -> Held {
        let mut held = self.held.lock().await;
        tokio::time::timeout(PATIENCE, held.recv()).await.expect("in time").expect("the node runs")
    }

    pub(super) async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let start = tokio::time::Instant::now();
        while !condition(self).await {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Vanishes; its port is closed when this returns.
    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut todo: mpsc::Receiver<Job>,
    answers: mpsc::Sender<(u64, Answer)>,
    held: mpsc::Sender<Held>,
    [open, most, made]: [Arc<AtomicUsize>; 3],
    told: Arc<Mutex<Vec<String>>>,
) {
    let mut connections = BTreeMap::new();
    loop {
        let event = tokio::select! {
            job = todo.recv() => match job {
                Some(job) => {
                    job(&mut swarm);
                    continue;
                }
                None => return,
            },
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::Behaviour(Some(Told::Event(Event::Peer(PeerEvent::Answer {
                id, answer, ..
            })))) => drop(answers.try_send((id, answer))),
            SwarmEvent::Behaviour(Some(Told::Event(Event::Held { table, key, value }))) => {
                drop(held.try_send((table, key, value)));
            }
            SwarmEvent::Behaviour(Some(Told::Event(Event::DhtMembers { nodes, .. }))) => {
                let full = |(node, addresses): &(NodeId, Vec<String>)| {
                    let peer = address::peer(node).expect("a key");
                    addresses.iter().map(move |address| format!("{address}/p2p/{peer}")).collect::<Vec<_>>()
                };
                *told.lock().expect("nobody has panicked") = nodes.iter().flat_map(full).collect();
            }
            SwarmEvent::ConnectionEstablished { connection_id, peer_id, .. } => {
                connections.insert(connection_id, peer_id);
                made.fetch_add(1, Ordering::Relaxed);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                connections.remove(&connection_id);
            }
            _ => {}
        }
        open.store(connections.len(), Ordering::Relaxed);
        most.fetch_max(connections.len(), Ordering::Relaxed);
    }
}

/// Two nodes that know each other.
pub(super) async fn pair(config: DhtConfig) -> (Node, Node) {
    let (a, b) = (Node::start(1, config.clone()).await, Node::start(2, config).await);
    a.bootstrap(&b);
    for node in [&a, &b] {
        node.until("they know each other", async |node| node.members().await == 1).await;
    }
    (a, b)
}

/// Nodes of which each was told of the one before it, and of nobody else.
pub(super) async fn line(length: u8, config: DhtConfig) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=length {
        let node = Node::start(seed, config.clone()).await;
        if let Some(before) = nodes.last() {
            node.bootstrap(before);
            node.until("it is in", async |node| node.members().await > 0).await;
        }
        nodes.push(node);
    }
    for node in &nodes {
        let enough = usize::from(length - 1).min(shape::COPIES.get());
        node.until("enough are known", async |node| node.members().await >= enough).await;
    }
    nodes
}

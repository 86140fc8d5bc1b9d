//! What the swarm's tests share: nodes on loopback, waiting for events, hostile peers on bare libp2p.

#![allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "each test binary uses a part")]

#[cfg(target_os = "linux")]
pub mod lan;

use std::fmt::Debug;
use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::swarm::{Command, Config, Event, Handle, SendError, start};
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Long, because the machine may be busy; conditions are met in milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/crosstalk/link/1");

pub struct Node {
    pub id: NodeId,
    pub handle: Handle,
    pub events: mpsc::Receiver<Event>,
    pub addresses: Vec<String>,
    /// Where it takes probes.
    pub probes: Option<u16>,
}

pub fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn node_id(seed: u8) -> NodeId {
    NodeId::from_bytes(keypair(seed).public().try_into_ed25519().unwrap().to_bytes())
}

pub fn config(seed: u8) -> Config {
    Config {
        node_seed: Zeroizing::new([seed; 32]),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        quic: false,
        mdns: false,
        max_connections: 64,
        dht: None,
    }
}

/// A node on loopback that listens.
pub async fn node(seed: u8) -> Node {
    node_with(seed, config(seed)).await
}

pub async fn node_with(seed: u8, config: Config) -> Node {
    let listeners = config.listen.len() * if config.quic { 2 } else { 1 };
    let (handle, events) = start(config).unwrap();
    let mut node = Node { id: node_id(seed), handle, events, addresses: Vec::new(), probes: None };
    let mut probes = None;
    for _ in 0..listeners {
        let address = node.until("listening", |event| match event {
            Event::Listening { address } => Some(address),
            Event::Peer(PeerEvent::ProbePort(port)) => {
                probes = port;
                None
            }
            _ => None,
        });
        let address = address.await;
        node.addresses.push(address);
    }
    node.probes = probes;
    node
}

impl Node {
    /// The first event for which `pick` has an answer; those before it are dropped.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the swarm has stopped");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
    }

    pub async fn connected(&mut self, to: NodeId) -> bool {
        self.until("connected", |event| match event {
            Event::Peer(PeerEvent::Connected { node, inbound, .. }) if node == to => Some(inbound),
            _ => None,
        })
        .await
    }

    pub async fn disconnected(&mut self, from: NodeId) {
        self.until("disconnected", |event| match event {
            Event::Peer(PeerEvent::Disconnected { node }) if node == from => Some(()),
            _ => None,
        })
        .await
    }

    pub async fn frame(&mut self, from: NodeId) -> Vec<u8> {
        self.until("a frame", |event| match event {
            Event::Peer(PeerEvent::Frame { node, frame }) if node == from => Some(frame),
            _ => None,
        })
        .await
    }

    pub fn dial(&self, node: NodeId, addresses: &[String]) {
        self.handle.try_send(Command::Dial { node, addresses: addresses.to_vec() }).unwrap();
    }

    /// Waits while the command queue is full.
    pub async fn send(&self, node: NodeId, frame: Vec<u8>) {
        let mut command = Command::Send { node, frame };
        while let Err(error) = self.handle.try_send(command) {
            let SendError::Full(back) = error else { panic!("stopped") };
            command = back;
            tokio::task::yield_now().await;
        }
    }
}

/// Two connected nodes; the first has dialled.
pub async fn pair(first: u8, second: u8) -> (Node, Node) {
    let (mut a, mut b) = (node(first).await, node(second).await);
    a.dial(b.id, &b.addresses);
    assert!(!a.connected(b.id).await, "outbound");
    assert!(b.connected(a.id).await, "inbound");
    (a, b)
}

/// A peer that speaks libp2p, and whatever a test likes inside of it.
pub struct Rogue {
    pub id: NodeId,
    pub control: libp2p_stream::Control,
    pub incoming: libp2p_stream::IncomingStreams,
    pub peer: PeerId,
    /// Tells that its connection was closed.
    pub closed: oneshot::Receiver<()>,
}

impl Rogue {
    /// Connects to `victim`.
    pub fn new(seed: u8, victim: &Node) -> Rogue {
        let peer = PeerId::from(keypair_of(victim));
        let mut swarm = libp2p::SwarmBuilder::with_existing_identity(keypair(seed))
            .with_tokio()
            .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .build();
        let mut control = swarm.behaviour().new_control();
        let incoming = control.accept(PROTOCOL).unwrap();
        let address: Multiaddr = victim.addresses[0].parse().unwrap();
        swarm.dial(address.with_p2p(peer).unwrap()).unwrap();
        let (tell, closed) = oneshot::channel();
        tokio::spawn(run(swarm, tell));
        Rogue { id: node_id(seed), control, incoming, peer, closed }
    }

    pub async fn open(&mut self) -> Stream {
        tokio::time::timeout(PATIENCE, self.control.open_stream(self.peer, PROTOCOL)).await.unwrap().unwrap()
    }
}

fn keypair_of(node: &Node) -> libp2p::identity::PublicKey {
    libp2p::identity::ed25519::PublicKey::try_from_bytes(node.id.as_bytes()).unwrap().into()
}

async fn run(mut swarm: Swarm<libp2p_stream::Behaviour>, tell: oneshot::Sender<()>) {
    while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
    tell.send(()).ok();
    loop {
        swarm.next().await;
    }
}

/// For assertions on what did not come.
pub fn nothing(event: impl Debug) -> ! {
    panic!("unexpected: {event:?}")
}

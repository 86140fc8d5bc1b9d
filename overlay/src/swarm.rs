//! The libp2p shell of the overlay: finds nodes on the link, dials them, moves frames. It decides nothing.
//!
//! | file | owns |
//! | --- | --- |
//! | `task` | the one task that owns the libp2p swarm |
//! | `link`, `link/handler`, `link/spare` | the protocol `/crosstalk/link/1`: one link per peer, frames on two substreams |
//! | `framing`, `queue` | length prefixes; what waits for a peer |
//! | `discovery`, `sightings`, `probe` | multicast DNS, made prompt, sparing and bounded |
//! | `gossip` | news for everybody on the link: gossipsub |
//! | `kad` | the distributed hash table: two Kademlia tables, queries of the core |
//! | `reach` | how others reach this node from beyond the link: AutoNAT, UPnP, relays, hole punching |
//! | `interfaces` | cables that come back, addresses and interfaces that go |
//! | `near` | which connections are on the link |
//! | `ping` | answers pings of peers of any make |
//! | `carried` | bytes and questions, counted |
//! | `datagrams` | the socket of the core's liveness probes |
//! | `transport`, `zone`, `address` | TCP, Noise, Yamux, QUIC; link-local addresses; translation to libp2p's vocabulary |
//!
//! What it promises to the core: `Connected` and `Disconnected` alternate for each node; frames of a node come in the
//! order sent and only between the two; a frame that was queued may still be lost when the link breaks. The peer's
//! node id is proven by the handshake; discovered addresses are hints. Nothing is polled: an idle link costs no
//! wake-up here.
//!
//! An IPv6 link-local address is told and taken as `/ip6zone/IFNAME/ip6/fe80::…/tcp/PORT`. It means something on this
//! machine only, and is never told to others.
//!
//! libp2p-stream is not used: it remembers each connection for ever, drops a substream that arrives together with
//! another one, and dials by itself.
//!
//! | bound | value | when full |
//! | --- | --- | --- |
//! | events to the core | [`EVENTS`] | the swarm waits, then the peers' TCP windows close |
//! | commands | [`COMMANDS`] | `try_send` gives the command back |
//! | hints from another responder | [`HINTS`] | new ones are dropped; they come again |
//! | frames to a peer | [`MAX_QUEUED_FRAMES`], [`MAX_QUEUED_BYTES`] | the peer is cut off |
//! | datagrams | 512 a second | the kernel's buffer of 64 KiB fills; or, with the events' queue full, dropped |
//! | frame from a peer | [`MAX_FRAME`](crate::wire::MAX_FRAME) | the peer is cut off |
//! | nodes sighted, addresses each | [`MAX_SIGHTED`], half of them by hints alone, [`MAX_ADDRESSES`] | newcomers are refused and counted |
//! | connections | [`Config::max_connections`] | new ones are refused |

mod address;
mod carried;
mod datagrams;
mod discovery;
pub mod framing;
mod gossip;
mod interfaces;
mod kad;
mod link;
mod near;
mod ping;
mod probe;
mod queue;
mod reach;
mod sightings;
mod task;
mod transport;
mod zone;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::identity::Keypair;
use libp2p::swarm;
use libp2p::{Multiaddr, PeerId, Swarm, noise};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

pub use self::carried::Carried;
pub use self::kad::{DhtConfig, DhtMode, Networks};
pub use self::queue::{MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES};
pub use self::reach::{ReachConfig, ReachReport, RelayMode, RelayPlace, UpnpState};
pub use self::sightings::{MAX_ADDRESSES, MAX_SIGHTED};
use self::task::{Behaviour, Task};
use crate::core::{PeerEvent, Verdict};
use crate::dht::{self, Query};
use crate::id::{NewsId, NodeId};
use crate::record::RevocationSet;
use crate::time::TrustedTime;

/// Events that wait for the core; the largest are frames of 320 KiB.
pub const EVENTS: usize = 32;
/// Commands that wait for the swarm.
pub const COMMANDS: usize = 256;
/// Hints that wait for the swarm: answers of so many neighbours that come at once.
pub const HINTS: usize = 64;
/// Addresses that are read of one hint, and bytes of each.
const MAX_HINTED: (usize, usize) = (16, 256);

/// How long a connection stays that has no stream: the first one of a link may be late on a bad one.
const IDLE: Duration = Duration::from_secs(10);

/// What the swarm has to know.
pub struct Config {
    /// The node key (Ed25519 seed); its public half is the node id.
    pub node_seed: Zeroizing<[u8; 32]>,
    /// Where to listen; port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// Listen and dial by QUIC too; without the cargo feature `quic` it has no effect.
    pub quic: bool,
    /// Look for other nodes by multicast DNS, and be seen.
    pub mdns: bool,
    /// Most peers connected at a time; each costs about 90 KB.
    pub max_connections: u32,
    /// Take part in the distributed hash table.
    pub dht: Option<DhtConfig>,
}

/// What the swarm is told to do.
#[derive(Debug)]
pub enum Command {
    /// Connect to `node` at any of these multiaddresses. Without effect if connected or connecting.
    Dial {
        /// Who has to answer there.
        node: NodeId,
        /// IP and port over TCP or QUIC, IPv6 link-local ones with their zone; anything else is ignored.
        addresses: Vec<String>,
    },
    /// Send a frame to a connected node; to another one it is dropped.
    Send {
        /// To whom.
        node: NodeId,
        /// One encoded frame, at most [`MAX_FRAME`](crate::wire::MAX_FRAME) bytes.
        frame: Vec<u8>,
    },
    /// Send a datagram to that UDP port of the host that the address of a connection names. It may be lost.
    Datagram {
        /// As [`PeerEvent::Connected`] told it.
        address: String,
        /// The peer's.
        port: u16,
        /// Of [`SIZE`](crate::probe::SIZE).
        bytes: Vec<u8>,
    },
    /// Disconnect after the frames sent so far.
    Close {
        /// From whom.
        node: NodeId,
        /// For the log.
        reason: &'static str,
    },
    /// Tell everybody on the link.
    Publish {
        /// A signed [`crate::record::Revocation`].
        news: Vec<u8>,
    },
    /// Answers each [`PeerEvent::News`]: until then they are not told on.
    Judged {
        /// Who brought them.
        node: NodeId,
        /// Which.
        id: NewsId,
        /// What is to become of them.
        verdict: Verdict,
    },
    /// Ask the hash table; one [`PeerEvent::Answer`] follows, and none without [`Config::dht`].
    Query {
        /// Comes back with the answer.
        id: u64,
        /// What.
        query: Query,
    },
    /// Addresses where nodes of the hash table may be, with or without `/p2p/PEER-ID`; at most 64 are remembered. Tried now
    /// and whenever hardly a node is known.
    Bootstrap {
        /// Multiaddresses as for [`Command::Dial`].
        addresses: Vec<String>,
    },
    /// What values of the hash table are judged by from now on. Before it has come: the system's clock, and nothing is
    /// revoked.
    Judge {
        /// The trusted time.
        time: TrustedTime,
        /// All that was revoked.
        revocations: Box<RevocationSet>,
    },
}

/// What the swarm tells.
#[derive(Debug)]
pub enum Event {
    /// Other nodes can reach this one here (multiaddress).
    Listening {
        /// The multiaddress, without peer id.
        address: String,
    },
    /// A listener could not be opened or has broken.
    ListenFailed {
        /// Its multiaddress.
        address: String,
        /// What the system said.
        error: String,
    },
    /// A dial came to nothing: nobody there, or somebody else. Not told when the events' queue is full.
    DialFailed {
        /// Who was dialled.
        node: NodeId,
        /// What happened at each address.
        error: String,
    },
    /// For the core.
    Peer(PeerEvent),
    /// What this node holds of the hash table has changed: the disk may follow, nothing waits for it.
    Held {
        /// In which table.
        table: dht::Table,
        /// Where.
        key: dht::Key,
        /// The value and when it ends (Unix milliseconds); `None`: it is gone.
        value: Option<(Vec<u8>, u64)>,
    },
    /// Nodes of the hash table, 16 at most, to come back by after a restart; told soon after somebody has entered,
    /// and after each look around.
    DhtMembers {
        /// In which table.
        table: dht::Table,
        /// Nodes with their multiaddresses.
        nodes: Vec<(NodeId, Vec<String>)>,
    },
}

/// Why the swarm did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The seed is not usable as a key.
    #[error("the node key is not usable: {0}")]
    Key(String),
    /// The Noise handshake could not be prepared with the node key.
    #[error("the node key can't be used for the Noise handshake: {0}")]
    Noise(#[from] noise::Error),
    /// The settings of gossipsub contradict each other, which no setting of ours can cause.
    #[error("gossipsub can't be set up ({0}): report this")]
    Gossip(String),
    /// The system does not tell about its network interfaces.
    #[error("the network interfaces can't be watched ({0}); allow netlink or switch mDNS off")]
    Interfaces(#[source] io::Error),
}

/// Why a command was not taken.
#[derive(Debug, Error)]
pub enum SendError {
    /// [`COMMANDS`] are waiting already: keep this one and try again after the next event.
    #[error("the swarm's command queue is full")]
    Full(Command),
    /// The swarm has been shut down.
    #[error("the swarm has stopped")]
    Stopped,
}

/// What another responder of this machine has heard on an interface.
#[derive(Debug)]
struct Hint {
    dnsaddrs: Vec<String>,
    interface: String,
}

/// Gives commands to a swarm.
#[derive(Debug, Clone)]
pub struct Commands {
    commands: mpsc::Sender<Command>,
    hints: mpsc::Sender<Hint>,
}

impl Commands {
    /// Queues a command; never waits.
    pub fn try_send(&self, command: Command) -> Result<(), SendError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(command) => SendError::Full(command),
            mpsc::error::TrySendError::Closed(_) => SendError::Stopped,
        })
    }

    /// Tells of addresses that a multicast DNS responder of this machine has heard by IPv6 in an answer for
    /// `_p2p._udp.local`, on the interface of this name: `/ip6/ADDRESS/tcp/PORT/p2p/PEER-ID` each; link-local ones get
    /// the interface as their zone. Anything else, other links' addresses and our own are ignored. An address counts for
    /// 20 minutes unless it is heard again, or for as long as its node is connected. Without effect when
    /// [`Config::mdns`] is off. Never waits: with [`HINTS`] waiting already, these are dropped.
    pub fn sighted(&self, mut dnsaddrs: Vec<String>, interface: String) {
        let (most, longest) = MAX_HINTED;
        dnsaddrs.retain(|address| address.len() <= longest);
        dnsaddrs.truncate(most);
        if self.hints.try_send(Hint { dnsaddrs, interface }).is_err() {
            tracing::debug!("a hint of neighbours was dropped: too many wait already");
        }
    }
}

/// A running swarm. Dropping it stops the swarm as [`Handle::shutdown`] does, without waiting.
#[derive(Debug)]
pub struct Handle {
    commands: Commands,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    views: Views,
}

/// What a program can look at while the swarm runs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Views {
    reach: Option<watch::Receiver<ReachReport>>,
    carried: Arc<carried::Meter>,
}

impl Views {
    /// How others reach this node from beyond the link, now and whenever that changes; `None` without [`Config::dht`].
    pub fn reach(&self) -> Option<watch::Receiver<ReachReport>> {
        self.reach.clone()
    }

    /// What went to other nodes, and came from them, since the start.
    pub fn carried(&self) -> Carried {
        self.carried.read()
    }
}

impl Handle {
    /// What can be looked at while it runs.
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// Queues a command; never waits.
    pub fn try_send(&self, command: Command) -> Result<(), SendError> {
        self.commands.try_send(command)
    }

    /// Tells of neighbours heard of elsewhere; see [`Commands::sighted`].
    pub fn sighted(&self, dnsaddrs: Vec<String>, interface: String) {
        self.commands.sighted(dnsaddrs, interface);
    }

    /// Another way to give commands, for another thread.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Closes all links after the frames sent so far, in at most three seconds.
    pub async fn shutdown(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the swarm's task failed");
        }
    }
}

/// The libp2p peer id of a node, as text; `None` when the bytes are no valid Ed25519 key.
pub fn peer_id(node: &NodeId) -> Option<String> {
    address::peer(node).map(|peer| peer.to_string())
}

/// Starts a swarm as one task of the current tokio runtime (plus one for each connection and interface).
///
/// # Errors
/// See [`StartError`]. A listener that fails is an [`Event::ListenFailed`], not an error.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start(config: Config) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let keypair = keypair(&config)?;
    let transport = transport::build(&keypair, config.quic)?;
    start_on(config, &keypair, transport)
}

/// [`start`] over another carrier of bytes than TCP, which takes the same addresses (`/ip4/…/tcp/…`): a network within this
/// process, say. There is no QUIC then.
///
/// # Errors
/// See [`StartError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start_over<C>(config: Config, carrier: C) -> Result<(Handle, mpsc::Receiver<Event>), StartError>
where
    C: Transport<Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    C::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let keypair = keypair(&config)?;
    let transport = transport::secure(&keypair, carrier)?;
    start_on(Config { quic: false, ..config }, &keypair, transport)
}

fn start_on(
    config: Config,
    keypair: &Keypair,
    transport: Boxed<(PeerId, StreamMuxerBox)>,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let local = keypair.public().to_peer_id();
    let meter = Arc::new(carried::Meter::default());
    let transport = carried::counted(transport, Arc::clone(&meter));
    let discovery = if config.mdns {
        Some(discovery::Behaviour::new(local).map_err(StartError::Interfaces)?)
    } else {
        None
    };
    let (transport, reach, reports) = match &config.dht {
        Some(dht) => {
            let (circuits, reach, reports) = reach::Behaviour::new(local, dht);
            (transport::with_circuits(transport, circuits, keypair)?, Some(reach), Some(reports))
        }
        None => (transport, None, None),
    };
    let dht = config.dht.map(|dht| kad::Behaviour::new(keypair.public(), dht, &meter));
    let gossip = gossip::Behaviour::new().map_err(StartError::Gossip)?;
    let behaviour = Behaviour::new(local, config.max_connections, discovery, dht, reach, gossip);
    let mut swarm = Swarm::new(transport, behaviour, local, swarm_config());
    let (events, receiver) = mpsc::channel(EVENTS);
    listen(&mut swarm, &config.listen, config.quic, &events);
    let datagrams = datagrams::Datagrams::open(&config.listen);
    let datagrams = datagrams.inspect_err(|error| tracing::warn!(%error, "no port for liveness probes")).ok();
    let (sender, commands) = mpsc::channel(COMMANDS);
    let (hints_sender, hints) = mpsc::channel(HINTS);
    let (stop, stopped) = oneshot::channel();
    let changes = interfaces::watch();
    let task = Task {
        swarm,
        commands,
        hints,
        events,
        changes,
        datagrams,
        stop: stopped,
        dials: BTreeMap::new(),
        own: Vec::new(),
    };
    let task = tokio::spawn(task.run());
    let commands = Commands { commands: sender, hints: hints_sender };
    let views = Views { reach: reports, carried: meter };
    Ok((Handle { commands, stop, task, views }, receiver))
}

fn swarm_config() -> swarm::Config {
    swarm::Config::with_tokio_executor()
        // Frames pass here on their way to the core: few in flight, so that a lagging core bounds memory.
        .with_per_connection_event_buffer_size(1)
        .with_max_negotiating_inbound_streams(16)
        // A connection of the hash table is asked more than once, but kept no longer than that.
        .with_idle_connection_timeout(IDLE)
}

fn keypair(config: &Config) -> Result<Keypair, StartError> {
    // libp2p wipes the bytes it takes; ours are wiped when dropped.
    let mut seed = config.node_seed.clone();
    Keypair::ed25519_from_bytes(&mut *seed).map_err(|error| StartError::Key(error.to_string()))
}

fn listen(swarm: &mut Swarm<Behaviour>, sockets: &[SocketAddr], quic: bool, events: &mpsc::Sender<Event>) {
    for address in sockets.iter().flat_map(|socket| listen_addresses(*socket, quic)) {
        if let Err(error) = swarm.listen_on(address.clone()) {
            let (address, error) = (address.to_string(), error.to_string());
            // The queue is new and empty; a list so long that it overflows is cut.
            let _ = events.try_send(Event::ListenFailed { address, error });
        }
    }
}

#[cfg(feature = "quic")]
fn listen_addresses(socket: SocketAddr, quic: bool) -> Vec<Multiaddr> {
    let mut addresses = vec![address::tcp(socket)];
    addresses.extend(quic.then(|| address::quic(socket)));
    addresses
}

#[cfg(not(feature = "quic"))]
fn listen_addresses(socket: SocketAddr, _: bool) -> Vec<Multiaddr> {
    vec![address::tcp(socket)]
}

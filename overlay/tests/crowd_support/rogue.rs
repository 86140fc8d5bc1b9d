//! Nodes that speak Kademlia, on bare libp2p, and mean no good.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crosstalk_overlay::dht::{Distance, Key, Position};
use crosstalk_overlay::id::NodeId;
use futures::StreamExt as _;
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::{RecordStore, Result};
use libp2p::kad::{self, ProviderRecord, Record, RecordKey};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, noise, swarm, yamux};
use tokio::runtime;
use tokio::task::AbortHandle;

use super::air::Air;
use super::member::way_to;

/// Acknowledges everything and keeps nothing; answers every question with the same value, or with none.
#[derive(Default)]
pub struct Lies {
    pub value: Option<Vec<u8>>,
    pub puts: Arc<AtomicUsize>,
}

impl RecordStore for Lies {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.value.as_ref().map(|value| Cow::Owned(Record::new(key.clone(), value.clone())))
    }

    fn put(&mut self, _: Record) -> Result<()> {
        self.puts.fetch_add(1, Relaxed);
        Ok(())
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> Result<()> {
        Ok(())
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

#[derive(NetworkBehaviour)]
struct Bare {
    identify: identify::Behaviour,
    kad: kad::Behaviour<Lies>,
}

/// Who it pretends to be, and what it says.
pub struct Rogue {
    pub seed: [u8; 32],
    pub at: SocketAddr,
    pub lies: Lies,
    /// Nodes that it names when it is asked.
    pub names: Vec<(PeerId, Multiaddr)>,
    /// Honest nodes that it makes itself known to.
    pub victims: Vec<u32>,
}

pub fn keypair(seed: [u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(seed).unwrap()
}

pub fn node_id(keypair: &Keypair) -> NodeId {
    NodeId::from_bytes(keypair.public().try_into_ed25519().unwrap().to_bytes())
}

/// Key pairs that lie closer to a key than that.
pub fn ground(key: &Key, closer_than: Distance, count: usize) -> Vec<[u8; 32]> {
    let at = key.position();
    let seeds = (0_u64..).map(|serial| {
        let mut seed = [0x6e; 32];
        seed[..8].copy_from_slice(&serial.to_be_bytes());
        seed
    });
    let close = |seed: &[u8; 32]| at.distance(&Position::of_node(&node_id(&keypair(*seed)))) < closer_than;
    seeds.filter(close).take(count).collect()
}

impl Rogue {
    /// Runs until it is aborted.
    pub fn start(self, on: &runtime::Handle, air: &Arc<Air>) -> AbortHandle {
        let (carrier, _) = air.carrier(self.at.ip());
        on.spawn(async move {
            let key = keypair(self.seed);
            let peer = key.public().to_peer_id();
            let mut config = kad::Config::new(StreamProtocol::new("/crosstalk/kad/1"));
            config.set_max_packet_size(1 << 20).set_kbucket_inserts(kad::BucketInserts::Manual);
            let mut kad = kad::Behaviour::with_config(peer, self.lies, config);
            kad.set_mode(Some(kad::Mode::Server));
            for (peer, address) in self.names {
                kad.add_address(&peer, address);
            }
            let identify = identify::Config::new("crosstalk/1".into(), key.public());
            let behaviour = Bare { identify: identify::Behaviour::new(identify), kad };
            let transport = carrier
                .upgrade(Version::V1Lazy)
                .authenticate(noise::Config::new(&key).unwrap())
                .multiplex(yamux::Config::default())
                .boxed();
            let config =
                swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(5));
            let mut swarm = Swarm::new(transport, behaviour, peer, config);
            swarm
                .listen_on(
                    Multiaddr::from(self.at.ip()).with(libp2p::multiaddr::Protocol::Tcp(self.at.port())),
                )
                .unwrap();
            while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
            for victim in self.victims {
                let way: Multiaddr = way_to(victim).parse().unwrap();
                drop(swarm.dial(way));
            }
            loop {
                swarm.select_next_some().await;
            }
        })
        .abort_handle()
    }
}

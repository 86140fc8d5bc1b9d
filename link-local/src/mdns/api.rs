//! What goes into the engine and what comes out of it (*pure*).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::instance::Instance;
use crate::txt::Advert;

/// One network interface that is up, may multicast and is no loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The system's index: the scope id of its IPv6 link-local addresses.
    pub index: u32,
    /// The system's name, for dnsaddrs and logs.
    pub name: String,
    /// IPv4 addresses with their prefix lengths.
    pub v4: Vec<(Ipv4Addr, u8)>,
    /// IPv6 addresses with their prefix lengths; tentative ones left out.
    pub v6: Vec<(Ipv6Addr, u8)>,
}

/// What the engine is started with.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the machine, one label. The engine announces `<host>-ct.local`: see [`super`].
    pub host: String,
    /// Seeds every random choice.
    pub seed: [u8; 32],
    /// Whether to look for others.
    pub browse: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({:?}, browse: {})", self.host, self.browse)
    }
}

/// One announced user. Chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u64);

/// What one user announces.
#[derive(Clone, PartialEq, Eq)]
pub struct Presence {
    /// The instance name to try first; in a conflict it is followed by [`Instance::next`].
    pub wanted: Instance,
    /// TCP port of the stream listener, for the SRV record.
    pub port: u16,
    /// The TXT record.
    pub advert: Advert,
    /// The picture whose SHA-1 is the advert's `phsh`, at most [`super::MAX_PICTURE`] bytes; a larger one is not served.
    pub picture: Option<Vec<u8>>,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let picture = self.picture.as_ref().map(Vec::len);
        write!(f, "Presence({:?}, port {}, picture {picture:?} bytes)", self.wanted, self.port)
    }
}

/// The libp2p node of this machine, announced as `_p2p._udp` over IPv6 only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2pService {
    /// The peer id in base58.
    pub peer_id: String,
    /// TCP port that it listens on, at every address.
    pub tcp_port: u16,
}

/// What the shell has to do or to know. Drained after every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send(Transmit),
    /// Tell the node.
    Event(Event),
}

/// A datagram to be sent from port 5353.
#[derive(Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Index of the interface.
    pub interface: u32,
    /// Where to.
    pub to: Destination,
    /// The payload, at most 1,440 bytes unless one record alone is larger, never above 9,000.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transmit({} bytes to {:?} on {})", self.bytes.len(), self.to, self.interface)
    }
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// 224.0.0.251:5353.
    MulticastV4,
    /// [ff02::fb]:5353.
    MulticastV6,
    /// One host; link-local IPv6 addresses have the scope id.
    Unicast(SocketAddr),
}

/// What happened on the link.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The name is ours: probing is done. Told again after each rename.
    Named {
        /// Whose name.
        id: ServiceId,
        /// The name that is announced.
        instance: Instance,
    },
    /// Somebody is new, or shows something new.
    Seen(Box<Peer>),
    /// Said goodbye, or does not answer any more.
    Gone(Instance),
    /// A picture that was asked for; its SHA-1 is the `phsh` of the advert.
    Picture {
        /// Whose picture.
        instance: Instance,
        /// PNG or JPEG as it came: unchecked.
        bytes: Vec<u8>,
    },
    /// Hints of other libp2p nodes, as they came. At most 16 of 256 bytes at once.
    P2p {
        /// Multiaddresses without zone.
        dnsaddrs: Vec<String>,
        /// Name of the interface: the zone of link-local addresses.
        interface: String,
        /// Who said so.
        from: IpAddr,
    },
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { id, instance } => write!(f, "Named({id:?}, {instance:?})"),
            Self::Seen(peer) => write!(f, "Seen({peer:?})"),
            Self::Gone(instance) => write!(f, "Gone({instance:?})"),
            Self::Picture { instance, bytes } => write!(f, "Picture({instance:?}, {} bytes)", bytes.len()),
            Self::P2p { dnsaddrs, interface, from } => {
                write!(f, "P2p({} addresses on {interface} from {from})", dnsaddrs.len())
            }
        }
    }
}

/// Somebody else on the link. Nothing of it is authenticated.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// The instance name.
    pub instance: Instance,
    /// The TXT record.
    pub advert: Advert,
    /// Where its streams are accepted, at most [`super::MAX_ADDRESSES`], on-link only; IPv6 link-local ones first, with
    /// the scope id.
    pub addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({:?}, {:?}, {:?})", self.instance, self.advert.status, self.addresses)
    }
}

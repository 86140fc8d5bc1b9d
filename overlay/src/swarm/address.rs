//! Translation between our vocabulary (node ids, socket addresses, strings) and libp2p's (peer ids, multiaddresses),
//! and which addresses are worth dialling.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use libp2p::identity::{PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::id::NodeId;

/// The node behind a peer id; `None` when its key is not Ed25519.
pub(super) fn node(peer: &PeerId) -> Option<NodeId> {
    // An Ed25519 peer id holds the key itself (identity multihash, code 0).
    let hash = peer.as_ref();
    let key = (hash.code() == 0).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok())??;
    Some(NodeId::from_bytes(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The peer id of a node; `None` when the bytes are no valid Ed25519 key.
pub(super) fn peer(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The TCP multiaddress of a socket address.
pub(super) fn tcp(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()))
}

/// The QUIC multiaddress of a socket address.
#[cfg(feature = "quic")]
pub(super) fn quic(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

/// The IP address at the front of a multiaddress, or behind its zone.
#[expect(clippy::wildcard_enum_match_arm, reason = "some thirty protocols that we don't use")]
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    let mut parts = address.iter().skip_while(|part| matches!(part, Protocol::Ip6zone(_)));
    match parts.next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// The zone (RFC 4007 §6: here the name of an interface of this machine) that a multiaddress starts with.
pub(super) fn zone(address: &Multiaddr) -> Option<String> {
    let Protocol::Ip6zone(zone) = address.iter().next()? else { return None };
    Some(zone.into_owned())
}

/// The address without a peer id at its end.
pub(super) fn without_id(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// The address without the peer id of whoever is there; that of a relay on the way stays.
pub(super) fn without_own_id(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/ip…/tcp/…`
    Tcp,
    /// `/ip…/udp/…/quic-v1`
    Quic,
}

/// Reads an address to dial: exactly IP and port over TCP or QUIC, with or without the peer id `peer` behind it.
/// IPv6 link-local ones need a zone in front, others have none, and QUIC can't carry any. `None` for anything else and
/// for addresses that can't be a node's.
pub(super) fn dialable(address: &Multiaddr, peer: &PeerId) -> Option<(Kind, Multiaddr)> {
    let host = host(address)?;
    let mut parts = address.iter().skip(host.iter().count());
    let (kind, plain) = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), end) if port != 0 => (Kind::Tcp, (host.with(Protocol::Tcp(port)), end)),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) if port != 0 && zone(&host).is_none() => {
            let plain = host.with(Protocol::Udp(port)).with(Protocol::QuicV1);
            (Kind::Quic, (plain, parts.next()))
        }
        _ => return None,
    };
    let (plain, end) = plain;
    let ends_well = end.is_none_or(|end| end == Protocol::P2p(*peer)) && parts.next().is_none();
    ends_well.then_some((kind, plain))
}

/// Whether an address leads through a relay (circuit relay v2).
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Reads where a relay is: `/ip…/tcp/…/p2p/RELAY`, or over QUIC. None with a zone: it means nothing elsewhere.
pub(super) fn relay(address: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let Protocol::P2p(relay) = address.iter().last()? else { return None };
    let (_, plain) = dialable(address, &relay)?;
    zone(&plain).is_none().then_some((relay, plain))
}

/// Reads where `peer` can be reached through a relay: a relay's address and `/p2p-circuit`, with or without the peer id behind it.
pub(super) fn relayed(address: &Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
    let circuit = |part: &Protocol<'_>| *part == Protocol::P2pCircuit;
    let to_relay: Multiaddr = address.iter().take_while(|part| !circuit(part)).collect();
    let mut behind = address.iter().skip_while(|part| !circuit(part)).skip(1);
    let ends_well = behind.next().is_none_or(|part| part == Protocol::P2p(*peer)) && behind.next().is_none();
    let (hop, plain) = relay(&to_relay).filter(|(hop, _)| hop != peer && ends_well && is_relayed(address))?;
    Some(through(&plain, hop).with(Protocol::P2p(*peer)))
}

/// The address of whoever is behind the relay `hop` at `plain`.
pub(super) fn through(plain: &Multiaddr, hop: PeerId) -> Multiaddr {
    plain.clone().with(Protocol::P2p(hop)).with(Protocol::P2pCircuit)
}

/// The part of an address that names a host: an IP address, with its zone if it needs one.
fn host(address: &Multiaddr) -> Option<Multiaddr> {
    let ip = ip(address).filter(|ip| is_host(*ip))?;
    match zone(address) {
        None => (!is_link_local6(ip)).then(|| Multiaddr::from(ip)),
        Some(zone) => (is_link_local6(ip) && is_interface(&zone)).then(|| zoned(&zone, &ip.into())),
    }
}

/// Could be the name of an interface: what Linux allows.
fn is_interface(name: &str) -> bool {
    let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    (1..=15).contains(&name.len()) && !name.contains(odd)
}

/// `address` behind the zone `zone`.
pub(super) fn zoned(zone: &str, address: &Multiaddr) -> Multiaddr {
    let zone = Protocol::Ip6zone(Cow::Owned(zone.to_owned()));
    std::iter::once(zone).chain(address.iter()).collect()
}

/// Reads what a neighbour has told of itself by multicast over IPv6, `/ip6/…/tcp/…/p2p/…`, and was heard on
/// `interface`. A zone of the neighbour's own would mean nothing here and is refused.
pub(super) fn hinted(told: &str, interface: &str) -> Option<(PeerId, Multiaddr)> {
    let told: Multiaddr = told.parse().ok()?;
    let Protocol::P2p(peer) = told.iter().last()? else { return None };
    let ip = ip(&told).filter(IpAddr::is_ipv6)?;
    if zone(&told).is_some() {
        return None;
    }
    let told = if is_link_local6(ip) { zoned(interface, &told) } else { told };
    let is_tcp = matches!(dialable(&told, &peer)?, (Kind::Tcp, _));
    neighbourly(&told, &peer).filter(|_| is_tcp).map(|plain| (peer, plain))
}

/// An address that a neighbour may have told: dialable, and not on this machine alone.
pub(super) fn neighbourly(address: &Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
    let (_, plain) = dialable(address, peer)?;
    ip(&plain).filter(|ip| !ip.is_loopback()).map(|_| plain)
}

/// An address of ours that others may dial from beyond the link.
pub(super) fn is_beyond(address: &Multiaddr) -> bool {
    let link_local4 = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    ip(address).is_some_and(|ip| is_host(ip) && !ip.is_loopback() && !link_local4(ip) && !is_link_local6(ip))
}

fn is_host(ip: IpAddr) -> bool {
    let usable = match ip {
        IpAddr::V4(ip) => !ip.is_broadcast(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_none(),
    };
    usable && !ip.is_unspecified() && !ip.is_multicast()
}

/// `fe80::/10`: the same on every link.
pub(super) fn is_link_local6(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// A network that an interface of this machine is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Network {
    /// The machine's address in it.
    pub(super) ip: IpAddr,
    /// The length of its prefix, bits.
    pub(super) prefix: u8,
    /// The name of the interface.
    pub(super) interface: String,
}

impl Network {
    /// Whether this address, to be dialled or of a connection, is reached by way of this network.
    pub(super) fn holds(&self, address: &Multiaddr) -> bool {
        zone(address).is_none_or(|zone| zone == self.interface)
            && ip(address).is_some_and(|ip| in_network(ip, (self.ip, self.prefix)))
    }
}

/// True when `ip` lies in the network `base`/`prefix`.
pub(super) fn in_network(ip: IpAddr, (base, prefix): (IpAddr, u8)) -> bool {
    let same = |differ: u128, width: u8| differ >> (width - prefix.min(width)).min(127) == 0 || prefix == 0;
    match (ip, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits() ^ b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    fn a_peer() -> PeerId {
        Keypair::ed25519_from_bytes([3; 32]).unwrap().public().to_peer_id()
    }

    fn dial(text: &str) -> Option<String> {
        dialable(&text.parse().unwrap(), &a_peer()).map(|(_, plain)| plain.to_string())
    }

    #[test]
    fn ids_translate_both_ways() {
        let node_id = node(&a_peer()).unwrap();
        assert_eq!(peer(&node_id), Some(a_peer()));
        assert_eq!(peer(&NodeId::from_bytes([2; 32])), None, "no point of the curve has y = 2…");
    }

    #[test]
    fn dials_ip_and_port_only() {
        let with_id = format!("/ip4/10.0.0.1/tcp/14774/p2p/{}", a_peer());
        assert_eq!(dial(&with_id).as_deref(), Some("/ip4/10.0.0.1/tcp/14774"));
        assert_eq!(dial("/ip4/127.0.0.1/tcp/1").as_deref(), Some("/ip4/127.0.0.1/tcp/1"));
        let quic = "/ip6/fd00::1/udp/14774/quic-v1";
        assert_eq!(dial(quic).as_deref(), Some(quic));
        for bad in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/224.0.0.251/tcp/1",
            "/ip4/255.255.255.255/tcp/1",
            "/ip4/10.0.0.1/tcp/0",
            "/ip4/10.0.0.1/udp/1",
            "/ip4/10.0.0.1/tcp/1/ws",
            "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf",
            "/ip6/fe80::1/tcp/1",
            "/ip6zone/eth0/ip6/fd00::1/tcp/1",
            "/ip6zone/eth0/ip4/10.0.0.1/tcp/1",
            "/ip6zone/eth0/ip6zone/eth1/ip6/fe80::1/tcp/1",
            "/ip6zone/averylonginterface/ip6/fe80::1/tcp/1",
            "/ip6zone/two words/ip6/fe80::1/tcp/1",
            "/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1",
            "/ip6zone/eth0/ip6/fe80::1/tcp/0",
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/dns4/example.org/tcp/1",
        ] {
            assert_eq!(dial(bad), None, "{bad}");
        }
    }

    #[test]
    fn link_local_addresses_are_dialled_with_their_zone() {
        let zoned = "/ip6zone/eth0/ip6/fe80::1/tcp/14774";
        assert_eq!(dial(zoned).as_deref(), Some(zoned));
        assert_eq!(dial(&format!("{zoned}/p2p/{}", a_peer())).as_deref(), Some(zoned));
    }

    #[test]
    fn who_is_behind_a_relay_is_dialled_through_it_alone() {
        let relay = Keypair::ed25519_from_bytes([4; 32]).unwrap().public().to_peer_id();
        let read =
            |text: String| relayed(&text.parse().unwrap(), &a_peer()).map(|address| address.to_string());
        let way = format!("/ip4/192.0.2.1/tcp/14774/p2p/{relay}/p2p-circuit");
        let full = format!("{way}/p2p/{}", a_peer());
        assert_eq!(read(way.clone()), Some(full.clone()));
        assert_eq!(read(full.clone()), Some(full));
        assert!(read(format!("/ip6/2001:db8::1/udp/9/quic-v1/p2p/{relay}/p2p-circuit")).is_some());
        for bad in [
            format!("/ip4/192.0.2.1/tcp/14774/p2p/{relay}"),
            "/ip4/192.0.2.1/tcp/14774/p2p-circuit".to_owned(),
            format!("/p2p/{relay}/p2p-circuit"),
            format!("{way}/p2p/{relay}"),
            format!("{way}/p2p-circuit"),
            format!("{way}/tcp/9"),
            format!("/ip4/192.0.2.1/tcp/14774/p2p/{}/p2p-circuit", a_peer()),
            format!("/ip6zone/eth0/ip6/fe80::1/tcp/9/p2p/{relay}/p2p-circuit"),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        assert_eq!(dial(&way), None, "no direct address");
    }

    #[test]
    fn a_hint_gets_the_zone_where_it_was_heard() {
        let id = a_peer();
        let hint = |told: &str| {
            let told = format!("{told}/p2p/{id}");
            let (peer, address) = hinted(&told, "wlan0")?;
            assert_eq!(peer, id);
            Some(address.to_string())
        };
        assert_eq!(hint("/ip6/fe80::7/tcp/9").as_deref(), Some("/ip6zone/wlan0/ip6/fe80::7/tcp/9"));
        assert_eq!(hint("/ip6/fd00::7/tcp/9").as_deref(), Some("/ip6/fd00::7/tcp/9"));
        for bad in [
            "/ip6zone/eth0/ip6/fe80::7/tcp/9",
            "/ip6/::1/tcp/9",
            "/ip4/10.0.0.1/tcp/9",
            "/ip6/fd00::7/udp/9/quic-v1",
            "/ip6/ff02::fb/tcp/9",
            "/ip6/fe80::7/tcp/9/ws",
        ] {
            assert_eq!(hint(bad), None, "{bad}");
        }
        assert_eq!(hinted("/ip6/fd00::7/tcp/9", "wlan0"), None, "of nobody");
        assert_eq!(hinted(&format!("/ip6/fe80::7/tcp/9/p2p/{id}"), "a/b"), None, "no interface");
    }

    #[test]
    fn a_network_ends_at_its_interface() {
        let network = Network { ip: "fe80::1".parse().unwrap(), prefix: 64, interface: "eth0".into() };
        let holds = |text: &str| network.holds(&text.parse().unwrap());
        assert!(holds("/ip6zone/eth0/ip6/fe80::7/tcp/9"));
        assert!(!holds("/ip6zone/eth1/ip6/fe80::7/tcp/9"));
        assert!(!holds("/ip6/fd00::7/tcp/9"));
    }

    #[test]
    fn neighbours_on_loopback_are_not_believed() {
        let address = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert_eq!(neighbourly(&address, &a_peer()), None);
    }

    #[test]
    fn networks_hold_their_addresses() {
        let net = |text: &str, prefix| (text.parse().unwrap(), prefix);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(in_network(ip("10.1.2.3"), net("10.1.2.99", 24)));
        assert!(!in_network(ip("10.1.3.3"), net("10.1.2.99", 24)));
        assert!(in_network(ip("10.1.2.99"), net("10.1.2.99", 32)));
        assert!(!in_network(ip("10.1.2.98"), net("10.1.2.99", 32)));
        assert!(in_network(ip("192.0.2.1"), net("10.0.0.0", 0)));
        assert!(in_network(ip("fd00::7"), net("fd00::1", 64)));
        assert!(!in_network(ip("fd01::7"), net("fd00::1", 64)));
        assert!(in_network(ip("fd01::7"), net("fd00::1", 0)));
        assert!(!in_network(ip("10.0.0.1"), net("fd00::1", 0)));
    }
}

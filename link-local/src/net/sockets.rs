//! The UDP sockets of multicast DNS: which there should be, opening them, and opening them again when they fail.
//!
//! Per interface and family one socket is bound to the group's address, so that a datagram's interface and that it was
//! sent by multicast are known without ancillary data. All share port 5353 with the machine's other responders.
//!
//! Unicast to port 5353 goes to one socket of the machine only, so two more kinds are needed:
//! - questions sent by unicast leave from a port of their own, to which the answers come back (RFC 6762 §6.7);
//! - unicast questions of others are answered by sockets bound to the very addresses, but only where no other responder
//!   runs: they would take away its questions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdSocket};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::interfaces::Links;
use crate::mdns::{Destination, Interface, Transmit};

/// The port of multicast DNS (RFC 6762 §3).
const PORT: u16 = 5353;
/// The groups (RFC 6762 §3).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Largest packet, bytes (RFC 6762 §17); larger ones are dropped.
const LARGEST: usize = 9_000;
/// First and longest pause before a socket that failed is opened again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// The group, left from this address.
    Group(IpAddr),
    /// Unicast questions to this address of ours.
    Direct(IpAddr),
    /// Own unicast questions over IPv4 or IPv6.
    Asking { v6: bool },
}

/// What a socket is for, and on which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) interface: u32,
    role: Role,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Heard {
    Datagram {
        place: Place,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A socket cannot be read any more.
    Failed {
        place: Place,
        error: io::Error,
    },
}

impl Place {
    /// Whether what came in here was sent to the group.
    pub(super) fn is_multicast(&self) -> bool {
        matches!(self.role, Role::Group(_))
    }

    fn is_v6(&self) -> bool {
        match self.role {
            Role::Group(ip) | Role::Direct(ip) => ip.is_ipv6(),
            Role::Asking { v6 } => v6,
        }
    }
}

/// Over which families the machine's unicast questions are ours to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone {
    v4: bool,
    v6: bool,
}

impl Alone {
    /// Looks whether another program of this machine has the port; ask before opening anything.
    pub(super) fn find_out() -> Self {
        let free = |domain, any: SocketAddr| -> bool {
            let bind = || {
                let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
                if domain == Domain::IPV6 {
                    socket.set_only_v6(true)?;
                }
                socket.bind(&any.into())
            };
            bind().is_ok()
        };
        Self {
            v4: free(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, PORT).into()),
            v6: free(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, PORT).into()),
        }
    }
}

enum Slot {
    Open { socket: Arc<UdpSocket>, reader: AbortHandle },
    Broken { again: Instant, pause: Duration },
}

/// All sockets.
pub(super) struct Sockets {
    slots: BTreeMap<Place, Slot>,
    alone: Alone,
    heard: mpsc::Sender<Heard>,
    /// The last trouble that was told, so that it is told once.
    complained: Option<io::ErrorKind>,
}

impl Sockets {
    /// None yet; what comes in goes to `heard`. While that is full the kernel drops what it has no room for.
    pub(super) fn new(alone: Alone, heard: mpsc::Sender<Heard>) -> Self {
        Self { slots: BTreeMap::new(), alone, heard, complained: None }
    }

    /// Opens and closes what the interfaces ask for. What had failed is tried at once.
    pub(super) fn follow(&mut self, links: &Links) {
        let wanted: BTreeSet<Place> =
            links.values().flat_map(|link| places(&link.interface, self.alone)).collect();
        self.slots.retain(|place, slot| {
            let keep = wanted.contains(place) && matches!(slot, Slot::Open { .. });
            if !keep && let Slot::Open { reader, .. } = slot {
                reader.abort();
            }
            keep
        });
        for place in wanted {
            if !self.slots.contains_key(&place) {
                self.open(place, PAUSE.0);
            }
        }
    }

    /// When the next failed socket is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let again = |slot: &Slot| match slot {
            Slot::Broken { again, .. } => Some(*again),
            Slot::Open { .. } => None,
        };
        self.slots.values().filter_map(again).min()
    }

    /// Opens again what is due.
    pub(super) fn retry(&mut self, now: Instant) {
        let due = |(place, slot): (&Place, &Slot)| match slot {
            Slot::Broken { again, pause } if *again <= now => Some((*place, *pause)),
            Slot::Broken { .. } | Slot::Open { .. } => None,
        };
        let due: Vec<(Place, Duration)> = self.slots.iter().filter_map(due).collect();
        for (place, pause) in due {
            self.open(place, (pause * 2).min(PAUSE.1));
        }
    }

    /// Closes a socket that failed, for now.
    pub(super) fn failed(&mut self, place: Place, error: &io::Error) {
        if let Some(Slot::Open { reader, .. }) = self.slots.get(&place) {
            reader.abort();
            self.broken(place, PAUSE.0, error);
        }
    }

    fn broken(&mut self, place: Place, pause: Duration, error: &io::Error) {
        if self.complained != Some(error.kind()) {
            self.complained = Some(error.kind());
            tracing::warn!(
                "multicast DNS cannot use {place:?} ({error}): tried again; `crosstalk doctor` says more"
            );
        }
        self.slots.insert(place, Slot::Broken { again: Instant::now() + pause, pause });
    }

    fn open(&mut self, place: Place, pause: Duration) {
        match open(place).and_then(UdpSocket::from_std) {
            Ok(socket) => {
                let socket = Arc::new(socket);
                let reader = tokio::spawn(read(place, Arc::clone(&socket), self.heard.clone()));
                self.slots.insert(place, Slot::Open { socket, reader: reader.abort_handle() });
            }
            Err(error) => self.broken(place, pause, &error),
        }
    }

    /// Sends a packet, or drops it: all of multicast DNS is said again if need be. True if it left.
    pub(super) fn send(&mut self, transmit: &Transmit) -> bool {
        let (to, v6) = match transmit.to {
            Destination::MulticastV4 => (SocketAddr::from((GROUP_V4, PORT)), false),
            Destination::MulticastV6 => {
                (SocketAddrV6::new(GROUP_V6, PORT, 0, transmit.interface).into(), true)
            }
            Destination::Unicast(to) => (to, to.is_ipv6()),
        };
        let group = !matches!(transmit.to, Destination::Unicast(_));
        // The bit QR of the header: an answer has to come from port 5353 (RFC 6762 §6).
        let question = transmit.bytes.get(2).is_some_and(|flags| flags & 0x80 == 0);
        let rank = |place: &Place| match place.role {
            Role::Group(_) => Some(u8::from(!group)),
            Role::Direct(ip) if !group && !question => Some(u8::from(!same_scope(ip, to.ip())) * 2),
            Role::Asking { .. } if !group && question => Some(0),
            Role::Direct(_) | Role::Asking { .. } => None,
        };
        let usable = |(place, slot): (&Place, &Slot)| {
            let fits = place.interface == transmit.interface && place.is_v6() == v6;
            match slot {
                Slot::Open { socket, .. } if fits => Some((rank(place)?, *place, Arc::clone(socket))),
                Slot::Open { .. } | Slot::Broken { .. } => None,
            }
        };
        let best = self.slots.iter().filter_map(usable).min_by_key(|(rank, place, _)| (*rank, *place));
        let Some((_, place, socket)) = best else { return false };
        let sent = socket.try_send_to(&transmit.bytes, to);
        match sent {
            Ok(_) => true,
            Err(error) => {
                tracing::trace!(%error, ?place, "not sent");
                if !is_passing(&error) {
                    self.failed(place, &error);
                }
                false
            }
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for slot in self.slots.values() {
            if let Slot::Open { reader, .. } = slot {
                reader.abort();
            }
        }
    }
}

fn same_scope(a: IpAddr, b: IpAddr) -> bool {
    let local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    local(a) == local(b)
}

/// Whether the same socket may work a moment later: no route, no room, a firewall.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::WouldBlock
            | K::Interrupted
            | K::OutOfMemory
            | K::NetworkUnreachable
            | K::HostUnreachable
            | K::NetworkDown
            | K::PermissionDenied
            | K::ConnectionRefused
            | K::InvalidInput
    )
}

/// The sockets that an interface asks for.
fn places(interface: &Interface, alone: Alone) -> Vec<Place> {
    let v4 = interface.v4.iter().map(|(ip, _)| IpAddr::V4(*ip));
    // Everybody on an IPv6 link is asked from the address that everybody there has.
    let mut v6: Vec<Ipv6Addr> = interface.v6.iter().map(|(ip, _)| *ip).collect();
    v6.sort_by_key(|ip| !ip.is_unicast_link_local());
    let v6 = v6.into_iter().map(IpAddr::V6);
    let mut roles = Vec::new();
    for (addresses, alone) in [(v4.collect::<Vec<_>>(), alone.v4), (v6.collect(), alone.v6)] {
        let Some(first) = addresses.first() else { continue };
        roles.extend([Role::Group(*first), Role::Asking { v6: first.is_ipv6() }]);
        roles.extend(addresses.iter().filter(|_| alone).map(|ip| Role::Direct(*ip)));
    }
    roles.into_iter().map(|role| Place { interface: interface.index, role }).collect()
}

fn open(place: Place) -> io::Result<StdSocket> {
    let domain = if place.is_v6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let index = NonZeroU32::new(place.interface);
    let bound = match place.is_v6() {
        true => {
            socket.set_only_v6(true)?;
            socket.set_multicast_hops_v6(255)?;
            socket.set_unicast_hops_v6(255)?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_if_v6(place.interface)?;
            socket.bind_device_by_index_v6(index)
        }
        false => {
            socket.set_multicast_ttl_v4(255)?;
            socket.set_ttl_v4(255)?;
            socket.set_multicast_loop_v4(true)?;
            socket.bind_device_by_index_v4(index)
        }
    };
    // Linux before 5.7 allows it to root only; addresses and groups still lead to the right interface there, but for
    // questions where two interfaces have the same network.
    if let Err(error) = bound {
        tracing::debug!(%error, "a socket is not bound to its interface");
    }
    let address = match place.role {
        Role::Asking { v6: true } => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        Role::Asking { v6: false } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        Role::Direct(IpAddr::V4(ip)) => SocketAddr::from((ip, PORT)),
        Role::Direct(IpAddr::V6(ip)) => SocketAddrV6::new(ip, PORT, 0, place.interface).into(),
        Role::Group(IpAddr::V4(ip)) => {
            socket.set_multicast_if_v4(&ip)?;
            SocketAddr::from((GROUP_V4, PORT))
        }
        Role::Group(IpAddr::V6(_)) => SocketAddrV6::new(GROUP_V6, PORT, 0, place.interface).into(),
    };
    if !matches!(place.role, Role::Asking { .. }) {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    match place.role {
        Role::Group(IpAddr::V4(_)) => {
            socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(place.interface))?;
            // Else a socket hears what any program of the machine has joined, on any interface.
            socket.set_multicast_all_v4(false)?;
        }
        Role::Group(IpAddr::V6(_)) => {
            socket.join_multicast_v6(&GROUP_V6, place.interface)?;
            socket.set_multicast_all_v6(false)?;
        }
        Role::Direct(_) | Role::Asking { .. } => {}
    }
    Ok(socket.into())
}

/// Reads one socket until it fails or nobody listens.
async fn read(place: Place, socket: Arc<UdpSocket>, heard: mpsc::Sender<Heard>) {
    let mut buffer = vec![0; LARGEST + 1];
    loop {
        let said = match socket.recv_from(&mut buffer).await {
            Ok((length, _)) if length > LARGEST => continue,
            Ok((length, from)) => Heard::Datagram { place, from, bytes: buffer[..length].to_vec() },
            Err(error) if is_passing(&error) => continue,
            Err(error) => Heard::Failed { place, error },
        };
        let over = matches!(said, Heard::Failed { .. });
        if heard.send(said).await.is_err() || over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(alone: bool) -> Vec<Role> {
        let interface = Interface {
            index: 3,
            name: "eth0".into(),
            v4: vec![(Ipv4Addr::new(10, 0, 0, 1), 24)],
            v6: vec![("2001:db8::1".parse().unwrap(), 64), ("fe80::1".parse().unwrap(), 64)],
        };
        places(&interface, Alone { v4: alone, v6: alone }).into_iter().map(|place| place.role).collect()
    }

    #[test]
    fn beside_another_responder_no_unicast_question_is_taken() {
        let [v4, fe80, global] = ["10.0.0.1", "fe80::1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let shared =
            [Role::Group(v4), Role::Asking { v6: false }, Role::Group(fe80), Role::Asking { v6: true }];
        assert_eq!(roles(false), shared);
        let alone = roles(true);
        assert!([v4, fe80, global].iter().all(|ip| alone.contains(&Role::Direct(*ip))), "{alone:?}");
    }
}

//! TCP to and from IPv6 link-local addresses, which name a host only together with an interface (RFC 4007 §6).
//!
//! libp2p-tcp has no place for that: it drops the zone of a multiaddress that is dialled, and that of a peer who is
//! accepted. Around it, `/ip6zone/IFNAME/ip6/fe80::…/tcp/PORT` is dialled through the interface of that name, and
//! whoever comes from such an address is reported with it. All other addresses are left to libp2p-tcp.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::ready;
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::tcp::tokio::{TcpStream, Transport as Tcp};

use super::address;

/// libp2p-tcp, with zones; see the file's head.
pub(super) struct Zoned(Tcp);

impl Zoned {
    /// Adds zones to `tcp`.
    pub(super) fn new(tcp: Tcp) -> Self {
        Self(tcp)
    }
}

type Event = TransportEvent<<Zoned as Transport>::ListenerUpgrade, io::Error>;

impl Transport for Zoned {
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = <Tcp as Transport>::ListenerUpgrade;
    type Dial = <Tcp as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        match target(&address) {
            Some((zone, ip, port)) => Ok(connect(zone, ip, port).boxed()),
            None => self.0.dial(address, options),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        Pin::new(&mut self.0).poll(cx).map(with_zones)
    }
}

/// Zone, address and port of `/ip6zone/…/ip6/…/tcp/…`, with or without a peer id behind.
fn target(address: &Multiaddr) -> Option<(String, Ipv6Addr, u16)> {
    let zone = address::zone(address)?;
    let Some(IpAddr::V6(ip)) = address::ip(address) else { return None };
    let Protocol::Tcp(port) = address.iter().nth(2)? else { return None };
    Some((zone, ip, port))
}

async fn connect(zone: String, ip: Ipv6Addr, port: u16) -> io::Result<TcpStream> {
    let scope = scope(&zone).map_err(|error| {
        io::Error::new(error.kind(), format!("no interface is called {zone:?} (any more): {error}"))
    })?;
    let stream = tokio::net::TcpStream::connect(SocketAddrV6::new(ip, port, 0, scope)).await?;
    // As libp2p-tcp does it.
    stream.set_nodelay(true)?;
    Ok(TcpStream(stream))
}

/// Adds the zones to what is told of an accepted connection.
fn with_zones(event: Event) -> Event {
    let TransportEvent::Incoming { listener_id, upgrade, mut local_addr, mut send_back_addr } = event else {
        return event;
    };
    let stream = upgrade.into_inner();
    if let Ok(TcpStream(stream)) = &stream {
        add_zone(&mut local_addr, stream.local_addr());
        add_zone(&mut send_back_addr, stream.peer_addr());
    }
    TransportEvent::Incoming { listener_id, upgrade: ready(stream), local_addr, send_back_addr }
}

/// The number of an interface.
///
/// # Errors
/// What the system says, as when there is none of that name.
pub(super) fn scope(zone: &str) -> io::Result<u32> {
    names::index(zone)
}

fn add_zone(address: &mut Multiaddr, socket: io::Result<SocketAddr>) {
    let Ok(SocketAddr::V6(socket)) = socket else { return };
    if !socket.ip().is_unicast_link_local() {
        return;
    }
    // The name is gone only if the interface went just now; then so is the connection.
    if let Ok(zone) = names::name(socket.scope_id()) {
        *address = address::zoned(&zone, address);
    }
}

/// Names and numbers of interfaces.
#[cfg(target_os = "linux")]
mod names {
    use std::io;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

    /// Any socket will do: it stands for the network namespace.
    fn socket() -> io::Result<std::os::fd::OwnedFd> {
        let family = AddressFamily::UNIX;
        Ok(socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
    }

    pub(super) fn index(name: &str) -> io::Result<u32> {
        Ok(netdevice::name_to_index(socket()?, name)?)
    }

    pub(super) fn name(index: u32) -> io::Result<String> {
        Ok(netdevice::index_to_name(socket()?, index)?)
    }
}

/// Numbers alone, which RFC 4007 §11.2 allows as names of zones.
#[cfg(not(target_os = "linux"))]
mod names {
    use std::io;

    pub(super) fn index(name: &str) -> io::Result<u32> {
        name.parse().map_err(|_| io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) fn name(index: u32) -> io::Result<String> {
        Ok(index.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;
    use libp2p::tcp;

    fn transport() -> Zoned {
        Zoned::new(Tcp::new(tcp::Config::new()))
    }

    fn options() -> DialOpts {
        DialOpts { role: Endpoint::Dialer, port_use: PortUse::New }
    }

    #[test]
    fn only_zoned_tcp_is_taken_over() {
        let target = |text: &str| target(&text.parse().unwrap());
        let ip = "fe80::1".parse().unwrap();
        assert_eq!(target("/ip6zone/eth0/ip6/fe80::1/tcp/7"), Some(("eth0".into(), ip, 7)));
        let id = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf";
        assert!(target(&format!("/ip6zone/eth0/ip6/fe80::1/tcp/7/p2p/{id}")).is_some());
        for other in ["/ip6/fe80::1/tcp/7", "/ip6zone/eth0/ip6/fe80::1/udp/7/quic-v1", "/ip4/10.0.0.1/tcp/7"]
        {
            assert_eq!(target(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_named() {
        let address = "/ip6zone/nowhere0/ip6/fe80::1/tcp/7".parse().unwrap();
        let error = transport().dial(address, options()).unwrap().await.unwrap_err();
        assert!(error.to_string().contains("no interface is called \"nowhere0\""), "{error}");
    }

    #[tokio::test]
    async fn what_has_no_zone_is_libp2ps() {
        let mut transport = transport();
        transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
        let listening = next().await.into_new_address().unwrap();
        let mut dialler = self::transport();
        let dial = dialler.dial(listening, options()).unwrap();
        let (stream, event) = tokio::join!(dial, next());
        let (upgrade, from) = event.into_incoming().unwrap();
        let own = stream.unwrap().0.local_addr().unwrap();
        assert_eq!(from, address::tcp(own));
        upgrade.await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn interfaces_have_names_and_numbers() {
        let loopback = names::index("lo").unwrap();
        assert_eq!(names::name(loopback).unwrap(), "lo");
        assert!(names::index("nowhere0").is_err());
        assert!(names::name(999_999).is_err());
    }
}

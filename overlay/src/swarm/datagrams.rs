//! The one UDP socket of the core's liveness probes. It moves bytes, so many a second at most, and decides nothing.
//!
//! It is bound where the first listener is, for IPv6 and IPv4 if that is everywhere, on the next port: TCP (and QUIC) on 14774,
//! probes on 14775. If that is taken or the listener's port is any, so is this one. The Hello says which it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use libp2p::Multiaddr;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::{address, zone};
use crate::probe::SIZE;

/// Datagrams taken in a [`TURN`]; the kernel drops what does not fit into its buffer until the next begins.
const MOST: u32 = 64;
/// See [`MOST`]: 512 a second, which is all that 64 peers ask and answer.
const TURN: Duration = Duration::from_millis(125);
/// Bytes that the kernel holds for us.
const BUFFER: usize = 64 * 1_024;

/// See the file's head.
pub(super) struct Datagrams {
    socket: UdpSocket,
    dual: bool,
    port: u16,
    /// Of this turn.
    taken: u32,
    turn: Instant,
}

impl Datagrams {
    /// Opens the socket for who listens there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(listen: &[SocketAddr]) -> io::Result<Self> {
        let port = listen
            .first()
            .map_or(0, |first| if first.port() == 0 { 0 } else { first.port().saturating_add(1) });
        let everywhere = listen.iter().any(|address| address.ip().is_unspecified());
        let ip = listen.first().map(SocketAddr::ip).filter(|_| !everywhere);
        let ips = ip.map_or(vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()], |ip| vec![ip]);
        let places = ips.iter().flat_map(|ip| [SocketAddr::new(*ip, port), SocketAddr::new(*ip, 0)]);
        let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for place in places {
            match Self::bind(place) {
                Ok(open) => return Ok(open),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn bind(place: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(place), Type::DGRAM, Some(Protocol::UDP))?;
        let dual = place.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
        if dual {
            socket.set_only_v6(false)?;
        }
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_nonblocking(true)?;
        socket.bind(&place.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, dual, port, taken: 0, turn: Instant::now() })
    }

    /// Where it takes datagrams.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The next datagram that could be a probe. Cancel-safe.
    pub(super) async fn next(&mut self) -> Vec<u8> {
        loop {
            if self.turn.elapsed() >= TURN {
                (self.turn, self.taken) = (Instant::now(), 0);
            }
            if self.taken >= MOST {
                sleep_until(self.turn + TURN).await;
                continue;
            }
            let mut bytes = [0; SIZE + 1];
            let received = self.socket.recv_from(&mut bytes).await;
            self.taken += 1;
            match received {
                Ok((SIZE, _)) => return bytes[..SIZE].to_vec(),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a datagram could not be received"),
            }
        }
    }

    /// Sends a datagram to that port of the host that a connection's address names. If that can't be done now, it is lost.
    pub(super) fn send(&self, address: &str, port: u16, bytes: &[u8]) {
        let Some(to) = self.target(address, port) else {
            return tracing::debug!(address, "no place for a datagram");
        };
        if let Err(error) = self.socket.try_send_to(bytes, to) {
            tracing::debug!(%to, %error, "a datagram was not sent");
        }
    }

    fn target(&self, address: &str, port: u16) -> Option<SocketAddr> {
        let address: Multiaddr = address.parse().ok()?;
        let scope = match address::zone(&address) {
            Some(zone) => zone::scope(&zone).ok()?,
            None => 0,
        };
        match address::ip(&address)? {
            IpAddr::V4(ip) if self.dual => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), port)),
            IpAddr::V4(ip) => Some(SocketAddr::new(ip.into(), port)),
            IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, port, 0, scope).into()),
        }
    }
}

/// The next one, if there is a socket.
pub(super) async fn next(datagrams: &mut Option<Datagrams>) -> Vec<u8> {
    match datagrams {
        Some(datagrams) => datagrams.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_next_to_the_listener_or_anywhere() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (one, two) = (Datagrams::open(&[listener]).unwrap(), Datagrams::open(&[listener]).unwrap());
        assert_eq!(one.port(), listener.port() + 1);
        assert!(two.port() != one.port() && !two.dual);
        let everywhere = Datagrams::open(&["0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap()]).unwrap();
        assert!(everywhere.port() != 0);
    }

    #[tokio::test]
    async fn what_is_no_probe_and_what_is_too_much_is_not_taken() {
        let mut socket = Datagrams::open(&["0.0.0.0:0".parse().unwrap()]).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = ("127.0.0.1", socket.port());
        for size in [0, SIZE - 1, SIZE + 1, 1_000] {
            sender.send_to(&vec![1; size], to).unwrap();
        }
        sender.send_to(&[2; SIZE], to).unwrap();
        assert_eq!(socket.next().await, [2; SIZE]);
        let start = Instant::now();
        for _ in 0..3 * MOST {
            sender.send_to(&[3; SIZE], to).unwrap();
            assert_eq!(socket.next().await, [3; SIZE]);
        }
        assert!(start.elapsed() >= 2 * TURN, "more than allowed: {:?}", start.elapsed());
    }

    #[tokio::test]
    async fn hosts_are_named_by_the_addresses_of_connections() {
        let socket = Datagrams::open(&["[::]:0".parse().unwrap()]).unwrap();
        let target = |text| socket.target(text, 9).map(|to| to.to_string());
        assert_eq!(target("/ip6/fd00::7/tcp/14774").as_deref(), Some("[fd00::7]:9"));
        assert_eq!(target("/ip6zone/lo/ip6/fe80::7/tcp/14774").as_deref(), Some("[fe80::7%1]:9"));
        assert_eq!(target("/ip4/10.0.0.7/udp/14774/quic-v1").as_deref(), Some("[::ffff:10.0.0.7]:9"));
        assert_eq!(target("/ip6zone/nowhere0/ip6/fe80::7/tcp/14774"), None);
        assert_eq!((target("/memory/7"), target("")), (None, None));
    }
}

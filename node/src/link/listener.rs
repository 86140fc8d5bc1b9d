//! The port for link-local streams: the first free one from 5298 on, for both families, for neighbours only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crosstalk_link_local::mdns::Interface;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::streams::Streams;
use crate::c2s::transport::accepted;

/// How many ports are tried, counted from the one that is set.
pub const TRIED: u16 = 23;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// Listens on `first` or the next free port; `None` if there is none.
pub(super) fn bind(first: u16) -> Option<(TcpListener, u16)> {
    for port in (0..TRIED).map_while(|step| first.checked_add(step)) {
        match listen(port) {
            Ok(listener) => {
                let port = listener.local_addr().ok()?.port();
                return Some((listener, port));
            }
            Err(error) => tracing::debug!(port, %error, "not for link-local streams"),
        }
    }
    None
}

/// On all addresses of both families; of IPv4 alone where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let both = || {
        let socket = TcpSocket::new_v6()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        Ok::<_, io::Error>((socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    };
    let (socket, any) = match both() {
        Ok(both) => both,
        Err(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    socket.set_reuseaddr(true)?;
    match socket.bind(SocketAddr::new(any, port)) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
            socket.listen(BACKLOG)
        }
        bound => bound.and_then(|()| socket.listen(BACKLOG)),
    }
}

/// Accepts until it is aborted.
pub(super) async fn accept(
    listener: TcpListener,
    interfaces: watch::Receiver<Vec<Interface>>,
    streams: Streams,
) {
    loop {
        let (connection, address) = accepted(&listener, "a neighbour").await;
        let address = canonical(address);
        if is_near(address.ip(), &interfaces.borrow()) {
            streams.accepted(connection, address);
        } else {
            tracing::debug!(%address, "turned away: not on a link of this machine");
        }
    }
}

/// IPv4 as such, and not as IPv6; zones are kept.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether an address is on a link of this machine, or the machine itself.
fn is_near(ip: IpAddr, interfaces: &[Interface]) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let same = |(own, prefix): &(Ipv4Addr, u8)| {
                let host = u32::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
                u32::from(*own) | host == u32::from(ip) | host
            };
            ip.is_loopback() || ip.is_link_local() || interfaces.iter().flat_map(|i| &i.v4).any(same)
        }
        IpAddr::V6(ip) => {
            let same = |(own, prefix): &(Ipv6Addr, u8)| {
                let host = u128::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
                u128::from(*own) | host == u128::from(ip) | host
            };
            ip.is_loopback() || ip.is_unicast_link_local() || interfaces.iter().flat_map(|i| &i.v6).any(same)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_come_in() {
        let interface = Interface {
            index: 2,
            name: "eth0".into(),
            v4: vec![(Ipv4Addr::new(10, 77, 0, 1), 24)],
            v6: vec![("2001:db8:1::1".parse().unwrap(), 64), ("fe80::1".parse().unwrap(), 64)],
        };
        for near in ["10.77.0.200", "169.254.3.4", "127.0.0.1", "::1", "fe80::2", "2001:db8:1::99"] {
            assert!(is_near(near.parse().unwrap(), std::slice::from_ref(&interface)), "{near}");
        }
        for far in ["10.77.1.1", "8.8.8.8", "2001:db8:2::1"] {
            assert!(!is_near(far.parse().unwrap(), std::slice::from_ref(&interface)), "{far}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_leads_to_the_next() {
        let (first, port) = bind(21_298).expect("a port");
        let (_second, next) = bind(port).expect("another");
        assert!(next > port && next < port + TRIED);
        drop(first);
        let taken: Vec<_> = (0..TRIED).filter_map(|step| listen(port + step).ok()).collect();
        assert!(bind(port).is_none(), "{} taken", taken.len());
    }
}

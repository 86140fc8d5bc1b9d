//! Whether the far end of a connection is on the link: link-local, on this machine, or in a network that an interface of
//! this machine is in; and by which address of this machine it is reached. Asked of the system at each new connection, so
//! that no change of addresses can be missed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use libp2p::Multiaddr;

use super::address::{self, Network, is_link_local6};

/// Whether `address` is on the link; who is reached through a relay is not, wherever that stands. If the system does not tell its interfaces, only what is so by its form.
pub(super) fn is_near(address: &Multiaddr) -> bool {
    if address::is_relayed(address) {
        return false;
    }
    address::ip(address).is_none_or(is_near_by_form)
        || networks().iter().any(|network| network.holds(address))
}

/// An address without IP is one of this process's memory.
fn is_near_by_form(ip: IpAddr) -> bool {
    let link_local4 = matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    ip.is_loopback() || link_local4 || is_link_local6(ip)
}

/// The address of this machine that packets to `far` bear; none for a link-local one, whose zone says the interface.
pub(super) fn source_of(far: &Multiaddr) -> Option<IpAddr> {
    let far = address::ip(far).filter(|ip| !is_link_local6(*ip))?;
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // For UDP this only looks the route up: nothing is sent.
    socket.connect((far, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn networks() -> Vec<Network> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "the networks of this machine are not known now");
        Vec::new()
    });
    interfaces.into_iter().map(network).collect()
}

fn network(interface: if_addrs::Interface) -> Network {
    let prefix = match &interface.addr {
        if_addrs::IfAddr::V4(v4) => v4.prefixlen,
        if_addrs::IfAddr::V6(v6) => v6.prefixlen,
    };
    Network { ip: interface.ip(), prefix, interface: interface.name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_reached_by_its_own_address() {
        let source = |text: &str| source_of(&text.parse().expect("a multiaddress"));
        assert_eq!(source("/ip4/127.0.0.1/tcp/1"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(source("/ip6zone/eth0/ip6/fe80::1/tcp/1"), None);
        assert_eq!(source("/memory/7"), None);
    }

    #[test]
    fn what_is_near_by_its_form_and_what_is_not() {
        let near = |text: &str| is_near(&text.parse().expect("a multiaddress"));
        assert!(near("/ip4/127.0.0.1/tcp/1") && near("/ip4/169.254.3.4/tcp/1") && near("/memory/7"));
        assert!(near("/ip6zone/eth0/ip6/fe80::1/tcp/1"));
        // TEST-NET-3 and the documentation prefix of IPv6 are nobody's network.
        assert!(!near("/ip4/127.0.0.1/tcp/1/p2p-circuit") && !near("/p2p-circuit"));
        assert!(!near("/ip4/203.0.113.9/tcp/1") && !near("/ip6/2001:db8::1/udp/1/quic-v1"));
    }
}

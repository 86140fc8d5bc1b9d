//! Which table an address belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::super::address;
use crate::dht::Table;

/// Networks that count otherwise than their addresses say: for test beds, and for a private network that is large.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// Address and length of prefix (bits) of networks that count as public.
    pub public: Vec<(IpAddr, u8)>,
    /// The same of networks that count as private.
    pub private: Vec<(IpAddr, u8)>,
}

impl Networks {
    /// Where a node with this address may be entered. None: it is of this machine, of nobody, or for documents.
    pub(in crate::swarm) fn table(&self, ip: IpAddr) -> Option<Table> {
        let within = |networks: &[(IpAddr, u8)]| networks.iter().any(|net| address::in_network(ip, *net));
        if within(&self.public) {
            return Some(Table::Wan);
        }
        if within(&self.private) {
            return Some(Table::Lan);
        }
        by_itself(ip)
    }

    /// Whether an address is the Internet's.
    pub fn is_public(&self, ip: IpAddr) -> bool {
        self.table(ip) == Some(Table::Wan)
    }

    /// The same of a multiaddress.
    pub(in crate::swarm) fn table_of(&self, address: &Multiaddr) -> Option<Table> {
        self.table(address::ip(address)?)
    }
}

/// Whether an address is public whatever the settings say of its network.
pub(super) fn is_public(ip: IpAddr) -> bool {
    by_itself(ip) == Some(Table::Wan)
}

fn by_itself(ip: IpAddr) -> Option<Table> {
    match ip {
        IpAddr::V4(ip) => table4(ip),
        IpAddr::V6(ip) => table6(ip),
    }
}

fn table4(ip: Ipv4Addr) -> Option<Table> {
    let net = |base: [u8; 4], prefix| address::in_network(ip.into(), (Ipv4Addr::from(base).into(), prefix));
    // RFC 6598: behind a provider's translator, so nobody's to be found at.
    if ip.is_private() || ip.is_link_local() || net([100, 64, 0, 0], 10) {
        return Some(Table::Lan);
    }
    let odd = ip.is_loopback()
        || ip.is_multicast()
        || ip.is_documentation()
        || net([0, 0, 0, 0], 8)
        || net([192, 0, 0, 0], 24)
        || net([198, 18, 0, 0], 15)
        || net([240, 0, 0, 0], 4);
    (!odd).then_some(Table::Wan)
}

fn table6(ip: Ipv6Addr) -> Option<Table> {
    if ip.is_unique_local() || ip.is_unicast_link_local() {
        return Some(Table::Lan);
    }
    let net =
        |base: &[u16; 8], prefix| address::in_network(ip.into(), (Ipv6Addr::from(*base).into(), prefix));
    let global = net(&[0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
    let documents = net(&[0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32);
    (global && !documents).then_some(Table::Wan)
}

/// The address without the zone that only this machine knows.
pub(super) fn without_zone(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::Ip6zone(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(networks: &Networks, ip: &str) -> Option<Table> {
        networks.table(ip.parse().unwrap())
    }

    #[test]
    fn each_address_has_its_table() {
        let none = Networks::default();
        for lan in
            ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.3.4", "100.64.0.1", "fd00::1", "fe80::1"]
        {
            assert_eq!(table(&none, lan), Some(Table::Lan), "{lan}");
        }
        for wan in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1"] {
            assert_eq!(table(&none, wan), Some(Table::Wan), "{wan}");
        }
        for odd in
            ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.251", "ff02::fb", "198.51.100.7", "2001:db8::1"]
        {
            assert_eq!(table(&none, odd), None, "{odd}");
        }
        for odd in ["240.0.0.1", "255.255.255.255", "192.0.0.8", "198.19.0.1", "::ffff:1.1.1.1", "200::1"] {
            assert_eq!(table(&none, odd), None, "{odd}");
        }
    }

    #[test]
    fn a_test_bed_has_its_own_idea_of_public() {
        let bed = Networks {
            public: vec![("10.77.0.0".parse().unwrap(), 16)],
            private: vec![("127.0.0.0".parse().unwrap(), 8)],
        };
        assert_eq!(table(&bed, "10.77.3.4"), Some(Table::Wan));
        assert_eq!(table(&bed, "10.78.3.4"), Some(Table::Lan));
        assert_eq!(table(&bed, "127.0.0.1"), Some(Table::Lan));
    }

    #[test]
    fn a_zone_is_left_out() {
        let zoned: Multiaddr = "/ip6zone/eth0/ip6/fe80::1/tcp/9".parse().unwrap();
        assert_eq!(without_zone(&zoned).to_string(), "/ip6/fe80::1/tcp/9");
    }
}

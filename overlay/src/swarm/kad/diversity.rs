//! How many nodes of one network a table takes. *Pure.*
//!
//! Node ids cost nothing, addresses do. Whoever has one network, though, has many: so of one network there are few nodes
//! in a bucket and in the table, as with go-libp2p (2 of a bucket) and Ethereum's discovery v5 (2 of a bucket, 10 of the
//! table). A network is what one customer may be given (RFC 6177): a /24 of IPv4, a /48 of IPv6, as who has a /48 has 65,536
//! networks of /64. Only addresses that the registries call public are counted: who owns a private or a link-local one is
//! not for us to know, and a room is one network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nodes of one network in a bucket, and in the table.
pub(super) const IN_BUCKET: usize = 2;
pub(super) const IN_TABLE: usize = 10;

/// The network of a public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48)).into(),
        })
    }
}

/// The networks of one node: it counts in each of them, and once.
pub(super) type Networks = BTreeSet<Network>;

/// How many nodes there are of each network.
#[derive(Debug, Default)]
pub(super) struct Census(BTreeMap<Network, Count>);

#[derive(Debug, Default)]
struct Count {
    bucket: usize,
    table: usize,
}

impl Census {
    /// One more node; `near`: it is in the bucket in question.
    pub(super) fn count(&mut self, networks: &Networks, near: bool) {
        for network in networks {
            let count = self.0.entry(*network).or_default();
            count.table += 1;
            count.bucket += usize::from(near);
        }
    }

    /// Whether one more node of a network may enter that bucket.
    pub(super) fn has_room(&self, network: &Network) -> bool {
        self.0.get(network).is_none_or(|count| count.bucket < IN_BUCKET && count.table < IN_TABLE)
    }
}

/// The same in this order, but so that of one network [`IN_BUCKET`] come before those of others.
pub(super) fn mixed<'a, T>(nodes: impl Iterator<Item = (T, &'a Networks)>) -> Vec<T> {
    let mut census = Census::default();
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (node, networks) in nodes {
        let fits = networks.iter().all(|network| census.has_room(network));
        census.count(networks, true);
        if fits { first.push(node) } else { others.push(node) }
    }
    first.extend(others);
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(ip: &str) -> Network {
        Network::of(ip.parse().unwrap())
    }

    #[test]
    fn a_network_is_what_one_customer_is_given() {
        assert_eq!(network("1.2.3.4"), network("1.2.3.255"));
        assert_ne!(network("1.2.3.4"), network("1.2.4.4"));
        assert_eq!(network("2a01:1:2:3::1"), network("2a01:1:2:ffff:9::1"));
        assert_ne!(network("2a01:1:2::1"), network("2a01:1:3::1"));
        assert_ne!(network("0.0.0.1"), network("::1"));
    }

    #[test]
    fn two_of_a_bucket_and_ten_of_the_table_are_all() {
        let (crowd, other) = (network("1.2.3.4"), network("1.2.4.4"));
        let mut census = Census::default();
        for there in 0..3 {
            assert_eq!(census.has_room(&crowd), there < IN_BUCKET, "{there} of the bucket");
            census.count(&Networks::from([crowd]), true);
        }
        let mut census = Census::default();
        for there in 0..11 {
            assert_eq!(census.has_room(&crowd), there < IN_TABLE, "{there} of the table");
            census.count(&Networks::from([crowd]), false);
        }
        assert!(census.has_room(&other));
    }

    #[test]
    fn who_has_one_network_comes_last() {
        let [crowd, other] = ["1.2.3.4", "1.2.4.4"].map(|ip| Networks::from([network(ip)]));
        let room = Networks::new();
        let nodes = [(1, &crowd), (2, &crowd), (3, &crowd), (4, &room), (5, &crowd), (6, &other), (7, &room)];
        assert_eq!(mixed(nodes.into_iter()), [1, 2, 4, 6, 7, 3, 5]);
    }

    proptest! {
        #[test]
        fn whoever_has_few_networks_has_few_entries(ids in prop::collection::vec((0..8u8, any::<[u8; 4]>()), 0..400)) {
            // Three networks of an attacker's: identities in any bucket, at any of its addresses.
            let mut there: Vec<(u8, Network)> = Vec::new();
            for (bucket, [net, low, ..]) in ids {
                let network = network(&format!("45.0.{}.{low}", net % 3));
                let mut census = Census::default();
                there.iter().for_each(|(of, network)| census.count(&Networks::from([*network]), *of == bucket));
                if census.has_room(&network) {
                    there.push((bucket, network));
                }
            }
            prop_assert!(there.len() <= 3 * IN_TABLE);
            for bucket in 0..8 {
                prop_assert!(there.iter().filter(|(of, _)| *of == bucket).count() <= 3 * IN_BUCKET);
            }
        }
    }
}

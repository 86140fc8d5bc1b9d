//! Which of somebody's addresses is tried first, and which two are the same host's. *Pure.*
//!
//! An address that takes the connection need not be the one that works: a stock program that has resolved us on another
//! interface refuses the stream, and a link may have gone dead. So each attempt starts elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// The addresses in the order of the attempt of this number, all of them: families and links take turns, the attempt's
/// number says which begins, and `avoid` comes last.
pub(super) fn in_turn(all: Vec<SocketAddr>, turn: usize, avoid: Option<SocketAddr>) -> Vec<SocketAddr> {
    let mut groups = BTreeMap::<(usize, bool, Option<u32>), VecDeque<SocketAddr>>::new();
    let mut first = BTreeMap::new();
    for (at, address) in all.into_iter().enumerate() {
        let way = (address.ip().to_canonical().is_ipv4(), zone(&address));
        let rank = *first.entry(way).or_insert(at);
        groups.entry((rank, way.0, way.1)).or_default().push_back(address);
    }
    let mut order = Vec::new();
    while groups.values().any(|group| !group.is_empty()) {
        order.extend(groups.values_mut().filter_map(VecDeque::pop_front));
    }
    let start = turn.checked_rem(order.len()).unwrap_or_default();
    order.rotate_left(start);
    // A stable sort: what is not avoided keeps its order.
    order.sort_by_key(|address| avoid.is_some_and(|avoid| same_host(address, &avoid)));
    order
}

/// Whether somebody who announces these is at `address`, or on this machine.
pub(super) fn contain(all: &[SocketAddr], address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback() || all.iter().any(|own| same_host(own, address))
}

/// Whether two addresses differ in their ports at most. The zone of an IPv6 address that has none is not looked at.
pub(super) fn same_host(one: &SocketAddr, other: &SocketAddr) -> bool {
    let same_zone = zone(one).zip(zone(other)).is_none_or(|(one, other)| one == other);
    let canonical = |address: &SocketAddr| -> IpAddr { address.ip().to_canonical() };
    canonical(one) == canonical(other) && same_zone
}

/// The zone of a link-local address, if it says one.
fn zone(address: &SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()).filter(|zone| *zone > 0),
        SocketAddr::V4(_) | SocketAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn links_and_families_take_turns() {
        let known = all(&["[fe80::1%2]:1", "[fe80::2%2]:1", "[fe80::1%3]:1", "10.0.0.1:1"]);
        let ways = all(&["[fe80::1%2]:1", "[fe80::1%3]:1", "10.0.0.1:1", "[fe80::2%2]:1"]);
        assert_eq!(in_turn(known.clone(), 0, None), ways);
        for turn in 0..9 {
            assert_eq!(in_turn(known.clone(), turn, None)[0], ways[turn % 4], "attempt {turn}");
        }
        assert_eq!(in_turn(known.clone(), 1, Some(ways[1]))[0], ways[2]);
        assert_eq!(in_turn(Vec::new(), 5, Some(ways[1])), []);
    }

    #[test]
    fn a_machine_is_at_its_own_loopback() {
        let known = all(&["[fe80::1%2]:5298"]);
        let is_there = |text: &str| contain(&known, &text.parse().unwrap());
        assert!(is_there("[fe80::1%2]:40000") && is_there("[fe80::1]:1") && is_there("127.0.0.1:1"));
        assert!(!is_there("[fe80::1%3]:5298") && !is_there("10.0.0.1:5298"));
    }

    proptest! {
        /// No address is lost or invented, whatever was tried before.
        #[test]
        fn all_are_tried(known in proptest::collection::vec((0u8..9, any::<bool>(), 0u32..3), 0..12), turn: usize) {
            let address = |(host, v4, zone): (u8, bool, u32)| match v4 {
                true => SocketAddr::from(([10, 0, 0, host], 1)),
                false => format!("[fe80::{host}%{zone}]:1").parse().unwrap(),
            };
            let known: Vec<SocketAddr> = known.into_iter().map(address).collect();
            let mut order = in_turn(known.clone(), turn, known.first().copied());
            let mut expected = known;
            order.sort();
            expected.sort();
            prop_assert_eq!(order, expected);
        }
    }
}

//! Interfaces that come, go, change addresses, and lie on the same link (*pure*).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crosstalk_overlay::time::Now;

use super::api::Interface;
use super::lane::{Family, Lane, Link, Place};
use super::liveness::LOST;
use super::own::{self, Own, Set, Unique};
use super::{MAX_INTERFACES, Mdns, has_address};

impl Mdns {
    /// The interfaces there are, all of them; the engine finds the difference. At most [`MAX_INTERFACES`] are used.
    pub fn set_interfaces(&mut self, all: Vec<Interface>, now: Now) {
        let all: BTreeMap<u32, Interface> =
            all.into_iter().take(MAX_INTERFACES).map(|one| (one.index, one)).collect();
        for index in self.indices().into_iter().filter(|index| !all.contains_key(index)) {
            self.links.remove(&index);
            self.down.remove(&index);
            for link in self.links.values_mut() {
                link.twins.remove(&index);
            }
            self.forget_peers_on(index);
        }
        for (index, interface) in all {
            let old = self.links.get(&index).map(|link| link.interface.clone());
            if old.as_ref() == Some(&interface) {
                continue;
            }
            let link = self.links.entry(index).or_insert_with(|| Link::new(interface.clone()));
            link.interface = interface;
            self.set_lanes(index, now);
            if old.is_none() {
                self.claim_all(index, now);
            }
        }
        self.join_links(now);
        self.report(now);
    }

    /// On each interface the addresses of all interfaces on the same link that have a carrier are announced: they are valid
    /// there (RFC 6762 §6.2), and a cache of two sets of addresses of one name keeps that of the interface heard last.
    fn join_links(&mut self, now: Now) {
        let all: Vec<Interface> = self.links.values().map(|link| link.interface.clone()).collect();
        for (index, link) in &mut self.links {
            let is_near = |other: &&Interface| {
                other.index != *index
                    && !self.down.contains_key(&other.index)
                    && (link.twins.contains(&other.index) || own::share_subnet(&link.interface, other))
            };
            let mut told = link.interface.clone();
            for other in all.iter().filter(is_near) {
                told.v4.extend(&other.v4);
                told.v6.extend(&other.v6);
            }
            if told != link.told {
                link.told = told;
                let sets = [Set::V4, Set::V6].into_iter().filter(|set| link.is_ready(*set));
                let sets: Vec<Set> = sets.collect();
                link.lanes.values_mut().for_each(|lane| lane.announce(&sets, now.mono));
            }
        }
    }

    /// A packet that we sent on another interface came in here.
    pub(super) fn notice_twin(&mut self, index: u32, from: IpAddr, now: Now) {
        let owns = |link: &Link| has_address(&link.interface, from);
        let Some(other) = self.links.iter().find(|(_, link)| owns(link)).map(|(other, _)| *other) else {
            return;
        };
        if other == index || self.links.get(&index).is_none_or(owns) {
            return;
        }
        let mut is_new = false;
        for (one, twin) in [(index, other), (other, index)] {
            is_new |= self.links.get_mut(&one).is_some_and(|link| link.twins.insert(twin));
        }
        if is_new {
            self.join_links(now);
        }
    }

    /// Opens a lane for each family that the interface has an address of, and announces the addresses.
    fn set_lanes(&mut self, index: u32, now: Now) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let has = [
            (Family::V4, own::v4(&link.interface).next().is_some()),
            (Family::V6, own::v6(&link.interface).next().is_some()),
        ];
        let ready: Vec<Unique> = link.phases.keys().copied().collect();
        let sets: Vec<Set> = ready.into_iter().flat_map(Own::announced_with).collect();
        for (family, has) in has {
            let Some(link) = self.links.get_mut(&index) else { return };
            if !has {
                link.lanes.remove(&family);
                continue;
            }
            let is_new = !link.lanes.contains_key(&family);
            let is_told = |set: &Set| link.is_ready(*set) && (is_new || matches!(set, Set::V4 | Set::V6));
            let told: Vec<Set> = sets.iter().copied().filter(is_told).collect();
            link.lanes.entry(family).or_insert_with(|| Lane::new(now.mono)).announce(&told, now.mono);
            if is_new {
                self.start_browsing((index, family), now);
            }
            self.announce_node((index, family), now);
        }
    }

    fn announce_node(&mut self, place: Place, now: Now) {
        let is_on = self.own.p2p.is_some() && place.1 == Family::V6;
        if let Some(lane) = self.lane(place).filter(|_| is_on) {
            lane.announce(&[Set::P2p], now.mono);
        }
    }

    fn claim_all(&mut self, index: u32, now: Now) {
        let ids: Vec<_> = self.own.services.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        self.claim(index, Unique::Host, now);
        for id in ids {
            self.claim(index, Unique::Service(id), now);
        }
    }

    /// Cable or radio of an interface is gone: its addresses are no longer announced on others of the same link.
    pub fn carrier_lost(&mut self, index: u32, now: Now) {
        if self.links.contains_key(&index) {
            self.down.entry(index).or_insert(now.mono);
            self.join_links(now);
        }
    }

    /// Cable or radio of an interface came back: claims our names anew, announces and asks again.
    pub fn carrier_back(&mut self, index: u32, now: Now) {
        let away = self.down.remove(&index).map_or(0, |since| now.mono.saturating_sub(since));
        self.join_links(now);
        let Some(link) = self.links.get(&index) else { return };
        let families: Vec<Family> = link.lanes.keys().copied().collect();
        let mut start = now;
        if away >= LOST || self.is_lost(index, now) {
            self.cure(index, now);
            // The goodbye takes effect after one second, and probing takes 750 ms.
            start.mono += 500;
        }
        self.claim_all(index, start);
        for family in families {
            self.start_browsing((index, family), now);
            self.announce_node((index, family), now);
        }
        self.check_all(index, now);
    }
}

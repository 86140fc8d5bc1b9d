//! At which relays a node that nobody reaches directly has a place: configured ones first, else peers that relay.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::swarm::ListenOpts;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::super::address;
use super::RelayPlace;

/// Places that a node has at a time.
const PLACES: usize = 2;
/// Configured relays that count, and others that are remembered.
const MAX_CONFIGURED: usize = 8;
const MAX_KNOWN: usize = 16;
/// How long one that refused or was lost is left alone: twice as long each time.
const FIRST_REST: Duration = Duration::from_secs(5);
const LAST_REST: Duration = Duration::from_secs(10 * 60);
/// Another that has failed so often in a row is forgotten.
const PATIENCE: u32 = 5;

/// See the file's head.
pub(super) struct Relays {
    known: BTreeMap<PeerId, Known>,
    places: Vec<Place>,
}

struct Known {
    address: Multiaddr,
    configured: bool,
    failures: u32,
    rests_until: Option<Instant>,
    seen: Instant,
}

struct Place {
    listener: ListenerId,
    relay: PeerId,
    address: Multiaddr,
    /// Unix milliseconds; None until the relay has agreed.
    since: Option<u64>,
}

impl Relays {
    /// With the relays of the settings.
    pub(super) fn new(configured: &[String], local: PeerId, now: Instant) -> Self {
        let read = |text: &String| {
            let relay = text.parse().ok().and_then(|address| address::relay(&address));
            if relay.is_none() {
                tracing::warn!(
                    "{text} in `relays` is not used: it needs the form /ip4/ADDRESS/tcp/PORT/p2p/PEER-ID"
                );
            }
            relay.filter(|(peer, _)| *peer != local)
        };
        let entry = |(peer, address)| {
            (peer, Known { address, configured: true, failures: 0, rests_until: None, seen: now })
        };
        let known = configured.iter().filter_map(read).take(MAX_CONFIGURED).map(entry).collect();
        Self { known, places: Vec::new() }
    }

    /// A peer that relays, as it says, at this address.
    pub(super) fn met(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        if let Some(known) = self.known.get_mut(&peer) {
            known.seen = now;
            return;
        }
        let others = || self.known.iter().filter(|(_, known)| !known.configured);
        if others().count() >= MAX_KNOWN {
            let oldest = others().min_by_key(|(_, known)| known.seen).map(|(peer, _)| *peer);
            oldest.map(|peer| self.known.remove(&peer));
        }
        let address = address::without_id(address);
        let known = Known { address, configured: false, failures: 0, rests_until: None, seen: now };
        self.known.insert(peer, known);
    }

    /// It relays no more.
    pub(super) fn relays_no_more(&mut self, peer: &PeerId) {
        if self.known.get(peer).is_some_and(|known| !known.configured) {
            self.known.remove(peer);
        }
    }

    /// Which relay is to be asked for a place now, if one is missing. None at a peer that has one for us already.
    pub(super) fn next(&mut self, now: Instant) -> Option<ListenOpts> {
        if self.places.len() >= PLACES {
            return None;
        }
        let free = |(peer, known): &(&PeerId, &Known)| {
            known.rests_until.is_none_or(|until| until <= now)
                && !self.places.iter().any(|place| place.relay == **peer)
        };
        let best = |(_, known): &(&PeerId, &Known)| {
            (!known.configured, known.failures, std::cmp::Reverse(known.seen))
        };
        let (relay, known) = self.known.iter().filter(free).min_by_key(best)?;
        let (relay, address) = (*relay, known.address.clone());
        let options = ListenOpts::new(address::through(&address, relay));
        self.places.push(Place { listener: options.listener_id(), relay, address, since: None });
        Some(options)
    }

    /// When [`Relays::next`] may have another answer.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.places.len() >= PLACES {
            return None;
        }
        self.known.values().filter_map(|known| known.rests_until).filter(|until| *until > now).min()
    }

    /// A relay has agreed.
    pub(super) fn agreed(&mut self, relay: &PeerId, wall: u64) {
        for place in self.places.iter_mut().filter(|place| place.relay == *relay) {
            place.since.get_or_insert(wall);
        }
        if let Some(known) = self.known.get_mut(relay) {
            (known.failures, known.rests_until) = (0, None);
        }
    }

    /// A listener has ended: if it was a place, that is lost, or was refused.
    pub(super) fn ended(&mut self, listener: ListenerId, now: Instant) {
        let Some(at) = self.places.iter().position(|place| place.listener == listener) else { return };
        let place = self.places.swap_remove(at);
        let Some(known) = self.known.get_mut(&place.relay) else { return };
        known.failures += 1;
        if known.failures >= PATIENCE && !known.configured {
            self.known.remove(&place.relay);
            return;
        }
        let rest = FIRST_REST * 2u32.pow((known.failures - 1).min(10));
        known.rests_until = Some(now + rest.min(LAST_REST));
    }

    /// Relays that have a place for this node.
    pub(super) fn used(&self) -> impl Iterator<Item = PeerId> {
        self.places.iter().filter(|place| place.since.is_some()).map(|place| place.relay)
    }

    /// For a person.
    pub(super) fn places(&self) -> Vec<RelayPlace> {
        let view = |place: &Place| {
            let (relay, address) = (address::node(&place.relay)?, place.address.to_string());
            Some(RelayPlace { relay, address, since: place.since })
        };
        self.places.iter().filter_map(view).collect()
    }

    /// Relays that are known and not used.
    pub(super) fn spare(&self) -> usize {
        self.known.len().saturating_sub(self.places.len())
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        Keypair::ed25519_from_bytes([seed; 32]).expect("a key").public().to_peer_id()
    }

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().expect("an address")
    }

    fn asked(relays: &mut Relays, now: Instant) -> Option<(ListenerId, PeerId)> {
        let options = relays.next(now)?;
        let place = relays.places.last().expect("a place");
        assert_eq!(place.listener, options.listener_id());
        Some((place.listener, place.relay))
    }

    #[test]
    fn configured_relays_come_first_and_two_are_used() {
        let now = Instant::now();
        let configured = [format!("{}/p2p/{}", at(1), peer(1)), "/ip4/192.0.2.1/tcp/9".to_owned()];
        let mut relays = Relays::new(&configured, peer(9), now);
        relays.met(peer(2), &at(2), now);
        relays.met(peer(3), &at(3), now);
        let first = asked(&mut relays, now).expect("a relay");
        let second = asked(&mut relays, now).expect("another");
        assert_eq!(first.1, peer(1));
        assert_ne!(second.1, first.1);
        assert!(asked(&mut relays, now).is_none());
    }

    #[test]
    fn another_takes_the_place_of_one_that_was_lost_which_is_left_alone_for_a_while() {
        let now = Instant::now();
        let mut relays = Relays::new(&[], peer(9), now);
        (1..=3).for_each(|seed| relays.met(peer(seed), &at(seed.into()), now));
        let (lost, gone) = asked(&mut relays, now).expect("a relay");
        let (_, kept) = asked(&mut relays, now).expect("a relay");
        relays.agreed(&gone, 5);
        relays.ended(lost, now);
        let (_, new) = asked(&mut relays, now).expect("the third");
        assert!(new != gone && new != kept);
        relays.ended(lost, now);
        assert!(asked(&mut relays, now).is_none(), "an old listener's end takes nothing away");
    }

    #[test]
    fn one_that_always_refuses_is_forgotten_unless_it_is_configured() {
        let mut now = Instant::now();
        let configured = [format!("{}/p2p/{}", at(1), peer(1))];
        let mut relays = Relays::new(&configured, peer(9), now);
        relays.met(peer(2), &at(2), now);
        for _ in 0..PATIENCE {
            for _ in 0..2 {
                let (listener, _) = asked(&mut relays, now).expect("a relay");
                relays.ended(listener, now);
            }
            assert!(asked(&mut relays, now).is_none(), "they rest");
            now += LAST_REST;
        }
        assert_eq!(asked(&mut relays, now).map(|(_, relay)| relay), Some(peer(1)));
        assert!(asked(&mut relays, now).is_none());
    }

    #[test]
    fn so_many_are_remembered() {
        let now = Instant::now();
        let mut relays = Relays::new(&[], peer(0), now);
        for seed in 1..=100 {
            relays.met(peer(seed), &at(seed.into()), now + Duration::from_secs(seed.into()));
        }
        assert_eq!(relays.known.len(), MAX_KNOWN);
        assert!(relays.known.contains_key(&peer(100)));
    }
}

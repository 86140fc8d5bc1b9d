//! The relay that this node is for others (circuit relay v2). It carries what two nodes have sealed with Noise between them, and
//! sees who talks to whom, when and how much. Limits that fit chat: a circuit that ends is opened again by whoever needs it.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::swarm::behaviour::ExternalAddrConfirmed;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{FromSwarm, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, relay};

use super::RelayMode;

/// Nodes that have a place, and for how long until it is renewed.
pub(in crate::swarm) const RESERVATIONS: usize = 64;
const RESERVATION: Duration = Duration::from_secs(60 * 60);
/// Circuits in all; one more than [`OF_ONE_PEER`] for a peer.
pub(in crate::swarm) const CIRCUITS: usize = 64;
const OF_ONE_PEER: usize = 8;
/// What a circuit carries in both directions together, and for how long.
const BYTES: u64 = 16 << 20;
const DURATION: Duration = Duration::from_secs(2 * 60 * 60);
/// Circuits of a network address at once, and then one each so often: a school is one address.
const OF_AN_ADDRESS: (NonZeroU32, Duration) = (NonZeroU32::new(240).unwrap(), Duration::from_secs(15));
/// The same of a peer: as many as a person has contacts.
const OF_A_PEER: (NonZeroU32, Duration) = (NonZeroU32::new(60).unwrap(), Duration::from_secs(60));

/// The relay, unless that is off.
pub(super) fn new(local: PeerId, mode: RelayMode) -> Toggle<relay::Behaviour> {
    let relay = || {
        let mut relay = relay::Behaviour::new(local, config());
        if mode == RelayMode::On {
            relay.set_status(Some(relay::Status::Enable));
        }
        relay
    };
    (mode != RelayMode::Off).then(relay).into()
}

fn config() -> relay::Config {
    let mut config = relay::Config {
        max_reservations: RESERVATIONS,
        max_reservations_per_peer: 1,
        reservation_duration: RESERVATION,
        max_circuits: CIRCUITS,
        max_circuits_per_peer: OF_ONE_PEER,
        max_circuit_duration: DURATION,
        max_circuit_bytes: BYTES,
        ..relay::Config::default()
    };
    config.circuit_src_rate_limiters.clear();
    config.circuit_src_per_peer(OF_A_PEER.0, OF_A_PEER.1).circuit_src_per_ip(OF_AN_ADDRESS.0, OF_AN_ADDRESS.1)
}

/// A relay names its addresses to whom it gives a place, and gives none without an address: one that is switched on names where
/// it listens.
pub(super) fn listens(relay: &mut Toggle<relay::Behaviour>, addr: &Multiaddr) {
    relay.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
}

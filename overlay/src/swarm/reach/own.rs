//! Addresses of this node as they come and go: of interfaces, as peers have seen them, as the router promises.

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::NewExternalAddrCandidate;
use libp2p::swarm::{FromSwarm, NetworkBehaviour};
use tokio::time::Instant;

use super::super::address;
use super::{Behaviour, RelayMode, hop, is_beyond, wall};

impl Behaviour {
    /// An address that may be ours: of an interface, as a peer has seen it, or as the router promises.
    pub(super) fn propose(&mut self, address: &Multiaddr) {
        let fit = is_beyond(&self.networks, address) && address::dialable(address, &self.local).is_some();
        if fit && !self.nat.is_settled(address) {
            self.parts.probe.propose(address, Instant::now());
        }
    }

    /// Routers let UDP through more often than TCP: where peers have seen us by TCP, we may be met by QUIC, if that listens at the
    /// same port.
    pub(super) fn offer_quic(&mut self, seen: &Multiaddr) {
        let mut parts = seen.iter();
        let (Some(ip), Some(Protocol::Tcp(port)), None) = (parts.next(), parts.next(), parts.next()) else {
            return;
        };
        let behind = [Protocol::Udp(port), Protocol::QuicV1];
        let listens = |(_, own): &(ListenerId, Multiaddr)| own.iter().skip(1).eq(behind.iter().cloned());
        if is_beyond(&self.networks, seen) && self.listening.iter().any(listens) {
            let addr: Multiaddr = [ip].into_iter().chain(behind).collect();
            let candidate = NewExternalAddrCandidate { addr: &addr };
            self.parts.punch.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
        }
    }

    pub(super) fn listens(&mut self, listener: ListenerId, address: &Multiaddr) {
        if address::is_relayed(address) {
            return;
        }
        self.listening.push((listener, address.clone()));
        if self.relay == RelayMode::On {
            hop::listens(&mut self.parts.hop, address);
        }
        if self.sure && is_beyond(&self.networks, address) {
            let change = self.nat.is_sure(address, wall());
            self.tell(change);
        }
        self.moved();
        self.propose(address);
    }

    pub(super) fn listens_no_more(&mut self, listener: ListenerId, address: &Multiaddr) {
        if address::is_relayed(address) {
            return;
        }
        self.listening.retain(|(id, other)| *id != listener || other != address);
        let change = self.nat.gone(address);
        self.tell(change);
        self.moved();
        // What went by way of that address is dead, and would be found out late.
        self.leave_relays();
    }

    /// The addresses of this machine have changed.
    fn moved(&mut self) {
        let now = Instant::now();
        self.nat.network_changed(now);
        self.upnp.forget();
        if !self.beyond.is_empty() {
            self.nat.met(now);
        }
    }
}

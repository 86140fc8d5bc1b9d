//! Who enters a table: nodes that answer its protocol, at addresses that they were seen at, few of one network.

use std::net::IpAddr;

use libp2p::kad;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::super::super::address;
use super::super::diversity::{Census, Network, Networks};
use super::super::hush::hush;
use super::super::scope::is_public;
use super::super::shape::BUCKET;
use super::super::wide;
use super::{MAX_ENTERED, MAX_KEPT, Member, Table};
use crate::dht;

impl Table {
    /// A peer has said which protocols it answers, and where it listens. `remote` is its address on this connection,
    /// `dialled`: by us.
    pub(in super::super) fn identified(
        &mut self,
        peer: PeerId,
        answers: bool,
        listens: &[Multiaddr],
        remote: (&Multiaddr, bool),
    ) {
        if !answers {
            self.newcomers.remove(&peer);
            if self.members.remove(&peer).is_some() {
                self.inner.remove_peer(&peer);
            }
            return;
        }
        let (remote, dialled) = remote;
        let Some(ip) = address::ip(remote) else { return };
        if !self.members.contains_key(&peer) && self.is_full_for(peer) {
            return;
        }
        // An address of somebody else's would make others knock there.
        let own = listens.iter().filter(|address| address::ip(address) == Some(ip));
        let mut entered: Vec<Multiaddr> = Vec::new();
        for address in dialled.then_some(remote).into_iter().chain(own) {
            let Some(address) = self.admissible(address, &peer) else { continue };
            if entered.len() < MAX_ENTERED && !entered.contains(&address) {
                entered.push(address);
            }
        }
        let entered = self.with_room(peer, entered);
        if self.members.contains_key(&peer) {
            self.add(peer, entered);
        } else if !entered.is_empty() {
            self.newcomers.add(peer, entered);
        }
    }

    /// When [`Table::enter`] has something to do.
    pub(super) fn next_entry(&self, now: Instant) -> Option<Instant> {
        self.newcomers.next(now)
    }

    /// Lets in who has waited for long enough.
    pub(super) fn enter(&mut self, now: Instant) {
        for (peer, addresses) in self.newcomers.take(now) {
            if !self.is_full_for(peer) {
                let addresses = self.with_room(peer, addresses);
                self.add(peer, addresses);
            }
        }
    }

    /// The networks of some addresses that count in this table.
    pub(in super::super) fn networks(&self, addresses: &[Multiaddr]) -> Networks {
        networks(self.kind, addresses)
    }

    /// Those of a node's addresses of whose network there are not too many others.
    fn with_room(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let named = addresses.len();
        if !self.networks(&addresses).is_empty() {
            let census = self.census(peer);
            addresses.retain(|address| networks(self.kind, [address]).iter().all(|net| census.has_room(net)));
        }
        if addresses.len() < named {
            tracing::debug!(%peer, "not entered at every address: too many others of the same network");
        }
        addresses
    }

    /// All nodes but this one that are in the table or wait to enter it, those of its bucket apart.
    fn census(&mut self, peer: PeerId) -> Census {
        let here = kad::KBucketKey::from(self.local);
        let distance_of = |peer: PeerId| here.distance(&kad::KBucketKey::from(peer));
        let (kind, distance) = (self.kind, distance_of(peer));
        let mut census = Census::default();
        for (other, addresses) in self.newcomers.waiting().filter(|(other, _)| **other != peer) {
            let near = distance_of(*other).ilog2() == distance.ilog2();
            census.count(&networks(kind, addresses), near);
        }
        for bucket in self.inner.kbuckets() {
            let near = bucket.contains(&distance);
            for entry in bucket.iter().filter(|entry| *entry.node.key.preimage() != peer) {
                census.count(&networks(kind, entry.node.value.iter()), near);
            }
        }
        census
    }

    fn add(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        for address in addresses {
            self.inner.add_address(&peer, address);
        }
        hush(&mut self.inner);
    }

    /// Whether the peer's bucket has no room. libp2p-kad would then dial its oldest member, who is not connected, as hardly
    /// anybody ever is; that one has no room for us in its turn and dials another: so without end. Here who is in stays in,
    /// until it can't be reached.
    fn is_full_for(&mut self, peer: PeerId) -> bool {
        self.inner.kbucket(peer).is_none_or(|bucket| bucket.num_entries() >= BUCKET.get())
    }

    /// The table of libp2p-kad has changed, or it has looked around.
    pub(super) fn follow(&mut self, event: &kad::Event) {
        self.reach = wide::looked(event, &self.local).unwrap_or(self.reach);
        let kad::Event::RoutingUpdated { peer, addresses, old_peer, .. } = event else { return };
        if let Some(old) = old_peer {
            self.members.remove(old);
        }
        let named: Vec<Multiaddr> = addresses.iter().cloned().collect();
        // libp2p-kad enters what a connection was made to, too.
        let mut addresses = self.with_room(*peer, named.clone());
        while addresses.len() > MAX_KEPT {
            addresses.remove(0);
        }
        for gone in named.iter().filter(|address| !addresses.contains(address)) {
            self.inner.remove_address(peer, gone);
        }
        if addresses.is_empty() {
            self.members.remove(peer);
            return;
        }
        let member = self.members.entry(*peer).or_insert(Member { addresses: Vec::new(), failures: 0 });
        member.addresses = addresses;
    }
}

fn networks<'a>(kind: dht::Table, addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Networks {
    let counts = |ip: &IpAddr| kind == dht::Table::Wan && is_public(*ip);
    addresses.into_iter().filter_map(address::ip).filter(counts).map(Network::of).collect()
}

//! Keys of authorities that were handed over: what counts here, what becomes of what is pinned, and who is told. *Pure.*
//!
//! A rotation is told like what is void: to whoever is connected when it is learnt, and at each meeting before the user
//! records, so that a name by a new key is no alarm. The few that there are cost less than comparing them.

use super::state::{KnownAuthority, STATE_VERSION};
use super::users::take_credit;
use super::{Alarm, Output, Overlay, Write};
use crate::authority::Chain;
use crate::id::{AuthorityId, NodeId};
use crate::record::{Refusal, Rotation, Unverified, UserRecord, Verified, domain_of};
use crate::time::Now;
use crate::wire::{Frame, MAX_ROTATIONS};

impl Overlay {
    /// Takes in a signed [`Rotation`] of an authority that is known here; true if it was new. What was pinned follows it,
    /// unless another is said to follow the same key.
    ///
    /// # Errors
    /// When it does not verify, or is between keys that are not known for its domain.
    pub fn add_rotation(&mut self, bytes: &[u8], now: Now) -> Result<bool, Refusal> {
        self.take_rotation(bytes, None, now)
    }

    /// The signed rotations of a domain, in the order in which they can be followed.
    pub fn rotations(&self, domain: &str) -> Vec<Vec<u8>> {
        let known = self.users.authorities.get(domain);
        known.into_iter().flat_map(|known| known.chain.steps()).map(|step| step.bytes().to_vec()).collect()
    }

    /// Domains of which two keys are said to follow the one that was pinned.
    pub fn disputed_domains(&self) -> Vec<String> {
        let disputed = self.users.authorities.iter().filter(|(_, known)| known.chain.disputed().is_some());
        disputed.map(|(domain, _)| domain.clone()).collect()
    }

    fn take_rotation(&mut self, bytes: &[u8], from: Option<NodeId>, now: Now) -> Result<bool, Refusal> {
        let context = self.users.context(self.clock.trusted(now));
        let rotation = Unverified::<Rotation>::parse(bytes)?.verify(&context)?;
        let domain = rotation.domain.clone();
        let Some(known) = self.users.authorities.get_mut(&domain) else {
            return Err(Refusal::NoCertificate { kind: "rotation" });
        };
        let before = (known.chain.current(), known.chain.disputed());
        match known.chain.insert(rotation) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(_) => return Err(Refusal::NoCertificate { kind: "rotation" }),
        }
        let after = (known.chain.current(), known.chain.disputed());
        self.save_authority(&domain, now);
        match after.1.filter(|_| before.1.is_none()) {
            Some([one, other]) => {
                let alarm = Alarm::Disputed { domain: domain.clone(), known: after.0, one, other };
                self.outputs.push_back(Output::Alarm(alarm));
            }
            None if before.0 != after.0 => {
                let alarm = Alarm::Rotated { domain: domain.clone(), from: before.0, to: after.0 };
                self.outputs.push_back(Output::Alarm(alarm));
            }
            None => {}
        }
        self.users.holders.retain(|address, _| domain_of(address) != Some(domain.as_str()));
        let records: Vec<UserRecord> = self.users.known.values().map(|known| known.record.clone()).collect();
        records.iter().for_each(|record| self.note_names(record, now));
        for node in self.peers.ready() {
            if Some(node) != from && self.domain_concerns(&node, &domain) {
                self.send_frame(node, &Frame::Rotations(vec![bytes.to_vec()]), false, now);
            }
        }
        Ok(true)
    }

    /// Whether a peer may be told which keys are known of a domain: on the link everybody, beyond it who has to do with it.
    fn domain_concerns(&self, node: &NodeId, domain: &str) -> bool {
        let Some(peer) = self.peers.connected.get(node) else { return false };
        let named = |user| self.users.names(user).iter().any(|name| name.domain() == domain);
        peer.far.near || peer.proven.keys().chain(&peer.told).any(named)
    }

    /// At the begin of a session on the link, and before a peer beyond it is told of a user.
    pub(super) fn offer_rotations(&mut self, node: NodeId, now: Now) {
        let known = self.users.authorities.iter().filter(|(_, known)| !known.chain.steps().is_empty());
        let domains: Vec<String> = known.map(|(domain, _)| domain.clone()).collect();
        for domain in domains {
            let Some(peer) = self.peers.connected.get(&node) else { return };
            if !peer.rotations.contains(&domain) && self.domain_concerns(&node, &domain) {
                let mut all = self.rotations(&domain);
                all.truncate(MAX_ROTATIONS);
                if let Some(peer) = self.peers.connected.get_mut(&node) {
                    peer.rotations.insert(domain);
                }
                self.send_frame(node, &Frame::Rotations(all), false, now);
            }
        }
    }

    pub(super) fn on_rotations(&mut self, node: NodeId, rotations: &[Vec<u8>], now: Now) {
        for bytes in rotations {
            if self.holds_rotation(bytes) {
                continue;
            }
            if !self.peers.connected.get_mut(&node).is_some_and(|peer| take_credit(peer, now)) {
                return self.counters.drop("more records than a peer may send");
            }
            if let Err(refusal) = self.take_rotation(bytes, Some(node), now) {
                self.refused(node, &refusal, now);
            }
        }
    }

    fn holds_rotation(&self, bytes: &[u8]) -> bool {
        let all = self.users.authorities.values().flat_map(|known| known.chain.steps());
        all.into_iter().any(|step| step.bytes() == bytes)
    }

    /// What was pinned before a restart, with what had followed.
    pub(super) fn restored_chain(&mut self, base: AuthorityId, rotations: &[Vec<u8>], now: Now) -> Chain {
        let time = self.clock.trusted(now);
        let verified: Vec<Verified<Rotation>> = rotations
            .iter()
            .filter_map(|bytes| Unverified::parse(bytes).ok()?.verify(&self.users.own_context(time)).ok())
            .collect();
        let chain = Chain::with(base, &verified);
        if chain.steps().len() < rotations.len() {
            self.counters.drop("stored rotation");
        }
        chain
    }

    pub(super) fn save_authority(&mut self, domain: &str, now: Now) {
        let Some(known) = self.users.authorities.get(domain) else { return };
        let known = KnownAuthority {
            version: STATE_VERSION,
            domain: domain.to_owned(),
            authority: known.chain.base().as_bytes().to_vec(),
            how: known.how.into(),
            since: now.wall,
            rotations: known.chain.steps().iter().map(|step| step.bytes().to_vec()).collect(),
            introductions: known.introductions.iter().map(|said| said.bytes().to_vec()).collect(),
            introduced_until: known.heard,
        };
        self.outputs.push_back(Output::Write(Write::PutAuthority(known)));
    }
}

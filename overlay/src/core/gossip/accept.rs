//! What a relay says is verified here before it counts, is shown or is told on. *Pure.*

use super::{Body, Key, MAX_EARLY, mark};
use crate::core::Overlay;
use crate::core::timers::Timer;
use crate::core::users::take_credit;
use crate::id::{DeviceId, NodeId};
use crate::record::{
    LinkPresence, NodeBinding, NodeLinks, Refusal, Unverified, UserRecord, Verified, kind_name,
};
use crate::time::Now;
use crate::wire::{Mark, Relayed, UserFrame};

/// Why a statement was not taken in.
enum Unfit {
    /// It does not verify.
    Refused(Refusal),
    /// The device that said it is not known yet.
    TooEarly,
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Overlay {
    pub(in crate::core) fn on_relayed(&mut self, from: NodeId, relayed: Relayed, now: Now) {
        let Relayed { users, links, presences } = relayed;
        for frame in users {
            let mark = mark(&[&frame.record, &frame.binding]);
            self.take_relayed(from, mark, now, |core| core.accept_user(from, &frame, now));
        }
        for bytes in links {
            self.take_relayed(from, mark(&[&bytes]), now, |core| core.accept_links(from, &bytes, now));
        }
        presences.into_iter().for_each(|bytes| self.take_presence(from, bytes, now));
        self.ask_soon(now);
    }

    fn take_presence(&mut self, from: NodeId, bytes: Vec<u8>, now: Now) {
        self.take_relayed(from, mark(&[&bytes]), now, |core| core.accept_presence(from, bytes, now));
    }

    /// A user is known now: what came too early is looked at again.
    fn take_early(&mut self, device: &DeviceId, now: Now) {
        for (from, bytes) in self.gossip.early.remove(device).unwrap_or_default() {
            self.take_presence(from, bytes, now);
        }
    }

    fn keep_early(&mut self, device: DeviceId, from: NodeId, bytes: Vec<u8>) -> Unfit {
        if self.gossip.early.values().map(Vec::len).sum::<usize>() >= MAX_EARLY {
            self.counters.drop("relayed statements of devices not known yet");
            self.gossip.early.clear();
        }
        self.gossip.early.entry(device).or_default().push((from, bytes));
        Unfit::TooEarly
    }

    fn take_relayed(
        &mut self,
        from: NodeId,
        mark: Mark,
        now: Now,
        accept: impl FnOnce(&mut Self) -> Result<bool, Unfit>,
    ) {
        if self.gossip.marks.contains_key(&mark) || self.gossip.is_refused(&mark) {
            self.gossip.confirm(&mark, &from, now);
            return self.gossip.asking.close(&mark);
        }
        if !self.peers.connected.get_mut(&from).is_some_and(|peer| take_credit(peer, now)) {
            return self.counters.drop("more statements than a peer may relay");
        }
        match accept(self) {
            Ok(true) => {
                if self.gossip.marks.contains_key(&mark) {
                    self.gossip.asking.close(&mark);
                } else {
                    // It was kept without what somebody had added to it.
                    self.gossip.asking.refuse(mark);
                }
                self.timers.set_earlier(Timer::Survey, now.mono + super::super::members::SETTLE);
            }
            Ok(false) => self.gossip.asking.refuse(mark),
            Err(Unfit::TooEarly) => self.gossip.asking.close(&mark),
            Err(Unfit::Refused(refusal)) => {
                self.gossip.asking.refuse(mark);
                self.relayed_refusal(from, &refusal, now);
            }
        }
    }

    /// An honest relay has verified what it tells on; but what it knows of clocks, revocations and certificates may
    /// differ from what is known here. Of a node's own words it cannot.
    fn relayed_refusal(&mut self, from: NodeId, refusal: &Refusal, now: Now) {
        match refusal {
            Refusal::WrongSigner { kind } if *kind != kind_name::<NodeLinks>() => {
                self.counters.drop("relayed statement by the wrong device")
            }
            refusal => self.refused(from, refusal, now),
        }
    }

    /// A user with the node that it says it is on. A binding whose life is zero takes that back.
    fn accept_user(&mut self, from: NodeId, frame: &UserFrame, now: Now) -> Result<bool, Unfit> {
        let malformed = Refusal::Malformed { kind: "user-record", what: "user" };
        let user = UserRecord::claimed_user(&frame.record).ok_or(malformed)?;
        if self.crowds(&from, &user, frame.record.len()) {
            self.counters.drop("more bytes of records than a peer may have");
            return Ok(false);
        }
        let context = self.users.context(self.clock.trusted(now));
        let record = UserRecord::verify_knowing(&frame.record, self.users.record(&user), &context)?;
        let context = crate::record::Context { certificates: &record, ..context };
        let binding = Unverified::<NodeBinding>::parse(&frame.binding)?.verify(&context)?;
        if binding.user != user {
            return Err(Refusal::WrongSigner { kind: "node-binding" }.into());
        }
        let before = self.users.size_of(&user);
        let fresh = self.note_user(from, &record, &binding, now);
        let grown = self.users.size_of(&user).saturating_sub(before);
        if let Some(peer) = self.peers.connected.get_mut(&from) {
            peer.brought += grown;
        }
        Ok(fresh)
    }

    /// Takes in a user whose record and binding were verified, from its own node or from another. The record is told on
    /// without what else stood in its bytes, as nobody signed that.
    pub(in crate::core) fn note_user(
        &mut self,
        from: NodeId,
        record: &UserRecord,
        binding: &Verified<NodeBinding>,
        now: Now,
    ) -> bool {
        let device = binding.device;
        if self.local_devices.contains_key(&device) || binding.node == self.node {
            return false;
        }
        let info = record.devices().get(&device).map_or(0, |part| part.info.at.millis);
        let gone = binding.expires == binding.issued;
        let frame = UserFrame { record: record.encode(), binding: binding.bytes().to_vec() };
        let body = Body::User { frame, user: record.user(), gone };
        let fresh = self.note(from, Key::User(device), binding.node, (binding.issued, info), body, now);
        if fresh {
            self.take_in(record, now);
            self.take_early(&device, now);
        }
        fresh
    }

    fn accept_links(&mut self, from: NodeId, bytes: &[u8], now: Now) -> Result<bool, Unfit> {
        let context = self.users.context(self.clock.trusted(now));
        let links = Unverified::<NodeLinks>::parse(bytes)?.verify(&context)?;
        if links.node == self.node {
            self.answer_own_links(&links, now);
            return Ok(false);
        }
        let version = (links.at.millis, u64::from(links.at.counter));
        let (node, was_silent) = (links.node, self.gossip.is_silent(&links.node, now));
        let fresh = self.note(from, Key::Links(node), node, version, Body::Links(links), now);
        if fresh && was_silent {
            self.tell_of(node, from, now);
        }
        Ok(fresh)
    }

    fn accept_presence(&mut self, from: NodeId, bytes: Vec<u8>, now: Now) -> Result<bool, Unfit> {
        let presence = Unverified::<LinkPresence>::parse(&bytes)?;
        let device = presence.claim().device;
        let home = self.gossip.home(&device);
        if home.is_none() && !self.local_devices.contains_key(&device) {
            return Err(self.keep_early(device, from, bytes));
        }
        let presence = presence.verify(&self.users.context(self.clock.trusted(now)))?;
        let Some((_, node)) = home else {
            self.answer_own_presence(&presence, now);
            return Ok(false);
        };
        let fresh = self.note_presence(from, node, &presence, now);
        if fresh && self.is_present(&presence.device) {
            self.on_neighbour(presence);
        }
        Ok(fresh)
    }

    /// Takes in a verified link presence, from its own node or from another.
    pub(in crate::core) fn note_presence(
        &mut self,
        from: NodeId,
        node: NodeId,
        presence: &Verified<LinkPresence>,
        now: Now,
    ) -> bool {
        let version = (presence.at.millis, u64::from(presence.at.counter));
        self.note(from, Key::Shown(presence.device), node, version, Body::Shown(presence.clone()), now)
    }
}

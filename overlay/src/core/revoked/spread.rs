//! How revocations spread: at once as news on the link and to peers beyond it whom they concern; at each meeting by
//! comparing digests, so that who was away learns of them too. *Pure.*
//!
//! Of a peer beyond the link only those of users who have to do with that session, and of their authorities, are spoken of:
//! nobody else learns whom this node knows.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scope, Way};
use crate::core::gossip::{Budget, mark};
use crate::core::output::Verdict;
use crate::core::timers::Timer;
use crate::core::users::take_credit;
use crate::core::{Output, Overlay};
use crate::id::{NewsId, NodeId, UserId};
use crate::record::{NameCert, Record as _, Refusal, Revocation, Verified};
use crate::time::{Now, SECOND};
use crate::wire::{
    Frame, MAX_MARKS, MAX_REVOCATIONS, MAX_SCOPES, Mark, Revocations, RevokedDigest, RevokedList,
};

/// News that this node begins or tells on at once, …
const PASSING: u64 = 64;
/// … and one more in each of these. What is more is offered by digest.
const PASS: u64 = SECOND / 2;
/// News that a peer may bring at once, more than an honest one tells on, …
const BROUGHT: u64 = 512;
/// … and one more in each of these; with each further one it commits an offence.
const BRING: u64 = SECOND / 8;
/// Revocations that a peer is given at once, …
const SERVED: u64 = 8_192;
/// … and one more in each of these.
const SERVE: u64 = 16;
/// Bytes of revocations in one frame.
const BYTES: usize = 128 * 1_024;

impl Overlay {
    /// Tells those who may not have heard: as news what somebody here has made, else by digests.
    pub(super) fn tell_revocation(&mut self, revocation: &Verified<Revocation>, way: Way, now: Now) {
        let from = match way {
            Way::Own => None,
            Way::Peer(node) | Way::News(node) => Some(node),
            Way::Record => return,
        };
        for node in self.peers.ready() {
            let beyond = !self.peers.is_near(&node) && Some(node) != from;
            if beyond && self.concerns_peer(&node, &Scope::of(revocation)) {
                let records = vec![revocation.bytes().to_vec()];
                let frame = Frame::Revocations(Revocations { records, ..Revocations::default() });
                self.send_frame(node, &frame, false, now);
            }
        }
        let near = !self.peers.near().is_empty();
        match way {
            Way::Own if near && self.is_for_everybody(revocation) && self.may_pass(now) => {
                self.outputs.push_back(Output::Publish { news: revocation.bytes().to_vec() });
            }
            // What is learnt at a meeting is told by meetings: most often the others know it already.
            Way::Own | Way::Peer(_) => self.voids.untold |= near,
            Way::News(_) | Way::Record => {}
        }
    }

    /// News of somebody whom only we may know would tell the link whom we know.
    fn is_for_everybody(&self, revocation: &Revocation) -> bool {
        let user = revocation.user();
        let by_authority = matches!(Scope::of(revocation), Scope::Authority(_));
        by_authority || self.locals.contains_key(&user) || self.is_on_link(&user)
    }

    fn may_pass(&mut self, now: Now) -> bool {
        self.voids.passing.get_or_insert(Budget::full(PASSING, now)).take(PASSING, PASS, now)
    }

    /// What somebody published on the link: whether it is to be told on.
    pub(in crate::core) fn on_news(&mut self, node: NodeId, id: NewsId, bytes: &[u8], now: Now) {
        let verdict = self.judge_news(node, bytes, now);
        self.outputs.push_back(Output::Judged { node, id, verdict });
    }

    fn judge_news(&mut self, node: NodeId, bytes: &[u8], now: Now) -> Verdict {
        if !self.peers.is_near(&node) || !self.is_greeted(&node) {
            self.counters.drop("news before the Hello, or from beyond the link");
            return Verdict::Ignore;
        }
        let brought = self.voids.brought.entry(node).or_insert(Budget::full(BROUGHT, now));
        if !brought.take(BROUGHT, BRING, now) {
            self.offence(node, "more news than an honest node tells", now);
            return Verdict::Ignore;
        }
        if bytes.len() > Revocation::MAX_SIZE {
            self.offence(node, "news that are too large", now);
            return Verdict::Reject;
        }
        let name = mark(&[bytes]);
        if self.voids.holds(&name) {
            let passes = self.voids.was_fresh(&name, now) && self.may_pass(now);
            return if passes { Verdict::Accept } else { Verdict::Ignore };
        }
        if !self.peers.connected.get_mut(&node).is_some_and(|peer| take_credit(peer, now)) {
            // Nothing is lost: who has it is asked.
            self.counters.drop("news that came too fast");
            self.offer_soon(now);
            return Verdict::Ignore;
        }
        match self.take_revocation(bytes, Way::News(node), now) {
            Ok(true) if self.may_pass(now) => Verdict::Accept,
            Ok(true) => {
                self.offer_soon(now);
                Verdict::Ignore
            }
            Ok(false) => Verdict::Ignore,
            Err(refusal) => self.news_refused(node, &refusal, now),
        }
    }

    fn offer_soon(&mut self, now: Now) {
        self.voids.untold = true;
        self.timers.set_earlier(Timer::Revoked, now.mono + SECOND);
    }

    fn news_refused(&mut self, node: NodeId, refusal: &Refusal, now: Now) -> Verdict {
        let verdict = if refusal.is_offence() { Verdict::Reject } else { Verdict::Ignore };
        self.refused(node, refusal, now);
        verdict
    }

    /// Whether a scope may be spoken of with a peer.
    fn concerns_peer(&self, node: &NodeId, scope: &Scope) -> bool {
        let Some(peer) = self.peers.connected.get(node) else { return false };
        if peer.far.near {
            return true;
        }
        let mut users = peer.proven.keys().chain(&peer.told);
        match scope {
            Scope::User(user) => users.any(|other| other == user),
            Scope::Authority(authority) => users.any(|user| self.is_named_by(user, authority)),
        }
    }

    fn is_named_by(&self, user: &UserId, authority: &crate::id::AuthorityId) -> bool {
        let by = |name: &Verified<NameCert>| {
            self.users.is_same_authority(name.domain(), &name.authority, authority)
        };
        self.users.record(user).is_some_and(|record| record.names().values().any(by))
    }

    /// Says what we have, by digest, at the start of a session.
    pub(in crate::core) fn offer_revocations(&mut self, node: NodeId, now: Now) {
        let scopes = self.voids.scopes.iter().filter(|(scope, _)| self.concerns_peer(&node, scope));
        let digests: Vec<RevokedDigest> = scopes
            .take(MAX_SCOPES)
            .map(|(scope, known)| RevokedDigest { scope: scope.mark(), digest: digest(known) })
            .collect();
        if !digests.is_empty() {
            self.send_frame(node, &Frame::Revoked(digests), false, now);
        }
    }

    /// Where a peer's differ from ours, it is told which we have.
    pub(in crate::core) fn on_revoked(&mut self, node: NodeId, digests: &[RevokedDigest], now: Now) {
        let (mut lists, mut room) = (Vec::new(), MAX_MARKS);
        let offered: BTreeMap<Mark, Mark> = digests.iter().map(|one| (one.scope, one.digest)).collect();
        let pinned = self.pinned_scopes();
        for (mark, offered) in offered {
            let Some(scope) = self.scope_with(&mark, &pinned, &node) else { continue };
            let known = self.voids.scopes.get(&scope);
            if known.is_some_and(|known| digest(known) == offered) {
                continue;
            }
            let have: Vec<Mark> = known.into_iter().flat_map(BTreeMap::keys).copied().take(room).collect();
            let served = self.voids.served.entry(node).or_insert(Budget::full(SERVED, now));
            if !served.take(SERVED, SERVE, now) {
                self.counters.drop("revocations that a peer compares too often");
                break;
            }
            room -= have.len();
            lists.push(RevokedList { scope: mark, have });
        }
        if !lists.is_empty() {
            self.send_frame(
                node,
                &Frame::Revocations(Revocations { lists, answer: false, records: Vec::new() }),
                false,
                now,
            );
        }
    }

    fn pinned_scopes(&self) -> BTreeMap<Mark, Scope> {
        let pinned = self.users.authorities.values().filter(|known| known.is_pinned());
        let scopes = pinned.flat_map(|known| known.chain.keys()).map(Scope::Authority);
        scopes.map(|scope| (scope.mark(), scope)).collect()
    }

    /// The user or the authority with this mark, if it is known here and concerns a peer.
    fn scope_with(&self, mark: &Mark, pinned: &BTreeMap<Mark, Scope>, node: &NodeId) -> Option<Scope> {
        let user = self.voids.subjects.get(mark).map(|user| Scope::User(*user));
        user.or_else(|| pinned.get(mark).copied()).filter(|scope| self.concerns_peer(node, scope))
    }

    /// What a peer has, or lacks.
    pub(in crate::core) fn on_revocations(&mut self, node: NodeId, told: Revocations, now: Now) {
        let Revocations { lists, answer, records } = told;
        records.iter().for_each(|bytes| self.take_told(node, bytes, now));
        if lists.is_empty() {
            return;
        }
        let (mut lacking, mut wanted, mut room) = (Vec::new(), Vec::new(), MAX_MARKS);
        let (pinned, none) = (self.pinned_scopes(), BTreeMap::new());
        let lists: BTreeMap<Mark, Vec<Mark>> =
            lists.into_iter().map(|list| (list.scope, list.have)).collect();
        for (mark, have) in lists {
            let Some(scope) = self.scope_with(&mark, &pinned, &node) else { continue };
            let have: BTreeSet<Mark> = have.into_iter().collect();
            let known = self.voids.scopes.get(&scope).unwrap_or(&none);
            let lacks = known.iter().filter(|(mark, _)| !have.contains(*mark));
            lacking.extend(lacks.map(|(_, revocation)| revocation.bytes().to_vec()));
            if !answer && have.iter().any(|mark| !known.contains_key(mark)) {
                let ours: Vec<Mark> = known.keys().copied().take(room).collect();
                room -= ours.len();
                wanted.push(RevokedList { scope: mark, have: ours });
            }
        }
        self.give_revocations(node, lacking, wanted, now);
    }

    fn take_told(&mut self, node: NodeId, bytes: &[u8], now: Now) {
        if self.voids.holds(&mark(&[bytes])) {
            return;
        }
        if !self.peers.connected.get_mut(&node).is_some_and(|peer| take_credit(peer, now)) {
            return self.counters.drop("more records than a peer may send");
        }
        if let Err(refusal) = self.take_revocation(bytes, Way::Peer(node), now) {
            self.refused(node, &refusal, now);
        }
    }

    /// Sends a peer what it lacks, and asks for what we do.
    fn give_revocations(&mut self, node: NodeId, lacking: Vec<Vec<u8>>, lists: Vec<RevokedList>, now: Now) {
        let mut batch = Revocations { lists, answer: true, records: Vec::new() };
        let mut bytes = 0;
        for record in lacking {
            let served = self.voids.served.entry(node).or_insert(Budget::full(SERVED, now));
            if !served.take(SERVED, SERVE, now) {
                self.counters.drop("revocation that a peer asked for too fast");
                break;
            }
            bytes += record.len() + 4;
            batch.records.push(record);
            if batch.records.len() == MAX_REVOCATIONS || bytes > BYTES {
                let batch = std::mem::take(&mut batch);
                self.send_frame(node, &Frame::Revocations(batch), false, now);
                bytes = 0;
            }
        }
        if !batch.lists.is_empty() || !batch.records.is_empty() {
            self.send_frame(node, &Frame::Revocations(batch), false, now);
        }
    }
}

/// Names a set: its marks in order.
fn digest(known: &BTreeMap<Mark, Verified<Revocation>>) -> Mark {
    let marks: Vec<&[u8]> = known.keys().map(<[u8; 8]>::as_slice).collect();
    mark(&marks)
}

//! Other people: their records, names and authorities, and on which proven node they are live. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::peers::Peer;
use super::state::{CachedUserRecord, Provenance, STATE_VERSION};
use super::timers::Timer;
use super::{Output, Overlay, Reach, Restored, Write};
use crate::authority::{Chain, Held};
use crate::id::{AuthorityId, DeviceId, NodeId, UserId};
use crate::record::{
    Certificates, Context, DeviceCert, Introduction, NameCert, NodeBinding, Refusal, Revocation,
    RevocationSet, Unverified, UserRecord, Verified,
};
use crate::time::{Now, SECOND, TrustedTime};
use crate::wire::UserFrame;

/// Records a second that a peer may make us verify after its first many.
const CREDIT_PER_SECOND: u64 = 16;

#[derive(Debug)]
pub(super) struct Known {
    pub(super) record: UserRecord,
    /// Unix milliseconds of the last change.
    pub(super) changed: u64,
    /// Bytes that it was when it was taken in.
    size: usize,
}

#[derive(Debug)]
pub(super) struct Authority {
    pub(super) chain: Chain,
    pub(super) how: Provenance,
    /// What other authorities say of this domain, which has not ended.
    pub(super) introductions: Vec<Verified<Introduction>>,
    /// The highest serial of what this one says of others.
    pub(super) heard: u64,
}

impl Authority {
    /// Whether its word counts.
    pub(super) fn is_pinned(&self) -> bool {
        self.how != Provenance::FirstSight
    }
}

/// Everything verified that is known of people.
#[derive(Debug, Default)]
pub(super) struct Users {
    pub(super) known: BTreeMap<UserId, Known>,
    /// The sum of the sizes of `known`.
    bytes: usize,
    /// Those whom the node knows.
    kept: BTreeSet<UserId>,
    pub(super) by_device: BTreeMap<DeviceId, UserId>,
    /// Addresses given by pinned authorities.
    pub(super) holders: BTreeMap<String, Held>,
    pub(super) authorities: BTreeMap<String, Authority>,
    pub(super) alarmed: BTreeSet<(String, AuthorityId)>,
    pub(super) revocations: RevocationSet,
    /// Where devices are live.
    live: BTreeMap<DeviceId, NodeId>,
}

impl Certificates for Users {
    fn certificate(&self, device: &DeviceId) -> Option<&Verified<DeviceCert>> {
        let user = self.by_device.get(device)?;
        self.known.get(user)?.record.certificate(device)
    }
}

impl Users {
    pub(super) fn record(&self, user: &UserId) -> Option<&UserRecord> {
        self.known.get(user).map(|known| &known.record)
    }

    /// Bytes that are remembered of a user.
    pub(super) fn size_of(&self, user: &UserId) -> usize {
        self.known.get(user).map_or(0, |known| known.size)
    }

    pub(super) fn node_of(&self, device: &DeviceId) -> Option<NodeId> {
        self.live.get(device).copied()
    }

    /// The live devices of a user with their nodes.
    pub(super) fn live_devices(&self, user: &UserId) -> Vec<(DeviceId, NodeId)> {
        let devices = self.record(user).into_iter().flat_map(|record| record.devices().keys());
        devices.filter_map(|device| Some((*device, *self.live.get(device)?))).collect()
    }

    /// Whether the node knows a user.
    pub(super) fn is_kept(&self, user: &UserId) -> bool {
        self.kept.contains(user)
    }

    /// Those whom the node knows, in order.
    pub(super) fn kept_users(&self) -> Vec<UserId> {
        self.kept.iter().copied().collect()
    }

    pub(super) fn context(&self, time: TrustedTime) -> Context<'_> {
        Context { time, certificates: self, revocations: &self.revocations, enforce_end: true }
    }

    /// For what comes out of the own store or key files: neither its end nor a clock that was wrong when it was made is
    /// a reason to refuse it.
    pub(super) fn own_context(&self, time: TrustedTime) -> Context<'_> {
        let time = TrustedTime { latest: u64::MAX, ..time };
        Context { enforce_end: false, ..self.context(time) }
    }

    pub(super) fn is_pinned(&self, domain: &str, key: &AuthorityId) -> bool {
        let pinned = |known: &Authority| known.chain.holds(key) && known.is_pinned();
        self.authorities.get(domain).is_some_and(pinned)
    }

    /// Whether an authority that is pinned for the domain stands by the name.
    pub(super) fn is_vouched_for(&self, name: &NameCert) -> bool {
        let vouches = |known: &Authority| known.chain.vouches(name) && known.is_pinned();
        self.authorities.get(name.domain()).is_some_and(vouches)
    }

    /// Whether a name is one by the authority that is known for the domain, pinned or not.
    pub(super) fn may_count(&self, name: &NameCert) -> bool {
        self.authorities.get(name.domain()).is_some_and(|known| known.chain.vouches(name))
    }

    /// Whether an authority that is pinned for the domain has taken the address from the user, or whoever gave it has.
    fn is_taken_back(&self, name: &NameCert) -> bool {
        let revoked = |key| self.revocations.is_name_revoked(&name.address, &name.user, &key);
        let known = self.authorities.get(name.domain()).filter(|known| known.is_pinned());
        revoked(name.authority) || known.is_some_and(|known| known.chain.keys().any(revoked))
    }

    /// Whether two keys are known as of one authority.
    pub(super) fn is_same_authority(&self, domain: &str, one: &AuthorityId, other: &AuthorityId) -> bool {
        let holds = |known: &Authority| known.chain.holds(one) && known.chain.holds(other);
        one == other || self.authorities.get(domain).is_some_and(holds)
    }

    /// Whether a key is that of a domain of this node's users.
    pub(super) fn is_of_a_home(&self, key: &AuthorityId) -> bool {
        self.authorities.values().any(|known| known.chain.holds(key) && known.is_home())
    }

    /// Names that were not taken back, those by pinned authorities first.
    pub(super) fn names(&self, user: &UserId) -> Vec<&Verified<NameCert>> {
        let names = self.record(user).into_iter().flat_map(|record| record.names().values());
        let mut names: Vec<_> = names.filter(|name| !self.is_taken_back(name)).collect();
        // Of one address under several keys of an authority, the latest.
        names.sort_by_key(|name| {
            let known = self.authorities.get(name.domain());
            let age = known.and_then(|known| known.chain.age(&name.authority));
            (!self.is_vouched_for(name), age, std::cmp::Reverse(name.serial))
        });
        names
    }

    fn remember(&mut self, record: UserRecord, changed: u64) {
        for device in record.devices().keys() {
            self.by_device.insert(*device, record.user());
        }
        let (user, size) = (record.user(), record.encode().len());
        let before = self.known.insert(user, Known { record, changed, size });
        self.bytes = self.bytes - before.map_or(0, |known| known.size) + size;
    }

    fn forget(&mut self, user: &UserId) {
        if let Some(known) = self.known.remove(user) {
            self.bytes -= known.size;
            self.by_device.retain(|_, owner| owner != user);
            self.holders.retain(|_, holder| holder.user != *user);
        }
    }
}

impl Overlay {
    pub(super) fn restore_users(&mut self, restored: &Restored, now: Now) {
        for known in &restored.authorities {
            let how = Provenance::try_from(known.how).unwrap_or(Provenance::FirstSight);
            if let Some(key) = AuthorityId::from_slice(&known.authority) {
                let chain = self.restored_chain(key, &known.rotations, now);
                let introductions = self.restored_introductions(&known.introductions, now);
                let known_as = Authority { chain, how, introductions, heard: known.introduced_until };
                self.users.authorities.insert(known.domain.clone(), known_as);
            }
        }
        let time = self.clock.trusted(now);
        for bytes in &restored.revocations {
            let revocation = Unverified::<Revocation>::parse(bytes);
            match revocation.and_then(|revocation| revocation.verify(&self.users.own_context(time))) {
                Ok(revocation) if !self.users.revocations.is_full() => {
                    self.voids.insert(&revocation);
                    self.users.revocations.insert(revocation);
                }
                Ok(_) => self.counters.drop("no room for another revocation"),
                Err(_) => self.counters.drop("stored revocation"),
            }
        }
        for cached in restored.records.iter().take(self.limits.users) {
            match UserRecord::verify(&cached.record, &self.users.own_context(time)) {
                Ok(record) => {
                    self.voids.learn(record.user());
                    self.users.remember(record.clone(), cached.seen);
                    self.note_names(&record, now);
                }
                Err(_) => self.counters.drop("stored record"),
            }
        }
    }

    /// Users of a peer, each with the proof that it is there.
    pub(super) fn on_records(&mut self, node: NodeId, users: Vec<UserFrame>, now: Now) {
        let mut arrived = BTreeSet::new();
        for frame in users {
            if !self.peers.connected.get_mut(&node).is_some_and(|peer| take_credit(peer, now)) {
                self.counters.drop("more records than a peer may send");
                continue;
            }
            match self.on_record(node, &frame, now) {
                Ok(Some(user)) => drop(arrived.insert(user)),
                Ok(None) => {}
                Err(refusal) => self.refused(node, &refusal, now),
            }
        }
        if !arrived.is_empty() && !self.peers.is_near(&node) {
            self.offer_rotations(node, now);
            self.introduce(node, now);
            self.offer_revocations(node, now);
        }
        self.users_arrived(&arrived, now);
    }

    /// Returns the user if a device of it has just become live.
    fn on_record(&mut self, node: NodeId, frame: &UserFrame, now: Now) -> Result<Option<UserId>, Refusal> {
        let malformed = Refusal::Malformed { kind: "user-record", what: "user" };
        let user = UserRecord::claimed_user(&frame.record).ok_or(malformed)?;
        if self.crowds(&node, &user, frame.record.len()) {
            self.counters.drop("more bytes of records than a peer may have");
            return Ok(None);
        }
        let time = self.clock.trusted(now);
        let context = self.users.context(time);
        let record = UserRecord::verify_knowing(&frame.record, self.users.record(&user), &context)?;
        self.take_in(&record, now);
        let binding = Unverified::<NodeBinding>::parse(&frame.binding)?.verify(&self.users.context(time))?;
        if binding.node != node || binding.user != user {
            return Err(Refusal::WrongSigner { kind: "node-binding" });
        }
        if self.peers.is_near(&node) && self.note_user(node, &record, &binding, now) {
            self.survey_soon(now);
        }
        if binding.expires == binding.issued {
            return Ok(None);
        }
        Ok(self.prove(node, user, binding.device).then_some(user))
    }

    /// Merges a verified record into what is known and tells everybody whom that concerns.
    pub(super) fn take_in(&mut self, record: &UserRecord, now: Now) {
        let user = record.user();
        let merged = match self.users.record(&user) {
            Some(known) => {
                let mut merged = known.clone();
                if !merged.merge(record) {
                    return;
                }
                merged
            }
            None => record.clone(),
        };
        if !self.make_room_for_user(&user, merged.encode().len()) {
            return self.counters.drop("no room for the record of a user");
        }
        self.voids.learn(user);
        self.users.remember(merged, now.wall);
        self.outputs.push_back(Output::Write(Write::PutRecord(self.cached(&user, now))));
        self.note_names(record, now);
        self.take_revocations_of(record, now);
        self.own_devices_changed(&user, now);
        self.devices_changed(&user, now);
    }

    pub(super) fn cached(&self, user: &UserId, now: Now) -> CachedUserRecord {
        CachedUserRecord {
            version: STATE_VERSION,
            user: user.as_bytes().to_vec(),
            record: self.users.record(user).map(UserRecord::encode).unwrap_or_default(),
            seen: now.wall,
        }
    }

    pub(super) fn keep_user(&mut self, user: &UserId) {
        if self.users.kept.len() < self.limits.users {
            self.users.kept.insert(*user);
            // With the next timeout, which is now.
            self.timers.set_earlier(Timer::Survey, 0);
        } else if !self.users.kept.contains(user) {
            self.counters.drop("no room to keep another user");
        }
    }

    /// Whether a record would take bytes from others that one peer must not have.
    pub(super) fn crowds(&self, node: &NodeId, user: &UserId, size: usize) -> bool {
        let known = |user: &UserId| self.users.size_of(user);
        if self.users.bytes <= self.limits.user_bytes / 2 || size <= known(user) {
            return false;
        }
        let Some(peer) = self.peers.connected.get(node) else { return false };
        let rest = peer.proven.keys().filter(|other| *other != user).map(known).sum::<usize>();
        rest + peer.brought + size > self.limits.user_bytes / 4
    }

    /// Whether `size` bytes about a user fit, after forgetting those who changed longest ago; but nobody of this node,
    /// who is live, whom the node knows, or whom a message waits for. Users of this node always fit.
    fn make_room_for_user(&mut self, user: &UserId, size: usize) -> bool {
        loop {
            let before = self.users.known.get(user).map(|known| known.size);
            let one_more = before.is_none() && self.users.known.len() >= self.limits.users;
            let grown = size.saturating_sub(before.unwrap_or_default());
            if !one_more && (grown == 0 || self.users.bytes + grown <= self.limits.user_bytes) {
                return true;
            }
            let idle = self.users.known.iter().filter(|(other, _)| *other != user && self.is_idle(other));
            let Some(oldest) = idle.min_by_key(|(_, known)| known.changed).map(|(user, _)| *user) else {
                return self.locals.contains_key(user);
            };
            self.users.forget(&oldest);
            self.voids.unlearn(&oldest);
            self.outputs.push_back(Output::Write(Write::DeleteRecord(oldest)));
        }
    }

    fn is_idle(&self, user: &UserId) -> bool {
        !self.locals.contains_key(user)
            && !self.users.kept.contains(user)
            && !self.outbox.has_entries_for(user)
            && !self.is_on_link(user)
    }

    /// Marks a device live on a node; true if it was not.
    fn prove(&mut self, node: NodeId, user: UserId, device: DeviceId) -> bool {
        if self.local_devices.contains_key(&device) {
            self.counters.drop("somebody else has our device key");
            return false;
        }
        let limit = self.limits.users_per_peer;
        let Some(peer) = self.peers.connected.get(&node) else { return false };
        let here = peer.proven.get(&user).copied();
        if here == Some(device) {
            return false;
        }
        if here.is_none() && peer.proven.len() >= limit {
            self.counters.drop("more users than a peer may have");
            return false;
        }
        if self.users.live.contains_key(&device) {
            self.device_left(&device);
        }
        if let Some(before) = here {
            self.device_left(&before);
        }
        self.is_connected_now(&device);
        self.is_no_longer_found(&device);
        if let Some(peer) = self.peers.connected.get_mut(&node) {
            peer.proven.insert(user, device);
        }
        self.users.live.insert(device, node);
        self.outputs.push_back(Output::Reachable { user });
        true
    }

    fn users_arrived(&mut self, users: &BTreeSet<UserId>, now: Now) {
        if users.is_empty() {
            return;
        }
        self.push_presences(users, now);
        self.list_for_proven(users, now);
        for user in users {
            self.has_seen(user);
            self.want_tokens(user, now);
            self.pump_user(user, now);
            self.send_held(user, now);
        }
    }

    /// A device is no longer where it was.
    pub(super) fn device_left(&mut self, device: &DeviceId) {
        let Some(node) = self.users.live.remove(device) else { return };
        let Some(peer) = self.peers.connected.get_mut(&node) else { return };
        let Some(user) = self.users.by_device.get(device).copied() else { return };
        peer.proven.remove(&user);
        self.forget_flight(device, &node);
        if self.stays_present(device, &node) {
            return;
        }
        self.forget_presence(device);
        self.forget_neighbour(device);
        self.outputs.push_back(Output::Unreachable { user, device: *device });
    }

    /// Counts a record that does not count.
    pub(super) fn refused(&mut self, node: NodeId, refusal: &Refusal, now: Now) {
        if refusal.is_offence() {
            self.offence(node, "record that an honest peer never sends", now);
        } else {
            self.counters.drop("record that does not count now");
        }
    }

    pub(super) fn reach_of(&self, user: &UserId) -> Reach {
        match self.users.record(user) {
            None => Reach::Unknown,
            Some(_) if self.is_on_link(user) => Reach::Live,
            Some(_) => Reach::Known,
        }
    }
}

/// Takes one verification from what a peer may still make us do.
pub(super) fn take_credit(peer: &mut Peer, now: Now) -> bool {
    let earned = (now.mono - peer.credit_at) / SECOND * CREDIT_PER_SECOND;
    if earned > 0 {
        peer.credit = peer.credit.saturating_add(earned).min(4_096);
        peer.credit_at = now.mono;
    }
    let has = peer.credit > 0;
    peer.credit = peer.credit.saturating_sub(1);
    has
}

//! What is void: which revocations count here, and what they end. How they spread: `spread`. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::gossip::{Budget, Key, mark};
use super::timers::Timer;
use super::{Alarm, Output, Overlay, Write};
use crate::id::{AuthorityId, DeviceId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::record::{
    Refusal, Revocation, RevocationSet, Revoked, RevokedBy, Unverified, UserRecord, Verified, domain_of,
};
use crate::time::{Now, SECOND};
use crate::wire::Mark;

mod spread;

/// Revocations of one user's devices and names by that user, or by one authority, that are remembered at most.
const MAX_PER_USER: usize = 64;
/// News of what was learnt otherwise in so short a time are told on: its user's record may have been faster.
const FRESH: u64 = 10 * SECOND;
/// What was taken in is told to the hash table's store after so long, together.
const SETTLE: u64 = SECOND;

/// Whose word a revocation is: what is compared at a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    User(UserId),
    Authority(AuthorityId),
}

impl Scope {
    fn of(revocation: &Revocation) -> Self {
        match revocation.by {
            RevokedBy::User => Self::User(revocation.user()),
            RevokedBy::Authority(authority) => Self::Authority(authority),
        }
    }

    fn mark(&self) -> Mark {
        let (kind, id) = match self {
            Self::User(user) => (0, user.as_bytes()),
            Self::Authority(authority) => (1, authority.as_bytes()),
        };
        mark(&[b"crosstalk/1/revoked\0", &[kind], id])
    }
}

/// How a revocation came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody here made it.
    Own,
    /// A peer told us, which need not be told.
    Peer(NodeId),
    /// In a user's record, which spreads it by itself.
    Record,
    /// As news on the link, which are told on without our doing.
    News(NodeId),
}

/// What is void, by whose word it is; the same as [`super::users::Users::revocations`].
#[derive(Debug, Default)]
pub(super) struct Voids {
    scopes: BTreeMap<Scope, BTreeMap<Mark, Verified<Revocation>>>,
    /// Users known here, by the mark of what they may revoke.
    subjects: BTreeMap<Mark, UserId>,
    /// What was learnt otherwise than as news, and when: its news may be on their way.
    fresh: BTreeMap<Mark, u64>,
    /// More was taken in than may be told as news: peers are offered digests instead.
    untold: bool,
    /// News that are told on, all together.
    passing: Option<Budget>,
    /// News that each peer may bring.
    brought: BTreeMap<NodeId, Budget>,
    /// Statements that each peer is given.
    served: BTreeMap<NodeId, Budget>,
}

impl Voids {
    fn holds(&self, mark: &Mark) -> bool {
        self.scopes.values().any(|known| known.contains_key(mark))
    }

    pub(super) fn insert(&mut self, revocation: &Verified<Revocation>) {
        let known = self.scopes.entry(Scope::of(revocation)).or_default();
        known.retain(|_, other| other.what != revocation.what);
        known.insert(mark(&[revocation.bytes()]), revocation.clone());
    }

    fn remove(&mut self, revocation: &Verified<Revocation>) {
        let scope = Scope::of(revocation);
        let Some(known) = self.scopes.get_mut(&scope) else { return };
        known.remove(&mark(&[revocation.bytes()]));
        if known.is_empty() {
            self.scopes.remove(&scope);
        }
    }

    /// A user is known from now on.
    pub(super) fn learn(&mut self, user: UserId) {
        self.subjects.insert(Scope::User(user).mark(), user);
    }

    /// And not any more.
    pub(super) fn unlearn(&mut self, user: &UserId) {
        self.subjects.remove(&Scope::User(*user).mark());
    }

    /// Whether this was learnt a moment ago, and not as news; once.
    fn was_fresh(&mut self, mark: &Mark, now: Now) -> bool {
        self.fresh.remove(mark).is_some_and(|at| now.mono < at + FRESH)
    }

    pub(super) fn forget_peer(&mut self, peer: &NodeId) {
        self.brought.remove(peer);
        self.served.remove(peer);
    }
}

impl Overlay {
    /// Takes in a signed [`Revocation`], of a device, a name or the key of anybody; true if it was new. It is kept,
    /// followed everywhere, and told to everybody whom it concerns. By an authority it counts only if that one
    /// is pinned for the name, or for a name of the device's user; by a user, if that one is known here.
    pub fn add_revocation(&mut self, bytes: &[u8], now: Now) -> Result<bool, Refusal> {
        self.take_revocation(bytes, Way::Own, now)
    }

    /// All that is void.
    pub fn revocations(&self) -> &RevocationSet {
        &self.users.revocations
    }

    /// A signed revocation; true if it is news.
    pub(super) fn take_revocation(&mut self, bytes: &[u8], way: Way, now: Now) -> Result<bool, Refusal> {
        if self.voids.holds(&mark(&[bytes])) {
            return Ok(false);
        }
        let time = self.clock.trusted(now);
        let revocation = Unverified::<Revocation>::parse(bytes)?.verify(&self.users.context(time))?;
        self.may_revoke(&revocation)?;
        Ok(self.revoke(&revocation, way, now))
    }

    /// An authority revokes under the domain that it is pinned for, and devices only of users whom it named, as far as they
    /// are known: who has not met them yet is told of a lost laptop of its own domain before it comes. A user that is known here its own
    /// devices. Whoever tells of others may know more than we do: that is no offence.
    fn may_revoke(&self, revocation: &Revocation) -> Result<(), Refusal> {
        let user = revocation.user();
        let pinned = |address: &str, authority| {
            domain_of(address).is_some_and(|domain| self.users.is_pinned(domain, authority))
        };
        let allowed = match (&revocation.by, &revocation.what) {
            (RevokedBy::User, _) => self.locals.contains_key(&user) || self.users.record(&user).is_some(),
            (RevokedBy::Authority(_), Revoked::User(_)) => false,
            (RevokedBy::Authority(authority), Revoked::Name(address, _)) => pinned(address, authority),
            (RevokedBy::Authority(authority), Revoked::Device(..)) => {
                let named = |record: &UserRecord| {
                    let mut names = record.names().values();
                    names.any(|name| {
                        pinned(&name.address, authority)
                            && self.users.is_same_authority(name.domain(), &name.authority, authority)
                    })
                };
                self.users.record(&user).map_or_else(|| self.users.is_of_a_home(authority), named)
            }
        };
        if allowed { Ok(()) } else { Err(Refusal::NoCertificate { kind: "revocation" }) }
    }

    /// What the record of a user says itself.
    pub(super) fn take_revocations_of(&mut self, record: &UserRecord, now: Now) {
        for revocation in record.revocations() {
            if !self.voids.holds(&mark(&[revocation.bytes()])) {
                self.revoke(revocation, Way::Record, now);
            }
        }
    }

    /// Takes in a verified one that counts here: kept, followed, told on. False: nothing new, or no room.
    fn revoke(&mut self, revocation: &Verified<Revocation>, way: Way, now: Now) -> bool {
        if is_on(Mutant::LostBelieved) {
            return false;
        }
        if !self.has_room_for(revocation) {
            self.counters.drop("no room for another revocation");
            return false;
        }
        let same = |known: &&Verified<Revocation>| known.what == revocation.what && known.by == revocation.by;
        let before = self.users.revocations.iter().find(same).cloned();
        if !self.users.revocations.insert(revocation.clone()) {
            return false;
        }
        if let Some(before) = &before {
            self.outputs.push_back(Output::Write(Write::DeleteRevocation(before.bytes().to_vec())));
        }
        self.voids.insert(revocation);
        self.voids.fresh.retain(|_, at| now.mono < *at + FRESH);
        if !matches!(way, Way::News(_)) {
            self.voids.fresh.insert(mark(&[revocation.bytes()]), now.mono);
        }
        self.outputs.push_back(Output::Write(Write::PutRevocation(revocation.bytes().to_vec())));
        if before.is_none() {
            match &revocation.what {
                Revoked::Device(user, device) => self.end_device(user, device, revocation, now),
                Revoked::Name(address, user) => self.end_name(address, user, now),
                Revoked::User(user) => self.end_user(user, revocation, now),
            }
        }
        self.tell_revocation(revocation, way, now);
        self.timers.set_earlier(Timer::Revoked, now.mono + SETTLE);
        true
    }

    /// Whether one more fits, after forgetting those of users who are not known any more.
    fn has_room_for(&mut self, revocation: &Verified<Revocation>) -> bool {
        let scope = Scope::of(revocation);
        let of_user = |known: &&Verified<Revocation>| known.user() == revocation.user();
        let count = self.voids.scopes.get(&scope).map_or(0, |known| known.values().filter(of_user).count());
        // Whoever has stolen a key can't use up the room for the word that it was.
        if count >= MAX_PER_USER && !matches!(revocation.what, Revoked::User(_)) {
            return false;
        }
        while self.users.revocations.is_full() {
            let known = |user: &UserId| self.locals.contains_key(user) || self.users.record(user).is_some();
            let strange = |known_one: &&Verified<Revocation>| {
                known_one.by == RevokedBy::User && !known(&known_one.user())
            };
            let Some(oldest) =
                self.users.revocations.iter().filter(strange).min_by_key(|one| one.since).cloned()
            else {
                return false;
            };
            self.users.revocations.remove(&oldest);
            self.voids.remove(&oldest);
            self.outputs.push_back(Output::Write(Write::DeleteRevocation(oldest.bytes().to_vec())));
        }
        true
    }

    /// Everything that a device was believed for ends.
    fn end_device(&mut self, user: &UserId, device: &DeviceId, by: &Verified<Revocation>, now: Now) {
        self.gossip.remove(&Key::User(*device));
        self.gossip.remove(&Key::Shown(*device));
        self.device_left(device);
        self.end_membership(device);
        self.hide_found(device);
        self.forget_access(user, device);
        self.drop_early_of(device);
        let mut was_known = self.locals.get(user).is_some_and(|local| local.device.id() == *device);
        if let Some(known) = self.users.known.get_mut(user) {
            was_known |= known.record.devices().contains_key(device);
            let changed = known.record.add_revocation(by.clone()) | known.record.remove_device(device);
            self.users.by_device.remove(device);
            if changed {
                self.outputs.push_back(Output::Write(Write::PutRecord(self.cached(user, now))));
            }
        }
        self.drop_copies_to(user, device, now);
        self.forget_audience_of(user, device, was_known, now);
        match self.locals.get_mut(user) {
            Some(local) if local.device.id() == *device => {
                local.shown = super::locals::Shown::default();
                self.stop_lanes_of(device, now);
                self.outputs.push_back(Output::Revoked { user: *user });
            }
            // What the others are told of it from now on says so.
            Some(_) => self.renew_records(user, now),
            None => {}
        }
        self.timers.set_earlier(Timer::Sweep, now.mono + SECOND);
    }

    /// Everything that a user key and whatever it certified was believed for ends.
    fn end_user(&mut self, user: &UserId, by: &Verified<Revocation>, now: Now) {
        self.fail_entries_to(user, now);
        let devices = self.users.by_device.iter().filter(|(_, owner)| *owner == user);
        let own = self.locals.get(user).map(|local| local.device.id());
        let devices: BTreeSet<DeviceId> = devices.map(|(device, _)| *device).chain(own).collect();
        for device in &devices {
            self.end_device(user, device, by, now);
        }
        if let Some(known) = self.users.known.get_mut(user)
            && known.record.add_revocation(by.clone())
        {
            self.outputs.push_back(Output::Write(Write::PutRecord(self.cached(user, now))));
        }
        self.users.holders.retain(|_, holder| holder.user != *user);
        if self.locals.contains_key(user) {
            self.publish_user(user, now);
        } else if self.users.is_kept(user) {
            self.outputs.push_back(Output::Alarm(Alarm::Compromised { user: *user }));
        }
    }

    fn end_name(&mut self, address: &str, user: &UserId, now: Now) {
        self.users.holders.retain(|held, holder| held != address || holder.user != *user);
        let own = self
            .locals
            .get_mut(user)
            .filter(|local| local.name.as_ref().is_some_and(|name| name.address == address));
        if let Some(local) = own {
            local.name = None;
            self.outputs.push_back(Output::Alarm(Alarm::NameRevoked { address: address.to_owned() }));
            self.renew_records(user, now);
        }
    }

    /// Says what values of the hash table are to be judged by.
    pub(super) fn tell_judge(&mut self, now: Now) {
        let (time, revocations) = (self.clock.trusted(now), Box::new(self.users.revocations.clone()));
        self.outputs.push_back(Output::Judge { time, revocations });
    }

    /// What was taken in lately is what values of the hash table are judged by, and is offered if it was too much to tell.
    pub(super) fn on_revoked_timer(&mut self, now: Now) {
        self.tell_judge(now);
        if std::mem::take(&mut self.voids.untold) {
            for node in self.peers.near() {
                self.offer_revocations(node, now);
            }
        }
    }
}

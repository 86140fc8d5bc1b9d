//! Presence for contacts: ours signed and pushed to those who may see it, theirs taken in, newest only. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::locals::Local;
use super::timers::{Timer, on_grid};
use super::{Output, Overlay};
use crate::dht::PRESENCE_AGAIN;
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::Signs as _;
use crate::record::{PresenceRecord, PresenceSession, Record as _, Unverified, Verified};
use crate::time::{Hlc, Now};
use crate::wire::{Frame, MAX_WATCHERS};

/// How long a presence record counts; it is told again at half of it.
const LIFE: u64 = PresenceRecord::MAX_LIFE;
const REFRESH: u64 = PRESENCE_AGAIN;
/// What is remembered of presences: so many pairs of a user here and a device elsewhere, …
const MAX_SHOWN: usize = 65_536;
/// … and so many bytes of their resources; the oldest go. A stanza for a resource that is not remembered goes to all live
/// devices of its user.
const MAX_SHOWN_BYTES: usize = 4 * 1_024 * 1_024;

/// The newest that was shown to one user of one device.
#[derive(Debug)]
struct Newest {
    at: Hlc,
    /// Whether the device said it on a session.
    live: bool,
    /// Its place in the order of arrival.
    turn: u64,
    resources: Vec<String>,
}

impl Newest {
    fn bytes(&self) -> usize {
        self.resources.iter().map(|resource| resource.len() + size_of::<String>()).sum()
    }
}

/// Presences of others: device elsewhere, user here.
#[derive(Debug, Default)]
pub(super) struct Presences {
    shown: BTreeMap<(DeviceId, UserId), Newest>,
    /// The same, oldest first.
    turns: BTreeMap<u64, (DeviceId, UserId)>,
    next_turn: u64,
    bytes: usize,
}

impl Presences {
    /// Whether a device is known to have this session, as far as `to` may see.
    pub(super) fn has_resource(&self, device: &DeviceId, to: &UserId, resource: &str) -> bool {
        self.shown.get(&(*device, *to)).is_some_and(|shown| shown.resources.iter().any(|one| one == resource))
    }

    /// Whether anybody here was shown a device's presence.
    pub(super) fn shows(&self, device: &DeviceId) -> bool {
        self.of(device).next().is_some()
    }

    /// Whether all that was shown of a device was said before.
    pub(super) fn is_before(&self, device: &DeviceId, at: Hlc) -> bool {
        self.of(device).all(|(_, newest)| newest.at < at)
    }

    /// What was shown of a device, to whom.
    fn of(&self, device: &DeviceId) -> impl Iterator<Item = (&(DeviceId, UserId), &Newest)> {
        let (low, high) = (UserId::from_bytes([0; 32]), UserId::from_bytes([0xff; 32]));
        self.shown.range((*device, low)..=(*device, high))
    }

    /// Takes the newest in, and forgets the oldest if there is no room.
    fn remember(&mut self, key: (DeviceId, UserId), (at, live): (Hlc, bool), resources: Vec<String>) {
        self.forget(&key);
        self.next_turn += 1;
        let newest = Newest { at, live, turn: self.next_turn, resources };
        self.bytes += newest.bytes();
        self.turns.insert(newest.turn, key);
        self.shown.insert(key, newest);
        while self.shown.len() > MAX_SHOWN || self.bytes > MAX_SHOWN_BYTES {
            let Some((_, oldest)) = self.turns.first_key_value() else { return };
            self.forget(&oldest.clone());
        }
    }

    fn forget(&mut self, key: &(DeviceId, UserId)) {
        if let Some(newest) = self.shown.remove(key) {
            self.turns.remove(&newest.turn);
            self.bytes -= newest.bytes();
        }
    }
}

impl Overlay {
    pub(super) fn change_presence(
        &mut self,
        user: &UserId,
        sessions: Vec<PresenceSession>,
        watchers: Vec<UserId>,
        now: Now,
    ) {
        let sessions = PresenceRecord::fit(sessions);
        let watchers: BTreeSet<UserId> = watchers.into_iter().collect();
        let Some(local) = self.locals.get_mut(user) else { return };
        if local.is_void(&self.users.revocations) {
            return;
        }
        local.shown.stated = true;
        let before = std::mem::replace(&mut local.shown.watchers, watchers.clone());
        let changed = local.shown.presence.is_none() || local.shown.sessions != sessions;
        local.shown.sessions = sessions;
        let added: BTreeSet<UserId> = watchers.difference(&before).copied().collect();
        let removed: BTreeSet<UserId> = before.difference(&watchers).copied().collect();
        if !added.is_empty() {
            self.survey_soon(now);
        }
        added.iter().for_each(|watcher| self.introduce_to(watcher, now));
        self.check_audience(user, now);
        self.tell_offline(user, &removed, now);
        if changed {
            self.sign_presence(user, now);
            self.publish_presence(user, now);
            self.timers.set_earlier(Timer::Seek, now.mono);
        }
        self.push_presence(user, if changed { &watchers } else { &added }, now);
        self.timers.set_earlier(Timer::Presence, on_grid(now.mono + REFRESH, REFRESH));
    }

    pub(super) fn sign_presence(&mut self, user: &UserId, now: Now) {
        let at = self.tick(now);
        if let Some(local) = self.locals.get_mut(user) {
            let sessions = local.shown.sessions.clone();
            local.shown.presence = presence(local, *user, sessions, at).map(|record| (record, now.mono));
        }
    }

    /// Pushes a user's presence once more to one of its watchers, who has come to see it by a new device.
    pub fn show_presence_again(&mut self, user: &UserId, watcher: &UserId, now: Now) {
        // Signed anew: what was seen before by that node, when nobody there might see it, is no news.
        self.sign_presence(user, now);
        self.push_presence(user, &BTreeSet::from([*watcher]), now);
    }

    /// Pushes one user's presence to those of `watchers` who are live.
    pub(super) fn push_presence(&mut self, user: &UserId, watchers: &BTreeSet<UserId>, now: Now) {
        let signed =
            self.locals.get(user).and_then(|local| local.shown.presence.as_ref()).map(|(_, signed)| *signed);
        if signed.is_some_and(|signed| signed + REFRESH <= now.mono) {
            self.sign_presence(user, now);
        }
        let record = self.locals.get(user).and_then(|local| local.shown.presence.as_ref());
        if let Some(record) = record.map(|(record, _)| record.bytes().to_vec()) {
            self.show(&record, watchers, now);
        }
    }

    fn show(&mut self, record: &[u8], watchers: &BTreeSet<UserId>, now: Now) {
        let mut by_node: BTreeMap<NodeId, Vec<UserId>> = BTreeMap::new();
        for watcher in watchers {
            for (_, node) in self.users.live_devices(watcher) {
                by_node.entry(node).or_default().push(*watcher);
            }
        }
        for (node, watchers) in by_node {
            for to in watchers.chunks(MAX_WATCHERS) {
                let frame = Frame::Presence { to: to.to_vec(), record: record.to_vec() };
                self.send_frame(node, &frame, false, now);
            }
        }
    }

    /// Tells people who may no longer see a user's presence that the user is offline.
    pub(super) fn tell_offline(&mut self, user: &UserId, watchers: &BTreeSet<UserId>, now: Now) {
        if watchers.is_empty() {
            return;
        }
        let at = self.tick(now);
        let Some(local) = self.locals.get(user) else { return };
        if let Some(record) = presence(local, *user, Vec::new(), at) {
            self.show(record.bytes(), watchers, now);
        }
    }

    /// Users who have just become live get the presence of those whom they watch.
    pub(super) fn push_presences(&mut self, arrived: &BTreeSet<UserId>, now: Now) {
        let watched =
            |local: &Local| local.shown.presence.is_some() && !local.shown.watchers.is_disjoint(arrived);
        let users: Vec<UserId> =
            self.locals.iter().filter(|(_, local)| watched(local)).map(|(user, _)| *user).collect();
        for user in users {
            let watchers =
                self.locals.get(&user).map(|local| &local.shown.watchers & arrived).unwrap_or_default();
            self.push_presence(&user, &watchers, now);
        }
    }

    pub(super) fn on_presence_timer(&mut self, now: Now) {
        let there = |local: &Local| !local.shown.sessions.is_empty();
        let users: Vec<(UserId, BTreeSet<UserId>)> = self
            .locals
            .iter()
            .filter(|(_, local)| there(local))
            .map(|(user, local)| (*user, local.shown.watchers.clone()))
            .collect();
        for (user, watchers) in &users {
            if watchers.iter().any(|watcher| !self.users.live_devices(watcher).is_empty()) {
                self.sign_presence(user, now);
                self.push_presence(user, watchers, now);
            }
        }
        if !users.is_empty() {
            self.timers.set(Timer::Presence, on_grid(now.mono + 1, REFRESH));
        }
    }

    pub(super) fn on_presence(&mut self, node: NodeId, to: Vec<UserId>, bytes: &[u8], now: Now) {
        let time = self.clock.trusted(now);
        let record = Unverified::<PresenceRecord>::parse(bytes);
        let record = match record.and_then(|record| record.verify(&self.users.context(time))) {
            Ok(record) => record,
            Err(refusal) => return self.refused(node, &refusal, now),
        };
        if self.users.node_of(&record.device) != Some(node) {
            return self.unproven(node, now);
        }
        for to in to.into_iter().filter(|to| self.locals.contains_key(to)).collect::<Vec<_>>() {
            self.show_locally(to, &record, true);
        }
    }

    pub(super) fn show_locally(&mut self, to: UserId, record: &Verified<PresenceRecord>, live: bool) {
        let key = (record.device, to);
        // What was found already is news once more when its device says it.
        let known = |shown: &Newest| (shown.at, shown.live) >= (record.at, live);
        if self.presences.shown.get(&key).is_some_and(known) {
            return self.counters.drop("presence that is not newer");
        }
        let resources = record.sessions.iter().map(|session| session.resource.clone()).collect();
        self.presences.remember(key, (record.at, live), resources);
        self.outputs.push_back(Output::Presence { to, from: record.user, record: record.clone(), live });
    }

    /// A device is no longer live: what it showed is unknown now, and what it shows next is new.
    pub(super) fn forget_presence(&mut self, device: &DeviceId) {
        let keys: Vec<_> = self.presences.of(device).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.presences.forget(key));
    }
}

fn presence(
    local: &Local,
    user: UserId,
    sessions: Vec<PresenceSession>,
    at: Hlc,
) -> Option<Verified<PresenceRecord>> {
    let device = DeviceId::from_bytes(local.device.public());
    let record = PresenceRecord { user, device, at, expires: at.millis.saturating_add(LIFE), sessions };
    Verified::sign(record, &local.device, None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> (DeviceId, UserId) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        (DeviceId::from_bytes([1; 32]), UserId::from_bytes(bytes))
    }

    fn show(presences: &mut Presences, number: usize, millis: u64, resources: &[&str]) {
        let resources = resources.iter().map(|resource| (*resource).to_owned()).collect();
        presences.remember(key(number), (Hlc { millis, counter: 0 }, true), resources);
    }

    fn has(presences: &Presences, number: usize, resource: &str) -> bool {
        presences.has_resource(&key(number).0, &key(number).1, resource)
    }

    #[test]
    fn resources_of_any_size_take_a_known_amount_of_memory_and_the_oldest_go() {
        let mut presences = Presences::default();
        let long = "x".repeat(1_023);
        show(&mut presences, 0, 1, &["desk"]);
        show(&mut presences, 1, 1, &[&long[..]; 16]);
        show(&mut presences, 0, 2, &["phone"]);
        for number in 2..300 {
            show(&mut presences, number, 1, &[&long[..]; 16]);
            assert!(presences.bytes <= MAX_SHOWN_BYTES);
            if !presences.shown.contains_key(&key(1)) {
                break;
            }
        }
        assert!(!has(&presences, 1, &long), "the oldest has gone");
        assert!(has(&presences, 0, "phone") && !has(&presences, 0, "desk"), "news is young");
        assert!(has(&presences, presences.shown.len(), &long), "the newest stays");
    }

    #[test]
    fn presences_are_bounded_by_number_and_what_is_forgotten_gives_its_room_back() {
        let mut presences = Presences::default();
        for number in 0..=MAX_SHOWN {
            show(&mut presences, number, 1, &["desk"]);
        }
        assert_eq!(presences.shown.len(), MAX_SHOWN);
        assert!(!has(&presences, 0, "desk") && has(&presences, MAX_SHOWN, "desk"));
        (0..=MAX_SHOWN).for_each(|number| presences.forget(&key(number)));
        assert_eq!((presences.bytes, presences.turns.len()), (0, 0));
    }
}

//! What is known of the devices of users elsewhere. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::record::{PresenceRecord, PresenceSession, Verified};

use super::super::early::Early;

/// Devices of a user whose presence is kept.
const MOST_DEVICES: usize = 16;

/// The newest presence of each device of users elsewhere.
#[derive(Debug, Default)]
pub(in crate::core) struct RemotePresence {
    pub(super) devices: BTreeMap<(UserId, DeviceId), Known>,
    /// Resources that the store named at the start: clients of before a restart may show them until they are told.
    former: BTreeMap<UserId, BTreeSet<String>>,
    pub(super) early: Early,
}

/// A presence record and whether it still speaks for now.
#[derive(Debug)]
pub(in crate::core) struct Known {
    pub(in crate::core) record: Verified<PresenceRecord>,
    /// Unix milliseconds.
    pub(in crate::core) seen: u64,
    /// The record has not outlived itself, and the device is on a live node or was found in the hash table.
    pub(in crate::core) current: bool,
    /// Unix milliseconds at which the device said it, if it was found and nobody has heard the device itself since.
    pub(super) said: Option<u64>,
    /// Monotonic milliseconds at which it outlives itself.
    pub(super) until: u64,
    /// Users here whom the device shows it to: others on this node may be blocked there.
    pub(super) viewers: BTreeSet<UserId>,
}

impl RemotePresence {
    /// A record that speaks for no session now: from before a restart, or an own one, kept for what it says after the
    /// next. What is here of this node's users, sessions say.
    pub(in crate::core) fn restore(&mut self, record: Verified<PresenceRecord>, seen: u64) {
        self.devices.insert(
            (record.user, record.device),
            Known { record, seen, current: false, said: None, until: 0, viewers: BTreeSet::new() },
        );
    }

    /// Clients of before a restart may come back: what is known now stays in mind until they were told.
    pub(in crate::core) fn keep_former(&mut self) {
        for known in self.devices.values() {
            let resources = known.record.sessions.iter().map(|session| session.resource.clone());
            self.former.entry(known.record.user).or_default().extend(resources);
        }
    }

    /// Whether clients of before a restart may show a session of a user that a record does not name.
    pub(super) fn is_owed(&self, record: &PresenceRecord) -> bool {
        let named = |resource: &String| record.sessions.iter().any(|session| session.resource == *resource);
        self.former.get(&record.user).is_some_and(|former| !former.iter().all(named))
    }

    /// Nobody has to be told any more. Returns of whom.
    pub(super) fn take_former(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.former).into_keys().collect()
    }

    /// How many devices are known, of all users.
    pub(in crate::core) fn len(&self) -> usize {
        self.devices.len()
    }

    /// The devices of a user that are known.
    pub(super) fn of(&self, user: &UserId) -> impl Iterator<Item = (DeviceId, &Known)> {
        let range = (*user, DeviceId::from_bytes([0; 32]))..=(*user, DeviceId::from_bytes([255; 32]));
        self.devices.range(range).map(|((_, device), known)| (*device, known))
    }

    /// What its devices said, as it was signed, of which a viewer is to learn nothing any more: it is shown, or counts no more.
    pub(in crate::core) fn settled(
        &self,
        user: &UserId,
        viewer: &UserId,
        wall: u64,
    ) -> impl Iterator<Item = &[u8]> {
        let shown = |known: &Known| known.current && known.viewers.contains(viewer);
        let settled = move |known: &Known| shown(known) || known.seen + known.record.life() <= wall;
        self.of(user).filter(move |(_, known)| settled(known)).map(|(_, known)| known.record.bytes())
    }

    /// The device that gives way to one more of its user: unheard of for longest.
    pub(super) fn surplus(&self, user: &UserId) -> Option<DeviceId> {
        let full = self.of(user).count() >= MOST_DEVICES;
        let oldest = self.of(user).min_by_key(|(_, known)| (known.current, known.seen));
        oldest.filter(|_| full).map(|(device, _)| device)
    }

    /// Sessions of a user that a viewer is shown now, and when that was said if nobody has heard it.
    pub(super) fn sessions_for(
        &self,
        user: &UserId,
        viewer: &UserId,
    ) -> impl Iterator<Item = (&PresenceSession, Option<u64>)> {
        let shown = self.current(user).filter(|known| known.viewers.contains(viewer));
        shown.flat_map(|known| known.record.sessions.iter().map(|session| (session, known.said)))
    }

    /// What speaks for now of a user.
    fn current(&self, user: &UserId) -> impl Iterator<Item = &Known> {
        self.of(user).map(|(_, known)| known).filter(|known| known.current)
    }

    /// Resources that were last known of a user, here now or not.
    pub(super) fn resources(&self, user: &UserId) -> BTreeSet<String> {
        let last = self.of(user).flat_map(|(_, known)| &known.record.sessions);
        let former = self.former.get(user).into_iter().flatten().cloned();
        last.map(|session| session.resource.clone()).chain(former).collect()
    }

    /// Whether a user has a session somewhere else now.
    pub(in crate::core) fn is_online(&self, user: &UserId) -> bool {
        self.current(user).any(|known| !known.record.sessions.is_empty())
    }

    /// When the newest record of a user came, unix milliseconds.
    pub(in crate::core) fn last_seen(&self, user: &UserId) -> Option<u64> {
        self.of(user).map(|(_, known)| known.seen).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosstalk_overlay::keys::DeviceKey;
    use crosstalk_overlay::time::Hlc;

    fn record(number: u8) -> Verified<PresenceRecord> {
        let (key, user) = (DeviceKey::from_seed([number; 32]), UserId::from_bytes([1; 32]));
        let at = Hlc { millis: 1, counter: 0 };
        let record = PresenceRecord { user, device: key.id(), at, expires: 2, sessions: Vec::new() };
        Verified::sign(record, &key, None).unwrap()
    }

    /// A contact with ever new device keys takes no more room than one with as many as a user may have.
    #[test]
    fn the_device_unheard_of_for_longest_gives_way() {
        let (mut known, user) = (RemotePresence::default(), UserId::from_bytes([1; 32]));
        for number in 0..u8::try_from(MOST_DEVICES).unwrap() {
            assert_eq!(known.surplus(&user), None);
            known.restore(record(number), 1_000 - u64::from(number));
        }
        let oldest = record(u8::try_from(MOST_DEVICES).unwrap() - 1).device;
        assert_eq!(known.surplus(&user), Some(oldest));
        known.devices.get_mut(&(user, oldest)).unwrap().current = true;
        assert_ne!(known.surplus(&user), Some(oldest));
        assert_eq!(known.surplus(&UserId::from_bytes([2; 32])), None);
    }
}

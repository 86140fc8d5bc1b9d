//! When contacts elsewhere were seen last: what their devices said is kept with its age, across restarts (XEP-0012, `contact list`). *Pure.*

use std::collections::BTreeSet;

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::{PresenceRecord, Verified};
use crosstalk_storage::tree::presence::{StoredPresence, key};
use crosstalk_storage::{Tree, encode};

use crate::core::Core;

impl Core {
    /// What a device said once speaks for no session now, and says when its user was here.
    pub(super) fn was_seen(&mut self, record: Verified<PresenceRecord>, then: u64) {
        let known = self.remote_presence.devices.get(&(record.user, record.device));
        if known.is_some_and(|known| known.record.at >= record.at) {
            return;
        }
        self.remote_unknown(record.user, record.device);
        self.save_presence(&record, then);
        self.remote_presence.restore(record, then);
    }

    /// A record is of low value, but for the resources that it names: after a restart they say whom clients still show.
    /// So what the store names stays in it while such a client is to be told of it: there may be another restart.
    pub(super) fn save_presence(&mut self, record: &Verified<PresenceRecord>, seen: u64) {
        if self.remote_presence.is_owed(record) {
            return;
        }
        let stored = StoredPresence { record: record.bytes().to_vec(), seen };
        let key = key(record.user.as_bytes(), record.device.as_bytes());
        let resources = |record: &PresenceRecord| -> BTreeSet<String> {
            record.sessions.iter().map(|session| session.resource.clone()).collect()
        };
        let before = self.remote_presence.devices.get(&(record.user, record.device));
        match before.is_some_and(|before| resources(&before.record) == resources(record)) {
            true => self.put_lazily(Tree::Presence, key, encode(&stored)),
            false => self.writes.put(Tree::Presence, key, encode(&stored)),
        }
    }

    /// A client of before a restart is back, or will not be: if it was the last of them, what is known now is stored again.
    pub(in crate::core) fn former_told(&mut self) {
        if self.sessions.values().any(|session| session.restored) {
            return;
        }
        for user in self.remote_presence.take_former() {
            let known = self.remote_presence.of(&user).map(|(_, known)| (known.record.clone(), known.seen));
            for (record, seen) in known.collect::<Vec<_>>() {
                self.save_presence(&record, seen);
            }
        }
    }

    /// When a user was last seen, unix milliseconds.
    pub(crate) fn last_seen(&self, user: &UserId) -> Option<u64> {
        match self.accounts.get(user) {
            Some(account) => Some(account.stored.last_logout).filter(|at| *at > 0),
            None => self.remote_presence.last_seen(user),
        }
    }
}

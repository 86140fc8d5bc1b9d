//! Presences that came before it was known here that they may be seen, which another device of the user knows. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::record::{PresenceRecord, Verified};

/// So many are kept; further ones come again with their next change.
const EARLY: usize = 1_024;
/// They count for so long, milliseconds; a new one comes then.
const EARLY_LIFE: u64 = 300_000;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// By user and device, and by who is to see it.
    all: BTreeMap<(UserId, DeviceId, UserId), Arrived>,
}

#[derive(Debug)]
struct Arrived {
    /// Monotonic milliseconds.
    at: u64,
    record: Verified<PresenceRecord>,
    live: bool,
}

impl Early {
    pub(super) fn keep(&mut self, to: UserId, record: Verified<PresenceRecord>, live: bool, mono: u64) {
        if self.all.len() < EARLY {
            self.all.insert((record.user, record.device, to), Arrived { at: mono, record, live });
        }
    }

    /// What came of `from` for `to` and still counts.
    pub(super) fn take(
        &mut self,
        to: UserId,
        from: UserId,
        mono: u64,
    ) -> Vec<(Verified<PresenceRecord>, bool)> {
        self.all.retain(|_, arrived| mono < arrived.at + EARLY_LIFE);
        let places = self.all.keys().filter(|(of, _, viewer)| *of == from && *viewer == to).copied();
        let arrived: Vec<_> = places.collect();
        let arrived = arrived.iter().filter_map(|place| self.all.remove(place));
        arrived.map(|Arrived { record, live, .. }| (record, live)).collect()
    }

    /// A device has nothing more to say.
    pub(super) fn forget(&mut self, user: UserId, device: DeviceId) {
        self.all.retain(|(of, from, _), _| (*of, *from) != (user, device));
    }
}

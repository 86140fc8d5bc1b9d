//! Looking for people in the hash table: contacts while somebody here would see them, and whoever a message waits for.
//! *Pure.*

use std::collections::BTreeMap;

use super::Overlay;
use super::query::Purpose;
use super::timers::{Timer, on_grid};
use crate::dht::{CONTACT, Key, Pace, Query, RECIPIENT, Value};
use crate::id::UserId;
use crate::time::{DAY, HOUR, MINUTE, Now, SECOND};

/// What is looked at, and asked if it is due.
const ROUND: u64 = MINUTE;
/// Who is not known at all, while a message waits: after a pause that doubles each time, up to this.
const UNKNOWN: u64 = 5 * MINUTE;
/// The devices of somebody for whom a message waits, …
const WAITED_FOR: u64 = 6 * HOUR;
/// … and of a contact.
const LISTED: u64 = DAY;
/// The same thing is not asked again sooner.
const PAUSE: u64 = 20 * SECOND;

/// When somebody was looked for last, monotonic milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Sought {
    user: Option<u64>,
    presence: Option<u64>,
    /// How often the user's record was asked for.
    asked: u32,
    /// How often the user was looked for since they were seen last.
    looks: u32,
}

/// As many as there are contacts and recipients of waiting messages.
#[derive(Debug, Default)]
pub(super) struct Seek {
    sought: BTreeMap<UserId, Sought>,
}

fn due(last: Option<u64>, every: u64, now: Now) -> bool {
    last.is_none_or(|last| now.mono >= last + every)
}

impl Overlay {
    /// Looks for a user, as something new makes it worth while.
    pub(super) fn seek(&mut self, user: &UserId, now: Now) {
        if self.queries.nodes > 0 {
            self.seek_within(user, PAUSE, PAUSE, now);
            self.timers.set_earlier(Timer::Seek, on_grid(now.mono + ROUND, ROUND));
        }
    }

    /// Whether it is asked now where the user is.
    fn seek_within(&mut self, user: &UserId, devices_every: u64, presence_every: u64, now: Now) -> bool {
        let has_others = !self.locals.contains_key(user) || self.has_other_devices(user);
        if !has_others || !self.users.live_devices(user).is_empty() {
            return false;
        }
        let devices = self.audiences.devices_of(user);
        let sought = self.seek.sought.entry(*user).or_default();
        let (mut find_user, mut find_presence) = (false, false);
        if due(sought.user, devices_every, now) {
            (sought.user, find_user) = (Some(now.mono), true);
            sought.asked = sought.asked.saturating_add(1);
        }
        if !devices.is_empty() && due(sought.presence, presence_every, now) {
            (sought.presence, find_presence) = (Some(now.mono), true);
        }
        if find_user {
            self.ask_table(Purpose::FindUser(*user), now);
        }
        if find_presence {
            let day = self.time(now) / DAY;
            for device in devices {
                self.ask_table(Purpose::FindPresence(*user, device, day), now);
            }
        }
        find_presence
    }

    /// Looks for somebody in their turn, which comes later each time.
    fn seek_in_turn(&mut self, user: &UserId, devices_every: u64, pace: Pace, now: Now) {
        let looks = self.seek.sought.get(user).map_or(0, |sought| sought.looks);
        if self.seek_within(user, devices_every, pace.after(looks), now)
            && let Some(sought) = self.seek.sought.get_mut(user)
        {
            sought.looks = sought.looks.saturating_add(1);
        }
    }

    /// A user was seen: live, or by news in the hash table. If they go, they are looked for soon again.
    pub(super) fn has_seen(&mut self, user: &UserId) {
        if let Some(sought) = self.seek.sought.get_mut(user) {
            sought.looks = 0;
        }
    }

    /// Everybody who is worth it, as the table has just found somebody to ask.
    pub(super) fn seek_all(&mut self, now: Now) {
        self.seek.sought.clear();
        self.timers.set(Timer::Seek, now.mono);
    }

    /// Somebody is shown as here by what was found, which counts for a while.
    pub(super) fn found_will_end(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Seek, on_grid(now.mono + 1, ROUND));
    }

    pub(super) fn on_seek_timer(&mut self, now: Now) {
        self.expire_found(now);
        if self.audiences.shows_anybody() {
            // Also when there is nobody to ask any more.
            self.found_will_end(now);
        }
        if self.queries.nodes == 0 {
            // Nobody to ask; the table says when there is, and everybody is looked for then.
            return;
        }
        let waited_for = self.outbox.recipients();
        for user in &waited_for {
            let known = self.users.record(user).is_some();
            let asked = self.seek.sought.get(user).map_or(0, |sought| sought.asked);
            let devices_every = if known { WAITED_FOR } else { (PAUSE << asked.min(4)).min(UNKNOWN) };
            self.seek_in_turn(user, devices_every, RECIPIENT, now);
        }
        let mut contacts = Vec::new();
        if self.locals.values().any(|local| !local.shown.sessions.is_empty()) {
            contacts = self.users.kept_users();
            let old = self.audiences.growing_old(self.time(now));
            for user in &contacts {
                if old.contains(user) {
                    self.seek_within(user, LISTED, PAUSE, now);
                } else {
                    self.seek_in_turn(user, LISTED, CONTACT, now);
                }
            }
        }
        self.seek.sought.retain(|user, _| waited_for.contains(user) || contacts.binary_search(user).is_ok());
        if !(waited_for.is_empty() && contacts.is_empty()) {
            self.timers.set_earlier(Timer::Seek, on_grid(now.mono + 1, ROUND));
        }
    }

    pub(super) fn found_user(&mut self, user: &UserId, values: &[Vec<u8>], now: Now) {
        let new = self.users.record(user).is_none();
        self.records_found(user, values, now);
        if new && self.users.record(user).is_some() {
            self.seek_within(user, DAY, 0, now);
        }
    }

    pub(super) fn user_query(&self, user: &UserId) -> Query {
        Query::Get(Key::user(user))
    }

    /// Records of a user, as whoever holds them says.
    fn records_found(&mut self, user: &UserId, values: &[Vec<u8>], now: Now) {
        for value in values {
            let context = self.users.context(self.clock.trusted(now));
            match Value::verify(&Key::user(user), value, &context) {
                Ok(Value::User(record)) => self.take_in(&record, now),
                Ok(Value::Name(_) | Value::Presence(_)) | Err(_) => {
                    self.counters.drop("value of the table that does not count");
                }
            }
        }
    }
}

//! What the hash table is told of our users: who their devices are, whose name it is, and, sealed, where they are. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::query::Purpose;
use super::timers::{Timer, on_grid};
use super::{Overlay, audience};
use crate::dht::{self, Key, PRESENCE_AGAIN, Query, Value};
use crate::id::UserId;
use crate::time::{HOUR, Now, SECOND};

/// What does not change is told again after so long: holders come and go.
const AGAIN: u64 = 12 * HOUR;
/// What fewer than [`ENOUGH`] of the known nodes have stored is told again after so long, twice as long each time, …
const RETRY: u64 = 15 * SECOND;
/// … up to this.
const MAX_RETRY: u64 = HOUR;
/// Copies that outlast a while in which nodes come and go: some of those asked are gone or slow at any time.
const ENOUGH: usize = dht::COPIES * 3 / 4;
/// Changes of a presence are collected for so long before they are told, …
const PAUSE: u64 = 30 * SECOND;
/// … and, as nobody else finds a node that has moved, a new place for so long.
const PAUSE_OF_PLACE: u64 = 5 * SECOND;

/// When what is to be told.
#[derive(Debug, Default)]
pub(super) struct Published {
    due: BTreeMap<Purpose, Due>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Due {
    /// Monotonic milliseconds.
    at: u64,
    /// When it was told last.
    last: Option<u64>,
    failures: u32,
}

impl Overlay {
    /// A user's record or name has changed: it is told within the second.
    pub(super) fn publish_user(&mut self, user: &UserId, now: Now) {
        self.publish_at(Purpose::PublishUser(*user), now.mono + SECOND, now);
        self.publish_at(Purpose::PublishName(*user), now.mono + SECOND, now);
    }

    /// What a user shows has changed.
    pub(super) fn publish_presence(&mut self, user: &UserId, now: Now) {
        self.publish_presence_after(user, PAUSE, now);
    }

    /// Where a user is has changed.
    pub(super) fn publish_place(&mut self, user: &UserId, now: Now) {
        self.publish_presence_after(user, PAUSE_OF_PLACE, now);
    }

    fn publish_presence_after(&mut self, user: &UserId, pause: u64, now: Now) {
        let purpose = Purpose::PublishPresence(*user);
        let last = self.published.due.get(&purpose).and_then(|due| due.last);
        let at = last.map_or(now.mono + SECOND, |last| (last + pause).max(now.mono + SECOND));
        self.publish_at(purpose, at, now);
    }

    /// The same at once, however short the last time is ago.
    pub(super) fn publish_presence_now(&mut self, user: &UserId, now: Now) {
        self.publish_presence_after(user, 0, now);
    }

    /// Everything, as the table has just found somebody to tell.
    pub(super) fn publish_all(&mut self, now: Now) {
        let users = self.published_users();
        for user in users {
            self.publish_user(&user, now);
            self.publish_presence(&user, now);
        }
    }

    /// The same, as the table has grown so much that others are closest now.
    pub(super) fn publish_anew(&mut self, now: Now) {
        let users = self.published_users();
        for user in users {
            self.publish_user(&user, now);
            self.publish_place(&user, now);
        }
    }

    /// The users of this node, and those who were until their key was void.
    fn published_users(&self) -> Vec<UserId> {
        let due = self.published.due.keys().filter_map(|purpose| match purpose {
            Purpose::PublishUser(user) => Some(user),
            _ => None,
        });
        self.locals.keys().chain(due).copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn publish_at(&mut self, purpose: Purpose, at: u64, now: Now) {
        if !self.publishes {
            return;
        }
        let due = self.published.due.entry(purpose).or_insert(Due { at, ..Due::default() });
        due.at = due.at.min(at).max(now.mono);
        self.timers.set_earlier(Timer::Publish, due.at);
    }

    pub(super) fn on_publish_timer(&mut self, now: Now) {
        let due = self.published.due.iter().filter(|(_, due)| due.at <= now.mono);
        let due: Vec<Purpose> = due.map(|(purpose, _)| *purpose).collect();
        for purpose in due {
            self.ask_table(purpose, now);
            // Until the answer says when again; without anybody to ask, the table tells when there is.
            self.put_off(purpose, now.mono + MAX_RETRY);
        }
        self.arm_publish(now);
    }

    fn put_off(&mut self, purpose: Purpose, at: u64) {
        if let Some(due) = self.published.due.get_mut(&purpose) {
            due.at = at;
        }
    }

    fn arm_publish(&mut self, now: Now) {
        if let Some(next) = self.published.due.values().map(|due| due.at).min() {
            self.timers.set(Timer::Publish, on_grid(next.max(now.mono + 1), SECOND));
        }
    }

    /// So many nodes have stored it.
    pub(super) fn published(&mut self, purpose: Purpose, copies: usize, now: Now) {
        let again = match purpose {
            Purpose::PublishPresence(user) => self.presence_again(&user),
            _ => AGAIN,
        };
        let jitter = self.jitter(again);
        let enough = ENOUGH.min(self.queries.nodes).max(1);
        let Some(due) = self.published.due.get_mut(&purpose) else { return };
        due.last = Some(now.mono);
        due.failures = if copies < enough { due.failures.saturating_add(1) } else { 0 };
        due.at = now.mono
            + match due.failures {
                0 => jitter,
                failures => (RETRY << (failures - 1).min(8)).min(MAX_RETRY).min(jitter),
            };
        self.arm_publish(now);
    }

    /// How long what is shown counts; nobody is shown as here by it for longer.
    fn presence_again(&self, user: &UserId) -> u64 {
        let there = self.locals.get(user).is_some_and(|local| !local.shown.sessions.is_empty());
        if there { PRESENCE_AGAIN } else { audience::LIFE / 2 }
    }

    pub(super) fn user_to_publish(&self, user: &UserId) -> Option<Query> {
        let record = self.users.record(user)?;
        if !self.locals.contains_key(user) && record.compromised().is_none() {
            return None;
        }
        let value = Value::User(record.clone());
        let expires_wall = Some(value.ends()).filter(|ends| *ends > 0)?;
        Some(Query::Put { key: Key::user(user), value: value.encode(), expires_wall })
    }

    pub(super) fn name_to_publish(&self, user: &UserId) -> Option<Query> {
        let name = self.locals.get(user)?.name.clone()?;
        let key = Key::name(&name.authority, &name.address);
        let expires = name.expires;
        Some(Query::Put { key, value: Value::Name(name).encode(), expires_wall: expires })
    }

    /// A user is not of this node any more. That its key is void goes on being told.
    pub(super) fn unpublish(&mut self, user: &UserId) {
        for purpose in [Purpose::PublishName(*user), Purpose::PublishPresence(*user)] {
            self.published.due.remove(&purpose);
        }
        if !self.users.revocations.is_compromised(user) {
            self.published.due.remove(&Purpose::PublishUser(*user));
        }
    }
}

//! Who may find and read where a device of ours is, and what we may of others. *Pure.*
//!
//! A device seals its presence under a key of its own and puts it where a second key of its own says. Contacts who may see
//! its user are given both; when one of them may no more, there is a new pair, and the others are given that. Each
//! device has its own pair, so two devices that make new ones while they are apart have nothing to agree on: each goes on
//! hiding itself from whomever it knows to be removed.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng as _;

use super::query::Purpose;
use super::state::{KnownAudience, OwnAudience, STATE_VERSION};
use super::{Outgoing, Output, Overlay, Restored, Write};
use crate::dht::{Key, Query, Value};
use crate::envelope::Content;
use crate::id::{DeviceId, MessageId, PresenceId, UserId};
use crate::keys::{AudienceKey, PresenceKey};
use crate::record::{
    Context, PresenceRecord, Record as _, SealedPresence, Unverified, Verified, Whereabouts,
};
use crate::time::{DAY, HOUR, Hlc, MINUTE, Now};

/// Whoever was seen in a sealed presence is shown as here for so long after it was signed: as long as that counts.
const FRESH: u64 = PresenceRecord::MAX_LIFE;
/// Before that time is over, it is looked whether there is something newer.
const ENDS_SOON: u64 = 2 * MINUTE;
/// Where somebody is counts for so long.
pub(super) const LIFE: u64 = 2 * HOUR;
/// What others gave us at most; further ones are not kept, and their devices found when they are live only.
const MAX_KNOWN: usize = 16_384;
/// Addresses that are told.
const MAX_ADDRESSES: usize = 8;

/// Whose device, the device, and the user of ours.
type Place = (UserId, DeviceId, UserId);

/// What one of our devices gives its contacts.
#[derive(Debug)]
pub(super) struct Own {
    presence: PresenceKey,
    key: AudienceKey,
    at: Hlc,
    /// To whom it was given.
    told: BTreeSet<UserId>,
}

/// What a device of somebody has given to one of our users.
#[derive(Debug)]
struct Theirs {
    presence: PresenceId,
    key: AudienceKey,
    at: Hlc,
    /// Of the newest presence that was read.
    read: Option<Hlc>,
}

impl Own {
    fn to_state(&self, device: &DeviceId) -> OwnAudience {
        OwnAudience {
            version: STATE_VERSION,
            device: device.as_bytes().to_vec(),
            presence: self.presence.seed().to_vec(),
            key: self.key.seed().to_vec(),
            millis: self.at.millis,
            counter: self.at.counter,
            told: self.told.iter().flat_map(|user| *user.as_bytes()).collect(),
        }
    }

    fn from_state(state: &OwnAudience) -> Option<(DeviceId, Self)> {
        let own = Self {
            presence: PresenceKey::from_seed(state.presence.as_slice().try_into().ok()?),
            key: AudienceKey::from_seed(state.key.as_slice().try_into().ok()?),
            at: Hlc { millis: state.millis, counter: state.counter },
            told: state.told.chunks_exact(32).filter_map(UserId::from_slice).collect(),
        };
        Some((state.key()?, own))
    }
}

impl Theirs {
    fn to_state(&self, (user, device, to): &Place) -> KnownAudience {
        KnownAudience {
            version: STATE_VERSION,
            user: user.as_bytes().to_vec(),
            device: device.as_bytes().to_vec(),
            to: to.as_bytes().to_vec(),
            presence: self.presence.as_bytes().to_vec(),
            key: self.key.seed().to_vec(),
            millis: self.at.millis,
            counter: self.at.counter,
        }
    }

    fn from_state(state: &KnownAudience) -> Option<(Place, Self)> {
        let theirs = Self {
            presence: PresenceId::from_slice(&state.presence)?,
            key: AudienceKey::from_seed(state.key.as_slice().try_into().ok()?),
            at: Hlc { millis: state.millis, counter: state.counter },
            read: None,
        };
        Some((state.key()?, theirs))
    }
}

/// All pairs.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    own: BTreeMap<DeviceId, Own>,
    known: BTreeMap<Place, Theirs>,
    /// Devices that are shown as here by a sealed presence, until then (Unix milliseconds).
    shown: BTreeMap<DeviceId, (UserId, u64)>,
}

impl Audiences {
    fn of(&self, user: &UserId, device: &DeviceId) -> impl Iterator<Item = (&UserId, &Theirs)> {
        let (low, high) = (UserId::from_bytes([0; 32]), UserId::from_bytes([0xff; 32]));
        let range = self.known.range((*user, *device, low)..=(*user, *device, high));
        range.map(|((_, _, to), theirs)| (to, theirs))
    }

    /// Who is shown as here by a sealed presence that is growing old.
    pub(super) fn growing_old(&self, time: u64) -> BTreeSet<UserId> {
        let old = self.shown.values().filter(|(_, until)| *until <= time.saturating_add(ENDS_SOON));
        old.map(|(user, _)| *user).collect()
    }

    /// Whether anybody is shown as here by a sealed presence.
    pub(super) fn shows_anybody(&self) -> bool {
        !self.shown.is_empty()
    }

    fn given_by(&self, user: &UserId) -> impl Iterator<Item = &Place> {
        let low = UserId::from_bytes([0; 32]);
        let range = self.known.range((*user, DeviceId::from_bytes([0; 32]), low)..);
        range.map(|(place, _)| place).take_while(move |(who, _, _)| who == user)
    }

    /// The users of ours who may see a user: a device has given them its pair.
    pub(super) fn readers_of(&self, user: &UserId) -> BTreeSet<UserId> {
        self.given_by(user).map(|(_, _, to)| *to).collect()
    }

    /// The devices of a user that can be looked for.
    pub(super) fn devices_of(&self, user: &UserId) -> BTreeSet<DeviceId> {
        self.given_by(user).map(|(_, device, _)| *device).collect()
    }
}

impl Overlay {
    pub(super) fn restore_audiences(&mut self, restored: &Restored) {
        for own in &restored.own_audiences {
            match Own::from_state(own) {
                Some((device, own)) => drop(self.audiences.own.insert(device, own)),
                None => self.counters.drop("stored audience"),
            }
        }
        for known in restored.audiences.iter().take(MAX_KNOWN) {
            match Theirs::from_state(known) {
                Some((place, theirs)) => drop(self.audiences.known.insert(place, theirs)),
                None => self.counters.drop("stored audience"),
            }
        }
    }

    /// Gives the pair to whoever may see a user now, and makes a new one if somebody may no more.
    pub(super) fn check_audience(&mut self, user: &UserId, now: Now) {
        self.update_audience(user, false, now);
    }

    /// Makes a new pair, as somebody has the old one who may not.
    pub(super) fn renew_audience(&mut self, user: &UserId, now: Now) {
        let Some(local) = self.locals.get(user) else { return };
        if local.shown.stated {
            return self.update_audience(user, true, now);
        }
        // Whom to give a new one is not known yet; the old one must not be used until then.
        let device = local.device.id();
        if self.audiences.own.remove(&device).is_some() {
            self.outputs.push_back(Output::Write(Write::DeleteOwnAudience(device)));
        }
    }

    fn update_audience(&mut self, user: &UserId, anew: bool, now: Now) {
        let stated = |local: &&super::locals::Local| local.shown.stated;
        let Some(local) = self.locals.get(user).filter(|_| self.publishes).filter(stated) else { return };
        let (device, mut watchers) = (local.device.id(), local.shown.watchers.clone());
        if self.has_other_devices(user) {
            watchers.insert(*user);
        }
        let own = self.audiences.own.remove(&device);
        let stale = anew || own.as_ref().is_none_or(|own| !own.told.is_subset(&watchers));
        if own.is_none() && (watchers.is_empty() || anew) {
            return;
        }
        let had = own.as_ref().map(|own| own.told.clone()).unwrap_or_default();
        had.difference(&watchers).for_each(|other| self.cancel_audience(user, other, now));
        let mut own = match own {
            Some(own) if !stale => own,
            _ => self.new_pair(now),
        };
        let before = own.told.len();
        for watcher in watchers {
            if !own.told.contains(&watcher) && self.give(user, &watcher, &own, now) {
                own.told.insert(watcher);
                if !had.contains(&watcher) {
                    self.give_tokens(user, &watcher, now);
                }
            }
        }
        if stale || own.told.len() != before {
            self.outputs.push_back(Output::Write(Write::PutOwnAudience(own.to_state(&device))));
        }
        self.audiences.own.insert(device, own);
        if stale {
            self.publish_presence(user, now);
        }
    }

    fn new_pair(&mut self, now: Now) -> Own {
        let (mut presence, mut key) = ([0; 32], [0; 32]);
        self.rng.fill_bytes(&mut presence);
        self.rng.fill_bytes(&mut key);
        let at = self.tick(now);
        Own {
            presence: PresenceKey::from_seed(presence),
            key: AudienceKey::from_seed(key),
            at,
            told: BTreeSet::new(),
        }
    }

    fn give(&mut self, user: &UserId, watcher: &UserId, own: &Own, now: Now) -> bool {
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        // An older one that is still on its way is worth nothing any more.
        self.cancel_audience(user, watcher, now);
        let content = Content::Audience { presence: own.presence.id(), key: own.key.clone(), at: own.at };
        let id = MessageId::from_bytes(id);
        self.accept(Outgoing { id, from: *user, to: *watcher, content, expires: None }, now).is_ok()
    }

    /// A device of somebody gives us its pair. Nobody but contacts can be found, so nobody else's is kept.
    pub(super) fn take_audience(
        &mut self,
        (from, device, to): Place,
        (presence, key, at): (PresenceId, AudienceKey, Hlc),
        now: Now,
    ) {
        let place = (from, device, to);
        let known = self.audiences.known.get(&place);
        let full = known.is_none() && self.audiences.known.len() >= MAX_KNOWN;
        if full || !self.users.is_kept(&from) || known.is_some_and(|known| known.at >= at) {
            return self.counters.drop("audience that is not wanted");
        }
        let theirs = Theirs { presence, key, at, read: None };
        self.outputs.push_back(Output::Write(Write::PutAudience(theirs.to_state(&place))));
        self.audiences.known.insert(place, theirs);
        self.seek(&from, now);
    }

    /// A user is not of this node any more.
    pub(super) fn forget_audience(&mut self, user: &UserId, device: &DeviceId) {
        if self.audiences.own.remove(device).is_some() {
            self.outputs.push_back(Output::Write(Write::DeleteOwnAudience(*device)));
        }
        let given = self.audiences.known.keys().filter(|(_, _, to)| to == user);
        for place in given.copied().collect::<Vec<_>>() {
            self.audiences.known.remove(&place);
            self.outputs.push_back(Output::Write(Write::DeleteAudience(place)));
        }
    }

    /// A device of a user is lost: where it was is not looked for. What was given to that user it may have if it was `known`
    /// for one of that user's, so those of ours who gave it anything make a new pair.
    pub(super) fn forget_audience_of(&mut self, user: &UserId, device: &DeviceId, known: bool, now: Now) {
        let of_device = |(owner, known, _): &&Place| owner == user && known == device;
        let places: Vec<Place> = self.audiences.known.keys().filter(of_device).copied().collect();
        for place in places {
            self.audiences.known.remove(&place);
            self.outputs.push_back(Output::Write(Write::DeleteAudience(place)));
        }
        let given = self.audiences.own.iter().filter(|(_, own)| known && own.told.contains(user));
        let ours: Vec<UserId> = given.filter_map(|(own, _)| self.local_devices.get(own).copied()).collect();
        ours.iter().for_each(|ours| self.renew_audience(ours, now));
    }

    pub(super) fn presence_to_publish(&mut self, user: &UserId, now: Now) -> Option<Query> {
        let device = self.locals.get(user)?.device.id();
        if self.audiences.own.get(&device)?.told.is_empty() {
            return None;
        }
        self.sign_presence(user, now);
        let presence = self.own_presence(user)?.bytes().to_vec();
        let addresses = self.addresses.iter().take(MAX_ADDRESSES).cloned().collect();
        let located = Whereabouts { user: *user, device, node: self.node, addresses, presence };
        let at = self.tick(now);
        let own = self.audiences.own.get(&device)?;
        let times = (at, at.millis.saturating_add(LIFE));
        let expires = times.1;
        let sealed = SealedPresence::seal(&located, &own.key, &own.presence, times, &mut self.rng);
        let sealed = sealed.or_else(|_| {
            // Too long a status: who comes finds the way at least, and asks.
            let located = Whereabouts { presence: Vec::new(), ..located };
            SealedPresence::seal(&located, &own.key, &own.presence, times, &mut self.rng)
        });
        let sealed = sealed.ok()?;
        let key = Key::presence(&own.presence.id(), at.millis / DAY);
        Some(Query::Put { key, value: Value::Presence(sealed).encode(), expires_wall: expires })
    }

    pub(super) fn presence_query(&self, user: &UserId, device: &DeviceId, day: u64) -> Option<Query> {
        let newest = self.audiences.of(user, device).max_by_key(|(_, theirs)| theirs.at);
        newest.map(|(_, theirs)| Query::Get(Key::presence(&theirs.presence, day)))
    }

    /// What is said about a device under the key of the newest pair that anybody here was given.
    pub(super) fn found_presence(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        day: u64,
        values: &[Vec<u8>],
        now: Now,
    ) {
        let time = self.time(now);
        let newest = values.iter().filter_map(|value| self.read_presence(user, device, day, value, now));
        let Some((at, located)) = newest.max_by_key(|(at, _)| *at) else {
            // A day has begun, and the presence of the last one still counts.
            if day == time / DAY && time % DAY < LIFE {
                self.ask_table(Purpose::FindPresence(*user, *device, day.saturating_sub(1)), now);
            }
            return;
        };
        if time < at.millis.saturating_add(LIFE) {
            self.learn(located.node, located.addresses, now);
            self.is_elsewhere(located.node, at.millis, now);
            self.is_said_to_be_at(located.node, *user, at.millis.saturating_add(LIFE), now);
            self.show_found(user, device, at, &located.presence, now);
        }
    }

    /// Newer than what was read before, and by that device.
    fn read_presence(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        day: u64,
        value: &[u8],
        now: Now,
    ) -> Option<(Hlc, Whereabouts)> {
        let (_, theirs) = self.audiences.of(user, device).max_by_key(|(_, theirs)| theirs.at)?;
        let context = self.users.context(self.clock.trusted(now));
        let value = Value::verify(&Key::presence(&theirs.presence, day), value, &context);
        let Ok(Value::Presence(sealed)) = value else {
            self.counters.drop("value of the table that does not count");
            return None;
        };
        let located = sealed.open(&theirs.key).ok()?;
        let newer = theirs.read.is_none_or(|read| read <= sealed.at);
        (newer && located.user == *user && located.device == *device).then_some((sealed.at, located))
    }

    /// Shows what a device that is not live said not long ago.
    fn show_found(&mut self, user: &UserId, device: &DeviceId, at: Hlc, record: &[u8], now: Now) {
        let given: Vec<UserId> = self.audiences.of(user, device).map(|(to, _)| *to).collect();
        let mut news = false;
        for to in &given {
            if let Some(theirs) = self.audiences.known.get_mut(&(*user, *device, *to)) {
                news |= theirs.read.replace(at).is_none_or(|read| read < at);
            }
        }
        if record.is_empty() {
            return;
        }
        // That it counts no more does not unsay when it was said.
        let context = Context { enforce_end: false, ..self.users.context(self.clock.trusted(now)) };
        let record = Unverified::<PresenceRecord>::parse(record).and_then(|record| record.verify(&context));
        let Ok(record) = record else { return self.counters.drop("sealed presence that does not verify") };
        if record.user == *user && record.device == *device {
            self.show_said(&record, &given, news, now);
        }
    }

    /// Shows those of ours whom it concerns what a device said, by the hash table or the server: while it counts, as here; then, that
    /// it was here. Of a device that is live its own connection says more.
    pub(super) fn show_said(
        &mut self,
        record: &Verified<PresenceRecord>,
        to: &[UserId],
        news: bool,
        now: Now,
    ) {
        let (user, device) = (record.user, record.device);
        let until = record.at.millis.saturating_add(FRESH);
        if self.users.node_of(&device).is_some() {
            return;
        }
        if self.time(now) >= until {
            let said =
                |to: &UserId| Output::Presence { to: *to, from: user, record: record.clone(), live: false };
            return self.outputs.extend(to.iter().filter(|_| news).map(said));
        }
        if self.audiences.shown.get(&device).is_some_and(|(_, shown)| *shown > until) {
            return self.counters.drop("presence that is older than what was found");
        }
        self.is_said_elsewhere(&device, record.at);
        if record.sessions.is_empty() {
            self.hide_found(&device);
        } else {
            self.audiences.shown.insert(device, (user, until));
            self.found_will_end(now);
            if news {
                self.has_seen(&user);
            }
        }
        to.iter().for_each(|to| self.show_locally(*to, record, false));
    }

    /// What was shown by a sealed presence and is not live has grown old.
    pub(super) fn expire_found(&mut self, now: Now) {
        let time = self.time(now);
        let old = self.audiences.shown.iter().filter(|(_, (_, until))| *until <= time);
        for device in old.map(|(device, _)| *device).collect::<Vec<_>>() {
            self.hide_found(&device);
        }
    }

    pub(super) fn hide_found(&mut self, device: &DeviceId) {
        let Some((user, _)) = self.audiences.shown.remove(device) else { return };
        if self.users.node_of(device).is_none() {
            self.forget_presence(device);
            self.outputs.push_back(Output::Unreachable { user, device: *device });
        }
    }

    /// The device is live: its own connection tells what it shows from now on.
    pub(super) fn is_no_longer_found(&mut self, device: &DeviceId) {
        self.audiences.shown.remove(device);
    }

    /// Where this node can be reached from beyond the link.
    pub(super) fn set_addresses(&mut self, addresses: Vec<String>, now: Now) {
        if self.addresses == addresses {
            return;
        }
        let first = std::mem::replace(&mut self.addresses, addresses).is_empty();
        if self.addresses.is_empty() {
            return;
        }
        for user in self.locals.keys().copied().collect::<Vec<_>>() {
            match first {
                // Whoever could not be reached until now is not kept waiting.
                true => self.publish_presence_now(&user, now),
                false => self.publish_place(&user, now),
            }
        }
        self.try_again_from_here(now);
        self.seek_all(now);
        // What came while it was nowhere waits at nodes that it may still know.
        self.mailboxes_have_moved(now);
    }
}

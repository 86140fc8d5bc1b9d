//! What this node holds of the hash table: verified at each put, one merged value a key, bounded. *Pure.*
//!
//! When full, the value goes that lies farthest from this node, but never one that is nearer than the newcomer. As anybody
//! can look for keys that lie near to a node, one peer can drive out no more than an eighth: what it puts beyond that
//! takes the place of what it has put itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{Distance, Key, Position, Refused, Value};
use crate::id::NodeId;
use crate::record::{Context, NoCertificates, Revocation, RevocationSet, Revoked, RevokedBy};
use crate::time::{HOUR, TrustedTime};

/// One peer can take so many parts of a full store from others.
const SHARES: usize = 8;

/// What a store holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Values. Default 4,096.
    pub values: usize,
    /// Bytes of all values. Default 16 MiB.
    pub bytes: usize,
    /// Puts of one peer within an hour that had to be verified. What is held already, byte for byte, is not counted.
    /// Default 256.
    pub puts_per_peer: u32,
    /// Peers whose puts are counted; the one that began to put longest ago is forgotten. Default 1,024.
    pub peers: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { values: 4_096, bytes: 16 << 20, puts_per_peer: 256, peers: 1_024 }
    }
}

/// What a put has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The value stands where none stood.
    New,
    /// It was merged into what stood there.
    Changed,
    /// It says nothing new.
    Same,
}

/// A change that the disk has to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub key: Key,
    /// The value and when it ends (Unix milliseconds); `None`: it is gone.
    pub value: Option<(Vec<u8>, u64)>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Store {
    own: Position,
    limits: StoreLimits,
    values: BTreeMap<Key, Held>,
    by_distance: BTreeSet<(Distance, Key)>,
    by_end: BTreeSet<(u64, Key)>,
    bytes: usize,
    putters: BTreeMap<NodeId, Putter>,
    /// What is held of each peer: values and bytes.
    brought: BTreeMap<NodeId, (usize, usize)>,
    /// No more than there are values, plus those that went since the last [`Store::take_change`].
    changed: BTreeSet<Key>,
}

#[derive(Debug)]
struct Held {
    value: Vec<u8>,
    /// When it goes.
    ends: u64,
    /// When its word ends, and how long it may be held without being put again.
    word: (u64, u64),
    /// When anybody last put it.
    put: u64,
    /// Who put it first.
    from: Option<NodeId>,
}

#[derive(Debug)]
struct Putter {
    since: u64,
    puts: u32,
}

impl Store {
    /// An empty one, for this node.
    pub fn new(node: &NodeId, limits: StoreLimits) -> Self {
        Self {
            own: Position::of_node(node),
            limits,
            values: BTreeMap::new(),
            by_distance: BTreeSet::new(),
            by_end: BTreeSet::new(),
            bytes: 0,
            putters: BTreeMap::new(),
            brought: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Values held.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value at a key, unless it has ended.
    pub fn get(&self, key: &Key, time: TrustedTime) -> Option<&[u8]> {
        let held = self.values.get(key)?;
        (!time.credible || time.millis < held.ends).then_some(&held.value[..])
    }

    /// Takes a value from a peer, or from this node itself (`None`, not counted against anybody). `until` is the latest
    /// time that it may be held (Unix milliseconds).
    pub fn put(
        &mut self,
        key: Key,
        bytes: &[u8],
        from: Option<NodeId>,
        until: u64,
        context: &Context<'_>,
    ) -> Result<Put, Refused> {
        let now = context.time.millis;
        if self.get(&key, context.time) == Some(bytes) {
            self.renew(&key, until, now);
            return Ok(Put::Same);
        }
        if let Some(peer) = from {
            self.count(peer, now)?;
        }
        let value = Value::verify(&key, bytes, context)?;
        self.expire(context.time);
        let from = self.values.get(&key).map_or(from, |held| held.from);
        let old = self.values.get(&key).map(|held| held.value.clone());
        let known = old.as_ref().and_then(|old| Value::verify(&key, old, context).ok());
        let merged = match known {
            Some(known) => value.merge(known).ok_or(Refused::OtherKey)?,
            None => value,
        };
        let bytes = merged.encode();
        if old.as_ref() == Some(&bytes) {
            self.renew(&key, until, now);
            return Ok(Put::Same);
        }
        self.make_room(&key, bytes.len(), from)?;
        self.insert(key, Held::new(bytes, &merged, until, now, from));
        Ok(if old.is_some() { Put::Changed } else { Put::New })
    }

    /// Takes back what the disk held. What does not count any more is a [`Change`].
    pub fn restore(&mut self, key: Key, bytes: &[u8], ends: u64, context: &Context<'_>) {
        let refused = self.put(key, bytes, None, ends, context).is_err();
        match self.values.get(&key) {
            Some(held) if !refused && held.value == bytes => {
                self.changed.remove(&key);
            }
            _ => {
                self.changed.insert(key);
            }
        }
    }

    /// Drops what has ended.
    pub fn expire(&mut self, time: TrustedTime) {
        while let Some((ends, key)) = self.by_end.first().copied() {
            if !time.credible || time.millis < ends {
                return;
            }
            self.remove(&key);
        }
    }

    /// When the next value ends, Unix milliseconds.
    pub fn next_end(&self) -> Option<u64> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    /// Drops the parts of values that were revoked: to be called after something was.
    pub fn revoke(&mut self, revocations: &RevocationSet, time: TrustedTime) {
        let context = Context { time, certificates: &NoCertificates, revocations, enforce_end: true };
        for key in revocations.iter().filter_map(|revocation| place(revocation)) {
            let Some(held) = self.values.get(&key) else { continue };
            let (put, until, old, from) = (held.put, held.ends, held.value.clone(), held.from);
            let rest = Value::verify(&key, &old, &context).ok();
            match rest.map(|value| (value.encode(), value)) {
                Some((bytes, _)) if bytes == old => {}
                Some((bytes, value)) => self.insert(key, Held::new(bytes, &value, until, put, from)),
                None => self.remove(&key),
            }
        }
    }

    /// Forgets a value.
    pub fn remove(&mut self, key: &Key) {
        let Some(held) = self.values.remove(key) else { return };
        self.by_distance.remove(&(self.distance(key), *key));
        self.by_end.remove(&(held.ends, *key));
        self.bytes -= held.value.len();
        if let Some((peer, (values, bytes))) =
            held.from.and_then(|peer| Some((peer, self.brought.get_mut(&peer)?)))
        {
            *values -= 1;
            *bytes -= held.value.len();
            if *values == 0 {
                self.brought.remove(&peer);
            }
        }
        self.changed.insert(*key);
    }

    /// The keys of all values.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    /// A value that nobody has put for `age` milliseconds, or up to half as long again: how long exactly, each holder has its
    /// own idea of, so that the first spares the others the work. It counts as put now.
    pub fn take_stale(&mut self, age: u64, now: u64) -> Option<(Key, Vec<u8>)> {
        let due = |(key, held): &(&Key, &Held)| (held.put.saturating_add(self.patience(key, age)), **key);
        let (key, held) = self.values.iter().min_by_key(due)?;
        // A clock that was put back must not keep a value from being spread.
        if held.put <= now && now - held.put < self.patience(key, age) {
            return None;
        }
        let key = *key;
        let held = self.values.get_mut(&key)?;
        held.put = now;
        Some((key, held.value.clone()))
    }

    /// When [`Store::take_stale`] will have something: Unix milliseconds.
    pub fn next_stale(&self, age: u64) -> Option<u64> {
        self.values.iter().map(|(key, held)| held.put.saturating_add(self.patience(key, age))).min()
    }

    fn patience(&self, key: &Key, age: u64) -> u64 {
        let part = self.distance(key).magnitude() % 256;
        age.saturating_add(age / 512 * part)
    }

    /// Makes the value count as not put for long, so that it is soon spread again.
    pub fn mark_stale(&mut self, key: &Key) {
        if let Some(held) = self.values.get_mut(key) {
            held.put = 0;
        }
    }

    /// What the disk has to follow next.
    pub fn take_change(&mut self) -> Option<Change> {
        let key = self.changed.pop_first()?;
        let value = self.values.get(&key).map(|held| (held.value.clone(), held.ends));
        Some(Change { key, value })
    }

    /// Put again: names, which are held for a part of their life only, stay.
    fn renew(&mut self, key: &Key, until: u64, now: u64) {
        let Some(held) = self.values.get_mut(key) else { return };
        held.put = now;
        let (word, life) = held.word;
        let ends = word.min(now.saturating_add(life)).min(until).max(held.ends);
        let before = std::mem::replace(&mut held.ends, ends);
        if before != ends {
            self.by_end.remove(&(before, *key));
            self.by_end.insert((ends, *key));
            self.changed.insert(*key);
        }
    }

    fn count(&mut self, peer: NodeId, now: u64) -> Result<(), Refused> {
        let putter = self.putters.entry(peer).or_insert(Putter { since: now, puts: 0 });
        if now.abs_diff(putter.since) >= HOUR {
            *putter = Putter { since: now, puts: 0 };
        }
        if putter.puts >= self.limits.puts_per_peer {
            return Err(Refused::TooMany);
        }
        putter.puts += 1;
        if self.putters.len() > self.limits.peers {
            let oldest = self.putters.iter().filter(|(other, _)| **other != peer);
            let oldest = oldest.min_by_key(|(_, putter)| putter.since).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.putters.remove(&oldest));
        }
        Ok(())
    }

    /// Whether a peer has its share, with one more value of `size` bytes.
    fn has_its_share(&self, peer: Option<NodeId>, size: usize) -> bool {
        let brought = peer.and_then(|peer| self.brought.get(&peer));
        brought.is_some_and(|(values, bytes)| {
            values + 1 > self.limits.values / SHARES || bytes + size > self.limits.bytes / SHARES
        })
    }

    /// Drops values that lie farther away than `key` until one of `size` bytes fits there.
    fn make_room(&mut self, key: &Key, size: usize, from: Option<NodeId>) -> Result<(), Refused> {
        let old = self.values.get(key).map_or(0, |held| held.value.len());
        let mut values = self.values.len() + usize::from(!self.values.contains_key(key));
        let mut bytes = self.bytes - old + size;
        let own = self.distance(key);
        let of_its_own = self.has_its_share(from, size);
        let mut victims = Vec::new();
        for (distance, victim) in self.by_distance.iter().rev() {
            if values <= self.limits.values && bytes <= self.limits.bytes {
                break;
            }
            if *distance <= own {
                return Err(Refused::Full);
            }
            let Some(held) = self.values.get(victim).filter(|held| !of_its_own || held.from == from) else {
                continue;
            };
            values -= 1;
            bytes -= held.value.len();
            victims.push(*victim);
        }
        if values > self.limits.values || bytes > self.limits.bytes {
            return Err(Refused::Full);
        }
        victims.iter().for_each(|victim| self.remove(victim));
        Ok(())
    }

    fn insert(&mut self, key: Key, held: Held) {
        self.remove(&key);
        self.by_distance.insert((self.distance(&key), key));
        self.by_end.insert((held.ends, key));
        self.bytes += held.value.len();
        if let Some(peer) = held.from {
            let (values, bytes) = self.brought.entry(peer).or_default();
            *values += 1;
            *bytes += held.value.len();
        }
        self.values.insert(key, held);
        self.changed.insert(key);
    }

    fn distance(&self, key: &Key) -> Distance {
        self.own.distance(&key.position())
    }
}

impl Held {
    fn new(bytes: Vec<u8>, value: &Value, until: u64, put: u64, from: Option<NodeId>) -> Self {
        let ends = value.held_until(put).min(until);
        Self { value: bytes, ends, word: (value.ends(), value.longest()), put, from }
    }
}

/// Where what was revoked stands. Readers look at the names in user records themselves.
fn place(revocation: &Revocation) -> Option<Key> {
    match (&revocation.what, &revocation.by) {
        (Revoked::Device(user, _) | Revoked::User(user), _) => Some(Key::user(user)),
        (Revoked::Name(address, _), RevokedBy::Authority(authority)) => Some(Key::name(authority, address)),
        (Revoked::Name(..), RevokedBy::User) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::testing::{name, presence, user};
    use super::*;
    use crate::record::Verified;
    use crate::record::testing::{NOW, Person, authority, context};
    use crate::time::DAY;

    const ME: NodeId = NodeId::from_bytes([1; 32]);

    fn peer(byte: u8) -> Option<NodeId> {
        Some(NodeId::from_bytes([byte; 32]))
    }

    fn put_at(store: &mut Store, value: &Value, from: Option<NodeId>, millis: u64) -> Result<Put, Refused> {
        let revocations = RevocationSet::default();
        let context = context(&NoCertificates, &revocations, millis);
        store.put(value.key(), &value.encode(), from, u64::MAX, &context)
    }

    fn put(store: &mut Store, value: &Value) -> Result<Put, Refused> {
        put_at(store, value, None, NOW)
    }

    fn store(limits: StoreLimits) -> Store {
        Store::new(&ME, limits)
    }

    fn time(millis: u64) -> TrustedTime {
        TrustedTime::certain(millis)
    }

    /// The sums and indices are those of the values.
    fn is_whole(store: &Store) -> bool {
        let bytes: usize = store.values.values().map(|held| held.value.len()).sum();
        let of_peers = store.values.values().filter(|held| held.from.is_some());
        let of_peers = of_peers.fold((0, 0), |(values, bytes), held| (values + 1, bytes + held.value.len()));
        let brought = store.brought.values();
        bytes == store.bytes
            && of_peers == brought.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
            && store.by_distance.len() == store.values.len()
            && store.by_end.len() == store.values.len()
            && store.by_end.iter().all(|(ends, key)| store.values[key].ends == *ends)
            && store.values.len() <= store.limits.values
            && bytes <= store.limits.bytes
    }

    #[test]
    fn one_merged_value_stands_at_a_key() {
        let mut store = store(StoreLimits::default());
        assert_eq!(put(&mut store, &user(1, 2, 0)), Ok(Put::New));
        assert_eq!(put(&mut store, &user(1, 3, 0)), Ok(Put::Changed));
        assert_eq!(put(&mut store, &user(1, 2, 0)), Ok(Put::Same), "a part of what stands");
        let held = store.get(&user(1, 2, 0).key(), time(NOW)).expect("held").to_vec();
        let both = user(1, 2, 0).merge(user(1, 3, 0)).expect("one user");
        assert_eq!(held, both.encode());
        assert_eq!(put(&mut store, &both), Ok(Put::Same));
        assert_eq!(store.len(), 1);
        assert!(is_whole(&store));
    }

    #[test]
    fn an_older_presence_does_not_replace_a_newer_one() {
        let mut store = store(StoreLimits::default());
        put(&mut store, &presence(3, 5, 1)).expect("taken");
        assert_eq!(put(&mut store, &presence(3, 4, 1)), Ok(Put::Same));
        assert_eq!(store.get(&presence(3, 5, 1).key(), time(NOW)), Some(&presence(3, 5, 1).encode()[..]));
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        let mut store = store(StoreLimits::default());
        let revocations = RevocationSet::default();
        let context = context(&NoCertificates, &revocations, NOW);
        let key = user(1, 2, 0).key();
        let foreign = store.put(key, &name(1, 1).encode(), None, u64::MAX, &context);
        assert_eq!(foreign, Err(Refused::OtherKey));
        let mut forged = user(1, 2, 0).encode();
        let last = forged.len() - 40;
        forged[last] ^= 1;
        assert!(store.put(key, &forged, None, u64::MAX, &context).is_err());
        assert!(store.is_empty());
    }

    #[test]
    fn values_go_when_they_end() {
        let mut store = store(StoreLimits::default());
        let value = presence(3, 0, 1);
        put(&mut store, &value).expect("taken");
        assert_eq!(store.next_end(), Some(value.ends()));
        assert!(store.get(&value.key(), time(value.ends() - 1)).is_some());
        assert!(store.get(&value.key(), time(value.ends())).is_none(), "though it is still there");
        store.expire(TrustedTime { credible: false, ..time(value.ends()) });
        assert_eq!(store.len(), 1, "a clock that is not credible ends nothing");
        store.expire(time(value.ends()));
        assert!(store.is_empty() && is_whole(&store));
    }

    #[test]
    fn what_has_ended_makes_room() {
        let mut full = store(StoreLimits { values: 1, ..StoreLimits::default() });
        let far = user(1, 2, 0);
        let nearer = |seed: &u8| full.distance(&presence(*seed, 0, 1).key()) < full.distance(&far.key());
        let near = presence((1..99).find(nearer).expect("one"), 0, 1);
        put(&mut full, &near).expect("taken");
        assert_eq!(put(&mut full, &far), Err(Refused::Full));
        assert_eq!(put_at(&mut full, &far, None, near.ends()), Ok(Put::New));
    }

    #[test]
    fn a_name_stays_for_as_long_as_it_is_put_again() {
        let mut store = store(StoreLimits::default());
        let value = name(1, 1);
        put(&mut store, &value).expect("taken");
        assert_eq!(store.next_end(), Some(NOW + 30 * DAY));
        assert_eq!(put_at(&mut store, &value, peer(2), NOW + 20 * DAY), Ok(Put::Same));
        assert_eq!(store.next_end(), Some(NOW + 50 * DAY));
        assert!(is_whole(&store));
    }

    #[test]
    fn a_peer_has_so_many_puts_an_hour() {
        let mut store = store(StoreLimits { puts_per_peer: 2, ..StoreLimits::default() });
        let value = |serial| name(1, serial);
        assert_eq!(put_at(&mut store, &value(1), peer(2), NOW), Ok(Put::New));
        assert_eq!(put_at(&mut store, &value(1), peer(2), NOW), Ok(Put::Same), "costs nothing");
        assert_eq!(put_at(&mut store, &value(2), peer(2), NOW), Ok(Put::Changed));
        assert_eq!(put_at(&mut store, &value(3), peer(2), NOW + HOUR - 1), Err(Refused::TooMany));
        assert_eq!(put_at(&mut store, &value(2), peer(2), NOW), Ok(Put::Same), "still costs nothing");
        assert_eq!(put_at(&mut store, &value(3), peer(3), NOW), Ok(Put::Changed), "another peer");
        assert_eq!(put_at(&mut store, &value(4), peer(2), NOW + HOUR), Ok(Put::Changed));
        assert_eq!(put_at(&mut store, &value(5), None, NOW), Ok(Put::Changed), "ourselves");
    }

    #[test]
    fn what_is_refused_counts_too() {
        let mut store = store(StoreLimits { puts_per_peer: 2, ..StoreLimits::default() });
        let revocations = RevocationSet::default();
        let context = context(&NoCertificates, &revocations, NOW);
        let key = user(1, 2, 0).key();
        for _ in 0..2 {
            let refused = store.put(key, b"nonsense", peer(2), u64::MAX, &context);
            assert!(matches!(refused, Err(Refused::Record(_))));
        }
        assert_eq!(store.put(key, b"nonsense", peer(2), u64::MAX, &context), Err(Refused::TooMany));
    }

    #[test]
    fn peers_that_put_are_forgotten_in_their_order() {
        let mut store = store(StoreLimits { peers: 2, puts_per_peer: 1, ..StoreLimits::default() });
        for (serial, byte) in [(1, 2), (2, 3), (3, 4)] {
            let at = NOW + u64::from(byte);
            put_at(&mut store, &name(1, serial), peer(byte), at).expect("taken");
        }
        assert_eq!(store.putters.len(), 2);
        assert!(!store.putters.contains_key(&peer(2).expect("some")));
    }

    #[test]
    fn of_too_many_values_the_nearest_stay() {
        let mut full = store(StoreLimits { values: 3, ..StoreLimits::default() });
        let mut all: Vec<Value> = (1..=12).map(|person| user(person, 2, 0)).collect();
        all.iter().for_each(|value| drop(put(&mut full, value)));
        assert!(is_whole(&full));
        all.sort_by_key(|value| full.distance(&value.key()));
        let mut nearest: Vec<Key> = all[..3].iter().map(Value::key).collect();
        nearest.sort();
        assert_eq!(full.keys().copied().collect::<Vec<_>>(), nearest);
        assert_eq!(put(&mut full, &all[3]), Err(Refused::Full));
    }

    /// Keys near to a node are found by trying; they shall not cost it what it holds for others.
    #[test]
    fn one_peer_drives_out_an_eighth_at_most() {
        let limits = StoreLimits { values: 16, ..StoreLimits::default() };
        let mut all: Vec<Value> = (1..=60).map(|seed| presence(seed, 0, 1)).collect();
        let mut full = store(limits);
        all.sort_by_key(|value| std::cmp::Reverse(full.distance(&value.key())));
        let (honest, near) = all.split_at(16);
        honest.iter().for_each(|value| assert_eq!(put_at(&mut full, value, peer(1), NOW), Ok(Put::New)));
        near.iter().for_each(|value| drop(put_at(&mut full, value, peer(2), NOW)));
        let left =
            |store: &Store| honest.iter().filter(|value| store.values.contains_key(&value.key())).count();
        assert_eq!(left(&full), 14);
        assert!(full.get(&near[near.len() - 1].key(), time(NOW)).is_some(), "its nearest stay");
        assert!(is_whole(&full));
        let _ = put_at(&mut full, &presence(61, 0, 1), peer(3), NOW);
        assert!(left(&full) >= 13, "each has an eighth");
    }

    #[test]
    fn bytes_are_bounded_and_nothing_goes_in_vain() {
        let size = user(1, 2, 0).encode().len();
        let mut full = store(StoreLimits { bytes: 2 * size, ..StoreLimits::default() });
        let mut all: Vec<Value> = (1..=3).map(|person| user(person, 2, 0)).collect();
        all.sort_by_key(|value| full.distance(&value.key()));
        put(&mut full, &all[0]).expect("fits");
        put(&mut full, &all[2]).expect("fits");
        put(&mut full, &all[1]).expect("the farthest goes");
        assert_eq!(full.len(), 2);
        let Value::User(record) = &all[1] else { panic!("a user") };
        let person = (1..=3).find(|person| Person::new(*person).id() == record.user()).expect("one");
        assert_eq!(
            put(&mut full, &user(person, 3, 0)),
            Err(Refused::Full),
            "its growth would drive out a nearer one"
        );
        assert_eq!(full.get(&all[1].key(), time(NOW)), Some(&all[1].encode()[..]), "it stays as it was");
        assert!(is_whole(&full));
    }

    #[test]
    fn the_disk_follows() {
        let mut store = store(StoreLimits { values: 1, ..StoreLimits::default() });
        let mut all = [user(1, 2, 0), user(2, 2, 0)];
        all.sort_by_key(|value| std::cmp::Reverse(store.distance(&value.key())));
        all.iter().for_each(|value| drop(put(&mut store, value)));
        let mut changes: Vec<Change> = std::iter::from_fn(|| store.take_change()).collect();
        changes.sort_by_key(|change| change.value.is_some());
        let gone = Change { key: all[0].key(), value: None };
        let there = Change { key: all[1].key(), value: Some((all[1].encode(), all[1].ends())) };
        assert_eq!(changes, [gone, there]);
        assert_eq!(put(&mut store, &all[1]), Ok(Put::Same));
        assert_eq!(store.take_change(), None);
    }

    #[test]
    fn what_the_disk_held_is_verified_again() {
        let mut store = store(StoreLimits::default());
        let revocations = RevocationSet::default();
        let context = context(&NoCertificates, &revocations, NOW);
        let (good, ended) = (user(1, 2, 0), presence(3, 0, 1));
        store.restore(good.key(), &good.encode(), NOW + 9, &context);
        store.restore(ended.key(), b"damaged", NOW + 9, &context);
        assert_eq!(store.next_end(), Some(NOW + 9));
        assert_eq!(store.take_change(), Some(Change { key: ended.key(), value: None }));
        assert_eq!(store.take_change(), None);
    }

    #[test]
    fn a_revoked_device_goes_from_what_is_held() {
        let mut store = store(StoreLimits::default());
        let both = user(1, 2, 0).merge(user(1, 3, 0)).expect("one user");
        put(&mut store, &both).expect("taken");
        put(&mut store, &user(2, 2, 0)).expect("taken");
        let Value::User(record) = user(1, 3, 0) else { panic!("a user") };
        let (me, device) = (Person::new(1), *record.devices().keys().next().expect("one"));
        let what = Revoked::Device(me.id(), device);
        let void = Revocation { what, by: RevokedBy::User, since: NOW };
        let mut revocations = RevocationSet::default();
        revocations.insert(Verified::sign(void, &me.user, None).expect("signs"));
        store.revoke(&revocations, time(NOW));
        assert_eq!(store.get(&both.key(), time(NOW)), Some(&user(1, 2, 0).encode()[..]));
        assert_eq!(store.len(), 2);
        assert!(is_whole(&store));
    }

    #[test]
    fn a_revoked_name_goes() {
        let mut store = store(StoreLimits::default());
        put(&mut store, &name(1, 1)).expect("taken");
        let what = Revoked::Name("anna@x.example".into(), Person::new(1).id());
        let void = Revocation { what, by: RevokedBy::Authority(authority().id()), since: NOW };
        let mut revocations = RevocationSet::default();
        revocations.insert(Verified::sign(void, &authority(), None).expect("signs"));
        store.revoke(&revocations, time(NOW));
        assert!(store.is_empty());
    }

    #[test]
    fn what_nobody_put_for_long_is_spread_again_once() {
        let mut store = store(StoreLimits::default());
        put_at(&mut store, &user(1, 2, 0), None, NOW).expect("taken");
        put_at(&mut store, &user(2, 2, 0), None, NOW + 5).expect("taken");
        let due = store.next_stale(HOUR).expect("two are held");
        assert!((NOW + HOUR..NOW + HOUR + HOUR / 2 + 5).contains(&due));
        assert_eq!(store.take_stale(HOUR, due - 1), None);
        let first = store.take_stale(HOUR, due).map(|(key, _)| key).expect("is due");
        let (second, at) = (store.next_stale(HOUR).expect("the other"), due + HOUR);
        assert!(second < at);
        assert!(store.take_stale(HOUR, second).is_some_and(|(key, _)| key != first));
        assert_eq!(store.take_stale(HOUR, second), None);
        store.mark_stale(&first);
        assert!(store.take_stale(HOUR, second).is_some());
        assert!(store.take_stale(HOUR, NOW).is_some(), "the clock was put back");
    }

    /// All holders are given a value at the same moment: what eight put to eight each, one can.
    #[test]
    fn holders_do_not_spread_a_value_all_at_once() {
        let due = |node: u8| {
            let mut store = Store::new(&NodeId::from_bytes([node; 32]), StoreLimits::default());
            put_at(&mut store, &user(1, 2, 0), None, NOW).expect("taken");
            store.next_stale(HOUR).expect("held")
        };
        let mut all: Vec<u64> = (0..8).map(due).collect();
        all.sort_unstable();
        assert!(all[0] >= NOW + HOUR && all[7] < NOW + HOUR + HOUR / 2);
        assert!(all[1] - all[0] > 10 * 1_000 && all[7] - all[0] > 10 * 60 * 1_000, "{all:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_order_of_puts_holds_the_same(
            order in Just((0..10usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let all: Vec<Value> = (0..10u8).map(|index| user(1 + index / 2, 2 + index % 2, 0)).collect();
            let mut sorted = store(StoreLimits::default());
            let mut shuffled = store(StoreLimits::default());
            all.iter().for_each(|value| drop(put(&mut sorted, value)));
            order.iter().for_each(|index| drop(put(&mut shuffled, &all[*index])));
            for value in &all {
                prop_assert_eq!(sorted.get(&value.key(), time(NOW)), shuffled.get(&value.key(), time(NOW)));
            }
        }

        #[test]
        fn bounds_hold_whatever_comes(
            puts in prop::collection::vec((1..9u8, 2..5u8, 0..3u64, any::<bool>()), 1..40),
            values in 1..6usize,
            bytes in 200..4_000usize,
        ) {
            let mut store = store(StoreLimits { values, bytes, ..StoreLimits::default() });
            for (person, device, millis, other) in puts {
                let value = if other { presence(person, millis, 9) } else { user(person, device, millis) };
                let _ = put_at(&mut store, &value, peer(device), NOW + millis * HOUR);
                prop_assert!(is_whole(&store));
            }
        }
    }
}

//! Who is there, on either side: what laptops last said of their users answers probes, and is taken back when they are silent;
//! what contacts outside say is told to the laptops. In memory: after a start everybody says it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::time::{Now, SECOND};
use jid::{BareJid, Jid};

use super::gate::{Effect, Gate, GateError};
use crate::authority::database::Database;
use crate::xmpp::{Kind, Stanza, Type};

/// A laptop that is silent for so long is away. It says something every 30 s.
pub const AWAY: u64 = 75 * SECOND;
/// Stanzas for now or never that wait for one laptop to ask for them, and their bytes.
const LIVE: usize = 1_024;
const LIVE_BYTES: usize = 512 << 10;
/// Sessions of a user on one laptop.
const RESOURCES: usize = 16;
/// Addresses that one laptop's directed presence is remembered for.
const DIRECTED: usize = 500;
/// Sessions that ended while the stock server was away; further ones stay shown there.
const OWED: usize = 20_000;
/// Sessions of contacts outside, of all users, and of one contact.
const PRESENCES: usize = 50_000;
const OF_CONTACT: usize = 16;

/// A laptop that is here.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) node: NodeId,
    pub(super) user: UserId,
    pub(super) name: String,
    /// Monotonic milliseconds.
    pub(super) heard: u64,
    /// Available sessions of its user.
    pub(super) resources: BTreeMap<String, Stanza>,
    directed: BTreeSet<(String, Jid)>,
    live: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Seat {
    pub(super) fn new(node: NodeId, user: UserId, name: String) -> Self {
        Self {
            node,
            user,
            name,
            heard: 0,
            resources: BTreeMap::new(),
            directed: BTreeSet::new(),
            live: VecDeque::new(),
            bytes: 0,
        }
    }

    /// False if the laptop asks for too little.
    fn push(&mut self, stanza: &Stanza) -> bool {
        let bytes = stanza.to_bytes();
        let fits = self.live.len() < LIVE && self.bytes + bytes.len() <= LIVE_BYTES;
        if fits {
            self.bytes += bytes.len();
            self.live.push_back(bytes);
        }
        fits
    }

    /// What waits, so many bytes of it or one, and whether there is more.
    pub(super) fn take_live(&mut self, most: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.live.front()
            && (taken.is_empty() || bytes + next.len() <= most)
            && let Some(next) = self.live.pop_front()
        {
            bytes += next.len();
            self.bytes -= next.len();
            taken.push(next);
        }
        (taken, !self.live.is_empty())
    }

    pub(super) fn forget_live(&mut self) {
        self.live.clear();
        self.bytes = 0;
    }
}

/// What contacts outside say, by user and bare address; then by resource.
#[derive(Debug, Default)]
pub(super) struct Presences {
    of: BTreeMap<(UserId, String), BTreeMap<String, Stanza>>,
    count: usize,
}

impl Presences {
    fn say(&mut self, user: UserId, bare: &str, resource: &str, presence: &Stanza) -> bool {
        let full = self.count >= PRESENCES;
        let of_contact = self.of.entry((user, bare.to_owned())).or_default();
        let known = of_contact.contains_key(resource);
        if !known && (full || of_contact.len() >= OF_CONTACT) {
            return false;
        }
        self.count += usize::from(!known);
        of_contact.insert(resource.to_owned(), presence.clone());
        true
    }

    fn end(&mut self, user: UserId, bare: &str, resource: &str) {
        let key = (user, bare.to_owned());
        if let Some(of_contact) = self.of.get_mut(&key) {
            self.count -= usize::from(of_contact.remove(resource).is_some());
            if of_contact.is_empty() {
                self.of.remove(&key);
            }
        }
    }

    fn forget(&mut self, user: UserId, bare: &str) -> Vec<Stanza> {
        let gone = self.of.remove(&(user, bare.to_owned())).unwrap_or_default();
        self.count -= gone.len();
        gone.into_values().collect()
    }

    pub(super) fn of_user(&self, user: UserId) -> impl Iterator<Item = &Stanza> {
        let all = self.of.range((user, String::new())..).take_while(move |((of, _), _)| *of == user);
        all.flat_map(|(_, of_contact)| of_contact.values())
    }
}

fn unavailable(stanza: &Stanza) -> Stanza {
    Stanza { type_: Type::Unavailable, payload: Vec::new(), id: None, ..stanza.clone() }
}

impl Gate {
    /// Something for now or never for a laptop.
    pub(super) fn push(&mut self, device: DeviceId, stanza: &Stanza) {
        let Some(seat) = self.seats.get_mut(&device) else { return };
        let node = seat.node;
        if !seat.push(stanza) {
            return self.refuse("stanzas for laptops that do not fetch them");
        }
        self.news(node);
    }

    /// The same for all laptops of a user. Whether there was any.
    pub(super) fn push_to_all(&mut self, user: UserId, stanza: &Stanza) -> bool {
        let devices = self.seats_of(user);
        devices.iter().for_each(|device| self.push(*device, stanza));
        !devices.is_empty()
    }

    pub(super) fn news(&mut self, node: NodeId) {
        if !self.effects.contains(&Effect::News(node)) {
            self.effects.push(Effect::News(node));
        }
    }

    pub(super) fn seats_of(&self, user: UserId) -> Vec<DeviceId> {
        let of_user = self.seats.iter().filter(|(_, seat)| seat.user == user);
        of_user.map(|(device, _)| *device).collect()
    }

    /// A laptop with that session of the user.
    pub(super) fn seat_with(&self, user: UserId, resource: &str) -> Option<DeviceId> {
        let has = |seat: &Seat| seat.user == user && seat.resources.contains_key(resource);
        self.seats.iter().find(|(_, seat)| has(seat)).map(|(device, _)| *device)
    }

    /// Presence of all sessions of a user, as laptops last said.
    pub(super) fn presences_of(&self, user: UserId) -> Vec<Stanza> {
        let of_user = self.seats.values().filter(|seat| seat.user == user);
        of_user.flat_map(|seat| seat.resources.values()).cloned().collect()
    }

    /// The laptop says that a session of its user is there, changed, or gone.
    pub(super) fn session_says(
        &mut self,
        database: &Database,
        device: DeviceId,
        presence: Stanza,
    ) -> Result<(), GateError> {
        let Some(resource) =
            presence.from.as_ref().and_then(Jid::resource).map(|part| part.as_str().to_owned())
        else {
            return Ok(());
        };
        let Some(user) = self.seats.get(&device).map(|seat| seat.user) else { return Ok(()) };
        let was_there = !self.presences_of(user).is_empty();
        let Some(seat) = self.seats.get_mut(&device) else { return Ok(()) };
        match presence.type_ {
            Type::Available
                if seat.resources.len() >= RESOURCES && !seat.resources.contains_key(&resource) =>
            {
                self.refuse("sessions of one laptop beyond the limit");
                return Ok(());
            }
            Type::Available => drop(seat.resources.insert(resource, presence.clone())),
            _ if seat.resources.remove(&resource).is_none() => return Ok(()),
            _ => {}
        }
        if presence.type_ != Type::Available {
            self.owe(user, presence.from.clone(), None);
        }
        self.broadcast(database, user, &presence)?;
        if !was_there {
            self.probe(database, user, &presence)?;
        }
        Ok(())
    }

    fn broadcast(&mut self, database: &Database, user: UserId, presence: &Stanza) -> Result<(), GateError> {
        if !self.is_up() {
            return Ok(());
        }
        let watchers = self.book(database, &user)?.watchers().filter_map(|to| Jid::new(to).ok()).collect();
        for to in self.unblocked(database, &user, watchers)? {
            self.write(&Stanza { to: Some(to), ..presence.clone() });
        }
        Ok(())
    }

    /// Asks contacts outside how they are, once somebody is there to see it.
    fn probe(&mut self, database: &Database, user: UserId, presence: &Stanza) -> Result<(), GateError> {
        if !self.is_up() {
            return Ok(());
        }
        let from = presence.from.as_ref().map(|from| Jid::from(from.to_bare()));
        let watched = self.book(database, &user)?.watched().filter_map(|to| Jid::new(to).ok()).collect();
        for to in self.unblocked(database, &user, watched)? {
            let probe = Stanza::new(Kind::Presence, Type::Probe);
            self.write(&Stanza { from: from.clone(), to: Some(to), ..probe });
        }
        Ok(())
    }

    /// While the stock server is away it cannot be told that a session has ended.
    fn owe(&mut self, user: UserId, from: Option<Jid>, to: Option<Jid>) {
        if let Some(from) = from.filter(|_| !self.is_up()) {
            match self.owed.len() < OWED {
                true => drop(self.owed.insert((user, from, to))),
                false => self.refuse("ends of sessions that other servers were not told of"),
            }
        }
    }

    /// It is back: who has gone meanwhile, and is not here again, is shown there still.
    pub(super) fn say_who_is_gone(&mut self, database: &Database) -> Result<(), GateError> {
        for (user, from, to) in std::mem::take(&mut self.owed) {
            if from.resource().is_some_and(|part| self.seat_with(user, part.as_str()).is_some()) {
                continue;
            }
            let mut end = Stanza::new(Kind::Presence, Type::Unavailable);
            (end.from, end.to) = (Some(from), to);
            match end.to {
                Some(_) => self.write(&end),
                None => self.broadcast(database, user, &end)?,
            }
        }
        Ok(())
    }

    /// The stock server has only just come: it knows nothing of anybody.
    pub(super) fn say_who_is_there(&mut self, database: &Database) -> Result<(), GateError> {
        let users: BTreeSet<UserId> = self.seats.values().map(|seat| seat.user).collect();
        for user in users {
            let here = self.presences_of(user);
            for presence in &here {
                self.broadcast(database, user, presence)?;
            }
            if let Some(first) = here.first() {
                self.probe(database, user, first)?;
            }
        }
        Ok(())
    }

    /// Without the stock server nobody outside is seen.
    pub(super) fn nobody_is_seen(&mut self) {
        let all = std::mem::take(&mut self.presences);
        for ((user, _), of_contact) in all.of {
            for presence in of_contact.values() {
                self.push_to_all(user, &unavailable(presence));
            }
        }
        let nodes: BTreeSet<NodeId> = self.seats.values().map(|seat| seat.node).collect();
        nodes.into_iter().for_each(|node| self.news(node));
    }

    /// Laptops that are silent, and users without a name: their sessions are taken back.
    pub(super) fn who_is_gone(&mut self, database: &Database, now: Now) -> Result<(), GateError> {
        let mut gone = Vec::new();
        for (device, seat) in &self.seats {
            if seat.heard + AWAY <= now.mono || !self.has_name(database, &seat.user, &seat.name)? {
                gone.push(*device);
            }
        }
        for device in gone {
            self.leaves(database, device)?;
        }
        Ok(())
    }

    pub(super) fn leaves(&mut self, database: &Database, device: DeviceId) -> Result<(), GateError> {
        let Some(seat) = self.seats.get_mut(&device) else { return Ok(()) };
        let (resources, directed) = (seat.resources.clone(), std::mem::take(&mut seat.directed));
        let (user, name) = (seat.user, seat.name.clone());
        for presence in resources.values() {
            self.session_says(database, device, unavailable(presence))?;
        }
        for (resource, to) in directed {
            if self.is_watcher(database, user, &to)? {
                continue;
            }
            let mut end = Stanza::new(Kind::Presence, Type::Unavailable);
            end.from = Jid::new(&format!("{name}@{}/{resource}", self.domain)).ok();
            self.owe(user, end.from.clone(), Some(to.clone()));
            end.to = Some(to);
            self.write(&end);
        }
        self.seats.remove(&device);
        Ok(())
    }

    fn is_watcher(&mut self, database: &Database, user: UserId, to: &Jid) -> Result<bool, GateError> {
        let bare = to.to_bare();
        Ok(self.book(database, &user)?.contact(bare.as_str()).from)
    }

    /// A laptop's user shows itself to one address, or takes that back.
    pub(super) fn directs(&mut self, device: DeviceId, presence: &Stanza) {
        let (Some(from), Some(to)) = (&presence.from, &presence.to) else { return };
        let Some(resource) = from.resource() else { return };
        let Some(seat) = self.seats.get_mut(&device) else { return };
        let entry = (resource.as_str().to_owned(), to.clone());
        match presence.type_ {
            Type::Available if seat.directed.len() < DIRECTED => drop(seat.directed.insert(entry)),
            _ => drop(seat.directed.remove(&entry)),
        }
        self.write(presence);
    }

    /// A contact outside is there, changed, or gone.
    pub(super) fn contact_says(&mut self, user: UserId, presence: &Stanza, seen: bool) {
        let Some(from) = &presence.from else { return };
        let (bare, resource) = (from.to_bare(), from.resource().map_or("", |part| part.as_str()));
        match presence.type_ {
            Type::Available if seen && !self.presences.say(user, bare.as_str(), resource, presence) => {
                return self.refuse("presence of contacts outside beyond the limit");
            }
            Type::Available => {}
            // RFC 6121 §4.5.4: all sessions are gone.
            _ if resource.is_empty() => {
                for gone in self.presences.forget(user, bare.as_str()) {
                    self.push_to_all(user, &unavailable(&gone));
                }
                return;
            }
            _ => self.presences.end(user, bare.as_str(), resource),
        }
        self.push_to_all(user, presence);
    }

    /// The user does not see the contact any more.
    pub(super) fn contact_ends(&mut self, user: UserId, contact: &BareJid) {
        for gone in self.presences.forget(user, contact.as_str()) {
            self.push_to_all(user, &unavailable(&gone));
        }
    }

    /// The contact sees the user from now on, or no longer.
    pub(super) fn shows(&mut self, user: UserId, to: &BareJid, shown: bool) {
        for presence in self.presences_of(user) {
            let presence = if shown { presence } else { unavailable(&presence) };
            self.write(&Stanza { to: Some(to.clone().into()), ..presence });
        }
    }
}

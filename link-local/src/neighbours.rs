//! Neighbours' life cycle: sightings, goodbyes and expiry become appeared, changed and vanished (*pure*).
//!
//! A user on several devices is one neighbour, shown by the best of them, and vanishes with the last. Changes are
//! joined: whoever drains the events late gets the difference to what was told last, never a backlog.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::record::LinkStatus;
use crosstalk_overlay::time::Now;

use crate::clean;
use crate::instance::Instance;
use crate::show::Show;

/// Most neighbours. When full, newcomers are refused and counted.
pub const MAX_NEIGHBOURS: usize = 1024;
/// Most of them that are known by XEP-0174 only: names that cost nothing to invent keep no signed neighbour out.
pub const MAX_BONJOUR: usize = 512;
/// Most devices of one user, as many as one user record may have. More are refused and counted.
pub const MAX_DEVICES: usize = 16;
/// Longest life of a signed sighting, in milliseconds: that of an XEP-0174 TXT record, 75 minutes.
pub const MAX_LIFE: u64 = 75 * 60 * 1000;

/// How a neighbour was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighbourKey {
    /// On a CrossTalk node: signed by the user's device.
    Node(UserId, DeviceId),
    /// By XEP-0174 only: unauthenticated.
    Bonjour(Instance),
}

/// Who a neighbour is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A user of CrossTalk.
    User(UserId),
    /// Somebody known by XEP-0174 only.
    Bonjour(Instance),
}

impl NeighbourKey {
    /// Whom this key belongs to.
    pub fn who(&self) -> Who {
        match self {
            Self::Node(user, _) => Who::User(*user),
            Self::Bonjour(instance) => Who::Bonjour(instance.clone()),
        }
    }
}

/// One sighting, as it came; texts are cleaned on the way in.
#[derive(Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Who, and where.
    pub key: NeighbourKey,
    /// XEP-0172 nickname.
    pub nickname: String,
    /// Availability.
    pub show: Show,
    /// Status text.
    pub status: String,
    /// XEP-0174 instance, if it is a valid one.
    pub instance: Option<Instance>,
    /// Until when it holds: milliseconds of the monotonic clock, at most [`MAX_LIFE`] ahead. That of a
    /// [`NeighbourKey::Bonjour`] holds until [`Neighbours::gone`]: multicast DNS knows itself who left.
    pub expires: u64,
}

impl Sighting {
    /// A sighting without texts.
    pub fn new(key: NeighbourKey, expires: u64) -> Self {
        let (nickname, status) = (String::new(), String::new());
        Self { key, nickname, show: Show::default(), status, instance: None, expires }
    }

    /// What a CrossTalk node says of a user.
    pub fn of_node(key: NeighbourKey, status: &LinkStatus, expires: u64) -> Self {
        Self {
            nickname: status.nickname.clone(),
            show: Show::from_xmpp(&status.show),
            status: status.status.clone(),
            instance: Instance::new(status.instance.as_str()).ok(),
            ..Self::new(key, expires)
        }
    }
}

/// What is shown of a neighbour. Texts are clean.
#[derive(Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Who it is.
    pub who: Who,
    /// Nickname, at most 64 characters; empty if none is left.
    pub nickname: String,
    /// Availability.
    pub show: Show,
    /// Status text, at most 256 characters; empty if there is none.
    pub status: String,
    /// XEP-0174 instance.
    pub instance: Option<Instance>,
}

impl Neighbour {
    /// The user, unless known by XEP-0174 only.
    pub fn user(&self) -> Option<UserId> {
        match &self.who {
            Who::User(user) => Some(*user),
            Who::Bonjour(_) => None,
        }
    }

    /// Nickname, text of `<show/>` and text of `<status/>`.
    pub fn shown(&self) -> (String, String, String) {
        (self.nickname.clone(), self.show.to_xmpp().to_owned(), self.status.clone())
    }
}

impl fmt::Debug for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sighting({:?}, {:?}, until {})", self.key, self.show, self.expires)
    }
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Neighbour({:?}, {:?})", self.who, self.show)
    }
}

/// What changed for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody new.
    Appeared(Neighbour),
    /// Something shown has changed.
    Changed(Neighbour),
    /// Gone, or not heard of for the life of the last sighting; as last told.
    Vanished(Neighbour),
}

/// Everybody on the link. `handle` something, then drain [`Neighbours::poll_event`], then ask
/// [`Neighbours::poll_timeout`].
#[derive(Debug, Default)]
pub struct Neighbours {
    all: BTreeMap<Who, Entry>,
    /// All sightings by expiry.
    deadlines: BTreeSet<(u64, NeighbourKey)>,
    /// Those with something to tell, each at most once.
    changed: VecDeque<Who>,
    /// Signed sightings by the XEP-0174 instance that they name.
    named: BTreeMap<Instance, BTreeSet<NeighbourKey>>,
    /// Instances that are named by others than when last asked.
    renamed: BTreeSet<Instance>,
    bonjour: usize,
    /// Counts sightings: of two equally good devices the later one is shown.
    turn: u64,
    refused: u64,
}

#[derive(Debug, Default)]
struct Entry {
    devices: BTreeMap<NeighbourKey, Device>,
    told: Option<Neighbour>,
    queued: bool,
}

#[derive(Debug)]
struct Device {
    view: Neighbour,
    expires: u64,
    /// When what it shows last changed.
    turn: u64,
}

impl Entry {
    fn best(&self) -> Option<&Neighbour> {
        let best =
            self.devices.values().min_by_key(|device| (device.view.show, std::cmp::Reverse(device.turn)));
        best.map(|device| &device.view)
    }
}

impl Neighbours {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody was seen, or seen again.
    pub fn sighted(&mut self, sighting: Sighting, now: Now) {
        let key = sighting.key.clone();
        let who = key.who();
        if sighting.expires <= now.mono {
            return self.gone(&key, now);
        }
        if !self.has_room(&who, &key) {
            self.refused += 1;
            return;
        }
        self.turn += 1;
        let expires = match &key {
            NeighbourKey::Node(..) => sighting.expires.min(now.mono.saturating_add(MAX_LIFE)),
            NeighbourKey::Bonjour(_) => u64::MAX,
        };
        let view = view(sighting);
        let old = self.all.get_mut(&who).and_then(|entry| entry.devices.remove(&key));
        if let Some(old) = &old {
            self.deadlines.remove(&(old.expires, key.clone()));
        }
        let before = old.as_ref().and_then(|old| old.view.instance.clone());
        self.rename(&key, before, view.instance.clone());
        let is_new = old.is_none();
        let turn = old.filter(|old| old.view == view).map_or(self.turn, |old| old.turn);
        self.all.entry(who.clone()).or_default().devices.insert(key.clone(), Device { view, expires, turn });
        match key {
            NeighbourKey::Node(..) => {
                self.deadlines.insert((expires, key));
            }
            NeighbourKey::Bonjour(_) => self.bonjour += usize::from(is_new),
        }
        self.mark(who);
    }

    /// Somebody said goodbye.
    pub fn gone(&mut self, key: &NeighbourKey, _now: Now) {
        let who = key.who();
        let Some(device) = self.all.get_mut(&who).and_then(|entry| entry.devices.remove(key)) else { return };
        self.deadlines.remove(&(device.expires, key.clone()));
        self.rename(key, device.view.instance, None);
        if matches!(key, NeighbourKey::Bonjour(_)) {
            self.bonjour -= 1;
        }
        self.mark(who);
    }

    /// Users whose signed sightings name this XEP-0174 instance as theirs.
    pub fn naming(&self, instance: &Instance) -> impl Iterator<Item = UserId> {
        let user = |key: &NeighbourKey| match key {
            NeighbourKey::Node(user, _) => Some(*user),
            NeighbourKey::Bonjour(_) => None,
        };
        self.named.get(instance).into_iter().flatten().filter_map(user)
    }

    /// Instances for which the answer of [`Self::naming`] has changed since this was last called.
    pub fn take_renamed(&mut self) -> BTreeSet<Instance> {
        std::mem::take(&mut self.renamed)
    }

    fn rename(&mut self, key: &NeighbourKey, before: Option<Instance>, after: Option<Instance>) {
        if before == after || matches!(key, NeighbourKey::Bonjour(_)) {
            return;
        }
        if let Some(before) = before {
            if let Some(keys) = self.named.get_mut(&before) {
                keys.remove(key);
                if keys.is_empty() {
                    self.named.remove(&before);
                }
            }
            self.renamed.insert(before);
        }
        if let Some(after) = after {
            self.named.entry(after.clone()).or_default().insert(key.clone());
            self.renamed.insert(after);
        }
    }

    /// Drops whoever has not been seen for too long.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((_, key)) = self.deadlines.first().filter(|(expires, _)| *expires <= now.mono).cloned()
        {
            self.gone(&key, now);
        }
    }

    /// The next difference to what was told before.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(who) = self.changed.pop_front() {
            let Some(entry) = self.all.get_mut(&who) else { continue };
            entry.queued = false;
            let current = entry.best().cloned();
            let told = std::mem::replace(&mut entry.told, current.clone());
            if entry.devices.is_empty() {
                self.all.remove(&who);
            }
            match (told, current) {
                (None, Some(new)) => return Some(Event::Appeared(new)),
                (Some(old), Some(new)) if old != new => return Some(Event::Changed(new)),
                (Some(old), None) => return Some(Event::Vanished(old)),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        None
    }

    /// When [`Self::handle_timeout`] has to be called: milliseconds of the monotonic clock, and why.
    pub fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        self.deadlines.first().map(|(expires, _)| (*expires, "a neighbour's sighting ends"))
    }

    /// Everybody there, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.all.values().filter_map(Entry::best)
    }

    /// Somebody who is there.
    pub fn get(&self, who: &Who) -> Option<&Neighbour> {
        self.all.get(who).and_then(Entry::best)
    }

    /// How many sightings of newcomers found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn has_room(&self, who: &Who, key: &NeighbourKey) -> bool {
        match self.all.get(who) {
            Some(entry) => entry.devices.contains_key(key) || entry.devices.len() < MAX_DEVICES,
            None if matches!(key, NeighbourKey::Bonjour(_)) && self.bonjour >= MAX_BONJOUR => false,
            None => self.all.len() < MAX_NEIGHBOURS,
        }
    }

    fn mark(&mut self, who: Who) {
        if let Some(entry) = self.all.get_mut(&who)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.changed.push_back(who);
        }
    }
}

fn view(sighting: Sighting) -> Neighbour {
    Neighbour {
        who: sighting.key.who(),
        nickname: clean::nickname(&sighting.nickname),
        show: sighting.show,
        status: clean::status(&sighting.status),
        instance: sighting.instance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(mono: u64) -> Now {
        Now { mono, wall: 0 }
    }

    fn key(user: u16, device: u8) -> NeighbourKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&user.to_be_bytes());
        NeighbourKey::Node(UserId::from_bytes(bytes), DeviceId::from_bytes([device; 32]))
    }

    fn seen(user: u16, device: u8, show: Show, expires: u64) -> Sighting {
        Sighting { show, nickname: format!("u{user}d{device}"), ..Sighting::new(key(user, device), expires) }
    }

    fn drain(neighbours: &mut Neighbours) -> Vec<(char, String, Show)> {
        let name = |event| match event {
            Event::Appeared(neighbour) => ('+', neighbour.nickname, neighbour.show),
            Event::Changed(neighbour) => ('~', neighbour.nickname, neighbour.show),
            Event::Vanished(neighbour) => ('-', neighbour.nickname, neighbour.show),
        };
        std::iter::from_fn(|| neighbours.poll_event()).map(name).collect()
    }

    #[test]
    fn appears_changes_and_says_goodbye() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(seen(1, 1, Show::Available, 100), at(0));
        assert_eq!(drain(&mut neighbours), [('+', "u1d1".into(), Show::Available)]);
        neighbours.sighted(seen(1, 1, Show::Available, 200), at(50));
        assert_eq!(drain(&mut neighbours), [], "a refresh shows nothing new");
        neighbours.sighted(seen(1, 1, Show::Away, 200), at(60));
        assert_eq!(drain(&mut neighbours), [('~', "u1d1".into(), Show::Away)]);
        neighbours.gone(&key(1, 1), at(70));
        assert_eq!(drain(&mut neighbours), [('-', "u1d1".into(), Show::Away)]);
        assert_eq!(neighbours.poll_timeout(), None);
    }

    #[test]
    fn an_old_status_is_never_shown() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(seen(1, 1, Show::Available, 100), at(0));
        neighbours.sighted(seen(2, 1, Show::Available, 100), at(100));
        assert_eq!(drain(&mut neighbours).len(), 1, "one that has expired on arrival is none");
        assert_eq!(neighbours.poll_timeout().map(|(when, _)| when), Some(100));
        neighbours.handle_timeout(at(99));
        assert_eq!(drain(&mut neighbours), []);
        neighbours.handle_timeout(at(100));
        assert_eq!(drain(&mut neighbours), [('-', "u1d1".into(), Show::Available)]);
        assert_eq!(neighbours.iter().count(), 0);
    }

    #[test]
    fn two_devices_are_one_neighbour() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(seen(1, 1, Show::Away, 100), at(0));
        neighbours.sighted(seen(1, 2, Show::Available, 200), at(0));
        assert_eq!(drain(&mut neighbours), [('+', "u1d2".into(), Show::Available)]);
        neighbours.sighted(seen(1, 1, Show::DoNotDisturb, 150), at(1));
        assert_eq!(drain(&mut neighbours), []);
        neighbours.gone(&key(1, 2), at(2));
        assert_eq!(drain(&mut neighbours), [('~', "u1d1".into(), Show::DoNotDisturb)]);
        neighbours.handle_timeout(at(150));
        assert_eq!(drain(&mut neighbours), [('-', "u1d1".into(), Show::DoNotDisturb)]);
    }

    #[test]
    fn of_equally_good_devices_the_last_changed_is_shown_and_stays() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(seen(1, 1, Show::Available, 100), at(0));
        neighbours.sighted(seen(1, 2, Show::Available, 100), at(0));
        assert_eq!(drain(&mut neighbours), [('+', "u1d2".into(), Show::Available)]);
        neighbours.sighted(seen(1, 1, Show::Available, 200), at(50));
        assert_eq!(drain(&mut neighbours), [], "refreshes in turn do not flicker");
    }

    #[test]
    fn who_comes_and_goes_unseen_is_not_told() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(seen(1, 1, Show::Available, 100), at(0));
        neighbours.gone(&key(1, 1), at(0));
        assert_eq!(drain(&mut neighbours), []);
        assert!(neighbours.all.is_empty());
    }

    #[test]
    fn names_are_cleaned() {
        let mut neighbours = Neighbours::new();
        let status = LinkStatus {
            instance: "anna@h1".into(),
            nickname: "An\u{202e}na".into(),
            show: "xa".into(),
            status: "x".repeat(5000),
        };
        neighbours.sighted(Sighting::of_node(key(1, 1), &status, 100), at(0));
        let anna = neighbours.iter().next().unwrap();
        assert_eq!(anna.shown(), ("Anna".into(), "xa".into(), "x".repeat(256)));
        assert_eq!(anna.instance, Instance::new("anna@h1").ok());
        assert!(anna.user().is_some());
        assert!(!format!("{anna:?}").contains("Anna"), "names stay out of logs");
    }

    #[test]
    fn is_bounded_and_counts() {
        let mut neighbours = Neighbours::new();
        for user in 0..2000 {
            neighbours.sighted(seen(user, 1, Show::Available, 100), at(0));
        }
        for device in 0..100 {
            neighbours.sighted(seen(0, device, Show::Available, 100), at(0));
        }
        assert_eq!(neighbours.iter().count(), MAX_NEIGHBOURS);
        assert_eq!(neighbours.refused(), 2000 - 1024 + 100 - 16);
        assert_eq!(neighbours.deadlines.len(), MAX_NEIGHBOURS + 15);
        neighbours.sighted(seen(5, 1, Show::Away, 100), at(1));
        assert_eq!(drain(&mut neighbours).len(), MAX_NEIGHBOURS, "those there are still refreshed");
        neighbours.gone(&key(7, 1), at(2));
        drain(&mut neighbours);
        neighbours.sighted(seen(3000, 1, Show::Available, 100), at(3));
        assert_eq!(drain(&mut neighbours).len(), 1, "room was made");
    }

    #[test]
    fn lives_are_capped() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(seen(1, 1, Show::Available, u64::MAX), at(5));
        assert_eq!(neighbours.poll_timeout().map(|(when, _)| when), Some(5 + MAX_LIFE));
    }

    fn bonjour(name: &str) -> Sighting {
        let instance = Instance::new(name).unwrap();
        Sighting { nickname: name.to_owned(), ..Sighting::new(NeighbourKey::Bonjour(instance), 1) }
    }

    #[test]
    fn a_bonjour_neighbour_stays_until_it_is_gone() {
        let mut neighbours = Neighbours::new();
        neighbours.sighted(bonjour("bob@h2"), at(0));
        assert_eq!(neighbours.poll_timeout(), None);
        neighbours.handle_timeout(at(u64::MAX));
        assert_eq!(drain(&mut neighbours), [('+', "bob@h2".into(), Show::Available)]);
        neighbours.gone(&bonjour("bob@h2").key, at(9));
        assert_eq!(drain(&mut neighbours), [('-', "bob@h2".into(), Show::Available)]);
    }

    #[test]
    fn invented_names_keep_no_signed_neighbour_out() {
        let mut neighbours = Neighbours::new();
        for number in 0..1_000 {
            neighbours.sighted(bonjour(&format!("n{number}")), at(0));
        }
        assert_eq!(neighbours.iter().count(), MAX_BONJOUR);
        neighbours.sighted(seen(1, 1, Show::Available, 100), at(0));
        assert_eq!(neighbours.iter().count(), MAX_BONJOUR + 1);
        neighbours.sighted(bonjour("n0"), at(0));
        neighbours.gone(&bonjour("n0").key, at(0));
        neighbours.sighted(bonjour("n999"), at(0));
        assert_eq!(neighbours.iter().count(), MAX_BONJOUR + 1, "room was made for one");
    }

    #[test]
    fn signed_sightings_name_instances() {
        let (mut neighbours, bob) = (Neighbours::new(), Instance::new("bob@h2").unwrap());
        let user = |number| NeighbourKey::who(&key(number, 1));
        let named = |number| Sighting { instance: Some(bob.clone()), ..seen(number, 1, Show::Away, 100) };
        neighbours.sighted(named(1), at(0));
        neighbours.sighted(named(2), at(0));
        neighbours.sighted(named(2), at(1));
        let naming: Vec<Who> = neighbours.naming(&bob).map(Who::User).collect();
        assert_eq!(naming, [user(1), user(2)]);
        assert_eq!(neighbours.take_renamed().into_iter().collect::<Vec<_>>(), std::slice::from_ref(&bob));
        neighbours.sighted(seen(1, 1, Show::Away, 100), at(2));
        neighbours.handle_timeout(at(100));
        assert_eq!(neighbours.naming(&bob).count(), 0);
        assert_eq!(neighbours.take_renamed().len(), 1);
        assert!(neighbours.named.is_empty() && neighbours.take_renamed().is_empty());
        let unsigned = Sighting { instance: Some(bob.clone()), ..bonjour("eve@h3") };
        neighbours.sighted(unsigned, at(101));
        assert_eq!(neighbours.naming(&bob).count(), 0, "an unsigned word names nobody");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Sighted(u16, u8, Show, u64),
        Gone(u16, u8),
        Wait(u64),
        Poll,
    }

    fn a_step() -> impl Strategy<Value = Step> {
        let show =
            prop_oneof![Just(Show::Chat), Just(Show::Available), Just(Show::Away), Just(Show::DoNotDisturb)];
        prop_oneof![
            (0u16..3, 0u8..3, show, 0u64..100)
                .prop_map(|(user, device, show, life)| Step::Sighted(user, device, show, life)),
            (0u16..3, 0u8..3).prop_map(|(user, device)| Step::Gone(user, device)),
            (0u64..60).prop_map(Step::Wait),
            Just(Step::Poll),
        ]
    }

    proptest! {
        /// A plain model: the live sightings. What was told has to be what the model says, at every full drain.
        #[test]
        fn events_add_up_to_the_truth(steps in proptest::collection::vec(a_step(), 0..120)) {
            let mut neighbours = Neighbours::new();
            let mut model = BTreeMap::<(u16, u8), (Show, u64)>::new();
            let mut told = BTreeMap::<UserId, Neighbour>::new();
            let mut now = 0;
            for step in steps.into_iter().chain([Step::Poll]) {
                match step {
                    Step::Sighted(user, device, show, life) => {
                        neighbours.sighted(seen(user, device, show, now + life), at(now));
                        if life == 0 { model.remove(&(user, device)); } else { model.insert((user, device), (show, now + life)); }
                    }
                    Step::Gone(user, device) => {
                        neighbours.gone(&key(user, device), at(now));
                        model.remove(&(user, device));
                    }
                    Step::Wait(pause) => {
                        now += pause;
                        neighbours.handle_timeout(at(now));
                        model.retain(|_, (_, expires)| *expires > now);
                        prop_assert!(neighbours.poll_timeout().is_none_or(|(when, _)| when > now));
                    }
                    Step::Poll => {
                        while let Some(event) = neighbours.poll_event() {
                            match event {
                                Event::Appeared(new) => prop_assert!(told.insert(new.user().unwrap(), new).is_none()),
                                Event::Changed(new) => {
                                    let old = told.insert(new.user().unwrap(), new.clone());
                                    prop_assert!(old.is_some_and(|old| old != new));
                                }
                                Event::Vanished(old) => prop_assert_eq!(told.remove(&old.user().unwrap()), Some(old)),
                            }
                        }
                        let mut best = BTreeMap::new();
                        for ((user, _), (show, _)) in &model {
                            let show = *show;
                            best.entry(*user).and_modify(|best: &mut Show| *best = show.min(*best)).or_insert(show);
                        }
                        let shown: Vec<Show> = told.values().map(|neighbour| neighbour.show).collect();
                        prop_assert_eq!(shown, best.into_values().collect::<Vec<_>>());
                        prop_assert!(neighbours.iter().eq(told.values()));
                    }
                }
            }
        }
    }
}

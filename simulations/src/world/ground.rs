//! Where people carry their laptops: places, each with a link of its own, roads without any, a field where radios reach so
//! far; and laptops whose lids are closed. *Pure.*

use std::collections::BTreeMap;

use super::World;
use super::events::{Event, HostId};
use super::host::Power;

/// How fast people walk, metres a second.
const PACE: f64 = 1.4;
/// How often it is looked who has come into reach, milliseconds.
const STEP: u64 = 2_000;

/// Who is where.
#[derive(Default)]
pub(crate) struct Ground {
    /// Everybody begins at the place without a name; who is nowhere is on the road.
    places: BTreeMap<HostId, Option<&'static str>>,
    field: Option<Field>,
}

/// People who walk from one random point to the next (the random waypoint model).
struct Field {
    /// Metres of its sides.
    side: f64,
    walkers: BTreeMap<HostId, Walker>,
}

#[derive(Clone, Copy)]
struct Walker {
    /// How far its radio reaches, metres.
    range: f64,
    at: (f64, f64),
    to: (f64, f64),
}

impl World {
    /// Somebody carries a host to a place, where its link is; or takes it on the road.
    pub(crate) fn carry(&mut self, host: HostId, place: Option<&'static str>) {
        let name = self.hosts[host.0].name;
        self.story.tell(self.time, || format!("{name} is carried to {}", place.unwrap_or("the road")));
        self.ground.places.insert(host, place);
        for other in (0..self.hosts.len()).map(HostId).filter(|other| *other != host) {
            let there = self.ground.places.get(&other).copied().unwrap_or(Some(""));
            self.reach(host, other, place.is_some() && place == there);
        }
        self.note_apart();
    }

    /// These hosts walk about a field, `side` metres long and wide, with radios that reach `range` metres, some a quarter more and
    /// others less: whoever has the weaker one hears some who do not hear it.
    pub(crate) fn walk(&mut self, hosts: &[HostId], side: f64, range: f64) {
        let mut walker = || {
            let mut point = || (self.dice.share() * side, self.dice.share() * side);
            let (at, to) = (point(), point());
            Walker { range: range * (0.75 + 0.5 * self.dice.share()), at, to }
        };
        let walkers = hosts.iter().map(|host| (*host, walker())).collect();
        self.ground.field = Some(Field { side, walkers });
        self.queue.push(self.time + 1, Event::Walk);
    }

    /// Everybody stands together.
    pub(crate) fn gather(&mut self) {
        self.ground.field = None;
        self.network.one_way.clear();
        for host in (0..self.hosts.len()).map(HostId) {
            self.carry(host, Some(""));
        }
    }

    /// Everybody has walked on.
    pub(crate) fn step_on(&mut self) {
        let Some(field) = &mut self.ground.field else { return };
        let side = field.side;
        for walker in field.walkers.values_mut() {
            let way = (walker.to.0 - walker.at.0, walker.to.1 - walker.at.1);
            let left = way.0.hypot(way.1);
            let step = PACE * STEP as f64 / 1_000.0;
            if left <= step {
                walker.at = walker.to;
                walker.to = (self.dice.share() * side, self.dice.share() * side);
            } else {
                walker.at = (walker.at.0 + way.0 * step / left, walker.at.1 + way.1 * step / left);
            }
        }
        let walkers: Vec<(HostId, Walker)> = field.walkers.iter().map(|(host, at)| (*host, *at)).collect();
        for (index, (a, first)) in walkers.iter().enumerate() {
            for (b, second) in &walkers[index + 1..] {
                let apart = (first.at.0 - second.at.0).hypot(first.at.1 - second.at.1);
                let (there, back) = (apart <= first.range, apart <= second.range);
                for (pair, hears) in [((*a, *b), there && !back), ((*b, *a), back && !there)] {
                    match hears {
                        true => self.network.one_way.insert(pair),
                        false => self.network.one_way.remove(&pair),
                    };
                }
                self.reach(*a, *b, there && back);
            }
        }
        self.note_apart();
        self.queue.push(self.time + STEP, Event::Walk);
    }

    /// Whether two hosts hear each other from now on.
    fn reach(&mut self, a: HostId, b: HostId, near: bool) {
        let pair = (a.min(b), a.max(b));
        if near && self.network.far.remove(&pair) {
            self.reconnect(a, b, true);
        } else if !near && self.network.far.insert(pair) {
            self.disconnect(a, b);
        }
    }

    /// The lid of a laptop is closed: nothing happens on it, and nobody hears of it.
    pub(crate) fn close_lid(&mut self, host: HostId) {
        if self.hosts[host.0].power == Power::On {
            let name = self.hosts[host.0].name;
            self.story.tell(self.time, || format!("the lid of {name} is closed"));
            self.hosts[host.0].power = Power::Asleep;
            self.note_apart();
        }
    }

    /// It is opened: what should have happened meanwhile happens now.
    pub(crate) fn open_lid(&mut self, host: HostId) {
        if self.hosts[host.0].power != Power::Asleep {
            return;
        }
        let name = self.hosts[host.0].name;
        self.story.tell(self.time, || format!("the lid of {name} is opened"));
        self.hosts[host.0].power = Power::On;
        self.hosts[host.0].woken = self.time;
        self.watch_again();
        for event in std::mem::take(&mut self.hosts[host.0].slept) {
            self.queue.push(self.time, event);
        }
        self.wake_timer(host);
        for (pipe, end) in self.pipes_of(host) {
            self.queue.push(self.time, Event::Resume(pipe, end));
        }
        self.queue.push(self.time + self.dice.between(5, 200), Event::Query(self.life(host), false));
        self.note_apart();
    }

    /// Puts off what should happen on a laptop whose lid is closed.
    pub(super) fn put_off(&mut self, event: Event) -> Option<Event> {
        match self.place_of(&event).filter(|host| self.hosts[host.0].power == Power::Asleep) {
            // There is a new one when it wakes.
            Some(_) if matches!(event, Event::Timeout(_)) => None,
            Some(host) => {
                self.hosts[host.0].slept.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// The host on which an event happens.
    fn place_of(&self, event: &Event) -> Option<HostId> {
        match event {
            Event::Drain(life)
            | Event::Timeout(life)
            | Event::Written(life)
            | Event::SealingKey(life, _)
            | Event::Dialled(life, _)
            | Event::Query(life, _)
            | Event::Asked(life)
            | Event::Served(life, _)
            | Event::Attack(life) => self.lives(*life).then_some(life.host).or_else(|| {
                let same = self.life(life.host).count == life.count;
                (same && self.hosts[life.host.0].power == Power::Asleep).then_some(life.host)
            }),
            Event::Broken(pipe, end) => self.node_at(*pipe, *end).map(|(host, _)| host),
            Event::Up(conn, _) | Event::Down(conn, _) => self.streams.get(conn).map(|stream| stream.host),
            Event::Wake(client, _) | Event::Say(client, _) | Event::Edit(client) => {
                Some(self.clients[client.0].host)
            }
            Event::Parcel(..)
            | Event::Datagram(..)
            | Event::Resume(..)
            | Event::Fault(_)
            | Event::Watch
            | Event::Walk => None,
        }
    }
}

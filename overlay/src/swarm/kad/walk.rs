//! Look-ups of a value that show their path: whom we asked, who had named them, what they said, and when. libp2p-kad does not
//! tell that of its own queries, so these ask node by node: in each table four at a time, always the closest that are known,
//! until the eight closest have answered; a value found, others have 0.4 s to contradict. Where a key is surrounded (`wide`), a
//! walk that has found nothing goes further out, and so does one that follows a query of libp2p-kad.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use libp2p::kad::PeerInfo;
use libp2p::request_response::{self, OutboundRequestId};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::super::address;
use super::Parts;
use super::ask::{Event, Said};
use super::diversity::{Networks, mixed};
use super::query::{Done, MAX_VALUES, Origin, SETTLE, Tables};
use super::shape::{COPIES, LOOKUP, PARALLEL};
use super::table::MAX_KEPT;
use super::wide;
use crate::dht::{self, Answer, Asked, Distance, Key, Position, Query, Reply, Trace};
use crate::id::NodeId;

/// Walks at a time; a further one fails at once.
const MAX_WALKS: usize = 4;
/// Nodes asked in one.
const MAX_ASKED: usize = 64;
/// Who has not answered for so long is not waited for: others have their turn, and an answer counts if it comes after all.
const SLOW: Duration = Duration::from_millis(1_500);

const BOTH: [dht::Table; 2] = [dht::Table::Lan, dht::Table::Wan];

/// All that go on.
pub(super) struct Walks {
    local: PeerId,
    all: Vec<Walk>,
}

/// A walk's end.
pub(super) enum Ended {
    /// There is the answer.
    Done(Done),
    /// There are the nodes that a value is to be sent to.
    Put(Done, Query, BTreeMap<dht::Table, Vec<PeerInfo>>),
}

struct Walk {
    local: PeerId,
    /// What it is for, and what was known before.
    done: Done,
    query: Query,
    /// How many of the closest nodes have to answer, and how far away they may be.
    width: usize,
    radius: u64,
    key: Key,
    at: Position,
    since: Instant,
    until: Instant,
    /// Nodes that are known, the closest first.
    seen: BTreeMap<(dht::Table, Distance), Seen>,
    open: BTreeMap<(dht::Table, OutboundRequestId), Open>,
    path: Vec<Asked>,
    values: Vec<Vec<u8>>,
}

struct Seen {
    peer: PeerId,
    ways: Vec<Multiaddr>,
    told_by: Option<NodeId>,
    hops: u32,
    /// Of the addresses.
    networks: Networks,
    state: State,
}

/// A question that is not answered yet.
struct Open {
    distance: Distance,
    /// Its place in the path.
    place: usize,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Asked,
    /// Not answered for long.
    Slow,
    Answered,
    Failed,
}

impl Walks {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, all: Vec::new() }
    }

    /// Begins one that shows its path; the end of it may come at once.
    pub(super) fn start(&mut self, id: u64, key: Key, parts: &mut Parts) -> Vec<Ended> {
        let (answer, trace) = (Answer::Failed, Trace::default());
        let done = Done { origin: Origin::Core(id), answer, trace, unspread: None, crowded: None };
        self.begin(done, Query::Walk(key), COPIES.get(), u64::MAX, parts)
    }

    /// Does again, further out, what came to its end among nodes that crowd around a key.
    pub(super) fn widen(&mut self, done: Done, query: Query, parts: &mut Parts) -> Vec<Ended> {
        let radius = wide::radius(parts);
        let around = query.key().map(tracing::field::display);
        tracing::info!(around, "many nodes crowd around a key of the hash table: asking further out");
        self.begin(done, query, wide::WIDTH, radius, parts)
    }

    fn begin(
        &mut self,
        done: Done,
        query: Query,
        width: usize,
        radius: u64,
        parts: &mut Parts,
    ) -> Vec<Ended> {
        let Some(key) = query.key().copied().filter(|_| self.all.len() < MAX_WALKS) else {
            return vec![Ended::Done(done)];
        };
        let now = Instant::now();
        let mut walk = Walk {
            local: self.local,
            done,
            query,
            width,
            radius,
            key,
            at: key.position(),
            since: now,
            until: now + LOOKUP,
            seen: BTreeMap::new(),
            open: BTreeMap::new(),
            path: Vec::new(),
            values: Vec::new(),
        };
        walk.begin(parts);
        walk.ask(parts);
        self.all.push(walk);
        self.ended(now, parts)
    }

    /// A node has answered, or will not.
    pub(super) fn happened(&mut self, kind: dht::Table, event: Event, parts: &mut Parts) -> Vec<Ended> {
        let (request, said) = match event {
            request_response::Event::Message {
                message: request_response::Message::Response { request_id, response },
                ..
            } => (request_id, Some(response)),
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                tracing::debug!(%error, "a node of the hash table did not answer");
                (request_id, None)
            }
            _ => return Vec::new(),
        };
        if let Some(walk) = self.all.iter_mut().find(|walk| walk.open.contains_key(&(kind, request))) {
            walk.answered((kind, request), said, parts);
            walk.ask(parts);
        }
        self.ended(Instant::now(), parts)
    }

    /// Gives up waiting, and says which have come to their end.
    pub(super) fn tick(&mut self, now: Instant, parts: &mut Parts) -> Vec<Ended> {
        for walk in &mut self.all {
            if walk.next() <= now {
                walk.pass_over(now);
                walk.ask(parts);
            }
        }
        self.ended(now, parts)
    }

    fn ended(&mut self, now: Instant, parts: &mut Parts) -> Vec<Ended> {
        for walk in &mut self.all {
            if walk.is_over() || walk.until <= now {
                walk.widen(now, parts);
            }
        }
        self.all.extract_if(.., |walk| walk.is_over() || walk.until <= now).map(Walk::end).collect()
    }

    /// When [`Walks::tick`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.iter().map(Walk::next).min()
    }
}

impl Seen {
    /// Somebody else says where it is: whoever names a node first may have lied.
    fn is_said_to_be_at(&mut self, ways: Vec<Multiaddr>, networks: Networks) {
        let news: Vec<Multiaddr> = ways.into_iter().filter(|way| !self.ways.contains(way)).collect();
        if news.is_empty() || !matches!(self.state, State::New | State::Failed) {
            return;
        }
        if self.state == State::Failed {
            (self.ways, self.state) = (Vec::new(), State::New);
        }
        self.ways.extend(news);
        self.ways.truncate(MAX_KEPT);
        self.networks.extend(networks);
    }
}

impl Walk {
    /// What stands here, and the nodes that are known.
    fn begin(&mut self, parts: &mut Parts) {
        for kind in BOTH {
            let table = parts.table(kind);
            let time = table.records().judge.time();
            let here = table.records().store.get(&self.key, time).map(<[u8]>::to_vec);
            let members: Vec<PeerId> = table.members().map(|(peer, _)| *peer).collect();
            for peer in members {
                self.see(kind, peer, &[], None, 1, parts);
            }
            self.values.extend(here);
        }
        self.values.dedup();
    }

    fn see(
        &mut self,
        kind: dht::Table,
        peer: PeerId,
        named: &[Multiaddr],
        told_by: Option<NodeId>,
        hops: u32,
        parts: &mut Parts,
    ) {
        let Some(node) = address::node(&peer) else { return };
        let place = (kind, self.at.distance(&Position::of_node(&node)));
        let ways = parts.table(kind).ways(&peer, named);
        if peer == self.local || ways.is_empty() {
            return;
        }
        let networks = parts.table(kind).networks(&ways);
        match self.seen.entry(place) {
            Entry::Vacant(entry) => {
                entry.insert(Seen { peer, ways, told_by, hops, networks, state: State::New });
            }
            Entry::Occupied(mut entry) => entry.get_mut().is_said_to_be_at(ways, networks),
        }
    }

    /// Goes on further out, once, if nothing was found among nodes that crowd around the key.
    fn widen(&mut self, now: Instant, parts: &mut Parts) {
        let may = matches!(self.query, Query::Walk(_)) && self.values.is_empty() && !self.is_wide();
        let there = if may { self.there() } else { BTreeMap::new() };
        let crowded = there.iter().any(|(kind, nodes)| {
            let closest = nodes.iter().take(COPIES.get()).map(|info| &info.peer_id);
            wide::are_crowded(&self.at, closest, parts.table(*kind))
        });
        if crowded {
            tracing::info!(around = %self.key, "many nodes crowd around a key of the hash table: asking further out");
            (self.width, self.radius, self.until) = (wide::WIDTH, wide::radius(parts), now + LOOKUP);
            self.ask(parts);
        }
    }

    /// Whether it is one that goes further out.
    fn is_wide(&self) -> bool {
        self.width > COPIES.get()
    }

    /// Who is to answer, the closest first; further out, few of one network before those of others.
    fn near(&self, kind: dht::Table) -> Vec<Distance> {
        let counts = |seen: &Seen| !matches!(seen.state, State::Failed | State::Slow);
        let near = self.seen.iter().filter(|((of, distance), seen)| {
            *of == kind && counts(seen) && (!self.is_wide() || distance.magnitude() <= self.radius)
        });
        let mut near: Vec<Distance> = if self.is_wide() {
            mixed(near.map(|((_, distance), seen)| (*distance, &seen.networks)))
        } else {
            near.map(|((_, distance), _)| *distance).collect()
        };
        near.truncate(self.width);
        near
    }

    fn is_over(&self) -> bool {
        let waits = self.seen.values().any(|seen| seen.state == State::Asked);
        !waits && (self.open.is_empty() || !self.values.is_empty())
    }

    fn next(&self) -> Instant {
        let slow =
            self.open.iter().filter(|((kind, _), open)| self.state_of(*kind, open) == Some(State::Asked));
        let slow = slow.map(|(_, open)| open.since + SLOW).min();
        slow.map_or(self.until, |slow| slow.min(self.until))
    }

    fn pass_over(&mut self, now: Instant) {
        for ((kind, _), open) in self.open.iter().filter(|(_, open)| open.since + SLOW <= now) {
            if let Some(seen) = self.seen.get_mut(&(*kind, open.distance)) {
                seen.state = State::Slow;
            }
        }
    }

    fn state_of(&self, kind: dht::Table, open: &Open) -> Option<State> {
        self.seen.get(&(kind, open.distance)).map(|seen| seen.state)
    }

    /// Asks whoever is next, as many as may be asked at a time.
    fn ask(&mut self, parts: &mut Parts) {
        for kind in BOTH {
            let here = |place: &(dht::Table, Distance)| place.0 == kind;
            let asked =
                |(place, seen): &(&(dht::Table, Distance), &Seen)| here(place) && seen.state == State::Asked;
            let mut open = self.seen.iter().filter(asked).count();
            for distance in self.near(kind) {
                if open >= PARALLEL.get() || self.path.len() >= MAX_ASKED {
                    break;
                }
                let Some(seen) = self.seen.get_mut(&(kind, distance)) else { continue };
                let Some(node) = address::node(&seen.peer).filter(|_| seen.state == State::New) else {
                    continue;
                };
                let request =
                    parts.asker(kind).send_request_with_addresses(&seen.peer, self.key, seen.ways.clone());
                seen.state = State::Asked;
                open += 1;
                let (place, since) = (self.path.len(), Instant::now());
                self.open.insert((kind, request), Open { distance, place, since });
                let (told_by, hops) = (seen.told_by, seen.hops);
                self.path.push(Asked { node, told_by, hops, millis: 0, reply: Reply::Nothing });
            }
        }
    }

    fn answered(&mut self, request: (dht::Table, OutboundRequestId), said: Option<Said>, parts: &mut Parts) {
        let Some(Open { distance, place, .. }) = self.open.remove(&request) else { return };
        let kind = request.0;
        let millis = self.millis();
        let Some(seen) = self.seen.get_mut(&(kind, distance)) else { return };
        let (teller, hops) = (address::node(&seen.peer), seen.hops.saturating_add(1));
        seen.state = if said.is_some() { State::Answered } else { State::Failed };
        let reply = said.map_or(Reply::Nothing, |said| self.take(kind, said, teller, hops, parts));
        if let Some(asked) = self.path.get_mut(place) {
            (asked.millis, asked.reply) = (millis, reply);
        }
    }

    fn take(
        &mut self,
        kind: dht::Table,
        said: Said,
        teller: Option<NodeId>,
        hops: u32,
        parts: &mut Parts,
    ) -> Reply {
        for (peer, ways) in &said.closer {
            self.see(kind, *peer, ways, teller, hops, parts);
        }
        let Some(value) = said.value else { return Reply::Closer(said.closer.len()) };
        if let Err(refused) = parts.table(kind).records().judge.verify(&self.key, &value) {
            tracing::debug!(key = %self.key, %refused, "a value was found that does not count");
            return Reply::Bad;
        }
        self.until = self.until.min(Instant::now() + SETTLE);
        if !self.values.contains(&value) && self.values.len() < MAX_VALUES {
            self.values.push(value);
        }
        Reply::Good
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn end(self) -> Ended {
        match &self.query {
            Query::Put { .. } => {
                let nodes = self.there();
                Ended::Put(self.done, self.query, nodes)
            }
            Query::Closest(_) | Query::Node(_) => {
                let nodes = wide::from_outside(&self.at, self.there(), self.radius);
                Ended::Done(Done { answer: Answer::Nodes(nodes), ..self.done })
            }
            Query::Get(_) | Query::Walk(_) => Ended::Done(self.found()),
        }
    }

    /// The nodes that have answered, the closest first.
    fn there(&self) -> BTreeMap<dht::Table, Vec<PeerInfo>> {
        let mut nodes: BTreeMap<dht::Table, Vec<PeerInfo>> = BTreeMap::new();
        let answered = self.seen.iter().filter(|(_, seen)| seen.state == State::Answered);
        for ((kind, _), Seen { peer, ways, .. }) in answered {
            nodes.entry(*kind).or_default().push(PeerInfo { peer_id: *peer, addrs: ways.clone() });
        }
        nodes
    }

    fn found(self) -> Done {
        let count = |test: fn(&Asked) -> bool| {
            u32::try_from(self.path.iter().filter(|asked| test(asked)).count()).unwrap_or(u32::MAX)
        };
        let failed = |seen: &&Seen| matches!(seen.state, State::Failed | State::Slow);
        let failed = self.seen.values().filter(failed).count();
        let millis = self.millis();
        let before = &self.done.trace;
        let trace = Trace {
            asked: before.asked.saturating_add(count(|_| true)),
            answered: before.answered.saturating_add(count(|asked| asked.reply != Reply::Nothing)),
            failed: before.failed.saturating_add(u32::try_from(failed).unwrap_or(u32::MAX)),
            millis: before.millis.saturating_add(millis),
            path: self.path,
        };
        Done { answer: Answer::Values(self.values), trace, ..self.done }
    }
}

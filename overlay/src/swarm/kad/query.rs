//! Queries of the core and of upkeep: each goes to both tables, and is answered once.
//!
//! - Get: values are verified as they come, so that liars crowd nobody out; after the first good one from another node,
//!   others have [`SETTLE`] to contradict, and nobody waits for nodes that are gone.
//! - Put: first the closest nodes, then the value to each of them. libp2p-kad would stop at the first acknowledgement
//!   (quorum of one) or count absent nodes (any other quorum); here all are waited for, and those counted that held it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::kad::{
    GetClosestPeersError, GetRecordOk, PeerInfo, PutRecordError, QueryId, QueryResult, QueryStats, Quorum,
    Record, RecordKey,
};
use tokio::time::Instant;

use super::super::address;
use super::shape::COPIES;
use super::table::Table;
use super::wide;
use crate::dht::{self, Answer, Key, Position, Query, Trace};
use crate::id::NodeId;

/// Queries that run at a time, and that wait. Each has one stream to a peer at a time, of the connection's 32.
const MAX_RUNNING: usize = 8;
const MAX_WAITING: usize = 256;
/// How long a good value waits for better ones.
pub(super) const SETTLE: Duration = Duration::from_millis(400);
/// Values of a get that are looked at, and that are kept.
const MAX_LOOKED_AT: usize = 20;
pub(super) const MAX_VALUES: usize = 8;

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The core, by this number.
    Core(u64),
    /// This file's neighbour, about one table.
    Upkeep(dht::Table),
}

/// The end of a query.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) origin: Origin,
    pub(super) answer: Answer,
    pub(super) trace: Trace,
    /// A value of our own that nobody else has taken yet.
    pub(super) unspread: Option<Key>,
    /// The nodes around the key are suspiciously many: this has to be done further out too, before it is answered.
    pub(super) crowded: Option<Query>,
}

/// Both tables.
pub(super) trait Tables {
    fn table(&mut self, kind: dht::Table) -> &mut Table;
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Queries {
    waiting: VecDeque<(Origin, Query)>,
    running: BTreeMap<u64, Running>,
    /// Queries of libp2p-kad, and which of ours each is a part of: two each at most.
    parts: Vec<((dht::Table, QueryId), u64)>,
    next: u64,
}

struct Running {
    origin: Origin,
    query: Query,
    since: Instant,
    settle: Option<Instant>,
    looked_at: usize,
    values: Vec<Vec<u8>>,
    nodes: BTreeMap<NodeId, Vec<String>>,
    copies: usize,
    /// Those whom the value is being sent to, by table.
    sent: BTreeMap<dht::Table, usize>,
    crowded: bool,
    trace: Trace,
}

impl Queries {
    /// Takes a query in; a full queue answers at once.
    pub(super) fn ask(&mut self, origin: Origin, query: Query) -> Option<Done> {
        if self.waiting.len() >= MAX_WAITING {
            return Some(failed(origin));
        }
        self.waiting.push_back((origin, query));
        None
    }

    /// Sends a value to nodes that were found further out than those that have been asked.
    pub(super) fn send_further(
        &mut self,
        done: Done,
        query: Query,
        nodes: &BTreeMap<dht::Table, Vec<PeerInfo>>,
        tables: &mut impl Tables,
    ) -> Option<Done> {
        let serial = self.next;
        self.next = self.next.wrapping_add(1);
        let mut running = Running::new(done.origin, query);
        running.trace = done.trace;
        for (kind, peers) in nodes {
            let part = running.closest(*kind, peers, tables.table(*kind));
            self.parts.extend(part.map(|id| ((*kind, id), serial)));
        }
        self.running.insert(serial, running);
        self.end_if_done(serial, tables)
    }

    /// Nothing runs or waits: upkeep may.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Starts what waits, while there is room.
    pub(super) fn start(&mut self, tables: &mut impl Tables) -> Vec<Done> {
        let mut done = Vec::new();
        while self.running.len() < MAX_RUNNING
            && let Some((origin, query)) = self.waiting.pop_front()
        {
            if let Query::Put { key, value, expires_wall } = &query
                && !hold(tables, origin, *key, value, *expires_wall)
            {
                done.push(failed(origin));
                continue;
            }
            let serial = self.next;
            self.next = self.next.wrapping_add(1);
            let running = Running::new(origin, query);
            for kind in running.kinds(tables) {
                let id = running.begin(tables.table(kind));
                self.parts.push(((kind, id), serial));
            }
            self.running.insert(serial, running);
            done.extend(self.end_if_done(serial, tables));
        }
        done
    }

    /// A part of a query got on.
    pub(super) fn progressed(
        &mut self,
        kind: dht::Table,
        (id, last): (QueryId, bool),
        result: QueryResult,
        stats: &QueryStats,
        tables: &mut impl Tables,
    ) -> Option<Done> {
        let place = self.parts.iter().position(|(part, _)| *part == (kind, id))?;
        let serial = self.parts[place].1;
        let running = self.running.get_mut(&serial)?;
        if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) = &result {
            if running.found(tables.table(kind), found.peer.is_some(), &found.record)
                && let Some(mut query) = tables.table(kind).kad().query_mut(&id)
            {
                query.finish();
            }
            return None;
        }
        if !last {
            return None;
        }
        self.parts.swap_remove(place);
        running.count(stats);
        if let Some(next) = running.ended(kind, result, tables.table(kind)) {
            self.parts.push(((kind, next), serial));
        }
        self.end_if_done(serial, tables)
    }

    /// Ends what has settled.
    pub(super) fn settle(&mut self, now: Instant, tables: &mut impl Tables) -> Vec<Done> {
        let settled = self.running.iter().filter(|(_, running)| running.settle.is_some_and(|at| at <= now));
        let settled: Vec<u64> = settled.map(|(serial, _)| *serial).collect();
        for serial in &settled {
            let open = self.parts.extract_if(.., |(_, of)| of == serial).map(|(part, _)| part);
            for (kind, id) in open.collect::<Vec<_>>() {
                let Some(mut query) = tables.table(kind).kad().query_mut(&id) else { continue };
                let stats = *query.stats();
                query.finish();
                if let Some(running) = self.running.get_mut(serial) {
                    running.count(&stats);
                }
            }
        }
        settled.into_iter().filter_map(|serial| self.end_if_done(serial, tables)).collect()
    }

    /// When [`Queries::settle`] has something to do.
    pub(super) fn next_settle(&self) -> Option<Instant> {
        self.running.values().filter_map(|running| running.settle).min()
    }

    fn end_if_done(&mut self, serial: u64, _: &mut impl Tables) -> Option<Done> {
        if self.parts.iter().any(|(_, of)| *of == serial) {
            return None;
        }
        self.running.remove(&serial).map(Running::done)
    }
}

fn failed(origin: Origin) -> Done {
    Done { origin, answer: Answer::Failed, trace: Trace::default(), unspread: None, crowded: None }
}

/// Takes a value of our own into the tables that others ask us in. False: it is not one that belongs there.
fn hold(tables: &mut impl Tables, origin: Origin, key: Key, value: &[u8], until: u64) -> bool {
    if matches!(origin, Origin::Upkeep(_)) {
        return true;
    }
    for kind in [dht::Table::Lan, dht::Table::Wan] {
        let table = tables.table(kind);
        if table.records().judge.verify(&key, value).is_err() {
            return false;
        }
        // Where this store is full of what is nearer, others may have room.
        if table.is_server()
            && let Err(refused) = table.records().put_own(key, value, until)
        {
            tracing::debug!(%key, %refused, "a value of our own is not held here");
        }
    }
    true
}

impl Running {
    fn new(origin: Origin, query: Query) -> Self {
        Self {
            origin,
            query,
            since: Instant::now(),
            settle: None,
            looked_at: 0,
            values: Vec::new(),
            nodes: BTreeMap::new(),
            copies: 0,
            sent: BTreeMap::new(),
            crowded: false,
            trace: Trace::default(),
        }
    }

    /// Which tables are asked: those with somebody in them, and the private one for what is held here.
    fn kinds(&self, tables: &mut impl Tables) -> Vec<dht::Table> {
        let both = [dht::Table::Lan, dht::Table::Wan].into_iter();
        match self.origin {
            Origin::Upkeep(kind) => vec![kind],
            Origin::Core(_) => {
                both.filter(|kind| *kind == dht::Table::Lan || tables.table(*kind).len() > 0).collect()
            }
        }
    }

    fn begin(&self, table: &mut Table) -> QueryId {
        match &self.query {
            Query::Get(key) | Query::Walk(key) => table.kad().get_record(RecordKey::new(key.as_bytes())),
            Query::Closest(key) | Query::Put { key, .. } => {
                table.kad().get_n_closest_peers(key.as_bytes().to_vec(), COPIES)
            }
            Query::Node(node) => {
                let peer = address::peer(node).map(PeerId::to_bytes).unwrap_or_default();
                table.kad().get_n_closest_peers(peer, COPIES)
            }
        }
    }

    /// A node has given a value. True: no more are needed.
    fn found(&mut self, table: &mut Table, by_another: bool, record: &Record) -> bool {
        let Query::Get(key) = &self.query else { return true };
        self.looked_at += 1;
        match table.records().judge.verify(key, &record.value) {
            Ok(_) => {
                if by_another && self.settle.is_none() {
                    self.settle = Some(Instant::now() + SETTLE);
                }
                if !self.values.contains(&record.value) {
                    self.values.push(record.value.clone());
                }
            }
            Err(refused) => tracing::debug!(%key, %refused, "a value was found that does not count"),
        }
        self.looked_at >= MAX_LOOKED_AT || self.values.len() >= MAX_VALUES
    }

    /// A part has come to its end; perhaps another one follows.
    fn ended(&mut self, kind: dht::Table, result: QueryResult, table: &mut Table) -> Option<QueryId> {
        self.crowded |= wide::is_crowded(&self.query, &result, table);
        match result {
            QueryResult::GetClosestPeers(Ok(closest)) => self.closest(kind, &closest.peers, table),
            QueryResult::GetClosestPeers(Err(GetClosestPeersError::Timeout { peers, .. })) => {
                self.closest(kind, &peers, table)
            }
            QueryResult::PutRecord(result) => {
                self.copies += match result {
                    Ok(_) => self.sent.get(&kind).copied().unwrap_or_default(),
                    Err(
                        PutRecordError::QuorumFailed { success, .. }
                        | PutRecordError::Timeout { success, .. },
                    ) => success.len(),
                };
                None
            }
            _ => None,
        }
    }

    fn closest(&mut self, kind: dht::Table, peers: &[PeerInfo], table: &mut Table) -> Option<QueryId> {
        if let Query::Put { key, value, .. } = &self.query {
            return self.send(kind, *key, value.clone(), peers, table);
        }
        for PeerInfo { peer_id, addrs } in peers {
            let Some(node) = address::node(peer_id) else { continue };
            let addresses = table.addresses(peer_id, addrs).iter().map(ToString::to_string).collect();
            let known: &mut Vec<String> = self.nodes.entry(node).or_default();
            let more: Vec<String> = addresses;
            known.extend(more);
        }
        None
    }

    fn send(
        &mut self,
        kind: dht::Table,
        key: Key,
        value: Vec<u8>,
        peers: &[PeerInfo],
        table: &mut Table,
    ) -> Option<QueryId> {
        let peers: Vec<PeerId> = peers.iter().map(|info| info.peer_id).collect();
        if peers.is_empty() {
            return None;
        }
        // What stands here may say more than what was asked for.
        let time = table.records().judge.time();
        let value = table.records().store.get(&key, time).map_or(value, <[u8]>::to_vec);
        self.sent.insert(kind, peers.len());
        // Without publisher: a node that is named as such would acknowledge without looking.
        let record = Record::new(RecordKey::new(key.as_bytes()), value);
        Some(table.kad().put_record_to(record, peers.into_iter(), Quorum::All))
    }

    fn count(&mut self, stats: &QueryStats) {
        self.trace.asked += stats.num_requests();
        self.trace.answered += stats.num_successes();
        self.trace.failed += stats.num_failures();
    }

    fn done(self) -> Done {
        let mut unspread = None;
        let answer = match &self.query {
            Query::Get(_) | Query::Walk(_) => Answer::Values(self.values),
            Query::Closest(key) => by_distance(self.nodes, &key.position()),
            Query::Node(node) => by_distance(self.nodes, &Position::of_node(node)),
            Query::Put { key, .. } => {
                unspread = (self.copies == 0).then_some(*key);
                Answer::Stored(self.copies)
            }
        };
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A value that was found is good wherever it was.
        let lacks = !matches!(&answer, Answer::Values(values) if !values.is_empty());
        let crowded = (self.crowded && lacks && matches!(self.origin, Origin::Core(_))).then_some(self.query);
        Done { origin: self.origin, answer, trace: Trace { millis, ..self.trace }, unspread, crowded }
    }
}

fn by_distance(nodes: BTreeMap<NodeId, Vec<String>>, to: &Position) -> Answer {
    let mut nodes: Vec<(NodeId, Vec<String>)> = nodes.into_iter().collect();
    nodes.sort_by_key(|(node, _)| to.distance(&Position::of_node(node)));
    Answer::Nodes(nodes)
}

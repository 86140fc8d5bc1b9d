//! The distributed hash table: two Kademlia tables (libp2p-kad) around the bounded stores of [`crate::dht`].
//!
//! | file | owns |
//! | --- | --- |
//! | `scope` | which table an address belongs to |
//! | `shape` | what libp2p-kad is told: copies, buckets, times |
//! | `table`, `meter` | one table: who is entered (`table/entry`), whom it may dial (`table/dials`), what it may say |
//! | `newcomers`, `diversity` | who enters a table, and when; how many of one network |
//! | `hush` | libp2p-kad kept from looking around by itself |
//! | `records` | the store that libp2p-kad asks; what values are judged by |
//! | `query` | get, put and closest, in both tables at once |
//! | `walk`, `ask` | a get that shows its path; one question to one node |
//! | `wide` | keys that somebody has surrounded |
//! | `upkeep` | spreading values, looking around, the way back in |
//! | `sleep` | no table on a link that has nobody beyond it |
//!
//! Once awake the table of private addresses always serves. The public one is a client, which is asked nothing, until an external
//! address is confirmed or the setting says otherwise. Who serves and where is learned by identify.
//!
//! | bound | value | when full |
//! | --- | --- | --- |
//! | queries running, waiting | 8, 256 | `Answer::Failed` |
//! | walks: at a time, nodes asked in each | 4, 64 | `Answer::Failed`; it ends |
//! | values of a get: looked at, kept | 20, 8 | the get ends |
//! | dials, slow ones beside them, all with connections dialled, dials waiting, of each table | 8, 16, 32, 64 | further ones wait, then fail |
//! | messages of a peer | 64 a second, 256 at once | it is cut off |
//! | packet | 64 KiB | the stream is reset |
//! | values held | [`crate::dht::StoreLimits`] | see there |
//! | addresses to come back by | 64 | further ones are not kept |
//! | nodes of one network in a bucket, in the table | 2, 10 | further ones do not enter |

mod ask;
mod config;
mod diversity;
mod hush;
mod meter;
mod newcomers;
mod query;
mod records;
mod scope;
mod shape;
mod sleep;
mod table;
#[cfg(test)]
mod tests;
mod upkeep;
mod walk;
mod wide;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::identity::PublicKey;
use libp2p::kad::{self, Mode};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify};
use tokio::time::{Instant, Sleep, sleep_until};

use self::ask::Asker;
pub use self::config::{DhtConfig, DhtMode};
use self::query::{Done, Origin, Queries, Tables};
use self::records::{Judge, Records};
pub use self::scope::Networks;
use self::shape::protocol;
use self::sleep::Rest;
use self::table::Table;
use self::upkeep::Upkeep;
use self::walk::{Ended, Walks};
use super::near::is_near;
use super::{Event, address, carried};
use crate::core::PeerEvent;
use crate::dht::{self, Query, Store};
use crate::record::RevocationSet;
use crate::time::TrustedTime;

/// What is asked of each peer again, in case a push was lost.
const IDENTIFY: Duration = Duration::from_secs(60 * 60);
/// Nodes that are told for remembering.
const MAX_REMEMBERED: usize = 16;

#[derive(NetworkBehaviour)]
pub(super) struct Parts {
    identify: identify::Behaviour,
    lan: Table,
    wan: Table,
    ask_lan: Asker,
    ask_wan: Asker,
}

impl Parts {
    fn asker(&mut self, kind: dht::Table) -> &mut Asker {
        match kind {
            dht::Table::Lan => &mut self.ask_lan,
            dht::Table::Wan => &mut self.ask_wan,
        }
    }
}

impl Tables for Parts {
    fn table(&mut self, kind: dht::Table) -> &mut Table {
        match kind {
            dht::Table::Lan => &mut self.lan,
            dht::Table::Wan => &mut self.wan,
        }
    }
}

/// See the file's head.
pub(super) struct Behaviour {
    parts: Parts,
    queries: Queries,
    walks: Walks,
    upkeep: Upkeep,
    rest: Rest,
    /// Who is at the far end of each connection, where, and whether we dialled.
    remotes: BTreeMap<ConnectionId, (PeerId, Multiaddr, bool)>,
    members: usize,
    /// Members that were told for remembering: the next time it is the turn of others.
    told: usize,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    actions: VecDeque<ToSwarm<Option<Told>, THandlerInEvent<Parts>>>,
}

/// What it tells.
#[derive(Debug)]
pub(super) enum Told {
    /// For the program.
    Event(Event),
    /// What a peer answers, on this connection.
    Identified(ConnectionId, PeerId, Vec<StreamProtocol>),
}

impl Behaviour {
    /// Of the node with this key.
    pub(super) fn new(key: PublicKey, config: DhtConfig, carried: &Arc<carried::Meter>) -> Self {
        let local = key.to_peer_id();
        let networks = Arc::new(config.networks);
        let node = address::node(&local);
        let table = |kind| {
            let node = node.unwrap_or(crate::id::NodeId::from_bytes([0; 32]));
            let records = Records::new(Store::new(&node, config.store));
            Table::new(kind, local, records, Arc::clone(&networks), Arc::clone(carried))
        };
        let identify = identify::Config::new("crosstalk/1".to_owned(), key)
            .with_agent_version(concat!("crosstalk/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_interval(IDENTIFY)
            .with_push_listen_addr_updates(true)
            // Else what a peer says of its addresses would be dialled unseen.
            .with_cache_size(0);
        let (lan, wan) = (table(dht::Table::Lan), table(dht::Table::Wan));
        let (ask_lan, ask_wan) = (ask::asker(dht::Table::Lan), ask::asker(dht::Table::Wan));
        let mut parts = Parts { identify: identify::Behaviour::new(identify), lan, wan, ask_lan, ask_wan };
        // By itself libp2p-kad stays a client until an external address is confirmed: on a link, for ever.
        parts.lan.set_mode(Some(if config.asleep { Mode::Client } else { Mode::Server }));
        parts.wan.set_mode(match config.mode {
            DhtMode::Auto => None,
            DhtMode::Client => Some(Mode::Client),
            DhtMode::Server => Some(Mode::Server),
        });
        for (kind, key, value, ends) in &config.restored {
            parts.table(*kind).records().restore(*key, value, *ends);
        }
        Self {
            parts,
            queries: Queries::default(),
            walks: Walks::new(local),
            upkeep: Upkeep::new(local, config.replicate, config.refresh),
            rest: Rest::new(config.asleep),
            remotes: BTreeMap::new(),
            members: 0,
            told: 0,
            timer: None,
            actions: VecDeque::new(),
        }
    }

    /// Asks both tables; a [`PeerEvent::Answer`] with this number follows. As with all commands, the swarm has to be polled
    /// afterwards.
    pub(super) fn ask(&mut self, id: u64, query: Query) {
        if let Query::Walk(key) = query {
            let ended = self.walks.start(id, key, &mut self.parts);
            return self.walked(ended);
        }
        let done = self.queries.ask(Origin::Core(id), query);
        self.tell_done(done);
    }

    /// Where other nodes may be.
    pub(super) fn bootstrap(&mut self, addresses: &[String]) {
        self.upkeep.learn(addresses);
    }

    /// What values are judged by from now on.
    pub(super) fn judge(&mut self, time: TrustedTime, revocations: RevocationSet) {
        let judge = Judge::new(time, revocations);
        for kind in [dht::Table::Lan, dht::Table::Wan] {
            let records = self.parts.table(kind).records();
            records.judge = judge.clone();
            records.revoke();
        }
    }

    /// There is a wider network.
    fn wake(&mut self, why: &'static str) {
        if self.rest.wake(why) {
            self.parts.lan.set_mode(Some(Mode::Server));
        }
    }

    fn tell(&mut self, event: Event) {
        self.actions.push_back(ToSwarm::GenerateEvent(Some(Told::Event(event))));
    }

    fn tell_done(&mut self, done: impl IntoIterator<Item = Done>) {
        for mut done in done {
            if let Some(query) = done.crowded.take() {
                let ended = self.walks.widen(done, query, &mut self.parts);
                self.walked(ended);
                continue;
            }
            let Done { origin: Origin::Core(id), answer, trace, unspread, .. } = done else { continue };
            if let Some(key) = unspread {
                for kind in [dht::Table::Lan, dht::Table::Wan] {
                    self.parts.table(kind).records().store.mark_stale(&key);
                }
                self.upkeep.nudge();
            }
            self.tell(Event::Peer(PeerEvent::Answer { id, answer, trace }));
        }
    }

    fn tell_changes(&mut self) {
        for table in [dht::Table::Lan, dht::Table::Wan] {
            while let Some(change) = self.parts.table(table).records().store.take_change() {
                self.tell(Event::Held { table, key: change.key, value: change.value });
            }
        }
    }

    fn happened(&mut self, event: PartsEvent) {
        match event {
            PartsEvent::Lan(event) => self.in_table(dht::Table::Lan, event),
            PartsEvent::Wan(event) => self.in_table(dht::Table::Wan, event),
            PartsEvent::Identify(
                identify::Event::Received { connection_id, peer_id, info }
                | identify::Event::Pushed { connection_id, peer_id, info },
            ) => self.identified(peer_id, connection_id, &info),
            PartsEvent::Identify(_) => {}
            PartsEvent::AskLan(event) => self.answered(dht::Table::Lan, event),
            PartsEvent::AskWan(event) => self.answered(dht::Table::Wan, event),
        }
    }

    fn in_table(&mut self, kind: dht::Table, event: kad::Event) {
        if let kad::Event::OutboundQueryProgressed { id, result, stats, step } = event {
            let part = (id, step.last);
            let done = self.queries.progressed(kind, part, result, &stats, &mut self.parts);
            self.tell_done(done);
        }
    }

    fn answered(&mut self, kind: dht::Table, event: ask::Event) {
        let ended = self.walks.happened(kind, event, &mut self.parts);
        self.walked(ended);
    }

    fn walked(&mut self, ended: Vec<Ended>) {
        for ended in ended {
            let done = match ended {
                Ended::Done(done) => Some(done),
                Ended::Put(done, query, nodes) => {
                    self.queries.send_further(done, query, &nodes, &mut self.parts)
                }
            };
            self.tell_done(done);
        }
    }

    fn identified(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        let Some((_, remote, dialled)) = self.remotes.get(&connection).cloned() else { return };
        let told = Told::Identified(connection, peer, info.protocols.clone());
        self.actions.push_back(ToSwarm::GenerateEvent(Some(told)));
        for kind in [dht::Table::Lan, dht::Table::Wan] {
            let answers = info.protocols.contains(&protocol(kind));
            if answers {
                self.wake("a peer is in a table");
            }
            self.parts.table(kind).identified(peer, answers, &info.listen_addrs, (&remote, dialled));
        }
    }

    /// Does what is due, and says when it wants to be asked again.
    fn tick(&mut self) -> Instant {
        let now = Instant::now();
        self.parts.lan.tick(now);
        self.parts.wan.tick(now);
        if self.rest.says_it_again(now) {
            let peers: BTreeSet<PeerId> = self.remotes.values().map(|(peer, ..)| *peer).collect();
            self.parts.identify.push(peers);
        }
        let done = self.queries.settle(now, &mut self.parts);
        self.tell_done(done);
        let ended = self.walks.tick(now, &mut self.parts);
        self.walked(ended);
        let (dials, remembers) = self.upkeep.tick(now, &mut self.parts, &mut self.queries, |peer| {
            self.remotes.values().any(|(other, ..)| other == peer)
        });
        self.actions.extend(dials.into_iter().map(|opts| ToSwarm::Dial { opts }));
        if remembers {
            self.tell_members();
        }
        let done = self.queries.start(&mut self.parts);
        self.tell_done(done);
        self.tell_changes();
        let members = self.parts.lan.len() + self.parts.wan.len();
        let before = std::mem::replace(&mut self.members, members);
        if before < members {
            self.upkeep.grew(now, before, members);
        }
        if before != members {
            self.tell(Event::Peer(PeerEvent::Table { nodes: members }));
        }
        let upkeep = self.upkeep.next(&mut self.parts);
        let tables = [self.parts.lan.next(now), self.parts.wan.next(now)];
        let waits = tables.into_iter().chain([
            Some(upkeep),
            self.queries.next_settle(),
            self.walks.next(),
            self.rest.next(),
        ]);
        waits.flatten().min().unwrap_or(upkeep)
    }

    fn tell_members(&mut self) {
        for table in [dht::Table::Lan, dht::Table::Wan] {
            let members: Vec<_> = self.parts.table(table).members().collect();
            let some = members
                .iter()
                .cycle()
                .skip(self.told % members.len().max(1))
                .take(members.len().min(MAX_REMEMBERED));
            let nodes: Vec<_> = some
                .filter_map(|(peer, addresses)| {
                    let plain = addresses.iter().map(|address| address::without_id(address).to_string());
                    Some((address::node(peer)?, plain.collect()))
                })
                .collect();
            if !nodes.is_empty() {
                self.tell(Event::DhtMembers { table, nodes });
            }
        }
        self.told = self.told.wrapping_add(MAX_REMEMBERED);
    }

    /// Ready when the moment has come.
    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(set, _)| *set != at) {
            self.timer = Some((at, Box::pin(sleep_until(at))));
        }
        match &mut self.timer {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// Behind which relay this node is, is told to contacts alone: neither identify nor a table hears of it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is non-exhaustive; the rest names no own address"
)]
fn is_of_circuit(event: &FromSwarm<'_>) -> bool {
    let own = match event {
        FromSwarm::NewListenAddr(event) => event.addr,
        FromSwarm::ExpiredListenAddr(event) => event.addr,
        FromSwarm::ExternalAddrConfirmed(event) => event.addr,
        FromSwarm::ExternalAddrExpired(event) => event.addr,
        _ => return false,
    };
    address::is_relayed(own)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<Parts>;
    /// Always something: libp2p has no other way to say that actions carry no event of the parts.
    type ToSwarm = Option<Told>;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.parts.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.parts.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.parts.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.parts.handle_established_outbound_connection(connection, peer, remote, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(established) = &event {
            let peer = established.peer_id;
            let (remote, dialled) = table::remote(established.endpoint);
            if dialled {
                self.upkeep.met(peer, &remote);
            }
            if self.rest.is_asleep() && !is_near(&remote) {
                self.wake("somebody beyond the link");
            }
            self.remotes.insert(established.connection_id, (peer, remote, dialled));
        }
        if let FromSwarm::NewListenAddr(own) = &event
            && self.parts.wan.is_for(own.addr)
        {
            self.wake("a public address");
        }
        if let FromSwarm::ConnectionClosed(closed) = &event {
            self.remotes.remove(&closed.connection_id);
        }
        if !is_of_circuit(&event) {
            self.parts.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.parts.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let next = self.tick();
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.parts.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.happened(event),
                Poll::Ready(action) => return Poll::Ready(action.map_out(|_| None)),
                Poll::Pending => match self.poll_timer(next, cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

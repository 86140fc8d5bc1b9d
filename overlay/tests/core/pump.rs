//! A virtual network of a few cores: virtual time, one millisecond per hop, and faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crosstalk_overlay::core::*;
use crosstalk_overlay::dht::{self, Answer, Key, Query, Trace};
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::{DeviceId, MessageId, NewsId, NodeId, UserId};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, Hlc, Now};
use crosstalk_overlay::wire::{Frame, Hello, UserFrame, WIRE_VERSION, encode};

/// Wall clock at the start.
pub(crate) const START: u64 = 20_000 * DAY;

/// What survives a restart: the write log applied.
#[derive(Clone, Default)]
pub(crate) struct Store {
    pub(crate) outbox: BTreeMap<u64, state::OutboxEntry>,
    outbound: BTreeMap<(DeviceId, DeviceId), OutboundSequence>,
    pub(crate) inbound: BTreeMap<(DeviceId, DeviceId), InboundSequence>,
    seen: BTreeMap<(DeviceId, DeviceId, u32), Seen>,
    pub(crate) records: BTreeMap<UserId, CachedUserRecord>,
    authorities: BTreeMap<String, KnownAuthority>,
    own_audiences: BTreeMap<DeviceId, state::OwnAudience>,
    audiences: BTreeMap<(UserId, DeviceId, UserId), state::KnownAudience>,
    pub(crate) mail: BTreeMap<u64, StoredMail>,
    pub(crate) tokens: BTreeMap<TokenPlace, StoredToken>,
    revocations: BTreeSet<Vec<u8>>,
    pub(crate) time_floor: u64,
    /// What the node stored of deliveries.
    pub(crate) inbox: Vec<(UserId, UserId, MessageId, Vec<u8>)>,
}

impl Store {
    pub(crate) fn write(&mut self, write: Write) {
        match write {
            Write::PutOutbox(entry) => drop(self.outbox.insert(entry.number, entry)),
            Write::DeleteOutbox(number) => drop(self.outbox.remove(&number)),
            Write::PutOutbound(state) => drop(self.outbound.insert(state.key().unwrap(), state)),
            Write::PutInbound(state) => drop(self.inbound.insert(state.key().unwrap(), state)),
            Write::ForgetInbound { sender, recipient, .. } => {
                self.inbound.remove(&(sender, recipient));
                self.seen.retain(|(from, to, _), _| (*from, *to) != (sender, recipient));
            }
            Write::PutSeen(seen) => drop(self.seen.insert(seen.key().unwrap(), seen)),
            Write::PutRecord(record) => drop(self.records.insert(record.key().unwrap(), record)),
            Write::DeleteRecord(user) => drop(self.records.remove(&user)),
            Write::PutAuthority(known) => drop(self.authorities.insert(known.domain.clone(), known)),
            Write::DeleteAuthority(domain) => drop(self.authorities.remove(&domain)),
            Write::PutOwnAudience(own) => drop(self.own_audiences.insert(own.key().unwrap(), own)),
            Write::DeleteOwnAudience(device) => drop(self.own_audiences.remove(&device)),
            Write::PutAudience(known) => drop(self.audiences.insert(known.key().unwrap(), known)),
            Write::DeleteAudience(place) => drop(self.audiences.remove(&place)),
            Write::PutRevocation(bytes) => drop(self.revocations.insert(bytes)),
            Write::DeleteRevocation(bytes) => drop(self.revocations.remove(&bytes)),
            Write::PutTimeFloor(time) => self.time_floor = time,
            Write::PutMail(mail) => drop(self.mail.insert(mail.number, mail)),
            Write::DeleteMail(number) => drop(self.mail.remove(&number)),
            Write::PutToken(token) => drop(self.tokens.insert(token.key().unwrap(), token)),
            Write::DeleteToken(place) => drop(self.tokens.remove(&place)),
        }
    }

    pub(crate) fn own_audiences(&self) -> impl Iterator<Item = &state::OwnAudience> {
        self.own_audiences.values()
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored {
            outbox: self.outbox.values().cloned().collect(),
            outbound: self.outbound.values().cloned().collect(),
            inbound: self.inbound.values().cloned().collect(),
            seen: self.seen.values().cloned().collect(),
            records: self.records.values().cloned().collect(),
            authorities: self.authorities.values().cloned().collect(),
            own_audiences: self.own_audiences.values().cloned().collect(),
            audiences: self.audiences.values().cloned().collect(),
            revocations: self.revocations.iter().cloned().collect(),
            time_floor: self.time_floor,
            mail: self.mail.values().cloned().collect(),
            tokens: self.tokens.values().cloned().collect(),
        }
    }
}

/// A user of one node, as its key files would have it.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) user: UserId,
    pub(crate) device: DeviceKey,
    pub(crate) cert: Vec<u8>,
    pub(crate) sealing: Vec<SealingKey>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) epoch: u64,
}

impl Account {
    /// The user of seed `user`, on the device of seed `device`.
    pub(crate) fn new(user: u8, device: u8) -> Self {
        let (user, device) = (UserKey::from_seed([user; 32]), DeviceKey::from_seed([device; 32]));
        let cert = DeviceCert::issue(&user, device.id(), START).unwrap().bytes().to_vec();
        let sealing = vec![SealingKey::from_seed([device.id().as_bytes()[0]; 32], START)];
        Self { user: user.id(), device, cert, sealing, name: None, epoch: 1 }
    }

    pub(crate) fn named(mut self, cert: &crosstalk_overlay::record::Verified<NameCert>) -> Self {
        self.name = Some(cert.bytes().to_vec());
        self
    }

    pub(crate) fn local(&self) -> LocalUser {
        LocalUser {
            user: self.user,
            device: self.device.clone(),
            cert: self.cert.clone(),
            sealing: self.sealing.clone(),
            name: self.name.clone(),
            epoch: self.epoch,
        }
    }
}

/// The record of an account of user seed `user`, made at `millis`, with its binding to a node: what an honest peer with
/// such a clock pushes.
pub(crate) fn user_frame(account: &Account, user: u8, millis: u64, node: &NodeKey) -> UserFrame {
    let cert = DeviceCert::issue(&UserKey::from_seed([user; 32]), account.device.id(), millis).unwrap();
    let (user, device, expires) = (account.user, account.device.id(), millis + 7 * DAY);
    let sealing = vec![SealingPublic { public: account.sealing[0].public(), created: START }];
    let info = DeviceInfo {
        user,
        device,
        sealing,
        epoch: 1,
        at: Hlc { millis, counter: 0 },
        expires,
        mailboxes: vec![],
    };
    let info = Verified::sign(info, &account.device, None).unwrap();
    let binding = NodeBinding::agreed(user, device, node, millis, expires);
    let binding = Verified::sign(binding, &account.device, None).unwrap().bytes().to_vec();
    UserFrame { record: UserRecord::new(cert, info, None).unwrap().encode(), binding }
}

/// The Hello of a node that a test plays.
pub(crate) fn hello(session: u64, wall: u64) -> Vec<u8> {
    let (version, min_version) = (WIRE_VERSION, WIRE_VERSION);
    let (agent, probe) = ("test".into(), None);
    encode(&Frame::Hello(Hello { version, min_version, agent, wall, unsure: false, session, probe }))
}

/// What the node does with deliveries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbox {
    Takes,
    Refuses(RefusalCode),
}

pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) core: Overlay,
    pub(crate) accounts: Vec<Account>,
    pub(crate) store: Store,
    pub(crate) inbox: Inbox,
    /// Everything but sends, writes and deliveries.
    pub(crate) events: Vec<Output>,
    pub(crate) wakes: u64,
    /// Milliseconds that this host's wall clock is ahead.
    pub(crate) skew: i64,
    limits: Limits,
    lives: u8,
    on: bool,
    /// News that it has heard since it started; with their bytes until they are judged.
    heard: BTreeMap<NewsId, Option<Vec<u8>>>,
}

/// Faults of a carrier that is worse than a stream: they strike envelopes and receipts, per thousand.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) duplicates: u32,
    /// Frames are late by up to so many milliseconds, each on its own.
    pub(crate) jitter: u32,
}

pub(crate) struct Net {
    pub(crate) hosts: Vec<Host>,
    pub(crate) mono: u64,
    pub(crate) weather: Weather,
    cables: BTreeSet<(usize, usize)>,
    links: BTreeSet<(usize, usize)>,
    /// Cables of some wider network.
    beyond: BTreeSet<(usize, usize)>,
    /// Hosts that nobody can dial.
    pub(crate) walled: BTreeSet<usize>,
    /// Hosts that the hash table knows as nodes.
    nodes: Vec<usize>,
    air: BTreeMap<(u64, u64), (usize, usize, Vec<u8>)>,
    /// So many nodes are named when it is asked who is closest to something.
    pub(crate) nearest: usize,
    /// Datagrams under way.
    on_air: BTreeMap<(u64, u64), (usize, usize, Vec<u8>)>,
    /// Questions to the hash table.
    pub(crate) asked: usize,
    /// Which host asked for what, and when (monotonic milliseconds).
    pub(crate) gets: Vec<(usize, u64, Key)>,
    /// Nodes of the hash table that store what is put.
    pub(crate) copies: usize,
    /// What stands in it, once there is one that all hosts reach.
    pub(crate) table: Option<BTreeMap<Key, Vec<u8>>>,
    answers: BTreeMap<(u64, u64), (usize, PeerEvent)>,
    /// What is told on the link, on its way: from, to, bytes.
    news: BTreeMap<(u64, u64), (usize, usize, Vec<u8>)>,
    /// Frames on a link whose cable is cut: a stream sends them again, or ends.
    stuck: Vec<(usize, usize, Vec<u8>)>,
    serial: u64,
    dice: u64,
    /// What hosts said of news.
    pub(crate) verdicts: Vec<(usize, Verdict)>,
    /// Frames that arrived, for replaying.
    pub(crate) tape: Vec<(usize, usize, Vec<u8>)>,
    /// No frame arrives, as TCP waits to send again, and no dial ends.
    pub(crate) stalled: bool,
    /// No datagram arrives.
    pub(crate) deaf: bool,
    /// Datagrams that were sent.
    pub(crate) datagrams: Vec<(usize, usize, Vec<u8>)>,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// Keys whose ids ascend: of two hosts the first dials.
static NODE_KEYS: LazyLock<Vec<NodeKey>> = LazyLock::new(|| {
    let mut keys: Vec<NodeKey> = (0..32).map(|seed| NodeKey::from_seed([seed; 32])).collect();
    keys.sort_by_key(NodeKey::id);
    // Of more hosts whoever it is.
    keys.extend((32..64).map(|seed| NodeKey::from_seed([seed; 32])));
    keys
});

pub(crate) fn node_key(index: usize) -> &'static NodeKey {
    &NODE_KEYS[index]
}

pub(crate) fn node_id(index: usize) -> NodeId {
    node_key(index).id()
}

impl Net {
    /// One host per list of accounts; no cables yet.
    pub(crate) fn new(accounts: Vec<Vec<Account>>) -> Self {
        Self::with_limits(accounts, Limits::default())
    }

    pub(crate) fn with_limits(accounts: Vec<Vec<Account>>, limits: Limits) -> Self {
        let mut net = Self {
            hosts: Vec::new(),
            mono: 1_000,
            weather: Weather::default(),
            cables: BTreeSet::new(),
            links: BTreeSet::new(),
            beyond: BTreeSet::new(),
            nodes: Vec::new(),
            air: BTreeMap::new(),
            nearest: usize::MAX,
            on_air: BTreeMap::new(),
            asked: 0,
            gets: Vec::new(),
            walled: BTreeSet::new(),
            copies: dht::COPIES,
            table: None,
            answers: BTreeMap::new(),
            news: BTreeMap::new(),
            stuck: Vec::new(),
            serial: 0,
            dice: 0x9e37_79b9_7f4a_7c15,
            verdicts: Vec::new(),
            tape: Vec::new(),
            stalled: false,
            deaf: false,
            datagrams: Vec::new(),
        };
        for (index, accounts) in accounts.into_iter().enumerate() {
            let now = Now { mono: net.mono, wall: START + net.mono };
            let mut host = Host {
                id: node_id(index),
                core: Overlay::new(setup(index, 0, Store::default().restored(), &limits), now),
                accounts,
                store: Store::default(),
                inbox: Inbox::Takes,
                events: Vec::new(),
                wakes: 0,
                skew: 0,
                limits: limits.clone(),
                lives: 0,
                on: true,
                heard: BTreeMap::new(),
            };
            for account in &host.accounts {
                host.core.add_local(account.local(), now).unwrap();
            }
            net.hosts.push(host);
            net.drain(index);
            net.peer_event(index, probe_port(index));
        }
        net
    }

    /// Two hosts with one user each, joined.
    pub(crate) fn two() -> Self {
        let mut net = Self::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
        net.join(0, 1);
        net.run(100);
        net
    }

    pub(crate) fn user(&self, host: usize) -> UserId {
        self.hosts[host].accounts[0].user
    }

    pub(crate) fn now(&self, host: usize) -> Now {
        let wall = (START + self.mono).saturating_add_signed(self.hosts[host].skew);
        Now { mono: self.mono, wall }
    }

    pub(crate) fn roll(&mut self, below: u32) -> u32 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.dice >> 33) % u64::from(below.max(1))) as u32
    }

    pub(crate) fn shuffle_dice(&mut self, seed: u64) {
        self.dice ^= seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    // --- cables and links ---

    /// Lays a cable and lets both sides discover each other.
    pub(crate) fn join(&mut self, a: usize, b: usize) {
        self.cables.insert(pair(a, b));
        self.beyond.remove(&pair(a, b));
        for (from, to, frame) in std::mem::take(&mut self.stuck) {
            self.serial += 1;
            self.air.insert((self.mono + 1, self.serial), (from, to, frame));
        }
        for (here, there) in [(a, b), (b, a)] {
            let event =
                PeerEvent::Discovered { node: node_id(there), addresses: vec![format!("/memory/{there}")] };
            self.peer_event(here, event);
        }
    }

    /// Lays a cable that nobody notices.
    pub(crate) fn lay(&mut self, a: usize, b: usize) {
        self.cables.insert(pair(a, b));
    }

    /// Lays a cable beyond the link: nobody discovers anybody.
    pub(crate) fn join_beyond(&mut self, a: usize, b: usize) {
        self.cables.insert(pair(a, b));
        self.beyond.insert(pair(a, b));
    }

    /// Cuts the cable; both sides notice at once.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cables.remove(&pair(a, b));
        self.unlink(a, b);
    }

    /// The connection breaks; both sides notice at once.
    pub(crate) fn break_link(&mut self, a: usize, b: usize) {
        self.unlink(a, b);
    }

    /// TCP gets through again.
    pub(crate) fn flow(&mut self, a: usize, b: usize) {
        self.stalled = false;
        self.join(a, b);
    }

    /// Cuts the cable; nobody notices.
    pub(crate) fn cut_silently(&mut self, a: usize, b: usize) {
        self.cables.remove(&pair(a, b));
    }

    /// A host is carried off, which it notices and the other does not.
    pub(crate) fn leave(&mut self, leaver: usize, stays: usize) {
        self.cables.remove(&pair(leaver, stays));
        if self.links.remove(&pair(leaver, stays)) {
            self.air.retain(|_, (from, to, _)| pair(*from, *to) != pair(leaver, stays));
            self.peer_event(leaver, PeerEvent::Disconnected { node: node_id(stays) });
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        if !self.links.remove(&pair(a, b)) {
            return;
        }
        self.air.retain(|_, (from, to, _)| pair(*from, *to) != pair(a, b));
        self.stuck.retain(|(from, to, _)| pair(*from, *to) != pair(a, b));
        for (here, there) in [(a, b), (b, a)] {
            self.peer_event(here, PeerEvent::Disconnected { node: node_id(there) });
        }
    }

    /// A link without a dial, as if the other side had dialled.
    pub(crate) fn link(&mut self, a: usize, b: usize) {
        if self.cables.contains(&pair(a, b))
            && self.hosts[a].on
            && self.hosts[b].on
            && self.links.insert(pair(a, b))
        {
            let near = !self.beyond.contains(&pair(a, b));
            for (here, there, inbound) in [(a, b, false), (b, a, true)] {
                let (node, address) = (node_id(there), format!("/memory/{there}"));
                self.peer_event(here, PeerEvent::Connected { node, address, inbound, near });
            }
        }
    }

    pub(crate) fn peer_event(&mut self, host: usize, event: PeerEvent) {
        if self.hosts[host].on {
            let now = self.now(host);
            self.hosts[host].core.handle_peer(event, now);
            self.drain(host);
        }
    }

    /// Hands a frame to a host as if `from` had sent it.
    pub(crate) fn inject(&mut self, from: usize, to: usize, frame: Vec<u8>) {
        self.peer_event(to, PeerEvent::Frame { node: node_id(from), frame });
    }

    // --- the hash table ---

    /// Lets all hosts reach a hash table, which takes what it is given, and says where each can be reached.
    pub(crate) fn open_table(&mut self) {
        self.table = Some(BTreeMap::new());
        for host in 0..self.hosts.len() {
            self.tell_of_table(host);
        }
    }

    fn tell_of_table(&mut self, host: usize) {
        if self.table.is_some() {
            self.peer_event(host, PeerEvent::Addresses(vec![format!("/memory/{host}")]));
            self.peer_event(host, PeerEvent::Table { nodes: 3 });
        }
    }

    fn ask_table(&mut self, host: usize, id: u64, query: Query) {
        let nodes = self.closest(host, &query);
        let Some(table) = &mut self.table else { return };
        self.asked += 1;
        if let Query::Get(key) = &query {
            self.gets.push((host, self.mono, *key));
        }
        let answer = match query {
            Query::Get(key) | Query::Walk(key) => {
                Answer::Values(table.get(&key).cloned().into_iter().collect())
            }
            Query::Closest(_) | Query::Node(_) => Answer::Nodes(nodes),
            Query::Put { key, value, .. } => {
                table.insert(key, value);
                Answer::Stored(self.copies)
            }
        };
        self.serial += 1;
        self.answers.insert(
            (self.mono + 20, self.serial),
            (host, PeerEvent::Answer { id, answer, trace: Trace::default() }),
        );
    }

    /// These hosts are nodes of the hash table, which everybody reaches.
    pub(crate) fn set_table(&mut self, nodes: Vec<usize>) {
        self.nodes = nodes;
        self.open_table();
    }

    /// Those of its nodes that are on and that a host has a cable to.
    fn closest(&self, host: usize, query: &Query) -> Vec<(NodeId, Vec<String>)> {
        let place = match query {
            Query::Closest(key) => key.as_bytes()[0],
            Query::Node(node) => node.as_bytes()[0],
            Query::Get(_) | Query::Walk(_) | Query::Put { .. } => return Vec::new(),
        };
        let mut nodes: Vec<usize> = self.nodes.iter().copied().filter(|node| self.hosts[*node].on).collect();
        let named = self.nearest;
        nodes.retain(|node| *node != host && self.cables.contains(&pair(host, *node)));
        nodes.sort_by_key(|node| node_id(*node).as_bytes()[0] ^ place);
        let nodes = nodes.into_iter().take(named);
        nodes.map(|node| (node_id(node), vec![format!("/memory/{node}")])).collect()
    }

    // --- power ---

    /// Loses everything but the store and starts again.
    pub(crate) fn restart(&mut self, host: usize) {
        self.power_off(host);
        self.power_on(host);
    }

    pub(crate) fn power_off(&mut self, host: usize) {
        self.hosts[host].on = false;
        for other in 0..self.hosts.len() {
            self.unlink(host, other);
        }
    }

    pub(crate) fn power_on(&mut self, host: usize) {
        let now = self.now(host);
        let this = &mut self.hosts[host];
        this.on = true;
        this.heard.clear();
        this.lives += 1;
        this.core = Overlay::new(setup(host, this.lives, this.store.restored(), &this.limits), now);
        for account in &this.accounts {
            this.core.add_local(account.local(), now).unwrap();
        }
        self.drain(host);
        self.peer_event(host, probe_port(host));
        self.tell_of_table(host);
        for other in 0..self.hosts.len() {
            let cable = pair(host, other);
            if self.cables.contains(&cable) && !self.beyond.contains(&cable) {
                self.join(host, other);
            }
        }
    }

    /// The next thing that happens to a host is lost with everything that it would have written: a crash before the
    /// commit. Outputs that promise nothing may have left.
    pub(crate) fn crash_during(&mut self, host: usize, input: impl FnOnce(&mut Overlay, Now)) {
        let now = self.now(host);
        input(&mut self.hosts[host].core, now);
        while let Some(output) = self.hosts[host].core.poll_output() {
            if let Output::Send { node, frame, durable: false } = output {
                self.fly(host, node, frame, false);
            }
        }
        self.restart(host);
    }

    // --- what users do ---

    pub(crate) fn send(&mut self, host: usize, to: UserId, number: u64) {
        self.send_as(host, self.user(host), to, number);
    }

    pub(crate) fn send_as(&mut self, host: usize, from: UserId, to: UserId, number: u64) {
        let now = self.now(host);
        self.hosts[host].core.send(outgoing(from, to, number), now).unwrap();
        self.drain(host);
    }

    pub(crate) fn with(&mut self, host: usize, act: impl FnOnce(&mut Overlay, Now)) {
        let now = self.now(host);
        act(&mut self.hosts[host].core, now);
        self.drain(host);
    }

    /// The numbers that `host` stored from `from`, in order of arrival.
    pub(crate) fn got(&self, host: usize, from: UserId) -> Vec<u64> {
        let inbox = self.hosts[host].store.inbox.iter().filter(|(sender, ..)| *sender == from);
        inbox.map(|(.., xml)| std::str::from_utf8(xml).unwrap().parse().unwrap()).collect()
    }

    /// How often which outcome was told for a message number.
    pub(crate) fn outcomes(&self, host: usize, number: u64) -> Vec<Outcome> {
        let settled = self.hosts[host].events.iter().filter_map(|event| match event {
            Output::Settled { message, outcome, .. } if *message == message_id(number) => Some(*outcome),
            _ => None,
        });
        settled.collect()
    }

    pub(crate) fn count(&self, host: usize, test: impl Fn(&Output) -> bool) -> usize {
        self.hosts[host].events.iter().filter(|event| test(event)).count()
    }

    // --- time ---

    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.mono + millis;
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            self.mono = self.mono.max(next);
            self.step();
        }
        self.mono = end;
    }

    fn next_moment(&self) -> Option<u64> {
        let timers = self.hosts.iter().filter(|host| host.on).filter_map(|host| host.core.poll_timeout());
        let frame = self.air.keys().chain(self.on_air.keys()).map(|(when, _)| *when).min();
        let answer = self.answers.keys().next().map(|(when, _)| *when);
        let news = self.news.keys().next().map(|(when, _)| *when);
        timers.map(|(when, _)| when).chain(frame).chain(answer).chain(news).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.air.first_entry().filter(|entry| entry.key().0 <= self.mono) {
            let (from, to, frame) = entry.remove();
            if self.cables.contains(&pair(from, to)) && !self.stalled {
                self.tape.push((from, to, frame.clone()));
                self.inject(from, to, frame);
            } else {
                self.stuck.push((from, to, frame));
            }
        }
        while let Some(entry) = self.on_air.first_entry().filter(|entry| entry.key().0 <= self.mono) {
            let (from, to, bytes) = entry.remove();
            if self.cables.contains(&pair(from, to)) && !self.deaf {
                self.peer_event(to, PeerEvent::Datagram(bytes));
            }
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= self.mono) {
            let (host, answer) = entry.remove();
            self.peer_event(host, answer);
        }
        while let Some(entry) = self.news.first_entry().filter(|entry| entry.key().0 <= self.mono) {
            let (from, to, news) = entry.remove();
            self.news_arrive(from, to, news);
        }
        for host in 0..self.hosts.len() {
            let due = self.hosts[host].core.poll_timeout().is_some_and(|(when, _)| when <= self.mono);
            if self.hosts[host].on && due {
                let now = self.now(host);
                self.hosts[host].wakes += 1;
                self.hosts[host].core.handle_timeout(now);
                let (again, _) = self.hosts[host].core.poll_timeout().unwrap_or((u64::MAX, ""));
                assert!(again > self.mono, "a timer must not spin");
                self.drain(host);
            }
        }
    }

    /// Performs the outputs of one batch: writes and deliveries are committed, then everything leaves in order.
    fn drain(&mut self, host: usize) {
        let now = self.now(host);
        let mut leaving = Vec::new();
        while let Some(output) = self.hosts[host].core.poll_output() {
            let this = &mut self.hosts[host];
            match output {
                Output::Write(write) => this.store.write(write),
                Output::Deliver(delivery) => {
                    let how = match this.inbox {
                        Inbox::Takes => Disposition::Held,
                        Inbox::Refuses(code) => Disposition::Refused(code),
                    };
                    if how == Disposition::Held {
                        let Delivery { from, to, message, content, .. } = delivery.clone();
                        this.store.inbox.push((from, to, message, body(content)));
                    }
                    this.core.settle(delivery.ticket, how, now);
                }
                Output::Send { .. }
                | Output::Dial { .. }
                | Output::Close { .. }
                | Output::Query { .. }
                | Output::Publish { .. }
                | Output::Judged { .. } => leaving.push(output),
                Output::Datagram { address, port, bytes } => {
                    let to = (0..self.hosts.len()).find(|to| address == format!("/memory/{to}"));
                    let to = to.filter(|to| u64::from(port) == 14_775 + *to as u64).unwrap();
                    self.datagrams.push((host, to, bytes.clone()));
                    self.serial += 1;
                    self.on_air.insert((self.mono + 1, self.serial), (host, to, bytes));
                }
                other => this.events.push(other),
            }
        }
        for output in leaving {
            match output {
                Output::Send { node, frame, durable } => self.fly(host, node, frame, durable),
                Output::Dial { node, .. } => self.dial(host, node),
                Output::Query { id, query } => self.ask_table(host, id, query),
                Output::Publish { news } => {
                    if self.hosts[host].heard.insert(NewsId::of(&news), None).is_none() {
                        self.tell_news(host, usize::MAX, &news);
                    }
                }
                Output::Judged { node, id, verdict } => {
                    self.verdicts.push((host, verdict));
                    let news = self.hosts[host].heard.get_mut(&id).and_then(Option::take);
                    if let Some(news) = news.filter(|_| verdict == Verdict::Accept) {
                        self.tell_news(host, self.index(node), &news);
                    }
                }
                Output::Close { node, .. } => {
                    let other = self.index(node);
                    self.unlink(host, other);
                }
                _ => unreachable!("filtered above"),
            }
        }
    }

    /// As gossipsub tells the neighbours on the link; here all of them.
    fn tell_news(&mut self, host: usize, from: usize, news: &[u8]) {
        for other in (0..self.hosts.len()).filter(|other| *other != from) {
            let cable = pair(host, other);
            if self.links.contains(&cable) && !self.beyond.contains(&cable) {
                self.serial += 1;
                self.news.insert((self.mono + 1, self.serial), (host, other, news.to_vec()));
            }
        }
    }

    /// Hands news to a host as if `from` had told them.
    pub(crate) fn news_arrive(&mut self, from: usize, to: usize, news: Vec<u8>) {
        let id = NewsId::of(&news);
        if self.hosts[to].heard.contains_key(&id) || !self.cables.contains(&pair(from, to)) {
            return;
        }
        self.hosts[to].heard.insert(id, Some(news.clone()));
        self.peer_event(to, PeerEvent::News { node: node_id(from), id, news });
    }

    fn index(&self, node: NodeId) -> usize {
        self.hosts.iter().position(|host| host.id == node).unwrap_or(usize::MAX)
    }

    fn dial(&mut self, host: usize, node: NodeId) {
        let other = self.index(node);
        if self.stalled {
            return;
        }
        if self.walled.contains(&other)
            || other == usize::MAX
            || !self.cables.contains(&pair(host, other))
            || !self.hosts[other].on
        {
            return self.peer_event(host, PeerEvent::Disconnected { node });
        }
        self.link(host, other);
    }

    fn fly(&mut self, from: usize, node: NodeId, frame: Vec<u8>, durable: bool) {
        let to = self.index(node);
        if to == usize::MAX || !self.links.contains(&pair(from, to)) {
            return;
        }
        let Weather { loss, duplicates, jitter } = if durable { self.weather } else { Weather::default() };
        let copies = 1 + u32::from(self.roll(1_000) < duplicates);
        for _ in 0..copies {
            if self.roll(1_000) < loss {
                continue;
            }
            let late = u64::from(self.roll(jitter + 1));
            self.serial += 1;
            self.air.insert((self.mono + 1 + late, self.serial), (from, to, frame.clone()));
        }
    }
}

/// Each host takes datagrams on a port of its own.
fn probe_port(host: usize) -> PeerEvent {
    PeerEvent::ProbePort(Some(14_775 + host as u16))
}

fn setup(index: usize, life: u8, restored: Restored, limits: &Limits) -> Setup {
    let seed = [index as u8 ^ (life << 4); 32];
    Setup {
        node: node_key(index).clone(),
        seed,
        limits: limits.clone(),
        restored,
        built: START - 20 * DAY,
        publishes: true,
    }
}

pub(crate) fn body(content: Content) -> Vec<u8> {
    match content {
        Content::Stanza { xml, .. } | Content::Copy { xml, .. } => xml,
        Content::Contact(record) | Content::Sync(record) => record,
        Content::Audience { .. } | Content::Tokens(_) => unreachable!("for the overlay itself"),
    }
}

pub(crate) fn message_id(number: u64) -> MessageId {
    MessageId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn stanza(number: u64) -> Content {
    let xml = number.to_string().into_bytes();
    Content::Stanza { from_resource: "desk".into(), to_resource: String::new(), xml }
}

pub(crate) fn outgoing(from: UserId, to: UserId, number: u64) -> Outgoing {
    Outgoing { id: message_id(number), from, to, content: stanza(number), expires: None }
}

pub(crate) fn session(resource: &str) -> PresenceSession {
    PresenceSession { resource: resource.into(), priority: 5, since: START, payload: b"<presence/>".to_vec() }
}

pub(crate) fn link_status(nickname: &str) -> LinkStatus {
    LinkStatus { nickname: nickname.into(), instance: format!("{nickname}@host"), ..LinkStatus::default() }
}

//! The overlay core: one synchronous state machine that decides everything and performs nothing. *Pure.*
//!
//! **Law of use.** Time comes in as [`Now`], randomness from [`Setup::seed`], stored state as [`Restored`]. After each
//! call of a method that takes `&mut self`:
//!
//! 1. drain [`Overlay::poll_output`] until it gives nothing, performing the outputs in order;
//! 2. answer each [`Output::Deliver`] with [`Overlay::settle`] (and drain again): until then, later messages of the same
//!    pair of devices wait;
//! 3. ask [`Overlay::poll_timeout`] when to call [`Overlay::handle_timeout`], even if nothing else happens; a time that
//!    has passed means now.
//!
//! All [`Output::Write`]s between two commits belong to one commit, together with what the node writes for the
//! deliveries among them. [`Output::Send`] with `durable` waits for that commit, and whatever goes to the same peer
//! after it queues behind; other outputs need not wait.
//!
//! | file | decides |
//! | --- | --- |
//! | `dial` | when to dial, and when again |
//! | `doubt` | whether who does not answer is elsewhere |
//! | `choice` | whom to be connected with |
//! | `members` | who is on the link though not connected |
//! | `gossip` | what is told on about others |
//! | `peers` | who is connected, heartbeats, offences |
//! | `probes`, `linger` | who is asked by datagrams, and who stays shown without a connection |
//! | `users` | other people's records; who is live where |
//! | `names`, `domains` | authorities, names, alarms; how the key of each domain is known |
//! | `revoked` | what is void, what that ends, how it spreads |
//! | `locals` | the records and keys of this node's users |
//! | `contacts` | contact records of this node's users |
//! | `devices` | the devices of this node's users, here and elsewhere |
//! | `outbox` | messages that wait, their order and their end |
//! | `inbound` | order and repeats of messages that arrive |
//! | `presence` | what contacts see |
//! | `neighbours` | what everybody on the link sees |
//! | `query` | what the hash table is asked, and what for |
//! | `publish` | what the hash table is told of our users |
//! | `seek` | whom the hash table is asked for, and how often |
//! | `lookup` | look-ups that somebody watches |
//! | `audience` | who may find and read where our devices are |
//! | `mailbox` | what waits at other nodes, and here for others |
//! | `wide` | whom a peer beyond the link is told of |
//! | `live` | stanzas for now or never |
//! | `join` | further devices of our users |
//! | `enrol`, `server` | questions to the server of a domain, and to this node if it is one |
//! | `timers` | one deadline for each thing that waits |
//!
//! A peer is believed about a user only after the user's record and a binding of a device to that very node have been
//! verified on the present session. A Hello with a new session number starts a session anew. Of others it may relay what
//! they signed, which is verified as if they had said it.

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};

use crate::id::{DeviceId, MessageId, NodeId, UserId};
use crate::keys::{NodeKey, SealingKey};
use crate::mailbox::Load;
use crate::record::{LinkStatus, PresenceRecord, PresenceSession, Record, Refusal, Unverified, Verified};
use crate::time::{HOUR, Hlc, HlcClock, Now, TrustedClock};
use crate::traffic::{Count, Window};
use crate::wire::{Frame, decode};

mod audience;
mod choice;
mod contacts;
mod devices;
mod dial;
mod domains;
mod doubt;
mod enrol;
mod event;
mod gossip;
mod hello;
mod inbound;
mod join;
mod limits;
mod linger;
mod live;
mod locals;
mod lookup;
mod mailbox;
mod members;
mod names;
mod neighbours;
mod outbox;
mod output;
mod peers;
mod presence;
mod probes;
mod publish;
mod query;
mod revoked;
mod rotated;
mod seek;
mod server;
pub mod state;
mod timers;
mod users;
mod wide;

pub use devices::OwnDevice;
pub use domains::KnownDomain;
pub use enrol::{NoAnswer, Server};
pub use event::{
    Disposition, Live, LocalUser, OutboxFull, Outgoing, PeerEvent, Restored, Setup, Unreachable,
};
pub use join::{JoinFailure, Joined, MAX_ACCOUNT, Offered};
pub use limits::{Counters, Limits};
pub use lookup::{Lookup, Step, Subject, Target};
pub use output::{
    Alarm, ClaimedName, Delivery, FailReason, Outcome, Output, PeerInfo, Reach, Ticket, Tier, Verdict, Write,
};
pub use server::DeviceProof;
pub use state::{
    CachedUserRecord, InboundSequence, KnownAuthority, OutboundSequence, OutboxEntry, Provenance, Seen,
    StoredMail, StoredToken, TokenPlace,
};

use timers::{Timer, on_grid};

/// The overlay part of one node. See the law of use in the module's documentation.
#[derive(Debug)]
pub struct Overlay {
    node: NodeId,
    node_key: NodeKey,
    limits: Limits,
    rng: ChaCha20Rng,
    clock: TrustedClock,
    was_credible: bool,
    hlc: HlcClock,
    counters: Counters,
    traffic: Window<2>,
    timers: timers::Timers,
    outputs: VecDeque<Output>,
    locals: BTreeMap<UserId, locals::Local>,
    local_devices: BTreeMap<DeviceId, UserId>,
    peers: peers::Peers,
    users: users::Users,
    voids: revoked::Voids,
    outbox: outbox::Outbox,
    live_load: live::LiveLoad,
    inbound: inbound::Inbound,
    presences: presence::Presences,
    neighbours: neighbours::Neighbours,
    gossip: gossip::Gossip,
    members: members::Members,
    linger: linger::Linger,
    doubts: doubt::Doubts,
    probes: probes::Probes,
    choice: choice::Choice,
    wide: wide::Wide,
    queries: query::Queries,
    published: publish::Published,
    seek: seek::Seek,
    lookups: lookup::Lookups,
    audiences: audience::Audiences,
    joins: join::Joins,
    enrolment: enrol::Enrolment,
    /// Whether our users are told of in the hash table.
    publishes: bool,
    /// Where this node can be reached from beyond the link, multiaddresses.
    addresses: Vec<String>,
    mail: mailbox::Mail,
}

impl Overlay {
    /// A core with what the store held. What in it does not verify (any more) is left out and counted.
    pub fn new(setup: Setup, now: Now) -> Self {
        let Setup { node: node_key, seed, limits, restored, built, publishes } = setup;
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        let mut overlay = Self {
            node: node_key.id(),
            node_key,
            limits,
            rng,
            clock: TrustedClock::new(built, restored.time_floor),
            was_credible: true,
            hlc: HlcClock::default(),
            counters: Counters::default(),
            traffic: Window::default(),
            timers: timers::Timers::default(),
            outputs: VecDeque::new(),
            locals: BTreeMap::new(),
            local_devices: BTreeMap::new(),
            peers: peers::Peers::default(),
            users: users::Users::default(),
            voids: revoked::Voids::default(),
            outbox: outbox::Outbox::default(),
            live_load: live::LiveLoad::default(),
            inbound: inbound::Inbound::default(),
            presences: presence::Presences::default(),
            neighbours: neighbours::Neighbours::default(),
            gossip: gossip::Gossip::default(),
            members: members::Members::default(),
            linger: linger::Linger::default(),
            doubts: doubt::Doubts::default(),
            probes: probes::Probes::default(),
            choice: choice::Choice::new(salt),
            wide: wide::Wide::default(),
            queries: query::Queries::default(),
            published: publish::Published::default(),
            seek: seek::Seek::default(),
            lookups: lookup::Lookups::default(),
            audiences: audience::Audiences::default(),
            joins: join::Joins::default(),
            enrolment: enrol::Enrolment::default(),
            publishes,
            addresses: Vec::new(),
            mail: mailbox::Mail::default(),
        };
        overlay.restore_users(&restored, now);
        overlay.restore_outbox(&restored);
        overlay.restore_inbound(&restored);
        overlay.restore_audiences(&restored);
        overlay.restore_mail(&restored);
        overlay.check_clock(now);
        overlay.expire_entries(now);
        if !overlay.users.revocations.is_empty() {
            overlay.timers.set(Timer::Revoked, now.mono);
        }
        overlay.timers.set_earlier(Timer::Sweep, on_grid(now.mono + 1, HOUR));
        overlay.timers.set(Timer::Renew, on_grid(now.mono + 1, neighbours::REFRESH));
        overlay
    }

    /// Adds a user of this node, or replaces certificate, name and keys of one that is there. Refused if the certificate
    /// does not fit the user and the device key, or if the device was revoked.
    pub fn add_local(&mut self, user: LocalUser, now: Now) -> Result<(), Refusal> {
        self.insert_local(user, now)
    }

    /// Says goodbye to all peers, as the node is about to stop: they miss its users at once.
    pub fn farewell(&mut self, now: Now) {
        for node in self.peers.connected.keys().copied().collect::<Vec<_>>() {
            self.send_frame(node, &Frame::Goodbye { reason: "shutting down".to_owned() }, false, now);
        }
    }

    /// Removes a user of this node, with everything that waited to be sent; peers and watchers are told.
    pub fn remove_local(&mut self, user: &UserId, now: Now) {
        self.delete_local(user, now);
    }

    /// Takes renewed certificates of a user of this node; peers are told.
    pub fn renew_local(
        &mut self,
        user: &UserId,
        cert: &[u8],
        name: Option<&[u8]>,
        now: Now,
    ) -> Result<(), Refusal> {
        self.renew_certificates(user, cert, name, now)
    }

    /// When the DeviceCert and the NameCert of a user of this node end, Unix milliseconds.
    pub fn local_validity(&self, user: &UserId) -> Option<(u64, Option<u64>)> {
        self.ends_of(user)
    }

    /// A reading of the clock that orders edits: later than all that were made or verified before.
    pub fn tick(&mut self, now: Now) -> Hlc {
        let time = self.time(now);
        self.hlc.tick(time)
    }

    /// Says where the mail of this node's users is to wait, at most [`crate::record::MAX_DECLARED`] nodes, each with the
    /// addresses that are known; none: wherever the hash table says.
    pub fn set_mailboxes(&mut self, nodes: Vec<(NodeId, Vec<String>)>, now: Now) {
        self.declare_mailboxes(nodes, now);
    }

    /// How many items this node holds for others, and their bytes.
    pub fn mail_held(&self) -> Load {
        self.mail_load()
    }

    /// Publishes a new sealing key; older ones go on opening until [`Output::SealingKeyErase`].
    pub fn add_sealing_key(&mut self, user: &UserId, key: SealingKey, now: Now) {
        self.insert_sealing_key(user, key, now);
    }

    /// Something that the swarm saw.
    pub fn handle_peer(&mut self, event: PeerEvent, now: Now) {
        self.on_peer_event(event, now);
    }

    /// Accepts a durable message: it is kept until a device of the recipient has receipted it, or until it expires;
    /// either is told by [`Output::Settled`] once. To a user of this node: for that user's other devices only.
    pub fn send(&mut self, message: Outgoing, now: Now) -> Result<(), OutboxFull> {
        self.accept(message, now)
    }

    /// Sends a stanza to the live device that has the resource, or else to all live devices of the recipient, as far as
    /// [`Limits::live_bytes_per_peer`] allows. If the recipient is on the link but its node is not connected, it waits
    /// for that three seconds at most; then [`Output::LiveFailed`] follows.
    pub fn send_live(&mut self, live: Live, now: Now) -> Result<(), Unreachable> {
        self.send_now(live, now)
    }

    /// Sends a request, which one device has to answer, and returns which is asked: for a session the device that has it,
    /// or the only one that is there; for the account the first of those that are there, always the same.
    pub fn send_request(&mut self, live: Live, now: Now) -> Result<DeviceId, Unreachable> {
        self.ask_one(live, now)
    }

    /// Says which sessions of a user are there and who may see them. Live watchers are told now, others when they
    /// become live; somebody who is no longer a watcher is told "offline" once. No sessions: offline.
    pub fn set_presence(
        &mut self,
        user: &UserId,
        sessions: Vec<PresenceSession>,
        watchers: Vec<UserId>,
        now: Now,
    ) {
        self.change_presence(user, sessions, watchers, now);
    }

    /// What a user of this node publishes now.
    pub fn own_presence(&self, user: &UserId) -> Option<&Verified<PresenceRecord>> {
        self.locals.get(user)?.shown.presence.as_ref().map(|(record, _)| record)
    }

    /// Says what a user shows everybody on the link; nothing: hidden or offline. Peers are told at once.
    pub fn set_link_presence(&mut self, user: &UserId, presence: Option<LinkStatus>, now: Now) {
        self.change_link_presence(user, presence, now);
    }

    /// Says what became of a delivery; its receipt leaves with the commit that this belongs to.
    pub fn settle(&mut self, ticket: Ticket, how: Disposition, now: Now) {
        self.settle_delivery(ticket, how, now);
    }

    /// Looks somebody up in the hash table for a person to see how; [`Output::LookedUp`] with that number follows.
    pub fn look_up(&mut self, ticket: u64, target: &Target, now: Now) {
        self.start_lookup(ticket, target, now);
    }

    /// Verifies a record from one's own store again, where no time is a reason to refuse it.
    pub fn reread<T: Record>(&self, bytes: &[u8], now: Now) -> Result<Verified<T>, Refusal> {
        Unverified::<T>::parse(bytes)?.verify(&self.users.own_context(self.clock.trusted(now)))
    }

    /// Says that the node knows a user: the record that is (or will be) remembered is not forgotten to make room for
    /// others'. Holds until the next start, for as many users as [`Limits::users`] says; further ones are counted.
    pub fn keep(&mut self, user: &UserId) {
        self.keep_user(user);
    }

    /// Whether a user can be reached. A user of this node counts by other devices only.
    pub fn reach(&self, user: &UserId) -> Reach {
        self.reach_of(user)
    }

    /// How far a user's name is to be believed.
    pub fn tier(&self, user: &UserId, now: Now) -> Tier {
        self.tier_of(user, now)
    }

    /// The name that a user has by a certificate; one by a pinned authority before others.
    pub fn name_of(&self, user: &UserId) -> Option<ClaimedName> {
        self.claimed_name(user)
    }

    /// Who has an address, according to the authority that is pinned for its domain.
    pub fn user_by_name(&self, address: &str) -> Option<UserId> {
        self.holder_of(address)
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.peer_infos()
    }

    /// The messages that wait, oldest first.
    pub fn outbox(&self) -> impl Iterator<Item = OutboxEntry> {
        self.outbox.iter()
    }

    /// Statements of others that are held to be told on, and their bytes.
    pub fn relay_load(&self) -> (usize, usize) {
        self.gossip.load()
    }

    /// What happened how often.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Frames sent in the last minute: those that only keep a connection alive, and all others. Bytes are of the frames,
    /// before encryption and without the headers of TCP.
    pub fn traffic(&self, now: Now) -> (Count, Count) {
        self.traffic.last_minute(now.mono).into()
    }

    /// Which time is believed.
    pub fn clock(&self) -> &TrustedClock {
        &self.clock
    }

    /// Takes a message back; true if it had not been delivered. [`Output::Settled`] does not follow.
    pub fn cancel(&mut self, id: MessageId, now: Now) -> bool {
        self.cancel_message(id, now)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::Dial(node) => self.on_dial_timer(node, now),
                Timer::Peer(node) => self.on_peer_timer(node, now),
                Timer::Probe(node) => self.on_probe_timer(node, now),
                Timer::Doubt(node) => self.on_doubt_timer(node, now),
                Timer::Lane(pair) => self.on_lane_timer(pair, now),
                Timer::Gap(pair) => self.on_gap_timer(pair, now),
                Timer::Renew => self.on_renew_timer(now),
                Timer::Survey => self.on_survey_timer(now),
                Timer::Gossip => self.on_gossip_timer(now),
                Timer::Ask => self.on_ask_timer(now),
                Timer::Held => self.on_held_timer(now),
                Timer::Query => self.on_query_timer(now),
                Timer::Publish => self.on_publish_timer(now),
                Timer::Seek => self.on_seek_timer(now),
                Timer::Presence => self.on_presence_timer(now),
                Timer::Mail => self.on_mail_timer(now),
                Timer::Work => self.on_work_timer(now),
                Timer::Revoked => self.on_revoked_timer(now),
                Timer::Join => self.on_join_timer(now),
                Timer::Enrol => self.on_enrol_timer(now),
                Timer::Sweep => self.on_sweep_timer(now),
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Overlay::handle_timeout`], monotonic milliseconds, and for what.
    pub fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        self.timers.next()
    }

    fn on_frame(&mut self, node: NodeId, bytes: &[u8], now: Now) {
        if !self.heard(&node, now) {
            return self.counters.drop("frame of a peer that is not connected");
        }
        let Ok(frame) = decode(bytes) else { return self.offence(node, "bytes that are no frame", now) };
        if !self.is_greeted(&node) && !matches!(frame, Frame::Hello(_) | Frame::Goodbye { .. }) {
            return self.counters.drop("frame before the Hello");
        }
        if is_for_link(&frame) && !self.peers.is_near(&node) {
            return self.counters.drop("frame for the link from beyond it");
        }
        self.note_use(&node, &frame, now);
        match frame {
            Frame::Hello(hello) => self.on_hello(node, hello, now),
            Frame::Records(users) => self.on_records(node, users, now),
            Frame::LinkPresences(records) => self.on_link_presences(node, &records, now),
            Frame::LinkAbsence { user, device, gone } => self.on_link_absence(node, user, device, gone, now),
            Frame::Presence { to, record } => self.on_presence(node, to, &record, now),
            Frame::Envelope(envelope) => self.on_envelope(node, &envelope, now),
            Frame::Receipt(receipt) => self.on_receipt(node, &receipt, now),
            Frame::Live(live) => self.on_live(node, live, now),
            Frame::Have(marks) => self.on_have(node, marks, now),
            Frame::Want(marks) => self.on_want(node, &marks, now),
            Frame::Relayed(relayed) => self.on_relayed(node, relayed, now),
            Frame::Deposit { request, offer } => self.on_deposit(node, request, &offer, now),
            Frame::DepositAnswer { request, answer } => self.on_deposit_answer(node, request, answer, now),
            Frame::List(access) => self.on_list(node, &access, now),
            Frame::Listing { entries, .. } => self.on_listing(node, &entries, now),
            Frame::Fetch(items) => self.on_fetch(node, &items, now),
            Frame::Mail(items) => self.on_mail(node, items, now),
            Frame::Discard(items) => self.on_discard(node, &items),
            Frame::WantTokens { from, to } => self.on_want_tokens(node, from, to, now),
            Frame::Revoked(digests) => self.on_revoked(node, &digests, now),
            Frame::Revocations(told) => self.on_revocations(node, told, now),
            Frame::Rotations(rotations) => self.on_rotations(node, &rotations, now),
            Frame::Join { offer, proof } => self.on_join(node, offer, &proof, now),
            Frame::JoinAnswer { offer, answer } => self.on_join_answer(node, offer, &answer, now),
            Frame::Enrol { request, ask } => self.on_enrol(node, request, ask, now),
            Frame::EnrolAnswer { request, answer } => self.on_enrol_answer(node, request, answer, now),
            Frame::Upstream => self.on_upstream(node),
            Frame::Goodbye { reason } => self.on_goodbye(&node, &reason),
            Frame::Heartbeat => {}
            Frame::Unknown => self.counters.drop("frame of a kind not known here"),
        }
    }
}

/// Whether a frame says who is on the link.
fn is_for_link(frame: &Frame) -> bool {
    matches!(frame, Frame::LinkPresences(_) | Frame::Have(_) | Frame::Want(_) | Frame::Relayed(_))
}

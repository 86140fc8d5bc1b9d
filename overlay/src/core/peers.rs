//! Connected nodes: their sessions, heartbeats, silence and offences. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_core::Rng;

use super::choice::NOT_NEEDED;
use super::dial::Candidate;
use super::timers::{Pair, TICK, Timer, on_grid};
use super::{Output, Overlay, PeerEvent, PeerInfo};
use crate::id::{DeviceId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::probe::{Offer, Secret};
use crate::time::{HOUR, MINUTE, Now, SECOND};
use crate::wire::{Frame, Hello, encode};

/// A peer to whom nothing was sent for so long gets a heartbeat.
const HEARTBEAT: u64 = 10 * SECOND;
/// A peer that is silent for so long is closed; everybody else learns of that well within 30 s.
const SILENCE: u64 = 21 * SECOND;
/// So many offences within [`MINUTE`] close a peer.
const MAX_OFFENCES: usize = 8;
/// A peer closed for offences, or because it speaks no common version, is not talked to for so long.
const BAN: u64 = 5 * MINUTE;
/// Nodes that are banned at most; the one whose ban ends first goes.
const MAX_BANNED: usize = 256;
/// What a peer may still make us verify is remembered for so long after it has left, …
const CREDIT_MEMORY: u64 = HOUR;
/// … of so many nodes; the one that earned longest ago goes.
const MAX_CREDITS: usize = 1_024;
/// After the start of a session, frames about users not proven yet may still be honest.
const GRACE: u64 = 5 * SECOND;

/// What is said to a peer that is closed for its silence.
const SILENT: &str = "silent for too long";

/// Why a peer ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// It has not heard us for too long.
    Silence,
    /// Anything else.
    Other,
}

/// A connected, proven node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) far: Far,
    /// The users of this node whom it was told of in this session.
    pub(super) told: BTreeSet<UserId>,
    /// The domains whose rotations it was told in this session.
    pub(super) rotations: BTreeSet<String>,
    pub(super) since: u64,
    /// When a user's traffic went over it last.
    pub(super) used: u64,
    /// It said that it does not need the connection.
    pub(super) parting: bool,
    /// Why it ends the connection, if it said so: it has not heard us for too long, or something else.
    goodbye: Option<Goodbye>,
    /// Ours; told in our Hello.
    pub(super) session: u64,
    /// The same, for probes.
    pub(super) secret: Secret,
    pub(super) hello: Option<Hello>,
    pub(super) hello_at: u64,
    /// When its last Hello came, which tells its clock.
    pub(super) clock_at: u64,
    last_sent: u64,
    pub(super) last_heard: u64,
    offences: VecDeque<u64>,
    /// Which users are proven to be there, each with the one device it has on that node.
    pub(super) proven: BTreeMap<UserId, DeviceId>,
    /// Envelopes without receipt.
    pub(super) flight: usize,
    /// Pairs of devices that wait for others to be receipted.
    pub(super) blocked: VecDeque<Pair>,
    /// Users whose records it may still make us verify; grows with time.
    pub(super) credit: u64,
    pub(super) credit_at: u64,
    /// Bytes that it made us remember of users who are elsewhere.
    pub(super) brought: usize,
}

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Far {
    address: String,
    pub(super) inbound: bool,
    /// On the link: it learns who is here. Others are told only of those whom somebody there knows.
    pub(super) near: bool,
}

/// All nodes that matter.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) candidates: BTreeMap<NodeId, Candidate>,
    pub(super) connected: BTreeMap<NodeId, Peer>,
    banned: BTreeMap<NodeId, u64>,
    /// Credit, and since when it grows, of nodes that have left: coming back gives none.
    credits: BTreeMap<NodeId, (u64, u64)>,
}

impl Peers {
    /// When a frame last came of a peer whose Hello has arrived.
    pub(super) fn heard_at(&self, node: &NodeId) -> Option<u64> {
        self.connected.get(node).filter(|peer| peer.hello.is_some()).map(|peer| peer.last_heard)
    }

    /// Where a peer on the link is, our secret, and how it is to be probed.
    pub(super) fn probe_offers(&self, node: &NodeId) -> Option<(String, Secret, Option<Offer>)> {
        let peer = self.connected.get(node).filter(|peer| peer.far.near)?;
        Some((peer.far.address.clone(), peer.secret, peer.hello.as_ref()?.probe))
    }

    /// Peers whose Hello has arrived.
    pub(super) fn ready(&self) -> Vec<NodeId> {
        self.connected.iter().filter(|(_, peer)| peer.hello.is_some()).map(|(node, _)| *node).collect()
    }

    /// Those of them that are on the link.
    pub(super) fn near(&self) -> Vec<NodeId> {
        let near = |(_, peer): &(&NodeId, &Peer)| peer.far.near && peer.hello.is_some();
        self.connected.iter().filter(near).map(|(node, _)| *node).collect()
    }

    pub(super) fn is_near(&self, node: &NodeId) -> bool {
        self.connected.get(node).is_some_and(|peer| peer.far.near)
    }

    /// The session numbers of our Hello and of a peer's.
    pub(super) fn sessions(&self, node: &NodeId) -> Option<(u64, u64)> {
        let peer = self.connected.get(node)?;
        Some((peer.session, peer.hello.as_ref()?.session))
    }

    pub(super) fn is_ready(&self, node: &NodeId) -> bool {
        self.connected.get(node).is_some_and(|peer| peer.hello.is_some())
    }

    pub(super) fn dials(&self) -> usize {
        self.candidates.values().filter(|candidate| candidate.dialling).count()
    }

    pub(super) fn is_banned(&self, node: &NodeId, now: Now) -> bool {
        self.banned.get(node).is_some_and(|until| now.mono < *until)
    }

    fn remember_credit(&mut self, node: NodeId, credit: u64, since: u64) {
        if self.credits.len() >= MAX_CREDITS {
            let first = self.credits.iter().min_by_key(|(_, (_, since))| *since).map(|(node, _)| *node);
            first.map(|node| self.credits.remove(&node));
        }
        self.credits.insert(node, (credit, since));
    }

    pub(super) fn ban(&mut self, node: NodeId, now: Now) {
        self.banned.retain(|_, until| now.mono < *until);
        if self.banned.len() >= MAX_BANNED {
            let first = self.banned.iter().min_by_key(|(_, until)| **until).map(|(node, _)| *node);
            first.map(|node| self.banned.remove(&node));
        }
        self.banned.insert(node, now.mono + BAN);
    }
}

impl Overlay {
    pub(super) fn on_peer_event(&mut self, event: PeerEvent, now: Now) {
        match event {
            PeerEvent::Discovered { node, addresses } => self.on_discovered(node, addresses, now),
            PeerEvent::Expired { node, addresses } => self.on_expired(node, &addresses),
            PeerEvent::Connected { node, address, inbound, near } => {
                self.on_connected(node, Far { address, inbound, near }, now);
            }
            PeerEvent::Disconnected { node } => self.on_disconnected(node, now),
            PeerEvent::Table { nodes } => self.on_table(nodes, now),
            PeerEvent::Addresses(addresses) => self.set_addresses(addresses, now),
            PeerEvent::Answer { id, answer, trace } => self.on_table_answer(id, answer, trace, now),
            PeerEvent::ProbePort(port) => self.set_probe_port(port),
            PeerEvent::Datagram(bytes) => self.on_datagram(&bytes, now),
            PeerEvent::Frame { node, frame } => self.on_frame(node, &frame, now),
            PeerEvent::News { node, id, news } => self.on_news(node, id, &news, now),
        }
    }

    fn on_connected(&mut self, node: NodeId, far: Far, now: Now) {
        if self.peers.connected.contains_key(&node) {
            return;
        }
        let refuse = match () {
            () if node == self.node => Some("this is myself"),
            () if self.peers.is_banned(&node, now) => Some("misbehaved a moment ago"),
            () if !self.makes_room_for(&node, 0, now) => Some("too many connections"),
            () => None,
        };
        if let Some(reason) = refuse {
            return self.outputs.push_back(Output::Close { node, reason });
        }
        if let Some(candidate) = self.peers.candidates.get_mut(&node) {
            (candidate.dialling, candidate.met) = (false, true);
            candidate.seen = now.mono;
        }
        self.timers.cancel(Timer::Dial(node));
        self.linger_on(&node, now);
        let session = self.rng.next_u64();
        let mut secret = Secret::default();
        self.rng.fill_bytes(&mut secret);
        let before = self.peers.credits.remove(&node);
        let before = before.filter(|(_, since)| now.mono < since.saturating_add(CREDIT_MEMORY));
        let (credit, credit_at) = before.unwrap_or((self.limits.users_per_peer as u64, now.mono));
        let peer = Peer {
            far,
            told: BTreeSet::new(),
            rotations: BTreeSet::new(),
            since: now.mono,
            used: now.mono,
            parting: false,
            goodbye: None,
            session,
            secret,
            hello: None,
            hello_at: now.mono,
            clock_at: now.mono,
            last_sent: now.mono,
            last_heard: now.mono,
            offences: VecDeque::new(),
            proven: BTreeMap::new(),
            flight: 0,
            blocked: VecDeque::new(),
            credit,
            credit_at,
            brought: 0,
        };
        self.peers.connected.insert(node, peer);
        self.timers.set(Timer::Peer(node), on_grid(now.mono + HEARTBEAT, TICK));
        self.say_hello(node, now);
    }

    fn on_disconnected(&mut self, node: NodeId, now: Now) {
        if self.peers.is_ready(&node) {
            let parting = self.peers.connected.get(&node).is_some_and(|peer| peer.parting);
            self.note_lost(&node, !parting, now);
            if parting {
                self.parted(&node, now);
            } else {
                self.server_session_lost(node);
            }
            match self.peers.connected.get(&node).and_then(|peer| peer.goodbye) {
                Some(Goodbye::Silence) => self.linger_in_silence(&node, now),
                Some(Goodbye::Other) => self.end_probes(&node),
                None => self.linger_if_asked(&node, now),
            }
            self.drop_peer(node, now);
            self.redial_later(node, now);
        } else if self.peers.connected.contains_key(&node) {
            // Closed before its Hello: it has no room for us, or is none of us.
            self.drop_peer(node, now);
            self.on_dial_failed(node, now);
        } else if self.peers.candidates.get(&node).is_some_and(|candidate| candidate.dialling) {
            self.on_dial_failed(node, now);
        }
    }

    /// Forgets a connection and everything that was proven by it.
    fn drop_peer(&mut self, node: NodeId, now: Now) {
        let lost =
            self.peers.connected.get(&node).map(|peer| peer.proven.keys().copied().collect::<Vec<_>>());
        self.forget_session(node);
        if let Some(peer) = self.peers.connected.remove(&node) {
            self.peers.remember_credit(node, peer.credit, peer.credit_at);
        }
        self.forget_gossip_of(&node);
        self.timers.cancel(Timer::Peer(node));
        self.clock.forget_peer(&node);
        self.check_clock(now);
        if !self.is_here(&node) {
            // Whoever matters may be on another network by now.
            let lost = lost.unwrap_or_default().into_iter().filter(|user| self.matters(user));
            lost.collect::<Vec<_>>().iter().for_each(|user| self.seek(user, now));
        }
    }

    /// Forgets everything that was proven on a connection.
    pub(super) fn forget_session(&mut self, node: NodeId) {
        let proven = self.peers.connected.get(&node).map(|peer| peer.proven.clone()).unwrap_or_default();
        for device in proven.into_values() {
            self.device_left(&device);
        }
        if let Some(peer) = self.peers.connected.get_mut(&node) {
            peer.told.clear();
            peer.rotations.clear();
        }
        self.drop_held_back(&node);
        self.forget_mail_session(&node);
    }

    /// Says goodbye, closes and forgets.
    pub(super) fn close_peer(&mut self, node: NodeId, reason: &'static str, now: Now) {
        self.send_frame(node, &Frame::Goodbye { reason: reason.to_owned() }, false, now);
        self.outputs.push_back(Output::Close { node, reason });
        if reason == NOT_NEEDED {
            self.parted(&node, now);
        }
        if reason != SILENT {
            self.end_probes(&node);
        }
        self.drop_peer(node, now);
        self.redial_later(node, now);
    }

    pub(super) fn end_silent(&mut self, node: NodeId, now: Now) {
        self.note_lost(&node, true, now);
        self.server_session_lost(node);
        self.linger_in_silence(&node, now);
        self.close_peer(node, SILENT, now);
    }

    pub(super) fn on_peer_timer(&mut self, node: NodeId, now: Now) {
        let Some(peer) = self.peers.connected.get(&node) else { return };
        let silence = if is_on(Mutant::NeverSilent) { HOUR } else { SILENCE };
        if now.mono >= peer.last_heard + silence {
            return self.end_silent(node, now);
        }
        let silent = now.mono >= peer.last_sent + HEARTBEAT;
        self.check_clock(now);
        if self.end_if_surplus(node, now) {
            return;
        }
        if silent {
            self.send_frame(node, &Frame::Heartbeat, false, now);
        }
        if let Some(peer) = self.peers.connected.get(&node) {
            let heartbeat = on_grid((peer.last_sent + HEARTBEAT).max(now.mono + 1), TICK);
            // Silence is rare, and told without delay.
            self.timers.set(Timer::Peer(node), heartbeat.min(peer.last_heard + silence));
        }
    }

    /// If it only does not need the connection, that is no loss.
    pub(super) fn on_goodbye(&mut self, node: &NodeId, reason: &str) {
        if let Some(peer) = self.peers.connected.get_mut(node) {
            peer.parting = reason == NOT_NEEDED;
            peer.goodbye = Some(if reason == SILENT { Goodbye::Silence } else { Goodbye::Other });
        }
    }

    fn note_lost(&mut self, node: &NodeId, lost: bool, now: Now) {
        // Of one that nobody here wanted, its own node takes care.
        let lost = lost && self.is_wanted(node, now);
        if let Some(candidate) = self.peers.candidates.get_mut(node) {
            candidate.lost = lost.then_some(now.mono);
        }
    }

    pub(super) fn is_greeted(&self, node: &NodeId) -> bool {
        self.peers.is_ready(node)
    }

    /// Whether a user is proven to be on a node.
    pub(super) fn is_proven(&self, user: &UserId, node: &NodeId) -> bool {
        self.peers.connected.get(node).is_some_and(|peer| peer.proven.contains_key(user))
    }

    pub(super) fn heard(&mut self, node: &NodeId, now: Now) -> bool {
        self.counters.frames_in += 1;
        let Some(peer) = self.peers.connected.get_mut(node) else { return false };
        peer.last_heard = now.mono;
        self.doubts.end(node);
        true
    }

    /// Counts what an honest peer never does; the eighth within a minute closes it.
    pub(super) fn offence(&mut self, node: NodeId, reason: &'static str, now: Now) {
        self.counters.offence(reason);
        let Some(peer) = self.peers.connected.get_mut(&node) else { return };
        peer.offences.push_back(now.mono);
        while peer.offences.front().is_some_and(|first| first + MINUTE < now.mono) {
            peer.offences.pop_front();
        }
        if peer.offences.len() >= MAX_OFFENCES {
            self.peers.ban(node, now);
            self.close_peer(node, "misbehaved eight times within a minute", now);
        }
    }

    /// Counts a frame about a user who is not proven there: an offence unless the session has just begun.
    pub(super) fn unproven(&mut self, node: NodeId, now: Now) {
        self.counters.drop("user not proven on that node");
        let young = |peer: &Peer| now.mono < peer.hello_at + GRACE;
        if !self.peers.connected.get(&node).is_none_or(young) {
            self.offence(node, "speaks for a user who is not there", now);
        }
    }

    pub(super) fn send_frame(&mut self, node: NodeId, frame: &Frame, durable: bool, now: Now) {
        let Some(peer) = self.peers.connected.get_mut(&node) else { return };
        peer.last_sent = now.mono;
        if is_for_users(frame) {
            peer.used = now.mono;
        }
        self.counters.frames_out += 1;
        let kind = usize::from(!matches!(frame, Frame::Heartbeat));
        let frame = encode(frame);
        self.traffic.count(kind, frame.len() as u64, now.mono);
        self.outputs.push_back(Output::Send { node, frame, durable });
    }

    /// A user's traffic went over a connection.
    pub(super) fn note_use(&mut self, node: &NodeId, frame: &Frame, now: Now) {
        if let Some(peer) = self.peers.connected.get_mut(node).filter(|_| is_for_users(frame)) {
            peer.used = now.mono;
        }
    }

    pub(super) fn peer_infos(&self) -> Vec<PeerInfo> {
        let info = |(node, peer): (&NodeId, &Peer)| PeerInfo {
            node: *node,
            address: peer.far.address.clone(),
            inbound: peer.far.inbound,
            near: peer.far.near,
            since: peer.since,
            agent: peer.hello.as_ref().map(|hello| hello.agent.clone()).unwrap_or_default(),
            users: peer.proven.keys().copied().collect(),
            last_heard: peer.last_heard,
        };
        self.peers.connected.iter().map(info).collect()
    }
}

/// Whether a frame carries what a user said or shows to somebody.
fn is_for_users(frame: &Frame) -> bool {
    match frame {
        Frame::Envelope(_) | Frame::Receipt(_) | Frame::Live(_) | Frame::Presence { .. } => true,
        Frame::Deposit { .. } | Frame::DepositAnswer { .. } | Frame::Fetch(_) | Frame::Mail(_) => true,
        Frame::Listing { entries, .. } => !entries.is_empty(),
        Frame::Join { .. } | Frame::JoinAnswer { .. } => true,
        Frame::Enrol { .. } | Frame::EnrolAnswer { .. } | Frame::Upstream => true,
        Frame::Hello(_)
        | Frame::Records(_)
        | Frame::LinkPresences(_)
        | Frame::LinkAbsence { .. }
        | Frame::Heartbeat
        | Frame::Goodbye { .. }
        | Frame::Have(_)
        | Frame::Want(_)
        | Frame::Relayed(_)
        | Frame::List(_)
        | Frame::Discard(_)
        | Frame::WantTokens { .. }
        | Frame::Revoked(_)
        | Frame::Unknown => false,
        Frame::Revocations(_) | Frame::Rotations(_) => false,
    }
}

//! Datagrams that ask a node whose connection was lost whether it is there, and answers to them. *Pure.*
//!
//! On a bad link TCP may be silent for minutes though both ends are well: the pause before it sends again grows each time. A new
//! connection is made then, which takes its time too. Meanwhile the node is asked by datagrams, by the key of the last
//! session, as long as somebody of it stays shown (`linger`). A healthy link carries none of this.

use std::collections::{BTreeMap, VecDeque};

use super::timers::Timer;
use super::{Output, Overlay};
use crate::id::NodeId;
use crate::probe::{self, Key, Kind, Offer, Probe, Secret, Tag};
use crate::time::{MINUTE, Now, SECOND};

/// From one question to the next. Where half of the frames are lost each way, one of four is answered.
const EVERY: u64 = SECOND / 4;
/// After an answer it is not asked again for so long.
const REST: u64 = 15 * SECOND;
/// Between two answers to one node at least.
const ANSWERS: u64 = SECOND / 10;
/// Keys of a node: the other end may still have the one before.
const KEYS: usize = 2;
/// Nodes that can be asked, or may ask, at most; of those without a connection the one lost longest ago goes.
pub(super) const MAX_NODES: usize = 128;
/// Keys of a node are kept for so long after its connection was lost.
const MEMORY: u64 = 10 * MINUTE;

/// Who can be asked, and may ask.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Where we take probes.
    port: Option<u16>,
    nodes: BTreeMap<NodeId, Probed>,
}

/// A node that can be asked.
#[derive(Debug)]
struct Probed {
    /// Of its connection; its host is where the port is.
    address: String,
    port: u16,
    /// Newest first.
    keys: VecDeque<Agreed>,
    /// When its connection was lost.
    lost: Option<u64>,
    /// When it was answered last.
    answered: u64,
}

#[derive(Debug)]
struct Agreed {
    key: Key,
    /// The number of our last question.
    asked: u64,
    /// Answers to questions up to this one count no more: one was answered, or there is a newer key.
    settled: u64,
    /// The number of its last question.
    heard: u64,
}

impl Probes {
    /// How we are to be probed in a session with this secret.
    pub(super) fn offer(&self, secret: Secret) -> Option<Offer> {
        self.port.map(|port| Offer { port, secret })
    }

    fn find(&mut self, tag: &Tag) -> Option<(NodeId, &mut Probed, usize)> {
        self.nodes.iter_mut().find_map(|(node, probed)| {
            let index = probed.keys.iter().position(|agreed| agreed.key.tag() == *tag)?;
            Some((*node, probed, index))
        })
    }

    fn make_room(&mut self, now: Now) {
        self.nodes.retain(|_, probed| probed.lost.is_none_or(|lost| now.mono < lost + MEMORY));
        if self.nodes.len() >= MAX_NODES {
            let lost = self.nodes.iter().filter_map(|(node, probed)| Some((probed.lost?, *node)));
            lost.min().map(|(_, node)| self.nodes.remove(&node));
        }
    }
}

impl Overlay {
    /// Says on which port probes arrive.
    pub(super) fn set_probe_port(&mut self, port: Option<u16>) {
        self.probes.port = port;
    }

    /// A session with a peer on the link begins.
    pub(super) fn agree_on_probes(&mut self, node: NodeId, now: Now) {
        let Some((address, own, other)) = self.peers.probe_offers(&node) else { return };
        let (Some(_), Some(other)) = (self.probes.port, other) else { return self.end_probes(&node) };
        let key = Key::agree((&self.node, &own), (&node, &other.secret));
        if !self.probes.nodes.contains_key(&node) {
            self.probes.make_room(now);
        }
        let fresh =
            || Probed { address: String::new(), port: 0, keys: VecDeque::new(), lost: None, answered: 0 };
        let probed = self.probes.nodes.entry(node).or_insert_with(fresh);
        (probed.address, probed.port, probed.lost) = (address, other.port, None);
        probed.keys.iter_mut().for_each(|agreed| agreed.settled = agreed.asked);
        probed.keys.push_front(Agreed { key, asked: 0, settled: 0, heard: 0 });
        probed.keys.truncate(KEYS);
    }

    /// It said goodbye, or was told so.
    pub(super) fn end_probes(&mut self, node: &NodeId) {
        self.probes.nodes.remove(node);
        self.timers.cancel(Timer::Probe(*node));
    }

    /// Its connection was lost: it is asked from now on. False if it can't be.
    pub(super) fn probe_lost(&mut self, node: &NodeId, now: Now) -> bool {
        let Some(probed) = self.probes.nodes.get_mut(node) else { return false };
        probed.lost = Some(now.mono);
        self.timers.set(Timer::Probe(*node), now.mono);
        true
    }

    /// Asks, if somebody wants to know.
    pub(super) fn on_probe_timer(&mut self, node: NodeId, now: Now) {
        let Some(probed) = self.probes.nodes.get_mut(&node) else { return };
        if !self.linger.waits_for(&node) {
            return;
        }
        let Some(agreed) = probed.keys.front_mut() else { return };
        agreed.asked += 1;
        let bytes = agreed.key.seal(&self.node, Probe { kind: Kind::Ask, number: agreed.asked });
        let (address, port) = (probed.address.clone(), probed.port);
        self.timers.set(Timer::Probe(node), now.mono + EVERY);
        self.send_probe(address, port, &bytes, now);
    }

    fn send_probe(&mut self, address: String, port: u16, bytes: &[u8], now: Now) {
        self.traffic.count(0, bytes.len() as u64, now.mono);
        self.outputs.push_back(Output::Datagram { address, port, bytes: bytes.to_vec() });
    }

    /// Something arrived on the port for probes, from anybody.
    pub(super) fn on_datagram(&mut self, bytes: &[u8], now: Now) {
        let found = probe::tag_of(bytes).and_then(|tag| self.probes.find(&tag));
        let Some((node, probed, index)) = found else {
            return self.counters.drop("datagram that is no probe of anybody");
        };
        let agreed = &mut probed.keys[index];
        match agreed.key.open(&node, bytes) {
            None => self.counters.drop("probe that is forged"),
            Some(Probe { kind: Kind::Ask, number }) if number > agreed.heard => {
                if now.mono < probed.answered + ANSWERS {
                    return self.counters.drop("probe too soon after another");
                }
                (agreed.heard, probed.answered) = (number, now.mono);
                let bytes = agreed.key.seal(&self.node, Probe { kind: Kind::Answer, number });
                let (address, port) = (probed.address.clone(), probed.port);
                self.send_probe(address, port, &bytes, now);
            }
            Some(Probe { kind: Kind::Answer, number })
                if (agreed.settled + 1..=agreed.asked).contains(&number) =>
            {
                agreed.settled = agreed.asked;
                self.timers.set(Timer::Probe(node), now.mono + REST);
                self.linger_on(&node, now);
            }
            Some(_) => self.counters.drop("probe that came before"),
        }
    }
}

//! Which nodes are on the link though they are not connected: those that others hear. *Pure.*
//!
//! Each node says whom it hears ([`NodeLinks`]). A node counts as here if it is connected, or if others say that they
//! hear it and it says that it hears them: two of them, or one if it hears no more than three. Whoever is here has such a
//! voice, and whoever hears a connected node and is heard by it. So nobody alone keeps a node
//! alive that is gone, or makes one disappear that others hear; and each node speaks for itself only, by its key. Absence is told when it has lasted: when many connections end together, new ones stand by then.

use std::collections::{BTreeMap, BTreeSet};

use super::timers::Timer;
use super::{Output, Overlay};
use crate::id::{DeviceId, NodeId, UserId};
use crate::mutant::{Mutant, is_on};
use crate::record::{LinkPresence, MAX_LINKS, NodeLinks, NodePrefix, Verified};
use crate::time::{Hlc, Now, SECOND};
use crate::wire::{Frame, Relayed};

/// What changed is looked at, and told, after so long.
pub(super) const SETTLE: u64 = SECOND / 4;
/// Between two statements of ours at least.
const PAUSE: u64 = 2 * SECOND;
/// That connections ended which nobody needs is no news for others: it is said together, after so long. Less than it takes until
/// a node that vanished is missed.
const NO_NEWS: u64 = 15 * SECOND;
/// A node that hears more than so many has to be heard by two.
const FEW: usize = 3;
/// When somebody came, what others have said before counts again after so long: by then who came has told what is newer.
const HEARSAY: u64 = SECOND / 2;
/// Whoever is heard by too few for so long is gone.
const FADE: u64 = 4 * SECOND;
/// The end of a statement. Nobody looks at it: readers count from when it arrived.
const LIFE: u64 = crate::time::HOUR;

/// Who is here.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Nodes that others hear.
    heard: BTreeSet<NodeId>,
    /// Devices on nodes that are here but not connected.
    present: BTreeSet<DeviceId>,
    /// Those of them that are heard by too few, since when.
    fading: BTreeMap<DeviceId, u64>,
    /// Those that were shown as gone with their connection: others have to hear them until then. None: from the next look.
    doubted: BTreeMap<DeviceId, Option<u64>>,
    /// What we said last.
    own: Option<Verified<NodeLinks>>,
    /// When, monotonic milliseconds.
    said: u64,
    /// Nodes whose connection was not needed any more, and ended after that.
    parted: BTreeSet<NodePrefix>,
    /// When the first of them did.
    parted_at: u64,
}

/// Whom a node says it hears.
struct Word {
    prefix: NodePrefix,
    node: NodeId,
    /// Those of them who say something too, by the place of their words, in order.
    hears: Vec<usize>,
    /// How many it hears.
    count: usize,
    /// When it came here, monotonic milliseconds.
    since: u64,
}

/// What nodes say, in the order of their prefixes; of ours nothing.
fn words<'a>(
    said: impl Iterator<Item = (&'a NodeId, &'a Verified<NodeLinks>, u64)>,
    own: &NodePrefix,
) -> Vec<Word> {
    let said: BTreeMap<NodePrefix, _> =
        said.map(|(node, links, since)| (NodePrefix::of(node), (node, links, since))).collect();
    let said: Vec<_> = said.into_iter().filter(|(prefix, _)| prefix != own).collect();
    let hears = |links: &NodeLinks| {
        // Both are in order.
        let mut places = said.iter().enumerate().peekable();
        let mut hears = Vec::new();
        for other in &links.hears {
            while places.next_if(|(_, (prefix, _))| prefix < other).is_some() {}
            hears.extend(places.next_if(|(_, (prefix, _))| prefix == other).map(|(place, _)| place));
        }
        hears
    };
    let word = |(prefix, (node, links, since)): &(NodePrefix, (&NodeId, &Verified<NodeLinks>, u64))| Word {
        prefix: *prefix,
        node: **node,
        hears: hears(links),
        count: links.hears.len(),
        since: *since,
    };
    said.iter().map(word).collect()
}

fn place(words: &[Word], prefix: &NodePrefix) -> Option<usize> {
    words.binary_search_by_key(prefix, |word| word.prefix).ok()
}

impl Overlay {
    /// Whether others hear a node.
    pub(super) fn is_here(&self, node: &NodeId) -> bool {
        self.members.heard.contains(node)
    }

    /// Whether a device is on a node that is here and not connected.
    pub(super) fn is_present(&self, device: &DeviceId) -> bool {
        self.members.present.contains(device)
    }

    /// The devices of a user that are on nodes that are here and not connected, with these.
    pub(super) fn present_devices(&self, user: &UserId) -> Vec<(DeviceId, NodeId)> {
        let devices = self.users.record(user).into_iter().flat_map(|record| record.devices().keys());
        let present = devices.filter(|device| self.is_present(device));
        present.filter_map(|device| Some((*device, self.gossip.home(device)?.1))).collect()
    }

    /// Something changed about who hears whom.
    pub(super) fn survey_soon(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Survey, now.mono + SETTLE);
    }

    /// Finds out who is here, tells who came and went, and chooses whom to be connected with.
    pub(super) fn on_survey_timer(&mut self, now: Now) {
        self.members.heard = self.heard_nodes(now);
        self.end_lingering(now);
        self.doubt(now);
        let present = self.devices_present();
        let absent: Vec<DeviceId> = self.members.present.difference(&present).copied().collect();
        self.members.fading.retain(|device, _| absent.contains(device));
        absent.into_iter().for_each(|device| self.fade(device, now));
        let new: Vec<DeviceId> = present.difference(&self.members.present).copied().collect();
        for device in new {
            self.members.present.insert(device);
            self.newly_present(&device);
        }
        self.choose(now);
        self.say_links(now);
    }

    /// What contacts were shown came by the connection: it is taken back, also if others still hear the node.
    fn end_lingering(&mut self, now: Now) {
        for device in self.linger.over(now) {
            self.lingers_no_more(&device);
        }
        if let Some(next) = self.linger.next() {
            self.timers.set_earlier(Timer::Survey, next);
        }
    }

    fn lingers_no_more(&mut self, device: &DeviceId) {
        self.linger.end(device);
        if self.users.node_of(device).is_none() && self.presences.shows(device) {
            self.forget_presence(device);
            self.members.fading.remove(device);
            self.members.present.remove(device);
            self.members.doubted.insert(*device, None);
            self.no_longer_present(device);
        }
    }

    /// A device has said something by another way since its connection was lost: that is what it shows, and the end of what the
    /// connection told takes nothing of it back.
    pub(super) fn is_said_elsewhere(&mut self, device: &DeviceId, at: Hlc) {
        if self.linger.until(device).is_some() && self.presences.is_before(device, at) {
            self.lingers_no_more(device);
        }
    }

    /// Whoever was doubted for long enough is not any more.
    fn doubt(&mut self, now: Now) {
        let doubted = &mut self.members.doubted;
        doubted.retain(|_, until| until.is_none_or(|until| now.mono < until));
        doubted.values_mut().for_each(|until| *until = until.or(Some(now.mono + FADE)));
        if let Some(next) = doubted.values().flatten().min() {
            self.timers.set_earlier(Timer::Survey, *next);
        }
    }

    /// A device is heard of by too few: for long, or because it says itself that it has left?
    fn fade(&mut self, device: DeviceId, now: Now) {
        let since = *self.members.fading.entry(device).or_insert(now.mono);
        let until = self.linger.until(&device).unwrap_or(0).max(since + FADE);
        if (now.mono < until || is_on(Mutant::NoFade)) && self.gossip.home(&device).is_some() {
            return self.timers.set_earlier(Timer::Survey, until.max(now.mono + FADE));
        }
        self.members.fading.remove(&device);
        self.members.present.remove(&device);
        self.no_longer_present(&device);
    }

    /// The nodes that at least two, or the only ones they hear, say they hear. Only those that were discovered on this link
    /// too: a relay may be on two, and may make up any number of others who hear each other.
    fn heard_nodes(&mut self, now: Now) -> BTreeSet<NodeId> {
        // What a connected node said before it came back is about those whom it heard then.
        let is_news = |node: &NodeId, since| {
            is_on(Mutant::OldWord) || self.peers.connected.get(node).is_none_or(|peer| since >= peer.hello_at)
        };
        let news = self.gossip.links().filter(|(node, _, since)| is_news(node, *since));
        let words = words(news, &NodePrefix::of(&self.node));
        let hello_at = |node: &NodeId| self.peers.connected.get(node).map_or(0, |peer| peer.hello_at);
        let near = self.peers.near();
        let connected: BTreeMap<usize, u64> = near
            .iter()
            .filter_map(|node| Some((place(&words, &NodePrefix::of(node))?, hello_at(node))))
            .collect();
        let (mut heard, mut ears) = (BTreeSet::new(), vec![0; words.len()]);
        let mut voices: Vec<bool> = (0..words.len()).map(|word| connected.contains_key(&word)).collect();
        let mut next: Vec<(usize, u64)> = connected.iter().map(|(ear, came)| (*ear, *came)).collect();
        // Last in is first out: whoever has been connected for longest.
        next.sort_by_key(|(_, came)| std::cmp::Reverse(*came));
        let mut again = None;
        while let Some((ear, came)) = next.pop() {
            let mut counts = |word: &Word| {
                let counts = word.since >= came || now.mono >= came + HEARSAY || is_on(Mutant::OldWord);
                if !counts {
                    again = Some(again.unwrap_or(u64::MAX).min(came + HEARSAY));
                }
                counts
            };
            if !counts(&words[ear]) {
                continue;
            }
            for other in words[ear].hears.iter().copied() {
                let back = &words[other];
                if !counts(back) || back.hears.binary_search(&ear).is_err() {
                    continue;
                }
                ears[other] += 1;
                let enough = if back.count > FEW { 2 } else { 1 };
                if ears[other] == enough && self.peers.candidates.contains_key(&back.node) {
                    heard.insert(back.node);
                }
                if (ears[other] >= enough || connected.contains_key(&ear)) && !voices[other] {
                    voices[other] = true;
                    next.push((other, came));
                }
            }
        }
        if let Some(again) = again {
            self.timers.set_earlier(Timer::Survey, again);
        }
        heard
    }

    fn devices_present(&self) -> BTreeSet<DeviceId> {
        let homes = self.gossip.homes().filter(|(node, _)| self.is_here(node) && !self.peers.is_ready(node));
        let devices = homes.flat_map(|(_, devices)| devices.iter().copied());
        let is_there = |device: &DeviceId| {
            self.gossip.home(device).is_some() && !self.members.doubted.contains_key(device)
        };
        devices.filter(is_there).collect()
    }

    fn newly_present(&mut self, device: &DeviceId) {
        let Some((user, _)) = self.gossip.home(device) else { return };
        self.outputs.push_back(Output::Reachable { user });
        if let Some(shown) = self.gossip.shown(device).cloned() {
            self.on_neighbour(shown);
        }
    }

    /// A device is not to be believed any more.
    pub(super) fn end_membership(&mut self, device: &DeviceId) {
        self.members.fading.remove(device);
        if self.members.present.remove(device) {
            self.no_longer_present(device);
        }
    }

    fn no_longer_present(&mut self, device: &DeviceId) {
        self.linger.end(device);
        if self.users.node_of(device).is_some() {
            // Connected now.
            return;
        }
        self.forget_presence(device);
        self.forget_neighbour(device);
        if let Some(user) = self.users.by_device.get(device).copied() {
            self.outputs.push_back(Output::Unreachable { user, device: *device });
        }
    }

    /// A device is no longer reached by its node's connection. True if it is on the link all the same, as others hear
    /// that node, and nothing that was shown of it depends on the connection.
    pub(super) fn stays_present(&mut self, device: &DeviceId, node: &NodeId) -> bool {
        // One that ended a connection of its own will is not gone; if nobody hears it, it fades.
        let parted = self.peers.connected.get(node).is_some_and(|peer| peer.parting);
        let lingers = self.linger.until(device).is_some();
        let stays = (parted || lingers || self.is_here(node))
            && self.peers.candidates.contains_key(node)
            && self.gossip.home(device).is_some_and(|(_, home)| home == *node)
            && (lingers || !self.presences.shows(device));
        if stays {
            self.members.present.insert(*device);
        } else {
            self.linger.end(device);
            self.members.doubted.insert(*device, None);
        }
        self.timers.set_earlier(Timer::Survey, 0);
        stays
    }

    /// A device came onto a connected node.
    pub(super) fn is_connected_now(&mut self, device: &DeviceId) {
        self.members.doubted.remove(device);
        self.members.present.remove(device);
        self.linger.end(device);
    }

    /// Says whom we hear, if that has changed, to everybody connected.
    fn say_links(&mut self, now: Now) {
        let hears: BTreeSet<NodePrefix> = self.peers.near().iter().map(NodePrefix::of).collect();
        let hears: Vec<NodePrefix> = hears.into_iter().take(MAX_LINKS).collect();
        let known = self.members.own.as_ref().map(|own| &own.hears);
        if known == Some(&hears) || known.is_none() && hears.is_empty() {
            return;
        }
        let due = match known {
            Some(known) if self.is_only_parted(known, &hears) => self.members.parted_at + NO_NEWS,
            _ => self.members.said + PAUSE,
        };
        if known.is_some() && now.mono < due {
            return self.timers.set_earlier(Timer::Survey, due);
        }
        self.sign_links(hears, now);
        for node in self.peers.near() {
            self.push_links(node, now);
        }
    }

    /// Whether between these two nothing changed but that connections ended which nobody needs.
    fn is_only_parted(&self, known: &[NodePrefix], hears: &[NodePrefix]) -> bool {
        let gone = known.iter().all(|node| hears.contains(node) || self.members.parted.contains(node));
        gone && hears.iter().all(|node| known.contains(node))
    }

    /// A connection ends because it is not needed.
    pub(super) fn parted(&mut self, node: &NodeId, now: Now) {
        if self.members.parted.is_empty() {
            self.members.parted_at = now.mono;
        }
        if self.members.parted.len() < MAX_LINKS {
            self.members.parted.insert(NodePrefix::of(node));
        }
    }

    /// Says anew what we said, to everybody connected, so that it does not grow old.
    pub(super) fn renew_links(&mut self, now: Now) {
        self.members.own = None;
        self.members.said = 0;
        self.survey_soon(now);
    }

    fn sign_links(&mut self, hears: Vec<NodePrefix>, now: Now) {
        let (at, node) = (self.tick(now), self.node);
        let links = NodeLinks { node, at, expires: at.millis.saturating_add(LIFE), hears };
        self.members.own = Verified::sign(links, &self.node_key, None).ok();
        self.members.said = now.mono;
        self.members.parted.clear();
    }

    /// Tells a peer whom we hear.
    pub(super) fn push_links(&mut self, node: NodeId, now: Now) {
        if let Some(own) = &self.members.own {
            let links = vec![own.bytes().to_vec()];
            self.send_frame(node, &Frame::Relayed(Relayed { links, ..Relayed::default() }), false, now);
        }
    }

    /// Somebody relays what we said in a former life, or with a wrong clock: what we say now has to be later.
    pub(super) fn answer_own_links(&mut self, links: &NodeLinks, now: Now) {
        if self.members.own.as_ref().is_none_or(|own| own.at < links.at) && self.outruns(links.at, now) {
            self.renew_links(now);
        }
    }

    /// The same for what a user of ours shows.
    pub(super) fn answer_own_presence(&mut self, presence: &LinkPresence, now: Now) {
        let Some(local) = self.locals.get(&presence.user) else { return };
        let own = local.shown.link_presence.as_ref();
        if own.is_none_or(|own| own.at < presence.at) && self.outruns(presence.at, now) {
            self.show_on_link(&presence.user, now);
        }
    }

    fn outruns(&mut self, at: Hlc, now: Now) -> bool {
        self.hlc.observe(at, self.time(now)).is_ok()
    }
}

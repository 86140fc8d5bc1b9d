//! Many cores on one link: multicast introduces them, streams lose packets and send them again, cuts are silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::DeviceCert;
use crosstalk_overlay::time::{Now, SECOND};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::pump::{Account, START, link_status};

/// When a packet that was lost is sent again: the first time, and twice as long each further time.
const RETRANSMIT: u64 = 200;
/// When the first packet of a connection is sent, and sent again, milliseconds after the dial; with the last of these the
/// swarm gives up.
const SYN: [u64; 3] = [0, 1_000, 3_000];

pub(crate) struct Member {
    pub(crate) core: Overlay,
    pub(crate) account: Account,
    pub(crate) on: bool,
    /// Whom its people see nearby, by user.
    pub(crate) seen: BTreeSet<UserId>,
    pub(crate) events: Vec<Output>,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) datagrams: u64,
    /// When users were shown as gone.
    pub(crate) losses: Vec<u64>,
    dialling: BTreeSet<usize>,
    wake: Option<u64>,
}

enum Event {
    Wake(usize),
    Frame(usize, usize, u64, Vec<u8>),
    Datagram(usize, usize, Vec<u8>),
    Discovered(usize, usize),
    Syn(usize, usize, usize),
    Closed(usize, usize, u64),
}

struct Link {
    serial: u64,
    /// When the last frame arrives at either end.
    last: BTreeMap<usize, u64>,
    /// A cut fell on it while something was under way.
    dead: bool,
    /// One end has closed it; what it said before is still under way.
    closing: bool,
}

pub(crate) struct Crowd {
    pub(crate) members: Vec<Member>,
    pub(crate) mono: u64,
    /// Packets lost in each direction, per thousand.
    pub(crate) loss: u64,
    /// Members in different groups do not hear each other.
    pub(crate) group: Vec<u8>,
    links: BTreeMap<(usize, usize), Link>,
    queue: BTreeMap<(u64, u64), Event>,
    serial: u64,
    dice: ChaCha20Rng,
    by_id: BTreeMap<NodeId, usize>,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn seed(kind: u8, index: usize) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    seed
}

/// The account of a member.
pub(crate) fn account(index: usize) -> Account {
    let (user, device) = (UserKey::from_seed(seed(1, index)), DeviceKey::from_seed(seed(2, index)));
    let cert = DeviceCert::issue(&user, device.id(), START).unwrap().bytes().to_vec();
    let sealing = vec![SealingKey::from_seed(seed(3, index), START)];
    Account { user: user.id(), device, cert, sealing, name: None, epoch: 1 }
}

/// The most members of a crowd.
const MOST: usize = 256;

static NODES: LazyLock<Vec<(NodeKey, NodeId)>> = LazyLock::new(|| {
    let key = |index| NodeKey::from_seed(seed(4, index));
    (0..MOST).map(key).map(|key| (key.clone(), key.id())).collect()
});

/// The key of a member's node.
pub(crate) fn member_key(index: usize) -> &'static NodeKey {
    &NODES[index].0
}

/// The id of a member's node: anywhere.
pub(crate) fn member_id(index: usize) -> NodeId {
    NODES[index].1
}

impl Crowd {
    /// So many members, each with one user who shows itself on the link; nobody knows anybody.
    pub(crate) fn new(count: usize) -> Self {
        let mut crowd = Self {
            members: Vec::new(),
            mono: 1_000,
            loss: 0,
            group: vec![0; count],
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            serial: 0,
            dice: ChaCha20Rng::from_seed([7; 32]),
            by_id: (0..count).map(|index| (member_id(index), index)).collect(),
        };
        for index in 0..count {
            let setup = Setup {
                node: member_key(index).clone(),
                seed: seed(5, index),
                limits: Limits::default(),
                restored: Restored::default(),
                built: START - SECOND,
                publishes: false,
            };
            let account = account(index);
            let mut core = Overlay::new(setup, crowd.now());
            core.add_local(account.local(), crowd.now()).unwrap();
            core.set_link_presence(&account.user, Some(link_status(&format!("u{index}"))), crowd.now());
            crowd.members.push(Member {
                core,
                account,
                on: true,
                seen: BTreeSet::new(),
                events: Vec::new(),
                frames: 0,
                bytes: 0,
                datagrams: 0,
                losses: Vec::new(),
                dialling: BTreeSet::new(),
                wake: None,
            });
            crowd.drain(index);
            crowd.tell(index, PeerEvent::ProbePort(Some(14_775)));
        }
        crowd
    }

    /// Members who have met and come to rest.
    pub(crate) fn settled(count: usize) -> Self {
        let mut crowd = Self::new(count);
        crowd.introduce(SECOND);
        crowd.run(150 * SECOND);
        crowd
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.mono, wall: START + self.mono }
    }

    pub(crate) fn user(&self, index: usize) -> UserId {
        self.members[index].account.user
    }

    fn below(&mut self, below: u64) -> u64 {
        self.dice.next_u64() % below.max(1)
    }

    fn lost(&mut self) -> bool {
        self.below(1_000) < self.loss
    }

    fn push(&mut self, when: u64, event: Event) {
        self.serial += 1;
        self.queue.insert((when, self.serial), event);
    }

    /// Multicast tells each of all others within this time.
    pub(crate) fn introduce(&mut self, within: u64) {
        for a in 0..self.members.len() {
            for b in (0..self.members.len()).filter(|b| *b != a) {
                let when = self.mono + self.below(within);
                self.push(when, Event::Discovered(a, b));
            }
        }
    }

    fn hear_each_other(&self, a: usize, b: usize) -> bool {
        self.members[a].on && self.members[b].on && self.group[a] == self.group[b]
    }

    /// Vanishes without a word.
    pub(crate) fn vanish(&mut self, index: usize) {
        self.members[index].on = false;
    }

    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.mono + millis;
        while self.queue.first_key_value().is_some_and(|((when, _), _)| *when <= end) {
            let Some(((when, _), event)) = self.queue.pop_first() else { return };
            self.mono = self.mono.max(when);
            self.happen(event);
        }
        self.mono = end;
    }

    /// Runs until something is true; says after how long, within `most`.
    pub(crate) fn until(&mut self, most: u64, is_true: impl Fn(&Self) -> bool) -> Option<u64> {
        let start = self.mono;
        while !is_true(self) {
            if self.mono >= start + most {
                return None;
            }
            self.run(100);
        }
        Some(self.mono - start)
    }

    pub(crate) fn with(&mut self, index: usize, act: impl FnOnce(&mut Overlay, Now)) {
        let now = self.now();
        act(&mut self.members[index].core, now);
        self.drain(index);
    }

    pub(crate) fn tell(&mut self, index: usize, event: PeerEvent) {
        if self.members[index].on {
            self.with(index, |core, now| core.handle_peer(event, now));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(index) => {
                let due = self.members[index].wake.take_if(|when| *when <= self.mono).is_some();
                if due && self.members[index].on {
                    self.with(index, |core, now| core.handle_timeout(now));
                }
            }
            Event::Discovered(a, b) if self.hear_each_other(a, b) => {
                let addresses = vec![format!("/memory/{b}")];
                self.tell(a, PeerEvent::Discovered { node: member_id(b), addresses });
            }
            Event::Discovered(..) => {}
            Event::Frame(from, to, serial, frame) => self.arrive(from, to, serial, frame),
            Event::Datagram(from, to, bytes) if self.hear_each_other(from, to) => {
                self.tell(to, PeerEvent::Datagram(bytes));
            }
            Event::Datagram(..) => {}
            Event::Syn(a, b, attempt) => self.syn(a, b, attempt),
            Event::Closed(here, there, serial) => {
                let same = self.links.get(&pair(here, there)).is_none_or(|link| link.serial == serial);
                if same && self.hear_each_other(here, there) {
                    self.links.remove(&pair(here, there));
                    self.tell(here, PeerEvent::Disconnected { node: member_id(there) });
                }
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, serial: u64, frame: Vec<u8>) {
        let hear = self.hear_each_other(from, to);
        let Some(link) = self.links.get_mut(&pair(from, to)).filter(|link| link.serial == serial) else {
            return;
        };
        link.dead |= !hear;
        if !link.dead {
            self.tell(to, PeerEvent::Frame { node: member_id(from), frame });
        }
    }

    fn syn(&mut self, a: usize, b: usize, attempt: usize) {
        if !self.members[a].dialling.contains(&b) {
            return;
        }
        let linked = self.links.contains_key(&pair(a, b))
            && self.members[a].core.peers().iter().any(|p| p.node == member_id(b));
        let last = attempt + 1 == SYN.len();
        let answered = !last && self.hear_each_other(a, b) && !self.lost() && !self.lost();
        if linked {
            self.members[a].dialling.remove(&b);
        } else if answered {
            self.members[a].dialling.remove(&b);
            self.establish(a, b);
        } else if let Some(next) = SYN.get(attempt + 1) {
            self.push(self.mono + next - SYN[attempt], Event::Syn(a, b, attempt + 1));
        } else {
            self.members[a].dialling.remove(&b);
            self.tell(a, PeerEvent::Disconnected { node: member_id(b) });
        }
    }

    fn establish(&mut self, a: usize, b: usize) {
        // Whoever still holds an old connection learns that it is gone.
        for (here, there) in [(a, b), (b, a)] {
            self.tell(here, PeerEvent::Disconnected { node: member_id(there) });
        }
        self.serial += 1;
        let (serial, last) = (self.serial, BTreeMap::new());
        self.links.insert(pair(a, b), Link { serial, last, dead: false, closing: false });
        for (here, there, inbound) in [(a, b, false), (b, a, true)] {
            let address = format!("/memory/{there}");
            self.tell(here, PeerEvent::Connected { node: member_id(there), address, inbound, near: true });
        }
    }

    fn drain(&mut self, index: usize) {
        let mut outputs = Vec::new();
        while let Some(output) = self.members[index].core.poll_output() {
            if let Output::Deliver(delivery) = &output {
                let now = self.now();
                self.members[index].core.settle(delivery.ticket, Disposition::Held, now);
            }
            outputs.push(output);
        }
        let next = self.members[index].core.poll_timeout().map(|(when, _)| when.max(self.mono));
        if let Some(when) = next.filter(|when| self.members[index].wake.is_none_or(|set| *when < set)) {
            self.members[index].wake = Some(when);
            self.push(when, Event::Wake(index));
        } else if self.members[index].wake.is_none_or(|when| when <= self.mono) {
            let when = next.unwrap_or(u64::MAX);
            self.members[index].wake = Some(when);
            self.push(when, Event::Wake(index));
        }
        outputs.into_iter().for_each(|output| self.perform(index, output));
    }

    fn perform(&mut self, index: usize, output: Output) {
        match output {
            Output::Send { node, frame, .. } => self.fly(index, node, frame),
            Output::Dial { node, .. } => {
                if let Some(other) =
                    self.index(node).filter(|other| self.members[index].dialling.insert(*other))
                {
                    self.push(self.mono + 1, Event::Syn(index, other, 0));
                }
            }
            Output::Close { node, .. } => {
                let Some(other) = self.index(node) else { return };
                if let Some(link) = self.links.get_mut(&pair(index, other)) {
                    link.closing = true;
                    let when = link.last.get(&other).copied().unwrap_or_default().max(self.mono + 1);
                    let serial = link.serial;
                    self.push(when, Event::Closed(other, index, serial));
                }
            }
            Output::Datagram { address, bytes, .. } => {
                self.members[index].datagrams += 1;
                let to = (0..self.members.len()).find(|to| address == format!("/memory/{to}")).unwrap();
                if !self.lost() {
                    self.push(self.mono + 1, Event::Datagram(index, to, bytes));
                }
            }
            Output::Write(_) => {}
            Output::LinkPresence(presence) => drop(self.members[index].seen.insert(presence.user)),
            Output::LinkAbsence { user, .. } => {
                if self.members[index].seen.remove(&user) {
                    let now = self.mono;
                    self.members[index].losses.push(now);
                }
            }
            other => self.members[index].events.push(other),
        }
    }

    pub(crate) fn index(&self, node: NodeId) -> Option<usize> {
        self.by_id.get(&node).copied()
    }

    fn fly(&mut self, from: usize, node: NodeId, frame: Vec<u8>) {
        let Some(to) = self.index(node) else { return };
        let mut when = self.mono + 1;
        let mut again = RETRANSMIT;
        while self.lost() {
            when += again;
            again *= 2;
        }
        let Some(link) = self.links.get_mut(&pair(from, to)).filter(|link| !link.closing) else { return };
        let last = link.last.entry(to).or_default();
        when = when.max(*last);
        *last = when;
        let serial = link.serial;
        self.members[from].frames += 1;
        self.members[from].bytes += frame.len() as u64;
        self.push(when, Event::Frame(from, to, serial, frame));
    }

    // --- what is asked of it ---

    /// Whether each of these sees the users of all these.
    pub(crate) fn all_see(&self, viewers: &[usize], viewed: &[usize]) -> bool {
        viewers.iter().all(|viewer| {
            viewed
                .iter()
                .all(|other| other == viewer || self.members[*viewer].seen.contains(&self.user(*other)))
        })
    }

    /// Whether none of these sees the user of any of these.
    pub(crate) fn none_sees(&self, viewers: &[usize], viewed: &[usize]) -> bool {
        viewers
            .iter()
            .all(|viewer| viewed.iter().all(|other| !self.members[*viewer].seen.contains(&self.user(*other))))
    }

    pub(crate) fn connections(&self, index: usize) -> usize {
        self.members[index].core.peers().len()
    }

    pub(crate) fn dialled(&self, index: usize) -> usize {
        self.members[index].core.peers().iter().filter(|peer| !peer.inbound).count()
    }

    /// When somebody was shown as gone, by anybody.
    pub(crate) fn losses(&self) -> Vec<u64> {
        let mut losses: Vec<u64> = self.members.iter().flat_map(|member| member.losses.clone()).collect();
        losses.sort_unstable();
        losses
    }

    pub(crate) fn sent(&self) -> (u64, u64) {
        let members = self.members.iter();
        members.fold((0, 0), |(frames, bytes), member| (frames + member.frames, bytes + member.bytes))
    }

    /// A connected pair of members.
    pub(crate) fn are_connected(&self, a: usize, b: usize) -> bool {
        self.members[a].core.peers().iter().any(|peer| peer.node == member_id(b))
    }
}

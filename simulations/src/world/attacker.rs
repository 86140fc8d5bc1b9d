//! A peer that proved a node key of its own and means harm: garbage, replays, forgeries, floods, silence. *Pure.*

use crosstalk_overlay::core::{Live, PeerEvent};
use crosstalk_overlay::id::{DeviceId, NodeId};
use crosstalk_overlay::keys::{DeviceKey, SealingKey, UserKey};
use crosstalk_overlay::record::{
    DeviceCert, DeviceInfo, LinkPresence, LinkStatus, NodeBinding, SealingPublic, UserRecord, Verified,
};
use crosstalk_overlay::time::Hlc;
use crosstalk_overlay::wire::{self, Frame, Hello, Relayed, UserFrame};

use super::World;
use super::dice::Dice;
use super::events::{Event, HostId};
use super::network::Network;

/// Captured frames that it may choose from.
const TAPPED: usize = 256;
/// Kinds of frames that it sends.
const KINDS: u64 = 10;

/// What it has.
pub(crate) struct Attacker {
    device: DeviceKey,
    user: UserKey,
    /// The only thing it does; `None`: everything.
    habit: Option<u64>,
    /// It says nothing for now.
    silent: bool,
}

impl Attacker {
    /// An attacker with keys of its own.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut other = seed;
        other[0] ^= 1;
        let habit = Some(u64::from(seed[1]) % 16).filter(|habit| *habit < KINDS);
        Self { device: DeviceKey::from_seed(seed), user: UserKey::from_seed(other), habit, silent: false }
    }
}

impl Network {
    /// A frame that somebody sent some time ago.
    fn tapped(&self, index: u64) -> Option<&Vec<u8>> {
        let tapped = self.tapped.as_ref()?;
        tapped.get(usize::try_from(index).ok()? % tapped.len().max(1))
    }
}

impl World {
    /// An attacker, if there is one, hears a frame of others.
    pub(super) fn tap(&mut self, frame: &[u8]) {
        let Some(tapped) = &mut self.network.tapped else { return };
        if tapped.len() >= TAPPED {
            tapped.pop_front();
        }
        tapped.push_back(frame.to_vec());
    }

    /// It answers a connection as anybody would, and sometimes a frame with its echo.
    pub(crate) fn attacker_hears(&mut self, host: HostId, event: &PeerEvent) {
        match event {
            PeerEvent::Discovered { node, .. } => self.dial(host, *node),
            PeerEvent::Connected { node, .. } => {
                let hello = Hello {
                    version: 1,
                    min_version: 1,
                    agent: "stranger".to_owned(),
                    wall: self.now(host).wall,
                    unsure: false,
                    session: self.dice.below(u64::MAX),
                    probe: None,
                };
                self.send_frame(host, *node, wire::encode(&Frame::Hello(hello)));
            }
            PeerEvent::Frame { node, frame } if self.dice.chance(20) => {
                self.send_frame(host, *node, frame.clone());
            }
            PeerEvent::Frame { .. }
            | PeerEvent::News { .. }
            | PeerEvent::ProbePort(_)
            | PeerEvent::Datagram(_)
            | PeerEvent::Disconnected { .. }
            | PeerEvent::Expired { .. }
            | PeerEvent::Table { .. }
            | PeerEvent::Addresses(_)
            | PeerEvent::Answer { .. } => {}
        }
    }

    /// It acts against everybody it is linked with.
    pub(crate) fn attack(&mut self, host: HostId) {
        let pause = self.dice.between(20, 4_000);
        self.queue.push(self.time + pause, Event::Attack(self.life(host)));
        let nodes: Vec<NodeId> = self.hosts[host.0].links.keys().copied().collect();
        if self.dice.chance(2)
            && let Some(attacker) = &mut self.hosts[host.0].attacker
        {
            attacker.silent = !attacker.silent;
        }
        if self.hosts[host.0].attacker.as_ref().is_some_and(|attacker| attacker.silent) {
            return;
        }
        for node in nodes {
            for _ in 0..self.dice.between(1, 4) {
                if let Some(frame) = self.evil_frame(host) {
                    self.story.tell(self.time, || format!("the attacker sends {:?}", wire::decode(&frame)));
                    self.send_frame(host, node, frame);
                }
            }
        }
    }

    fn evil_frame(&mut self, host: HostId) -> Option<Vec<u8>> {
        let habit = self.hosts[host.0].attacker.as_ref()?.habit;
        match habit.unwrap_or(self.dice.below(KINDS)) {
            0 => {
                let count = usize::try_from(self.dice.below(2_000)).ok()?;
                Some(self.dice.bytes(count))
            }
            1..4 => self.captured(),
            4 => Some(damaged(self.captured()?, &mut self.dice)),
            5 => Some(vec![0x5a; wire::MAX_FRAME + 1]),
            6 => self.forged_user(host),
            7 => self.forged_link_presence(host),
            8 => self.forged_live(),
            _ => {
                let (user, device) = (self.victim(0)?.user, DeviceId::from_bytes(self.dice.seed()));
                Some(wire::encode(&Frame::LinkAbsence { user, device, gone: true }))
            }
        }
    }

    fn captured(&mut self) -> Option<Vec<u8>> {
        let index = self.dice.below(u64::MAX);
        self.network.tapped(index).cloned()
    }

    fn victim(&self, index: usize) -> Option<&super::people::Person> {
        self.people.get(index)
    }

    /// A device of the attacker's that claims to be a victim's: all that says so is signed by the attacker.
    fn forged_user(&mut self, host: HostId) -> Option<Vec<u8>> {
        let wall = self.now(host).wall;
        let (victim, node) = (self.victim(0)?.user, &self.hosts[host.0].node_key);
        let attacker = self.hosts[host.0].attacker.as_ref()?;
        let (user, device, expires) = (attacker.user.id(), attacker.device.id(), wall + 3_600_000);
        let cert = DeviceCert::issue(&attacker.user, device, wall).ok()?;
        let sealing = SealingKey::from_seed(*attacker.device.seed(), wall);
        let info = DeviceInfo {
            user,
            device,
            sealing: vec![SealingPublic { public: sealing.public(), created: wall }],
            epoch: 1,
            at: Hlc { millis: wall, counter: 0 },
            expires,
            mailboxes: Vec::new(),
        };
        let info = Verified::sign(info, &attacker.device, None).ok()?;
        let record = UserRecord::new(cert, info, None)?.encode();
        let binding = NodeBinding::agreed(user, device, node, wall, expires);
        let binding = Verified::sign(binding, &attacker.device, None).ok()?;
        let as_victim = |bytes: &[u8]| replace(bytes, user.as_bytes(), victim.as_bytes());
        let forged = UserFrame { record: as_victim(&record), binding: as_victim(binding.bytes()) };
        Some(wire::encode(&Frame::Records(vec![forged])))
    }

    /// Link presence of a victim, signed by the attacker: as what it is, or as if the victim's device had signed it.
    fn forged_link_presence(&mut self, host: HostId) -> Option<Vec<u8>> {
        let wall = self.now(host).wall;
        let which = usize::from(self.dice.chance(50));
        let victim = self.victim(which)?.user;
        let attacker = self.hosts[host.0].attacker.as_ref()?;
        let status = LinkStatus {
            instance: "forged".to_owned(),
            nickname: "forged".to_owned(),
            show: String::new(),
            status: "forged".to_owned(),
        };
        let at = Hlc { millis: wall, counter: 0 };
        let presence =
            LinkPresence { user: victim, device: attacker.device.id(), status, at, expires: wall + 100_000 };
        let own = attacker.device.id();
        let forged = Verified::sign(presence, &attacker.device, None).ok()?.bytes().to_vec();
        let theirs = self.hosts.iter().find_map(|host| host.keys.get(&victim)).map(|keys| keys.device.id());
        let Some(theirs) = theirs.filter(|_| self.dice.chance(50)) else {
            return Some(wire::encode(&Frame::LinkPresences(vec![forged])));
        };
        let forged = replace(&forged, own.as_bytes(), theirs.as_bytes());
        Some(wire::encode(&Frame::Relayed(Relayed { presences: vec![forged], ..Relayed::default() })))
    }

    /// A message and a presence in the name of one victim to another.
    fn forged_live(&mut self) -> Option<Vec<u8>> {
        let (from, to) = (self.victim(0)?.user, self.victim(1)?.user);
        let (from, to) = if self.dice.chance(50) { (from, to) } else { (to, from) };
        let xml: &[u8] = match self.dice.below(3) {
            0 => b"<message type='headline'><body>forged</body></message>",
            1 => b"<presence><status>forged</status></presence>",
            _ => b"<iq type='get' id='forged'><ping xmlns='urn:xmpp:ping'/></iq>",
        };
        let live = Live {
            from,
            from_resource: "forged".to_owned(),
            to,
            to_resource: String::new(),
            xml: xml.to_vec(),
        };
        Some(wire::encode(&Frame::Live(live)))
    }
}

/// Bytes with one part put in place of another of the same length.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let starts: Vec<usize> = (0..bytes.len().saturating_sub(from.len() - 1)).collect();
    for start in starts {
        if bytes[start..].starts_with(from) {
            bytes[start..start + from.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// A frame with a bit flipped, cut short, or doubled.
fn damaged(mut frame: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let at = usize::try_from(dice.below(frame.len() as u64)).unwrap_or_default();
    match dice.below(3) {
        0 => frame.truncate(at),
        1 => frame.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
        _ => frame.extend(frame.clone()),
    }
    frame
}

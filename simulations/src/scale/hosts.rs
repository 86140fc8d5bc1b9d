//! The modelled nodes: who is here, whom each knows, and what it had to do. *Pure.*

use crosstalk_overlay::dht::BUCKET;
use rand_distr::{Distribution, StandardNormal};

use super::routing::{Peer, Routing};
use super::{MINUTE, Setting};
use crate::world::dice::Dice;

/// The spread of the logarithm of round trips. Between homes on different continents and in one city alike, as in published
/// latency matrices of the Internet.
const SPREAD: f64 = 0.6;
/// Nodes that are remembered while away (`node`: the tree of peers).
const REMEMBERED: usize = 8;

#[derive(Default)]
struct Host {
    position: u64,
    here: bool,
    /// When it came, if it is here.
    since: u64,
    routing: Routing,
    /// Whom it will ask first when it is back.
    remembered: Vec<Peer>,
    /// Questions that it answered since the counters began, and milliseconds it was here meanwhile.
    answered: u32,
    present: u64,
    /// The minute it answered last in, how many questions in that, and the most in any.
    minute: u32,
    in_minute: u32,
    peak: u32,
}

impl Host {
    fn note_question(&mut self, now: u64) {
        let minute = u32::try_from(now / MINUTE).unwrap_or(u32::MAX);
        if self.minute != minute {
            (self.minute, self.in_minute) = (minute, 0);
        }
        self.answered += 1;
        self.in_minute += 1;
        self.peak = self.peak.max(self.in_minute);
    }
}

/// See the file's head.
pub(super) struct Hosts {
    /// By which rules they look up.
    pub(super) setting: Setting,
    hosts: Vec<Host>,
    here: u32,
    counted_since: u64,
}

impl Hosts {
    /// So many, of whom each is here with the probability of the setting; those who are know each other as in a network that has been
    /// there for long: each bucket has random nodes of those that belong into it.
    pub(super) fn new(setting: Setting, count: u32, dice: &mut Dice) -> Self {
        let availability = setting.sessions.availability;
        let host = |dice: &mut Dice| {
            let position = dice.number();
            Host {
                position,
                here: dice.share() < availability,
                routing: Routing::new(position),
                ..Host::default()
            }
        };
        let hosts: Vec<Host> = (0..count).map(|_| host(dice)).collect();
        let here = hosts.iter().filter(|host| host.here).count();
        let mut all =
            Self { setting, hosts, here: u32::try_from(here).unwrap_or(u32::MAX), counted_since: 0 };
        all.acquaint(dice);
        all
    }

    fn acquaint(&mut self, dice: &mut Dice) {
        let peers = (0..).zip(&self.hosts).filter(|(_, host)| host.here);
        let mut sorted: Vec<Peer> = peers.map(|(host, it)| Peer { position: it.position, host }).collect();
        sorted.sort_unstable_by_key(|peer| peer.position);
        for host in self.hosts.iter_mut().filter(|host| host.here) {
            // Those that share the first bits with us, of whom each bucket takes the half that is not ours.
            let mut range = &sorted[..];
            for bit in (0..64).rev() {
                let (low, high) = range.split_at(range.partition_point(|peer| peer.position >> bit & 1 == 0));
                let (ours, other) = if host.position >> bit & 1 == 0 { (low, high) } else { (high, low) };
                let few = other.len() <= BUCKET;
                for index in 0..other.len().min(BUCKET) {
                    let random = usize::try_from(dice.below(other.len() as u64)).unwrap_or(0);
                    host.routing.heard(other[if few { index } else { random }], 0);
                }
                range = ours;
                if range.len() <= 1 {
                    break;
                }
            }
        }
    }

    pub(super) fn is_here(&self, host: u32) -> bool {
        self.host(host).here
    }

    /// How many are here.
    pub(super) fn here(&self) -> u32 {
        self.here
    }

    pub(super) fn position(&self, host: u32) -> u64 {
        self.host(host).position
    }

    /// Anybody who is here; nobody if that is nobody.
    pub(super) fn anybody(&self, dice: &mut Dice) -> Option<u32> {
        if self.here == 0 {
            return None;
        }
        let count = self.hosts.len() as u64;
        std::iter::repeat_with(|| u32::try_from(dice.below(count)).unwrap_or(0))
            .find(|host| self.is_here(*host))
    }

    /// It comes: it knows some of those whom it knew, and if none of them is here, somebody whose address its owner wrote down.
    pub(super) fn come(&mut self, index: u32, now: u64, dice: &mut Dice) {
        let sponsor = self.anybody(dice).map(|host| Peer { position: self.position(host), host });
        let remembered = std::mem::take(&mut self.host_mut(index).remembered);
        let anybody_left = remembered.iter().any(|peer| self.is_here(peer.host));
        let host = self.host_mut(index);
        host.routing = Routing::new(host.position);
        (host.here, host.since) = (true, now);
        for peer in remembered.into_iter().chain(sponsor.filter(|_| !anybody_left)) {
            host.routing.heard(peer, now);
        }
        self.here += 1;
    }

    /// It goes, without a word.
    pub(super) fn go(&mut self, index: u32, now: u64) {
        let counted_since = self.counted_since;
        let host = self.host_mut(index);
        host.present += now.saturating_sub(host.since.max(counted_since));
        host.remembered = host.routing.peers().take(REMEMBERED).collect();
        (host.here, host.routing) = (false, Routing::new(host.position));
        self.here -= 1;
    }

    /// Whom `host` would ask for `target`.
    pub(super) fn closest(&self, host: u32, target: u64, wanted: usize, found: &mut Vec<Peer>) {
        self.host(host).routing.closest(target, wanted, found);
    }

    /// `host` is asked by `from`, and answers with those it knows; both know each other from now on.
    pub(super) fn answer(
        &mut self,
        host: u32,
        from: u32,
        target: u64,
        wanted: usize,
        now: u64,
        named: &mut Vec<Peer>,
    ) {
        let (asker, asked) = (self.position(from), self.position(host));
        let it = self.host_mut(host);
        it.note_question(now);
        it.routing.closest(target, wanted, named);
        it.routing.heard(Peer { position: asker, host: from }, now);
        self.host_mut(from).routing.heard(Peer { position: asked, host }, now);
    }

    pub(super) fn failed(&mut self, host: u32, peer: Peer) {
        self.host_mut(host).routing.failed(peer);
    }

    pub(super) fn depth(&self, host: u32) -> u32 {
        self.host(host).routing.depth()
    }

    /// The share of entries in the tables of those who are here that name somebody who is not.
    pub(super) fn stale(&self) -> f64 {
        let (mut stale, mut all) = (0_u64, 0_u64);
        for host in self.hosts.iter().filter(|host| host.here).take(2_000) {
            for peer in host.routing.peers() {
                all += 1;
                stale += u64::from(!self.is_here(peer.host));
            }
        }
        stale as f64 / all.max(1) as f64
    }

    /// A round trip between two hosts, if half of all take `median`; milliseconds.
    pub(super) fn round_trip(median: f64, dice: &mut Dice) -> f64 {
        let normal: f64 = StandardNormal.sample(dice.rng());
        median * (SPREAD * normal).exp()
    }

    /// From now on is counted who answers how much.
    pub(super) fn count(&mut self, now: u64) {
        self.counted_since = now;
        for host in &mut self.hosts {
            (host.answered, host.present, host.peak) = (0, 0, 0);
        }
    }

    /// Questions answered a minute, of each node that was here for a tenth of the counted time.
    pub(super) fn load(&self, now: u64) -> Vec<f64> {
        let counted = now - self.counted_since;
        let load = |host: &Host| {
            let rest = if host.here { now - host.since.max(self.counted_since) } else { 0 };
            let present = host.present + rest;
            (present * 10 >= counted && present > 0)
                .then(|| f64::from(host.answered) * 60_000.0 / present as f64)
        };
        self.hosts.iter().filter_map(load).collect()
    }

    /// Questions answered in the busiest minute, of each node that is here.
    pub(super) fn peaks(&self) -> Vec<f64> {
        self.hosts.iter().filter(|host| host.here).map(|host| f64::from(host.peak)).collect()
    }

    /// Entries in the tables of those who are here.
    pub(super) fn entries(&self) -> Vec<f64> {
        self.hosts.iter().filter(|host| host.here).map(|host| host.routing.len() as f64).collect()
    }

    /// The positions of those who are here, sorted.
    pub(super) fn positions(&self) -> Vec<u64> {
        let here = self.hosts.iter().filter(|host| host.here);
        let mut positions: Vec<u64> = here.map(|host| host.position).collect();
        positions.sort_unstable();
        positions
    }

    fn host(&self, index: u32) -> &Host {
        &self.hosts[index as usize]
    }

    fn host_mut(&mut self, index: u32) -> &mut Host {
        &mut self.hosts[index as usize]
    }
}

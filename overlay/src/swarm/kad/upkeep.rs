//! What a node does for the tables unasked: spreads what it holds, looks around, finds its way back in.
//!
//! It looks around as soon as it knows anybody, so that those who are close to it know it, and then after pauses that grow up
//! to the setting; among few nodes also some time after others have come, as two groups may have met by them.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::super::address;
use super::query::{Origin, Queries, Tables};
use super::shape::COPIES;
use crate::dht::{self, Key, Query};

/// Between two values that are spread: the air is shared.
const PACE: Duration = Duration::from_millis(250);
/// After something new to spread to, or to spread.
const SOON: Duration = Duration::from_secs(1);
/// Ended values are looked for at least as often.
const SWEEP: Duration = Duration::from_secs(10 * 60);
/// With fewer nodes than this in both tables the known addresses are tried again.
const FEW: usize = 3;
/// The first pause between such tries; each next one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// So long after nodes have entered the program hears of it, to come back by them.
const MEMORY: Duration = Duration::from_secs(2);
/// The first pause between two looks around as a part of the setting (10 s); each next one is four times as long, up to it.
const FIRST_LOOK: u32 = 90;
/// In tables of fewer nodes than this, whoever comes may know others …
const SMALL: usize = 20;
/// … who are looked for no sooner after the last look than after this part of it (30 s).
const MEETING: u32 = 30;
/// Addresses that are tried at once, in turn, and those that are remembered.
const AT_ONCE: usize = 8;
pub(super) const MAX_BOOTSTRAP: usize = 64;

const BOTH: [dht::Table; 2] = [dht::Table::Lan, dht::Table::Wan];

/// See the file's head.
pub(super) struct Upkeep {
    local: PeerId,
    replicate: Duration,
    refresh: Duration,
    next_spread: Instant,
    /// Around 1: not all at the same time after a power cut.
    stagger: f64,
    next_look: Instant,
    last_look: Option<Instant>,
    look_pause: Duration,
    next_try: Instant,
    pause: Duration,
    /// When the program is told who is in the tables, to come back by; None: nobody has entered since.
    next_memory: Option<Instant>,
    known: Vec<Known>,
    turn: usize,
    looks: usize,
}

/// Where a node of the table may be.
struct Known {
    address: Multiaddr,
    /// Who has to be there, if that was said, else who was there last.
    peer: Option<PeerId>,
    said: bool,
}

impl Upkeep {
    pub(super) fn new(local: PeerId, replicate: Duration, refresh: Duration) -> Self {
        let now = Instant::now();
        let place = local.to_bytes().last().map_or(0.0, |byte| f64::from(*byte));
        let stagger = 0.75 + place / 512.0;
        Self {
            local,
            replicate,
            refresh,
            next_spread: now + SOON,
            stagger,
            next_look: now + refresh.mul_f64(stagger),
            last_look: None,
            look_pause: refresh,
            next_try: now,
            pause: FIRST_PAUSE,
            next_memory: None,
            known: Vec::new(),
            turn: 0,
            looks: 0,
        }
    }

    /// There is somebody new to spread to, or something.
    pub(super) fn nudge(&mut self) {
        self.next_spread = self.next_spread.min(Instant::now() + SOON);
    }

    /// More nodes are in the tables.
    pub(super) fn grew(&mut self, now: Instant, before: usize, members: usize) {
        self.nudge();
        let due = now + MEMORY;
        self.next_memory = Some(self.next_memory.map_or(due, |next| next.min(due)));
        if before == 0 {
            self.look_pause = self.refresh / FIRST_LOOK;
            self.next_look = self.next_look.min(now + SOON);
            // Ourselves first: nobody else tells others of us.
            self.looks = 0;
        } else if members < SMALL {
            let at = self.last_look.map_or(now, |last| last + self.refresh / MEETING).max(now + SOON);
            self.next_look = self.next_look.min(at);
        }
    }

    /// Addresses where other nodes may be.
    pub(super) fn learn(&mut self, addresses: &[String]) {
        for text in addresses {
            let Some(known) = self.read(text) else { continue };
            if !self.known.iter().any(|old| (&old.address, old.said) == (&known.address, known.said)) {
                self.known.push(known);
            }
        }
        // Those of the settings came first.
        self.known.truncate(MAX_BOOTSTRAP);
        (self.next_try, self.pause) = (Instant::now(), FIRST_PAUSE);
    }

    /// Reads an address with or without a peer id behind it; none of our own.
    fn read(&self, text: &str) -> Option<Known> {
        let address: Multiaddr = text.parse().ok()?;
        let peer = match address.iter().last()? {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        };
        let (_, plain) = address::dialable(&address, &peer.unwrap_or(self.local))?;
        (peer != Some(self.local)).then_some(Known { address: plain, peer, said: peer.is_some() })
    }

    /// We have dialled this address, and this peer is there.
    pub(super) fn met(&mut self, peer: PeerId, address: &Multiaddr) {
        let address = address::without_id(address);
        for known in self.known.iter_mut().filter(|known| !known.said && known.address == address) {
            known.peer = Some(peer);
        }
    }

    /// When [`Upkeep::tick`] has something to do.
    pub(super) fn next(&self, tables: &mut impl Tables) -> Instant {
        let next = self.next_spread.min(self.next_look);
        let next = self.next_memory.map_or(next, |memory| next.min(memory));
        if self.is_lonely(tables) { next.min(self.next_try) } else { next }
    }

    /// Does what is due; the dials are for the swarm. True: who is in the tables is to be remembered. Who is connected is not
    /// dialled again: a new connection would replace the link.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        tables: &mut impl Tables,
        queries: &mut Queries,
        connected: impl Fn(&PeerId) -> bool,
    ) -> (Vec<DialOpts>, bool) {
        if self.next_spread <= now {
            self.next_spread = now + self.spread(tables, queries);
        }
        let looks = self.next_look <= now;
        if looks {
            (self.last_look, self.next_look) = (Some(now), now + self.look_pause.mul_f64(self.stagger));
            self.look_pause = (4 * self.look_pause).min(self.refresh);
            self.look_around(tables, queries);
        }
        let grew = self.next_memory.take_if(|next| *next <= now).is_some();
        let mut dials = Vec::new();
        if self.is_lonely(tables) && self.next_try <= now {
            self.next_try = now + self.pause;
            self.pause = (self.pause * 2).min(LAST_PAUSE);
            // Who was the first to come knew nobody yet when it was asked.
            self.look_around(tables, queries);
            let absent = |known: &&Known| known.peer.is_none_or(|peer| !connected(&peer));
            dials = self.known.iter().take(AT_ONCE).filter(absent).map(Known::dial).collect();
            let tried = AT_ONCE.min(self.known.len());
            self.known.rotate_left(tried);
        }
        (dials, looks || grew)
    }

    fn is_lonely(&self, tables: &mut impl Tables) -> bool {
        !self.known.is_empty() && BOTH.iter().map(|kind| tables.table(*kind).len()).sum::<usize>() < FEW
    }

    /// Puts one value to the nodes that are now closest to it, if nobody did for long. The pause until the next look.
    fn spread(&mut self, tables: &mut impl Tables, queries: &mut Queries) -> Duration {
        if !queries.is_idle() {
            return PACE;
        }
        let age = u64::try_from(self.replicate.as_millis()).unwrap_or(u64::MAX);
        let mut pause = SWEEP;
        self.turn += 1;
        for offset in 0..BOTH.len() {
            let kind = BOTH[(self.turn + offset) % BOTH.len()];
            let table = tables.table(kind);
            let (alone, serves) = (table.len() == 0, table.is_server());
            let records = table.records();
            let time = records.judge.time();
            records.store.expire(time);
            if alone || !serves {
                continue;
            }
            if let Some((key, value)) = records.store.take_stale(age, time.millis) {
                queries.ask(Origin::Upkeep(kind), Query::Put { key, value, expires_wall: u64::MAX });
                return PACE;
            }
            let stale = records.store.next_stale(age).unwrap_or(u64::MAX).saturating_sub(time.millis);
            pause = pause.min(Duration::from_millis(stale).max(PACE));
        }
        pause
    }

    /// Asks by turns for the nodes near to us and near to anywhere: who is gone leaves the table, who is new enters it.
    fn look_around(&mut self, tables: &mut impl Tables, queries: &mut Queries) {
        self.looks += 1;
        for kind in BOTH {
            let table = tables.table(kind);
            if table.len() == 0 {
                continue;
            }
            if self.looks % 2 == 1 {
                table.kad().get_n_closest_peers(self.local, COPIES);
                continue;
            }
            let mut anywhere = [0; 32];
            let random = PeerId::random().to_bytes();
            anywhere.copy_from_slice(random.get(2..34).unwrap_or(&[0; 32]));
            queries.ask(Origin::Upkeep(kind), Query::Closest(Key::from_bytes(anywhere)));
        }
    }
}

impl Known {
    fn dial(&self) -> DialOpts {
        let address = self.address.clone();
        match self.peer.filter(|_| self.said) {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address])
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
        }
    }
}

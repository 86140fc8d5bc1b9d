//! A radio channel: bursts of loss, which a stream turns into delay and a datagram does not survive; a rate that all share;
//! what went over it. *Pure.*

use std::collections::BTreeMap;

use super::World;
use super::events::{HostId, Parcel, PipeId};
use super::meter::kind_of;

/// Bytes of a segment.
const SEGMENT: usize = 1_400;
/// The first pause before TCP sends a lost segment again, milliseconds; each next one is twice as long (RFC 6298 §5, Linux).
const FIRST_PAUSE: u64 = 200;
/// So many times, which is well over a minute: what is worse ends the connection anyway.
const TRIES: u32 = 8;
/// How long the air between two hosts is good, and bad, on average, where loss comes in bursts, milliseconds.
const GOOD: u64 = 4_000;
const BAD: u64 = 1_000;
/// Bytes of what goes with each segment: Ethernet, IPv4 and TCP headers and the acknowledgement.
pub(super) const OVERHEAD: usize = 14 + 20 + 32 + 66;

/// A channel that a link's hosts share.
#[derive(Clone, Debug)]
pub(crate) struct Radio {
    /// Segments in a hundred that are lost, on average.
    pub(crate) loss: u64,
    /// Loss comes in bursts (the model of Gilbert and Elliott), not evenly.
    pub(crate) bursts: bool,
    /// Bytes a second, of everybody together.
    pub(crate) rate: u64,
    /// Until when the air is taken, virtual milliseconds.
    taken: u64,
    /// For bursts, between two hosts: whether the air is bad, and until when.
    air: BTreeMap<(HostId, HostId), (bool, u64)>,
}

impl Radio {
    /// A channel.
    pub(crate) fn new(loss: u64, bursts: bool, rate: u64) -> Self {
        Self { loss, bursts, rate, taken: 0, air: BTreeMap::new() }
    }
}

/// What went between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Segments and datagrams, those sent again too.
    pub packets: u64,
    /// Their bytes with all headers.
    pub bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl World {
    /// How much longer a parcel needs on the air than on a cable, milliseconds; and counts it.
    pub(super) fn on_the_air(&mut self, pipe: PipeId, end: usize, parcel: &Parcel) -> u64 {
        let size = match parcel {
            Parcel::Frame(bytes) | Parcel::News(bytes) => bytes.len(),
            Parcel::Opened | Parcel::Closed => 0,
        };
        let segments = size.div_ceil(SEGMENT).max(1);
        self.count(segments, size, || Some(kind_of(parcel)));
        if self.network.radio.is_none() {
            return 0;
        }
        let (Some((to, _)), Some((from, _))) = (self.node_at(pipe, end), self.node_at(pipe, 1 - end)) else {
            return 0;
        };
        let mut wait = self.take_the_air(segments * OVERHEAD + size);
        for _ in 0..segments {
            let mut pause = FIRST_PAUSE;
            for _ in 0..TRIES {
                if !self.is_bad(from, to) {
                    break;
                }
                self.count(1, size.min(SEGMENT), || Some("sent again"));
                wait += pause + self.take_the_air(OVERHEAD + size.min(SEGMENT));
                pause *= 2;
            }
        }
        wait
    }

    /// Whether a packet that nobody repeats gets lost; and counts it, for the meter as what it is said to be.
    pub(super) fn is_lost_in_the_air(
        &mut self,
        from: HostId,
        to: HostId,
        size: usize,
        kind: Option<&'static str>,
    ) -> bool {
        self.count(1, size, || kind);
        self.take_the_air(OVERHEAD + size);
        self.is_bad(from, to)
    }

    fn count(&mut self, segments: usize, size: usize, kind: impl FnOnce() -> Option<&'static str>) {
        let sent = Traffic { packets: segments as u64, bytes: (segments * OVERHEAD + size) as u64 };
        self.network.traffic += sent;
        if let Some((meter, kind)) = self.meter.as_mut().and_then(|meter| Some((meter, kind()?))) {
            meter.count(kind, sent);
        }
    }

    /// Takes the air for some bytes as soon as it is free. Returns how long that is from now, milliseconds.
    fn take_the_air(&mut self, bytes: usize) -> u64 {
        let Some(radio) = &mut self.network.radio else { return 0 };
        radio.taken = radio.taken.max(self.time) + (bytes as u64 * 1_000).div_ceil(radio.rate.max(1));
        radio.taken - self.time
    }

    fn is_bad(&mut self, from: HostId, to: HostId) -> bool {
        let (time, dice) = (self.time, &mut self.dice);
        let Some(radio) = &mut self.network.radio else { return false };
        if !radio.bursts {
            return dice.chance(radio.loss);
        }
        // In bad air so much is lost that it is the wanted share on average, and little in good air.
        let (bad, until) = radio.air.entry((from, to)).or_insert((false, 0));
        while *until <= time {
            *bad = !*bad && *until > 0;
            let mean = if *bad { BAD } else { GOOD };
            *until = (*until).max(time.saturating_sub(mean)) + dice.between(mean / 2, mean * 3 / 2);
        }
        let share = if *bad { (radio.loss * (GOOD + BAD) / BAD).min(98) } else { 1 };
        dice.chance(share)
    }
}

//! Streams whose other end may have gone: the address is no longer announced, or nothing is acknowledged. *Pure.*

use std::net::SocketAddr;

use crosstalk_link_local::instance::Instance;

use super::{Line, Open, Pair, Phase, Streams};
use crate::core::link::addresses;

/// How long the other host may acknowledge nothing of what was written before another stream is tried, milliseconds. On a
/// bad link the pauses of TCP have then grown longer than a new connection takes: where half of the frames were lost each way, of
/// ten messages that were not acknowledged after 6 s nine were not after 12 s either, and seven not after 30 s.
pub(super) const STALLED: u64 = 7_000;
/// How long it may do so before nothing more is written, milliseconds: what has not been written can take another stream.
pub(super) const HESITATION: u64 = 1_000;
/// The same when the other host no longer has the address, milliseconds.
pub(super) const MOVED: u64 = 2_000;

impl Open {
    /// How long it may be silent from now on.
    pub(super) fn patience(&self) -> u64 {
        if self.moved { MOVED } else { STALLED }
    }

    /// Whether nothing that was written to it was acknowledged yet: if it ends so, one message is uncertain, and not all that
    /// had waited for it.
    pub(super) fn is_new(&self) -> bool {
        self.taken == 0
    }

    /// Whether nothing more is given to it for the time being.
    pub(super) fn is_held(&self, now: u64) -> bool {
        self.silent.is_some_and(|since| since + HESITATION <= now)
    }
}

impl Streams {
    /// Somebody is at these addresses now. Streams to another one, as on a link that is gone, are given up: at once when
    /// nothing is on its way, else when that is not acknowledged soon.
    pub(in crate::core::link) fn moved(&mut self, peer: &Instance, all: &[SocketAddr], now: u64) {
        let pairs = self.lines.keys().filter(|pair| pair.peer == *peer).cloned();
        for pair in pairs.collect::<Vec<_>>() {
            let Some(Line { phase: Phase::Open(open), .. }) = self.lines.get_mut(&pair) else { continue };
            let was =
                std::mem::replace(&mut open.moved, !all.is_empty() && !addresses::contain(all, &open.at));
            if !open.moved || was {
                continue;
            }
            if open.taken < open.given {
                open.stalled = open.stalled.map(|when| when.min(now + MOVED));
            } else {
                self.change_address(&pair, now);
            }
        }
    }

    /// Gives up the stream of a pair; what was not written goes to another one.
    pub(super) fn change_address(&mut self, pair: &Pair, now: u64) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        if let Phase::Open(open) = line.phase {
            line.avoid = Some(open.at);
        }
        line.turn += 1;
        self.retire(pair);
        let Some(line) = self.lines.get_mut(pair) else { return };
        if line.queue.is_empty() {
            self.lines.remove(pair);
        } else {
            line.phase = Phase::Waiting(now);
        }
    }

    /// Whether the other host has been silent for too long, and there is a way to it.
    pub(super) fn is_stalled(
        &mut self,
        pair: &Pair,
        now: u64,
        addresses: &impl Fn(&Instance) -> Vec<SocketAddr>,
    ) -> bool {
        let Some(Line { phase: Phase::Open(open), leaving, .. }) = self.lines.get_mut(pair) else {
            return false;
        };
        if open.stalled.is_none_or(|when| when > now) {
            return false;
        }
        open.stalled = Some(now + open.patience());
        !*leaving && (open.moved || !addresses(&pair.peer).is_empty())
    }
}

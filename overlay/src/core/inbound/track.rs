//! The order from one device to another: what was taken, what is missing, what came too early. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use super::Via;
use crate::core::Ticket;
use crate::core::state::{InboundSequence, RefusedPlace, STATE_VERSION};
use crate::core::timers::Pair;
use crate::envelope::Inner;
use crate::id::MessageId;
use crate::mutant::{Mutant, is_on};
use crate::record::{RefusalCode, Verified};

/// Envelopes that came so much too early are held back; later ones are dropped.
const WINDOW: u64 = 1_024;
/// Message ids that are remembered for a pair of devices: they matter only when the sender's store was restored.
pub(super) const RING: u32 = 128;
/// Holes, and refused places, that are remembered for a pair; the lowest go.
const MAX_MARKS: usize = 1_024;

/// What came too early.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) inner: Verified<Inner>,
    pub(super) envelope: MessageId,
    pub(super) via: Via,
    pub(super) since: u64,
}

/// The order from another device to one of ours.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) epoch: u64,
    pub(super) cumulative: u64,
    pub(super) holes: BTreeSet<u64>,
    pub(super) refused: BTreeMap<u64, RefusalCode>,
    pub(super) ring: Vec<MessageId>,
    pub(super) next_slot: u32,
    pub(super) early: BTreeMap<u64, Early>,
    /// The delivery that is not settled yet.
    pub(super) pending: Option<Ticket>,
    /// Monotonic milliseconds of the last envelope; 0 since the start.
    pub(super) used: u64,
}

/// What to do with a place in the order.
pub(super) enum Place {
    Next,
    Late,
    Repeated,
    Early,
    OldEpoch,
    Beyond,
}

impl Track {
    pub(super) fn new(inner: &Inner) -> Self {
        Self { epoch: inner.epoch, cumulative: inner.first - 1, ..Self::default() }
    }

    /// A new epoch starts the order anew; message ids are remembered across it.
    pub(super) fn enter(&mut self, inner: &Inner) {
        if inner.epoch > self.epoch {
            let (ring, next_slot) = (std::mem::take(&mut self.ring), self.next_slot);
            *self = Self { ring, next_slot, pending: self.pending, used: self.used, ..Self::new(inner) };
        }
        if inner.epoch == self.epoch && inner.first > 1 {
            self.cumulative = self.cumulative.max(inner.first - 1);
            self.holes = self.holes.split_off(&inner.first);
            self.refused = self.refused.split_off(&inner.first);
        }
    }

    pub(super) fn place(&self, inner: &Inner) -> Place {
        match inner.seq {
            _ if inner.epoch < self.epoch => Place::OldEpoch,
            seq if self.holes.contains(&seq) => Place::Late,
            seq if seq <= self.cumulative && is_on(Mutant::TakeRepeats) => Place::Late,
            seq if seq <= self.cumulative => Place::Repeated,
            seq if seq == self.cumulative + 1 && self.pending.is_none() => Place::Next,
            seq if seq > self.cumulative + WINDOW => Place::Beyond,
            _ => Place::Early,
        }
    }

    pub(super) fn take(&mut self, seq: u64) {
        self.holes.remove(&seq);
        self.cumulative = self.cumulative.max(seq);
    }

    /// Passes the gap before the earliest that is held back.
    pub(super) fn pass_gap(&mut self) {
        let Some(first) = self.early.keys().next().copied() else { return };
        self.holes.extend(self.cumulative + 1..first);
        while self.holes.len() > MAX_MARKS {
            self.holes.pop_first();
        }
        self.cumulative = self.cumulative.max(first - 1);
    }

    pub(super) fn refuse(&mut self, seq: u64, code: RefusalCode) {
        self.refused.insert(seq, code);
        while self.refused.len() > MAX_MARKS {
            self.refused.pop_first();
        }
    }

    pub(super) fn remember(&mut self, message: MessageId) -> u32 {
        let slot = self.next_slot;
        match self.ring.get_mut(slot as usize) {
            Some(old) => *old = message,
            None => self.ring.push(message),
        }
        self.next_slot = (slot + 1) % RING;
        slot
    }

    pub(super) fn to_state(&self, pair: &Pair) -> InboundSequence {
        let refused = self.refused.iter().map(|(seq, code)| RefusedPlace { seq: *seq, code: code.to_wire() });
        InboundSequence {
            version: STATE_VERSION,
            sender: pair.0.as_bytes().to_vec(),
            recipient: pair.1.as_bytes().to_vec(),
            epoch: self.epoch,
            cumulative: self.cumulative,
            holes: self.holes.iter().copied().collect(),
            refused: refused.collect(),
            next_slot: self.next_slot,
        }
    }

    pub(super) fn from_state(state: &InboundSequence) -> Self {
        let refused = state.refused.iter().map(|place| (place.seq, RefusalCode::from_wire(place.code)));
        Self {
            epoch: state.epoch,
            cumulative: state.cumulative,
            holes: state.holes.iter().copied().collect(),
            refused: refused.collect(),
            next_slot: state.next_slot % RING,
            ..Self::default()
        }
    }
}

//! Streams that another one has replaced while something written to them was on its way. *Pure.*
//!
//! Nothing more is written to them. They stay open, as that may still arrive, and mostly it has: on a bad link it is the
//! acknowledgement that is missing. Programs of one stream for each pair close the former one when the next comes, and
//! their last words acknowledge what they have.

use std::collections::{BTreeMap, VecDeque};

use crosstalk_link_local::instance::Instance;

use super::{Act, Item, Open, Pair, Phase, Streams, close};
use crate::core::link::io::StreamId;

/// Former streams at most. Of more, the messages are uncertain at once.
pub(super) const FORMER: usize = 16;

/// One of them.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) pair: Pair,
    /// Written and not acknowledged.
    items: VecDeque<Item>,
}

/// All of them.
pub(super) type All = BTreeMap<StreamId, Former>;

impl Streams {
    /// Another stream takes over from that of a pair.
    pub(super) fn retire(&mut self, pair: &Pair) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        let Phase::Open(Open { stream, .. }) = line.phase else { return };
        let is_under_way = line.queue.iter().any(|item| item.end.is_some());
        if !is_under_way || self.former.len() >= FORMER {
            self.by_stream.remove(&stream);
            self.acts.push_back(close(stream));
            return self.lose(pair);
        }
        let (items, unwritten) =
            std::mem::take(&mut line.queue).into_iter().partition(|item| item.end.is_some());
        (line.queue, line.phase) = (unwritten, Phase::Idle);
        self.by_stream.remove(&stream);
        self.former.insert(stream, Former { pair: pair.clone(), items });
    }

    /// The other host has so many bytes of a former stream.
    pub(super) fn arrived_late(&mut self, stream: StreamId, bytes: u64) {
        let Some(former) = self.former.get_mut(&stream) else { return };
        while former.items.front().is_some_and(|item| item.end.is_some_and(|end| end <= bytes)) {
            let number = former.items.pop_front().and_then(|item| item.number);
            self.acts.extend(number.map(Act::Delivered));
        }
        if former.items.is_empty() {
            self.end_former(stream);
        }
    }

    /// A former stream is gone.
    pub(super) fn lose_former(&mut self, stream: StreamId) {
        let items = self.former.remove(&stream).map(|former| former.items);
        let numbers = items.into_iter().flatten().filter_map(|item| item.number);
        self.acts.extend(numbers.map(Act::Uncertain));
    }

    /// A former stream is not waited for any longer.
    fn end_former(&mut self, stream: StreamId) {
        self.acts.push_back(close(stream));
        self.lose_former(stream);
    }

    /// Whoever was at the other end left.
    pub(super) fn end_former_of(&mut self, peer: &Instance) {
        let theirs = self.former.iter().filter(|(_, former)| former.pair.peer == *peer);
        for stream in theirs.map(|(stream, _)| *stream).collect::<Vec<_>>() {
            self.end_former(stream);
        }
    }

    /// Ends those in which something has waited for too long.
    pub(super) fn end_late_former(&mut self, now: u64) {
        let late = |former: &Former| former.items.iter().any(|item| item.deadline <= now);
        let all = self.former.iter().filter(|(_, former)| late(former)).map(|(stream, _)| *stream);
        for stream in all.collect::<Vec<_>>() {
            self.end_former(stream);
        }
    }

    /// When [`Self::end_late_former`] is due.
    pub(super) fn former_due(&self) -> Option<u64> {
        self.former.values().flat_map(|former| &former.items).map(|item| item.deadline).min()
    }
}

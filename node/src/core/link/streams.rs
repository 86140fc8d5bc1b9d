//! Link-local streams (XEP-0174 §5): one for each pair of instances, what waits for it, what is on its way. *Pure.*
//!
//! A stream is opened for the first message of a pair, used both ways, kept open, and closed after ten idle minutes.
//! Nothing on this protocol acknowledges but TCP: a message is delivered once the other host's TCP has it. What was
//! written even in part is never written again; if its stream ends before, its sender is told that it may be lost.
//! A new stream gets one message, and the others when that was acknowledged. Where acknowledgements stay away, nothing more
//! is written (`silent`), then another stream is opened (`former`).

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crosstalk_link_local::instance::Instance;

use super::addresses;
use super::io::{LinkCommand, LinkEnding, StreamId};

mod former;
mod silent;

/// Messages that wait for one pair, or are on its way. Of more, the sender is told.
const QUEUE: usize = 100;
/// Bytes of one.
pub(super) const ITEM_BYTES: usize = 64 << 10;
/// Bytes that wait for all pairs.
const WAITING_BYTES: usize = 4 << 20;
/// Bytes given to one stream that the other host has not acknowledged. The rest waits here, where it can still be
/// written to the next stream.
const WINDOW: u64 = 128 << 10;
/// Pairs with a stream or a queue. Of more, the one that is idle for longest ends.
const PAIRS: usize = 256;
/// Streams that one host may have opened.
const PER_HOST: usize = 32;
/// How long a message may take, milliseconds.
const LIFE: u64 = 90_000;
/// How long a stream stays open unused, milliseconds.
const IDLE: u64 = 600_000;
/// Pause after the first failure, milliseconds; doubled with each further one.
const PAUSE: u64 = 500;
/// Longest pause, milliseconds. On a bad link most attempts fail, and the message has [`LIFE`] for all.
const LONGEST_PAUSE: u64 = 4_000;
/// Addresses tried for one stream.
const ADDRESSES: usize = 16;

/// One of our users and somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    /// Our user's instance.
    pub(super) own: Instance,
    /// The other's.
    pub(super) peer: Instance,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Act {
    /// For the shell.
    Command(LinkCommand),
    /// The other host has this message.
    Delivered(u64),
    /// It was not written.
    Unsent(u64),
    /// It was written, and nobody knows whether it came.
    Uncertain(u64),
}

/// As many messages wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
struct Item {
    /// Of a message whose sender waits for its fate.
    number: Option<u64>,
    /// Empty once it is written.
    data: Vec<u8>,
    deadline: u64,
    /// Where it ends in what was written to the stream.
    end: Option<u64>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// No stream; connects at this time.
    Waiting(u64),
    Connecting(StreamId),
    Open(Open),
}

#[derive(Clone, Copy, Debug)]
struct Open {
    stream: StreamId,
    /// Bytes given to it.
    given: u64,
    /// Bytes that the other host has.
    taken: u64,
    /// Where the other side is.
    at: SocketAddr,
    /// The other side no longer announces that address.
    moved: bool,
    /// When it has been silent for too long; none while nothing is on its way.
    stalled: Option<u64>,
    /// Since when nothing was acknowledged; none while nothing is on its way.
    silent: Option<u64>,
}

impl Open {
    fn new(stream: StreamId, at: SocketAddr) -> Self {
        Self { stream, given: 0, taken: 0, at, moved: false, stalled: None, silent: None }
    }
}

#[derive(Debug, Default)]
struct Line {
    phase: Phase,
    queue: VecDeque<Item>,
    /// Attempts since the last stream that worked.
    failures: u32,
    /// Attempts and streams that failed: each next attempt starts with another address.
    turn: usize,
    /// Where the last stream was lost: tried last.
    avoid: Option<SocketAddr>,
    /// When something was last heard or said.
    used: u64,
    /// Who opened the stream, if it was the other.
    host: Option<IpAddr>,
    /// A stream of the other that waits for the end of our attempt.
    rival: Option<(StreamId, SocketAddr)>,
    /// Our user leaves: ends with the queue.
    leaving: bool,
}

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    lines: BTreeMap<Pair, Line>,
    by_stream: BTreeMap<StreamId, Pair>,
    former: former::All,
    next: u64,
    acts: VecDeque<Act>,
}

impl Streams {
    /// The next thing to do or to tell.
    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Streams that are open.
    pub(super) fn open(&self) -> usize {
        self.lines.values().filter(|line| matches!(line.phase, Phase::Open(_))).count()
    }

    /// Whether a stream of this pair is open and nothing waits.
    pub(super) fn is_open(&self, pair: &Pair) -> bool {
        self.lines.get(pair).is_some_and(|line| {
            matches!(line.phase, Phase::Open(_)) && line.queue.iter().all(|item| item.end.is_some())
        })
    }

    /// Whom a stream belongs to; it was used just now.
    pub(super) fn heard(&mut self, stream: StreamId, now: u64) -> Option<Pair> {
        if let Some(former) = self.former.get(&stream) {
            return Some(former.pair.clone());
        }
        let pair = self.by_stream.get(&stream)?.clone();
        let line = self.lines.get_mut(&pair)?;
        let open = matches!(line.phase, Phase::Open(open) if open.stream == stream);
        line.used = now;
        open.then_some(pair)
    }

    /// Something to write, not before `earliest`. `number` names it in [`Act::Delivered`] and the like; without,
    /// nobody is told.
    ///
    /// # Errors
    /// [`Full`] when too much waits.
    pub(super) fn push(
        &mut self,
        pair: &Pair,
        number: Option<u64>,
        data: Vec<u8>,
        earliest: u64,
        now: u64,
    ) -> Result<(), Full> {
        let waiting: usize =
            self.lines.values().flat_map(|line| &line.queue).map(|item| item.data.len()).sum();
        if data.len() > ITEM_BYTES || waiting + data.len() > WAITING_BYTES {
            return Err(Full);
        }
        if !self.lines.contains_key(pair) && !self.make_room() {
            return Err(Full);
        }
        let line = self.lines.entry(pair.clone()).or_default();
        if line.queue.len() >= QUEUE {
            return Err(Full);
        }
        line.leaving = false;
        line.used = now;
        line.queue.push_back(Item { number, data, deadline: now + LIFE, end: None });
        if matches!(line.phase, Phase::Idle) {
            line.phase = Phase::Waiting(earliest.max(now));
        }
        self.flush(pair, now);
        Ok(())
    }

    /// Whether a host may open one more stream.
    pub(super) fn takes(&mut self, pair: &Pair, host: IpAddr) -> bool {
        let from_host = self.lines.values().filter(|line| line.host == Some(host)).count();
        from_host < PER_HOST && (self.lines.contains_key(pair) || self.make_room())
    }

    /// The other side's stream is wanted: it replaces an older one. If ours is just being opened, both sides have to
    /// choose the same one of the two: that of the lesser name.
    pub(super) fn accepted(&mut self, pair: &Pair, stream: StreamId, at: SocketAddr, now: u64) {
        let line = self.lines.entry(pair.clone()).or_default();
        line.used = now;
        if let Some((older, _)) = line.rival.take() {
            self.by_stream.remove(&older);
            self.acts.push_back(close(older));
        }
        self.by_stream.insert(stream, pair.clone());
        match line.phase {
            Phase::Connecting(_) if pair.own < pair.peer => line.rival = Some((stream, at)),
            Phase::Connecting(ours) => {
                self.by_stream.remove(&ours);
                self.acts.push_back(close(ours));
                self.answer(pair, stream, at, now);
            }
            Phase::Open(_) => {
                self.retire(pair);
                self.answer(pair, stream, at, now);
            }
            Phase::Idle | Phase::Waiting(_) => self.answer(pair, stream, at, now),
        }
    }

    /// A stream of ours is open.
    pub(super) fn connected(&mut self, stream: StreamId, at: SocketAddr, now: u64) {
        let Some(pair) = self.by_stream.get(&stream).cloned() else { return };
        let Some(line) = self.lines.get_mut(&pair) else { return };
        if !matches!(line.phase, Phase::Connecting(ours) if ours == stream) {
            return;
        }
        (line.phase, line.host) = (Phase::Open(Open::new(stream, at)), None);
        (line.failures, line.used) = (0, now);
        if let Some((rival, _)) = line.rival.take() {
            self.by_stream.remove(&rival);
            self.acts.push_back(close(rival));
        }
        self.flush(&pair, now);
    }

    /// The other host has so many bytes of a stream.
    pub(super) fn written(&mut self, stream: StreamId, bytes: u64, now: u64) {
        self.arrived_late(stream, bytes);
        let Some(pair) = self.by_stream.get(&stream).cloned() else { return };
        let Some(line) = self.lines.get_mut(&pair) else { return };
        let Phase::Open(open) = &mut line.phase else { return };
        if open.stream != stream {
            return;
        }
        let taken = open.taken.max(bytes.min(open.given));
        if taken > open.taken {
            open.stalled = (taken < open.given).then(|| now + open.patience());
            open.silent = open.stalled.map(|_| now);
        }
        open.taken = taken;
        while line.queue.front().is_some_and(|item| item.end.is_some_and(|end| end <= taken)) {
            let number = line.queue.pop_front().and_then(|item| item.number);
            self.acts.extend(number.map(Act::Delivered));
        }
        self.flush(&pair, now);
    }

    /// A stream is gone. Returns whom to look after: a peer that could not be reached, or was lost.
    pub(super) fn ended(&mut self, stream: StreamId, how: LinkEnding, now: u64) -> Option<Instance> {
        self.lose_former(stream);
        let pair = self.by_stream.remove(&stream)?;
        let line = self.lines.get_mut(&pair)?;
        if line.rival.is_some_and(|(rival, _)| rival == stream) {
            line.rival = None;
            return None;
        }
        if how != LinkEnding::Closed {
            line.turn += 1;
        }
        if let Phase::Open(open) = line.phase {
            line.avoid = Some(open.at);
            self.lose(&pair);
        } else {
            line.phase = Phase::Idle;
        }
        let line = self.lines.get_mut(&pair)?;
        if let Some((rival, at)) = line.rival.take() {
            self.answer(&pair, rival, at, now);
        } else if line.queue.is_empty() {
            self.lines.remove(&pair);
        } else {
            line.failures += 1;
            let pause = PAUSE << (line.failures - 1).min(10);
            line.phase = Phase::Waiting(now + pause.min(LONGEST_PAUSE));
        }
        matches!(how, LinkEnding::Refused | LinkEnding::Lost).then_some(pair.peer)
    }

    /// Somebody left.
    pub(super) fn gone(&mut self, peer: &Instance) {
        self.end_former_of(peer);
        let pairs = self.lines.keys().filter(|pair| pair.peer == *peer).cloned();
        for pair in pairs.collect::<Vec<_>>() {
            self.end(&pair);
        }
    }

    /// A user of ours is no longer announced: what was written may still arrive, nothing more is written.
    pub(super) fn withdrawn(&mut self, own: &Instance) {
        let pairs = self.lines.keys().filter(|pair| pair.own == *own).cloned();
        for pair in pairs.collect::<Vec<_>>() {
            let Some(line) = self.lines.get_mut(&pair) else { continue };
            let under_way =
                matches!(line.phase, Phase::Open(_)) && line.queue.iter().any(|i| i.end.is_some());
            if !under_way {
                self.end(&pair);
                continue;
            }
            line.leaving = true;
            let unsent = |item: &Item| item.end.is_none();
            self.acts
                .extend(line.queue.iter().filter(|i| unsent(i)).filter_map(|i| i.number.map(Act::Unsent)));
            line.queue.retain(|item| !unsent(item));
        }
    }

    /// Ends the streams of a pair at once.
    pub(super) fn end(&mut self, pair: &Pair) {
        self.close_streams(pair);
        if let Some(line) = self.lines.remove(pair) {
            for item in line.queue {
                self.acts.extend(item.number.map(|number| fate(&item, number)));
            }
        }
    }

    /// Does what is due. `addresses` says where somebody's streams end. Returns whom to look after: peers whose TCP
    /// took nothing for too long.
    pub(super) fn timeout(
        &mut self,
        now: u64,
        addresses: impl Fn(&Instance) -> Vec<SocketAddr>,
    ) -> Vec<Instance> {
        self.end_late_former(now);
        let mut suspects = Vec::new();
        for pair in self.lines.keys().cloned().collect::<Vec<_>>() {
            if self.is_stalled(&pair, now, &addresses) {
                suspects.push(pair.peer.clone());
                self.change_address(&pair, now);
            }
            let Some(line) = self.lines.get_mut(&pair) else { continue };
            let late = |item: &Item| item.deadline <= now;
            if line.queue.iter().any(|item| late(item) && item.end.is_some()) {
                suspects.push(pair.peer.clone());
                self.close_streams(&pair);
                self.lose(&pair);
            }
            let Some(line) = self.lines.get_mut(&pair) else { continue };
            self.acts.extend(line.queue.iter().filter(|i| late(i)).filter_map(|i| i.number.map(Act::Unsent)));
            line.queue.retain(|item| !late(item));
            match line.phase {
                Phase::Waiting(_) | Phase::Idle if line.queue.is_empty() => drop(self.lines.remove(&pair)),
                Phase::Idle => line.phase = Phase::Waiting(now + PAUSE),
                Phase::Waiting(when) if when <= now => self.connect(&pair, addresses(&pair.peer), now),
                Phase::Open(_) if line.queue.is_empty() && line.used + IDLE <= now => self.end(&pair),
                Phase::Waiting(_) | Phase::Connecting(_) | Phase::Open(_) => {}
            }
        }
        suspects
    }

    /// When [`Self::timeout`] is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        let due = |line: &Line| {
            let item = line.queue.iter().map(|item| item.deadline).min();
            let own = match line.phase {
                Phase::Waiting(when) => Some(when),
                Phase::Open(_) if line.queue.is_empty() => Some(line.used + IDLE),
                Phase::Open(open) => open.stalled,
                Phase::Connecting(_) | Phase::Idle => None,
            };
            [item, own].into_iter().flatten().min()
        };
        self.lines.values().filter_map(due).chain(self.former_due()).min()
    }

    fn connect(&mut self, pair: &Pair, addresses: Vec<SocketAddr>, now: u64) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        if addresses.is_empty() {
            line.phase = Phase::Waiting(now + LONGEST_PAUSE);
            return;
        }
        let mut addresses = addresses::in_turn(addresses, line.turn, line.avoid);
        addresses.truncate(ADDRESSES);
        self.next += 2;
        let stream = StreamId(self.next);
        line.phase = Phase::Connecting(stream);
        self.by_stream.insert(stream, pair.clone());
        let (from, to) = (pair.own.as_str().to_owned(), pair.peer.as_str().to_owned());
        self.acts.push_back(Act::Command(LinkCommand::Connect { stream, addresses, from, to }));
    }

    fn answer(&mut self, pair: &Pair, stream: StreamId, at: SocketAddr, now: u64) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        line.phase = Phase::Open(Open::new(stream, at));
        (line.host, line.failures) = (Some(at.ip()), 0);
        let (from, to) = (pair.own.as_str().to_owned(), Some(pair.peer.as_str().to_owned()));
        self.acts.push_back(Act::Command(LinkCommand::Accept { stream, from, to }));
        self.flush(pair, now);
    }

    /// Writes what waits, as far as the window goes.
    fn flush(&mut self, pair: &Pair, now: u64) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        let Phase::Open(open) = &mut line.phase else { return };
        for item in line.queue.iter_mut().filter(|item| item.end.is_none()) {
            let size = item.data.len() as u64;
            let under_way = open.given - open.taken;
            if under_way > 0 && (open.is_new() || under_way + size > WINDOW || open.is_held(now)) {
                break;
            }
            open.given += size;
            open.stalled = open.stalled.or(Some(now + open.patience()));
            open.silent = open.silent.or(Some(now));
            item.end = Some(open.given);
            let data = std::mem::take(&mut item.data);
            self.acts.push_back(Act::Command(LinkCommand::Write { stream: open.stream, data }));
        }
        if line.leaving && line.queue.is_empty() {
            self.end(pair);
        }
    }

    /// The stream of a pair is no more: of what was written to it, nobody knows whether it came.
    fn lose(&mut self, pair: &Pair) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        line.phase = Phase::Idle;
        let written = |item: &Item| item.end.is_some();
        self.acts
            .extend(line.queue.iter().filter(|i| written(i)).filter_map(|i| i.number.map(Act::Uncertain)));
        line.queue.retain(|item| !written(item));
    }

    fn close_streams(&mut self, pair: &Pair) {
        let Some(line) = self.lines.get_mut(pair) else { return };
        let own = match std::mem::take(&mut line.phase) {
            Phase::Connecting(stream) | Phase::Open(Open { stream, .. }) => Some(stream),
            Phase::Idle | Phase::Waiting(_) => None,
        };
        for stream in own.into_iter().chain(line.rival.take().map(|(rival, _)| rival)) {
            self.by_stream.remove(&stream);
            self.acts.push_back(close(stream));
        }
    }

    /// Room for one more pair: the one that is idle for longest makes it. Returns whether there is any.
    fn make_room(&mut self) -> bool {
        if self.lines.len() < PAIRS {
            return true;
        }
        let idle = self.lines.iter().filter(|(_, line)| line.queue.is_empty());
        let Some(pair) = idle.min_by_key(|(_, line)| line.used).map(|(pair, _)| pair.clone()) else {
            return false;
        };
        self.end(&pair);
        true
    }
}

fn close(stream: StreamId) -> Act {
    Act::Command(LinkCommand::Close { stream, error: None })
}

fn fate(item: &Item, number: u64) -> Act {
    if item.end.is_some() { Act::Uncertain(number) } else { Act::Unsent(number) }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "streams_fate_tests.rs"]
mod fate_tests;

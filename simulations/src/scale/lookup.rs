//! One look-up, as libp2p-kad does it: few at a time are asked for whoever is closer, until the closest have answered. *Pure.*

use crosstalk_overlay::dht::PARALLEL;

use super::Manner;
use super::hosts::Hosts;
use super::routing::Peer;
use crate::world::dice::Dice;

/// Nodes that an answer names, and with which a look-up begins (libp2p-kad's K).
const NAMED: usize = 20;
/// How long the answer of one node is waited for, before its place goes to another. Milliseconds.
const ANSWER: f64 = 10_000.0;
const SLOW: f64 = 1_500.0;
/// A look-up lasts so long at most. Milliseconds.
const LOOKUP: f64 = 20_000.0;
/// After the first value that counts a get waits so long for others (`swarm/kad/query.rs`). Milliseconds.
const SETTLE: f64 = 400.0;
/// Round trips until a node that was not connected has answered: TCP, Noise, the stream and the question.
pub(super) const ROUND_TRIPS: f64 = 4.0;

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Asked,
    Answered,
    /// Not in time, which does not prove that it is gone.
    Silent,
}

#[derive(Clone, Copy)]
struct Candidate {
    peer: Peer,
    state: State,
    /// How many nodes had to be asked one after the other to hear of it, itself included.
    hop: u32,
}

/// What a look-up found, and what it cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Those that answered, the closest first; at most as many as there are to be copies.
    pub(super) closest: Vec<Peer>,
    /// Nodes that were asked, and of these those that did not answer.
    pub(super) asked: u32,
    pub(super) silent: u32,
    /// How many had to be asked one after the other to hear of the closest.
    pub(super) hops: u32,
    /// Milliseconds until it ended.
    pub(super) millis: f64,
    /// Milliseconds until the first node answered that has what was looked for, how many had to be asked one after the other
    /// to hear of that one, and how many were asked until a get ends, shortly after.
    pub(super) first: Option<f64>,
    pub(super) first_hop: u32,
    pub(super) asked_by_get: u32,
}

/// Looks for `target` from a node that is here. `has` says whether a node has what is looked for.
pub(super) fn look(
    hosts: &mut Hosts,
    dice: &mut Dice,
    from: u32,
    target: u64,
    now: u64,
    has: impl Fn(u32) -> bool,
) -> Found {
    let setting = hosts.setting;
    let copies = setting.replication.copies;
    let (patience, widens) = match setting.manner {
        Manner::Get => (ANSWER, true),
        Manner::Walk => (SLOW, false),
    };
    let mut walk = Walk { target, copies, widens, known: Vec::with_capacity(128), idle: 0, stalled: false };
    let mut named = Vec::with_capacity(64);
    hosts.closest(from, target, NAMED, &mut named);
    walk.learn(&named, from, 1);
    let (mut found, mut flying, mut time) = (Found::default(), Vec::<(f64, u64)>::with_capacity(16), 0.0);
    loop {
        while let Some(candidate) = walk.next(flying.len()) {
            found.asked += 1;
            found.asked_by_get += u32::from(found.first.is_none_or(|first| time <= first + SETTLE));
            let wait = if hosts.is_here(candidate.peer.host) {
                ROUND_TRIPS * Hosts::round_trip(setting.round_trip, dice)
            } else {
                patience
            };
            flying.push((time + wait, candidate.peer.position));
            candidate.state = State::Asked;
        }
        let next =
            flying.iter().enumerate().min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0)).map(|(index, _)| index);
        let Some(next) = next.filter(|next| !walk.is_done() && flying[*next].0 <= LOOKUP) else { break };
        let (at, position) = flying.swap_remove(next);
        time = at;
        let Some(candidate) = walk.candidate(position) else { continue };
        let (peer, hop) = (candidate.peer, candidate.hop);
        if hosts.is_here(peer.host) {
            candidate.state = State::Answered;
            if found.first.is_none() && has(peer.host) {
                (found.first, found.first_hop) = (Some(time), hop);
            }
            hosts.answer(peer.host, from, target, NAMED, now, &mut named);
            let closer = walk.learn(&named, from, hop + 1);
            walk.progress(closer);
        } else {
            candidate.state = State::Silent;
            found.silent += 1;
            hosts.failed(from, peer);
        }
    }
    found.millis = time;
    let answered = walk.known.iter().filter(|candidate| candidate.state == State::Answered).take(copies);
    found.hops = answered.clone().next().map_or(0, |closest| closest.hop);
    found.closest = answered.map(|candidate| candidate.peer).collect();
    found
}

struct Walk {
    target: u64,
    /// Nodes that have to answer.
    copies: usize,
    /// Whether more are asked at a time after answers without anybody closer.
    widens: bool,
    /// The closest first.
    known: Vec<Candidate>,
    /// Answers in a row that named nobody closer.
    idle: usize,
    stalled: bool,
}

impl Walk {
    /// Enters those who were named. Whether one of them is closer than all before, or they are still too few.
    fn learn(&mut self, named: &[Peer], from: u32, hop: u32) -> bool {
        let mut closer = self.known.len() < self.copies;
        for peer in named.iter().filter(|peer| peer.host != from) {
            let distance = peer.position ^ self.target;
            if let Err(index) =
                self.known.binary_search_by_key(&distance, |known| known.peer.position ^ self.target)
            {
                closer |= index == 0;
                self.known.insert(index, Candidate { peer: *peer, state: State::New, hop });
            }
        }
        closer
    }

    /// After so many answers without anybody closer, more are asked at a time.
    fn progress(&mut self, closer: bool) {
        self.idle = if closer { 0 } else { self.idle + 1 };
        self.stalled = self.widens && (self.idle >= PARALLEL || (self.stalled && !closer));
    }

    /// Who is to be asked next, if so many are being asked.
    fn next(&mut self, flying: usize) -> Option<&mut Candidate> {
        let room = if self.stalled { self.copies.max(PARALLEL) } else { PARALLEL };
        if flying >= room || self.is_done() {
            return None;
        }
        let (mut counted, copies, widens) = (0, self.copies, self.widens);
        self.known.iter_mut().find(|candidate| {
            let counts = match candidate.state {
                State::Answered => true,
                // libp2p-kad asks on behind those that it waits for; a walk waits.
                State::Asked => !widens,
                State::New | State::Silent => false,
            };
            counted += usize::from(counts);
            candidate.state == State::New && counted < copies
        })
    }

    /// The closest have all answered, as far as they are not silent.
    fn is_done(&self) -> bool {
        let mut candidates =
            self.known.iter().filter(|candidate| candidate.state != State::Silent).take(self.copies);
        candidates.all(|candidate| candidate.state == State::Answered)
    }

    fn candidate(&mut self, position: u64) -> Option<&mut Candidate> {
        let distance = position ^ self.target;
        let index =
            self.known.binary_search_by_key(&distance, |known| known.peer.position ^ self.target).ok()?;
        self.known.get_mut(index)
    }
}

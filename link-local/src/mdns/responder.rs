//! Announcing and answering (RFC 6762 §6, §7, §8.3, §10.1, *pure*).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crosstalk_overlay::time::Now;

use super::airtime::Kind;
use super::lane::{Family, Lane, Place, Told};
use super::own::{Own, Set, Unique};
use super::packet::{Data, Packet, Question, Record};
use super::{Mdns, PORT};

/// Answers that several hosts may give wait 20 to 120 ms; those whose known answers are incomplete 400 to 500 ms.
const SHARED_DELAY: (u64, u64) = (20, 100);
const PARTIAL_DELAY: (u64, u64) = (400, 100);
/// What falls due so soon goes along, milliseconds.
const JOINED: u64 = 100;
/// A record is not multicast again within so long; to defend a name, within so long.
const RATE: u64 = 1_000;
const DEFENCE_RATE: u64 = 250;
/// From one change of a TXT record to the next: not in one packet with the repetition of the first announcement, which
/// Avahi's clients did not notice.
pub(super) const CHANGES: u64 = 1_200;
/// TTL for those who asked from another port, seconds.
const LEGACY_TTL: u32 = 10;

impl Mdns {
    /// Somebody asks something.
    pub(super) fn heard_query(
        &mut self,
        place: Place,
        from: SocketAddr,
        direct: bool,
        packet: Packet,
        now: Now,
    ) {
        let at = now.mono + PARTIAL_DELAY.0 + self.random(PARTIAL_DELAY.1);
        if from.port() != PORT {
            return self.answer(place, from, direct, &packet, now);
        }
        let Some(lane) = self.lane(place) else { return };
        if let Some(packet) = lane.gather(from, packet, at) {
            self.answer(place, from, direct, &packet, now);
        }
    }

    /// Answers queries whose known answers did not go on.
    pub(super) fn flush_partial(&mut self, place: Place, now: Now) {
        let Some(lane) = self.lane(place) else { return };
        let due: Vec<SocketAddr> = lane
            .partial
            .iter()
            .filter(|(_, partial)| partial.at <= now.mono)
            .map(|(from, _)| *from)
            .collect();
        for from in due {
            let partial = self.lane(place).and_then(|lane| lane.partial.remove(&from));
            if let Some(partial) = partial {
                self.answer(place, from, false, &partial.packet, now);
            }
        }
    }

    fn answer(&mut self, place: Place, from: SocketAddr, direct: bool, packet: &Packet, now: Now) {
        if !packet.authorities.is_empty() {
            self.break_ties(place.0, packet, now);
        }
        if from.port() == PORT {
            self.heard_browsing(place, from, packet, now);
            if !direct {
                self.heard_asking(place, from.ip(), packet, now);
            }
        }
        for question in &packet.questions {
            let sets = self.wanted(place, question, packet);
            if sets.is_empty() {
                continue;
            }
            if direct || from.port() != PORT {
                self.answer_one(place, from, &sets, packet, now);
            } else if question.unicast {
                self.answer_rather_one(place, from, &sets, packet, now);
            } else {
                self.answer_all(place, &sets, packet, now);
            }
        }
    }

    /// The sets that a question asks for, that are ours here, and that the asker does not know yet.
    fn wanted(&self, place: Place, question: &Question, packet: &Packet) -> Vec<Set> {
        let Some(link) = self.links.get(&place.0) else { return Vec::new() };
        let mut sets = self.own.asked(question, &link.told);
        sets.retain(|set| {
            let is_told_here = *set != Set::P2p || place.1 == Family::V6;
            let ours = self.own.records(*set, &link.told);
            let is_known = |record: &Record| {
                let knows = |known: &&Record| known.says_the_same(record) && known.ttl >= record.ttl / 2;
                packet.answers.iter().any(|known| knows(&known))
            };
            is_told_here && link.is_ready(*set) && !ours.is_empty() && !ours.iter().all(is_known)
        });
        sets
    }

    fn answer_one(&mut self, place: Place, to: SocketAddr, sets: &[Set], packet: &Packet, now: Now) {
        let legacy = (to.port() != PORT).then_some((packet.id, packet.questions.as_slice()));
        let is_kept = self.lane(place).is_none_or(|lane| lane.reply(to, sets, legacy, now.mono));
        if !is_kept {
            self.airtime.overrun += 1;
        }
    }

    /// The asker wants a unicast answer; everybody is told what was not multicast for a quarter of its life (§5.4).
    fn answer_rather_one(&mut self, place: Place, to: SocketAddr, sets: &[Set], packet: &Packet, now: Now) {
        let Some(link) = self.links.get(&place.0) else { return };
        let Some(lane) = link.lanes.get(&place.1) else { return };
        let is_recent = |set: &Set| {
            let life = self.own.records(*set, &link.told).first().map_or(0, |record| record.ttl);
            lane.sent.get(set).is_some_and(|at| at + u64::from(life) * 250 > now.mono)
        };
        let (one, all): (Vec<Set>, Vec<Set>) = sets.iter().copied().partition(is_recent);
        if !one.is_empty() {
            self.answer_one(place, to, &one, packet, now);
        }
        self.answer_all(place, &all, packet, now);
    }

    fn answer_all(&mut self, place: Place, sets: &[Set], packet: &Packet, now: Now) {
        let shared = now.mono + SHARED_DELAY.0 + self.random(SHARED_DELAY.1);
        let rate = if packet.authorities.is_empty() { RATE } else { DEFENCE_RATE };
        let Some(lane) = self.lane(place) else { return };
        for set in sets {
            lane.answer(*set, if set.is_shared() { shared } else { now.mono }, rate);
        }
    }

    /// Somebody else has just given an answer that waits here (§7.4).
    pub(super) fn heard_answers(&mut self, place: Place, packet: &Packet) {
        let Some(link) = self.links.get(&place.0) else { return };
        let Some(lane) = link.lanes.get(&place.1).filter(|lane| !lane.answers.is_empty()) else { return };
        let is_given = |set: &Set| {
            let ours = self.own.records(*set, &link.told);
            ours.iter().all(|record| {
                packet.answers.iter().any(|heard| heard.says_the_same(record) && heard.ttl >= record.ttl)
            })
        };
        let given: Vec<Set> = lane.answers.keys().filter(|set| is_given(set)).copied().collect();
        if let Some(lane) = self.lane(place) {
            lane.answers.retain(|set, _| !given.contains(set));
        }
    }

    pub(super) fn flush_farewells(&mut self, place: Place, now: Now) {
        let is_due = |lane: &Lane| lane.farewells.iter().position(|farewell| farewell.at <= now.mono);
        while let Some(at) = self.lane(place).and_then(|lane| is_due(lane)) {
            if !self.may_send(place, Kind::Goodbye, now) {
                return;
            }
            let Some(lane) = self.lane(place) else { return };
            let farewell = &mut lane.farewells[at];
            let packet = Packet { answers: farewell.records.clone(), ..Packet::response() };
            farewell.left = farewell.left.saturating_sub(1);
            farewell.at = now.mono + 300;
            if farewell.left == 0 {
                lane.farewells.remove(at);
            }
            self.multicast(place, Kind::Goodbye, &packet, now);
        }
    }

    pub(super) fn flush_announcements(&mut self, place: Place, now: Now) {
        let Some(lane) = self.lane(place) else { return };
        let is_due = lane.repeats.values().any(|repeat| repeat.at <= now.mono);
        if !is_due || !self.may_send(place, Kind::Announcement, now) {
            return;
        }
        let Some(link) = self.links.get_mut(&place.0) else { return };
        let Some(lane) = link.lanes.get_mut(&place.1) else { return };
        let earliest: Vec<u64> = lane.repeats.keys().map(|set| earliest(lane, &self.own, *set)).collect();
        let mut sets = Vec::new();
        for ((set, repeat), earliest) in lane.repeats.iter_mut().zip(earliest) {
            if earliest > now.mono {
                repeat.at = repeat.at.max(earliest);
            } else if repeat.at <= now.mono + JOINED {
                sets.push(*set);
                repeat.left -= 1;
                repeat.at = now.mono + repeat.gap;
                repeat.gap *= 2;
            }
        }
        lane.repeats.retain(|_, repeat| repeat.left > 0);
        sets.iter().for_each(|set| {
            lane.answers.remove(set);
        });
        self.tell(place, Kind::Announcement, &sets, &[], now);
    }

    pub(super) fn flush_answers(&mut self, place: Place, now: Now) {
        let Some(lane) = self.lane(place) else { return };
        let is_due = lane.answers.values().any(|at| *at <= now.mono);
        if !is_due || !self.may_send(place, Kind::Answer, now) {
            return;
        }
        let Some(lane) = self.lane(place) else { return };
        let is_early = |set: &Set| lane.sent.get(set).is_some_and(|at| at + RATE > now.mono);
        let sets: Vec<Set> = lane
            .answers
            .iter()
            .filter(|(set, at)| **at <= now.mono || (**at <= now.mono + JOINED && !is_early(set)))
            .map(|(set, _)| *set)
            .collect();
        let more: Vec<Set> = companions(&sets).into_iter().filter(|set| !is_early(set)).collect();
        lane.answers.retain(|set, _| !sets.contains(set) && !more.contains(set));
        self.tell(place, Kind::Answer, &sets, &more, now);
    }

    /// Multicasts record sets.
    fn tell(&mut self, place: Place, kind: Kind, sets: &[Set], more: &[Set], now: Now) {
        let mut packet = self.response(place, sets, more);
        packet.answers.extend(self.replaced(place, sets, now));
        let Some(link) = self.links.get_mut(&place.0) else { return };
        let Some(lane) = link.lanes.get_mut(&place.1) else { return };
        for set in sets.iter().chain(more) {
            lane.sent.insert(*set, now.mono);
            if let Set::Text(id) = set
                && let Some(text) = self.own.text(*id)
                && lane.texts.get(id).is_none_or(|told| told.text != *text)
            {
                lane.texts.insert(*id, Told { text: text.clone(), since: now.mono });
            }
        }
        if !packet.answers.is_empty() {
            self.multicast(place, kind, &packet, now);
        }
    }

    /// TXT records that were told so lately that the cache-flush bit leaves them in caches for a second yet (§10.2):
    /// they are withdrawn, else Avahi's clients see the new one a second late, or never.
    fn replaced(&self, place: Place, sets: &[Set], now: Now) -> Vec<Record> {
        let lane = self.links.get(&place.0).and_then(|link| link.lanes.get(&place.1));
        let Some(lane) = lane else { return Vec::new() };
        let old = sets.iter().filter_map(|set| {
            let Set::Text(id) = set else { return None };
            let is_recent = lane.sent.get(set).is_some_and(|at| at + RATE + JOINED > now.mono);
            let told =
                lane.texts.get(id).filter(|told| is_recent && self.own.text(*id) != Some(&told.text))?;
            let name = self.own.name_of(Unique::Service(*id))?.clone();
            Some(Record { name, flush: true, ttl: 0, data: Data::Txt(told.text.clone()) })
        });
        old.collect()
    }

    fn response(&self, place: Place, sets: &[Set], more: &[Set]) -> Packet {
        let mut packet = Packet::response();
        let Some(link) = self.links.get(&place.0) else { return packet };
        let records = |sets: &[Set]| -> Vec<Record> {
            let told = sets.iter().filter(|set| link.is_ready(**set));
            told.flat_map(|set| self.own.records(*set, &link.told)).collect()
        };
        packet.answers = records(sets);
        packet.additionals = records(more);
        if sets.contains(&Set::P2p) {
            match self.own.p2p_text(&link.interface) {
                Some(text) => packet.additionals.push(text),
                // Without addresses there is nothing to say.
                None => packet.answers.retain(|record| record.name != *super::names::P2P),
            }
        }
        packet
    }

    pub(super) fn flush_replies(&mut self, place: Place, now: Now) {
        let due =
            |lane: &Lane| lane.replies.iter().find(|(_, reply)| reply.at <= now.mono).map(|(to, _)| *to);
        while let Some(to) = self.lane(place).and_then(|lane| due(lane)) {
            if !self.may_send(place, Kind::Answer, now) {
                return;
            }
            let Some(reply) = self.lane(place).and_then(|lane| lane.replies.remove(&to)) else { return };
            let sets: Vec<Set> = reply.sets.into_iter().collect();
            let mut packet = self.response(place, &sets, &companions(&sets));
            let is_legacy = reply.legacy.is_some();
            if let Some((id, questions)) = reply.legacy {
                (packet.id, packet.questions) = (id, questions);
                for record in packet.answers.iter_mut().chain(&mut packet.additionals) {
                    record.flush = false;
                    record.ttl = record.ttl.min(LEGACY_TTL);
                }
            }
            if !packet.answers.is_empty() {
                self.unicast(place, to, Kind::Answer, &packet, !is_legacy, now);
            }
        }
    }
}

/// When a set may be announced again: a second after it was multicast; a TXT record that has changed, a while after the
/// change before.
fn earliest(lane: &Lane, own: &Own, set: Set) -> u64 {
    if let Set::Text(id) = set
        && let Some(told) = lane.texts.get(&id)
        && own.text(id) != Some(&told.text)
    {
        return told.since + CHANGES;
    }
    lane.sent.get(&set).map_or(0, |at| at + RATE)
}

fn companions(sets: &[Set]) -> Vec<Set> {
    let all: BTreeSet<Set> = sets.iter().flat_map(|set| set.companions()).collect();
    all.into_iter().filter(|set| !sets.contains(set)).collect()
}

//! Resolving, checking and searching for peers by direct queries; pictures (*pure*).

use std::net::{IpAddr, SocketAddr};

use crosstalk_overlay::time::Now;
use sha1::{Digest, Sha1};

use super::airtime::Kind;
use super::api::Event;
use super::browse::question;
use super::lane::Family;
use super::liveness::{LOST, QUIET, SEARCH, SHORT_SEARCH, SOME, VOUCHED, search_pause};
use super::own::{Own, Unique};
use super::packet::{Packet, Question, kind};
use super::peers::{Found, Key, Life, Want};
use super::{MAX_PICTURE, Mdns, Output, PORT};
use crate::instance::Instance;
use crate::txt::Advert;

/// Instances of one host that are asked for in one packet.
const TOGETHER: usize = 8;
/// A peer of the same host that would be asked within so long is asked at once.
const JOINED: u64 = 4_000;
/// Tries to resolve an instance, the first pause between them; doubles.
const RESOLVE_TRIES: u32 = 6;
const RESOLVE_PAUSE: u64 = 300;
/// From one instance that never answered to the next: a flood of invented names must not use up the airtime.
const UNPROVEN_PAUSE: u64 = 150;
/// From one search for somebody who never answered to the next; doubles if there are many: they may be invented.
const UNPROVEN_SEARCH: u64 = 3_000;
/// Who is being checked and would be asked again within so long is asked along.
const CHECKED_ALONG: u64 = 500;
/// Who answers so soon after it was given up was there all the time.
const FALSE_ALARM: u64 = 20_000;
/// Pictures that are waited for; more are not asked for. Tries for each.
const MAX_WANTS: usize = 64;
const PICTURE_TRIES: u32 = 4;
/// Somebody heard so lately is not checked again, milliseconds.
const SUSPICION: u64 = 2_000;
/// Our names are withdrawn and announced anew for those who lost us, at most so often.
const CURE_PAUSE: u64 = 30_000;

impl Mdns {
    /// Does what is due for peers.
    pub(super) fn watch(&mut self, now: Now) {
        for key in self.peers.due_now(now.mono) {
            let Some(life) = self.peers.all.get(&key).map(|found| found.life) else { continue };
            // Asked together with another one a moment ago.
            if life.at() > now.mono {
                continue;
            }
            match life {
                Life::Leaving { .. } => self.peers.remove(&key),
                Life::Resolving { tries, .. } => self.resolve(&key, tries, now),
                Life::Present { .. } => self.look_after(&key, now),
                Life::Checking { tries, since, .. } => self.check(&key, tries, since, now),
                Life::Gone { since, silent, tries, .. } => self.search(&key, since, silent, tries, now),
            }
        }
        self.peers.take_late_texts(now.mono);
        self.fetch_pictures(now);
    }

    /// Asks for what is missing: the host that spoke of it, every third time everybody.
    fn resolve(&mut self, key: &Key, tries: u32, now: Now) {
        if tries >= RESOLVE_TRIES {
            return self.peers.remove(key);
        }
        let candidates = self.peers.candidates(key);
        let source = candidates.get(tries as usize % candidates.len().max(1)).copied();
        let Some(source) = source else { return self.peers.remove(key) };
        let mut packet = Packet::query();
        let mut asked = Vec::new();
        for other in self.companions(key, source, now) {
            packet.questions.extend(self.missing(&other));
            asked.push(other);
            if packet.questions.len() >= 2 * TOGETHER {
                break;
            }
        }
        let sent = self.ask(key, source, tries % 3 == 2, packet, now);
        for other in asked {
            let next = match sent {
                Ok(()) => Life::Resolving { tries: tries + 1, at: now.mono + (RESOLVE_PAUSE << tries) },
                Err(at) => Life::Resolving { tries, at },
            };
            self.peers.set_life(&other, next);
        }
    }

    /// This one and others that are to be resolved from the same source.
    fn companions(&self, key: &Key, source: IpAddr, now: Now) -> Vec<Key> {
        let is_due = |other: &&Key| {
            let found = self.peers.all.get(other).filter(|found| found.life.at() <= now.mono + 200);
            *other != key && other.0 == key.0 && found.is_some_and(|found| found.sources.contains(&source))
        };
        let others = self.peers.resolving().filter(is_due).cloned();
        std::iter::once(key.clone()).chain(others.take(TOGETHER - 1)).collect()
    }

    fn missing(&self, key: &Key) -> Vec<Question> {
        let Some(found) = self.peers.all.get(key) else { return Vec::new() };
        let mut questions = Vec::new();
        if found.text.is_none() {
            questions.push(question(&key.1, kind::TXT, true));
        }
        match &found.server {
            None => questions.push(question(&key.1, kind::SRV, true)),
            Some((host, _)) if !self.peers.is_complete(key) => {
                questions.push(question(host, kind::A, true));
                questions.push(question(host, kind::AAAA, true));
            }
            Some(_) => {}
        }
        questions
    }

    /// Sends a question to one host, or to everybody; otherwise says when it may be sent.
    fn ask(&mut self, key: &Key, to: IpAddr, everybody: bool, packet: Packet, now: Now) -> Result<(), u64> {
        let place = (key.0, Family::of(to));
        let Some(lane) = self.lane(place) else { return Ok(()) };
        let ready = lane.budget.ready_at(Kind::Liveness);
        if ready > now.mono {
            self.airtime.delayed += 1;
            return Err(ready);
        }
        let is_proven = self.peers.is_proven(key);
        if !is_proven && self.peers.next_unproven > now.mono {
            // The more wait, the longer.
            let crowd = UNPROVEN_PAUSE * (2 + self.peers.all.len() as u64 / 16);
            return Err(self.peers.next_unproven + self.random(crowd));
        }
        if !is_proven {
            self.peers.next_unproven = now.mono + UNPROVEN_PAUSE;
        }
        if everybody {
            self.multicast(place, Kind::Query, &packet, now);
        } else {
            self.unicast(place, SocketAddr::new(to, PORT), Kind::Liveness, &packet, true, now);
        }
        Ok(())
    }

    /// Nothing had to be heard of it until now: was it?
    fn look_after(&mut self, key: &Key, now: Now) {
        if self.peers.is_vouched(key) {
            return self.peers.set_life(key, Life::Present { at: now.mono + VOUCHED });
        }
        let Some(found) = self.peers.all.get(key) else { return };
        let sign = self.peers.sign_of_life(key);
        // Somebody unproven is asked before its record expires.
        let lasts = found.expires.saturating_sub(sign) / 5 * 4;
        let at = sign + if found.answered.is_none() { QUIET.min(lasts) } else { QUIET };
        if at > now.mono {
            let at = at + self.random(self.spread(key));
            return self.peers.set_life(key, Life::Present { at });
        }
        self.check(key, 0, now.mono, now);
    }

    /// Whether an advert names the same software as ours: such peers need no cure.
    fn is_kin(&self, text: &[u8]) -> bool {
        let node = |advert: &Advert| advert.node.clone();
        let ours = self.own.services.values().next().and_then(|service| node(&service.presence.advert));
        ours.is_some() && ours == node(&Advert::parse(text))
    }

    fn check(&mut self, key: &Key, tries: u32, since: u64, now: Now) {
        if self.peers.is_vouched(key) || self.peers.sign_of_life(key) > since {
            return self.peers.set_life(key, Life::Present { at: now.mono + 1_000 });
        }
        if self.is_expired(key, now) {
            return self.peers.remove(key);
        }
        let needed = self.tries_needed(key);
        if tries >= needed {
            let silent = self.peers.sign_of_life(key);
            let at = now.mono + search_pause(0, 0);
            return self.peers.set_life(key, Life::Gone { since: now.mono, silent, tries: 0, at });
        }
        let for_all = self.checks_for_all(key, tries);
        let together = match for_all {
            true => self.together_for_all(key, now),
            false => self.together(key, self.target(key, tries), now),
        };
        let sent = self.ask_whether_there(key, &together, tries, for_all, now);
        let loss = self.links.get(&key.0).map(|link| link.loss).unwrap_or_default();
        for other in together {
            let Some(life) = self.peers.all.get(&other).map(|found| found.life) else { continue };
            let (tries, since) = match life {
                Life::Checking { tries, since, .. } => (tries, since),
                Life::Present { .. } | Life::Resolving { .. } | Life::Leaving { .. } | Life::Gone { .. } => {
                    (0, now.mono)
                }
            };
            let next = match sent {
                Ok(()) => {
                    Life::Checking { tries: tries + 1, since, at: now.mono + loss.pause(tries, needed) }
                }
                Err(at) => Life::Checking { tries, since, at },
            };
            self.peers.set_life(&other, next);
        }
    }

    /// One that never answered is not kept longer than its own records say.
    fn is_expired(&self, key: &Key, now: Now) -> bool {
        let found = self.peers.all.get(key);
        found.is_some_and(|found| found.answered.is_none() && found.expires <= now.mono)
    }

    pub(super) fn tries_needed(&self, key: &Key) -> u32 {
        let index = key.0;
        let Some(link) = self.links.get(&index) else { return 0 };
        let all = || self.peers.all.iter().filter(|(key, _)| key.0 == index);
        if !self.peers.is_proven(key) {
            // With those that were given up a moment ago: the last of a flood are no likelier to be there than the first.
            let unproven = all().filter(|(_, found)| found.answered.is_none());
            return link.loss.tries_needed_unproven(unproven.count());
        }
        let here = || all().filter(|(_, found)| found.is_shown() && found.answered.is_some());
        let is_failing = |life: Life| matches!(life, Life::Checking { tries: 4.., .. });
        let failing = here().filter(|(_, found)| is_failing(found.life)).count();
        link.loss.tries_needed(failing >= 4 && 2 * failing > here().count())
    }

    /// This one, and others of the same host that are due as well or soon; of those that never answered, all that the
    /// asked address told of.
    fn together(&self, key: &Key, to: Option<IpAddr>, now: Now) -> Vec<Key> {
        let host = self.peers.all.get(key).and_then(|found| found.server.as_ref());
        let mut others = host.map(|(host, _)| self.peers.of_host(&(key.0, host.clone()))).unwrap_or_default();
        if let Some(to) = to.filter(|_| !self.peers.is_proven(key)) {
            let told = |found: &Found| found.answered.is_none() && found.sources.contains(&to);
            let all = self.peers.all.iter().filter(|(other, found)| other.0 == key.0 && told(found));
            others = all.map(|(other, _)| other.clone()).collect();
        }
        let is_due = |other: &Key| {
            let found = self.peers.all.get(other).filter(|_| !self.peers.is_vouched(other));
            found.is_some_and(|found| match found.life {
                Life::Checking { at, .. } => at <= now.mono + CHECKED_ALONG,
                Life::Present { at } => at <= now.mono + JOINED,
                Life::Resolving { .. } | Life::Leaving { .. } | Life::Gone { .. } => false,
            })
        };
        let others = others.into_iter().filter(|other| other != key && is_due(other));
        std::iter::once(key.clone()).chain(others.take(TOGETHER - 1)).collect()
    }

    /// Another address each time; of somebody who never answered only those that packets came from, the others may be
    /// anybody's.
    pub(super) fn target(&self, key: &Key, tries: u32) -> Option<IpAddr> {
        let found = self.peers.all.get(key)?;
        let candidates = match found.answered {
            Some(_) => self.peers.candidates(key),
            None => found.sources.iter().copied().collect(),
        };
        candidates.get(tries as usize % candidates.len().max(1)).copied()
    }

    /// Asks the host of these instances, or everybody `for_all`, for their records.
    fn ask_whether_there(
        &mut self,
        key: &Key,
        together: &[Key],
        tries: u32,
        for_all: bool,
        now: Now,
    ) -> Result<(), u64> {
        let Some(to) = self.target(key, tries) else { return Ok(()) };
        // If no answer ever came by unicast, perhaps another responder on this machine gets them: every second time
        // the answer is wanted by multicast.
        let unicast = !for_all && (self.peers.is_proven(key) || tries.is_multiple_of(2));
        let mut packet = Packet::query();
        for (_, name) in together {
            packet.questions.push(question(name, kind::SRV, unicast));
            packet.questions.push(question(name, kind::TXT, unicast));
        }
        self.ask(key, to, for_all, packet, now)
    }

    /// Looks whether somebody who vanished is back.
    fn search(&mut self, key: &Key, since: u64, silent: u64, tries: u32, now: Now) {
        let gone_for = now.mono.saturating_sub(since);
        let is_proven = self.peers.is_proven(key);
        if gone_for > if is_proven { SEARCH } else { SHORT_SEARCH } || self.is_expired(key, now) {
            return self.peers.remove(key);
        }
        let vanished =
            self.peers.all.values().filter(|found| matches!(found.life, Life::Gone { .. })).count();
        let for_all = self.searches_for_all(key, tries);
        let sent = self.ask_whether_there(key, std::slice::from_ref(key), tries, for_all, now);
        let pause = match is_proven {
            true => search_pause(gone_for, vanished),
            false if vanished <= SOME => UNPROVEN_SEARCH,
            false => UNPROVEN_SEARCH << tries.min(5),
        };
        let at = sent.err().unwrap_or(now.mono + pause + self.random(400));
        self.peers.set_life(key, Life::Gone { since, silent, tries: tries.wrapping_add(1), at });
    }

    /// Its host has told its records.
    pub(super) fn confirmed(&mut self, key: &Key, from: IpAddr, direct: bool, now: Now) {
        let Some(found) = self.peers.all.get_mut(key) else { return };
        found.confirmed = now.mono;
        let life = found.life;
        match life {
            Life::Checking { tries, .. } => {
                found.answered = Some(from);
                if let Some(link) = self.links.get_mut(&key.0).filter(|_| tries > 0) {
                    link.loss.learn(tries);
                }
                self.peers.set_life(key, Life::Present { at: now.mono + 1_000 });
            }
            Life::Gone { since, silent, tries, .. } => {
                found.answered = Some(from);
                let is_soon = since + FALSE_ALARM > now.mono;
                if let Some(link) = self.links.get_mut(&key.0).filter(|_| is_soon) {
                    link.loss.learn_wrong(tries);
                }
                let Some(found) = self.peers.all.get(key) else { return };
                let is_kin = found.text.clone().is_some_and(|text| self.is_kin(&text));
                self.peers.set_life(key, Life::Present { at: now.mono + 1_000 });
                if now.mono.saturating_sub(silent) >= LOST && !is_kin {
                    self.cure(key.0, now);
                }
            }
            Life::Leaving { .. } => self.peers.set_life(key, Life::Present { at: now.mono + 1_000 }),
            Life::Resolving { tries: 1.., .. } if direct => found.answered = Some(from),
            Life::Resolving { .. } | Life::Present { .. } => {}
        }
    }

    /// Those that are complete now are there.
    pub(super) fn settle(&mut self, now: Now) {
        let complete: Vec<Key> =
            self.peers.resolving().filter(|key| self.peers.is_complete(key)).cloned().collect();
        for key in complete {
            self.peers.set_life(&key, Life::Present { at: now.mono + 1_000 });
        }
    }

    /// Somebody is back after a long cut. To a Bonjour client we were gone as well, and it shows us again only after
    /// a goodbye and a new announcement.
    pub(super) fn cure(&mut self, index: u32, now: Now) {
        let ids: Vec<_> = self.own.services.keys().copied().collect();
        let farewells: Vec<_> = ids.iter().map(|id| (*id, self.own.farewell(*id))).collect();
        let Some(link) = self.links.get_mut(&index) else { return };
        if link.cured.is_some_and(|at| at + CURE_PAUSE > now.mono) {
            return;
        }
        link.cured = Some(now.mono);
        for (id, records) in farewells {
            let sets = Own::announced_with(Unique::Service(id));
            if !sets.iter().all(|set| link.is_ready(*set)) {
                continue;
            }
            for lane in link.lanes.values_mut() {
                lane.say_farewell(records.clone(), now.mono, 1);
                // The goodbye takes effect after one second.
                lane.announce(&sets, now.mono + 1_200);
            }
        }
    }

    /// A stream to it failed: checks now whether it is there.
    pub fn suspect(&mut self, instance: &Instance, now: Now) {
        for key in self.keys_of(instance) {
            self.peers.vouched.remove(&key.1);
            self.suspect_key(&key, now);
        }
    }

    pub(super) fn suspect_key(&mut self, key: &Key, now: Now) {
        let Some(found) = self.peers.all.get(key) else { return };
        match found.life {
            Life::Present { .. } => {
                // Whoever says so, not more often than each two seconds.
                let at = now.mono.max(self.peers.sign_of_life(key) + SUSPICION);
                self.peers.set_life(key, Life::Checking { tries: 0, since: now.mono, at });
            }
            Life::Gone { since, silent, tries, at } => {
                let at = at.min(now.mono + SUSPICION / 4);
                self.peers.set_life(key, Life::Gone { since, silent, tries, at });
            }
            Life::Resolving { .. } | Life::Checking { .. } | Life::Leaving { .. } => {}
        }
    }

    /// Whether others have probably lost us: nothing was heard of somebody for long.
    pub(super) fn is_lost(&self, index: u32, now: Now) -> bool {
        let mut here = self.peers.all.iter().filter(|(key, _)| key.0 == index && !self.peers.is_vouched(key));
        here.any(|(_, found)| found.confirmed + LOST <= now.mono)
    }

    /// After a cut of our own: everybody has a new chance, and is asked soon.
    pub(super) fn check_all(&mut self, index: u32, now: Now) {
        let keys: Vec<Key> = self.peers.all.keys().filter(|key| key.0 == index).cloned().collect();
        for key in keys {
            let at = now.mono + self.random(1_000);
            let Some(found) = self.peers.all.get(&key) else { continue };
            let next = match found.life {
                Life::Present { .. } | Life::Checking { .. } => {
                    Life::Checking { tries: 0, since: now.mono, at }
                }
                Life::Gone { since, silent, tries, .. } => Life::Gone { since, silent, tries, at },
                life @ (Life::Resolving { .. } | Life::Leaving { .. }) => life,
            };
            self.peers.set_life(&key, next);
        }
    }

    /// Asks for the picture that the advert of an instance names. With 64 asked for, it is not.
    pub fn ask_picture(&mut self, instance: &Instance, now: Now) {
        for key in self.keys_of(instance) {
            let text = self.peers.all.get(&key).and_then(|found| found.text.as_ref());
            let hash = text.and_then(|text| Advert::parse(text).phsh);
            if let Some(hash) = hash.filter(|_| self.peers.wants.len() < MAX_WANTS) {
                self.peers.wants.insert(key, Want { hash, tries: 0, at: now.mono });
            }
        }
    }

    fn fetch_pictures(&mut self, now: Now) {
        let due: Vec<Key> = self
            .peers
            .wants
            .iter()
            .filter(|(_, want)| want.at <= now.mono)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(want) = self.peers.wants.get(&key).copied() else { continue };
            let to = self.peers.candidates(&key).first().copied();
            let Some(to) = to.filter(|_| want.tries < PICTURE_TRIES) else {
                self.peers.wants.remove(&key);
                continue;
            };
            let unicast = want.tries.is_multiple_of(2);
            let packet = Packet { questions: vec![question(&key.1, kind::NULL, unicast)], ..Packet::query() };
            let (tries, at) = match self.ask(&key, to, !unicast, packet, now) {
                Ok(()) => (want.tries + 1, now.mono + (2_000 << want.tries)),
                Err(at) => (want.tries, at),
            };
            self.peers.wants.insert(key, Want { tries, at, ..want });
        }
    }

    pub(super) fn heard_picture(&mut self, key: &Key, bytes: &[u8]) {
        let Some(want) = self.peers.wants.get(key) else { return };
        let hash: [u8; 20] = Sha1::digest(bytes).into();
        if bytes.len() > MAX_PICTURE || hash != want.hash {
            return;
        }
        self.peers.wants.retain(|(_, name), _| *name != key.1);
        let Some(found) = self.peers.all.get(key) else { return };
        let event = Event::Picture { instance: found.instance.clone(), bytes: bytes.to_vec() };
        self.outputs.push_back(Output::Event(event));
    }
}

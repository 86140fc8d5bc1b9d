//! Questions to the server about the outside, and its answers: one question of a user is under way at a time. *Pure.*

use crosstalk_overlay::core::{NoAnswer, Server};
use crosstalk_overlay::enrol::{Answer, Ask, Exchange, Exchanged, LETTERS, Letter};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::time::SECOND;
use crosstalk_storage::Tree;
use crosstalk_storage::tree::upstream::{Come, queued};

use super::{Asked, Way};
use crate::core::Core;

/// From one question to the next while somebody is here: the server takes a laptop that is silent for 75 s for gone.
const KEEP_ALIVE: u64 = 30 * SECOND;
/// Until the server is asked again that took nothing; each time twice as long, up to a minute.
const AGAIN: u64 = 2 * SECOND;
/// Questions of this kind at once.
const AT_ONCE: usize = 3;
/// Numbers of these questions; those of passes are smaller.
const FIRST_TICKET: u64 = 3 << 61;
/// Bytes of what is live beside letters.
const LIVE: usize = 8 * 1_024;

impl Core {
    /// The server has answered a device of the user: whether it has a way to the outside, and by which number it knows the
    /// device from now on.
    pub(in crate::core) fn way_opens(&mut self, user: UserId, session: u64, upstream: bool) {
        let home = self.accounts.get_mut(&user).and_then(|account| account.stored.server.as_mut());
        let Some(home) = home else { return };
        if home.upstream != upstream {
            home.upstream = upstream;
            self.save_account(&user);
        }
        if !upstream {
            return self.way_shuts(user);
        }
        let now = self.now.mono;
        let way = self.upstream.ways.entry(user).or_default();
        way.fresh |= way.session.is_none();
        (way.session, way.due) = (Some(session), now);
        self.stir(user);
    }

    /// The server does not answer, or not this device.
    pub(in crate::core) fn way_shuts(&mut self, user: UserId) {
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        (way.session, way.up, way.asking) = (None, false, false);
        way.live.clear();
        way.live_bytes = 0;
        // Another server may be asked next: nobody waits for what this one may still say.
        let overlay = &mut self.overlay;
        self.upstream.asked.retain(|ticket, asked| {
            if asked.user == user {
                overlay.withdraw_question(*ticket);
            }
            asked.user != user
        });
        self.nobody_outside_is_seen(user);
    }

    /// A server has something from outside for users here.
    pub(in crate::core) fn upstream_news(&mut self, node: NodeId) {
        let now = self.now.mono;
        let of_it = |user: &UserId| self.server_of(user).is_some_and(|(asked, _)| asked == node);
        let users: Vec<UserId> = self.upstream.ways.keys().filter(|user| of_it(user)).copied().collect();
        for user in users {
            if let Some(way) = self.upstream.ways.get_mut(&user) {
                way.due = now;
            }
            self.stir(user);
        }
    }

    /// There is something for the server.
    pub(super) fn stir_soon(&mut self, user: UserId) {
        let now = self.now.mono;
        if let Some(way) = self.upstream.ways.get_mut(&user) {
            (way.due, way.again) = (now, true);
        }
        self.plan_exchange();
    }

    /// Asks those servers that are due.
    pub(in crate::core) fn exchanges_due(&mut self) {
        let now = self.now.mono;
        let due = self.upstream.ways.iter().filter(|(_, way)| way.due <= now);
        let due: Vec<UserId> = due.map(|(user, _)| *user).collect();
        due.into_iter().for_each(|user| self.stir(user));
    }

    fn stir(&mut self, user: UserId) {
        let full = self.upstream.asked.len() >= AT_ONCE;
        let now = self.now.mono;
        let Some(way) = self.upstream.ways.get(&user) else { return };
        if let Some(session) = way.session.filter(|_| !way.asking && way.due <= now) {
            if full {
                let Some(way) = self.upstream.ways.get_mut(&user) else { return };
                way.due = now + SECOND / 4;
            } else {
                self.ask_outside(user, session);
            }
        }
        self.plan_exchange();
    }

    fn ask_outside(&mut self, user: UserId, session: u64) {
        let Some((node, places)) = self.server_of(&user) else { return };
        self.say_presence(user);
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        let (ask, fresh) = (way.question(session), way.fresh);
        (way.asking, way.again) = (true, false);
        way.tried = ask.letters.last().map_or(0, |letter| letter.number);
        let ticket = FIRST_TICKET + self.upstream.tickets;
        self.upstream.tickets += 1;
        self.upstream.asked.insert(ticket, Asked { user, session, fresh });
        let ask = Ask::Exchange(ask).to_bytes();
        // What it says of letters has to be durable here before.
        self.overlay.ask_server_durably(ticket, Server::At(node, places), ask, self.now);
    }

    /// An answer to such a question; false if the question was another's.
    pub(in crate::core) fn outside_said(
        &mut self,
        ticket: u64,
        answer: &Result<(NodeId, Vec<u8>), NoAnswer>,
    ) -> bool {
        let Some(Asked { user, session, fresh }) = self.upstream.asked.remove(&ticket) else {
            return ticket >= FIRST_TICKET;
        };
        let Some(way) = self.upstream.ways.get_mut(&user) else { return true };
        way.asking = false;
        way.due = self.now.mono + AGAIN;
        let answer = match answer {
            Ok((_, bytes)) => Answer::from_bytes(bytes),
            Err(NoAnswer::Busy) => {
                // What was live in the question was never said.
                way.fresh = true;
                self.plan_exchange();
                return true;
            }
            Err(_) => None,
        };
        // Another pass may have begun meanwhile: the server knows the device by its number, and has answered all the same.
        let another = way.session.is_some_and(|number| number != session);
        match answer {
            _ if way.session.is_none() => {}
            Some(Answer::Exchanged(answer)) if !another || way.fresh == fresh => self.exchanged(user, answer),
            _ if another => {
                // What was live in question and answer is lost.
                way.fresh = true;
                self.stir_soon(user);
            }
            _ => {
                self.way_shuts(user);
                self.look_again_for_server(user, Some(session));
            }
        }
        self.plan_exchange();
        true
    }

    fn exchanged(&mut self, user: UserId, answer: Exchanged) {
        let now = self.now.mono;
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        let was_up = std::mem::replace(&mut way.up, answer.up);
        let fresh = std::mem::take(&mut way.fresh);
        let before = way.come;
        if answer.queue != way.come.queue {
            way.come = Come { queue: answer.queue, sent: way.come.sent, ..Come::default() };
        }
        if fresh {
            self.renumber(user, answer.taken);
        }
        let progress = self.letters_taken(user, answer.taken);
        let all = self.letters_come(user, &answer.letters);
        self.contacts_changed(user, answer.contacts);
        for stanza in &answer.live {
            self.live_from_outside(user, stanza);
        }
        if was_up && !answer.up || answer.anew {
            self.nobody_outside_is_seen(user);
        }
        let somebody = !self.sessions_of(user, |session| session.presence.is_some()).is_empty();
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        way.fresh |= answer.anew;
        let in_vain = way.tried > 0 && !progress;
        way.vain = if in_vain { way.vain.saturating_add(1) } else { 0 };
        let acknowledge = way.come.letter != before.letter || way.come.queue != before.queue;
        let said = way.again || !way.live.is_empty() || !way.letters.is_empty() && !in_vain;
        way.due = match answer.more && all || acknowledge || said || way.fresh {
            true if all => now,
            _ if !way.letters.is_empty() => now + (AGAIN << way.vain.min(5)),
            _ if somebody || !all => now + KEEP_ALIVE,
            _ => u64::MAX,
        };
        if way.come != before {
            self.save_come(&user);
        }
    }

    /// What was sent before a back-up was put back has numbers that are used: what waits gets others.
    fn renumber(&mut self, user: UserId, taken: u64) {
        let Some(way) = self.upstream.ways.get_mut(&user) else { return };
        if taken <= way.next {
            return;
        }
        way.next = taken;
        way.come.sent = taken;
        let old = std::mem::take(&mut way.letters);
        for (number, letter) in old {
            let Some(way) = self.upstream.ways.get_mut(&user) else { return };
            way.next += 1;
            way.come.sent = way.next;
            let next = way.next;
            self.writes.delete(Tree::Upstream, queued(user.as_bytes(), number));
            self.writes.put(
                Tree::Upstream,
                queued(user.as_bytes(), next),
                crosstalk_storage::encode(&letter),
            );
            if let Some(way) = self.upstream.ways.get_mut(&user) {
                way.letters.insert(next, letter);
            }
        }
    }

    /// Letters up to this one are at the server. Whether there were any.
    fn letters_taken(&mut self, user: UserId, taken: u64) -> bool {
        let Some(way) = self.upstream.ways.get_mut(&user) else { return false };
        let rest = way.letters.split_off(&taken.saturating_add(1));
        let gone = std::mem::replace(&mut way.letters, rest);
        for (number, letter) in &gone {
            way.bytes -= letter.stanza.len();
            self.writes.delete(Tree::Upstream, queued(user.as_bytes(), *number));
        }
        !gone.is_empty()
    }
}

impl Way {
    fn question(&mut self, session: u64) -> Exchange {
        let (queue, come, version) = (self.come.queue, self.come.letter, self.come.version);
        let mut ask = Exchange { session, queue, come, version, fresh: self.fresh, ..Exchange::default() };
        let most = if self.fresh { 2 * LETTERS } else { LIVE };
        let mut bytes = 0;
        while let Some(next) = self.live.front()
            && (ask.live.is_empty() || bytes + next.len() <= most)
            && let Some(next) = self.live.pop_front()
        {
            bytes += next.len();
            self.live_bytes -= next.len();
            ask.live.push(next);
        }
        // What is live and long has the question for itself, as has the first of all.
        if bytes > LIVE || self.fresh {
            return ask;
        }
        bytes = 0;
        for (number, letter) in &self.letters {
            if !ask.letters.is_empty() && bytes + letter.stanza.len() > LETTERS {
                break;
            }
            bytes += letter.stanza.len();
            let stanza = letter.stanza.clone();
            ask.letters.push(Letter { number: *number, at: letter.at, stanza, copy: false });
        }
        ask
    }
}

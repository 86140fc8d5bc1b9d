//! Messages held until a client has acknowledged them: put before the sender is told, handed over, taken out on the
//! client's word. *Pure.*

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::inbox::{InboxEntry, key};

use crate::features::{carbons, delay};
use crate::xmpp::{Condition, Kind, Stanza, StanzaError};

use super::account::{Held, Inbox};
use super::message::{Arrival, Delivered, is_durable};
use super::session::{Session, SessionId, Unacked};
use super::{Core, Origin};

/// Held messages on their way to one session; the rest follows its acknowledgements.
const WINDOW: usize = 100;
/// Bytes of them.
const WINDOW_BYTES: usize = 256 << 10;

impl Core {
    /// Holds a message for an account. Returns its number. While the store cannot write it waits in memory with what
    /// depends on it, such as the receipt: the node that sent it keeps it until then.
    ///
    /// # Errors
    /// `resource-constraint` when the account holds as many as it may.
    pub(super) fn hold(&mut self, user: UserId, message: &Stanza, id: [u8; 16]) -> Result<u64, StanzaError> {
        let (arrived, number) = (self.now.wall, self.next_held);
        let held = Held { stanza: message.to_bytes(), message: id, arrived, session: None };
        let bytes = Inbox::bytes_of(&held);
        let node_full = self.held_bytes + bytes > self.settings.held_bytes;
        let (limit, most) = (self.settings.inbox_limit, self.settings.inbox_bytes);
        let Some(account) = self.accounts.get_mut(&user) else { return Err(Condition::ItemNotFound.into()) };
        if node_full || account.inbox.len() >= limit || account.inbox.bytes() + bytes > most {
            let text = "too many messages wait for this user already: try again when some were read";
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        self.next_held += 1;
        self.held_bytes += account.inbox.insert(number, held);
        self.save_held(&user, number, 0);
        Ok(number)
    }

    /// Holds a message for an account that has nobody to take it now.
    pub(super) fn hold_for_later(&mut self, user: UserId, message: Stanza, arrival: Arrival) -> Delivered {
        match self.hold(user, &message, arrival.message) {
            Ok(_) => Delivered::Taken,
            Err(error) => Delivered::Refused(error),
        }
    }

    /// Notes which session a held message was written to, so that it is known after a restart.
    pub(super) fn assign_held(&mut self, id: SessionId, number: u64, sequence: u32) {
        let Some(user) = self.session(id).map(|session| session.user) else { return };
        if is_on(Mutant::ReleaseWhenSent) {
            return self.release_held(&user, number);
        }
        if let Some(account) = self.accounts.get_mut(&user) {
            account.inbox.assign(number, Some(id));
            self.save_held(&user, number, sequence);
        }
    }

    fn save_held(&mut self, user: &UserId, number: u64, sequence: u32) {
        let Some(held) = self.accounts.get(user).and_then(|account| account.inbox.get(number)) else {
            return;
        };
        let resumable = |id| {
            let session = self.session(id)?;
            session.management.as_ref().filter(|management| management.resumable)?;
            Some(session.stream.to_vec())
        };
        let entry = InboxEntry {
            stanza: held.stanza.clone(),
            message: held.message.to_vec(),
            arrived: held.arrived,
            session: held.session.and_then(resumable).unwrap_or_default(),
            sequence,
        };
        if !is_on(Mutant::HoldInMemory) {
            self.writes.put(Tree::Inbox, key(user.as_bytes(), number), encode(&entry));
        }
    }

    /// News for an account that may turn out true: written now, told by [`Self::tell_news`], or by the next start if
    /// there is none of that before. Returns its number.
    pub(super) fn reserve_news(&mut self, user: &UserId, news: &Stanza) -> u64 {
        let number = self.news_number();
        let entry = InboxEntry {
            stanza: news.to_bytes(),
            message: vec![0; 16],
            arrived: self.now.wall,
            session: Vec::new(),
            sequence: 0,
        };
        self.writes.put(Tree::Inbox, key(user.as_bytes(), number), encode(&entry));
        number
    }

    /// A number for news; for such as are told at once nothing has to be reserved.
    pub(super) fn news_number(&mut self) -> u64 {
        let number = self.next_held;
        self.next_held += 1;
        number
    }

    /// It did not turn out true.
    pub(super) fn erase_news(&mut self, user: &UserId, number: u64) {
        self.writes.delete(Tree::Inbox, key(user.as_bytes(), number));
    }

    /// It did: to the session that it is for, else to the next that takes messages.
    pub(super) fn tell_news(&mut self, user: UserId, number: u64, news: &Stanza) {
        let arrived = self.now.wall;
        let held = Held { stanza: news.to_bytes(), message: [0; 16], arrived, session: None };
        let Some(account) = self.accounts.get_mut(&user) else { return self.erase_news(&user, number) };
        self.held_bytes += account.inbox.insert(number, held);
        self.save_held(&user, number, 0);
        let session = news.to.as_ref().and_then(|to| self.session_at(&user, to));
        if let Some(session) = session.or_else(|| self.top_sessions(user).first().copied()) {
            self.send(session, news.clone(), Some(number), true);
        }
    }

    /// A client has the message: it is not held any longer.
    pub(super) fn release_held(&mut self, user: &UserId, number: u64) {
        if is_on(Mutant::KeepHeld) {
            return;
        }
        if let Some(bytes) = self.accounts.get_mut(user).and_then(|account| account.inbox.remove(number)) {
            self.held_bytes -= bytes;
            self.writes.delete(Tree::Inbox, key(user.as_bytes(), number));
        }
    }

    /// What only a session without a connection has waits for whoever is here, who may be the same person with the same
    /// program. Should that session be resumed, it has it too.
    pub(super) fn held_for_nobody_present(&mut self, user: UserId) {
        let held = self.accounts.get(&user).into_iter().flat_map(|account| account.inbox.iter());
        let absent = held.filter(|(_, held)| held.session.is_some_and(|id| !self.is_connected(id)));
        let absent: Vec<u64> = absent.map(|(number, _)| number).collect();
        let Some(account) = self.accounts.get_mut(&user) else { return };
        absent.into_iter().for_each(|number| account.inbox.assign(number, None));
    }

    /// Writes what no session has to one that takes messages, oldest first, with the time of arrival (XEP-0160,
    /// XEP-0203). No more than [`WINDOW`] is on its way; the rest follows the client's acknowledgements. `fresh` came
    /// just now and needs no stamp.
    pub(super) fn flush_inbox(&mut self, user: UserId, id: SessionId, fresh: Option<(u64, &Stanza)>) {
        let (mut count, mut bytes) = self.on_the_way(user, id);
        while count < WINDOW && bytes < WINDOW_BYTES {
            let Some(inbox) = self.accounts.get(&user).map(|account| &account.inbox) else { return };
            let Some(number) = inbox.first_waiting() else { return };
            let Some(held) = inbox.get(number) else { return };
            count += 1;
            bytes += held.stanza.len();
            let stanza = match fresh {
                Some((fresh, stanza)) if fresh == number => Ok(stanza.clone()),
                Some(_) | None => self.with_delay(held),
            };
            match stanza {
                Ok(stanza) => self.send(id, stanza, Some(number), true),
                Err(_) => {
                    self.count("held messages that could not be read");
                    self.release_held(&user, number);
                }
            }
            if self.session(id).is_none() {
                return;
            }
        }
    }

    fn with_delay(&self, held: &Held) -> Result<Stanza, String> {
        let mut stanza = Stanza::read(&held.stanza)?;
        delay::stamp(&mut stanza, &self.domain(), held.arrived);
        Ok(stanza)
    }

    /// Messages, and their bytes, that a session was sent from the inbox and has not acknowledged.
    fn on_the_way(&self, user: UserId, id: SessionId) -> (usize, usize) {
        let (Some(session), Some(account)) = (self.session(id), self.accounts.get(&user)) else {
            return (0, 0);
        };
        let sizes = |numbers: &mut dyn Iterator<Item = u64>| {
            let sizes = numbers.filter_map(|number| account.inbox.get(number)).map(|held| held.stanza.len());
            sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
        };
        match &session.management {
            Some(management) => sizes(&mut management.unacked.iter().filter_map(|unacked| unacked.held)),
            None => sizes(&mut session.written.unproved.iter().copied()),
        }
    }

    /// A client acknowledged something: what waits follows.
    pub(super) fn continue_inbox(&mut self, user: UserId, id: SessionId) {
        let waits = self.accounts.get(&user).is_some_and(|account| account.inbox.waiting() > 0);
        if waits && self.session(id).is_some_and(Session::takes_messages) {
            self.flush_inbox(user, id, None);
        }
    }

    /// What an ended session did not acknowledge: held messages that no other session has wait for one; of the rest,
    /// messages are delivered anew and requests are answered.
    pub(super) fn return_unacked(&mut self, id: SessionId, session: Session) {
        let user = session.user;
        let unacked = session.management.map(|management| management.unacked).unwrap_or_default();
        let held = unacked.iter().filter_map(|unacked| unacked.held).chain(session.written.unproved);
        for number in held.collect::<Vec<_>>() {
            let Some(account) = self.accounts.get_mut(&user) else { return };
            if account.inbox.get(number).is_none_or(|held| held.session != Some(id)) {
                continue;
            }
            let other =
                account.sessions.iter().find_map(|other| has_held(*other, self.sessions.get(other)?, number));
            account.inbox.assign(number, other.map(|(other, _)| other));
            self.save_held(&user, number, other.map_or(0, |(_, sequence)| sequence));
        }
        for Unacked { stanza, .. } in
            unacked.into_iter().filter(|unacked| unacked.held.is_none() && !unacked.copy)
        {
            self.return_stanza(user, stanza);
        }
        if let Some(other) = self.top_sessions(user).first().copied() {
            self.continue_inbox(user, other);
        }
    }

    fn return_stanza(&mut self, user: UserId, stanza: Stanza) {
        match stanza.kind {
            Kind::Message if is_durable(&stanza) && !carbons::is_copy(&stanza) => {
                let message = crate::features::stanza_id::read(&stanza).unwrap_or_default();
                let arrival = Arrival { message, promised: false, sent: None };
                if let Delivered::Refused(error) = self.deliver_message(user, stanza.clone(), arrival) {
                    self.bounce_to_sender(&stanza, &error);
                }
            }
            Kind::Iq if stanza.is_request() => {
                self.bounce_to_sender(&stanza, &Condition::ServiceUnavailable.into());
            }
            Kind::Message | Kind::Presence | Kind::Iq => {}
        }
    }

    /// Answers a stanza with an error when only its `from` tells where it came from.
    fn bounce_to_sender(&mut self, stanza: &Stanza, error: &StanzaError) {
        let Some(from) = &stanza.from else { return };
        let origin = match self.route(from) {
            super::router::Route::Overlay(user) => Origin::Remote(user),
            super::router::Route::Outside => {
                let to = stanza.to.as_ref().map(jid::Jid::to_bare);
                let user = to.and_then(|to| self.accounts.by_address(to.as_str()));
                user.map_or(Origin::Local, Origin::Outside)
            }
            _ => Origin::Local,
        };
        self.bounce(origin, stanza, error);
    }

    /// Delivers an answer of the node to somebody here, by its `to`.
    pub(super) fn deliver_answer(&mut self, answer: Stanza) {
        let Some(to) = answer.to.clone() else { return };
        let super::router::Route::Local(user) = self.route(&to) else { return };
        match answer.kind {
            Kind::Message => {
                let arrival = Arrival { message: [0; 16], promised: false, sent: None };
                self.deliver_message(user, answer, arrival);
            }
            Kind::Iq => {
                let by =
                    answer.from.as_ref().and_then(|from| self.accounts.by_address(from.to_bare().as_str()));
                if let Some(by) = by {
                    self.answered(by, answer);
                }
            }
            Kind::Presence => {
                if let Some(session) = self.session_at(&user, &to) {
                    self.send(session, answer, None, false);
                }
            }
        }
    }
}

/// Whether a session was sent a held message, and as which of its stanzas.
fn has_held(id: SessionId, session: &Session, number: u64) -> Option<(SessionId, u32)> {
    match &session.management {
        Some(management) => {
            let unacked = management.unacked.iter().find(|unacked| unacked.held == Some(number))?;
            Some((id, unacked.sequence))
        }
        None => session.written.unproved.contains(&number).then_some((id, 0)),
    }
}

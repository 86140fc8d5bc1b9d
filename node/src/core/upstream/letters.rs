//! Messages, requests and answers between users here and the outside. *Pure.*

use crosstalk_overlay::enrol::{Letter, MAX_LETTER};
use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::upstream::{HeldStanza, queued};
use crosstalk_storage::{Tree, encode};
use jid::Jid;
use sha2::{Digest as _, Sha256};

use super::{ALL_LETTERS, BYTES, LETTERS, LIVE, LIVE_BYTES};
use crate::core::message::{Arrival, Delivered, first16, is_durable, is_only_chat_state, unreachable_name};
use crate::core::remote::NOTICEABLE;
use crate::core::router::Route;
use crate::core::session::SessionId;
use crate::core::{Core, Origin};
use crate::xmpp::{Condition, Kind, Stanza, StanzaError, Type};

/// What a sender is told who has no way to the outside.
pub(super) fn no_way() -> StanzaError {
    unreachable_name(Condition::RemoteServerNotFound)
}

fn too_long() -> StanzaError {
    let text = format!("a stanza for another server has at most {MAX_LETTER} bytes here");
    StanzaError::new(Condition::PolicyViolation, text)
}

impl Core {
    /// A message of a local user to somebody outside. Returns whether it was taken.
    pub(in crate::core) fn message_outside(
        &mut self,
        origin: Origin,
        user: UserId,
        message: &Stanza,
    ) -> bool {
        let taken = match (self.has_way(&user), is_durable(message)) {
            (false, _) => Err(no_way()),
            (true, true) => self.write_letter(user, message),
            (true, false) => self.say_outside(user, message),
        };
        match taken {
            Ok(()) => true,
            // Nobody waits for a chat state.
            Err(_) if is_only_chat_state(message) && self.has_way(&user) => false,
            Err(error) => {
                self.bounce(origin, message, &error);
                false
            }
        }
    }

    /// Puts a stanza where it waits for the server.
    ///
    /// # Errors
    /// What its sender is told: there is no room.
    pub(super) fn write_letter(&mut self, user: UserId, stanza: &Stanza) -> Result<(), StanzaError> {
        let letter = HeldStanza { at: self.now.wall, stanza: stanza.to_bytes(), ..HeldStanza::default() };
        if letter.stanza.len() > MAX_LETTER {
            return Err(too_long());
        }
        let all = self.letters_waiting();
        let way = self.upstream.ways.entry(user).or_default();
        let bytes = way.bytes + letter.stanza.len();
        if way.letters.len() >= LETTERS || bytes > BYTES || all >= ALL_LETTERS {
            let text = "too many messages wait for the server of your domain to take them to other servers";
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        way.next += 1;
        way.come.sent = way.next;
        self.writes.put(Tree::Upstream, queued(user.as_bytes(), way.next), encode(&letter));
        way.bytes = bytes;
        way.letters.insert(way.next, letter);
        self.save_come(&user);
        self.stir_soon(user);
        Ok(())
    }

    /// Says something outside now or never.
    ///
    /// # Errors
    /// What its sender is told: the server cannot be reached, or its link to the outside is down.
    pub(super) fn say_outside(&mut self, user: UserId, stanza: &Stanza) -> Result<(), StanzaError> {
        let bytes = stanza.to_bytes();
        if bytes.len() > MAX_LETTER {
            return Err(too_long());
        }
        let way = self.upstream.ways.get_mut(&user).filter(|way| way.session.is_some() && way.up);
        let Some(way) = way else {
            let text = "the server of your domain, which leads to other servers, cannot be reached now";
            let condition = match stanza.kind {
                Kind::Iq => Condition::RemoteServerTimeout,
                Kind::Message | Kind::Presence => Condition::RecipientUnavailable,
            };
            return Err(StanzaError::new(condition, text));
        };
        if way.live.len() >= LIVE || way.live_bytes + bytes.len() > LIVE_BYTES {
            let text = "too much is sent to other servers at once: try again later";
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        way.live_bytes += bytes.len();
        way.live.push_back(bytes);
        self.stir_soon(user);
        Ok(())
    }

    /// An IQ of a client for somebody outside.
    pub(in crate::core) fn iq_outside(&mut self, id: SessionId, user: UserId, iq: &Stanza) {
        let said = if self.has_way(&user) { self.say_outside(user, iq) } else { Err(no_way()) };
        match said {
            Ok(()) if iq.is_request() => self.note_request_outside(id, iq, user),
            Ok(()) => {}
            Err(error) => self.bounce(Origin::Session(id), iq, &error),
        }
    }

    /// An answer of this node to somebody outside.
    pub(in crate::core) fn answer_outside(&mut self, user: UserId, answer: &Stanza) {
        if self.say_outside(user, answer).is_err() {
            self.count("answers to people outside for which there was no way");
        }
    }

    /// Letters from outside, in their order. False if one could not be taken now: it comes again, with those behind it.
    pub(super) fn letters_come(&mut self, user: UserId, letters: &[Letter]) -> bool {
        for letter in letters {
            let Some(way) = self.upstream.ways.get(&user) else { return true };
            if letter.number <= way.come.letter {
                continue;
            }
            let (queue, number) = (way.come.queue, letter.number);
            if !letter.stanza.is_empty() && !self.letter_comes(user, queue, letter) {
                return false;
            }
            if let Some(way) = self.upstream.ways.get_mut(&user) {
                way.come.letter = number;
            }
        }
        true
    }

    fn letter_comes(&mut self, user: UserId, queue: u64, letter: &Letter) -> bool {
        let mut digest = Sha256::new_with_prefix(b"crosstalk letter");
        digest.update(queue.to_be_bytes());
        digest.update(letter.number.to_be_bytes());
        let id = first16(&digest.finalize());
        if letter.copy {
            match self.own_stanza(user, &letter.stanza) {
                Some(stanza) => self.copy_from_own_device(user, &stanza, id),
                None => self.count("copies from the server that are none"),
            }
            return true;
        }
        let Some(mut stanza) = self.stanza_from_outside(user, &letter.stanza) else {
            self.count("letters from the server that are not from outside");
            return true;
        };
        if stanza.kind != Kind::Message {
            return true;
        }
        if stanza.type_ == Type::Error {
            let number = self.news_number();
            self.tell_news(user, number, &stanza);
            return true;
        }
        // The session may be on another laptop of the user: all of them have the message.
        if stanza.to.as_ref().is_some_and(|to| self.session_at(&user, to).is_none()) {
            stanza.to = stanza.to.map(|to| to.to_bare().into());
        }
        let late = self.now.wall.saturating_sub(letter.at) > NOTICEABLE;
        let arrival = Arrival { message: id, promised: true, sent: late.then_some(letter.at) };
        let back = stanza.error_base();
        match self.deliver_message(user, stanza, arrival) {
            Delivered::Taken | Delivered::Dropped => true,
            // The server keeps it until there is room.
            Delivered::Refused(error) if error.condition == Condition::ResourceConstraint => false,
            Delivered::Refused(error) => {
                self.bounce(Origin::Outside(user), &back, &error);
                true
            }
        }
    }

    /// A stanza that the server has from outside, for this user alone, and in nobody's name that the overlay knows.
    pub(super) fn stanza_from_outside(&self, user: UserId, bytes: &[u8]) -> Option<Stanza> {
        let stanza = Stanza::read_from_peer(bytes).ok()?;
        let own = &self.accounts.get(&user)?.jid;
        let for_user = stanza.to.as_ref().is_some_and(|to| to.to_bare() == *own);
        let outside = stanza.from.as_ref().is_some_and(|from| self.route(from) == Route::Outside);
        (for_user && outside).then_some(stanza)
    }

    /// What another device of the user has sent outside.
    fn own_stanza(&self, user: UserId, bytes: &[u8]) -> Option<Stanza> {
        let stanza = Stanza::read_from_peer(bytes).ok()?;
        let own = &self.accounts.get(&user)?.jid;
        let by_user = stanza.from.as_ref().is_some_and(|from| from.to_bare() == *own);
        let outside = stanza.to.as_ref().is_some_and(|to| self.route(to) == Route::Outside);
        (by_user && outside && stanza.kind == Kind::Message).then_some(stanza)
    }

    /// Something from outside for now or never.
    pub(super) fn live_from_outside(&mut self, user: UserId, bytes: &[u8]) {
        let Some(stanza) = self.stanza_from_outside(user, bytes) else {
            return self.count("stanzas from the server that are not from outside");
        };
        let blocked = |from: &Jid| self.accounts.get(&user).is_some_and(|account| account.blocks(from));
        if stanza.from.as_ref().is_some_and(blocked) {
            return self.bounce(Origin::Outside(user), &stanza, &Condition::ServiceUnavailable.into());
        }
        match stanza.kind {
            Kind::Presence => self.presence_from_outside(user, stanza),
            Kind::Iq if stanza.is_request() => self.iq_for_local(Origin::Outside(user), user, stanza),
            Kind::Iq => self.answered_outside(user, stanza),
            Kind::Message if is_durable(&stanza) => self.count("durable messages sent as live ones"),
            Kind::Message => {
                let arrival = Arrival { message: [0; 16], promised: false, sent: None };
                self.deliver_message(user, stanza, arrival);
            }
        }
    }
}

//! Messages: their class, their way to a local user, copies (RFC 6121 §5 and §8, XEP-0280, XEP-0334). *Pure.*

use crosstalk_overlay::core::{Outgoing, Reach};
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::{MessageId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use jid::Jid;
use sha2::{Digest, Sha256};

use crate::features::{carbons, delay, stanza_id};
use crate::xmpp::{Condition, Stanza, StanzaError, Type, ns};

use super::router::Route;
use super::session::{Session, SessionId};
use super::{Core, Origin};

/// What is known of a message beside the stanza.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Derived where it was sent: the same message sent again has the same id.
    pub(crate) message: [u8; 16],
    /// The sender was or will be told that it is safe: it must be held here until a client has it.
    pub(crate) promised: bool,
    /// When it was sent, if that was noticeably before now; unix milliseconds.
    pub(crate) sent: Option<u64>,
}

/// What became of a message for a local user.
#[derive(Debug)]
pub(crate) enum Delivered {
    /// Written to a session, or held for one.
    Taken,
    /// Not for the eyes of anybody here; the sender is not told.
    Dropped,
    /// The sender is told why.
    Refused(StanzaError),
}

/// Whether a message is durable (DESIGN.md §5): one to one, with content that a person would miss.
pub(crate) fn is_durable(message: &Stanza) -> bool {
    if !matches!(message.type_, Type::Normal | Type::Chat) {
        return false;
    }
    let hint = |name| message.has(name, ns::HINTS);
    if hint("no-store") || hint("no-permanent-store") {
        return false;
    }
    hint("store") || message.payload.iter().any(|child| !is_ephemeral(child))
}

fn is_ephemeral(child: &crate::xmpp::Element) -> bool {
    matches!(child.ns(), ns::CHAT_STATES | ns::HINTS | ns::STANZA_ID | ns::DELAY)
        || child.is("thread", ns::CLIENT)
        || child.is("request", ns::RECEIPTS)
}

/// Whether a message says no more than that somebody types, or stopped (XEP-0085).
pub(crate) fn is_only_chat_state(message: &Stanza) -> bool {
    message.payload.iter().all(is_ephemeral)
        && message.payload.iter().any(|child| child.ns() == ns::CHAT_STATES)
}

impl Core {
    pub(super) fn message_from_client(&mut self, id: SessionId, mut message: Stanza) {
        let Some(session) = self.session(id) else { return };
        let (user, promised) = (session.user, session.management.is_some());
        let arrival = Arrival { message: self.message_id(id), promised, sent: None };
        let Some(account) = self.accounts.get(&user) else { return };
        let to = message.to.get_or_insert_with(|| Jid::from(account.jid.clone())).clone();
        if account.blocks(&to) {
            return self.bounce(Origin::Session(id), &message, &crate::features::blocking::blocked_by_you());
        }
        let durable = is_durable(&message);
        if durable && let Some(error) = self.store_error() {
            return self.bounce(Origin::Session(id), &message, &error);
        }
        let copy = carbons::wants_copy(&message).then(|| message.clone());
        if self.send_message(Origin::Session(id), user, message, arrival) {
            if promised && durable {
                self.dirty.insert(id);
            }
            if let Some(copy) = copy {
                self.copy_sent(id, user, &to, copy);
            }
        }
    }

    /// Routes a message of a local user. Returns whether it was taken.
    fn send_message(&mut self, origin: Origin, user: UserId, message: Stanza, arrival: Arrival) -> bool {
        let Some(to) = message.to.as_ref() else { return false };
        let route = self.route(to);
        if let Route::Overlay(_) = route {
            // What was said to the same name before it was known comes first.
            self.name_is_met(to);
        }
        match route {
            Route::Local(other) => {
                let back = message.error_base();
                match self.deliver_message(other, message, arrival) {
                    Delivered::Taken | Delivered::Dropped => true,
                    Delivered::Refused(error) => {
                        self.bounce(origin, &back, &error);
                        false
                    }
                }
            }
            Route::Overlay(other) => self.message_to_remote(origin, user, other, message, arrival),
            Route::Name(name) => self.message_to_name(origin, user, &name, &message, arrival),
            Route::Link(instance) => self.message_to_link(origin, user, &instance, message, arrival.promised),
            Route::Outside => self.message_outside(origin, user, &message),
            Route::Here => {
                let error =
                    StanzaError::new(Condition::ServiceUnavailable, "this node itself takes no messages");
                self.bounce(origin, &message, &error);
                false
            }
            Route::Refuse(condition) => {
                self.bounce(origin, &message, &unreachable_name(condition));
                false
            }
        }
    }

    fn message_to_remote(
        &mut self,
        origin: Origin,
        from: UserId,
        to: UserId,
        message: Stanza,
        arrival: Arrival,
    ) -> bool {
        if !is_durable(&message) {
            return match self.live_to_remote(from, to, &message) {
                Ok(()) => true,
                Err(error) => {
                    // Nobody waits for a chat state, and RFC 6121 lets a headline be dropped.
                    if !is_only_chat_state(&message) {
                        self.bounce(origin, &message, &error);
                    }
                    false
                }
            };
        }
        let content = content_of(&message);
        let id = MessageId::from_bytes(arrival.message);
        match self.overlay.send(Outgoing { id, from, to, content, expires: None }, self.now) {
            Ok(()) => true,
            Err(full) => {
                let error = StanzaError::new(Condition::ResourceConstraint, full.to_string());
                self.bounce(origin, &message, &error);
                false
            }
        }
    }

    /// Copies of what a user sent: to the user's other sessions here, and to its other devices.
    fn copy_sent(&mut self, id: SessionId, user: UserId, to: &Jid, message: Stanza) {
        // XEP-0280 §7: what is sent to the own account reaches its other sessions as received, if not itself.
        if self.route(to) != Route::Local(user) {
            self.carbon(user, &[id], carbons::Direction::Sent, &message);
        }
        self.copy_to_own_devices(user, self.message_id(id), to, &message);
    }

    /// The same for the user's other devices alone; `id`: the message's own.
    pub(super) fn copy_to_own_devices(&mut self, user: UserId, id: [u8; 16], to: &Jid, message: &Stanza) {
        let (Route::Local(peer) | Route::Overlay(peer)) = self.route(to) else { return };
        let nobody = self.overlay.reach(&user) == Reach::Unknown || is_on(Mutant::CopiesForgotten);
        if !is_durable(message) || nobody {
            return;
        }
        let Content::Stanza { from_resource, to_resource, xml } = content_of(message) else { return };
        let mut digest = Sha256::new_with_prefix(b"crosstalk copy");
        digest.update(id);
        let copy = Outgoing {
            id: MessageId::from_bytes(first16(&digest.finalize())),
            from: user,
            to: user,
            content: Content::Copy { to: peer, from_resource, to_resource, xml },
            expires: None,
        };
        if self.overlay.send(copy, self.now).is_err() {
            self.count("copies for own devices that found the outbox full");
        }
    }

    /// Delivers a message to an account by the rules of RFC 6121 §8.5, whoever sent it.
    pub(crate) fn deliver_message(
        &mut self,
        user: UserId,
        mut message: Stanza,
        arrival: Arrival,
    ) -> Delivered {
        let Some(account) = self.accounts.get(&user) else {
            return Delivered::Refused(Condition::ItemNotFound.into());
        };
        if message.from.as_ref().is_some_and(|from| account.blocks(from)) {
            self.count("messages from blocked addresses");
            return Delivered::Refused(Condition::ServiceUnavailable.into());
        }
        let targets = match self.targets(user, &message) {
            Ok(targets) => targets,
            Err(delivered) => return delivered,
        };
        stanza_id::stamp(&mut message, account.jid.as_str(), &arrival.message);
        if let Some(sent) = arrival.sent {
            delay::stamp(&mut message, &self.domain(), sent);
        }
        let own = message.from.as_ref().is_some_and(|from| from.to_bare() == account.jid);
        let durable = is_durable(&message);
        let Some((&first, others)) = targets.split_first() else {
            return self.hold_for_later(user, message, arrival);
        };
        let away = !self.is_connected(first);
        // A session with negative priority gets what is for it alone, and nothing that waits.
        let takes = self.session(first).is_some_and(Session::takes_messages);
        let behind = takes && self.accounts.get(&user).is_some_and(|account| account.inbox.waiting() > 0);
        let held = match durable && (arrival.promised || away || behind) {
            false => None,
            true => match self.hold(user, &message, arrival.message) {
                Ok(held) => Some(held),
                Err(error) => return Delivered::Refused(error),
            },
        };
        let copy = carbons::wants_copy(&message);
        message.remove("private", ns::CARBONS);
        match held {
            Some(number) if takes => self.flush_inbox(user, first, Some((number, &message))),
            held => self.send(first, message.clone(), held, arrival.promised),
        }
        // Behind a backlog it is like any message that waited: for one session, without copies (XEP-0280 §6.1).
        if held.is_some_and(|number| self.is_waiting(user, number)) {
            return Delivered::Taken;
        }
        if copy {
            let sender = message.from.as_ref().and_then(|from| self.session_at(&user, from));
            let except: Vec<_> = targets.iter().copied().chain(sender.filter(|_| own)).collect();
            self.carbon(user, &except, carbons::Direction::Received, &message);
        }
        for other in others {
            self.send_copy(*other, message.clone(), held, arrival.promised);
        }
        Delivered::Taken
    }

    /// Whether a held message has to wait for its turn.
    fn is_waiting(&self, user: UserId, number: u64) -> bool {
        let held = self.accounts.get(&user).and_then(|account| account.inbox.get(number));
        held.is_some_and(|held| held.session.is_none())
    }

    /// The sessions that a message goes to; none: it is held. `Err` where it goes to nobody.
    fn targets(&self, user: UserId, message: &Stanza) -> Result<Vec<SessionId>, Delivered> {
        let to = message.to.as_ref();
        let full = to.filter(|to| super::nearby::session_of(to).is_some());
        if let Some(session) = full.and_then(|to| self.session_at(&user, to)) {
            return Ok(vec![session]);
        }
        match message.type_ {
            Type::Error => Err(Delivered::Dropped),
            Type::Groupchat => Err(Delivered::Refused(Condition::ServiceUnavailable.into())),
            // RFC 6121 §8.5.3.2.1: what is no chat is for that session and nobody else; of more than an alert the sender
            // is told.
            Type::Normal if full.is_some() => Err(Delivered::Refused(Condition::ServiceUnavailable.into())),
            Type::Headline if full.is_some() => Err(Delivered::Dropped),
            Type::Headline => match self.available_sessions(user, |_| true) {
                sessions if sessions.is_empty() => Err(Delivered::Dropped),
                sessions => Ok(sessions),
            },
            _ => match self.top_sessions(user) {
                sessions if sessions.is_empty() && !is_durable(message) => Err(Delivered::Dropped),
                sessions => Ok(sessions),
            },
        }
    }

    /// Sessions of the highest priority that is not negative; those that are connected first.
    pub(super) fn top_sessions(&self, user: UserId) -> Vec<SessionId> {
        let all = self.available_sessions(user, |_| true);
        let priority = |id: &SessionId| self.session(*id).and_then(|session| session.priority());
        let top = all.iter().filter_map(priority).max();
        let mut sessions: Vec<_> = all.into_iter().filter(|id| priority(id) == top).collect();
        sessions.sort_by_key(|id| !self.is_connected(*id));
        sessions
    }

    fn available_sessions(&self, user: UserId, also: impl Fn(SessionId) -> bool) -> Vec<SessionId> {
        let Some(account) = self.accounts.get(&user) else { return Vec::new() };
        let takes =
            |id: &SessionId| self.session(*id).is_some_and(|session| session.takes_messages()) && also(*id);
        account.sessions.iter().copied().filter(takes).collect()
    }

    /// Sends carbons to the sessions that enabled them, but for those that have the message itself.
    fn carbon(
        &mut self,
        user: UserId,
        except: &[SessionId],
        direction: carbons::Direction,
        message: &Stanza,
    ) {
        let account = self.accounts.get(&user).filter(|_| !is_on(Mutant::CarbonsForgotten));
        let Some(account) = account else { return };
        let typing = is_only_chat_state(message);
        let carbons = |session: &Session| session.carbons && !(typing && session.inactive.is_some());
        let wants = |id: &SessionId| !except.contains(id) && self.session(*id).is_some_and(carbons);
        let sessions: Vec<_> = account.sessions.iter().copied().filter(wants).collect();
        let bare = account.jid.clone();
        for id in sessions {
            let Some(session) = self.session(id) else { continue };
            let copy = carbons::wrap(direction, message, &bare, session.jid.clone().into());
            // Shown only once it is known for good that it was: after a crash it would come again.
            self.send(id, copy, None, is_durable(message));
        }
    }

    /// A message that another device of the user sent: shown to this device's sessions as a carbon; if nobody is here, to
    /// the next that comes.
    pub(super) fn copy_from_own_device(&mut self, user: UserId, message: &Stanza, id: [u8; 16]) {
        if self.top_sessions(user).first().is_some_and(|first| self.is_connected(*first)) {
            return self.carbon(user, &[], carbons::Direction::Sent, message);
        }
        let Some(account) = self.accounts.get(&user) else { return };
        let bare = account.jid.clone();
        let copy = carbons::wrap(carbons::Direction::Sent, message, &bare, bare.clone().into());
        if self.hold(user, &copy, id).is_err() {
            self.count("copies of own devices that found no room");
        }
    }

    /// Id of the message that is being handled: what a client sends again after a resumption has the same one.
    fn message_id(&self, id: SessionId) -> [u8; 16] {
        let Some(session) = self.session(id) else { return [0; 16] };
        let device =
            self.accounts.get(&session.user).map(|account| *account.device.as_bytes()).unwrap_or_default();
        let mut digest = Sha256::new_with_prefix(b"crosstalk message");
        digest.update(device);
        digest.update(session.stream);
        digest.update(session.inbound.to_be_bytes());
        first16(&digest.finalize())
    }

    /// Why nothing durable is taken now, if so.
    pub(crate) fn store_error(&self) -> Option<StanzaError> {
        let trouble = self.store_trouble.as_ref()?;
        Some(StanzaError::new(Condition::ResourceConstraint, format!("nothing can be saved now: {trouble}")))
    }
}

pub(super) fn first16(digest: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

/// A stanza's content for the overlay: addresses are keys there.
pub(super) fn content_of(stanza: &Stanza) -> Content {
    let resource = |jid: Option<&Jid>| {
        jid.and_then(Jid::resource).map(|resource| resource.as_str().to_owned()).unwrap_or_default()
    };
    let (from_resource, to_resource) = (resource(stanza.from.as_ref()), resource(stanza.to.as_ref()));
    let bare = Stanza { from: None, to: None, ..stanza.clone() };
    Content::Stanza { from_resource, to_resource, xml: bare.to_bytes() }
}

/// The error for an address that leads nowhere, with what a person can do.
pub(crate) fn unreachable_name(condition: Condition) -> StanzaError {
    let text = match condition {
        Condition::RecipientUnavailable => "nobody of this name is on the link now",
        Condition::RemoteServerNotFound => {
            "this address is not known here: reach a user of another domain by the 00…@id.internal address"
        }
        _ => "there is no such account on this node",
    };
    StanzaError::new(condition, text)
}

//! What an authenticated client sends: binding (RFC 6120 §7), stream management (XEP-0198), client state (XEP-0352)
//! and stanzas. *Pure.*

use crosstalk_overlay::core::Unreachable;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_storage::Tree;
use jid::{FullJid, Jid, ResourcePart};
use rand_core::Rng;

use crate::xmpp::error::StreamCondition;
use crate::xmpp::{Condition, Element, Kind, Stanza, StanzaError, StreamError, Type, ns};

use super::io::{ConnId, Ending, Output};
use super::remote::unreachable;
use super::router::Route;
use super::session::{Session, SessionId, Spared, Written};
use super::{Conn, Core, Origin, Timer, room};

/// Presences kept from an inactive client before they are all sent (XEP-0352).
const SPARED_LIMIT: usize = 500;

/// How long an authenticated client may take to bind or to resume, milliseconds.
const BIND_TIME: u64 = 60_000;

impl Core {
    pub(super) fn bind_expired(&mut self, conn: ConnId) {
        if matches!(self.conns.get(&conn), Some(Conn::Unbound(_))) {
            let error = StreamError::new(StreamCondition::ConnectionTimeout, "no resource was bound in time");
            self.close_client(conn, Some(error));
        }
    }

    pub(super) fn authenticated(&mut self, conn: ConnId, user: UserId) {
        if self.accounts.contains(&user) {
            self.conns.insert(conn, Conn::Unbound(user));
            self.set_timer(BIND_TIME, Timer::Bind(conn));
        } else {
            let error = StreamError::new(StreamCondition::NotAuthorized, "this account was removed");
            self.close_client(conn, Some(error));
        }
    }

    pub(super) fn elements(&mut self, conn: ConnId, elements: Vec<Element>) {
        for element in elements {
            match self.conns.get(&conn) {
                Some(Conn::Bound(session)) => self.bound_element(conn, *session, element),
                Some(Conn::Unbound(user)) => self.unbound_element(conn, *user, element),
                None => return,
            }
        }
    }

    fn unbound_element(&mut self, conn: ConnId, user: UserId, element: Element) {
        if element.is("resume", ns::SM) {
            return self.resume(conn, user, &element);
        }
        if element.ns() == ns::SM {
            return self.management_failed(conn, Condition::UnexpectedRequest, None);
        }
        let Some(Kind::Iq) = Stanza::kind_of(&element).filter(|_| element.ns() == ns::CLIENT) else {
            let error =
                StreamError::new(StreamCondition::NotAuthorized, "bind a resource first (RFC 6120, 7)");
            return self.close_client(conn, Some(error));
        };
        let answer = match Stanza::from_element(Kind::Iq, element) {
            Ok(iq) => match (iq.type_, iq.payload.first()) {
                (Type::Set, Some(payload)) if payload.is("bind", ns::BIND) => self.bind(conn, user, &iq),
                (Type::Get | Type::Set, _) => {
                    let error =
                        StanzaError::new(Condition::NotAllowed, "bind a resource first (RFC 6120, 7)");
                    iq.error(&error)
                }
                _ => None,
            },
            Err((iq, error)) => iq.error(&error),
        };
        if let Some(answer) = answer {
            self.output(Output::Client { conn, data: answer.to_bytes() }, false);
        }
    }

    /// Binds a resource: the client's wish, or one that we make. An older session with the same resource is ended
    /// with `conflict` (RFC 6120 §7.7.2.2), since a client that comes back wants its place.
    fn bind(&mut self, conn: ConnId, user: UserId, iq: &Stanza) -> Option<Stanza> {
        let wish = iq.payload.first().and_then(|bind| bind.get("resource", ns::BIND)).map(Element::own_text);
        let resource = match wish.filter(|wish| !wish.is_empty()) {
            None => format!("{:08x}", self.rng.next_u32()),
            Some(wish) => wish.to_string(),
        };
        let Ok(resource) = ResourcePart::new(&resource) else {
            return iq.error(&StanzaError::new(
                Condition::BadRequest,
                "this resource is not valid (RFC 7622, 3.4)",
            ));
        };
        let account = self.accounts.get(&user)?;
        let jid: FullJid = account.jid.with_resource(&resource);
        if let Some(older) = self.session_at(&user, &Jid::from(jid.clone())) {
            let error = StreamError::new(StreamCondition::Conflict, "the same resource logged in elsewhere");
            self.end_session(older, Some(error));
        }
        self.make_room_for_session(user);
        if self.accounts.get(&user)?.sessions.len() >= self.settings.session_limit {
            let text =
                format!("an account has at most {} sessions: log out elsewhere", self.settings.session_limit);
            return iq.error(&StanzaError::new(Condition::ResourceConstraint, text));
        }
        if !self.has_room(Tree::Session, 1) {
            return iq.error(&room::full("sessions"));
        }
        let id = self.open_session(user, jid.clone());
        if let Some(session) = self.session_mut(id) {
            session.conn = Some(conn);
        }
        self.conns.insert(conn, Conn::Bound(id));
        let bound = Element::new("jid", ns::BIND).text(jid.as_str());
        Some(iq.result(Some(Element::new("bind", ns::BIND).child(bound))))
    }

    /// An account that has as many sessions as it may gives up the oldest that waits to be resumed.
    fn make_room_for_session(&mut self, user: UserId) {
        if self
            .accounts
            .get(&user)
            .is_some_and(|account| account.sessions.len() >= self.settings.session_limit)
            && let Some(oldest) = self.sessions_of(user, |session| session.conn.is_none()).first()
        {
            self.end_session(*oldest, None);
        }
    }

    pub(super) fn open_session(&mut self, user: UserId, jid: FullJid) -> SessionId {
        let mut stream = [0; 16];
        self.rng.fill_bytes(&mut stream);
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let session = Session {
            user,
            jid,
            conn: None,
            stream,
            inbound: 0,
            presence: None,
            since: self.now.wall,
            interested: false,
            blocklist: false,
            carbons: false,
            directed: std::collections::BTreeSet::new(),
            asked: std::collections::VecDeque::new(),
            neighbours: std::collections::BTreeMap::new(),
            roster_known: 0,
            restored: false,
            inactive: None,
            management: None,
            written: Written::default(),
        };
        self.sessions.insert(id, session);
        if let Some(account) = self.accounts.get_mut(&user) {
            account.sessions.insert(id);
        }
        id
    }

    fn bound_element(&mut self, conn: ConnId, id: SessionId, element: Element) {
        match element.ns() {
            ns::CLIENT => self.stanza_element(id, element),
            ns::SM => self.management_element(conn, id, &element),
            ns::CSI => self.client_state(id, element.name()),
            _ => {
                let text = format!("<{}/> of this namespace is not known here", element.name());
                self.fatal(id, StreamError::new(StreamCondition::UnsupportedStanzaType, text));
            }
        }
    }

    fn stanza_element(&mut self, id: SessionId, element: Element) {
        let Some(kind) = Stanza::kind_of(&element) else {
            let text = format!("<{}/> is no stanza", element.name());
            return self.fatal(id, StreamError::new(StreamCondition::UnsupportedStanzaType, text));
        };
        let Some(session) = self.session_mut(id) else { return };
        session.inbound = session.inbound.wrapping_add(if is_on(Mutant::CountTwice) { 2 } else { 1 });
        let from = Jid::from(session.jid.clone());
        match Stanza::from_element(kind, element) {
            Ok(mut stanza) => {
                if let Some(claimed) = stanza.from.take()
                    && !self.may_claim(id, &claimed)
                {
                    let text = "'from' is not the address of this stream";
                    let error = StreamError::new(StreamCondition::InvalidFrom, text);
                    self.count("forged from");
                    return self.fatal(id, error);
                }
                stanza.from = Some(if is_on(Mutant::BareFrom) { from.to_bare().into() } else { from });
                self.client_stanza(id, stanza);
            }
            Err((mut stanza, error)) => {
                stanza.from = Some(from);
                stanza.to = None;
                self.bounce(Origin::Session(id), &stanza, &error);
            }
        }
    }

    /// A client may leave `from` out, or write its own bare or full address, or the one that it typed (RFC 6120 §8.1.2.1).
    fn may_claim(&self, id: SessionId, claimed: &Jid) -> bool {
        let Some(session) = self.session(id) else { return false };
        let bare = claimed.to_bare();
        let own = self.accounts.by_address(bare.as_str()) == Some(session.user);
        own && claimed.resource().is_none_or(|resource| resource == session.jid.resource())
    }

    fn client_stanza(&mut self, id: SessionId, stanza: Stanza) {
        match stanza.kind {
            Kind::Message => self.message_from_client(id, stanza),
            Kind::Presence => self.presence_from_client(id, stanza),
            Kind::Iq => self.iq_from_client(id, stanza),
        }
    }

    /// An IQ of a client: without `to`, or to the own bare address, it is for the account (RFC 6120 §10.3.3).
    fn iq_from_client(&mut self, id: SessionId, iq: Stanza) {
        let Some(session) = self.session(id) else { return };
        let user = session.user;
        let Some(to) = iq.to.clone() else {
            return self.iq_for_account(Origin::Session(id), user, iq);
        };
        if !iq.is_request() && self.route(&to) == Route::Here && self.ping_answered(id, &iq) {
            return;
        }
        if iq.is_request() && self.accounts.get(&user).is_some_and(|account| account.blocks(&to)) {
            let error = crate::features::blocking::blocked_by_you();
            return self.bounce(Origin::Session(id), &iq, &error);
        }
        match self.route(&to) {
            Route::Here => self.iq_for_node(Origin::Session(id), iq),
            Route::Local(other) => self.iq_for_local(Origin::Session(id), other, iq),
            Route::Overlay(other) => self.iq_to_remote(id, other, &iq),
            Route::Name(_) => {
                self.bounce(Origin::Session(id), &iq, &unreachable(iq.kind, Unreachable::NotLive))
            }
            Route::Link(instance) => self.iq_to_link(id, user, &instance, iq),
            Route::Outside => self.iq_outside(id, user, &iq),
            Route::Refuse(condition) => self.bounce(Origin::Session(id), &iq, &condition.into()),
        }
    }

    /// An IQ for an account of this node, from anybody.
    pub(super) fn iq_for_local(&mut self, origin: Origin, user: UserId, iq: Stanza) {
        let Some(to) = iq.to.clone() else { return };
        if !iq.is_request() {
            if let Some(by) = self.sender_of(origin) {
                self.answered(by, iq);
            }
            return;
        }
        if iq
            .from
            .as_ref()
            .is_some_and(|from| self.accounts.get(&user).is_some_and(|account| account.blocks(from)))
        {
            return self.bounce(origin, &iq, &Condition::ServiceUnavailable.into());
        }
        if super::nearby::session_of(&to).is_none() {
            return self.iq_for_account(origin, user, iq);
        }
        match self.session_at(&user, &to) {
            Some(session) => {
                if let Origin::Session(asker) = origin {
                    self.note_request(asker, &iq, user, None);
                }
                self.send(session, iq, None, false);
            }
            None => self.bounce(origin, &iq, &Condition::ServiceUnavailable.into()),
        }
    }

    /// The user that a stanza comes from.
    fn sender_of(&self, origin: Origin) -> Option<UserId> {
        match origin {
            Origin::Session(id) => self.session(id).map(|session| session.user),
            Origin::Remote(user) => Some(user),
            Origin::Local | Origin::Outside(_) => None,
        }
    }

    fn iq_for_node(&mut self, origin: Origin, iq: Stanza) {
        use crate::features::{Target, handle};
        let directory = iq.to.as_ref().is_some_and(|to| self.is_directory(to.domain().as_str()));
        if iq.is_request() {
            handle(self, origin, if directory { Target::Directory } else { Target::Node }, iq);
        }
    }

    fn iq_for_account(&mut self, origin: Origin, user: UserId, iq: Stanza) {
        if iq.is_request() {
            crate::features::handle(self, origin, crate::features::Target::Account(user), iq);
        }
    }

    /// Writes a stanza to a session. `held` is its number in the inbox; `promise` makes it wait for the commit.
    pub(crate) fn send(&mut self, id: SessionId, stanza: Stanza, held: Option<u64>, promise: bool) {
        let Some(stanza) = self.spare(id, stanza) else { return };
        let (limit, most) = (self.settings.unacked_limit, self.settings.unacked_bytes);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let conn = session.conn;
        let data = conn.map(|_| stanza.to_bytes());
        let asks = held.is_some() || session.management.is_some();
        let kept = held.is_none() && super::save::is_kept(&stanza);
        match &mut session.management {
            Some(management) => {
                let bytes = data.as_ref().map_or_else(|| stanza.to_bytes().len(), Vec::len);
                let sequence = management.sent(stanza, bytes, held);
                let full = management.unacked.len() > limit || management.bytes > most;
                // What is promised is part of what survives this process.
                if promise && kept && management.resumable {
                    self.dirty.insert(id);
                }
                if let Some(held) = held {
                    self.assign_held(id, held, sequence);
                }
                if full {
                    return self.unacked_full(id);
                }
            }
            None => {
                if let Some(held) = held {
                    session.written.unproved.push_back(held);
                    self.assign_held(id, held, 0);
                }
            }
        }
        if let (Some(conn), Some(data)) = (conn, data) {
            if asks {
                self.touched.insert(id);
            }
            self.output(Output::Client { conn, data }, promise);
        }
    }

    /// Writes a message to one more session of several that get it. Any of them may prove that it came.
    pub(super) fn send_copy(&mut self, id: SessionId, stanza: Stanza, held: Option<u64>, promise: bool) {
        let sent = |core: &Self| Some(core.session(id)?.management.as_ref()?.outbound);
        let before = sent(self);
        self.send(id, stanza, None, promise);
        let written = before != sent(self);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match (&mut session.management, held) {
            (Some(management), _) => {
                if let Some(last) = management.unacked.back_mut().filter(|_| written) {
                    (last.held, last.copy) = (held, true);
                }
            }
            (None, Some(number)) => {
                session.written.unproved.push_back(number);
                self.touched.insert(id);
            }
            (None, None) => {}
        }
    }

    /// XEP-0352: an inactive client is spared presence until something for a person comes. Returns what is to be
    /// sent now.
    fn spare(&mut self, id: SessionId, stanza: Stanza) -> Option<Stanza> {
        let session = self.sessions.get_mut(&id)?;
        let Some(spared) = &mut session.inactive else { return Some(stanza) };
        let presence =
            stanza.kind == Kind::Presence && matches!(stanza.type_, Type::Available | Type::Unavailable);
        if presence && let Some(from) = stanza.from.clone() {
            spared.insert(from, stanza);
            if spared.len() < SPARED_LIMIT {
                return None;
            }
            self.send_spared(id, true);
            return None;
        }
        // One that somebody wants kept was counted as held for this session.
        let keeps = super::message::is_durable(&stanza);
        if stanza.kind == Kind::Message && super::message::is_only_chat_state(&stanza) && !keeps {
            return None;
        }
        self.send_spared(id, true);
        Some(stanza)
    }

    pub(super) fn send_spared(&mut self, id: SessionId, still_inactive: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(spared) = session.inactive.take() else { return };
        for stanza in spared.into_values() {
            self.send(id, stanza, None, false);
        }
        if still_inactive && let Some(session) = self.sessions.get_mut(&id) {
            session.inactive = Some(Spared::new());
        }
    }

    fn client_state(&mut self, id: SessionId, state: &str) {
        match state {
            "inactive" => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.inactive.get_or_insert_default();
                }
            }
            "active" => {
                self.send_spared(id, false);
                if let Some(user) = self.session(id).map(|session| session.user) {
                    self.continue_inbox(user, id);
                }
            }
            _ => {}
        }
    }

    /// The domain that this node speaks as.
    pub(crate) fn domain(&self) -> String {
        let own = self.settings.domain.as_ref().map(|(domain, _)| domain.clone());
        own.unwrap_or_else(|| crosstalk_overlay::id::XID_DOMAIN.to_owned())
    }

    pub(super) fn fatal(&mut self, id: SessionId, error: StreamError) {
        let Some(conn) = self.session(id).and_then(|session| session.conn) else { return };
        self.close_client(conn, Some(error));
        self.detach(id);
    }

    pub(super) fn ended(&mut self, conn: ConnId, how: Ending) {
        self.barrier.ended(conn);
        let Some(Conn::Bound(id)) = self.conns.remove(&conn) else { return };
        match how {
            Ending::Closed => self.end_session(id, None),
            Ending::Lost => self.detach(id),
        }
    }

    /// The connection is gone: a resumable session waits, any other ends.
    fn detach(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.conn = None;
        match &mut session.management {
            Some(management) if management.resumable => {
                management.requested = false;
                // What it was spared is part of what it gets when it resumes.
                self.send_spared(id, false);
                self.set_timer(self.settings.resume_timeout, Timer::Resume(id));
            }
            Some(_) | None => self.end_session(id, None),
        }
    }

    pub(super) fn resume_expired(&mut self, id: SessionId) {
        if self.session(id).is_some_and(|session| session.conn.is_none()) {
            self.end_session(id, None);
        }
    }

    /// Ends a session for good. What it did not acknowledge goes the way of any message that could not be delivered.
    pub(super) fn end_session(&mut self, id: SessionId, error: Option<StreamError>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.touched.remove(&id);
        self.dirty.remove(&id);
        self.timers.retain(
            |(_, timer)| !matches!(timer, Timer::Resume(s) | Timer::Asked(s) | Timer::Ping(s, _) if *s == id),
        );
        if let Some(conn) = session.conn {
            self.close_client(conn, error);
        }
        if let Some(account) = self.accounts.get_mut(&session.user) {
            account.sessions.remove(&id);
            account.stored.last_logout = self.now.wall;
        }
        self.forget_session(&session);
        self.session_unavailable(&session);
        if session.restored {
            self.former_told();
        }
        let (user, jid) = (session.user, session.jid.clone());
        self.return_unacked(id, session);
        self.asked_of_ended(user, &jid);
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

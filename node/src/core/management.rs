//! Proof of what a client has (XEP-0198): acknowledgements, resumption also after a restart, and for clients without it
//! the answer to a ping (XEP-0199) that was sent behind held messages. *Pure.*

use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use jid::Jid;
use rand_core::Rng;

use crate::xmpp::error::StreamCondition;
use crate::xmpp::{Condition, Element, Stanza, StreamError, Type, ns};

use super::io::{ConnId, Output};
use super::session::{Management, SessionId, Unacked};
use super::{Conn, Core, Timer, hex};

impl Core {
    pub(super) fn unacked_full(&mut self, id: SessionId) {
        self.count("sessions that left too much unacknowledged");
        let error = StreamError::new(StreamCondition::PolicyViolation, "too many stanzas are unacknowledged");
        self.end_session(id, Some(error));
    }

    pub(super) fn management_element(&mut self, conn: ConnId, id: SessionId, element: &Element) {
        match element.name() {
            "enable" => self.enable_management(conn, id, element),
            "r" => self.acknowledge_client(conn, id),
            "a" => self.acknowledged(id, element),
            _ => self.management_failed(conn, Condition::UnexpectedRequest, None),
        }
    }

    fn enable_management(&mut self, conn: ConnId, id: SessionId, enable: &Element) {
        let max = self.settings.resume_timeout / 1_000;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.management.is_some() {
            return self.management_failed(conn, Condition::UnexpectedRequest, None);
        }
        // While nothing can be saved, nobody is promised a resumption, and nobody is kept waiting for that.
        let saveable = self.store_trouble.is_none();
        let resumable = saveable && matches!(enable.get_attr("resume"), Some("true" | "1"));
        session.management = Some(Management { resumable, ..Management::default() });
        // Counting begins anew, and so must the ids of messages, which are made of stream and count.
        if std::mem::take(&mut session.inbound) > 0 {
            self.rng.fill_bytes(&mut session.stream);
        }
        let mut enabled = Element::new("enabled", ns::SM);
        if resumable {
            enabled =
                enabled.attr("resume", "true").attr("id", hex(&session.stream)).attr("max", max.to_string());
            self.dirty.insert(id);
        }
        self.output(Output::Client { conn, data: enabled.to_bytes(ns::CLIENT) }, resumable);
    }

    /// `<r/>`: the answer promises that everything counted is durable, so the count is committed with it.
    fn acknowledge_client(&mut self, conn: ConnId, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let Some(management) = &session.management else {
            return self.management_failed(conn, Condition::UnexpectedRequest, None);
        };
        if self.store_trouble.is_some() {
            return self.count("acknowledgements that wait for the store");
        }
        let answer = Element::new("a", ns::SM).attr("h", session.inbound.to_string());
        if management.resumable {
            self.dirty.insert(id);
        }
        self.output(Output::Client { conn, data: answer.to_bytes(ns::CLIENT) }, true);
    }

    fn acknowledged(&mut self, id: SessionId, element: &Element) {
        let Some(handled) = element.get_attr("h").and_then(|h| h.parse().ok()) else {
            return self.fatal(id, StreamError::new(StreamCondition::BadFormat, "<a/> needs a number h"));
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let user = session.user;
        let Some(management) = &mut session.management else { return };
        management.requested = false;
        match management.acknowledge(handled) {
            Ok(covered) => {
                if management.unacked.is_empty()
                    && let Some(account) = self.accounts.get(&user)
                {
                    session.roster_known = account.stored.roster_version;
                }
                let still = |back: u32| handled.wrapping_sub(back).cast_signed() < 0;
                session.neighbours.retain(|_, back| back.is_none_or(still));
                // Who says again what is known already is not asked again: nothing would come of it.
                if !covered.is_empty() {
                    self.touched.insert(id);
                }
                for held in covered.iter().filter_map(|unacked| unacked.held) {
                    self.release_held(&user, held);
                }
                self.continue_inbox(user, id);
            }
            Err(sent) => self.acknowledged_too_much(id, handled, sent),
        }
    }

    fn acknowledged_too_much(&mut self, id: SessionId, handled: u32, sent: u32) {
        let text = format!("you acknowledge {handled} stanzas but were sent {sent}");
        self.fatal(id, StreamError::new(StreamCondition::UndefinedCondition, text));
    }

    pub(super) fn management_failed(&mut self, conn: ConnId, condition: Condition, handled: Option<u32>) {
        let failed = Element::new("failed", ns::SM)
            .attr_opt("h", handled.map(|h| h.to_string()))
            .child(Element::new(condition.as_str(), ns::STANZAS));
        self.output(Output::Client { conn, data: failed.to_bytes(ns::CLIENT) }, false);
    }

    pub(super) fn resume(&mut self, conn: ConnId, user: UserId, resume: &Element) {
        let wanted = resume.get_attr("previd").unwrap_or_default();
        let handled: Option<u32> = resume.get_attr("h").and_then(|h| h.parse().ok());
        let found = self.accounts.get(&user).and_then(|account| {
            let is_it = |id: &SessionId| {
                self.sessions.get(id).is_some_and(|session| {
                    hex(&session.stream) == wanted && session.management.as_ref().is_some_and(|m| m.resumable)
                })
            };
            account.sessions.iter().copied().find(is_it)
        });
        let (Some(id), Some(handled)) = (found, handled) else {
            return self.management_failed(conn, Condition::ItemNotFound, None);
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let sent = session.management.as_ref().map_or(0, |management| management.outbound);
        if handled.wrapping_sub(sent).cast_signed() > 0 {
            self.end_session(id, None);
            return self.management_failed(conn, Condition::ItemNotFound, None);
        }
        if let Some(older) = session.conn.take() {
            let error =
                StreamError::new(StreamCondition::Conflict, "the session was resumed on another connection");
            self.close_client(older, Some(error));
        }
        self.send_spared(id, false);
        let Some(session) = self.sessions.get_mut(&id) else {
            // What it was spared was more than it may leave unacknowledged.
            return self.management_failed(conn, Condition::ItemNotFound, None);
        };
        session.conn = Some(conn);
        self.cancel_timer(Timer::Resume(id));
        self.conns.insert(conn, Conn::Bound(id));
        self.resumed(conn, id, handled);
    }

    fn resumed(&mut self, conn: ConnId, id: SessionId, handled: u32) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (inbound, stream) = (session.inbound, session.stream);
        let Some(management) = &mut session.management else { return };
        let user = session.user;
        let covered = management.acknowledge(handled).unwrap_or_default();
        management.requested = false;
        management.outbound = handled;
        let again: Vec<_> = management.replace(Default::default()).into();
        for held in covered.iter().filter_map(|unacked| unacked.held) {
            self.release_held(&user, held);
        }
        let resumed =
            Element::new("resumed", ns::SM).attr("previd", hex(&stream)).attr("h", inbound.to_string());
        self.dirty.insert(id);
        self.output(Output::Client { conn, data: resumed.to_bytes(ns::CLIENT) }, true);
        for Unacked { stanza, held, copy, .. } in again.into_iter().filter(|_| !is_on(Mutant::ResumeForgets))
        {
            match copy {
                true => self.send_copy(id, stanza, held, true),
                false => self.send(id, stanza, held, true),
            }
        }
        self.continue_inbox(user, id);
        self.correct_after_restart(id);
    }

    /// At the end of a batch: asks clients that were written to for proof of what came.
    pub(super) fn ask_for_acknowledgements(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(conn) = session.conn else { continue };
            match &mut session.management {
                Some(management) if !management.unacked.is_empty() && !management.requested => {
                    management.requested = true;
                    let data = Element::new("r", ns::SM).to_bytes(ns::CLIENT);
                    self.output(Output::Client { conn, data }, false);
                }
                Some(_) | None => self.prove_written(conn, id),
            }
        }
    }

    fn prove_written(&mut self, conn: ConnId, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.written.unproved.is_empty() || session.written.ping.is_some() {
            return;
        }
        let number = self.next_ticket;
        self.next_ticket += 1;
        session.written.ping = Some((number, session.written.unproved.len()));
        let mut ping = Stanza::iq(Type::Get, &ping_id(number), Element::new("ping", ns::PING));
        ping.from = Jid::new(&self.domain()).ok();
        match self.session(id).is_some_and(|session| session.management.is_some()) {
            true => self.send(id, ping, None, false),
            false => self.output(Output::Client { conn, data: ping.to_bytes() }, false),
        }
        self.set_timer(self.settings.ping_timeout, Timer::Ping(id, number));
    }

    pub(super) fn ping_answered(&mut self, id: SessionId, iq: &Stanza) -> bool {
        let Some(number) = iq.id.as_deref().and_then(|id| id.strip_prefix("ping-")?.parse().ok()) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let user = session.user;
        if session.written.ping.is_none_or(|(ping, _)| ping != number) {
            return false;
        }
        for held in session.written.proved(number) {
            self.release_held(&user, held);
        }
        self.cancel_timer(Timer::Ping(id, number));
        self.touched.insert(id);
        self.continue_inbox(user, id);
        true
    }

    pub(super) fn ping_expired(&mut self, id: SessionId, ping: u64) {
        if self.sessions.get(&id).is_some_and(|session| session.written.ping.is_some_and(|(n, _)| n == ping))
        {
            let text = "no answer to a ping: what was sent is kept for the next login";
            self.end_session(id, Some(StreamError::new(StreamCondition::ConnectionTimeout, text)));
        }
    }
}

/// The `id` of a ping of ours.
fn ping_id(number: u64) -> String {
    format!("ping-{number}")
}

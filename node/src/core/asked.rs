//! Requests of clients that went to another session, here or elsewhere, and wait for their answer (RFC 6120 §8.2.3,
//! §8.4). *Pure.*
//!
//! A client sees an answer only from the address that it asked, with the id that it used, and once. Whoever is asked and
//! does not answer is spoken for by the node, so that every request comes to an end.

use compact_str::CompactString;
use crosstalk_overlay::id::{DeviceId, UserId};
use jid::{FullJid, Jid};

use crate::xmpp::{Condition, Kind, Stanza, StanzaError, Type};

use super::session::SessionId;
use super::{Core, Timer};

/// Requests of one session that wait; of more, the oldest is given up.
const ASKED: usize = 100;
/// How long a user elsewhere may take to answer, milliseconds.
const PATIENCE: u64 = 60_000;
/// Requests are given up at whole steps, milliseconds: a session that asks and is answered without end has no more timers
/// than there are steps.
const STEP: u64 = 1_000;

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) id: CompactString,
    /// As the client wrote it: what the answer has to come from in its eyes.
    pub(super) to: Jid,
    /// Who is to answer, as which session; an empty resource means the account.
    by: (UserId, String),
    /// On which device elsewhere, and when it is given up, monotonic milliseconds.
    elsewhere: Option<(Far, u64)>,
}

/// Where a request went that left this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Far {
    /// To that device.
    Device(DeviceId),
    /// Outside the overlay, or to the server of the user's domain.
    Outside,
}

impl Core {
    /// Remembers a request of a session before it goes to `by`, or after it went to a device elsewhere.
    pub(super) fn note_request(
        &mut self,
        id: SessionId,
        iq: &Stanza,
        by: UserId,
        elsewhere: Option<DeviceId>,
    ) {
        self.note(id, iq, by, elsewhere.map(Far::Device));
    }

    /// The same of a request of `user` that goes outside.
    pub(super) fn note_request_outside(&mut self, id: SessionId, iq: &Stanza, user: UserId) {
        self.note(id, iq, user, Some(Far::Outside));
    }

    fn note(&mut self, id: SessionId, iq: &Stanza, by: UserId, elsewhere: Option<Far>) {
        let (Some(to), Some(number)) = (iq.to.clone(), iq.id.clone()) else { return };
        let until = self.now.mono.saturating_add(PATIENCE).next_multiple_of(STEP);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let first = elsewhere.is_some() && session.asked.iter().all(|asked| asked.elsewhere.is_none());
        let resource = super::nearby::session_of(&to).unwrap_or_default().to_owned();
        let elsewhere = elsewhere.map(|device| (device, until));
        session.asked.push_back(Asked { id: number, to, by: (by, resource), elsewhere });
        let surplus = if session.asked.len() > ASKED { session.asked.pop_front() } else { None };
        if first {
            self.timers.insert((until, Timer::Asked(id)));
        }
        if let Some(oldest) = surplus {
            let error = StanzaError::new(Condition::RemoteServerTimeout, "too many requests were under way");
            self.give_up(id, oldest, &error);
        }
    }

    /// Hands an answer from outside to the session of `user` that asked.
    pub(super) fn answered_outside(&mut self, user: UserId, answer: Stanza) {
        let is_it = |asked: &Asked| {
            let outside = asked.elsewhere.is_some_and(|(far, _)| far == Far::Outside);
            outside && Some(&asked.id) == answer.id.as_ref() && Some(&asked.to) == answer.from.as_ref()
        };
        let session = answer.to.as_ref().and_then(|to| self.session_at(&user, to));
        let found = session.and_then(|id| {
            let asked = &mut self.sessions.get_mut(&id)?.asked;
            asked.remove(asked.iter().position(is_it)?).map(|_| id)
        });
        match found {
            Some(id) => {
                let promise = self.is_resumable(id);
                self.send(id, answer, None, promise);
            }
            None => self.count("answers that nobody had asked for"),
        }
    }

    /// Hands an answer of `by` to the session here that it is addressed to, if that asked.
    pub(super) fn answered(&mut self, by: UserId, answer: Stanza) {
        let Some(to) = answer.to.clone() else { return };
        let super::router::Route::Local(user) = self.route(&to) else { return };
        let resource = answer.from.as_ref().and_then(Jid::resource).map_or("", |resource| resource.as_str());
        let is_it = |asked: &Asked| {
            let outside = asked.elsewhere.is_some_and(|(far, _)| far == Far::Outside);
            !outside && Some(&asked.id) == answer.id.as_ref() && asked.by.0 == by && asked.by.1 == resource
        };
        let found = self.session_at(&user, &to).and_then(|id| {
            let asked = &mut self.sessions.get_mut(&id)?.asked;
            Some((id, asked.remove(asked.iter().position(is_it)?)?))
        });
        match found {
            Some((id, asked)) => {
                let promise = self.is_resumable(id);
                self.send(id, Stanza { from: Some(asked.to), ..answer }, None, promise);
            }
            None => self.count("answers that nobody had asked for"),
        }
    }

    /// Requests that a device elsewhere has not answered in time.
    pub(super) fn asked_too_long(&mut self, id: SessionId) {
        let now = self.now.mono;
        let text = "no answer came in time";
        self.give_up_where(id, text, |asked| asked.elsewhere.is_some_and(|(_, until)| until <= now));
        let next = self.session(id).and_then(|session| {
            session.asked.iter().filter_map(|asked| asked.elsewhere).map(|(_, until)| until).min()
        });
        if let Some(until) = next {
            self.timers.insert((until, Timer::Asked(id)));
        }
    }

    /// Requests that a device elsewhere will not answer any more: it is out of reach.
    pub(super) fn asked_in_vain(&mut self, device: DeviceId) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let text = "the other node is out of reach";
            self.give_up_where(id, text, |asked| {
                asked.elsewhere.is_some_and(|(of, _)| of == Far::Device(device))
            });
        }
    }

    /// Requests that a session here took and will not answer any more: it has ended.
    pub(super) fn asked_of_ended(&mut self, user: UserId, jid: &FullJid) {
        let by = (user, jid.resource().as_str().to_owned());
        let is_over = |asked: &Asked| asked.elsewhere.is_none() && asked.by == by;
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            for asked in self.take_asked(id, is_over) {
                let error =
                    StanzaError::new(Condition::ServiceUnavailable, "the session ended without an answer");
                self.give_up(id, asked, &error);
            }
        }
    }

    fn give_up_where(&mut self, id: SessionId, text: &str, is_over: impl Fn(&Asked) -> bool) {
        for asked in self.take_asked(id, is_over) {
            self.give_up(id, asked, &StanzaError::new(Condition::RemoteServerTimeout, text));
        }
    }

    /// Takes those of a session's requests out that are over.
    fn take_asked(&mut self, id: SessionId, is_over: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let Some(session) = self.sessions.get_mut(&id) else { return Vec::new() };
        if !session.asked.iter().any(&is_over) {
            return Vec::new();
        }
        let (over, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut session.asked).into_iter().partition(is_over);
        session.asked = kept.into();
        over
    }

    /// Answers in the place of whoever was asked.
    fn give_up(&mut self, id: SessionId, asked: Asked, error: &StanzaError) {
        let promise = self.is_resumable(id);
        self.fail_request(id, asked.id, asked.to, error, promise);
    }

    /// Tells a session that its request failed.
    pub(super) fn fail_request(
        &mut self,
        id: SessionId,
        number: CompactString,
        asked: Jid,
        error: &StanzaError,
        promise: bool,
    ) {
        let Some(session) = self.session(id) else { return };
        let mut answer = Stanza::new(Kind::Iq, Type::Error);
        answer.to = Some(session.jid.clone().into());
        answer.from = Some(asked);
        answer.id = Some(number);
        answer.payload = vec![error.to_element()];
        self.send(id, answer, None, promise);
    }

    /// Whether a session outlives its connection, and this process.
    pub(super) fn is_resumable(&self, id: SessionId) -> bool {
        self.session(id)
            .and_then(|session| session.management.as_ref())
            .is_some_and(|management| management.resumable)
    }
}

//! Requests between local clients and people of the link: answered by the other side, or after ten seconds. *Pure.*
//!
//! Stock programs ignore most requests without a word. What only asks (XEP-0199, XEP-0092 and the like) opens no stream:
//! clients ask everybody they see, and nobody is to be connected to for that. Offers of files (XEP-0096) and bytestreams
//! (XEP-0065) go both ways between the client and the other side, with the addresses that each knows.

use std::collections::BTreeMap;

use crosstalk_link_local::instance::Instance;
use crosstalk_overlay::id::UserId;
use jid::Jid;

use super::streams::Pair;
use super::translate;
use crate::core::nearby::RESOURCE;
use crate::core::session::SessionId;
use crate::core::{Core, Origin};
use crate::xmpp::{Condition, Element, Kind, Stanza, StanzaError, Type, ns};

/// How long an answer may take, milliseconds.
const PATIENCE: u64 = 10_000;
/// How long the answer to an offer of files may take: a person decides.
const DECISION: u64 = 300_000;
/// How long the answer to an offer of addresses may take (XEP-0065): they are tried one after the other.
const TRYING: u64 = 60_000;
/// Requests without an answer, of each direction. Of more, the newcomer is refused.
const OPEN: usize = 200;

/// A request of a client.
#[derive(Debug)]
struct Asked {
    pair: Pair,
    session: SessionId,
    /// The request without its payload, to answer it.
    base: Stanza,
    until: u64,
}

/// A request of the other side, handed to a client.
#[derive(Debug)]
struct Handed {
    pair: Pair,
    user: UserId,
    /// The id that the other side gave it.
    id: String,
    until: u64,
}

/// Requests without an answer, by the id that they have on the other side of this node.
#[derive(Debug, Default)]
pub(super) struct Requests {
    asked: BTreeMap<String, Asked>,
    handed: BTreeMap<String, Handed>,
    next: u64,
}

impl Requests {
    pub(super) fn next_due(&self) -> Option<u64> {
        let asked = self.asked.values().map(|asked| asked.until);
        asked.chain(self.handed.values().map(|handed| handed.until)).min()
    }

    /// Id and address of what a session has asked.
    pub(super) fn of(&self, id: SessionId) -> impl Iterator<Item = (&str, &Jid)> {
        let own = self.asked.values().filter(move |asked| asked.session == id);
        own.filter_map(|asked| Some((asked.base.id.as_deref()?, asked.base.to.as_ref()?)))
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("link-{}", self.next)
    }
}

impl Core {
    /// An IQ of a client for somebody on the link.
    pub(in crate::core) fn iq_to_link(&mut self, id: SessionId, user: UserId, peer: &Instance, iq: Stanza) {
        if !iq.is_request() {
            return self.answer_to_link(id, user, peer, &iq);
        }
        if iq.type_ == Type::Get && iq.payload.iter().any(|child| child.is("vCard", ns::VCARD)) {
            return self.vcard_of_link(id, peer, &iq);
        }
        if let Err(error) = self.ask_on_link(id, user, peer, &iq) {
            self.bounce(Origin::Session(id), &iq, &error);
        }
    }

    fn ask_on_link(
        &mut self,
        id: SessionId,
        user: UserId,
        peer: &Instance,
        iq: &Stanza,
    ) -> Result<(), StanzaError> {
        let nobody = || StanzaError::plain(Condition::ServiceUnavailable);
        if let Some(error) = self.not_announced(user) {
            return Err(error);
        }
        let own = self.announced_as(&user).cloned().ok_or_else(nobody)?;
        let pair = Pair { own, peer: peer.clone() };
        let worth_a_stream = iq.type_ == Type::Set || iq.has("query", ns::DISCO_INFO);
        if !worth_a_stream && !self.link.streams.is_open(&pair) {
            return Err(nobody());
        }
        if self.link.requests.asked.len() >= OPEN {
            let text = "too many requests wait for people of the link";
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        let name = self.link.requests.id();
        let data = self.written_iq(id, &pair, iq, &name).ok_or_else(nobody)?;
        self.push_to_link(&pair, None, data)?;
        let until = self.now.mono + patience(iq);
        self.link.requests.asked.insert(name, Asked { pair, session: id, base: iq.error_base(), until });
        if self.is_resumable(id) {
            self.dirty.insert(id);
        }
        Ok(())
    }

    /// An answer of a client to what was handed to it.
    fn answer_to_link(&mut self, id: SessionId, user: UserId, peer: &Instance, iq: &Stanza) {
        let name = iq.id.as_deref().unwrap_or_default();
        let fits = |handed: &Handed| handed.user == user && handed.pair.peer == *peer;
        if !self.link.requests.handed.get(name).is_some_and(fits) {
            return self.count("link: answers that nobody waits for");
        }
        let Some(Handed { pair, id: theirs, .. }) = self.link.requests.handed.remove(name) else { return };
        if let Some(data) = self.written_iq(id, &pair, iq, &theirs)
            && self.push_to_link(&pair, None, data).is_err()
        {
            self.count("link: answers that found no room");
        }
    }

    fn written_iq(&self, id: SessionId, pair: &Pair, iq: &Stanza, name: &str) -> Option<Vec<u8>> {
        let own = self.session(id)?.jid.to_string();
        let theirs = iq.to.as_ref()?.to_string();
        Some(translate::outgoing_iq(iq, name, pair.own.as_str(), pair.peer.as_str(), &own, &theirs))
    }

    /// An IQ that came on a stream.
    pub(super) fn iq_from_link(&mut self, user: UserId, pair: &Pair, element: &Element) {
        let Some(known) = self.link.people.get(&pair.peer) else { return };
        let Ok(from) = known.jid.with_resource_str(RESOURCE).map(Jid::from) else { return };
        let waits = element.get_attr("id").and_then(|id| self.link.requests.asked.get(id));
        let session = match element.get_attr("type") {
            Some("get" | "set") => self.top_sessions(user).first().copied(),
            _ => waits.filter(|asked| asked.pair == *pair).map(|asked| asked.session),
        };
        let to = session.and_then(|session| self.session(session)).map(|session| session.jid.to_string());
        let own = to.clone().unwrap_or_default();
        let names = [(pair.own.as_str(), own.as_str()), (pair.peer.as_str(), from.as_str())];
        let Some(mut iq) = translate::incoming_iq(element, &names) else {
            return self.count("link: requests that could not be read");
        };
        iq.to = to.and_then(|to| Jid::new(&to).ok());
        match session {
            Some(session) if iq.is_request() => {
                self.hand_over(session, user, pair, Stanza { from: Some(from), ..iq })
            }
            Some(session) => self.answered_on_link(session, iq),
            None if iq.is_request() => self.refuse_request(pair, &iq),
            None => self.count("link: answers that nobody waits for"),
        }
    }

    fn hand_over(&mut self, session: SessionId, user: UserId, pair: &Pair, iq: Stanza) {
        if self.link.requests.handed.len() >= OPEN {
            return self.refuse_request(pair, &iq);
        }
        let name = self.link.requests.id();
        let until = self.now.mono + patience(&iq);
        let id = iq.id.as_deref().unwrap_or_default().to_owned();
        self.link.requests.handed.insert(name.clone(), Handed { pair: pair.clone(), user, id, until });
        self.send(session, Stanza { id: Some(name.into()), ..iq }, None, false);
    }

    fn answered_on_link(&mut self, session: SessionId, iq: Stanza) {
        let Some(asked) = iq.id.as_deref().and_then(|id| self.link.requests.asked.remove(id)) else { return };
        let answer = Stanza { from: asked.base.to, id: asked.base.id, ..iq };
        self.send(session, answer, None, false);
    }

    fn refuse_request(&mut self, pair: &Pair, iq: &Stanza) {
        let Some(answer) = iq.error(&Condition::ServiceUnavailable.into()) else { return };
        let id = iq.id.as_deref().unwrap_or_default();
        let data = translate::outgoing_iq(&answer, id, pair.own.as_str(), pair.peer.as_str(), "", "");
        if self.push_to_link(pair, None, data).is_err() {
            self.count("link: answers that found no room");
        }
    }

    /// Requests that nobody answered.
    pub(super) fn requests_due(&mut self) {
        let now = self.now.mono;
        let handed = std::mem::take(&mut self.link.requests.handed);
        let (late, left) = handed.into_iter().partition(|(_, handed)| handed.until <= now);
        self.link.requests.handed = left;
        // Stock programs wait for ever: an error with the offer's id ends its transfer there.
        for Handed { pair, id, .. } in BTreeMap::<String, Handed>::into_values(late) {
            self.refuse_request(&pair, &Stanza { id: Some(id.into()), ..Stanza::new(Kind::Iq, Type::Set) });
        }
        self.give_up_on_link(|asked| asked.until <= now);
    }

    /// Somebody left: nobody will answer.
    pub(super) fn requests_to(&mut self, peer: &Instance) {
        self.link.requests.handed.retain(|_, handed| handed.pair.peer != *peer);
        self.give_up_on_link(|asked| asked.pair.peer == *peer);
    }

    fn give_up_on_link(&mut self, which: impl Fn(&Asked) -> bool) {
        let asked = std::mem::take(&mut self.link.requests.asked);
        let (gone, left) = asked.into_iter().partition(|(_, asked)| which(asked));
        self.link.requests.asked = left;
        for Asked { session, base, .. } in BTreeMap::<String, Asked>::into_values(gone) {
            self.bounce(Origin::Session(session), &base, &Condition::ServiceUnavailable.into());
        }
    }
}

/// How long the answer to a request may take, milliseconds.
fn patience(request: &Stanza) -> u64 {
    if request.has("si", ns::SI) {
        DECISION
    } else if request.has("query", ns::BYTESTREAMS) {
        TRYING
    } else {
        PATIENCE
    }
}

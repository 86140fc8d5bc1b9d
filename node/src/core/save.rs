//! From the working set to the store: which key and which tree each thing has. *Pure.*

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::core::Write;
use crosstalk_overlay::core::state::{InboundSequence, OutboundSequence};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_storage::encode;
use crosstalk_storage::tree::session::{AskedRequest, StoredSession, UnackedStanza};
use crosstalk_storage::{Tree, WriteSet};
use jid::Jid;
use sha2::{Digest, Sha256};

use super::session::{Management, Session};
use super::{Core, Timer};
use crate::xmpp::{Condition, Kind, Stanza, StanzaError, Type, ns};

/// Key of the lowest believable time in [`Tree::Meta`].
pub(super) const TIME_FLOOR: &[u8] = b"time floor";

/// Bytes of ids and addresses of requests under way that are stored with a session; others have no answer after a crash.
const ASKED_BYTES: usize = 128 << 10;

/// Bytes of stanzas that are stored with a session; as many again for errors in the place of answers that find no room.
const KEPT_BYTES: usize = 64 << 10;

impl Core {
    /// At the end of a batch: state of the resumable sessions that changed.
    pub(super) fn save_dirty_sessions(&mut self) {
        for id in std::mem::take(&mut self.dirty).into_iter().filter(|_| !is_on(Mutant::SessionsUnsaved)) {
            let Some(session) = self.sessions.get(&id) else { continue };
            let Some(management) = session.management.as_ref().filter(|management| management.resumable)
            else {
                continue;
            };
            let asked = session.asked.iter().map(|asked| (asked.id.as_str(), &asked.to));
            let stored = StoredSession {
                user: session.user.as_bytes().to_vec(),
                resource: session.jid.resource().as_str().to_owned(),
                inbound: session.inbound,
                outbound: management.outbound,
                presence: session.presence.as_ref().map(crate::xmpp::Stanza::to_bytes).unwrap_or_default(),
                interested: session.interested,
                carbons: session.carbons,
                blocklist: session.blocklist,
                roster_known: session.roster_known,
                neighbours: users_of(session).map(|user| user.as_bytes().to_vec()).collect(),
                unacked: unacked(management),
                asked: kept_requests(asked.chain(self.link.asked_by(id))),
                link_neighbours: instances_of(session).map(ToString::to_string).collect(),
            };
            self.writes.put(Tree::Session, session.stream.to_vec(), encode(&stored));
        }
    }

    /// A session that ended is not resumed.
    pub(super) fn forget_session(&mut self, session: &Session) {
        if session.management.as_ref().is_some_and(|management| management.resumable) {
            self.writes.delete(Tree::Session, session.stream.to_vec());
        }
        if let Some(account) = self.accounts.get(&session.user) {
            let (key, value) = (session.user.as_bytes().to_vec(), encode(&account.stored));
            self.put_lazily(Tree::Account, key, value);
        }
    }

    /// A change of low value: rides with the next commit, or is committed alone after a while.
    pub(super) fn put_lazily(&mut self, tree: Tree, key: Vec<u8>, value: Vec<u8>) {
        if self.lazy.is_empty() {
            self.set_timer(self.settings.lazy_commit, Timer::Lazy);
        }
        self.lazy.put(tree, key, value);
    }

    /// The same for what is gone.
    pub(super) fn delete_lazily(&mut self, tree: Tree, key: Vec<u8>) {
        if self.lazy.is_empty() {
            self.set_timer(self.settings.lazy_commit, Timer::Lazy);
        }
        self.lazy.delete(tree, key);
    }

    /// Writes what is stored of an account itself.
    pub(crate) fn save_account(&mut self, user: &UserId) {
        if let Some(account) = self.accounts.get(user) {
            self.writes.put(Tree::Account, user.as_bytes().to_vec(), encode(&account.stored));
        }
    }
}

/// Whether a stanza to a client is lost for good if this process dies before the client has it. Held messages stand in the
/// inbox; contact list and presence are told anew after a resumption; requests of others are answered with an error.
pub(super) fn is_kept(stanza: &Stanza) -> bool {
    match (stanza.kind, stanza.type_) {
        (_, Type::Error) | (Kind::Iq, Type::Result) => true,
        (Kind::Iq, Type::Set) => stanza.payload.first().is_some_and(|push| push.ns() == ns::BLOCKING),
        (Kind::Presence, type_) => !matches!(type_, Type::Available | Type::Unavailable),
        (Kind::Iq | Kind::Message, _) => false,
    }
}

/// The part of a session's queue that is stored with it. Of an answer that finds no room, what is stored says so; other
/// stanzas that find none, and answers beyond the room for errors, are not stored.
fn unacked(management: &Management) -> Vec<UnackedStanza> {
    let (mut room, mut room_for_errors) = (KEPT_BYTES, KEPT_BYTES);
    let kept = management.unacked.iter().filter(|unacked| unacked.held.is_none() && is_kept(&unacked.stanza));
    let stored = kept.filter_map(|unacked| {
        let mut stanza = unacked.stanza.to_bytes();
        let mut left = &mut room;
        if stanza.len() > *left {
            stanza = not_kept(&unacked.stanza)?.to_bytes();
            left = &mut room_for_errors;
        }
        *left = left.checked_sub(stanza.len())?;
        Some(UnackedStanza { sequence: unacked.sequence, stanza })
    });
    stored.collect()
}

/// What is stored in the place of an answer.
fn not_kept(answer: &Stanza) -> Option<Stanza> {
    let text = "the node was restarted and has not kept this long answer: ask again";
    let payload = vec![StanzaError::new(Condition::ResourceConstraint, text).to_element()];
    let is_answer = answer.kind == Kind::Iq && !answer.is_request();
    is_answer.then(|| Stanza { type_: Type::Error, payload, lang: None, ..answer.error_base() })
}

fn kept_requests<'a>(asked: impl Iterator<Item = (&'a str, &'a Jid)>) -> Vec<AskedRequest> {
    let mut room = ASKED_BYTES;
    let mut fits = |(id, to): &(&str, &Jid)| {
        let left = room.checked_sub(id.len() + to.as_str().len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    asked.filter(|asked| fits(asked)).map(asked_request).collect()
}

fn asked_request((id, to): (&str, &Jid)) -> AskedRequest {
    AskedRequest { id: id.to_owned(), to: to.to_string() }
}

fn users_of(session: &Session) -> impl Iterator<Item = &UserId> {
    session.neighbours.keys().filter_map(|who| match who {
        Who::User(user) => Some(user),
        Who::Bonjour(_) => None,
    })
}

fn instances_of(session: &Session) -> impl Iterator<Item = &Instance> {
    session.neighbours.keys().filter_map(|who| match who {
        Who::User(_) => None,
        Who::Bonjour(instance) => Some(instance),
    })
}

/// What the overlay wants to keep.
pub(super) fn overlay(writes: &mut WriteSet, write: Write) {
    match write {
        Write::PutOutbox(entry) => {
            writes.put(Tree::Outbox, entry.number.to_be_bytes().to_vec(), encode(&entry))
        }
        Write::DeleteOutbox(number) => writes.delete(Tree::Outbox, number.to_be_bytes().to_vec()),
        Write::PutOutbound(sequence) => {
            writes.put(Tree::Outbound, outbound_key(&sequence), encode(&sequence))
        }
        Write::PutInbound(sequence) => writes.put(Tree::Inbound, inbound_key(&sequence), encode(&sequence)),
        Write::PutSeen(seen) => {
            let key = [&seen.sender[..], &seen.recipient[..], &seen.slot.to_be_bytes()[..]].concat();
            writes.put(Tree::Seen, key, encode(&seen));
        }
        Write::ForgetInbound { sender, recipient, slots } => {
            let pair = [&sender.as_bytes()[..], &recipient.as_bytes()[..]].concat();
            for slot in 0..slots {
                writes.delete(Tree::Seen, [&pair[..], &slot.to_be_bytes()[..]].concat());
            }
            writes.delete(Tree::Inbound, pair);
        }
        Write::PutRecord(record) => writes.put(Tree::UserRecord, record.user.clone(), encode(&record)),
        Write::DeleteRecord(user) => writes.delete(Tree::UserRecord, user.as_bytes().to_vec()),
        Write::PutMail(mail) => writes.put(Tree::Mail, mail.number.to_be_bytes().to_vec(), encode(&mail)),
        Write::DeleteMail(number) => writes.delete(Tree::Mail, number.to_be_bytes().to_vec()),
        Write::PutToken(token) => {
            if let Some(place) = token.key() {
                writes.put(Tree::Token, place.to_bytes(), encode(&token));
            }
        }
        Write::DeleteToken(place) => writes.delete(Tree::Token, place.to_bytes()),
        Write::PutOwnAudience(own) => writes.put(Tree::OwnAudience, own.device.clone(), encode(&own)),
        Write::DeleteOwnAudience(device) => writes.delete(Tree::OwnAudience, device.as_bytes().to_vec()),
        Write::PutAudience(known) => {
            let key = [&known.user[..], &known.device[..], &known.to[..]].concat();
            writes.put(Tree::Audience, key, encode(&known));
        }
        Write::DeleteAudience((user, device, to)) => {
            let key = [&user.as_bytes()[..], &device.as_bytes()[..], &to.as_bytes()[..]].concat();
            writes.delete(Tree::Audience, key);
        }
        Write::PutAuthority(authority) => {
            writes.put(Tree::Authority, authority.domain.as_bytes().to_vec(), encode(&authority));
        }
        Write::DeleteAuthority(domain) => writes.delete(Tree::Authority, domain.into_bytes()),
        Write::PutRevocation(record) => {
            writes.put(Tree::Revocation, Sha256::digest(&record).to_vec(), record);
        }
        Write::DeleteRevocation(record) => {
            writes.delete(Tree::Revocation, Sha256::digest(&record).to_vec());
        }
        Write::PutTimeFloor(floor) => {
            writes.put(Tree::Meta, TIME_FLOOR.to_vec(), floor.to_be_bytes().to_vec())
        }
    }
}

fn outbound_key(sequence: &OutboundSequence) -> Vec<u8> {
    [&sequence.sender[..], &sequence.recipient[..]].concat()
}

fn inbound_key(sequence: &InboundSequence) -> Vec<u8> {
    [&sequence.sender[..], &sequence.recipient[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::Element;

    fn stored(stanza: &Stanza, count: usize) -> Vec<Stanza> {
        let mut management = Management::default();
        for _ in 0..count {
            management.sent(stanza.clone(), 0, None);
        }
        let stored = unacked(&management);
        assert!(stored.iter().map(|unacked| unacked.stanza.len()).sum::<usize>() <= 2 * KEPT_BYTES);
        stored.iter().map(|unacked| Stanza::read(&unacked.stanza).unwrap()).collect()
    }

    fn of(kind: Kind, type_: Type, bytes: usize) -> Stanza {
        let payload = vec![Element::new("a", ns::BLOCKING).text(&"x".repeat(bytes))];
        Stanza { id: Some("i".into()), payload, ..Stanza::new(kind, type_) }
    }

    #[test]
    fn what_is_stored_with_a_session_is_bounded() {
        let kinds =
            [(Kind::Message, Type::Error), (Kind::Presence, Type::Subscribe), (Kind::Iq, Type::Result)];
        for (kind, type_) in kinds {
            assert!(stored(&of(kind, type_, 100), 6_000).len() > 300);
        }
        assert_eq!(stored(&of(Kind::Message, Type::Error, KEPT_BYTES), 3).len(), 0);
        let errors = stored(&of(Kind::Iq, Type::Result, KEPT_BYTES), 3);
        assert!(errors.len() == 3 && errors.iter().all(|answer| answer.type_ == Type::Error));
        // A push is no answer: nothing stands in its place.
        assert_eq!(stored(&of(Kind::Iq, Type::Set, KEPT_BYTES), 3).len(), 0);
    }
}

//! From the working set to the store: which key and which tree each thing has. *Pure.*

use crosstalk_overlay::core::Write;
use crosstalk_overlay::core::state::{InboundSequence, OutboundSequence};
use crosstalk_overlay::id::UserId;
use crosstalk_storage::encode;
use crosstalk_storage::tree::session::StoredSession;
use crosstalk_storage::{Tree, WriteSet};
use sha2::{Digest, Sha256};

use super::session::Session;
use super::{Core, Timer};

/// Key of the lowest believable time in [`Tree::Meta`].
pub(super) const TIME_FLOOR: &[u8] = b"time floor";

impl Core {
    /// At the end of a batch: state of the resumable sessions that changed.
    pub(super) fn save_dirty_sessions(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(session) = self.sessions.get(&id) else { continue };
            let Some(management) = session.management.as_ref().filter(|management| management.resumable)
            else {
                continue;
            };
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
                neighbours: session.neighbours.iter().map(|user| user.as_bytes().to_vec()).collect(),
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

    /// Writes what is stored of an account itself.
    pub(crate) fn save_account(&mut self, user: &UserId) {
        if let Some(account) = self.accounts.get(user) {
            self.writes.put(Tree::Account, user.as_bytes().to_vec(), encode(&account.stored));
        }
    }
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
        Write::PutAuthority(authority) => {
            writes.put(Tree::Authority, authority.domain.as_bytes().to_vec(), encode(&authority));
        }
        Write::PutRevocation(record) => {
            writes.put(Tree::Revocation, Sha256::digest(&record).to_vec(), record);
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

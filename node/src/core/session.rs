//! A client's session: what it asked for, and what it has not acknowledged. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::id::UserId;
use jid::{FullJid, Jid};

use crate::xmpp::Stanza;

use super::asked::Asked;
use super::io::ConnId;

/// A session, numbered by the core; it may outlive its connection (XEP-0198).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// A bound session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) user: UserId,
    pub(crate) jid: FullJid,
    /// `None` while it waits to be resumed.
    pub(crate) conn: Option<ConnId>,
    /// Names this stream in message ids; with XEP-0198 also its id there.
    pub(crate) stream: [u8; 16],
    /// Stanzas handled from the client.
    pub(crate) inbound: u32,
    /// Last available presence.
    pub(crate) presence: Option<Stanza>,
    /// When it became what it is, unix milliseconds.
    pub(crate) since: u64,
    /// Asked for the contact list (RFC 6121 §2.2).
    pub(crate) interested: bool,
    /// Asked for the block list (XEP-0191 §3.2).
    pub(crate) blocklist: bool,
    /// Enabled carbons (XEP-0280).
    pub(crate) carbons: bool,
    /// Where it sent directed presence (RFC 6121 §4.6). Not stored: when this node goes, other nodes take it back, and
    /// its own sessions are told who is gone when they resume.
    pub(crate) directed: BTreeSet<Jid>,
    /// Its requests that other sessions have not answered, oldest first.
    pub(crate) asked: VecDeque<Asked>,
    /// Neighbours that its client shows, or may show: who was taken back stays, with the number of the stanza that says
    /// so, until the client has that.
    pub(crate) neighbours: BTreeMap<Who, Option<u32>>,
    /// Version of the contact list that it has for certain.
    pub(crate) roster_known: u64,
    /// It is from before a restart, and its client may show people who left meanwhile.
    pub(crate) restored: bool,
    /// XEP-0352: nobody looks at the client; what it is spared until somebody does.
    pub(crate) inactive: Option<Spared>,
    /// XEP-0198, once enabled.
    pub(crate) management: Option<Management>,
    /// Held messages written to a client without XEP-0198 and not proved to have come.
    pub(crate) written: Written,
}

/// The newest presence of each sender, kept from an inactive client.
pub(crate) type Spared = BTreeMap<Jid, Stanza>;

/// XEP-0198 on one session.
#[derive(Debug, Default)]
pub(crate) struct Management {
    /// Stanzas sent to the client.
    pub(crate) outbound: u32,
    /// Those it has not acknowledged.
    pub(crate) unacked: VecDeque<Unacked>,
    /// Bytes of them.
    pub(crate) bytes: usize,
    /// A request for an acknowledgement is under way.
    pub(crate) requested: bool,
    /// May be resumed.
    pub(crate) resumable: bool,
}

/// A stanza that the client has not acknowledged.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) sequence: u32,
    pub(crate) stanza: Stanza,
    /// Its length as it is written.
    pub(crate) bytes: usize,
    /// Number in the inbox, for a message that is held there.
    pub(crate) held: Option<u64>,
    /// Another session has the same message: it is not delivered anew if this one ends.
    pub(crate) copy: bool,
}

/// What a client without XEP-0198 was sent from the inbox. The answer to a ping (XEP-0199) that was sent behind a
/// message proves that the message came, since a stream is read in order.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Inbox numbers, oldest first.
    pub(crate) unproved: VecDeque<u64>,
    /// The ping under way: its number, and how many of `unproved` it stands behind.
    pub(crate) ping: Option<(u64, usize)>,
}

impl Session {
    /// Priority of the session's presence (RFC 6121 §4.7.2.3); `None` while it is not available.
    pub(crate) fn priority(&self) -> Option<i8> {
        self.presence.as_ref().map(priority_of)
    }

    /// A neighbour was taken back by the stanza sent last. One that is lost with this process is said again.
    pub(crate) fn took_back(&mut self, who: &Who) {
        match &self.management {
            Some(management) => self.neighbours.insert(who.clone(), Some(management.outbound)),
            None => self.neighbours.remove(who),
        };
    }

    /// Whether undirected messages go to it.
    pub(crate) fn takes_messages(&self) -> bool {
        self.priority().is_some_and(|priority| priority >= 0)
    }
}

/// Priority that a presence stanza states; 0 where it states none that is valid.
pub(crate) fn priority_of(presence: &Stanza) -> i8 {
    let stated = presence.payload.iter().find(|child| child.name() == "priority");
    stated.and_then(|child| child.own_text().trim().parse().ok()).unwrap_or(0)
}

impl Management {
    /// Takes what the client says it has handled. Returns the stanzas that this covers.
    ///
    /// # Errors
    /// `Err(sent)` when it claims more than was sent.
    pub(crate) fn acknowledge(&mut self, handled: u32) -> Result<Vec<Unacked>, u32> {
        if handled.wrapping_sub(self.outbound).cast_signed() > 0 {
            return Err(self.outbound);
        }
        let covered = |unacked: &Unacked| handled.wrapping_sub(unacked.sequence).cast_signed() >= 0;
        let count = self.unacked.iter().take_while(|unacked| covered(unacked)).count();
        let covered: Vec<_> = self.unacked.drain(..count).collect();
        self.bytes -= covered.iter().map(|unacked| unacked.bytes).sum::<usize>();
        Ok(covered)
    }

    /// Puts a queue in the place of the one that there is. Returns that.
    pub(crate) fn replace(&mut self, unacked: VecDeque<Unacked>) -> VecDeque<Unacked> {
        self.bytes = unacked.iter().map(|unacked| unacked.bytes).sum();
        std::mem::replace(&mut self.unacked, unacked)
    }

    /// Counts a stanza that is sent now, with so many bytes.
    pub(crate) fn sent(&mut self, stanza: Stanza, bytes: usize, held: Option<u64>) -> u32 {
        self.outbound = self.outbound.wrapping_add(1);
        self.unacked.push_back(Unacked { sequence: self.outbound, stanza, bytes, held, copy: false });
        self.bytes += bytes;
        self.outbound
    }
}

impl Written {
    /// The ping with this number was answered. Returns the inbox numbers that this proves.
    pub(crate) fn proved(&mut self, ping: u64) -> Vec<u64> {
        match self.ping {
            Some((number, behind)) if number == ping => {
                self.ping = None;
                self.unproved.drain(..behind.min(self.unproved.len())).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::{Kind, Type};

    fn message() -> Stanza {
        Stanza::new(Kind::Message, Type::Chat)
    }

    #[test]
    fn acknowledgements_wrap_and_cover_only_what_was_sent() {
        let mut management = Management { outbound: u32::MAX - 1, ..Management::default() };
        for held in 0..3 {
            management.sent(message(), 10, Some(held));
        }
        assert_eq!(management.outbound, 1);
        assert_eq!(management.acknowledge(5).unwrap_err(), 1);
        let covered = management.acknowledge(0).unwrap();
        assert_eq!(covered.iter().map(|unacked| unacked.held).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert!(management.acknowledge(0).unwrap().is_empty());
        assert_eq!(management.bytes, 10);
        assert_eq!(management.acknowledge(1).unwrap().len(), 1);
        assert_eq!(management.bytes, 0);
    }

    #[test]
    fn only_the_answer_to_the_ping_under_way_proves_something() {
        let mut written = Written { unproved: VecDeque::from([7, 8, 9]), ping: Some((1, 2)) };
        assert!(written.proved(2).is_empty());
        assert_eq!(written.proved(1), [7, 8]);
        assert_eq!(written.unproved, [9]);
    }
}

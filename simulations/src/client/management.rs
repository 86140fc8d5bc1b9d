//! XEP-0198 as a client does it: counts what comes, keeps what is not acknowledged, sends it again. *Pure.*

use std::collections::VecDeque;

use crosstalk::xmpp::Element;

use crate::invariants::MessageKey;

/// A stanza of a client, and which numbered message it is.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) element: Element,
    pub(crate) message: Option<MessageKey>,
}

/// A resumable stream.
#[derive(Debug)]
pub(crate) struct Management {
    /// Names the stream.
    pub(crate) id: String,
    /// Stanzas that came.
    pub(crate) handled: u32,
    /// Stanzas that the node has acknowledged.
    acknowledged: u32,
    /// Those it has not.
    pub(crate) unacked: VecDeque<Note>,
}

impl Management {
    /// A stream that the node has just enabled.
    pub(crate) fn new(id: String) -> Self {
        Self { id, handled: 0, acknowledged: 0, unacked: VecDeque::new() }
    }

    /// Keeps what is sent now.
    pub(crate) fn sent(&mut self, note: Note) {
        self.unacked.push_back(note);
    }

    /// The node says how many stanzas it has. Returns what that covers.
    ///
    /// # Errors
    /// The node takes back what it said, or has more than was sent.
    pub(crate) fn acknowledged(&mut self, handled: u32) -> Result<Vec<Note>, String> {
        let covered = handled.wrapping_sub(self.acknowledged);
        let before = self.acknowledged;
        if covered.cast_signed() < 0 {
            return Err(format!("a node that acknowledged {before} stanzas now has {handled} only"));
        }
        let covered = usize::try_from(covered).unwrap_or(usize::MAX);
        if covered > self.unacked.len() {
            return Err(format!("a node acknowledges {handled} stanzas, which is more than it was sent"));
        }
        self.acknowledged = handled;
        Ok(self.unacked.drain(..covered).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note { element: Element::new("message", "jabber:client"), message: None }
    }

    #[test]
    fn covers_what_is_acknowledged_and_nothing_twice() {
        let mut management = Management::new("s".to_owned());
        (0..3).for_each(|_| management.sent(note()));
        assert_eq!(management.acknowledged(2).map(|covered| covered.len()), Ok(2));
        assert_eq!(management.acknowledged(2).map(|covered| covered.len()), Ok(0));
        assert!(management.acknowledged(1).is_err(), "taken back");
        assert!(management.acknowledged(4).is_err(), "never sent");
    }
}

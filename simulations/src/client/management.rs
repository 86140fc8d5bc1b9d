//! XEP-0198 as a client does it: counts what comes, keeps what is not acknowledged, sends it again. *Pure.*

use std::collections::{BTreeSet, VecDeque};

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
    unacked: VecDeque<Note>,
    /// Ids of messages that were answered with an error.
    refused: BTreeSet<String>,
}

impl Management {
    /// A stream that the node has just enabled.
    pub(crate) fn new(id: String) -> Self {
        Self { id, handled: 0, acknowledged: 0, unacked: VecDeque::new(), refused: BTreeSet::new() }
    }

    /// Keeps what is sent now.
    pub(crate) fn sent(&mut self, note: Note) {
        self.unacked.push_back(note);
    }

    /// Whether everything is acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        self.unacked.is_empty()
    }

    /// What is not acknowledged, for the same stream once more.
    pub(crate) fn again(&self) -> impl Iterator<Item = &Note> {
        self.unacked.iter()
    }

    /// A stanza came; the person is told of a refused message, and it is not for the client to send it once more.
    pub(crate) fn heard(&mut self, stanza: &Element) {
        self.handled = self.handled.wrapping_add(1);
        if stanza.name() == "message" && stanza.get_attr("type") == Some("error") {
            self.refused.extend(stanza.get_attr("id").map(str::to_owned));
        }
    }

    /// What is not acknowledged and not answered, for a new stream.
    pub(crate) fn into_unanswered(self) -> impl DoubleEndedIterator<Item = Note> {
        let Self { unacked, refused, .. } = self;
        unacked
            .into_iter()
            .filter(move |note| !note.element.get_attr("id").is_some_and(|id| refused.contains(id)))
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
    fn what_was_refused_is_for_no_new_stream() {
        let mut management = Management::new("s".to_owned());
        for id in ["1", "2"] {
            let element = Element::new("message", "jabber:client").attr("id", id);
            management.sent(Note { element, message: None });
        }
        let refusal = Element::new("message", "jabber:client").attr("id", "1").attr("type", "error");
        management.heard(&refusal);
        assert_eq!((management.handled, management.again().count()), (1, 2), "the stream counts it");
        let left: Vec<_> = management.into_unanswered().collect();
        assert_eq!(left.iter().map(|note| note.element.get_attr("id")).collect::<Vec<_>>(), [Some("2")]);
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

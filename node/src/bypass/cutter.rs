//! What a server says, cut into elements, each with the very bytes that it came in. *Pure.*

use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::parse::Scope;

/// A server's features, which may be changed: long lists, with more inside.
pub(super) const LIMITS: Limits =
    Limits { stanza_bytes: 64 << 10, written_bytes: 128 << 10, depth: 16, attributes: 32, elements: 1_024 };

/// Cuts one stream.
#[derive(Debug)]
pub(super) struct Cutter {
    framer: Framer,
    /// What has come of the next element, and what stood before it.
    held: Vec<u8>,
}

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// An element, with all bytes since the one before it.
    Whole(Frame, Vec<u8>),
    /// What stands between elements.
    Between(Vec<u8>),
    /// No XMPP, or more of it than is taken: all that had not been given out.
    Broken(Vec<u8>),
}

impl Cutter {
    pub(super) fn new() -> Self {
        Self { framer: Framer::new(LIMITS), held: Vec::new() }
    }

    /// The next piece of `input`, which is taken from; nothing if all of it is, and an element goes on behind it.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<Piece> {
        if input.is_empty() {
            return None;
        }
        let all = *input;
        let cut = self.framer.next(input);
        if cut.is_err() {
            *input = &[];
        }
        self.held.extend_from_slice(&all[..all.len() - input.len()]);
        match cut {
            Ok(Some(frame)) => Some(Piece::Whole(frame, self.take_held())),
            Ok(None) if self.framer.kept() == 0 => Some(Piece::Between(self.take_held())),
            Ok(None) => None,
            Err(_) => Some(Piece::Broken(self.take_held())),
        }
    }

    /// What has come of an element that is not complete.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The namespaces that the stream's header declares, once it has come.
    pub(super) fn scope(&self) -> Option<&Scope> {
        self.framer.scope()
    }
}

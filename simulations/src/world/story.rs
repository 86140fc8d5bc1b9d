//! What happened, for people, and its hash, for comparing runs. *Pure.*

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Lines of a story that are kept; the oldest go.
const KEPT: usize = 200_000;

/// The lines of a story. Clones are the same story, so that it outlives a world that panics.
#[derive(Clone, Default)]
pub(crate) struct Lines(Rc<RefCell<std::collections::VecDeque<String>>>);

impl Lines {
    fn push(&self, line: String) {
        let mut lines = self.0.borrow_mut();
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All of it.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take().into()
    }
}

/// The story of a run. Lines are written only when somebody wants to read them; the hash always covers everything.
pub(crate) struct Story {
    lines: Option<Lines>,
    hash: u64,
    events: u64,
}

impl Story {
    /// A story that is only hashed, or told into `lines` too.
    pub(crate) fn new(lines: Option<Lines>) -> Self {
        Self { lines, hash: 0xcbf2_9ce4_8422_2325, events: 0 }
    }

    /// Takes something that happened into the hash (FNV-1a over time, kind, place and bytes).
    pub(crate) fn mark(&mut self, time: u64, kind: u8, place: u64, bytes: &[u8]) {
        self.events += 1;
        let head = time.to_le_bytes().into_iter().chain([kind]).chain(place.to_le_bytes());
        for byte in head.chain(bytes.iter().copied()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Writes a line.
    pub(crate) fn tell(&self, time: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            lines.push(format!("{:>5}.{:03}  {}", time / 1_000, time % 1_000, line()));
        }
    }

    /// The same for the same run.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Things that happened.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Virtual milliseconds since the start.
    pub at: u64,
    /// Which promise, and how.
    pub what: String,
}

impl Violation {
    /// Which promise it was, whoever and whenever: its text without numbers.
    pub fn kind(&self) -> String {
        self.what.chars().filter(|c| !c.is_ascii_digit()).take(90).collect()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}.{:03} s: {}", self.at / 1_000, self.at % 1_000, self.what)
    }
}

/// What a step of a run comes to.
pub(crate) type Checked = Result<(), Violation>;

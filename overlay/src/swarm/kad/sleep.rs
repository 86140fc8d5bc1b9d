//! The tables sleep on a link that has nobody beyond it: neighbours and multicast DNS find everybody there, and tables would only cost
//! air and battery. Asleep, a node asks nobody and nobody asks it.
//!
//! What speaks of a wider network wakes them, until the program ends: a peer that is in a table itself, a connection to
//! somebody beyond the link, a public address of this machine.

use std::time::Duration;

use tokio::time::Instant;

/// A peer that was just being told what this node answers may have heard it as it was before: so long after, all are told again.
const AGAIN: Duration = Duration::from_secs(2);

/// See the file's head.
pub(super) struct Rest {
    asleep: bool,
    again: Option<Instant>,
}

impl Rest {
    pub(super) fn new(asleep: bool) -> Self {
        Self { asleep, again: None }
    }

    pub(super) fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Whether it was asleep until now.
    pub(super) fn wake(&mut self, why: &'static str) -> bool {
        if !std::mem::take(&mut self.asleep) {
            return false;
        }
        tracing::debug!(why, "the hash table wakes");
        self.again = Some(Instant::now() + AGAIN);
        true
    }

    /// When [`Rest::says_it_again`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.again
    }

    /// Whether it is time to tell the peers again what this node answers.
    pub(super) fn says_it_again(&mut self, now: Instant) -> bool {
        self.again.take_if(|at| *at <= now).is_some()
    }
}

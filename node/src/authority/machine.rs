//! What the server of a domain takes from the machine that it runs on: the time, and chance. The program gives it those of the
//! system, simulations theirs.
//!
//! What processes that share a database say to each other (`passing`), and since when it stands as it does (`standing`), goes by
//! the system's clock always.

use crosstalk_overlay::time::Now;

use crate::accounts::random::{self, NoRandomness};
use crate::event_loop::clock::Clock;

/// A machine.
pub trait Machine: std::fmt::Debug + Send + Sync {
    /// Both its clocks.
    fn now(&self) -> Now;

    /// Fills in random bytes.
    ///
    /// # Errors
    /// When it has none to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The one that this program runs on.
#[derive(Debug)]
pub(super) struct ThisMachine(Clock);

impl ThisMachine {
    /// Its monotonic clock begins now.
    pub(super) fn start() -> Self {
        Self(Clock::start())
    }
}

impl Machine for ThisMachine {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        random::fill(bytes)
    }
}

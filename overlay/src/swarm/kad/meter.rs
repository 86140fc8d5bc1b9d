//! How much a peer says in a table.

use tokio::time::Instant;

/// Messages of a peer at once, and then in each second.
const BURST: f64 = 256.0;
const RATE: f64 = 64.0;

/// See the file's head.
pub(super) struct Meter {
    tokens: f64,
    at: Instant,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { tokens: BURST, at: Instant::now() }
    }

    /// False: it says too much.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.at).as_secs_f64() * RATE;
        self.at = now;
        self.tokens = (self.tokens + earned).min(BURST) - 1.0;
        self.tokens >= 0.0
    }
}

//! The two clocks of the node: the only place of the running program that reads them for the core.

use std::time::{SystemTime, UNIX_EPOCH};

use crosstalk_overlay::time::Now;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the node started, which go on while the machine sleeps, and the time that the machine believes.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: boot_millis() }
    }

    /// Both times.
    pub fn now(&self) -> Now {
        Now { mono: boot_millis().saturating_sub(self.start), wall: wall_millis() }
    }
}

/// A sleeping laptop's neighbours have counted on: `Instant` has not (Linux's CLOCK_MONOTONIC stops), this has.
fn boot_millis() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000)
}

/// Unix time in milliseconds, as the machine believes it.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_starts_near_zero_and_does_not_go_back() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.mono < 1_000 && first.mono <= second.mono);
        assert!(first.wall > 1_700_000_000_000);
    }
}

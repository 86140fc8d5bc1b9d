//! The pace of a checkpoint: work that nobody waits for leaves processor and disk to what somebody does.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Less work than this is not worth a rest.
const PIECE: Duration = Duration::from_millis(1);
/// It rests so many times as long as it has worked, which takes a quarter of a processor.
const REST: u32 = 3;
/// And no longer than this at once: a slow disk makes a piece of work long, and the whole should end.
const LONGEST: Duration = Duration::from_millis(20);

/// Tells the one who works that it is waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Hurry(Arc<AtomicBool>);

impl Hurry {
    /// No more rest.
    pub(super) fn up(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// When to work, and when to rest.
#[derive(Debug)]
pub(super) struct Pace {
    hurry: Hurry,
    /// Since when it has worked.
    working: Cell<Instant>,
}

impl Pace {
    pub(super) fn new(hurry: Hurry) -> Self {
        Self { hurry, working: Cell::new(Instant::now()) }
    }

    /// Rests, as long as is right after the work since the last time.
    pub(super) fn rest(&self) {
        let worked = self.working.get().elapsed();
        if worked < PIECE || self.hurry.0.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep((worked * REST).min(LONGEST));
        self.working.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_until_it_is_waited_for() {
        let hurry = Hurry::default();
        let pace = Pace::new(hurry.clone());
        let worked = Duration::from_millis(2);
        let begin = Instant::now();
        for _ in 0..3 {
            std::thread::sleep(worked);
            pace.rest();
        }
        assert!(begin.elapsed() >= 3 * worked * (1 + REST), "{:?}", begin.elapsed());
        hurry.up();
        let begin = Instant::now();
        for _ in 0..100_000 {
            pace.rest();
        }
        assert!(begin.elapsed() < 100_000 * worked, "{:?}", begin.elapsed());
    }
}

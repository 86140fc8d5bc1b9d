//! How much time a chapter has, and whether somebody wants the end.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::now;
use crate::interrupt::Interrupt;

/// The time of one chapter.
pub struct Pace<'a> {
    begin: Instant,
    share: Duration,
    /// When the whole report began, and how long it may take.
    whole: (Instant, Duration),
    bar: &'a ProgressBar,
    interrupt: &'a Interrupt,
}

impl<'a> Pace<'a> {
    pub(super) fn new(
        share: Duration,
        whole_begin: Instant,
        whole: Duration,
        bar: &'a ProgressBar,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self { begin: now(), share, whole: (whole_begin, whole), bar, interrupt }
    }

    /// What is left for this chapter.
    pub fn left(&self) -> Duration {
        self.share.saturating_sub(self.begin.elapsed())
    }

    /// How long this chapter has taken.
    pub fn spent(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Moves the bar. Break: somebody wants the end, or the time is over; what was computed is written all the same.
    pub fn goes_on(&self) -> ControlFlow<()> {
        let (begin, time) = self.whole;
        let thousandths = begin.elapsed().as_millis() * 1_000 / time.as_millis().max(1);
        self.bar.set_position(u64::try_from(thousandths).unwrap_or(1_000).min(1_000));
        if self.is_interrupted() || self.left().is_zero() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Somebody wants the end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_asked()
    }
}

//! How much time a chapter has, whether somebody wants the end, and what chapters share.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::lived::{Lived, live};
use super::now;
use crate::interrupt::Interrupt;

/// What chapters share.
pub(super) struct Shared {
    /// When the whole report began, and how long it may take.
    pub(super) begin: Instant,
    pub(super) time: Duration,
    pub(super) bar: ProgressBar,
    pub(super) interrupt: Interrupt,
    /// Where figures of real programs stand that were measured before.
    pub(super) measured: PathBuf,
    /// Runs of scenarios, once somebody has asked for them.
    pub(super) lived: OnceCell<Lived>,
}

impl Shared {
    /// Moves the bar.
    fn tick(begin: Instant, time: Duration, bar: &ProgressBar) {
        let thousandths = begin.elapsed().as_millis() * 1_000 / time.as_millis().max(1);
        bar.set_position(u64::try_from(thousandths).unwrap_or(1_000).min(1_000));
    }
}

/// The time of one chapter.
pub struct Pace<'a> {
    begin: Instant,
    share: Duration,
    shared: &'a Shared,
}

impl<'a> Pace<'a> {
    pub(super) fn new(share: Duration, shared: &'a Shared) -> Self {
        Self { begin: now(), share, shared }
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
        Shared::tick(self.shared.begin, self.shared.time, &self.shared.bar);
        if self.shared.interrupt.is_asked() || self.left().is_zero() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Measured runs of all scenarios, as many as there is time for in the chapter that asks first.
    pub fn lived(&self) -> &'a Lived {
        self.shared.lived.get_or_init(|| {
            let (begin, time, bar) = (self.shared.begin, self.shared.time, self.shared.bar.clone());
            live(self.left(), &self.shared.interrupt, move || Shared::tick(begin, time, &bar))
        })
    }

    /// A file with figures of real programs, which was measured before; nothing if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read, or is something else.
    pub fn measured<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let path = self.shared.measured.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(format!("{}: {why}", path.display())),
        };
        serde_json::from_str(&text).map(Some).map_err(|why| format!("{}: {why}", path.display()))
    }
}

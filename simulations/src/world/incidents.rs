//! What a scenario plans to be said and to go wrong, each with a number: so a run can be told without most of it. *Pure.*

use std::collections::BTreeSet;

use super::World;
use super::events::Event;

/// Numbers of incidents.
pub type Numbers = BTreeSet<usize>;

/// All that was planned.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    /// These happen only; `None`: all.
    only: Option<Numbers>,
    /// When each begins, virtual milliseconds, by its number.
    begins: Vec<u64>,
}

impl Incidents {
    /// Only these are to happen.
    pub(crate) fn only(only: Option<Numbers>) -> Self {
        Self { only, begins: Vec::new() }
    }

    /// Those that had begun by then.
    pub(crate) fn begun(&self, time: u64) -> Numbers {
        let begun = self.begins.iter().enumerate().filter(|(_, begins)| **begins <= time);
        begun.map(|(number, _)| number).filter(|number| self.happens(*number)).collect()
    }

    /// How many were planned.
    pub(crate) fn planned(&self) -> usize {
        self.begins.len()
    }

    fn happens(&self, number: usize) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&number))
    }
}

impl World {
    /// Plans one incident: what belongs together, such as a fault and its end. Without it the run draws other chances from
    /// then on.
    pub(crate) fn plan(&mut self, events: impl IntoIterator<Item = (u64, Event)>) {
        let number = self.incidents.begins.len();
        let mut begins = u64::MAX;
        for (when, event) in events {
            begins = begins.min(when);
            if self.incidents.happens(number) {
                self.queue.push(when, event);
            }
        }
        self.incidents.begins.push(begins);
    }
}

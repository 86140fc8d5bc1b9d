//! What is reported, in the order of the page.

mod calibration;
mod churn;
mod scale;
mod scenarios;

use std::ops::ControlFlow;

use super::{Pace, Source};
use crate::scale::{Figures, Setting, run};

/// All chapters.
pub const ALL: &[Source] = &[
    Source {
        name: "scenarios",
        about: "runs of many nodes on virtual time, with faults: how fast, how many messages, what was broken",
        weight: 4,
        fill: scenarios::fill,
    },
    Source {
        name: "scale",
        about: "the hash table from a thousand nodes up: hops, latency, load, storage, and a billion users",
        weight: 4,
        fill: scale::fill,
    },
    Source {
        name: "churn",
        about: "how many copies, put again how often, while nodes come and go",
        weight: 3,
        fill: churn::fill,
    },
    Source {
        name: "calibration",
        about: "the model beside real swarms of the same size",
        weight: 1,
        fill: calibration::fill,
    },
];

/// Runs the model while there is time; nothing if it was ended before it was whole.
fn modelled(setting: Setting, pace: &Pace<'_>) -> Option<Figures> {
    let mut ended = false;
    let figures = run(setting, |_| {
        let goes_on = pace.goes_on();
        ended = goes_on.is_break();
        goes_on
    });
    figures.filter(|_| !ended)
}

fn may_go_on(pace: &Pace<'_>) -> bool {
    matches!(pace.goes_on(), ControlFlow::Continue(()))
}

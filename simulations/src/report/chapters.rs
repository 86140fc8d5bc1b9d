//! What is reported, in the order of the page.

mod airtime;
mod calibration;
mod churn;
mod delay;
mod delivery;
mod energy;
mod presence;
mod scale;
mod scenarios;
mod side_by_side;
mod storage;

use std::ops::ControlFlow;

use super::{Pace, Source};
use crate::scale::{Figures, Setting, run};

/// Scenarios whose curves are drawn: more would not be told apart.
const DRAWN: [&str; 6] = [
    "village_with_one_courier",
    "school_day",
    "flash_crowd_after_a_cut",
    "radio_with_40_percent_loss",
    "lid_closed_and_opened",
    "power_cuts_every_minute",
];

/// All chapters. Those that read runs of scenarios need time only where none of them was computed before.
pub const ALL: &[Source] = &[
    Source {
        name: "scenarios",
        about: "runs of many nodes on virtual time, with faults: how fast, how many messages, what was broken",
        weight: 12,
        fill: scenarios::fill,
    },
    Source {
        name: "delivery",
        about: "of the same runs: whether all came, once, and how soon after it was possible",
        weight: 1,
        fill: delivery::fill,
    },
    Source {
        name: "delay",
        about: "of the same runs: how long messages take, beside the least that was possible",
        weight: 1,
        fill: delay::fill,
    },
    Source {
        name: "presence",
        about: "of the same runs: who is shown and not there, or there and not shown, and for how long",
        weight: 1,
        fill: presence::fill,
    },
    Source {
        name: "airtime",
        about: "of the same runs: packets and bytes on the air, and for what",
        weight: 1,
        fill: airtime::fill,
    },
    Source { name: "energy", about: "of the same runs: wake-ups and packets", weight: 1, fill: energy::fill },
    Source {
        name: "storage",
        about: "of the same runs: what is written to disks, and kept",
        weight: 1,
        fill: storage::fill,
    },
    Source {
        name: "side-by-side",
        about: "the paper's load on this program, Prosody and ejabberd, as it was measured last",
        weight: 0,
        fill: side_by_side::fill,
    },
    Source {
        name: "scale",
        about: "the hash table from a thousand nodes up: hops, latency, load, storage, and a billion users",
        weight: 10,
        fill: scale::fill,
    },
    Source {
        name: "churn",
        about: "how many copies, put again how often, while nodes come and go",
        weight: 8,
        fill: churn::fill,
    },
    Source {
        name: "calibration",
        about: "the model beside real swarms of the same size",
        weight: 3,
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

/// With three digits that count, for columns from thousandths to thousands.
fn rough(value: f64) -> String {
    let least = [100.0, 10.0, 1.0, 0.1, 0.01];
    let digits =
        if value == 0.0 { 0 } else { least.iter().take_while(|least| value.abs() < **least).count() };
    format!("{value:.digits$}")
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

fn may_go_on(pace: &Pace<'_>) -> bool {
    matches!(pace.goes_on(), ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::rough;

    #[test]
    fn three_digits_count() {
        let values = [0.0, 0.176_4, 2.184, 84.55, 528.4, 3_400.9];
        assert_eq!(values.map(rough), ["0", "0.176", "2.18", "84.5", "528", "3401"]);
    }
}

//! Each deliberate bug of the catalogue is caught.

#![allow(clippy::panic, reason = "a test fails by it")]

use crosstalk_simulations::mutants::{Case, cases, hunt};

/// Seeds within which a bug has to be caught.
const SEEDS: u64 = 60;

fn are_caught(those: impl Fn(&Case) -> bool) {
    let uncaught: Vec<_> =
        cases().filter(those).filter(|case| hunt(case, 0, SEEDS).is_none()).map(|case| case.mutant).collect();
    assert!(uncaught.is_empty(), "these went unseen for {SEEDS} seeds: {uncaught:?}");
}

#[test]
fn there_are_many() {
    assert!(cases().count() >= 30);
}

#[test]
fn with_two_laptops() {
    are_caught(|case| case.scenario.name == "two_laptops");
}

#[test]
fn elsewhere() {
    are_caught(|case| case.scenario.name != "two_laptops");
}

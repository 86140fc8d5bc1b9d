//! The invariants see what they are there for: the world breaks a promise on purpose and is caught.

#![allow(clippy::panic, reason = "a test fails by it")]

use crosstalk_simulations::scenario;
use crosstalk_simulations::world::sabotage::Sabotage;

/// Seeds within which a sabotage has to be caught.
const SEEDS: u64 = 25;

/// What the sabotage is caught as, in the first seed in which it is.
fn caught(name: &str, sabotage: Sabotage) -> Option<String> {
    let scenario = scenario::find(name)?;
    (0..SEEDS)
        .find_map(|seed| scenario::run(scenario, seed, Some(sabotage)).err())
        .map(|broken| broken.violation.what)
}

fn is_caught_as(sabotage: Sabotage, words: &[&str]) {
    let what = caught("two_laptops", sabotage);
    let what = what.unwrap_or_else(|| panic!("{sabotage:?} went unseen for {SEEDS} seeds"));
    assert!(words.iter().any(|words| what.contains(words)), "{sabotage:?} was caught as: {what}");
}

#[test]
fn a_commit_that_is_only_reported() {
    is_caught_as(Sabotage::LoseCommit, &["nobody holds", "does not hold"]);
}

#[test]
fn a_message_left_out_of_a_commit() {
    is_caught_as(Sabotage::LoseWrite, &["nobody holds", "has not got"]);
}

#[test]
fn an_acknowledgement_before_the_commit() {
    is_caught_as(Sabotage::EarlyCommit, &["nobody holds", "was not resumed", "now has", "order is lost"]);
}

#[test]
fn a_start_from_an_old_store() {
    is_caught_as(
        Sabotage::RollBack,
        &["nobody holds", "was not resumed", "now has", "twice", "does not start"],
    );
}

#[test]
fn sessions_lost_at_a_start() {
    is_caught_as(Sabotage::ForgetSessions, &["was not resumed"]);
}

#[test]
fn a_forged_acknowledgement_of_a_client() {
    is_caught_as(Sabotage::ForgedAck, &["nobody holds", "order is lost"]);
}

#[test]
fn a_message_shown_twice() {
    is_caught_as(Sabotage::DoubleStanza, &["twice"]);
}

#[test]
fn a_message_never_shown() {
    is_caught_as(Sabotage::LoseStanza, &["order is lost", "has not got"]);
}

#[test]
fn messages_in_the_wrong_order() {
    is_caught_as(Sabotage::SwapStanzas, &["order is lost", "has not got"]);
}

#[test]
fn a_message_under_another_name() {
    is_caught_as(Sabotage::ForgedFrom, &["somebody else said"]);
}

#[test]
fn presence_of_nobody() {
    is_caught_as(Sabotage::Stranger, &["nobody who exists"]);
}

#[test]
fn contact_list_pushes_that_do_not_come() {
    is_caught_as(Sabotage::LosePush, &["it is still not so", "by pushes"]);
}

#[test]
fn the_same_frame_twice_is_legal() {
    assert_eq!(caught("two_laptops", Sabotage::DoubleFrame), None);
}

//! The overlay core as a whole: a few nodes on a virtual clock and a virtual network.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "the whole crate is a test: what is not expected fails it"
)]

mod authority;
mod bounds;
mod clocks;
mod compromised;
mod crowd;
mod dht;
mod domains;
mod enrol;
mod faults;
mod handover;
mod hostile;
mod join;
mod liars;
mod lost;
mod mailbox;
mod mailbox_hostile;
mod many;
mod meeting;
mod messages;
mod names;
mod probes;
mod pump;
mod relays;
mod revoked;
mod rotated;
mod steps;
mod table;
mod tokens;
mod vectors;
mod wide;

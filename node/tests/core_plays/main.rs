//! The core by scripted conversations of clients on one node; one binary, since linking the node takes long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a play that goes wrong is a test that fails"
)]

#[path = "../core_support/mod.rs"]
mod core_support;

mod answers;
mod backup;
mod binding;
mod blocking;
mod compromised;
mod conflicts;
mod contact_list;
mod devices;
mod elsewhere;
mod enrolled;
mod features;
mod found;
mod histories;
mod inbox;
mod link;
mod management;
mod messages;
mod names;
mod nearby;
mod passwords;
mod pending;
mod presence;
mod proof;
mod requests;
mod resumption;
mod server;
mod servers;
mod shown;
mod store_trouble;
mod subscription;
mod upstream;

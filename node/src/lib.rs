//! CrossTalk: an XMPP gateway for the chat programs people have, and a peer of the overlay of all such nodes.

pub mod accounts;
pub mod admin;
pub mod archive;
pub mod authority;
pub mod backup;
pub mod bypass;
pub mod c2s;
pub mod cli;
pub mod config;
pub mod core;
pub mod event_loop;
pub mod features;
mod greeting;
pub mod irc;
pub mod link;
pub mod metrics;
pub mod run;
pub mod secret;
pub mod store_thread;
pub mod telemetry;
pub mod upstream;
pub mod well_known;
pub mod xmpp;

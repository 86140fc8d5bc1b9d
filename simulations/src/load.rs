//! Owns the load program: many XMPP clients in one thread, messages between them, and what it cost the server.
//!
//! One thread with epoll, stanzas cut by searching for a few bytes instead of parsed, one write per client and turn:
//! the program shares a small machine with the server that it measures. [`sink`] shows what it can do itself.
//!
//! The path of a run is in [`run`](run()): `options` → `login` (per client, in `fleet`) → memory → `traffic` over
//! `connection`s → `report`.

pub mod connection;
pub mod fleet;
pub mod histogram;
pub mod login;
pub mod marker;
pub mod options;
pub mod poll;
pub mod process;
pub mod report;
mod run;
pub mod scanner;
pub mod schedule;
pub mod sequence;
pub mod sink;
pub mod sm;
pub mod stanza;
#[cfg(test)]
mod tests;
pub mod traffic;

pub use options::Options;
pub use report::Report;
pub use run::run;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// The file of accounts cannot be read.
    #[error("cannot read the accounts in {path}: {reason}")]
    UsersFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The server's process does not exist.
    #[error("there is no process {0}: give --pid the server's process id")]
    NoProcess(u32),
    /// The CPU cannot be chosen.
    #[error("cannot bind to CPU {cpu}: {reason}; see /sys/devices/system/cpu/online for those there are")]
    Pin {
        /// The CPU.
        cpu: usize,
        /// Why.
        reason: io::Error,
    },
    /// No epoll instance, or it failed.
    #[error("epoll: {0}")]
    Poll(io::Error),
    /// The server cannot be reached.
    #[error("cannot connect to {server}: {reason}; is the server running?")]
    Connect {
        /// Its address.
        server: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// A client cannot log in.
    #[error("login of client {client}: {reason}")]
    Login {
        /// Its number.
        client: usize,
        /// Why.
        reason: login::LoginError,
    },
    /// Logins stopped making progress.
    #[error("no login finished for 30 s: {done} of {wanted} are done; try a smaller --login-parallel")]
    LoginStalled {
        /// Finished logins.
        done: usize,
        /// Wanted logins.
        wanted: usize,
    },
    /// Nobody is left to send.
    #[error("the server closed the connections of all clients during the run")]
    AllLost,
}

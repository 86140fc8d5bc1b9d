//! The door to the rest of XMPP: the server of a domain as an external component (XEP-0114) of a stock server, so that
//! `user@domain` is an ordinary address for everybody outside the overlay (`overlay/PROTOCOL.md` §14).
//!
//! | file | does |
//! | --- | --- |
//! | [`connection`] | the TCP connection to the stock server: handshake, elements in, bytes out, tries again |
//! | [`gate`] | who goes through, on whose word; the letters on their way out |
//! | [`inward`] | what the stock server brings |
//! | [`outward`] | what laptops bring |
//! | [`presence`] | who is there, on either side |
//! | [`book`] | what is kept of each user: letters for the devices, contacts |
//! | `shares` | who has how much of the room for letters |
//! | `rates` | how fast stanzas go through |
//! | `outgoing` | letters on their way out |
//! | `blocked` | whom users have blocked (XEP-0191) |
//!
//! It runs in the task of the [`crate::authority`], which is told what happens and does what the gate wants. The laptops'
//! side is `core/upstream.rs`.

mod blocked;
pub mod book;
pub mod connection;
pub mod gate;
pub mod inward;
mod outgoing;
pub mod outward;
pub mod presence;
mod rates;
mod shares;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Where the stock server takes components, and how this one proves itself.
#[derive(Clone, Debug)]
pub struct Component {
    /// HOST:PORT.
    pub address: String,
    /// What both know.
    pub secret: Secret,
}

/// Longest file of a secret, bytes.
const MAX_SECRET: u64 = 1_024;

/// Why the secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file.
    #[error("cannot read the secret of the XMPP server in {path}: {source}. Put it there, or name the file by `component_secret` in [authority]", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("others may read {path}, which holds the secret of the XMPP server: run `chmod 600 {path}`", path = .0.display())]
    Exposed(PathBuf),
    /// Nothing that can be a secret.
    #[error("{path} holds no secret: one line, at most 1,024 bytes", path = .0.display())]
    None(PathBuf),
}

/// Reads the secret: one line of a file that only its owner may read.
///
/// # Errors
/// When there is none, or others could have read it.
pub fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(SecretError::Exposed(path.to_owned()));
    }
    if meta.len() > MAX_SECRET {
        return Err(SecretError::None(path.to_owned()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    let line = text.trim();
    match line.is_empty() || line.contains('\n') {
        true => Err(SecretError::None(path.to_owned())),
        false => Ok(Secret::from(line.to_owned())),
    }
}

/// What went through since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Letters from outside that were taken in.
    pub taken_in: u64,
    /// Letters for outside that were taken of laptops.
    pub taken_out: u64,
    /// Letters that the stock server has handled.
    pub handled: u64,
    /// Letters that all laptops of their user have.
    pub fetched: u64,
    /// Laptops that are here now.
    pub laptops: u64,
}

/// How the link to the stock server stands, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentView {
    /// HOST:PORT.
    pub address: String,
    /// `up` or `down`; `elsewhere`: another process of this server keeps it.
    pub state: String,
    /// Since when, Unix milliseconds.
    pub since: u64,
    /// Why it is down.
    pub why: Option<String>,
    /// Stanzas for outside that the stock server has not taken yet.
    pub held: usize,
    /// Stanzas from outside that laptops have not fetched yet.
    pub waiting: usize,
    /// What was refused or dropped, by reason.
    pub refused: std::collections::BTreeMap<String, u64>,
}

impl ComponentView {
    /// Of a process that does not keep the link: another one may, which shares the database.
    pub fn without(address: &str, shared: bool) -> Self {
        let (state, why) = match shared {
            true => ("elsewhere", "another process of this server keeps the link, or will"),
            false => ("down", "nothing can be saved in the database of the domain now"),
        };
        let (address, why) = (address.to_owned(), Some(why.to_owned()));
        Self { address, state: state.to_owned(), why, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_that_nobody_else_reads() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("secret");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        assert!(matches!(read_secret(&path), Err(SecretError::Read { .. })));
        write("wherefore\n", 0o600);
        assert_eq!(read_secret(&path).expect("read").reveal(), "wherefore");
        write("wherefore\n", 0o640);
        let error = read_secret(&path).expect_err("exposed").to_string();
        assert!(error.contains("chmod 600") && !error.contains("wherefore"), "{error}");
        for bad in ["", " \n", "one\ntwo", &"x".repeat(1_025)] {
            write(bad, 0o600);
            assert!(matches!(read_secret(&path), Err(SecretError::None(_))));
        }
    }
}

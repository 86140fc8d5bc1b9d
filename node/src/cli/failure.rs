//! How a command fails: what is said on stderr, and the exit code that scripts can tell apart.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the system or this program failed |
//! | 2 | wrong arguments |
//! | 3 | wrong settings |
//! | 4 | refused: no such account, name taken, wrong password, … |
//! | 5 | keys or store cannot be used as they are |
//! | 6 | another process holds the data directory |
//! | 7 | a port or address cannot be used |
//! | 8 | `doctor` found something that has to be put right |

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crosstalk_overlay::swarm;
use crosstalk_storage::OpenError;

use crate::accounts::AccountError;
use crate::accounts::key_dir::KeyError;
use crate::admin::client::AskError;
use crate::admin::server::SocketError;
use crate::admin::service::ServiceError;
use crate::archive::ArchiveError;
use crate::backup::RestoreError;
use crate::c2s;
use crate::config::ConfigError;
use crate::core::LoadError;
use crate::core::admin::Refused;
use crate::store_thread::CloseError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error("cannot use the data directory {path}: {source}. Name another with --data DIR", path = path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing has been made there yet.
    #[error("there is no node in {path} yet: start one with `crosstalk`, or name its directory with --data DIR", path = .0.display())]
    NoNode(PathBuf),
    /// A back-up was not put back to its end.
    #[error(
        "a back-up was being restored to {path} and is not whole: run `crosstalk restore FILE` again", path = .0.display()
    )]
    HalfRestored(PathBuf),
    /// A back-up cannot be put back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The node's domain.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The server of a domain that this node is.
    #[error(transparent)]
    Authority(#[from] crate::authority::StartError),
    /// The way to the rest of XMPP.
    #[error(transparent)]
    Component(crate::upstream::SecretError),
    /// Key files.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store did not end well.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// What the store holds cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An address cannot be listened at.
    #[error("cannot listen at {address} ({source}): {remedy} {setting} in crosstalk.toml")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
        /// Where it is set.
        setting: &'static str,
    },
    /// The front door.
    #[error(transparent)]
    Door(#[from] c2s::StartError),
    /// TLS of the bypass gateway.
    #[error("TLS of `accounts` in [bypass]: {0}")]
    Bypass(#[from] crate::bypass::tls::LoadError),
    /// The certificate for chat programs.
    #[error(transparent)]
    Tls(#[from] c2s::tls::TlsError),
    /// The overlay.
    #[error(transparent)]
    Swarm(#[from] swarm::StartError),
    /// The admin socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A running node does not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A request came to nothing.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The node refused.
    #[error("{0}")]
    Refused(String),
    /// Something is missing on the command line.
    #[error("{0}")]
    Usage(&'static str),
    /// `doctor` found something.
    #[error("something has to be put right, see above")]
    Unhealthy,
    /// The system.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The domain in the settings does not fit the accounts there are.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// Accounts without a domain cannot get one.
    #[error(
        "this node has accounts without a domain ({accounts}), so it cannot take the domain {wanted}: use another data directory for {wanted}, or remove these accounts first"
    )]
    HasPlainAccounts {
        /// Some of them.
        accounts: String,
        /// What the settings or --domain say.
        wanted: String,
    },
    /// The same key would give names in two ways.
    #[error(
        "this node is the server of {serves}, so its own accounts have no domain: leave `domain` out, or use another data directory"
    )]
    Serves {
        /// What it serves.
        serves: String,
    },
    /// Accounts under a domain keep it.
    #[error(
        "the accounts of this node are named under {is}, but the settings say {wanted}: set the domain back, or use another data directory"
    )]
    Changed {
        /// Domain of the accounts.
        is: String,
        /// What the settings or --domain say.
        wanted: String,
    },
}

impl Failure {
    /// For `map_err` where the system refuses.
    pub fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// The exit code, as in the table above.
    pub fn code(&self) -> u8 {
        match self {
            Self::Close(_) | Self::Swarm(_) | Self::Ask(_) | Self::System { .. } => 1,
            Self::Usage(_) => 2,
            Self::Config(_) | Self::Domain(_) | Self::Socket(_) => 3,
            Self::Refused(_) => 4,
            Self::Service(error) => match error {
                ServiceError::Refused(Refused::Store(_)) => 5,
                ServiceError::Refused(_) => 4,
                ServiceError::Account(AccountError::Key(_)) => 5,
                ServiceError::Account(_) => 4,
                ServiceError::Busy
                | ServiceError::Stopping
                | ServiceError::Confused
                | ServiceError::Backup(_) => 1,
            },
            Self::Open(OpenError::Locked { .. })
            | Self::Restore(RestoreError::Open(OpenError::Locked { .. })) => 6,
            Self::Restore(RestoreError::Archive(ArchiveError::File { .. })) => 1,
            Self::Restore(RestoreError::NotEmpty(_)) => 4,
            Self::Open(_)
            | Self::Load(_)
            | Self::Keys(_)
            | Self::Authority(_)
            | Self::Component(_)
            | Self::Data { .. }
            | Self::NoNode(_)
            | Self::HalfRestored(_)
            | Self::Restore(_)
            | Self::Bypass(_)
            | Self::Tls(_) => 5,
            Self::Listen { .. } | Self::Door(_) => 7,
            Self::Unhealthy => 8,
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        ServiceError::from(refused).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_by_what_to_do() {
        let locked = OpenError::Locked { path: PathBuf::from("lock"), pid: Some(1) };
        let taken = Refused::NameTaken("juliet".into());
        let codes = [
            Failure::Usage("say which").code(),
            Failure::Config(ConfigError::NoHome).code(),
            Failure::from(taken).code(),
            Failure::Keys(KeyError::Misnamed(PathBuf::from("x"))).code(),
            Failure::Open(locked).code(),
            Failure::Unhealthy.code(),
        ];
        assert_eq!(codes, [2, 3, 4, 5, 6, 8]);
    }
}

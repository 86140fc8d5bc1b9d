//! The front door for chat programs: listeners, TLS, stream negotiation, login; then elements in and bytes out.
//!
//! Everything up to an authenticated stream happens here, beside the core: the core hears of a client when it has
//! proved who it is. Resource binding and all that follows is the core's. Nothing here grows without a limit, see
//! [`Limits`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::core::io::Input;
use crate::xmpp::Element;

pub(crate) mod attempt;
pub(crate) mod connection;
pub mod credentials;
mod directory;
pub(crate) mod listener;
mod negotiate;
pub(crate) mod outgoing;
mod plain;
pub(crate) mod rate;
mod register;
pub(crate) mod sasl;
pub(crate) mod strangers;
#[cfg(test)]
mod tests;
pub mod tls;
pub(crate) mod transport;
pub(crate) mod wire;

pub use directory::Directory;
pub use outgoing::Clients;
pub use plain::PlainLogin;
pub use register::RegisterRequest;

use listener::Door;
use strangers::Strangers;

/// Where and for whom the door is open.
pub struct Settings {
    /// Addresses where TLS is offered (STARTTLS), and required of clients on other machines.
    pub listen: Vec<SocketAddr>,
    /// Addresses where TLS comes first (XEP-0368).
    pub direct_tls: Vec<SocketAddr>,
    /// Domains that a client may ask for, at least one; `localhost` means the first.
    pub domains: Vec<String>,
    /// Where wishes for accounts go; `None` when registration is off. Give it little room: a full queue tells the
    /// client to try again.
    pub register: Option<mpsc::Sender<RegisterRequest>>,
    /// Who is told of logins that brought the password itself; when it is full, it is not told.
    pub plain_logins: Option<mpsc::Sender<PlainLogin>>,
    /// Stream features after login.
    pub features: fn() -> Vec<Element>,
    /// From [`tls::load_or_create`].
    pub tls: Arc<ServerConfig>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on what clients may cost. The size of stanzas is limited by [`crate::xmpp::framer::Limits`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all; beyond it new ones are closed at once. Default 2,048.
    pub connections: usize,
    /// Connections before login; beyond it the address that has most loses its oldest. Default 64.
    pub strangers: usize,
    /// From the first byte to the login. Default 30 s.
    pub login_time: Duration,
    /// What an ending stream may take to be read and answered by the client. Default 5 s.
    pub grace: Duration,
    /// Bytes a second that are read of a stranger. Default 16 KiB.
    pub login_bytes_per_second: u32,
    /// Bytes that a stranger may send at once. Default 64 KiB.
    pub login_burst_bytes: u32,
    /// Bytes a second that are read of a client. Default 1 MiB.
    pub bytes_per_second: u32,
    /// Bytes that a client may send at once. Default 4 MiB.
    pub burst_bytes: u32,
    /// Bytes that may wait for a client that does not read; beyond it, and what it gets of `common_bytes`, the client is cut
    /// off. Default 1 MiB.
    pub unread_bytes: usize,
    /// Bytes that may wait for all clients together beyond that, half of them for one. Default 32 MiB: a contact list of 5,000
    /// with everybody online, and all that a resumed session may have left unacknowledged, are one burst.
    pub common_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            strangers: 64,
            login_time: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            login_bytes_per_second: 16 << 10,
            login_burst_bytes: 64 << 10,
            bytes_per_second: 1 << 20,
            burst_bytes: 4 << 20,
            unread_bytes: 1 << 20,
            common_bytes: 32 << 20,
        }
    }
}

/// Passwords (PLAIN) that are hashed at the same time.
const HASHING: usize = 2;

/// Why the door cannot be opened.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen for chat programs on {address}: {why}; is another server or node using it?")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        why: std::io::Error,
    },
    /// [`Settings::domains`] is empty.
    #[error("no domain is configured that clients could log in to")]
    NoDomain,
}

/// The open door. Dropping it refuses new clients; those who are inside stay.
pub struct FrontDoor {
    /// For [`crate::core::io::Output::Client`] and [`crate::core::io::Output::CloseClient`].
    pub clients: Clients,
    /// Addresses of [`Settings::listen`] with the ports that the system chose.
    pub listen: Vec<SocketAddr>,
    /// The same for [`Settings::direct_tls`].
    pub direct_tls: Vec<SocketAddr>,
    /// For clients of other protocols: limits, seats and numbers of connections are of all together.
    pub(crate) shared: Arc<Door>,
    _accepting: JoinSet<()>,
}

/// Opens the door. What clients do goes to `inputs`; while that is full, clients are not read. For each client
/// comes one `Authenticated`, then any number of `Elements`, then one `Ended`.
///
/// # Errors
/// See [`StartError`].
pub async fn open(
    settings: Settings,
    directory: Directory,
    inputs: mpsc::Sender<Input>,
) -> Result<FrontDoor, StartError> {
    if settings.domains.is_empty() {
        return Err(StartError::NoDomain);
    }
    let addresses = [settings.listen.clone(), settings.direct_tls.clone()];
    let door = door(settings, directory, inputs);
    let mut accepting = JoinSet::new();
    let mut bound = [Vec::new(), Vec::new()];
    for (addresses, direct_tls) in addresses.into_iter().zip([false, true]) {
        for address in addresses {
            let failed = |why| StartError::Listen { address, why };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            bound[usize::from(direct_tls)].push(listener.local_addr().map_err(failed)?);
            accepting.spawn(listener::accept(door.clone(), listener, direct_tls));
        }
    }
    let [listen, direct_tls] = bound;
    Ok(FrontDoor { clients: door.clients.clone(), listen, direct_tls, shared: door, _accepting: accepting })
}

fn door(settings: Settings, directory: Directory, inputs: mpsc::Sender<Input>) -> Arc<Door> {
    Arc::new(Door {
        domains: settings.domains,
        register: settings.register,
        plain_logins: settings.plain_logins,
        features: settings.features,
        direct_tls: tls::for_direct_tls(&settings.tls),
        starttls: settings.tls,
        directory,
        clients: Clients::new(settings.limits.common_bytes),
        inputs,
        hashing: Semaphore::new(HASHING),
        seats: Arc::new(Semaphore::new(settings.limits.connections)),
        strangers: Strangers::new(settings.limits.strangers),
        failures: Default::default(),
        start: Instant::now(),
        next: AtomicU64::new(1),
        limits: settings.limits,
    })
}

//! The bypass gateway: chat programs keep their network and their account, and reach it through this node.
//!
//! A chat program names the server of its network in SOCKS; the node connects it, if the settings list that server, and
//! passes every byte on as it is. [`base`] finds out what is spoken. For accounts that the user has listed TLS ends here
//! (`upgrade`, `secured`). Nothing here grows without a limit, see [`Limits`].

pub mod accounts;
pub mod base;
mod course;
mod cutter;
pub mod destinations;
mod entry;
pub mod features;
mod figures;
mod identity;
mod openings;
mod relay;
mod secured;
pub mod socks;
mod streams;
#[cfg(test)]
mod tests;
pub mod tls;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use accounts::Accounts;
use destinations::Destinations;
use entry::Door;
use secured::Keeper;
use tls::Tls;

pub use figures::{BypassView, Trouble, UserView};

/// How the gateway is set.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens; nothing: it is off.
    pub listen: Vec<SocketAddr>,
    /// Where chat programs may be connected.
    pub destinations: Destinations,
    /// Whose TLS ends here, and with what; nothing: nobody's.
    pub accounts: Option<(Accounts, Tls)>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on what chat programs and servers may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; beyond it new ones are closed. Default 256.
    pub connections: usize,
    /// Chat programs that are being connected; beyond it the address that has most of them loses its oldest. Default 64.
    pub connecting: usize,
    /// From the first byte of a chat program until its server is connected. Default 30 s.
    pub entering: Duration,
    /// What a server may take to answer at one of its addresses. Default 8 s.
    pub answering: Duration,
    /// After this a connection that nobody could tell is not looked at any more. Default 60 s.
    pub telling: Duration,
    /// What TLS that ends here may take until both sides have it. Default 20 s.
    pub securing: Duration,
    /// A connection that one side has ended, and on which nothing is said for so long, ends. Default 5 min.
    pub half_closed: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connecting: 64,
            entering: Duration::from_secs(30),
            answering: Duration::from_secs(8),
            telling: Duration::from_secs(60),
            securing: Duration::from_secs(20),
            half_closed: Duration::from_secs(300),
        }
    }
}

/// The open gateway. Dropping it ends all connections.
pub struct Bypass {
    door: Arc<Door>,
    listen: Vec<SocketAddr>,
    _accepting: JoinSet<()>,
}

/// Asks a gateway what it does.
#[derive(Clone)]
pub struct View {
    door: Arc<Door>,
    listen: Vec<SocketAddr>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Opens it.
///
/// # Errors
/// When the system refuses a port.
pub async fn open(settings: Settings) -> io::Result<Bypass> {
    let keeper = settings.accounts.map(|(accounts, tls)| Keeper::new(accounts, tls));
    let door = Arc::new(Door::new(settings.destinations, keeper, settings.limits));
    let (mut listen, mut accepting) = (Vec::new(), JoinSet::new());
    for address in settings.listen {
        let listener = TcpListener::bind(address).await?;
        listen.push(listener.local_addr()?);
        accepting.spawn(entry::accept(door.clone(), listener));
    }
    Ok(Bypass { door, listen, _accepting: accepting })
}

impl Bypass {
    /// A way to ask what it does.
    pub fn view(&self) -> View {
        View { door: self.door.clone(), listen: self.listen.clone() }
    }
}

impl View {
    /// What it has done since the start.
    pub fn report(&self) -> BypassView {
        let certificates = self.door.keeper.as_ref().map(|keeper| &keeper.tls.certificates);
        self.door.figures.view(&self.listen, self.door.destinations.listed(), certificates)
    }
}

//! IRC as a face of the node, as bitlbee has it: chat programs of IRC log in to the node itself.
//!
//! Contacts are nicks in one control channel, messages are queries, and what a person does with the contact list is said in that
//! channel. To the core it is a session like any other: [`session`] speaks XMPP with it, in the seat and within the limits that clients
//! of XMPP have, too. Lines and text are here without the session, for whatever else speaks IRC.

pub mod caps;
mod connection;
pub mod join;
pub mod line;
mod listener;
mod login;
pub mod nicks;
pub mod registration;
pub mod session;
#[cfg(test)]
mod tests;
pub mod text;

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::c2s::FrontDoor;

/// The channel in which contacts are.
pub const CHANNEL: &str = "&crosstalk";
/// The node's own nick in it.
pub const BOT: &str = "crosstalk";
/// The server's name.
pub const SERVER: &str = "crosstalk.internal";
/// The network's name.
pub const NETWORK: &str = "CrossTalk";

/// Where the face is open.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Addresses without TLS, of this machine only.
    pub listen: Vec<SocketAddr>,
    /// Addresses where TLS comes first.
    pub tls: Vec<SocketAddr>,
}

/// The open face. Dropping it refuses new clients; those who are inside stay.
pub struct Face {
    /// Addresses of [`Settings::listen`] with the ports that the system chose.
    pub listen: Vec<SocketAddr>,
    /// The same for [`Settings::tls`].
    pub tls: Vec<SocketAddr>,
    _accepting: JoinSet<()>,
}

/// Opens it: its clients share limits, accounts and the way to the core with those of the front door.
///
/// # Errors
/// When the system refuses a port.
pub async fn open(settings: &Settings, door: &FrontDoor) -> io::Result<Face> {
    let mut accepting = JoinSet::new();
    let mut bound = [Vec::new(), Vec::new()];
    for (addresses, tls) in [(&settings.listen, false), (&settings.tls, true)] {
        for address in addresses {
            let listener = TcpListener::bind(address).await?;
            bound[usize::from(tls)].push(listener.local_addr()?);
            accepting.spawn(listener::accept(door.shared.clone(), listener, tls));
        }
    }
    let [listen, tls] = bound;
    Ok(Face { listen, tls, _accepting: accepting })
}

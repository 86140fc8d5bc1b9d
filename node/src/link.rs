//! The link on real sockets: multicast DNS and the streams of link-local messaging (XEP-0174) around the core.
//!
//! | file | owns |
//! | --- | --- |
//! | `listener` | the port for streams of neighbours |
//! | `streams` | which streams there are, and their limits |
//! | `stream` | one stream from its connection to its end |
//! | `header` | stream headers and TLS |
//! | `dial` | connecting to one of several addresses |
//! | `acknowledged` | what of it the other host has |
//! | `report` | what it costs |
//!
//! What is said on an open stream goes through the same code as a client's: [`crate::c2s`]'s `connection`.

mod acknowledged;
mod dial;
mod header;
pub mod listener;
mod report;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crosstalk_link_local::mdns::{self, P2pService};
use crosstalk_link_local::net::{self, Command, SendError};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::core::io::Input;
use crate::core::link::io::{LinkCommand, LinkEvent};
use crate::core::settings::LinkMode;
use crate::event_loop::clock::Clock;
use header::Names;
pub use report::{LinkReport, Traffic, View};
use streams::Streams;

/// How long streams may take to end when the node stops.
const FAREWELL: Duration = Duration::from_millis(400);

/// What the link is opened with.
#[derive(Debug)]
pub struct Settings {
    /// How much of XEP-0174 is used.
    pub mode: LinkMode,
    /// First port that is tried for the listener.
    pub port: u16,
    /// Name of this machine, one label.
    pub machine: String,
    /// Seed of the random delays of multicast DNS.
    pub seed: [u8; 32],
    /// This node, for others of its kind on IPv6; `None` if it is not to be found.
    pub p2p: Option<P2pService>,
}

/// Multicast DNS runs and the port is taken; nothing is told to the core yet.
pub struct Opened {
    mdns: net::Handle,
    events: mpsc::Receiver<mdns::Event>,
    listener: Option<(TcpListener, u16)>,
    clock: Clock,
}

/// The open link.
pub struct Handle {
    mdns: net::Handle,
    streams: Streams,
    tasks: Vec<JoinHandle<()>>,
    view: View,
}

/// Opens the link, before the swarm starts (see [`net::start`]); `None` if there is nothing to do on it.
pub fn open(settings: Settings, clock: Clock) -> Option<Opened> {
    let browse = settings.mode != LinkMode::Off;
    if !browse && settings.p2p.is_none() {
        return None;
    }
    let listener = (settings.mode == LinkMode::Announce).then(|| listener::bind(settings.port)).flatten();
    if settings.mode == LinkMode::Announce && listener.is_none() {
        let last = settings.port.saturating_add(listener::TRIED - 1);
        tracing::warn!(
            "no port from {} to {last} is free for link-local streams: people here are not announced; \
             set `port` in [link]",
            settings.port
        );
    }
    let config = mdns::Config { host: settings.machine, seed: settings.seed, browse };
    let (mdns, events) = net::start(config, move || clock.now());
    if settings.p2p.is_some() && mdns.try_send(Command::SetP2p(settings.p2p)).is_err() {
        tracing::warn!("this node is not announced over IPv6");
    }
    Some(Opened { mdns, events, listener, clock })
}

impl Opened {
    /// Port of the listener, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.listener.as_ref().map(|(_, port)| *port)
    }

    /// Lets the core hear and speak: events go to `inputs`, hints of other nodes to the swarm.
    pub fn connect(
        self,
        inputs: mpsc::Sender<Input>,
        tls: Arc<ServerConfig>,
        hints: impl Fn(Vec<String>, String) + Send + 'static,
    ) -> Handle {
        let port = self.port();
        let streams = Streams::new(inputs.clone(), tls);
        let mut tasks = vec![tokio::spawn(forward(self.events, inputs, hints))];
        if let Some((listener, _)) = self.listener {
            let accepting = listener::accept(listener, self.mdns.interfaces(), streams.clone());
            tasks.push(tokio::spawn(accepting));
        }
        let view = View { port, asker: self.mdns.asker(), clock: self.clock };
        Handle { mdns: self.mdns, streams, tasks, view }
    }
}

/// While the core is busy, events wait, and then packets.
async fn forward(
    mut events: mpsc::Receiver<mdns::Event>,
    inputs: mpsc::Sender<Input>,
    hints: impl Fn(Vec<String>, String),
) {
    while let Some(event) = events.recv().await {
        if let mdns::Event::P2p { dnsaddrs, interface, .. } = event {
            hints(dnsaddrs, interface);
        } else if inputs.send(Input::Link(LinkEvent::Mdns(event))).await.is_err() {
            return;
        }
    }
}

impl Handle {
    /// For questions about airtime.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Whether a command will be taken now.
    pub fn has_room(&self) -> bool {
        self.mdns.has_room()
    }

    /// Performs a command; see [`Self::has_room`].
    pub fn perform(&self, command: LinkCommand) {
        let command = match command {
            LinkCommand::Announce { id, presence } => Command::Announce { id, presence },
            LinkCommand::Withdraw { id } => Command::Withdraw { id },
            LinkCommand::Browse(on) => Command::SetBrowsing(on),
            LinkCommand::AskPicture(instance) => Command::AskPicture(instance),
            LinkCommand::Suspect(instance) => Command::Suspect(instance),
            LinkCommand::Vouched(instances) => Command::Vouched(instances),
            LinkCommand::Connect { stream, addresses, from, to } => {
                return self.streams.connect(stream, addresses, Names { from, to: Some(to) });
            }
            LinkCommand::Accept { stream, from, to } => {
                return self.streams.accept(stream, Names { from, to });
            }
            LinkCommand::Write { stream, data } => return self.streams.write(stream, data),
            LinkCommand::Close { stream, error } => return self.streams.close(stream, error),
        };
        match self.mdns.try_send(command) {
            Ok(()) => {}
            Err(error @ (SendError::Full(_) | SendError::Stopped)) => {
                tracing::error!("{error}: neighbours do not hear of a change here");
            }
        }
    }

    /// Ends the streams, says the goodbyes, and stops; within about a second.
    pub async fn stop(self) {
        let Self { mdns, streams, tasks, view: _ } = self;
        streams.close_all();
        let ended = async {
            while streams.count() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::join!(timeout(FAREWELL, ended), mdns.shutdown());
        tasks.iter().for_each(JoinHandle::abort);
    }
}

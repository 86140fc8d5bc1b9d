//! The link-local streams that are open or about to be: how many there may be, and what the core wants of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::c2s::outgoing::Outbox;
use crate::core::io::Input;
use crate::core::link::io::{LinkEnding, LinkEvent, StreamId};
use crate::xmpp::StreamError;

use super::header::Names;
use super::stream::{self, Caller};

/// Streams at most: as many as the core has pairs, which ends the idlest of them, former streams of these, and the
/// strangers. When full, newcomers are refused.
const MOST: usize = 256 + 16 + STRANGERS.0;
/// Accepted streams that the core has not taken, in all and from one address.
const STRANGERS: (usize, usize) = (16, 4);
/// Bytes that may wait for a neighbour that does not read; beyond it the stream is cut.
const UNREAD: usize = 512 << 10;

/// All streams. Clones mean the same ones.
#[derive(Clone)]
pub(super) struct Streams(Arc<Shared>);

pub(super) struct Shared {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) tls: Arc<ServerConfig>,
    all: Mutex<BTreeMap<StreamId, Entry>>,
    accepted: AtomicU64,
}

struct Entry {
    outbox: Arc<Outbox>,
    /// Where the core's answer to a stranger goes, and where it comes from.
    stranger: Option<(IpAddr, oneshot::Sender<Names>)>,
}

/// The place of a stream in the table; dropped with its task.
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: StreamId,
    pub(super) outbox: Arc<Outbox>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.stream);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    pub(super) fn new(inputs: mpsc::Sender<Input>, tls: Arc<ServerConfig>) -> Self {
        let (all, accepted) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared { inputs, tls, all, accepted }))
    }

    /// Opens a stream to one of the addresses.
    pub(super) fn connect(&self, stream: StreamId, addresses: Vec<SocketAddr>, names: Names) {
        match self.seat(stream, None) {
            Some(seat) => {
                tokio::spawn(stream::call(seat, addresses, names));
            }
            None => {
                tracing::warn!(limit = MOST, "a neighbour is not connected to: too many streams");
                let inputs = self.0.inputs.clone();
                tokio::spawn(async move {
                    let how = LinkEnding::Refused;
                    inputs.send(Input::Link(LinkEvent::Ended { stream, how })).await
                });
            }
        }
    }

    /// Takes a connection that somebody made, or drops it when there are too many.
    pub(super) fn accepted(&self, connection: TcpStream, address: SocketAddr) {
        let stream = StreamId(self.0.accepted.fetch_add(1, Ordering::Relaxed) * 2 + 1);
        let (answer, answered) = oneshot::channel();
        match self.seat(stream, Some((address.ip(), answer))) {
            Some(seat) => {
                tokio::spawn(stream::receive(seat, Caller { connection, address }, answered));
            }
            None => tracing::debug!(%address, "turned away: too many streams"),
        }
    }

    fn seat(&self, stream: StreamId, stranger: Option<(IpAddr, oneshot::Sender<Names>)>) -> Option<Seat> {
        let mut all = self.0.lock();
        let strangers = || all.values().filter_map(|entry| entry.stranger.as_ref());
        let crowded = stranger.as_ref().is_some_and(|(ip, _)| {
            strangers().count() >= STRANGERS.0
                || strangers().filter(|(other, _)| other == ip).count() >= STRANGERS.1
        });
        if crowded || all.len() >= MOST || all.contains_key(&stream) {
            return None;
        }
        let outbox = Arc::new(Outbox::new(UNREAD));
        all.insert(stream, Entry { outbox: Arc::clone(&outbox), stranger });
        Some(Seat { shared: Arc::clone(&self.0), stream, outbox })
    }

    /// Answers the header of an accepted stream.
    pub(super) fn accept(&self, stream: StreamId, names: Names) {
        let stranger = self.0.lock().get_mut(&stream).and_then(|entry| entry.stranger.take());
        if let Some((_, answer)) = stranger {
            // The other side may have gone away meanwhile.
            let _ = answer.send(names);
        }
    }

    pub(super) fn write(&self, stream: StreamId, data: Vec<u8>) {
        if let Some(entry) = self.0.lock().get(&stream) {
            entry.outbox.push(data);
        }
    }

    pub(super) fn close(&self, stream: StreamId, error: Option<StreamError>) {
        if let Some(entry) = self.0.lock().get(&stream) {
            entry.outbox.close(error);
        }
    }

    /// Ends all, as when the node stops.
    pub(super) fn close_all(&self) {
        self.0.lock().values().for_each(|entry| entry.outbox.close(None));
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

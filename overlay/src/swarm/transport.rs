//! The transports: a carrier of bytes, which is TCP (`zone.rs`), with Noise and Yamux; and QUIC when asked for. All bounded
//! in time and in streams.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, Either};
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::core::Transport;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, relay, tcp, yamux};

use super::zone::Zoned;

/// The whole of dialling, Noise and Yamux negotiation. Where half of the frames are lost, 6 s were too few for most.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long a connection that is closed may wait for the far end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Two long-lived streams a connection, one of each side for each query that runs (8, and 2 of each table's own), identify, and
/// the circuits that a relay carries for one peer (`reach/hop.rs`: 9 each way); the rest is for negotiation. Beyond it Yamux
/// closes the connection.
const MAX_STREAMS: usize = 64;

type Built = Boxed<(PeerId, StreamMuxerBox)>;

/// Both transports; QUIC only if `with_quic`.
pub(super) fn build(keypair: &Keypair, with_quic: bool) -> Result<Built, noise::Error> {
    let tcp = Zoned::new(tcp::tokio::Transport::new(tcp::Config::new())).map(|stream, _| dogged(stream));
    let tcp = secure(keypair, tcp)?;
    Ok(if with_quic { join_quic(tcp, keypair) } else { tcp })
}

/// A carrier of bytes, made one of connections.
pub(super) fn secure<C>(keypair: &Keypair, carrier: C) -> Result<Built, noise::Error>
where
    C: Transport<Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    C::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connections = carrier
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Brief::new(muxer))));
    Ok(TransportTimeout::new(connections, HANDSHAKE).boxed())
}

/// `direct`, and connections through relays: Noise and Yamux again within each, so that the relay sees only ciphertext.
pub(super) fn with_circuits(
    direct: Built,
    circuits: relay::client::Transport,
    keypair: &Keypair,
) -> Result<Built, noise::Error> {
    Ok(secure(keypair, circuits)?
        .or_transport(direct)
        .map(|either, _| match either {
            Either::Left(output) | Either::Right(output) => output,
        })
        .boxed())
}

fn yamux() -> yamux::Config {
    let mut multiplexer = yamux::Config::default();
    multiplexer.set_max_num_streams(MAX_STREAMS);
    multiplexer
}

#[cfg(feature = "quic")]
fn join_quic(tcp: Boxed<(PeerId, StreamMuxerBox)>, keypair: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    let mut config = libp2p::quic::Config::new(keypair);
    config.handshake_timeout = HANDSHAKE;
    config.max_concurrent_stream_limit = MAX_STREAMS as u32;
    config.max_stream_data = 256 * 1024;
    config.max_connection_data = 512 * 1024;
    let quic = libp2p::quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Brief::new(muxer))));
    tcp.or_transport(quic)
        .map(|either, _| match either {
            Either::Left(output) | Either::Right(output) => output,
        })
        .boxed()
}

#[cfg(not(feature = "quic"))]
fn join_quic(tcp: Boxed<(PeerId, StreamMuxerBox)>, _: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    tcp
}

/// How long nothing may come on a TCP connection before the system asks whether the other end is there, how often then, and how
/// often in vain. Links say something sooner (core: Heartbeat) and connections of the hash table are short, so it is for the
/// one to a relay: routers forget a silent one, and then nobody comes in any more.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(75);
#[cfg(target_os = "linux")]
const ASKED_EVERY: Duration = Duration::from_secs(15);
#[cfg(target_os = "linux")]
const ASKED: u32 = 4;

/// Little goes over a link, and that soon: what a bad radio loses is sent again at an even pace, and not after pauses that
/// double each time (`TCP_THIN_LINEAR_TIMEOUTS`, Documentation/networking/tcp-thin.rst of Linux). Where half of the frames
/// are lost, these pauses would outlast the patience of the core.
#[cfg(target_os = "linux")]
fn dogged(stream: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    use rustix::net::sockopt;
    let socket = &stream.0;
    if let Err(error) = sockopt::set_tcp_thin_linear_timeouts(socket, true) {
        tracing::debug!(%error, "a lost frame may take long to be sent again");
    }
    let alive = sockopt::set_tcp_keepidle(socket, SILENCE)
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, ASKED_EVERY))
        .and_then(|()| sockopt::set_tcp_keepcnt(socket, ASKED))
        .and_then(|()| sockopt::set_socket_keepalive(socket, true));
    if let Err(error) = alive {
        tracing::debug!(%error, "a lost connection may be found out late");
    }
    stream
}

#[cfg(not(target_os = "linux"))]
fn dogged(stream: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    stream
}

/// A connection that does not wait for ever to be closed: on a pulled cable TCP would try for a quarter of an hour,
/// and hold the connection's memory and place for as long.
struct Brief<M> {
    inner: M,
    farewell: Option<BoxFuture<'static, ()>>,
}

impl<M> Brief<M> {
    fn new(inner: M) -> Self {
        Self { inner, farewell: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Brief<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let closed = Pin::new(&mut self.inner).poll_close(cx);
        if closed.is_ready() {
            return closed;
        }
        let farewell = self.farewell.get_or_insert_with(|| tokio::time::sleep(FAREWELL).boxed());
        farewell.poll_unpin(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

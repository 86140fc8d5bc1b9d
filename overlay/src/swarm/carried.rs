//! What all connections to other nodes have carried, and what the hash table has asked and answered: counted since the start.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::transport::{Boxed, Transport};

/// The counts, growing; shared by whoever counts.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
}

/// What was counted since the start of the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Bytes that went out on streams, whatever they were for; what Noise, Yamux, QUIC, TCP and IP add is not in it.
    pub sent: u64,
    /// Bytes that came in.
    pub received: u64,
    /// Questions put to other nodes of the hash table.
    pub asked: u64,
    /// Questions of others that the hash table took.
    pub answered: u64,
}

impl Meter {
    pub(super) fn read(&self) -> Carried {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Carried {
            sent: read(&self.sent),
            received: read(&self.received),
            asked: read(&self.asked),
            answered: read(&self.answered),
        }
    }

    pub(super) fn asked(&self, questions: u32) {
        self.asked.fetch_add(questions.into(), Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn carried(&self, received: usize, sent: usize) {
        self.received.fetch_add(received as u64, Ordering::Relaxed);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
    }
}

/// `transport`, with what its connections carry counted.
pub(super) fn counted(
    transport: Boxed<(PeerId, StreamMuxerBox)>,
    meter: Arc<Meter>,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    transport
        .map(move |(peer, inner), _| {
            (peer, StreamMuxerBox::new(Connection { inner, meter: Arc::clone(&meter) }))
        })
        .boxed()
}

struct Connection {
    inner: StreamMuxerBox,
    meter: Arc<Meter>,
}

impl Connection {
    fn stream(&self, inner: SubstreamBox) -> Stream {
        Stream { inner, meter: Arc::clone(&self.meter) }
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(inner)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(inner)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

struct Stream {
    inner: SubstreamBox,
    meter: Arc<Meter>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.meter.carried(read, 0);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.meter.carried(0, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

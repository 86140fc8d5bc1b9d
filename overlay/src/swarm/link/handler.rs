//! One connection of the link protocol, once either side wants it to be a link: opens our substream, takes the peer's,
//! moves frames between them and the queues. Until then the connection serves other protocols, and ends when they are done. It runs in the connection's own task, so a slow peer or a slow core delays nobody else's connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol};

use super::super::framing::{Decoder, encode};
use super::super::queue::Receiver;
use crate::wire::MAX_FRAME;

/// The name of the protocol on the wire.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/crosstalk/link/1");

/// Queued frames are joined into writes of about this size: fewer packets, less encryption overhead.
const BATCH: usize = 64 * 1024;
/// One read takes at most this much.
const READ: usize = 16 * 1024;

/// What a connection reports.
#[derive(Debug)]
pub(in crate::swarm) enum Report {
    /// The peer has opened its substream on a connection that was none of ours: it is to be a link. Comes first.
    Wanted,
    /// Our substream is open: frames can be sent. Comes before the first `Frame`.
    Ready,
    /// The peer sent a frame.
    Frame(Vec<u8>),
    /// This connection is of no more use; the reason is for the log.
    Ended(String),
}

/// From now on the connection is a link.
#[derive(Debug, Clone, Copy)]
pub(in crate::swarm) struct BeLink;

/// See the file's head.
pub(in crate::swarm) struct Handler {
    outbound: Outbound,
    inbound: Option<Inbound>,
    queue: Receiver,
    reports: VecDeque<Report>,
    ended: bool,
}

enum Outbound {
    /// The connection is no link, or not yet.
    Unwanted,
    Unasked,
    Asked,
    Open(Writer),
}

struct Writer {
    stream: Stream,
    batch: Vec<u8>,
    written: usize,
    /// Written since the last flush.
    unflushed: bool,
}

struct Inbound {
    stream: Stream,
    decoder: Decoder,
    /// Read, not yet decoded.
    rest: Vec<u8>,
    taken: usize,
}

impl Handler {
    /// A link from the beginning if it is `wanted`.
    pub(super) fn new(queue: Receiver, wanted: bool) -> Self {
        let outbound = if wanted { Outbound::Unasked } else { Outbound::Unwanted };
        Self { outbound, inbound: None, queue, reports: VecDeque::new(), ended: false }
    }

    /// Reports the end once and drops both substreams.
    fn end(&mut self, reason: String) {
        if !self.ended {
            self.ended = true;
            self.outbound = Outbound::Asked;
            self.inbound = None;
            self.reports.push_back(Report::Ended(reason));
        }
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        let Outbound::Open(writer) = &mut self.outbound else { return };
        if let Err(reason) = writer.poll(&mut self.queue, cx) {
            return self.end(reason);
        }
        // Reading starts only when our own substream is open: `Ready` precedes all frames.
        let Some(inbound) = &mut self.inbound else { return };
        match inbound.poll(cx) {
            Poll::Ready(Ok(frame)) => self.reports.push_back(Report::Frame(frame)),
            Poll::Ready(Err(reason)) => self.end(reason),
            Poll::Pending => {}
        }
    }
}

impl Writer {
    fn new(stream: Stream) -> Self {
        Self { stream, batch: Vec::new(), written: 0, unflushed: false }
    }

    /// Writes until the queue is empty or the stream is full. `Err` is the reason to end the connection.
    fn poll(&mut self, queue: &mut Receiver, cx: &mut Context<'_>) -> Result<(), String> {
        loop {
            let closing = self.written == self.batch.len() && self.refill(queue, cx);
            if self.batch.is_empty() {
                return self.finish(closing, cx);
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.batch[self.written..]) {
                Poll::Ready(Ok(0)) => return Err("the peer closed our substream".into()),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(format!("writing failed: {error}")),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Joins queued frames into the next batch. True when there will be no more.
    fn refill(&mut self, queue: &mut Receiver, cx: &mut Context<'_>) -> bool {
        self.batch.clear();
        self.written = 0;
        while self.batch.len() < BATCH {
            match queue.poll_next(cx) {
                Poll::Ready(Some(frame)) => encode(&frame, &mut self.batch),
                Poll::Ready(None) => return true,
                Poll::Pending => break,
            }
        }
        if self.batch.is_empty() {
            // An idle link holds no buffer.
            self.batch = Vec::new();
        }
        false
    }

    fn finish(&mut self, closing: bool, cx: &mut Context<'_>) -> Result<(), String> {
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(format!("writing failed: {error}")),
                Poll::Pending => return Ok(()),
            }
        }
        if closing { Err("closed by this node".into()) } else { Ok(()) }
    }
}

impl Inbound {
    fn new(stream: Stream) -> Self {
        Self { stream, decoder: Decoder::new(MAX_FRAME), rest: Vec::new(), taken: 0 }
    }

    /// The next frame, or the reason to end the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, String>> {
        loop {
            let mut input = &self.rest[self.taken..];
            let decoded = self.decoder.next(&mut input).map_err(|error| error.to_string())?;
            self.taken = self.rest.len() - input.len();
            if let Some(frame) = decoded {
                return Poll::Ready(Ok(frame));
            }
            // All was used: an idle link holds no buffer.
            self.rest = Vec::new();
            self.taken = 0;
            let mut buffer = [0; READ];
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err("the peer closed its substream".into())),
                Poll::Ready(Ok(count)) => self.rest.extend_from_slice(&buffer[..count]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(format!("reading failed: {error}"))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = BeLink;
    type ToBehaviour = Report;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// The behaviour closes links, idleness never does: what was written last still has to be flushed.
    fn connection_keep_alive(&self) -> bool {
        !matches!(self.outbound, Outbound::Unwanted)
    }

    fn on_behaviour_event(&mut self, BeLink: BeLink) {
        if matches!(self.outbound, Outbound::Unwanted) {
            self.outbound = Outbound::Unasked;
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if matches!(self.outbound, Outbound::Unasked) {
            self.outbound = Outbound::Asked;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if self.reports.is_empty() {
            self.poll_streams(cx);
        }
        match self.reports.pop_front() {
            Some(report) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report)),
            None => Poll::Pending,
        }
    }

    /// What the peer wrote before the connection closed may still stand in the stream's buffer.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(Some(report));
        }
        let last = self.inbound.as_mut().map(|inbound| inbound.poll(cx));
        match last {
            Some(Poll::Ready(Ok(frame))) => Poll::Ready(Some(Report::Frame(frame))),
            Some(Poll::Ready(Err(_)) | Poll::Pending) | None => Poll::Ready(None),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is non-exhaustive; the rest is of no interest"
    )]
    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            _ if self.ended => {}
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream, ..
            }) => {
                self.outbound = Outbound::Open(Writer::new(stream));
                self.reports.push_back(Report::Ready);
            }
            // A second inbound substream replaces the first: the peer has given that one up.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                self.inbound = Some(Inbound::new(stream));
                if matches!(self.outbound, Outbound::Unwanted) {
                    self.reports.push_back(Report::Wanted);
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => self.end(refusal(error)),
            _ => {}
        }
    }
}

fn refusal(error: StreamUpgradeError<std::convert::Infallible>) -> String {
    match error {
        StreamUpgradeError::Timeout => "the peer did not answer when our substream was opened".into(),
        StreamUpgradeError::NegotiationFailed => format!("the peer does not speak {PROTOCOL}"),
        StreamUpgradeError::Io(error) => format!("opening our substream failed: {error}"),
        StreamUpgradeError::Apply(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_was_wrong() {
        let error = StreamUpgradeError::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(refusal(error).contains("opening our substream failed"));
        assert!(refusal(StreamUpgradeError::NegotiationFailed).contains("/crosstalk/link/1"));
    }
}

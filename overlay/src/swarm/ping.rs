//! Answers pings (libp2p's specification `ping`), so that peers of any make can see that this node is there. It sends none: a
//! link has its own heartbeat.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    Stream, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
/// Bytes of a ping.
const SIZE: usize = 32;
/// Streams of a peer that are answered; it should use one. The oldest goes.
const MAX_STREAMS: usize = 2;

/// See the file's head.
pub(super) struct Behaviour;

/// Of one connection.
#[derive(Default)]
pub(super) struct Handler {
    echoes: VecDeque<Echo>,
}

struct Echo {
    stream: Stream,
    ping: [u8; SIZE],
    read: usize,
    written: usize,
}

impl Echo {
    /// Ready when the stream has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let stream = Pin::new(&mut self.stream);
            let moved = match () {
                () if self.read < SIZE => stream.poll_read(cx, &mut self.ping[self.read..]),
                () if self.written < SIZE => stream.poll_write(cx, &self.ping[self.written..]),
                () => match stream.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        (self.read, self.written) = (0, 0);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
            };
            match moved {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) if self.read < SIZE => self.read += count,
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        self.echoes.retain_mut(|echo| echo.poll(cx).is_pending());
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, DeniedUpgrade>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { mut protocol, .. }) = event {
            protocol.ignore_for_keep_alive();
            self.echoes.truncate(MAX_STREAMS - 1);
            self.echoes.push_front(Echo { stream: protocol, ping: [0; SIZE], read: 0, written: 0 });
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

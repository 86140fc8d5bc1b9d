//! libp2p-gossipsub's handler on connections of the link, and none on others. It keeps no connection: which ones are
//! needed, the core says.

use std::task::{Context, Poll};

use futures::future::Either;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol, THandler};

use super::Inner;

type Gossip = THandler<Inner>;
type Inbound = <Gossip as ConnectionHandler>::InboundProtocol;
type Outbound = <Gossip as ConnectionHandler>::OutboundProtocol;

/// See the file's head.
pub(in crate::swarm) struct Handler {
    inner: Option<Gossip>,
}

impl Handler {
    pub(super) fn new(inner: Option<Gossip>) -> Self {
        Self { inner }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = <Gossip as ConnectionHandler>::FromBehaviour;
    type ToBehaviour = <Gossip as ConnectionHandler>::ToBehaviour;
    type InboundProtocol = Inbound;
    type OutboundProtocol = Outbound;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        match &self.inner {
            Some(inner) => inner.listen_protocol(),
            None => SubstreamProtocol::new(Inbound::Right(DeniedUpgrade), ()),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        match &mut self.inner {
            Some(inner) => inner.poll(cx),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        if let Some(inner) = &mut self.inner {
            inner.on_behaviour_event(event);
        }
    }

    fn on_connection_event(
        &mut self,
        mut event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        // Open streams keep a connection, unless they are told not to.
        if let ConnectionEvent::FullyNegotiatedInbound(inbound) = &mut event {
            if let Either::Left((stream, _)) = &mut inbound.protocol {
                stream.ignore_for_keep_alive();
            }
        } else if let ConnectionEvent::FullyNegotiatedOutbound(outbound) = &mut event {
            outbound.protocol.0.ignore_for_keep_alive();
        }
        if let Some(inner) = &mut self.inner {
            inner.on_connection_event(event);
        }
    }
}

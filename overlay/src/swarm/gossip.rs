//! News for everybody on the link, by libp2p-gossipsub: a node tells a few neighbours, and each of them a few more.
//!
//! - It runs on connections of the link only: nothing that is said here gets beyond it, whoever is connected to whom.
//! - One topic. A message is one signed record and has no other sender; its name is the hash of its bytes, so what two
//!   say at once is one message. Nothing is told on before the core has verified it.
//! - libp2p-gossipsub does not poll the timer of its heartbeat again after it has fired, so that heartbeats stop on an idle swarm
//!   with what they had still to do. Here they go on for [`ACTIVE`] after anything has happened, and then rest: an idle
//!   link costs no wake-up.
//!
//! | bound | value | when full |
//! | --- | --- | --- |
//! | message | [`MAX_MESSAGE`] | the stream is reset; after five, its sender is not heard on that connection |
//! | topics of a peer | one | others are not remembered |
//! | messages waiting for a peer | 64 | not sent; digests at the next meeting tell what was missed |
//! | messages kept for who asks again | those of 5 heartbeats | forgotten |
//! | messages of a peer | the core's rule (`core/revoked/spread.rs`) | not told on; the peer is closed |

mod handler;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::{
    self, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAcceptance, MessageAuthenticity,
    MessageId, RawMessage, TopicHash, ValidationMode, Version, WhitelistSubscriptionFilter,
};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use self::handler::Handler;
use super::near::is_near;
use super::{Event, address};
use crate::core::{PeerEvent, Verdict};
use crate::id::{NewsId, NodeId};

/// The protocol: gossipsub 1.1 under a name of our own.
const PROTOCOL: &str = "/crosstalk/link/meshsub/1";
/// The topic.
const TOPIC: &str = "crosstalk/1/news";
/// Bytes of a message of the protocol at most: news are 1 KiB at most, and the rest is for lists of their names.
const MAX_MESSAGE: usize = 4 * 1_024;
/// Between two heartbeats while something is going on.
const BEAT: Duration = Duration::from_secs(1);
/// How long something is going on after anything has happened.
const ACTIVE: Duration = Duration::from_secs(15);
/// What was heard is known for so long by its name alone; the core knows it for good.
const MEMORY: Duration = Duration::from_secs(60);

type Inner = gossipsub::Behaviour<Guard, WhitelistSubscriptionFilter>;

/// Lets nothing in that is not of our topic: what is of another would be kept without anybody looking at it.
pub(in crate::swarm) struct Guard(TopicHash);

impl DataTransform for Guard {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<Message> {
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        if topic != self.0 {
            return Err(io::Error::other("of another topic"));
        }
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// See the file's head.
pub(super) struct Behaviour {
    inner: Inner,
    topic: TopicHash,
    /// Connections of the link, of each peer: the others are not spoken of to `inner`.
    usable: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    /// Heartbeats go on until then.
    until: Instant,
    events: VecDeque<Event>,
}

fn config() -> Result<gossipsub::Config, gossipsub::ConfigBuilderError> {
    ConfigBuilder::default()
        .protocol_id(PROTOCOL, Version::V1_1)
        // A record is signed by who says it; who published it is nobody's business.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| MessageId::from(NewsId::of(&message.data).as_bytes().to_vec()))
        .max_transmit_size(MAX_MESSAGE)
        .heartbeat_interval(BEAT)
        .heartbeat_initial_delay(BEAT)
        // Each copy beyond the first is lost: few neighbours are told, and few of the others asked whether they have it.
        .mesh_n(3)
        .mesh_n_low(2)
        .mesh_n_high(6)
        .mesh_outbound_min(1)
        .gossip_lazy(2)
        .gossip_factor(0.0)
        .history_gossip(2)
        .duplicate_cache_time(MEMORY)
        .flood_publish(false)
        .connection_handler_queue_len(64)
        .build()
}

impl Behaviour {
    /// # Errors
    /// None but those of the constants above.
    pub(super) fn new() -> Result<Self, String> {
        let topic = IdentTopic::new(TOPIC);
        let filter = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
        let config = config().map_err(|error| error.to_string())?;
        let (authenticity, guard) = (MessageAuthenticity::Anonymous, Guard(topic.hash()));
        let mut inner =
            Inner::new_with_subscription_filter_and_transform(authenticity, config, filter, guard)?;
        inner.subscribe(&topic).map_err(|error| error.to_string())?;
        let (topic, until) = (topic.hash(), Instant::now() + ACTIVE);
        Ok(Self { inner, topic, usable: BTreeMap::new(), until, events: VecDeque::new() })
    }

    /// Tells the neighbours.
    pub(super) fn publish(&mut self, news: Vec<u8>) {
        self.stir();
        if let Err(error) = self.inner.publish(self.topic.clone(), news) {
            // Somebody else was faster, or nobody is there: whoever comes is told at the meeting.
            tracing::debug!(%error, "news were not published");
        }
    }

    /// What the core thinks of a message.
    pub(super) fn judged(&mut self, peer: &PeerId, id: &NewsId, verdict: Verdict) {
        self.stir();
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let id = MessageId::from(id.as_bytes().to_vec());
        self.inner.report_message_validation_result(&id, peer, acceptance);
    }

    fn stir(&mut self) {
        self.until = Instant::now() + ACTIVE;
    }

    fn happened(&mut self, event: gossipsub::Event) {
        if let gossipsub::Event::Message { propagation_source, message, .. } = event {
            let node = address::node(&propagation_source).unwrap_or(NodeId::from_bytes([0; 32]));
            let (id, news) = (NewsId::of(&message.data), message.data);
            self.events.push_back(Event::Peer(PeerEvent::News { node, id, news }));
        }
    }

    fn established(&mut self, event: ConnectionEstablished<'_>) {
        let usable = self.usable.get(&event.peer_id);
        let usable = usable.filter(|usable| usable.contains(&event.connection_id));
        if let Some(other_established) = usable.map(|usable| usable.len() - 1) {
            self.stir();
            let event = ConnectionEstablished { other_established, ..event };
            self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(event));
        }
    }

    fn closed(&mut self, event: ConnectionClosed<'_>) {
        let Some(usable) = self.usable.get_mut(&event.peer_id) else { return };
        if !usable.remove(&event.connection_id) {
            return;
        }
        let remaining_established = usable.len();
        if usable.is_empty() {
            self.usable.remove(&event.peer_id);
        }
        self.stir();
        let event = ConnectionClosed { remaining_established, ..event };
        self.inner.on_swarm_event(FromSwarm::ConnectionClosed(event));
    }

    fn accept(&mut self, peer: PeerId, connection: ConnectionId, inner: THandler<Inner>) -> Handler {
        self.usable.entry(peer).or_default().insert(connection);
        Handler::new(Some(inner))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !is_near(remote) {
            return Ok(Handler::new(None));
        }
        let inner = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.accept(peer, connection, inner))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !is_near(remote) {
            return Ok(Handler::new(None));
        }
        let inner =
            self.inner.handle_established_outbound_connection(connection, peer, remote, role, port)?;
        Ok(self.accept(peer, connection, inner))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is non-exhaustive; the rest is of no interest"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.established(event),
            FromSwarm::ConnectionClosed(event) => self.closed(event),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.usable.get(&peer).is_some_and(|usable| usable.contains(&connection)) {
            self.stir();
            self.inner.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let mut pending = 0;
        // Twice: what a heartbeat has to say, and its next one, are seen by the poll after it only.
        while pending < 2 {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            if self.until <= Instant::now() {
                return Poll::Pending;
            }
            // It neither dials nor listens.
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.happened(event),
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event }) => {
                    return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
                }
                Poll::Ready(_) => {}
                Poll::Pending => pending += 1,
            }
        }
        Poll::Pending
    }
}

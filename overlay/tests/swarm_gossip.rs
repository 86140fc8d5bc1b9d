//! News on the link by gossipsub, with whole swarms over loopback: told on by who has verified them, and by nobody else.
#![cfg(feature = "swarm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod swarm_support;

use std::time::Duration;

use crosstalk_overlay::core::{PeerEvent, Verdict};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::swarm::{Command, Event};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Stream, StreamProtocol};
use prost::Message;
use swarm_support::{Node, PATIENCE, Rogue, node, pair};
use tokio::time::timeout;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/crosstalk/link/meshsub/1");
const TOPIC: &str = "crosstalk/1/news";

/// What gossipsub 1.1 says on the wire, as far as these tests speak it.
#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(message, repeated, tag = "1")]
    subscriptions: Vec<Subscription>,
    #[prost(message, repeated, tag = "2")]
    publish: Vec<Published>,
    #[prost(message, optional, tag = "3")]
    control: Option<Control>,
}

#[derive(Clone, PartialEq, Message)]
struct Subscription {
    #[prost(bool, tag = "1")]
    subscribe: bool,
    #[prost(string, tag = "2")]
    topic: String,
}

#[derive(Clone, PartialEq, Message)]
struct Published {
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
    #[prost(string, tag = "4")]
    topic: String,
}

#[derive(Clone, PartialEq, Message)]
struct Control {
    #[prost(message, repeated, tag = "3")]
    graft: Vec<Graft>,
    #[prost(message, repeated, tag = "4")]
    prune: Vec<Prune>,
}

#[derive(Clone, PartialEq, Message)]
struct Graft {
    #[prost(string, tag = "1")]
    topic: String,
}

#[derive(Clone, PartialEq, Message)]
struct Prune {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(uint64, tag = "3")]
    backoff: u64,
}

fn published(data: Vec<u8>, topic: &str) -> Rpc {
    Rpc { publish: vec![Published { data, topic: topic.into() }], ..Rpc::default() }
}

async fn write(stream: &mut Stream, rpc: &Rpc) -> std::io::Result<()> {
    let bytes = rpc.encode_length_delimited_to_vec();
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut Stream) -> Rpc {
    let (mut size, mut shift, mut byte) = (0usize, 0, [0u8]);
    loop {
        stream.read_exact(&mut byte).await.unwrap();
        size |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes).await.unwrap();
    Rpc::decode(&bytes[..]).unwrap()
}

/// A peer that speaks gossipsub by hand, subscribed as everybody is.
struct Gossip {
    rogue: Rogue,
    incoming: libp2p_stream::IncomingStreams,
    stream: Stream,
}

impl Gossip {
    async fn new(seed: u8, victim: &mut Node) -> Gossip {
        let mut rogue = Rogue::new(seed, victim);
        let incoming = rogue.control.accept(PROTOCOL).unwrap();
        let opened = async {
            loop {
                // Until the dial has come through.
                if let Ok(stream) = rogue.control.open_stream(rogue.peer, PROTOCOL).await {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut stream = timeout(PATIENCE, opened).await.unwrap();
        let subscription = Subscription { subscribe: true, topic: TOPIC.into() };
        write(&mut stream, &Rpc { subscriptions: vec![subscription], ..Rpc::default() }).await.unwrap();
        Gossip { rogue, incoming, stream }
    }

    async fn inbound(&mut self) -> Stream {
        timeout(PATIENCE, self.incoming.next()).await.unwrap().unwrap().1
    }
}

impl Node {
    /// What is told next, by whom; it is judged before anything else happens.
    async fn news(&mut self, verdict: Verdict) -> (NodeId, Vec<u8>) {
        let (node, id, news) = self
            .until("news", |event| match event {
                Event::Peer(PeerEvent::News { node, id, news }) => Some((node, id, news)),
                _ => None,
            })
            .await;
        self.handle.try_send(Command::Judged { node, id, verdict }).unwrap();
        (node, news)
    }

    fn publish(&self, news: &[u8]) {
        self.handle.try_send(Command::Publish { news: news.to_vec() }).unwrap();
    }
}

/// Nodes of which each is connected with the next only.
async fn row(first: u8, count: u8) -> Vec<Node> {
    let mut nodes = Vec::new();
    for seed in first..first + count {
        nodes.push(node(seed).await);
    }
    for index in 1..nodes.len() {
        let (id, addresses) = (nodes[index].id, nodes[index].addresses.clone());
        nodes[index - 1].dial(id, &addresses);
        nodes[index - 1].connected(id).await;
        let before = nodes[index - 1].id;
        nodes[index].connected(before).await;
    }
    nodes
}

/// Publishes until the other end has heard anything: who subscribes to what has to be told first.
async fn warm_up(nodes: &mut [Node]) {
    for number in 0..200u8 {
        nodes[0].publish(&[number; 9]);
        let (_, rest) = nodes.split_at_mut(1);
        let mut arrived = true;
        for node in rest {
            arrived =
                arrived && timeout(Duration::from_millis(250), node.news(Verdict::Accept)).await.is_ok();
        }
        if arrived {
            return;
        }
    }
    panic!("nobody is told anything");
}

#[tokio::test]
async fn what_is_published_at_one_end_of_a_row_reaches_the_other() {
    let mut nodes = row(10, 6).await;
    warm_up(&mut nodes).await;
    nodes[0].publish(b"heard by all");
    for index in 1..6 {
        let (from, news) = nodes[index].news(Verdict::Accept).await;
        assert_eq!((from, news), (nodes[index - 1].id, b"heard by all".to_vec()));
    }
}

#[tokio::test]
async fn what_is_refused_is_not_told_on() {
    let mut nodes = row(20, 3).await;
    warm_up(&mut nodes).await;
    for (news, verdict) in [(b"forged", Verdict::Reject), (b"not us", Verdict::Ignore)] {
        nodes[0].publish(news);
        assert_eq!(nodes[1].news(verdict).await.1, news);
    }
    nodes[0].publish(b"good");
    assert_eq!(nodes[1].news(Verdict::Accept).await.1, b"good");
    assert_eq!(nodes[2].news(Verdict::Accept).await.1, b"good", "the first that was told on");
}

#[tokio::test]
async fn what_is_too_large_or_of_another_topic_is_not_even_looked_at() {
    let mut nodes = row(30, 2).await;
    warm_up(&mut nodes).await;
    let mut rogue = Gossip::new(39, &mut nodes[1]).await;
    write(&mut rogue.stream, &published(vec![1; 100], "something else")).await.unwrap();
    write(&mut rogue.stream, &published(vec![2; 3_000], TOPIC)).await.unwrap();
    let (from, news) = nodes[1].news(Verdict::Reject).await;
    assert_eq!((from, news.len()), (rogue.rogue.id, 3_000), "the core refuses what is larger than a record");
    // Beyond what the protocol takes, the stream is reset; and from the sixth on none is taken.
    for _ in 0..8 {
        let large = published(vec![3; 5_000], TOPIC);
        let _ = write(&mut rogue.stream, &large).await;
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, rogue.stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the stream is over");
        match rogue.rogue.control.open_stream(rogue.rogue.peer, PROTOCOL).await {
            Ok(stream) => rogue.stream = stream,
            Err(_) => break,
        }
    }
    let sent = write(&mut rogue.stream, &published(b"small again".to_vec(), TOPIC)).await;
    nodes[0].publish(b"honest");
    let (from, news) = nodes[1].news(Verdict::Accept).await;
    assert_eq!((from, news), (nodes[0].id, b"honest".to_vec()), "nothing of {sent:?}");
}

/// libp2p-gossipsub stops its heartbeat on an idle swarm, and with it whatever was to be done later.
#[tokio::test]
async fn who_pruned_us_is_asked_again_on_an_idle_swarm() {
    let (_other, mut victim) = pair(40, 41).await;
    let mut rogue = Gossip::new(49, &mut victim).await;
    // A link, or the connection would be closed meanwhile.
    let _link = rogue.rogue.open().await;
    let mut inbound = rogue.inbound().await;
    let topic = || TOPIC.to_owned();
    for round in 0..3 {
        let grafted = async {
            while read(&mut inbound).await.control.is_none_or(|control| control.graft.is_empty()) {}
        };
        timeout(PATIENCE, grafted).await.unwrap_or_else(|_| panic!("not asked in round {round}"));
        let prune = vec![Prune { topic: topic(), backoff: 2 }];
        let control = Some(Control { graft: Vec::new(), prune });
        write(&mut rogue.stream, &Rpc { control, ..Rpc::default() }).await.unwrap();
    }
}

#[tokio::test]
async fn connections_of_which_no_link_is_made_are_kept_by_nobody() {
    let mut victim = node(50).await;
    let mut rogue = Gossip::new(59, &mut victim).await;
    let mut inbound = rogue.inbound().await;
    while read(&mut inbound).await.control.is_none_or(|control| control.graft.is_empty()) {}
    // Now in the mesh of gossipsub, which by itself would keep the connection for ever.
    rogue.stream.ignore_for_keep_alive();
    inbound.ignore_for_keep_alive();
    timeout(2 * PATIENCE, rogue.rogue.closed).await.expect("closed").unwrap();
}

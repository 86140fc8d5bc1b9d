//! Peers that speak Kademlia and mean no good.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig, RecordStore as _};
use libp2p::kad::{self, GetRecordOk, PutRecordError, QueryResult, Quorum, Record, RecordKey};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify};

use super::super::super::{swarm_config, transport};
use super::super::shape::protocol;
use super::support::*;
use crate::dht::{self, Answer, Key, Query, Value, testing};
use crate::record::testing::NOW;
use crate::time::DAY;

#[derive(NetworkBehaviour)]
struct Bare {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

/// A peer on bare libp2p-kad.
struct Rogue {
    swarm: Swarm<Bare>,
    address: Multiaddr,
}

impl Rogue {
    async fn new(seed: u8, kind: dht::Table) -> Self {
        let keypair = keypair(seed);
        let peer = keypair.public().to_peer_id();
        let mut config = kad::Config::new(protocol(kind));
        config.set_max_packet_size(1 << 20).set_substreams_timeout(Duration::from_secs(3));
        let limits = MemoryStoreConfig { max_value_bytes: 1 << 20, ..MemoryStoreConfig::default() };
        let store = MemoryStore::with_config(peer, limits);
        let mut kad = kad::Behaviour::with_config(peer, store, config);
        kad.set_mode(Some(kad::Mode::Server));
        let identify = identify::Config::new("crosstalk/1".into(), keypair.public());
        let behaviour = Bare { identify: identify::Behaviour::new(identify), kad };
        let transport = transport::build(&keypair, false).expect("a transport");
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm_config());
        let address = listen(&mut swarm).await;
        Self { swarm, address }
    }

    /// Connects to a node, which then knows it.
    async fn meet(&mut self, node: &Node) {
        self.swarm.behaviour_mut().kad.add_address(&node.peer, node.address.clone());
        self.swarm.dial(node.peer).expect("dials");
        while !matches!(
            self.swarm.select_next_some().await,
            SwarmEvent::Behaviour(BareEvent::Identify(identify::Event::Sent { .. }))
        ) {}
    }

    /// Holders that a put has found, by libp2p-kad's own count.
    async fn put(&mut self, node: &Node, record: Record) -> usize {
        let kad = &mut self.swarm.behaviour_mut().kad;
        // Of two, so that the list of those who acknowledged is told in any case.
        let nobody = keypair(250).public().to_peer_id();
        kad.put_record_to(record, [node.peer, nobody].into_iter(), Quorum::All);
        loop {
            let SwarmEvent::Behaviour(BareEvent::Kad(event)) = self.swarm.select_next_some().await else {
                continue;
            };
            if let kad::Event::OutboundQueryProgressed { result: QueryResult::PutRecord(result), .. } = event
            {
                return match result {
                    Ok(_) => 2,
                    Err(
                        PutRecordError::QuorumFailed { success, .. }
                        | PutRecordError::Timeout { success, .. },
                    ) => success.len(),
                };
            }
        }
    }

    /// What it finds at a key, by asking the nodes it knows.
    async fn get(&mut self, key: &[u8]) -> usize {
        self.swarm.behaviour_mut().kad.get_record(RecordKey::new(&key));
        let mut found = 0;
        loop {
            let SwarmEvent::Behaviour(BareEvent::Kad(event)) = self.swarm.select_next_some().await else {
                continue;
            };
            match event {
                kad::Event::OutboundQueryProgressed {
                    result: QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_))),
                    ..
                } => found += 1,
                kad::Event::OutboundQueryProgressed { result: QueryResult::GetRecord(_), step, .. }
                    if step.last =>
                {
                    return found;
                }
                _ => {}
            }
        }
    }

    /// Says that it provides what stands at a key.
    async fn provide(&mut self, key: &[u8]) {
        self.swarm.behaviour_mut().kad.start_providing(RecordKey::new(&key)).expect("sends");
        loop {
            if let SwarmEvent::Behaviour(BareEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: QueryResult::StartProviding(_),
                ..
            })) = self.swarm.select_next_some().await
            {
                return;
            }
        }
    }

    /// Providers of a key, by all whom it asks.
    async fn providers(&mut self, key: &[u8]) -> usize {
        self.swarm.behaviour_mut().kad.get_providers(RecordKey::new(&key));
        let mut found = 0;
        loop {
            let SwarmEvent::Behaviour(BareEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetProviders(result),
                step,
                ..
            })) = self.swarm.select_next_some().await
            else {
                continue;
            };
            if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = result {
                found += providers.len();
            }
            if step.last {
                return found;
            }
        }
    }

    /// Goes on answering.
    fn live(mut self) {
        tokio::spawn(async move {
            loop {
                self.swarm.select_next_some().await;
            }
        });
    }
}

fn record(key: &Key, value: Vec<u8>) -> Record {
    Record::new(RecordKey::new(key.as_bytes()), value)
}

fn forged() -> Vec<u8> {
    let mut bytes = testing::user(1, 2, 0).encode();
    let inside = bytes.len() - 40;
    bytes[inside] ^= 1;
    bytes
}

/// Bad values for the key of one user.
fn bad_values() -> VecDeque<(&'static str, Vec<u8>)> {
    VecDeque::from([
        ("forged", forged()),
        ("of another key", testing::user(2, 2, 0).encode()),
        ("oversize", vec![0x22; dht::MAX_VALUE + 1]),
        ("larger than a packet", vec![0x22; 70_000]),
        ("empty", Vec::new()),
        ("nonsense", b"nonsense".to_vec()),
    ])
}

/// Values of all kinds that are good at another time than now.
fn untimely() -> Vec<(&'static str, Value, u64)> {
    let kinds = [testing::user(1, 2, 0), testing::name(1, 1), testing::presence(3, 0, 9)];
    let ended = kinds.iter().map(|value| ("expired", value.clone(), value.ends()));
    // Clocks may differ by two days.
    let early = kinds.iter().map(|value| ("of the future", value.clone(), NOW - 3 * DAY));
    ended.chain(early).collect()
}

/// "Acknowledged without storing": libp2p-kad with a filter acknowledges before anybody has looked.
#[tokio::test]
async fn only_what_is_held_is_acknowledged() {
    let node = Node::start(1, lan()).await;
    let mut rogue = Rogue::new(2, dht::Table::Lan).await;
    rogue.meet(&node).await;
    let good = testing::user(1, 2, 0);
    for (what, value) in bad_values() {
        assert_eq!(rogue.put(&node, record(&good.key(), value)).await, 0, "{what}");
        assert_eq!(node.values().await, 0, "{what}");
    }
    let ended = testing::presence(3, 0, 1);
    node.judge(ended.ends());
    assert_eq!(rogue.put(&node, record(&ended.key(), ended.encode())).await, 0, "ended");
    let odd_key = Record::new(RecordKey::new(b"short"), good.encode());
    assert_eq!(rogue.put(&node, odd_key).await, 0);
    assert_eq!(rogue.put(&node, record(&good.key(), good.encode())).await, 1, "a good one");
    assert!(node.holds(&good).await);
}

/// A value ends when it says so itself: not by a time that libp2p-kad believes in, and anybody may set.
#[tokio::test]
async fn nobody_shortens_the_life_of_a_value() {
    let node = Node::start(1, lan()).await;
    let mut rogue = Rogue::new(2, dht::Table::Lan).await;
    rogue.meet(&node).await;
    let good = testing::user(1, 2, 0);
    let brief = tokio::time::Instant::now().into_std() + Duration::from_secs(1);
    let brief = Record { expires: Some(brief), ..record(&good.key(), good.encode()) };
    assert_eq!(rogue.put(&node, brief).await, 1);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(rogue.get(good.key().as_bytes()).await, 1, "it is held until its own end");
}

/// "A get never validates": libp2p-kad gives whatever a holder says.
#[tokio::test]
async fn a_liar_s_values_are_not_found() {
    for (what, value) in bad_values() {
        let (a, b) = pair(lan()).await;
        let mut rogue = Rogue::new(66, dht::Table::Lan).await;
        let good = testing::user(1, 2, 0);
        let bad = record(&good.key(), value);
        rogue.swarm.behaviour_mut().kad.store_mut().put(bad).expect("holds anything");
        rogue.meet(&a).await;
        rogue.live();
        a.until("the liar is known", async |a| a.members().await == 2).await;
        assert_eq!(a.ask(Query::Get(good.key())).await, Answer::Values(Vec::new()), "{what}");
        assert!(b.put(&good).await >= 1, "{what}");
        assert_eq!(a.get(&good.key()).await, [good.encode()], "{what}: the honest one is found beside it");
    }
}

/// Others would be made to knock at whatever address a liar names.
#[tokio::test]
async fn nobody_is_entered_at_an_address_where_nobody_has_seen_it() {
    let node = Node::start(1, lan()).await;
    let mut rogue = Rogue::new(2, dht::Table::Lan).await;
    for victim in
        ["/ip4/127.0.0.9/tcp/22", "/ip4/10.0.0.1/tcp/22", "/ip6/fd00::1/tcp/22", "/ip4/1.1.1.1/tcp/443"]
    {
        rogue.swarm.add_external_address(victim.parse().expect("an address"));
    }
    rogue.meet(&node).await;
    let (peer, address) = (*rogue.swarm.local_peer_id(), rogue.address.to_string());
    rogue.live();
    node.until("it is known", async |node| node.members().await == 1).await;
    assert_eq!(node.addresses_of(peer).await, [address]);
}

/// Whom a node is with on its link is nobody's business elsewhere.
#[tokio::test]
async fn the_private_table_does_not_answer_the_public() {
    let node = Node::start(1, wan(super::DhtMode::Server)).await;
    let good = testing::user(1, 2, 0);
    node.put(&good).await;
    let mut stranger = Rogue::new(2, dht::Table::Lan).await;
    stranger.meet(&node).await;
    assert_eq!(stranger.get(good.key().as_bytes()).await, 0);
    let mut other = Rogue::new(3, dht::Table::Wan).await;
    other.meet(&node).await;
    assert_eq!(other.get(good.key().as_bytes()).await, 1, "the public one does");
}

#[tokio::test]
async fn provider_records_are_not_held() {
    let node = Node::start(1, lan()).await;
    let mut rogue = Rogue::new(2, dht::Table::Lan).await;
    rogue.meet(&node).await;
    for number in 0..20_u8 {
        rogue.provide(&[number]).await;
    }
    // By the same connection, so it has been seen before the next one asks.
    rogue.get(b"something").await;
    drop(rogue);
    let mut third = Rogue::new(3, dht::Table::Lan).await;
    third.meet(&node).await;
    for number in 0..20_u8 {
        assert_eq!(third.providers(&[number]).await, 0);
    }
    assert_eq!(node.values().await, 0);
}

/// Whose word has not begun, or has ended, by the node's clock.
#[tokio::test]
async fn what_is_expired_or_future_dated_is_neither_taken_nor_found() {
    for (what, value, now) in untimely() {
        let node = Node::start(1, lan()).await;
        node.judge(now);
        let mut rogue = Rogue::new(66, dht::Table::Lan).await;
        let bad = record(&value.key(), value.encode());
        rogue.swarm.behaviour_mut().kad.store_mut().put(bad.clone()).expect("holds anything");
        rogue.meet(&node).await;
        assert_eq!(rogue.put(&node, bad).await, 0, "{what}");
        assert_eq!(node.values().await, 0, "{what}");
        rogue.live();
        node.until("the liar is known", async |node| node.members().await == 1).await;
        assert_eq!(node.get(&value.key()).await, Vec::<Vec<u8>>::new(), "{what}");
    }
}

/// Something older that is still valid, again: held it is, by what is newer.
#[tokio::test]
async fn what_is_replayed_replaces_nothing_and_hides_nothing() {
    let pairs = [
        (testing::user(1, 2, 0), testing::user(1, 2, 5)),
        (testing::name(1, 1), testing::name(1, 2)),
        (testing::presence(3, 0, 9), testing::presence(3, 5, 9)),
    ];
    for (old, new) in pairs {
        let (a, b) = pair(lan()).await;
        assert_eq!(a.put(&new).await, 1);
        let mut rogue = Rogue::new(66, dht::Table::Lan).await;
        let replayed = record(&old.key(), old.encode());
        rogue.swarm.behaviour_mut().kad.store_mut().put(replayed.clone()).expect("holds anything");
        rogue.meet(&b).await;
        for _ in 0..5 {
            assert_eq!(rogue.put(&b, replayed.clone()).await, 1, "held, by something newer");
        }
        assert!(b.holds(&new).await);
        assert_eq!(b.values().await, 1);
        rogue.live();
        b.until("the liar is known", async |b| b.members().await == 2).await;
        assert!(b.get(&new.key()).await.contains(&new.encode()), "beside what the liar says");
    }
}

#[tokio::test]
async fn who_asks_without_end_is_cut_off() {
    let node = Node::start(1, lan()).await;
    let mut rogue = Rogue::new(2, dht::Table::Lan).await;
    rogue.meet(&node).await;
    for serial in 0..2_000_u32 {
        rogue.swarm.behaviour_mut().kad.get_record(RecordKey::new(&serial.to_be_bytes()));
        loop {
            match rogue.swarm.select_next_some().await {
                SwarmEvent::ConnectionClosed { .. } => return assert!(serial > 200, "{serial}"),
                SwarmEvent::Behaviour(BareEvent::Kad(kad::Event::OutboundQueryProgressed {
                    step, ..
                })) if step.last => {
                    break;
                }
                _ => {}
            }
        }
    }
    panic!("2,000 questions were answered");
}

#[tokio::test]
async fn a_peer_that_puts_too_much_is_refused_and_others_are_not() {
    let mut config = lan();
    config.store.puts_per_peer = 3;
    let node = Node::start(1, config).await;
    let mut rogue = Rogue::new(2, dht::Table::Lan).await;
    rogue.meet(&node).await;
    for person in 1..=3 {
        let value = testing::user(person, 2, 0);
        assert_eq!(rogue.put(&node, record(&value.key(), value.encode())).await, 1);
    }
    let value = testing::user(9, 2, 0);
    assert_eq!(rogue.put(&node, record(&value.key(), value.encode())).await, 0);
    let mut other = Rogue::new(3, dht::Table::Lan).await;
    other.meet(&node).await;
    assert_eq!(other.put(&node, record(&value.key(), value.encode())).await, 1);
}

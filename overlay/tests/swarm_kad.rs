//! The hash table as a program uses it: whole swarms over loopback, by commands and events alone.
#![cfg(feature = "swarm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod swarm_support;

use std::time::{SystemTime, UNIX_EPOCH};

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::dht::{Answer, Key, Query, Table, Trace, Value};
use crosstalk_overlay::keys::{DeviceKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::swarm::{Command, DhtConfig, Event, Networks};
use crosstalk_overlay::time::{DAY, Hlc};
use swarm_support::{Node, config, node_with};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn value(seed: u8) -> Value {
    let (user, device, at) = (UserKey::from_seed([seed; 32]), DeviceKey::from_seed([seed; 32]), now());
    let cert = DeviceCert::issue(&user, device.id(), at).unwrap();
    let info = DeviceInfo {
        user: user.id(),
        device: device.id(),
        sealing: vec![SealingPublic { public: [1; 32], created: at }],
        mailboxes: Vec::new(),
        epoch: 1,
        at: Hlc { millis: at, counter: 0 },
        expires: at + 7 * DAY,
    };
    let info = Verified::sign(info, &device, None).unwrap();
    Value::User(UserRecord::new(cert, info, None).unwrap())
}

fn dht() -> DhtConfig {
    let networks = Networks { private: vec![("127.0.0.0".parse().unwrap(), 8)], ..Networks::default() };
    DhtConfig { networks, ..DhtConfig::default() }
}

async fn start(seed: u8, dht: DhtConfig) -> Node {
    let mut config = config(seed);
    config.dht = Some(dht);
    node_with(seed, config).await
}

async fn ask(node: &mut Node, query: Query) -> (Answer, Trace) {
    node.handle.try_send(Command::Query { id: 5, query }).unwrap();
    node.until("the answer", |event| match event {
        Event::Peer(PeerEvent::Answer { id: 5, answer, trace }) => Some((answer, trace)),
        _ => None,
    })
    .await
}

fn put(value: &Value) -> Query {
    Query::Put { key: value.key(), value: value.encode(), expires_wall: u64::MAX }
}

fn bootstrap(node: &Node, other: &Node) {
    node.handle.try_send(Command::Bootstrap { addresses: other.addresses.clone() }).unwrap();
}

/// Until somebody else holds it: the two may be about to get to know each other.
async fn put_until_held(node: &mut Node, value: &Value) {
    for _ in 0..100 {
        if matches!(ask(node, put(value)).await.0, Answer::Stored(1..)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nobody took it");
}

async fn held(node: &mut Node) -> (Table, Key, Vec<u8>, u64) {
    node.until("something to write down", |event| match event {
        Event::Held { table, key, value: Some((value, ends)) } => Some((table, key, value, ends)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn two_nodes_find_what_either_put_and_remember_it_over_a_restart() {
    let (mut a, mut b) = (start(1, dht()).await, start(2, dht()).await);
    bootstrap(&a, &b);
    let value = value(1);
    put_until_held(&mut a, &value).await;
    let written = held(&mut b).await;
    let (answer, trace) = ask(&mut b, Query::Get(value.key())).await;
    assert_eq!(answer, Answer::Values(vec![value.encode()]));
    assert!(trace.answered <= trace.asked, "{trace:?}");
    let (there, here) = (a.handle.views().carried(), b.handle.views().carried());
    assert!(there.asked > 0 && here.answered > 0, "the put is counted: {there:?} {here:?}");
    let size = value.encode().len() as u64;
    assert!(there.sent > size && here.received > size, "{there:?} {here:?}");
    assert_eq!((written.0, written.1, &written.2), (Table::Lan, value.key(), &value.encode()));
    a.handle.shutdown().await;
    b.handle.shutdown().await;
    let mut again = start(2, DhtConfig { restored: vec![written], ..dht() }).await;
    assert_eq!(ask(&mut again, Query::Get(value.key())).await.0, Answer::Values(vec![value.encode()]));
}

/// What `node` finds out of itself.
async fn found(node: &mut Node, value: &Value) -> bool {
    ask(node, Query::Get(value.key())).await.0 == Answer::Values(vec![value.encode()])
}

#[tokio::test]
async fn on_a_link_of_its_own_the_table_sleeps_until_somebody_comes_who_is_in_one() {
    let asleep = || DhtConfig { asleep: true, ..dht() };
    let (mut a, mut b) = (start(1, asleep()).await, start(2, asleep()).await);
    let (first, second) = (value(1), value(2));
    a.dial(b.id, &b.addresses);
    a.connected(b.id).await;
    // Longer than a newcomer waits to be entered (5 s).
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(ask(&mut a, put(&first)).await.0, Answer::Stored(0), "nobody serves");
    let mut c = start(3, dht()).await;
    bootstrap(&c, &a);
    put_until_held(&mut c, &second).await;
    put_until_held(&mut a, &first).await;
    // By `a` the one who sleeps beside it wakes as well.
    let mut tries = 0..200;
    while !(found(&mut b, &first).await && found(&mut b, &second).await) {
        assert!(tries.next().is_some(), "not found by who woke last");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Each knows the one before.
async fn line_of_twenty() -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=20 {
        let node = start(seed, dht()).await;
        if let Some(before) = nodes.last() {
            bootstrap(&node, before);
        }
        nodes.push(node);
    }
    nodes
}

#[tokio::test]
async fn a_put_by_one_of_twenty_in_a_line_of_acquaintance_is_found_by_each() {
    let (mut nodes, value) = (line_of_twenty().await, value(1));
    put_until_held(&mut nodes[0], &value).await;
    for node in &mut nodes {
        // It may still be on its way in.
        let mut tries = 0..100;
        while ask(node, Query::Get(value.key())).await.0 != Answer::Values(vec![value.encode()]) {
            assert!(tries.next().is_some(), "not found by {}", node.id);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Of twenty in a line of acquaintance, the last looks for what only the first eight could have been given.
#[tokio::test]
async fn a_walk_shows_whom_it_asked_and_who_had_named_them() {
    let (mut nodes, value) = (line_of_twenty().await, value(1));
    put_until_held(&mut nodes[0], &value).await;
    let mut stranger = start(21, dht()).await;
    bootstrap(&stranger, &nodes[19]);
    let mut tries = 0..100;
    let (answer, trace) = loop {
        let (answer, trace) = ask(&mut stranger, Query::Walk(value.key())).await;
        if trace.hops().is_some() {
            break (answer, trace);
        }
        assert!(tries.next().is_some(), "{trace:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(answer, Answer::Values(vec![value.encode()]));
    assert_eq!((trace.asked as usize, trace.path[0].told_by), (trace.path.len(), None));
    for (place, asked) in trace.path.iter().enumerate() {
        let teller =
            asked.told_by.map(|teller| trace.path[..place].iter().find(|earlier| earlier.node == teller));
        let hops = teller.map_or(1, |teller| teller.expect("asked before").hops + 1);
        assert_eq!(asked.hops, hops, "{asked:?}");
        assert!(nodes.iter().any(|node| node.id == asked.node), "somebody who is there");
    }
    // What stands here is found without asking far.
    let (answer, _) = ask(&mut nodes[0], Query::Walk(value.key())).await;
    assert_eq!(answer, Answer::Values(vec![value.encode()]));
}

/// The way back in is tried after 5 s again, as hardly anybody is known; a new connection would replace the link.
#[tokio::test]
async fn who_is_connected_is_not_dialled_again() {
    let (mut a, b) = (start(1, dht()).await, start(2, dht()).await);
    bootstrap(&a, &b);
    a.dial(b.id, &b.addresses);
    a.connected(b.id).await;
    let broken = a.until("nothing", |event| match event {
        Event::Peer(PeerEvent::Disconnected { .. }) => Some(()),
        _ => None,
    });
    let seven = std::time::Duration::from_secs(7);
    assert!(tokio::time::timeout(seven, broken).await.is_err(), "the link was replaced");
}

#[tokio::test]
async fn more_queries_than_are_taken_are_answered_too() {
    let mut node = start(1, dht()).await;
    let value = value(1);
    for id in 0..1_000 {
        let mut command = Command::Query { id, query: Query::Get(value.key()) };
        while let Err(error) = node.handle.try_send(command) {
            let crosstalk_overlay::swarm::SendError::Full(back) = error else { panic!("stopped") };
            command = back;
            tokio::task::yield_now().await;
        }
        // Nobody listens meanwhile: the swarm has to keep what it can't tell yet.
        while let Ok(event) = node.events.try_recv() {
            assert!(matches!(event, Event::Peer(PeerEvent::Answer { .. })), "{event:?}");
        }
    }
    node.until("the last answer", |event| match event {
        Event::Peer(PeerEvent::Answer { id: 999, .. }) => Some(()),
        _ => None,
    })
    .await;
}

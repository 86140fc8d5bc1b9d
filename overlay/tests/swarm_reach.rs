//! Nodes that nobody reaches directly, and relays, as a program uses them: whole swarms over loopback, which counts as public.
//! Who listens nowhere stands for who is behind a router.
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

use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::swarm::{
    Command, DhtConfig, DhtMode, Event, Networks, ReachConfig, ReachReport, RelayMode, peer_id,
};
use swarm_support::{Node, PATIENCE, config, node_with};

/// One more than the limit of circuits of a peer: how many a peer gets.
const CIRCUITS_OF_A_PEER: u8 = 9;

fn dht(mode: DhtMode, relay: RelayMode) -> DhtConfig {
    let networks = Networks { public: vec![("127.0.0.0".parse().unwrap(), 8)], ..Networks::default() };
    let reach = ReachConfig { relay, patience: Duration::from_millis(200), ..ReachConfig::default() };
    DhtConfig { networks, mode, reach, ..DhtConfig::default() }
}

async fn relay(seed: u8) -> Node {
    let mut config = config(seed);
    config.dht = Some(dht(DhtMode::Server, RelayMode::Auto));
    node_with(seed, config).await
}

/// A node that listens nowhere and knows these.
async fn hidden(seed: u8, known: &[&Node]) -> Node {
    let mut config = config(seed);
    config.dht = Some(dht(DhtMode::Auto, RelayMode::Auto));
    config.listen.clear();
    let node = node_with(seed, config).await;
    let addresses = known.iter().map(|other| other.addresses[0].clone()).collect();
    node.handle.try_send(Command::Bootstrap { addresses }).unwrap();
    node
}

async fn reported(node: &mut Node, what: &str, is: impl Fn(&ReachReport) -> bool) -> ReachReport {
    let mut reports = node.handle.views().reach().expect("the table is on");
    let waiting = async {
        loop {
            tokio::select! {
                found = reports.wait_for(&is) => return found.expect("it runs").clone(),
                _ = node.events.recv() => {}
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    found.unwrap_or_else(|_| {
        panic!("waited in vain: {what}; now {:?}", node.handle.views().reach().map(|r| r.borrow().clone()))
    })
}

fn places(report: &ReachReport) -> Vec<String> {
    report.relays.iter().filter(|place| place.since.is_some()).map(|place| place.address.clone()).collect()
}

/// Where `node` is reached through `relay`.
fn through(relay: &Node) -> String {
    format!("{}/p2p/{}/p2p-circuit", relay.addresses[0], peer_id(&relay.id).unwrap())
}

async fn near(node: &mut Node, to: crosstalk_overlay::id::NodeId) -> (bool, String) {
    node.until("connected", |event| match event {
        Event::Peer(PeerEvent::Connected { node, near, address, .. }) if node == to => Some((near, address)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn two_that_nobody_reaches_talk_through_a_relay_which_counts_as_far() {
    let relay = relay(1).await;
    let (mut a, mut b) = (hidden(2, &[&relay]).await, hidden(3, &[&relay]).await);
    let report = reported(&mut a, "a place at the relay", |report| !places(report).is_empty()).await;
    assert_eq!(places(&report), [relay.addresses[0].clone()]);
    assert!(report.unreachable && report.direct.is_empty());
    b.dial(a.id, &[through(&relay)]);
    let ids = (a.id, b.id);
    for (node, other) in [(&mut a, ids.1), (&mut b, ids.0)] {
        let (near, address) = near(node, other).await;
        assert!(!near, "loopback, but through a relay");
        assert!(address.ends_with("/p2p-circuit"), "{address}");
    }
    for number in 0..20u8 {
        a.send(b.id, vec![number; 1_000]).await;
        b.send(a.id, vec![number; 1_000]).await;
    }
    for number in 0..20u8 {
        assert_eq!(b.frame(a.id).await, vec![number; 1_000]);
        assert_eq!(a.frame(b.id).await, vec![number; 1_000]);
    }
    let mut relay = relay;
    reported(&mut relay, "a circuit", |report| report.circuits == 1 && report.relays_others).await;
}

#[tokio::test]
async fn a_relay_that_is_lost_is_replaced_by_another() {
    let mut relays = Vec::new();
    for seed in 1..=3 {
        relays.push(relay(seed).await);
    }
    let mut node = hidden(9, &[&relays[0], &relays[1], &relays[2]]).await;
    let before = reported(&mut node, "two places", |report| places(report).len() == 2).await;
    assert_eq!(before.relays.len(), 2, "and no third");
    let before = places(&before);
    let lost = relays.iter().position(|relay| before.contains(&relay.addresses[0])).unwrap();
    let lost = relays.swap_remove(lost);
    let address = lost.addresses[0].clone();
    lost.handle.shutdown().await;
    let is = |report: &ReachReport| places(report).len() == 2 && !places(report).contains(&address);
    reported(&mut node, "a place at the third", is).await;
}

#[tokio::test]
async fn who_does_not_relay_is_not_asked() {
    let mut config = config(1);
    config.dht = Some(dht(DhtMode::Server, RelayMode::Off));
    let server = node_with(1, config).await;
    let mut node = hidden(2, &[&server]).await;
    let report = reported(&mut node, "the verdict", |report| report.unreachable && report.beyond > 0).await;
    assert!(report.relays.is_empty() && report.known_relays == 0, "{report:?}");
}

#[tokio::test]
async fn a_peer_has_so_many_circuits_and_no_more() {
    let relay = relay(1).await;
    let mut caller = hidden(2, &[&relay]).await;
    let mut others = Vec::new();
    for seed in 0..=CIRCUITS_OF_A_PEER {
        let mut other = hidden(10 + seed, &[&relay]).await;
        reported(&mut other, "a place", |report| !places(report).is_empty()).await;
        others.push(other);
    }
    let last = others.pop().unwrap();
    for other in &mut others {
        caller.dial(other.id, &[through(&relay)]);
        caller.connected(other.id).await;
    }
    caller.dial(last.id, &[through(&relay)]);
    let error = caller.until("the refusal", |event| match event {
        Event::DialFailed { node, error } if node == last.id => Some(error),
        Event::Peer(PeerEvent::Connected { node, .. }) if node == last.id => panic!("one too many"),
        _ => None,
    });
    let error = error.await;
    assert!(error.contains("resource limit") || error.to_lowercase().contains("limit"), "{error}");
}

#[tokio::test]
async fn a_circuit_that_has_carried_its_share_ends_and_can_be_opened_again() {
    const FRAME: usize = 256 * 1024;
    let relay = relay(1).await;
    let (mut a, mut b) = (hidden(2, &[&relay]).await, hidden(3, &[&relay]).await);
    reported(&mut a, "a place", |report| !places(report).is_empty()).await;
    b.dial(a.id, &[through(&relay)]);
    b.connected(a.id).await;
    let mut arrived = 0;
    let ended = loop {
        b.send(a.id, vec![7; FRAME]).await;
        let next = a.until("a frame, or the end", |event| match event {
            Event::Peer(PeerEvent::Frame { frame, .. }) => Some(Some(frame.len())),
            Event::Peer(PeerEvent::Disconnected { .. }) => Some(None),
            _ => None,
        });
        match next.await {
            Some(bytes) => arrived += bytes,
            None => break arrived,
        }
        assert!(arrived <= 17 << 20, "it goes on and on");
    };
    assert!(ended > 14 << 20, "{ended} bytes");
    b.disconnected(a.id).await;
    b.dial(a.id, &[through(&relay)]);
    b.connected(a.id).await;
}

//! Many nodes: few connections, and lookups all the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::{DhtConfig, DhtMode};
use super::super::{Tables as _, dht};
use super::support::*;
use crate::dht::testing;

fn made(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| node.made.load(Ordering::Relaxed)).sum()
}

fn open(nodes: &[Node]) -> usize {
    nodes.iter().map(Node::connections).sum()
}

/// By itself libp2p-kad looks around for each node that enters a table of fewer than 20.
#[tokio::test]
async fn getting_to_know_everybody_leaves_no_connection_to_everybody() {
    let nodes = line(40, lan()).await;
    let most = nodes.iter().map(|node| node.most.load(Ordering::Relaxed)).max();
    // They enter the tables together, every few seconds, and each time look around.
    let start = tokio::time::Instant::now();
    while open(&nodes) > 0 {
        assert!(start.elapsed() < Duration::from_secs(120), "the connections close");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = made(&nodes);
    println!("40 nodes met by {before} ends of connections, {most:?} at most at one node at a time");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(made(&nodes) == before, "and stay closed");
    let value = testing::user(1, 2, 0);
    assert!(nodes[0].put(&value).await > 0);
    assert_eq!(nodes[39].get(&value.key()).await, [value.encode()]);
}

/// TECH.md: a table that fills has libp2p-kad look around, which ends in a connection to everybody.
#[tokio::test]
async fn few_are_dialled_at_a_time() {
    let node = Node::start(1, lan()).await;
    // Forty nodes, where somebody takes every connection and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = silent.local_addr().expect("an address").port();
    let (mut taken, start) = (Vec::new(), tokio::time::Instant::now());
    node.with(move |swarm| {
        let kad = swarm.behaviour_mut().parts.table(dht::Table::Lan).kad();
        for seed in 100..140 {
            let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
            kad.add_address(&keypair(seed).public().to_peer_id(), address);
        }
        for seed in 0..20 {
            kad.get_closest_peers(keypair(seed).public().to_peer_id());
        }
    })
    .await;
    while let Ok(accepted) = tokio::time::timeout(Duration::from_secs(5), silent.accept()).await {
        taken.push(accepted.expect("a connection"));
        let may = 8 + 8 * usize::try_from(start.elapsed().as_millis() / 2_500).unwrap_or(usize::MAX);
        assert!(taken.len() <= may.min(24), "dials under way: {} after {:?}", taken.len(), start.elapsed());
    }
    assert_eq!(taken.len(), 24, "those who say nothing hold up nobody, until they are many");
}

/// Each of a group has looked around for itself, and would not again for a minute.
#[tokio::test]
async fn groups_that_meet_by_one_node_get_to_know_each_other() {
    let start = tokio::time::Instant::now();
    let config = DhtConfig { refresh: Duration::from_secs(300), ..lan() };
    let group = async |first: u8| {
        let mut nodes = vec![Node::start(first, config.clone()).await];
        for seed in first + 1..first + 6 {
            let node = Node::start(seed, config.clone()).await;
            node.bootstrap(&nodes[0]);
            nodes.push(node);
        }
        for node in &nodes {
            node.until("the group is known", async |node| node.members().await == 5).await;
        }
        nodes
    };
    let (one, other) = (group(1).await, group(101).await);
    tokio::time::sleep_until(start + Duration::from_secs(20)).await;
    let both = Node::start(201, config.clone()).await;
    both.bootstrap(&one[0]);
    both.bootstrap(&other[0]);
    for node in one.iter().chain(&other) {
        node.until("the other group is known", async |node| node.members().await >= 8).await;
    }
}

/// Bytes on the loopback interface of this thread's namespace, headers and all.
fn bytes_on_loopback() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("Linux");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).expect("a loopback");
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// In a network namespace of its own, as everything on its loopback is counted:
/// `unshare -rn sh -c 'ip link set lo up; cargo test -p crosstalk-overlay --features swarm --lib fifty -- --ignored --nocapture'`.
#[tokio::test]
#[ignore = "a measurement of four minutes, for a namespace of its own"]
async fn what_an_idle_node_among_fifty_costs() {
    for (what, config) in [("private", lan()), ("public, servers", wan(DhtMode::Server))] {
        let mut config = config;
        config.refresh = Duration::from_secs(15);
        let start = bytes_on_loopback();
        let nodes = line(50, config).await;
        tokio::time::sleep(Duration::from_secs(45)).await;
        let (met, connections) = (bytes_on_loopback(), made(&nodes));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let idle = (bytes_on_loopback() - met) / 50;
        println!(
            "{what}: meeting 49 others costs a node {} kB; each look around {} bytes and {:.1} connections, so {} \
             bytes a minute with one every 15 minutes",
            (met - start) / 50 / 1_000,
            idle / 4,
            (made(&nodes) - connections) as f64 / 400.0,
            idle / 4 / 15,
        );
    }
}

//! Whole tables over loopback, without links, and hostile peers on bare libp2p-kad.

mod hostile;
mod mesh;
mod support;

use std::time::Duration;

use self::support::*;
use super::*;
use crate::dht::{Answer, testing};
use crate::record::testing::NOW;

#[tokio::test]
async fn two_nodes_alone_store_and_find() {
    let (a, b) = pair(lan()).await;
    let value = testing::user(1, 2, 0);
    assert_eq!(a.put(&value).await, 1);
    assert!(b.holds(&value).await);
    for node in [&a, &b] {
        assert_eq!(node.get(&value.key()).await, [value.encode()]);
    }
}

#[tokio::test]
async fn a_node_that_is_alone_finds_what_it_put_and_spreads_it_when_somebody_comes() {
    let a = Node::start(1, lan()).await;
    let value = testing::user(1, 2, 0);
    assert_eq!(a.put(&value).await, 0);
    assert_eq!(a.get(&value.key()).await, [value.encode()]);
    let b = Node::start(2, lan()).await;
    b.bootstrap(&a);
    b.until("the value comes by itself", async |b| b.holds(&value).await).await;
}

/// As the program does: the disk keeps what is told, and puts the peer id behind each address.
#[tokio::test]
async fn by_what_is_told_for_remembering_a_node_comes_back() {
    let nodes = line(3, lan()).await;
    let told = || nodes[0].told.lock().expect("nobody has panicked").clone();
    let others: Vec<String> = nodes[1..].iter().map(|node| node.peer.to_string()).collect();
    let names = |other: &String| told().iter().any(|address| address.ends_with(other));
    nodes[0].until("both others are told", async |_| others.iter().all(names)).await;
    for other in &others {
        let known: Vec<String> = told().into_iter().filter(|address| address.ends_with(other)).collect();
        let back = Node::start(9, lan()).await;
        back.with(move |swarm| swarm.behaviour_mut().bootstrap(&known)).await;
        back.until("it is in again", async |back| back.members().await > 0).await;
        back.stop().await;
    }
}

#[tokio::test]
async fn what_one_of_twenty_puts_each_of_them_finds() {
    let nodes = line(20, lan()).await;
    let value = testing::user(1, 2, 0);
    let copies = nodes[0].put(&value).await;
    assert_eq!(copies, shape::COPIES.get(), "as many acknowledgements as there are to be copies");
    let mut holders = 0;
    for node in &nodes[1..] {
        holders += usize::from(node.holds(&value).await);
    }
    assert_eq!(holders, copies, "each acknowledgement is a copy");
    for node in &nodes {
        assert_eq!(node.get(&value.key()).await, [value.encode()]);
    }
}

/// Quorums of libp2p-kad count otherwise: one acknowledgement is all, or absent nodes are missed.
#[tokio::test]
async fn only_those_count_as_copies_that_hold_it() {
    let mut full = lan();
    full.store.values = 0;
    let first = Node::start(1, lan()).await;
    let mut others = Vec::new();
    for (seed, config) in [(2, &full), (3, &full), (4, &lan()), (5, &lan())] {
        let node = Node::start(seed, config.clone()).await;
        node.bootstrap(&first);
        others.push(node);
    }
    first.until("all are known", async |first| first.members().await == 4).await;
    let value = testing::user(1, 2, 0);
    assert_eq!(first.put(&value).await, 2);
}

#[tokio::test]
async fn the_closest_nodes_are_found_with_their_addresses() {
    let nodes = line(12, lan()).await;
    let key = testing::user(1, 2, 0).key();
    let Answer::Nodes(found) = nodes[3].ask(Query::Closest(key)).await else { panic!("nodes") };
    let at = key.position();
    let mut expected: Vec<_> = nodes.iter().filter(|node| node.id != nodes[3].id).collect();
    expected.sort_by_key(|node| at.distance(&dht::Position::of_node(&node.id)));
    expected.truncate(shape::COPIES.get());
    let ids: Vec<_> = found.iter().map(|(node, _)| *node).collect();
    assert_eq!(ids, expected.iter().map(|node| node.id).collect::<Vec<_>>());
    for ((_, addresses), node) in found.iter().zip(expected) {
        assert_eq!(addresses, &[node.address.to_string()]);
    }
}

#[tokio::test]
async fn positions_are_those_of_libp2p() {
    let node = Node::start(1, lan()).await;
    let peer = kad::KBucketKey::from(node.peer);
    assert_eq!(peer.hashed_bytes(), dht::Position::of_node(&node.id).as_bytes());
    let key = testing::user(1, 2, 0).key();
    let there = kad::KBucketKey::new(kad::RecordKey::new(key.as_bytes()));
    assert_eq!(there.hashed_bytes(), key.position().as_bytes());
}

#[tokio::test]
async fn holders_of_different_versions_come_to_the_newest() {
    let (a, b) = pair(lan()).await;
    let (old, new) = (testing::user(1, 2, 0), testing::user(1, 2, 5));
    a.put(&new).await;
    assert_eq!(b.put(&old).await, 1, "held, by something newer");
    assert_eq!(a.get(&old.key()).await, [new.encode()]);
    let other_device = testing::user(1, 3, 0);
    assert_eq!(b.put(&other_device).await, 1);
    let both = new.merge(other_device).expect("one user");
    assert!(a.holds(&both).await && b.holds(&both).await);
}

#[tokio::test]
async fn ended_values_are_neither_put_nor_found() {
    let (a, b) = pair(lan()).await;
    let value = testing::presence(3, 0, 9);
    assert_eq!(a.put(&value).await, 1);
    for node in [&a, &b] {
        node.judge(value.ends());
    }
    assert_eq!(b.get(&value.key()).await, Vec::<Vec<u8>>::new());
    assert_eq!(a.ask(put_of(&value)).await, Answer::Failed);
}

#[tokio::test]
async fn what_does_not_belong_at_its_key_is_not_put() {
    let (a, _) = pair(lan()).await;
    let (value, other) = (testing::user(1, 2, 0), testing::name(1, 1));
    for bytes in [other.encode(), b"nonsense".to_vec(), vec![0; dht::MAX_VALUE + 1]] {
        let put = Query::Put { key: value.key(), value: bytes, expires_wall: u64::MAX };
        assert_eq!(a.ask(put).await, Answer::Failed);
    }
}

#[tokio::test]
async fn the_largest_value_passes() {
    let (a, b) = pair(lan()).await;
    let mut value = testing::large_user(1, 0);
    for device in 1..16 {
        value = value.merge(testing::large_user(1, device)).expect("one user");
    }
    let size = value.encode().len();
    assert!(size > 16 * 1_024, "larger than what libp2p-kad lets through by itself, not only {size}");
    assert_eq!(a.put(&value).await, 1);
    assert_eq!(b.get(&value.key()).await, [value.encode()]);
}

#[tokio::test]
async fn the_disk_is_told_and_what_it_held_counts_again() {
    let (a, b) = pair(lan()).await;
    let value = testing::user(1, 2, 0);
    a.put(&value).await;
    let (table, key, Some((bytes, ends))) = b.held().await else { panic!("a value") };
    assert_eq!((table, key, &bytes), (dht::Table::Lan, value.key(), &value.encode()));
    let mut config = lan();
    config.restored = vec![(table, key, bytes, ends), (table, testing::name(1, 1).key(), vec![1], ends)];
    let c = Node::start(9, config).await;
    assert!(c.holds(&value).await);
    let (_, gone, None) = c.held().await else { panic!("what did not count is to be deleted") };
    assert_eq!(gone, testing::name(1, 1).key());
}

#[tokio::test]
async fn what_nobody_put_for_long_is_put_to_who_is_closest_now() {
    let mut config = lan();
    config.replicate = Duration::from_secs(2);
    let (a, b) = pair(config.clone()).await;
    let value = testing::user(1, 2, 0);
    a.put(&value).await;
    a.stop().await;
    let c = Node::start(3, config).await;
    c.bootstrap(&b);
    c.until("the holder spreads it", async |c| c.holds(&value).await).await;
}

#[tokio::test]
async fn a_node_that_is_gone_leaves_the_table() {
    let nodes = line(4, lan()).await;
    let mut nodes = nodes.into_iter();
    let (a, b) = (nodes.next().expect("one"), nodes.next().expect("two"));
    a.until("all are known", async |a| a.members().await == 3).await;
    b.stop().await;
    for serial in 0..40 {
        a.get(&testing::user(serial, 2, 0).key()).await;
        if a.members().await == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{} members", a.members().await);
}

#[tokio::test]
async fn nobody_enters_whom_nobody_could_ask() {
    let mut client = wan(DhtMode::Client);
    let server = Node::start(1, wan(DhtMode::Server)).await;
    let a = Node::start(2, client.clone()).await;
    client.mode = DhtMode::Auto;
    let auto = Node::start(3, client).await;
    for node in [&a, &auto] {
        // An address that was dialled is known to be good, but nobody answers there.
        server.bootstrap(node);
        node.until("the server is known", async |node| node.members().await == 1).await;
    }
    let value = testing::user(1, 2, 0);
    assert_eq!(a.put(&value).await, 1);
    assert_eq!(auto.get(&value.key()).await, [value.encode()]);
    assert_eq!(server.members().await, 0, "clients have asked, and are not entered");
    assert!(server.holds(&value).await);
    auto.confirm_address();
    server.until("a client that became a server is known", async |server| server.members().await == 1).await;
}

#[tokio::test]
async fn judged_by_the_core_what_was_revoked_goes() {
    use crate::record::{Revocation, RevocationSet, Revoked, RevokedBy, Verified};
    let (a, b) = pair(lan()).await;
    let both = testing::user(1, 2, 0).merge(testing::user(1, 3, 0)).expect("one user");
    a.put(&both).await;
    let me = crate::record::testing::Person::new(1);
    let device = crate::keys::DeviceKey::from_seed([3; 32]).id();
    let void = Revocation { what: Revoked::Device(me.id(), device), by: RevokedBy::User, since: NOW };
    let mut revocations = RevocationSet::default();
    revocations.insert(Verified::sign(void, &me.user, None).expect("signs"));
    b.with(move |swarm| swarm.behaviour_mut().judge(TrustedTime::certain(NOW), revocations)).await;
    assert!(b.holds(&testing::user(1, 2, 0)).await && !b.holds(&both).await);
}

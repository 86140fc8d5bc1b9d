//! Links between swarms over loopback: what they promise, and what hostile peers get.
#![cfg(feature = "swarm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod swarm_support;

use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::swarm::{Command, Event, MAX_QUEUED_BYTES};
use crosstalk_overlay::wire::MAX_FRAME;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use swarm_support::{Node, PATIENCE, Rogue, config, node, node_id, node_with, pair};

fn numbered(number: u32) -> Vec<u8> {
    let mut frame = number.to_be_bytes().to_vec();
    frame.resize(4 + number as usize % 700, 0xa5);
    frame
}

#[tokio::test]
async fn a_thousand_frames_each_way_arrive_in_order() {
    let (mut a, mut b) = pair(1, 2).await;
    let (a_id, b_id) = (a.id, b.id);
    let run = async |node: &mut Node, other| {
        for number in 0..1000 {
            node.send(other, numbered(number)).await;
        }
        for number in 0..1000 {
            assert_eq!(node.frame(other).await, numbered(number));
        }
    };
    tokio::join!(run(&mut a, b_id), run(&mut b, a_id));
}

#[tokio::test]
async fn the_largest_frame_passes() {
    let (a, mut b) = pair(1, 2).await;
    let frame: Vec<u8> = (0..MAX_FRAME).map(|index| index as u8).collect();
    a.send(b.id, frame.clone()).await;
    assert_eq!(b.frame(a.id).await, frame);
}

#[tokio::test]
async fn last_frames_go_out_before_the_close() {
    let (mut a, mut b) = pair(1, 2).await;
    for number in 0..200 {
        a.send(b.id, numbered(number)).await;
    }
    a.handle.try_send(Command::Close { node: b.id, reason: "test" }).unwrap();
    a.disconnected(b.id).await;
    for number in 0..200 {
        assert_eq!(b.frame(a.id).await, numbered(number));
    }
    b.disconnected(a.id).await;
}

#[tokio::test]
async fn shutdown_says_the_last_word_too() {
    let (a, mut b) = pair(1, 2).await;
    a.send(b.id, b"goodbye".to_vec()).await;
    a.handle.shutdown().await;
    assert_eq!(b.frame(a.id).await, b"goodbye");
    b.disconnected(a.id).await;
}

#[tokio::test]
async fn a_lost_peer_is_told_once_and_can_be_dialled_again() {
    let (mut a, b) = pair(1, 2).await;
    let b_id = b.id;
    b.handle.shutdown().await;
    a.disconnected(b_id).await;
    let mut b = node(2).await;
    a.dial(b_id, &b.addresses);
    // `until` would skip a second Disconnected: the very next peer event has to be Connected.
    let next = a.until("a peer event", |event| match event {
        Event::Peer(event) => Some(event),
        _ => None,
    });
    assert!(matches!(next.await, PeerEvent::Connected { node, inbound: false, .. } if node == b_id));
    assert!(b.connected(a.id).await);
}

#[tokio::test]
async fn another_node_at_the_address_is_not_taken() {
    let (mut a, b) = (node(1).await, node(2).await);
    let absent = node_id(3);
    a.dial(absent, &b.addresses);
    let failed = a.until("the failure", |event| match event {
        Event::DialFailed { node, .. } => Some(node),
        Event::Peer(event) => swarm_support::nothing(event),
        _ => None,
    });
    assert_eq!(failed.await, absent);
}

#[tokio::test]
async fn dialling_nobody_fails() {
    let mut a = node(1).await;
    for addresses in
        [vec![], vec!["/ip4/127.0.0.1/tcp/1".into()], vec!["nonsense".into(), "/ip4/0.0.0.0/tcp/1".into()]]
    {
        a.dial(node_id(2), &addresses);
        a.until("the failure", |event| matches!(event, Event::DialFailed { .. }).then_some(())).await;
    }
}

#[tokio::test]
async fn of_two_simultaneous_dials_one_link_remains() {
    for round in 0..8 {
        let (mut a, mut b) = (node(10 + round).await, node(20 + round).await);
        a.dial(b.id, &b.addresses);
        b.dial(a.id, &a.addresses);
        let (a_id, b_id) = (a.id, b.id);
        tokio::join!(a.connected(b_id), b.connected(a_id));
        // A frame may be lost with the connection that goes, so both repeat until they have heard the other.
        let converse = async |node: &mut Node, other| {
            let mut links = 1;
            let mut heard = false;
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
            let start = tokio::time::Instant::now();
            while !heard || start.elapsed().as_millis() < 400 {
                tokio::select! {
                    _ = tick.tick() => node.send(other, b"ping".to_vec()).await,
                    event = node.events.recv() => match event.unwrap() {
                        Event::Peer(PeerEvent::Connected { .. }) => links += 1,
                        Event::Peer(PeerEvent::Disconnected { .. }) => links -= 1,
                        Event::Peer(PeerEvent::Frame { .. }) => heard = true,
                        _ => {}
                    }
                }
                assert!((0..=1).contains(&links));
                assert!(start.elapsed() < PATIENCE);
            }
            links
        };
        assert_eq!(tokio::join!(converse(&mut a, b_id), converse(&mut b, a_id)), (1, 1));
    }
}

#[tokio::test]
async fn a_restarted_peer_replaces_its_former_self_even_in_a_full_house() {
    let mut few = config(1);
    few.max_connections = 1;
    let mut a = node_with(1, few).await;
    let mut old = node(2).await;
    old.dial(a.id, &a.addresses);
    old.connected(a.id).await;
    a.connected(old.id).await;
    // The same key again, while the old connection stands: as after a power cut, when no FIN was sent.
    let mut b = node(2).await;
    b.dial(a.id, &a.addresses);
    b.connected(a.id).await;
    // As the core does: the old connection might live.
    b.send(a.id, b"hello".to_vec()).await;
    a.disconnected(b.id).await;
    a.connected(b.id).await;
    a.send(b.id, b"hello".to_vec()).await;
    assert_eq!(b.frame(a.id).await, b"hello");
}

#[tokio::test]
async fn more_peers_than_allowed_are_refused() {
    let mut few = config(1);
    few.max_connections = 2;
    let mut a = node_with(1, few).await;
    let mut peers = Vec::new();
    for seed in 2..4 {
        let mut peer = node(seed).await;
        peer.dial(a.id, &a.addresses);
        peer.connected(a.id).await;
        a.connected(peer.id).await;
        peers.push(peer);
    }
    let mut third = node(9).await;
    third.dial(a.id, &a.addresses);
    third
        .until("the refusal", |event| match event {
            Event::DialFailed { .. } | Event::Peer(PeerEvent::Disconnected { .. }) => Some(()),
            _ => None,
        })
        .await;
    peers[0].send(a.id, b"still here".to_vec()).await;
    assert_eq!(a.frame(peers[0].id).await, b"still here");
}

#[tokio::test]
async fn a_core_that_lags_loses_nothing() {
    let (mut a, b) = pair(1, 2).await;
    for number in 0..3000 {
        b.send(a.id, numbered(number)).await;
    }
    // Nobody took events of `a` so far; b's writer waits, its queue is not full.
    for number in 0..3000 {
        assert_eq!(a.frame(b.id).await, numbered(number));
    }
}

/// Sends `bytes` as a peer would send frames, and expects to be thrown out; another peer notices nothing.
async fn thrown_out_for(bytes: Vec<u8>) {
    let (mut a, mut b) = pair(1, 2).await;
    let mut rogue = Rogue::new(66, &a);
    let mut stream = rogue.open().await;
    a.connected(rogue.id).await;
    // The victim may hang up before all is written.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    a.disconnected(rogue.id).await;
    b.send(a.id, b"undisturbed".to_vec()).await;
    assert_eq!(a.frame(b.id).await, b"undisturbed");
    a.send(b.id, b"and back".to_vec()).await;
    assert_eq!(b.frame(a.id).await, b"and back");
}

#[tokio::test]
async fn an_oversize_frame_is_refused_at_its_announcement() {
    // 320 KiB + 1 as varint; the body never comes.
    thrown_out_for(vec![0x81, 0x80, 0x14]).await;
}

#[tokio::test]
async fn garbage_is_refused() {
    thrown_out_for(vec![0xff; 100_000]).await;
    thrown_out_for(vec![0x00]).await;
}

#[tokio::test]
async fn a_substream_that_ends_ends_the_link() {
    let mut a = node(1).await;
    let mut rogue = Rogue::new(66, &a);
    let mut stream = rogue.open().await;
    a.connected(rogue.id).await;
    stream.close().await.unwrap();
    a.disconnected(rogue.id).await;
}

#[tokio::test]
async fn a_second_substream_replaces_the_first() {
    let mut a = node(1).await;
    let mut rogue = Rogue::new(66, &a);
    let mut first = rogue.open().await;
    a.connected(rogue.id).await;
    first.write_all(b"\x03one").await.unwrap();
    first.flush().await.unwrap();
    assert_eq!(a.frame(rogue.id).await, b"one");
    let mut second = rogue.open().await;
    second.write_all(b"\x03two").await.unwrap();
    second.flush().await.unwrap();
    assert_eq!(a.frame(rogue.id).await, b"two");
    let mut byte = [0];
    let ended = tokio::time::timeout(PATIENCE, first.read(&mut byte)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "the first one is given up");
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_cut_off() {
    let mut a = node(1).await;
    let mut rogue = Rogue::new(66, &a);
    let _writes_nothing = rogue.open().await;
    a.connected(rogue.id).await;
    // Taken, never read.
    let (_, _unread) = tokio::time::timeout(PATIENCE, rogue.incoming.next()).await.unwrap().unwrap();
    let frame = vec![7; 64 * 1024];
    let mut sent = 0;
    loop {
        a.send(rogue.id, frame.clone()).await;
        sent += frame.len();
        if let Ok(Event::Peer(PeerEvent::Disconnected { .. })) = a.events.try_recv() {
            break;
        }
        assert!(sent < 3 * MAX_QUEUED_BYTES, "the queue grows without bound");
        tokio::task::yield_now().await;
    }
    assert!(sent > MAX_QUEUED_BYTES, "cut off too early: {sent}");
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_let_go() {
    let a = node(1).await;
    let Rogue { incoming, closed, .. } = Rogue::new(66, &a);
    drop(incoming);
    tokio::time::timeout(PATIENCE, closed).await.expect("closed in time").unwrap();
}

#[cfg(feature = "quic")]
mod quic {
    use super::*;

    async fn quic_node(seed: u8) -> Node {
        let mut config = config(seed);
        config.quic = true;
        node_with(seed, config).await
    }

    fn over<'a>(node: &'a Node, what: &str) -> Vec<&'a String> {
        node.addresses.iter().filter(|address| address.contains(what)).collect()
    }

    #[tokio::test]
    async fn frames_pass_over_quic() {
        let (mut a, mut b) = (quic_node(1).await, quic_node(2).await);
        let addresses: Vec<String> = over(&b, "quic-v1").into_iter().cloned().collect();
        assert_eq!(addresses.len(), 1);
        a.dial(b.id, &addresses);
        a.connected(b.id).await;
        b.connected(a.id).await;
        for number in 0..1000 {
            a.send(b.id, numbered(number)).await;
        }
        for number in 0..1000 {
            assert_eq!(b.frame(a.id).await, numbered(number));
        }
        a.handle.try_send(Command::Close { node: b.id, reason: "test" }).unwrap();
        a.disconnected(b.id).await;
        b.disconnected(a.id).await;
    }

    #[tokio::test]
    async fn quic_is_the_second_choice() {
        let (mut a, b) = (quic_node(1).await, quic_node(2).await);
        let used = |event| match event {
            Event::Peer(PeerEvent::Connected { address, .. }) => Some(address),
            _ => None,
        };
        a.dial(b.id, &b.addresses);
        assert!(a.until("connected", used).await.contains("/tcp/"));
        a.handle.try_send(Command::Close { node: b.id, reason: "test" }).unwrap();
        a.disconnected(b.id).await;
        let mut addresses = vec!["/ip4/127.0.0.1/tcp/1".to_owned()];
        addresses.extend(over(&b, "quic-v1").into_iter().cloned());
        a.dial(b.id, &addresses);
        assert!(a.until("connected", used).await.contains("/quic-v1"));
    }
}

/// A way to `node` that takes so long to open.
async fn slow_way(node: &Node, delay: Duration) -> String {
    let port = node.addresses[0].rsplit('/').next().unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut here, _) = listener.accept().await.unwrap();
        tokio::time::sleep(delay).await;
        let mut there = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    });
    way
}

/// Nothing is told for so long but frames, of which there are some.
async fn undisturbed(node: &mut Node, other: NodeId, time: Duration) {
    let (mut tick, end) =
        (tokio::time::interval(Duration::from_millis(50)), tokio::time::Instant::now() + time);
    let mut frames = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => break,
            _ = tick.tick() => node.send(other, b"ping".to_vec()).await,
            event = node.events.recv() => match event.unwrap() {
                Event::Peer(PeerEvent::Frame { .. }) => frames += 1,
                event => swarm_support::nothing(event),
            }
        }
    }
    assert!(frames > 0, "silence");
}

/// Both dial, one of them gets through much later.
async fn a_late_double(slow: u8, quick: u8, delay: Duration) {
    let (mut slow, mut quick) = (node(slow).await, node(quick).await);
    let way = slow_way(&quick, delay).await;
    slow.dial(quick.id, &[way]);
    // So that the dial is under way when there is a link.
    tokio::time::sleep(Duration::from_millis(50)).await;
    quick.dial(slow.id, &slow.addresses);
    let (slow_id, quick_id) = (slow.id, quick.id);
    tokio::join!(slow.connected(quick_id), quick.connected(slow_id));
    let time = delay + Duration::from_secs(1);
    tokio::join!(undisturbed(&mut slow, quick_id, time), undisturbed(&mut quick, slow_id, time));
}

#[tokio::test]
async fn a_link_in_use_survives_a_dial_of_either_side_that_comes_late() {
    let (young, old) = (Duration::from_millis(300), Duration::from_millis(4_500));
    tokio::join!(
        a_late_double(31, 32, young),
        a_late_double(32, 31, young),
        a_late_double(33, 34, old),
        a_late_double(34, 33, old),
    );
}

#[tokio::test]
async fn a_dial_that_hangs_delays_no_other() {
    let (mut a, b) = (node(1).await, node(2).await);
    let way = slow_way(&b, PATIENCE).await;
    a.dial(b.id, &[way]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    a.dial(b.id, &b.addresses);
    let start = tokio::time::Instant::now();
    a.connected(b.id).await;
    assert!(start.elapsed() < Duration::from_secs(3), "after {:?}", start.elapsed());
}

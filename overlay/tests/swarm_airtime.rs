//! What finding each other costs on the link: multicast packets counted by a host that only listens.
//!
//! Needs root, `ip` and network namespaces; skipped loudly without, failing when CROSSTALK_REQUIRE_ALL=1.
#![cfg(all(feature = "swarm", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod swarm_support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::swarm::{Event, start};
use swarm_support::config;
use swarm_support::lan::Lan;
use tokio::time::Instant;

/// What was heard, with 42 bytes of Ethernet, IP and UDP headers each.
#[derive(Default)]
struct Heard {
    questions: AtomicU64,
    answers: AtomicU64,
    bytes: AtomicU64,
    /// In the answer that had most.
    addresses: AtomicU64,
}

impl Heard {
    fn figures(&self) -> [u64; 3] {
        [&self.questions, &self.answers, &self.bytes].map(|count| count.load(Ordering::Relaxed))
    }
}

/// A switch with nodes that run until this is dropped, and a listener.
struct Bed {
    lan: Lan,
    heard: Arc<Heard>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// After how long a node knew all others.
    complete: mpsc::Receiver<Duration>,
    known: mpsc::SyncSender<Duration>,
}

impl Bed {
    fn new(nodes: usize) -> Option<Bed> {
        let lan = Lan::new(nodes + 1)?;
        let (known, complete) = mpsc::sync_channel(64);
        let (heard, stop) = (Arc::new(Heard::default()), Arc::new(AtomicBool::new(false)));
        let mut bed = Bed { lan, heard, stop, threads: Vec::new(), complete, known };
        bed.listen(nodes);
        Some(bed)
    }

    fn listen(&mut self, host: usize) {
        let (name, heard, stop) = (self.lan.hosts[host].clone(), self.heard.clone(), self.stop.clone());
        let (ready, is_ready) = mpsc::sync_channel(64);
        self.threads.push(std::thread::spawn(move || {
            Lan::enter(&name);
            let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
            // Counts what is sent, also while this thread has to wait.
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
            let own = Ipv4Addr::new(10, 99, 0, host as u8 + 1);
            socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &own).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            ready.send(()).unwrap();
            let mut buffer = [0; 9000];
            while !stop.load(Ordering::Relaxed) {
                let Ok(size) = socket.recv(&mut buffer) else { continue };
                let kind = if buffer[2] & 0x80 == 0 { &heard.questions } else { &heard.answers };
                kind.fetch_add(1, Ordering::Relaxed);
                let addresses = buffer[..size].windows(8).filter(|bytes| bytes == b"dnsaddr=").count() as u64;
                heard.addresses.fetch_max(addresses, Ordering::Relaxed);
                heard.bytes.fetch_add(size as u64 + 42, Ordering::Relaxed);
            }
        }));
        is_ready.recv().unwrap();
    }

    fn launch(&mut self, host: usize, nodes: usize) {
        let (name, stop, known) = (self.lan.hosts[host].clone(), self.stop.clone(), self.known.clone());
        self.threads.push(std::thread::spawn(move || {
            Lan::enter(&name);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut config = config(host as u8 + 1);
            (config.mdns, config.quic) = (true, cfg!(feature = "quic"));
            config.listen = vec!["0.0.0.0:14774".parse().unwrap(), "[::]:14774".parse().unwrap()];
            runtime.block_on(async move {
                let started = Instant::now();
                let (_handle, mut events) = start(config).unwrap();
                let mut seen = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    let event = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
                    if let Ok(Some(Event::Peer(PeerEvent::Discovered { node, .. }))) = event
                        && seen.insert(node)
                        && seen.len() == nodes - 1
                    {
                        known.send(started.elapsed()).unwrap();
                    }
                }
            });
        }));
    }

    /// Starts all at once; when each knew all others, sorted; without those who did not within 30 s.
    fn start(&mut self, nodes: usize) -> Vec<Duration> {
        (0..nodes).for_each(|host| self.launch(host, nodes));
        let deadline = Instant::now() + Duration::from_secs(30);
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut took: Vec<Duration> =
            (0..nodes).map_while(|_| self.complete.recv_timeout(left()).ok()).collect();
        took.sort_unstable();
        took
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Lets what is under way come to an end.
fn settle() {
    std::thread::sleep(Duration::from_secs(5));
}

#[test]
fn starting_together_costs_a_question_and_an_answer_for_each_pair_at_most() {
    let Some(mut bed) = Bed::new(10) else { return };
    let took = bed.start(10);
    settle();
    let [questions, answers, bytes] = bed.heard.figures();
    eprintln!(
        "10 nodes started: {questions} questions, {answers} answers, {bytes} bytes, known after {took:?}"
    );
    assert_eq!(took.len(), 10, "all know all");
    // One of each node's libp2p-mdns, unless it heard answers before, and few of our own.
    assert!((1..=14).contains(&questions), "{questions}");
    assert!(bytes < 45_000, "{bytes}");
    assert_eq!(bed.heard.addresses.load(Ordering::Relaxed), 1, "TCP only");
}

#[test]
fn a_switch_that_starts_again_hears_few_questions() {
    let Some(mut bed) = Bed::new(10) else { return };
    assert_eq!(bed.start(10).len(), 10, "all know all");
    settle();
    (0..10).for_each(|host| bed.lan.cable(host, "down"));
    settle();
    let [before, ..] = bed.heard.figures();
    (0..10).for_each(|host| bed.lan.cable(host, "up"));
    settle();
    let [questions, ..] = bed.heard.figures();
    eprintln!("10 cables mended: {} questions", questions - before);
    // Each would ask three times.
    assert!((1..=10).contains(&(questions - before)), "{}", questions - before);
}

fn measure(nodes: usize) {
    let Some(mut bed) = Bed::new(nodes) else { return };
    let started = Instant::now();
    let took = bed.start(nodes);
    let [median, last] = [nodes / 2, nodes - 1].map(|place| took.get(place).map(Duration::as_millis));
    std::thread::sleep(Duration::from_secs(60).saturating_sub(started.elapsed()));
    let start_up = bed.heard.figures();
    std::thread::sleep(Duration::from_secs(180).saturating_sub(started.elapsed()));
    let idle = bed.heard.figures();
    let idle: Vec<u64> = idle.iter().zip(start_up).map(|(all, before)| all - before).collect();
    let complete = took.len();
    eprintln!(
        "{nodes:3} nodes: {complete} knew all within 30 s, half after {median:?} ms, all after {last:?} ms;"
    );
    let [questions, answers, bytes] = start_up;
    eprintln!("    first 60 s: {questions} questions, {answers} answers, {bytes} bytes;");
    eprintln!("    next 120 s: {} questions, {} answers, {} bytes/s", idle[0], idle[1], idle[2] / 120);
}

/// Three minutes: the figures of ARCHITECTURE.md.
#[test]
#[ignore = "measures for three minutes; run it alone"]
fn figures() {
    std::thread::scope(|scope| {
        for nodes in [2, 10, 25, 50] {
            scope.spawn(move || measure(nodes));
        }
    });
}

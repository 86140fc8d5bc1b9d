//! Discovery on a real link: network namespaces on a switch, cables cut and mended, addresses that change.
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

use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::probe::SIZE;
use crosstalk_overlay::swarm::{Command, Commands, Event, start};
use swarm_support::lan::Lan;
use swarm_support::{config, keypair, node_id};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

/// A node in its own namespace, thread and runtime, with the simplest core: it dials what is discovered, the
/// smaller id at once and the larger after two seconds, and redials each second.
struct Host {
    id: NodeId,
    /// When, whether connected, and at which address.
    events: mpsc::Receiver<(Instant, bool, String)>,
    /// Of the last connection.
    address: String,
    commands: Commands,
    started: Instant,
    _stop: oneshot::Sender<()>,
}

fn launch(lan: &Lan, host: usize, seed: u8, listen: &[&str]) -> Host {
    let name = lan.hosts[host].clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let (events, receiver) = mpsc::channel(256);
    let mut config = config(seed);
    config.mdns = true;
    config.listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    let (started_tx, started) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        Lan::enter(&name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (handle, from_swarm) = start(config).unwrap();
            started_tx.send(handle.commands()).unwrap();
            drive(handle.commands(), from_swarm, node_id(seed), events, stopped).await;
            handle.shutdown().await;
        });
    });
    let commands = started.recv().unwrap();
    let (id, started, address) = (node_id(seed), Instant::now(), String::new());
    Host { id, events: receiver, address, commands, started, _stop: stop }
}

async fn drive(
    commands: Commands,
    mut events: mpsc::Receiver<Event>,
    own: NodeId,
    told: mpsc::Sender<(Instant, bool, String)>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut known: Option<(NodeId, Vec<String>)> = None;
    let mut linked = false;
    let mut redial = Instant::now() + Duration::from_secs(3600);
    loop {
        let event = tokio::select! {
            _ = &mut stop => break,
            () = sleep_until(redial) => None,
            event = events.recv() => event,
        };
        let now = Instant::now();
        match event {
            Some(Event::Peer(PeerEvent::Discovered { node, addresses })) => {
                redial = if own < node { now } else { now + Duration::from_secs(2) };
                known = Some((node, addresses));
            }
            Some(Event::Peer(PeerEvent::Connected { node, address, .. })) => {
                linked = true;
                // As the core does: it shows the other side which connection is used.
                commands.try_send(Command::Send { node, frame: b"hello".to_vec() }).ok();
                told.send((now, true, address)).await.ok();
            }
            Some(Event::Peer(PeerEvent::Datagram(bytes))) => {
                told.send((now, linked, format!("datagram of {}", bytes.len()))).await.ok();
            }
            Some(Event::Peer(PeerEvent::Disconnected { .. })) => {
                linked = false;
                redial = now + Duration::from_secs(1);
                told.send((now, false, String::new())).await.ok();
            }
            _ => {}
        }
        if redial <= now {
            redial = now + Duration::from_secs(1);
            if let (false, Some((node, addresses))) = (linked, known.clone()) {
                commands.try_send(Command::Dial { node, addresses }).ok();
            }
        }
    }
}

impl Host {
    /// When the state became `linked` and is, at the latest at `until`; older changes are skipped up to there.
    async fn linked(&mut self, linked: bool, until: Instant) -> Instant {
        let waiting = async {
            loop {
                let (when, state, address) = self.events.recv().await.expect("the node has stopped");
                if state == linked {
                    return (when, address);
                }
            }
        };
        let (when, address) = timeout_at(until, waiting)
            .await
            .unwrap_or_else(|_| panic!("{:?}: not {linked} in time", self.id));
        self.address = address;
        when
    }

    /// What the machine's own responder would tell: `seed` was heard on `interface`, at the address `ip`.
    fn hears(&self, seed: u8, ip: &str, interface: &str) {
        let told = format!("/ip6/{ip}/tcp/14774/p2p/{}", keypair(seed).public().to_peer_id());
        self.commands.sighted(vec![told], interface.to_owned());
    }
}

/// What is listened on by default.
const ANY: [&str; 2] = ["0.0.0.0:14774", "[::]:14774"];
const IPV4: [&str; 1] = ["0.0.0.0:14774"];

/// Two hosts with no address but the link-local ones of IPv6: `fe80::1` and `fe80::2`.
fn without_addresses(lan: &Lan) {
    for host in 0..2 {
        lan.host(host, "link set eth0 addrgenmode none");
        lan.host(host, "addr flush dev eth0");
        lan.host(host, &format!("addr add fe80::{}/64 dev eth0 nodad", host + 1));
    }
}

/// Generous for a busy machine; the figures printed are those that count.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn both_linked(a: &mut Host, b: &mut Host) -> Instant {
    let deadline = soon();
    a.linked(true, deadline).await.max(b.linked(true, deadline).await)
}

fn millis(from: Instant, to: Instant) -> u128 {
    to.duration_since(from).as_millis()
}

#[tokio::test]
async fn nodes_find_each_other_at_once() {
    let Some(lan) = Lan::new(2) else { return };
    // Together, the smaller id first, the larger id first.
    let mut took = Vec::new();
    for (first, second, pause) in [(1, 2, 0), (1, 2, 1500), (2, 1, 1500)] {
        let mut a = launch(&lan, 0, first, &IPV4);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let mut b = launch(&lan, 1, second, &IPV4);
        let linked = both_linked(&mut a, &mut b).await;
        took.push(millis(b.started, linked));
    }
    eprintln!(
        "start of the second to both connected, ms (together, second larger, second smaller): {took:?}"
    );
    took.sort_unstable();
    assert!(took[1] < 800, "median of {took:?} ms");
}

#[tokio::test]
async fn a_mended_cable_is_followed() {
    let Some(lan) = Lan::new(2) else { return };
    // The cut host has the smaller id in one round, the larger in the other: only it can notice.
    for (seed_a, seed_b, cut) in [(1, 2, 6), (2, 1, 6), (1, 2, 1)] {
        let mut a = launch(&lan, 0, seed_a, &IPV4);
        let mut b = launch(&lan, 1, seed_b, &IPV4);
        both_linked(&mut a, &mut b).await;
        lan.cable(0, "down");
        tokio::time::sleep(Duration::from_secs(cut)).await;
        let mended = Instant::now();
        lan.cable(0, "up");
        if cut < 2 {
            // TCP has not noticed, and need not be disturbed.
            let quiet = Instant::now() + Duration::from_secs(2);
            assert!(timeout_at(quiet, a.events.recv()).await.is_err());
            continue;
        }
        a.linked(false, soon()).await;
        let again = both_linked(&mut a, &mut b).await;
        eprintln!(
            "cut for {cut} s, ids {seed_a}, {seed_b}: mend to both connected {} ms",
            millis(mended, again)
        );
        assert!(millis(mended, again) < 5000);
    }
}

#[tokio::test]
async fn who_came_while_the_cable_was_out_is_found() {
    let Some(lan) = Lan::new(2) else { return };
    let mut a = launch(&lan, 0, 1, &IPV4);
    tokio::time::sleep(Duration::from_millis(500)).await;
    lan.cable(0, "down");
    let mut b = launch(&lan, 1, 2, &IPV4);
    // The newcomer asks after 0, 1, 3, 7 and 15 seconds by itself: mended in between, only the other can be quick.
    tokio::time::sleep(Duration::from_millis(8000)).await;
    let mended = Instant::now();
    lan.cable(0, "up");
    let linked = both_linked(&mut a, &mut b).await;
    eprintln!("mend to a neighbour that came in between: {} ms", millis(mended, linked));
    assert!(millis(mended, linked) < 4000);
}

#[tokio::test]
async fn a_changed_address_is_followed() {
    let Some(lan) = Lan::new(2) else { return };
    let mut a = launch(&lan, 0, 1, &IPV4);
    let mut b = launch(&lan, 1, 2, &IPV4);
    both_linked(&mut a, &mut b).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let changed = Instant::now();
    lan.host(0, "addr del 10.99.0.1/24 dev eth0");
    a.linked(false, soon()).await;
    lan.host(0, "addr add 10.99.0.77/24 dev eth0");
    let again = both_linked(&mut a, &mut b).await;
    eprintln!("address change to both connected {} ms", millis(changed, again));
    assert!(millis(changed, again) < 5000);
}

#[tokio::test]
async fn an_interface_that_comes_later_is_used() {
    let Some(lan) = Lan::new(2) else { return };
    lan.host(0, "link set eth0 down");
    lan.host(0, "addr del 10.99.0.1/24 dev eth0");
    let mut a = launch(&lan, 0, 2, &IPV4);
    let mut b = launch(&lan, 1, 1, &IPV4);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let came = Instant::now();
    lan.host(0, "addr add 10.99.0.1/24 dev eth0");
    lan.host(0, "link set eth0 up");
    let linked = both_linked(&mut a, &mut b).await;
    eprintln!("interface up to both connected {} ms", millis(came, linked));
    assert!(millis(came, linked) < 5000);
}

#[tokio::test]
async fn ipv6_link_local_alone_is_enough() {
    let Some(lan) = Lan::new(2) else { return };
    without_addresses(&lan);
    let mut a = launch(&lan, 0, 1, &ANY);
    let mut b = launch(&lan, 1, 2, &ANY);
    let heard = Instant::now();
    a.hears(2, "fe80::2", "eth0");
    b.hears(1, "fe80::1", "eth0");
    let linked = both_linked(&mut a, &mut b).await;
    eprintln!("heard of to both connected over fe80: {} ms", millis(heard, linked));
    // The accepting side too tells where the connection comes from, with the zone; it alone sees another port.
    let (at_a, at_b) = ("/ip6zone/eth0/ip6/fe80::2/tcp/", "/ip6zone/eth0/ip6/fe80::1/tcp/");
    assert!(a.address.starts_with(at_a) && b.address.starts_with(at_b), "{}, {}", a.address, b.address);
    assert_ne!(a.address.ends_with("/14774"), b.address.ends_with("/14774"));
    // A probe takes the same way, to the next port; so does one that answers.
    let ways = [(a.commands.clone(), a.address.clone()), (b.commands.clone(), b.address.clone())];
    for ((commands, address), to) in ways.into_iter().zip([&mut b.events, &mut a.events]) {
        commands.try_send(Command::Datagram { address, port: 14_775, bytes: vec![7; SIZE] }).unwrap();
        let came = async { while to.recv().await.expect("it runs").2 != format!("datagram of {SIZE}") {} };
        timeout_at(soon(), came).await.expect("a datagram over fe80");
    }
}

#[tokio::test]
async fn addresses_of_other_links_and_ones_own_are_not_believed() {
    let Some(lan) = Lan::new(2) else { return };
    without_addresses(&lan);
    lan.host(0, "addr add fd00::1/64 dev eth0 nodad");
    let (tell, mut events) = mpsc::channel(16);
    let name = lan.hosts[0].clone();
    std::thread::spawn(move || {
        Lan::enter(&name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = config(1);
            config.mdns = true;
            config.listen = vec!["[::]:14774".parse().unwrap()];
            let (handle, mut events) = start(config).unwrap();
            let listens =
                |event: &Event| matches!(event, Event::Listening { address } if address.contains("fd00"));
            while !events.recv().await.as_ref().is_some_and(listens) {}
            let id = |seed| keypair(seed).public().to_peer_id();
            for (seed, address) in
                [(2, "2001:db8::9"), (2, "fd00::1"), (2, "::1"), (1, "fd00::9"), (3, "fd00::9")]
            {
                let told = format!("/ip6/{address}/tcp/14774/p2p/{}", id(seed));
                handle.sighted(vec![told], "eth0".to_owned());
            }
            while let Some(event) = events.recv().await {
                tell.send(event).await.ok();
            }
        });
    });
    let first = timeout_at(soon(), async {
        loop {
            if let Some(Event::Peer(PeerEvent::Discovered { node, addresses })) = events.recv().await {
                return (node, addresses);
            }
        }
    });
    let expected = (node_id(3), vec!["/ip6/fd00::9/tcp/14774".to_owned()]);
    assert_eq!(first.await.unwrap(), expected, "the only neighbour among them");
}

#[tokio::test]
async fn ipv4_link_local_alone_is_enough() {
    let Some(lan) = Lan::new(2) else { return };
    for host in 0..2 {
        lan.host(host, "addr flush dev eth0");
        lan.host(host, &format!("addr add 169.254.7.{}/16 dev eth0 scope link", host + 1));
    }
    let mut a = launch(&lan, 0, 1, &ANY);
    let mut b = launch(&lan, 1, 2, &ANY);
    let linked = both_linked(&mut a, &mut b).await;
    eprintln!("start to both connected over 169.254: {} ms", millis(b.started, linked));
    assert!(a.address.starts_with("/ip4/169.254.7.2/tcp/"), "{}", a.address);
}

#[tokio::test]
async fn of_two_families_the_other_one_serves_when_one_goes() {
    let Some(lan) = Lan::new(2) else { return };
    without_addresses(&lan);
    for host in 0..2 {
        lan.host(host, &format!("addr add 169.254.7.{}/16 dev eth0 scope link", host + 1));
    }
    let mut a = launch(&lan, 0, 1, &ANY);
    let mut b = launch(&lan, 1, 2, &ANY);
    both_linked(&mut a, &mut b).await;
    // All addresses are known only now.
    let told = Instant::now();
    a.hears(2, "fe80::2", "eth0");
    b.hears(1, "fe80::1", "eth0");
    tokio::time::sleep(Duration::from_millis(500)).await;
    if a.address.starts_with("/ip4") {
        lan.host(0, "addr del 169.254.7.1/16 dev eth0");
    } else {
        lan.host(0, "addr del fe80::1/64 dev eth0");
    }
    let before = a.address.clone();
    a.linked(false, soon()).await;
    let again = both_linked(&mut a, &mut b).await;
    eprintln!("{before} gone to connected at {}: {} ms", a.address, millis(told, again));
    assert_ne!(before.starts_with("/ip4"), a.address.starts_with("/ip4"));
}

#[tokio::test]
async fn two_cables_into_one_subnet_are_one_link() {
    let Some(lan) = Lan::new(2) else { return };
    for host in 0..2 {
        assert!(lan.plug(host, "eth1", &format!("q{host}")));
        lan.host(host, &format!("addr add 10.99.0.{}/24 dev eth1", host + 101));
        lan.host(host, "link set eth1 up");
    }
    let mut a = launch(&lan, 0, 1, &ANY);
    let mut b = launch(&lan, 1, 2, &ANY);
    both_linked(&mut a, &mut b).await;
    // Neither side sees it break for the second cable.
    let quiet = Instant::now() + Duration::from_secs(4);
    let event = timeout_at(quiet, a.events.recv()).await;
    assert!(event.is_err(), "{event:?}");
}

#[tokio::test]
async fn when_a_zone_vanishes_another_one_serves() {
    let Some(lan) = Lan::new(2) else { return };
    without_addresses(&lan);
    assert!(lan.plug(0, "eth1", "q0"));
    lan.host(0, "link set eth1 addrgenmode none");
    lan.host(0, "link set eth1 up");
    lan.host(0, "addr add fe80::11/64 dev eth1 nodad");
    let mut a = launch(&lan, 0, 1, &ANY);
    let mut b = launch(&lan, 1, 2, &ANY);
    a.hears(2, "fe80::2", "eth0");
    a.hears(2, "fe80::2", "eth1");
    both_linked(&mut a, &mut b).await;
    // Each zone in turn: the second has to come back before the first goes.
    let (first, second) = if a.address.contains("eth0") { ("eth0", "eth1") } else { ("eth1", "eth0") };
    let gone = Instant::now();
    lan.host(0, &format!("link del {first}"));
    a.linked(false, soon()).await;
    let again = both_linked(&mut a, &mut b).await;
    eprintln!("{first} gone to connected through {second}: {} ms", millis(gone, again));
    assert_eq!(a.address, format!("/ip6zone/{second}/ip6/fe80::2/tcp/14774"));
}

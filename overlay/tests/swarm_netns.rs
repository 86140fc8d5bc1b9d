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

use std::os::fd::AsFd;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::swarm::{Command, Commands, Config, Event, start};
use swarm_support::{config, node_id};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

fn ip(arguments: &str) -> bool {
    Process::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// A switch with hosts on cables: each host is a namespace with `eth0`.
struct Lan {
    switch: String,
    hosts: Vec<String>,
}

impl Lan {
    fn new(hosts: usize) -> Option<Lan> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ctsw{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hosts = (0..hosts).map(|host| format!("{name}h{host}")).collect();
        let lan = Lan { switch: format!("{name}s"), hosts };
        let switch = &lan.switch;
        let mut fine = ip(&format!("netns add {switch}"))
            && ip(&format!("-n {switch} link add br0 type bridge forward_delay 0 mcast_snooping 0"))
            && ip(&format!("-n {switch} link set br0 up"));
        for (number, host) in lan.hosts.iter().enumerate() {
            fine = fine
                && ip(&format!("netns add {host}"))
                && ip(&format!("-n {host} link set lo up"))
                && ip(&format!("-n {host} link add eth0 type veth peer name p{number} netns {switch}"))
                && ip(&format!("-n {switch} link set p{number} master br0 up"))
                && ip(&format!("-n {host} addr add 10.99.0.{}/24 dev eth0", number + 1))
                && ip(&format!("-n {host} link set eth0 up"));
        }
        if fine {
            return Some(lan);
        }
        let message = "needs root, `ip` and network namespaces";
        assert!(std::env::var_os("CROSSTALK_REQUIRE_ALL").is_none_or(|value| value != "1"), "{message}");
        eprintln!("SKIPPED: {message}");
        None
    }

    /// Pulls the cable of a host out of the switch, or puts it back.
    fn cable(&self, host: usize, state: &str) {
        assert!(ip(&format!("-n {} link set p{host} {state}", self.switch)));
    }

    fn host(&self, host: usize, command: &str) {
        assert!(ip(&format!("-n {} {command}", self.hosts[host])), "{command}");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            ip(&format!("netns del {name}"));
        }
    }
}

/// A node in its own namespace, thread and runtime, with the simplest core: it dials what is discovered, the
/// smaller id at once and the larger after two seconds, and redials each second.
struct Host {
    id: NodeId,
    events: mpsc::Receiver<(Instant, bool)>,
    started: Instant,
    _stop: oneshot::Sender<()>,
}

fn launch(lan: &Lan, host: usize, seed: u8, listen: &str) -> Host {
    let path = format!("/run/netns/{}", lan.hosts[host]);
    let (stop, stopped) = oneshot::channel::<()>();
    let (events, receiver) = mpsc::channel(256);
    let mut config = config(seed);
    config.mdns = true;
    config.listen = vec![listen.parse().unwrap()];
    let (started_tx, started) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(path).unwrap();
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        started_tx.send(()).unwrap();
        runtime.block_on(drive(config, node_id(seed), events, stopped));
    });
    started.recv().unwrap();
    Host { id: node_id(seed), events: receiver, started: Instant::now(), _stop: stop }
}

async fn drive(
    config: Config,
    own: NodeId,
    told: mpsc::Sender<(Instant, bool)>,
    mut stop: oneshot::Receiver<()>,
) {
    let (handle, mut events) = start(config).unwrap();
    let commands: Commands = handle.commands();
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
            Some(Event::Peer(PeerEvent::Connected { .. })) => {
                linked = true;
                told.send((now, true)).await.ok();
            }
            Some(Event::Peer(PeerEvent::Disconnected { .. })) => {
                linked = false;
                redial = now + Duration::from_secs(1);
                told.send((now, false)).await.ok();
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
    handle.shutdown().await;
}

impl Host {
    /// When the state became `linked` and is, at the latest at `until`; older changes are skipped up to there.
    async fn linked(&mut self, linked: bool, until: Instant) -> Instant {
        let waiting = async {
            loop {
                let (when, state) = self.events.recv().await.expect("the node has stopped");
                if state == linked {
                    return when;
                }
            }
        };
        timeout_at(until, waiting).await.unwrap_or_else(|_| panic!("{:?}: not {linked} in time", self.id))
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
        let mut a = launch(&lan, 0, first, "0.0.0.0:14774");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let mut b = launch(&lan, 1, second, "0.0.0.0:14774");
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
        let mut a = launch(&lan, 0, seed_a, "0.0.0.0:14774");
        let mut b = launch(&lan, 1, seed_b, "0.0.0.0:14774");
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
    let mut a = launch(&lan, 0, 1, "0.0.0.0:14774");
    tokio::time::sleep(Duration::from_millis(500)).await;
    lan.cable(0, "down");
    let mut b = launch(&lan, 1, 2, "0.0.0.0:14774");
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
    let mut a = launch(&lan, 0, 1, "0.0.0.0:14774");
    let mut b = launch(&lan, 1, 2, "0.0.0.0:14774");
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
    let mut a = launch(&lan, 0, 2, "0.0.0.0:14774");
    let mut b = launch(&lan, 1, 1, "0.0.0.0:14774");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let came = Instant::now();
    lan.host(0, "addr add 10.99.0.1/24 dev eth0");
    lan.host(0, "link set eth0 up");
    let linked = both_linked(&mut a, &mut b).await;
    eprintln!("interface up to both connected {} ms", millis(came, linked));
    assert!(millis(came, linked) < 5000);
}

#[tokio::test]
async fn ipv6_link_local_alone_does_no_harm() {
    let Some(lan) = Lan::new(2) else { return };
    for host in 0..2 {
        lan.host(host, "addr flush dev eth0 scope global");
    }
    let mut a = launch(&lan, 0, 1, "[::]:14774");
    let _b = launch(&lan, 1, 2, "[::]:14774");
    let quiet = Instant::now() + Duration::from_secs(3);
    assert!(timeout_at(quiet, a.events.recv()).await.is_err(), "fe80 can't be dialled yet");
    // A routable prefix on the same link works at once.
    for host in 0..2 {
        lan.host(host, &format!("addr add fd00::{}/64 dev eth0 nodad", host + 1));
    }
    a.linked(true, soon()).await;
}

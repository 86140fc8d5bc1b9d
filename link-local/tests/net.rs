//! Multicast DNS on real links: network namespaces on a switch, cables pulled, interfaces and addresses that come and go.
//!
//! Needs root, `ip` and network namespaces; skipped loudly without, failing when CROSSTALK_REQUIRE_ALL=1.
#![cfg(all(feature = "net", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "../../overlay/tests/swarm_support/lan.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the overlay's tests")]
mod lan;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::{Airtime, Config, Event, Peer, Presence, ServiceId};
use crosstalk_link_local::net::{self, Command, Handle};
use crosstalk_link_local::txt::Advert;
use crosstalk_overlay::time::Now;
use lan::{Lan, ip};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// A node's multicast DNS in its own namespace, thread and runtime.
struct Host {
    commands: mpsc::Sender<Do>,
    events: mpsc::Receiver<(Instant, Event)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

enum Do {
    Command(Command),
    Airtime(oneshot::Sender<Airtime>),
}

fn now() -> Now {
    let wall = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    Now { mono: wall, wall }
}

fn launch(lan: &Lan, host: usize) -> Host {
    let (namespace, name) = (lan.hosts[host].clone(), format!("h{host}"));
    let (commands, commanded) = mpsc::channel(16);
    let (told, events) = mpsc::channel(256);
    let thread = std::thread::spawn(move || {
        Lan::enter(&namespace);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seed = [u8::try_from(host).unwrap(); 32];
        runtime.block_on(async {
            let (handle, events) = net::start(Config { host: name, seed, browse: true }, now);
            serve(handle, events, commanded, told).await;
        });
    });
    Host { commands, events, thread: Some(thread) }
}

async fn serve(
    handle: Handle,
    mut events: mpsc::Receiver<Event>,
    mut commanded: mpsc::Receiver<Do>,
    told: mpsc::Sender<(Instant, Event)>,
) {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => told.send((Instant::now(), event)).await.unwrap_or_default(),
                None => return,
            },
            command = commanded.recv() => match command {
                Some(Do::Command(command)) => handle.try_send(command).unwrap(),
                Some(Do::Airtime(answer)) => answer.send(handle.asker().airtime().await.unwrap()).unwrap(),
                None => return handle.shutdown().await,
            },
        }
    }
}

impl Host {
    async fn announce(&self, nickname: &str, text: &str) {
        let advert = Advert { nick: Some(nickname.into()), msg: Some(text.into()), ..Advert::default() };
        let presence =
            Presence { wanted: Instance::compose(nickname, "box"), port: 5298, advert, picture: None };
        self.tell(Command::Announce { id: ServiceId(1), presence: Box::new(presence) }).await;
    }

    async fn tell(&self, command: Command) {
        self.commands.send(Do::Command(command)).await.unwrap_or_else(|_| panic!("the host has stopped"));
    }

    async fn airtime(&self) -> Airtime {
        let (answer, airtime) = oneshot::channel();
        self.commands.send(Do::Airtime(answer)).await.unwrap_or_else(|_| panic!("the host has stopped"));
        airtime.await.unwrap()
    }

    /// The first event from now on that `fits`, and when it came.
    async fn wait<T>(
        &mut self,
        what: &str,
        seconds: u64,
        mut fits: impl FnMut(Event) -> Option<T>,
    ) -> (Instant, T) {
        let waiting = async {
            loop {
                let (at, event) = self.events.recv().await.expect("the host has stopped");
                if let Some(found) = fits(event) {
                    return (at, found);
                }
            }
        };
        let deadline = Instant::now() + Duration::from_secs(seconds);
        timeout_at(deadline, waiting).await.unwrap_or_else(|_| panic!("not within {seconds} s: {what}"))
    }

    async fn sees(&mut self, nickname: &str, seconds: u64) -> (Instant, Peer) {
        let fits = |event| match event {
            Event::Seen(peer) if peer.advert.nick.as_deref() == Some(nickname) => Some(*peer),
            _ => None,
        };
        self.wait(&format!("{nickname} is seen"), seconds, fits).await
    }

    async fn loses(&mut self, nickname: &str, seconds: u64) -> Instant {
        let gone = |event| match event {
            Event::Gone(instance) if instance.nickname() == nickname => Some(()),
            _ => None,
        };
        self.wait(&format!("{nickname} is gone"), seconds, gone).await.0
    }

    /// Ends in order, with goodbyes.
    fn stop(mut self) -> Duration {
        let begun = Instant::now();
        let thread = self.thread.take();
        drop(self);
        thread.unwrap().join().unwrap();
        begun.elapsed()
    }
}

fn without_v4(lan: &Lan, host: usize) {
    lan.host(host, &format!("addr del 10.99.0.{}/24 dev eth0", host + 1));
}

fn without_v6(lan: &Lan, host: usize) {
    lan.host(host, "link set eth0 addrgenmode none");
    lan.host(host, "addr flush dev eth0 scope link");
}

#[tokio::test]
async fn who_announces_is_seen_and_leaves_with_a_goodbye() {
    let Some(lan) = Lan::new(2) else { return };
    let (mut a, b) = (launch(&lan, 0), launch(&lan, 1));
    let begun = Instant::now();
    b.announce("Bob", "here").await;
    let (at, peer) = a.sees("Bob", 10).await;
    eprintln!("seen after {} ms at {:?}", at.duration_since(begun).as_millis(), peer.addresses);
    assert!(peer.addresses.contains(&"10.99.0.2:5298".parse().unwrap()), "{peer:?}");
    let left = Instant::now();
    let took = b.stop();
    assert!(took < Duration::from_millis(1_500), "the end took {took:?}");
    let gone = a.loses("Bob", 5).await;
    eprintln!("gone after {} ms", gone.duration_since(left).as_millis());
    let airtime = a.airtime().await;
    assert!(airtime.heard().packets > 0, "{airtime:?}");
}

#[tokio::test]
async fn one_family_is_enough() {
    for v6 in [true, false] {
        let Some(lan) = Lan::new(2) else { return };
        for host in 0..2 {
            if v6 { without_v4(&lan, host) } else { without_v6(&lan, host) }
        }
        let (mut a, b) = (launch(&lan, 0), launch(&lan, 1));
        b.announce("Bob", "").await;
        let (_, peer) = a.sees("Bob", 10).await;
        for address in &peer.addresses {
            let zone = |address: &SocketAddr| match address {
                SocketAddr::V6(address) => address.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            assert_eq!((address.is_ipv6(), zone(address) != 0), (v6, v6), "{peer:?}");
        }
        assert!(!peer.addresses.is_empty());
    }
}

#[tokio::test]
async fn interfaces_that_come_and_addresses_that_change_are_followed() {
    let Some(lan) = Lan::new(2) else { return };
    lan.host(1, "link set eth0 down");
    let (mut a, b) = (launch(&lan, 0), launch(&lan, 1));
    b.announce("Bob", "").await;
    lan.host(1, "link set eth0 up");
    let up = Instant::now();
    let (at, _) = a.sees("Bob", 15).await;
    eprintln!("interface up to seen: {} ms", at.duration_since(up).as_millis());
    // In this order: with the first address of a network Linux removes the others.
    lan.host(1, "addr del 10.99.0.2/24 dev eth0");
    lan.host(1, "addr add 10.99.0.77/24 dev eth0");
    let new: SocketAddr = "10.99.0.77:5298".parse().unwrap();
    let moved = |event| match event {
        Event::Seen(peer) if peer.addresses.contains(&new) => Some(()),
        _ => None,
    };
    a.wait("the new address", 15, moved).await;
}

#[tokio::test]
async fn after_a_cut_cable_both_are_back() {
    let Some(lan) = Lan::new(2) else { return };
    let (mut a, mut b) = (launch(&lan, 0), launch(&lan, 1));
    a.announce("Anna", "").await;
    b.announce("Bob", "").await;
    a.sees("Bob", 10).await;
    b.sees("Anna", 10).await;
    lan.cable(0, "down");
    let cut = Instant::now();
    let gone = a.loses("Bob", 60).await;
    b.loses("Anna", 60).await;
    eprintln!("cut to gone: {} ms", gone.duration_since(cut).as_millis());
    lan.cable(0, "up");
    let mended = Instant::now();
    let (back, _) = a.sees("Bob", 20).await;
    let (seen, _) = b.sees("Anna", 20).await;
    eprintln!("mended to back: {} ms", back.max(seen).duration_since(mended).as_millis());
}

#[tokio::test]
async fn a_responder_on_the_same_machine_hears_us_and_is_heard() {
    let Some(lan) = Lan::new(1) else { return };
    let (first, mut second) = (launch(&lan, 0), launch(&lan, 0));
    first.announce("Anna", "").await;
    second.sees("Anna", 10).await;
}

#[tokio::test]
async fn an_answer_to_a_unicast_question_comes_from_port_5353() {
    let Some(lan) = Lan::new(2) else { return };
    let (mut a, b) = (launch(&lan, 0), launch(&lan, 1));
    b.announce("Bob", "").await;
    a.sees("Bob", 10).await;
    let asker = std::thread::spawn({
        let namespace = lan.hosts[0].clone();
        move || {
            Lan::enter(&namespace);
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // _presence._tcp.local PTR, as RFC 1035 §4.1 has it.
            let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            question.extend(b"\x09_presence\x04_tcp\x05local\0\0\x0c\0\x01");
            socket.send_to(&question, "10.99.0.2:5353").unwrap();
            let mut answer = [0; 9000];
            let (length, from) = socket.recv_from(&mut answer).expect("an answer");
            assert_eq!(from, "10.99.0.2:5353".parse().unwrap());
            assert_eq!(answer[..2], [0x12, 0x34], "the id of a legacy question (RFC 6762 §6.7)");
            assert!(length > question.len());
        }
    });
    asker.join().unwrap();
}

#[tokio::test]
async fn a_node_without_any_network_waits_for_one() {
    let Some(lan) = Lan::new(2) else { return };
    assert!(ip(&format!("-n {} link del eth0", lan.hosts[1])));
    let (mut a, b) = (launch(&lan, 0), launch(&lan, 1));
    b.announce("Bob", "").await;
    assert!(lan.plug(1, "wlan0", "p9"));
    lan.host(1, "link set wlan0 up");
    let (_, peer) = a.sees("Bob", 15).await;
    let local = |address: &SocketAddr| matches!(address, SocketAddr::V6(a) if Ipv6Addr::is_unicast_link_local(a.ip()));
    assert!(peer.addresses.iter().all(local), "{peer:?}");
}

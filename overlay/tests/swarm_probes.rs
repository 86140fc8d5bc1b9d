//! Liveness probes over real sockets: two cores on two swarms, joined by a wire that can be frozen, on a clock of the test.
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

use crosstalk_overlay::core::{LocalUser, Output, Overlay, PeerEvent, Restored, Setup};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::{DeviceCert, LinkStatus};
use crosstalk_overlay::swarm::{Command, Event};
use crosstalk_overlay::time::{DAY, Now, SECOND};
use swarm_support::{Node, node, node_id};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

const START: u64 = 20_000 * DAY;
/// Virtual milliseconds of a step, and what it takes: sockets have that time to pass on what was sent.
const STEP: u64 = 100;
const REAL: Duration = Duration::from_millis(10);

struct Side {
    node: Node,
    core: Overlay,
    mono: u64,
    /// Who is shown nearby: so often they came, so often they left.
    came: usize,
    left: usize,
    datagrams: usize,
}

impl Side {
    async fn new(seed: u8) -> Self {
        let setup = Setup {
            node: NodeKey::from_seed([seed; 32]),
            seed: [seed; 32],
            limits: Default::default(),
            restored: Restored::default(),
            built: START - DAY,
            publishes: false,
        };
        let now = Now { mono: SECOND, wall: START };
        let mut core = Overlay::new(setup, now);
        let (user, device) = (UserKey::from_seed([seed; 32]), DeviceKey::from_seed([seed ^ 0x80; 32]));
        let cert = DeviceCert::issue(&user, device.id(), START).unwrap().bytes().to_vec();
        let sealing = vec![SealingKey::from_seed([seed; 32], START)];
        let local = LocalUser { user: user.id(), device, cert, sealing, name: None, epoch: 1 };
        core.add_local(local, now).unwrap();
        let shown = LinkStatus { nickname: "x".into(), instance: "x@host".into(), ..LinkStatus::default() };
        core.set_link_presence(&user.id(), Some(shown), now);
        let node = node(seed).await;
        core.handle_peer(PeerEvent::ProbePort(node.probes), now);
        Self { node, core, mono: SECOND, came: 0, left: 0, datagrams: 0 }
    }

    fn now(&self) -> Now {
        Now { mono: self.mono, wall: START + self.mono }
    }

    fn tell(&mut self, event: PeerEvent) {
        self.core.handle_peer(event, self.now());
        self.perform();
    }

    /// What comes within the time of a step, then the step.
    async fn step(&mut self) {
        let listen = async {
            while let Some(event) = self.node.events.recv().await {
                match event {
                    Event::Peer(event) => self.tell(event),
                    Event::DialFailed { node, .. } => self.tell(PeerEvent::Disconnected { node }),
                    _ => {}
                }
            }
        };
        timeout(REAL, listen).await.ok();
        self.mono += STEP;
        self.core.handle_timeout(self.now());
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(output) = self.core.poll_output() {
            let command = match output {
                Output::Send { node, frame, .. } => Command::Send { node, frame },
                Output::Dial { node, addresses } => Command::Dial { node, addresses },
                Output::Close { node, reason } => Command::Close { node, reason },
                Output::Datagram { address, port, bytes } => {
                    self.datagrams += 1;
                    Command::Datagram { address, port, bytes }
                }
                Output::LinkPresence(_) => {
                    self.came += 1;
                    continue;
                }
                Output::LinkAbsence { .. } => {
                    self.left += 1;
                    continue;
                }
                _ => continue,
            };
            self.node.handle.try_send(command).unwrap();
        }
    }
}

async fn run(a: &mut Side, b: &mut Side, millis: u64) {
    for _ in 0..millis / STEP {
        tokio::join!(a.step(), b.step());
    }
}

/// A way to `node` that passes nothing on while it is frozen. Answers connections all the same, as a kernel does.
async fn wire(node: &Node, frozen: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to: u16 = node.addresses[0].rsplit('/').next().unwrap().parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let frozen = frozen.clone();
            tokio::spawn(async move {
                let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (near, far) = (near.into_split(), far.into_split());
                tokio::join!(pass(near.0, far.1, frozen.clone()), pass(far.0, near.1, frozen));
            });
        }
    });
    format!("/ip4/127.0.0.1/tcp/{port}")
}

async fn pass(
    from: tokio::net::tcp::OwnedReadHalf,
    to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) {
    let mut bytes = [0; 4096];
    while frozen.wait_for(|frozen| !frozen).await.is_ok() {
        if from.readable().await.is_err() || *frozen.borrow() {
            continue;
        }
        match from.try_read(&mut bytes) {
            Ok(count) if count > 0 => {
                let mut rest = &bytes[..count];
                while !rest.is_empty() {
                    to.writable().await.ok();
                    let Ok(written) = to.try_write(rest) else { continue };
                    rest = &rest[written..];
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

#[tokio::test]
async fn whoever_is_there_stays_shown_while_tcp_is_frozen_and_nobody_else() {
    let (mut a, mut b) = (Side::new(1).await, Side::new(2).await);
    let (freeze, frozen) = watch::channel(false);
    let (to_a, to_b) = (wire(&a.node, frozen.clone()).await, wire(&b.node, frozen).await);
    a.tell(PeerEvent::Discovered { node: node_id(2), addresses: vec![to_b] });
    b.tell(PeerEvent::Discovered { node: node_id(1), addresses: vec![to_a] });
    for _ in 0..200 {
        run(&mut a, &mut b, SECOND).await;
        if a.came > 0 && b.came > 0 {
            break;
        }
    }
    assert_eq!((a.left, b.left, a.datagrams, b.datagrams), (0, 0, 0, 0), "a good link carries none");
    freeze.send(true).unwrap();
    run(&mut a, &mut b, 100 * SECOND).await;
    assert_eq!((a.left, b.left), (0, 0), "shown as gone");
    assert!(a.core.peers().is_empty(), "the frozen connection was given up");
    assert!(a.datagrams > 0 && b.datagrams > 0);
    b.node.handle.shutdown().await;
    for _ in 0..300 {
        a.step().await;
    }
    assert_eq!(a.left, 1, "still shown 30 s after it left");
}

//! Revocations with the real core on real swarms over loopback; and what gossipsub costs beside the streams (`figures`).
#![cfg(all(feature = "swarm", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod swarm_support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::keys::{AuthorityKey, DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::swarm::{Command, Event, Handle};
use crosstalk_overlay::time::{DAY, Now};
use swarm_support::lan::Lan;
use swarm_support::{PATIENCE, config, node_id, node_with};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

type Act = Box<dyn FnOnce(&mut Overlay, Now) + Send>;

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn device(user: u8, node: u8) -> DeviceKey {
    let mut seed = [user; 32];
    seed[1] = node;
    DeviceKey::from_seed(seed)
}

/// A node with a core, as the program has it, but without a disk. Its user has the same seed.
struct Full {
    id: NodeId,
    addresses: Vec<String>,
    acts: mpsc::Sender<Act>,
}

impl Full {
    async fn new(seed: u8, users: &[u8]) -> Full {
        let node = node_with(seed, config(seed)).await;
        let (acts, orders) = mpsc::channel(16);
        let (id, addresses) = (node.id, node.addresses.clone());
        let core = core(seed, users);
        tokio::spawn(run(core, node.handle, node.events, orders));
        Full { id, addresses, acts }
    }

    async fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Overlay, Now) -> T + Send + 'static) -> T {
        let (answer, answered) = oneshot::channel();
        let act: Act = Box::new(move |core, now| drop(answer.send(act(core, now))));
        assert!(self.acts.send(act).await.is_ok());
        answered.await.unwrap()
    }

    async fn discovers(&self, other: &Full) {
        let (node, addresses) = (other.id, other.addresses.clone());
        self.with(move |core, now| core.handle_peer(PeerEvent::Discovered { node, addresses }, now)).await;
    }

    async fn revoked(&self) -> usize {
        self.with(|core, _| core.revocations().len()).await
    }

    /// Until a condition on the core holds.
    async fn until(&self, what: &str, test: impl Fn(&Overlay) -> bool + Clone + Send + 'static) {
        let started = Instant::now();
        while !{
            let test = test.clone();
            self.with(move |core, _| test(core)).await
        } {
            assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn core(seed: u8, users: &[u8]) -> Overlay {
    let setup = Setup {
        node: NodeKey::from_seed([seed; 32]),
        seed: [seed; 32],
        limits: Limits::default(),
        restored: Restored::default(),
        built: wall() - 20 * DAY,
        publishes: false,
    };
    let now = Now { mono: 0, wall: wall() };
    let mut core = Overlay::new(setup, now);
    for user in users {
        let (key, device) = (UserKey::from_seed([*user; 32]), device(*user, seed));
        let cert = DeviceCert::issue(&key, device.id(), now.wall).unwrap().bytes().to_vec();
        let sealing = vec![SealingKey::from_seed([*user ^ seed; 32], now.wall)];
        let local = LocalUser { user: key.id(), device, cert, sealing, name: None, epoch: 1 };
        core.add_local(local, now).unwrap();
        let status = LinkStatus { nickname: format!("user {user}"), ..LinkStatus::default() };
        core.set_link_presence(&key.id(), Some(status), now);
    }
    core
}

async fn run(
    mut core: Overlay,
    handle: Handle,
    mut events: mpsc::Receiver<Event>,
    mut orders: mpsc::Receiver<Act>,
) {
    let started = Instant::now();
    let now = || Now { mono: started.elapsed().as_millis() as u64, wall: wall() };
    loop {
        while let Some(output) = core.poll_output() {
            let command = match output {
                Output::Send { node, frame, .. } => Command::Send { node, frame },
                Output::Dial { node, addresses } => Command::Dial { node, addresses },
                Output::Close { node, reason } => Command::Close { node, reason },
                Output::Publish { news } => Command::Publish { news },
                Output::Judged { node, id, verdict } => Command::Judged { node, id, verdict },
                _ => continue,
            };
            let mut command = Some(command);
            while let Some(next) = command.take() {
                if let Err(crosstalk_overlay::swarm::SendError::Full(back)) = handle.try_send(next) {
                    command = Some(back);
                    tokio::task::yield_now().await;
                }
            }
        }
        let due = core.poll_timeout().map_or(u64::MAX >> 1, |(when, _)| when);
        let wait = Duration::from_millis(due.saturating_sub(now().mono).min(3_600_000));
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Peer(event)) => core.handle_peer(event, now()),
                Some(Event::DialFailed { node, .. }) => core.handle_peer(PeerEvent::Disconnected { node }, now()),
                Some(_) => {}
                None => return,
            },
            act = orders.recv() => match act {
                Some(act) => act(&mut core, now()),
                None => return,
            },
            () = sleep(wait) => core.handle_timeout(now()),
        }
    }
}

fn void(user: u8, device: DeviceId) -> Vec<u8> {
    let key = UserKey::from_seed([user; 32]);
    let (what, by) = (Revoked::Device(key.id(), device), RevokedBy::User);
    Verified::sign(Revocation { what, by, since: wall() }, &key, None).unwrap().bytes().to_vec()
}

fn school() -> AuthorityKey {
    AuthorityKey::from_seed([200; 32])
}

fn name_void(number: usize) -> Vec<u8> {
    let nobody = UserId::from_bytes(*node_id(200).as_bytes());
    let what = Revoked::Name(format!("pupil{number}@school.example"), nobody);
    let revocation = Revocation { what, by: RevokedBy::Authority(school().id()), since: wall() };
    Verified::sign(revocation, &school(), None).unwrap().bytes().to_vec()
}

/// Five nodes of which each knows the next only; the user of the first is also on the last.
#[tokio::test]
async fn a_lost_device_is_void_on_the_whole_link_within_seconds() {
    let mut nodes = Vec::new();
    for seed in 1..=5u8 {
        let users = if seed == 5 { vec![5, 1] } else { vec![seed] };
        nodes.push(Full::new(seed, &users).await);
    }
    for pair in nodes.windows(2) {
        pair[0].discovers(&pair[1]).await;
        pair[1].discovers(&pair[0]).await;
    }
    let lost = UserKey::from_seed([1; 32]).id();
    nodes[3].until("the last is live", move |core| core.reach(&lost) == Reach::Live).await;
    let farthest = UserKey::from_seed([5; 32]).id();
    nodes[0].until("all are known", move |core| core.reach(&farthest) != Reach::Unknown).await;
    // Who subscribes to what is told with the first heartbeat at the latest.
    sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    let revocation = void(1, device(1, 5).id());
    nodes[0].with(move |core, now| core.add_revocation(&revocation, now)).await.unwrap();
    for (index, node) in nodes.iter().enumerate() {
        node.until("void", |core| core.revocations().len() == 1).await;
        eprintln!("node {index} after {:?}", started.elapsed());
    }
    nodes[3].until("the last is not live", move |core| core.reach(&lost) != Reach::Live).await;
    // One who comes later learns it from whoever it meets.
    let late = Full::new(6, &[6]).await;
    late.discovers(&nodes[2]).await;
    late.until("learnt at the meeting", |core| core.revocations().len() == 1).await;
    // A forged one goes nowhere.
    let mut forged = void(2, device(2, 9).id());
    *forged.last_mut().unwrap() ^= 1;
    assert!(nodes[1].with(move |core, now| core.add_revocation(&forged, now)).await.is_err());
    assert_eq!(nodes[2].revoked().await, 1);
}

/// Bytes and packets on the loopback interface of this thread's namespace.
fn carried() -> (u64, u64) {
    let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = all.lines().find(|line| line.trim_start().starts_with("lo:")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

/// How often threads of this process have gone to sleep.
fn wakes() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let status = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
    let switches = status.filter_map(|status| {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    switches.sum()
}

struct Meter {
    bytes: u64,
    packets: u64,
    wakes: u64,
}

impl Meter {
    async fn over(span: Duration) -> Meter {
        let (before, slept) = (carried(), wakes());
        sleep(span).await;
        let (after, woken) = (carried(), wakes());
        Meter { bytes: after.0 - before.0, packets: after.1 - before.1, wakes: woken - slept }
    }
}

const STATEMENT: Duration = Duration::from_secs(20);

async fn measure(count: u8) {
    let mut nodes = Vec::new();
    for seed in 1..=count {
        nodes.push(Full::new(seed, &[seed]).await);
    }
    for one in &nodes {
        for other in &nodes {
            if one.id != other.id {
                one.discovers(other).await;
            }
        }
    }
    let start = Meter::over(Duration::from_secs(30)).await;
    sleep(Duration::from_secs(100)).await;
    let idle = Meter::over(Duration::from_secs(60)).await;
    eprintln!(
        "{count:3} nodes: first 30 s {} bytes, {} packets; idle, a minute: {} bytes, {} packets, {} wake-ups of the process",
        start.bytes, start.packets, idle.bytes, idle.packets, idle.wakes
    );
    let user: UserId = UserKey::from_seed([1; 32]).id();
    // The heartbeats of the core in so long a time, which is a multiple of their period.
    let quiet = |meter: &Meter| {
        (meter.bytes.saturating_sub(idle.bytes / 3), meter.packets.saturating_sub(idle.packets / 3))
    };
    for node in &nodes {
        let school = school().id();
        node.with(move |core, now| core.pin_authority("school.example", school, Provenance::Enrolled, now))
            .await;
    }
    // The first is told to neighbours that are found for it then.
    for round in 0..3 {
        let revocation = name_void(round);
        let (started, size) = (Instant::now(), revocation.len());
        nodes[0].with(move |core, now| core.add_revocation(&revocation, now)).await.unwrap();
        let heard = async {
            for node in &nodes {
                node.until("void", move |core| core.revocations().len() > round).await;
            }
            started.elapsed()
        };
        let (meter, heard) = tokio::join!(Meter::over(STATEMENT), heard);
        eprintln!(
            "    revocation of a name as news ({size} bytes): {:?}, all after {heard:?}",
            quiet(&meter)
        );
        sleep(Duration::from_secs(if round == 1 { 30 } else { 1 })).await;
    }
    sleep(Duration::from_secs(30)).await;
    let key = SealingKey::from_seed([99; 32], wall());
    nodes[0].with(move |core, now| core.add_sealing_key(&user, key, now)).await;
    eprintln!("    new record over streams: {:?}", quiet(&Meter::over(STATEMENT).await));
    let status = LinkStatus { nickname: "user 1".into(), status: "away".into(), ..LinkStatus::default() };
    nodes[0].with(move |core, now| core.set_link_presence(&user, Some(status), now)).await;
    eprintln!("    link presence over streams: {:?}", quiet(&Meter::over(STATEMENT).await));
}

/// In a network namespace, and best in a process, of its own: for about four minutes.
fn figures(count: u8) {
    let Some(lan) = Lan::new(1) else { return };
    let name = lan.hosts[0].clone();
    let measured = std::thread::spawn(move || {
        Lan::enter(&name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(measure(count));
    });
    measured.join().unwrap();
}

#[test]
#[ignore = "figures of ARCHITECTURE.md: measures for minutes, run it alone"]
fn figures_of_2() {
    figures(2);
}

#[test]
#[ignore = "figures of ARCHITECTURE.md: measures for minutes, run it alone"]
fn figures_of_12() {
    figures(12);
}

#[test]
#[ignore = "figures of ARCHITECTURE.md: measures for minutes, run it alone"]
fn figures_of_50() {
    figures(50);
}

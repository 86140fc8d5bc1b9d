//! The engine among many: all see all, and what that costs the link, against libpurple's figures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures")]

mod lan;

use crosstalk_link_local::mdns::{Count, KINDS, P2pService};
use lan::Lan;

/// Bytes on the wire of 160 s from the start, and bytes a second of 120 s after that.
struct Cost {
    seen: u64,
    start: Count,
    idle: Count,
}

fn crowd(hosts: usize, is_kin: bool) -> Cost {
    let mut lan = Lan::new(1);
    lan.vouches = is_kin;
    for number in 0..hosts {
        let host = lan.add_user(is_kin);
        let node = P2pService {
            peer_id: format!("12D3KooWExampleExampleExampleExampleExampleExample{number:03}"),
            tcp_port: 14774,
        };
        lan.with(host, |mdns, now| mdns.set_p2p(Some(node), now));
    }
    let began = lan.now;
    let seen = lan.run_till(50, 60_000, Lan::all_see_all).expect("all see all");
    lan.run_until(began + 160_000);
    let start = lan.wire();
    lan.run_until(began + 280_000);
    let idle = lan.wire();
    let idle = Count { packets: idle.packets - start.packets, bytes: idle.bytes - start.bytes };
    assert!(lan.all_see_all());
    for kind in KINDS {
        let all: Vec<Count> = lan.hosts.iter().map(|host| host.mdns.airtime().sent(kind)).collect();
        println!(
            "  {kind:?}: {} packets, {} bytes",
            all.iter().map(|count| count.packets).sum::<u64>(),
            all.iter().map(|count| count.bytes).sum::<u64>()
        );
    }
    println!(
        "{hosts} hosts, same kind {is_kin}: all see all after {seen} ms; first 160 s {} packets {} bytes; then {} bytes/s",
        start.packets,
        start.bytes,
        idle.bytes / 120
    );
    Cost { seen, start, idle }
}

#[test]
fn ten_25_and_50_nodes_start_at_once() {
    // libpurple: 10 hosts 0.27 MB and 718 bytes/s, 25 hosts 1.97 MB and 2,374 bytes/s, 50 hosts 8.7 MB and 9,929
    // bytes/s. A fifth of it at 25, a tenth at 50, and half of that for us: libp2p-mdns over IPv4 comes beside.
    for (hosts, start, idle) in
        [(10, 270_000 / 5, 718 / 5), (25, 1_970_000 / 10, 2_374 / 10), (50, 8_700_000 / 20, 9_929 / 20)]
    {
        let cost = crowd(hosts, true);
        assert!(cost.seen <= 10_000, "{}", cost.seen);
        assert!(cost.start.bytes <= start, "{hosts}: {} of {start}", cost.start.bytes);
        assert!(cost.idle.bytes / 120 <= idle, "{hosts}: {} of {idle}", cost.idle.bytes / 120);
    }
}

#[test]
fn what_bonjour_peers_cost_grows_with_their_number_only() {
    let per_pair = |hosts: u64| crowd(hosts as usize, false).idle.bytes / 120 * 1_000 / (hosts * (hosts - 1));
    let (few, many) = (per_pair(5), per_pair(20));
    println!("direct queries, mB/s for each pair: {few} among 5, {many} among 20");
    assert!(many <= few + few / 4 && many <= 45_000);
}

#[test]
fn a_crowd_on_a_bad_link_finds_itself() {
    for (loss, limit) in [(10, 20_000), (30, 90_000)] {
        let mut lan = Lan::new(5);
        lan.loss = loss;
        lan.vouches = true;
        (0..25).for_each(|_| {
            lan.add_user(true);
        });
        let seen = lan.run_till(100, 300_000, Lan::all_see_all);
        println!("25 nodes, {loss} % loss: all see all after {seen:?} ms, {} bytes", lan.wire().bytes);
        assert!(seen.is_some_and(|took| took <= limit));
    }
}

/// Kibibytes of this process, without pages of files.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[test]
fn two_hundred_nodes_on_one_link() {
    let mut lan = Lan::new(2);
    (lan.vouches, lan.keeps) = (true, false);
    let before = memory();
    (0..200).for_each(|_| {
        lan.add_user(true);
    });
    let began = lan.now;
    let seen = lan.run_till(250, 120_000, Lan::all_see_all);
    let after = lan.wire();
    lan.run_until(began + 160_000);
    let start = lan.wire();
    lan.run_until(began + 220_000);
    let idle = lan.wire();
    println!(
        "200 nodes: all see all after {seen:?} ms ({} bytes), 160 s {} packets {} bytes, then {} bytes/s",
        after.bytes,
        start.packets,
        start.bytes,
        (idle.bytes - start.bytes) / 60
    );
    let each = memory().saturating_sub(before) / 200;
    println!("200 nodes: {each} KiB for each with 199 peers");
    assert!(each <= 1_536);
    assert!(seen.is_some_and(|took| took <= 30_000));
    assert!(start.bytes <= 6_000_000 && (idle.bytes - start.bytes) / 60 <= 6_000);
    for host in &lan.hosts {
        let minute = host.mdns.airtime().last_minute(lan.now);
        assert!(minute.multicast.packets + minute.unicast.packets <= 60, "{minute:?}");
    }
}

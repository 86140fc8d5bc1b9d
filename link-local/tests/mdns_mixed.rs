//! Bonjour programs among many nodes: what it costs to know whether they are still there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures")]

mod lan;

use crosstalk_link_local::mdns::Count;
use lan::{Lan, instance};

const MINUTE: u64 = 60_000;

/// Nodes, and after them Bonjour programs, that have found each other.
fn mixed(seed: u8, nodes: usize, programs: usize, loss: u64) -> Lan {
    let mut lan = Lan::new(seed);
    lan.vouches = true;
    (0..nodes + programs).for_each(|_| {
        lan.add_user(false);
    });
    lan.plain = (nodes..nodes + programs).collect();
    lan.run_till(50, 300_000, Lan::all_see_all).expect("all see all");
    lan.loss = loss;
    lan.run_till(1_000, 3 * MINUTE, |_| false);
    lan
}

fn grown(now: Count, before: Count) -> Count {
    Count { packets: now.packets - before.packets, bytes: now.bytes - before.bytes }
}

/// What is sent in ten idle minutes, per minute: by multicast and by unicast.
fn idle(lan: &mut Lan) -> [u64; 2] {
    let (multicast, unicast) = (lan.multicast, lan.unicast);
    lan.run_till(1_000, 10 * MINUTE, |_| false);
    [grown(lan.multicast, multicast).bytes / 10, grown(lan.unicast, unicast).bytes / 10]
}

/// When the last node has noticed: of these hosts none is seen, or all are.
fn noticed(lan: &mut Lan, nodes: usize, who: usize, is_seen: bool, limit: u64) -> Option<u64> {
    let name = instance(&format!("user{who}@h{who}"));
    lan.run_till(50, limit, |lan| {
        lan.hosts[..nodes].iter().all(|host| host.seen.contains_key(&name) == is_seen)
    })
}

#[test]
fn what_a_bonjour_program_costs_does_not_grow_with_the_nodes() {
    let cost = [15, 45].map(|nodes| {
        let [multicast, unicast] = idle(&mut mixed(21, nodes, 5, 0));
        println!("5 Bonjour programs, {nodes} nodes: {multicast} B/min by multicast, {unicast} by unicast");
        multicast + unicast
    });
    assert!(cost[1] <= cost[0] + cost[0] / 4, "{cost:?} bytes a minute");
    let few = idle(&mut mixed(22, 6, 5, 0));
    println!("5 Bonjour programs, 6 nodes: {few:?} B/min by multicast and unicast");
    assert!(few[0] < few[1] / 10, "among few it is asked directly");
}

#[test]
fn a_bonjour_program_that_vanishes_is_missed_by_many_nodes_in_time() {
    for (loss, limit) in [(0, 30_000), (10, 30_000), (30, 90_000)] {
        let nodes = 30;
        let mut lan = mixed(23, nodes, 4, loss);
        let before = lan.wire();
        lan.hosts[nodes].part = 1;
        let gone = noticed(&mut lan, nodes, nodes, false, 2 * limit);
        lan.run_till(1_000, 3 * MINUTE, |_| false);
        let searched = grown(lan.wire(), before);
        lan.hosts[nodes].part = 0;
        let back = noticed(&mut lan, nodes, nodes, true, 60_000);
        println!(
            "{loss} % lost: gone after {gone:?} ms, back after {back:?} ms, {searched:?} within 3 minutes"
        );
        assert!(gone.is_some_and(|took| took <= limit), "{gone:?}");
        assert!(back.is_some_and(|took| took <= if loss == 0 { 5_000 } else { 30_000 }), "{back:?}");
    }
}

#[test]
fn no_bonjour_program_is_missed_by_many_nodes_because_of_loss() {
    for (loss, percent) in [(10, 1), (30, 5)] {
        let (nodes, programs) = (20, 5);
        let mut lan = mixed(24, nodes, programs, loss);
        let (mut missed, mut all) = (0, 0);
        for _ in 0..30 * 60 {
            lan.run_till(1_000, 1_000, |_| false);
            let seen = |host: &lan::Host| {
                (nodes..nodes + programs)
                    .filter(|who| host.seen.contains_key(&instance(&format!("user{who}@h{who}"))))
                    .count()
            };
            missed += nodes * programs - lan.hosts[..nodes].iter().map(seen).sum::<usize>();
            all += nodes * programs;
        }
        println!("{loss} % lost: {missed} of {all} neighbour-seconds missed");
        assert!(missed * 100 < all * percent);
    }
}

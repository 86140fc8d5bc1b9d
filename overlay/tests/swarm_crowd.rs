//! Many real swarms in one process, over a network in its memory, each with the overlay core: found, kept and
//! delivered while half of them are replaced. `CROWD=200` sets how many (24 if it does not), `--nocapture` shows the figures.
#![cfg(feature = "swarm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod crowd_support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crosstalk_overlay::core::{Limits, Outcome, Outgoing};
use crosstalk_overlay::dht::Trace;
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::MessageId;
use crosstalk_overlay::record::{Says, Side};
use crosstalk_overlay::swarm::DhtConfig;
use crowd_support::crowd::{Crowd, memory, until};
use crowd_support::member::*;
use crowd_support::pump::{Store, stanza};

/// Messages of each writer, the last of which is a request to be let see somebody's presence.
const LETTERS: u64 = 3;

/// An hour counts as half a minute: half of the nodes are replaced within three.
fn hurried() -> Ways {
    let ways = Ways::default();
    let hour = Duration::from_secs(30);
    let dht = DhtConfig { replicate: hour, refresh: hour, ..ways.dht };
    Ways { dht, limits: Limits { repair: 30_000, ..ways.limits }, ..ways }
}

/// What look-ups have shown.
#[derive(Default)]
struct Tally {
    found: usize,
    all: usize,
    hops: BTreeMap<u32, usize>,
    asked: u32,
    millis: Vec<u64>,
}

impl Tally {
    fn note(&mut self, (found, trace): (bool, Trace)) {
        self.all += 1;
        self.found += usize::from(found);
        *self.hops.entry(trace.hops().unwrap_or_default()).or_default() += 1;
        self.asked += trace.asked;
        self.millis.push(trace.millis);
    }

    fn show(&mut self, what: &str) {
        self.millis.sort_unstable();
        println!(
            "{what}: {} of {} found; hops (0: held here) {:?}; {:.1} nodes asked; median {} ms, slowest {} ms",
            self.found,
            self.all,
            self.hops,
            f64::from(self.asked) / self.all as f64,
            self.millis[self.millis.len() / 2],
            self.millis.last().unwrap(),
        );
        assert!(self.found * 100 >= self.all * 99, "{what}");
    }
}

fn letter(from: u32, number: u64) -> MessageId {
    MessageId::from_bytes((u128::from(from) << 64 | u128::from(number)).to_be_bytes())
}

/// Writes to somebody, and asks to see them.
async fn write(crowd: &Crowd, from: u32, to: u32) {
    let write = move |host: &mut Host, now| {
        let (sender, recipient) = (user_of(from), user_of(to));
        for number in 0..LETTERS {
            let request =
                host.core.sign_contact(&sender, &recipient, Side::Watcher, Says::Request, now).unwrap();
            let content = match number + 1 < LETTERS {
                true => stanza(number),
                false => Content::Contact(request.bytes().to_vec()),
            };
            let id = letter(from, number);
            host.core
                .send(Outgoing { id, from: sender, to: recipient, content, expires: None }, now)
                .unwrap();
        }
    };
    crowd.members[&from].with(write).await;
}

async fn has_got(crowd: &Crowd, who: u32, from: u32) -> Vec<MessageId> {
    let sender = user_of(from);
    let got = move |host: &mut Host, _| {
        let inbox = host.store.inbox.iter().filter(|(from, ..)| *from == sender);
        inbox.map(|(_, _, message, _)| *message).collect()
    };
    crowd.members[&who].with(got).await
}

#[tokio::test]
async fn half_of_the_nodes_are_replaced_and_everything_is_found_and_arrives() {
    let size: u32 = std::env::var("CROWD").map_or(24, |size| size.parse().unwrap());
    let (empty, start) = (memory(), Instant::now());
    let mut crowd = Crowd::settled(size, hurried()).await;
    let (sent, streams) = crowd.traffic();
    println!(
        "{size} nodes are in after {:.0} s: each sent {} kB, had {} ends of connections, has {} kB of memory",
        start.elapsed().as_secs_f64(),
        sent / 1_000 / u64::from(size),
        streams / u64::from(size),
        (memory() - empty) / u64::from(size),
    );
    let mut calm = Tally::default();
    for asker in 0..size {
        calm.note(crowd.look_up(asker, (asker * 7 + 3) % size).await);
    }
    calm.show("before anybody goes");

    // A quarter writes to another quarter, which is away by then; the other half is to be replaced.
    let writers: Vec<u32> = (0..size).step_by(4).collect();
    let mut away = BTreeMap::new();
    for writer in &writers {
        away.insert(writer + 1, crowd.leave(writer + 1, true).await);
        write(&crowd, *writer, writer + 1).await;
    }
    let deposited = until("everything waits in mailboxes", Duration::from_secs(120), async || {
        for writer in &writers {
            if (crowd.items_for(writer + 1).await as u64) < LETTERS {
                return false;
            }
        }
        true
    });
    println!(
        "{} items in mailboxes after {:.0} s",
        writers.len() as u64 * LETTERS,
        deposited.await.as_secs_f64()
    );

    // Half of the nodes are replaced for good.
    let mut storm = Tally::default();
    let (before, begin) = (crowd.traffic().0, Instant::now());
    let waves = 10;
    for wave in 0..waves {
        for old in (0..size).filter(|old| old % 4 >= 2 && old / 4 % waves == wave) {
            crowd.leave(old, old % 4 == 2).await;
            crowd.join(size + old, Store::default());
        }
        for _ in 0..10 {
            let (asker, whose) = (crowd.anybody(), crowd.roll(size as usize) as u32);
            storm.note(crowd.look_up(asker, whose).await);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (spent, there) = (begin.elapsed(), crowd.members.len() as u64);
    let rate = crowd.traffic().0.saturating_sub(before) as f64 / there as f64 / spent.as_secs_f64();
    println!("half of the nodes were replaced within {:.0} s; each sent {rate:.0} B/s", spent.as_secs_f64());
    storm.show("meanwhile");

    for writer in &writers {
        away.insert(*writer, crowd.leave(*writer, true).await);
    }
    // Recipients come back first, and find what is left of their mail; then the senders, and nothing is missing.
    for (who, store) in std::mem::take(&mut away) {
        if writers.contains(&who) {
            away.insert(who, store);
        } else {
            crowd.join(who, store);
        }
    }
    crowd.until_in(1).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let mut early = 0;
    for writer in &writers {
        early += has_got(&crowd, writer + 1, *writer).await.len();
    }
    println!("{early} of {} arrived while their senders were away", writers.len() as u64 * LETTERS);
    assert!(early as u64 * 100 >= writers.len() as u64 * LETTERS * 90, "mailboxes were kept up");
    for (who, store) in away {
        crowd.join(who, store);
    }
    let took = until("all is delivered", Duration::from_secs(180), async || {
        for writer in &writers {
            let settled = crowd.members[writer].with(|host, _| host.store.outbox.len()).await;
            if settled > 0 || has_got(&crowd, writer + 1, *writer).await.len() < LETTERS as usize {
                return false;
            }
        }
        true
    });
    println!("all delivered {:.0} s after everybody is back", took.await.as_secs_f64());
    for writer in &writers {
        let expected: Vec<MessageId> = (0..LETTERS).map(|number| letter(*writer, number)).collect();
        assert_eq!(has_got(&crowd, writer + 1, *writer).await, expected, "once, in order");
        let settled =
            crowd.members[writer].with(|host, _| host.settled.values().copied().collect::<Vec<_>>());
        assert!(settled.await.iter().all(|outcome| *outcome == Outcome::Delivered));
    }
    let there = crowd.members.len() as u64;
    println!(
        "at the end each of {there} has {} kB; {:.0} s in all",
        (memory() - empty) / there,
        start.elapsed().as_secs_f64()
    );
}

/// For `simulations/bench/idle-node`: this many real swarms that a program outside of the process can join, until its input
/// ends.
#[tokio::test]
#[ignore = "runs until its input ends"]
async fn stand_by() {
    let size: u32 = std::env::var("CROWD").map_or(200, |size| size.parse().unwrap());
    let mut ways = Ways::default();
    // The network of the program outside.
    ways.dht.networks.public.push(("10.80.0.0".parse().unwrap(), 16));
    let mut crowd = Crowd::new(ways);
    crowd.air.open();
    for number in 0..size {
        crowd.join(number, Store::default());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    crowd.until_in(1).await;
    println!("ready {}", (0..3).map(way_to).collect::<Vec<_>>().join(" "));
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
}

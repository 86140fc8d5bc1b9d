//! Many real swarms in one process, over a network in its memory, each with the overlay core: found, kept and
//! delivered while half of them are replaced. `CROWD` sets how many (24 if it does not; `simulations/test crowd`: 200),
//! `--nocapture` shows the figures.
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

use std::cell::Cell;
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
use futures::future::join_all;

/// Messages of each writer, the last of which is a request to be let see somebody's presence.
const LETTERS: u64 = 3;
/// Look-ups at the same time, and after each tenth of the replacement.
const AT_A_TIME: usize = 10;
const LOOK_UPS: usize = 20;

/// Half of the nodes are replaced in so many parts, within so many hours.
const WAVES: u32 = 10;
const HOURS: u32 = 3;

/// An hour counts as half a minute; as a whole one among 200, who share two cores.
fn hour(size: u32) -> Duration {
    Duration::from_millis(u64::from(size) * 300).max(Duration::from_secs(30))
}

fn hurried(hour: Duration) -> Ways {
    let ways = Ways::default();
    let dht = DhtConfig { replicate: hour, refresh: hour, ..ways.dht };
    let repair = u64::try_from(hour.as_millis()).unwrap();
    Ways { dht, limits: Limits { repair, ..ways.limits }, ..ways }
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
    /// Who looks for whom, all at once.
    async fn note_all(&mut self, crowd: &Crowd, pairs: &[(u32, u32)]) {
        let all = join_all(pairs.iter().map(|(asker, whose)| crowd.look_up(*asker, *whose))).await;
        for ((asker, whose), (found, trace)) in pairs.iter().zip(all) {
            if !found {
                println!("{asker} did not find {whose}: {trace:?}");
            }
            self.note((found, trace));
        }
    }

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

/// Letters that have not arrived, and those of which their senders do not know it.
async fn lacking(crowd: &Crowd, writers: &[u32]) -> (usize, usize) {
    let (mut absent, mut unsettled) = (0, 0);
    for writer in writers {
        absent += LETTERS as usize - has_got(crowd, writer + 1, *writer).await.len();
        unsettled += crowd.members[writer].with(|host, _| host.store.outbox.len()).await;
    }
    (absent, unsettled)
}

#[tokio::test]
async fn half_of_the_nodes_are_replaced_and_everything_is_found_and_arrives() {
    let size: u32 = std::env::var("CROWD").map_or(24, |size| size.parse().unwrap());
    let (empty, start) = (memory(), Instant::now());
    let hour = hour(size);
    let mut crowd = Crowd::settled(size, hurried(hour)).await;
    let (sent, streams) = crowd.traffic();
    println!(
        "{size} nodes are in after {:.0} s: each sent {} kB, had {} ends of connections, has {} kB of memory",
        start.elapsed().as_secs_f64(),
        sent / 1_000 / u64::from(size),
        streams / u64::from(size),
        (memory() - empty) / u64::from(size),
    );
    let mut calm = Tally::default();
    let pairs: Vec<(u32, u32)> = (0..size).map(|asker| (asker, (asker * 7 + 3) % size)).collect();
    for pairs in pairs.chunks(AT_A_TIME) {
        calm.note_all(&crowd, pairs).await;
    }
    calm.show("before anybody goes");

    // A quarter writes to another quarter, which is away by then; the other half is to be replaced. Whoever is not found at
    // once is looked for again two minutes later.
    let writers: Vec<u32> = (0..size).step_by(4).collect();
    let recipients: Vec<u32> = writers.iter().map(|writer| writer + 1).collect();
    let mut away = crowd.leave_all(&recipients, |_| true).await;
    for writer in &writers {
        write(&crowd, *writer, writer + 1).await;
    }
    let deposited = until("everything waits in mailboxes", Duration::from_secs(300), async || {
        let items = crowd.items().await;
        let waits = |writer: &u32| items.get(&user_of(writer + 1).as_bytes()[..]).map_or(0, BTreeMap::len);
        writers.iter().all(|writer| waits(writer) as u64 >= LETTERS)
    });
    println!("after {:.0} s there are {}", deposited.await.as_secs_f64(), crowd.copies().await);

    // Half of the nodes are replaced for good.
    let mut storm = Tally::default();
    let (before, begin) = (crowd.traffic().0, Instant::now());
    for wave in 0..WAVES {
        let next = Instant::now() + hour * HOURS / WAVES;
        let old: Vec<u32> = (0..size).filter(|old| old % 4 >= 2 && old / 4 % WAVES == wave).collect();
        crowd.leave_all(&old, |old| old % 4 == 2).await;
        for old in old {
            crowd.join(size + old, Store::default());
        }
        let mut pairs = Vec::new();
        for _ in 0..LOOK_UPS {
            pairs.push((crowd.somebody_in().await, crowd.roll(size as usize) as u32));
        }
        for pairs in pairs.chunks(AT_A_TIME) {
            storm.note_all(&crowd, pairs).await;
        }
        tokio::time::sleep_until(next.into()).await;
    }
    let (spent, there) = (begin.elapsed(), crowd.members.len() as u64);
    let rate = crowd.traffic().0.saturating_sub(before) as f64 / there as f64 / spent.as_secs_f64();
    println!("half of the nodes were replaced within {:.0} s; each sent {rate:.0} B/s", spent.as_secs_f64());
    storm.show("meanwhile");
    println!("there are {}", crowd.copies().await);

    away.extend(crowd.leave_all(&writers, |_| true).await);
    println!("when the senders have gone there are {}", crowd.copies().await);
    // Recipients come back first, and find what is left of their mail; then the senders, and nothing is missing.
    for (who, store) in std::mem::take(&mut away) {
        if writers.contains(&who) {
            away.insert(who, store);
        } else {
            crowd.join(who, store);
        }
    }
    crowd.until_in(1).await;
    let (back, letters) = (Instant::now(), writers.len() as u64 * LETTERS);
    // Of those that held it at first nobody is there any more, and a third of those that hold it now has just gone with the senders.
    let enough = letters * 3 / 4;
    let mut early = 0;
    while early < letters && back.elapsed() < hour {
        tokio::time::sleep(Duration::from_secs(1)).await;
        early = 0;
        for writer in &writers {
            early += has_got(&crowd, writer + 1, *writer).await.len() as u64;
        }
    }
    println!(
        "{early} of {letters} arrived while their senders were away, within {:.0} s",
        back.elapsed().as_secs_f64()
    );
    assert!(early >= enough, "mailboxes were kept up");
    for (who, store) in away {
        crowd.join(who, store);
    }
    let told = Cell::new((0, 0));
    let took = until("all is delivered", hour * HOURS, async || {
        let lacking = lacking(&crowd, &writers).await;
        if told.replace(lacking) != lacking {
            println!("{:?}: letters not there, letters not known to be there: {lacking:?}", back.elapsed());
        }
        lacking == (0, 0)
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
        "at the end each of {there} has {} kB of memory; all sent {} MB; {:.0} s in all",
        (memory() - empty) / there,
        crowd.traffic().0 / 1_000_000,
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

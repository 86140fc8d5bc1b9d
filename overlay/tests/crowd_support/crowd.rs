//! Many members at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crosstalk_overlay::dht::{Answer, Key, Query, Trace};
use futures::future::join_all;
use tokio::runtime;

use super::air::Air;
use super::member::*;
use super::pump::Store;

/// Two threads with a runtime each: as many as the machine of the tests has cores.
fn runtimes() -> Vec<runtime::Handle> {
    let start = |_| {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tell.send(runtime.handle().clone()).unwrap();
            runtime.block_on(std::future::pending::<()>());
        });
        told.recv().unwrap()
    };
    (0..2).map(start).collect()
}

/// Nodes by number.
pub struct Crowd {
    pub air: Arc<Air>,
    pub runtimes: Vec<runtime::Handle>,
    ways: Ways,
    pub members: BTreeMap<u32, Member>,
    dice: u64,
    /// Bytes sent, and streams' ends, of those who have left.
    gone: (u64, u64),
}

impl Crowd {
    pub fn new(ways: Ways) -> Self {
        Self {
            air: Arc::default(),
            runtimes: runtimes(),
            ways,
            members: BTreeMap::new(),
            dice: 7,
            gone: (0, 0),
        }
    }

    pub fn roll(&mut self, below: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) as usize % below.max(1)
    }

    /// Somebody who knows anybody.
    pub async fn somebody_in(&mut self) -> u32 {
        loop {
            let number = self.anybody();
            if self.members[&number].with(|host, _| host.known > 0).await {
                return number;
            }
        }
    }

    /// Somebody who is there.
    pub fn anybody(&mut self) -> u32 {
        let place = self.roll(self.members.len());
        *self.members.keys().nth(place).unwrap()
    }

    /// The node of this number joins by way of three others; `store`: what is left of its earlier life.
    pub fn join(&mut self, number: u32, store: Store) {
        let known = (0..3.min(self.members.len())).map(|_| way_to(self.anybody()));
        let bootstrap = known.collect();
        let on = &self.runtimes[number as usize % self.runtimes.len()];
        let member = Member::start(on, &self.air, number, &self.ways, bootstrap, store);
        self.members.insert(number, member);
    }

    /// So many join, a few at a time, and all are in when this ends.
    pub async fn settled(size: u32, ways: Ways) -> Self {
        let mut crowd = Self::new(ways);
        for number in 0..size {
            crowd.join(number, Store::default());
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
        crowd.until_in(4.min(size as usize / 2)).await;
        crowd
    }

    /// All know some others, and the records of their users stand at so many nodes.
    pub async fn until_in(&self, copies: usize) {
        let enough = 8.min(self.members.len() - 1);
        let start = Instant::now();
        loop {
            let mut out = Vec::new();
            for (number, member) in &self.members {
                let (known, stored) = member.with(|host, _| (host.known, host.copies)).await;
                if known < enough || stored < copies {
                    out.push((*number, known, stored));
                }
            }
            if out.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(300),
                "not in (number, nodes known, copies): {out:?}"
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Loses power, or ends properly.
    pub async fn leave(&mut self, number: u32, dark: bool) -> Store {
        self.leave_all(&[number], |_| dark).await.remove(&number).unwrap()
    }

    /// All of these at the same time; what their stores held.
    pub async fn leave_all(&mut self, numbers: &[u32], dark: impl Fn(u32) -> bool) -> BTreeMap<u32, Store> {
        let mut ends = Vec::new();
        for number in numbers {
            let member = self.members.remove(number).unwrap();
            self.gone.0 += member.meter.sent.load(Relaxed);
            self.gone.1 += member.meter.streams.load(Relaxed);
            ends.push(member.stop(dark(*number)));
        }
        numbers.iter().copied().zip(join_all(ends).await).collect()
    }

    /// Asks for the record of a user; what was found, and how.
    pub async fn look_up(&self, asker: u32, whose: u32) -> (bool, Trace) {
        let (answer, trace) = self.members[&asker].ask(Query::Walk(Key::user(&user_of(whose)))).await;
        (matches!(&answer, Answer::Values(values) if !values.is_empty()), trace)
    }

    /// Bytes that all have sent, and their streams' ends.
    pub fn traffic(&self) -> (u64, u64) {
        let meters = || self.members.values().map(|member| &member.meter);
        let sent: u64 = meters().map(|meter| meter.sent.load(Relaxed)).sum();
        let streams: u64 = meters().map(|meter| meter.streams.load(Relaxed)).sum();
        (sent + self.gone.0, streams + self.gone.1)
    }

    /// How many different items are held for a user.
    pub async fn items_for(&self, whose: u32) -> usize {
        self.items().await.get(&user_of(whose).as_bytes()[..]).map_or(0, BTreeMap::len)
    }

    /// The different items that are held, by mailbox, and by how many nodes.
    pub async fn items(&self) -> BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, usize>> {
        let mut items: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, usize>> = BTreeMap::new();
        let held = |host: &mut Host, _| {
            let mail = host.store.mail.values();
            mail.map(|mail| (mail.mailbox.clone(), mail.item.clone())).collect::<Vec<_>>()
        };
        for member in self.members.values() {
            for (mailbox, item) in member.with(held).await {
                *items.entry(mailbox).or_default().entry(item).or_default() += 1;
            }
        }
        items
    }

    /// For a person: how many items there are, and of how many there are how many copies.
    pub async fn copies(&self) -> String {
        let mut copies = BTreeMap::<usize, usize>::new();
        for count in self.items().await.values().flat_map(BTreeMap::values) {
            *copies.entry(*count).or_default() += 1;
        }
        let items: usize = copies.values().sum();
        format!("{items} items in mailboxes; copies: how many have so many {copies:?}")
    }
}

/// Anonymous memory of this process, kB.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

pub async fn until(what: &str, patience: Duration, condition: impl AsyncFn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < patience, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    start.elapsed()
}

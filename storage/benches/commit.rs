//! What a commit costs, how the database grows, what it holds in memory: `cargo bench -p crosstalk-storage`.
//!
//! Prints one table. The directory is a temporary one; set `TMPDIR` to the disk to measure.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people: it prints, measures time, and stops at the first error"
)]

use std::path::Path;
use std::time::Instant;

use crosstalk_storage::{Options, Store, Tree, WriteSet};

fn main() {
    let home = tempfile::tempdir().unwrap();
    println!("{:<46} {:>10} {:>10} {:>12} {:>9}", "workload", "commits/s", "ops/s", "written", "RSS");
    for ops in [1, 10, 100] {
        commits(&home.path().join(format!("commit-{ops}")), ops, 3000);
    }
    overwrites(&home.path().join("overwrites"));
    queue(&home.path().join("queue"), 1, "queue, emptied at once");
    queue(&home.path().join("lagging"), 5000, "queue, 5,000 deep");
    reopen(&home.path().join("overwrites"));
}

/// Commits of `ops` new keys of 32 bytes with 200 bytes each, one fsync per commit.
fn commits(dir: &Path, ops: u32, rounds: u32) {
    let (mut store, ..) = Store::open(dir, Options::default()).unwrap();
    let run = Run::start(format!("{ops} puts a commit"));
    for round in 0..rounds {
        let mut set = WriteSet::new();
        (0..ops).for_each(|op| set.put(Tree::Inbox, key((round * ops + op) % 40_000), vec![1; 200]));
        store.commit(&[set]).unwrap();
        store.maintain().unwrap();
    }
    run.end(&store, rounds, rounds * ops);
}

/// 300,000 overwrites of 10,000 keys, 100 a commit.
fn overwrites(dir: &Path) {
    let (mut store, ..) = Store::open(dir, Options::default()).unwrap();
    let run = Run::start("300k overwrites of 10k keys, 100 a commit".to_owned());
    for round in 0..3000u32 {
        let mut set = WriteSet::new();
        for op in 0..100 {
            let number = round * 100 + op;
            set.put(Tree::Roster, key(number.wrapping_mul(7919) % 10_000), number.to_be_bytes().repeat(50));
        }
        store.commit(&[set]).unwrap();
        store.maintain().unwrap();
    }
    run.end(&store, 3000, 300_000);
    store.close().unwrap();
}

/// 100,000 entries put and removed `lag` entries later, 10 a commit.
fn queue(dir: &Path, lag: u32, name: &str) {
    let (mut store, ..) = Store::open(dir, Options::default()).unwrap();
    let run = Run::start(format!("{name}, 100k in and out"));
    for round in 0..10_000u32 {
        let mut set = WriteSet::new();
        for number in round * 10..round * 10 + 10 {
            set.put(Tree::Outbox, key(number), vec![3; 200]);
            if let Some(old) = number.checked_sub(lag) {
                set.delete(Tree::Outbox, key(old));
            }
        }
        store.commit(&[set]).unwrap();
        store.maintain().unwrap();
    }
    run.end(&store, 10_000, 200_000);
}

fn reopen(dir: &Path) {
    let start = Instant::now();
    let (_store, contents, opened) = Store::open(dir, Options::default()).unwrap();
    println!(
        "reopened {} entries in {:?} ({opened}), RSS {} KiB",
        contents.len(),
        start.elapsed(),
        status("VmRSS:")
    );
}

fn key(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(8)
}

struct Run {
    name: String,
    start: Instant,
    written: u64,
}

impl Run {
    fn start(name: String) -> Self {
        Self { name, start: Instant::now(), written: written() }
    }

    fn end(self, store: &Store, commits: u32, ops: u32) {
        let seconds = self.start.elapsed().as_secs_f64();
        let megabytes = (written() - self.written) / 1_000_000;
        let stats = store.stats();
        println!(
            "{:<46} {:>10.0} {:>10.0} {:>9} MB {:>5} MiB",
            self.name,
            f64::from(commits) / seconds,
            f64::from(ops) / seconds,
            megabytes,
            status("VmRSS:") / 1024,
        );
        println!(
            "    database {} KiB for {} KiB live; {} checkpoints, {} compactions, {} fsyncs",
            stats.engine_bytes / 1024,
            stats.live_bytes / 1024,
            stats.checkpoints,
            stats.compactions,
            stats.fsyncs,
        );
    }
}

/// Bytes this process sent to the disk.
fn written() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

fn status(name: &str) -> u64 {
    field("/proc/self/status", name)
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0)
}

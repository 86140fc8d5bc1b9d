//! SIGKILL at random points: every acknowledged commit is there afterwards. 100 rounds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stop at the first error, and talk to their parent or to people"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::put;
use crosstalk_storage::{Opened, Options, Store, Tree};

const ROUNDS: u32 = 100;
const CHILD: &str = "CROSSTALK_KILL_TEST_DIR";

fn options() -> Options {
    // Checkpoints every few dozen commits, so that kills fall into them.
    Options { journal_limit: 4096, ..Options::default() }
}

/// The writer; does nothing unless the test below started it.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (mut store, contents, _) = Store::open(Path::new(&dir), options()).unwrap();
    let first = next(&contents);
    let mut out = std::io::stdout();
    for number in first.. {
        let mut set = put(Tree::Outbox, number.to_be_bytes(), vec![7; 100]);
        set.put(Tree::Meta, "next", (number + 1).to_be_bytes());
        if let Some(old) = number.checked_sub(500) {
            set.delete(Tree::Outbox, old.to_be_bytes());
        }
        store.commit(&[set]).unwrap();
        writeln!(out, "ack {number}").unwrap();
        out.flush().unwrap();
        store.maintain().unwrap();
    }
}

fn next(contents: &crosstalk_storage::Contents) -> u64 {
    contents.get(Tree::Meta, b"next").map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

#[test]
fn a_hundred_kills_lose_nothing_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let mut acked = None;
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acks =
            lines.map_while(Result::ok).filter_map(|line| line.rsplit_once("ack ")?.1.parse::<u64>().ok());
        // Killed from another process, the writer is anywhere in its next few commits by then.
        let enough = 1 + random % 90;
        for _ in 0..enough {
            acked = acks.next().or(acked);
        }
        child.kill().unwrap();
        acked = acks.last().or(acked);
        child.wait().unwrap();
        let (store, contents, opened) = Store::open(&dir, options()).unwrap();
        assert!(!matches!(opened, Opened::Rebuilt(_) | Opened::Fresh), "round {round}: {opened}");
        let (acked, next) = (acked.unwrap(), next(&contents));
        assert!(next == acked + 1 || next == acked + 2, "round {round}: {acked} acked, next is {next}");
        let kept: Vec<u64> =
            contents.tree(Tree::Outbox).map(|(key, _)| u64::from_be_bytes(key.try_into().unwrap())).collect();
        assert_eq!(kept, (next.saturating_sub(500)..next).collect::<Vec<_>>(), "round {round}");
        drop(store);
    }
}

//! The database's size on disk stays bounded under overwrites, a lagging queue, and after a big removal.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stop at the first error, and talk to their parent or to people"
)]

mod common;

use common::Home;
use crosstalk_storage::{Options, Store, Tree, WriteSet};

const COMPACT_ABOVE: u64 = 3 << 20;
/// What one checkpoint may add before the next one looks: the journal, and sled's segments around it.
const SLACK: u64 = 4 << 20;

fn options() -> Options {
    Options { journal_limit: 512 << 10, compact_above: COMPACT_ABOVE, ..Options::default() }
}

fn commit(store: &mut Store, set: WriteSet) {
    store.commit(&[set]).unwrap();
    if store.maintain().unwrap() {
        let stats = store.stats();
        let bound = COMPACT_ABOVE.max(8 * stats.live_bytes) + SLACK;
        assert!(stats.engine_bytes <= bound, "{} bytes for {} live", stats.engine_bytes, stats.live_bytes);
    }
}

#[test]
fn overwrites_and_a_lagging_queue_do_not_grow_it() {
    let home = Home::disk();
    let (mut store, ..) = home.open(options());
    for round in 0..300u32 {
        let mut set = WriteSet::new();
        for number in round * 300..round * 300 + 300 {
            set.put(Tree::Roster, (number % 700).to_be_bytes(), number.to_be_bytes().repeat(40));
            set.put(Tree::Outbox, number.to_be_bytes(), vec![1; 200]);
            if let Some(old) = number.checked_sub(4000) {
                set.delete(Tree::Outbox, old.to_be_bytes());
            }
        }
        commit(&mut store, set);
    }
    assert!(store.stats().checkpoints > 50);
}

#[test]
fn after_a_big_removal_it_is_rewritten_compactly() {
    let home = Home::disk();
    let (mut store, ..) = home.open(options());
    for (inserting, rounds) in [(true, 0..120u32), (false, 0..120)] {
        for round in rounds {
            let mut set = WriteSet::new();
            for number in round * 100..round * 100 + 100 {
                match inserting || number % 100 == 0 {
                    true => set.put(Tree::Inbox, number.to_be_bytes(), vec![2; 1000]),
                    false => set.delete(Tree::Inbox, number.to_be_bytes()),
                }
            }
            commit(&mut store, set);
        }
    }
    store.checkpoint().unwrap();
    let stats = store.stats();
    assert!(stats.compactions > 0 && stats.engine_bytes < COMPACT_ABOVE + SLACK, "{stats:?}");
    assert!(!home.dir().join("db-1").exists());
    let (store, contents, opened) = store.crash().unwrap();
    assert_eq!((contents.len(), common::all(&store).len()), (120, 120), "{opened}");
}

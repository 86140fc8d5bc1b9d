//! What the store promises, on both engines: durability, atomicity, order, limits, reads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stop at the first error, and talk to their parent or to people"
)]

mod common;

use common::{Home, all, delete, put, small};
use crosstalk_storage::{
    Checkpoint, CommitError, MAX_KEY, MAX_VALUE, Opened, Options, Store, Tree, WriteSet,
};
use proptest::prelude::*;

#[test]
fn a_new_store_is_fresh_and_then_clean() {
    for home in Home::both() {
        let (store, contents, opened) = home.open(Options::default());
        assert_eq!((opened, contents.len()), (Opened::Fresh, 0));
        store.close().unwrap();
        assert_eq!(home.open(Options::default()).2, Opened::Clean);
    }
}

#[test]
fn what_was_committed_survives_a_crash() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        store.commit(&[put(Tree::Outbox, "1", "one"), put(Tree::Inbox, "2", "two")]).unwrap();
        store.commit(&[delete(Tree::Inbox, "2")]).unwrap();
        let before = all(&store);
        let (store, contents, opened) = store.crash().unwrap();
        assert_eq!(opened, Opened::Replayed { commits: 2, cut: 0 });
        assert_eq!((&contents, all(&store)), (&before, before.clone()));
        assert_eq!(contents.get(Tree::Outbox, b"1"), Some(b"one".as_slice()));
        assert_eq!(contents.len(), 1);
    }
}

#[test]
fn a_checkpoint_moves_everything_and_empties_the_journal() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        let empty = store.stats().journal_bytes;
        store.commit(&[put(Tree::Roster, "juliet", "both")]).unwrap();
        assert!(store.stats().journal_bytes > empty);
        store.checkpoint().unwrap();
        assert!(store.stats().journal_bytes < empty + 64);
        assert_eq!(store.stats().entries[&Tree::Roster], 1);
        let (_, contents, opened) = store.crash().unwrap();
        assert_eq!((opened, contents.len()), (Opened::Clean, 1));
    }
}

#[test]
fn maintain_waits_until_the_journal_is_long() {
    for home in Home::both() {
        let (mut store, ..) = home.open(small());
        store.commit(&[put(Tree::Outbox, "1", "short")]).unwrap();
        assert!(!store.maintain().unwrap());
        store.commit(&[put(Tree::Outbox, "2", vec![7; 3000])]).unwrap();
        assert!(store.maintain().unwrap());
        assert!(!store.maintain().unwrap());
    }
}

#[test]
fn a_journal_nobody_maintains_is_checkpointed_by_commits() {
    for home in Home::both() {
        let (mut store, ..) = home.open(small());
        for number in 0..100u32 {
            store.commit(&[put(Tree::Outbox, number.to_be_bytes(), vec![1; 500])]).unwrap();
            assert!(store.stats().journal_bytes < 8 * 4 * 2048);
        }
        assert!(store.stats().checkpoints > 0);
        assert_eq!(store.crash().unwrap().1.len(), 100);
    }
}

#[test]
fn a_queue_that_empties_itself_never_reaches_the_engine() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        for number in 0..1000u32 {
            store.commit(&[put(Tree::Outbox, number.to_be_bytes(), "message")]).unwrap();
            store.commit(&[delete(Tree::Outbox, number.to_be_bytes())]).unwrap();
        }
        let before = store.stats().engine_bytes;
        store.checkpoint().unwrap();
        assert_eq!(store.stats().engine_bytes, before);
        assert!(store.crash().unwrap().1.is_empty());
    }
}

#[test]
fn large_values_come_back_whole_and_can_shrink() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        for size in [2999, 3000, 3001, 100_000, MAX_VALUE, 10, 0, 9000] {
            let value: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            store.commit(&[put(Tree::VCard, "romeo", value.clone())]).unwrap();
            store.commit(&[put(Tree::VCard, "romeo\u{0}", "a neighbour")]).unwrap();
            store.checkpoint().unwrap();
            assert_eq!(store.get(Tree::VCard, b"romeo").unwrap(), Some(value.clone()));
            assert_eq!(store.scan(Tree::VCard, b"romeo", 1).unwrap()[0].1, value);
        }
        store.commit(&[delete(Tree::VCard, "romeo")]).unwrap();
        store.checkpoint().unwrap();
        assert_eq!(store.crash().unwrap().1.len(), 1);
    }
}

#[test]
fn a_scan_sees_pending_changes_over_the_engine() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        let keys = |store: &Store, prefix: &str, limit| -> Vec<String> {
            let found = store.scan(Tree::Inbox, prefix.as_bytes(), limit).unwrap();
            found.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
        };
        for key in ["a1", "a3", "a5", "b1"] {
            store.commit(&[put(Tree::Inbox, key, "old")]).unwrap();
        }
        store.checkpoint().unwrap();
        store
            .commit(&[delete(Tree::Inbox, "a1"), put(Tree::Inbox, "a4", "new"), put(Tree::Inbox, "a0", "")])
            .unwrap();
        assert_eq!(keys(&store, "a", 10), ["a0", "a3", "a4", "a5"]);
        assert_eq!(keys(&store, "a", 2), ["a0", "a3"]);
        assert_eq!(keys(&store, "a4", 9), ["a4"]);
        assert_eq!(keys(&store, "", 99).len(), 5);
        assert!(keys(&store, "c", 9).is_empty() && keys(&store, "a", 0).is_empty());
        assert_eq!(store.get(Tree::Inbox, b"a1").unwrap(), None);
        assert_eq!(store.get(Tree::Inbox, b"a3").unwrap(), Some(b"old".to_vec()));
    }
}

#[test]
fn what_is_too_large_is_refused_as_a_whole() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        let good = put(Tree::Meta, "good", "good");
        for bad in [put(Tree::Meta, vec![0; MAX_KEY + 1], ""), put(Tree::Meta, "k", vec![0; MAX_VALUE + 1])] {
            let refused = store.commit(&[good.clone(), bad]);
            assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
        }
        assert!(store.crash().unwrap().1.is_empty());
    }
}

#[test]
fn empty_commits_cost_nothing() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        let before = store.stats();
        store.commit(&[]).unwrap();
        store.commit(&[WriteSet::new()]).unwrap();
        assert_eq!(store.stats().fsyncs, before.fsyncs);
        store.commit(&[put(Tree::Meta, "a", "1"), put(Tree::Meta, "b", "2")]).unwrap();
        assert_eq!(store.stats().fsyncs, before.fsyncs + 1);
    }
}

/// One step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Vec<(usize, u8, Option<u16>)>>),
    Checkpoint,
    /// The next step of one that is made beside commits.
    Beside,
    Maintain,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let op = (0..Tree::ALL.len(), 0u8..12, proptest::option::weighted(0.6, 0u16..5000));
    let set = proptest::collection::vec(op, 0..6);
    prop_oneof![
        8 => proptest::collection::vec(set, 0..4).prop_map(Step::Commit),
        1 => Just(Step::Checkpoint),
        4 => Just(Step::Beside),
        1 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

fn sets(ops: &[Vec<(usize, u8, Option<u16>)>]) -> Vec<WriteSet> {
    let set = |ops: &Vec<(usize, u8, Option<u16>)>| {
        let mut set = WriteSet::new();
        for (tree, key, size) in ops {
            match size {
                Some(size) => set.put(Tree::ALL[*tree], [*key], vec![*key; usize::from(*size)]),
                None => set.delete(Tree::ALL[*tree], [*key]),
            }
        }
        set
    };
    ops.iter().map(set).collect()
}

/// Runs the steps on a store and on a plain map, which must agree after each.
fn agrees_with_a_map(home: &Home, steps: &[Step]) {
    let options = Options { journal_limit: 8192, compact_above: 600_000, ..Options::default() };
    let (mut store, mut model, _) = home.open(options.clone());
    let (mut begun, mut written) = (None, None);
    for step in steps {
        match step {
            Step::Beside => {
                if let Some(checkpoint) = begun.take() {
                    written = Some(Checkpoint::write(checkpoint, &|| ()));
                } else if let Some(written) = written.take() {
                    store.end_checkpoint(written).unwrap();
                } else {
                    begun = store.begin_checkpoint().unwrap();
                }
                assert_eq!(store.is_checkpoint_under_way(), begun.is_some() || written.is_some());
            }
            Step::Commit(ops) => {
                let sets = sets(ops);
                store.commit(&sets).unwrap();
                sets.iter().for_each(|set| model.apply(set));
            }
            Step::Checkpoint => store.checkpoint().unwrap(),
            Step::Maintain => drop(store.maintain().unwrap()),
            Step::Reopen | Step::Crash => {
                // What is under way is dropped, written or not.
                (begun, written) = (None, None);
                let (again, contents, opened) = if matches!(step, Step::Crash) {
                    store.crash().unwrap()
                } else {
                    store.close().unwrap();
                    home.open(options.clone())
                };
                assert_eq!(contents, model);
                assert!(!matches!(opened, Opened::Rebuilt(_) | Opened::Fresh), "{opened}");
                store = again;
            }
        }
        assert_eq!(all(&store), model);
        let live: u64 = store.stats().entries.values().sum();
        assert_eq!(live, model.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn in_memory_it_agrees_with_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        agrees_with_a_map(&Home::Memory(crosstalk_storage::MemoryDisk::new()), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn on_disk_it_agrees_with_a_map(steps in proptest::collection::vec(step(), 1..30)) {
        agrees_with_a_map(&Home::disk(), &steps);
    }
}

#[test]
fn a_commit_may_be_as_large_as_the_core_makes_it() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        let many: Vec<WriteSet> =
            (0..70u8).map(|key| put(Tree::Inbox, [key], vec![key; MAX_VALUE])).collect();
        store.commit(&many).unwrap();
        store.commit(&(0..70u8).map(|key| delete(Tree::Inbox, [key])).collect::<Vec<_>>()).unwrap();
        assert!(store.crash().unwrap().1.is_empty());
    }
}

#[test]
fn a_full_tree_keeps_nothing_from_the_disk() {
    for home in Home::both() {
        let (mut store, ..) = home.open(Options::default());
        let more = u32::try_from(Tree::Meta.limit()).unwrap() + 10;
        for number in 0..more {
            store.commit(&[put(Tree::Meta, number.to_be_bytes(), "x")]).unwrap();
        }
        store.checkpoint().unwrap();
        assert_eq!(store.crash().unwrap().1.tree(Tree::Meta).count(), more as usize);
    }
}

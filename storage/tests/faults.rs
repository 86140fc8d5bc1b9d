//! Crashes at every single write, and full disks, on the memory disk; exhaustive and deterministic.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stop at the first error, and talk to their parent or to people"
)]

mod common;

use common::{Home, all, delete, put};
use crosstalk_storage::{
    Checkpoint, CommitError, Contents, MemoryDisk, Opened, Options, Store, Tree, WriteSet,
};

fn options() -> Options {
    Options { journal_limit: 600, compact_above: 4000, ..Options::default() }
}

/// The commits of the workload: queues that fill and empty, counters, a few large values.
fn workload() -> Vec<WriteSet> {
    (0..60u32)
        .map(|number| {
            let mut set = put(Tree::Outbox, number.to_be_bytes(), vec![1; 40]);
            set.put(Tree::Outbound, "peer", number.to_be_bytes());
            set.put(Tree::Seen, number.to_be_bytes(), vec![2; 30]);
            if number % 2 == 0 {
                set.delete(Tree::Outbox, (number / 2).to_be_bytes());
                set.delete(Tree::Seen, (number / 3).to_be_bytes());
            }
            set
        })
        .collect()
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug)]
enum Checkpoints {
    Between,
    /// Commits go on before they are written and before they end.
    Beside,
}

/// Runs until the power fails. Answers with what was acknowledged and what may have been in flight.
fn run(disk: &MemoryDisk, checkpoints: Checkpoints) -> (Contents, Option<WriteSet>) {
    let mut acked = Contents::default();
    let Ok((mut store, ..)) = Store::open_memory(disk, options()) else { return (acked, None) };
    let (mut begun, mut written) = (None, None);
    for (number, set) in workload().into_iter().enumerate() {
        if store.commit(std::slice::from_ref(&set)).is_err() {
            return (acked, Some(set));
        }
        acked.apply(&set);
        match (checkpoints, number % 3) {
            (Checkpoints::Between, _) => drop(store.maintain()),
            (Checkpoints::Beside, 0) if store.is_checkpoint_due() => {
                begun = store.begin_checkpoint().unwrap_or_default()
            }
            (Checkpoints::Beside, 1) => written = begun.take().map(|begun: Checkpoint| begun.write(&|| ())),
            (Checkpoints::Beside, _) => drop(written.take().map(|written| store.end_checkpoint(written))),
        }
    }
    (acked, None)
}

#[test]
fn a_crash_at_any_write_loses_nothing_acknowledged() {
    crash_at_any_write(Checkpoints::Between);
    crash_at_any_write(Checkpoints::Beside);
}

fn crash_at_any_write(checkpoints: Checkpoints) {
    let mut crashes = 0;
    for at in 0.. {
        for keep in [0, 1, 17, usize::MAX] {
            let disk = MemoryDisk::new();
            disk.crash_at(at, keep);
            let (acked, in_flight) = run(&disk, checkpoints);
            if !disk.is_down() {
                assert!(
                    crashes > 400,
                    "{checkpoints:?}: the workload ended after {crashes} crashes: too few"
                );
                return;
            }
            crashes += 1;
            disk.restart();
            let (mut store, contents, opened) = Store::open_memory(&disk, options()).unwrap();
            let mut with_flight = acked.clone();
            in_flight.iter().for_each(|set| with_flight.apply(set));
            assert!(
                contents == acked || contents == with_flight,
                "{checkpoints:?}, write {at}, keep {keep}: {opened}"
            );
            assert!(
                !matches!(opened, Opened::Rebuilt(_)),
                "{checkpoints:?}, write {at}, keep {keep}: {opened}"
            );
            assert_eq!(all(&store), contents);
            // And it goes on from there.
            store.commit(&[put(Tree::Meta, "after", "crash")]).unwrap();
            store.checkpoint().unwrap();
            let (_, again, opened) = store.crash().unwrap();
            assert_eq!((again.len(), opened), (contents.len() + 1, Opened::Clean), "write {at}, keep {keep}");
        }
    }
}

#[test]
fn a_second_crash_during_recovery_loses_nothing_either() {
    for first in (0..200).step_by(7) {
        let disk = MemoryDisk::new();
        disk.crash_at(first, 3);
        let (acked, in_flight) = run(&disk, Checkpoints::Beside);
        if !disk.is_down() {
            return;
        }
        let mut with_flight = acked.clone();
        in_flight.iter().for_each(|set| with_flight.apply(set));
        for second in 0..12 {
            disk.restart();
            disk.crash_at(second, 1);
            if let Ok((mut store, ..)) = Store::open_memory(&disk, options()) {
                let _ = store.checkpoint();
            }
            disk.crash();
        }
        disk.restart();
        let (_, contents, opened) = Store::open_memory(&disk, options()).unwrap();
        assert!(contents == acked || contents == with_flight, "{opened}");
    }
}

#[test]
fn a_full_disk_refuses_commits_and_the_store_goes_on_when_there_is_space() {
    let disk = MemoryDisk::new();
    let (mut store, ..) = Store::open_memory(&disk, Options::default()).unwrap();
    store.commit(&[put(Tree::Meta, "before", "1")]).unwrap();
    disk.set_full(true);
    for _ in 0..3 {
        assert!(matches!(store.commit(&[put(Tree::Meta, "full", "1")]), Err(CommitError::Full { .. })));
        assert!(store.checkpoint().is_err());
    }
    disk.set_full(false);
    store.commit(&[put(Tree::Meta, "after", "1")]).unwrap();
    let (_, contents, opened) = store.crash().unwrap();
    assert_eq!((contents.len(), opened), (2, Opened::Replayed { commits: 2, cut: 0 }));
}

#[test]
fn a_checkpoint_that_fails_half_way_confuses_nothing() {
    // The disk fills up at each write of the checkpoint in turn; queue entries are then removed.
    for at in 0..12 {
        let disk = MemoryDisk::new();
        let (mut store, ..) = Store::open_memory(&disk, Options::default()).unwrap();
        store.commit(&[put(Tree::Outbox, "1", "a"), put(Tree::Outbox, "2", "b")]).unwrap();
        disk.fill_at(at);
        let failed = store.checkpoint().is_err();
        disk.restart();
        store.commit(&[delete(Tree::Outbox, "1"), put(Tree::Outbox, "3", "c")]).unwrap();
        assert_eq!(all(&store).len(), 2);
        let crashed = failed.then(|| store.crash().unwrap());
        let Some((mut store, contents, opened)) = crashed else { return };
        assert!(matches!(opened, Opened::Replayed { .. }), "write {at}: {opened}");
        assert_eq!(contents.len(), 2);
        store.checkpoint().unwrap();
        let (_, contents, opened) = store.crash().unwrap();
        assert_eq!((contents.len(), opened), (2, Opened::Clean), "write {at}");
    }
}

#[test]
fn what_is_committed_beside_a_checkpoint_that_fails_is_kept() {
    // The disk fills up at each write in turn, while messages are put and removed meanwhile.
    let mut failures = 0;
    for at in 0..12 {
        let disk = MemoryDisk::new();
        let (mut store, ..) = Store::open_memory(&disk, Options::default()).unwrap();
        store.commit(&[put(Tree::Outbox, "1", "a"), put(Tree::Outbox, "2", "b")]).unwrap();
        let begun = store.begin_checkpoint().unwrap().unwrap();
        assert!(store.begin_checkpoint().unwrap().is_none(), "one at a time");
        store.commit(&[delete(Tree::Outbox, "1"), put(Tree::Outbox, "3", "c")]).unwrap();
        disk.fill_at(at);
        let written = begun.write(&|| ());
        disk.restart();
        store.commit(&[delete(Tree::Outbox, "3"), put(Tree::Outbox, "4", "d")]).unwrap();
        disk.fail_next_fsync();
        assert!(store.commit(&[put(Tree::Meta, "lost", "?")]).is_err());
        store.commit(&[put(Tree::Outbox, "5", "e")]).unwrap();
        let (before, failed) = (all(&store), store.end_checkpoint(written).is_err());
        failures += u32::from(failed);
        assert_eq!((before.len(), all(&store)), (3, before.clone()));
        let (mut store, contents, opened) = store.crash().unwrap();
        assert!(matches!(opened, Opened::Replayed { .. }), "write {at}: {opened}");
        assert_eq!(contents, before);
        store.checkpoint().unwrap();
        assert_eq!((store.crash().unwrap().2), Opened::Clean, "write {at}");
    }
    assert!((2..12).contains(&failures), "{failures}");
}

#[test]
fn a_new_journal_that_may_not_last_is_written_once_more() {
    for rewritten in [false, true] {
        let disk = MemoryDisk::new();
        let compact_above = if rewritten { 0 } else { 1 << 20 };
        let (mut store, ..) =
            Store::open_memory(&disk, Options { compact_above, ..Options::default() }).unwrap();
        store.commit(&[put(Tree::Outbox, "1", vec![1; 100])]).unwrap();
        let begun = store.begin_checkpoint().unwrap().unwrap();
        store.commit(&[put(Tree::Outbox, "2", "b")]).unwrap();
        let written = begun.write(&|| ());
        disk.fail_next_fsync();
        assert!(store.end_checkpoint(written).is_err());
        store.commit(&[put(Tree::Outbox, "3", "c")]).unwrap();
        let before = all(&store);
        let (mut store, contents, opened) = store.crash().unwrap();
        assert!(matches!(opened, Opened::Replayed { cut: 0, .. }), "{opened}");
        assert_eq!((contents.len(), &contents), (3, &before));
        store.checkpoint().unwrap();
        assert_eq!((all(&store), store.crash().unwrap().2), (before, Opened::Clean));
    }
}

#[test]
fn a_checkpoint_after_a_failed_fsync_is_no_damage() {
    let disk = MemoryDisk::new();
    let (mut store, ..) = Store::open_memory(&disk, Options::default()).unwrap();
    store.commit(&[put(Tree::Outbox, "1", "a")]).unwrap();
    disk.fail_next_fsync();
    assert!(store.commit(&[put(Tree::Outbox, "2", "?")]).is_err());
    let begun = store.begin_checkpoint().unwrap().unwrap();
    let written = begun.write(&|| ());
    drop(written);
    let (_, contents, opened) = store.crash().unwrap();
    assert!(matches!(opened, Opened::Replayed { .. }), "{opened}");
    assert_eq!(contents.get(Tree::Outbox, b"1"), Some(b"a".as_slice()));
}

#[test]
fn checkpoints_that_keep_failing_stop_commits_before_memory_fills() {
    let disk = MemoryDisk::new();
    let (mut store, ..) = Store::open_memory(&disk, options()).unwrap();
    let mut refused = None;
    disk.refuse_replacing(true);
    for number in 0..1000u32 {
        if let Err(error) = store.commit(&[put(Tree::Inbox, number.to_be_bytes(), vec![0; 50])]) {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(CommitError::Backlog { .. })), "{refused:?}");
    disk.refuse_replacing(false);
    store.commit(&[put(Tree::Meta, "goes", "on")]).unwrap();
    assert_eq!(store.crash().unwrap().1.get(Tree::Meta, b"goes"), Some(b"on".as_slice()));
}

#[test]
fn after_a_failed_fsync_a_new_journal_is_written() {
    let disk = MemoryDisk::new();
    let (mut store, ..) = Store::open_memory(&disk, Options::default()).unwrap();
    store.commit(&[put(Tree::Outbox, "1", "a"), put(Tree::Outbox, "2", "b")]).unwrap();
    store.checkpoint().unwrap();
    store.commit(&[delete(Tree::Outbox, "1"), put(Tree::Outbox, "3", "c")]).unwrap();
    disk.fail_next_fsync();
    assert!(matches!(store.commit(&[put(Tree::Meta, "lost", "?")]), Err(CommitError::Io { .. })));
    store.commit(&[put(Tree::Meta, "kept", "!")]).unwrap();
    let before = all(&store);
    let (store, contents, opened) = store.crash().unwrap();
    assert!(matches!(opened, Opened::Replayed { .. }), "{opened}");
    assert_eq!((&contents, contents.len()), (&before, 3));
    assert_eq!(all(&store), before);
}

#[test]
fn a_second_store_on_the_same_directory_is_refused_by_name() {
    let home = Home::disk();
    let (store, ..) = home.open(Options::default());
    let error = Store::open(&home.dir(), Options::default()).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())) && error.contains("lock"), "{error}");
    drop(store);
    home.open(Options::default());
}

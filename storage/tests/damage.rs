//! Damaged files: every answer is the whole data or an explicit report, never a panic, never silence.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stop at the first error, and talk to their parent or to people"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{copy_dir, delete, put};
use crosstalk_storage::{Contents, OpenError, Opened, Options, Source, Store, Tree};

/// A store with three checkpoints behind it and commits in its journal, not closed.
struct Example {
    _home: tempfile::TempDir,
    dir: PathBuf,
    /// The state after each commit in the journal; the last is the whole data.
    states: Vec<Contents>,
    /// The state at the last checkpoint.
    checkpointed: Contents,
}

impl Example {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("store");
        let (mut store, mut contents, _) = Store::open(&dir, Options::default()).unwrap();
        let mut commit = |store: &mut Store, set| {
            store.commit(std::slice::from_ref(&set)).unwrap();
            contents.apply(&set);
            contents.clone()
        };
        for round in 0..3u8 {
            for tree in Tree::ALL {
                for key in 0..20u8 {
                    commit(&mut store, put(*tree, [key, round % 2], vec![round; 60 + usize::from(key) * 13]));
                }
                commit(&mut store, delete(*tree, [0, 0]));
            }
            commit(&mut store, put(Tree::VCard, [round], vec![round; 10_000]));
            store.checkpoint().unwrap();
        }
        let checkpointed = common::all(&store);
        let mut states = vec![commit(&mut store, put(Tree::Outbox, "last", "0"))];
        for number in 1..6u8 {
            states.push(commit(&mut store, put(Tree::Outbox, "last", [number; 50])));
            states.push(commit(&mut store, delete(Tree::Seen, [number, 0])));
        }
        drop(store);
        Self { _home: home, dir, states, checkpointed }
    }

    fn whole(&self) -> &Contents {
        self.states.last().unwrap()
    }

    /// Whether a frame of the journal begins at `at`, so that one ends there.
    fn frame_ends_at(&self, at: u64) -> bool {
        let journal = fs::read(self.dir.join("journal")).unwrap();
        journal[usize::try_from(at).unwrap()..].starts_with(&journal[16..32])
    }

    /// The files of the store, relative to it.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![PathBuf::from("journal"), PathBuf::from("snapshot")];
        for entry in fs::read_dir(self.dir.join("db-1")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                files.push(PathBuf::from("db-1").join(entry.file_name()));
            }
        }
        files
    }

    /// Opens a copy whose `file` went through `harm`.
    fn harmed(&self, file: &Path, harm: impl FnOnce(&Path)) -> (tempfile::TempDir, Store, Contents, Opened) {
        let copy = tempfile::tempdir().unwrap();
        let dir = copy.path().join("store");
        copy_dir(&self.dir, &dir);
        harm(&dir.join(file));
        let (store, contents, opened) = Store::open(&dir, Options::default()).unwrap();
        (copy, store, contents, opened)
    }

    /// Each tree that the answer vouches for is whole.
    fn check(&self, what: &str, file: &Path, contents: &Contents, opened: &Opened) {
        let name = file.display();
        let same = |tree: Tree| contents.tree(tree).eq(self.whole().tree(tree));
        match opened {
            Opened::Rebuilt(rebuilt) => {
                for tree in Tree::ALL.iter().filter(|tree| !rebuilt.incomplete.contains(tree)) {
                    assert!(same(*tree), "{name}, {what}: {tree:?} differs, but {opened}");
                }
                assert!(rebuilt.aside.join("report").exists() && rebuilt.aside.join("db-1").exists());
            }
            Opened::Replayed { cut: 1.., .. } if file == Path::new("journal") => {
                assert!(self.states.contains(contents) || contents == &self.checkpointed, "{name}, {what}");
            }
            Opened::Clean | Opened::Replayed { .. } => {
                assert_eq!(contents, self.whole(), "{name}, {what}: {opened}");
            }
            Opened::Fresh => panic!("{name}, {what}: a silent reset"),
        }
    }
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Positions worth harming: spread over the bytes that are not zero.
fn positions(path: &Path, count: usize) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let step = (used.len() / count).max(1);
    used.into_iter().step_by(step).collect()
}

#[test]
fn flipped_bits_are_repaired_or_reported() {
    let example = Example::new();
    let mut rebuilt = 0;
    for file in example.files() {
        for (number, at) in positions(&example.dir.join(&file), 60).into_iter().enumerate() {
            let bit = at * 8 + number % 8;
            let (_copy, store, contents, opened) = example.harmed(&file, |path| flip(path, bit));
            example.check(&format!("bit {bit}"), &file, &contents, &opened);
            assert_eq!(common::all(&store), contents);
            rebuilt += usize::from(matches!(opened, Opened::Rebuilt(_)));
        }
    }
    assert!(rebuilt > 20, "only {rebuilt} of the flips were noticed: the test harms nothing");
}

#[test]
fn truncated_files_are_repaired_or_reported() {
    let example = Example::new();
    for file in example.files() {
        let len = fs::metadata(example.dir.join(&file)).unwrap().len();
        for part in 0..37 {
            let cut = len * part / 37;
            // A journal cut exactly between two frames looks like one whose last commit never was.
            if file == Path::new("journal") && example.frame_ends_at(cut) {
                continue;
            }
            let (_copy, _store, contents, opened) = example.harmed(&file, |path| truncate(path, cut));
            example.check(&format!("cut to {cut}"), &file, &contents, &opened);
        }
    }
}

#[test]
fn what_is_gone_altogether_is_rebuilt_or_reported() {
    let example = Example::new();
    let (_copy, _store, contents, opened) =
        example.harmed(Path::new("snapshot"), |path| fs::remove_file(path).unwrap());
    assert_eq!(&contents, example.whole(), "{opened}");
    let (_copy, _store, contents, opened) =
        example.harmed(Path::new("journal"), |path| fs::remove_file(path).unwrap());
    let Opened::Rebuilt(rebuilt) = &opened else { panic!("{opened}") };
    assert_eq!(rebuilt.incomplete, Tree::ALL, "{opened}");
    assert!(contents.len() > 300);
    let (_copy, _store, contents, opened) =
        example.harmed(Path::new("db-1"), |path| fs::remove_dir_all(path).unwrap());
    let Opened::Rebuilt(rebuilt) = &opened else { panic!("{opened}") };
    assert_eq!(
        rebuilt.incomplete,
        Tree::ALL.iter().copied().filter(|tree| !tree.in_snapshot()).collect::<Vec<_>>()
    );
    assert_eq!(rebuilt.from[&Tree::Outbox], Source::Snapshot);
    assert!(contents.tree(Tree::Outbox).eq(example.whole().tree(Tree::Outbox)));
}

#[test]
fn a_rebuilt_store_is_sound_and_at_most_three_damaged_ones_are_kept() {
    let example = Example::new();
    let dir = &example.dir;
    let mut removed = Vec::new();
    for _ in 0..5 {
        let journal = fs::read(dir.join("journal")).unwrap();
        fs::write(dir.join("journal"), &journal[1..]).unwrap();
        let (mut store, contents, opened) = Store::open(dir, Options::default()).unwrap();
        let Opened::Rebuilt(rebuilt) = opened else { panic!("{opened}") };
        removed.extend(rebuilt.removed);
        store.commit(&[put(Tree::Meta, "still", "works")]).unwrap();
        let (_, again, opened) = store.crash().unwrap();
        assert_eq!((again.len() >= contents.len(), opened), (true, Opened::Replayed { commits: 1, cut: 0 }));
    }
    let kept = fs::read_dir(dir)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"));
    assert_eq!((kept.count(), removed.len()), (3, 2));
    assert!(removed[0].ends_with("damaged-1") && dir.join("damaged-5").join("journal").exists());
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_touched() {
    let example = Example::new();
    for file in ["journal", "snapshot"] {
        let path = example.dir.join(file);
        let old = fs::read(&path).unwrap();
        let mut bytes = old.clone();
        bytes[8] = 4;
        let body = usize::try_from(u32::from_le_bytes(bytes[12..16].try_into().unwrap())).unwrap();
        let crc = crc32(&bytes[..16 + body]);
        bytes[16 + body..20 + body].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(&example.dir, Options::default()).err().unwrap();
        assert!(matches!(error, OpenError::Newer { found: 4, supported: 3, .. }), "{error}");
        assert!(error.to_string().contains(file) && error.to_string().contains("newer program"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::write(&path, old).unwrap();
    }
    assert_eq!(&Store::open(&example.dir, Options::default()).unwrap().1, example.whole());
}

/// CRC-32 bit by bit, so that the test does not lean on the crate under the store.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn only_the_owner_can_read_any_of_it() {
    fn check(dir: &Path) {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700, "{}", dir.display());
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                check(&entry.path());
            } else {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", entry.path().display());
            }
        }
    }
    let example = Example::new();
    check(&example.dir);
    flip(&example.dir.join("journal"), 3);
    drop(Store::open(&example.dir, Options::default()).unwrap());
    check(&example.dir);
}

/// Opens the store as somebody else; does nothing unless the test below started it.
#[test]
fn stranger() {
    let Some(dir) = std::env::var_os(STRANGER) else { return };
    println!("answer: {}", Store::open(Path::new(&dir), Options::default()).err().unwrap());
}
const STRANGER: &str = "CROSSTALK_STRANGER_TEST_DIR";

#[test]
fn without_permission_the_error_says_whose_store_it_is() {
    let example = Example::new();
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CROSSTALK_REQUIRE_ALL").is_none(), "this test needs root");
        eprintln!("\n*** SKIPPED: the test of missing permissions needs root ***\n");
        return;
    }
    // The directory itself can be entered: it is the store's own files that are closed.
    for dir in [example.dir.parent().unwrap(), &example.dir] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // A copy that anybody may run, wherever the test was built.
    let program = example.dir.with_file_name("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let run = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", "stranger", "--nocapture"])
        .env(STRANGER, &example.dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(said.contains("no permission to open the lock file") && said.contains("chown"), "{said}");
    assert_eq!(&Store::open(&example.dir, Options::default()).unwrap().1, example.whole());
}

//! What the tests of the store share: homes on disk and in memory, and small helpers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: each test file uses a part of them, and they stop at the first error"
)]

use std::path::{Path, PathBuf};

use crosstalk_storage::{Contents, MemoryDisk, Opened, Options, Store, Tree, WriteSet};

/// Where a store lives in a test. The same tests run on both.
pub enum Home {
    Disk(tempfile::TempDir),
    Memory(MemoryDisk),
}

impl Home {
    pub fn both() -> [Home; 2] {
        [Home::Memory(MemoryDisk::new()), Home::disk()]
    }

    pub fn disk() -> Home {
        Home::Disk(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> PathBuf {
        match self {
            Home::Disk(dir) => dir.path().join("store"),
            Home::Memory(_) => panic!("a store in memory has no directory"),
        }
    }

    pub fn open(&self, options: Options) -> (Store, Contents, Opened) {
        match self {
            Home::Disk(_) => Store::open(&self.dir(), options).unwrap(),
            Home::Memory(disk) => Store::open_memory(disk, options).unwrap(),
        }
    }
}

/// Options with a journal so short that checkpoints are frequent.
pub fn small() -> Options {
    Options { journal_limit: 2048, ..Options::default() }
}

pub fn put(tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> WriteSet {
    let mut set = WriteSet::new();
    set.put(tree, key, value);
    set
}

pub fn delete(tree: Tree, key: impl Into<Vec<u8>>) -> WriteSet {
    let mut set = WriteSet::new();
    set.delete(tree, key);
    set
}

/// Everything the store holds now, read through its own interface.
pub fn all(store: &Store) -> Contents {
    let mut contents = Contents::default();
    for tree in Tree::ALL {
        for (key, value) in store.scan(*tree, b"", usize::MAX).unwrap() {
            contents.apply(&put(*tree, key, value));
        }
    }
    contents
}

/// Copies a directory with everything below it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

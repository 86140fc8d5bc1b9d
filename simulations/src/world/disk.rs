//! The disk of a host: the real store on memory, with a latency; what a crash leaves of a write. *Pure.*

use std::collections::VecDeque;

use crosstalk_storage::{Contents, MemoryDisk, Options, Store, Tree, WriteSet};

use super::dice::Dice;
use super::sabotage::Sabotage;

/// A store and what waits for it.
pub(crate) struct Disk {
    medium: MemoryDisk,
    store: Option<Store>,
    /// What was committed, and so has to be there after any crash.
    model: Contents,
    /// Batches that are not durable, oldest first.
    queue: VecDeque<(u64, WriteSet)>,
    /// How many of them are being written.
    writing: usize,
    /// Milliseconds that a write takes, from and to.
    pub(crate) latency: (u64, u64),
    /// Whether it has no room.
    pub(crate) full: bool,
    /// When it last had room again, virtual milliseconds. The node sees that seconds later.
    pub(crate) roomy_since: u64,
    /// Whether it ever had none.
    pub(crate) was_full: bool,
    /// Whether the core was told so.
    pub(crate) told: bool,
    /// For a sabotage: an older state, and how many commits it is old.
    older: Option<(Contents, u32)>,
}

/// Batches that are durable now.
pub(crate) struct Written {
    /// The last of them.
    pub(crate) batch: u64,
    /// What they wrote.
    pub(crate) sets: Vec<WriteSet>,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new() -> Result<Self, String> {
        let medium = MemoryDisk::new();
        let (store, contents, _) = open(&medium)?;
        Ok(Self {
            medium,
            store: Some(store),
            model: contents,
            queue: VecDeque::new(),
            writing: 0,
            latency: (0, 4),
            full: false,
            roomy_since: 0,
            was_full: false,
            told: false,
            older: None,
        })
    }

    /// What is durable.
    pub(crate) fn contents(&self) -> &Contents {
        &self.model
    }

    /// It is full, or has room again at this time.
    pub(crate) fn set_full(&mut self, full: bool, time: u64) {
        if self.full && !full {
            self.roomy_since = time;
        }
        self.full = full;
    }

    /// Bytes of all that is committed, keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        let entries = Tree::ALL.iter().flat_map(|tree| self.model.tree(*tree));
        entries.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    /// Takes a batch. Returns whether the disk was idle and begins to write.
    pub(crate) fn push(&mut self, batch: u64, set: WriteSet) -> bool {
        self.queue.push_back((batch, set));
        self.begin()
    }

    /// Begins to write all that waits, if anything does and nothing is being written.
    pub(crate) fn begin(&mut self) -> bool {
        if self.writing > 0 || self.queue.is_empty() {
            return false;
        }
        self.writing = self.queue.len();
        true
    }

    /// Milliseconds until the write is done.
    pub(crate) fn wait(&self, dice: &mut Dice) -> u64 {
        dice.between(self.latency.0, self.latency.1)
    }

    /// Tries to write while there is no room: nothing may be kept of what was refused.
    pub(crate) fn refuse(&mut self) -> Result<(), String> {
        let sets: Vec<WriteSet> = self.queue.iter().take(self.writing).map(|(_, set)| set.clone()).collect();
        let store = self.store.as_mut().ok_or("a crashed store was written to")?;
        self.was_full = true;
        self.medium.set_full(true);
        let refused = store.commit(&sets).is_err() || sets.iter().all(WriteSet::is_empty);
        self.medium.set_full(false);
        if refused { Ok(()) } else { Err("a full disk took a commit".to_owned()) }
    }

    /// The write is done.
    pub(crate) fn finish(
        &mut self,
        sabotage: Option<Sabotage>,
        dice: &mut Dice,
    ) -> Result<Option<Written>, String> {
        let done: Vec<_> = self.queue.drain(..std::mem::take(&mut self.writing)).collect();
        let Some(batch) = done.last().map(|(batch, _)| *batch) else { return Ok(None) };
        let mut sets: Vec<WriteSet> = done.into_iter().map(|(_, set)| set).collect();
        match sabotage {
            Some(Sabotage::LoseCommit) if dice.chance(10) => sets.clear(),
            Some(Sabotage::LoseWrite) => sets.iter_mut().for_each(|set| *set = without_a_message(set, dice)),
            _ => {}
        }
        if sabotage == Some(Sabotage::RollBack) {
            self.grow_older();
        }
        self.commit(&sets)?;
        Ok(Some(Written { batch, sets }))
    }

    /// For a sabotage: every twenty commits its state is kept.
    fn grow_older(&mut self) {
        match &mut self.older {
            Some((_, age)) if *age < 20 => *age += 1,
            older => *older = Some((self.model.clone(), 1)),
        }
    }

    fn commit(&mut self, sets: &[WriteSet]) -> Result<(), String> {
        let store = self.store.as_mut().ok_or("a crashed store was written to")?;
        store.commit(sets).map_err(|why| format!("the store refused a commit: {why}"))?;
        store.maintain().map_err(|why| format!("the store's checkpoint failed: {why}"))?;
        sets.iter().for_each(|set| self.model.apply(set));
        Ok(())
    }

    /// The process or the machine ends now. Of the write under way nothing, a torn half or all is left. Returns what
    /// became durable after all.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> Result<Vec<WriteSet>, String> {
        let sets: Vec<WriteSet> = self.queue.drain(..self.writing).map(|(_, set)| set).collect();
        self.queue.clear();
        self.writing = 0;
        self.told = false;
        match dice.below(3) {
            _ if self.full => Ok(Vec::new()),
            0 => Ok(Vec::new()),
            1 => {
                self.commit(&sets)?;
                Ok(sets)
            }
            _ => {
                self.medium.crash_at(0, 0);
                if let Some(store) = &mut self.store {
                    // Fails by design: half of the frame is left in the journal.
                    let _ = store.commit(&sets);
                }
                Ok(Vec::new())
            }
        }
    }

    /// Opens the store again, as a start does.
    pub(crate) fn reopen(&mut self, sabotage: Option<Sabotage>) -> Result<Contents, String> {
        drop(self.store.take());
        self.medium.crash();
        self.medium.restart();
        let (store, contents, _) = open(&self.medium)?;
        self.store = Some(store);
        if contents != self.model {
            return Err("the store does not hold what was committed to it".to_owned());
        }
        match sabotage {
            Some(Sabotage::RollBack) => {
                let older = self.older.take().map(|(older, _)| older).unwrap_or_default();
                self.become_older(older)
            }
            Some(Sabotage::ForgetSessions) => self.forget(Tree::Session),
            Some(_) | None => Ok(contents),
        }
    }

    /// A sabotage: an old back-up is put in place of the store.
    fn become_older(&mut self, older: Contents) -> Result<Contents, String> {
        self.medium = MemoryDisk::new();
        let (mut store, _, _) = open(&self.medium)?;
        let mut set = WriteSet::new();
        for tree in Tree::ALL {
            older.tree(*tree).for_each(|(key, value)| set.put(*tree, key, value));
        }
        store.commit(&[set]).map_err(|why| why.to_string())?;
        self.store = Some(store);
        self.model = older.clone();
        Ok(older)
    }

    /// A sabotage: a whole tree is lost.
    fn forget(&mut self, tree: Tree) -> Result<Contents, String> {
        let mut set = WriteSet::new();
        self.model.tree(tree).for_each(|(key, _)| set.delete(tree, key));
        self.commit(&[set])?;
        Ok(self.model.clone())
    }
}

fn open(medium: &MemoryDisk) -> Result<(Store, Contents, crosstalk_storage::Opened), String> {
    Store::open_memory(medium, Options::default()).map_err(|why| format!("the store does not open: {why}"))
}

/// A sabotage: now and then a message that was to be kept is not.
fn without_a_message(set: &WriteSet, dice: &mut Dice) -> WriteSet {
    let mut left = WriteSet::new();
    for (tree, key, value) in set.iter() {
        match value {
            Some(_) if matches!(tree, Tree::Outbox | Tree::Inbox) && dice.chance(10) => {}
            Some(value) => left.put(tree, key, value),
            None => left.delete(tree, key),
        }
    }
    left
}

//! The database of the memory twin: what was not flushed is lost in a crash.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::{Engine, EngineError, LeaveOut, Op, Visit};
use crate::Tree;
use crate::digest::Mark;
use crate::medium::memory::{Fault, MemoryDisk};

type Entries = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// What one database holds, in memory's disk.
#[derive(Clone, Default)]
pub(crate) struct State {
    entries: Entries,
    mark: Option<Mark>,
    /// How to take back what was not flushed, newest last.
    undo: Vec<Undo>,
}

#[derive(Clone)]
enum Undo {
    Entry((Tree, Vec<u8>), Option<Vec<u8>>),
    Mark(Option<Mark>),
}

impl State {
    fn set(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) {
        let key = (tree, key.to_vec());
        let old = match value {
            Some(value) => self.entries.insert(key.clone(), value.to_vec()),
            None => self.entries.remove(&key),
        };
        self.undo.push(Undo::Entry(key, old));
    }

    /// Takes back what was not flushed, but for the first `keep` changes.
    pub(crate) fn crash(&mut self, keep: usize) {
        while self.undo.len() > keep {
            match self.undo.pop() {
                Some(Undo::Entry(key, Some(value))) => drop(self.entries.insert(key, value)),
                Some(Undo::Entry(key, None)) => drop(self.entries.remove(&key)),
                Some(Undo::Mark(mark)) => self.mark = mark,
                None => return,
            }
        }
        self.undo.clear();
    }

    /// Loses an entry without a trace: what a bad page does.
    #[cfg(test)]
    pub(crate) fn rot(&mut self, tree: Tree, key: &[u8]) -> bool {
        self.entries.remove(&(tree, key.to_vec())).is_some()
    }
}

/// An open database of memory's disk.
pub(crate) struct MemoryEngine {
    disk: MemoryDisk,
    generation: u64,
}

impl MemoryEngine {
    pub(crate) fn open(disk: MemoryDisk, generation: u64) -> Self {
        disk.with(|state| {
            state.engines.entry(generation).or_default();
        });
        Self { disk, generation }
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), EngineError> {
        self.disk.with(|state| match state.step() {
            Fault::None => {
                change(state.engines.entry(self.generation).or_default());
                Ok(())
            }
            Fault::Refuse(error) | Fault::Crash(error) => Err(EngineError::System(error)),
        })
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.disk.with(|state| look(state.engines.entry(self.generation).or_default()))
    }
}

impl Engine for MemoryEngine {
    fn apply(&self, ops: &[Op<'_>]) -> Result<(), EngineError> {
        self.change(|state| {
            for (tree, key, value) in ops {
                state.set(*tree, key, *value);
            }
        })
    }

    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.look(|state| state.entries.get(&(tree, key.to_vec())).cloned()))
    }

    fn scan(
        &self,
        tree: Tree,
        start: &[u8],
        leave_out: LeaveOut<'_>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        // A copy: the visitor may come back to this disk.
        let entries: Vec<(Vec<u8>, Vec<u8>)> = self.look(|state| {
            let from = Bound::Included((tree, start.to_vec()));
            let of_tree =
                state.entries.range((from, Bound::Unbounded)).take_while(|((of, _), _)| *of == tree);
            of_tree.map(|((_, key), value)| (key.clone(), value.clone())).collect()
        });
        for (key, value) in entries.into_iter().filter(|(key, _)| !leave_out(key)) {
            if visit(&key, &value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn set_mark(&self, mark: &Mark) -> Result<(), EngineError> {
        self.change(|state| {
            let old = state.mark.replace(mark.clone());
            state.undo.push(Undo::Mark(old));
        })
    }

    fn mark(&self) -> Result<Option<Mark>, EngineError> {
        Ok(self.look(|state| state.mark.clone()))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.change(|state| state.undo.clear())
    }

    fn size(&self) -> u64 {
        self.look(|state| {
            state.entries.iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum()
        })
    }
}

//! What survives a power cut: journal, database and snapshot behind one synchronous store.
//!
//! A [`WriteSet`] is *committed* when [`Store::commit`] returns `Ok`: it was appended to the journal and
//! fsynced. Committed changes wait in an overlay in memory, where a queue's puts and deletes cancel out,
//! and reach the database at a checkpoint, which also writes a snapshot and starts the journal anew.
//!
//! ```
//! use crosstalk_storage::{Opened, Options, Store, Tree, WriteSet};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let dir = home.path().join("store");
//! let (mut store, contents, opened) = Store::open(&dir, Options::default())?;
//! assert_eq!((opened, contents.len()), (Opened::Fresh, 0));
//!
//! let mut set = WriteSet::new();
//! set.put(Tree::Outbox, "juliet/1", "a sealed message");
//! set.put(Tree::Roster, "juliet", "both");
//! store.commit(&[set])?; // from here on it survives
//! store.maintain()?; // when idle
//!
//! let (store, contents, _) = store.crash()?; // without any farewell
//! assert_eq!(contents.get(Tree::Roster, b"juliet"), Some(b"both".as_slice()));
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | file | owns |
//! | --- | --- |
//! | `tree` | the table of trees; below it the stored shape of each |
//! | `write` | write-sets and contents |
//! | `store` | commit, reads, figures |
//! | `checkpoint` | pending changes into database, snapshot, new journal; compact rewrite |
//! | `open`, `salvage` | reading back; judging damage tree by tree; rebuilding |
//! | `journal`, `snapshot`, `format`, `digest` | the file formats |
//! | `pending` | the overlay |
//! | `engine` (`sled`, `memory`) | the seam to the database |
//! | `medium` (`disk`, `memory`) | the seam to files |
//! | `codec` | versioned values |
//! | `lock`, `error`, `report` | one process per store; what goes wrong; what is told |
//!
//! # Invariants
//!
//! - Database (at its mark) plus the journal's frames behind that mark is the committed state, at any
//!   moment; so is the snapshot plus the journal, for the trees in [`Tree::in_snapshot`].
//! - Whatever is read at opening is proven by digest, per tree, or reported as [`Opened::Rebuilt`]. What
//!   no checksum can show is a journal that lost whole frames at its end, exactly between two frames.
//! - Only `engine/sled.rs` names sled. Nothing here reads a clock or runs a timer.
//! - Nobody but the owner can read a file of the store.

mod checkpoint;
mod codec;
mod digest;
mod engine;
mod error;
mod format;
mod journal;
mod lock;
mod medium;
mod open;
mod pending;
mod report;
mod salvage;
mod snapshot;
mod store;
mod write;

pub mod tree;

pub use checkpoint::{Checkpoint, Written};
pub use codec::{CodecError, Stored, decode, encode};
pub use engine::Rest;
pub use error::{CheckpointError, CommitError, OpenError, ReadError};
pub use format::FORMAT_VERSION;
pub use medium::memory::MemoryDisk;
pub use report::{Opened, Options, Rebuilt, Source, Stats};
pub use store::{MAX_KEY, MAX_VALUE, Store};
pub use tree::Tree;
pub use write::{Contents, Entry, WriteSet};

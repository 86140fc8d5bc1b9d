//! The whole database in one file: its back-up, and the way from one kind of database to the other.
//!
//! `CTAUTHOR` ‖ format u32 ‖ version u32 ‖ entries ‖ 0 ‖ how many u64 ‖ SHA-256 of all before. An entry is the number of its
//! tree (one byte, never 0) ‖ length of the key u32 ‖ length of the value u32 ‖ key ‖ value. Integers are little-endian.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crosstalk_storage::{MAX_KEY, MAX_VALUE, Tree, WriteSet};
use sha2::{Digest, Sha256};

use super::engine::Engine;
use super::{DatabaseError, pages, versions};

const MAGIC: &[u8; 8] = b"CTAUTHOR";
/// The format of the file, whatever the version of what is in it.
const FORMAT: u32 = 1;
/// Where stands, in [`Tree::Meta`], that a database is being restored: what is there may go.
const RESTORING: &[u8] = b"restoring";
/// Bytes that are written together.
const BATCH: usize = 1 << 20;

/// Why there is no back-up, or none is restored.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no back-up, or not whole.
    #[error("{path} is no whole back-up ({what}): nothing was restored", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// There is something already.
    #[error(
        "there is a domain in the database already, nothing was restored: use another data directory, or another database of \
         PostgreSQL"
    )]
    NotEmpty,
}

/// What is in a back-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How many things.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes all there is to a new file, as it is at one moment.
pub(super) fn write(engine: &dyn Engine, path: &Path) -> Result<Contents, DatabaseError> {
    let failed = |source| ArchiveError::File { what: "write", path: path.to_path_buf(), source };
    // Whoever has it can try passwords.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = made.map_err(failed).map_err(DatabaseError::from).and_then(|file| {
        let written = write_to(engine, file, &failed);
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    });
    engine.rest();
    written
}

fn write_to(
    engine: &dyn Engine,
    file: File,
    failed: &dyn Fn(io::Error) -> ArchiveError,
) -> Result<Contents, DatabaseError> {
    let mut out = Summed { inner: BufWriter::new(file), sum: Sha256::new() };
    let mut contents = Contents::default();
    let head = [&MAGIC[..], &FORMAT.to_le_bytes(), &versions::newest().to_le_bytes()].concat();
    out.write_all(&head).map_err(failed)?;
    for tree in versions::trees() {
        pages(engine, tree, (&[], &[]), |key, value| {
            contents.entries += 1;
            contents.bytes += (key.len() + value.len()) as u64;
            let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
            let head = [&[tree.id()][..], &length(key), &length(value)].concat();
            [&head, key, value].into_iter().try_for_each(|part| out.write_all(part)).map_err(failed)?;
            Ok(())
        })?;
    }
    out.write_all(&[0]).and_then(|()| out.write_all(&contents.entries.to_le_bytes())).map_err(failed)?;
    let sum = out.sum.finalize();
    out.inner.write_all(&sum).map_err(failed)?;
    let file = out.inner.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(contents)
}

/// Puts all that is in a file into an empty database; the domain last, so that what was cut off serves nothing and can
/// be begun again.
pub(super) fn restore(engine: &dyn Engine, path: &Path) -> Result<Contents, DatabaseError> {
    let version = read(path, &mut |_, _, _| Ok(()))?.1;
    if version > versions::newest() {
        return Err(DatabaseError::Newer { found: version, known: versions::newest() });
    }
    make_room(engine)?;
    let mut writes = WriteSet::new();
    let mut last = WriteSet::new();
    last.delete(Tree::Meta, RESTORING);
    let (contents, _) = read(path, &mut |tree, key, value| {
        let held = matches!(tree, Tree::Meta | Tree::ServedDomain);
        if held { &mut last } else { &mut writes }.put(tree, key, value);
        if writes.bytes() >= BATCH {
            engine.commit(std::mem::take(&mut writes))?;
        }
        Ok(())
    })?;
    engine.commit(writes)?;
    engine.commit(last)?;
    versions::raise(engine)?;
    Ok(contents)
}

fn make_room(engine: &dyn Engine) -> Result<(), DatabaseError> {
    let begun = engine.get(Tree::Meta, &[RESTORING.to_vec()])?.pop().flatten().is_some();
    let mut gone = WriteSet::new();
    for tree in versions::trees().filter(|tree| *tree != Tree::Meta) {
        if !begun && engine.count(tree)? > 0 {
            engine.rest();
            return Err(ArchiveError::NotEmpty.into());
        }
        pages(engine, tree, (&[], &[]), |key, _| {
            gone.delete(tree, key);
            Ok(())
        })?;
    }
    gone.put(Tree::Meta, RESTORING, [1]);
    engine.commit(gone)
}

/// Takes one entry.
type Take<'a> = &'a mut dyn FnMut(Tree, Vec<u8>, Vec<u8>) -> Result<(), DatabaseError>;

/// Reads a file; what is in it, and the version of the database that it was made of. What was taken counts only if this
/// ends well.
fn read(path: &Path, take: Take<'_>) -> Result<(Contents, u32), DatabaseError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "it is cut off"),
        _ => ArchiveError::File { what: "read", path: path.to_path_buf(), source },
    };
    let file = File::open(path).map_err(failed)?;
    let mut from = Summed { inner: BufReader::new(file), sum: Sha256::new() };
    if from.some(MAGIC.len()).map_err(failed)? != MAGIC {
        return Err(damaged(path, "it is something else").into());
    }
    if from.number().map_err(failed)? != FORMAT {
        return Err(damaged(path, "a newer program has made it").into());
    }
    let version = from.number().map_err(failed)?;
    let mut contents = Contents::default();
    loop {
        let tree = from.some(1).map_err(failed)?[0];
        if tree == 0 {
            break;
        }
        let mut length = || Ok(usize::try_from(from.number()?).unwrap_or(usize::MAX));
        let lengths = length().and_then(|key| Ok((key, length()?)));
        let (key, value) = lengths.map_err(failed)?;
        if key > MAX_KEY || value > MAX_VALUE {
            return Err(damaged(path, "it has been changed").into());
        }
        let (key, value) = (from.some(key).map_err(failed)?, from.some(value).map_err(failed)?);
        contents.entries += 1;
        contents.bytes += (key.len() + value.len()) as u64;
        // Of a newer version, which is refused by whoever asked.
        if let Some(tree) = Tree::from_id(tree) {
            take(tree, key, value)?;
        }
    }
    let entries = from.some(8).map_err(failed)?;
    let sum = from.sum.clone().finalize();
    let mut told = [0; 32];
    from.inner.read_exact(&mut told).map_err(failed)?;
    if sum[..] != told || entries != contents.entries.to_le_bytes() {
        return Err(damaged(path, "it has been changed").into());
    }
    Ok((contents, version))
}

fn damaged(path: &Path, what: &'static str) -> ArchiveError {
    ArchiveError::Damaged { path: path.to_path_buf(), what }
}

/// Counts a digest of what passes.
struct Summed<T> {
    inner: T,
    sum: Sha256,
}

impl<T: Write> Summed<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Summed<T> {
    fn some(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.inner.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.some(4)?);
        Ok(u32::from_le_bytes(bytes))
    }
}

//! The file of a back-up: of the database of a domain's server, or of a node.
//!
//! Kind (8 bytes) ‖ format u32 ‖ version u32 ‖ entries ‖ 0 ‖ how many u64 ‖ SHA-256 of all before. An entry is a number (one
//! byte, never 0; that of a tree, and in the file of a node 255 for a file beside the store) ‖ length of the key u32 ‖ length of
//! the value u32 ‖ key ‖ value. In the file of a node a length of 2³²-1 takes the key away again, as later entries count.
//! Integers are little-endian.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crosstalk_storage::{MAX_KEY, MAX_VALUE};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The format of the file, whatever the version of what is in it.
const FORMAT: u32 = 1;
/// Bytes of a kind.
const MARK: usize = 8;
/// The length of a value that is no value.
const GONE: u32 = u32::MAX;
/// Bytes that are written at once.
const AT_ONCE: usize = 64 << 10;

/// Of what a file is the back-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The database of a domain's server.
    Server,
    /// A node.
    Node,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Server, Self::Node];

    const fn mark(self) -> &'static [u8; MARK] {
        match self {
            Self::Server => b"CTAUTHOR",
            Self::Node => b"CTNODE\0\0",
        }
    }

    const fn instead(self) -> &'static str {
        match self {
            Self::Server => {
                "the database of a domain's server, which `crosstalk authority restore` puts back"
            }
            Self::Node => "a node, which `crosstalk restore` puts back",
        }
    }
}

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
    /// It is the back-up of something else.
    #[error("{path} is the back-up of {what}: nothing was restored", path = path.display())]
    OtherKind {
        /// Which.
        path: PathBuf,
        /// Of what, and how to restore it.
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

/// Writes a new file, which nobody but its owner may read. Dropped before its end it takes the file away again.
pub struct Writer {
    path: PathBuf,
    /// What is in the file may be secret.
    buffer: Zeroizing<Vec<u8>>,
    file: File,
    sum: Sha256,
    contents: Contents,
    whole: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({})", self.path.display())
    }
}

impl Writer {
    /// Begins a file of a kind, for what has this version.
    ///
    /// # Errors
    /// When there is one of that name already, or the system refuses.
    pub fn create(path: &Path, kind: Kind, version: u32) -> Result<Self, ArchiveError> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file =
            made.map_err(|source| ArchiveError::File { what: "write", path: path.to_path_buf(), source })?;
        let buffer = Zeroizing::new(Vec::with_capacity(2 * AT_ONCE));
        let (sum, contents) = (Sha256::new(), Contents::default());
        let mut writer = Self { path: path.to_path_buf(), buffer, file, sum, contents, whole: false };
        writer.write(&[kind.mark(), &FORMAT.to_le_bytes()[..], &version.to_le_bytes()])?;
        Ok(writer)
    }

    /// Adds an entry; without a value it takes an earlier one away.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, number: u8, key: &[u8], value: Option<&[u8]>) -> Result<(), ArchiveError> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(GONE);
        let (key_length, value_length) = (length(key), value.map_or(GONE, length));
        let value = value.unwrap_or_default();
        self.contents.entries += 1;
        self.contents.bytes += (key.len() + value.len()) as u64;
        self.write(&[&[number], &key_length.to_le_bytes(), &value_length.to_le_bytes(), key, value])
    }

    /// Ends the file and makes it durable.
    ///
    /// # Errors
    /// When that fails; there is no file then.
    pub fn finish(mut self) -> Result<Contents, ArchiveError> {
        let entries = self.contents.entries.to_le_bytes();
        self.write(&[&[0], &entries])?;
        let sum = self.sum.clone().finalize();
        self.write(&[&sum])?;
        self.flush()?;
        let saved = self.file.sync_all().and_then(|()| sync_parent(&self.path));
        saved.map_err(|source| self.failed(source))?;
        self.whole = true;
        Ok(self.contents)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), ArchiveError> {
        for part in parts {
            self.sum.update(part);
            for piece in part.chunks(AT_ONCE) {
                self.buffer.extend_from_slice(piece);
                if self.buffer.len() >= AT_ONCE {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        ArchiveError::File { what: "write", path: self.path.clone(), source }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.whole {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Takes one entry: number, key, value or its absence.
pub type Take<'a, E> = &'a mut dyn FnMut(u8, Vec<u8>, Option<Zeroizing<Vec<u8>>>) -> Result<(), E>;

/// Reads a file; what is in it, and the version of what it was made of. What was taken counts only if this ends well.
///
/// # Errors
/// When it is no whole back-up of that kind, cannot be read, or what `take` fails with.
pub fn read<E: From<ArchiveError>>(path: &Path, kind: Kind, take: Take<'_, E>) -> Result<(Contents, u32), E> {
    let mut from = Reader::open(path, kind)?;
    let version = from.number()?;
    let mut contents = Contents::default();
    while let Some((number, key, value)) = from.entry()? {
        contents.entries += 1;
        contents.bytes += (key.len() + value.as_ref().map_or(0, |value| value.len())) as u64;
        take(number, key, value)?;
    }
    from.end(&contents)?;
    Ok((contents, version))
}

/// Says that a file is not what it should be.
pub fn damaged(path: &Path, what: &'static str) -> ArchiveError {
    ArchiveError::Damaged { path: path.to_path_buf(), what }
}

type ReadEntry = (u8, Vec<u8>, Option<Zeroizing<Vec<u8>>>);

struct Reader<'a> {
    path: &'a Path,
    kind: Kind,
    inner: BufReader<File>,
    sum: Sha256,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path, kind: Kind) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(|source| failed(path, source))?;
        let mut reader = Self { path, kind, inner: BufReader::new(file), sum: Sha256::new() };
        let mark = reader.some(MARK)?;
        match Kind::ALL.into_iter().find(|known| mark[..] == known.mark()[..]) {
            Some(found) if found == kind => {}
            Some(other) => {
                return Err(ArchiveError::OtherKind { path: path.to_path_buf(), what: other.instead() });
            }
            None => return Err(damaged(path, "it is something else")),
        }
        match reader.number()? {
            FORMAT => Ok(reader),
            _ => Err(damaged(path, "a newer program has made it")),
        }
    }

    /// The next entry, if there is one.
    fn entry(&mut self) -> Result<Option<ReadEntry>, ArchiveError> {
        let number = self.some(1)?[0];
        if number == 0 {
            return Ok(None);
        }
        let (key, value) = (self.number()?, self.number()?);
        let gone = value == GONE && self.kind == Kind::Node;
        let length = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
        if length(key) > MAX_KEY || !gone && length(value) > MAX_VALUE {
            return Err(damaged(self.path, "it has been changed"));
        }
        let key = self.some(length(key))?.to_vec();
        let value = if gone { None } else { Some(self.some(length(value))?) };
        Ok(Some((number, key, value)))
    }

    fn end(mut self, contents: &Contents) -> Result<(), ArchiveError> {
        let entries = self.some(8)?;
        let sum = self.sum.clone().finalize();
        let told = self.some(sum.len())?;
        let mut more = [0];
        let more = self.inner.read(&mut more).map_err(|source| failed(self.path, source))?;
        if sum[..] != told[..] || entries[..] != contents.entries.to_le_bytes()[..] || more > 0 {
            return Err(damaged(self.path, "it has been changed"));
        }
        Ok(())
    }

    fn some(&mut self, length: usize) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
        let mut bytes = Zeroizing::new(vec![0; length]);
        self.inner.read_exact(&mut bytes).map_err(|source| failed(self.path, source))?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, ArchiveError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.some(4)?);
        Ok(u32::from_le_bytes(bytes))
    }
}

fn failed(path: &Path, source: io::Error) -> ArchiveError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "it is cut off"),
        _ => ArchiveError::File { what: "read", path: path.to_path_buf(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(path: &Path, kind: Kind) {
        let mut writer = Writer::create(path, kind, 3).expect("made");
        writer.put(2, b"key", Some(b"value")).expect("written");
        if kind == Kind::Node {
            writer.put(2, b"key", None).expect("written");
        }
        writer.finish().expect("whole");
    }

    type Taken = (u8, Vec<u8>, Option<Vec<u8>>);

    fn taken(path: &Path, kind: Kind) -> Result<Vec<Taken>, ArchiveError> {
        let mut taken = Vec::new();
        read(path, kind, &mut |number, key, value| {
            taken.push((number, key, value.map(|value| value.to_vec())));
            Ok::<(), ArchiveError>(())
        })?;
        Ok(taken)
    }

    #[test]
    fn golden_bytes() {
        let dir = tempfile::tempdir().expect("dir");
        for (kind, head, entries) in [
            (Kind::Server, "4354415554484f52", "0203000000050000006b657976616c7565000100000000000000"),
            (
                Kind::Node,
                "43544e4f44450000",
                "0203000000050000006b657976616c75650203000000ffffffff6b6579000200000000000000",
            ),
        ] {
            let path = dir.path().join(head);
            example(&path, kind);
            let bytes = std::fs::read(&path).expect("read");
            let expected = format!("{head}0100000003000000{entries}");
            let (body, sum) = bytes.split_at(bytes.len() - 32);
            assert_eq!(crate::core::hex(body), expected);
            assert_eq!(sum, &Sha256::digest(body)[..]);
        }
    }

    #[test]
    fn each_bit_and_each_byte_counts() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, broken) = (dir.path().join("whole"), dir.path().join("broken"));
        example(&path, Kind::Node);
        let entry = (2, b"key".to_vec());
        let expected = [(entry.0, entry.1.clone(), Some(b"value".to_vec())), (entry.0, entry.1, None)];
        assert_eq!(taken(&path, Kind::Node).expect("whole"), expected);
        let whole = std::fs::read(&path).expect("read");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&broken, &bytes).expect("written");
            assert!(taken(&broken, Kind::Node).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            std::fs::write(&broken, &whole[..length]).expect("written");
            let error = taken(&broken, Kind::Node).expect_err("cut off").to_string();
            assert!(error.contains("cut off"), "{length}: {error}");
        }
        std::fs::write(&broken, [&whole[..], b"more"].concat()).expect("written");
        assert!(taken(&broken, Kind::Node).is_err());
    }

    #[test]
    fn one_kind_is_not_taken_for_the_other() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("server");
        example(&path, Kind::Server);
        let error = taken(&path, Kind::Node).expect_err("another kind").to_string();
        assert!(error.contains("`crosstalk authority restore`"), "{error}");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_written_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("file");
        drop(Writer::create(&path, Kind::Node, 3).expect("made"));
        assert!(!path.exists());
        example(&path, Kind::Node);
        assert!(Writer::create(&path, Kind::Node, 3).is_err());
        assert!(taken(&path, Kind::Node).is_ok());
    }
}

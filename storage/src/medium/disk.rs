//! A store in a directory: `journal`, `snapshot`, `db-<generation>/`, `lock`, `damaged-<n>/`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{Fill, MAX_ASIDE, Medium, Part, WriteError};
use crate::engine::sled::SledEngine;
use crate::engine::{Engine, EngineError};
use crate::lock::Lock;

const ENGINE: &str = "db-";
const ASIDE: &str = "damaged-";
const ASIDE_NEW: &str = "damaged.new";

/// The directory of a store, locked for this process.
pub(crate) struct Disk {
    dir: PathBuf,
    cache: u64,
    journal: Mutex<Option<File>>,
    fsyncs: AtomicU64,
    _lock: Lock,
}

impl Disk {
    pub(crate) fn new(dir: &Path, cache: u64, lock: Lock) -> Self {
        Self { dir: dir.to_owned(), cache, journal: Mutex::default(), fsyncs: AtomicU64::new(0), _lock: lock }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        file.sync_data()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        File::open(&self.dir)?.sync_all()
    }

    /// The journal, opened for writing on first use.
    fn journal(&self) -> io::Result<File> {
        let mut journal = self.open_journal();
        let file = match journal.take() {
            Some(file) => file,
            None => OpenOptions::new().write(true).open(self.path(Part::Journal))?,
        };
        let handle = file.try_clone()?;
        *journal = Some(file);
        Ok(handle)
    }

    fn open_journal(&self) -> MutexGuard<'_, Option<File>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers behind `prefix` in names of this directory, in order.
    fn numbered(&self, prefix: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            numbers.extend(
                name.to_str()
                    .and_then(|name| name.strip_prefix(prefix))
                    .and_then(|number| number.parse::<u64>().ok()),
            );
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl Medium for Disk {
    fn read(&self, part: Part) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(part)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, part: Part, fill: Fill<'_>) -> Result<(), WriteError> {
        let path = self.path(part);
        let new = path.with_extension("new");
        let written = (|| {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            let mut out = BufWriter::new(&file);
            fill(&mut out)?;
            out.flush()?;
            drop(out);
            self.sync(&file)?;
            fs::rename(&new, &path)
        })();
        if let Err(error) = written {
            // The space may be what is short; a leftover is overwritten next time.
            let _ = fs::remove_file(&new);
            return Err(WriteError::Refused(error));
        }
        if part == Part::Journal {
            *self.open_journal() = None;
        }
        self.sync_dir().map_err(WriteError::Unsure)
    }

    fn cut_journal(&self, len: u64) -> io::Result<()> {
        let file = self.journal()?;
        file.set_len(len)?;
        self.sync(&file)
    }

    fn append(&self, at: u64, frame: &[u8]) -> Result<(), WriteError> {
        let file = self.journal().map_err(WriteError::Refused)?;
        if let Err(error) = file.write_all_at(frame, at) {
            return Err(match self.cut_journal(at) {
                Ok(()) => WriteError::Refused(error),
                Err(_) => WriteError::Unsure(error),
            });
        }
        // After a failed fsync the kernel may call unwritten pages clean: this file is not trusted again.
        self.sync(&file).map_err(|error| {
            let _ = self.cut_journal(at);
            WriteError::Unsure(error)
        })
    }

    fn engine(&self, generation: u64) -> Result<Arc<dyn Engine>, EngineError> {
        let path = self.engine_path(generation);
        let new = !path.exists();
        let engine = SledEngine::open(&path, self.cache)?;
        if new {
            self.sync_dir()?;
        }
        Ok(Arc::new(engine))
    }

    fn generations(&self) -> io::Result<Vec<u64>> {
        self.numbered(ENGINE)
    }

    fn remove_engine(&self, generation: u64) -> io::Result<()> {
        remove_dir(&self.engine_path(generation))
    }

    fn begin_aside(&self, report: &str) -> io::Result<()> {
        let aside = self.dir.join(ASIDE_NEW);
        remove_dir(&aside)?;
        fs::DirBuilder::new().mode(0o700).create(&aside)?;
        for part in [Part::Journal, Part::Snapshot] {
            let path = self.path(part);
            if let Some(name) = path.file_name().filter(|_| path.exists()) {
                // The store replaces these files and never changes a replaced one: a link is a copy.
                fs::hard_link(&path, aside.join(name))
                    .or_else(|_| fs::copy(&path, aside.join(name)).map(drop))?;
            }
        }
        let mut out =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside.join("report"))?;
        out.write_all(report.as_bytes())?;
        out.sync_all()?;
        File::open(&aside)?.sync_all()?;
        self.sync_dir()
    }

    fn aside_begun(&self) -> bool {
        self.dir.join(ASIDE_NEW).exists()
    }

    fn finish_aside(&self, generations: &[u64]) -> io::Result<(PathBuf, Vec<PathBuf>)> {
        let begun = self.dir.join(ASIDE_NEW);
        for generation in generations {
            let from = self.engine_path(*generation);
            if let Some(name) = from.file_name().filter(|_| from.exists()) {
                fs::rename(&from, begun.join(name))?;
            }
        }
        File::open(&begun)?.sync_all()?;
        let mut kept = self.numbered(ASIDE)?;
        let next = kept.last().map_or(1, |last| last.saturating_add(1));
        let aside = self.dir.join(format!("{ASIDE}{next}"));
        fs::rename(&begun, &aside)?;
        self.sync_dir()?;
        kept.push(next);
        let mut removed = Vec::new();
        for number in kept.iter().take(kept.len().saturating_sub(MAX_ASIDE)) {
            let old = self.dir.join(format!("{ASIDE}{number}"));
            remove_dir(&old)?;
            removed.push(old);
        }
        Ok((aside, removed))
    }

    fn free(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn modified(&self, part: Part) -> Option<SystemTime> {
        fs::metadata(self.path(part)).and_then(|metadata| metadata.modified()).ok()
    }

    fn path(&self, part: Part) -> PathBuf {
        self.dir.join(match part {
            Part::Journal => "journal",
            Part::Snapshot => "snapshot",
        })
    }

    fn engine_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{ENGINE}{generation}"))
    }

    fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Creates the directory of a store durably, readable by its owner only.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

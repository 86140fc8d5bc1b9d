//! One process per store: an advisory lock on the file `lock`, which names its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

/// Held until it is dropped, or the process ends in whatever way.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the store in `dir`.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let failed = |source| OpenError::io(&path, "open the lock file", source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Without a readable number the message says "another process".
                let _ = (&mut file).take(20).read_to_string(&mut text);
                return Err(OpenError::Locked { path, pid: text.trim().parse().ok() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // The number is a courtesy: on a full disk the store still opens.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

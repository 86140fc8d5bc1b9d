//! The Unix socket of a running node: takes request lines, answers each, bounded in size, number and time.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::service::Service;
use super::{MAX_REQUEST, Response, SOCKET};

/// Connections served at once; more wait in the system's queue.
const CONNECTIONS: usize = 16;
/// A connection that says nothing is closed after this.
const IDLE: Duration = Duration::from_secs(30);
/// Longest path of a Unix socket on Linux, bytes.
const LONGEST_PATH: usize = 107;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system allows no socket at such a long path.
    #[error("the path {path} is longer than {LONGEST_PATH} bytes, too long for a socket: choose a data directory with a shorter path", path = .0.display())]
    PathTooLong(PathBuf),
    /// The system refuses.
    #[error("cannot open the socket {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the socket in the data directory. The caller holds the store's lock, so a socket left there is a dead one.
///
/// # Errors
/// When the path is too long or the system refuses.
pub fn open(data: &Path) -> Result<UnixListener, SocketError> {
    let path = data.join(SOCKET);
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(SocketError::PathTooLong(path));
    }
    let bind = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|source| SocketError::Io { path: path.clone(), source })
}

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, service: Service) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &service).await {
                        tracing::debug!("a command line went away: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the admin socket: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, service: &Service) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Zeroizing::new(Vec::with_capacity(256));
        let limit = u64::try_from(MAX_REQUEST).unwrap_or(u64::MAX);
        let read = (&mut reader).take(limit);
        tokio::pin!(read);
        if timeout(IDLE, read.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let response = match serde_json::from_slice(&line) {
            Ok(request) if whole => service.execute(request).await,
            Ok(_) | Err(_) if !whole => {
                Response::Failed(format!("the request has more than {MAX_REQUEST} bytes"))
            }
            Ok(_) => return Ok(()),
            Err(error) => Response::Failed(format!(
                "the request is not understood ({error}): the command line and the node are of different versions"
            )),
        };
        let mut text = Zeroizing::new(serde_json::to_vec(&response)?);
        text.push(b'\n');
        writer.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

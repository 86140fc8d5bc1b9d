//! The command line's side of the Unix socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{MAX_RESPONSE, Request, Response, SOCKET};

/// How long a node may take to answer, with a slow disk and Argon2 in between.
const PATIENCE: Duration = Duration::from_secs(60);
/// And to write all it has to a slow stick.
const PATIENCE_FOR_A_BACK_UP: Duration = Duration::from_secs(3_600);

/// Why a running node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not answer.
    #[error("the node that runs in this data directory does not answer ({0}): see its log, or restart it")]
    Io(#[from] io::Error),
    /// It answers something else.
    #[error(
        "the node's answer is not understood ({0}): the running node and this program are of different versions"
    )]
    Answer(#[from] serde_json::Error),
}

/// A connection to a running node.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the node that runs in `data`, if one does.
    pub fn connect(data: &Path) -> Option<Self> {
        let stream = UnixStream::connect(data.join(SOCKET)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self { stream: BufReader::new(stream) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// When the node does not answer, or in a way that this program does not know.
    pub fn ask(&mut self, request: &Request) -> Result<Response, AskError> {
        let mut line = Zeroizing::new(serde_json::to_vec(request)?);
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let patience = match request {
            Request::BackUp { .. } => PATIENCE_FOR_A_BACK_UP,
            _ => PATIENCE,
        };
        self.stream.get_mut().set_read_timeout(Some(patience))?;
        let mut answer = Zeroizing::new(Vec::new());
        (&mut self.stream).take(MAX_RESPONSE).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

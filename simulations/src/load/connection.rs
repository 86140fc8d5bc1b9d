//! Owns one non-blocking TCP connection with its unread rest and its unsent bytes.

use super::poll::Poll;
use super::scanner::MAX_STANZA;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// Unsent bytes above which no message is added; answers to the server may still be.
pub const OUT_LIMIT: usize = 256 * 1024;

/// A buffer that all connections share while they read: room for a cut stanza and one read.
#[derive(Debug)]
pub struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; MAX_STANZA + 2 * READ])
    }
}

impl Scratch {
    /// The first `length` bytes.
    #[must_use]
    pub fn get(&self, length: usize) -> &[u8] {
        self.0.get(..length).unwrap_or_default()
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes at the start of the scratch, those kept from before included.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other side closed.
    Closed,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    token: usize,
    kept: Vec<u8>,
    /// Bytes to send; append here, then [`Connection::flush`].
    pub out: Vec<u8>,
    sent: usize,
    waits_for_room: bool,
}

impl Connection {
    /// Connects (at most 10 s) and has `poll` watch it as `token`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn open(address: SocketAddr, token: usize, poll: &Poll) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        Self::adopt(socket, token, poll)
    }

    /// Takes an open socket over.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn adopt(socket: TcpStream, token: usize, poll: &Poll) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        poll.add(&socket, token)?;
        Ok(Self { socket, token, kept: Vec::new(), out: Vec::new(), sent: 0, waits_for_room: false })
    }

    /// Reads once into `scratch`, behind what was kept.
    ///
    /// # Errors
    /// Whatever the kernel says, except "would block" and interruption.
    pub fn receive(&mut self, scratch: &mut Scratch) -> io::Result<Received> {
        let kept = self.kept.len();
        let full = || io::Error::new(ErrorKind::OutOfMemory, "more than a stanza kept");
        scratch.0.get_mut(..kept).ok_or_else(full)?.copy_from_slice(&self.kept);
        let room = scratch.0.get_mut(kept..kept + READ).ok_or_else(full)?;
        match self.socket.read(room) {
            Ok(0) => Ok(Received::Closed),
            Ok(read) => Ok(Received::Bytes(kept + read)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Received::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps what has not been used of the bytes last received, for the next read.
    pub fn keep(&mut self, rest: &[u8]) {
        self.kept.clear();
        self.kept.extend_from_slice(rest);
    }

    /// Unsent bytes.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Writes as much as the socket takes; the rest goes when `poll` says so.
    ///
    /// # Errors
    /// Whatever the kernel says, except "would block".
    pub fn flush(&mut self, poll: &Poll) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.compact();
                    return self.watch(poll, true);
                }
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        self.watch(poll, false)
    }

    /// Closes and forgets.
    pub fn close(self, poll: &Poll) {
        poll.remove(&self.socket);
    }

    fn compact(&mut self) {
        if self.sent > OUT_LIMIT / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn watch(&mut self, poll: &Poll, wanted: bool) -> io::Result<()> {
        if self.waits_for_room != wanted {
            poll.want_write(&self.socket, self.token, wanted)?;
            self.waits_for_room = wanted;
        }
        Ok(())
    }
}

//! The bytes of one connection, both ways: bounded, without a buffer while nobody waits, a half-close passed on as one, and
//! a reset as a reset.

use std::io;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::base::{Base, Side};
use super::figures::Teller;

/// Bytes that are read at once, and that one direction holds while its reader takes no more.
pub(super) const HELD: usize = 8 * 1024;

/// Passes on until both sides have ended. `said` is what the client has said already.
///
/// # Errors
/// When a side broke off; the other one is broken off, too.
pub(super) async fn run(
    client: TcpStream,
    server: TcpStream,
    said: Vec<u8>,
    base: Base,
    told: &Teller,
    limits: &Limits,
) -> io::Result<()> {
    let mut relay = Relay { client, server, out: Pipe::default(), back: Pipe::default(), base };
    let begun = Instant::now();
    if !said.is_empty() {
        let verdict = relay.base.hear(Side::Client, &said);
        told.passed(Side::Client, said.len());
        verdict.into_iter().for_each(|verdict| told.found(verdict));
        relay.out.held = said;
    }
    let done = relay.pass(begun, told, limits).await;
    if done.is_err() {
        relay.reset();
    }
    done
}

struct Relay {
    client: TcpStream,
    server: TcpStream,
    /// From client to server.
    out: Pipe,
    back: Pipe,
    base: Base,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Read and not written yet, from `at` on.
    held: Vec<u8>,
    at: usize,
    /// Nothing more comes in.
    ended: bool,
    /// And that has been passed on.
    shut: bool,
}

impl Pipe {
    fn is_empty(&self) -> bool {
        self.at == self.held.len()
    }

    /// Whether more may be read.
    fn takes(&self) -> bool {
        self.is_empty() && !self.ended
    }

    /// Writes what is held; true once nothing is.
    fn flush(&mut self, to: &TcpStream) -> io::Result<bool> {
        while !self.is_empty() {
            match to.try_write(&self.held[self.at..]) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        (self.held, self.at) = (Vec::new(), 0);
        if self.ended && !self.shut {
            self.shut = true;
            match rustix::net::shutdown(to, Shutdown::Write) {
                // It has ended by itself meanwhile.
                Err(rustix::io::Errno::NOTCONN) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Reads once and writes as much as is taken. `heard` gets the bytes; nothing at their end.
    fn carry(&mut self, from: &TcpStream, to: &TcpStream, heard: impl FnOnce(&[u8])) -> io::Result<()> {
        if !self.flush(to)? || self.ended {
            return Ok(());
        }
        let mut bytes = [0; HELD];
        match from.try_read(&mut bytes) {
            Ok(count) => {
                heard(&bytes[..count]);
                self.ended = count == 0;
                let written = if count > 0 { written(to, &bytes[..count])? } else { 0 };
                if written < count {
                    self.held = bytes[written..count].to_vec();
                }
                self.flush(to).map(drop)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Writes what is taken at once.
fn written(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

impl Relay {
    async fn pass(&mut self, begun: Instant, told: &Teller, limits: &Limits) -> io::Result<()> {
        let mut deadline = Some(begun + limits.telling);
        while !(self.out.shut && self.back.shut) {
            let in_time = match deadline {
                Some(deadline) => timeout_at(deadline, self.ready()).await.is_ok(),
                None => {
                    self.ready().await;
                    true
                }
            };
            if in_time {
                self.carry(told)?;
            } else if let Some(verdict) = self.base.give_up() {
                told.found(verdict);
            } else {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Who sends without a pause leaves the others their turn.
            tokio::task::coop::consume_budget().await;
            deadline = match (self.out.ended || self.back.ended, self.base.is_found()) {
                (_, false) => Some(begun + limits.telling),
                (true, true) => Some(Instant::now() + limits.half_closed),
                (false, true) => None,
            };
        }
        Ok(())
    }

    /// Waits until one of the sides can be read or written as it has to be.
    async fn ready(&self) {
        tokio::select! {
            () = ready(&self.client, self.out.takes(), !self.back.is_empty()) => {}
            () = ready(&self.server, self.back.takes(), !self.out.is_empty()) => {}
        }
    }

    fn carry(&mut self, told: &Teller) -> io::Result<()> {
        let Self { client, server, out, back, base } = self;
        for (side, pipe, from, to) in
            [(Side::Client, out, &*client, &*server), (Side::Server, back, &*server, &*client)]
        {
            pipe.carry(from, to, |bytes| {
                let verdict = if bytes.is_empty() { base.ended(side) } else { base.hear(side, bytes) };
                told.passed(side, bytes.len());
                verdict.into_iter().for_each(|verdict| told.found(verdict));
                base.take_notice().into_iter().for_each(|notice| told.noticed(notice));
            })?;
        }
        Ok(())
    }

    /// Who still reads learns that the connection broke, instead of taking it for ended in order.
    fn reset(&self) {
        for side in [&self.client, &self.server] {
            let _ = rustix::net::sockopt::set_socket_linger(side, Some(Duration::ZERO));
        }
    }
}

/// What is wrong with a connection shows when it is used.
async fn ready(stream: &TcpStream, read: bool, write: bool) {
    let interest = match (read, write) {
        (true, true) => Interest::READABLE | Interest::WRITABLE,
        (true, false) => Interest::READABLE,
        (false, true) => Interest::WRITABLE,
        (false, false) => return std::future::pending().await,
    };
    let _ = stream.ready(interest).await;
}

//! The bytes of one connection, both ways: bounded, without a buffer while nobody waits, a half-close passed on as one, and
//! a reset as a reset.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::c2s::transport::Transport;

use super::Limits;
use super::base::Side;
use super::course::Course;
use super::figures::Teller;
use super::upgrade::{Passed, Rest, Turn};

/// Bytes that are read at once, and that one direction holds while its reader takes no more.
pub(super) const HELD: usize = 8 * 1024;
/// The same inside of TLS, which holds as much again, and a record, itself.
pub(super) const HELD_BY_TLS: usize = 4 * 1024;

/// The two ends of a connection.
pub(super) struct Ends {
    pub(super) client: Transport,
    pub(super) server: Transport,
}

/// Passes on until both sides have ended, or TLS begins that is to end here: then the ends are given back, and nothing is on its
/// way between them. `said` is what the client has said already.
///
/// # Errors
/// When a side broke off; the other one is broken off, too.
pub(super) async fn run(
    ends: Ends,
    said: Vec<u8>,
    course: Course,
    told: &Teller,
    limits: &Limits,
) -> io::Result<Option<(Ends, Turn)>> {
    let mut relay = Relay { ends, out: Pipe::default(), back: Pipe::default(), course, turn: None };
    let begun = Instant::now();
    if !said.is_empty() {
        relay.out.held = relay.hear(told, Side::Client, &said).unwrap_or(said);
    }
    match relay.pass(begun, told, limits).await {
        Ok(()) => Ok(relay.turn.map(|turn| (relay.ends, turn))),
        Err(why) => {
            relay.reset();
            Err(why)
        }
    }
}

struct Relay {
    ends: Ends,
    /// From client to server.
    out: Pipe,
    back: Pipe,
    course: Course,
    /// TLS begins as soon as nothing is on its way any more.
    turn: Option<Turn>,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Read and not written yet, from `at` on.
    held: Vec<u8>,
    at: usize,
    /// Written, and perhaps not on its way yet, as TLS has buffers of its own.
    unflushed: bool,
    end: End,
}

/// How one direction ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// It goes on.
    #[default]
    None,
    /// Nothing more comes in, and this is still to be passed on: in order, or without the last word of TLS.
    Heard { in_order: bool },
    /// It has been passed on.
    Passed,
}

impl Pipe {
    fn is_empty(&self) -> bool {
        self.at == self.held.len() && !self.unflushed
    }

    /// Adds to what is held.
    fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Writes what is held, and the end behind it.
    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut Transport) -> Poll<io::Result<()>> {
        while self.at < self.held.len() {
            let count = std::task::ready!(Pin::new(&mut *to).poll_write(cx, &self.held[self.at..]))?;
            (self.at, self.unflushed) = (self.at + count, true);
        }
        if !self.held.is_empty() {
            (self.held, self.at) = (Vec::new(), 0);
        }
        if self.unflushed {
            std::task::ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        let End::Heard { in_order } = self.end else { return Poll::Ready(Ok(())) };
        let shut = match in_order {
            true => std::task::ready!(Pin::new(&mut *to).poll_shutdown(cx)),
            false => rustix::net::shutdown(to.socket(), Shutdown::Write).map_err(Into::into),
        };
        self.end = End::Passed;
        Poll::Ready(match shut {
            // It has ended by itself meanwhile.
            Err(why) if matches!(why.kind(), io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe) => {
                Ok(())
            }
            other => other,
        })
    }
}

impl Relay {
    async fn pass(&mut self, begun: Instant, told: &Teller, limits: &Limits) -> io::Result<()> {
        let mut deadline = Some(begun + limits.telling);
        while !self.is_over() {
            let moving = poll_fn(|cx| self.poll_move(cx, told));
            let moved = match deadline {
                Some(deadline) => timeout_at(deadline, moving).await,
                None => Ok(moving.await),
            };
            match moved {
                Ok(moved) => moved?,
                Err(_) if self.course.is_found() => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {
                    let (rest, learnt) = self.course.give_up();
                    learnt.into_iter().for_each(|learnt| told.learnt(learnt));
                    self.release(rest);
                }
            }
            let one_has_ended = self.out.end != End::None || self.back.end != End::None;
            deadline = match (one_has_ended, self.course.is_found()) {
                (_, false) => Some(begun + limits.telling),
                (true, true) => Some(Instant::now() + limits.half_closed),
                (false, true) => None,
            };
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let turns = self.turn.is_some() && self.out.is_empty() && self.back.is_empty();
        turns || self.out.end == End::Passed && self.back.end == End::Passed
    }

    /// Reads each side at most once. Ready when anything has moved.
    fn poll_move(&mut self, cx: &mut Context<'_>, told: &Teller) -> Poll<io::Result<()>> {
        let out = self.poll_side(cx, told, Side::Client)?;
        let back = self.poll_side(cx, told, Side::Server)?;
        if out || back { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Moves what that side says; whether anything has moved.
    fn poll_side(&mut self, cx: &mut Context<'_>, told: &Teller, side: Side) -> io::Result<bool> {
        let Self { ends, out, back, .. } = self;
        let (pipe, from, to) = match side {
            Side::Client => (out, &mut ends.client, &mut ends.server),
            Side::Server => (back, &mut ends.server, &mut ends.client),
        };
        let (at, waits) = (pipe.at, !pipe.is_empty() || matches!(pipe.end, End::Heard { .. }));
        if waits && pipe.poll_flush(cx, to)?.is_pending() {
            return Ok(pipe.at != at);
        }
        if pipe.end != End::None || self.turn.is_some() {
            return Ok(waits);
        }
        let mut room = [MaybeUninit::uninit(); HELD];
        let most = if from.is_tls() { HELD_BY_TLS } else { HELD };
        let mut read = ReadBuf::uninit(&mut room[..most]);
        match Pin::new(&mut *from).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(waits),
            Poll::Ready(Err(why)) if why.kind() == io::ErrorKind::UnexpectedEof && from.is_tls() => {
                self.ended(told, side, false);
            }
            Poll::Ready(Err(why)) => return Err(why),
            Poll::Ready(Ok(())) if read.filled().is_empty() => self.ended(told, side, true),
            Poll::Ready(Ok(())) => self.carry(cx, told, side, read.filled())?,
        }
        Ok(true)
    }

    /// Passes on what was read; what is not taken at once is held.
    fn carry(&mut self, cx: &mut Context<'_>, told: &Teller, side: Side, bytes: &[u8]) -> io::Result<()> {
        let instead = self.hear(told, side, bytes);
        let (pipe, to) = match side {
            Side::Client => (&mut self.out, &mut self.ends.server),
            Side::Server => (&mut self.back, &mut self.ends.client),
        };
        match instead {
            Some(instead) => pipe.held = instead,
            None => {
                let written = match Pin::new(&mut *to).poll_write(cx, bytes)? {
                    Poll::Ready(count) => count,
                    Poll::Pending => 0,
                };
                pipe.unflushed |= written > 0;
                pipe.push(&bytes[written..]);
            }
        }
        match pipe.poll_flush(cx, to) {
            Poll::Ready(done) => done,
            Poll::Pending => Ok(()),
        }
    }

    /// What is passed on of what a side said; nothing: all of it, as it is.
    fn hear(&mut self, told: &Teller, side: Side, bytes: &[u8]) -> Option<Vec<u8>> {
        told.passed(side, bytes.len());
        let (passed, learnt) = self.course.hear(side, bytes);
        learnt.into_iter().for_each(|learnt| told.learnt(learnt));
        match passed {
            Passed::AsIs => None,
            Passed::Instead(bytes) => Some(bytes),
            Passed::Turn(bytes, turn) => {
                self.turn(turn);
                Some(bytes)
            }
        }
    }

    fn ended(&mut self, told: &Teller, side: Side, in_order: bool) {
        let (rest, learnt) = self.course.ended(side);
        learnt.into_iter().for_each(|learnt| told.learnt(learnt));
        self.release(rest);
        if self.turn.is_some() {
            return;
        }
        let pipe = if side == Side::Client { &mut self.out } else { &mut self.back };
        pipe.end = End::Heard { in_order };
    }

    fn release(&mut self, rest: Rest) {
        self.out.push(&rest.out);
        self.back.push(&rest.back);
        if let Some(turn) = rest.turn {
            self.turn(turn);
        }
    }

    /// What the server is still to get of a client that is refused, it does not.
    fn turn(&mut self, turn: Turn) {
        if matches!(turn, Turn::Refused { .. }) {
            self.out = Pipe::default();
        }
        self.turn = Some(turn);
    }

    /// Who still reads learns that the connection broke, instead of taking it for ended in order.
    fn reset(&self) {
        for side in [&self.ends.client, &self.ends.server] {
            let _ = rustix::net::sockopt::set_socket_linger(side.socket(), Some(Duration::ZERO));
        }
    }
}

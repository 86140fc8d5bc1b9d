//! An open connection: lines to the session and its stanzas to the event loop, the event loop's bytes to the session and its lines
//! out, until one of them ends it.
//!
//! A client that does not read is not read, and gets nothing more from the event loop's buffer, which cuts it off beyond its limit.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::SERVER;
use super::line::{Line, Lines};
use super::login::Entered;
use super::session::{Outcome, Session};
use crate::c2s::connection::{SHARED, poll_bytes};
use crate::c2s::listener::Door;
use crate::c2s::outgoing::{Order, Outbox};
use crate::c2s::rate::Bucket;
use crate::c2s::transport::Transport;
use crate::core::io::{ConnId, Ending, Input};
use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, StreamError};

/// A client that says nothing for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(240);
/// What it may take to answer.
const ANSWER: Duration = Duration::from_secs(120);
/// Lines taken at once.
const BATCH: usize = 128;
/// Bytes of answers after which no more is taken at once.
const ANSWERS: usize = 64 << 10;
/// The core's own stanzas: a whole contact list is one.
const OWN: Limits =
    Limits { stanza_bytes: 16 << 20, written_bytes: 32 << 20, elements: 1 << 18, ..Limits::KEPT };
/// What the framer of the core's stanzas has to hear first.
const OPEN: &[u8] =
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// One side of it.
pub(super) struct Connection {
    conn: ConnId,
    transport: Transport,
    lines: Lines,
    /// Read and not looked at yet.
    rest: Vec<u8>,
    bucket: Bucket,
    pause: Option<Pin<Box<Sleep>>>,
    outbox: Arc<Outbox>,
    framer: Framer,
    inputs: mpsc::Sender<Input>,
    session: Session,
    writing: Vec<u8>,
    written: usize,
    unflushed: bool,
    start: Instant,
    heard: Duration,
    asked: bool,
    alarm: Pin<Box<Sleep>>,
    armed: Option<Duration>,
}

/// What comes next.
enum Step {
    /// The session has something for the core.
    Say(Vec<Element>),
    /// It has said its last word.
    Over,
    Ordered(Order),
    Lost,
}

impl Connection {
    pub(super) fn new(door: &Door, conn: ConnId, entered: Entered, outbox: Arc<Outbox>) -> Self {
        let limits = &door.limits;
        let mut framer = Framer::new(OWN);
        // Of our own making, so that there is nothing to go wrong.
        let _ = framer.next(&mut &OPEN[..]);
        Self {
            conn,
            transport: entered.transport,
            lines: entered.lines,
            rest: entered.rest,
            bucket: Bucket::new(limits.bytes_per_second, limits.burst_bytes, Duration::ZERO),
            pause: None,
            outbox,
            framer,
            inputs: door.inputs.clone(),
            session: Session::new(entered.login, door.domains.clone()),
            writing: Vec::new(),
            written: 0,
            unflushed: false,
            start: Instant::now(),
            heard: Duration::ZERO,
            asked: false,
            alarm: Box::pin(tokio::time::sleep(SILENCE)),
            armed: Some(SILENCE),
        }
    }

    pub(super) fn into_transport(self) -> Transport {
        self.transport
    }

    /// Runs until it has ended. Returns how, and what is still to be written.
    pub(super) async fn run(&mut self) -> (Ending, Vec<u8>) {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Say(elements) => {
                    // Waits for room when the event loop is busy: this client is not read meanwhile.
                    if self.inputs.send(Input::Elements { conn: self.conn, elements }).await.is_err() {
                        return (Ending::Lost, Vec::new());
                    }
                }
                Step::Over => return (Ending::Closed, self.last()),
                Step::Ordered(Order::Close(error)) => {
                    let rest = self.outbox.drain();
                    if self.understand(&rest).is_err() {
                        tracing::debug!("the core's last words were not understood");
                    }
                    self.session.ended(error.as_ref());
                    return (Ending::Closed, self.last());
                }
                Step::Ordered(Order::Cut) | Step::Lost => {
                    self.session.lost();
                    let elements = self.session.take().stanzas;
                    let said = Input::Elements { conn: self.conn, elements };
                    if self.inputs.send(said).await.is_err() {
                        tracing::debug!("the node stopped before a client did");
                    }
                    return (Ending::Lost, Vec::new());
                }
            }
        }
    }

    /// What waits to be written.
    fn last(&mut self) -> Vec<u8> {
        let mut last = self.writing.split_off(self.written);
        last.extend(self.session.take().irc);
        last
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let Outcome { irc, stanzas, over } = self.session.take();
            self.writing.extend(irc);
            match (stanzas.is_empty(), over) {
                (false, _) => return Poll::Ready(Step::Say(stanzas)),
                (true, true) => return Poll::Ready(Step::Over),
                (true, false) => {}
            }
            let takes = match self.poll_write(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => return Poll::Ready(Step::Lost),
                Poll::Pending => false,
            };
            if takes {
                let data = self.outbox.take(cx);
                if !data.is_empty() {
                    match self.understand(&data) {
                        Ok(()) => continue,
                        Err(error) => {
                            tracing::warn!(
                                error.text,
                                "a client of IRC is disconnected: the node's own words were not understood"
                            );
                            return Poll::Ready(Step::Lost);
                        }
                    }
                }
            }
            if let Some(order) = self.outbox.order(cx) {
                return Poll::Ready(Step::Ordered(order));
            }
            let alive = match self.poll_alarm(cx) {
                Poll::Pending if takes && self.session.is_ready() => ready!(self.poll_read(cx)),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(alive) => alive,
            };
            if !alive {
                return Poll::Ready(Step::Lost);
            }
        }
    }

    /// Ready: all is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.writing.len() {
            match ready!(Pin::new(&mut self.transport).poll_write(cx, &self.writing[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
            self.unflushed = true;
        }
        (self.writing, self.written) = (Vec::new(), 0);
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready: something was heard, or (false) the client is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.hear(&rest);
            return Poll::Ready(true);
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        SHARED.with_borrow_mut(|scratch| {
            let Some(bytes) = ready!(poll_bytes(&mut self.transport, cx, scratch)) else {
                return Poll::Ready(false);
            };
            if let Some(pause) = self.bucket.take(bytes.len(), self.start.elapsed()) {
                self.pause = Some(Box::pin(tokio::time::sleep(pause)));
            }
            self.hear(bytes);
            Poll::Ready(true)
        })
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        (self.heard, self.asked) = (self.start.elapsed(), false);
        for _ in 0..BATCH {
            match self.lines.next(&mut bytes) {
                Some(heard) => self.session.hear(&heard, self.heard),
                None => break,
            }
            // Some questions have long answers: those come first.
            if self.session.pending() > ANSWERS {
                break;
            }
        }
        self.rest = bytes.to_vec();
    }

    fn understand(&mut self, mut data: &[u8]) -> Result<(), StreamError> {
        while let Some(frame) = self.framer.next(&mut data)? {
            if let Frame::Element(element) = frame {
                self.session.element(element);
            }
        }
        Ok(())
    }

    /// Ready: the time for something has come, or (false) that of the client is over. Later words of the client move the time on
    /// without another timer.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let silence = self.heard + if self.asked { SILENCE + ANSWER } else { SILENCE };
            let due = self.session.due().map_or(silence, |due| due.min(silence));
            if self.armed.is_none_or(|armed| due < armed) {
                self.alarm.as_mut().reset(self.start + due);
                self.armed = Some(due);
            }
            ready!(self.alarm.as_mut().poll(cx));
            self.armed = None;
            let now = self.start.elapsed();
            if now < due {
                continue;
            }
            self.session.tick(now);
            if now >= silence {
                if std::mem::replace(&mut self.asked, true) {
                    return Poll::Ready(false);
                }
                let mut ping = String::new();
                Line::new("PING").from(SERVER).param(SERVER).write(&mut ping);
                self.writing.extend(ping.into_bytes());
            }
            return Poll::Ready(true);
        }
    }
}

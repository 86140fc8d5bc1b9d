//! A stream once it is open: its elements to the event loop, the event loop's bytes to it, until one of them ends it.
//!
//! It is a client's after login, or one to a neighbour on the link (XEP-0174).
//!
//! An idle session holds no buffer: all sessions of a thread read into one scratch buffer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, timeout};

use crate::core::io::{ConnId, Ending, Input};
use crate::core::link::io::{LinkEvent, StreamId};
use crate::xmpp::framer::{Frame, Framer};
use crate::xmpp::{Element, StreamError};

use super::outgoing::{Order, Outbox};
use super::rate::Bucket;
use super::transport::Transport;

/// Elements handed over at once.
const BATCH: usize = 256;
const SCRATCH: usize = 64 << 10;
const END: &[u8] = b"</stream:stream>";

thread_local! {
    pub(crate) static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Whose stream it is.
pub(crate) enum Face {
    /// A client's.
    Client(ConnId),
    /// A neighbour's; what was written so far is told to who watches whether it arrives.
    Neighbour(StreamId, watch::Sender<u64>),
}

impl Face {
    fn input(&self, elements: Vec<Element>) -> Input {
        match self {
            Self::Client(conn) => Input::Elements { conn: *conn, elements },
            Self::Neighbour(stream, _) => Input::Link(LinkEvent::Elements { stream: *stream, elements }),
        }
    }

    fn written(&self, bytes: usize) {
        if let Self::Neighbour(_, total) = self {
            total.send_modify(|total| *total += u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }
}

/// One side of an open stream.
pub(crate) struct Session {
    pub(crate) face: Face,
    pub(crate) transport: Transport,
    pub(crate) framer: Framer,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) bucket: Bucket,
    /// What `bucket` counts time from.
    pub(crate) start: Instant,
    /// Bytes that were read and not looked at yet.
    pub(crate) rest: Vec<u8>,
    pub(crate) grace: Duration,
    pub(crate) writing: Writing,
    pub(crate) pause: Option<Pin<Box<Sleep>>>,
}

/// Bytes on their way into the socket.
#[derive(Default)]
pub(crate) struct Writing {
    data: Vec<u8>,
    done: usize,
    /// Bytes that TLS has taken, and may not have written to the socket yet.
    unflushed: usize,
}

/// What a session has to do next.
enum Step {
    Read(Vec<Element>, Then),
    Ordered(Order),
    Lost,
}

/// What follows elements that were read together.
enum Then {
    Go,
    End,
    Fail(StreamError),
}

impl Session {
    /// Runs until the stream has ended.
    pub(crate) async fn run(&mut self) -> Ending {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Read(elements, then) => {
                    if !elements.is_empty() && self.deliver(elements).await.is_err() {
                        return Ending::Lost;
                    }
                    match then {
                        Then::Go => {}
                        Then::End => {
                            self.finish(None).await;
                            return Ending::Closed;
                        }
                        Then::Fail(error) => {
                            self.finish(Some(error)).await;
                            return Ending::Lost;
                        }
                    }
                }
                Step::Ordered(Order::Close(error)) => return self.close(error).await,
                Step::Ordered(Order::Cut) | Step::Lost => return Ending::Lost,
            }
        }
    }

    /// Waits for room when the event loop is busy: this client is not read meanwhile.
    async fn deliver(&self, elements: Vec<Element>) -> Result<(), ()> {
        match self.inputs.try_send(self.face.input(elements)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(input)) => self.inputs.send(input).await.map_err(drop),
            Err(TrySendError::Closed(_)) => Err(()),
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self.poll_outgoing(cx) {
            Poll::Ready(step) => Poll::Ready(step),
            Poll::Pending => self.poll_incoming(cx),
        }
    }

    /// Writes what waits. Pending: nothing is left, or the client takes no more at the moment.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let writing = &mut self.writing;
            if writing.done == writing.data.len() {
                *writing = Writing { data: self.outbox.take(cx), done: 0, unflushed: writing.unflushed };
            }
            if writing.data.is_empty() {
                if writing.unflushed > 0 {
                    match Pin::new(&mut self.transport).poll_flush(cx) {
                        Poll::Ready(Ok(())) => self.face.written(std::mem::take(&mut writing.unflushed)),
                        Poll::Ready(Err(_)) => return Poll::Ready(Step::Lost),
                        Poll::Pending => {}
                    }
                }
                break;
            }
            match Pin::new(&mut self.transport).poll_write(cx, &writing.data[writing.done..]) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    writing.done += written;
                    if self.transport.is_tls() {
                        writing.unflushed += written;
                    } else {
                        self.face.written(written);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Step::Lost),
                Poll::Pending => break,
            }
        }
        match self.outbox.order(cx) {
            Some(order) => Poll::Ready(Step::Ordered(order)),
            None => Poll::Pending,
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(self.read(&rest));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        SHARED.with_borrow_mut(|scratch| {
            let Some(bytes) = ready!(poll_bytes(&mut self.transport, cx, scratch)) else {
                return Poll::Ready(Step::Lost);
            };
            if let Some(pause) = self.bucket.take(bytes.len(), self.start.elapsed()) {
                self.pause = Some(Box::pin(tokio::time::sleep(pause)));
            }
            Poll::Ready(self.read(bytes))
        })
    }

    fn read(&mut self, mut bytes: &[u8]) -> Step {
        let mut elements = Vec::new();
        loop {
            match self.framer.next(&mut bytes) {
                Ok(Some(Frame::Element(element))) => elements.push(element),
                Ok(Some(Frame::Close)) => return Step::Read(elements, Then::End),
                Ok(Some(Frame::Open(_))) => {}
                Ok(None) => return Step::Read(elements, Then::Go),
                Err(error) => return Step::Read(elements, Then::Fail(error)),
            }
            if elements.len() == BATCH {
                self.rest = bytes.to_vec();
                return Step::Read(elements, Then::Go);
            }
        }
    }

    /// Ends the stream from our side and waits for the client's end of it.
    async fn close(&mut self, error: Option<StreamError>) -> Ending {
        self.finish(error).await;
        let grace = self.grace;
        match timeout(grace, self.until_end()).await {
            Ok(true) => Ending::Closed,
            Ok(false) | Err(_) => Ending::Lost,
        }
    }

    /// Reads on without looking at elements; true if the client ends its stream, false if its connection ends.
    async fn until_end(&mut self) -> bool {
        loop {
            match poll_fn(|cx| self.poll_incoming(cx)).await {
                Step::Read(_, Then::Go) => {}
                Step::Read(_, Then::End) => return true,
                Step::Read(_, Then::Fail(_)) | Step::Ordered(_) | Step::Lost => return false,
            }
        }
    }

    /// Writes what waits, the error and the end of the stream.
    async fn finish(&mut self, error: Option<StreamError>) {
        let mut data = self.writing.data.split_off(self.writing.done);
        data.extend(self.outbox.drain());
        data.extend(error.iter().flat_map(StreamError::to_bytes));
        end(&mut self.transport, &data, self.grace).await;
    }
}

/// What a client has sent, in `scratch`; `None`: it is gone.
pub(crate) fn poll_bytes<'a>(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    scratch: &'a mut [u8],
) -> Poll<Option<&'a [u8]>> {
    let mut buffer = ReadBuf::new(scratch);
    let result = ready!(Pin::new(transport).poll_read(cx, &mut buffer));
    let count = buffer.filled().len();
    Poll::Ready((result.is_ok() && count > 0).then_some(&scratch[..count]))
}

/// Writes the last bytes and the end tag, and closes our direction. What goes wrong no longer matters.
pub(crate) async fn end(transport: &mut Transport, last: &[u8], grace: Duration) {
    close(transport, &[last, END].concat(), grace).await;
}

/// Writes the last bytes, and closes our direction. What goes wrong no longer matters.
pub(crate) async fn close(transport: &mut Transport, last: &[u8], grace: Duration) {
    let write = async {
        transport.write_all(last).await?;
        transport.shutdown().await
    };
    if let Ok(Err(why)) = timeout(grace, write).await {
        tracing::debug!(%why, "a client was gone before its last word");
    }
}

/// Reads until the other side has closed too, at most `grace` long: closing with unread bytes would make the
/// system throw away what was just written.
pub(crate) async fn linger(transport: &mut Transport, grace: Duration) {
    let mut bytes = [0; 512];
    let drain = async { while matches!(transport.read(&mut bytes).await, Ok(n) if n > 0) {} };
    if timeout(grace, drain).await.is_err() {
        tracing::debug!("a client did not close its connection in time");
    }
}

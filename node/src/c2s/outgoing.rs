//! What goes to the clients: one buffer for each, filled by the event loop and emptied by the client's own task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::core::io::ConnId;
use crate::xmpp::StreamError;

/// The clients that are logged in, as the event loop sees them. Clones mean the same clients; there are at most
/// [`super::Limits::connections`].
#[derive(Clone, Default)]
pub struct Clients {
    outboxes: Arc<Mutex<BTreeMap<ConnId, Arc<Outbox>>>>,
}

impl Clients {
    /// Performs [`crate::core::io::Output::Client`]. All that is sent before the event loop yields leaves in one
    /// write. Beyond [`super::Limits::unread_bytes`] the client, which does not read, is cut off.
    pub fn send(&self, conn: ConnId, data: Vec<u8>) {
        if let Some(outbox) = lock(&self.outboxes).get(&conn) {
            outbox.push(data);
        }
    }

    /// Performs [`crate::core::io::Output::CloseClient`]: ends the stream after what was sent before.
    pub fn close(&self, conn: ConnId, error: Option<StreamError>) {
        if let Some(outbox) = lock(&self.outboxes).get(&conn) {
            outbox.close(error);
        }
    }

    /// Ends all streams, as when the node stops.
    pub fn close_all(&self, error: &StreamError) {
        for outbox in lock(&self.outboxes).values() {
            outbox.close(Some(error.clone()));
        }
    }

    /// How many clients are logged in.
    pub fn count(&self) -> usize {
        lock(&self.outboxes).len()
    }

    pub(crate) fn add(&self, conn: ConnId, limit: usize) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(limit));
        lock(&self.outboxes).insert(conn, outbox.clone());
        outbox
    }

    pub(crate) fn remove(&self, conn: ConnId) {
        lock(&self.outboxes).remove(&conn);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What waits for one client: at most `limit` bytes, or one piece that is larger.
pub(crate) struct Outbox {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the task took and has not written yet.
    taken: usize,
    order: Option<Order>,
    waker: Option<Waker>,
}

/// What else the event loop wants of the task.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// End the stream after what waits.
    Close(Option<StreamError>),
    /// The client does not read: drop it.
    Cut,
}

impl Outbox {
    /// Nothing waits yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Whatever its size, what nothing waits before never cuts the client off: a message that did would do so at each
    /// login again.
    pub(crate) fn push(&self, data: Vec<u8>) {
        let mut state = lock(&self.state);
        if state.order.is_some() {
            return;
        }
        let first = state.waiting.is_empty();
        let unread = state.waiting.len() + state.taken;
        if unread > 0 && unread + data.len() > self.limit {
            state.waiting = Vec::new();
            state.order = Some(Order::Cut);
            state.wake();
        } else if first {
            state.waiting = data;
            state.wake();
        } else {
            state.waiting.extend_from_slice(&data);
        }
    }

    pub(crate) fn close(&self, error: Option<StreamError>) {
        let mut state = lock(&self.state);
        if state.order.is_none() {
            state.order = Some(Order::Close(error));
            state.wake();
        }
    }

    /// Takes what waits, all earlier bytes being written. Empty: the task is woken when that changes.
    pub(crate) fn take(&self, cx: &Context<'_>) -> Vec<u8> {
        let mut state = lock(&self.state);
        state.remember(cx);
        state.taken = state.waiting.len();
        std::mem::take(&mut state.waiting)
    }

    /// What waits, when the task is about to end the stream.
    pub(crate) fn drain(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.state).waiting)
    }

    /// Whether there is an order; if not, the task is woken when there is.
    pub(crate) fn order(&self, cx: &Context<'_>) -> Option<Order> {
        let mut state = lock(&self.state);
        state.remember(cx);
        state.order.clone()
    }
}

impl State {
    fn remember(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_joins_unread_bytes_cuts_a_client_off() {
        let cx = Context::from_waker(Waker::noop());
        let outbox = Outbox::new(10);
        outbox.push(vec![0; 100]);
        assert!(outbox.order(&cx).is_none());
        assert_eq!(outbox.take(&cx).len(), 100);
        assert!(outbox.take(&cx).is_empty());
        outbox.push(vec![0; 6]);
        assert_eq!(outbox.take(&cx).len(), 6);
        outbox.push(vec![0; 4]);
        assert!(outbox.order(&cx).is_none());
        outbox.push(vec![0; 1]);
        assert!(matches!(outbox.order(&cx), Some(Order::Cut)));
    }
}

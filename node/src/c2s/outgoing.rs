//! What goes to the clients: one buffer for each, filled by the event loop and emptied by the client's own task.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::core::io::ConnId;
use crate::xmpp::StreamError;

/// The clients that are logged in, as the event loop sees them. Clones mean the same clients; there are at most
/// [`super::Limits::connections`].
#[derive(Clone, Default)]
pub struct Clients {
    outboxes: Arc<Mutex<BTreeMap<ConnId, Arc<Outbox>>>>,
    common: Arc<Common>,
}

impl Clients {
    /// Performs [`crate::core::io::Output::Client`]. All that is sent before the event loop yields leaves in one
    /// write. Beyond [`super::Limits::unread_bytes`], and what there is of [`super::Limits::common_bytes`], the client, which
    /// does not read, is cut off.
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

    pub(crate) fn new(common_bytes: usize) -> Self {
        Self { outboxes: Arc::default(), common: Arc::new(Common::new(common_bytes)) }
    }

    pub(crate) fn add(&self, conn: ConnId, limit: usize) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox { limit, common: self.common.clone(), state: Mutex::default() });
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

/// Room for what a login brings at once, a long contact list and all who are online, which few clients have unread at a time.
#[derive(Debug, Default)]
struct Common {
    limit: usize,
    used: AtomicUsize,
}

impl Common {
    fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Takes `wanted` bytes in place of those that one client has: half of all at most.
    fn change(&self, has: &mut usize, wanted: usize) -> bool {
        let fits = |used: usize| Some(used - *has + wanted).filter(|all| *all <= self.limit);
        let may = wanted <= *has || wanted <= self.limit / 2;
        let taken = may && self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            *has = wanted;
        }
        taken
    }
}

/// What waits for one client: at most `limit` bytes and what the common room gives, or one piece that is larger.
pub(crate) struct Outbox {
    limit: usize,
    common: Arc<Common>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the task took and has not written yet.
    taken: usize,
    /// Of the common room.
    borrowed: usize,
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
    /// Nothing waits yet, and there is no common room.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, common: Arc::default(), state: Mutex::default() }
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
        let beyond = (unread + data.len()).saturating_sub(self.limit);
        if unread > 0 && beyond > state.borrowed && !self.common.change(&mut state.borrowed, beyond) {
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
        let beyond = state.taken.saturating_sub(self.limit).min(state.borrowed);
        self.common.change(&mut state.borrowed, beyond);
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

impl Drop for Outbox {
    fn drop(&mut self) {
        self.common.change(&mut lock(&self.state).borrowed, 0);
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

    #[test]
    fn the_common_room_is_for_those_who_read_at_last() {
        let cx = Context::from_waker(Waker::noop());
        let clients = Clients::new(40);
        let add = |number| clients.add(ConnId(number), 10);
        let is_cut = |outbox: &Outbox| matches!(outbox.order(&cx), Some(Order::Cut));
        let (slow, other, third) = (add(1), add(2), add(3));
        slow.push(vec![0; 5]);
        slow.push(vec![0; 25]);
        assert!(!is_cut(&slow), "half of the room, beside its own");
        slow.push(vec![0; 1]);
        assert!(is_cut(&slow), "not more than half");
        // What it had is there again once its connection has ended, and not before.
        other.push(vec![0; 5]);
        other.push(vec![0; 25]);
        third.push(vec![0; 5]);
        third.push(vec![0; 6]);
        assert!(!is_cut(&other) && is_cut(&third));
        drop((slow, third));
        clients.remove(ConnId(1));
        clients.remove(ConnId(3));
        let fourth = add(4);
        fourth.push(vec![0; 5]);
        fourth.push(vec![0; 25]);
        assert!(!is_cut(&fourth));
        // Who reads gives back.
        assert_eq!(fourth.take(&cx).len(), 30);
        assert!(fourth.take(&cx).is_empty());
        assert_eq!(other.take(&cx).len(), 30);
        assert!(other.take(&cx).is_empty());
        assert_eq!(clients.common.used.load(Ordering::Relaxed), 0);
    }
}

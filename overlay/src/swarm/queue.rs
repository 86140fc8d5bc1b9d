//! The frames that wait to be written to one peer: bounded by number and by bytes, so a peer that stops reading
//! costs a known amount of memory and is then cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;

/// Most frames that wait for one peer. A new peer is told of all local users in one burst, so the bytes are what limits.
pub const MAX_QUEUED_FRAMES: usize = 4096;
/// Most bytes that wait for one peer.
pub const MAX_QUEUED_BYTES: usize = 2 * 1024 * 1024;

/// The queue of a peer is full: it has stopped reading, or reads slower than it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The end that puts frames in. Dropping it lets the writer finish what is queued, and then stop.
#[derive(Debug)]
pub(super) struct Sender {
    frames: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// The end that the connection's writer takes frames from.
#[derive(Debug)]
pub(super) struct Receiver {
    frames: mpsc::Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// A new, empty queue.
pub(super) fn queue() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_FRAMES);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Sender { frames: sender, bytes: bytes.clone() }, Receiver { frames: receiver, bytes })
}

impl Sender {
    /// Queues one frame, or answers that the peer has to be cut off.
    pub(super) fn push(&self, frame: Vec<u8>) -> Result<(), Full> {
        let size = frame.len();
        // Only this end adds, so a check before the addition can't be overtaken.
        if self.bytes.load(Ordering::Acquire) + size > MAX_QUEUED_BYTES {
            return Err(Full);
        }
        self.bytes.fetch_add(size, Ordering::AcqRel);
        self.frames.try_send(frame).map_err(|_| {
            self.bytes.fetch_sub(size, Ordering::AcqRel);
            Full
        })
    }
}

impl Receiver {
    /// The next frame; `None` once the sender is gone and nothing is left.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let polled = self.frames.poll_recv(cx);
        if let Poll::Ready(Some(frame)) = &polled {
            self.bytes.fetch_sub(frame.len(), Ordering::AcqRel);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain_one(receiver: &mut Receiver) -> Poll<Option<Vec<u8>>> {
        receiver.poll_next(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn is_bounded_by_number() {
        let (sender, mut receiver) = queue();
        for _ in 0..MAX_QUEUED_FRAMES {
            sender.push(vec![1]).unwrap();
        }
        assert_eq!(sender.push(vec![1]), Err(Full));
        assert!(drain_one(&mut receiver).is_ready());
        assert_eq!(sender.push(vec![1]), Ok(()));
    }

    #[test]
    fn is_bounded_by_bytes() {
        let (sender, mut receiver) = queue();
        sender.push(vec![0; MAX_QUEUED_BYTES]).unwrap();
        assert_eq!(sender.push(vec![1]), Err(Full));
        assert!(drain_one(&mut receiver).is_ready());
        assert_eq!(sender.push(vec![1]), Ok(()));
    }

    #[test]
    fn what_is_queued_outlives_the_sender() {
        let (sender, mut receiver) = queue();
        sender.push(vec![7]).unwrap();
        drop(sender);
        assert_eq!(drain_one(&mut receiver), Poll::Ready(Some(vec![7])));
        assert_eq!(drain_one(&mut receiver), Poll::Ready(None));
    }
}

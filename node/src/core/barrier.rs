//! What promises something durable waits for its commit; the rest leaves at once. *Pure.*
//!
//! Every batch of inputs gives one write-set. An output that promises something (an XEP-0198 ack, a receipt, the
//! result of a change, the delivery of a message whose sender will be acknowledged) is held until its batch is
//! committed, and whatever goes to the same destination later queues behind it. A disk can be full for long: where too
//! much waits for one destination, that is closed at once, past its queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_storage::WriteSet;

use crate::xmpp::StreamError;
use crate::xmpp::error::StreamCondition;

use super::io::{ConnId, Output};
use super::link::io::{LinkCommand, StreamId};

/// Bytes that may wait for one destination; for a client, what a resumed session may have left unacknowledged.
const MOST_HELD: usize = 4 << 20;
const MOST_HELD_FOR_A_CLIENT: usize = 16 << 20;
/// What an output takes beside its bytes.
const OVERHEAD: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    Client(ConnId),
    Peer(NodeId),
    Admin(u64),
    Stream(StreamId),
    Other,
}

fn destination(output: &Output) -> Destination {
    match output {
        Output::Client { conn, .. } | Output::CloseClient { conn, .. } => Destination::Client(*conn),
        Output::Frame { node, .. } | Output::ClosePeer { node, .. } | Output::Dial { node, .. } => {
            Destination::Peer(*node)
        }
        Output::Answer { request, .. } => Destination::Admin(*request),
        Output::Link(command) => match command {
            LinkCommand::Connect { stream, .. }
            | LinkCommand::Accept { stream, .. }
            | LinkCommand::Write { stream, .. }
            | LinkCommand::Close { stream, .. } => Destination::Stream(*stream),
            LinkCommand::Announce { .. }
            | LinkCommand::Withdraw { .. }
            | LinkCommand::Browse(_)
            | LinkCommand::AskPicture(_)
            | LinkCommand::Suspect(_)
            | LinkCommand::Vouched(_) => Destination::Other,
        },
        Output::Commit { .. }
        | Output::Datagram { .. }
        | Output::Query { .. }
        | Output::Judge { .. }
        | Output::Publish { .. }
        | Output::Judged { .. }
        | Output::Login(_)
        | Output::SealingKeyDue { .. }
        | Output::SealingKeyErase { .. }
        | Output::EraseKeys { .. }
        | Output::Enrolment { .. }
        | Output::NewPassword { .. }
        | Output::Notice(_) => Destination::Other,
    }
}

/// Bytes of an output.
fn size(output: &Output) -> usize {
    let bytes = match output {
        Output::Client { data, .. } | Output::Link(LinkCommand::Write { data, .. }) => data.len(),
        Output::Frame { frame, .. } => frame.len(),
        _ => 0,
    };
    OVERHEAD + bytes
}

/// What ends a destination for which too much waits. The others have one answer each.
fn closing(destination: Destination) -> Option<Output> {
    let error = || {
        let text = "the node cannot save anything now, and too much waits for that: come back later";
        Some(StreamError::new(StreamCondition::ResourceConstraint, text))
    };
    match destination {
        Destination::Client(conn) => Some(Output::CloseClient { conn, error: error() }),
        Destination::Peer(node) => {
            Some(Output::ClosePeer { node, reason: "too much waits for the store of this node" })
        }
        Destination::Stream(stream) => Some(Output::Link(LinkCommand::Close { stream, error: error() })),
        Destination::Admin(_) | Destination::Other => None,
    }
}

/// What waits for one destination.
#[derive(Debug, Default)]
struct Queue {
    outputs: VecDeque<(u64, Output)>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, batch: u64, output: Output) {
        self.bytes += size(&output);
        self.outputs.push_back((batch, output));
    }

    /// What waited for batches below `committed`.
    fn release(&mut self, committed: u64, ready: &mut VecDeque<Output>) {
        while self.outputs.front().is_some_and(|(batch, _)| *batch < committed)
            && let Some((_, output)) = self.outputs.pop_front()
        {
            self.bytes -= size(&output);
            ready.push_back(output);
        }
    }
}

/// Queue of outputs with its commit barrier.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    /// Number of the batch that is being filled; all before it are closed.
    batch: u64,
    /// All batches below this number are durable.
    committed: u64,
    /// Closed batches that wrote nothing: durable as soon as those before them are.
    empty: BTreeSet<u64>,
    held: BTreeMap<Destination, Queue>,
    /// Clients for whom too much waited, until their connections have ended.
    closed: BTreeSet<ConnId>,
    ready: VecDeque<Output>,
}

impl Barrier {
    /// Queues an output; `promise` holds it until everything written so far in this batch is durable.
    pub(super) fn push(&mut self, output: Output, promise: bool) {
        let promise = promise && !is_on(Mutant::PromiseAtOnce);
        let destination = destination(&output);
        if matches!(destination, Destination::Client(conn) if self.closed.contains(&conn)) {
            return;
        }
        if promise {
            self.held.entry(destination).or_default().push(self.batch, output);
        } else if destination != Destination::Other
            && let Some(queue) = self.held.get_mut(&destination)
        {
            let behind = queue.outputs.back().map_or(self.batch, |(batch, _)| *batch);
            queue.push(behind, output);
        } else {
            self.ready.push_back(output);
        }
        self.close_full(destination);
    }

    fn close_full(&mut self, destination: Destination) {
        let most = match destination {
            Destination::Client(_) => MOST_HELD_FOR_A_CLIENT,
            Destination::Peer(_) | Destination::Admin(_) | Destination::Stream(_) | Destination::Other => {
                MOST_HELD
            }
        };
        let full = self.held.get(&destination).is_some_and(|queue| queue.bytes > most);
        let Some(close) = closing(destination).filter(|_| full) else { return };
        self.held.remove(&destination);
        self.ready.push_back(close);
        if let Destination::Client(conn) = destination {
            self.closed.insert(conn);
        }
    }

    /// A client's connection is gone, and what waits for it.
    pub(super) fn ended(&mut self, conn: ConnId) {
        self.closed.remove(&conn);
        self.held.remove(&Destination::Client(conn));
    }

    /// Closes the batch. What it wrote becomes an [`Output::Commit`] that leaves before everything else of it.
    pub(super) fn close(&mut self, writes: WriteSet) {
        if writes.is_empty() {
            if self.held.is_empty() {
                return;
            }
            self.empty.insert(self.batch);
        } else {
            self.ready.push_front(Output::Commit { batch: self.batch, writes });
        }
        self.batch += 1;
        self.release();
    }

    /// Batches up to and with `batch` are durable.
    pub(super) fn committed(&mut self, batch: u64) {
        self.committed = self.committed.max(batch + 1);
        self.release();
    }

    /// The next output that may leave.
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }

    fn release(&mut self) {
        while self.empty.remove(&self.committed) {
            self.committed += 1;
        }
        let (committed, ready) = (self.committed, &mut self.ready);
        self.held.retain(|_, queue| {
            queue.release(committed, ready);
            !queue.outputs.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosstalk_storage::Tree;

    fn client(conn: u64, data: &[u8]) -> Output {
        Output::Client { conn: ConnId(conn), data: data.to_vec() }
    }

    fn writes() -> WriteSet {
        let mut writes = WriteSet::new();
        writes.put(Tree::Meta, b"k".to_vec(), b"v".to_vec());
        writes
    }

    fn drain(barrier: &mut Barrier) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(output) = barrier.pop() {
            seen.push(match output {
                Output::Client { conn, data } => format!("{}:{}", conn.0, String::from_utf8_lossy(&data)),
                Output::Commit { batch, .. } => format!("commit {batch}"),
                other => format!("{other:?}"),
            });
        }
        seen
    }

    #[test]
    fn a_promise_and_what_follows_to_the_same_client_wait_for_the_commit() {
        let mut barrier = Barrier::default();
        barrier.push(client(1, b"ack"), true);
        barrier.push(client(1, b"presence"), false);
        barrier.push(client(2, b"chat state"), false);
        barrier.close(writes());
        assert_eq!(drain(&mut barrier), ["commit 0", "2:chat state"]);
        barrier.push(client(1, b"later"), false);
        barrier.close(WriteSet::new());
        assert!(drain(&mut barrier).is_empty());
        barrier.committed(0);
        assert_eq!(drain(&mut barrier), ["1:ack", "1:presence", "1:later"]);
        assert!(barrier.held.is_empty());
    }

    #[test]
    fn where_too_much_waits_the_client_is_closed_at_once() {
        let mut barrier = Barrier::default();
        barrier.push(client(1, b"ack"), true);
        barrier.push(client(2, b"ack"), true);
        barrier.close(writes());
        for _ in 0..17 {
            barrier.push(client(1, &[b'x'; 1 << 20]), false);
        }
        barrier.push(Output::Notice("to nobody".to_owned()), false);
        let left = drain(&mut barrier);
        assert!(left[0] == "commit 0" && left[1].starts_with("CloseClient(1,"), "{left:?}");
        assert_eq!(left.len(), 3);
        barrier.committed(0);
        assert_eq!(drain(&mut barrier), ["2:ack"]);
        barrier.push(client(1, b"late"), false);
        assert!(drain(&mut barrier).is_empty());
        barrier.ended(ConnId(1));
        assert!(barrier.held.is_empty() && barrier.closed.is_empty());
    }

    /// All that a session may have left unacknowledged is said again behind one promise.
    #[test]
    fn a_resumed_session_is_not_closed_for_what_it_left() {
        let settings = crate::core::Settings::default();
        let stanza = vec![b'x'; settings.unacked_bytes / settings.unacked_limit];
        let mut barrier = Barrier::default();
        for _ in 0..settings.unacked_limit {
            barrier.push(client(1, &stanza), true);
        }
        barrier.close(writes());
        assert_eq!(drain(&mut barrier), ["commit 0"]);
        barrier.committed(0);
        assert_eq!(drain(&mut barrier).len(), settings.unacked_limit);
    }

    #[test]
    fn nothing_queues_behind_what_has_no_destination() {
        let mut barrier = Barrier::default();
        barrier.push(Output::EraseKeys { user: crosstalk_overlay::id::UserId::from_bytes([1; 32]) }, true);
        barrier.push(Output::Notice("now".to_owned()), false);
        barrier.close(writes());
        assert_eq!(drain(&mut barrier).len(), 2);
        barrier.committed(0);
        assert_eq!(drain(&mut barrier).len(), 1);
    }

    #[test]
    fn a_promise_without_writes_waits_only_for_earlier_batches() {
        let mut barrier = Barrier::default();
        barrier.push(client(1, b"nothing to write"), true);
        barrier.close(WriteSet::new());
        assert_eq!(drain(&mut barrier), ["1:nothing to write"]);

        barrier.push(client(1, b"a"), true);
        barrier.close(writes());
        barrier.push(client(2, b"b"), true);
        barrier.close(WriteSet::new());
        assert_eq!(drain(&mut barrier), ["commit 1"]);
        barrier.committed(1);
        assert_eq!(drain(&mut barrier), ["1:a", "2:b"]);
    }
}

//! What promises something durable waits for its commit; the rest leaves at once. *Pure.*
//!
//! Every batch of inputs gives one write-set. An output that promises something (an XEP-0198 ack, a receipt, the
//! result of a change, the delivery of a message whose sender will be acknowledged) is held until its batch is
//! committed, and whatever goes to the same destination later queues behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crosstalk_overlay::id::NodeId;
use crosstalk_storage::WriteSet;

use super::io::{ConnId, Output};
use super::link::io::{LinkCommand, StreamId};

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

/// Queue of outputs with its commit barrier.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    /// Number of the batch that is being filled; all before it are closed.
    batch: u64,
    /// All batches below this number are durable.
    committed: u64,
    /// Closed batches that wrote nothing: durable as soon as those before them are.
    empty: BTreeSet<u64>,
    held: BTreeMap<Destination, VecDeque<(u64, Output)>>,
    ready: VecDeque<Output>,
}

impl Barrier {
    /// Queues an output; `promise` holds it until everything written so far in this batch is durable.
    pub(super) fn push(&mut self, output: Output, promise: bool) {
        let destination = destination(&output);
        if promise {
            self.held.entry(destination).or_default().push_back((self.batch, output));
        } else if let Some(queue) = self.held.get_mut(&destination) {
            let behind = queue.back().map_or(self.batch, |(batch, _)| *batch);
            queue.push_back((behind, output));
        } else {
            self.ready.push_back(output);
        }
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
            while queue.front().is_some_and(|(batch, _)| *batch < committed) {
                ready.extend(queue.pop_front().map(|(_, output)| output));
            }
            !queue.is_empty()
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

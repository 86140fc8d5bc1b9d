//! What will happen when, in one queue. *Pure.*

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crosstalk::core::ConnId;
use crosstalk::core::io::Ending;
use crosstalk::xmpp::Element;
use crosstalk_overlay::id::{NodeId, UserId};

use super::faults::Fault;
use super::office::Served;

/// A machine with a node on it, or with something that pretends to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(pub(crate) usize);

/// A person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PersonId(pub(crate) usize);

/// A chat program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) usize);

/// A connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PipeId(pub(crate) u64);

/// One start of a host. What was meant for an earlier one is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) host: HostId,
    pub(crate) count: u32,
}

/// What travels in a pipe, in order.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// The far end has dialled.
    Opened,
    /// A frame.
    Frame(Vec<u8>),
    /// News for everybody on the link.
    News(Vec<u8>),
    /// The far end has closed.
    Closed,
}

/// What a client sends up its stream.
#[derive(Clone, Debug)]
pub(crate) enum Upward {
    /// SASL succeeded and the stream was restarted.
    Authenticated(UserId),
    /// Elements.
    Elements(Vec<Element>),
    /// The stream is over.
    Ended(Ending),
}

/// What a node sends down a client's stream.
#[derive(Clone, Debug)]
pub(crate) enum Downward {
    /// Bytes.
    Data(Vec<u8>),
    /// The stream is over.
    Closed,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The event loop of a node performs the outputs of what it took in.
    Drain(Life),
    /// The core's time-out, if it is still the one that was set for this time.
    Timeout(Life),
    /// The disk has written.
    Written(Life),
    /// A sealing key was made.
    SealingKey(Life, UserId),
    /// Something arrives at an end (0 or 1) of a pipe.
    Parcel(PipeId, usize, Parcel),
    /// A datagram arrives at a host, unless the cable from the first is cut by then.
    Datagram(HostId, HostId, Vec<u8>),
    /// An end of a broken pipe notices.
    Broken(PipeId, usize),
    /// A mended pipe delivers what waited for one of its ends.
    Resume(PipeId, usize),
    /// A dial reaches its goal, or does not.
    Dialled(Life, NodeId),
    /// A host asks the link who is there; and again after a while, or only this once.
    Query(Life, bool),
    /// Something arrives at a node from a client.
    Up(ConnId, Upward),
    /// Something arrives at a client from its node.
    Down(ConnId, Downward),
    /// A client looks at what it has to do, if nothing newer was set.
    Wake(ClientId, u64),
    /// A client sends the next message of a flow.
    Say(ClientId, PersonId),
    /// A client adds, renames, regroups or removes somebody in its contact list.
    Edit(ClientId),
    /// Something goes wrong, or right again.
    Fault(Fault),
    /// People on a field have walked on.
    Walk,
    /// Invariants that need a clock are looked at.
    Watch,
    /// An attacker acts.
    Attack(Life),
    /// A server looks at the next question of a laptop.
    Asked(Life),
    /// Its answer is durable.
    Served(Life, Box<Served>),
}

struct Entry {
    when: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.when, self.number) == (other.when, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.when, self.number).cmp(&(other.when, other.number))
    }
}

/// Events in the order of their time; those of one time in the order in which they were planned.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    next: u64,
}

impl Queue {
    /// Plans an event.
    pub(crate) fn push(&mut self, when: u64, event: Event) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Reverse(Entry { when, number, event }));
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.when, entry.event))
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.when)
    }

    /// Planned events.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

//! Questions to the hash table: each thing is asked once at a time, few at once, and each ends in an answer. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::timers::Timer;
use super::{Output, Overlay};
use crate::dht::{Answer, Key, Query, Trace};
use crate::id::{DeviceId, NodeId, UserId};
use crate::time::{MINUTE, Now};

/// Questions under way at once; further ones wait.
const AT_ONCE: usize = 4;
/// Questions that wait at most; further ones are asked when their time comes again.
const MAX_WAITING: usize = 4_096;
/// A question that is not answered for so long has failed.
const PATIENCE: u64 = MINUTE;

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// To know a user's devices.
    FindUser(UserId),
    /// To know where a device of a contact is, by what it said on that day (Unix milliseconds / 86,400,000).
    FindPresence(UserId, DeviceId, u64),
    /// To know which nodes hold what waits for a user.
    FindHolders(UserId),
    /// To know where a node can be reached.
    FindNode(NodeId),
    /// For somebody who watches.
    Lookup(u64),
    /// To tell who our user's devices are.
    PublishUser(UserId),
    /// To tell whose name it is.
    PublishName(UserId),
    /// To tell the contacts of our user where it is.
    PublishPresence(UserId),
}

#[derive(Debug)]
struct Asked {
    purpose: Purpose,
    until: u64,
}

/// What is asked, and what is going to be.
#[derive(Debug, Default)]
pub(super) struct Queries {
    asked: BTreeMap<u64, Asked>,
    waiting: VecDeque<Purpose>,
    /// The purposes of both.
    known: BTreeSet<Purpose>,
    next: u64,
    /// Nodes that the tables know. None: nobody to ask.
    pub(super) nodes: usize,
    /// How many they were when it was last looked who is close to what.
    grown: usize,
}

impl Overlay {
    /// Whether there is anybody to ask: [`Output::TableGrew`] says when there is again.
    pub fn has_table(&self) -> bool {
        self.queries.nodes > 0
    }

    /// The hash table has found its first nodes, more, or lost them.
    pub(super) fn on_table(&mut self, nodes: usize, now: Now) {
        let before = std::mem::replace(&mut self.queries.nodes, nodes);
        if before == 0 && nodes > 0 {
            self.queries.grown = nodes;
            self.publish_all(now);
            self.seek_all(now);
            self.seek_mailboxes(now);
            self.outputs.push_back(Output::TableGrew);
        } else if nodes >= 2 * self.queries.grown.max(1) {
            // Who was closest to something among few need not be among many.
            self.queries.grown = nodes;
            self.publish_anew(now);
            self.seek_all(now);
            self.mailboxes_have_moved(now);
            self.outputs.push_back(Output::TableGrew);
        } else if 2 * nodes <= self.queries.grown {
            // Fewer by so much: it is looked again when they are many again.
            self.queries.grown = nodes;
        }
    }

    /// Asks as soon as there is room; what is asked already is not asked again.
    pub(super) fn ask_table(&mut self, purpose: Purpose, now: Now) {
        if !self.may_ask_table() || !self.queries.known.insert(purpose) {
            return;
        }
        self.queries.waiting.push_back(purpose);
        self.ask_next(now);
    }

    /// Whether a further question would be asked: there is somebody to ask, and room.
    pub(super) fn may_ask_table(&self) -> bool {
        self.queries.nodes > 0 && self.queries.waiting.len() < MAX_WAITING
    }

    fn ask_next(&mut self, now: Now) {
        while self.queries.asked.len() < AT_ONCE {
            let Some(purpose) = self.queries.waiting.pop_front() else { return };
            let Some(query) = self.query_for(purpose, now) else {
                self.queries.known.remove(&purpose);
                continue;
            };
            self.queries.next += 1;
            let (id, until) = (self.queries.next, now.mono + PATIENCE);
            self.queries.asked.insert(id, Asked { purpose, until });
            self.timers.set_earlier(Timer::Query, until);
            self.outputs.push_back(Output::Query { id, query });
        }
    }

    /// None: there is nothing to ask any more.
    fn query_for(&mut self, purpose: Purpose, now: Now) -> Option<Query> {
        match purpose {
            Purpose::FindUser(user) => Some(self.user_query(&user)),
            Purpose::FindPresence(user, device, day) => self.presence_query(&user, &device, day),
            Purpose::FindHolders(user) => Some(Query::Closest(Key::mailbox(&user))),
            Purpose::FindNode(node) => Some(Query::Node(node)),
            Purpose::Lookup(ticket) => self.lookup_query(ticket),
            Purpose::PublishUser(user) => self.user_to_publish(&user),
            Purpose::PublishName(user) => self.name_to_publish(&user),
            Purpose::PublishPresence(user) => self.presence_to_publish(&user, now),
        }
    }

    pub(super) fn on_table_answer(&mut self, id: u64, answer: Answer, trace: Trace, now: Now) {
        let Some(Asked { purpose, .. }) = self.queries.asked.remove(&id) else {
            return self.counters.drop("answer to no question");
        };
        self.queries.known.remove(&purpose);
        match (purpose, answer) {
            (Purpose::FindUser(user), Answer::Values(values)) => self.found_user(&user, &values, now),
            (Purpose::FindUser(user), _) => self.found_user(&user, &[], now),
            (Purpose::FindPresence(user, device, day), Answer::Values(values)) => {
                self.found_presence(&user, &device, day, &values, now);
            }
            (Purpose::FindPresence(user, device, day), _) => {
                self.found_presence(&user, &device, day, &[], now);
            }
            (Purpose::FindHolders(user), Answer::Nodes(nodes)) => self.found_holders(&user, nodes, now),
            (Purpose::FindHolders(user), _) => self.found_holders(&user, Vec::new(), now),
            (Purpose::FindNode(node), Answer::Nodes(nodes)) => self.found_node(node, nodes, now),
            (Purpose::FindNode(_), _) => {}
            (Purpose::Lookup(ticket), answer) => self.lookup_answered(ticket, answer, trace, now),
            (Purpose::PublishUser(_) | Purpose::PublishName(_) | Purpose::PublishPresence(_), answer) => {
                let copies = if let Answer::Stored(copies) = answer { copies } else { 0 };
                self.published(purpose, copies, now);
            }
        }
        self.ask_next(now);
    }

    pub(super) fn on_query_timer(&mut self, now: Now) {
        let late = self.queries.asked.iter().filter(|(_, asked)| asked.until <= now.mono);
        let late: Vec<u64> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.on_table_answer(id, Answer::Failed, Trace::default(), now);
        }
        if let Some(next) = self.queries.asked.values().map(|asked| asked.until).min() {
            self.timers.set(Timer::Query, next);
        }
    }
}

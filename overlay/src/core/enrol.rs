//! Questions to the server of a domain, and of others to this node if it is one. *Pure.*
//!
//! What is asked and answered is opaque here ([`crate::enrol`]): the core finds the server, and passes on.

use std::collections::{BTreeMap, BTreeSet};

use super::timers::Timer;
use super::{Output, Overlay};
use crate::enrol::{MAX_ANSWER, MAX_ASK};
use crate::id::{NodeId, UserId};
use crate::time::{Now, SECOND};
use crate::wire::Frame;

/// How long a server is waited for whose node is known.
const PATIENCE: u64 = 40 * SECOND;
/// How long one is looked for on the link.
const SEARCH: u64 = 12 * SECOND;
/// Questions under way at once.
const MAX_ASKING: usize = 8;
/// Questions that one peer may put at once; then one in [`EACH`].
const AT_ONCE: u64 = 512;
/// Milliseconds.
const EACH: u64 = SECOND / 32;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// This node, at one of these multiaddresses or on the link; it may be this very one.
    At(NodeId, Vec<String>),
    /// Whoever is near: the first that answers.
    OnLink,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Too many questions are under way.
    #[error("too many people are being enrolled on this node at once: try again in a minute")]
    Busy,
    /// It cannot be reached.
    #[error(
        "the server does not answer: connect to a network from which it can be reached (its own, if it has no public \
         address), and try again"
    )]
    Unreachable,
    /// It was reached, and is no server.
    #[error("the node that was asked gives no names: ask whoever runs it to run `crosstalk authority init`")]
    NoServer,
    /// Nobody near is the server.
    #[error(
        "no node in this network gives names under that domain: connect to the network of the server, or say where it is \
         with --server (`crosstalk authority show` on the server prints it)"
    )]
    NotNear,
}

#[derive(Debug)]
struct Asking {
    server: Server,
    ask: Vec<u8>,
    /// It says what has to be durable before.
    durable: bool,
    /// When it is given up: monotonic milliseconds.
    until: u64,
    /// The same, if somebody is found who has not said no.
    latest: u64,
    /// Who was asked on the present session.
    asked: BTreeSet<NodeId>,
    /// Who said no.
    no: BTreeSet<NodeId>,
}

/// Questions under way, and what others may ask.
#[derive(Debug, Default)]
pub(super) struct Enrolment {
    asking: BTreeMap<u64, Asking>,
    serves: bool,
    /// Nodes of servers of users of this node, by user.
    pub(super) watched: BTreeMap<UserId, BTreeSet<NodeId>>,
    /// Until when a peer has used up what it may ask, as if each question took [`EACH`]: monotonic milliseconds, shifted
    /// by what it may ask at once.
    spent: BTreeMap<NodeId, u64>,
}

impl Overlay {
    /// Says that this node answers such questions: [`Output::Enrolment`] follows for each.
    pub fn serve_enrolment(&mut self) {
        self.enrolment.serves = true;
    }

    /// Asks a server; [`Output::Enrolled`] follows. More than [`MAX_ASK`] bytes are not asked.
    pub fn ask_server(&mut self, ticket: u64, server: Server, ask: Vec<u8>, now: Now) {
        self.ask(ticket, server, ask, false, now);
    }

    /// The same; what was written so far is durable before the question leaves.
    pub fn ask_server_durably(&mut self, ticket: u64, server: Server, ask: Vec<u8>, now: Now) {
        self.ask(ticket, server, ask, true, now);
    }

    /// Nobody waits for an answer any more: who is not there yet is not asked.
    pub fn withdraw_question(&mut self, ticket: u64) {
        self.enrolment.asking.remove(&ticket);
    }

    fn ask(&mut self, ticket: u64, server: Server, ask: Vec<u8>, durable: bool, now: Now) {
        if self.enrolment.asking.len() >= MAX_ASKING || ask.len() > MAX_ASK {
            return self.outputs.push_back(Output::Enrolled { ticket, answer: Err(NoAnswer::Busy) });
        }
        let own = self.enrolment.serves && !matches!(&server, Server::At(node, _) if *node != self.node);
        let patience = if server == Server::OnLink { SEARCH } else { PATIENCE };
        let until = now.mono + patience;
        if let Server::At(node, addresses) = &server {
            self.learn(*node, addresses.clone(), now);
        }
        let (asked, no) = (BTreeSet::new(), BTreeSet::new());
        let asking = Asking { server, ask: ask.clone(), durable, until, latest: until, asked, no };
        self.enrolment.asking.insert(ticket, asking);
        self.timers.set_earlier(Timer::Enrol, until);
        if own {
            let node = self.node;
            self.outputs.push_back(Output::Enrolment { node, request: ticket, ask });
        }
        let nodes = self.peers.candidates.keys().chain(self.peers.connected.keys());
        let nodes: BTreeSet<NodeId> = nodes.copied().collect();
        nodes.into_iter().for_each(|node| self.enrolment_goes_on(node, now));
    }

    /// Where this node can be reached from other networks, multiaddresses with its peer id left out.
    pub fn places(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// Answers a question. An empty answer says that this node is not who is looked for.
    pub fn answer_enrolment(&mut self, node: NodeId, request: u64, answer: Vec<u8>, now: Now) {
        if node == self.node {
            return self.on_enrol_answer(node, request, answer, now);
        }
        if self.is_greeted(&node) && answer.len() <= MAX_ANSWER {
            self.send_frame(node, &Frame::EnrolAnswer { request, answer }, false, now);
        }
    }

    /// Something is known of a node: if it may be the server, it is asked, or dialled.
    pub(super) fn enrolment_goes_on(&mut self, node: NodeId, now: Now) {
        let (greeted, near) = (self.is_greeted(&node), self.peers.is_near(&node));
        let may_be = |asking: &Asking| match &asking.server {
            Server::At(server, _) => *server == node,
            Server::OnLink => near || !greeted,
        };
        let open = self.enrolment.asking.iter_mut().filter(|(_, asking)| may_be(asking));
        let mut frames = Vec::new();
        let mut wanted = false;
        for (ticket, asking) in open {
            wanted = true;
            if !asking.no.contains(&node) {
                asking.until = asking.latest;
            }
            if greeted && asking.asked.insert(node) {
                frames.push((Frame::Enrol { request: *ticket, ask: asking.ask.clone() }, asking.durable));
            }
        }
        if wanted {
            self.need(node, now);
        }
        for (frame, durable) in frames {
            self.send_frame(node, &frame, durable, now);
        }
    }

    /// A session begins: what was asked on an earlier one is asked again. What was to be on the disk before may not be said twice:
    /// whoever asked makes up a new question.
    pub(super) fn enrolment_on_session(&mut self, node: NodeId, now: Now) {
        let said = |(ticket, asking): (&u64, &Asking)| {
            (asking.durable && asking.asked.contains(&node)).then_some(*ticket)
        };
        let said: Vec<u64> = self.enrolment.asking.iter().filter_map(said).collect();
        for ticket in said {
            self.end_asking(ticket, Err(NoAnswer::Unreachable));
        }
        for asking in self.enrolment.asking.values_mut() {
            asking.asked.remove(&node);
        }
        self.enrolment_goes_on(node, now);
        self.server_on_session(node);
    }

    /// Another node asks.
    pub(super) fn on_enrol(&mut self, node: NodeId, request: u64, ask: Vec<u8>, now: Now) {
        if !self.enrolment.serves {
            return self.answer_enrolment(node, request, Vec::new(), now);
        }
        let connected = &self.peers.connected;
        self.enrolment.spent.retain(|peer, _| connected.contains_key(peer));
        let spent = self.enrolment.spent.entry(node).or_default();
        let next = (*spent).max(now.mono) + EACH;
        if next > now.mono + AT_ONCE * EACH {
            // Who asks a lot is slowed for itself alone; its connection goes on.
            return self.counters.drop("question of a peer that asks the server too much");
        }
        *spent = next;
        self.outputs.push_back(Output::Enrolment { node, request, ask });
    }

    /// A server answers, or somebody who is none.
    pub(super) fn on_enrol_answer(&mut self, node: NodeId, request: u64, answer: Vec<u8>, now: Now) {
        let me = self.node;
        let mine = |asking: &&mut Asking| node == me || asking.asked.contains(&node);
        let Some(asking) = self.enrolment.asking.get_mut(&request).filter(mine) else {
            // Of all who are asked on a link who the server is, it may be the first to say so.
            if !answer.is_empty() {
                self.counters.drop("answer to a question that nobody put");
            }
            return;
        };
        if !answer.is_empty() {
            return self.end_asking(request, Ok((node, answer)));
        }
        asking.no.insert(node);
        if matches!(asking.server, Server::At(..)) {
            return self.end_asking(request, Err(NoAnswer::NoServer));
        }
        let near = self.peers.candidates.keys().chain(self.peers.connected.keys());
        if near.into_iter().all(|node| asking.no.contains(node)) {
            // Whoever is only just being discovered gets a moment.
            asking.until = asking.until.min(now.mono + 3 * SECOND);
            self.timers.set_earlier(Timer::Enrol, asking.until);
        }
    }

    pub(super) fn on_enrol_timer(&mut self, now: Now) {
        let over = self.enrolment.asking.iter().filter(|(_, asking)| asking.until <= now.mono);
        let over: Vec<(u64, NoAnswer)> = over
            .map(|(ticket, asking)| match asking.server {
                Server::At(..) => (*ticket, NoAnswer::Unreachable),
                Server::OnLink => (*ticket, NoAnswer::NotNear),
            })
            .collect();
        over.into_iter().for_each(|(ticket, why)| self.end_asking(ticket, Err(why)));
        if let Some(next) = self.enrolment.asking.values().map(|asking| asking.until).min() {
            self.timers.set(Timer::Enrol, next);
        }
    }

    fn end_asking(&mut self, ticket: u64, answer: Result<(NodeId, Vec<u8>), NoAnswer>) {
        if self.enrolment.asking.remove(&ticket).is_some() {
            self.outputs.push_back(Output::Enrolled { ticket, answer });
        }
    }
}

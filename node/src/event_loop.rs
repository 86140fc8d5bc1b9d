//! The only loop: waits for one thing, takes what else is there, hands it to the core, performs the outputs in order.
//!
//! It decides nothing and it never waits but in one place. Where something downstream is slow it stops taking inputs
//! from upstream: with `MOST_IN_FLIGHT` batches not yet durable, or commands that swarm or link have no room for,
//! clients and peers are not read until that is over, and TCP slows them down.

mod chores;
pub mod clock;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::swarm::{self, SendError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};

use crate::accounts::key_dir::KeyDir;
use crate::admin::service::Ask;
use crate::authority::Authority;
use crate::c2s::{Clients, Directory};
use crate::core::admin::Reply;
use crate::core::link::io::LinkCommand;
use crate::core::{Core, Input, Output};
use crate::link;
use crate::store_thread::copying::Copier;
use crate::store_thread::{CloseError, State, StoreThread};
use chores::{Chore, Chores};
use clock::Clock;

/// Inputs handled as one batch.
const BATCH: usize = 256;
/// Bytes written from which a batch is closed before its inputs are all handled.
const BATCH_BYTES: usize = 4 << 20;
/// Batches that may wait for the disk before clients and peers have to wait too.
const MOST_IN_FLIGHT: usize = 64;
/// How long the end may take until it is durable.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where inputs come from and outputs go to.
pub struct Surroundings {
    /// Connected chat programs.
    pub clients: Clients,
    /// Who may log in.
    pub directory: Directory,
    /// What clients send.
    pub from_clients: mpsc::Receiver<Input>,
    /// Other nodes; `None` for a command line that only opens the store.
    pub swarm: Option<(swarm::Handle, mpsc::Receiver<swarm::Event>)>,
    /// Neighbours by XEP-0174; `None` where that is off.
    pub link: Option<link::Handle>,
    /// Questions of the account service.
    pub asks: mpsc::Receiver<Ask>,
    /// The server of a domain that this node may be.
    pub authority: Authority,
    /// The store.
    pub store: StoreThread,
    /// Who wishes for a copy of it.
    pub copies: mpsc::Receiver<Copier>,
    /// Key files.
    pub keys: KeyDir,
    /// Who reads the core's notices.
    pub notice: fn(&str),
}

/// The loop with all it needs.
pub struct EventLoop {
    core: Core,
    clock: Clock,
    clients: Clients,
    directory: Directory,
    from_clients: mpsc::Receiver<Input>,
    swarm: Option<swarm::Handle>,
    from_swarm: Option<mpsc::Receiver<swarm::Event>>,
    /// Commands that the swarm had no room for, in order. While there are any, no client and no peer is read, so it
    /// holds what one batch makes.
    for_swarm: VecDeque<swarm::Command>,
    link: Option<link::Handle>,
    /// Commands that the link had no room for, in order: the same holds.
    for_link: VecDeque<LinkCommand>,
    asks: mpsc::Receiver<Ask>,
    /// Who waits for an answer of the core; as many as the admin socket and the queue of asks let through.
    asked: BTreeMap<u64, oneshot::Sender<Box<Reply>>>,
    next_ask: u64,
    authority: Authority,
    store: StoreThread,
    copies: mpsc::Receiver<Copier>,
    store_state: watch::Receiver<State>,
    trouble: bool,
    /// Batches that are not durable yet.
    in_flight: VecDeque<u64>,
    chores: Chores,
    notice: fn(&str),
    inputs: Vec<Input>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to, in the core's time; `None` while it is not.
    armed: Option<u64>,
}

impl EventLoop {
    /// A loop around a core whose clock is `clock`.
    pub fn new(core: Core, clock: Clock, around: Surroundings) -> Self {
        let (swarm, from_swarm) = around.swarm.unzip();
        Self {
            core,
            clock,
            clients: around.clients,
            directory: around.directory,
            from_clients: around.from_clients,
            swarm,
            from_swarm,
            for_swarm: VecDeque::new(),
            link: around.link,
            for_link: VecDeque::new(),
            asks: around.asks,
            asked: BTreeMap::new(),
            next_ask: 0,
            authority: around.authority,
            store_state: around.store.state(),
            store: around.store,
            copies: around.copies,
            trouble: false,
            in_flight: VecDeque::new(),
            chores: Chores::new(around.keys),
            notice: around.notice,
            inputs: Vec::with_capacity(BATCH),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
        }
    }

    /// Runs until `end` is ready, and gives what that gave.
    ///
    /// # Errors
    /// When the store's thread has failed: nothing could be promised any more.
    pub async fn run_until<T>(&mut self, end: impl Future<Output = T>) -> Result<T, CloseError> {
        tokio::pin!(end);
        self.perform_outputs();
        loop {
            let read = !self.is_congested();
            tokio::select! {
                biased;
                result = &mut end => return Ok(result),
                alive = self.wait(read) => alive?,
            }
            self.gather(read);
            self.handle_inputs();
        }
    }

    /// Ends in order: what was accepted becomes durable and is confirmed, links are closed, then the store. Takes
    /// five seconds at most for what is in flight and three for the links.
    ///
    /// # Errors
    /// When something could not be written; nothing of that was confirmed to anybody.
    pub async fn finish(mut self) -> Result<(), CloseError> {
        self.inputs.push(Input::Stopping);
        self.handle_inputs();
        let quiet = async {
            // The last receipts too: a sender that gets none sends again.
            while !(self.in_flight.is_empty()
                && self.chores.is_idle()
                && self.for_swarm.is_empty()
                && self.for_link.is_empty())
            {
                self.wait(false).await?;
                self.gather(false);
                self.handle_inputs();
            }
            Ok::<(), CloseError>(())
        };
        if !matches!(tokio::time::timeout(FAREWELL, quiet).await, Ok(Ok(()))) {
            tracing::warn!("some changes are not durable yet; they were not confirmed to anybody");
        }
        // Clients are not told that their streams end, they lose them: so they come back and resume (XEP-0198 §5).
        if let Some(link) = self.link {
            // Nobody reads what it tells any more: let it stop without waiting for us.
            self.from_clients.close();
            link.stop().await;
        }
        // Its answers have nowhere to go any more.
        self.from_clients.close();
        self.authority.close().await;
        if let Some(swarm) = self.swarm {
            // Nobody reads its events any more: let it stop without waiting for us.
            drop(self.from_swarm);
            swarm.shutdown().await;
        }
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap_or(Err(CloseError::Failed))
    }

    /// Whether upstream has to wait for downstream.
    fn is_congested(&self) -> bool {
        self.in_flight.len() >= MOST_IN_FLIGHT || !self.for_swarm.is_empty() || !self.for_link.is_empty()
    }

    /// Waits until there is something to do. Puts into `inputs` what it had to take to know. Cancel-safe.
    async fn wait(&mut self, read: bool) -> Result<(), CloseError> {
        let waits = !(self.for_swarm.is_empty() && self.for_link.is_empty());
        let Self {
            from_clients,
            from_swarm,
            asks,
            store,
            copies,
            store_state,
            chores,
            inputs,
            timer,
            armed,
            ..
        } = self;
        tokio::select! {
            biased;
            changed = store_state.changed() => return changed.map_err(|_| CloseError::Failed),
            () = timer.as_mut(), if armed.is_some() => {
                *armed = None;
                inputs.push(Input::Timeout);
            }
            done = chores.next() => inputs.extend(done),
            Some(ask) = asks.recv() => {
                let request = self.next_ask;
                self.next_ask += 1;
                self.asked.insert(request, ask.answer);
                inputs.push(Input::Admin { request, command: ask.command });
            }
            Some(copier) = copies.recv() => store.copy(copier),
            Some(event) = next(from_swarm), if read => note(event, inputs),
            // The tasks of swarm and link run on this thread: let them take commands.
            () = tokio::task::yield_now(), if waits => {}
            Some(input) = from_clients.recv(), if read => inputs.push(input),
            else => std::future::pending().await,
        }
        Ok(())
    }

    /// Takes what else is there, without waiting, until the batch is full.
    fn gather(&mut self, read: bool) {
        self.store_said();
        self.send_held();
        if let Some(events) = self.from_swarm.as_mut().filter(|_| read) {
            while self.inputs.len() < BATCH
                && let Ok(event) = events.try_recv()
            {
                note(event, &mut self.inputs);
            }
        }
        while read
            && self.inputs.len() < BATCH
            && let Ok(input) = self.from_clients.try_recv()
        {
            self.inputs.push(input);
        }
    }

    fn handle_inputs(&mut self) {
        let now = self.clock.now();
        let mut inputs = std::mem::take(&mut self.inputs);
        for input in inputs.drain(..) {
            if let Input::Peer(PeerEvent::Addresses(places)) = &input {
                self.authority.is_at(places.clone());
            }
            self.core.handle(input, now);
            if self.core.unsaved_bytes() >= BATCH_BYTES {
                self.perform_outputs();
            }
        }
        // Its room is used again.
        self.inputs = inputs;
        self.perform_outputs();
    }

    /// What the store's thread has said since.
    fn store_said(&mut self) {
        self.store.push();
        let state = self.store_state.borrow_and_update();
        let before = self.in_flight.len();
        while self.in_flight.front().is_some_and(|batch| Some(*batch) <= state.committed) {
            self.in_flight.pop_front();
        }
        if let Some(batch) = state.committed.filter(|_| self.in_flight.len() < before) {
            self.inputs.push(Input::Committed { batch });
        }
        if state.trouble.is_some() != self.trouble {
            self.trouble = state.trouble.is_some();
            self.inputs.push(Input::StoreTrouble(state.trouble.clone()));
        }
    }

    fn perform_outputs(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.perform(output);
        }
        self.set_timer();
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Client { conn, data } => self.clients.send(conn, data),
            Output::CloseClient { conn, error } => self.clients.close(conn, error),
            Output::Commit { batch, writes } => {
                self.in_flight.push_back(batch);
                self.store.commit(batch, writes);
            }
            Output::Frame { node, frame } => self.command(swarm::Command::Send { node, frame }),
            Output::Datagram { address, port, bytes } => {
                self.command(swarm::Command::Datagram { address, port, bytes });
            }
            Output::Dial { node, addresses } => self.command(swarm::Command::Dial { node, addresses }),
            Output::Query { id, query } => self.command(swarm::Command::Query { id, query }),
            Output::Judge { time, revocations } => {
                self.command(swarm::Command::Judge { time, revocations });
            }
            Output::Publish { news } => self.command(swarm::Command::Publish { news }),
            Output::Judged { node, id, verdict } => {
                self.command(swarm::Command::Judged { node, id, verdict });
            }
            Output::ClosePeer { node, reason } => self.command(swarm::Command::Close { node, reason }),
            Output::Link(command) => {
                if self.link.is_some() {
                    self.for_link.push_back(command);
                    self.send_held();
                }
            }
            Output::Login(change) => self.directory.apply(change),
            Output::SealingKeyDue { user } => self.chores.push(Chore::NewSealingKey(user)),
            Output::SealingKeyErase { user, public } => {
                self.chores.push(Chore::EraseSealingKey(user, public))
            }
            Output::EraseKeys { user } => self.chores.push(Chore::EraseKeys(user)),
            Output::NewPassword { ticket, user, password } => {
                self.chores.push(Chore::Credentials { ticket, user, password });
            }
            Output::Answer { request, reply } => {
                if let Some(asked) = self.asked.remove(&request) {
                    // Who asked may have gone away meanwhile.
                    let _ = asked.send(reply);
                }
            }
            Output::Enrolment { node, request, ask, places } => {
                self.authority.laptop_asks(node, request, ask, places);
            }
            Output::Notice(text) => (self.notice)(&text),
        }
    }

    /// Gives a command to the swarm, behind those that wait.
    fn command(&mut self, command: swarm::Command) {
        if self.swarm.is_some() {
            self.for_swarm.push_back(command);
            self.send_held();
        }
    }

    fn send_held(&mut self) {
        if let Some(link) = &self.link {
            while link.has_room()
                && let Some(command) = self.for_link.pop_front()
            {
                link.perform(command);
            }
        }
        let Some(swarm) = &self.swarm else { return };
        while let Some(command) = self.for_swarm.pop_front() {
            match swarm.try_send(command) {
                Ok(()) => {}
                Err(SendError::Full(command)) => {
                    self.for_swarm.push_front(command);
                    return;
                }
                Err(SendError::Stopped) => {
                    tracing::error!("the network part has stopped; restart the node to reach others again");
                    self.for_swarm.clear();
                    self.swarm = None;
                    return;
                }
            }
        }
    }

    /// One timer, set only when the core's next time has changed: an idle node is not woken for nothing.
    fn set_timer(&mut self) {
        let due = self.core.poll_timeout();
        let when = due.map(|(when, _)| when);
        if when == self.armed {
            return;
        }
        self.armed = when;
        if let Some((when, why)) = due {
            // At least a millisecond, so that a time in the past cannot starve the rest.
            let after = when.saturating_sub(self.clock.now().mono).max(1);
            tracing::trace!(after, why, "timer");
            self.timer.as_mut().reset(Instant::now() + Duration::from_millis(after));
        }
    }
}

async fn next(events: &mut Option<mpsc::Receiver<swarm::Event>>) -> Option<swarm::Event> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// What the swarm tells: most is for the core, some for the log.
fn note(event: swarm::Event, inputs: &mut Vec<Input>) {
    match event {
        swarm::Event::Peer(event) => inputs.push(Input::Peer(event)),
        swarm::Event::Listening { address } => tracing::debug!("other nodes can connect to {address}"),
        swarm::Event::ListenFailed { address, error } => {
            tracing::warn!("other nodes cannot connect to {address}: {error}; see [overlay] in the settings");
        }
        swarm::Event::DialFailed { node, error } => {
            tracing::debug!("node {node} does not answer: {error}");
            // Else the core would wait for it, and keep others waiting whom it could dial meanwhile.
            inputs.push(Input::Peer(PeerEvent::Disconnected { node }));
        }
        swarm::Event::Held { table, key, value } => inputs.push(Input::Held { table, key, value }),
        swarm::Event::DhtMembers { nodes, .. } => inputs.push(Input::Members(nodes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosstalk_overlay::id::NodeId;

    #[test]
    fn the_core_is_told_that_a_dial_has_failed() {
        let (node, mut inputs) = (NodeId::from_bytes([1; 32]), Vec::new());
        note(swarm::Event::DialFailed { node, error: "refused".to_owned() }, &mut inputs);
        assert!(
            matches!(inputs.as_slice(), [Input::Peer(PeerEvent::Disconnected { node: who })] if *who == node)
        );
    }
}

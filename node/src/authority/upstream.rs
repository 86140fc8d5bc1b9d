//! The office and the door to the outside ([`crate::upstream`]): what happens there is told to the gate, and what that wants is
//! done.

use crosstalk_overlay::enrol::{Answer, Exchange, Why};
use crosstalk_overlay::id::{NodeId, UserId};
use tokio::sync::mpsc;

use super::counter::Stop;
use super::office::{Office, OfficeError};
use super::task::Job;
use crate::event_loop::clock::Clock;
use crate::upstream::ComponentView;
use crate::upstream::connection::{Event, Listener};
use crate::upstream::gate::{Effect, Gate, GateError};
use crate::upstream::outward::Who;

/// The gate, and where its bytes go.
#[derive(Debug)]
pub(super) struct Door {
    gate: Gate,
    clock: Clock,
    orders: Option<mpsc::Sender<Vec<u8>>>,
    /// Nodes that something waits for.
    news: Vec<NodeId>,
}

impl From<GateError> for OfficeError {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Database(error) => error.into(),
            GateError::Random(error) => error.into(),
        }
    }
}

impl From<GateError> for Stop {
    fn from(error: GateError) -> Self {
        Self::Failed(error.into())
    }
}

impl Listener for mpsc::Sender<Job> {
    async fn tell(&self, event: Event) -> bool {
        self.send(Job::Component(event)).await.is_ok()
    }
}

impl Office {
    /// Opens the door.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn open_door(&mut self, address: &str) -> Result<(), GateError> {
        let gate = Gate::open(&self.database, &self.domain, address)?;
        self.door = Some(Door { gate, clock: Clock::start(), orders: None, news: Vec::new() });
        Ok(())
    }

    /// How the link to the outside stands, if there is a door.
    pub(super) fn component(&self) -> Option<ComponentView> {
        self.door.as_ref().map(|door| door.gate.view())
    }

    /// A laptop brings and fetches what goes to and comes from outside.
    pub(super) fn exchange(&mut self, node: NodeId, ask: Exchange) -> Result<Answer, Stop> {
        let (user, device, name) = self.lists.user_of(node, ask.session)?;
        let door = self.door.as_mut().ok_or(Stop::Why(Why::Elsewhere))?;
        let now = door.clock.now();
        let answer = door.gate.exchange(&self.database, (Who { node, user, device }, &name), ask, now);
        door.perform();
        answer?.map(Answer::Exchanged).ok_or(Stop::Why(Why::Disabled))
    }

    /// Whom users have blocked counts for the outside from now on.
    pub(super) fn blocks_changed(&mut self) {
        let blocks = self.lists.take_blocks();
        let Some(door) = self.door.as_mut().filter(|_| !blocks.is_empty()) else { return };
        let done = door.gate.blocks_changed(&self.database, &blocks);
        door.perform();
        if let Err(error) = done {
            // Nobody gets through who is blocked; but contacts may still see the user until the connection is made anew.
            tracing::warn!("contacts of somebody who was blocked were not told: {error}");
            door.orders = None;
        }
    }

    /// Something happened on the connection to the stock server.
    pub(super) fn component_event(&mut self, event: Event) {
        let Some(door) = self.door.as_mut() else { return };
        let now = door.clock.now();
        let done = match event {
            Event::Up(orders) => {
                door.orders = Some(orders);
                door.gate.connected(&self.database, now)
            }
            Event::Down(why) => {
                door.orders = None;
                door.gate.disconnected(&why, now);
                Ok(())
            }
            Event::Element(element) => door.gate.came(&self.database, element, now),
            Event::Tick => door.gate.tick(&self.database, now),
        };
        door.perform();
        if let Err(error) = done {
            // What was being taken in is not lost silently: the stock server sends errors for what it cannot hand over.
            tracing::error!("the door to other servers is shut for a moment: {error}");
            door.orders = None;
        }
        self.database.rest();
    }

    /// A user has no name here any more, and what waited for the next devices goes with that.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn shut_out(&mut self, user: &UserId) -> Result<(), GateError> {
        let Some(door) = self.door.as_mut() else { return Ok(()) };
        let done = door.gate.forget_user(&self.database, user);
        door.perform();
        done
    }

    /// Nodes that something waits for since it was asked last.
    pub(super) fn outside_news(&mut self) -> Vec<NodeId> {
        self.door.as_mut().map(|door| std::mem::take(&mut door.news)).unwrap_or_default()
    }
}

impl Door {
    fn perform(&mut self) {
        let mut bytes = Vec::new();
        for effect in self.gate.effects() {
            match effect {
                Effect::Write(stanza) => bytes.extend(stanza),
                Effect::News(node) if !self.news.contains(&node) => self.news.push(node),
                Effect::News(_) => {}
                Effect::Cut(why) => {
                    tracing::warn!("{why}");
                    self.orders = None;
                }
            }
        }
        // Whoever does not read what it is sent is connected anew, and gets what counts again.
        if !bytes.is_empty() && self.orders.as_ref().is_some_and(|orders| orders.try_send(bytes).is_err()) {
            self.orders = None;
        }
    }
}

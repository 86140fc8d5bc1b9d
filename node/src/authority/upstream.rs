//! The office and the door to the outside ([`crate::upstream`]): what happens there is told to the gate, and what that wants is
//! done. Of several processes that share a database one has the gate, as long as it leads; the others pass on to it what
//! laptops ask them (`passing`).

use std::collections::BTreeMap;

use crosstalk_overlay::enrol::{Answer, Ask, Exchange, Why};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::time::Now;
use tokio::sync::mpsc;

use super::counter::Stop;
use super::database::{Change, DatabaseError, MayHaveChanged};
use super::office::{Office, OfficeError};
use super::passing::{self, Passing, Told};
use super::task::Job;
use crate::upstream::ComponentView;
use crate::upstream::connection::{Event, Listener};
use crate::upstream::gate::{Effect, Gate, GateError};
use crate::upstream::outward::Who;

/// The gate, and where its bytes go.
#[derive(Debug)]
pub(super) struct Door {
    address: String,
    /// While this process leads.
    gate: Option<Gate>,
    orders: Option<mpsc::Sender<Vec<u8>>>,
    /// Nodes that something waits for.
    news: Vec<NodeId>,
    /// Answers that came by another process.
    answers: Vec<(NodeId, u64, Vec<u8>)>,
    /// Other processes may have the same database.
    shared: bool,
    passing: Passing,
    /// Laptops that are connected to another process, and to which.
    via: BTreeMap<NodeId, NodeId>,
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

impl MayHaveChanged for GateError {
    fn has_changed(&self) -> bool {
        matches!(self, Self::Database(DatabaseError::Changed))
    }
}

impl Listener for mpsc::Sender<Job> {
    async fn tell(&self, event: Event) -> bool {
        self.send(Job::Component(event)).await.is_ok()
    }

    async fn gone(&self) {
        self.closed().await;
    }
}

impl Office {
    /// Opens the door.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn open_door(&mut self, address: &str) -> Result<(), GateError> {
        self.database.signs().want_link();
        self.door = Some(Door {
            address: address.to_owned(),
            gate: None,
            orders: None,
            news: Vec::new(),
            answers: Vec::new(),
            shared: self.database.is_shared(),
            passing: Passing::default(),
            via: BTreeMap::new(),
        });
        self.follow_the_lead()
    }

    /// How the link to the outside stands, if there is a door.
    pub(super) fn component(&self) -> Option<ComponentView> {
        let door = self.door.as_ref()?;
        Some(
            door.gate.as_ref().map_or_else(|| ComponentView::without(&door.address, door.shared), Gate::view),
        )
    }

    /// Has a gate while it leads, as the database is when it begins to.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn follow_the_lead(&mut self) -> Result<(), GateError> {
        let leads = self.database.signs().keeps_link();
        let (node, domain) = (self.node, self.domain.clone());
        let Some(door) = self.door.as_mut() else { return Ok(()) };
        if !leads {
            door.shut();
        } else if door.gate.is_none() {
            // What is read and who leads are of one moment.
            self.database.rest();
            let mut gate = Gate::open(&self.database, &domain, &door.address)?;
            if door.shared {
                gate.leads_by(passing::lead(&self.database, node)?);
                tracing::info!("this process keeps the link to other servers from now on");
            }
            door.gate = Some(gate);
        }
        Ok(())
    }

    /// What other processes of this server have said meanwhile.
    pub(super) fn attend(&mut self) {
        let Some(door) = self.door.as_mut() else { return };
        if !door.shared || !door.passing.is_due() {
            return;
        }
        let done = self.follow_the_lead().and_then(|()| self.hear());
        self.database.rest();
        match done {
            // The database says by itself that it is away, and what others have changed is looked at again.
            Ok(()) | Err(GateError::Database(DatabaseError::Away(_) | DatabaseError::Changed)) => {}
            Err(error) => tracing::warn!("what is passed between the processes of this server: {error}"),
        }
    }

    fn hear(&mut self) -> Result<(), GateError> {
        let (own, now) = (self.node, self.now());
        let Some(door) = self.door.as_mut() else { return Ok(()) };
        let (answers, news) = door.passing.hear(&self.database, own)?;
        door.answers.extend(answers);
        door.news.extend(news);
        if door.gate.is_none() {
            return Ok(());
        }
        let (mut change, mut stopped) = (Change::default(), None);
        for question in passing::questions(&self.database)? {
            let answer = match door.heed(&self.database, own, &question.word, now) {
                Ok(answer) => answer,
                Err(error @ GateError::Database(DatabaseError::Away(_) | DatabaseError::Changed)) => {
                    // What was answered before stands; the rest is asked again.
                    stopped = Some(error);
                    break;
                }
                Err(error) => {
                    tracing::warn!("what another process of this server has passed on: {error}");
                    Some(Answer::refused(Why::Trouble).to_bytes())
                }
            };
            change = question.done(answer, change);
        }
        let (others, own_news) =
            std::mem::take(&mut door.news).into_iter().partition(|node| door.via.contains_key(node));
        door.news = own_news;
        let others: Vec<NodeId> = others;
        for (node, process) in others.iter().filter_map(|node| Some((node, door.via.get(node)?))) {
            change = passing::news(*process, *node, change);
        }
        // What is read for an answer is of moments before: nothing of it is needed for this to be right.
        self.database.rest();
        if !change.is_empty_upstream()
            && let Err(error) = self.database.commit(change)
        {
            door.news.extend(others);
            return Err(error.into());
        }
        stopped.map_or(Ok(()), Err)
    }

    /// Whether a question of a laptop goes to another process, which answers it.
    pub(super) fn passes_on(&mut self, node: NodeId, request: u64, bytes: &[u8]) -> bool {
        let (own, now) = (self.node, self.now().wall);
        let Some(door) = self.door.as_mut().filter(|door| door.gate.is_none()) else { return false };
        let Some(Ask::Exchange(ask)) = Ask::from_bytes(bytes) else { return false };
        let Ok((user, device, name)) = self.lists.user_of(&self.database, node, ask.session, now) else {
            return false;
        };
        let who = Who { node, user, device };
        let passed = door.passing.pass(&self.database, own, (who, name, bytes.to_vec()), request);
        self.database.rest();
        passed.unwrap_or(false)
    }

    /// A laptop brings and fetches what goes to and comes from outside.
    pub(super) fn exchange(&mut self, node: NodeId, ask: &Exchange) -> Result<Answer, Stop> {
        let now = self.now();
        let (user, device, name) = self.lists.user_of(&self.database, node, ask.session, now.wall)?;
        let door = self.door.as_mut().ok_or(Stop::Why(Why::Elsewhere))?;
        // Nobody leads, or too much waits for who does.
        let door = Some(door).filter(|door| door.gate.is_some()).ok_or(Stop::Why(Why::Trouble))?;
        door.via.remove(&node);
        Ok(door.exchange(&self.database, (Who { node, user, device }, &name), ask, now)?)
    }

    /// Whom users have blocked counts for the outside from now on.
    pub(super) fn blocks_changed(&mut self) {
        let (blocks, own) = (self.lists.take_blocks(), self.node);
        let Some(door) = self.door.as_mut().filter(|_| !blocks.is_empty()) else { return };
        let done = match door.gate.is_some() {
            true => door.blocks_changed(&self.database, &blocks),
            false => door.passing.tell_blocks(&self.database, own, &blocks).map_err(GateError::from),
        };
        if let Err(error) = done {
            // Nobody gets through who is blocked; but contacts may still see the user until the connection is made anew.
            tracing::warn!("contacts of somebody who was blocked were not told: {error}");
            door.orders = None;
        }
    }

    /// Something happened on the connection to the stock server.
    pub(super) fn component_event(&mut self, event: Event) {
        if let Err(error) = self.follow_the_lead() {
            tracing::debug!("the door to other servers: {error}");
        }
        self.at_the_gate(event);
        let outside = self.component();
        let gate = self.door.as_ref().and_then(|door| door.gate.as_ref());
        let passed = gate.map(Gate::passed);
        self.database.signs().count(|figures| {
            figures.outside = outside;
            figures.passed = passed.unwrap_or(figures.passed);
        });
        self.database.rest();
    }

    fn at_the_gate(&mut self, event: Event) {
        let now = self.now();
        let Some(door) = self.door.as_mut() else { return };
        let Some(gate) = door.gate.as_mut() else { return };
        let done = match event {
            Event::Up(orders) => {
                door.orders = Some(orders);
                gate.connected(&self.database, now)
            }
            Event::Down(why) => {
                door.orders = None;
                gate.disconnected(&why, now);
                Ok(())
            }
            Event::Element(element) => gate.came(&self.database, element, now),
            Event::Tick => {
                let nodes = gate.nodes();
                door.via.retain(|node, _| nodes.contains(node));
                gate.tick(&self.database, now)
            }
        };
        door.perform();
        if let Err(error) = done {
            door.failed(&error);
        }
    }

    /// A user has no name here any more, and what waited for the next devices goes with that. Who has the gate is told in the
    /// same change, if that is another process.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn shut_out(&mut self, user: &UserId, change: Change) -> Result<Change, OfficeError> {
        if let Some(door) = self.door.as_mut()
            && let Some(gate) = door.gate.as_mut()
        {
            let done = gate.forget_user(&self.database, user);
            door.perform();
            done?;
        } else if self.database.is_shared() {
            return Ok(passing::forgotten(&self.database, self.node, user, change)?);
        }
        Ok(change)
    }

    /// Nodes that something waits for since it was asked last.
    pub(super) fn outside_news(&mut self) -> Vec<NodeId> {
        let Some(door) = self.door.as_mut() else { return Vec::new() };
        let (own, others) =
            std::mem::take(&mut door.news).into_iter().partition(|node| !door.via.contains_key(node));
        // Those go with what is passed to their process next.
        door.news = others;
        own
    }

    /// Answers for laptops that came by another process since it was asked last.
    pub(super) fn outside_answers(&mut self) -> Vec<(NodeId, u64, Vec<u8>)> {
        self.door.as_mut().map(|door| std::mem::take(&mut door.answers)).unwrap_or_default()
    }

    /// The node ends in order: who sees somebody here is told, and the connection ends behind that.
    pub(super) fn close_door(&mut self) {
        let Some(door) = self.door.as_mut() else { return };
        if let Some(Err(error)) = door.gate.as_mut().map(|gate| gate.close(&self.database)) {
            tracing::warn!("contacts outside were not told that everybody here goes: {error}");
        }
        door.perform();
        door.orders = None;
    }

    /// How soon it is to be looked what other processes have said.
    pub(super) fn looks_after(&self) -> Option<std::time::Duration> {
        self.door.as_ref().filter(|door| door.shared).map(|_| passing::LOOK)
    }
}

impl Door {
    /// What another process has passed on. Returns the answer, where there is one.
    fn heed(
        &mut self,
        database: &super::database::Database,
        own: NodeId,
        word: &Told,
        now: Now,
    ) -> Result<Option<Vec<u8>>, GateError> {
        match word {
            Told::Asked { by, who, name, ask } => {
                if *by != own {
                    self.via.insert(who.node, *by);
                }
                Ok(Some(self.exchange(database, (*who, name), ask, now)?.to_bytes()))
            }
            Told::Blocked(user, jid) => {
                self.blocks_changed(database, &[(*user, jid.clone())])?;
                Ok(None)
            }
            Told::Forgotten(user) => {
                let done = self.gate.iter_mut().try_for_each(|gate| gate.forgotten_elsewhere(database, user));
                self.perform();
                done.map(|()| None)
            }
            Told::Nothing => Ok(None),
        }
    }

    /// An exchange with a laptop, by this process or another.
    fn exchange(
        &mut self,
        database: &super::database::Database,
        who: (Who, &str),
        ask: &Exchange,
        now: Now,
    ) -> Result<Answer, GateError> {
        let Some(gate) = self.gate.as_mut() else { return Ok(Answer::refused(Why::Trouble)) };
        let answer = gate.exchange(database, who, ask.clone(), now);
        self.perform();
        if let Err(error) = &answer {
            self.deposed(error);
        }
        Ok(answer?.map_or(Answer::refused(Why::Disabled), Answer::Exchanged))
    }

    fn blocks_changed(
        &mut self,
        database: &super::database::Database,
        blocks: &[(UserId, jid::Jid)],
    ) -> Result<(), GateError> {
        let done = self.gate.iter_mut().try_for_each(|gate| gate.blocks_changed(database, blocks));
        self.perform();
        done
    }

    /// What was being taken in is not lost silently: the stock server sends errors for what it cannot hand over.
    fn failed(&mut self, error: &GateError) {
        tracing::error!("the door to other servers is shut for a moment: {error}");
        self.orders = None;
        self.deposed(error);
    }

    /// Another process leads, or may have led meanwhile: what is known here is read anew.
    fn deposed(&mut self, error: &GateError) {
        if self.shared
            && matches!(error, GateError::Database(DatabaseError::Changed | DatabaseError::Away(_)))
        {
            self.shut();
        }
    }

    /// This process does not lead any more.
    fn shut(&mut self) {
        if self.gate.take().is_some() {
            tracing::info!("this process does not keep the link to other servers any more");
        }
        self.orders = None;
        self.via.clear();
    }

    fn perform(&mut self) {
        let Some(gate) = self.gate.as_mut() else { return };
        let mut bytes = Vec::new();
        for effect in gate.effects() {
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

//! Who goes through between the users of a domain and the outside, and what is on its way out.
//!
//! A laptop speaks for its proven user alone, the stock server for addresses outside alone. A letter from a laptop is durable
//! here before the laptop is told, goes out in the order in which it came, and is forgotten once the stock server has sent back
//! a ping that was put behind it: XEP-0114 acknowledges nothing, but stanzas of one stream are handled in their order.

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::time::{Now, SECOND};
use crosstalk_storage::tree::authority::{Member, MemberState};
use crosstalk_storage::tree::upstream::{
    ALL_OUTGOING, HeldStanza, outgoing as outgoing_key, queue_of, read_outgoing, read_queued,
};
use jid::Jid;

use super::book::{Book, LETTERS, Moved, Waiting};
use super::outgoing::Outgoing;
use super::presence::{Presences, Seat};
use super::rates::Rates;
use super::shares::{Full, Held, Limits, Shares};
use super::{ComponentView, Passed, outgoing};
use crate::accounts::random;
use crate::authority::database::{Change, Database, DatabaseError};
use crate::authority::passing;
use crate::core::hex;
use crate::features::delay;
use crate::xmpp::{Element, Kind, Stanza, Type, ns};

/// Letters that wait for the devices of all users.
const WAITING: usize = 75_000;
/// Room for them, and what they may take of it who are no contacts of whom they write to: all of them, those of one domain, and
/// one of them. Bytes are bounded for each user.
const ROOM: Limits = Limits {
    all: Held { letters: WAITING, bytes: usize::MAX },
    strangers: Held { letters: WAITING / 2, bytes: usize::MAX },
    domain: Held { letters: WAITING / 5, bytes: usize::MAX },
    sender: Held { letters: WAITING / 15, bytes: usize::MAX },
};
/// Books in memory; of more the one used longest ago is read again.
const BOOKS: usize = 512;
/// Letters written before the stock server has to prove that it handled them.
const WINDOW: usize = 64;
/// How long it may take for that, milliseconds; then the connection is given up.
const PATIENCE: u64 = 30 * SECOND;
/// How often letters are counted again, at most: all are read for it.
const COUNT_AGAIN: u64 = 60 * SECOND;
/// What is later than this is stamped (XEP-0203).
const NOTICEABLE: u64 = 10 * SECOND;

/// What the gate wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Bytes for the stock server.
    Write(Vec<u8>),
    /// The connection to it is of no use: end it.
    Cut(&'static str),
    /// Something waits for users of a node.
    News(NodeId),
}

/// What stops something.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] random::NoRandomness),
}

/// The link to the stock server.
#[derive(Debug, Default)]
struct Link {
    up: bool,
    since: u64,
    why: Option<String>,
    /// Letters up to this one were written on the present connection.
    written: u64,
    /// The ping behind them: its id, up to which letter, until when.
    ping: Option<(String, u64, u64)>,
    pings: u64,
}

/// See the file's head.
#[derive(Debug)]
pub struct Gate {
    pub(super) domain: String,
    address: String,
    pub(super) books: BTreeMap<UserId, Book>,
    uses: u64,
    pub(super) seats: BTreeMap<DeviceId, Seat>,
    pub(super) presences: Presences,
    pub(super) out: Outgoing,
    waiting: Shares,
    link: Link,
    pub(super) outward: Rates,
    pub(super) inward: Rates,
    pub(super) effects: Vec<Effect>,
    refused: BTreeMap<String, u64>,
    /// Sessions that ended while the stock server was away, which shows them still: to one address, or to all who see the user.
    pub(super) owed: BTreeSet<(UserId, Jid, Option<Jid>)>,
    /// What went through.
    pub(super) passed: Passed,
    /// Of several processes with one database this one leads by this number.
    epoch: Option<u64>,
    /// Another process has deleted letters: they are to be counted again.
    miscounted: bool,
    /// When they were counted so last, monotonic milliseconds.
    counted: u64,
}

impl Gate {
    /// The gate of a domain; `address` is where the stock server is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open(database: &Database, domain: &str, address: &str) -> Result<Self, GateError> {
        let mut gate = Self {
            domain: domain.to_owned(),
            address: address.to_owned(),
            books: BTreeMap::new(),
            uses: 0,
            seats: BTreeMap::new(),
            presences: Presences::default(),
            out: Outgoing::default(),
            waiting: Shares::default(),
            link: Link { why: Some("not connected yet".to_owned()), ..Link::default() },
            outward: Rates::default(),
            inward: Rates::default(),
            effects: Vec::new(),
            refused: BTreeMap::new(),
            owed: BTreeSet::new(),
            passed: Passed::default(),
            epoch: None,
            miscounted: false,
            counted: 0,
        };
        database.each_upstream(ALL_OUTGOING, outgoing::ALL, |key, letter: HeldStanza| {
            if let (Some(number), Some(user)) = (read_outgoing(key), UserId::from_slice(&letter.by)) {
                gate.out.load(number, user);
            }
        })?;
        gate.count_waiting(database)?;
        Ok(gate)
    }

    /// Counts what waits for the devices of all users.
    fn count_waiting(&mut self, database: &Database) -> Result<(), DatabaseError> {
        let mut waiting = Shares::default();
        // The first letter of the key alone: of all users.
        let queues = queue_of(&[0; 32]);
        database.each_upstream(&queues[..1], WAITING + LETTERS, |key, letter: HeldStanza| {
            if read_queued(key).is_some() {
                let letter = Waiting::new(&letter);
                let (writer, bytes) = letter.part();
                waiting.add(writer, bytes);
            }
        })?;
        self.waiting = waiting;
        Ok(())
    }

    /// Of several processes with one database this one leads, by this number: all that is known here is so as long as that
    /// number stands there.
    pub fn leads_by(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
    }

    /// Makes a change durable, unless another process has led meanwhile.
    ///
    /// # Errors
    /// [`DatabaseError::Changed`] then, and when the database fails.
    pub(super) fn commit(&self, database: &Database, change: Change) -> Result<(), DatabaseError> {
        match self.epoch {
            Some(epoch) if passing::epoch(database)? != epoch => Err(DatabaseError::Changed),
            _ => database.commit(change),
        }
    }

    /// Nodes of the laptops that are here.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.seats.values().map(|seat| seat.node).collect()
    }

    /// What is to be done now, in this order.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How the link stands.
    pub fn view(&self) -> ComponentView {
        ComponentView {
            address: self.address.clone(),
            state: if self.link.up { "up" } else { "down" }.to_owned(),
            since: self.link.since,
            why: self.link.why.clone(),
            held: self.out.len(),
            waiting: self.waiting.letters(),
            refused: self.refused.clone(),
        }
    }

    /// Whether the stock server is connected.
    pub fn is_up(&self) -> bool {
        self.link.up
    }

    /// The stock server has taken the component in.
    ///
    /// # Errors
    /// When the database fails.
    pub fn connected(&mut self, database: &Database, now: Now) -> Result<(), GateError> {
        self.link = Link { up: true, since: now.wall, pings: self.link.pings, ..Link::default() };
        self.say_who_is_gone(database)?;
        self.say_who_is_there(database)?;
        self.go_on(database, now)
    }

    /// The link ends in order: nobody here is seen outside any more.
    ///
    /// # Errors
    /// When the database fails.
    pub fn close(&mut self, database: &Database) -> Result<(), GateError> {
        let devices: Vec<DeviceId> = self.seats.keys().copied().collect();
        devices.into_iter().try_for_each(|device| self.leaves(database, device))
    }

    /// What went through since the start, and who is here.
    pub fn passed(&self) -> Passed {
        Passed { laptops: self.seats.len() as u64, ..self.passed }
    }

    /// The connection is lost, or was not to be had.
    pub fn disconnected(&mut self, why: &str, now: Now) {
        let since = if self.link.up || self.link.since == 0 { now.wall } else { self.link.since };
        self.link = Link { since, why: Some(why.to_owned()), pings: self.link.pings, ..Link::default() };
        self.nobody_is_seen();
    }

    /// Some time has gone by.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tick(&mut self, database: &Database, now: Now) -> Result<(), GateError> {
        if self.link.ping.as_ref().is_some_and(|(_, _, until)| *until <= now.mono) {
            self.link.ping = None;
            self.effects.push(Effect::Cut("the XMPP server does not handle what it is sent"));
        }
        self.outward.forget(now.mono);
        self.inward.forget(now.mono);
        self.who_is_gone(database, now)?;
        self.count_again(database, now)?;
        self.go_on(database, now)
    }

    fn count_again(&mut self, database: &Database, now: Now) -> Result<(), DatabaseError> {
        if !self.miscounted || self.counted > 0 && now.mono < self.counted + COUNT_AGAIN {
            return Ok(());
        }
        // What is counted is of one moment, and so of none of this process's own changes half.
        database.rest();
        self.count_waiting(database)?;
        (self.miscounted, self.counted) = (false, now.mono);
        Ok(())
    }

    /// Counts something refused.
    pub(super) fn refuse(&mut self, what: &str) {
        *self.refused.entry(what.to_owned()).or_default() += 1;
    }

    /// Writes to the stock server, if it is there.
    pub(super) fn write(&mut self, stanza: &Stanza) {
        if self.link.up {
            self.effects.push(Effect::Write(stanza.to_bytes()));
        }
    }

    /// All that is kept of a user is about to be deleted: its sessions are taken back while it is known from whom.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn forget_user(&mut self, database: &Database, user: &UserId) -> Result<(), GateError> {
        for device in self.seats_of(*user) {
            self.leaves(database, device)?;
        }
        let all = std::mem::take(self.book(database, user)?).into_letters();
        self.books.remove(user);
        self.moved((Vec::new(), all));
        Ok(())
    }

    /// Another process has deleted all that was kept of a user.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn forgotten_elsewhere(&mut self, database: &Database, user: &UserId) -> Result<(), GateError> {
        for device in self.seats_of(*user) {
            self.leaves(database, device)?;
        }
        self.books.remove(user);
        self.miscounted = true;
        Ok(())
    }

    /// What is in the way of one letter more that waits for devices.
    pub(super) fn full_inward(&self, letter: &HeldStanza) -> Option<Full> {
        let waiting = Waiting::new(letter);
        let (writer, bytes) = waiting.part();
        self.waiting.taken(writer).full(writer, bytes, &ROOM)
    }

    /// Letters came and went.
    pub(super) fn moved(&mut self, (come, gone): Moved) {
        for (writer, bytes) in come.iter().map(Waiting::part) {
            self.waiting.add(writer, bytes);
        }
        for (writer, bytes) in gone.iter().map(Waiting::part) {
            self.waiting.remove(writer, bytes);
        }
    }

    /// Puts a letter on its way out, with the change that takes it in.
    pub(super) fn send_letter(&mut self, user: UserId, at: u64, stanza: &Stanza, change: Change) -> Change {
        let by = user.as_bytes().to_vec();
        let letter = HeldStanza { at, stanza: stanza.to_bytes(), by, ..HeldStanza::default() };
        self.passed.taken_out += 1;
        change.upstream(outgoing_key(self.out.add(user)), Some(&letter))
    }

    /// Writes what may be written, and a ping behind it.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn go_on(&mut self, database: &Database, now: Now) -> Result<(), GateError> {
        if !self.link.up || self.link.ping.is_some() {
            return Ok(());
        }
        let next = self.out.behind(self.link.written, WINDOW);
        let Some(last) = next.last().copied() else { return Ok(()) };
        for number in next {
            if let Some(letter) = database.upstream::<HeldStanza>(&outgoing_key(number))? {
                self.write_letter(&letter, now);
            }
        }
        self.link.written = last;
        self.link.pings += 1;
        // Nobody outside can guess it and so make a letter forgotten that has not arrived.
        let id = format!("{}-{}", hex(&random::bytes::<8>()?), self.link.pings);
        let mut ping = Stanza::iq(Type::Get, &id, Element::new("ping", ns::PING));
        ping.from = Jid::new(&self.domain).ok();
        ping.to = ping.from.clone();
        self.write(&ping);
        self.link.ping = Some((id, last, now.mono + PATIENCE));
        Ok(())
    }

    fn write_letter(&mut self, letter: &HeldStanza, now: Now) {
        let Ok(mut stanza) = Stanza::read(&letter.stanza) else {
            return self.refuse("letters that could not be read");
        };
        if stanza.kind == Kind::Message && now.wall.saturating_sub(letter.at) > NOTICEABLE {
            delay::stamp(&mut stanza, &self.domain, letter.at);
        }
        self.write(&stanza);
    }

    /// Our own ping comes back: what was written before it was handled. True if that is what the stanza is.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn is_echo(
        &mut self,
        database: &Database,
        stanza: &Stanza,
        now: Now,
    ) -> Result<bool, GateError> {
        let is_own = |jid: Option<&Jid>| jid.is_some_and(|jid| jid.as_str() == self.domain);
        if stanza.kind != Kind::Iq || !is_own(stanza.from.as_ref()) || !is_own(stanza.to.as_ref()) {
            return Ok(false);
        }
        let Some((_, last, _)) = self.link.ping.take_if(|(id, _, _)| stanza.id.as_deref() == Some(&**id))
        else {
            return Ok(true);
        };
        let gone = |change: Change, number: u64| change.upstream::<HeldStanza>(outgoing_key(number), None);
        self.commit(database, self.out.up_to(last).into_iter().fold(Change::default(), gone))?;
        self.passed.handled += self.out.done(last) as u64;
        self.go_on(database, now)?;
        Ok(true)
    }

    /// A user's book.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn book(&mut self, database: &Database, user: &UserId) -> Result<&mut Book, GateError> {
        if !self.books.contains_key(user) {
            if self.books.len() >= BOOKS {
                let oldest = self.books.iter().min_by_key(|(_, book)| book.used).map(|(user, _)| *user);
                oldest.map(|user| self.books.remove(&user));
            }
            self.books.insert(*user, Book::read(database, user)?);
        }
        self.uses += 1;
        let uses = self.uses;
        let book = self.books.entry(*user).or_default();
        book.used = uses;
        Ok(book)
    }

    /// The enrolled user with an address of the domain.
    pub(super) fn user_at(&self, database: &Database, jid: &Jid) -> Result<Option<UserId>, DatabaseError> {
        let Some(name) = jid.node().filter(|_| jid.domain().as_str() == self.domain) else { return Ok(None) };
        let member = database.member(name.as_str())?;
        let enrolled = member.filter(|member| member.state() == MemberState::Enrolled);
        Ok(enrolled.and_then(|member| UserId::from_slice(&member.user)))
    }

    /// Whether a user still has a name.
    pub(super) fn has_name(
        &self,
        database: &Database,
        user: &UserId,
        name: &str,
    ) -> Result<bool, DatabaseError> {
        let has = |member: Member| member.state() == MemberState::Enrolled && member.user == user.as_bytes();
        Ok(database.member(name)?.is_some_and(has))
    }
}

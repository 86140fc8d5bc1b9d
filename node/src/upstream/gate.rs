//! Who goes through between the users of a domain and the outside, and what is on its way out.
//!
//! A laptop speaks for its proven user alone, the stock server for addresses outside alone. A letter from a laptop is durable
//! here before the laptop is told, goes out in the order in which it came, and is forgotten once the stock server has sent back
//! a ping that was put behind it: XEP-0114 acknowledges nothing, but stanzas of one stream are handled in their order.

use std::collections::BTreeMap;

use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::time::{Now, SECOND};
use crosstalk_storage::tree::authority::{Member, MemberState};
use crosstalk_storage::tree::upstream::{
    ALL_OUTGOING, HeldStanza, outgoing, queue_of, read_outgoing, read_queued,
};
use jid::Jid;

use super::ComponentView;
use super::book::{Book, LETTERS};
use super::presence::{Presences, Seat};
use crate::accounts::random;
use crate::authority::database::{Change, Database, DatabaseError};
use crate::core::hex;
use crate::features::delay;
use crate::xmpp::{Element, Kind, Stanza, Type, ns};

/// Letters on their way out, of all users and of one.
const OUTGOING: usize = 20_000;
const OUTGOING_OF_USER: usize = 2_000;
/// Letters that wait for the devices of all users.
const WAITING: usize = 75_000;
/// Books in memory; of more the one used longest ago is read again.
const BOOKS: usize = 512;
/// Letters written before the stock server has to prove that it handled them.
const WINDOW: usize = 64;
/// How long it may take for that, milliseconds; then the connection is given up.
const PATIENCE: u64 = 30 * SECOND;
/// What is later than this is stamped (XEP-0203).
const NOTICEABLE: u64 = 10 * SECOND;
/// Stanzas a second, and at once: of one user, and of all; each way.
const RATE_OF_USER: (u64, u64) = (20, 400);
const RATE: (u64, u64) = (500, 5_000);

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

/// How many stanzas may still come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// As if each stanza took its time: monotonic milliseconds, shifted by what may come at once.
    spent: u64,
}

impl Bucket {
    fn has_room(&self, (rate, burst): (u64, u64), now: u64) -> bool {
        self.spent.max(now) + SECOND / rate <= now + burst * SECOND / rate
    }

    fn take(&mut self, (rate, _): (u64, u64), now: u64) {
        self.spent = self.spent.max(now) + SECOND / rate;
    }
}

/// The rates of one direction.
#[derive(Debug, Default)]
pub(super) struct Rates {
    all: Bucket,
    users: BTreeMap<UserId, Bucket>,
}

impl Rates {
    /// Takes one stanza of a user; false if there were too many.
    pub(super) fn takes(&mut self, user: &UserId, now: u64) -> bool {
        let mut own = self.users.get(user).copied().unwrap_or_default();
        if !self.all.has_room(RATE, now) || !own.has_room(RATE_OF_USER, now) {
            return false;
        }
        self.all.take(RATE, now);
        own.take(RATE_OF_USER, now);
        self.users.insert(*user, own);
        true
    }

    fn forget(&mut self, now: u64) {
        self.users.retain(|_, bucket| bucket.spent > now);
    }
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
    /// Letters on their way out, and whose they are.
    letters: BTreeMap<u64, UserId>,
    next: u64,
    pub(super) waiting: usize,
    link: Link,
    pub(super) outward: Rates,
    pub(super) inward: Rates,
    pub(super) effects: Vec<Effect>,
    refused: BTreeMap<String, u64>,
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
            letters: BTreeMap::new(),
            next: 1,
            waiting: 0,
            link: Link { why: Some("not connected yet".to_owned()), ..Link::default() },
            outward: Rates::default(),
            inward: Rates::default(),
            effects: Vec::new(),
            refused: BTreeMap::new(),
        };
        for (key, letter) in database.all_upstream::<HeldStanza>(ALL_OUTGOING, OUTGOING)? {
            let (Some(number), Some(user)) = (read_outgoing(&key), UserId::from_slice(&letter.by)) else {
                continue;
            };
            gate.next = gate.next.max(number + 1);
            gate.letters.insert(number, user);
        }
        // The first letter of the key alone: of all users.
        let queues = queue_of(&[0; 32]);
        let waiting = database.all_upstream::<HeldStanza>(&queues[..1], WAITING + LETTERS)?;
        gate.waiting = waiting.iter().filter(|(key, _)| read_queued(key).is_some()).count();
        Ok(gate)
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
            held: self.letters.len(),
            waiting: self.waiting,
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
        self.say_who_is_there(database)?;
        self.go_on(database, now)
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
        self.go_on(database, now)
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
        let letters = self.book(database, user)?.len();
        self.books.remove(user);
        self.waiting = self.waiting.saturating_sub(letters);
        Ok(())
    }

    /// Whether one letter more of a user may wait to go out.
    pub(super) fn has_room(&self, user: &UserId) -> bool {
        self.letters.len() < OUTGOING
            && self.letters.values().filter(|of| *of == user).count() < OUTGOING_OF_USER
    }

    /// Whether one letter more may wait for devices.
    pub(super) fn has_room_inward(&self) -> bool {
        self.waiting < WAITING
    }

    /// Puts a letter on its way out, with the change that takes it in.
    pub(super) fn send_letter(&mut self, user: UserId, at: u64, stanza: &Stanza, change: Change) -> Change {
        let letter = HeldStanza { at, stanza: stanza.to_bytes(), by: user.as_bytes().to_vec() };
        let number = self.next;
        self.next += 1;
        self.letters.insert(number, user);
        change.upstream(outgoing(number), Some(&letter))
    }

    /// Takes back what [`Self::send_letter`] noted since `mark`: its change was not made.
    pub(super) fn unsend(&mut self, mark: u64) {
        self.letters.split_off(&mark);
    }

    /// Where the next letter will stand.
    pub(super) fn mark(&self) -> u64 {
        self.next
    }

    /// Writes what may be written, and a ping behind it.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn go_on(&mut self, database: &Database, now: Now) -> Result<(), GateError> {
        if !self.link.up || self.link.ping.is_some() {
            return Ok(());
        }
        let next: Vec<u64> =
            self.letters.range(self.link.written + 1..).take(WINDOW).map(|(number, _)| *number).collect();
        let Some(last) = next.last().copied() else { return Ok(()) };
        for number in next {
            if let Some(letter) = database.upstream::<HeldStanza>(&outgoing(number))? {
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
        let done: Vec<u64> = self.letters.range(..=last).map(|(number, _)| *number).collect();
        let gone = |change: Change, number: &u64| change.upstream::<HeldStanza>(outgoing(*number), None);
        database.commit(done.iter().fold(Change::default(), gone))?;
        self.letters.retain(|number, _| *number > last);
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

//! What the server keeps of one user's way to the outside: the letters that wait for the devices, how far each device is, and
//! who sees whom. In the authority's database, so that it is backed up, and moved to another make of database, with the users
//! it belongs to; read into memory when it is needed.

use std::collections::BTreeMap;

use crosstalk_overlay::enrol::{Letter, OutsideContact};
use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::time::{DAY, Now};
use crosstalk_storage::tree::upstream::{
    Contact, Device, HeldStanza, OutsideState, Queue, State, contacts_of, devices_of, of_contact, of_device,
    of_user, queue_of, queued, read_queued,
};

use super::shares::{Full, Held, Limits, Shares, Writer};
use crate::accounts::random;
use crate::authority::database::{Change, Database, DatabaseError};
use crate::core::upstream::subscription::is_none;

/// Letters that wait for one user's devices.
pub const LETTERS: usize = 2_000;
/// Room for them, and what one sender outside, one domain, and all who are no contacts may take of it.
const ROOM: Limits = Limits {
    all: Held { letters: LETTERS, bytes: 4 << 20 },
    strangers: Held { letters: LETTERS / 2, bytes: 2 << 20 },
    domain: Held { letters: LETTERS / 2, bytes: 2 << 20 },
    sender: Held { letters: LETTERS / 4, bytes: 1 << 20 },
};
/// Contacts of one user outside: a whole list, and who asks or is asked.
pub const CONTACTS: usize = 6_000;
/// Of them, requests that nobody has answered.
pub const REQUESTS: usize = 200;
/// Devices of one user of which it is known how far they are.
const DEVICES: usize = 64;
/// A device that was not heard for so long does not keep letters any more.
const SILENT: u64 = 60 * DAY;

/// A letter that waits, without its text.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    bytes: usize,
    /// The device that has sent it; empty: it came from outside.
    by: Vec<u8>,
    /// Who wrote it outside.
    writer: Option<Writer>,
}

impl Waiting {
    pub(super) fn new(letter: &HeldStanza) -> Self {
        Self { bytes: letter.stanza.len(), by: letter.by.clone(), writer: Writer::of(letter) }
    }

    /// What it takes of the room for letters of all users: contacts are not held to shares there.
    pub(super) fn part(&self) -> (Option<&Writer>, usize) {
        (self.writer.as_ref().filter(|writer| writer.stranger), self.bytes)
    }
}

/// Letters that came and went.
pub(super) type Moved = (Vec<Waiting>, Vec<Waiting>);

/// See the file's head.
#[derive(Debug, Default)]
pub struct Book {
    pub(super) queue: Queue,
    letters: BTreeMap<u64, Waiting>,
    room: Shares,
    pub(super) contacts: BTreeMap<String, Contact>,
    devices: BTreeMap<DeviceId, Device>,
    pub(super) used: u64,
}

/// A change of a book that is not durable yet.
#[derive(Debug, Default)]
pub(super) struct Page {
    queue: Option<Queue>,
    letters: Vec<(u64, Waiting)>,
    gone: Vec<u64>,
    contacts: Vec<(String, Contact)>,
    /// A contact with whom nothing is any more, and who makes room.
    forgotten: Option<String>,
    device: Option<(DeviceId, Device)>,
}

impl Book {
    /// Reads a user's book.
    pub(super) fn read(database: &Database, user: &UserId) -> Result<Self, DatabaseError> {
        let key = user.as_bytes();
        let mut book = Self::default();
        if let Some(OutsideState { state: Some(State::Queue(queue)) }) = database.upstream(&of_user(key))? {
            book.queue = queue;
        }
        for (key, letter) in database.all_upstream::<HeldStanza>(&queue_of(key), LETTERS)? {
            let Some((_, number)) = read_queued(&key) else { continue };
            book.add(number, Waiting::new(&letter));
        }
        for (at, value) in database.all_upstream::<OutsideState>(&contacts_of(key), CONTACTS)? {
            if let (Some(State::Contact(contact)), Ok(address)) =
                (value.state, std::str::from_utf8(&at[33..]))
            {
                book.contacts.insert(address.to_owned(), contact);
            }
        }
        for (at, value) in database.all_upstream::<OutsideState>(&devices_of(key), DEVICES)? {
            if let (Some(State::Device(device)), Some(id)) = (value.state, DeviceId::from_slice(&at[33..])) {
                book.devices.insert(id, device);
            }
        }
        Ok(book)
    }

    fn add(&mut self, number: u64, waiting: Waiting) {
        self.room.add(waiting.writer.as_ref(), waiting.bytes);
        self.letters.insert(number, waiting);
    }

    /// All that wait.
    pub(super) fn into_letters(self) -> Vec<Waiting> {
        self.letters.into_values().collect()
    }

    /// How a contact stands.
    pub(super) fn contact(&self, address: &str) -> Contact {
        self.contacts.get(address).copied().unwrap_or_default()
    }

    /// Who sees the user.
    pub(super) fn watchers(&self) -> impl Iterator<Item = &str> {
        self.contacts.iter().filter(|(_, contact)| contact.from).map(|(address, _)| address.as_str())
    }

    /// Whom the user sees.
    pub(super) fn watched(&self) -> impl Iterator<Item = &str> {
        self.contacts.iter().filter(|(_, contact)| contact.to).map(|(address, _)| address.as_str())
    }

    /// Whether one contact more may be kept; `asks`: because it asks.
    pub(super) fn has_room_for(&self, address: &str, asks: bool) -> bool {
        let requests = || self.contacts.values().filter(|contact| contact.pending_in).count();
        let room = || self.contacts.len() < CONTACTS || self.contacts.values().any(is_none);
        self.contacts.contains_key(address) || (!asks || requests() < REQUESTS) && room()
    }

    /// How far a device is.
    pub(super) fn device(&self, device: &DeviceId) -> Device {
        self.devices.get(device).copied().unwrap_or_default()
    }

    /// Letters for a device that has everything up to `come`: at least one, or so many bytes. And whether there are more.
    pub(super) fn letters_for(
        &self,
        database: &Database,
        user: &UserId,
        device: &DeviceId,
        (come, most): (u64, usize),
    ) -> Result<(Vec<Letter>, bool), DatabaseError> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        for (number, waiting) in self.letters.range(come.saturating_add(1)..) {
            let own = waiting.by == device.as_bytes();
            let size = if own { 0 } else { waiting.bytes };
            if !letters.is_empty() && bytes + size > most {
                return Ok((letters, true));
            }
            bytes += size;
            // Its own: the number alone, so that it is known to be past it.
            let held = match own {
                true => HeldStanza::default(),
                false => database.upstream(&queued(user.as_bytes(), *number))?.unwrap_or_default(),
            };
            let copy = !waiting.by.is_empty();
            letters.push(Letter { number: *number, at: held.at, stanza: held.stanza, copy });
        }
        Ok((letters, false))
    }

    /// Contacts that changed after a version: one, or so many bytes. And whether there are more.
    pub(super) fn contacts_after(&self, version: u64, most: usize) -> (Vec<OutsideContact>, bool) {
        let mut changed: Vec<_> =
            self.contacts.iter().filter(|(_, contact)| contact.version > version).collect();
        changed.sort_by_key(|(_, contact)| contact.version);
        let all = changed.len();
        let mut bytes = 0;
        changed.retain(|(address, _)| {
            let fits = bytes == 0 || bytes + address.len() <= most;
            bytes += address.len() + 16;
            fits
        });
        let more = changed.len() < all;
        let shape = |(address, contact): (&String, &Contact)| OutsideContact {
            address: address.clone(),
            to: contact.to,
            from: contact.from,
            ask: contact.ask,
            pending_in: contact.pending_in,
            version: contact.version,
        };
        (changed.into_iter().map(shape).collect(), more)
    }

    /// Devices of the user other than this one are known.
    pub(super) fn has_others(&self, device: &DeviceId) -> bool {
        self.devices.keys().any(|other| other != device)
    }

    /// Takes a change in that is durable.
    pub(super) fn apply(&mut self, page: Page) -> Moved {
        self.queue = page.queue.unwrap_or(self.queue);
        let come = page.letters.iter().map(|(_, waiting)| waiting.clone()).collect();
        page.letters.into_iter().for_each(|(number, waiting)| self.add(number, waiting));
        let gone: Vec<Waiting> = page.gone.iter().filter_map(|number| self.letters.remove(number)).collect();
        gone.iter().for_each(|gone| self.room.remove(gone.writer.as_ref(), gone.bytes));
        page.forgotten.map(|address| self.contacts.remove(&address));
        for (address, contact) in page.contacts {
            self.contacts.insert(address, contact);
        }
        if let Some((id, device)) = page.device {
            self.devices.insert(id, device);
            if self.devices.len() > DEVICES {
                let oldest = self.devices.iter().min_by_key(|(_, device)| device.heard);
                oldest.map(|(id, _)| *id).map(|id| self.devices.remove(&id));
            }
        }
        (come, gone)
    }
}

impl Page {
    fn queue(&mut self, book: &Book) -> Result<Queue, random::NoRandomness> {
        let queue = self.queue.unwrap_or(book.queue);
        if queue.id != 0 {
            return Ok(queue);
        }
        Ok(Queue { id: random::queue_id()?, ..queue })
    }

    /// A letter for the devices. Where there is no room, those that one device has make it; or it says what is full.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub(super) fn letter(
        &mut self,
        book: &Book,
        user: &UserId,
        letter: &HeldStanza,
        change: Change,
    ) -> Result<(Change, Option<Full>), random::NoRandomness> {
        let (waiting, mut change) = (Waiting::new(letter), change);
        let writer = waiting.writer.as_ref();
        let mut taken = book.room.taken(writer);
        let mut moves = |other: &Waiting, comes| {
            taken.changes(writer, (other.writer.as_ref(), other.bytes, comes));
            taken.full(writer, waiting.bytes, &ROOM)
        };
        let mut full = book.room.taken(writer).full(writer, waiting.bytes, &ROOM);
        for gone in self.gone.iter().filter_map(|number| book.letters.get(number)) {
            full = moves(gone, false);
        }
        for (_, come) in &self.letters {
            full = moves(come, true);
        }
        let had = book.devices.values().map(|device| device.come).max().unwrap_or_default();
        for (number, other) in book.letters.range(..=had) {
            let Some(which) = full else { break };
            if self.gone.contains(number) || !which.is_eased_by(writer, other.writer.as_ref()) {
                continue;
            }
            full = moves(other, false);
            change = change.upstream::<HeldStanza>(queued(user.as_bytes(), *number), None);
            self.gone.push(*number);
        }
        if full.is_some() {
            return Ok((change, full));
        }
        let queue = self.queue(book)?;
        let queue = Queue { last: queue.last + 1, ..queue };
        self.queue = Some(queue);
        self.letters.push((queue.last, waiting));
        let state = OutsideState { state: Some(State::Queue(queue)) };
        let change = change
            .upstream(queued(user.as_bytes(), queue.last), Some(letter))
            .upstream(of_user(user.as_bytes()), Some(&state));
        Ok((change, None))
    }

    /// A contact stands otherwise.
    pub(super) fn contact(
        &mut self,
        book: &Book,
        user: &UserId,
        (address, contact): (&str, Contact),
        change: Change,
    ) -> Result<Change, random::NoRandomness> {
        let queue = self.queue(book)?;
        let queue = Queue { version: queue.version + 1, ..queue };
        self.queue = Some(queue);
        // Who has nothing to do with the user any more is kept, so that all devices learn of it; the newest stand for all.
        let contact = Contact { version: queue.version, ..contact };
        self.contacts.push((address.to_owned(), contact));
        let state = |state| OutsideState { state: Some(state) };
        let mut change = change;
        if !book.contacts.contains_key(address) && book.contacts.len() >= CONTACTS {
            let over = book.contacts.iter().filter(|(_, contact)| is_none(contact));
            let oldest = over.min_by_key(|(_, contact)| contact.version).map(|(address, _)| address.clone());
            if let Some(oldest) = &oldest {
                change = change.upstream::<OutsideState>(of_contact(user.as_bytes(), oldest), None);
            }
            self.forgotten = oldest;
        }
        Ok(change
            .upstream(of_contact(user.as_bytes(), address), Some(&state(State::Contact(contact))))
            .upstream(of_user(user.as_bytes()), Some(&state(State::Queue(queue)))))
    }

    /// How a contact stands with what is on this page.
    pub(super) fn standing(&self, book: &Book, address: &str) -> Contact {
        let here = self.contacts.iter().rev().find(|(known, _)| known == address);
        here.map_or_else(|| book.contact(address), |(_, contact)| *contact)
    }

    /// A device is so far. What all have goes.
    pub(super) fn device(
        &mut self,
        book: &Book,
        user: &UserId,
        (id, device): (DeviceId, Device),
        now: Now,
        change: Change,
    ) -> Change {
        let before = book.device(&id);
        let heard = if now.wall.abs_diff(before.heard) > DAY { now.wall } else { before.heard };
        let device = Device { heard, ..device };
        if device == before {
            return change;
        }
        self.device = Some((id, device));
        let others = book
            .devices
            .iter()
            .filter(|(other, known)| **other != id && known.heard.saturating_add(SILENT) > now.wall);
        let all = others.map(|(_, known)| known.come).chain([device.come]).min().unwrap_or_default();
        let mut change = change;
        for number in book.letters.range(..=all).map(|(number, _)| *number) {
            change = change.upstream::<HeldStanza>(queued(user.as_bytes(), number), None);
            self.gone.push(number);
        }
        let state = OutsideState { state: Some(State::Device(device)) };
        change.upstream(of_device(user.as_bytes(), id.as_bytes()), Some(&state))
    }
}

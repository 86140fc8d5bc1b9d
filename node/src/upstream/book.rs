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

use crate::accounts::random;
use crate::authority::database::{Change, Database, DatabaseError};
use crate::core::upstream::subscription::is_none;

/// Letters that wait for one user's devices, and their bytes.
pub const LETTERS: usize = 2_000;
const BYTES: usize = 4 << 20;
/// Contacts of one user outside.
pub const CONTACTS: usize = 4_000;
/// Of them, requests that nobody has answered.
pub const REQUESTS: usize = 200;
/// Devices of one user of which it is known how far they are.
const DEVICES: usize = 64;
/// A device that was not heard for so long does not keep letters any more.
const SILENT: u64 = 60 * DAY;

/// A letter that waits, without its text.
#[derive(Clone, Debug)]
struct Waiting {
    bytes: usize,
    /// The device that has sent it; empty: it came from outside.
    by: Vec<u8>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Book {
    pub(super) queue: Queue,
    letters: BTreeMap<u64, Waiting>,
    bytes: usize,
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
            book.bytes += letter.stanza.len();
            book.letters.insert(number, Waiting { bytes: letter.stanza.len(), by: letter.by });
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
    pub(super) fn apply(&mut self, page: Page) {
        self.queue = page.queue.unwrap_or(self.queue);
        for (number, waiting) in page.letters {
            self.bytes += waiting.bytes;
            self.letters.insert(number, waiting);
        }
        for number in page.gone {
            self.bytes -= self.letters.remove(&number).map_or(0, |gone| gone.bytes);
        }
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
    }

    /// How many letters wait.
    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }
}

impl Page {
    fn queue(&mut self, book: &Book) -> Result<Queue, random::NoRandomness> {
        let queue = self.queue.unwrap_or(book.queue);
        if queue.id != 0 {
            return Ok(queue);
        }
        // Small enough for any reader of numbers, and never 0.
        let id = u64::from_be_bytes(random::bytes()?) >> 1 | 1;
        Ok(Queue { id, ..queue })
    }

    /// A letter for the devices. Where there is no room, those that one device has make it.
    ///
    /// # Errors
    /// False: there is no room.
    pub(super) fn letter(
        &mut self,
        book: &Book,
        user: &UserId,
        letter: &HeldStanza,
        change: Change,
    ) -> Result<(Change, bool), random::NoRandomness> {
        let size = letter.stanza.len();
        let mut change = change;
        let (mut count, mut bytes) = (book.letters.len() + self.letters.len(), book.bytes + size);
        bytes += self.letters.iter().map(|(_, waiting)| waiting.bytes).sum::<usize>();
        for gone in self.gone.iter().filter_map(|number| book.letters.get(number)) {
            (count, bytes) = (count - 1, bytes - gone.bytes);
        }
        let had = book.devices.values().map(|device| device.come).max().unwrap_or_default();
        for (number, waiting) in book.letters.range(..=had) {
            if count < LETTERS && bytes <= BYTES {
                break;
            }
            if self.gone.contains(number) {
                continue;
            }
            (count, bytes) = (count - 1, bytes - waiting.bytes);
            change = change.upstream::<HeldStanza>(queued(user.as_bytes(), *number), None);
            self.gone.push(*number);
        }
        if count >= LETTERS || bytes > BYTES {
            return Ok((change, false));
        }
        let queue = self.queue(book)?;
        let queue = Queue { last: queue.last + 1, ..queue };
        self.queue = Some(queue);
        self.letters.push((queue.last, Waiting { bytes: size, by: letter.by.clone() }));
        let state = OutsideState { state: Some(State::Queue(queue)) };
        let change = change
            .upstream(queued(user.as_bytes(), queue.last), Some(letter))
            .upstream(of_user(user.as_bytes()), Some(&state));
        Ok((change, true))
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

//! What laptops bring: each for its proven user alone, and for outside alone (`overlay/PROTOCOL.md` §14).

use std::collections::BTreeSet;

use crosstalk_overlay::enrol::{Exchange, Exchanged, LETTERS, Letter, MAX_LETTER};
use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::time::Now;
use crosstalk_storage::tree::upstream::{Device, HeldStanza};
use jid::Jid;

use super::book::Page;
use super::gate::{Effect, Gate, GateError};
use super::presence::Seat;
use crate::authority::database::{Change, Database};
use crate::core::is_durable;
use crate::core::upstream::{PRESENCE, subscription};
use crate::xmpp::{Condition, Kind, Stanza, StanzaError, Type};

/// Bytes of contacts in one answer, about.
const CONTACTS: usize = 4 * 1_024;
/// Bytes of what is live in one answer.
const LIVE: usize = 8 * 1_024;
/// Stanzas for now or never in one question.
const LIVE_STANZAS: usize = 256;

/// Who asks, proven.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Its node.
    pub node: NodeId,
    /// Whose device it is.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
}

/// What is said of subscriptions, and told once the letter is durable.
type Said = (Type, Jid);

impl Gate {
    /// An exchange with a laptop, whose user had this name when it proved itself; nothing if that is not so any more. The answer
    /// is durable.
    ///
    /// # Errors
    /// When the database fails.
    pub fn exchange(
        &mut self,
        database: &Database,
        (who, name): (Who, &str),
        ask: Exchange,
        now: Now,
    ) -> Result<Option<Exchanged>, GateError> {
        let anew = !ask.fresh && self.seats.get(&who.device).is_none_or(|seat| seat.user != who.user);
        if !self.has_name(database, &who.user, name)? {
            return Ok(None);
        }
        self.sits_down((who, name), now);
        let own = format!("{name}@{}", self.domain);
        if ask.fresh {
            self.begins_anew(who);
        }
        let taken = self.take_letters(database, who, &own, &ask, now)?;
        for stanza in ask.live.iter().take(LIVE_STANZAS) {
            self.live_out(database, who, &own, stanza, now)?;
        }
        if ask.fresh {
            self.not_said_again(database, who, &ask.live)?;
        }
        self.go_on(database, now)?;
        let answer = self.answer(database, who, &ask, taken)?;
        if !answer.more && self.seats.values().filter(|seat| seat.node == who.node).count() == 1 {
            // It has everything with this answer.
            self.effects.retain(|effect| *effect != Effect::News(who.node));
        }
        Ok(Some(Exchanged { anew, ..answer }))
    }

    /// The laptop is here.
    fn sits_down(&mut self, (who, name): (Who, &str), now: Now) {
        let new = || Seat::new(who.node, who.user, name.to_owned());
        let seat = self.seats.entry(who.device).or_insert_with(new);
        (seat.node, seat.user, seat.heard) = (who.node, who.user, now.mono);
        name.clone_into(&mut seat.name);
    }

    /// A laptop that has forgotten what it was told.
    fn begins_anew(&mut self, who: Who) {
        if let Some(seat) = self.seats.get_mut(&who.device) {
            seat.forget_live();
        }
        let seen: Vec<Stanza> = self.presences.of_user(who.user).cloned().collect();
        seen.iter().for_each(|presence| self.push(who.device, presence));
    }

    /// Sessions of a laptop that begins anew and does not say them again are gone.
    fn not_said_again(&mut self, database: &Database, who: Who, live: &[Vec<u8>]) -> Result<(), GateError> {
        let said = live.iter().filter_map(|bytes| Stanza::read_from_peer(bytes).ok());
        let said = said.filter(|stanza| stanza.kind == Kind::Presence && stanza.to.is_none());
        let said: BTreeSet<String> =
            said.filter_map(|stanza| Some(stanza.from?.resource()?.as_str().to_owned())).collect();
        let Some(seat) = self.seats.get(&who.device) else { return Ok(()) };
        let gone = seat.resources.iter().filter(|(resource, _)| !said.contains(*resource));
        let gone: Vec<Stanza> = gone.map(|(_, presence)| presence.clone()).collect();
        for presence in gone {
            let gone = Stanza { type_: Type::Unavailable, payload: Vec::new(), ..presence };
            self.session_says(database, who.device, gone)?;
        }
        Ok(())
    }

    /// Takes letters in as far as there is room, all in one commit with how far the device is. The number of the last.
    fn take_letters(
        &mut self,
        database: &Database,
        who: Who,
        own: &str,
        ask: &Exchange,
        now: Now,
    ) -> Result<u64, GateError> {
        let book = self.book(database, &who.user)?;
        let before = book.device(&who.device);
        let come = if ask.queue == book.queue.id { ask.come } else { 0 };
        let taken = before.taken;
        let mut device = Device { come, ..before };
        let (mut change, mut page, mut said, mark) =
            (Change::default(), Page::default(), Vec::new(), self.out.last());
        for letter in ask.letters.iter().filter(|letter| letter.number > taken) {
            if !self.out.has_room(&who.user) || !self.outward.takes(&who.user, now.mono) {
                break;
            }
            change = self.take_letter(database, who, own, letter, (&mut page, &mut said), change)?;
            device.taken = letter.number;
        }
        let book = self.book(database, &who.user)?;
        change = page.device(book, &who.user, (who.device, device), now, change);
        if !change.is_empty_upstream()
            && let Err(error) = self.commit(database, change)
        {
            self.out.take_back(mark);
            return Err(error.into());
        }
        let moved = self.book(database, &who.user)?.apply(page);
        self.passed.fetched += moved.1.len() as u64;
        self.moved(moved);
        for (type_, to) in said {
            self.said(who.user, type_, &to);
        }
        Ok(device.taken)
    }

    fn take_letter(
        &mut self,
        database: &Database,
        who: Who,
        own: &str,
        letter: &Letter,
        (page, said): (&mut Page, &mut Vec<Said>),
        change: Change,
    ) -> Result<Change, GateError> {
        let Some(stanza) = self.spoken(own, &letter.stanza) else { return Ok(change) };
        let Some(to) = stanza.to.clone() else { return Ok(change) };
        match stanza.kind {
            Kind::Message if is_durable(&stanza) || stanza.type_ == Type::Error => {
                let mut change = self.send_letter(who.user, letter.at, &stanza, change);
                let book = self.book(database, &who.user)?;
                if book.has_others(&who.device) && stanza.type_ != Type::Error {
                    let copy = HeldStanza {
                        at: letter.at,
                        stanza: letter.stanza.clone(),
                        by: who.device.as_bytes().to_vec(),
                        ..HeldStanza::default()
                    };
                    let (with, _) = page.letter(book, &who.user, &copy, change)?;
                    change = with;
                    self.news_for(who.user);
                }
                Ok(change)
            }
            Kind::Presence => {
                let (address, book) = (to.to_bare(), self.book(database, &who.user)?);
                let standing = page.standing(book, address.as_str());
                let Some(after) = subscription::outbound(standing, stanza.type_) else { return Ok(change) };
                if !book.has_room_for(address.as_str(), false) {
                    let text = "the server of your domain keeps no more contacts outside for you";
                    let full = stanza.error(&StanzaError::new(Condition::ResourceConstraint, text));
                    full.iter().for_each(|full| self.push(who.device, full));
                    return Ok(change);
                }
                let change = page.contact(book, &who.user, (address.as_str(), after), change)?;
                said.push((stanza.type_, to));
                let plain = Stanza { from: Jid::new(own).ok(), to: Some(address.into()), ..stanza };
                let change = self.send_letter(who.user, letter.at, &plain, change);
                self.news_for(who.user);
                Ok(change)
            }
            _ => {
                self.refuse("letters of laptops that are none");
                Ok(change)
            }
        }
    }

    /// What a word about a subscription changes of who is seen.
    fn said(&mut self, user: UserId, type_: Type, to: &Jid) {
        let contact = to.to_bare();
        match type_ {
            Type::Subscribed => self.shows(user, &contact, true),
            Type::Unsubscribed => self.shows(user, &contact, false),
            Type::Unsubscribe => self.contact_ends(user, &contact),
            _ => {}
        }
    }

    /// Reads a stanza of a laptop. Nothing if it is none, is not its user's, or is not for outside.
    fn spoken(&mut self, own: &str, bytes: &[u8]) -> Option<Stanza> {
        let stanza = Stanza::read_from_peer(bytes).ok().filter(|_| bytes.len() <= MAX_LETTER);
        let Some(stanza) = stanza else {
            self.refuse("stanzas of laptops that could not be read");
            return None;
        };
        if stanza.from.as_ref().is_none_or(|from| from.to_bare().as_str() != own) {
            self.refuse("stanzas of laptops in another name");
            return None;
        }
        if stanza.to.as_ref().is_some_and(|to| !self.is_outside(Some(to))) {
            self.refuse("stanzas of laptops that are not for outside");
            return None;
        }
        Some(stanza)
    }

    fn live_out(
        &mut self,
        database: &Database,
        who: Who,
        own: &str,
        bytes: &[u8],
        now: Now,
    ) -> Result<(), GateError> {
        let Some(stanza) = self.spoken(own, bytes) else { return Ok(()) };
        if stanza.kind == Kind::Presence && bytes.len() > PRESENCE {
            self.refuse("presence of laptops that is too long");
            return Ok(());
        }
        let fast = !self.outward.takes(&who.user, now.mono);
        match (stanza.kind, stanza.type_, stanza.to.is_some()) {
            // What is no longer so is taken back at any rate.
            (Kind::Presence, type_, false)
                if type_ == Type::Unavailable || type_ == Type::Available && !fast =>
            {
                self.session_says(database, who.device, stanza)?;
            }
            _ if fast => {
                self.refuse("stanzas of laptops that came too fast");
                let text = "too much is sent to other servers at once: try again later";
                self.back(who, &stanza, &StanzaError::new(Condition::ResourceConstraint, text));
            }
            (Kind::Presence, Type::Available | Type::Unavailable, true) => self.directs(who.device, &stanza),
            (Kind::Iq | Kind::Message, _, true) if !self.is_up() => {
                let text = "the server of your domain is not connected to other servers now";
                self.back(who, &stanza, &StanzaError::new(Condition::RemoteServerTimeout, text));
            }
            (Kind::Iq | Kind::Message, _, true) => self.write(&stanza),
            _ => self.refuse("stanzas of laptops that are not for outside"),
        }
        Ok(())
    }

    fn back(&mut self, who: Who, stanza: &Stanza, error: &StanzaError) {
        if let Some(answer) = stanza.error(error).filter(|_| stanza.kind != Kind::Presence) {
            self.push(who.device, &answer);
        }
    }

    fn answer(
        &mut self,
        database: &Database,
        who: Who,
        ask: &Exchange,
        taken: u64,
    ) -> Result<Exchanged, GateError> {
        let up = self.is_up();
        let book = self.book(database, &who.user)?;
        let queue = book.queue.id;
        let (come, version) = if ask.queue == queue { (ask.come, ask.version) } else { (0, 0) };
        let (contacts, more_contacts) = book.contacts_after(version, CONTACTS);
        let seat = self.seats.get_mut(&who.device);
        let (live, more_live) = seat.map(|seat| seat.take_live(LIVE)).unwrap_or_default();
        // What is live and long has the answer for itself.
        let room = live.iter().map(Vec::len).sum::<usize>() <= LIVE;
        let book = self.book(database, &who.user)?;
        let (letters, more) = match room {
            true => book.letters_for(database, &who.user, &who.device, (come, LETTERS))?,
            false => (Vec::new(), true),
        };
        let more = more || more_contacts || more_live;
        Ok(Exchanged { taken, queue, letters, contacts, live, more, up, anew: false })
    }
}

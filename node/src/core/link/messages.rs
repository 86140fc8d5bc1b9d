//! Messages between local users and people of the link. *Pure.*
//!
//! Nobody on this protocol acknowledges, and there is no second owner: until the other host has a message, it is here.
//! For one that its client will be told is safe (XEP-0198), the news that it may be lost is written first; it is erased
//! when the message is delivered, and found by the next start if there is a crash before.

use std::collections::BTreeMap;

use crosstalk_link_local::instance::Instance;
use crosstalk_overlay::id::UserId;
use jid::Jid;
use rand_core::Rng;

use super::announce::EARLY;
use super::io::StreamId;
use super::streams::{ITEM_BYTES, Pair};
use super::translate;
use crate::core::message::{Arrival, Delivered, is_durable, is_only_chat_state, unreachable_name};
use crate::core::{Core, Origin};
use crate::xmpp::{Condition, Element, Kind, Stanza, StanzaError, Type, ns};

/// Whoever was not resolved by the other side is refused there; libpurple needs 0.9 s for it on a good link.
const SETTLING: u64 = 1_000;

/// A message that waits for the name of its sender.
#[derive(Debug)]
pub(super) struct Early {
    peer: Instance,
    message: Stanza,
    /// Number of the news in the inbox.
    news: Option<u64>,
}

/// A message that was given to a stream, or waits for one.
#[derive(Debug)]
struct Sent {
    user: UserId,
    /// The message without its payload, to answer it.
    base: Stanza,
    /// Number of the news in the inbox.
    news: Option<u64>,
}

/// Messages that the other host has not confirmed.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    sent: BTreeMap<u64, Sent>,
    next: u64,
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }
}

impl Core {
    /// A message of a local user for somebody on the link. Returns whether it was taken.
    pub(in crate::core) fn message_to_link(
        &mut self,
        origin: Origin,
        user: UserId,
        peer: &Instance,
        message: Stanza,
        promised: bool,
    ) -> bool {
        let refused = match message.type_ {
            // Who wrote the message that this answers would see it as one more.
            Type::Error => return true,
            Type::Groupchat => Some(Condition::ServiceUnavailable.into()),
            _ => self.not_announced(user),
        };
        if let Some(error) = refused {
            self.bounce(origin, &message, &error);
            return false;
        }
        let Some(own) = self.announced_as(&user).cloned() else {
            return self.keep_early(origin, user, peer, message, promised);
        };
        let pair = Pair { own, peer: peer.clone() };
        let data = translate::outgoing(&message, pair.own.as_str(), pair.peer.as_str());
        if !message.has("body", ns::CLIENT) {
            // Nothing that a person wrote opens a stream for it.
            if self.link.streams.is_open(&pair) && data.len() <= ITEM_BYTES {
                return self.push_to_link(&pair, None, data).is_ok();
            }
            if !is_only_chat_state(&message) {
                self.count("link: messages without text that found no open stream");
            }
            return true;
        }
        let news = (promised && is_durable(&message)).then(|| self.write_news(user, &message));
        match self.give_to_stream(user, &pair, message.error_base(), data, news) {
            Ok(()) => true,
            Err(error) => {
                if let Some(news) = news {
                    self.erase_news(&user, news);
                }
                self.bounce(origin, &message, &error);
                false
            }
        }
    }

    /// Why a user can write to nobody on the link, if so.
    pub(super) fn not_announced(&self, user: UserId) -> Option<StanzaError> {
        if self.link.announced.get(&user).is_some() {
            return None;
        }
        let text = "people of the link take messages only of those who are announced to them, and you are not: \
                    go online, and allow it with `crosstalk account`";
        Some(StanzaError::new(Condition::NotAllowed, text))
    }

    fn give_to_stream(
        &mut self,
        user: UserId,
        pair: &Pair,
        base: Stanza,
        data: Vec<u8>,
        news: Option<u64>,
    ) -> Result<(), StanzaError> {
        if data.len() > ITEM_BYTES {
            let text = "this message is too long for the link: send it in parts";
            return Err(StanzaError::new(Condition::PolicyViolation, text));
        }
        let number = self.link.messages.next;
        self.link.messages.next += 1;
        self.push_to_link(pair, Some(number), data)?;
        self.link.messages.sent.insert(number, Sent { user, base, news });
        Ok(())
    }

    /// Gives bytes to the stream of a pair, when the other side has had the time to resolve us.
    pub(super) fn push_to_link(
        &mut self,
        pair: &Pair,
        number: Option<u64>,
        data: Vec<u8>,
    ) -> Result<(), StanzaError> {
        let seen = self.link.people.get(&pair.peer).map(|known| known.since).unwrap_or_default();
        let named = self.link.announced.by_name(pair.own.as_str());
        let named = named.and_then(|(user, _)| self.link.announced.get(&user)?.named.as_ref());
        let named = named.map(|(_, since)| *since).unwrap_or_default();
        let earliest = seen.max(named) + SETTLING;
        self.link.streams.push(pair, number, data, earliest, self.now.mono).map_err(|_| {
            let text = "too many messages wait for people of the link: try again when some were delivered";
            StanzaError::new(Condition::ResourceConstraint, text)
        })
    }

    /// A user who has just come has no name on the link yet: what it writes waits for that.
    fn keep_early(
        &mut self,
        origin: Origin,
        user: UserId,
        peer: &Instance,
        message: Stanza,
        promised: bool,
    ) -> bool {
        if !message.has("body", ns::CLIENT) {
            return true;
        }
        let full = self.link.announced.get(&user).is_none_or(|announced| announced.early.len() >= EARLY);
        if full {
            let text = "you are not announced on the link yet: try again in a second";
            self.bounce(origin, &message, &StanzaError::new(Condition::ResourceConstraint, text));
            return false;
        }
        let news = (promised && is_durable(&message)).then(|| self.write_news(user, &message));
        if let Some(announced) = self.link.announced.get_mut(&user) {
            announced.early.push(Early { peer: peer.clone(), message, news });
        }
        true
    }

    /// The user has a name now.
    pub(super) fn send_early(&mut self, user: UserId, early: Early) {
        let Early { peer, message, news } = early;
        let base = message.error_base();
        let error = match self.announced_as(&user).cloned() {
            _ if self.link.people.get(&peer).is_none() => {
                Some(unreachable_name(Condition::RecipientUnavailable))
            }
            None => self.not_announced(user),
            Some(own) => {
                let data = translate::outgoing(&message, own.as_str(), peer.as_str());
                self.give_to_stream(user, &Pair { own, peer }, base.clone(), data, news).err()
            }
        };
        if let Some(error) = error {
            self.tell_failure(Sent { user, base, news }, &error);
        }
    }

    /// The user left before it had a name.
    pub(super) fn early_failed(&mut self, user: UserId, early: Early) {
        let sent = Sent { user, base: early.message.error_base(), news: early.news };
        self.tell_failure(sent, &failure(false));
    }

    /// The other host has a message.
    pub(super) fn link_message_delivered(&mut self, number: u64) {
        let Some(sent) = self.link.messages.sent.remove(&number) else { return };
        if let Some(news) = sent.news {
            self.erase_news(&sent.user, news);
        }
    }

    /// A message may be lost: its sender is told, now or when its client comes back.
    pub(super) fn link_message_failed(&mut self, number: u64, written: bool) {
        if let Some(sent) = self.link.messages.sent.remove(&number) {
            self.count("link: messages that were not delivered for certain");
            self.tell_failure(sent, &failure(written));
        }
    }

    fn tell_failure(&mut self, sent: Sent, error: &StanzaError) {
        let Some(answer) = sent.base.error(error) else { return };
        match sent.news {
            Some(number) => self.tell_news(sent.user, number, &answer),
            None => self.deliver_answer(answer),
        }
    }

    fn write_news(&mut self, user: UserId, message: &Stanza) -> u64 {
        let news = message.error_base().error(&failure(true));
        self.reserve_news(&user, &news.unwrap_or_else(|| message.error_base()))
    }

    /// What came on a stream.
    pub(super) fn link_elements(&mut self, stream: StreamId, elements: Vec<Element>) {
        for element in elements {
            let Some(pair) = self.link.streams.heard(stream, self.now.mono) else {
                return self.count("link: elements of streams that nobody wanted");
            };
            let Some((user, _)) = self.link.announced.by_name(pair.own.as_str()) else { return };
            if self.blocks_on_link(user, &pair.peer) {
                return self.count("messages from blocked addresses");
            }
            match Stanza::kind_of(&element).filter(|_| element.ns() == ns::CLIENT) {
                Some(Kind::Message) => self.message_from_link(user, &pair, &element),
                Some(Kind::Iq) => self.iq_from_link(user, &pair, &element),
                // What people of the link show of themselves, they announce.
                Some(Kind::Presence) | None => self.count("link: elements that are no messages"),
            }
        }
    }

    fn message_from_link(&mut self, user: UserId, pair: &Pair, element: &Element) {
        let Some(mut message) = translate::incoming(element) else {
            return self.count("link: messages with nothing in them");
        };
        let Some(known) = self.link.people.get(&pair.peer) else { return };
        message.from = Some(Jid::from(known.jid.clone()));
        message.to = self.accounts.get(&user).map(|account| account.jid.clone().into());
        if message.type_ == Type::Error {
            return self.count("link: errors");
        }
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let arrival = Arrival { message: id, promised: true, sent: None };
        if let Delivered::Refused(error) = self.deliver_message(user, message.clone(), arrival) {
            self.not_taken(pair, &error);
        }
    }

    /// Somebody on the link wrote what cannot be kept here: said in words, since stock programs show an error's body
    /// and nothing else of it.
    fn not_taken(&mut self, pair: &Pair, error: &StanzaError) {
        self.count("link: messages that could not be kept");
        let why = error.text.as_deref().unwrap_or_else(|| error.condition.as_str());
        let body = Element::new("body", ns::CLIENT).text(&format!("Your message was not delivered: {why}"));
        let answer =
            Stanza { payload: vec![body, error.to_element()], ..Stanza::new(Kind::Message, Type::Error) };
        let data = translate::outgoing(&answer, pair.own.as_str(), pair.peer.as_str());
        if self.push_to_link(pair, None, data).is_err() {
            self.count("link: errors that found no room");
        }
    }
}

/// What the sender of a message is told that was not delivered, or perhaps not.
fn failure(written: bool) -> StanzaError {
    let text = match written {
        true => "it may not have arrived: the connection ended before the other machine confirmed it",
        false => "it was not delivered: the other machine could not be reached in time",
    };
    StanzaError::new(Condition::RemoteServerTimeout, text)
}

//! Exactly once and in order, for clients with XEP-0198 on both ends; never twice on an unbroken stream for others.
//! *Pure.*

use super::MessageKey;
use crate::world::World;
use crate::world::events::{ClientId, PersonId};
use crate::world::story::Checked;

impl World {
    /// The clients that get what is sent to somebody: one on each of its hosts.
    pub(crate) fn receivers(&self, to: PersonId) -> impl Iterator<Item = ClientId> {
        self.clients
            .iter()
            .enumerate()
            .filter(move |(_, client)| client.person == to && !client.lawless)
            .map(|(id, _)| ClientId(id))
    }

    /// A client got a message.
    pub(super) fn check_delivery(&mut self, to: ClientId, key: MessageKey) -> Checked {
        let name = self.clients[to.0].name;
        let sent = self.book.sent.get(&(key.from, key.to)).copied().unwrap_or_default();
        if key.number == 0 || key.number > sent {
            return Err(self.violation(format!("{name} got {}, which was never sent", key.body())));
        }
        if self.clients[to.0].person != key.to {
            return Err(self.violation(format!("{name} got {}, which is for somebody else", key.body())));
        }
        self.check_refused(to, key)?;
        self.meter_got(key, to);
        let times = self.book.got.entry((to, key)).or_default();
        *times += 1;
        let excused = self.book.excused.contains(&to) || self.book.excused.contains(&key.from);
        let strict = self.clients[to.0].traits.resumes && self.clients[key.from.0].traits.resumes && !excused;
        if *times > 1 {
            return match strict && !self.book.unsure.remove(&(to, key)) {
                true => Err(self.violation(format!("{name} got {} twice", key.body()))),
                false => Ok(()),
            };
        }
        let newest = self.book.newest.entry((to, key.from, key.to)).or_default();
        let before = std::mem::replace(newest, key.number.max(*newest));
        let skipped = |number| self.book.is_refused(&MessageKey { number, ..key });
        let next = key.number > before && (before + 1..key.number).all(skipped);
        if strict && !self.book.any_order && !next {
            let why = format!("{name} got {} after number {before}: order is lost", key.body());
            return Err(self.violation(why));
        }
        Ok(())
    }

    /// A client was shown a copy of what another client of the same person sent.
    pub(super) fn check_copy(&mut self, to: ClientId, key: MessageKey) -> Checked {
        let name = self.clients[to.0].name;
        let sent = self.book.sent.get(&(key.from, key.to)).copied().unwrap_or_default();
        let own = self.clients[key.from.0].person == self.clients[to.0].person && key.from != to;
        if key.number == 0 || key.number > sent || !own {
            return Err(self.violation(format!(
                "{name} got a copy of {}, which no other client of it sent",
                key.body()
            )));
        }
        let times = self.book.copies.entry((to, key)).or_default();
        *times += 1;
        if *times > 1 && self.clients[to.0].traits.resumes && !self.book.excused.contains(&to) {
            return Err(self.violation(format!("{name} got the copy of {} twice", key.body())));
        }
        Ok(())
    }

    /// Whether all that was sent has come to everybody that it is for.
    pub(crate) fn all_delivered(&self) -> bool {
        self.missing().is_none()
    }

    /// Whether all that was sent to somebody has come to this client.
    pub(crate) fn all_delivered_to(&self, client: ClientId) -> bool {
        self.missing_at(|receiver| receiver == client).is_none()
    }

    /// A message that has not come.
    pub(crate) fn missing(&self) -> Option<(ClientId, MessageKey)> {
        self.missing_at(|_| true)
    }

    fn missing_at(&self, counts: impl Fn(ClientId) -> bool) -> Option<(ClientId, MessageKey)> {
        for ((from, to), count) in &self.book.sent {
            for receiver in self.receivers(*to).filter(|receiver| counts(*receiver)) {
                let missing = |number: &u32| {
                    let key = MessageKey { from: *from, to: *to, number: *number };
                    self.is_promised(receiver, &key)
                        && !self.book.got.contains_key(&(receiver, key))
                        && !self.is_told(&key)
                };
                if let Some(number) = (1..=*count).find(missing) {
                    return Some((receiver, MessageKey { from: *from, to: *to, number }));
                }
            }
        }
        None
    }

    /// Whether a message was sent when its recipient had a client on that laptop.
    pub(super) fn is_promised(&self, client: ClientId, key: &MessageKey) -> bool {
        self.book.before.get(&(client, key.from)).is_none_or(|before| key.number > *before)
    }

    /// A client on a further laptop is promised what is sent to its owner from now on.
    pub(crate) fn is_promised_from_now(&mut self, client: ClientId) {
        let owner = self.clients[client.0].person;
        let sent = self.book.sent.iter().filter(|((_, to), _)| *to == owner);
        self.book.before.extend(sent.map(|((from, _), count)| ((client, *from), *count)));
    }

    /// Whether every copy has come to the other clients of its sender.
    pub(crate) fn all_copied(&self, by: ClientId) -> bool {
        let flows = self.book.sent.iter().filter(|((from, _), _)| *from == by);
        let mut keys = flows.flat_map(|((from, to), count)| {
            (1..=*count).map(|number| MessageKey { from: *from, to: *to, number })
        });
        keys.all(|key| {
            self.book.is_refused(&key)
                || self
                    .receivers(self.clients[by.0].person)
                    .filter(|other| *other != by && self.clients[other.0].traits.carbons)
                    .all(|other| self.book.copies.contains_key(&(other, key)))
        })
    }
}

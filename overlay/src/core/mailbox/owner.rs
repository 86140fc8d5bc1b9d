//! The mail of our own users: asked for at the nodes that could hold it, fetched once, taken like any other message, and
//! forgotten there when it is safe here. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::Overlay;
use crate::core::inbound::Via;
use crate::core::query::Purpose;
use crate::envelope::{EnvelopeError, Inner};
use crate::id::{ItemId, NodeId, UserId};
use crate::mailbox::COPIES;
use crate::mailbox::{Item, Kind, MAX_ITEM, item_id};
use crate::record::{MAX_DECLARED, MailboxAccess, UserRecord, Verified};
use crate::time::{MINUTE, Now, SECOND};
use crate::wire::{Frame, Listed, MAIL_BYTES, MAX_LISTED, MAX_MAIL};

/// Our mailboxes are looked into so often, …
const CHECK: u64 = 15 * MINUTE;
/// … but for the first time again after so long, and then after four times as long each time: who has just come knows few
/// nodes, of whom some are gone.
const FIRST_CHECK: u64 = 15 * SECOND;
/// Nodes that are asked for a user's mail: two more than hold it, as others may see another neighbourhood.
const ASKED: usize = COPIES + 2;
/// A holder that does not give what it has listed for so long is not asked for it any more.
const PATIENCE: u64 = 15 * SECOND;
/// Holders that stay connected at most.
const MAX_KEPT: usize = 16;
/// What a node may list that was not asked: it has met somebody for whom it carries something.
const UNASKED: usize = 64;
/// Users for whom a node is asked at once; for further ones a second later.
const AT_ONCE: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Asked(NodeId),
    /// It was fetched; what becomes of it is not settled yet.
    Taken,
    /// It could not be taken now.
    Later,
    /// It is not needed any more; holders that list it are told so.
    Done,
}

#[derive(Debug)]
struct Entry {
    holders: BTreeSet<NodeId>,
    size: usize,
    state: State,
}

#[derive(Debug)]
struct Fetch {
    ids: Vec<ItemId>,
    until: u64,
}

/// What other nodes hold for our users.
#[derive(Debug, Default)]
pub(super) struct Owner {
    entries: BTreeMap<ItemId, Entry>,
    /// By holder, in the order in which it lists them; [`MAX_LISTED`] each.
    queues: BTreeMap<NodeId, VecDeque<ItemId>>,
    /// One at a time of each holder.
    fetches: BTreeMap<NodeId, Fetch>,
    /// What is to be asked.
    to_list: BTreeSet<(NodeId, UserId)>,
    /// What holders are to be told that it is not needed any more.
    unneeded: BTreeMap<NodeId, Vec<ItemId>>,
    /// Nodes that were asked in this session.
    listed_at: BTreeSet<NodeId>,
}

impl Owner {
    pub(super) fn is_busy(&self) -> bool {
        !self.fetches.is_empty() || !self.to_list.is_empty()
    }

    /// True: something that it did not give may be fetched from others.
    pub(super) fn forget_session(&mut self, node: &NodeId) -> bool {
        self.queues.remove(node);
        self.listed_at.remove(node);
        self.unneeded.remove(node);
        self.to_list.retain(|(other, _)| other != node);
        let fetch = self.fetches.remove(node).map(|fetch| fetch.ids).unwrap_or_default();
        fetch.iter().for_each(|id| self.is_missing(id, node));
        // What it has listed it will list again.
        self.entries.retain(|_, entry| {
            let held = entry.holders.remove(node);
            !held
                || !entry.holders.is_empty()
                || matches!(entry.state, State::Taken | State::Later | State::Done)
        });
        !fetch.is_empty()
    }

    /// What could not be taken is fetched again.
    fn want_again(&mut self) {
        self.entries.retain(|_, entry| entry.state != State::Later || !entry.holders.is_empty());
        for (id, entry) in &mut self.entries {
            if entry.state == State::Later {
                entry.state = State::Wanted;
                for node in &entry.holders {
                    self.queues.entry(*node).or_default().push_back(*id);
                }
            }
        }
    }

    /// A holder does not give what it has listed.
    fn is_missing(&mut self, id: &ItemId, node: &NodeId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.holders.remove(node);
        if entry.state == State::Asked(*node) {
            entry.state = State::Wanted;
        }
        if entry.state == State::Wanted {
            for other in &entry.holders {
                self.queues.entry(*other).or_default().push_back(*id);
            }
            if entry.holders.is_empty() {
                self.entries.remove(id);
            }
        }
    }

    /// Makes room for one more name: what is not needed any more is forgotten first, then what only that node lists of
    /// which most waits, if that is more than `own`: it lists it again.
    fn has_room(&mut self, most: usize, own: usize) -> bool {
        if self.entries.len() < most {
            return true;
        }
        let done = self.entries.iter().find(|(_, entry)| entry.state == State::Done).map(|(id, _)| *id);
        done.or_else(|| self.last_of_longest(own)).is_some_and(|id| self.entries.remove(&id).is_some())
    }

    fn last_of_longest(&mut self, own: usize) -> Option<ItemId> {
        let (_, queue) = self.queues.iter_mut().max_by_key(|(_, queue)| queue.len())?;
        let entries = &self.entries;
        let alone = |id: &ItemId| {
            let entry = entries.get(id);
            entry.is_some_and(|entry| entry.state == State::Wanted && entry.holders.len() == 1)
        };
        if queue.len() <= own + 1 {
            return None;
        }
        let place = queue.iter().rposition(alone)?;
        queue.remove(place)
    }

    /// What to fetch next from a holder.
    fn next(&mut self, node: &NodeId) -> Vec<ItemId> {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        let Some(queue) = self.queues.get_mut(node) else { return ids };
        while let Some(id) = queue.front().copied() {
            if let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.state == State::Wanted) {
                if ids.len() == MAX_MAIL || !ids.is_empty() && entry.size.saturating_add(bytes) > MAIL_BYTES {
                    break;
                }
                bytes = entry.size.saturating_add(bytes);
                entry.state = State::Asked(*node);
                ids.push(id);
            }
            queue.pop_front();
        }
        if queue.is_empty() {
            self.queues.remove(node);
        }
        ids
    }
}

impl Overlay {
    /// A user of this node is there: its mail is looked for.
    pub(in crate::core) fn open_own_mailbox(&mut self, user: &UserId, now: Now) {
        self.take_own_mail(user, now);
        self.ask_table(Purpose::FindHolders(*user), now);
        self.look_into(user, now);
    }

    pub(in crate::core) fn declare_mailboxes(&mut self, mut nodes: Vec<(NodeId, Vec<String>)>, now: Now) {
        nodes.truncate(MAX_DECLARED);
        for (node, addresses) in &nodes {
            self.learn(*node, addresses.clone(), now);
        }
        let nodes: Vec<NodeId> = nodes.into_iter().map(|(node, _)| node).collect();
        if self.mail.declared != nodes {
            self.mail.declared = nodes;
            let users: Vec<UserId> = self.locals.keys().copied().collect();
            users.iter().for_each(|user| self.renew_records(user, now));
        }
    }

    /// Looks for mail of all users of this node from time to time.
    pub(super) fn check_mailboxes(&mut self, now: Now) {
        if now.mono < self.mail.places.check_at {
            return;
        }
        let places = &mut self.mail.places;
        places.check_at = now.mono + (FIRST_CHECK << (2 * places.checks).min(16)).min(CHECK);
        places.checks = places.checks.saturating_add(1);
        self.mail.owner.want_again();
        let users: Vec<UserId> = self.locals.keys().copied().collect();
        for user in users {
            self.ask_table(Purpose::FindHolders(user), now);
            self.look_into(&user, now);
            self.take_own_mail(&user, now);
        }
    }

    /// The nodes that could hold mail of a user of this one.
    fn own_holders(&self, user: &UserId, now: Now) -> Vec<NodeId> {
        let closest = self.closest(user, now).unwrap_or_default();
        self.declared(user).into_iter().chain(closest.iter().copied().take(ASKED)).collect()
    }

    /// Stays connected with a user's holders, if the node has few users; else they are asked from time to time only.
    pub(super) fn keep_holders(&mut self, user: &UserId, now: Now) {
        let locals = &self.locals;
        self.mail.kept.retain(|other, _| other != user && locals.contains_key(other));
        let kept: BTreeSet<NodeId> = self.mail.kept.values().flatten().copied().collect();
        let nodes: Vec<NodeId> = self.own_holders(user, now).into_iter().take(COPIES).collect();
        let new = nodes.iter().filter(|node| !kept.contains(node)).count();
        if kept.len() + new <= MAX_KEPT {
            self.mail.kept.insert(*user, nodes);
        }
    }

    /// Connects with the nodes that could hold mail of a user, and asks those that are connected.
    pub(super) fn look_into(&mut self, user: &UserId, now: Now) {
        for node in self.own_holders(user, now) {
            if self.peers.is_ready(&node) {
                self.mail.owner.to_list.insert((node, *user));
                self.mail_soon(now);
            } else {
                self.connect_holder(node, now);
            }
        }
    }

    /// Asks a node for the mail of those of our users for whom it could hold some.
    pub(super) fn list_at(&mut self, node: NodeId, now: Now) {
        let users: Vec<UserId> = self.locals.keys().copied().collect();
        for user in users {
            if self.own_holders(&user, now).contains(&node) {
                self.mail.owner.to_list.insert((node, user));
                self.mail_soon(now);
            }
        }
    }

    /// Asks nodes for mail, a few users of each at a time.
    pub(super) fn send_lists(&mut self, now: Now) {
        let mut sent = BTreeMap::<NodeId, usize>::new();
        for (node, user) in std::mem::take(&mut self.mail.owner.to_list) {
            let count = sent.entry(node).or_default();
            if *count < AT_ONCE {
                *count += 1;
                self.list_user_at(&user, node, now);
            } else {
                self.mail.owner.to_list.insert((node, user));
            }
        }
    }

    fn list_user_at(&mut self, user: &UserId, node: NodeId, now: Now) {
        let at = self.time(now);
        let Some((_, session)) = self.peers.sessions(&node) else { return };
        let Some(local) = self.locals.get(user) else { return };
        let access = MailboxAccess { user: *user, device: local.device.id(), holder: node, session, at };
        if let Ok(access) = Verified::sign(access, &local.device, Some(&local.cert)) {
            self.mail.owner.listed_at.insert(node);
            self.send_frame(node, &Frame::List(access.bytes().to_vec()), false, now);
        }
    }

    pub(in crate::core) fn on_listing(&mut self, node: NodeId, entries: &[Listed], now: Now) {
        if entries.iter().any(|listed| usize::try_from(listed.size).is_ok_and(|size| size > MAX_ITEM)) {
            return self.offence(node, "a list of mail that nobody can hold", now);
        }
        let asked = self.mail.owner.listed_at.contains(&node);
        let (most, of_node) = (self.limits.listed, if asked { MAX_LISTED } else { UNASKED });
        for Listed { id, size } in entries {
            let owner = &mut self.mail.owner;
            let queue = owner.queues.entry(node).or_default();
            if queue.len() >= of_node {
                self.counters.drop("more mail than a peer may list");
                break;
            }
            let own = queue.len();
            if let Some(entry) = owner.entries.get_mut(id) {
                entry.holders.insert(node);
                if entry.state == State::Done {
                    owner.unneeded.entry(node).or_default().push(*id);
                } else {
                    queue.push_back(*id);
                }
            } else if owner.has_room(most, own) {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                let entry = Entry { holders: BTreeSet::from([node]), size, state: State::Wanted };
                owner.entries.insert(*id, entry);
                owner.queues.entry(node).or_default().push_back(*id);
            }
        }
        self.fetch_from(node, now);
        self.mail_soon(now);
    }

    /// Tells holders what may go. What made it so is committed before.
    pub(super) fn send_discards(&mut self, now: Now) {
        for (node, ids) in std::mem::take(&mut self.mail.owner.unneeded) {
            for ids in ids.chunks(MAX_LISTED) {
                self.send_frame(node, &Frame::Discard(ids.to_vec()), true, now);
            }
        }
    }

    fn fetch_from(&mut self, node: NodeId, now: Now) {
        if self.mail.owner.fetches.contains_key(&node) {
            return;
        }
        let ids = self.mail.owner.next(&node);
        if !ids.is_empty() {
            self.send_frame(node, &Frame::Fetch(ids.clone()), false, now);
            self.mail.owner.fetches.insert(node, Fetch { ids, until: now.mono + PATIENCE });
            self.timers.set_earlier(crate::core::timers::Timer::Mail, now.mono + PATIENCE);
        }
    }

    pub(in crate::core) fn on_mail(&mut self, node: NodeId, items: Vec<Vec<u8>>, now: Now) {
        let Some(fetch) = self.mail.owner.fetches.remove(&node) else {
            return self.counters.drop("mail that nobody asked for");
        };
        let mut missing: BTreeSet<ItemId> = fetch.ids.into_iter().collect();
        for item in items {
            let id = item_id(&item);
            if !missing.remove(&id) {
                self.offence(node, "mail that is not what was asked for", now);
                continue;
            }
            self.take_item(id, &item, now);
        }
        self.end_fetch(missing, node, now);
    }

    /// What a holder did not give another one may.
    fn end_fetch(&mut self, missing: BTreeSet<ItemId>, node: NodeId, now: Now) {
        missing.iter().for_each(|id| self.mail.owner.is_missing(id, &node));
        self.fetch_from(node, now);
        self.fetch_all(now);
    }

    pub(super) fn fetch_all(&mut self, now: Now) {
        let nodes: Vec<NodeId> = self.mail.owner.queues.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.fetch_from(node, now));
    }

    pub(super) fn give_up_fetches(&mut self, now: Now) {
        let late = self.mail.owner.fetches.iter().filter(|(_, fetch)| fetch.until <= now.mono);
        let late: Vec<NodeId> = late.map(|(node, _)| *node).collect();
        for node in late {
            if let Some(fetch) = self.mail.owner.fetches.remove(&node) {
                self.end_fetch(fetch.ids.into_iter().collect(), node, now);
            }
        }
    }

    /// Something that this node holds itself for one of its own devices.
    pub(super) fn take_own(&mut self, id: ItemId, item: &[u8], now: Now) {
        let most = self.limits.listed;
        let known = self.mail.owner.entries.get(&id).map(|entry| entry.state);
        let wanted = match known {
            None => self.mail.owner.has_room(most, 0),
            Some(State::Wanted | State::Later) => true,
            Some(State::Asked(_) | State::Taken | State::Done) => false,
        };
        if wanted {
            let (holders, size, state) = (BTreeSet::new(), item.len(), State::Taken);
            let entry = self.mail.owner.entries.entry(id).or_insert(Entry { holders, size, state });
            entry.holders.insert(self.node);
            self.take_item(id, item, now);
        }
    }

    /// Takes an item like a message that came by no session: what is inside proves its sender.
    fn take_item(&mut self, id: ItemId, bytes: &[u8], now: Now) {
        if let Some(entry) = self.mail.owner.entries.get_mut(&id) {
            entry.state = State::Taken;
        }
        let Ok(item) = Item::decode(bytes) else { return self.forget_mail(id, now) };
        let Some(user) = self.local_devices.get(&item.envelope.recipient).copied() else {
            self.counters.drop("mail for a device that is not here");
            return self.forget_mail(id, now);
        };
        match item.kind {
            Kind::Envelope => match self.open(&user, &item.envelope, now) {
                Ok(inner) => {
                    self.take_card(&inner, now);
                    self.on_message(Via::Mail(id), item.envelope.id, inner, now);
                }
                Err(Some(EnvelopeError::Refused(refusal))) if !refusal.is_offence() => {
                    self.counters.drop("mail that does not count now");
                    self.look_again(id);
                }
                Err(_) => {
                    self.counters.drop("mail that does not open");
                    self.forget_mail(id, now);
                }
            },
            Kind::Receipts => {
                let key = self.locals.get(&user).map(|local| &local.sealing).into_iter().flatten();
                let key = key.into_iter().find(|key| key.public() == item.envelope.key);
                match key.map(|key| item.open_receipts(key)) {
                    Some(Ok(receipts)) => {
                        receipts.iter().for_each(|receipt| self.on_mailed_receipt(receipt, now));
                    }
                    Some(Err(_)) | None => self.counters.drop("mail that does not open"),
                }
                self.forget_mail(id, now);
            }
        }
    }

    /// Who writes, by the sender's own record.
    fn take_card(&mut self, inner: &Inner, now: Now) {
        if inner.card.is_empty() {
            return;
        }
        let context = self.users.context(self.clock.trusted(now));
        let known = self.users.record(&inner.user);
        match UserRecord::verify_knowing(&inner.card, known, &context) {
            Ok(record) if record.user() == inner.user => self.take_in(&record, now),
            Ok(_) | Err(_) => self.counters.drop("record of a sender that does not count"),
        }
    }

    /// An item could not be taken now.
    pub(super) fn look_again(&mut self, id: ItemId) {
        if let Some(entry) = self.mail.owner.entries.get_mut(&id) {
            entry.state = State::Later;
        }
    }

    /// A message could not be taken now; over a session it comes again by itself.
    pub(in crate::core) fn take_later(&mut self, via: Via) {
        if let Via::Mail(id) = via {
            self.look_again(id);
        }
    }

    /// A message that will never be taken.
    pub(in crate::core) fn is_useless(&mut self, via: Via, now: Now) {
        if let Via::Mail(id) = via {
            self.forget_mail(id, now);
        }
    }

    /// An item is safe here, or worth nothing: its holders may forget it, after the commit.
    pub(super) fn forget_mail(&mut self, id: ItemId, now: Now) {
        let Some(entry) = self.mail.owner.entries.get_mut(&id) else { return };
        entry.state = State::Done;
        let entry_is_own = entry.holders.iter().eq([&self.node]);
        for node in entry.holders.clone() {
            if node == self.node {
                self.forget_own(id);
            } else {
                self.mail.owner.unneeded.entry(node).or_default().push(id);
            }
        }
        self.mail_soon(now);
        if entry_is_own {
            self.mail.owner.entries.remove(&id);
        }
    }
}

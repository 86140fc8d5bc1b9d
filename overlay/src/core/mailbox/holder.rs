//! What this node holds for others: accepted within bounds, shown and given to the very device, forgotten at its word.
//! *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crate::core::users::take_credit;
use crate::core::{Output, Overlay, Write};
use crate::id::{DeviceId, ItemId, NodeId, UserId};
use crate::mailbox::{Access, Answer, Offer, TokenChange, TokenUse, item_id};
use crate::mutant::{Mutant, is_on};
use crate::record::{MailboxAccess, Refusal, Token, Unverified};
use crate::time::Now;
use crate::wire::{Frame, Listed, MAIL_BYTES, MAX_LISTED, MAX_MAIL};

impl Overlay {
    pub(in crate::core) fn on_deposit(&mut self, node: NodeId, request: u64, offer: &Offer, now: Now) {
        if is_on(Mutant::NoCourier) {
            return;
        }
        let token = match self.check_token(node, offer, now) {
            Ok(token) => token,
            Err(refusal) => {
                self.refused(node, &refusal, now);
                None
            }
        };
        let time = self.clock.trusted(now);
        let (answer, stored) = self.mail.held.offer(node, offer, token, time, now.mono);
        let new = stored.is_some();
        self.outputs.extend(stored.map(|mail| Output::Write(Write::PutMail(mail))));
        self.write_used_tokens();
        // It waits for the commit; one that was there already, for the commit that may still be under way.
        self.send_frame(node, &Frame::DepositAnswer { request, answer }, true, now);
        if answer == Answer::Held && offer.replica {
            self.note_replica(offer.mailbox, item_id(&offer.item), node);
        }
        if new {
            self.tell_owner(offer, now);
        }
    }

    fn write_used_tokens(&mut self) {
        let changes = self.mail.held.token_changes().into_iter();
        self.outputs.extend(changes.map(|change| match change {
            TokenChange::Used(token) => Output::Write(Write::PutToken(token)),
            TokenChange::Forgotten(place) => Output::Write(Write::DeleteToken(place)),
        }));
    }

    fn check_token(&mut self, node: NodeId, offer: &Offer, now: Now) -> Result<Option<TokenUse>, Refusal> {
        let may = !offer.token.is_empty()
            && self.peers.connected.get_mut(&node).is_some_and(|peer| take_credit(peer, now));
        if !may {
            return Ok(None);
        }
        let context = self.users.context(self.clock.trusted(now));
        let token = Unverified::<Token>::parse(&offer.token)?.verify(&context)?;
        let fits = token.mailbox == offer.mailbox;
        Ok(fits.then_some(TokenUse { serial: token.serial, expires: token.expires }))
    }

    /// Something new is held: whoever may have it and is connected learns that; one of our own devices takes it.
    fn tell_owner(&mut self, offer: &Offer, now: Now) {
        let id = item_id(&offer.item);
        let Some(device) = self.mail.held.get(id, offer.mailbox).map(|held| held.device) else { return };
        if self.local_devices.get(&device) == Some(&offer.mailbox) {
            return self.take_own(id, &offer.item, now);
        }
        let owner = (offer.mailbox, device);
        let asked = self.mail.access.iter().filter(|(_, access)| access.contains(&owner));
        let mut nodes: Vec<NodeId> = asked.map(|(node, _)| *node).collect();
        nodes.extend(self.users.node_of(&device).filter(|node| self.is_proven(&offer.mailbox, node)));
        nodes.dedup();
        let size = u32::try_from(offer.item.len()).unwrap_or(u32::MAX);
        for node in nodes {
            let listing = Frame::Listing { entries: vec![Listed { id, size }], more: false };
            self.send_frame(node, &listing, true, now);
        }
    }

    pub(in crate::core) fn on_list(&mut self, node: NodeId, access: &[u8], now: Now) {
        if !self.peers.connected.get_mut(&node).is_some_and(|peer| take_credit(peer, now)) {
            return self.counters.drop("more records than a peer may send");
        }
        let context = self.users.context(self.clock.trusted(now));
        let access = Unverified::<MailboxAccess>::parse(access).and_then(|access| access.verify(&context));
        let access = match access {
            Ok(access) => access,
            Err(refusal) => return self.refused(node, &refusal, now),
        };
        let session = self.peers.sessions(&node).map(|(ours, _)| ours);
        if access.holder != self.node || Some(access.session) != session {
            // Said on another session: by somebody who heard it there, or before this node was started again.
            return self.counters.drop("mailbox access for another session");
        }
        let known = self.mail.access.entry(node).or_default();
        if known.len() >= self.limits.users_per_peer && !known.contains(&(access.user, access.device)) {
            return self.counters.drop("more users than a peer may have");
        }
        known.insert((access.user, access.device));
        self.list_for(node, access.user, access.device, now);
    }

    /// Says to a peer what is held for a device.
    fn list_for(&mut self, node: NodeId, user: UserId, device: DeviceId, now: Now) {
        let entries = self.held_for(user, device);
        self.send_listings(node, &entries, now);
    }

    fn held_for(&self, user: UserId, device: DeviceId) -> Vec<Listed> {
        let listed = |(id, size)| Listed { id, size: u32::try_from(size).unwrap_or(u32::MAX) };
        self.mail.held.list(user, device).map(listed).collect()
    }

    /// As much as one frame has room for; the rest when that has been discarded and it is asked again.
    fn send_listings(&mut self, node: NodeId, entries: &[Listed], now: Now) {
        let listed = &entries[..entries.len().min(MAX_LISTED)];
        if !listed.is_empty() {
            let more = listed.len() < entries.len();
            self.send_frame(node, &Frame::Listing { entries: listed.to_vec(), more }, true, now);
        }
    }

    /// Users are proven to be on peers: those learn unasked what this node carries for them.
    pub(in crate::core) fn list_for_proven(&mut self, users: &BTreeSet<UserId>, now: Now) {
        let mut carried = BTreeMap::<NodeId, Vec<Listed>>::new();
        for user in users {
            for (device, node) in self.users.live_devices(user) {
                carried.entry(node).or_default().extend(self.held_for(*user, device));
            }
        }
        carried.into_iter().for_each(|(node, entries)| self.send_listings(node, &entries, now));
    }

    /// A device may have nothing any more.
    pub(in crate::core) fn forget_access(&mut self, user: &UserId, device: &DeviceId) {
        for access in self.mail.access.values_mut() {
            access.remove(&(*user, *device));
        }
    }

    /// For whom a peer may take what is held here.
    fn access_of(&self, node: &NodeId) -> Access {
        let proven = self.peers.connected.get(node).map(|peer| &peer.proven);
        let proven = proven.into_iter().flatten().map(|(user, device)| (*user, *device));
        self.mail.access.get(node).into_iter().flatten().copied().chain(proven).collect()
    }

    pub(in crate::core) fn on_fetch(&mut self, node: NodeId, ids: &[ItemId], now: Now) {
        let access = self.access_of(&node);
        let (mut items, mut bytes) = (Vec::new(), 0);
        for id in ids.iter().take(MAX_MAIL) {
            let Some(item) = self.mail.held.fetch(*id, &access) else { continue };
            if !items.is_empty() && bytes + item.len() > MAIL_BYTES {
                break;
            }
            bytes += item.len();
            items.push(item.to_vec());
        }
        self.send_frame(node, &Frame::Mail(items), true, now);
    }

    pub(in crate::core) fn on_discard(&mut self, node: NodeId, ids: &[ItemId]) {
        let access = self.access_of(&node);
        ids.iter().for_each(|id| self.forget_item(*id, &access));
    }

    fn forget_item(&mut self, id: ItemId, access: &Access) {
        if let Some(number) = self.mail.held.discard(id, access) {
            self.outputs.push_back(Output::Write(Write::DeleteMail(number)));
            access.iter().for_each(|(user, _)| drop(self.mail.replicas.remove(&(*user, id))));
        }
    }

    /// One of our own devices has what was held here for it.
    pub(super) fn forget_own(&mut self, id: ItemId) {
        let own: Access = self.local_devices.iter().map(|(device, user)| (*user, *device)).collect();
        self.forget_item(id, &own);
    }

    pub(in crate::core) fn expire_mail(&mut self, now: Now) {
        let expired = self.mail.held.expire(self.clock.trusted(now));
        self.outputs.extend(expired.into_iter().map(|number| Output::Write(Write::DeleteMail(number))));
        self.write_used_tokens();
        let held = &self.mail.held;
        self.mail.replicas.retain(|(user, id), _| held.get(*id, *user).is_some());
    }

    /// What this node holds for a user of its own.
    pub(super) fn take_own_mail(&mut self, user: &UserId, now: Now) {
        let Some(device) = self.locals.get(user).map(|local| local.device.id()) else { return };
        let own = Access::from([(*user, device)]);
        let ids: Vec<ItemId> = self.mail.held.list(*user, device).map(|(id, _)| id).collect();
        for id in ids {
            if let Some(item) = self.mail.held.fetch(id, &own).map(<[u8]>::to_vec) {
                self.take_own(id, &item, now);
            }
        }
    }
}

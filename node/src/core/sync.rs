//! What the devices of a user tell each other, so that their contact lists agree: every change at once, through the outbox
//! like any durable message, and by mailboxes while the other is away; and when two meet, a digest, which leads to one
//! whole pass if they differ. *Pure.*
//!
//! The subscription is not told: it follows from the signed contact records, which are. `merge` has the laws.
//!
//! The server of the user's domain is one more place where all of this stands ([`server`], `pass`): merged by the same
//! laws, of the same shapes, signed by the devices.

mod brought;
mod conflict;
pub(crate) mod entry;
mod look;
mod merge;
pub(super) mod own;
mod pass;
pub mod server;
mod servers;
mod shape;
mod traces;

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::core::{Disposition, Outgoing};
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::{DeviceId, MessageId, UserId};
use crosstalk_overlay::record::{RefusalCode, Slots};
use crosstalk_overlay::time::{HOUR, Hlc};
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::account::DeviceName;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::roster::{Edit, RosterItem, key};
use jid::Jid;
use prost::Message as _;
use rand_core::Rng as _;
use sha2::{Digest as _, Sha256};

use super::Core;
use super::account::Account;
use super::contacts::{GROUPS, NAME_BYTES};
use super::roster::user_of;
pub(super) use conflict::in_conflict;
use shape::{BlockField, DigestField, Part};
use traces::Traces;

/// A device that was told a digest is told none for so long, milliseconds.
const QUIET: u64 = HOUR;
/// Devices whose names are kept.
const NAMES: usize = 16;
/// Blocked and unblocked addresses of an account.
const BLOCKS: usize = crate::features::blocking::LIMIT + super::account::LIFTED;

/// What changed in this batch and has to be told, and when devices were met.
#[derive(Debug, Default)]
pub(super) struct Sync {
    changed: BTreeMap<UserId, Changed>,
    /// Monotonic milliseconds at which a device elsewhere was told a digest; as many as there are own devices.
    met: BTreeMap<DeviceId, u64>,
    pub(super) servers: server::Servers,
    looks: BTreeMap<UserId, look::Looks>,
}

#[derive(Debug, Default)]
struct Changed {
    contacts: BTreeSet<String>,
    blocks: BTreeSet<String>,
    records: Vec<Vec<u8>>,
    revocations: Vec<Vec<u8>>,
    /// What the user says of itself.
    own: bool,
}

impl Core {
    /// A contact was changed here.
    pub(super) fn sync_contact(&mut self, user: UserId, jid: &str) {
        self.tell_server_soon(user);
        if self.overlay.has_other_devices(&user) {
            self.sync.changed.entry(user).or_default().contacts.insert(jid.to_owned());
        }
    }

    /// An address was blocked or unblocked here.
    pub(super) fn sync_block(&mut self, user: UserId, jid: &str) {
        self.tell_server_soon(user);
        if self.overlay.has_other_devices(&user) {
            self.sync.changed.entry(user).or_default().blocks.insert(jid.to_owned());
        }
    }

    /// A contact record was made on this node, by the user or for it, or has come to it.
    pub(super) fn sync_record(&mut self, user: UserId, record: &[u8]) {
        self.tell_server_soon(user);
        if self.overlay.has_other_devices(&user) {
            self.sync.changed.entry(user).or_default().records.push(record.to_vec());
        }
    }

    /// A device was revoked here.
    pub(super) fn sync_revocation(&mut self, user: UserId, revocation: &[u8]) {
        self.sync.changed.entry(user).or_default().revocations.push(revocation.to_vec());
    }

    /// At the end of a batch: tells the user's other devices what changed, in the same commit.
    pub(super) fn flush_sync(&mut self) {
        while let Some((user, changed)) = self.sync.changed.pop_first() {
            let Some(account) = self.accounts.get(&user) else { continue };
            let contacts = changed.contacts.iter().filter_map(|jid| account.roster.items.get(jid));
            let blocks =
                changed.blocks.iter().filter_map(|jid| Some(block_field(jid, account.blocks.get(jid)?)));
            let part = Part {
                contacts: contacts.map(merge::normal).collect(),
                blocks: blocks.collect(),
                records: changed.records,
                revocations: changed.revocations,
                ..if changed.own { own::part(account) } else { Part::default() }
            };
            self.tell_own_devices(user, part, None);
            self.drain_overlay();
        }
    }

    /// A device of a user of this node has come: those that were not met lately are told what there is here.
    pub(super) fn own_devices_met(&mut self, user: UserId) {
        let Some(account) = self.accounts.get(&user) else { return };
        let (device, digest) = (account.device, digest_of(account));
        let here = self.overlay.own_devices(&user);
        let known: BTreeSet<DeviceId> = here.iter().map(|device| device.device).collect();
        let mut new = false;
        for other in here.iter().filter(|device| device.live && !device.here) {
            let met = self.sync.met.get(&other.device);
            if met.is_none_or(|met| self.now.mono >= met + QUIET) {
                self.sync.met.insert(other.device, self.now.mono);
                new = true;
            }
        }
        self.forget_device_names(user, &known);
        if new {
            let machine = shape::machine(&self.settings.machine);
            let digest = DigestField { device: device.as_bytes().to_vec(), machine, digest: digest.to_vec() };
            let part = Part { digest: Some(digest), ..Part::default() };
            // It is about now: for a device that is away it is of no use.
            let expires = self.now.wall.saturating_add(QUIET);
            self.tell_own_devices(user, part, Some(expires));
        }
    }

    fn tell_own_devices(&mut self, user: UserId, part: Part, expires: Option<u64>) {
        for part in part.split() {
            let mut id = [0; 16];
            self.rng.fill_bytes(&mut id);
            let (id, content) = (MessageId::from_bytes(id), Content::Sync(part.write()));
            if self.overlay.send(Outgoing { id, from: user, to: user, content, expires }, self.now).is_err() {
                // The digest tells it when they meet.
                self.count("changes for own devices that found the outbox full");
            }
        }
    }

    /// Tells everything, in one pass.
    fn tell_all(&mut self, user: UserId) {
        let Some(account) = self.accounts.get(&user) else { return };
        let part = Part {
            contacts: account.roster.items.values().map(merge::normal).collect(),
            blocks: account.blocks.iter().map(|(jid, blocked)| block_field(jid, blocked)).collect(),
            records: account
                .roster
                .relations
                .values()
                .flat_map(|relation| records(&relation.slots))
                .collect(),
            revocations: self.overlay.device_revocations_of(&user),
            ..own::part(account)
        };
        self.tell_own_devices(user, part, None);
    }

    /// Another device of the user tells something.
    pub(super) fn sync_from_own_device(&mut self, user: UserId, bytes: &[u8]) -> Disposition {
        let Some(part) = Part::read(bytes) else {
            self.count("messages of own devices that could not be read");
            return Disposition::Refused(RefusalCode::Policy);
        };
        for revocation in &part.revocations {
            if self.overlay.add_revocation(revocation, self.now).is_err() {
                self.count("revocations of own devices that did not verify");
            }
        }
        let digest = part.digest.clone();
        self.take_part(user, part);
        if let Some(digest) = digest {
            self.digest_from_own_device(user, digest);
        }
        Disposition::Held
    }

    /// Merges contacts, blocks, contact records and what the user says of itself that came from another device, by whichever way.
    fn take_part(&mut self, user: UserId, part: Part) {
        part.contacts.into_iter().for_each(|contact| self.merge_contact(user, contact));
        self.merge_blocks(user, part.blocks);
        part.records.iter().for_each(|record| self.record_from_own_device(user, record));
        if let Some(listing) = part.listing {
            self.merge_listing(user, listing);
        }
        if let Some(profile) = part.profile {
            self.merge_profile(user, profile);
        }
    }

    fn digest_from_own_device(&mut self, user: UserId, said: DigestField) {
        let Some(account) = self.accounts.get(&user) else { return };
        let differs = digest_of(account).as_slice() != said.digest;
        if let Some(device) = DeviceId::from_slice(&said.device).filter(|device| *device != account.device) {
            self.note_device_name(user, device, shape::machine(&said.machine));
        }
        if differs {
            // It may have met this device before there was anything here to be met.
            self.own_devices_met(user);
            self.tell_all(user);
        }
    }

    fn note_device_name(&mut self, user: UserId, device: DeviceId, name: String) {
        let Some(account) = self.accounts.get_mut(&user) else { return };
        let named = DeviceName { device: device.as_bytes().to_vec(), name };
        let names = &mut account.stored.devices;
        if names.contains(&named) {
            return;
        }
        names.retain(|known| known.device != named.device);
        if names.len() >= NAMES {
            names.remove(0);
        }
        names.push(named);
        self.save_account(&user);
    }

    /// Names of devices that are no longer the user's.
    fn forget_device_names(&mut self, user: UserId, known: &BTreeSet<DeviceId>) {
        let Some(account) = self.accounts.get_mut(&user) else { return };
        let before = account.stored.devices.len();
        let is_known =
            |named: &DeviceName| DeviceId::from_slice(&named.device).is_some_and(|id| known.contains(&id));
        account.stored.devices.retain(is_known);
        if account.stored.devices.len() != before {
            self.save_account(&user);
        }
    }

    /// An edit by this device, now; nothing if there is no such account.
    pub(super) fn edit_by(&mut self, user: UserId) -> Option<Edit> {
        let by = self.accounts.get(&user)?.device.as_bytes().to_vec();
        let at = self.overlay.tick(self.now);
        Some(Edit { millis: at.millis, counter: at.counter, by })
    }

    /// Whether an edit counts: made at a time that can be. Later edits here get a later clock.
    fn is_believable(&mut self, edit: &Edit) -> bool {
        let at = Hlc { millis: edit.millis, counter: edit.counter };
        self.overlay.observe_edit(at, self.now)
    }

    fn merge_contact(&mut self, user: UserId, theirs: RosterItem) {
        if !shape::is_contact(&theirs, NAME_BYTES, GROUPS) {
            return self.count("contacts of own devices that cannot be");
        }
        let edits: Vec<Edit> = shape::edits(&theirs).into_iter().flatten().cloned().collect();
        if !edits.iter().all(|edit| self.is_believable(edit)) {
            return self.count("contacts of own devices from the future");
        }
        let Some(account) = self.accounts.get(&user) else { return };
        let mine = account.roster.items.get(&theirs.jid).map(merge::normal);
        let merged = match mine.clone() {
            Some(mine) => merge::contact(mine, theirs),
            None => theirs,
        };
        if mine.as_ref() == Some(&merged) {
            return;
        }
        let unknown = mine.is_none();
        let quarrel = Traces::of(&merged).conflict().len();
        let quarrel = quarrel > mine.as_ref().map_or(0, |mine| Traces::of(mine).conflict().len());
        let (before, after) = (mine.is_some_and(|mine| !mine.removed), !merged.removed);
        let full = account.roster.count() >= self.settings.roster_limit;
        if after && !before && full || unknown && !self.has_room(Tree::Roster, 1) {
            return self.count("contacts of own devices beyond the limit");
        }
        let (other, jid) = (user_of(&merged), merged.jid.clone());
        let item = self.keep_contact(user, merged);
        if let Some(item) = item.filter(|_| before || after) {
            self.push_contact(user, &item);
        }
        if let Some(other) = other.filter(|_| before && !after) {
            self.contact_removed(user, Who::User(other));
        }
        if quarrel {
            self.tell_conflict(user, &jid);
        }
    }

    /// Stores a merged contact as a new version of the list here.
    fn keep_contact(&mut self, user: UserId, merged: RosterItem) -> Option<RosterItem> {
        self.neighbour_becomes_contact(user, &merged);
        let account = self.accounts.get_mut(&user)?;
        account.stored.roster_version += 1;
        let last = shape::edits(&merged).into_iter().flatten().max().cloned().unwrap_or_default();
        let item = RosterItem {
            version: account.stored.roster_version,
            edited_millis: last.millis,
            edited_counter: last.counter,
            edited_by: last.by,
            ..merged
        };
        account.roster.put(item.clone());
        let surplus = account.roster.surplus_tombstone();
        if let Some(other) = user_of(&item) {
            self.overlay.keep(&other);
        }
        self.writes.put(Tree::Roster, key(user.as_bytes(), &item.jid), encode(&item));
        if let Some(old) = surplus {
            self.writes.delete(Tree::Roster, key(user.as_bytes(), &old.jid));
        }
        self.save_account(&user);
        Some(item)
    }

    fn merge_blocks(&mut self, user: UserId, theirs: Vec<BlockField>) {
        let mut changed = Vec::new();
        for field in theirs {
            let believable = field.blocked.edit.clone().is_none_or(|edit| self.is_believable(&edit));
            if !shape::is_block(&field) || !believable {
                self.count("blocks of own devices that cannot be");
                continue;
            }
            let Some(account) = self.accounts.get(&user) else { return };
            let mine = account.blocks.get(&field.jid);
            if mine.is_none()
                && (account.blocks.len() >= BLOCKS || !self.has_room(Tree::Block, changed.len() + 1))
            {
                self.count("blocks of own devices beyond the limit");
                continue;
            }
            let merged = match mine {
                Some(mine) => merge::block(mine.clone(), field.blocked),
                None => field.blocked,
            };
            if let (Ok(jid), true) = (Jid::new(&field.jid), mine != Some(&merged)) {
                changed.push((jid, merged));
            }
        }
        self.blocks_merged(user, changed);
    }

    fn record_from_own_device(&mut self, user: UserId, bytes: &[u8]) {
        match self.overlay.verify_contact_of_own_device(bytes, self.now) {
            Ok(record) if record.from == user && record.to != user => {
                let (other, before) = (record.to, self.subscription_between(user, record.to));
                self.record_said(user, other, &record, before, true);
                if !before.to && self.subscription_between(user, other).to {
                    self.presence_shown(user, other);
                }
            }
            Ok(record) if record.to == user && record.from != user => self.record_for_local(user, record),
            Ok(_) | Err(_) => self.count("contact records of own devices that did not verify"),
        }
    }
}

/// A contact as it is after an edit of this device: a new clock at each field that changed. It is wanted if it was added, or
/// what a person writes was changed, for whoever edits a contact wants it; and if its person `wants` it whatever was changed.
pub(super) fn edited(before: Option<&RosterItem>, item: RosterItem, edit: Edit, wants: bool) -> RosterItem {
    let Some(before) = before.map(merge::normal) else {
        let all = Some(edit.clone());
        return RosterItem {
            name_edit: all.clone(),
            groups_edit: all.clone(),
            approved_edit: all.clone(),
            listed_edit: all.clone(),
            user_edit: all,
            edited_millis: edit.millis,
            edited_counter: edit.counter,
            edited_by: edit.by,
            ..item
        };
    };
    let clock = |changed: bool, before: Option<Edit>| if changed { Some(edit.clone()) } else { before };
    let written = before.name != item.name || before.groups != item.groups;
    let approved = item.approved && !before.approved;
    let mut traces = Traces::of(&before);
    match (before.removed, item.removed) {
        (false, true) => traces.remove(&edit),
        (true, false) => traces.want(&edit),
        (false, false) if written || approved || wants => traces.want(&edit),
        _ => {}
    }
    traces.write(RosterItem {
        name_edit: clock(before.name != item.name, before.name_edit),
        groups_edit: clock(before.groups != item.groups, before.groups_edit),
        approved_edit: clock(before.approved != item.approved, before.approved_edit),
        user_edit: clock(before.user != item.user, before.user_edit),
        edited_millis: edit.millis,
        edited_counter: edit.counter,
        edited_by: edit.by,
        ..item
    })
}

/// Whether two states of a contact are the same for other devices.
pub(super) fn says_the_same(one: &RosterItem, other: &RosterItem) -> bool {
    merge::normal(one) == merge::normal(other)
}

fn block_field(jid: &str, blocked: &Blocked) -> BlockField {
    BlockField { jid: jid.to_owned(), blocked: blocked.clone() }
}

/// The signed bytes of what stands between two people.
fn records(slots: &Slots) -> Vec<Vec<u8>> {
    slots.all().map(|record| record.bytes().to_vec()).collect()
}

/// Over everything but what was removed: who has forgotten that has nothing else to say.
fn digest_of(account: &Account) -> [u8; 32] {
    let mut digest = Sha256::new_with_prefix(b"crosstalk/1/account-digest");
    let mut take = |bytes: &[u8]| {
        digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(bytes);
    };
    for item in account.roster.listed() {
        take(&merge::normal(item).encode_to_vec());
    }
    for (jid, blocked) in account.blocks.iter().filter(|(_, blocked)| !blocked.lifted) {
        take(&block_field(jid, blocked).encode_to_vec());
    }
    for relation in account.roster.relations.values() {
        records(&relation.slots).iter().for_each(|record| take(record));
    }
    let own = own::part(account);
    if own != Part::default() {
        take(&own.write());
    }
    digest.finalize().into()
}

//! One pass with the server of a user's domain: certificate and user record, then what either lacks of the account
//! (`overlay/PROTOCOL.md` §13). Whatever breaks it, the next one finds what is still missing. *Pure.*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crosstalk_overlay::authority::MAX_ROTATIONS;
use crosstalk_overlay::enrol::{
    Answer, Ask, Begin, Begun, Collect, Collected, Compare, Fetch, MARK, MAX_FETCH, MAX_INTRODUCTIONS, PAGE,
    Servers, Statement, Statements, Tell,
};
use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{
    Context, DeviceCert, NameCert, NoCertificates, RevocationSet, Side, Unverified, Verified,
};
use crosstalk_overlay::time::TrustedTime;
use crosstalk_storage::tree::block::Blocked;
use prost::Message as _;

use super::entry::{Entry, Key, Mark, Marks, THING, marks, short_digest};
use super::look::Looking;
use super::shape::Part;
use super::{own, records};
use crate::core::Core;
use crate::core::account::Account;

/// Things told again because the server knew something that they had not; more wait for the next pass.
const TOLD_AGAIN: usize = 16_384;
/// Marks of a server at most.
const MOST_MARKS: usize = 65_536;

/// Where a pass stands.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) session: u64,
    /// Buckets that differ.
    differing: Vec<u8>,
    /// Of them, from here on their marks are not known yet.
    compared: usize,
    theirs: BTreeSet<Mark>,
    fetch: VecDeque<Mark>,
    fetched: usize,
    /// Things the server has to be told, whatever their marks.
    tell: VecDeque<Key>,
    gathered: bool,
    told: usize,
    told_again: usize,
    record: bool,
    /// Pages of what the user brought along that are here; nothing: there is none left to collect.
    collected: Option<u64>,
    pub(super) looking: Looking,
    /// Where the server that answers is, and the others beside it, if it has told.
    pub(super) places: Option<Vec<String>>,
    pub(super) servers: Option<Servers>,
    /// Of what was told, not taken: no room, made in the future, not understood.
    pub(super) left_out: (u32, u32, u32),
    /// Of all questions and answers.
    pub(super) bytes: (u64, u64),
}

impl Pass {
    /// How much is done, of how much, while there is something to do.
    pub(super) fn progress(&self) -> Option<(usize, usize)> {
        let all = self.fetched + self.fetch.len() + self.told + self.tell.len();
        (all > 0).then_some((self.fetched + self.told, all))
    }
}

impl Core {
    /// Nothing while the device has nothing to say for itself.
    pub(super) fn first_question(&mut self, user: UserId) -> Option<(Pass, Ask)> {
        let proof = self.overlay.device_proof(&user)?;
        let record = self.overlay.record_of_own(&user)?;
        let account = self.accounts.get(&user)?;
        let (_, places) = self.server_of(&user)?;
        let serial =
            Unverified::<NameCert>::parse(&account.stored.name_cert).map_or(0, |cert| cert.claim().serial);
        let ask = Begin {
            address: account.jid.to_string(),
            user: user.as_bytes().to_vec(),
            certificate: proof.certificate,
            binding: proof.binding,
            record: short_digest(&record).to_vec(),
            root: marks_of(account).root().to_vec(),
            serial,
            places: short_digest(places.concat().as_bytes()).to_vec(),
            authority: self
                .overlay
                .pinned_authority(&account.stored.domain)
                .map(|key| key.as_bytes().to_vec())
                .unwrap_or_default(),
            introduced: self.overlay.introduced_until(&account.stored.domain),
            looked: self.looked(&user),
            servers: self.servers_digest(&user),
        };
        Some((Pass::default(), Ask::Begin(ask)))
    }

    /// Takes in an answer; the next question, or nothing at the end.
    pub(super) fn next_question(
        &mut self,
        user: UserId,
        pass: &mut Pass,
        answer: Answer,
    ) -> Result<Option<Ask>, &'static str> {
        match answer {
            Answer::Begun(begun) => self.begun(user, pass, begun)?,
            Answer::Compared(compared) => {
                let buckets = usize::try_from(compared.buckets).unwrap_or(usize::MAX);
                if buckets == 0 || pass.compared.saturating_add(buckets) > pass.differing.len() {
                    return Err("answers of servers that lead nowhere");
                }
                pass.compared += buckets;
                pass.theirs.extend(marks(&compared.marks));
                if pass.theirs.len() > MOST_MARKS {
                    return Err("answers of servers that lead nowhere");
                }
                if pass.compared == pass.differing.len() {
                    self.compared(user, pass);
                }
            }
            Answer::Collected(Collected { number, page }) => {
                let had = pass.collected.ok_or("answers of servers to other questions")?;
                if number > 0 && number <= had {
                    return Err("answers of servers that lead nowhere");
                }
                self.take_brought(user, page.unwrap_or_default());
                pass.collected = Some(number).filter(|number| *number > 0);
            }
            Answer::Looked(page) => self.looks(user, &mut pass.looking, &page)?,
            Answer::Statements(page) if pass.gathered => self.told(user, pass, &page)?,
            Answer::Statements(page) => {
                let count = usize::try_from(page.marks).unwrap_or(usize::MAX);
                if count == 0 || count > pass.fetch.len() {
                    return Err("answers of servers that lead nowhere");
                }
                pass.fetch.drain(..count);
                pass.fetched += count;
                self.take_statements(user, pass, &page)?;
            }
            _ => return Err("answers of servers to other questions"),
        }
        Ok(self.after(user, pass))
    }

    /// What is to be asked next.
    fn after(&mut self, user: UserId, pass: &mut Pass) -> Option<Ask> {
        if let Some(taken) = pass.collected {
            return Some(Ask::Collect(Collect { session: pass.session, taken }));
        }
        if pass.compared < pass.differing.len() {
            let buckets = pass.differing[pass.compared..].to_vec();
            return Some(Ask::Compare(Compare { session: pass.session, buckets }));
        }
        if !pass.fetch.is_empty() {
            let marks: Vec<u8> = pass.fetch.iter().take(MAX_FETCH).flatten().copied().collect();
            return Some(Ask::Fetch(Fetch { session: pass.session, marks }));
        }
        if !std::mem::replace(&mut pass.gathered, true) {
            self.gather(user, pass);
        }
        if let Some(tell) = self.tell_more(user, pass) {
            return Some(Ask::Tell(tell));
        }
        self.look_more(user, pass.session, &mut pass.looking).map(Ask::Look)
    }

    fn begun(&mut self, user: UserId, pass: &mut Pass, mut begun: Begun) -> Result<(), &'static str> {
        pass.session = begun.session;
        self.hear_servers(&user, pass, &mut begun);
        for rotation in begun.rotations.iter().take(MAX_ROTATIONS) {
            if self.overlay.add_rotation(rotation, self.now).is_err() {
                self.count("rotations of servers that were not taken");
            }
        }
        let introductions = begun.introductions.get(..MAX_INTRODUCTIONS).unwrap_or(&begun.introductions);
        self.take_introductions(introductions);
        self.password_counts(user, begun.password);
        self.directory_heard(user, begun.directory());
        self.begin_look(user, &mut pass.looking, &begun);
        pass.collected = begun.brought.then_some(0);
        self.way_opens(user, begun.session, begun.upstream);
        let renewed = !begun.name.is_empty() && !is_on(Mutant::RenewalForgotten);
        if renewed && self.renew(user, None, Some(begun.name)).is_err() {
            self.count("certificates of servers that were not taken");
        }
        if begun.other_record {
            if !begun.record.is_empty()
                && self.overlay.merge_record_of_own(&user, &begun.record, self.now).is_err()
            {
                self.count("user records of servers that did not verify");
            }
            let mine = self.overlay.record_of_own(&user);
            pass.record = mine.is_some_and(|mine| mine != begun.record);
        }
        let mine = self.accounts.get(&user).map(marks_of).unwrap_or_default();
        pass.differing = mine.differing(&begun.buckets);
        if !begun.buckets.is_empty() && begun.buckets.len() != crosstalk_overlay::enrol::BUCKETS * MARK {
            return Err("answers of servers that lead nowhere");
        }
        Ok(())
    }

    /// What is there and not here is fetched; but of what was changed here since both had the same the server is told
    /// first, and says what it makes of it.
    fn compared(&mut self, user: UserId, pass: &mut Pass) {
        let Some(account) = self.accounts.get(&user) else { return };
        let mine = marks_of(account);
        let changed: BTreeMap<Vec<u8>, Key> =
            changed(account).map(|key| (key.place()[..THING].to_vec(), key)).collect();
        let mut tell = BTreeSet::new();
        for mark in pass.theirs.difference(&mine.0) {
            match changed.get(&mark[..THING]) {
                Some(key) => drop(tell.insert(key.clone())),
                None => pass.fetch.push_back(*mark),
            }
        }
        pass.tell.extend(tell);
    }

    /// What is here and not there, of the buckets that differ.
    fn gather(&mut self, user: UserId, pass: &mut Pass) {
        let Some(account) = self.accounts.get(&user) else { return };
        let differing: BTreeSet<u8> = pass.differing.iter().copied().collect();
        let lacking = |mark: &Mark| differing.contains(&mark[0]) && !pass.theirs.contains(mark);
        let lacking: Vec<Key> = entries(account)
            .filter(|entry| entry.mark().is_some_and(|mark| lacking(&mark)))
            .map(|entry| entry.key())
            .collect();
        let known: BTreeSet<Key> = pass.tell.iter().cloned().collect();
        pass.tell.extend(lacking.into_iter().filter(|key| !known.contains(key)));
        if is_on(Mutant::HeldUntold) {
            let up = self.server_is_up_since(&user);
            let since =
                |entry: &Entry| entry.edits().iter().any(|edit| up.is_some_and(|up| edit.millis >= up));
            pass.tell.retain(|key| entry_of(account, key).as_ref().is_some_and(since));
        }
    }

    fn tell_more(&mut self, user: UserId, pass: &mut Pass) -> Option<Tell> {
        let mut tell = Tell { session: pass.session, ..Tell::default() };
        if std::mem::take(&mut pass.record) {
            tell.record = self.overlay.record_of_own(&user).unwrap_or_default();
        }
        let mut bytes = tell.record.len();
        while let Some(key) = pass.tell.front() {
            let entry = self.accounts.get(&user).and_then(|account| entry_of(account, key));
            let said = entry.map(|entry| entry.part().write());
            let statement = said.and_then(|said| self.overlay.sign_statement(&user, said));
            let size = statement.as_ref().map_or(0, Statement::encoded_len);
            if bytes > 0 && bytes + size > PAGE {
                break;
            }
            bytes += size;
            pass.told += 1;
            pass.tell.pop_front();
            tell.statements.extend(statement);
        }
        (!tell.record.is_empty() || !tell.statements.is_empty()).then_some(tell)
    }

    /// The server knew something that what was told had not.
    fn told(&mut self, user: UserId, pass: &mut Pass, page: &Statements) -> Result<(), &'static str> {
        let (full, ahead, unread) = pass.left_out;
        pass.left_out = (
            full.saturating_add(page.full),
            ahead.saturating_add(page.ahead),
            unread.saturating_add(page.unread),
        );
        let before = pass.tell.len();
        self.take_statements(user, pass, page)?;
        pass.told_again += pass.tell.len() - before;
        match pass.told_again > TOLD_AGAIN {
            true => Err("passes that did not come to an end"),
            false => Ok(()),
        }
    }

    /// Merges what devices of the user have said. Where this device knows more, it says so in its turn.
    fn take_statements(
        &mut self,
        user: UserId,
        pass: &mut Pass,
        page: &Statements,
    ) -> Result<(), &'static str> {
        let signers = signers(&user, &page.certificates);
        let mut part = Part::default();
        let mut said = Vec::new();
        for statement in &page.statements {
            let device = DeviceId::from_slice(&statement.device).filter(|device| signers.contains(device));
            if !device.is_some_and(|device| statement.is_by(&user, &device)) {
                return Err("statements of servers that no device has made");
            }
            let Some(entry) = Entry::read(&statement.said) else {
                self.count("statements of devices that could not be read");
                continue;
            };
            part.add(entry.part());
            said.push(entry);
        }
        self.take_part(user, part);
        let Some(account) = self.accounts.get(&user) else { return Ok(()) };
        // Only where it does: what was not taken in, for whatever reason, is no news to the server.
        let knows_more = |entry: &&Entry| {
            let mine = entry_of(account, &entry.key()).filter(|mine| mine != *entry);
            mine.is_some_and(|mine| mine.clone().merge((*entry).clone()) == mine)
        };
        let waiting: BTreeSet<Key> = pass.tell.iter().cloned().collect();
        let more: BTreeSet<Key> = said.iter().filter(knows_more).map(Entry::key).collect();
        pass.tell.extend(more.difference(&waiting).cloned());
        Ok(())
    }
}

/// The devices that the user key has certified, of these certificates. That one was revoked since, or has ended, does not
/// unsay what it said: the server takes nothing from such a device.
fn signers(user: &UserId, certificates: &[Vec<u8>]) -> BTreeSet<DeviceId> {
    let revocations = RevocationSet::default();
    let time = TrustedTime { millis: 0, credible: false, latest: u64::MAX };
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: false };
    let verified = |bytes: &Vec<u8>| -> Option<Verified<DeviceCert>> {
        Unverified::<DeviceCert>::parse(bytes).ok()?.verify(&context).ok()
    };
    certificates
        .iter()
        .filter_map(verified)
        .filter(|cert| cert.user == *user)
        .map(|cert| cert.device)
        .collect()
}

/// Contacts, blocks and what the user says of itself that were changed since both had the same.
fn changed(account: &Account) -> impl Iterator<Item = Key> {
    let home = account.stored.server.clone().unwrap_or_default();
    let blocked_since =
        move |blocked: &Blocked| blocked.edit.as_ref().is_some_and(|edit| edit.millis > home.clock);
    let contacts = account.roster.items.values().filter(move |item| item.version > home.version);
    let blocks = account.blocks.iter().filter(move |(_, blocked)| blocked_since(blocked));
    let since = move |entry: &Entry| entry.edits().iter().any(|edit| edit.millis > home.clock);
    let own = own::entries(account).filter(since).map(|entry| entry.key());
    let contacts = contacts.map(|item| Key::Contact(item.jid.clone()));
    contacts.chain(blocks.map(|(jid, _)| Key::Block(jid.clone()))).chain(own)
}

/// Everything of an account that a server keeps, with what was removed.
fn entries(account: &Account) -> impl Iterator<Item = Entry> {
    let contacts = account.roster.items.values().map(Entry::contact);
    let blocks = account.blocks.iter().map(|(jid, blocked)| Entry::block(jid, blocked));
    let said = account.roster.relations.values().flat_map(|relation| records(&relation.slots));
    contacts.chain(blocks).chain(said.filter_map(Entry::record)).chain(own::entries(account))
}

pub(super) fn marks_of(account: &Account) -> Marks {
    Marks(entries(account).filter_map(|entry| entry.mark()).collect())
}

fn entry_of(account: &Account, key: &Key) -> Option<Entry> {
    match key {
        Key::Contact(jid) => account.roster.items.get(jid).map(Entry::contact),
        Key::Block(jid) => account.blocks.get(jid).map(|blocked| Entry::block(jid, blocked)),
        Key::Record(from, to, watcher) => {
            let other = if *from == account.user { to } else { from };
            let slots = &account.roster.relations.get(other)?.slots;
            let record = slots.all().find(|record| {
                record.from == *from && record.to == *to && (record.side == Side::Watcher) == *watcher
            })?;
            Entry::record(record.bytes().to_vec())
        }
        Key::Listing | Key::Profile => own::entries(account).find(|entry| entry.key() == *key),
    }
}

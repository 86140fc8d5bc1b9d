//! What the server keeps of its users' accounts, so that each of their devices finds it there (`overlay/PROTOCOL.md` §13).
//!
//! Each thing that stands here was signed by a device of its user, and goes out as it came in: the server merges by
//! keeping what nothing else makes superfluous, and can add nothing. Each question is whole in itself but for the
//! session, which says who asks; a laptop or a server that dies in between goes on with what is there.

use std::collections::BTreeMap;

use crosstalk_overlay::enrol::{
    Begin, Begun, Compare, Compared, Fetch, MAX_FETCH, MAX_STATEMENT, PAGE, Statement, Statements, Tell, Why,
};
use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{
    Context, DeviceCert, NoCertificates, NodeBinding, RevocationSet, Unverified, UserRecord, Verified,
};
use crosstalk_overlay::time::{MAX_SKEW, TrustedTime};
use crosstalk_storage::tree::authority::{Member, MemberState, Owner, Said};
use jid::Jid;
use prost::Message;

use self::certificates::{keep_certificate, speakers};
use self::index::{Index, entries, make_room, mark_of};
use self::page::Page;
use self::sight::Sights;
use super::database::{Change, Database, DatabaseError};
use super::devices::void_devices;
use super::standing::Figures;
use crate::core::sync::entry::{Entry, Mark, Place, marks, short_digest};

mod blocks;
mod certificates;
mod devices;
mod hidden;
mod index;
mod listing;
mod page;
mod shown;
mod sight;

pub use blocks::blocked;

/// Sessions that are remembered; of more the oldest is forgotten.
const SESSIONS: usize = 4_096;
/// Things that are kept of one user: 5,000 contacts and 1,000 removed ones, four records of each of 10,000 relations, blocks.
const PER_USER: usize = 49_152;
/// Their bytes; of 5,000 contacts they are two million, with four records of each ten.
const BYTES: usize = 24 << 20;
/// Statements that are kept of one thing. A device that is told of them says all of it in one.
const STATEMENTS: usize = 16;
/// Things that are read together.
const TOGETHER: usize = 128;

/// Why a question is not answered.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    No(Why),
    /// The database fails.
    Failed(DatabaseError),
}

impl From<DatabaseError> for Stop {
    fn from(error: DatabaseError) -> Self {
        Self::Failed(error)
    }
}

/// Who asks, proven.
struct Session {
    node: NodeId,
    /// The user's address, as it was when the session began.
    address: String,
    user: UserId,
    device: DeviceId,
    certificate: Vec<u8>,
}

/// What was said of a thing, by all statements together.
fn whole(said: &Said) -> Option<Entry> {
    entries(said).reduce(Entry::merge)
}

/// The accounts of all users of the domain.
#[derive(Default)]
pub struct Lists {
    sessions: BTreeMap<u64, Session>,
    next: u64,
    indexes: BTreeMap<UserId, Index>,
    uses: u64,
    sights: Sights,
    /// Who was blocked or unblocked by what was told last.
    blocks: Vec<(UserId, Jid)>,
    /// That laptops say what is not understood has been said.
    warned: bool,
}

impl std::fmt::Debug for Lists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lists({} sessions)", self.sessions.len())
    }
}

impl Lists {
    /// A device comes. Its user has been looked up by address already.
    ///
    /// # Errors
    /// When it does not prove to be one of that user's on that node, or when the database fails.
    pub fn begin(&mut self, database: &Database, node: NodeId, ask: &Begin, now: u64) -> Result<Begun, Stop> {
        let user = UserId::from_slice(&ask.user).ok_or(Stop::No(Why::Policy))?;
        let owner = database.owner(&user)?;
        let record = stored_record(&owner, now);
        let device = proven(ask, user, node, record.as_ref(), now).ok_or(Stop::No(Why::Password))?;
        let other_record = owner.record.is_empty() || short_digest(&owner.record)[..] != ask.record[..];
        let mine = self.index(database, user, &owner)?.marks();
        let same = mine.root()[..] == ask.root[..];
        let looked = match ask.looked.is_empty() {
            true => Vec::new(),
            false => self.looked(database, (&user, &owner), &ask.address, &ask.looked)?,
        };
        let (address, certificate) = (ask.address.clone(), ask.certificate.clone());
        let session = self.remember(Session { node, address, user, device, certificate });
        Ok(Begun {
            session,
            record: if other_record { owner.record } else { Vec::new() },
            other_record,
            buckets: if same { Vec::new() } else { mine.buckets() },
            looks: true,
            looked,
            ..Begun::default()
        })
    }

    /// Which marks are in some buckets.
    ///
    /// # Errors
    /// When the session is forgotten, or the database fails.
    pub fn compare(
        &mut self,
        database: &Database,
        node: NodeId,
        ask: &Compare,
        now: u64,
    ) -> Result<Compared, Stop> {
        let (user, owner) = self.who(database, node, ask.session, now)?;
        let mine = self.index(database, user, &owner)?.marks();
        let mut compared = Compared::default();
        for bucket in &ask.buckets {
            let more: Vec<u8> = mine.bucket(*bucket).flatten().copied().collect();
            if compared.buckets > 0 && compared.marks.len() + more.len() > PAGE {
                break;
            }
            compared.buckets += 1;
            compared.marks.extend(more);
        }
        Ok(compared)
    }

    /// What some marks stand for. Of those that stand for nothing any more nothing is said.
    ///
    /// # Errors
    /// When the session is forgotten, or the database fails.
    pub fn fetch(
        &mut self,
        database: &Database,
        node: NodeId,
        ask: &Fetch,
        now: u64,
    ) -> Result<Statements, Stop> {
        let (user, owner) = self.who(database, node, ask.session, now)?;
        let index = self.index(database, user, &owner)?;
        let wanted: Vec<(Mark, Option<Place>)> =
            marks(&ask.marks).take(MAX_FETCH).map(|mark| (mark, index.marks.get(&mark).copied())).collect();
        let mut page = Page::default();
        'pages: for some in wanted.chunks(TOGETHER) {
            let places: Vec<Place> = some.iter().filter_map(|(_, place)| *place).collect();
            let mut said = database.said(&user, &places)?.into_iter();
            for (mark, place) in some {
                let said = place.and_then(|_| said.next()).unwrap_or_default();
                let meant = said.statements.into_iter().find(|statement| mark_of(statement) == Some(*mark));
                if !page.takes(meant) {
                    break 'pages;
                }
            }
        }
        Ok(page.end(&owner))
    }

    /// A device tells what is lacking here. The answer is durable, and what was told with it.
    ///
    /// # Errors
    /// When the session is forgotten, something was not said by this device, there is no room, or the database fails.
    pub fn tell(
        &mut self,
        database: &Database,
        node: NodeId,
        ask: &Tell,
        now: u64,
    ) -> Result<Statements, Stop> {
        let (user, before) = self.who(database, node, ask.session, now)?;
        let session = self.session(node, ask.session)?;
        let (device, certificate) = (session.device, session.certificate.clone());
        let name = name_in(&session.address).to_owned();
        let mut owner = before.clone();
        if !ask.record.is_empty() {
            merge_record(&mut owner, &user, &ask.record, now)?;
        }
        let (mut changes, ahead, unread) = merged(database, &user, &device, &ask.statements, now)?;
        self.note_unread(database, unread);
        let index = self.index(database, user, &before)?;
        let full = index.leave_out(&mut changes);
        let hiding = index.hiding_after(changes.values());
        let hides = (hiding != index.hiding).then(|| hiding.from());
        let written = changes.values().filter(|change| change.before != change.after);
        let fresh = written.clone().filter(|change| change.before.statements.is_empty()).count();
        let bytes = |of: fn(&Merged) -> &Said| -> usize {
            changes.values().map(|change| of(change).encoded_len()).sum()
        };
        let (gone, after) = (bytes(|change| &change.before), bytes(|change| &change.after));
        let mut change = Change::default();
        for (place, said) in changes.iter().filter(|(_, change)| change.before != change.after) {
            change = change.said(&user, place, said.after.clone());
        }
        change = listing::indexed(change, database, &name, changes.values())?;
        if let Some(from) = hides {
            change = shown::hidden(change, database, &user, &from)?;
        }
        if fresh > 0 || written.count() > 0 {
            keep_certificate(&mut owner, certificate, || speakers(database, &user))?;
            owner.changes = owner.changes.wrapping_add(1);
        }
        if owner != before {
            change = change.owner(&user, owner.clone());
        }
        database.commit(change)?;
        // Before anything that may fail: what is said once more is no change.
        self.note_blocks(user, changes.values());
        if owner != before {
            self.sights.changed(&user);
        }
        if owner.record != before.record {
            self.end_revoked(&user, &owner, now);
            shown::forget_revoked(database, &user, &owner, now)?;
        }
        let index = self.indexes.entry(user).or_default();
        index.changes = owner.changes;
        index.things += fresh;
        index.bytes = (index.bytes + after).saturating_sub(gone);
        let mut page = Page::default();
        for (place, said) in changes {
            index.forget(&said.before);
            index.add(place, &said.after);
            // A laptop that says the same once more has had the answer, and may not be able to read all of it.
            if said.before.statements.contains(&said.told) {
                continue;
            }
            for statement in said.after.statements.into_iter().filter(|other| *other != said.told) {
                page.takes(Some(statement));
            }
        }
        let mut answer = page.end(&owner);
        (answer.full, answer.ahead, answer.unread) = (full, ahead, unread);
        Ok(answer)
    }

    /// The user of a session, and what is kept of it: read anew each time, as another process of this server may have
    /// taken the name back, or have heard that the device was revoked.
    fn who(
        &mut self,
        database: &Database,
        node: NodeId,
        session: u64,
        now: u64,
    ) -> Result<(UserId, Owner), Stop> {
        let Session { user, address, .. } = self.session(node, session)?;
        let (user, member) = (*user, database.member(name_in(address))?);
        let has_name =
            |member: &Member| member.state() == MemberState::Enrolled && member.user == user.as_bytes()[..];
        if !member.as_ref().is_some_and(has_name) {
            self.sessions.retain(|_, session| session.user != user);
        }
        self.end_devices(&user, &member.as_ref().map(void_devices).unwrap_or_default());
        let owner = database.owner(&user)?;
        if self.indexes.get(&user).is_some_and(|index| index.changes != owner.changes) {
            self.end_revoked(&user, &owner, now);
        }
        self.session(node, session)?;
        Ok((user, owner))
    }

    /// No device goes on that its user has revoked since it began.
    fn end_revoked(&mut self, user: &UserId, owner: &Owner, now: u64) {
        let revocations = revocations_of(stored_record(owner, now).as_ref());
        self.sessions.retain(|_, session| {
            session.user != *user || !revocations.is_device_revoked(user, &session.device)
        });
    }

    /// Says once that something is not understood, and counts it.
    fn note_unread(&mut self, database: &Database, unread: u32) {
        if unread == 0 {
            return;
        }
        let count = |figures: &mut Figures| {
            *figures.refused.entry("unreadable".to_owned()).or_default() += u64::from(unread);
        };
        database.signs().count(count);
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "a laptop says something that this server does not understand: it is left out, on that laptop only; a newer program here will \
                 take it"
            );
        }
    }

    fn remember(&mut self, session: Session) -> u64 {
        // One of each device: it begins again.
        self.sessions.retain(|_, other| other.device != session.device);
        if self.sessions.len() >= SESSIONS {
            self.sessions.pop_first();
        }
        self.next += 1;
        self.sessions.insert(self.next, session);
        self.next
    }

    fn session(&self, node: NodeId, number: u64) -> Result<&Session, Stop> {
        self.sessions.get(&number).filter(|session| session.node == node).ok_or(Stop::No(Why::Forgotten))
    }

    /// What stands in the database of a user, who is kept as `owner` there.
    fn index(
        &mut self,
        database: &Database,
        user: UserId,
        owner: &Owner,
    ) -> Result<&mut Index, DatabaseError> {
        if self.indexes.get(&user).is_none_or(|index| index.changes != owner.changes) {
            self.indexes.remove(&user);
            make_room(&mut self.indexes);
            let mut index = Index { changes: owner.changes, ..Index::default() };
            for (place, said) in database.all_said(&user, PER_USER)? {
                index.add(place, &said);
                index.things += 1;
                index.bytes += said.encoded_len();
            }
            self.indexes.insert(user, index);
        }
        self.uses += 1;
        let uses = self.uses;
        let index = self.indexes.entry(user).or_default();
        index.used = uses;
        Ok(index)
    }
}

/// What telling one thing comes to.
struct Merged {
    before: Said,
    after: Said,
    told: Statement,
}

/// Each thing that was told, merged with what stands there; how much was made in the future, and how much cannot be read.
fn merged(
    database: &Database,
    user: &UserId,
    device: &DeviceId,
    told: &[Statement],
    now: u64,
) -> Result<(BTreeMap<Place, Merged>, u32, u32), Stop> {
    let (mut entries, mut ahead, mut unread) = (BTreeMap::new(), 0, 0);
    for statement in told {
        if !statement.is_by(user, device) {
            return Err(Stop::No(Why::Policy));
        }
        let fits = statement.said.len() <= MAX_STATEMENT;
        let Some(entry) = Entry::read(&statement.said).filter(|_| fits) else {
            // A newer laptop says something that was not there yet when this program was made: the rest is for all that.
            unread += 1;
            continue;
        };
        if entry.edits().iter().any(|edit| edit.millis > now.saturating_add(MAX_SKEW)) {
            // Its laptop is told: its clock is wrong, or this one's.
            ahead += 1;
            continue;
        }
        let place = entry.key().place();
        if entries.insert(place, (entry, statement)).is_some() {
            return Err(Stop::No(Why::Policy));
        }
    }
    let places: Vec<Place> = entries.keys().copied().collect();
    let changed = |((place, (entry, statement)), before): ((Place, (Entry, &Statement)), Said)| {
        let after = with(&before, entry, statement);
        (place, Merged { before, after, told: statement.clone() })
    };
    let changes = entries.into_iter().zip(database.said(user, &places)?).map(changed).collect();
    Ok((changes, ahead, unread))
}

/// What has to be kept for the merge of all to be what it is. What was there before goes first. Where that were too many, all stays as
/// it was: whoever told is answered with what is there, and has one statement for it all.
fn with(before: &Said, entry: Entry, statement: &Statement) -> Said {
    let read = |statement: &Statement| Some((Entry::read(&statement.said)?, statement.clone()));
    let mut kept: Vec<(Entry, Statement)> = before.statements.iter().filter_map(read).collect();
    if kept.iter().any(|(known, _)| *known == entry) {
        return before.clone();
    }
    kept.push((entry, statement.clone()));
    let whole =
        |kept: &[(Entry, Statement)]| kept.iter().map(|(entry, _)| entry.clone()).reduce(Entry::merge);
    let all = whole(&kept);
    let mut at = 0;
    while at < kept.len() {
        let gone = kept.remove(at);
        if whole(&kept) != all {
            kept.insert(at, gone);
            at += 1;
        }
    }
    if kept.len() > STATEMENTS {
        return before.clone();
    }
    Said { statements: kept.into_iter().map(|(_, statement)| statement).collect() }
}

fn stored_record(owner: &Owner, now: u64) -> Option<UserRecord> {
    let revocations = RevocationSet::default();
    UserRecord::verify(&owner.record, &lenient(now, &revocations)).ok()
}

/// What a user has revoked.
fn revocations_of(record: Option<&UserRecord>) -> RevocationSet {
    let mut revocations = RevocationSet::default();
    for revoked in
        record.into_iter().flat_map(UserRecord::revocations).filter(|_| !is_on(Mutant::RevokedServed))
    {
        revocations.insert(revoked.clone());
    }
    revocations
}

/// Nothing is refused for having ended: it says which devices there are.
fn lenient(now: u64, revocations: &RevocationSet) -> Context<'_> {
    let time = TrustedTime { latest: u64::MAX, ..TrustedTime::certain(now) };
    Context { time, certificates: &NoCertificates, revocations, enforce_end: false }
}

/// The device of that user on that node, if that is proven and the user has not revoked it.
fn proven(
    ask: &Begin,
    user: UserId,
    node: NodeId,
    record: Option<&UserRecord>,
    now: u64,
) -> Option<DeviceId> {
    let revocations = revocations_of(record);
    let context = lenient(now, &revocations);
    let cert: Verified<DeviceCert> = Unverified::parse(&ask.certificate).ok()?.verify(&context).ok()?;
    if cert.user != user || revocations.is_device_revoked(&user, &cert.device) {
        return None;
    }
    let context = Context { certificates: &cert, ..context };
    let binding: Verified<NodeBinding> = Unverified::parse(&ask.binding).ok()?.verify(&context).ok()?;
    (binding.user == user && binding.node == node && binding.device == cert.device).then_some(cert.device)
}

fn merge_record(owner: &mut Owner, user: &UserId, bytes: &[u8], now: u64) -> Result<(), Stop> {
    let revocations = RevocationSet::default();
    let theirs = UserRecord::verify(bytes, &lenient(now, &revocations)).map_err(|_| Stop::No(Why::Policy))?;
    if theirs.user() != *user {
        return Err(Stop::No(Why::Policy));
    }
    let record = match stored_record(owner, now) {
        Some(mut mine) => {
            mine.merge(&theirs);
            mine
        }
        None => theirs,
    };
    owner.record = record.encode();
    Ok(())
}

/// What stands before the `@`.
fn name_in(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: usize) -> Merged {
        let statement = Statement { said: vec![1; bytes], ..Statement::default() };
        let after = Said { statements: vec![statement.clone()] };
        Merged { before: Said::default(), after, told: statement }
    }

    /// Seventeen devices that each say something that the others did not know: the last one is told what there is, and what it says
    /// then takes the place of all.
    #[test]
    fn few_statements_are_kept_of_one_thing() {
        use crosstalk_storage::tree::roster::RosterItem;
        let by = |device: u8| {
            let (edited_millis, edited_by) = (u64::from(device), vec![device]);
            let jid = "a@b".to_owned();
            Entry::contact(&RosterItem { jid, edited_millis, edited_by, ..RosterItem::default() })
        };
        let told = |said: &Said, entry: Entry| {
            let statement = Statement { said: entry.part().write(), ..Statement::default() };
            with(said, entry, &statement)
        };
        let full = (1..=16).map(by).fold(Said::default(), |said, entry| told(&said, entry));
        assert_eq!(full.statements.len(), 16);
        assert_eq!(told(&full, by(17)), full);
        let all = (1..=17).map(by).reduce(Entry::merge).expect("some");
        assert_eq!(told(&full, all).statements.len(), 1);
    }

    /// A page that is too long by one thing is taken but for that one; what takes the place of something always is.
    #[test]
    fn what_fits_is_taken() {
        let pages = |things: usize, bytes: usize| {
            let mut changes: BTreeMap<Place, Merged> = (0..3).map(|n| ([n; 16], told(10))).collect();
            changes.insert([9; 16], Merged { before: told(20).after, ..told(10) });
            let full = Index { things, bytes, ..Index::default() }.leave_out(&mut changes);
            (changes.len(), full)
        };
        assert_eq!(pages(PER_USER - 3, 0), (4, 0));
        assert_eq!(pages(PER_USER - 2, 0), (3, 1));
        assert_eq!(pages(PER_USER, 0), (1, 3));
        assert_eq!(pages(0, BYTES), (1, 3));
    }
}

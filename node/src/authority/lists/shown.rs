//! What users show: each device leaves its signed presence record here, and those find it whom the user lets see it (RFC 6121 §3, §4).
//!
//! Who that is the devices of both have said (`overlay/PROTOCOL.md` §13): the user's own word counts, and is read anew each time.

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::enrol::{Look, Looked, MARK, MAX_FETCH, MAX_LOOKED, PAGE, Seen, Why};
use crosstalk_overlay::id::{NodeId, UserId, XID_DOMAIN};
use crosstalk_overlay::record::{
    ContactRecord, Context, DeviceCert, PresenceRecord, Refusal, RevocationSet, Says, Unverified, Verified,
};
use crosstalk_overlay::time::TrustedTime;
use crosstalk_storage::tree::authority::{LastShown, Owner, Said};
use jid::BareJid;
use prost::Message as _;

use super::sight::{Sights, Sign};
use super::{Lists, Stop, revocations_of, stored_record, whole};
use crate::authority::database::{Change, Database, DatabaseError};
use crate::core::sync::entry::{Entry, Key, Mark, Marks, Place, marks, short_digest};

/// Devices of a user whose presence is kept; of more the one that was here longest ago goes.
const DEVICES: usize = 16;
/// Addresses and domains by which a user may be blocked, beside what says whether it may see somebody.
const FORMS: usize = 4;

/// Something that is shown: its mark, when it was said, and the record.
type Shown = (Mark, u64, Seen);

impl Lists {
    /// The marks of what a user may see, if that is not what it was told last.
    pub(super) fn looked(
        &mut self,
        database: &Database,
        (user, owner): (&UserId, &Owner),
        address: &str,
        before: &[u8],
    ) -> Result<Vec<u8>, DatabaseError> {
        self.see(database, (user, owner), address)?;
        let marks = Marks(self.newest(user).into_keys().collect());
        Ok(match marks.root()[..] == *before {
            true => Vec::new(),
            false => marks.0.into_iter().flatten().collect(),
        })
    }

    /// A device says what it shows, and asks what those showed last whom its user may see. What it showed is durable then.
    ///
    /// # Errors
    /// When the session is forgotten, something was not said by this device, or the database fails.
    pub fn look(&mut self, database: &Database, node: NodeId, ask: &Look, now: u64) -> Result<Looked, Stop> {
        let (user, owner) = self.who(database, node, ask.session, now)?;
        let session = self.session(node, ask.session)?;
        let (certificate, address) = (session.certificate.clone(), session.address.clone());
        if !ask.presence.is_empty() {
            let seen = Seen { presence: ask.presence.clone(), certificate };
            let hidden_from = self.index(database, user, &owner)?.hiding.from();
            keep(database, (&user, &owner), seen, &hidden_from, now)?;
            self.sights.changed(&user);
        }
        let mut looked = Looked::default();
        if ask.marks.len() < MARK {
            return Ok(looked);
        }
        self.see(database, (&user, &owner), &address)?;
        let (known, wanted) = (self.newest(&user), marks(&ask.marks).take(MAX_FETCH));
        let wanted: Vec<(Mark, Option<UserId>)> =
            wanted.map(|mark| (mark, known.get(&mark).copied())).collect();
        let others: BTreeSet<UserId> = wanted.iter().filter_map(|(_, other)| *other).collect();
        let shown = shown_by(database, &user, &address, &others)?;
        let mut bytes = 0;
        for (mark, other) in wanted {
            let shown = other.and_then(|other| shown.get(&other));
            let seen = shown.into_iter().flatten().find(|(shown, ..)| *shown == mark);
            let seen = seen.map(|(.., seen)| seen.clone());
            bytes += seen.as_ref().map_or(0, Seen::encoded_len);
            if looked.marks > 0 && bytes > PAGE {
                break;
            }
            looked.marks += 1;
            looked.seen.extend(seen);
        }
        Ok(looked)
    }

    /// Reads what those show now of whom that may have changed. Where other processes have the same database, that is everybody.
    fn see(
        &mut self,
        database: &Database,
        (user, owner): (&UserId, &Owner),
        address: &str,
    ) -> Result<(), DatabaseError> {
        if database.is_shared() {
            self.sights = Sights::default();
        }
        let grants = self.index(database, *user, owner)?.grants.clone();
        let unknown = self.sights.unknown(user, (address, owner.changes), &grants);
        let shown = shown_by(database, user, address, &unknown)?;
        let signs = |other: &UserId| {
            let shown = shown.get(other).into_iter().flatten();
            (*other, shown.map(|(mark, at, _)| (*mark, *at)).collect())
        };
        self.sights.learn(user, unknown.iter().map(signs).collect());
        Ok(())
    }

    /// The newest of what a user may see, if that is too much, and whose it is.
    fn newest(&self, user: &UserId) -> BTreeMap<Mark, UserId> {
        let mut signs: Vec<(UserId, Sign)> = self.sights.signs(user).collect();
        signs.sort_by_key(|(_, (mark, at))| (std::cmp::Reverse(*at), *mark));
        signs.truncate(MAX_LOOKED);
        signs.into_iter().map(|(other, (mark, _))| (mark, other)).collect()
    }

    /// What is kept of a user has changed in another way.
    pub fn is_another(&mut self, user: &UserId) {
        self.sights.changed(user);
    }
}

/// What some users showed last, if they let a user see it.
fn shown_by(
    database: &Database,
    user: &UserId,
    address: &str,
    others: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, Vec<Shown>>, DatabaseError> {
    let others: Vec<UserId> = others.iter().copied().collect();
    if others.is_empty() {
        return Ok(BTreeMap::new());
    }
    let shown = others.iter().copied().zip(database.last_shown(&others)?);
    let shown: Vec<(UserId, LastShown)> = shown.filter(|(_, shown)| is_shown_to(shown, user)).collect();
    let things = shown.iter().flat_map(|(other, _)| asked_of(other, user, address));
    let said = database.said_of(things)?;
    let seen = shown.into_iter().zip(said.chunks(2 + FORMS)).filter(|(_, said)| lets_see(said));
    let once = |shown: LastShown| shown.seen.into_iter().filter_map(shown_once).collect();
    Ok(seen.map(|((other, shown), _)| (other, once(shown))).collect())
}

/// Whether there is anything, and it is not hidden from a user whom only the contact list knows by the address that is blocked.
fn is_shown_to(shown: &LastShown, user: &UserId) -> bool {
    !shown.seen.is_empty() && shown.judged && !shown.hidden_from.iter().any(|other| other == user.as_bytes())
}

fn shown_once(seen: Seen) -> Option<Shown> {
    let at = Unverified::<PresenceRecord>::parse(&seen.presence).ok()?.claim().at.millis;
    Some((short_digest(&seen.presence), at, seen))
}

/// What decides whether `other` lets a user see it: the user's request and the answer, as `other` has them, and whom `other` blocks.
fn asked_of(other: &UserId, user: &UserId, address: &str) -> Vec<(UserId, Place)> {
    let own = format!("{}@{XID_DOMAIN}", user.xid());
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let address = BareJid::new(address).map_or_else(|_| address.to_owned(), |jid| jid.to_string());
    let blocks = [address, domain.to_owned(), own, XID_DOMAIN.to_owned()].map(Key::Block);
    let keys = [Key::Record(*user, *other, true), Key::Record(*other, *user, false)];
    keys.into_iter().chain(blocks).map(|key| (*other, key.place())).collect()
}

/// As [`crosstalk_overlay::record::subscription`] has it, and nobody is blocked.
fn lets_see(said: &[Said]) -> bool {
    let [watch, publish, blocks @ ..] = said else { return false };
    let blocked = |said: &Said| matches!(whole(said), Some(Entry::Block(field)) if !field.blocked.lifted);
    match (record_of(watch), record_of(publish)) {
        (Some(watch), Some(publish)) => {
            watch.says == Says::Request
                && publish.says == Says::Grant
                && publish.at > watch.at
                && !blocks.iter().any(blocked)
        }
        _ => false,
    }
}

fn record_of(said: &Said) -> Option<ContactRecord> {
    match whole(said)? {
        Entry::Record(_, record) => Some(*record),
        _ => None,
    }
}

/// With what a user showed hidden from these from now on.
pub(super) fn hidden(
    change: Change,
    database: &Database,
    user: &UserId,
    from: &BTreeSet<UserId>,
) -> Result<Change, DatabaseError> {
    let mut shown = database.last_shown(&[*user])?.pop().unwrap_or_default();
    if shown.seen.is_empty() || !hides(&mut shown, from) {
        return Ok(change);
    }
    Ok(change.shown(user, &shown))
}

/// Whether that is another than before.
fn hides(shown: &mut LastShown, from: &BTreeSet<UserId>) -> bool {
    let hidden_from: Vec<Vec<u8>> = from.iter().map(|user| user.as_bytes().to_vec()).collect();
    let changed = shown.hidden_from != hidden_from || !shown.judged;
    (shown.hidden_from, shown.judged) = (hidden_from, true);
    changed
}

/// Keeps what a device shows, if it is newer than what it showed before.
fn keep(
    database: &Database,
    (user, owner): (&UserId, &Owner),
    seen: Seen,
    hidden_from: &BTreeSet<UserId>,
    now: u64,
) -> Result<(), Stop> {
    let revocations = revocations_of(stored_record(owner, now).as_ref());
    let record = match verified(&revocations, &seen, now) {
        Ok(record) if record.user == *user => record,
        // Its laptop is told with what it changes.
        Err(Refusal::TooFarAhead { .. }) => return Ok(()),
        Ok(_) | Err(_) => return Err(Stop::No(Why::Policy)),
    };
    let claim = |seen: &Seen| Some(Unverified::<PresenceRecord>::parse(&seen.presence).ok()?.claim().clone());
    let mut shown = database.last_shown(&[*user])?.pop().unwrap_or_default();
    let before = shown.seen.iter().filter_map(claim).find(|before| before.device == record.device);
    let is_newer = before.is_none_or(|before| before.at < record.at);
    if is_newer {
        shown.seen.retain(|other| {
            verified(&revocations, other, now).is_ok_and(|other| other.device != record.device)
        });
        shown.seen.push(seen);
        let surplus = shown.seen.len().saturating_sub(DEVICES);
        shown.seen.drain(..surplus);
    }
    if hides(&mut shown, hidden_from) || is_newer {
        database.commit(Change::default().shown(user, &shown))?;
    }
    Ok(())
}

/// What lost devices of a user showed is told to nobody any more.
pub(super) fn forget_revoked(
    database: &Database,
    user: &UserId,
    owner: &Owner,
    now: u64,
) -> Result<(), DatabaseError> {
    let Some(mut shown) = database.last_shown(&[*user])?.pop() else { return Ok(()) };
    let before = shown.seen.len();
    let revocations = revocations_of(stored_record(owner, now).as_ref());
    shown.seen.retain(|seen| verified(&revocations, seen, now).is_ok());
    match shown.seen.len() == before {
        true => Ok(()),
        false => database.commit(Change::default().shown(user, &shown)),
    }
}

/// What a device of the user said, that was not revoked since.
fn verified(revocations: &RevocationSet, seen: &Seen, now: u64) -> Result<Verified<PresenceRecord>, Refusal> {
    let context = Context {
        time: TrustedTime::certain(now),
        certificates: &crosstalk_overlay::record::NoCertificates,
        revocations,
        enforce_end: false,
    };
    let certificate = Unverified::<DeviceCert>::parse(&seen.certificate)?;
    let certificate = certificate.verify(&super::lenient(now, revocations))?;
    Unverified::<PresenceRecord>::parse(&seen.presence)?
        .verify(&Context { certificates: &certificate, ..context })
}

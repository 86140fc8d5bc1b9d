//! What users show: each device leaves its signed presence record here, and those find it whom the user lets see it (RFC 6121 §3, §4).
//!
//! Who that is the devices of both have said (`overlay/PROTOCOL.md` §13): the user's own word counts, and is read anew each time.

use crosstalk_overlay::enrol::{Look, Looked, MARK, MAX_FETCH, MAX_LOOKED, PAGE, Seen, Why};
use crosstalk_overlay::id::{NodeId, UserId, XID_DOMAIN};
use crosstalk_overlay::record::{
    ContactRecord, Context, DeviceCert, PresenceRecord, Refusal, RevocationSet, Says, Unverified, Verified,
};
use crosstalk_overlay::time::TrustedTime;
use crosstalk_storage::tree::authority::{LastShown, Owner, Said};
use jid::BareJid;
use prost::Message as _;

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
        let shown = self.shown_to(database, (user, owner), address)?;
        let marks = Marks(shown.iter().map(|(mark, ..)| *mark).collect());
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
            keep(database, &user, &owner, seen, now)?;
        }
        let mut looked = Looked::default();
        if ask.marks.len() < MARK {
            return Ok(looked);
        }
        let shown = self.shown_to(database, (&user, &owner), &address)?;
        let mut bytes = 0;
        for wanted in marks(&ask.marks).take(MAX_FETCH) {
            let seen = shown.iter().find(|(mark, ..)| *mark == wanted).map(|(.., seen)| seen.clone());
            bytes += seen.as_ref().map_or(0, Seen::encoded_len);
            if looked.marks > 0 && bytes > PAGE {
                break;
            }
            looked.marks += 1;
            looked.seen.extend(seen);
        }
        Ok(looked)
    }

    /// What those showed last who let a user see it, the newest of too many.
    fn shown_to(
        &mut self,
        database: &Database,
        (user, owner): (&UserId, &Owner),
        address: &str,
    ) -> Result<Vec<Shown>, DatabaseError> {
        let grants = &self.index(database, *user, owner)?.grants;
        let others: Vec<UserId> = grants.iter().filter(|other| *other != user).copied().collect();
        let shown = others.iter().copied().zip(database.last_shown(&others)?);
        let shown: Vec<(UserId, LastShown)> = shown.filter(|(_, shown)| !shown.seen.is_empty()).collect();
        let things = shown.iter().flat_map(|(other, _)| asked_of(other, user, address));
        let said = database.said_of(things)?;
        let seen = shown.into_iter().zip(said.chunks(2 + FORMS)).filter(|(_, said)| lets_see(said));
        let mut seen: Vec<Shown> =
            seen.flat_map(|((_, shown), _)| shown.seen).filter_map(shown_once).collect();
        seen.sort_by_key(|(mark, at, _)| (std::cmp::Reverse(*at), *mark));
        seen.truncate(MAX_LOOKED);
        Ok(seen)
    }
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

/// Keeps what a device shows, if it is newer than what it showed before.
fn keep(database: &Database, user: &UserId, owner: &Owner, seen: Seen, now: u64) -> Result<(), Stop> {
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
    if before.is_some_and(|before| before.at >= record.at) {
        return Ok(());
    }
    shown
        .seen
        .retain(|other| verified(&revocations, other, now).is_ok_and(|other| other.device != record.device));
    shown.seen.push(seen);
    let surplus = shown.seen.len().saturating_sub(DEVICES);
    shown.seen.drain(..surplus);
    database.commit(Change::default().shown(user, &shown))?;
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

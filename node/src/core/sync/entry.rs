//! One thing of an account that is edited by itself: what a laptop and a server compare, and each statement says (`overlay/PROTOCOL.md`
//! §13). *Pure.*

use std::collections::BTreeSet;

use crosstalk_overlay::enrol::{BUCKETS, MARK};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::{ContactRecord, Side, Unverified};
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::directory::{Listing, Shown};
use crosstalk_storage::tree::roster::{Edit, RosterItem};
use sha2::{Digest as _, Sha256};

use super::shape::{self, BlockField, Part, ProfileField};
use super::{block_field, merge};
use crate::core::contacts::{GROUPS, NAME_BYTES};

/// Starts of two hashes: [`THING`] bytes of where it stands, the first of which is the bucket, then of what is said.
pub(crate) type Mark = [u8; MARK];

/// Bytes of a mark that say what it is about.
pub(crate) const THING: usize = 3;

/// Hash of a key: where a server keeps it.
pub(crate) type Place = [u8; 16];

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A contact.
    Contact(String),
    /// A blocked address.
    Block(String),
    /// What one says to another about presence, as watcher or not.
    Record(UserId, UserId, bool),
    /// What the directory may show.
    Listing,
    /// What the user shows of itself.
    Profile,
}

impl Key {
    /// Where it stands at a server.
    pub(crate) fn place(&self) -> Place {
        let hash: [u8; 32] = match self {
            Self::Contact(jid) => Sha256::digest([b"c", jid.as_bytes()].concat()),
            Self::Block(jid) => Sha256::digest([b"b", jid.as_bytes()].concat()),
            Self::Record(from, to, watcher) => {
                Sha256::digest([b"r", &from.as_bytes()[..], to.as_bytes(), &[u8::from(*watcher)]].concat())
            }
            Self::Listing => Sha256::digest(b"listing"),
            Self::Profile => Sha256::digest(b"profile"),
        }
        .into();
        first(&hash)
    }
}

/// The state of one thing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A contact, [`merge::normal`], or the tombstone of one.
    Contact(Box<RosterItem>),
    /// A blocked address, or one that is so no longer.
    Block(BlockField),
    /// A signed contact record, with what it claims.
    Record(Vec<u8>, Box<ContactRecord>),
    /// What the directory may show.
    Listing(Box<Listing>),
    /// What the user shows of itself.
    Profile(Box<ProfileField>),
}

impl Entry {
    /// What was said; nothing if that is not exactly one thing that can be.
    pub(crate) fn read(said: &[u8]) -> Option<Self> {
        let part = Part::read(said)?;
        if !part.revocations.is_empty() || part.digest.is_some() {
            return None;
        }
        match (&part.contacts[..], &part.blocks[..], &part.records[..], part.listing, part.profile) {
            ([item], [], [], None, None) => {
                shape::is_contact(item, NAME_BYTES, GROUPS).then(|| Self::Contact(Box::new(item.clone())))
            }
            ([], [field], [], None, None) => shape::is_block(field).then(|| Self::Block(field.clone())),
            ([], [], [record], None, None) => Self::record(record.clone()),
            ([], [], [], Some(listing), None) => {
                shape::is_listing(&listing).then(|| Self::Listing(Box::new(listing)))
            }
            ([], [], [], None, Some(field)) => {
                shape::is_profile(&field).then(|| Self::Profile(Box::new(field)))
            }
            _ => None,
        }
    }

    /// A contact as a contact list has it.
    pub(crate) fn contact(item: &RosterItem) -> Self {
        Self::Contact(Box::new(merge::normal(item)))
    }

    /// Whether an address is blocked, as a block list has it.
    pub(crate) fn block(jid: &str, blocked: &Blocked) -> Self {
        Self::Block(block_field(jid, blocked))
    }

    /// A contact record, of which nothing is believed yet.
    pub(crate) fn record(bytes: Vec<u8>) -> Option<Self> {
        let claim = Unverified::<ContactRecord>::parse(&bytes).ok()?.claim().clone();
        Some(Self::Record(bytes, Box::new(claim)))
    }

    /// How it is told.
    pub(crate) fn part(&self) -> Part {
        match self.clone() {
            Self::Contact(item) => Part { contacts: vec![*item], ..Part::default() },
            Self::Block(field) => Part { blocks: vec![field], ..Part::default() },
            Self::Record(bytes, _) => Part { records: vec![bytes], ..Part::default() },
            Self::Listing(listing) => Part { listing: Some(*listing), ..Part::default() },
            Self::Profile(field) => Part { profile: Some(*field), ..Part::default() },
        }
    }

    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Contact(item) => Key::Contact(item.jid.clone()),
            Self::Block(field) => Key::Block(field.jid.clone()),
            Self::Record(_, record) => Key::Record(record.from, record.to, record.side == Side::Watcher),
            Self::Listing(_) => Key::Listing,
            Self::Profile(_) => Key::Profile,
        }
    }

    /// Its mark; none for what was removed: who has forgotten that has nothing else to say.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let gone = match self {
            Self::Contact(item) => item.removed,
            Self::Block(field) => field.blocked.lifted,
            Self::Listing(listing) => listing.shown() == Shown::Nothing,
            Self::Record(..) | Self::Profile(_) => false,
        };
        if gone {
            return None;
        }
        let mut mark: Mark = first(&Sha256::digest(self.part().write()).into());
        mark[..THING].copy_from_slice(&self.key().place()[..THING]);
        Some(mark)
    }

    /// Two states of the same thing as one.
    pub(crate) fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Contact(one), Self::Contact(other)) => {
                Self::Contact(Box::new(merge::contact(*one, *other)))
            }
            (Self::Block(one), Self::Block(other)) => {
                Self::Block(BlockField { jid: one.jid, blocked: merge::block(one.blocked, other.blocked) })
            }
            (Self::Record(one, said), Self::Record(other, says)) => {
                match (said.at, said.device, &one) < (says.at, says.device, &other) {
                    true => Self::Record(other, says),
                    false => Self::Record(one, said),
                }
            }
            (Self::Listing(one), Self::Listing(other)) => {
                Self::Listing(Box::new(merge::listing(*one, *other)))
            }
            (Self::Profile(one), Self::Profile(other)) => {
                Self::Profile(Box::new(merge::profile(*one, *other)))
            }
            (one, _) => one,
        }
    }

    /// When it was edited.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        match self {
            Self::Contact(item) => shape::edits(item).into_iter().flatten().cloned().collect(),
            Self::Block(field) => field.blocked.edit.iter().cloned().collect(),
            Self::Listing(listing) => listing.edit.iter().cloned().collect(),
            Self::Profile(field) => field.nickname_edit.iter().chain(&field.vcard_edit).cloned().collect(),
            Self::Record(_, record) => {
                vec![Edit { millis: record.at.millis, counter: record.at.counter, ..Edit::default() }]
            }
        }
    }
}

/// The marks of all that an account has, in order, and so by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(pub(crate) BTreeSet<Mark>);

impl Marks {
    /// Those of one bucket.
    pub(crate) fn bucket(&self, bucket: u8) -> impl Iterator<Item = &Mark> {
        let (mut low, mut high) = ([0; MARK], [0xff; MARK]);
        (low[0], high[0]) = (bucket, bucket);
        self.0.range(low..=high)
    }

    /// Over all of them.
    pub(crate) fn root(&self) -> Mark {
        digest(self.0.iter())
    }

    /// Over those of each bucket, concatenated.
    pub(crate) fn buckets(&self) -> Vec<u8> {
        (0..=u8::MAX).flat_map(|bucket| digest(self.bucket(bucket))).collect()
    }

    /// The buckets that are not as somebody else has them.
    pub(crate) fn differing(&self, theirs: &[u8]) -> Vec<u8> {
        let mine = self.buckets();
        let pairs = mine.chunks_exact(MARK).zip(theirs.chunks_exact(MARK));
        if theirs.len() != BUCKETS * MARK {
            return Vec::new();
        }
        (0..=u8::MAX)
            .zip(pairs)
            .filter(|(_, (mine, theirs))| mine != theirs)
            .map(|(bucket, _)| bucket)
            .collect()
    }
}

/// Marks from bytes.
pub(crate) fn marks(bytes: &[u8]) -> impl Iterator<Item = Mark> {
    bytes.chunks_exact(MARK).filter_map(|chunk| chunk.try_into().ok())
}

/// Start of a hash over bytes.
pub(crate) fn short_digest(bytes: &[u8]) -> Mark {
    first(&Sha256::digest(bytes).into())
}

fn digest<'a>(marks: impl Iterator<Item = &'a Mark>) -> Mark {
    let mut digest = Sha256::new();
    marks.for_each(|mark| digest.update(mark));
    first(&digest.finalize().into())
}

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(jid: &str, name: &str, removed: bool) -> Entry {
        let item = RosterItem { jid: jid.into(), name: Some(name.into()), removed, ..RosterItem::default() };
        Entry::contact(&item)
    }

    #[test]
    fn what_is_said_is_read_and_is_one_thing() {
        let entry = contact("a@b", "A", false);
        assert_eq!(Entry::read(&entry.part().write()), Some(entry.clone()));
        let Entry::Contact(item) = &entry else { panic!("a contact") };
        let two = Part { contacts: vec![(**item).clone(), (**item).clone()], ..Part::default() };
        assert_eq!(Entry::read(&two.write()), None);
        assert_eq!(Entry::read(&Part::default().write()), None);
    }

    #[test]
    fn marks_tell_states_apart_and_stay_in_their_bucket() {
        let (one, other) = (contact("a@b", "A", false), contact("a@b", "B", false));
        let (first, second) = (one.mark().expect("listed"), other.mark().expect("listed"));
        assert!(first != second && first[0] == second[0]);
        assert_eq!(contact("a@b", "A", true).mark(), None);
        let (mine, theirs) = (Marks([first].into()), Marks([second].into()));
        assert_ne!(mine.root(), theirs.root());
        assert_eq!(mine.differing(&theirs.buckets()), [first[0]]);
        assert!(mine.differing(&mine.buckets()).is_empty());
        assert!(mine.differing(&[]).is_empty());
    }
}

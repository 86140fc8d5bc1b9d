//! What the devices of a user tell each other about the account, and its bytes (`overlay/PROTOCOL.md` §11). *Pure.*

use crosstalk_link_local::clean;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::directory::{Listing, Shown};
use crosstalk_storage::tree::roster::{Edit, RosterItem};
use jid::{BareJid, Jid};
use prost::Message as _;

use super::{merge, traces};
use crate::features::vcard;
use crate::xmpp::{Element, ns};

/// Bytes of one message, about; one contact may take it beyond.
const MESSAGE_BYTES: usize = 48 * 1_024;
/// Bytes of what a machine is called.
const MACHINE_BYTES: usize = 63;

/// A part of an account.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Part {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    /// Contacts, [`super::merge::normal`].
    #[prost(message, repeated, tag = "2")]
    pub(crate) contacts: Vec<RosterItem>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) blocks: Vec<BlockField>,
    /// Signed contact records, by the user and of others to the user.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) records: Vec<Vec<u8>>,
    /// Signed revocations of devices of the user.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) revocations: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "6")]
    pub(crate) digest: Option<DigestField>,
    /// What the directory of the domain may show.
    #[prost(message, optional, tag = "61")]
    pub(crate) listing: Option<Listing>,
    #[prost(message, optional, tag = "62")]
    pub(crate) profile: Option<ProfileField>,
}

/// What the user shows of itself; of each half that was never chosen nothing is said.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProfileField {
    #[prost(string, tag = "1")]
    pub(crate) nickname: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) nickname_edit: Option<Edit>,
    /// XML; empty: none.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) vcard: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub(crate) vcard_edit: Option<Edit>,
}

/// A blocked address.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlockField {
    #[prost(string, tag = "1")]
    pub(crate) jid: String,
    #[prost(message, required, tag = "2")]
    pub(crate) blocked: Blocked,
}

/// What a device says when it meets another: who it is, and what it has.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DigestField {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) device: Vec<u8>,
    /// What its machine is called.
    #[prost(string, tag = "2")]
    pub(crate) machine: String,
    /// SHA-256 over all that a whole pass would tell, but for what was removed.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) digest: Vec<u8>,
}

impl Part {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|part| part.version == 1)
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        Self { version: 1, ..self.clone() }.encode_to_vec()
    }

    /// The same in messages of bounded size.
    pub(crate) fn split(self) -> Vec<Self> {
        let Self { contacts, blocks, records, revocations, digest, listing, profile, .. } = self;
        let entries = revocations
            .into_iter()
            .map(|entry| Self { revocations: vec![entry], ..Self::default() })
            .chain(contacts.into_iter().map(|entry| Self { contacts: vec![entry], ..Self::default() }))
            .chain(blocks.into_iter().map(|entry| Self { blocks: vec![entry], ..Self::default() }))
            .chain(records.into_iter().map(|entry| Self { records: vec![entry], ..Self::default() }));
        let mut parts = Vec::new();
        let entries = entries
            .chain(listing.map(|entry| Self { listing: Some(entry), ..Self::default() }))
            .chain(profile.map(|entry| Self { profile: Some(entry), ..Self::default() }));
        let mut part = Self { digest, ..Self::default() };
        let mut size = 0;
        for entry in entries {
            let bytes = entry.encoded_len();
            if size > 0 && size + bytes > MESSAGE_BYTES {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            size += bytes;
            part.add(entry);
        }
        if part != Self::default() {
            parts.push(part);
        }
        parts
    }

    /// Takes in what another part has.
    pub(crate) fn add(&mut self, other: Self) {
        self.contacts.extend(other.contacts);
        self.blocks.extend(other.blocks);
        self.records.extend(other.records);
        self.revocations.extend(other.revocations);
        self.listing = one(self.listing.take(), other.listing, merge::listing);
        self.profile = one(self.profile.take(), other.profile, merge::profile);
    }
}

/// Of two that may be there, both as one.
fn one<T>(one: Option<T>, other: Option<T>, merge: fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(merge(one, other)),
        (one, other) => one.or(other),
    }
}

/// Whether a contact from elsewhere can be one of a list here.
pub(crate) fn is_contact(item: &RosterItem, name_bytes: usize, groups: usize) -> bool {
    let address = BareJid::new(&item.jid).is_ok_and(|jid| jid.node().is_some() && jid.as_str() == item.jid);
    let short = |text: &String| text.len() <= name_bytes;
    address
        && item.name.as_ref().is_none_or(|name| !name.is_empty() && short(name))
        && item.groups.len() <= groups
        && item.groups.iter().all(|group| !group.is_empty() && short(group))
        && item.user.as_ref().is_none_or(|user| user.len() == 32)
        && edits(item).iter().all(|edit| edit.as_ref().is_some_and(is_edit))
        && traces::is_canonical(item)
}

/// The clocks of a contact; no trace has a later one.
pub(crate) fn edits(item: &RosterItem) -> [&Option<Edit>; 5] {
    [&item.name_edit, &item.groups_edit, &item.approved_edit, &item.listed_edit, &item.user_edit]
}

/// Whether a block from elsewhere can be one here.
pub(crate) fn is_block(field: &BlockField) -> bool {
    Jid::new(&field.jid).is_ok_and(|jid| jid.as_str() == field.jid)
        && field.blocked.edit.as_ref().is_none_or(is_edit)
}

/// Whether this can be what the directory may show, as it would be shown.
pub(crate) fn is_listing(listing: &Listing) -> bool {
    let is_clean = |text: &String| clean::nickname(text) == *text;
    let (nickname, full_name) = (&listing.nickname, &listing.full_name);
    let says_as_much = match Shown::try_from(listing.shown) {
        Ok(Shown::Nothing) => nickname.is_empty() && full_name.is_empty(),
        Ok(Shown::Nickname) => full_name.is_empty(),
        Ok(Shown::FullName) => true,
        Err(_) => false,
    };
    says_as_much && is_clean(nickname) && is_clean(full_name) && listing.edit.as_ref().is_some_and(is_edit)
}

/// Whether this can be what a user shows of itself.
pub(crate) fn is_profile(field: &ProfileField) -> bool {
    let is_card = |xml: &[u8]| Element::read(xml).is_ok_and(|card| card.is("vCard", ns::VCARD));
    clean::nickname(&field.nickname) == field.nickname
        && field.vcard.len() <= vcard::LIMIT
        && (field.vcard.is_empty() || is_card(&field.vcard))
        && (field.nickname_edit.is_some() || field.nickname.is_empty())
        && (field.vcard_edit.is_some() || field.vcard.is_empty())
        && [&field.nickname_edit, &field.vcard_edit].into_iter().flatten().all(is_edit)
}

fn is_edit(edit: &Edit) -> bool {
    edit.by.len() <= 32
}

/// What a machine is called, as it may be shown.
pub(crate) fn machine(name: &str) -> String {
    let clean = crosstalk_link_local::clean::nickname(name);
    clean
        .char_indices()
        .take_while(|(at, sign)| at + sign.len_utf8() <= MACHINE_BYTES)
        .map(|(_, sign)| sign)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_goes_in_messages_of_bounded_size() {
        let contact = |n: usize| RosterItem { jid: format!("{n}@b"), ..RosterItem::default() };
        let part = Part {
            contacts: (0..5_000).map(contact).collect(),
            records: vec![vec![7; 400]; 1_000],
            ..Part::default()
        };
        let parts = part.clone().split();
        assert!(parts.len() > 5 && parts.iter().all(|part| part.write().len() < MESSAGE_BYTES + 8 * 1_024));
        let contacts: Vec<RosterItem> = parts.iter().flat_map(|part| part.contacts.clone()).collect();
        assert_eq!(contacts, part.contacts);
        assert_eq!(parts.iter().map(|part| part.records.len()).sum::<usize>(), 1_000);
        assert_eq!(Part::read(&parts[0].write()).map(|part| part.contacts), Some(parts[0].contacts.clone()));
    }

    #[test]
    fn what_cannot_stand_in_a_list_is_refused() {
        let edit = Some(Edit::default());
        let item =
            super::super::merge::normal(&RosterItem { jid: "a@b".to_owned(), ..RosterItem::default() });
        assert!(is_contact(&item, 9, 1));
        for wrong in [
            RosterItem { jid: "A@b".to_owned(), ..item.clone() },
            RosterItem { jid: "b".to_owned(), ..item.clone() },
            RosterItem { name: Some("x".repeat(10)), ..item.clone() },
            RosterItem { groups: vec!["a".to_owned(), "b".to_owned()], ..item.clone() },
            RosterItem { user: Some(vec![1]), ..item.clone() },
            RosterItem { name_edit: None, ..item.clone() },
            RosterItem { name_edit: Some(Edit { by: vec![0; 33], ..Edit::default() }), ..item.clone() },
        ] {
            assert!(!is_contact(&wrong, 9, 1), "{wrong:?}");
        }
        let block = |jid: &str| BlockField {
            jid: jid.to_owned(),
            blocked: Blocked { edit: edit.clone(), ..Blocked::default() },
        };
        assert!(is_block(&block("b")) && !is_block(&block("@")));
    }
}

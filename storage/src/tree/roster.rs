//! Contact lists: one entry per contact, keyed by local user and bare JID. *Pure.*

use crate::Tree;
use crate::codec::Stored;

/// A contact, or the tombstone of one. Its subscription is not here: it is derived from contact records.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RosterItem {
    /// Bare JID as the client knows it.
    #[prost(string, tag = "1")]
    pub jid: String,
    /// Name given by the user.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Groups.
    #[prost(string, repeated, tag = "3")]
    pub groups: Vec<String>,
    /// The contact's user key, once its address is known to belong to it.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub user: Option<Vec<u8>>,
    /// Subscription requests are granted before they come (RFC 6121 §3.4).
    #[prost(bool, tag = "5")]
    pub approved: bool,
    /// Removed; kept for roster versioning and for merging.
    #[prost(bool, tag = "6")]
    pub removed: bool,
    /// Version of the contact list that this entry was last changed in.
    #[prost(uint64, tag = "7")]
    pub version: u64,
    /// Hybrid logical clock of the last edit: milliseconds.
    #[prost(uint64, tag = "8")]
    pub edited_millis: u64,
    /// Hybrid logical clock of the last edit: counter.
    #[prost(uint32, tag = "9")]
    pub edited_counter: u32,
    /// Device of the last edit.
    #[prost(bytes = "vec", tag = "10")]
    pub edited_by: Vec<u8>,
    /// When the name was last changed. This and the next four: absent in what was stored before there were several
    /// devices, and then the last edit of all.
    #[prost(message, optional, tag = "11")]
    pub name_edit: Option<Edit>,
    /// When the groups were.
    #[prost(message, optional, tag = "12")]
    pub groups_edit: Option<Edit>,
    /// When `approved` was.
    #[prost(message, optional, tag = "13")]
    pub approved_edit: Option<Edit>,
    /// When the contact was added, removed, or wanted by a change.
    #[prost(message, optional, tag = "14")]
    pub listed_edit: Option<Edit>,
    /// When the user key became known.
    #[prost(message, optional, tag = "15")]
    pub user_edit: Option<Edit>,
    /// Who added, changed and removed it, where `listed_edit` does not say all of that; by device, ascending.
    #[prost(message, repeated, tag = "16")]
    pub traces: Vec<Trace>,
    /// A removal from before removals said what they knew: it counts for all that was done before it.
    #[prost(message, optional, tag = "17")]
    pub removed_before: Option<Edit>,
}

/// What one device did to a contact's being listed, and how much of that was known where others did the opposite.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Trace {
    /// Device.
    #[prost(bytes = "vec", tag = "1")]
    pub by: Vec<u8>,
    /// When it last added or changed the contact; absent if all of that was removed.
    #[prost(message, optional, tag = "2")]
    pub wanted: Option<Clock>,
    /// Up to when that was known where the contact was removed.
    #[prost(message, optional, tag = "3")]
    pub undone: Option<Clock>,
    /// When it last removed the contact.
    #[prost(message, optional, tag = "4")]
    pub removed: Option<Clock>,
    /// Up to when that was known where the contact was added or changed.
    #[prost(message, optional, tag = "5")]
    pub settled: Option<Clock>,
    /// When it last changed the contact where another device wanted it, too, as was known.
    #[prost(message, optional, tag = "6")]
    pub shared: Option<Clock>,
    /// When it last added the contact anew, where nobody wanted it as far as was known; absent if it did so once.
    #[prost(message, optional, tag = "7")]
    pub added: Option<Clock>,
}

/// A hybrid logical clock of one device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Clock {
    /// Milliseconds.
    #[prost(uint64, tag = "1")]
    pub millis: u64,
    /// Counter.
    #[prost(uint32, tag = "2")]
    pub counter: u32,
}

/// When something was edited, and where. Ordered: of two edits the greater one counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Edit {
    /// Hybrid logical clock: milliseconds.
    #[prost(uint64, tag = "1")]
    pub millis: u64,
    /// Hybrid logical clock: counter.
    #[prost(uint32, tag = "2")]
    pub counter: u32,
    /// Device.
    #[prost(bytes = "vec", tag = "3")]
    pub by: Vec<u8>,
}

impl Stored for RosterItem {
    const TREE: Tree = Tree::Roster;
    const VERSION: u8 = 1;
}

/// Key of a contact.
pub fn key(user: &[u8; 32], jid: &str) -> Vec<u8> {
    [&user[..], jid.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    /// Bytes as they were written before each field had a clock, and before removals said what they knew: still read; and as
    /// they are now.
    #[test]
    fn golden_bytes() {
        let old = b"\x01\x0a\x03a@b\x12\x01A\x38\x02\x40\x05\x52\x01\x07";
        let item = RosterItem {
            jid: "a@b".to_owned(),
            name: Some("A".to_owned()),
            version: 2,
            edited_millis: 5,
            edited_by: vec![7],
            ..RosterItem::default()
        };
        assert_eq!(decode::<RosterItem>(old), Ok(item.clone()));
        assert_eq!(encode(&item), old);
        let edit = Edit { millis: 5, counter: 1, by: vec![7] };
        let now = RosterItem { name_edit: Some(edit), ..item };
        let new = [&old[..], b"\x5a\x07\x08\x05\x10\x01\x1a\x01\x07"].concat();
        assert_eq!(encode(&now), new);
        assert_eq!(decode::<RosterItem>(&new), Ok(now.clone()));
        let clock = |millis| Some(Clock { millis, counter: 0 });
        let trace = Trace { by: vec![7], undone: clock(5), removed: clock(6), ..Trace::default() };
        let before = Some(Edit { millis: 1, ..Edit::default() });
        let removed = RosterItem { traces: vec![trace], removed_before: before, ..now };
        let newest =
            [&new[..], b"\x82\x01\x0b\x0a\x01\x07\x1a\x02\x08\x05\x22\x02\x08\x06\x8a\x01\x02\x08\x01"]
                .concat();
        assert_eq!(encode(&removed), newest);
        assert_eq!(decode::<RosterItem>(&newest), Ok(removed));
        let trace = Trace { by: vec![7], shared: clock(5), added: clock(6), ..Trace::default() };
        assert_eq!(prost::Message::encode_to_vec(&trace), b"\x0a\x01\x07\x32\x02\x08\x05\x3a\x02\x08\x06");
    }

    #[test]
    fn edits_are_ordered_by_time_then_device() {
        let edit = |millis, counter, by| Edit { millis, counter, by: vec![by] };
        let ascending = [edit(1, 9, 9), edit(2, 0, 9), edit(2, 1, 0), edit(2, 1, 1)];
        assert!(ascending.is_sorted());
    }
}

//! How two devices' views of a contact or of a blocked address become one: per field the last writer, by clock, then by
//! device; whether it is listed by what was known (`traces`, DESIGN.md §6). *Pure.*
//!
//! Each law is a maximum in a total order, so it is commutative, associative and idempotent: whatever comes in whatever
//! order, the same is left.

use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::directory::Listing;
use crosstalk_storage::tree::roster::{Edit, RosterItem};

use super::shape::ProfileField;
use super::traces::Traces;

/// A contact with a clock at each field and nothing that is of one device only: what devices tell each other.
pub(crate) fn normal(item: &RosterItem) -> RosterItem {
    let last = Edit { millis: item.edited_millis, counter: item.edited_counter, by: item.edited_by.clone() };
    let or_last = |edit: &Option<Edit>| Some(edit.clone().unwrap_or_else(|| last.clone()));
    RosterItem {
        version: 0,
        edited_millis: 0,
        edited_counter: 0,
        edited_by: Vec::new(),
        name_edit: or_last(&item.name_edit),
        groups_edit: or_last(&item.groups_edit),
        approved_edit: or_last(&item.approved_edit),
        listed_edit: or_last(&item.listed_edit),
        user_edit: or_last(&item.user_edit),
        ..item.clone()
    }
}

/// Two [`normal`] views of a contact as one. What is known beats what is not known yet for the user key.
pub(crate) fn contact(one: RosterItem, other: RosterItem) -> RosterItem {
    let (mine, theirs) = (Traces::of(&one), Traces::of(&other));
    let traces = if is_on(Mutant::LastMergeWins) { theirs } else { mine.merge(theirs) };
    let (name, name_edit) = later((one.name, one.name_edit), (other.name, other.name_edit));
    let (groups, groups_edit) = later((one.groups, one.groups_edit), (other.groups, other.groups_edit));
    let (approved, approved_edit) =
        later((one.approved, one.approved_edit), (other.approved, other.approved_edit));
    let (user, user_edit) = match (one.user, other.user) {
        (None, Some(user)) => (Some(user), other.user_edit),
        (Some(user), None) => (Some(user), one.user_edit),
        (one_user, user) => later((one_user, one.user_edit), (user, other.user_edit)),
    };
    traces.write(RosterItem {
        jid: one.jid,
        name,
        groups,
        user,
        approved,
        name_edit,
        groups_edit,
        approved_edit,
        user_edit,
        ..RosterItem::default()
    })
}

/// Two views of a blocked address as one.
pub(crate) fn block(one: Blocked, other: Blocked) -> Blocked {
    let clock = |blocked: &Blocked| {
        let edit = blocked.edit.clone();
        edit.unwrap_or_else(|| Edit { millis: blocked.since, ..Edit::default() })
    };
    let order = |blocked: &Blocked| (clock(blocked), blocked.lifted, blocked.since);
    if order(&one) < order(&other) { other } else { one }
}

/// Two views of what the directory may show as one.
pub(crate) fn listing(one: Listing, other: Listing) -> Listing {
    if (&one.edit, &one) < (&other.edit, &other) { other } else { one }
}

/// Two views of what a user shows of itself as one.
pub(crate) fn profile(one: ProfileField, other: ProfileField) -> ProfileField {
    let (nickname, nickname_edit) =
        later((one.nickname, one.nickname_edit), (other.nickname, other.nickname_edit));
    let (vcard, vcard_edit) = later((one.vcard, one.vcard_edit), (other.vcard, other.vcard_edit));
    ProfileField { nickname, nickname_edit, vcard, vcard_edit }
}

/// The later edit; of two at the same time by the same device, which never say different things, the greater value.
fn later<T: Ord>(one: (T, Option<Edit>), other: (T, Option<Edit>)) -> (T, Option<Edit>) {
    if (&one.1, &one.0) < (&other.1, &other.0) || is_on(Mutant::LastMergeWins) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edit() -> impl Strategy<Value = Option<Edit>> {
        // Few values, so that many are equal.
        prop::option::of((0..3_u64, 0..2_u32, 0..2_u8).prop_map(|(millis, counter, by)| Edit {
            millis,
            counter,
            by: vec![by; 2],
        }))
    }

    prop_compose! {
        fn item()(
            name in prop::option::of("[ab]"),
            groups in prop::collection::vec("[ab]", 0..2),
            user in prop::option::of(0..2_u8),
            flags in any::<[bool; 2]>(),
            edits in [edit(), edit(), edit(), edit(), edit()],
            last in 0..3_u64,
        ) -> RosterItem {
            let [name_edit, groups_edit, approved_edit, listed_edit, user_edit] = edits;
            let item = RosterItem {
                jid: "a@b".to_owned(),
                name,
                groups,
                user: user.map(|byte| vec![byte; 32]),
                approved: flags[0],
                removed: flags[1],
                edited_millis: last,
                name_edit,
                groups_edit,
                approved_edit,
                listed_edit,
                user_edit,
                ..RosterItem::default()
            };
            normal(&item)
        }
    }

    prop_compose! {
        fn blocked()(since in 0..3_u64, edit in edit(), lifted in any::<bool>()) -> Blocked {
            Blocked { since, edit, lifted }
        }
    }

    prop_compose! {
        fn shown()(shown in 0..3_i32, nickname in "[ab]", edit in edit()) -> Listing {
            Listing { shown, nickname, full_name: String::new(), edit }
        }
    }

    prop_compose! {
        fn of_user()(nickname in "[ab]", card in 0..2_u8, edits in [edit(), edit()]) -> ProfileField {
            let [nickname_edit, vcard_edit] = edits;
            ProfileField { nickname, nickname_edit, vcard: vec![card], vcard_edit }
        }
    }

    proptest! {
        #[test]
        fn what_the_directory_may_show_converges(a in shown(), b in shown(), c in shown()) {
            prop_assert_eq!(listing(a.clone(), b.clone()), listing(b.clone(), a.clone()));
            prop_assert_eq!(listing(a.clone(), a.clone()), a.clone());
            let left = listing(listing(a.clone(), b.clone()), c.clone());
            prop_assert_eq!(left, listing(a, listing(b, c)));
        }

        #[test]
        fn what_users_show_converges(a in of_user(), b in of_user(), c in of_user()) {
            prop_assert_eq!(profile(a.clone(), b.clone()), profile(b.clone(), a.clone()));
            prop_assert_eq!(profile(a.clone(), a.clone()), a.clone());
            let left = profile(profile(a.clone(), b.clone()), c.clone());
            prop_assert_eq!(left, profile(a, profile(b, c)));
        }

        #[test]
        fn contacts_converge(a in item(), b in item(), c in item()) {
            prop_assert_eq!(contact(a.clone(), b.clone()), contact(b.clone(), a.clone()));
            prop_assert_eq!(contact(a.clone(), a.clone()), a.clone());
            let left = contact(contact(a.clone(), b.clone()), c.clone());
            prop_assert_eq!(left, contact(a, contact(b, c)));
        }

        #[test]
        fn blocks_converge(a in blocked(), b in blocked(), c in blocked()) {
            prop_assert_eq!(block(a.clone(), b.clone()), block(b.clone(), a.clone()));
            prop_assert_eq!(block(a.clone(), a.clone()), a.clone());
            let left = block(block(a.clone(), b.clone()), c.clone());
            prop_assert_eq!(left, block(a, block(b, c)));
        }
    }

    #[test]
    fn fields_are_merged_one_by_one_and_a_later_add_beats_a_removal() {
        let at = |millis| Some(Edit { millis, ..Edit::default() });
        let old = normal(&RosterItem { jid: "a@b".to_owned(), edited_millis: 1, ..RosterItem::default() });
        let named = RosterItem { name: Some("Anna".to_owned()), name_edit: at(2), ..old.clone() };
        let grouped = RosterItem { groups: vec!["Work".to_owned()], groups_edit: at(3), ..old.clone() };
        let both = contact(named, grouped);
        assert_eq!((both.name.as_deref(), both.groups.len(), both.removed), (Some("Anna"), 1, false));
        let removed = RosterItem { removed: true, listed_edit: at(4), ..old.clone() };
        assert!(contact(both.clone(), removed.clone()).removed);
        let added = RosterItem { listed_edit: at(5), ..old };
        assert!(!contact(removed, added).removed);
    }
}

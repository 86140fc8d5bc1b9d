//! How sure it is who somebody is (DESIGN.md §3.5): always visible, in names of neighbours and in lists. *Pure.*

use crosstalk_link_local::clean;
use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::core::Tier;
use crosstalk_overlay::id::UserId;

use jid::BareJid;

use super::Core;
use super::router::is_link_address;
use crate::features::delay::date;

/// Who is at an address, as far as it is known.
pub(crate) struct Identity {
    /// How sure that is.
    pub(crate) tier: String,
    /// The user's key in groups of hexadecimal digits, to be compared by people.
    pub(crate) key: Option<String>,
    /// The same of who asks.
    pub(crate) own: String,
}

impl Core {
    /// A neighbour's nickname with the tier. The name of somebody known by XEP-0174 only is any text that they liked:
    /// its end is ours.
    pub(super) fn neighbour_name(&self, who: &Who) -> Option<String> {
        let person = self.nearby.get(who)?;
        let nickname = if person.nickname.is_empty() { "nameless" } else { &person.nickname };
        let nickname = match who {
            _ if !person.is_alike => nickname.to_owned(),
            Who::User(user) => format!("{nickname} {:.6}", user.to_hex()),
            Who::Bonjour(instance) => format!("{nickname} {}", clean::nickname(instance.as_str())),
        };
        let Who::User(user) = who else { return Some(format!("{nickname} (link)")) };
        let claimed = self.overlay.name_of(user);
        Some(match (self.tier_of(user).as_str(), claimed) {
            ("key", Some(claimed)) => format!("{nickname} (claims {})", clean::nickname(&claimed.address)),
            (tier, _) => format!("{nickname} ({tier})"),
        })
    }

    /// What a person has to know of a contact whose address another user has by now: nothing of it is changed or deleted silently.
    pub(super) fn moved_name_of(&self, address: &str, other: &UserId) -> Option<String> {
        let holder = self.overlay.user_by_name(address).filter(|holder| holder != other)?;
        Some(format!(
            "{address} belongs to the key {holder} now, says its authority, and no more to {other}, whom this contact is: what is \
             written there goes to the new one; if that is the same person, remove the contact and add it again"
        ))
    }

    /// What an account is told of an address, so that two people can make sure of each other.
    pub(crate) fn identity(&self, viewer: UserId, address: &BareJid) -> Identity {
        let other = self.resolve(&self.canonical(viewer, address));
        Identity {
            tier: self.tier_at(address.as_str(), other.as_ref()),
            key: other.map(|other| in_groups(&other.to_hex())),
            own: in_groups(&viewer.to_hex()),
        }
    }

    /// The tier of whoever is at an address.
    pub(super) fn tier_at(&self, address: &str, user: Option<&UserId>) -> String {
        match user {
            Some(user) => self.tier_of(user),
            None if is_link_address(address) => "link".to_owned(),
            None => "unknown".to_owned(),
        }
    }

    /// The tier of any user, with the day (UTC) until which a certificate counted that has ended (DESIGN.md §3.3), and by whose word
    /// where that is not the authority of users here.
    pub(crate) fn tier_of(&self, user: &UserId) -> String {
        if self.accounts.contains(user) {
            return "this node".to_owned();
        }
        let tier = match self.overlay.tier(user, self.now) {
            Tier::Certified { valid: true, .. } => "certified".to_owned(),
            Tier::Certified { until, valid: false } => format!("certified until {}", date(until)),
            Tier::Key => return "key".to_owned(),
        };
        match self.whose_word(user) {
            Some(word) => format!("{tier}, {word}"),
            None => tier,
        }
    }
}

/// Digits in groups of eight.
fn in_groups(digits: &str) -> String {
    let groups: Vec<&str> =
        digits.as_bytes().chunks(8).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(" ")
}

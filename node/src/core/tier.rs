//! How sure it is who somebody is (DESIGN.md §3.5): always visible, in names of neighbours and in lists. *Pure.*

use crosstalk_link_local::clean;
use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::core::Tier;
use crosstalk_overlay::id::UserId;

use super::Core;

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
        Some(match (self.tier_of(user), claimed) {
            ("key", Some(claimed)) => format!("{nickname} (claims {})", clean::nickname(&claimed.address)),
            (tier, _) => format!("{nickname} ({tier})"),
        })
    }

    /// The tier of any user.
    pub(crate) fn tier_of(&self, user: &UserId) -> &'static str {
        if self.accounts.contains(user) {
            return "this node";
        }
        match self.overlay.tier(user, self.now) {
            Tier::Certified { valid: true, .. } => "certified",
            Tier::Certified { valid: false, .. } => "certificate ended",
            Tier::Key => "key",
        }
    }
}

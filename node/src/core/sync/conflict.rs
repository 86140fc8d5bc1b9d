//! Contacts about which the user's devices, or an authority, do not agree: shown in the list, told once to the clients
//! (DESIGN.md §6). *Pure.*

use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_storage::tree::roster::RosterItem;

use super::traces::Traces;
use crate::core::Core;
use crate::xmpp::{Element, Kind, Stanza, Type, ns};

/// Whether a listed contact was removed on a device that did not know of what others did, and nobody has settled that.
pub(in crate::core) fn in_conflict(item: &RosterItem) -> bool {
    !Traces::of(item).conflict().is_empty()
}

impl Core {
    /// What a person has to know of a contact, and can do about it.
    pub(in crate::core) fn conflict_of(
        &self,
        user: UserId,
        item: &RosterItem,
        other: Option<&UserId>,
    ) -> Option<String> {
        let moved = other.and_then(|other| self.moved_name_of(&item.jid, other));
        let all: Vec<String> = moved.into_iter().chain(self.removed_elsewhere(user, item)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn removed_elsewhere(&self, user: UserId, item: &RosterItem) -> Option<String> {
        let traces = Traces::of(item);
        let here = self.accounts.get(&user)?.device;
        let laptop = |by: &[u8]| match DeviceId::from_slice(by) {
            Some(device) if device == here => "this laptop".to_owned(),
            Some(device) => match self.device_name(&user, &device) {
                name if name.is_empty() => "another laptop".to_owned(),
                name => format!("the laptop {name}"),
            },
            None => "another laptop".to_owned(),
        };
        let laptops: Vec<String> = traces.conflict().into_iter().map(laptop).collect();
        let (jid, laptops) = (&item.jid, laptops.join(" and "));
        (!laptops.is_empty()).then(|| {
            format!(
                "{jid} was removed on {laptops} while it was added or changed on another one, so it is kept: change anything of it, or run \
                 `crosstalk contact keep {jid}`, if it is to stay; else remove it again"
            )
        })
    }

    /// A message to the clients of an account, held like any other.
    pub(super) fn tell_conflict(&mut self, user: UserId, jid: &str) {
        let Some(account) = self.accounts.get(&user) else { return };
        let Some(text) = account.roster.get(jid).and_then(|item| self.removed_elsewhere(user, item)) else {
            return;
        };
        let mut message = Stanza::new(Kind::Message, Type::Normal);
        message.from = jid::Jid::new(&self.domain()).ok();
        message.to = Some(account.jid.clone().into());
        let subject = format!("{jid} was removed on one laptop and is kept by another");
        message.payload = [("subject", subject), ("body", text)]
            .map(|(name, text)| Element::new(name, ns::CLIENT).text(&text))
            .into();
        let number = self.news_number();
        self.tell_news(user, number, &message);
        self.count("contacts removed on one device and kept by another");
    }
}

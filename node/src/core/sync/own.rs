//! What a user says of itself: nickname, vCard, and what the directory of the domain may show. Edited on any of the user's devices,
//! by the laws of `merge`. *Pure.*

use crosstalk_link_local::clean;
use crosstalk_overlay::enrol::Directory;
use crosstalk_overlay::id::UserId;
use crosstalk_storage::Tree;
use crosstalk_storage::encode;
use crosstalk_storage::tree::directory::{Listing, Shown};
use crosstalk_storage::tree::roster::Edit;
use crosstalk_storage::tree::vcard::StoredVCard;

use super::entry::Entry;
use super::merge;
use super::shape::{self, Part, ProfileField};
use crate::core::Core;
use crate::core::account::Account;
use crate::features::vcard;
use crate::xmpp::{Element, ns};

impl Core {
    /// A new vCard; its name becomes the nickname that neighbours see.
    pub(crate) fn set_vcard(&mut self, user: UserId, xml: Vec<u8>, nickname: Option<String>) {
        let edit = self.edit_by(user);
        self.keep_vcard(user, xml, edit.clone());
        if let Some(nickname) = nickname {
            self.keep_nickname(user, &nickname, edit);
        }
        self.own_changed(user);
    }

    /// Another nickname.
    pub(in crate::core) fn set_nickname(&mut self, user: UserId, nickname: &str) {
        let edit = self.edit_by(user);
        self.keep_nickname(user, nickname, edit);
        self.own_changed(user);
    }

    /// What the directory may show from now on.
    pub(in crate::core) fn set_shown(&mut self, user: UserId, shown: Shown) {
        let edit = self.edit_by(user);
        let Some(account) = self.accounts.get_mut(&user) else { return };
        account.stored.listing = Some(Listing { edit, ..listing(account, shown) });
        self.own_changed(user);
    }

    fn keep_vcard(&mut self, user: UserId, xml: Vec<u8>, edit: Option<Edit>) {
        let Some(account) = self.accounts.get_mut(&user) else { return };
        let key = user.as_bytes().to_vec();
        account.stored.vcard_edit = edit;
        account.vcard = Some(xml.clone()).filter(|xml| !xml.is_empty());
        match xml.is_empty() {
            true => self.writes.delete(Tree::VCard, key),
            false => self.writes.put(Tree::VCard, key, encode(&StoredVCard { xml })),
        }
        // The picture that the link sees.
        self.watchers_changed.insert(user);
    }

    fn keep_nickname(&mut self, user: UserId, nickname: &str, edit: Option<Edit>) {
        let Some(account) = self.accounts.get_mut(&user) else { return };
        account.stored.nickname = clean::nickname(nickname);
        account.stored.nickname_edit = edit;
        self.watchers_changed.insert(user);
    }

    /// Stores that, and has it told. The directory shows what the user is called now.
    fn own_changed(&mut self, user: UserId) {
        let edit = self.edit_by(user);
        let Some(account) = self.accounts.get_mut(&user) else { return };
        if let Some(now) = renamed(account) {
            account.stored.listing = Some(Listing { edit, ..now });
        }
        self.save_account(&user);
        self.sync_own(user);
    }

    fn sync_own(&mut self, user: UserId) {
        self.tell_server_soon(user);
        if self.overlay.has_other_devices(&user) {
            self.sync.changed.entry(user).or_default().own = true;
        }
    }

    /// Another device has said, or the server has it, what the directory may show.
    pub(super) fn merge_listing(&mut self, user: UserId, theirs: Listing) {
        let believable = theirs.edit.as_ref().is_some_and(|edit| self.is_believable(edit));
        if !shape::is_listing(&theirs) || !believable {
            return self.count("listings of own devices that cannot be");
        }
        let Some(account) = self.accounts.get_mut(&user) else { return };
        let merged = match account.stored.listing.clone() {
            Some(mine) => merge::listing(mine, theirs),
            None => theirs,
        };
        if account.stored.listing.as_ref() != Some(&merged) {
            let said = merged.edit.clone();
            account.stored.listing = Some(merged);
            let is_older = account.stored.nickname_edit > said || account.stored.vcard_edit > said;
            self.save_account(&user);
            if is_older {
                self.listing_follows(user);
            }
        }
    }

    /// The directory shows no name that the user has changed on another device.
    fn listing_follows(&mut self, user: UserId) {
        if self.accounts.get(&user).and_then(renamed).is_some() {
            self.own_changed(user);
        }
    }

    /// The same of nickname and vCard.
    pub(super) fn merge_profile(&mut self, user: UserId, theirs: ProfileField) {
        let edits: Vec<&Edit> = theirs.nickname_edit.iter().chain(&theirs.vcard_edit).collect();
        if !shape::is_profile(&theirs) || !edits.into_iter().all(|edit| self.is_believable(edit)) {
            return self.count("profiles of own devices that cannot be");
        }
        let Some(account) = self.accounts.get(&user) else { return };
        let mine = profile(account).unwrap_or_default();
        let merged = merge::profile(mine.clone(), theirs);
        let (card, name) = (merged.vcard_edit != mine.vcard_edit, merged.nickname_edit != mine.nickname_edit);
        if card {
            self.keep_vcard(user, merged.vcard, merged.vcard_edit);
        }
        if name {
            self.keep_nickname(user, &merged.nickname, merged.nickname_edit);
        }
        if card || name {
            self.save_account(&user);
            self.listing_follows(user);
        }
    }
}

/// What the directory is to show instead, if that has other names than the user has now.
fn renamed(account: &Account) -> Option<Listing> {
    let said = account.stored.listing.as_ref()?;
    let now = Listing { edit: said.edit.clone(), ..listing(account, said.shown()) };
    (now != *said).then_some(now)
}

/// What the directory would show.
pub(in crate::core) fn listing(account: &Account, shown: Shown) -> Listing {
    let nickname = match shown {
        Shown::Nothing => String::new(),
        Shown::Nickname | Shown::FullName => account.stored.nickname.clone(),
    };
    let full_name = match shown {
        Shown::Nothing | Shown::Nickname => String::new(),
        Shown::FullName => full_name(account),
    };
    Listing { shown: shown.into(), nickname, full_name, edit: None }
}

/// Of the vCard: `FN`, else of `N` what is given and of the family.
fn full_name(account: &Account) -> String {
    let card = account.vcard.as_ref().and_then(|xml| Element::read(xml).ok());
    let text = |within: &Element, name: &str| {
        within.get(name, ns::VCARD).map(|element| element.own_text().trim().to_owned())
    };
    let whole = card.as_ref().and_then(|card| text(card, "FN")).filter(|name| !name.is_empty());
    let parts = || {
        let name = card.as_ref()?.get("N", ns::VCARD)?;
        Some(format!(
            "{} {}",
            text(name, "GIVEN").unwrap_or_default(),
            text(name, "FAMILY").unwrap_or_default()
        ))
    };
    clean::nickname(&whole.or_else(parts).unwrap_or_default())
}

/// Of nickname and vCard what was ever chosen. A vCard of before there was this limit is of this device only.
fn profile(account: &Account) -> Option<ProfileField> {
    let stored = &account.stored;
    let nickname = stored.nickname_edit.as_ref().map_or_else(String::new, |_| stored.nickname.clone());
    let vcard = account.vcard.clone().unwrap_or_default();
    let vcard_edit = stored.vcard_edit.clone().filter(|_| vcard.len() <= vcard::LIMIT);
    let vcard = if vcard_edit.is_some() { vcard } else { Vec::new() };
    let field = ProfileField { nickname, nickname_edit: stored.nickname_edit.clone(), vcard, vcard_edit };
    (field != ProfileField::default()).then_some(field)
}

/// What a user says of itself, for its other devices.
pub(super) fn part(account: &Account) -> Part {
    Part { listing: account.stored.listing.clone(), profile: profile(account), ..Part::default() }
}

/// The same for the server, if that understands it.
pub(super) fn entries(account: &Account) -> impl Iterator<Item = Entry> {
    let home = account.stored.server.as_ref();
    let keeps = home.is_some_and(|home| home.directory() != Directory::Unknown);
    let Part { listing, profile, .. } = if keeps { part(account) } else { Part::default() };
    let listing = listing.map(|listing| Entry::Listing(Box::new(listing)));
    listing.into_iter().chain(profile.map(|field| Entry::Profile(Box::new(field))))
}

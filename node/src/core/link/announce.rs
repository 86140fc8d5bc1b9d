//! Which users are announced by XEP-0174, and what is said of them. *Pure.*
//!
//! **What is made public.** Everybody on the link, whoever they are, can read of each user who is available here and
//! whose mode is announce: nickname and name of the machine (the instance name), show, status text, what the chat
//! program is (XEP-0115), the picture of the vCard, the port, and a mark that tells one's own nodes that a signed
//! presence follows. Not said: the address (`jid`), e-mail address, last name, contact list. Who is hidden, or
//! unavailable, or listens only, is not announced; nothing is said of anybody when the node's mode is not announce.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crosstalk_link_local::clean;
use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::{MAX_PICTURE, MAX_SERVICES, Presence, ServiceId};
use crosstalk_link_local::show::Show;
use crosstalk_link_local::txt::{Advert, NODE_MARK};
use crosstalk_overlay::id::UserId;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::io::LinkCommand;
use crate::core::Core;
use crate::core::account::Account;
use crate::core::settings::LinkMode;
use crate::xmpp::{Element, Stanza, ns};

/// Messages kept for a user whose name is not known yet. Of more, the sender is told.
pub(super) const EARLY: usize = 20;

/// A user who is announced.
#[derive(Debug)]
pub(super) struct Announced {
    id: ServiceId,
    presence: Presence,
    /// The name, once it is ours, and since when: monotonic milliseconds.
    pub(super) named: Option<(Instance, u64)>,
    /// Messages of the user that wait for the name.
    pub(super) early: Vec<super::messages::Early>,
}

/// Everybody who is announced.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    users: BTreeMap<UserId, Announced>,
    /// Those who would be, if there were more places.
    beyond: BTreeSet<UserId>,
    next: u64,
}

impl Announcements {
    pub(super) fn get(&self, user: &UserId) -> Option<&Announced> {
        self.users.get(user)
    }

    pub(super) fn get_mut(&mut self, user: &UserId) -> Option<&mut Announced> {
        self.users.get_mut(user)
    }

    /// Who has this name; in DNS the case of letters does not count.
    pub(super) fn by_name(&self, name: &str) -> Option<(UserId, &Instance)> {
        let mut named = self.named();
        named.find(|(_, instance)| instance.as_str().to_lowercase() == name.to_lowercase())
    }

    /// The only one whose name is announced; `None` if there is nobody, or several.
    pub(super) fn only_one(&self) -> Option<(UserId, &Instance)> {
        let mut named = self.named();
        named.next().filter(|_| self.users.len() == 1)
    }

    fn named(&self) -> impl Iterator<Item = (UserId, &Instance)> {
        self.users
            .iter()
            .filter_map(|(user, announced)| announced.named.as_ref().map(|(instance, _)| (*user, instance)))
    }

    /// All names, with those that are only wanted yet.
    pub(super) fn names(&self) -> impl Iterator<Item = &Instance> {
        self.users.values().map(|announced| {
            announced.named.as_ref().map_or(&announced.presence.wanted, |(instance, _)| instance)
        })
    }

    pub(super) fn beyond(&self) -> usize {
        self.beyond.len()
    }
}

impl Core {
    /// How much of XEP-0174 the node uses: nothing is announced without a listener.
    pub(super) fn link_mode(&self) -> LinkMode {
        match (self.settings.link_mode, self.settings.link_port) {
            (LinkMode::Announce, None) => LinkMode::Off,
            (mode, _) => mode,
        }
    }

    /// How much of it an account uses.
    pub(in crate::core) fn link_mode_of(&self, account: &Account) -> LinkMode {
        account.link_mode().min(self.link_mode())
    }

    /// The name under which an account is announced, once it has it.
    pub(in crate::core) fn announced_as(&self, user: &UserId) -> Option<&Instance> {
        let named = self.link.announced.get(user)?.named.as_ref();
        named.map(|(instance, _)| instance)
    }

    /// An account shows this presence on the link, or none.
    pub(in crate::core) fn announce_on_link(&mut self, user: UserId, presence: Option<&Stanza>) {
        let Some(account) = self.accounts.get(&user) else { return };
        let announces = self.settings.visible && self.link_mode_of(account) == LinkMode::Announce;
        let port = self.settings.link_port.filter(|_| announces);
        let said = presence.zip(port).map(|(presence, port)| {
            let picture = account.vcard.as_deref().and_then(|vcard| picture(vcard, presence));
            said(account, presence, picture, port, &self.settings.machine)
        });
        match said {
            Some(said) => self.announce(user, said),
            None => self.withdraw(user),
        }
    }

    fn announce(&mut self, user: UserId, presence: Presence) {
        if self.link.announced.get(&user).is_some_and(|old| old.presence.wanted != presence.wanted) {
            self.withdraw(user);
        }
        let announcements = &mut self.link.announced;
        let full = announcements.users.len() >= MAX_SERVICES;
        match announcements.users.get_mut(&user) {
            Some(old) if old.presence == presence => return,
            Some(old) => old.presence = presence.clone(),
            None if full => {
                if announcements.beyond.insert(user) {
                    self.count("link: users beyond those that are announced");
                }
                return;
            }
            None => {
                announcements.next += 1;
                let id = ServiceId(announcements.next);
                let (named, early) = (None, Vec::new());
                let announced = Announced { id, presence: presence.clone(), named, early };
                announcements.users.insert(user, announced);
            }
        }
        announcements.beyond.remove(&user);
        if let Some(id) = announcements.users.get(&user).map(|announced| announced.id) {
            self.command_link(LinkCommand::Announce { id, presence: Box::new(presence) });
        }
    }

    fn withdraw(&mut self, user: UserId) {
        self.link.announced.beyond.remove(&user);
        let Some(announced) = self.link.announced.users.remove(&user) else { return };
        self.command_link(LinkCommand::Withdraw { id: announced.id });
        if let Some((instance, _)) = &announced.named {
            self.link.streams.withdrawn(instance);
        }
        for early in announced.early {
            self.early_failed(user, early);
        }
        // The place is for the next; what is published of that user is made anew.
        self.watchers_changed.extend(self.link.announced.beyond.first().copied());
    }

    /// Multicast DNS has a name for a user: the wanted one, or a numbered one.
    pub(super) fn named_on_link(&mut self, id: ServiceId, instance: Instance) {
        let now = self.now.mono;
        let user = self.link.announced.users.iter().find(|(_, announced)| announced.id == id);
        let Some(user) = user.map(|(user, _)| *user) else { return };
        let Some(announced) = self.link.announced.get_mut(&user) else { return };
        let before = announced.named.replace((instance.clone(), now)).map(|(before, _)| before);
        let early = std::mem::take(&mut announced.early);
        if let Some(before) = before.filter(|before| *before != instance) {
            self.link.streams.withdrawn(&before);
        }
        // The signed presence says it too, so that other nodes show one and the same person.
        let sessions = self.sessions_of(user, |session| session.presence.is_some());
        self.publish_to_link(user, &sessions);
        for message in early {
            self.send_early(user, message);
        }
    }
}

/// What tells one's own nodes that a signed presence of this user is on the way. It names nobody to those who do not
/// know the user's key already.
pub(super) fn mark(user: &UserId) -> String {
    let digest = Sha256::new_with_prefix(b"crosstalk link mark").chain_update(user.as_bytes()).finalize();
    crate::core::hex(&digest[..8])
}

fn said(
    account: &Account,
    presence: &Stanza,
    picture: Option<Vec<u8>>,
    port: u16,
    machine: &str,
) -> Presence {
    let nickname = Some(account.stored.nickname.clone()).filter(|nickname| !nickname.is_empty());
    let nickname = nickname.unwrap_or_else(|| account.stored.name.clone());
    let text = |name| presence.get(name, ns::CLIENT).map(|child| child.own_text().to_string());
    let caps = presence.get("c", ns::CAPS);
    let of_caps = |name| caps.and_then(|caps| caps.get_attr(name)).map(str::to_owned);
    let phsh: Option<[u8; 20]> = picture.as_deref().map(|bytes| <Sha1 as sha1::Digest>::digest(bytes).into());
    let advert = Advert {
        txtvers: Some(1),
        nick: Some(nickname.clone()),
        first: Some(nickname.clone()),
        msg: text("status").map(|status| clean::status(&status)).filter(|status| !status.is_empty()),
        status: status(Show::from_xmpp(&text("show").unwrap_or_default())),
        phsh,
        node: of_caps("node"),
        ver: of_caps("ver"),
        hash: of_caps("hash"),
        port: Some(port),
        unknown: vec![(NODE_MARK.to_owned(), Some(mark(&account.user).into_bytes()))],
        ..Advert::default()
    };
    Presence { wanted: Instance::compose(&nickname, machine), port, advert, picture }
}

/// Away is said as `dnd`: the Bonjour programs that are left show `away` as available and `dnd` as away. Whoever is
/// away is shown as away then; that the machine of somebody busy is also "away" there is the smaller lie. Other nodes
/// have the true state from the signed presence.
fn status(show: Show) -> Show {
    match show {
        Show::Away | Show::ExtendedAway | Show::DoNotDisturb => Show::DoNotDisturb,
        Show::Chat | Show::Available => Show::Available,
    }
}

/// The picture of a vCard (XEP-0054), unless the presence says that none is shown (XEP-0153 §3.1).
fn picture(vcard: &[u8], presence: &Stanza) -> Option<Vec<u8>> {
    let update = presence.get("x", ns::VCARD_UPDATE).and_then(|update| update.get("photo", ns::VCARD_UPDATE));
    if update.is_some_and(|photo| photo.own_text().is_empty()) {
        return None;
    }
    let vcard = Element::read(vcard).ok()?;
    let text = vcard.get("PHOTO", ns::VCARD)?.get("BINVAL", ns::VCARD)?.own_text();
    let text: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    let bytes = STANDARD.decode(text).ok()?;
    (!bytes.is_empty() && bytes.len() <= MAX_PICTURE).then_some(bytes)
}

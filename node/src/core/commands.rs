//! Commands of the CLI and of the account service. *Pure.*

use crosstalk_link_local::neighbours::Who;
use crosstalk_overlay::core::Overlay;
use crosstalk_overlay::core::state::{CopyState, OutboxEntry};
use crosstalk_overlay::id::{MessageId, UserId};
use crosstalk_overlay::record::{NameCert, Unverified};
use crosstalk_storage::tree::account::Account as Stored;
use crosstalk_storage::tree::roster::RosterItem;
use jid::BareJid;

use crate::xmpp::{StanzaError, Type};

use super::Core;
use super::account::{Account, to_stored};
use super::admin::{
    AccountView, Command, ContactView, FramesView, NewAccount, OutboxView, PeerView, Refused, Reply, Sealed,
    StatusView,
};
use super::io::Output;
use super::roster::{subscription_name, user_of};
use super::settings::DeviceKeys;

/// Entries of one answer about the outbox.
const OUTBOX_SHOWN: usize = 1_000;

impl Core {
    pub(super) fn command(&mut self, request: u64, command: Command) {
        let changes = command.changes();
        let reply = self.run(request, command).unwrap_or_else(|refused| Some(Reply::Refused(refused)));
        if let Some(reply) = reply {
            // A refusal promises nothing.
            let promise = changes && !matches!(reply, Reply::Refused(_));
            self.output(Output::Answer { request, reply: Box::new(reply) }, promise);
        }
    }

    /// `None`: the answer follows.
    fn run(&mut self, request: u64, command: Command) -> Result<Option<Reply>, Refused> {
        let reply = match command {
            Command::Lookup(address) => {
                self.look_up(request, &address)?;
                return Ok(None);
            }
            Command::Join(code) => {
                self.join(request, &code)?;
                return Ok(None);
            }
            Command::AskServer { server, ask } => {
                self.ask_server(request, server, ask);
                return Ok(None);
            }
            Command::AwaitPassword => {
                self.wait_for_password(request);
                return Ok(None);
            }
            Command::AddAccount(new) => self.add_account(*new),
            Command::AddEnrolled { account, home } => self.add_enrolled(*account, home),
            Command::NameAccount { account, home } => self.name_account(*account, home),
            Command::ChangeServer { user, home } => self.change_server(user, home),
            Command::Serve { domain, authority } => {
                self.serve(&domain, authority);
                Ok(Reply::Done)
            }
            Command::AddRevocations(revocations) => self.add_revocations(&revocations),
            Command::AddRotation(rotation) => self.add_rotation(&rotation),
            Command::Domain(command) => self.domain_command(command),
            Command::Places => Ok(Reply::Places(self.overlay.places())),
            Command::ListAccounts => {
                Ok(Reply::Accounts(self.accounts.iter().map(|account| self.account_view(account)).collect()))
            }
            Command::ShowAccount(name) => {
                let user = self.named(&name)?;
                self.view(user)
            }
            Command::SetPassword { account, credentials, sealed, held } => {
                let user = self.named(&account)?;
                self.saveable()?;
                let is_sealed_anew = sealed.is_some();
                self.set_credentials(user, credentials, sealed.map(|sealed| sealed.0));
                if is_sealed_anew {
                    self.hold_password(user, held);
                }
                Ok(Reply::Done)
            }
            Command::ShowRecovery { account, recovery } => {
                let user = self.named(&account)?;
                self.show_recovery(user, recovery);
                Ok(Reply::Done)
            }
            Command::PasswordHome(name) => self.password_home(&name),
            Command::PasswordTold { user, at } => self.password_told(user, at),
            Command::SealedKeys(name) => self.sealed_keys(&name),
            Command::SetProfile { account, nickname, visible } => {
                let user = self.named(&account)?;
                self.saveable()?;
                self.set_profile(user, nickname, visible);
                self.view(user)
            }
            Command::SetLink { account, mode } => {
                let user = self.named(&account)?;
                self.saveable()?;
                self.set_link_mode(user, mode);
                self.view(user)
            }
            Command::Listing { account, show } => self.listing(&account, show),
            Command::Renew { user, device_cert, name_cert } => self.renew(user, device_cert, name_cert),
            Command::RemoveAccount(name) => {
                let user = self.named(&name)?;
                self.saveable()?;
                self.remove_account(user);
                Ok(Reply::Done)
            }
            Command::Status => Ok(Reply::Status(Box::new(self.status()))),
            Command::Peers => Ok(Reply::Peers(self.peers())),
            Command::Outbox => {
                let addressed = self.overlay.outbox().filter_map(|entry| self.outbox_view(&entry));
                Ok(Reply::Outbox(self.unaddressed_views().chain(addressed).take(OUTBOX_SHOWN).collect()))
            }
            Command::Requests => Ok(self.requests()),
            Command::AnswerRequest { account, jid, accept } => self.answer_request(&account, &jid, accept),
            Command::Contacts(name) => self.contacts(&name),
            Command::OfferDevice(name) => self.offer_device(&name),
            Command::Devices(name) => self.devices(&name),
            Command::RevokeDevice { account, revocation } => self.revoke_device(&account, &revocation),
            Command::EndAccount { account, revocation } => self.end_account(&account, &revocation),
            Command::AddContact { account, jid, name } => self.add_contact(&account, &jid, name),
            Command::RemoveContact { account, jid } => {
                let user = self.named(&account)?;
                self.remove_contact(user, &bare(&jid)?).map_err(refused)?;
                Ok(Reply::Done)
            }
            Command::KeepContact { account, jid } => {
                let user = self.named(&account)?;
                self.want_contact(user, &bare(&jid)?).map_err(refused)?;
                Ok(Reply::Done)
            }
        };
        reply.map(Some)
    }

    pub(super) fn named(&self, name: &str) -> Result<UserId, Refused> {
        self.accounts.by_name(name).ok_or_else(|| Refused::NoAccount(name.to_owned()))
    }

    pub(super) fn saveable(&self) -> Result<(), Refused> {
        self.store_trouble.clone().map_or(Ok(()), |trouble| Err(Refused::Store(trouble)))
    }

    pub(super) fn view(&self, user: UserId) -> Result<Reply, Refused> {
        let account = self.accounts.get(&user).ok_or_else(|| Refused::NoAccount(user.to_string()))?;
        Ok(Reply::Account(self.account_view(account)))
    }

    pub(super) fn add_account(&mut self, new: NewAccount) -> Result<Reply, Refused> {
        self.saveable()?;
        let limit = self.settings.account_limit;
        if self.accounts.len() >= limit {
            return Err(Refused::Full(format!(
                "this node has {limit} accounts, as many as it may: remove some"
            )));
        }
        let login = format!("{}@{}", new.name, new.domain);
        if self.accounts.by_address(&login).is_some() {
            return Err(Refused::NameTaken(new.name));
        }
        // Else it is called as on the user's other laptops.
        let chosen = new.nickname != new.name;
        let stored = Stored {
            name: new.name,
            domain: new.domain,
            nickname: crosstalk_link_local::clean::nickname(&new.nickname),
            hidden: false,
            device_cert: new.device_cert,
            name_cert: new.name_cert.unwrap_or_default(),
            sha1: to_stored(&new.credentials.sha1),
            sha256: to_stored(&new.credentials.sha256),
            sealed_by_password: new.sealed_by_password,
            sealed_by_recovery: new.sealed_by_recovery,
            created: self.now.wall,
            last_logout: 0,
            seal_is_older: false,
            roster_version: 0,
            roster_from: 0,
            epoch: 1,
            link: 0,
            devices: Vec::new(),
            server: None,
            held_password: None,
            listing: None,
            nickname_edit: None,
            vcard_edit: None,
        };
        let keys = DeviceKeys { device: new.device, sealing: vec![new.sealing] };
        let opened = self.open_account(new.user, stored, keys, None);
        opened.map_err(|why| Refused::BadAddress(why.to_string()))?;
        self.save_account(&new.user);
        if chosen {
            self.set_nickname(new.user, &new.nickname);
        }
        self.view(new.user)
    }

    pub(super) fn renew(
        &mut self,
        user: UserId,
        device_cert: Option<Vec<u8>>,
        name_cert: Option<Vec<u8>>,
    ) -> Result<Reply, Refused> {
        self.saveable()?;
        let Some(account) = self.accounts.get_mut(&user) else {
            return Err(Refused::NoAccount(user.to_string()));
        };
        let overlay = &self.overlay;
        let same = |cert: &[u8]| is_of_the_same(overlay, &account.stored.name_cert, cert);
        if name_cert.as_deref().is_some_and(|cert| !same(cert)) {
            let text = "it is for another address, or by another authority".to_owned();
            return Err(Refused::BadCertificate(text));
        }
        if let Some(cert) = device_cert {
            account.stored.device_cert = cert;
        }
        if let Some(cert) = name_cert {
            account.stored.name_cert = cert;
        }
        let (device, name) = (account.stored.device_cert.clone(), account.stored.name_cert.clone());
        let name = Some(name.as_slice()).filter(|name| !name.is_empty());
        let renewed = self.overlay.renew_local(&user, &device, name, self.now);
        renewed.map_err(|why| Refused::BadCertificate(why.to_string()))?;
        self.save_account(&user);
        Ok(Reply::Done)
    }

    fn sealed_keys(&self, name: &str) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        let account = self.accounts.get(&user).ok_or_else(|| Refused::NoAccount(name.to_owned()))?;
        Ok(Reply::SealedKeys {
            account: self.account_view(account),
            user: *user.as_bytes(),
            by_password: Sealed(account.stored.sealed_by_password.clone()),
            by_recovery: Sealed(account.stored.sealed_by_recovery.clone()),
        })
    }

    fn account_view(&self, account: &Account) -> AccountView {
        let (device_until, name_until) = self.overlay.local_validity(&account.user).unwrap_or_default();
        AccountView {
            name: account.stored.name.clone(),
            login: account.login(),
            jid: account.jid.to_string(),
            xid: account.user.xid(),
            nickname: account.stored.nickname.clone(),
            visible: !account.stored.hidden,
            link: account.link_mode(),
            sessions: account.sessions.len(),
            waiting: account.inbox.waiting(),
            created: account.stored.created,
            device_until,
            name_until,
        }
    }

    fn status(&self) -> StatusView {
        let mut counters: std::collections::BTreeMap<String, u64> =
            self.counters.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        let overlay = self.overlay.counters();
        for (what, count) in overlay.dropped.iter().chain(&overlay.offences) {
            *counters.entry((*what).to_owned()).or_default() += count;
        }
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.to_hex(),
            domain: self.settings.domain.as_ref().map(|(domain, _)| domain.clone()),
            names: self.certified_names(),
            servers: self.server_views(),
            disputed: self.overlay.disputed_domains(),
            uptime: self.uptime(),
            accounts: self.accounts.len(),
            sessions: self.sessions.len(),
            detached: self.sessions.values().filter(|session| session.conn.is_none()).count(),
            peers: self.overlay.peers().len(),
            neighbours: self.nearby.keys().filter(|who| !self.is_own_account(who)).count(),
            link: self.link_view(),
            frames: self.frames(),
            outbox: self.overlay.outbox().count() + self.names.waiting(),
            inbox: self.accounts.iter().map(|account| account.inbox.len()).sum(),
            clock_credible: self.overlay.clock().credible(self.now),
            store_trouble: self.store_trouble.clone(),
            counters,
            trees: self.fill(),
        }
    }

    fn frames(&self) -> FramesView {
        let (heartbeats, others) = self.overlay.traffic(self.now);
        FramesView {
            heartbeats: heartbeats.packets,
            heartbeat_bytes: heartbeats.bytes,
            others: others.packets,
            other_bytes: others.bytes,
        }
    }

    fn peers(&self) -> Vec<PeerView> {
        let shown = |user: &UserId| {
            let name = self.nearby.get(&Who::User(*user)).map(|person| person.nickname.clone());
            match name {
                Some(name) => format!("{name} <{}@{}>", user.xid(), crosstalk_overlay::id::XID_DOMAIN),
                None => format!("{}@{}", user.xid(), crosstalk_overlay::id::XID_DOMAIN),
            }
        };
        let view = |peer: crosstalk_overlay::core::PeerInfo| PeerView {
            node: peer.node.to_hex(),
            tier: None,
            connected: true,
            address: Some(peer.address),
            users: peer.users.iter().map(shown).collect(),
        };
        let people = self.nearby.iter().filter_map(|(who, person)| match who {
            Who::Bonjour(instance) => Some(PeerView {
                node: instance.to_string(),
                tier: Some("link".to_owned()),
                connected: false,
                address: None,
                users: vec![format!("{} <{}>", person.nickname, instance.to_jid())],
            }),
            Who::User(_) => None,
        });
        self.overlay.peers().into_iter().map(view).chain(people).collect()
    }

    fn outbox_view(&self, entry: &OutboxEntry) -> Option<OutboxView> {
        let from = UserId::from_slice(&entry.from)?;
        let to = UserId::from_slice(&entry.to)?;
        let live = self.overlay.reach(&to) == crosstalk_overlay::core::Reach::Live;
        let sent = entry.copies.iter().any(|copy| copy.state == i32::from(CopyState::Sent));
        let open = entry.copies.iter().filter(|copy| copy.state <= i32::from(CopyState::Sent));
        let held = open.map(|copy| copy.holders.len()).min().unwrap_or_default();
        let waits = match (live, sent, entry.copies.is_empty(), held) {
            (true, true, ..) => "its receipt",
            (true, false, ..) => "its turn",
            (false, _, true, _) => "the first sight of the recipient's node",
            (false, _, false, 0) => "the recipient's node",
            (false, _, false, _) => "the recipient, in mailboxes",
        };
        Some(OutboxView {
            id: MessageId::from_slice(&entry.message)?.to_hex(),
            from: self.accounts.get(&from)?.login(),
            to: self.address_for(from, &to)?.to_string(),
            queued: entry.created,
            expires: entry.expires,
            waits: waits.to_owned(),
            held,
        })
    }

    fn contacts(&self, name: &str) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        let account = self.accounts.get(&user).ok_or_else(|| Refused::NoAccount(name.to_owned()))?;
        let listed = account.roster.listed().map(|item| self.contact_view(account, item, user_of(item)));
        let asked = account.roster.relations.iter().filter(|(other, _)| {
            account.roster.subscription(other).pending_in && account.roster.by_user(other).is_none()
        });
        let asked = asked.map(|(other, relation)| {
            let item = RosterItem { jid: relation.address.clone(), ..RosterItem::default() };
            self.contact_view(account, &item, Some(*other))
        });
        Ok(Reply::Contacts(listed.chain(asked).collect()))
    }

    fn contact_view(&self, account: &Account, item: &RosterItem, other: Option<UserId>) -> ContactView {
        let subscription = match other {
            Some(other) => account.roster.subscription(&other),
            None => self.subscription_with(account.user, item),
        };
        let on_link = || self.link_person(&item.jid).is_some_and(|who| self.nearby.contains_key(&who));
        ContactView {
            jid: item.jid.clone(),
            name: item.name.clone(),
            groups: item.groups.clone(),
            subscription: subscription_name(subscription).to_owned(),
            ask: subscription.ask,
            pending_in: subscription.pending_in,
            tier: self.tier_at(&item.jid, other.as_ref()),
            conflict: self.conflict_of(account.user, item, other.as_ref()),
            online: subscription.to && other.map_or_else(on_link, |other| self.is_online(&other)),
            last_seen: other.filter(|_| subscription.to).and_then(|other| self.last_seen(&other)),
        }
    }

    fn add_contact(&mut self, account: &str, jid: &str, name: Option<String>) -> Result<Reply, Refused> {
        let user = self.named(account)?;
        self.saveable()?;
        let jid = bare(jid)?;
        self.set_contact(user, &jid, name, Vec::new()).map_err(refused)?;
        // A name that is not known yet is asked as soon as its node is met.
        if let Ok(other) = self.contact_at(user, &jid) {
            self.say(user, other, &jid, Type::Subscribe).map_err(refused)?;
        }
        Ok(Reply::Done)
    }
}

/// Whether a NameCert may take the place of another.
fn is_of_the_same(overlay: &Overlay, old: &[u8], new: &[u8]) -> bool {
    let read = |bytes| Unverified::<NameCert>::parse(bytes).ok();
    let (old, new) = (read(old), read(new));
    old.is_none_or(|old| {
        new.is_some_and(|new| {
            let (old, new) = (old.claim(), new.claim());
            let domain = new.domain();
            old.address == new.address && overlay.is_one_authority(domain, &old.authority, &new.authority)
        })
    })
}

pub(super) fn bare(jid: &str) -> Result<BareJid, Refused> {
    let jid = BareJid::new(jid).map_err(|_| Refused::BadAddress(jid.to_owned()))?;
    if jid.node().is_none() { Err(Refused::BadAddress(jid.to_string())) } else { Ok(jid) }
}

pub(super) fn refused(error: StanzaError) -> Refused {
    Refused::Full(error.text.unwrap_or_else(|| error.condition.as_str().to_owned()))
}

//! The devices of an account: a code for a further one, joining by such a code, the list, the end of one. *Pure.*

use crosstalk_overlay::core::{JoinFailure, Joined};
use crosstalk_overlay::enrol::bounded_places;
use crosstalk_overlay::id::{DeviceId, UserId};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::xmpp::StreamError;
use crate::xmpp::error::StreamCondition;

use super::Core;
use super::admin::{Refused, Reply, Sealed};
use super::enrol::Home;
use super::io::{LoginChange, Output};

/// A code for a further device, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferView {
    /// To be typed on a laptop of the same link.
    pub code: Secret,
    /// To be scanned, or for another network.
    pub long_code: Secret,
    /// When it ends, Unix milliseconds.
    pub expires: u64,
}

/// A device of an account, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// Public device key, hexadecimal.
    pub device: String,
    /// What its machine is called; empty if it was not told yet.
    pub name: String,
    /// Whether it is this node's.
    pub here: bool,
    /// Whether it is connected now.
    pub live: bool,
    /// When it last said something of itself, Unix milliseconds.
    pub said: u64,
    /// When its certificate ends, Unix milliseconds.
    pub until: u64,
}

/// An account as one device gives it to another: the user key stays sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedAccount {
    /// Public user key.
    pub user: [u8; 32],
    /// Login name on the older device.
    pub name: String,
    /// Nickname.
    pub nickname: String,
    /// User key sealed under the password.
    pub sealed_by_password: Sealed,
    /// User key sealed under the recovery code.
    pub sealed_by_recovery: Sealed,
    /// NameCert as signed bytes; empty without one.
    pub name_cert: Vec<u8>,
    /// Domain that the older device is enrolled under, with its server; nothing for who is not.
    pub home: Option<(String, Home)>,
}

impl std::fmt::Debug for JoinedAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinedAccount({})", UserId::from_bytes(self.user))
    }
}

/// The same on the wire, inside of what the overlay seals (`overlay/PROTOCOL.md` §11).
#[derive(Clone, PartialEq, prost::Message)]
struct AccountField {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    nickname: String,
    #[prost(bytes = "vec", tag = "4")]
    sealed_by_password: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    sealed_by_recovery: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    name_cert: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    home: Option<HomeField>,
}

/// The server that the user is enrolled at.
#[derive(Clone, PartialEq, prost::Message)]
struct HomeField {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(bytes = "vec", tag = "2")]
    authority: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    server: Vec<u8>,
    #[prost(string, repeated, tag = "4")]
    places: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    rotations: Vec<Vec<u8>>,
}

impl HomeField {
    fn read(self) -> Option<(String, Home)> {
        let (authority, server) = (self.authority.try_into().ok()?, self.server.try_into().ok()?);
        Some((
            self.domain,
            Home { authority, server, places: bounded_places(self.places), rotations: self.rotations },
        ))
    }
}

impl Core {
    /// Makes a code for a further device of an account.
    pub(super) fn offer_device(&mut self, name: &str) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        let Some(stored) = self.accounts.get(&user).map(|account| &account.stored) else {
            return Err(Refused::NoAccount(name.to_owned()));
        };
        let home = stored.server.as_ref().and_then(|home| {
            let authority = self.overlay.pinned_authority(&stored.domain)?;
            let (domain, authority) = (stored.domain.clone(), authority.as_bytes().to_vec());
            let (server, places) = (home.node.clone(), home.places.clone());
            let rotations = self.overlay.rotations(&domain);
            Some(HomeField { domain, authority, server, places, rotations })
        });
        let account = AccountField {
            version: 1,
            name: stored.name.clone(),
            nickname: stored.nickname.clone(),
            sealed_by_password: stored.sealed_by_password.clone(),
            sealed_by_recovery: stored.sealed_by_recovery.clone(),
            name_cert: stored.name_cert.clone(),
            home,
        };
        let offered = self.overlay.offer_device(&user, account.encode_to_vec(), self.now);
        Ok(Reply::Offered(OfferView {
            code: Secret::from(offered.typed),
            long_code: Secret::from(offered.scanned),
            expires: offered.expires,
        }))
    }

    /// Asks for the account behind a code; the answer to the request follows.
    pub(super) fn join(&mut self, request: u64, code: &Secret) -> Result<(), Refused> {
        self.saveable()?;
        let begun = self.overlay.join(request, code.reveal(), self.now);
        begun.map_err(|why| Refused::NotJoined(why.to_string()))
    }

    pub(super) fn joined(&mut self, request: u64, joined: Result<Joined, JoinFailure>) {
        let broken = || Refused::NotJoined(JoinFailure::Broken.to_string());
        let reply = match joined {
            Ok(joined) => match AccountField::decode(joined.account.as_slice()) {
                Ok(field) if field.version == 1 => Reply::Joined(Box::new(JoinedAccount {
                    user: *joined.user.as_bytes(),
                    name: field.name,
                    nickname: field.nickname,
                    sealed_by_password: Sealed(field.sealed_by_password),
                    sealed_by_recovery: Sealed(field.sealed_by_recovery),
                    name_cert: field.name_cert,
                    home: field.home.and_then(HomeField::read),
                })),
                Ok(_) | Err(_) => Reply::Refused(broken()),
            },
            Err(why) => Reply::Refused(Refused::NotJoined(why.to_string())),
        };
        self.output(Output::Answer { request, reply: Box::new(reply) }, false);
    }

    /// The devices of an account, this node's first.
    pub(super) fn devices(&self, name: &str) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        let mut devices = self.overlay.own_devices(&user);
        devices.sort_by_key(|device| (!device.here, device.certified));
        let view = devices.into_iter().map(|device| DeviceView {
            device: device.device.to_hex(),
            name: self.device_name(&user, &device.device),
            here: device.here,
            live: device.live,
            said: device.said,
            until: device.expires,
        });
        Ok(Reply::Devices(view.collect()))
    }

    pub(super) fn device_name(&self, user: &UserId, device: &DeviceId) -> String {
        let Some(account) = self.accounts.get(user) else { return String::new() };
        if account.device == *device {
            return self.settings.machine.clone();
        }
        let mut names = account.stored.devices.iter();
        let named = names.find(|named| named.device == device.as_bytes());
        named.map(|named| named.name.clone()).unwrap_or_default()
    }

    /// Takes in a revocation of a device of an account.
    pub(super) fn revoke_device(&mut self, name: &str, revocation: &[u8]) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        self.saveable()?;
        let taken = self.overlay.add_revocation(revocation, self.now);
        taken.map_err(|why| Refused::BadCertificate(why.to_string()))?;
        self.sync_revocation(user, revocation);
        self.tell_server_now(user);
        Ok(Reply::Done)
    }

    /// This node's device of a user was revoked: nobody would take anything from it any more, so it ends here too. What it
    /// holds stays on the disk until the account is removed or joins again.
    pub(super) fn own_device_revoked(&mut self, user: UserId) {
        let Some(account) = self.accounts.get(&user) else { return };
        let (name, domain) = (account.stored.name.clone(), account.stored.domain.clone());
        let sessions: Vec<_> = account.sessions.iter().copied().collect();
        let text = "this laptop was revoked as a device of the account";
        for id in sessions {
            self.end_session(id, Some(StreamError::new(StreamCondition::NotAuthorized, text)));
        }
        self.announce_on_link(user, None);
        self.overlay.set_link_presence(&user, None, self.now);
        self.overlay.remove_local(&user, self.now);
        self.forget_server(&user);
        if let Some(account) = self.accounts.remove(&user) {
            self.held_bytes -= account.inbox.bytes();
        }
        self.notice(format!(
            "{text} {name}: nobody takes messages from it any more, and nobody can log in to it here. If you did not do \
             that, change the password on your other laptop; to use the account here again, run `crosstalk device join`"
        ));
        self.output(Output::Login(LoginChange::Remove { name, domain }), false);
    }
}

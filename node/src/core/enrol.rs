//! Between laptops and the server of a domain: questions out, questions in, names that are void, what is certified here.
//! *Pure.*

use crosstalk_overlay::authority::MAX_ROTATIONS;
use crosstalk_overlay::core::{NoAnswer, Provenance, Server};
use crosstalk_overlay::id::{AuthorityId, NodeId, UserId, XID_DOMAIN};
use crosstalk_overlay::keys::{DeviceKey, SealingKey};
use crosstalk_storage::tree::account::HomeServer;
use serde::{Deserialize, Serialize};

use crate::xmpp::StreamError;
use crate::xmpp::error::StreamCondition;

use super::Core;
use super::account::{address, to_stored};
use super::admin::{Refused, Reply};
use super::io::{Credentials, LoginChange, Output};

/// A certified name of this node, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameView {
    /// The address.
    pub address: String,
    /// When its certificate ends, Unix milliseconds.
    pub until: u64,
    /// Whether it has not ended, by the time that is believed.
    pub valid: bool,
}

/// The server of a user's domain, as a laptop knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Public key of the domain's authority.
    pub authority: [u8; 32],
    /// Node id of the server.
    pub server: [u8; 32],
    /// Where it is, multiaddresses.
    pub places: Vec<String>,
    /// Signed rotations that led to that key.
    pub rotations: Vec<Vec<u8>>,
}

/// An account as the account service made it; its key file is durable already.
pub struct NewAccount {
    /// Login name (localpart, RFC 7622).
    pub name: String,
    /// Domain of the login name: `id.internal`, or the node's own.
    pub domain: String,
    /// Public user key.
    pub user: UserId,
    /// Device key of this user on this node.
    pub device: DeviceKey,
    /// First sealing key.
    pub sealing: SealingKey,
    /// DeviceCert as signed bytes.
    pub device_cert: Vec<u8>,
    /// NameCert as signed bytes, on a node with a domain.
    pub name_cert: Option<Vec<u8>>,
    /// How the password is checked.
    pub credentials: Credentials,
    /// User key sealed under the password.
    pub sealed_by_password: Vec<u8>,
    /// User key sealed under the recovery code.
    pub sealed_by_recovery: Vec<u8>,
    /// Shown to others.
    pub nickname: String,
}

/// Neither credentials nor sealed keys.
impl std::fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewAccount({})", self.user)
    }
}

/// An account that has got a name under a domain: its user key stays, and everything that hangs on it.
pub struct NamedAccount {
    /// Public user key.
    pub user: UserId,
    /// The name before the `@`.
    pub name: String,
    /// The domain.
    pub domain: String,
    /// NameCert as signed bytes.
    pub name_cert: Vec<u8>,
    /// How the password is checked from now on.
    pub credentials: Credentials,
    /// User key sealed under the password.
    pub sealed_by_password: Vec<u8>,
}

/// Neither credentials nor sealed keys.
impl std::fmt::Debug for NamedAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamedAccount({})", self.user)
    }
}

impl Core {
    /// Asks the server of a domain; the answer to the request follows.
    pub(super) fn ask_server(&mut self, request: u64, server: Server, ask: Vec<u8>) {
        self.overlay.ask_server(request, server, ask, self.now);
    }

    pub(super) fn server_said(&mut self, request: u64, answer: Result<(NodeId, Vec<u8>), NoAnswer>) {
        if self.directory_said(request, &answer)
            || self.outside_said(request, &answer)
            || self.home_server_said(request, &answer)
        {
            return;
        }
        let reply = match answer {
            Ok((node, answer)) => Reply::ServerSaid { node: *node.as_bytes(), answer },
            Err(why) => Reply::Refused(Refused::NotEnrolled(why.to_string())),
        };
        self.output(Output::Answer { request, reply: Box::new(reply) }, false);
    }

    /// This node gives names under a domain: it answers laptops, and believes itself.
    pub(super) fn serve(&mut self, domain: &str, authority: AuthorityId) {
        let rotations = std::mem::take(&mut self.settings.rotations);
        self.pin(domain, authority, &rotations, Provenance::Own);
        self.overlay.serve_enrolment();
    }

    /// Names that this node's authority has taken back. Those known already change nothing.
    pub(super) fn add_revocations(&mut self, revocations: &[Vec<u8>]) -> Result<Reply, Refused> {
        self.saveable()?;
        for revocation in revocations {
            let taken = self.overlay.add_revocation(revocation, self.now);
            taken.map_err(|why| Refused::BadCertificate(why.to_string()))?;
        }
        Ok(Reply::Done)
    }

    /// The key of a domain that is known here was handed over.
    pub(super) fn add_rotation(&mut self, rotation: &[u8]) -> Result<Reply, Refused> {
        self.saveable()?;
        let taken = self.overlay.add_rotation(rotation, self.now);
        taken.map_err(|why| Refused::BadCertificate(why.to_string()))?;
        Ok(Reply::Done)
    }

    /// Adds the account of a user of another node's domain, whose authority is pinned in the same commit.
    pub(super) fn add_enrolled(&mut self, new: NewAccount, home: Home) -> Result<Reply, Refused> {
        self.saveable()?;
        let (domain, user) = (new.domain.clone(), new.user);
        let added = self.add_account(new)?;
        self.move_in(user, &domain, home);
        Ok(added)
    }

    /// Gives an account that had no name one under a domain: it keeps its user key, contacts and history. Its clients
    /// have to log in anew, as their address is another now.
    pub(super) fn name_account(&mut self, named: NamedAccount, home: Home) -> Result<Reply, Refused> {
        self.saveable()?;
        let NamedAccount { user, name, domain, name_cert, credentials, sealed_by_password } = named;
        let account = self.accounts.get(&user).ok_or_else(|| Refused::NoAccount(user.to_string()))?;
        let login = format!("{name}@{domain}");
        if self.accounts.by_address(&login).is_some_and(|other| other != user) {
            return Err(Refused::NameTaken(login));
        }
        let mut stored = account.stored.clone();
        let before = (stored.name.clone(), stored.domain.clone());
        self.overlay
            .renew_local(&user, &stored.device_cert, Some(&name_cert), self.now)
            .map_err(|why| Refused::BadCertificate(why.to_string()))?;
        let sessions: Vec<_> = account.sessions.iter().copied().collect();
        for id in sessions {
            let text = format!("this account is {login} from now on: log in as that");
            self.end_session(id, Some(StreamError::new(StreamCondition::NotAuthorized, text)));
        }
        (stored.name, stored.domain, stored.name_cert) = (name, domain.clone(), name_cert);
        (stored.sha1, stored.sha256) = (to_stored(&credentials.sha1), to_stored(&credentials.sha256));
        (stored.sealed_by_password, stored.seal_is_older) = (sealed_by_password, false);
        let jid = address(&user, &stored).ok_or(Refused::BadAddress(login))?;
        if let Some(mut account) = self.accounts.remove(&user) {
            (account.stored, account.jid) = (stored, jid);
            self.output(Output::Login(LoginChange::Remove { name: before.0, domain: before.1 }), false);
            self.output(Output::Login(account.login_change()), false);
            self.accounts.insert(account);
        }
        self.move_in(user, &domain, home);
        self.view(user)
    }

    /// The server of a user's domain was lost with its node, and another one has its keys: that one is met from now on. Account,
    /// contacts and history stay, and what it lacks of them it is told.
    pub(super) fn change_server(&mut self, user: UserId, home: Home) -> Result<Reply, Refused> {
        self.saveable()?;
        let account = self.accounts.get(&user).ok_or_else(|| Refused::NoAccount(user.to_string()))?;
        let domain = account.stored.domain.clone();
        for rotation in home.rotations.iter().take(MAX_ROTATIONS) {
            // Only what the key signed that is believed changes it.
            let _ = self.overlay.add_rotation(rotation, self.now);
        }
        if self.overlay.pinned_authority(&domain) != Some(AuthorityId::from_bytes(home.authority)) {
            return Err(Refused::NotEnrolled(format!(
                "that server has another key than {domain} has as far as is known here: it is another domain of the same name, or was put \
                 back from a copy that was made before the key was handed over. Nothing was changed"
            )));
        }
        self.way_shuts(user);
        self.forget_server(&user);
        self.move_in(user, &domain, home);
        self.view(user)
    }

    /// The account is one of that domain, whose authority counts from now on; its server is met when it can be.
    fn move_in(&mut self, user: UserId, domain: &str, home: Home) {
        self.pin(domain, AuthorityId::from_bytes(home.authority), &home.rotations, Provenance::Enrolled);
        if let Some(account) = self.accounts.get_mut(&user) {
            let (node, places) = (home.server.to_vec(), home.places);
            let HomeServer { upstream, directory, password, .. } =
                account.stored.server.take().unwrap_or_default();
            let home = HomeServer { node, places, upstream, directory, password, ..HomeServer::default() };
            account.stored.server = Some(home);
        }
        self.save_account(&user);
        self.look_for_server(user);
        self.seek_names();
    }

    /// A key counts for a domain, and those that it is one authority with.
    pub(super) fn pin(&mut self, domain: &str, key: AuthorityId, rotations: &[Vec<u8>], how: Provenance) {
        // Before, they lead from what is known already to that key; after, from that key back.
        for pinned in [false, true] {
            if pinned {
                self.overlay.pin_authority(domain, key, how, self.now);
            }
            for rotation in rotations.iter().rev().chain(rotations).take(2 * MAX_ROTATIONS) {
                // One between keys that are not known yet is taken in by the second pass.
                let _ = self.overlay.add_rotation(rotation, self.now);
            }
        }
    }

    /// Whether an account here is named under a domain: for its clients, this node is that server.
    pub(crate) fn is_domain_of_accounts(&self, domain: &str) -> bool {
        self.accounts.iter().any(|account| account.stored.domain == domain)
    }

    /// What accounts here are certified as.
    pub(super) fn certified_names(&self) -> Vec<NameView> {
        let named = self.accounts.iter().filter(|account| account.stored.domain != XID_DOMAIN);
        let view = |account: &super::account::Account| {
            let until = self.overlay.local_validity(&account.user)?.1?;
            let time = self.overlay.clock().trusted(self.now);
            let valid = !time.credible || time.millis < until;
            Some(NameView { address: account.jid.to_string(), until, valid })
        };
        named.filter_map(view).collect()
    }
}

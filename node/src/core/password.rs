//! A new password that the server of the user's domain has to learn of: held until it was told (`overlay/PROTOCOL.md` §12).
//! What is said to the server takes time to make, so that is done outside, whenever there is somebody to say it to. *Pure.*

use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::account::HeldPassword;
use serde::{Deserialize, Serialize};

use super::Core;
use super::admin::{Refused, Reply, Sealed};
use super::io::Output;

/// What a changed password is registered with, for people who have a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHome {
    /// Certified address.
    pub address: String,
    /// The device here.
    pub device: [u8; 32],
    /// Public key of the domain's authority, as it is known here.
    pub authority: [u8; 32],
    /// Signed rotations that led to it.
    pub rotations: Vec<Vec<u8>>,
    /// The domain.
    pub domain: String,
}

/// A password that the server can be told of now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuePassword {
    /// Whose.
    pub user: [u8; 32],
    /// By which the server knows the device.
    pub session: u64,
    /// The server's node.
    pub server: [u8; 32],
    /// Where it is, multiaddresses.
    pub places: Vec<String>,
    /// What it is registered with.
    pub home: PasswordHome,
    /// The password, stretched.
    pub secret: Sealed,
    /// When it was changed, Unix milliseconds.
    pub at: u64,
    /// The user key's word.
    pub permit: Vec<u8>,
    /// The user key sealed under it.
    pub sealed: Sealed,
}

impl std::fmt::Debug for DuePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DuePassword(of {})", self.at)
    }
}

impl Core {
    /// What a changed password of an account is registered with; nothing for who has no server.
    pub(super) fn password_home(&self, name: &str) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        Ok(Reply::PasswordHome(self.home_of(&user).map(Box::new)))
    }

    fn home_of(&self, user: &UserId) -> Option<PasswordHome> {
        let account = self.accounts.get(user)?;
        account.stored.server.as_ref()?;
        let domain = account.stored.domain.clone();
        Some(PasswordHome {
            address: account.jid.to_string(),
            device: *account.device.as_bytes(),
            authority: *self.overlay.pinned_authority(&domain)?.as_bytes(),
            rotations: self.overlay.rotations(&domain),
            domain,
        })
    }

    /// Answers when there is a password that a server can be told of. One question waits at a time; a later one takes the
    /// place of an earlier one.
    pub(super) fn wait_for_password(&mut self, request: u64) {
        self.password_asked = Some(request);
        self.password_due();
    }

    /// A server was reached, or a password changed.
    pub(super) fn password_due(&mut self) {
        let Some(request) = self.password_asked else { return };
        let due = self.accounts.iter().map(|account| account.user).find_map(|user| self.due_password(user));
        if let Some(due) = due {
            self.password_asked = None;
            let reply = Box::new(Reply::DuePassword(Box::new(due)));
            self.output(Output::Answer { request, reply }, false);
        }
    }

    fn due_password(&self, user: UserId) -> Option<DuePassword> {
        let stored = &self.accounts.get(&user)?.stored;
        let (held, server) = (stored.held_password.as_ref()?, stored.server.as_ref()?);
        Some(DuePassword {
            user: *user.as_bytes(),
            session: self.server_session(&user)?,
            server: server.node.clone().try_into().ok()?,
            places: server.places.clone(),
            home: self.home_of(&user)?,
            secret: Sealed(held.secret.clone()),
            at: held.at,
            permit: held.permit.clone(),
            sealed: Sealed(stored.sealed_by_password.clone()),
        })
    }

    /// Holds a new password for the server.
    pub(super) fn hold_password(&mut self, user: UserId, held: Option<HeldPassword>) {
        let Some(account) = self.accounts.get_mut(&user).filter(|_| held.is_some()) else { return };
        account.stored.held_password = held;
        self.save_account(&user);
        self.password_due();
    }

    /// The server has the password of this time, or a later one.
    pub(super) fn password_told(&mut self, user: UserId, at: u64) -> Result<Reply, Refused> {
        self.saveable()?;
        let Some(account) = self.accounts.get_mut(&user) else { return Ok(Reply::Done) };
        if account.stored.held_password.as_ref().is_some_and(|held| held.at <= at) {
            account.stored.held_password = None;
            self.save_account(&user);
        }
        Ok(Reply::Done)
    }
}

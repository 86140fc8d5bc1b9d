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
        // One that the server does not take holds up nobody else's.
        let users = self.accounts.iter().map(|account| account.user);
        let tried = |user: &UserId| self.password_tried.get(user).copied();
        let due = users.filter_map(|user| Some((tried(&user), self.due_password(user)?)));
        if let Some((_, due)) = due.min_by_key(|(tried, _)| *tried) {
            self.password_asked = None;
            self.password_tried.insert(UserId::from_bytes(due.user), self.now.mono);
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

    /// Holds a new password for the server; with none, what was held of an earlier one does not go with the key that is there now.
    pub(super) fn hold_password(&mut self, user: UserId, held: Option<HeldPassword>) {
        let Some(account) = self.accounts.get_mut(&user) else { return };
        if account.stored.held_password == held {
            return;
        }
        account.stored.held_password = held;
        self.save_account(&user);
        self.password_due();
    }

    /// The server has the password of this time, or a later one.
    pub(super) fn password_told(&mut self, user: UserId, at: u64) -> Result<Reply, Refused> {
        self.saveable()?;
        let Some(account) = self.accounts.get_mut(&user) else { return Ok(Reply::Done) };
        let name = account.stored.name.clone();
        let Some(held) = account.stored.held_password.take_if(|held| held.at <= at) else {
            return Ok(Reply::Done);
        };
        self.password_tried.remove(&user);
        self.save_account(&user);
        if held.at < at {
            self.notice(format!(
                "the new password of {name} does not count at the server, as the clock says that another was chosen later: \
                 if it is to be this one, set the clock and run `crosstalk account password {name}` once more"
            ));
        }
        Ok(Reply::Done)
    }
}

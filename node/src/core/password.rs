//! A new password that the server of the user's domain has to learn of: held until it was told (`overlay/PROTOCOL.md` §12).
//! What is said to the server takes time to make, so that is done outside, whenever there is somebody to say it to. *Pure.*

use crosstalk_overlay::enrol::MOST_FOLLOWED;
use crosstalk_overlay::id::UserId;
use crosstalk_storage::tree::account::{HeldPassword, HomeServer};
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
    /// Changes that a new one is made after; empty if the server has not said which counts there.
    pub follows: Vec<u64>,
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
    /// The changes that it was made after.
    pub follows: Vec<u64>,
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
        let follows = followed(account.stored.server.as_ref()?, account.stored.held_password.as_ref());
        let domain = account.stored.domain.clone();
        Some(PasswordHome {
            address: account.jid.to_string(),
            device: *account.device.as_bytes(),
            authority: *self.overlay.pinned_authority(&domain)?.as_bytes(),
            rotations: self.overlay.rotations(&domain),
            domain,
            follows,
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
        let (held, (server, places)) = (stored.held_password.as_ref()?, self.server_of(&user)?);
        Some(DuePassword {
            user: *user.as_bytes(),
            session: self.server_session(&user)?,
            server: *server.as_bytes(),
            places,
            home: self.home_of(&user)?,
            secret: Sealed(held.secret.clone()),
            at: held.at,
            follows: held.follows.clone(),
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

    /// The server says which change of a user's password counts there; a server of before that says nothing, and then the clocks
    /// decide.
    pub(super) fn password_counts(&mut self, user: UserId, at: Option<u64>) {
        let Some(home) = self.accounts.get_mut(&user).and_then(|account| account.stored.server.as_mut())
        else {
            return;
        };
        if std::mem::replace(&mut home.password, at) != at {
            self.save_account(&user);
        }
    }

    /// Whether the server knows that changes follow each other.
    fn follows_changes(&self, user: UserId) -> bool {
        let home = self.accounts.get(&user).and_then(|account| account.stored.server.as_ref());
        home.is_some_and(|home| home.password.is_some())
    }

    /// The server was told of a change: this one counts now, the one that was told or another.
    pub(super) fn password_told(&mut self, user: UserId, at: u64) -> Result<Reply, Refused> {
        self.saveable()?;
        if self.follows_changes(user) {
            self.password_counts(user, Some(at));
        }
        let Some(account) = self.accounts.get_mut(&user) else { return Ok(Reply::Done) };
        let name = account.stored.name.clone();
        // What was changed since on this laptop still waits.
        let is_over = |held: &mut HeldPassword| match held.follows.is_empty() {
            true => held.at <= at,
            false => !held.follows.contains(&at),
        };
        let Some(held) = account.stored.held_password.take_if(is_over) else { return Ok(Reply::Done) };
        self.password_tried.remove(&user);
        self.save_account(&user);
        if held.at != at {
            self.notice(format!(
                "the new password of {name} does not count at the server, as another one was chosen on another laptop: if it is to be \
                 this one, run `crosstalk account password {name}` once more"
            ));
        }
        Ok(Reply::Done)
    }
}

/// What a change that is made now is made after. Empty: it is not known, and the clocks decide.
fn followed(home: &HomeServer, held: Option<&HeldPassword>) -> Vec<u64> {
    let Some(counts) = home.password else { return Vec::new() };
    let untold = held.into_iter().flat_map(|held| held.follows.iter().copied().chain([held.at]));
    let mut untold: Vec<u64> = untold.filter(|change| *change != counts).collect();
    let surplus = (untold.len() + 1).saturating_sub(MOST_FOLLOWED);
    untold.drain(..surplus);
    [vec![counts], untold].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_follows_what_counts_and_what_waits() {
        let held =
            |at, follows: &[u64]| HeldPassword { at, follows: follows.to_vec(), ..HeldPassword::default() };
        let home = |password| HomeServer { password, ..HomeServer::default() };
        assert_eq!(followed(&home(None), Some(&held(7, &[]))), [0; 0]);
        assert_eq!(followed(&home(Some(0)), None), [0]);
        assert_eq!(followed(&home(Some(5)), Some(&held(7, &[5, 6]))), [5, 6, 7]);
        assert_eq!(followed(&home(Some(6)), Some(&held(7, &[5, 6]))), [6, 5, 7]);
        let many: Vec<u64> = (1..100).collect();
        let all = followed(&home(Some(200)), Some(&held(100, &many)));
        assert_eq!((all.len(), all.first(), all.last()), (MOST_FOLLOWED, Some(&200), Some(&100)));
    }
}

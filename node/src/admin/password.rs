//! A changed password on its way to the server of the user's domain: OPAQUE's registration over the stretched password, and
//! the user key sealed under both (`overlay/PROTOCOL.md` §12).
//!
//! The core says when there is a server to be told. Whatever breaks it off, the password stays held, and is told again.

use std::time::Duration;

use crosstalk_overlay::core::Server;
use crosstalk_overlay::enrol::{Answer, Ask, Change, Changed, permit};
use crosstalk_overlay::id::{AuthorityId, DeviceId, NodeId, UserId};
use crosstalk_overlay::keys::UserKey;
use crosstalk_storage::tree::account::HeldPassword;
use zeroize::Zeroizing;

use super::enrol::{failed, misunderstood, no};
use super::service::{Service, ServiceError, done, unexpected};
use crate::accounts::{AccountError, random, seal};
use crate::authority::opaque::{Account, Registration};
use crate::authority::{derived, keys_of};
use crate::c2s::credentials::prepare_password;
use crate::core::admin::{Command, Reply};
use crate::core::password::{DuePassword, PasswordHome};
use crate::event_loop::clock::wall_millis;

/// From a try that came to nothing to the next.
const PAUSE: Duration = Duration::from_secs(20);

/// Serves until the node stops.
pub async fn serve(service: Service) {
    loop {
        let due = match service.ask(Command::AwaitPassword).await {
            Ok(Reply::DuePassword(due)) => due,
            Ok(_) => continue,
            Err(_) => return,
        };
        let user = UserId::from_bytes(due.user);
        if let Err(error) = service.tell_password(*due).await {
            tracing::info!("the server does not know the new password of {user} yet: {error}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The first key of the domain, which passwords are registered with.
fn identity(home: &PasswordHome) -> Option<AuthorityId> {
    let known = AuthorityId::from_bytes(home.authority);
    keys_of(known, &home.rotations, &home.domain).map(|keys| keys.first())
}

/// What is held of a new password for the server. Takes some 50 ms.
///
/// # Errors
/// When the memory cannot be had.
pub(super) fn held(
    key: &UserKey,
    password: &str,
    home: &PasswordHome,
) -> Result<Option<HeldPassword>, AccountError> {
    let Some(identity) = identity(home) else { return Ok(None) };
    let account = Account { address: &home.address, authority: &identity };
    let secret = derived::stretched(prepare_password(password)?.as_bytes(), account)?;
    let follows = home.follows.clone();
    // It only has to be another than those before: the clock may be wrong.
    let at = follows.iter().max().map_or(0, |last| last.saturating_add(1)).max(wall_millis());
    let device = DeviceId::from_bytes(home.device);
    let permit = permit(key, &identity, &home.address, &device, (at, &follows));
    Ok(Some(HeldPassword { at, secret: secret.to_vec(), permit: permit.to_vec(), follows }))
}

impl Service {
    async fn tell_password(&self, due: DuePassword) -> Result<(), ServiceError> {
        let DuePassword { user, session, server, places, home, secret, at, follows, permit, sealed } = due;
        let identity = identity(&home).ok_or_else(misunderstood)?;
        let user = UserId::from_bytes(user);
        let server = Server::At(NodeId::from_bytes(server), places);
        let secret = Zeroizing::new(secret.0);
        let begun = Registration::start(&secret).map_err(failed)?;
        let ask = Ask::Change(Change { session, request: begun.request.clone() });
        let response = match self.ask_server(server.clone(), &ask).await?.1 {
            Answer::Registering(registering) => registering.response,
            answer => return Err(no(&answer, UNKNOWN)),
        };
        let made = self.laborious(move |_| {
            let account = Account { address: &home.address, authority: &identity };
            let (upload, export) = begun.finish(&secret, &response, account)?;
            let covered = seal::cover(user, &sealed.0, export.as_slice(), &random::bytes()?)?;
            Ok((upload, covered))
        });
        let (upload, sealed) = made.await?;
        let ask = Ask::Changed(Changed { session, upload, sealed, at, permit, follows });
        match self.ask_server(server, &ask).await?.1 {
            Answer::PasswordOf(counts) => done(self.ask(Command::PasswordTold { user, at: counts.at }).await),
            answer => Err(no(&answer, UNKNOWN)),
        }
    }

    /// What a changed password of an account is registered with; nothing for who has no server.
    pub(super) async fn password_home(&self, account: &str) -> Result<Option<PasswordHome>, ServiceError> {
        match self.ask(Command::PasswordHome(account.to_owned())).await? {
            Reply::PasswordHome(home) => Ok(home.map(|home| *home)),
            reply => Err(unexpected(reply)),
        }
    }
}

const UNKNOWN: &str = "the server knows this user no longer";

//! One login attempt, whichever protocol carries its messages: the exchange, the check of a password, the wait of who guesses.

use std::net::IpAddr;
use std::sync::Arc;

use crosstalk_overlay::id::UserId;
use zeroize::Zeroizing;

use super::credentials;
use super::listener::Door;
use super::plain::PlainLogin;
use super::sasl::{Exchange, Failure, Progress};
use crate::core::io::ScramKeys;

/// What follows a message of the client.
pub(crate) enum Said {
    /// The client has to answer this.
    Challenge(Vec<u8>),
    /// The client proved that it is this user; it may want to see this.
    Success(UserId, Option<Vec<u8>>),
}

/// An attempt.
pub(crate) struct Attempt {
    door: Arc<Door>,
    from: IpAddr,
    exchange: Exchange,
}

impl Attempt {
    /// Begins one by a client at `from`, who means accounts of `host`, or (`None`) of any domain here by their whole addresses; what
    /// has no domain is of the first of the node's.
    pub(crate) fn new(
        door: Arc<Door>,
        from: IpAddr,
        mechanism: &str,
        host: Option<&str>,
    ) -> Result<Self, Failure> {
        let mut domains = door.domains.clone();
        let more = host.map_or_else(|| door.directory.domains(), |host| vec![host.to_owned()]);
        domains.extend(more.into_iter().filter(|host| !door.domains.contains(host)));
        domains.sort_by_key(|domain| host.is_some_and(|host| domain != host));
        let exchange = Exchange::new(mechanism, door.directory.clone(), domains)?;
        Ok(Self { door, from, exchange })
    }

    /// Takes a message of the client, or why there is none; `None`: the client began without one.
    pub(crate) async fn step(&mut self, message: Result<Option<&[u8]>, Failure>) -> Result<Said, Failure> {
        self.wait_turn().await;
        let outcome = match message.and_then(|data| self.exchange.step(data)) {
            Ok(Progress::Challenge(challenge)) => return Ok(Said::Challenge(challenge)),
            Ok(Progress::Success(user, last)) => Ok((user, last)),
            Ok(Progress::Password(password, keys, user)) => self.password(password, keys, user).await,
            Err(failure) => Err(failure),
        };
        let account = self.exchange.address();
        let mut failures = self.door.failures();
        match (outcome, account) {
            (Ok((user, last)), account) => {
                account.iter().for_each(|account| failures.succeeded(self.from, account));
                Ok(Said::Success(user, last))
            }
            (Err(failure), account) => {
                account.iter().for_each(|account| failures.failed(self.from, account, self.door.now()));
                Err(failure)
            }
        }
    }

    async fn password(
        &self,
        password: Zeroizing<String>,
        keys: ScramKeys,
        user: Option<UserId>,
    ) -> Result<(UserId, Option<Vec<u8>>), Failure> {
        self.wait_turn().await;
        match (self.check(password.clone(), keys).await, user) {
            (true, Some(user)) => {
                self.tell_plain_login(user, password);
                Ok((user, None))
            }
            (true, None) | (false, _) => Err(Failure::NotAuthorized),
        }
    }

    /// Waits as long as failures on this account from this address make everybody there wait.
    async fn wait_turn(&self) {
        let Some(account) = self.exchange.address() else { return };
        let delay = self.door.failures().delay(self.from, &account, self.door.now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// Checks a password beside the event loop, a few at a time, so that floods of guesses do not take the machine.
    async fn check(&self, password: Zeroizing<String>, keys: ScramKeys) -> bool {
        let Ok(_turn) = self.door.hashing.acquire().await else { return false };
        tokio::task::spawn_blocking(move || credentials::verify(&password, &keys)).await.unwrap_or(false)
    }

    /// Whoever needs passwords may miss one: there will be another login.
    fn tell_plain_login(&self, user: UserId, password: Zeroizing<String>) {
        if let Some(logins) = &self.door.plain_logins {
            let _ = logins.try_send(PlainLogin { user, password: password.into() });
        }
    }
}

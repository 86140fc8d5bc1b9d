//! Device certificates renewed when somebody logs in with the password itself (SASL PLAIN): then, and only then, a node
//! can open the user key without being asked (DESIGN.md §3.2).
//!
//! Most logins need nothing and cost one question to the core. A login that finds the queue full is passed over: the
//! next one does.

use tokio::sync::mpsc;

use super::service::{Service, ServiceError};
use crate::accounts::AccountError;
use crate::accounts::seal::SealError;
use crate::c2s::PlainLogin;

/// Logins that wait.
pub const QUEUE: usize = 16;

/// Serves until nobody can log in any more.
pub async fn serve(mut logins: mpsc::Receiver<PlainLogin>, service: Service) {
    while let Some(PlainLogin { user, password }) = logins.recv().await {
        match service.renew(user, password).await {
            Ok(true) => tracing::info!("the device certificate of {user} was renewed"),
            Ok(false) => {}
            // The password was changed by a client: the key is still sealed under the one before.
            Err(ServiceError::Account(AccountError::Seal(SealError::WrongSecret))) => {
                tracing::warn!("the user key of {user} is sealed under an earlier password: no renewal");
            }
            Err(error) => tracing::warn!("the device certificate of {user} was not renewed: {error}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use crosstalk_overlay::id::UserId;
    use zeroize::Zeroizing;

    use super::*;
    use crate::accounts::key_dir::KeyDir;
    use crate::accounts::{Accounts, RENEW_BEFORE};
    use crate::admin::service::Ask;
    use crate::core::admin::{AccountView, Command, Reply, Sealed};
    use crate::core::settings::LinkMode;
    use crate::event_loop::clock::wall_millis;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    pub(crate) fn view(device_until: u64) -> AccountView {
        AccountView {
            name: "anna".to_owned(),
            login: String::new(),
            jid: String::new(),
            xid: String::new(),
            nickname: String::new(),
            visible: true,
            link: LinkMode::default(),
            sessions: 0,
            waiting: 0,
            created: 0,
            device_until,
            name_until: None,
        }
    }

    /// What the core is asked to renew when somebody logs in with `password`.
    async fn renewed(password: &str, device_until: u64) -> (UserId, Vec<(UserId, Vec<u8>)>) {
        let data = tempfile::tempdir().expect("dir");
        let accounts = Arc::new(Accounts::new(KeyDir::open(data.path()).expect("opened"), None));
        let secret = Zeroizing::new("wherefore".to_owned());
        let made = accounts.prepare("anna", Some(secret), None).expect("made").account;
        let user = made.user;
        let (asking, mut asks) = mpsc::channel::<Ask>(4);
        let (logins, waiting) = mpsc::channel(1);
        let service = Service::new(asking, accounts);
        let core = async {
            let mut renewed = Vec::new();
            while let Some(Ask { command, answer }) = asks.recv().await {
                let reply = match *command {
                    Command::ShowAccount(_) => Reply::Account(view(device_until)),
                    Command::SealedKeys(_) => Reply::SealedKeys {
                        account: view(device_until),
                        user: *user.as_bytes(),
                        by_password: Sealed(made.sealed_by_password.clone()),
                        by_recovery: Sealed::default(),
                    },
                    Command::Renew { user, device_cert: Some(cert), .. } => {
                        renewed.push((user, cert));
                        Reply::Done
                    }
                    other => panic!("{other:?}"),
                };
                answer.send(Box::new(reply)).expect("asked for");
            }
            renewed
        };
        logins.send(PlainLogin { user, password: password.to_owned().into() }).await.expect("room");
        drop(logins);
        let ((), renewed) = tokio::join!(serve(waiting, service), core);
        (user, renewed)
    }

    #[tokio::test]
    async fn a_certificate_that_ends_soon_is_renewed() {
        let (user, renewed) = renewed("wherefore", wall_millis() + RENEW_BEFORE - DAY).await;
        assert_eq!(renewed.len(), 1);
        assert_eq!(renewed[0].0, user);
    }

    #[tokio::test]
    async fn one_that_lasts_is_left_alone() {
        assert!(renewed("wherefore", wall_millis() + RENEW_BEFORE + DAY).await.1.is_empty());
    }

    #[tokio::test]
    async fn a_key_that_the_password_does_not_open_is_left_alone() {
        assert!(renewed("another", wall_millis()).await.1.is_empty());
    }
}

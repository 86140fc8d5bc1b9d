//! Accounts that chat programs make for themselves (XEP-0077), through the same service as the command line.
//!
//! One at a time: the queue before it is short and tells whoever finds it full to try again. The recovery code is shown
//! to the first client that logs in to the account.

use tokio::sync::mpsc;

use super::service::{Service, ServiceError};
use crate::accounts::AccountError;
use crate::c2s::RegisterRequest;
use crate::core::admin::{Command, Refused};
use crate::xmpp::{Condition, StanzaError};

/// Wishes that wait.
pub const QUEUE: usize = 4;

/// Serves until nobody can ask any more.
pub async fn serve(mut requests: mpsc::Receiver<RegisterRequest>, service: Service) {
    while let Some(RegisterRequest { name, password, reply, .. }) = requests.recv().await {
        let made = service.add(name, Some(password), None).await;
        if let Ok(added) = &made {
            tracing::info!("a chat program on this machine has made the account {}", added.account.login);
            let (account, recovery) = (added.account.login.clone(), added.recovery.clone().into());
            if service.ask(Command::ShowRecovery { account, recovery }).await.is_err() {
                tracing::warn!("nobody will be shown the recovery code of {}", added.account.login);
            }
        }
        // The client may have gone away meanwhile.
        let _ = reply.send(made.map(drop).map_err(|error| answer(&error)));
    }
}

fn answer(error: &ServiceError) -> StanzaError {
    let condition = match error {
        ServiceError::Refused(Refused::NameTaken(_)) => Condition::Conflict,
        ServiceError::Account(AccountError::Name(_) | AccountError::Password(_)) => Condition::NotAcceptable,
        ServiceError::Refused(_) | ServiceError::Busy | ServiceError::Stopping => {
            Condition::ResourceConstraint
        }
        ServiceError::Account(_) | ServiceError::Backup(_) | ServiceError::Confused => {
            // The reason names files of the node: it is for the log.
            tracing::error!("an account could not be made: {error}");
            return Condition::InternalServerError.into();
        }
    };
    StanzaError::new(condition, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zeroize::Zeroizing;

    use super::*;
    use crate::accounts::Accounts;
    use crate::accounts::key_dir::KeyDir;
    use crate::admin::renewal::tests::view;
    use crate::admin::service::Ask;
    use crate::core::admin::Reply;

    /// Nobody else sees the recovery code of such an account.
    #[tokio::test]
    async fn the_recovery_code_is_to_be_shown() {
        let data = tempfile::tempdir().expect("dir");
        let accounts = Arc::new(Accounts::new(KeyDir::open(data.path()).expect("opened"), None));
        let (asking, mut asks) = mpsc::channel::<Ask>(4);
        let (wishes, waiting) = mpsc::channel(1);
        let core = async {
            let (mut made, mut shown) = (false, None);
            while let Some(Ask { command, answer }) = asks.recv().await {
                let reply = match *command {
                    Command::ShowAccount(_) if made => Reply::Account(view(0)),
                    Command::ShowAccount(name) => Reply::Refused(Refused::NoAccount(name)),
                    Command::AddAccount(_) => {
                        made = true;
                        Reply::Done
                    }
                    Command::ShowRecovery { recovery, .. } => {
                        shown = Some(recovery);
                        Reply::Done
                    }
                    other => panic!("{other:?}"),
                };
                answer.send(Box::new(reply)).expect("asked for");
            }
            shown
        };
        let (reply, made) = tokio::sync::oneshot::channel();
        let password = Zeroizing::new("wherefore".to_owned());
        let wish = RegisterRequest { name: "anna".to_owned(), domain: String::new(), password, reply };
        wishes.send(wish).await.expect("room");
        drop(wishes);
        let ((), shown) = tokio::join!(serve(waiting, Service::new(asking, accounts)), core);
        assert!(made.await.expect("answered").is_ok());
        assert!(shown.is_some_and(|code| !code.reveal().is_empty()));
    }
}

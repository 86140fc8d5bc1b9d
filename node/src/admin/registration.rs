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
        ServiceError::Account(_) | ServiceError::Confused => {
            // The reason names files of the node: it is for the log.
            tracing::error!("an account could not be made: {error}");
            return Condition::InternalServerError.into();
        }
    };
    StanzaError::new(condition, error.to_string())
}

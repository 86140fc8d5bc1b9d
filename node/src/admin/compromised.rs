//! A stolen user key: it signs its own end, and the person gets a new one.

use super::service::{Service, ServiceError, done, unexpected};
use super::{Opener, Response};
use crate::accounts::Accounts;
use crate::core::admin::{Command, Reply};

impl Service {
    /// Ends an account whose key was stolen, and makes another of the same login name, with a new password and recovery
    /// code, since the old ones may be in the same hands. Who was in the contact list is asked anew: whether that is the
    /// same person only they can tell.
    pub(super) async fn compromised(
        &self,
        account: String,
        opener: Opener,
    ) -> Result<Response, ServiceError> {
        let (user, Some(key)) = self.open(&account, Some(opener)).await? else {
            return Err(ServiceError::Confused);
        };
        let revocation = Accounts::compromised(user, &key)?;
        drop(key);
        let before = self.account(account.clone()).await?;
        let contacts = match self.ask(Command::Contacts(account.clone())).await? {
            Reply::Contacts(contacts) => contacts,
            reply => return Err(unexpected(reply)),
        };
        done(self.ask(Command::EndAccount { account, revocation }).await)?;
        let added = self.add(before.name, None, Some(before.nickname)).await?;
        for contact in contacts.into_iter().filter(|contact| contact.subscription != "none" || contact.ask) {
            let (account, name) = (added.account.login.clone(), contact.name);
            let asked = self.ask(Command::AddContact { account, jid: contact.jid, name }).await;
            if let Err(error) = done(asked) {
                tracing::warn!("a contact of the ended account could not be asked anew: {error}");
            }
        }
        Ok(added.into())
    }
}

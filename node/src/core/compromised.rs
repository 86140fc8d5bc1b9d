//! A stolen user key: the end of the account that it made, and the alarm to those who have somebody in their list whose key
//! was stolen. *Pure.*

use crosstalk_overlay::core::Alarm;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::{Refusal, Revocation, Revoked, Unverified};

use crate::xmpp::{Element, Kind, Stanza, Type, ns};

use super::Core;
use super::admin::{Refused, Reply};

impl Core {
    /// Ends an account by the signed word that its key was stolen, which is told to everybody whom it concerns, and removes
    /// it with all it holds: nobody takes anything from it any more.
    pub(super) fn end_account(&mut self, name: &str, revocation: &[u8]) -> Result<Reply, Refused> {
        let user = self.named(name)?;
        self.saveable()?;
        let refused = |why: Refusal| Refused::BadCertificate(why.to_string());
        let said = Unverified::<Revocation>::parse(revocation).map_err(refused)?;
        if said.claim().what != Revoked::User(user) {
            return Err(Refused::BadCertificate("it says nothing of this user key".to_owned()));
        }
        self.overlay.add_revocation(revocation, self.now).map_err(refused)?;
        self.remove_account(user);
        Ok(Reply::Done)
    }

    /// Says at the node what a person should know, and to the clients of those whom it concerns.
    pub(super) fn alarm(&mut self, alarm: &Alarm) {
        let text = alarm.to_string();
        if let Alarm::Compromised { user } = alarm {
            self.warn_contacts_of(user, &text);
        }
        self.notice(text);
    }

    /// A message to each account that has this user in its list or was asked by it; held like any other.
    fn warn_contacts_of(&mut self, other: &UserId, text: &str) {
        let knows = |account: &&super::account::Account| {
            account.roster.by_user(other).is_some() || account.roster.relations.contains_key(other)
        };
        let warned: Vec<UserId> = self.accounts.iter().filter(knows).map(|account| account.user).collect();
        for user in warned {
            let Some(to) = self.accounts.get(&user).map(|account| account.jid.clone()) else { continue };
            let mut message = Stanza::new(Kind::Message, Type::Normal);
            message.from = jid::Jid::new(&self.domain()).ok();
            message.to = Some(to.into());
            let address =
                self.address_for(user, other).map(|address| address.to_string()).unwrap_or_default();
            message.payload = vec![
                Element::new("subject", ns::CLIENT).text(&format!("Do not trust {address} any more")),
                Element::new("body", ns::CLIENT).text(text),
            ];
            let number = self.news_number();
            self.tell_news(user, number, &message);
        }
    }
}

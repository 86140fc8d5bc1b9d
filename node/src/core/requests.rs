//! Requests to see somebody's presence that are not answered yet: ours and those of others, for `crosstalk requests`. *Pure.*

use crosstalk_overlay::core::state::OutboxEntry;
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::UserId;
use serde::{Deserialize, Serialize};

use super::Core;
use super::account::Account;
use super::admin::{Refused, Reply};
use super::commands::{bare, refused};
use super::roster::Relation;
use crate::xmpp::Type;

/// A request that is not answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestView {
    /// Login name of the account here.
    pub account: String,
    /// The other's address.
    pub jid: String,
    /// `out`: our request; `in`: theirs, to be accepted or refused here.
    pub direction: String,
    /// When it was made, Unix milliseconds by the clock of who made it.
    pub since: u64,
    /// Where it is: `waits` for the other's node or mailbox, or was `delivered`.
    pub state: String,
    /// When it is given up, Unix milliseconds; only while it waits.
    pub expires: Option<u64>,
}

impl Core {
    /// All requests of all accounts, oldest first.
    pub(super) fn requests(&self) -> Reply {
        let of_account = |account: &Account| self.requests_of(account);
        let mut requests: Vec<RequestView> = self.accounts.iter().flat_map(of_account).collect();
        requests.sort_by(|a, b| (a.since, &a.jid).cmp(&(b.since, &b.jid)));
        Reply::Requests(requests)
    }

    fn requests_of(&self, account: &Account) -> Vec<RequestView> {
        let both = account.roster.relations.iter().map(|(other, relation)| {
            let subscription = account.roster.subscription(other);
            let ours = subscription.ask.then(|| self.our_request(account, other, relation)).flatten();
            let theirs =
                subscription.pending_in.then(|| self.their_request(account, other, relation)).flatten();
            [ours, theirs]
        });
        both.flatten().flatten().collect()
    }

    fn our_request(&self, account: &Account, other: &UserId, relation: &Relation) -> Option<RequestView> {
        let asked = relation.slots.my_watch.as_ref()?;
        let says_so = |entry: &OutboxEntry| {
            let content = Content::decode(&entry.content);
            matches!(content, Ok(Content::Contact(record)) if record == asked.bytes())
        };
        let waiting = self.overlay.outbox().find(|entry| entry.to == other.as_bytes() && says_so(entry));
        Some(RequestView {
            account: account.login(),
            jid: self.address_for(account.user, other)?.to_string(),
            direction: "out".to_owned(),
            since: asked.at.millis,
            state: if waiting.is_some() { "waits" } else { "delivered" }.to_owned(),
            expires: waiting.map(|entry| entry.expires),
        })
    }

    fn their_request(&self, account: &Account, other: &UserId, relation: &Relation) -> Option<RequestView> {
        Some(RequestView {
            account: account.login(),
            jid: self.address_for(account.user, other)?.to_string(),
            direction: "in".to_owned(),
            since: relation.slots.their_watch.as_ref()?.at.millis,
            state: "delivered".to_owned(),
            expires: None,
        })
    }

    /// Accepts or refuses a request, as a client does with `subscribed` and `unsubscribed`.
    pub(super) fn answer_request(
        &mut self,
        account: &str,
        jid: &str,
        accept: bool,
    ) -> Result<Reply, Refused> {
        let user = self.named(account)?;
        self.saveable()?;
        let jid = bare(jid)?;
        let address = self.canonical(user, &jid);
        let asks = |other: &UserId| self.subscription_between(user, *other).pending_in;
        let Some(other) = self.resolve(&address).filter(asks) else {
            return Err(Refused::NoRequest(jid.to_string()));
        };
        let answer = if accept { Type::Subscribed } else { Type::Unsubscribed };
        self.say(user, other, &address, answer).map_err(refused)?;
        Ok(Reply::Done)
    }
}

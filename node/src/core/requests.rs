//! Requests to see somebody's presence that are not answered yet: ours and those of others, for `crosstalk requests`. *Pure.*

use crosstalk_overlay::core::state::OutboxEntry;
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::{ContactRecord, Says, Slots, Verified};
use serde::{Deserialize, Serialize};

use super::Core;
use super::account::Account;
use super::admin::{Refused, Reply};
use super::commands::{bare, refused};
use super::roster::Relation;
use crate::xmpp::Type;

/// Between two times that the same is said again to somebody, milliseconds.
const AGAIN: u64 = 600_000;

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
    /// Where it is: the other is `sought` by name, it `waits` for the other's node or mailbox, or was `delivered`.
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
        let sought = account.roster.listed().filter(|item| item.user.is_none() && self.is_name(&item.jid));
        let sought = sought.map(|item| RequestView {
            account: account.login(),
            jid: item.jid.clone(),
            direction: "out".to_owned(),
            since: item.listed_edit.as_ref().map_or(item.edited_millis, |listed| listed.millis),
            state: "sought".to_owned(),
            expires: None,
        });
        both.flatten().flatten().chain(sought).collect()
    }

    fn our_request(&self, account: &Account, other: &UserId, relation: &Relation) -> Option<RequestView> {
        let asked = relation.slots.my_watch.as_ref()?;
        let waiting = self.waiting(other, asked.bytes());
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

    /// A contact record that is on its way to somebody.
    fn waiting(&self, other: &UserId, record: &[u8]) -> Option<OutboxEntry> {
        let says_so = |entry: &OutboxEntry| {
            let content = Content::decode(&entry.content);
            matches!(content, Ok(Content::Contact(waiting)) if waiting == record)
        };
        self.overlay.outbox().find(|entry| entry.to == other.as_bytes() && says_so(entry))
    }

    /// Somebody is seen whom accounts have asked and who has not answered: what arrived may have been lost with a laptop.
    pub(super) fn ask_again(&mut self, other: UserId) {
        let asks = |account: &&Account| account.roster.subscription(&other).ask;
        let askers: Vec<UserId> = self.accounts.iter().filter(asks).map(|account| account.user).collect();
        askers.into_iter().for_each(|user| self.say_again(user, other, |slots| slots.my_watch.as_ref()));
    }

    /// Somebody asks again who was answered: the answer may have been lost.
    pub(super) fn answer_again(&mut self, user: UserId, other: UserId, record: &ContactRecord) {
        let says = |account: &Account| account.roster.subscription(&other);
        if record.says == Says::Request && !self.accounts.get(&user).map(says).unwrap_or_default().pending_in
        {
            self.say_again(user, other, |slots| slots.my_publish.as_ref());
        }
    }

    /// Sends the same record once more, unless it is on its way or was sent so not long ago.
    fn say_again(
        &mut self,
        user: UserId,
        other: UserId,
        which: impl Fn(&Slots) -> Option<&Verified<ContactRecord>>,
    ) {
        let mono = self.now.mono;
        let relation = self.accounts.get(&user).and_then(|account| account.roster.relations.get(&other));
        let due = |relation: &&Relation| relation.said_again.is_none_or(|at| mono >= at + AGAIN);
        let Some(record) = relation.filter(due).and_then(|relation| which(&relation.slots)).cloned() else {
            return;
        };
        if self.waiting(&other, record.bytes()).is_some() {
            return;
        }
        if let Some(account) = self.accounts.get_mut(&user)
            && let Some(relation) = account.roster.relations.get_mut(&other)
        {
            relation.said_again = Some(mono);
        }
        if self.send_record(user, other, record).is_err() {
            self.count("contact records that could not be sent again");
        }
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

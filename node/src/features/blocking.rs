//! XEP-0191: Blocking Command. *Pure.*

use crosstalk_storage::Tree;
use jid::Jid;

use crate::core::Core;
use crate::core::room::full;
use crate::xmpp::{Condition, Element, StanzaError, ns};

use super::{Answer, Feature, Handled, NOTHING, Request};

/// Addresses on a block list.
pub(crate) const LIMIT: usize = 1_000;

pub(super) const FEATURE: Feature = Feature {
    iq: &[("blocklist", ns::BLOCKING), ("block", ns::BLOCKING), ("unblock", ns::BLOCKING)],
    handle,
    node: &[ns::BLOCKING],
    account: &[ns::BLOCKING],
    ..NOTHING
};

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let (user, id) = request.owner(core)?;
    let Some(account) = core.accounts.get(&user) else { return Err(Condition::ItemNotFound.into()) };
    if !request.is_set() {
        let items = account.blocked.iter().map(|jid| item(jid)).collect::<Vec<_>>();
        if let Some(session) = core.session_mut(id) {
            session.blocklist = true;
        }
        core.changed_by(request.origin);
        return Ok(Answer::Result(Some(Element::new("blocklist", ns::BLOCKING).children_from(items))));
    }
    let jids = addresses(request.payload)?;
    if let Some(error) = core.store_error() {
        return Err(error);
    }
    match request.payload.name() {
        "block" if jids.is_empty() => return Err(Condition::BadRequest.into()),
        "block" if account.blocked.len() + jids.len() > LIMIT => {
            let text = format!("a block list has at most {LIMIT} addresses: block a domain, or unblock some");
            return Err(StanzaError::new(Condition::ResourceConstraint, text));
        }
        "block" if !core.has_room(Tree::Block, jids.len()) => return Err(full("blocked addresses")),
        "block" => core.block(user, &jids),
        "unblock" if jids.is_empty() => {
            let all: Vec<Jid> = account.blocked.iter().filter_map(|jid| Jid::new(jid).ok()).collect();
            core.unblock(user, &all);
        }
        "unblock" => core.unblock(user, &jids),
        _ => return Err(Condition::BadRequest.into()),
    }
    core.push_blocking(user, request.payload);
    Ok(Answer::Changed(None))
}

fn addresses(payload: &Element) -> Result<Vec<Jid>, StanzaError> {
    let address = |item: &Element| {
        let text = item.get_attr("jid").ok_or(Condition::BadRequest)?;
        Jid::new(text).map_err(|why| StanzaError::new(Condition::JidMalformed, format!("{text}: {why}")))
    };
    payload.children().filter(|child| child.is("item", ns::BLOCKING)).map(address).collect()
}

fn item(jid: &str) -> Element {
    Element::new("item", ns::BLOCKING).attr("jid", jid)
}

/// The error for something sent to an address that the sender blocks (XEP-0191 §3.4).
pub(crate) fn blocked_by_you() -> StanzaError {
    StanzaError::new(Condition::NotAcceptable, "you block this address: unblock it first")
        .with_type(crate::xmpp::ErrorType::Cancel)
        .with_detail(Element::new("blocked", ns::BLOCKING_ERRORS))
}

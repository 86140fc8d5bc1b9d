//! RFC 6121 §2: the contact list, with versioning (§2.6) and subscription pre-approval (§3.4). *Pure.*

use jid::BareJid;

use crate::core::Core;
use crate::core::nearby::DIRTY;
use crate::xmpp::{Condition, Element, StanzaError, ns};

use super::{Answer, Feature, Handled, NOTHING, Request};

pub(super) const FEATURE: Feature = Feature { iq: &[("query", ns::ROSTER)], handle, ..NOTHING };

pub(super) const VERSIONING: Feature =
    Feature { stream: Some(|| Element::new("ver", ns::ROSTER_VERSIONING)), ..NOTHING };

pub(super) const PRE_APPROVAL: Feature =
    Feature { stream: Some(|| Element::new("sub", ns::PRE_APPROVAL)), ..NOTHING };

/// Changes told one by one; of more, the whole list is shorter.
const MOST_PUSHES: usize = 100;

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let (user, id) = request.owner(core)?;
    if request.is_set() {
        return set(core, user, request.payload);
    }
    let Some(account) = core.accounts.get(&user) else { return Err(Condition::ItemNotFound.into()) };
    let version = account.stored.roster_version;
    // A version that is told has to last: while nothing can be saved none is, and nobody waits.
    let lasts = core.store_error().is_none();
    let claimed = request.payload.get_attr("ver").filter(|_| lasts);
    let known = claimed.and_then(|claimed| known_version(claimed, version, account.roster.told_from));
    let element = |item| core.contact_element(user, item);
    let changed = known.map(|known| {
        let mut changed: Vec<_> = account.roster.items.values().filter(|item| item.version > known).collect();
        changed.sort_by_key(|item| item.version);
        changed
    });
    let (result, changes) = match changed.filter(|changed| changed.len() <= MOST_PUSHES) {
        Some(changed) => (None, changed.into_iter().map(|item| (item.version, element(item))).collect()),
        None => {
            let query = Element::new("query", ns::ROSTER).attr_opt("ver", lasts.then(|| version.to_string()));
            (Some(query.children_from(account.roster.listed().map(element))), Vec::new())
        }
    };
    if let Some(session) = core.session_mut(id) {
        session.interested = true;
    }
    core.changed_by(request.origin);
    core.answer(request.origin, request.iq.result(result), lasts);
    for (version, item) in changes {
        core.push_to(id, user, item, Some(version));
    }
    core.show_all_nearby(id);
    Ok(Answer::Later)
}

/// The version from which a client needs only the changes. A list that had neighbours in it is fetched anew.
fn known_version(claimed: &str, current: u64, told_from: u64) -> Option<u64> {
    if claimed.ends_with(DIRTY) {
        return None;
    }
    claimed.parse().ok().filter(|known| *known <= current && *known >= told_from)
}

fn set(core: &mut Core, user: crosstalk_overlay::id::UserId, query: &Element) -> Handled {
    let mut items = query.children();
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(StanzaError::new(Condition::BadRequest, "a roster set has exactly one item"));
    };
    let jid = item.get_attr("jid").and_then(|jid| BareJid::new(jid).ok());
    let jid =
        jid.ok_or_else(|| StanzaError::new(Condition::JidMalformed, "the item's jid is no bare address"))?;
    if item.get_attr("subscription") == Some("remove") {
        core.remove_contact(user, &jid)?;
        return Ok(Answer::Changed(None));
    }
    let groups = item.children().filter(|child| child.is("group", ns::ROSTER));
    let mut groups: Vec<String> = groups.map(|group| group.own_text().to_string()).collect();
    groups.sort();
    let before = groups.len();
    groups.dedup();
    if groups.len() < before {
        return Err(StanzaError::new(Condition::BadRequest, "a group is named twice"));
    }
    core.set_contact(user, &jid, item.get_attr("name").map(str::to_owned), groups)?;
    Ok(Answer::Changed(None))
}

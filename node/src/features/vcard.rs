//! XEP-0054: vcard-temp, with the picture whose hash clients announce by XEP-0153. *Pure.*

use crate::core::Core;
use crate::xmpp::{Condition, Element, StanzaError, ns};

use super::{Answer, Feature, Handled, NOTHING, Request, Target};

/// Bytes of a vCard with its picture, so that it fits into a statement for the server; an avatar of 96×96 has about 10 kB.
pub(crate) const LIMIT: usize = 56 * 1_024;

pub(super) const FEATURE: Feature =
    Feature { iq: &[("vCard", ns::VCARD)], handle, node: &[ns::VCARD], account: &[ns::VCARD], ..NOTHING };

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let Target::Account(user) = request.target else { return Err(Condition::ServiceUnavailable.into()) };
    if !request.is_set() {
        let hidden = core.accounts.get(&user).is_some_and(|account| account.stored.hidden);
        if hidden && !core.may_see(user, request) {
            return Err(Condition::ServiceUnavailable.into());
        }
        let card = core.vcard(user).unwrap_or_else(|| Element::new("vCard", ns::VCARD));
        return Ok(Answer::Result(Some(card)));
    }
    request.owner(core)?;
    if let Some(error) = core.store_error() {
        return Err(error);
    }
    let bytes = request.payload.to_bytes(ns::CLIENT);
    if bytes.len() > LIMIT {
        let text = "a vCard has at most 56 KiB with its picture: choose a smaller picture";
        return Err(StanzaError::new(Condition::NotAcceptable, text));
    }
    let nickname =
        request.payload.get("NICKNAME", ns::VCARD).or_else(|| request.payload.get("FN", ns::VCARD));
    let nickname =
        nickname.map(|element| element.own_text().trim().to_owned()).filter(|name| !name.is_empty());
    core.set_vcard(user, bytes, nickname);
    Ok(Answer::Changed(None))
}

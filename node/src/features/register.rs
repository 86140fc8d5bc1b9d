//! XEP-0077: In-Band Registration of a logged-in client: change of password, removal of the account. *Pure.*
//!
//! Registration of a new account happens before authentication, in `c2s`.

use zeroize::Zeroizing;

use crate::core::Core;
use crate::xmpp::{Condition, Element, StanzaError, ns};

use super::{Answer, Feature, Handled, NOTHING, Request, Target};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("query", ns::REGISTER)], handle, node: &[ns::REGISTER], ..NOTHING };

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let super::Origin::Session(id) = request.origin else { return Err(Condition::Forbidden.into()) };
    let user = core.session(id).map(|session| session.user).ok_or(Condition::Forbidden)?;
    if request.target != Target::Node && request.target != Target::Account(user) {
        return Err(Condition::Forbidden.into());
    }
    let name = core.accounts.get(&user).map(|account| account.stored.name.clone()).unwrap_or_default();
    let field = |field| request.payload.get(field, ns::REGISTER).map(Element::own_text);
    if !request.is_set() {
        let query = Element::new("query", ns::REGISTER)
            .child(Element::new("registered", ns::REGISTER))
            .child(Element::new("username", ns::REGISTER).text(&name))
            .child(Element::new("password", ns::REGISTER));
        return Ok(Answer::Result(Some(query)));
    }
    if let Some(error) = core.store_error() {
        return Err(error);
    }
    if request.payload.has("remove", ns::REGISTER) {
        core.remove_account_for(id, request.iq);
        return Ok(Answer::Later);
    }
    match (field("username"), field("password")) {
        (Some(username), Some(password)) if username == name.as_str() && !password.is_empty() => {
            if core.password_is_changing(user) {
                let text = "the password is being changed already: wait a moment";
                return Err(StanzaError::new(Condition::ResourceConstraint, text));
            }
            core.new_password(id, user, request.iq, Zeroizing::new(password.to_string()));
            Ok(Answer::Later)
        }
        (Some(username), Some(_)) if username != name.as_str() => {
            Err(StanzaError::new(Condition::NotAllowed, format!("you are logged in as {name}")))
        }
        _ => Err(StanzaError::new(Condition::BadRequest, "a new password needs username and password")),
    }
}

//! XEP-0050: the command that says who a contact is: how sure that is, and the keys that two people compare. *Pure.*

use jid::BareJid;

use crate::core::Core;
use crate::features::{Answer, Handled, Origin, Request, Target};
use crate::xmpp::form::{field, form, form_type, submitted, text};
use crate::xmpp::{Condition, Element, StanzaError, ns};

/// The command.
pub(crate) const NODE: &str = "urn:crosstalk:identity";
/// What it is called.
pub(crate) const NAME: &str = "Contact: who it is, and how sure that is";

pub(super) fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let (Origin::Session(id), Target::Node) = (request.origin, request.target) else {
        return Err(Condition::ServiceUnavailable.into());
    };
    let user = core.session(id).map(|session| session.user).ok_or(Condition::Forbidden)?;
    let command = request.payload;
    match (command.get_attr("action"), submitted(command)) {
        (Some("cancel"), _) => Ok(Answer::Result(Some(step(request, "canceled")))),
        (_, None) => Ok(Answer::Result(Some(question(request)))),
        (_, Some(fields)) => {
            let address =
                fields.iter().find(|(var, _)| var == "address").map_or("", |(_, text)| text.as_str());
            let address = BareJid::new(address).map_err(|why| {
                StanzaError::new(Condition::JidMalformed, format!("{address} is no address: {why}"))
            })?;
            let identity = core.identity(user, &address);
            let mut result = form("result")
                .child(text("title", NAME))
                .child(form_type(NODE))
                .child(field("address", "jid-single", "Address", address.as_str()))
                .child(field("tier", "text-single", "How sure it is", &identity.tier));
            if let Some(key) = &identity.key {
                result.push(field("key", "text-single", "Their key", key));
                result.push(field("own-key", "text-single", "Your key", &identity.own));
            }
            Ok(Answer::Result(Some(step(request, "completed").child(result))))
        }
    }
}

fn step(request: &Request<'_>, status: &str) -> Element {
    super::step_of(request, NODE, status)
}

fn question(request: &Request<'_>) -> Element {
    let actions = Element::new("actions", ns::COMMANDS)
        .attr("execute", "complete")
        .child(Element::new("complete", ns::COMMANDS));
    let instructions =
        "If both of you read the same two keys, by telephone or face to face, nobody is between you.";
    let asked = form("form")
        .child(text("title", NAME))
        .child(text("instructions", instructions))
        .child(form_type(NODE))
        .child(field("address", "jid-single", "Address", ""));
    step(request, "executing").child(actions).child(asked)
}

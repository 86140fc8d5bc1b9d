//! XEP-0050: Ad-Hoc Commands: what the directory of the domain may show of the account; who a contact is ([`identity`]). *Pure.*
//!
//! Nothing is remembered between two steps: what is submitted says all.

pub(crate) mod identity;

use crate::core::Core;
use crate::core::directory::{ListingView, Show};
use crate::xmpp::form::{form, form_type, submitted, text};
use crate::xmpp::{Condition, Element, StanzaError, ns};

use super::{Answer, Feature, Handled, NOTHING, Origin, Request, Target};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("command", ns::COMMANDS)], handle, node: &[ns::COMMANDS], ..NOTHING };

/// The command.
pub(super) const LISTING: &str = "urn:crosstalk:directory";
/// What it is called.
pub(super) const NAME: &str = "Directory: who may find you";

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    match request.payload.get_attr("node") {
        Some(identity::NODE) if request.is_set() => identity::handle(core, request),
        _ => listing(core, request),
    }
}

fn listing(core: &mut Core, request: &Request<'_>) -> Handled {
    let (Origin::Session(id), Target::Node) = (request.origin, request.target) else {
        return Err(Condition::ServiceUnavailable.into());
    };
    let user = core.session(id).map(|session| session.user).ok_or(Condition::Forbidden)?;
    let command = request.payload;
    let view =
        core.listing_view(&user).filter(|_| command.get_attr("node") == Some(LISTING) && request.is_set());
    let view = view.ok_or(Condition::ItemNotFound)?;
    match (command.get_attr("action"), submitted(command)) {
        (Some("cancel"), _) => Ok(Answer::Result(Some(step(request, "canceled")))),
        (_, None) => Ok(Answer::Result(Some(choice(request, &view)))),
        (_, Some(fields)) => {
            let chosen =
                fields.iter().find(|(var, _)| var == "shown").and_then(|(_, text)| Show::from_name(text));
            let show = chosen.ok_or_else(|| {
                StanzaError::new(Condition::BadRequest, "choose what the directory may show")
            })?;
            if let Some(error) = core.store_error() {
                return Err(error);
            }
            core.show_in_directory(user, show)
                .map_err(|why| StanzaError::new(Condition::ServiceUnavailable, why))?;
            let note = Element::new("note", ns::COMMANDS).attr("type", "info").text(said(show));
            Ok(Answer::Changed(Some(step(request, "completed").child(note))))
        }
    }
}

/// What the person is told afterwards.
fn said(show: Show) -> &'static str {
    match show {
        Show::Off => "You are not found in the directory any more, as soon as the server has heard of it.",
        Show::Nickname | Show::FullName => {
            "You are found in the directory as soon as the server has heard of it."
        }
    }
}

fn step(request: &Request<'_>, status: &str) -> Element {
    step_of(request, LISTING, status)
}

fn step_of(request: &Request<'_>, node: &str, status: &str) -> Element {
    // The client has to name one; ours says nothing.
    let session = request.payload.get_attr("sessionid").unwrap_or("crosstalk");
    Element::new("command", ns::COMMANDS).attr("node", node).attr("sessionid", session).attr("status", status)
}

/// What can be chosen, with all that would be shown.
fn choice(request: &Request<'_>, view: &ListingView) -> Element {
    let instructions = match &view.directory {
        Some(domain) => format!(
            "Users of {domain} can search for you by what you let them see, also while you are away. Nobody else can."
        ),
        None => "The server of your domain has no directory now: nobody finds you.".to_owned(),
    };
    let option = |show: Show, label: String| {
        let value = Element::new("value", ns::DATA).text(show.as_str());
        Element::new("option", ns::DATA).attr("label", label).child(value)
    };
    let field = Element::new("field", ns::DATA)
        .attr("var", "shown")
        .attr("type", "list-single")
        .attr("label", "The directory shows")
        .child(Element::new("value", ns::DATA).text(view.shown.as_str()))
        .child(option(Show::Off, format!("{}: I do not stand in it", view.seen(Show::Off))))
        .child(option(Show::Nickname, view.seen(Show::Nickname)))
        .child(option(Show::FullName, view.seen(Show::FullName)));
    let form = form("form")
        .child(text("title", NAME))
        .child(text("instructions", &instructions))
        .child(form_type(LISTING))
        .child(field);
    let actions = Element::new("actions", ns::COMMANDS)
        .attr("execute", "complete")
        .child(Element::new("complete", ns::COMMANDS));
    step(request, "executing").child(actions).child(form)
}

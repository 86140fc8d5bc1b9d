//! Registration before login (XEP-0077 §3.1): only where it is switched on, and only from this machine.

use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use crate::xmpp::{Condition, Element, Stanza, StanzaError, Type, ns};

use super::credentials;

/// A person at this machine asks for an account.
pub struct RegisterRequest {
    /// Wanted login name, as it was typed.
    pub name: String,
    /// Domain of the stream.
    pub domain: String,
    /// Wanted password, not prepared yet.
    pub password: Zeroizing<String>,
    /// What became of it. The error goes to the client; dropping this says `internal-server-error`.
    pub reply: oneshot::Sender<Result<(), StanzaError>>,
}

/// Answers an IQ about registration; `requests` is where wishes go, if they are allowed.
pub(super) async fn answer(
    iq: &Stanza,
    domain: &str,
    requests: Option<&mpsc::Sender<RegisterRequest>>,
) -> Option<Stanza> {
    let result = match requests {
        None => Err(StanzaError::new(Condition::ServiceUnavailable, "ask the person who runs this node")),
        Some(_) if iq.type_ == Type::Get => Ok(Some(form())),
        Some(requests) => ask(iq, domain, requests).await.map(|()| None),
    };
    match result {
        Ok(payload) => Some(iq.result(payload)),
        Err(error) => iq.error(&error),
    }
}

fn form() -> Element {
    let field = |name| Element::new(name, ns::REGISTER);
    field("query")
        .child(field("instructions").text("Choose a name and a password for an account on this node."))
        .child(field("username"))
        .child(field("password"))
}

async fn ask(iq: &Stanza, domain: &str, requests: &mpsc::Sender<RegisterRequest>) -> Result<(), StanzaError> {
    let query = iq.get("query", ns::REGISTER).ok_or(Condition::BadRequest)?;
    let field = |name| query.get(name, ns::REGISTER).map(Element::own_text).filter(|text| !text.is_empty());
    let (Some(name), Some(password)) = (field("username"), field("password")) else {
        return Err(StanzaError::new(Condition::NotAcceptable, "a name and a password are needed"));
    };
    credentials::prepare_password(&password)
        .map_err(|why| StanzaError::new(Condition::NotAcceptable, why.to_string()))?;
    let (reply, answer) = oneshot::channel();
    let password = Zeroizing::new(password.into_string());
    let request = RegisterRequest { name: name.into_string(), domain: domain.to_owned(), password, reply };
    requests.try_send(request).map_err(|_| {
        StanzaError::new(Condition::ResourceConstraint, "others are registering: try again in a minute")
    })?;
    answer.await.unwrap_or_else(|_| Err(Condition::InternalServerError.into()))
}

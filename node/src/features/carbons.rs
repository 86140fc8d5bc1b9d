//! XEP-0280: Message Carbons. *Pure.*

use jid::{BareJid, Jid};

use crate::core::Core;
use crate::xmpp::{Element, Kind, Stanza, Type, ns};

use super::{Answer, Feature, Handled, NOTHING, Request};

pub(super) const FEATURE: Feature = Feature {
    iq: &[("enable", ns::CARBONS), ("disable", ns::CARBONS)],
    handle,
    node: &[ns::CARBONS],
    account: &[ns::CARBONS],
    ..NOTHING
};

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let (_, id) = request.owner(core)?;
    if let Some(session) = core.session_mut(id) {
        session.carbons = request.payload.name() == "enable";
    }
    core.changed_by(request.origin);
    Ok(Answer::Result(None))
}

/// Which way the copied message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Another session sent it.
    Sent,
    /// Another session received it.
    Received,
}

/// Whether a message is one that other sessions get a copy of (XEP-0280 §6.1).
pub(crate) fn wants_copy(message: &Stanza) -> bool {
    let chat =
        message.type_ == Type::Chat || message.type_ == Type::Normal && message.has("body", ns::CLIENT);
    chat && !message.has("private", ns::CARBONS) && !message.has("no-copy", ns::HINTS)
}

/// Whether a message to a client is such a copy.
pub(crate) fn is_copy(message: &Stanza) -> bool {
    message.has("sent", ns::CARBONS) || message.has("received", ns::CARBONS)
}

/// The copy for one session (XEP-0280 §5, XEP-0297), or for whichever session comes.
pub(crate) fn wrap(direction: Direction, message: &Stanza, account: &BareJid, to: Jid) -> Stanza {
    let name = match direction {
        Direction::Sent => "sent",
        Direction::Received => "received",
    };
    let forwarded = Element::new("forwarded", ns::FORWARD).child(message.to_element());
    let mut copy = Stanza::new(Kind::Message, message.type_);
    copy.from = Some(account.clone().into());
    copy.to = Some(to);
    copy.payload = vec![Element::new(name, ns::CARBONS).child(forwarded)];
    copy
}

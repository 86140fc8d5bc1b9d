//! What the core does itself and only has to be announced: RFC 6120 §7 binding, RFC 3921 sessions, XEP-0198 stream
//! management, XEP-0352 client state, XEP-0160 offline messages. *Pure.*

use crate::core::Core;
use crate::xmpp::{Element, ns};

use super::{Answer, Feature, Handled, NOTHING, Request};

pub(super) const BIND: Feature = Feature { stream: Some(|| Element::new("bind", ns::BIND)), ..NOTHING };

/// Old clients open a session after binding; RFC 6121 made that a formality.
pub(super) const SESSION: Feature = Feature {
    iq: &[("session", ns::SESSION)],
    handle: session,
    stream: Some(|| Element::new("session", ns::SESSION).child(Element::new("optional", ns::SESSION))),
    ..NOTHING
};

pub(super) const STREAM_MANAGEMENT: Feature =
    Feature { stream: Some(|| Element::new("sm", ns::SM)), ..NOTHING };

pub(super) const CLIENT_STATE: Feature = Feature { stream: Some(|| Element::new("csi", ns::CSI)), ..NOTHING };

pub(super) const OFFLINE: Feature = Feature { node: &[ns::OFFLINE], ..NOTHING };

fn session(_: &mut Core, _: &Request<'_>) -> Handled {
    Ok(Answer::Result(None))
}

//! XMPP features: one small file each, and the table of what each handles and advertises. *Pure.*
//!
//! A feature never calls another: it answers a request, or asks the core. To add one, write its file with its XEP in
//! the first line, and add its line to `TABLE`; disco, stream features and entity capabilities follow from it.

pub(crate) mod blocking;
mod bookkeeping;
mod caps;
pub(crate) mod carbons;
pub(crate) mod commands;
pub(crate) mod delay;
mod disco;
mod last;
mod ping;
pub(crate) mod register;
mod roster;
pub(crate) mod search;
pub(crate) mod stanza_id;
mod time;
pub(crate) mod vcard;
mod version;

use crosstalk_overlay::id::UserId;

use crate::core::Core;
use crate::core::Origin;
use crate::core::session::SessionId;
use crate::xmpp::{Condition, Element, Stanza, StanzaError, Type};

/// Whom a request is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The node: its domain.
    Node,
    /// The bare address of an account, or no address at all from its own client.
    Account(UserId),
    /// The directory of a domain.
    Directory,
}

/// An IQ request on its way to a feature.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) origin: Origin,
    pub(crate) target: Target,
    pub(crate) iq: &'a Stanza,
    /// The one child.
    pub(crate) payload: &'a Element,
}

impl Request<'_> {
    /// The account whose own client asks, and the session.
    ///
    /// # Errors
    /// `forbidden` for anybody else.
    pub(crate) fn owner(&self, core: &Core) -> Result<(UserId, SessionId), StanzaError> {
        match (self.origin, self.target) {
            (Origin::Session(id), Target::Account(user))
                if core.session(id).is_some_and(|s| s.user == user) =>
            {
                Ok((user, id))
            }
            _ => Err(Condition::Forbidden.into()),
        }
    }

    /// Whether it is an IQ of type `set`.
    pub(crate) fn is_set(&self) -> bool {
        self.iq.type_ == Type::Set
    }
}

/// What a feature says to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A result that promises nothing.
    Result(Option<Element>),
    /// A result that stands for a change: it waits for the commit.
    Changed(Option<Element>),
    /// The feature answered itself, or will.
    Later,
}

/// What [`handle`] of a feature returns.
pub(crate) type Handled = Result<Answer, StanzaError>;

/// A line of the table.
struct Feature {
    /// Element and namespace of the IQ payloads that it handles.
    iq: &'static [(&'static str, &'static str)],
    handle: fn(&mut Core, &Request<'_>) -> Handled,
    /// What the node advertises in disco#info (XEP-0030).
    node: &'static [&'static str],
    /// What the bare address of an account advertises.
    account: &'static [&'static str],
    /// What the directory of a domain advertises.
    directory: &'static [&'static str],
    /// What is announced when a stream is authenticated.
    stream: Option<fn() -> Element>,
}

const TABLE: &[Feature] = &[
    disco::FEATURE,
    roster::FEATURE,
    roster::VERSIONING,
    roster::PRE_APPROVAL,
    bookkeeping::BIND,
    bookkeeping::SESSION,
    bookkeeping::STREAM_MANAGEMENT,
    bookkeeping::CLIENT_STATE,
    bookkeeping::OFFLINE,
    caps::FEATURE,
    carbons::FEATURE,
    blocking::FEATURE,
    stanza_id::FEATURE,
    ping::FEATURE,
    version::FEATURE,
    time::FEATURE,
    last::FEATURE,
    vcard::FEATURE,
    register::FEATURE,
    search::FEATURE,
    commands::FEATURE,
];

/// For features that handle no IQ.
fn handles_nothing(_: &mut Core, _: &Request<'_>) -> Handled {
    Err(Condition::ServiceUnavailable.into())
}

/// A line with nothing in it.
const NOTHING: Feature =
    Feature { iq: &[], handle: handles_nothing, node: &[], account: &[], directory: &[], stream: None };

/// Stream features of an authenticated stream (RFC 6120 §4.3.2).
pub fn stream_features() -> Vec<Element> {
    TABLE.iter().filter_map(|feature| feature.stream).map(|stream| stream()).collect()
}

/// Hands an IQ request to the feature that handles it, and its answer to whoever asked.
pub(crate) fn handle(core: &mut Core, origin: Origin, target: Target, iq: Stanza) {
    let Some(payload) = iq.payload.first() else { return };
    let handles = |feature: &&Feature| feature.iq.iter().any(|(name, ns)| payload.is(name, ns));
    let request = Request { origin, target, iq: &iq, payload };
    let handled = match TABLE.iter().find(handles) {
        Some(feature) => (feature.handle)(core, &request),
        None => Err(Condition::ServiceUnavailable.into()),
    };
    match handled {
        Ok(Answer::Result(payload)) => core.answer(origin, iq.result(payload), false),
        Ok(Answer::Changed(payload)) => {
            core.changed_by(origin);
            core.answer(origin, iq.result(payload), true);
        }
        Ok(Answer::Later) => {}
        Err(error) => core.bounce(origin, &iq, &error),
    }
}

//! XEP-0199: XMPP Ping. *Pure.*

use crate::core::Core;
use crate::xmpp::ns;

use super::{Answer, Feature, Handled, NOTHING, Request};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("ping", ns::PING)], handle, node: &[ns::PING], account: &[ns::PING], ..NOTHING };

fn handle(_: &mut Core, _: &Request<'_>) -> Handled {
    Ok(Answer::Result(None))
}

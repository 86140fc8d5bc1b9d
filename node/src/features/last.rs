//! XEP-0012: Last Activity, of the node and of accounts for those who may see their presence. *Pure.*

use crate::core::Core;
use crate::xmpp::{Condition, Element, ns};

use super::{Answer, Feature, Handled, NOTHING, Request, Target};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("query", ns::LAST)], handle, node: &[ns::LAST], account: &[ns::LAST], ..NOTHING };

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let seconds = match request.target {
        Target::Node => core.uptime() / 1_000,
        Target::Directory => return Err(Condition::ServiceUnavailable.into()),
        Target::Account(user) => {
            if !core.may_see(user, request) {
                return Err(Condition::Forbidden.into());
            }
            match core.is_online(&user) {
                true => 0,
                false => core.last_seen(&user).map_or(0, |seen| core.now.wall.saturating_sub(seen) / 1_000),
            }
        }
    };
    Ok(Answer::Result(Some(Element::new("query", ns::LAST).attr("seconds", seconds.to_string()))))
}

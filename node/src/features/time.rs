//! XEP-0202: Entity Time. *Pure.*

use crate::core::Core;
use crate::xmpp::{Condition, Element, ns};

use super::{Answer, Feature, Handled, NOTHING, Request, Target, delay};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("time", ns::TIME)], handle, node: &[ns::TIME], ..NOTHING };

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    if request.target != Target::Node || request.is_set() {
        return Err(Condition::ServiceUnavailable.into());
    }
    let time = Element::new("time", ns::TIME)
        .child(Element::new("tzo", ns::TIME).text("+00:00"))
        .child(Element::new("utc", ns::TIME).text(&delay::datetime(core.now.wall)));
    Ok(Answer::Result(Some(time)))
}

//! XEP-0092: Software Version. The operating system is nobody's business and is left out. *Pure.*

use crate::core::Core;
use crate::xmpp::{Condition, Element, ns};

use super::{Answer, Feature, Handled, NOTHING, Request, Target};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("query", ns::VERSION)], handle, node: &[ns::VERSION], ..NOTHING };

fn handle(_: &mut Core, request: &Request<'_>) -> Handled {
    if request.target != Target::Node || request.is_set() {
        return Err(Condition::ServiceUnavailable.into());
    }
    let query = Element::new("query", ns::VERSION)
        .child(Element::new("name", ns::VERSION).text("CrossTalk"))
        .child(Element::new("version", ns::VERSION).text(env!("CARGO_PKG_VERSION")));
    Ok(Answer::Result(Some(query)))
}

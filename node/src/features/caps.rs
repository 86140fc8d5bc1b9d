//! XEP-0115: Entity Capabilities of the node, announced as a stream feature; those of clients travel in their
//! presence. *Pure.*

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::xmpp::{Element, ns};

use super::{Feature, NOTHING, Target, disco};

/// Names the program.
const PROGRAM: &str = "urn:crosstalk";

pub(super) const FEATURE: Feature = Feature { node: &[ns::CAPS], stream: Some(element), ..NOTHING };

fn element() -> Element {
    Element::new("c", ns::CAPS).attr("hash", "sha-1").attr("node", PROGRAM).attr("ver", verification())
}

/// The disco node that the hash stands for.
pub(super) fn node() -> String {
    format!("{PROGRAM}#{}", verification())
}

/// The verification string of XEP-0115 §5.1.
fn verification() -> String {
    let (category, kind, name) = disco::identity(Target::Node);
    let mut text = format!("{category}/{kind}//{name}<");
    for feature in disco::features(Target::Node) {
        text.push_str(feature);
        text.push('<');
    }
    STANDARD.encode(Sha1::digest(text.as_bytes()))
}

//! XEP-0359: Unique and Stable Stanza IDs, stamped for the account that a message is delivered to. *Pure.*

use crate::core::hex;
use crate::xmpp::{Element, Stanza, ns};

use super::{Feature, NOTHING};

pub(super) const FEATURE: Feature = Feature { account: &[ns::STANZA_ID], ..NOTHING };

/// Gives a message the id that it has here, and removes what claims to be one (XEP-0359 §3, rule 3).
pub(crate) fn stamp(message: &mut Stanza, by: &str, id: &[u8; 16]) {
    let forged = |child: &Element| child.is("stanza-id", ns::STANZA_ID) && child.get_attr("by") == Some(by);
    message.payload.retain(|child| !forged(child));
    if *id != [0; 16] {
        let stamp = Element::new("stanza-id", ns::STANZA_ID).attr("by", by).attr("id", hex(id));
        message.payload.push(stamp);
    }
}

/// The id that a message was stamped with.
pub(crate) fn read(message: &Stanza) -> Option<[u8; 16]> {
    let text = message.get("stanza-id", ns::STANZA_ID)?.get_attr("id")?;
    let mut id = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(id)
}

//! Reading the fields of payloads: lengths, versions, clock readings. *Pure.*

use super::{Refusal, VERSION};
use crate::time::Hlc;

/// Reads a 32-byte field.
pub(crate) fn key_field(bytes: &[u8], kind: &'static str, what: &'static str) -> Result<[u8; 32], Refusal> {
    bytes.try_into().map_err(|_| Refusal::Malformed { kind, what })
}

/// Reads a 16-byte field.
pub(crate) fn id_field(bytes: &[u8], kind: &'static str, what: &'static str) -> Result<[u8; 16], Refusal> {
    bytes.try_into().map_err(|_| Refusal::Malformed { kind, what })
}

/// Refuses text that is longer than `max` bytes.
pub(crate) fn text_field(
    text: String,
    max: usize,
    kind: &'static str,
    what: &'static str,
) -> Result<String, Refusal> {
    if text.len() > max { Err(Refusal::Malformed { kind, what }) } else { Ok(text) }
}

/// Decodes a payload and checks its version, which every payload has as field 1.
pub(crate) fn payload<P: prost::Message + Default>(
    bytes: &[u8],
    kind: &'static str,
    version: impl Fn(&P) -> u32,
) -> Result<P, Refusal> {
    let payload = P::decode(bytes).map_err(|_| Refusal::Malformed { kind, what: "payload" })?;
    match version(&payload) {
        VERSION => Ok(payload),
        version => Err(Refusal::Version { kind, version }),
    }
}

/// A clock reading inside a payload.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct HlcField {
    #[prost(uint64, tag = "1")]
    pub(crate) millis: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) counter: u32,
}

impl From<Hlc> for HlcField {
    fn from(hlc: Hlc) -> Self {
        Self { millis: hlc.millis, counter: hlc.counter }
    }
}

/// Reads a clock reading that has to be there.
pub(crate) fn hlc_field(
    field: Option<HlcField>,
    kind: &'static str,
    what: &'static str,
) -> Result<Hlc, Refusal> {
    let field = field.ok_or(Refusal::Malformed { kind, what })?;
    Ok(Hlc { millis: field.millis, counter: field.counter })
}

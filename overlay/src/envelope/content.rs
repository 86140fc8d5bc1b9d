//! What a durable message says. *Pure.*

use std::fmt;

use prost::Message as _;

use super::MAX_CONTENT;
use crate::id::{PresenceId, UserId};
use crate::keys::AudienceKey;
use crate::record::{
    HlcField, Record as _, Refusal, Token, VERSION, hlc_field, key_field, payload, text_field,
};
use crate::time::Hlc;

/// Tokens in one message at most.
pub const MAX_TOKENS: usize = 64;
/// Bytes of a resourcepart (RFC 7622 §3.4).
const MAX_RESOURCE: usize = 1_023;

/// What a durable message says.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A stanza from one user to another.
    Stanza {
        /// Resourcepart of the sender, may be empty.
        from_resource: String,
        /// Resourcepart that it is addressed to, may be empty.
        to_resource: String,
        /// The stanza; the overlay never looks inside.
        xml: Vec<u8>,
    },
    /// A signed [`crate::record::ContactRecord`].
    Contact(Vec<u8>),
    /// For the sender's own other devices: a copy of a stanza that was sent to `to`.
    Copy {
        /// To whom the stanza went.
        to: UserId,
        /// Resourcepart of the sender, may be empty.
        from_resource: String,
        /// Resourcepart that it was addressed to, may be empty.
        to_resource: String,
        /// The stanza.
        xml: Vec<u8>,
    },
    /// The keys that the sending device can be found and its presence read by. For the overlay itself.
    Audience {
        /// Where it stands in the hash table, and who signs it there.
        presence: PresenceId,
        /// What it is sealed with.
        key: AudienceKey,
        /// When the pair was made; of two by one device the later counts.
        at: Hlc,
    },
    /// Signed [`crate::record::Token`]s for the sender's mailbox, at most [`MAX_TOKENS`]. For the overlay itself.
    Tokens(Vec<Vec<u8>>),
    /// For the sender's own other devices: a part of the account, which the overlay never looks into.
    Sync(Vec<u8>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stanza { xml, .. } => write!(f, "Stanza({} bytes)", xml.len()),
            Self::Contact(record) => write!(f, "Contact({} bytes)", record.len()),
            Self::Audience { presence, .. } => write!(f, "Audience({presence})"),
            Self::Tokens(tokens) => write!(f, "Tokens({})", tokens.len()),
            Self::Sync(bytes) => write!(f, "Sync({} bytes)", bytes.len()),
            Self::Copy { to, xml, .. } => write!(f, "Copy(to {to}, {} bytes)", xml.len()),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContentPayload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "ContentKind", tags = "2, 3, 4, 5, 6, 7")]
    kind: Option<ContentKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ContentKind {
    #[prost(message, tag = "2")]
    Stanza(StanzaField),
    #[prost(bytes, tag = "3")]
    Contact(Vec<u8>),
    #[prost(message, tag = "4")]
    Copy(StanzaField),
    #[prost(message, tag = "5")]
    Audience(AudienceField),
    #[prost(bytes, tag = "6")]
    Sync(Vec<u8>),
    #[prost(message, tag = "7")]
    Tokens(TokensField),
}

#[derive(Clone, PartialEq, prost::Message)]
struct TokensField {
    #[prost(bytes = "vec", repeated, tag = "1")]
    tokens: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AudienceField {
    #[prost(bytes = "vec", tag = "1")]
    presence: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    at: Option<HlcField>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StanzaField {
    #[prost(string, tag = "1")]
    from_resource: String,
    #[prost(string, tag = "2")]
    to_resource: String,
    #[prost(bytes = "vec", tag = "3")]
    xml: Vec<u8>,
    /// Only in a copy.
    #[prost(bytes = "vec", tag = "4")]
    to: Vec<u8>,
}

impl Content {
    /// Whether only a user's own devices may say it to each other.
    pub fn is_among_own(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Sync(_))
    }

    /// The bytes for envelope and store.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.clone() {
            Self::Stanza { from_resource, to_resource, xml } => {
                ContentKind::Stanza(StanzaField { from_resource, to_resource, xml, to: Vec::new() })
            }
            Self::Contact(record) => ContentKind::Contact(record),
            Self::Copy { to, from_resource, to_resource, xml } => {
                ContentKind::Copy(StanzaField { from_resource, to_resource, xml, to: to.as_bytes().to_vec() })
            }
            Self::Audience { presence, key, at } => ContentKind::Audience(AudienceField {
                presence: presence.as_bytes().to_vec(),
                key: key.seed().to_vec(),
                at: Some(at.into()),
            }),
            Self::Tokens(tokens) => ContentKind::Tokens(TokensField { tokens }),
            Self::Sync(bytes) => ContentKind::Sync(bytes),
        };
        ContentPayload { version: VERSION, kind: Some(kind) }.encode_to_vec()
    }

    /// Reads [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = "content";
        if bytes.len() > MAX_CONTENT {
            return Err(Refusal::TooLarge { kind, size: bytes.len(), max: MAX_CONTENT });
        }
        let fields: ContentPayload = payload(bytes, kind, |fields: &ContentPayload| fields.version)?;
        let resource = |text| text_field(text, MAX_RESOURCE, kind, "resource");
        Ok(match fields.kind.ok_or(Refusal::Malformed { kind, what: "kind" })? {
            ContentKind::Stanza(StanzaField { from_resource, to_resource, xml, .. }) => Self::Stanza {
                from_resource: resource(from_resource)?,
                to_resource: resource(to_resource)?,
                xml,
            },
            ContentKind::Contact(record) => Self::Contact(record),
            ContentKind::Copy(StanzaField { from_resource, to_resource, xml, to }) => Self::Copy {
                to: UserId::from_bytes(key_field(&to, kind, "to")?),
                from_resource: resource(from_resource)?,
                to_resource: resource(to_resource)?,
                xml,
            },
            ContentKind::Audience(AudienceField { presence, key, at }) => Self::Audience {
                presence: PresenceId::from_bytes(key_field(&presence, kind, "presence key")?),
                key: AudienceKey::from_seed(key_field(&key, kind, "audience key")?),
                at: hlc_field(at, kind, "at")?,
            },
            ContentKind::Tokens(TokensField { tokens }) => {
                if tokens.len() > MAX_TOKENS || tokens.iter().any(|token| token.len() > Token::MAX_SIZE) {
                    return Err(Refusal::Malformed { kind, what: "list of tokens" });
                }
                Self::Tokens(tokens)
            }
            ContentKind::Sync(bytes) => Self::Sync(bytes),
        })
    }
}

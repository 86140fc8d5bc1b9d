//! Message, presence and IQ (RFC 6120 §8): addresses and type parsed, payload as elements. *Pure.*

use std::fmt;

use compact_str::CompactString;
use jid::Jid;

use super::element::{Attribute, Element, write_attribute};
use super::error::{Condition, StanzaError};
use super::ns::{self, Namespace};

/// Longest id of an IQ, bytes.
const IQ_ID_BYTES: usize = 1_023;

/// Which of the three stanzas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// The element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }
}

/// The `type` attribute; which are legal depends on the [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Message without `type`, or `normal` (RFC 6121 §5.2.2); also any unknown message type.
    Normal,
    /// One-to-one chat.
    Chat,
    /// Multi-user chat.
    Groupchat,
    /// Alert, not answered.
    Headline,
    /// Presence without `type`.
    Available,
    /// No longer available.
    Unavailable,
    /// Subscription request.
    Subscribe,
    /// Subscription granted.
    Subscribed,
    /// Subscription withdrawn.
    Unsubscribe,
    /// Subscription refused or cancelled.
    Unsubscribed,
    /// Request for current presence.
    Probe,
    /// Request for information.
    Get,
    /// Request for a change.
    Set,
    /// Answer to a get or set.
    Result,
    /// Any stanza that reports an error.
    Error,
}

impl Type {
    fn parse(kind: Kind, value: Option<&str>) -> Option<Self> {
        Some(match (kind, value) {
            (_, Some("error")) => Self::Error,
            (Kind::Message, Some("chat")) => Self::Chat,
            (Kind::Message, Some("groupchat")) => Self::Groupchat,
            (Kind::Message, Some("headline")) => Self::Headline,
            (Kind::Message, _) => Self::Normal,
            (Kind::Presence, None) => Self::Available,
            (Kind::Presence, Some("unavailable")) => Self::Unavailable,
            (Kind::Presence, Some("subscribe")) => Self::Subscribe,
            (Kind::Presence, Some("subscribed")) => Self::Subscribed,
            (Kind::Presence, Some("unsubscribe")) => Self::Unsubscribe,
            (Kind::Presence, Some("unsubscribed")) => Self::Unsubscribed,
            (Kind::Presence, Some("probe")) => Self::Probe,
            (Kind::Iq, Some("get")) => Self::Get,
            (Kind::Iq, Some("set")) => Self::Set,
            (Kind::Iq, Some("result")) => Self::Result,
            (Kind::Presence | Kind::Iq, _) => return None,
        })
    }

    /// The attribute's value; `None` where the attribute is left out.
    pub fn as_str(self) -> Option<&'static str> {
        Some(match self {
            Self::Normal | Self::Available => return None,
            Self::Chat => "chat",
            Self::Groupchat => "groupchat",
            Self::Headline => "headline",
            Self::Unavailable => "unavailable",
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
            Self::Probe => "probe",
            Self::Get => "get",
            Self::Set => "set",
            Self::Result => "result",
            Self::Error => "error",
        })
    }
}

/// A stanza. `from` of what a client sent is stamped from its session, never taken from the wire. `Debug`
/// shows what it is and its size, neither addresses nor text.
#[derive(Clone, PartialEq, Eq)]
pub struct Stanza {
    /// Message, presence or IQ.
    pub kind: Kind,
    /// The `type` attribute.
    pub type_: Type,
    /// Sender.
    pub from: Option<Jid>,
    /// Addressee.
    pub to: Option<Jid>,
    /// The sender's id.
    pub id: Option<CompactString>,
    /// `xml:lang`.
    pub lang: Option<CompactString>,
    /// Child elements.
    pub payload: Vec<Element>,
}

impl Stanza {
    /// An empty stanza.
    pub fn new(kind: Kind, type_: Type) -> Self {
        Self { kind, type_, from: None, to: None, id: None, lang: None, payload: Vec::new() }
    }

    /// An IQ request from this node with an id of its own.
    pub fn iq(type_: Type, id: &str, payload: Element) -> Self {
        Self { id: Some(id.into()), payload: vec![payload], ..Self::new(Kind::Iq, type_) }
    }

    /// Reads what [`Self::to_bytes`] wrote: from the store, or from another node.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::of(Element::read(bytes)?)
    }

    /// The same for what another node wrote, see [`Element::read_from_peer`].
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read_from_peer(bytes: &[u8]) -> Result<Self, String> {
        Self::of(Element::read_from_peer(bytes)?)
    }

    fn of(element: Element) -> Result<Self, String> {
        let kind = Self::kind_of(&element).filter(|_| element.ns() == ns::CLIENT).ok_or("no stanza")?;
        Self::from_element(kind, element).map_err(|(_, error)| error.text.unwrap_or_default())
    }

    /// Which stanza an element is by its name, whatever its namespace.
    pub fn kind_of(element: &Element) -> Option<Kind> {
        match element.name() {
            "message" => Some(Kind::Message),
            "presence" => Some(Kind::Presence),
            "iq" => Some(Kind::Iq),
            _ => None,
        }
    }

    /// Reads a stanza from its element.
    ///
    /// # Errors
    /// The stanza as far as it could be read and the error of RFC 6120 for its sender: `jid-malformed` for an
    /// address that is none, `bad-request` for a type or shape that does not exist.
    pub fn from_element(kind: Kind, element: Element) -> Result<Self, (Box<Self>, StanzaError)> {
        let type_ = Type::parse(kind, element.get_attr("type"));
        // What has no such type is answered as a request would be.
        let answerable = if kind == Kind::Iq { Type::Get } else { Type::Available };
        let mut stanza = Self::new(kind, type_.unwrap_or(answerable));
        stanza.id = element.get_attr("id").map(Into::into);
        stanza.lang = element.lang().map(Into::into);
        let mut error = type_
            .is_none()
            .then(|| StanzaError::new(Condition::BadRequest, format!("{} has no such type", kind.as_str())));
        for (name, slot) in [("to", &mut stanza.to), ("from", &mut stanza.from)] {
            match element.get_attr(name).map(Jid::new).transpose() {
                Ok(address) => *slot = address,
                Err(_) if name == "from" => {}
                Err(why) => {
                    error = Some(StanzaError::new(
                        Condition::JidMalformed,
                        format!("'{name}' is no address: {why}"),
                    ));
                }
            }
        }
        stanza.payload = element.into_children().collect();
        if kind == Kind::Iq && error.is_none() {
            error = stanza.iq_shape_error();
        }
        match error {
            Some(error) => Err((Box::new(stanza), error)),
            None => Ok(stanza),
        }
    }

    /// RFC 6120 §8.2.3: an id always, and exactly one payload in a request. The id is remembered until the answer comes,
    /// so it has a limit.
    fn iq_shape_error(&self) -> Option<StanzaError> {
        let request = matches!(self.type_, Type::Get | Type::Set);
        if self.id.as_ref().is_some_and(|id| id.len() > IQ_ID_BYTES) {
            return Some(StanzaError::new(
                Condition::PolicyViolation,
                "the id of an iq has at most 1,023 bytes",
            ));
        }
        match (self.id.is_some(), request, self.payload.len()) {
            (false, _, _) => Some(StanzaError::new(Condition::BadRequest, "an iq needs an id")),
            (true, true, 1) | (true, false, _) => None,
            (true, true, _) => {
                Some(StanzaError::new(Condition::BadRequest, "an iq request has exactly one child"))
            }
        }
    }

    /// First payload element with this name and namespace.
    pub fn get(&self, name: &str, ns: &str) -> Option<&Element> {
        self.payload.iter().find(|child| child.is(name, ns))
    }

    /// Whether there is a payload element with this name and namespace.
    pub fn has(&self, name: &str, ns: &str) -> bool {
        self.get(name, ns).is_some()
    }

    /// Whether this is a request that must be answered.
    pub fn is_request(&self) -> bool {
        self.kind == Kind::Iq && matches!(self.type_, Type::Get | Type::Set)
    }

    /// Removes payload elements with this name and namespace.
    pub fn remove(&mut self, name: &str, ns: &str) {
        self.payload.retain(|child| !child.is(name, ns));
    }

    /// The empty or filled result of an IQ request.
    pub fn result(&self, payload: Option<Element>) -> Self {
        Self { payload: payload.into_iter().collect(), ..self.answer(Type::Result) }
    }

    /// This stanza sent back with an error. `None` for stanzas that must not be answered (RFC 6120 §8.3.1).
    pub fn error(&self, error: &StanzaError) -> Option<Self> {
        if self.type_ == Type::Error || (self.kind == Kind::Iq && self.type_ == Type::Result) {
            return None;
        }
        Some(Self { payload: vec![error.to_element()], ..self.answer(Type::Error) })
    }

    /// What [`Self::error`] needs of a stanza that is given away: everything but its payload.
    #[must_use]
    pub fn error_base(&self) -> Self {
        Self {
            kind: self.kind,
            type_: self.type_,
            from: self.from.clone(),
            to: self.to.clone(),
            id: self.id.clone(),
            lang: None,
            payload: Vec::new(),
        }
    }

    fn answer(&self, type_: Type) -> Self {
        Self {
            kind: self.kind,
            type_,
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            lang: None,
            payload: Vec::new(),
        }
    }

    /// Writes the stanza for a stream whose default namespace is `jabber:client`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'<');
        out.extend_from_slice(self.kind.as_str().as_bytes());
        if let Some(from) = &self.from {
            write_attribute(out, "from", from.as_str());
        }
        if let Some(to) = &self.to {
            write_attribute(out, "to", to.as_str());
        }
        if let Some(id) = &self.id {
            write_attribute(out, "id", id);
        }
        if let Some(type_) = self.type_.as_str() {
            write_attribute(out, "type", type_);
        }
        if let Some(lang) = &self.lang {
            write_attribute(out, "xml:lang", lang);
        }
        if self.payload.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for child in &self.payload {
            child.write(out, ns::CLIENT);
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.push(b'>');
    }

    /// The stanza as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.write(&mut out);
        out
    }

    /// The stanza as an element, for forwarding (XEP-0297).
    pub fn to_element(&self) -> Element {
        let mut element = Element::new(self.kind.as_str(), ns::CLIENT)
            .attr_opt("from", self.from.as_ref().map(Jid::as_str))
            .attr_opt("to", self.to.as_ref().map(Jid::as_str))
            .attr_opt("id", self.id.as_deref())
            .attr_opt("type", self.type_.as_str());
        if let Some(lang) = &self.lang {
            let ns = Some(Namespace::new(ns::XML));
            element.push_attribute(Attribute { ns, name: "lang".into(), value: lang.clone() });
        }
        element.children_from(self.payload.iter().cloned())
    }
}

impl fmt::Debug for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}) ", self.kind, self.type_)?;
        f.debug_list().entries(&self.payload).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_text() {
        let stanza = Stanza::read(b"<message to='bob@b' type='chat'><body>secret</body></message>").unwrap();
        let shown = format!("{stanza:?}");
        assert!(shown.starts_with("Message (Chat)") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_id_of_an_iq_has_a_limit() {
        let iq = |length: usize| {
            format!("<iq type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>", "i".repeat(length))
        };
        assert!(Stanza::read(iq(1_023).as_bytes()).is_ok());
        assert!(Stanza::read(iq(1_024).as_bytes()).is_err());
    }

    /// What is just taken from another node can be read again with all that this node adds; what is longer than that is
    /// bounded by the frame, and is written no longer than it was read.
    #[test]
    fn what_a_peer_sent_is_readable_with_our_stamps() {
        let most = crate::xmpp::framer::Limits::FROM_PEER.elements;
        let message = |elements: usize| {
            let rest = "<a/>".repeat(elements - 2);
            format!("<message type='chat'><body>x</body>{rest}</message>").into_bytes()
        };
        assert!(Stanza::read_from_peer(&message(most + 1)).is_err());
        let mut stanza = Stanza::read_from_peer(&message(most)).unwrap();
        let long = format!("{}@far.example/{}", "n".repeat(1_023), "r".repeat(1_023));
        let long = Jid::new(&long).unwrap();
        stanza.from = Some(long.clone());
        stanza.to = Some(long.clone());
        crate::features::stanza_id::stamp(&mut stanza, long.as_str(), &[7; 16]);
        crate::features::delay::stamp(&mut stanza, "far.example", 1);
        assert_eq!(Stanza::read(&stanza.to_bytes()).as_ref(), Ok(&stanza));
    }
}

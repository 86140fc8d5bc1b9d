//! Namespace names, and a type that costs nothing for the known ones. *Pure.*

use std::borrow::Cow;

macro_rules! namespaces {
    ($($name:ident = $uri:literal),* $(,)?) => {
        $(#[doc = concat!("`", $uri, "`")] pub const $name: &str = $uri;)*
        const KNOWN: &[&str] = &[$($uri),*];
    };
}

namespaces! {
    CLIENT = "jabber:client",
    COMPONENT = "jabber:component:accept",
    STREAMS = "http://etherx.jabber.org/streams",
    STREAM_ERROR = "urn:ietf:params:xml:ns:xmpp-streams",
    STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas",
    TLS = "urn:ietf:params:xml:ns:xmpp-tls",
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl",
    SASL2 = "urn:xmpp:sasl:2",
    CHANNEL_BINDING = "urn:xmpp:sasl-cb:0",
    BIND = "urn:ietf:params:xml:ns:xmpp-bind",
    BIND2 = "urn:xmpp:bind:0",
    SESSION = "urn:ietf:params:xml:ns:xmpp-session",
    ROSTER = "jabber:iq:roster",
    ROSTER_VERSIONING = "urn:xmpp:features:rosterver",
    PRE_APPROVAL = "urn:xmpp:features:pre-approval",
    DISCO_INFO = "http://jabber.org/protocol/disco#info",
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items",
    CAPS = "http://jabber.org/protocol/caps",
    SM = "urn:xmpp:sm:3",
    CARBONS = "urn:xmpp:carbons:2",
    FORWARD = "urn:xmpp:forward:0",
    CSI = "urn:xmpp:csi:0",
    BLOCKING = "urn:xmpp:blocking",
    BLOCKING_ERRORS = "urn:xmpp:blocking:errors",
    REGISTER = "jabber:iq:register",
    REGISTER_FEATURE = "http://jabber.org/features/iq-register",
    VCARD = "vcard-temp",
    VCARD_UPDATE = "vcard-temp:x:update",
    NICK = "http://jabber.org/protocol/nick",
    LAST = "jabber:iq:last",
    TIME = "urn:xmpp:time",
    VERSION = "jabber:iq:version",
    PING = "urn:xmpp:ping",
    DELAY = "urn:xmpp:delay",
    HINTS = "urn:xmpp:hints",
    STANZA_ID = "urn:xmpp:sid:0",
    CHAT_STATES = "http://jabber.org/protocol/chatstates",
    OFFLINE = "msgoffline",
    RECEIPTS = "urn:xmpp:receipts",
    MUC_USER = "http://jabber.org/protocol/muc#user",
    EVENT = "jabber:x:event",
    XHTML = "http://www.w3.org/1999/xhtml",
    XHTML_IM = "http://jabber.org/protocol/xhtml-im",
    SI = "http://jabber.org/protocol/si",
    DATA = "jabber:x:data",
    SEARCH = "jabber:iq:search",
    COMMANDS = "http://jabber.org/protocol/commands",
    BYTESTREAMS = "http://jabber.org/protocol/bytestreams",
    XML = "http://www.w3.org/XML/1998/namespace",
}

/// A namespace name: borrowed when it is one of the constants here, owned otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(Cow<'static, str>);

impl Namespace {
    /// The namespace with this name.
    pub fn new(uri: &str) -> Self {
        match KNOWN.iter().find(|known| **known == uri) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(uri.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Namespace {
    fn from(uri: &str) -> Self {
        Self::new(uri)
    }
}

impl PartialEq<str> for Namespace {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

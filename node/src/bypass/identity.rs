//! Whose connection it is, of one that is XMPP in plain: the server's word alone counts (RFC 6120 §6.4.6, §7.6; XEP-0388 §2.6).
//! *Pure.*
//!
//! Only what the server says is read, until it has let the client in and bound it; what the client says of itself is
//! never looked at. Behind STARTTLS, compression or the resumption of an earlier stream nothing can be known.

use jid::{BareJid, Jid};

use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, ns};

/// A server's features, challenges and answers to a binding are far smaller.
const LIMITS: Limits =
    Limits { stanza_bytes: 8 << 10, written_bytes: 16 << 10, depth: 8, attributes: 32, elements: 128 };
const SASL2: &str = "urn:xmpp:sasl:2";
const COMPRESS: &str = "http://jabber.org/protocol/compress";

/// What the server has said of its client so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Not enough.
    More,
    /// It is this user.
    User(BareJid),
    /// It will not be known.
    Nothing(Unknown),
}

/// Why it will not be known who a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// What follows is encrypted or compressed, or goes on with an earlier stream.
    Hidden,
    /// It is no XMPP that can be read, or the server names a user of another domain.
    Broken,
}

/// Listens to a server.
#[derive(Debug)]
pub(super) struct Identity {
    framer: Framer,
    /// The domain for which the server speaks, by the header of its stream.
    domain: Option<String>,
    /// The server has let the client in.
    admitted: bool,
}

impl Identity {
    pub(super) fn new() -> Self {
        Self { framer: Framer::new(LIMITS), domain: None, admitted: false }
    }

    /// Takes what the server says. Once it is anything but [`Said::More`], nothing more is to be heard.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> Said {
        while !bytes.is_empty() {
            let said = match self.framer.next(&mut bytes) {
                Ok(Some(frame)) => self.frame(&frame),
                Ok(None) => Said::More,
                Err(_) => Said::Nothing(Unknown::Broken),
            };
            if said != Said::More {
                return said;
            }
        }
        Said::More
    }

    fn frame(&mut self, frame: &Frame) -> Said {
        let element = match frame {
            Frame::Open(header) => {
                let domain = header.get_attr("from").and_then(|from| Jid::new(from).ok());
                self.domain = domain.map(|domain| domain.domain().to_string());
                return Said::More;
            }
            Frame::Element(element) => element,
            Frame::Close => return Said::Nothing(Unknown::Hidden),
        };
        match (element.name(), element.ns()) {
            ("success", ns::SASL) => {
                self.admitted = true;
                self.framer.reset(LIMITS);
                Said::More
            }
            ("success", SASL2) => self.user(element.get("authorization-identifier", SASL2)),
            ("proceed", ns::TLS) | ("compressed", COMPRESS) | ("resumed", _) => {
                Said::Nothing(Unknown::Hidden)
            }
            // The first stanza behind the success is the answer to the binding: others can write to it only afterwards.
            ("iq", ns::CLIENT) if self.admitted && element.get_attr("type") == Some("result") => {
                let bound = element.get("bind", ns::BIND);
                self.user(bound.and_then(|bound| bound.get("jid", ns::BIND)))
            }
            ("iq", ns::CLIENT) if element.get_attr("type") == Some("error") => Said::More,
            ("iq" | "message" | "presence", _) => Said::Nothing(Unknown::Hidden),
            _ => Said::More,
        }
    }

    fn user(&self, named: Option<&Element>) -> Said {
        let user = named.and_then(|named| Jid::new(&named.own_text()).ok()).map(|jid| jid.to_bare());
        match user {
            Some(user) if user.node().is_some() && self.domain.as_deref() == Some(user.domain().as_str()) => {
                Said::User(user)
            }
            _ => Said::Nothing(Unknown::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams' from='A.example'>";
    const SUCCESS: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></stream:features>\
        <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    const FEATURES: &str =
        "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";

    fn bound(jid: &str) -> String {
        format!(
            "<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind></iq>"
        )
    }

    /// What comes of it, in one piece and byte for byte.
    fn said(parts: &[&str]) -> Said {
        let text = parts.concat();
        let mut whole = Identity::new();
        let mut single = Identity::new();
        let in_one = whole.hear(text.as_bytes());
        let mut bytes = text.as_bytes().chunks(1).map(|byte| single.hear(byte));
        assert_eq!(bytes.find(|said| *said != Said::More).unwrap_or(Said::More), in_one, "{text}");
        in_one
    }

    fn user(jid: &str) -> Said {
        Said::User(BareJid::new(jid).expect("an address"))
    }

    #[test]
    fn success_and_binding_say_who_it_is() {
        let romeo = bound("romeo@a.example/orchard");
        let login = [HEADER, SUCCESS, HEADER, FEATURES, &romeo];
        assert_eq!(said(&login), user("romeo@a.example"));
        assert_eq!(said(&login[..4]), Said::More, "let in, and not bound");
        let refused = "<iq type='error' id='b'><error type='cancel'/></iq>";
        assert_eq!(said(&[HEADER, SUCCESS, HEADER, FEATURES, refused, &romeo]), user("romeo@a.example"));
        let sasl2 = "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>romeo@a.example</authorization-identifier></success>";
        assert_eq!(said(&[HEADER, sasl2]), user("romeo@a.example"));
    }

    #[test]
    fn nothing_else_does() {
        let romeo = bound("romeo@a.example/orchard");
        let hidden = Said::Nothing(Unknown::Hidden);
        assert_eq!(said(&[HEADER, &romeo]), hidden, "bound before it was let in");
        let message = "<message from='evil@a.example'><body>x</body></message>";
        assert_eq!(said(&[HEADER, SUCCESS, HEADER, message, &romeo]), hidden);
        assert_eq!(said(&[HEADER, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", &romeo]), hidden);
        let resumed = "<resumed xmlns='urn:xmpp:sm:3' previd='1' h='0'/>";
        assert_eq!(said(&[HEADER, SUCCESS, HEADER, resumed, &romeo]), hidden);
        let broken = Said::Nothing(Unknown::Broken);
        for other in ["romeo@b.example/x", "a.example", "@", ""] {
            assert_eq!(said(&[HEADER, SUCCESS, HEADER, &bound(other)]), broken, "{other}");
        }
        assert_eq!(said(&[HEADER, SUCCESS, HEADER, "<iq type='result' id='b'/>", &romeo]), broken);
        assert_eq!(said(&[HEADER, "<a b=c/>"]), broken);
        assert_eq!(said(&[HEADER, &format!("<a b='{}'/>", "x".repeat(9_000))]), broken);
    }
}

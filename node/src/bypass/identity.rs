//! Whose connection it is, of one that is XMPP in plain or whose TLS ends here: the server's word alone counts (RFC 6120 §6.4.6,
//! §7.6; XEP-0388 §2.6). *Pure.*
//!
//! Only what the server says is read, until it has let the client in and bound it; what the client says of itself is
//! never looked at. Behind STARTTLS and compression nothing can be known. A stream that is resumed (XEP-0198 §5) is of whom
//! it was bound to; of a server that has proved its domain the id of a stream is learnt, which comes soon behind the binding.

use jid::{BareJid, Jid};

use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, ns};

/// A server's features, challenges and answers to a binding are far smaller.
pub(super) const LIMITS: Limits =
    Limits { stanza_bytes: 8 << 10, written_bytes: 16 << 10, depth: 8, attributes: 32, elements: 128 };
const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// Elements behind the binding that are looked at for the id of the stream.
const BEHIND: u32 = 16;
/// The longest id of a stream.
const LONGEST_ID: usize = 255;

/// What the server has said of its client so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Not enough.
    More,
    /// It is this user.
    User(BareJid),
    /// The stream of that user can be resumed by this id.
    Stream(String),
    /// It goes on with the stream of this id.
    Resumed(String),
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
    /// The domain for which the server speaks: the one it has proved, or the one in the header of its stream.
    domain: Option<String>,
    proved: bool,
    /// The server has let the client in.
    admitted: bool,
    /// How many more elements are looked at, once it has bound the client.
    behind: Option<u32>,
    /// Found together with what was said last.
    next: Option<Said>,
}

impl Identity {
    /// A server of whom only is known what it says.
    pub(super) fn new() -> Self {
        let framer = Framer::new(LIMITS);
        Self { framer, domain: None, proved: false, admitted: false, behind: None, next: None }
    }

    /// A server that has proved to be that of a domain.
    pub(super) fn of(domain: String) -> Self {
        Self { domain: Some(domain), proved: true, ..Self::new() }
    }

    /// Takes what the server says, up to the first thing that follows from it. Behind [`Said::Nothing`], [`Said::Resumed`] and
    /// [`Said::Stream`], and of a server that has proved nothing behind [`Said::User`], nothing more is to be heard.
    pub(super) fn hear(&mut self, bytes: &mut &[u8]) -> Said {
        if let Some(said) = self.next.take() {
            return said;
        }
        while !bytes.is_empty() {
            let said = match self.framer.next(bytes) {
                Ok(Some(frame)) => self.frame(&frame),
                Ok(None) => Said::More,
                Err(_) if self.behind.is_some() => Said::Nothing(Unknown::Hidden),
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
                if !self.proved {
                    let domain = header.get_attr("from").and_then(|from| Jid::new(from).ok());
                    self.domain = domain.map(|domain| domain.domain().to_string());
                }
                return Said::More;
            }
            Frame::Element(element) => element,
            Frame::Close => return Said::Nothing(Unknown::Hidden),
        };
        if let Some(left) = &mut self.behind {
            *left -= 1;
            let done = *left == 0;
            return match id(element, "id") {
                Some(id) if element.is("enabled", ns::SM) => Said::Stream(id),
                _ if done || element.is("failed", ns::SM) => Said::Nothing(Unknown::Hidden),
                _ => Said::More,
            };
        }
        match (element.name(), element.ns()) {
            ("success", ns::SASL) => {
                self.admitted = true;
                self.framer.reset(LIMITS);
                Said::More
            }
            ("success", ns::SASL2) => {
                let enabled = element.get("bound", ns::BIND2).and_then(|bound| bound.get("enabled", ns::SM));
                self.next = enabled.filter(|_| self.proved).and_then(|one| id(one, "id")).map(Said::Stream);
                self.user(element.get("authorization-identifier", ns::SASL2))
            }
            ("resumed", ns::SM) if self.admitted && self.proved => {
                id(element, "previd").map_or(Said::Nothing(Unknown::Hidden), Said::Resumed)
            }
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

    fn user(&mut self, named: Option<&Element>) -> Said {
        let user = named.and_then(|named| Jid::new(&named.own_text()).ok()).map(|jid| jid.to_bare());
        self.behind = Some(BEHIND);
        match user {
            Some(user) if user.node().is_some() && self.domain.as_deref() == Some(user.domain().as_str()) => {
                Said::User(user)
            }
            _ => Said::Nothing(Unknown::Broken),
        }
    }
}

/// The id of a stream that can be resumed.
fn id(element: &Element, name: &str) -> Option<String> {
    let resumes = name != "id" || matches!(element.get_attr("resume"), Some("true" | "1"));
    let id = element.get_attr(name).filter(|id| resumes && !id.is_empty() && id.len() <= LONGEST_ID);
    id.map(str::to_owned)
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
        all(Identity::new, parts).first().cloned().unwrap_or(Said::More)
    }

    /// All that comes of it, if it is heard to the end.
    fn all(new: impl Fn() -> Identity, parts: &[&str]) -> Vec<Said> {
        let text = parts.concat();
        let hear = |identity: &mut Identity, mut bytes: &[u8]| {
            let mut found = Vec::new();
            while let said @ (Said::User(_) | Said::Stream(_) | Said::Resumed(_) | Said::Nothing(_)) =
                identity.hear(&mut bytes)
            {
                found.push(said);
                if found.len() > 3 || matches!(found.last(), Some(Said::Nothing(_))) {
                    break;
                }
            }
            found
        };
        let (mut whole, mut single) = (new(), new());
        let in_one = hear(&mut whole, text.as_bytes());
        let mut in_pieces = Vec::new();
        for byte in text.as_bytes().chunks(1) {
            if !matches!(in_pieces.last(), Some(Said::Nothing(_))) {
                in_pieces.extend(hear(&mut single, byte));
            }
        }
        assert_eq!(in_pieces, in_one, "{text}");
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

    #[test]
    fn a_server_that_has_proved_its_domain_says_how_a_stream_is_resumed() {
        let proved = || Identity::of("a.example".into());
        let romeo = bound("romeo@a.example/orchard");
        let enabled = "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>";
        let stream = Said::Stream("s1".into());
        let is_romeo = user("romeo@a.example");
        let login = [HEADER, SUCCESS, HEADER, FEATURES, &romeo];
        let roster = "<iq type='result'><query xmlns='jabber:iq:roster'/></iq>";
        assert_eq!(
            all(proved, &[&login[..], &[roster, enabled]].concat()),
            [is_romeo.clone(), stream.clone()]
        );
        let hidden = Said::Nothing(Unknown::Hidden);
        let many = roster.repeat(BEHIND as usize);
        let long = format!("<message><body>{}</body></message>", "x".repeat(9_000));
        for nothing in [&many[..], &long, "</stream:stream>", "<failed xmlns='urn:xmpp:sm:3'/>", "<a b=c/>"] {
            assert_eq!(
                all(proved, &[&login[..], &[nothing, enabled]].concat()),
                [is_romeo.clone(), hidden.clone()]
            );
        }
        let sasl2 = "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>romeo@a.example/x</authorization-identifier>\
            <bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='s1' resume='1'/></bound></success>";
        assert_eq!(all(proved, &[HEADER, sasl2]), [is_romeo.clone(), stream]);
        assert_eq!(all(Identity::new, &[HEADER, sasl2]), [is_romeo]);
        let resumed = "<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='0'/>";
        assert_eq!(all(proved, &[HEADER, SUCCESS, HEADER, resumed])[0], Said::Resumed("s1".into()));
        assert_eq!(all(proved, &[HEADER, resumed]), std::slice::from_ref(&hidden), "before it was let in");
        // The domain that it has proved counts, not the one that it names.
        let other = HEADER.replace("A.example", "b.example");
        assert_eq!(all(proved, &[&other, SUCCESS, &other, &romeo])[0], user("romeo@a.example"));
        let broken = Said::Nothing(Unknown::Broken);
        assert_eq!(all(proved, &[&other, SUCCESS, &other, &bound("romeo@b.example/x")]), [broken]);
    }
}

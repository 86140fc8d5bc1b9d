//! Owns the text of everything a load client sends, *pure*.

use super::marker::{Marker, push_hex};

/// XEP-0198 namespace.
pub const SM: &str = "urn:xmpp:sm:3";
/// XEP-0199 namespace.
pub const PING: &str = "urn:xmpp:ping";
/// RFC 6120 SASL namespace.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Stanza error namespace, RFC 6120 section 8.3.
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// Opening of a stream to `domain` (RFC 6120 section 4.7).
#[must_use]
pub fn stream_header(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xml:lang='en' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
        escape(domain)
    )
}

/// In-band registration (XEP-0077).
#[must_use]
pub fn register(user: &str, password: &str) -> String {
    format!(
        "<iq type='set' id='register'><query xmlns='jabber:iq:register'><username>{}</username>\
         <password>{}</password></query></iq>",
        escape(user),
        escape(password)
    )
}

/// Start of SASL with its first data in base64; no data at all is `=` (RFC 6120 section 6.4.2).
#[must_use]
pub fn auth(mechanism: &str, data: &str) -> String {
    let data = if data.is_empty() { "=" } else { data };
    format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{data}</auth>")
}

/// Answer to a SASL challenge, data in base64.
#[must_use]
pub fn response(data: &str) -> String {
    format!("<response xmlns='{SASL}'>{data}</response>")
}

/// Resource binding; the server may choose another resource.
#[must_use]
pub fn bind(resource: &str) -> String {
    format!(
        "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{}</resource></bind></iq>",
        escape(resource)
    )
}

/// Session establishment of RFC 3921, for servers that insist.
pub const SESSION: &str =
    "<iq type='set' id='session'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>";
/// Switches XEP-0198 on, without resumption.
pub const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
/// Asks for an acknowledgement.
pub const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
/// Available with priority 0.
pub const PRESENCE: &str = "<presence><priority>0</priority></presence>";
/// End of the stream.
pub const CLOSE: &str = "</stream:stream>";

/// Acknowledges `handled` stanzas.
#[must_use]
pub fn acknowledge(handled: u32) -> String {
    format!("<a xmlns='{SM}' h='{handled}'/>")
}

/// Answer to an IQ request: a result for a ping, else service-unavailable. `id` and `from` are raw attribute values,
/// which are free of the quote that enclosed them but not of the other one.
#[must_use]
pub fn answer(id: &str, from: Option<&str>, is_ping: bool) -> String {
    let id = id.replace('\'', "&apos;");
    let to = from.map(|from| format!(" to='{}'", from.replace('\'', "&apos;"))).unwrap_or_default();
    if is_ping {
        return format!("<iq type='result' id='{id}'{to}/>");
    }
    format!(
        "<iq type='error' id='{id}'{to}><error type='cancel'><service-unavailable xmlns='{STANZAS}'/></error></iq>"
    )
}

/// Everything of a message to one recipient that does not change.
#[derive(Clone, Debug)]
pub struct Template {
    head: String,
    tail: String,
}

impl Template {
    /// Messages to `jid` with a body of `body_bytes`, at least the marker's.
    #[must_use]
    pub fn new(jid: &str, body_bytes: usize) -> Self {
        let words = "the quick brown fox jumps over the lazy dog and ";
        let padding = body_bytes.saturating_sub(super::marker::MARKER_BYTES);
        let filler: String = words.chars().cycle().take(padding).collect();
        Self {
            head: format!("<message type='chat' to='{}' id='", escape(jid)),
            tail: format!("{filler}</body></message>"),
        }
    }

    /// Appends one message.
    pub fn write(&self, marker: Marker, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        push_hex(out, u64::from(marker.sender) << 32 | u64::from(marker.sequence), 16);
        out.extend_from_slice(b"'><body>");
        marker.encode(out);
        out.extend_from_slice(self.tail.as_bytes());
    }
}

/// The sender that the id of a message names.
#[must_use]
pub fn sender_of(id: &[u8]) -> Option<usize> {
    let number = u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?;
    usize::try_from(number >> 32).ok()
}

/// Text with the five XML characters replaced.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// Text with the five named entities resolved; others stay as they are.
#[must_use]
pub fn unescape(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'").replace("&quot;", "\"");
    plain.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::super::marker::MarkerFinder;
    use super::super::scanner::{Piece, next_piece, text_of};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_one_stanza_with_a_body_of_the_asked_length() {
        let template = Template::new("a'b@c/d&e", 150);
        let marker = Marker { sender: 3, sequence: 4, time: 5 };
        let mut out = Vec::new();
        template.write(marker, &mut out);
        let (piece, length) = next_piece(&out).unwrap().unwrap();
        assert_eq!(length, out.len());
        let Piece::Stanza(stanza) = piece else { panic!("not a stanza") };
        assert_eq!(text_of(stanza, "body").unwrap().len(), 150);
        assert_eq!(MarkerFinder::default().find(stanza), Some(marker));
    }

    #[test]
    fn answers_keep_quotes_out_of_attributes() {
        let answer = answer("a'b", Some("x@y"), false);
        assert!(answer.contains("id='a&apos;b' to='x@y'"));
        assert!(answer.contains("service-unavailable"));
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(text: String) {
            prop_assert_eq!(unescape(&escape(&text)), text);
        }
    }
}

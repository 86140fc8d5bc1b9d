//! Messages as stock programs of XEP-0174 write and read them ⇄ messages of our clients. *Pure.*
//!
//! libpurple takes a body without `<html><body><font>` for HTML, so that is added to each; XHTML-IM of another shape it
//! ignores. A message whose `jabber:x:event` (XEP-0022) has an `id` it takes for a typing notice, and drops its body.

use crate::core::message::is_only_chat_state;
use crate::xmpp::element::Node;
use crate::xmpp::{Element, Kind, Stanza, Type, ns};

/// Deepest mark-up that is read.
const DEPTH: usize = 32;

/// A client's message as it is written to a stream.
pub(super) fn outgoing(message: &Stanza, from: &str, to: &str) -> Vec<u8> {
    let mut out = addressed("message", message, from, to);
    if is_only_chat_state(message) {
        out.push(typing_notice(message));
    }
    let body = message.get("body", ns::CLIENT).map(Element::own_text);
    for child in message.payload.iter().filter(|child| leaves(child)) {
        out.push(child.clone());
    }
    if let Some(body) = body {
        out.push(marked_up(&body));
    }
    out.to_bytes(ns::CLIENT)
}

/// An IQ of a client, or of the node, as it is written to a stream.
pub(super) fn outgoing_iq(iq: &Stanza, id: &str, from: &str, to: &str, own: &str, theirs: &str) -> Vec<u8> {
    let mut out = addressed("iq", iq, from, to);
    out.set_attr("id", id);
    for child in &iq.payload {
        out.push(readdressed(child, &[(own, from), (theirs, to)], 0));
    }
    out.to_bytes(ns::CLIENT)
}

/// Names of the link where addresses stand: they may be no addresses by RFC 7622.
fn addressed(name: &str, stanza: &Stanza, from: &str, to: &str) -> Element {
    let element = Element::new(name, ns::CLIENT).attr("to", to).attr("from", from);
    element.attr_opt("type", stanza.type_.as_str()).attr_opt("id", stanza.id.as_deref())
}

/// Whether a part of a message is for the other side.
fn leaves(child: &Element) -> bool {
    let stays = child.is("html", ns::XHTML_IM)
        || child.is("html", ns::XHTML)
        || child.ns() == ns::EVENT
        || child.is("private", ns::CARBONS)
        || child.ns() == ns::STANZA_ID && child.name() == "stanza-id";
    !stays
}

fn marked_up(body: &str) -> Element {
    let mut font = Element::new("font", ns::XHTML);
    for (number, line) in body.split('\n').enumerate() {
        if number > 0 {
            font.push(Element::new("br", ns::XHTML));
        }
        font.push_text(line.trim_end_matches('\r'));
    }
    Element::new("html", ns::XHTML).child(Element::new("body", ns::XHTML).child(font))
}

/// XEP-0022 §3: with `composing` somebody types, without no longer.
fn typing_notice(message: &Stanza) -> Element {
    let notice = Element::new("x", ns::EVENT);
    let notice = match message.has("composing", ns::CHAT_STATES) {
        true => notice.child(Element::new("composing", ns::EVENT)),
        false => notice,
    };
    notice.child(Element::new("id", ns::EVENT))
}

/// A message from a stream, without addresses. `None`: there is nothing in it for anybody.
pub(super) fn incoming(element: &Element) -> Option<Stanza> {
    // Stock programs show any type as chat, also one that does not exist.
    let mut message = match Stanza::from_element(Kind::Message, unaddressed(element)) {
        Ok(message) => message,
        Err((message, _)) => *message,
    };
    if !matches!(message.type_, Type::Normal | Type::Error) {
        message.type_ = Type::Chat;
    }
    if let Some(state) = notice(&message) {
        message.remove("body", ns::CLIENT);
        message.payload.retain(|child| child.ns() != ns::CHAT_STATES);
        message.payload.push(Element::new(state, ns::CHAT_STATES));
    }
    if let Some(text) = message.get("html", ns::XHTML).and_then(font_text)
        && !text.is_empty()
    {
        message.remove("body", ns::CLIENT);
        message.payload.insert(0, Element::new("body", ns::CLIENT).text(&text));
    }
    let ours = |child: &Element| {
        child.is("html", ns::XHTML)
            || matches!(child.ns(), ns::EVENT | ns::STANZA_ID | ns::DELAY | ns::CARBONS)
    };
    message.payload.retain(|child| !ours(child));
    (!message.payload.is_empty()).then_some(message)
}

/// An IQ from a stream, with the addresses in its payload that our client knows.
pub(super) fn incoming_iq(element: &Element, names: &[(&str, &str)]) -> Option<Stanza> {
    let mut iq = Stanza::from_element(Kind::Iq, unaddressed(element)).ok()?;
    iq.payload = iq.payload.iter().map(|child| readdressed(child, names, 0)).collect();
    Some(iq)
}

/// An element without the addresses of the other side: whose it is, the stream says.
fn unaddressed(element: &Element) -> Element {
    let mut out = Element::new(element.name(), element.ns());
    let addresses = |name: &str| matches!(name, "to" | "from");
    for attribute in element.attributes().iter().filter(|a| a.ns.is_some() || !addresses(&a.name)) {
        out.push_attribute(attribute.clone());
    }
    out.children_from(element.children().cloned())
}

/// Puts other names into attributes `jid` (XEP-0065 §4).
fn readdressed(element: &Element, names: &[(&str, &str)], depth: usize) -> Element {
    let mut out = element.clone();
    let other = |jid: &str| names.iter().find(|(known, _)| *known == jid).map(|(_, other)| *other);
    if let Some(other) = element.get_attr("jid").and_then(other) {
        out.set_attr("jid", other);
    }
    if depth < DEPTH && element.children().any(|child| child.get_attr("jid").is_some()) {
        let mut rebuilt = Element::new(out.name(), out.ns());
        for attribute in out.attributes() {
            rebuilt.push_attribute(attribute.clone());
        }
        for node in out.nodes() {
            match node {
                Node::Element(child) => rebuilt.push(readdressed(child, names, depth + 1)),
                Node::Text(text) => rebuilt.push_text(text),
            }
        }
        return rebuilt;
    }
    out
}

/// A typing notice of XEP-0022 as a chat state; a message that only asks for such notices is none.
fn notice(message: &Stanza) -> Option<&'static str> {
    let event = message.get("x", ns::EVENT)?;
    event.get("id", ns::EVENT)?;
    Some(if event.has("composing", ns::EVENT) { "composing" } else { "paused" })
}

/// The text of libpurple's mark-up; `None` if it is none.
fn font_text(html: &Element) -> Option<String> {
    let body = html.get("body", ns::XHTML)?;
    body.get("font", ns::XHTML)?;
    let mut text = String::new();
    plain(body, &mut text, 0);
    Some(text.trim_end_matches('\n').to_owned())
}

fn plain(element: &Element, text: &mut String, depth: usize) {
    if depth > DEPTH {
        return;
    }
    for node in element.nodes() {
        match node {
            Node::Text(part) => text.push_str(part),
            Node::Element(child) => {
                plain(child, text, depth + 1);
                if matches!(child.name(), "br" | "BR" | "p" | "P" | "div" | "DIV") {
                    text.push('\n');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(xml: &str) -> Stanza {
        Stanza::read(xml.as_bytes()).unwrap()
    }

    fn out(xml: &str) -> String {
        String::from_utf8(outgoing(&message(xml), "anna@h1", "Bob B@h2")).unwrap()
    }

    fn read(xml: &str) -> Option<String> {
        let stanza = incoming(&Element::read(xml.as_bytes()).unwrap())?;
        Some(String::from_utf8(stanza.to_bytes()).unwrap())
    }

    #[test]
    fn a_body_is_marked_up_for_libpurple() {
        assert_eq!(
            out("<message type='chat' id='1'><body>&lt;b&gt; &amp; \nx</body></message>"),
            "<message to='Bob B@h2' from='anna@h1' type='chat' id='1'><body>&lt;b&gt; &amp; \nx</body>\
             <html xmlns='http://www.w3.org/1999/xhtml'><body><font>&lt;b&gt; &amp; <br/>x</font></body></html>\
             </message>"
        );
    }

    #[test]
    fn what_would_hide_the_body_is_left_out() {
        let sent = out(
            "<message type='chat'><body>hi</body><x xmlns='jabber:x:event'><composing/><id>1</id></x>\
             <html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><p>hi</p>\
             </body></html></message>",
        );
        assert!(!sent.contains("jabber:x:event") && !sent.contains("<p>"), "{sent}");
        assert_eq!(sent.matches("<html").count(), 1);
    }

    #[test]
    fn a_chat_state_is_a_typing_notice_too() {
        let state =
            |state| out(&format!("<message type='chat'><{state} xmlns='{}'/></message>", ns::CHAT_STATES));
        assert!(state("composing").contains("<x xmlns='jabber:x:event'><composing/><id/></x>"));
        assert!(state("paused").contains("<x xmlns='jabber:x:event'><id/></x>"));
        assert!(!out("<message><body>hi</body></message>").contains("jabber:x:event"));
    }

    #[test]
    fn the_message_of_libpurple_is_plain() {
        let sent = "<message to='bob@h2' from='anna@h1' type='chat'><body>a\nb</body>\
             <html xmlns='http://www.w3.org/1999/xhtml'><body><font>a<BR/><b>b</b> &lt;</font></body></html>\
             <x xmlns='jabber:x:event'><composing/></x></message>";
        assert_eq!(read(sent).unwrap(), "<message type='chat'><body>a\nb &lt;</body></message>");
    }

    #[test]
    fn addresses_stamps_and_copies_of_the_other_side_do_not_count() {
        let forged = "<message to='x@y' from='admin@school.example' type='groupchat'><body>hi</body>\
             <delay xmlns='urn:xmpp:delay' stamp='2001-01-01T00:00:00Z'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='1' by='bob@id.internal'/>\
             <sent xmlns='urn:xmpp:carbons:2'/></message>";
        assert_eq!(read(forged).unwrap(), "<message type='chat'><body>hi</body></message>");
    }

    #[test]
    fn other_mark_up_is_kept_beside_its_body() {
        let rich = "<message><body>hi</body><html xmlns='http://jabber.org/protocol/xhtml-im'>\
             <body xmlns='http://www.w3.org/1999/xhtml'><p>hi</p></body></html></message>";
        assert_eq!(read(rich).unwrap(), rich);
        let bare = "<message><body/><html xmlns='http://www.w3.org/1999/xhtml'><body><font>hi</font></body></html>\
             </message>";
        assert_eq!(read(bare).unwrap(), "<message><body>hi</body></message>");
    }

    #[test]
    fn a_typing_notice_is_a_chat_state_and_nothing_is_nothing() {
        let notice = "<message><body>x</body><x xmlns='jabber:x:event'><composing/><id>1</id></x></message>";
        let state = "<message><composing xmlns='http://jabber.org/protocol/chatstates'/></message>";
        assert_eq!(read(notice).unwrap(), state);
        assert_eq!(read("<message type='chat'/>"), None);
        let odd = read("<message type='nonsense'><body>x</body></message>").unwrap();
        assert_eq!(odd, "<message><body>x</body></message>");
    }

    #[test]
    fn our_own_mark_up_comes_back_as_it_was() {
        for body in ["hi", "a\nb\n\nc", "<&> \"'", "ä🤖", " two  blanks "] {
            let stanza = Stanza {
                payload: vec![Element::new("body", ns::CLIENT).text(body)],
                ..Stanza::new(Kind::Message, Type::Chat)
            };
            let element = Element::read(&outgoing(&stanza, "a@b", "c@d")).unwrap();
            let back = incoming(&element).unwrap();
            assert_eq!(back.get("body", ns::CLIENT).unwrap().own_text(), body);
        }
    }

    #[test]
    fn hosts_of_bytestreams_are_renamed() {
        let iq = "<iq type='set' id='1'><query xmlns='http://jabber.org/protocol/bytestreams' sid='s'>\
             <streamhost jid='anna@id.internal/desk' host='10.0.0.1' port='1'/></query></iq>";
        let sent = outgoing_iq(&message(iq), "l1", "anna@h1", "bob@h2", "anna@id.internal/desk", "x");
        let sent = String::from_utf8(sent).unwrap();
        assert!(sent.contains("<streamhost jid='anna@h1'") && sent.contains("id='l1'"), "{sent}");
        let element = Element::read(sent.as_bytes()).unwrap();
        let back = incoming_iq(&element, &[("anna@h1", "peer@link.internal/nearby")]).unwrap();
        assert!(String::from_utf8(back.to_bytes()).unwrap().contains("jid='peer@link.internal/nearby'"));
    }
}

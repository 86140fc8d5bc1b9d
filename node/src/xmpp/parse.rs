//! One complete top-level element, or a stream header, from text to [`Element`] with names resolved. *Pure.*
//!
//! Accepts what RFC 6120 §11 allows and no more: no comments, processing instructions, document types or entities
//! but the five predefined ones. Works without recursion, in memory bounded by [`Limits`].

use compact_str::CompactString;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::chars::{is_ncname, is_xml_char};
use super::element::{Attribute, Element, escaped_len};
use super::error::{StreamCondition, StreamError};
use super::ns::{self, Namespace};

/// How large what a client sends may be. Beyond any of these its stream ends with `policy-violation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one top-level element or stream header.
    pub stanza_bytes: usize,
    /// Elements inside each other, the top-level one counted.
    pub depth: usize,
    /// Bytes of a top-level element as this node writes it; prefixes that are gone and characters that are escaped
    /// make it longer. What is written no longer than it was read is accepted in any case.
    pub written_bytes: usize,
    /// Attributes and namespace declarations of one element, and prefixes declared at any one place; both as they
    /// were read and as they are written, so that what is written can be read again.
    pub attributes: usize,
    /// Elements in one top-level element, itself counted; keeps the tree within about 100 bytes for each.
    pub elements: usize,
}

impl Limits {
    /// For a stranger: no request before login is larger.
    pub const BEFORE_LOGIN: Self =
        Self { stanza_bytes: 64 << 10, written_bytes: 128 << 10, depth: 8, attributes: 32, elements: 64 };
    /// For a user: room for a picture in a vCard.
    pub const AFTER_LOGIN: Self =
        Self { stanza_bytes: 256 << 10, written_bytes: 512 << 10, depth: 32, attributes: 64, elements: 4096 };
    /// For what another node wrote: what its client may send, with the stamps it got there.
    pub const FROM_PEER: Self = Self {
        stanza_bytes: 512 << 10,
        written_bytes: 512 << 10,
        depth: 40,
        attributes: 128,
        elements: 8192,
    };
    /// For what this node wrote: more than is taken from anybody, by the addresses and stamps that it adds.
    pub const KEPT: Self = Self {
        stanza_bytes: 512 << 10,
        written_bytes: 512 << 10,
        depth: 48,
        attributes: 160,
        elements: 8448,
    };
}

/// Bytes of a namespace name, which is written wherever it changes.
const NAMESPACE_BYTES: usize = 1024;

/// Namespaces that a stream header declares for everything in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    default: Namespace,
    prefixes: Vec<(CompactString, Namespace)>,
}

impl Scope {
    /// A scope with a default namespace and no prefixes.
    pub fn new(default: &str) -> Self {
        Self { default: Namespace::new(default), prefixes: Vec::new() }
    }

    /// The default namespace.
    pub fn default_ns(&self) -> &str {
        self.default.as_str()
    }
}

/// A stream header as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name and attributes; it has no nodes.
    pub element: Element,
    /// The namespaces that it declares.
    pub scope: Scope,
    /// Its name as it was written, which the closing tag repeats.
    pub qualified_name: CompactString,
}

/// Reads `text`, which must be exactly one element.
///
/// # Errors
/// `not-well-formed`, `bad-namespace-prefix`, `restricted-xml`, or `policy-violation` beyond `limits`
/// (RFC 6120 §4.9.3).
pub fn element(text: &str, scope: &Scope, limits: &Limits) -> Result<Element, StreamError> {
    let mut reader = Reader::from_str(text);
    let mut tree = Tree::new(scope, limits, text.len());
    let root = loop {
        let done = match reader.read_event().map_err(|why| not_well_formed(&why))? {
            Event::Start(tag) => {
                tree.open(&tag)?;
                None
            }
            Event::Empty(tag) => {
                tree.open(&tag)?;
                tree.close()?
            }
            Event::End(_) => tree.close()?,
            Event::Text(text) => tree.text(&text.into_inner())?,
            Event::CData(text) => tree.push_lines(&text.into_inner())?,
            Event::GeneralRef(name) => {
                let mut utf8 = [0; 4];
                tree.push_text(reference(&name.into_inner())?.encode_utf8(&mut utf8))?
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => return Err(restricted()),
            Event::Eof => return Err(not_well_formed(&"the element does not end")),
        };
        if let Some(root) = done {
            break root;
        }
    };
    match reader.read_event() {
        Ok(Event::Eof) => Ok(root),
        Ok(_) | Err(_) => Err(not_well_formed(&"something follows the element")),
    }
}

/// Reads `text`, which must be exactly one start tag, as a stream header (RFC 6120 §4.7).
///
/// # Errors
/// As [`element`]; `invalid-namespace` and `bad-format` for a tag that is not the header of a stream whose stanzas are in
/// `default`. What follows is read as if they were in `jabber:client`.
pub fn header(text: &str, limits: &Limits, default: &str) -> Result<Header, StreamError> {
    let mut reader = Reader::from_str(text);
    let event = reader.read_event().map_err(|why| not_well_formed(&why))?;
    if matches!(event, Event::Empty(_)) {
        return Err(bad_format("a stream header is an open tag"));
    }
    let Event::Start(tag) = event else { return Err(not_well_formed(&"a stream header was expected")) };
    let base = Scope::new("");
    let mut bindings = Bindings { base: &base, local: Vec::new() };
    let element = read_tag(&tag, &mut bindings, limits)?;
    let mut scope = Scope::new("");
    for (prefix, namespace) in bindings.local {
        match prefix.as_str() {
            "" => scope.default = namespace,
            _ => scope.prefixes.push((prefix, namespace)),
        }
    }
    if element.ns() != ns::STREAMS || scope.default_ns() != default {
        let text = format!("a client's stream has xmlns='{default}' and xmlns:stream='{}'", ns::STREAMS);
        return Err(StreamError::new(StreamCondition::InvalidNamespace, text));
    }
    if element.name() != "stream" {
        return Err(bad_format("the stream header is called 'stream'"));
    }
    scope.default = Namespace::new(ns::CLIENT);
    Ok(Header { element, scope, qualified_name: tag.name().into_inner().into() })
}

/// Reads a start tag: an element without nodes, and the namespaces that hold inside it.
pub(super) fn scope_of(
    tag: &BytesStart<'_>,
    base: &Scope,
    limits: &Limits,
) -> Result<(Element, Scope), StreamError> {
    let mut bindings = Bindings { base, local: Vec::new() };
    let element = read_tag(tag, &mut bindings, limits)?;
    let mut scope = base.clone();
    for (prefix, namespace) in bindings.local {
        match prefix.as_str() {
            "" => scope.default = namespace,
            _ => {
                scope.prefixes.retain(|(known, _)| *known != prefix);
                scope.prefixes.push((prefix, namespace));
            }
        }
    }
    Ok((element, scope))
}

/// What `&name;` stands for.
pub(super) fn reference_text(name: &str) -> Result<CompactString, StreamError> {
    let mut utf8 = [0; 4];
    Ok(CompactString::new(reference(name)?.encode_utf8(&mut utf8)))
}

/// Elements that are open, and the namespaces declared in them.
pub(super) struct Tree<'a> {
    open: Vec<Open>,
    bindings: Bindings<'a>,
    limits: &'a Limits,
    elements: usize,
    /// Bytes of what is complete when it is written again.
    written: usize,
    most_written: usize,
}

struct Open {
    element: Element,
    /// Bindings that were there before it.
    outer: usize,
    /// Namespace declarations that hold in it when it is written again.
    declared: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(scope: &'a Scope, limits: &'a Limits, read: usize) -> Self {
        let bindings = Bindings { base: scope, local: Vec::new() };
        let most_written = limits.written_bytes.max(read);
        Self { open: Vec::with_capacity(4), bindings, limits, elements: 0, written: 0, most_written }
    }

    pub(super) fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), StreamError> {
        self.elements += 1;
        if self.open.len() >= self.limits.depth {
            return Err(too_much("elements inside each other", self.limits.depth));
        }
        if self.elements > self.limits.elements {
            return Err(too_much("elements in one stanza", self.limits.elements));
        }
        let outer = self.bindings.local.len();
        let element = read_tag(tag, &mut self.bindings, self.limits)?;
        let (scope, declared) = match self.open.last() {
            Some(parent) => (parent.element.ns(), parent.declared),
            None => (self.bindings.base.default_ns(), 0),
        };
        let size = element.own_size(scope);
        let declared = declared + size.declarations;
        if declared.max(element.attributes().len() + size.declarations) > self.limits.attributes {
            return Err(too_much("attributes and namespaces, when written", self.limits.attributes));
        }
        self.open.push(Open { element, outer, declared });
        self.grow(size.bytes)
    }

    /// Ends the innermost element; gives it back when it was the outermost, too.
    pub(super) fn close(&mut self) -> Result<Option<Element>, StreamError> {
        let Some(Open { element, outer, .. }) = self.open.pop() else { return Ok(None) };
        self.bindings.local.truncate(outer);
        if !element.nodes().is_empty() {
            // `></name>` instead of `/>`.
            self.grow(element.name().len() + 2)?;
        }
        match self.open.last_mut() {
            Some(parent) => {
                parent.element.push(element);
                Ok(None)
            }
            None => Ok(Some(element)),
        }
    }

    /// Counts bytes that will be written.
    fn grow(&mut self, bytes: usize) -> Result<(), StreamError> {
        self.written += bytes;
        match self.written > self.most_written {
            true => Err(too_much("bytes in one stanza, when written", self.most_written)),
            false => Ok(()),
        }
    }

    pub(super) fn text(&mut self, raw: &str) -> Result<Option<Element>, StreamError> {
        if memchr::memchr(b']', raw.as_bytes()).is_some() && raw.contains("]]>") {
            return Err(not_well_formed(&"']]>' stands in text"));
        }
        self.push_lines(raw)
    }

    /// Adds text with its line ends normalised (XML 1.0, 2.11).
    pub(super) fn push_lines(&mut self, raw: &str) -> Result<Option<Element>, StreamError> {
        if memchr::memchr(b'\r', raw.as_bytes()).is_none() {
            return self.push_text(raw);
        }
        self.push_text(&raw.replace("\r\n", "\n").replace('\r', "\n"))
    }

    pub(super) fn push_text(&mut self, text: &str) -> Result<Option<Element>, StreamError> {
        if let Some(open) = self.open.last_mut() {
            open.element.push_text(text);
            self.grow(escaped_len(text, false))?;
        }
        Ok(None)
    }
}

/// Which namespace a prefix means; the default namespace has the prefix "".
struct Bindings<'a> {
    base: &'a Scope,
    local: Vec<(CompactString, Namespace)>,
}

impl Bindings<'_> {
    fn resolve(&self, prefix: &str) -> Result<Namespace, StreamError> {
        if let Some((_, namespace)) = self.local.iter().rev().find(|(known, _)| known == prefix) {
            return Ok(namespace.clone());
        }
        match prefix {
            "" => return Ok(self.base.default.clone()),
            "xml" => return Ok(Namespace::new(ns::XML)),
            _ => {}
        }
        match self.base.prefixes.iter().find(|(known, _)| known == prefix) {
            Some((_, namespace)) => Ok(namespace.clone()),
            None => {
                let text = format!("the prefix '{prefix}' is not declared");
                Err(StreamError::new(StreamCondition::BadNamespacePrefix, text))
            }
        }
    }

    fn declare(&mut self, prefix: &str, uri: &str, outer: usize, limits: &Limits) -> Result<(), StreamError> {
        let forbidden = match prefix {
            "" => uri == ns::XML || uri == XMLNS,
            "xml" => uri != ns::XML,
            _ => prefix == "xmlns" || uri.is_empty() || uri == ns::XML || uri == XMLNS,
        };
        if forbidden || self.local[outer..].iter().any(|(known, _)| known == prefix) {
            return Err(not_well_formed(&format_args!("the prefix '{prefix}' cannot be declared so")));
        }
        if uri.len() > NAMESPACE_BYTES {
            return Err(too_much("bytes in one namespace name", NAMESPACE_BYTES));
        }
        if self.local.len() >= limits.attributes {
            return Err(too_much("namespace declarations", limits.attributes));
        }
        self.local.push((prefix.into(), Namespace::new(uri)));
        Ok(())
    }
}

const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// An element without nodes from its tag; its namespace declarations are added to `bindings`.
fn read_tag(
    tag: &BytesStart<'_>,
    bindings: &mut Bindings<'_>,
    limits: &Limits,
) -> Result<Element, StreamError> {
    declare_all(tag.attributes_raw(), bindings, limits)?;
    let (prefix, local) = split(tag.name().into_inner())?;
    let mut element = Element::from_parts(local.into(), bindings.resolve(prefix)?);
    let mut rest = tag.attributes_raw();
    let mut count = 0;
    while let Some((name, raw)) = next_attribute(&mut rest)? {
        count += 1;
        if count > limits.attributes {
            return Err(too_much("attributes of one element", limits.attributes));
        }
        let (prefix, name) = split(name)?;
        if prefix == "xmlns" || (prefix.is_empty() && name == "xmlns") {
            continue;
        }
        let ns = if prefix.is_empty() { None } else { Some(bindings.resolve(prefix)?) };
        if element.attributes().iter().any(|known| known.name == name && known.ns == ns) {
            return Err(not_well_formed(&format_args!("the attribute '{name}' stands twice")));
        }
        element.push_attribute(Attribute { ns, name: name.into(), value: attribute_value(raw)? });
    }
    Ok(element)
}

/// Adds the namespace declarations of a tag to `bindings`: first, because they hold for all of the tag.
fn declare_all(raw: &str, bindings: &mut Bindings<'_>, limits: &Limits) -> Result<(), StreamError> {
    let outer = bindings.local.len();
    let mut rest = raw;
    // Most tags declare nothing, which is found out faster so.
    if memchr::memmem::find(raw.as_bytes(), b"xmlns").is_none() {
        return Ok(());
    }
    for _ in 0..=limits.attributes {
        let Some((name, raw)) = next_attribute(&mut rest)? else { break };
        match split(name)? {
            ("", "xmlns") => bindings.declare("", &attribute_value(raw)?, outer, limits)?,
            ("xmlns", prefix) => bindings.declare(prefix, &attribute_value(raw)?, outer, limits)?,
            _ => {}
        }
    }
    Ok(())
}

/// The next attribute of a tag as (name, raw value); `rest` begins after the one before.
fn next_attribute<'t>(rest: &mut &'t str) -> Result<Option<(&'t str, &'t str)>, StreamError> {
    let start = rest.trim_start_matches(is_space);
    if start.is_empty() {
        return Ok(None);
    }
    if start.len() == rest.len() {
        return Err(not_well_formed(&"there is no space before an attribute"));
    }
    let malformed = || not_well_formed(&"an attribute is written name='value'");
    let equals = start.bytes().position(|byte| byte == b'=').ok_or_else(malformed)?;
    let value = start[equals + 1..].trim_start_matches(is_space);
    let quote = value.bytes().next().filter(|byte| matches!(byte, b'\'' | b'"')).ok_or_else(malformed)?;
    let end = memchr::memchr(quote, &value.as_bytes()[1..]).ok_or_else(malformed)?;
    *rest = &value[end + 2..];
    Ok(Some((start[..equals].trim_end_matches(is_space), &value[1..=end])))
}

/// An attribute's value with references resolved and white space normalised (XML 1.0, 3.3.3).
fn attribute_value(raw: &str) -> Result<CompactString, StreamError> {
    if !raw.bytes().any(|byte| matches!(byte, b'<' | b'&' | b'\t' | b'\n' | b'\r')) {
        return Ok(raw.into());
    }
    let mut value = CompactString::with_capacity(raw.len());
    let mut chars = raw.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '<' => return Err(not_well_formed(&"'<' stands in an attribute")),
            '\r' if chars.peek().is_some_and(|(_, next)| *next == '\n') => {}
            '\t' | '\n' | '\r' => value.push(' '),
            '&' => {
                let name = &raw[at + 1..];
                let end = name.find(';').ok_or_else(|| not_well_formed(&"'&' begins no reference"))?;
                value.push(reference(&name[..end])?);
                while chars.next_if(|(next, _)| *next <= at + 1 + end).is_some() {}
            }
            _ => value.push(c),
        }
    }
    Ok(value)
}

/// The character that `&name;` stands for: one of the five predefined entities, or a character reference.
fn reference(name: &str) -> Result<char, StreamError> {
    let number = match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => name.strip_prefix('#').ok_or_else(restricted)?,
    };
    let (digits, radix) = match number.strip_prefix('x') {
        Some(hex) => (hex, 16),
        None => (number, 10),
    };
    let code = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok());
    let character = code.flatten().and_then(char::from_u32).filter(|c| is_xml_char(*c));
    character.ok_or_else(|| not_well_formed(&format_args!("'&{name};' is no character")))
}

/// A qualified name as (prefix, local name); without a colon the prefix is "".
fn split(name: &str) -> Result<(&str, &str), StreamError> {
    let (prefix, local) = match memchr::memchr(b':', name.as_bytes()) {
        None => ("", name),
        Some(at) => (&name[..at], &name[at + 1..]),
    };
    if !is_ncname(local) || (prefix.is_empty() != (local.len() == name.len())) {
        return Err(not_well_formed(&"a name has a character that names cannot have"));
    }
    match prefix.is_empty() || is_ncname(prefix) {
        true => Ok((prefix, local)),
        false => Err(not_well_formed(&"a prefix has a character that names cannot have")),
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// `bytes` as text that XML 1.0 may hold.
///
/// # Errors
/// `unsupported-encoding` for bytes that are not UTF-8 (RFC 6120 §11.6), `not-well-formed` for control characters.
pub fn legal_text(bytes: &[u8]) -> Result<&str, StreamError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| StreamError::new(StreamCondition::UnsupportedEncoding, "what was sent is not UTF-8"))?;
    // A fold without early exit, because that is what the compiler turns into vector instructions.
    let control = |found, byte: &u8| found | ((*byte < b' ') & !matches!(byte, b'\t' | b'\n' | b'\r'));
    let beyond = || !text.is_ascii() && text.contains(['\u{FFFE}', '\u{FFFF}']);
    match bytes.iter().fold(false, control) || beyond() {
        true => Err(not_well_formed(&"a character that XML cannot have was sent")),
        false => Ok(text),
    }
}

pub(super) fn not_well_formed(why: &dyn std::fmt::Display) -> StreamError {
    StreamError::new(StreamCondition::NotWellFormed, format!("not well-formed XML: {why}"))
}

pub(super) fn bad_format(why: &str) -> StreamError {
    StreamError::new(StreamCondition::BadFormat, why)
}

pub(super) fn restricted() -> StreamError {
    let text = "comments, processing instructions, document types and entities are not allowed in XMPP";
    StreamError::new(StreamCondition::RestrictedXml, text)
}

pub(super) fn too_much(what: &str, limit: usize) -> StreamError {
    StreamError::new(StreamCondition::PolicyViolation, format!("more than {limit} {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::element::Node;
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Element {
        element(text, &Scope::new(ns::CLIENT), &Limits::AFTER_LOGIN).unwrap()
    }

    #[test]
    fn names_are_resolved() {
        let text = "<x:iq xmlns:x='urn:x' xmlns='jabber:client' x:k='1' xml:lang='de' k='2'><q/><x:q xmlns:x='urn:y'/></x:iq>";
        let iq = parse(text);
        assert!(iq.is("iq", "urn:x"));
        assert_eq!((iq.get_attr("k"), iq.lang()), (Some("2"), Some("de")));
        assert_eq!(iq.attributes()[0].ns, Some(Namespace::new("urn:x")));
        assert!(iq.has("q", ns::CLIENT) && iq.has("q", "urn:y"));
    }

    #[test]
    fn references_and_line_ends_are_resolved() {
        let a = parse(
            "<a b=' &lt;&#65;&#x1F600;\t\r\n&#10;&quot;'>&amp;&#13;\r\n\r<![CDATA[&amp;\r\n]]>&apos;&gt;</a>",
        );
        assert_eq!(a.get_attr("b"), Some(" <A\u{1F600}  \n\""));
        assert_eq!(a.own_text(), "&\r\n\n&amp;\n'>");
        assert_eq!(a.nodes().len(), 1);
    }

    #[test]
    fn only_one_element_is_taken() {
        for text in [
            "",
            "x",
            "<a/><b/>",
            "<a/>x",
            "<a>",
            "<a></a></a>",
            "<!DOCTYPE x><a/>",
            "<?xml version='1.0'?><a/>",
        ] {
            assert!(element(text, &Scope::new(ns::CLIENT), &Limits::AFTER_LOGIN).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_at_one_place_are_limited() {
        let tag = |depth: usize| (0..8).map(|n| format!(" xmlns:p{depth}x{n}='u'")).collect::<String>();
        let text: String =
            (0..9).map(|depth| format!("<a{}>", tag(depth))).chain((0..9).map(|_| "</a>".into())).collect();
        let error = element(&text, &Scope::new(ns::CLIENT), &Limits::AFTER_LOGIN).unwrap_err();
        assert_eq!(error.condition, StreamCondition::PolicyViolation);
        let siblings = format!("<a>{}</a>", format!("<b{}/>", tag(0)).repeat(20));
        assert_eq!(parse(&siblings).children().count(), 20);
    }

    #[test]
    fn what_would_be_written_too_large_is_refused() {
        let refused = |text: &str, limits| {
            let error = element(text, &Scope::new(ns::CLIENT), limits).unwrap_err();
            assert_eq!(error.condition, StreamCondition::PolicyViolation);
            error.text
        };
        let presence = |ns: usize, children: usize| {
            format!("<presence xmlns:p='{}'>{}</presence>", "u".repeat(ns), "<p:b/>".repeat(children))
        };
        for limits in [&Limits::AFTER_LOGIN, &Limits::KEPT] {
            assert!(refused(&presence(NAMESPACE_BYTES + 1, 1), limits).contains("namespace name"));
            assert!(refused(&presence(NAMESPACE_BYTES, 4000), limits).contains("when written"));
            let text = format!("<message><body>{}</body></message>", ">".repeat(140_000));
            assert!(refused(&text, limits).contains("when written"));
        }
        assert_eq!(parse(&presence(NAMESPACE_BYTES, 400)).children().count(), 400);
        let quotes = "'\"".repeat(130_000);
        let body = parse(&format!("<body>{quotes}</body>"));
        assert!(body.to_bytes(ns::CLIENT).len() < quotes.len() + 20);
        let attributes = |spaces: usize| -> String {
            let declared: String = (0..spaces).map(|n| format!(" xmlns:q{n}='urn:{n}'")).collect();
            let used: String = (0..60).map(|n| format!(" q{}:a{n}=''", n % spaces)).collect();
            format!("<x{declared}><y xmlns='urn:x'{used}/></x>")
        };
        let many = parse(&attributes(1));
        assert_eq!(Element::read(&many.to_bytes(ns::CLIENT)).as_ref(), Ok(&many));
        assert!(refused(&attributes(50), &Limits::AFTER_LOGIN).contains("when written"));
    }

    #[test]
    fn what_was_written_is_read_however_long_it_is() {
        let long = Element::new("body", ns::CLIENT).text(&"<>".repeat(200_000));
        let bytes = long.to_bytes(ns::CLIENT);
        assert!(bytes.len() > Limits::KEPT.written_bytes);
        assert_eq!(Element::read(&bytes).as_ref(), Ok(&long));
    }

    /// Prints the cost of a message, for the record: `cargo test --release -p crosstalk parse::tests::cost -- --ignored`.
    #[test]
    #[ignore = "a measurement"]
    fn cost() {
        let body = "A message of one hundred and fifty characters, as people write them to each other all day long, \
                    with words & a comma, and now and then a line end here.";
        let message = Element::new("message", ns::CLIENT)
            .attr("to", "bob@id.internal")
            .attr("type", "chat")
            .attr("id", "6f1c2a9e-77")
            .child(Element::new("body", ns::CLIENT).text(body))
            .child(Element::new("active", ns::CHAT_STATES));
        let bytes = message.to_bytes(ns::CLIENT);
        let scope = Scope::new(ns::CLIENT);
        let mut framer = super::super::framer::Framer::new(Limits::AFTER_LOGIN);
        let open = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
        framer.next(&mut open.as_bytes()).unwrap();
        // CPU time of this thread, in nanoseconds.
        let now = || {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let (rounds, mut parse_ns, mut both_ns) = (100_000, u64::MAX, u64::MAX);
        for _ in 0..10 {
            let start = now();
            for _ in 0..rounds {
                let text = legal_text(std::hint::black_box(&bytes)).unwrap();
                std::hint::black_box(element(text, &scope, &Limits::AFTER_LOGIN).unwrap());
            }
            let half = now();
            for _ in 0..rounds {
                std::hint::black_box(framer.next(&mut std::hint::black_box(&bytes[..])).unwrap().unwrap());
            }
            (parse_ns, both_ns) =
                (parse_ns.min((half - start) / rounds), both_ns.min((now() - half) / rounds));
        }
        println!("{} bytes: parse {parse_ns} ns, framed {both_ns} ns", bytes.len());
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{1,30}",
            "[\\t\\n\\r<>&'\"\\]]{1,6}",
            prop::collection::vec(any::<char>().prop_filter("XML", |c| is_xml_char(*c)), 1..8)
                .prop_map(|chars| chars.into_iter().collect()),
        ]
    }

    fn namespace() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(ns::CLIENT.to_owned()),
            Just(String::new()),
            Just("urn:a".into()),
            Just("u'&<\n".into())
        ]
    }

    fn tree() -> impl Strategy<Value = Element> {
        let name = "[a-z_\u{e9}][a-z0-9._-]{0,30}";
        let attributes = prop::collection::btree_map(
            name,
            (prop::option::of("urn:[a-c]").prop_map(|ns| ns.map(|ns| Namespace::new(&ns))), text()),
            0..4,
        );
        let leaf = (name, namespace(), attributes).prop_map(|(name, ns, attributes)| {
            let mut element = Element::new(&name, &ns);
            for (name, (ns, value)) in attributes {
                element.push_attribute(Attribute { ns, name: name.into(), value: value.into() });
            }
            element
        });
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let node = prop_oneof![inner.prop_map(Node::Element), text().prop_map(|t| Node::Text(t.into()))];
            (name, namespace(), prop::collection::vec(node, 0..4)).prop_map(|(name, ns, nodes)| {
                let mut element = Element::new(&name, &ns);
                for node in nodes {
                    match node {
                        Node::Element(child) => element.push(child),
                        Node::Text(text) => element.push_text(&text),
                    }
                }
                element
            })
        })
    }

    /// XML as clients may write it, with prefixes that are declared far away from where they are used.
    fn foreign() -> impl Strategy<Value = String> {
        let declarations = (0..40)
            .map(|n| format!(" xmlns:p{n}='urn:{}'", "'&lt;".repeat(n).replace('\'', "&apos;")))
            .collect::<String>();
        let attributes = prop::collection::btree_set((0..50_usize, 0..4_usize), 0..50);
        let tag = (0..40_usize, attributes, any::<bool>()).prop_map(|(prefix, attributes, plain)| {
            // Prefix 40 and above: none.
            let name = |(prefix, n): (usize, usize)| match prefix {
                0..40 => format!(" p{prefix}:a{n}=\"'&#10;>\""),
                _ => format!(" a{prefix}x{n}='\t'"),
            };
            let attributes: String = attributes.into_iter().map(name).collect();
            let name = if plain { "n".into() } else { format!("p{prefix}:n") };
            (name, attributes)
        });
        let leaf = tag.clone().prop_map(|(name, attributes)| format!("<{name}{attributes}/>"));
        let inner = leaf.prop_recursive(6, 40, 6, move |inner| {
            let node = prop_oneof![inner, Just("<![CDATA[<&>]]>\r'\"".to_owned())];
            (tag.clone(), prop::collection::vec(node, 0..6)).prop_map(|((name, attributes), nodes)| {
                format!("<{name}{attributes}>{}</{name}>", nodes.concat())
            })
        });
        inner.prop_map(move |inner| format!("<message{declarations}>{inner}</message>"))
    }

    proptest! {
        #[test]
        fn what_a_client_may_send_is_kept(text in foreign()) {
            if let Ok(read) = element(&text, &Scope::new(ns::CLIENT), &Limits::AFTER_LOGIN) {
                let bytes = read.to_bytes(ns::CLIENT);
                prop_assert!(bytes.len() <= Limits::AFTER_LOGIN.written_bytes);
                let again = Element::read(&bytes);
                prop_assert_eq!(again.as_ref(), Ok(&read), "{}", String::from_utf8_lossy(&bytes));
            }
        }

        /// The limit counts exactly what is written: one byte less is refused.
        #[test]
        fn written_bytes_are_counted(text in foreign()) {
            let scope = Scope::new(ns::CLIENT);
            let wide = Limits { attributes: 4096, written_bytes: 1 << 30, ..Limits::KEPT };
            let read = element(&text, &scope, &wide).unwrap();
            let written = read.to_bytes(ns::CLIENT).len();
            let exact = Limits { written_bytes: written, ..wide };
            prop_assert!(element(&text, &scope, &exact).is_ok());
            let less = Limits { written_bytes: written - 1, ..wide };
            prop_assert_eq!(element(&text, &scope, &less).is_ok(), written <= text.len());
        }

        #[test]
        fn what_is_written_is_read_again(tree in tree(), scope in namespace()) {
            let bytes = tree.to_bytes(&scope);
            let read = element(legal_text(&bytes).unwrap(), &Scope::new(&scope), &Limits::AFTER_LOGIN);
            prop_assert_eq!(read.as_ref(), Ok(&tree), "{}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}", tags in "[<>/a-c'=&;!\\[\\]: x]{0,60}") {
            for text in [text, tags] {
                let _ = element(&text, &Scope::new(ns::CLIENT), &Limits::AFTER_LOGIN);
                let _ = header(&text, &Limits::BEFORE_LOGIN, ns::CLIENT);
                let _ = header(&text, &Limits::BEFORE_LOGIN, ns::COMPONENT);
            }
        }
    }
}

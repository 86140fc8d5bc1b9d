//! An XML element with its namespace resolved, and its way back to bytes. *Pure.*

use std::fmt;

use compact_str::CompactString;

use super::ns::{self, Namespace};
use super::parse;

/// What stands between the tags of an element. `Debug` shows no text.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, unescaped.
    Text(CompactString),
}

/// An attribute; `ns` is set only for a prefixed one (`xml:lang` has [`ns::XML`]). `Debug` shows no value.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Namespace of a prefixed attribute.
    pub ns: Option<Namespace>,
    /// Local name.
    pub name: CompactString,
    /// Value, unescaped.
    pub value: CompactString,
}

/// An XML element. Prefixes are gone: names are (namespace, local name), and writing declares what is needed.
/// `Debug` shows names and sizes, neither text nor values.
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    name: CompactString,
    ns: Namespace,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

impl Element {
    /// An empty element.
    pub fn new(name: &str, ns: &str) -> Self {
        Self::from_parts(name.into(), Namespace::new(ns))
    }

    /// An empty element from names that are already interned (the parser's way).
    pub fn from_parts(name: CompactString, ns: Namespace) -> Self {
        Self { name, ns, attributes: Vec::new(), nodes: Vec::new() }
    }

    /// With an attribute.
    #[must_use]
    pub fn attr(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// With an attribute when there is a value.
    #[must_use]
    pub fn attr_opt(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// With a child element.
    #[must_use]
    pub fn child(mut self, child: Element) -> Self {
        self.push(child);
        self
    }

    /// With these child elements.
    #[must_use]
    pub fn children_from(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.nodes.extend(children.into_iter().map(Node::Element));
        self
    }

    /// With character data.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }

    /// Adds a child element.
    pub fn push(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// Adds character data, joining it to text that stands last.
    pub fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.nodes.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            Some(Node::Element(_)) | None => self.nodes.push(Node::Text(text.into())),
        }
    }

    /// Sets an attribute without namespace, replacing an earlier value.
    pub fn set_attr(&mut self, name: &str, value: impl AsRef<str>) {
        let value = CompactString::new(value.as_ref());
        match self.attributes.iter_mut().find(|a| a.ns.is_none() && a.name == name) {
            Some(attribute) => attribute.value = value,
            None => self.attributes.push(Attribute { ns: None, name: name.into(), value }),
        }
    }

    /// Adds an attribute as the parser found it.
    pub fn push_attribute(&mut self, attribute: Attribute) {
        self.attributes.push(attribute);
    }

    /// Local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace name.
    pub fn ns(&self) -> &str {
        self.ns.as_str()
    }

    /// Whether this is the element `name` of namespace `ns`.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns.as_str() == ns
    }

    /// Value of an attribute without namespace.
    pub fn get_attr(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.ns.is_none() && a.name == name).map(|a| a.value.as_str())
    }

    /// `xml:lang`, if it is set on this element.
    pub fn lang(&self) -> Option<&str> {
        let xml = |a: &&Attribute| a.ns.as_ref().is_some_and(|n| n.as_str() == ns::XML);
        self.attributes.iter().filter(xml).find(|a| a.name == "lang").map(|a| a.value.as_str())
    }

    /// All attributes, in the order they were written.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Child elements.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Child elements, moved out; text between them is dropped.
    pub fn into_children(self) -> impl Iterator<Item = Element> {
        self.nodes.into_iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// First child with this name and namespace.
    pub fn get(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// Whether there is a child with this name and namespace.
    pub fn has(&self, name: &str, ns: &str) -> bool {
        self.get(name, ns).is_some()
    }

    /// Character data of this element itself, joined.
    pub fn own_text(&self) -> CompactString {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// Nodes in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Writes the element for a place where `scope` is the default namespace. What [`parse::element`] accepted
    /// grows by no more than [`parse::Limits::written_bytes`] say.
    pub fn write(&self, out: &mut Vec<u8>, scope: &str) {
        self.write_start(out, scope);
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write(out, self.ns.as_str()),
                Node::Text(text) => out.put_escaped(text, false),
            }
        }
        self.write_end(out);
    }

    /// The start tag up to its `>`, which [`Self::write_end`] or the first node brings.
    fn write_start(&self, out: &mut impl Sink, scope: &str) {
        out.put(b"<");
        out.put(self.name.as_bytes());
        if self.ns.as_str() != scope {
            out.declare("xmlns", self.ns.as_str());
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            let Attribute { ns, name, value } = attribute;
            match ns {
                None => out.attribute(name, value),
                Some(ns) if ns.as_str() == ns::XML => out.attribute(&format!("xml:{name}"), value),
                Some(ns) => {
                    let same = |other: &Attribute| other.ns.as_ref() == Some(ns);
                    let first = self.attributes.iter().position(same).unwrap_or(index);
                    if first == index {
                        out.declare(&format!("xmlns:a{first}"), ns.as_str());
                    }
                    out.attribute(&format!("a{first}:{name}"), value);
                }
            }
        }
        if !self.nodes.is_empty() {
            out.put(b">");
        }
    }

    /// What follows the nodes.
    fn write_end(&self, out: &mut impl Sink) {
        if self.nodes.is_empty() {
            return out.put(b"/>");
        }
        out.put(b"</");
        out.put(self.name.as_bytes());
        out.put(b">");
    }

    /// What [`Self::write`] adds around the nodes, as the element is now.
    pub(super) fn own_size(&self, scope: &str) -> Size {
        let mut size = Size::default();
        self.write_start(&mut size, scope);
        self.write_end(&mut size);
        size
    }

    /// Reads an element that stands where `jabber:client` is the default namespace.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::read_within(bytes, &parse::Limits::KEPT)
    }

    /// The same for what another node wrote: less is taken, so that there is room for what this node adds.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read_from_peer(bytes: &[u8]) -> Result<Self, String> {
        Self::read_within(bytes, &parse::Limits::FROM_PEER)
    }

    fn read_within(bytes: &[u8], limits: &parse::Limits) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|why| why.to_string())?;
        parse::element(text, &parse::Scope::new(ns::CLIENT), limits).map_err(|error| error.text)
    }

    /// The element as bytes for a place where `scope` is the default namespace.
    pub fn to_bytes(&self, scope: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.write(&mut out, scope);
        out
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} xmlns='{}'>", self.name, self.ns.as_str())?;
        f.debug_list().entries(&self.attributes).entries(&self.nodes).finish()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(element) => element.fmt(f),
            Self::Text(text) => write!(f, "{} bytes of text", text.len()),
        }
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.name, self.value.len())
    }
}

/// Where an element is written to: bytes, or only their number, so that both can never differ.
trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// Puts character data, or an attribute's value.
    fn put_escaped(&mut self, text: &str, attribute: bool);

    /// Puts a namespace declaration.
    fn declare(&mut self, name: &str, uri: &str) {
        self.attribute(name, uri);
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.put(b" ");
        self.put(name.as_bytes());
        self.put(b"='");
        self.put_escaped(value, true);
        self.put(b"'");
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_escaped(&mut self, text: &str, attribute: bool) {
        escape(self, text, attribute);
    }
}

/// How much would be written.
#[derive(Debug, Default)]
pub(super) struct Size {
    /// Bytes.
    pub(super) bytes: usize,
    /// Namespace declarations among them.
    pub(super) declarations: usize,
}

impl Sink for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn put_escaped(&mut self, text: &str, attribute: bool) {
        self.bytes += escaped_len(text, attribute);
    }

    fn declare(&mut self, name: &str, uri: &str) {
        self.declarations += 1;
        self.attribute(name, uri);
    }
}

/// Writes ` name='value'`.
pub fn write_attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    out.attribute(name, value);
}

/// Writes character data with the entities that it needs: quotes need none outside of attributes. Line breaks that
/// a parser would normalise (XML 1.0, 2.11 and 3.3.3) are written as references.
fn escape(out: &mut Vec<u8>, text: &str, attribute: bool) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let entity: &[u8] = match byte {
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'&' => b"&amp;",
            b'\r' => b"&#13;",
            b'\'' if attribute => b"&apos;",
            b'"' if attribute => b"&quot;",
            b'\n' if attribute => b"&#10;",
            b'\t' if attribute => b"&#9;",
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..at]);
        out.extend_from_slice(entity);
        done = at + 1;
    }
    out.extend_from_slice(&bytes[done..]);
}

/// How many bytes [`escape`] writes.
pub(super) fn escaped_len(text: &str, attribute: bool) -> usize {
    // Arithmetic without branches in one byte, because that is what the compiler turns into vector instructions.
    let is = |byte: u8, wanted: u8| u8::from(byte == wanted);
    let in_text = |b: u8| 3 * (is(b, b'<') + is(b, b'>')) + 4 * (is(b, b'&') + is(b, b'\r'));
    let in_attribute =
        |b: u8| in_text(b) + 5 * (is(b, b'\'') + is(b, b'"')) + 4 * is(b, b'\n') + 3 * is(b, b'\t');
    let growth = |bytes: &[u8]| match attribute {
        true => bytes.iter().fold(0, |sum: u8, byte| sum + in_attribute(*byte)),
        false => bytes.iter().fold(0, |sum: u8, byte| sum + in_text(*byte)),
    };
    // 5 bytes of growth each: 32 of them fit in the sum.
    text.len() + text.as_bytes().chunks(32).map(|chunk| usize::from(growth(chunk))).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_only_the_namespaces_that_change() {
        let body = Element::new("body", ns::CLIENT).text("a < b & 'c'");
        let message = Element::new("message", ns::CLIENT)
            .attr("to", "bob@id.internal")
            .child(body)
            .child(Element::new("active", ns::CHAT_STATES));
        let expected = "<message to='bob@id.internal'><body>a &lt; b &amp; 'c'</body>\
                        <active xmlns='http://jabber.org/protocol/chatstates'/></message>";
        assert_eq!(String::from_utf8(message.to_bytes(ns::CLIENT)).unwrap(), expected);
    }

    #[test]
    fn attributes_of_one_namespace_share_a_prefix() {
        let mut element = Element::new("x", ns::CLIENT);
        for (ns, name) in [("urn:a", "k"), ("urn:b", "k"), ("urn:a", "l")] {
            element.push_attribute(Attribute { ns: Some(ns.into()), name: name.into(), value: "'\"".into() });
        }
        let expected = "<x xmlns:a0='urn:a' a0:k='&apos;&quot;' xmlns:a1='urn:b' a1:k='&apos;&quot;' \
                        a0:l='&apos;&quot;'/>";
        assert_eq!(String::from_utf8(element.to_bytes(ns::CLIENT)).unwrap(), expected);
        assert_eq!(Element::read(expected.as_bytes()).as_ref(), Ok(&element));
    }

    #[test]
    fn debug_shows_neither_text_nor_values() {
        let element = Element::new("body", ns::CLIENT).attr("password", "secret").text("secret");
        let message = Element::new("message", ns::CLIENT).child(element);
        let shown = format!("{message:?} {message:#?}");
        assert!(shown.contains("body") && shown.contains("6 bytes"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

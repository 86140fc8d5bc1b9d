//! An XML element with its namespace resolved, and its way back to bytes. *Pure.*

use compact_str::CompactString;

use super::ns::{self, Namespace};
use super::parse;

/// What stands between the tags of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, unescaped.
    Text(CompactString),
}

/// An attribute; `ns` is set only for a prefixed one (`xml:lang` has [`ns::XML`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Namespace of a prefixed attribute.
    pub ns: Option<Namespace>,
    /// Local name.
    pub name: CompactString,
    /// Value, unescaped.
    pub value: CompactString,
}

/// An XML element. Prefixes are gone: names are (namespace, local name), and writing declares what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Writes the element for a place where `scope` is the default namespace.
    pub fn write(&self, out: &mut Vec<u8>, scope: &str) {
        out.push(b'<');
        out.extend_from_slice(self.name.as_bytes());
        if self.ns.as_str() != scope {
            write_attribute(out, "xmlns", self.ns.as_str());
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            attribute.write(out, index);
        }
        if self.nodes.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write(out, self.ns.as_str()),
                Node::Text(text) => escape(out, text, false),
            }
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'>');
    }

    /// Reads an element that stands where `jabber:client` is the default namespace.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|why| why.to_string())?;
        parse::element(text, &parse::Scope::new(ns::CLIENT), &parse::Limits::KEPT).map_err(|error| error.text)
    }

    /// The element as bytes for a place where `scope` is the default namespace.
    pub fn to_bytes(&self, scope: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.write(&mut out, scope);
        out
    }
}

impl Attribute {
    fn write(&self, out: &mut Vec<u8>, index: usize) {
        match &self.ns {
            None => write_attribute(out, &self.name, &self.value),
            Some(ns) if ns.as_str() == ns::XML => {
                write_attribute(out, &format!("xml:{}", self.name), &self.value)
            }
            Some(ns) => {
                write_attribute(out, &format!("xmlns:a{index}"), ns.as_str());
                write_attribute(out, &format!("a{index}:{}", self.name), &self.value);
            }
        }
    }
}

/// Writes ` name='value'`.
pub fn write_attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape(out, value, true);
    out.push(b'\'');
}

/// Writes character data with the five predefined entities. Line breaks are written as references, so that a
/// parser's normalisation of attributes and line ends (XML 1.0, 2.11 and 3.3.3) does not change them.
fn escape(out: &mut Vec<u8>, text: &str, attribute: bool) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let entity: &[u8] = match byte {
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'&' => b"&amp;",
            b'\'' => b"&apos;",
            b'"' => b"&quot;",
            b'\r' => b"&#13;",
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
        let expected = "<message to='bob@id.internal'><body>a &lt; b &amp; &apos;c&apos;</body>\
                        <active xmlns='http://jabber.org/protocol/chatstates'/></message>";
        assert_eq!(String::from_utf8(message.to_bytes(ns::CLIENT)).unwrap(), expected);
    }
}

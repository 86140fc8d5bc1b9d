//! Cuts the byte stream of a client into stream header, top-level elements and stream end. *Pure.*
//!
//! Every byte is looked at once, however small the pieces are in which it comes; only an incomplete element is
//! kept, and never more of it than [`Limits`] allow.

use memchr::{memchr, memchr3};

use super::element::Element;
use super::error::StreamError;
use super::ns;
use super::parse::{self, Scope, bad_format, not_well_formed, restricted, too_much};

pub use super::parse::Limits;

/// What a client's stream is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The stream header: `<stream:stream …>`, without nodes.
    Open(Element),
    /// A top-level element.
    Element(Element),
    /// `</stream:stream>`; whatever follows is swallowed.
    Close,
}

/// The splitter of one client's stream.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    /// The namespace of the stream's stanzas.
    default: &'static str,
    lexer: Lexer,
    /// Begin of an element whose end has not come.
    partial: Vec<u8>,
    /// Namespaces and name of the stream header, once there was one.
    stream: Option<(Scope, compact_str::CompactString)>,
    started: bool,
    closed: bool,
}

impl Framer {
    /// A splitter that waits for a stream header.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            default: ns::CLIENT,
            lexer: Lexer::default(),
            partial: Vec::new(),
            stream: None,
            started: false,
            closed: false,
        }
    }

    /// The same for the stream of a component (XEP-0114): its stanzas come out in `jabber:client`.
    pub fn of_component(limits: Limits) -> Self {
        Self { default: ns::COMPONENT, ..Self::new(limits) }
    }

    /// Forgets the stream and waits for the header of a new one, as after STARTTLS and SASL (RFC 6120 §4.3.3).
    pub fn reset(&mut self, limits: Limits) {
        *self = Self::new(limits);
    }

    /// Other limits from the next byte on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes kept of an incomplete element; at most [`Limits::stanza_bytes`].
    pub fn kept(&self) -> usize {
        self.partial.len()
    }

    /// The namespaces that the header of the stream declares, once it has come.
    pub fn scope(&self) -> Option<&Scope> {
        self.stream.as_ref().map(|(scope, _)| scope)
    }

    /// Takes from the front of `input` up to the end of one frame, or all of it (`None`: more bytes are needed).
    /// White space between elements, which keeps connections alive, is dropped (RFC 6120 §4.6.1).
    ///
    /// # Errors
    /// What was sent cannot be part of an XMPP stream (RFC 6120 §4.9.3, §11). The stream is over.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, StreamError> {
        loop {
            if self.closed {
                *input = &[];
                return Ok(None);
            }
            if self.partial.is_empty() {
                self.skip_between(input)?;
            }
            match self.lexer.scan(input, self.limits.depth)? {
                Some(end) => {
                    let (bytes, rest) = input.split_at(end);
                    *input = rest;
                    if let Some(frame) = self.complete(bytes)? {
                        return Ok(Some(frame));
                    }
                }
                None => {
                    self.keep(input)?;
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Drops white space before a frame; anything else but a tag is an error there.
    fn skip_between(&mut self, input: &mut &[u8]) -> Result<(), StreamError> {
        let text = input.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        let skipped = text.unwrap_or(input.len());
        match input.get(skipped) {
            // An XML declaration is one only as the very first thing.
            Some(b'<') => self.started |= skipped > 0,
            None => self.started |= !input.is_empty(),
            Some(0 | 0xFE | 0xFF) => return parse::legal_text(b"\xFF").map(|_| ()),
            Some(_) if self.stream.is_some() => return Err(bad_format("text stands between elements")),
            Some(_) => return Err(not_well_formed(&"a stream begins with <stream:stream>")),
        }
        *input = &input[skipped..];
        Ok(())
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<Option<Frame>, StreamError> {
        if self.partial.is_empty() {
            self.check_size(bytes.len())?;
            return self.read(bytes);
        }
        self.keep(bytes)?;
        let whole = std::mem::take(&mut self.partial);
        self.read(&whole)
    }

    fn check_size(&self, bytes: usize) -> Result<(), StreamError> {
        match bytes > self.limits.stanza_bytes {
            true => Err(too_much("bytes in one stanza", self.limits.stanza_bytes)),
            false => Ok(()),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let needed = self.partial.len() + bytes.len();
        self.check_size(needed)?;
        if needed > self.partial.capacity() {
            let capacity = needed.max(2 * self.partial.len()).min(self.limits.stanza_bytes);
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// The frame in `bytes`, which the lexer found to be one; `None` for the XML declaration.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<Frame>, StreamError> {
        let first = !std::mem::replace(&mut self.started, true);
        let text = parse::legal_text(bytes)?;
        match &self.stream {
            None if text.starts_with("<?") => declaration(text, first).map(|()| None),
            None => {
                let header = parse::header(text, &self.limits, self.default)?;
                self.stream = Some((header.scope, header.qualified_name));
                Ok(Some(Frame::Open(header.element)))
            }
            Some((_, name)) if text.starts_with("</") => {
                if text[2..text.len() - 1].trim_end_matches([' ', '\t', '\r', '\n']) != name {
                    return Err(not_well_formed(&"an end tag without its start tag"));
                }
                self.closed = true;
                Ok(Some(Frame::Close))
            }
            Some((scope, _)) => Ok(Some(Frame::Element(parse::element(text, scope, &self.limits)?))),
        }
    }
}

/// Accepts the XML declaration of an UTF-8 document at the very beginning (RFC 6120 §11.5).
fn declaration(text: &str, first: bool) -> Result<(), StreamError> {
    let content =
        text.strip_prefix("<?xml").filter(|rest| first && rest.starts_with([' ', '\t', '\r', '\n']));
    let content = content.ok_or_else(restricted)?;
    let Some((_, encoding)) = content.split_once("encoding") else { return Ok(()) };
    let name = encoding.split(['\'', '"']).nth(1).unwrap_or_default();
    match name.eq_ignore_ascii_case("utf-8") {
        true => Ok(()),
        false => parse::legal_text(b"\xFF").map(|_| ()),
    }
}

/// Where in the syntax of XML the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between tags.
    #[default]
    Text,
    /// After `<`.
    Less,
    /// In a start tag.
    StartTag,
    /// In an attribute's value.
    Quoted(u8),
    /// In an end tag.
    EndTag,
    /// After `<!` and so many bytes of `[CDATA[`.
    Bang(usize),
    /// In CDATA, after so many `]`.
    Cdata(u8),
    /// In a processing instruction.
    Instruction,
}

/// Finds where frames end, and counts depth. It decides no more than that; [`parse`] checks the rest.
#[derive(Debug, Default)]
struct Lexer {
    state: State,
    /// Open elements, the stream itself counted.
    depth: usize,
    /// The byte before the next one, for `/>` and `?>` that are torn apart.
    last: u8,
}

impl Lexer {
    /// Where the frame that `bytes` continue ends, if it ends in them.
    fn scan(&mut self, bytes: &[u8], max_depth: usize) -> Result<Option<usize>, StreamError> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let found = match self.state {
                State::Text => memchr(b'<', rest),
                State::StartTag => memchr3(b'>', b'"', b'\'', rest),
                State::Quoted(quote) => memchr(quote, rest),
                State::EndTag | State::Instruction => memchr(b'>', rest),
                State::Cdata(0) => memchr(b']', rest),
                State::Less | State::Bang(_) | State::Cdata(_) => Some(0),
            };
            let Some(offset) = found else { break };
            let position = at + offset;
            let before = if position > 0 { bytes[position - 1] } else { self.last };
            at = position + 1;
            if self.step(bytes[position], before, max_depth)? {
                return Ok(Some(at));
            }
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
        Ok(None)
    }

    /// Takes a byte that matters. True when a frame ends with it.
    fn step(&mut self, byte: u8, before: u8, max_depth: usize) -> Result<bool, StreamError> {
        self.state = match (self.state, byte) {
            (State::Text, _) => State::Less,
            (State::Less, b'/') if self.depth > 0 => State::EndTag,
            (State::Less, b'?') if self.depth == 0 => State::Instruction,
            (State::Less, b'!') => State::Bang(0),
            (State::Less, b'?') => return Err(restricted()),
            (State::Less, b'/' | b'>' | b'\'' | b'"') => {
                return Err(not_well_formed(&"a tag without a name"));
            }
            (State::Less, _) => State::StartTag,
            (State::StartTag, b'>') => return self.start_tag_ends(before == b'/', max_depth),
            (State::StartTag, quote) => State::Quoted(quote),
            (State::Quoted(_), _) => State::StartTag,
            (State::EndTag, _) => {
                self.state = State::Text;
                self.depth -= 1;
                return Ok(self.depth <= 1);
            }
            (State::Instruction, _) if before == b'?' => {
                self.state = State::Text;
                return Ok(true);
            }
            (State::Instruction, _) => State::Instruction,
            (State::Bang(seen), byte) => self.bang(seen, byte)?,
            (State::Cdata(_), b']') if before == b']' => State::Cdata(2),
            (State::Cdata(_), b']') => State::Cdata(1),
            (State::Cdata(2), b'>') => State::Text,
            (State::Cdata(_), _) => State::Cdata(0),
        };
        Ok(false)
    }

    fn start_tag_ends(&mut self, empty: bool, max_depth: usize) -> Result<bool, StreamError> {
        self.state = State::Text;
        if self.depth > max_depth {
            return Err(too_much("elements inside each other", max_depth));
        }
        let header = self.depth == 0;
        if !empty {
            self.depth += 1;
        }
        Ok(header || (empty && self.depth == 1))
    }

    /// After `<!`: the begin of CDATA in an element, or something that XMPP does not allow.
    fn bang(&self, seen: usize, byte: u8) -> Result<State, StreamError> {
        const CDATA: &[u8] = b"[CDATA[";
        if CDATA.get(seen) != Some(&byte) {
            return Err(restricted());
        }
        match seen + 1 == CDATA.len() {
            true if self.depth < 2 => Err(not_well_formed(&"CDATA outside of an element")),
            true => Ok(State::Cdata(0)),
            false => Ok(State::Bang(seen + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::StreamCondition as C;
    use super::super::ns;
    use super::*;
    use proptest::prelude::*;

    const OPEN: &str =
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a'>";
    const SMALL: Limits =
        Limits { stanza_bytes: 400, written_bytes: 800, depth: 4, attributes: 4, elements: 8 };

    /// All frames of `text` fed in pieces that end at `cuts`, or the frames before the error, and its condition.
    fn frames(text: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<C>) {
        let mut framer = Framer::new(SMALL);
        let (mut frames, mut start) = (Vec::new(), 0);
        for end in cuts.iter().map(|cut| cut % (text.len() + 1)).chain([text.len()]) {
            let mut piece = &text[start..end.max(start)];
            start = end.max(start);
            loop {
                match framer.next(&mut piece) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(why) => return (frames, Some(why.condition)),
                }
                assert!(framer.kept() <= SMALL.stanza_bytes);
            }
        }
        (frames, None)
    }

    fn error_of(after_open: &str) -> Option<C> {
        frames(format!("{OPEN}{after_open}").as_bytes(), &[]).1
    }

    #[test]
    fn a_stream_from_declaration_to_end() {
        let text = format!(
            "<?xml version='1.0' encoding='utf-8'?> \n{OPEN}\n <message a='/>'><body>x<![CDATA[<]]]>]]</body></message>\
             <presence/> \n <iq>\u{e9}</iq></stream:stream > whatever"
        );
        let (frames, error) = frames(text.as_bytes(), &[]);
        assert_eq!(error, None);
        assert_eq!(frames.len(), 5, "{frames:?}");
        let Frame::Element(message) = &frames[1] else { panic!("{frames:?}") };
        assert_eq!(message.get("body", ns::CLIENT).unwrap().own_text(), "x<]]]");
        assert_eq!(frames[2], Frame::Element(Element::new("presence", ns::CLIENT)));
        assert_eq!(frames[4], Frame::Close);
    }

    #[test]
    fn the_header_is_checked() {
        let error = |text: &str| frames(text.as_bytes(), &[]).1;
        let streams = "http://etherx.jabber.org/streams";
        assert_eq!(error(&format!("<s:stream xmlns='jabber:client' xmlns:s='{streams}'>")), None);
        assert_eq!(error("<stream:stream xmlns='jabber:client'>"), Some(C::BadNamespacePrefix));
        assert_eq!(
            error("<stream:stream xmlns='jabber:client' xmlns:stream='x'>"),
            Some(C::InvalidNamespace)
        );
        assert_eq!(
            error(&format!("<stream:stream xmlns='jabber:server' xmlns:stream='{streams}'>")),
            Some(C::InvalidNamespace)
        );
        assert_eq!(
            error(&format!("<stream:x xmlns='jabber:client' xmlns:stream='{streams}'>")),
            Some(C::BadFormat)
        );
        assert_eq!(error(&OPEN.replace('>', "/>")), Some(C::BadFormat));
        assert_eq!(error("</stream:stream>"), Some(C::NotWellFormed));
        assert_eq!(error("GET / HTTP/1.1"), Some(C::NotWellFormed));
        assert_eq!(error("\0<"), Some(C::UnsupportedEncoding));
        assert_eq!(frames(b"\xFF\xFE<\0", &[]).1, Some(C::UnsupportedEncoding));
        assert_eq!(error("<?xml version='1.0' encoding='latin1'?>"), Some(C::UnsupportedEncoding));
        assert_eq!(error(" <?xml version='1.0'?>"), Some(C::RestrictedXml));
        assert_eq!(error("<?xml-stylesheet href='x'?>"), Some(C::RestrictedXml));
        assert_eq!(error("<!DOCTYPE x>"), Some(C::RestrictedXml));
    }

    #[test]
    fn what_xmpp_forbids_is_refused() {
        for (text, condition) in [
            ("<!-- x -->", C::RestrictedXml),
            ("<a><!-- x --></a>", C::RestrictedXml),
            ("<a><?pi?></a>", C::RestrictedXml),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]>", C::RestrictedXml),
            ("<![CDATA[x]]>", C::NotWellFormed),
            ("<a>&b;</a>", C::RestrictedXml),
            ("<a b='&c;'/>", C::RestrictedXml),
            ("<a>\u{1}</a>", C::NotWellFormed),
            ("<a>\0</a>", C::NotWellFormed),
            ("<a>\u{FFFE}</a>", C::NotWellFormed),
            ("<a>&#0;</a>", C::NotWellFormed),
            ("<a>&#xD800;</a>", C::NotWellFormed),
            ("<a>&#+65;</a>", C::NotWellFormed),
            ("<a>&x</a>", C::NotWellFormed),
            ("<a>]]></a>", C::NotWellFormed),
            ("text", C::BadFormat),
            ("<>", C::NotWellFormed),
            ("<a></b>", C::NotWellFormed),
            ("</b>", C::NotWellFormed),
            ("<a b='1' b='2'/>", C::NotWellFormed),
            ("<a x:b='1' y:b='2' xmlns:x='u' xmlns:y='u'/>", C::NotWellFormed),
            ("<a b=1/>", C::NotWellFormed),
            ("<a b='1'c='2'/>", C::NotWellFormed),
            ("<a b='<'/>", C::NotWellFormed),
            ("<a <b/>>", C::NotWellFormed),
            ("< a/>", C::NotWellFormed),
            ("<1a/>", C::NotWellFormed),
            ("<a&b/>", C::NotWellFormed),
            ("<a:b:c xmlns:a='x'/>", C::NotWellFormed),
            ("<:a/>", C::NotWellFormed),
            ("<a xmlns:b=''/>", C::NotWellFormed),
            ("<a xmlns:xml='x'/>", C::NotWellFormed),
            ("<p:a/>", C::BadNamespacePrefix),
            ("<a p:b='1'/>", C::BadNamespacePrefix),
            ("<a><b xmlns:p='x'/><p:c/></a>", C::BadNamespacePrefix),
            ("<a><a><a><a><a/></a></a></a></a>", C::PolicyViolation),
            ("<a b='1' c='2' d='3' e='4' f='5'/>", C::PolicyViolation),
            ("<a><b/><b/><b/><b/><b/><b/><b/><b/></a>", C::PolicyViolation),
        ] {
            assert_eq!(error_of(text), Some(condition), "{text}");
        }
        assert_eq!(
            frames(&[OPEN.as_bytes(), b"<a>\xC0\x80</a>"].concat(), &[]).1,
            Some(C::UnsupportedEncoding)
        );
    }

    #[test]
    fn legal_things_pass() {
        for text in [
            "<a><a><a><a/></a></a></a>",
            "<a b='1' c='2' d='3' e='4'/>",
            "<a\n\tb = \"it's\"\r\n/>",
            "<stream:error/>",
            "<x:a xmlns:x='u'><x:b xml:lang='en'/></x:a>",
            "<a xmlns='u'><b xmlns=''/></a >",
            "<\u{e9}t\u{e9}/>",
            "   \n\n  ",
        ] {
            assert_eq!(error_of(text), None, "{text}");
        }
    }

    #[test]
    fn size_is_limited_while_bytes_come() {
        let mut framer = Framer::new(SMALL);
        assert!(framer.next(&mut OPEN.as_bytes()).unwrap().is_some());
        framer.next(&mut &b"<a>"[..]).unwrap();
        let error = (0..1000).find_map(|_| framer.next(&mut &b"x"[..]).err()).unwrap();
        assert_eq!(error.condition, C::PolicyViolation);
        assert_eq!(framer.kept(), SMALL.stanza_bytes);
        assert!(framer.partial.capacity() <= SMALL.stanza_bytes);
    }

    #[test]
    fn after_a_reset_a_new_stream_begins() {
        let mut framer = Framer::new(SMALL);
        framer.next(&mut format!("{OPEN}<a").as_bytes()).unwrap();
        framer.reset(SMALL);
        let header = framer.next(&mut format!("<?xml version='1.0'?>{OPEN}").as_bytes()).unwrap();
        assert!(matches!(header, Some(Frame::Open(_))), "{header:?}");
    }

    fn xmlish() -> impl Strategy<Value = String> {
        let tokens = [
            "<a>",
            "</a>",
            "<a/>",
            "<b c='d'>",
            "</b>",
            "x",
            " ",
            "&amp;",
            "&",
            "<![CDATA[",
            "]]>",
            "]",
            "<",
            ">",
        ];
        let more =
            ["'", "\"", "<!--", "<?x?>", "\u{1F600}", "</stream:stream>", "/", "=", "xmlns:p='q'", "<p:a "];
        let all: Vec<&str> = tokens.into_iter().chain(more).collect();
        prop::collection::vec(prop::sample::select(all), 0..24)
            .prop_map(|parts| format!("{OPEN}{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in xmlish(), mut cuts in prop::collection::vec(any::<usize>(), 0..6)) {
            cuts.iter_mut().for_each(|cut| *cut %= text.len() + 1);
            cuts.sort_unstable();
            let whole = frames(text.as_bytes(), &[]);
            prop_assert_eq!(frames(text.as_bytes(), &cuts), whole.clone());
            let every: Vec<usize> = (0..text.len()).collect();
            prop_assert_eq!(frames(text.as_bytes(), &every), whole);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in any::<usize>()) {
            frames(&bytes, &[cut]);
            frames(&[OPEN.as_bytes(), &bytes].concat(), &[cut]);
        }
    }
}

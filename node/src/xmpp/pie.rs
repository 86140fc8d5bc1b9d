//! XEP-0227: a server's users in one document, read piece by piece: nothing larger than one child of a user is ever held, and
//! of what is not asked for nothing at all. *Pure.*
//!
//! Comments and processing instructions, which files have and streams must not, are passed over; document types are not
//! taken, so no entity can grow.

use std::io::{self, BufRead, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::element::Element;
use super::parse::{Limits, Scope, Tree, legal_text, reference_text, scope_of};

/// Namespace of the document.
pub const PIE: &str = "urn:xmpp:pie:0";
/// Of SCRAM keys in it.
pub const SCRAM: &str = "urn:xmpp:pie:0#scram";
/// XInclude.
pub const INCLUDE: &str = "http://www.w3.org/2001/XInclude";

/// How large one child of a user may be: a contact list, a vCard.
const LIMITS: Limits =
    Limits { stanza_bytes: 4 << 20, written_bytes: 8 << 20, depth: 32, attributes: 64, elements: 200_000 };
/// Elements inside each other, of what is passed over too.
const DEPTH: usize = 64;

/// The next thing in a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A host begins: what follows is of its users.
    Host(Element),
    /// A user begins, without what is in it.
    User(Element),
    /// Something of that user that was asked for.
    Child(Element),
    /// That user ends.
    UserEnd,
    /// Another file has the rest of what is here.
    Include(Element),
}

/// What is wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, byte {byte}: {why}")]
pub struct PieError {
    /// From 1.
    pub line: u64,
    /// Bytes before it.
    pub byte: u64,
    /// What.
    pub why: String,
}

/// Where an element stands, by what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Top,
    Server,
    Host,
    User,
}

/// Reads one document.
pub struct Document<R: BufRead> {
    reader: Reader<Counted<R>>,
    /// What is open above the users' children, each with the namespaces that hold in it.
    open: Vec<(Level, Scope)>,
    /// Whether something of a user is wanted, by name and namespace.
    wanted: fn(&str, &str) -> bool,
    begun: bool,
    /// An element that began and ended at once.
    ends: bool,
}

impl<R: BufRead> std::fmt::Debug for Document<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({} open)", self.open.len())
    }
}

impl<R: BufRead> Document<R> {
    /// A document of which those children of users are wanted.
    pub fn new(input: R, wanted: fn(&str, &str) -> bool) -> Self {
        let reader = Reader::from_reader(Counted { input, lines: 1, room: EVENT });
        Self { reader, open: Vec::new(), wanted, begun: false, ends: false }
    }

    /// The next thing; nothing at the end.
    ///
    /// # Errors
    /// When it is no such document, or cannot be read.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, PieError> {
        let mut buffer = Vec::new();
        loop {
            if std::mem::take(&mut self.ends)
                && let Some(piece) = self.close()
            {
                return Ok(Some(piece));
            }
            match self.event(&mut buffer)? {
                Event::Start(tag) => {
                    let tag = tag.into_owned();
                    if let Some(piece) = self.start(&tag, false)? {
                        return Ok(Some(piece));
                    }
                }
                Event::Empty(tag) => {
                    let tag = tag.into_owned();
                    if let Some(piece) = self.start(&tag, true)? {
                        return Ok(Some(piece));
                    }
                }
                Event::End(_) => {
                    if let Some(piece) = self.close() {
                        return Ok(Some(piece));
                    }
                }
                Event::Text(text) if text.trim_matches(is_space).is_empty() => {}
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::DocType(_) => return Err(self.wrong("a document type is not taken")),
                Event::Eof if self.open.is_empty() && self.begun => return Ok(None),
                Event::Eof => return Err(self.wrong("the file ends before its elements do")),
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => {
                    return Err(self.wrong("text stands where users are expected"));
                }
            }
        }
    }

    /// What is wrong here.
    pub fn wrong(&self, why: impl std::fmt::Display) -> PieError {
        let (line, byte) = (self.reader.get_ref().lines, self.reader.buffer_position());
        PieError { line, byte, why: why.to_string() }
    }

    fn event<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Event<'b>, PieError> {
        buffer.clear();
        self.reader.get_mut().room = EVENT;
        let (lines, byte) = (self.reader.get_ref().lines, self.reader.buffer_position());
        let event = self.reader.read_event_into(buffer);
        event.map_err(|why| PieError { line: lines, byte, why: format!("not well-formed XML: {why}") })
    }

    fn close(&mut self) -> Option<Piece> {
        let closed = self.open.pop();
        closed.filter(|(level, _)| *level == Level::User).map(|_| Piece::UserEnd)
    }

    fn start(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<Option<Piece>, PieError> {
        if self.open.is_empty() && std::mem::replace(&mut self.begun, true) {
            return Err(self.wrong("something follows the document"));
        }
        let (level, base) = match self.open.last() {
            Some((level, scope)) => (*level, scope.clone()),
            None => (Level::Top, Scope::new("")),
        };
        let read = scope_of(tag, &base, &LIMITS);
        let (element, scope) = read.map_err(|why| self.wrong(why.text))?;
        let inner = match (level, element.name(), element.ns()) {
            (Level::Top, "server-data", PIE) => Level::Server,
            (Level::Top | Level::Server, "host", PIE) => Level::Host,
            (Level::Top | Level::Host, "user", PIE) => Level::User,
            (Level::Top, ..) => {
                return Err(self.wrong(
                    "this is no export of a server by XEP-0227 (<server-data xmlns='urn:xmpp:pie:0'>)",
                ));
            }
            (Level::Server | Level::Host | Level::User, "include", INCLUDE) => {
                self.skip(empty)?;
                return Ok(Some(Piece::Include(element)));
            }
            (Level::User, name, ns) if (self.wanted)(name, ns) => {
                return self.child(tag, &base, empty).map(|child| Some(Piece::Child(child)));
            }
            _ => {
                self.skip(empty)?;
                return Ok(None);
            }
        };
        self.open.push((inner, scope));
        self.ends = empty;
        Ok(match inner {
            Level::Host => Some(Piece::Host(element)),
            Level::User => Some(Piece::User(element)),
            Level::Top | Level::Server => None,
        })
    }

    /// Passes over the rest of an element.
    fn skip(&mut self, empty: bool) -> Result<(), PieError> {
        let mut buffer = Vec::new();
        let mut depth = usize::from(!empty);
        while depth > 0 {
            depth = match self.event(&mut buffer)? {
                Event::Start(_) if depth >= DEPTH => {
                    return Err(self.wrong("too many elements inside each other"));
                }
                Event::Start(_) => depth + 1,
                Event::End(_) => depth - 1,
                Event::DocType(_) => return Err(self.wrong("a document type is not taken")),
                Event::Eof => return Err(self.wrong("the file ends before its elements do")),
                _ => depth,
            };
        }
        Ok(())
    }

    /// All of an element.
    fn child(&mut self, tag: &BytesStart<'_>, base: &Scope, empty: bool) -> Result<Element, PieError> {
        let mut tree = Tree::new(base, &LIMITS, 0);
        let mut done = tree.open(tag).and_then(|()| if empty { tree.close() } else { Ok(None) });
        let mut buffer = Vec::new();
        loop {
            match done {
                Ok(Some(element)) => return Ok(element),
                Ok(None) => {}
                Err(why) => return Err(self.wrong(why.text)),
            }
            done = match self.event(&mut buffer)? {
                Event::Start(tag) => tree.open(&tag).map(|()| None),
                Event::Empty(tag) => tree.open(&tag).and_then(|()| tree.close()),
                Event::End(_) => tree.close(),
                Event::Text(text) => legal_text(text.as_bytes()).and_then(|text| tree.text(text)),
                Event::CData(text) => legal_text(text.as_bytes()).and_then(|text| tree.push_lines(text)),
                Event::GeneralRef(name) => reference_text(&name).and_then(|text| tree.push_text(&text)),
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => Ok(None),
                Event::DocType(_) => return Err(self.wrong("a document type is not taken")),
                Event::Eof => return Err(self.wrong("the file ends before its elements do")),
            };
        }
    }
}

fn is_space(sign: char) -> bool {
    matches!(sign, ' ' | '\t' | '\n' | '\r')
}

/// Bytes of one tag or text at most.
const EVENT: usize = 2 << 20;

/// Counts lines, and bytes of what is read together.
struct Counted<R> {
    input: R,
    lines: u64,
    room: usize,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.room == 0 {
            return Err(io::Error::other("one tag or text is larger than any that is read"));
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Ok(buffer) = self.input.fill_buf() {
            let taken = &buffer[..count.min(buffer.len())];
            self.lines += u64::try_from(memchr::memchr_iter(b'\n', taken).count()).unwrap_or_default();
        }
        self.room = self.room.saturating_sub(count);
        self.input.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Result<Vec<String>, PieError> {
        let mut document = Document::new(text.as_bytes(), |name, _| matches!(name, "query" | "vCard"));
        let mut pieces = Vec::new();
        while let Some(piece) = document.next_piece()? {
            pieces.push(match piece {
                Piece::Host(host) => format!("host {}", host.get_attr("jid").unwrap_or_default()),
                Piece::User(user) => format!("user {}", user.get_attr("name").unwrap_or_default()),
                Piece::Child(child) => {
                    format!("{} {}", child.name(), String::from_utf8_lossy(&child.to_bytes(child.ns())))
                }
                Piece::UserEnd => "end".to_owned(),
                Piece::Include(include) => {
                    format!("include {}", include.get_attr("href").unwrap_or_default())
                }
            });
        }
        Ok(pieces)
    }

    #[test]
    fn users_come_in_order_and_what_is_not_wanted_is_passed_over() {
        let text = "<?xml version='1.0'?>\n<!-- of a server --><server-data xmlns='urn:xmpp:pie:0' xmlns:r='jabber:iq:roster'>\
            <host jid='a.example'><user name='one'><r:query><r:item jid='b@c'/></r:query>\
            <offline-messages><message xmlns='jabber:client'><body>secret &amp; long</body></message></offline-messages></user>\
            <user name='two'/></host><xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='more.xml'/></server-data>";
        let expected = [
            "host a.example",
            "user one",
            "query <query><item jid='b@c'/></query>",
            "end",
            "user two",
            "end",
            "include more.xml",
        ];
        assert_eq!(pieces(text).expect("read"), expected);
        assert_eq!(pieces("<user xmlns='urn:xmpp:pie:0' name='x'/>").expect("read"), ["user x", "end"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |text: &str| pieces(text).expect_err("refused").to_string();
        let open = "<server-data xmlns='urn:xmpp:pie:0'>\n<host jid='a'>\n";
        assert!(wrong(&format!("{open}<user name='x'>")).starts_with("line 3, byte "));
        assert!(wrong(&format!("{open}<user name='x'></host>")).contains("line 3"));
        assert!(wrong(&format!("{open}<user name='x' name='y'/>")).contains("stands twice"));
        assert!(wrong(&format!("<!DOCTYPE a [<!ENTITY b 'c'>]>{open}")).contains("document type"));
        assert!(wrong(&format!("{open}<user name='x'><query>&b;</query>")).contains("not allowed"));
        assert!(wrong("<html/>").contains("XEP-0227"));
        assert!(wrong("").contains("ends"));
        assert!(wrong("<user xmlns='urn:xmpp:pie:0'/><user xmlns='urn:xmpp:pie:0'/>").contains("follows"));
        let deep = format!("{open}<user name='x'>{}", "<a>".repeat(99));
        assert!(wrong(&deep).contains("inside each other"));
    }

    /// A file of any size is read in little memory: one tag or text is bounded.
    #[test]
    fn nothing_of_any_size_is_held() {
        let text = format!("<user xmlns='urn:xmpp:pie:0' name='{}'/>", "x".repeat(3 << 20));
        assert!(pieces_slowly(&text).expect_err("refused").to_string().contains("larger than any"));
    }

    /// As a file is read, some kilobytes at a time.
    fn pieces_slowly(text: &str) -> Result<(), PieError> {
        let input = io::BufReader::with_capacity(4_096, text.as_bytes());
        let mut document = Document::new(input, |_, _| true);
        while document.next_piece()?.is_some() {}
        Ok(())
    }
}

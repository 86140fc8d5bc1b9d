//! Owns the cutting of an incoming XMPP stream into stanzas by searching for a few bytes, *pure*.
//!
//! It trusts the server to send well-formed XML: it finds where each child of the stream ends, and nothing more.

use memchr::{memchr, memchr2, memchr3, memmem};

/// The longest stanza taken, in bytes; a server that sends more is not worth measuring.
pub const MAX_STANZA: usize = 256 * 1024;

/// One piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// White space between stanzas, or an XML declaration.
    Filler,
    /// The opening tag of the stream.
    Header(&'a [u8]),
    /// A whole child of the stream, from `<` to the last `>`.
    Stanza(&'a [u8]),
    /// The closing tag of the stream.
    End,
}

/// Why a stream cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Text, a comment or a document type where a tag was due.
    #[error("the server sent something else than a tag, white space or text inside a stanza")]
    NotXmpp,
    /// More than [`MAX_STANZA`] bytes without an end.
    #[error("the server sent a stanza of more than {MAX_STANZA} bytes")]
    TooLong,
}

/// The first piece of `bytes` and its length, or nothing when its end has not arrived yet: call again from the same
/// start with more bytes.
///
/// # Errors
/// [`ScanError`] when this is no XMPP stream; it stays an error with more bytes.
pub fn next_piece(bytes: &[u8]) -> Result<Option<(Piece<'_>, usize)>, ScanError> {
    let found = cut(bytes)?;
    if found.is_none() && bytes.len() > MAX_STANZA {
        return Err(ScanError::TooLong);
    }
    Ok(found)
}

fn cut(bytes: &[u8]) -> Result<Option<(Piece<'_>, usize)>, ScanError> {
    let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    if blank > 0 {
        return Ok(Some((Piece::Filler, blank)));
    }
    let Some(tag) = tag_at(bytes, 0)? else { return Ok(None) };
    let whole = bytes.get(..tag.end).unwrap_or_default();
    match tag.kind {
        Kind::Declaration => return Ok(Some((Piece::Filler, tag.end))),
        Kind::Close => return Ok(Some((Piece::End, tag.end))),
        Kind::Data => return Err(ScanError::NotXmpp),
        Kind::Open if name_of(whole) == b"stream:stream" => return Ok(Some((Piece::Header(whole), tag.end))),
        Kind::Empty => return Ok(Some((Piece::Stanza(whole), tag.end))),
        Kind::Open => {}
    }
    let Some(end) = end_of_element(bytes, tag.end)? else { return Ok(None) };
    Ok(Some((Piece::Stanza(bytes.get(..end).unwrap_or_default()), end)))
}

/// The end of the element whose opening tag ended at `at`.
fn end_of_element(bytes: &[u8], mut at: usize) -> Result<Option<usize>, ScanError> {
    let mut depth = 1usize;
    while let Some(text) = memchr(b'<', bytes.get(at..).unwrap_or_default()) {
        let Some(tag) = tag_at(bytes, at + text)? else { return Ok(None) };
        at = tag.end;
        match tag.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            Kind::Empty | Kind::Data => {}
            Kind::Declaration => return Err(ScanError::NotXmpp),
        }
        if depth == 0 {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

#[derive(Clone, Copy)]
enum Kind {
    Open,
    Empty,
    Close,
    Declaration,
    Data,
}

struct Tag {
    kind: Kind,
    /// Offset behind its `>`.
    end: usize,
}

fn tag_at(bytes: &[u8], start: usize) -> Result<Option<Tag>, ScanError> {
    let rest = bytes.get(start..).unwrap_or_default();
    let found = match rest {
        [] | [b'<'] => None,
        [b'<', b'/', ..] => memchr(b'>', rest).map(|at| (Kind::Close, at + 1)),
        [b'<', b'?', ..] => memmem::find(rest, b"?>").map(|at| (Kind::Declaration, at + 2)),
        [b'<', b'!', ..] => character_data(rest)?.map(|end| (Kind::Data, end)),
        [b'<', ..] => opening(rest),
        [_, ..] => return Err(ScanError::NotXmpp),
    };
    Ok(found.map(|(kind, length)| Tag { kind, end: start + length }))
}

fn opening(tag: &[u8]) -> Option<(Kind, usize)> {
    let mut at = 1;
    loop {
        at += memchr3(b'>', b'\'', b'"', tag.get(at..)?)?;
        let found = *tag.get(at)?;
        at += 1;
        if found == b'>' {
            let kind = if tag.get(at - 2) == Some(&b'/') { Kind::Empty } else { Kind::Open };
            return Some((kind, at));
        }
        at += memchr(found, tag.get(at..)?)? + 1;
    }
}

fn character_data(data: &[u8]) -> Result<Option<usize>, ScanError> {
    const OPEN: &[u8] = b"<![CDATA[";
    let seen = data.len().min(OPEN.len());
    if data.get(..seen) != OPEN.get(..seen) {
        return Err(ScanError::NotXmpp);
    }
    Ok(memmem::find(data, b"]]>").map(|at| at + 3))
}

/// The name of the element that `stanza` opens with, with its prefix.
#[must_use]
pub fn name_of(stanza: &[u8]) -> &[u8] {
    let inner = stanza.get(1..).unwrap_or_default();
    let end = inner.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'));
    inner.get(..end.unwrap_or(inner.len())).unwrap_or_default()
}

/// The raw value (entities not resolved) of an attribute of the first tag of `stanza`.
#[must_use]
pub fn attribute<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = stanza.get(1 + name_of(stanza).len()..)?;
    loop {
        rest = rest.trim_ascii_start();
        if matches!(rest.first(), None | Some(b'>' | b'/')) {
            return None;
        }
        let equals = memchr(b'=', rest)?;
        let key = rest.get(..equals)?.trim_ascii();
        let open = equals + 1 + memchr2(b'\'', b'"', rest.get(equals + 1..)?)?;
        let value = rest.get(open + 1..)?;
        let length = memchr(*rest.get(open)?, value)?;
        if key == name.as_bytes() {
            return value.get(..length);
        }
        rest = value.get(length + 1..)?;
    }
}

/// Whether `stanza` holds `text` anywhere.
#[must_use]
pub fn holds(stanza: &[u8], text: &str) -> bool {
    memmem::find(stanza, text.as_bytes()).is_some()
}

/// The raw text between `<name…>` and the next `<`, for the first element of that name in `stanza`.
#[must_use]
pub fn text_of<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let open = format!("<{name}");
    let mut from = 0;
    loop {
        let start = from + memmem::find(stanza.get(from..)?, open.as_bytes())?;
        let tag = stanza.get(start..)?;
        if name_of(tag) == name.as_bytes() {
            let (kind, end) = opening(tag)?;
            let text = if matches!(kind, Kind::Empty) { b"" } else { tag.get(end..)? };
            return text.get(..memchr(b'<', text).unwrap_or(0));
        }
        from = start + open.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "<?xml version='1.0'?><stream:stream from=\"a>b\" xmlns='jabber:client'>\
        <stream:features><mechanisms xmlns='m'><mechanism>PLAIN</mechanism></mechanisms></stream:features> \n\
        <message to='a/>' type=\"chat\"><body>1 &gt; 0 > -1</body><x/></message><r xmlns='urn:xmpp:sm:3'/>\
        <iq id='1'><q><![CDATA[</iq>]]></q></iq></stream:stream>";

    fn pieces(stream: &[u8]) -> Vec<Piece<'_>> {
        let mut rest = stream;
        let mut found = Vec::new();
        while let Some((piece, length)) = next_piece(rest).unwrap() {
            found.push(piece);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn a_whole_stream_in_its_pieces() {
        let found = pieces(STREAM.as_bytes());
        let names: Vec<_> = found
            .iter()
            .map(|piece| match piece {
                Piece::Filler => "filler",
                Piece::Header(_) => "header",
                Piece::Stanza(stanza) => std::str::from_utf8(name_of(stanza)).unwrap(),
                Piece::End => "end",
            })
            .collect();
        assert_eq!(names, ["filler", "header", "stream:features", "filler", "message", "r", "iq", "end"]);
    }

    #[test]
    fn split_at_every_byte_gives_the_same_pieces() {
        let whole = pieces(STREAM.as_bytes());
        let mut start = 0;
        let mut found = Vec::new();
        for end in 0..=STREAM.len() {
            while let Some((piece, length)) = next_piece(&STREAM.as_bytes()[start..end]).unwrap() {
                found.push(piece);
                start += length;
            }
        }
        // A filler may be cut shorter; everything else is the same.
        found.retain(|piece| *piece != Piece::Filler);
        let solid: Vec<_> = whole.into_iter().filter(|piece| *piece != Piece::Filler).collect();
        assert_eq!(found, solid);
    }

    #[test]
    fn what_is_not_xmpp_is_refused() {
        for bad in ["hello", "<!-- c -->", "<!DOCTYPE x>", "<a><?pi ?></a>", "<![CDATA[x]]>"] {
            assert_eq!(next_piece(bad.as_bytes()), Err(ScanError::NotXmpp), "{bad}");
        }
        let endless = format!("<a>{}", "x".repeat(MAX_STANZA));
        assert_eq!(next_piece(endless.as_bytes()), Err(ScanError::TooLong));
    }

    #[test]
    fn attributes_and_texts_are_found() {
        let stanza = br#"<iq type='result' id = "b'1"><bind><jid>a@b/c</jid><jidx>no</jidx></bind></iq>"#;
        assert_eq!(attribute(stanza, "type"), Some(&b"result"[..]));
        assert_eq!(attribute(stanza, "id"), Some(&b"b'1"[..]));
        assert_eq!(attribute(stanza, "xmlns"), None);
        assert_eq!(text_of(stanza, "jid"), Some(&b"a@b/c"[..]));
        assert_eq!(text_of(stanza, "jidx"), Some(&b"no"[..]));
        assert_eq!(text_of(stanza, "none"), None);
        assert_eq!(text_of(b"<a><text/>b</a>", "text"), Some(&b""[..]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_overrun(bytes in "[<>/?!'\"a= \\[\\]-]{0,60}") {
            let bytes = bytes.as_bytes();
            if let Ok(Some((_, length))) = next_piece(bytes) {
                prop_assert!((1..=bytes.len()).contains(&length));
            }
            let _ = (attribute(bytes, "a"), text_of(bytes, "a"), name_of(bytes));
        }

        #[test]
        fn a_prefix_never_disagrees_with_the_whole(cut in 0usize..400) {
            let bytes = STREAM.as_bytes();
            let cut = cut.min(bytes.len());
            if let Some((piece, length)) = next_piece(&bytes[..cut]).unwrap() {
                prop_assert_eq!(next_piece(bytes).unwrap(), Some((piece, length)));
            }
        }
    }
}

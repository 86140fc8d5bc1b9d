//! A line of IRC: tags, source, command, parameters (RFC 2812 §2.3, IRCv3 message tags); read, and written within its limits. *Pure.*
//!
//! By hand: irc-proto gives no bound on what it reads and loses parameters of commands that it knows.

use std::fmt::Write as _;

/// Bytes of a line without its tags, line end included (RFC 2812 §2.3).
pub const LINE: usize = 512;
/// Bytes of a line that is read, tags and all (IRCv3 message tags: 4,096 and what RFC 2812 allows).
pub const MOST: usize = 4_096 + LINE;
/// Parameters of a line (RFC 2812 §2.3).
const PARAMETERS: usize = 15;

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Tags with their values, unescaped, in their order; the last of several with one key counts.
    pub tags: Vec<(String, String)>,
    /// Who says it, without the colon.
    pub source: Option<String>,
    /// Command or number, in upper case.
    pub command: String,
    /// Parameters, the last without its colon.
    pub params: Vec<String>,
}

impl Line {
    /// A line with this command.
    pub fn new(command: &str) -> Self {
        Self { command: command.to_owned(), ..Self::default() }
    }

    /// Said by.
    #[must_use]
    pub fn from(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// With one more parameter.
    #[must_use]
    pub fn param(mut self, text: impl Into<String>) -> Self {
        self.params.push(text.into());
        self
    }

    /// With a tag.
    #[must_use]
    pub fn tag(mut self, key: &str, value: impl Into<String>) -> Self {
        self.tags.push((key.to_owned(), value.into()));
        self
    }

    /// Reads a line, without its end. `None`: there is no command in it.
    pub fn read(text: &str) -> Option<Self> {
        let mut line = Self::default();
        let mut rest = text.trim_start_matches(' ');
        if let Some(tagged) = rest.strip_prefix('@') {
            let (tags, behind) = word(tagged);
            line.tags = tags.split(';').map(read_tag).filter(|(key, _)| !key.is_empty()).collect();
            rest = behind;
        }
        if let Some(said) = rest.strip_prefix(':') {
            let (source, behind) = word(said);
            line.source = Some(source.to_owned());
            rest = behind;
        }
        let (command, behind) = word(rest);
        line.command = command.to_ascii_uppercase();
        rest = behind;
        while !rest.is_empty() {
            let last = rest.strip_prefix(':').or((line.params.len() + 1 == PARAMETERS).then_some(rest));
            if let Some(last) = last {
                line.params.push(last.to_owned());
                break;
            }
            let (param, behind) = word(rest);
            line.params.push(param.to_owned());
            rest = behind;
        }
        let named = !line.command.is_empty() && line.command.bytes().all(|byte| byte.is_ascii_alphanumeric());
        named.then_some(line)
    }

    /// A parameter, or nothing.
    pub fn get(&self, number: usize) -> &str {
        self.params.get(number).map_or("", String::as_str)
    }

    /// Writes it with its end. What a line cannot have (line ends, blanks before the last parameter) becomes something that it
    /// can; what is beyond [`LINE`] is cut off between characters.
    pub fn write(&self, out: &mut String) {
        if !self.tags.is_empty() {
            let tags: Vec<String> = self.tags.iter().map(|(key, value)| written_tag(key, value)).collect();
            let _ = write!(out, "@{} ", tags.join(";"));
        }
        let start = out.len();
        if let Some(source) = &self.source {
            let _ = write!(out, ":{} ", middle(source));
        }
        out.push_str(&self.command);
        for (number, param) in self.params.iter().enumerate() {
            let last = number + 1 == self.params.len();
            let param: String = param.chars().map(harmless).collect();
            let bare = !param.is_empty() && !param.starts_with(':') && !param.contains(' ');
            match (bare, last) {
                (true, _) => out.extend([" ", &param]),
                (false, true) => out.extend([" :", &param]),
                (false, false) => out.extend([" ", &middle(&param)]),
            }
        }
        let most = start + LINE - 2;
        if out.len() > most {
            out.truncate(boundary(out, most));
        }
        out.push_str("\r\n");
    }
}

/// The last place up to `most` between characters.
pub(super) fn boundary(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The first word, and what follows it and the blanks behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

fn harmless(char: char) -> char {
    match char {
        '\r' | '\n' | '\0' => ' ',
        // Some terminals obey these.
        '\u{7f}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        _ => char,
    }
}

/// A parameter that is not the last, or a source.
fn middle(text: &str) -> String {
    let text: String =
        text.chars().map(|char| if harmless(char) == ' ' { '_' } else { harmless(char) }).collect();
    match text.strip_prefix(':') {
        Some(rest) => format!("_{rest}"),
        None if text.is_empty() => "*".to_owned(),
        None => text,
    }
}

fn read_tag(tag: &str) -> (String, String) {
    let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
    let mut read = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(':') => read.push(';'),
                Some('s') => read.push(' '),
                Some('r') => read.push('\r'),
                Some('n') => read.push('\n'),
                Some(other) => read.push(other),
                None => {}
            },
            _ => read.push(char),
        }
    }
    (key.to_owned(), read)
}

fn written_tag(key: &str, value: &str) -> String {
    let mut text = key.to_owned();
    if !value.is_empty() {
        text.push('=');
    }
    for char in value.chars() {
        match char {
            ';' => text.push_str("\\:"),
            ' ' => text.push_str("\\s"),
            '\\' => text.push_str("\\\\"),
            '\r' => text.push_str("\\r"),
            '\n' => text.push_str("\\n"),
            _ => text.push(char),
        }
    }
    text
}

/// What came of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, without its end; never an empty one.
    Text(String),
    /// One beyond [`MOST`], which was skipped.
    TooLong,
    /// One that is not UTF-8, or has a NUL in it.
    NotText,
}

/// Cuts bytes into lines: never more than [`MOST`] of them are kept.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    skipping: bool,
}

impl Lines {
    /// Takes from the front of `input` up to the end of a line, or all of it (`None`: there is no whole one).
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Heard> {
        loop {
            let end = memchr::memchr(b'\n', input);
            let (piece, rest) = input.split_at(end.unwrap_or(input.len()));
            *input = rest.get(usize::from(end.is_some())..).unwrap_or_default();
            if self.partial.len() + piece.len() > MOST {
                self.skipping = true;
            }
            match self.skipping {
                true => self.partial = Vec::new(),
                false => self.partial.extend_from_slice(piece),
            }
            end?;
            let line = std::mem::take(&mut self.partial);
            if std::mem::take(&mut self.skipping) {
                return Some(Heard::TooLong);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.iter().all(|byte| *byte == b' ') {
                continue;
            }
            return Some(match std::str::from_utf8(line) {
                Ok(text) if !text.contains(['\0', '\r']) => Heard::Text(text.to_owned()),
                Ok(_) | Err(_) => Heard::NotText,
            });
        }
    }

    /// Bytes kept of a line that is not whole.
    pub fn kept(&self) -> usize {
        self.partial.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(line: &Line) -> String {
        let mut out = String::new();
        line.write(&mut out);
        out
    }

    #[test]
    fn lines_of_the_documents() {
        let line =
            Line::read("@time=2011-10-19T16:40:51.620Z;a=\\:\\s\\\\ :a!b@c  privmsg  &x   :two  words")
                .unwrap();
        assert_eq!(
            line.tags,
            [("time".into(), "2011-10-19T16:40:51.620Z".into()), ("a".into(), "; \\".into())]
        );
        assert_eq!((line.source.as_deref(), &line.command[..]), (Some("a!b@c"), "PRIVMSG"));
        assert_eq!(line.params, ["&x", "two  words"]);
        assert_eq!(Line::read("AWAY :").unwrap().params, [""]);
        let many = Line::read(&format!("X {}", "p ".repeat(20))).unwrap();
        assert_eq!((many.params.len(), many.get(14)), (15, "p p p p p p "));
        for none in ["", "  ", ":a", "@a=b", "\u{1}VERSION\u{1}"] {
            assert_eq!(Line::read(none), None, "{none:?}");
        }
    }

    #[test]
    fn nothing_said_ends_a_line_or_begins_another() {
        let line = Line::new("PRIVMSG").from("a\r\nQUIT b").param("x\ny").param("one\r\nQUIT :two");
        assert_eq!(written(&line), ":a__QUIT_b PRIVMSG x_y :one  QUIT :two\r\n");
        assert_eq!(written(&Line::new("X").param("").param(":a").param("")), "X * _a :\r\n");
        assert_eq!(written(&Line::new("X").param("\u{9b}a").param("b\u{7f}")), "X \u{fffd}a b\u{fffd}\r\n");
    }

    #[test]
    fn a_line_too_long_is_skipped_to_its_end() {
        let bytes = [&vec![b'a'; MOST + 1][..], b"\r\nPING x\n\xff\n\r\n"].concat();
        let mut lines = Lines::default();
        let mut input = &bytes[..];
        assert_eq!(lines.next(&mut input), Some(Heard::TooLong));
        assert_eq!(lines.next(&mut input), Some(Heard::Text("PING x".into())));
        assert_eq!(lines.next(&mut input), Some(Heard::NotText));
        assert_eq!(lines.next(&mut input), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_one_line_within_its_limits_and_reads_back(
            params in proptest::collection::vec("\\PC{0,200}", 0..5), value in "\\PC{0,20}", source in "[a-z!@.]{1,9}",
        ) {
            let mut line = Line::new("TAGMSG").from(&source).tag("+typing", value);
            line.params = params;
            let text = written(&line);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let untagged = text.split_once(' ').map_or("", |(_, rest)| rest);
            prop_assert!(untagged.len() <= LINE);
            let read = Line::read(text.trim_end_matches("\r\n")).unwrap();
            prop_assert_eq!(&read.tags, &line.tags);
            if untagged.len() + 4 <= LINE && line.params.iter().rev().skip(1).all(|param| middle(param) == *param) {
                prop_assert_eq!(read, line);
            }
        }
    }
}

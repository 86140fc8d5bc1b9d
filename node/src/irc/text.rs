//! Text between XMPP and IRC: lines of bounded length, actions (XEP-0245), formatting (XEP-0393), times (XEP-0203). *Pure.*

use unicode_normalization::char::is_combining_mark;

use super::line::boundary;

/// Begins and ends what is no text (CTCP).
const MARK: char = '\u{1}';
/// What an action costs a line beside its text.
const ACTION: usize = "\u{1}ACTION \u{1}".len();

/// Lines of one body that are lines of IRC: of more the last of them has the rest, with ` / ` between.
const LINES: usize = 200;

/// A message as IRC says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Text.
    Text(String),
    /// `/me …`.
    Action(String),
    /// A request to the other's program, or its answer, by its first word: nothing that XMPP has.
    Request(String),
}

impl Said {
    /// Reads the last parameter of a PRIVMSG or NOTICE.
    pub fn read(text: &str) -> Self {
        let Some(marked) = text.strip_prefix(MARK) else { return Self::Text(text.to_owned()) };
        let marked = marked.strip_suffix(MARK).unwrap_or(marked);
        match marked.split_once(' ') {
            Some(("ACTION", action)) => Self::Action(action.to_owned()),
            Some((word, _)) => Self::Request(word.to_owned()),
            None => Self::Request(marked.to_owned()),
        }
    }
}

/// A body as the parameters of as many PRIVMSG, each of at most `room` bytes. All of the text is there, in its order; an empty line
/// is a blank, as IRC has none.
pub fn to_irc(body: &str, room: usize) -> Vec<String> {
    let (action, body) = match body.strip_prefix("/me ") {
        Some(rest) => (true, rest),
        None => (false, body),
    };
    let mut messages = Vec::new();
    let body = body.replace("\r\n", "\n");
    // Each line costs as much as a source and a command: of very many, that would be a hundred times the body.
    let lines = body.trim_end_matches(['\n', '\r']).splitn(LINES, ['\n', '\r']);
    for (number, line) in lines.enumerate() {
        let line: String = line.replace(['\n', '\r'], " / ").chars().map(shown).collect();
        let acts = action && number == 0;
        let room = room.saturating_sub(if acts { ACTION } else { 0 });
        for piece in split(&line, room) {
            messages.push(match acts {
                true => format!("{MARK}ACTION {piece}{MARK}"),
                false => piece.to_owned(),
            });
        }
        if line.is_empty() {
            messages.push(" ".to_owned());
        }
    }
    messages
}

/// Bytes that [`to_irc`] spends beside an action's text.
pub fn spent(said: &Said) -> usize {
    if matches!(said, Said::Action(_)) { ACTION } else { 0 }
}

/// What a terminal would obey is shown as something that it does not know.
fn shown(char: char) -> char {
    match char {
        '\t' => ' ',
        _ if char.is_control() => char::REPLACEMENT_CHARACTER,
        _ => char,
    }
}

/// A line in pieces of at most `room` bytes, which one after the other are the line: behind a blank where there is one, else
/// between characters, and rather not within one that is made of several.
pub fn split(line: &str, room: usize) -> Vec<&str> {
    let room = room.max(4);
    let (mut pieces, mut rest) = (Vec::new(), line);
    while rest.len() > room {
        let most = boundary(rest, room);
        let blank = rest[..most].rfind(' ').map(|at| at + 1).filter(|at| *at > room / 2);
        let (piece, behind) = rest.split_at(blank.unwrap_or_else(|| between(rest, most)));
        pieces.push(piece);
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The last place up to `most` that is not within what is shown as one character, if it is near.
fn between(text: &str, most: usize) -> usize {
    const JOINER: char = '\u{200d}';
    let joins = |at: usize| {
        let next = text[at..].chars().next();
        let joined = next.is_some_and(|char| {
            is_combining_mark(char)
                || matches!(char, JOINER | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
        });
        joined || text[..at].ends_with(JOINER)
    };
    let ends = text[..most].char_indices().rev().map(|(at, _)| at);
    std::iter::once(most).chain(ends.take(16)).find(|at| *at > 0 && !joins(*at)).unwrap_or(most)
}

/// The body of what was said; `None` for what XMPP has no words for.
pub fn to_xmpp(said: &Said) -> Option<String> {
    match said {
        Said::Text(text) => Some(styled(text)),
        Said::Action(text) => Some(format!("/me {}", styled(text))),
        Said::Request(_) => None,
    }
}

/// Text of a person without what XML cannot have, but for the codes of IRC, which [`to_xmpp`] reads.
pub fn characters(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

/// The same without the codes, for what is no body: names, states, words of a command.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let text = characters(text);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{3}' => skip_colour(&mut chars, 2, char::is_ascii_digit),
            '\u{4}' => skip_colour(&mut chars, 6, char::is_ascii_hexdigit),
            _ if char.is_control() && char != '\t' => {}
            _ => out.push(char),
        }
    }
    out
}

/// Codes of mIRC as marks of XEP-0393 where these mean the same; colours and all else that plain text cannot say are left out.
fn styled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Marks that are open, with where they stand in `out`.
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{2}' => toggle(&mut out, &mut open, '*'),
            '\u{1d}' => toggle(&mut out, &mut open, '_'),
            '\u{1e}' => toggle(&mut out, &mut open, '~'),
            '\u{11}' => toggle(&mut out, &mut open, '`'),
            '\u{f}' => {
                while let Some((mark, _)) = open.last().copied() {
                    toggle(&mut out, &mut open, mark);
                }
            }
            '\u{3}' => skip_colour(&mut chars, 2, char::is_ascii_digit),
            '\u{4}' => skip_colour(&mut chars, 6, char::is_ascii_hexdigit),
            _ if char.is_control() && char != '\t' => {}
            _ => out.push(char),
        }
    }
    while let Some((mark, _)) = open.last().copied() {
        toggle(&mut out, &mut open, mark);
    }
    out
}

/// Opens a mark, or closes it and all within it; one around nothing, or with a blank inside its ends, means nothing in XEP-0393 and is
/// taken out again.
fn toggle(out: &mut String, open: &mut Vec<(char, usize)>, mark: char) {
    let Some(depth) = open.iter().position(|(other, _)| *other == mark) else {
        open.push((mark, out.len()));
        out.push(mark);
        return;
    };
    for (mark, at) in open.drain(depth..).rev() {
        let inner = &out[at + 1..];
        let before = out[..at].chars().next_back();
        let marks = before.is_none_or(|char| char.is_whitespace() || "*_~`(".contains(char));
        match marks && !inner.is_empty() && inner.trim() == inner {
            true => out.push(mark),
            false => drop(out.remove(at)),
        }
    }
}

/// A colour, perhaps with another behind a comma.
fn skip_colour(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    digits: usize,
    is_digit: impl Fn(&char) -> bool,
) {
    let skip = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        (0..digits).take_while(|_| chars.next_if(|char| is_digit(char)).is_some()).count()
    };
    if skip(chars) > 0 && chars.peek() == Some(&',') {
        let mut ahead = chars.clone();
        ahead.next();
        if ahead.peek().is_some_and(&is_digit) {
            *chars = ahead;
            skip(chars);
        }
    }
}

/// A time of XEP-0082 in UTC as server-time has it; `None` for any other.
pub fn server_time(stamp: &str) -> Option<String> {
    let (time, fraction) =
        stamp.strip_suffix('Z').map(|stamp| stamp.split_once('.').unwrap_or((stamp, "0")))?;
    let shape = time.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    let fits = shape.eq("0000-00-00T00:00:00".bytes());
    let digits =
        !fraction.is_empty() && fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    (fits && digits).then(|| format!("{time}.{:0<3}Z", &fraction[..fraction.len().min(3)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies_become_lines() {
        assert_eq!(to_irc("one\n\ntwo\r\nthree\n\n", 100), ["one", " ", "two", "three"]);
        assert_eq!(to_irc("/me waves\nand goes", 100), ["\u{1}ACTION waves\u{1}", "and goes"]);
        assert_eq!(to_irc("a\tb\u{9b}31m", 100), ["a b\u{fffd}31m"]);
        assert_eq!(
            to_irc("/me aaa bbb ccc", ACTION + 8),
            ["\u{1}ACTION aaa bbb \u{1}", "\u{1}ACTION ccc\u{1}"]
        );
        assert_eq!(to_irc("", 100), [" "]);
    }

    #[test]
    fn many_lines_are_written_as_one() {
        let body = format!("{}end", "x\n".repeat(10_000));
        let messages = to_irc(&body, 400);
        assert!(messages.len() < LINES + 10_000 * 4 / 390 + 2, "{}", messages.len());
        assert_eq!((messages[LINES - 2].as_str(), messages[LINES - 1].get(..9)), ("x", Some("x / x / x")));
        let back = messages.concat().replace([' ', '/'], "");
        assert_eq!(back, body.replace('\n', ""));
        assert_eq!(to_irc(&"x\n".repeat(LINES), 400).len(), LINES);
    }

    #[test]
    fn no_piece_begins_within_a_character() {
        // A family, joined of four.
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}";
        assert_eq!(split(&format!("abcd{family}"), 27), ["abcd", family]);
        assert_eq!(split("xxxxe\u{301}", 6), ["xxxx", "e\u{301}"]);
        assert_eq!(split("\u{2603}\u{2603}", 4), ["\u{2603}", "\u{2603}"]);
    }

    #[test]
    fn formatting_is_said_in_plain_text() {
        let body = |text: &str| to_xmpp(&Said::read(text)).unwrap();
        assert_eq!(body("\u{2}bold\u{2} and \u{1d}it\u{1d}"), "*bold* and _it_");
        assert_eq!(body("\u{2}\u{3}4,12red\u{3} x\u{f} \u{4}ff0000y"), "*red x* y");
        assert_eq!(body("\u{2} no \u{2}a\u{2}\u{2}b\u{1f}c\u{16}"), " no abc");
        assert_eq!(body("\u{1}ACTION is \u{2}here\u{1}"), "/me is *here*");
        assert_eq!(body("\u{3}1,x \u{3}"), ",x ");
        assert_eq!(to_xmpp(&Said::read("\u{1}DCC SEND a 1 2\u{1}")), None);
    }

    #[test]
    fn times_are_those_of_server_time() {
        assert_eq!(server_time("2026-11-23T18:00:01.5Z").as_deref(), Some("2026-11-23T18:00:01.500Z"));
        assert_eq!(server_time("2026-11-23T18:00:01Z").as_deref(), Some("2026-11-23T18:00:01.000Z"));
        for other in ["2026-11-23T18:00:01+01:00", "20261123T18:00:01", "", "Z", "2026-11-23T18:00:01.Z"] {
            assert_eq!(server_time(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_line(line in "(\\PC|[a-z ]){0,300}", room in 4usize..80) {
            let pieces = split(&line, room);
            prop_assert_eq!(pieces.concat(), &line[..]);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= room));
        }

        #[test]
        fn every_character_arrives(body in "(\\PC|[a-z \n*]){0,300}", room in 30usize..400) {
            let messages = to_irc(&body, room);
            prop_assert!(messages.iter().all(|text| text.len() <= room && !text.is_empty() && !text.contains(['\r', '\n'])));
            let back: String = messages.iter().map(|text| match Said::read(text) {
                Said::Text(text) | Said::Action(text) => text,
                Said::Request(word) => panic!("{word}"),
            }).collect();
            let all = |text: &str| text.chars().filter(|char| !char.is_whitespace()).collect::<String>();
            prop_assert_eq!(all(&back), all(body.strip_prefix("/me ").unwrap_or(&body)));
        }

        #[test]
        fn marks_take_no_text_away(text in "(\\PC|[a-z \u{2}\u{1d}\u{f}]){0,80}") {
            let body = to_xmpp(&Said::Text(text.clone())).unwrap();
            let kept = |text: &str| text.chars().filter(|char| !char.is_control() && !"*_~`".contains(*char)).collect::<String>();
            prop_assert_eq!(kept(&body), kept(&text));
        }
    }
}

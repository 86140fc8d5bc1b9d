//! Owns the target for what clients of the node's face for IRC say.

use std::time::Duration;

use crosstalk::irc::line::{Heard, LINE, Line, Lines, MOST};
use crosstalk::irc::registration::{Login, Registration};
use crosstalk::irc::session::Session;
use crosstalk::xmpp::{Element, Stanza, ns};

use super::bounded;
use crate::world::dice::Dice;

/// Lines: the same for every way to cut the bytes, no more kept than they may have, and written they read back. Whatever they say, a
/// session answers in whole lines within the limits of IRC, and says nothing to the core but stanzas.
pub fn irc(data: &[u8]) {
    let data = bounded(data);
    let whole = heard(data, [data.len()]);
    assert_eq!(whole, heard(data, 1..=data.len()), "single bytes make other lines");
    let mut dice = Dice::new(u64::from(crc32fast::hash(data)));
    let place = |dice: &mut Dice| usize::try_from(dice.below(data.len() as u64 + 1)).unwrap_or(0);
    let mut cuts = vec![place(&mut dice), place(&mut dice), data.len()];
    cuts.sort_unstable();
    assert_eq!(whole, heard(data, cuts), "pieces make other lines");
    let mut registration = Registration::default();
    let mut session = session();
    for heard in &whole {
        if let Heard::Text(text) = heard
            && let Some(line) = Line::read(text)
        {
            reads_back(&line);
            let mut out = String::new();
            let _ = registration.hear(&line, "PLAIN", &mut out);
            are_lines(&out);
        }
        session.hear(heard, Duration::ZERO);
        answers(&mut session);
    }
    session.tick(Duration::from_secs(60));
    answers(&mut session);
}

fn heard(data: &[u8], ends: impl IntoIterator<Item = usize>) -> Vec<Heard> {
    let (mut lines, mut all, mut start) = (Lines::default(), Vec::new(), 0);
    for end in ends {
        let mut piece = &data[start..end];
        start = end;
        while let Some(heard) = lines.next(&mut piece) {
            all.push(heard);
        }
        assert!(piece.is_empty() && lines.kept() <= MOST);
    }
    all
}

fn reads_back(line: &Line) {
    let mut text = String::new();
    line.write(&mut text);
    are_lines(&text);
    let untagged =
        if line.tags.is_empty() { &text[..] } else { text.split_once(' ').map_or("", |(_, rest)| rest) };
    // What is cut off, or has no source's form, is another line.
    let obeyed = line.params.iter().any(|param| param.contains(|char| ('\u{7f}'..='\u{9f}').contains(&char)));
    if !obeyed && untagged.len() + 4 <= LINE && line.source.as_deref() != Some("") && !text.contains(" :_") {
        let read = Line::read(text.trim_end_matches("\r\n"));
        assert_eq!(read.as_ref().map(|read| &read.params), Some(&line.params), "{text}");
        assert_eq!(read.as_ref().map(|read| &read.tags), Some(&line.tags), "{text}");
    }
}

/// A session that is open.
fn session() -> Session {
    let login = Login { nick: "me".into(), user: "me".into(), caps: Default::default() };
    let mut session = Session::new(login, vec!["id.internal".into()]);
    let bound = Element::new("jid", ns::BIND).text("me@id.internal/1");
    answer(&mut session, Element::new("bind", ns::BIND).child(bound));
    let contact = Element::new("item", ns::ROSTER).attr("jid", "bob@id.internal").attr("name", "bob");
    answer(&mut session, Element::new("query", ns::ROSTER).child(contact));
    assert!(session.is_ready());
    session
}

fn answer(session: &mut Session, payload: Element) {
    let asked = session.take().stanzas.pop().and_then(|asked| {
        let kind = Stanza::kind_of(&asked)?;
        Stanza::from_element(kind, asked).ok()
    });
    if let Some(asked) = asked {
        session.element(asked.result(Some(payload)).to_element());
    }
}

fn answers(session: &mut Session) {
    let said = session.take();
    are_lines(std::str::from_utf8(&said.irc).unwrap_or("no text\n"));
    for element in said.stanzas {
        let bytes = element.to_bytes(ns::CLIENT);
        assert_eq!(Element::read(&bytes).as_ref(), Ok(&element), "the core would not read it");
        assert!(Stanza::kind_of(&element).is_some() && element.get_attr("from").is_none());
    }
}

fn are_lines(text: &str) {
    for line in text.split_inclusive('\n') {
        let untagged =
            line.strip_prefix('@').and_then(|line| line.split_once(' ')).map_or(line, |(_, rest)| rest);
        assert!(untagged.len() <= LINE && line.ends_with("\r\n"), "{line:?}");
        assert_eq!(line.matches(['\r', '\n', '\0']).count(), 2, "{line:?}");
    }
}

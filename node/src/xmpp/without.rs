//! An element with some of the elements in it left out: every byte of the others stays as it is. *Pure.*

use quick_xml::Reader;
use quick_xml::events::Event;

use super::element::Element;
use super::error::StreamError;
use super::parse::{Limits, Scope, not_well_formed, reference_text, restricted, scope_of, too_much};

/// An element that is open.
struct Open {
    /// Without its nodes, but for its text.
    element: Element,
    /// What holds in it.
    scope: Scope,
    /// Where it begins.
    start: usize,
}

/// `text`, which is exactly one element, without those in it that `unwanted` names by the element around each and the element
/// itself, of which it sees name, attributes and text.
///
/// # Errors
/// As [`element`](super::parse::element).
pub fn without(
    text: &str,
    scope: &Scope,
    limits: &Limits,
    mut unwanted: impl FnMut(&Element, &Element) -> bool,
) -> Result<String, StreamError> {
    let mut reader = Reader::from_str(text);
    let (mut open, mut kept, mut from) = (Vec::<Open>::new(), String::new(), 0);
    // Text that is left out, and not yet sure to be in nothing that is left out as a whole: begins and ends, in order.
    let mut gaps = Vec::<(usize, usize)>::new();
    loop {
        let start = place(&reader)?;
        let (tag, empty) = match reader.read_event().map_err(|why| not_well_formed(&why))? {
            Event::Start(tag) => (tag, false),
            Event::Empty(tag) => (tag, true),
            Event::End(_) => {
                close(&mut open, &mut gaps, place(&reader)?, &mut unwanted);
                continue;
            }
            Event::Text(text) => {
                add_text(&mut open, &text.into_inner());
                continue;
            }
            Event::CData(text) => {
                add_text(&mut open, &text.into_inner());
                continue;
            }
            Event::GeneralRef(name) => {
                add_text(&mut open, &reference_text(&name.into_inner())?);
                continue;
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => return Err(restricted()),
        };
        if open.len() >= limits.depth {
            return Err(too_much("elements inside each other", limits.depth));
        }
        let (element, scope) = scope_of(&tag, open.last().map_or(scope, |open| &open.scope), limits)?;
        open.push(Open { element, scope, start });
        if empty {
            close(&mut open, &mut gaps, place(&reader)?, &mut unwanted);
        }
    }
    for (begin, end) in gaps {
        kept.push_str(text.get(from..begin).unwrap_or_default());
        from = end;
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    Ok(kept)
}

fn place(reader: &Reader<&[u8]>) -> Result<usize, StreamError> {
    usize::try_from(reader.buffer_position()).map_err(|why| not_well_formed(&why))
}

fn add_text(open: &mut [Open], text: &str) {
    if let Some(innermost) = open.last_mut() {
        innermost.element.push_text(text);
    }
}

/// Ends the innermost element, and leaves it out if it is unwanted, with whatever was left out in it.
fn close(
    open: &mut Vec<Open>,
    gaps: &mut Vec<(usize, usize)>,
    end: usize,
    unwanted: &mut impl FnMut(&Element, &Element) -> bool,
) {
    let Some(closed) = open.pop() else { return };
    if open.last().is_some_and(|around| unwanted(&around.element, &closed.element)) {
        gaps.retain(|(begin, _)| *begin < closed.start);
        gaps.push((closed.start, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str, unwanted: &str) -> String {
        without(text, &Scope::new("urn:s"), &Limits::BEFORE_LOGIN, |_, one| one.name() == unwanted)
            .expect("read")
    }

    #[test]
    fn every_other_byte_stays_as_it_is() {
        let text = "<a  x = '1'>\r\n t&lt;<b/> <c>i<b y=\"/>\">z<b/><![CDATA[</b>]]></b >&#65;</c\n><d/></a>";
        assert_eq!(left(text, "none"), text);
        assert_eq!(left(text, "b"), "<a  x = '1'>\r\n t&lt; <c>i&#65;</c\n><d/></a>");
        assert_eq!(left(text, "c"), "<a  x = '1'>\r\n t&lt;<b/> <d/></a>");
        assert_eq!(left(text, "a"), text, "not the outermost");
        assert_eq!(
            left("<\u{e9}>\u{2603}<b>\u{2603}</b>\u{2603}</\u{e9}>", "b"),
            "<\u{e9}>\u{2603}\u{2603}</\u{e9}>"
        );
    }

    #[test]
    fn what_is_asked_has_namespace_text_and_what_is_around() {
        let text = "<f xmlns='urn:f' xmlns:p='urn:p'><p:m><n>one</n><n>t&#119;<i/>o</n></p:m><n>two</n></f>";
        let mut seen = Vec::new();
        let cut = without(text, &Scope::new(""), &Limits::BEFORE_LOGIN, |around, one| {
            seen.push(format!("{} {} {}", around.ns(), one.ns(), one.own_text()));
            around.is("m", "urn:p") && one.own_text() == "two"
        });
        assert_eq!(
            cut.expect("read"),
            "<f xmlns='urn:f' xmlns:p='urn:p'><p:m><n>one</n></p:m><n>two</n></f>"
        );
        assert_eq!(seen[0], "urn:p urn:f one");
        let deep = "<a>".repeat(9) + &"</a>".repeat(9);
        assert!(without(&deep, &Scope::new(""), &Limits::BEFORE_LOGIN, |_, _| false).is_err());
        assert!(without("<a><!-- --></a>", &Scope::new(""), &Limits::BEFORE_LOGIN, |_, _| false).is_err());
    }
}

//! Patterns of elements: the comparison behind `expects`. *Pure.*

use crosstalk::xmpp::{Element, ns};

/// Whether an element is what a pattern says, by the liberties that the harness states; else why not.
pub(super) fn matches(pattern: &Element, element: &Element, own: &str) -> Result<(), String> {
    let in_error = element.ns() == ns::STANZAS && pattern.ns() == ns::CLIENT;
    if pattern.name() != element.name() || (pattern.ns() != element.ns() && !in_error) {
        return Err(format!("<{}/> of {} is another element", element.name(), element.ns()));
    }
    attributes_match(pattern, element, own)?;
    let (mut rest, text) = (false, pattern.own_text());
    match text.trim() {
        "…" => rest = true,
        "*" => {}
        text if text == element.own_text().trim() => {}
        text => return Err(format!("text {:?} instead of {text:?}", element.own_text())),
    }
    let mut left: Vec<&Element> = pattern.children().collect();
    for child in element.children() {
        match left.first() {
            Some(first) if matches(first, child, own).is_ok() => {
                left.remove(0);
            }
            _ if rest || may_be_left_out(element, child) => {}
            Some(first) => matches(first, child, own)?,
            None => return Err(format!("<{}/> is not expected", child.name())),
        }
    }
    match left.first() {
        Some(missing) => Err(format!("<{}/> is missing", missing.name())),
        None => Ok(()),
    }
}

fn may_be_left_out(parent: &Element, child: &Element) -> bool {
    child.is("stanza-id", ns::STANZA_ID) || (parent.name() == "error" && child.is("text", ns::STANZAS))
}

fn attributes_match(pattern: &Element, element: &Element, own: &str) -> Result<(), String> {
    for expected in pattern.attributes() {
        let value = element.get_attr(&expected.name);
        if value.is_none() || (expected.value != "*" && value != Some(&expected.value)) {
            return Err(format!("{} is {value:?}", expected.name));
        }
    }
    for found in element.attributes().iter().filter(|found| found.ns.is_none()) {
        let bare = own.split('/').next();
        let mine = found.name == "to" && (found.value == own || Some(found.value.as_str()) == bare);
        if pattern.get_attr(&found.name).is_none() && !mine {
            return Err(format!("{}={:?} is not expected", found.name, found.value));
        }
    }
    Ok(())
}

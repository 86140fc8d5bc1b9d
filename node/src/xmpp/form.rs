//! XEP-0004: Data Forms, as far as they are used here: a form to fill in, what somebody has filled in, a table. *Pure.*

use super::{Element, ns};

/// A form or table of a type.
pub fn form(kind: &str) -> Element {
    Element::new("x", ns::DATA).attr("type", kind)
}

/// A field with one value.
pub fn field(var: &str, kind: &str, label: &str, value: &str) -> Element {
    let field = Element::new("field", ns::DATA)
        .attr("var", var)
        .attr("type", kind)
        .attr_opt("label", Some(label).filter(|label| !label.is_empty()));
    match value.is_empty() {
        true => field,
        false => field.child(Element::new("value", ns::DATA).text(value)),
    }
}

/// The hidden field that says what the form is (XEP-0068).
pub fn form_type(name: &str) -> Element {
    field("FORM_TYPE", "hidden", "", name)
}

/// A line for people.
pub fn text(name: &str, text: &str) -> Element {
    Element::new(name, ns::DATA).text(text)
}

/// What somebody has filled in: variables and their first values.
pub fn submitted(payload: &Element) -> Option<Vec<(String, String)>> {
    let form = payload.get("x", ns::DATA).filter(|form| form.get_attr("type") == Some("submit"))?;
    let fields = form.children().filter(|field| field.is("field", ns::DATA));
    let value = |field: &Element| {
        let value = field.get("value", ns::DATA)?.own_text().trim().to_owned();
        Some((field.get_attr("var")?.to_owned(), value))
    };
    Some(fields.filter_map(value).collect())
}

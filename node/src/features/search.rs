//! XEP-0055: Jabber Search, in the directory of the domain of whoever asks: the fields of old, and a form (XEP-0004). *Pure.*

use crosstalk_overlay::enrol::Person;

use crate::core::Core;
use crate::xmpp::form::{field, form, form_type, submitted, text};
use crate::xmpp::{Condition, Element, StanzaError, ns};

use super::{Answer, Feature, Handled, NOTHING, Origin, Request, Target};

pub(super) const FEATURE: Feature =
    Feature { iq: &[("query", ns::SEARCH)], handle, directory: &[ns::SEARCH, ns::DATA], ..NOTHING };

const INSTRUCTIONS: &str = "Say the beginning of nickname, name or address, two letters at least. Found are people who have agreed to that.";
/// Fields of those without forms.
const FIELDS: [&str; 3] = ["first", "last", "nick"];

/// How the client has asked, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By fields.
    Fields,
    /// By a form.
    Form,
}

fn handle(core: &mut Core, request: &Request<'_>) -> Handled {
    let (Origin::Session(id), Target::Directory) = (request.origin, request.target) else {
        return Err(Condition::ServiceUnavailable.into());
    };
    let user = core.session(id).map(|session| session.user).ok_or(Condition::Forbidden)?;
    // Of several accounts on one node each has the directory of its own domain.
    let own = core.directory_of(&user);
    let asked = request.iq.to.as_ref().map(|to| to.domain().as_str().to_owned());
    if own.is_none() || own != asked {
        let text = "this directory is for the users of its domain only";
        return Err(StanzaError::new(Condition::Forbidden, text));
    }
    if !request.is_set() {
        return Ok(Answer::Result(Some(empty())));
    }
    core.search_directory((id, user), request.iq, wanted(request.payload))?;
    Ok(Answer::Later)
}

/// What is to be filled in.
fn empty() -> Element {
    let fields = FIELDS.map(|name| Element::new(name, ns::SEARCH));
    let form = form("form")
        .child(text("title", "Search for people"))
        .child(text("instructions", INSTRUCTIONS))
        .child(form_type(ns::SEARCH))
        .child(field("search", "text-single", "Nickname, name or address", ""));
    Element::new("query", ns::SEARCH)
        .child(Element::new("instructions", ns::SEARCH).text(INSTRUCTIONS))
        .children_from(fields)
        .child(form)
}

/// What was filled in, whichever field it is in.
fn wanted(query: &Element) -> (Shape, String) {
    let words = |values: Vec<String>| values.join(" ").trim().to_owned();
    match submitted(query) {
        Some(fields) => {
            let fields = fields.into_iter().filter(|(var, _)| var != "FORM_TYPE");
            (Shape::Form, words(fields.map(|(_, value)| value).collect()))
        }
        None => {
            let fields = FIELDS.iter().filter_map(|name| query.get(name, ns::SEARCH));
            (Shape::Fields, words(fields.map(|field| field.own_text().to_string()).collect()))
        }
    }
}

/// Who was found. Which part of a full name is the family's nobody knows: all of it is in `first`.
pub(crate) fn result(shape: Shape, people: &[Person]) -> Element {
    let query = Element::new("query", ns::SEARCH);
    if shape == Shape::Fields {
        let item = |person: &Person| {
            Element::new("item", ns::SEARCH)
                .attr("jid", &person.address)
                .child(Element::new("first", ns::SEARCH).text(&person.full_name))
                .child(Element::new("last", ns::SEARCH))
                .child(Element::new("nick", ns::SEARCH).text(&person.nickname))
        };
        return query.children_from(people.iter().map(item));
    }
    let columns = [
        ("jid", "jid-single", "Address"),
        ("nick", "text-single", "Nickname"),
        ("fn", "text-single", "Name"),
    ];
    let reported = columns.map(|(var, kind, label)| field(var, kind, label, ""));
    let cell = |var: &str, value: &str| {
        Element::new("field", ns::DATA).attr("var", var).child(Element::new("value", ns::DATA).text(value))
    };
    let item = |person: &Person| {
        let cells = [("jid", &person.address), ("nick", &person.nickname), ("fn", &person.full_name)];
        Element::new("item", ns::DATA).children_from(cells.map(|(var, value)| cell(var, value)))
    };
    let table = form("result")
        .child(text("title", "People"))
        .child(form_type(ns::SEARCH))
        .child(Element::new("reported", ns::DATA).children_from(reported))
        .children_from(people.iter().map(item));
    query.child(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_may_be_in_any_field() {
        let query = |inner: &str| {
            let xml = format!("<query xmlns='jabber:iq:search'>{inner}</query>");
            wanted(&Element::read(xml.as_bytes()).expect("XML"))
        };
        assert_eq!(query("<first>Anna</first><nick> am </nick>"), (Shape::Fields, "Anna  am".to_owned()));
        let form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>jabber:iq:search</value></field>\
                    <field var='search'><value>anna</value></field></x>";
        assert_eq!(query(form), (Shape::Form, "anna".to_owned()));
        assert_eq!(query(""), (Shape::Fields, String::new()));
    }

    #[test]
    fn both_answers_name_the_same_people() {
        let person = Person { address: "a@b".into(), nickname: "A".into(), full_name: "A B".into() };
        let table = result(Shape::Form, std::slice::from_ref(&person));
        let table = table.get("x", ns::DATA).expect("a table").clone();
        assert_eq!(table.get("reported", ns::DATA).map(|head| head.children().count()), Some(3));
        let cells: Vec<String> = table
            .get("item", ns::DATA)
            .expect("a row")
            .children()
            .map(|cell| cell.get("value", ns::DATA).expect("a value").own_text().to_string())
            .collect();
        assert_eq!(cells, ["a@b", "A", "A B"]);
        let item = result(Shape::Fields, &[person]);
        let item = item.get("item", ns::SEARCH).expect("an item").clone();
        assert_eq!(item.get_attr("jid"), Some("a@b"));
        assert_eq!(item.get("first", ns::SEARCH).expect("a name").own_text(), "A B");
    }
}

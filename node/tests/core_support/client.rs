//! A client of a play: what it sends, and what it must see next. *Pure.*

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crosstalk::core::io::Ending;
use crosstalk::core::{ConnId, Input};
use crosstalk::xmpp::element::Node;
use crosstalk::xmpp::{Element, ns};

use super::matching::matches;
use super::stage::{Stage, elements};

/// A client on one connection.
pub struct Client {
    pub(super) stage: Rc<RefCell<Stage>>,
    pub name: String,
    pub(super) conn: Cell<ConnId>,
    /// Full address, once it is bound.
    pub jid: RefCell<String>,
}

impl Client {
    fn conn(&self) -> ConnId {
        self.conn.get()
    }

    /// The own bare address, as scripts write it.
    pub fn bare(&self) -> String {
        self.jid.borrow().split('/').next().unwrap().to_owned()
    }

    /// Binds a resource (RFC 6120 §7).
    pub fn bind(&self, resource: &str) {
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ));
        let result = self.next();
        let jid = result.get("bind", ns::BIND).and_then(|bind| bind.get("jid", ns::BIND));
        let jid = jid.unwrap_or_else(|| panic!("{} was not bound: {}", self.name, shown(&result)));
        *self.jid.borrow_mut() = self.stage.borrow().readable(&jid.own_text());
    }

    /// Fetches the contact list and reads it.
    pub fn fetch_contacts(&self) {
        self.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
        self.forget();
    }

    /// Elements from this client.
    pub fn send(&self, xml: &str) {
        let mut stage = self.stage.borrow_mut();
        let xml = stage.real(xml);
        let elements = elements(&xml);
        stage.handle(Input::Elements { conn: self.conn(), elements });
    }

    /// The client has handled what comes next, which must match.
    #[track_caller]
    pub fn expects(&self, pattern: &str) -> Element {
        let element = self.next();
        let pattern = self.pattern(pattern);
        let own = self.jid.borrow().clone();
        if let Err(why) = matches(&pattern, &element, &own) {
            panic!("{}\n expected {}\n received {}\n ({why})", self.name, shown(&pattern), shown(&element));
        }
        element
    }

    /// As many elements come next as there are patterns, in any order.
    #[track_caller]
    pub fn expects_all(&self, patterns: &[&str]) {
        let own = self.jid.borrow().clone();
        let mut patterns: Vec<Element> = patterns.iter().map(|pattern| self.pattern(pattern)).collect();
        while !patterns.is_empty() {
            let element = self.next();
            let Some(at) = patterns.iter().position(|pattern| matches(pattern, &element, &own).is_ok())
            else {
                let left: Vec<_> = patterns.iter().map(shown).collect();
                panic!("{}\n expected one of {left:#?}\n received {}", self.name, shown(&element));
            };
            patterns.remove(at);
        }
    }

    /// Nothing has come.
    #[track_caller]
    pub fn hears_nothing(&self) {
        let stage = self.stage.borrow();
        let received: Vec<_> =
            stage.wires.get(&self.conn()).into_iter().flat_map(|wire| &wire.received).map(shown).collect();
        assert!(received.is_empty(), "{} received {received:#?}", self.name);
    }

    /// The stream was closed with this error; an empty one means in peace.
    #[track_caller]
    pub fn is_closed_with(&self, condition: &str) {
        let stage = self.stage.borrow();
        let closed = stage.wires.get(&self.conn()).and_then(|wire| wire.closed.clone());
        assert_eq!(closed.as_deref(), Some(condition), "how the stream of {} was closed", self.name);
    }

    /// Reads what came without looking.
    pub fn forget(&self) -> usize {
        let mut stage = self.stage.borrow_mut();
        stage.wires.get_mut(&self.conn()).map_or(0, |wire| wire.received.drain(..).count())
    }

    /// Everything that came.
    pub fn takes_all(&self) -> Vec<Element> {
        let mut stage = self.stage.borrow_mut();
        stage.wires.get_mut(&self.conn()).map(|wire| wire.received.drain(..).collect()).unwrap_or_default()
    }

    /// The next is a roster push of this item (RFC 6121 §2.1.6), without `from`.
    #[track_caller]
    pub fn expects_item(&self, item: &str) {
        self.expects(&format!(
            "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>{item}</query></iq>"
        ));
    }

    /// The connection breaks.
    pub fn breaks(&self) {
        self.stage.borrow_mut().handle(Input::Ended { conn: self.conn(), how: Ending::Lost });
    }

    /// The client closes its stream.
    pub fn leaves(&self) {
        self.stage.borrow_mut().handle(Input::Ended { conn: self.conn(), how: Ending::Closed });
    }

    /// Connects and authenticates again; what the old connection brought is forgotten.
    pub fn reconnects(&self) {
        let conn = self.stage.borrow_mut().connect(&self.name);
        self.stage.borrow_mut().wires.remove(&self.conn());
        self.conn.set(conn);
    }

    /// Enables resumable stream management. Returns the id of the stream.
    #[track_caller]
    pub fn enables_management(&self) -> String {
        self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let enabled = self.expects("<enabled xmlns='urn:xmpp:sm:3' resume='true' id='*' max='600'/>");
        enabled.get_attr("id").unwrap().to_owned()
    }

    /// Says how many stanzas it has handled.
    pub fn acknowledges(&self, handled: u32) {
        self.send(&format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>"));
    }

    /// The ping that proves that a client without stream management has what was sent before it.
    #[track_caller]
    pub fn expects_ping(&self) -> String {
        let ping = self.expects("<iq from='*' type='get' id='*'><ping xmlns='urn:xmpp:ping'/></iq>");
        ping.get_attr("id").unwrap().to_owned()
    }

    /// Gets that ping and answers it.
    #[track_caller]
    pub fn answers_ping(&self) {
        let id = self.expects_ping();
        let node = self.stage.borrow().domain();
        self.send(&format!("<iq type='result' to='{node}' id='{id}'/>"));
    }

    /// Answers such pings as there are among what came; the rest stays unread.
    pub fn answers_pings(&self) {
        loop {
            let ping = |element: &Element| {
                let from = element.get_attr("from").filter(|_| element.has("ping", "urn:xmpp:ping"));
                from.filter(|from| !from.contains('/')).map(str::to_owned)
            };
            let found = {
                let mut stage = self.stage.borrow_mut();
                let Some(wire) = stage.wires.get_mut(&self.conn()) else { return };
                let at = wire.received.iter().position(|element| ping(element).is_some());
                at.and_then(|at| wire.received.remove(at))
            };
            let Some(found) = found else { return };
            let (from, id) = (ping(&found).unwrap(), found.get_attr("id").unwrap().to_owned());
            self.send(&format!("<iq type='result' to='{from}' id='{id}'/>"));
        }
    }

    #[track_caller]
    fn next(&self) -> Element {
        let mut stage = self.stage.borrow_mut();
        let wire = stage.wires.get_mut(&self.conn());
        wire.and_then(|wire| wire.received.pop_front())
            .unwrap_or_else(|| panic!("{} received nothing more", self.name))
    }

    fn pattern(&self, pattern: &str) -> Element {
        elements(pattern).into_iter().next().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.hears_nothing();
        }
    }
}

fn shown(element: &Element) -> String {
    String::from_utf8(element.to_bytes(ns::CLIENT)).unwrap()
}

/// Whether an element or anything in it has this text.
pub fn says(element: &Element, text: &str) -> bool {
    element.nodes().iter().any(|node| match node {
        Node::Text(found) => found == text,
        Node::Element(child) => says(child, text),
    })
}

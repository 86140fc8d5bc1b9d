//! A chat program by script: logs in, keeps a contact list, sends and takes numbered messages, comes back. *Pure.*

pub(crate) mod contacts;
pub(crate) mod management;
pub(crate) mod view;
mod world;

use std::collections::VecDeque;

use crosstalk::core::ConnId;
use crosstalk::xmpp::{Element, ns};

use crate::world::events::{HostId, PersonId};
use management::{Management, Note};
use view::View;

pub(crate) use world::Traits;

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection.
    Away,
    /// `<resume/>` was sent.
    Resuming,
    /// A resource is being bound.
    Binding,
    /// `<enable/>` was sent.
    Enabling,
    /// Ready to send.
    Ready,
}

/// What a client learned from an element, for those who judge it.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A stanza for the person.
    Stanza(Element),
    /// The node has these.
    Acknowledged(Vec<Note>),
    /// The node broke XEP-0198.
    Broken(String),
    /// A resumption failed.
    NotResumed {
        /// The node had said that it would succeed: while it can save nothing it promises none.
        promised: bool,
    },
    /// It is logged in, anew or again.
    Ready,
}

/// A chat program.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) person: PersonId,
    pub(crate) host: HostId,
    pub(crate) resource: &'static str,
    pub(crate) traits: Traits,
    phase: Phase,
    pub(crate) conn: Option<ConnId>,
    management: Option<Management>,
    /// What is to be sent once it is ready.
    waiting: VecDeque<Note>,
    /// What is to be sent now.
    pub(crate) out: Vec<Element>,
    pub(crate) view: View,
    next_id: u32,
    /// Its presence is published by this text.
    pub(crate) status: String,
    statuses: u32,
    /// Which wake-up counts.
    token: u64,
    /// It does not connect before.
    away_until: u64,
    /// When it logged out in order, if it has not come back.
    pub(crate) left: Option<u64>,
    /// It is in other hands, or means harm: nothing is promised to it.
    pub(crate) lawless: bool,
    /// Since when it has been ready.
    pub(crate) ready_since: u64,
}

impl Client {
    /// Whether it is logged in and shows what its node knows.
    pub(crate) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready && self.view.complete
    }

    /// Whether it has sent everything and the node has all of it.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.management.as_ref().is_none_or(|management| management.is_settled())
    }

    /// Stanzas that came on its stream.
    pub(crate) fn handled(&self) -> u32 {
        self.management.as_ref().map_or(0, |management| management.handled)
    }

    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("c{}", self.next_id)
    }

    /// A connection stands: resumes, or binds.
    fn connected(&mut self, conn: ConnId) {
        self.conn = Some(conn);
        match &self.management {
            Some(management) => {
                let resume = Element::new("resume", ns::SM)
                    .attr("h", management.handled.to_string())
                    .attr("previd", &management.id);
                self.out.push(resume);
                self.phase = Phase::Resuming;
            }
            None => self.bind(),
        }
    }

    fn bind(&mut self) {
        let resource = Element::new("resource", ns::BIND).text(self.resource);
        let bind = Element::new("bind", ns::BIND).child(resource);
        self.out.push(Element::new("iq", ns::CLIENT).attr("type", "set").attr("id", "bind").child(bind));
        self.phase = Phase::Binding;
    }

    /// The connection is gone.
    fn disconnected(&mut self) {
        self.conn = None;
        self.phase = Phase::Away;
        if self.management.is_none() {
            self.view = View::default();
        }
    }

    /// Sends a stanza now, or as soon as it is ready.
    fn send(&mut self, note: Note) {
        if self.phase != Phase::Ready {
            return self.waiting.push_back(note);
        }
        let ask = note.message.is_some();
        self.out.push(note.element.clone());
        if let Some(management) = &mut self.management {
            management.sent(note);
            if ask {
                self.out.push(Element::new("r", ns::SM));
            }
        }
    }

    pub(crate) fn send_plain(&mut self, element: Element) {
        self.send(Note { element, message: None });
    }

    /// Elements came. Returns what they mean.
    fn hear(&mut self, elements: Vec<Element>) -> Vec<Heard> {
        let mut heard = Vec::new();
        for element in elements {
            match element.ns() {
                ns::SM => self.hear_management(&element, &mut heard),
                ns::CLIENT => {
                    if let (Phase::Ready, Some(management)) = (self.phase, &mut self.management) {
                        management.heard(&element);
                    }
                    self.hear_stanza(element, &mut heard);
                }
                _ => {}
            }
        }
        heard
    }

    fn hear_management(&mut self, element: &Element, heard: &mut Vec<Heard>) {
        let handled = element.get_attr("h").and_then(|h| h.parse().ok());
        match (element.name(), self.phase) {
            ("r", _) => {
                let answer = Element::new("a", ns::SM).attr("h", self.handled().to_string());
                self.out.push(answer);
            }
            ("a", _) => self.acknowledged(handled, heard),
            ("enabled", Phase::Enabling) => {
                let id = element.get_attr("id").unwrap_or_default().to_owned();
                self.management = Some(Management::new(id));
                self.logged_in(heard);
            }
            ("resumed", Phase::Resuming) => {
                self.acknowledged(handled, heard);
                self.phase = Phase::Ready;
                let again = self.management.iter().flat_map(Management::again);
                self.out.extend(again.map(|note| note.element.clone()));
                self.out.push(Element::new("r", ns::SM));
                self.send_waiting();
                heard.push(Heard::Ready);
            }
            ("failed", Phase::Resuming) => {
                let promised = self.management.as_ref().is_some_and(|management| !management.id.is_empty());
                heard.push(Heard::NotResumed { promised });
                self.start_anew();
            }
            (name, phase) => heard.push(Heard::Broken(format!("<{name}/> came while {phase:?}"))),
        }
    }

    fn acknowledged(&mut self, handled: Option<u32>, heard: &mut Vec<Heard>) {
        let Some(management) = &mut self.management else { return };
        match handled.ok_or("no number in it".to_owned()).and_then(|handled| management.acknowledged(handled))
        {
            Ok(covered) => heard.push(Heard::Acknowledged(covered)),
            Err(why) => heard.push(Heard::Broken(why)),
        }
    }

    /// The stream is lost for good: what it did not get acknowledged is sent on a new one.
    fn start_anew(&mut self) {
        let unanswered = self.management.take().into_iter().flat_map(Management::into_unanswered);
        let again: Vec<Note> = unanswered.filter(|note| !note.element.is("iq", ns::CLIENT)).collect();
        for note in again.into_iter().rev() {
            self.waiting.push_front(note);
        }
        self.view = View::default();
        self.bind();
    }

    fn hear_stanza(&mut self, element: Element, heard: &mut Vec<Heard>) {
        if element.name() == "iq" && self.phase == Phase::Binding && element.get_attr("id") == Some("bind") {
            if element.get_attr("type") != Some("result") {
                return heard.push(Heard::Broken("a resource was not bound".to_owned()));
            }
            if self.traits.resumes {
                self.out.push(Element::new("enable", ns::SM).attr("resume", "true"));
                self.phase = Phase::Enabling;
            } else {
                self.logged_in(heard);
            }
            return;
        }
        match element.name() {
            "iq" => self.hear_iq(&element),
            "presence" => {
                let status = element.get("status", ns::CLIENT).map(|status| status.own_text().to_string());
                let from = element.get_attr("from").unwrap_or_default();
                self.view.presence(from, element.get_attr("type"), status.unwrap_or_default());
            }
            _ => {}
        }
        heard.push(Heard::Stanza(element));
    }

    /// Contact list, then presence, then what waits: RFC 6121 §2.2 and §4.2.
    fn logged_in(&mut self, heard: &mut Vec<Heard>) {
        self.phase = Phase::Ready;
        if self.traits.carbons {
            let id = self.id();
            let enable = Element::new("enable", ns::CARBONS);
            self.send_plain(Element::new("iq", ns::CLIENT).attr("type", "set").attr("id", id).child(enable));
        }
        self.fetch_contacts();
        self.send_presence();
        self.send_waiting();
        heard.push(Heard::Ready);
    }

    fn send_waiting(&mut self) {
        for note in std::mem::take(&mut self.waiting) {
            self.send(note);
        }
    }

    /// Asks for the whole contact list.
    pub(crate) fn fetch_contacts(&mut self) {
        let get = Element::new("iq", ns::CLIENT).attr("type", "get").attr("id", "roster");
        self.view.complete = false;
        self.send_plain(get.child(Element::new("query", ns::ROSTER)));
    }

    fn send_presence(&mut self) {
        let status = Element::new("status", ns::CLIENT).text(&self.status);
        self.send_plain(Element::new("presence", ns::CLIENT).child(status));
    }

    fn hear_iq(&mut self, iq: &Element) {
        let id = iq.get_attr("id").unwrap_or_default();
        match iq.get_attr("type") {
            Some("get" | "set") => {
                if let Some(query) = iq.get("query", ns::ROSTER) {
                    query.children().for_each(|item| self.view.item(item));
                }
                let answer = Element::new("iq", ns::CLIENT).attr("type", "result").attr("id", id);
                let answer = answer.attr_opt("to", iq.get_attr("from"));
                self.send_plain(answer);
            }
            Some("result") if id == "roster" => {
                self.view.contacts.clear();
                if let Some(query) = iq.get("query", ns::ROSTER) {
                    query.children().for_each(|item| self.view.item(item));
                }
                self.view.complete = true;
            }
            _ => {}
        }
    }
}

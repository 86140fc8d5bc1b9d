//! Where clients meet the world: their connections, what they are told to do, when they come back. *Pure.*

use crosstalk::core::ConnId;
use crosstalk::xmpp::{Element, ns};

use super::management::Note;
use super::view::View;
use super::{Client, Heard, Phase};
use crate::invariants::MessageKey;
use crate::world::World;
use crate::world::events::{ClientId, Event, HostId, PersonId, Upward};
use crate::world::story::Checked;

/// How long a client waits for a login, and between looking after its stream, milliseconds.
const PATIENCE: u64 = 20_000;
/// How long a node promises to keep a lost session, milliseconds; as in the default settings.
const RESUMABLE: u64 = 600_000;

/// What a client can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    /// XEP-0198 with resumption.
    pub(crate) resumes: bool,
    /// XEP-0280.
    pub(crate) carbons: bool,
}

impl World {
    /// A chat program of a person on one of its hosts. It logs in at once and comes back whenever it is thrown out.
    pub(crate) fn client(
        &mut self,
        name: &'static str,
        person: PersonId,
        host: HostId,
        resource: &'static str,
        traits: Traits,
    ) -> ClientId {
        let id = ClientId(self.clients.len());
        self.clients.push(Client {
            name,
            person,
            host,
            resource,
            traits,
            phase: Phase::Away,
            conn: None,
            management: None,
            waiting: std::collections::VecDeque::new(),
            out: Vec::new(),
            view: View::default(),
            next_id: 0,
            status: String::new(),
            statuses: 0,
            token: 0,
            away_until: 0,
            left: None,
            lawless: false,
            ready_since: 0,
        });
        self.new_status(id);
        self.wake_within(id, 1, 20);
        id
    }

    fn wake_within(&mut self, id: ClientId, low: u64, high: u64) {
        let when = self.time + self.dice.between(low, high);
        let client = &mut self.clients[id.0];
        client.token += 1;
        self.queue.push(when, Event::Wake(id, client.token));
    }

    /// A client looks at what it has to do.
    pub(crate) fn client_wakes(&mut self, id: ClientId, token: u64) -> Checked {
        let client = &mut self.clients[id.0];
        if client.token != token {
            return Ok(());
        }
        match client.phase {
            Phase::Away if self.time < client.away_until => {
                let left = client.away_until - self.time;
                self.wake_within(id, left, left);
            }
            Phase::Away => self.log_in(id),
            Phase::Ready if client.view.complete => {
                if self.dice.chance(30) {
                    self.new_status(id);
                    self.clients[id.0].send_presence();
                }
                let client = &mut self.clients[id.0];
                if client.management.is_some() {
                    client.out.push(Element::new("r", ns::SM));
                }
                self.flush(id);
                self.wake_within(id, PATIENCE / 2, 2 * PATIENCE);
            }
            Phase::Ready => {
                // The answer was lost in a crash.
                self.refresh_contacts(id);
                self.wake_within(id, PATIENCE, PATIENCE);
            }
            Phase::Resuming | Phase::Binding | Phase::Enabling => {
                // Nothing came for so long: as a person would, it tries again.
                if let Some(conn) = self.clients[id.0].conn {
                    self.drop_stream(conn);
                }
                self.clients[id.0].disconnected();
                self.wake_within(id, 100, 1_000);
            }
        }
        Ok(())
    }

    fn log_in(&mut self, id: ClientId) {
        let Client { person, host, name, .. } = self.clients[id.0];
        let user = self.people[person.0].user;
        let Some(conn) = self.connect(id, host, user) else { return self.wake_within(id, 200, 1_500) };
        self.story.tell(self.time, || format!("{name} connects"));
        self.clients[id.0].connected(conn);
        self.flush(id);
        self.wake_within(id, PATIENCE, PATIENCE);
    }

    /// Sends what a client has put out.
    pub(crate) fn flush(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        let elements = std::mem::take(&mut client.out);
        let Some(conn) = client.conn.filter(|_| !elements.is_empty()) else { return };
        let name = client.name;
        for element in &elements {
            let bytes = element.to_bytes(ns::CLIENT);
            self.story.mark(self.time, 5, conn.0, &bytes);
            self.story.tell(self.time, || format!("{name} → node: {}", String::from_utf8_lossy(&bytes)));
        }
        self.send_up(conn, Upward::Elements(elements));
    }

    fn new_status(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        client.statuses += 1;
        client.status = format!("s{}.{}", id.0, client.statuses);
        let (person, status) = (client.person, client.status.clone());
        self.book.statuses.insert((person, status));
    }

    /// Elements came to a client.
    pub(crate) fn client_hears(&mut self, id: ClientId, conn: ConnId, elements: Vec<Element>) -> Checked {
        if self.clients[id.0].conn != Some(conn) {
            return Ok(());
        }
        let name = self.clients[id.0].name;
        for element in &elements {
            self.story.tell(self.time, || {
                format!("{name} ← node: {}", String::from_utf8_lossy(&element.to_bytes(ns::CLIENT)))
            });
        }
        for heard in self.clients[id.0].hear(elements) {
            self.judge(id, heard)?;
        }
        self.flush(id);
        Ok(())
    }

    fn judge(&mut self, id: ClientId, heard: Heard) -> Checked {
        let name = self.clients[id.0].name;
        match heard {
            Heard::Stanza(element) => self.check_stanza(id, &element),
            // Who means harm may be thrown out at any time.
            Heard::Broken(_) | Heard::NotResumed { .. } if self.clients[id.0].lawless => Ok(()),
            Heard::Acknowledged(notes) => {
                for key in notes.into_iter().filter_map(|note| note.message) {
                    self.book.accepted(key);
                }
                self.check_owners()
            }
            Heard::Broken(why) => Err(self.violation(format!("{name}: {why}"))),
            Heard::NotResumed { promised } => {
                let lost = self.clients[id.0].ready_since;
                self.book.not_resumed(id);
                if !promised || self.clients[id.0].away_until.max(lost) + RESUMABLE < self.time {
                    return Ok(());
                }
                Err(self.violation(format!("{name}'s session was not resumed, though it was promised")))
            }
            Heard::Ready => {
                self.story.tell(self.time, || format!("{name} is ready"));
                self.clients[id.0].ready_since = self.time;
                self.clients[id.0].left = None;
                self.wake_within(id, PATIENCE, PATIENCE);
                Ok(())
            }
        }
    }

    /// A client notices that its connection is gone.
    pub(crate) fn client_lost(&mut self, id: ClientId, conn: ConnId) {
        if self.clients[id.0].conn == Some(conn) {
            let name = self.clients[id.0].name;
            self.story.tell(self.time, || format!("{name} has lost its connection"));
            self.clients[id.0].disconnected();
            self.wake_within(id, 20, 2_000);
        }
    }

    /// A client loses its connection and comes back after `wait` milliseconds or a little more. The node notices
    /// some time, perhaps after the client is back.
    pub(crate) fn cut_client(&mut self, id: ClientId, wait: u64) {
        self.clients[id.0].away_until = self.time + wait;
        if let Some(conn) = self.clients[id.0].conn {
            self.cut_stream(conn, 15_000, 1_000);
        }
    }

    /// A client that has nothing under way acknowledges what it has, ends its stream in order and comes back later.
    /// Where the connection is broken it cannot: its node would hear nothing of it.
    pub(crate) fn log_out(&mut self, id: ClientId, wait: u64) {
        let Some(conn) = self.clients[id.0].conn.filter(|conn| self.is_whole(*conn)) else { return };
        let client = &mut self.clients[id.0];
        if !client.is_ready() || !client.is_done() {
            return;
        }
        if client.management.is_some() {
            client.out.push(Element::new("a", ns::SM).attr("h", client.handled().to_string()));
        }
        client.away_until = self.time + wait;
        client.left = Some(self.time);
        let host = client.host;
        self.book.logged_out(id, host);
        self.flush(id);
        self.end_stream(conn);
        let client = &mut self.clients[id.0];
        client.management = None;
        client.disconnected();
        self.wake_within(id, wait, wait + 100);
    }

    /// A client sends the next numbered message to somebody's bare address.
    pub(crate) fn say(&mut self, id: ClientId, to: PersonId) -> Checked {
        let key = self.book.next_message(id, to);
        self.note_sent(key);
        self.meter_sent(key);
        let body = Element::new("body", ns::CLIENT).text(&key.body());
        let message = Element::new("message", ns::CLIENT)
            .attr("to", &self.people[to.0].jid)
            .attr("type", "chat")
            .attr("id", key.body())
            .child(body);
        self.clients[id.0].send(Note { element: message, message: Some(key) });
        self.flush(id);
        Ok(())
    }

    /// A client makes a statement about a subscription (RFC 6121 §3): `subscribe`, `subscribed` and so on.
    pub(crate) fn subscription(&mut self, id: ClientId, to: PersonId, type_: &'static str) {
        let person = self.clients[id.0].person;
        self.book.stated(person, to, type_);
        let presence =
            Element::new("presence", ns::CLIENT).attr("to", &self.people[to.0].jid).attr("type", type_);
        self.clients[id.0].send_plain(presence);
        self.flush(id);
    }

    /// Plans numbered messages from a client to somebody, spread over `span` milliseconds.
    pub(crate) fn chatter(&mut self, id: ClientId, to: PersonId, count: u64, span: u64) {
        for _ in 0..count {
            let when = self.time + self.dice.below(span);
            self.plan([(when, Event::Say(id, to))]);
        }
    }

    /// A client asks for its contact list anew.
    pub(crate) fn refresh_contacts(&mut self, id: ClientId) {
        self.clients[id.0].fetch_contacts();
        self.flush(id);
    }

    /// Whether a client shows somebody in the group "Nearby", and as available.
    pub(crate) fn sees_nearby(&self, id: ClientId, other: PersonId) -> bool {
        let (view, jid) = (&self.clients[id.0].view, &self.people[other.0].jid);
        view.is_nearby(jid) && view.is_online(jid)
    }

    /// Whether a client shows somebody as available.
    pub(crate) fn sees_online(&self, id: ClientId, other: PersonId) -> bool {
        self.clients[id.0].view.is_online(&self.people[other.0].jid)
    }

    /// Whether a client has a subscription with somebody in this state.
    pub(crate) fn has_subscription(&self, id: ClientId, other: PersonId, state: &str) -> bool {
        self.clients[id.0].view.subscription(&self.people[other.0].jid) == state
    }

    /// Whether somebody asks to see this client's presence.
    pub(crate) fn is_asked(&self, id: ClientId, by: PersonId) -> bool {
        self.clients[id.0].view.asking.contains(&self.people[by.0].jid)
    }
}

impl MessageKey {
    /// The text by which a message is recognised everywhere.
    pub(crate) fn body(&self) -> String {
        format!("m{}.{}.{}", self.from.0, self.to.0, self.number)
    }
}

//! Streams between clients and their node: bytes in order until one of the two loses the connection. *Pure.*

use crosstalk::core::io::Ending;
use crosstalk::core::{ConnId, Input};
use crosstalk::xmpp::Element;
use crosstalk::xmpp::ns;
use crosstalk_overlay::id::UserId;

use super::World;
use super::events::{ClientId, Downward, Event, HostId, Upward};
use super::host::Power;
use super::sabotage::Sabotage;
use super::story::Checked;

/// A connection of a client to its node.
pub(crate) struct Stream {
    client: ClientId,
    pub(super) host: HostId,
    /// Nothing comes through any more.
    cut: bool,
    at_host: bool,
    at_client: bool,
    last_up: u64,
    last_down: u64,
}

impl World {
    /// A client connects and proves who it is. `None` if nobody listens.
    pub(crate) fn connect(&mut self, client: ClientId, host: HostId, user: UserId) -> Option<ConnId> {
        if self.hosts[host.0].power != Power::On {
            return None;
        }
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let stream =
            Stream { client, host, cut: false, at_host: true, at_client: true, last_up: 0, last_down: 0 };
        self.streams.insert(conn, stream);
        self.send_up(conn, Upward::Authenticated(user));
        Some(conn)
    }

    /// Whether what either side writes still comes through.
    pub(crate) fn is_whole(&self, conn: ConnId) -> bool {
        self.streams.get(&conn).is_some_and(|stream| !stream.cut)
    }

    /// Sends something from a client to its node.
    pub(crate) fn send_up(&mut self, conn: ConnId, what: Upward) {
        let when = self.time + self.dice.below(3);
        let Some(stream) = self.streams.get_mut(&conn).filter(|stream| !stream.cut) else { return };
        stream.last_up = stream.last_up.max(when);
        self.queue.push(stream.last_up, Event::Up(conn, what));
    }

    /// Sends something from a node to a client.
    pub(crate) fn send_down(&mut self, conn: ConnId, what: Downward) {
        let when = self.time + self.dice.below(3);
        let Some(stream) = self.streams.get_mut(&conn).filter(|stream| !stream.cut) else { return };
        stream.last_down = stream.last_down.max(when);
        if matches!(what, Downward::Closed) {
            stream.at_host = false;
        }
        self.queue.push(stream.last_down, Event::Down(conn, what));
    }

    /// Something arrives at a node.
    pub(crate) fn came_up(&mut self, conn: ConnId, what: Upward) {
        let Some(stream) = self.streams.get_mut(&conn).filter(|stream| stream.at_host) else { return };
        let (host, cut) = (stream.host, stream.cut);
        match what {
            Upward::Authenticated(_) | Upward::Elements(_) if cut => {}
            Upward::Authenticated(user) => self.tell(host, Input::Authenticated { conn, user }),
            Upward::Elements(elements) => self.tell(host, Input::Elements { conn, elements }),
            Upward::Ended(how) => {
                stream.at_host = false;
                self.forget_stream(conn);
                self.tell(host, Input::Ended { conn, how });
            }
        }
    }

    /// Something arrives at a client.
    pub(crate) fn came_down(&mut self, conn: ConnId, what: Downward) -> Checked {
        let Some(stream) = self.streams.get_mut(&conn).filter(|stream| stream.at_client) else {
            return Ok(());
        };
        let client = stream.client;
        match what {
            Downward::Data(_) if stream.cut => Ok(()),
            Downward::Data(data) => {
                let elements = self.read(&data)?;
                let elements = self.spoil(conn, elements);
                self.client_hears(client, conn, elements)
            }
            Downward::Closed => {
                stream.at_client = false;
                self.forget_stream(conn);
                self.client_lost(client, conn);
                Ok(())
            }
        }
    }

    /// The elements in what a node wrote at once.
    fn read(&self, data: &[u8]) -> Result<Vec<Element>, super::Violation> {
        let text = [b"<all xmlns='jabber:client'>", data, b"</all>"].concat();
        let all = Element::read(&text);
        let all =
            all.map_err(|why| self.violation(format!("a node wrote something that is no XML: {why}")))?;
        Ok(all.into_children().collect())
    }

    /// Sabotages of what a client sees.
    fn spoil(&mut self, conn: ConnId, mut elements: Vec<Element>) -> Vec<Element> {
        let is_message = |element: &Element| element.is("message", ns::CLIENT);
        let Some(sabotage) = self.sabotage else { return elements };
        match sabotage {
            Sabotage::LoseStanza if self.dice.chance(5) => elements.retain(|element| !is_message(element)),
            Sabotage::LosePush => elements.retain(|element| {
                !(element.is("iq", ns::CLIENT)
                    && element.has("query", ns::ROSTER)
                    && element.get_attr("type") == Some("set"))
            }),
            Sabotage::DoubleStanza if self.dice.chance(5) => {
                elements = elements
                    .into_iter()
                    .flat_map(|e| if is_message(&e) { vec![e.clone(), e] } else { vec![e] })
                    .collect();
            }
            Sabotage::SwapStanzas => {
                let held = self.swapped.remove(&conn);
                let keep =
                    held.is_none() && elements.len() == 1 && is_message(&elements[0]) && self.dice.chance(10);
                if keep {
                    self.swapped.insert(conn, std::mem::take(&mut elements));
                }
                elements.extend(held.unwrap_or_default());
            }
            Sabotage::ForgedFrom if self.dice.chance(5) => {
                let other = self.people.first().map(|person| person.jid.clone()).unwrap_or_default();
                elements.iter_mut().filter(|e| is_message(e)).for_each(|e| e.set_attr("from", &other));
            }
            Sabotage::Stranger if self.dice.chance(1) => {
                let from = format!("00{}@id.internal/phone", "7".repeat(64));
                elements.push(Element::new("presence", ns::CLIENT).attr("from", from));
            }
            Sabotage::ForgedAck if self.dice.chance(5) && elements.iter().any(is_message) => {
                // The node hears an acknowledgement, and the client loses its connection before the message comes.
                if let Some(stream) = self.streams.get(&conn) {
                    let (client, host) = (stream.client, stream.host);
                    let handled = self.clients[client.0].handled() + elements.len() as u32;
                    let ack = Element::new("a", ns::SM).attr("h", handled.to_string());
                    self.tell(host, Input::Elements { conn, elements: vec![ack] });
                    elements.clear();
                    self.cut_stream(conn, 0, 0);
                }
            }
            _ => {}
        }
        elements
    }

    /// Cuts a stream: what was under way is lost, and each side notices some time.
    pub(crate) fn cut_stream(&mut self, conn: ConnId, host_within: u64, client_within: u64) {
        let Some(stream) = self.streams.get_mut(&conn) else { return };
        stream.cut = true;
        let (host, client) = (self.dice.below(host_within + 1), self.dice.below(client_within + 1));
        self.queue.push(self.time + host, Event::Up(conn, Upward::Ended(Ending::Lost)));
        self.queue.push(self.time + client, Event::Down(conn, Downward::Closed));
    }

    /// All streams of a host that has crashed.
    pub(crate) fn cut_streams_of(&mut self, host: HostId, client_within: u64) {
        let conns: Vec<ConnId> =
            self.streams.iter().filter(|(_, s)| s.host == host).map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.cut_stream(conn, 0, client_within);
            if let Some(stream) = self.streams.get_mut(&conn) {
                stream.at_host = false;
            }
        }
    }

    /// A client ends its stream in order.
    pub(crate) fn end_stream(&mut self, conn: ConnId) {
        self.send_up(conn, Upward::Ended(Ending::Closed));
        if let Some(stream) = self.streams.get_mut(&conn) {
            stream.at_client = false;
        }
    }

    /// A client gives up a stream that it believes lost.
    pub(crate) fn drop_stream(&mut self, conn: ConnId) {
        self.cut_stream(conn, 60_000, 0);
        if let Some(stream) = self.streams.get_mut(&conn) {
            stream.at_client = false;
        }
    }

    fn forget_stream(&mut self, conn: ConnId) {
        if self.streams.get(&conn).is_some_and(|stream| !stream.at_host && !stream.at_client) {
            self.streams.remove(&conn);
        }
    }
}

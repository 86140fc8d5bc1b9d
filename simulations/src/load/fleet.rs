//! Owns all clients of a run: their connections, logins and what they answer to the server.

use super::LoadError;
use super::connection::{Connection, OUT_LIMIT, Received, Scratch};
use super::login::{Login, LoginError, Plan, Progress, excerpt};
use super::options::Account;
use super::poll::{Poll, Ready};
use super::scanner::{Piece, attribute, holds, name_of, next_piece};
use super::sm::{StreamManagement, UNACKED_LIMIT};
use super::stanza;
use super::traffic::Traffic;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The generator's clock: nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the load program is a shell: it measures real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[derive(Debug, Default)]
struct Client {
    connection: Option<Connection>,
    login: Option<Login>,
    jid: String,
    sm: Option<StreamManagement>,
    /// Listed in `Fleet::dirty`.
    dirty: bool,
}

impl Client {
    /// Whether one more message may be queued.
    fn has_room(&self, unacked_limit: usize) -> bool {
        let unacked = self.sm.as_ref().map_or(0, StreamManagement::unacked);
        self.connection.as_ref().is_some_and(|connection| connection.backlog() < OUT_LIMIT)
            && unacked < unacked_limit
    }

    fn out(&mut self) -> Option<&mut Vec<u8>> {
        self.connection.as_mut().map(|connection| &mut connection.out)
    }

    fn push(&mut self, text: &str) {
        if let Some(out) = self.out() {
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Counts what was just written and asks for an acknowledgement when due.
    fn count_sent(&mut self, time: Option<u64>) {
        if self.sm.as_mut().is_some_and(|sm| sm.sent(time)) {
            self.push(stanza::REQUEST);
        }
    }
}

/// The clients. Bounded: one connection each, `OUT_LIMIT` unsent bytes, `UNACKED_LIMIT` unacknowledged stanzas.
#[derive(Debug)]
pub struct Fleet {
    poll: Poll,
    clock: Clock,
    clients: Vec<Client>,
    sm_every: u32,
    unacked_limit: usize,
    /// Clients with something to send; each at most once.
    dirty: Vec<usize>,
    /// Clients logged in.
    pub logged_in: usize,
    /// Clients lost after their login.
    pub disconnected: u64,
    /// What the first loss or error was.
    pub first_problem: Option<String>,
    /// The messages; none before the logins are done.
    pub traffic: Option<Traffic>,
}

impl Fleet {
    /// # Errors
    /// [`LoadError::Poll`] when the kernel gives no epoll instance.
    pub fn new(size: usize, clock: Clock, sm_every: u32) -> Result<Self, LoadError> {
        Ok(Self {
            poll: Poll::new().map_err(LoadError::Poll)?,
            clock,
            clients: std::iter::repeat_with(Client::default).take(size).collect(),
            sm_every,
            unacked_limit: UNACKED_LIMIT,
            dirty: Vec::with_capacity(size),
            logged_in: 0,
            disconnected: 0,
            first_problem: None,
            traffic: None,
        })
    }

    /// Connects a client and begins its login.
    ///
    /// # Errors
    /// [`LoadError::Connect`].
    pub fn connect(
        &mut self,
        index: usize,
        server: SocketAddr,
        account: Account,
        plan: Plan,
    ) -> Result<(), LoadError> {
        let connection = Connection::open(server, index, &self.poll);
        let mut connection = connection.map_err(|reason| LoadError::Connect { server, reason })?;
        let login = Login::new(account, plan, &mut connection.out);
        if let Some(client) = self.clients.get_mut(index) {
            client.connection = Some(connection);
            client.login = Some(login);
        }
        self.mark(index);
        Ok(())
    }

    /// The bound JIDs, full or bare, in the order of the clients.
    #[must_use]
    pub fn jids(&self, bare: bool) -> Vec<String> {
        let cut =
            |jid: &str| if bare { jid.split('/').next().unwrap_or(jid).to_owned() } else { jid.to_owned() };
        self.clients.iter().map(|client| cut(&client.jid)).collect()
    }

    /// Sets the messages up. With a `window`, unacknowledged ones count towards it under XEP-0198.
    pub fn begin(&mut self, traffic: Traffic, window: Option<u32>) {
        let product = window.map(|window| window as usize * traffic.fanout());
        self.unacked_limit = product.unwrap_or(UNACKED_LIMIT).min(UNACKED_LIMIT);
        self.traffic = Some(traffic);
        (0..self.clients.len()).for_each(|index| self.mark(index));
    }

    /// Queues one message of a flow with the time at which it was due, or counts it as withheld.
    pub fn enqueue(&mut self, sender: usize, slot: usize, due: u64) {
        let (Some(traffic), Some(client)) = (&mut self.traffic, self.clients.get_mut(sender)) else { return };
        if !client.has_room(UNACKED_LIMIT) {
            traffic.counts.withheld += 1;
            return;
        }
        if let Some(out) = client.out() {
            traffic.write(sender, slot, due, out);
        }
        client.count_sent(Some(due));
        self.mark(sender);
    }

    /// Waits at most `patience` for sockets and deals with those that are ready.
    ///
    /// # Errors
    /// [`LoadError`] when a login fails; a client lost later is only counted.
    pub fn turn(
        &mut self,
        patience: Duration,
        scratch: &mut Scratch,
        ready: &mut Vec<Ready>,
    ) -> Result<(), LoadError> {
        self.poll.wait(patience, ready).map_err(LoadError::Poll)?;
        for event in ready.iter() {
            if event.writable {
                self.mark(event.token);
            }
            if event.readable {
                self.read(event.token, scratch)?;
            }
        }
        Ok(())
    }

    /// Lets clients with something to send send it; with `fill`, as many messages as their windows allow.
    ///
    /// # Errors
    /// [`LoadError`] when a login fails.
    pub fn flush(&mut self, fill: bool) -> Result<(), LoadError> {
        while let Some(index) = self.dirty.pop() {
            let Some(client) = self.clients.get_mut(index) else { continue };
            client.dirty = false;
            if let (true, Some(traffic)) = (fill, &mut self.traffic) {
                fill_windows(index, client, traffic, self.unacked_limit, self.clock.now());
            }
            if client.sm.as_mut().is_some_and(StreamManagement::take_request) {
                client.push(stanza::REQUEST);
            }
            let Some(connection) = &mut client.connection else { continue };
            if let Err(error) = connection.flush(&self.poll) {
                self.lose(index, error.to_string())?;
            }
        }
        Ok(())
    }

    /// Ends all streams.
    pub fn close(&mut self) {
        for client in &mut self.clients {
            client.push(stanza::CLOSE);
            if let Some(mut connection) = client.connection.take() {
                // Whether the farewell gets through does not matter.
                let _ = connection.flush(&self.poll);
                connection.close(&self.poll);
            }
        }
    }

    /// Whether any client is left.
    #[must_use]
    pub fn any_left(&self) -> bool {
        self.clients.iter().any(|client| client.connection.is_some())
    }

    fn mark(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index).filter(|client| !client.dirty) {
            client.dirty = true;
            self.dirty.push(index);
        }
    }

    fn read(&mut self, index: usize, scratch: &mut Scratch) -> Result<(), LoadError> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let Some(connection) = &mut client.connection else { return Ok(()) };
        let length = match connection.receive(scratch) {
            Ok(Received::Bytes(length)) => length,
            Ok(Received::Nothing) => return Ok(()),
            Ok(Received::Closed) => return self.lose(index, "the server closed the connection".to_owned()),
            Err(error) => return self.lose(index, error.to_string()),
        };
        let mut rest = scratch.get(length);
        let now = self.clock.now();
        loop {
            match next_piece(rest) {
                Ok(Some((piece, length))) => {
                    self.take(index, piece, now)?;
                    rest = rest.get(length..).unwrap_or_default();
                }
                Ok(None) => break,
                Err(error) => return self.lose(index, error.to_string()),
            }
        }
        let Some(connection) = self.clients.get_mut(index).and_then(|client| client.connection.as_mut())
        else {
            return Ok(());
        };
        connection.keep(rest);
        if connection.backlog() > 0 {
            self.mark(index);
        }
        Ok(())
    }

    fn take(&mut self, index: usize, piece: Piece<'_>, now: u64) -> Result<(), LoadError> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        if client.login.is_some() {
            return self.log_in(index, piece);
        }
        let stanza = match piece {
            Piece::Stanza(stanza) => stanza,
            Piece::End => return self.lose(index, "the server ended the stream".to_owned()),
            Piece::Filler | Piece::Header(_) => return Ok(()),
        };
        let name = name_of(stanza);
        if let (b"message" | b"iq" | b"presence", Some(sm)) = (name, &mut client.sm) {
            sm.received();
        }
        match name {
            b"message" => {
                let refilled = self.traffic.as_mut().and_then(|traffic| traffic.receive(index, stanza, now));
                if let Some(sender) = refilled {
                    self.mark(sender);
                } else if attribute(stanza, "type") == Some(b"error") {
                    self.note(excerpt(stanza));
                }
            }
            b"iq" => answer_iq(client, stanza),
            b"r" => {
                let handled = client.sm.as_ref().map_or(0, StreamManagement::handled);
                client.push(&stanza::acknowledge(handled));
            }
            b"a" => self.acknowledged(index, stanza, now),
            b"stream:error" => self.note(excerpt(stanza)),
            _ => {}
        }
        Ok(())
    }

    fn log_in(&mut self, index: usize, piece: Piece<'_>) -> Result<(), LoadError> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let (Some(login), Some(connection)) = (&mut client.login, &mut client.connection) else {
            return Ok(());
        };
        let progress = login.take(piece, &mut connection.out);
        let progress = progress.map_err(|reason| LoadError::Login { client: index, reason })?;
        if let Progress::Ready(jid) = progress {
            client.sm = login.uses_sm().then(|| StreamManagement::new(self.sm_every));
            client.jid = jid;
            client.login = None;
            self.logged_in += 1;
            self.mark(index);
        }
        Ok(())
    }

    fn acknowledged(&mut self, index: usize, stanza: &[u8], now: u64) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let h = attribute(stanza, "h").and_then(|h| std::str::from_utf8(h).ok()?.parse().ok());
        let (Some(sm), Some(h)) = (&mut client.sm, h) else { return };
        for time in sm.acknowledged(h) {
            if let Some(traffic) = &mut self.traffic {
                traffic.acknowledged(time, now);
            }
        }
        self.mark(index);
    }

    fn note(&mut self, problem: String) {
        self.first_problem.get_or_insert(problem);
    }

    fn lose(&mut self, index: usize, problem: String) -> Result<(), LoadError> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        if let Some(connection) = client.connection.take() {
            connection.close(&self.poll);
        }
        if let Some(login) = client.login.take() {
            let reason = LoginError::Closed(login.step());
            return Err(LoadError::Login { client: index, reason });
        }
        self.disconnected += 1;
        self.note(format!("client {index}: {problem}"));
        Ok(())
    }
}

fn fill_windows(index: usize, client: &mut Client, traffic: &mut Traffic, limit: usize, now: u64) {
    let mut slot = 0;
    while let Some(open) = traffic.open_slot(index, slot).filter(|_| client.has_room(limit)) {
        let Some(out) = client.out() else { return };
        traffic.write(index, open, now, out);
        client.count_sent(Some(now));
        slot = open;
    }
}

fn answer_iq(client: &mut Client, stanza: &[u8]) {
    let text = |name: &str| attribute(stanza, name).and_then(|value| std::str::from_utf8(value).ok());
    if !matches!(text("type"), Some("get" | "set")) {
        return;
    }
    let answer = stanza::answer(text("id").unwrap_or_default(), text("from"), holds(stanza, stanza::PING));
    client.push(&answer);
    client.count_sent(None);
}

//! Owns a router that does no more than it must: what the load program is measured and tested against.
//!
//! It lets anybody in, binds connection N to `N@sink/load` whoever it is, and passes messages on as they are.

use super::connection::{Connection, Received, Scratch};
use super::poll::{Poll, Ready};
use super::scanner::{Piece, attribute, holds, name_of, next_piece};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const LISTENER: usize = usize::MAX;
/// Connections taken over the life of a sink; those beyond are closed at once.
const SESSIONS: usize = 100_000;
/// Unsent bytes for one client above which the sink gives it up.
const BACKLOG: usize = 64 * 1024 * 1024;
const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' from='sink' version='1.0'>";
const FIRST: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";
const SECOND: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
    <sm xmlns='urn:xmpp:sm:3'/></stream:features>";

/// Every how many messages the sink misbehaves; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Drops a message.
    pub drop: u64,
    /// Delivers a message twice.
    pub repeat: u64,
    /// Delivers a message after the next one to the same client.
    pub swap: u64,
    /// Returns a message as an error.
    pub bounce: u64,
}

/// A running sink; ends when dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sink {
    /// Starts one on a free loopback port, on a thread of its own.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn start() -> io::Result<Self> {
        Self::with_faults(Faults::default())
    }

    /// The same with faults.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn with_faults(faults: Faults) -> io::Result<Self> {
        let listener = free_port()?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER)?;
        let flag = Arc::clone(&stop);
        let router = Router { poll, faults, sessions: Vec::new(), dirty: Vec::new(), messages: 0 };
        let thread = std::thread::Builder::new().name("sink".to_owned());
        let thread = thread.spawn(move || router.run(&listener, &flag))?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within one wait; its errors have shown up as lost connections.
            let _ = thread.join();
        }
    }
}

/// A listener below the ports that the kernel hands out itself.
fn free_port() -> io::Result<TcpListener> {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let mut ports = (first..30_000).chain(20_000..first);
    let found = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port from 20000 to 29999"))
}

struct Session {
    connection: Option<Connection>,
    authenticated: bool,
    handled: u32,
    held: Vec<u8>,
    dirty: bool,
}

struct Router {
    poll: Poll,
    faults: Faults,
    sessions: Vec<Session>,
    dirty: Vec<usize>,
    messages: u64,
}

impl Router {
    fn run(mut self, listener: &TcpListener, stop: &AtomicBool) -> io::Result<()> {
        let mut scratch = Scratch::default();
        let mut ready: Vec<Ready> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            self.poll.wait(Duration::from_millis(20), &mut ready)?;
            for event in &ready {
                if event.token == LISTENER {
                    self.accept(listener)?;
                } else if event.readable {
                    self.read(event.token, &mut scratch);
                }
                if event.writable {
                    self.mark(event.token);
                }
            }
            self.flush();
        }
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((socket, _)) = listener.accept() {
            if self.sessions.len() >= SESSIONS {
                continue;
            }
            let connection = Some(Connection::adopt(socket, self.sessions.len(), &self.poll)?);
            let session =
                Session { connection, authenticated: false, handled: 0, held: Vec::new(), dirty: false };
            self.sessions.push(session);
        }
        Ok(())
    }

    fn read(&mut self, token: usize, scratch: &mut Scratch) {
        let session = self.sessions.get_mut(token);
        let Some(connection) = session.and_then(|session| session.connection.as_mut()) else { return };
        let length = match connection.receive(scratch) {
            Ok(Received::Bytes(length)) => length,
            Ok(Received::Nothing) => return,
            Ok(Received::Closed) | Err(_) => return self.close(token),
        };
        let mut rest = scratch.get(length);
        while let Ok(Some((piece, length))) = next_piece(rest) {
            self.take(token, piece);
            rest = rest.get(length..).unwrap_or_default();
        }
        let session = self.sessions.get_mut(token);
        if let Some(connection) = session.and_then(|session| session.connection.as_mut()) {
            connection.keep(rest);
        }
    }

    fn take(&mut self, token: usize, piece: Piece<'_>) {
        let Some(session) = self.sessions.get_mut(token) else { return };
        let stanza = match piece {
            Piece::Stanza(stanza) => stanza,
            Piece::Header(_) => {
                let features = if session.authenticated { SECOND } else { FIRST };
                return self.send(token, format!("{HEADER}{features}").as_bytes());
            }
            Piece::End => return self.close(token),
            Piece::Filler => return,
        };
        let name = name_of(stanza);
        if matches!(name, b"message" | b"iq" | b"presence") {
            session.handled = session.handled.wrapping_add(1);
        }
        let answer = match name {
            b"message" => return self.route(token, stanza),
            b"auth" => {
                session.authenticated = true;
                "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned()
            }
            b"iq" if holds(stanza, "<bind") => {
                format!("<iq type='result' id='bind'><bind><jid>{token}@sink/load</jid></bind></iq>")
            }
            b"iq" if holds(stanza, "jabber:iq:register") => "<iq type='result' id='register'/>".to_owned(),
            b"enable" => {
                session.handled = 0;
                "<enabled xmlns='urn:xmpp:sm:3'/>".to_owned()
            }
            b"r" => format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", session.handled),
            _ => return,
        };
        self.send(token, answer.as_bytes());
    }

    fn route(&mut self, from: usize, stanza: &[u8]) {
        self.messages += 1;
        let number = self.messages;
        let hits = |every: u64| every > 0 && number.is_multiple_of(every);
        let Some(target) = attribute(stanza, "to").and_then(leading_number) else { return };
        if hits(self.faults.drop) {
            return;
        }
        if hits(self.faults.bounce) {
            let text = String::from_utf8_lossy(stanza).replacen("type='chat'", "type='error'", 1);
            return self.send(from, text.as_bytes());
        }
        if hits(self.faults.swap)
            && let Some(session) = self.sessions.get_mut(target).filter(|session| session.held.is_empty())
        {
            session.held = stanza.to_vec();
            return;
        }
        self.send(target, stanza);
        if hits(self.faults.repeat) {
            self.send(target, stanza);
        }
        let held = self.sessions.get_mut(target).map(|session| std::mem::take(&mut session.held));
        if let Some(held) = held.filter(|held| !held.is_empty()) {
            self.send(target, &held);
        }
    }

    fn send(&mut self, token: usize, bytes: &[u8]) {
        let session = self.sessions.get_mut(token);
        let Some(connection) = session.and_then(|session| session.connection.as_mut()) else { return };
        connection.out.extend_from_slice(bytes);
        self.mark(token);
    }

    fn mark(&mut self, token: usize) {
        if let Some(session) = self.sessions.get_mut(token).filter(|session| !session.dirty) {
            session.dirty = true;
            self.dirty.push(token);
        }
    }

    fn flush(&mut self) {
        while let Some(token) = self.dirty.pop() {
            let Some(session) = self.sessions.get_mut(token) else { continue };
            session.dirty = false;
            let Some(connection) = &mut session.connection else { continue };
            if connection.backlog() > BACKLOG || connection.flush(&self.poll).is_err() {
                self.close(token);
            }
        }
    }

    fn close(&mut self, token: usize) {
        let connection = self.sessions.get_mut(token).and_then(|session| session.connection.take());
        if let Some(connection) = connection {
            connection.close(&self.poll);
        }
    }
}

fn leading_number(text: &[u8]) -> Option<usize> {
    let digits = text.split(|byte| *byte == b'@').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

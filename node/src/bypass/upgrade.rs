//! Where the TLS of a client begins, if it is to end here: behind STARTTLS (RFC 6120 §5) for a domain of the list, or with the
//! first byte (XEP-0368) for one. *Pure.*
//!
//! Until that is known every byte is passed on as it is, but for two things that wait: a ClientHello, and what a server
//! answers to `<starttls/>`. Whoever does anything else is passed through, and ends its TLS at its server.

use std::fmt;
use std::sync::Arc;

use rustls::server::{Accepted, Acceptor};

use crate::xmpp::framer::{Frame, Framer};
use crate::xmpp::ns;

use super::accounts::Accounts;
use super::base::Side;
use super::cutter::{Cutter, Piece};
use super::identity::LIMITS;

/// Bytes of a ClientHello that are waited for.
const HELLO: usize = 16 << 10;

/// What is passed on of what a side said.
pub(super) enum Passed {
    /// All of it.
    AsIs,
    /// This.
    Instead(Vec<u8>),
    /// This, and then TLS ends here.
    Turn(Vec<u8>, Turn),
}

/// TLS begins.
pub(super) enum Turn {
    /// The server is ready for it, which the client has not heard yet.
    Starttls {
        /// For this domain.
        domain: String,
        /// What the server said.
        proceed: Vec<u8>,
    },
    /// The client has begun.
    Direct {
        /// For this domain.
        domain: String,
        /// What the client said.
        hello: Box<Accepted>,
    },
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starttls { domain, .. } => write!(f, "Starttls({domain})"),
            Self::Direct { domain, .. } => write!(f, "Direct({domain})"),
        }
    }
}

/// One connection before its TLS.
pub(super) struct Upgrade {
    accounts: Arc<Accounts>,
    state: State,
    server: Cutter,
}

enum State {
    Begun,
    Hello {
        acceptor: Box<Acceptor>,
        held: Vec<u8>,
    },
    Stream {
        framer: Box<Framer>,
        /// What the client's header names.
        domain: Option<String>,
        /// It has asked for TLS.
        asked: bool,
    },
    /// It is passed through.
    Over,
}

impl Upgrade {
    pub(super) fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts, state: State::Begun, server: Cutter::new(LIMITS) }
    }

    /// Whether all that follows is passed on as it is.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What is passed on of what a side said.
    pub(super) fn hear(&mut self, side: Side, bytes: &[u8]) -> Passed {
        match (side, &self.state) {
            _ if bytes.is_empty() => Passed::AsIs,
            (_, State::Over) | (Side::Server, State::Hello { .. }) => Passed::AsIs,
            (Side::Server, State::Begun | State::Stream { .. }) => self.server(bytes),
            (Side::Client, State::Begun) => {
                self.state = match bytes.first() {
                    Some(0x16) => State::Hello { acceptor: Box::default(), held: Vec::new() },
                    _ => State::Stream { framer: Box::new(Framer::new(LIMITS)), domain: None, asked: false },
                };
                self.hear(side, bytes)
            }
            (Side::Client, State::Hello { .. }) => self.hello(bytes),
            (Side::Client, State::Stream { .. }) => {
                self.stream(bytes);
                Passed::AsIs
            }
        }
    }

    /// Whatever comes is passed on as it is: first this, to server and client.
    pub(super) fn give_up(&mut self) -> (Vec<u8>, Vec<u8>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Hello { held, .. } => (held, self.server.take_held()),
            State::Begun | State::Stream { .. } | State::Over => (Vec::new(), self.server.take_held()),
        }
    }

    fn hello(&mut self, bytes: &[u8]) -> Passed {
        let State::Hello { acceptor, held } = &mut self.state else { return Passed::AsIs };
        held.extend_from_slice(bytes);
        let mut unread = bytes;
        let accepted = loop {
            let read = acceptor.read_tls(&mut unread);
            match (read, acceptor.accept()) {
                (Ok(_), Ok(None)) if !unread.is_empty() => {}
                (Ok(_), Ok(None)) if held.len() < HELLO => return Passed::Instead(Vec::new()),
                (Ok(_), Ok(Some(accepted))) if unread.is_empty() => break Some(accepted),
                (Ok(_) | Err(_), _) => break None,
            }
        };
        let ours = accepted.and_then(|accepted| Some((listed(&self.accounts, &accepted)?, accepted)));
        match ours {
            Some((domain, hello)) => {
                Passed::Turn(Vec::new(), Turn::Direct { domain, hello: Box::new(hello) })
            }
            None => Passed::Instead(self.give_up().0),
        }
    }

    /// Looks for `<starttls/>` behind the header of a stream to a domain of the list.
    fn stream(&mut self, mut bytes: &[u8]) {
        let State::Stream { framer, domain, asked } = &mut self.state else { return };
        let mut goes_on = !*asked || bytes.trim_ascii().is_empty();
        while goes_on && !bytes.is_empty() {
            goes_on = match framer.next(&mut bytes) {
                Ok(None) => true,
                Ok(Some(Frame::Open(header))) => {
                    *domain = header.get_attr("to").and_then(|to| self.accounts.domain(to));
                    domain.is_some()
                }
                Ok(Some(Frame::Element(element))) => {
                    *asked = element.is("starttls", ns::TLS);
                    *asked && bytes.trim_ascii().is_empty()
                }
                Ok(Some(Frame::Close)) | Err(_) => false,
            };
        }
        if !goes_on && !*asked {
            self.state = State::Over;
        } else if !goes_on {
            // It has said more than it may before the answer: what it is to mean, its server decides.
            *domain = None;
        }
    }

    fn server(&mut self, mut bytes: &[u8]) -> Passed {
        let (asked, domain) = match &self.state {
            State::Stream { asked, domain, .. } => (*asked, domain.clone()),
            State::Begun | State::Hello { .. } | State::Over => (false, None),
        };
        let (mut passed, mut over) = (Vec::new(), asked && domain.is_none());
        while !over {
            match self.server.next(&mut bytes) {
                None => break,
                Some(Piece::Between(raw)) => passed.extend(raw),
                Some(Piece::Broken(raw)) => {
                    over = true;
                    passed.extend(raw);
                }
                Some(Piece::Whole(frame, raw)) => match (&frame, &domain) {
                    (Frame::Element(element), Some(domain))
                        if asked && bytes.is_empty() && element.is("proceed", ns::TLS) =>
                    {
                        let domain = domain.clone();
                        return Passed::Turn(passed, Turn::Starttls { domain, proceed: raw });
                    }
                    _ => {
                        let is_header = matches!(frame, Frame::Open(_));
                        over = !is_header
                            && !matches!(&frame, Frame::Element(one) if one.is("features", ns::STREAMS));
                        passed.extend(raw);
                    }
                },
            }
        }
        if over {
            passed.extend(self.give_up().1);
            passed.extend_from_slice(bytes);
        } else if !asked {
            self.server.take_held();
        }
        if asked { Passed::Instead(passed) } else { Passed::AsIs }
    }
}

/// The domain of the list that a ClientHello names, if it is to speak XMPP.
fn listed(accounts: &Accounts, accepted: &Accepted) -> Option<String> {
    let hello = accepted.client_hello();
    let mut protocols = hello.alpn()?;
    let speaks = protocols.any(|protocol| protocol == b"xmpp-client");
    hello.server_name().filter(|_| speaks).and_then(|name| accounts.domain(name))
}

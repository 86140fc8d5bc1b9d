//! Where the TLS of a client begins, if it is to end here: behind STARTTLS (RFC 6120 §5) for a domain of the list, or with the
//! first byte (XEP-0368) for one. *Pure.*
//!
//! Until that is known every byte is passed on as it is, but for two things that wait: a ClientHello, and what a server
//! answers to `<starttls/>`. A client that does anything else is passed through, and ends its TLS at its server. Its server, or
//! whoever is on the way to it, has no such choice: once TLS is asked for, it begins here, or is refused in so many words, or
//! the connection ends.

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
    /// The client has asked for it, and no server answers that.
    Refused {
        /// For this domain.
        domain: String,
        /// The client has a header of its server.
        begun: bool,
    },
}

/// What is left when no more is waited for.
#[derive(Default)]
pub(super) struct Rest {
    /// Still to be passed on to the server.
    pub(super) out: Vec<u8>,
    /// To the client.
    pub(super) back: Vec<u8>,
    /// How it ends instead.
    pub(super) turn: Option<Turn>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starttls { domain, .. } => write!(f, "Starttls({domain})"),
            Self::Direct { domain, .. } => write!(f, "Direct({domain})"),
            Self::Refused { domain, .. } => write!(f, "Refused({domain})"),
        }
    }
}

/// One connection before its TLS.
pub(super) struct Upgrade {
    accounts: Arc<Accounts>,
    state: State,
    server: Cutter,
    /// Before TLS was asked for the server has said what does not belong there.
    odd: bool,
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
        Self { accounts, state: State::Begun, server: Cutter::new(), odd: false }
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
                match &self.state {
                    State::Stream { asked: true, .. } if self.odd => Passed::Turn(Vec::new(), self.refuse()),
                    _ => Passed::AsIs,
                }
            }
        }
    }

    /// That side says no more, or nobody has for too long. TLS that is waited for is not to be then; and no silence of the server
    /// makes it go by unheard afterwards.
    pub(super) fn give_up(&mut self, ended: Option<Side>) -> Rest {
        let waits = matches!(self.state, State::Stream { asked: true, domain: Some(_), .. });
        if waits && ended != Some(Side::Client) {
            return Rest { turn: Some(self.refuse()), ..Rest::default() };
        }
        if ended.is_none() && matches!(self.state, State::Begun | State::Stream { asked: false, .. }) {
            return Rest::default();
        }
        let out = match std::mem::replace(&mut self.state, State::Over) {
            State::Hello { held, .. } => held,
            State::Begun | State::Stream { .. } | State::Over => Vec::new(),
        };
        Rest { out, back: self.server.take_held(), turn: None }
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
            None => Passed::Instead(self.give_up(Some(Side::Client)).out),
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

    fn server(&mut self, bytes: &[u8]) -> Passed {
        match &self.state {
            State::Stream { asked: true, domain: Some(_), .. } => self.answer(bytes),
            State::Stream { asked: true, domain: None, .. } => {
                let held = self.give_up(None).back;
                Passed::Instead([&held[..], bytes].concat())
            }
            State::Begun | State::Hello { .. } | State::Stream { .. } | State::Over => {
                self.overhear(bytes);
                Passed::AsIs
            }
        }
    }

    /// Before the client asks for TLS all that its server says is passed on.
    fn overhear(&mut self, mut bytes: &[u8]) {
        while !self.odd {
            match self.server.next(&mut bytes) {
                None => break,
                Some(Piece::Between(_)) => {}
                Some(Piece::Broken(_)) => self.odd = true,
                Some(Piece::Whole(frame, _)) => self.odd = !opens(&frame),
            }
        }
        self.server.take_held();
    }

    /// What the client is answered that asked for TLS: that it may begin, or that there is none. Anything else is from somebody
    /// who would have TLS end elsewhere.
    fn answer(&mut self, mut bytes: &[u8]) -> Passed {
        let mut passed = Vec::new();
        loop {
            let (frame, raw) = match self.server.next(&mut bytes) {
                None => return Passed::Instead(passed),
                Some(Piece::Between(raw)) => {
                    passed.extend(raw);
                    continue;
                }
                Some(Piece::Whole(frame, raw)) => (frame, raw),
                Some(Piece::Broken(_)) => return Passed::Turn(passed, self.refuse()),
            };
            if opens(&frame) {
                passed.extend(raw);
                continue;
            }
            let (State::Stream { asked, domain: Some(domain), .. }, Frame::Element(one)) =
                (&mut self.state, &frame)
            else {
                return Passed::Turn(passed, self.refuse());
            };
            if one.is("failure", ns::TLS) {
                *asked = false;
                self.overhear(bytes);
                return Passed::Instead([&passed[..], &raw, bytes].concat());
            }
            if one.is("proceed", ns::TLS) && bytes.is_empty() {
                let domain = domain.clone();
                return Passed::Turn(passed, Turn::Starttls { domain, proceed: raw });
            }
            return Passed::Turn(passed, self.refuse());
        }
    }

    fn refuse(&mut self) -> Turn {
        let domain = match std::mem::replace(&mut self.state, State::Over) {
            State::Stream { domain, .. } => domain.unwrap_or_default(),
            State::Begun | State::Hello { .. } | State::Over => String::new(),
        };
        Turn::Refused { domain, begun: self.server.scope().is_some() }
    }
}

/// Header and features, which come before TLS.
fn opens(frame: &Frame) -> bool {
    match frame {
        Frame::Open(_) => true,
        Frame::Element(one) => one.is("features", ns::STREAMS),
        Frame::Close => false,
    }
}

/// The domain of the list that a ClientHello names, if it is to speak XMPP.
fn listed(accounts: &Accounts, accepted: &Accepted) -> Option<String> {
    let hello = accepted.client_hello();
    let mut protocols = hello.alpn()?;
    let speaks = protocols.any(|protocol| protocol == b"xmpp-client");
    hello.server_name().filter(|_| speaks).and_then(|name| accounts.domain(name))
}

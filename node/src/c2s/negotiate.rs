//! From the first byte of a connection to an authenticated stream (RFC 6120 §4–§6).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crosstalk_overlay::id::UserId;
use jid::BareJid;
use tokio::net::TcpStream;

use crate::xmpp::element::write_attribute;
use crate::xmpp::error::StreamCondition;
use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, Kind, Stanza, StreamError, ns};

use super::attempt::{Attempt, Said};
use super::connection::{end, linger};
use super::listener::Door;
use super::register;
use super::sasl::{self, Failure};
use super::transport::Transport;
use super::wire::{Stop, Wire, stop};

/// Failed attempts before the stream is ended.
const ATTEMPTS: u32 = 3;

/// A client that has proved who it is.
pub(super) struct LoggedIn {
    pub(super) user: UserId,
    pub(super) transport: Transport,
    pub(super) framer: Framer,
    /// Bytes that it sent behind its last stream header.
    pub(super) rest: Vec<u8>,
}

/// A connection before login.
pub(super) struct Negotiation {
    door: Arc<Door>,
    peer: SocketAddr,
    direct_tls: bool,
    wire: Wire,
    /// Whether our header of the current stream was sent.
    opened: bool,
    /// What the client calls this server, and the domain that it means.
    host: String,
    domain: String,
    failures: u32,
}

impl Negotiation {
    pub(super) fn new(door: Arc<Door>, stream: TcpStream, peer: SocketAddr, direct_tls: bool) -> Self {
        let wire = Wire::new(stream, door.limits.login_bytes_per_second, door.limits.login_burst_bytes);
        Self {
            direct_tls,
            wire,
            opened: false,
            host: String::new(),
            domain: String::new(),
            failures: 0,
            door,
            peer,
        }
    }

    /// Negotiates until login.
    pub(super) async fn run(&mut self) -> Result<UserId, Stop> {
        if self.direct_tls {
            self.start_tls().await?;
        }
        loop {
            let mut features = Vec::new();
            self.open_stream(&mut features).await?;
            self.offer(&mut features);
            self.wire.write(&features).await?;
            if let Some(user) = self.serve_stream().await? {
                let mut features = Vec::new();
                self.open_stream(&mut features).await?;
                write_features(&mut features, &(self.door.features)());
                self.wire.write(&features).await?;
                return Ok(user);
            }
        }
    }

    /// What is left of the connection after a login.
    pub(super) fn into_logged_in(self, user: UserId) -> Option<LoggedIn> {
        let rest = self.wire.unread().to_vec();
        Some(LoggedIn { user, transport: self.wire.transport?, framer: self.wire.framer, rest })
    }

    /// Tells the client why it ends, if it can still be told in `grace`.
    pub(super) async fn refuse(mut self, stop: Stop, grace: Duration) {
        let error = match stop {
            Stop::Gone => return,
            Stop::Closed => None,
            Stop::Error(error) => Some(error),
        };
        let mut last = Vec::new();
        if !self.opened {
            self.write_header(&mut last, None);
        }
        last.extend(error.iter().flat_map(StreamError::to_bytes));
        if let Some(error) = error {
            tracing::debug!(peer = %self.peer, condition = error.condition.as_str(), "a login was ended");
        }
        if let Some(transport) = &mut self.wire.transport {
            end(transport, &last, grace).await;
            linger(transport, grace).await;
        }
    }

    /// Serves one stream before login: `None` when TLS has started, the user after login.
    async fn serve_stream(&mut self) -> Result<Option<UserId>, Stop> {
        loop {
            let element = self.wire.element().await?;
            match (element.name(), element.ns()) {
                ("starttls", ns::TLS) => {
                    self.accept_starttls().await?;
                    return Ok(None);
                }
                ("auth", ns::SASL) if self.may_log_in() => match self.authenticate(&element).await? {
                    Ok(user) => {
                        self.restart(Limits::AFTER_LOGIN);
                        return Ok(Some(user));
                    }
                    Err(failure) => self.fail(failure).await?,
                },
                ("abort", ns::SASL) => self.fail(Failure::Aborted).await?,
                ("iq", ns::CLIENT) if element.has("query", ns::REGISTER) => self.register(element).await?,
                _ => return Err(stop(StreamCondition::NotAuthorized, "log in first")),
            }
        }
    }

    /// Passwords, even hashed ones, cross a network only inside TLS.
    fn may_log_in(&self) -> bool {
        self.peer.ip().is_loopback() || self.wire.is_tls()
    }

    async fn open_stream(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let header = match self.wire.frame().await? {
            Frame::Open(header) => header,
            Frame::Element(_) | Frame::Close => return Err(Stop::Gone),
        };
        let host = header.get_attr("to").unwrap_or_default().to_lowercase();
        let host_name = host.clone();
        let domain = match host.as_str() {
            "localhost" => self.door.domains.first(),
            host if self.door.directory.has_domain(host) => Some(&host_name),
            host => self.door.domains.iter().find(|domain| *domain == host),
        };
        let Some(domain) = domain else {
            let text = format!("this node serves {}", self.door.domains.join(", "));
            return Err(stop(StreamCondition::HostUnknown, &text));
        };
        self.domain = domain.clone();
        self.host = host;
        let major =
            header.get_attr("version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if major.is_none_or(|major| major == 0) {
            return Err(stop(StreamCondition::UnsupportedVersion, "version='1.0' is needed"));
        }
        let client = header.get_attr("from").and_then(|from| BareJid::new(from).ok());
        self.write_header(out, client.as_ref());
        Ok(())
    }

    /// Our stream header (RFC 6120 §4.7).
    fn write_header(&mut self, out: &mut Vec<u8>, to: Option<&BareJid>) {
        let mut id = [0; 8];
        if getrandom::fill(&mut id).is_err() {
            tracing::warn!("the system gave no randomness for a stream id");
        }
        out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
        write_attribute(out, "xmlns", ns::CLIENT);
        write_attribute(out, "xmlns:stream", ns::STREAMS);
        write_attribute(out, "id", &format!("{:016x}", u64::from_be_bytes(id)));
        let host = if self.host.is_empty() { self.door.domains.first() } else { Some(&self.host) };
        write_attribute(out, "from", host.map_or("", String::as_str));
        if let Some(to) = to {
            write_attribute(out, "to", to.as_str());
        }
        write_attribute(out, "version", "1.0");
        write_attribute(out, "xml:lang", "en");
        out.push(b'>');
        self.opened = true;
    }

    /// Features before login (RFC 6120 §4.3.2).
    fn offer(&self, out: &mut Vec<u8>) {
        let mut features = Vec::new();
        if !self.wire.is_tls() {
            let required = (!self.may_log_in()).then(|| Element::new("required", ns::TLS));
            features.push(Element::new("starttls", ns::TLS).children_from(required));
        }
        if self.may_log_in() {
            let names = sasl::mechanisms().map(|name| Element::new("mechanism", ns::SASL).text(name));
            features.push(Element::new("mechanisms", ns::SASL).children_from(names));
        }
        if self.may_register() {
            features.push(Element::new("register", ns::REGISTER_FEATURE));
        }
        write_features(out, &features);
    }

    fn may_register(&self) -> bool {
        self.door.register.is_some() && self.peer.ip().is_loopback()
    }

    /// RFC 6120 §5.4.
    async fn accept_starttls(&mut self) -> Result<(), Stop> {
        let injected = self.wire.unread().iter().any(|byte| !byte.is_ascii_whitespace());
        if self.wire.is_tls() {
            self.wire.send(&Element::new("failure", ns::TLS)).await?;
            return Err(Stop::Closed);
        }
        if injected {
            // Somebody on the way may have put it there to have it taken for what is protected.
            return Err(stop(
                StreamCondition::PolicyViolation,
                "nothing may follow starttls before TLS has begun",
            ));
        }
        self.wire.send(&Element::new("proceed", ns::TLS)).await?;
        self.restart(Limits::BEFORE_LOGIN);
        self.wire.forget();
        self.start_tls().await
    }

    async fn start_tls(&mut self) -> Result<(), Stop> {
        let config = if self.direct_tls { &self.door.direct_tls } else { &self.door.starttls };
        self.wire.start_tls(config.clone()).await
    }

    /// What follows is a new stream.
    fn restart(&mut self, limits: Limits) {
        self.wire.framer.reset(limits);
        self.opened = false;
    }

    /// One login attempt (RFC 6120 §6.4).
    async fn authenticate(&mut self, auth: &Element) -> Result<Result<UserId, Failure>, Stop> {
        let mechanism = auth.get_attr("mechanism").unwrap_or_default();
        let mut attempt = match Attempt::new(self.door.clone(), self.peer.ip(), mechanism, Some(&self.domain))
        {
            Ok(attempt) => attempt,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut message = sasl::data(auth);
        loop {
            let data = message.as_ref().map(|data| data.as_ref().map(|data| data.as_slice()));
            match attempt.step(data.map_err(|failure| *failure)).await {
                Ok(Said::Challenge(challenge)) => {
                    let challenge = Element::new("challenge", ns::SASL).text(&STANDARD.encode(challenge));
                    self.wire.send(&challenge).await?;
                }
                Ok(Said::Success(user, last)) => {
                    let text = last.map(|data| STANDARD.encode(data)).unwrap_or_default();
                    self.wire.send(&Element::new("success", ns::SASL).text(&text)).await?;
                    return Ok(Ok(user));
                }
                Err(failure) => return Ok(Err(failure)),
            }
            let answer = self.wire.element().await?;
            message = match (answer.name(), answer.ns()) {
                ("response", ns::SASL) => sasl::data(&answer).map(|data| Some(data.unwrap_or_default())),
                ("abort", ns::SASL) => return Ok(Err(Failure::Aborted)),
                _ => return Err(stop(StreamCondition::NotAuthorized, "the login is not finished")),
            };
        }
    }

    async fn fail(&mut self, failure: Failure) -> Result<(), Stop> {
        self.failures += 1;
        self.wire.send(&failure.to_element()).await?;
        match self.failures >= ATTEMPTS {
            true => Err(stop(StreamCondition::PolicyViolation, "too many failed logins")),
            false => Ok(()),
        }
    }

    async fn register(&mut self, element: Element) -> Result<(), Stop> {
        let answer = match Stanza::from_element(Kind::Iq, element) {
            Ok(iq) if iq.is_request() => {
                let requests = self.door.register.as_ref().filter(|_| self.may_register());
                register::answer(&iq, &self.domain, requests).await
            }
            Ok(_) => None,
            Err((iq, error)) => iq.error(&error),
        };
        match answer {
            Some(answer) => self.wire.write(&answer.to_bytes()).await,
            None => Ok(()),
        }
    }
}

fn write_features(out: &mut Vec<u8>, features: &[Element]) {
    out.extend_from_slice(b"<stream:features>");
    for feature in features {
        feature.write(out, ns::CLIENT);
    }
    out.extend_from_slice(b"</stream:features>");
}

//! A client from its first byte until it is let in: by PASS or SASL, checked as any login is.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::SERVER;
use super::caps::numeric;
use super::line::{Heard, Line, Lines};
use super::registration::{Login, Registration, Want, challenge, plain};
use crate::c2s::attempt::{Attempt, Said};
use crate::c2s::listener::Door;
use crate::c2s::rate::Bucket;
use crate::c2s::sasl;
use crate::c2s::transport::Transport;
use crosstalk_overlay::id::UserId;

/// Failed exchanges of SASL before the connection ends.
const ATTEMPTS: u32 = 3;
/// Bytes of one read.
const READ: usize = 4096;

/// How a login ends that is none.
pub(super) enum Stop {
    /// The client is told why.
    Refused(String),
    /// It is gone.
    Gone,
}

/// A client before it is let in.
pub(super) struct Knocking {
    door: Arc<Door>,
    peer: SocketAddr,
    transport: Transport,
    lines: Lines,
    /// What was read and not looked at yet.
    rest: Zeroizing<Vec<u8>>,
    bucket: Bucket,
    start: Instant,
    mechanisms: String,
    registration: Registration,
    attempt: Option<Attempt>,
    is_plain: bool,
    user: Option<UserId>,
    failures: u32,
}

/// One that has been.
pub(super) struct Entered {
    pub(super) user: UserId,
    pub(super) login: Login,
    pub(super) transport: Transport,
    pub(super) lines: Lines,
    pub(super) rest: Vec<u8>,
}

impl Knocking {
    pub(super) fn new(door: Arc<Door>, peer: SocketAddr, transport: Transport) -> Self {
        let start = Instant::now();
        let limits = &door.limits;
        Self {
            bucket: Bucket::new(limits.login_bytes_per_second, limits.login_burst_bytes, start.elapsed()),
            door,
            peer,
            transport,
            lines: Lines::default(),
            rest: Zeroizing::default(),
            start,
            mechanisms: sasl::mechanisms().collect::<Vec<_>>().join(","),
            registration: Registration::default(),
            attempt: None,
            is_plain: false,
            user: None,
            failures: 0,
        }
    }

    /// Until it is let in.
    pub(super) async fn run(&mut self) -> Result<UserId, Stop> {
        loop {
            let mut out = String::new();
            let want = match self.heard().await? {
                Heard::Text(text) => {
                    let text = Zeroizing::new(text);
                    let line = Line::read(&text);
                    line.and_then(|line| self.registration.hear(&line, &self.mechanisms, &mut out))
                }
                Heard::TooLong | Heard::NotText => return Err(Stop::Refused("this is no IRC".to_owned())),
            };
            self.write(&out).await?;
            match want {
                Some(Want::Complete) => return self.complete().await,
                Some(Want::Mechanism(name)) => self.begin(&name).await?,
                Some(Want::Message(message)) => self.step(&message).await?,
                Some(Want::Abort) => {
                    self.attempt = None;
                    self.failed("906", "SASL authentication aborted").await?;
                }
                Some(Want::Quit) => return Err(Stop::Refused("you have left".to_owned())),
                None => {}
            }
        }
    }

    /// What is left of it after that.
    pub(super) fn into_entered(self, user: UserId) -> Entered {
        let login = self.registration.into_login();
        Entered { user, login, transport: self.transport, lines: self.lines, rest: self.rest.to_vec() }
    }

    /// The connection, to say a last word.
    pub(super) fn into_transport(self) -> Transport {
        self.transport
    }

    async fn heard(&mut self) -> Result<Heard, Stop> {
        loop {
            let mut input = &self.rest[..];
            let heard = self.lines.next(&mut input);
            let taken = self.rest.len() - input.len();
            self.rest.drain(..taken);
            if let Some(heard) = heard {
                return Ok(heard);
            }
            self.rest.resize(READ, 0);
            let count = self.transport.read(&mut self.rest).await.map_err(|_| Stop::Gone)?;
            self.rest.truncate(count);
            if count == 0 {
                return Err(Stop::Gone);
            }
            if let Some(pause) = self.bucket.take(count, self.start.elapsed()) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), Stop> {
        let write = async {
            self.transport.write_all(text.as_bytes()).await?;
            self.transport.flush().await
        };
        if text.is_empty() { Ok(()) } else { write.await.map_err(|_| Stop::Gone) }
    }

    async fn begin(&mut self, mechanism: &str) -> Result<(), Stop> {
        match self.attempt(mechanism) {
            Ok(attempt) => {
                (self.attempt, self.is_plain) = (Some(attempt), mechanism == "PLAIN");
                self.write("AUTHENTICATE +\r\n").await
            }
            Err(_) => {
                let mut out = String::new();
                let named = numeric("908", self.registration.called()).param(&self.mechanisms[..]);
                named.param("are available SASL mechanisms").write(&mut out);
                self.write(&out).await?;
                self.failed("904", "SASL authentication failed").await
            }
        }
    }

    fn attempt(&self, mechanism: &str) -> Result<Attempt, sasl::Failure> {
        Attempt::new(self.door.clone(), self.peer.ip(), mechanism, None)
    }

    async fn step(&mut self, message: &[u8]) -> Result<(), Stop> {
        let Some(mut attempt) = self.attempt.take() else { return Ok(()) };
        // The proof that the node knows the password was sent with the last message, which the client has just confirmed.
        if self.user.is_some() {
            return self.succeeded().await;
        }
        let message = if self.is_plain { plain(message) } else { Zeroizing::new(message.to_vec()) };
        match attempt.step(Ok(Some(&message))).await {
            Ok(Said::Challenge(data)) => {
                self.attempt = Some(attempt);
                self.challenge(&data).await
            }
            Ok(Said::Success(user, last)) => {
                self.user = Some(user);
                match last {
                    Some(data) => {
                        self.attempt = Some(attempt);
                        self.challenge(&data).await
                    }
                    None => self.succeeded().await,
                }
            }
            Err(_) => self.failed("904", "SASL authentication failed: wrong name or password").await,
        }
    }

    async fn challenge(&mut self, data: &[u8]) -> Result<(), Stop> {
        let mut out = String::new();
        challenge(data, &mut out);
        self.write(&out).await
    }

    async fn succeeded(&mut self) -> Result<(), Stop> {
        self.registration.forget();
        let mut out = String::new();
        let nick = self.registration.called();
        let mask = format!("{nick}!user@{SERVER}");
        numeric("900", nick).param(mask).param(nick).param("You are logged in").write(&mut out);
        numeric("903", nick).param("SASL authentication successful").write(&mut out);
        self.write(&out).await
    }

    async fn failed(&mut self, number: &str, text: &str) -> Result<(), Stop> {
        self.registration.forget();
        (self.user, self.failures) = (None, self.failures + 1);
        let mut out = String::new();
        numeric(number, self.registration.called()).param(text).write(&mut out);
        self.write(&out).await?;
        match self.failures >= ATTEMPTS {
            true => Err(Stop::Refused("too many failed logins".to_owned())),
            false => Ok(()),
        }
    }

    /// All is said; without SASL the password is that of PASS, and goes the way of SASL PLAIN.
    async fn complete(&mut self) -> Result<UserId, Stop> {
        if let (Some(user), None) = (self.user, &self.attempt) {
            return Ok(user);
        }
        let Some((name, password)) = self.registration.password() else {
            return self.refused("Log in with the server password NAME:PASSWORD, or with SASL").await;
        };
        let plain = Zeroizing::new(format!("\0{name}\0{}", password.as_str()));
        let outcome = match self.attempt("PLAIN") {
            Ok(mut attempt) => attempt.step(Ok(Some(plain.as_bytes()))).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(Said::Success(user, _)) => Ok(user),
            Ok(Said::Challenge(_)) | Err(_) => {
                self.refused("Wrong name or password: the server password is NAME:PASSWORD").await
            }
        }
    }

    async fn refused<T>(&mut self, text: &str) -> Result<T, Stop> {
        let mut out = String::new();
        numeric("464", self.registration.called()).param(text).write(&mut out);
        self.write(&out).await?;
        Err(Stop::Refused(text.to_owned()))
    }
}

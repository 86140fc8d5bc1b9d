//! Owns the steps from an open connection to an available session, as a machine fed with pieces of the stream.

use super::options::{Account, Mechanism};
use super::scanner::{Piece, attribute, holds, name_of, text_of};
use super::stanza;
use rsasl::prelude::{Mechname, SASLClient, SASLConfig, Session};

/// What every login of a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// SASL mechanism.
    pub mechanism: Mechanism,
    /// Whether to register the account first.
    pub register: bool,
    /// Whether to enable XEP-0198.
    pub sm: bool,
}

/// Where a login stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More from the server is needed.
    Waiting,
    /// Logged in and available; the full JID that the server bound.
    Ready(String),
}

/// Why a login failed. The texts hold what the server said, never the password.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server insists on TLS.
    #[error("the server requires TLS on this port; allow plain TCP on loopback for the measurement")]
    TlsRequired,
    /// The mechanism is not offered.
    #[error("the server does not offer {0}; choose another with --mechanism or allow it without TLS")]
    NoMechanism(&'static str),
    /// SASL failed on the client's side.
    #[error("SASL: {0}")]
    Sasl(String),
    /// The server lacks XEP-0198.
    #[error("the server does not offer XEP-0198; leave --sm out")]
    NoStreamManagement,
    /// The server refused a step.
    #[error("the server refused at step {step:?}: {said}")]
    Refused {
        /// The step.
        step: Step,
        /// Start of its stanza.
        said: String,
    },
    /// The stream ended.
    #[error("the server ended the stream at step {0:?}")]
    Closed(Step),
}

/// A step: what the client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// First features.
    Features,
    /// Answer to the registration.
    Register,
    /// Challenge or success.
    Authenticate,
    /// Features after authentication.
    FeaturesAgain,
    /// Result of binding.
    Bind,
    /// Result of session establishment.
    Session,
    /// `<enabled/>`.
    Enable,
}

/// One login under way.
pub struct Login {
    account: Account,
    plan: Plan,
    step: Step,
    sasl: Option<Session>,
    offered: Vec<u8>,
    jid: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login {{ {:?} at {:?} }}", self.account, self.step)
    }
}

impl Login {
    /// Begins: writes the stream's header to `out`.
    pub fn new(account: Account, plan: Plan, out: &mut Vec<u8>) -> Self {
        push(out, &stanza::stream_header(&account.domain));
        Self { account, plan, step: Step::Features, sasl: None, offered: Vec::new(), jid: String::new() }
    }

    /// Takes one piece from the server and writes what follows to `out`.
    ///
    /// # Errors
    /// [`LoginError`]; the login is over then.
    pub fn take(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) -> Result<Progress, LoginError> {
        let stanza = match piece {
            Piece::Filler | Piece::Header(_) => return Ok(Progress::Waiting),
            Piece::End => return Err(LoginError::Closed(self.step)),
            Piece::Stanza(stanza) => stanza,
        };
        match (self.step, name_of(stanza)) {
            (_, b"stream:error") => return Err(self.refused(stanza)),
            (Step::Features, b"stream:features") => self.first_features(stanza, out)?,
            (Step::Register, b"iq") => self.registered(stanza, out)?,
            (Step::Authenticate, b"challenge") => self.challenge(stanza, out)?,
            (Step::Authenticate, b"success") => self.success(stanza, out)?,
            (Step::Authenticate, _) => return Err(self.refused(stanza)),
            (Step::FeaturesAgain, b"stream:features") => self.second_features(stanza, out)?,
            (Step::Bind, b"iq") => return self.bound(stanza, out),
            (Step::Session, b"iq") => return self.session_made(out),
            (Step::Enable, b"enabled") => return Ok(self.available(out)),
            (Step::Enable, b"failed") => return Err(self.refused(stanza)),
            _ => {}
        }
        Ok(Progress::Waiting)
    }

    /// Where it stands, for an error message.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Whether XEP-0198 will be on.
    #[must_use]
    pub fn uses_sm(&self) -> bool {
        self.plan.sm
    }

    fn first_features(&mut self, features: &[u8], out: &mut Vec<u8>) -> Result<(), LoginError> {
        if holds(features, "<starttls") && holds(features, "<required") && !holds(features, "<mechanism>") {
            return Err(LoginError::TlsRequired);
        }
        self.offered = features.to_vec();
        if !self.plan.register {
            return self.authenticate(out);
        }
        self.step = Step::Register;
        push(out, &stanza::register(&self.account.user, &self.account.password));
        Ok(())
    }

    fn registered(&mut self, answer: &[u8], out: &mut Vec<u8>) -> Result<(), LoginError> {
        let ok = attribute(answer, "type") == Some(b"result") || holds(answer, "<conflict");
        if ok { self.authenticate(out) } else { Err(self.refused(answer)) }
    }

    fn authenticate(&mut self, out: &mut Vec<u8>) -> Result<(), LoginError> {
        let name = self.plan.mechanism.name();
        if !holds(&self.offered, &format!(">{name}<")) {
            return Err(LoginError::NoMechanism(name));
        }
        let mut session = sasl_session(&self.account, name).map_err(LoginError::Sasl)?;
        let data = if session.are_we_first() { sasl_step(&mut session, None)? } else { String::new() };
        push(out, &stanza::auth(name, &data));
        self.sasl = Some(session);
        self.step = Step::Authenticate;
        self.offered = Vec::new();
        Ok(())
    }

    fn challenge(&mut self, stanza: &[u8], out: &mut Vec<u8>) -> Result<(), LoginError> {
        let Some(session) = &mut self.sasl else { return Err(self.refused(stanza)) };
        let data = sasl_step(session, Some(text_of(stanza, "challenge").unwrap_or_default()))?;
        push(out, &stanza::response(&data));
        Ok(())
    }

    fn success(&mut self, stanza: &[u8], out: &mut Vec<u8>) -> Result<(), LoginError> {
        let last = text_of(stanza, "success").unwrap_or_default();
        if let (Some(session), false) = (&mut self.sasl, last.is_empty()) {
            sasl_step(session, Some(last))?;
        }
        self.sasl = None;
        self.step = Step::FeaturesAgain;
        push(out, &stanza::stream_header(&self.account.domain));
        Ok(())
    }

    fn second_features(&mut self, features: &[u8], out: &mut Vec<u8>) -> Result<(), LoginError> {
        if self.plan.sm && !holds(features, stanza::SM) {
            return Err(LoginError::NoStreamManagement);
        }
        self.offered = features.to_vec();
        self.step = Step::Bind;
        push(out, &stanza::bind("load"));
        Ok(())
    }

    fn bound(&mut self, answer: &[u8], out: &mut Vec<u8>) -> Result<Progress, LoginError> {
        if attribute(answer, "id") != Some(b"bind") {
            return Ok(Progress::Waiting);
        }
        let jid = text_of(answer, "jid").and_then(|jid| std::str::from_utf8(jid).ok());
        let Some(jid) = jid.filter(|jid| !jid.is_empty()) else { return Err(self.refused(answer)) };
        self.jid = stanza::unescape(jid);
        let features = std::mem::take(&mut self.offered);
        if holds(&features, "<session") && !holds(&features, "<optional") {
            self.step = Step::Session;
            push(out, stanza::SESSION);
            return Ok(Progress::Waiting);
        }
        self.session_made(out)
    }

    fn session_made(&mut self, out: &mut Vec<u8>) -> Result<Progress, LoginError> {
        if !self.plan.sm {
            return Ok(self.available(out));
        }
        self.step = Step::Enable;
        push(out, stanza::ENABLE);
        Ok(Progress::Waiting)
    }

    fn available(&mut self, out: &mut Vec<u8>) -> Progress {
        push(out, stanza::PRESENCE);
        Progress::Ready(std::mem::take(&mut self.jid))
    }

    fn refused(&self, stanza: &[u8]) -> LoginError {
        LoginError::Refused { step: self.step, said: excerpt(stanza) }
    }
}

/// The first 300 bytes of a stanza, for an error message.
#[must_use]
pub fn excerpt(stanza: &[u8]) -> String {
    String::from_utf8_lossy(stanza.get(..300).unwrap_or(stanza)).into_owned()
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn sasl_session(account: &Account, name: &'static str) -> Result<Session, String> {
    let config = SASLConfig::with_credentials(None, account.user.clone(), account.password.clone());
    let config = config.map_err(|error| error.to_string())?;
    let mechanism = Mechname::parse(name.as_bytes()).map_err(|error| error.to_string())?;
    SASLClient::new(config).start_suggested(&[mechanism]).map_err(|error| error.to_string())
}

fn sasl_step(session: &mut Session, input: Option<&[u8]>) -> Result<String, LoginError> {
    let mut data = Vec::new();
    session.step64(input, &mut data).map_err(|error| LoginError::Sasl(error.to_string()))?;
    String::from_utf8(data).map_err(|error| LoginError::Sasl(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::scanner::next_piece;
    use super::*;

    fn start(register: bool, sm: bool) -> (Login, Vec<u8>) {
        let account = Account { user: "u".into(), domain: "d".into(), password: "p".into() };
        let mut out = Vec::new();
        let plan = Plan { mechanism: Mechanism::Plain, register, sm };
        (Login::new(account, plan, &mut out), out)
    }

    /// Feeds the server's text and returns the answer to it.
    fn feed(login: &mut Login, text: &str) -> Result<(Progress, String), LoginError> {
        let mut rest = text.as_bytes();
        let mut out = Vec::new();
        let mut progress = Progress::Waiting;
        while let Some((piece, length)) = next_piece(rest).unwrap() {
            progress = login.take(piece, &mut out)?;
            rest = &rest[length..];
        }
        Ok((progress, String::from_utf8(out).unwrap()))
    }

    const FEATURES: &str = "<stream:stream><stream:features><starttls/><mechanisms><mechanism>PLAIN</mechanism>\
        </mechanisms></stream:features>";
    const AGAIN: &str =
        "<stream:stream><stream:features><bind/><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
    const BOUND: &str = "<iq type='result' id='bind'><bind><jid>00ab@d/x&amp;y</jid></bind></iq>";

    #[test]
    fn a_whole_login_with_registration_and_acknowledgements() {
        let (mut login, hello) = start(true, true);
        assert!(String::from_utf8(hello).unwrap().contains("to='d'"));
        assert!(feed(&mut login, FEATURES).unwrap().1.contains("<username>u</username>"));
        let conflict = "<iq type='error' id='register'><error><conflict/></error></iq>";
        assert!(feed(&mut login, conflict).unwrap().1.contains("mechanism='PLAIN'>AHUAcA==</auth>"));
        assert!(feed(&mut login, "<success/>").unwrap().1.contains("<stream:stream"));
        assert!(feed(&mut login, AGAIN).unwrap().1.contains("<resource>load</resource>"));
        assert_eq!(feed(&mut login, BOUND).unwrap().1, stanza::ENABLE);
        let (progress, out) = feed(&mut login, "<enabled xmlns='urn:xmpp:sm:3'/>").unwrap();
        assert_eq!(progress, Progress::Ready("00ab@d/x&y".into()));
        assert_eq!(out, stanza::PRESENCE);
    }

    #[test]
    fn session_establishment_only_where_it_is_required() {
        for (feature, asked) in [("<session/>", true), ("<session><optional/></session>", false)] {
            let (mut login, _) = start(false, false);
            feed(&mut login, FEATURES).unwrap();
            feed(&mut login, "<success/>").unwrap();
            feed(&mut login, &format!("<stream:features><bind/>{feature}</stream:features>")).unwrap();
            assert_eq!(feed(&mut login, BOUND).unwrap().1 == stanza::SESSION, asked, "{feature}");
        }
    }

    #[test]
    fn each_refusal_has_its_error() {
        let tls = "<stream:features><starttls><required/></starttls></stream:features>";
        assert!(matches!(feed(&mut start(false, false).0, tls), Err(LoginError::TlsRequired)));
        let other = "<stream:features><mechanism>SCRAM-SHA-1</mechanism></stream:features>";
        assert!(matches!(feed(&mut start(false, false).0, other), Err(LoginError::NoMechanism("PLAIN"))));
        let (mut login, _) = start(false, true);
        feed(&mut login, FEATURES).unwrap();
        let error = feed(&mut login, "<failure><not-authorized/></failure>").unwrap_err().to_string();
        assert!(error.contains("not-authorized") && error.contains("Authenticate"), "{error}");
        let (mut login, _) = start(false, true);
        feed(&mut login, FEATURES).unwrap();
        feed(&mut login, "<success/>").unwrap();
        let bare = "<stream:features><bind/></stream:features>";
        assert!(matches!(feed(&mut login, bare), Err(LoginError::NoStreamManagement)));
        assert!(matches!(feed(&mut login, "</stream:stream>"), Err(LoginError::Closed(Step::FeaturesAgain))));
    }
}

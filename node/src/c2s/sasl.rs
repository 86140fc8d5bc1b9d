//! The SASL exchange of one login attempt (RFC 6120 §6) on top of rsasl: SCRAM-SHA-256, SCRAM-SHA-1, PLAIN.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crosstalk_overlay::id::UserId;
use jid::{BareJid, NodePart};
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::config::SASLConfig;
use rsasl::mechanisms::plain::PLAIN;
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::mechanisms::scram::{SCRAM_SHA1, SCRAM_SHA256};
use rsasl::mechname::Mechname;
use rsasl::prelude::{Mechanism, Registry, SASLServer, Session, SessionError, State, Validation};
use rsasl::property::{AuthId, AuthzId, Password};
use rsasl::validate::{Validate, ValidationError};
use zeroize::Zeroizing;

use crate::core::io::ScramKeys;
use crate::xmpp::{Element, ns};

use super::directory::{Claim, Directory};

/// Best first. Without the -PLUS variants, so that a client which could bind to TLS may say so (RFC 5802 §6).
static MECHANISMS: [Mechanism; 3] = [SCRAM_SHA256, SCRAM_SHA1, PLAIN];

/// Bytes of one message of an exchange, decoded.
const MESSAGE_BYTES: usize = 2048;

/// Names of the mechanisms, best first.
pub(crate) fn mechanisms() -> impl Iterator<Item = &'static str> {
    MECHANISMS.iter().map(|mechanism| mechanism.mechanism.as_str())
}

/// Why an attempt failed (RFC 6120 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Aborted,
    IncorrectEncoding,
    InvalidAuthzid,
    InvalidMechanism,
    MalformedRequest,
    NotAuthorized,
}

impl Failure {
    pub(super) fn to_element(self) -> Element {
        let name = match self {
            Self::Aborted => "aborted",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::NotAuthorized => "not-authorized",
        };
        Element::new("failure", ns::SASL).child(Element::new(name, ns::SASL))
    }
}

/// The data of an `<auth/>` or `<response/>`: `None` if there is none, `=` stands for empty (RFC 6120 §6.4.2).
pub(super) fn data(element: &Element) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let text = Zeroizing::new(element.own_text().into_string().into_bytes());
    match text.as_slice() {
        b"" => Ok(None),
        b"=" => Ok(Some(Zeroizing::default())),
        text if text.len() > MESSAGE_BYTES * 4 / 3 => Err(Failure::MalformedRequest),
        text => match STANDARD.decode(text) {
            Ok(data) => Ok(Some(Zeroizing::new(data))),
            Err(_) => Err(Failure::IncorrectEncoding),
        },
    }
}

/// Where an exchange stands.
pub(super) enum Progress {
    /// The client has to answer this.
    Challenge(Vec<u8>),
    /// The client proved that it is this user; it may want to see this.
    Success(UserId, Option<Vec<u8>>),
    /// The client sent a password that is to be checked with [`super::credentials::verify`]; then it is this user,
    /// if there is one.
    Password(Zeroizing<String>, ScramKeys, Option<UserId>),
}

/// The account that an exchange is about.
struct Account {
    /// `name@domain`, as far as it could be normalised.
    address: String,
    claim: Claim,
}

/// One login attempt.
pub(super) struct Exchange {
    session: Session<Proof>,
    account: Arc<Mutex<Option<Account>>>,
}

/// What a finished mechanism hands out.
struct Proved {
    authzid: Option<String>,
    /// Of PLAIN, which proves nothing yet.
    password: Option<Zeroizing<String>>,
}

struct Proof;

impl Validation for Proof {
    type Value = Proved;
}

impl Exchange {
    /// Begins an attempt; `domains` are those that accounts are in, the first the one of the stream.
    pub(super) fn new(mechanism: &str, directory: Directory, domains: Vec<String>) -> Result<Self, Failure> {
        let account = Arc::new(Mutex::new(None));
        let callback = Lookup { directory, domains, account: account.clone() };
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|_| Failure::InvalidMechanism)?;
        let config = SASLConfig::builder()
            .with_registry(Registry::with_mechanisms(&MECHANISMS))
            .with_callback(callback)
            .map_err(|_| Failure::InvalidMechanism)?;
        let session =
            SASLServer::<Proof>::new(config).start_suggested(name).map_err(|_| Failure::InvalidMechanism)?;
        Ok(Self { session, account })
    }

    /// The account that this is about, once the client has said it.
    pub(super) fn address(&self) -> Option<String> {
        let account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.as_ref().map(|account| account.address.clone())
    }

    /// Takes a message of the client; `None` when it began without one.
    pub(super) fn step(&mut self, message: Option<&[u8]>) -> Result<Progress, Failure> {
        let Some(message) = message else { return Ok(Progress::Challenge(Vec::new())) };
        let mut answer = Vec::new();
        match self.session.step(Some(message), &mut answer) {
            Ok(State::Running) => Ok(Progress::Challenge(answer)),
            Ok(State::Finished(_)) => {
                let proved = self.session.validation().ok_or(Failure::NotAuthorized)?;
                self.finish(proved, answer)
            }
            Err(SessionError::ValidationError(_)) => Err(Failure::NotAuthorized),
            Err(_) => Err(Failure::MalformedRequest),
        }
    }

    fn finish(&self, proved: Proved, answer: Vec<u8>) -> Result<Progress, Failure> {
        let account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let Account { address, claim } = account.as_ref().ok_or(Failure::NotAuthorized)?;
        let other = |authzid: &String| !authzid.is_empty() && !same(authzid, address);
        if proved.authzid.as_ref().is_some_and(other) {
            return Err(Failure::InvalidAuthzid);
        }
        match proved.password {
            Some(password) => Ok(Progress::Password(password, claim.sha256.clone(), claim.user)),
            None => {
                let user = claim.user.ok_or(Failure::NotAuthorized)?;
                Ok(Progress::Success(user, (!answer.is_empty()).then_some(answer)))
            }
        }
    }
}

/// Whether an authorization identity is the account itself; acting for others is not possible.
fn same(authzid: &str, address: &str) -> bool {
    BareJid::new(authzid).is_ok_and(|jid| jid.as_str() == address)
}

/// Answers what rsasl asks during an exchange.
struct Lookup {
    directory: Directory,
    domains: Vec<String>,
    account: Arc<Mutex<Option<Account>>>,
}

impl Lookup {
    /// Finds the account of a user name: a localpart, or with one of the domains behind it.
    fn find(&self, authid: &str) -> Account {
        let stream_domain = self.domains.first().map_or("", String::as_str);
        let (name, domain) = match authid.rsplit_once('@') {
            Some((name, domain)) if self.domains.iter().any(|known| known == domain) => (name, domain),
            Some(_) | None => (authid, stream_domain),
        };
        let name = NodePart::new(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
        Account { claim: self.directory.claim(&name, domain), address: format!("{name}@{domain}") }
    }

    fn remember(&self, account: Account) {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = Some(account);
    }
}

impl SessionCallback for Lookup {
    fn callback(
        &self,
        session: &SessionData,
        context: &Context<'_>,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        if let Some(authid) = context.get_ref::<AuthId>() {
            // rsasl hands the name over as it was sent (RFC 5802 §5.1: "," and "=" are escaped).
            let account = self.find(&authid.replace("=2C", ",").replace("=3D", "="));
            let sha1 = session.mechanism().mechanism == SCRAM_SHA1.mechanism;
            let keys = if sha1 { &account.claim.sha1 } else { &account.claim.sha256 };
            let stored =
                ScramStoredPassword::new(keys.iterations, &keys.salt, &keys.stored_key, &keys.server_key);
            let result = request.satisfy::<ScramStoredPassword<'_>>(&stored).map(|_| ());
            self.remember(account);
            return result;
        }
        Ok(())
    }

    fn validate(
        &self,
        _session: &SessionData,
        context: &Context<'_>,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        let authzid = context.get_ref::<AuthzId>().map(|name| name.replace("=2C", ",").replace("=3D", "="));
        let password = context.get_ref::<Password>();
        if let (Some(_), Some(authid)) = (password, context.get_ref::<AuthId>()) {
            self.remember(self.find(authid));
        }
        let password = password.map(|bytes| Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()));
        validate.with::<Proof, _>(|| Ok(Proved { authzid, password }))?;
        Ok(())
    }
}

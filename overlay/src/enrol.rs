//! What a laptop and the server of a domain say to each other when a user is enrolled: shapes, bounds and the parts
//! that both have to compute alike. *Pure.*
//!
//! It travels in the frames [`crate::wire::Frame::Enrol`] and [`crate::wire::Frame::EnrolAnswer`]; what the OPAQUE
//! messages (RFC 9807) are made of is in `PROTOCOL.md` §12. The password is in none of them.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::id::{AuthorityId, NodeId, UserId};
use crate::keys::{Domain, Signs as _, UserKey, verify};

mod directory;
mod imported;
mod invitation;
mod look;
mod password;
mod servers;
mod sync;
mod upstream;

pub use directory::{Directory, MAX_PEOPLE, MAX_SEARCH, People, Person, Search};
pub use imported::{Brought, BroughtContact, Collect, Collected};
pub use invitation::{Invitation, NoInvitation, TOKEN, token_mark};
pub use look::{Look, Looked, MAX_LOOKED, Seen};
pub use password::{
    Admitted, Change, Changed, MAX_SALT, MOST_FOLLOWED, MOST_ROUNDS, PasswordOf, Salted, Scheme, permit,
    permits,
};
pub use servers::{MAX_PLACE, MAX_PLACES, MAX_SERVERS, ServerAt, Servers, bounded_places};
pub use sync::{
    BUCKETS, Begin, Begun, Compare, Compared, Fetch, INTRODUCTIONS, MARK, MAX_FETCH, MAX_INTRODUCTIONS,
    MAX_STATEMENT, PAGE, Statement, Statements, Tell,
};
pub use upstream::{Exchange, Exchanged, LETTERS, Letter, MAX_LETTER, OutsideContact};

/// Bytes of an encoded [`Ask`] at most.
pub const MAX_ASK: usize = 64 * 1_024;
/// Bytes of an encoded [`Answer`] at most.
pub const MAX_ANSWER: usize = 64 * 1_024;
/// Version of both.
const VERSION: u32 = 1;
/// Zero bits that are asked for at most before a password may be tried.
pub const MOST_WORK: u32 = 24;
/// Bytes of a challenge.
pub const CHALLENGE: usize = 16;

/// What a laptop asks.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
#[prost(skip_debug)]
pub enum Ask {
    /// Do you give names under this domain?
    #[prost(message, tag = "2")]
    Find(Find),
    /// I have an invitation: the first message of OPAQUE's registration.
    #[prost(message, tag = "3")]
    Register(Register),
    /// Its last message, with the user key.
    #[prost(message, tag = "4")]
    Enrol(Enrol),
    /// I have a password: the first message of OPAQUE's login.
    #[prost(message, tag = "5")]
    Login(Login),
    /// Its last message.
    #[prost(message, tag = "6")]
    Prove(Prove),
    /// What is there of my user, and is it what I have?
    #[prost(message, tag = "8")]
    Begin(Begin),
    /// Which marks are in these buckets?
    #[prost(message, tag = "9")]
    Compare(Compare),
    /// What do these marks stand for?
    #[prost(message, tag = "10")]
    Fetch(Fetch),
    /// What the server lacks.
    #[prost(message, tag = "11")]
    Tell(Tell),
    /// What is for outside, and what came from there?
    #[prost(message, tag = "20")]
    Exchange(Exchange),
    /// Who of the domain has such a name?
    #[prost(message, tag = "61")]
    Search(Search),
    /// What did my user bring along from another server?
    #[prost(message, tag = "80")]
    Collect(Collect),
    /// I have a new password: the first message of OPAQUE's registration.
    #[prost(message, tag = "81")]
    Change(Change),
    /// Its last message.
    #[prost(message, tag = "82")]
    Changed(Changed),
    /// How are those whom my user may see, and this is how my user is.
    #[prost(message, tag = "84")]
    Look(Look),
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
#[prost(skip_debug)]
pub enum Answer {
    /// To [`Ask::Find`].
    #[prost(message, tag = "2")]
    Found(Found),
    /// To [`Ask::Register`].
    #[prost(message, tag = "3")]
    Registering(Registering),
    /// To [`Ask::Enrol`] and [`Ask::Prove`].
    #[prost(message, tag = "4")]
    Enrolled(Enrolled),
    /// To [`Ask::Login`].
    #[prost(message, tag = "5")]
    Challenged(Challenged),
    /// To any.
    #[prost(message, tag = "7")]
    Refused(Refused),
    /// To [`Ask::Begin`].
    #[prost(message, tag = "8")]
    Begun(Begun),
    /// To [`Ask::Compare`].
    #[prost(message, tag = "9")]
    Compared(Compared),
    /// To [`Ask::Fetch`]; and to [`Ask::Tell`]: what differs from what was told, and counts beside it or in its place.
    #[prost(message, tag = "10")]
    Statements(Statements),
    /// To [`Ask::Exchange`].
    #[prost(message, tag = "20")]
    Exchanged(Exchanged),
    /// To [`Ask::Search`].
    #[prost(message, tag = "61")]
    People(People),
    /// To [`Ask::Collect`].
    #[prost(message, tag = "80")]
    Collected(Collected),
    /// To [`Ask::Login`]: log in with what is derived from the password.
    #[prost(message, tag = "81")]
    Salted(Salted),
    /// To [`Ask::Prove`], where the user has no key yet.
    #[prost(message, tag = "82")]
    Admitted(Admitted),
    /// To [`Ask::Changed`].
    #[prost(message, tag = "83")]
    PasswordOf(PasswordOf),
    /// To [`Ask::Look`].
    #[prost(message, tag = "84")]
    Looked(Looked),
}

/// The domain that somebody looks for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Find {
    /// As in an address.
    #[prost(string, tag = "1")]
    pub domain: String,
}

/// See [`Ask::Register`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Register {
    /// The invitation's secret.
    #[prost(bytes = "vec", tag = "1")]
    pub token: Vec<u8>,
    /// OPAQUE's RegistrationRequest.
    #[prost(bytes = "vec", tag = "2")]
    pub request: Vec<u8>,
}

/// See [`Ask::Enrol`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Enrol {
    /// The invitation's secret.
    #[prost(bytes = "vec", tag = "1")]
    pub token: Vec<u8>,
    /// OPAQUE's RegistrationRecord.
    #[prost(bytes = "vec", tag = "2")]
    pub upload: Vec<u8>,
    /// Public user key.
    #[prost(bytes = "vec", tag = "3")]
    pub user: Vec<u8>,
    /// The user key sealed under OPAQUE's export key.
    #[prost(bytes = "vec", tag = "4")]
    pub sealed: Vec<u8>,
    /// The user key sealed under the recovery code.
    #[prost(bytes = "vec", tag = "5")]
    pub recovery: Vec<u8>,
    /// [`consent`] by the user key.
    #[prost(bytes = "vec", tag = "6")]
    pub consent: Vec<u8>,
}

/// See [`Ask::Login`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Login {
    /// Whose password.
    #[prost(string, tag = "1")]
    pub address: String,
    /// OPAQUE's KE1.
    #[prost(bytes = "vec", tag = "2")]
    pub request: Vec<u8>,
    /// What the work came to, if it was asked for.
    #[prost(uint64, tag = "3")]
    pub nonce: u64,
    /// KE1 is over the secret that [`Salted`] says.
    #[prost(bool, tag = "4")]
    pub derived: bool,
}

/// See [`Ask::Prove`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Prove {
    /// From [`Challenged`].
    #[prost(uint64, tag = "1")]
    pub login: u64,
    /// OPAQUE's KE3.
    #[prost(bytes = "vec", tag = "2")]
    pub proof: Vec<u8>,
    /// Where the secret is of SCRAM: its ClientKey, which nobody has who has only seen what the other server kept.
    #[prost(bytes = "vec", tag = "3")]
    pub client_key: Vec<u8>,
}

/// See [`Answer::Found`]. To be believed only when OPAQUE has proved it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Found {
    /// The authority's public key.
    #[prost(bytes = "vec", tag = "1")]
    pub authority: Vec<u8>,
    /// Signed rotations that led to it, the oldest first: passwords are registered with the first key of all.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub rotations: Vec<Vec<u8>>,
}

/// See [`Answer::Registering`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Registering {
    /// OPAQUE's RegistrationResponse.
    #[prost(bytes = "vec", tag = "1")]
    pub response: Vec<u8>,
}

/// See [`Answer::Enrolled`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Enrolled {
    /// Public user key.
    #[prost(bytes = "vec", tag = "1")]
    pub user: Vec<u8>,
    /// Signed NameCert.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
    /// The user key sealed under OPAQUE's export key.
    #[prost(bytes = "vec", tag = "3")]
    pub sealed: Vec<u8>,
    /// The user key sealed under the recovery code.
    #[prost(bytes = "vec", tag = "4")]
    pub recovery: Vec<u8>,
}

/// See [`Answer::Challenged`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Challenged {
    /// For [`Prove`].
    #[prost(uint64, tag = "1")]
    pub login: u64,
    /// OPAQUE's KE2.
    #[prost(bytes = "vec", tag = "2")]
    pub response: Vec<u8>,
}

/// See [`Answer::Refused`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refused {
    /// A [`Why`]; unknown ones count as [`Why::Policy`].
    #[prost(enumeration = "Why", tag = "1")]
    pub why: i32,
    /// With [`Why::Slowly`]: milliseconds until it may be asked again.
    #[prost(uint64, tag = "2")]
    pub wait: u64,
    /// With [`Why::Work`]: how many zero bits.
    #[prost(uint32, tag = "3")]
    pub bits: u32,
    /// With [`Why::Work`]: what they are computed over.
    #[prost(bytes = "vec", tag = "4")]
    pub challenge: Vec<u8>,
}

/// Why the server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Why {
    /// It will not say, or does not understand.
    Policy = 0,
    /// It gives no names under that domain.
    Elsewhere = 1,
    /// It never made this invitation, or has withdrawn it.
    NoInvitation = 2,
    /// The invitation has ended.
    Ended = 3,
    /// The invitation was used.
    Used = 4,
    /// No user of that name, or another password.
    Password = 5,
    /// Too many tries: wait.
    Slowly = 6,
    /// Many tries at this name: work first.
    Work = 7,
    /// The user may not log in any more.
    Disabled = 8,
    /// It cannot save anything now.
    Trouble = 9,
    /// It has forgotten what was said before: begin again.
    Forgotten = 10,
    /// It keeps as much of this user as it may.
    Full = 11,
    /// The device that asks was revoked.
    Revoked = 12,
    /// Too many ask at once: ask again in a moment.
    Busy = 13,
    /// It has no directory.
    NoDirectory = 61,
    /// What is searched for is too short.
    TooShort = 62,
    /// Too many people have such a name.
    TooMany = 63,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Find(_) => "Find",
            Self::Register(_) => "Register",
            Self::Enrol(_) => "Enrol",
            Self::Login(_) => "Login",
            Self::Prove(_) => "Prove",
            Self::Begin(_) => "Begin",
            Self::Compare(_) => "Compare",
            Self::Fetch(_) => "Fetch",
            Self::Tell(_) => "Tell",
            Self::Exchange(_) => "Exchange",
            Self::Search(_) => "Search",
            Self::Collect(_) => "Collect",
            Self::Change(_) => "Change",
            Self::Changed(_) => "Changed",
            Self::Look(_) => "Look",
        })
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found(_) => f.write_str("Found"),
            Self::Registering(_) => f.write_str("Registering"),
            Self::Enrolled(_) => f.write_str("Enrolled"),
            Self::Challenged(_) => f.write_str("Challenged"),
            Self::Begun(_) => f.write_str("Begun"),
            Self::Compared(_) => f.write_str("Compared"),
            Self::Statements(_) => f.write_str("Statements"),
            Self::Exchanged(_) => f.write_str("Exchanged"),
            Self::People(_) => f.write_str("People"),
            Self::Collected(_) => f.write_str("Collected"),
            Self::Salted(_) => f.write_str("Salted"),
            Self::Admitted(_) => f.write_str("Admitted"),
            Self::PasswordOf(_) => f.write_str("PasswordOf"),
            Self::Looked(_) => f.write_str("Looked"),
            Self::Refused(refused) => write!(f, "{refused:?}"),
        }
    }
}

macro_rules! unprinted {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

unprinted!(Register, Enrol, Login, Prove, Registering, Enrolled, Challenged, AskField, AnswerField);
unprinted!(Begin, Begun, Compare, Compared, Fetch, Statement, Statements, Tell);
unprinted!(Exchange, Exchanged, Letter, OutsideContact);
unprinted!(Search, People, Person);
unprinted!(Brought, BroughtContact, Collect, Collected, Salted, Admitted, Change, Changed, PasswordOf);
unprinted!(Look, Looked, Seen, ServerAt, Servers);

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct AskField {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Ask", tags = "2, 3, 4, 5, 6, 8, 9, 10, 11, 20, 61, 80, 81, 82, 84")]
    ask: Option<Ask>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct AnswerField {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Answer", tags = "2, 3, 4, 5, 7, 8, 9, 10, 20, 61, 80, 81, 82, 83, 84")]
    answer: Option<Answer>,
}

impl Ask {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        AskField { version: VERSION, ask: Some(self.clone()) }.encode_to_vec()
    }

    /// Reads what somebody else wrote; nothing if it is not understood.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() <= MAX_ASK;
        AskField::decode(bytes).ok().filter(|field| fits && field.version == VERSION)?.ask
    }
}

impl Answer {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        AnswerField { version: VERSION, answer: Some(self.clone()) }.encode_to_vec()
    }

    /// Reads what somebody else wrote; nothing if it is not understood.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() <= MAX_ANSWER;
        AnswerField::decode(bytes).ok().filter(|field| fits && field.version == VERSION)?.answer
    }

    /// A plain refusal.
    pub fn refused(why: Why) -> Self {
        Self::Refused(Refused { why: why.into(), ..Refused::default() })
    }
}

/// What a login of OPAQUE is bound to, so that nobody between the two can pass it on: the node ids that the handshakes
/// have proved.
pub fn login_context(laptop: &NodeId, server: &NodeId) -> Vec<u8> {
    [&b"crosstalk/1/enrol-login\0"[..], laptop.as_bytes(), server.as_bytes()].concat()
}

/// The user key's agreement to have this address from this authority: who does not hold the key gets no name for it.
pub fn consent(key: &UserKey, authority: &AuthorityId, address: &str) -> [u8; 64] {
    key.sign(Domain::EnrolConsent, &consented(authority, address))
}

/// Whether that is the agreement of `user`.
pub fn consents(user: &UserId, authority: &AuthorityId, address: &str, signature: &[u8]) -> bool {
    verify(user.as_bytes(), Domain::EnrolConsent, &consented(authority, address), signature)
}

fn consented(authority: &AuthorityId, address: &str) -> Vec<u8> {
    [authority.as_bytes(), address.as_bytes()].concat()
}

/// Whether `nonce` is work of so many bits for a challenge.
pub fn is_worked(challenge: &[u8], nonce: u64, bits: u32) -> bool {
    let mut digest = Sha256::new_with_prefix(b"crosstalk/1/enrol-work\0");
    digest.update(challenge);
    digest.update(nonce.to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let head = u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| digest[at]));
    head.leading_zeros() >= bits.min(64)
}

/// Does the work: 2^`bits` hashes in the mean. Nothing if more than [`MOST_WORK`] is asked for.
pub fn work(challenge: &[u8], bits: u32) -> Option<u64> {
    (bits <= MOST_WORK).then(|| (0..u64::MAX).find(|nonce| is_worked(challenge, *nonce, bits)))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ask = Ask::Login(Login { address: "a@b".into(), request: vec![1], nonce: 7, derived: true });
        assert_eq!(Ask::from_bytes(&ask.to_bytes()), Some(ask));
        let answer = Answer::refused(Why::Used);
        assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
    }

    #[test]
    fn nothing_too_long_or_of_another_version_is_read() {
        let register = |size| Ask::Register(Register { token: vec![0; size], request: Vec::new() });
        assert!(Ask::from_bytes(&register(MAX_ASK).to_bytes()).is_none());
        assert!(Ask::from_bytes(&register(MAX_ASK - 16).to_bytes()).is_some());
        let later = AskField { version: 2, ask: Some(register(1)) }.encode_to_vec();
        assert!(Ask::from_bytes(&later).is_none());
    }

    #[test]
    fn a_consent_is_for_one_address_of_one_authority() {
        let (key, one, two) =
            (UserKey::from_seed([1; 32]), AuthorityId::from_bytes([2; 32]), AuthorityId::from_bytes([3; 32]));
        let signature = consent(&key, &one, "a@b");
        assert!(consents(&key.id(), &one, "a@b", &signature));
        assert!(!consents(&key.id(), &two, "a@b", &signature));
        assert!(!consents(&key.id(), &one, "c@b", &signature));
        assert!(!consents(&UserKey::from_seed([4; 32]).id(), &one, "a@b", &signature));
    }

    #[test]
    fn work_is_bounded_and_for_one_challenge() {
        let nonce = work(&[1; CHALLENGE], 8).expect("found");
        assert!(is_worked(&[1; CHALLENGE], nonce, 8));
        assert!(!(0..64).all(|other| is_worked(&[other; CHALLENGE], nonce, 8)));
        assert_eq!(work(&[1; CHALLENGE], MOST_WORK + 1), None);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let ask = Ask::Register(Register { token: vec![42; 16], request: vec![42; 32] });
        assert!(!format!("{ask:?}").contains("42"));
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = (Ask::from_bytes(&bytes), Answer::from_bytes(&bytes));
        }
    }
}

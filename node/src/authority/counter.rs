//! What laptops ask of a domain's server: enrolment by invitation, login by password (`overlay/PROTOCOL.md` §12).
//!
//! Each question is whole in itself and may be put again: a laptop that dies after the server has enrolled its user logs
//! in with the password and gets what it lost. Nothing is ever made twice.

use std::collections::BTreeMap;

use crosstalk_overlay::authority::is_due;
use crosstalk_overlay::enrol::{
    Answer, Ask, Begin, CHALLENGE, Challenged, Enrol, Enrolled, Found, Login, MAX_ANSWER, Prove, Refused,
    Register, Registering, Tell, Why, consents, login_context, token_mark,
};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::record::NameCert;
use crosstalk_overlay::time::TrustedTime;
use crosstalk_storage::tree::authority::{AuditLine, Member, MemberState, StoredInvitation};
use prost::Message as _;

use super::database::{Change, DatabaseError, MayHaveChanged};
use super::lists;
use super::office::{Office, OfficeError, certificate};
use super::opaque::{Account, Challenge, OpaqueError, Server};
use super::slow::{Slow, Verdict};
use crate::accounts::names::account_name;
use crate::core::sync::entry::short_digest;

/// Logins under way; of more the oldest is forgotten.
const LOGINS: usize = 1_024;
/// A login that takes longer is forgotten, milliseconds.
const PATIENCE: u64 = 2 * 60 * 1_000;
/// Bytes of a name that somebody tries.
const LONGEST_NAME: usize = 255;
/// Bytes around what is answered, and more.
const SMALL: usize = 64;
/// Bytes of a sealed user key at most.
pub(super) const MAX_SEALED: usize = 512;

/// Logins under way, and who has to wait.
#[derive(Default)]
pub(super) struct Counter {
    slow: Slow,
    logins: BTreeMap<u64, Attempt>,
    next: u64,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counter({} logins)", self.logins.len())
    }
}

struct Attempt {
    node: NodeId,
    name: String,
    challenge: Challenge,
    since: u64,
}

/// What stops a question before it is answered.
pub(super) enum Stop {
    Why(Why),
    Failed(OfficeError),
}

impl MayHaveChanged for Stop {
    fn has_changed(&self) -> bool {
        matches!(self, Self::Failed(error) if error.has_changed())
    }
}

impl From<DatabaseError> for Stop {
    fn from(error: DatabaseError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<OfficeError> for Stop {
    fn from(error: OfficeError) -> Self {
        Self::Failed(error)
    }
}

impl From<lists::Stop> for Stop {
    fn from(stop: lists::Stop) -> Self {
        match stop {
            lists::Stop::No(why) => Self::Why(why),
            lists::Stop::Failed(error) => Self::Failed(error.into()),
        }
    }
}

impl From<OpaqueError> for Stop {
    fn from(error: OpaqueError) -> Self {
        Self::Why(if error == OpaqueError::Machine { Why::Trouble } else { Why::Policy })
    }
}

impl Office {
    /// Answers a laptop. Empty: this is not the server that is looked for. `places` is where this node is now,
    /// multiaddresses.
    pub fn serve(&mut self, node: NodeId, ask: &[u8], places: &[String]) -> Vec<u8> {
        let length = ask.len() as u64;
        let ask = Ask::from_bytes(ask);
        let answer = match &ask {
            Some(Ask::Find(find)) if find.domain != self.domain => return Vec::new(),
            Some(Ask::Begin(ask)) if self.name_of(&ask.address).is_none() => return Vec::new(),
            Some(ask) => self.settled(|office| office.try_serve(node, ask, places)),
            None => Err(Stop::Why(Why::Policy)),
        };
        let answer = answer.unwrap_or_else(|stop| match stop {
            Stop::Why(why) => Answer::refused(why),
            Stop::Failed(error) => {
                // That it is away is said once.
                let away = DatabaseError::is_away;
                if !matches!(&error, OfficeError::Database(error) if away(error)) {
                    tracing::error!("a laptop could not be enrolled: {error}");
                }
                Answer::refused(Why::Trouble)
            }
        });
        let bytes = answer.to_bytes();
        let (begins, syncs) = match ask {
            Some(Ask::Begin(_)) => (1, true),
            Some(Ask::Compare(_) | Ask::Fetch(_) | Ask::Tell(_) | Ask::Look(_)) => (0, true),
            _ => (0, false),
        };
        self.database.signs().count(|figures| {
            if let Answer::Refused(no) = &answer {
                *figures.refused.entry(format!("{:?}", no.why()).to_lowercase()).or_default() += 1;
            }
            if syncs {
                figures.passes += begins;
                figures.bytes_in += length;
                figures.bytes_out += bytes.len() as u64;
            }
        });
        bytes
    }

    fn try_serve(&mut self, node: NodeId, ask: &Ask, places: &[String]) -> Result<Answer, Stop> {
        match ask {
            Ask::Find(_) => Ok(Answer::Found(Found {
                authority: self.key.id().as_bytes().to_vec(),
                rotations: self.rotations()?,
            })),
            Ask::Register(ask) => self.register(ask),
            Ask::Enrol(ask) => self.enrol(node, ask),
            Ask::Login(ask) => self.log_in(node, ask),
            Ask::Prove(ask) => self.prove(node, ask),
            Ask::Begin(ask) => self.begin(node, ask, places),
            Ask::Compare(ask) => {
                Ok(Answer::Compared(self.lists.compare(&self.database, node, ask, self.now().wall)?))
            }
            Ask::Fetch(ask) => {
                Ok(Answer::Statements(self.lists.fetch(&self.database, node, ask, self.now().wall)?))
            }
            Ask::Tell(ask) => self.tell(node, ask),
            Ask::Look(ask) => {
                Ok(Answer::Looked(self.lists.look(&self.database, node, ask, self.now().wall)?))
            }
            Ask::Exchange(ask) => self.exchange(node, ask),
            Ask::Search(ask) => self.search(node, ask),
            Ask::Collect(ask) => self.collect(node, *ask),
            Ask::Change(ask) => self.change_password(node, ask),
            Ask::Changed(ask) => self.password_changed(node, ask),
        }
    }

    fn register(&self, ask: &Register) -> Result<Answer, Stop> {
        let (_, invitation) = self.invitation(&ask.token)?;
        if !invitation.used.is_empty() {
            return Err(Stop::Why(Why::Used));
        }
        let response = self.opaque.respond(&ask.request, &self.address(&invitation.name))?;
        Ok(Answer::Registering(Registering { response }))
    }

    fn invitation(&self, token: &[u8]) -> Result<([u8; 32], StoredInvitation), Stop> {
        let mark = token_mark(token);
        let invitation = self.database.invitation(&mark)?.ok_or(Stop::Why(Why::NoInvitation))?;
        if invitation.used.is_empty() && invitation.expires <= self.now().wall {
            return Err(Stop::Why(Why::Ended));
        }
        Ok((mark, invitation))
    }

    /// User, certificate, password and the end of the invitation are one change.
    fn enrol(&mut self, node: NodeId, ask: &Enrol) -> Result<Answer, Stop> {
        let (mark, invitation) = self.invitation(&ask.token)?;
        let name = invitation.name.clone();
        let mut member = self.database.member(&name)?.ok_or(Stop::Why(Why::NoInvitation))?;
        let user = UserId::from_slice(&ask.user).ok_or(Stop::Why(Why::Policy))?;
        let agreed = consents(&user, &self.key.id(), &self.address(&name), &ask.consent);
        if !invitation.used.is_empty() {
            let by_the_same = invitation.used == ask.user && member.user == ask.user;
            let again = by_the_same && agreed && member.state() == MemberState::Enrolled;
            return if again { Ok(enrolled(&member)) } else { Err(Stop::Why(Why::Used)) };
        }
        let fits = ask.sealed.len() <= MAX_SEALED && ask.recovery.len() <= MAX_SEALED;
        if !agreed || !fits || member.state() != MemberState::New {
            return Err(Stop::Why(Why::Policy));
        }
        member.password = Server::record(&ask.upload)?;
        (member.verifier, member.stretched, member.changed) = Default::default();
        self.certify(&name, &mut member, user)?;
        member.state = MemberState::Enrolled.into();
        (member.user, member.enrolled) = (ask.user.clone(), self.now().wall);
        (member.sealed, member.recovery) = (ask.sealed.clone(), ask.recovery.clone());
        let answer = enrolled(&member);
        let told = self.told("name issued", &name, node, &member);
        let used = StoredInvitation { used: ask.user.clone(), ..invitation };
        let change = Change::told(told).invitation(mark, Some(used)).member(&name, member);
        let change = self.with_outside(&name, &user, change)?;
        self.database.commit(change).map_err(OfficeError::from)?;
        tracing::info!("{} is enrolled", self.address(&name));
        Ok(answer)
    }

    fn log_in(&mut self, node: NodeId, ask: &Login) -> Result<Answer, Stop> {
        let typed = self.name_of(&ask.address).ok_or(Stop::Why(Why::Elsewhere))?;
        // What no user can be called is not remembered either.
        let name = account_name(typed).ok().filter(|name| name.len() <= LONGEST_NAME);
        let name = name.ok_or(Stop::Why(Why::Policy))?;
        let name = name.as_str();
        // Read before the try counts: where the database is away nobody has failed.
        let member = self.database.member(name)?;
        if let Some(salted) = member.as_ref().filter(|_| !ask.derived).and_then(Self::salted) {
            return Ok(Answer::Salted(salted));
        }
        let fresh: [u8; CHALLENGE] = self.random().map_err(OfficeError::from)?;
        // Who waits does so by this one: the machine's belief of the time may be set back by a year.
        let now = self.now().mono;
        match self.counter.slow.begin(node, name, ask.nonce, fresh, now) {
            Verdict::Try => {}
            Verdict::Wait(wait) => return Ok(Answer::Refused(Refused { wait, ..refusal(Why::Slowly) })),
            Verdict::Work { bits, challenge } => {
                let challenge = challenge.to_vec();
                return Ok(Answer::Refused(Refused { bits, challenge, ..refusal(Why::Work) }));
            }
        }
        let record = member.map(|member| self.record_of(name, member)).transpose()?;
        let record = record.as_deref().filter(|record| !record.is_empty());
        let (address, authority) = (self.address(name), self.identity()?);
        let account = Account { address: &address, authority: &authority };
        let context = login_context(&node, &self.node);
        let seed = self.random().map_err(OfficeError::from)?;
        let (response, challenge) = self.opaque.challenge(record, &ask.request, account, &context, seed)?;
        let login = self.counter.remember(Attempt { node, name: name.to_owned(), challenge, since: now });
        Ok(Answer::Challenged(Challenged { login, response }))
    }

    fn prove(&mut self, node: NodeId, ask: &Prove) -> Result<Answer, Stop> {
        let attempt = self.counter.take(node, ask.login).ok_or(Stop::Why(Why::Password))?;
        let (address, authority) = (self.address(&attempt.name), self.identity()?);
        let (account, context) =
            (Account { address: &address, authority: &authority }, login_context(&node, &self.node));
        if !Server::proves(attempt.challenge.clone(), &ask.proof, account, &context) {
            return Err(Stop::Why(Why::Password));
        }
        match self.let_in(&attempt.name, ask, node) {
            Ok(answer) => {
                self.counter.slow.succeeded(&node, &attempt.name);
                Ok(answer)
            }
            Err(Stop::Why(Why::Password)) => Err(Stop::Why(Why::Password)),
            Err(stop) => {
                self.counter.slow.succeeded(&node, &attempt.name);
                // The same proof counts when it is asked again: nobody has failed.
                self.counter.logins.insert(ask.login, attempt);
                Err(stop)
            }
        }
    }

    /// Somebody has proved the secret of a user.
    fn let_in(&mut self, name: &str, ask: &Prove, node: NodeId) -> Result<Answer, Stop> {
        let member = self.database.member(name)?;
        match member.filter(|member| member.verifier.is_some() && member.state() == MemberState::New) {
            Some(member) => self.admit(name, &member, &ask.client_key),
            None => Ok(enrolled(&self.renewed(name, node)?)),
        }
    }

    /// A device of a user begins a sync: with it go a certificate that was renewed, and where this server is.
    fn begin(&mut self, node: NodeId, ask: &Begin, places: &[String]) -> Result<Answer, Stop> {
        let name = self.name_of(&ask.address).ok_or(Stop::Why(Why::Elsewhere))?.to_owned();
        let member =
            self.database.member(&name)?.filter(|member| !ask.user.is_empty() && member.user == ask.user);
        let member = member.ok_or(Stop::Why(Why::Password))?;
        if member.state() != MemberState::Enrolled {
            return Err(Stop::Why(Why::Disabled));
        }
        Self::is_admitted(&member, ask)?;
        let now = self.now().wall;
        let mut begun = self.lists.begin(&self.database, node, ask, now)?;
        if let Some(user) = UserId::from_slice(&ask.user) {
            // A server that died between taking in a user's word and saying it in its own name says it now.
            self.second(&name, &user, node)?;
        }
        let member = self.renewed(&name, node)?;
        if ask.authority != self.key.id().as_bytes() {
            begun.rotations = self.rotations()?;
        }
        begun.password = Some(member.changed);
        if certificate(&member.name).is_some_and(|cert| cert.serial > ask.serial) {
            begun.name = member.name;
        }
        if short_digest(places.concat().as_bytes())[..] != ask.places[..] {
            begun.places = places.to_vec();
        }
        begun.upstream = self.door.is_some();
        begun.directory = self.has_directory().into();
        begun.brought = self.has_brought(&name)?;
        begun.servers = self.processes.news(&self.node, &ask.servers);
        begun.introductions = self.introductions_after(ask.introduced)?;
        if begun.encoded_len() > MAX_ANSWER - SMALL {
            // They come with the next pass, when the rest is in step.
            begun.introductions.clear();
        }
        Ok(Answer::Begun(begun))
    }

    /// A device tells what is lacking here. What it revokes the authority revokes in the same moment.
    fn tell(&mut self, node: NodeId, ask: &Tell) -> Result<Answer, Stop> {
        let now = self.now().wall;
        let (user, _, name) = self.lists.user_of(&self.database, node, ask.session, now)?;
        let told = self.lists.tell(&self.database, node, ask, now)?;
        if !ask.record.is_empty() {
            self.second(&name, &user, node)?;
        }
        self.blocks_changed();
        Ok(Answer::Statements(told))
    }

    /// An enrolled user, with a certificate that is not due.
    fn renewed(&mut self, name: &str, node: NodeId) -> Result<Member, Stop> {
        let mut member = self.database.member(name)?.ok_or(Stop::Why(Why::Password))?;
        if member.state() != MemberState::Enrolled {
            return Err(Stop::Why(Why::Disabled));
        }
        let old = certificate(&member.name);
        let due = |cert: NameCert| {
            cert.authority != self.key.id() || is_due(&cert, TrustedTime::certain(self.now().wall))
        };
        if old.is_none_or(due) {
            let user = UserId::from_slice(&member.user).ok_or(Stop::Why(Why::Trouble))?;
            self.certify(name, &mut member, user)?;
            let told = self.told("name renewed", name, node, &member);
            let change = Change::told(told).member(name, member.clone());
            self.database.commit(change).map_err(OfficeError::from)?;
        }
        Ok(member)
    }

    /// The name before the `@`, if the address is in this domain.
    fn name_of<'a>(&self, address: &'a str) -> Option<&'a str> {
        address.rsplit_once('@').filter(|(_, domain)| *domain == self.domain).map(|(name, _)| name)
    }

    fn told(&self, what: &str, name: &str, node: NodeId, member: &Member) -> AuditLine {
        let (user, serial) = (member.user.clone(), member.serial);
        AuditLine { user, serial, node: node.as_bytes().to_vec(), ..self.line(what, name) }
    }
}

impl Counter {
    /// Since when the newest login is under way.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> Option<u64> {
        self.logins.last_key_value().map(|(_, attempt)| attempt.since)
    }

    fn remember(&mut self, attempt: Attempt) -> u64 {
        let now = attempt.since;
        // One of each node: a further try takes the place of the one before.
        self.logins
            .retain(|_, other| other.node != attempt.node && now.saturating_sub(other.since) < PATIENCE);
        if self.logins.len() >= LOGINS {
            self.logins.pop_first();
        }
        self.next += 1;
        self.logins.insert(self.next, attempt);
        self.next
    }

    fn take(&mut self, node: NodeId, login: u64) -> Option<Attempt> {
        self.logins.get(&login).filter(|attempt| attempt.node == node)?;
        self.logins.remove(&login)
    }
}

fn refusal(why: Why) -> Refused {
    Refused { why: why.into(), ..Refused::default() }
}

fn enrolled(member: &Member) -> Answer {
    Answer::Enrolled(Enrolled {
        user: member.user.clone(),
        name: member.name.clone(),
        sealed: member.sealed.clone(),
        recovery: member.recovery.clone(),
    })
}

//! What the command line asks of a domain's server: users, invitations, the audit log.

use std::sync::Arc;

use crosstalk_overlay::authority::{certify, revoke_name};
use crosstalk_overlay::enrol::{Invitation, TOKEN, token_mark};
use crosstalk_overlay::id::{AuthorityId, NodeId, UserId};
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::record::{NameCert, Record, SignedRecord};
use crosstalk_overlay::time::Now;
use crosstalk_storage::tree::authority::{AuditLine, Member, MemberState, ServedDomain, StoredInvitation};
use prost::Message as _;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::counter::Counter;
use super::database::{ArchiveError, Change, Database, DatabaseError, MayHaveChanged, TRIES};
use super::directory::Pace;
use super::lists::Lists;
use super::machine::Machine;
use super::opaque::Server;
use super::servers::Processes;
use super::upstream::Door;
use super::{Answer, AuditView, DomainView, InvitationView, Question, UserView, introduce};
use crate::accounts::key_dir::{KeyDir, KeyError};
use crate::accounts::{names, random};
use crate::core::hex;

/// Longest life of an invitation, milliseconds: 90 days.
const LONGEST: u64 = 90 * 24 * 60 * 60 * 1_000;
/// Invitations of one user that can be used at once; of more the one that ends first goes.
const PER_USER: usize = 4;
/// Lines of the audit log in one answer.
const MOST_LINES: usize = 10_000;
/// Revocations of a user that are kept, each of another key; of more the oldest goes, whose name was replaced since.
const REVOCATIONS: usize = 16;

/// Why a question came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OfficeError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] names::NameError),
    /// The key files.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] random::NoRandomness),
    /// It cannot be signed.
    #[error("it cannot be signed: {0}")]
    Signed(#[from] crosstalk_overlay::record::Refusal),
    /// Anything else that a person has to know.
    #[error("{0}")]
    Refused(String),
}

impl MayHaveChanged for OfficeError {
    fn has_changed(&self) -> bool {
        matches!(self, Self::Database(DatabaseError::Changed))
    }
}

/// The server of a domain: its key, its database, and who is being served.
pub struct Office {
    pub(super) database: Database,
    pub(super) domain: String,
    pub(super) key: AuthorityKey,
    pub(super) opaque: Server,
    pub(super) node: NodeId,
    pub(super) counter: Counter,
    pub(super) lists: Lists,
    /// The line of the audit log that comes next, as far as this process knows.
    seen: Option<u64>,
    /// When it looked for that.
    looked: Option<Instant>,
    /// Revocations for the overlay.
    pub(super) news: Vec<Vec<u8>>,
    /// Introductions for the overlay.
    pub(super) introduced: Vec<Vec<u8>>,
    /// The processes of this server.
    pub(super) processes: Processes,
    pub(super) keys: KeyDir,
    /// The door to the rest of XMPP, if there is one.
    pub(super) door: Option<Door>,
    /// Users may search for each other.
    pub(super) directory: bool,
    pub(super) pace: Pace,
    machine: Arc<dyn Machine>,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Office({}, {:?})", self.domain, self.database)
    }
}

/// The change that makes a domain.
pub fn founding(domain: &str, authority: AuthorityId, at: u64) -> Change {
    let line = AuditLine { at, what: "domain made".to_owned(), ..AuditLine::default() };
    let authority = authority.as_bytes().to_vec();
    Change::told(line).domain(ServedDomain {
        domain: domain.to_owned(),
        created: at,
        authority,
        ..ServedDomain::default()
    })
}

impl Office {
    /// An office over an open database. `opaque` is what the passwords were registered with.
    pub fn new(
        database: Database,
        domain: String,
        (key, keys): (AuthorityKey, KeyDir),
        opaque: Server,
        node: NodeId,
        machine: Arc<dyn Machine>,
    ) -> Self {
        Self {
            database,
            domain,
            key,
            opaque,
            node,
            counter: Counter::default(),
            lists: Lists::default(),
            seen: None,
            looked: None,
            news: Vec::new(),
            introduced: Vec::new(),
            processes: Processes::default(),
            keys,
            door: None,
            directory: false,
            pace: Pace::default(),
            machine,
        }
    }

    /// Both clocks of its machine.
    pub(super) fn now(&self) -> Now {
        self.machine.now()
    }

    /// Random bytes of its machine.
    ///
    /// # Errors
    /// When it has none to give.
    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], random::NoRandomness> {
        let mut bytes = [0; N];
        self.machine.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A line of the audit log.
    pub(super) fn line(&self, what: &str, name: &str) -> AuditLine {
        line(what, name, self.now().wall)
    }

    /// Answers the command line.
    pub fn answer(&mut self, question: Question) -> Answer {
        let answer = self.settled(|office| office.try_answer(question.clone()));
        answer.unwrap_or_else(|error| Answer::Refused(error.to_string()))
    }

    /// Does what reads and then changes, and again when another process has changed in between what it has read. What
    /// fails must have left nothing behind.
    pub(super) fn settled<T, E: MayHaveChanged>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tries = 1;
        loop {
            let result = work(self);
            self.database.rest();
            match &result {
                Err(error) if error.has_changed() && tries < TRIES => tries += 1,
                _ => return result,
            }
        }
    }

    /// While nobody waits. Answers with what other processes of this server have revoked since that was asked last;
    /// a database that several share is asked now and then only.
    pub fn maintain(&mut self) -> Vec<Vec<u8>> {
        let due = match (self.database.pause(), self.looked) {
            (Some(pause), Some(looked)) => looked.elapsed() >= pause,
            _ => true,
        };
        let done = match self.database.maintain() {
            Ok(()) if due => {
                let seen = self.look_for_servers();
                warned(seen);
                self.look()
            }
            Ok(()) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        };
        warned(done).unwrap_or_default()
    }

    /// Signed revocations of users who are in lines of the audit log that this process has not seen.
    pub(super) fn look(&mut self) -> Result<Vec<Vec<u8>>, OfficeError> {
        let news = self.news();
        self.database.rest();
        news
    }

    fn news(&mut self) -> Result<Vec<Vec<u8>>, OfficeError> {
        let next = self.database.next_line()?;
        let first = self.seen.filter(|seen| *seen < next);
        let (mut revoked, mut introduced) = (Vec::new(), false);
        for (_, line) in first.map(|first| self.database.audit_from(first)).transpose()?.unwrap_or_default() {
            let member = (!line.user.is_empty()).then(|| self.database.member(&line.name)).transpose()?;
            revoked.extend(member.flatten().into_iter().flat_map(|member| member.voids()));
            introduced |= introduce::TOLD.contains(&line.what.as_str());
        }
        if introduced {
            self.introduced = introduce::signed(&self.database)?;
        }
        let users = self.database.count_users()?;
        self.database.signs().count(|figures| figures.users = users as u64);
        (self.seen, self.looked) = (Some(next), Some(Instant::now()));
        Ok(revoked)
    }

    fn try_answer(&mut self, question: Question) -> Result<Answer, OfficeError> {
        match question {
            Question::Init { .. } | Question::Standing => Ok(done()),
            Question::Show => Ok(Answer::Domain(self.view()?)),
            Question::AddUser { name } => match name.split_once('@') {
                Some((name, _)) => Err(OfficeError::Refused(format!(
                    "say the name before the @ alone: `crosstalk authority user add {name}`"
                ))),
                None => self.add(&names::account_name(&name)?),
            },
            Question::Import { users, really } => self.import(users, really),
            Question::ListUsers => Ok(Answer::Users(self.users()?)),
            Question::DisableUser { name } => self.end_name(&name, MemberState::Disabled, "user disabled"),
            Question::ResetUser { name } => self.end_name(&name, MemberState::New, "user reset"),
            Question::Devices { name } => self.devices(&name),
            Question::RevokeDevice { name, device } => self.revoke_device(&name, &device),
            Question::Invite { name, life, places } => self.invite(&name, life, places),
            Question::BackUp { path } => {
                let contents = self.database.back_up(&path)?;
                Ok(Answer::Archived(contents.entries, contents.bytes))
            }
            Question::Restore { .. } => Err(DatabaseError::from(ArchiveError::NotEmpty).into()),
            Question::RotateKey => self.rotate(),
            Question::Introduce { domain, key } => self.introduce(&domain, key.as_deref()),
            Question::Withdraw { domain } => self.withdraw(&domain),
            Question::Introduced => self.introduced_domains(),
            Question::Document => self.document(),
            Question::Directory => self.listed(),
            Question::ForgetServer { node } => self.forget_server(&node),
            Question::Audit { most } => {
                let lines = self.database.audit(most.min(MOST_LINES))?;
                Ok(Answer::Audit(lines.into_iter().map(|(number, line)| audit_view(number, line)).collect()))
            }
        }
    }

    fn view(&self) -> Result<DomainView, OfficeError> {
        let now = self.now().wall;
        let enrolled = |member: &Member| member.state() == MemberState::Enrolled;
        let members = self.database.members()?;
        Ok(DomainView {
            domain: self.domain.clone(),
            authority: self.key.id().to_hex(),
            node: self.node.to_hex(),
            users: members.len(),
            enrolled: members.iter().filter(|(_, member)| enrolled(member)).count(),
            invitations: self.database.invitations()?.iter().filter(|(_, one)| is_open(one, now)).count(),
            places: Vec::new(),
            component: self.component(),
            servers: self.server_views()?,
        })
    }

    pub(super) fn address(&self, name: &str) -> String {
        format!("{name}@{}", self.domain)
    }

    fn add(&mut self, name: &str) -> Result<Answer, OfficeError> {
        if crosstalk_overlay::record::domain_of(&self.address(name)).is_none() {
            return Err(OfficeError::Refused(format!("the name {name} is too long: 255 bytes at most")));
        }
        if self.database.member(name)?.is_some() {
            let text = format!("there is a user {name} already: `crosstalk authority user list` shows all");
            return Err(OfficeError::Refused(text));
        }
        let member = Member { created: self.now().wall, ..Member::default() };
        self.database.commit(Change::told(self.line("user added", name)).member(name, member))?;
        Ok(done())
    }

    pub(super) fn named(&self, name: &str) -> Result<(String, Member), OfficeError> {
        let name = name.strip_suffix(&format!("@{}", self.domain)).unwrap_or(name);
        let name = names::account_name(name)?;
        match self.database.member(&name)? {
            Some(member) => Ok((name, member)),
            None => Err(OfficeError::Refused(format!(
                "there is no user {name} under {}: `crosstalk authority user add {name}` adds one",
                self.domain
            ))),
        }
    }

    fn users(&self) -> Result<Vec<UserView>, OfficeError> {
        let now = self.now().wall;
        let open = self.database.invitations()?.into_iter().filter(|(_, one)| is_open(one, now));
        let invited: std::collections::BTreeSet<String> = open.map(|(_, one)| one.name).collect();
        let view = |(name, member): (String, Member)| UserView {
            state: match member.state() {
                MemberState::New if member.verifier.is_some() => "imported",
                MemberState::New if invited.contains(name.as_str()) => "invited",
                MemberState::New => "new",
                MemberState::Enrolled => "enrolled",
                MemberState::Disabled => "disabled",
            }
            .to_owned(),
            xid: UserId::from_slice(&member.user).map(|user| user.xid()),
            until: certificate(&member.name).map(|cert| cert.expires),
            enrolled: Some(member.enrolled).filter(|at| *at > 0),
            name,
        };
        Ok(self.database.members()?.into_iter().map(view).collect())
    }

    /// Takes a name from the key that has it: by a revocation, which everybody learns who knows the domain.
    fn end_name(&mut self, name: &str, state: MemberState, what: &str) -> Result<Answer, OfficeError> {
        let (name, mut member) = self.named(name)?;
        if state == MemberState::Disabled && member.state() == state {
            return Ok(done());
        }
        let mut change = Change::default();
        let mut told = self.line(what, &name);
        let mut revocations = Vec::new();
        let user = UserId::from_slice(&member.user);
        let has_it = member.state() == MemberState::Enrolled;
        if let Some(user) = user.filter(|_| has_it) {
            let void = revoke_name(&self.key, &self.address(&name), user, self.now().wall)?;
            told.user = member.user.clone();
            revocations.push(void.bytes().to_vec());
            member.revocations.push(void.bytes().to_vec());
            let surplus = member.revocations.len().saturating_sub(REVOCATIONS);
            member.revocations.drain(..surplus);
        }
        member.state = state.into();
        if state == MemberState::New {
            // Nobody reads it any more: the next key is another user's.
            if let Some(user) = user {
                change = self.shut_out(&user, change.forgotten(&user))?;
            }
            (member.user, member.name, member.password) = Default::default();
            (member.sealed, member.recovery) = Default::default();
            (member.verifier, member.stretched, member.changed) = Default::default();
            change = self.without_brought(&name, change)?;
        }
        change = self.without_person(&name, change)?;
        for (mark, _) in self.database.invitations()?.into_iter().filter(|(_, one)| one.name == name) {
            change = change.invitation(mark, None);
        }
        self.database.commit(change.member(&name, member).and_told(told))?;
        user.iter().for_each(|user| self.lists.is_another(user));
        Ok(Answer::Done { revocations })
    }

    fn invite(&mut self, name: &str, life: u64, places: Vec<String>) -> Result<Answer, OfficeError> {
        let (name, member) = self.named(name)?;
        match member.state() {
            MemberState::New => {}
            MemberState::Enrolled => {
                return Err(OfficeError::Refused(format!(
                    "{name} is enrolled: a further laptop of theirs needs name and password only \
                     (`crosstalk enrol {}`); if the password is forgotten, run `crosstalk authority user reset {name}` first",
                    self.address(&name)
                )));
            }
            MemberState::Disabled => {
                return Err(OfficeError::Refused(format!(
                    "{name} is disabled: `crosstalk authority user reset {name}` allows a new start"
                )));
            }
        }
        let now = self.now().wall;
        let expires = now.saturating_add(life.min(LONGEST));
        let token: Zeroizing<[u8; TOKEN]> = Zeroizing::new(self.random()?);
        let stored = StoredInvitation { name: name.clone(), expires, used: Vec::new() };
        let mut change = Change::told(self.line("user invited", &name));
        for mark in self.surplus_invitations(&name, now)? {
            change = change.invitation(mark, None);
        }
        self.database.commit(change.invitation(token_mark(token.as_slice()), Some(stored)))?;
        let address = self.address(&name);
        let (authority, server) = (self.key.id(), self.node);
        let invitation = Invitation { token, address: address.clone(), authority, server, places };
        Ok(Answer::Invited(InvitationView { address, link: invitation.to_link().into(), expires }))
    }

    /// Invitations that make room: those of anybody that have ended, and of this user all but the newest.
    pub(super) fn surplus_invitations(&self, name: &str, now: u64) -> Result<Vec<[u8; 32]>, OfficeError> {
        let ended = |one: &StoredInvitation| one.expires.saturating_add(LONGEST) < now;
        let all = self.database.invitations()?;
        let mut of_user: Vec<_> =
            all.iter().filter(|(_, one)| one.name == name && is_open(one, now)).collect();
        of_user.sort_by_key(|(_, one)| std::cmp::Reverse(one.expires));
        let surplus = of_user.into_iter().skip(PER_USER - 1);
        Ok(surplus.chain(all.iter().filter(|(_, one)| ended(one))).map(|(mark, _)| *mark).collect())
    }

    /// Gives a user a certificate: the name for this key, with a serial above all before.
    pub(super) fn certify(&self, name: &str, member: &mut Member, user: UserId) -> Result<(), OfficeError> {
        let cert = certify(&self.key, &self.address(name), user, member.serial, self.now().wall)?;
        (member.serial, member.name) = (cert.serial, cert.bytes().to_vec());
        Ok(())
    }
}

/// A certificate of our own database.
pub(super) fn certificate(bytes: &[u8]) -> Option<NameCert> {
    NameCert::from_payload(&SignedRecord::decode(bytes).ok()?.payload).ok()
}

pub(super) fn is_open(invitation: &StoredInvitation, now: u64) -> bool {
    invitation.used.is_empty() && invitation.expires > now
}

/// Says what went wrong; that the database is away has been said.
fn warned<T>(done: Result<T, OfficeError>) -> Option<T> {
    if let Err(error) = &done
        && !matches!(error, OfficeError::Database(error) if error.is_away())
    {
        tracing::warn!("database of the authority: {error}");
    }
    done.ok()
}

pub(super) fn line(what: &str, name: &str, at: u64) -> AuditLine {
    AuditLine { at, what: what.to_owned(), name: name.to_owned(), ..AuditLine::default() }
}

fn audit_view(number: u64, line: AuditLine) -> AuditView {
    AuditView {
        number,
        at: line.at,
        what: line.what,
        name: line.name,
        user: hex(&line.user),
        serial: line.serial,
        node: hex(&line.node),
    }
}

pub(super) fn done() -> Answer {
    Answer::Done { revocations: Vec::new() }
}

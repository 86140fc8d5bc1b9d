//! The task behind the server of a domain: a thread that does one thing at a time, each answered after it is durable.
//!
//! It may begin before there is a domain, or while its database is away; then it waits for either.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crosstalk_overlay::id::{AuthorityId, NodeId};
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_storage::tree::authority::ServedDomain;
use tokio::sync::{mpsc, oneshot};

use super::database::{Change, Contents, Database, DatabaseError, Home};
use super::machine::Machine;
use super::office::{self, Office};
use super::opaque::Server;
use super::standing::Signs;
use super::{Answer, Question, StartError, introduce};
use crate::accounts::key_dir::KeyDir;
use crate::core::Input;
use crate::upstream::Component;
use crate::upstream::connection::Event;

/// Something for the task.
pub(super) enum Job {
    Ask(Box<Question>, oneshot::Sender<Answer>),
    Laptop {
        node: NodeId,
        request: u64,
        ask: Vec<u8>,
        places: Vec<String>,
    },
    /// Something happened on the link to the rest of XMPP.
    Component(Event),
    Close(oneshot::Sender<()>),
}

/// What is known once the domain is.
#[derive(Debug)]
pub struct Known {
    /// The domain.
    pub domain: String,
    /// Its key.
    pub authority: AuthorityId,
    /// All that was revoked before, signed.
    pub revocations: Vec<Vec<u8>>,
    /// How the key came to be the domain's, signed.
    pub rotations: Vec<Vec<u8>>,
    /// What it says of other domains, signed.
    pub introductions: Vec<Vec<u8>>,
}

impl Known {
    /// What a database knows whose domain has this key; nothing while there is no domain.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(database: &Database, authority: AuthorityId) -> Result<Option<Self>, DatabaseError> {
        let Some(ServedDomain { domain, rotations, .. }) = database.domain()? else { return Ok(None) };
        let revocations = database.members()?.into_iter().flat_map(|(_, member)| member.voids()).collect();
        let introductions = introduce::signed(database)?;
        Ok(Some(Self { domain, authority, revocations, rotations, introductions }))
    }
}

/// What the node hears of later than at its start.
#[derive(Debug)]
pub enum News {
    /// The domain that is served, and its key.
    Serves(String, AuthorityId),
    /// Signed revocations that another process of this server has made.
    Revoked(Vec<Vec<u8>>),
}

/// What the task works with.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) home: Home,
    pub(super) keys: KeyDir,
    pub(super) node: NodeId,
    /// Where it can be reached, multiaddresses; nothing: not known yet.
    pub(super) places: Arc<Mutex<Option<Vec<String>>>>,
    /// Where answers to laptops go; nowhere without a running node.
    pub(super) to_core: Option<mpsc::Sender<Input>>,
    /// The way to the rest of XMPP, if there is to be one.
    pub(super) component: Option<Component>,
    /// Users may search for each other.
    pub(super) directory: bool,
    pub(super) news: mpsc::Sender<News>,
    pub(super) known: Arc<OnceLock<Known>>,
    pub(super) signs: Signs,
    pub(super) machine: Arc<dyn Machine>,
}

/// The task. `started` hears of the first try to begin.
pub(super) fn run(
    ground: &Ground,
    mut queue: mpsc::Receiver<Job>,
    started: &std::sync::mpsc::SyncSender<Result<(), StartError>>,
) {
    let mut desk = match Desk::open(ground) {
        Ok(desk) => {
            let _ = started.send(Ok(()));
            desk
        }
        Err(error) => return drop(started.send(Err(error))),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    loop {
        let pause = desk.pause();
        match runtime.block_on(next(&mut queue, pause)) {
            Next::Job(Job::Close(done)) => {
                desk.close();
                let _ = done.send(());
                return;
            }
            Next::Job(job) => {
                desk.work(ground, job);
                desk.tell_introduced(ground);
                desk.tell_outside(ground);
            }
            Next::Nothing => {}
            Next::End => return desk.close(),
        }
        if queue.is_empty() {
            desk.maintain(ground);
            desk.tell_introduced(ground);
        }
        desk.attend(ground);
    }
}

enum Next {
    Job(Job),
    Nothing,
    End,
}

async fn next(queue: &mut mpsc::Receiver<Job>, pause: Option<Duration>) -> Next {
    let job = match pause {
        Some(pause) => tokio::time::timeout(pause, queue.recv()).await,
        None => Ok(queue.recv().await),
    };
    job.map_or(Next::Nothing, |job| job.map_or(Next::End, Next::Job))
}

/// Who sits there.
enum Desk {
    /// Nobody yet: there is no domain, or the database is away.
    Waiting(Option<Database>),
    Open(Box<Office>),
}

impl Desk {
    fn open(ground: &Ground) -> Result<Self, StartError> {
        let mut desk = Self::Waiting(Some(Database::open(&ground.home, &ground.signs)?));
        match desk.sit_down(ground) {
            // It will be back.
            Err(StartError::Database(DatabaseError::Away(_))) | Ok(()) => Ok(desk),
            Err(error) => Err(error),
        }
    }

    /// Begins to serve if there is a domain in the database.
    fn sit_down(&mut self, ground: &Ground) -> Result<(), StartError> {
        let Self::Waiting(held) = self else { return Ok(()) };
        let Some(database) = held.as_ref() else { return Ok(()) };
        let found = prepared(ground, database);
        database.rest();
        let Some((key, opaque, known)) = found? else { return Ok(()) };
        if let Some(database) = held.take() {
            let (domain, authority) = (known.domain.clone(), known.authority);
            let first = ground.known.set(known).is_ok();
            let (keys, machine) = ((key, ground.keys.clone()), ground.machine.clone());
            let mut office = Office::new(database, domain.clone(), keys, opaque, ground.node, machine);
            office.set_directory(ground.directory);
            if ground.to_core.is_none() {
                office.is_no_server();
            }
            if let Some(component) = &ground.component {
                office.open_door(&component.address)?;
            }
            *self = Self::Open(Box::new(office));
            if first {
                // Nobody listens to what is known at the start, and nobody misses it.
                let _ = ground.news.try_send(News::Serves(domain, authority));
            }
        }
        Ok(())
    }

    fn work(&mut self, ground: &Ground, job: Job) {
        match job {
            // Who asked may have gone away meanwhile.
            Job::Ask(question, answer) => drop(answer.send(self.answer(ground, *question))),
            Job::Laptop { node, request, ask, places } => {
                let Self::Open(office) = self else { return };
                if office.passes_on(node, request, &ask) {
                    return;
                }
                let answer = office.serve(node, &ask, &places);
                let voids = office.take_news();
                if let Some(to_core) = &ground.to_core {
                    if !voids.is_empty() {
                        let _ = to_core.blocking_send(Input::Voids(voids));
                    }
                    let _ = to_core.blocking_send(Input::EnrolmentAnswer { node, request, answer });
                }
            }
            Job::Component(event) => {
                if let Self::Open(office) = self {
                    office.component_event(event);
                }
            }
            Job::Close(done) => drop(done.send(())),
        }
    }

    /// What is said of other domains, for the users of this very node.
    fn tell_introduced(&mut self, ground: &Ground) {
        let Self::Open(office) = self else { return };
        let introduced = office.take_introduced();
        if let Some(to_core) = ground.to_core.as_ref().filter(|_| !introduced.is_empty()) {
            let _ = to_core.blocking_send(Input::Introduced(introduced));
        }
    }

    /// What other processes of this server have said.
    fn attend(&mut self, ground: &Ground) {
        let Self::Open(office) = self else { return };
        office.attend();
        if let Some(to_core) = &ground.to_core {
            for (node, request, answer) in office.outside_answers() {
                let _ = to_core.blocking_send(Input::EnrolmentAnswer { node, request, answer });
            }
        }
        self.tell_outside(ground);
    }

    /// Nodes for whose users something from outside waits.
    fn tell_outside(&mut self, ground: &Ground) {
        if let (Self::Open(office), Some(to_core)) = (self, &ground.to_core) {
            for node in office.outside_news() {
                let _ = to_core.blocking_send(Input::UpstreamNews { node });
            }
        }
    }

    fn answer(&mut self, ground: &Ground, question: Question) -> Answer {
        if let Self::Open(office) = self {
            return office.answer(question);
        }
        let made = match (&*self, &question) {
            (Self::Waiting(Some(database)), Question::Init { domain }) => {
                found(ground, database, domain).map(|()| None)
            }
            (Self::Waiting(Some(database)), Question::Restore { path }) => {
                restored(ground, database, path).map(Some)
            }
            _ => Ok(None),
        };
        match made.and_then(|made| self.sit_down(ground).map(|()| made)) {
            Err(error) => Answer::Refused(error.to_string()),
            Ok(Some(contents)) => Answer::Archived(contents.entries, contents.bytes),
            Ok(None) => match self {
                Self::Open(office) => office.answer(question),
                Self::Waiting(_) => Answer::Refused(NONE.to_owned()),
            },
        }
    }

    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Open(office) => office.looks_after().or_else(|| office.database.pause()),
            Self::Waiting(database) => database.as_ref().and_then(Database::pause),
        }
    }

    fn maintain(&mut self, ground: &Ground) {
        if let Err(error) = self.sit_down(ground) {
            let why = error.to_string();
            if !matches!(error, StartError::Database(_))
                && ground.signs.standing().why.as_deref() != Some(&why)
            {
                ground.signs.away(&why);
            }
        }
        if let Self::Open(office) = self {
            if let Some(places) = &*ground.places.lock().unwrap_or_else(PoisonError::into_inner) {
                office.processes.is_at(places);
            }
            let revoked = office.maintain();
            if !revoked.is_empty() {
                let _ = ground.news.try_send(News::Revoked(revoked));
            }
        }
    }

    fn close(self) {
        let database = match self {
            Self::Open(mut office) => {
                office.close_door();
                Some(office.database)
            }
            Self::Waiting(database) => database,
        };
        if let Some(Err(error)) = database.map(Database::close) {
            tracing::warn!("database of the authority: {error}");
        }
    }
}

/// What is said where there is no domain.
pub(super) const NONE: &str =
    "this node gives no names: `crosstalk authority init DOMAIN` makes it the server of a domain";

/// Makes the domain, unless there is one already.
fn found(ground: &Ground, database: &Database, domain: &str) -> Result<(), StartError> {
    if database.domain()?.is_none() {
        let key = ground.keys.authority_key()?;
        database.commit(office::founding(domain, key.id(), ground.machine.now().wall))?;
    }
    Ok(())
}

/// Puts a back-up in place; the audit log says so.
fn restored(ground: &Ground, database: &Database, path: &Path) -> Result<Contents, StartError> {
    let contents = database.restore(path)?;
    database.commit(Change::told(office::line("database restored", "", ground.machine.now().wall)))?;
    Ok(contents)
}

/// What is needed to serve, checked: nothing if there is no domain.
fn prepared(
    ground: &Ground,
    database: &Database,
) -> Result<Option<(AuthorityKey, Server, Known)>, StartError> {
    let Some(served) = database.domain()? else { return Ok(None) };
    let key = key_of(ground, &served)?;
    let opaque = opaque(ground, database, &served)?;
    let known = Known::read(database, key.id())?;
    Ok(known.map(|known| (key, opaque, known)))
}

/// The key that signs now. Where the server died while it handed it over, that is brought to its end.
fn key_of(ground: &Ground, served: &ServedDomain) -> Result<AuthorityKey, StartError> {
    let counts = |key: &AuthorityKey| served.authority == key.id().as_bytes();
    if ground.keys.has_next_authority_key() {
        let next = ground.keys.next_authority_key()?;
        if counts(&next) {
            ground.keys.adopt_next_authority_key()?;
            return Ok(next);
        }
    }
    let other = || StartError::OtherKey(served.domain.clone());
    if !ground.keys.has_authority_key() {
        return Err(other());
    }
    let key = ground.keys.authority_key()?;
    if counts(&key) { Ok(key) } else { Err(other()) }
}

/// What the passwords were registered with. It is made once, and never silently again.
fn opaque(ground: &Ground, database: &Database, served: &ServedDomain) -> Result<Server, StartError> {
    let other = || StartError::OtherEnrolment(served.domain.clone());
    if !served.enrolment.is_empty() && !ground.keys.has_enrolment_seed() {
        return Err(other());
    }
    let opaque = Server::from_seed(&*ground.keys.enrolment_seed()?);
    let digest = opaque.digest().to_vec();
    if served.enrolment.is_empty() {
        database.commit(Change::default().domain(ServedDomain { enrolment: digest, ..served.clone() }))?;
    } else if served.enrolment != digest {
        return Err(other());
    }
    Ok(opaque)
}

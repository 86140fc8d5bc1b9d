//! The server of a domain: who has which name there, by whose word.
//!
//! A task of its own, on a thread of its own, with a database of its own: the event loop hands it questions and never
//! waits. Questions come from the command line ([`Question`]) and from laptops that enrol (`overlay/PROTOCOL.md` §12).
//!
//! | file | does |
//! | --- | --- |
//! | [`office`] | what the command line asks: users, invitations, the audit log |
//! | [`counter`] | what laptops ask: enrolment by invitation, login by password |
//! | [`lists`] | what it keeps of its users' accounts for all their devices |
//! | [`slow`] | guessing is slowed, and nobody locked out |
//! | [`opaque`] | the password's protocol, both sides |
//! | [`database`] | what is kept |

pub mod counter;
pub mod database;
pub mod lists;
pub mod office;
pub mod opaque;
pub mod slow;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crosstalk_overlay::id::{AuthorityId, NodeId};
use crosstalk_storage::tree::authority::ServedDomain;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::accounts::key_dir::{KeyDir, KeyError};
use crate::core::Input;
use crate::secret::Secret;
use database::{Change, Database, DatabaseError};
use office::Office;
use opaque::Server;

/// Questions that wait; a laptop that finds the queue full asks again, a command line waits.
const QUEUE: usize = 256;

/// What the command line asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "question")]
pub enum Question {
    /// Give names under a domain from now on.
    Init {
        /// Which.
        domain: String,
    },
    /// What is served, and where.
    Show,
    /// Add a user, who can then be invited.
    AddUser {
        /// The name before the `@`.
        name: String,
    },
    /// All users.
    ListUsers,
    /// Take a user's name back.
    DisableUser {
        /// The name before the `@`.
        name: String,
    },
    /// Take a user's name back, so that the user can be enrolled with a new key and password.
    ResetUser {
        /// The name before the `@`.
        name: String,
    },
    /// Make an invitation.
    Invite {
        /// The name before the `@`.
        name: String,
        /// How long it counts, milliseconds.
        life: u64,
        /// Where the server is, multiaddresses.
        places: Vec<String>,
    },
    /// The newest lines of the audit log.
    Audit {
        /// At most so many.
        most: usize,
    },
}

/// What the command line gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Done and durable; what is void since, signed.
    Done {
        /// For the overlay.
        revocations: Vec<Vec<u8>>,
    },
    /// What is served.
    Domain(DomainView),
    /// Users.
    Users(Vec<UserView>),
    /// An invitation.
    Invited(InvitationView),
    /// Lines of the audit log, oldest first.
    Audit(Vec<AuditView>),
    /// It could not be done: why, and what to do.
    Refused(String),
}

/// What is served, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomainView {
    /// The domain.
    pub domain: String,
    /// The authority's public key, hexadecimal.
    pub authority: String,
    /// The server's node id, hexadecimal.
    pub node: String,
    /// Users, by state.
    pub users: usize,
    /// Of them, enrolled ones.
    pub enrolled: usize,
    /// Invitations that can be used.
    pub invitations: usize,
    /// Where laptops reach the server from other networks, multiaddresses.
    pub places: Vec<String>,
}

/// A user, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserView {
    /// The name before the `@`.
    pub name: String,
    /// `new`, `invited`, `enrolled`, `disabled`.
    pub state: String,
    /// Self-certified address (XEP-0516); nothing without a key.
    pub xid: Option<String>,
    /// When the certificate ends, Unix milliseconds.
    pub until: Option<u64>,
    /// When the user was enrolled, Unix milliseconds.
    pub enrolled: Option<u64>,
}

/// An invitation, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InvitationView {
    /// The address that it gives.
    pub address: String,
    /// The link.
    pub link: Secret,
    /// When it ends, Unix milliseconds.
    pub expires: u64,
}

/// A line of the audit log, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Its number.
    pub number: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// What was done.
    pub what: String,
    /// To whom.
    pub name: String,
    /// The user key that it was about, hexadecimal.
    pub user: String,
    /// The serial of what was issued; 0: nothing.
    pub serial: u64,
    /// The node that asked, hexadecimal; empty: somebody at the server.
    pub node: String,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Its keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key file is not the one of the database.
    #[error(
        "keys/authority.key is not the key that the names under {0} were signed with: put it back from a back-up, \
         `crosstalk authority key export` made one"
    )]
    OtherKey(String),
    /// The key file is gone, or not the one that the passwords were registered with.
    #[error(
        "keys/enrolment.key is not what the passwords of the users under {0} were registered with: put it back from a \
         back-up, without it no password there is right any more"
    )]
    OtherEnrolment(String),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Something for the task.
enum Job {
    Ask(Box<Question>, oneshot::Sender<Answer>),
    Laptop { node: NodeId, request: u64, ask: Vec<u8>, places: Vec<String> },
    Close(oneshot::Sender<()>),
}

/// What the node knows of its authority; clones share it. It may come into being while the node runs.
#[derive(Clone, Debug)]
pub struct Authority {
    data: PathBuf,
    keys: KeyDir,
    node: NodeId,
    /// Where answers to laptops go; nowhere without a running node.
    to_core: Option<mpsc::Sender<Input>>,
    task: Arc<OnceLock<Task>>,
}

#[derive(Debug)]
struct Task {
    jobs: mpsc::Sender<Job>,
    domain: String,
    authority: AuthorityId,
    /// All that was revoked before the start.
    revocations: Vec<Vec<u8>>,
}

impl Authority {
    /// The authority of the node in a data directory, started if there is one.
    ///
    /// # Errors
    /// When there is one and it cannot start.
    pub fn open(
        data: PathBuf,
        keys: KeyDir,
        node: NodeId,
        to_core: Option<mpsc::Sender<Input>>,
    ) -> Result<Self, StartError> {
        let authority = Self { data, keys, node, to_core, task: Arc::default() };
        if Database::is_in(&authority.data) {
            let database = Database::open(&authority.data)?;
            // A node that ended between making the database and the domain has none.
            if database.domain().is_some() {
                authority.start(database)?;
            }
        }
        Ok(authority)
    }

    /// The domain that is served and its key.
    pub fn domain(&self) -> Option<(&str, AuthorityId)> {
        self.task.get().map(|task| (task.domain.as_str(), task.authority))
    }

    /// What was revoked before the start.
    pub fn revocations(&self) -> &[Vec<u8>] {
        self.task.get().map_or(&[], |task| &task.revocations)
    }

    /// Asks; waits while the queue is full.
    pub async fn ask(&self, question: Question) -> Answer {
        match (self.task.get(), question) {
            (Some(task), Question::Init { domain }) if domain != task.domain => Answer::Refused(format!(
                "this node gives names under {} already: use another data directory for {domain}",
                task.domain
            )),
            (Some(_), Question::Init { .. }) => Answer::Done { revocations: Vec::new() },
            (Some(task), question) => {
                let (answer, answered) = oneshot::channel();
                let stopping = || Answer::Refused("the node is stopping: try again when it runs".to_owned());
                match task.jobs.send(Job::Ask(Box::new(question), answer)).await {
                    Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
                    Err(_) => stopping(),
                }
            }
            (None, Question::Init { domain }) => self.make(&domain),
            (None, _) => Answer::Refused(
                "this node gives no names: `crosstalk authority init DOMAIN` makes it the server of a domain"
                    .to_owned(),
            ),
        }
    }

    /// A laptop asks this node, which is at these multiaddresses. If there is no room the laptop asks again by itself.
    pub fn laptop_asks(&self, node: NodeId, request: u64, ask: Vec<u8>, places: Vec<String>) {
        if let Some(task) = self.task.get()
            && task.jobs.try_send(Job::Laptop { node, request, ask, places }).is_err()
        {
            tracing::warn!("too many laptops are being enrolled at once: one has to ask again");
        }
    }

    /// Ends in order.
    pub async fn close(&self) {
        let Some(task) = self.task.get() else { return };
        let (done, closed) = oneshot::channel();
        if task.jobs.send(Job::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    fn make(&self, domain: &str) -> Answer {
        let made = || {
            let key = self.keys.authority_key()?;
            let mut database = Database::open(&self.data)?;
            if database.domain().is_none() {
                database.commit(office::founding(domain, key.id()))?;
            }
            self.start(database)
        };
        match made() {
            Ok(()) => Answer::Done { revocations: Vec::new() },
            Err(error) => Answer::Refused(error.to_string()),
        }
    }

    fn start(&self, mut database: Database) -> Result<(), StartError> {
        let Some(served) = database.domain().cloned() else { return Ok(()) };
        let key = self.keys.authority_key()?;
        if served.authority != key.id().as_bytes() {
            return Err(StartError::OtherKey(served.domain));
        }
        let opaque = self.opaque(&mut database, &served)?;
        let revocations = database.members().flat_map(|(_, member)| member.revocations.clone()).collect();
        let authority = key.id();
        let office = Office::new(database, served.domain.clone(), key, opaque, self.node);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let to_core = self.to_core.clone();
        let work = move || work(office, queue, to_core.as_ref());
        std::thread::Builder::new().name("authority".into()).spawn(work)?;
        let task = Task { jobs, domain: served.domain, authority, revocations };
        // Two commands at once: the database's lock lets one through.
        let _ = self.task.set(task);
        Ok(())
    }
}

impl Authority {
    /// What the passwords were registered with. It is made once, and never silently again.
    fn opaque(&self, database: &mut Database, served: &ServedDomain) -> Result<Server, StartError> {
        let other = || StartError::OtherEnrolment(served.domain.clone());
        if !served.enrolment.is_empty() && !self.keys.has_enrolment_seed() {
            return Err(other());
        }
        let opaque = Server::from_seed(&*self.keys.enrolment_seed()?);
        let digest = opaque.digest().to_vec();
        if served.enrolment.is_empty() {
            database
                .commit(Change::default().domain(ServedDomain { enrolment: digest, ..served.clone() }))?;
        } else if served.enrolment != digest {
            return Err(other());
        }
        Ok(opaque)
    }
}

/// The task: one thing at a time, each answered after it is durable.
fn work(mut office: Office, mut queue: mpsc::Receiver<Job>, to_core: Option<&mpsc::Sender<Input>>) {
    let mut closing = None;
    while let Some(job) = queue.blocking_recv() {
        match job {
            // Who asked may have gone away meanwhile.
            Job::Ask(question, answer) => drop(answer.send(office.answer(*question))),
            Job::Laptop { node, request, ask, places } => {
                let answer = office.serve(node, &ask, &places);
                if let Some(to_core) = to_core {
                    let _ = to_core.blocking_send(Input::EnrolmentAnswer { node, request, answer });
                }
            }
            Job::Close(done) => {
                closing = Some(done);
                break;
            }
        }
        if queue.is_empty() {
            office.maintain();
        }
    }
    office.close();
    closing.map(|done| done.send(()));
}

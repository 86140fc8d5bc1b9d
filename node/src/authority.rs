//! The server of a domain: who has which name there, by whose word.
//!
//! A task of its own, on a thread of its own, with a database of its own: the event loop hands it questions and never
//! waits. Questions come from the command line ([`Question`]) and from laptops that enrol (`overlay/PROTOCOL.md` §12).
//!
//! | file | does |
//! | --- | --- |
//! | [`office`] | what the command line asks: users, invitations, the audit log |
//! | [`counter`] | what laptops ask: enrolment by invitation, login by password |
//! | [`import`] | users that come from another server, and what they bring along |
//! | `password` | a changed password follows |
//! | [`derived`] | secrets that stand for a password |
//! | `devices` | which devices its users have, and which are void |
//! | [`directory`] | who of its users has agreed to be found |
//! | [`lists`] | what it keeps of its users' accounts for all their devices |
//! | [`standing`] | whether the database can be asked, and which process leads |
//! | `task` | the thread |
//! | [`slow`] | guessing is slowed, and nobody locked out |
//! | [`machine`] | time and chance |
//! | [`servers`] | the processes of this server, which share a database |
//! | `rotate` | hands the domain's key over to a new one |
//! | `introduce` | other domains, and which key speaks for each |
//! | [`opaque`] | the password's protocol, both sides |
//! | [`database`] | what is kept |
//! | `passing` | what processes that share a database say to each other |
//! | `upstream` | the door to the rest of XMPP, which is a room of its own ([`crate::upstream`]) |

pub mod counter;
#[cfg(test)]
mod crowd;
pub mod database;
pub mod derived;
mod devices;
pub mod directory;
#[cfg(test)]
mod encrypted;
pub mod import;
mod introduce;
pub mod lists;
pub mod machine;
pub mod office;
pub mod opaque;
#[cfg(test)]
mod passed_on;
pub(crate) mod passing;
mod password;
#[cfg(test)]
pub(crate) mod private;
mod rotate;
pub mod servers;
#[cfg(test)]
mod several;
pub mod slow;
pub mod standing;
mod task;
#[cfg(test)]
#[allow(dead_code, reason = "of its two copies the other modules of tests use one")]
mod tests;
/// The same, with PostgreSQL as the database.
#[cfg(test)]
#[allow(clippy::duplicate_mod, reason = "the same tests, with another database")]
#[path = "authority/tests.rs"]
mod tests_on_postgres;
mod upstream;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use crosstalk_overlay::enrol::{Answer as Said, Why};
use crosstalk_overlay::id::{AuthorityId, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::accounts::key_dir::{KeyDir, KeyError};
use crate::core::Input;
use crate::secret::Secret;
use crate::upstream::gate::GateError;
use crate::upstream::{Component, ComponentView, connection};
use crate::well_known::Document;
use database::{DatabaseError, Home};
use machine::ThisMachine;
pub use rotate::keys_of;
use standing::{Figures, Standing};
use task::{Ground, Job};
pub use task::{Known, News};

/// Questions that wait; a laptop that finds the queue full asks again, a command line waits.
const QUEUE: usize = 256;

/// How long the last bytes to the stock server may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the command line asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "question")]
pub enum Question {
    /// Give names under a domain from now on.
    Init {
        /// Which.
        domain: String,
    },
    /// What is served, and where.
    Show,
    /// How the database and the link to other servers stand; answered at once.
    Standing,
    /// Add a user, who can then be invited.
    AddUser {
        /// The name before the `@`.
        name: String,
    },
    /// Take users in that another server had.
    Import {
        /// At most [`import::AT_ONCE`].
        users: Vec<import::ImportedUser>,
        /// Else only what would become of them is said.
        really: bool,
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
    /// The devices of a user.
    Devices {
        /// The name before the `@`.
        name: String,
    },
    /// Say that a device of a user is lost.
    RevokeDevice {
        /// The name before the `@`.
        name: String,
        /// The beginning of its key.
        device: String,
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
    /// Write all of the database to a new file.
    BackUp {
        /// Which, absolute.
        path: PathBuf,
    },
    /// Put all that is in such a file into an empty database, and serve that domain.
    Restore {
        /// Which, absolute.
        path: PathBuf,
    },
    /// Hand the domain's key over to a new one.
    RotateKey,
    /// Tell users which key speaks for another domain.
    Introduce {
        /// Which.
        domain: String,
        /// Hexadecimal; nothing: as its web server says.
        key: Option<String>,
    },
    /// Take that back.
    Withdraw {
        /// Which.
        domain: String,
    },
    /// The domains that are introduced, with those taken back lately.
    Introduced,
    /// What the web server of the domain is to say.
    Document,
    /// Who stands in the directory.
    Directory,
    /// Tell nobody of a server that was taken out of service.
    ForgetServer {
        /// The beginning of its node id, hexadecimal.
        node: String,
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
    /// The key was handed over.
    Rotated {
        /// The new public key, hexadecimal.
        authority: String,
        /// The signed rotation, for the overlay.
        rotation: Vec<u8>,
    },
    /// Other domains.
    Introduced(Vec<IntroducedView>),
    /// For the web server.
    Document(Document),
    /// Who stands in the directory.
    Directory {
        /// Whether users may search it.
        on: bool,
        /// By name.
        people: Vec<PersonView>,
    },
    /// What is served.
    Domain(DomainView),
    /// How the database stands, and the link to other servers where there is one.
    Standing(Standing, Option<ComponentView>),
    /// What is in a back-up: how many things, and their bytes.
    Archived(u64, u64),
    /// Users.
    Users(Vec<UserView>),
    /// What became of users of another server.
    Imported(import::ImportView),
    /// An invitation.
    Invited(InvitationView),
    /// Devices of a user.
    Devices(Vec<DeviceView>),
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
    /// The link to the rest of XMPP, if there is to be one.
    pub component: Option<ComponentView>,
    /// The server processes of the domain, by node id.
    pub servers: Vec<ServerProcessView>,
}

/// A server process of the domain, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerProcessView {
    /// Its node id, hexadecimal.
    pub node: String,
    /// When it said last that it is here, Unix milliseconds.
    pub here: u64,
    /// Whether it is the one that answers.
    pub this: bool,
    /// Whether laptops are told of it.
    pub counts: bool,
    /// Where it is, multiaddresses.
    pub places: Vec<String>,
}

/// A domain that is introduced, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IntroducedView {
    /// The domain.
    pub domain: String,
    /// Its key, hexadecimal; nothing: that was taken back.
    pub key: Option<String>,
    /// When that was signed, Unix milliseconds.
    pub since: u64,
    /// When it ends, Unix milliseconds; it is signed anew before.
    pub until: u64,
}

/// Somebody who has agreed to be found, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonView {
    /// The address.
    pub address: String,
    /// The nickname.
    pub nickname: String,
    /// Nothing: not shown.
    pub full_name: Option<String>,
}

/// A user, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserView {
    /// The name before the `@`.
    pub name: String,
    /// `new`, `imported`: logs in with the password of the other server, `invited`, `enrolled`, `disabled`.
    pub state: String,
    /// Self-certified address (XEP-0516); nothing without a key.
    pub xid: Option<String>,
    /// When the certificate ends, Unix milliseconds.
    pub until: Option<u64>,
    /// When the user was enrolled, Unix milliseconds.
    pub enrolled: Option<u64>,
}

/// A device of a user, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// Public device key, hexadecimal.
    pub device: String,
    /// When its certificate ends, Unix milliseconds; nothing once it is gone.
    pub until: Option<u64>,
    /// Whether the authority says that it is void.
    pub revoked: bool,
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
        "keys/authority.key is not the key that the names under {0} are signed with: put it back from a back-up with \
         `crosstalk authority key import DIRECTORY`; `crosstalk authority key export` made one"
    )]
    OtherKey(String),
    /// The key file is gone, or not the one that the passwords were registered with.
    #[error(
        "keys/enrolment.key is not what the passwords of the users under {0} were registered with: put it back from a \
         back-up with `crosstalk authority key import DIRECTORY`, without it no password there is right any more"
    )]
    OtherEnrolment(String),
    /// The door to the rest of XMPP.
    #[error(transparent)]
    Door(#[from] GateError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the node knows of its authority; clones share it. It may come into being while the node runs.
#[derive(Clone, Debug)]
pub struct Authority {
    ground: Ground,
    jobs: Arc<OnceLock<mpsc::Sender<Job>>>,
    /// The link to the rest of XMPP, once it is being kept.
    link: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Authority {
    /// The authority of a node, started if there is one, or may be; and what is heard of it later. A database that is
    /// away does not stop the node: what it knows is told as soon as it is back.
    ///
    /// # Errors
    /// When there is one and it cannot start.
    pub fn open(
        home: Home,
        keys: KeyDir,
        node: NodeId,
        to_core: Option<mpsc::Sender<Input>>,
        component: Option<Component>,
        directory: bool,
    ) -> Result<(Self, mpsc::Receiver<News>), StartError> {
        let (news, heard) = mpsc::channel(QUEUE);
        let (known, signs) = Default::default();
        let machine = Arc::new(ThisMachine::start());
        let places = Arc::default();
        let ground =
            Ground { home, keys, node, places, to_core, component, directory, news, known, signs, machine };
        let authority = Self { ground, jobs: Arc::default(), link: Arc::default() };
        if authority.ground.home.may_be() {
            authority.start()?;
        }
        Ok((authority, heard))
    }

    /// The domain that is served and its key.
    pub fn domain(&self) -> Option<(&str, AuthorityId)> {
        self.ground.known.get().map(|known| (known.domain.as_str(), known.authority))
    }

    /// What was revoked before the start.
    pub fn revocations(&self) -> &[Vec<u8>] {
        self.ground.known.get().map_or(&[], |known| &known.revocations)
    }

    /// What it introduced before the start.
    pub fn introductions(&self) -> &[Vec<u8>] {
        self.ground.known.get().map_or(&[], |known| &known.introductions)
    }

    /// How its database stands.
    pub fn standing(&self) -> Standing {
        self.ground.signs.standing()
    }

    /// What it did since the start.
    pub fn figures(&self) -> Figures {
        self.ground.signs.figures()
    }

    /// Whether this process keeps the link to other servers, and when that changes: of all that share a database and can,
    /// one does, and the one process that has a database of its own always does. Between the loss of a connection and its
    /// discovery, five seconds, two may believe it.
    pub fn linking(&self) -> watch::Receiver<bool> {
        self.ground.signs.linking()
    }

    /// How the domain's key was handed over before the start.
    pub fn rotations(&self) -> &[Vec<u8>] {
        self.ground.known.get().map_or(&[], |known| &known.rotations)
    }

    /// Asks; waits while the queue is full.
    pub async fn ask(&self, question: Question) -> Answer {
        match (self.domain(), &question) {
            (_, Question::Standing) => {
                return Answer::Standing(self.standing(), self.ground.signs.figures().outside);
            }
            (Some((serves, _)), Question::Init { domain }) if domain != serves => {
                return Answer::Refused(format!(
                    "this node gives names under {serves} already: use another data directory for {domain}"
                ));
            }
            (Some(_), Question::Init { .. }) => return Answer::Done { revocations: Vec::new() },
            _ => {}
        }
        if self.jobs.get().is_none() {
            if !matches!(question, Question::Init { .. } | Question::Restore { .. }) {
                return Answer::Refused(task::NONE.to_owned());
            }
            if let Err(error) = self.start() {
                return Answer::Refused(error.to_string());
            }
        }
        let stopping = || Answer::Refused("the node is stopping: try again when it runs".to_owned());
        let (answer, answered) = oneshot::channel();
        let Some(jobs) = self.jobs.get() else { return stopping() };
        let answer = match jobs.send(Job::Ask(Box::new(question), answer)).await {
            Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
            Err(_) => stopping(),
        };
        self.link();
        answer
    }

    /// Where this node can be reached from now on, multiaddresses: laptops of other processes of this server are told.
    pub fn is_at(&self, places: Vec<String>) {
        *self.ground.places.lock().unwrap_or_else(PoisonError::into_inner) = Some(places);
    }

    /// A laptop asks this node, which is at these multiaddresses. If there is no room the laptop asks again by itself.
    pub fn laptop_asks(&self, node: NodeId, request: u64, ask: Vec<u8>, places: Vec<String>) {
        if let Some(jobs) = self.jobs.get()
            && jobs.try_send(Job::Laptop { node, request, ask, places }).is_err()
        {
            tracing::debug!("too many laptops ask at once: one has to ask again");
            if let Some(to_core) = &self.ground.to_core {
                let answer = Said::refused(Why::Busy).to_bytes();
                // Where there is no room either it asks again by itself, later.
                let _ = to_core.try_send(Input::EnrolmentAnswer { node, request, answer });
            }
        }
    }

    /// Ends in order.
    pub async fn close(&self) {
        let Some(jobs) = self.jobs.get() else { return };
        let (done, closed) = oneshot::channel();
        if jobs.send(Job::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
        // What was written last is on its way when this has ended.
        let link = self.link.lock().await.take();
        if let Some(link) = link {
            let _ = tokio::time::timeout(FAREWELL, link).await;
        }
    }

    /// Starts the task, and waits for its first try to begin.
    fn start(&self) -> Result<(), StartError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (started, begun) = std::sync::mpsc::sync_channel(1);
        let ground = self.ground.clone();
        let work = move || task::run(&ground, queue, &started);
        std::thread::Builder::new().name("authority".into()).spawn(work)?;
        begun.recv().unwrap_or_else(|_| Err(std::io::Error::other("its thread ended").into()))?;
        // Two commands at once: the database's lock lets one through.
        let _ = self.jobs.set(jobs);
        self.link();
        Ok(())
    }

    /// Keeps the link to the rest of XMPP from the moment on when there is a domain.
    fn link(&self) {
        if let (Some(component), Some((domain, _)), Some(jobs)) =
            (&self.ground.component, self.domain(), self.jobs.get())
            && let Ok(mut link) = self.link.try_lock()
            && link.is_none()
        {
            let linking = self.linking();
            *link = Some(tokio::spawn(connection::keep(
                component.clone(),
                domain.to_owned(),
                linking,
                jobs.clone(),
            )));
        }
    }
}

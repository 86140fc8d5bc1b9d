//! The node's decisions as one synchronous state machine. *Pure.*
//!
//! **Law.** Hand in one input or many with [`Core::handle`]; then drain [`Core::poll_output`] until it is empty, and
//! perform each output in order; then sleep until [`Core::poll_timeout`] or the next input. The first poll closes the
//! batch: what the inputs changed becomes one atomic [`Output::Commit`], and whatever promises something durable
//! waits in the `barrier` until [`Input::Committed`].
//!
//! | file | owns |
//! | --- | --- |
//! | [`io`] | [`Input`] and [`Output`] |
//! | `barrier` | which output waits for which commit |
//! | `stream`, `management` | elements of a client: binding, stanzas, XEP-0352; XEP-0198 |
//! | `session`, `account`, `roster` | the working set in memory |
//! | `router` | where a stanza goes |
//! | `names` | names that nobody here has met |
//! | `asked` | requests that wait for the answer of another session |
//! | `message`, `inbox` | message rules of RFC 6121 §8; what is held until a client has it |
//! | `presence`, `early`, `subscription` | RFC 6121 §3 and §4; what came too early |
//! | `contacts`, `nearby`, `tier` | changes of contact lists; neighbours laid over them; how sure it is who they are |
//! | [`link`] | the gateway to people of XEP-0174 |
//! | `profile` | what an account changes of itself: vCard, password, block list |
//! | `remote` | what the overlay brings and takes |
//! | `commands` | the CLI |
//! | `room` | how much of each tree is used, and whether there is room for more |
//! | [`upstream`] | the way to addresses outside the overlay, by the server of the user's domain |
//! | [`devices`], [`sync`] | further devices of an account; what they, and the server, tell each other |
//! | `load`, `save` | from and to the store |

pub mod admin;
pub mod devices;
pub mod directory;
pub mod io;
pub mod link;
pub mod lookup;
pub mod requests;
pub mod settings;
pub mod table;

pub(crate) mod account;
mod asked;
mod barrier;
mod commands;
mod compromised;
mod contacts;
pub mod domains;
mod early;
pub mod enrol;
mod inbox;
mod load;
mod management;
mod message;
mod names;
pub(crate) mod nearby;
pub mod password;
mod presence;
mod profile;
mod remote;
pub(crate) mod room;
pub(crate) mod roster;
pub(crate) mod router;
mod save;
pub(crate) mod session;
mod stream;
mod subscription;
pub mod sync;
mod tier;
pub mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_link_local::neighbours::{Neighbours, Who};
use crosstalk_overlay::core::Overlay;
use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::time::Now;
use crosstalk_storage::WriteSet;
use jid::Jid;
use rand_chacha::ChaCha20Rng;

use crate::secret::Secret;
use crate::xmpp::{Stanza, StanzaError, StreamError};

pub use io::{ConnId, Input, Output};
pub use settings::{LoadError, Settings, Setup};

pub(crate) use message::is_durable;
pub(crate) use stream::hex;

use account::Accounts;
use barrier::Barrier;
use session::{Session, SessionId};

/// What a connection is, from its authentication on.
#[derive(Debug)]
enum Conn {
    /// Authenticated; binds a resource or resumes a session next.
    Unbound(UserId),
    /// A session's.
    Bound(SessionId),
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A lost session is given up.
    Resume(SessionId),
    /// The presence of a device elsewhere may have outlived itself.
    Presence(UserId, DeviceId),
    /// A client without XEP-0198 did not answer a ping: the session, and the ping's number.
    Ping(SessionId, u64),
    /// A request to another node is not answered.
    Asked(SessionId),
    /// An authenticated client has neither bound nor resumed.
    Bind(ConnId),
    /// A name that nobody here has met is looked for, or what waits for one is given up.
    Names,
    /// A server of a user's domain is asked.
    Server,
    /// The same about the outside.
    Upstream,
    /// Clients have waited long enough for a directory.
    Search,
    /// Changes of low value are committed.
    Lazy,
}

/// The node: sessions, contact lists, router, overlay and neighbours behind one [`Input`] and one [`Output`].
#[derive(Debug)]
pub struct Core {
    pub(crate) settings: Settings,
    pub(crate) now: Now,
    started: u64,
    node: NodeId,
    rng: ChaCha20Rng,
    pub(crate) overlay: Overlay,
    neighbours: Neighbours,
    nearby: BTreeMap<Who, nearby::Person>,
    link: link::Link,
    pub(crate) accounts: Accounts,
    sessions: BTreeMap<SessionId, Session>,
    conns: BTreeMap<ConnId, Conn>,
    remote_presence: presence::RemotePresence,
    /// Directed presence from elsewhere: from whom, to whom, from which address.
    visits: BTreeSet<(UserId, UserId, Jid)>,
    /// Sessions that were written to in this batch.
    touched: BTreeSet<SessionId>,
    /// Resumable sessions whose stored state is behind.
    dirty: BTreeSet<SessionId>,
    /// Contact lists changed and watchers to be told anew in this batch.
    watchers_changed: BTreeSet<UserId>,
    /// Password changes that wait for their credentials: who asked, and the request.
    passwords: BTreeMap<u64, (SessionId, Stanza)>,
    /// Who waits for a changed password that a server can be told of.
    password_asked: Option<u64>,
    /// When the server was told last of a password of these users, monotonic milliseconds.
    password_tried: BTreeMap<UserId, u64>,
    /// Recovery codes of new accounts that nobody has seen.
    recoveries: BTreeMap<UserId, Secret>,
    timers: BTreeSet<(u64, Timer)>,
    next_session: u64,
    next_held: u64,
    /// Bytes of all held messages.
    held_bytes: usize,
    next_ticket: u64,
    /// Inputs came since the last batch was closed.
    batch_open: bool,
    writes: WriteSet,
    lazy: WriteSet,
    /// Nodes of the hash table that are remembered.
    nodes: table::Nodes,
    sync: sync::Sync,
    names: names::Names,
    upstream: upstream::Upstream,
    searches: directory::Searches,
    barrier: Barrier,
    store_trouble: Option<String>,
    counters: BTreeMap<&'static str, u64>,
}

impl Core {
    /// Tells the core what happened at `now`.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.now = now;
        self.batch_open = true;
        match input {
            Input::Authenticated { conn, user } => self.authenticated(conn, user),
            Input::Elements { conn, elements } => self.elements(conn, elements),
            Input::Ended { conn, how } => self.ended(conn, how),
            Input::Peer(event) => self.overlay.handle_peer(event, now),
            Input::Held { table, key, value } => self.held(table, key, value),
            Input::Members(nodes) => self.members(nodes),
            Input::Link(event) => self.link_event(event),
            Input::Committed { batch } => self.barrier.committed(batch),
            Input::StoreTrouble(trouble) => self.store_trouble = trouble,
            Input::Admin { request, command } => self.command(request, *command),
            Input::SealingKey { user, key } => self.overlay.add_sealing_key(&user, key, now),
            Input::Credentials { ticket, credentials } => self.password_made(ticket, credentials),
            Input::EnrolmentAnswer { node, request, answer } => {
                self.overlay.answer_enrolment(node, request, answer, now);
            }
            Input::Voids(revocations) => {
                if self.add_revocations(&revocations).is_err() {
                    self.count("revocations of our authority that were not taken");
                }
            }
            Input::Introduced(said) => self.take_introductions(&said),
            Input::UpstreamNews { node } => self.overlay.tell_upstream(node, now),
            Input::Timeout => self.timeout(),
            Input::Stopping => {
                self.overlay.farewell(now);
                self.write_lazy();
            }
        }
        self.drain_overlay();
        self.drain_neighbours();
        self.drain_link();
    }

    /// The next thing to do, `None` when all is done. The first call after inputs closes their batch.
    pub fn poll_output(&mut self) -> Option<Output> {
        if std::mem::take(&mut self.batch_open) {
            self.close_batch();
        }
        self.barrier.pop()
    }

    /// When [`Input::Timeout`] is due at the latest (monotonic milliseconds), and why.
    pub fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        let own = self.timers.first().map(|(when, timer)| {
            let why = match timer {
                Timer::Resume(_) => "a lost session is given up",
                Timer::Ping(..) => "a client did not answer a ping",
                Timer::Presence(..) => "a presence was not refreshed",
                Timer::Asked(_) => "another node did not answer a request",
                Timer::Bind(_) => "a client did not bind",
                Timer::Names => "a name is looked for",
                Timer::Server => "a server is asked",
                Timer::Upstream => "a server is asked about the outside",
                Timer::Search => "clients have waited long enough for a directory",
                Timer::Lazy => "changes of low value are committed",
            };
            (*when, why)
        });
        let others = [self.overlay.poll_timeout(), self.neighbours.poll_timeout(), self.link_timeout()];
        own.into_iter().chain(others.into_iter().flatten()).min()
    }

    fn timeout(&mut self) {
        while let Some(&(when, timer)) = self.timers.first()
            && when <= self.now.mono
        {
            self.timers.pop_first();
            match timer {
                Timer::Resume(session) => self.resume_expired(session),
                Timer::Ping(session, ping) => self.ping_expired(session, ping),
                Timer::Presence(user, device) => self.presence_outlived(user, device),
                Timer::Asked(session) => self.asked_too_long(session),
                Timer::Bind(conn) => self.bind_expired(conn),
                Timer::Names => self.names_due(),
                Timer::Server => self.servers_due(),
                Timer::Upstream => self.exchanges_due(),
                Timer::Search => self.searches_over(),
                Timer::Lazy => self.write_lazy(),
            }
        }
        self.overlay.handle_timeout(self.now);
        self.neighbours.handle_timeout(self.now);
        self.link_due();
    }

    /// Bytes of keys and values that the next batch commits; while the store cannot write, none.
    pub fn unsaved_bytes(&self) -> usize {
        if self.store_trouble.is_some() { 0 } else { self.writes.bytes() }
    }

    fn close_batch(&mut self) {
        // A user who leaves the link makes a place there for another.
        while !self.watchers_changed.is_empty() {
            self.republish_presence();
            self.drain_overlay();
            self.drain_link();
        }
        self.flush_sync();
        self.ask_for_acknowledgements();
        self.save_dirty_sessions();
        // While the store cannot write, nothing is added to what it tries: what changes is gathered until it can.
        if self.store_trouble.is_some() {
            return;
        }
        if !self.writes.is_empty() && !self.lazy.is_empty() {
            self.write_lazy();
        }
        self.barrier.close(std::mem::take(&mut self.writes));
    }

    /// Changes of low value go with this batch; what it says itself is newer.
    fn write_lazy(&mut self) {
        let mut writes = std::mem::take(&mut self.lazy);
        writes.merge(std::mem::take(&mut self.writes));
        self.writes = writes;
        self.timers.retain(|(_, timer)| *timer != Timer::Lazy);
    }

    /// Sets a timer `after` milliseconds from now.
    fn set_timer(&mut self, after: u64, timer: Timer) {
        self.timers.insert((self.now.mono.saturating_add(after), timer));
    }

    fn cancel_timer(&mut self, timer: Timer) {
        self.timers.retain(|(_, set)| *set != timer);
    }

    /// Counts something that was refused or dropped.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    fn output(&mut self, output: Output, promise: bool) {
        self.barrier.push(output, promise);
    }

    /// Sends a stanza that the node makes itself to the sender of `request`, wherever that is.
    pub(crate) fn answer(&mut self, origin: Origin, answer: Stanza, promise: bool) {
        match origin {
            Origin::Session(session) => self.send(session, answer, None, promise),
            Origin::Local => self.deliver_answer(answer),
            Origin::Remote(user) => self.send_answer_to_remote(user, answer),
            Origin::Outside(user) => self.answer_outside(user, &answer),
        }
    }

    /// Answers a stanza with an error, where RFC 6120 allows an answer.
    pub(crate) fn bounce(&mut self, origin: Origin, stanza: &Stanza, error: &StanzaError) {
        if let Some(answer) = stanza.error(error) {
            self.answer(origin, answer, false);
        }
    }

    fn close_client(&mut self, conn: ConnId, error: Option<StreamError>) {
        self.conns.remove(&conn);
        self.output(Output::CloseClient { conn, error }, false);
    }

    /// The session with this id.
    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Whether there is such a session, and its client is connected; else the client may resume it.
    fn is_connected(&self, id: SessionId) -> bool {
        self.session(id).is_some_and(|session| session.conn.is_some())
    }

    /// The session with this id.
    pub(crate) fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// The session of an account that has this full address.
    pub(crate) fn session_at(&self, user: &UserId, to: &Jid) -> Option<SessionId> {
        let resource = to.resource()?;
        let account = self.accounts.get(user)?;
        account
            .sessions
            .iter()
            .copied()
            .find(|id| self.sessions.get(id).is_some_and(|s| s.jid.resource() == resource))
    }
}

/// Who an answer goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A session of this node, directly.
    Session(SessionId),
    /// Somebody on this node, found by the answer's `to`.
    Local,
    /// A user of another node; the answer's `to` has the resource.
    Remote(UserId),
    /// Somebody outside the overlay, by the way of this user.
    Outside(UserId),
}

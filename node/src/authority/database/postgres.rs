//! The database in PostgreSQL: for a large domain, or for several server processes that share one.
//!
//! Each question is one serializable transaction, so what was checked is still so when it is changed; where others came
//! first, PostgreSQL refuses and the question is put again. A connection that is lost is made anew, at most every few
//! seconds, and everybody is told to come again meanwhile. Each tree is a table of keys and values in the schema
//! `crosstalk`; the version stands in one of them and is read with each transaction, so a process never writes what a
//! newer one has changed the shape of.

mod link;
mod settings;
mod tls;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::Duration;

use crosstalk_storage::{Entry, Tree, WriteSet};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::engine::Engine;
use super::{DatabaseError, Signs, versions};
use link::Link;
pub use settings::{Postgres as Settings, SettingsError};

/// What takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between tries to reach it.
const RETRY: Duration = Duration::from_secs(3);
/// How often is looked whether it is there, and who leads, while nothing is asked.
const LOOK: Duration = Duration::from_secs(5);
/// The first numbers of our advisory locks: "CTTA". The second one says for what.
const LOCKS: i32 = 0x4354_5441;
/// Held by the process that leads, as long as its connection lasts.
const LEADING: i32 = 1;
/// Held by the process that keeps the link to other servers, as long as its connection lasts.
const LINKING: i32 = 3;
/// Held while the version is raised.
const RAISING: i32 = 2;

/// A database in PostgreSQL, connected or not.
pub(super) struct Postgres {
    runtime: Runtime,
    settings: Settings,
    signs: Signs,
    link: RefCell<Option<Link>>,
    /// Whether a transaction is open.
    open: Cell<bool>,
    /// When it was tried to connect last.
    tried: Cell<Option<Instant>>,
    /// When was looked last who leads.
    looked: Cell<Option<Instant>>,
    /// It had no room last: it is back when something finds room.
    full: Cell<bool>,
}

impl Postgres {
    /// A database that is connected when it is first asked.
    pub(super) fn new(settings: Settings, signs: Signs) -> Result<Self, DatabaseError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| DatabaseError::Away(error.to_string()))?;
        let (link, open, tried, looked, full) = Default::default();
        Ok(Self { runtime, settings, signs, link, open, tried, looked, full })
    }

    /// Does something in the transaction that is open, or in a new one.
    fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Link) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.connected()?;
        if !self.open.get() {
            let version = self.bare(async |link| link.begin().await)?;
            self.open.set(true);
            if version > versions::newest() {
                self.rest();
                return Err(DatabaseError::Newer { found: version, known: versions::newest() });
            }
        }
        self.bare(work)
    }

    /// Does something, whether a transaction is open or not. An error ends the transaction.
    fn bare<T>(
        &self,
        work: impl AsyncFnOnce(&mut Link) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let mut held = self.link.borrow_mut();
        let Some(link) = held.as_mut() else { return Err(DatabaseError::Away("not connected".to_owned())) };
        let begun = Instant::now();
        let done = self.wait(work(link));
        let error = match done {
            Some(Ok(value)) => {
                self.signs.took(begun.elapsed());
                return Ok(value);
            }
            Some(Err(error)) => {
                self.full.set(self.full.get() || is_full(&error));
                judge(&error, link.is_closed())
            }
            None => DatabaseError::Away("it does not answer".to_owned()),
        };
        let keeps = !matches!(error, DatabaseError::Away(_))
            && (!self.open.replace(false) || matches!(self.wait(link.end()), Some(Ok(()))));
        if !keeps {
            *held = None;
            self.open.set(false);
            match &error {
                DatabaseError::Away(why) => self.signs.away(why),
                other => self.signs.away(&other.to_string()),
            }
        }
        Err(error)
    }

    fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, what).await.ok() })
    }

    /// Sees to it that there is a connection, to a database of the newest version.
    fn connected(&self) -> Result<(), DatabaseError> {
        if self.link.borrow().as_ref().is_some_and(|link| !link.is_closed()) {
            return Ok(());
        }
        if self.link.borrow_mut().take().is_some() {
            self.open.set(false);
            self.signs.away("the connection was lost");
        }
        if self.tried.get().is_some_and(|tried| tried.elapsed() < RETRY) {
            return Err(DatabaseError::Away(self.signs.why()));
        }
        let made = self.wait(Link::make(&self.settings)).unwrap_or(Err("it does not answer".to_owned()));
        self.tried.set(Some(Instant::now()));
        match made {
            Ok(link) => *self.link.borrow_mut() = Some(link),
            Err(why) => {
                self.signs.away(&why);
                return Err(DatabaseError::Away(why));
            }
        }
        if let Err(error) = versions::raise(self).and_then(|()| self.find_room()) {
            *self.link.borrow_mut() = None;
            self.signs.away(&error.to_string());
            return Err(error);
        }
        self.looked.set(None);
        self.signs.there();
        Ok(())
    }

    /// Whether there is room again, if there was none: else it would be back and away in turn.
    fn find_room(&self) -> Result<(), DatabaseError> {
        if self.full.get() {
            self.bare(async |link| link.find_room().await)?;
            self.full.set(false);
        }
        Ok(())
    }
}

/// Whether it has no room, or has lost what it was about to write.
fn is_full(error: &tokio_postgres::Error) -> bool {
    let full = [SqlState::DISK_FULL, SqlState::IO_ERROR, SqlState::INSUFFICIENT_RESOURCES];
    error.code().is_some_and(|code| full.contains(code))
}

/// What an error of PostgreSQL means.
fn judge(error: &tokio_postgres::Error, closed: bool) -> DatabaseError {
    // Its own text says where, but not what.
    let text = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let Some(code) = error.code() else {
        return if closed || error.is_closed() {
            DatabaseError::Away(text)
        } else {
            DatabaseError::Postgres(text)
        };
    };
    let changed = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    let away = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::QUERY_CANCELED,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    match code {
        code if changed.contains(code) => DatabaseError::Changed,
        _ if is_full(error) => DatabaseError::Away(format!("{text}: free some space on its disk")),
        code if closed || away.contains(code) || code.code().starts_with("08") => DatabaseError::Away(text),
        _ => DatabaseError::Postgres(text),
    }
}

impl Engine for Postgres {
    fn get(&self, tree: Tree, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, DatabaseError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.run(async |link| link.get(tree, keys).await)
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, DatabaseError> {
        self.run(async |link| link.scan(tree, prefix, start.max(prefix), limit).await)
    }

    fn count(&self, tree: Tree) -> Result<usize, DatabaseError> {
        self.run(async |link| link.count(tree).await)
    }

    fn commit(&self, writes: WriteSet) -> Result<(), DatabaseError> {
        if !writes.is_empty() {
            self.run(async |link| link.write(&writes).await)?;
        }
        if self.open.get() {
            self.bare(async |link| link.commit().await)?;
            self.open.set(false);
        }
        Ok(())
    }

    fn rest(&self) {
        if self.open.get() && self.bare(async |link| link.end().await).is_ok() {
            self.open.set(false);
        }
    }

    fn alone(&self) -> Result<(), DatabaseError> {
        self.rest();
        self.bare(async |link| link.begin_alone().await)?;
        self.open.set(true);
        Ok(())
    }

    fn make(&self, trees: &[Tree]) -> Result<(), DatabaseError> {
        self.bare(async |link| link.make_tables(trees).await)
    }

    fn tend(&self) -> Result<(), DatabaseError> {
        self.connected()?;
        if self.looked.get().is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        self.looked.set(Some(Instant::now()));
        // Who leads holds a lock of its connection: as long as that answers it does.
        let leads = self.signs.leads() || self.bare(async |link| link.hold(LEADING).await)?;
        let links = self.signs.wants_link()
            && (self.signs.keeps_link() || self.bare(async |link| link.hold(LINKING).await)?);
        self.bare(async |link| link.look().await)?;
        self.signs.lead(leads);
        self.signs.keep_link(links);
        Ok(())
    }

    fn pause(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn close(self: Box<Self>) -> Result<(), DatabaseError> {
        self.rest();
        let link = self.link.borrow_mut().take();
        self.signs.lead(false);
        self.signs.keep_link(false);
        link.map(|link| self.wait(link.close()));
        Ok(())
    }
}

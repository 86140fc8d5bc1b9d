//! One connection to PostgreSQL, and all that is said on it.

use std::collections::BTreeMap;

use crosstalk_storage::{Entry, Tree, WriteSet};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

use super::super::versions::VERSION;
use super::settings::Postgres;
use super::{LOCKS, RAISING, tls};

/// How every connection is set. What is acknowledged is durable whatever the server's settings say; who hangs in a
/// transaction does not hold up the others; keys are looked up by their index however few there are, so that
/// transactions on different keys do not meet.
const SET: &str = "SET synchronous_commit = on; SET enable_seqscan = off; SET statement_timeout = '9s'; \
                   SET lock_timeout = '9s'; SET idle_in_transaction_session_timeout = '20s'; SET bytea_output = 'hex'";

/// A connection.
pub(super) struct Link {
    client: Client,
    /// Ends when the connection does.
    task: JoinHandle<()>,
    statements: BTreeMap<String, Statement>,
}

impl Link {
    /// Connects; or says why not.
    pub(super) async fn make(settings: &Postgres) -> Result<Self, String> {
        let text = |error: Error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            error
                .as_db_error()
                .map(|error| error.message().to_owned())
                .or(source)
                .unwrap_or(error.to_string())
        };
        let config = settings.config().map_err(|error| error.to_string())?;
        let (client, connection) = config.connect(tls::Tls(settings.tls())).await.map_err(text)?;
        // What ends it is said by whatever is under way on it.
        let task = tokio::spawn(async move { drop(connection.await) });
        client.batch_execute(SET).await.map_err(text)?;
        Ok(Self { client, task, statements: BTreeMap::new() })
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.task.is_finished()
    }

    /// Begins a transaction; the version of the database.
    pub(super) async fn begin(&mut self) -> Result<u32, Error> {
        let text = format!(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT encode(value, 'hex') FROM {} WHERE key = '\\x{}'",
            table(Tree::Meta),
            crate::core::hex(VERSION)
        );
        let said = self.client.simple_query(&text).await?;
        let version = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(version.map_or(0, |hex| u32::from_str_radix(hex, 16).unwrap_or(u32::MAX)))
    }

    /// Begins a transaction that no other of its kind runs beside. It sees what the one before has done.
    pub(super) async fn begin_alone(&mut self) -> Result<(), Error> {
        let lock = format!("SELECT pg_advisory_xact_lock({LOCKS}, {RAISING})");
        self.client.batch_execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {lock}")).await
    }

    /// Ends a transaction; nothing has changed.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }

    /// Ends a transaction: when this is answered it is durable.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        self.client.batch_execute("COMMIT").await
    }

    /// Whether this process holds one of our locks from now on.
    pub(super) async fn hold(&mut self, what: i32) -> Result<bool, Error> {
        let text = format!("SELECT pg_try_advisory_lock({LOCKS}, {what})");
        let statement = self.prepared(text).await?;
        self.client.query_one(&statement, &[]).await?.try_get(0)
    }

    /// Whether it is there.
    pub(super) async fn look(&mut self) -> Result<(), Error> {
        self.client.batch_execute("").await
    }

    /// Fails unless there is room for some more than what is written at once as a rule. Nothing is kept of it.
    pub(super) async fn find_room(&mut self) -> Result<(), Error> {
        let transaction = self.client.transaction().await?;
        // A megabyte that does not get shorter when it is compressed.
        let text = "CREATE TABLE crosstalk.room AS SELECT sha512(number::text::bytea) FROM generate_series(1, 10000) AS number";
        transaction.batch_execute(text).await?;
        transaction.rollback().await
    }

    /// Makes tables that are not there.
    pub(super) async fn make_tables(&mut self, trees: &[Tree]) -> Result<(), Error> {
        for tree in trees {
            let there = self.client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table(*tree)]).await?;
            if !there.try_get::<_, bool>(0)? {
                let text = format!(
                    "CREATE SCHEMA IF NOT EXISTS crosstalk; \
                     CREATE TABLE {} (key bytea PRIMARY KEY, value bytea NOT NULL)",
                    table(*tree)
                );
                self.client.batch_execute(&text).await?;
            }
        }
        Ok(())
    }

    /// The values of some keys, in their order.
    pub(super) async fn get(&mut self, tree: Tree, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let text = format!("SELECT key, value FROM {} WHERE key = ANY($1)", table(tree));
        let statement = self.prepared(text).await?;
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for row in self.client.query(&statement, &[&keys]).await? {
            found.insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    /// The first entries from a key on whose keys begin with a prefix.
    pub(super) async fn scan(
        &mut self,
        tree: Tree,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let (table, limit) = (table(tree), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = match behind(prefix) {
            Some(end) => {
                let text = format!(
                    "SELECT key, value FROM {table} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
                );
                let statement = self.prepared(text).await?;
                self.client.query(&statement, &[&start, &end, &limit]).await?
            }
            None => {
                let text = format!("SELECT key, value FROM {table} WHERE key >= $1 ORDER BY key LIMIT $2");
                let statement = self.prepared(text).await?;
                self.client.query(&statement, &[&start, &limit]).await?
            }
        };
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// How many entries a tree has.
    pub(super) async fn count(&mut self, tree: Tree) -> Result<usize, Error> {
        let statement = self.prepared(format!("SELECT count(*) FROM {}", table(tree))).await?;
        let count: i64 = self.client.query_one(&statement, &[]).await?.try_get(0)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Writes, within the transaction.
    pub(super) async fn write(&mut self, writes: &WriteSet) -> Result<(), Error> {
        let mut trees: BTreeMap<Tree, Rows<'_>> = BTreeMap::new();
        for (tree, key, value) in writes.iter() {
            let rows = trees.entry(tree).or_default();
            match value {
                Some(value) => {
                    rows.keys.push(key);
                    rows.values.push(value);
                }
                None => rows.gone.push(key),
            }
        }
        for (tree, Rows { keys, values, gone }) in &trees {
            let table = table(*tree);
            if !keys.is_empty() {
                let text = format!(
                    "INSERT INTO {table} SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value"
                );
                let statement = self.prepared(text).await?;
                self.client.execute(&statement, &[keys, values]).await?;
            }
            if !gone.is_empty() {
                let statement = self.prepared(format!("DELETE FROM {table} WHERE key = ANY($1)")).await?;
                self.client.execute(&statement, &[gone]).await?;
            }
        }
        Ok(())
    }

    /// Says farewell, so that locks are free at once.
    pub(super) async fn close(self) {
        drop(self.client);
        let _ = self.task.await;
    }

    async fn prepared(&mut self, text: String) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(&text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&text).await?;
        self.statements.insert(text, statement.clone());
        Ok(statement)
    }
}

/// What becomes of a table.
#[derive(Default)]
struct Rows<'a> {
    keys: Vec<&'a [u8]>,
    values: Vec<&'a [u8]>,
    gone: Vec<&'a [u8]>,
}

fn table(tree: Tree) -> String {
    format!("crosstalk.\"{}\"", tree.name())
}

/// The first key behind all that begin with a prefix; nothing if there is none.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_behind_a_prefix() {
        assert_eq!(behind(b""), None);
        assert_eq!(behind(&[255, 255]), None);
        assert_eq!(behind(&[1, 255]), Some(vec![2]));
        assert_eq!(behind(&[1, 2]), Some(vec![1, 3]));
    }
}

//! What libp2p-kad asks for records: the bounded store (`crate::dht`), which verifies whatever is put.

use std::borrow::Cow;
use std::iter::Empty;
use std::time::{SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

use super::super::address;
use crate::dht::{Key, Put, Refused, Store, Value};
use crate::id::NodeId;
use crate::record::{Context, NoCertificates, RevocationSet};
use crate::time::TrustedTime;

/// What values are judged by. Before the core has said anything: the system's clock, and nothing is revoked.
#[derive(Debug, Default, Clone)]
pub(super) struct Judge {
    /// Milliseconds from the system's clock to the trusted one.
    ahead: i64,
    unsure: bool,
    revocations: RevocationSet,
}

impl Judge {
    pub(super) fn new(time: TrustedTime, revocations: RevocationSet) -> Self {
        Self { ahead: time.millis.wrapping_sub(wall()).cast_signed(), unsure: !time.credible, revocations }
    }

    pub(super) fn time(&self) -> TrustedTime {
        let millis = wall().saturating_add_signed(self.ahead);
        TrustedTime { credible: !self.unsure, ..TrustedTime::certain(millis) }
    }

    fn context(&self) -> Context<'_> {
        let (time, revocations) = (self.time(), &self.revocations);
        Context { time, certificates: &NoCertificates, revocations, enforce_end: true }
    }

    /// Whether a value belongs at its key and every signature in it fits.
    pub(super) fn verify(&self, key: &Key, value: &[u8]) -> std::result::Result<Value, Refused> {
        Value::verify(key, value, &self.context())
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// See the file's head.
pub(in crate::swarm) struct Records {
    pub(super) store: Store,
    pub(super) judge: Judge,
    /// Whose request is being handled: libp2p-kad does not tell the store.
    pub(super) source: Option<NodeId>,
}

impl Records {
    pub(super) fn new(store: Store) -> Self {
        Self { store, judge: Judge::default(), source: None }
    }

    /// Takes a value of our own.
    pub(super) fn put_own(
        &mut self,
        key: Key,
        value: &[u8],
        until: u64,
    ) -> std::result::Result<Put, Refused> {
        self.store.put(key, value, None, until, &self.judge.context())
    }

    pub(super) fn restore(&mut self, key: Key, value: &[u8], ends: u64) {
        self.store.restore(key, value, ends, &self.judge.context());
    }

    pub(super) fn revoke(&mut self) {
        self.store.revoke(&self.judge.revocations, self.judge.time());
    }
}

impl RecordStore for Records {
    // Both are for jobs of libp2p-kad that are switched off.
    type RecordsIter<'a> = Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let found = self.store.get(&Key::from_slice(key.as_ref())?, self.judge.time())?;
        Some(Cow::Owned(Record::new(key.clone(), found.to_vec())))
    }

    /// An error resets the putter's stream, so that it counts no copy here. What is merged into, or older than, what
    /// stands already is held, and so acknowledged.
    fn put(&mut self, record: Record) -> Result<()> {
        let Some(key) = Key::from_slice(record.key.as_ref()) else { return Err(Error::ValueTooLarge) };
        let put = self.store.put(key, &record.value, self.source, u64::MAX, &self.judge.context());
        put.map(drop).map_err(|refused| {
            let from = self.source.map(|node| node.to_string()).unwrap_or_default();
            tracing::debug!(%key, from, %refused, "a value was not taken");
            Error::MaxRecords
        })
    }

    /// Values go when they end, by our clock; never because libp2p-kad believes that they have.
    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    /// Always refused: nothing of ours is found by provider records, and anybody could put any number of them, as who
    /// "provides" what can't be verified.
    fn add_provider(&mut self, _: ProviderRecord) -> Result<()> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

/// The node behind a peer, for counting its puts.
pub(super) fn source(peer: &PeerId) -> Option<NodeId> {
    address::node(peer)
}

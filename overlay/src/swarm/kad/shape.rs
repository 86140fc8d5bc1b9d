//! The shape of both tables: what libp2p-kad is told.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::kad::{self, BucketInserts, Caching, StoreInserts};

use crate::dht;

pub(super) const COPIES: NonZeroUsize = NonZeroUsize::new(dht::COPIES).unwrap();
pub(super) const PARALLEL: NonZeroUsize = NonZeroUsize::new(dht::PARALLEL).unwrap();
pub(super) const BUCKET: NonZeroUsize = NonZeroUsize::new(dht::BUCKET).unwrap();
/// A value of 36 KiB, and 20 nodes with their addresses.
pub(super) const MAX_PACKET: usize = 64 * 1024;
/// How long a node may take to answer, and a lookup in all.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
pub(super) const LOOKUP: Duration = Duration::from_secs(20);

/// The name of a table's protocol on the wire.
pub(super) const fn protocol(kind: dht::Table) -> StreamProtocol {
    match kind {
        dht::Table::Lan => StreamProtocol::new("/crosstalk/lan/kad/1"),
        dht::Table::Wan => StreamProtocol::new("/crosstalk/kad/1"),
    }
}

pub(super) fn config(kind: dht::Table) -> kad::Config {
    let mut config = kad::Config::new(protocol(kind));
    config
        .set_replication_factor(COPIES)
        .set_parallelism(PARALLEL)
        .set_kbucket_size(BUCKET)
        .set_max_packet_size(MAX_PACKET)
        .set_substreams_timeout(ANSWER)
        .set_query_timeout(LOOKUP)
        // Whoever opens a stream to us is a peer, but only who answers is a server: `identified` decides.
        .set_kbucket_inserts(BucketInserts::Manual)
        // `FilterBoth` acknowledges before anybody has looked at the value.
        .set_record_filtering(StoreInserts::Unfiltered)
        // With a life of libp2p-kad's own, what is put beyond the closest nodes is acknowledged and dropped.
        .set_record_ttl(None)
        // Holders spread values by `upkeep`. The job of libp2p-kad remembers each key that anybody has put, without bound.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_caching(Caching::Disabled);
    config
}

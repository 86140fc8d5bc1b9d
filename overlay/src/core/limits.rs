//! The bounds of the core and what it counted. *Pure.*

use std::collections::BTreeMap;

use crate::mailbox::Bounds;
use crate::time::HOUR;

/// What the core holds at most. The rule for "full" stands at each bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connected peers; a further one is closed. Default 64.
    pub connections: usize,
    /// Dials under way; further ones wait. Default 8.
    pub dials: usize,
    /// Discovered nodes; of those that were never connected and nobody hears the one not seen for longest goes, of the others
    /// only when all are such. Default 1,024.
    pub candidates: usize,
    /// Addresses of a discovered node; the oldest goes. Default 8.
    pub addresses: usize,
    /// Users that one peer may prove; further ones are ignored. Default 4,096.
    pub users_per_peer: usize,
    /// Users whose record is remembered; the one that changed longest ago goes, unless it is live, is
    /// [kept](super::Overlay::keep), or a message waits for it. Default 8,192, at most 32 KiB each, usually 1 KiB.
    pub users: usize,
    /// Bytes of all remembered records; the same go. When half of it is used, a peer whose users, with those it told of,
    /// take a quarter may not bring more. Default 16 MiB.
    pub user_bytes: usize,
    /// Waiting messages of one user; a further one is not accepted. Default 2,000.
    pub outbox_per_user: usize,
    /// Waiting messages of all users. Default 20,000.
    pub outbox: usize,
    /// Bytes of all waiting messages. Default 64 MiB.
    pub outbox_bytes: usize,
    /// Envelopes without receipt between two devices; further ones wait. Default 32.
    pub flight: usize,
    /// Envelopes without receipt to one peer. Default 256.
    pub flight_per_peer: usize,
    /// Bytes of envelopes without receipt to one peer; when so many are reached, further ones wait. Default 768 KiB, which
    /// with the last one is 1 MiB at most: half of what may wait to be written to a peer.
    pub flight_bytes_per_peer: usize,
    /// Bytes of live stanzas to one peer at once, and then in each second; a further one is refused. Default 512 KiB.
    pub live_bytes_per_peer: usize,
    /// Bytes of envelopes that came too early and are held back; beyond, they are dropped and will be sent again.
    /// Default 8 MiB.
    pub held_back_bytes: usize,
    /// Pairs of a device elsewhere and one of ours whose order is remembered; the one used longest ago is forgotten, with
    /// 128 rows on the disk. Default 8,192, which is 20 MiB: 2 KiB each for the message ids, and some 400 bytes.
    pub pairs: usize,
    /// Pairs of one of our devices and one elsewhere that have had places in an order. None can be forgotten, as the next
    /// place would be taken for a repeated one; what is written to further devices waits in the outbox until its time is over.
    /// Default 16,384, which is 5 MiB: some 300 bytes each.
    pub lanes: usize,
    /// Devices elsewhere on the link that are remembered by what others tell on; further ones wait until one has been
    /// away. Default 1,024.
    pub relayed_users: usize,
    /// Of these, devices on one node; one that has left it makes room. Default 32.
    pub relayed_users_per_node: usize,
    /// Nodes whose statements are told on. Default 512.
    pub relayed_nodes: usize,
    /// Bytes of all that is told on. Default 4 MiB.
    pub relayed_bytes: usize,
    /// Domains whose authority is remembered; further first sights are not. Default 1,024.
    pub authorities: usize,
    /// What is held for users who are away; a further item is refused. Defaults at [`Bounds`].
    pub mailbox: Bounds,
    /// Messages and receipts on their way to mailboxes; further ones wait. Default 1,024.
    pub deposits: usize,
    /// Their bytes. Default 8 MiB.
    pub deposit_bytes: usize,
    /// Messages to one device that wait in mailboxes at once; further ones wait here. Default 256.
    pub deposited_per_device: usize,
    /// Names of items that other nodes say they hold for users of this one; further ones are not fetched yet. Default
    /// 8,192.
    pub listed: usize,
    /// How often is looked for nodes that have to hold something as others are gone, milliseconds. Default 1 hour.
    pub repair: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            dials: 8,
            candidates: 1_024,
            addresses: 8,
            users_per_peer: 4_096,
            users: 8_192,
            user_bytes: 16 * 1_024 * 1_024,
            outbox_per_user: 2_000,
            outbox: 20_000,
            outbox_bytes: 64 * 1_024 * 1_024,
            flight: 32,
            flight_per_peer: 256,
            flight_bytes_per_peer: 768 * 1_024,
            live_bytes_per_peer: 512 * 1_024,
            held_back_bytes: 8 * 1_024 * 1_024,
            pairs: 8_192,
            lanes: 16_384,
            relayed_users: 1_024,
            relayed_users_per_node: 32,
            relayed_nodes: 512,
            relayed_bytes: 4 * 1_024 * 1_024,
            authorities: 1_024,
            mailbox: Bounds::default(),
            deposits: 1_024,
            deposit_bytes: 8 * 1_024 * 1_024,
            deposited_per_device: 256,
            listed: 8_192,
            repair: HOUR,
        }
    }
}

/// How often what happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that left.
    pub frames_out: u64,
    /// Frames that arrived.
    pub frames_in: u64,
    /// Messages handed to the node.
    pub delivered: u64,
    /// Envelopes that had been taken before.
    pub repeated: u64,
    /// Envelopes sent again.
    pub resent: u64,
    /// What was dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What an honest peer never does, by reason.
    pub offences: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub(crate) fn drop(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    pub(crate) fn offence(&mut self, reason: &'static str) {
        *self.offences.entry(reason).or_default() += 1;
    }
}

//! What CrossTalk nodes say to each other, and how one node decides what to say next.
//!
//! | file | owns |
//! | --- | --- |
//! | [`id`] | keys as names: users, devices, nodes, authorities, messages |
//! | [`time`] | the two clocks, the hybrid logical clock, trusted time |
//! | [`keys`] | the only types that sign or open |
//! | [`record`] | signed statements; unverified becomes verified in one place |
//! | [`seal`], [`envelope`] | a message sealed for one device |
//! | [`join`] | the code by which a further device joins |
//! | [`authority`] | what the authority of a domain issues, and what that is worth |
//! | [`enrol`] | what a laptop and the server of a domain say to each other |
//! | [`dht`] | keys, questions and answers of the hash table |
//! | [`mailbox`] | what a node holds for those who are away |
//! | [`wire`] | frames and bytes |
//! | [`probe`] | datagrams that say "still here" where TCP is slow |
//! | [`dht`] | keys and values of the distributed hash table, and the bounded store of what a node holds |
//! | [`mutant`] | deliberate bugs, for the simulations only |
//! | [`verified`] | good signatures remembered, for the simulations only |
//! | [`traffic`] | what was sent in the last minute |
//! | [`core`] | the pure state machine: inputs in, outputs out |
//! | `swarm` (feature `swarm`) | the only files that name libp2p |
//!
//! Invariants: nothing unverified is stored, forwarded or shown; everything but `swarm` is *pure* (time, seed and
//! loaded state are arguments; writes and frames are outputs); every map, queue and record has a stated bound.
//! The bytes on the wire are specified in `overlay/PROTOCOL.md`, with test vectors in `overlay/vectors`.

pub mod authority;
pub mod core;
pub mod dht;
pub mod enrol;
pub mod envelope;
pub mod id;
pub mod join;
pub mod keys;
pub mod mailbox;
pub mod mutant;
pub mod probe;
pub mod record;
pub mod seal;
#[cfg(feature = "swarm")]
pub mod swarm;
pub mod time;
pub mod traffic;
pub mod verified;
pub mod wire;

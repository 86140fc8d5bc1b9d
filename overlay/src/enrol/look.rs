//! What a laptop and its user's server say to each other about presence: what the device shows goes there as it is signed, and of
//! those whom the user may see, what their devices said last comes back (`PROTOCOL.md` §13). *Pure.*

/// Presence records that a server tells of in one answer, by their marks.
pub const MAX_LOOKED: usize = 2_048;

/// Own presence for the server, and which of others' the laptop lacks.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Look {
    /// Of [`super::Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The device's signed PresenceRecord; empty: as the server has it.
    #[prost(bytes = "vec", tag = "2")]
    pub presence: Vec<u8>,
    /// Marks, concatenated, at most [`super::MAX_FETCH`].
    #[prost(bytes = "vec", tag = "3")]
    pub marks: Vec<u8>,
}

/// See [`Look`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Looked {
    /// For so many of the marks, from the first; the others have to be asked for again.
    #[prost(uint32, tag = "1")]
    pub marks: u32,
    /// What devices of others said last. Of marks that stand for nothing any more nothing is said.
    #[prost(message, repeated, tag = "2")]
    pub seen: Vec<Seen>,
}

/// What a device showed last.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Seen {
    /// Its signed PresenceRecord.
    #[prost(bytes = "vec", tag = "1")]
    pub presence: Vec<u8>,
    /// Its signed DeviceCert.
    #[prost(bytes = "vec", tag = "2")]
    pub certificate: Vec<u8>,
}

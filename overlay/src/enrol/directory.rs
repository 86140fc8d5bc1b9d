//! The directory of a domain: a user asks the server who of the domain has such a name (`PROTOCOL.md` §15). *Pure.*

/// Bytes of what is searched for.
pub const MAX_SEARCH: usize = 255;
/// People in one answer.
pub const MAX_PEOPLE: usize = 50;

/// What a server says of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Directory {
    /// It does not know of directories.
    Unknown = 0,
    /// It has none, but keeps what users say about it.
    No = 1,
    /// Its users may search it.
    Yes = 2,
}

/// Who of the domain has such a name?
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Search {
    /// Of [`super::Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Beginnings of words of nickname, full name or address, at most [`MAX_SEARCH`] bytes; whoever has all of them is meant.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// See [`Search`]: all of them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct People {
    /// By address, at most [`MAX_PEOPLE`].
    #[prost(message, repeated, tag = "1")]
    pub people: Vec<Person>,
}

/// Somebody who has agreed to be found.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Person {
    /// The address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The nickname.
    #[prost(string, tag = "2")]
    pub nickname: String,
    /// Empty: not shown.
    #[prost(string, tag = "3")]
    pub full_name: String,
}

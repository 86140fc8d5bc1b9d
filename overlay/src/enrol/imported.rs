//! What a user brought along from another server (XEP-0227), on its way to the first laptop (`PROTOCOL.md` §13). *Pure.*

/// A page of what was brought along, in the order of its pages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Brought {
    /// Contacts.
    #[prost(message, repeated, tag = "1")]
    pub contacts: Vec<BroughtContact>,
    /// Blocked addresses.
    #[prost(string, repeated, tag = "2")]
    pub blocked: Vec<String>,
    /// Shown to others; empty: none.
    #[prost(string, tag = "3")]
    pub nickname: String,
    /// A vCard (XEP-0054) as XML; empty: none.
    #[prost(bytes = "vec", tag = "4")]
    pub vcard: Vec<u8>,
}

/// A contact as RFC 6121 has it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct BroughtContact {
    /// Bare address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Given by the user; empty: none.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Groups.
    #[prost(string, repeated, tag = "3")]
    pub groups: Vec<String>,
    /// The user sees the contact.
    #[prost(bool, tag = "4")]
    pub to: bool,
    /// The contact sees the user.
    #[prost(bool, tag = "5")]
    pub from: bool,
    /// The user has asked to see the contact.
    #[prost(bool, tag = "6")]
    pub ask: bool,
    /// The contact has asked to see the user, and is not listed unless one of the others is true.
    #[prost(bool, tag = "7")]
    pub pending_in: bool,
    /// In the contact list.
    #[prost(bool, tag = "8")]
    pub listed: bool,
}

/// What did my user bring along?
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Collect {
    /// Of [`super::Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Pages up to this one are durable at the device, and the server need not keep them.
    #[prost(uint64, tag = "2")]
    pub taken: u64,
}

/// The next page.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Collected {
    /// Its number, from 1; 0: there is none any more.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// What is on it.
    #[prost(message, optional, tag = "2")]
    pub page: Option<Brought>,
}

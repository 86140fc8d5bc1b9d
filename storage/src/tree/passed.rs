//! What server processes that share a database pass to each other: questions of laptops for the one that keeps the link to other
//! servers, and its answers. Each row is gone within seconds. *Pure.*

use std::fmt;

use crate::Tree;
use crate::codec::Stored;

/// Something that one process says to another.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Passed {
    /// When, Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// What.
    #[prost(oneof = "Word", tags = "2, 3, 4, 5, 6, 7")]
    pub word: Option<Word>,
}

/// See [`Passed`].
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Word {
    /// At [`LEADER`]: who leads.
    #[prost(message, tag = "2")]
    Leads(Leads),
    /// At [`for_leader`]: a laptop, proven to the process that passes it on, asks.
    #[prost(message, tag = "3")]
    Asked(Asked),
    /// At [`for_leader`]: a user has blocked somebody, or not any more.
    #[prost(message, tag = "4")]
    Blocked(Blocks),
    /// At [`for_process`]: the answer to the question of that number, as it goes to the laptop.
    #[prost(bytes = "vec", tag = "5")]
    Answer(Vec<u8>),
    /// At [`news_of`]: something waits for users of that node.
    #[prost(bool, tag = "6")]
    News(bool),
    /// At [`for_leader`]: all that was kept of that user is deleted.
    #[prost(bytes = "vec", tag = "7")]
    Forgotten(Vec<u8>),
}

/// The process that leads.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Leads {
    /// One more each time that a process begins to lead.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Its node.
    #[prost(bytes = "vec", tag = "2")]
    pub node: Vec<u8>,
}

/// A question of a laptop about the outside.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Asked {
    /// The laptop's node.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// Its user.
    #[prost(bytes = "vec", tag = "2")]
    pub user: Vec<u8>,
    /// The device.
    #[prost(bytes = "vec", tag = "3")]
    pub device: Vec<u8>,
    /// The name that the user had when the device proved itself.
    #[prost(string, tag = "4")]
    pub name: String,
    /// The question, as it came.
    #[prost(bytes = "vec", tag = "5")]
    pub ask: Vec<u8>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({} bytes)", self.ask.len())
    }
}

/// A change of a block list (XEP-0191).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Blocks {
    /// Whose.
    #[prost(bytes = "vec", tag = "1")]
    pub user: Vec<u8>,
    /// The address.
    #[prost(string, tag = "2")]
    pub jid: String,
}

impl Stored for Passed {
    const TREE: Tree = Tree::Passed;
    const VERSION: u8 = 1;
}

/// Where it stands who leads.
pub const LEADER: &[u8] = b"l";
/// What the keys of [`for_leader`] begin with.
pub const FOR_LEADER: &[u8] = b"a";
const FOR_PROCESS: u8 = b"r"[0];
const NEWS: u8 = b"n"[0];

/// Key of something that a process says to whoever leads; later ones of it have greater numbers.
pub fn for_leader(process: &[u8; 32], number: u64) -> Vec<u8> {
    [FOR_LEADER, process, &number.to_be_bytes()].concat()
}

/// Process and number of a key of [`for_leader`], or of [`for_process`].
pub fn read(key: &[u8]) -> Option<([u8; 32], u64)> {
    let (process, number) = key.get(1..)?.split_at_checked(32)?;
    Some((process.try_into().ok()?, u64::from_be_bytes(number.try_into().ok()?)))
}

/// Key of the answer to the question of that number.
pub fn for_process(process: &[u8; 32], number: u64) -> Vec<u8> {
    [&all_for(process)[..], &number.to_be_bytes()].concat()
}

/// What the keys of [`for_process`] of one process begin with.
pub fn all_for(process: &[u8; 32]) -> Vec<u8> {
    [&[FOR_PROCESS], &process[..]].concat()
}

/// Key of news for a node that is connected to a process.
pub fn news_of(process: &[u8; 32], node: &[u8; 32]) -> Vec<u8> {
    [&all_news_of(process)[..], node].concat()
}

/// What the keys of [`news_of`] of one process begin with.
pub fn all_news_of(process: &[u8; 32]) -> Vec<u8> {
    [&[NEWS], &process[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn golden_bytes() {
        let passed = |word| Passed { at: 5, word: Some(word) };
        let leads = passed(Word::Leads(Leads { epoch: 3, node: vec![7] }));
        assert_eq!(encode(&leads), b"\x01\x08\x05\x12\x05\x08\x03\x12\x01\x07");
        let asked = Asked { node: vec![1], user: vec![2], device: vec![3], name: "a".into(), ask: vec![4] };
        let asked = passed(Word::Asked(asked));
        assert_eq!(
            encode(&asked),
            b"\x01\x08\x05\x1a\x0f\x0a\x01\x01\x12\x01\x02\x1a\x01\x03\x22\x01a\x2a\x01\x04"
        );
        let blocked = passed(Word::Blocked(Blocks { user: vec![2], jid: "b".into() }));
        assert_eq!(encode(&blocked), b"\x01\x08\x05\x22\x06\x0a\x01\x02\x12\x01b");
        let answer = passed(Word::Answer(vec![9]));
        assert_eq!(encode(&answer), b"\x01\x08\x05\x2a\x01\x09");
        let news = passed(Word::News(true));
        assert_eq!(encode(&news), b"\x01\x08\x05\x30\x01");
        let forgotten = passed(Word::Forgotten(vec![2]));
        assert_eq!(encode(&forgotten), b"\x01\x08\x05\x3a\x01\x02");
        for each in [leads, asked, blocked, answer, news, forgotten] {
            assert_eq!(decode(&encode(&each)), Ok(each));
        }
    }

    #[test]
    fn keys_are_read_back_and_kept_apart() {
        let process = [7; 32];
        assert_eq!(read(&for_leader(&process, 300)), Some((process, 300)));
        assert_eq!(read(&for_process(&process, 300)), Some((process, 300)));
        assert!(for_leader(&process, 255) < for_leader(&process, 256));
        assert!(for_process(&process, 1).starts_with(&all_for(&process)));
        assert!(news_of(&process, &process).starts_with(&all_news_of(&process)));
        assert!(!news_of(&process, &process).starts_with(&all_for(&process)));
        assert_eq!(read(LEADER), None);
    }
}

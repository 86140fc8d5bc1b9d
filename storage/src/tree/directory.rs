//! What the directory of a domain shows of its users: what each has agreed to, and at the server who stands in it. *Pure.*

use super::roster::Edit;
use crate::Tree;
use crate::codec::Stored;

/// How much of a user is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Shown {
    /// The user does not stand in the directory.
    Nothing = 0,
    /// Address and nickname.
    Nickname = 1,
    /// And the full name.
    FullName = 2,
}

/// What a user has agreed to, by one of its devices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Listing {
    /// How much.
    #[prost(enumeration = "Shown", tag = "1")]
    pub shown: i32,
    /// As it is shown; empty with [`Shown::Nothing`].
    #[prost(string, tag = "2")]
    pub nickname: String,
    /// As it is shown; empty but with [`Shown::FullName`].
    #[prost(string, tag = "3")]
    pub full_name: String,
    /// When that was said, and by which device.
    #[prost(message, optional, tag = "4")]
    pub edit: Option<Edit>,
}

/// Somebody who stands in the directory; keyed by the name before the `@`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Person {
    /// As it is shown.
    #[prost(string, tag = "1")]
    pub nickname: String,
    /// As it is shown; empty: not.
    #[prost(string, tag = "2")]
    pub full_name: String,
    /// The words by which the person is found, as they stand in the index.
    #[prost(string, repeated, tag = "3")]
    pub words: Vec<String>,
}

impl Stored for Person {
    const TREE: Tree = Tree::Person;
    const VERSION: u8 = 1;
}

/// That somebody is found by a word; keyed by [`found_by`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct FoundBy {}

impl Stored for FoundBy {
    const TREE: Tree = Tree::FoundBy;
    const VERSION: u8 = 1;
}

/// Key of a word and the name before the `@`; no word has a zero byte.
pub fn found_by(word: &str, name: &str) -> Vec<u8> {
    [word.as_bytes(), &[0], name.as_bytes()].concat()
}

/// The name in such a key.
pub fn read_found_by(key: &[u8]) -> Option<&str> {
    let at = key.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(key.get(at + 1..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn golden_bytes() {
        let person = Person { nickname: "A".into(), full_name: "B".into(), words: vec!["a".into()] };
        assert_eq!(encode(&person), b"\x01\x0a\x01A\x12\x01B\x1a\x01a");
        assert_eq!(decode::<Person>(&encode(&person)), Ok(person));
        assert_eq!(encode(&FoundBy {}), b"\x01");
    }

    #[test]
    fn the_index_is_in_the_order_of_words() {
        let key = found_by("anna", "am");
        assert!(key.starts_with(b"ann") && key < found_by("annab", "aa"));
        assert_eq!(read_found_by(&key), Some("am"));
        assert_eq!(read_found_by(b"anna"), None);
    }
}

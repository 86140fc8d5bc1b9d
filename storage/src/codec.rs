//! Stored values: one version byte, then a protobuf message; *pure*.

use crate::Tree;

/// A shape that is stored in a tree.
///
/// A changed shape gets the next version, and `migrate` learns to read the one before; golden bytes of
/// every version are kept in a test for ever. Fields that are only added need no new version.
pub trait Stored: prost::Message + Default {
    /// The tree whose values have this shape.
    const TREE: Tree;
    /// The version written today, from 1.
    const VERSION: u8;

    /// Reads a value of an older version.
    ///
    /// # Errors
    ///
    /// [`CodecError::Unknown`] if there was never such a version, [`CodecError::Malformed`].
    fn migrate(version: u8, bytes: &[u8]) -> Result<Self, CodecError> {
        let _ = bytes;
        Err(CodecError::Unknown { tree: Self::TREE, version })
    }
}

/// Why a value was not understood. The bytes themselves are never part of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("an empty value in tree {}: it was not written by this program", tree.name())]
    Empty {
        /// The tree.
        tree: Tree,
    },
    /// Written by a newer program.
    #[error("a value of version {found} in tree {}, this program reads up to {supported}: start the newer program", tree.name())]
    Newer {
        /// The tree.
        tree: Tree,
        /// Its version.
        found: u8,
        /// The newest version that this program reads.
        supported: u8,
    },
    /// A version that never was.
    #[error("a value of unknown version {version} in tree {}", tree.name())]
    Unknown {
        /// The tree.
        tree: Tree,
        /// Its version.
        version: u8,
    },
    /// Not a message of this shape.
    #[error("a malformed value in tree {}: {source}", tree.name())]
    Malformed {
        /// The tree.
        tree: Tree,
        /// What the decoder said.
        source: prost::DecodeError,
    },
}

/// The bytes to store.
pub fn encode<T: Stored>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + value.encoded_len());
    bytes.push(T::VERSION);
    bytes.extend(value.encode_to_vec());
    bytes
}

/// Reads stored bytes, of this version or an older one.
///
/// # Errors
///
/// Each variant of [`CodecError`]; `Newer` must stop the program before it overwrites anything.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let tree = T::TREE;
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty { tree })?;
    match version.cmp(&T::VERSION) {
        std::cmp::Ordering::Greater => Err(CodecError::Newer { tree, found: version, supported: T::VERSION }),
        std::cmp::Ordering::Less => T::migrate(version, body),
        std::cmp::Ordering::Equal => T::decode(body).map_err(|source| CodecError::Malformed { tree, source }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// Version 1: a name in one field.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Old {
        #[prost(string, tag = "1")]
        name: String,
    }

    /// Version 2: the name in two fields.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Person {
        #[prost(string, tag = "1")]
        given: String,
        #[prost(string, tag = "2")]
        family: String,
    }

    impl Stored for Person {
        const TREE: Tree = Tree::VCard;
        const VERSION: u8 = 2;

        fn migrate(version: u8, bytes: &[u8]) -> Result<Self, CodecError> {
            if version != 1 {
                return Err(CodecError::Unknown { tree: Self::TREE, version });
            }
            let old =
                Old::decode(bytes).map_err(|source| CodecError::Malformed { tree: Self::TREE, source })?;
            let (given, family) = old.name.split_once(' ').unwrap_or((&old.name, ""));
            Ok(Self { given: given.to_owned(), family: family.to_owned() })
        }
    }

    fn juliet() -> Person {
        Person { given: "Juliet".to_owned(), family: "Capulet".to_owned() }
    }

    #[test]
    fn golden_bytes_of_every_version() {
        assert_eq!(encode(&juliet()), b"\x02\x0a\x06Juliet\x12\x07Capulet");
        assert_eq!(decode::<Person>(b"\x02\x0a\x06Juliet\x12\x07Capulet"), Ok(juliet()));
        assert_eq!(decode::<Person>(b"\x01\x0a\x0eJuliet Capulet"), Ok(juliet()));
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let tree = Tree::VCard;
        assert_eq!(decode::<Person>(b""), Err(CodecError::Empty { tree }));
        assert_eq!(decode::<Person>(b"\x03"), Err(CodecError::Newer { tree, found: 3, supported: 2 }));
        assert_eq!(decode::<Person>(b"\x00"), Err(CodecError::Unknown { tree, version: 0 }));
        assert!(matches!(decode::<Person>(b"\x02\x0a\x06Ju"), Err(CodecError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode::<Person>(&bytes);
        }
    }
}

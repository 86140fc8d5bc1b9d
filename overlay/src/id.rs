//! Names that are keys: users, devices, nodes, authorities; and message ids. *Pure.*

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The domain of addresses that need no server: `<xid>@id.internal`.
pub const XID_DOMAIN: &str = "id.internal";

/// Writes `bytes` as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads strictly lower-case hexadecimal of exactly `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $size:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// Takes the bytes if there are as many as needed.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// All bytes in lower-case hexadecimal: for addresses and stores, not for logs.
            pub fn to_hex(&self) -> String {
                hex(&self.0)
            }

            /// Reads what [`Self::to_hex`] wrote; strictly lower case.
            pub fn from_hex(text: &str) -> Option<Self> {
                unhex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}…", hex(&self.0[..4]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

id! {
    /// A user: the public Ed25519 user key.
    UserId, 32
}
id! {
    /// A device, that is one user on one node: its public Ed25519 device key.
    DeviceId, 32
}
id! {
    /// A node: its public Ed25519 node key, which libp2p makes a PeerId of.
    NodeId, 32
}
id! {
    /// An authority: the public Ed25519 key that gives names under a domain.
    AuthorityId, 32
}
id! {
    /// A device's presence in the hash table: the public Ed25519 key that signs it. Only contacts know whose it is.
    PresenceId, 32
}
id! {
    /// A message. The same message sent again has the same id.
    MessageId, 16
}
id! {
    /// What was published on the link: the first half of the SHA-256 of its bytes.
    NewsId, 16
}
id! {
    /// A held item: the first half of the SHA-256 of its bytes, so that nobody passes off another for it.
    ItemId, 16
}

impl NewsId {
    /// The name of these bytes.
    pub fn of(news: &[u8]) -> Self {
        Self(Sha256::digest(news).first_chunk().copied().unwrap_or_default())
    }
}

impl UserId {
    /// The local part of the user's self-certifying address (XEP-0516): `00` and 64 hexadecimal digits.
    pub fn xid(&self) -> String {
        format!("00{}", self.to_hex())
    }

    /// Reads an XID; strictly lower case, key type `00` (Ed25519) only.
    pub fn from_xid(xid: &str) -> Option<Self> {
        xid.strip_prefix("00").and_then(Self::from_hex)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn xid_has_type_prefix_and_reads_back() {
        let user = UserId::from_bytes([0xab; 32]);
        assert_eq!(user.xid(), format!("00{}", "ab".repeat(32)));
        assert_eq!(UserId::from_xid(&user.xid()), Some(user));
    }

    #[test]
    fn xid_is_strict() {
        let good = UserId::from_bytes([0xab; 32]).xid();
        for bad in [good.to_uppercase(), format!("01{}", &good[2..]), good[..64].into(), format!("{good}0")] {
            assert_eq!(UserId::from_xid(&bad), None, "{bad}");
        }
        assert_eq!(UserId::from_xid(&format!("00{}é", "a".repeat(62))), None);
    }

    #[test]
    fn printing_shortens() {
        let node = NodeId::from_bytes([0x12; 32]);
        assert_eq!(node.to_string(), "12121212…");
        assert_eq!(format!("{node:?}"), "NodeId(12121212…)");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            if let Some(user) = UserId::from_xid(&text) {
                prop_assert_eq!(user.xid(), text);
            }
        }
    }
}

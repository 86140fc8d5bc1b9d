//! An invitation: the link that a server makes for one user, typed or scanned. *Pure.*
//!
//! It has 128 secret bits, which count once, and says everything that has to be trusted: the domain, the authority's
//! key, which the laptop pins, and the server's node id, which the handshake proves.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::id::{AuthorityId, NodeId};
use crate::join::{from_signs, to_signs};
use crate::record::domain_of;

/// Bytes of the secret.
pub const TOKEN: usize = 16;
/// Bytes that tell a mistyped link.
const CHECK: usize = 2;
/// Addresses of the server at most, and bytes of each.
const MAX_ADDRESSES: usize = 4;
const MAX_ADDRESS: usize = 128;
/// What stands before the link, so that it is told from other text.
const PREFIX: &str = "CROSSTALK-ENROL:";
/// Signs of a link that is looked at, at most.
const LONGEST: usize = 2_048;

/// An invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Counts once.
    pub token: Zeroizing<[u8; TOKEN]>,
    /// The address that the user gets.
    pub address: String,
    /// To be pinned for the domain of that address.
    pub authority: AuthorityId,
    /// The server.
    pub server: NodeId,
    /// Multiaddresses of the server, at most four; on the link it is found without.
    pub places: Vec<String>,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({})", self.address)
    }
}

/// Why something typed is no invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no link of `crosstalk authority invite`, or a part of it is missing or mistyped: copy all of it"
)]
pub struct NoInvitation;

/// What a server keeps of a token: who reads its database cannot use it.
pub fn token_mark(token: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new_with_prefix(b"crosstalk/1/enrol-token\0");
    digest.update(token);
    digest.finalize().into()
}

impl Invitation {
    /// Whether a text is meant to be one: other text may be an address.
    pub fn is_meant(text: &str) -> bool {
        let start = text.trim().get(..PREFIX.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    }

    /// As it is sent, typed or scanned.
    pub fn to_link(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.token.to_vec());
        bytes.extend_from_slice(self.server.as_bytes());
        bytes.extend_from_slice(self.authority.as_bytes());
        put(&mut bytes, &self.address);
        let fits = self.places.iter().filter(|place| place.len() <= MAX_ADDRESS);
        fits.take(MAX_ADDRESSES).for_each(|place| put(&mut bytes, place));
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        Zeroizing::new(format!("{PREFIX}{}", to_signs(&bytes).as_str()))
    }

    /// Reads what [`Self::to_link`] made: capitals or not, with or without hyphens and spaces behind the colon.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NoInvitation> {
        let text = text.trim();
        if text.len() > LONGEST || !Self::is_meant(text) {
            return Err(NoInvitation);
        }
        let bytes = from_signs(&text[PREFIX.len()..]).ok_or(NoInvitation)?;
        let (rest, given) = bytes.split_last_chunk::<CHECK>().ok_or(NoInvitation)?;
        if check(rest) != *given {
            return Err(NoInvitation);
        }
        read(rest).ok_or(NoInvitation)
    }
}

fn read(bytes: &[u8]) -> Option<Invitation> {
    let (token, rest) = bytes.split_first_chunk::<TOKEN>()?;
    let (server, rest) = rest.split_first_chunk::<32>()?;
    let (authority, mut rest) = rest.split_first_chunk::<32>()?;
    let mut texts = Vec::new();
    while let Some((length, more)) = rest.split_first() {
        let (text, after) = more.split_at_checked(usize::from(*length))?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        rest = after;
    }
    let fits = (1..=1 + MAX_ADDRESSES).contains(&texts.len())
        && texts[1..].iter().all(|place| place.len() <= MAX_ADDRESS);
    let places = texts.split_off(usize::from(fits));
    let address = texts.pop().filter(|address| domain_of(address).is_some())?;
    Some(Invitation {
        token: Zeroizing::new(*token),
        address,
        authority: AuthorityId::from_bytes(*authority),
        server: NodeId::from_bytes(*server),
        places,
    })
}

/// One length byte before each text: an address of more than 255 bytes is cut, and then is none.
fn put(bytes: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(text);
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut digest = Sha256::new_with_prefix(b"crosstalk/1/enrol-check\0");
    digest.update(bytes);
    let digest = digest.finalize();
    [digest[0], digest[1]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invitation() -> Invitation {
        Invitation {
            token: Zeroizing::new([7; TOKEN]),
            address: "alice@school.example".to_owned(),
            authority: AuthorityId::from_bytes([2; 32]),
            server: NodeId::from_bytes([3; 32]),
            places: vec!["/ip4/192.168.1.5/tcp/14774".to_owned()],
        }
    }

    #[test]
    fn a_link_is_read_as_it_is_typed() {
        let link = invitation().to_link();
        assert!(Invitation::is_meant(&link) && !Invitation::is_meant("alice@school.example"));
        assert_eq!(Invitation::parse(&link), Ok(invitation()));
        assert_eq!(Invitation::parse(&format!("  {} ", link.to_lowercase())), Ok(invitation()));
        assert!(!format!("{:?}", invitation()).contains("7, 7"));
    }

    #[test]
    fn a_link_that_is_cut_or_changed_is_none() {
        let link = invitation().to_link();
        for at in PREFIX.len()..link.len() {
            assert_eq!(Invitation::parse(&link[..at]), Err(NoInvitation), "{at}");
        }
        let mut wrong = 0;
        for (at, sign) in link.char_indices().skip(PREFIX.len()) {
            let mut changed = link.to_string();
            changed.replace_range(at..=at, if sign == 'A' { "B" } else { "A" });
            wrong += usize::from(Invitation::parse(&changed).is_err());
        }
        assert_eq!(wrong, link.len() - PREFIX.len());
    }

    proptest! {
        #[test]
        fn anything_typed_is_an_invitation_or_none(text in "\\PC{0,80}", signs in "[A-HJ-NP-Z2-9]{0,300}") {
            let _ = (Invitation::parse(&text), Invitation::parse(&format!("{PREFIX}{signs}")));
        }
    }
}

//! The code by which a further device of a user joins, and what both nodes derive from its secret. *Pure.*
//!
//! The older device's node makes the code; the person carries it to the newer one, typed or scanned. It has 128 secret
//! bits, counts once and for ten minutes, and names the node that made it: by the first four bytes of its id, which is
//! enough on a link, or by all of it with addresses. Neither node shows the secret to the other: the newer one proves
//! that it has it by a hash over both nodes' ids, the older one answers under a key made of it.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::id::NodeId;
use crate::seal::SealError;

/// Bytes of the secret.
pub const SECRET: usize = 16;
/// Bytes of a node's id that are enough on a link.
const HINT: usize = 4;
/// Bytes that tell a mistyped code.
const CHECK: usize = 2;
/// Addresses in a code at most, and bytes of each.
const MAX_ADDRESSES: usize = 3;
const MAX_ADDRESS: usize = 128;
/// What stands before a code that is scanned.
const PREFIX: &str = "CROSSTALK:";
/// 32 signs that nobody mistakes for each other.
const SIGNS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Signs of a code that is looked at, at most.
const LONGEST: usize = 1_024;
/// Bytes of what is sealed at most: a user record and an account.
pub const MAX_JOINED: usize = 48 * 1_024;

/// Names an offer on the wire without its secret.
pub type OfferId = [u8; 8];

/// What comes of a [`crate::wire::Frame::Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinAnswer {
    /// [`JoinCode::seal`]ed.
    Given(Vec<u8>),
    /// There is no such offer (any more).
    Denied,
}

/// Where the node is that made a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// On the link: the node whose id begins so.
    Link([u8; HINT]),
    /// At one of these multiaddresses, or on the link.
    At(NodeId, Vec<String>),
}

/// A code, typed or scanned.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCode {
    secret: Zeroizing<[u8; SECRET]>,
    /// Where to ask.
    pub place: Where,
}

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinCode({:?})", self.place)
    }
}

/// Why something typed is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no code of `crosstalk device add`, or a sign of it is wrong: compare it with what the other laptop shows"
)]
pub struct NoCode;

impl JoinCode {
    /// A code with this secret, for the link of `node`.
    pub fn for_link(secret: [u8; SECRET], node: &NodeId) -> Self {
        let mut hint = [0; HINT];
        hint.copy_from_slice(&node.as_bytes()[..HINT]);
        Self { secret: Zeroizing::new(secret), place: Where::Link(hint) }
    }

    /// The same for anywhere: the node is dialled at these addresses.
    #[must_use]
    pub fn at(&self, node: NodeId, addresses: &[String]) -> Self {
        let fits = addresses.iter().filter(|address| address.len() <= MAX_ADDRESS);
        let addresses = fits.take(MAX_ADDRESSES).cloned().collect();
        Self { secret: self.secret.clone(), place: Where::At(node, addresses) }
    }

    /// Whether a node may be the one that made the code.
    pub fn fits(&self, node: &NodeId) -> bool {
        match &self.place {
            Where::Link(hint) => node.as_bytes().starts_with(hint),
            Where::At(maker, _) => maker == node,
        }
    }

    /// As it is typed: groups of four signs.
    pub fn typed(&self) -> Zeroizing<String> {
        let signs = self.signs();
        let mut text = Zeroizing::new(String::with_capacity(signs.len() * 5 / 4 + 1));
        for (place, sign) in signs.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                text.push('-');
            }
            text.push(sign);
        }
        text
    }

    /// As it is scanned.
    pub fn scanned(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", self.signs().as_str()))
    }

    fn signs(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.secret.to_vec());
        match &self.place {
            Where::Link(hint) => bytes.extend_from_slice(hint),
            Where::At(node, addresses) => {
                bytes.extend_from_slice(node.as_bytes());
                for address in addresses {
                    bytes.push(u8::try_from(address.len()).unwrap_or_default());
                    bytes.extend_from_slice(address.as_bytes());
                }
            }
        }
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        to_signs(&bytes)
    }

    /// Reads what [`Self::typed`] or [`Self::scanned`] made: capitals or not, with or without hyphens and spaces.
    pub fn parse(text: &str) -> Result<Self, NoCode> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(NoCode);
        }
        let begins = text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        let bytes = from_signs(if begins { &text[PREFIX.len()..] } else { text }).ok_or(NoCode)?;
        let (rest, given) = bytes.split_last_chunk::<CHECK>().ok_or(NoCode)?;
        if check(rest) != *given {
            return Err(NoCode);
        }
        let (secret, place) = rest.split_first_chunk::<SECRET>().ok_or(NoCode)?;
        let place = read_place(place).ok_or(NoCode)?;
        Ok(Self { secret: Zeroizing::new(*secret), place })
    }

    /// What names the offer on the wire.
    pub fn offer(&self) -> OfferId {
        let digest = self.digest(b"crosstalk/1/join-offer", &[]);
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        id
    }

    /// What proves to `maker` that `joiner` has the code; of use to nobody else.
    pub fn proof(&self, joiner: &NodeId, maker: &NodeId) -> [u8; 32] {
        self.digest(b"crosstalk/1/join-proof", &[joiner, maker])
    }

    /// Seals what the joining node is given.
    pub fn seal(
        &self,
        joiner: &NodeId,
        maker: &NodeId,
        plain: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let payload = Payload { msg: plain, aad: &self.offer() };
        let cipher = self.cipher(joiner, maker);
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Key)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens it: whoever sealed it had the code.
    pub fn open(
        &self,
        joiner: &NodeId,
        maker: &NodeId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>().ok_or(SealError::Open)?;
        let payload = Payload { msg: sealed, aad: &self.offer() };
        let plain = self.cipher(joiner, maker).decrypt(&XNonce::from(*nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| SealError::Open)
    }

    fn cipher(&self, joiner: &NodeId, maker: &NodeId) -> XChaCha20Poly1305 {
        let key = Zeroizing::new(self.digest(b"crosstalk/1/join-key", &[joiner, maker]));
        XChaCha20Poly1305::new(&Key::from(*key))
    }

    /// Everything in it has a fixed length, so no two inputs are the same bytes.
    fn digest(&self, tag: &[u8], nodes: &[&NodeId]) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(tag);
        digest.update([0]);
        digest.update(self.secret.as_slice());
        nodes.iter().for_each(|node| digest.update(node.as_bytes()));
        digest.finalize().into()
    }
}

fn read_place(bytes: &[u8]) -> Option<Where> {
    if let Ok(hint) = <[u8; HINT]>::try_from(bytes) {
        return Some(Where::Link(hint));
    }
    let (node, mut rest) = bytes.split_first_chunk::<32>()?;
    let mut addresses = Vec::new();
    while let Some((length, more)) = rest.split_first() {
        let (address, after) = more.split_at_checked(usize::from(*length))?;
        addresses.push(String::from_utf8(address.to_vec()).ok()?);
        rest = after;
    }
    let fits = addresses.len() <= MAX_ADDRESSES && addresses.iter().all(|a| a.len() <= MAX_ADDRESS);
    fits.then(|| Where::At(NodeId::from_bytes(*node), addresses))
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut digest = Sha256::new_with_prefix(b"crosstalk/1/join-check");
    digest.update([0]);
    digest.update(bytes);
    let digest = digest.finalize();
    [digest[0], digest[1]]
}

/// Five bits a sign, the last filled with zeros.
pub(crate) fn to_signs(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 8 / 5 + 1));
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(SIGNS[(bits >> count & 31) as usize]));
        }
    }
    if count > 0 {
        text.push(char::from(SIGNS[(bits << (5 - count) & 31) as usize]));
    }
    text
}

pub(crate) fn from_signs(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8));
    let (mut bits, mut count) = (0_u32, 0);
    for sign in text.bytes().filter(|sign| !matches!(sign, b'-' | b' ')) {
        let value = SIGNS.iter().position(|known| *known == sign.to_ascii_uppercase())?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 255) as u8);
        }
    }
    // What is left is padding.
    (count < 5 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn codes() -> [JoinCode; 2] {
        let short = JoinCode::for_link([7; SECRET], &node(1));
        let long = short.at(node(1), &["/ip4/192.168.1.5/tcp/14774".to_owned()]);
        [short, long]
    }

    #[test]
    fn a_code_is_read_as_it_is_typed_or_scanned() {
        for code in codes() {
            let typed = code.typed();
            assert_eq!(JoinCode::parse(&typed), Ok(code.clone()));
            assert_eq!(JoinCode::parse(&typed.to_lowercase().replace('-', " ")), Ok(code.clone()));
            assert_eq!(JoinCode::parse(&code.scanned()), Ok(code.clone()));
            assert!(code.fits(&node(1)) && !code.fits(&node(2)));
            assert!(!format!("{code:?}").contains("7, 7"));
        }
        assert_eq!(codes()[0].typed().len(), 36 + 8);
    }

    #[test]
    fn one_wrong_sign_is_noticed() {
        let typed = codes()[0].typed().to_string();
        let mut wrong = 0;
        for (at, sign) in typed.char_indices().filter(|(_, sign)| *sign != '-') {
            let other = if sign == 'A' { "B" } else { "A" };
            let mut changed = typed.clone();
            changed.replace_range(at..=at, other);
            wrong += usize::from(JoinCode::parse(&changed).is_err());
        }
        assert_eq!(wrong, 36);
        assert_eq!(JoinCode::parse(&typed[..30]), Err(NoCode));
        assert_eq!(JoinCode::parse(""), Err(NoCode));
    }

    #[test]
    fn only_the_two_nodes_of_a_code_open_what_is_given() {
        let [code, long] = codes();
        let sealed =
            code.seal(&node(2), &node(1), b"account", &mut ChaCha20Rng::from_seed([3; 32])).expect("sealed");
        let opened = |code: &JoinCode, joiner, maker| code.open(&joiner, &maker, &sealed).ok();
        assert_eq!(opened(&long, node(2), node(1)).as_deref().map(Vec::as_slice), Some(&b"account"[..]));
        assert_eq!(opened(&code, node(3), node(1)), None);
        let other = JoinCode::for_link([8; SECRET], &node(1));
        assert_eq!(opened(&other, node(2), node(1)), None);
        assert_ne!(code.proof(&node(2), &node(1)), code.proof(&node(3), &node(1)));
        assert_ne!(code.offer(), other.offer());
    }

    proptest! {
        #[test]
        fn anything_typed_is_a_code_or_none(text in "\\PC{0,80}", signs in "[A-HJ-NP-Z2-9]{0,200}") {
            let _ = (JoinCode::parse(&text), JoinCode::parse(&signs));
        }
    }
}

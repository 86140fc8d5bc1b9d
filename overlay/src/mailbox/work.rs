//! Work that strangers pay for room in a mailbox: found by trying, checked at once, worth the same at every holder. *Pure.*

use sha2::{Digest as _, Sha256};

use crate::id::{ItemId, UserId};

const TAG: &[u8] = b"crosstalk/1/work\0";
/// Nobody is asked for more, and nobody does more: some ten seconds of one core.
pub const MAX_BITS: u32 = 26;

/// Bytes of which an item costs the least; with twice as many, four times as many, … it is a bit more: room is what is paid for.
const CHEAP: usize = 4_096;

/// What an item of `size` bytes costs, bits, if the least is `bits`.
pub fn price(bits: u32, size: usize) -> u32 {
    (bits + (size / CHEAP).max(1).ilog2()).min(MAX_BITS)
}

fn start(mailbox: &UserId, item: &ItemId, expires: u64) -> Sha256 {
    let mut hash = Sha256::new_with_prefix(TAG);
    hash.update(mailbox.as_bytes());
    hash.update(item.as_bytes());
    hash.update(expires.to_be_bytes());
    hash
}

fn leading_zeros(start: &Sha256, nonce: u64) -> u32 {
    let hash: [u8; 32] = start.clone().chain_update(nonce.to_be_bytes()).finalize().into();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first).leading_zeros())
}

/// How much work a nonce is worth, in bits.
pub fn bits_of(mailbox: &UserId, item: &ItemId, expires: u64, nonce: u64) -> u32 {
    leading_zeros(&start(mailbox, item, expires), nonce)
}

/// A search for a nonce that can be interrupted.
#[derive(Clone, Debug)]
pub struct Search {
    start: Sha256,
    next: u64,
    bits: u32,
}

impl Search {
    /// Looks for `bits` of work, [`MAX_BITS`] at most, from nonce 0.
    pub fn new(mailbox: &UserId, item: &ItemId, expires: u64, bits: u32) -> Self {
        Self { start: start(mailbox, item, expires), next: 0, bits: bits.min(MAX_BITS) }
    }

    /// What it looks for.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Tries so many nonces.
    pub fn step(&mut self, tries: u64) -> Option<u64> {
        let end = self.next.saturating_add(tries);
        let found = (self.next..end).find(|nonce| leading_zeros(&self.start, *nonce) >= self.bits);
        self.next = end;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_items_cost_more() {
        assert_eq!([0, 4_096, 8_191, 8_192, 65_536].map(|size| price(18, size)), [18, 18, 18, 19, 22]);
        assert_eq!((price(18, super::super::MAX_ITEM), price(24, usize::MAX)), (24, MAX_BITS));
    }

    #[test]
    fn what_is_found_is_worth_its_bits_for_that_deposit_only() {
        let (mailbox, item) = (UserId::from_bytes([1; 32]), ItemId::from_bytes([2; 16]));
        let mut search = Search::new(&mailbox, &item, 7, 10);
        let nonce = std::iter::repeat_with(|| search.step(64)).take(1_000).flatten().next().expect("found");
        assert!(bits_of(&mailbox, &item, 7, nonce) >= 10);
        let others = [
            bits_of(&UserId::from_bytes([3; 32]), &item, 7, nonce),
            bits_of(&mailbox, &ItemId::from_bytes([3; 16]), 7, nonce),
            bits_of(&mailbox, &item, 8, nonce),
            bits_of(&mailbox, &item, 7, nonce + 1),
        ];
        assert!(others.iter().all(|bits| *bits < 10), "{others:?}");
    }
}

//! Signatures that were found good, remembered for simulations: there the same record is verified by fifty nodes of one process.
//! Only code built with the feature `mutants` can remember, on the thread that asked for it, and nothing is taken for good that
//! was not verified byte for byte; in every other build each signature is verified each time. *Pure.*

#[cfg(feature = "mutants")]
use std::{cell::RefCell, collections::BTreeSet};

#[cfg(feature = "mutants")]
use sha2::{Digest as _, Sha256};

/// Signatures that are remembered at most; with one more all are forgotten.
#[cfg(feature = "mutants")]
const MOST: usize = 65_536;

#[cfg(feature = "mutants")]
thread_local! {
    /// Hashes of key, signature and message. Nothing: each is verified each time.
    static GOOD: RefCell<Option<BTreeSet<[u8; 32]>>> = const { RefCell::new(None) };
}

/// Whether a signature is good, by `verify` or by memory. `parts`: the key and the signature, 32 and 64 bytes, and the message.
#[cfg(feature = "mutants")]
pub(crate) fn remembered(parts: &[&[u8]; 3], verify: impl FnOnce() -> bool) -> bool {
    if GOOD.with_borrow(Option::is_none) {
        return verify();
    }
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let hash = <[u8; 32]>::from(hash.finalize());
    if GOOD.with_borrow(|good| good.as_ref().is_some_and(|good| good.contains(&hash))) {
        return true;
    }
    let is_good = verify();
    if is_good {
        GOOD.with_borrow_mut(|good| {
            let Some(good) = good else { return };
            if good.len() >= MOST {
                good.clear();
            }
            good.insert(hash);
        });
    }
    is_good
}

/// By `verify`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) fn remembered(_: &[&[u8]; 3], verify: impl FnOnce() -> bool) -> bool {
    verify()
}

/// Does something, and does not verify a good signature twice meanwhile on this thread.
#[cfg(feature = "mutants")]
pub fn remembering<T>(work: impl FnOnce() -> T) -> T {
    let before = GOOD.replace(Some(BTreeSet::new()));
    let done = work();
    GOOD.set(before);
    done
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_good_is_not_looked_at_again() {
        let (key, signature) = ([1; 32], [2; 64]);
        let calls = std::cell::Cell::new(0);
        let look = |message: &[u8], good| {
            remembered(&[&key, &signature, message], || {
                calls.set(calls.get() + 1);
                good
            })
        };
        assert!(look(b"a", true) && look(b"a", true));
        assert_eq!(calls.take(), 2, "nobody asked to remember");
        remembering(|| {
            assert!(look(b"a", true) && look(b"a", false));
            assert_eq!(calls.take(), 1);
            assert!(!look(b"b", false) && !look(b"b", false));
            assert!(look(b"ab", true));
            assert_eq!(calls.take(), 3, "what was not good is verified each time, and so is another message");
        });
        assert!(!look(b"a", false), "forgotten afterwards");
    }
}

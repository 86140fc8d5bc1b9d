//! Owns mutation by a seed: what `cargo test` does to the corpus where no fuzzer is.

use super::MAX_INPUT;
use crate::world::dice::Dice;

/// Numbers at which lengths and counters go wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'<', b'\''];

/// The `number`-th mutation of `corpus`, at most [`MAX_INPUT`] bytes: an entry with one to four changes. The same
/// for the same arguments; empty if the corpus is.
pub fn mutated(corpus: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let Some(mut bytes) = pick(corpus, &mut dice).map(<[u8]>::to_vec) else { return Vec::new() };
    for _ in 0..dice.between(1, 4) {
        change(&mut bytes, corpus, &mut dice);
    }
    bytes.truncate(MAX_INPUT);
    bytes
}

fn pick<'a>(corpus: &'a [Vec<u8>], dice: &mut Dice) -> Option<&'a [u8]> {
    corpus.get(below(corpus.len(), dice)).map(Vec::as_slice)
}

/// An index below `limit`; 0 if that is 0.
fn below(limit: usize, dice: &mut Dice) -> usize {
    usize::try_from(dice.below(limit as u64)).unwrap_or(0)
}

/// A short piece of `bytes`.
fn piece<'a>(bytes: &'a [u8], dice: &mut Dice) -> &'a [u8] {
    let rest = &bytes[below(bytes.len(), dice)..];
    &rest[..below(rest.len().min(64) + 1, dice)]
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = below(bytes.len(), dice);
    match dice.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = dice.pick(&EDGES).unwrap_or_default(),
        2 => bytes.truncate(at),
        3 => {
            let end = (at + below(16, dice) + 1).min(bytes.len());
            drop(bytes.drain(at..end));
        }
        4 => {
            let doubled = piece(bytes, dice).to_vec();
            drop(bytes.splice(at..at, doubled));
        }
        5 => {
            let foreign = pick(corpus, dice).map(|other| piece(other, dice).to_vec()).unwrap_or_default();
            let end = (at + below(foreign.len() + 1, dice)).min(bytes.len());
            drop(bytes.splice(at..end, foreign));
        }
        _ => {
            let count = below(9, dice);
            drop(bytes.splice(at..at, dice.bytes(count)));
        }
    }
}

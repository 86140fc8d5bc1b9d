//! The snapshot's format: a second copy of what cannot be fetched again; *pure*.
//!
//! A sealed header with the mark of the checkpoint (the digest of all trees), then the entries of the
//! trees in [`Tree::in_snapshot`], each tree number ‖ key ‖ value, then 0, their number u64 and a CRC-32
//! of everything behind the header.

use std::io::{self, Write};

use crate::digest::Mark;
use crate::format::{Malformed, Reader, put_bytes, put_u32, put_u64, seal, unseal};
use crate::{Contents, Tree};

const MAGIC: &[u8; 8] = b"CTSNAPSH";
const END: u8 = 0;

/// A snapshot read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) mark: Mark,
    pub(crate) contents: Contents,
}

/// Writes a snapshot entry by entry, without holding it in memory.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
    count: u64,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, mark: &Mark) -> io::Result<Self> {
        let mut body = Vec::new();
        mark.encode(&mut body);
        out.write_all(&seal(MAGIC, &body))?;
        Ok(Self { out, crc: crc32fast::Hasher::new(), count: 0, buffer: Vec::new() })
    }

    /// Adds an entry; one of a tree that the snapshot leaves out is passed over.
    pub(crate) fn entry(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> io::Result<()> {
        if !tree.in_snapshot() {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.push(tree.id());
        put_bytes(&mut self.buffer, key);
        put_bytes(&mut self.buffer, value);
        self.count += 1;
        self.crc.update(&self.buffer);
        self.out.write_all(&self.buffer)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.push(END);
        put_u64(&mut self.buffer, self.count);
        self.crc.update(&self.buffer);
        put_u32(&mut self.buffer, self.crc.finalize());
        self.out.write_all(&self.buffer)
    }
}

/// Reads a whole snapshot.
pub(crate) fn read(bytes: &[u8]) -> Result<Snapshot, Malformed> {
    let (_, body, at) = unseal(MAGIC, bytes)?;
    let mark = Mark::decode(&mut Reader::new(body))?;
    let (covered, crc) = bytes[at..].split_last_chunk::<4>().ok_or(Malformed::Damaged)?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return Err(Malformed::Damaged);
    }
    let mut reader = Reader::new(covered);
    let mut contents = Contents::default();
    let mut count = 0;
    loop {
        let mut ahead = reader.clone();
        if ahead.u8()? == END {
            let sound = ahead.u64()? == count && ahead.is_empty();
            return if sound { Ok(Snapshot { mark, contents }) } else { Err(Malformed::Damaged) };
        }
        let tree = reader.tree()?;
        let key = reader.bytes()?;
        contents.set(tree, key, Some(reader.bytes()?));
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn example() -> Vec<u8> {
        let mut digest = Digest::default();
        digest.update(Tree::Roster, |tree| tree.add(crate::digest::entry(b"juliet", b"both")));
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, &Mark { sequence: 2, digest }).unwrap();
        writer.entry(Tree::Roster, b"juliet", b"both").unwrap();
        writer.entry(Tree::Seen, b"left", b"out").unwrap();
        writer.finish().unwrap();
        out
    }

    #[test]
    fn golden_bytes() {
        let hex: String = example().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = "4354534e4150534803000000220000000200000000000000010301000000000000000a00000000000000f37cd6c7b1707df7a49284ac";
        let entries = "03060000006a756c69657404000000626f7468";
        let end = "000100000000000000e6560467";
        assert_eq!(hex, [header, entries, end].concat());
    }

    #[test]
    fn it_reads_back_without_the_trees_that_can_be_fetched_again() {
        let snapshot = read(&example()).unwrap();
        assert_eq!(snapshot.mark.sequence, 2);
        assert_eq!(snapshot.contents.get(Tree::Roster, b"juliet"), Some(b"both".as_slice()));
        assert_eq!(snapshot.contents.len(), 1);
    }

    #[test]
    fn no_bit_and_no_byte_may_be_missing() {
        let bytes = example();
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), Err(Malformed::Damaged), "cut to {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), Err(Malformed::Damaged), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}

//! Building blocks of the file formats: integers, a bounded reader, the sealed header; *pure*.
//!
//! All integers are little-endian. Every file starts with the same sealed header, in all versions:
//! magic (8) ‖ version u32 ‖ body length u32 ‖ body ‖ CRC-32 of everything before it. So a program can
//! tell a file of a newer version from a damaged one without understanding its body.

use crate::Tree;

/// The version of journal and snapshot that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 3;

/// Longest body of a sealed header that is believed.
const MAX_BODY: usize = 64 * 1024;

/// Bytes that do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Damaged: cut short, or with a wrong checksum.
    Damaged,
    /// Sound, but of this newer version.
    Newer(u32),
    /// Of this earlier version, whose frames are not read any more.
    Older(u32),
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a length and the bytes. Callers have checked the length against a limit far below 4 GiB.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

/// Reads from a slice and never beyond it.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or(Malformed::Damaged)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Damaged)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed::Damaged)?;
        self.take(len)
    }

    /// A tree number. An unknown one under a sound checksum comes from a newer program.
    pub(crate) fn tree(&mut self) -> Result<Tree, Malformed> {
        Tree::from_id(self.u8()?).ok_or(Malformed::Newer(FORMAT_VERSION + 1))
    }
}

/// A sealed header around `body`.
pub(crate) fn seal(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 20);
    out.extend_from_slice(magic);
    put_u32(&mut out, FORMAT_VERSION);
    put_bytes(&mut out, body);
    let crc = crc32fast::hash(&out);
    put_u32(&mut out, crc);
    out
}

/// Opens a sealed header at the start of `bytes`: its version, its body, and its length in the file.
pub(crate) fn unseal<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Result<(u32, &'a [u8], usize), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.take(magic.len())? != magic {
        return Err(Malformed::Damaged);
    }
    let version = reader.u32()?;
    let body = reader.bytes()?;
    let sealed = magic.len() + 8 + body.len();
    if body.len() > MAX_BODY || reader.u32()? != crc32fast::hash(&bytes[..sealed]) {
        return Err(Malformed::Damaged);
    }
    if version > FORMAT_VERSION {
        return Err(Malformed::Newer(version));
    }
    Ok((version, body, sealed + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8; 8] = b"CTEXAMPL";

    #[test]
    fn a_sealed_header_opens_again_and_no_bit_may_differ() {
        let sealed = seal(MAGIC, b"body");
        assert_eq!(unseal(MAGIC, &sealed), Ok((FORMAT_VERSION, b"body".as_slice(), sealed.len())));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(MAGIC, &flipped), Err(Malformed::Damaged), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(unseal(MAGIC, &sealed[..len]), Err(Malformed::Damaged), "cut to {len}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut sealed = seal(MAGIC, b"whatever comes");
        sealed[8] = 9;
        let end = sealed.len() - 4;
        let crc = crc32fast::hash(&sealed[..end]);
        sealed[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(unseal(MAGIC, &sealed), Err(Malformed::Newer(9)));
    }
}

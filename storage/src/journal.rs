//! The journal's format: header, frames, and how a journal is read after an accident; *pure*.
//!
//! A frame is magic (4) ‖ sequence u64 ‖ payload length u32 ‖ CRC-32 u32 ‖ payload; the CRC covers
//! sequence, length and payload. One frame is one append and one fsync, so a frame that is not whole can
//! only be the last one: a torn end is cut, but a bad frame with good ones behind it is damage.

use crate::digest::{Digest, Mark};
use crate::format::{Malformed, Reader, put_bytes, put_u32, put_u64, seal, unseal};
use crate::{Tree, WriteSet};

const HEADER_MAGIC: &[u8; 8] = b"CTJOURNL";
const FRAME_MAGIC: &[u8; 4] = &[0xC7, b'f', b'r', 0x0A];
const FRAME_HEAD: usize = 20;
const COMMIT: u8 = 1;
const CHECKPOINT: u8 = 2;
const DELETE: u8 = 0;
const PUT: u8 = 1;

/// The root of the store: which engine directory is the current one, and what it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) generation: u64,
    /// The state that the frames of this journal start from.
    pub(crate) base: Mark,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_u64(&mut body, self.generation);
        self.base.encode(&mut body);
        seal(HEADER_MAGIC, &body)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let (body, len) = unseal(HEADER_MAGIC, bytes)?;
        let mut reader = Reader::new(body);
        let header = Self { generation: reader.u64()?, base: Mark::decode(&mut reader)? };
        Ok((header, len))
    }
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// These changes were committed.
    Commit(WriteSet),
    /// A checkpoint begins: the state after all frames so far has this digest.
    Checkpoint(Digest),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) event: Event,
}

/// The bytes of a frame that commits `sets` in order, all or none.
pub(crate) fn encode_commit(sequence: u64, sets: &[WriteSet]) -> Vec<u8> {
    let size: usize = sets.iter().map(|set| set.bytes() + set.len() * 10).sum();
    let mut out = Vec::with_capacity(FRAME_HEAD + 1 + size);
    out.resize(FRAME_HEAD, 0);
    out.push(COMMIT);
    for (tree, key, value) in sets.iter().flat_map(WriteSet::iter) {
        out.push(tree.id());
        out.push(if value.is_some() { PUT } else { DELETE });
        put_bytes(&mut out, key);
        if let Some(value) = value {
            put_bytes(&mut out, value);
        }
    }
    finish_frame(sequence, out)
}

/// The bytes of a frame that announces a checkpoint.
pub(crate) fn encode_checkpoint(mark: &Mark) -> Vec<u8> {
    let mut out = vec![0; FRAME_HEAD];
    out.push(CHECKPOINT);
    mark.digest.encode(&mut out);
    finish_frame(mark.sequence, out)
}

/// Fills in the head of a frame whose payload is in place.
fn finish_frame(sequence: u64, mut out: Vec<u8>) -> Vec<u8> {
    let mut head = Vec::with_capacity(FRAME_HEAD);
    head.extend_from_slice(FRAME_MAGIC);
    put_u64(&mut head, sequence);
    put_u32(&mut head, u32::try_from(out.len() - FRAME_HEAD).unwrap_or(u32::MAX));
    let crc = frame_crc(&head[4..16], &out[FRAME_HEAD..]);
    put_u32(&mut head, crc);
    out[..FRAME_HEAD].copy_from_slice(&head);
    out
}

fn frame_crc(sequence_and_length: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(sequence_and_length);
    crc.update(payload);
    crc.finalize()
}

/// A frame at the start of `bytes`, and its length.
fn decode_frame(bytes: &[u8]) -> Result<(Frame, usize), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.take(4)? != FRAME_MAGIC {
        return Err(Malformed::Damaged);
    }
    let covered = reader.clone().take(12)?;
    let sequence = reader.u64()?;
    let len = usize::try_from(reader.u32()?).map_err(|_| Malformed::Damaged)?;
    let crc = reader.u32()?;
    let payload = reader.take(len)?;
    if frame_crc(covered, payload) != crc {
        return Err(Malformed::Damaged);
    }
    Ok((Frame { sequence, event: decode_event(payload)? }, FRAME_HEAD + len))
}

fn decode_event(payload: &[u8]) -> Result<Event, Malformed> {
    let mut reader = Reader::new(payload);
    match reader.u8()? {
        COMMIT => decode_ops(&mut reader).map(Event::Commit),
        CHECKPOINT => Digest::decode(&mut reader).map(Event::Checkpoint),
        _ => Err(Malformed::Newer(crate::FORMAT_VERSION + 1)),
    }
}

fn decode_ops(reader: &mut Reader<'_>) -> Result<WriteSet, Malformed> {
    let mut set = WriteSet::new();
    while !reader.is_empty() {
        let tree: Tree = reader.tree()?;
        match reader.u8()? {
            PUT => {
                let key = reader.bytes()?;
                set.put(tree, key, reader.bytes()?);
            }
            DELETE => set.delete(tree, reader.bytes()?),
            _ => return Err(Malformed::Damaged),
        }
    }
    Ok(set)
}

/// A journal as found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `None` if the header is damaged.
    pub(crate) header: Option<Header>,
    /// Every whole frame, in the order of the file.
    pub(crate) frames: Vec<Frame>,
    /// Where the last whole frame ends: appending goes on here.
    pub(crate) good: u64,
    /// Bytes behind that: an append that did not finish.
    pub(crate) torn: u64,
    /// Whether bad bytes stand before a whole frame, or a number is skipped.
    pub(crate) holes: bool,
}

/// Reads a whole journal.
///
/// # Errors
///
/// Only [`Malformed::Newer`]; damage is part of the answer.
pub(crate) fn read(bytes: &[u8]) -> Result<Found, Malformed> {
    let (header, mut at) = match Header::decode(bytes) {
        Ok((header, len)) => (Some(header), len),
        Err(Malformed::Newer(version)) => return Err(Malformed::Newer(version)),
        Err(Malformed::Damaged) => (None, 0),
    };
    let mut found = Found { frames: Vec::new(), good: at as u64, torn: 0, holes: header.is_none(), header };
    let mut last = found.header.as_ref().map(|header| header.base.sequence);
    while at < bytes.len() {
        let Some((start, frame, len)) = next_frame(bytes, at, last)? else { break };
        found.holes |= start != at || last.is_some_and(|last| frame.sequence != last.saturating_add(1));
        last = Some(frame.sequence);
        found.frames.push(frame);
        at = start + len;
        found.good = at as u64;
    }
    found.torn = bytes.len() as u64 - found.good;
    Ok(found)
}

/// The first whole frame at or after `at` that is newer than `last`.
fn next_frame(
    bytes: &[u8],
    mut at: usize,
    last: Option<u64>,
) -> Result<Option<(usize, Frame, usize)>, Malformed> {
    loop {
        match decode_frame(&bytes[at..]) {
            Ok((frame, len)) if last.is_none_or(|last| frame.sequence > last) => {
                return Ok(Some((at, frame, len)));
            }
            Err(Malformed::Newer(version)) => return Err(Malformed::Newer(version)),
            Ok(_) | Err(Malformed::Damaged) => {}
        }
        let from = at + 1;
        match bytes[from..].windows(FRAME_MAGIC.len()).position(|window| window == FRAME_MAGIC) {
            Some(skip) => at = from + skip,
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(key: &str, value: &str) -> WriteSet {
        let mut set = WriteSet::new();
        set.put(Tree::Outbox, key, value);
        set
    }

    fn journal(frames: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Header::default().encode();
        let mut borders = vec![bytes.len()];
        for sequence in 1..=frames {
            bytes.extend(encode_commit(sequence, &[set(&sequence.to_string(), "value")]));
            borders.push(bytes.len());
        }
        (bytes, borders)
    }

    #[test]
    fn golden_bytes() {
        let header = Header { generation: 3, base: Mark { sequence: 7, digest: Digest::default() } };
        assert_eq!(
            hex(&header.encode()),
            "43544a4f55524e4c02000000110000000300000000000000070000000000000000dbb189bc"
        );
        let first_version = "43544a4f55524e4c0100000011000000030000000000000007000000000000000088076489";
        assert_eq!(Header::decode(&unhex(first_version)).unwrap(), (header, first_version.len() / 2));
        let mut ops = set("k", "v");
        ops.delete(Tree::Inbox, "gone");
        assert_eq!(
            hex(&encode_commit(8, &[ops])),
            "c766720a080000000000000017000000984cbc33010701010000006b0100000076080004000000676f6e65"
        );
        let mut digest = Digest::default();
        digest.update(Tree::Outbox, |tree| tree.add(crate::digest::entry(b"k", b"v")));
        assert_eq!(
            hex(&encode_checkpoint(&Mark { sequence: 9, digest })),
            "c766720a09000000000000001b0000003ab7179f02010701000000000000000200000000000000d0f1de6b9137487d"
        );
    }

    fn unhex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn several_sets_share_a_frame_in_order() {
        let bytes = encode_commit(1, &[set("k", "old"), set("k", "new")]);
        let (frame, len) = decode_frame(&bytes).unwrap();
        assert_eq!((frame.event, len), (Event::Commit(set("k", "new")), bytes.len()));
    }

    #[test]
    fn a_torn_end_is_cut_and_never_a_hole() {
        let (bytes, borders) = journal(3);
        for len in borders[0]..bytes.len() {
            let found = read(&bytes[..len]).unwrap();
            let whole = borders.iter().filter(|border| **border <= len).count() - 1;
            assert_eq!((found.frames.len(), found.holes), (whole, false), "cut to {len}");
            assert_eq!((found.good, found.torn), (borders[whole] as u64, (len - borders[whole]) as u64));
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_frame_is_a_hole() {
        let (bytes, borders) = journal(3);
        for bit in borders[0] * 8..borders[2] * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = read(&flipped).unwrap();
            assert!(found.holes, "bit {bit}");
            assert_eq!(found.frames.len(), 2, "bit {bit}");
        }
    }

    #[test]
    fn without_its_header_the_frames_are_still_found() {
        let (mut bytes, _) = journal(3);
        bytes[0] ^= 1;
        let found = read(&bytes).unwrap();
        assert_eq!((found.header, found.frames.len(), found.holes), (None, 3, true));
    }

    #[test]
    fn an_unknown_tree_under_a_sound_checksum_is_newer() {
        let mut payload = vec![0; FRAME_HEAD];
        payload.extend([COMMIT, 200, DELETE, 0, 0, 0, 0]);
        let mut bytes = Header::default().encode();
        bytes.extend(finish_frame(1, payload));
        assert_eq!(read(&bytes), Err(Malformed::Newer(crate::FORMAT_VERSION + 1)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let mut behind_header = Header::default().encode();
            behind_header.extend(bytes);
            let _ = read(&behind_header);
        }

        #[test]
        fn what_is_written_is_read(
            ops in proptest::collection::vec((0..Tree::ALL.len(), any::<[u8; 3]>(), proptest::option::of(any::<Vec<u8>>())), 0..20),
            sequence in 1u64..u64::MAX,
        ) {
            let mut set = WriteSet::new();
            for (tree, key, value) in ops {
                match value {
                    Some(value) => set.put(Tree::ALL[tree], key, value),
                    None => set.delete(Tree::ALL[tree], key),
                }
            }
            let bytes = encode_commit(sequence, std::slice::from_ref(&set));
            let (frame, len) = decode_frame(&bytes).unwrap();
            prop_assert_eq!(frame, Frame { sequence, event: Event::Commit(set) });
            prop_assert_eq!(len, bytes.len());
        }
    }
}

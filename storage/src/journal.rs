//! The journal's format: header, frames, and how a journal is read after an accident; *pure*.
//!
//! A frame is marker (16) ‖ sequence u64 ‖ payload length u32 ‖ CRC-32 u32 ‖ payload; the CRC covers all
//! of it but itself. One frame is one append and one fsync, so a frame that is not whole can only be the
//! last one: a torn end is cut, but a bad frame with good ones behind it is damage.
//!
//! The marker is random, chosen anew with every journal and told nobody. Payloads hold bytes that strangers
//! chose, and a torn frame is searched for others: without the marker nobody can have one found there.

use crate::digest::{Digest, Mark};
use crate::format::{Malformed, Reader, put_bytes, put_u32, put_u64, seal, unseal};
use crate::{Tree, WriteSet};

const HEADER_MAGIC: &[u8; 8] = b"CTJOURNL";
const MARKER: usize = 16;
/// Where the marker stands in the file: first in the header's body.
const MARKER_AT: usize = 16;
/// The first version with markers.
const MARKED: u32 = 3;
const FRAME_HEAD: usize = MARKER + 16;
const COMMIT: u8 = 1;
const CHECKPOINT: u8 = 2;
const DELETE: u8 = 0;
const PUT: u8 = 1;

/// What every frame of one journal begins with: 128 random bits that nobody outside knows.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marker(pub(crate) [u8; MARKER]);

impl Marker {
    /// The journal is of a version without markers: nothing can be appended to it.
    pub(crate) const NONE: Self = Self([0; MARKER]);
}

impl std::fmt::Debug for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Marker(..)")
    }
}

/// The root of the store: which engine directory is the current one, and what it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) marker: Marker,
    pub(crate) generation: u64,
    /// The state that the frames of this journal start from.
    pub(crate) base: Mark,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.marker.0.to_vec();
        put_u64(&mut body, self.generation);
        self.base.encode(&mut body);
        seal(HEADER_MAGIC, &body)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let (version, body, len) = unseal(HEADER_MAGIC, bytes)?;
        let mut reader = Reader::new(body);
        let marker = if version < MARKED { Marker::NONE } else { read_marker(&mut reader)? };
        let header = Self { marker, generation: reader.u64()?, base: Mark::decode(&mut reader)? };
        if version < MARKED && bytes.len() > len {
            return Err(Malformed::Older(version));
        }
        Ok((header, len))
    }
}

fn read_marker(reader: &mut Reader<'_>) -> Result<Marker, Malformed> {
    reader.take(MARKER)?.try_into().map(Marker).map_err(|_| Malformed::Damaged)
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
pub(crate) fn encode_commit(marker: Marker, sequence: u64, sets: &[WriteSet]) -> Vec<u8> {
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
    finish_frame(marker, sequence, out)
}

/// The bytes of a frame that announces a checkpoint.
pub(crate) fn encode_checkpoint(marker: Marker, mark: &Mark) -> Vec<u8> {
    let mut out = vec![0; FRAME_HEAD];
    out.push(CHECKPOINT);
    mark.digest.encode(&mut out);
    finish_frame(marker, mark.sequence, out)
}

/// Fills in the head of a frame whose payload is in place.
fn finish_frame(marker: Marker, sequence: u64, mut out: Vec<u8>) -> Vec<u8> {
    let mut head = Vec::with_capacity(FRAME_HEAD);
    head.extend_from_slice(&marker.0);
    put_u64(&mut head, sequence);
    put_u32(&mut head, u32::try_from(out.len() - FRAME_HEAD).unwrap_or(u32::MAX));
    let crc = frame_crc(&head, &out[FRAME_HEAD..]);
    put_u32(&mut head, crc);
    out[..FRAME_HEAD].copy_from_slice(&head);
    out
}

fn frame_crc(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(payload);
    crc.finalize()
}

/// A frame at the start of `bytes`, and its length.
fn decode_frame(marker: Marker, bytes: &[u8]) -> Result<(Frame, usize), Malformed> {
    let mut reader = Reader::new(bytes);
    let covered = reader.clone().take(FRAME_HEAD - 4)?;
    if read_marker(&mut reader)? != marker {
        return Err(Malformed::Damaged);
    }
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
/// [`Malformed::Newer`] and [`Malformed::Older`]; damage is part of the answer.
pub(crate) fn read(bytes: &[u8]) -> Result<Found, Malformed> {
    let (header, at) = match Header::decode(bytes) {
        Ok((header, len)) => (Some(header), len),
        Err(Malformed::Damaged) => (None, 0),
        Err(other) => return Err(other),
    };
    if let Some(header) = header {
        return read_frames(header.marker, bytes, at, Some(header));
    }
    // Of a damaged header the marker may be whole; if not, the first frame begins with it.
    for place in [Some(MARKER_AT), first_frame_at(bytes)].into_iter().flatten() {
        let marker = read_marker(&mut Reader::new(bytes.get(place..).unwrap_or_default()));
        let found = marker.map(|marker| read_frames(marker, bytes, 0, None));
        if let Ok(found) = found
            && !found.as_ref().is_ok_and(|found| found.frames.is_empty())
        {
            return found;
        }
    }
    Ok(Found::nothing(bytes.len()))
}

/// Where the first frame is, by the length that the header says of itself.
fn first_frame_at(bytes: &[u8]) -> Option<usize> {
    let body = Reader::new(bytes.get(MARKER_AT - 4..)?).u32().ok()?;
    usize::try_from(body).ok()?.checked_add(MARKER_AT + 4)
}

impl Found {
    /// A journal of this length in which nothing can be read.
    pub(crate) fn nothing(len: usize) -> Self {
        Self { header: None, frames: Vec::new(), good: 0, torn: len as u64, holes: true }
    }
}

fn read_frames(
    marker: Marker,
    bytes: &[u8],
    mut at: usize,
    header: Option<Header>,
) -> Result<Found, Malformed> {
    let mut found = Found { frames: Vec::new(), good: at as u64, torn: 0, holes: header.is_none(), header };
    let mut last = found.header.as_ref().map(|header| header.base.sequence);
    while at < bytes.len() {
        let Some((start, frame, len)) = next_frame(marker, bytes, at, last)? else { break };
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
    marker: Marker,
    bytes: &[u8],
    mut at: usize,
    last: Option<u64>,
) -> Result<Option<(usize, Frame, usize)>, Malformed> {
    loop {
        match decode_frame(marker, &bytes[at..]) {
            Ok((frame, len)) if last.is_none_or(|last| frame.sequence > last) => {
                return Ok(Some((at, frame, len)));
            }
            Ok(_) | Err(Malformed::Damaged) => {}
            Err(other) => return Err(other),
        }
        let from = at + 1;
        match bytes[from..].windows(MARKER).position(|window| window == marker.0) {
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

    const MARK: Marker = Marker([0xA5; MARKER]);

    fn header() -> Header {
        Header { marker: MARK, ..Header::default() }
    }

    fn journal(frames: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header().encode();
        let mut borders = vec![bytes.len()];
        for sequence in 1..=frames {
            bytes.extend(encode_commit(MARK, sequence, &[set(&sequence.to_string(), "value")]));
            borders.push(bytes.len());
        }
        (bytes, borders)
    }

    #[test]
    fn golden_bytes() {
        let header =
            Header { marker: MARK, generation: 3, base: Mark { sequence: 7, digest: Digest::default() } };
        assert_eq!(
            hex(&header.encode()),
            "43544a4f55524e4c0300000021000000a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a503000000000000000700000000000000003a3f9441"
        );
        let first_version = "43544a4f55524e4c0100000011000000030000000000000007000000000000000088076489";
        let unmarked = Header { marker: Marker::NONE, ..header };
        assert_eq!(Header::decode(&unhex(first_version)).unwrap(), (unmarked, first_version.len() / 2));
        let mut ops = set("k", "v");
        ops.delete(Tree::Inbox, "gone");
        assert_eq!(
            hex(&encode_commit(MARK, 8, &[ops])),
            "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a50800000000000000170000004b9553b1010701010000006b0100000076080004000000676f6e65"
        );
        let mut digest = Digest::default();
        digest.update(Tree::Outbox, |tree| tree.add(crate::digest::entry(b"k", b"v")));
        assert_eq!(
            hex(&encode_checkpoint(MARK, &Mark { sequence: 9, digest })),
            "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a509000000000000001b000000dda2fef302010701000000000000000200000000000000d0f1de6b9137487d"
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
        let bytes = encode_commit(MARK, 1, &[set("k", "old"), set("k", "new")]);
        let (frame, len) = decode_frame(MARK, &bytes).unwrap();
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

    /// A frame whose value holds what a stranger would have for frames: a commit, and one of a newer program.
    fn hostile(sequence: u64, with: &[u8]) -> Vec<u8> {
        let mut gone = WriteSet::new();
        gone.delete(Tree::Account, "romeo");
        let mut unknown = vec![0; FRAME_HEAD];
        unknown.push(9);
        // All that a stranger can know: how a frame looks, and how frames of earlier versions and other journals begin.
        let other = Marker(std::array::from_fn(|at| [0xC7, b'f', b'r', 0x0A][at % 4]));
        let frames = [
            encode_commit(other, sequence + 1, &[gone]),
            finish_frame(other, sequence + 2, unknown),
            with.to_vec(),
        ];
        let mut set = WriteSet::new();
        set.put(Tree::Mail, "mail", frames.concat());
        encode_commit(MARK, sequence, &[set])
    }

    #[test]
    fn an_earlier_version_is_read_if_it_was_closed_in_order() {
        let first_version = "43544a4f55524e4c0100000011000000030000000000000007000000000000000088076489";
        let mut bytes = unhex(first_version);
        assert_eq!(read(&bytes).unwrap().header.unwrap().marker, Marker::NONE);
        bytes.push(0xC7);
        assert_eq!(read(&bytes), Err(Malformed::Older(1)));
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
        let (bytes, _) = journal(3);
        for at in 0..header().encode().len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let found = read(&bytes).unwrap();
            assert_eq!((found.header, found.frames.len(), found.holes), (None, 3, true), "byte {at}");
        }
    }

    #[test]
    fn an_unknown_tree_under_a_sound_checksum_is_newer() {
        let mut payload = vec![0; FRAME_HEAD];
        payload.extend([COMMIT, 200, DELETE, 0, 0, 0, 0]);
        let mut bytes = header().encode();
        bytes.extend(finish_frame(MARK, 1, payload));
        assert_eq!(read(&bytes), Err(Malformed::Newer(crate::FORMAT_VERSION + 1)));
    }

    proptest! {
        #[test]
        fn a_torn_frame_is_not_searched_for_what_strangers_wrote(
            with in proptest::collection::vec(any::<u8>(), 0..64),
            cut in 0usize..1_000,
        ) {
            let (mut bytes, borders) = journal(2);
            bytes.extend(hostile(3, &with));
            let len = (borders[2] + cut).min(bytes.len() - 1);
            let found = read(&bytes[..len]).unwrap();
            prop_assert_eq!((found.frames.len(), found.holes), (2, false));
            // As if the disk had kept what came later and lost what was before it.
            bytes[borders[2] + FRAME_HEAD] ^= 1;
            let found = read(&bytes).unwrap();
            prop_assert_eq!((found.frames.len(), found.holes), (2, false));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let mut behind_header = header().encode();
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
            let bytes = encode_commit(MARK, sequence, std::slice::from_ref(&set));
            let (frame, len) = decode_frame(MARK, &bytes).unwrap();
            prop_assert_eq!(frame, Frame { sequence, event: Event::Commit(set) });
            prop_assert_eq!(len, bytes.len());
        }
    }
}

//! Owns the target for the files of the store: a journal or a snapshot as it might be found after an accident.

use crosstalk_storage::{Contents, MemoryDisk, OpenError, Opened, Options, Store, Tree, WriteSet};

use super::bounded;

const JOURNAL: &[u8] = b"CTJOURNL";
const SNAPSHOT: &[u8] = b"CTSNAPSH";
/// Where a journal's header says what its frames begin with.
const MARKER: std::ops::Range<usize> = 16..32;

/// A journal; or a snapshot, if the bytes begin as one does. As it is, and with its checksums made right, so that
/// what stands behind them is reached.
pub fn store(data: &[u8]) {
    let data = bounded(data);
    check(data);
    check(&with_checksums(data));
}

fn check(data: &[u8]) {
    let (journal, snapshot) = match data.starts_with(SNAPSHOT) {
        true => (None, Some(data.to_vec())),
        false => (Some(data.to_vec()), None),
    };
    let disk = MemoryDisk::with_files(journal, snapshot);
    let before = disk.files();
    match Store::open_memory(&disk, Options::default()) {
        Ok((store, contents, _)) => check_opened(store, &contents, data.len()),
        Err(OpenError::Newer { .. }) => assert!(disk.files() == before, "a newer store was touched"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What was read is no more than there was, is there after one more commit and a crash, and is not damaged then.
fn check_opened(mut store: Store, contents: &Contents, size: usize) {
    assert!(entries(contents).map(|(_, (key, value))| key.len() + value.len()).sum::<usize>() <= size);
    let mut set = WriteSet::new();
    set.put(Tree::Meta, "fuzz", "one more");
    let committed = store.commit(&[set]).is_ok();
    let Ok((store, again, opened)) = store.crash() else { unreachable!("it does not open again") };
    assert!(!matches!(opened, Opened::Rebuilt(_)), "it is damaged again: {opened:?}");
    assert_eq!(
        again.len(),
        contents.len() + usize::from(committed && contents.get(Tree::Meta, b"fuzz").is_none())
    );
    for (tree, (key, value)) in entries(contents).filter(|(_, (key, _))| *key != b"fuzz") {
        assert_eq!(again.get(tree, key), Some(value));
        assert_eq!(store.get(tree, key).ok().flatten().as_deref(), Some(value));
    }
}

fn entries(contents: &Contents) -> impl Iterator<Item = (Tree, (&[u8], &[u8]))> {
    Tree::ALL.iter().flat_map(move |tree| contents.tree(*tree).map(move |entry| (*tree, entry)))
}

/// The file with right checksums: that of its header, of every frame, of a snapshot's entries.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if !bytes.starts_with(JOURNAL) && !bytes.starts_with(SNAPSHOT) {
        return bytes;
    }
    let Some(body) = length_at(&bytes, 12).and_then(|body| body.checked_add(16)) else { return bytes };
    put_checksum(&mut bytes, 0..body, body);
    if bytes.starts_with(SNAPSHOT) {
        if let Some(end) = bytes.len().checked_sub(4).filter(|end| *end >= body + 4) {
            put_checksum(&mut bytes, body + 4..end, end);
        }
        return bytes;
    }
    let Some(marker) = bytes.get(MARKER).map(<[u8]>::to_vec) else { return bytes };
    for at in MARKER.end..bytes.len() {
        if bytes[at..].starts_with(&marker) {
            mend_frame(&mut bytes, at);
        }
    }
    bytes
}

/// A frame's checksum covers its marker, its sequence, its length and its payload.
fn mend_frame(bytes: &mut [u8], at: usize) {
    let Some(end) = length_at(bytes, at + 24).and_then(|length| length.checked_add(at + 32)) else { return };
    let Some(payload) = bytes.get(at + 32..end) else { return };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[at..at + 28]);
    crc.update(payload);
    bytes[at + 28..at + 32].copy_from_slice(&crc.finalize().to_le_bytes());
}

fn put_checksum(bytes: &mut [u8], covered: std::ops::Range<usize>, at: usize) {
    let Some(crc) = bytes.get(covered).map(crc32fast::hash) else { return };
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(length)).ok()
}

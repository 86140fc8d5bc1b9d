//! Owns the targets for what other nodes send: records, envelopes, frames and their length prefixes.

use std::fmt::Debug;

use crosstalk_overlay::envelope::{Content, Envelope, Inner, MAX_CONTENT, MAX_ENVELOPE};
use crosstalk_overlay::record::{
    ContactRecord, Context, DeviceCert, DeviceInfo, LinkPresence, NameCert, NoCertificates, NodeBinding,
    PresenceRecord, Receipt, Record, Refusal, Revocation, RevocationSet, Unverified, UserRecord,
};
use crosstalk_overlay::swarm::framing::{Decoder, FramingError, encode};
use crosstalk_overlay::time::TrustedTime;
use crosstalk_overlay::wire::{self, MAX_FRAME};

use super::bounded;

/// A record of any kind, and a user record.
pub fn record(data: &[u8]) {
    let data = bounded(data);
    check::<DeviceCert>(data);
    check::<NameCert>(data);
    check::<Revocation>(data);
    check::<DeviceInfo>(data);
    check::<NodeBinding>(data);
    check::<LinkPresence>(data);
    check::<PresenceRecord>(data);
    check::<ContactRecord>(data);
    check::<Receipt>(data);
    let _ = UserRecord::claimed_user(data);
    let verified = judged(|context| UserRecord::verify(data, context));
    if let Some(verified) = verified {
        let again = judged(|context| UserRecord::verify(&verified.encode(), context));
        assert_eq!(again.as_ref(), Some(&verified), "a verified user record reads back as another");
    }
}

/// What `verify` says when every certificate still holds, so that its signature alone decides.
fn judged<T>(verify: impl Fn(&Context<'_>) -> Result<T, Refusal>) -> Option<T> {
    let revocations = RevocationSet::default();
    let time = TrustedTime { millis: 0, credible: false, latest: u64::MAX };
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: false };
    match verify(&context) {
        Ok(verified) => Some(verified),
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            None
        }
    }
}

/// One kind of record: shape first, then signature.
fn check<T: Record + Clone + Debug + PartialEq>(data: &[u8]) {
    if let Ok(payload) = T::from_payload(data) {
        payload_reads_back(&payload);
    }
    let Ok(unverified) = Unverified::<T>::parse(data) else { return };
    assert!(data.len() <= T::MAX_SIZE);
    let claim = unverified.claim().clone();
    payload_reads_back(&claim);
    if let Some(verified) = judged(|context| unverified.clone().verify(context)) {
        assert_eq!(verified.bytes(), data, "not the bytes that were signed");
        assert_eq!(*verified, claim, "verifying changed what was said");
    }
}

fn payload_reads_back<T: Record + Debug + PartialEq>(value: &T) {
    assert_eq!(T::from_payload(&value.to_payload()).as_ref(), Ok(value));
}

/// An envelope's outer part, inner part and content.
pub fn envelope(data: &[u8]) {
    let data = bounded(data);
    if let Ok(outer) = Envelope::decode(data) {
        let bytes = outer.encode();
        assert!(bytes.len() <= data.len().min(MAX_ENVELOPE));
        assert_eq!(Envelope::decode(&bytes), Ok(outer));
    }
    if let Ok(content) = Content::decode(data) {
        let bytes = content.encode();
        assert!(bytes.len() <= data.len().min(MAX_CONTENT));
        assert_eq!(Content::decode(&bytes), Ok(content));
    }
    check::<Inner>(data);
}

/// A frame between two nodes.
pub fn frame(data: &[u8]) {
    let data = bounded(data);
    let Ok(frame) = wire::decode(data) else { return };
    let bytes = wire::encode(&frame);
    assert!(bytes.len() <= data.len(), "{} bytes became {}", data.len(), bytes.len());
    assert!(!format!("{frame:?}").is_empty());
    assert_eq!(wire::decode(&bytes), Ok(frame));
}

/// Length prefixes: the same frames and the same end however the bytes are cut into pieces.
pub fn framing(data: &[u8]) {
    let data = bounded(data);
    for limit in [MAX_FRAME, 64] {
        let whole = cut(data, [], limit);
        assert_eq!(cut(data, 1..data.len(), limit), whole, "pieces make other frames");
        assert_eq!(cut(data, [data.len() / 2], limit), whole, "pieces make other frames");
        assert!(whole.0.iter().all(|frame| (1..=limit).contains(&frame.len())));
        let mut written = Vec::new();
        for frame in &whole.0 {
            encode(frame, &mut written);
        }
        assert!(data.starts_with(&written), "a length has two forms");
    }
}

fn cut(
    data: &[u8],
    cuts: impl IntoIterator<Item = usize>,
    limit: usize,
) -> (Vec<Vec<u8>>, Option<FramingError>) {
    let mut decoder = Decoder::new(limit);
    let (mut frames, mut start) = (Vec::new(), 0);
    for end in cuts.into_iter().chain([data.len()]) {
        let mut piece = &data[start..end];
        start = end;
        while !piece.is_empty() {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => assert!(piece.is_empty(), "bytes are left over"),
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

//! Owns the targets for what a node keeps and tells itself: stored shapes, key files, the admin socket.

use std::fmt::Debug;

use crosstalk::accounts::key_file::{self, Kind};
use crosstalk::admin::{Request, Response};
use crosstalk_overlay::core::state::{
    CachedUserRecord, InboundSequence, KnownAuthority, OutboundSequence, OutboxEntry, Seen,
};
use crosstalk_storage::tree::account::Account;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::contact_record::StoredContactRecord;
use crosstalk_storage::tree::inbox::InboxEntry;
use crosstalk_storage::tree::presence::StoredPresence;
use crosstalk_storage::tree::roster::RosterItem;
use crosstalk_storage::tree::session::StoredSession;
use crosstalk_storage::tree::vcard::StoredVCard;
use crosstalk_storage::{Stored, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::bounded;

/// A value of every tree.
pub fn stored(data: &[u8]) {
    let data = bounded(data);
    value::<Account>(data);
    value::<Blocked>(data);
    value::<StoredContactRecord>(data);
    value::<InboxEntry>(data);
    value::<StoredPresence>(data);
    value::<RosterItem>(data);
    value::<StoredSession>(data);
    value::<StoredVCard>(data);
    value::<OutboxEntry>(data);
    value::<OutboundSequence>(data);
    value::<InboundSequence>(data);
    value::<Seen>(data);
    value::<CachedUserRecord>(data);
    value::<KnownAuthority>(data);
}

fn value<T: Stored + Debug + PartialEq>(data: &[u8]) {
    match decode::<T>(data) {
        Ok(value) => assert_eq!(decode::<T>(&encode(&value)).as_ref(), Ok(&value)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A key file.
pub fn key_file(data: &[u8]) {
    let data = bounded(data);
    for data in [data, &with_digest(data)] {
        if let Ok((user, keys)) = key_file::decode_user(data) {
            assert!(*key_file::encode_user(user, &keys) == data, "another file was read");
        }
        for kind in [Kind::Node, Kind::Authority] {
            if let Ok(seed) = key_file::decode_seed(kind, data) {
                assert!(*key_file::encode_seed(kind, &seed) == data, "another file was read");
            }
        }
    }
}

/// The file with its SHA-256 made right, so that what stands behind it is reached.
fn with_digest(data: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let signed = data.split_last_chunk::<32>().map_or(data, |(signed, _)| signed);
    [signed, &Sha256::digest(signed)].concat()
}

/// A line on the admin socket: a request, or an answer.
pub fn admin(data: &[u8]) {
    let data = bounded(data);
    json::<Response>(data);
    let Some(request) = json::<Request>(data) else { return };
    if let Request::AddAccount { password: Some(password), .. } = &request {
        let (secret, shown) = (password.reveal(), format!("{request:?}"));
        assert!(!shown.contains(&format!("{secret:?}")) || !is_telling(secret), "a password is shown");
    }
}

/// Whether a text cannot stand in what is shown by chance.
fn is_telling(secret: &str) -> bool {
    secret.starts_with("secret-")
}

fn json<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let said = serde_json::from_slice(data).unwrap_or(Value::Null);
    let written = serde_json::to_value(&value).unwrap_or(Value::Null);
    assert!(is_within(&written, &said), "something is written that was not read");
    let again = serde_json::from_value::<T>(written.clone()).ok();
    assert_eq!(again.and_then(|value| serde_json::to_value(value).ok()), Some(written));
    Some(value)
}

/// Whether all of `written` stands in `said`. What was left out is written as its default; a list may stand for an
/// object.
fn is_within(written: &Value, said: &Value) -> bool {
    match (written, said) {
        (Value::Object(written), Value::Object(said)) => {
            written.iter().all(|(key, value)| said.get(key).is_none_or(|said| is_within(value, said)))
        }
        (Value::Array(written), Value::Array(said)) => {
            written.len() == said.len() && written.iter().zip(said).all(|(a, b)| is_within(a, b))
        }
        (Value::Object(_), Value::Array(_)) => true,
        _ => written == said,
    }
}

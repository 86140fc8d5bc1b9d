//! Keys and values of the hash table, as `overlay/vectors/dht.json` keeps them for other implementations, with what they
//! are made of on the way.
//!
//! After a deliberate change of the protocol: `UPDATE_VECTORS=1 cargo test -p crosstalk-overlay --test core dht`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use crosstalk_overlay::dht::{Key, Position, Value};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::{AudienceKey, AuthorityKey, DeviceKey, NodeKey, PresenceKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, HOUR, Hlc, MINUTE, TrustedTime};
use prost::Message as _;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};

const AT: u64 = 1_800_000_000_000;
const ADDRESS: &str = "alice@school.example";

type Fields = BTreeMap<&'static str, String>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn user_key() -> UserKey {
    UserKey::from_seed([0x10; 32])
}

fn device_key() -> DeviceKey {
    DeviceKey::from_seed([0x11; 32])
}

fn authority() -> AuthorityKey {
    AuthorityKey::from_seed([0x40; 32])
}

fn node() -> NodeId {
    NodeKey::from_seed([0x50; 32]).id()
}

fn presence_key() -> PresenceKey {
    PresenceKey::from_seed([0x70; 32])
}

fn audience() -> AudienceKey {
    AudienceKey::from_seed([0x71; 32])
}

fn user_value() -> Value {
    let (user, device) = (user_key().id(), device_key().id());
    let cert = DeviceCert::issue(&user_key(), device, AT).unwrap();
    let sealing = vec![SealingPublic { public: [0x12; 32], created: AT }];
    let at = Hlc { millis: AT, counter: 7 };
    let info = DeviceInfo { user, device, sealing, epoch: 1, at, expires: AT + 7 * DAY, mailboxes: vec![] };
    let info = Verified::sign(info, &device_key(), None).unwrap();
    Value::User(UserRecord::new(cert, info, None).unwrap())
}

fn name_value() -> Value {
    Value::Name(NameCert::issue(&authority(), ADDRESS, user_key().id(), 3, AT).unwrap())
}

fn whereabouts() -> Whereabouts {
    let (user, device, at) = (user_key().id(), device_key().id(), Hlc { millis: AT, counter: 7 });
    let record = PresenceRecord { user, device, at, expires: AT + 10 * MINUTE, sessions: vec![] };
    Whereabouts {
        user,
        device,
        node: node(),
        addresses: vec!["/ip4/198.51.100.7/tcp/14774".into(), "/ip6/2001:db8::7/tcp/14774".into()],
        presence: Verified::sign(record, &device_key(), None).unwrap().bytes().to_vec(),
    }
}

fn sealed() -> Verified<SealedPresence> {
    let mut rng = ChaCha20Rng::from_seed([0x72; 32]);
    let times = (Hlc { millis: AT, counter: 7 }, AT + HOUR);
    SealedPresence::seal(&whereabouts(), &audience(), &presence_key(), times, &mut rng).unwrap()
}

/// The payload of a sealed presence, read by its field numbers alone.
#[derive(Clone, PartialEq, prost::Message)]
struct SealedFields {
    #[prost(uint64, tag = "3")]
    day: u64,
    #[prost(bytes = "vec", tag = "6")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    ciphertext: Vec<u8>,
}

fn hashed(tag: &'static str, parts: &[&[u8]], key: Key) -> Fields {
    let preimage = [tag.as_bytes(), &[0], &parts.concat()].concat();
    assert_eq!(key.as_bytes(), &*Sha256::digest(&preimage), "{tag}");
    assert_eq!(key.position().as_bytes(), &*Sha256::digest(key.as_bytes()), "{tag}");
    BTreeMap::from([
        ("tag", tag.to_owned()),
        ("preimage", hex(&preimage)),
        ("key", hex(key.as_bytes())),
        ("position", hex(key.position().as_bytes())),
    ])
}

fn user_fields() -> Fields {
    let user = user_key().id();
    let mut fields = hashed("crosstalk/1/dht/user", &[user.as_bytes()], Key::user(&user));
    let Value::User(record) = user_value() else { panic!("a user record") };
    fields.insert("user", user.to_hex());
    fields.insert("record", hex(&record.encode()));
    fields.insert("value", hex(&user_value().encode()));
    fields
}

fn name_fields() -> Fields {
    let authority = authority().id();
    let key = Key::name(&authority, ADDRESS);
    let parts = [&authority.as_bytes()[..], ADDRESS.as_bytes()];
    let mut fields = hashed("crosstalk/1/dht/name", &parts, key);
    let Value::Name(cert) = name_value() else { panic!("a name") };
    fields.insert("authority", authority.to_hex());
    fields.insert("address", ADDRESS.to_owned());
    fields.insert("record", hex(cert.bytes()));
    fields.insert("value", hex(&name_value().encode()));
    fields
}

fn mailbox_fields() -> Fields {
    let user = user_key().id();
    let mut fields = hashed("crosstalk/1/dht/mailbox", &[user.as_bytes()], Key::mailbox(&user));
    fields.insert("user", user.to_hex());
    fields
}

fn presence_fields() -> Fields {
    let (presence, sealed) = (presence_key().id(), sealed());
    let signed = SignedRecord::decode(sealed.bytes()).unwrap();
    let inside = SealedFields::decode(&signed.payload[..]).unwrap();
    let day = inside.day.to_be_bytes();
    let key = Key::presence(&presence, inside.day);
    let mut fields = hashed("crosstalk/1/dht/presence", &[presence.as_bytes(), &day], key);
    let aad = [&presence.as_bytes()[..], &day].concat();
    let nonce = XNonce::try_from(&inside.nonce[..]).unwrap();
    let opened = XChaCha20Poly1305::new(&chacha20poly1305::Key::from(**audience().seed()))
        .decrypt(&nonce, Payload { msg: &inside.ciphertext, aad: &aad })
        .unwrap();
    let length = u32::from_be_bytes(opened[..4].try_into().unwrap()) as usize;
    fields.extend([
        ("presence key", presence.to_hex()),
        ("presence key secret", hex(&presence_key().seed()[..])),
        ("audience key", hex(&audience().seed()[..])),
        ("day", inside.day.to_string()),
        ("plaintext", hex(&opened[4..4 + length])),
        ("padded", hex(&opened)),
        ("aad", hex(&aad)),
        ("nonce", hex(&inside.nonce)),
        ("ciphertext", hex(&inside.ciphertext)),
        ("payload", hex(&signed.payload)),
        ("signature", hex(&signed.signature)),
        ("record", hex(sealed.bytes())),
        ("value", hex(&Value::Presence(sealed).encode())),
    ]);
    fields
}

fn node_fields() -> Fields {
    let peer_id = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], node().as_bytes()].concat();
    let position = Position::of_node(&node());
    assert_eq!(position.as_bytes(), &*Sha256::digest(&peer_id));
    BTreeMap::from([
        ("node", node().to_hex()),
        ("peer id", hex(&peer_id)),
        ("position", hex(position.as_bytes())),
    ])
}

#[test]
fn the_bytes_are_what_they_always_were() {
    let all = BTreeMap::from([
        ("user", user_fields()),
        ("name", name_fields()),
        ("presence", presence_fields()),
        ("mailbox", mailbox_fields()),
        ("node", node_fields()),
    ]);
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/dht.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == text, "the bytes have changed: other nodes would not find or understand them");
}

#[test]
fn each_value_verifies_at_its_key() {
    let revocations = RevocationSet::default();
    let time = TrustedTime::certain(AT);
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: true };
    for value in [user_value(), name_value(), Value::Presence(sealed())] {
        assert_eq!(Value::verify(&value.key(), &value.encode(), &context), Ok(value));
    }
    assert_eq!(sealed().open(&audience()), Ok(whereabouts()));
}

//! What the vectors of `vectors.rs` say, field by field, and what they are made of on the way: `overlay/vectors/steps.json`,
//! for whoever writes a decoder. `simulations/interop` holds one of another make against it.
//!
//! After a deliberate change of the protocol: `UPDATE_VECTORS=1 cargo test -p crosstalk-overlay --test core`.

use std::collections::BTreeMap;
use std::path::Path;

use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::keys::{AudienceKey, AuthorityKey, NodeKey, PresenceKey};
use crosstalk_overlay::mailbox::item_id;
use crosstalk_overlay::mailbox::work::bits_of;
use crosstalk_overlay::record::{NodePrefix, SignedRecord};
use crosstalk_overlay::time::{DAY, HOUR, Hlc, MINUTE};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, single_shot_open};
use prost::Message as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::vectors::{AT, cast, content, envelope, frames, hex, item, offer, records, sealed_receipts};

fn same(byte: u8, size: usize) -> String {
    hex(&vec![byte; size])
}

/// What was put into the records of `vectors.rs`.
fn record_fields() -> Value {
    let (alice, bob) = (cast(0x10), cast(0x20));
    let (user, device, to) = (alice.user.id().to_hex(), alice.device.id().to_hex(), bob.user.id().to_hex());
    let (node_key, authority) =
        (NodeKey::from_seed([0x50; 32]), AuthorityKey::from_seed([0x40; 32]).id().to_hex());
    let (node, at) = (node_key.id().to_hex(), json!({"millis": AT, "counter": 7}));
    let signed = |name: &str| SignedRecord::decode(&records()[name][..]).unwrap();
    let consent = hex(&signed("node-binding").payload[120..]);
    let mut hears = [1, 2].map(|seed| hex(&NodePrefix::of(&NodeKey::from_seed([seed; 32]).id()).0));
    hears.sort();
    let sealing = json!([{"public": hex(&alice.sealing.public()), "created": AT}]);
    let status = |instance: &str, nickname: &str, expires: u64| {
        json!({"version": 1, "user": user, "device": device, "instance": instance, "nickname": nickname, "show": "",
            "status": "", "at": at, "expires": expires})
    };
    let part = |name: &str| hex(&records()[name]);
    json!({
        "device-cert": {"version": 1, "user": user, "device": device, "issued": AT, "expires": AT + 400 * DAY},
        "name-cert": {"version": 1, "address": "alice@school.example", "user": user, "authority": authority,
            "serial": 3, "issued": AT, "expires": AT + 400 * DAY},
        "device-info": {"version": 1, "user": user, "device": device, "sealing": sealing, "epoch": 1, "at": at,
            "expires": AT + 7 * DAY, "mailboxes": []},
        "node-binding": {"version": 1, "user": user, "device": device, "node": node, "issued": AT,
            "expires": AT + 7 * DAY, "consent": consent},
        "link-presence": status("Alice@host", "Alice", AT + 2 * MINUTE),
        "link-presence-hidden": status("", "", AT),
        "node-links": {"version": 1, "node": node, "at": at, "expires": AT + HOUR, "hears": hears},
        "presence": {"version": 1, "user": user, "device": device, "at": at, "expires": AT + 10 * MINUTE,
            "sessions": [{"resource": "desk", "priority": 5, "since": crate::pump::START,
                "payload": hex(b"<presence/>")}]},
        "contact": {"version": 1, "from": user, "to": to, "device": device, "says": 1, "at": at},
        "mailbox-access": {"version": 1, "user": user, "device": device, "holder": node, "session": 0x0102, "at": AT},
        "token": {"version": 1, "serial": same(7, 16), "mailbox": to, "device": bob.device.id().to_hex(),
            "issued": AT, "expires": AT + 90 * DAY},
        "receipt": {"version": 1, "envelope": same(1, 16), "message": same(2, 16),
            "sender": bob.device.id().to_hex(), "user": user, "recipient": device, "outcome": 2, "code": 2},
        "revocation-device": {"version": 1, "user": user, "device": device, "address": "", "authority": null,
            "since": AT, "compromised": false},
        "revocation-name": {"version": 1, "user": user, "device": null, "address": "alice@school.example",
            "authority": authority, "since": AT, "compromised": false},
        "revocation-key": {"version": 1, "user": user, "device": null, "address": "", "authority": null,
            "since": AT, "compromised": true},
        "user-record": {"version": 1, "user": user, "names": [part("name-cert")],
            "devices": [{"cert": part("device-cert"), "info": part("device-info")}]},
    })
}

/// The bytes that each record's signature is over.
fn signing() -> Value {
    let all = records().into_iter().filter(|(name, _)| !name.starts_with("user-record")).map(|(name, bytes)| {
        let kind = name.trim_end_matches("-hidden");
        let kind = ["revocation", "introduction"].into_iter().find(|one| kind.starts_with(one)).unwrap_or(kind);
        let record = SignedRecord::decode(&bytes[..]).unwrap();
        let input = [b"crosstalk/1/", kind.as_bytes(), &[0], &record.payload].concat();
        let fields =
            json!({"input": hex(&input), "signature": hex(&record.signature), "signer": hex(&record.signer)});
        (name.to_owned(), fields)
    });
    Value::Object(all.collect())
}

fn outer_fields(bytes: &[u8], id: u8, kind: u32) -> Value {
    let (bob, sealed) =
        (cast(0x20), crosstalk_overlay::mailbox::Item::decode(bytes).unwrap().envelope.sealed);
    json!({"version": 1, "id": same(id, 16), "recipient device": bob.device.id().to_hex(),
        "sealing key": hex(&bob.sealing.public()), "enc": hex(&sealed.enc), "ciphertext": hex(&sealed.ciphertext),
        "kind": kind})
}

/// What was put into the frames of `vectors.rs`.
fn frame_fields() -> Value {
    let (alice, bob) = (cast(0x10), cast(0x20));
    let (from, to) = (alice.user.id().to_hex(), bob.user.id().to_hex());
    let part = |name: &str| hex(&records()[name]);
    let (users, id) =
        (json!([{"record": part("user-record"), "binding": part("node-binding")}]), item_id(&item()));
    let deposit = |request: u32, item: &[u8], nonce: u64, token: Option<String>| {
        json!({"request": request, "mailbox": to, "item": hex(item), "expires": AT + 30 * DAY, "nonce": nonce,
            "token": token, "replica": token.is_some()})
    };
    json!({
        "hello": {"version": 1, "min_version": 1, "agent": "crosstalk/0.1.0", "wall": AT, "session": 0x0102},
        "records": {"users": users},
        "link-presences": {"presences": [part("link-presence")]},
        "link-absence": {"user": from, "device": alice.device.id().to_hex(), "gone": true},
        "presence": {"watchers": [to], "record": part("presence")},
        "envelope": outer_fields(&item(), 5, 0),
        "receipt": part("receipt"),
        "live": {"from": from, "from_resource": "desk", "to": to, "to_resource": "phone", "xml": hex(b"<iq/>")},
        "heartbeat": {},
        "have": [same(1, 8), same(2, 8)],
        "want": [same(2, 8)],
        "relayed": {"users": users, "links": [part("node-links")], "presences": [part("link-presence-hidden")]},
        "deposit": deposit(7, &item(), offer().nonce, None),
        "deposit-token": deposit(8, &sealed_receipts(), 0, Some(part("token"))),
        "deposit-answer": {"request": 7, "outcome": 3, "bits": 20},
        "list": part("mailbox-access"),
        "listing": {"entries": [{"id": hex(id.as_bytes()), "size": 1_234}], "more": true},
        "fetch": [hex(id.as_bytes())],
        "mail": {"items": [hex(&item()), hex(&sealed_receipts())]},
        "discard": [hex(id.as_bytes())],
        "goodbye": {"reason": "shutting down"},
    })
}

/// Every kind of content, encoded and by field.
fn contents() -> Value {
    let (presence, key) = (PresenceKey::from_seed([0x70; 32]).id(), AudienceKey::from_seed([0x71; 32]));
    let (to, resource, none) = (cast(0x20).user.id(), "desk".to_owned(), String::new());
    let copy = Content::Copy { to, from_resource: resource, to_resource: none, xml: b"<message/>".to_vec() };
    let audience = Content::Audience { presence, key: key.clone(), at: Hlc { millis: AT, counter: 7 } };
    let stanza = json!({"from_resource": "desk", "to_resource": "", "xml": hex(b"<message/>")});
    let mut copied = stanza.clone();
    copied["to"] = json!(to.to_hex());
    let contact = records()["contact"].clone();
    let both = |content: Content, says: Value| json!({"bytes": hex(&content.encode()), "says": says});
    json!({
        "stanza": both(content(), json!({"stanza": stanza})),
        "contact": both(Content::Contact(contact.clone()), json!({"contact": hex(&contact)})),
        "copy": both(copy, json!({"copy": copied})),
        "audience": both(audience, json!({"audience": {"presence key": presence.to_hex(),
            "audience key": hex(&key.seed()[..]), "at": {"millis": AT, "counter": 7}}})),
    })
}

fn opened(bytes: &[u8], info: &str) -> (Vec<u8>, Vec<u8>) {
    let (bob, outer) = (cast(0x20), crosstalk_overlay::mailbox::Item::decode(bytes).unwrap().envelope);
    let aad = [&outer.id.as_bytes()[..], outer.recipient.as_bytes(), &outer.key].concat();
    let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&bob.sealing.seed()[..]).unwrap();
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&outer.sealed.enc).unwrap();
    let sealed = &outer.sealed.ciphertext;
    let padded = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret,
        &enc,
        info.as_bytes(),
        sealed,
        &aad,
    );
    (aad, padded.unwrap())
}

/// How the envelope, and the receipts in a mailbox, are made.
fn sealing() -> Value {
    let (alice, bob) = (cast(0x10), cast(0x20));
    let info = "crosstalk/1/envelope";
    let (aad, padded) = opened(&envelope().encode(), info);
    let length = u32::from_be_bytes(padded[..4].try_into().unwrap()) as usize;
    let inner = SignedRecord::decode(&padded[4..4 + length]).unwrap();
    let says = json!({"version": 1, "user": alice.user.id().to_hex(), "sender device": alice.device.id().to_hex(),
        "recipient device": bob.device.id().to_hex(), "sealing key": hex(&bob.sealing.public()),
        "message id": same(4, 16), "epoch": 1, "seq": 2, "first": 1, "sent": AT,
        "content": contents()["stanza"]["says"]});
    let receipts_info = "crosstalk/1/sealed-receipts";
    let (receipts_aad, receipts) = opened(&sealed_receipts(), receipts_info);
    json!({
        "envelope": {"item": hex(&item()), "info": info, "aad": hex(&aad), "padded": hex(&padded),
            "inner": hex(&padded[4..4 + length]), "payload": hex(&inner.payload), "says": says},
        "receipts": {"item": hex(&sealed_receipts()), "info": receipts_info, "aad": hex(&receipts_aad),
            "padded": hex(&receipts), "says": [hex(&records()["receipt"])]},
    })
}

/// How work for a deposit is counted.
fn work() -> Value {
    let (offer, id) = (offer(), item_id(&item()));
    let start = [b"crosstalk/1/work\0", &offer.mailbox.as_bytes()[..], id.as_bytes()].concat();
    let preimage = [start, offer.expires.to_be_bytes().to_vec(), offer.nonce.to_be_bytes().to_vec()].concat();
    json!({"item": hex(&item()), "item id": hex(id.as_bytes()), "mailbox": offer.mailbox.to_hex(),
        "expires": offer.expires, "nonce": offer.nonce, "preimage": hex(&preimage),
        "hash": hex(&Sha256::digest(&preimage)), "bits": bits_of(&offer.mailbox, &id, offer.expires, offer.nonce)})
}

#[test]
fn each_vector_says_what_was_put_into_it() {
    let (records_say, frames_say) = (record_fields(), frame_fields());
    let (records, frames) = (records(), frames());
    assert!(records_say.as_object().unwrap().keys().all(|name| records.contains_key(&name[..])));
    assert!(frames_say.as_object().unwrap().keys().all(|name| frames.contains_key(&name[..])));
    let all = BTreeMap::from([
        ("records", records_say),
        ("signing", signing()),
        ("frames", frames_say),
        ("contents", contents()),
        ("sealing", sealing()),
        ("work", work()),
    ]);
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/steps.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == text, "the fields have changed: other implementations read them otherwise");
}

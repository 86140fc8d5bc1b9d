//! What certificates of names are worth: good, forged, ended, replayed, revoked, made by a wrong clock; as
//! `overlay/vectors/authority.json` keeps it for other implementations.
//!
//! After a deliberate change of the protocol: `UPDATE_VECTORS=1 cargo test -p crosstalk-overlay --test core authority`.

use std::path::Path;

use crosstalk_overlay::authority::{Standing, certify, revoke_name, standing};
use crosstalk_overlay::id::{AuthorityId, UserId};
use crosstalk_overlay::keys::{AuthorityKey, UserKey};
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, TrustedTime};
use prost::Message as _;
use serde_json::{Value, json};

use crate::vectors::{AT, hex};

const ALICE: &str = "alice@school.example";

/// What one reader knows when it judges a certificate.
struct Case {
    name: &'static str,
    cert: Vec<u8>,
    pinned: Option<AuthorityId>,
    holder: Option<(UserId, u64)>,
    revocations: Vec<Verified<Revocation>>,
    now: u64,
    credible: bool,
    expect: &'static str,
}

fn school() -> AuthorityKey {
    AuthorityKey::from_seed([0x40; 32])
}

fn alice() -> UserId {
    UserKey::from_seed([0x10; 32]).id()
}

fn other() -> UserId {
    UserKey::from_seed([0x20; 32]).id()
}

/// Of the school, for alice, made then.
fn made(at: u64) -> Vec<u8> {
    certify(&school(), ALICE, alice(), 0, at).unwrap().bytes().to_vec()
}

/// The same with one part of the signed record changed.
fn forged(change: impl FnOnce(&mut SignedRecord)) -> Vec<u8> {
    let mut signed = SignedRecord::decode(made(AT).as_slice()).unwrap();
    change(&mut signed);
    signed.encode_to_vec()
}

fn cases() -> Vec<Case> {
    let good = Case {
        name: "good",
        cert: made(AT),
        pinned: Some(school().id()),
        holder: Some((alice(), AT)),
        revocations: Vec::new(),
        now: AT + DAY,
        credible: true,
        expect: "certified",
    };
    let stranger = AuthorityKey::from_seed([0x41; 32]);
    let void = |key: &AuthorityKey, user| revoke_name(key, ALICE, user, AT + 1).unwrap();
    let case = |name, expect| Case { name, expect, cert: made(AT), revocations: Vec::new(), ..good };
    let end = AT + 400 * DAY;
    let another = certify(&stranger, ALICE, alice(), 0, AT).unwrap().bytes().to_vec();
    let stolen = forged(|signed| signed.signer = stranger.id().as_bytes().to_vec());
    let bob = "bob@school.example";
    let bobs = forged(|signed| {
        let cert = certify(&school(), bob, alice(), 0, AT).unwrap();
        signed.payload = SignedRecord::decode(cert.bytes()).unwrap().payload;
    });
    let long = {
        let cert = NameCert {
            expires: end + 1,
            ..NameCert::clone(&certify(&school(), ALICE, alice(), 0, AT).unwrap())
        };
        Verified::sign(cert, &school(), None).unwrap().bytes().to_vec()
    };
    vec![
        case("nobody is pinned", "claimed").with(|case| case.pinned = None),
        case("another key is pinned", "foreign").with(|case| case.pinned = Some(stranger.id())),
        case("by another authority", "foreign").with(|case| case.cert = another),
        case("forged: a byte of the signature", "refused")
            .with(|case| case.cert = forged(|signed| signed.signature[9] ^= 1)),
        case("forged: another address under the signature", "refused").with(|case| case.cert = bobs),
        case("forged: another signer", "refused").with(|case| case.cert = stolen),
        case("forged: lives too long", "refused").with(|case| case.cert = long),
        case("the last millisecond", "certified").with(|case| case.now = end - 1),
        case("ended", "ended").with(|case| case.now = end),
        case("ended long ago", "ended").with(|case| case.now = end + 1_000 * DAY),
        case("ended, by a clock that is not credible", "certified")
            .with(|case| (case.now, case.credible) = (end + DAY, false)),
        case("the server's clock is two days ahead", "certified").with(|case| case.now = AT - 2 * DAY),
        case("the server's clock is more than two days ahead", "refused")
            .with(|case| case.now = AT - 2 * DAY - 1),
        case("far ahead, by a clock that is not credible", "certified")
            .with(|case| (case.now, case.credible) = (AT - 1_000 * DAY, false)),
        case("the reader's clock is two days ahead", "certified").with(|case| case.now = AT + 2 * DAY),
        case("replayed: the address has gone to another key", "replaced")
            .with(|case| case.holder = Some((other(), AT + 1))),
        case("an older one of the same key", "certified").with(|case| case.holder = Some((alice(), AT + 1))),
        case("another key had the address before", "certified")
            .with(|case| case.holder = Some((other(), AT - 1))),
        case("revoked", "revoked").with(|case| case.revocations = vec![void(&school(), alice())]),
        case("revoked, and ended", "revoked")
            .with(|case| (case.revocations, case.now) = (vec![void(&school(), alice())], end + DAY)),
        case("revoked by another authority", "certified")
            .with(|case| case.revocations = vec![void(&stranger, alice())]),
        case("revoked for another key", "certified")
            .with(|case| case.revocations = vec![void(&school(), other())]),
        good,
    ]
}

impl Case {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn judged(&self) -> &'static str {
        let mut set = RevocationSet::default();
        for revocation in &self.revocations {
            assert!(set.insert(revocation.clone()));
        }
        let latest = if self.credible { self.now } else { u64::MAX };
        let time = TrustedTime { credible: self.credible, latest, ..TrustedTime::certain(self.now) };
        let context = Context { time, certificates: &NoCertificates, revocations: &set, enforce_end: true };
        let verified = Unverified::<NameCert>::parse(&self.cert).and_then(|cert| cert.verify(&context));
        let Ok(cert) = verified else { return "refused" };
        match standing(&cert, self.pinned, self.holder, &set, time) {
            Standing::Certified { until, valid: true } => {
                assert_eq!(until, cert.expires);
                "certified"
            }
            Standing::Certified { valid: false, .. } => "ended",
            Standing::Claimed => "claimed",
            Standing::Foreign => "foreign",
            Standing::Replaced => "replaced",
            Standing::Revoked => "revoked",
        }
    }

    fn told(&self) -> Value {
        json!({
            "name": self.name,
            "cert": hex(&self.cert),
            "pinned": self.pinned.map(|key| key.to_hex()),
            "holder": self.holder.map(|(user, serial)| json!({ "user": user.to_hex(), "serial": serial })),
            "revocations": self.revocations.iter().map(|one| hex(one.bytes())).collect::<Vec<_>>(),
            "now": self.now,
            "credible": self.credible,
            "expect": self.expect,
        })
    }
}

#[test]
fn a_certificate_is_worth_what_it_says() {
    for case in cases() {
        assert_eq!(case.judged(), case.expect, "{}", case.name);
    }
}

#[test]
fn the_vectors_are_what_they_always_were() {
    let all: Vec<Value> = cases().iter().map(Case::told).collect();
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/authority.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == text, "what a certificate is worth has changed: peers would not agree");
}

//! What certificates of names are worth: good, forged, ended, replayed, revoked, made by a wrong clock; as
//! `overlay/vectors/authority.json` keeps it for other implementations.
//!
//! After a deliberate change of the protocol: `UPDATE_VECTORS=1 cargo test -p crosstalk-overlay --test core authority`.

use std::path::Path;

use crosstalk_overlay::authority::{Chain, Held, Standing, certify, revoke_name, standing};
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
    /// In the order in which they came.
    rotations: Vec<Verified<Rotation>>,
    holder: Option<Held>,
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

fn held(user: UserId, key: &AuthorityKey, serial: u64) -> Held {
    Held { user, authority: key.id(), serial }
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
        rotations: Vec::new(),
        holder: Some(held(alice(), &school(), AT)),
        revocations: Vec::new(),
        now: AT + DAY,
        credible: true,
        expect: "certified",
    };
    let stranger = AuthorityKey::from_seed([0x41; 32]);
    let void = |key: &AuthorityKey, user| revoke_name(key, ALICE, user, AT + 1).unwrap();
    let case = |name, expect| Case {
        name,
        expect,
        cert: made(AT),
        revocations: Vec::new(),
        rotations: Vec::new(),
        ..good
    };
    let (second, third) = (AuthorityKey::from_seed([0x42; 32]), AuthorityKey::from_seed([0x43; 32]));
    let rotated = |old: &AuthorityKey, new: &AuthorityKey, at: u64| {
        Rotation::issue(old, new, "school.example", at).unwrap()
    };
    let by = |key: &AuthorityKey, at: u64| certify(key, ALICE, alice(), 0, at).unwrap().bytes().to_vec();
    let both = vec![rotated(&school(), &second, AT + DAY), rotated(&second, &third, AT + 2 * DAY)];
    let elsewhere = Rotation::issue(&school(), &second, "office.example", AT + DAY).unwrap();
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
        case("the reader's clock is two days ahead, and it has ended for that", "ended")
            .with(|case| case.now = end - DAY + 2 * DAY),
        case("the reader's clock is two days behind, and it has not ended for that", "certified")
            .with(|case| case.now = end + DAY - 2 * DAY),
        case("the reader's clock is two days behind what it was made by", "certified")
            .with(|case| (case.cert, case.now) = (made(AT + 2 * DAY), AT)),
        case("replayed: an ended one, when the address has gone to another key", "replaced").with(|case| {
            (case.holder, case.now) = (Some(held(other(), &school(), AT + 1)), end + DAY);
        }),
        case("replayed: after it was revoked, to a reader whose clock is two days behind", "revoked").with(
            |case| {
                (case.revocations, case.now) = (vec![void(&school(), alice())], AT + 1 - 2 * DAY);
            },
        ),
        case("replayed: the address has gone to another key", "replaced")
            .with(|case| case.holder = Some(held(other(), &school(), AT + 1))),
        case("an older one of the same key", "certified")
            .with(|case| case.holder = Some(held(alice(), &school(), AT + 1))),
        case("another key had the address before", "certified")
            .with(|case| case.holder = Some(held(other(), &school(), AT - 1))),
        case("revoked", "revoked").with(|case| case.revocations = vec![void(&school(), alice())]),
        case("revoked, and ended", "revoked")
            .with(|case| (case.revocations, case.now) = (vec![void(&school(), alice())], end + DAY)),
        case("revoked by another authority", "certified")
            .with(|case| case.revocations = vec![void(&stranger, alice())]),
        case("revoked for another key", "certified")
            .with(|case| case.revocations = vec![void(&school(), other())]),
        case("rotated: by the new key", "certified")
            .with(|case| (case.cert, case.rotations) = (by(&second, AT + DAY), both[..1].to_vec())),
        case("rotated: by the new key, nobody has said so", "foreign")
            .with(|case| case.cert = by(&second, AT + DAY)),
        case("rotated: by the old key, until it ends", "certified")
            .with(|case| (case.rotations, case.now) = (both[..1].to_vec(), end - 1)),
        case("rotated: by the old key, two days after it was left", "certified").with(|case| {
            (case.cert, case.rotations) = (by(&school(), AT + 3 * DAY), both[..1].to_vec());
            case.now = AT + 4 * DAY;
        }),
        case("rotated: by the old key, more than two days after it was left", "foreign").with(|case| {
            (case.cert, case.rotations) = (by(&school(), AT + 3 * DAY + 1), both[..1].to_vec());
            case.now = AT + 4 * DAY;
        }),
        case("rotated twice", "certified")
            .with(|case| (case.cert, case.rotations) = (by(&third, AT + DAY), both.clone())),
        case("rotated twice, the second is heard first and not kept", "foreign").with(|case| {
            let turned = both.iter().rev().cloned().collect();
            (case.cert, case.rotations) = (by(&third, AT + DAY), turned);
        }),
        case("rotated: the later key is pinned, by the former", "certified")
            .with(|case| (case.pinned, case.rotations) = (Some(second.id()), both[..1].to_vec())),
        case("rotated: another user has it by the new key, with a lower serial", "replaced").with(|case| {
            (case.rotations, case.holder) = (both[..1].to_vec(), Some(held(other(), &second, 1)));
        }),
        case("rotated: another user has it by the old key, with a higher serial", "certified").with(|case| {
            (case.cert, case.rotations) = (by(&second, AT + DAY), both[..1].to_vec());
            case.holder = Some(held(other(), &school(), u64::MAX));
        }),
        case(
            "rotated twice: by the second key, another user has it by the first with a higher serial",
            "certified",
        )
        .with(|case| {
            (case.cert, case.rotations) = (by(&second, AT + DAY), both.clone());
            case.holder = Some(held(other(), &school(), u64::MAX));
        }),
        case("rotated back: a loop is not followed", "certified").with(|case| {
            let back = rotated(&second, &school(), AT + DAY);
            (case.cert, case.rotations) = (by(&second, AT + DAY), vec![both[0].clone(), back]);
        }),
        case("rotated: for another domain", "foreign")
            .with(|case| (case.cert, case.rotations) = (by(&second, AT + DAY), vec![elsewhere])),
        case("rotated by a stranger", "foreign").with(|case| {
            let strange = rotated(&stranger, &second, AT + DAY);
            (case.cert, case.rotations) = (by(&second, AT + DAY), vec![strange]);
        }),
        case("stolen: two follow, by the one", "foreign").with(|case| {
            let fork = vec![both[0].clone(), rotated(&school(), &stranger, AT)];
            (case.cert, case.rotations) = (by(&second, AT + DAY), fork);
        }),
        case("stolen: two follow, by the other", "foreign").with(|case| {
            let fork = vec![both[0].clone(), rotated(&school(), &stranger, AT)];
            (case.cert, case.rotations) = (by(&stranger, AT + DAY), fork);
        }),
        case("stolen: two follow, by the key that both follow", "certified").with(|case| {
            case.rotations = vec![both[0].clone(), rotated(&school(), &stranger, AT)];
        }),
        case("rotated: the new key has revoked what the old one gave", "revoked").with(|case| {
            (case.rotations, case.revocations) = (both[..1].to_vec(), vec![void(&second, alice())]);
        }),
        case("rotated: the old key has revoked what the new one gave", "revoked").with(|case| {
            (case.cert, case.rotations) = (by(&second, AT + DAY), both[..1].to_vec());
            case.revocations = vec![void(&school(), alice())];
        }),
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
        let mut pinned = self.pinned.map(Chain::of);
        for rotation in &self.rotations {
            let verified =
                Unverified::<Rotation>::parse(rotation.bytes()).and_then(|one| one.verify(&context));
            if let (Some(chain), Ok(rotation)) = (&mut pinned, verified)
                && rotation.domain == cert.domain()
            {
                let _ = chain.insert(rotation);
            }
        }
        match standing(&cert, pinned.as_ref(), self.holder.as_ref(), &set, time) {
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
            "rotations": self.rotations.iter().map(|one| hex(one.bytes())).collect::<Vec<_>>(),
            "holder": self.holder.map(|held| {
                json!({ "user": held.user.to_hex(), "authority": held.authority.to_hex(), "serial": held.serial })
            }),
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

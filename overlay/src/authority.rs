//! What an authority issues and takes back, and what a certificate by one is worth. *Pure.*
//!
//! Whoever has the authority's key gives a name ([`certify`]) and takes names and devices back ([`revoke_name`],
//! [`revoke_device`]). Everybody else asks [`standing`], which needs no server: the certificate, the key that is pinned
//! for the domain, the revocations and the time decide (DESIGN.md §3.3).

mod chain;

pub use chain::{BadStep, Chain, MAX_ROTATIONS};

use crate::id::{AuthorityId, DeviceId, UserId};
use crate::keys::AuthorityKey;
use crate::record::{
    NameCert, Record as _, Refusal, Revocation, RevocationSet, Revoked, RevokedBy, Verified,
};
use crate::time::{DAY, TrustedTime};

/// A NameCert is renewed when this long has passed since it was issued, milliseconds: 60 days of its 400. Whoever meets
/// the server once in 340 days stays certified without a gap, and one who meets it daily costs it six signatures a year.
pub const RENEW_AFTER: u64 = 60 * DAY;

/// Gives `address` to `user` for 400 days. `before` is the highest serial ever issued for the address (0: none): the new
/// one is higher, also if the clock went back meanwhile.
///
/// # Errors
/// When the address cannot be one.
pub fn certify(
    key: &AuthorityKey,
    address: &str,
    user: UserId,
    before: u64,
    wall: u64,
) -> Result<Verified<NameCert>, Refusal> {
    NameCert::issue(key, address, user, wall.max(before.saturating_add(1)), wall)
}

/// When a certificate that ends then is to be renewed, Unix milliseconds.
pub fn due_at(expires: u64) -> u64 {
    expires.saturating_sub(NameCert::MAX_LIFE - RENEW_AFTER)
}

/// Whether a certificate is to be renewed now. A clock that is not credible renews nothing.
pub fn is_due(cert: &NameCert, time: TrustedTime) -> bool {
    time.credible && time.millis >= due_at(cert.expires)
}

/// Takes an address from a user.
///
/// # Errors
/// When it is too long for a record.
pub fn revoke_name(
    key: &AuthorityKey,
    address: &str,
    user: UserId,
    wall: u64,
) -> Result<Verified<Revocation>, Refusal> {
    revoke(key, Revoked::Name(address.to_owned(), user), wall)
}

/// Ends a device of a user whom the authority has given a name.
///
/// # Errors
/// None in practice.
pub fn revoke_device(
    key: &AuthorityKey,
    user: UserId,
    device: DeviceId,
    wall: u64,
) -> Result<Verified<Revocation>, Refusal> {
    revoke(key, Revoked::Device(user, device), wall)
}

fn revoke(key: &AuthorityKey, what: Revoked, wall: u64) -> Result<Verified<Revocation>, Refusal> {
    Verified::sign(Revocation { what, by: RevokedBy::Authority(key.id()), since: wall }, key, None)
}

/// Who is known to have an address, and by which certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who has it.
    pub user: UserId,
    /// Whose key says so.
    pub authority: AuthorityId,
    /// The certificate's serial.
    pub serial: u64,
}

impl Held {
    /// What a certificate says.
    pub fn by(cert: &NameCert) -> Self {
        Self { user: cert.user, authority: cert.authority, serial: cert.serial }
    }

    /// Whether this was said after something else.
    pub fn is_later(&self, other: &Self, chain: &Chain) -> bool {
        chain.is_later((self.authority, self.serial), (other.authority, other.serial))
    }

    /// Whether the address of a certificate is another user's since.
    pub fn replaces(&self, cert: &NameCert, chain: &Chain) -> bool {
        self.user != cert.user && self.is_later(&Self::by(cert), chain)
    }
}

/// What a name is worth to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The authority that is pinned for the domain says so.
    Certified {
        /// When the certificate ends, Unix milliseconds.
        until: u64,
        /// Whether it has not ended. An ended one still says who somebody is.
        valid: bool,
    },
    /// No key is pinned for the domain: somebody says so.
    Claimed,
    /// Another key is pinned for the domain.
    Foreign,
    /// The authority has given the address to another key since.
    Replaced,
    /// The authority has taken the name back.
    Revoked,
}

/// What a verified certificate is worth, where `pinned` are the keys of the authority that is pinned for its domain, and
/// `holder` who is known to have the address by the latest certificate.
pub fn standing(
    cert: &NameCert,
    pinned: Option<&Chain>,
    holder: Option<&Held>,
    revocations: &RevocationSet,
    time: TrustedTime,
) -> Standing {
    if pinned.is_some_and(|chain| !chain.vouches(cert)) {
        return Standing::Foreign;
    }
    let revoked = |key| revocations.is_name_revoked(&cert.address, &cert.user, &key);
    if revoked(cert.authority) || pinned.is_some_and(|chain| chain.keys().any(revoked)) {
        return Standing::Revoked;
    }
    let Some(chain) = pinned else { return Standing::Claimed };
    if holder.is_some_and(|held| held.replaces(cert, chain)) {
        return Standing::Replaced;
    }
    Standing::Certified { until: cert.expires, valid: cert.is_valid(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 20_000 * DAY;
    const ALICE: &str = "alice@school.example";

    fn key() -> AuthorityKey {
        AuthorityKey::from_seed([7; 32])
    }

    fn user(byte: u8) -> UserId {
        UserId::from_bytes([byte; 32])
    }

    fn cert() -> Verified<NameCert> {
        certify(&key(), ALICE, user(1), 0, NOW).expect("signed")
    }

    fn judged(pinned: Option<AuthorityId>, holder: Option<(UserId, u64)>) -> Standing {
        let holder = holder.map(|(user, serial)| Held { user, authority: key().id(), serial });
        standing(
            &cert(),
            pinned.map(Chain::of).as_ref(),
            holder.as_ref(),
            &RevocationSet::default(),
            TrustedTime::certain(NOW),
        )
    }

    #[test]
    fn serials_ascend_even_if_the_clock_goes_back() {
        let first = cert();
        let second = certify(&key(), ALICE, user(1), first.serial, NOW - DAY).expect("signed");
        assert!(second.serial > first.serial && second.issued < first.issued);
    }

    #[test]
    fn a_name_counts_by_the_pinned_key_only() {
        let certified = Standing::Certified { until: cert().expires, valid: true };
        assert_eq!(judged(Some(key().id()), None), certified);
        assert_eq!(judged(None, None), Standing::Claimed);
        assert_eq!(judged(Some(AuthorityKey::from_seed([8; 32]).id()), None), Standing::Foreign);
    }

    #[test]
    fn a_certificate_that_was_replaced_counts_no_more() {
        let (pinned, serial) = (Some(key().id()), cert().serial);
        assert_eq!(judged(pinned, Some((user(2), serial + 1))), Standing::Replaced);
        assert!(matches!(judged(pinned, Some((user(1), serial + 1))), Standing::Certified { .. }));
        assert!(matches!(judged(pinned, Some((user(2), serial - 1))), Standing::Certified { .. }));
    }

    #[test]
    fn a_revoked_name_counts_no_more_and_that_of_others_does() {
        let mut revocations = RevocationSet::default();
        revocations.insert(revoke_name(&key(), ALICE, user(1), NOW).expect("signed"));
        let pinned = Chain::of(key().id());
        let of =
            |cert: &NameCert| standing(cert, Some(&pinned), None, &revocations, TrustedTime::certain(NOW));
        assert_eq!(of(&cert()), Standing::Revoked);
        let other = certify(&key(), ALICE, user(2), cert().serial, NOW).expect("signed");
        assert!(matches!(of(&other), Standing::Certified { valid: true, .. }));
    }

    #[test]
    fn renewal_is_due_after_sixty_days_by_a_credible_clock() {
        let at = |days: u64| TrustedTime::certain(NOW + days * DAY);
        assert!(!is_due(&cert(), at(59)) && is_due(&cert(), at(60)));
        assert!(!is_due(&cert(), TrustedTime { credible: false, ..at(60) }));
    }
}

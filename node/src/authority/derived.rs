//! Secrets that stand for a password in OPAQUE (`overlay/PROTOCOL.md` §12): made of what another server kept of it (SCRAM,
//! RFC 5802), or stretched, so that a laptop can hold a changed one for the server. *Pure.*

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use crosstalk_overlay::enrol::{MAX_SALT, MOST_ROUNDS, Salted, Scheme};
use crosstalk_storage::tree::authority::Verifier;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::opaque::{Account, OpaqueError};
use crate::accounts::seal::Cost;
use crate::c2s::credentials::{Hash, ITERATIONS, SHA1, SHA256, SHA512};

/// A secret that takes the place of a password.
pub type Derived = Zeroizing<Vec<u8>>;

/// The functions of a scheme of SCRAM.
fn hash_of(scheme: Scheme) -> Option<&'static Hash> {
    match scheme {
        Scheme::ScramSha1 => Some(&SHA1),
        Scheme::ScramSha256 => Some(&SHA256),
        Scheme::ScramSha512 => Some(&SHA512),
        Scheme::Stretched | Scheme::Unknown => None,
    }
}

fn scheme_of(number: i32) -> Scheme {
    Scheme::try_from(number).unwrap_or(Scheme::Unknown)
}

/// Whether that is what a server of SCRAM keeps, and a laptop would do the work for.
pub fn is_usable(verifier: &Verifier) -> bool {
    let Some(hash) = hash_of(scheme_of(verifier.scheme)) else { return false };
    (1..=MOST_ROUNDS).contains(&verifier.rounds)
        && verifier.salt.len() <= MAX_SALT
        && [&verifier.stored_key, &verifier.server_key].iter().all(|key| key.len() == hash.length())
}

/// What a server keeps of a prepared password, SCRAM-SHA-256; costs some milliseconds.
pub fn verifier_of(prepared: &str, salt: &[u8]) -> Verifier {
    let (_, keys) = SHA256.all_keys(prepared, salt, ITERATIONS);
    Verifier {
        scheme: Scheme::ScramSha256.into(),
        salt: keys.salt,
        rounds: keys.iterations,
        stored_key: keys.stored_key,
        server_key: keys.server_key,
    }
}

/// The secret of what a server kept.
pub fn secret_of(verifier: &Verifier) -> Derived {
    secret(verifier.scheme, &verifier.stored_key, &verifier.server_key)
}

fn secret(scheme: i32, stored_key: &[u8], server_key: &[u8]) -> Derived {
    let scheme = u8::try_from(scheme).unwrap_or_default();
    Zeroizing::new([b"crosstalk/1/scram\0", &[scheme][..], stored_key, server_key].concat())
}

/// Whether somebody has the password, and not only what a server kept of it.
pub fn is_client_key(verifier: &Verifier, client_key: &[u8]) -> bool {
    hash_of(scheme_of(verifier.scheme))
        .is_some_and(|hash| hash.is_client_key(client_key, &verifier.stored_key))
}

/// The same secret from a prepared password, and the ClientKey. Nothing if more is asked for than a laptop does.
pub fn from_password(prepared: &str, salted: &Salted) -> Option<(Derived, Derived)> {
    let hash = hash_of(scheme_of(salted.scheme))?;
    let rounds = NonZeroU32::new(salted.rounds).filter(|rounds| rounds.get() <= MOST_ROUNDS)?;
    let (client_key, keys) = hash.all_keys(prepared, &salted.salt, rounds);
    Some((secret(salted.scheme, &keys.stored_key, &keys.server_key), client_key))
}

/// A prepared password stretched for one account at one authority. Takes some 50 ms and 46 MiB.
///
/// # Errors
/// Without the memory.
pub fn stretched(prepared: &[u8], account: Account<'_>) -> Result<Derived, OpaqueError> {
    let Cost { memory, passes, lanes } = Cost::PASSWORD;
    let salt = Sha256::new_with_prefix(b"crosstalk/1/stretched\0")
        .chain_update(account.authority.as_bytes())
        .chain_update(account.address.as_bytes())
        .finalize();
    let mut output = Zeroizing::new(vec![0; 32]);
    let params = Params::new(memory, passes, u32::from(lanes), Some(32)).map_err(|_| OpaqueError::Machine)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(prepared, &salt[..16], &mut output)
        .map_err(|_| OpaqueError::Machine)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    /// As Prosody 0.12 keeps "secret", and as ejabberd 23.01 does.
    #[test]
    fn a_password_gives_the_secret_of_what_a_stock_server_kept() {
        let bytes = |text: &str| STANDARD.decode(text).expect("base64");
        let prosody = Verifier {
            scheme: Scheme::ScramSha1.into(),
            salt: bytes("MjIyMTU4MDEtNzVkYi00MWZiLTgxM2UtOWU4OTNjYWY3YmMz"),
            rounds: 10_000,
            stored_key: bytes("LJBXi5KM4+3T/T6magws2jdvU+4="),
            server_key: bytes("VN/j34l1SR8E0/qIe6J8hE2G4T4="),
        };
        let ejabberd = Verifier {
            scheme: Scheme::ScramSha1.into(),
            salt: bytes("oPF4PFpYlZTPMGVxPxkThQ=="),
            rounds: 4_096,
            stored_key: bytes("t3vSF2cQcWfb4VH72eOg3wBXUWE="),
            server_key: bytes("ZxU4/braox+Oyz0eCKcZuMIFjmk="),
        };
        for kept in [prosody, ejabberd] {
            let salted = Salted { scheme: kept.scheme, salt: kept.salt.clone(), rounds: kept.rounds };
            let (secret, client_key) = from_password("secret", &salted).expect("derived");
            assert!(is_usable(&kept) && is_client_key(&kept, &client_key));
            assert_eq!(secret, secret_of(&kept));
            let (other, client_key) = from_password("Secret", &salted).expect("derived");
            assert!(other != secret && !is_client_key(&kept, &client_key));
        }
    }
}

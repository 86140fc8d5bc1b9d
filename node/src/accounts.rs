//! Accounts as people have them: names, passwords, recovery codes, and the keys behind them.
//!
//! The user key exists opened only inside the functions of this file: it is made, certifies the device of this node,
//! is sealed twice, and erased. What a node needs to run lies in the [`key_dir`].

pub mod key_dir;
pub mod key_file;
pub mod names;
pub mod random;
pub mod seal;
pub mod secrets;

use crosstalk_overlay::id::{DeviceId, UserId, XID_DOMAIN};
use crosstalk_overlay::keys::{AuthorityKey, DeviceKey, SealingKey, UserKey};
use crosstalk_overlay::record::{DeviceCert, NameCert, Refusal, Revocation, Revoked, RevokedBy, Verified};
use zeroize::Zeroizing;

use crate::c2s::credentials::{ITERATIONS, PasswordError, SALT_BYTES, prepare_password, scram_keys};
use crate::core::admin::NewAccount;
use crate::core::devices::JoinedAccount;
use crate::core::enrol::NamedAccount;
use crate::core::io::Credentials;
use crate::core::settings::DeviceKeys;
use crate::event_loop::clock::wall_millis;
use key_dir::{KeyDir, KeyError};
use names::NameError;
use random::NoRandomness;
use seal::{Cost, SealError};

/// A certificate with less left than this is renewed when it can be, milliseconds: 60 days.
pub const RENEW_BEFORE: u64 = 60 * DAY;
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Why an account could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A name, password or nickname cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A sealed key does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A key file is in the way.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] NoRandomness),
    /// The password cannot be prepared for SCRAM.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The password's protocol with a server.
    #[error(transparent)]
    Opaque(#[from] crate::authority::opaque::OpaqueError),
    /// A certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] Refusal),
}

/// The domain that a node gives names under.
#[derive(Debug)]
pub struct OwnDomain {
    /// The domain.
    pub name: String,
    /// Its key.
    pub key: AuthorityKey,
}

/// An account that is ready to be added: its key file is durable.
pub struct Prepared {
    /// For the core.
    pub account: NewAccount,
    /// The password, as given or as made.
    pub password: Zeroizing<String>,
    /// Shown once.
    pub recovery: Zeroizing<String>,
}

/// What a new password changes.
pub struct NewPassword {
    /// The password, as given or as made.
    pub password: Zeroizing<String>,
    /// How it is checked.
    pub credentials: Credentials,
    /// The user key sealed under it, if it was opened.
    pub sealed: Option<Vec<u8>>,
    /// A fresh certificate of this node's device, if the user key was opened.
    pub device_cert: Option<Vec<u8>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.account.user)
    }
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewPassword({}, sealed {})", self.credentials.user, self.sealed.is_some())
    }
}

/// Makes accounts of one node. Everything here may take 50 ms: call it off the event loop.
#[derive(Debug)]
pub struct Accounts {
    keys: KeyDir,
    own: Option<OwnDomain>,
}

impl Accounts {
    /// Accounts with their keys in `keys`, named under `own` if the node has a domain.
    pub fn new(keys: KeyDir, own: Option<OwnDomain>) -> Self {
        Self { keys, own }
    }

    /// The domain that the node gives names under, if it has one.
    pub fn own(&self) -> Option<&OwnDomain> {
        self.own.as_ref()
    }

    /// The domain that people type to log in.
    pub fn domain(&self) -> &str {
        self.own.as_ref().map_or(XID_DOMAIN, |own| &own.name)
    }

    /// An account name in its normal form.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn name(typed: &str) -> Result<String, AccountError> {
        Ok(names::account_name(typed)?)
    }

    /// A nickname as it may be shown.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn nickname(typed: &str) -> Result<String, AccountError> {
        Ok(names::nickname(typed)?)
    }

    /// Makes keys, certificates and credentials for a new account, and writes its key file.
    ///
    /// # Errors
    /// When name, password or nickname cannot be used, or the key file cannot be written.
    pub fn prepare(
        &self,
        name: &str,
        password: Option<Zeroizing<String>>,
        nickname: Option<&str>,
    ) -> Result<Prepared, AccountError> {
        let name = names::account_name(name)?;
        let nickname = names::nickname(nickname.unwrap_or(&name))?;
        let password = given_or_made(password)?;
        let recovery = secrets::recovery_code(&random::bytes()?);
        let now = wall_millis();

        let key = UserKey::from_seed(*Zeroizing::new(random::bytes()?));
        let (device, sealing) = device_keys(now)?;
        let user = key.id();
        let account = NewAccount {
            credentials: credentials(user, &password)?,
            sealed_by_password: seal_under_password(&key, &password)?,
            sealed_by_recovery: seal_under_recovery(&key, &recovery)?,
            device_cert: certify_device(&key, &device, now)?,
            name_cert: self.certify_name(&name, user, now)?,
            domain: self.domain().to_owned(),
            name,
            user,
            device: device.clone(),
            sealing: sealing.clone(),
            nickname,
        };
        self.keys.put(user, &DeviceKeys { device, sealing: vec![sealing] })?;
        Ok(Prepared { account, password, recovery })
    }

    /// Makes this node a device of an account that another device has given: the password opens the user key, which
    /// certifies the device key that is made here. Writes the key file.
    ///
    /// # Errors
    /// When the password does not open the user key, or the key file cannot be written.
    pub fn join(
        &self,
        given: &JoinedAccount,
        name: Option<&str>,
        password: &str,
    ) -> Result<NewAccount, AccountError> {
        let user = UserId::from_bytes(given.user);
        let name = names::account_name(name.unwrap_or(&given.name))?;
        let enrolled = given.home.as_ref().map(|(domain, _)| domain.clone());
        let key = Self::open_with_password(user, &given.sealed_by_password.0, password)?;
        let now = wall_millis();
        let (device, sealing) = device_keys(now)?;
        let known_name = Some(given.name_cert.clone()).filter(|cert| !cert.is_empty());
        let account = NewAccount {
            credentials: credentials(user, password)?,
            sealed_by_password: given.sealed_by_password.0.clone(),
            sealed_by_recovery: given.sealed_by_recovery.0.clone(),
            device_cert: certify_device(&key, &device, now)?,
            // Under a domain of this node's own the user gets a name there too, unless it has one.
            name_cert: match &enrolled {
                Some(_) => known_name,
                None => self.certify_name(&name, user, now)?.or(known_name),
            },
            domain: enrolled.unwrap_or_else(|| self.domain().to_owned()),
            nickname: names::nickname(&given.nickname).unwrap_or_else(|_| name.clone()),
            name,
            user,
            device: device.clone(),
            sealing: sealing.clone(),
        };
        self.keys.put(user, &DeviceKeys { device, sealing: vec![sealing] })?;
        Ok(account)
    }

    /// Makes the account of a user of another node's domain, whose opened key certifies the device key that is made here.
    /// Writes the key file.
    ///
    /// # Errors
    /// When name or password cannot be used, or the key file cannot be written.
    pub fn enrolled(
        &self,
        key: &UserKey,
        address: (&str, &str),
        name_cert: Vec<u8>,
        sealed_by_recovery: Vec<u8>,
        password: &str,
    ) -> Result<NewAccount, AccountError> {
        let (name, domain) = (names::account_name(address.0)?, address.1.to_owned());
        let now = wall_millis();
        let (device, sealing) = device_keys(now)?;
        let user = key.id();
        let account = NewAccount {
            credentials: credentials(user, password)?,
            sealed_by_password: seal_under_password(key, password)?,
            sealed_by_recovery,
            device_cert: certify_device(key, &device, now)?,
            name_cert: Some(name_cert),
            domain,
            nickname: names::nickname(&name)?,
            name,
            user,
            device: device.clone(),
            sealing: sealing.clone(),
        };
        self.keys.put(user, &DeviceKeys { device, sealing: vec![sealing] })?;
        Ok(account)
    }

    /// What changes for an account that gets a name under another node's domain, with the password of that name.
    ///
    /// # Errors
    /// When the password cannot be used.
    pub fn named(
        key: &UserKey,
        address: (&str, &str),
        name_cert: Vec<u8>,
        password: &str,
    ) -> Result<NamedAccount, AccountError> {
        let user = key.id();
        Ok(NamedAccount {
            credentials: credentials(user, password)?,
            sealed_by_password: seal_under_password(key, password)?,
            name: names::account_name(address.0)?,
            domain: address.1.to_owned(),
            name_cert,
            user,
        })
    }

    /// The user's statement that a device is void from now on.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn revocation(user: UserId, key: &UserKey, device: DeviceId) -> Result<Vec<u8>, AccountError> {
        revoked(Revoked::Device(user, device), key)
    }

    /// The user's statement that the key itself is in other hands, and everything that it signed void.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn compromised(user: UserId, key: &UserKey) -> Result<Vec<u8>, AccountError> {
        revoked(Revoked::User(user), key)
    }

    /// Erases the keys of an account that was not added, or is gone.
    ///
    /// # Errors
    /// When the key file cannot be erased.
    pub fn forget(&self, user: UserId) -> Result<(), AccountError> {
        Ok(self.keys.erase(user)?)
    }

    /// What changes with a new password; with the opened user key, that is sealed anew and the device certified anew.
    ///
    /// # Errors
    /// When the password cannot be used or the device key cannot be read.
    pub fn new_password(
        &self,
        user: UserId,
        key: Option<&UserKey>,
        password: Option<Zeroizing<String>>,
    ) -> Result<NewPassword, AccountError> {
        let password = given_or_made(password)?;
        let credentials = credentials(user, &password)?;
        let sealed = key.map(|key| seal_under_password(key, &password)).transpose()?;
        let device_cert = match key {
            Some(key) => Some(self.renewed(user, key)?),
            None => None,
        };
        Ok(NewPassword { password, credentials, sealed, device_cert })
    }

    /// A fresh certificate of this node's device.
    ///
    /// # Errors
    /// When the device key cannot be read.
    pub fn renewed(&self, user: UserId, key: &UserKey) -> Result<Vec<u8>, AccountError> {
        certify_device(key, &self.keys.user(user)?.device, wall_millis())
    }

    /// Opens a user key with the password that it was sealed under.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open_with_password(user: UserId, sealed: &[u8], password: &str) -> Result<UserKey, AccountError> {
        Ok(seal::open(user, sealed, prepare_password(password)?.as_bytes())?)
    }

    /// Opens a user key with its recovery code, typed with or without hyphens.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open_with_recovery(user: UserId, sealed: &[u8], code: &str) -> Result<UserKey, AccountError> {
        Ok(seal::open(user, sealed, secrets::normal_recovery_code(code).as_bytes())?)
    }

    /// The node's statement that `name` under its domain is `user`, on a node with a domain.
    ///
    /// # Errors
    /// When the address is too long for a certificate.
    pub fn certify_name(&self, name: &str, user: UserId, now: u64) -> Result<Option<Vec<u8>>, AccountError> {
        let Some(own) = &self.own else { return Ok(None) };
        let address = format!("{name}@{}", own.name);
        // The serial ascends with time, so that a renewal has a higher one without a counter to keep.
        let cert = NameCert::issue(&own.key, &address, user, now, now)?;
        Ok(Some(cert.bytes().to_vec()))
    }
}

/// The keys of a new device, made at this time.
fn device_keys(now: u64) -> Result<(DeviceKey, SealingKey), AccountError> {
    let device = DeviceKey::from_seed(*Zeroizing::new(random::bytes()?));
    let sealing = SealingKey::from_seed(*Zeroizing::new(random::bytes()?), now);
    Ok((device, sealing))
}

/// A user's signed word that something is void from now on.
fn revoked(what: Revoked, key: &UserKey) -> Result<Vec<u8>, AccountError> {
    let revocation = Revocation { what, by: RevokedBy::User, since: wall_millis() };
    Ok(Verified::sign(revocation, key, None)?.bytes().to_vec())
}

fn certify_device(key: &UserKey, device: &DeviceKey, now: u64) -> Result<Vec<u8>, AccountError> {
    Ok(DeviceCert::issue(key, device.id(), now)?.bytes().to_vec())
}

fn given_or_made(password: Option<Zeroizing<String>>) -> Result<Zeroizing<String>, AccountError> {
    match password {
        Some(password) => names::password(&password).map(|()| password).map_err(AccountError::from),
        None => Ok(secrets::password(&random::bytes()?)),
    }
}

/// How a password will be checked; costs some milliseconds.
///
/// # Errors
/// When it cannot be a password.
pub fn credentials(user: UserId, password: &str) -> Result<Credentials, AccountError> {
    names::password(password)?;
    let salt: [u8; SALT_BYTES] = random::bytes()?;
    let (sha1, sha256) = scram_keys(password, &salt, ITERATIONS)?;
    Ok(Credentials { user, sha1, sha256 })
}

fn seal_under_password(key: &UserKey, password: &str) -> Result<Vec<u8>, AccountError> {
    let password = prepare_password(password)?;
    Ok(seal::seal(key, password.as_bytes(), Cost::PASSWORD, &random::bytes()?)?)
}

fn seal_under_recovery(key: &UserKey, code: &str) -> Result<Vec<u8>, AccountError> {
    let code = secrets::normal_recovery_code(code);
    Ok(seal::seal(key, code.as_bytes(), Cost::RECOVERY, &random::bytes()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let data = tempfile::tempdir().expect("dir");
        let accounts = Accounts::new(KeyDir::open(data.path()).expect("opened"), None);
        let secret = || Some(Zeroizing::new("wherefore".to_owned()));
        let made = accounts.prepare("anna", secret(), None).expect("made");
        let sealed = format!("{:?}", &made.account.sealed_by_password[..8]);
        let fresh = accounts.new_password(made.account.user, None, secret()).expect("made");
        let printed = format!("{made:?} {fresh:?}");
        for secret in ["wherefore", made.recovery.as_str(), sealed.trim_matches(['[', ']'])] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

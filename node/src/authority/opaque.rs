//! OPAQUE (RFC 9807) as it is used here: OPAQUE-3DH, ristretto255-SHA512, Argon2id.
//!
//! The server learns neither the password nor anything that it could try passwords against without its own key; the
//! client gets an export key that nobody else has. The authority's key is the server's identity in the envelope: who
//! proves a password is told, by the proof, which authority it was registered with.

use argon2::{Algorithm, Argon2, Params, Version};
use crosstalk_overlay::id::AuthorityId;
use opaque_ke::errors::{InternalError, ProtocolError};
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use opaque_ke::ksf::Ksf;
use opaque_ke::rand::{CryptoRng, RngCore};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest, CredentialResponse,
    Identifiers, RegistrationRequest, RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::accounts::random;
use crate::accounts::seal::Cost;

/// Bytes of an export key.
const EXPORT: usize = 64;

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpaqueError {
    /// Another password, or somebody else than the server that it was registered with.
    #[error("the password does not fit")]
    Password,
    /// Bytes that are none of such a message.
    #[error("the other side said something that is not understood: use the same version on both")]
    Malformed,
    /// No memory or no randomness.
    #[error("this machine has not enough memory or no random numbers now")]
    Machine,
}

impl From<ProtocolError> for OpaqueError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::InvalidLoginError => Self::Password,
            ProtocolError::LibraryError(InternalError::KsfError) => Self::Machine,
            _ => Self::Malformed,
        }
    }
}

/// The suite.
#[derive(Debug)]
pub struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_v10::Sha512>;
    type Ksf = Stretch;
}

/// Argon2id at the cost of sealing a user key, salt of zeros (RFC 9807 §3.1: the input is random already).
#[derive(Debug, Default)]
pub struct Stretch;

impl Ksf for Stretch {
    fn hash<L: ArrayLength<u8>>(
        &self,
        input: GenericArray<u8, L>,
    ) -> Result<GenericArray<u8, L>, InternalError> {
        let Cost { memory, passes, lanes } = Cost::PASSWORD;
        let mut output = GenericArray::<u8, L>::default();
        let params = Params::new(memory, passes, u32::from(lanes), Some(output.len()));
        let params = params.map_err(|_| InternalError::KsfError)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&input, &[0; 16], &mut output)
            .map_err(|_| InternalError::KsfError)?;
        Ok(output)
    }
}

/// A seeded source of randomness for a crate that knows an older trait.
struct Dice(ChaCha20Rng);

impl Dice {
    fn of(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }
}

fn fresh() -> Result<[u8; 32], OpaqueError> {
    random::bytes().map_err(|_| OpaqueError::Machine)
}

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), opaque_ke::rand::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Dice {}

/// What only the client gets, from its password and the server together.
pub type ExportKey = Zeroizing<[u8; EXPORT]>;

/// Which account at which authority a password is for.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// `NAME@DOMAIN`
    pub address: &'a str,
    /// The authority that it is registered with.
    pub authority: &'a AuthorityId,
}

impl<'a> Account<'a> {
    fn identifiers(self) -> Identifiers<'a> {
        Identifiers { client: Some(self.address.as_bytes()), server: Some(self.authority.as_bytes()) }
    }
}

/// A registration under way at the client.
pub struct Registration {
    state: ClientRegistration<Suite>,
    dice: Dice,
    /// For the server.
    pub request: Vec<u8>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration")
    }
}

impl Registration {
    /// Begins.
    ///
    /// # Errors
    /// Without random numbers.
    pub fn start(password: &[u8]) -> Result<Self, OpaqueError> {
        Self::with(password, fresh()?)
    }

    /// Begins with this as all chance that there is.
    ///
    /// # Errors
    /// None in practice.
    pub fn with(password: &[u8], seed: [u8; 32]) -> Result<Self, OpaqueError> {
        let mut dice = Dice::of(seed);
        let started = ClientRegistration::<Suite>::start(&mut dice, password)?;
        Ok(Self { state: started.state, dice, request: started.message.serialize().to_vec() })
    }

    /// Ends: what the server keeps, and the export key. Takes some 50 ms and 46 MiB.
    ///
    /// # Errors
    /// When the response is none, or the memory cannot be had.
    pub fn finish(
        mut self,
        password: &[u8],
        response: &[u8],
        account: Account<'_>,
    ) -> Result<(Vec<u8>, ExportKey), OpaqueError> {
        let response = RegistrationResponse::deserialize(response)?;
        let params = ClientRegistrationFinishParameters::new(account.identifiers(), None);
        let finished = self.state.finish(&mut self.dice, password, response, params)?;
        Ok((finished.message.serialize().to_vec(), exported(&finished.export_key)?))
    }
}

/// A login under way at the client.
pub struct LoginAttempt {
    state: ClientLogin<Suite>,
    dice: Dice,
    /// For the server.
    pub request: Vec<u8>,
}

impl std::fmt::Debug for LoginAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginAttempt")
    }
}

impl LoginAttempt {
    /// Begins.
    ///
    /// # Errors
    /// Without random numbers.
    pub fn start(password: &[u8]) -> Result<Self, OpaqueError> {
        Self::with(password, fresh()?)
    }

    /// Begins with this as all chance that there is.
    ///
    /// # Errors
    /// None in practice.
    pub fn with(password: &[u8], seed: [u8; 32]) -> Result<Self, OpaqueError> {
        let mut dice = Dice::of(seed);
        let started = ClientLogin::<Suite>::start(&mut dice, password)?;
        Ok(Self { state: started.state, dice, request: started.message.serialize().to_vec() })
    }

    /// Ends: the proof for the server, and the export key. Takes some 50 ms and 46 MiB.
    ///
    /// # Errors
    /// When the password is wrong, the server is another, or the two nodes in `context` are.
    pub fn finish(
        mut self,
        password: &[u8],
        response: &[u8],
        account: Account<'_>,
        context: &[u8],
    ) -> Result<(Vec<u8>, ExportKey), OpaqueError> {
        let response = CredentialResponse::deserialize(response)?;
        let params = ClientLoginFinishParameters::new(Some(context), account.identifiers(), None);
        let finished = self.state.finish(&mut self.dice, password, response, params)?;
        Ok((finished.message.serialize().to_vec(), exported(&finished.export_key)?))
    }
}

fn exported(key: &[u8]) -> Result<ExportKey, OpaqueError> {
    key.try_into().map(Zeroizing::new).map_err(|_| OpaqueError::Malformed)
}

/// A login under way at the server.
pub type Challenge = ServerLogin<Suite>;

/// The server's side.
pub struct Server {
    setup: ServerSetup<Suite>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// The server of this seed: the same seed opens what was registered with it before.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { setup: ServerSetup::new(&mut Dice::of(*seed)) }
    }

    /// Tells this server's keys from all others.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new_with_prefix(b"crosstalk enrolment").chain_update(self.setup.serialize()).finalize().into()
    }

    /// Answers a registration's request.
    ///
    /// # Errors
    /// When it is none.
    pub fn respond(&self, request: &[u8], address: &str) -> Result<Vec<u8>, OpaqueError> {
        let request = RegistrationRequest::deserialize(request)?;
        let started = ServerRegistration::<Suite>::start(&self.setup, request, address.as_bytes())?;
        Ok(started.message.serialize().to_vec())
    }

    /// What is kept of a registration.
    ///
    /// # Errors
    /// When it is none.
    pub fn record(upload: &[u8]) -> Result<Vec<u8>, OpaqueError> {
        let upload = RegistrationUpload::<Suite>::deserialize(upload)?;
        Ok(ServerRegistration::finish(upload).serialize().to_vec())
    }

    /// Answers a login's request; without a record, so that nobody can tell that there is none. `seed` is random.
    ///
    /// # Errors
    /// When it is none.
    pub fn challenge(
        &self,
        record: Option<&[u8]>,
        request: &[u8],
        account: Account<'_>,
        context: &[u8],
        seed: [u8; 32],
    ) -> Result<(Vec<u8>, Challenge), OpaqueError> {
        let record = record.map(ServerRegistration::<Suite>::deserialize).transpose()?;
        let request = CredentialRequest::deserialize(request)?;
        let params = ServerLoginParameters { context: Some(context), identifiers: account.identifiers() };
        let id = account.address.as_bytes();
        let started = ServerLogin::start(&mut Dice::of(seed), &self.setup, record, request, id, params)?;
        Ok((started.message.serialize().to_vec(), started.state))
    }

    /// Whether the proof shows that the client has the password.
    pub fn proves(challenge: Challenge, proof: &[u8], account: Account<'_>, context: &[u8]) -> bool {
        let params = ServerLoginParameters { context: Some(context), identifiers: account.identifiers() };
        CredentialFinalization::deserialize(proof).is_ok_and(|proof| challenge.finish(proof, params).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "alice@school.example";

    /// Golden: a seed gives these keys for ever, whatever draws them. With others nobody's password would be right.
    #[test]
    fn a_seed_gives_the_same_keys_for_ever() {
        let digest = crate::core::hex(&Server::from_seed(&[7; 32]).digest());
        assert_eq!(digest, "3835fd4aa79403c7e2fe3c2c52d6c454fc3cab897d97eea18a102309af66b151");
    }

    fn authority(byte: u8) -> AuthorityId {
        AuthorityId::from_bytes([byte; 32])
    }

    /// The record at a server of seed 1, and the export key.
    fn registered(password: &[u8]) -> (Vec<u8>, ExportKey) {
        let server = Server::from_seed(&[1; 32]);
        let begun = Registration::start(password).expect("begun");
        let response = server.respond(&begun.request, ADDRESS).expect("answered");
        let account = Account { address: ADDRESS, authority: &authority(1) };
        let (upload, export) = begun.finish(password, &response, account).expect("ended");
        (Server::record(&upload).expect("a record"), export)
    }

    fn log_in(
        record: Option<&[u8]>,
        password: &[u8],
        authority: &AuthorityId,
        contexts: [&[u8]; 2],
    ) -> Result<ExportKey, OpaqueError> {
        let server = Server::from_seed(&[1; 32]);
        let begun = LoginAttempt::start(password)?;
        let (theirs, ours) = (self::authority(1), Account { address: ADDRESS, authority });
        let theirs = Account { address: ADDRESS, authority: &theirs };
        let (response, challenge) = server.challenge(record, &begun.request, theirs, contexts[0], [3; 32])?;
        let (proof, export) = begun.finish(password, &response, ours, contexts[1])?;
        assert!(Server::proves(challenge, &proof, theirs, contexts[0]));
        Ok(export)
    }

    /// Also by a server that was started again; and by nobody else, for no other authority, through no one between.
    #[test]
    fn the_password_gives_the_export_key_again() {
        let (record, export) = registered(b"wherefore");
        let one: [&[u8]; 2] = [b"c", b"c"];
        assert_eq!(log_in(Some(&record), b"wherefore", &authority(1), one), Ok(export));
        assert_eq!(log_in(Some(&record), b"thou", &authority(1), one), Err(OpaqueError::Password));
        assert_eq!(log_in(None, b"wherefore", &authority(1), one), Err(OpaqueError::Password));
        assert_eq!(log_in(Some(&record), b"wherefore", &authority(2), one), Err(OpaqueError::Password));
        assert_eq!(
            log_in(Some(&record), b"wherefore", &authority(1), [b"c", b"d"]),
            Err(OpaqueError::Password)
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let server = Server::from_seed(&[1; 32]);
        for bytes in [&[][..], &[0; 32], &[255; 32], &[1; 500]] {
            assert_eq!(server.respond(bytes, ADDRESS).err(), Some(OpaqueError::Malformed));
            assert_eq!(Server::record(bytes).err(), Some(OpaqueError::Malformed));
        }
    }
}

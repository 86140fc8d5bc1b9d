//! The domain's key is handed over to a new one: the old signs the new, and is not there any more.

use crosstalk_overlay::authority::{Chain, MAX_ROTATIONS};
use crosstalk_overlay::id::AuthorityId;
use crosstalk_overlay::record::{
    Context, NoCertificates, Record as _, RevocationSet, Rotation, SignedRecord, Unverified,
};
use crosstalk_overlay::time::TrustedTime;
use crosstalk_storage::tree::authority::{AuditLine, ServedDomain};
use prost::Message as _;

use super::Answer;
use super::database::{Change, DatabaseError};
use super::office::{Office, OfficeError};

impl Office {
    /// A new key is on the disk before the old one signs it; one change makes it the domain's; then it takes the old one's
    /// place. Whoever dies in between finds at the start which of the two counts.
    pub(super) fn rotate(&mut self) -> Result<Answer, OfficeError> {
        let Some(mut served) = self.database.domain()? else {
            return Err(OfficeError::Refused("there is no domain".to_owned()));
        };
        if served.authority != self.key.id().as_bytes() {
            return self.follow(&served);
        }
        if served.rotations.len() >= MAX_ROTATIONS {
            return Err(OfficeError::Refused(format!(
                "the key of {} was handed over {MAX_ROTATIONS} times, and nobody follows more: laptops would have to be \
                 enrolled anew",
                self.domain
            )));
        }
        let next = self.keys.next_authority_key()?;
        let rotation = Rotation::issue(&self.key, &next, &self.domain, self.now().wall)?;
        let rotation = rotation.bytes().to_vec();
        served.rotations.push(rotation.clone());
        served.authority = next.id().as_bytes().to_vec();
        let told = AuditLine { user: served.authority.clone(), ..self.line("key handed over", "") };
        self.database.commit(Change::told(told).domain(served))?;
        self.key = next;
        if let Err(error) = self.keys.adopt_next_authority_key() {
            tracing::error!(
                "the old key of the domain could not be removed, which the next start does: {error}"
            );
        }
        Ok(Answer::Rotated { authority: self.key.id().to_hex(), rotation })
    }

    /// The key was handed over already: by this process, which did not hear that it was, or by another one.
    fn follow(&mut self, served: &ServedDomain) -> Result<Answer, OfficeError> {
        let next = self.keys.next_authority_key()?;
        if served.authority != next.id().as_bytes() {
            return Err(OfficeError::Refused(
                "another process of this server has handed the key over: copy its keys here (`authority key export` there, \
                 `authority key import` here), and start this node again"
                    .to_owned(),
            ));
        }
        self.key = next;
        self.keys.adopt_next_authority_key()?;
        let rotation = served.rotations.last().cloned().unwrap_or_default();
        Ok(Answer::Rotated { authority: self.key.id().to_hex(), rotation })
    }

    /// The rotations that led to the present key.
    pub(super) fn rotations(&self) -> Result<Vec<Vec<u8>>, DatabaseError> {
        Ok(self.database.domain()?.map(|served| served.rotations).unwrap_or_default())
    }

    /// The first key of the domain, which passwords were and are registered with whatever key signs now.
    pub(super) fn identity(&self) -> Result<AuthorityId, DatabaseError> {
        Ok(self.database.domain()?.as_ref().and_then(first_key).unwrap_or_else(|| self.key.id()))
    }
}

/// The first key of a domain of our own database.
fn first_key(served: &ServedDomain) -> Option<AuthorityId> {
    let signed = SignedRecord::decode(served.rotations.first()?.as_slice()).ok()?;
    Rotation::from_payload(&signed.payload).ok().map(|rotation| rotation.old)
}

/// What a laptop makes of the keys that a server names: the one that signs now, and the first, which the password is
/// registered with. Nothing if they do not hang together, or it is in dispute which follows.
pub fn keys_of(known: AuthorityId, rotations: &[Vec<u8>], domain: &str) -> Option<Chain> {
    let revocations = RevocationSet::default();
    let time = TrustedTime { millis: 0, credible: false, latest: u64::MAX };
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: false };
    let verified = |bytes: &Vec<u8>| Unverified::<Rotation>::parse(bytes).ok()?.verify(&context).ok();
    let steps = rotations.iter().take(MAX_ROTATIONS).filter_map(verified);
    let chain = Chain::with(known, &steps.filter(|step| step.domain == domain).collect::<Vec<_>>());
    let all = chain.steps().len() == rotations.len() && chain.disputed().is_none();
    all.then_some(chain)
}

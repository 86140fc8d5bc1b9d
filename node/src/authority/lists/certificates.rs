//! The certificates by which other devices verify what a device has said.

use std::collections::BTreeSet;

use crosstalk_overlay::enrol::Why;
use crosstalk_overlay::id::{DeviceId, UserId};
use crosstalk_overlay::record::{DeviceCert, Unverified};
use crosstalk_storage::tree::authority::Owner;

use super::{PER_USER, Stop};
use crate::authority::database::{Database, DatabaseError};

/// Devices of one user of which something is kept, those that were lost and have ended included: what they said counts.
const CERTIFICATES: usize = 256;

/// The devices that have said what is kept of a user.
pub(super) fn speakers(database: &Database, user: &UserId) -> Result<BTreeSet<Vec<u8>>, DatabaseError> {
    let said = database.all_said(user, PER_USER)?;
    Ok(said.into_iter().flat_map(|(_, said)| said.statements).map(|statement| statement.device).collect())
}

/// The newest certificate of each device. Of more than there may be one goes whose device has nothing to say any more: what
/// another has said nobody could verify without it.
pub(super) fn keep_certificate(
    owner: &mut Owner,
    certificate: Vec<u8>,
    speakers: impl FnOnce() -> Result<BTreeSet<Vec<u8>>, DatabaseError>,
) -> Result<(), Stop> {
    if owner.certificates.contains(&certificate) {
        return Ok(());
    }
    owner.certificates.retain(|known| device_of(known) != device_of(&certificate));
    if owner.certificates.len() >= CERTIFICATES {
        let speakers = speakers()?;
        let speaks =
            |known: &Vec<u8>| device_of(known).is_some_and(|id| speakers.contains(&id.as_bytes()[..]));
        let silent = owner.certificates.iter().position(|known| !speaks(known));
        owner.certificates.remove(silent.ok_or(Stop::No(Why::Full))?);
    }
    owner.certificates.push(certificate);
    Ok(())
}

pub(super) fn device_of(certificate: &[u8]) -> Option<DeviceId> {
    Unverified::<DeviceCert>::parse(certificate).ok().map(|cert| cert.claim().device)
}

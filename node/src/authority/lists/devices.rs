//! Whose a session is, which devices a user has and has revoked, and the end of theirs.

use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{Revocation, Revoked, UserRecord, Verified};

use super::{Lists, Stop, name_in, stored_record};
use crate::authority::database::{Database, DatabaseError};

impl Lists {
    /// Whose session that is, on which device, and the name of that user: as the database has it now.
    ///
    /// # Errors
    /// When it is forgotten, or has ended: the name was taken back, or the device revoked, perhaps by another process.
    pub fn user_of(
        &mut self,
        database: &Database,
        node: NodeId,
        session: u64,
        now: u64,
    ) -> Result<(UserId, DeviceId, String), Stop> {
        self.who(database, node, session, now)?;
        let session = self.session(node, session)?;
        Ok((session.user, session.device, name_in(&session.address).to_owned()))
    }

    /// The devices that a user has, and when their certificates end.
    ///
    /// # Errors
    /// When the database fails.
    pub fn devices(
        &self,
        database: &Database,
        user: &UserId,
        now: u64,
    ) -> Result<Vec<(DeviceId, u64)>, DatabaseError> {
        let record = stored_record(&database.owner(user)?, now);
        let devices = record.iter().flat_map(|record| record.devices());
        Ok(devices.map(|(device, part)| (*device, part.cert.expires)).collect())
    }

    /// The devices that a user has revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub fn revoked(
        &self,
        database: &Database,
        user: &UserId,
        now: u64,
    ) -> Result<Vec<DeviceId>, DatabaseError> {
        let record = stored_record(&database.owner(user)?, now);
        let revocations = record.iter().flat_map(UserRecord::revocations);
        let device = |revocation: &Verified<Revocation>| match revocation.what {
            Revoked::Device(_, device) => Some(device),
            _ => None,
        };
        Ok(revocations.filter_map(device).collect())
    }

    /// These devices of a user do not go on.
    pub fn end_devices(&mut self, user: &UserId, devices: &[DeviceId]) {
        if is_on(Mutant::RevokedServed) {
            return;
        }
        self.sessions.retain(|_, session| session.user != *user || !devices.contains(&session.device));
    }
}

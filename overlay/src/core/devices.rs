//! The devices of this node's users, here and elsewhere. *Pure.*

use super::Overlay;
use crate::id::{DeviceId, UserId};
use crate::record::{DevicePart, Revocation, Revoked, Verified};
use crate::time::{Hlc, Now};

/// A device of a user of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// Its id.
    pub device: DeviceId,
    /// Whether it is this node's.
    pub here: bool,
    /// Whether it is on a connected, proven node.
    pub live: bool,
    /// When it was certified, Unix milliseconds.
    pub certified: u64,
    /// When its certificate ends, Unix milliseconds.
    pub expires: u64,
    /// When it last said something of itself, which it does twice a week at least; Unix milliseconds.
    pub said: u64,
}

impl Overlay {
    /// The devices of a user that are certified and not revoked, as far as is known here.
    pub fn own_devices(&self, user: &UserId) -> Vec<OwnDevice> {
        let device = |(device, part): (&DeviceId, &DevicePart)| OwnDevice {
            device: *device,
            here: self.local_devices.contains_key(device),
            live: self.users.node_of(device).is_some(),
            certified: part.cert.issued,
            expires: part.cert.expires,
            said: part.info.at.millis,
        };
        self.users.record(user).into_iter().flat_map(|record| record.devices()).map(device).collect()
    }

    /// Whether a user of this node has a device elsewhere.
    pub fn has_other_devices(&self, user: &UserId) -> bool {
        let devices = self.users.record(user).into_iter().flat_map(|record| record.devices().keys());
        devices.into_iter().any(|device| !self.local_devices.contains_key(device))
    }

    /// Signed revocations of a user's devices, or of its key.
    pub fn device_revocations_of(&self, user: &UserId) -> Vec<Vec<u8>> {
        let of_user = |revocation: &&Verified<Revocation>| matches!(&revocation.what, Revoked::Device(of, _) | Revoked::User(of) if of == user);
        self.users.revocations.iter().filter(of_user).map(|revocation| revocation.bytes().to_vec()).collect()
    }

    /// Makes later edits here later than one that was made elsewhere; false if that lies further ahead than any clock may.
    pub fn observe_edit(&mut self, at: Hlc, now: Now) -> bool {
        self.hlc.observe(at, self.time(now)).is_ok()
    }

    /// The record of a user has changed: devices of a user of this node find each other as contacts do.
    pub(super) fn own_devices_changed(&mut self, user: &UserId, now: Now) {
        if self.locals.contains_key(user) && self.has_other_devices(user) {
            self.keep_user(user);
            self.check_audience(user, now);
        }
    }
}

//! Devices of the domain's users: which there are, and which are void by the authority's word.
//!
//! What a user's own laptop revokes arrives with the user record, and counts for who knows that user. The authority says
//! it again in its own name: so do all members of the domain hear of it and tell it on, whether they know the user or not.

use crosstalk_overlay::authority::revoke_device;
use crosstalk_overlay::enrol::{Begin, Why};
use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::record::{DeviceCert, Record as _, Revocation, Revoked, SignedRecord, Unverified};
use crosstalk_storage::tree::authority::{AuditLine, Member, MemberState};
use prost::Message as _;

use super::counter::Stop;
use super::database::Change;
use super::office::{Office, OfficeError};
use super::{Answer, DeviceView};

/// Revocations of one user's devices that are kept; of more the oldest goes, which everybody has heard of.
const DEVICES: usize = 64;
/// Shortest beginning of a device's key that names it.
const SHORTEST: usize = 4;

impl Office {
    /// The devices that a user has, as its record says, and those that are void.
    pub(super) fn devices(&self, name: &str) -> Result<Answer, OfficeError> {
        let (_, member) = self.named(name)?;
        Ok(Answer::Devices(self.views(&member)?))
    }

    fn views(&self, member: &Member) -> Result<Vec<DeviceView>, OfficeError> {
        let Some(user) = UserId::from_slice(&member.user) else { return Ok(Vec::new()) };
        let void = void_devices(member);
        let mut views = Vec::new();
        for (device, until) in self.lists.devices(&self.database, &user, self.now().wall)? {
            let revoked = void.contains(&device);
            views.push(DeviceView { device: device.to_hex(), until: Some(until), revoked });
        }
        let gone = |device: &&DeviceId| !views.iter().any(|view| view.device == device.to_hex());
        let gone: Vec<&DeviceId> = void.iter().filter(gone).collect();
        views.extend(gone.into_iter().map(|device| DeviceView {
            device: device.to_hex(),
            until: None,
            revoked: true,
        }));
        Ok(views)
    }

    /// A laptop is lost, and its user has no other to say so.
    pub(super) fn revoke_device(&mut self, name: &str, said: &str) -> Result<Answer, OfficeError> {
        let (name, member) = self.named(name)?;
        let views = self.views(&member)?;
        let meant: Vec<&DeviceView> =
            views.iter().filter(|view| said.len() >= SHORTEST && view.device.starts_with(said)).collect();
        let user = UserId::from_slice(&member.user).filter(|_| member.state() == MemberState::Enrolled);
        let device = match meant.as_slice() {
            [one] => DeviceId::from_hex(&one.device),
            _ => None,
        };
        let (Some(user), Some(device)) = (user, device) else {
            return Err(OfficeError::Refused(format!(
                "{} of {name} begin with {said}: `crosstalk authority user devices {name}` shows all, say {SHORTEST} signs \
                 of the one that is lost",
                if meant.is_empty() { "no devices" } else { "several devices" }
            )));
        };
        let revocations = self.revoke(&name, &user, vec![device], None)?;
        Ok(Answer::Done { revocations })
    }

    /// Revokes those that are not void yet, in one change; what was signed.
    fn revoke(
        &mut self,
        name: &str,
        user: &UserId,
        devices: Vec<DeviceId>,
        by: Option<NodeId>,
    ) -> Result<Vec<Vec<u8>>, OfficeError> {
        let Some(mut member) = self.database.member(name)? else { return Ok(Vec::new()) };
        let void = void_devices(&member);
        let mut change = Change::default();
        let mut signed = Vec::new();
        for device in devices.into_iter().filter(|device| !void.contains(device)) {
            let revocation = revoke_device(&self.key, *user, device, self.now().wall)?.bytes().to_vec();
            let node = by.map(|node| node.as_bytes().to_vec()).unwrap_or_default();
            change = change.and_told(AuditLine {
                user: member.user.clone(),
                node,
                ..self.line("device revoked", name)
            });
            signed.push(revocation);
        }
        if signed.is_empty() {
            return Ok(signed);
        }
        member.devices.extend(signed.iter().cloned());
        let surplus = member.devices.len().saturating_sub(DEVICES);
        member.devices.drain(..surplus);
        let void = void_devices(&member);
        self.database.commit(change.member(name, member))?;
        self.lists.end_devices(user, &void);
        Ok(signed)
    }

    /// What the user's own laptops have revoked the authority revokes, too.
    pub(super) fn second(&mut self, name: &str, user: &UserId, node: NodeId) -> Result<(), OfficeError> {
        let devices = self.lists.revoked(&self.database, user, self.now().wall)?;
        let signed = self.revoke(name, user, devices, Some(node))?;
        self.news.extend(signed);
        Ok(())
    }

    /// Revocations that were signed since this was asked last, for the overlay.
    pub fn take_news(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.news)
    }

    /// Whether a device may ask for its user at all.
    pub(super) fn is_admitted(member: &Member, ask: &Begin) -> Result<(), Stop> {
        let device = Unverified::<DeviceCert>::parse(&ask.certificate).ok().map(|cert| cert.claim().device);
        match device.is_some_and(|device| void_devices(member).contains(&device)) {
            true if is_on(Mutant::RevokedServed) => Ok(()),
            true => Err(Stop::Why(Why::Revoked)),
            false => Ok(()),
        }
    }
}

/// What the authority has revoked of a user.
pub(super) fn void_devices(member: &Member) -> Vec<DeviceId> {
    let device = |bytes: &Vec<u8>| match own(bytes)?.what {
        Revoked::Device(_, device) => Some(device),
        _ => None,
    };
    member.devices.iter().filter_map(device).collect()
}

/// A revocation of our own database.
fn own(bytes: &[u8]) -> Option<Revocation> {
    Revocation::from_payload(&SignedRecord::decode(bytes).ok()?.payload).ok()
}

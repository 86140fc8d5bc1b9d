//! The users of this node: their device's records and keys, renewed in time and pushed to peers. *Pure.*

use std::collections::BTreeSet;

use super::timers::{Timer, on_grid};
use super::{Alarm, LocalUser, Output, Overlay, Write};
use crate::id::{DeviceId, NodeId, UserId};
use crate::keys::{DeviceKey, SealingKey};
use crate::record::{
    DeviceCert, DeviceInfo, LinkPresence, LinkStatus, MAX_DECLARED, NameCert, NodeBinding, PresenceRecord,
    PresenceSession, Refusal, RevocationSet, SealingPublic, Unverified, UserRecord, Verified,
};
use crate::time::{DAY, HOUR, HlcClock, MAX_SKEW, Now};
use crate::wire::{Frame, MAX_RECORDS, Relayed, UserFrame};

/// Device records are renewed at half of their life.
const RENEW: u64 = 7 * DAY / 2;
/// A sealing key of that age is due to be replaced.
const SEALING_LIFE: u64 = 7 * DAY;
/// A sealing key is erased so long after the next one was made: 30 days in a mailbox, 7 of a user record, 2 of skew,
/// and one more.
const SEALING_MEMORY: u64 = 40 * DAY;
/// How many of the sealing keys are published.
const PUBLISHED: usize = 2;
/// Bytes of records in one frame, so that it stays below the limit with its framing.
const RECORDS_BYTES: usize = 256 * 1_024;

/// What this node does for one of its users.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) device: DeviceKey,
    pub(super) cert: Verified<DeviceCert>,
    pub(super) sealing: Vec<SealingKey>,
    pub(super) name: Option<Verified<NameCert>>,
    pub(super) epoch: u64,
    info_epoch: u64,
    /// None while there is no sealing key.
    info: Option<Verified<DeviceInfo>>,
    binding: Option<Verified<NodeBinding>>,
    asked_for_key: Option<u64>,
    /// The server of its domain.
    pub(super) home: Option<NodeId>,
    pub(super) shown: Shown,
}

/// What one of our users shows others.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) sessions: Vec<PresenceSession>,
    pub(super) watchers: BTreeSet<UserId>,
    /// Whether it was said who they are; until then what was given to them stands.
    pub(super) stated: bool,
    /// With the monotonic time of its signing.
    pub(super) presence: Option<(Verified<PresenceRecord>, u64)>,
    pub(super) link_status: Option<LinkStatus>,
    pub(super) link_presence: Option<Verified<LinkPresence>>,
}

impl Local {
    pub(super) fn binding(&self) -> Option<&Verified<NodeBinding>> {
        self.binding.as_ref()
    }

    /// Whether its device was revoked: whatever it says is refused, so it says nothing.
    pub(super) fn is_void(&self, revocations: &RevocationSet) -> bool {
        revocations.is_device_revoked(&self.cert.user, &self.cert.device)
    }
}

impl Overlay {
    pub(super) fn insert_local(&mut self, local: LocalUser, now: Now) -> Result<(), Refusal> {
        let LocalUser { user, device, cert, sealing, name, epoch } = local;
        let (cert, name) = self.own_certificates(&user, &device.id(), &cert, name.as_deref(), now)?;
        if self.users.revocations.is_device_revoked(&user, &device.id()) {
            return Err(Refusal::Revoked { kind: "device-cert" });
        }
        let info_epoch = self.own_epoch(&user, &device, epoch, now);
        let before = self.locals.remove(&user).filter(|before| before.device.id() == device.id());
        self.local_devices.retain(|_, owner| *owner != user);
        self.local_devices.insert(device.id(), user);
        let shown = before.map(|before| before.shown).unwrap_or_default();
        let local = Local {
            device,
            cert,
            sealing,
            name,
            epoch,
            info_epoch,
            info: None,
            binding: None,
            asked_for_key: None,
            home: None,
            shown,
        };
        self.locals.insert(user, local);
        self.renew_records(&user, now);
        self.check_sealing_keys(&user, now);
        self.adopt_entries(&user, now);
        self.open_own_mailbox(&user, now);
        self.survey_soon(now);
        self.introduce_to(&user, now);
        self.own_devices_changed(&user, now);
        Ok(())
    }

    /// A user's own certificates. No time is a reason to refuse them: delivery goes on (DESIGN.md §3.3).
    fn own_certificates(
        &self,
        user: &UserId,
        device: &DeviceId,
        cert: &[u8],
        name: Option<&[u8]>,
        now: Now,
    ) -> Result<(Verified<DeviceCert>, Option<Verified<NameCert>>), Refusal> {
        let context = self.users.own_context(self.clock.trusted(now));
        let cert = Unverified::<DeviceCert>::parse(cert)?.verify(&context)?;
        let name = name.map(|name| Unverified::<NameCert>::parse(name)?.verify(&context)).transpose()?;
        let fits = cert.user == *user && cert.device == *device;
        if !fits || name.as_ref().is_some_and(|name| name.user != *user) {
            return Err(Refusal::WrongSigner { kind: "device-cert" });
        }
        Ok((cert, name))
    }

    pub(super) fn renew_certificates(
        &mut self,
        user: &UserId,
        cert: &[u8],
        name: Option<&[u8]>,
        now: Now,
    ) -> Result<(), Refusal> {
        let Some(device) = self.locals.get(user).map(|local| local.device.id()) else { return Ok(()) };
        let (cert, name) = self.own_certificates(user, &device, cert, name, now)?;
        if let Some(local) = self.locals.get_mut(user) {
            local.cert = cert;
            local.name = name;
        }
        self.renew_records(user, now);
        Ok(())
    }

    /// When the certificates of a user of this node end.
    pub(super) fn ends_of(&self, user: &UserId) -> Option<(u64, Option<u64>)> {
        let local = self.locals.get(user)?;
        Some((local.cert.expires, local.name.as_ref().map(|name| name.expires)))
    }

    /// The epoch of the device's information: a new one if what was said before lies in the future.
    fn own_epoch(&mut self, user: &UserId, device: &DeviceKey, epoch: u64, now: Now) -> u64 {
        let Some(part) = self.users.record(user).and_then(|record| record.devices().get(&device.id())) else {
            return epoch;
        };
        let (past, past_epoch) = (part.info.at, part.info.epoch);
        match self.hlc.observe(past, self.time(now)) {
            Ok(()) => epoch.max(past_epoch),
            Err(_) => epoch.max(past_epoch.saturating_add(1)),
        }
    }

    pub(super) fn delete_local(&mut self, user: &UserId, now: Now) {
        let Some(device) = self.locals.get(user).map(|local| local.device.id()) else { return };
        let watchers = self.locals.get(user).map(|local| local.shown.watchers.clone()).unwrap_or_default();
        self.tell_offline(user, &watchers, now);
        let withdrawn = self.withdrawn(user, now);
        for node in self.told_of(user) {
            self.send_frame(node, &Frame::LinkAbsence { user: *user, device, gone: true }, false, now);
            if let Some(relayed) = withdrawn.as_ref().filter(|_| self.peers.is_near(&node)) {
                self.send_frame(node, &Frame::Relayed(relayed.clone()), false, now);
            }
        }
        self.drop_entries_of(user, &device, now);
        self.drop_tickets_of(&device);
        self.withdraw_offers(user);
        self.unpublish(user);
        self.forget_audience(user, &device);
        self.forget_tokens(user);
        self.locals.remove(user);
        self.enrolment.watched.remove(user);
        self.local_devices.remove(&device);
    }

    /// Says to those who are told by others that a user is no longer on this node: by a binding without a life.
    fn withdrawn(&mut self, user: &UserId, now: Now) -> Option<Relayed> {
        let (time, record) = (self.time(now), self.users.record(user)?.encode());
        let local = self.locals.get(user)?;
        let (device, issued) = (local.device.id(), time.max(local.binding.as_ref()?.issued + 1));
        let binding = NodeBinding::agreed(*user, device, &self.node_key, issued, issued);
        let binding = Verified::sign(binding, &local.device, None).ok()?.bytes().to_vec();
        Some(Relayed { users: vec![UserFrame { record, binding }], ..Relayed::default() })
    }

    pub(super) fn insert_sealing_key(&mut self, user: &UserId, key: SealingKey, now: Now) {
        let Some(local) = self.locals.get_mut(user) else { return };
        local.sealing.retain(|known| known.public() != key.public());
        local.sealing.push(key);
        local.asked_for_key = None;
        self.renew_records(user, now);
        self.check_sealing_keys(user, now);
    }

    /// Signs the device's information and binding anew and pushes them.
    pub(super) fn renew_records(&mut self, user: &UserId, now: Now) {
        let (at, issued) = (self.tick(now), self.time(now));
        let Some(local) = self.locals.get_mut(user) else { return };
        if local.is_void(&self.users.revocations) || local.sealing.is_empty() {
            return;
        }
        local.sealing.sort_by_key(|key| std::cmp::Reverse((key.created, key.public())));
        let published = local.sealing.iter().take(PUBLISHED);
        let mut mailboxes = self.mail.declared.clone();
        mailboxes.extend(local.home.filter(|home| !mailboxes.contains(home)));
        mailboxes.truncate(MAX_DECLARED);
        let device = local.device.id();
        let info = DeviceInfo {
            user: *user,
            device,
            sealing: published
                .map(|key| SealingPublic { public: key.public(), created: key.created })
                .collect(),
            epoch: local.info_epoch,
            at,
            expires: at.millis.saturating_add(7 * DAY),
            mailboxes,
        };
        let expires = issued.saturating_add(7 * DAY);
        let binding = NodeBinding::agreed(*user, device, &self.node_key, issued, expires);
        local.info = Verified::sign(info, &local.device, None).ok();
        local.binding = Verified::sign(binding, &local.device, None).ok();
        let record =
            local.info.clone().and_then(|info| UserRecord::new(local.cert.clone(), info, local.name.clone()));
        if let Some(record) = record {
            self.take_in(&record, now);
            self.publish_user(user, now);
            for node in self.told_of(user) {
                self.push_record(user, node, now);
            }
        }
    }

    /// None for a device that was revoked: nobody would take it.
    fn user_frame(&self, user: &UserId) -> Option<UserFrame> {
        let device = self.locals.get(user)?.device.id();
        self.users.record(user)?.devices().get(&device)?;
        let binding = self.locals.get(user)?.binding.as_ref()?.bytes().to_vec();
        Some(UserFrame { record: self.users.record(user)?.encode(), binding })
    }

    /// Pushes the record of one of our users.
    pub(super) fn push_record(&mut self, user: &UserId, node: NodeId, now: Now) {
        if let Some(frame) = self.user_frame(user) {
            if let Some(peer) = self.peers.connected.get_mut(&node) {
                peer.told.insert(*user);
            }
            self.offer_rotations(node, now);
            self.send_frame(node, &Frame::Records(vec![frame]), false, now);
        }
    }

    /// Pushes the records of all our users, as many to a frame as fit.
    pub(super) fn push_records(&mut self, node: NodeId, now: Now) {
        let users: Vec<UserId> = self.locals.keys().copied().take(self.limits.users_per_peer).collect();
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for user in users {
            let Some(frame) = self.user_frame(&user) else { continue };
            let size = frame.record.len() + frame.binding.len() + 16;
            if frames.len() == MAX_RECORDS || bytes + size > RECORDS_BYTES {
                self.send_frame(node, &Frame::Records(std::mem::take(&mut frames)), false, now);
                bytes = 0;
            }
            bytes += size;
            frames.push(frame);
        }
        if !frames.is_empty() {
            self.send_frame(node, &Frame::Records(frames), false, now);
        }
    }

    /// Asks for a new sealing key when the newest is old, and has those erased that nothing can come for any more.
    fn check_sealing_keys(&mut self, user: &UserId, now: Now) {
        let time = self.clock.trusted(now);
        let Some(local) = self.locals.get_mut(user) else { return };
        local.sealing.sort_by_key(|key| std::cmp::Reverse((key.created, key.public())));
        let age = |key: &SealingKey| time.millis.saturating_sub(key.created);
        let due = local.sealing.first().is_none_or(|newest| age(newest) >= SEALING_LIFE);
        let asked = local.asked_for_key.is_some_and(|asked| now.mono < asked + DAY);
        if due && !asked {
            local.asked_for_key = Some(now.mono);
            self.outputs.push_back(Output::SealingKeyDue { user: *user });
        }
        let old = |keys: &[SealingKey]| {
            keys.windows(2).position(|pair| time.credible && age(&pair[0]) > SEALING_MEMORY)
        };
        if let Some(index) = old(&local.sealing) {
            for key in local.sealing.drain(index + 1..) {
                self.outputs.push_back(Output::SealingKeyErase { user: *user, public: key.public() });
            }
        }
    }

    /// Hourly: whatever goes by the wall clock, which may have jumped.
    pub(super) fn on_sweep_timer(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Sweep, on_grid(now.mono + HOUR, HOUR));
        self.check_clock(now);
        if !self.was_credible {
            self.tell_judge(now);
        }
        let users: Vec<UserId> = self.locals.keys().copied().collect();
        users.iter().for_each(|user| self.check_sealing_keys(user, now));
        self.renew_stale_records(now);
        self.expire_entries(now);
        self.expire_mail(now);
        self.end_introductions(now);
        self.persist_time(now);
    }

    /// The time that goes into records: the local clock's if it is credible, else the peers'.
    pub(super) fn time(&self, now: Now) -> u64 {
        self.clock.trusted(now).millis
    }

    /// Signs anew what was made half a life ago, or at a time that turned out to be wrong. If what was said lies too
    /// far in the future for others to believe, a new epoch begins.
    pub(super) fn renew_stale_records(&mut self, now: Now) {
        let time = self.time(now);
        let ahead = self.hlc.last().millis > time.saturating_add(MAX_SKEW);
        if ahead {
            self.hlc = HlcClock::default();
            self.locals.values_mut().for_each(|local| local.info_epoch += 1);
        }
        let made = |local: &Local| local.info.as_ref().map(|info| info.at.millis);
        let stale = |local: &Local| made(local).is_some_and(|made| ahead || time.abs_diff(made) >= RENEW);
        let users: Vec<UserId> =
            self.locals.iter().filter(|(_, local)| stale(local)).map(|(user, _)| *user).collect();
        for user in &users {
            self.renew_records(user, now);
            self.sign_link_presence(user, now);
            if self.own_presence(user).is_some() {
                self.sign_presence(user, now);
            }
        }
    }

    /// Persists, once a day, a time that is certainly past.
    fn persist_time(&mut self, now: Now) {
        let certain = now.wall.saturating_sub(MAX_SKEW);
        if self.clock.credible(now) && certain >= self.clock.floor().saturating_add(DAY) {
            self.clock.raise_floor(certain);
            self.outputs.push_back(Output::Write(Write::PutTimeFloor(certain)));
        }
    }

    /// Raises an alarm when the local clock stops or starts being credible. Peers are told what it says when it was set: they may
    /// know no better one, and what is signed by theirs is refused here from now on.
    pub(super) fn check_clock(&mut self, now: Now) {
        let credible = self.clock.credible(now);
        if credible == self.was_credible {
            return;
        }
        self.was_credible = credible;
        self.timers.set_earlier(Timer::Revoked, now.mono);
        let alarm = if credible { Alarm::ClockCredible } else { Alarm::ClockNotCredible };
        self.outputs.push_back(Output::Alarm(alarm));
        if credible {
            self.peers.ready().into_iter().for_each(|node| self.say_hello(node, now));
            self.renew_stale_records(now);
        }
    }
}

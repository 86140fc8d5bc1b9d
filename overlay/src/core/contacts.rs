//! Contact records of this node's users: signed, verified, read again after a restart. *Pure.*

use super::Overlay;
use crate::id::UserId;
use crate::record::{ContactRecord, Context, Refusal, RevocationSet, Says, Side, Unverified, Verified};
use crate::time::{Now, TrustedTime};

impl Overlay {
    /// Signs a contact record of a user of this node; none if `from` is no such user or says what the side cannot say.
    pub fn sign_contact(
        &mut self,
        from: &UserId,
        to: &UserId,
        side: Side,
        says: Says,
        now: Now,
    ) -> Option<Verified<ContactRecord>> {
        let at = self.tick(now);
        let local = self.locals.get(from).filter(|_| says.side() == side && from != to)?;
        let record = ContactRecord { from: *from, to: *to, device: local.device.id(), side, says, at };
        Verified::sign(record, &local.device, Some(&local.cert)).ok()
    }

    /// Verifies a contact record, whose certificate is attached. What is signed later gets a later clock reading, so
    /// that an answer is later than the question.
    pub fn verify_contact(&mut self, bytes: &[u8], now: Now) -> Result<Verified<ContactRecord>, Refusal> {
        let context = self.users.context(self.clock.trusted(now));
        let record = Unverified::<ContactRecord>::parse(bytes)?.verify(&context)?;
        // A reading too far ahead was refused above, if the local clock is credible.
        let _ = self.hlc.observe(record.at, self.time(now));
        Ok(record)
    }

    /// [`Self::verify_contact`] for a record from one's own store, to be used for all of them after a restart. No time
    /// is a reason to refuse it; a reading more than 48 h ahead, made by a wrong clock, just does not drive ours.
    pub fn reread_contact(&mut self, bytes: &[u8], now: Now) -> Result<Verified<ContactRecord>, Refusal> {
        self.verify_accepted(bytes, self.users.own_context(self.clock.trusted(now)).time, now)
    }

    /// [`Self::verify_contact`] for a record that another device of the user has accepted.
    pub fn verify_contact_of_own_device(
        &mut self,
        bytes: &[u8],
        now: Now,
    ) -> Result<Verified<ContactRecord>, Refusal> {
        self.verify_accepted(bytes, self.clock.trusted(now), now)
    }

    /// That the device which signed it was revoked since then does not unsay what it said, or with a lost laptop all that was
    /// agreed by it would be lost; that the user key was stolen does.
    fn verify_accepted(
        &mut self,
        bytes: &[u8],
        time: TrustedTime,
        now: Now,
    ) -> Result<Verified<ContactRecord>, Refusal> {
        let nothing = RevocationSet::default();
        let context = Context { time, revocations: &nothing, ..self.users.own_context(time) };
        let record = Unverified::<ContactRecord>::parse(bytes)?.verify(&context)?;
        if self.users.revocations.is_compromised(&record.from) {
            return Err(Refusal::Revoked { kind: "contact" });
        }
        let _ = self.hlc.observe(record.at, self.time(now));
        Ok(record)
    }
}

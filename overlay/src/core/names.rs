//! Names: which authority speaks for a domain, who holds an address, what raises an alarm. *Pure.*

use super::state::Provenance;
use super::users::Authority;
use super::{Alarm, ClaimedName, Output, Overlay, Tier};
use crate::authority::{Chain, Held, Standing, standing};
use crate::id::{AuthorityId, UserId};
use crate::record::{NameCert, UserRecord, domain_of};
use crate::time::Now;

/// Second authorities that an alarm was raised about; further ones raise none.
const MAX_ALARMED: usize = 256;

impl Overlay {
    /// First sights, alarms, and who holds which address.
    pub(super) fn note_names(&mut self, record: &UserRecord, now: Now) {
        let time = self.clock.trusted(now);
        for name in record.names().values() {
            let domain = name.domain().to_owned();
            match self.users.authorities.get(&domain) {
                Some(known) if !known.chain.holds(&name.authority) => {
                    // Two that are both said to follow: that was told already, by its own alarm.
                    let told = known.chain.disputed().is_some_and(|both| both.contains(&name.authority));
                    let known = known.chain.current();
                    if !told {
                        self.second_authority(domain, known, name.authority);
                    }
                }
                Some(known) if known.how == Provenance::FirstSight || !known.chain.vouches(name) => {}
                Some(known) => {
                    // One from the own store may have been made by a clock that was wrong.
                    let wrong = time.credible && time.is_too_far_ahead(name.issued);
                    // Nor do strangers set the clock, whoever introduced them.
                    if known.how == Provenance::Enrolled && !wrong {
                        self.clock.raise_floor(name.issued);
                    }
                    self.note_holder(name);
                }
                None if self.users.authorities.len() < self.limits.authorities => {
                    self.set_authority(&domain, name.authority, Provenance::FirstSight, now);
                }
                None => self.counters.drop("no room for another authority"),
            }
        }
    }

    pub(super) fn second_authority(&mut self, domain: String, known: AuthorityId, claimed: AuthorityId) {
        let alarmed = &mut self.users.alarmed;
        if alarmed.len() < MAX_ALARMED && alarmed.insert((domain.clone(), claimed)) {
            self.outputs.push_back(Output::Alarm(Alarm::SecondAuthority { domain, known, claimed }));
        }
    }

    /// The latest certificate says who holds an address: that by the later key, of one key that with the higher serial.
    fn note_holder(&mut self, name: &NameCert) {
        let Some(known) = self.users.authorities.get(name.domain()) else { return };
        let holder = Held::by(name);
        match self.users.holders.get(&name.address) {
            Some(before) if !holder.is_later(before, &known.chain) => return,
            Some(before) if before.user != name.user => {
                let (address, from, to) = (name.address.clone(), before.user, name.user);
                self.outputs.push_back(Output::Alarm(Alarm::NameMoved { address, from, to }));
            }
            Some(_) | None => {}
        }
        self.users.holders.insert(name.address.clone(), holder);
    }

    pub(super) fn set_authority(&mut self, domain: &str, key: AuthorityId, how: Provenance, now: Now) {
        let chain = match self.users.authorities.get(domain) {
            // Another key of the same authority is no other authority.
            Some(known) if known.chain.disputed().is_none() && known.chain.holds(&key) => {
                if known.how >= how {
                    return;
                }
                known.chain.clone()
            }
            Some(known) => {
                let (current, better) = (known.chain.current(), how.replaces(known.how));
                let again = known.chain.pinned_at(key).filter(|_| better && how >= Provenance::Introduced);
                if again.is_none() {
                    if how != Provenance::ByHand {
                        self.second_authority(domain.to_owned(), current, key);
                    }
                    if !better {
                        return;
                    }
                }
                again.unwrap_or_else(|| Chain::of(key))
            }
            None => Chain::of(key),
        };
        let known = self.users.authorities.entry(domain.to_owned());
        let known = known.or_insert_with(|| Authority::known(chain.clone(), how));
        (known.chain, known.how) = (chain, how);
        self.users.holders.retain(|address, _| domain_of(address) != Some(domain));
        self.save_authority(domain, now);
        if how != Provenance::FirstSight {
            let records: Vec<UserRecord> =
                self.users.known.values().map(|known| known.record.clone()).collect();
            records.iter().for_each(|record| self.note_names(record, now));
        }
    }

    /// Whether an authority that counts, not one merely seen first, gives names under a domain.
    pub fn is_domain_of_names(&self, domain: &str) -> bool {
        self.users.authorities.get(domain).is_some_and(Authority::is_pinned)
    }

    /// The key that counts for a domain: pinned, not merely seen first.
    pub fn pinned_authority(&self, domain: &str) -> Option<AuthorityId> {
        let known = self.users.authorities.get(domain).filter(|known| known.is_pinned())?;
        Some(known.chain.current())
    }

    /// Whether two keys are of one authority, as far as is known: the one follows the other.
    pub fn is_one_authority(&self, domain: &str, one: &AuthorityId, other: &AuthorityId) -> bool {
        self.users.is_same_authority(domain, one, other)
    }

    /// Keys of whoever gives names under the domain of an address, as far as is known: the present one first.
    pub(super) fn authorities_of(&self, address: &str) -> Vec<AuthorityId> {
        let known = domain_of(address).and_then(|domain| self.users.authorities.get(domain));
        known.map(|known| known.chain.keys().collect()).unwrap_or_default()
    }

    pub(super) fn tier_of(&self, user: &UserId, now: Now) -> Tier {
        let names = self.users.names(user);
        match names.first().map(|name| self.standing_of(name, now)) {
            Some(Standing::Certified { until, valid }) => Tier::Certified { until, valid },
            Some(_) | None => Tier::Key,
        }
    }

    fn standing_of(&self, name: &NameCert, now: Now) -> Standing {
        let known = self.users.authorities.get(name.domain()).filter(|known| known.is_pinned());
        standing(
            name,
            known.map(|known| &known.chain),
            self.users.holders.get(&name.address),
            &self.users.revocations,
            self.clock.trusted(now),
        )
    }

    pub(super) fn claimed_name(&self, user: &UserId) -> Option<ClaimedName> {
        let names = self.users.names(user);
        let name = names.first()?;
        let known =
            self.users.authorities.get(name.domain()).filter(|known| known.chain.holds(&name.authority));
        Some(ClaimedName {
            address: name.address.clone(),
            authority: name.authority,
            pinned: self.users.is_vouched_for(name) && !self.is_replaced(name),
            how: known.map(|known| known.how),
        })
    }

    /// Whether the authority has given the address to another key since.
    fn is_replaced(&self, name: &NameCert) -> bool {
        let known = self.users.authorities.get(name.domain());
        let holder = self.users.holders.get(&name.address);
        known.zip(holder).is_some_and(|(known, holder)| holder.replaces(name, &known.chain))
    }

    pub(super) fn holder_of(&self, address: &str) -> Option<UserId> {
        let user = self.users.holders.get(address)?.user;
        self.users.names(&user).iter().any(|name| name.address == address).then_some(user)
    }
}

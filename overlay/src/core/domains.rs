//! Domains whose key is known: how each was learnt, what authorities that count say of others, what a person has said; and
//! what becomes of that when such a word is taken back, or ends. *Pure.*
//!
//! Who counts as one who introduces: the authority of a domain that this node is enrolled in, or that it is itself. What it
//! introduces introduces nobody. An introduction comes from the server of that domain only, in a sync (`PROTOCOL.md` §13).

use super::state::Provenance;
use super::users::Authority;
use super::{Alarm, Output, Overlay, Write};
use crate::authority::Chain;
use crate::id::AuthorityId;
use crate::record::{Introduction, Refusal, Unverified, Verified, domain_of};
use crate::time::Now;

/// Domains of which one domain's word is kept, one for each that introduces it.
const MAX_INTRODUCERS: usize = 4;

/// A domain whose key is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDomain {
    /// As in addresses.
    pub domain: String,
    /// The key that speaks for it now.
    pub key: AuthorityId,
    /// How the first of the keys that led there was learnt.
    pub how: Provenance,
    /// How often it was handed over, as far as is known.
    pub handed_over: usize,
    /// Two keys that are both said to follow: neither is believed.
    pub disputed: Option<[AuthorityId; 2]>,
    /// Domains that introduce it, and until when each word counts, Unix milliseconds.
    pub introduced: Vec<(String, u64)>,
    /// Other keys that somebody has claimed it with since the start.
    pub claimed: Vec<AuthorityId>,
}

impl Overlay {
    /// Says which authority speaks for a domain, and how that is known. A key other than the one known raises an alarm,
    /// unless a person says so, and replaces it only if it is known in no worse way.
    pub fn pin_authority(&mut self, domain: &str, key: AuthorityId, how: Provenance, now: Now) {
        self.set_authority(domain, key, how, now);
        if how == Provenance::ByHand {
            self.users.alarmed.retain(|(alarmed, _)| alarmed != domain);
        }
    }

    /// All domains whose key is known, by name.
    pub fn known_domains(&self) -> Vec<KnownDomain> {
        let known = self.users.authorities.iter();
        known.map(|(domain, known)| self.known_domain(domain, known)).collect()
    }

    fn known_domain(&self, domain: &str, known: &Authority) -> KnownDomain {
        let alarmed = self.users.alarmed.iter();
        let claimed = alarmed.filter(|(alarmed, key)| alarmed == domain && !known.chain.holds(key));
        KnownDomain {
            domain: domain.to_owned(),
            key: known.chain.current(),
            how: known.how,
            handed_over: known.chain.keys().count() - 1,
            disputed: known.chain.disputed(),
            introduced: known.vouched().map(|one| (one.by.clone(), one.expires)).collect(),
            claimed: claimed.map(|(_, key)| *key).collect(),
        }
    }

    /// Which domains introduce one, with the key that is known for it.
    pub fn introducers(&self, domain: &str) -> Vec<String> {
        let known = self.users.authorities.get(domain).into_iter();
        known.flat_map(Authority::vouched).map(|one| one.by.clone()).collect()
    }

    /// Forgets the key of a domain, and all that was said of it; false if none is known. The next one that is seen is a first
    /// sight again, and what an authority that counts introduces comes with the next sync.
    pub fn forget_domain(&mut self, domain: &str, now: Now) -> bool {
        let Some(known) = self.users.authorities.remove(domain) else { return false };
        self.users.alarmed.retain(|(alarmed, _)| alarmed != domain);
        self.users.holders.retain(|address, _| domain_of(address) != Some(domain));
        self.outputs.push_back(Output::Write(Write::DeleteAuthority(domain.to_owned())));
        for said in known.introductions {
            if let Some(by) = self.users.authorities.get_mut(&said.by) {
                by.heard = 0;
                self.save_authority(&said.by, now);
            }
        }
        true
    }

    /// The highest serial of what was taken in of what a domain says of others.
    pub fn introduced_until(&self, by: &str) -> u64 {
        self.users.authorities.get(by).map(|known| known.heard).unwrap_or_default()
    }

    /// Takes in what an authority that counts says of another domain, which has to come in the order of the serials; true if
    /// it was new.
    ///
    /// # Errors
    /// When it does not verify, or is not by such an authority.
    pub fn add_introduction(&mut self, bytes: &[u8], now: Now) -> Result<bool, Refusal> {
        let context = self.users.context(self.clock.trusted(now));
        let said = Unverified::<Introduction>::parse(bytes)?.verify(&context)?;
        let counts =
            |known: &&mut Authority| known.is_home() && known.chain.counts(&said.authority, said.issued);
        let by = self.users.authorities.get_mut(&said.by).filter(counts);
        let by = by.ok_or(Refusal::NoCertificate { kind: "introduction" })?;
        if by.heard >= said.serial {
            return Ok(false);
        }
        let new = said.key.is_some() && !self.users.authorities.contains_key(&said.domain);
        if new && !self.make_room_for_domain(now) {
            // It comes again.
            self.counters.drop("no room for another authority");
            return Ok(false);
        }
        let Some(by) = self.users.authorities.get_mut(&said.by) else { return Ok(false) };
        by.heard = said.serial;
        self.save_authority(&said.by, now);
        self.believe_introduction(said, now);
        Ok(true)
    }

    fn believe_introduction(&mut self, said: Verified<Introduction>, now: Now) {
        let (domain, key) = (said.domain.clone(), said.key);
        if let Some(known) = self.users.authorities.get_mut(&domain) {
            known.introductions.retain(|one| one.by != said.by);
        }
        if let Some(key) = key {
            self.introduce_key(&domain, key, now);
        }
        if let Some(known) = self.users.authorities.get_mut(&domain) {
            if key.is_some() && known.introductions.len() < MAX_INTRODUCERS {
                known.introductions.push(said);
            } else if key.is_some() {
                self.counters.drop("introduction of a domain that enough others introduce");
            }
            self.end_introduced(&domain, now);
            self.save_authority(&domain, now);
        }
    }

    fn introduce_key(&mut self, domain: &str, key: AuthorityId, now: Now) {
        let known = self.users.authorities.get(domain);
        // Another one that counts says otherwise: a person hears of it, and decides.
        let other = known.filter(|known| !known.chain.holds(&key) && known.is_introduced());
        if let Some(known) = other.map(|known| known.chain.current()) {
            return self.second_authority(domain.to_owned(), known, key);
        }
        self.set_authority(domain, key, Provenance::Introduced, now);
    }

    /// Domains that nobody who counts introduces any more are as those that were seen first.
    pub(super) fn end_introductions(&mut self, now: Now) {
        let introduced = |known: &Authority| known.how == Provenance::Introduced;
        let all = self.users.authorities.iter().filter(|(_, known)| introduced(known));
        let domains: Vec<String> = all.map(|(domain, _)| domain.clone()).collect();
        for domain in domains {
            if self.end_introduced(&domain, now) {
                self.save_authority(&domain, now);
            }
        }
    }

    fn end_introduced(&mut self, domain: &str, now: Now) -> bool {
        let time = self.clock.trusted(now);
        let Some(known) = self.users.authorities.get_mut(domain) else { return false };
        known.introductions.retain(|one| !time.is_past(one.expires));
        if known.how != Provenance::Introduced || known.is_introduced() {
            return false;
        }
        known.how = Provenance::FirstSight;
        let key = known.chain.current();
        self.users.holders.retain(|address, _| domain_of(address) != Some(domain));
        self.outputs.push_back(Output::Alarm(Alarm::NotIntroduced { domain: domain.to_owned(), key }));
        true
    }

    pub(super) fn restored_introductions(
        &mut self,
        said: &[Vec<u8>],
        now: Now,
    ) -> Vec<Verified<Introduction>> {
        let context = self.users.own_context(self.clock.trusted(now));
        let verified: Vec<_> = said
            .iter()
            .filter_map(|bytes| Unverified::parse(bytes).ok()?.verify(&context).ok())
            .take(MAX_INTRODUCERS)
            .collect();
        if verified.len() < said.len() {
            self.counters.drop("stored introduction");
        }
        verified
    }

    /// What was merely seen first makes room for what somebody has said.
    fn make_room_for_domain(&mut self, now: Now) -> bool {
        if self.users.authorities.len() < self.limits.authorities {
            return true;
        }
        let seen = |known: &Authority| !known.is_pinned() && known.introductions.is_empty();
        let seen = self.users.authorities.iter().find(|(_, known)| seen(known));
        let seen = seen.map(|(domain, _)| domain.clone());
        seen.is_some_and(|domain| self.forget_domain(&domain, now))
    }
}

impl Authority {
    /// A key, known so.
    pub(super) fn known(chain: Chain, how: Provenance) -> Self {
        Self { chain, how, introductions: Vec::new(), heard: 0 }
    }

    /// Whether it speaks of other domains here: this node is enrolled with it, or is it.
    pub(super) fn is_home(&self) -> bool {
        matches!(self.how, Provenance::Enrolled | Provenance::Own)
    }

    /// Whether somebody says that the key which is known speaks for the domain.
    fn is_introduced(&self) -> bool {
        self.vouched().next().is_some()
    }

    /// The words of others for the key that is known.
    fn vouched(&self) -> impl Iterator<Item = &Verified<Introduction>> {
        let is_for_it = |one: &&Verified<Introduction>| one.key.is_some_and(|key| self.chain.holds(&key));
        self.introductions.iter().filter(is_for_it)
    }
}

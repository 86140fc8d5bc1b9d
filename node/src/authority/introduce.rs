//! Other domains that this server introduces to its users: their keys are signed here, told in syncs (`overlay/PROTOCOL.md`
//! §13), taken back by the same way, and signed anew before they end or when the domain's own key was handed over.

use crosstalk_overlay::authority::RENEW_AFTER;
use crosstalk_overlay::enrol::{INTRODUCTIONS, MAX_INTRODUCTIONS};
use crosstalk_overlay::id::AuthorityId;
use crosstalk_overlay::record::{Introduction, Record as _, SignedRecord};
use crosstalk_storage::tree::authority::{AuditLine, StoredIntroduction};
use prost::Message as _;

use super::database::{Change, Database, DatabaseError};
use super::office::{Office, OfficeError, done};
use super::{Answer, IntroducedView};
use crate::well_known::{Document, parse_key};

/// The lines of the audit log that tell of them.
pub(super) const TOLD: [&str; 3] = ["domain introduced", "domain withdrawn", "introduction renewed"];

/// Something signed, of our own database.
struct Signed {
    said: Introduction,
    bytes: Vec<u8>,
}

impl Signed {
    fn read(stored: StoredIntroduction) -> Option<Self> {
        let said = Introduction::from_payload(&SignedRecord::decode(&*stored.signed).ok()?.payload).ok()?;
        Some(Self { said, bytes: stored.signed })
    }

    fn is_due(&self, authority: AuthorityId, now: u64) -> bool {
        let old = self.said.authority != authority || now >= self.said.issued.saturating_add(RENEW_AFTER);
        old && self.said.key.is_some()
    }
}

/// All that is signed, in the order of the serials.
fn all(database: &Database) -> Result<Vec<Signed>, DatabaseError> {
    let stored = database.introductions()?.into_iter();
    let mut all: Vec<Signed> = stored.filter_map(|(_, stored)| Signed::read(stored)).collect();
    all.sort_by_key(|one| one.said.serial);
    Ok(all)
}

/// All that is signed, as the overlay takes it.
pub(super) fn signed(database: &Database) -> Result<Vec<Vec<u8>>, DatabaseError> {
    Ok(all(database)?.into_iter().map(|one| one.bytes).collect())
}

impl Office {
    /// Says which key speaks for another domain.
    pub(super) fn introduce(&mut self, domain: &str, key: Option<&str>) -> Result<Answer, OfficeError> {
        let key = key.and_then(parse_key).ok_or_else(|| {
            let text = "that is no key: `crosstalk authority show` on the other domain's server prints it, 64 digits";
            OfficeError::Refused(text.to_owned())
        })?;
        if domain == self.domain {
            let text = format!("{domain} is the domain of this server itself");
            return Err(OfficeError::Refused(text));
        }
        self.say(domain, Some(key), "domain introduced")
    }

    /// Takes that back.
    pub(super) fn withdraw(&mut self, domain: &str) -> Result<Answer, OfficeError> {
        let known = all(&self.database)?.into_iter().find(|one| one.said.domain == domain);
        if known.is_none_or(|one| one.said.key.is_none()) {
            return Err(OfficeError::Refused(format!(
                "{domain} is not introduced: `crosstalk authority domain list` shows who is"
            )));
        }
        self.say(domain, None, "domain withdrawn")
    }

    fn say(&mut self, domain: &str, key: Option<AuthorityId>, what: &str) -> Result<Answer, OfficeError> {
        let (all, now) = (all(&self.database)?, self.now().wall);
        let said = Introduction::issue(&self.key, &self.domain, (domain, key), next(&all, now), now)?;
        let told = AuditLine {
            user: key.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
            serial: said.serial,
            ..self.line(what, domain)
        };
        let mut change = Change::told(told);
        let mut bytes = said.bytes().len();
        let mut count = 1;
        for other in all.iter().filter(|other| other.said.domain != domain) {
            // What has ended nobody believes any more: it need not be taken back.
            if other.said.expires < now {
                change = change.introduction(&other.said.domain, None);
            } else {
                (count, bytes) = (count + 1, bytes + other.bytes.len());
            }
        }
        if key.is_some() && (count > MAX_INTRODUCTIONS || bytes > INTRODUCTIONS) {
            return Err(OfficeError::Refused(format!(
                "a domain introduces {MAX_INTRODUCTIONS} others at most, in {INTRODUCTIONS} bytes, with those that were taken \
                 back within 400 days"
            )));
        }
        let stored = StoredIntroduction { signed: said.bytes().to_vec() };
        self.database.commit(change.introduction(domain, Some(stored)))?;
        self.introduced.push(said.bytes().to_vec());
        Ok(done())
    }

    /// What is introduced, for people.
    pub(super) fn introduced_domains(&self) -> Result<Answer, OfficeError> {
        let view = |one: Signed| IntroducedView {
            domain: one.said.domain,
            key: one.said.key.map(|key| key.to_hex()),
            since: one.said.issued,
            until: one.said.expires,
        };
        Ok(Answer::Introduced(all(&self.database)?.into_iter().map(view).collect()))
    }

    /// What this domain's own web server is to say.
    pub(super) fn document(&self) -> Result<Answer, OfficeError> {
        Ok(Answer::Document(Document::new(&self.domain, self.key.id(), &self.rotations()?)))
    }

    /// What a laptop lacks that has everything up to a serial. What is due is signed anew.
    pub(super) fn introductions_after(&mut self, serial: u64) -> Result<Vec<Vec<u8>>, OfficeError> {
        let (mut known, now) = (all(&self.database)?, self.now().wall);
        let mut change = Change::default();
        let mut renewed = Vec::new();
        let numbers = next(&known, now)..;
        for (one, number) in known.iter_mut().filter(|one| one.is_due(self.key.id(), now)).zip(numbers) {
            let Introduction { domain, key, .. } = one.said.clone();
            let said = Introduction::issue(&self.key, &self.domain, (&domain, key), number, now)?;
            change = change.introduction(&domain, Some(StoredIntroduction { signed: said.bytes().to_vec() }));
            renewed.push(said.bytes().to_vec());
            change = change.and_told(self.line("introduction renewed", &domain));
            *one = Signed { bytes: said.bytes().to_vec(), said: Introduction::clone(&said) };
        }
        if !renewed.is_empty() {
            self.database.commit(change)?;
            self.introduced.extend(renewed);
            known.sort_by_key(|one| one.said.serial);
        }
        // What was taken back too, also for who says that it has nothing: it may have forgotten how far it was.
        let lacking = |one: &Signed| one.said.serial > serial && one.said.expires >= now;
        Ok(known.into_iter().filter(lacking).map(|one| one.bytes).collect())
    }

    /// What was introduced or taken back since this was asked last, for the overlay.
    pub fn take_introduced(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.introduced)
    }
}

/// The next serial: above all others, also if the clock went back, and above those that a lost database had.
fn next(all: &[Signed], now: u64) -> u64 {
    all.last().map_or(0, |one| one.said.serial).saturating_add(1).max(now)
}

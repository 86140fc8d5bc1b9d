//! Domains of others: which key speaks for each and how it was learnt, what a person says of it, and how that is shown behind a
//! certified name. *Pure.*

use crosstalk_overlay::core::{KnownDomain, Provenance};
use crosstalk_overlay::id::{AuthorityId, UserId};
use serde::{Deserialize, Serialize};

use super::Core;
use super::admin::{Refused, Reply};

/// What can be asked, or said, of domains.
#[derive(Debug)]
pub enum DomainCommand {
    /// All whose key is known.
    List,
    /// This key speaks for a domain.
    Trust {
        /// As in addresses.
        domain: String,
        /// The key.
        key: AuthorityId,
        /// Signed rotations that led to it.
        rotations: Vec<Vec<u8>>,
        /// Whether the domain's web server says so; else a person does.
        by_web: bool,
    },
    /// What is known of a domain is to be forgotten.
    Forget(String),
    /// What the authority of this node introduces, signed, in the order of the serials.
    Introductions(Vec<Vec<u8>>),
}

impl DomainCommand {
    /// Whether the answer stands for a change, and has to wait for its commit.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}

/// A domain whose key is known, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownDomainView {
    /// As in addresses.
    pub domain: String,
    /// The key that speaks for it, hexadecimal.
    pub key: String,
    /// `own`, `enrolled`, `by-hand`, `introduced`, `well-known` or `first-sight`.
    pub how: String,
    /// Whether names by that key are believed: at first sight they are claims.
    pub counts: bool,
    /// Domains that introduce it with that key.
    pub introduced_by: Vec<IntroducedByView>,
    /// How often the key was handed over, as far as is known.
    pub handed_over: usize,
    /// Two keys that are both said to follow, hexadecimal: neither is believed.
    pub disputed: Vec<String>,
    /// Other keys that somebody has claimed the domain with since the node was started, hexadecimal.
    pub claimed: Vec<String>,
}

/// One domain's word for another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IntroducedByView {
    /// Who introduces.
    pub domain: String,
    /// When that ends, Unix milliseconds.
    pub until: u64,
}

fn view(known: KnownDomain) -> KnownDomainView {
    let how = match known.how {
        Provenance::Own => "own",
        Provenance::Enrolled => "enrolled",
        Provenance::ByHand => "by-hand",
        Provenance::Introduced => "introduced",
        Provenance::WellKnown => "well-known",
        Provenance::FirstSight => "first-sight",
    };
    let by = |(domain, until)| IntroducedByView { domain, until };
    KnownDomainView {
        domain: known.domain,
        key: known.key.to_hex(),
        how: how.to_owned(),
        counts: known.how != Provenance::FirstSight,
        introduced_by: known.introduced.into_iter().map(by).collect(),
        handed_over: known.handed_over,
        disputed: known.disputed.iter().flatten().map(AuthorityId::to_hex).collect(),
        claimed: known.claimed.iter().map(AuthorityId::to_hex).collect(),
    }
}

impl Core {
    pub(super) fn domain_command(&mut self, command: DomainCommand) -> Result<Reply, Refused> {
        match command {
            DomainCommand::List => {
                Ok(Reply::Domains(self.overlay.known_domains().into_iter().map(view).collect()))
            }
            DomainCommand::Trust { domain, key, rotations, by_web } => {
                self.trust(&domain, key, &rotations, by_web)
            }
            DomainCommand::Forget(domain) => self.forget_domain(&domain),
            DomainCommand::Introductions(said) => {
                self.saveable()?;
                self.take_introductions(&said);
                Ok(Reply::Done)
            }
        }
    }

    fn trust(
        &mut self,
        domain: &str,
        key: AuthorityId,
        rotations: &[Vec<u8>],
        by_web: bool,
    ) -> Result<Reply, Refused> {
        self.saveable()?;
        self.is_of_others(domain)?;
        let how = if by_web { Provenance::WellKnown } else { Provenance::ByHand };
        self.pin(domain, key, rotations, how);
        let counts = self.overlay.pinned_authority(domain);
        if !counts.is_some_and(|known| self.overlay.is_one_authority(domain, &known, &key)) {
            return Err(Refused::Domain(format!(
                "{key} is not the key of {domain} that is known here, nor one that it was handed over to, so nothing has \
                 changed: ask whoever runs the domain; `crosstalk domain show {domain}` has all keys, and \
                 `crosstalk domain trust {domain} KEY` says which is right"
            )));
        }
        self.domains_changed();
        Ok(Reply::Domains(
            self.overlay
                .known_domains()
                .into_iter()
                .filter(|known| known.domain == domain)
                .map(view)
                .collect(),
        ))
    }

    fn forget_domain(&mut self, domain: &str) -> Result<Reply, Refused> {
        self.saveable()?;
        self.is_of_others(domain)?;
        match self.overlay.forget_domain(domain, self.now) {
            true => Ok(Reply::Done),
            false => Err(Refused::Domain(format!(
                "no key of {domain} is known: `crosstalk domain list` shows all domains of which one is"
            ))),
        }
    }

    /// What is said of the domain of users here is decided by enrolling them.
    fn is_of_others(&self, domain: &str) -> Result<(), Refused> {
        if self.is_own_domain(domain) || self.settings.serves.as_ref().is_some_and(|(own, _)| own == domain) {
            return Err(Refused::Domain(format!("this node itself speaks for {domain}")));
        }
        match self.is_domain_of_accounts(domain) {
            true => Err(Refused::Domain(format!(
                "accounts of this node are enrolled under {domain}, so its key is the one that they are enrolled with: if \
                 that is wrong, enrol them again (`crosstalk enrol`)"
            ))),
            false => Ok(()),
        }
    }

    /// What an authority that counts here says of other domains, in the order of the serials. What cannot be taken now comes
    /// again, with all behind it.
    pub(super) fn take_introductions(&mut self, said: &[Vec<u8>]) {
        let mut news = false;
        for bytes in said {
            match self.overlay.add_introduction(bytes, self.now) {
                Ok(fresh) => news |= fresh,
                Err(_) => {
                    self.count("introductions of domains that were not taken");
                    break;
                }
            }
        }
        if news {
            self.domains_changed();
        }
    }

    /// Behind the tier of a certified name: by whose word its domain's key is believed; nothing where it is that of users here.
    pub(super) fn whose_word(&self, user: &UserId) -> Option<String> {
        let name = self.overlay.name_of(user)?;
        let domain = name.address.split_once('@')?.1;
        match name.how? {
            Provenance::Introduced => {
                Some(format!("introduced by {}", self.overlay.introducers(domain).join(", ")))
            }
            Provenance::WellKnown => Some(format!("by https://{domain}")),
            Provenance::ByHand => Some("key told by hand".to_owned()),
            Provenance::Own | Provenance::Enrolled | Provenance::FirstSight => None,
        }
    }
}

//! Who may log in: a mirror of the core's accounts that the login of each connection reads. *Pure.*

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crosstalk_overlay::id::UserId;

use crate::core::io::{Credentials, LoginChange, ScramKeys};

use super::credentials::decoy;

/// Accounts by domain and login name. Clones share them. As large as the core's table of accounts, which is bounded.
#[derive(Clone)]
pub struct Directory {
    accounts: Arc<RwLock<BTreeMap<(String, String), Credentials>>>,
    secret: Arc<zeroize::Zeroizing<[u8; 32]>>,
}

/// What the login of a name is checked against. An account that does not exist has keys too, but no user.
pub(super) struct Claim {
    pub(super) user: Option<UserId>,
    pub(super) sha1: ScramKeys,
    pub(super) sha256: ScramKeys,
}

impl Directory {
    /// An empty directory. From `secret` come the salts shown for accounts that do not exist: if it is the same
    /// after a restart, even comparing before and after does not tell which exist.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { accounts: Arc::default(), secret: Arc::new(zeroize::Zeroizing::new(secret)) }
    }

    /// Mirrors a change of the core.
    pub fn apply(&self, change: LoginChange) {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            LoginChange::Put { name, domain, credentials } => accounts.insert((domain, name), credentials),
            LoginChange::Remove { name, domain } => accounts.remove(&(domain, name)),
        };
    }

    /// Whether accounts are named under a domain.
    pub(super) fn has_domain(&self, domain: &str) -> bool {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let first = accounts.range((domain.to_owned(), String::new())..).next();
        first.is_some_and(|((found, _), _)| found == domain)
    }

    /// All domains that accounts are named under.
    pub(super) fn domains(&self) -> Vec<String> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let mut domains: Vec<String> = accounts.keys().map(|(domain, _)| domain.clone()).collect();
        domains.dedup();
        domains
    }

    pub(super) fn claim(&self, name: &str, domain: &str) -> Claim {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        match accounts.get(&(domain.to_owned(), name.to_owned())) {
            Some(found) => {
                Claim { user: Some(found.user), sha1: found.sha1.clone(), sha256: found.sha256.clone() }
            }
            None => {
                let (sha1, sha256) = decoy(&self.secret, &format!("{name}@{domain}"));
                Claim { user: None, sha1, sha256 }
            }
        }
    }
}

//! The accounts whose TLS may end here: those that the user of this machine has listed. *Pure.*

use std::collections::BTreeSet;
use std::net::IpAddr;

use jid::{BareJid, Jid};

/// Most accounts that are listed.
pub const MOST: usize = 16;

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts(BTreeSet<BareJid>);

impl Accounts {
    /// These accounts.
    pub fn new(accounts: impl IntoIterator<Item = BareJid>) -> Self {
        Self(accounts.into_iter().collect())
    }

    /// Reads an account of the settings: `NAME@DOMAIN`, the domain a DNS name, as certificates have one.
    pub fn read(text: &str) -> Option<BareJid> {
        let jid = Jid::new(text).ok()?.try_into_full().err()?;
        let domain = jid.domain().as_str();
        let is_name = domain.parse::<IpAddr>().is_err()
            && domain.split('.').all(|label| !label.is_empty())
            && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        (jid.node().is_some() && is_name).then_some(jid)
    }

    /// Whether nobody is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The domains that they are at, each once.
    pub fn domains(&self) -> Vec<String> {
        let domains: BTreeSet<&str> = self.0.iter().map(|jid| jid.domain().as_str()).collect();
        domains.into_iter().map(str::to_owned).collect()
    }

    /// The domain that a client names, if an account at it is listed. Which account it will be is not known before the login.
    pub fn domain(&self, named: &str) -> Option<String> {
        let named = Jid::new(named).ok()?;
        let is_bare = named.node().is_none() && named.resource().is_none();
        let domain = named.domain().as_str();
        (is_bare && self.0.iter().any(|jid| jid.domain().as_str() == domain)).then(|| domain.to_owned())
    }

    /// Whether this account is listed.
    pub fn has(&self, user: &BareJid) -> bool {
        self.0.contains(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_name_at_a_dns_name() {
        let romeo = Accounts::read("Romeo@Jabber.Example.").expect("an account");
        assert_eq!(romeo.as_str(), "romeo@jabber.example");
        for wrong in [
            "",
            "jabber.example",
            "@a",
            "romeo@",
            "romeo@a/x",
            "romeo@127.0.0.1",
            "romeo@[::1]",
            "a@b@c",
            "a b",
        ] {
            assert_eq!(Accounts::read(wrong), None, "{wrong}");
        }
        let accounts = Accounts::new([romeo.clone(), romeo, Accounts::read("a@b.example").expect("one")]);
        assert_eq!(
            (accounts.0.len(), accounts.domains()),
            (2, vec!["b.example".into(), "jabber.example".into()])
        );
        assert_eq!(accounts.domain("JABBER.example."), Some("jabber.example".into()));
        for other in ["romeo@jabber.example", "jabber.example/x", "example", "x.jabber.example", ""] {
            assert_eq!(accounts.domain(other), None, "{other}");
        }
        assert!(accounts.has(&BareJid::new("a@b.example").expect("a JID")));
        assert!(!accounts.has(&BareJid::new("b@b.example").expect("a JID")));
    }
}

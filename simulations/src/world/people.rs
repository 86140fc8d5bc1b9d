//! People with real keys made from the seed, and their accounts on hosts. *Pure.*

use crosstalk::core::admin::{Command, NewAccount, Reply};
use crosstalk::core::io::{Credentials, ScramKeys};
use crosstalk::core::settings::DeviceKeys;
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use crosstalk_overlay::keys::{DeviceKey, SealingKey, UserKey};
use crosstalk_overlay::record::DeviceCert;

use super::World;
use super::events::{HostId, PersonId};
use super::story::{Checked, Violation};

/// A person with a self-certified address.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) key: UserKey,
    pub(crate) user: UserId,
    /// Bare JID.
    pub(crate) jid: String,
    /// Where it has accounts.
    pub(crate) hosts: Vec<HostId>,
}

impl World {
    /// Somebody new.
    pub(crate) fn person(&mut self, name: &'static str) -> PersonId {
        let key = UserKey::from_seed(self.dice.seed());
        let user = key.id();
        let jid = format!("{}@{XID_DOMAIN}", user.xid());
        let id = PersonId(self.people.len());
        self.addresses.insert(jid.clone(), id);
        self.people.push(Person { name, key, user, jid, hosts: Vec::new() });
        id
    }

    /// A person has another address from now on.
    pub(super) fn readdress(&mut self, person: PersonId, jid: String) {
        let before = std::mem::replace(&mut self.people[person.0].jid, jid.clone());
        self.addresses.remove(&before);
        self.addresses.insert(jid, person);
    }

    /// The person with this bare address.
    pub(crate) fn person_at(&self, bare: &str) -> Option<PersonId> {
        self.addresses.get(bare).copied()
    }

    /// Gives a person an account on a running host, as `crosstalk account add` does: a device of its own with keys of
    /// its own, durable when this returns.
    pub(crate) fn account(&mut self, person: PersonId, host: HostId) -> Checked {
        let account = self.new_account(person, host)?;
        self.add_account(person, host, Command::AddAccount(Box::new(account)))
    }

    /// An account with keys of its own in the key file of a host.
    pub(super) fn new_account(&mut self, person: PersonId, host: HostId) -> Result<NewAccount, Violation> {
        let wall = self.now(host).wall;
        let device = DeviceKey::from_seed(self.dice.seed());
        let sealing = SealingKey::from_seed(self.dice.seed(), wall);
        let Person { name, key, user, .. } = &self.people[person.0];
        let (name, user) = (*name, *user);
        let cert = DeviceCert::issue(key, device.id(), wall);
        let cert = cert.map_err(|why| self.violation(format!("a certificate was refused: {why}")))?;
        let keys = DeviceKeys { device: device.clone(), sealing: vec![sealing.clone()] };
        self.hosts[host.0].keys.insert(user, keys);
        self.people[person.0].hosts.push(host);
        Ok(NewAccount {
            name: name.to_owned(),
            domain: XID_DOMAIN.to_owned(),
            user,
            device,
            sealing,
            device_cert: cert.bytes().to_vec(),
            name_cert: None,
            credentials: Credentials { user, sha1: no_password(), sha256: no_password() },
            sealed_by_password: Vec::new(),
            sealed_by_recovery: Vec::new(),
            nickname: name.to_owned(),
        })
    }

    /// Adds it.
    pub(super) fn add_account(&mut self, person: PersonId, host: HostId, add: Command) -> Checked {
        match self.ask(host, add)? {
            Reply::Account(view) if view.jid == self.people[person.0].jid => Ok(()),
            other => Err(self.violation(format!("an account was not added: {other:?}"))),
        }
    }

    /// Somebody on a host.
    pub(crate) fn who(&self, person: PersonId) -> &'static str {
        self.people[person.0].name
    }

    /// Sentence about a broken promise, now.
    pub(crate) fn violation(&self, what: impl Into<String>) -> Violation {
        Violation { at: self.time, what: what.into() }
    }
}

/// SASL happens before the core: nobody looks at these.
fn no_password() -> ScramKeys {
    ScramKeys { salt: vec![0; 16], iterations: 4_096, stored_key: vec![0; 20], server_key: vec![0; 20] }
}

//! Between laptops and the server of a domain: questions out, questions in, names that are void, what is certified here.
//! *Pure.*

use crosstalk_overlay::core::{NoAnswer, Provenance, Server};
use crosstalk_overlay::id::{AuthorityId, NodeId, XID_DOMAIN};
use crosstalk_storage::tree::account::HomeServer;
use serde::{Deserialize, Serialize};

use super::Core;
use super::admin::{NewAccount, Refused, Reply};
use super::io::Output;

/// A certified name of this node, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameView {
    /// The address.
    pub address: String,
    /// When its certificate ends, Unix milliseconds.
    pub until: u64,
    /// Whether it has not ended, by the time that is believed.
    pub valid: bool,
}

impl Core {
    /// Asks the server of a domain; the answer to the request follows.
    pub(super) fn ask_server(&mut self, request: u64, server: Server, ask: Vec<u8>) {
        self.overlay.ask_server(request, server, ask, self.now);
    }

    pub(super) fn server_said(&mut self, request: u64, answer: Result<(NodeId, Vec<u8>), NoAnswer>) {
        if self.home_server_said(request, &answer) {
            return;
        }
        let reply = match answer {
            Ok((node, answer)) => Reply::ServerSaid { node: *node.as_bytes(), answer },
            Err(why) => Reply::Refused(Refused::NotEnrolled(why.to_string())),
        };
        self.output(Output::Answer { request, reply: Box::new(reply) }, false);
    }

    /// This node gives names under a domain: it answers laptops, and believes itself.
    pub(super) fn serve(&mut self, domain: &str, authority: AuthorityId) {
        self.overlay.pin_authority(domain, authority, Provenance::Own, self.now);
        self.overlay.serve_enrolment();
    }

    /// Names that this node's authority has taken back. Those known already change nothing.
    pub(super) fn add_revocations(&mut self, revocations: &[Vec<u8>]) -> Result<Reply, Refused> {
        self.saveable()?;
        for revocation in revocations {
            let taken = self.overlay.add_revocation(revocation, self.now);
            taken.map_err(|why| Refused::BadCertificate(why.to_string()))?;
        }
        Ok(Reply::Done)
    }

    /// Adds the account of a user of another node's domain, whose authority is pinned in the same commit.
    pub(super) fn add_enrolled(
        &mut self,
        new: NewAccount,
        authority: AuthorityId,
        server: NodeId,
        places: Vec<String>,
    ) -> Result<Reply, Refused> {
        self.saveable()?;
        let (domain, user) = (new.domain.clone(), new.user);
        let added = self.add_account(new)?;
        self.overlay.pin_authority(&domain, authority, Provenance::Enrolled, self.now);
        if let Some(account) = self.accounts.get_mut(&user) {
            let node = server.as_bytes().to_vec();
            account.stored.server = Some(HomeServer { node, places, ..HomeServer::default() });
        }
        self.save_account(&user);
        self.look_for_server(user);
        self.seek_names();
        Ok(added)
    }

    /// Whether an account here is named under a domain: for its clients, this node is that server.
    pub(crate) fn is_domain_of_accounts(&self, domain: &str) -> bool {
        self.accounts.iter().any(|account| account.stored.domain == domain)
    }

    /// What accounts here are certified as.
    pub(super) fn certified_names(&self) -> Vec<NameView> {
        let named = self.accounts.iter().filter(|account| account.stored.domain != XID_DOMAIN);
        let view = |account: &super::account::Account| {
            let until = self.overlay.local_validity(&account.user)?.1?;
            let time = self.overlay.clock().trusted(self.now);
            let valid = !time.credible || time.millis < until;
            Some(NameView { address: account.jid.to_string(), until, valid })
        };
        named.filter_map(view).collect()
    }
}

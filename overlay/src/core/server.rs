//! What a user of this node and the server of its domain tell each other beyond the questions themselves: who the device
//! is, what the user's record says, what the device signs; and when the server is met. *Pure.*

use super::{Output, Overlay};
use crate::dht::PRESENCE_AGAIN;
use crate::enrol::{MAX_SERVERS, Seen, Statement};
use crate::id::{NodeId, UserId};
use crate::record::{Context, DeviceCert, PresenceRecord, Refusal, Unverified, UserRecord, Verified};
use crate::time::Now;
use crate::wire::Frame;

/// Users whose servers are looked out for at most.
const MAX_WATCHED: usize = 2_048;

/// Signed bytes by which the server knows a device of a user, on the node that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProof {
    /// DeviceCert.
    pub certificate: Vec<u8>,
    /// NodeBinding.
    pub binding: Vec<u8>,
}

impl Overlay {
    /// Who a user's device here is; none while it has nothing to say for itself.
    pub fn device_proof(&self, user: &UserId) -> Option<DeviceProof> {
        let local = self.locals.get(user).filter(|local| !local.is_void(&self.users.revocations))?;
        let binding = local.binding()?.bytes().to_vec();
        Some(DeviceProof { certificate: local.cert.bytes().to_vec(), binding })
    }

    /// Encoded user record of a user of this node.
    pub fn record_of_own(&self, user: &UserId) -> Option<Vec<u8>> {
        self.locals.get(user)?;
        self.users.record(user).map(UserRecord::encode)
    }

    /// Takes in what the server has as the record of a user of this node. Parts that have ended count: they say which
    /// devices the user has.
    ///
    /// # Errors
    /// When it does not verify, or is another's.
    pub fn merge_record_of_own(&mut self, user: &UserId, bytes: &[u8], now: Now) -> Result<(), Refusal> {
        let known = self.users.record(user);
        let context = self.users.own_context(self.clock.trusted(now));
        let record = UserRecord::verify_knowing(bytes, known, &context)?;
        if record.user() != *user || !self.locals.contains_key(user) {
            return Err(Refusal::WrongSigner { kind: "user-record" });
        }
        self.take_in(&record, now);
        Ok(())
    }

    /// Signs what a user's device here says of the account.
    pub fn sign_statement(&self, user: &UserId, said: Vec<u8>) -> Option<Statement> {
        let local = self.locals.get(user).filter(|local| !local.is_void(&self.users.revocations))?;
        Some(Statement::sign(user, said, &local.device))
    }

    /// What a user here shows, for the server: signed anew if somebody is here and it counts not much longer.
    pub fn presence_for_server(&mut self, user: &UserId, now: Now) -> Option<Verified<PresenceRecord>> {
        let old = now.wall.saturating_sub(PRESENCE_AGAIN);
        let known = self.own_presence(user)?;
        if !known.sessions.is_empty() && known.at.millis <= old {
            self.sign_presence(user, now);
        }
        self.own_presence(user).cloned()
    }

    /// What the device of somebody said last, as the server has it, is shown to a user here: while it counts, as here; then, that it
    /// was here. The device need not be known: its certificate comes along.
    ///
    /// # Errors
    /// When one of the two does not verify.
    pub fn presence_from_server(&mut self, to: &UserId, seen: &Seen, now: Now) -> Result<(), Refusal> {
        let record = {
            let context = Context { enforce_end: false, ..self.users.context(self.clock.trusted(now)) };
            let cert = Unverified::<DeviceCert>::parse(&seen.certificate)?.verify(&context)?;
            let context = Context { certificates: &cert, ..context };
            Unverified::<PresenceRecord>::parse(&seen.presence)?.verify(&context)?
        };
        if !self.locals.contains_key(to) || self.locals.contains_key(&record.user) {
            return Err(Refusal::WrongSigner { kind: "presence" });
        }
        self.show_said(&record, &[*to], true, now);
        Ok(())
    }

    /// The node of the server of a user's domain, and its other servers: [`Output::ServerMet`] at the begin of each session with one,
    /// [`Output::ServerLost`] when one was lost; and, as the first never sleeps, mail for the user waits there.
    pub fn set_server(&mut self, user: &UserId, node: NodeId, others: &[NodeId], now: Now) {
        if self.enrolment.watched.len() < MAX_WATCHED || self.enrolment.watched.contains_key(user) {
            let all = others.iter().take(MAX_SERVERS).copied().chain([node]).collect();
            self.enrolment.watched.insert(*user, all);
        }
        let Some(local) = self.locals.get_mut(user).filter(|_| node != self.node) else { return };
        if local.home.replace(node) != Some(node) {
            self.renew_records(user, now);
        }
    }

    /// Calls a server that may have to be asked soon, at these multiaddresses or on the link.
    pub fn call_server(&mut self, node: NodeId, places: Vec<String>, now: Now) {
        self.learn(node, places, now);
        self.need(node, now);
    }

    /// Whether a server can be asked without a call: there is a session with it, or it is this very node.
    pub fn is_met(&self, node: &NodeId) -> bool {
        *node == self.node || self.is_greeted(node)
    }

    fn is_server(&self, node: &NodeId) -> bool {
        self.enrolment.watched.values().any(|servers| servers.contains(node))
    }

    /// Tells a laptop that something from outside waits here for its users.
    pub fn tell_upstream(&mut self, node: NodeId, now: Now) {
        if node == self.node {
            self.outputs.push_back(Output::Upstream(node));
        } else if self.is_greeted(&node) {
            self.send_frame(node, &Frame::Upstream, false, now);
        }
    }

    pub(super) fn on_upstream(&mut self, node: NodeId) {
        if self.is_server(&node) {
            return self.outputs.push_back(Output::Upstream(node));
        }
        self.counters.drop("news from outside of a node that is nobody's server");
    }

    pub(super) fn server_on_session(&mut self, node: NodeId) {
        if self.is_server(&node) {
            self.outputs.push_back(Output::ServerMet(node));
        }
    }

    pub(super) fn server_session_lost(&mut self, node: NodeId) {
        if self.is_server(&node) {
            self.outputs.push_back(Output::ServerLost(node));
        }
    }
}

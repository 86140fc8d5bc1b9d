//! A laptop in other hands. Its thief uses what is on it; its owner says at another laptop that it is void, and whoever has
//! met somebody who knows that believes nothing by it any more (DESIGN.md §3). *Pure.*

use std::collections::BTreeMap;

use crosstalk::authority::Question;
use crosstalk::core::admin::{Command, Reply};
use crosstalk::xmpp::{Element, ns};
use crosstalk_overlay::enrol::Answer;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::record::{Revocation, Revoked, RevokedBy, Verified};

use super::World;
use super::events::{ClientId, HostId, PersonId};
use super::story::Checked;
use crate::invariants::MessageKey;

/// Whoever has been with somebody who knows for so long knows it too, milliseconds: they have to find each other first.
const SOON: u64 = 2 * 60_000;
/// How what a thief says begins.
const LIE: &str = "lie";

/// What was stolen, and who knows.
pub(crate) struct Theft {
    host: HostId,
    client: ClientId,
    lies: u32,
    /// Since when each host has been with somebody who knows; those that were for long enough know.
    met: BTreeMap<HostId, u64>,
    /// When messages were sent since.
    sent: BTreeMap<MessageKey, u64>,
}

impl World {
    /// A laptop is stolen, with its client logged in.
    pub(crate) fn steal(&mut self, host: HostId, client: ClientId) {
        let name = self.hosts[host.0].name;
        self.story.tell(self.time, || format!("{name} is stolen"));
        self.clients[client.0].lawless = true;
        self.theft = Some(Theft { host, client, lies: 0, met: BTreeMap::new(), sent: BTreeMap::new() });
    }

    /// Its owner says at another laptop that it is void, as `crosstalk device revoke` does.
    pub(crate) fn report_theft(&mut self, owner: PersonId, at: HostId) -> Checked {
        let Some(stolen) = self.theft.as_ref().map(|theft| theft.host) else { return Ok(()) };
        let since = self.now(at).wall;
        let person = &self.people[owner.0];
        let device = self.hosts[stolen.0].keys.get(&person.user).map(|keys| keys.device.id());
        let Some(device) = device else { return Err(self.violation("the stolen laptop has no keys")) };
        let word = Revocation { what: Revoked::Device(person.user, device), by: RevokedBy::User, since };
        let signed = Verified::sign(word, &person.key, None);
        let revocation = signed.map_err(|why| self.violation(why.to_string()))?.bytes().to_vec();
        let account = person.name.to_owned();
        match self.ask(at, Command::RevokeDevice { account, revocation })? {
            Reply::Done => {}
            other => return Err(self.violation(format!("a device was not revoked: {other:?}"))),
        }
        // The owner's own laptop knows at once.
        self.note_told(at);
        Ok(())
    }

    /// Somebody says at the server that the stolen laptop is void, as `crosstalk authority user revoke` does.
    pub(crate) fn revoke_stolen(&mut self, owner: PersonId, server: HostId) -> Checked {
        let Some(stolen) = self.theft.as_ref().map(|theft| theft.host) else { return Ok(()) };
        let (name, user) = (self.people[owner.0].name.to_owned(), self.people[owner.0].user);
        let device = self.hosts[stolen.0].keys.get(&user).map(|keys| keys.device.id().to_hex());
        let device = device.ok_or_else(|| self.violation("the stolen laptop has no keys"))?;
        self.administer(server, Question::RevokeDevice { name, device })?;
        self.note_told(server);
        Ok(())
    }

    fn note_told(&mut self, at: HostId) {
        let time = self.time;
        if let Some(theft) = &mut self.theft {
            theft.met.insert(at, time.saturating_sub(SOON));
        }
        self.note_apart();
    }

    /// The thief writes to somebody in the name of the owner.
    pub(crate) fn lie(&mut self, to: PersonId) {
        let jid = self.people[to.0].jid.clone();
        let Some(theft) = &mut self.theft else { return };
        theft.lies += 1;
        let text = format!("{LIE}{}", theft.lies);
        let (client, body) = (theft.client, Element::new("body", ns::CLIENT).text(&text));
        let message = Element::new("message", ns::CLIENT).attr("to", jid).attr("type", "chat");
        self.clients[client.0].out.push(message.attr("id", text).child(body));
        self.flush(client);
    }

    /// After hosts have met or parted: who is with somebody who knows.
    pub(super) fn note_met(&mut self, parts: &[Option<usize>]) {
        let time = self.time;
        let Some(theft) = &mut self.theft else { return };
        let knows = |since: u64| since + SOON <= time;
        let told: Vec<usize> = theft
            .met
            .iter()
            .filter(|(_, since)| knows(**since))
            .filter_map(|(host, _)| parts[host.0])
            .collect();
        for (host, part) in parts.iter().enumerate().map(|(host, part)| (HostId(host), part)) {
            let since = theft.met.get(&host).copied();
            if since.is_some_and(knows) {
                continue;
            }
            match part.is_some_and(|part| told.contains(&part)) {
                true => drop(theft.met.entry(host).or_insert(time)),
                false => drop(theft.met.remove(&host)),
            }
        }
    }

    /// Since when a host has known of the theft for sure.
    pub(crate) fn has_known_since(&self, host: HostId) -> Option<u64> {
        let since = self.theft.as_ref()?.met.get(&host)? + SOON;
        Some(since).filter(|since| *since <= self.time)
    }

    /// Whether a host was stolen.
    pub(crate) fn is_stolen(&self, host: HostId) -> bool {
        self.theft.as_ref().is_some_and(|theft| theft.host == host)
    }

    /// Whether somebody's laptop was stolen: what the others had for it alone waits for the person's next one.
    pub(crate) fn was_robbed(&self, jid: &str) -> bool {
        let person = self.theft.as_ref().map(|theft| self.clients[theft.client.0].person);
        person.is_some_and(|person| self.people[person.0].jid == jid)
    }

    /// The full address of the stolen client.
    pub(crate) fn stolen_address(&self) -> Option<String> {
        let client = &self.clients[self.theft.as_ref()?.client.0];
        Some(format!("{}/{}", self.people[client.person.0].jid, client.resource))
    }

    /// A message was sent.
    pub(crate) fn note_sent(&mut self, key: MessageKey) {
        let time = self.time;
        if let Some(theft) = &mut self.theft {
            theft.sent.insert(key, time);
        }
    }

    /// A server that knows of the theft has answered: what belongs to the owner is not for the stolen laptop.
    pub(super) fn check_served(&self, server: HostId, node: &NodeId, answer: &[u8]) -> Checked {
        let is_stolen = self.theft.as_ref().is_some_and(|theft| self.hosts[theft.host.0].node == *node);
        if !is_stolen || self.has_known_since(server).is_none() {
            return Ok(());
        }
        match Answer::from_bytes(answer) {
            Some(
                Answer::Begun(_)
                | Answer::Compared(_)
                | Answer::Statements(_)
                | Answer::Collected(_)
                | Answer::Looked(_),
            ) => Err(self.violation("the server serves a laptop of which it knows that it was stolen")),
            _ => Ok(()),
        }
    }

    /// Something was shown to the thief.
    pub(crate) fn check_thief_got(&self, key: MessageKey) -> Checked {
        let sent = self.theft.as_ref().and_then(|theft| theft.sent.get(&key));
        let known = self.has_known_since(self.clients[key.from.0].host);
        match (sent, known) {
            (Some(sent), Some(known)) if known <= *sent => {
                Err(self.violation(format!("the thief got {}, whose sender knew of the theft", key.body())))
            }
            _ => Ok(()),
        }
    }
}

/// Whether somebody was shown what a thief said.
pub(crate) fn is_lie(message: &Element) -> bool {
    message.get("body", ns::CLIENT).is_some_and(|body| body.own_text().starts_with(LIE))
}

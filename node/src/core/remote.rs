//! What the overlay brings and takes: its outputs become deliveries, presence, neighbours, writes and frames. *Pure.*

use crosstalk_link_local::neighbours::{NeighbourKey, Sighting};
use crosstalk_overlay::core::{
    Delivery, Disposition, FailReason, Live, Outcome, Output as Overlay, Reach, Unreachable, Write,
};
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::{RefusalCode, Says};
use jid::Jid;

use crate::xmpp::{Condition, Kind, Stanza, StanzaError, Type};

use super::io::Output;
use super::message::{Arrival, Delivered, content_of};
use super::names::TICKET;
use super::{Core, Origin};

/// Directed presences of users elsewhere that are remembered; of further ones the end is not told.
const VISITS: usize = 1_000;
/// A message that took longer than this gets a delay stamp (XEP-0203), milliseconds.
pub(super) const NOTICEABLE: u64 = 10_000;

impl Core {
    /// Does what the overlay asks for.
    pub(super) fn drain_overlay(&mut self) {
        while let Some(output) = self.overlay.poll_output() {
            match output {
                Overlay::Send { node, frame, durable } => self.output(Output::Frame { node, frame }, durable),
                Overlay::Datagram { address, port, bytes } => {
                    self.output(Output::Datagram { address, port, bytes }, false);
                }
                Overlay::Dial { node, addresses } => self.output(Output::Dial { node, addresses }, false),
                Overlay::Close { node, reason } => self.output(Output::ClosePeer { node, reason }, false),
                Overlay::Query { id, query } => self.output(Output::Query { id, query }, false),
                Overlay::Judge { time, revocations } => {
                    self.output(Output::Judge { time, revocations }, false);
                }
                Overlay::Publish { news } => self.output(Output::Publish { news }, false),
                Overlay::Judged { node, id, verdict } => {
                    self.output(Output::Judged { node, id, verdict }, false);
                }
                Overlay::LookedUp { ticket: TICKET, lookup } => self.name_looked_up(&lookup),
                Overlay::TableGrew => self.seek_names(),
                Overlay::LookedUp { ticket, lookup } => self.looked_up(ticket, &lookup),
                Overlay::Joined { ticket, joined } => self.joined(ticket, joined),
                Overlay::Enrolment { node, request, ask } => {
                    let places = self.overlay.places();
                    // Of a user of this very node: what the question says has to be durable before.
                    let own = node == self.node;
                    self.output(Output::Enrolment { node, request, ask, places }, own);
                }
                Overlay::Enrolled { ticket, answer } => self.server_said(ticket, answer),
                Overlay::ServerMet(node) => self.server_met(node),
                Overlay::ServerLost(node) => self.server_lost(node),
                Overlay::Upstream(node) => self.upstream_news(node),
                Overlay::Revoked { user } => self.own_device_revoked(user),
                Overlay::Write(write) => self.overlay_write(write),
                Overlay::Deliver(delivery) => self.deliver_from_remote(delivery),
                Overlay::Live(live) => self.live_from_remote(live),
                Overlay::LiveFailed(live) => self.live_failed(&live),
                Overlay::Presence { to, record, live, .. } => self.remote_presence(to, record, live),
                Overlay::Reachable { user } => self.reachable(user),
                Overlay::Unreachable { user, device } => {
                    self.remote_unknown(user, device);
                    self.asked_in_vain(device);
                    if self.overlay.reach(&user) != Reach::Live {
                        self.visits_over(user);
                    }
                    self.neighbours.gone(&NeighbourKey::Node(user, device), self.now);
                }
                Overlay::LinkPresence(presence) => {
                    let key = NeighbourKey::Node(presence.user, presence.device);
                    // The overlay says when it ends, and renews it while it holds.
                    let sighting = Sighting::of_node(key, &presence.status, u64::MAX);
                    self.neighbours.sighted(sighting, self.now);
                }
                Overlay::LinkAbsence { user, device } => {
                    self.neighbours.gone(&NeighbourKey::Node(user, device), self.now);
                }
                Overlay::Settled { from, to, outcome, content, .. } => {
                    self.settled(from, to, outcome, &content)
                }
                Overlay::SealingKeyDue { user } => self.output(Output::SealingKeyDue { user }, false),
                Overlay::SealingKeyErase { user, public } => {
                    self.output(Output::SealingKeyErase { user, public }, false);
                }
                Overlay::Alarm(alarm) => self.alarm(&alarm),
            }
        }
    }

    /// The address under which an account sees a user: what its contact list has; else the certified name of a pinned
    /// authority; else the XID (DESIGN.md §3.1).
    pub(crate) fn address_for(&self, viewer: UserId, user: &UserId) -> Option<Jid> {
        if let Some(account) = self.accounts.get(user) {
            return Some(account.jid.clone().into());
        }
        let roster = self.accounts.get(&viewer).map(|account| &account.roster);
        if let Some(item) = roster.and_then(|roster| roster.by_user(user)) {
            return Jid::new(&item.jid).ok();
        }
        let certified = self.overlay.name_of(user).filter(|name| name.pinned);
        let address = certified.map_or_else(
            || format!("{}@{}", user.xid(), crosstalk_overlay::id::XID_DOMAIN),
            |name| name.address,
        );
        Jid::new(&address).ok()
    }

    /// Whether XEP-0191 keeps another user from an account, under any of the addresses that the other has.
    pub(super) fn is_blocked(&self, user: UserId, other: &UserId) -> bool {
        let Some(account) = self.accounts.get(&user) else { return true };
        if account.blocked.is_empty() {
            return false;
        }
        let xid = format!("{}@{}", other.xid(), crosstalk_overlay::id::XID_DOMAIN);
        let name = self.overlay.name_of(other).map(|name| name.address);
        let shown = self.address_for(user, other);
        let forms =
            [Some(xid), name].into_iter().flatten().filter_map(|form| Jid::new(&form).ok()).chain(shown);
        forms.into_iter().any(|form| account.blocks(&form))
    }

    fn deliver_from_remote(&mut self, delivery: Delivery) {
        let Delivery { ticket, from, to, message, content, sent } = delivery;
        if matches!(content, Content::Sync(_)) && from == to {
            self.tell_server_later(to);
        }
        let disposition = match content {
            Content::Stanza { from_resource, to_resource, xml } => {
                match self.stanza_from_remote(from, to, &from_resource, &to_resource, &xml) {
                    Some(stanza) => self.message_from_remote(from, to, stanza, *message.as_bytes(), sent),
                    None => Disposition::Refused(RefusalCode::Policy),
                }
            }
            Content::Contact(record) => self.contact_record_from_remote(from, to, &record),
            Content::Copy { to: peer, from_resource, to_resource, xml } if from == to => {
                self.copy_from_remote(to, peer, (&from_resource, &to_resource), &xml, *message.as_bytes());
                Disposition::Held
            }
            Content::Sync(bytes) if from == to => self.sync_from_own_device(to, &bytes),
            Content::Copy { .. } | Content::Audience { .. } | Content::Tokens(_) | Content::Sync(_) => {
                Disposition::Refused(RefusalCode::Policy)
            }
        };
        self.overlay.settle(ticket, disposition, self.now);
    }

    fn message_from_remote(
        &mut self,
        from: UserId,
        to: UserId,
        stanza: Stanza,
        message: [u8; 16],
        sent: u64,
    ) -> Disposition {
        if stanza.kind != Kind::Message {
            self.count("durable stanzas from peers that are no messages");
            return Disposition::Refused(RefusalCode::Policy);
        }
        let late = self.now.wall.saturating_sub(sent) > NOTICEABLE && self.overlay.clock().credible(self.now);
        let arrival = Arrival { message, promised: true, sent: late.then_some(sent) };
        if self.is_blocked(to, &from) {
            self.count("messages from blocked addresses");
            return Disposition::Held;
        }
        match self.deliver_message(to, stanza, arrival) {
            Delivered::Taken | Delivered::Dropped => Disposition::Held,
            Delivered::Refused(error) => Disposition::Refused(match error.condition {
                Condition::ItemNotFound => RefusalCode::NoSuchUser,
                Condition::ResourceConstraint => RefusalCode::Full,
                _ => RefusalCode::Policy,
            }),
        }
    }

    fn contact_record_from_remote(&mut self, from: UserId, to: UserId, record: &[u8]) -> Disposition {
        match self.overlay.verify_contact(record, self.now) {
            Ok(record) if record.from == from && record.to == to => {
                if !self.accounts.contains(&to) {
                    return Disposition::Refused(RefusalCode::NoSuchUser);
                }
                let unknown = self.accounts.get(&to).is_some_and(|a| !a.roster.relations.contains_key(&from));
                // Another device may have asked, and its word is still on its way.
                let answers = record.says != Says::Request && self.overlay.has_other_devices(&to);
                let stranger = unknown && (!answers || self.too_many_strangers(&to));
                match record.says {
                    // Somebody who was never asked and never asks has nothing to grant or to take back.
                    Says::Grant | Says::Refuse | Says::Withdraw if stranger => {
                        self.count("contact records of strangers");
                        return Disposition::Held;
                    }
                    Says::Request if stranger && self.too_many_strangers(&to) => {
                        return Disposition::Refused(RefusalCode::Full);
                    }
                    Says::Request | Says::Grant | Says::Refuse | Says::Withdraw => {}
                }
                self.record_from_elsewhere(to, record);
                Disposition::Held
            }
            Ok(_) | Err(_) => {
                self.count("contact records that did not verify");
                Disposition::Refused(RefusalCode::Policy)
            }
        }
    }

    /// Whether as many requests of people who are not in the list wait as may, or relations are at their limit.
    fn too_many_strangers(&self, user: &UserId) -> bool {
        let Some(account) = self.accounts.get(user) else { return true };
        let relations = &account.roster.relations;
        let unlisted = |other: &&UserId| {
            account.roster.by_user(other).is_none() && account.roster.subscription(other).pending_in
        };
        !self.has_room_for_relations(account)
            || relations.keys().filter(unlisted).count() >= self.settings.request_limit
    }

    fn copy_from_remote(
        &mut self,
        user: UserId,
        peer: UserId,
        (from_resource, to_resource): (&str, &str),
        xml: &[u8],
        id: [u8; 16],
    ) {
        let Some(mut message) = self.stanza_from_remote(user, user, from_resource, "", xml) else { return };
        let peer = self.address_for(user, &peer);
        message.to = peer.and_then(|peer| at_resource(peer, to_resource));
        if message.kind == Kind::Message && message.to.is_some() {
            self.copy_from_own_device(user, &message, id);
        }
    }

    /// A stanza that came from another node, with the addresses that `to` knows.
    fn stanza_from_remote(
        &self,
        from: UserId,
        to: UserId,
        from_resource: &str,
        to_resource: &str,
        xml: &[u8],
    ) -> Option<Stanza> {
        let mut stanza = Stanza::read_from_peer(xml).ok()?;
        stanza.from = Some(at_resource(self.address_for(to, &from)?, from_resource)?);
        stanza.to = Some(at_resource(self.accounts.get(&to)?.jid.clone().into(), to_resource)?);
        Some(stanza)
    }

    fn live_from_remote(&mut self, live: Live) {
        let Live { from, from_resource, to, to_resource, xml } = live;
        let Some(stanza) = self.stanza_from_remote(from, to, &from_resource, &to_resource, &xml) else {
            return self.count("live stanzas from peers that could not be read");
        };
        if self.is_blocked(to, &from) {
            self.count("live stanzas from blocked addresses");
            return self.bounce(Origin::Remote(from), &stanza, &Condition::ServiceUnavailable.into());
        }
        match (stanza.kind, stanza.type_) {
            (Kind::Message, _) => {
                let arrival = Arrival { message: [0; 16], promised: false, sent: None };
                // A live message finds somebody now or nobody.
                if super::message::is_durable(&stanza) {
                    return self.count("durable messages sent as live ones");
                }
                self.deliver_message(to, stanza, arrival);
            }
            (Kind::Presence, Type::Available | Type::Unavailable) => {
                self.note_visit(from, to, &stanza);
                self.presence_for_local(to, stanza);
            }
            (Kind::Presence, _) => self.count("live presence of a kind that needs a record"),
            (Kind::Iq, _) => self.iq_for_local(Origin::Remote(from), to, stanza),
        }
    }

    /// Directed presence of a user elsewhere is remembered, so that it can be taken back when the user is gone.
    fn note_visit(&mut self, from: UserId, to: UserId, presence: &Stanza) {
        let Some(address) = presence.from.clone() else { return };
        match presence.type_ {
            Type::Available if self.visits.len() < VISITS => self.visits.insert((from, to, address)),
            _ => self.visits.remove(&(from, to, address)),
        };
    }

    /// A user elsewhere is out of reach: directed presence is taken back.
    fn visits_over(&mut self, user: UserId) {
        let of_user = self.visits.iter().filter(|(from, _, _)| *from == user).cloned();
        for visit in of_user.collect::<Vec<_>>() {
            self.visits.remove(&visit);
            let (_, to, address) = visit;
            let mut gone = Stanza::new(Kind::Presence, Type::Unavailable);
            gone.from = Some(address);
            gone.to = self.accounts.get(&to).map(|account| account.jid.clone().into());
            self.presence_for_local(to, gone);
        }
    }

    /// Sends an IQ of a client to a user elsewhere; fails at once if nobody is there (DESIGN.md §5, class live). A request
    /// goes to one device, which answers for the session or the account (RFC 6121 §8.5.1).
    pub(super) fn iq_to_remote(&mut self, id: super::session::SessionId, to: UserId, iq: &Stanza) {
        let Some(from) = self.session(id).map(|session| session.user) else { return };
        let sent = match iq.is_request() {
            true => live_of(from, to, iq).and_then(|live| {
                let asked = self.overlay.send_request(live, self.now);
                asked.map(Some).map_err(|why| unreachable(iq.kind, why))
            }),
            false => self.live_to_remote(from, to, iq).map(|()| None),
        };
        match sent {
            Ok(Some(device)) => self.note_request(id, iq, to, Some(device)),
            Ok(None) => {}
            Err(error) => self.bounce(Origin::Session(id), iq, &error),
        }
    }

    /// Sends a stanza for now or never.
    ///
    /// # Errors
    /// What its sender is told if it can't.
    pub(super) fn live_to_remote(
        &mut self,
        from: UserId,
        to: UserId,
        stanza: &Stanza,
    ) -> Result<(), StanzaError> {
        let live = live_of(from, to, stanza)?;
        self.overlay.send_live(live, self.now).map_err(|why| unreachable(stanza.kind, why))
    }

    /// A stanza for now or never found nobody after all: its sender's client is told.
    fn live_failed(&mut self, live: &Live) {
        let Ok(mut stanza) = Stanza::read(&live.xml) else { return };
        let Some(account) = self.accounts.get(&live.from) else { return };
        let own = account.jid.clone();
        stanza.from = at_resource(own.into(), &live.from_resource);
        let to = self.address_for(live.from, &live.to);
        stanza.to = to.and_then(|address| at_resource(address, &live.to_resource));
        let Some(answer) = stanza.error(&unreachable(stanza.kind, Unreachable::NotLive)) else { return };
        match stanza.kind {
            Kind::Iq => self.answered(live.to, answer),
            Kind::Message | Kind::Presence => self.answer(Origin::Local, answer, false),
        }
    }

    /// Answers of the node to a user elsewhere, in the name of the account that was asked.
    pub(super) fn send_answer_to_remote(&mut self, to: UserId, answer: Stanza) {
        let from = answer.from.as_ref().and_then(|from| self.accounts.by_address(from.to_bare().as_str()));
        if from.is_none_or(|from| self.live_to_remote(from, to, &answer).is_err()) {
            self.count("answers to users who had gone");
        }
    }

    /// A user is on a live node now: our users' presence goes there by the overlay, directed presence does not.
    fn reachable(&mut self, user: UserId) {
        self.own_devices_met(user);
        self.ask_again(user);
        self.named_was_met(&user);
    }

    /// A message or a request failed: its sender's clients are told, as RFC 6121 §8 has it.
    fn settled(&mut self, from: UserId, to: UserId, outcome: Outcome, content: &Content) {
        if let (Outcome::Failed(reason), Content::Contact(record)) = (outcome, content) {
            self.request_failed(from, to, record);
            if reason == FailReason::Expired {
                self.record_expired(from, to, record);
            }
            return;
        }
        let (Outcome::Failed(reason), Content::Stanza { from_resource, to_resource, xml }) =
            (outcome, content)
        else {
            return;
        };
        let Ok(mut stanza) = Stanza::read(xml) else { return };
        let Some(account) = self.accounts.get(&from) else { return };
        let own = account.jid.clone();
        stanza.from = at_resource(own.into(), from_resource);
        stanza.to = self.address_for(from, &to).and_then(|address| at_resource(address, to_resource));
        let condition = match reason {
            FailReason::Refused(RefusalCode::NoSuchUser) => Condition::ItemNotFound,
            FailReason::Refused(RefusalCode::Full) => Condition::ResourceConstraint,
            FailReason::Refused(RefusalCode::TooLarge) => Condition::PolicyViolation,
            FailReason::Refused(_) => Condition::ServiceUnavailable,
            FailReason::Expired => Condition::RemoteServerTimeout,
            FailReason::Compromised => Condition::Gone,
        };
        let error = StanzaError::new(condition, format!("not delivered: {reason}"));
        let Some(news) = stanza.error(&error) else { return };
        // The message was acknowledged and stands in the outbox no longer: its end is held until a client knows it.
        let number = self.news_number();
        self.tell_news(from, number, &news);
    }

    fn overlay_write(&mut self, write: Write) {
        super::save::overlay(&mut self.writes, write);
    }
}

/// An address as the overlay says it: of a user, with a resource unless that is empty.
fn at_resource(address: Jid, resource: &str) -> Option<Jid> {
    match resource {
        "" => Some(address.to_bare().into()),
        resource => address.to_bare().with_resource_str(resource).ok().map(Jid::from),
    }
}

/// A stanza for now or never.
fn live_of(from: UserId, to: UserId, stanza: &Stanza) -> Result<Live, StanzaError> {
    let Content::Stanza { from_resource, mut to_resource, xml } = content_of(stanza) else {
        return Err(Condition::InternalServerError.into());
    };
    if to_resource == super::nearby::RESOURCE {
        to_resource.clear();
    }
    Ok(Live { from, from_resource, to, to_resource, xml })
}

/// What the sender of a stanza for now or never is told (RFC 6121 §8).
pub(super) fn unreachable(kind: Kind, why: Unreachable) -> StanzaError {
    let condition = match kind {
        _ if why == Unreachable::Busy => Condition::ResourceConstraint,
        Kind::Iq => Condition::ServiceUnavailable,
        Kind::Message | Kind::Presence => Condition::RecipientUnavailable,
    };
    StanzaError::new(condition, why.to_string())
}

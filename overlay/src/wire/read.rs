//! The parts of frames, read: sizes and shapes are checked here. *Pure.*

use super::shape::{
    DepositField, HelloField, ListedField, ListingField, LiveField, PresenceField, RelayedField, UserField,
};
use super::{
    Frame, Hello, Listed, MAX_AGENT, MAX_LISTED, MAX_LIVE, MAX_MARKS, MAX_RELAYED, MAX_RESOURCE,
    MAX_WATCHERS, Mark, Relayed, UserFrame, WireError, all_at_most, at_most, text,
};
use crate::id::{ItemId, UserId};
use crate::join::OfferId;
use crate::mailbox::{MAX_ITEM, Offer};
use crate::probe;
use crate::record::{
    LinkPresence, MAX_USER_RECORD, NodeBinding, NodeLinks, PresenceRecord, Record as _, Token,
};

pub(super) fn offer_id(bytes: &[u8]) -> Result<OfferId, WireError> {
    bytes.try_into().map_err(|_| WireError::Field { what: "offer" })
}

pub(super) fn hello(field: HelloField) -> Result<Hello, WireError> {
    Ok(Hello {
        version: field.version,
        min_version: field.min_version,
        agent: text(field.agent, MAX_AGENT, "agent")?,
        wall: field.wall,
        unsure: field.unsure,
        session: field.session,
        probe: probe_offer(field.probe_port, &field.probe_secret)?,
    })
}

pub(super) fn probe_offer(port: u32, secret: &[u8]) -> Result<Option<probe::Offer>, WireError> {
    if port == 0 && secret.is_empty() {
        return Ok(None);
    }
    let wrong = WireError::Field { what: "way to be probed" };
    let port = u16::try_from(port).ok().filter(|port| *port != 0).ok_or(wrong)?;
    let secret = secret.try_into().map_err(|_| wrong)?;
    Ok(Some(probe::Offer { port, secret }))
}

pub(super) fn deposit(field: DepositField) -> Result<Frame, WireError> {
    let DepositField { request, mailbox, item, expires, nonce, token, replica } = field;
    at_most(item.len(), MAX_ITEM, "item")?;
    at_most(token.len(), Token::MAX_SIZE, "token")?;
    let offer = Offer { mailbox: user(&mailbox)?, item, expires, nonce, token, replica };
    Ok(Frame::Deposit { request, offer })
}

pub(super) fn listing(field: ListingField) -> Result<Frame, WireError> {
    at_most(field.entries.len(), MAX_LISTED, "list of items")?;
    let listed = |entry: ListedField| {
        let id = ItemId::from_slice(&entry.id).ok_or(WireError::Field { what: "item" })?;
        Ok(Listed { id, size: entry.size })
    };
    let entries = field.entries.into_iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Frame::Listing { entries, more: field.more })
}

pub(super) fn items(bytes: &[u8]) -> Result<Vec<ItemId>, WireError> {
    let (items, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(WireError::Field { what: "list of items" });
    }
    at_most(items.len(), MAX_LISTED, "list of items")?;
    Ok(items.iter().map(|bytes| ItemId::from_bytes(*bytes)).collect())
}

pub(super) fn marks(bytes: &[u8]) -> Result<Vec<Mark>, WireError> {
    let (marks, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(WireError::Field { what: "list of marks" });
    }
    at_most(marks.len(), MAX_MARKS, "list of marks")?;
    Ok(marks.to_vec())
}

pub(super) fn relayed(field: RelayedField) -> Result<Relayed, WireError> {
    at_most(field.links.len(), MAX_RELAYED, "list of node links")?;
    all_at_most(&field.links, NodeLinks::MAX_SIZE, "node links")?;
    at_most(field.presences.len(), MAX_RELAYED, "list of link presences")?;
    all_at_most(&field.presences, LinkPresence::MAX_SIZE, "link presence")?;
    Ok(Relayed { users: users(field.users, MAX_RELAYED)?, links: field.links, presences: field.presences })
}

pub(super) fn users(fields: Vec<UserField>, most: usize) -> Result<Vec<UserFrame>, WireError> {
    at_most(fields.len(), most, "list of records")?;
    for user in &fields {
        at_most(user.record.len(), MAX_USER_RECORD, "record")?;
        at_most(user.binding.len(), NodeBinding::MAX_SIZE, "binding")?;
    }
    Ok(fields.into_iter().map(|UserField { record, binding }| UserFrame { record, binding }).collect())
}

pub(super) fn presence(field: PresenceField) -> Result<Frame, WireError> {
    at_most(field.record.len(), PresenceRecord::MAX_SIZE, "presence")?;
    let (watchers, rest) = field.to.as_chunks::<32>();
    if watchers.is_empty() || !rest.is_empty() {
        return Err(WireError::Field { what: "list of watchers" });
    }
    at_most(watchers.len(), MAX_WATCHERS, "list of watchers")?;
    let to = watchers.iter().map(|bytes| UserId::from_bytes(*bytes)).collect();
    Ok(Frame::Presence { to, record: field.record })
}

pub(super) fn live(field: LiveField) -> Result<crate::core::Live, WireError> {
    at_most(field.xml.len(), MAX_LIVE, "stanza")?;
    Ok(crate::core::Live {
        from: user(&field.from)?,
        from_resource: text(field.from_resource, MAX_RESOURCE, "resource")?,
        to: user(&field.to)?,
        to_resource: text(field.to_resource, MAX_RESOURCE, "resource")?,
        xml: field.xml,
    })
}

pub(super) fn user(bytes: &[u8]) -> Result<UserId, WireError> {
    UserId::from_slice(bytes).ok_or(WireError::Field { what: "user" })
}

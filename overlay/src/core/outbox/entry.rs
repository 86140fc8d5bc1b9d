//! One waiting message with its copies, in memory and in the store. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crate::core::state::{CopyState, OutboxCopy, OutboxEntry, STATE_VERSION};
use crate::envelope::Content;
use crate::id::{DeviceId, MessageId, NodeId, UserId};
use crate::record::RefusalCode;

/// Bytes that an entry takes beside its content.
pub(super) const ENTRY_OVERHEAD: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) message: MessageId,
    pub(super) from: UserId,
    pub(super) to: UserId,
    pub(super) content: Content,
    pub(super) size: usize,
    pub(super) created: u64,
    pub(super) expires: u64,
    pub(super) settled: bool,
    pub(super) copies: BTreeMap<DeviceId, Copy>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) state: State,
    /// Nodes that hold it for the device.
    pub(super) holders: BTreeSet<NodeId>,
    /// No node takes it before that time, monotonic milliseconds.
    pub(super) next_try: u64,
}

#[derive(Clone, std::marker::Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Waiting,
    Sent,
    Held,
    Refused(RefusalCode),
}

impl State {
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Sent)
    }
}

impl Entry {
    pub(super) fn to_state(&self, number: u64) -> OutboxEntry {
        let copy = |(device, copy): (&DeviceId, &Copy)| {
            let (state, code) = match copy.state {
                State::Waiting => (CopyState::Waiting, 0),
                State::Sent => (CopyState::Sent, 0),
                State::Held => (CopyState::Held, 0),
                State::Refused(code) => (CopyState::Refused, code.to_wire()),
            };
            let device = device.as_bytes().to_vec();
            let holders = copy.holders.iter().map(|node| node.as_bytes().to_vec()).collect();
            OutboxCopy { device, epoch: copy.epoch, seq: copy.seq, state: state.into(), code, holders }
        };
        OutboxEntry {
            version: STATE_VERSION,
            number,
            message: self.message.as_bytes().to_vec(),
            from: self.from.as_bytes().to_vec(),
            to: self.to.as_bytes().to_vec(),
            content: self.content.encode(),
            created: self.created,
            expires: self.expires,
            settled: self.settled,
            copies: self.copies.iter().map(copy).collect(),
        }
    }

    pub(super) fn from_state(state: &OutboxEntry) -> Option<Self> {
        let copy = |copy: &OutboxCopy| {
            let state = match CopyState::try_from(copy.state).ok()? {
                CopyState::Waiting => State::Waiting,
                CopyState::Sent => State::Sent,
                CopyState::Held => State::Held,
                CopyState::Refused => State::Refused(RefusalCode::from_wire(copy.code)),
            };
            let holders = copy.holders.iter().filter_map(|node| NodeId::from_slice(node)).collect();
            let (epoch, seq) = (copy.epoch, copy.seq);
            Some((DeviceId::from_slice(&copy.device)?, Copy { epoch, seq, state, holders, next_try: 0 }))
        };
        Some(Self {
            message: MessageId::from_slice(&state.message)?,
            from: UserId::from_slice(&state.from)?,
            to: UserId::from_slice(&state.to)?,
            content: Content::decode(&state.content).ok()?,
            size: state.content.len() + ENTRY_OVERHEAD,
            created: state.created,
            expires: state.expires,
            settled: state.settled,
            copies: state.copies.iter().map(copy).collect::<Option<_>>()?,
        })
    }

    pub(super) fn is_finished(&self) -> bool {
        !self.copies.is_empty() && !self.copies.values().any(|copy| copy.state.is_open())
    }

    pub(super) fn refusal(&self) -> Option<RefusalCode> {
        self.copies.values().find_map(|copy| match copy.state {
            State::Refused(code) => Some(code),
            State::Waiting | State::Sent | State::Held => None,
        })
    }
}

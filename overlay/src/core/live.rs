//! Stanzas that are for now or never: straight to the proven node, or refused at once. *Pure.*

use std::collections::BTreeSet;

use super::{Live, Output, Overlay, Unreachable};
use crate::id::{DeviceId, NodeId};
use crate::time::Now;
use crate::wire::{Frame, MAX_LIVE};

impl Overlay {
    pub(super) fn send_now(&mut self, live: Live, now: Now) -> Result<(), Unreachable> {
        if live.xml.len() > MAX_LIVE {
            return Err(Unreachable::TooLarge);
        }
        if !self.locals.contains_key(&live.from) {
            return Err(Unreachable::NotLive);
        }
        let devices = self.users.live_devices(&live.to);
        let owns = |(device, _): &&(DeviceId, NodeId)| {
            self.presences.has_resource(device, &live.from, &live.to_resource)
        };
        let owner = devices.iter().find(owns).map(|(_, node)| *node);
        let nodes: BTreeSet<NodeId> = match owner {
            Some(node) => BTreeSet::from([node]),
            None => devices.into_iter().map(|(_, node)| node).collect(),
        };
        if nodes.is_empty() {
            return Err(Unreachable::NotLive);
        }
        let frame = Frame::Live(live);
        for node in nodes {
            self.send_frame(node, &frame, false, now);
        }
        Ok(())
    }

    pub(super) fn on_live(&mut self, node: NodeId, live: Live, now: Now) {
        if !self.is_proven(&live.from, &node) {
            self.unproven(node, now);
        } else if self.locals.contains_key(&live.to) {
            self.outputs.push_back(Output::Live(live));
        } else {
            self.counters.drop("live stanza for a user who is not here");
        }
    }
}

//! What goes out in one answer: statements up to its size, with the certificates of who has said them.

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::enrol::{PAGE, Statement, Statements};
use crosstalk_storage::tree::authority::Owner;
use prost::Message;

use super::certificates::device_of;

/// Devices whose certificates go along.
const DEVICES: usize = 32;

/// Statements for one answer.
#[derive(Default)]
pub(super) struct Page {
    answer: Statements,
    bytes: usize,
    devices: BTreeSet<Vec<u8>>,
}

impl Page {
    /// Takes what stands for the next mark; false if there is no more room.
    pub(super) fn takes(&mut self, statement: Option<Statement>) -> bool {
        let size = statement.as_ref().map_or(0, Message::encoded_len);
        let new = |statement: &&Statement| !self.devices.contains(&statement.device);
        let fresh = statement.as_ref().filter(new).map(|statement| statement.device.clone());
        if self.bytes > 0 && (self.bytes + size > PAGE || fresh.is_some() && self.devices.len() >= DEVICES) {
            return false;
        }
        self.devices.extend(fresh);
        self.bytes += size;
        self.answer.marks += 1;
        self.answer.statements.extend(statement);
        true
    }

    /// With the certificates of who has said all that; what nobody could verify any more stays here.
    pub(super) fn end(mut self, owner: &Owner) -> Statements {
        let known: BTreeMap<Vec<u8>, &Vec<u8>> = owner
            .certificates
            .iter()
            .filter_map(|bytes| Some((device_of(bytes)?.as_bytes().to_vec(), bytes)))
            .collect();
        self.answer.statements.retain(|statement| known.contains_key(&statement.device));
        let by: BTreeSet<&Vec<u8>> =
            self.answer.statements.iter().map(|statement| &statement.device).collect();
        self.answer.certificates =
            by.into_iter().filter_map(|device| known.get(device)).map(|cert| cert.to_vec()).collect();
        self.answer
    }
}

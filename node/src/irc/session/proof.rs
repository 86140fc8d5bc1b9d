//! What a client has got for certain: its PONG behind a PING proves all that was written before, as streams are read in order. *Pure.*
//!
//! By that the core's own ping (XEP-0199), which stands behind messages that it holds, is answered, and receipts (XEP-0184) are sent.

use std::collections::VecDeque;

use super::Session;
use crate::irc::SERVER;
use crate::irc::line::Line;
use crate::xmpp::{Element, Kind, Stanza, ns};

/// Receipts that wait for one PONG; of more the oldest is not sent.
const RECEIPTS: usize = 256;
/// Pings of the core under way: it has one at a time, others have no right to more.
const PINGS: usize = 16;

/// What waits for a PONG, with the number of the PING behind it.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    answers: VecDeque<(u64, Stanza)>,
    receipts: VecDeque<(u64, Stanza)>,
    /// The last PING for receipts, until it is answered.
    asked: Option<u64>,
}

impl Session {
    /// Somebody wants to know that the client is there: the core, before it lets go of what it holds.
    pub(super) fn pinged(&mut self, iq: &Stanza) {
        if self.proofs.answers.len() >= PINGS {
            self.proofs.answers.pop_front();
        }
        let number = self.ping();
        self.proofs.answers.push_back((number, iq.result(None)));
    }

    /// A message was written whose sender wants a receipt.
    pub(super) fn owes_receipt(&mut self, message: &Stanza) {
        let (Some(id), Some(from)) = (&message.id, &message.from) else { return };
        let mut receipt = Stanza::new(Kind::Message, message.type_);
        receipt.to = Some(from.clone());
        receipt.payload =
            vec![Element::new("received", ns::RECEIPTS).attr("id", id), Element::new("store", ns::HINTS)];
        if self.proofs.receipts.len() >= RECEIPTS {
            self.proofs.receipts.pop_front();
        }
        let behind = match self.proofs.asked {
            // It is written behind that PING, and behind any other up to now, so it waits for a later one.
            Some(_) => self.next + 1,
            None => self.ping(),
        };
        self.proofs.asked.get_or_insert(behind);
        self.proofs.receipts.push_back((behind, receipt));
    }

    fn ping(&mut self) -> u64 {
        self.next += 1;
        self.write(&Line::new("PING").from(SERVER).param(self.next.to_string()));
        self.next
    }

    pub(super) fn proved(&mut self, line: &Line) {
        let Some(number) = line.params.iter().rev().find_map(|param| param.parse::<u64>().ok()) else {
            return;
        };
        let mut proved = Vec::new();
        for queue in [&mut self.proofs.answers, &mut self.proofs.receipts] {
            let count = queue.iter().take_while(|(behind, _)| *behind <= number).count();
            proved.extend(queue.drain(..count).map(|(_, stanza)| stanza));
        }
        proved.iter().for_each(|stanza| self.send(stanza));
        if self.proofs.asked.is_some_and(|asked| asked <= number) {
            self.proofs.asked = (!self.proofs.receipts.is_empty()).then(|| self.ping());
        }
    }
}

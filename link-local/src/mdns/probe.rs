//! Names claimed and defended: probes, tie-breaks, conflicts (RFC 6762 §8.1, §8.2, §9, *pure*).

use std::cmp::Ordering;

use crosstalk_overlay::time::Now;

use super::airtime::Kind;
use super::api::Event;
use super::lane::{Family, Phase};
use super::own::{Own, Set, Unique};
use super::packet::{Data, Packet, Question, Record, kind};
use super::{Mdns, Output};

/// Probes before a name is ours, milliseconds between them, and the longest wait before the first.
const PROBES: u8 = 3;
const GAP: u64 = 250;
/// Whoever loses a tie waits so long.
const LOST_TIE: u64 = 1_000;
/// So many conflicts within 10 s, and it waits 5 s each time (RFC 6762 §8.1).
const MANY_CONFLICTS: usize = 15;

/// Which of two proposals for a name wins: the greater one. Antisymmetric, so that both hosts come to the same result.
pub(super) fn compare(ours: &[Record], theirs: &[Record]) -> Ordering {
    let sorted = |records: &[Record]| {
        let mut all: Vec<(u16, Vec<u8>)> =
            records.iter().map(|record| (record.data.kind(), record.data.raw())).collect();
        all.sort_unstable();
        all
    };
    sorted(ours).cmp(&sorted(theirs))
}

impl Mdns {
    /// Starts to claim a name on an interface, together with others that are about to start there.
    pub(super) fn claim(&mut self, index: u32, unique: Unique, now: Now) {
        let jitter = self.random(GAP);
        let start = now.mono + jitter + self.conflict_pause(now);
        let Some(link) = self.links.get_mut(&index) else { return };
        let joined = link.phases.values().find_map(|phase| match phase {
            Phase::Probing { sent: 0, at } if *at > now.mono && *at <= start.max(now.mono + GAP) => Some(*at),
            Phase::Probing { .. } | Phase::Ready => None,
        });
        link.phases.insert(unique, Phase::Probing { sent: 0, at: joined.unwrap_or(start) });
        link.lanes.values_mut().for_each(|lane| lane.hold(unique));
    }

    pub(super) fn claim_everywhere(&mut self, unique: Unique, now: Now) {
        for index in self.indices() {
            self.claim(index, unique, now);
        }
    }

    fn conflict_pause(&self, now: Now) -> u64 {
        let recent = self.conflicts.iter().filter(|at| **at + 10_000 > now.mono).count();
        if recent >= MANY_CONFLICTS { 5_000 } else { 0 }
    }

    /// Sends the probes that are due, one packet for all names.
    pub(super) fn flush_probes(&mut self, index: u32, now: Now) {
        let due = self.probes_due(index, now);
        if due.is_empty() {
            return;
        }
        let (ready, left): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, sent)| *sent >= PROBES);
        for (unique, _) in ready {
            self.won(index, unique, now);
        }
        let Some(link) = self.links.get(&index).filter(|_| !left.is_empty()) else { return };
        let mut packet = Packet::query();
        for (unique, _) in &left {
            let Some(name) = self.own.name_of(*unique) else { continue };
            // Not QU, as the RFC suggests: an answer by unicast would reach only one of two responders on a machine.
            packet.questions.push(Question { name: name.clone(), kind: kind::ANY, unicast: false });
            packet.authorities.extend(self.own.proposed(*unique, &link.told));
        }
        let families: Vec<Family> = link.lanes.keys().copied().collect();
        if families.iter().any(|family| !self.may_send((index, *family), Kind::Probe, now)) {
            return;
        }
        for family in families {
            self.multicast((index, family), Kind::Probe, &packet, now);
        }
        let Some(link) = self.links.get_mut(&index) else { return };
        for (unique, sent) in left {
            link.phases.insert(unique, Phase::Probing { sent: sent + 1, at: now.mono + GAP });
        }
    }

    fn probes_due(&self, index: u32, now: Now) -> Vec<(Unique, u8)> {
        let Some(link) = self.links.get(&index).filter(|link| !link.lanes.is_empty()) else {
            return Vec::new();
        };
        let due = link.phases.iter().filter_map(|(unique, phase)| match phase {
            Phase::Probing { sent, at } if *at <= now.mono => Some((*unique, *sent)),
            Phase::Probing { .. } | Phase::Ready => None,
        });
        due.collect()
    }

    /// Nobody objected: the name is ours on this interface.
    fn won(&mut self, index: u32, unique: Unique, now: Now) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if let (Unique::Service(_), Some(Phase::Probing { at, .. })) =
            (unique, link.phases.get(&Unique::Host).copied())
        {
            // An SRV record is of no use before its target.
            let at = at.max(now.mono + 1);
            link.phases.insert(unique, Phase::Probing { sent: PROBES, at });
            return;
        }
        link.phases.insert(unique, Phase::Ready);
        let mut sets = Own::announced_with(unique);
        if unique == Unique::Host {
            sets.extend(self.own.services.keys().map(|id| Set::Server(*id)));
        }
        sets.retain(|set| link.is_ready(*set));
        link.lanes.values_mut().for_each(|lane| lane.announce(&sets, now.mono));
        self.tell_name(unique);
    }

    fn tell_name(&mut self, unique: Unique) {
        let Unique::Service(id) = unique else { return };
        let Some(service) = self.own.services.get_mut(&id).filter(|service| !service.is_told) else { return };
        service.is_told = true;
        let instance = service.instance.clone();
        self.outputs.push_back(Output::Event(Event::Named { id, instance }));
    }

    /// A probe of somebody else for a name that we probe as well: the lesser proposal waits.
    pub(super) fn break_ties(&mut self, index: u32, packet: &Packet, now: Now) {
        let Some(link) = self.links.get_mut(&index) else { return };
        for (unique, phase) in &mut link.phases {
            let Some(name) = self.own.name_of(*unique) else { continue };
            let theirs: Vec<Record> =
                packet.authorities.iter().filter(|record| record.name == *name).cloned().collect();
            let is_probed = matches!(phase, Phase::Probing { .. }) && !theirs.is_empty();
            let ours = self.own.proposed(*unique, &link.told);
            if is_probed && compare(&ours, &theirs) == Ordering::Less {
                *phase = Phase::Probing { sent: 0, at: now.mono + LOST_TIE };
            }
        }
    }

    /// Looks for records of our names with other data (RFC 6762 §9).
    pub(super) fn find_conflicts(&mut self, index: u32, packet: &Packet, now: Now) {
        let mut found = Vec::new();
        for record in packet.records().filter(|record| record.ttl > 0) {
            if let Some(unique) = self.contradicts(index, record)
                && !found.contains(&unique)
            {
                found.push(unique);
            }
        }
        for unique in found {
            self.conflict(index, unique, now);
        }
    }

    fn contradicts(&self, index: u32, record: &Record) -> Option<Unique> {
        let link = self.links.get(&index)?;
        if record.name == self.own.host {
            let is_ours = match record.data {
                Data::A(ip) => self.is_own_address(ip.into()),
                Data::Aaaa(ip) => self.is_own_address(ip.into()),
                Data::Ptr(_) | Data::Srv { .. } | Data::Txt(_) | Data::Null(_) | Data::Nsec(_) => true,
            };
            return (!is_ours && link.phases.contains_key(&Unique::Host)).then_some(Unique::Host);
        }
        let (id, service) = self.own.service_named(&record.name)?;
        let is_probed = matches!(link.phases.get(&Unique::Service(id)), Some(Phase::Probing { .. }));
        let contradicts = match &record.data {
            Data::Srv { port, target } => *port != service.presence.port || *target != self.own.host,
            // Once the name is ours, its SRV record decides: a TXT record may be an older one of ours, come late.
            Data::Txt(text) => is_probed && *text != service.text,
            Data::A(_) | Data::Aaaa(_) | Data::Ptr(_) | Data::Null(_) | Data::Nsec(_) => false,
        };
        contradicts.then_some(Unique::Service(id))
    }

    fn conflict(&mut self, index: u32, unique: Unique, now: Now) {
        let Some(phase) = self.links.get(&index).and_then(|link| link.phases.get(&unique)).copied() else {
            return;
        };
        self.conflicts.push_back(now.mono);
        while self.conflicts.len() > 2 * MANY_CONFLICTS {
            self.conflicts.pop_front();
        }
        self.airtime.conflicts += 1;
        if phase == Phase::Ready {
            // Both probe again; the tie is broken, and the loser is told by the winner's answer.
            return self.claim(index, unique, now);
        }
        match unique {
            Unique::Host => self.own.rename_host(),
            Unique::Service(id) => {
                if let Some(service) = self.own.services.get_mut(&id) {
                    service.rename();
                }
            }
        }
        // No goodbye for the old name: its PTR record is the winner's as well.
        self.claim_everywhere(unique, now);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    fn record(port: u16, host: &str) -> Record {
        let target = Name::from_labels([host, "local"]).unwrap();
        Record { name: Name::root(), flush: false, ttl: 120, data: Data::Srv { port, target } }
    }

    proptest! {
        #[test]
        fn ties_are_broken_alike_on_both_sides(
            ours in proptest::collection::vec((0..3u16, "[ab]{1,2}"), 0..4),
            theirs in proptest::collection::vec((0..3u16, "[ab]{1,2}"), 0..4),
        ) {
            let records = |all: &[(u16, String)]| all.iter().map(|(port, host)| record(*port, host)).collect::<Vec<_>>();
            let (ours, theirs) = (records(&ours), records(&theirs));
            prop_assert_eq!(compare(&ours, &theirs), compare(&theirs, &ours).reverse());
            let backwards: Vec<Record> = theirs.iter().rev().cloned().collect();
            prop_assert_eq!(compare(&ours, &backwards), compare(&ours, &theirs), "the order does not count");
        }
    }

    #[test]
    fn types_count_before_data() {
        let text = Record { data: Data::Txt(vec![0xff; 9]), ..record(1, "x") };
        assert_eq!(compare(&[record(1, "a")], &[text]), Ordering::Greater, "SRV (33) is above TXT (16)");
    }
}

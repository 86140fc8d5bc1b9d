//! What a run costs, and how well it serves: when each message came and when it could have come, what is shown beside what is
//! so, packets, wake-ups, writes. It looks on: nothing is decided by it, and no chance drawn. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::wire::{self, Frame};
use crosstalk_storage::WriteSet;

use super::World;
use super::events::{ClientId, HostId, Parcel, PersonId};
use super::host::Power;
use super::radio::Traffic;
use crate::client::view::bare_of;
use crate::invariants::MessageKey;

/// Clients at which is looked at a time.
const LOOKS: usize = 10;
/// Bytes of a question who is there: an mDNS query for one name.
const QUESTION: usize = 40;

/// A message at a client that is to get it. Virtual milliseconds since the start.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    /// When its sender wrote it.
    pub sent: u64,
    /// When it could have come at the earliest: if all that could be told was told on at once to everybody in reach, who
    /// kept it and carried it along (epidemic routing: Vahdat and Becker, 2000). Nothing if there was never a way.
    pub possible: Option<u64>,
    /// When it came.
    pub got: Option<u64>,
}

/// What clients showed of others, looked at every few seconds.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Pairs of a client and somebody else that were looked at.
    pub looks: u64,
    /// Of these, how many showed somebody as available who was out of reach or not logged in.
    pub ghosts: u64,
    /// How many did not show somebody who was there, and in reach.
    pub missing: u64,
    /// How long each such error lasted, milliseconds: by the first look that saw it and the first that did not.
    pub ghosts_lasted: Vec<u64>,
    /// The same of those who were missing.
    pub missing_lasted: Vec<u64>,
}

/// What was measured of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Every numbered message at every client that is to get it.
    pub trips: Vec<Trip>,
    /// Messages that came to the same client again.
    pub repeated: u64,
    /// Messages that a node had no room for; their senders were told.
    pub refused: u64,
    /// What was shown of whom.
    pub shown: Shown,
    /// What went over the air, by what it was; what all hear is counted once.
    pub traffic: BTreeMap<&'static str, Traffic>,
    /// How often a node woke up to do something, for whatever reason.
    pub wakes: u64,
    /// How many of these were for its own timer.
    pub timers: u64,
    /// For how long nodes were awake, all together, milliseconds.
    pub awake: u64,
    /// Writes to disks, each with one flush.
    pub commits: u64,
    /// Bytes of keys and values in them.
    pub written: u64,
    /// Bytes of keys and values on all disks in the end.
    pub stored: u64,
    /// Machines.
    pub nodes: u64,
}

/// Looks on.
pub(crate) struct Meter {
    figures: Figures,
    /// Trips by message and client.
    trips: BTreeMap<(ClientId, MessageKey), usize>,
    /// Trips that were not possible yet: the hosts that could have the message, and the one that it is for.
    under_way: BTreeMap<usize, (BTreeSet<HostId>, HostId)>,
    /// Which part of the network each host is in, if it runs.
    parts: Vec<Option<usize>>,
    /// Errors of what is shown that go on: who is shown by whom, as a ghost or not, since when.
    wrong: BTreeMap<(ClientId, PersonId, bool), u64>,
    looks: usize,
}

impl Meter {
    fn new() -> Self {
        Self {
            figures: Figures::default(),
            trips: BTreeMap::new(),
            under_way: BTreeMap::new(),
            parts: Vec::new(),
            wrong: BTreeMap::new(),
            looks: 0,
        }
    }

    /// A packet, or several of the same frame, with headers and all.
    pub(super) fn count(&mut self, kind: &'static str, sent: Traffic) {
        *self.figures.traffic.entry(kind).or_default() += sent;
    }

    /// A node has woken up.
    pub(super) fn woken(&mut self) {
        self.figures.wakes += 1;
    }

    /// The timer of a node has fired.
    pub(super) fn rung(&mut self) {
        self.figures.timers += 1;
    }

    /// A disk has written.
    pub(super) fn written(&mut self, sets: &[WriteSet]) {
        self.figures.commits += 1;
        self.figures.written += sets.iter().map(|set| set.bytes() as u64).sum::<u64>();
    }

    /// Hosts have come into each other's reach, or lost it.
    pub(super) fn ways(&mut self, parts: &[Option<usize>], time: u64) {
        self.parts = parts.to_vec();
        let trips = &mut self.figures.trips;
        self.under_way.retain(|trip, (holders, to)| {
            spread(holders, parts);
            let there = holders.contains(to);
            if let (true, Some(trip)) = (there, trips.get_mut(*trip)) {
                trip.possible = Some(time);
            }
            !there
        });
    }

    fn leaves(&mut self, key: MessageKey, client: ClientId, [from, to]: [HostId; 2], time: u64) {
        let mut holders = BTreeSet::from([from]);
        spread(&mut holders, &self.parts);
        let there = holders.contains(&to);
        let number = self.figures.trips.len();
        self.figures.trips.push(Trip { sent: time, possible: there.then_some(time), got: None });
        self.trips.insert((client, key), number);
        if !there {
            self.under_way.insert(number, (holders, to));
        }
    }

    fn arrives(&mut self, key: MessageKey, client: ClientId, time: u64) {
        let trip = self.trips.get(&(client, key)).and_then(|number| self.figures.trips.get_mut(*number));
        match trip {
            Some(trip) if trip.got.is_none() => trip.got = Some(time),
            Some(_) => self.figures.repeated += 1,
            None => {}
        }
    }

    fn are_together(&self, one: HostId, other: HostId) -> bool {
        let part = |host: HostId| self.parts.get(host.0).copied().flatten();
        one == other || part(one).is_some() && part(one) == part(other)
    }

    fn looked(&mut self, by: ClientId, whom: PersonId, is_shown: bool, is_there: bool, time: u64) {
        let shown = &mut self.figures.shown;
        shown.looks += 1;
        for (ghost, wrong) in [(true, is_shown && !is_there), (false, is_there && !is_shown)] {
            let (count, lasted) = match ghost {
                true => (&mut shown.ghosts, &mut shown.ghosts_lasted),
                false => (&mut shown.missing, &mut shown.missing_lasted),
            };
            *count += u64::from(wrong);
            if wrong {
                self.wrong.entry((by, whom, ghost)).or_insert(time);
            } else if let Some(since) = self.wrong.remove(&(by, whom, ghost)) {
                lasted.push(time - since);
            }
        }
    }
}

/// Whoever is in a part of the network with a holder is one, too.
fn spread(holders: &mut BTreeSet<HostId>, parts: &[Option<usize>]) {
    let reached: BTreeSet<usize> =
        holders.iter().filter_map(|host| parts.get(host.0).copied().flatten()).collect();
    let hosts = parts.iter().enumerate();
    holders.extend(
        hosts
            .filter(|(_, part)| part.is_some_and(|part| reached.contains(&part)))
            .map(|(host, _)| HostId(host)),
    );
}

/// What a parcel is, for people.
pub(super) fn kind_of(parcel: &Parcel) -> &'static str {
    let Parcel::Frame(bytes) = parcel else {
        return if matches!(parcel, Parcel::News(_)) { "revocations" } else { "connections" };
    };
    match wire::decode(bytes) {
        Ok(Frame::Envelope(_) | Frame::Receipt(_) | Frame::Live(_)) => "messages and receipts",
        Ok(
            Frame::Presence { .. }
            | Frame::LinkPresences(_)
            | Frame::LinkAbsence { .. }
            | Frame::Relayed(_)
            | Frame::Have(_)
            | Frame::Want(_),
        ) => "presence",
        Ok(Frame::Hello(_) | Frame::Records(_)) => "keys and names",
        Ok(Frame::Heartbeat) => "heartbeats",
        Ok(
            Frame::Deposit { .. }
            | Frame::DepositAnswer { .. }
            | Frame::List(_)
            | Frame::Listing { .. }
            | Frame::Fetch(_)
            | Frame::Mail(_)
            | Frame::Discard(_)
            | Frame::WantTokens { .. },
        ) => "mail for others",
        Ok(Frame::Revoked(_) | Frame::Revocations(_) | Frame::Rotations(_)) => "revocations",
        Ok(_) => "other frames",
        Err(_) => "garbage of attackers",
    }
}

impl World {
    /// From now on it is measured.
    pub(crate) fn measure(&mut self) {
        self.meter = Some(Box::new(Meter::new()));
    }

    /// Somebody has written a message.
    pub(crate) fn meter_sent(&mut self, key: MessageKey) {
        let to: Vec<(ClientId, HostId)> =
            self.receivers(key.to).map(|client| (client, self.clients[client.0].host)).collect();
        let (from, time) = (self.clients[key.from.0].host, self.time);
        if let Some(meter) = &mut self.meter {
            to.into_iter().for_each(|(client, to)| meter.leaves(key, client, [from, to], time));
        }
    }

    /// A client has got a message.
    pub(crate) fn meter_got(&mut self, key: MessageKey, client: ClientId) {
        let time = self.time;
        if let Some(meter) = &mut self.meter {
            meter.arrives(key, client, time);
        }
    }

    /// A host asks the link who is there, and all who hear it answer: each says it once, for all.
    pub(super) fn meter_discovery(&mut self, host: HostId, size: usize, overhead: usize) {
        let Some(meter) = &mut self.meter else { return };
        let others = (0..self.hosts.len()).map(HostId).filter(|other| *other != host);
        let answers = others.filter(|other| meter.are_together(host, *other)).count() as u64;
        let packets = 1 + answers;
        let bytes = (QUESTION + overhead) as u64 + answers * (size + overhead) as u64;
        meter.count("discovery", Traffic { packets, bytes });
    }

    /// Regularly, after so many milliseconds: who is awake, and what some clients show.
    pub(super) fn meter_watch(&mut self, since: u64) {
        let Some(mut meter) = self.meter.take() else { return };
        let awake = self.hosts.iter().filter(|host| host.power == Power::On && host.attacker.is_none());
        meter.figures.awake += since * awake.count() as u64;
        for _ in 0..LOOKS.min(self.clients.len()) {
            meter.looks += 1;
            let client = ClientId(meter.looks % self.clients.len());
            self.look(&mut meter, client);
        }
        self.meter = Some(meter);
    }

    /// Compares what a client shows with what is so.
    fn look(&self, meter: &mut Meter, by: ClientId) {
        let client = &self.clients[by.0];
        let host = &self.hosts[client.host.0];
        if !client.is_ready() || client.lawless || host.power != Power::On {
            return;
        }
        let shown: BTreeSet<&str> = client.view.online.keys().map(|full| bare_of(full)).collect();
        for (whom, person) in self.people.iter().enumerate().map(|(whom, person)| (PersonId(whom), person)) {
            let mut clients = self.clients.iter().filter(|other| other.person == whom).peekable();
            if whom == client.person || clients.peek().is_none() || clients.clone().any(|other| other.lawless)
            {
                continue;
            }
            let there = clients.any(|other| {
                other.is_ready()
                    && self.hosts[other.host.0].power == Power::On
                    && meter.are_together(client.host, other.host)
            });
            meter.looked(by, whom, shown.contains(person.jid.as_str()), there, self.time);
        }
    }

    /// What was measured until now.
    pub(crate) fn figures(&mut self) -> Option<Figures> {
        let mut figures = self.meter.take()?.figures;
        figures.refused = self.book.refusals();
        figures.nodes = self.hosts.len() as u64;
        figures.stored = self.hosts.iter().map(|host| host.disk.bytes()).sum();
        Some(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MessageKey {
        MessageKey { from: ClientId(0), to: PersonId(2), number: 1 }
    }

    /// North and south are apart; the courier is in the north, on the road, in the south.
    #[test]
    fn a_message_could_come_as_soon_as_a_courier_is_there_who_has_met_its_sender() {
        let mut meter = Meter::new();
        let [north, courier, south] = [HostId(0), HostId(1), HostId(2)];
        meter.ways(&[Some(0), Some(1), Some(2)], 0);
        meter.leaves(key(), ClientId(9), [north, south], 100);
        // The courier visits the south before the north: that is of no use.
        meter.ways(&[Some(0), Some(1), Some(1)], 200);
        meter.ways(&[Some(0), Some(0), Some(2)], 300);
        meter.ways(&[Some(0), None, Some(2)], 400);
        assert_eq!(meter.figures.trips[0].possible, None);
        meter.ways(&[Some(0), Some(1), Some(1)], 500);
        assert_eq!(meter.figures.trips[0].possible, Some(500));
        assert!(meter.under_way.is_empty() && courier == HostId(1));
        // In reach, it could have come at once.
        meter.leaves(key(), ClientId(9), [courier, south], 600);
        assert_eq!(meter.figures.trips[1].possible, Some(600));
        meter.arrives(key(), ClientId(9), 700);
        meter.arrives(key(), ClientId(9), 800);
        assert_eq!((meter.figures.trips[1].got, meter.figures.repeated), (Some(700), 1));
    }

    #[test]
    fn an_error_of_what_is_shown_lasts_until_it_is_not_seen_any_more() {
        let mut meter = Meter::new();
        let looks = [(true, true), (true, false), (true, false), (false, false), (false, true), (true, true)];
        for ((shown, there), time) in looks.into_iter().zip((0..).step_by(5_000)) {
            meter.looked(ClientId(0), PersonId(1), shown, there, time);
        }
        let shown = meter.figures.shown;
        assert_eq!((shown.looks, shown.ghosts, shown.missing), (6, 2, 1));
        assert_eq!((shown.ghosts_lasted, shown.missing_lasted), (vec![10_000], vec![5_000]));
    }
}

//! What follows from what is known: whom to have addresses tried by, where to have places, what a person is told.

use std::time::Duration;

use libp2p::swarm::{CloseConnection, ConnectionId, ToSwarm};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::nat::Verdict;
use super::{Behaviour, ReachReport, RelayMode, is_beyond};

/// A node that became reachable keeps its places at relays for so long: it may be told otherwise soon.
const FAREWELL: Duration = Duration::from_secs(60);

impl Behaviour {
    /// Does what is due, and says when it wants to be asked again.
    pub(super) fn tick(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.nat.take_round(now) {
            let listening = self.listening.iter().map(|(_, address)| address.clone());
            let all = self.parts.probe.tried().into_iter().chain(listening);
            let fit =
                |address: &Multiaddr| is_beyond(&self.networks, address) && !self.nat.is_settled(address);
            let fit: Vec<Multiaddr> = all.filter(fit).collect();
            self.parts.probe.again(fit, now);
        }
        let verdict = self.nat.verdict(now);
        self.parts.answer.serves = verdict == Verdict::Direct;
        let mut farewell = None;
        if verdict == Verdict::Unreachable {
            self.direct_since = None;
            self.upnp.start(&self.listening);
            while let Some(opts) = self.relays.next(now) {
                tracing::debug!(at = %opts.address(), "asking a relay for a place");
                self.actions.push_back(ToSwarm::ListenOn { opts });
            }
        } else if verdict == Verdict::Direct {
            let since = *self.direct_since.get_or_insert(now);
            farewell = Some(since + FAREWELL).filter(|at| *at > now);
            if farewell.is_none() {
                self.leave_relays();
            }
        }
        self.tell_report(verdict);
        let relays = self.relays.next_due(now).filter(|_| verdict == Verdict::Unreachable);
        let due = [
            self.nat.next_due(now),
            self.parts.probe.tick(now),
            self.parts.answer.tick(now),
            relays,
            farewell,
        ];
        due.into_iter().flatten().min()
    }

    /// Gives up all places. A place ends with its connection, not with its listener: libp2p-relay panics if an answer of the relay comes
    /// behind that.
    pub(super) fn leave_relays(&mut self) {
        for relay in self.relays.used().collect::<Vec<_>>() {
            let with = |(_, (peer, ..)): &(&ConnectionId, &(PeerId, Multiaddr, bool))| *peer == relay;
            for (connection, _) in self.beyond.iter().filter(with) {
                let connection = CloseConnection::One(*connection);
                self.actions.push_back(ToSwarm::CloseConnection { peer_id: relay, connection });
            }
        }
    }

    fn tell_report(&self, verdict: Verdict) {
        let report = ReachReport {
            direct: self.nat.confirmed().map(|(address, since)| (address.to_string(), since)).collect(),
            failed: self.nat.failed().map(ToString::to_string).collect(),
            unreachable: verdict == Verdict::Unreachable,
            relays: self.relays.places(),
            known_relays: self.relays.spare(),
            beyond: self.beyond.len(),
            relays_others: match self.relay {
                RelayMode::Auto => verdict == Verdict::Direct,
                RelayMode::On => true,
                RelayMode::Off => false,
            },
            circuits: self.serving,
            upnp: self.upnp.state,
        };
        self.report.send_if_modified(|old| {
            let new = *old != report;
            *old = report;
            new
        });
    }
}

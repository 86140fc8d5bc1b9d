//! What goes wrong: drawn from the seed in advance, done when its time has come, undone at the end. *Pure.*

use super::World;
use super::events::{ClientId, Event, HostId};
use super::host::Power;
use super::story::Checked;

/// One thing that goes wrong, or right again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The cable between two hosts is cut. `lossy`: no connection survives it.
    Cut {
        /// One host.
        a: HostId,
        /// The other.
        b: HostId,
        /// Whether what is under way is lost.
        lossy: bool,
    },
    /// It is joined again; `noticed`: the hosts see that.
    Mend {
        /// One host.
        a: HostId,
        /// The other.
        b: HostId,
        /// Whether the carrier was gone.
        noticed: bool,
    },
    /// A host crashes: now, or in the middle of its next outputs.
    Crash {
        /// Which.
        host: HostId,
        /// Process or machine.
        power: Power,
        /// After so many outputs.
        after: Option<u32>,
    },
    /// A host starts.
    Boot(HostId),
    /// All links of a host are reset.
    Reset(HostId),
    /// A client loses its connection.
    CutClient(ClientId),
    /// A client is out of reach for some milliseconds.
    ClientAway(ClientId, u64),
    /// A client logs out in order and comes back after some milliseconds.
    LogOut(ClientId, u64),
    /// A disk becomes slow, or fast again: milliseconds from and to.
    Disk(HostId, (u64, u64)),
    /// A disk is full, or has room again.
    Full(HostId, bool),
    /// The wall clock of a host is set: milliseconds that it is off by from now on, beside its usual error.
    Clock(HostId, i64),
    /// What multicast DNS knows of a host runs out at another, though both are there.
    Expired {
        /// Where it runs out.
        at: HostId,
        /// Whose announcement.
        whom: HostId,
    },
    /// The network becomes slow, or fast again: milliseconds from and to.
    Delay((u64, u64)),
}

/// A wall clock may be wrong by this, milliseconds: two of them by less than the 48 h that nodes put up with.
const MOST_WRONG: u64 = 23 * 3_600_000;

/// What may go wrong in a scenario.
#[derive(Clone, Copy)]
pub(crate) struct Weather<'a> {
    /// Hosts that crash, have slow disks and lose their cables.
    pub(crate) hosts: &'a [HostId],
    /// Clients that lose their connections.
    pub(crate) clients: &'a [ClientId],
    /// Milliseconds between two faults at most.
    pub(crate) pause: u64,
}

impl World {
    /// Draws faults from now until `until` and plans them. Each is undone some time, the latest by [`World::heal`].
    pub(crate) fn forecast(&mut self, weather: Weather<'_>, until: u64) {
        let mut when = self.time;
        loop {
            when += self.dice.between(50, weather.pause);
            if when >= until {
                return;
            }
            let drawn = self.draw(weather);
            self.plan(drawn.into_iter().map(|(after, fault)| (when + after, Event::Fault(fault))));
        }
    }

    fn draw(&mut self, weather: Weather<'_>) -> Vec<(u64, Fault)> {
        let host = self.dice.pick(weather.hosts);
        let other = self.dice.pick(weather.hosts).filter(|other| Some(*other) != host);
        let client = self.dice.pick(weather.clients);
        match (self.dice.below(100), host, other, client) {
            (0..25, Some(a), Some(b), _) => {
                let (lossy, noticed) = (self.dice.chance(50), self.dice.chance(80));
                vec![(0, Fault::Cut { a, b, lossy }), (self.wait(), Fault::Mend { a, b, noticed })]
            }
            (25..50, Some(host), _, _) => {
                let power = if self.dice.chance(60) { Power::Killed } else { Power::Off };
                let after = if self.dice.chance(50) { u32::try_from(self.dice.below(12)).ok() } else { None };
                vec![(0, Fault::Crash { host, power, after }), (self.wait(), Fault::Boot(host))]
            }
            (50..58, Some(host), _, _) => vec![(0, Fault::Reset(host))],
            (58..62, _, _, Some(client)) => vec![(0, Fault::LogOut(client, self.wait()))],
            (62..75, _, _, Some(client)) => vec![(0, Fault::CutClient(client))],
            (75..82, _, _, Some(client)) => vec![(0, Fault::ClientAway(client, self.wait()))],
            (82..85, Some(host), _, _) => {
                vec![(0, Fault::Full(host, true)), (self.wait(), Fault::Full(host, false))]
            }
            (85..88, Some(host), _, _) => {
                let wrong = i64::try_from(self.dice.below(2 * MOST_WRONG)).unwrap_or_default();
                let wrong = wrong.saturating_sub_unsigned(MOST_WRONG);
                vec![(0, Fault::Clock(host, wrong)), (self.wait(), Fault::Clock(host, 0))]
            }
            (88..90, Some(at), Some(whom), _) => vec![(0, Fault::Expired { at, whom })],
            (90..94, Some(host), _, _) => {
                let slow = self.dice.between(20, 3_000);
                vec![(0, Fault::Disk(host, (slow / 4, slow))), (self.wait(), Fault::Disk(host, (0, 4)))]
            }
            (94..100, _, _, _) => {
                let slow = self.dice.between(20, 2_000);
                vec![(0, Fault::Delay((slow / 4, slow))), (self.wait(), Fault::Delay((1, 5)))]
            }
            _ => Vec::new(),
        }
    }

    /// Mostly short, sometimes long.
    fn wait(&mut self) -> u64 {
        match self.dice.below(10) {
            0..6 => self.dice.between(10, 3_000),
            6..9 => self.dice.between(3_000, 20_000),
            _ => self.dice.between(20_000, 90_000),
        }
    }

    /// Does it.
    pub(crate) fn suffer(&mut self, fault: Fault) -> Checked {
        self.story.tell(self.time, || format!("*** {fault:?}"));
        match fault {
            Fault::Cut { a, b, lossy } => self.cut(a, b, lossy),
            Fault::Mend { a, b, noticed } => self.mend(a, b, noticed),
            Fault::Crash { host, power, after: None } => return self.crash(host, power),
            Fault::Crash { host, power, after: Some(after) } => {
                self.hosts[host.0].crash_after = Some((after, power))
            }
            Fault::Boot(host) => return self.boot(host),
            Fault::Reset(host) => {
                for (pipe, _) in self.pipes_of(host) {
                    self.break_pipe(pipe, [3_000, 3_000]);
                }
            }
            Fault::CutClient(client) => self.cut_client(client, 0),
            Fault::ClientAway(client, wait) => self.cut_client(client, wait),
            Fault::LogOut(client, wait) => self.log_out(client, wait),
            Fault::Disk(host, latency) => self.hosts[host.0].disk.latency = latency,
            Fault::Full(host, full) => self.hosts[host.0].disk.set_full(full, self.time),
            Fault::Clock(host, wrong) => self.hosts[host.0].wrong = wrong,
            Fault::Expired { at, whom } => self.forget(at, whom),
            Fault::Delay(delay) => self.network.delay = delay,
        }
        Ok(())
    }

    /// Everything is well again: cables, hosts, disks, clocks.
    pub(crate) fn heal(&mut self) -> Checked {
        self.story.tell(self.time, || "*** all is well again".to_owned());
        self.healed = true;
        self.network.delay = (1, 5);
        self.network.datagrams = false;
        self.mend_all();
        for host in (0..self.hosts.len()).map(HostId) {
            self.hosts[host.0].crash_after = None;
            self.hosts[host.0].disk.latency = (0, 4);
            self.hosts[host.0].disk.set_full(false, self.time);
            self.hosts[host.0].wrong = 0;
            if !self.is_lawless(host) {
                self.boot(host)?;
            }
        }
        Ok(())
    }
}

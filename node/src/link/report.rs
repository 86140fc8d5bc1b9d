//! What multicast DNS costs the link, for people and programs.

use std::collections::BTreeMap;

use crosstalk_link_local::mdns::{Airtime, Count, KINDS, Kind};
use crosstalk_link_local::net::Asker;
use serde::{Deserialize, Serialize};

use crate::event_loop::clock::Clock;

/// Packets, and bytes with the headers of Ethernet, IP and UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Airtime of `_presence._tcp` and `_p2p._udp` together, and where streams are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Port for link-local streams.
    pub port: Option<u16>,
    /// Interfaces in use.
    pub interfaces: Vec<String>,
    /// Multicast in the last minute, of both kinds: by our own engine, and by libp2p's over IPv4.
    pub sent: Traffic,
    /// Of that, by the swarm itself.
    #[serde(default)]
    pub sent_by_swarm: Traffic,
    /// Multicast of others heard in the last minute.
    pub heard: Traffic,
    /// Sent to single hosts in the last minute: whether they are there, and answers.
    #[serde(default)]
    pub sent_direct: Traffic,
    /// Heard of single hosts in the last minute, for us alone.
    #[serde(default)]
    pub heard_direct: Traffic,
    /// Sent since the start, by reason, libp2p's left out.
    pub sent_in_all: BTreeMap<String, Traffic>,
    /// Heard of others since the start.
    pub heard_in_all: Traffic,
    /// What was put off, refused or in dispute since the start; only what is not zero.
    pub trouble: BTreeMap<String, u64>,
}

/// Where a report comes from.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) port: Option<u16>,
    pub(super) asker: Asker,
    pub(super) clock: Clock,
}

impl View {
    /// Asks for a report; `None` when the link is closed.
    pub async fn report(&self) -> Option<LinkReport> {
        let airtime = self.asker.airtime().await?;
        Some(report(&airtime, self.clock.now().mono, self.port, self.asker.interfaces()))
    }
}

fn report(airtime: &Airtime, mono: u64, port: Option<u16>, interfaces: Vec<String>) -> LinkReport {
    let minute = airtime.last_minute(mono);
    let trouble = [
        ("packets put off to spare airtime", airtime.delayed),
        ("packets that were no mDNS of this link", airtime.refused),
        ("names and addresses beyond what is kept", airtime.flooded),
        ("attempts to take over a name", airtime.contested),
        ("own names that had to change", airtime.conflicts),
        ("answers left out since too many waited", airtime.overrun),
    ];
    LinkReport {
        port,
        interfaces,
        sent: sum(minute.multicast, minute.nodes),
        sent_by_swarm: traffic(minute.nodes),
        heard: traffic(minute.heard_multicast),
        sent_direct: traffic(minute.unicast),
        heard_direct: traffic(minute.heard_unicast),
        sent_in_all: KINDS
            .into_iter()
            .map(|kind| (name(kind).to_owned(), traffic(airtime.sent(kind))))
            .collect(),
        heard_in_all: traffic(airtime.heard()),
        trouble: trouble
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, n)| (what.to_owned(), n))
            .collect(),
    }
}

fn traffic(count: Count) -> Traffic {
    Traffic { packets: count.packets, bytes: count.bytes }
}

fn sum(one: Count, other: Count) -> Traffic {
    Traffic { packets: one.packets + other.packets, bytes: one.bytes + other.bytes }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Goodbye => "goodbyes",
        Kind::Probe => "probes",
        Kind::Announcement => "announcements",
        Kind::Answer => "answers",
        Kind::Query => "queries",
        Kind::Liveness => "liveness",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_link_has_a_report_without_trouble() {
        let report = report(&Airtime::default(), 5_000, Some(5298), vec!["eth0".to_owned()]);
        assert!(report.trouble.is_empty() && report.sent == Traffic::default());
        assert_eq!(report.sent_in_all.len(), KINDS.len());
        let text = serde_json::to_string(&report).expect("json");
        assert_eq!(serde_json::from_str::<LinkReport>(&text).expect("read"), report);
    }
}

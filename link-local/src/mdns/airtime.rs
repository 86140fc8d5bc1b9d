//! What mDNS costs the link: packets and bytes sent and heard, by kind, and the budget of what we send (*pure*).

use crosstalk_overlay::traffic::{Count, Window};

/// Why a packet was sent, in the order of precedence when there is too little airtime for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Records withdrawn.
    Goodbye,
    /// A name claimed.
    Probe,
    /// Records announced.
    Announcement,
    /// Somebody asked.
    Answer,
    /// We ask everybody.
    Query,
    /// We ask one host whether it is still there.
    Liveness,
}

/// All kinds.
pub const KINDS: [Kind; 6] =
    [Kind::Goodbye, Kind::Probe, Kind::Announcement, Kind::Answer, Kind::Query, Kind::Liveness];

/// Ethernet, IPv4 or IPv6, and UDP.
pub(crate) fn wire_bytes(payload: usize, v6: bool) -> u64 {
    let headers = if v6 { 14 + 40 + 8 } else { 14 + 20 + 8 };
    u64::try_from(payload).unwrap_or(u64::MAX).saturating_add(headers)
}

/// How something went over the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Multicast,
    Unicast,
    HeardByAll,
    HeardAlone,
    /// What libp2p-mdns of this machine multicast.
    Nodes,
}

/// Multicast DNS of one minute, with the headers of Ethernet, IP and UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// Sent to everybody, by the engine.
    pub multicast: Count,
    /// Sent to one host: questions whether somebody is there, and answers.
    pub unicast: Count,
    /// Sent to everybody by libp2p's own multicast DNS on this machine, over IPv4.
    pub nodes: Count,
    /// Heard of others, for everybody.
    pub heard_multicast: Count,
    /// Heard of others, for us alone.
    pub heard_unicast: Count,
}

/// The counters. Never reset.
#[derive(Debug, Clone, Default)]
pub struct Airtime {
    sent: [Count; KINDS.len()],
    heard: Count,
    nodes: Count,
    window: Window<5>,
    /// Packets put off because the budget was used up.
    pub delayed: u64,
    /// Packets heard that were no DNS message, came from off the link or from a wrong port.
    pub refused: u64,
    /// Instances and addresses heard of that there was no room for.
    pub flooded: u64,
    /// Attempts to take over the name of somebody who is there.
    pub contested: u64,
    /// Names that we had to change.
    pub conflicts: u64,
    /// Answers that were not given since too many were waiting.
    pub overrun: u64,
}

impl Airtime {
    /// What was sent for this reason.
    pub fn sent(&self, kind: Kind) -> Count {
        self.sent[kind as usize]
    }

    /// All that was sent.
    pub fn sent_in_all(&self) -> Count {
        let add = |sum: Count, one: &Count| Count {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        };
        self.sent.iter().fold(Count::default(), add)
    }

    /// All that was heard of others, refused packets included.
    pub fn heard(&self) -> Count {
        self.heard
    }

    /// All that libp2p's own multicast DNS on this machine sent.
    pub fn nodes(&self) -> Count {
        self.nodes
    }

    /// The 60 s before `mono`, milliseconds of the monotonic clock.
    pub fn last_minute(&self, mono: u64) -> Minute {
        let [multicast, unicast, heard_multicast, heard_unicast, nodes] = self.window.last_minute(mono);
        Minute { multicast, unicast, nodes, heard_multicast, heard_unicast }
    }

    pub(crate) fn count_sent(&mut self, kind: Kind, flow: Flow, bytes: u64, mono: u64) {
        self.sent[kind as usize].add(bytes);
        self.window.count(flow as usize, bytes, mono);
    }

    pub(crate) fn count_heard(&mut self, flow: Flow, bytes: u64, mono: u64) {
        if flow == Flow::Nodes {
            self.nodes.add(bytes)
        } else {
            self.heard.add(bytes)
        }
        self.window.count(flow as usize, bytes, mono);
    }
}

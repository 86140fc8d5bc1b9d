//! What mDNS costs the link: packets and bytes sent and heard, by kind, and the budget of what we send (*pure*).

use std::collections::VecDeque;

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

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire, with Ethernet, IP and UDP headers.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
    }
}

/// Ethernet, IPv4 or IPv6, and UDP.
pub(crate) fn wire_bytes(payload: usize, v6: bool) -> u64 {
    let headers = if v6 { 14 + 40 + 8 } else { 14 + 20 + 8 };
    u64::try_from(payload).unwrap_or(u64::MAX).saturating_add(headers)
}

/// Seconds of the window of [`Airtime::last_minute`].
const WINDOW: u64 = 60;

/// The counters. Never reset.
#[derive(Debug, Clone, Default)]
pub struct Airtime {
    sent: [Count; KINDS.len()],
    heard: Count,
    window: VecDeque<(u64, Count, Count)>,
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

    /// Sent and heard in the 60 s before `mono`, milliseconds of the monotonic clock.
    pub fn last_minute(&self, mono: u64) -> (Count, Count) {
        let oldest = (mono / 1000).saturating_sub(WINDOW - 1);
        let (mut sent, mut heard) = (Count::default(), Count::default());
        for (_, out, from) in self.window.iter().filter(|(second, ..)| *second >= oldest) {
            sent = Count { packets: sent.packets + out.packets, bytes: sent.bytes + out.bytes };
            heard = Count { packets: heard.packets + from.packets, bytes: heard.bytes + from.bytes };
        }
        (sent, heard)
    }

    pub(crate) fn count_sent(&mut self, kind: Kind, bytes: u64, mono: u64) {
        self.sent[kind as usize].add(bytes);
        if let Some((_, sent, _)) = self.second(mono) {
            sent.add(bytes);
        }
    }

    pub(crate) fn count_heard(&mut self, bytes: u64, mono: u64) {
        self.heard.add(bytes);
        if let Some((_, _, heard)) = self.second(mono) {
            heard.add(bytes);
        }
    }

    fn second(&mut self, mono: u64) -> Option<&mut (u64, Count, Count)> {
        let second = mono / 1000;
        if self.window.back().is_none_or(|(last, ..)| *last < second) {
            self.window.push_back((second, Count::default(), Count::default()));
        }
        while self.window.front().is_some_and(|(first, ..)| first + WINDOW <= second) {
            self.window.pop_front();
        }
        self.window.back_mut()
    }
}

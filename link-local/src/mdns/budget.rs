//! The airtime that we allow ourselves on one interface and family: a bucket of packets and one of bytes (*pure*).

use super::airtime::Kind;

/// Packets a second, in the long run, and at once.
const PACKETS_PER_SECOND: u64 = 12;
const PACKETS_AT_ONCE: u64 = 40;
/// Bytes a second, in the long run, and at once.
const BYTES_PER_SECOND: u64 = 2_000;
const BYTES_AT_ONCE: u64 = 24_000;

/// Two buckets. What is sent may overdraw them, what comes next then waits: it is put off, and joined with what is
/// due by then, never dropped.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    /// Thousandths of packets.
    packets: i64,
    /// Thousandths of bytes.
    bytes: i64,
    /// When the buckets were last filled, milliseconds.
    at: u64,
}

/// How much of the buckets, in thousandths, has to be left for this kind: the order of precedence. Below nothing:
/// these may overdraw.
fn reserve(kind: Kind) -> i64 {
    match kind {
        Kind::Goodbye => -1_000,
        Kind::Probe | Kind::Announcement => -500,
        Kind::Answer => 0,
        Kind::Query => 150,
        Kind::Liveness => 300,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Budget {
    pub(super) fn new(mono: u64) -> Self {
        Self { packets: signed(PACKETS_AT_ONCE * 1_000), bytes: signed(BYTES_AT_ONCE * 1_000), at: mono }
    }

    /// When a packet of this kind may be sent, milliseconds: now or later.
    pub(super) fn ready_at(&self, kind: Kind) -> u64 {
        let needed = |full: u64| signed(full) * reserve(kind) + 1_000;
        let wait = |short: i64, rate: u64| u64::try_from(short).unwrap_or(0).div_ceil(rate);
        let packets = wait(needed(PACKETS_AT_ONCE) - self.packets, PACKETS_PER_SECOND);
        let bytes = wait(needed(BYTES_AT_ONCE) - self.bytes, BYTES_PER_SECOND);
        self.at.saturating_add(packets.max(bytes))
    }

    pub(super) fn charge(&mut self, bytes: u64, mono: u64) {
        let elapsed = mono.saturating_sub(self.at);
        let fill = |level: i64, rate: u64, full: u64| {
            level.saturating_add(signed(elapsed.saturating_mul(rate))).min(signed(full * 1_000))
        };
        self.packets = fill(self.packets, PACKETS_PER_SECOND, PACKETS_AT_ONCE) - 1_000;
        self.bytes = fill(self.bytes, BYTES_PER_SECOND, BYTES_AT_ONCE) - signed(bytes.saturating_mul(1_000));
        self.at = self.at.max(mono);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What gets through in a minute of trying each 10 ms.
    fn sent_in_a_minute(kind: Kind, size: u64) -> u64 {
        let mut budget = Budget::new(0);
        let mut sent = 0;
        for mono in (0..60_000).step_by(10) {
            if budget.ready_at(kind) <= mono {
                budget.charge(size, mono);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn packets_and_bytes_are_limited() {
        assert!((750..=765).contains(&sent_in_a_minute(Kind::Answer, 10)), "40 and 12 a second");
        assert!((95..=98).contains(&sent_in_a_minute(Kind::Answer, 1_500)), "24 kB and 2 kB a second");
    }

    #[test]
    fn what_matters_more_is_sent_when_the_rest_waits() {
        let mut budget = Budget::new(0);
        let mut order = Vec::new();
        for _ in 0..200 {
            for kind in [Kind::Liveness, Kind::Query, Kind::Answer, Kind::Announcement, Kind::Goodbye] {
                if budget.ready_at(kind) > 0 && !order.contains(&kind) {
                    order.push(kind);
                }
            }
            budget.charge(100, 0);
        }
        assert_eq!(order, [Kind::Liveness, Kind::Query, Kind::Answer, Kind::Announcement, Kind::Goodbye]);
        assert!(budget.ready_at(Kind::Goodbye) < 20_000, "they wait, but not for ever");
    }
}

//! Owns the figures of a run and their two forms: text and JSON.

use super::histogram::Histogram;
use super::options::Pace;
use serde::Serialize;
use std::fmt;

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_us: f64,
    /// 95 of 100.
    pub p95_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// Largest.
    pub max_us: f64,
    /// How many messages were timed.
    pub count: u64,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        let us = |nanos: u64| nanos as f64 / 1000.0;
        Self {
            p50_us: us(histogram.per_mille(500)),
            p95_us: us(histogram.per_mille(950)),
            p99_us: us(histogram.per_mille(990)),
            max_us: us(histogram.max()),
            count: histogram.len(),
        }
    }
}

/// Logins and memory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Logins {
    /// Sessions logged in.
    pub sessions: usize,
    /// Seconds from the first connection to the last session.
    pub seconds: f64,
    /// CPU time of the server per login in milliseconds; only with --pid.
    pub server_cpu_ms_per_login: Option<f64>,
    /// Resident memory of the server before the first login, in KiB.
    pub resident_before_kib: Option<u64>,
    /// The same with all sessions idle.
    pub resident_after_kib: Option<u64>,
    /// The difference per session.
    pub resident_kib_per_session: Option<f64>,
    /// One of the addresses that the server bound.
    pub example_jid: String,
}

/// Messages.
#[derive(Clone, Debug, Serialize)]
pub struct Messages {
    /// How they were sent.
    pub pace: Pace,
    /// Recipients per client.
    pub fanout: usize,
    /// Body length in bytes.
    pub body_bytes: usize,
    /// Measured seconds.
    pub seconds: f64,
    /// Messages a second that count: with XEP-0198 acknowledged and delivered, else delivered.
    pub throughput: f64,
    /// Messages delivered a second.
    pub delivered_per_second: f64,
    /// Messages acknowledged a second, with XEP-0198.
    pub acked_per_second: Option<f64>,
    /// From due (rate) or sent (window) to received.
    pub latency: Latency,
    /// From due or sent to the server's acknowledgement.
    pub ack_latency: Option<Latency>,
    /// Sent in the whole run, warm-up included.
    pub sent: u64,
    /// Sent, and neither delivered nor returned at the end.
    pub lost: u64,
    /// Delivered more than once.
    pub repeated: u64,
    /// Delivered after a later one of the same flow.
    pub reordered: u64,
    /// Returned as errors.
    pub bounced: u64,
    /// Due, but never sent: the connection was full.
    pub withheld: u64,
    /// Sent and not acknowledged at the end, with XEP-0198.
    pub unacked: Option<u64>,
    /// CPU time of the server per delivered message, in microseconds; only with --pid.
    pub server_cpu_us: Option<f64>,
    /// CPU of the server in percent of one CPU.
    pub server_cpu_percent: Option<f64>,
    /// CPU of everybody else on this machine, in percent of one CPU; well above 0 the run is disturbed.
    pub other_cpu_percent: Option<f64>,
    /// CPU of this program in percent of one CPU; near 100 it is itself the limit.
    pub generator_cpu_percent: f64,
    /// CPU time of this program per delivered message, in microseconds.
    pub generator_cpu_us: f64,
}

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Address of the server, or of several.
    pub server: String,
    /// Whether XEP-0198 was on.
    pub sm: bool,
    /// Logins and memory.
    pub logins: Logins,
    /// Messages, unless --idle.
    pub messages: Option<Messages>,
    /// Clients lost after their login.
    pub disconnected: u64,
    /// The first unexpected thing, in the server's words.
    pub first_problem: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sm = if self.sm { ", XEP-0198" } else { "" };
        writeln!(f, "server     {}{sm}", self.server)?;
        write!(f, "{}", self.logins)?;
        if let Some(messages) = &self.messages {
            write!(f, "{messages}")?;
        }
        if self.disconnected > 0 {
            writeln!(f, "clients    {} LOST", self.disconnected)?;
        }
        if let Some(problem) = &self.first_problem {
            writeln!(f, "problem    {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logins     {} in {:.2} s as {} ...", self.sessions, self.seconds, self.example_jid)?;
        if let Some(cpu) = self.server_cpu_ms_per_login {
            write!(f, ", {cpu:.2} ms of server CPU each")?;
        }
        writeln!(f)?;
        let memory = (self.resident_before_kib, self.resident_after_kib, self.resident_kib_per_session);
        if let (Some(before), Some(after), Some(each)) = memory {
            writeln!(f, "memory     {before} KiB before, {after} KiB after, {each:.1} KiB per session")?;
        }
        Ok(())
    }
}

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match self.pace {
            Pace::Rate(rate) => format!("{rate}/s"),
            Pace::Window(window) => format!("window {window}"),
        };
        writeln!(
            f,
            "pace       {pace}, {} to each, {} bytes, {} s",
            self.fanout, self.body_bytes, self.seconds
        )?;
        write!(f, "throughput {:.0} messages/s", self.throughput)?;
        if let Some(acked) = self.acked_per_second {
            write!(f, " (delivered {:.0}/s, acknowledged {acked:.0}/s)", self.delivered_per_second)?;
        }
        writeln!(f, "\nlatency    {}", self.latency)?;
        if let Some(latency) = &self.ack_latency {
            writeln!(f, "to the ack {latency}")?;
        }
        write!(f, "messages   sent {}, lost {}, repeated {}", self.sent, self.lost, self.repeated)?;
        write!(f, ", reordered {}, bounced {}, withheld {}", self.reordered, self.bounced, self.withheld)?;
        if let Some(unacked) = self.unacked {
            write!(f, ", unacknowledged {unacked}")?;
        }
        writeln!(f)?;
        if let (Some(each), Some(percent)) = (self.server_cpu_us, self.server_cpu_percent) {
            writeln!(f, "server     {each:.1} us of CPU per message, {percent:.0} % of one CPU")?;
        }
        let (each, percent) = (self.generator_cpu_us, self.generator_cpu_percent);
        write!(f, "generator  {each:.1} us of CPU per message, {percent:.0} % of one CPU")?;
        match self.other_cpu_percent {
            Some(others) => writeln!(f, "; all other programs {others:.0} %"),
            None => writeln!(f),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: f64| us / 1000.0;
        write!(
            f,
            "p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
            ms(self.p50_us),
            ms(self.p95_us),
            ms(self.p99_us),
            ms(self.max_us)
        )
    }
}

//! Owns the order of a run: logins, memory, warm-up, measurement, drain.

use super::LoadError;
use super::connection::Scratch;
use super::fleet::{Clock, Fleet};
use super::login::Plan;
use super::options::{Options, Pace, To};
use super::poll::Ready;
use super::process::{Processes, machine_cpu, own_cpu, pin, raise_file_limit};
use super::report::{Latency, Logins, Messages, Report};
use super::schedule::Schedule;
use super::sink::Sink;
use super::traffic::Traffic;
use std::time::Duration;

/// Longest time without any login finishing.
const LOGIN_PATIENCE: u64 = 30 * SECOND;
/// Longest drain, however steadily messages still come in.
const DRAIN_LIMIT: u64 = 120 * SECOND;
/// Messages put on their way at a rate before sockets are looked at again.
const BURST: usize = 512;
const SECOND: u64 = 1_000_000_000;

/// Does what `options` say. Runs on the calling thread until all is done.
///
/// # Errors
/// [`LoadError`] when the options make no sense or the clients cannot log in. Lost messages and connections are
/// figures of the report, not errors.
pub fn run(options: &Options) -> Result<Report, LoadError> {
    options.check()?;
    // Before the pinning, which its thread would inherit.
    let sink = options.self_test.then(Sink::start).transpose().map_err(LoadError::Poll)?;
    if let Some(cpu) = options.pin {
        pin(cpu)?;
    }
    raise_file_limit();
    let mut options = options.clone();
    if let Some(sink) = &sink {
        options.server = vec![sink.address()];
    }
    Run::new(options)?.all()
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    time: u64,
    server: Duration,
    own: Duration,
    machine: Duration,
}

struct Run {
    options: Options,
    processes: Processes,
    clock: Clock,
    fleet: Fleet,
    scratch: Scratch,
    ready: Vec<Ready>,
}

impl Run {
    fn new(options: Options) -> Result<Self, LoadError> {
        let clock = Clock::start();
        Ok(Self {
            processes: Processes::new(&options.pid)?,
            fleet: Fleet::new(options.clients, clock, options.sm_every)?,
            clock,
            scratch: Scratch::default(),
            ready: Vec::new(),
            options,
        })
    }

    fn all(mut self) -> Result<Report, LoadError> {
        let logins = self.log_in()?;
        let messages = if self.options.idle { None } else { Some(self.exchange()?) };
        self.fleet.close();
        Ok(Report {
            server: self.options.server.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            sm: self.options.sm,
            logins,
            messages,
            disconnected: self.fleet.disconnected,
            first_problem: self.fleet.first_problem.take(),
        })
    }

    fn log_in(&mut self) -> Result<Logins, LoadError> {
        let accounts = self.options.accounts()?;
        let (register, sm) = (self.options.register, self.options.sm);
        let plan = Plan { mechanism: self.options.mechanism, register, sm };
        let before = self.usage();
        let resident_before = self.resident_kib();
        let mut waiting = accounts.into_iter().enumerate();
        let mut started = 0;
        let mut progress = (0, before.time);
        while self.fleet.logged_in < self.options.clients {
            while started < self.fleet.logged_in + self.options.login_parallel {
                let Some((index, account)) = waiting.next() else { break };
                let server = self.options.server[index % self.options.server.len()];
                self.fleet.connect(index, server, account, plan)?;
                started += 1;
            }
            self.turn(SECOND / 10, false)?;
            if self.fleet.logged_in > progress.0 {
                progress = (self.fleet.logged_in, self.clock.now());
            } else if self.clock.now() > progress.1 + LOGIN_PATIENCE {
                return Err(LoadError::LoginStalled { done: progress.0, wanted: self.options.clients });
            }
        }
        let after = self.usage();
        let sessions = self.options.clients;
        let mut logins = Logins {
            sessions,
            seconds: seconds(after.time - before.time),
            server_cpu_ms_per_login: self
                .measured(after.server.saturating_sub(before.server).as_secs_f64() * 1e3 / sessions as f64),
            example_jid: self.fleet.jids(false).swap_remove(0),
            ..Logins::default()
        };
        self.rest()?;
        let resident_after = self.resident_kib();
        logins.resident_kib_per_session =
            self.measured((resident_after as f64 - resident_before as f64) / sessions as f64);
        logins.resident_before_kib = self.measured(resident_before);
        logins.resident_after_kib = self.measured(resident_after);
        Ok(logins)
    }

    /// Lets the server come to rest, answering it meanwhile.
    fn rest(&mut self) -> Result<(), LoadError> {
        let end = self.clock.now() + u64::from(self.options.settle) * SECOND;
        while self.clock.now() < end {
            self.turn(SECOND / 20, false)?;
        }
        Ok(())
    }

    fn exchange(&mut self) -> Result<Messages, LoadError> {
        let start = self.clock.now();
        let (window, mut schedule) = match self.options.pace() {
            Pace::Window(window) => (Some(window), None),
            Pace::Rate(rate) => (None, Some(Schedule::new(start, rate))),
        };
        let from = start + u64::from(self.options.warmup) * SECOND;
        let to = from + u64::from(self.options.duration) * SECOND;
        let jids = self.fleet.jids(self.options.to == To::Bare);
        let Options { fanout, message_bytes, .. } = self.options;
        let traffic = Traffic::new(&jids, self.options.server.len(), fanout, message_bytes, window, from..to);
        self.fleet.begin(traffic, window);
        self.send_until(from, schedule.as_mut())?;
        let before = self.usage();
        self.send_until(to, schedule.as_mut())?;
        let after = self.usage();
        self.drain()?;
        let traffic = self.fleet.traffic.take().ok_or(LoadError::AllLost)?;
        Ok(self.messages(&traffic, before, after))
    }

    fn send_until(&mut self, end: u64, mut schedule: Option<&mut Schedule>) -> Result<(), LoadError> {
        loop {
            let now = self.clock.now();
            if now >= end {
                // What was due before the end is sent, however late: it belongs to the measurement.
                while let Some(schedule) = schedule.as_mut().filter(|schedule| schedule.next_due() < end) {
                    self.send_due(schedule, end - 1);
                    self.turn(0, true)?;
                }
                return Ok(());
            }
            let mut wake = end;
            if let Some(schedule) = &mut schedule {
                self.send_due(schedule, now);
                wake = wake.min(schedule.next_due());
            }
            self.turn(wake.saturating_sub(self.clock.now()), true)?;
            if !self.fleet.any_left() {
                return Err(LoadError::AllLost);
            }
        }
    }

    fn send_due(&mut self, schedule: &mut Schedule, now: u64) {
        for _ in 0..BURST {
            let Some((number, due)) = schedule.take(now) else { return };
            let Some(traffic) = &self.fleet.traffic else { return };
            let (sender, slot) = traffic.turn_of(number);
            self.fleet.enqueue(sender, slot, due);
        }
    }

    /// Waits for what is missing, as long as something still arrives.
    fn drain(&mut self) -> Result<(), LoadError> {
        let patience = u64::from(self.options.drain) * SECOND;
        let begin = self.clock.now();
        let mut progress = (self.open(), begin);
        while progress.0 > 0 {
            self.turn(SECOND / 50, false)?;
            let (now, open) = (self.clock.now(), self.open());
            if open != progress.0 {
                progress = (open, now);
            }
            if now > progress.1 + patience || now > begin + DRAIN_LIMIT {
                break;
            }
        }
        Ok(())
    }

    /// Messages whose delivery, or acknowledgement, is still to come.
    fn open(&self) -> u64 {
        let Some(traffic) = &self.fleet.traffic else { return 0 };
        let unacked =
            if self.options.sm { traffic.counts.sent.saturating_sub(traffic.counts.acked) } else { 0 };
        traffic.in_flight() + unacked
    }

    fn turn(&mut self, patience: u64, fill: bool) -> Result<(), LoadError> {
        self.fleet.flush(fill)?;
        self.fleet.turn(Duration::from_nanos(patience), &mut self.scratch, &mut self.ready)?;
        self.fleet.flush(fill)
    }

    fn messages(&self, traffic: &Traffic, before: Usage, after: Usage) -> Messages {
        let (counts, sm) = (traffic.counts, self.options.sm);
        let time = seconds(after.time - before.time);
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / counts.delivered_in_time.max(1) as f64;
        let percent = |cpu: Duration| cpu.as_secs_f64() * 100.0 / time;
        let server = after.server.saturating_sub(before.server);
        let own = after.own.saturating_sub(before.own);
        let others = after.machine.saturating_sub(before.machine).saturating_sub(server + own);
        let per_second = |count: u64| count as f64 / f64::from(self.options.duration);
        let delivered = per_second(counts.delivered_in_time);
        let acked = per_second(counts.acked_in_time);
        Messages {
            pace: self.options.pace(),
            fanout: self.options.fanout,
            body_bytes: self.options.message_bytes,
            seconds: f64::from(self.options.duration),
            throughput: if sm { delivered.min(acked) } else { delivered },
            delivered_per_second: delivered,
            acked_per_second: sm.then_some(acked),
            latency: Latency::from(&traffic.latency),
            ack_latency: sm.then(|| Latency::from(&traffic.ack_latency)),
            sent: counts.sent,
            lost: traffic.in_flight(),
            repeated: counts.repeated,
            reordered: counts.reordered,
            bounced: counts.bounced,
            withheld: counts.withheld,
            unacked: sm.then(|| counts.sent.saturating_sub(counts.acked)),
            server_cpu_us: self.measured(each(server)),
            server_cpu_percent: self.measured(percent(server)),
            other_cpu_percent: self.measured(percent(others)),
            generator_cpu_percent: percent(own),
            generator_cpu_us: each(own),
        }
    }

    fn usage(&self) -> Usage {
        let (server, own, machine) = (self.processes.cpu(), own_cpu(), machine_cpu());
        Usage { time: self.clock.now(), server, own, machine }
    }

    fn resident_kib(&self) -> u64 {
        self.processes.resident() / 1024
    }

    fn measured<T>(&self, value: T) -> Option<T> {
        (!self.processes.is_empty()).then_some(value)
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

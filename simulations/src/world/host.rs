//! A host: one core driven by its law, its disk, its keys; how it starts and how it ends. *Pure.*

use std::collections::BTreeMap;

use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::settings::DeviceKeys;
use crosstalk::core::{Core, Input, Output, Settings, Setup};
use crosstalk_overlay::id::{NewsId, NodeId, UserId};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey};
use crosstalk_overlay::time::Now;

use super::World;
use super::attacker::Attacker;
use super::disk::Disk;
use super::events::{Downward, Event, HostId, Life};
use super::network::End;
use super::office::Desk;
use super::sabotage::Sabotage;
use super::story::Checked;

/// Where the wall clock stands when a run begins, Unix milliseconds.
pub(crate) const EPOCH: u64 = 1_800_000_000_000;
/// The build date that cores are told.
const BUILT: u64 = 1_790_000_000_000;
/// Outputs of one batch; more means that a core does not come to an end.
const MOST_OUTPUTS: usize = 50_000;
/// Time-outs within a virtual second; more means that a timer spins.
const MOST_WAKES: u32 = 200;
/// A quartz is wrong by this at most, millionths: 9 s a day.
const MOST_DRIFT: u64 = 100;
/// How long after a refused write the next try follows, milliseconds.
const TRY_AGAIN: u64 = 5_000;
/// Bits of work for room in a mailbox, in the place of 18: searching is done in real time, and took seven tenths of runs in which
/// people meet seldom. As many searches still need more than one step of theirs as do not.
const WORK: u32 = 14;
/// How long an answer to the command line may take, milliseconds.
const PATIENCE: u64 = 120_000;

/// Whether a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// It runs.
    On,
    /// The process is gone; the machine resets its connections.
    Killed,
    /// The machine is silent.
    Off,
    /// Its lid is closed: it knows all, and does nothing.
    Asleep,
}

/// A machine.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) node: NodeId,
    pub(crate) node_key: NodeKey,
    pub(crate) core: Option<Core>,
    pub(crate) attacker: Option<Attacker>,
    /// The server of a domain.
    pub(super) desk: Option<Desk>,
    pub(crate) disk: Disk,
    /// The key files.
    pub(crate) keys: BTreeMap<UserId, DeviceKeys>,
    pub(crate) power: Power,
    lives: u32,
    /// When it started, virtual milliseconds.
    pub(crate) booted: u64,
    /// When its lid was opened last.
    pub(crate) woken: u64,
    /// What its wall clock is wrong by always, milliseconds.
    skew: i64,
    /// How much faster its quartz swings than it should, millionths: each clock of the host gains as much.
    drift: i64,
    /// What it is wrong by beside that, by a [fault](super::faults::Fault::Clock), milliseconds.
    pub(crate) wrong: i64,
    timeout: Option<u64>,
    drain_planned: bool,
    /// It crashes after so many outputs.
    pub(crate) crash_after: Option<(u32, Power)>,
    pub(crate) links: BTreeMap<NodeId, End>,
    /// What should have happened while its lid was closed.
    pub(super) slept: Vec<Event>,
    /// News that it has heard since it started; with their bytes until they are judged.
    pub(crate) heard: BTreeMap<NewsId, Option<Vec<u8>>>,
    /// Inputs that outputs lead to at once.
    pub(crate) afterwards: Vec<Input>,
    answers: BTreeMap<u64, Reply>,
    asked: u64,
    /// The current virtual second, and the time-outs in it.
    wakes: (u64, u32),
    pub(super) settings: Settings,
}

impl World {
    /// A new machine that runs a node with an empty store.
    pub(crate) fn host(&mut self, name: &'static str) -> Result<HostId, super::Violation> {
        let id = self.machine(name)?;
        self.boot(id)?;
        Ok(id)
    }

    /// A new machine that pretends to be a node.
    pub(crate) fn attacker(&mut self, name: &'static str) -> Result<HostId, super::Violation> {
        let id = self.machine(name)?;
        self.hosts[id.0].attacker = Some(Attacker::new(self.dice.seed()));
        self.network.tapped.get_or_insert_default();
        self.hosts[id.0].power = Power::On;
        self.note_apart();
        self.join_the_link(id);
        self.queue.push(self.time + 1_000, Event::Attack(self.life(id)));
        Ok(id)
    }

    pub(super) fn machine(&mut self, name: &'static str) -> Result<HostId, super::Violation> {
        let key = NodeKey::from_seed(self.dice.seed());
        let disk = Disk::new().map_err(|why| self.violation(why))?;
        let skew = i64::try_from(self.dice.below(1_200_000)).unwrap_or_default() - 600_000;
        let drift = i64::try_from(self.dice.below(2 * MOST_DRIFT + 1)).unwrap_or_default();
        let drift = drift.saturating_sub_unsigned(MOST_DRIFT);
        self.hosts.push(Host {
            name,
            node: key.id(),
            node_key: key,
            core: None,
            attacker: None,
            desk: None,
            disk,
            keys: BTreeMap::new(),
            power: Power::Off,
            lives: 0,
            booted: 0,
            woken: 0,
            skew,
            drift,
            wrong: 0,
            timeout: None,
            drain_planned: false,
            crash_after: None,
            links: BTreeMap::new(),
            slept: Vec::new(),
            heard: BTreeMap::new(),
            afterwards: Vec::new(),
            answers: BTreeMap::new(),
            asked: 0,
            wakes: (0, 0),
            settings: Settings { mail_bits: WORK, ..Settings::default() },
        });
        Ok(HostId(self.hosts.len() - 1))
    }

    /// Both clocks of a host.
    pub(crate) fn now(&self, host: HostId) -> Now {
        let host = &self.hosts[host.0];
        let wall = (EPOCH + gained(self.time, host.drift)).saturating_add_signed(host.skew + host.wrong);
        Now { mono: gained(self.time - host.booted, host.drift), wall }
    }

    /// The present life of a host.
    pub(crate) fn life(&self, host: HostId) -> Life {
        Life { host, count: self.hosts[host.0].lives }
    }

    /// Whether a life goes on.
    pub(crate) fn lives(&self, life: Life) -> bool {
        let host = &self.hosts[life.host.0];
        host.power == Power::On && host.lives == life.count
    }

    /// Starts a host from what its disk holds.
    pub(crate) fn boot(&mut self, id: HostId) -> Checked {
        if self.hosts[id.0].power == Power::Asleep {
            self.open_lid(id);
        }
        if self.hosts[id.0].power == Power::On {
            return Ok(());
        }
        let (seed, sabotage) = (self.dice.seed(), self.sabotage);
        self.hosts[id.0].booted = self.time;
        self.open_desk(id)?;
        let host = &mut self.hosts[id.0];
        host.lives += 1;
        let contents = host.disk.reopen(sabotage);
        let keys = host.keys.iter().map(|(user, keys)| (*user, copy(keys))).collect();
        let (node, settings) = (host.node_key.clone(), host.settings.clone());
        let contents = contents.map_err(|why| self.violation(why))?;
        self.book.reloaded(id, &contents);
        let setup = Setup { node, seed, settings, contents, keys, built: BUILT };
        let core = Core::new(setup, self.now(id))
            .map_err(|why| self.violation(format!("a node does not start: {why}")))?;
        let host = &mut self.hosts[id.0];
        host.core = Some(core);
        host.power = Power::On;
        let name = host.name;
        self.story.tell(self.time, || format!("{name} starts"));
        self.watch_again();
        self.note_apart();
        self.join_the_link(id);
        self.open_port(id);
        self.plan_drain(id);
        self.check_owners()
    }

    /// Ends a host at once. What was not durable is lost, or all but lost.
    pub(crate) fn crash(&mut self, id: HostId, power: Power) -> Checked {
        let host = &mut self.hosts[id.0];
        if matches!(host.power, Power::Killed | Power::Off) {
            return Ok(());
        }
        let name = host.name;
        self.story.tell(self.time, || format!("{name} crashes ({power:?})"));
        let within = if power == Power::Killed { 50 } else { 60_000 };
        for (pipe, end) in self.pipes_of(id) {
            let mut noticed = [1, 1];
            noticed[1 - end] = within;
            self.break_pipe(pipe, noticed);
        }
        let host = &mut self.hosts[id.0];
        host.core = None;
        host.power = power;
        host.timeout = None;
        host.drain_planned = false;
        host.crash_after = None;
        host.links.clear();
        host.slept.clear();
        host.heard.clear();
        host.answers.clear();
        host.afterwards.clear();
        self.book.forget_statuses(|client| self.clients[client.0].host == id);
        let host = &mut self.hosts[id.0];
        let durable = host.disk.crash(&mut self.dice);
        let durable = durable.map_err(|why| self.violation(why))?;
        for set in &durable {
            self.book.committed(id, set);
        }
        self.crash_desk(id);
        self.cut_streams_of(id, if power == Power::Killed { 50 } else { 30_000 });
        self.note_apart();
        self.check_owners()
    }

    /// Hands an input to a core; its outputs are performed within a millisecond, with those of others that come.
    pub(crate) fn tell(&mut self, id: HostId, input: Input) {
        let now = self.now(id);
        let Some(core) = &mut self.hosts[id.0].core else { return };
        self.story.mark(self.time, 1, id.0 as u64, kind(&input).as_bytes());
        core.handle(input, now);
        self.plan_drain(id);
    }

    fn plan_drain(&mut self, id: HostId) {
        if !std::mem::replace(&mut self.hosts[id.0].drain_planned, true) {
            let when = self.time + self.dice.below(2);
            self.queue.push(when, Event::Drain(self.life(id)));
        }
    }

    /// Performs what the core asks for until it asks for nothing, then sets its timer.
    pub(crate) fn drain(&mut self, id: HostId) -> Checked {
        self.hosts[id.0].drain_planned = false;
        if let Some(meter) = &mut self.meter {
            meter.woken();
        }
        for _ in 0..MOST_OUTPUTS {
            let Some(output) = self.hosts[id.0].core.as_mut().and_then(Core::poll_output) else {
                for input in std::mem::take(&mut self.hosts[id.0].afterwards) {
                    self.tell(id, input);
                }
                return self.set_timer(id);
            };
            if let Some((left, power)) = self.hosts[id.0].crash_after {
                if left == 0 {
                    return self.crash(id, power);
                }
                self.hosts[id.0].crash_after = Some((left - 1, power));
            }
            self.perform(id, output)?;
        }
        Err(self.violation(format!("a core has had {MOST_OUTPUTS} outputs for one batch and more to come")))
    }

    fn set_timer(&mut self, id: HostId) -> Checked {
        let host = &mut self.hosts[id.0];
        let Some((when, why)) = host.core.as_ref().and_then(Core::poll_timeout) else { return Ok(()) };
        let when = (host.booted + lasts(when, host.drift)).max(self.time + 1);
        if host.timeout == Some(when) {
            return Ok(());
        }
        host.timeout = Some(when);
        let second = self.time / 1_000;
        host.wakes = if host.wakes.0 == second { (second, host.wakes.1 + 1) } else { (second, 1) };
        if host.wakes.1 > MOST_WAKES {
            return Err(self.violation(format!("a timer spins: {why}")));
        }
        self.queue.push(when, Event::Timeout(self.life(id)));
        Ok(())
    }

    /// The timer of a host fires, if it was not set anew.
    pub(crate) fn timed_out(&mut self, id: HostId) {
        if self.hosts[id.0].timeout == Some(self.time) {
            self.hosts[id.0].timeout = None;
            if let Some(meter) = &mut self.meter {
                meter.rung();
            }
            self.tell(id, Input::Timeout);
        }
    }

    /// A host that has slept looks at its timer.
    pub(super) fn wake_timer(&mut self, id: HostId) {
        self.hosts[id.0].timeout = None;
        self.tell(id, Input::Timeout);
    }

    fn perform(&mut self, id: HostId, output: Output) -> Checked {
        match output {
            Output::Client { conn, data } => {
                self.story.mark(self.time, 2, conn.0, &data);
                self.note_refusals(id, &data)?;
                self.send_down(conn, Downward::Data(data));
            }
            Output::CloseClient { conn, error } => {
                self.story.tell(self.time, || format!("a stream is closed: {error:?}"));
                self.send_down(conn, Downward::Closed);
            }
            Output::Commit { batch, writes } => {
                self.story.mark(self.time, 3, batch, &[]);
                if self.hosts[id.0].disk.push(batch, writes) {
                    self.write(id, batch);
                }
            }
            Output::Frame { node, frame } => {
                self.story.mark(self.time, 4, id.0 as u64, &frame);
                self.tell_frame(id, &node, &frame);
                self.check_told(id, &frame)?;
                self.send_frame(id, node, frame);
            }
            Output::Datagram { address, port, bytes } => {
                self.story.mark(self.time, 5, id.0 as u64, &bytes);
                self.send_datagram(id, &address, port, bytes);
            }
            Output::Dial { node, .. } => self.dial(id, node),
            // Nobody has told this host of a table.
            Output::Query { .. } | Output::Judge { .. } => {}
            Output::Publish { news } => self.publish(id, news),
            Output::Judged { node, id: news, verdict } => self.judged(id, node, news, verdict),
            Output::ClosePeer { node, reason } => {
                let name = self.hosts[id.0].name;
                self.story.tell(self.time, || format!("{name} closes a link: {reason}"));
                self.close_peer(id, node);
            }
            Output::SealingKeyDue { user } => {
                self.queue.push(self.time + 2, Event::SealingKey(self.life(id), user));
            }
            Output::SealingKeyErase { user, public } => {
                if let Some(keys) = self.hosts[id.0].keys.get_mut(&user) {
                    keys.sealing.retain(|key| key.public() != public);
                }
            }
            Output::EraseKeys { user } => drop(self.hosts[id.0].keys.remove(&user)),
            Output::NewPassword { ticket, .. } => {
                self.hosts[id.0].afterwards.push(Input::Credentials { ticket, credentials: None });
            }
            Output::Answer { request, reply } => drop(self.hosts[id.0].answers.insert(request, *reply)),
            Output::Enrolment { node, request, ask, places } => self.asked(id, node, request, ask, places),
            Output::Notice(text) => self.story.tell(self.time, || text),
            // Nobody on a simulated link speaks XEP-0174.
            Output::Link(_) | Output::Login(_) => {}
        }
        Ok(())
    }

    fn tell_frame(&self, from: HostId, to: &NodeId, frame: &[u8]) {
        self.story.tell(self.time, || {
            let name = self.hosts[from.0].name;
            let other = self.hosts.iter().find(|host| host.node == *to).map_or("nobody", |host| host.name);
            match crosstalk_overlay::wire::decode(frame) {
                Ok(frame) => format!("{name} → {other}: {frame:?}"),
                Err(why) => format!("{name} → {other}: {why}"),
            }
        });
    }

    fn write(&mut self, id: HostId, batch: u64) {
        let wait = self.hosts[id.0].disk.wait(&mut self.dice);
        self.queue.push(self.time + wait, Event::Written(self.life(id)));
        if self.sabotage == Some(Sabotage::EarlyCommit) {
            self.hosts[id.0].afterwards.push(Input::Committed { batch });
        }
    }

    /// The disk has written what waited when it began.
    pub(crate) fn written(&mut self, id: HostId) -> Checked {
        if self.hosts[id.0].disk.full {
            self.hosts[id.0].disk.refuse().map_err(|why| self.violation(why))?;
            self.queue.push(self.time + TRY_AGAIN, Event::Written(self.life(id)));
            if !std::mem::replace(&mut self.hosts[id.0].disk.told, true) {
                self.tell(id, Input::StoreTrouble(Some("the disk is full".to_owned())));
            }
            return Ok(());
        }
        let done = self.hosts[id.0].disk.finish(self.sabotage, &mut self.dice);
        if let Some(done) = done.map_err(|why| self.violation(why))? {
            if let Some(meter) = &mut self.meter {
                meter.written(&done.sets);
            }
            for set in &done.sets {
                self.book.committed(id, set);
            }
            self.check_owners()?;
            self.tell(id, Input::Committed { batch: done.batch });
            if std::mem::take(&mut self.hosts[id.0].disk.told) {
                self.tell(id, Input::StoreTrouble(None));
            }
        }
        if self.hosts[id.0].disk.begin() {
            self.write(id, 0);
        }
        Ok(())
    }

    /// A sealing key that was asked for is made and in the key file.
    pub(crate) fn sealing_key_made(&mut self, id: HostId, user: UserId) {
        let key = SealingKey::from_seed(self.dice.seed(), self.now(id).wall);
        if let Some(keys) = self.hosts[id.0].keys.get_mut(&user) {
            keys.sealing.push(key.clone());
            self.tell(id, Input::SealingKey { user, key });
        }
    }

    /// Gives a command as the CLI does and runs the world until it is answered.
    pub(crate) fn ask(&mut self, id: HostId, command: Command) -> Result<Reply, super::Violation> {
        let host = &mut self.hosts[id.0];
        host.asked += 1;
        let request = host.asked;
        let until = self.time + PATIENCE;
        self.tell(id, Input::Admin { request, command: Box::new(command) });
        while self.time < until {
            if let Some(reply) = self.hosts[id.0].answers.remove(&request) {
                return Ok(reply);
            }
            self.step()?;
        }
        Err(self.violation(format!("a command was not answered within {} s", PATIENCE / 1_000)))
    }
}

/// What a clock that gains so many millionths shows after some milliseconds.
fn gained(millis: u64, drift: i64) -> u64 {
    let gain = i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(drift) / 1_000_000;
    millis.saturating_add_signed(gain)
}

/// After how many milliseconds such a clock shows so many.
fn lasts(shown: u64, drift: i64) -> u64 {
    let swings = 1_000_000_u64.saturating_add_signed(drift);
    let about = u64::try_from(u128::from(shown) * 1_000_000 / u128::from(swings)).unwrap_or(u64::MAX);
    (about..).find(|millis| gained(*millis, drift) >= shown).unwrap_or(about)
}

/// What an input is, for the story's hash.
fn kind(input: &Input) -> &'static str {
    match input {
        Input::Authenticated { .. } => "authenticated",
        Input::Elements { .. } => "elements",
        Input::Ended { .. } => "ended",
        Input::Peer(_) | Input::Held { .. } | Input::Members(_) => "peer",
        Input::Link(_) => "link",
        Input::Committed { .. } => "committed",
        Input::StoreTrouble(_) => "trouble",
        Input::Admin { .. } => "admin",
        Input::SealingKey { .. } => "key",
        Input::Credentials { .. } => "credentials",
        Input::Timeout => "timeout",
        Input::EnrolmentAnswer { .. } | Input::Voids(_) | Input::Introduced(_) => "answer to a laptop",
        Input::UpstreamNews { .. } => "news from outside",
        Input::Stopping => "stopping",
    }
}

/// The key file is read again at each start.
fn copy(keys: &DeviceKeys) -> DeviceKeys {
    DeviceKeys { device: DeviceKey::from_seed(*keys.device.seed()), sealing: keys.sealing.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timer does not fire before the core's clock shows its time.
    #[test]
    fn a_clock_that_gains_or_loses() {
        assert_eq!((gained(1_000_000, 100), gained(1_000_000, -100)), (1_000_100, 999_900));
        for (shown, drift) in [(0, 5), (1, -100), (999, 100), (86_400_000, -37), (86_400_000, 100)] {
            let millis = lasts(shown, drift);
            assert!(gained(millis, drift) >= shown, "{shown} at {drift}");
            assert!(millis == 0 || gained(millis - 1, drift) < shown, "{shown} at {drift}: not before");
        }
    }
}

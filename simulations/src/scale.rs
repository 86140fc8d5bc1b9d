//! The overlay at sizes that no machine here can run: Kademlia, records and mailboxes as a model. *Pure.*
//!
//! The nodes of the model know each other by real routing tables and look up as libp2p-kad does, with the constants of
//! `overlay/src/dht.rs`; what they do unasked and what they store follows `core/publish.rs` and `core/mailbox`. What is
//! left out: bytes, connections, lies. Look-ups happen at one moment, in a world that stands still meanwhile.

mod calibration;
mod churn;
mod estimate;
mod figures;
mod holdings;
mod hosts;
mod lookup;
mod prediction;
mod routing;
mod setting;
mod stored;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

pub use calibration::{
    CROWDS, Compared, DIFFERENCES, MEASURED_APART, Measured, compare, setting as calibrated,
};
pub use churn::Sessions;
pub use estimate::{Assumed, Estimate, estimate};
pub use figures::{Figures, Spread, line};
pub use prediction::{bits_per_hop, hops};
pub use setting::{Manner, Replication, Setting};

use crosstalk_overlay::dht::BUCKET;
use crosstalk_overlay::mailbox;

use crate::world::dice::Dice;
use hosts::Hosts;
use lookup::{Found, look};
use stored::{Mail, Stored};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// Holders of mail look after it so often (`core/limits.rs`).
const REPAIR: u64 = HOUR;
/// Who is here looks into its mailbox so often (`core/mailbox/places.rs`).
const LOOK_AGAIN: u64 = 15 * MINUTE;
/// Bytes of a question and its answer, with the connection that is made for it.
const QUESTION_BYTES: f64 = 5_000.0;
/// How often in a run its caller hears how far it is.
const TOLD: u64 = 2_000;
/// Buckets that libp2p-kad can aim at when it starts: random keys seldom share more bits with ours.
const AIMED: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    ComeOrGo(u32),
    /// The second number is the stay of the node, which ends with its going.
    LookAround(u32, u32),
    LookIntoMailbox(u32, u32),
    Republish(u32),
    Replicate(u32),
    Probe,
    Send,
    Repair(u32),
}

/// What is counted while the model runs.
#[derive(Default)]
struct Tally {
    counts: bool,
    lookups: u64,
    succeeded: u64,
    hops: Vec<f64>,
    asked: Vec<f64>,
    silent: Vec<f64>,
    first: Vec<f64>,
    first_hops: Vec<f64>,
    asked_by_get: Vec<f64>,
    whole: Vec<f64>,
    letters: u64,
    at_once: u64,
    in_an_hour: u64,
    /// Nodes asked in all, and by those who only look up.
    questions: u64,
    probing: u64,
    record_questions: u64,
    letter_questions: u64,
    letter_hours: f64,
}

impl Tally {
    fn note_cost(&mut self, found: &Found) {
        self.questions += u64::from(found.asked);
    }

    fn note_lookup(&mut self, found: &Found) {
        self.lookups += 1;
        self.succeeded += u64::from(found.first.is_some());
        self.probing += u64::from(found.asked);
        self.hops.push(f64::from(found.hops));
        self.asked.push(f64::from(found.asked));
        self.silent.push(f64::from(found.silent));
        self.whole.push(found.millis);
        self.asked_by_get.push(f64::from(found.asked_by_get));
        self.first.extend(found.first);
        self.first_hops.extend(found.first.map(|_| f64::from(found.first_hop)));
    }
}

struct World {
    setting: Setting,
    hosts: Hosts,
    dice: Dice,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Happens)>>,
    /// How often each node has come or gone.
    stays: Vec<u32>,
    records: Vec<Stored>,
    mail: Mail,
    tally: Tally,
}

/// Runs the model; `progress` is told the share of it that is done, from time to time, and may say that it is enough: then
/// these are the figures of the time until then, and none if nothing was counted yet.
pub fn run(setting: Setting, mut progress: impl FnMut(f64) -> ControlFlow<()>) -> Option<Figures> {
    let mut world = World::new(setting);
    let settled = setting.lasts / 4;
    let end = settled + setting.lasts;
    let mut told = 0;
    while let Some(Reverse((at, happens))) = world.events.pop().filter(|Reverse((at, _))| *at < end) {
        world.now = at;
        if at >= settled && !world.tally.counts {
            world.hosts.count(at);
            world.tally = Tally { counts: true, ..Tally::default() };
        }
        if at >= told {
            told = at + end / TOLD;
            if progress(at as f64 / end as f64).is_break() {
                return (at > settled).then(|| world.figures(at - settled));
            }
        }
        world.handle(happens);
    }
    world.now = end;
    Some(world.figures(setting.lasts))
}

impl World {
    fn new(setting: Setting) -> Self {
        let mut dice = Dice::new(setting.seed);
        let availability = setting.sessions.availability;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        let count = (f64::from(setting.nodes) / availability) as u32;
        let hosts = Hosts::new(setting, count, &mut dice);
        let mut world = Self {
            setting,
            hosts,
            dice,
            now: 0,
            events: BinaryHeap::new(),
            stays: vec![0; count as usize],
            records: Vec::new(),
            mail: Mail::default(),
            tally: Tally::default(),
        };
        world.begin(count);
        world
    }

    fn begin(&mut self, count: u32) {
        for host in 0..count {
            if self.hosts.is_here(host) {
                let rest = self.setting.sessions.rest(&mut self.dice);
                self.after(rest, Happens::ComeOrGo(host));
                let soon = self.dice.below(self.setting.refresh);
                self.after(soon, Happens::LookAround(host, 0));
            } else {
                let absence = self.setting.sessions.absence(&mut self.dice);
                self.after(absence, Happens::ComeOrGo(host));
            }
        }
        for record in 0..self.setting.records {
            let owner = self.owner(u64::from(count), Hosts::is_here);
            self.records.push(Stored::new(owner, &mut self.dice));
            self.put_record(record);
            let Replication { replicate, republish, .. } = self.setting.replication;
            let (replicate, republish) = (self.dice.below(replicate), self.dice.below(republish));
            self.after(replicate, Happens::Replicate(record));
            self.after(republish, Happens::Republish(record));
        }
        self.after(MINUTE, Happens::Probe);
        self.after(MINUTE, Happens::Send);
    }

    fn after(&mut self, pause: u64, happens: Happens) {
        self.events.push(Reverse((self.now.saturating_add(pause), happens)));
    }

    /// Any node of which this holds.
    fn owner(&mut self, count: u64, fits: impl Fn(&Hosts, u32) -> bool) -> u32 {
        let mut tries = 0;
        loop {
            let host = u32::try_from(self.dice.below(count)).unwrap_or(0);
            tries += 1;
            if fits(&self.hosts, host) || tries > 10_000 {
                return host;
            }
        }
    }

    fn handle(&mut self, happens: Happens) {
        match happens {
            Happens::ComeOrGo(host) => self.come_or_go(host),
            Happens::LookAround(host, stay) => {
                if self.stays[host as usize] == stay {
                    self.look_around(host);
                    self.after(self.setting.refresh, happens);
                }
            }
            Happens::LookIntoMailbox(host, stay) => {
                if self.stays[host as usize] == stay {
                    self.look_into_mailbox(host);
                }
            }
            Happens::Republish(record) => {
                self.put_record(record);
                self.after(self.setting.replication.republish, happens);
            }
            Happens::Replicate(record) => {
                self.replicate(record);
                self.after(self.setting.replication.replicate, happens);
            }
            Happens::Probe => {
                self.probe();
                let pause = self.setting.lasts / u64::from(self.setting.lookups.max(1));
                self.after(pause.max(1), happens);
            }
            Happens::Send => {
                self.send();
                let pause = self.setting.lasts / u64::from(self.setting.letters.max(1));
                self.after(pause.max(1), happens);
            }
            Happens::Repair(letter) => self.repair(letter),
        }
    }

    fn come_or_go(&mut self, host: u32) {
        self.stays[host as usize] += 1;
        let stay = self.stays[host as usize];
        let pause = if self.hosts.is_here(host) {
            self.hosts.go(host, self.now);
            self.setting.sessions.absence(&mut self.dice)
        } else {
            self.hosts.come(host, self.now, &mut self.dice);
            self.enter(host);
            self.after(self.setting.refresh, Happens::LookAround(host, stay));
            self.look_into_mailbox(host);
            self.setting.sessions.session(&mut self.dice)
        };
        self.after(pause, Happens::ComeOrGo(host));
    }

    /// Looks for itself, and for somebody in each of the far buckets.
    fn enter(&mut self, host: u32) {
        let position = self.hosts.position(host);
        self.look(host, position);
        for bit in 0..AIMED.min(self.hosts.depth(host)) {
            let aim = position ^ (1 << (63 - bit)) ^ (self.dice.number() >> (bit + 1));
            self.look(host, aim);
        }
        for record in 0..self.records.len() {
            if self.records[record].owner == host {
                self.put_record(u32::try_from(record).unwrap_or(0));
            }
        }
    }

    fn look_around(&mut self, host: u32) {
        let near = self.dice.below(2) == 0;
        let target = if near { self.hosts.position(host) } else { self.dice.number() };
        self.look(host, target);
    }

    fn look(&mut self, host: u32, target: u64) {
        let found = look(&mut self.hosts, &mut self.dice, host, target, self.now, |_| false);
        self.tally.note_cost(&found);
    }

    fn put_record(&mut self, record: u32) {
        let copies = self.setting.replication.copies;
        let stored = &mut self.records[record as usize];
        if self.hosts.is_here(stored.owner) {
            let owner = stored.owner;
            let before = self.tally.questions;
            stored.put(&mut self.hosts, &mut self.dice, owner, copies, self.now, &mut self.tally);
            self.tally.record_questions += self.tally.questions - before;
        }
    }

    fn replicate(&mut self, record: u32) {
        let copies = self.setting.replication.copies;
        let stored = &mut self.records[record as usize];
        if let Some(holder) = stored.holder(&self.hosts, &mut self.dice) {
            let before = self.tally.questions;
            stored.put(&mut self.hosts, &mut self.dice, holder, copies, self.now, &mut self.tally);
            self.tally.record_questions += self.tally.questions - before;
        }
    }

    /// Somebody looks for somebody's record.
    fn probe(&mut self) {
        let record = usize::try_from(self.dice.below(self.records.len() as u64)).unwrap_or(0);
        let Some(asker) = self.hosts.anybody(&mut self.dice) else { return };
        let Some(stored) = self.records.get(record) else { return };
        let found = stored.find(&mut self.hosts, &mut self.dice, asker, self.now, &mut self.tally);
        self.tally.note_lookup(&found);
    }

    /// Somebody writes to somebody who is away.
    fn send(&mut self) {
        let Some(sender) = self.hosts.anybody(&mut self.dice) else { return };
        let recipient = self.owner(self.stays.len() as u64, |hosts, host| !hosts.is_here(host));
        if self.hosts.is_here(recipient) {
            return;
        }
        let mut letter = Stored::new(recipient, &mut self.dice);
        letter.put(&mut self.hosts, &mut self.dice, sender, mailbox::COPIES, self.now, &mut self.tally);
        let number = u32::try_from(self.mail.keep(letter)).unwrap_or(0);
        self.after(REPAIR, Happens::Repair(number));
    }

    fn repair(&mut self, number: u32) {
        let Some(Some(letter)) = self.mail.letters.get_mut(number as usize) else { return };
        let before = self.tally.questions;
        letter.repair(&mut self.hosts, &mut self.dice, self.now, &mut self.tally);
        self.tally.letter_questions += self.tally.questions - before;
        self.tally.letter_hours += 1.0;
        self.after(REPAIR, Happens::Repair(number));
    }

    /// Asks the nodes closest to its mailbox for what waits, now and again while it is here.
    fn look_into_mailbox(&mut self, host: u32) {
        let mut left = false;
        for number in self.mail.of(host) {
            let Some(Some(letter)) = self.mail.letters.get_mut(number) else { continue };
            let (first, back) = (letter.back.is_none(), *letter.back.get_or_insert(self.now));
            let found = letter.find(&mut self.hosts, &mut self.dice, host, self.now, &mut self.tally);
            let arrived = letter.is_at(&found.closest);
            self.tally.letters += u64::from(first);
            self.tally.at_once += u64::from(first && arrived);
            self.tally.in_an_hour += u64::from(arrived && self.now <= back + HOUR);
            if arrived {
                self.mail.take(number);
            }
            left |= !arrived;
        }
        if left {
            self.after(LOOK_AGAIN, Happens::LookIntoMailbox(host, self.stays[host as usize]));
        }
    }

    /// What was counted in so many milliseconds.
    fn figures(mut self, counted: u64) -> Figures {
        let values = self.setting.nodes;
        let values = (0..values).map(|_| self.dice.number());
        let held = holdings::holdings(&self.hosts.positions(), values, self.setting.replication.copies);
        let tally = self.tally;
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let copies = |stored: &Stored| stored.holders_here(&self.hosts).count() as f64;
        let hours = counted as f64 / HOUR as f64;
        let load = self.hosts.load(self.now);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        Figures {
            nodes: u32::try_from(self.stays.len()).unwrap_or(u32::MAX),
            here: self.hosts.here(),
            hours,
            lookups: tally.lookups,
            success: share(tally.succeeded, tally.lookups),
            hops: Spread::of(tally.hops),
            predicted_hops: hops(f64::from(self.hosts.here()), BUCKET),
            asked: Spread::of(tally.asked),
            silent: Spread::of(tally.silent),
            curve: figures::curve(&tally.first),
            first: Spread::of(tally.first),
            first_hops: Spread::of(tally.first_hops),
            asked_by_get: Spread::of(tally.asked_by_get),
            whole: Spread::of(tally.whole),
            stale: self.hosts.stale(),
            letters: tally.letters,
            found_at_once: share(tally.at_once, tally.letters),
            found_in_an_hour: share(tally.in_an_hour, tally.letters),
            record_copies: Spread::of(self.records.iter().map(copies).collect()),
            letter_copies: Spread::of(self.mail.letters.iter().flatten().map(copies).collect()),
            bytes: 2.0 * mean(&load) / 60.0 * QUESTION_BYTES,
            load: Spread::of(load),
            peak: Spread::of(self.hosts.peaks()),
            entries: Spread::of(self.hosts.entries()),
            held: Spread::of(held),
            upkeep: 1.0 - share(tally.probing, tally.questions),
            record_upkeep: tally.record_questions as f64 / f64::from(self.setting.records.max(1)) / hours,
            letter_upkeep: tally.letter_questions as f64 / tally.letter_hours.max(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use crosstalk_overlay::dht::COPIES;

    use super::*;

    fn setting(nodes: u32, sessions: Sessions) -> Setting {
        Setting { seed: 5, records: 50, lookups: 500, letters: 100, ..Setting::new(nodes, HOUR, sessions) }
    }

    fn whole(setting: Setting) -> Figures {
        run(setting, |_| ControlFlow::Continue(())).expect("nobody stops it")
    }

    #[test]
    fn where_nobody_leaves_everything_is_found_and_hops_grow_with_the_logarithm() {
        let runs: Vec<Figures> =
            [100, 400, 1_600, 6_400].iter().map(|nodes| whole(setting(*nodes, Sessions::STEADY))).collect();
        for run in &runs {
            assert_eq!((run.success, run.silent.max, run.stale), (1.0, 0.0, 0.0), "{} nodes", run.here);
            let copies = run.record_copies.mean / COPIES as f64;
            assert!((1.0..1.2).contains(&copies) && run.letters == 0, "{} nodes: {copies}", run.here);
        }
        let (_, slope, off) = line(&runs, |run| &run.hops).expect("four sizes");
        assert!(off < 0.1 && (0.1..0.5).contains(&slope), "{slope} {off}");
    }

    #[test]
    fn with_churn_nearly_all_is_found_and_the_same_seed_is_the_same_run() {
        let lessons = setting(1_000, Sessions { availability: 0.5, ..Sessions::LESSONS });
        let figures = whole(lessons);
        assert!(
            figures.success > 0.99 && figures.letters > 10 && figures.found_in_an_hour > 0.95,
            "{figures:?}"
        );
        assert!(figures.stale > 0.0 && figures.silent.mean > 0.0, "{figures:?}");
        assert_eq!(format!("{figures:?}"), format!("{:?}", whole(lessons)));
        let other = whole(Setting { seed: 6, ..lessons });
        assert_ne!(format!("{figures:?}"), format!("{other:?}"));
    }

    #[test]
    fn whoever_stops_a_run_has_the_figures_of_the_time_until_then() {
        let setting = setting(100, Sessions::PUBLISHED);
        let stopped_at = |share: f64| {
            run(setting, |done| if done < share { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        assert!(stopped_at(0.1).is_none(), "nothing was counted yet");
        let half = stopped_at(0.6).expect("figures");
        assert!((0.48..0.52).contains(&half.hours) && (230..270).contains(&half.lookups), "{half:?}");
        // What is counted by the hour is about the same.
        let whole = whole(setting);
        assert!(
            (half.load.mean / whole.load.mean - 1.0).abs() < 0.2,
            "{} {}",
            half.load.mean,
            whole.load.mean
        );
    }

    #[test]
    fn a_billion_users_are_a_line_and_a_few_products() {
        let at = |here: u32, hops: f64| Figures {
            here,
            hops: Spread { mean: hops, ..Spread::default() },
            asked: Spread { mean: 20.0, ..Spread::default() },
            ..Figures::default()
        };
        let estimate =
            estimate(&[at(1 << 10, 2.0), at(1 << 20, 4.0)], Assumed::of(f64::from(1 << 30) * 50.0));
        let estimate = estimate.expect("two sizes");
        assert!((estimate.hops - 6.0).abs() < 1e-9 && (estimate.asked - 20.0).abs() < 1e-9, "{estimate:?}");
        // Five looks in 4.8 hours: at once, and after 10, 30, 70 and 150 minutes; puts and looks at mail each quarter.
        let asks = (40.0 * 5.0 / 4.8 + 4.2 + 4.0) * 20.0 + 4.2 * 8.0;
        assert!(
            (estimate.asks - asks).abs() < 1e-6 && (estimate.answers - asks * 10.0).abs() < 1e-5,
            "{estimate:?}"
        );
    }
}

//! Owns `crosstalk-simulate`: runs scenarios for many seeds, or tells the story of one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Parser;
use crosstalk_simulations::interrupt::{INTERRUPTED, Interrupt};
use crosstalk_simulations::mutants::{self, Case, Caught};
use crosstalk_simulations::progress;
use crosstalk_simulations::scenario::{self, ALL, Broken, Kept, Scenario};
use crosstalk_simulations::world::incidents::Numbers;

/// Lines of a story that are shown with a broken promise; `--story` shows all.
const LAST: usize = 60;
/// What seeds draw their scenarios from.
const MIXED: &str = "mixed";
/// Runs to find a short story, at most.
const TRIES: usize = 400;
/// Time for that.
const PATIENCE: Duration = Duration::from_secs(120);
const DAY: f64 = 86_400_000.0;

/// Runs nodes on virtual time and a simulated network that fails, and checks after each step that every promise
/// is kept. A seed decides everything: the same seed is the same run. When a promise is broken, what went wrong before is left
/// out as far as it does not matter, and the rest is told.
#[derive(Parser)]
#[command(name = "crosstalk-simulate", version)]
struct Options {
    /// Which scenario; `--list` names them. `mixed`: each seed has one of all.
    #[arg(long, default_value = MIXED)]
    scenario: String,
    /// Seeds from A up to and without B.
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = seeds)]
    seeds: (u64, u64),
    /// One seed only.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Tell everything that happens in that one run.
    #[arg(long, requires = "seed")]
    story: bool,
    /// Of what was planned in that run let these happen only: as `3,17`, or `-` for none.
    #[arg(long, value_name = "NUMBERS", requires = "story", value_parser = numbers)]
    only: Option<Numbers>,
    /// How many runs at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Go on after a broken promise, and count what was broken how often.
    #[arg(long)]
    keep_going: bool,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
    /// Try out whether each deliberate bug of the catalogue is caught, or this one, and with how many seeds (the median of
    /// five hunts).
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["scenario", "seeds", "seed", "story", "only", "keep_going", "list"]
    )]
    mutants: Option<String>,
    /// Name the scenarios and end.
    #[arg(long)]
    list: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds: write it as 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok((from, to)) } else { Err(wrong()) }
}

fn numbers(text: &str) -> Result<Numbers, String> {
    let wrong = |part: &str| format!("{part:?} is no number of an incident: write them as 3,17");
    let parts = text.split(',').filter(|part| *part != "-");
    parts.map(|part| part.parse().map_err(|_| wrong(part))).collect()
}

/// What all runs came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    virtual_millis: u64,
    node_millis: u64,
    events: u64,
    messages: u64,
    broken: Option<Box<Broken>>,
    /// How often, by kind: what was said without its numbers; with one seed.
    kinds: BTreeMap<String, (u64, u64)>,
    /// Scenarios that seeds had.
    scenarios: BTreeSet<&'static str>,
    /// Somebody wanted it to end.
    interrupted: bool,
}

/// How the program ends.
enum Outcome {
    Kept,
    Broken,
    Interrupted,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options {
        options if options.list => list(),
        options => match &options.mutants {
            Some(name) => hunt_all(name, options.json),
            None => simulate(options),
        },
    };
    match result {
        Ok(Outcome::Kept) => ExitCode::SUCCESS,
        Ok(Outcome::Broken) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(why) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(io::stderr(), "crosstalk-simulate: {why}");
            ExitCode::from(2)
        }
    }
}

fn list() -> Result<Outcome, String> {
    let lines: String =
        ALL.iter().map(|scenario| format!("{}: {}\n", scenario.name, scenario.about)).collect();
    print(&lines).map(|()| Outcome::Kept)
}

/// Seeds within which a bug has to be caught, in each hunt.
const MOST: u64 = 100;
/// Hunts for each bug.
const HUNTS: u64 = 5;

fn hunt_all(only: &str, json: bool) -> Result<Outcome, String> {
    std::panic::set_hook(Box::new(|_| {}));
    let is_wanted = |case: &Case| only.is_empty() || format!("{:?}", case.mutant) == only;
    let cases: Vec<Case> = mutants::cases().filter(is_wanted).collect();
    if cases.is_empty() {
        return Err(format!("there is no deliberate bug {only}: --mutants alone tries all"));
    }
    let bar = progress::bar(cases.len() as u64, "deliberate bugs");
    let mut all_caught = true;
    for case in cases {
        let mut hunts: Vec<Option<Caught>> =
            (0..HUNTS).map(|hunt| mutants::hunt(&case, hunt * MOST, MOST)).collect();
        hunts.sort_by_key(|caught| caught.as_ref().map_or(u64::MAX, |caught| caught.seeds));
        let median = hunts.swap_remove(hunts.len() / 2);
        all_caught &= median.is_some();
        let name = format!("{:?}", case.mutant);
        let line = match (&median, json) {
            (caught, true) => serde_json::json!({
                "mutant": name,
                "about": case.about,
                "scenario": case.scenario.name,
                "seeds_median": caught.as_ref().map(|caught| caught.seeds),
                "caught_as": caught.as_ref().map(|caught| &caught.what),
            })
            .to_string(),
            (Some(caught), false) => format!(
                "{name:20} {:>3} seeds of {}: {}",
                caught.seeds,
                case.scenario.name,
                caught.what.chars().take(100).collect::<String>()
            ),
            (None, false) => {
                format!("{name:20} UNSEEN in {MOST} seeds of {}: {}", case.scenario.name, case.about)
            }
        };
        bar.suspend(|| print(&format!("{line}\n")))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(if all_caught { Outcome::Kept } else { Outcome::Broken })
}

/// Where seeds have their scenarios from.
#[derive(Clone, Copy)]
enum Chosen {
    One(&'static Scenario),
    Mixed,
}

impl Chosen {
    fn named(name: &str) -> Result<Self, String> {
        let unknown =
            || format!("there is no scenario {name}: --list names those that are, {MIXED} is all of them");
        match name {
            MIXED => Ok(Self::Mixed),
            name => scenario::find(name).map(Self::One).ok_or_else(unknown),
        }
    }

    fn of(self, seed: u64) -> &'static Scenario {
        match self {
            Self::One(scenario) => scenario,
            Self::Mixed => scenario::mixed(seed),
        }
    }
}

fn simulate(options: &Options) -> Result<Outcome, String> {
    let chosen = Chosen::named(&options.scenario)?;
    // A panic is a broken promise like any other, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let interrupt = Interrupt::listen().map_err(|why| format!("signals cannot be heard: {why}"))?;
    if let (Some(seed), true) = (options.seed, options.story) {
        return tell(chosen.of(seed), seed, options.only.as_ref(), &interrupt);
    }
    let range = options.seed.map_or(options.seeds, |seed| (seed, seed + 1));
    let began = now();
    let mut tally = run_all(chosen, range, options, &interrupt);
    let took = began.elapsed();
    let before = tally.broken.as_ref().map(|broken| broken.incidents.len());
    tally.broken = tally.broken.map(|broken| Box::new(shortened(*broken, &interrupt)));
    report(options, &tally, before.unwrap_or_default(), took)?;
    Ok(match tally.broken {
        Some(_) => Outcome::Broken,
        None if tally.interrupted => Outcome::Interrupted,
        None => Outcome::Kept,
    })
}

/// Everything that happens in one run.
fn tell(
    scenario: &Scenario,
    seed: u64,
    only: Option<&Numbers>,
    interrupt: &Interrupt,
) -> Result<Outcome, String> {
    let told = scenario::tell(scenario, seed, only, goes_on(interrupt));
    let unknown = only.into_iter().flatten().find(|number| **number >= told.planned);
    if let Some(number) = unknown.filter(|_| told.result.is_ok()) {
        let (name, planned) = (scenario.name, told.planned);
        return Err(format!(
            "seed {seed} of {name} plans {planned} incidents, numbered from 0: {number} is none of them"
        ));
    }
    let (end, outcome) = match &told.result {
        _ if told.stopped => ("interrupted".to_owned(), Outcome::Interrupted),
        Ok(kept) => (format!("every promise was kept; trace {:016x}", kept.trace), Outcome::Kept),
        Err(violation) => (violation.to_string(), Outcome::Broken),
    };
    print(&(told.story.join("\n") + "\n" + &end + "\n"))?;
    Ok(outcome)
}

fn goes_on(interrupt: &Interrupt) -> impl Fn() -> bool + Clone + 'static {
    let interrupt = interrupt.clone();
    move || !interrupt.is_asked()
}

/// The same promise broken with as few incidents as can be found.
fn shortened(broken: Broken, interrupt: &Interrupt) -> Broken {
    let Some(scenario) = scenario::find(broken.scenario) else { return broken };
    let (bar, began) = (progress::bar(TRIES as u64, "a short story"), now());
    let go_on = |runs: usize| {
        bar.set_position(runs as u64);
        began.elapsed() < PATIENCE && !interrupt.is_asked()
    };
    let shrunk = scenario::shrink(scenario, &broken, None, TRIES, go_on);
    bar.finish_and_clear();
    shrunk.broken
}

/// Runs all seeds until one breaks a promise, or somebody wants an end.
fn run_all(chosen: Chosen, (from, to): (u64, u64), options: &Options, interrupt: &Interrupt) -> Tally {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let (sender, receiver) = sync_channel(64);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            let sender = sender.clone();
            let goes_on = goes_on(interrupt);
            scope.spawn(|| work(chosen, &next, to, &stop, sender, goes_on));
        }
        drop(sender);
        let progress = progress::bar(to - from, &options.scenario);
        for (scenario, result) in receiver {
            tally.runs += 1;
            tally.scenarios.insert(scenario);
            match result {
                Ok(kept) => tally.kept(&kept),
                Err(broken) => {
                    stop.store(!options.keep_going, Ordering::Relaxed);
                    tally.broken(broken);
                }
            }
            progress.inc(1);
            stop.fetch_or(interrupt.is_asked(), Ordering::Relaxed);
        }
        progress.finish_and_clear();
        tally.interrupted = interrupt.is_asked();
    });
    tally
}

impl Tally {
    fn kept(&mut self, kept: &Kept) {
        self.virtual_millis += kept.lasted;
        self.node_millis += kept.lasted * kept.nodes;
        self.events += kept.events;
        self.messages += kept.messages;
    }

    fn broken(&mut self, broken: Box<Broken>) {
        self.kinds.entry(broken.violation.kind()).or_insert((0, broken.seed)).0 += 1;
        if self.broken.as_ref().is_none_or(|earlier| broken.seed < earlier.seed) {
            self.broken = Some(broken);
        }
    }
}

/// What a run of a scenario came to.
type Ran = (&'static str, Result<Kept, Box<Broken>>);

fn work(
    chosen: Chosen,
    next: &AtomicU64,
    to: u64,
    stop: &AtomicBool,
    results: SyncSender<Ran>,
    goes_on: impl Fn() -> bool + Clone + 'static,
) {
    while !stop.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let scenario = chosen.of(seed);
        if seed >= to {
            return;
        }
        let Some(ran) = scenario::run_while(scenario, seed, goes_on.clone()) else { return };
        if results.send((scenario.name, ran)).is_err() {
            return;
        }
    }
}

fn report(options: &Options, tally: &Tally, before: usize, took: Duration) -> Result<(), String> {
    let seconds = took.as_secs_f64().max(0.001);
    let rate = tally.runs as f64 / seconds;
    let faster = tally.virtual_millis as f64 / 1_000.0 / seconds;
    let node_days = tally.node_millis as f64 / DAY;
    if options.json {
        let broken = tally.broken.as_ref().map(|broken| {
            serde_json::json!({
                "scenario": broken.scenario,
                "seed": broken.seed,
                "incidents": broken.incidents,
                "incidents_before": before,
                "at_ms": broken.violation.at,
                "what": broken.violation.what,
                "story": last(&broken.story),
            })
        });
        let report = serde_json::json!({
            "scenario": options.scenario,
            "scenarios": tally.scenarios,
            "runs": tally.runs,
            "interrupted": tally.interrupted,
            "seconds": seconds,
            "runs_per_second": rate,
            "virtual_seconds": tally.virtual_millis / 1_000,
            "virtual_per_real": faster,
            "node_days": node_days,
            "events": tally.events,
            "messages": tally.messages,
            "broken": broken,
        });
        return print(&format!("{report}\n"));
    }
    let mut text = format!(
        "{}{} runs of {} in {seconds:.1} s: {rate:.0} runs a second, {} virtual hours ({faster:.0} times as fast as \
         real time), {node_days:.0} days of nodes, {} messages, {} events\n",
        if tally.interrupted { "interrupted after " } else { "" },
        tally.runs,
        options.scenario,
        tally.virtual_millis / 3_600_000,
        tally.messages,
        tally.events,
    );
    match &tally.broken {
        None => text += "every promise was kept\n",
        Some(broken) => text += &told(tally, broken, before),
    }
    print(&text)
}

fn told(tally: &Tally, broken: &Broken, before: usize) -> String {
    let mut text = String::new();
    for (what, (count, seed)) in &tally.kinds {
        text += &format!("{count:>6} times, as with seed {seed}: {what}\n");
    }
    text += &last(&broken.story).join("\n");
    text += &format!("\n\nseed {} of {}: {}\n", broken.seed, broken.scenario, broken.violation);
    let left = broken.incidents.len();
    text += &format!("of {before} things said and gone wrong until then, {left} were enough for it\n");
    let numbers: Vec<String> = broken.incidents.iter().map(usize::to_string).collect();
    let only = if numbers.is_empty() { "-".to_owned() } else { numbers.join(",") };
    text += &format!(
        "the whole story: crosstalk-simulate --scenario {} --seed {} --story --only {only}\n",
        broken.scenario, broken.seed
    );
    text
}

fn last(story: &[String]) -> &[String] {
    &story[story.len().saturating_sub(LAST)..]
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|why| format!("standard output: {why}")),
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast the simulation is, is measured in real time")]
fn now() -> Instant {
    Instant::now()
}

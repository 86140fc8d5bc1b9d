//! Owns `crosstalk-simulate`: runs a scenario for many seeds, or tells the story of one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Parser;
use crosstalk_simulations::mutants::{self, Case, Caught};
use crosstalk_simulations::progress;
use crosstalk_simulations::scenario::{self, ALL, Broken, Kept, Scenario};

/// Lines of a story that are shown with a broken promise; `--story` shows all.
const LAST: usize = 60;

/// Runs nodes on virtual time and a simulated network that fails, and checks after each step that every promise
/// is kept. A seed decides everything: the same seed is the same run.
#[derive(Parser)]
#[command(name = "crosstalk-simulate", version)]
struct Options {
    /// Which scenario; `--list` names them.
    #[arg(long, default_value = "two_laptops")]
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
        conflicts_with_all = ["scenario", "seeds", "seed", "story", "keep_going", "list"]
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

/// What all runs came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    virtual_millis: u64,
    events: u64,
    messages: u64,
    broken: Option<Box<Broken>>,
    /// How often, by kind: what was said without its numbers; with one seed.
    kinds: BTreeMap<String, (u64, u64)>,
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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(io::stderr(), "crosstalk-simulate: {why}");
            ExitCode::from(2)
        }
    }
}

fn list() -> Result<bool, String> {
    let lines: String =
        ALL.iter().map(|scenario| format!("{}: {}\n", scenario.name, scenario.about)).collect();
    print(&lines)
}

/// Seeds within which a bug has to be caught, in each hunt.
const MOST: u64 = 100;
/// Hunts for each bug.
const HUNTS: u64 = 5;

fn hunt_all(only: &str, json: bool) -> Result<bool, String> {
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
    Ok(all_caught)
}

fn simulate(options: &Options) -> Result<bool, String> {
    let scenario = scenario::find(&options.scenario)
        .ok_or_else(|| format!("there is no scenario {}: --list names those that are", options.scenario))?;
    // A panic is a broken promise like any other, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    if let (Some(seed), true) = (options.seed, options.story) {
        let (result, story) = scenario::tell(scenario, seed, None);
        let end = match &result {
            Ok(kept) => format!("every promise was kept; trace {:016x}", kept.trace),
            Err(violation) => violation.to_string(),
        };
        print(&(story.join("\n") + "\n" + &end + "\n"))?;
        return Ok(result.is_ok());
    }
    let range = options.seed.map_or(options.seeds, |seed| (seed, seed + 1));
    let began = now();
    let tally = run_all(scenario, range, options);
    report(options, &tally, began.elapsed())?;
    Ok(tally.broken.is_none())
}

/// Runs all seeds until one breaks a promise.
fn run_all(scenario: &'static Scenario, (from, to): (u64, u64), options: &Options) -> Tally {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let (sender, receiver) = sync_channel(64);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            let sender = sender.clone();
            scope.spawn(|| work(scenario, &next, to, &stop, sender));
        }
        drop(sender);
        let progress = progress::bar(to - from, scenario.name);
        for result in receiver {
            tally.runs += 1;
            match result {
                Ok(kept) => {
                    tally.virtual_millis += kept.lasted;
                    tally.events += kept.events;
                    tally.messages += kept.messages;
                }
                Err(broken) => {
                    stop.store(!options.keep_going, Ordering::Relaxed);
                    let what =
                        broken.violation.what.chars().filter(|c| !c.is_ascii_digit()).take(90).collect();
                    tally.kinds.entry(what).or_insert((0, broken.seed)).0 += 1;
                    if tally.broken.as_ref().is_none_or(|earlier| broken.seed < earlier.seed) {
                        tally.broken = Some(broken);
                    }
                }
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
    });
    tally
}

fn work(
    scenario: &Scenario,
    next: &AtomicU64,
    to: u64,
    stop: &AtomicBool,
    results: SyncSender<Result<Kept, Box<Broken>>>,
) {
    while !stop.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= to || results.send(scenario::run(scenario, seed, None)).is_err() {
            return;
        }
    }
}

fn report(options: &Options, tally: &Tally, took: Duration) -> Result<bool, String> {
    let seconds = took.as_secs_f64().max(0.001);
    let rate = tally.runs as f64 / seconds;
    let faster = tally.virtual_millis as f64 / 1_000.0 / seconds;
    if options.json {
        let broken = tally.broken.as_ref().map(|broken| {
            serde_json::json!({
                "seed": broken.seed,
                "at_ms": broken.violation.at,
                "what": broken.violation.what,
                "story": last(&broken.story),
            })
        });
        let report = serde_json::json!({
            "scenario": options.scenario,
            "runs": tally.runs,
            "seconds": seconds,
            "runs_per_second": rate,
            "virtual_seconds": tally.virtual_millis / 1_000,
            "virtual_per_real": faster,
            "events": tally.events,
            "messages": tally.messages,
            "broken": broken,
        });
        return print(&format!("{report}\n"));
    }
    let mut text = format!(
        "{} runs of {} in {seconds:.1} s: {rate:.0} runs a second, {} virtual hours ({faster:.0} times as fast as \
         real time), {} messages, {} events\n",
        tally.runs,
        options.scenario,
        tally.virtual_millis / 3_600_000,
        tally.messages,
        tally.events,
    );
    match &tally.broken {
        None => text += "every promise was kept\n",
        Some(broken) => {
            for (what, (count, seed)) in &tally.kinds {
                text += &format!("{count:>6} times, as with seed {seed}: {what}\n");
            }
            text += &last(&broken.story).join("\n");
            text += &format!("\n\nseed {}: {}\n", broken.seed, broken.violation);
            text += &format!(
                "the whole story: crosstalk-simulate --scenario {} --seed {} --story\n",
                options.scenario, broken.seed
            );
        }
    }
    print(&text)
}

fn last(story: &[String]) -> &[String] {
    &story[story.len().saturating_sub(LAST)..]
}

fn print(text: &str) -> Result<bool, String> {
    io::stdout().write_all(text.as_bytes()).map(|()| true).map_err(|why| why.to_string())
}

#[expect(clippy::disallowed_methods, reason = "how fast the simulation is, is measured in real time")]
fn now() -> Instant {
    Instant::now()
}

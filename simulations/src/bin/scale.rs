//! Owns `crosstalk-scale`: the overlay's table and mailboxes at sizes that no machine here can run, as a model.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use crosstalk_simulations::interrupt::{INTERRUPTED, Interrupt};
use crosstalk_simulations::progress;
use crosstalk_simulations::scale::{
    self, Assumed, Compared, Estimate, Figures, Replication, Sessions, Setting, Spread,
};

const HOUR: u64 = 3_600_000;

/// Models the overlay's hash table and mailboxes with many nodes that come and go, and says what look-ups cost, how often
/// they succeed, what each node has to do, and what that means for a billion users.
///
/// 100,000 nodes for two hours of virtual time take about a minute, a million 15 minutes and 5 GB. Ctrl-C ends it with the
/// figures of what was modelled until then; pressed twice, without.
#[derive(Parser)]
#[command(name = "crosstalk-scale", version)]
struct Options {
    /// Servers of the table that are here at a time, on average; several sizes are run one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000", value_parser = clap::value_parser!(u32).range(20..=4_000_000))]
    nodes: Vec<u32>,
    /// Hours of virtual time that are counted; a quarter more to settle goes before.
    #[arg(long, default_value_t = 2.0, value_parser = hours)]
    hours: f64,
    /// How long nodes stay.
    #[arg(long, value_enum, default_value_t = Stay::Published)]
    sessions: Stay,
    /// The share of its time that a node is here, instead of that of the sessions; 1: nobody ever leaves.
    #[arg(long, value_parser = availability)]
    availability: Option<f64>,
    /// Copies of a record, instead of those that the overlay makes.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=20))]
    copies: Option<u8>,
    /// Minutes after which a holder puts a record again that nobody has put since.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_440))]
    replicate: Option<u16>,
    /// Hours after which the owner of a record puts it again.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=720))]
    republish: Option<u16>,
    /// Model the crowds of real swarms that `simulations/test crowd` runs, and print both; no other sizes.
    #[arg(long, conflicts_with_all = ["nodes", "hours", "sessions", "availability", "copies", "replicate", "republish", "csv"])]
    calibrate: bool,
    /// Another seed is another run of the same kind, the same seed the same run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Users of the network for which the cost of a node is computed; needs two sizes.
    #[arg(long, default_value_t = 1e9)]
    users: f64,
    /// The figures as JSON.
    #[arg(long)]
    json: bool,
    /// Also writes the figures of each size into this file, comma separated.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stay {
    /// Half of the sessions end within two hours, as in the network of IPFS.
    Published,
    /// Half of the sessions end within half an hour; a node is here a fifth of its time.
    Lessons,
    /// Nobody ever leaves.
    Steady,
}

fn hours(text: &str) -> Result<f64, String> {
    let hours = text.parse().ok().filter(|hours| (0.1..=1_000.0).contains(hours));
    hours.ok_or_else(|| format!("{text:?} is no number of hours from 0.1 to 1000"))
}

fn availability(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.05..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share of time from 0.05 to 1"))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = Interrupt::listen().map_err(|why| format!("Ctrl-C cannot be listened to: {why}")).and_then(
        |interrupt| {
            if options.calibrate { calibrate(&options, &interrupt) } else { model(&options, &interrupt) }?;
            Ok(interrupt.is_asked())
        },
    );
    match done {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(INTERRUPTED),
        Err(why) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(io::stderr(), "crosstalk-scale: {why}");
            ExitCode::from(2)
        }
    }
}

fn model(options: &Options, interrupt: &Interrupt) -> Result<(), String> {
    let mut csv = options.csv.as_deref().map(Csv::create).transpose()?;
    let mut runs = Vec::new();
    for nodes in &options.nodes {
        let Some(figures) = run(setting(options, *nodes), interrupt) else { break };
        if let Some(csv) = &mut csv {
            csv.add(&figures)?;
        }
        if !options.json {
            print(&describe(&figures))?;
        }
        runs.push(figures);
        if interrupt.is_asked() {
            break;
        }
    }
    let line = scale::line(&runs, |run| &run.hops);
    let estimate = scale::estimate(&runs, Assumed::of(options.users));
    if options.json {
        let (base, slope, off) = line.unwrap_or_default();
        let line = line.map(|_| serde_json::json!({ "base": base, "per_doubling": slope, "off": off }));
        let stopped = interrupt.is_asked();
        return print(&format!(
            "{}\n",
            serde_json::json!({ "runs": runs, "hops": line, "estimate": estimate, "stopped": stopped })
        ));
    }
    if let Some((base, slope, off)) = line {
        print(&format!("hops = {base:.2} + {slope:.3} · log2(nodes), at most {:.1} % off\n", off * 100.0))?;
    }
    if interrupt.is_asked() {
        print("stopped: what stands above was computed until then\n")?;
    }
    estimate.map_or(Ok(()), |estimate| print(&foretell(&estimate)))
}

fn calibrate(options: &Options, interrupt: &Interrupt) -> Result<(), String> {
    let mut all: Vec<Compared> = Vec::new();
    for measured in scale::CROWDS {
        let setting = Setting { seed: options.seed, ..scale::calibrated(measured) };
        let Some(figures) = run(setting, interrupt).filter(|_| !interrupt.is_asked()) else { break };
        all.push(scale::compare(*measured, &figures));
    }
    if options.json {
        return print(&format!(
            "{}\n",
            serde_json::json!({ "crowds": all, "differences": scale::DIFFERENCES })
        ));
    }
    let row = |crowd: &Compared| {
        let Compared { measured, success, hops, asked } = crowd;
        format!(
            "{:>5} {:<6} {:>9.1} {:>9.1} {:>9} {:>9.2} {:>9.1} {:>9.1}   {}\n",
            measured.nodes,
            if measured.churn { "churn" } else { "calm" },
            measured.success * 100.0,
            success * 100.0,
            measured.hops.map_or_else(|| "-".to_owned(), |hops| format!("{hops:.2}")),
            hops,
            measured.asked,
            asked,
            measured.source,
        )
    };
    let head = "nodes        found, %     model  hops      model    nodes asked model\n";
    let rows: String = all.iter().map(row).collect();
    let differences: String = scale::DIFFERENCES.iter().map(|line| format!("- {line}\n")).collect();
    print(&format!("{head}{rows}\nWhat differs:\n{differences}"))
}

fn setting(options: &Options, nodes: u32) -> Setting {
    let kind = match options.sessions {
        Stay::Published => Sessions::PUBLISHED,
        Stay::Lessons => Sessions::LESSONS,
        Stay::Steady => Sessions::STEADY,
    };
    let sessions = Sessions { availability: options.availability.unwrap_or(kind.availability), ..kind };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand hours")]
    let lasts = (options.hours * HOUR as f64) as u64;
    let usual = Replication::default();
    let replication = Replication {
        copies: options.copies.map_or(usual.copies, usize::from),
        replicate: options.replicate.map_or(usual.replicate, |minutes| u64::from(minutes) * HOUR / 60),
        republish: options.republish.map_or(usual.republish, |hours| u64::from(hours) * HOUR),
    };
    Setting { seed: options.seed, replication, ..Setting::new(nodes, lasts, sessions) }
}

/// Nothing: it was stopped before anything was counted.
fn run(setting: Setting, interrupt: &Interrupt) -> Option<Figures> {
    let bar = progress::bar(1_000, &format!("{} nodes", setting.nodes));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a thousand")]
    let figures = scale::run(setting, |share| {
        bar.set_position((share * 1_000.0) as u64);
        if interrupt.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    figures
}

fn describe(run: &Figures) -> String {
    let spread = |spread: &Spread, digits: usize| {
        format!("{:.digits$} on average, {:.digits$} at the 99th percentile", spread.mean, spread.p99)
    };
    let seconds = |spread: &Spread| {
        format!(
            "{:.1} s for half, {:.1} s for all but one in a hundred",
            spread.median / 1e3,
            spread.p99 / 1e3
        )
    };
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let lines = [
        ("look-ups that found the record", format!("{} of {}", percent(run.success), run.lookups)),
        ("hops", spread(&run.hops, 2)),
        (
            "hops that the logarithm predicts",
            format!(
                "{:.2}; the model is {:+.1} % off",
                run.predicted_hops,
                (run.hops.mean / run.predicted_hops - 1.0) * 100.0
            ),
        ),
        ("nodes asked", spread(&run.asked, 1)),
        ("of them silent", spread(&run.silent, 1)),
        ("until the record is there", seconds(&run.first)),
        ("until all closest have answered", seconds(&run.whole)),
        ("table entries of nodes that are gone", percent(run.stale)),
        ("letters found at the first look", format!("{} of {}", percent(run.found_at_once), run.letters)),
        ("letters found within an hour", percent(run.found_in_an_hour)),
        ("copies of a record, here", spread(&run.record_copies, 1)),
        ("copies of a letter, here", spread(&run.letter_copies, 1)),
        (
            "questions a node answers in a minute",
            format!("{}, {:.2} at most", spread(&run.load, 2), run.load.max),
        ),
        (
            "questions in a node's busiest minute",
            format!("{}, {} at most", spread(&run.peak, 1), run.peak.max),
        ),
        ("bytes a second of a node, both ways", format!("{:.0} on average", run.bytes)),
        ("nodes in a routing table", spread(&run.entries, 1)),
        ("values at a node, one put by each", format!("{}, {} at most", spread(&run.held, 1), run.held.max)),
        ("questions an hour to keep a record", format!("{:.1}", run.record_upkeep)),
        ("questions an hour to keep a letter", format!("{:.1}", run.letter_upkeep)),
    ];
    let head = format!("{} nodes, {} of them here, {:.2} h\n", run.nodes, run.here, run.hours);
    lines.iter().fold(head, |text, (what, value)| text + &format!("  {what:<38}{value}\n")) + "\n"
}

fn foretell(estimate: &Estimate) -> String {
    let Assumed {
        users,
        online,
        servers,
        contacts_away,
        looks_per_contact,
        publications,
        mail_checks,
        letters,
        question,
        wakes,
        values,
        record,
        entry,
        ..
    } = estimate.assumed;
    let checked = estimate.checked.map_or(String::new(), |(hops, asked)| {
        format!(
            "; the lines through the smaller sizes miss the largest by {:+.1} % (hops) and {:+.1} % (nodes asked)",
            hops * 100.0,
            asked * 100.0
        )
    });
    format!(
        "\nWith {users:e} users, computed from these lines:\n  \
         a look-up takes {:.1} hops and asks {:.0} nodes\n  \
         a client asks {:.0} questions an hour: {:.0} bytes a second\n  \
         a server answers {:.0} an hour for others: {:.0} bytes a second with its own upkeep, {:.1} MB of disk\n  \
         it holds {:.0} values ({:.0} % of the bound of its store) and knows {:.0} nodes ({:.0} kB of memory)\n  \
         the table wakes a client {:.2} times a second, a server {:.2} times\n  \
         the logarithm alone, computed and not fitted, says {:.1} hops{}\n\
         Assumed: {:.0} % of the users online, {:.1} % of all nodes are servers; {contacts_away} contacts away, each looked for \
         {looks_per_contact:.2} times an hour; {publications} publications of presence, {mail_checks} looks for mail and {letters} \
         letters an hour; {question} bytes for a question with its connection, {wakes} wake-ups at either end; {values} values of \
         a user, {record} bytes each; {entry} bytes for a node in the routing table.\n",
        estimate.hops,
        estimate.asked,
        estimate.asks,
        estimate.client_bytes,
        estimate.answers,
        estimate.server_bytes,
        estimate.disk / 1e6,
        estimate.held,
        estimate.held_share * 100.0,
        estimate.entries,
        estimate.table_bytes / 1e3,
        estimate.client_wakes,
        estimate.server_wakes,
        estimate.predicted_hops,
        checked,
        online * 100.0,
        servers * 100.0,
    )
}

/// One line for each size; what was computed is in the file at once.
struct Csv {
    file: File,
    path: PathBuf,
}

impl Csv {
    fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|why| format!("{}: {why}", path.display()))?;
        let mut csv = Self { file, path: path.to_owned() };
        let (names, _) = columns(&Figures::default());
        csv.write(&names)?;
        Ok(csv)
    }

    fn add(&mut self, run: &Figures) -> Result<(), String> {
        self.write(&columns(run).1)
    }

    fn write(&mut self, cells: &[String]) -> Result<(), String> {
        let line = cells.join(",") + "\n";
        self.file.write_all(line.as_bytes()).map_err(|why| format!("{}: {why}", self.path.display()))
    }
}

/// Names and values of all figures; those of a spread side by side.
fn columns(run: &Figures) -> (Vec<String>, Vec<String>) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(run) else { return Default::default() };
    let mut columns = (Vec::new(), Vec::new());
    for (name, value) in fields {
        match value {
            serde_json::Value::Object(parts) => {
                for (part, value) in parts {
                    columns.0.push(format!("{name}_{part}"));
                    columns.1.push(value.to_string());
                }
            }
            // A curve is no column.
            serde_json::Value::Array(_) => {}
            value => {
                columns.0.push(name);
                columns.1.push(value.to_string());
            }
        }
    }
    columns
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|why| why.to_string())
}

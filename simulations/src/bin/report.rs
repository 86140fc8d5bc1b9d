//! Owns `crosstalk-report`: computes the chapters of the report and writes it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crosstalk_simulations::interrupt::{INTERRUPTED, Interrupt};
use crosstalk_simulations::report;

/// Runs scenarios and models for a while, and writes tables (CSV), plots (SVG) and a page (index.html) for people.
///
/// Ctrl-C ends it with what was computed until then; pressed twice, at once.
#[derive(Parser)]
#[command(name = "crosstalk-report", version)]
struct Options {
    /// How long it may take; what takes longer is left out, and the page says so.
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
    /// The folder that it is written to; files of the same names there are replaced.
    #[arg(long, value_name = "FOLDER", default_value = "target/report")]
    into: PathBuf,
    /// Where `simulations/bench/side-by-side --paper` and `simulations/bench/crowd` have written their figures; they are shown beside
    /// the others. What is not there is left out, and the page says how to measure it.
    #[arg(long, value_name = "FOLDER", default_value = "target/measured")]
    measured: PathBuf,
    /// Only these chapters.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    chapters: Vec<String>,
    /// Name the chapters and end.
    #[arg(long)]
    list: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.05..=1_440.0).contains(minutes));
    minutes.ok_or_else(|| format!("{text:?} is no number of minutes from 0.05 to 1440"))
}

fn main() -> ExitCode {
    let options = Options::parse();
    match if options.list { list() } else { write(&options) } {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(INTERRUPTED),
        Err(why) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(io::stderr(), "crosstalk-report: {why}");
            ExitCode::from(2)
        }
    }
}

fn list() -> Result<bool, String> {
    let line = |source: &report::Source| format!("{}: {}\n", source.name, source.about);
    print(&report::ALL.iter().map(line).collect::<String>())?;
    Ok(false)
}

/// True: somebody ended it.
fn write(options: &Options) -> Result<bool, String> {
    let sources = report::chosen(&options.chapters).map_err(|why| why.to_string())?;
    let interrupt = Interrupt::listen().map_err(|why| format!("Ctrl-C cannot be listened to: {why}"))?;
    // A panic in a scenario is a broken promise like any other, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    let page = report::write(&sources, time, &options.into, &options.measured, &interrupt);
    let page = page.map_err(|why| why.to_string())?;
    print(&format!("{}\n", page.display()))?;
    Ok(interrupt.is_asked())
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|why| format!("standard output: {why}"))
}

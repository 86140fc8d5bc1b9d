//! Owns the report: chapters with tables and plots, written as CSV, SVG and one HTML page that needs nothing else.
//!
//! | file | owns |
//! | --- | --- |
//! | `chapters` | [`ALL`]: what is reported, a file for each chapter |
//! | `chapter` | what a chapter is made of |
//! | `plot` | plots as SVG |
//! | `page` | the page |
//! | `pace` | how much time a chapter has, whether somebody wants the end, what chapters share |
//! | `lived` | measured runs of scenarios, which several chapters read |
//!
//! To add a chapter: a file in `report/chapters` with a function that fills a [`Chapter`] within the time of its [`Pace`],
//! and a line in [`ALL`]. What it has computed until it is told to end is written like what is whole.

mod chapter;
mod chapters;
mod lived;
mod pace;
mod page;
mod plot;

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use chapter::{Chapter, Published, Table};
pub use chapters::ALL;
pub use lived::{Lived, Runs};
pub use pace::Pace;
use pace::Shared;
pub use plot::{Axis, Line, Plot, Shape};

use crate::interrupt::Interrupt;
use crate::progress;

/// A chapter that can be reported.
pub struct Source {
    /// Its name: on the command line, and of its files.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// How much of the time it gets, as a share of the sum of all that are reported.
    pub weight: u32,
    /// Computes it.
    pub fill: fn(&mut Chapter, &Pace<'_>),
}

/// Why there is no report, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No chapter has this name.
    #[error("there is no chapter {0}: --list names those that are")]
    Unknown(String),
    /// A file of the report could not be written.
    #[error("{}: {why}; what was written before stands in {}", .path.display(), .folder.display())]
    Unwritten {
        /// Which.
        path: PathBuf,
        /// In which folder the others are.
        folder: PathBuf,
        /// Why.
        why: io::Error,
    },
}

/// The chapters of these names, or all.
///
/// # Errors
/// [`Error::Unknown`].
pub fn chosen(names: &[String]) -> Result<Vec<&'static Source>, Error> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let find = |name: &String| ALL.iter().find(|source| source.name == *name);
    names.iter().map(|name| find(name).ok_or_else(|| Error::Unknown(name.clone()))).collect()
}

/// Computes these chapters within about this time, and writes each as soon as it is there. The path of the page. Figures of
/// real programs are read in the folder `measured`, where there are any.
///
/// # Errors
/// [`Error::Unwritten`].
pub fn write(
    sources: &[&Source],
    time: Duration,
    folder: &Path,
    measured: &Path,
    interrupt: &Interrupt,
) -> Result<PathBuf, Error> {
    let page = folder.join("index.html");
    let unwritten = |path: &Path| {
        let (path, folder) = (path.to_owned(), folder.to_owned());
        move |why| Error::Unwritten { path, folder, why }
    };
    fs::create_dir_all(folder).map_err(unwritten(folder))?;
    let shared = Shared {
        begin: now(),
        time,
        bar: progress::bar(1_000, "report"),
        interrupt: interrupt.clone(),
        measured: measured.to_owned(),
        lived: OnceCell::new(),
    };
    let mut chapters: Vec<Chapter> = Vec::new();
    let mut weights: u32 = sources.iter().map(|source| source.weight).sum();
    for source in sources {
        if interrupt.is_asked() {
            break;
        }
        let left = time.saturating_sub(shared.begin.elapsed());
        let share = left * source.weight / weights.max(1);
        weights = weights.saturating_sub(source.weight);
        shared.bar.set_message(source.name);
        let mut chapter = Chapter::new(source.name);
        (source.fill)(&mut chapter, &Pace::new(share, &shared));
        for (name, content) in chapter.files() {
            let path = folder.join(name);
            fs::write(&path, content).map_err(unwritten(&path))?;
        }
        chapters.push(chapter);
        // The page before stays whole if there is no room for this one.
        let next = folder.join("index.html.new");
        fs::write(&next, page::page(&chapters, &made(time), interrupt.is_asked()))
            .map_err(unwritten(&next))?;
        fs::rename(&next, &page).map_err(unwritten(&page))?;
    }
    shared.bar.finish_and_clear();
    Ok(page)
}

/// How long it was allowed to take, and on what.
fn made(time: Duration) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("of an unknown kind", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("within {:.1} minutes on {count} processors, {model}", time.as_secs_f64() / 60.0)
}

#[expect(clippy::disallowed_methods, reason = "a report is to be there within real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

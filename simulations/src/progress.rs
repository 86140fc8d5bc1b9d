//! Progress bars on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for so many steps of something.
pub fn bar(steps: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent} %, {elapsed}, {eta} left").ok();
    let bar = ProgressBar::new(steps).with_message(what.to_owned());
    style.map_or(bar.clone(), |style| bar.with_style(style.progress_chars("#>.")))
}

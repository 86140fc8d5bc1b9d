//! Logs: on stderr, levels by consequence, filter from CROSSTALK_LOG or the settings.
//!
//! Error: something was lost or the node stops. Warn: somebody should do something. Info: a change that the person
//! who runs the node cares about. Debug and below: for developers, with whole addresses. Bodies and keys never:
//! ids shorten themselves when shown, and stanzas, frames and keys have no readable `Debug`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Filter unless the settings or CROSSTALK_LOG say otherwise.
pub const DEFAULT_FILTER: &str = "warn,crosstalk=info";

/// Environment variable with a filter.
pub const VARIABLE: &str = "CROSSTALK_LOG";

/// Parses a filter such as `warn,crosstalk=debug`.
///
/// # Errors
/// When a directive is not understood.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// Starts logging, once per process; later calls change nothing.
///
/// A wrong CROSSTALK_LOG falls back to `settings` and says so.
pub fn start(settings: &str) {
    let wish = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (filter, complaint) = match wish.as_deref().map(filter) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (fallback(settings), Some(error)),
        None => (fallback(settings), None),
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
    if let (Ok(()), Some(error)) = (started, complaint) {
        tracing::warn!("{VARIABLE} is not used: {error}");
    }
}

fn fallback(settings: &str) -> EnvFilter {
    filter(settings).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(filter(DEFAULT_FILTER).is_ok());
        assert!(filter("warn,crosstalk=debug").is_ok());
        assert!(filter("crosstalk=loud").is_err());
    }
}

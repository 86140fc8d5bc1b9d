//! Catches what the code under test logs as an error: in a simulation nothing may.

use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

thread_local! {
    static LOGGED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The first error that was logged on this thread since the last call.
pub(crate) fn logged_error() -> Option<String> {
    LOGGED.with(|logged| logged.borrow_mut().take())
}

/// Runs `work` with all logged errors caught.
pub(crate) fn catching<T>(work: impl FnOnce() -> T) -> T {
    static CATCHER: OnceLock<Dispatch> = OnceLock::new();
    let catcher = CATCHER.get_or_init(|| Dispatch::new(Catcher));
    tracing::dispatcher::with_default(catcher, work)
}

struct Catcher;

impl Subscriber for Catcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        LOGGED.with(|logged| {
            let _ = logged.borrow_mut().get_or_insert(text.0);
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let _ = write!(self.0, " {field}={value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_caught_and_warnings_are_not() {
        catching(|| {
            tracing::warn!("only a warning");
            assert_eq!(logged_error(), None);
            tracing::error!(code = 7, "broken");
            assert!(logged_error().is_some_and(|text| text.contains("broken") && text.contains("code=7")));
            assert_eq!(logged_error(), None);
        });
    }
}

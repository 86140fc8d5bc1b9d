//! What tells a running node to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::failure::Failure;

/// Ctrl-C, `kill`, and the end of the terminal.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn install() -> Result<Self, Failure> {
        let install = |kind| signal(kind).map_err(Failure::system("listen to signals"));
        Ok(Self([
            install(SignalKind::interrupt())?,
            install(SignalKind::terminate())?,
            install(SignalKind::hangup())?,
        ]))
    }

    pub(super) async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

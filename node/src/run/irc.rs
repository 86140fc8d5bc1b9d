//! The face for IRC as the settings want it.

use super::ports;
use crate::c2s::FrontDoor;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::irc::{self, Face, Settings};

/// Opens it, unless it is off.
///
/// # Errors
/// When a port is in use or not for us.
pub(super) async fn open(config: &Config, door: &FrontDoor) -> Result<Option<Face>, Failure> {
    let settings = Settings {
        listen: ports::usable(&config.irc.listen, "`listen` in [irc]")?,
        tls: ports::usable(&config.irc.tls, "`tls` in [irc]")?,
    };
    if settings.listen.is_empty() && settings.tls.is_empty() {
        return Ok(None);
    }
    irc::open(&settings, door).await.map(Some).map_err(Failure::system("open the ports of [irc]"))
}

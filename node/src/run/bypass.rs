//! The bypass gateway as the settings want it.

use super::ports;
use crate::bypass::{self, Bypass, Limits, Settings};
use crate::cli::failure::Failure;
use crate::config::Config;

/// Opens it, unless it is off.
///
/// # Errors
/// When a port is in use or not for us.
pub(super) async fn open(config: &Config) -> Result<Option<Bypass>, Failure> {
    let listen = ports::usable(&config.bypass.listen, "`listen` in [bypass]")?;
    if listen.is_empty() {
        return Ok(None);
    }
    let destinations = config.bypass_destinations()?;
    let limits = Limits { connections: config.bypass.max_connections, ..Limits::default() };
    let settings = Settings { listen, destinations, limits };
    bypass::open(settings).await.map(Some).map_err(Failure::system("open the ports of [bypass]"))
}

//! The bypass gateway as the settings want it.

use std::path::Path;

use super::ports;
use crate::bypass::tls::Tls;
use crate::bypass::{self, Bypass, Limits, Settings};
use crate::cli::failure::Failure;
use crate::config::Config;

/// Opens it, unless it is off.
///
/// # Errors
/// When a port is in use or not for us, or when there is no TLS for the accounts that are listed.
pub(super) async fn open(config: &Config, data: &Path) -> Result<Option<Bypass>, Failure> {
    let listen = ports::usable(&config.bypass.listen, "`listen` in [bypass]")?;
    if listen.is_empty() {
        return Ok(None);
    }
    let destinations = config.bypass_destinations()?;
    let accounts = config.bypass_accounts()?;
    let accounts = if accounts.is_empty() {
        None
    } else {
        let ca_file = config.bypass.ca_file.as_deref();
        let tls = Tls::load(data, &accounts, ca_file)?;
        Some((accounts, tls))
    };
    let limits = Limits { connections: config.bypass.max_connections, ..Limits::default() };
    let settings = Settings { listen, destinations, accounts, limits };
    bypass::open(settings).await.map(Some).map_err(Failure::system("open the ports of [bypass]"))
}

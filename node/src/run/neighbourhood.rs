//! How the link is opened by the settings, and what the core is told of it.

use crosstalk_link_local::mdns::P2pService;
use crosstalk_overlay::keys::NodeKey;
use crosstalk_overlay::swarm;

use crate::accounts::{AccountError, random};
use crate::admin::service::ServiceError;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::core::settings::{LinkMode, Settings};
use crate::event_loop::clock::Clock;
use crate::link::{self, Opened};

/// Opens the link; `None` when there is nothing to do on it.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn open(config: &Config, node: &NodeKey, clock: Clock) -> Result<Option<Opened>, Failure> {
    let findable = config.overlay.mdns && config.overlay.port != 0;
    let p2p = || Some(P2pService { peer_id: swarm::peer_id(&node.id())?, tcp_port: config.overlay.port });
    let settings = link::Settings {
        mode: config.link.mode,
        port: config.link.port,
        machine: machine(config),
        seed: random::bytes().map_err(AccountError::from).map_err(ServiceError::from)?,
        p2p: findable.then(p2p).flatten(),
    };
    Ok(link::open(settings, clock))
}

/// Tells the core what there is of the link. Without a port for their streams nobody is announced.
pub(super) fn tell(settings: &mut Settings, config: &Config, opened: Option<&Opened>) {
    settings.machine = machine(config);
    settings.link_port = opened.and_then(Opened::port);
    settings.link_mode = match config.link.mode {
        LinkMode::Announce if settings.link_port.is_none() => LinkMode::Listen,
        mode => mode,
    };
}

/// What multicast DNS says of other nodes is for the swarm.
pub(super) fn hints(swarm: &swarm::Handle) -> impl Fn(Vec<String>, String) + Send + use<> {
    let commands = swarm.commands();
    move |dnsaddrs, interface| commands.sighted(dnsaddrs, interface)
}

/// The machine's name as it is set, or else the first label of its host name.
fn machine(config: &Config) -> String {
    if !config.link.machine.is_empty() {
        return config.link.machine.clone();
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    name.split('.').next().filter(|label| !label.is_empty()).unwrap_or("host").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_port_nobody_is_announced() {
        let (mut settings, mut config) = (Settings::default(), Config::default());
        tell(&mut settings, &config, None);
        assert_eq!((settings.link_mode, settings.link_port), (LinkMode::Listen, None));
        config.link.mode = LinkMode::Off;
        tell(&mut settings, &config, None);
        assert_eq!(settings.link_mode, LinkMode::Off);
    }

    #[test]
    fn the_machine_has_the_name_that_is_set() {
        let mut config = Config::default();
        let host = machine(&config);
        assert!(!host.is_empty() && !host.contains('.'), "{host}");
        config.link.machine = "kitchen.pc".to_owned();
        assert_eq!(machine(&config), "kitchen.pc");
    }
}

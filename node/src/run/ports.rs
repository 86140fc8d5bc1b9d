//! Ports, tried before anything starts: who starts a second node wants to hear it at once, and what to change.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::cli::failure::Failure;
use crate::config::Config;

/// Those of the addresses that this machine has. One that it lacks, as with IPv6 switched off, is left out.
///
/// # Errors
/// When a port is in use or not for us, or none of the addresses is there.
pub(super) fn usable(addresses: &[SocketAddr], setting: &'static str) -> Result<Vec<SocketAddr>, Failure> {
    let mut usable = Vec::new();
    let mut missing = None;
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(_) => usable.push(*address),
            Err(error) => {
                missing = Some(judge(*address, error, setting)?);
            }
        }
    }
    match missing {
        Some(failure) if usable.is_empty() => Err(failure),
        Some(_) | None => Ok(usable),
    }
}

/// Tries the overlay's port on all its addresses; the swarm tells of one in use only later and in passing.
///
/// # Errors
/// When it is in use or not for us.
pub(super) fn check_overlay(config: &Config) -> Result<(), Failure> {
    let overlay = &config.overlay;
    let addresses: Vec<SocketAddr> =
        overlay.listen.iter().map(|ip| SocketAddr::new(*ip, overlay.port)).collect();
    let usable = usable(&addresses, SETTING)?;
    for address in usable.into_iter().filter(|_| overlay.quic) {
        if let Err(error) = UdpSocket::bind(address) {
            judge(address, error, SETTING)?;
        }
    }
    Ok(())
}

/// The ports for figures.
///
/// # Errors
/// When one is in use or not for us.
pub(super) fn metrics(config: &Config) -> Result<Vec<SocketAddr>, Failure> {
    usable(&config.metrics.listen, "`listen` in [metrics]")
}

const SETTING: &str = "`port` in [overlay]";

/// A failure that ends the start, or one (`Ok`) that only makes the address useless.
fn judge(address: SocketAddr, source: io::Error, setting: &'static str) -> Result<Failure, Failure> {
    let (ends, remedy) = if source.kind() == io::ErrorKind::AddrInUse {
        (true, "stop the program that uses it (another node?), or change")
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        (true, "choose a port of 1024 or above for")
    } else {
        (false, "change")
    };
    let failure = Failure::Listen { address, source, remedy, setting };
    if ends { Err(failure) } else { Ok(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_setting() {
        let used = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = used.local_addr().expect("address");
        let text = usable(&[address], "`listen` in [xmpp]").expect_err("in use").to_string();
        assert!(text.contains(&address.to_string()) && text.contains("`listen` in [xmpp]"), "{text}");
    }

    #[test]
    fn an_address_of_another_machine_is_left_out_unless_it_is_the_only_one() {
        let (here, elsewhere) =
            (SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([192, 0, 2, 1], 0)));
        assert_eq!(usable(&[here, elsewhere], "x").expect("one is there"), [here]);
        assert!(usable(&[elsewhere], "x").is_err());
    }
}

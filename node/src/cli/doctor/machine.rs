//! What `doctor` looks at on the machine: directory, disk, ports, interfaces, multicast DNS.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

use super::Finding;
use crate::cli::output;
use crate::config::Config;
use crate::config::settings::Link;
use crate::core::settings::LinkMode;
use crate::link::LinkReport;
use crate::link::listener::TRIED;

/// Free space below this is trouble soon, bytes.
const SCARCE: u64 = 200 << 20;
/// Free space below this is trouble now, bytes.
const NONE: u64 = 16 << 20;
/// The port of multicast DNS (RFC 6762 §3).
const MDNS: u16 = 5353;
/// Interface flags, as in `netdevice(7)`.
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
const MULTICAST: u32 = 0x1000;

pub(super) fn data_dir(data: &Path) -> Finding {
    let shown = data.display();
    match fs::metadata(data) {
        Ok(meta) if !meta.is_dir() => {
            Finding::fail("data", format!("{shown} is no directory: name another with --data"))
        }
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            Finding::warn("data", format!("others may look into {shown}: run `chmod 700 {shown}`"))
        }
        Ok(_) => Finding::ok("data", format!("{shown}, {} on disk", output::bytes(size(data, 4)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::warn("data", format!("{shown} is not there yet"))
        }
        Err(error) => Finding::fail("data", format!("{shown} cannot be read: {error}")),
    }
}

/// Bytes of the files below a directory, so many levels deep.
fn size(dir: &Path, levels: u32) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| match meta.is_dir() {
            true if levels > 0 => size(&path, levels - 1),
            _ => meta.len(),
        })
        .sum()
}

pub(super) fn disk_space(data: &Path) -> Finding {
    let there = data.ancestors().find(|path| path.exists()).unwrap_or(data);
    match rustix::fs::statvfs(there) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{} free", output::bytes(free));
            match free {
                0..NONE => Finding::fail("disk", text + ": make room, or nothing can be saved"),
                NONE..SCARCE => Finding::warn("disk", text + ": make room soon"),
                _ => Finding::ok("disk", text),
            }
        }
        Err(error) => Finding::warn("disk", format!("free space is not known: {error}")),
    }
}

/// Whether the ports answer (of a running node) or are free (for one that is to run).
pub(super) fn ports(config: &Config, runs: bool) -> Vec<Finding> {
    let overlay = config.overlay.listen.iter().map(|ip| SocketAddr::new(*ip, config.overlay.port));
    let chat = config.xmpp.listen.iter().chain(&config.xmpp.direct_tls).copied();
    let mut findings: Vec<Finding> = chat
        .chain(overlay)
        .filter(|address| address.port() != 0)
        .map(|address| if runs { answers(address) } else { is_free(address) })
        .collect();
    if config.xmpp_is_open() {
        let text = "chat programs on other machines can connect: they must use TLS, and anybody there can try passwords";
        findings.push(Finding::warn("ports", text));
    }
    findings
}

fn answers(address: SocketAddr) -> Finding {
    let target = match address {
        _ if !address.ip().is_unspecified() => address,
        SocketAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        SocketAddr::V6(_) => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], address.port())),
    };
    match TcpStream::connect_timeout(&target, Duration::from_secs(2)) {
        Ok(_) => Finding::ok("ports", format!("{address} answers")),
        Err(_) if address.is_ipv6() => {
            Finding::warn("ports", format!("{address} does not answer: is IPv6 switched off?"))
        }
        Err(error) => Finding::fail(
            "ports",
            format!("{address} does not answer ({error}): restart the node, see its log"),
        ),
    }
}

fn is_free(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("ports", format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::fail(
            "ports",
            format!(
                "{address} is used by another program: stop it (`ss -ltnp` shows it), or set another port"
            ),
        ),
        Err(error) => Finding::warn("ports", format!("{address} cannot be used: {error}")),
    }
}

/// Interfaces that are up and can do multicast, from a directory laid out like `/sys/class/net`.
pub(super) fn interfaces(sys: &Path) -> Finding {
    let mut names: Vec<String> = fs::read_dir(sys)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_usable(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    match names.is_empty() {
        true => {
            Finding::warn("interfaces", "no network with multicast is up: plug in a cable or join a Wi-Fi")
        }
        false => Finding::ok("interfaces", names.join(", ")),
    }
}

fn is_usable(interface: &Path) -> bool {
    let read = |file: &str| fs::read_to_string(interface.join(file)).unwrap_or_default();
    let flags = u32::from_str_radix(read("flags").trim().trim_start_matches("0x"), 16).unwrap_or(0);
    flags & (UP | MULTICAST) == UP | MULTICAST && flags & LOOPBACK == 0 && read("operstate").trim() != "down"
}

/// Multicast DNS shares its port with the system's responder; some programs do not share.
pub(super) fn mdns(wanted: bool) -> Finding {
    if !wanted {
        return Finding::warn("mdns", "switched off: nodes on this network are not found by themselves");
    }
    let shared = |family, any: SocketAddr| -> rustix::io::Result<()> {
        let udp = socket(family, SocketType::DGRAM, None)?;
        if any.is_ipv6() {
            sockopt::set_ipv6_v6only(&udp, true)?;
        }
        sockopt::set_socket_reuseaddr(&udp, true)?;
        sockopt::set_socket_reuseport(&udp, true)?;
        bind(&udp, &any)
    };
    let v4 = || shared(AddressFamily::INET, (Ipv4Addr::UNSPECIFIED, MDNS).into());
    let v6 = || match shared(AddressFamily::INET6, (Ipv6Addr::UNSPECIFIED, MDNS).into()) {
        // IPv6 is switched off.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(()),
        shared => shared,
    };
    match v4().and_then(|()| v6()) {
        Ok(()) => Finding::ok("mdns", "UDP port 5353 can be shared"),
        Err(error) => Finding::fail(
            "mdns",
            format!(
                "UDP port 5353 cannot be shared ({error}): stop the program that keeps it to itself (`ss -lunp`)"
            ),
        ),
    }
}

/// Where Bonjour programs reach people here: of a running node as it says, else as it would find it.
pub(super) fn link(link: &Link, runs: bool, report: Option<&LinkReport>) -> Finding {
    let last = link.port.saturating_add(TRIED - 1);
    let port = match (link.mode, report) {
        (LinkMode::Off, _) => return Finding::ok("link", "Bonjour chat programs (XEP-0174) are left alone"),
        (LinkMode::Listen, _) => {
            return Finding::ok("link", "Bonjour people are shown, nobody here is announced");
        }
        (LinkMode::Announce, Some(report)) => report.port,
        (LinkMode::Announce, None) if runs => {
            return Finding::warn("link", "the node does not say how it fares");
        }
        (LinkMode::Announce, None) => (link.port..=last).find(|port| {
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).is_ok()
                || TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()
        }),
    };
    match port {
        None => Finding::fail(
            "link",
            format!(
                "TCP ports {} to {last} are all taken, so nobody here is announced: set `port` in [link]",
                link.port
            ),
        ),
        Some(port) if port != link.port => Finding::ok(
            "link",
            format!("TCP port {} is taken by another program, {port} serves as well", link.port),
        ),
        Some(port) => {
            Finding::ok("link", format!("Bonjour chat programs reach people here at TCP port {port}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(findings: &[Finding]) -> Vec<super::super::Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_used_port_is_found() {
        use super::super::Level;
        let used = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = used.local_addr().expect("address");
        assert_eq!(levels(&[is_free(address), answers(address)]), [Level::Fail, Level::Ok]);
        drop(used);
        assert_eq!(levels(&[is_free(address), answers(address)]), [Level::Ok, Level::Fail]);
    }

    #[test]
    fn a_link_without_a_port_is_a_failure() {
        use super::super::Level;
        let settings = Link::default();
        let of = |port| link(&settings, true, Some(&LinkReport { port, ..LinkReport::default() }));
        assert_eq!(levels(&[of(None), of(Some(5298)), of(Some(5301))]), [Level::Fail, Level::Ok, Level::Ok]);
        assert!(of(Some(5301)).text.contains("5301"));
        let off = Link { mode: LinkMode::Off, ..settings.clone() };
        assert_eq!(levels(&[link(&off, true, None)]), [Level::Ok]);
    }

    #[test]
    fn only_interfaces_that_are_up_count() {
        let sys = tempfile::tempdir().expect("dir");
        let make = |name: &str, flags: &str, state: &str| {
            let dir = sys.path().join(name);
            fs::create_dir(&dir).expect("made");
            fs::write(dir.join("flags"), flags).expect("written");
            fs::write(dir.join("operstate"), state).expect("written");
        };
        make("lo", "0x9\n", "unknown\n");
        make("eth0", "0x1003\n", "down\n");
        make("tun0", "0x10d1\n", "unknown\n");
        assert_eq!(interfaces(sys.path()).text, "tun0");
        make("wlan0", "0x1003\n", "up\n");
        assert_eq!(interfaces(sys.path()).text, "tun0, wlan0");
    }

    #[test]
    fn an_open_directory_is_a_warning() {
        use super::super::Level;
        let dir = tempfile::tempdir().expect("dir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(data_dir(dir.path()).level, Level::Warn);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        assert_eq!(data_dir(dir.path()).level, Level::Ok);
        assert_eq!(data_dir(&dir.path().join("none")).level, Level::Warn);
    }
}

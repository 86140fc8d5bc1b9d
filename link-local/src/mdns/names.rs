//! The names of DNS-SD: services, instances, hosts (RFC 6763 §4, *pure*).

use std::sync::LazyLock;

use hickory_proto::rr::Name;

use crate::clean::cut;
use crate::instance::Instance;

/// `_presence._tcp.local`: XEP-0174.
pub(super) static PRESENCE: LazyLock<Name> = LazyLock::new(|| name(&[b"_presence", b"_tcp", b"local"]));
/// `_p2p._udp.local`: libp2p.
pub(super) static P2P: LazyLock<Name> = LazyLock::new(|| name(&[b"_p2p", b"_udp", b"local"]));
/// `_services._dns-sd._udp.local`: which services there are (RFC 6763 §9).
pub(super) static SERVICES: LazyLock<Name> =
    LazyLock::new(|| name(&[b"_services", b"_dns-sd", b"_udp", b"local"]));

/// Most bytes of the machine's name in the host name; a number may follow.
const MAX_HOST: usize = 50;

/// A name of raw labels. Labels that are too long make the root, which nobody asks for.
fn name(labels: &[&[u8]]) -> Name {
    Name::from_labels(labels.iter().copied()).unwrap_or_else(|_| Name::root())
}

/// `<instance>._presence._tcp.local`.
pub(super) fn of_instance(instance: &Instance) -> Name {
    name(&[instance.as_str().as_bytes(), b"_presence", b"_tcp", b"local"])
}

/// The instance of a name, if it is one below `_presence._tcp.local` and valid.
pub(super) fn instance(name: &Name) -> Option<Instance> {
    let is_below = name.num_labels() == 4 && name.trim_to(3) == *PRESENCE;
    Instance::from_label(name.iter().next().filter(|_| is_below)?).ok()
}

/// `<label>._p2p._udp.local`.
pub(super) fn of_p2p(label: &str) -> Name {
    name(&[label.as_bytes(), b"_p2p", b"_udp", b"local"])
}

/// `<machine>-ct.local`, `<machine>-ct-2.local` … A name of our own: avahi on this machine has `<machine>.local`, with
/// a set of addresses that need not be ours, and two sets for one unique name are a conflict (RFC 6762 §9).
pub(super) fn of_host(machine: &str, attempt: u32) -> Name {
    let plain: String =
        machine.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    let plain = cut(plain.trim_matches('-'), MAX_HOST);
    let plain = if plain.is_empty() { "host" } else { plain };
    let label = if attempt < 2 { format!("{plain}-ct") } else { format!("{plain}-ct-{attempt}") };
    name(&[label.as_bytes(), b"local"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_raw_labels() {
        for text in ["anna@h1", "Dr. Jörg Müller.x@büro 3", "🤖@r2.d2", &"ä".repeat(31)] {
            let wanted = Instance::new(text).unwrap();
            let name = of_instance(&wanted);
            assert_eq!(name.num_labels(), 4, "{text}");
            assert_eq!(instance(&name), Some(wanted));
        }
        assert_eq!(instance(&PRESENCE), None);
        assert_eq!(instance(&of_p2p("x")), None);
    }

    #[test]
    fn hosts_have_a_name_of_their_own() {
        assert_eq!(of_host("laptop", 1), name(&[b"laptop-ct", b"local"]));
        assert_eq!(of_host("my lap.top", 3), name(&[b"my-lap-top-ct-3", b"local"]));
        assert_eq!(of_host("", 1), name(&[b"host-ct", b"local"]));
        assert_eq!(of_host(&"x".repeat(200), 70_000).num_labels(), 2);
    }
}

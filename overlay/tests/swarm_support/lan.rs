//! Hosts in network namespaces of our own, joined by a switch. Needs root and `ip`.

use std::os::fd::AsFd;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU32, Ordering};

pub fn ip(arguments: &str) -> bool {
    Process::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// A switch with hosts on cables: each host is a namespace with `eth0`.
pub struct Lan {
    switch: String,
    pub hosts: Vec<String>,
}

impl Lan {
    /// `None`, loudly, where that is not possible.
    pub fn new(hosts: usize) -> Option<Lan> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ctsw{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hosts = (0..hosts).map(|host| format!("{name}h{host}")).collect();
        let lan = Lan { switch: format!("{name}s"), hosts };
        let switch = &lan.switch;
        let mut fine = ip(&format!("netns add {switch}"))
            && ip(&format!("-n {switch} link add br0 type bridge forward_delay 0 mcast_snooping 0"))
            && ip(&format!("-n {switch} link set br0 up"));
        for (number, host) in lan.hosts.iter().enumerate() {
            fine = fine
                && ip(&format!("netns add {host}"))
                && ip(&format!("-n {host} link set lo up"))
                && lan.plug(number, "eth0", &format!("p{number}"))
                && ip(&format!("-n {host} addr add 10.99.0.{}/24 dev eth0", number + 1))
                && ip(&format!("-n {host} link set eth0 up"));
        }
        if fine {
            return Some(lan);
        }
        let message = "needs root, `ip` and network namespaces";
        assert!(std::env::var_os("CROSSTALK_REQUIRE_ALL").is_none_or(|value| value != "1"), "{message}");
        eprintln!("SKIPPED: {message}");
        None
    }

    /// One more cable, from `interface` of a host to `port` of the switch; the host's end is still down.
    pub fn plug(&self, host: usize, interface: &str, port: &str) -> bool {
        let (switch, host) = (&self.switch, &self.hosts[host]);
        ip(&format!("-n {host} link add {interface} type veth peer name {port} netns {switch}"))
            && ip(&format!("-n {switch} link set {port} master br0 up"))
    }

    /// Pulls the cable of a host out of the switch, or puts it back.
    pub fn cable(&self, host: usize, state: &str) {
        assert!(ip(&format!("-n {} link set p{host} {state}", self.switch)));
    }

    /// `ip` on a host.
    pub fn host(&self, host: usize, command: &str) {
        assert!(ip(&format!("-n {} {command}", self.hosts[host])), "{command}");
    }

    /// Takes the calling thread to a host, for good.
    pub fn enter(name: &str) {
        let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            ip(&format!("netns del {name}"));
        }
    }
}

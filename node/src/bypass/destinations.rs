//! Where chat programs may be connected: the list of the settings, and what a name may lead to. *Pure.*

use std::net::{IpAddr, SocketAddr};

use crosstalk_overlay::swarm::Networks;

use super::base::Protocol;
use super::socks::{Host, Target};

/// Most entries of the list.
pub const MOST: usize = 64;

/// A destination of the list: `NETWORK://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What is spoken there; nothing where the list leaves it open.
    pub protocol: Option<Protocol>,
    /// Where.
    pub target: Target,
}

impl Listed {
    /// Reads an entry of the settings; `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let (network, place) = text.split_once("://")?;
        let protocol = match network {
            "any" => None,
            name => Some(Protocol::ALL.into_iter().find(|one| one.name() == name && *one != Protocol::Tls)?),
        };
        let (host, port) = place.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => Host::read(rest.strip_suffix(']').filter(|inner| inner.contains(':'))?)?,
            None => Host::read(host).filter(|_| !host.contains(':'))?,
        };
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        Some(Self { protocol, target: Target { host, port } })
    }
}

/// Where a request leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this entry.
    Listed(usize),
    /// To an address that is in the list for none of these entries, unless the name of one leads there: a client that looks up
    /// names itself asks so.
    Perhaps(Vec<usize>),
    /// Nowhere.
    None,
}

/// The list. Every position in it is one of [`Destinations::listed`].
#[derive(Clone, Debug)]
pub struct Destinations {
    listed: Vec<Listed>,
    networks: Networks,
}

impl Destinations {
    /// A list, and which networks count as the Internet's.
    pub fn new(listed: Vec<Listed>, networks: Networks) -> Self {
        Self { listed, networks }
    }

    /// The entries.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Where a request leads.
    pub fn way(&self, target: &Target) -> Way {
        if let Some(at) = self.listed.iter().position(|one| one.target == *target) {
            return Way::Listed(at);
        }
        let named = |one: &Listed| matches!(one.target.host, Host::Name(_)) && one.target.port == target.port;
        let names = self.listed.iter().enumerate().filter(|(_, one)| named(one)).map(|(at, _)| at);
        match target.host {
            Host::Address(address) if self.is_open(address, target.port) => {
                let names: Vec<usize> = names.collect();
                if names.is_empty() { Way::None } else { Way::Perhaps(names) }
            }
            Host::Address(_) | Host::Name(_) => Way::None,
        }
    }

    /// The addresses of those that a name led to where a connection may go: those of the Internet, and of others those in
    /// the list themselves. Nobody who answers for a name can lead into a private network.
    pub fn usable(&self, found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        found.into_iter().map(canonical).filter(|at| self.is_open(at.ip(), at.port())).collect()
    }

    fn is_open(&self, address: IpAddr, port: u16) -> bool {
        let itself = Target { host: Host::Address(address), port };
        self.networks.is_public(address) || self.listed.iter().any(|one| one.target == itself)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Destinations {
        let listed = entries.iter().map(|text| Listed::read(text).expect("an entry")).collect();
        Destinations::new(listed, Networks::default())
    }

    fn target(host: &str, port: u16) -> Target {
        Target { host: Host::read(host).expect("a host"), port }
    }

    #[test]
    fn an_entry_has_network_host_and_port() {
        let listed = Listed::read("irc://Irc.Example.:6667").expect("an entry");
        assert_eq!((listed.protocol, listed.target), (Some(Protocol::Irc), target("irc.example", 6667)));
        assert_eq!(Listed::read("any://[::1]:5222").expect("an entry").protocol, None);
        for wrong in [
            "irc.example:6667",
            "irc://irc.example",
            "irc://irc.example:0",
            "irc://:6667",
            "tls://a:1",
            "http://a:1",
            "any://::1:5222",
            "any://[a]:1",
            "irc://*:6667",
            "irc://a b:1",
            "irc://a..b:1",
        ] {
            assert_eq!(Listed::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_listed_is_a_destination() {
        let list = list(&["xmpp://chat.example:5222", "irc://127.0.0.1:6667", "irc://irc.example:6667"]);
        assert_eq!(list.way(&target("CHAT.example.", 5222)), Way::Listed(0));
        assert_eq!(list.way(&target("127.0.0.1", 6667)), Way::Listed(1));
        assert_eq!(list.way(&target("::ffff:127.0.0.1", 6667)), Way::Listed(1));
        for other in
            [("chat.example", 5223), ("other.example", 5222), ("127.0.0.1", 5222), ("127.0.0.2", 6667)]
        {
            assert_eq!(list.way(&target(other.0, other.1)), Way::None, "{other:?}");
        }
        assert_eq!(list.way(&target("1.1.1.1", 6667)), Way::Perhaps(vec![2]), "irc.example may be there");
        assert_eq!(list.way(&target("1.1.1.1", 80)), Way::None);
        assert_eq!(list.way(&target("10.1.2.3", 6667)), Way::None, "whatever irc.example leads to");
    }

    #[test]
    fn a_name_leads_to_no_private_address_that_is_not_listed_itself() {
        let list = list(&["any://chat.example:5222", "any://10.0.0.5:5222", "any://[::1]:5222"]);
        let found =
            ["1.1.1.1", "10.0.0.5", "10.0.0.6", "127.0.0.1", "::1", "::ffff:10.0.0.5", "fe80::1", "0.0.0.0"]
                .map(|ip| SocketAddr::new(ip.parse().expect("an address"), 5222));
        let usable: Vec<String> = list.usable(found).iter().map(|at| at.ip().to_string()).collect();
        assert_eq!(usable, ["1.1.1.1", "10.0.0.5", "::1", "10.0.0.5"]);
        let elsewhere = SocketAddr::from(([10, 0, 0, 5], 22));
        assert!(list.usable([elsewhere]).is_empty(), "the port is part of it");
    }
}

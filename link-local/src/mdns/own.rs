//! Our own records: what we announce, and what we answer with (*pure*).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

use super::api::{Interface, P2pService, Presence, ServiceId};
use super::names::{self, P2P, PRESENCE, SERVICES};
use super::packet::{Data, Question, Record, kind};
use super::{MAX_ADDRESSES, MAX_PICTURE};
use crate::instance::Instance;

/// TTL of records that name a host or have its addresses, seconds (RFC 6762 §10).
pub(super) const HOST_TTL: u32 = 120;
/// TTL of the others.
pub(super) const OTHER_TTL: u32 = 4_500;
/// TTL of libp2p's records, as rust-libp2p has it.
const P2P_TTL: u32 = 360;

/// A name of ours that has to be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unique {
    Host,
    Service(ServiceId),
}

/// One of our record sets. At most 4 for each service and 6 others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// The types of service that we have.
    Types,
    Pointer(ServiceId),
    Server(ServiceId),
    Text(ServiceId),
    Picture(ServiceId),
    /// The instance has no record of the type asked for.
    NoSuchText(ServiceId),
    V4,
    V6,
    NoSuchAddress,
    P2p,
}

impl Set {
    /// Whether other hosts may have records of the same name: answers are then delayed (RFC 6762 §6).
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::Types | Self::Pointer(_) | Self::P2p)
    }

    /// The name that must have been won before this set is told.
    pub(super) fn belongs_to(self) -> Option<Unique> {
        match self {
            Self::Types | Self::P2p => None,
            Self::V4 | Self::V6 | Self::NoSuchAddress => Some(Unique::Host),
            Self::Pointer(id)
            | Self::Server(id)
            | Self::Text(id)
            | Self::Picture(id)
            | Self::NoSuchText(id) => Some(Unique::Service(id)),
        }
    }

    /// What goes along as additional records (RFC 6763 §12).
    pub(super) fn companions(self) -> Vec<Self> {
        match self {
            Self::Pointer(id) => vec![Self::Server(id), Self::Text(id), Self::V4, Self::V6],
            Self::Server(_) => vec![Self::V4, Self::V6],
            Self::V4 => vec![Self::V6],
            Self::V6 => vec![Self::V4],
            Self::Types
            | Self::Text(_)
            | Self::Picture(_)
            | Self::NoSuchText(_)
            | Self::NoSuchAddress
            | Self::P2p => Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) presence: Presence,
    /// The name that is tried or announced.
    pub(super) instance: Instance,
    pub(super) name: Name,
    pub(super) text: Vec<u8>,
    /// Whether [`super::Event::Named`] was told for this name.
    pub(super) is_told: bool,
}

impl Service {
    pub(super) fn new(presence: Presence) -> Self {
        let instance = presence.wanted.clone();
        let (name, text) = (names::of_instance(&instance), presence.advert.to_record());
        Self { presence, instance, name, text, is_told: false }
    }

    pub(super) fn rename(&mut self) {
        self.instance = self.instance.next();
        self.name = names::of_instance(&self.instance);
        self.is_told = false;
    }

    fn picture(&self) -> Option<&Vec<u8>> {
        self.presence.picture.as_ref().filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_PICTURE)
    }
}

/// All that we announce.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) machine: String,
    /// 1, or more after conflicts.
    pub(super) attempt: u32,
    pub(super) host: Name,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) p2p: Option<(Name, P2pService)>,
}

impl Own {
    pub(super) fn new(machine: String) -> Self {
        let host = names::of_host(&machine, 1);
        Self { machine, attempt: 1, host, services: BTreeMap::new(), p2p: None }
    }

    pub(super) fn rename_host(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
        self.host = names::of_host(&self.machine, self.attempt);
    }

    pub(super) fn name_of(&self, unique: Unique) -> Option<&Name> {
        match unique {
            Unique::Host => Some(&self.host),
            Unique::Service(id) => self.services.get(&id).map(|service| &service.name),
        }
    }

    /// The TXT record of a service.
    pub(super) fn text(&self, id: ServiceId) -> Option<&Vec<u8>> {
        self.services.get(&id).map(|service| &service.text)
    }

    /// The service of this name.
    pub(super) fn service_named(&self, name: &Name) -> Option<(ServiceId, &Service)> {
        let found = self.services.iter().find(|(_, service)| service.name == *name);
        found.map(|(id, service)| (*id, service))
    }

    /// The records of a set as they are announced on this interface, only with its addresses.
    pub(super) fn records(&self, set: Set, on: &Interface) -> Vec<Record> {
        let of = |id: ServiceId, make: &dyn Fn(&Service) -> Option<Record>| -> Vec<Record> {
            self.services.get(&id).and_then(make).into_iter().collect()
        };
        match set {
            Set::Types => self.types(),
            Set::Pointer(id) => {
                of(id, &|service| Some(shared(&PRESENCE, OTHER_TTL, Data::Ptr(service.name.clone()))))
            }
            Set::Server(id) => of(id, &|service| Some(self.server(service))),
            Set::Text(id) => {
                of(id, &|service| Some(unique(&service.name, OTHER_TTL, Data::Txt(service.text.clone()))))
            }
            Set::Picture(id) => of(id, &|service| {
                Some(unique(&service.name, OTHER_TTL, Data::Null(service.picture()?.clone())))
            }),
            Set::NoSuchText(id) => of(id, &|service| {
                Some(unique(&service.name, HOST_TTL, Data::Nsec(vec![kind::TXT, kind::SRV])))
            }),
            Set::V4 => v4(on).map(|ip| unique(&self.host, HOST_TTL, Data::A(ip))).collect(),
            Set::V6 => v6(on).map(|ip| unique(&self.host, HOST_TTL, Data::Aaaa(ip))).collect(),
            Set::NoSuchAddress => {
                let kinds = [(kind::A, v4(on).next().is_some()), (kind::AAAA, v6(on).next().is_some())];
                let kinds = kinds.into_iter().filter(|(_, has)| *has).map(|(kind, _)| kind).collect();
                vec![unique(&self.host, HOST_TTL, Data::Nsec(kinds))]
            }
            Set::P2p => self.p2p_pointer().into_iter().collect(),
        }
    }

    fn server(&self, service: &Service) -> Record {
        let data = Data::Srv { port: service.presence.port, target: self.host.clone() };
        unique(&service.name, HOST_TTL, data)
    }

    fn types(&self) -> Vec<Record> {
        let presence = (!self.services.is_empty()).then(|| PRESENCE.clone());
        let p2p = self.p2p.as_ref().map(|_| P2P.clone());
        let all = presence.into_iter().chain(p2p);
        all.map(|name| shared(&SERVICES, OTHER_TTL, Data::Ptr(name))).collect()
    }

    fn p2p_pointer(&self) -> Option<Record> {
        let (name, _) = self.p2p.as_ref()?;
        Some(shared(&P2P, P2P_TTL, Data::Ptr(name.clone())))
    }

    /// The TXT record that goes along with [`Set::P2p`]: the addresses on this interface.
    pub(super) fn p2p_text(&self, on: &Interface) -> Option<Record> {
        let (name, service) = self.p2p.as_ref()?;
        let mut text = Vec::new();
        for ip in v6(on).take(8) {
            let address = format!("dnsaddr=/ip6/{ip}/tcp/{}/p2p/{}", service.tcp_port, service.peer_id);
            if let Ok(length) = u8::try_from(address.len()) {
                text.push(length);
                text.extend_from_slice(address.as_bytes());
            }
        }
        // rust-libp2p does not set the cache-flush bit here.
        (!text.is_empty()).then(|| shared(name, P2P_TTL, Data::Txt(text)))
    }

    /// The sets that are announced for a name.
    pub(super) fn announced_with(unique: Unique) -> Vec<Set> {
        match unique {
            Unique::Host => vec![Set::V4, Set::V6],
            Unique::Service(id) => {
                vec![Set::Types, Set::Pointer(id), Set::Server(id), Set::Text(id), Set::V4, Set::V6]
            }
        }
    }

    /// What is withdrawn with a service.
    pub(super) fn farewell(&self, id: ServiceId) -> Vec<Record> {
        let Some(service) = self.services.get(&id) else { return Vec::new() };
        let records = [
            shared(&PRESENCE, 0, Data::Ptr(service.name.clone())),
            self.server(service),
            unique(&service.name, 0, Data::Txt(service.text.clone())),
        ];
        records.into_iter().map(|record| Record { ttl: 0, ..record }).collect()
    }

    /// What a probe proposes for a name (RFC 6762 §8.2). The SRV record stands for an instance: its target is a name
    /// of ours, so it decides every conflict, and the probes of many hosts at once stay small.
    pub(super) fn proposed(&self, claimed: Unique, on: &Interface) -> Vec<Record> {
        let records = match claimed {
            Unique::Host => [self.records(Set::V4, on), self.records(Set::V6, on)].concat(),
            Unique::Service(id) => self.records(Set::Server(id), on),
        };
        // In a probe nothing is to be flushed yet.
        records.into_iter().map(|record| Record { flush: false, ..record }).collect()
    }

    /// The sets asked for; a set that is empty on this interface is answered by its absence.
    pub(super) fn asked(&self, question: &Question, on: &Interface) -> Vec<Set> {
        let wants = |kind: u16| question.kind == kind || question.kind == kind::ANY;
        if question.name == *PRESENCE && wants(kind::PTR) {
            return self.services.keys().map(|id| Set::Pointer(*id)).collect();
        }
        if question.name == *P2P && wants(kind::PTR) && self.p2p.is_some() {
            return vec![Set::P2p];
        }
        if question.name == *SERVICES && wants(kind::PTR) {
            return if self.types().is_empty() { Vec::new() } else { vec![Set::Types] };
        }
        if question.name == self.host && !self.services.is_empty() {
            return self.asked_of_host(&wants, on);
        }
        match self.service_named(&question.name) {
            Some((id, service)) => asked_of_service(id, service, question, &wants),
            None => Vec::new(),
        }
    }

    fn asked_of_host(&self, wants: &dyn Fn(u16) -> bool, on: &Interface) -> Vec<Set> {
        let there_are =
            [(Set::V4, kind::A, v4(on).next().is_some()), (Set::V6, kind::AAAA, v6(on).next().is_some())];
        let mut sets: Vec<Set> =
            there_are.iter().filter(|(_, kind, has)| *has && wants(*kind)).map(|(set, ..)| *set).collect();
        if sets.is_empty() {
            sets.push(Set::NoSuchAddress);
        }
        sets
    }
}

fn asked_of_service(
    id: ServiceId,
    service: &Service,
    question: &Question,
    wants: &dyn Fn(u16) -> bool,
) -> Vec<Set> {
    let mut sets = Vec::new();
    if wants(kind::SRV) {
        sets.push(Set::Server(id));
    }
    if wants(kind::TXT) {
        sets.push(Set::Text(id));
    }
    // Only if asked for by its type: it is large.
    if question.kind == kind::NULL && service.picture().is_some() {
        sets.push(Set::Picture(id));
    }
    if sets.is_empty() {
        sets.push(Set::NoSuchText(id));
    }
    sets
}

fn shared(name: &Name, ttl: u32, data: Data) -> Record {
    Record { name: name.clone(), flush: false, ttl, data }
}

fn unique(name: &Name, ttl: u32, data: Data) -> Record {
    Record { name: name.clone(), flush: true, ttl, data }
}

/// The IPv4 addresses that may be told to others.
pub(super) fn v4(on: &Interface) -> impl Iterator<Item = Ipv4Addr> {
    on.v4
        .iter()
        .map(|(ip, _)| *ip)
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())
        .take(MAX_ADDRESSES / 2)
}

/// The IPv6 addresses that may be told to others.
pub(super) fn v6(on: &Interface) -> impl Iterator<Item = Ipv6Addr> {
    on.v6
        .iter()
        .map(|(ip, _)| *ip)
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())
        .take(MAX_ADDRESSES / 2)
}

/// Whether two interfaces have addresses in one subnet. Link-local ones say nothing: every link has those.
pub(super) fn share_subnet(one: &Interface, other: &Interface) -> bool {
    let v4 = one.v4.iter().filter(|(ip, prefix)| !ip.is_link_local() && (1..32).contains(prefix));
    let v6 = one.v6.iter().filter(|(ip, prefix)| !ip.is_unicast_link_local() && (1..128).contains(prefix));
    v4.into_iter().any(|(ip, prefix)| {
        let near = |theirs: &Ipv4Addr| same(u32::from(*ip).into(), u32::from(*theirs).into(), 32, *prefix);
        other.v4.iter().any(|(theirs, width)| width == prefix && near(theirs))
    }) || v6.into_iter().any(|(ip, prefix)| {
        let near = |theirs: &Ipv6Addr| same((*ip).into(), (*theirs).into(), 128, *prefix);
        other.v6.iter().any(|(theirs, width)| width == prefix && near(theirs))
    })
}

fn same(one: u128, other: u128, width: u32, prefix: u8) -> bool {
    let shift = width.saturating_sub(u32::from(prefix));
    shift >= 128 || (one ^ other) >> shift == 0
}

/// Whether an address is reached on this interface without a router (RFC 6762 §11).
pub(super) fn is_on_link(ip: IpAddr, on: &Interface) -> bool {
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => on.v4.iter().any(|(own, prefix)| {
            same(u32::from(ip).into(), u32::from(*own).into(), 32, *prefix) || ip.is_link_local()
        }),
        IpAddr::V6(ip) => {
            let is_near = ip.is_unicast_link_local() && !on.v6.is_empty();
            is_near || on.v6.iter().any(|(own, prefix)| same(ip.into(), (*own).into(), 128, *prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(v4: &[(&str, u8)], v6: &[(&str, u8)]) -> Interface {
        Interface {
            index: 1,
            name: "eth0".into(),
            v4: v4.iter().map(|(ip, prefix)| (ip.parse().unwrap(), *prefix)).collect(),
            v6: v6.iter().map(|(ip, prefix)| (ip.parse().unwrap(), *prefix)).collect(),
        }
    }

    #[test]
    fn only_what_is_on_the_link_counts() {
        let on = interface(&[("10.1.2.3", 24)], &[("fe80::1", 64), ("2001:db8::1", 64)]);
        for (ip, expected) in [
            ("10.1.2.77", true),
            ("10.1.3.77", false),
            ("169.254.9.9", true),
            ("127.0.0.1", false),
            ("8.8.8.8", false),
            ("fe80::99", true),
            ("2001:db8::99", true),
            ("2001:db8:1::99", false),
            ("::1", false),
            ("ff02::fb", false),
        ] {
            assert_eq!(is_on_link(ip.parse().unwrap(), &on), expected, "{ip}");
        }
        assert!(!is_on_link("fe80::99".parse().unwrap(), &interface(&[("10.1.2.3", 24)], &[])));
        assert!(is_on_link("99.9.9.9".parse().unwrap(), &interface(&[("10.1.2.3", 0)], &[])));
    }

    #[test]
    fn loopback_is_never_told() {
        let on = interface(&[("127.0.0.1", 8), ("10.0.0.1", 8)], &[("::1", 128)]);
        let own = Own::new("h".into());
        assert_eq!(own.records(Set::V4, &on).len(), 1);
        assert_eq!(own.records(Set::V6, &on).len(), 0);
    }
}

//! What others announce: instances, their hosts, and what was told of them (*pure*).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use hickory_proto::rr::Name;

use super::api::Peer;
use super::liveness::HEARSAY;
use super::texts::Late;
use super::{MAX_ADDRESSES, MAX_INSTANCES};
use crate::instance::Instance;
use crate::txt::Advert;

/// Most sources of an instance that are kept: addresses that its packets came from.
const MAX_SOURCES: usize = 8;
/// Most instances that one source may be the first to tell of: a host has users, not crowds.
const MAX_OF_SOURCE: usize = 32;
/// Most addresses whose last packet is remembered.
const MAX_HEARD: usize = 4 * MAX_INSTANCES;

/// Interface, and name of an instance or host.
pub(super) type Key = (u32, Name);

/// How an instance is doing. Each state has a time when something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Something is missing: asked for so many times.
    Resolving { tries: u32, at: u64 },
    /// There, and to be asked if nothing is heard until then.
    Present { at: u64 },
    /// Asked so many times since.
    Checking { tries: u32, since: u64, at: u64 },
    /// Has said goodbye.
    Leaving { at: u64 },
    /// Vanished: searched for at its last addresses.
    Gone { since: u64, silent: u64, tries: u32, at: u64 },
}

impl Life {
    pub(super) fn at(self) -> u64 {
        match self {
            Self::Resolving { at, .. }
            | Self::Present { at }
            | Self::Checking { at, .. }
            | Self::Leaving { at }
            | Self::Gone { at, .. } => at,
        }
    }
}

/// One instance on one interface.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) instance: Instance,
    pub(super) sources: BTreeSet<IpAddr>,
    /// Target and port of the SRV record.
    pub(super) server: Option<(Name, u16)>,
    pub(super) text: Option<Vec<u8>>,
    /// When that last changed, if it ever did.
    pub(super) changed: Option<u64>,
    /// When its records were last heard.
    pub(super) confirmed: u64,
    /// Whether it has ever answered a direct query, and from where last.
    pub(super) answered: Option<IpAddr>,
    /// When its SRV record expires, if it never answers.
    pub(super) expires: u64,
    pub(super) life: Life,
}

impl Found {
    pub(super) fn new(instance: Instance, life: Life) -> Self {
        Self {
            instance,
            sources: BTreeSet::new(),
            server: None,
            text: None,
            changed: None,
            confirmed: 0,
            answered: None,
            expires: u64::MAX,
            life,
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        match self.life {
            Life::Present { .. } | Life::Checking { .. } | Life::Leaving { .. } => {
                self.server.is_some() && self.text.is_some()
            }
            Life::Resolving { .. } | Life::Gone { .. } => false,
        }
    }
}

/// Everything heard of others. At most [`MAX_INSTANCES`]; when full, vanished ones and such as never answered make
/// room, else newcomers are refused.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) all: BTreeMap<Key, Found>,
    /// Addresses of the hosts that SRV records name.
    hosts: BTreeMap<Key, Host>,
    agenda: BTreeSet<(u64, Key)>,
    /// Those of which something is missing.
    resolving: BTreeSet<Key>,
    /// When something was last heard from an address of somebody in `all`.
    heard: BTreeMap<(u32, IpAddr), u64>,
    told: BTreeMap<Name, Peer>,
    /// Those that another layer watches.
    pub(super) vouched: BTreeSet<Name>,
    dirty: BTreeSet<Name>,
    pub(super) wants: BTreeMap<Key, Want>,
    /// Changes that came too soon after the last one.
    pub(super) late: BTreeMap<Key, Late>,
    /// When somebody who never answered may be asked next.
    pub(super) next_unproven: u64,
    /// Hints of libp2p nodes in this second.
    pub(super) hints: (u64, u32),
}

/// A host that SRV records name.
#[derive(Debug, Default)]
struct Host {
    addresses: BTreeSet<IpAddr>,
    instances: BTreeSet<Name>,
}

/// A picture that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) hash: [u8; 20],
    pub(super) tries: u32,
    pub(super) at: u64,
}

impl Peers {
    pub(super) fn due(&self) -> Option<(u64, &'static str)> {
        let first = self.agenda.first().map(|(at, _)| (*at, "watch peers"));
        let picture = self.wants.values().map(|want| (want.at, "fetch a picture")).min();
        let text = self.text_due().map(|at| (at, "a changed text"));
        first.into_iter().chain(picture).chain(text).min()
    }

    /// Those whose time has come.
    pub(super) fn due_now(&self, mono: u64) -> Vec<Key> {
        self.agenda.iter().take_while(|(at, _)| *at <= mono).map(|(_, key)| key.clone()).collect()
    }

    pub(super) fn set_life(&mut self, key: &Key, life: Life) {
        let Some(found) = self.all.get_mut(key) else { return };
        let was_shown = found.is_shown();
        self.agenda.remove(&(found.life.at(), key.clone()));
        found.life = life;
        let is_shown = found.is_shown();
        self.schedule(key, life);
        if is_shown != was_shown {
            self.dirty.insert(key.1.clone());
        }
    }

    pub(super) fn mark(&mut self, name: &Name) {
        self.dirty.insert(name.clone());
    }

    /// A packet came from there: a sign of life of what that host announced.
    pub(super) fn heard(&mut self, index: u32, ip: IpAddr, mono: u64) {
        if let Some(at) = self.heard.get_mut(&(index, ip)) {
            *at = mono;
        }
    }

    pub(super) fn knows(&self, index: u32, ip: IpAddr) -> bool {
        self.heard.contains_key(&(index, ip))
    }

    pub(super) fn learn_address(&mut self, index: u32, ip: IpAddr, mono: u64) {
        if self.heard.len() >= MAX_HEARD {
            self.heard.retain(|_, at| *at + 120_000 > mono);
        }
        if self.heard.len() < MAX_HEARD {
            self.heard.entry((index, ip)).or_insert(0);
        }
    }

    /// When the last sign of life was: its records, or for a while any packet of its host.
    pub(super) fn sign_of_life(&self, key: &Key) -> u64 {
        let Some(found) = self.all.get(key) else { return 0 };
        if found.answered.is_none() {
            // Whoever invents names may well send other packets.
            return found.confirmed;
        }
        let addresses = self.candidates(key);
        let heard = addresses.iter().filter_map(|ip| self.heard.get(&(key.0, *ip))).max().copied();
        found.confirmed.max(heard.unwrap_or(0).min(found.confirmed + HEARSAY))
    }

    pub(super) fn is_vouched(&self, key: &Key) -> bool {
        self.vouched.contains(&key.1)
    }

    /// Whether it has ever answered.
    pub(super) fn is_proven(&self, key: &Key) -> bool {
        self.all.get(key).is_some_and(|found| found.answered.is_some())
    }

    /// Where it may be asked: the address that answered last, those announced, and those that packets came from; these
    /// first as long as none has answered.
    pub(super) fn candidates(&self, key: &Key) -> Vec<IpAddr> {
        let Some(found) = self.all.get(key) else { return Vec::new() };
        let host = found.server.as_ref().and_then(|(host, _)| self.addresses_of(&(key.0, host.clone())));
        let mut all: Vec<IpAddr> = found.answered.into_iter().collect();
        let unproven = found.sources.iter().filter(|_| found.answered.is_none());
        for ip in unproven.chain(host.into_iter().flatten()).chain(&found.sources) {
            if !all.contains(ip) {
                all.push(*ip);
            }
        }
        all
    }

    /// Room for a newcomer of this source; false: refused. Whoever has answered, or is watched, keeps its place, and so
    /// do all until they were asked twice.
    pub(super) fn make_room(&mut self, index: u32, source: IpAddr) -> bool {
        let is_of_source = |key: &Key, found: &Found| key.0 == index && found.sources.contains(&source);
        if self.all.iter().filter(|(key, found)| is_of_source(key, found)).count() >= MAX_OF_SOURCE {
            let is_gone = |found: &Found| matches!(found.life, Life::Gone { .. }) && found.answered.is_none();
            let gone = self.all.iter().find(|(key, found)| is_of_source(key, found) && is_gone(found));
            let gone = gone.map(|(key, _)| key.clone());
            return gone.inspect(|key| self.remove(key)).is_some();
        }
        if self.all.len() < MAX_INSTANCES {
            return true;
        }
        let rank = |found: &Found| match found.life {
            Life::Gone { .. } => Some(0),
            Life::Resolving { .. } => Some(1),
            Life::Checking { tries: 2.., .. } if found.answered.is_none() => Some(2),
            Life::Present { .. } | Life::Checking { .. } | Life::Leaving { .. } => None,
        };
        let worst = self
            .all
            .iter()
            .filter(|(key, _)| !self.is_vouched(key))
            .filter_map(|(key, found)| Some((rank(found)?, found.confirmed, key)))
            .min()
            .map(|(.., key)| key.clone());
        worst.inspect(|key| self.remove(key)).is_some()
    }

    pub(super) fn insert(&mut self, key: Key, found: Found) {
        self.schedule(&key, found.life);
        self.all.insert(key, found);
    }

    fn schedule(&mut self, key: &Key, life: Life) {
        self.agenda.insert((life.at(), key.clone()));
        if matches!(life, Life::Resolving { .. }) {
            self.resolving.insert(key.clone());
        } else {
            self.resolving.remove(key);
        }
    }

    /// Those of which something is missing.
    pub(super) fn resolving(&self) -> impl Iterator<Item = &Key> {
        self.resolving.iter()
    }

    pub(super) fn add_source(&mut self, key: &Key, ip: IpAddr, mono: u64) {
        let Some(found) = self.all.get_mut(key) else { return };
        if found.sources.len() < MAX_SOURCES {
            found.sources.insert(ip);
        }
        self.learn_address(key.0, ip, mono);
    }

    /// Forgets an instance, and its host if no other instance names it.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(found) = self.all.remove(key) else { return };
        self.agenda.remove(&(found.life.at(), key.clone()));
        self.resolving.remove(key);
        self.wants.remove(key);
        self.late.remove(key);
        self.dirty.insert(key.1.clone());
        if let Some((host, _)) = found.server {
            self.release_host(&(key.0, host), &key.1);
        }
    }

    /// An SRV record says that this host has this instance.
    pub(super) fn bind_host(&mut self, host: Key, instance: &Name) {
        self.hosts.entry(host).or_default().instances.insert(instance.clone());
    }

    pub(super) fn release_host(&mut self, host: &Key, instance: &Name) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.instances.remove(instance);
        if entry.instances.is_empty() {
            self.hosts.remove(host);
        }
    }

    /// The addresses of a host, if an instance is there.
    pub(super) fn addresses_of(&self, host: &Key) -> Option<&BTreeSet<IpAddr>> {
        self.hosts.get(host).map(|host| &host.addresses)
    }

    pub(super) fn set_addresses(&mut self, host: &Key, addresses: BTreeSet<IpAddr>) {
        if let Some(host) = self.hosts.get_mut(host) {
            host.addresses = addresses;
        }
    }

    /// The instances that a host has.
    pub(super) fn of_host(&self, host: &Key) -> Vec<Key> {
        let instances = self.hosts.get(host).map(|host| &host.instances).into_iter().flatten();
        instances.map(|name| (host.0, name.clone())).collect()
    }

    pub(super) fn forget_interface(&mut self, index: u32) {
        let keys: Vec<Key> = self.all.keys().filter(|key| key.0 == index).cloned().collect();
        keys.iter().for_each(|key| self.remove(key));
        self.heard.retain(|(at, _), _| *at != index);
    }

    /// Whether everything is known that a stream needs.
    pub(super) fn is_complete(&self, key: &Key) -> bool {
        let Some(found) = self.all.get(key) else { return false };
        let host = found.server.as_ref().and_then(|(host, _)| self.addresses_of(&(key.0, host.clone())));
        found.text.is_some() && host.is_some_and(|addresses| !addresses.is_empty())
    }

    /// What has to be told: `Ok` somebody is there, `Err` somebody is not there any more.
    pub(super) fn news(&mut self, interfaces: &[u32]) -> Vec<Result<Peer, Instance>> {
        let mut news = Vec::new();
        for name in std::mem::take(&mut self.dirty) {
            match (self.peer(&name, interfaces), self.told.get(&name)) {
                (Some(new), old) if old != Some(&new) => {
                    self.told.insert(name, new.clone());
                    news.push(Ok(new));
                }
                (None, Some(_)) => {
                    let old = self.told.remove(&name);
                    news.extend(old.map(|peer| Err(peer.instance)));
                }
                (Some(_), _) | (None, None) => {}
            }
        }
        news
    }

    /// One peer, whatever interfaces it is seen on; the text is that heard last.
    fn peer(&self, name: &Name, interfaces: &[u32]) -> Option<Peer> {
        let keys = interfaces.iter().map(|index| (*index, name.clone()));
        let seen: Vec<(Key, &Found)> = keys
            .filter_map(|key| self.all.get(&key).filter(|found| found.is_shown()).map(|found| (key, found)))
            .collect();
        let (_, latest) = seen.iter().max_by_key(|(_, found)| found.confirmed)?;
        let mut addresses: Vec<SocketAddr> =
            seen.iter().flat_map(|(key, found)| self.addresses(key.0, found)).collect();
        addresses.sort_by_key(|address| rank(*address));
        // Two interfaces on one link see the same.
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        let advert = Advert::parse(latest.text.as_deref()?);
        Some(Peer { instance: latest.instance.clone(), advert, addresses })
    }

    fn addresses(&self, index: u32, found: &Found) -> Vec<SocketAddr> {
        let Some((host, port)) = &found.server else { return Vec::new() };
        let all = self.addresses_of(&(index, host.clone())).into_iter().flatten();
        all.map(|ip| match ip {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(*ip, *port)),
            IpAddr::V6(ip) => {
                let scope = if ip.is_unicast_link_local() { index } else { 0 };
                SocketAddr::V6(SocketAddrV6::new(*ip, *port, 0, scope))
            }
        })
        .collect()
    }
}

/// Link-local IPv6 first: every host has it, and libpurple takes it first as well.
fn rank(address: SocketAddr) -> (u8, SocketAddr) {
    let rank = match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => 0,
        SocketAddr::V4(_) => 1,
        SocketAddr::V6(_) => 2,
    };
    (rank, address)
}

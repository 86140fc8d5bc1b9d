//! Who announces themselves by XEP-0174, and the address under which each is known here. *Pure.*

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns;
use crosstalk_link_local::txt::Advert;
use jid::BareJid;

use super::addresses::same_host;

/// Most people. Of more, newcomers wait, and are counted.
const MOST: usize = 512;
/// Most who wait: with the others as many as multicast DNS keeps.
const WAITING: usize = 512;
/// Pictures kept; of more, that of somebody else is dropped.
const PICTURES: usize = 64;
/// Bytes of a picture that is kept: what fits into a packet of multicast DNS (RFC 6762 §17) is less.
const PICTURE_BYTES: usize = 16 << 10;
/// How long an instance that says it is a node's is not shown as anything else, milliseconds: its signed presence is
/// on the way.
const PATIENCE: u64 = 3_000;

/// Somebody who announces an instance.
#[derive(Debug)]
pub(super) struct Known {
    /// What is said there, unauthenticated.
    pub(super) advert: Advert,
    /// Where its streams end.
    pub(super) addresses: Vec<SocketAddr>,
    /// `<escaped instance>@link.internal`.
    pub(super) jid: BareJid,
    /// When it came, monotonic milliseconds.
    pub(super) since: u64,
    /// Not shown as mere Bonjour before this time.
    pub(super) hidden_until: u64,
    /// The picture of the advert's hash.
    pub(super) picture: Option<Vec<u8>>,
}

/// Somebody for whom there is no room, or whose address another one has.
#[derive(Debug)]
struct Waiting {
    peer: mdns::Peer,
    jid: BareJid,
    /// The least is the next.
    turn: u64,
}

/// Why somebody was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are as many as there may be.
    Full,
    /// The name makes no address.
    NoAddress,
    /// Another name makes the same address: letters that look alike or differ in case only.
    Imitates,
}

impl Refusal {
    /// For the counters.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "link: people beyond those that are kept",
            Self::NoAddress => "link: names that make no address",
            Self::Imitates => "link: names that make the address of another",
        }
    }
}

/// Everybody seen by XEP-0174.
#[derive(Debug, Default)]
pub(super) struct People {
    all: BTreeMap<Instance, Known>,
    by_jid: BTreeMap<BareJid, Instance>,
    waiting: BTreeMap<Instance, Waiting>,
    turns: u64,
}

impl People {
    /// Somebody is there, or changed.
    ///
    /// # Errors
    /// [`Refusal`] for a newcomer who is not taken in; [`Self::next_waiting`] gives it when there is room.
    pub(super) fn seen(&mut self, peer: mdns::Peer, hinted: bool, now: u64) -> Result<(), Refusal> {
        let mdns::Peer { instance, advert, addresses } = peer;
        if let Some(known) = self.all.get_mut(&instance) {
            if known.advert.phsh != advert.phsh {
                known.picture = None;
            }
            (known.advert, known.addresses) = (advert, addresses);
            return Ok(());
        }
        let jid = BareJid::new(&instance.to_jid()).map_err(|_| Refusal::NoAddress)?;
        let imitates = self.by_jid.contains_key(&jid);
        if imitates || self.all.len() >= MOST {
            self.wait(mdns::Peer { instance, advert, addresses }, jid);
            return Err(if imitates { Refusal::Imitates } else { Refusal::Full });
        }
        self.waiting.remove(&instance);
        self.by_jid.insert(jid.clone(), instance.clone());
        let hidden_until = if hinted { now + PATIENCE } else { 0 };
        let known = Known { advert, addresses, jid, since: now, hidden_until, picture: None };
        self.all.insert(instance, known);
        Ok(())
    }

    fn wait(&mut self, peer: mdns::Peer, jid: BareJid) {
        let before = self.waiting.get(&peer.instance).map(|waiting| waiting.turn);
        if before.is_none() && self.waiting.len() >= WAITING {
            return;
        }
        self.turns += 1;
        let turn = before.unwrap_or(self.turns);
        self.waiting.insert(peer.instance.clone(), Waiting { peer, jid, turn });
    }

    /// Of those for whom there is room now, somebody who is listed in a contact list, or else who waited for longest; to
    /// be given to [`Self::seen`].
    pub(super) fn next_waiting(&mut self, is_listed: impl Fn(&BareJid) -> bool) -> Option<mdns::Peer> {
        if self.waiting.is_empty() || self.all.len() >= MOST {
            return None;
        }
        let free = self.waiting.values().filter(|waiting| !self.by_jid.contains_key(&waiting.jid));
        let next = free.min_by_key(|waiting| (!is_listed(&waiting.jid), waiting.turn))?;
        let name = next.peer.instance.clone();
        self.waiting.remove(&name).map(|waiting| waiting.peer)
    }

    /// Somebody left. Returns whether it was known.
    pub(super) fn gone(&mut self, instance: &Instance) -> bool {
        self.waiting.remove(instance);
        let known = self.all.remove(instance);
        known.is_some_and(|known| self.by_jid.remove(&known.jid).is_some())
    }

    /// Somebody by name.
    pub(super) fn get(&self, instance: &Instance) -> Option<&Known> {
        self.all.get(instance)
    }

    /// Somebody by address, whatever the case of its letters: addresses are normalised (RFC 7622 §3.3).
    pub(super) fn at(&self, jid: &BareJid) -> Option<&Instance> {
        self.by_jid.get(jid)
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &Instance> {
        self.all.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Keeps somebody hidden for a while longer.
    pub(super) fn hide_until(&mut self, instance: &Instance, until: u64) {
        if let Some(known) = self.all.get_mut(instance) {
            known.hidden_until = known.hidden_until.max(until);
        }
    }

    /// When the next who is hidden may be shown.
    pub(super) fn next_due(&self, now: u64) -> Option<u64> {
        self.all.values().map(|known| known.hidden_until).filter(|until| *until > now).min()
    }

    /// Keeps a picture.
    pub(super) fn picture(&mut self, instance: &Instance, bytes: Vec<u8>) {
        if bytes.len() > PICTURE_BYTES || !self.all.contains_key(instance) {
            return;
        }
        let kept = self.all.values().filter(|known| known.picture.is_some()).count();
        let other = self.all.iter_mut().find(|(name, known)| *name != instance && known.picture.is_some());
        if let Some((_, other)) = other.filter(|_| kept >= PICTURES) {
            other.picture = None;
        }
        if let Some(known) = self.all.get_mut(instance) {
            known.picture = Some(bytes);
        }
    }

    /// Whether somebody announces this address for their streams. The port is that of their listener, so it is not
    /// looked at; neither is the zone of an IPv6 address that has none.
    pub(super) fn is_at(&self, instance: &Instance, address: &SocketAddr) -> bool {
        self.get(instance).is_some_and(|known| known.addresses.iter().any(|own| same_host(own, address)))
    }

    /// The only one who announces an address; `None` if nobody does, or several.
    pub(super) fn only_one_at(&self, address: &SocketAddr) -> Option<&Instance> {
        let mut there = self.all.keys().filter(|name| self.is_at(name, address));
        let first = there.next();
        first.filter(|_| there.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Instance {
        Instance::new(name).unwrap()
    }

    fn peer(of: &str, addresses: &[&str]) -> mdns::Peer {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        mdns::Peer { instance: name(of), advert: Advert::default(), addresses }
    }

    #[test]
    fn an_address_is_found_in_any_case_and_belongs_to_the_first() {
        let mut people = People::default();
        assert_eq!(people.seen(peer("Bob@H2", &[]), false, 5), Ok(()));
        let jid = BareJid::new(r"BOB\40h2@Link.Internal").unwrap();
        assert_eq!(people.at(&jid), Some(&name("Bob@H2")));
        assert_eq!(people.seen(peer("bob@h2", &[]), false, 5), Err(Refusal::Imitates));
        assert!(people.gone(&name("Bob@H2")));
        assert_eq!(people.seen(peer("bob@h2", &[]), false, 6), Ok(()));
        assert!(!people.gone(&name("Bob@H2")), "the other one");
        assert_eq!(people.at(&jid), Some(&name("bob@h2")));
    }

    #[test]
    fn who_was_refused_waits_for_room_and_for_the_address() {
        let mut people = People::default();
        for number in 0..1_200 {
            let _ = people.seen(peer(&format!("n{number}"), &[]), false, 0);
        }
        assert_eq!((people.len(), people.waiting.len()), (MOST, WAITING));
        assert_eq!(people.next_waiting(|_| false), None, "there is no room");
        assert_eq!(people.seen(peer("N7", &[]), false, 0), Err(Refusal::Imitates));
        assert!(people.gone(&name("n3")) && !people.gone(&name("n512")));
        assert_eq!(
            people.seen(peer("n514", &["10.0.0.1:1"]), false, 0),
            Ok(()),
            "whoever is seen anew goes first"
        );
        assert!(people.gone(&name("n4")));
        let next = people.next_waiting(|_| false);
        assert_eq!(
            next.map(|next| next.instance),
            Some(name("n513")),
            "in order of arrival, but for who left"
        );
        people.waiting.retain(|name, _| name.as_str() == "N7");
        assert_eq!(people.next_waiting(|_| false), None, "another has the address");
    }

    #[test]
    fn people_are_bounded() {
        let mut people = People::default();
        let refused =
            (0..600).filter(|number| people.seen(peer(&format!("n{number}"), &[]), false, 0).is_err());
        assert_eq!(refused.count(), 600 - MOST);
        assert_eq!((people.len(), people.by_jid.len()), (MOST, MOST));
        assert_eq!(people.seen(peer("n7", &["10.0.0.1:1"]), false, 0), Ok(()), "those there still change");
    }

    #[test]
    fn addresses_are_compared_without_port_and_with_zone() {
        let mut people = People::default();
        people.seen(peer("bob@h2", &["[fe80::2%3]:5298", "10.0.0.2:5298"]), false, 0).unwrap();
        people.seen(peer("eve@h2", &["10.0.0.2:5299"]), false, 0).unwrap();
        let is_bob = |address: &str| people.is_at(&name("bob@h2"), &address.parse().unwrap());
        assert!(is_bob("[fe80::2%3]:40000") && is_bob("10.0.0.2:1") && is_bob("[::ffff:10.0.0.2]:1"));
        assert!(!is_bob("[fe80::2%4]:40000") && !is_bob("10.0.0.3:5298"));
        assert_eq!(people.only_one_at(&"[fe80::2%3]:1".parse().unwrap()), Some(&name("bob@h2")));
        assert_eq!(people.only_one_at(&"10.0.0.2:1".parse().unwrap()), None, "two users of one host");
    }

    #[test]
    fn pictures_are_bounded_and_follow_their_hash() {
        let mut people = People::default();
        for number in 0..100 {
            people.seen(peer(&format!("n{number}"), &[]), false, 0).unwrap();
            people.picture(&name(&format!("n{number}")), vec![1; 100]);
        }
        let kept = people.all.values().filter(|known| known.picture.is_some()).count();
        assert_eq!(kept, PICTURES);
        people.picture(&name("n99"), vec![0; PICTURE_BYTES + 1]);
        assert_eq!(people.get(&name("n99")).unwrap().picture, Some(vec![1; 100]));
        let changed = Advert { phsh: Some([1; 20]), ..Advert::default() };
        people.seen(mdns::Peer { advert: changed, ..peer("n99", &[]) }, false, 0).unwrap();
        assert_eq!(people.get(&name("n99")).unwrap().picture, None);
    }
}

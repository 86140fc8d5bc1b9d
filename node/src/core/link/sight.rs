//! Who of those that XEP-0174 shows is put into "Nearby". *Pure.*
//!
//! Somebody who is also on a node is shown once, by the signed presence. An instance is that of a user when both say so:
//! the user's signed presence names the instance, and the instance's TXT record has the user's mark
//! ([`super::announce::mark`]). So neither can hide behind the other: a signed presence that names a stranger's instance
//! hides nobody, and a copied mark makes its bearer wait, no more.

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::Peer;
use crosstalk_link_local::neighbours::{NeighbourKey, Sighting, Who};
use crosstalk_link_local::show::Show;
use crosstalk_link_local::txt::{Advert, NODE_MARK};
use jid::BareJid;

use super::announce::mark;
use super::io::LinkCommand;
use crate::core::Core;
use crate::core::account::Account;

/// How long somebody whose signed presence ended is not shown as mere Bonjour, milliseconds: its goodbye, or the news
/// that nothing answers there, is on the way.
const AFTERWARDS: u64 = 10_000;

impl Core {
    /// Somebody announces themselves, or something else of themselves.
    pub(super) fn seen_on_link(&mut self, peer: Peer) {
        let instance = peer.instance.clone();
        if self.link.announced.names().any(|own| same_name(own, &instance)) {
            return;
        }
        let marked = mark_of(&peer.advert).is_some();
        if let Err(refusal) = self.link.people.seen(peer, marked, self.now.mono) {
            return self.count(refusal.as_str());
        }
        if let Some(known) = self.link.people.get(&instance) {
            self.link.streams.moved(&instance, &known.addresses, self.now.mono);
        }
        self.decide_on_link(&instance);
        self.refresh_link_person(&instance);
        self.open_doors();
    }

    /// Somebody left, or does not answer any more.
    pub(super) fn gone_from_link(&mut self, instance: &Instance) {
        if self.link.people.gone(instance) {
            self.vouch(instance, false);
            self.neighbours.gone(&NeighbourKey::Bonjour(instance.clone()), self.now);
        }
        self.link.streams.gone(instance);
        self.requests_to(instance);
        loop {
            let lists = |account: &Account, jid: &BareJid| account.roster.get(jid.as_str()).is_some();
            let is_listed = |jid: &BareJid| self.accounts.iter().any(|account| lists(account, jid));
            let Some(next) = self.link.people.next_waiting(is_listed) else { return };
            self.seen_on_link(next);
        }
    }

    /// The users whom signed presences say to be this instance may be others now.
    pub(in crate::core) fn verification_changed(&mut self, instance: &Instance) {
        let Some(known) = self.link.people.get(instance) else { return };
        let marked = mark_of(&known.advert).is_some();
        let hidden = known.hidden_until <= self.now.mono && !self.is_shown(instance);
        if marked && hidden && !self.is_verified(instance) {
            self.link.people.hide_until(instance, self.now.mono + AFTERWARDS);
            self.command_link(LinkCommand::Suspect(instance.clone()));
        }
        self.decide_on_link(instance);
    }

    /// Those who were hidden for a while, and are still there.
    pub(super) fn look_again(&mut self) {
        let (before, now) = (self.link.looked, self.now.mono);
        self.link.looked = now;
        let due = |until: u64| until > before && until <= now;
        let people = &self.link.people;
        let names =
            people.names().filter(|name| people.get(name).is_some_and(|known| due(known.hidden_until)));
        for name in names.cloned().collect::<Vec<_>>() {
            self.decide_on_link(&name);
        }
    }

    fn decide_on_link(&mut self, instance: &Instance) {
        let key = NeighbourKey::Bonjour(instance.clone());
        let verified = self.is_verified(instance);
        self.vouch(instance, verified);
        let Some(known) = self.link.people.get(instance) else { return };
        if verified {
            return self.neighbours.gone(&key, self.now);
        }
        if self.is_shown(instance) || known.hidden_until <= self.now.mono {
            let sighting = sighting(key, instance, &known.advert);
            self.neighbours.sighted(sighting, self.now);
        }
    }

    /// Whether the overlay watches over the host of an instance.
    fn vouch(&mut self, instance: &Instance, watched: bool) {
        let vouched = &mut self.link.vouched;
        let changed = if watched { vouched.insert(instance.clone()) } else { vouched.remove(instance) };
        self.link.vouched_changed |= changed;
    }

    fn is_shown(&self, instance: &Instance) -> bool {
        self.neighbours.get(&Who::Bonjour(instance.clone())).is_some()
    }

    fn is_verified(&self, instance: &Instance) -> bool {
        let mark_there = self.link.people.get(instance).and_then(|known| mark_of(&known.advert));
        mark_there.is_some_and(|there| self.neighbours.naming(instance).any(|user| mark(&user) == there))
    }

    /// Who is shown of the link.
    pub(super) fn link_people_shown(&self) -> usize {
        self.nearby.keys().filter(|who| matches!(who, Who::Bonjour(_))).count()
    }

    /// SHA-1 of the picture that somebody announces.
    pub(in crate::core) fn link_picture_hash(&self, who: &Who) -> Option<[u8; 20]> {
        let Who::Bonjour(instance) = who else { return None };
        self.link.people.get(instance)?.advert.phsh
    }

    /// Whose address this is, of those who are seen by XEP-0174.
    pub(in crate::core) fn link_person(&self, bare: &str) -> Option<Who> {
        let bare = BareJid::new(bare).ok()?;
        self.link.people.at(&bare).cloned().map(Who::Bonjour)
    }

    /// What somebody on the link calls themselves.
    pub(in crate::core) fn link_nickname(&self, bare: &BareJid) -> Option<String> {
        let who = Who::Bonjour(self.link.people.at(bare)?.clone());
        self.neighbours.get(&who).map(|neighbour| neighbour.nickname.clone())
    }
}

fn sighting(key: NeighbourKey, instance: &Instance, advert: &Advert) -> Sighting {
    let named = advert.name().filter(|name| !crosstalk_link_local::clean::nickname(name).is_empty());
    // libpurple says away as `dnd`, and never means anything else by it.
    let show = match (advert.status, advert.node.as_deref()) {
        (Show::DoNotDisturb, Some("libpurple")) => Show::Away,
        (show, _) => show,
    };
    Sighting {
        nickname: named.unwrap_or_else(|| instance.nickname()),
        show,
        status: advert.msg.clone().unwrap_or_default(),
        instance: Some(instance.clone()),
        ..Sighting::new(key, u64::MAX)
    }
}

fn mark_of(advert: &Advert) -> Option<String> {
    let (_, value) = advert.unknown.iter().find(|(key, _)| key == NODE_MARK)?;
    String::from_utf8(value.clone()?).ok()
}

/// In DNS the case of letters does not count.
fn same_name(one: &Instance, other: &Instance) -> bool {
    one.as_str().to_lowercase() == other.as_str().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::link::io::LinkEvent;
    use crate::core::{Input, Output, Settings, Setup};
    use crosstalk_link_local::mdns::Event;
    use crosstalk_overlay::id::{DeviceId, UserId};
    use crosstalk_overlay::keys::NodeKey;
    use crosstalk_overlay::record::LinkStatus;
    use crosstalk_overlay::time::Now;

    const BEGIN: u64 = 1_800_000_000_000;

    fn core() -> Core {
        let settings = Settings { link_port: Some(5298), ..Settings::default() };
        let (node, contents) = (NodeKey::from_seed([7; 32]), crosstalk_storage::Contents::default());
        let keys = std::collections::BTreeMap::new();
        let setup = Setup { node, seed: [1; 32], settings, contents, keys, built: BEGIN };
        Core::new(setup, at(0)).unwrap()
    }

    fn at(mono: u64) -> Now {
        Now { mono, wall: BEGIN + mono }
    }

    fn user(number: u8) -> UserId {
        UserId::from_bytes([number; 32])
    }

    fn seen(core: &mut Core, name: &str, marked: Option<u8>, now: u64) {
        let unknown = marked.map(|number| (NODE_MARK.to_owned(), Some(mark(&user(number)).into_bytes())));
        let advert = Advert { unknown: unknown.into_iter().collect(), ..Advert::default() };
        let instance = Instance::new(name).unwrap();
        let peer = Box::new(Peer { instance, advert, addresses: Vec::new() });
        core.handle(Input::Link(LinkEvent::Mdns(Event::Seen(peer))), at(now));
    }

    fn signed(core: &mut Core, number: u8, device: u8, names: &str, now: u64) {
        let key = NeighbourKey::Node(user(number), DeviceId::from_bytes([device; 32]));
        let status = LinkStatus { instance: names.to_owned(), ..LinkStatus::default() };
        core.neighbours.sighted(Sighting::of_node(key, &status, now + 120_000), at(now));
        core.drain_neighbours();
    }

    fn gone(core: &mut Core, number: u8, device: u8, now: u64) {
        core.neighbours.gone(&NeighbourKey::Node(user(number), DeviceId::from_bytes([device; 32])), at(now));
        core.handle(Input::Timeout, at(now));
    }

    /// Who is shown: users by number, people of the link by name.
    fn shown(core: &Core) -> Vec<String> {
        let text = |who: &Who| match who {
            Who::User(user) => user.as_bytes()[0].to_string(),
            Who::Bonjour(instance) => instance.to_string(),
        };
        core.nearby.keys().map(text).collect()
    }

    #[test]
    fn somebody_on_a_node_is_shown_once_whatever_comes_first() {
        let mut core = core();
        seen(&mut core, "bob@h2", Some(1), 0);
        assert_eq!(shown(&core), [""; 0], "waits for the signed presence");
        signed(&mut core, 1, 1, "bob@h2", 1_000);
        core.handle(Input::Timeout, at(5_000));
        assert_eq!(shown(&core), ["1"]);
        seen(&mut core, "bob-2@h3", Some(1), 6_000);
        core.handle(Input::Timeout, at(9_000));
        assert_eq!(shown(&core), ["1", "bob-2@h3"], "it did not come in time");
        signed(&mut core, 1, 2, "bob-2@h3", 9_500);
        assert_eq!(shown(&core), ["1"], "a second device of the same user");
    }

    /// What multicast DNS was told last of those whom it need not ask.
    fn vouched(core: &mut Core) -> Option<Vec<String>> {
        let mut last = None;
        while let Some(output) = core.poll_output() {
            match output {
                Output::Link(LinkCommand::Vouched(all)) => {
                    last = Some(all.iter().map(ToString::to_string).collect())
                }
                Output::Commit { batch, .. } => core.handle(Input::Committed { batch }, at(0)),
                _ => {}
            }
        }
        last
    }

    #[test]
    fn whoever_found_no_room_is_shown_when_somebody_leaves() {
        let mut core = core();
        for number in 0..512 {
            seen(&mut core, &format!("n{number}"), None, 0);
        }
        seen(&mut core, "bob@h2", None, 0);
        seen(&mut core, "eve@h3", None, 0);
        let known = |core: &Core, name| core.link.people.get(&Instance::new(name).unwrap()).is_some();
        assert!(!known(&core, "bob@h2"));
        for gone in ["eve@h3", "n5"] {
            core.handle(Input::Link(LinkEvent::Mdns(Event::Gone(Instance::new(gone).unwrap()))), at(10));
        }
        assert!(known(&core, "bob@h2") && !known(&core, "eve@h3"));
    }

    #[test]
    fn those_whom_a_signed_presence_names_are_vouched_for() {
        let mut core = core();
        seen(&mut core, "bob@h2", Some(1), 0);
        seen(&mut core, "carol@h3", None, 0);
        assert_eq!(vouched(&mut core), None);
        signed(&mut core, 1, 1, "bob@h2", 100);
        core.handle(Input::Timeout, at(200));
        assert_eq!(vouched(&mut core), Some(vec!["bob@h2".to_owned()]));
        core.handle(Input::Timeout, at(300));
        assert_eq!(vouched(&mut core), None, "only when it changes");
        gone(&mut core, 1, 1, 20_000);
        assert_eq!(vouched(&mut core), Some(Vec::new()));
    }

    #[test]
    fn nobody_hides_another() {
        let mut core = core();
        seen(&mut core, "bob@h2", None, 0);
        assert_eq!(shown(&core), ["bob@h2"]);
        signed(&mut core, 2, 1, "bob@h2", 10);
        assert_eq!(shown(&core), ["2", "bob@h2"], "a signed presence that names a stranger's instance");
        seen(&mut core, "eve@h3", Some(2), 20);
        core.handle(Input::Timeout, at(3_020));
        assert_eq!(shown(&core), ["2", "bob@h2", "eve@h3"], "a copied mark");
    }

    #[test]
    fn after_its_signed_presence_somebody_is_shown_as_bonjour_if_still_there() {
        let mut core = core();
        seen(&mut core, "bob@h2", Some(1), 0);
        signed(&mut core, 1, 1, "bob@h2", 100);
        gone(&mut core, 1, 1, 20_000);
        core.handle(Input::Timeout, at(29_999));
        assert_eq!(shown(&core), [""; 0], "its goodbye may be on the way");
        assert!(core.link_timeout().is_some_and(|(when, _)| when == 30_000));
        core.handle(Input::Timeout, at(30_000));
        assert_eq!(shown(&core), ["bob@h2"]);
    }
}

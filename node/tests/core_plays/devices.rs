//! One person on two nodes: contact lists, blocks and subscriptions agree, whoever edited what while they were apart.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{BEGIN, Client, Play, says};
use crosstalk::core::Output;
use crosstalk::core::admin::{Command, Reply};
use crosstalk::xmpp::Element;
use crosstalk_overlay::id::DeviceId;
use crosstalk_overlay::keys::UserKey;
use crosstalk_overlay::record::{Revocation, Revoked, RevokedBy, Verified};

const HOUR: u64 = 60 * 60 * 1_000;

/// Anna on two nodes that are joined, logged in at each.
struct Two {
    nodes: [Play; 2],
    clients: [Client; 2],
}

impl Two {
    fn new() -> Self {
        let nodes = [Play::elsewhere(1), Play::elsewhere(2)];
        nodes.iter().for_each(|node| node.account("anna"));
        let two = Self { clients: [nodes[0].online("anna/desk"), nodes[1].online("anna/couch")], nodes };
        two.meet();
        two
    }

    fn all(&self) -> [&Play; 2] {
        [&self.nodes[0], &self.nodes[1]]
    }

    fn meet(&self) {
        join(&self.all(), &self.nodes[0], &self.nodes[1]);
        self.forget();
    }

    fn part(&self) {
        cut(&self.all(), &self.nodes[0], &self.nodes[1]);
        self.forget();
    }

    fn rest(&self) {
        rest(&self.all());
    }

    fn forget(&self) {
        for client in &self.clients {
            client.forget();
        }
    }

    /// The contact list as the node at that place tells it.
    fn list(&self, at: usize) -> BTreeMap<String, (Option<String>, Vec<String>)> {
        let reply = self.nodes[at].command(Command::Contacts("anna".to_owned()));
        let Reply::Contacts(contacts) = reply else { panic!("{reply:?}") };
        contacts.into_iter().map(|contact| (contact.jid, (contact.name, contact.groups))).collect()
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.forget();
    }
}

fn set(client: &Client, item: &str) {
    client.send(&format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
}

fn blocking(client: &Client, what: &str, jid: &str) {
    client.send(&format!(
        "<iq type='set' id='b'><{what} xmlns='urn:xmpp:blocking'><item jid='{jid}'/></{what}></iq>"
    ));
}

#[test]
fn what_one_device_edits_is_pushed_at_the_other() {
    let two = Two::new();
    let [desk, couch] = &two.clients;
    set(desk, "<item jid='bob@far.example' name='Bob'/>");
    two.rest();
    couch.expects_item("<item jid='bob@far.example' name='Bob' subscription='none'/>");
    set(couch, "<item jid='bob@far.example' name='Robert'><group>Work</group></item>");
    two.forget();
    two.rest();
    desk.expects_item(
        "<item jid='bob@far.example' name='Robert' subscription='none'><group>Work</group></item>",
    );
    set(desk, "<item jid='bob@far.example' subscription='remove'/>");
    two.rest();
    couch.expects_item("<item jid='bob@far.example' subscription='remove'/>");
    assert_eq!(two.list(0), two.list(1));
    assert!(two.list(0).is_empty());
}

#[test]
fn edits_made_apart_are_merged_field_by_field() {
    let two = Two::new();
    let [desk, couch] = &two.clients;
    set(desk, "<item jid='bob@far.example' name='Bob'/>");
    two.rest();
    two.part();
    set(desk, "<item jid='bob@far.example' name='Robert'/>");
    two.nodes.iter().for_each(|node| node.wait(10));
    set(couch, "<item jid='bob@far.example' name='Bob'><group>Work</group></item>");
    set(desk, "<item jid='carl@far.example'/>");
    two.meet();
    two.rest();
    assert_eq!(two.list(0), two.list(1));
    let bob = (Some("Robert".to_owned()), vec!["Work".to_owned()]);
    assert_eq!(two.list(1)["bob@far.example"], bob);
    assert!(two.list(1).contains_key("carl@far.example"));
}

/// A removal does not win against what somebody did with the contact later.
#[test]
fn a_contact_that_is_wanted_later_is_back() {
    let two = Two::new();
    let [desk, couch] = &two.clients;
    set(desk, "<item jid='bob@far.example' name='Bob'><group>Work</group></item>");
    two.rest();
    two.part();
    set(desk, "<item jid='bob@far.example' subscription='remove'/>");
    two.nodes.iter().for_each(|node| node.wait(10));
    set(couch, "<item jid='bob@far.example' name='Robert'><group>Work</group></item>");
    two.meet();
    two.rest();
    assert_eq!(two.list(0), two.list(1));
    assert_eq!(two.list(0)["bob@far.example"], (Some("Robert".to_owned()), vec!["Work".to_owned()]));
}

#[test]
fn a_new_device_gets_everything_in_one_pass() {
    let (old, new, bob) = (Play::elsewhere(1), Play::elsewhere(2), Play::elsewhere(3));
    old.account("anna");
    let desk = old.online("anna/desk");
    let friend = bob.online("bob/phone");
    join(&[&old, &bob], &old, &bob);
    for n in 0..500 {
        set(&desk, &format!("<item jid='c{n}@far.example' name='{n}'/>"));
    }
    desk.send("<presence to='bob@xid' type='subscribe'/>");
    rest(&[&old, &bob]);
    friend.send("<presence to='anna@xid' type='subscribed'/>");
    friend.send("<presence to='anna@xid' type='subscribe'/>");
    blocking(&desk, "block", "spam.example");
    rest(&[&old, &bob]);
    desk.forget();
    // As by `device join`: the nodes are connected before there is an account.
    join(&[&old, &new], &old, &new);
    new.account("anna");
    let couch = new.online("anna/couch");
    rest(&[&old, &new]);
    couch.forget();
    let contacts = |play: &Play| {
        let Reply::Contacts(contacts) = play.command(Command::Contacts("anna".to_owned())) else { panic!() };
        let mut all: Vec<_> =
            contacts.into_iter().map(|c| (c.jid, c.name, c.subscription, c.ask, c.pending_in)).collect();
        all.sort();
        all
    };
    assert_eq!(contacts(&old), contacts(&new));
    assert_eq!(contacts(&new).len(), 501);
    let bob_there = contacts(&new).into_iter().find(|contact| contact.0.starts_with("00")).unwrap();
    assert_eq!((bob_there.2.as_str(), bob_there.4), ("to", true));
    couch.send("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    couch.expects("<iq type='result' id='l'><blocklist xmlns='urn:xmpp:blocking'><item jid='spam.example'/></blocklist></iq>");
    // Nothing is left to be told, and meeting again tells nothing: both digests are the same.
    assert_eq!(old.stored(crosstalk_storage::Tree::Outbox), 0);
    cut(&[&old, &new], &old, &new);
    [&old, &new].iter().for_each(|node| node.wait(2 * HOUR));
    [&old, &new].iter().for_each(|node| drop(node.others()));
    join(&[&old, &new], &old, &new);
    couch.hears_nothing();
    for client in [&desk, &friend] {
        client.forget();
    }
}

#[test]
fn blocks_agree() {
    let two = Two::new();
    let [desk, couch] = &two.clients;
    couch.send("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    two.forget();
    blocking(desk, "block", "bob@far.example");
    two.rest();
    couch.expects(
        "<iq type='set' id='*'><block xmlns='urn:xmpp:blocking'><item jid='bob@far.example'/></block></iq>",
    );
    two.part();
    blocking(desk, "unblock", "bob@far.example");
    blocking(couch, "block", "carl@far.example");
    two.meet();
    two.rest();
    for client in &two.clients {
        client.forget();
        client.send("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
        client.expects(
            "<iq type='result' id='l'><blocklist xmlns='urn:xmpp:blocking'><item jid='carl@far.example'/></blocklist></iq>",
        );
    }
}

/// A request that is shown on both is answered on one, and that holds for both.
#[test]
fn an_answer_given_on_one_device_is_the_answer_of_both() {
    let two = Two::new();
    let bob = Play::elsewhere(3);
    let friend = bob.online("bob/phone");
    let nodes = [&two.nodes[0], &two.nodes[1], &bob];
    join(&nodes, &two.nodes[0], &bob);
    join(&nodes, &two.nodes[1], &bob);
    two.forget();
    friend.send("<presence to='anna@xid' type='subscribe'/>");
    rest(&nodes);
    let [desk, couch] = &two.clients;
    for client in [desk, couch] {
        client.expects("<presence from='bob@xid' type='subscribe'/>");
    }
    desk.send("<presence to='bob@xid' type='subscribed'/>");
    rest(&nodes);
    couch.expects_item("<item jid='bob@xid' subscription='none'/>");
    couch.expects_item("<item jid='bob@xid' subscription='from'/>");
    couch.send("<presence to='bob@xid' type='subscribe'/>");
    rest(&nodes);
    friend.forget();
    friend.send("<presence to='anna@xid' type='subscribed'/>");
    rest(&nodes);
    for at in [0, 1] {
        let Reply::Contacts(contacts) = two.nodes[at].command(Command::Contacts("anna".to_owned())) else {
            panic!()
        };
        assert_eq!(contacts.len(), 1);
        assert_eq!((contacts[0].subscription.as_str(), contacts[0].online), ("both", true), "at {at}");
    }
    friend.forget();
}

/// Bob has met one of anna's devices only: what he says comes to the other one all the same.
#[test]
fn what_somebody_tells_one_device_both_know() {
    let two = Two::new();
    let bob = Play::elsewhere(3);
    let friend = bob.online("bob/phone");
    let nodes = [&two.nodes[0], &two.nodes[1], &bob];
    join(&nodes, &two.nodes[0], &bob);
    two.forget();
    let [desk, couch] = &two.clients;
    friend.send("<presence to='anna@xid' type='subscribe'/>");
    rest(&nodes);
    desk.expects("<presence from='bob@xid' type='subscribe'/>");
    let xid = format!("{}@id.internal", bob.user("bob").xid());
    couch.expects(&format!("<presence from='{xid}' type='subscribe'/>"));
    couch.send(&format!("<presence to='{xid}' type='subscribed'/>"));
    rest(&nodes);
    desk.expects_item("<item jid='bob@xid' subscription='none'/>");
    desk.expects_item("<item jid='bob@xid' subscription='from'/>");
    two.forget();
    friend.forget();
}

/// Whoever changes its mind without end fills no outbox of somebody whose other device is away; that one has the last word when it
/// is back.
#[test]
fn what_strangers_say_does_not_fill_the_outbox_for_the_other_device() {
    let two = Two::new();
    two.part();
    let bob = Play::elsewhere(3);
    let friend = bob.online("bob/phone");
    let nodes = [&two.nodes[0], &bob];
    join(&nodes, &two.nodes[0], &bob);
    let waiting = || two.nodes[0].stored(crosstalk_storage::Tree::Outbox);
    let before = waiting();
    let says = |type_: &str| {
        friend.send(&format!("<presence to='anna@xid' type='{type_}'/>"));
        rest(&nodes);
    };
    for _ in 0..5 {
        says("subscribe");
    }
    assert_eq!(waiting(), before + 1, "what changes nothing is not told");
    for _ in 0..110 {
        says("unsubscribe");
        says("subscribe");
    }
    assert_eq!(waiting(), 200);
    two.forget();
    two.nodes.iter().for_each(|node| node.wait(HOUR));
    join(&two.all(), &two.nodes[0], &two.nodes[1]);
    let xid = format!("{}@id.internal", bob.user("bob").xid());
    let asks = |element: &Element| {
        element.get_attr("type") == Some("subscribe") && element.get_attr("from") == Some(&xid)
    };
    let shown = two.clients[1].takes_all();
    assert!(shown.last().is_some_and(asks), "the last word is another: {:?}", shown.last());
    two.forget();
    friend.forget();
}

/// What was sent on one device is shown on the other when somebody comes there.
#[test]
fn a_copy_waits_for_a_client_of_the_other_device() {
    for lost in [false, true] {
        let two = Two::new();
        let bob = Play::elsewhere(3);
        let friend = bob.online("bob/phone");
        join(&[&two.nodes[0], &bob], &two.nodes[0], &bob);
        if lost {
            // That session may be resumed, but nobody is here.
            two.clients[1].enables_management();
            two.clients[1].breaks();
        } else {
            two.clients[1].leaves();
        }
        two.rest();
        two.clients[0].send("<message to='bob@xid' type='chat'><body>hi</body></message>");
        rest(&[&two.nodes[0], &two.nodes[1], &bob]);
        assert_eq!(two.nodes[1].stored(crosstalk_storage::Tree::Inbox), 1);
        let couch = two.nodes[1].login("anna/couch");
        couch.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        couch.expects("<iq type='result' id='c'/>");
        couch.send("<presence/>");
        let all = couch.takes_all();
        let copies: Vec<_> =
            all.iter().filter(|element| element.get("sent", "urn:xmpp:carbons:2").is_some()).collect();
        assert_eq!(copies.len(), 1, "{all:?}");
        assert!(says(copies[0], "hi"));
        friend.forget();
    }
}

/// Who is a contact already is seen on a new device at once, though its presence came before the contact did.
#[test]
fn a_new_device_sees_who_is_online() {
    let (old, new, bob) = (Play::elsewhere(1), Play::elsewhere(2), Play::elsewhere(3));
    let nodes = [&old, &new, &bob];
    let (desk, friend) = (old.online("anna/desk"), bob.online("bob/phone"));
    join(&nodes, &old, &bob);
    join(&nodes, &new, &bob);
    desk.forget();
    for (asks, grants) in [(&desk, "bob@xid"), (&friend, "anna@xid")] {
        asks.send(&format!("<presence to='{grants}' type='subscribe'/>"));
        rest(&nodes);
    }
    desk.send("<presence to='bob@xid' type='subscribed'/>");
    friend.send("<presence to='anna@xid' type='subscribed'/>");
    rest(&nodes);
    new.account("anna");
    rest(&nodes);
    join(&nodes, &old, &new);
    let couch = new.online("anna/couch");
    rest(&nodes);
    let Reply::Contacts(contacts) = new.command(Command::Contacts("anna".to_owned())) else { panic!() };
    assert_eq!((contacts.len(), contacts[0].subscription.as_str(), contacts[0].online), (1, "both", true));
    for client in [&desk, &friend, &couch] {
        client.forget();
    }
}

/// What was agreed by way of a laptop that is lost is still agreed, also after a restart.
#[test]
fn what_a_lost_laptop_has_agreed_stays() {
    let (first, second, there) = (Play::elsewhere(1), Play::elsewhere(2), Play::elsewhere(3));
    [&first, &second].iter().for_each(|node| node.account("anna"));
    there.account("bob");
    let all = [&first, &second, &there];
    join(&all, &first, &second);
    join(&all, &first, &there);
    let (anna, bob) = (first.online("anna/desk"), there.online("bob/phone"));
    for (asks, grants) in [(&anna, &bob), (&bob, &anna)] {
        asks.send(&format!("<presence to='{}@xid' type='subscribe'/>", grants.name));
        rest(&all);
        grants.send(&format!("<presence to='{}@xid' type='subscribed'/>", asks.name));
        rest(&all);
    }
    let subscription = |node: &Play, account: &str| {
        let Reply::Contacts(contacts) = node.command(Command::Contacts(account.to_owned())) else { panic!() };
        contacts.into_iter().map(|contact| contact.subscription).collect::<Vec<_>>()
    };
    for _ in 0..15 {
        all.iter().for_each(|node| node.wait(1_000));
        rest(&all);
    }
    assert_eq!(subscription(&second, "anna"), ["both"]);
    cut(&all, &first, &second);
    cut(&all, &first, &there);
    join(&all, &second, &there);
    let Reply::Devices(devices) = second.command(Command::Devices("anna".to_owned())) else { panic!() };
    let revocation = revocation_of(&devices.iter().find(|device| !device.here).unwrap().device);
    let command = Command::RevokeDevice { account: "anna".to_owned(), revocation };
    assert!(matches!(second.command(command), Reply::Done));
    rest(&all);
    anna.forget();
    bob.forget();
    for (node, account) in [(&second, "anna"), (&there, "bob")] {
        assert_eq!(subscription(node, account), ["both"]);
        node.restart();
        assert_eq!(subscription(node, account), ["both"], "{account}");
    }
    bob.forget();
}

/// By anna's key: a device of hers is hers no more.
fn revocation_of(device: &str) -> Vec<u8> {
    let mut seed = [200; 32];
    seed[..4].copy_from_slice(b"anna");
    let key = UserKey::from_seed(seed);
    let what = Revoked::Device(key.id(), DeviceId::from_hex(device).unwrap());
    let revocation = Revocation { what, by: RevokedBy::User, since: BEGIN };
    Verified::sign(revocation, &key, None).unwrap().bytes().to_vec()
}

/// A node that learns that its device was revoked says so and ends; a restart changes nothing of that.
#[test]
fn a_revoked_device_ends() {
    let two = Two::new();
    let Reply::Devices(devices) = two.nodes[0].command(Command::Devices("anna".to_owned())) else { panic!() };
    assert_eq!(devices.len(), 2);
    assert_eq!(devices.iter().filter(|device| device.name == "host").count(), 2);
    let lost = devices.iter().find(|device| !device.here).unwrap();
    let revocation = revocation_of(&lost.device);
    for node in &two.nodes {
        let command = Command::RevokeDevice { account: "anna".to_owned(), revocation: revocation.clone() };
        assert!(matches!(node.command(command), Reply::Done));
    }
    two.clients[1].is_closed_with("not-authorized");
    let told = two.nodes[1]
        .others()
        .into_iter()
        .any(|output| matches!(output, Output::Notice(text) if text.contains("revoked")));
    assert!(told);
    two.nodes[1].restart();
    for (at, left) in [(0, 1), (1, 0)] {
        let Reply::Accounts(accounts) = two.nodes[at].command(Command::ListAccounts) else { panic!() };
        assert_eq!(accounts.len(), left);
    }
    let Reply::Devices(devices) = two.nodes[0].command(Command::Devices("anna".to_owned())) else { panic!() };
    assert_eq!(devices.len(), 1);
    // Nothing is kept for it either.
    set(&two.clients[0], "<item jid='bob@far.example'/>");
    assert_eq!(two.nodes[0].stored(crosstalk_storage::Tree::Outbox), 0);
}

/// One edit of somebody's contact list, at one of two places, or a meeting.
#[derive(Clone, Debug)]
enum Step {
    Set { at: usize, who: u8, name: u8, group: bool },
    Remove { at: usize, who: u8 },
    Block { at: usize, who: u8, lift: bool },
    Meet,
    Part,
    Restart { at: usize },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..3_u8, 0..3_u8, any::<bool>())
            .prop_map(|(at, who, name, group)| Step::Set { at, who, name, group }),
        2 => (0..2_usize, 0..3_u8).prop_map(|(at, who)| Step::Remove { at, who }),
        2 => (0..2_usize, 0..2_u8, any::<bool>()).prop_map(|(at, who, lift)| Step::Block { at, who, lift }),
        1 => Just(Step::Meet),
        1 => Just(Step::Part),
        1 => (0..2_usize).prop_map(|at| Step::Restart { at }),
        2 => (1..50_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Through the real cores, with restarts: whatever was edited where, both lists are the same after a meeting.
    #[test]
    fn two_devices_converge(steps in prop::collection::vec(step(), 1..30)) {
        let nodes = [Play::elsewhere(1), Play::elsewhere(2)];
        nodes.iter().for_each(|node| node.account("anna"));
        let all = [&nodes[0], &nodes[1]];
        let mut together = false;
        let edit = |at: usize, xml: &str| {
            let client = nodes[at].login("anna/desk");
            client.send(&format!("<iq type='set' id='e'>{xml}</iq>"));
            client.forget();
            client.leaves();
        };
        let part = |together: &mut bool| if std::mem::take(together) { cut(&all, &nodes[0], &nodes[1]); };
        let meet = |together: &mut bool| {
            if !std::mem::replace(together, true) { join(&all, &nodes[0], &nodes[1]); }
            rest(&all);
        };
        for step in steps {
            match step {
                Step::Set { at, who, name, group } => {
                    let group = if group { "<group>Work</group>" } else { "" };
                    edit(at, &format!("<query xmlns='jabber:iq:roster'><item jid='c{who}@far.example' name='{name}'>{group}</item></query>"));
                }
                Step::Remove { at, who } => {
                    edit(at, &format!("<query xmlns='jabber:iq:roster'><item jid='c{who}@far.example' subscription='remove'/></query>"));
                }
                Step::Block { at, who, lift } => {
                    let what = if lift { "unblock" } else { "block" };
                    edit(at, &format!("<{what} xmlns='urn:xmpp:blocking'><item jid='b{who}@far.example'/></{what}>"));
                }
                Step::Meet => meet(&mut together),
                Step::Part => part(&mut together),
                Step::Restart { at } => {
                    part(&mut together);
                    nodes[at].restart();
                }
                Step::Wait(millis) => nodes.iter().for_each(|node| node.wait(millis)),
            }
            if together {
                rest(&all);
            }
        }
        meet(&mut together);
        let seen = |at: usize| {
            let client = nodes[at].login("anna/desk");
            let ask = |xml: &str| {
                client.send(&format!("<iq type='get' id='g'>{xml}</iq>"));
                let answer = client.takes_all().remove(0);
                let mut items: Vec<String> = answer.children().flat_map(|child| child.children())
                    .map(|item| String::from_utf8(item.to_bytes("")).unwrap()).collect();
                items.sort();
                items
            };
            let seen = (ask("<query xmlns='jabber:iq:roster'/>"), ask("<blocklist xmlns='urn:xmpp:blocking'/>"));
            client.leaves();
            seen
        };
        prop_assert_eq!(seen(0), seen(1));
    }
}

//! Carbons, client state, discovery and the small services of a node.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crosstalk::core::io::LoginChange;
use crosstalk::core::{Input, Output};
use crosstalk::xmpp::{Element, ns};
use sha1::{Digest, Sha1};

use super::management::manage;
use crate::core_support::{Client, Play, credentials};

fn ask(client: &Client, type_: &str, to: &str, payload: &str) {
    let to = if to.is_empty() { String::new() } else { format!("to='{to}'") };
    client.send(&format!("<iq type='{type_}' id='q' {to}>{payload}</iq>"));
}

fn gets(client: &Client, from: &str, payload: &str) -> Element {
    let from = if from.is_empty() { String::new() } else { format!("from='{from}'") };
    client.expects(&format!("<iq type='result' id='q' {from}>{payload}</iq>"))
}

fn is_refused(client: &Client, from: &str, type_: &str, condition: &str) {
    let from = if from.is_empty() { String::new() } else { format!("from='{from}'") };
    client.expects(&format!(
        "<iq type='error' id='q' {from}><error type='{type_}'><{condition}/></error></iq>"
    ));
}

fn with_carbons(play: &Play, who: &str) -> Client {
    let client = play.online(who);
    ask(&client, "set", "", "<enable xmlns='urn:xmpp:carbons:2'/>");
    gets(&client, "", "");
    client
}

/// XEP-0280 §6, §7: copies of what another session sent and received, from the own bare address.
#[test]
fn carbons_of_what_was_sent_and_received() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    let phone = with_carbons(&play, "anna/phone");
    anna.forget();
    anna.send("<message to='bob@school.example' type='chat' id='1'><body>hi</body></message>");
    phone.expects(
        "<message from='anna@school.example' to='anna@school.example/phone' type='chat'>\
         <sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='anna@school.example/desk' to='bob@school.example' type='chat' id='1'>\
         <body>hi</body></message></forwarded></sent></message>",
    );
    bob.forget();
    bob.send("<message to='anna@school.example/desk' type='chat' id='2'><body>hello</body></message>");
    phone.expects(
        "<message from='anna@school.example' to='anna@school.example/phone' type='chat'>\
         <received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='bob@school.example/desk' to='anna@school.example/desk' type='chat' id='2'>\
         <body>hello</body></message></forwarded></received></message>",
    );
    anna.expects("<message from='bob@school.example/desk' type='chat' id='2'><body>hello</body></message>");
}

/// XEP-0280 §6.1, §9: what is private, marked, or for a group is not copied; nor is anything after `<disable/>`.
#[test]
fn carbons_that_are_not_wanted() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    let phone = with_carbons(&play, "anna/phone");
    anna.forget();
    let to = "to='bob@school.example/desk'";
    anna.send(&format!(
        "<message {to} type='chat'><body>x</body><private xmlns='urn:xmpp:carbons:2'/></message>"
    ));
    bob.expects("<message from='anna@school.example/desk' type='chat'><body>x</body></message>");
    anna.send(&format!(
        "<message {to} type='chat'><body>x</body><no-copy xmlns='urn:xmpp:hints'/></message>"
    ));
    anna.send(&format!("<message {to} type='headline'><body>x</body></message>"));
    anna.send(&format!("<message {to} type='groupchat'><body>x</body></message>"));
    anna.send(&format!("<message {to}><x xmlns='urn:example:no-body'/></message>"));
    phone.hears_nothing();
    ask(&phone, "set", "", "<disable xmlns='urn:xmpp:carbons:2'/>");
    gets(&phone, "", "");
    anna.send(&format!("<message {to} type='chat'><body>x</body></message>"));
    phone.hears_nothing();
    bob.forget();
}

/// XEP-0280 §7: a session that gets the message itself gets no copy.
#[test]
fn whoever_has_the_message_gets_no_carbon() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let one = with_carbons(&play, "bob/one");
    let two = with_carbons(&play, "bob/two");
    one.forget();
    anna.send("<message to='bob@school.example' type='chat'><body>x</body></message>");
    for client in [&one, &two] {
        client.expects("<message from='anna@school.example/desk' type='chat'><body>x</body></message>");
    }
}

/// XEP-0352 §3: an inactive client is spared presence and chat states until something for a person comes.
#[test]
fn an_inactive_client_is_spared() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.befriend(&anna, &bob);
    bob.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    anna.send("<presence><show>away</show></presence>");
    anna.send("<presence><show>dnd</show></presence>");
    anna.send(
        "<message to='bob@school.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    bob.hears_nothing();
    anna.send("<message to='bob@school.example' type='chat'><body>hi</body></message>");
    bob.expects("<presence from='anna@school.example/desk'><show>dnd</show></presence>");
    bob.expects("<message from='anna@school.example/desk' type='chat'><body>hi</body></message>");
    anna.send("<presence/>");
    bob.hears_nothing();
    bob.send("<active xmlns='urn:xmpp:csi:0'/>");
    bob.expects("<presence from='anna@school.example/desk'/>");
    anna.send("<presence type='unavailable'/>");
    bob.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
    anna.forget();
}

/// What a client spares is nothing that it is given to keep (XEP-0334): that would stand before all that comes after it.
#[test]
fn a_chat_state_that_is_to_be_stored_keeps_nothing_back() {
    let play = Play::new();
    let (anna, _) = manage(&play, "anna/desk");
    let (bob, _) = manage(&play, "bob/phone");
    bob.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    anna.send(
        "<message to='bob@school.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/>\
         <store xmlns='urn:xmpp:hints'/></message>",
    );
    anna.send("<message to='bob@school.example' type='chat'><body>hi</body></message>");
    let got = bob.takes_all();
    let bodies = got.iter().filter(|element| element.children().any(|child| child.name() == "body"));
    assert_eq!(bodies.count(), 1, "{got:?}");
    anna.forget();
}

/// XEP-0352 §5: a copy of a chat state does not wake an inactive client.
#[test]
fn an_inactive_client_is_spared_copies_of_chat_states() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    let phone = with_carbons(&play, "anna/phone");
    anna.forget();
    phone.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    anna.send(
        "<message to='bob@school.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    phone.hears_nothing();
    bob.forget();
}

/// XEP-0030 §3, XEP-0160 §4: what the node and the own account are and can.
#[test]
fn discovery() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    ask(&anna, "get", "school.example", "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    let info = gets(
        &anna,
        "school.example",
        "<query xmlns='http://jabber.org/protocol/disco#info'>\
         <identity category='server' type='im' name='CrossTalk'/>…</query>",
    );
    for feature in [
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        ns::CAPS,
        ns::CARBONS,
        ns::BLOCKING,
        ns::PING,
        ns::VERSION,
        ns::TIME,
        ns::LAST,
        ns::VCARD,
        ns::REGISTER,
        ns::OFFLINE,
    ] {
        assert!(features(&info).contains(&feature.to_owned()), "{feature}");
    }
    ask(&anna, "get", "anna@school.example", "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    let info = gets(
        &anna,
        "anna@school.example",
        "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='account' type='registered'/>…</query>",
    );
    assert!(features(&info).contains(&ns::STANZA_ID.to_owned()));
    ask(&anna, "get", "school.example", "<query xmlns='http://jabber.org/protocol/disco#items'/>");
    gets(&anna, "school.example", "<query xmlns='http://jabber.org/protocol/disco#items'/>");
}

fn features(info: &Element) -> Vec<String> {
    let query = info.children().next().unwrap();
    query.children().filter_map(|child| child.get_attr("var")).map(str::to_owned).collect()
}

/// XEP-0030 §3.2, §8: a node that is not there, a set, and an account that the asker may not see.
#[test]
fn discovery_that_is_refused() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    ask(&anna, "get", "school.example", "<query xmlns='http://jabber.org/protocol/disco#info' node='what'/>");
    is_refused(&anna, "school.example", "cancel", "item-not-found");
    ask(&anna, "set", "school.example", info);
    is_refused(&anna, "school.example", "cancel", "not-allowed");
    ask(&anna, "get", "bob@school.example", info);
    is_refused(&anna, "bob@school.example", "cancel", "service-unavailable");
    play.befriend(&anna, &bob);
    ask(&anna, "get", "bob@school.example", info);
    anna.expects("<iq type='result' id='q' from='bob@school.example'>…</iq>");
}

/// XEP-0115 §5.1: the hash that is announced as a stream feature is that of the node's disco answer.
#[test]
fn the_capabilities_hash_equals_disco() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    let stream = crosstalk::features::stream_features();
    let caps = stream.iter().find(|feature| feature.ns() == ns::CAPS).expect("caps are announced");
    let (node, ver) = (caps.get_attr("node").unwrap(), caps.get_attr("ver").unwrap());
    ask(
        &anna,
        "get",
        "school.example",
        &format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}#{ver}'/>"),
    );
    let info = gets(
        &anna,
        "school.example",
        &format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}#{ver}'>…</query>"),
    );
    let identity = info.children().next().unwrap().children().next().unwrap();
    let part = |name| identity.get_attr(name).unwrap_or_default();
    let mut text = format!("{}/{}/{}/{}<", part("category"), part("type"), part("xml:lang"), part("name"));
    let mut sorted = features(&info);
    sorted.sort();
    sorted.iter().for_each(|feature| text.push_str(&format!("{feature}<")));
    assert_eq!(ver, STANDARD.encode(Sha1::digest(text.as_bytes())));
}

/// XEP-0092, XEP-0199, XEP-0202: version, ping, time.
#[test]
fn version_ping_and_time() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    ask(&anna, "get", "school.example", "<query xmlns='jabber:iq:version'/>");
    gets(
        &anna,
        "school.example",
        "<query xmlns='jabber:iq:version'><name>CrossTalk</name><version>*</version></query>",
    );
    for to in ["", "school.example", "anna@school.example"] {
        ask(&anna, "get", to, "<ping xmlns='urn:xmpp:ping'/>");
        gets(&anna, to, "");
    }
    play.wait(1_500);
    ask(&anna, "get", "school.example", "<time xmlns='urn:xmpp:time'/>");
    gets(
        &anna,
        "school.example",
        "<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2027-01-15T08:00:01.500Z</utc></time>",
    );
}

/// XEP-0012: uptime of the node; how long somebody has been away, for those who may see it.
#[test]
fn last_activity() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/desk"));
    let last = "<query xmlns='jabber:iq:last'/>";
    play.wait(42_000);
    ask(&anna, "get", "school.example", last);
    gets(&anna, "school.example", "<query xmlns='jabber:iq:last' seconds='42'/>");
    ask(&anna, "get", "bob@school.example", last);
    is_refused(&anna, "bob@school.example", "auth", "forbidden");
    play.befriend(&anna, &bob);
    ask(&anna, "get", "bob@school.example", last);
    gets(&anna, "bob@school.example", "<query xmlns='jabber:iq:last' seconds='0'/>");
    bob.leaves();
    anna.expects("<presence from='bob@school.example/desk' type='unavailable'/>");
    play.wait(10_000);
    ask(&anna, "get", "bob@school.example", last);
    gets(&anna, "bob@school.example", "<query xmlns='jabber:iq:last' seconds='10'/>");
}

/// XEP-0054: an empty card, one that is set, seen by others, kept over a restart; not set for others, not too large.
#[test]
fn vcards() {
    let play = Play::new();
    let (anna, bob) = (play.login("anna/desk"), play.login("bob/desk"));
    let card = "<vCard xmlns='vcard-temp'><FN>Anna A.</FN><PHOTO><BINVAL>aGk=</BINVAL></PHOTO></vCard>";
    ask(&anna, "get", "", "<vCard xmlns='vcard-temp'/>");
    gets(&anna, "", "<vCard xmlns='vcard-temp'/>");
    ask(&anna, "set", "", card);
    gets(&anna, "", "");
    ask(&bob, "get", "anna@school.example", "<vCard xmlns='vcard-temp'/>");
    gets(&bob, "anna@school.example", card);
    ask(&bob, "set", "anna@school.example", "<vCard xmlns='vcard-temp'><FN>Fool</FN></vCard>");
    is_refused(&bob, "anna@school.example", "auth", "forbidden");
    let large = "A".repeat(64 * 1_024);
    ask(
        &anna,
        "set",
        "",
        &format!("<vCard xmlns='vcard-temp'><PHOTO><BINVAL>{large}</BINVAL></PHOTO></vCard>"),
    );
    is_refused(&anna, "", "modify", "not-acceptable");
    play.restart();
    anna.reconnects();
    anna.bind("desk");
    ask(&anna, "get", "", "<vCard xmlns='vcard-temp'/>");
    gets(&anna, "", card);
}

/// DESIGN §6: the card of an account that is hidden is shown to those who may see its presence.
#[test]
fn the_card_of_a_hidden_account() {
    use crosstalk::core::admin::Command;
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    let hide = Command::SetProfile { account: "bob".to_owned(), nickname: None, visible: Some(false) };
    play.command(hide);
    let card = "<vCard xmlns='vcard-temp'/>";
    ask(&anna, "get", "bob@school.example", card);
    is_refused(&anna, "bob@school.example", "cancel", "service-unavailable");
    ask(&bob, "get", "", card);
    bob.expects(&format!("<iq type='result' id='*'>{card}</iq>"));
    play.befriend(&anna, &bob);
    ask(&anna, "get", "bob@school.example", card);
    gets(&anna, "bob@school.example", card);
}

/// XEP-0280 §7: a message to the own account reaches each session once: itself or as received, never as sent too.
#[test]
fn carbons_of_a_message_to_oneself() {
    let play = Play::new();
    let desk = with_carbons(&play, "anna/desk");
    let phone = with_carbons(&play, "anna/phone");
    let tablet = with_carbons(&play, "anna/tablet");
    for client in [&desk, &phone, &tablet] {
        client.forget();
    }
    desk.send("<message to='anna@school.example/phone' type='chat'><body>memo</body></message>");
    phone.expects("<message from='anna@school.example/desk' to='*' type='chat'><body>memo</body></message>");
    let copies = tablet.takes_all();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(copies[0].has("received", "urn:xmpp:carbons:2"));
    desk.hears_nothing();
    desk.send("<message to='anna@school.example' type='chat'><body>memo</body></message>");
    for client in [&desk, &phone, &tablet] {
        client.expects(
            "<message from='anna@school.example/desk' to='*' type='chat'><body>memo</body></message>",
        );
        client.hears_nothing();
    }
}

/// XEP-0077 §3.3: a new password; the answer waits for the credentials and for the commit.
#[test]
fn a_password_is_changed() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    play.others();
    ask(&anna, "get", "school.example", "<query xmlns='jabber:iq:register'/>");
    gets(
        &anna,
        "school.example",
        "<query xmlns='jabber:iq:register'><registered/><username>anna</username><password/></query>",
    );
    let set = |name: &str, password: &str| {
        let fields = format!("<username>{name}</username><password>{password}</password>");
        ask(&anna, "set", "school.example", &format!("<query xmlns='jabber:iq:register'>{fields}</query>"));
    };
    set("bob", "secret");
    is_refused(&anna, "school.example", "cancel", "not-allowed");
    set("anna", "");
    is_refused(&anna, "school.example", "modify", "bad-request");
    set("anna", "secret");
    anna.hears_nothing();
    let asked = play.others();
    let Some(Output::NewPassword { ticket, user, password }) = asked.into_iter().next() else {
        panic!("no new password was asked for")
    };
    assert_eq!(password.as_str(), "secret");
    play.hold_commits();
    play.input(Input::Credentials { ticket, credentials: Some(credentials(user)) });
    anna.hears_nothing();
    play.commit();
    gets(&anna, "school.example", "");
    // The node cannot seal the user key anew, and says so.
    let told = anna.expects("<message type='headline' from='school.example'>…</message>");
    assert!(
        told.get("body", "jabber:client").unwrap().own_text().contains("crosstalk account password anna")
    );
    assert!(play.others().iter().any(|output| matches!(output, Output::Login(LoginChange::Put { .. }))));
}

/// XEP-0077 §3.1: the recovery code of an account that a client made is shown to the first client that comes, and only
/// to that.
#[test]
fn a_recovery_code_is_shown_once() {
    use crosstalk::core::admin::Command;
    let play = Play::new();
    play.account("anna");
    let show = Command::ShowRecovery { account: "anna".to_owned(), recovery: "ABCD-EFGH".to_owned().into() };
    assert!(!format!("{show:?}").contains("ABCD"));
    play.command(show);
    let (desk, phone) = (play.login("anna/desk"), play.login("anna/phone"));
    desk.send("<presence/>");
    desk.expects("<presence from='anna@school.example/desk'/>");
    let told = desk.expects("<message type='headline' from='school.example'>…</message>");
    assert!(told.get("body", "jabber:client").unwrap().own_text().contains("ABCD-EFGH"));
    phone.send("<presence/>");
    assert!(phone.takes_all().iter().all(|element| element.name() == "presence"));
    desk.forget();
}

/// XEP-0077 §3.3: a password that cannot be prepared (RFC 8265).
#[test]
fn an_impossible_password_is_refused() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    play.others();
    ask(
        &anna,
        "set",
        "",
        "<query xmlns='jabber:iq:register'><username>anna</username><password>bad</password></query>",
    );
    let ticket = play.others().into_iter().find_map(|output| match output {
        Output::NewPassword { ticket, .. } => Some(ticket),
        _ => None,
    });
    play.input(Input::Credentials { ticket: ticket.unwrap(), credentials: None });
    is_refused(&anna, "", "modify", "not-acceptable");
}

/// XEP-0077 §3.2: an account is removed: contacts see it go, all of it is gone from the store, nobody logs in.
#[test]
fn an_account_is_removed() {
    use crosstalk_storage::Tree;
    let play = Play::new();
    let (anna, bob, phone) = (play.online("anna/desk"), play.online("bob/desk"), play.login("anna/phone"));
    play.befriend(&anna, &bob);
    ask(&anna, "set", "", "<vCard xmlns='vcard-temp'><FN>Anna</FN></vCard>");
    ask(&anna, "set", "", "<block xmlns='urn:xmpp:blocking'><item jid='eve@school.example'/></block>");
    anna.forget();
    play.others();
    ask(&phone, "set", "school.example", "<query xmlns='jabber:iq:register'><remove/></query>");
    gets(&phone, "school.example", "");
    phone.is_closed_with("not-authorized");
    anna.is_closed_with("not-authorized");
    anna.forget();
    let seen = bob.takes_all();
    let of_type = |type_: &str| seen.iter().filter(|element| element.get_attr("type") == Some(type_)).count();
    assert_eq!((of_type("unsubscribe"), of_type("unsubscribed"), of_type("unavailable")), (1, 1, 1));
    let others = play.others();
    assert!(others.iter().any(|output| matches!(output, Output::Login(LoginChange::Remove { .. }))));
    assert!(others.iter().any(|output| matches!(output, Output::EraseKeys { .. })));
    assert_eq!(play.stored(Tree::Account), 1);
    assert_eq!((play.stored(Tree::VCard), play.stored(Tree::Block)), (0, 0));
    bob.send("<message to='anna@school.example' type='chat' id='m'><body>x</body></message>");
    bob.expects(
        "<message type='error' from='anna@school.example' id='m'><error type='cancel'><item-not-found/></error></message>",
    );
    play.restart();
}

/// XEP-0012 §3: the removal of one account does not make the node forget when the others left.
#[test]
fn removal_of_an_account_leaves_the_others_alone() {
    let play = Play::new();
    let (anna, bob, carl) = (play.online("anna/desk"), play.online("bob/desk"), play.online("carl/desk"));
    play.befriend(&bob, &carl);
    bob.leaves();
    carl.forget();
    ask(&anna, "set", "", "<query xmlns='jabber:iq:register'><remove/></query>");
    gets(&anna, "", "");
    assert_eq!(play.stored(crosstalk_storage::Tree::Presence), 2);
    play.restart();
    play.wait(10_000);
    carl.reconnects();
    carl.bind("desk");
    ask(&carl, "get", "bob@school.example", "<query xmlns='jabber:iq:last'/>");
    gets(&carl, "bob@school.example", "<query xmlns='jabber:iq:last' seconds='10'/>");
}

//! XEP-0191: Blocking Command.

use crate::core_support::{Client, Play};

fn block(client: &Client, jid: &str) {
    client.send(&format!(
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{jid}'/></block></iq>"
    ));
}

fn unblock(client: &Client, items: &str) {
    client.send(&format!("<iq type='set' id='b'><unblock xmlns='urn:xmpp:blocking'>{items}</unblock></iq>"));
}

fn is_done(client: &Client) {
    client.expects("<iq type='result' id='b'/>");
}

fn list(client: &Client) -> Vec<String> {
    client.send("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    let list =
        client.expects("<iq type='result' id='l'><blocklist xmlns='urn:xmpp:blocking'>…</blocklist></iq>");
    let items = list.children().next().unwrap().children();
    items.map(|item| item.get_attr("jid").unwrap().to_owned()).collect()
}

/// XEP-0191 §3.2–3.4: the list, its changes pushed to sessions that fetched it, and its life over a restart.
#[test]
fn the_list_and_its_pushes() {
    let play = Play::new();
    let (desk, phone) = (play.login("anna/desk"), play.login("anna/phone"));
    assert!(list(&desk).is_empty());
    block(&phone, "eve@school.example");
    is_done(&phone);
    desk.expects("<iq type='set' id='*'><block xmlns='urn:xmpp:blocking'><item jid='eve@school.example'/></block></iq>");
    assert_eq!(list(&desk), ["eve@school.example"]);
    play.restart();
    for client in [&desk, &phone] {
        client.reconnects();
        client.bind("any");
    }
    assert_eq!(list(&phone), ["eve@school.example"]);
    block(&phone, "far.example");
    phone.expects(
        "<iq type='set' id='*'><block xmlns='urn:xmpp:blocking'><item jid='far.example'/></block></iq>",
    );
    is_done(&phone);
    unblock(&phone, "");
    phone.expects("<iq type='set' id='*'><unblock xmlns='urn:xmpp:blocking'/></iq>");
    is_done(&phone);
    assert!(list(&phone).is_empty());
}

/// All accounts of a node together have as many as the tree holds; whoever asks for more is told, and may take back.
#[test]
fn a_node_has_a_limit_too() {
    let play = Play::new();
    let many = |count: usize| {
        let items = (0..count).map(|number| format!("<item jid='eve{number}@school.example'/>"));
        format!(
            "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{}</block></iq>",
            items.collect::<String>()
        )
    };
    for number in 0..crosstalk_storage::Tree::Block.limit() / 1_000 {
        let client = play.login(&format!("user{number}/desk"));
        client.send(&many(1_000));
        is_done(&client);
    }
    let anna = play.login("anna/desk");
    block(&anna, "eve@school.example");
    anna.expects("<iq type='error' id='b'><error type='wait'><resource-constraint/></error></iq>");
    let other = play.login("user0/phone");
    unblock(&other, "<item jid='eve0@school.example'/>");
    is_done(&other);
}

/// XEP-0191 §3.3: nothing to block, something that is no address.
#[test]
fn wrong_requests() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'/></iq>");
    anna.expects("<iq type='error' id='b'><error type='modify'><bad-request/></error></iq>");
    block(&anna, "a@b@c");
    anna.expects("<iq type='error' id='b'><error type='modify'><jid-malformed/></error></iq>");
    play.account("bob");
    anna.send("<iq type='get' id='b' to='bob@school.example'><blocklist xmlns='urn:xmpp:blocking'/></iq>");
    anna.expects(
        "<iq type='error' id='b' from='bob@school.example'><error type='auth'><forbidden/></error></iq>",
    );
}

/// XEP-0191 §3.3, §3.4: a blocked contact sees the user leave, and come back when it is unblocked.
#[test]
fn a_blocked_contact_sees_the_user_leave() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.befriend(&anna, &bob);
    block(&anna, "bob@school.example");
    is_done(&anna);
    bob.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
    anna.send("<presence><show>away</show></presence>");
    anna.expects("<presence from='anna@school.example/desk'><show>away</show></presence>");
    bob.send("<presence><show>dnd</show></presence>");
    bob.expects("<presence from='bob@school.example/phone'><show>dnd</show></presence>");
    let tablet = play.login("bob/tablet");
    tablet.send("<presence/>");
    tablet.expects("<presence from='bob@school.example/tablet'/>");
    tablet.expects("<presence from='bob@school.example/phone'><show>dnd</show></presence>");
    bob.expects("<presence from='bob@school.example/tablet'/>");
    tablet.leaves();
    bob.expects("<presence from='bob@school.example/tablet' type='unavailable'/>");
    anna.hears_nothing();
    unblock(&anna, "<item jid='bob@school.example'/>");
    bob.expects("<presence from='anna@school.example/desk'><show>away</show></presence>");
    anna.expects("<presence from='bob@school.example/phone'><show>dnd</show></presence>");
    is_done(&anna);
}

/// XEP-0191 §3.3: what comes from a blocked address: messages and requests are `service-unavailable`, presence is dropped.
#[test]
fn what_a_blocked_address_sends() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    block(&anna, "bob@school.example");
    is_done(&anna);
    let error = "<error type='cancel'><service-unavailable/></error>";
    bob.send("<message to='anna@school.example' type='chat' id='m'><body>x</body></message>");
    bob.expects(&format!("<message type='error' from='anna@school.example' id='m'>{error}</message>"));
    for to in ["anna@school.example", "anna@school.example/desk"] {
        bob.send(&format!("<iq type='get' to='{to}' id='v'><query xmlns='jabber:iq:version'/></iq>"));
        bob.expects(&format!("<iq type='error' from='{to}' id='v'>{error}</iq>"));
    }
    bob.send("<presence to='anna@school.example/desk'/>");
    bob.send("<presence to='anna@school.example' type='subscribe'/>");
    bob.forget();
    anna.hears_nothing();
    assert_eq!(play.stored(crosstalk_storage::Tree::Inbox), 0);
}

/// XEP-0191 §3.3: the user cannot send to whom it blocks, and is told why.
#[test]
fn sending_to_a_blocked_address() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    block(&anna, "bob@school.example");
    is_done(&anna);
    let error = "<error type='cancel'><not-acceptable/><blocked xmlns='urn:xmpp:blocking:errors'/></error>";
    anna.send("<message to='bob@school.example/phone' type='chat' id='m'><body>x</body></message>");
    anna.expects(&format!("<message type='error' from='bob@school.example/phone' id='m'>{error}</message>"));
    anna.send("<iq type='get' to='bob@school.example' id='v'><query xmlns='jabber:iq:version'/></iq>");
    anna.expects(&format!("<iq type='error' from='bob@school.example' id='v'>{error}</iq>"));
    anna.send("<presence to='bob@school.example' id='p'/>");
    anna.expects(&format!("<presence type='error' from='bob@school.example' id='p'>{error}</presence>"));
    anna.leaves();
    bob.hears_nothing();
}

/// XEP-0191 §5: a full address blocks one session, a domain all of its users.
#[test]
fn forms_of_addresses() {
    let play = Play::new();
    let (anna, phone, desk) = (play.online("anna/desk"), play.online("bob/phone"), play.online("bob/desk"));
    phone.forget();
    block(&anna, "bob@school.example/phone");
    is_done(&anna);
    let message = "<message to='anna@school.example' type='chat' id='m'><body>x</body></message>";
    phone.send(message);
    phone.expects(
        "<message type='error' from='anna@school.example' id='m'><error type='cancel'><service-unavailable/></error></message>",
    );
    desk.send(message);
    anna.expects("<message from='bob@school.example/desk' type='chat' id='m'><body>x</body></message>");
    block(&anna, "school.example");
    is_done(&anna);
    desk.send(message);
    desk.expects(
        "<message type='error' from='anna@school.example' id='m'><error type='cancel'><service-unavailable/></error></message>",
    );
}

/// XEP-0191 §5: a blocked domain sees the user leave, and come back.
#[test]
fn a_blocked_domain_sees_the_user_leave() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.befriend(&anna, &bob);
    block(&anna, "school.example");
    is_done(&anna);
    bob.expects("<presence from='anna@school.example/desk' type='unavailable'/>");
    block(&anna, "bob@school.example");
    is_done(&anna);
    unblock(&anna, "<item jid='school.example'/>");
    is_done(&anna);
    bob.hears_nothing();
    unblock(&anna, "");
    anna.expects("<presence from='bob@school.example/phone'/>");
    is_done(&anna);
    bob.expects("<presence from='anna@school.example/desk'/>");
}

/// XEP-0191 §3.3: when both block each other, one that unblocks shows nothing to the other.
#[test]
fn unblocking_somebody_who_blocks() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.befriend(&anna, &bob);
    block(&anna, "bob@school.example");
    block(&bob, "anna@school.example");
    anna.forget();
    bob.forget();
    unblock(&anna, "");
    is_done(&anna);
    bob.hears_nothing();
}

/// XEP-0191 §3.3: whoever blocks somebody does not ask them either; what the blocked side ends is ended silently.
#[test]
fn subscriptions_and_blocking() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    play.befriend(&anna, &bob);
    block(&bob, "anna@school.example");
    bob.forget();
    anna.forget();
    bob.send("<presence to='anna@school.example' type='subscribe' id='s'/>");
    bob.expects(
        "<presence type='error' from='anna@school.example' id='s'><error type='cancel'><not-acceptable/>\
         <blocked xmlns='urn:xmpp:blocking:errors'/></error></presence>",
    );
    anna.send(
        "<iq type='set' id='rm'><query xmlns='jabber:iq:roster'>\
         <item jid='bob@school.example' subscription='remove'/></query></iq>",
    );
    anna.forget();
    for state in ["to", "none"] {
        bob.expects_item(&format!("<item jid='anna@school.example' name='anna' subscription='{state}'/>"));
    }
    unblock(&bob, "");
    is_done(&bob);
    anna.hears_nothing();
}

//! RFC 6120 §8.2.3, RFC 6121 §8.5: requests between clients, here and on other nodes: each is answered once, and only by
//! whom it was put to.

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{Client, Play};

const VERSION: &str = "<query xmlns='jabber:iq:version'/>";

/// Anna on one node, Bob on another.
fn apart() -> (Play, Play, Client, Client) {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    for (node, name) in [(&here, "anna"), (&there, "bob"), (&there, "carl")] {
        node.account(name);
    }
    join(&[&here, &there], &here, &there);
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    rest(&[&here, &there]);
    anna.forget();
    bob.forget();
    (here, there, anna, bob)
}

/// Seconds pass.
fn pass(nodes: &[&Play], seconds: u32) {
    for _ in 0..seconds {
        nodes.iter().for_each(|node| node.wait(980));
        rest(nodes);
    }
}

fn asks(client: &Client, to: &str, id: &str) {
    client.send(&format!("<iq type='get' id='{id}' to='{to}'>{VERSION}</iq>"));
}

fn is_asked(client: &Client, id: &str) {
    client.expects(&format!("<iq from='anna@xid/desk' type='get' id='{id}'>{VERSION}</iq>"));
}

fn answers(client: &Client, id: &str) {
    client.send(&format!("<iq type='result' id='{id}' to='anna@xid/desk'>{VERSION}</iq>"));
}

fn gets(client: &Client, from: &str, id: &str) {
    client.expects(&format!("<iq from='{from}' type='result' id='{id}'>{VERSION}</iq>"));
}

fn fails(client: &Client, from: &str, id: &str, kind: &str, condition: &str) {
    client.expects(&format!(
        "<iq from='{from}' type='error' id='{id}'><error type='{kind}'><{condition}/></error></iq>"
    ));
}

#[test]
fn a_request_to_another_node_is_answered() {
    let (here, there, anna, bob) = apart();
    asks(&anna, "bob@xid/phone", "v");
    rest(&[&here, &there]);
    is_asked(&bob, "v");
    answers(&bob, "v");
    rest(&[&here, &there]);
    gets(&anna, "bob@xid/phone", "v");
    answers(&bob, "v");
    rest(&[&here, &there]);
    anna.hears_nothing();
}

/// RFC 6120 §8.3.3.16: nobody answers for a minute; what comes later is dropped.
#[test]
fn silence_is_a_timeout() {
    let (here, there, anna, bob) = apart();
    asks(&anna, "bob@xid/phone", "v");
    rest(&[&here, &there]);
    is_asked(&bob, "v");
    pass(&[&here, &there], 58);
    anna.hears_nothing();
    pass(&[&here, &there], 4);
    fails(&anna, "bob@xid/phone", "v", "wait", "remote-server-timeout");
    answers(&bob, "v");
    rest(&[&here, &there]);
    anna.hears_nothing();
}

/// Each request has a minute of its own.
#[test]
fn a_later_request_waits_longer() {
    let (here, there, anna, bob) = apart();
    let nodes = [&here, &there];
    asks(&anna, "bob@xid/phone", "v");
    pass(&nodes, 30);
    asks(&anna, "bob@xid/phone", "w");
    pass(&nodes, 32);
    fails(&anna, "bob@xid/phone", "v", "wait", "remote-server-timeout");
    anna.hears_nothing();
    pass(&nodes, 30);
    fails(&anna, "bob@xid/phone", "w", "wait", "remote-server-timeout");
    bob.forget();
}

#[test]
fn a_node_that_is_gone_is_a_timeout_at_once() {
    let (here, there, anna, bob) = apart();
    asks(&anna, "bob@xid/phone", "v");
    rest(&[&here, &there]);
    is_asked(&bob, "v");
    cut(&[&here, &there], &here, &there);
    fails(&anna, "bob@xid/phone", "v", "wait", "remote-server-timeout");
}

/// RFC 6120 §8.2.3: an answer counts from the address that was asked, with the id of the request, and once.
#[test]
fn answers_of_somebody_else_are_dropped() {
    let (here, there, anna, bob) = apart();
    let (carl, tablet) = (there.login("carl/phone"), there.login("bob/tablet"));
    let eve = here.login("eve/desk");
    asks(&anna, "bob@xid/phone", "v");
    rest(&[&here, &there]);
    is_asked(&bob, "v");
    for other in [&carl, &tablet, &eve] {
        answers(other, "v");
    }
    answers(&bob, "w");
    rest(&[&here, &there]);
    anna.hears_nothing();
    answers(&bob, "v");
    rest(&[&here, &there]);
    gets(&anna, "bob@xid/phone", "v");
    bob.forget();
}

/// RFC 6120 §8.2.3: the same between clients of one node, whatever address was typed.
#[test]
fn answers_on_one_node() {
    let play = Play::new();
    let (anna, bob, carl) = (play.online("anna/desk"), play.online("bob/phone"), play.online("carl/phone"));
    let result = "<iq type='result' id='v' to='anna@school.example/desk'/>";
    asks(&anna, "bob@xid/phone", "v");
    bob.forget();
    carl.send(result);
    anna.hears_nothing();
    bob.send(result);
    anna.expects("<iq from='bob@xid/phone' type='result' id='v'/>");
    bob.send(result);
    anna.hears_nothing();
}

/// RFC 6120 §8.2.3: a client that leaves without an answer is spoken for.
#[test]
fn a_session_that_ends_answers_nothing() {
    let play = Play::new();
    let (anna, bob) = (play.online("anna/desk"), play.online("bob/phone"));
    asks(&anna, "bob@school.example/phone", "v");
    bob.forget();
    bob.leaves();
    fails(&anna, "bob@school.example/phone", "v", "cancel", "service-unavailable");
    anna.hears_nothing();
}

/// More than a hundred requests under way: the oldest is given up.
#[test]
fn the_oldest_of_too_many_requests_is_given_up() {
    let (here, there, anna, bob) = apart();
    for id in 0..=100 {
        asks(&anna, "bob@xid/phone", &format!("v{id}"));
        rest(&[&here, &there]);
    }
    fails(&anna, "bob@xid/phone", "v0", "wait", "remote-server-timeout");
    answers(&bob, "v0");
    answers(&bob, "v1");
    rest(&[&here, &there]);
    gets(&anna, "bob@xid/phone", "v1");
    bob.forget();
}

/// RFC 6121 §8.5.1: a request to a bare address is answered by one node, however many the user is on.
#[test]
fn a_bare_address_is_answered_once() {
    let nodes = [Play::elsewhere(1), Play::elsewhere(2), Play::elsewhere(3)];
    let all: Vec<&Play> = nodes.iter().collect();
    nodes[0].account("anna");
    let (phone, tablet) = (nodes[1].online("bob/phone"), nodes[2].online("bob/tablet"));
    join(&all, &nodes[0], &nodes[1]);
    join(&all, &nodes[0], &nodes[2]);
    let anna = nodes[0].online("anna/desk");
    rest(&all);
    anna.send("<iq type='get' id='c' to='bob@xid'><vCard xmlns='vcard-temp'/></iq>");
    rest(&all);
    anna.expects("<iq from='bob@xid' type='result' id='c'><vCard xmlns='vcard-temp'/></iq>");
    // Nobody can tell which node has a session that is shown to nobody.
    asks(&anna, "bob@xid/watch", "v");
    fails(&anna, "bob@xid/watch", "v", "cancel", "service-unavailable");
    rest(&all);
    for client in [&phone, &tablet, &anna] {
        client.hears_nothing();
    }
}

/// RFC 6121 §8.5.3.2.3: of one node, the node itself says that there is no such session.
#[test]
fn an_unknown_session_elsewhere() {
    let (here, there, anna, bob) = apart();
    asks(&anna, "bob@xid/watch", "v");
    rest(&[&here, &there]);
    fails(&anna, "bob@xid/watch", "v", "cancel", "service-unavailable");
    bob.hears_nothing();
}

//! RFC 6120: binding of resources, rules of IQs, elements that end a stream.

use crate::core_support::Play;

const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";

/// RFC 6120 §7.6: without a wish the node makes a resource, another for each stream.
#[test]
fn a_resource_is_generated() {
    let play = Play::new();
    let (one, two) = (play.connect("anna"), play.connect("anna"));
    let bound = |client: &crate::core_support::Client| {
        client.send(&format!("<iq type='set' id='b'>{BIND}</iq>"));
        let result = client.expects(
            "<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>*</jid></bind></iq>",
        );
        result.children().next().unwrap().children().next().unwrap().own_text()
    };
    let (first, second) = (bound(&one), bound(&two));
    assert!(first.starts_with("anna@school.example/") && first != second);
}

/// RFC 6120 §7.7: the client's wish is taken.
#[test]
fn a_resource_is_bound_as_wished() {
    let play = Play::new();
    let anna = play.login("anna/Schreibtisch");
    assert_eq!(*anna.jid.borrow(), "anna@school.example/Schreibtisch");
}

/// RFC 6120 §7.7.2.1: a resource that is none.
#[test]
fn an_invalid_resource_is_refused() {
    let play = Play::new();
    let anna = play.connect("anna");
    let long = "x".repeat(1_024);
    anna.send(&format!(
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{long}</resource></bind></iq>"
    ));
    anna.expects("<iq type='error' id='b'><error type='modify'><bad-request/></error></iq>");
    anna.bind("desk");
}

/// RFC 6120 §7.7.2.2: the newer session gets the resource, the older one ends with `conflict`.
#[test]
fn the_same_resource_ends_the_older_session() {
    let play = Play::new();
    let older = play.login("anna/desk");
    let newer = play.login("anna/desk");
    older.is_closed_with("conflict");
    newer.send("<iq type='get' id='p' to='school.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    newer.expects("<iq type='result' from='school.example' id='p'/>");
}

/// RFC 6120 §7.7.2: as many sessions as an account may have; then `resource-constraint`, until one ends.
#[test]
fn the_seventeenth_session_is_refused() {
    let play = Play::new();
    let sessions: Vec<_> = (0..16).map(|number| play.login(&format!("anna/{number}"))).collect();
    let more = play.connect("anna");
    more.send(&format!("<iq type='set' id='b'>{BIND}</iq>"));
    more.expects("<iq type='error' id='b'><error type='wait'><resource-constraint/></error></iq>");
    sessions[3].leaves();
    more.bind("desk");
}

/// XEP-0198 §5: a session that waits to be resumed makes room for a new one; one that is connected does not.
#[test]
fn a_lost_session_makes_room() {
    let play = Play::with(|settings| settings.session_limit = 2);
    let (lost, here) = (play.login("anna/lost"), play.login("anna/here"));
    let stream = lost.enables_management();
    lost.breaks();
    let new = play.login("anna/new");
    lost.reconnects();
    lost.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{stream}' h='0'/>"));
    lost.expects("<failed xmlns='urn:xmpp:sm:3'>…</failed>");
    lost.send(&format!("<iq type='set' id='b'>{BIND}</iq>"));
    lost.expects("<iq type='error' id='b'><error type='wait'><resource-constraint/></error></iq>");
    drop((here, new));
}

/// RFC 6120 §7: whoever logs in and does not bind is sent away after a minute; whoever binds is not.
#[test]
fn a_client_has_to_bind_in_time() {
    let play = Play::new();
    let (slow, quick) = (play.connect("anna"), play.login("bob/phone"));
    play.wait(59_000);
    slow.hears_nothing();
    play.wait(2_000);
    slow.is_closed_with("connection-timeout");
    quick.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    quick.expects("<iq type='result' id='p'/>");
}

/// RFC 6120 §7.1: nothing but binding before binding.
#[test]
fn stanzas_before_binding_are_not_allowed() {
    let play = Play::new();
    let anna = play.connect("anna");
    anna.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    anna.expects("<iq type='error' id='r'><error type='cancel'><not-allowed/></error></iq>");
    anna.send("<message to='bob@school.example'><body>hi</body></message>");
    anna.is_closed_with("not-authorized");
}

/// RFC 6120 §8.2.3: an IQ has an id, and a request exactly one child.
#[test]
fn the_shape_of_iqs_is_checked() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='error'><error type='modify'><bad-request/></error></iq>");
    anna.send("<iq type='get' id='2'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='error' id='2'><error type='modify'><bad-request/></error></iq>");
    anna.send("<iq type='set' id='3'/>");
    anna.expects("<iq type='error' id='3'><error type='modify'><bad-request/></error></iq>");
    anna.send("<iq type='ask' id='4'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='error' id='4'><error type='modify'><bad-request/></error></iq>");
}

/// RFC 6120 §8.4: a payload that nobody understands, for the node, the own account, another account, a session.
#[test]
fn an_unknown_payload_is_service_unavailable() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    play.account("bob");
    anna.send("<iq type='get' id='1'><query xmlns='urn:example:what'/></iq>");
    anna.expects("<iq type='error' id='1'><error type='cancel'><service-unavailable/></error></iq>");
    for to in ["school.example", "anna@school.example", "bob@school.example", "bob@school.example/desk"] {
        anna.send(&format!("<iq type='set' id='2' to='{to}'><query xmlns='urn:example:what'/></iq>"));
        anna.expects(&format!(
            "<iq type='error' from='{to}' id='2'><error type='cancel'><service-unavailable/></error></iq>"
        ));
    }
}

/// RFC 6120 §10.4, §10.5: addresses that lead nowhere.
#[test]
fn unknown_addresses_are_refused() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<iq type='get' id='1' to='nobody@school.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='error' from='nobody@school.example' id='1'><error type='cancel'><item-not-found/></error></iq>");
    anna.send("<iq type='get' id='2' to='eve@far.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='error' from='eve@far.example' id='2'><error type='cancel'><remote-server-not-found/></error></iq>");
}

/// RFC 6120 §8.2.3, §8.3.1: results and errors are never answered.
#[test]
fn results_and_errors_are_never_answered() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    for to in ["", "to='school.example'", "to='nobody@school.example'", "to='eve@far.example'"] {
        anna.send(&format!("<iq type='result' id='1' {to}/>"));
        anna.send(&format!("<iq type='error' id='2' {to}><error type='cancel'/></iq>"));
        anna.send(&format!("<message type='error' id='3' {to}><error type='cancel'/></message>"));
    }
    anna.hears_nothing();
}

/// RFC 6120 §8.2.3: requests go between sessions and their answers come back.
#[test]
fn a_request_to_a_session_is_answered_by_its_client() {
    let play = Play::new();
    let (anna, bob) = (play.login("anna/desk"), play.login("bob/phone"));
    anna.send("<iq type='get' id='v' to='bob@school.example/phone'><query xmlns='jabber:iq:version'/></iq>");
    bob.expects(
        "<iq type='get' from='anna@school.example/desk' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
    bob.send(
        "<iq type='result' id='v' to='anna@school.example/desk'><query xmlns='jabber:iq:version'/></iq>",
    );
    anna.expects(
        "<iq type='result' from='bob@school.example/phone' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
}

/// RFC 6120 §8.1.2.1: `from` is the own address, bare or full, or it is forged.
#[test]
fn a_forged_from_ends_the_stream() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    for from in ["anna@school.example", "anna@school.example/desk"] {
        anna.send(&format!("<iq type='get' id='1' from='{from}'><ping xmlns='urn:xmpp:ping'/></iq>"));
        anna.expects("<iq type='result' id='1'/>");
    }
    let bob = play.online("bob/desk");
    anna.send("<message from='carl@school.example' to='bob@school.example'><body>I am Carl</body></message>");
    anna.is_closed_with("invalid-from");
    let phone = play.login("anna/phone");
    phone.send("<message from='anna@school.example/desk' to='bob@school.example'><body>x</body></message>");
    phone.is_closed_with("invalid-from");
    bob.hears_nothing();
}

/// RFC 6120 §8.3.3.8: a `to` that is no address.
#[test]
fn a_malformed_address_is_told() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<message id='1' to='@school.example'><body>x</body></message>");
    anna.expects("<message type='error' id='1'><error type='modify'><jid-malformed/></error></message>");
}

/// RFC 6120 §4.9.3.24: an element of a stream that is no stanza.
#[test]
fn an_unknown_element_ends_the_stream() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<letter/>");
    anna.is_closed_with("unsupported-stanza-type");
    let other = play.login("anna/desk");
    other.send("<message xmlns='urn:example:not-client'/>");
    other.is_closed_with("unsupported-stanza-type");
}

/// RFC 3921 §3: old clients open a session; that does nothing.
#[test]
fn a_session_is_a_formality() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    anna.expects("<iq type='result' id='s'/>");
}

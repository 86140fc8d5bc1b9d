//! What others and clients say that cannot forge, flood or break a session.

use super::*;

#[test]
fn a_contact_that_is_renamed_is_the_same_person() {
    let mut client = Client::with_bob("");
    let push = format!(
        "<iq type='set' id='p'><query xmlns='jabber:iq:roster'><item jid='{BOB}' name='Robert' subscription='both'/></query></iq>"
    );
    assert_eq!(client.core(&push), ":Bob!bob@school.example NICK Robert\r\n");
    client.says("PRIVMSG Bob :to the old nick");
    assert_eq!(client.bodies().last().unwrap().0, BOB);
    // Another Bob is never taken for him.
    let other = client.core("<message from='bob@evil.example/x' type='chat'><body>hi</body></message>");
    assert!(
        !other.contains(":bob!") && !other.contains(":Bob!") && other.contains("not in your contact list"),
        "{other}"
    );
    assert!(client.says("NICK Robert").contains(" 433 "));
    assert_eq!(client.says("NICK you"), ":me!user@crosstalk.internal NICK you\r\n");
    assert!(client.says("NICK me").contains(" NICK me\r\n"));
}

#[test]
fn what_clients_ask_is_answered() {
    let mut client = Client::with_bob("");
    for (line, expected) in [
        ("MODE &crosstalk", " 324 me &crosstalk +nt"),
        ("MODE &crosstalk b", " 368 me &crosstalk "),
        ("MODE me", " 221 me +i "),
        (
            "WHO &crosstalk",
            " 352 me &crosstalk bob school.example crosstalk.internal Bob H+ :0 Bob <bob@school.example>",
        ),
        ("WHO Bob", " 315 me Bob "),
        ("USERHOST me Bob", " 302 me :me=+user@crosstalk.internal Bob=+bob@school.example"),
        ("TOPIC &crosstalk", " 332 me &crosstalk "),
        ("LIST", " 322 me &crosstalk 1 "),
        ("JOIN #linux", " 403 me #linux "),
        ("AWAY :at lunch", " 306 me "),
        ("AWAY", " 305 me "),
        ("MOTD", " 376 me "),
        ("PING :1 2", "PONG crosstalk.internal :1 2"),
        ("WHOIS me", " 311 me me user crosstalk.internal * me@id.internal"),
        ("CAP LIST", " CAP me LIST "),
        ("PART &crosstalk", "PART &crosstalk"),
        ("JOIN &crosstalk", " 366 me &crosstalk "),
        ("QUIT :bye", "ERROR :Closing link"),
    ] {
        let said = client.says(line);
        assert!(said.contains(expected), "{line}: {said}");
    }
    let shown: Vec<String> = client
        .said
        .iter()
        .filter(|stanza| stanza.kind == Kind::Presence)
        .map(|stanza| text_of(stanza, "status"))
        .collect();
    assert_eq!(shown, ["at lunch", ""]);
    assert_eq!(client.says("LIST"), "", "nothing follows the end");
}

#[test]
fn strangers_are_bounded() {
    let mut client = Client::with_bob("");
    for n in 0..9_000 {
        client.core(&format!("<message from='s{n}@evil.example/x' type='chat'><body>spam</body></message>"));
    }
    assert!(client.session.people.known.len() <= 8_192);
    assert!(client.says("ISON Bob").contains(" 303 me Bob"));
}

#[test]
fn what_xml_cannot_have_is_not_said_to_the_core() {
    let mut client = Client::with_bob("");
    for line in [
        "AWAY :\u{2}x\u{1b}",
        "PRIVMSG &crosstalk :rename bob \u{3}4x",
        "PRIVMSG &crosstalk :add eve@evil.example \u{1}Eve\u{ffff}",
        "PRIVMSG bob :\u{fffe}x\u{1b}\u{ffff}",
        "PRIVMSG bob :\u{1}ACTION \u{2}x\u{2}\u{fffe}\u{1}",
        "PRIVMSG eve@evil.example\u{2} :x",
    ] {
        client.says(line);
    }
    let bytes: Vec<u8> =
        client.said.iter().flat_map(|stanza| stanza.to_element().to_bytes(ns::CLIENT)).collect();
    assert!(crate::xmpp::parse::legal_text(&bytes).is_ok(), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(text_of(&client.said[0], "status"), "x");
    let names: Vec<String> = client
        .said
        .iter()
        .filter_map(|stanza| {
            Some(stanza.get("query", ns::ROSTER)?.get("item", ns::ROSTER)?.get_attr("name")?.to_owned())
        })
        .collect();
    assert_eq!(names, ["x", "Eve"]);
    let bodies: Vec<String> = client.bodies().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["x", "/me *x*", "x"]);
}

#[test]
fn only_the_own_servers_are_the_node() {
    let mut client = Client::with_bob("");
    for own in ["id.internal", "node.example", ME] {
        let said = client.core(&format!("<message from='{own}' type='chat'><body>word</body></message>"));
        assert_eq!(said, ":crosstalk!crosstalk@crosstalk.internal PRIVMSG me word\r\n", "{own}");
    }
    let said = client.core("<message from='evil.example' type='chat'><body>word</body></message>");
    assert!(said.contains(":evil_example!?@evil.example PRIVMSG me word"), "{said}");
    let ping = |from: &str| format!("<iq type='get' id='1' from='{from}'><ping xmlns='urn:xmpp:ping'/></iq>");
    client.said.clear();
    assert_eq!(client.core(&ping("evil.example")), "");
    assert_eq!(client.said.last().unwrap().type_, Type::Error);
    assert!(client.core(&ping("node.example")).contains("PING"));
}

#[test]
fn words_of_others_are_one_line_and_short() {
    let mut client = Client::with_bob("");
    let long = "a\n".repeat(3_000);
    let asks = client.core(&format!(
        "<presence from='eve@evil.example' type='subscribe'><status>{long}</status></presence>"
    ));
    assert!(asks.len() < 1_000 && asks.lines().count() < 3, "{asks}");
    let error = format!(
        "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{long}</text></error>"
    );
    let failed = client.core(&format!("<presence from='{BOB}' type='error'>{error}</presence>"));
    assert!(failed.contains("says of") && failed.len() < 600, "{failed}");
    assert_eq!(
        client.core(&format!("<presence from='eve@evil.example' type='error'>{error}</presence>")),
        ""
    );
    let status = client
        .core(&format!("<presence from='{BOB}/x'><show>away</show><status>a\u{202e}b</status></presence>"));
    assert!(!status.contains('\u{202e}') && !client.says("WHO Bob").contains('\u{202e}'));
    client.says("WHOIS Bob");
    let whois = client.answer("command", None);
    assert!(whois.contains(" 301 me Bob ab\r\n"), "{whois}");
}

#[test]
fn an_error_counts_only_from_whom_it_was_sent_to() {
    let mut client = Client::with_bob("");
    client.says("PRIVMSG Bob :hello");
    let id = client.said.last().unwrap().id.clone().unwrap();
    let error = |from: &str, id: &str| {
        format!(
            "<message from='{from}' type='error' id='{id}'><body>forged</body><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        )
    };
    assert_eq!(client.core(&error("eve@evil.example", &id)), "");
    assert_eq!(client.core(&error(BOB, "other")), "");
    let told = client.core(&error(&format!("{BOB}/x"), &id));
    assert!(told.contains("NOT DELIVERED") && told.contains("hello") && !told.contains("forged"), "{told}");
    client.says("PRIVMSG Bob :again");
    let id = client.said.last().unwrap().id.clone().unwrap();
    assert!(client.core(&error("node.example", &id)).contains("NOT DELIVERED"));
}

#[test]
fn who_is_not_listed_is_introduced_and_not_shown() {
    let mut client = Client::with_bob("");
    const EVE: &str = "eve@evil.example";
    assert_eq!(client.core(&format!("<presence from='{EVE}/x'/>")), "");
    assert!(!client.says("NAMES &crosstalk").contains("eve"));
    // Also one whose nick the user has asked for.
    client.says("WHOIS eve@evil.example");
    client.answer("command", None);
    let message = format!("<message from='{EVE}/x' type='chat'><body>hi</body></message>");
    assert!(client.core(&message).contains("not in your contact list"));
    assert!(!client.core(&message).contains("not in your contact list"));
    assert!(client.core(&format!("<presence from='{EVE}/x'/>")).is_empty());
    for n in 0..9_000 {
        client.core(&format!("<presence from='s{n}@evil.example/x'/>"));
        client.core(&format!("<message from='s{n}@evil.example' type='chat'><body>spam</body></message>"));
    }
    assert!(client.session.people.known.len() <= 8_192);
    assert!(client.session.people.known.contains_key(BOB));
}

#[test]
fn a_ping_written_before_a_message_proves_nothing_of_it() {
    let mut client = Client::with_bob("");
    let ask = |id: &str| {
        format!(
            "<message from='{BOB}/x' type='chat' id='{id}'><body>b</body><request xmlns='urn:xmpp:receipts'/></message>"
        )
    };
    let number = |lines: &str| -> u64 { lines.trim_end().rsplit(' ').next().unwrap().parse().unwrap() };
    let first = number(&client.core(&ask("a")));
    let core = number(
        &client.core("<iq type='get' id='ping-7' from='id.internal'><ping xmlns='urn:xmpp:ping'/></iq>"),
    );
    client.core(&ask("b"));
    let next = number(&client.says(&format!("PONG {first}")));
    let receipts = |client: &Client| client.said.iter().filter(|stanza| stanza.kind == Kind::Message).count();
    client.says(&format!("PONG {core}"));
    assert_eq!(receipts(&client), 1);
    client.says(&format!("PONG {next}"));
    assert_eq!(receipts(&client), 2);
}

#[test]
fn a_time_is_the_word_of_the_own_server() {
    let mut client = Client::with_bob("server-time");
    let delay = |from: &str, hour: u8| {
        format!("<delay xmlns='urn:xmpp:delay' from='{from}' stamp='2026-11-23T{hour}:00:00Z'/>")
    };
    let mut said = |delays: String| {
        client.core(&format!("<message from='{BOB}/x' type='chat'><body>late</body>{delays}</message>"))
    };
    assert!(!said(delay("evil.example", 10)).contains("time="));
    let both = said(delay("id.internal", 11) + &delay("node.example", 12) + &delay("evil.example", 13));
    assert!(both.starts_with("@time=2026-11-23T12:00:00.000Z "), "{both}");
}

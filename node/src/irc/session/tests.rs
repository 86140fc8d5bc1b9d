//! Sessions as lines and stanzas show them.

mod hostile;

use std::time::Duration;

use super::*;
use crate::xmpp::{Condition, StanzaError};

const NOW: Duration = Duration::ZERO;
const ME: &str = "me@id.internal";
const BOB: &str = "bob@school.example";

struct Client {
    session: Session,
    said: Vec<Stanza>,
}

impl Client {
    /// Logged in, with these contacts.
    fn new(caps: &str, items: &str) -> (Self, String) {
        let mut enabled = Caps::default();
        let ask = Line::new("CAP").param("REQ").param(caps);
        enabled.answer(&ask, "*", Some("PLAIN"), &mut String::new());
        let login = Login { nick: "me".into(), user: "user".into(), caps: enabled };
        let mut client = Self { session: Session::new(login, vec!["node.example".into()]), said: Vec::new() };
        let bound = Element::new("jid", ns::BIND).text(&format!("{ME}/1"));
        client.answer("bind", Some(Element::new("bind", ns::BIND).child(bound)));
        assert!(!client.session.is_ready());
        let list =
            Element::read(format!("<query xmlns='jabber:iq:roster'>{items}</query>").as_bytes()).unwrap();
        let welcome = client.answer("query", Some(list));
        assert!(
            client.said.iter().any(|stanza| stanza.kind == Kind::Presence),
            "available once the list is there"
        );
        (client, welcome)
    }

    /// With bob, who is here.
    fn with_bob(caps: &str) -> Self {
        let (mut client, _) = Self::new(caps, &format!("<item jid='{BOB}' name='Bob' subscription='both'/>"));
        client.core(&format!("<presence from='{BOB}/x'/>"));
        client.lines();
        client.said.clear();
        client
    }

    fn lines(&mut self) -> String {
        let outcome = self.session.take();
        self.said.extend(outcome.stanzas.into_iter().map(|element| {
            let kind = Stanza::kind_of(&element).unwrap();
            Stanza::from_element(kind, element).unwrap()
        }));
        String::from_utf8(outcome.irc).unwrap()
    }

    /// Answers the last request with this payload.
    fn answer(&mut self, payload: &str, with: Option<Element>) -> String {
        let mut lines = self.lines();
        let asked = |stanza: &&Stanza| stanza.payload.first().is_some_and(|child| child.name() == payload);
        let answer = self.said.iter().rfind(asked).unwrap().result(with);
        self.session.element(answer.to_element());
        lines += &self.lines();
        lines
    }

    fn core(&mut self, xml: &str) -> String {
        let xml = xml.replacen(' ', " xmlns='jabber:client' ", 1);
        self.session.element(Element::read(xml.as_bytes()).unwrap());
        self.lines()
    }

    fn says(&mut self, line: &str) -> String {
        self.session.hear(&Heard::Text(line.to_owned()), NOW);
        self.lines()
    }

    /// Bodies sent, with the addresses.
    fn bodies(&mut self) -> Vec<(String, String)> {
        let bodies = std::mem::take(&mut self.said);
        let messages = bodies.into_iter().filter(|stanza| stanza.kind == Kind::Message);
        messages.map(|stanza| (stanza.to.as_ref().unwrap().to_string(), text_of(&stanza, "body"))).collect()
    }
}

#[test]
fn a_client_is_welcomed_into_its_channel() {
    let (mut client, welcome) =
        Client::new("", &format!("<item jid='{BOB}' name='Bob' subscription='both'/>"));
    for expected in [
        " 001 me ",
        " 005 me ",
        " 376 me ",
        ":me!user@crosstalk.internal JOIN &crosstalk",
        " 353 me = &crosstalk :me @crosstalk\r\n",
    ] {
        assert!(welcome.contains(expected), "{expected} in {welcome}");
    }
    assert_eq!(
        client.core(&format!("<presence from='{BOB}/x'/>")),
        ":Bob!bob@school.example JOIN &crosstalk\r\n:crosstalk!crosstalk@crosstalk.internal MODE &crosstalk +v Bob\r\n"
    );
    assert!(client.says("NAMES &crosstalk").contains(" 353 me = &crosstalk :me @crosstalk +Bob\r\n"));
}

#[test]
fn presence_is_join_part_away_and_voice() {
    let mut client = Client::with_bob("away-notify");
    let away =
        client.core(&format!("<presence from='{BOB}/x'><show>xa</show><status>lunch</status></presence>"));
    assert_eq!(
        away,
        ":crosstalk!crosstalk@crosstalk.internal MODE &crosstalk -v Bob\r\n:Bob!bob@school.example AWAY lunch\r\n"
    );
    // Another session that is not away counts more, and its end gives the first one back.
    assert!(
        client
            .core(&format!("<presence from='{BOB}/y'/>"))
            .contains("+v Bob\r\n:Bob!bob@school.example AWAY\r\n")
    );
    assert!(client.core(&format!("<presence from='{BOB}/y' type='unavailable'/>")).contains("-v Bob"));
    assert!(client.says("WHOIS Bob").is_empty(), "the core is asked first");
    let whois = client.answer("command", None);
    assert!(whois.contains(" 301 me Bob lunch\r\n") && whois.contains(" 318 me Bob "), "{whois}");
    let gone = client.core(&format!("<presence from='{BOB}/x' type='unavailable'/>"));
    assert_eq!(gone, ":Bob!bob@school.example PART &crosstalk :\r\n");
    assert!(client.says("ISON Bob me").contains(" 303 me me\r\n"));
}

#[test]
fn messages_go_both_ways() {
    let mut client = Client::with_bob("");
    let shown = client
        .core(&format!("<message from='{BOB}/x' type='chat'><body>one\n/me two \u{2603}</body></message>"));
    assert_eq!(
        shown,
        ":Bob!bob@school.example PRIVMSG me one\r\n:Bob!bob@school.example PRIVMSG me :/me two \u{2603}\r\n"
    );
    let acted = client.core(&format!("<message from='{BOB}/x' type='chat'><body>/me waves</body></message>"));
    assert_eq!(acted, ":Bob!bob@school.example PRIVMSG me :\u{1}ACTION waves\u{1}\r\n");
    assert_eq!(client.says("PRIVMSG bob :hello \u{2}there\u{2}"), "");
    client.says("PRIVMSG Bob :\u{1}ACTION waves\u{1}");
    client.says("PRIVMSG 00aa@id.internal,bob :both");
    let sent: Vec<_> = client.bodies();
    assert_eq!(
        sent,
        [
            (BOB.into(), "hello *there*".into()),
            (BOB.into(), "/me waves".into()),
            ("00aa@id.internal".into(), "both".into()),
            (BOB.into(), "both".into()),
        ]
        .map(|(to, body): (String, String)| (to, body))
    );
    assert!(client.says("PRIVMSG nobody :hello").contains(" 401 me nobody "));
    assert!(client.says("PRIVMSG #room :hello").contains(" 403 me #room "));
    assert!(client.says("PRIVMSG bob :\u{1}DCC SEND a 1 2 3\u{1}").contains("DCC of IRC means nothing"));
    assert!(client.says("PRIVMSG a,b,c,d,e :x").contains(" 407 "));
    assert!(client.bodies().is_empty());
}

#[test]
fn what_a_client_split_is_sent_as_one() {
    let mut client = Client::with_bob("");
    let room = room_of(&"-".repeat(60), "PRIVMSG", "Bob");
    let first = "word ".repeat(room / 5);
    client.says(&format!("PRIVMSG Bob :{}", first.trim_end()));
    assert!(client.bodies().is_empty() && client.session.due().is_some());
    client.says("PRIVMSG Bob :and the end");
    assert_eq!(client.bodies(), [(BOB.to_owned(), format!("{first}and the end"))]);
    // What nothing follows is sent when its time has come, or when something else is said.
    client.says(&format!("PRIVMSG Bob :{first}"));
    client.session.tick(Duration::from_secs(1));
    client.lines();
    assert!(client.bodies().is_empty());
    client.session.tick(Duration::from_secs(7));
    client.lines();
    assert_eq!(client.bodies().len(), 1);
    client.says(&format!("PRIVMSG Bob :{first}"));
    client.says("QUIT");
    assert_eq!(client.bodies().len(), 1);
    assert!(client.session.take().over);
}

#[test]
fn what_came_late_bears_its_time() {
    let late = format!(
        "<message from='{BOB}/x' type='chat'><body>late</body><delay xmlns='urn:xmpp:delay' from='id.internal' stamp='2026-11-23T18:00:00.500Z'/></message>"
    );
    let mut tagged = Client::with_bob("server-time");
    assert_eq!(
        tagged.core(&late),
        "@time=2026-11-23T18:00:00.500Z :Bob!bob@school.example PRIVMSG me late\r\n"
    );
    let mut plain = Client::with_bob("");
    assert!(plain.core(&late).ends_with("PRIVMSG me :[2026-11-23 18:00 UTC] late\r\n"));
}

#[test]
fn only_the_own_account_says_what_was_said_elsewhere() {
    let copy = |from: &str| {
        format!(
            "<message from='{from}'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
             <message xmlns='jabber:client' from='{ME}/2' to='{BOB}' type='chat'><body>from the telephone</body></message>\
             </forwarded></sent></message>"
        )
    };
    let mut client = Client::with_bob("znc.in/self-message");
    assert_eq!(client.core(&copy(ME)), ":me!user@crosstalk.internal PRIVMSG Bob :from the telephone\r\n");
    // Else a client would take its own nick for somebody who writes to it.
    let plain = Client::with_bob("").core(&copy(ME));
    assert_eq!(plain, ":Bob!bob@school.example NOTICE me :-> from the telephone\r\n");
    assert_eq!(client.core(&copy("eve@evil.example")), "");
    assert_eq!(client.core(&format!("<iq type='set' id='1' from='{BOB}/x'><query xmlns='jabber:iq:roster'><item jid='eve@evil.example' subscription='both' name='Bob'/></query></iq>")), "");
    assert!(client.session.people.get("eve@evil.example").is_none());
    assert_eq!(client.said.last().unwrap().type_, Type::Error);
}

#[test]
fn what_is_held_is_proved_by_the_answer_to_a_ping_behind_it() {
    let mut client = Client::with_bob("");
    let lines =
        client.core("<iq type='get' id='ping-7' from='id.internal'><ping xmlns='urn:xmpp:ping'/></iq>");
    let token = lines.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert!(lines.contains(" PING ") && client.said.is_empty(), "{lines}");
    client.says("PONG 1");
    assert!(client.said.is_empty());
    client.says(&format!("PONG crosstalk.internal :{token}"));
    assert_eq!(
        client.said.last().and_then(|iq| iq.id.as_deref().map(str::to_owned)).as_deref(),
        Some("ping-7")
    );
    client.said.clear();
    // Receipts of two messages, the second behind the ping of the first.
    let ask = |id: &str| {
        format!(
            "<message from='{BOB}/x' type='chat' id='{id}'><body>b</body><request xmlns='urn:xmpp:receipts'/></message>"
        )
    };
    let first = client.core(&ask("a"));
    assert!(first.contains("PRIVMSG me b\r\n:crosstalk.internal PING "), "{first}");
    assert!(!client.core(&ask("b")).contains("PING"));
    let second = client.says(&format!("PONG {}", first.trim_end().rsplit(' ').next().unwrap()));
    assert!(second.contains(" PING ") && client.said.len() == 1, "{second}");
    client.says(&format!("PONG {}", second.trim_end().rsplit(' ').next().unwrap()));
    assert_eq!(client.said.len(), 2);
    // Whoever may not see us is not told.
    assert!(!client.core(&ask("c").replace(BOB, "eve@evil.example")).contains("PING"));
}

#[test]
fn nothing_is_dropped_in_silence() {
    let mut client = Client::with_bob("");
    client.says("PRIVMSG Bob :to be or not to be");
    let id = client.said.last().unwrap().id.clone().unwrap();
    let error = StanzaError::new(Condition::ServiceUnavailable, "the door is shut");
    let mut back = Stanza::new(Kind::Message, Type::Error);
    (back.from, back.id) = (jid::Jid::new(BOB).ok(), Some(id));
    back.payload.push(error.to_element());
    client.session.element(back.to_element());
    assert!(
        client
            .lines()
            .contains("NOTICE me :NOT DELIVERED: \u{201c}to be or not to be\u{201d}: the door is shut")
    );
    let odd = client.core(&format!(
        "<message from='{BOB}/x' type='chat'><reactions xmlns='urn:xmpp:reactions:0' id='1'/></message>"
    ));
    assert!(odd.contains("IRC cannot show: reactions"), "{odd}");
    let encrypted = client.core(&format!("<message from='{BOB}/x' type='chat'><encrypted xmlns='eu.siacs.conversations.axolotl'/><body>cannot be read here</body></message>"));
    assert!(encrypted.contains("PRIVMSG me :cannot be read here"));
    assert_eq!(client.core(&format!("<message from='{BOB}/x' type='chat'><gone xmlns='http://jabber.org/protocol/chatstates'/></message>")), "");
    client.session.hear(&Heard::NotText, NOW);
    client.session.hear(&Heard::TooLong, NOW);
    let lines = client.lines();
    assert!(lines.contains("not UTF-8") && lines.contains(" 417 "), "{lines}");
    assert!(client.says("FROBNICATE x").contains(" 421 me FROBNICATE "));
}

#[test]
fn typing_is_told_to_who_asks_for_tags() {
    let mut client = Client::with_bob("message-tags");
    let state = format!(
        "<message from='{BOB}/x' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    );
    assert_eq!(client.core(&state), "@+typing=active :Bob!bob@school.example TAGMSG me\r\n");
    client.says("@+typing=paused TAGMSG Bob");
    assert!(client.said.last().unwrap().has("paused", ns::CHAT_STATES));
}

#[test]
fn the_contact_list_is_kept_by_words() {
    let (mut client, _) = Client::new("", "");
    let asks = client.core(&format!("<presence from='{BOB}' type='subscribe'/>"));
    assert!(
        asks.contains("PRIVMSG &crosstalk :bob (bob@school.example) asks") && asks.contains("`accept bob`"),
        "{asks}"
    );
    client.said.clear();
    client.says("PRIVMSG &crosstalk :accept bob");
    let types: Vec<Type> = client.said.iter().map(|stanza| stanza.type_).collect();
    assert_eq!(types, [Type::Subscribed, Type::Subscribe]);
    client.says("PRIVMSG &crosstalk :add eve@evil.example Eve the first");
    let item = client
        .said
        .iter()
        .find_map(|stanza| stanza.get("query", ns::ROSTER)?.get("item", ns::ROSTER))
        .unwrap();
    assert_eq!(
        (item.get_attr("jid"), item.get_attr("name")),
        (Some("eve@evil.example"), Some("Eve the first"))
    );
    let done = client.answer("query", None);
    assert!(done.contains("eve@evil.example is added"), "{done}");
    client.core("<iq type='set' id='p'><query xmlns='jabber:iq:roster'><item jid='eve@evil.example' name='Eve the first' subscription='none' ask='subscribe'><group>Work</group></item></query></iq>");
    client.says("PRIVMSG crosstalk :rename Eve_the_first Eva");
    let item = client
        .said
        .iter()
        .rev()
        .find_map(|stanza| stanza.get("query", ns::ROSTER)?.get("item", ns::ROSTER))
        .unwrap();
    assert_eq!((item.get_attr("name"), item.children().count()), (Some("Eva"), 1), "groups stay");
    for (said, payload) in [
        ("block eve@evil.example", "block"),
        ("unblock Eve_the_first", "unblock"),
        ("blocked", "blocklist"),
        ("verify bob", "command"),
    ] {
        client.says(&format!("PRIVMSG &crosstalk :{said}"));
        assert_eq!(client.said.last().unwrap().payload[0].name(), payload, "{said}");
    }
    client.says("PRIVMSG &crosstalk :remove Eve_the_first");
    let item = client.said.last().unwrap().get("query", ns::ROSTER).unwrap().get("item", ns::ROSTER).unwrap();
    assert_eq!(item.get_attr("subscription"), Some("remove"));
    assert!(client.says("PRIVMSG &crosstalk :remove nobody").contains("no nick of this session"));
    assert!(client.says("PRIVMSG &crosstalk :dance").contains("Say `help`"));
    assert!(client.says("PRIVMSG &crosstalk :requests").contains("is asked and has not answered"));
    assert_eq!(client.says("PRIVMSG &crosstalk :help").lines().count(), 8);
}

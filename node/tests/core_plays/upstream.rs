//! A user's laptops, the server of the domain and a stock server behind it: nothing is lost, nothing is there twice, and nobody
//! speaks for another.

use std::collections::BTreeMap;

use crate::core_support::link::{cut, join, rest, rest_until};
use crate::core_support::{Client, DOMAIN, Play};
use crosstalk_overlay::enrol::{Exchange, Letter};
use crosstalk_overlay::id::{DeviceId, NodeId};
use crosstalk_storage::tree::authority::MemberState;

const SECOND: u64 = 1_000;

/// A server with a door, laptops of anna, each logged in.
struct School {
    server: Play,
    laptops: Vec<Play>,
    clients: Vec<Client>,
}

impl School {
    fn new(count: u8) -> Self {
        let laptops: Vec<Play> = (1..=count).map(|n| Play::enrolled(n, |_| {})).collect();
        let clients: Vec<Client> =
            laptops.iter().enumerate().map(|(n, laptop)| laptop.online(&format!("anna/desk{n}"))).collect();
        let server = Play::server();
        let user = laptops[0].user("anna");
        server.desk(|desk| desk.open_door("anna", user));
        Self { server, laptops, clients }
    }

    /// All of them connected, and the stock server there.
    fn met(count: u8) -> Self {
        let school = Self::new(count);
        school.stock(true);
        (0..school.laptops.len()).for_each(|laptop| school.join(laptop));
        school.rest();
        school.forget();
        school
    }

    fn all(&self) -> Vec<&Play> {
        std::iter::once(&self.server).chain(&self.laptops).collect()
    }

    /// What is due within some seconds happens.
    fn rest(&self) {
        for _ in 0..8 {
            rest(&self.all());
            self.clients.iter().for_each(Client::answers_pings);
            self.all().iter().for_each(|play| play.wait(SECOND));
            self.tick();
        }
        rest(&self.all());
        self.clients.iter().for_each(Client::answers_pings);
    }

    fn wait(&self, seconds: u64) {
        for _ in 0..seconds / 5 {
            self.all().iter().for_each(|play| play.wait(5 * SECOND));
            self.tick();
            rest(&self.all());
            self.clients.iter().for_each(Client::answers_pings);
        }
    }

    fn tick(&self) {
        self.server.door(|desk, now| desk.tick(now));
    }

    fn join(&self, laptop: usize) {
        join(&self.all(), &self.server, &self.laptops[laptop]);
    }

    fn part(&self, laptop: usize) {
        cut(&self.all(), &self.server, &self.laptops[laptop]);
    }

    fn stock(&self, up: bool) {
        self.server.door(|desk, now| desk.stock(up, now));
    }

    fn outside_says(&self, xml: &str) {
        self.server.door(|desk, now| desk.stock_says(xml, now));
    }

    fn outside_got(&self) -> Vec<String> {
        self.server.door(|desk, _| desk.stock_got())
    }

    fn forget(&self) {
        for client in &self.clients {
            client.forget();
        }
        self.outside_got();
    }

    fn writes(&self, laptop: usize, body: &str) {
        let to = "romeo@stock.example";
        self.clients[laptop]
            .send(&format!("<message to='{to}' id='{body}' type='chat'><body>{body}</body></message>"));
    }

    fn outside_writes(&self, body: &str) {
        self.says_to_anna("romeo@stock.example/orchard", body);
    }

    fn says_to_anna(&self, from: &str, body: &str) {
        self.outside_says(&format!(
            "<message from='{from}' to='anna@{DOMAIN}' id='{body}' type='chat'><body>{body}</body></message>"
        ));
    }

    /// Romeo sees anna, and anna romeo.
    fn befriended(&self) {
        self.outside_says("<presence from='romeo@stock.example' to='anna@school.example' type='subscribe'/>");
        self.rest();
        self.clients[0].send("<presence to='romeo@stock.example' type='subscribed'/>");
        self.clients[0].send("<presence to='romeo@stock.example' type='subscribe'/>");
        self.rest();
        self.outside_says(
            "<presence from='romeo@stock.example' to='anna@school.example' type='subscribed'/>",
        );
        self.outside_says("<presence from='romeo@stock.example/orchard' to='anna@school.example'/>");
        self.rest();
        self.forget();
    }

    fn blocks(&self, laptop: usize, what: &str, jid: &str) {
        let list = format!("<{what} xmlns='urn:xmpp:blocking'><item jid='{jid}'/></{what}>");
        self.clients[laptop].send(&format!("<iq type='set' id='b'>{list}</iq>"));
        self.rest();
        self.clients[laptop].forget();
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        self.server.door(|desk, _| desk.door.as_ref().unwrap().gate.view().refused)
    }
}

impl Drop for School {
    fn drop(&mut self) {
        for client in &self.clients {
            client.forget();
        }
    }
}

/// Bodies of messages in what somebody got.
fn bodies(got: &[String]) -> Vec<String> {
    let body = |text: &String| {
        let begin = text.find("<body>")? + "<body>".len();
        Some(text[begin..begin + text[begin..].find("</body>")?].to_owned())
    };
    got.iter().filter(|text| text.starts_with("<message")).filter_map(body).collect()
}

fn received(client: &Client) -> Vec<String> {
    let all = client.takes_all();
    let message = |element: &crosstalk::xmpp::Element| {
        let body = element.get("body", "jabber:client")?;
        Some(body.own_text().to_string())
    };
    all.iter().filter(|element| element.name() == "message").filter_map(message).collect()
}

#[test]
fn who_has_no_way_is_told_so_as_ever() {
    let school = School::new(1);
    school.writes(0, "m1");
    school.clients[0].expects(
        "<message type='error' id='m1' from='romeo@stock.example'><error type='cancel'>\
         <remote-server-not-found/></error></message>",
    );
}

#[test]
fn messages_go_both_ways() {
    let school = School::met(1);
    school.writes(0, "m1");
    school.rest();
    let got = school.outside_got();
    assert_eq!(bodies(&got), ["m1"]);
    assert!(
        got[0].contains("from='anna@school.example/desk0'") && !got[0].contains("urn:xmpp:delay"),
        "{got:?}"
    );
    school.outside_writes("r1");
    school.rest();
    assert_eq!(received(&school.clients[0]), ["r1"]);
}

#[test]
fn what_is_written_while_the_server_is_away_says_when() {
    let school = School::met(1);
    school.part(0);
    school.writes(0, "m1");
    school.outside_writes("r1");
    school.wait(60);
    assert!(bodies(&school.outside_got()).is_empty());
    school.clients[0].forget();
    school.join(0);
    school.rest();
    let got = school.outside_got();
    assert_eq!(bodies(&got), ["m1"]);
    let message = got.iter().find(|text| text.contains("m1")).unwrap();
    assert!(
        message.contains("urn:xmpp:delay") && message.contains("from='school.example' stamp="),
        "{message}"
    );
    let all = school.clients[0].takes_all();
    let message = all.iter().find(|element| element.name() == "message").expect("a message");
    assert!(message.has("delay", "urn:xmpp:delay"));
}

/// The link breaks after any number of frames, and again; then the process of either dies: once, and in their order.
#[test]
fn wherever_it_breaks_each_is_there_once() {
    for frames in 0..36 {
        let school = School::met(1);
        for round in 0..3 {
            for each in 0..2 {
                school.writes(0, &format!("m{round}{each}"));
                school.outside_writes(&format!("r{round}{each}"));
            }
            rest_until(&school.all(), frames);
            school.part(0);
            match round {
                1 => {
                    school.server.desk(|desk| desk.restart());
                    school.stock(true);
                }
                2 => school.stock(false),
                _ => {}
            }
            school.join(0);
            school.rest();
        }
        school.stock(true);
        school.wait(30);
        let wanted = |who: &str| -> Vec<String> {
            (0..3).flat_map(|round| (0..2).map(move |each| format!("{who}{round}{each}"))).collect()
        };
        assert_eq!(bodies(&school.outside_got()), wanted("m"), "{frames} frames");
        assert_eq!(received(&school.clients[0]), wanted("r"), "{frames} frames");
        assert_eq!(school.server.door(|desk, _| desk.door.as_ref().unwrap().gate.view().held), 0);
    }
}

/// Nothing is told to the server that is not on the laptop's disk, in either direction.
#[test]
fn a_laptop_that_dies_before_its_disk_has_it_has_said_nothing() {
    let school = School::met(1);
    school.laptops[0].hold_commits();
    school.writes(0, "m1");
    school.outside_writes("r1");
    rest(&school.all());
    assert!(bodies(&school.outside_got()).is_empty());
    let waiting =
        |school: &School| school.server.door(|desk, _| desk.door.as_ref().unwrap().gate.view().waiting);
    assert_eq!(waiting(&school), 1);
    for _ in 0..4 {
        school.laptops[0].commit();
        school.rest();
    }
    assert_eq!(bodies(&school.outside_got()), ["m1"]);
    assert_eq!((received(&school.clients[0]), waiting(&school)), (vec!["r1".to_owned()], 0));
}

/// XEP-0114 acknowledges nothing: what the stock server has not proved to have handled goes to it again.
#[test]
fn what_the_stock_server_did_not_handle_goes_again() {
    let school = School::met(1);
    school.server.door(|desk, _| desk.door.as_mut().unwrap().deaf = true);
    school.writes(0, "m1");
    school.wait(40);
    school.server.door(|desk, _| desk.door.as_mut().unwrap().deaf = false);
    assert_eq!(bodies(&school.outside_got()), ["m1"]);
    school.stock(true);
    school.rest();
    assert_eq!(bodies(&school.outside_got()), ["m1"]);
    school.stock(false);
    school.stock(true);
    school.rest();
    assert!(bodies(&school.outside_got()).is_empty());
}

#[test]
fn each_laptop_has_what_comes_and_what_the_other_sent() {
    let school = School::met(2);
    school.writes(0, "m1");
    school.outside_writes("r1");
    school.rest();
    assert_eq!(received(&school.clients[0]), ["r1"]);
    assert_eq!(received(&school.clients[1]), ["r1"]);
    school.part(1);
    school.outside_writes("r2");
    school.rest();
    assert_eq!(received(&school.clients[0]), ["r2"]);
    school.join(1);
    school.rest();
    assert_eq!(received(&school.clients[1]), ["r2"]);
    assert_eq!(bodies(&school.outside_got()), ["m1"]);
}

#[test]
fn subscriptions_are_those_of_rfc_6121() {
    let school = School::met(1);
    let anna = &school.clients[0];
    anna.fetch_contacts();
    anna.forget();
    anna.send("<presence to='romeo@stock.example' type='subscribe'/>");
    anna.expects_item("<item jid='romeo@stock.example' subscription='none' ask='subscribe'/>");
    school.rest();
    let got = school.outside_got();
    assert!(
        got.iter()
            .any(|text| text.contains("type='subscribe'") && text.contains("from='anna@school.example'")),
        "{got:?}"
    );
    anna.forget();
    school.outside_says("<presence from='romeo@stock.example' to='anna@school.example' type='subscribed'/>");
    school.outside_says(
        "<presence from='romeo@stock.example/orchard' to='anna@school.example'><show>away</show></presence>",
    );
    school.outside_says("<presence from='romeo@stock.example' to='anna@school.example' type='subscribe'/>");
    rest(&school.all());
    anna.expects_all(&[
        "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>\
         <item jid='romeo@stock.example' subscription='to'/></query></iq>",
        "<presence from='romeo@stock.example' type='subscribed'/>",
        "<presence from='romeo@stock.example' type='subscribe'/>",
        "<presence from='romeo@stock.example/orchard'><show>away</show></presence>",
    ]);
    school.outside_got();
    anna.send("<presence to='romeo@stock.example' type='subscribed'/>");
    anna.expects_item("<item jid='romeo@stock.example' subscription='both'/>");
    school.rest();
    let got = school.outside_got();
    assert!(got.iter().any(|text| text.contains("type='subscribed'")), "{got:?}");
    assert!(
        got.iter().any(|text| text.contains("from='anna@school.example/desk0'") && !text.contains("type=")),
        "{got:?}"
    );
    // A probe is answered by the server; who says nothing for long is away.
    school.outside_says("<presence from='romeo@stock.example' to='anna@school.example' type='probe'/>");
    assert!(school.outside_got()[0].contains("from='anna@school.example/desk0'"));
    school.part(0);
    school.wait(80);
    let got = school.outside_got();
    assert!(
        got.iter().any(|text| text.contains("/desk0'") && text.contains("type='unavailable'")),
        "{got:?}"
    );
    anna.expects("<presence from='romeo@stock.example/orchard' type='unavailable'/>");
    // Taken back while the laptop is away.
    school
        .outside_says("<presence from='romeo@stock.example' to='anna@school.example' type='unsubscribed'/>");
    school.join(0);
    school.rest();
    anna.expects_all(&[
        "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>\
         <item jid='romeo@stock.example' subscription='from'/></query></iq>",
        "<presence from='romeo@stock.example' type='unsubscribed'/>",
    ]);
}

/// Those outside who saw the user are told, and nothing is left of what waited.
#[test]
fn a_user_who_starts_anew_is_shown_away_and_leaves_nothing() {
    let school = School::met(1);
    school.outside_says("<presence from='romeo@stock.example' to='anna@school.example' type='subscribe'/>");
    school.rest();
    school.clients[0].send("<presence to='romeo@stock.example' type='subscribed'/>");
    school.rest();
    school.part(0);
    school.outside_writes("r1");
    assert!(school.outside_got().iter().any(|text| text.contains("/desk0'") && !text.contains("type=")));
    let waiting = || school.server.door(|desk, _| desk.waiting());
    assert!(waiting() > 0);
    let user = school.laptops[0].user("anna");
    school.server.door(|desk, now| desk.forget_user(user, now));
    let got = school.outside_got();
    let away = |text: &String| text.contains("/desk0'") && text.contains("type='unavailable'");
    assert!(got.iter().any(away), "{got:?}");
    assert_eq!(waiting(), 0);
}

#[test]
fn nobody_speaks_for_another() {
    let school = School::met(1);
    // The stock server: not for users of the domain, of the overlay or of the link, and for no other domain.
    for (from, to) in [
        ("bob@school.example/x", "anna@school.example"),
        ("school.example", "anna@school.example"),
        (&format!("00{}@id.internal", "7".repeat(64)), "anna@school.example"),
        ("bob@link.internal", "anna@school.example"),
        ("romeo@stock.example", "anna@other.example"),
    ] {
        school.outside_says(&format!(
            "<message from='{from}' to='{to}' type='chat'><body>forged</body></message>"
        ));
    }
    school.rest();
    assert!(received(&school.clients[0]).is_empty());
    assert!(school.outside_got().is_empty(), "no answer to a forged address");
    assert_eq!(school.refused().values().sum::<u64>(), 5);
    // A laptop: for its user alone, and for outside alone.
    let (user, node) = (school.laptops[0].user("anna"), NodeId::from_bytes([1; 32]));
    let who = crosstalk::upstream::outward::Who { node, user, device: DeviceId::from_bytes([2; 32]) };
    let letter = |number, from: &str, to: &str| Letter {
        number,
        stanza: format!("<message from='{from}' to='{to}' type='chat'><body>forged</body></message>")
            .into_bytes(),
        ..Letter::default()
    };
    let letters = vec![
        letter(1, "bob@school.example/x", "romeo@stock.example"),
        letter(2, "romeo@stock.example", "romeo@stock.example"),
        letter(3, "anna@school.example", "bob@school.example"),
        letter(4, "anna@school.example", "bob@id.internal"),
    ];
    let live = letters.iter().map(|letter| letter.stanza.clone()).collect();
    let ask = Exchange { letters, live, ..Exchange::default() };
    school.server.door(|desk, now| desk.exchange((who, "anna"), ask, now));
    assert!(school.outside_got().is_empty());
    assert_eq!(school.refused().values().sum::<u64>(), 5 + 8);
    // A user who has no name any more: nobody comes in, and nobody gets out.
    school.server.desk(|desk| desk.member("anna", user, MemberState::Disabled));
    school.outside_says("<message from='romeo@stock.example' to='anna@school.example' type='chat' id='r'><body>r</body></message>");
    assert!(school.outside_got()[0].contains("service-unavailable"));
    school.writes(0, "m1");
    school.rest();
    assert!(bodies(&school.outside_got()).is_empty());
}

#[test]
fn too_much_at_once_is_refused_by_the_error_of_the_protocol() {
    let school = School::met(1);
    // Each sender may send 200 at once, and all of them 400 to one user.
    for number in 0..200 {
        (0..3)
            .for_each(|who| school.says_to_anna(&format!("romeo{who}@stock.example"), &format!("r{number}")));
    }
    let got = school.outside_got();
    let refused = got.iter().filter(|text| text.contains("resource-constraint")).count();
    assert!((150..=250).contains(&refused), "{refused}");
    school.rest();
    let came = received(&school.clients[0]).len();
    assert_eq!(came + refused, 600);
    let long = "x".repeat(50_000);
    school.wait(60);
    school.outside_writes(&long);
    assert!(school.outside_got().last().unwrap().contains("policy-violation"));
    school.writes(0, &long);
    school.clients[0].expects("<message type='error' id='*' from='romeo@stock.example'><error type='modify'><policy-violation/></error></message>");
    // A laptop that writes faster than the server takes it waits, and loses nothing.
    for number in 0..450 {
        school.writes(0, &format!("m{number}"));
    }
    school.rest();
    school.wait(60);
    let wanted: Vec<String> = (0..450).map(|number| format!("m{number}")).collect();
    assert_eq!(bodies(&school.outside_got()), wanted);
}

#[test]
fn requests_find_a_session_or_an_answer() {
    let school = School::met(1);
    let anna = &school.clients[0];
    anna.send("<iq type='get' id='q1' to='stock.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    school.rest();
    let got = school.outside_got();
    assert!(got.iter().any(|text| text.contains("id='q1'")), "{got:?}");
    // Only who was asked can answer, and only what was asked.
    school.outside_says("<iq type='result' id='q1' from='other.example' to='anna@school.example/desk0'/>");
    school.outside_says("<iq type='result' id='q2' from='stock.example' to='anna@school.example/desk0'/>");
    school.outside_says("<iq type='result' id='q1' from='stock.example' to='anna@school.example/desk0'/>");
    school.rest();
    anna.expects("<iq type='result' id='q1' from='stock.example'/>");
    anna.hears_nothing();
    let ask = |id: &str, to: &str, what: &str| {
        school.outside_says(&format!(
            "<iq type='get' id='{id}' from='romeo@stock.example/o' to='{to}'>{what}</iq>"
        ));
        school.rest();
    };
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    ask("1", "anna@school.example/desk0", ping);
    anna.expects(&format!("<iq type='get' id='1' from='romeo@stock.example/o'>{ping}</iq>"));
    anna.send("<iq type='result' id='1' to='romeo@stock.example/o'/>");
    school.rest();
    assert!(school.outside_got()[0].contains("type='result'"));
    ask("2", "anna@school.example/nowhere", ping);
    assert!(school.outside_got()[0].contains("service-unavailable"));
    ask("3", "anna@school.example", "<vCard xmlns='vcard-temp'/>");
    assert!(school.outside_got()[0].contains("id='3'"));
    for (id, to) in [("4", "school.example"), ("5", "anna@school.example")] {
        ask(id, to, "<query xmlns='http://jabber.org/protocol/disco#info'/>");
        assert!(school.outside_got()[0].contains("<identity"));
    }
    // What nobody answers ends all the same; and while the server is away at once.
    anna.send("<iq type='get' id='q3' to='romeo@stock.example/o'><ping xmlns='urn:xmpp:ping'/></iq>");
    school.wait(70);
    anna.expects("<iq type='error' id='q3' from='romeo@stock.example/o'><error type='wait'><remote-server-timeout/></error></iq>");
    school.stock(false);
    school.rest();
    anna.send("<iq type='get' id='q4' to='romeo@stock.example/o'><ping xmlns='urn:xmpp:ping'/></iq>");
    anna.expects("<iq type='error' id='q4' from='romeo@stock.example/o'><error type='wait'><remote-server-timeout/></error></iq>");
    school.outside_got();
}

/// One who floods has a share, so has all of a domain, and so have all strangers: others get in, and contacts get in after all.
#[test]
fn who_floods_leaves_room_for_others() {
    let school = School::met(1);
    school.befriended();
    school.part(0);
    let waiting = || school.server.door(|desk, _| desk.waiting());
    let flood = |senders: &[&str]| {
        for _ in 0..8 {
            (0..100).for_each(|n| {
                senders.iter().for_each(|sender| school.says_to_anna(sender, &format!("f{n}")))
            });
            school.wait(15);
        }
        let got = school.outside_got();
        let full = |text: &&String| {
            text.contains("type='wait'><resource-constraint") && text.contains("wait already")
        };
        assert!(got.iter().any(|text| full(&text)), "{:?}", got.last());
        waiting()
    };
    assert_eq!(flood(&["mallory@evil.example/1"]), 500);
    school.says_to_anna("mallory@evil.example/2", "by another session");
    assert_eq!(waiting(), 500);
    school.says_to_anna("juliet@balcony.example", "art thou not Romeo");
    assert_eq!(waiting(), 501);
    flood(&["a@evil.example", "b@evil.example"]);
    assert_eq!(flood(&["a@evil.example", "c@worse.example", "d@worst.example"]), 1_000);
    school.says_to_anna("juliet@balcony.example", "and a Montague");
    assert_eq!(waiting(), 1_000);
    school.outside_writes("neither, fair saint");
    assert_eq!(waiting(), 1_001);
    for what in ["one sender", "strangers"] {
        let what = format!("letters from outside beyond the share of {what}");
        assert!(school.refused().get(&what).is_some_and(|count| *count > 0), "{:?}", school.refused());
    }
    // After a start the shares are what they were.
    school.server.desk(|desk| desk.restart());
    school.stock(true);
    school.says_to_anna("juliet@balcony.example", "neither");
    assert_eq!(waiting(), 1_001);
    school.join(0);
    school.rest();
    school.rest();
    let came = received(&school.clients[0]);
    assert!(
        came.contains(&"neither, fair saint".to_owned()) && came.contains(&"art thou not Romeo".to_owned())
    );
    assert_eq!(waiting(), 0);
    school.says_to_anna("juliet@balcony.example", "then");
    school.rest();
    assert_eq!(received(&school.clients[0]), ["then"]);
}

/// XEP-0191, at the server: also while no laptop is there.
#[test]
fn who_is_blocked_sees_nothing_and_says_nothing() {
    for blocked in ["romeo@stock.example", "stock.example"] {
        let school = School::met(1);
        school.befriended();
        school.blocks(0, "block", blocked);
        let got = school.outside_got();
        let away = |text: &&String| text.contains("/desk0'") && text.contains("type='unavailable'");
        assert_eq!(got.iter().filter(away).count(), 1, "{got:?}");
        // What the user does is not shown any more.
        school.clients[0].send("<presence><show>dnd</show></presence>");
        school.rest();
        assert!(school.outside_got().is_empty());
        school.part(0);
        school.wait(80);
        assert!(school.outside_got().is_empty());
        let waiting = school.server.door(|desk, _| desk.waiting());
        school.outside_writes("r1");
        assert!(school.outside_got()[0].contains("<service-unavailable"));
        assert_eq!(school.server.door(|desk, _| desk.waiting()), waiting, "it is not kept");
        school.outside_says("<iq type='get' id='v' from='romeo@stock.example/o' to='anna@school.example'><ping xmlns='urn:xmpp:ping'/></iq>");
        assert!(school.outside_got()[0].contains("<service-unavailable"));
        for type_ in ["subscribe", "probe", "subscribed"] {
            school.outside_says(&format!(
                "<presence from='romeo@stock.example' to='anna@school.example' type='{type_}'/>"
            ));
        }
        school.outside_says("<presence from='romeo@stock.example/orchard' to='anna@school.example'/>");
        school.outside_says("<message type='error' id='e' from='romeo@stock.example' to='anna@school.example'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>");
        assert!(school.outside_got().is_empty(), "no answer to presence, nor to errors");
        school.says_to_anna("juliet@balcony.example", "to another nothing has changed");
        assert_eq!(school.server.door(|desk, _| desk.waiting()), waiting + 1);
        school.join(0);
        school.rest();
        assert_eq!(received(&school.clients[0]), ["to another nothing has changed"]);
        assert!(school.outside_got().is_empty());
        school.blocks(0, "unblock", blocked);
        let got = school.outside_got();
        let here = |text: &&String| text.contains("/desk0'") && !text.contains("type=");
        assert!(
            got.iter().any(|text| here(&text)) && got.iter().any(|text| text.contains("type='probe'")),
            "{got:?}"
        );
        school.outside_writes("r2");
        school.rest();
        assert_eq!(received(&school.clients[0]), ["r2"]);
    }
}

/// Whoever goes while the stock server is away is not shown there for ever; nor is anybody once the server has ended.
#[test]
fn nobody_stays_shown_who_has_gone() {
    let school = School::met(2);
    school.befriended();
    let away = |got: &[String], desk: u8| {
        let away =
            |text: &&String| text.contains(&format!("/desk{desk}'")) && text.contains("type='unavailable'");
        got.iter().filter(away).count()
    };
    school.stock(false);
    school.clients[0].send("<presence type='unavailable'/>");
    school.rest();
    school.clients[0].send("<presence/>");
    school.part(1);
    school.wait(80);
    school.stock(true);
    let got = school.outside_got();
    assert_eq!((away(&got, 0), away(&got, 1)), (0, 1), "{got:?}");
    school.server.door(|desk, now| desk.close(now));
    let got = school.outside_got();
    assert_eq!((away(&got, 0), away(&got, 1)), (1, 0), "{got:?}");
}

/// Passes and questions about the outside go on beside each other: an answer that a pass has overtaken counts.
#[test]
fn what_an_answer_brings_that_a_pass_has_overtaken_is_not_lost() {
    let school = School::met(1);
    school.befriended();
    school.server.answers_late(true);
    school.outside_says(
        "<presence from='romeo@stock.example/balcony' to='anna@school.example'><show>away</show></presence>",
    );
    rest(&school.all());
    school.clients[0].send(
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='carl@far.example' name='Carl'/></query></iq>",
    );
    school.rest();
    school.clients[0].forget();
    school.server.answers_late(false);
    school.rest();
    let got = school.clients[0].takes_all();
    let shown = |element: &&crosstalk::xmpp::Element| {
        element.get_attr("from").is_some_and(|from| from == "romeo@stock.example/balcony")
    };
    assert!(got.iter().any(|element| shown(&element)), "{got:?}");
}

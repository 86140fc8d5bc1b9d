//! People known by XEP-0174 only: who is announced, who is shown, who may write to whom, and what becomes of messages.

use crosstalk::core::Output;
use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::link::io::{LinkCommand, LinkEnding};
use crosstalk::core::settings::LinkMode;
use crosstalk::xmpp::Element;
use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::Event;
use crosstalk_storage::Tree;

use crate::core_support::bonjour::libpurple;
use crate::core_support::{Client, Play};

const BOB: &str = r"bob\40h2@link.internal";
const AT: &str = "10.0.0.2:5298";
const HTML: &str = "<html xmlns='http://www.w3.org/1999/xhtml'><body><font>hi</font></body></html>";

/// Anna is announced; her name is settled.
fn anna() -> (Play, Client) {
    let play = Play::on_link();
    assert_eq!(play.link_says(), ["browse true"]);
    let anna = play.online("anna/desk");
    play.link_says_only("announce anna@h1 avail");
    play.link_is_silent();
    (play, anna)
}

/// Bob, on a stock program, is seen too, for long enough.
fn both() -> (Play, Client) {
    let (play, anna) = anna();
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    play.wait(2_000);
    anna.forget();
    (play, anna)
}

/// A stream of Bob's is open.
fn talking() -> (Play, Client) {
    let (play, anna) = both();
    play.link_opens(1, "10.0.0.2:40000", Some("bob@h2"), Some("anna@h1"));
    play.link_says_only("accept 1 anna@h1 bob@h2");
    (play, anna)
}

fn written(stream: u64, id: &str) -> String {
    format!(
        "write {stream} <message to='bob@h2' from='anna@h1' type='chat' id='{id}'><body>hi</body>{HTML}</message>"
    )
}

fn hi(client: &Client, id: &str) {
    client.send(&format!("<message to='{BOB}' type='chat' id='{id}'><body>hi</body></message>"));
}

#[track_caller]
fn lost(client: &Client, id: &str) {
    client.expects(&format!(
        "<message from='{BOB}' type='error' id='{id}'><error type='wait'><remote-server-timeout/></error></message>"
    ));
}

/// A message is told as failed, whatever else is told.
#[track_caller]
fn failed(client: &Client, id: &str) {
    let told = client.takes_all();
    let is_failure =
        |told: &Element| (told.get_attr("type"), told.get_attr("id")) == (Some("error"), Some(id));
    assert!(told.iter().any(is_failure), "{told:?}");
}

fn set(client: &Client, item: &str) {
    client.send(&format!("<iq type='set' id='set'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
}

fn nearby(name: &str) -> String {
    format!("<item jid='{BOB}' subscription='both' name='{name} (link)'><group>Nearby</group></item>")
}

fn presence(inside: &str) -> String {
    format!(
        "<presence from='{BOB}/nearby'>{inside}<nick xmlns='http://jabber.org/protocol/nick'>Bob (link)</nick>\
         <x xmlns='vcard-temp:x:update'><photo/></x></presence>"
    )
}

/// A user is announced as long as it is available, with show and text; away is said so that libpurple shows it.
#[test]
fn a_user_is_announced_while_available() {
    let (play, anna) = anna();
    anna.send("<presence><show>away</show><status>lunch</status></presence>");
    play.link_says_only("announce anna@h1 dnd lunch");
    anna.send("<presence><show>away</show><status>lunch</status><priority>1</priority></presence>");
    play.link_is_silent();
    anna.send("<presence type='unavailable'/>");
    play.link_says_only("withdraw");
    anna.forget();
}

/// The text record says what the module documents, and no address.
#[test]
fn what_is_made_public() {
    let play = Play::on_link();
    let anna = play.online("anna/desk");
    play.link_says();
    anna.send("<iq type='set' id='v'><vCard xmlns='vcard-temp'><PHOTO><BINVAL>aGVs\nbG8=</BINVAL></PHOTO></vCard></iq>");
    anna.send(
        "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>",
    );
    let commands = play.link_commands();
    let Some(LinkCommand::Announce { presence, .. }) = commands.last() else { panic!("{commands:?}") };
    let advert = &presence.advert;
    assert_eq!(presence.picture.as_deref(), Some(&b"hello"[..]));
    assert_eq!(advert.phsh.map(|hash| hash[..3].to_vec()), Some(vec![0xaa, 0xf4, 0xc6]));
    assert_eq!((advert.nick.as_deref(), advert.first.as_deref()), (Some("anna"), Some("anna")));
    assert_eq!(
        (advert.node.as_deref(), advert.ver.as_deref(), advert.port),
        (Some("n"), Some("v"), Some(5298))
    );
    assert_eq!((&advert.jid, &advert.email, &advert.last), (&None, &None, &None));
    let keys: Vec<_> = advert.unknown.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["crosstalk"]);
    anna.send("<presence><x xmlns='vcard-temp:x:update'><photo/></x></presence>");
    let commands = play.link_commands();
    let Some(LinkCommand::Announce { presence, .. }) = commands.last() else { panic!("{commands:?}") };
    assert_eq!((&presence.picture, presence.advert.phsh), (&None, None), "the user shows none");
    anna.forget();
}

/// Off and listen, of the node and of the account.
#[test]
fn modes() {
    let play = Play::with(|settings| {
        (settings.link_port, settings.link_mode) = (Some(5298), LinkMode::Listen);
    });
    let anna = play.online("anna/desk");
    assert_eq!(play.link_says(), ["browse true"]);
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    anna.expects_item(&nearby("Bob"));
    anna.forget();
    hi(&anna, "1");
    anna.expects(&format!(
        "<message from='{BOB}' type='error' id='1'><error type='cancel'><not-allowed/></error></message>"
    ));

    let off = Play::with(|settings| settings.link_mode = LinkMode::Off);
    let carol = off.online("carol/desk");
    off.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    assert_eq!(off.link_says(), [""; 0]);
    carol.hears_nothing();

    let (play, anna) = both();
    let mode = |mode| Command::SetLink { account: "anna".to_owned(), mode };
    assert!(
        matches!(play.command(mode(LinkMode::Listen)), Reply::Account(view) if view.link == LinkMode::Listen)
    );
    play.link_says_only("withdraw");
    anna.hears_nothing();
    play.command(mode(LinkMode::Off));
    anna.expects(&format!("<presence from='{BOB}/nearby' type='unavailable'/>"));
    anna.expects_item(&format!("<item jid='{BOB}' subscription='remove'/>"));
    play.command(mode(LinkMode::Announce));
    anna.expects_item(&nearby("Bob"));
    anna.forget();
    assert_eq!(play.link_says(), ["announce anna@h1 avail"]);
}

/// Sixteen are announced; a place that becomes free is taken.
#[test]
fn sixteen_are_announced() {
    let play = Play::on_link();
    let clients: Vec<Client> = (0..18).map(|number| play.online(&format!("u{number}/desk"))).collect();
    assert_eq!(play.link_says().len(), 17, "browse, and sixteen users");
    let Reply::Status(status) = play.command(Command::Status) else { panic!() };
    assert_eq!((status.link.announced.len(), status.link.beyond), (16, 2));
    clients[0].leaves();
    let said = play.link_says();
    assert!(said.len() == 2 && said[0] == "withdraw" && said[1].starts_with("announce u1"), "{said:?}");
    for client in &clients {
        client.forget();
    }
}

/// Shown with name, tier, status and picture; every change; and gone.
#[test]
fn people_come_change_and_go() {
    let (play, anna) = anna();
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    anna.expects_item(&nearby("Bob"));
    anna.expects(&presence(""));
    play.link_sees("bob@h2", AT, libpurple("Bob", "dnd"));
    anna.expects(&presence("<show>away</show>"));
    let mut advert = libpurple("Bob", "dnd");
    advert.phsh = Some([0xab; 20]);
    play.link_sees("bob@h2", AT, advert);
    let hash = "ab".repeat(20);
    anna.expects(&presence("<show>away</show>").replace("<photo/>", &format!("<photo>{hash}</photo>")));
    play.link_loses("bob@h2");
    anna.expects(&format!("<presence from='{BOB}/nearby' type='unavailable'/>"));
    anna.expects_item(&format!("<item jid='{BOB}' subscription='remove'/>"));
}

/// One is not shown oneself; a name that looks like another's address is refused, a name full of tricks is made plain.
#[test]
fn names_that_pretend() {
    let (play, anna) = anna();
    play.link_sees("Anna@H1", AT, libpurple("anna", "avail"));
    anna.hears_nothing();
    play.link_sees("bob@h2", AT, libpurple("Bo\u{202e}b (certified)", "avail"));
    anna.expects_item(&nearby("Bob"));
    anna.forget();
    play.link_sees("BOB@h2", "10.0.0.9:5298", libpurple("Bob", "avail"));
    anna.hears_nothing();
    let Reply::Status(status) = play.command(Command::Status) else { panic!() };
    assert_eq!(status.counters.get("link: names that make the address of another"), Some(&1));
}

/// A thousand invented names are bounded, and a contact still has its place.
#[test]
fn a_flood_of_names() {
    let (play, anna) = anna();
    set(&anna, &format!("<item jid='{BOB}' name='Bob'/>"));
    for number in 0..1_000 {
        play.link_sees(&format!("n{number:03}"), AT, libpurple("x", "avail"));
    }
    anna.forget();
    let Reply::Status(status) = play.command(Command::Status) else { panic!() };
    assert_eq!((status.link.people, status.link.shown), (512, 100));
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    anna.hears_nothing();
    play.link_loses("n200");
    anna.expects(&presence(""));
    let Reply::Status(status) = play.command(Command::Status) else { panic!() };
    assert_eq!((status.link.people, status.link.shown), (512, 101));
}

/// Dismissed until it comes again.
#[test]
fn a_removed_person_is_hidden_until_it_comes_again() {
    let (play, anna) = both();
    set(&anna, &format!("<item jid='{BOB}' subscription='remove'/>"));
    anna.forget();
    play.link_sees("bob@h2", AT, libpurple("Bob", "dnd"));
    anna.hears_nothing();
    play.link_loses("bob@h2");
    anna.hears_nothing();
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    anna.expects_item(&nearby("Bob"));
    anna.forget();
}

/// An edit makes a contact that stays, with presence whenever it is seen, also after a restart.
#[test]
fn an_edit_makes_a_contact() {
    let (play, anna) = both();
    set(&anna, &format!("<item jid='{BOB}' name='Bobby'><group>Friends</group></item>"));
    let item = format!("<item jid='{BOB}' name='Bobby' subscription='both'><group>Friends</group></item>");
    anna.expects_item(&item);
    anna.expects("<iq type='result' id='set'/>");
    play.link_sees("bob@h2", AT, libpurple("Bob", "dnd"));
    anna.expects(&presence("<show>away</show>"));
    play.link_loses("bob@h2");
    anna.expects(&format!("<presence from='{BOB}/nearby' type='unavailable'/>"));
    anna.hears_nothing();
    play.restart();
    anna.reconnects();
    anna.bind("desk");
    anna.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
    anna.expects(&format!(
        "<iq type='result' id='g'><query xmlns='jabber:iq:roster' ver='1'>{item}</query></iq>"
    ));
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    anna.send("<presence/>");
    anna.expects_all(&["<presence from='anna@xid/desk'/>", &presence("")]);
    hi(&anna, "gone");
    set(&anna, &format!("<item jid='{BOB}' subscription='remove'/>"));
    anna.expects(&format!("<presence from='{BOB}/nearby' type='unavailable'/>"));
    anna.expects_item(&format!("<item jid='{BOB}' subscription='remove'/>"));
    anna.expects("<iq type='result' id='set'/>");
}

/// A subscription is granted at once: there is nobody to ask, and nothing leaves the link.
#[test]
fn a_subscription_is_granted_at_once() {
    let (play, anna) = both();
    anna.send(&format!("<presence to='{BOB}' type='subscribe'/>"));
    anna.expects_item(&format!("<item jid='{BOB}' name='Bob' subscription='both'/>"));
    anna.expects(&format!("<presence from='{BOB}' type='subscribed'/>"));
    play.link_is_silent();
    let others = play.others();
    assert!(!others.iter().any(|output| matches!(output, Output::Frame { .. } | Output::Dial { .. })));
}

/// The first message opens a stream, once the other side has had its second; TCP's word is delivery.
#[test]
fn a_message_goes_out() {
    let (play, anna) = anna();
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    anna.forget();
    hi(&anna, "1");
    play.wait(900);
    play.link_is_silent();
    play.wait(200);
    play.link_says_only("connect 2 anna@h1 bob@h2");
    play.link_connects(2);
    play.link_says_only(&written(2, "1"));
    play.link_has(2, 1_000);
    play.wait(100_000);
    anna.hears_nothing();
    hi(&anna, "2");
    play.link_says_only(&written(2, "2"));
    play.link_ends(2, LinkEnding::Lost);
    lost(&anna, "2");
    play.link_says_only("suspect bob@h2");
}

/// What was taken before the name was settled is sent when it is.
#[test]
fn a_message_right_after_login() {
    let play = Play::on_link();
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    let anna = play.online("anna/desk");
    hi(&anna, "1");
    assert_eq!(play.link_says(), ["browse true", "announce anna@h1 avail"]);
    play.wait(1_000);
    play.link_says_only("connect 2 anna@h1 bob@h2");
    anna.leaves();
}

/// Refused before the header: tried again; never: told. Nobody there: told at once.
#[test]
fn a_message_that_cannot_be_delivered() {
    let (play, anna) = both();
    hi(&anna, "1");
    play.wait(1);
    play.link_says_only("connect 2 anna@h1 bob@h2");
    play.link_ends(2, LinkEnding::BeforeHeader);
    play.wait(500);
    play.link_says_only("connect 4 anna@h1 bob@h2");
    play.link_ends(4, LinkEnding::Refused);
    play.wait(89_000);
    anna.hears_nothing();
    play.wait(1_000);
    lost(&anna, "1");
    play.link_loses("bob@h2");
    anna.forget();
    hi(&anna, "2");
    anna.expects(&format!(
        "<message from='{BOB}' type='error' id='2'><error type='wait'><recipient-unavailable/></error></message>"
    ));
}

/// Who has left is talked to no more: its stream is closed, and of what was on its way or waited the sender is told.
#[test]
fn a_neighbour_who_leaves() {
    let (play, anna) = talking();
    hi(&anna, "1");
    play.link_says_only(&written(1, "1"));
    play.link_loses("bob@h2");
    play.link_says_only("close 1");
    failed(&anna, "1");
    play.link_writes(1, "<message type='chat'><body>still here?</body></message>");
    anna.hears_nothing();
    let Reply::Status(status) = play.command(Command::Status) else { panic!() };
    assert_eq!((status.link.streams, status.link.waiting), (0, 0));
    // It waited for a stream.
    let (play, anna) = both();
    hi(&anna, "2");
    play.wait(1);
    play.link_says_only("connect 2 anna@h1 bob@h2");
    play.link_loses("bob@h2");
    play.link_says_only("close 2");
    failed(&anna, "2");
}

/// Without any XEP-0198 the failure is told at once: written and lost, never written, and refused for its size.
#[test]
fn a_failure_is_told() {
    let (play, anna) = talking();
    hi(&anna, "1");
    play.link_ends(1, LinkEnding::Lost);
    anna.expects(&format!(
        "<message from='{BOB}' type='error' id='1'><error type='wait'><remote-server-timeout/>\
         <text>it may not have arrived: the connection ended before the other machine confirmed it</text>\
         </error></message>"
    ));
    let (play, anna) = both();
    hi(&anna, "2");
    play.wait(90_000);
    anna.expects(&format!(
        "<message from='{BOB}' type='error' id='2'><error type='wait'><remote-server-timeout/>\
         <text>it was not delivered: the other machine could not be reached in time</text></error></message>"
    ));
    let (_, anna) = talking();
    let long = "x".repeat(70_000);
    anna.send(&format!("<message to='{BOB}' type='chat' id='3'><body>{long}</body></message>"));
    anna.expects(&format!(
        "<message from='{BOB}' type='error' id='3'><error type='modify'><policy-violation/></error></message>"
    ));
}

/// Mark-up of other clients (XEP-0071) reaches the user's; text that stands in libpurple's alone does as well.
#[test]
fn marked_up_text_comes_in() {
    let (play, anna) = talking();
    let html = "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>\
        <p>hi <em>there</em></p></body></html>";
    play.link_writes(1, &format!("<message type='chat'><body>hi there</body>{html}</message>"));
    anna.expects(&format!(
        "<message from='{BOB}' to='anna@xid' type='chat'><body>hi there</body>{html}</message>"
    ));
    anna.answers_ping();
    play.link_writes(
        1,
        "<message type='chat'><body>&lt;b&gt;a&lt;/b&gt; b</body><html xmlns='http://www.w3.org/1999/xhtml'>\
         <body><font><b>a</b> b</font></body></html></message>",
    );
    anna.expects(&format!("<message from='{BOB}' to='anna@xid' type='chat'><body>a b</body></message>"));
    anna.answers_ping();
}

/// A message that XEP-0198 made safe is not forgotten by a crash: the next start tells its sender.
#[test]
fn a_crash_loses_no_message_silently() {
    let (play, anna) = both();
    anna.enables_management();
    hi(&anna, "1");
    assert_eq!(play.stored(Tree::Inbox), 1);
    play.restart();
    anna.reconnects();
    anna.bind("desk");
    anna.send("<presence/>");
    let seen = anna.takes_all();
    assert!(seen.iter().any(|element| element.get_attr("type") == Some("error")), "{seen:?}");

    let (play, anna) = talking();
    anna.enables_management();
    hi(&anna, "2");
    play.link_has(1, 1_000);
    assert_eq!(play.stored(Tree::Inbox), 0, "delivered");
    anna.forget();
}

/// The failure of a message waits for a sender who has gone.
#[test]
fn a_failure_waits_for_its_sender() {
    let (play, anna) = talking();
    anna.enables_management();
    hi(&anna, "1");
    anna.leaves();
    play.link_ends(1, LinkEnding::Lost);
    let anna = play.login("anna/phone");
    anna.send("<presence/>");
    let seen = anna.takes_all();
    assert!(seen.iter().any(|element| element.get_attr("type") == Some("error")), "{seen:?}");
}

/// What comes on a stream is from the stream's name, to the stream's user, and held until a client has it.
#[test]
fn a_message_comes_in() {
    let (play, anna) = talking();
    play.link_writes(
        1,
        "<message to='carol@h1' from='admin@school.example' type='chat'><body>hi</body>\
         <html xmlns='http://www.w3.org/1999/xhtml'><body><font>hi</font></body></html>\
         <x xmlns='jabber:x:event'><composing/></x></message>",
    );
    anna.expects(&format!("<message from='{BOB}' to='anna@xid' type='chat'><body>hi</body></message>"));
    assert_eq!(play.stored(Tree::Inbox), 1, "until the client has it");
    anna.answers_ping();
    assert_eq!(play.stored(Tree::Inbox), 0);
    hi(&anna, "1");
    play.link_says_only(&written(1, "1"));
}

/// Typing is told both ways where a stream is open, and opens none.
#[test]
fn typing() {
    let state = format!(
        "<message to='{BOB}' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    );
    let (play, anna) = both();
    anna.send(&state);
    play.wait(5_000);
    play.link_is_silent();
    let (play, anna2) = talking();
    anna2.send(&state);
    let said = play.link_says();
    assert!(
        said.len() == 1 && said[0].contains("<x xmlns='jabber:x:event'><composing/><id/></x>"),
        "{said:?}"
    );
    play.link_writes(1, "<message><x xmlns='jabber:x:event'><composing/><id/></x></message>");
    anna2.expects(&format!(
        "<message from='{BOB}' to='anna@xid'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    ));
}

/// Who may open a stream.
#[test]
fn streams_are_accepted_by_name_and_address() {
    let (play, anna) = both();
    play.link_sees("eve@h3", "10.0.0.3:5298", libpurple("Eve", "avail"));
    anna.forget();
    let mut stream = 1;
    let mut opens = |address: &str, from: Option<&str>, to: Option<&str>| {
        stream += 2;
        play.link_opens(stream, address, from, to);
        play.link_says().into_iter().map(|said| said.replace(&format!(" {stream}"), "")).collect::<Vec<_>>()
    };
    assert_eq!(
        opens("10.0.0.3:1", Some("bob@h2"), Some("anna@h1")),
        ["close invalid-from"],
        "another's name"
    );
    assert_eq!(opens("10.0.0.2:1", Some("bob@h2"), Some("carol@h1")), ["close host-unknown"]);
    assert_eq!(opens("10.0.0.2:1", Some("BOB@h2"), Some("Anna@h1")), ["accept anna@h1 bob@h2"]);
    assert_eq!(opens("10.0.0.3:1", None, None), ["accept anna@h1 eve@h3"], "the only one there");
    assert_eq!(opens("10.0.0.3:1", Some("eve@h3"), None), ["close 9", "accept anna@h1 eve@h3"], "replaced");
    let carol = play.online("carol/desk");
    play.link_says();
    anna.forget();
    assert_eq!(opens("10.0.0.2:1", Some("bob@h2"), None), ["close host-unknown"], "which of the two?");
    carol.forget();
}

/// Somebody who is not resolved yet is not turned away at once.
#[test]
fn a_stream_that_comes_before_its_name() {
    let (play, anna) = anna();
    play.link_opens(1, "10.0.0.2:40000", Some("bob@h2"), Some("anna@h1"));
    play.link_opens(3, "10.0.0.3:40000", Some("eve@h3"), Some("anna@h1"));
    play.link_is_silent();
    play.link_sees("bob@h2", AT, libpurple("Bob", "avail"));
    play.link_says_only("accept 1 anna@h1 bob@h2");
    play.wait(5_000);
    play.link_says_only("close 3 invalid-from");
    anna.forget();
}

/// Blocked: not shown, not heard, not written to.
#[test]
fn blocking_works_both_ways() {
    let (play, anna) = talking();
    anna.send(&format!(
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{BOB}'/></block></iq>"
    ));
    anna.expects(&format!("<presence from='{BOB}/nearby' type='unavailable'/>"));
    anna.expects_item(&format!("<item jid='{BOB}' subscription='remove'/>"));
    anna.expects("<iq type='result' id='b'/>");
    play.link_says_only("close 1");
    play.link_opens(3, "10.0.0.2:1", Some("bob@h2"), Some("anna@h1"));
    play.link_says_only("close 3");
    play.link_writes(3, "<message><body>hi</body></message>");
    hi(&anna, "1");
    let refused = anna.takes_all();
    assert!(refused.len() == 1 && refused[0].get_attr("type") == Some("error"), "{refused:?}");
    anna.send(&format!(
        "<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'><item jid='{BOB}'/></unblock></iq>"
    ));
    anna.expects_item(&nearby("Bob"));
    anna.forget();
}

/// Requests: passed on, answered by the other side or after ten seconds; what only asks opens no stream.
#[test]
fn requests() {
    let ping = format!("<iq to='{BOB}/nearby' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    let refused = format!(
        "<iq from='{BOB}/nearby' type='error' id='p'><error type='cancel'><service-unavailable/></error></iq>"
    );
    let (play, anna) = both();
    anna.send(&ping);
    anna.expects(&refused);
    play.link_is_silent();
    play.link_opens(1, "10.0.0.2:1", Some("bob@h2"), Some("anna@h1"));
    play.link_says();
    anna.send(&ping);
    play.link_says_only(
        "write 1 <iq to='bob@h2' from='anna@h1' type='get' id='link-1'><ping xmlns='urn:xmpp:ping'/></iq>",
    );
    play.link_writes(1, "<iq type='result' from='bob@h2' to='anna@h1' id='link-1'/>");
    anna.expects(&format!("<iq from='{BOB}/nearby' type='result' id='p'/>"));
    anna.send(&ping);
    play.link_says();
    play.wait(9_999);
    anna.hears_nothing();
    play.wait(1);
    anna.expects(&refused);
}

/// An offer of a file goes through, with the addresses that each side knows.
#[test]
fn offers_of_files() {
    let (play, anna) = talking();
    play.link_writes(1, "<iq type='set' from='bob@h2' to='anna@h1' id='7'><si xmlns='http://jabber.org/protocol/si' id='s'/></iq>");
    anna.expects(&format!(
        "<iq from='{BOB}/nearby' to='anna@xid/desk' type='set' id='link-1'>\
         <si xmlns='http://jabber.org/protocol/si' id='s'/></iq>"
    ));
    anna.send(&format!(
        "<iq to='{BOB}/nearby' type='result' id='link-1'><si xmlns='http://jabber.org/protocol/si'/></iq>"
    ));
    play.link_says_only(
        "write 1 <iq to='bob@h2' from='anna@h1' type='result' id='7'><si xmlns='http://jabber.org/protocol/si'/></iq>",
    );
    play.link_has(1, 1_000);
    anna.send(&format!("<iq to='{BOB}/nearby' type='result' id='link-1'/>"));
    play.link_is_silent();
    anna.send(&format!(
        "<iq to='{BOB}/nearby' type='set' id='o'><query xmlns='http://jabber.org/protocol/bytestreams' sid='s'>\
         <streamhost jid='anna@xid/desk' host='10.0.0.1' port='1'/></query></iq>"
    ));
    let said = play.link_says();
    assert!(said.len() == 1 && said[0].contains("<streamhost jid='anna@h1' host='10.0.0.1'"), "{said:?}");
    play.link_loses("bob@h2");
    let refused = anna.takes_all();
    assert!(refused.iter().any(|iq| iq.name() == "iq" && iq.get_attr("type") == Some("error")));
}

/// An offer that nobody decides about ends for the other side too.
#[test]
fn an_offer_that_is_not_answered() {
    let (play, anna) = talking();
    let offer = |id: &str, inside: &str| {
        play.link_writes(1, &format!("<iq type='set' from='bob@h2' to='anna@h1' id='{id}'>{inside}</iq>"));
        assert_eq!(anna.takes_all().len(), 1);
    };
    offer("7", "<query xmlns='http://jabber.org/protocol/bytestreams' sid='s'/>");
    offer("8", "<si xmlns='http://jabber.org/protocol/si' id='s'/>");
    let refused = |id: &str| {
        let said = play.link_says();
        assert!(said.len() == 1 && said[0].contains(&format!("type='error' id='{id}'")), "{said:?}");
    };
    play.wait(59_999);
    play.link_is_silent();
    play.wait(1);
    refused("7");
    play.link_has(1, u64::MAX);
    play.wait(240_000);
    refused("8");
}

/// The vCard has the name, and the picture once it was fetched.
#[test]
fn a_vcard_with_picture() {
    let (play, anna) = both();
    let ask = format!("<iq to='{BOB}' type='get' id='v'><vCard xmlns='vcard-temp'/></iq>");
    let card = |photo: &str| {
        format!(
            "<iq from='{BOB}' type='result' id='v'><vCard xmlns='vcard-temp'><FN>Bob</FN><NICKNAME>Bob</NICKNAME>\
             {photo}</vCard></iq>"
        )
    };
    anna.send(&ask);
    anna.expects(&card(""));
    let mut advert = libpurple("Bob", "avail");
    advert.phsh = Some([0xab; 20]);
    play.link_sees("bob@h2", AT, advert);
    anna.forget();
    anna.send(&ask);
    play.link_says_only("picture of bob@h2");
    anna.hears_nothing();
    let bytes = b"hello".to_vec();
    play.on_mdns(Event::Picture { instance: Instance::new("bob@h2").unwrap(), bytes });
    let photo = "<PHOTO><TYPE>image/jpeg</TYPE><BINVAL>aGVsbG8=</BINVAL></PHOTO>";
    anna.expects(&card(photo));
    anna.send(&ask);
    anna.expects(&card(photo));
}

/// Two people with the same nickname look different (DESIGN.md §3.5), and stay so when one of them leaves.
#[test]
fn namesakes_are_told_apart() {
    let (play, anna) = both();
    play.link_sees("bob@h3", "10.0.0.3:5298", libpurple("BOB", "avail"));
    let named = |anna: &Client| {
        let pushes = anna.takes_all();
        let items = pushes
            .iter()
            .filter_map(|push| push.get("query", "jabber:iq:roster")?.get("item", "jabber:iq:roster"));
        items.filter_map(|item| item.get_attr("name").map(str::to_owned)).collect::<Vec<_>>()
    };
    play.wait(4_000);
    assert_eq!(named(&anna), ["BOB bob@h3 (link)"]);
    play.link_loses("bob@h2");
    play.link_sees("bob@h3", "10.0.0.3:5298", libpurple("BOB", "dnd"));
    assert_eq!(named(&anna), [""; 0], "nobody changes names for it");
}

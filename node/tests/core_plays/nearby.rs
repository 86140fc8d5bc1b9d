//! DESIGN §6: "Nearby", between two accounts of a node without domain.

use crate::core_support::{Client, Play};
use crate::management::{manage, resume};

const BOB: &str =
    "<item jid='bob@xid' subscription='both' name='bob (this node)'><group>Nearby</group></item>";
const GONE: &str = "<item jid='bob@xid' subscription='remove'/>";

/// Anna is online; Bob comes.
fn together() -> (Play, Client, Client) {
    let play = Play::without_domain();
    let anna = play.online("anna/desk");
    let bob = play.online("bob/phone");
    (play, anna, bob)
}

fn appears(anna: &Client) {
    anna.expects_item(BOB);
    anna.expects(
        "<presence from='bob@xid/nearby'><nick xmlns='http://jabber.org/protocol/nick'>bob</nick></presence>",
    );
}

fn disappears(anna: &Client) {
    anna.expects("<presence from='bob@xid/nearby' type='unavailable'/>");
    anna.expects_item(GONE);
}

fn set(client: &Client, item: &str) {
    client.send(&format!("<iq type='set' id='set'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
}

/// A neighbour is pushed with group, name and tier, and its presence; both go when it leaves.
#[test]
fn a_neighbour_comes_and_goes() {
    let (_play, anna, bob) = together();
    appears(&anna);
    bob.send("<presence><show>away</show><status>lunch</status></presence>");
    bob.forget();
    anna.expects(
        "<presence from='bob@xid/nearby'><show>away</show><status>lunch</status>\
         <nick xmlns='http://jabber.org/protocol/nick'>bob</nick></presence>",
    );
    bob.leaves();
    disappears(&anna);
}

/// The layer follows the real list, in the version that no list has; it is not in the list.
#[test]
fn the_layer_follows_the_real_list() {
    let (play, anna, bob) = together();
    anna.forget();
    let phone = play.login("anna/phone");
    phone.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
    phone.expects("<iq type='result' id='g'><query xmlns='jabber:iq:roster' ver='0'/></iq>");
    phone.expects(&format!(
        "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='0+nearby'>{BOB}</query></iq>"
    ));
    phone.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver='0+nearby'/></iq>");
    phone.expects("<iq type='result' id='g'><query xmlns='jabber:iq:roster' ver='0'/></iq>");
    phone.forget();
    drop(bob);
}

/// Initial presence shows who is near, as soon as the list was fetched.
#[test]
fn a_client_that_comes_later_sees_who_is_near() {
    let (play, anna, _bob) = together();
    anna.forget();
    let phone = play.login("anna/phone");
    phone.fetch_contacts();
    phone.send("<presence/>");
    let seen = phone.takes_all();
    let from: Vec<_> = seen.iter().filter_map(|element| element.get_attr("from")).collect();
    assert!(from.contains(&"bob@xid/nearby"), "{from:?}");
    anna.forget();
}

/// A message to a neighbour is a message to the user.
#[test]
fn messages_between_neighbours() {
    let (_play, anna, bob) = together();
    anna.forget();
    anna.send("<message to='bob@xid' type='chat'><body>hi</body></message>");
    bob.expects("<message from='anna@xid/desk' type='chat'><body>hi</body></message>");
    for type_ in ["type='chat'", ""] {
        anna.send(&format!("<message to='bob@xid/nearby' {type_}><body>you</body></message>"));
        bob.expects(&format!(
            "<message from='anna@xid/desk' to='bob@xid/nearby' {type_}><body>you</body></message>"
        ));
    }
    anna.send("<iq type='get' id='c' to='bob@xid/nearby'><vCard xmlns='vcard-temp'/></iq>");
    anna.expects("<iq type='result' id='c' from='bob@xid/nearby'><vCard xmlns='vcard-temp'/></iq>");
}

/// An edit turns a neighbour into a contact in its true state.
#[test]
fn an_edit_makes_a_contact() {
    let (_play, anna, bob) = together();
    anna.forget();
    set(&anna, "<item jid='bob@xid' name='Bobby'><group>Friends</group></item>");
    anna.expects("<presence from='bob@xid/nearby' type='unavailable'/>");
    anna.expects_item("<item jid='bob@xid' name='Bobby' subscription='none'><group>Friends</group></item>");
    anna.expects("<iq type='result' id='set'/>");
    bob.send("<presence><show>away</show></presence>");
    bob.leaves();
    bob.forget();
    anna.hears_nothing();
}

/// A subscription turns a neighbour into a contact, on both sides when it is granted.
#[test]
fn a_subscription_makes_a_contact() {
    let (_play, anna, bob) = together();
    anna.forget();
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    anna.expects("<presence from='bob@xid/nearby' type='unavailable'/>");
    anna.expects_item("<item jid='bob@xid' name='bob' subscription='none' ask='subscribe'/>");
    bob.expects("<presence from='anna@xid' type='subscribe'/>");
    bob.send("<presence to='anna@xid' type='subscribed'/>");
    bob.expects("<presence from='anna@xid/nearby' type='unavailable'/>");
    bob.expects_item("<item jid='anna@xid' name='anna' subscription='from'/>");
    anna.expects("<presence from='bob@xid' type='subscribed'/>");
    anna.expects_item("<item jid='bob@xid' name='bob' subscription='to'/>");
    anna.expects("<presence from='bob@xid/phone'/>");
}

/// A neighbour that is removed is hidden until it comes again.
#[test]
fn a_removed_neighbour_is_hidden_until_it_comes_again() {
    let (play, anna, bob) = together();
    anna.forget();
    set(&anna, "<item jid='bob@xid' subscription='remove'/>");
    disappears(&anna);
    anna.expects("<iq type='result' id='set'/>");
    bob.send("<presence><show>away</show></presence>");
    bob.forget();
    anna.hears_nothing();
    bob.leaves();
    anna.hears_nothing();
    let bob = play.online("bob/phone");
    appears(&anna);
    drop(bob);
}

/// An account that is hidden is nobody's neighbour, and sees the others.
#[test]
fn a_hidden_account_is_no_neighbour() {
    use crosstalk::core::admin::Command;
    let (play, anna, bob) = together();
    anna.forget();
    let hide = Command::SetProfile { account: "bob".to_owned(), nickname: None, visible: Some(false) };
    play.command(hide);
    disappears(&anna);
    bob.hears_nothing();
}

/// Accounts of an institution are not each other's neighbours.
#[test]
fn a_node_with_a_domain_shows_no_local_neighbours() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let _bob = play.online("bob/desk");
    anna.hears_nothing();
}

/// DESIGN §6: as many neighbours as are shown, and no more; when one leaves, there is room for the next that comes.
#[test]
fn neighbours_are_limited() {
    let play = Play::with(|settings| {
        settings.domain = None;
        settings.nearby_limit = 2;
    });
    let anna = play.online("anna/desk");
    let bob = play.online("bob/phone");
    appears(&anna);
    let eve = play.online("eve/phone");
    anna.hears_nothing();
    bob.leaves();
    disappears(&anna);
    eve.send("<presence><show>away</show></presence>");
    eve.forget();
    anna.expects_item(
        "<item jid='eve@xid' subscription='both' name='eve (this node)'><group>Nearby</group></item>",
    );
    anna.forget();
}

/// XEP-0198 §5: a client that resumes after a restart is told who is not near any more; and again, where the process
/// ended before the client had it.
#[test]
fn a_neighbour_is_taken_back_until_the_client_knows() {
    let play = Play::without_domain();
    let (anna, stream) = manage(&play, "anna/desk");
    anna.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    let had = u32::try_from(anna.forget()).unwrap();
    let bob = play.online("bob/phone");
    anna.expects_item(BOB);
    let shown = u32::try_from(anna.forget()).unwrap();
    bob.forget();
    for _ in 0..2 {
        play.restart();
        resume(&anna, &stream, had + shown + 1);
        let resumed = format!("<resumed xmlns='urn:xmpp:sm:3' previd='{stream}' h='*'/>");
        anna.expects(&resumed);
        disappears(&anna);
        anna.forget();
    }
    anna.acknowledges(had + shown + 3);
    anna.send("<presence><show>away</show></presence>");
    anna.forget();
    play.restart();
    resume(&anna, &stream, had + shown + 4);
    assert!(anna.takes_all().iter().all(|told| told.name() != "presence"), "Bob is taken back once more");
}

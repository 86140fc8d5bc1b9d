//! RFC 6121 §3 and appendix A: who may see whose presence.

use crosstalk::xmpp::{Element, ns};

use crate::core_support::{Client, Play};

const BOB: &str = "bob@school.example";
const ANNA: &str = "anna@school.example";

/// Anna at her desk and Bob on his phone, both online, strangers to each other.
fn strangers() -> (Play, Client, Client) {
    let play = Play::new();
    let anna = play.online("anna/desk");
    let bob = play.online("bob/phone");
    (play, anna, bob)
}

fn says(client: &Client, type_: &str, to: &str) {
    client.send(&format!("<presence to='{to}' type='{type_}'/>"));
}

fn is_told(client: &Client, type_: &str, from: &str) {
    client.expects(&format!("<presence from='{from}' type='{type_}'/>"));
}

/// What the whole list of a client says about the one contact in it; empty if it is not in it.
fn listed(play: &Play, who: &str) -> String {
    let client = play.login(&format!("{who}/check"));
    client.send("<iq type='get' id='l'><query xmlns='jabber:iq:roster'/></iq>");
    let list =
        client.expects("<iq type='result' id='l'><query xmlns='jabber:iq:roster' ver='*'>…</query></iq>");
    client.forget();
    client.leaves();
    let Some(item) = list.children().next().and_then(|query| query.children().next()) else {
        return String::new();
    };
    let ask = if item.get_attr("ask").is_some() { "+ask" } else { "" };
    let approved = if item.get_attr("approved").is_some() { "+approved" } else { "" };
    format!("{}{ask}{approved}", item.get_attr("subscription").unwrap())
}

fn states(play: &Play) -> (String, String) {
    (listed(play, "anna"), listed(play, "bob"))
}

fn state(anna: &str, bob: &str) -> (String, String) {
    (anna.to_owned(), bob.to_owned())
}

/// RFC 6121 §3.1: request and approval, with every push and the presence that follows.
/// What the other cannot be told, because too much waits already, is not so on this side either.
#[test]
fn with_a_full_outbox_nothing_changes_on_one_side_only() {
    use crate::core_support::link::{cut, join, rest};
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    here.account("anna");
    there.account("bob");
    let nodes = [&here, &there];
    join(&nodes, &here, &there);
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    rest(&nodes);
    bob.send("<presence to='anna@xid' type='subscribed'/>");
    rest(&nodes);
    cut(&nodes, &here, &there);
    anna.forget();
    while anna.takes_all().is_empty() {
        anna.send("<message to='bob@xid' type='chat'><body>x</body></message>");
    }
    anna.send("<presence to='bob@xid' type='unsubscribe'/>");
    anna.expects("<presence from='bob@xid' type='error' to='*'>…<error type='wait'><resource-constraint/></error></presence>");
    anna.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='bob@xid' subscription='remove'/></query></iq>");
    anna.expects("<iq type='error' id='r'>…<error type='wait'><resource-constraint/></error></iq>");
    anna.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
    anna.expects("<iq type='result' id='g'><query xmlns='jabber:iq:roster' ver='*'><item jid='bob@xid' subscription='to'/></query></iq>");
    bob.forget();
    anna.forget();
}

#[test]
fn a_request_is_approved() {
    let (_play, anna, bob) = strangers();
    says(&anna, "subscribe", BOB);
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='none' ask='subscribe'/>");
    is_told(&bob, "subscribe", ANNA);
    says(&bob, "subscribed", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='from'/>");
    is_told(&anna, "subscribed", BOB);
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='to'/>");
    anna.expects("<presence from='bob@school.example/phone'/>");
}

/// RFC 6121 §3.1.3: the requests of both sides meet in `both`.
#[test]
fn both_directions() {
    let (play, anna, bob) = strangers();
    says(&anna, "subscribe", BOB);
    says(&bob, "subscribed", ANNA);
    anna.forget();
    bob.forget();
    says(&bob, "subscribe", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='from' ask='subscribe'/>");
    is_told(&anna, "subscribe", BOB);
    says(&anna, "subscribed", BOB);
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='both'/>");
    is_told(&bob, "subscribed", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='both'/>");
    bob.expects("<presence from='anna@school.example/desk'/>");
    assert_eq!(states(&play), state("both", "both"));
}

/// RFC 6121 §3.1.5: a request is denied; it can be made again.
#[test]
fn a_request_is_denied() {
    let (play, anna, bob) = strangers();
    says(&anna, "subscribe", BOB);
    anna.forget();
    bob.forget();
    says(&bob, "unsubscribed", ANNA);
    is_told(&anna, "unsubscribed", BOB);
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='none'/>");
    bob.hears_nothing();
    assert_eq!(states(&play), state("none", ""));
    says(&anna, "subscribe", BOB);
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='none' ask='subscribe'/>");
    is_told(&bob, "subscribe", ANNA);
}

/// RFC 6121 §3.2: the contact takes the permission back.
#[test]
fn a_subscription_is_cancelled() {
    let (play, anna, bob) = strangers();
    play.befriend(&anna, &bob);
    says(&bob, "unsubscribed", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='to'/>");
    anna.expects_all(&[
        "<presence from='bob@school.example/phone' type='unavailable'/>",
        "<presence from='bob@school.example' type='unsubscribed'/>",
        "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>\
         <item jid='bob@school.example' name='bob' subscription='from'/></query></iq>",
    ]);
    bob.send("<presence><show>away</show></presence>");
    bob.forget();
    anna.hears_nothing();
    anna.send("<presence><show>away</show></presence>");
    anna.forget();
    bob.expects("<presence from='anna@school.example/desk'><show>away</show></presence>");
}

/// RFC 6121 §3.3: the user does not want to see any longer.
#[test]
fn a_subscription_is_ended_by_the_subscriber() {
    let (play, anna, bob) = strangers();
    play.befriend(&anna, &bob);
    says(&anna, "unsubscribe", BOB);
    anna.expects_all(&[
        "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>\
         <item jid='bob@school.example' name='bob' subscription='from'/></query></iq>",
        "<presence from='bob@school.example/phone' type='unavailable'/>",
    ]);
    is_told(&bob, "unsubscribe", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='to'/>");
    assert_eq!(states(&play), state("from", "to"));
}

/// RFC 6121 §3.3.2: a request that is not answered yet is withdrawn.
#[test]
fn a_request_is_withdrawn() {
    let (play, anna, bob) = strangers();
    says(&anna, "subscribe", BOB);
    anna.forget();
    bob.forget();
    says(&anna, "unsubscribe", BOB);
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='none'/>");
    is_told(&bob, "unsubscribe", ANNA);
    let phone = play.online("bob/tablet");
    bob.forget();
    says(&bob, "subscribed", ANNA);
    bob.forget();
    phone.forget();
    anna.hears_nothing();
    assert_eq!(listed(&play, "anna"), "none", "an approval of a withdrawn request approves nothing now");
}

/// RFC 6121 §3.1.3: a request is shown at each login until it is answered, also after a restart.
#[test]
fn a_pending_request_is_shown_at_each_login() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    play.account("bob");
    says(&anna, "subscribe", BOB);
    anna.forget();
    for restarted in [false, false, true] {
        if restarted {
            play.restart();
        }
        let bob = play.login("bob/phone");
        bob.send("<presence/>");
        bob.expects("<presence from='bob@school.example/phone'/>");
        is_told(&bob, "subscribe", ANNA);
        bob.leaves();
    }
    let bob = play.online("bob/phone");
    says(&bob, "unsubscribed", ANNA);
    bob.leaves();
    let bob = play.login("bob/phone");
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    bob.hears_nothing();
    anna.forget();
}

/// RFC 6121 §3.4: a request that is granted before it comes is not shown to anybody.
#[test]
fn an_approval_in_advance() {
    let (play, anna, bob) = strangers();
    says(&bob, "subscribed", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='none' approved='true'/>");
    anna.hears_nothing();
    says(&anna, "subscribe", BOB);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='from' approved='true'/>");
    assert_eq!(states(&play), state("to", "from+approved"));
    anna.forget();
}

/// RFC 6121 §3.4.3: an approval in advance is taken back; the request is then shown.
#[test]
fn an_approval_in_advance_is_cancelled() {
    let (_play, anna, bob) = strangers();
    says(&bob, "subscribed", ANNA);
    bob.forget();
    says(&bob, "unsubscribed", ANNA);
    bob.expects_item("<item jid='anna@school.example' name='anna' subscription='none'/>");
    says(&anna, "subscribe", BOB);
    is_told(&bob, "subscribe", ANNA);
    anna.forget();
}

/// RFC 6121 §3.4.3: whoever cancels a subscription has not approved the next one.
#[test]
fn cancelling_ends_an_approval_in_advance_too() {
    let (_play, anna, bob) = strangers();
    says(&bob, "subscribed", ANNA);
    says(&anna, "subscribe", BOB);
    says(&bob, "unsubscribed", ANNA);
    anna.forget();
    bob.forget();
    says(&anna, "subscribe", BOB);
    is_told(&bob, "subscribe", ANNA);
    anna.forget();
}

/// DESIGN §3.1: an approval in advance holds under each address of the other.
#[test]
fn an_approval_in_advance_by_login_name() {
    let play = Play::without_domain();
    let anna = play.login("anna/desk");
    let bob = play.login("bob/phone");
    bob.send("<presence to='anna@id.internal' type='subscribed'/>");
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    bob.hears_nothing();
    anna.fetch_contacts();
    assert_eq!(listed(&play, "bob"), "from+approved");
    assert_eq!(listed(&play, "anna"), "to");
}

/// DESIGN §3.1: login name, XID and the address that others see mean one contact.
#[test]
fn all_addresses_of_a_user_are_one_contact() {
    let play = Play::without_domain();
    let anna = play.login("anna/desk");
    play.account("bob");
    anna.send("<presence to='bob@id.internal' type='subscribe'/>");
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    anna.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='bob@id.internal' name='B'/></query></iq>");
    anna.expects("<iq type='result' id='s'/>");
    anna.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
    anna.expects(
        "<iq type='result' id='g'><query xmlns='jabber:iq:roster' ver='*'>\
         <item jid='bob@xid' name='B' subscription='none' ask='subscribe'/></query></iq>",
    );
}

/// RFC 6121 §3.1.1: a resource in the address is left out.
#[test]
fn a_request_goes_to_the_bare_address() {
    let (_play, anna, bob) = strangers();
    says(&anna, "subscribe", "bob@school.example/phone");
    anna.expects_item("<item jid='bob@school.example' name='bob' subscription='none' ask='subscribe'/>");
    is_told(&bob, "subscribe", ANNA);
}

/// RFC 6121 §3.1.2: addresses that nobody can be subscribed to.
#[test]
fn requests_to_nobody_are_refused() {
    let play = Play::new();
    let anna = play.online("anna/desk");
    for (to, type_, condition) in [
        ("school.example", "cancel", "feature-not-implemented"),
        ("nobody@school.example", "cancel", "item-not-found"),
        ("eve@far.example", "cancel", "remote-server-not-found"),
        ("anna@school.example", "cancel", "not-allowed"),
    ] {
        says(&anna, "subscribe", to);
        anna.expects(&format!(
            "<presence type='error' from='{to}'><error type='{type_}'><{condition}/></error></presence>"
        ));
    }
    assert_eq!(listed(&play, "anna"), "");
}

/// Appendix A: what changes no state is told to nobody.
#[test]
fn statements_without_effect_are_silent() {
    let (play, anna, bob) = strangers();
    for type_ in ["unsubscribe", "unsubscribed"] {
        says(&anna, type_, BOB);
    }
    anna.hears_nothing();
    bob.hears_nothing();
    play.befriend(&anna, &bob);
    for type_ in ["subscribe", "subscribed"] {
        says(&anna, type_, BOB);
    }
    anna.hears_nothing();
    bob.hears_nothing();
}

/// RFC 6121 §2.5.2: removing a contact ends both directions, from each state.
#[test]
fn removal_of_a_contact_in_each_state() {
    for (anna_says, bob_says, left) in [
        ("subscribe", "", ""),
        ("subscribe", "subscribed", "none"),
        ("subscribed subscribe", "subscribe", "none"),
        ("subscribe", "subscribed subscribe", "none+ask"),
    ] {
        let (play, anna, bob) = strangers();
        for type_ in anna_says.split_whitespace() {
            says(&anna, type_, BOB);
        }
        for type_ in bob_says.split_whitespace() {
            says(&bob, type_, ANNA);
        }
        anna.forget();
        bob.forget();
        anna.send(
            "<iq type='set' id='rm'><query xmlns='jabber:iq:roster'>\
             <item jid='bob@school.example' subscription='remove'/></query></iq>",
        );
        let seen = anna.takes_all();
        let removal = &seen[seen.len() - 2];
        let item = removal.children().next().unwrap().children().next().unwrap();
        assert_eq!(item.get_attr("subscription"), Some("remove"), "{anna_says:?} {bob_says:?}");
        assert_eq!(listed(&play, "anna"), "", "{anna_says:?} {bob_says:?}");
        let left = if left == "none+ask" { "none" } else { left };
        assert_eq!(listed(&play, "bob"), left, "{anna_says:?} {bob_says:?}");
        bob.forget();
        bob.send("<presence><show>dnd</show></presence>");
        bob.forget();
        anna.hears_nothing();
        anna.send("<presence><show>dnd</show></presence>");
        anna.forget();
        bob.hears_nothing();
    }
}

/// RFC 6121 §2.5.2: the removal of a `both` contact, as both sides see it.
#[test]
fn a_removed_contact_sees_why() {
    let (play, anna, bob) = strangers();
    play.befriend(&anna, &bob);
    anna.send(
        "<iq type='set' id='rm'><query xmlns='jabber:iq:roster'>\
         <item jid='bob@school.example' subscription='remove'/></query></iq>",
    );
    let seen = anna.takes_all();
    let gone = |element: &&Element| element.is("presence", ns::CLIENT);
    let gone: Vec<_> = seen.iter().filter(gone).map(|presence| presence.get_attr("type")).collect();
    assert_eq!(gone, [Some("unavailable")]);
    let pushes = seen.iter().filter(|element| element.get_attr("type") == Some("set")).count();
    assert_eq!(pushes, 1, "no state on the way is shown");
    assert_eq!(seen.last().unwrap().get_attr("id"), Some("rm"));
    let item = |state: &str| {
        format!(
            "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>\
             <item jid='anna@school.example' name='anna' subscription='{state}'/></query></iq>"
        )
    };
    bob.expects_all(&[
        "<presence from='anna@school.example' type='unsubscribe'/>",
        &item("to"),
        "<presence from='anna@school.example' type='unsubscribed'/>",
        &item("none"),
        "<presence from='anna@school.example/desk' type='unavailable'/>",
    ]);
}

/// RFC 6121 §3.1.6: subscriptions survive a restart.
#[test]
fn subscriptions_survive_a_restart() {
    let (play, anna, bob) = strangers();
    play.befriend(&anna, &bob);
    play.restart();
    assert_eq!(states(&play), state("both", "both"));
    let (anna, bob) = (play.online("anna/desk"), play.login("bob/phone"));
    bob.send("<presence/>");
    bob.expects("<presence from='bob@school.example/phone'/>");
    bob.expects("<presence from='anna@school.example/desk'/>");
    anna.expects("<presence from='bob@school.example/phone'/>");
}

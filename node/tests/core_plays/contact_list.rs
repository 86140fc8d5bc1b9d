//! RFC 6121 §2: contact lists.

use crate::core_support::{Client, Play};

fn get(client: &Client, version: &str) {
    client.send(&format!("<iq type='get' id='get'><query xmlns='jabber:iq:roster' {version}/></iq>"));
}

fn set(client: &Client, items: &str) {
    client.send(&format!("<iq type='set' id='set'><query xmlns='jabber:iq:roster'>{items}</query></iq>"));
}

fn is_done(client: &Client) {
    client.expects("<iq type='result' id='set'/>");
}

fn fails(client: &Client, type_: &str, condition: &str) {
    client.expects(&format!("<iq type='error' id='set'><error type='{type_}'><{condition}/></error></iq>"));
}

/// RFC 6121 §2.2, §2.3: an item is added, pushed without `from` to all interested resources, and is in the list.
#[test]
fn an_item_is_added_and_pushed_to_the_interested() {
    let play = Play::new();
    let (desk, phone, dull) = (play.login("anna/desk"), play.login("anna/phone"), play.login("anna/dull"));
    get(&desk, "");
    desk.expects("<iq type='result' id='get'><query xmlns='jabber:iq:roster' ver='0'/></iq>");
    phone.fetch_contacts();
    set(&desk, "<item jid='bob@school.example' name='Bob'><group>Friends</group><group>Class</group></item>");
    let item = "<item jid='bob@school.example' subscription='none' name='Bob'>\
                <group>Class</group><group>Friends</group></item>";
    desk.expects_item(item);
    is_done(&desk);
    phone.expects_item(item);
    dull.hears_nothing();
    get(&dull, "");
    dull.expects(&format!(
        "<iq type='result' id='get'><query xmlns='jabber:iq:roster' ver='1'>{item}</query></iq>"
    ));
}

/// RFC 6121 §2.4: name and groups are replaced, and can be taken away.
#[test]
fn an_item_is_changed() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.fetch_contacts();
    set(&anna, "<item jid='bob@school.example' name='Bob'><group>Friends</group></item>");
    anna.forget();
    set(&anna, "<item jid='bob@school.example'/>");
    anna.expects_item("<item jid='bob@school.example' subscription='none'/>");
    is_done(&anna);
}

/// RFC 6121 §2.5: an item is removed, and once only.
#[test]
fn an_item_is_removed() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.fetch_contacts();
    set(&anna, "<item jid='bob@far.example'/>");
    anna.forget();
    set(&anna, "<item jid='bob@far.example' subscription='remove'/>");
    anna.expects_item("<item jid='bob@far.example' subscription='remove'/>");
    is_done(&anna);
    set(&anna, "<item jid='bob@far.example' subscription='remove'/>");
    fails(&anna, "cancel", "item-not-found");
    get(&anna, "");
    anna.expects("<iq type='result' id='get'><query xmlns='jabber:iq:roster' ver='2'/></iq>");
}

/// RFC 6121 §2.3.3: what a roster set may not be.
#[test]
fn wrong_sets_are_refused() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.fetch_contacts();
    set(&anna, "");
    fails(&anna, "modify", "bad-request");
    set(&anna, "<item jid='a@school.example'/><item jid='b@school.example'/>");
    fails(&anna, "modify", "bad-request");
    set(&anna, "<item jid='a@b@c'/>");
    fails(&anna, "modify", "jid-malformed");
    set(&anna, "<item jid='bob@school.example'><group/></item>");
    fails(&anna, "modify", "not-acceptable");
    set(&anna, "<item jid='bob@school.example'><group>A</group><group>A</group></item>");
    fails(&anna, "modify", "bad-request");
    let long = "n".repeat(1_024);
    set(&anna, &format!("<item jid='bob@school.example' name='{long}'/>"));
    fails(&anna, "modify", "not-acceptable");
    set(&anna, &format!("<item jid='bob@school.example'><group>{long}</group></item>"));
    fails(&anna, "modify", "not-acceptable");
}

/// RFC 6121 §2.1.2.5: a client cannot set the subscription or the approval itself.
#[test]
fn the_subscription_is_not_the_clients() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    anna.fetch_contacts();
    set(&anna, "<item jid='bob@school.example' subscription='both' ask='subscribe' approved='true'/>");
    anna.expects_item("<item jid='bob@school.example' subscription='none'/>");
    is_done(&anna);
}

/// RFC 6121 §2.3.3: somebody else's list is nobody's business.
#[test]
fn the_list_of_another_account_is_forbidden() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    play.account("bob");
    for (type_, item) in [("get", ""), ("set", "<item jid='carl@school.example'/>")] {
        anna.send(&format!(
            "<iq type='{type_}' id='x' to='bob@school.example'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
        ));
        anna.expects(
            "<iq type='error' from='bob@school.example' id='x'><error type='auth'><forbidden/></error></iq>",
        );
    }
}

/// RFC 6121 §2.3: as many contacts as an account may have.
#[test]
fn a_full_list_takes_no_more() {
    let play = Play::with(|settings| settings.roster_limit = 1);
    let anna = play.login("anna/desk");
    set(&anna, "<item jid='a@far.example'/>");
    is_done(&anna);
    set(&anna, "<item jid='b@far.example'/>");
    fails(&anna, "wait", "resource-constraint");
    set(&anna, "<item jid='a@far.example' name='A'/>");
    is_done(&anna);
}

/// RFC 6121 §2.6.2: an unchanged list is an empty result; changes and removals are pushed after it, in order.
#[test]
fn versions_save_the_list() {
    let play = Play::new();
    let desk = play.login("anna/desk");
    for jid in ["a@far.example", "b@far.example"] {
        set(&desk, &format!("<item jid='{jid}'/>"));
    }
    desk.forget();
    let phone = play.login("anna/phone");
    get(&phone, "ver='2'");
    phone.expects("<iq type='result' id='get'/>");
    phone.leaves();

    set(&desk, "<item jid='c@far.example'/>");
    set(&desk, "<item jid='a@far.example' subscription='remove'/>");
    desk.forget();
    phone.reconnects();
    phone.bind("phone");
    get(&phone, "ver='2'");
    phone.expects("<iq type='result' id='get'/>");
    phone.expects("<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='3'><item jid='c@far.example' subscription='none'/></query></iq>");
    phone.expects("<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='4'><item jid='a@far.example' subscription='remove'/></query></iq>");
}

/// RFC 6121 §2.6.3: no version, an unknown one, and one from the future get the whole list.
#[test]
fn an_unknown_version_gets_the_whole_list() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    set(&anna, "<item jid='a@far.example'/>");
    is_done(&anna);
    for version in ["ver=''", "ver='0123abc'", "ver='99'", "ver='1+nearby'"] {
        get(&anna, version);
        anna.expects(
            "<iq type='result' id='get'><query xmlns='jabber:iq:roster' ver='1'>\
             <item jid='a@far.example' subscription='none'/></query></iq>",
        );
    }
}

/// RFC 6121 §2.1.5: list and version survive a restart; the push is no promise before the commit.
#[test]
fn the_list_survives_a_restart_once_it_was_confirmed() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    set(&anna, "<item jid='a@far.example' name='A'/>");
    is_done(&anna);
    play.hold_commits();
    set(&anna, "<item jid='b@far.example'/>");
    anna.hears_nothing();
    play.restart();
    anna.reconnects();
    play.commit();
    anna.bind("desk");
    get(&anna, "ver='0'");
    play.commit();
    anna.expects("<iq type='result' id='get'/>");
    anna.expects("<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='1'><item jid='a@far.example' subscription='none' name='A'/></query></iq>");
}

/// RFC 6121 §2.6.3: of more than a hundred changes the whole list is told.
#[test]
fn many_changes_are_a_whole_list() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    for number in 0..100 {
        set(&anna, &format!("<item jid='c{number}@far.example'/>"));
    }
    anna.forget();
    get(&anna, "ver='0'");
    anna.expects("<iq type='result' id='get'/>");
    assert_eq!(anna.forget(), 100);
    set(&anna, "<item jid='one.more@far.example'/>");
    anna.forget();
    get(&anna, "ver='0'");
    let all =
        anna.expects("<iq type='result' id='get'><query xmlns='jabber:iq:roster' ver='101'>…</query></iq>");
    assert_eq!(all.children().next().unwrap().children().count(), 101);
}

/// RFC 6121 §2.6.3: whoever is from before the oldest removal that is remembered gets the whole list, also after a restart.
#[test]
fn forgotten_removals_are_a_whole_list() {
    let play = Play::new();
    let anna = play.login("anna/desk");
    set(&anna, "<item jid='stays@far.example'/>");
    for number in 0..=1_000 {
        set(&anna, &format!("<item jid='c{number}@far.example'/>"));
        set(&anna, &format!("<item jid='c{number}@far.example' subscription='remove'/>"));
    }
    anna.forget();
    assert_eq!(play.stored(crosstalk_storage::Tree::Roster), 1_001);
    // The oldest removal made version 3.
    let list = "<iq type='result' id='get'><query xmlns='jabber:iq:roster' ver='2003'>\
                <item jid='stays@far.example' subscription='none'/></query></iq>";
    let asks = |client: &Client| {
        get(client, "ver='2'");
        client.expects(list);
        get(client, "ver='2001'");
        client.expects("<iq type='result' id='get'/>");
        client.expects_item("<item jid='c1000@far.example' subscription='remove'/>");
    };
    asks(&anna);
    play.restart();
    asks(&play.login("anna/desk"));
}

//! Names that nobody here has met: found in the hash table; what is said to them waits until then, and is told to be in vain
//! if nobody has published them.

use crosstalk::core::admin::{Command, OutboxView, Reply};
use crosstalk::core::enrol::NamedAccount;
use crosstalk::xmpp::Element;
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::record::NameCert;
use crosstalk_storage::Tree;

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{BEGIN, Client, DOMAIN, Play, Table, credentials, home};

const MINUTE: u64 = 60_000;

/// Anna and Bob are named by the same server, and their nodes have never met. Bob's has told a hash table.
fn strangers() -> (Play, Play, Client, Client, Table) {
    let (here, there) = (Play::enrolled(1, |_| {}), Play::enrolled(2, |_| {}));
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    let table = Table::default();
    there.find_table(&table);
    there.wait(10_000);
    (here, there, anna, bob, table)
}

fn says(anna: &Client, id: &str, text: &str) {
    anna.send(&format!(
        "<message type='chat' to='bob@school.example' id='{id}'><body>{text}</body></message>"
    ));
}

fn outbox(node: &Play) -> Vec<OutboxView> {
    let Reply::Outbox(waiting) = node.command(Command::Outbox) else { panic!("no outbox") };
    waiting
}

/// Messages that a client has got: their ids, types and errors; pings of the node are not looked at.
fn messages(client: &Client) -> Vec<(String, String)> {
    let all = client.takes_all();
    let messages = all.iter().filter(|element| element.name() == "message");
    let brief = |message: &Element| {
        let id = message.get_attr("id").unwrap_or_default().to_owned();
        let error = message.children().find(|child| child.name() == "error");
        let what = error.and_then(|error| error.children().next()).map_or_else(
            || message.get_attr("from").unwrap_or_default().to_owned(),
            |condition| condition.name().to_owned(),
        );
        let late = message.children().any(|child| child.name() == "delay");
        (id, if late { format!("{what}, late") } else { what })
    };
    messages.map(brief).collect()
}

fn are(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, what)| ((*id).to_owned(), (*what).to_owned())).collect()
}

#[test]
fn who_has_a_name_is_found_and_written_to() {
    let (here, there, anna, bob, table) = strangers();
    here.find_table(&table);
    says(&anna, "m1", "hello");
    here.wait(10);
    assert_eq!((here.stored(Tree::Unaddressed), here.stored(Tree::Outbox)), (0, 1));
    join(&[&here, &there], &here, &there);
    assert_eq!(messages(&bob), are(&[("m1", "anna@school.example/desk")]));
    assert_eq!(messages(&anna), are(&[]));
}

#[test]
fn what_is_said_before_there_is_anybody_to_ask_waits_on_disk_in_its_order() {
    let (here, there, anna, bob, table) = strangers();
    says(&anna, "m1", "one");
    says(&anna, "m2", "two");
    assert_eq!(here.stored(Tree::Unaddressed), 2);
    anna.breaks();
    here.restart();
    here.wait(30 * MINUTE);
    let anna = here.online("anna/desk");
    says(&anna, "m3", "three");
    let waiting = outbox(&here);
    assert_eq!(waiting.iter().map(|entry| entry.to.as_str()).collect::<Vec<_>>(), ["bob@school.example"; 3]);
    assert!(waiting[0].waits.contains("name"), "{waiting:?}");
    here.find_table(&table);
    says(&anna, "m4", "four");
    here.wait(10);
    assert_eq!((here.stored(Tree::Unaddressed), here.stored(Tree::Outbox)), (0, 4));
    join(&[&here, &there], &here, &there);
    let from = "anna@school.example/desk";
    let late = format!("{from}, late");
    assert_eq!(messages(&bob), are(&[("m1", &late), ("m2", &late), ("m3", from), ("m4", from)]));
    assert_eq!(messages(&anna), are(&[]));
}

/// By another way than a look-up it becomes known whose the name is: what waits still comes before what is said then.
#[test]
fn meeting_somebody_settles_it_too() {
    let (here, there, anna, bob, _table) = strangers();
    says(&anna, "m1", "hello");
    join(&[&here, &there], &here, &there);
    says(&anna, "m2", "you");
    rest(&[&here, &there]);
    let from = "anna@school.example/desk";
    assert_eq!(messages(&bob), are(&[("m1", from), ("m2", from)]));
    assert_eq!(here.stored(Tree::Unaddressed), 0);
    assert_eq!(messages(&anna), are(&[]));
}

#[test]
fn a_name_that_nobody_has_published_is_told_to_be_in_vain() {
    let (here, _there, anna, _bob, table) = strangers();
    here.find_table(&table);
    anna.send("<message type='chat' to='bop@school.example' id='m1'><body>hello</body></message>");
    here.wait(50_000);
    assert_eq!(messages(&anna), are(&[]));
    here.wait(20_000);
    assert_eq!(messages(&anna), are(&[("m1", "item-not-found")]));
    assert_eq!((here.stored(Tree::Unaddressed), here.stored(Tree::Outbox)), (0, 0));
    here.wait(60 * MINUTE);
    assert_eq!(messages(&anna), are(&[]));
}

/// As it is for what waits for a node: thirty days.
#[test]
fn without_anybody_to_ask_it_is_given_up_in_the_end() {
    let (here, _there, anna, _bob, _table) = strangers();
    says(&anna, "m1", "hello");
    anna.breaks();
    here.wait(29 * 24 * 60 * MINUTE);
    assert_eq!(here.stored(Tree::Unaddressed), 1);
    here.wait(2 * 24 * 60 * MINUTE);
    assert_eq!(here.stored(Tree::Unaddressed), 0);
    let anna = here.login("anna/desk");
    anna.send("<presence/>");
    assert_eq!(messages(&anna), are(&[("m1", "remote-server-timeout, late")]));
}

#[test]
fn a_contact_listed_by_name_is_asked_as_soon_as_it_is_found() {
    let (here, there, anna, bob, table) = strangers();
    anna.send("<presence to='bob@school.example' type='subscribe'/>");
    anna.expects(
        "<iq type='set' id='*'><query xmlns='jabber:iq:roster' ver='*'>\
         <item jid='bob@school.example' subscription='none' ask='subscribe'/></query></iq>",
    );
    let Reply::Requests(requests) = here.command(Command::Requests) else { panic!("no requests") };
    assert_eq!(requests.iter().map(|request| request.state.as_str()).collect::<Vec<_>>(), ["sought"]);
    anna.breaks();
    here.restart();
    let anna = here.online("anna/desk");
    here.find_table(&table);
    here.wait(1_000);
    join(&[&here, &there], &here, &there);
    let asked = |seen: &[Element], type_| seen.iter().any(|seen| seen.get_attr("type") == Some(type_));
    assert!(asked(&bob.takes_all(), "subscribe"));
    bob.send("<presence type='subscribed' to='anna@school.example'/>");
    rest(&[&here, &there]);
    assert!(asked(&anna.takes_all(), "subscribed"));
    let Reply::Contacts(contacts) = here.command(Command::Contacts("anna@school.example".into())) else {
        panic!("no contacts")
    };
    assert_eq!((contacts.len(), contacts[0].subscription.as_str()), (1, "to"));
    bob.forget();
}

#[test]
fn what_is_for_now_or_never_finds_nobody() {
    let (here, _there, anna, _bob, _table) = strangers();
    anna.send("<message type='headline' to='bob@school.example' id='h'><body>x</body></message>");
    anna.expects("<message type='error' id='h' from='*' to='*'>*<error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>*</error></message>");
    anna.send("<iq type='get' id='v' to='bob@school.example'><vCard xmlns='vcard-temp'/></iq>");
    anna.expects("<iq type='error' id='v' from='*' to='*'>*<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>*</error></iq>");
    anna.send("<message type='chat' to='bob@elsewhere.example' id='n'><body>x</body></message>");
    anna.expects("<message type='error' id='n' from='*' to='*'>*<error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>*</error></message>");
    assert_eq!(here.stored(Tree::Unaddressed), 0);
}

#[test]
fn an_account_goes_with_what_it_has_said() {
    let (here, _there, anna, _bob, _table) = strangers();
    says(&anna, "m1", "hello");
    here.command(Command::RemoveAccount("anna@school.example".into()));
    assert_eq!(here.stored(Tree::Unaddressed), 0);
}

/// The name of a contact goes to another key: the contact stays, and the person is shown that it is not whom the name means.
#[test]
fn a_contact_whose_name_has_gone_to_another_key_is_shown_as_a_conflict() {
    let (here, there, anna, bob, _table) = strangers();
    let account = || "anna@school.example".to_owned();
    let jid = || "bob@school.example".to_owned();
    here.command(Command::AddContact { account: account(), jid: jid(), name: None });
    join(&[&here, &there], &here, &there);
    let conflicts = || {
        let Reply::Contacts(contacts) = here.command(Command::Contacts(account())) else { panic!("none") };
        assert_eq!(
            contacts.iter().map(|contact| contact.jid.as_str()).collect::<Vec<_>>(),
            ["bob@school.example"]
        );
        contacts[0].conflict.clone()
    };
    assert_eq!(conflicts(), None);
    cut(&[&here, &there], &here, &there);
    let third = Play::enrolled(3, |_| {});
    third.account("carol");
    let user = third.user("carol");
    let name_cert = NameCert::issue(&AuthorityKey::from_seed([9; 32]), &jid(), user, 2, BEGIN).unwrap();
    let named = NamedAccount {
        user,
        name: "bob".into(),
        domain: DOMAIN.into(),
        name_cert: name_cert.bytes().to_vec(),
        credentials: credentials(user),
        sealed_by_password: Vec::new(),
    };
    third.command(Command::NameAccount { account: Box::new(named), home: home() });
    join(&[&here, &third], &here, &third);
    let conflict = conflicts().expect("a conflict");
    assert!(conflict.contains(&user.to_string()) && conflict.contains("remove the contact"), "{conflict}");
    anna.forget();
    bob.forget();
}

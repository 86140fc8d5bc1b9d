//! How a user of a domain comes to a laptop beside by `enrol` on an empty one: joined by a code, and an account that was
//! there before gets the name.

use crosstalk::core::Output;
use crosstalk::core::admin::{Command, Reply};
use crosstalk::core::enrol::NamedAccount;
use crosstalk::core::io::LoginChange;
use crosstalk::secret::Secret;
use crosstalk_overlay::authority::certify;
use crosstalk_overlay::keys::{AuthorityKey, UserKey};
use crosstalk_storage::tree::account::Account;
use crosstalk_storage::{Tree, decode};

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{BEGIN, Client, DOMAIN, Play, credentials, home};

/// Anna's user key on nodes of [`Play::elsewhere`].
fn anna() -> UserKey {
    let mut seed = [200; 32];
    seed[..4].copy_from_slice(b"anna");
    UserKey::from_seed(seed)
}

fn certificate() -> Vec<u8> {
    let authority = AuthorityKey::from_seed([9; 32]);
    certify(&authority, &format!("anna@{DOMAIN}"), anna().id(), 0, BEGIN).unwrap().bytes().to_vec()
}

/// Anna's account there gets a name.
fn name(play: &Play) -> Reply {
    let user = anna().id();
    let account = NamedAccount {
        user,
        name: "anna".to_owned(),
        domain: DOMAIN.to_owned(),
        name_cert: certificate(),
        credentials: credentials(user),
        sealed_by_password: vec![1],
    };
    play.command(Command::NameAccount { account: Box::new(account), home: home() })
}

fn stored(play: &Play) -> Account {
    let contents = play.snapshot();
    let (_, account) = contents.tree(Tree::Account).next().expect("an account");
    decode(account).unwrap()
}

fn contacts(play: &Play) -> Vec<String> {
    let Reply::Contacts(contacts) = play.command(Command::Contacts("anna".to_owned())) else {
        panic!("no contacts")
    };
    contacts.into_iter().map(|contact| contact.jid).collect()
}

fn adds_dora(client: &Client) {
    client.send(
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='dora@far.example'/></query></iq>",
    );
    client.forget();
}

/// What the older laptop gives has all that `enrol` would have asked the server for.
#[test]
fn a_joined_laptop_is_given_the_server() {
    let (older, newer) = (Play::enrolled(1, |_| {}), Play::elsewhere(2));
    older.account("anna");
    join(&[&older, &newer], &older, &newer);
    let Reply::Offered(offer) = older.command(Command::OfferDevice("anna".to_owned())) else {
        panic!("no offer")
    };
    let request = newer.begin(Command::Join(Secret::from(offer.code.reveal().to_owned())));
    rest(&[&older, &newer]);
    let Some(Reply::Joined(given)) = newer.reply(request) else { panic!("not joined") };
    assert_eq!(given.home, Some((DOMAIN.to_owned(), home())));
    // Who has no server gives none.
    let plain = Play::elsewhere(3);
    plain.account("bert");
    join(&[&plain, &newer], &plain, &newer);
    let Reply::Offered(offer) = plain.command(Command::OfferDevice("bert".to_owned())) else {
        panic!("no offer")
    };
    let request = newer.begin(Command::Join(Secret::from(offer.code.reveal().to_owned())));
    rest(&[&plain, &newer]);
    let Some(Reply::Joined(given)) = newer.reply(request) else { panic!("not joined") };
    assert_eq!(given.home, None);
}

/// Contacts stay and go on, the list is told the server, clients log in by the name, and all that outlasts a restart.
#[test]
fn an_account_that_gets_a_name_keeps_what_it_has() {
    let (laptop, other, server) = (Play::elsewhere(1), Play::elsewhere(2), Play::server());
    let (before, bob) = (laptop.online("anna/desk"), other.online("bob/phone"));
    join(&[&laptop, &other], &laptop, &other);
    // By their keys, as neither has a name.
    before.send(&format!("<presence to='{}' type='subscribe'/>", bob.bare()));
    rest(&[&laptop, &other]);
    bob.send(&format!("<presence to='{}' type='subscribed'/>", before.bare()));
    rest(&[&laptop, &other]);
    adds_dora(&before);
    bob.forget();
    laptop.others();
    let known = contacts(&laptop);
    assert_eq!(known.len(), 2);

    let reply = name(&laptop);
    let Reply::Account(view) = &reply else { panic!("{reply:?}") };
    assert_eq!((view.jid.as_str(), view.login.as_str()), ("anna@school.example", "anna@school.example"));
    assert!(view.name_until.is_some());
    before.is_closed_with("not-authorized");
    let changes = laptop.others().into_iter().filter_map(|output| match output {
        Output::Login(change) => Some(change),
        _ => None,
    });
    let logins: Vec<LoginChange> = changes.collect();
    let [LoginChange::Remove { domain, .. }, LoginChange::Put { domain: new, .. }] = logins.as_slice() else {
        panic!("{logins:?}")
    };
    assert_eq!((domain.as_str(), new.as_str()), ("id.internal", DOMAIN));

    assert_eq!(contacts(&laptop), known);
    join(&[&laptop, &server], &laptop, &server);
    laptop.wait(2_000);
    rest(&[&laptop, &server]);
    let Reply::Status(status) = laptop.command(Command::Status) else { panic!("no status") };
    assert_eq!((status.servers[0].state.as_str(), status.servers[0].held), ("up", 0));
    assert_eq!(status.names[0].address, "anna@school.example");
    cut(&[&laptop, &server], &laptop, &server);
    bob.forget();

    laptop.restart();
    join(&[&laptop, &other], &laptop, &other);
    let account = stored(&laptop);
    assert_eq!((account.name.as_str(), account.domain.as_str()), ("anna", DOMAIN));
    assert!(account.server.is_some() && account.sealed_by_password == [1] && !account.seal_is_older);
    let after = laptop.online("anna/desk");
    assert_eq!(after.bare(), "anna@school.example");
    bob.forget();
    bob.send("<message type='chat' to='anna@xid' id='m1'><body>still there</body></message>");
    rest(&[&laptop, &other]);
    let got = after.takes_all();
    assert!(got.iter().any(|element| element.name() == "message"), "{got:?}");
    bob.forget();
}

/// Nothing changes, whatever is wrong with it.
#[test]
fn a_name_that_is_taken_here_or_anothers_is_refused() {
    let laptop = Play::elsewhere(1);
    laptop.account("anna");
    let user = anna().id();
    let before = laptop.snapshot();
    let cert = certify(
        &AuthorityKey::from_seed([9; 32]),
        "anna@school.example",
        UserKey::from_seed([3; 32]).id(),
        0,
        BEGIN,
    );
    let account = NamedAccount {
        user,
        name: "anna".to_owned(),
        domain: DOMAIN.to_owned(),
        name_cert: cert.unwrap().bytes().to_vec(),
        credentials: credentials(user),
        sealed_by_password: vec![1],
    };
    let reply = laptop.command(Command::NameAccount { account: Box::new(account), home: home() });
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    let accounts = |contents: &crosstalk_storage::Contents| {
        contents.tree(Tree::Account).map(|(_, value)| value.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(accounts(&laptop.snapshot()), accounts(&before));
}

/// A name outlasts its certificate: whoever shows it says until which day it was certified, and the conversation goes on.
#[test]
fn a_name_whose_certificate_has_ended_is_shown_with_the_day() {
    const DAY: u64 = 86_400_000;
    let (here, there) = (Play::enrolled(1, |_| {}), Play::enrolled(2, |_| {}));
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    join(&[&here, &there], &here, &there);
    anna.send("<presence to='bob@school.example' type='subscribe'/>");
    rest(&[&here, &there]);
    bob.send("<presence to='anna@school.example' type='subscribed'/>");
    rest(&[&here, &there]);
    let tier = || {
        let Reply::Contacts(contacts) = here.command(Command::Contacts("anna".to_owned())) else {
            panic!("no contacts")
        };
        contacts[0].tier.clone()
    };
    assert_eq!(tier(), "certified");
    cut(&[&here, &there], &here, &there);
    anna.forget();
    bob.forget();
    here.restart_after(401 * DAY);
    assert_eq!(tier(), "certified until 2028-02-19");
}

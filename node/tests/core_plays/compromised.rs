//! A stolen user key: the account ends, and whoever has it in a contact list is told so.

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{BEGIN, Play};
use crosstalk::core::admin::{Command, Reply};
use crosstalk_overlay::keys::UserKey;
use crosstalk_overlay::record::{Revocation, Revoked, RevokedBy, Verified};

fn key_of(name: &str) -> UserKey {
    let mut seed = [200; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    UserKey::from_seed(seed)
}

fn signed(key: &UserKey, what: Revoked) -> Vec<u8> {
    let revocation = Revocation { what, by: RevokedBy::User, since: BEGIN };
    Verified::sign(revocation, key, None).unwrap().bytes().to_vec()
}

#[test]
fn the_clients_of_contacts_are_told_that_a_key_was_stolen_and_nothing_goes_there_any_more() {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    here.account("anna");
    there.account("bob");
    there.account("carl");
    join(&[&here, &there], &here, &there);
    let (anna, bob, carl) = (here.online("anna/desk"), there.online("bob/phone"), there.online("carl/phone"));
    for (asks, grants) in [(&anna, &bob), (&bob, &anna)] {
        asks.send(&format!("<presence to='{}@xid' type='subscribe'/>", grants.name));
        rest(&[&here, &there]);
        grants.send(&format!("<presence to='{}@xid' type='subscribed'/>", asks.name));
        rest(&[&here, &there]);
    }
    for client in [&anna, &bob, &carl] {
        client.forget();
    }
    let (key, other) = (key_of("anna"), key_of("bob"));
    let end = |revocation| here.command(Command::EndAccount { account: "anna".to_owned(), revocation });
    assert!(matches!(end(signed(&other, Revoked::User(other.id()))), Reply::Refused(_)), "somebody else's");
    anna.hears_nothing();
    assert!(matches!(end(signed(&key, Revoked::User(key.id()))), Reply::Done));
    anna.is_closed_with("not-authorized");
    // Here nobody carries news; the next meeting tells.
    cut(&[&here, &there], &here, &there);
    join(&[&here, &there], &here, &there);
    let heard = bob.takes_all();
    let text = |element: &crosstalk::xmpp::Element| String::from_utf8(element.to_bytes("")).unwrap();
    let warned: Vec<String> = heard.iter().map(text).filter(|stanza| stanza.contains("stolen")).collect();
    assert!(warned.len() == 1 && warned[0].contains("anna@xid"), "{warned:?}");
    assert!(heard.iter().any(|stanza| text(stanza).contains("unavailable")));
    let to_carl = carl.takes_all();
    assert!(!to_carl.iter().any(|stanza| text(stanza).contains("stolen")), "who does not know anna");
    bob.send(&format!("<message to='{}@id.internal' type='chat'><body>hi</body></message>", key.id().xid()));
    rest(&[&here, &there]);
    let answer = bob.takes_all();
    assert!(
        answer.iter().any(|stanza| text(stanza).contains("<gone")),
        "{:?}",
        answer.iter().map(text).collect::<Vec<_>>()
    );
    let Reply::Accounts(left) = here.command(Command::ListAccounts) else { panic!() };
    assert!(left.is_empty());
    for client in [&anna, &bob, &carl] {
        client.forget();
    }
    here.restart();
    let Reply::Accounts(left) = here.command(Command::ListAccounts) else { panic!() };
    assert!(left.is_empty(), "nor does it come back");
}

//! `crosstalk requests`: requests that wait for an answer, answered without a chat program, or given up.

use crosstalk::core::admin::{Command, Refused, Reply};
use crosstalk::core::requests::RequestView;

use crate::core_support::link::{cut, join, rest};
use crate::core_support::{Client, Play};

const DAY: u64 = 86_400_000;

/// Anna has asked Bob, on another node, while no cable was there.
fn asked_while_apart() -> (Play, Play, Client, Client) {
    let (here, there) = (Play::elsewhere(1), Play::elsewhere(2));
    here.account("anna");
    there.account("bob");
    join(&[&here, &there], &here, &there);
    let (anna, bob) = (here.online("anna/desk"), there.online("bob/phone"));
    rest(&[&here, &there]);
    cut(&[&here, &there], &here, &there);
    anna.fetch_contacts();
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    anna.forget();
    bob.forget();
    (here, there, anna, bob)
}

fn requests(node: &Play) -> Vec<RequestView> {
    let Reply::Requests(requests) = node.command(Command::Requests) else { panic!("no requests") };
    requests
}

fn told(node: &Play) -> Vec<(String, String, bool)> {
    let brief = |view: RequestView| (view.direction, view.state, view.expires.is_some());
    requests(node).into_iter().map(brief).collect()
}

fn one(direction: &str, state: &str, given_up: bool) -> Vec<(String, String, bool)> {
    vec![(direction.to_owned(), state.to_owned(), given_up)]
}

fn answer(node: &Play, account: &str, jid: String, accept: bool) -> Reply {
    node.command(Command::AnswerRequest { account: account.to_owned(), jid, accept })
}

#[test]
fn a_request_is_seen_on_both_sides_and_can_be_accepted_at_the_command_line() {
    let (here, there, anna, bob) = asked_while_apart();
    assert_eq!(told(&here), one("out", "waits", true));
    assert!(told(&there).is_empty());
    join(&[&here, &there], &here, &there);
    rest(&[&here, &there]);
    assert_eq!(told(&here), one("out", "delivered", false));
    assert_eq!(told(&there), one("in", "delivered", false));
    let asker = requests(&there)[0].jid.clone();
    assert!(matches!(answer(&there, "bob", asker, true), Reply::Done));
    rest(&[&here, &there]);
    anna.expects("<presence from='bob@xid' type='subscribed'/>");
    anna.expects_item("<item jid='bob@xid' subscription='to'/>");
    assert!(told(&here).is_empty() && told(&there).is_empty());
    anna.forget();
    bob.forget();
}

#[test]
fn only_somebody_who_asks_can_be_answered() {
    let (here, _there, anna, bob) = asked_while_apart();
    for accept in [true, false] {
        let reply = answer(&here, "anna", bob.bare(), accept);
        assert!(matches!(reply, Reply::Refused(Refused::NoRequest(_))), "{reply:?}");
    }
    anna.hears_nothing();
}

/// Nobody was there for 30 days: the client no longer waits, and may ask again.
#[test]
fn a_request_that_never_arrived_ends() {
    let (here, there, anna, bob) = asked_while_apart();
    here.wait(29 * DAY);
    assert_eq!(told(&here), one("out", "waits", true));
    anna.forget();
    here.wait(2 * DAY);
    assert!(told(&here).is_empty());
    anna.expects_item("<item jid='bob@xid' subscription='none'/>");
    anna.expects("<presence from='bob@xid' type='unsubscribed'/>");
    anna.send("<presence to='bob@xid' type='subscribe'/>");
    join(&[&here, &there], &here, &there);
    rest(&[&here, &there]);
    assert_eq!(told(&there), one("in", "delivered", false));
    anna.forget();
    bob.forget();
}

/// The other laptop has lost its disk after it had said that the request is there, or ours before it knew the answer.
#[test]
fn a_request_and_its_answer_are_said_again_when_they_were_lost() {
    let (here, there, anna, bob) = asked_while_apart();
    let nodes = [&here, &there];
    let meet = || {
        join(&nodes, &here, &there);
        rest(&nodes);
    };
    let part = || cut(&nodes, &here, &there);
    let before = there.snapshot();
    meet();
    assert_eq!(told(&there), one("in", "delivered", false));
    part();
    there.turn_back(before);
    there.restart();
    assert!(told(&there).is_empty());
    meet();
    assert_eq!(told(&there), one("in", "delivered", false), "at the next meeting");
    assert_eq!(told(&here), one("out", "delivered", false));

    let before = here.snapshot();
    let asker = requests(&there)[0].jid.clone();
    assert!(matches!(answer(&there, "bob", asker, true), Reply::Done));
    rest(&nodes);
    assert!(told(&here).is_empty());
    part();
    here.turn_back(before);
    here.restart();
    assert_eq!(told(&here), one("out", "delivered", false));
    nodes.iter().for_each(|node| node.wait(700_000));
    meet();
    assert!(told(&here).is_empty(), "the answer came again");
    anna.forget();
    bob.forget();
}

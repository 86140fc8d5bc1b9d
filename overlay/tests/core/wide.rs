//! Peers beyond the link: connected, and told of nobody but those who have to do with somebody there.

use crosstalk_overlay::core::*;
use crosstalk_overlay::wire::{Frame, encode};

use crate::pump::*;

/// Two hosts with one user each, connected over some wider network.
fn strangers() -> Net {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    for host in 0..2 {
        let user = net.user(host);
        net.with(host, |core, now| core.set_link_presence(&user, Some(link_status("anna")), now));
    }
    net.join_beyond(0, 1);
    net.link(0, 1);
    net.run(100);
    net
}

/// Host 1 says who is there, as it would to somebody whom its user shows itself.
fn says_who_is_there(net: &mut Net) {
    let account = net.hosts[1].accounts[0].clone();
    let millis = net.now(1).wall;
    net.inject(1, 0, encode(&Frame::Records(vec![user_frame(&account, 2, millis, node_key(1))])));
    net.run(100);
}

fn seen(net: &Net, host: usize) -> usize {
    let there = |event: &Output| matches!(event, Output::Reachable { .. } | Output::LinkPresence(_));
    net.count(host, there)
}

#[test]
fn a_stranger_learns_of_nobody() {
    let net = strangers();
    for host in 0..2 {
        let peers = net.hosts[host].core.peers();
        assert_eq!((peers.len(), peers[0].near, peers[0].users.len()), (1, false, 0));
        assert_eq!((seen(&net, host), net.hosts[host].core.reach(&net.user(1 - host))), (0, Reach::Unknown));
    }
}

#[test]
fn who_shows_itself_is_answered_by_those_who_would_be_seen_by_it_only() {
    let mut net = strangers();
    says_who_is_there(&mut net);
    assert_eq!(net.hosts[0].core.reach(&net.user(1)), Reach::Live);
    assert_eq!(net.hosts[1].core.reach(&net.user(0)), Reach::Unknown, "it is no contact of theirs");
    let (user, other) = (net.user(0), net.user(1));
    net.with(0, |core, now| core.set_presence(&user, vec![session("desk")], vec![other], now));
    net.run(100);
    assert_eq!(net.hosts[1].core.reach(&user), Reach::Live, "now it is");
    assert_eq!(net.count(1, |event| matches!(event, Output::Presence { .. })), 1);
}

#[test]
fn who_is_written_to_is_told_by_whom() {
    let mut net = strangers();
    says_who_is_there(&mut net);
    let (user, other) = (net.user(0), net.user(1));
    net.send(0, other, 1);
    net.run(100);
    assert_eq!((net.got(1, user), net.outcomes(0, 1)), (vec![1], vec![Outcome::Delivered]));
}

#[test]
fn what_is_for_the_link_does_not_come_from_beyond() {
    let mut net = strangers();
    says_who_is_there(&mut net);
    let before = net.hosts[0].core.relay_load();
    let shown = net.hosts[1].store.records.len();
    net.inject(1, 0, encode(&Frame::Have(vec![[7; 8]])));
    net.run(100);
    assert_eq!((net.hosts[0].core.relay_load(), net.hosts[1].store.records.len()), (before, shown));
    assert_eq!(net.hosts[0].core.counters().dropped.get("frame for the link from beyond it"), Some(&1));
}

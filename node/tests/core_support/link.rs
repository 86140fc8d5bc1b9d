//! Several nodes of a play on one link without delay: what one sends to another arrives at once. *Pure.*

use crosstalk::core::{Input, Output};
use crosstalk_overlay::core::PeerEvent;
use crosstalk_overlay::id::NodeId;

use super::Play;

/// Longest run of frames that answer each other; more never come to rest.
const ROUNDS: usize = 10_000;

/// Connects two nodes. From now on scripts of each may name the people of the other.
pub fn join(nodes: &[&Play], one: &Play, other: &Play) {
    for (from, to) in [(one, other), (other, one)] {
        let people = &from.0.borrow().people;
        let names = people.iter().map(|(name, person)| (person.xid.clone(), name.clone()));
        to.0.borrow_mut().elsewhere.extend(names);
    }
    for (at, peer, inbound) in [(one, other, true), (other, one, false)] {
        let address = "/ip4/192.0.2.1/tcp/14774".to_owned();
        at.input(Input::Peer(PeerEvent::Connected { node: id(peer), address, inbound, near: true }));
    }
    rest(nodes);
}

/// The link between two nodes is cut.
pub fn cut(nodes: &[&Play], one: &Play, other: &Play) {
    for (at, peer) in [(one, other), (other, one)] {
        at.input(Input::Peer(PeerEvent::Disconnected { node: id(peer) }));
    }
    rest(nodes);
}

/// Lets frames arrive until none is under way, and what was put off by a moment happen.
pub fn rest(nodes: &[&Play]) {
    for _ in 0..4 {
        pump(nodes);
        nodes.iter().for_each(|node| node.wait(5));
    }
    pump(nodes);
}

fn pump(nodes: &[&Play]) {
    let mut frames = usize::MAX;
    pump_at_most(nodes, &mut frames);
}

/// As [`rest`], but from some number of frames on all are lost.
pub fn rest_until(nodes: &[&Play], mut frames: usize) {
    for _ in 0..4 {
        pump_at_most(nodes, &mut frames);
        nodes.iter().for_each(|node| node.wait(5));
    }
    pump_at_most(nodes, &mut frames);
}

fn pump_at_most(nodes: &[&Play], frames: &mut usize) {
    for _ in 0..ROUNDS {
        let mut quiet = true;
        for from in nodes {
            for output in from.others() {
                let Output::Frame { node, frame } = output else { continue };
                quiet = false;
                if *frames == 0 {
                    continue;
                }
                *frames -= 1;
                let Some(to) = nodes.iter().find(|play| id(play) == node) else { continue };
                to.input(Input::Peer(PeerEvent::Frame { node: id(from), frame }));
            }
        }
        if quiet {
            return;
        }
    }
    panic!("the nodes never come to rest");
}

fn id(play: &Play) -> NodeId {
    play.0.borrow().id
}

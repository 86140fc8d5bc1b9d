//! Questions to the server of a domain: it is found, asked again after a loss, and nobody else is believed.

use crosstalk_overlay::core::{NoAnswer, Output, PeerEvent, Server};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::wire::{Frame, encode};

use crate::pump::*;

const SECOND: u64 = 1_000;

type Said = Result<(NodeId, Vec<u8>), NoAnswer>;

/// Host 0 is the server, hosts 1 and 2 are laptops.
fn net() -> Net {
    let mut net = Net::new(vec![vec![], vec![], vec![]]);
    net.with(0, |core, _| core.serve_enrolment());
    net
}

fn ask(net: &mut Net, host: usize, server: Server) {
    net.with(host, |core, now| core.ask_server(7, server, b"question".to_vec(), now));
}

/// What the server was asked, by whom, and not answered yet.
fn asked(net: &Net, host: usize) -> Vec<(NodeId, u64)> {
    let asked = net.hosts[host].events.iter().filter_map(|event| match event {
        Output::Enrolment { node, request, ask } if ask == b"question" => Some((*node, *request)),
        _ => None,
    });
    asked.collect()
}

fn answer(net: &mut Net, host: usize, answer: &[u8]) {
    let (node, request) = *asked(net, host).last().unwrap();
    net.with(host, |core, now| core.answer_enrolment(node, request, answer.to_vec(), now));
}

/// A laptop has asked whoever is near, and the server has answered.
fn answered() -> Net {
    let mut net = net();
    net.join(0, 1);
    net.join(1, 2);
    net.run(3 * SECOND);
    ask(&mut net, 1, Server::OnLink);
    net.run(SECOND);
    assert_eq!(asked(&net, 0), [(node_id(1), 7)]);
    answer(&mut net, 0, b"answer");
    net.run(SECOND);
    net
}

fn said(net: &Net, host: usize) -> Option<Said> {
    net.hosts[host].events.iter().rev().find_map(|event| match event {
        Output::Enrolled { ticket: 7, answer } => Some(answer.clone()),
        _ => None,
    })
}

#[test]
fn the_server_on_the_link_is_found_by_itself() {
    assert_eq!(said(&answered(), 1), Some(Ok((node_id(0), b"answer".to_vec()))));
}

/// On a link everybody is asked: who has nothing to say after the server has is no stranger.
#[test]
fn whoever_is_no_server_may_say_so_late() {
    let mut net = answered();
    assert!(said(&net, 1).is_some_and(|said| said.is_ok()));
    let dropped = |net: &Net| net.hosts[1].core.counters().dropped.values().sum::<u64>();
    net.with(2, |core, now| core.answer_enrolment(node_id(1), 7, Vec::new(), now));
    net.run(SECOND);
    assert_eq!(dropped(&net), 0, "{:?}", net.hosts[1].core.counters().dropped);
    net.with(2, |core, now| core.answer_enrolment(node_id(1), 7, b"me".to_vec(), now));
    net.run(SECOND);
    assert_eq!(dropped(&net), 1);
}

#[test]
fn without_a_server_near_the_search_ends() {
    let mut net = net();
    net.join(1, 2);
    net.run(3 * SECOND);
    ask(&mut net, 1, Server::OnLink);
    net.run(5 * SECOND);
    assert_eq!(said(&net, 1), Some(Err(NoAnswer::NotNear)));
    ask(&mut net, 1, Server::At(node_id(2), Vec::new()));
    net.run(SECOND);
    assert_eq!(said(&net, 1), Some(Err(NoAnswer::NoServer)));
    ask(&mut net, 1, Server::At(node_id(0), Vec::new()));
    net.run(41 * SECOND);
    assert_eq!(said(&net, 1), Some(Err(NoAnswer::Unreachable)));
}

/// All whom it knows have said no, and then it finds one more, who cannot be reached at once.
#[test]
fn whoever_is_found_late_is_waited_for() {
    let mut net = net();
    net.join(1, 2);
    net.run(3 * SECOND);
    ask(&mut net, 1, Server::OnLink);
    net.run(SECOND);
    let event = PeerEvent::Discovered { node: node_id(0), addresses: vec!["/memory/0".into()] };
    net.peer_event(1, event);
    net.run(5 * SECOND);
    assert_eq!(said(&net, 1), None);
    net.join(0, 1);
    net.run(3 * SECOND);
    answer(&mut net, 0, b"answer");
    net.run(SECOND);
    assert_eq!(said(&net, 1), Some(Ok((node_id(0), b"answer".to_vec()))));
}

/// The connection breaks between question and answer, or the server starts again: it is asked once more.
#[test]
fn a_question_survives_the_loss_of_the_connection() {
    let mut net = net();
    net.join(0, 1);
    net.run(3 * SECOND);
    ask(&mut net, 1, Server::At(node_id(0), Vec::new()));
    net.run(SECOND);
    net.break_link(0, 1);
    net.run(SECOND);
    net.join(0, 1);
    net.run(10 * SECOND);
    assert_eq!(asked(&net, 0).len(), 2);
    answer(&mut net, 0, b"answer");
    net.run(SECOND);
    assert_eq!(said(&net, 1), Some(Ok((node_id(0), b"answer".to_vec()))));
}

#[test]
fn nobody_else_answers_in_its_place() {
    let mut net = net();
    for (one, other) in [(0, 1), (1, 2)] {
        net.join(one, other);
    }
    net.run(3 * SECOND);
    ask(&mut net, 1, Server::At(node_id(0), Vec::new()));
    net.run(SECOND);
    net.inject(2, 1, encode(&Frame::EnrolAnswer { request: 7, answer: b"lie".to_vec() }));
    net.run(SECOND);
    assert_eq!(said(&net, 1), None);
}

/// Whoever asks without end is not heard for a while; others are.
#[test]
fn a_peer_that_asks_too_much_is_slowed_alone() {
    let mut net = net();
    for laptop in [1, 2] {
        net.join(0, laptop);
    }
    net.run(3 * SECOND);
    for request in 0..800 {
        net.inject(1, 0, encode(&Frame::Enrol { request, ask: b"question".to_vec() }));
    }
    net.run(10);
    assert!((500..530).contains(&asked(&net, 0).len()), "{}", asked(&net, 0).len());
    ask(&mut net, 2, Server::At(node_id(0), Vec::new()));
    net.run(SECOND);
    assert_eq!(asked(&net, 0).last(), Some(&(node_id(2), 7)));
}

#[test]
fn the_server_asks_itself_without_a_network() {
    let mut net = net();
    ask(&mut net, 0, Server::At(node_id(0), Vec::new()));
    answer(&mut net, 0, b"answer");
    assert_eq!(said(&net, 0), Some(Ok((node_id(0), b"answer".to_vec()))));
}

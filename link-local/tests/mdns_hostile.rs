//! The engine on a hostile link: forged, malformed and looping packets, invented names, an imitated name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures")]

mod lan;

use std::net::SocketAddr;

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::{Destination, Event, MAX_INSTANCES, Transmit};
use lan::{Lan, instance};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn far() -> SocketAddr {
    "8.8.8.8:5353".parse().unwrap()
}

fn near() -> SocketAddr {
    "10.77.0.200:5353".parse().unwrap()
}

/// A label, with its length.
fn label(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn service() -> Vec<u8> {
    [label("_presence"), label("_tcp"), label("local"), vec![0]].concat()
}

fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let class: u16 = if kind == 12 { 1 } else { 0x8001 };
    let head = [kind.to_be_bytes(), class.to_be_bytes()].concat();
    [name, &head, &ttl.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
}

fn response(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0x84, 0, 0, 0];
    bytes.extend_from_slice(&(records.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    records.iter().for_each(|record| bytes.extend_from_slice(record));
    bytes
}

/// All records of a person.
fn person(name: &str, host: &str, ip: [u8; 4], ttl: u32) -> Vec<u8> {
    let whole = [label(name), service()].concat();
    let host = [label(host), label("local"), vec![0]].concat();
    let server = [vec![0, 0, 0, 0, 0x14, 0xb2], host.clone()].concat();
    response(&[
        record(&service(), 12, ttl, &whole),
        record(&whole, 33, ttl, &server),
        record(&whole, 16, ttl, &label("nick=Mallory")),
        record(&host, 1, ttl, &ip),
    ])
}

fn pair() -> Lan {
    let mut lan = Lan::new(1);
    (0..2).for_each(|_| {
        lan.add_user(false);
    });
    lan.run_for(10_000);
    assert!(lan.all_see_all());
    lan
}

#[test]
fn a_person_of_another_responder_is_seen() {
    let mut lan = pair();
    lan.inject(near(), &person("Mal. Lory@x", "mal", [10, 77, 0, 200], 120));
    lan.run_for(100);
    let peer = &lan.hosts[0].seen[&instance("Mal. Lory@x")];
    assert_eq!(peer.addresses, ["10.77.0.200:5298".parse::<SocketAddr>().unwrap()]);
    assert_eq!(peer.advert.nick.as_deref(), Some("Mallory"));
}

#[test]
fn what_comes_from_off_the_link_is_ignored() {
    let mut lan = pair();
    lan.inject(far(), &person("Mallory", "mal", [10, 77, 0, 200], 120));
    lan.inject("10.77.0.200:40000".parse().unwrap(), &person("Mallory", "mal", [10, 77, 0, 200], 120));
    lan.inject(near(), &person("Eve", "eve", [8, 8, 8, 8], 120));
    lan.inject(near(), &person("Self", "self", [127, 0, 0, 1], 120));
    lan.run_for(30_000);
    assert!(lan.all_see_all(), "nobody new: {:?}", lan.hosts[0].seen.keys());
    assert_eq!(lan.hosts[0].mdns.airtime().refused, 2);
}

#[test]
fn a_thousand_invented_names_are_bounded_and_die() {
    let mut lan = pair();
    let before = lan.hosts[0].mdns.airtime().sent_in_all();
    for number in 0..1_500u32 {
        let ip = [10, 77, 3 + (number / 200) as u8, (number % 200) as u8 + 1];
        let from = SocketAddr::new(ip.into(), 5353);
        lan.inject(from, &person(&format!("name{number}"), &format!("host{number}"), ip, 4_500));
        lan.run_for(3);
        assert!(lan.hosts[0].seen.len() <= MAX_INSTANCES);
    }
    println!("flooded: {} shown, {} refused", lan.hosts[0].seen.len(), lan.hosts[0].mdns.airtime().flooded);
    assert!(lan.hosts[0].seen.contains_key(&instance("user1@h1")));
    lan.run_for(60_000);
    let after = lan.hosts[0].mdns.airtime().sent_in_all();
    let rate = (after.bytes - before.bytes) / 65;
    println!("sent while flooded: {rate} bytes/s");
    // 2 kB/s and one burst of 24 kB on each family.
    assert!(rate <= 2 * (2_000 + 24_000 / 65));
    assert!(lan.hosts.iter().all(|host| {
        host.seen.contains_key(&instance(if std::ptr::eq(host, &lan.hosts[0]) {
            "user1@h1"
        } else {
            "user0@h0"
        }))
    }));
    // A newcomer is still found, though the flood fills what there is.
    let quiet = lan.run_till(10_000, 3_600_000, |lan| lan.hosts[0].seen.len() < 20);
    println!("all invented ones gone after {quiet:?} ms");
    assert!(quiet.is_some_and(|took| took <= 900_000));
}

#[test]
fn one_source_may_not_invent_many() {
    let mut lan = pair();
    for number in 0..500 {
        lan.inject(near(), &person(&format!("name{number}"), "mal", [10, 77, 0, 200], 4_500));
    }
    lan.run_for(10);
    assert!(lan.hosts[0].seen.len() <= 33, "{}", lan.hosts[0].seen.len());
    assert!(lan.hosts[0].mdns.airtime().flooded >= 400);
}

#[test]
fn invented_names_go_within_half_a_minute_and_cost_little() {
    let mut lan = pair();
    let before = lan.hosts[0].mdns.airtime().sent_in_all();
    for number in 0..1_000u32 {
        let ip = [10, 77, 3 + (number / 200) as u8, (number % 200) as u8 + 1];
        lan.inject(near(), &person(&format!("name{number}"), &format!("host{number}"), ip, 120));
        lan.run_for(1);
    }
    assert_eq!(lan.hosts[0].seen.len(), 33);
    // Others are found meanwhile.
    let newcomer = lan.add_user(false);
    assert!(lan.run_till(10, 2_000, |lan| lan.hosts[0].seen.contains_key(&instance("user2@h2"))).is_some());
    let gone = lan.run_till(100, 120_000, |lan| lan.hosts[0].seen.len() == 2);
    println!("invented names gone after {gone:?} ms and 2 s");
    assert!(gone.is_some_and(|took| took <= 28_000));
    assert_eq!(lan.hosts[newcomer].seen.len(), 2);
    lan.run_for(60_000);
    let after = lan.hosts[0].mdns.airtime().sent_in_all();
    println!(
        "asked for them: {} packets, {} bytes",
        after.packets - before.packets,
        after.bytes - before.bytes
    );
    assert!(after.packets - before.packets <= 200);
}

#[test]
fn nothing_outlives_its_ttl_unless_somebody_answers() {
    let mut lan = pair();
    lan.inject(near(), &person("Brief", "mal", [10, 77, 0, 200], 6));
    lan.run_for(100);
    assert!(lan.hosts[0].seen.contains_key(&instance("Brief")));
    lan.run_for(6_100);
    assert!(!lan.hosts[0].seen.contains_key(&instance("Brief")));
}

#[test]
fn somebody_who_is_there_is_neither_replaced_nor_said_goodbye_for() {
    let mut lan = pair();
    let who = instance("user1@h1");
    let told = |lan: &Lan| lan.hosts[0].seen[&who].clone();
    let before = told(&lan);
    lan.inject(near(), &person("user1@h1", "mal", [10, 77, 0, 200], 120));
    lan.inject(near(), &person("user1@h1", "h1-ct", [10, 77, 0, 200], 0));
    lan.run_for(5_000);
    assert!(lan.hosts[0].story.iter().all(|(_, event)| *event != Event::Gone(who.clone())));
    let after: Vec<Instance> = lan.hosts[0].seen.keys().cloned().collect();
    println!("after the imitation: {after:?}, contested {}", lan.hosts[0].mdns.airtime().contested);
    assert!(lan.hosts[0].mdns.airtime().contested >= 1);
    let peer = lan.hosts[0].seen.get(&who).expect("still there");
    assert_eq!((&peer.addresses, &peer.advert), (&before.addresses, &before.advert));
}

/// Only the TXT record of a person.
fn text(name: &str, text: &str) -> Vec<u8> {
    response(&[record(&[label(name), service()].concat(), 16, 4_500, &label(text))])
}

#[test]
fn a_text_that_changes_without_end_is_told_once_a_second() {
    let mut lan = pair();
    lan.inject(near(), &person("Mallory", "mal", [10, 77, 0, 200], 120));
    lan.run_for(5);
    let is_seen = |(_, event): &&(u64, Event)| matches!(event, Event::Seen(peer) if peer.instance == instance("Mallory"));
    let told = |lan: &Lan| lan.hosts[0].story.iter().filter(is_seen).count();
    let nick = |lan: &Lan| lan.hosts[0].seen[&instance("Mallory")].advert.nick.clone();
    let before = told(&lan);
    lan.inject(near(), &text("Mallory", "nick=first"));
    lan.run_for(5);
    assert_eq!(nick(&lan).as_deref(), Some("first"), "one change is shown at once");
    for number in 0..300 {
        lan.inject(near(), &text("Mallory", &format!("nick={number}")));
        lan.run_for(10);
    }
    let changes = told(&lan) - before;
    println!("301 changes within 3 s: {changes} told");
    assert!((3..=5).contains(&changes), "{changes}");
    lan.run_for(900);
    assert_eq!(nick(&lan).as_deref(), Some("299"), "the last one wins");
    lan.inject(near(), &text("Mallory", "nick=other"));
    lan.inject(near(), &text("Mallory", "nick=299"));
    lan.run_for(1_000);
    assert_eq!(nick(&lan).as_deref(), Some("299"), "what was taken back is not told later");
}

#[test]
fn conflicts_forged_without_end_cost_little() {
    let mut lan = pair();
    let before = lan.hosts[0].mdns.airtime().sent_in_all();
    for _ in 0..600 {
        let name = lan.hosts[0].names().last().unwrap().clone();
        lan.inject(near(), &person(name.as_str(), "mal", [10, 77, 0, 200], 120));
        lan.run_for(100);
    }
    let after = lan.hosts[0].mdns.airtime().sent_in_all();
    println!("forged conflicts: {} bytes/s", (after.bytes - before.bytes) / 60);
    assert!((after.bytes - before.bytes) / 60 <= 4_000);
}

fn recorded() -> Vec<Vec<u8>> {
    let mut lan = Lan::new(6);
    lan.tape = Some(Vec::new());
    (0..3).for_each(|_| {
        lan.add_user(false);
    });
    lan.run_for(20_000);
    let tape: Vec<Transmit> = lan.tape.take().unwrap().into_iter().map(|(.., transmit)| transmit).collect();
    assert!(tape.iter().any(|transmit| matches!(transmit.to, Destination::Unicast(_))));
    tape.into_iter().map(|transmit| transmit.bytes).collect()
}

#[test]
fn damaged_packets_do_no_harm() {
    let tape = recorded();
    let mut lan = pair();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
    for _ in 0..3_000 {
        let (packet, at, byte, cut) = damage.new_tree(&mut runner).unwrap().current();
        let mut bytes = tape[packet.index(tape.len())].clone();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at)
        } else {
            bytes[at] = byte
        }
        lan.inject(near(), &bytes);
        lan.run_for(20);
    }
    lan.run_for(30_000);
    assert!(lan.hosts[0].seen.len() <= MAX_INSTANCES);
    let budget = lan.hosts[0].mdns.airtime().sent_in_all();
    assert!(budget.bytes <= 300_000, "{budget:?}");
}

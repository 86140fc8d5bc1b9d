//! One engine against hand-written packets: who is answered, how, when, and when not (*pure*).

use std::net::SocketAddr;

use hickory_proto::rr::Name;

use super::names::{self, P2P, PRESENCE, SERVICES};
use super::packet::{Data, Packet, Question, Record, kind};
use super::*;
use crate::instance::Instance;
use crate::txt::Advert;

const ETH: u32 = 3;

fn at(mono: u64) -> Now {
    Now { mono, wall: 0 }
}

fn peer() -> SocketAddr {
    "10.1.0.9:5353".parse().unwrap()
}

fn interface(index: u32, v4: &str, v6: Option<&str>) -> Interface {
    let v6 = v6.map(|ip| (ip.parse().unwrap(), 64)).into_iter().collect();
    Interface { index, name: format!("eth{index}"), v4: vec![(v4.parse().unwrap(), 24)], v6 }
}

struct Bench {
    mdns: Mdns,
    now: u64,
    sent: Vec<(u64, u32, Destination, Packet)>,
    /// The last packet of each interface as it was.
    raw: BTreeMap<u32, Vec<u8>>,
    events: Vec<Event>,
}

impl Bench {
    /// Anna is announced since 10 s.
    fn new(v6: Option<&str>) -> Self {
        let config = Config { host: "laptop".into(), seed: [1; 32], browse: true };
        let mut bench = Self {
            mdns: Mdns::new(config, at(0)),
            now: 0,
            sent: Vec::new(),
            raw: BTreeMap::new(),
            events: Vec::new(),
        };
        bench.mdns.set_interfaces(vec![interface(ETH, "10.1.0.1", v6)], at(0));
        assert!(bench.mdns.announce(ServiceId(1), presence("anna@laptop"), at(0)));
        bench.run(10_000);
        bench
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + millis;
        loop {
            while let Some(output) = self.mdns.poll_output() {
                match output {
                    Output::Send(one) => {
                        self.sent.push((self.now, one.interface, one.to, Packet::parse(&one.bytes).unwrap()));
                        self.raw.insert(one.interface, one.bytes);
                    }
                    Output::Event(event) => self.events.push(event),
                }
            }
            let due = self.mdns.poll_timeout().map_or(until, |(due, _)| due);
            if due >= until {
                self.now = until;
                return;
            }
            self.now = self.now.max(due);
            self.mdns.handle_timeout(at(self.now));
        }
    }

    /// Hands in a packet and gives back what is answered within a second, with the delay.
    fn hear(
        &mut self,
        from: SocketAddr,
        to_multicast: bool,
        packet: &Packet,
    ) -> Vec<(u64, Destination, Packet)> {
        self.sent.clear();
        let start = self.now;
        for bytes in packet.encode(true) {
            self.mdns.datagram(ETH, from, to_multicast, &bytes, at(self.now));
        }
        self.run(1_000);
        let answers = self.sent.drain(..).filter(|(.., packet)| packet.response);
        answers.map(|(at, _, to, packet)| (at - start, to, packet)).collect()
    }
}

fn presence(name: &str) -> Presence {
    let advert = Advert { txtvers: Some(1), ..Advert::default() };
    Presence { wanted: Instance::new(name).unwrap(), port: 5298, advert, picture: None }
}

fn anna() -> Name {
    names::of_instance(&Instance::new("anna@laptop").unwrap())
}

fn ask(name: &Name, kind: u16, unicast: bool) -> Packet {
    Packet { questions: vec![Question { name: name.clone(), kind, unicast }], ..Packet::query() }
}

fn known(ttl: u32) -> Record {
    Record { name: PRESENCE.clone(), flush: false, ttl, data: Data::Ptr(anna()) }
}

fn kinds(records: &[Record]) -> Vec<u16> {
    records.iter().map(|record| record.data.kind()).collect()
}

#[test]
fn shared_answers_wait_and_bring_everything_along() {
    let mut bench = Bench::new(None);
    let answers = bench.hear(peer(), true, &ask(&PRESENCE, kind::PTR, false));
    let [(delay, Destination::MulticastV4, packet)] = answers.as_slice() else { panic!("{answers:?}") };
    assert!((20..=120).contains(delay), "{delay}");
    assert_eq!(kinds(&packet.answers), [kind::PTR]);
    assert_eq!(kinds(&packet.additionals), [kind::SRV, kind::TXT, kind::A]);
    assert!(packet.additionals.iter().all(|record| record.flush) && !packet.answers[0].flush);
}

#[test]
fn unique_answers_do_not_wait_but_are_not_repeated_within_a_second() {
    let mut bench = Bench::new(None);
    bench.run(600);
    let query = ask(&anna(), kind::SRV, false);
    let answers = bench.hear(peer(), true, &query);
    assert_eq!(answers.iter().map(|(delay, ..)| *delay).collect::<Vec<_>>(), [0]);
    bench.hear(peer(), true, &query);
    bench.sent.clear();
    bench.mdns.datagram(ETH, peer(), true, &query.encode(true)[0], at(bench.now));
    let again = bench.hear(peer(), true, &query);
    assert!(again.len() <= 1, "{again:?}");
}

#[test]
fn known_answers_are_not_given() {
    let mut bench = Bench::new(None);
    let query = |ttl| Packet { answers: vec![known(ttl)], ..ask(&PRESENCE, kind::PTR, false) };
    assert!(bench.hear(peer(), true, &query(4_500)).is_empty());
    assert!(bench.hear(peer(), true, &query(2_250)).is_empty());
    assert_eq!(bench.hear(peer(), true, &query(2_249)).len(), 1, "half its life is over");
}

#[test]
fn known_answers_may_come_in_the_next_packet() {
    let mut bench = Bench::new(None);
    let first = Packet { answers: vec![], ..ask(&PRESENCE, kind::PTR, false) };
    let mut bytes = first.encode(true).swap_remove(0);
    bytes[2] |= 2;
    bench.mdns.datagram(ETH, peer(), true, &bytes, at(bench.now));
    let rest = Packet { answers: vec![known(4_500)], ..Packet::query() };
    assert!(bench.hear(peer(), true, &rest).is_empty());
    // Without the rest it is answered after a while.
    bench.mdns.datagram(ETH, peer(), true, &bytes, at(bench.now));
    bench.sent.clear();
    bench.run(2_000);
    assert!(bench.sent.iter().any(|(.., packet)| packet.response));
}

#[test]
fn direct_and_legacy_questions_are_answered_directly() {
    let mut bench = Bench::new(None);
    let answers = bench.hear(peer(), false, &ask(&anna(), kind::ANY, true));
    let [(0, Destination::Unicast(to), packet)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((*to, kinds(&packet.answers)), (peer(), vec![kind::SRV, kind::TXT]));

    let legacy: SocketAddr = "10.1.0.9:40000".parse().unwrap();
    let query = Packet { id: 77, ..ask(&PRESENCE, kind::PTR, false) };
    let answers = bench.hear(legacy, true, &query);
    let [(0, Destination::Unicast(to), packet)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((*to, packet.id, &packet.questions), (legacy, 77, &query.questions));
    assert!(packet.records().all(|record| record.ttl <= 10 && !record.flush));
}

#[test]
fn whoever_wants_it_is_answered_directly_while_others_know() {
    let mut bench = Bench::new(None);
    let answers = bench.hear(peer(), true, &ask(&anna(), kind::TXT, true));
    assert!(matches!(answers.as_slice(), [(0, Destination::Unicast(_), _)]), "{answers:?}");
    bench.run(40_000);
    let answers = bench.hear(peer(), true, &ask(&anna(), kind::SRV, true));
    assert!(
        matches!(answers.as_slice(), [(_, Destination::MulticastV4, _)]),
        "a quarter of its life is over"
    );
}

#[test]
fn what_is_not_there_is_said() {
    let mut bench = Bench::new(None);
    let host = names::of_host("laptop", 1);
    let answers = bench.hear(peer(), true, &ask(&host, kind::AAAA, false));
    // NSEC is not read back; but the packet is sent.
    assert_eq!(answers.len(), 1);
    assert!(answers[0].2.answers.is_empty());
    let nobody = names::of_instance(&Instance::new("nobody").unwrap());
    assert!(bench.hear(peer(), true, &ask(&nobody, kind::SRV, false)).is_empty());
}

#[test]
fn services_are_listed_and_nodes_announced_over_ipv6_only() {
    let mut bench = Bench::new(Some("fe80::1"));
    bench.sent.clear();
    let node = P2pService { peer_id: "12D3Koo".into(), tcp_port: 99 };
    bench.mdns.set_p2p(Some(node), at(bench.now));
    bench.run(5_000);
    let announced: Vec<_> = bench
        .sent
        .iter()
        .filter(|(.., packet)| packet.answers.iter().any(|record| record.name == *P2P))
        .map(|(_, _, to, packet)| (*to, packet.additionals.clone()))
        .collect();
    assert_eq!(announced.len(), 2);
    for (to, more) in announced {
        assert_eq!(to, Destination::MulticastV6);
        let text = b"\x2adnsaddr=/ip6/fe80::1/tcp/99/p2p/12D3Koo";
        let expected = [&[(text.len() - 1) as u8], &text[1..]].concat();
        assert_eq!(more[0].data, Data::Txt(expected));
    }
    assert!(bench.hear(peer(), true, &ask(&P2P, kind::PTR, false)).is_empty(), "not over IPv4");
    let answers = bench.hear(peer(), true, &ask(&SERVICES, kind::PTR, false));
    assert_eq!(answers[0].2.answers.len(), 2);
}

#[test]
fn hints_of_nodes_are_passed_on() {
    let mut bench = Bench::new(Some("fe80::1"));
    let name = names::of_p2p("abc");
    let pointer = Record { name: P2P.clone(), flush: false, ttl: 360, data: Data::Ptr(name.clone()) };
    let text = Data::Txt(b"\x16dnsaddr=/ip6/fe80::9/x\x09other=foo".to_vec());
    let text = Record { name, flush: false, ttl: 360, data: text };
    let packet = Packet { answers: vec![pointer], additionals: vec![text], ..Packet::response() };
    // rust-libp2p answers from another port.
    bench.hear("[fe80::9]:40000".parse().unwrap(), true, &packet);
    let hints = bench.events.iter().filter_map(|event| match event {
        Event::P2p { dnsaddrs, interface, .. } => Some((dnsaddrs.clone(), interface.clone())),
        _ => None,
    });
    assert_eq!(hints.collect::<Vec<_>>(), [(vec!["/ip6/fe80::9/x".to_owned()], "eth3".to_owned())]);
}

#[test]
fn each_interface_has_its_own_addresses_only() {
    let mut bench = Bench::new(None);
    let other = interface(4, "192.168.7.1", None);
    bench.mdns.set_interfaces(vec![interface(ETH, "10.1.0.1", None), other], at(bench.now));
    bench.sent.clear();
    bench.run(5_000);
    let told: Vec<_> = bench
        .sent
        .iter()
        .flat_map(|(_, index, _, packet)| packet.records().map(|record| (*index, record.data.clone())))
        .filter(|(_, data)| matches!(data, Data::A(_)))
        .collect();
    assert!(told.contains(&(4, Data::A("192.168.7.1".parse().unwrap()))));
    assert!(told.iter().all(|(index, data)| *index == 4 && *data == Data::A("192.168.7.1".parse().unwrap())));
}

/// The IPv4 and IPv6 addresses that were told on each interface.
fn told(bench: &mut Bench) -> Vec<(u32, String)> {
    let mut told: Vec<(u32, String)> = Vec::new();
    for (_, index, to, packet) in bench.sent.drain(..) {
        for record in packet.records().filter(|_| !matches!(to, Destination::Unicast(_))) {
            match &record.data {
                Data::A(ip) => told.push((index, ip.to_string())),
                Data::Aaaa(ip) => told.push((index, ip.to_string())),
                _ => {}
            }
        }
    }
    told.sort();
    told.dedup();
    told
}

fn pairs(all: &[(u32, &str)]) -> Vec<(u32, String)> {
    all.iter().map(|(index, ip)| (*index, (*ip).to_owned())).collect()
}

#[test]
fn interfaces_on_one_link_tell_of_each_other() {
    let mut bench = Bench::new(Some("fe80::1"));
    let both = |second: &str| {
        vec![interface(ETH, "10.1.0.1", Some("fe80::1")), interface(4, second, Some("fe80::2"))]
    };
    bench.sent.clear();
    bench.mdns.set_interfaces(both("10.1.0.2"), at(bench.now));
    bench.run(5_000);
    let all = ["10.1.0.1", "10.1.0.2", "fe80::1", "fe80::2"];
    let expected: Vec<_> = [ETH, 4].iter().flat_map(|index| all.map(|ip| (*index, ip))).collect();
    assert_eq!(told(&mut bench), pairs(&expected));
    bench.mdns.set_interfaces(both("10.2.0.2"), at(bench.now));
    bench.run(5_000);
    let expected = [(ETH, "10.1.0.1"), (ETH, "fe80::1"), (4, "10.2.0.2"), (4, "fe80::2")];
    assert_eq!(told(&mut bench), pairs(&expected), "they are on different links now");
}

#[test]
fn an_address_that_two_interfaces_see_is_one() {
    let mut bench = Bench::new(None);
    let both = vec![interface(ETH, "10.1.0.1", None), interface(4, "10.1.0.2", None)];
    bench.mdns.set_interfaces(both, at(bench.now));
    let (bob, host) = (names::of_instance(&Instance::new("bob@h2").unwrap()), names::of_host("h2", 1));
    let record = |name: &Name, data| Record { name: name.clone(), flush: true, ttl: 120, data };
    let packet = Packet {
        answers: vec![
            Record { name: PRESENCE.clone(), flush: false, ttl: 4_500, data: Data::Ptr(bob.clone()) },
            record(&bob, Data::Srv { port: 5298, target: host.clone() }),
            record(&bob, Data::Txt(b"\x09txtvers=1".to_vec())),
            record(&host, Data::A("10.1.0.9".parse().unwrap())),
        ],
        ..Packet::response()
    };
    for interface in [ETH, 4] {
        for bytes in packet.encode(true) {
            bench.mdns.datagram(interface, peer(), true, &bytes, at(bench.now));
        }
    }
    bench.run(1_000);
    let addresses = bench.events.iter().rev().find_map(|event| match event {
        Event::Seen(peer) if peer.instance.as_str() == "bob@h2" => Some(peer.addresses.clone()),
        _ => None,
    });
    assert_eq!(addresses, Some(vec!["10.1.0.9:5298".parse().unwrap()]));
}

#[test]
fn an_interface_without_carrier_is_told_of_on_no_other() {
    let mut bench = Bench::new(None);
    let both = vec![interface(ETH, "10.1.0.1", None), interface(4, "10.1.0.2", None)];
    bench.mdns.set_interfaces(both, at(bench.now));
    bench.run(5_000);
    bench.sent.clear();
    bench.mdns.carrier_lost(4, at(bench.now));
    bench.run(5_000);
    assert_eq!(told(&mut bench), pairs(&[(ETH, "10.1.0.1")]), "so that caches forget the other");
    bench.mdns.carrier_back(4, at(bench.now));
    bench.run(5_000);
    let all = [(ETH, "10.1.0.1"), (ETH, "10.1.0.2"), (4, "10.1.0.1"), (4, "10.1.0.2")];
    assert_eq!(told(&mut bench), pairs(&all));
}

#[test]
fn a_carrier_that_was_away_for_long_comes_back_with_a_goodbye() {
    for (away, is_long) in [(8_000, false), (60_000, true)] {
        let mut bench = Bench::new(None);
        bench.mdns.carrier_lost(ETH, at(bench.now));
        bench.run(away);
        bench.sent.clear();
        bench.mdns.carrier_back(ETH, at(bench.now));
        bench.run(5_000);
        let is_goodbye = |packet: &Packet| packet.records().any(|record| record.ttl == 0);
        assert_eq!(bench.sent.iter().any(|(.., packet)| is_goodbye(packet)), is_long, "after {away} ms");
    }
}

#[test]
fn interfaces_that_hear_each_other_are_on_one_link() {
    let mut bench = Bench::new(Some("fe80::1"));
    let both = vec![interface(ETH, "10.1.0.1", Some("fe80::1")), interface(4, "10.2.0.1", Some("fe80::2"))];
    bench.mdns.set_interfaces(both, at(bench.now));
    bench.run(5_000);
    bench.sent.clear();
    bench.mdns.announce(ServiceId(2), presence("other"), at(bench.now));
    let started = bench.now;
    while bench.sent.iter().all(|(_, index, ..)| *index != ETH) {
        bench.run(10);
        assert!(bench.now < started + 2_000);
    }
    let packet = bench.raw[&ETH].clone();
    bench.mdns.datagram(4, "[fe80::1]:5353".parse().unwrap(), true, &packet, at(bench.now));
    bench.sent.clear();
    bench.run(5_000);
    let all = ["10.1.0.1", "10.2.0.1", "fe80::1", "fe80::2"];
    let expected: Vec<_> = [ETH, 4].iter().flat_map(|index| all.map(|ip| (*index, ip))).collect();
    assert_eq!(told(&mut bench), pairs(&expected));
}

#[test]
fn a_changed_text_is_told_at_once_and_the_old_one_withdrawn() {
    let mut bench = Bench::new(None);
    let with = |msg: &str| {
        let advert = Advert { msg: Some(msg.to_owned()), ..presence("anna@laptop").advert };
        Presence { advert, ..presence("anna@laptop") }
    };
    let texts = |bench: &mut Bench, start: u64| -> Vec<(u64, Vec<u32>)> {
        let texts = bench.sent.drain(..).map(|(at, _, _, packet)| {
            let texts = packet.answers.iter().filter(|record| matches!(record.data, Data::Txt(_)));
            (at - start, texts.map(|record| record.ttl).collect::<Vec<_>>())
        });
        texts.filter(|(_, ttls)| !ttls.is_empty()).collect()
    };
    bench.sent.clear();
    let start = bench.now;
    bench.mdns.announce(ServiceId(1), with("one"), at(bench.now));
    bench.run(1_500);
    assert_eq!(texts(&mut bench, start), [(0, vec![4_500]), (1_000, vec![4_500])]);
    // The repetition was half a second ago.
    bench.mdns.announce(ServiceId(1), with("two"), at(bench.now));
    bench.run(300);
    assert_eq!(texts(&mut bench, start), [(1_500, vec![4_500, 0])]);
    // Not more than one change in 1.2 s, and the last one counts.
    bench.mdns.announce(ServiceId(1), with("three"), at(bench.now));
    bench.run(100);
    bench.mdns.announce(ServiceId(1), with("four"), at(bench.now));
    bench.run(3_000);
    assert_eq!(texts(&mut bench, start), [(2_700, vec![4_500]), (3_700, vec![4_500])]);
}

#[test]
fn another_host_that_asks_asks_for_us_as_well() {
    let queries = |bench: &Bench| {
        let asks = |packet: &Packet| packet.questions.iter().any(|one| one.name == *PRESENCE);
        let to_all = |to: &Destination| *to == Destination::MulticastV4;
        bench.sent.iter().filter(|(_, _, to, packet)| to_all(to) && asks(packet)).count()
    };
    let mut alone = Bench::new(None);
    assert_eq!(queries(&alone), 4, "at 0, 1, 3, 7 s");
    alone.sent.clear();
    alone.run(20_000);
    assert_eq!(queries(&alone), 1, "at 15 s");
    let mut bench = Bench::new(None);
    bench.run(4_000);
    bench.mdns.datagram(ETH, peer(), true, &ask(&PRESENCE, kind::PTR, false).encode(true)[0], at(bench.now));
    bench.sent.clear();
    bench.run(14_000);
    assert_eq!(queries(&bench), 0);
}

#[test]
fn a_seventeenth_user_is_refused_and_all_say_goodbye() {
    let mut bench = Bench::new(None);
    for number in 2..=16 {
        assert!(bench.mdns.announce(ServiceId(number), presence(&format!("user{number}")), at(bench.now)));
    }
    assert!(!bench.mdns.announce(ServiceId(17), presence("late"), at(bench.now)));
    assert!(bench.mdns.announce(ServiceId(16), presence("user16"), at(bench.now)), "that one is there");
    bench.run(5_000);
    assert_eq!(bench.events.iter().filter(|event| matches!(event, Event::Named { .. })).count(), 16);
    bench.sent.clear();
    bench.mdns.shutdown(at(bench.now));
    bench.run(0);
    while let Some(Output::Send(one)) = bench.mdns.poll_output() {
        bench.sent.push((bench.now, one.interface, one.to, Packet::parse(&one.bytes).unwrap()));
    }
    let goodbyes = bench.sent.iter().flat_map(|(.., packet)| &packet.answers);
    assert_eq!(goodbyes.filter(|record| record.ttl == 0 && record.data.kind() == kind::PTR).count(), 16);
}

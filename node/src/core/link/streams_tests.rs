//! Streams: what is written, to which stream, and what becomes of it. *Pure.*

use super::former::FORMER;
use super::silent::{HESITATION, MOVED, STALLED};
use super::*;

const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
pub(super) const AT: SocketAddr = SocketAddr::new(HOST, 5298);

pub(super) fn pair(own: &str, peer: &str) -> Pair {
    Pair { own: Instance::new(own).unwrap(), peer: Instance::new(peer).unwrap() }
}

fn anna() -> Pair {
    pair("anna@h1", "bob@h2")
}

fn here(_: &Instance) -> Vec<SocketAddr> {
    vec![AT]
}

fn nowhere(_: &Instance) -> Vec<SocketAddr> {
    Vec::new()
}

fn acts(streams: &mut Streams) -> Vec<String> {
    let told = |act| match act {
        Act::Command(LinkCommand::Write { stream, data }) => {
            format!("write {} {}", stream.0, String::from_utf8_lossy(&data))
        }
        Act::Command(LinkCommand::Connect { stream, from, to, .. }) => {
            format!("connect {} {from} {to}", stream.0)
        }
        Act::Command(LinkCommand::Accept { stream, .. }) => format!("accept {}", stream.0),
        Act::Command(LinkCommand::Close { stream, .. }) => format!("close {}", stream.0),
        Act::Command(other) => format!("{other:?}"),
        Act::Delivered(number) => format!("delivered {number}"),
        Act::Unsent(number) => format!("unsent {number}"),
        Act::Uncertain(number) => format!("uncertain {number}"),
    };
    std::iter::from_fn(|| streams.poll()).map(told).collect()
}

fn push(streams: &mut Streams, number: u64, text: &str, now: u64) {
    streams.push(&anna(), Some(number), text.into(), now, now).unwrap();
}

/// A stream of ours with one message written at time 0.
fn open() -> Streams {
    let mut streams = Streams::default();
    push(&mut streams, 1, "one", 0);
    streams.timeout(0, here);
    assert_eq!(acts(&mut streams), ["connect 2 anna@h1 bob@h2"]);
    streams.connected(StreamId(2), AT, 0);
    assert_eq!(acts(&mut streams), ["write 2 one"]);
    streams
}

#[test]
fn the_first_message_opens_a_stream_which_is_kept() {
    let mut streams = open();
    streams.written(StreamId(2), 3, 0);
    assert_eq!(acts(&mut streams), ["delivered 1"]);
    push(&mut streams, 2, "two", 10);
    assert_eq!(acts(&mut streams), ["write 2 two"]);
    streams.written(StreamId(2), 4, 0);
    assert_eq!(acts(&mut streams), [""; 0], "half of it is not all of it");
    streams.written(StreamId(2), 6, 0);
    assert_eq!(acts(&mut streams), ["delivered 2"]);
}

#[test]
fn it_is_not_opened_before_the_other_side_had_time() {
    let mut streams = Streams::default();
    streams.push(&anna(), Some(1), b"one".into(), 1_000, 0).unwrap();
    assert_eq!(streams.next_due(), Some(1_000));
    streams.timeout(999, here);
    assert_eq!(acts(&mut streams), [""; 0]);
    streams.timeout(1_000, here);
    assert_eq!(acts(&mut streams), ["connect 2 anna@h1 bob@h2"]);
}

#[test]
fn refused_before_its_header_it_is_tried_again_more_and_more_slowly_and_then_told() {
    let mut streams = Streams::default();
    push(&mut streams, 1, "one", 0);
    let (mut now, mut tries) = (0, Vec::new());
    while now < 200_000 {
        streams.timeout(now, here);
        for act in acts(&mut streams) {
            if let Some(stream) = act.strip_prefix("connect ") {
                tries.push(now);
                let stream = stream.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(streams.ended(StreamId(stream), LinkEnding::BeforeHeader, now), None);
            } else {
                assert_eq!((act.as_str(), now), ("unsent 1", LIFE));
            }
        }
        now = streams.next_due().unwrap_or(200_000);
    }
    assert_eq!(tries[..6], [0, 500, 1_500, 3_500, 7_500, 11_500]);
    assert_eq!(tries[7] - tries[6], LONGEST_PAUSE);
    assert!(streams.lines.is_empty() && streams.by_stream.is_empty());
}

#[test]
fn what_was_written_is_not_written_again() {
    let mut streams = open();
    push(&mut streams, 2, "two", 1);
    assert_eq!(acts(&mut streams), [""; 0], "it is not known yet whether the stream works");
    streams.written(StreamId(2), 3, 0);
    assert_eq!(acts(&mut streams), ["delivered 1", "write 2 two"]);
    streams.written(StreamId(2), 4, 0);
    assert!(streams.ended(StreamId(2), LinkEnding::Lost, 2).is_some(), "the peer is looked after");
    assert_eq!(acts(&mut streams), ["uncertain 2"]);
    push(&mut streams, 3, "three", 3);
    streams.timeout(600, here);
    assert_eq!(acts(&mut streams), ["connect 4 anna@h1 bob@h2"]);
    streams.connected(StreamId(4), AT, 601);
    assert_eq!(acts(&mut streams), ["write 4 three"]);
}

#[test]
fn what_was_not_written_goes_to_the_next_stream() {
    let mut streams = open();
    let big = "x".repeat(60_000);
    for number in 2..6 {
        push(&mut streams, number, &big, 1);
    }
    streams.written(StreamId(2), 3, 2);
    assert_eq!(acts(&mut streams).len(), 3, "one delivered, two written: the window is full");
    streams.ended(StreamId(2), LinkEnding::Closed, 2);
    assert_eq!(acts(&mut streams), ["uncertain 2", "uncertain 3"]);
    streams.timeout(502, here);
    streams.connected(StreamId(4), AT, 503);
    assert_eq!(acts(&mut streams).len(), 2, "one connect, one write: it may not work either");
    streams.written(StreamId(4), 60_000, 0);
    assert_eq!(acts(&mut streams).len(), 2, "delivered, and written");
    streams.ended(StreamId(4), LinkEnding::Closed, 2);
    assert_eq!(acts(&mut streams), ["uncertain 5"]);
}

#[test]
fn nothing_waits_longer_than_its_life() {
    let mut streams = open();
    assert_eq!(streams.timeout(STALLED, here).len(), 1, "somebody whose TCP takes nothing is suspect");
    assert_eq!((acts(&mut streams), streams.next_due()), (Vec::new(), Some(LIFE)));
    streams.timeout(LIFE, here);
    assert_eq!(acts(&mut streams), ["close 2", "uncertain 1"]);
    assert!(streams.lines.is_empty() && streams.by_stream.is_empty() && streams.former.is_empty());
    let mut streams = open();
    streams.timeout(LIFE - 1, nowhere);
    assert_eq!(streams.timeout(LIFE, nowhere).len(), 1, "with no other way it is waited for");
    assert_eq!(acts(&mut streams), ["close 2", "uncertain 1"]);
    let mut streams = Streams::default();
    push(&mut streams, 1, "one", 0);
    streams.timeout(0, nowhere);
    streams.timeout(LIFE, nowhere);
    assert_eq!(acts(&mut streams), ["unsent 1"]);
}

#[test]
fn who_leaves_takes_the_streams_along() {
    let mut streams = open();
    let big = "x".repeat(ITEM_BYTES);
    for number in 2..5 {
        push(&mut streams, number, &big, 1);
    }
    streams.gone(&anna().peer);
    assert_eq!(acts(&mut streams), ["close 2", "uncertain 1", "unsent 2", "unsent 3", "unsent 4"]);
    streams.written(StreamId(2), 100, 0);
    assert_eq!(streams.heard(StreamId(2), 1), None);
    assert_eq!(acts(&mut streams), [""; 0]);
}

#[test]
fn a_user_who_leaves_lets_what_was_written_arrive() {
    let mut streams = open();
    streams.withdrawn(&anna().own);
    assert_eq!(acts(&mut streams), [""; 0]);
    streams.written(StreamId(2), 3, 0);
    assert_eq!(acts(&mut streams), ["delivered 1", "close 2"]);
    assert!(streams.lines.is_empty());
}

#[test]
fn an_accepted_stream_is_used_both_ways_and_a_second_one_replaces_it() {
    let mut streams = Streams::default();
    streams.accepted(&anna(), StreamId(1), AT, 0);
    assert_eq!(acts(&mut streams), ["accept 1"]);
    assert_eq!(streams.heard(StreamId(1), 0), Some(anna()));
    push(&mut streams, 1, "one", 5);
    assert_eq!(acts(&mut streams), ["write 1 one"]);
    streams.accepted(&anna(), StreamId(3), AT, 10);
    assert_eq!(acts(&mut streams), ["accept 3"]);
    assert_eq!(streams.heard(StreamId(3), 11), Some(anna()));
    assert_eq!(streams.heard(StreamId(1), 11), Some(anna()), "its last words count");
    push(&mut streams, 2, "two", 12);
    streams.written(StreamId(1), 3, 13);
    assert_eq!(acts(&mut streams), ["write 3 two", "delivered 1", "close 1"]);
    assert_eq!(streams.heard(StreamId(1), 14), None);
    streams.written(StreamId(3), 3, 15);
    streams.accepted(&anna(), StreamId(5), AT, 20);
    assert_eq!(acts(&mut streams), ["delivered 2", "close 3", "accept 5"], "with nothing on its way it ends");
}

#[test]
fn what_is_on_its_way_in_a_former_stream_is_uncertain_when_that_is_lost() {
    for end in [
        |streams: &mut Streams| drop(streams.ended(StreamId(2), LinkEnding::Lost, 1)),
        |streams: &mut Streams| streams.gone(&anna().peer),
        |streams: &mut Streams| drop(streams.timeout(LIFE, here)),
    ] {
        let mut streams = open();
        streams.accepted(&anna(), StreamId(1), AT, 1);
        assert_eq!(acts(&mut streams), ["accept 1"]);
        end(&mut streams);
        let told = acts(&mut streams);
        assert!(told.contains(&"uncertain 1".to_owned()) && streams.former.is_empty(), "{told:?}");
    }
}

#[test]
fn former_streams_are_few() {
    let mut streams = open();
    for number in 0..2 * FORMER as u64 {
        streams.accepted(&anna(), StreamId(2 * number + 1), AT, 1);
        push(&mut streams, number + 2, "x", 1);
    }
    assert_eq!(streams.former.len(), FORMER);
    let uncertain = acts(&mut streams).iter().filter(|act| act.starts_with("uncertain")).count();
    assert_eq!(uncertain, FORMER, "no room for these");
    assert_eq!(streams.by_stream.len(), 1);
}

#[test]
fn nothing_is_written_behind_what_is_not_acknowledged_for_long() {
    let mut streams = open();
    streams.written(StreamId(2), 3, 0);
    push(&mut streams, 2, "two", 0);
    assert_eq!(acts(&mut streams), ["delivered 1", "write 2 two"]);
    push(&mut streams, 3, "three", HESITATION - 1);
    assert_eq!(acts(&mut streams), ["write 2 three"], "it may still come");
    push(&mut streams, 4, "four", HESITATION);
    push(&mut streams, 5, "five", HESITATION + 500);
    assert_eq!(acts(&mut streams), [""; 0]);
    streams.written(StreamId(2), 6, 5_000);
    assert_eq!(acts(&mut streams), ["delivered 2", "write 2 four", "write 2 five"]);
    streams.written(StreamId(2), 11, 5_500);
    assert_eq!(acts(&mut streams), ["delivered 3"]);
    streams.timeout(5_500 + STALLED, here);
    assert_eq!(acts(&mut streams), [""; 0], "nothing waits for another stream");
    streams.ended(StreamId(2), LinkEnding::Lost, 5_502 + STALLED);
    assert_eq!(acts(&mut streams), ["uncertain 4", "uncertain 5"]);
}

#[test]
fn of_two_streams_opened_at_once_both_sides_keep_the_same() {
    // Of the lesser name: ours stays, theirs waits.
    let mut streams = Streams::default();
    push(&mut streams, 1, "one", 0);
    streams.timeout(0, here);
    streams.accepted(&anna(), StreamId(1), AT, 1);
    assert_eq!(acts(&mut streams), ["connect 2 anna@h1 bob@h2"]);
    assert_eq!(streams.heard(StreamId(1), 1), None);
    streams.connected(StreamId(2), AT, 2);
    assert_eq!(acts(&mut streams), ["close 1", "write 2 one"]);
    // On the other side theirs stays.
    let (mut streams, bob) = (Streams::default(), pair("bob@h2", "anna@h1"));
    streams.push(&bob, Some(1), b"one".into(), 0, 0).unwrap();
    streams.timeout(0, here);
    streams.accepted(&bob, StreamId(1), AT, 1);
    assert_eq!(acts(&mut streams), ["connect 2 bob@h2 anna@h1", "close 2", "accept 1", "write 1 one"]);
    // If ours fails, theirs is taken.
    let mut streams = Streams::default();
    push(&mut streams, 1, "one", 0);
    streams.timeout(0, here);
    streams.accepted(&anna(), StreamId(1), AT, 1);
    streams.ended(StreamId(2), LinkEnding::BeforeHeader, 2);
    assert_eq!(acts(&mut streams), ["connect 2 anna@h1 bob@h2", "accept 1", "write 1 one"]);
}

#[test]
fn an_unused_stream_is_closed_after_ten_minutes() {
    let mut streams = open();
    streams.written(StreamId(2), 3, 0);
    streams.heard(StreamId(2), 1_000);
    acts(&mut streams);
    assert_eq!(streams.next_due(), Some(1_000 + IDLE));
    streams.timeout(1_000 + IDLE, here);
    assert_eq!(acts(&mut streams), ["close 2"]);
}

/// Two ways to the same machine.
pub(super) fn two_ways(_: &Instance) -> Vec<SocketAddr> {
    vec![AT, "[fe80::2%3]:5298".parse().unwrap()]
}

#[track_caller]
fn connects_to(streams: &mut Streams, expected: &str) -> StreamId {
    let Some(Act::Command(LinkCommand::Connect { stream, addresses, .. })) = streams.poll() else {
        panic!("no attempt");
    };
    assert_eq!(addresses[0], expected.parse().unwrap());
    assert_eq!(addresses.len(), 2, "the others are tried too");
    stream
}

#[test]
fn each_attempt_starts_with_another_address() {
    for how in [LinkEnding::BeforeHeader, LinkEnding::Refused, LinkEnding::Lost] {
        let mut streams = Streams::default();
        push(&mut streams, 1, "one", 0);
        for expected in ["10.0.0.2:5298", "[fe80::2%3]:5298", "10.0.0.2:5298"] {
            let now = streams.next_due().unwrap();
            streams.timeout(now, two_ways);
            let stream = connects_to(&mut streams, expected);
            streams.ended(stream, how, now);
        }
    }
}

#[test]
fn a_silent_stream_makes_room_for_another_address() {
    let mut streams = open();
    let big = "x".repeat(ITEM_BYTES);
    for number in 2..5 {
        push(&mut streams, number, &big, 900);
    }
    streams.written(StreamId(2), 3, 2_000);
    assert_eq!(acts(&mut streams).len(), 3, "delivered, and two written: the window is full");
    assert_eq!(streams.next_due(), Some(2_000 + STALLED));
    assert_eq!(streams.timeout(2_000 + STALLED - 1, two_ways), []);
    assert_eq!(streams.timeout(2_000 + STALLED, two_ways), [anna().peer]);
    let stream = connects_to(&mut streams, "[fe80::2%3]:5298");
    streams.connected(stream, two_ways(&anna().peer)[1], 12_001);
    assert_eq!(acts(&mut streams).len(), 1, "only what had not been written");
    streams.written(StreamId(2), 3 + ITEM_BYTES as u64, 12_500);
    assert_eq!(acts(&mut streams), ["delivered 2"], "it came all the same");
    streams.ended(StreamId(2), LinkEnding::Closed, 12_600);
    assert_eq!(acts(&mut streams), ["uncertain 3"]);
    streams.written(stream, ITEM_BYTES as u64, 12_700);
    assert_eq!(acts(&mut streams), ["delivered 4"]);
}

#[test]
fn a_stream_to_an_address_that_is_gone_ends() {
    let other = two_ways(&anna().peer)[1];
    let mut streams = open();
    streams.moved(&anna().peer, &[AT, other], 500);
    assert_eq!(streams.next_due(), Some(STALLED), "the address is still there");
    streams.moved(&anna().peer, &[other], 1_000);
    assert_eq!(acts(&mut streams), [""; 0], "what is on its way may still arrive");
    push(&mut streams, 2, "two", 1_500);
    streams.timeout(1_000 + MOVED, |_| vec![other]);
    assert_eq!(acts(&mut streams), ["connect 4 anna@h1 bob@h2"]);
    streams.connected(StreamId(4), other, 3_100);
    assert_eq!(acts(&mut streams), ["write 4 two"]);
    let mut streams = open();
    streams.written(StreamId(2), 3, 1);
    streams.moved(&anna().peer, &[other], 1_000);
    assert_eq!(acts(&mut streams), ["delivered 1", "close 2"], "at once when nothing is on its way");
    assert!(streams.lines.is_empty() && streams.by_stream.is_empty());
}

#[test]
fn everything_is_bounded() {
    let mut streams = Streams::default();
    for number in 0..QUEUE as u64 {
        push(&mut streams, number, "x", 0);
    }
    assert_eq!(streams.push(&anna(), None, vec![0], 0, 0), Err(Full));
    let other = pair("anna@h1", "eve@h3");
    assert_eq!(streams.push(&other, None, vec![0; ITEM_BYTES + 1], 0, 0), Err(Full));
    let mut bytes = 0;
    for number in 0..200 {
        let pair = pair("anna@h1", &format!("n{number}"));
        bytes += streams.push(&pair, None, vec![0; ITEM_BYTES], 0, 0).map_or(0, |()| ITEM_BYTES);
    }
    assert!(bytes <= WAITING_BYTES && bytes > WAITING_BYTES - 2 * ITEM_BYTES);
    let mut streams = Streams::default();
    for number in 0..1_000u64 {
        let (pair, host) =
            (pair("anna@h1", &format!("n{number}")), IpAddr::from([10, 0, 1, (number % 9) as u8]));
        if streams.takes(&pair, host) {
            streams.accepted(&pair, StreamId(2 * number + 1), SocketAddr::new(host, 5298), number);
        }
    }
    assert_eq!(streams.open(), PAIRS);
    let one_host = (0..100u64).filter(|number| {
        let pair = pair("anna@h1", &format!("m{number}"));
        let takes = streams.takes(&pair, HOST);
        if takes {
            streams.accepted(&pair, StreamId(10_001 + 2 * number), AT, 2_000);
        }
        takes
    });
    assert_eq!(one_host.count(), PER_HOST);
    assert_eq!(streams.by_stream.len(), PAIRS);
}

//! Streams, whatever happens: each message has one fate. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{AT, pair, two_ways};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push(bool, usize),
    Accept(bool),
    Connected,
    Written(u64),
    Ended(u8),
    Gone,
    Moved(bool),
    Withdrawn,
    Wait(u64),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1usize..90_000).prop_map(|(peer, size)| Step::Push(peer, size)),
        1 => any::<bool>().prop_map(Step::Accept),
        3 => Just(Step::Connected),
        3 => (0u64..200_000).prop_map(Step::Written),
        1 => (0u8..4).prop_map(Step::Ended),
        1 => Just(Step::Gone),
        1 => any::<bool>().prop_map(Step::Moved),
        1 => Just(Step::Withdrawn),
        3 => (0u64..40_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Each message that was taken has exactly one fate, within its life; what is called unsent was never written, and
    /// nothing is written twice.
    #[test]
    fn every_message_has_one_fate(steps in proptest::collection::vec(a_step(), 0..60)) {
        let mut streams = Streams::default();
        let peers = [pair("m@h", "a@h"), pair("m@h", "z@h")];
        let (mut now, mut number, mut accepted) = (0, 0u64, 1);
        let mut taken = BTreeMap::<u64, u64>::new();
        let mut given = BTreeMap::<u64, u64>::new();
        let mut live = BTreeSet::<u64>::new();
        for step in steps.into_iter().chain([Step::Wait(LIFE)]) {
            match step {
                Step::Push(peer, size) => {
                    number += 1;
                    let mut data = number.to_be_bytes().to_vec();
                    data.resize(size.max(8), 0);
                    if streams.push(&peers[usize::from(peer)], Some(number), data, now, now).is_ok() {
                        taken.insert(number, now);
                    }
                }
                Step::Accept(peer) => {
                    accepted += 2;
                    live.insert(accepted);
                    streams.accepted(&peers[usize::from(peer)], StreamId(accepted), AT, now);
                }
                Step::Connected => for stream in live.iter().copied().collect::<Vec<_>>() {
                    streams.connected(StreamId(stream), AT, now);
                },
                Step::Written(bytes) => for stream in live.iter().copied().collect::<Vec<_>>() {
                    streams.written(StreamId(stream), bytes, now);
                },
                Step::Ended(how) => if let Some(stream) = live.pop_first() {
                    let how = [LinkEnding::Closed, LinkEnding::BeforeHeader, LinkEnding::Refused, LinkEnding::Lost]
                        [usize::from(how)];
                    streams.ended(StreamId(stream), how, now);
                },
                Step::Gone => streams.gone(&peers[0].peer),
                Step::Moved(away) => {
                    let all = two_ways(&peers[0].peer);
                    streams.moved(&peers[0].peer, if away { &all[1..] } else { &all }, now);
                }
                Step::Withdrawn => streams.withdrawn(&peers[0].own),
                Step::Wait(time) => {
                    let end = now + time;
                    while let Some(due) = streams.next_due().filter(|due| *due <= end) {
                        prop_assert!(due >= now, "time goes on");
                        now = due;
                        streams.timeout(now, two_ways);
                    }
                    now = end;
                    streams.timeout(now, two_ways);
                }
            }
            while let Some(act) = streams.poll() {
                match act {
                    Act::Command(LinkCommand::Connect { stream, .. }) => { live.insert(stream.0); }
                    Act::Command(LinkCommand::Close { stream, .. }) => { live.remove(&stream.0); }
                    Act::Command(LinkCommand::Write { stream, data }) => {
                        prop_assert!(live.contains(&stream.0), "written to a stream that is no more");
                        let number = u64::from_be_bytes(data[..8].try_into().unwrap());
                        prop_assert!(given.insert(number, stream.0).is_none(), "written twice");
                    }
                    Act::Command(_) => {}
                    Act::Delivered(number) => {
                        prop_assert!(given.contains_key(&number));
                        prop_assert!(taken.remove(&number).is_some());
                    }
                    Act::Unsent(number) => {
                        prop_assert!(!given.contains_key(&number));
                        prop_assert!(taken.remove(&number).is_some());
                    }
                    Act::Uncertain(number) => {
                        prop_assert!(given.contains_key(&number));
                        prop_assert!(taken.remove(&number).is_some());
                    }
                }
            }
            prop_assert!(taken.values().all(|since| since + LIFE > now), "nobody waits longer");
        }
        prop_assert!(taken.is_empty(), "each sender was told: {taken:?}");
    }
}

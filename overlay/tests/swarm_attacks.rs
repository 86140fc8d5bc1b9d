//! Nodes that lie, pretend, crowd and listen, among real swarms: what they can do is bounded, and honest requests still
//! arrive.
#![cfg(feature = "swarm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod crowd_support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crosstalk_overlay::core::Outgoing;
use crosstalk_overlay::dht::{Answer, Key, Position, Query, Value};
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::id::{MessageId, NodeId, UserId};
use crosstalk_overlay::keys::DeviceKey;
use crosstalk_overlay::record::{Context, NoCertificates, PresenceSession, RevocationSet, Says, Side};
use crosstalk_overlay::time::TrustedTime;
use crowd_support::crowd::{Crowd, memory, until};
use crowd_support::member::*;
use crowd_support::pump::{Store, stanza};
use crowd_support::rogue::{Lies, Rogue, ground, keypair, node_id};

/// An address of the attacker's: machines in as many networks as there are numbers.
fn lair(number: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(45, number as u8, 7, (number >> 8) as u8 + 1).into(), 4_001)
}

fn everybody(crowd: &Crowd) -> Vec<u32> {
    crowd.members.keys().copied().collect()
}

fn start(crowd: &Crowd, number: usize, seed: [u8; 32], lies: Lies) {
    let rogue = Rogue { seed, at: lair(number), lies, names: Vec::new(), victims: everybody(crowd) };
    rogue.start(&crowd.runtimes[number % 2], &crowd.air);
}

/// Everybody looks for the record of somebody, as for a message and as for `crosstalk lookup`; how many find it both times.
async fn found(crowd: &Crowd, whose: u32) -> usize {
    let mut found = 0;
    for (number, member) in &crowd.members {
        let key = Key::user(&user_of(whose));
        let mut both = true;
        for query in [Query::Get(key), Query::Walk(key)] {
            let (answer, trace) = member.ask(query.clone()).await;
            let there = matches!(&answer, Answer::Values(values) if !values.is_empty());
            if !there {
                println!("member {number} does not find user {whose} by {query:?}: {trace:?}");
            }
            both &= there;
        }
        found += usize::from(both);
    }
    found
}

/// Until a user who has just come is in, and so many honest nodes hold the record beside its own: that liars say they hold
/// it is no sign that it has been told.
async fn until_in(crowd: &Crowd, whose: u32, copies: usize) {
    crowd.until_in(1).await;
    let key = *Key::user(&user_of(whose)).as_bytes();
    until("honest nodes hold the record", Duration::from_secs(90), async || {
        let mut holders = 0;
        for (_, member) in crowd.members.iter().filter(|(number, _)| **number != whose) {
            let holds = member.with(move |host, _| host.held.keys().any(|(_, held)| *held == key)).await;
            holders += usize::from(holds);
        }
        holders >= copies
    })
    .await;
}

/// One network of an attacker's.
fn den(number: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(45, 200, 9, number as u8 + 1).into(), 4_001)
}

/// Until look-ups around a key end among these.
async fn until_met(crowd: &Crowd, key: Key, rogues: &BTreeSet<NodeId>) {
    until("the rogues are known", Duration::from_secs(90), async || {
        for member in crowd.members.values().take(5) {
            let (answer, _) = member.ask(Query::Closest(key)).await;
            let Answer::Nodes(nodes) = answer else { return false };
            if nodes.iter().filter(|(node, _)| rogues.contains(node)).count() < 6 {
                return false;
            }
        }
        true
    })
    .await;
}

/// A quarter of all nodes acknowledges what it does not keep, answers with somebody else's record, and names nodes that are
/// not there as the closest.
#[tokio::test]
async fn liars_among_the_holders_hide_nobody() {
    let mut crowd = Crowd::settled(36, Ways::default()).await;
    let foreign = crowd.members[&0].with(|host, _| host.held.values().next().cloned()).await;
    for number in 0..12 {
        let names = (0..20).map(|fake| {
            let peer = keypair(seed(number * 100 + fake, 0x66)).public().to_peer_id();
            (peer, format!("/ip4/46.1.{number}.{fake}/tcp/4001").parse().unwrap())
        });
        let lies = Lies { value: (number % 2 == 0).then(|| foreign.clone()).flatten(), ..Lies::default() };
        let rogue = Rogue {
            seed: seed(number, 0x65),
            at: lair(number as usize),
            lies,
            names: names.collect(),
            victims: everybody(&crowd),
        };
        rogue.start(&crowd.runtimes[number as usize % 2], &crowd.air);
    }
    // As many know them as have room for one more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Users who come now have to be stored among liars.
    for number in 100..104 {
        crowd.join(number, Store::default());
    }
    for whose in 100..104 {
        until_in(&crowd, whose, 3).await;
    }
    for whose in [1, 5, 100, 101, 102, 103] {
        assert_eq!(found(&crowd, whose).await, crowd.members.len(), "user {whose}");
    }
}

/// Twenty identities that lie closer to somebody's key than any honest node could.
#[tokio::test]
async fn who_surrounds_a_key_does_not_hide_it() {
    let mut crowd = Crowd::settled(40, Ways::default()).await;
    let (victim, puts) = (200, Arc::<AtomicUsize>::default());
    let key = Key::user(&user_of(victim));
    let closest = |number: &u32| key.position().distance(&Position::of_node(&node_of(*number)));
    let nearest = crowd.members.keys().map(closest).min().unwrap();
    let mut rogues = BTreeSet::new();
    for (number, seed) in ground(&key, nearest, 20).into_iter().enumerate() {
        rogues.insert(node_id(&keypair(seed)));
        start(&crowd, number, seed, Lies { puts: Arc::clone(&puts), ..Lies::default() });
    }
    until_met(&crowd, key, &rogues).await;
    crowd.join(victim, Store::default());
    until_in(&crowd, victim, 3).await;
    let honest = crowd.members.len();
    let found = found(&crowd, victim).await;
    println!("surrounded by 20: found by {found} of {honest}; {} copies thrown away", puts.load(Relaxed));
    assert!(puts.load(Relaxed) >= 6, "they are asked to hold it: the attack works as an attack");
    assert_eq!(found, honest);
}

/// Sixty, all in one network of the attacker's: more than are asked, if they were asked as they come.
#[tokio::test]
async fn who_has_one_network_and_many_identities_hides_nothing() {
    let mut crowd = Crowd::settled(40, Ways::default()).await;
    let victim = 200;
    let key = Key::user(&user_of(victim));
    let closest = |number: &u32| key.position().distance(&Position::of_node(&node_of(*number)));
    let nearest = crowd.members.keys().map(closest).min().unwrap();
    let seeds = ground(&key, nearest, 60);
    let names: Vec<_> = (0..60)
        .map(|number| {
            let at = den(number);
            let way = format!("/ip4/{}/tcp/{}", at.ip(), at.port()).parse().unwrap();
            (keypair(seeds[number]).public().to_peer_id(), way)
        })
        .collect();
    let mut rogues = BTreeSet::new();
    for (number, seed) in seeds.into_iter().enumerate() {
        rogues.insert(node_id(&keypair(seed)));
        // Each names others, so that all of them become known to whoever asks.
        let named = (1..=15).map(|next| names[(number + next) % names.len()].clone());
        let (lies, names) = (Lies::default(), named.collect());
        let rogue = Rogue { seed, at: den(number), lies, names, victims: everybody(&crowd) };
        rogue.start(&crowd.runtimes[number % 2], &crowd.air);
    }
    until_met(&crowd, key, &rogues).await;
    for member in crowd.members.values() {
        let known = member.with(|host, _| host.known).await;
        assert!(known <= 39 + 10, "ten of a network: {known} known");
    }
    crowd.join(victim, Store::default());
    until_in(&crowd, victim, 3).await;
    assert_eq!(found(&crowd, victim).await, crowd.members.len());
}

/// A hundred identities in one network: two of a bucket, ten of the table, and they keep nobody else out.
#[tokio::test]
async fn of_one_network_few_enter_a_table() {
    let mut crowd = Crowd::settled(12, Ways::default()).await;
    let storm: Vec<_> = (0..100)
        .map(|number| {
            let (seed, lies) = (seed(number as u32, 0x78), Lies::default());
            let rogue = Rogue { seed, at: den(number), lies, names: Vec::new(), victims: everybody(&crowd) };
            rogue.start(&crowd.runtimes[number % 2], &crowd.air)
        })
        .collect();
    // They enter together, every five seconds.
    until("some are in", Duration::from_secs(60), async || {
        let mut in_ = true;
        for member in crowd.members.values() {
            in_ &= member.with(|host, _| host.known > 11 + 5).await;
        }
        in_
    })
    .await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    for member in crowd.members.values() {
        let known = member.with(|host, _| host.known).await;
        assert!(known <= 11 + 10, "{known} known");
    }
    crowd.join(50, Store::default());
    until_in(&crowd, 50, 1).await;
    assert_eq!(found(&crowd, 50).await, 13);
    storm.iter().for_each(|rogue| rogue.abort());
}

/// A thousand invented identities come to one node, and each puts a record of a user that it has invented.
#[tokio::test]
async fn a_thousand_invented_identities_displace_nobody() {
    let crowd = Crowd::settled(24, Ways::default()).await;
    let empty = memory();
    for wave in 0..20 {
        let storm: Vec<_> = (0..50)
            .map(|one| {
                let number = wave * 50 + one;
                let rogue = Rogue {
                    seed: seed(number as u32, 0x77),
                    at: lair(1_000 + number),
                    lies: Lies::default(),
                    names: Vec::new(),
                    victims: vec![0],
                };
                rogue.start(&crowd.runtimes[one % 2], &crowd.air)
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(400)).await;
        storm.iter().for_each(|rogue| rogue.abort());
    }
    let known = crowd.members[&0].with(|host, _| host.known).await;
    println!(
        "after 1,000 identities: {known} nodes known; {} kB more in all",
        memory().saturating_sub(empty)
    );
    assert!(known <= 8 * 24, "buckets of 8");
    for whose in 0..24 {
        assert_eq!(found(&crowd, whose).await, 24, "user {whose}");
    }
}

/// Two users become contacts, come and go, write to each other and see each other's presence. Whatever any other node holds,
/// of the table and of mail, shows neither that they have to do with each other, nor whether they are there.
#[tokio::test]
async fn what_holders_have_tells_neither_who_knows_whom_nor_who_is_there() {
    let mut crowd = Crowd::settled(20, Ways::default()).await;
    let (anna, ben) = (3, 4);
    let records = |held: &BTreeSet<Held>| {
        let of_them = |held: &&Held| {
            held.what == "table"
                && [anna, ben].iter().any(|who| contains(&held.bytes, user_of(*who).as_bytes()))
        };
        held.iter().filter(of_them).map(|held| held.bytes.clone()).collect::<BTreeSet<_>>()
    };
    let strangers = records(&dump(&crowd, &[anna, ben]).await);
    assert_eq!(strangers.len(), 2, "one of each");
    for (who, friend, says) in [(anna, ben, Says::Request), (ben, anna, Says::Grant)] {
        ask_or_grant(&crowd, who, friend, says).await;
    }
    for (who, friend) in [(anna, ben), (ben, anna)] {
        let payload = vec![b'x'; 10 * who as usize];
        let session = PresenceSession { resource: "desk".into(), priority: 5, since: wall(), payload };
        let shows = move |host: &mut Host, now| {
            let (user, friend) = (user_of(who), user_of(friend));
            host.core.keep(&friend);
            host.core.set_presence(&user, vec![session], vec![friend], now);
            host.core.send(letter(who, user, friend, 7), now).unwrap();
        };
        crowd.members[&who].with(shows).await;
    }
    until("both tell each other where they are", Duration::from_secs(120), async || {
        let mut done = true;
        for who in [anna, ben] {
            let state = crowd.members[&who].with(|host, _| (host.store.inbox.len(), host.store.outbox.len()));
            done &= state.await == (2, 0);
        }
        done && presences(&dump(&crowd, &[anna, ben]).await).len() >= 2
    })
    .await;
    let there = dump(&crowd, &[anna, ben]).await;
    check(&there, anna, ben);
    assert_eq!(records(&there), strangers, "logging in, and having contacts, changes no user's record");
    let sizes: BTreeSet<usize> = presences(&there).iter().map(|bytes| bytes.len()).collect();
    assert_eq!(sizes.len(), 1, "of one size, whatever they say: {sizes:?}");

    // Anna logs out, and her node stays; Ben's is gone. His mail stays, and nothing else changes for whoever does not know them.
    let logs_out = move |host: &mut Host, now| {
        host.core.set_presence(&user_of(anna), Vec::new(), vec![user_of(ben)], now);
    };
    crowd.members[&anna].with(logs_out).await;
    crowd.leave(ben, true).await;
    for number in 0..3 {
        let write = move |host: &mut Host, now| {
            let text = 10_u64.pow(5 * number);
            host.core.send(letter(100 + number, user_of(anna), user_of(ben), text), now).unwrap();
        };
        crowd.members[&anna].with(write).await;
    }
    ask_or_grant(&crowd, anna, ben, Says::Withdraw).await;
    // Beside them may wait what her node has for his: tokens, where he finds her.
    until("four wait", Duration::from_secs(120), async || crowd.items_for(ben).await >= 4).await;
    let gone = dump(&crowd, &[anna, ben]).await;
    check(&gone, anna, ben);
    let mail: BTreeSet<usize> =
        gone.iter().filter(|held| held.what == "mail").map(|held| held.item).collect();
    let smallest = *mail.first().unwrap();
    let fits = |class: usize| mail.iter().all(|size| (class + size - smallest).is_power_of_two());
    assert!([256, 512, 1_024].into_iter().any(fits), "of a few sizes, whatever they say: {mail:?}");
    assert_eq!(records(&gone), strangers, "a user's record does not tell whether it is there");
}

async fn ask_or_grant(crowd: &Crowd, who: u32, friend: u32, says: Says) {
    let sends = move |host: &mut Host, now| {
        let (user, friend) = (user_of(who), user_of(friend));
        let side = if says == Says::Grant { Side::Publisher } else { Side::Watcher };
        let signed = host.core.sign_contact(&user, &friend, side, says, now).unwrap();
        let content = Content::Contact(signed.bytes().to_vec());
        let id = MessageId::from_bytes(u128::from(1_000 + who + 10 * says as u32).to_be_bytes());
        host.core.send(Outgoing { id, from: user, to: friend, content, expires: None }, now).unwrap();
    };
    crowd.members[&who].with(sends).await;
}

fn letter(number: u32, from: UserId, to: UserId, text: u64) -> Outgoing {
    let id = MessageId::from_bytes(u128::from(number).to_be_bytes());
    Outgoing { id, from, to, content: stanza(text), expires: None }
}

/// Something that a holder has: in memory and, as it is, on its disk.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    what: &'static str,
    bytes: Vec<u8>,
    /// Bytes of the item that the mail is.
    item: usize,
}

/// All that all nodes hold for others, but these.
async fn dump(crowd: &Crowd, but: &[u32]) -> BTreeSet<Held> {
    let mut all = BTreeSet::new();
    for (_, member) in crowd.members.iter().filter(|(number, _)| !but.contains(number)) {
        let held = member.with(|host, _| {
            let value = |value: &Vec<u8>| Held { what: "table", bytes: value.clone(), item: 0 };
            let table = host.held.values().map(value);
            let mail = host.store.mail.values().map(|mail| Held {
                what: "mail",
                bytes: prost::Message::encode_to_vec(mail),
                item: mail.mailbox.len() + mail.item.len(),
            });
            let tokens = host.store.tokens.values().map(prost::Message::encode_to_vec);
            let tokens = tokens.map(|bytes| Held { what: "token", bytes, item: 0 });
            table.chain(mail).chain(tokens).collect::<Vec<_>>()
        });
        all.extend(held.await);
    }
    all
}

/// Values of the table that are sealed presence: fields 1 (version) and 4.
fn presences(held: &BTreeSet<Held>) -> Vec<&[u8]> {
    let values = held.iter().filter(|held| held.what == "table").map(|held| &held.bytes[..]);
    values.filter(|bytes| bytes.starts_with(&[0x08, 0x01, 0x22])).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Nothing names both, sealed presence names nobody, its key stands nowhere else, and mail names none but whose it is.
fn check(held: &BTreeSet<Held>, one: u32, other: u32) {
    let ids = |number: u32| {
        let device = DeviceKey::from_seed(seed(number, 2)).id();
        [*user_of(number).as_bytes(), *device.as_bytes(), *node_of(number).as_bytes()]
    };
    let names = |bytes: &[u8], who: u32| ids(who).iter().any(|id| contains(bytes, id));
    for Held { what, bytes, .. } in held {
        assert!(!(names(bytes, one) && names(bytes, other)), "{what}: who knows whom");
        for who in [one, other] {
            let SocketAddr::V4(at) = address_of(who) else { panic!("IPv4") };
            let (node, text) = (node_of(who), at.ip().to_string());
            for place in [&node.as_bytes()[..], &at.ip().octets(), text.as_bytes()] {
                assert!(!contains(bytes, place), "{what}: where a user is");
            }
        }
    }
    let revocations = RevocationSet::default();
    let time = TrustedTime::certain(wall());
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: true };
    for presence in presences(held) {
        assert!(!names(presence, one) && !names(presence, other), "whose presence it is");
        let Ok(Value::Presence(sealed)) = Value::read(presence, &context) else { panic!("no presence") };
        let elsewhere = held
            .iter()
            .filter(|held| held.bytes != presence && contains(&held.bytes, sealed.presence.as_bytes()));
        let newer = |held: &&Held| matches!(Value::read(&held.bytes, &context), Ok(Value::Presence(_)));
        assert!(elsewhere.clone().all(|held| newer(&held)), "what would tell whose key that is");
    }
}

//! Peers of whole swarms that say on their links what no honest node says: deposits, envelopes and records that are forged,
//! replayed, expired, future-dated, oversize or too many. What others hold of it is bounded, and honest mail arrives.
#![cfg(feature = "swarm")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod crowd_support;

use std::collections::BTreeSet;
use std::time::Duration;

use crosstalk_overlay::core::{Limits, Outgoing, Reach};
use crosstalk_overlay::envelope::Envelope;
use crosstalk_overlay::id::{DeviceId, MessageId};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::mailbox::work::{Search, bits_of};
use crosstalk_overlay::mailbox::{Answer, Bounds, Item, Kind, Offer, item_id};
use crosstalk_overlay::record::*;
use crosstalk_overlay::seal::Sealed;
use crosstalk_overlay::time::{DAY, Hlc};
use crosstalk_overlay::wire::{Frame, UserFrame, decode, encode};
use crowd_support::crowd::{Crowd, until};
use crowd_support::member::*;
use crowd_support::pump::{Store, stanza};

const ANNA: u32 = 0;
const BEN: u32 = 1;
const LONG: Duration = Duration::from_secs(120);
/// A mailbox, and a node, hold so many items; strangers three quarters.
const MAILBOX: usize = 64;
const NODE: usize = 96;
const BITS: u32 = 6;

fn ways() -> Ways {
    let mailbox = Bounds {
        mailbox_items: MAILBOX,
        items: NODE,
        mailbox_bytes: 256 << 10,
        bits: BITS,
        ..Bounds::default()
    };
    Ways { limits: Limits { mailbox, ..Limits::default() }, ..Ways::default() }
}

fn device_of(number: u32) -> DeviceKey {
    DeviceKey::from_seed(seed(number, 2))
}

/// What Ben cannot open.
fn junk(number: u32, size: usize) -> Vec<u8> {
    let (recipient, key) = (device_of(BEN).id(), SealingKey::from_seed(seed(BEN, 4), 0).public());
    let sealed = Sealed { enc: [3; 32], ciphertext: vec![1; size + 16] };
    let id = MessageId::from_bytes((u128::MAX - u128::from(number)).to_be_bytes());
    Item { kind: Kind::Envelope, envelope: Envelope { id, recipient, key, sealed } }.encode()
}

fn offer(item: Vec<u8>, expires: u64, bits: u32) -> Offer {
    let mailbox = user_of(BEN);
    let nonce = Search::new(&mailbox, &item_id(&item), expires, bits).step(1 << 22).unwrap();
    Offer { mailbox, item, expires, nonce, token: Vec::new(), replica: false }
}

/// One for which no work was done.
fn unpaid(number: u32) -> Offer {
    let mut offer = offer(junk(number, 256), wall() + 20 * DAY, 0);
    let worth = |offer: &Offer| bits_of(&offer.mailbox, &item_id(&offer.item), offer.expires, offer.nonce);
    while worth(&offer) >= BITS {
        offer.nonce += 1;
    }
    offer
}

/// One with a token that a device of somebody else's has signed.
fn with_forged_token(number: u32) -> Offer {
    let (device, now) = (device_of(9_999), wall());
    let token = Token {
        serial: [number as u8; 16],
        mailbox: user_of(BEN),
        device: device.id(),
        issued: now,
        expires: now + 30 * DAY,
    };
    let cert = DeviceCert::issue(&UserKey::from_seed(seed(BEN, 9)), device.id(), now).unwrap();
    let token = Verified::sign(token, &device, Some(&cert)).unwrap().bytes().to_vec();
    Offer { token, ..unpaid(number) }
}

/// What an attacker deposits at each holder.
fn attacks() -> Vec<(&'static str, Vec<Offer>)> {
    let (now, good) = (wall(), wall() + 20 * DAY);
    let same = offer(junk(50, 256), good, 8);
    let flood = |from: u32| (from..from + 60).map(|number| offer(junk(number, 256), good, 12)).collect();
    vec![
        // More than a mailbox takes; more than an item may be; more would not pass as a frame.
        ("oversize", [256, 300].map(|kib| offer(junk(kib, kib as usize * 1_024), good, BITS)).into()),
        ("expired", (2..7).map(|number| offer(junk(number, 256), now - 60_000, 12)).collect()),
        ("of the future", (7..12).map(|number| offer(junk(number, 256), now + 60 * DAY, 12)).collect()),
        ("unpaid", (12..17).map(unpaid).collect()),
        ("forged token", (17..22).map(with_forged_token).collect()),
        ("replayed", vec![same; 100]),
        ("flood", flood(100)),
        ("flood", flood(200)),
    ]
}

/// Links to these, from a node whose core means well.
async fn link(crowd: &Crowd, from: u32, to: &[u32]) {
    let all = to.to_vec();
    crowd.members[&from]
        .with(move |host, _| {
            host.heard = Some(Vec::new());
            all.iter().for_each(|number| host.dials(*number));
        })
        .await;
    until("the links stand", LONG, async || {
        let nodes: BTreeSet<_> = to.iter().map(|number| node_of(*number)).collect();
        crowd.members[&from]
            .with(move |host, _| {
                let peers = host.core.peers();
                nodes.iter().all(|node| peers.iter().any(|peer| peer.node == *node && !peer.agent.is_empty()))
            })
            .await
    })
    .await;
}

/// What became of the deposits of an attacker, in no order.
async fn answers(crowd: &Crowd, of: u32) -> Vec<Answer> {
    crowd.members[&of]
        .with(|host, _| {
            let frames = host.heard.iter().flatten().filter_map(|(_, frame)| decode(frame).ok());
            let answer = |frame| match frame {
                Frame::DepositAnswer { answer, .. } => Some(answer),
                _ => None,
            };
            frames.filter_map(answer).collect()
        })
        .await
}

/// Items of attackers that a node holds for Ben, other ones for him, and all.
async fn held(crowd: &Crowd, at: u32) -> (usize, usize, usize) {
    let ben = user_of(BEN);
    crowd.members[&at]
        .with(move |host, _| {
            let of_ben = host.store.mail.values().filter(|mail| mail.mailbox == ben.as_bytes());
            let junk = |item: &[u8]| Item::decode(item).is_ok_and(|item| item.envelope.sealed.enc == [3; 32]);
            let (junk, good): (Vec<_>, Vec<_>) = of_ben.partition(|mail| junk(&mail.item));
            (junk.len(), good.len(), host.store.mail.len())
        })
        .await
}

/// Copies of what honest ones have for Ben.
async fn waiting(crowd: &Crowd, holders: &[u32]) -> usize {
    let mut all = 0;
    for holder in holders {
        all += held(crowd, *holder).await.1;
    }
    all
}

/// They show themselves to each other.
async fn become_contacts(crowd: &Crowd) {
    for (who, friend) in [(ANNA, BEN), (BEN, ANNA)] {
        let shows = move |host: &mut Host, now| {
            let (user, friend) = (user_of(who), user_of(friend));
            host.core.keep(&friend);
            let payload = Vec::new();
            let session = PresenceSession { resource: "desk".into(), priority: 5, since: wall(), payload };
            host.core.set_presence(&user, vec![session], vec![friend], now);
        };
        crowd.members[&who].with(shows).await;
    }
    write(crowd, 0).await;
    until("they have met", LONG, async || {
        let tokens = crowd.members[&ANNA].with(|host, _| host.store.tokens.len()).await;
        tokens > 0 && got(crowd).await == [0]
    })
    .await;
}

async fn write(crowd: &Crowd, number: u64) {
    let write = move |host: &mut Host, now| {
        let id = MessageId::from_bytes(u128::from(number).to_be_bytes());
        let (from, to, content) = (user_of(ANNA), user_of(BEN), stanza(number));
        host.core.send(Outgoing { id, from, to, content, expires: None }, now).unwrap();
    };
    crowd.members[&ANNA].with(write).await;
}

/// What Ben has from Anna.
async fn got(crowd: &Crowd) -> Vec<u64> {
    let anna = user_of(ANNA);
    let got = move |host: &mut Host, _| {
        let inbox = host.store.inbox.iter().filter(|(from, ..)| *from == anna);
        inbox.map(|(_, _, id, _)| u128::from_be_bytes(*id.as_bytes()) as u64).collect()
    };
    crowd.members[&BEN].with(got).await
}

#[tokio::test]
async fn bad_deposits_are_not_held_many_are_bounded_and_a_contact_s_mail_arrives() {
    let mut crowd = Crowd::settled(10, ways()).await;
    become_contacts(&crowd).await;
    let ben = crowd.leave(BEN, true).await;
    let holders: Vec<u32> = (2..10).collect();
    for (attacker, (what, offers)) in (100..).zip(attacks()) {
        crowd.join(attacker, Store::default());
        link(&crowd, attacker, &holders).await;
        let count = if what == "oversize" { holders.len() } else { offers.len() * holders.len() };
        let to = holders.clone();
        let deposit = move |host: &mut Host, _| {
            for (request, offer) in offers.into_iter().enumerate() {
                let frame = encode(&Frame::Deposit { request: request as u64, offer });
                to.iter().for_each(|number| host.says(node_of(*number), frame.clone()));
            }
        };
        crowd.members[&attacker].with(deposit).await;
        until("all are answered", LONG, async || answers(&crowd, attacker).await.len() >= count).await;
        let answers = answers(&crowd, attacker).await;
        let taken = answers.iter().filter(|answer| **answer == Answer::Held).count();
        println!("{what}: {taken} of {} deposits held", answers.len());
        match what {
            "oversize" => {
                let no = |answer: &Answer| matches!(answer, Answer::TooLarge | Answer::Policy);
                assert!(answers.iter().all(no), "{what}: {answers:?}");
            }
            "expired" | "of the future" => {
                assert!(answers.iter().all(|answer| *answer == Answer::Policy), "{what}: {answers:?}");
            }
            "unpaid" | "forged token" => {
                assert!(
                    answers.iter().all(|answer| matches!(answer, Answer::Work(_))),
                    "{what}: {answers:?}"
                );
            }
            "replayed" => {
                assert_eq!(taken, answers.len(), "{what}");
                for holder in &holders {
                    assert_eq!(held(&crowd, *holder).await.0, 1, "{what}: one, however often it comes");
                }
            }
            _ => {}
        }
        crowd.leave(attacker, false).await;
    }
    for holder in &holders {
        let (junk, good, all) = held(&crowd, *holder).await;
        assert!(all <= NODE && junk + good <= MAILBOX, "bounded: {all}");
        assert!((30..=MAILBOX / 4 * 3).contains(&junk), "strangers have three quarters: {junk}");
    }
    let before = waiting(&crowd, &holders).await;
    for number in 1..=3 {
        write(&crowd, number).await;
    }
    until("Anna's mail is beside the junk", LONG, async || waiting(&crowd, &holders).await >= before + 9)
        .await;
    crowd.leave(ANNA, true).await;
    crowd.join(BEN, ben);
    until("Ben has it", LONG, async || got(&crowd).await.len() >= 4).await;
    assert_eq!(got(&crowd).await, [0, 1, 2, 3]);
}

/// Somebody with all signatures as they should be, as of another time.
fn record_of(number: u32, node: &NodeKey, millis: u64) -> UserFrame {
    let (user, device) = (UserKey::from_seed(seed(number, 1)), device_of(number));
    let (id, of): (DeviceId, _) = (device.id(), user.id());
    let cert = DeviceCert::issue(&user, id, millis).unwrap();
    let public = SealingKey::from_seed(seed(number, 4), millis).public();
    let info = DeviceInfo {
        user: of,
        device: id,
        sealing: vec![SealingPublic { public, created: millis }],
        epoch: 1,
        at: Hlc { millis, counter: 0 },
        expires: millis + 7 * DAY,
        mailboxes: Vec::new(),
    };
    let info = Verified::sign(info, &device, None).unwrap();
    let binding = NodeBinding::agreed(of, id, node, millis, millis + 7 * DAY);
    let binding = Verified::sign(binding, &device, None).unwrap().bytes().to_vec();
    UserFrame { record: UserRecord::new(cert, info, None).unwrap().encode(), binding }
}

#[tokio::test]
async fn what_was_heard_before_or_is_altered_delivers_nothing_and_shows_nobody() {
    let mut crowd = Crowd::settled(8, ways()).await;
    crowd.members[&BEN].with(|host, _| host.heard = Some(Vec::new())).await;
    become_contacts(&crowd).await;
    for number in 1..=5 {
        write(&crowd, number).await;
    }
    until("five have come", LONG, async || got(&crowd).await.len() >= 6).await;
    let heard = crowd.members[&BEN].with(|host, _| host.heard.clone().unwrap()).await;
    let of_anna: Vec<Vec<u8>> =
        heard.into_iter().filter(|(node, _)| *node == node_of(ANNA)).map(|(_, frame)| frame).collect();
    assert!(
        of_anna.iter().any(|frame| matches!(decode(frame), Ok(Frame::Envelope(_)))),
        "something to replay"
    );
    let altered = |frame: &Vec<u8>| {
        let mut frame = frame.clone();
        let middle = frame.len() / 2;
        frame[middle] ^= 1;
        frame
    };
    let altered: Vec<Vec<u8>> = of_anna.iter().map(altered).collect();
    for (attacker, frames) in [(100, of_anna), (101, altered)] {
        crowd.join(attacker, Store::default());
        link(&crowd, attacker, &[BEN]).await;
        let replay = move |host: &mut Host, _| {
            for _ in 0..3 {
                frames.iter().for_each(|frame| host.says(node_of(BEN), frame.clone()));
            }
        };
        crowd.members[&attacker].with(replay).await;
    }
    for (attacker, millis) in [(102, wall() - 20 * DAY), (103, wall() + 10 * DAY), (104, wall())] {
        crowd.join(attacker, Store::default());
        link(&crowd, attacker, &[BEN]).await;
        let frame = record_of(attacker + 100, &NodeKey::from_seed(seed(attacker, 3)), millis);
        let frame = encode(&Frame::Records(vec![frame]));
        crowd.members[&attacker].with(move |host, _| host.says(node_of(BEN), frame)).await;
    }
    let reach =
        async |number: u32| crowd.members[&BEN].with(move |host, _| host.core.reach(&user_of(number))).await;
    until("who says the truth is believed", LONG, async || reach(204).await == Reach::Live).await;
    assert_ne!(reach(202).await, Reach::Live, "expired");
    assert_ne!(reach(203).await, Reach::Live, "of the future");
    write(&crowd, 6).await;
    until("the next one has come", LONG, async || got(&crowd).await.len() >= 7).await;
    assert_eq!(got(&crowd).await, [0, 1, 2, 3, 4, 5, 6], "each once, and in order");
    assert_eq!(reach(ANNA).await, Reach::Live);
}

//! Holders that lie, strangers who fill mailboxes, and thieves: bounded, and honest mail still arrives.

use crosstalk_overlay::core::*;
use crosstalk_overlay::envelope::Envelope;
use crosstalk_overlay::id::{ItemId, MessageId, NodeId, UserId};
use crosstalk_overlay::mailbox::work::Search;
use crosstalk_overlay::mailbox::{Answer, Bounds, Item, Kind, Offer, item_id};
use crosstalk_overlay::record::{MailboxAccess, Verified};
use crosstalk_overlay::seal::Sealed;
use crosstalk_overlay::time::{DAY, HOUR, MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, Listed, decode, encode};

use crate::mailbox::{cheap, items, meet, scene, total};
use crate::pump::*;

const ANNA: usize = 0;
const BEN: usize = 1;
const HOLDERS: [usize; 5] = [2, 3, 4, 5, 6];

fn drops(net: &Net, host: usize, reason: &str) -> u64 {
    net.hosts[host].core.counters().dropped.get(reason).copied().unwrap_or_default()
}

fn offences(net: &Net, host: usize) -> u64 {
    net.hosts[host].core.counters().offences.values().sum()
}

/// What nobody can open, for a device of an account.
fn junk(to: &Account, number: u32) -> Vec<u8> {
    let mut id = [0x55; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let sealed = Sealed { enc: [3; 32], ciphertext: vec![1; 256 + 16] };
    let (recipient, key) = (to.device.id(), to.sealing[0].public());
    let envelope = Envelope { id: MessageId::from_bytes(id), recipient, key, sealed };
    Item { kind: Kind::Envelope, envelope }.encode()
}

fn paid(mailbox: UserId, item: Vec<u8>, bits: u32) -> Offer {
    let expires = START + 20 * DAY;
    let nonce = Search::new(&mailbox, &item_id(&item), expires, bits).step(1 << 20).unwrap();
    Offer { mailbox, item, expires, nonce, token: Vec::new(), replica: false }
}

fn identity(number: u32) -> NodeId {
    let mut bytes = [0xee; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

/// A stranger comes, deposits, and goes.
fn stranger(net: &mut Net, holder: usize, number: u32, offers: Vec<Offer>) {
    let node = identity(number);
    let address = "/ip4/203.0.113.9/tcp/1".to_owned();
    net.peer_event(holder, PeerEvent::Connected { node, address, inbound: true, near: false });
    let wall = net.now(holder).wall;
    net.peer_event(holder, PeerEvent::Frame { node, frame: hello(u64::from(number), wall) });
    for (request, offer) in offers.into_iter().enumerate() {
        let frame = encode(&Frame::Deposit { request: request as u64, offer });
        net.peer_event(holder, PeerEvent::Frame { node, frame });
    }
    net.peer_event(holder, PeerEvent::Disconnected { node });
}

#[test]
fn a_thousand_invented_identities_fill_what_strangers_may_and_contacts_still_get_through() {
    let mailbox = Bounds { mailbox_items: 64, items: 96, bits: 6, ..Bounds::default() };
    let mut net = scene(Limits { mailbox, ..cheap() });
    let (anna, ben, account) = (net.user(ANNA), net.user(BEN), net.hosts[BEN].accounts[0].clone());
    meet(&mut net);
    for number in 0..1_000 {
        let holder = HOLDERS[number as usize % HOLDERS.len()];
        // The work for the fullest mailbox, and for somebody else's.
        let first = paid(ben, junk(&account, number), 12);
        let other = paid(UserId::from_bytes([9; 32]), junk(&account, 5_000 + number), 12);
        stranger(&mut net, holder, number, vec![first, other]);
    }
    net.run(MINUTE);
    assert_eq!(items(&net), vec![72; 5], "three quarters of each node");
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    assert_eq!(total(&net), 5 * 72 + 3);
    net.power_off(ANNA);
    net.power_on(BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), vec![1], "in spite of all the junk");
    assert!(drops(&net, BEN, "mail that does not open") >= 100);
    let left = HOLDERS.iter().flat_map(|holder| net.hosts[*holder].store.mail.values());
    let of_ben = left.filter(|mail| mail.mailbox == ben.as_bytes()).count();
    assert_eq!(of_ben, 0, "and the junk is gone, with the message");
    net.power_off(BEN);
    net.power_on(ANNA);
    (2..=9).for_each(|number| net.send(ANNA, ben, number));
    net.run(2 * HOUR);
    net.power_on(BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), (1..=9).collect::<Vec<_>>(), "there is room again");
}

#[test]
fn more_work_is_done_as_a_mailbox_fills_and_absurd_work_is_not() {
    let mut net =
        scene(Limits { mailbox: Bounds { mailbox_items: 16, bits: 6, ..Bounds::default() }, ..cheap() });
    let (anna, ben, account) = (net.user(ANNA), net.user(BEN), net.hosts[BEN].accounts[0].clone());
    for (number, holder) in HOLDERS.into_iter().enumerate() {
        let offers = (0..9).map(|item| paid(ben, junk(&account, item * 10 + number as u32), 12));
        stranger(&mut net, holder, number as u32, offers.collect());
    }
    let before = net.tape.len();
    net.send(ANNA, ben, 1);
    net.run(6 * SECOND);
    let answers = net.tape[before..].iter().filter_map(|(from, to, frame)| match decode(frame) {
        Ok(Frame::DepositAnswer { answer, .. }) if *to == ANNA => Some((*from, answer)),
        _ => None,
    });
    let more = answers.filter(|(_, answer)| matches!(answer, Answer::Work(bits) if *bits > 6)).count();
    assert!(more > 0, "the holders wanted more");
    net.run(MINUTE);
    assert_eq!(total(&net), 45 + 3);
    // A holder of its own kind wants more than anybody can do: the message goes elsewhere.
    net.send(ANNA, ben, 2);
    net.run(5 * SECOND);
    for holder in HOLDERS {
        for request in 0..20 {
            net.inject(holder, ANNA, encode(&Frame::DepositAnswer { request, answer: Answer::Work(64) }));
        }
    }
    net.run(2 * HOUR);
    net.power_off(ANNA);
    net.power_on(BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), vec![1, 2]);
}

#[test]
fn a_holder_that_alters_repeats_and_invents_costs_nothing() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    (1..=5).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    let liar = HOLDERS.into_iter().find(|holder| !net.hosts[*holder].store.mail.is_empty()).unwrap();
    let stored = net.hosts[liar].store.mail.clone();
    for mail in net.hosts[liar].store.mail.values_mut() {
        let last = mail.item.len() - 9;
        mail.item[last] ^= 1;
    }
    net.restart(liar);
    net.power_off(ANNA);
    net.power_on(BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), vec![1, 2, 3, 4, 5]);
    assert_eq!(drops(&net, BEN, "mail that does not open"), 5);
    // The old ones again.
    net.hosts[liar].store.mail = stored;
    net.restart(liar);
    net.run(20 * MINUTE);
    assert_eq!(net.got(BEN, anna).len(), 5);
    assert!(
        net.hosts[liar].store.mail.values().all(|mail| mail.mailbox != ben.as_bytes()),
        "and were discarded"
    );
    // What does not exist, and something else in its place.
    net.restart(BEN);
    net.run(5 * SECOND);
    let id = ItemId::from_bytes([7; 16]);
    let before = offences(&net, BEN);
    net.inject(liar, BEN, encode(&Frame::Listing { entries: vec![Listed { id, size: 1 }; 9], more: true }));
    net.inject(liar, BEN, encode(&Frame::Mail(vec![vec![1, 2, 3]])));
    assert_eq!(offences(&net, BEN), before + 1);
    net.inject(liar, BEN, encode(&Frame::Mail(vec![vec![1, 2, 3]])));
    assert_eq!(drops(&net, BEN, "mail that nobody asked for"), 1);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna).len(), 5);
}

#[test]
fn nobody_else_lists_takes_or_discards() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    let holder = HOLDERS.into_iter().find(|holder| !net.hosts[*holder].store.mail.is_empty()).unwrap();
    let id = item_id(&net.hosts[holder].store.mail.values().next().unwrap().item);
    // Ben comes and takes it elsewhere; what he said to the other holders is heard by the thief.
    let spared = net.hosts[holder].store.mail.clone();
    net.power_on(BEN);
    net.run(MINUTE);
    let heard = net.tape.iter().rev().find(|(from, to, frame)| {
        (*from, *to) == (BEN, holder) && matches!(decode(frame), Ok(Frame::List(_)))
    });
    let heard = heard.unwrap().2.clone();
    net.power_off(BEN);
    net.hosts[holder].store.mail = spared;
    net.restart(holder);
    let thief = identity(1);
    let address = "/ip4/203.0.113.9/tcp/1".to_owned();
    net.peer_event(holder, PeerEvent::Connected { node: thief, address, inbound: true, near: false });
    let wall = net.now(holder).wall;
    net.peer_event(holder, PeerEvent::Frame { node: thief, frame: hello(1, wall) });
    let mallory = Account::new(7, 107);
    let device = mallory.device.id();
    let access = |user| MailboxAccess { user, device, holder: node_id(holder), session: 1, at: wall };
    let context_cert = mallory_cert(&mallory);
    let forged = Verified::sign(access(ben), &mallory.device, Some(&context_cert)).unwrap();
    let own = Verified::sign(access(mallory.user), &mallory.device, Some(&context_cert)).unwrap();
    for frame in
        [heard, encode(&Frame::List(forged.bytes().to_vec())), encode(&Frame::List(own.bytes().to_vec()))]
    {
        net.peer_event(holder, PeerEvent::Frame { node: thief, frame });
    }
    assert_eq!(drops(&net, holder, "mailbox access for another session"), 2);
    assert_eq!(offences(&net, holder), 1);
    net.peer_event(holder, PeerEvent::Frame { node: thief, frame: encode(&Frame::Fetch(vec![id])) });
    net.peer_event(holder, PeerEvent::Frame { node: thief, frame: encode(&Frame::Discard(vec![id])) });
    assert!(net.hosts[holder].store.mail.values().any(|mail| item_id(&mail.item) == id), "it is still there");
    assert_eq!(net.got(BEN, anna), vec![1]);
}

fn mallory_cert(mallory: &Account) -> Verified<crosstalk_overlay::record::DeviceCert> {
    let user = crosstalk_overlay::keys::UserKey::from_seed([7; 32]);
    crosstalk_overlay::record::DeviceCert::issue(&user, mallory.device.id(), START).unwrap()
}

#[test]
fn what_a_holder_has_tells_neither_sender_nor_content() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.hosts[ANNA].accounts[0].clone(), net.user(BEN));
    (1..=5).for_each(|number| net.send(ANNA, ben, 777_777_700 + number));
    net.run(MINUTE);
    let (device, node) = (anna.device.id(), node_id(ANNA));
    let secrets = [&anna.user.as_bytes()[..], device.as_bytes(), node.as_bytes(), b"7777777"];
    let mails = HOLDERS.iter().flat_map(|holder| net.hosts[*holder].store.mail.values());
    let mut sizes = std::collections::BTreeSet::new();
    for mail in mails {
        let bytes = prost::Message::encode_to_vec(mail);
        for secret in secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
        sizes.insert(mail.item.len());
    }
    assert_eq!(sizes.len(), 1, "one size class: {sizes:?}");
    let text = format!("{:?}", net.hosts[HOLDERS[0]].core);
    assert!(!text.contains(&ben.to_hex()), "nor does a log tell whose mailbox it is");
}

#[test]
fn a_holder_promises_nothing_before_the_commit() {
    let mut net = scene(cheap());
    let (ben, account) = (net.user(BEN), net.hosts[BEN].accounts[0].clone());
    let (holder, node) = (HOLDERS[0], identity(1));
    let address = "/ip4/203.0.113.9/tcp/1".to_owned();
    net.peer_event(holder, PeerEvent::Connected { node, address, inbound: true, near: false });
    let now = net.now(holder);
    net.peer_event(holder, PeerEvent::Frame { node, frame: hello(1, now.wall) });
    let frame = encode(&Frame::Deposit { request: 7, offer: paid(ben, junk(&account, 1), 6) });
    let core = &mut net.hosts[holder].core;
    for again in [false, true] {
        core.handle_peer(PeerEvent::Frame { node, frame: frame.clone() }, now);
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll_output()).collect();
        let write = outputs.iter().position(|output| matches!(output, Output::Write(Write::PutMail(_))));
        let held = Frame::DepositAnswer { request: 7, answer: Answer::Held };
        let answer = outputs.iter().position(|output| match output {
            Output::Send { frame, durable: true, .. } => decode(frame).as_ref() == Ok(&held),
            _ => false,
        });
        assert!(answer.is_some(), "and it waits for the commit");
        assert_eq!(write.is_some(), !again);
        assert!(write < answer);
    }
}

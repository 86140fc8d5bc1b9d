//! Peers that lie, replay, flood or send garbage: dropped, counted, closed, and nobody else notices.

use crosstalk_overlay::core::*;
use crosstalk_overlay::envelope::{Envelope, Inner};
use crosstalk_overlay::id::{DeviceId, MessageId, UserId};
use crosstalk_overlay::keys::{NodeKey, SealingKey, UserKey};
use crosstalk_overlay::mailbox::Offer;
use crosstalk_overlay::record::*;
use crosstalk_overlay::seal::Sealed;
use crosstalk_overlay::time::{DAY, Hlc, MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, Hello, UserFrame, WIRE_VERSION, decode, encode};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::pump::*;

/// Host 0 is the victim, host 1 is honest, and host 2 is played by the test: a connected node that said Hello.
const EVIL: usize = 2;

fn scene() -> Net {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![]];
    let mut net = Net::new(accounts);
    net.join(0, 1);
    net.join(0, EVIL);
    net.run(10 * SECOND);
    net
}

fn offences(net: &Net) -> u64 {
    net.hosts[0].core.counters().offences.values().sum()
}

fn drops(net: &Net, reason: &str) -> u64 {
    net.hosts[0].core.counters().dropped.get(reason).copied().unwrap_or_default()
}

fn is_connected(net: &Net, host: usize) -> bool {
    net.hosts[0].core.peers().iter().any(|peer| peer.node == node_id(host))
}

fn inject(net: &mut Net, frame: Frame) {
    net.inject(EVIL, 0, encode(&frame));
}

fn info(account: &Account, public: [u8; 32], millis: u64) -> Verified<DeviceInfo> {
    let info = DeviceInfo {
        user: account.user,
        device: account.device.id(),
        sealing: vec![SealingPublic { public, created: START }],
        epoch: 9,
        at: Hlc { millis, counter: 0 },
        expires: millis + 7 * DAY,
        mailboxes: Vec::new(),
    };
    Verified::sign(info, &account.device, None).unwrap()
}

fn binding(account: &Account, node: &NodeKey) -> Vec<u8> {
    let (user, device) = (account.user, account.device.id());
    let binding = NodeBinding::agreed(user, device, node, START, START + 7 * DAY);
    Verified::sign(binding, &account.device, None).unwrap().bytes().to_vec()
}

fn record(account: &Account, millis: u64) -> Vec<u8> {
    let cert = DeviceCert::issue(&UserKey::from_seed([7; 32]), account.device.id(), START).unwrap();
    UserRecord::new(cert, info(account, account.sealing[0].public(), millis), None).unwrap().encode()
}

/// A user whom the test plays at host 2, honestly proven there.
fn mallory(net: &mut Net) -> Account {
    let account = Account::new(7, 107);
    let frame = UserFrame { record: record(&account, START), binding: binding(&account, node_key(EVIL)) };
    inject(net, Frame::Records(vec![frame]));
    assert_eq!(net.hosts[0].core.reach(&account.user), Reach::Live);
    account
}

#[test]
fn garbage_closes_its_sender_and_nobody_else() {
    let mut net = scene();
    for size in 0..7 {
        net.inject(EVIL, 0, vec![0xff; size * 999 + 1]);
    }
    assert!(is_connected(&net, EVIL));
    net.inject(EVIL, 0, vec![0; 400 * 1_024]);
    net.run(10);
    assert!(!is_connected(&net, EVIL));
    let (anna, ben) = (net.user(0), net.user(1));
    net.send(1, anna, 1);
    net.run(SECOND);
    assert_eq!(net.got(0, ben), vec![1]);
    net.run(MINUTE);
    net.link(0, EVIL);
    net.run(10);
    assert!(!is_connected(&net, EVIL), "not let in again for five minutes");
    net.run(6 * MINUTE);
    net.link(0, EVIL);
    net.run(10);
    assert!(is_connected(&net, EVIL));
}

#[test]
fn somebody_elses_record_makes_nobody_live_on_the_wrong_node() {
    let mut net = scene();
    let ben = net.user(1);
    net.cut(0, 1);
    let frames = net.tape.clone();
    net.run(15 * SECOND);
    let records = frames.iter().filter(|(from, to, _)| (*from, *to) == (1, 0));
    for (_, _, frame) in records {
        net.inject(EVIL, 0, frame.clone());
    }
    assert_eq!(net.hosts[0].core.reach(&ben), Reach::Known);
    assert!(offences(&net) >= 1, "the binding names another node");
}

#[test]
fn a_record_with_a_forged_part_is_not_kept() {
    let mut net = scene();
    let account = Account::new(7, 107);
    let mut bytes = record(&account, START);
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    inject(
        &mut net,
        Frame::Records(vec![UserFrame { record: bytes, binding: binding(&account, node_key(EVIL)) }]),
    );
    assert_eq!(net.hosts[0].core.reach(&account.user), Reach::Unknown);
    assert_eq!(offences(&net), 1);
}

#[test]
fn expired_and_future_records_are_not_kept() {
    let mut net = scene();
    let account = Account::new(7, 107);
    for millis in [START - 20 * DAY, START + 10 * DAY] {
        let frame =
            UserFrame { record: record(&account, millis), binding: binding(&account, node_key(EVIL)) };
        inject(&mut net, Frame::Records(vec![frame]));
        assert_ne!(net.hosts[0].core.reach(&account.user), Reach::Live, "{millis}");
    }
    assert_eq!(offences(&net), 0, "a wrong clock is no offence");
}

#[test]
fn nobody_speaks_for_a_user_who_is_elsewhere() {
    let mut net = scene();
    let (anna, ben) = (net.user(0), net.hosts[1].accounts[0].clone());
    let before = net.hosts[0].events.len();
    let at = Hlc { millis: START + DAY, counter: 0 };
    let (user, device) = (ben.user, ben.device.id());
    let status = link_status("not ben");
    let shown = LinkPresence { user, device, status, at, expires: at.millis + 1 };
    let shown = Verified::sign(shown, &ben.device, None).unwrap();
    inject(&mut net, Frame::LinkPresences(vec![shown.bytes().to_vec()]));
    let presence =
        PresenceRecord { user, device, at, expires: at.millis + 1, sessions: vec![session("desk")] };
    let presence = Verified::sign(presence, &ben.device, None).unwrap();
    inject(&mut net, Frame::Presence { to: vec![anna], record: presence.bytes().to_vec() });
    inject(&mut net, Frame::LinkAbsence { user, device, gone: true });
    let live =
        Live { from: user, from_resource: String::new(), to: anna, to_resource: String::new(), xml: vec![] };
    inject(&mut net, Frame::Live(live));
    assert_eq!(net.hosts[0].events.len(), before, "nothing came of it");
    assert_eq!(net.hosts[0].core.reach(&user), Reach::Live);
    assert_eq!(offences(&net), 4);
}

#[test]
fn a_presence_signed_by_somebody_else_is_dropped() {
    let mut net = scene();
    let (anna, ben) = (net.user(0), net.user(1));
    let account = mallory(&mut net);
    let at = Hlc { millis: START, counter: 0 };
    let forged =
        PresenceRecord { user: ben, device: account.device.id(), at, expires: START + 1, sessions: vec![] };
    let forged = Verified::sign(forged, &account.device, None).unwrap();
    inject(&mut net, Frame::Presence { to: vec![anna], record: forged.bytes().to_vec() });
    assert_eq!(net.count(0, |event| matches!(event, Output::Presence { .. })), 0);
    assert_eq!(offences(&net), 1);
}

#[test]
fn an_old_presence_does_not_replace_a_newer_one() {
    let mut net = scene();
    let (anna, account) = (net.user(0), mallory(&mut net));
    for millis in [5, 4, 5, 6] {
        let at = Hlc { millis: START + millis, counter: 0 };
        let (user, device) = (account.user, account.device.id());
        let presence = PresenceRecord { user, device, at, expires: at.millis + 1, sessions: vec![] };
        let presence = Verified::sign(presence, &account.device, None).unwrap();
        inject(&mut net, Frame::Presence { to: vec![anna], record: presence.bytes().to_vec() });
    }
    assert_eq!(net.count(0, |event| matches!(event, Output::Presence { .. })), 2);
    assert_eq!(drops(&net, "presence that is not newer"), 2);
}

#[test]
fn replayed_frames_deliver_nothing_twice() {
    let mut net = scene();
    let (anna, ben) = (net.user(0), net.user(1));
    for number in 1..=5 {
        net.send(1, anna, number);
    }
    net.run(SECOND);
    for (_, to, frame) in net.tape.clone() {
        if to == 0 {
            net.inject(EVIL, 0, frame);
        }
    }
    net.run(MINUTE);
    assert_eq!(net.got(0, ben), vec![1, 2, 3, 4, 5]);
    assert!(net.hosts[0].core.counters().repeated >= 5);
}

fn envelope(from: &Account, to: &Account, seq: u64, tamper: impl FnOnce(&mut Inner)) -> Envelope {
    let cert = DeviceCert::issue(&UserKey::from_seed([7; 32]), from.device.id(), START).unwrap();
    let mut inner = Inner {
        user: from.user,
        sender: from.device.id(),
        recipient: to.device.id(),
        key: to.sealing[0].public(),
        message: message_id(1_000 + seq),
        epoch: 1,
        seq,
        first: 1,
        sent: START,
        content: stanza(seq),
        card: Vec::new(),
    };
    tamper(&mut inner);
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    Envelope::seal(MessageId::from_bytes([seq as u8; 16]), inner, &from.device, &cert, &mut rng).unwrap()
}

#[test]
fn an_envelope_in_somebody_elses_name_is_dropped() {
    let mut net = scene();
    let (account, victim) = (mallory(&mut net), net.hosts[0].accounts[0].clone());
    let ben = net.user(1);
    inject(&mut net, Frame::Envelope(envelope(&account, &victim, 1, |inner| inner.user = ben)));
    assert!(net.hosts[0].store.inbox.is_empty());
    assert_eq!(offences(&net), 1);
    inject(&mut net, Frame::Envelope(envelope(&account, &victim, 1, |_| ())));
    assert_eq!(net.got(0, account.user), vec![1], "in one's own name it arrives");
}

#[test]
fn envelopes_far_ahead_are_not_collected() {
    let mut net = scene();
    let (account, victim) = (mallory(&mut net), net.hosts[0].accounts[0].clone());
    inject(&mut net, Frame::Envelope(envelope(&account, &victim, 1, |_| ())));
    for seq in [3, 1_025, 1_026, 1_000_000] {
        inject(&mut net, Frame::Envelope(envelope(&account, &victim, seq, |_| ())));
    }
    assert_eq!(drops(&net, "envelope beyond the window"), 2);
    assert_eq!(net.got(0, account.user), vec![1]);
}

#[test]
fn an_unknown_sealing_key_is_answered_and_noise_is_an_offence() {
    let mut net = scene();
    let victim = net.hosts[0].accounts[0].clone();
    let noise = |key| {
        let sealed = Sealed { enc: [3; 32], ciphertext: vec![1; 256 + 16] };
        Frame::Envelope(Envelope {
            id: MessageId::from_bytes([1; 16]),
            recipient: victim.device.id(),
            key,
            sealed,
        })
    };
    let before = net.tape.len();
    inject(&mut net, noise(SealingKey::from_seed([1; 32], 0).public()));
    net.run(5);
    assert_eq!(net.tape[before..].iter().filter(|(from, to, _)| (*from, *to) == (0, EVIL)).count(), 2);
    assert_eq!(offences(&net), 0);
    inject(&mut net, noise(victim.sealing[0].public()));
    assert_eq!(offences(&net), 1);
}

#[test]
fn an_answer_that_it_cannot_be_opened_makes_the_sender_seal_to_the_newer_key() {
    let mut net = scene();
    let (account, anna) = (mallory(&mut net), net.user(0));
    let sent = |net: &Net| {
        let frames = net.tape.iter().filter(|(from, to, _)| (*from, *to) == (0, EVIL));
        let envelopes = frames.filter_map(|(.., frame)| match decode(frame) {
            Ok(Frame::Envelope(envelope)) => Some(envelope),
            _ => None,
        });
        envelopes.collect::<Vec<_>>()
    };
    net.with(0, |core, now| core.send(outgoing(anna, account.user, 1), now).unwrap());
    net.run(5);
    let first = sent(&net).pop().unwrap();
    let key = SealingKey::from_seed([0x77; 32], START);
    let cert = DeviceCert::issue(&UserKey::from_seed([7; 32]), account.device.id(), START).unwrap();
    let record = UserRecord::new(cert, info(&account, key.public(), START + 1), None).unwrap().encode();
    inject(&mut net, Frame::Records(vec![UserFrame { record, binding: binding(&account, node_key(EVIL)) }]));
    let receipt = Receipt {
        envelope: first.id,
        message: MessageId::from_bytes([0; 16]),
        sender: DeviceId::from_bytes([0; 32]),
        user: account.user,
        recipient: account.device.id(),
        outcome: ReceiptOutcome::CannotOpen,
    };
    let receipt = Verified::sign(receipt, &account.device, None).unwrap();
    inject(&mut net, Frame::Receipt(receipt.bytes().to_vec()));
    net.run(5);
    let envelopes = sent(&net);
    assert_eq!((envelopes.len(), envelopes[1].key), (2, key.public()));
    assert!(net.outcomes(0, 1).is_empty(), "and the message still waits for its receipt");
}

#[test]
fn receipts_by_others_do_not_settle_a_message() {
    let mut net = scene();
    let (account, victim) = (mallory(&mut net), net.hosts[0].accounts[0].clone());
    let (ben, bens) = (net.user(1), net.hosts[1].accounts[0].device.clone());
    net.cut(0, 1);
    net.send(0, ben, 1);
    // The last one is genuine, but comes from a node where Ben is not.
    for (user, device) in [(ben, &account.device), (account.user, &account.device), (ben, &bens)] {
        let receipt = Receipt {
            envelope: MessageId::from_bytes([0; 16]),
            message: message_id(1),
            sender: victim.device.id(),
            user,
            recipient: device.id(),
            outcome: ReceiptOutcome::Held,
        };
        let receipt = Verified::sign(receipt, device, None).unwrap();
        inject(&mut net, Frame::Receipt(receipt.bytes().to_vec()));
    }
    assert!(net.outcomes(0, 1).is_empty());
}

#[test]
fn a_peer_of_another_age_is_told_so() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![]]);
    net.join(0, 1);
    let hello = Hello {
        version: WIRE_VERSION + 8,
        min_version: WIRE_VERSION + 1,
        agent: "future".into(),
        wall: START,
        unsure: false,
        session: 1,
        probe: None,
    };
    net.inject(1, 0, encode(&Frame::Hello(hello)));
    assert!(net.hosts[0].core.peers().is_empty());
}

#[test]
fn frames_before_the_hello_and_of_strangers_do_nothing() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![]]);
    let account = Account::new(7, 107);
    let frame = UserFrame { record: record(&account, START), binding: binding(&account, node_key(1)) };
    let frame = encode(&Frame::Records(vec![frame]));
    net.inject(1, 0, frame.clone());
    let connected =
        PeerEvent::Connected { node: node_id(1), address: "/memory/1".into(), inbound: true, near: true };
    net.peer_event(0, connected);
    net.inject(1, 0, frame);
    assert_eq!(net.hosts[0].core.reach(&account.user), Reach::Unknown);
}

#[test]
fn a_peer_cannot_bring_more_users_than_allowed() {
    let limits = Limits { users_per_peer: 3, ..Limits::default() };
    let many = (1..=6).map(|index| Account::new(index, 100 + index)).collect();
    let mut net = Net::with_limits(vec![vec![Account::new(50, 150)], many], limits);
    net.join(0, 1);
    net.run(10);
    assert_eq!(net.hosts[0].core.peers()[0].users.len(), 3);
}

#[test]
fn connections_are_bounded() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut net = Net::with_limits(vec![vec![], vec![], vec![], vec![]], limits);
    for other in 1..4 {
        net.join(0, other);
    }
    net.run(SECOND);
    assert_eq!(net.hosts[0].core.peers().len(), 2);
    let connected =
        PeerEvent::Connected { node: node_id(9), address: "/memory/9".into(), inbound: true, near: true };
    net.peer_event(0, connected);
    assert_eq!(net.hosts[0].core.peers().len(), 2);
}

/// Traffic that costs a stranger nothing must not keep out whom we know.
#[test]
fn strangers_hold_no_place_against_a_contact() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let mut net = Net::with_limits(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]], limits);
    let strangers = 20..24;
    for stranger in strangers.clone() {
        let (node, address) = (node_id(stranger), format!("/ip4/203.0.113.{stranger}/tcp/1"));
        net.peer_event(0, PeerEvent::Connected { node, address, inbound: true, near: false });
        let wall = net.now(0).wall;
        net.inject(stranger, 0, hello(stranger as u64, wall));
    }
    let junk = Offer {
        mailbox: UserId::from_bytes([9; 32]),
        item: vec![7; 300],
        expires: START + DAY,
        nonce: 0,
        token: Vec::new(),
        replica: false,
    };
    let talk = |net: &mut Net| {
        for stranger in strangers.clone() {
            net.inject(stranger, 0, encode(&Frame::Deposit { request: 1, offer: junk.clone() }));
        }
        net.run(10 * SECOND);
    };
    (0..3).for_each(|_| talk(&mut net));
    assert_eq!(net.hosts[0].core.peers().len(), 4, "there is room for all of them");
    net.join(0, 1);
    talk(&mut net);
    assert!(is_connected(&net, 1));
    // Another stranger gets its turn when they had theirs.
    let (late, address) = (node_id(30), "/ip4/203.0.113.30/tcp/1".to_owned());
    let comes = PeerEvent::Connected { node: late, address, inbound: true, near: false };
    net.peer_event(0, comes.clone());
    assert!(!is_connected(&net, 30));
    (0..3).for_each(|_| talk(&mut net));
    net.peer_event(0, comes);
    assert!(is_connected(&net, 30) && is_connected(&net, 1));
}

#[test]
fn a_revoked_device_is_out_and_stays_out() {
    let mut net = scene();
    let account = mallory(&mut net);
    let what = Revoked::Device(account.user, account.device.id());
    let revocation = Revocation { what, by: RevokedBy::User, since: START };
    let revocation = Verified::sign(revocation, &UserKey::from_seed([7; 32]), None).unwrap();
    net.with(0, |core, now| assert_eq!(core.add_revocation(revocation.bytes(), now), Ok(true)));
    let reach = |net: &Net| net.hosts[0].core.reach(&account.user);
    assert_ne!(reach(&net), Reach::Live);
    net.restart(0);
    net.run(5 * SECOND);
    let frame = UserFrame { record: record(&account, START), binding: binding(&account, node_key(EVIL)) };
    inject(&mut net, Frame::Records(vec![frame]));
    assert_ne!(reach(&net), Reach::Live, "also after a restart");
}

#[test]
fn what_is_logged_tells_nothing_private() {
    let mut net = scene();
    let ben: UserId = net.user(1);
    net.send(0, ben, 424_242);
    let text = format!("{:?}", net.hosts[0].core);
    assert!(!text.contains("424242"), "no bodies");
    assert!(!text.contains(&ben.to_hex()), "no full ids");
}

//! What becomes of durable messages: delivered once, in order, to every device; refused, expired, or taken back.

use crosstalk_overlay::core::*;
use crosstalk_overlay::envelope::Content;
use crosstalk_overlay::keys::SealingKey;
use crosstalk_overlay::record::{RefusalCode, Says, Side};
use crosstalk_overlay::time::{DAY, HOUR, MINUTE, SECOND};

use crate::pump::*;

const DELIVERED: Outcome = Outcome::Delivered;

fn failed(reason: FailReason) -> Vec<Outcome> {
    vec![Outcome::Failed(reason)]
}

#[test]
fn a_message_arrives_once_and_its_sender_is_told_once() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    net.send(0, ben, 1);
    net.run(SECOND);
    assert_eq!(net.got(1, anna), vec![1]);
    assert_eq!(net.outcomes(0, 1), vec![DELIVERED]);
    assert!(net.hosts[0].store.outbox.is_empty(), "nothing is left waiting");
}

#[test]
fn a_message_waits_for_an_unknown_user_and_survives_restarts() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    let (anna, ben) = (net.user(0), net.user(1));
    for number in 1..=100 {
        net.send(0, ben, number);
    }
    net.restart(0);
    net.run(HOUR);
    net.join(0, 1);
    net.run(MINUTE);
    assert_eq!(net.got(1, anna), (1..=100).collect::<Vec<_>>());
}

#[test]
fn the_same_message_accepted_twice_is_one_message() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    let (anna, ben) = (net.user(0), net.user(1));
    net.send(0, ben, 1);
    net.send(0, ben, 1);
    assert_eq!(net.hosts[0].core.outbox().count(), 1);
    net.join(0, 1);
    net.run(SECOND);
    net.send(0, ben, 1);
    net.run(SECOND);
    assert_eq!(net.got(1, anna), vec![1], "even after it was receipted");
}

#[test]
fn every_device_gets_it_and_the_first_receipt_counts() {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(2, 103)]];
    let mut net = Net::new(accounts);
    let (anna, ben) = (net.user(0), net.user(1));
    net.join(0, 1);
    net.join(0, 2);
    net.run(10);
    net.cut(0, 2);
    net.send(0, ben, 1);
    net.run(SECOND);
    assert_eq!((net.got(1, anna), net.got(2, anna)), (vec![1], vec![]));
    assert_eq!(net.outcomes(0, 1), vec![DELIVERED]);
    net.restart(0);
    net.join(0, 2);
    net.run(MINUTE);
    assert_eq!((net.got(1, anna), net.got(2, anna)), (vec![1], vec![1]));
    assert_eq!(net.outcomes(0, 1), vec![DELIVERED], "told once");
    assert!(net.hosts[0].store.outbox.is_empty());
}

#[test]
fn my_other_device_gets_a_copy_and_nobody_else_can_make_one() {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(1, 102)], vec![Account::new(2, 103)]];
    let mut net = Net::new(accounts);
    let (anna, ben) = (net.user(0), net.user(2));
    net.join(0, 1);
    net.join(1, 2);
    net.run(10);
    let copy = |number: u64| Content::Copy {
        to: ben,
        from_resource: "desk".into(),
        to_resource: String::new(),
        xml: number.to_string().into_bytes(),
    };
    let mine = Outgoing { content: copy(1), ..outgoing(anna, anna, 1) };
    net.with(0, |core, now| core.send(mine, now).unwrap());
    let forged = Outgoing { content: copy(2), ..outgoing(ben, anna, 2) };
    net.with(2, |core, now| core.send(forged, now).unwrap());
    net.run(SECOND);
    assert_eq!(net.got(1, anna), vec![1]);
    assert_eq!(net.got(1, ben), Vec::<u64>::new());
    assert_eq!(net.outcomes(2, 2), failed(FailReason::Refused(RefusalCode::Policy)));
}

#[test]
fn a_copy_for_nobody_is_forgotten_at_once() {
    let mut net = Net::two();
    let anna = net.user(0);
    net.send(0, anna, 1);
    assert!(net.hosts[0].core.outbox().next().is_none() && net.hosts[0].store.outbox.is_empty());
}

#[test]
fn a_refusal_is_told_once_and_remembered_across_a_restart() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    net.hosts[1].inbox = Inbox::Refuses(RefusalCode::Full);
    net.send(0, ben, 1);
    net.run(2);
    let envelope = net.tape.iter().rev().find(|(from, ..)| *from == 0).unwrap().2.clone();
    net.run(SECOND);
    let refused = failed(FailReason::Refused(RefusalCode::Full));
    assert_eq!(net.outcomes(0, 1), refused);
    net.hosts[1].inbox = Inbox::Takes;
    net.restart(1);
    net.run(5 * SECOND);
    let before = net.tape.len();
    net.inject(0, 1, envelope);
    net.run(SECOND);
    assert_eq!(net.got(1, anna), Vec::<u64>::new(), "a repeat gets the same answer");
    assert!(net.tape[before..].iter().any(|(from, ..)| *from == 1), "and it gets one");
}

#[test]
fn what_expires_is_told_once_and_only_by_a_credible_clock() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    let (anna, ben) = (net.user(0), net.user(1));
    let soon = Outgoing { expires: Some(START + 10 * MINUTE), ..outgoing(anna, ben, 1) };
    net.with(0, |core, now| core.send(soon, now).unwrap());
    net.send(0, ben, 2);
    net.run(9 * MINUTE);
    assert!(net.outcomes(0, 1).is_empty());
    net.run(2 * MINUTE);
    assert_eq!(net.outcomes(0, 1), failed(FailReason::Expired));
    net.hosts[0].skew = -(30 * DAY as i64);
    net.run(31 * DAY);
    assert!(net.outcomes(0, 2).is_empty(), "below the build date nothing expires");
    net.hosts[0].skew = 0;
    net.run(2 * HOUR);
    assert_eq!(net.outcomes(0, 2), failed(FailReason::Expired));
    assert_eq!(net.outcomes(0, 1), failed(FailReason::Expired), "told once");
}

#[test]
fn what_was_taken_back_is_not_sent_and_holds_up_nobody() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    net.cut(0, 1);
    for number in 1..=3 {
        net.send(0, ben, number);
    }
    net.with(0, |core, now| {
        assert!(core.cancel(message_id(2), now));
        assert!(!core.cancel(message_id(2), now));
    });
    net.join(0, 1);
    net.run(10 * SECOND);
    assert_eq!(net.got(1, anna), vec![1, 3]);
}

#[test]
fn a_gap_that_the_sender_gave_up_is_passed_when_it_says_so() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    net.weather.loss = 1_000;
    net.send(0, ben, 1);
    net.weather.loss = 0;
    net.send(0, ben, 2);
    net.run(SECOND);
    assert_eq!(net.got(1, anna), Vec::<u64>::new(), "the second waits for the first");
    net.with(0, |core, now| assert!(core.cancel(message_id(1), now)));
    net.run(15 * SECOND);
    assert_eq!(net.got(1, anna), vec![2]);
}

#[test]
fn a_gap_is_passed_after_thirty_seconds_and_what_comes_late_still_comes() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    net.weather.loss = 1_000;
    net.send(0, ben, 1);
    net.weather.loss = 0;
    net.send(0, ben, 2);
    net.run(SECOND);
    // Every attempt to send the first again is lost, as only a broken carrier would do.
    for _ in 0..32 {
        net.weather.loss = 1_000;
        net.run(SECOND);
        net.weather.loss = 0;
        let silent = net.hosts[1].core.peers().is_empty();
        assert!(!silent, "the link stays");
        net.inject(0, 1, crosstalk_overlay::wire::encode(&crosstalk_overlay::wire::Frame::Heartbeat));
        net.inject(1, 0, crosstalk_overlay::wire::encode(&crosstalk_overlay::wire::Frame::Heartbeat));
    }
    assert_eq!(net.got(1, anna), vec![2]);
    net.run(2 * MINUTE);
    assert_eq!(net.got(1, anna), vec![2, 1]);
    assert_eq!(net.outcomes(0, 1), vec![DELIVERED]);
}

#[test]
fn a_restored_sender_opens_a_new_epoch_and_repeats_nothing() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    for number in 1..=3 {
        net.send(0, ben, number);
    }
    net.run(SECOND);
    // The store of host 0 is lost; its user sends message 3 again, and then 4.
    net.hosts[0].store = Store::default();
    net.hosts[0].accounts[0].epoch = 2;
    net.restart(0);
    net.run(5 * SECOND);
    for number in [3, 4] {
        net.send(0, ben, number);
    }
    net.run(SECOND);
    assert_eq!(net.got(1, anna), vec![1, 2, 3, 4]);
    assert_eq!(net.outcomes(0, 4), vec![DELIVERED]);
}

#[test]
fn a_restored_recipient_starts_where_the_sender_is() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    for number in 1..=3 {
        net.send(0, ben, number);
    }
    net.run(SECOND);
    net.hosts[1].store = Store::default();
    net.restart(1);
    net.run(5 * SECOND);
    net.send(0, ben, 4);
    net.run(SECOND);
    assert_eq!(net.got(1, anna), vec![4]);
}

#[test]
fn a_sealing_key_is_due_after_a_week_and_erased_forty_days_later() {
    let mut net = Net::two();
    let ben = net.user(1);
    let due =
        |net: &Net| net.count(1, |event| matches!(event, Output::SealingKeyDue { user } if *user == ben));
    let erased = |net: &Net| net.count(1, |event| matches!(event, Output::SealingKeyErase { .. }));
    net.run(8 * DAY);
    assert!(due(&net) >= 1);
    let key = SealingKey::from_seed([0x33; 32], START + 8 * DAY);
    net.with(1, |core, now| core.add_sealing_key(&ben, key, now));
    net.run(39 * DAY);
    assert_eq!(erased(&net), 0);
    net.run(3 * DAY);
    assert_eq!(erased(&net), 1);
    assert_eq!(net.hosts[0].core.reach(&ben), Reach::Live, "records were renewed all the time");
}

#[test]
fn each_bound_of_the_outbox_says_which_it_is() {
    let limits = Limits { outbox_per_user: 3, outbox: 5, outbox_bytes: 20_000, ..Limits::default() };
    let accounts = vec![vec![Account::new(1, 101), Account::new(2, 102), Account::new(3, 103)]];
    let mut net = Net::with_limits(accounts, limits);
    let users: Vec<_> = net.hosts[0].accounts.iter().map(|account| account.user).collect();
    let stranger = Account::new(9, 109).user;
    let mut send = |user: usize, number: u64, size: usize| {
        let xml = vec![b'x'; size];
        let content = Content::Stanza { from_resource: String::new(), to_resource: String::new(), xml };
        let message = Outgoing { content, ..outgoing(users[user], stranger, number) };
        let mut result = Ok(());
        net.with(0, |core, now| result = core.send(message, now));
        result
    };
    assert_eq!(send(0, 1, 300_000), Err(OutboxFull::TooLarge));
    assert_eq!(send(0, 1, 30_000), Err(OutboxFull::Bytes));
    for number in 1..=3 {
        assert_eq!(send(0, number, 10), Ok(()));
    }
    assert_eq!(send(0, 4, 10), Err(OutboxFull::User));
    assert_eq!((send(1, 5, 10), send(1, 6, 10)), (Ok(()), Ok(())));
    assert_eq!(send(2, 7, 10), Err(OutboxFull::Node));
}

#[test]
fn pairs_that_wait_for_room_at_a_peer_get_their_turn() {
    let limits = Limits { flight_per_peer: 4, ..Limits::default() };
    let senders = (1..=5).map(|index| Account::new(index, 100 + index)).collect();
    let mut net = Net::with_limits(vec![senders, vec![Account::new(9, 109), Account::new(10, 110)]], limits);
    let from: Vec<_> = net.hosts[0].accounts.iter().map(|account| account.user).collect();
    let to: Vec<_> = net.hosts[1].accounts.iter().map(|account| account.user).collect();
    for number in 0..100 {
        net.send_as(0, from[number % 5], to[number % 2], number as u64);
    }
    // Whatever may be under way is lost, and all of it is for the recipient who became live first.
    net.weather.loss = 1_000;
    net.join(0, 1);
    net.run(5);
    net.weather.loss = 0;
    let (first, other) = (*to.iter().min().unwrap(), *to.iter().max().unwrap());
    // Now that one goes: the room is given to the others.
    net.with(1, |core, now| core.remove_local(&first, now));
    net.run(5 * SECOND);
    assert_eq!(net.hosts[1].store.inbox.iter().filter(|(_, user, ..)| *user == other).count(), 50);
    assert_eq!(net.hosts[0].core.counters().resent, 0, "nobody had to wait for a timer");
}

#[test]
fn a_thousand_messages_do_not_crowd_the_link() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    for number in 1..=1_000 {
        net.send(0, ben, number);
    }
    let before = net.tape.len();
    net.run(1);
    assert!(net.tape.len() - before <= 32, "at most 32 without receipt");
    net.run(SECOND);
    assert_eq!(net.got(1, anna), (1..=1_000).collect::<Vec<_>>());
    assert_eq!(net.hosts[0].core.counters().resent, 0);
}

#[test]
fn large_messages_do_not_overrun_the_queue_of_a_peer() {
    let accounts = vec![vec![Account::new(1, 101), Account::new(2, 102)], vec![Account::new(3, 103)]];
    let mut net = Net::new(accounts);
    let from: Vec<_> = net.hosts[0].accounts.iter().map(|account| account.user).collect();
    let to = net.user(1);
    net.join(0, 1);
    net.run(100);
    // Numbers with many leading zeros; each envelope is padded to 128 KiB.
    for number in 1..=40 {
        let xml = format!("{}{number}", "0".repeat(100_000)).into_bytes();
        let content = Content::Stanza { from_resource: String::new(), to_resource: String::new(), xml };
        let message = Outgoing { content, ..outgoing(from[number % 2], to, number as u64) };
        net.with(0, |core, now| core.send(message, now).unwrap());
    }
    let before = net.tape.len();
    net.run(1);
    let bytes: usize = net.tape[before..].iter().map(|(.., frame)| frame.len()).sum();
    assert!((512 * 1_024..=1_024 * 1_024).contains(&bytes), "{bytes} bytes without receipt");
    net.run(SECOND);
    assert_eq!(net.got(1, from[1]), (1..=40).step_by(2).collect::<Vec<_>>());
    assert_eq!(net.got(1, from[0]), (2..=40).step_by(2).collect::<Vec<_>>());
    assert_eq!(net.hosts[0].core.counters().resent, 0, "nobody had to wait for a timer");
}

#[test]
fn one_envelope_may_be_larger_than_the_bound_and_a_message_taken_back_makes_room() {
    let limits = Limits { flight_bytes_per_peer: 1, ..Limits::default() };
    let senders = vec![Account::new(1, 101), Account::new(2, 102)];
    let mut net = Net::with_limits(vec![senders, vec![Account::new(9, 109)]], limits);
    let from: Vec<_> = net.hosts[0].accounts.iter().map(|account| account.user).collect();
    let to = net.user(1);
    net.join(0, 1);
    net.run(100);
    net.weather.loss = 1_000;
    net.send_as(0, from[0], to, 1);
    net.send_as(0, from[1], to, 2);
    net.weather.loss = 0;
    net.with(0, |core, now| assert!(core.cancel(message_id(1), now)));
    net.run(5);
    assert_eq!((net.got(1, from[0]), net.got(1, from[1])), (vec![], vec![2]));
    net.cut(0, 1);
    net.send_as(0, from[0], to, 3);
    net.send_as(0, from[1], to, 4);
    net.join(0, 1);
    net.run(5 * SECOND);
    assert_eq!(
        (net.got(1, from[0]), net.got(1, from[1])),
        (vec![3], vec![2, 4]),
        "nothing counts after a cut"
    );
}

#[test]
fn contact_records_answer_each_other_whatever_the_clocks_say() {
    let mut net = Net::two();
    let (anna, ben) = (net.user(0), net.user(1));
    net.hosts[0].skew = 40 * HOUR as i64;
    let mut request = None;
    net.with(0, |core, now| request = core.sign_contact(&anna, &ben, Side::Watcher, Says::Request, now));
    let request = request.unwrap();
    let (mut seen, mut grant) = (None, None);
    net.with(1, |core, now| {
        seen = core.verify_contact(request.bytes(), now).ok();
        grant = core.sign_contact(&ben, &anna, Side::Publisher, Says::Grant, now);
    });
    assert_eq!(seen.as_ref(), Some(&request));
    assert!(grant.unwrap().at > request.at);
    let nonsense = |core: &mut Overlay, now| core.sign_contact(&anna, &ben, Side::Watcher, Says::Grant, now);
    net.with(0, |core, now| assert!(nonsense(core, now).is_none()));
}

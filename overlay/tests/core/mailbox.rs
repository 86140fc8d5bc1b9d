//! Mailboxes: sender and recipient are never online together, and everything arrives once, in order, with its receipt.

use crosstalk_overlay::core::*;
use crosstalk_overlay::dht::Key;
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::mailbox::Bounds;
use crosstalk_overlay::time::{DAY, HOUR, MINUTE, Now, SECOND};
use crosstalk_overlay::wire::{Frame, encode};

use crate::pump::*;

const ANNA: usize = 0;
const BEN: usize = 1;
/// Hosts without users that are the hash table.
const HOLDERS: [usize; 5] = [2, 3, 4, 5, 6];

pub(crate) fn cheap() -> Limits {
    Limits { mailbox: Bounds { bits: 6, ..Bounds::default() }, ..Limits::default() }
}

/// Anna and Ben met once on a link. Now both are at home, with cables to five nodes, and Ben is away.
pub(crate) fn scene(limits: Limits) -> Net {
    scene_naming(limits, usize::MAX)
}

/// The same where the hash table names so many nodes.
fn scene_naming(limits: Limits, nearest: usize) -> Net {
    let mut accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]];
    accounts.extend(HOLDERS.map(|_| Vec::new()));
    let mut net = Net::with_limits(accounts, limits);
    net.nearest = nearest;
    net.join(ANNA, BEN);
    net.run(5 * SECOND);
    net.cut(ANNA, BEN);
    connect(&mut net, &[ANNA, BEN]);
    net.power_off(BEN);
    net.run(SECOND);
    net
}

/// Ben comes, lets Anna see his presence, meets her for a moment, and goes.
pub(crate) fn meet(net: &mut Net) {
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.power_on(BEN);
    for (host, watchers) in [(ANNA, vec![]), (BEN, vec![anna])] {
        let (user, friend) = (net.user(host), if host == ANNA { ben } else { anna });
        net.with(host, |core, now| {
            core.keep(&friend);
            core.set_presence(&user, vec![session("desk")], watchers, now);
        });
    }
    net.join(ANNA, BEN);
    net.run(5 * SECOND);
    net.cut(ANNA, BEN);
    net.power_off(BEN);
    net.run(SECOND);
}

/// Lays cables beyond the link between these hosts, the holders, and the holders among each other.
pub(crate) fn connect(net: &mut Net, people: &[usize]) {
    for holder in HOLDERS {
        people.iter().for_each(|person| net.join_beyond(*person, holder));
        HOLDERS.iter().filter(|other| **other < holder).for_each(|other| net.join_beyond(*other, holder));
    }
    net.set_table(HOLDERS.to_vec());
}

pub(crate) fn items(net: &Net) -> Vec<usize> {
    HOLDERS.map(|holder| net.hosts[holder].store.mail.len()).to_vec()
}

pub(crate) fn total(net: &Net) -> usize {
    items(net).iter().sum()
}

fn swap(net: &mut Net, off: usize, on: usize) {
    net.power_off(off);
    net.run(SECOND);
    net.power_on(on);
    net.run(MINUTE);
}

fn delivered(net: &Net, numbers: std::ops::RangeInclusive<u64>) -> bool {
    numbers.into_iter().all(|number| net.outcomes(ANNA, number) == vec![Outcome::Delivered])
}

#[test]
fn sender_and_recipient_are_never_online_together() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    (1..=20).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    assert_eq!(total(&net), 60, "three holders have each: {:?}", items(&net));
    assert!(net.outcomes(ANNA, 1).is_empty(), "held for Ben is not delivered to Ben");
    swap(&mut net, ANNA, BEN);
    assert_eq!(net.got(BEN, anna), (1..=20).collect::<Vec<_>>());
    assert_eq!(total(&net), 3, "twenty receipts in one item: {:?}", items(&net));
    swap(&mut net, BEN, ANNA);
    assert!(delivered(&net, 1..=20));
    assert_eq!((total(&net), net.hosts[ANNA].store.outbox.len()), (0, 0));
}

/// They have never met, and the hash table has forgotten who she is.
#[test]
fn the_first_letters_bring_the_senders_record() {
    let mut accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]];
    accounts.extend(HOLDERS.map(|_| Vec::new()));
    let mut net = Net::with_limits(accounts, cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    connect(&mut net, &[ANNA, BEN]);
    net.run(MINUTE);
    net.power_off(BEN);
    net.run(SECOND);
    net.send(ANNA, ben, 1);
    net.run(2 * MINUTE);
    assert_eq!(total(&net), 3, "she has looked up who he is: {:?}", items(&net));
    net.power_off(ANNA);
    net.table.as_mut().expect("a table").remove(&Key::user(&anna)).expect("her record");
    net.power_on(BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), [1]);
    assert_eq!(net.hosts[BEN].core.reach(&anna), Reach::Known);
    assert_eq!(total(&net), 3, "his receipt is sealed for her: {:?}", items(&net));
    swap(&mut net, BEN, ANNA);
    assert!(delivered(&net, 1..=1));
    // From then on they are left out.
    net.send(ANNA, ben, 2);
    net.run(2 * MINUTE);
    let sizes = HOLDERS.map(|at| net.hosts[at].store.mail.values().map(|mail| mail.item.len()).max());
    assert!(sizes.iter().flatten().all(|size| *size < 1_024), "{sizes:?}");
}

#[test]
fn nothing_is_deposited_while_it_can_be_sent() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.power_on(BEN);
    net.join(ANNA, BEN);
    net.run(10 * SECOND);
    (1..=20).for_each(|number| net.send(ANNA, ben, number));
    net.run(HOUR);
    assert_eq!((net.got(BEN, anna), total(&net)), ((1..=20).collect(), 0));
}

#[test]
fn direct_delivery_wins_and_the_mail_repeats_nothing() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    (1..=9).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    net.power_on(BEN);
    net.join(ANNA, BEN);
    (10..=12).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), (1..=12).collect::<Vec<_>>());
    assert!(delivered(&net, 1..=12));
    net.run(HOUR);
    assert_eq!((net.got(BEN, anna).len(), total(&net)), (12, 0), "{:?}", items(&net));
}

#[test]
fn what_the_sender_adds_while_the_recipient_fetches_keeps_its_order() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    (1..=5).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    net.power_on(BEN);
    for number in 6..=40 {
        net.send(ANNA, ben, number);
        net.run(700);
    }
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), (1..=40).collect::<Vec<_>>(), "both online, with no way but the mailbox");
    assert!(delivered(&net, 1..=40));
    net.run(MINUTE);
    assert_eq!(total(&net), 0, "{:?}", items(&net));
    net.run(40 * MINUTE);
    net.send(ANNA, ben, 41);
    net.run(20 * SECOND);
    assert_eq!(net.outcomes(ANNA, 41), vec![Outcome::Delivered], "there and back while both are quiet");
}

#[test]
fn holders_die_one_after_another_and_it_still_arrives() {
    let limits = Limits { repair: 5 * MINUTE, ..cheap() };
    let mut net = scene(limits);
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    (1..=10).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    net.power_off(ANNA);
    let mut dead = Vec::new();
    for _ in 0..2 {
        let holder =
            HOLDERS.into_iter().find(|at| !dead.contains(at) && !net.hosts[*at].store.mail.is_empty());
        net.power_off(holder.unwrap());
        dead.extend(holder);
        net.run(10 * MINUTE);
        let live = HOLDERS.into_iter().filter(|at| !dead.contains(at));
        let full = live.filter(|at| net.hosts[*at].store.mail.len() == 10).count();
        assert!(full >= 3, "{:?} without {dead:?}", items(&net));
    }
    net.power_on(BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), (1..=10).collect::<Vec<_>>());
    swap(&mut net, BEN, ANNA);
    assert!(delivered(&net, 1..=10));
    dead.iter().for_each(|holder| net.power_on(*holder));
    net.power_on(BEN);
    net.run(HOUR);
    assert_eq!(net.got(BEN, anna).len(), 10, "what the dead come back with repeats nothing");
    assert_eq!(total(&net), 0, "{:?}", items(&net));
}

#[test]
fn the_sender_replaces_holders_that_are_gone() {
    let mut net = scene(Limits { repair: 5 * MINUTE, ..cheap() });
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    // All three at once: nobody is left to pass anything on.
    let had: Vec<usize> = HOLDERS.into_iter().filter(|at| !net.hosts[*at].store.mail.is_empty()).collect();
    assert_eq!(had.len(), 3);
    had.iter().for_each(|holder| net.power_off(*holder));
    net.run(10 * MINUTE);
    swap(&mut net, ANNA, BEN);
    assert_eq!(net.got(BEN, anna), vec![1]);
}

#[test]
fn everybody_restarts_all_the_time() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    for number in 1..=12 {
        net.send(ANNA, ben, number);
        net.run(3 * SECOND);
        net.restart(ANNA);
        net.restart(HOLDERS[number as usize % 5]);
        net.run(4 * SECOND);
    }
    net.run(MINUTE);
    net.power_off(ANNA);
    net.power_on(BEN);
    for step in 0..12 {
        net.run(1_500);
        net.restart(BEN);
        net.restart(HOLDERS[step % 5]);
    }
    net.run(20 * MINUTE);
    assert_eq!(net.got(BEN, anna), (1..=12).collect::<Vec<_>>());
    swap(&mut net, BEN, ANNA);
    assert!(delivered(&net, 1..=12));
}

#[test]
fn a_copy_is_not_deposited_again_after_a_restart() {
    let mut net = scene(cheap());
    let ben = net.user(BEN);
    (1..=5).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    (0..5).for_each(|_| {
        net.restart(ANNA);
        net.run(HOUR);
    });
    assert_eq!(total(&net), 15, "{:?}", items(&net));
}

#[test]
fn both_devices_of_the_recipient_get_it() {
    let mut accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]];
    accounts.extend(HOLDERS.map(|_| Vec::new()));
    accounts.push(vec![Account::new(2, 103)]);
    let mut net = Net::with_limits(accounts, cheap());
    let second = HOLDERS.len() + 2;
    for (a, b) in [(ANNA, BEN), (ANNA, second), (BEN, second)] {
        net.join(a, b);
    }
    net.run(10 * SECOND);
    for (a, b) in [(ANNA, BEN), (ANNA, second), (BEN, second)] {
        net.cut(a, b);
    }
    connect(&mut net, &[ANNA, BEN, second]);
    net.power_off(BEN);
    net.power_off(second);
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    (1..=4).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    assert_eq!(total(&net), 24, "{:?}", items(&net));
    swap(&mut net, ANNA, BEN);
    assert_eq!(net.got(BEN, anna), vec![1, 2, 3, 4]);
    swap(&mut net, BEN, ANNA);
    assert!(delivered(&net, 1..=4), "the first device's receipt counts");
    assert_eq!(net.hosts[ANNA].store.outbox.len(), 4, "the other device's copies still wait");
    swap(&mut net, ANNA, second);
    assert_eq!(net.got(second, anna), vec![1, 2, 3, 4]);
    swap(&mut net, second, ANNA);
    assert_eq!((net.hosts[ANNA].store.outbox.len(), total(&net)), (0, 0));
}

#[test]
fn a_neighbour_carries_it_to_whom_it_meets_later() {
    let (mut net, courier) = carries_it(Net::join);
    net.cut(courier, BEN);
    net.join(courier, ANNA);
    net.run(MINUTE);
    assert!(delivered(&net, 1..=3), "the courier brings the receipts back");
    assert!(net.hosts[courier].store.mail.is_empty());
}

#[test]
fn a_neighbour_carries_it_to_whom_it_meets_beyond_the_link() {
    carries_it(|net, courier, ben| {
        net.join_beyond(courier, ben);
        net.link(courier, ben);
        net.run(100);
        // As he would say to somebody whom he shows himself.
        let (account, millis) = (net.hosts[ben].accounts[0].clone(), net.now(ben).wall);
        let frame = user_frame(&account, 2, millis, node_key(ben));
        net.inject(ben, courier, encode(&Frame::Records(vec![frame])));
    });
}

fn carries_it(meets: impl FnOnce(&mut Net, usize, usize)) -> (Net, usize) {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(3, 103)]];
    let mut net = Net::with_limits(accounts, cheap());
    let (courier, anna, ben) = (2, net.user(ANNA), net.user(BEN));
    net.join(ANNA, BEN);
    net.run(10 * SECOND);
    net.cut(ANNA, BEN);
    (1..=3).for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    net.join(ANNA, courier);
    net.run(MINUTE);
    net.cut(ANNA, courier);
    assert_eq!(net.hosts[courier].store.mail.len(), 3);
    net.run(HOUR);
    net.restart(courier);
    meets(&mut net, courier, BEN);
    net.run(MINUTE);
    assert_eq!(net.got(BEN, anna), vec![1, 2, 3]);
    (net, courier)
}

#[test]
fn a_declared_mailbox_is_used_first() {
    named_by(|core, _, own, now| core.set_mailboxes(vec![(own, vec![])], now));
}

#[test]
fn the_server_of_a_domain_is_a_mailbox_of_its_users() {
    named_by(|core, ben, own, now| core.set_server(&ben, own, &[], now));
}

fn named_by(name: impl Fn(&mut Overlay, UserId, NodeId, Now)) {
    // One where the message would not be otherwise.
    let mut probe = scene(cheap());
    probe.send(ANNA, probe.user(BEN), 1);
    probe.run(MINUTE);
    let own = HOLDERS.into_iter().find(|holder| probe.hosts[*holder].store.mail.is_empty()).unwrap();
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.power_on(BEN);
    net.with(BEN, |core, now| name(core, ben, node_id(own), now));
    net.join(ANNA, BEN);
    net.run(10 * SECOND);
    net.cut(ANNA, BEN);
    net.power_off(BEN);
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    assert_eq!(net.hosts[own].store.mail.len(), 1);
    for holder in HOLDERS.into_iter().filter(|holder| *holder != own) {
        net.power_off(holder);
    }
    swap(&mut net, ANNA, BEN);
    assert_eq!(net.got(BEN, anna), vec![1]);
}

#[test]
fn whoever_came_when_there_were_few_nodes_finds_mail_at_those_who_are_closest_among_many() {
    let mut net = scene_naming(cheap(), 3);
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    let mut nodes = HOLDERS.to_vec();
    nodes.sort_by_key(|node| node_id(*node).as_bytes()[0] ^ Key::mailbox(&ben).as_bytes()[0]);
    // Ben comes when nobody is there but the node that is farthest of all from his mailbox.
    net.set_table(vec![nodes[4]]);
    net.copies = 1;
    net.power_on(BEN);
    for nodes in [0, 1] {
        net.peer_event(BEN, PeerEvent::Table { nodes });
    }
    net.run(MINUTE);
    net.set_table(nodes);
    net.run(MINUTE);
    net.send(ANNA, ben, 1);
    net.run(20 * SECOND);
    assert_eq!(net.got(BEN, anna), vec![1], "{:?}", items(&net));
}

/// Who has just come knows few nodes, of whom some are gone, and may hear of the wrong ones first.
#[test]
fn who_was_told_of_others_at_first_finds_his_mail_a_moment_later() {
    let mut net = scene_naming(cheap(), 3);
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    let other = HOLDERS.into_iter().find(|holder| net.hosts[*holder].store.mail.is_empty()).unwrap();
    net.power_off(ANNA);
    net.set_table(vec![other]);
    net.power_on(BEN);
    net.run(10 * SECOND);
    assert_eq!(net.got(BEN, anna), Vec::<u64>::new());
    // The table of nodes grows by none.
    net.set_table(HOLDERS.to_vec());
    net.run(20 * SECOND);
    assert_eq!(net.got(BEN, anna), vec![1], "{:?}", items(&net));
}

#[test]
fn where_a_declared_mailbox_is_is_looked_up() {
    let mut net = scene_naming(cheap(), 2);
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    // One that Anna has never heard of.
    let known: Vec<_> = net.hosts[ANNA].core.peers().iter().map(|peer| peer.node).collect();
    let own = HOLDERS.into_iter().find(|holder| !known.contains(&node_id(*holder))).unwrap();
    net.power_on(BEN);
    net.with(BEN, |core, now| core.set_mailboxes(vec![(node_id(own), vec![])], now));
    net.join(ANNA, BEN);
    net.run(10 * SECOND);
    net.cut(ANNA, BEN);
    net.power_off(BEN);
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    assert_eq!(net.hosts[own].store.mail.len(), 1, "{:?}", items(&net));
    for holder in HOLDERS.into_iter().filter(|holder| *holder != own) {
        net.power_off(holder);
    }
    swap(&mut net, ANNA, BEN);
    assert_eq!(net.got(BEN, anna), vec![1], "and Ben finds it there, too");
}

#[test]
fn what_nobody_fetches_expires_everywhere() {
    let mut net = scene(cheap());
    let ben = net.user(BEN);
    net.send(ANNA, ben, 1);
    net.run(MINUTE);
    assert_eq!(total(&net), 3);
    net.run(31 * DAY);
    assert_eq!(net.outcomes(ANNA, 1), vec![Outcome::Failed(FailReason::Expired)]);
    assert_eq!(total(&net), 0, "{:?}", items(&net));
}

/// Numbers without a plan.
fn roll(dice: &mut u64, below: u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*dice >> 33) % below
}

#[test]
fn everybody_comes_and_goes_and_everything_arrives_once_in_order() {
    for seed in 1..=4_u64 {
        let mut net = scene(cheap());
        let (anna, ben) = (net.user(ANNA), net.user(BEN));
        net.shuffle_dice(seed);
        let (mut dice, mut on, mut sent) = (seed, [true, false], [0, 0]);
        for _ in 0..60 {
            let who = roll(&mut dice, 2) as usize;
            match roll(&mut dice, 4) {
                0 | 1 if on[who] => {
                    for _ in 0..=roll(&mut dice, 3) {
                        sent[who] += 1;
                        let to = if who == ANNA { ben } else { anna };
                        net.send(who, to, 1_000 * who as u64 + sent[who]);
                    }
                }
                2 => {
                    if on[who] {
                        net.power_off(who)
                    } else {
                        net.power_on(who)
                    }
                    on[who] = !on[who];
                }
                _ => net.restart(HOLDERS[roll(&mut dice, 5) as usize]),
            }
            net.run(1 + roll(&mut dice, 20 * SECOND));
        }
        for who in [ANNA, BEN].into_iter().filter(|who| !on[*who]).collect::<Vec<_>>() {
            net.power_on(who);
        }
        net.run(2 * HOUR);
        assert_eq!(net.got(BEN, anna), (1..=sent[0]).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(net.got(ANNA, ben), (1_001..=1_000 + sent[1]).collect::<Vec<_>>(), "seed {seed}");
        let waiting = net.hosts[ANNA].store.outbox.len() + net.hosts[BEN].store.outbox.len();
        assert_eq!((waiting, total(&net)), (0, 0), "seed {seed}: {:?}", items(&net));
    }
}

#[test]
fn frames_that_are_lost_and_late_lose_and_repeat_nothing() {
    let mut net = scene(cheap());
    let (anna, ben) = (net.user(ANNA), net.user(BEN));
    net.weather = Weather { loss: 150, duplicates: 100, jitter: 300 };
    for round in 0..6 {
        (1..=8).for_each(|number| net.send(ANNA, ben, round * 8 + number));
        net.run(2 * MINUTE);
        swap(&mut net, ANNA, BEN);
        net.run(20 * MINUTE);
        swap(&mut net, BEN, ANNA);
        net.run(20 * MINUTE);
    }
    net.weather = Weather::default();
    net.power_on(BEN);
    net.run(2 * HOUR);
    let mut got = net.got(BEN, anna);
    got.sort_unstable();
    assert_eq!(got, (1..=48).collect::<Vec<_>>());
    assert!(delivered(&net, 1..=48));
    assert_eq!(total(&net), 0, "{:?}", items(&net));
}

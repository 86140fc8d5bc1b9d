//! Many nodes on one link: all see all over few connections, cheaply; who leaves is missed soon, by everybody, and
//! nobody else.

use crosstalk_overlay::core::*;
use crosstalk_overlay::time::{MINUTE, SECOND};

use crate::crowd::*;
use crate::pump::{outgoing, session};

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[test]
fn a_dozen_are_a_full_mesh() {
    for count in [2, 3, 7, 12] {
        let mut crowd = Crowd::new(count);
        crowd.introduce(SECOND);
        crowd.run(10 * SECOND);
        assert!((0..count).all(|index| crowd.connections(index) == count - 1), "{count}");
        assert!(crowd.all_see(&all(count), &all(count)), "{count}");
        crowd.run(5 * MINUTE);
        assert!((0..count).all(|index| crowd.connections(index) == count - 1), "{count}, later");
        assert_eq!(crowd.losses(), Vec::<u64>::new());
    }
}

/// All meet at once and come to rest; what that costs is printed. Returns bytes of a node in an idle minute.
fn meet(count: usize) -> u64 {
    let mut crowd = Crowd::new(count);
    crowd.introduce(SECOND);
    let met = crowd.until(10 * SECOND, |crowd| crowd.all_see(&all(count), &all(count)));
    let (frames, bytes) = crowd.sent();
    assert!(met.is_some(), "{count} nodes: not all see all after ten seconds");
    crowd.run(3 * MINUTE);
    let before = crowd.sent();
    crowd.run(15 * MINUTE);
    let after = crowd.sent();
    let minutes = 15 * count as u64;
    let (idle_frames, idle_bytes) = ((after.0 - before.0) / minutes, (after.1 - before.1) / minutes);
    let connections = (0..count).map(|index| crowd.connections(index));
    let (most, sum) = (connections.clone().max().unwrap_or_default(), connections.sum::<usize>());
    let dialled = (0..count).map(|index| crowd.dialled(index)).max().unwrap_or_default();
    let held = crowd.members.iter().map(|member| member.core.relay_load()).max().unwrap_or_default();
    println!(
        "{count} nodes: all see all after {met:?} ms with {} frames and {} bytes of each; idle {idle_frames} frames and \
         {idle_bytes} bytes of each in a minute; {} connections in the mean, {most} at most, {dialled} dialled at most; \
         {held:?} statements and bytes held at most",
        frames / count as u64,
        bytes / count as u64,
        sum as f64 / count as f64,
    );
    assert!(crowd.all_see(&all(count), &all(count)), "all still see all");
    assert_eq!(crowd.losses(), Vec::<u64>::new(), "and nobody was ever missed");
    assert!(dialled <= 8, "{dialled} standing links dialled by one node");
    assert!(most <= 24, "{most} connections of one node");
    assert!(held.0 <= 3 * count && held.1 <= 2_048 * count, "{held:?} statements and bytes held");
    assert!(idle_frames <= 8 * most as u64, "{idle_frames} frames a minute");
    idle_bytes
}

#[test]
fn fifty_and_two_hundred_see_each_other_and_are_quiet_then() {
    let (fifty, two_hundred) = (meet(50), meet(200));
    assert!(fifty <= 2_500, "{fifty} bytes");
    assert!(
        two_hundred <= 5 * fifty,
        "grows no faster than the number of nodes: {fifty}, {two_hundred} bytes"
    );
}

fn vanish(count: usize, loss: u64, within: u64, false_share: f64) {
    let mut crowd = Crowd::settled(count);
    crowd.loss = loss;
    crowd.run(20 * SECOND);
    let rest: Vec<usize> = (0..count - 1).collect();
    crowd.vanish(count - 1);
    let gone = crowd.until(within, |crowd| crowd.none_sees(&rest, &[count - 1]));
    assert!(gone.is_some(), "{count} nodes, {loss} per mille lost: still seen after {within} ms");
    let before = crowd.losses().len();
    let asked = |crowd: &Crowd| crowd.members.iter().map(|member| member.datagrams).sum::<u64>();
    let asked_before = asked(&crowd);
    // Whoever is missed though here, in neighbour-minutes: looked at once a second.
    let (mut missed, seconds) = (0, 300);
    for _ in 0..seconds {
        crowd.run(SECOND);
        missed += rest.iter().map(|index| rest.len() - 1 - crowd.members[*index].seen.len()).sum::<usize>();
    }
    let share = missed as f64 / (seconds * rest.len() * (rest.len() - 1)) as f64;
    println!(
        "{count} nodes, {loss} per mille lost: gone everywhere after {gone:?} ms; {} of {} neighbour-seconds missed \
         ({share:.5}), {} times; {} datagrams",
        missed,
        seconds * rest.len() * (rest.len() - 1),
        crowd.losses().len() - before,
        asked(&crowd) - asked_before,
    );
    assert!(loss > 0 || asked(&crowd) == asked_before, "a good link carries no datagram");
    assert!(share <= false_share, "{share} of the time somebody who is here is missed");
}

#[test]
fn who_vanishes_is_missed_by_all_in_time_and_nobody_else_is() {
    vanish(12, 0, 30 * SECOND, 0.0);
    vanish(12, 100, 30 * SECOND, 0.01);
    vanish(50, 0, 30 * SECOND, 0.0);
    vanish(50, 100, 30 * SECOND, 0.01);
    vanish(50, 300, 90 * SECOND, 0.05);
}

fn partition(count: usize) {
    let mut crowd = Crowd::settled(count);
    let (left, right): (Vec<usize>, Vec<usize>) = all(count).into_iter().partition(|index| index % 2 == 0);
    right.iter().for_each(|index| crowd.group[*index] = 1);
    let gone =
        crowd.until(30 * SECOND, |crowd| crowd.none_sees(&left, &right) && crowd.none_sees(&right, &left));
    let losses = crowd.losses().len();
    println!(
        "{count} nodes in two halves: gone after {gone:?} ms, {losses} losses of {}",
        2 * left.len() * right.len()
    );
    crowd.run(60 * SECOND);
    assert!(crowd.all_see(&left, &left) && crowd.all_see(&right, &right), "each half is whole");
    assert_eq!(losses, 2 * left.len() * right.len(), "nobody of one's own half was missed");
    assert_eq!(crowd.losses().len(), losses, "and nobody of one's own half was missed");
    crowd.group.fill(0);
    let back = crowd.until(5 * SECOND, |crowd| crowd.all_see(&all(count), &all(count)));
    println!("{count} nodes in two halves: gone after {gone:?} ms, back after {back:?} ms");
    assert!(gone.is_some(), "{count}: the other half is still seen after 30 s");
    assert!(back.is_some(), "{count}: not all are back 5 s after the heal");
}

#[test]
fn halves_miss_each_other_in_time_and_find_each_other_without_being_told() {
    partition(2);
    partition(10);
    partition(50);
}

#[test]
fn two_hundred_in_two_halves() {
    partition(200);
}

/// Two members of a settled crowd that are not connected.
fn strangers(crowd: &Crowd) -> (usize, usize) {
    let other = (1..crowd.members.len()).find(|other| !crowd.are_connected(0, *other)).unwrap();
    (0, other)
}

fn live(from: crosstalk_overlay::id::UserId, to: crosstalk_overlay::id::UserId) -> Live {
    let (from_resource, to_resource) = ("desk".to_owned(), String::new());
    Live { from, from_resource, to, to_resource, xml: b"<iq/>".to_vec() }
}

#[test]
fn whoever_is_needed_is_connected_now_and_left_alone_later() {
    let mut crowd = Crowd::settled(50);
    let (a, b) = strangers(&crowd);
    let (from, to) = (crowd.user(a), crowd.user(b));
    assert_eq!(crowd.members[a].core.reach(&to), Reach::Live);
    crowd.with(a, |core, now| core.send(outgoing(from, to, 1), now).unwrap());
    let arrived = crowd.until(SECOND, |crowd| {
        crowd.members[a]
            .events
            .iter()
            .any(|event| matches!(event, Output::Settled { outcome: Outcome::Delivered, .. }))
    });
    assert!(arrived.is_some(), "a message dials");
    let closed = crowd.until(3 * MINUTE, |crowd| !crowd.are_connected(a, b));
    assert!(closed.is_some_and(|after| after >= MINUTE), "closed when idle: {closed:?}");
    assert!(crowd.members[a].seen.contains(&to) && crowd.members[b].seen.contains(&from), "and still seen");
    crowd.with(a, |core, now| core.send_live(live(from, to), now).unwrap());
    crowd.run(SECOND);
    assert!(
        crowd.members[b].events.iter().any(|event| matches!(event, Output::Live(_))),
        "so does a live stanza"
    );
}

#[test]
fn a_live_stanza_for_one_who_does_not_answer_fails_after_three_seconds() {
    let mut crowd = Crowd::settled(50);
    let (a, b) = strangers(&crowd);
    let (from, to) = (crowd.user(a), crowd.user(b));
    crowd.vanish(b);
    crowd.with(a, |core, now| core.send_live(live(from, to), now).unwrap());
    let failed =
        |crowd: &Crowd| crowd.members[a].events.iter().any(|event| matches!(event, Output::LiveFailed(_)));
    let after = crowd.until(5 * SECOND, failed);
    assert!(after.is_some_and(|after| (3_000..=3_100).contains(&after)), "{after:?}");
    let results: Vec<_> = (0..65)
        .map(|_| {
            let mut result = Ok(());
            crowd.with(a, |core, now| result = core.send_live(live(from, to), now));
            result
        })
        .collect();
    assert!(results[..64].iter().all(Result::is_ok) && results[64] == Err(Unreachable::Busy), "bounded");
}

#[test]
fn contacts_stay_connected_and_see_each_others_presence() {
    let mut crowd = Crowd::settled(50);
    let (a, b) = strangers(&crowd);
    let (from, to) = (crowd.user(a), crowd.user(b));
    crowd.with(a, |core, now| core.set_presence(&from, vec![session("desk")], vec![to], now));
    crowd.run(SECOND);
    let told = |event: &Output| matches!(event, Output::Presence { from: who, .. } if *who == from);
    assert!(crowd.members[b].events.iter().any(told), "a contact's presence arrives");
    crowd.run(5 * MINUTE);
    assert!(crowd.are_connected(a, b), "and the connection stays");
    crowd.vanish(a);
    crowd.run(MINUTE);
    let gone = |event: &&Output| matches!(event, Output::Unreachable { user, .. } if *user == from);
    assert_eq!(crowd.members[b].events.iter().filter(gone).count(), 1, "told once that it is gone");
    assert_eq!(crowd.members[b].losses.len(), 1);
}

#[test]
fn who_hides_or_is_removed_is_gone_for_everybody_at_once() {
    let mut crowd = Crowd::settled(50);
    let rest: Vec<usize> = (2..50).collect();
    let (hidden, removed) = (crowd.user(0), crowd.user(1));
    crowd.with(0, |core, now| core.set_link_presence(&hidden, None, now));
    crowd.with(1, |core, now| core.remove_local(&removed, now));
    let gone = crowd.until(3 * SECOND, |crowd| crowd.none_sees(&rest, &[0, 1]));
    assert!(gone.is_some());
    assert!(rest.iter().all(|index| crowd.members[*index].core.reach(&hidden) == Reach::Live));
    assert!(rest.iter().all(|index| crowd.members[*index].core.reach(&removed) == Reach::Known));
}

#[test]
fn multicast_that_is_lost_takes_nobody_away() {
    let mut crowd = Crowd::settled(20);
    for (a, b) in (0..20).flat_map(|a| (0..20).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        let addresses = vec![format!("/memory/{b}")];
        crowd.tell(a, PeerEvent::Expired { node: member_id(b), addresses });
    }
    crowd.run(5 * MINUTE);
    assert!(crowd.all_see(&all(20), &all(20)));
    assert_eq!(crowd.losses(), Vec::<u64>::new());
}

#[test]
fn connections_that_nobody_needs_end_without_much_ado() {
    let mut crowd = Crowd::new(25);
    crowd.introduce(SECOND);
    crowd.run(50 * SECOND);
    let connections = |crowd: &Crowd| (0..25).map(|index| crowd.connections(index)).sum::<usize>();
    let (before, had) = (crowd.sent(), connections(&crowd));
    crowd.run(60 * SECOND);
    let (after, has) = (crowd.sent(), connections(&crowd));
    let each = (after.1 - before.1) / 25;
    println!("25 nodes: of {had} connections {has} are left, for {each} bytes of each node");
    assert!(3 * has < 2 * had, "{had}, then {has}");
    // One statement of each reaches each: about 400 bytes with what announces it.
    assert!(each <= 25 * 560, "{each}");
    assert!(crowd.all_see(&all(25), &all(25)));
    assert_eq!(crowd.losses(), Vec::<u64>::new());
}

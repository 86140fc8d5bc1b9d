//! People far from each other: found by the hash table, shown to those who may see them, reached.

use crosstalk_overlay::core::*;
use crosstalk_overlay::dht::Key;
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{AuthorityKey, UserKey};
use crosstalk_overlay::record::{
    NameCert, PresenceSession, Revocation, Revoked, RevokedBy, Rotation, Verified,
};
use crosstalk_overlay::time::{DAY, HOUR, MINUTE, SECOND};

use crate::pump::*;

/// Two hosts with one user each that know each other, and a hash table; nothing else joins them but cables beyond the link.
fn far_friends() -> Net {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    net.join_beyond(0, 1);
    net.open_table();
    befriend(&mut net, 0, 1);
    befriend(&mut net, 1, 0);
    net
}

/// The user of `host` lets that of `other` see its presence, and wants to see theirs.
fn befriend(net: &mut Net, host: usize, other: usize) {
    let (user, friend) = (net.user(host), net.user(other));
    net.with(host, |core, now| {
        core.keep(&friend);
        core.set_presence(&user, vec![session("desk")], vec![friend], now);
    });
}

/// Whether each presence that a host was told of came from the device itself.
fn told_live(net: &Net, host: usize, of: UserId) -> Vec<bool> {
    let live = net.hosts[host].events.iter().filter_map(|event| match event {
        Output::Presence { from, live, .. } if *from == of => Some(*live),
        _ => None,
    });
    live.collect()
}

fn presences(net: &Net, host: usize, of: UserId) -> usize {
    net.count(host, |event| matches!(event, Output::Presence { from, .. } if *from == of))
}

/// Friends who are connected once give each other the keys to find them by.
fn acquainted() -> Net {
    let mut net = far_friends();
    net.run(10 * MINUTE);
    // Each has found the other's record; now they meet for a moment.
    let (frames, hosts) = ([0, 1].map(|host| says_who_is_there(&net, host)), [(0, 1), (1, 0)]);
    net.link(0, 1);
    net.run(100);
    for ((from, to), frame) in hosts.into_iter().zip(frames) {
        net.inject(from, to, frame);
    }
    net.run(MINUTE);
    for host in 0..2 {
        assert_eq!(net.hosts[host].core.reach(&net.user(1 - host)), Reach::Live);
        assert_eq!(net.hosts[host].core.outbox().count(), 0, "the keys have arrived");
    }
    net
}

fn says_who_is_there(net: &Net, host: usize) -> Vec<u8> {
    let frame = user_frame(&net.hosts[host].accounts[0], host as u8 + 1, net.now(host).wall, node_key(host));
    crosstalk_overlay::wire::encode(&crosstalk_overlay::wire::Frame::Records(vec![frame]))
}

#[test]
fn a_record_is_published_and_found_by_whoever_has_a_message() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    net.open_table();
    net.run(5 * SECOND);
    let (user, other) = (net.user(0), net.user(1));
    assert!(net.table.as_ref().unwrap().contains_key(&Key::user(&other)));
    assert_eq!(net.hosts[0].core.reach(&other), Reach::Unknown);
    net.send(0, other, 1);
    net.run(5 * SECOND);
    assert_eq!(net.hosts[0].core.reach(&other), Reach::Known);
    assert_eq!(net.hosts[1].core.reach(&user), Reach::Unknown, "nobody was told");
}

/// Who is there first stores at whoever is there; when many have come, others are closest, and look-ups end with those.
#[test]
fn a_record_is_published_again_when_the_table_has_grown() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)]]);
    net.copies = 3;
    net.open_table();
    net.run(5 * SECOND);
    let key = Key::user(&net.user(0));
    let mut put_again = |nodes: usize| {
        net.table.as_mut().unwrap().remove(&key);
        net.copies = nodes.min(8);
        net.peer_event(0, PeerEvent::Table { nodes });
        net.run(MINUTE);
        net.table.as_ref().unwrap().contains_key(&key)
    };
    assert!(!put_again(4), "one more is no reason");
    assert!(put_again(6));
    assert!(!put_again(11) && put_again(12));
    assert!(!put_again(5), "nor is it that some have gone");
}

/// One copy of eight would be all there is until the next morning.
#[test]
fn what_too_few_have_stored_is_published_again_until_enough_have() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)]]);
    net.copies = 5;
    net.open_table();
    net.peer_event(0, PeerEvent::Table { nodes: 9 });
    net.run(5 * SECOND);
    let key = Key::user(&net.user(0));
    let mut put_again = |copies, within| {
        net.copies = copies;
        net.table.as_mut().unwrap().remove(&key);
        net.run(within);
        net.table.as_ref().unwrap().contains_key(&key)
    };
    assert!(put_again(5, MINUTE));
    assert!(put_again(6, 2 * MINUTE), "and now it is enough");
    assert!(!put_again(6, HOUR));
}

#[test]
fn what_the_table_says_of_somebody_counts_only_with_the_right_signatures() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    net.open_table();
    net.run(5 * SECOND);
    let other = net.user(1);
    let of_another = net.table.as_ref().unwrap()[&Key::user(&net.user(0))].clone();
    let mut altered = net.table.as_ref().unwrap()[&Key::user(&other)].clone();
    altered[60] ^= 1;
    for forged in [of_another, altered, b"nonsense".to_vec(), Vec::new()] {
        net.table.as_mut().unwrap().insert(Key::user(&other), forged);
        net.send(0, other, net.mono);
        net.run(10 * MINUTE);
        assert_eq!(net.hosts[0].core.reach(&other), Reach::Unknown);
    }
}

#[test]
fn friends_find_each_other_and_whoever_comes_sees_the_other_before_they_are_connected() {
    let mut net = acquainted();
    net.power_off(0);
    net.run(MINUTE);
    net.cut(0, 1);
    let seen = presences(&net, 0, net.user(1));
    net.power_on(0);
    befriend(&mut net, 0, 1);
    net.run(2 * SECOND);
    assert_eq!(presences(&net, 0, net.user(1)), seen + 1, "seen, though there is no way to them");
    assert_ne!(net.hosts[0].core.reach(&net.user(1)), Reach::Live);
    assert_eq!(told_live(&net, 0, net.user(1)).last(), Some(&false), "and as old as it says");
    net.join_beyond(0, 1);
    net.run(2 * MINUTE);
    assert_eq!(
        told_live(&net, 0, net.user(1)).last(),
        Some(&true),
        "now it is fresh, though it may be the same"
    );
    for host in 0..2 {
        assert_eq!(net.hosts[host].core.reach(&net.user(1 - host)), Reach::Live);
    }
    net.send(0, net.user(1), 7);
    net.run(SECOND);
    assert_eq!(net.outcomes(0, 7), vec![Outcome::Delivered]);
}

#[test]
fn what_was_seen_long_ago_is_not_shown_for_ever() {
    let mut net = acquainted();
    net.power_off(0);
    net.power_off(1);
    net.run(MINUTE);
    net.cut(0, 1);
    net.power_on(0);
    befriend(&mut net, 0, 1);
    net.run(2 * SECOND);
    let gone = |net: &Net| net.count(0, |event| matches!(event, Output::Unreachable { .. }));
    let before = gone(&net);
    net.run(32 * MINUTE);
    assert_eq!(gone(&net), before + 1);
    let shown = presences(&net, 0, net.user(1));
    net.run(HOUR);
    assert_eq!(presences(&net, 0, net.user(1)), shown, "the same old record is no news");
}

#[test]
fn whoever_is_there_but_cannot_be_reached_is_shown_without_a_gap_while_there_is_news() {
    let mut net = acquainted();
    net.cut(0, 1);
    net.run(35 * MINUTE);
    let gone = |net: &Net| net.count(0, |event| matches!(event, Output::Unreachable { .. }));
    let before = gone(&net);
    net.run(5 * HOUR);
    assert_eq!(gone(&net), before);
    net.peer_event(0, PeerEvent::Table { nodes: 0 });
    net.run(32 * MINUTE);
    assert_eq!(gone(&net), before + 1, "nobody left to ask: what is old is not shown for ever");
}

#[test]
fn whoever_has_a_long_status_can_still_be_reached() {
    let mut net = acquainted();
    net.power_off(0);
    let (user, friend) = (net.user(1), net.user(0));
    let long = PresenceSession { payload: vec![b'x'; 8_000], ..session("desk") };
    net.with(1, |core, now| core.set_presence(&user, vec![long], vec![friend], now));
    net.run(MINUTE);
    net.power_on(0);
    befriend(&mut net, 0, 1);
    net.run(MINUTE);
    assert_eq!(net.hosts[0].core.reach(&user), Reach::Live, "found by the table, as nothing else joins them");
}

#[test]
fn what_was_revoked_counts_for_the_hash_table_too() {
    let mut net = Net::two();
    let (user, device) = (net.user(1), net.hosts[1].accounts[0].device.id());
    let revocation = Revocation { what: Revoked::Device(user, device), by: RevokedBy::User, since: START };
    let revocation = Verified::sign(revocation, &UserKey::from_seed([2; 32]), None).unwrap();
    net.with(0, |core, now| assert!(core.add_revocation(revocation.bytes(), now).unwrap()));
    let judged = |net: &mut Net| {
        let events = std::mem::take(&mut net.hosts[0].events);
        events.into_iter().rev().find_map(|event| match event {
            Output::Judge { revocations, .. } => Some(revocations.is_device_revoked(&user, &device)),
            _ => None,
        })
    };
    net.run(2 * SECOND);
    assert_eq!(judged(&mut net), Some(true));
    net.restart(0);
    net.run(SECOND);
    assert_eq!(judged(&mut net), Some(true), "after a restart as well");
}

#[test]
fn whoever_may_no_more_see_somebody_finds_nothing_new() {
    let mut net = acquainted();
    net.cut(0, 1);
    let user = net.user(1);
    let places = |net: &Net| net.table.as_ref().unwrap().len();
    let before = places(&net);
    net.with(1, |core, now| core.set_presence(&user, vec![session("desk")], Vec::new(), now));
    net.run(HOUR);
    assert_eq!(places(&net), before, "nobody is left who could read it: nothing is put");
    let third = Account::new(3, 103).user;
    net.with(1, |core, now| core.set_presence(&user, vec![session("desk")], vec![third], now));
    net.run(HOUR);
    assert_eq!(places(&net), before + 1, "it stands elsewhere now");
    let shown = presences(&net, 0, user);
    net.run(DAY);
    assert_eq!(presences(&net, 0, user), shown);
}

#[test]
fn a_look_up_shows_each_question_and_what_counts() {
    let mut net = acquainted();
    let (user, friend) = (net.user(0), net.user(1));
    net.with(0, |core, now| core.look_up(9, &Target::User(friend), now));
    net.run(SECOND);
    let looked_up = |net: &Net| {
        let ended = net.hosts[0].events.iter().rev().find_map(|event| match event {
            Output::LookedUp { ticket: 9, lookup } => Some(lookup.steps.iter()),
            _ => None,
        });
        let counts =
            |step: &Step| (step.subject, step.values.iter().map(|(_, value)| value.is_ok()).collect());
        ended.unwrap().map(counts).collect::<Vec<(Subject, Vec<bool>)>>()
    };
    let device = net.hosts[1].accounts[0].device.id();
    let steps = vec![(Subject::User(friend), vec![true]), (Subject::Presence(device), vec![true])];
    assert_eq!(looked_up(&net), steps);
    let table = net.table.as_mut().unwrap();
    table.insert(Key::user(&friend), table[&Key::user(&user)].clone());
    net.with(0, |core, now| core.look_up(9, &Target::User(friend), now));
    net.run(SECOND);
    assert_eq!(looked_up(&net)[0], (Subject::User(friend), vec![false]), "somebody else's record");
    net.with(0, |core, now| core.look_up(9, &Target::Name("alice@nowhere.example".into()), now));
    assert!(looked_up(&net).is_empty(), "no authority is known");
}

/// When a host asked where the other's user is, in minutes from `since`.
fn looks(net: &Net, host: usize, since: u64) -> Vec<u64> {
    let record = Key::user(&net.user(1 - host));
    let looks = net.gets.iter().filter(|(by, at, key)| *by == host && *at >= since && *key != record);
    looks.map(|(_, at, _)| (at - since).div_ceil(MINUTE)).collect()
}

/// Friends of whom the second has left for good, and the time since which the first looks for it.
fn left_behind() -> (Net, u64) {
    let mut net = acquainted();
    net.power_off(1);
    net.cut(0, 1);
    net.run(HOUR);
    // A day has two keys in its first two hours.
    let noon = START.next_multiple_of(DAY) + DAY / 2;
    net.run(noon.saturating_sub(net.now(0).wall));
    net.restart(0);
    let since = net.mono;
    befriend(&mut net, 0, 1);
    (net, since)
}

#[test]
fn whoever_stays_away_is_looked_for_half_as_often_each_time() {
    let (mut net, since) = left_behind();
    net.run(11 * HOUR);
    assert_eq!(looks(&net, 0, since), [0, 10, 30, 70, 150, 310, 630]);
    net.run(2 * DAY);
    let each = |minutes: &[u64]| minutes.windows(2).map(|two| two[1] - two[0]).max();
    let late = looks(&net, 0, since + 11 * HOUR);
    assert!(each(&late) <= Some(6 * 60) && (8..=16).contains(&late.len()), "{late:?}");
}

#[test]
fn whoever_was_seen_is_looked_for_soon_again_and_so_is_everybody_in_a_table_that_has_grown() {
    let (mut net, _) = left_behind();
    net.run(3 * HOUR);
    // It comes where there is no way to it, is found at the next look, and leaves.
    net.power_on(1);
    befriend(&mut net, 1, 0);
    let seen = presences(&net, 0, net.user(1));
    net.run(MINUTE);
    for _ in 0..20 {
        if presences(&net, 0, net.user(1)) > seen {
            break;
        }
        net.run(10 * MINUTE);
    }
    assert_eq!(presences(&net, 0, net.user(1)), seen + 1);
    net.power_off(1);
    let since = net.mono;
    net.run(4 * HOUR);
    // What is shown is looked for again before it ends, in any case.
    let later = looks(&net, 0, since).into_iter().filter(|minute| *minute > 35).count();
    assert!(later >= 2, "soon again: {:?}", looks(&net, 0, since));
    net.run(10 * HOUR);
    let since = net.mono;
    net.peer_event(0, PeerEvent::Table { nodes: 1_000 });
    net.run(MINUTE);
    assert_eq!(looks(&net, 0, since).len(), 1, "others are closest now");
    net.run(10 * MINUTE);
    assert_eq!(looks(&net, 0, since).len(), 2);
}

#[test]
fn a_recipient_who_stays_away_is_looked_for_each_hour() {
    let (mut net, since) = left_behind();
    net.send(0, net.user(1), 1);
    net.run(20 * HOUR);
    assert!((20..=30).contains(&looks(&net, 0, since).len()), "{:?}", looks(&net, 0, since));
}

#[test]
fn an_idle_node_asks_and_tells_little() {
    let mut net = acquainted();
    net.cut(0, 1);
    net.run(DAY);
    let before = net.asked;
    net.run(DAY);
    // Two nodes with a friend each that cannot be reached: what is told of oneself each quarter of an hour, what is shown
    // looked for before it ends, and one's own mailbox each quarter of an hour.
    let each_hour = (net.asked - before) / 24 / 2;
    println!("{each_hour} questions an hour");
    assert!((8..=14).contains(&each_hour), "{each_hour}");
}

/// What was published before a domain was handed over is found until it is renewed, by the newest of three keys; what a key
/// has issued after it was left is not.
#[test]
fn a_name_is_looked_for_under_the_keys_that_were_left_too() {
    let (domain, address) = ("school.example", "anna@school.example");
    let key = |seed: u8| AuthorityKey::from_seed([seed; 32]);
    let step = |old: u8, new: u8| Rotation::issue(&key(old), &key(new), domain, START).unwrap();
    let looked_up = |published: u8, steps: &[(u8, u8)], issued: u64| {
        let anna = Account::new(2, 102);
        let name = NameCert::issue(&key(published), address, anna.user, 1, issued).unwrap();
        let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![anna.named(&name)]]);
        net.with(0, |core, now| core.pin_authority(domain, key(9).id(), Provenance::Enrolled, now));
        for (old, new) in steps {
            net.with(0, |core, now| assert_eq!(core.add_rotation(step(*old, *new).bytes(), now), Ok(true)));
        }
        net.open_table();
        net.run(5 * SECOND);
        net.with(0, |core, now| core.look_up(9, &Target::Name(address.into()), now));
        net.run(5 * SECOND);
        let ended = net.hosts[0].events.iter().rev().find_map(|event| match event {
            Output::LookedUp { ticket: 9, lookup } => {
                let names = lookup.steps.iter().filter(|step| matches!(step.subject, Subject::Name(_)));
                Some((lookup.user == Some(net.user(1)), names.count()))
            }
            _ => None,
        });
        ended.unwrap()
    };
    let (once, thrice) = (&[(9, 10)][..], &[(9, 10), (10, 11), (11, 12)][..]);
    assert_eq!(looked_up(10, once, START), (true, 1));
    assert_eq!(looked_up(9, once, START), (true, 2));
    assert_eq!(looked_up(10, thrice, START), (true, 3));
    assert_eq!(looked_up(9, thrice, START), (false, 3), "three keys are asked for");
    assert_eq!(looked_up(9, once, START + 2 * DAY + 1), (false, 2), "issued when the key was left");
}

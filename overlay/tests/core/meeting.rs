//! Two nodes find each other, show themselves, stay quiet, and see the other leave.

use crosstalk_overlay::core::*;
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::time::{MINUTE, Now, SECOND};

use crate::pump::*;

fn is_dial(output: &Output) -> bool {
    matches!(output, Output::Dial { .. })
}

#[test]
fn both_prove_their_users_within_a_few_round_trips() {
    let mut net = Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)]]);
    assert_eq!(net.hosts[0].core.reach(&net.user(1)), Reach::Unknown);
    net.join(0, 1);
    net.run(10);
    for (here, there) in [(0, 1), (1, 0)] {
        let user = net.user(there);
        assert_eq!(net.hosts[here].core.reach(&user), Reach::Live);
        assert_eq!(
            net.count(here, |event| matches!(event, Output::Reachable { user: who } if *who == user)),
            1
        );
        assert_eq!(net.hosts[here].core.peers()[0].users, vec![user]);
    }
}

#[test]
fn the_smaller_node_dials_first_and_the_larger_after_two_seconds() {
    let dials = |index: usize, other: usize| {
        let mut net = Net::new(vec![vec![], vec![]]);
        let event = PeerEvent::Discovered { node: node_id(other), addresses: vec!["/memory/9".into()] };
        let mut now = net.now(index);
        let core = &mut net.hosts[index].core;
        core.handle_peer(event, now);
        while let Some((when, "who is here")) = core.poll_timeout() {
            now.mono = when;
            core.handle_timeout(now);
        }
        core.poll_timeout().map(|(when, why)| (when - net.mono, why))
    };
    assert_eq!(dials(0, 1), Some((0, "dial")));
    assert_eq!(dials(1, 0), Some((2 * SECOND, "dial")));
}

/// Has the core choose whom to be connected with, as it would a moment later.
fn look_around(core: &mut Overlay, mut now: Now) {
    now.mono += 250;
    core.handle_timeout(now);
}

#[test]
fn failed_dials_back_off_to_a_minute_and_a_new_sighting_starts_afresh() {
    let net = Net::new(vec![vec![]]);
    let mut now = net.now(0);
    let mut core = net.hosts.into_iter().next().unwrap().core;
    let node = node_id(5);
    let discovered = PeerEvent::Discovered { node, addresses: vec!["/memory/5".into()] };
    core.handle_peer(discovered.clone(), now);
    look_around(&mut core, now);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (when, _) = core.poll_timeout().unwrap();
        waits.push(when.saturating_sub(now.mono));
        now.mono = when.max(now.mono);
        core.handle_timeout(now);
        assert!(core.poll_output().is_some_and(|output| is_dial(&output)));
        core.handle_peer(PeerEvent::Disconnected { node }, now);
        look_around(&mut core, now);
    }
    assert!(waits[1..5].iter().all(|wait| *wait <= 1_250), "on a bad link many fail: {waits:?}");
    assert!(waits[11] >= 45 * SECOND && waits[11] <= 75 * SECOND, "{waits:?}");
    now.mono += SECOND;
    core.handle_peer(discovered, now);
    assert_eq!(core.poll_timeout().unwrap().0, now.mono);
}

#[test]
fn a_flood_of_addresses_is_bounded() {
    let net = Net::new(vec![vec![]]);
    let mut now = net.now(0);
    let mut core = net.hosts.into_iter().next().unwrap().core;
    for index in 0..5_000u32 {
        let mut bytes = [0xff; 32];
        bytes[..4].copy_from_slice(&index.to_be_bytes());
        let addresses = (0..20).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        core.handle_peer(PeerEvent::Discovered { node: NodeId::from_bytes(bytes), addresses }, now);
    }
    look_around(&mut core, now);
    now.mono += 3 * SECOND;
    core.handle_timeout(now);
    let dials: Vec<Output> = std::iter::from_fn(|| core.poll_output()).collect();
    assert_eq!(dials.len(), 8, "at most eight dials at once");
    let most = dials.iter().map(|dial| match dial {
        Output::Dial { addresses, .. } => addresses.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(most.max(), Some(8), "at most eight addresses each");
}

#[test]
fn an_idle_link_wakes_a_node_at_most_every_five_seconds() {
    let mut net = Net::two();
    let users = [net.user(0), net.user(1)];
    for host in 0..2 {
        net.with(host, |core, now| {
            core.set_link_presence(&users[host], Some(link_status("anna")), now);
            core.set_presence(&users[host], vec![session("desk")], users.to_vec(), now);
        });
    }
    net.run(MINUTE);
    let before = net.hosts[0].wakes;
    net.run(20 * MINUTE);
    let wakes = net.hosts[0].wakes - before;
    assert!(wakes <= 20 * 12, "{wakes} wake-ups in 20 minutes");
    assert_eq!(net.hosts[1].core.reach(&users[0]), Reach::Live, "and the link is alive");
}

#[test]
fn leaving_without_a_word_is_seen_within_thirty_seconds() {
    let mut net = Net::two();
    let user = net.user(1);
    net.with(1, |core, now| core.set_link_presence(&user, Some(link_status("ben")), now));
    net.run(7_300);
    assert_eq!(net.count(0, |event| matches!(event, Output::LinkPresence(_))), 1);
    net.cut_silently(0, 1);
    net.run(30 * SECOND);
    assert_eq!(net.hosts[0].core.reach(&user), Reach::Known);
    assert_eq!(
        net.count(0, |event| matches!(event, Output::Unreachable { user: who, .. } if *who == user)),
        1
    );
    assert_eq!(
        net.count(0, |event| matches!(event, Output::LinkAbsence { user: who, .. } if *who == user)),
        1
    );
}

#[test]
fn link_presence_is_told_when_it_changes_and_hiding_at_once() {
    let mut net = Net::two();
    let user = net.user(1);
    let show = |net: &mut Net, status| {
        net.with(1, |core, now| core.set_link_presence(&user, status, now));
        net.run(10);
    };
    show(&mut net, Some(link_status("ben")));
    net.run(5 * MINUTE);
    assert_eq!(net.count(0, |event| matches!(event, Output::LinkPresence(_))), 1, "renewals are not told");
    show(&mut net, Some(link_status("benny")));
    assert_eq!(net.count(0, |event| matches!(event, Output::LinkPresence(_))), 2);
    show(&mut net, None);
    assert_eq!(net.count(0, |event| matches!(event, Output::LinkAbsence { .. })), 1);
}

#[test]
fn presence_reaches_watchers_now_later_and_no_longer() {
    let mut net =
        Net::new(vec![vec![Account::new(1, 101)], vec![Account::new(2, 102), Account::new(3, 103)]]);
    let (anna, ben, carl) = (net.user(0), net.hosts[1].accounts[0].user, net.hosts[1].accounts[1].user);
    let set = |net: &mut Net, sessions: Vec<&str>, watchers: Vec<_>| {
        let sessions = sessions.into_iter().map(session).collect();
        net.with(0, |core, now| core.set_presence(&anna, sessions, watchers, now));
        net.run(10);
    };
    let seen = |net: &Net, who| {
        let sessions = net.hosts[1].events.iter().filter_map(|event| match event {
            Output::Presence { to, from, record, .. } if *to == who && *from == anna => {
                Some(record.sessions.len())
            }
            _ => None,
        });
        sessions.collect::<Vec<_>>()
    };
    set(&mut net, vec!["desk"], vec![ben]);
    net.join(0, 1);
    net.run(10);
    assert_eq!((seen(&net, ben), seen(&net, carl)), (vec![1], vec![]), "told when they become live");
    set(&mut net, vec!["desk", "phone"], vec![ben, carl]);
    assert_eq!((seen(&net, ben), seen(&net, carl)), (vec![1, 2], vec![2]));
    set(&mut net, vec!["desk", "phone"], vec![carl]);
    assert_eq!(
        (seen(&net, ben), seen(&net, carl)),
        (vec![1, 2, 0], vec![2]),
        "no longer a watcher: offline, once"
    );
    net.cut(0, 1);
    net.join(0, 1);
    net.run(5 * SECOND);
    assert_eq!((seen(&net, ben), seen(&net, carl)), (vec![1, 2, 0], vec![2]), "it was never taken back");
    net.cut(0, 1);
    net.run(15 * SECOND);
    net.join(0, 1);
    net.run(5 * SECOND);
    assert_eq!((seen(&net, ben), seen(&net, carl)), (vec![1, 2, 0], vec![2, 2]), "told again on a new link");
    set(&mut net, vec![], vec![carl]);
    assert_eq!(seen(&net, carl), vec![2, 2, 0]);
}

#[test]
fn live_stanzas_go_to_the_device_that_has_the_resource_or_to_all() {
    let accounts = [vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(2, 103)]];
    let mut net = Net::new(accounts.to_vec());
    let (anna, ben) = (net.user(0), net.user(1));
    let live = |resource: &str| Live {
        from: anna,
        from_resource: "desk".into(),
        to: ben,
        to_resource: resource.into(),
        xml: b"<iq/>".to_vec(),
    };
    net.with(0, |core, now| assert_eq!(core.send_live(live(""), now), Err(Unreachable::NotLive)));
    net.join(0, 1);
    net.join(0, 2);
    net.run(10);
    net.with(2, |core, now| core.set_presence(&ben, vec![session("phone")], vec![anna], now));
    net.run(10);
    net.with(0, |core, now| core.send_live(live("phone"), now).unwrap());
    net.run(10);
    let arrived = |net: &Net, host| net.count(host, |event| matches!(event, Output::Live(_)));
    assert_eq!((arrived(&net, 1), arrived(&net, 2)), (0, 1));
    net.with(0, |core, now| core.send_live(live(""), now).unwrap());
    net.run(10);
    assert_eq!((arrived(&net, 1), arrived(&net, 2)), (1, 2));
}

#[test]
fn a_request_goes_to_one_device() {
    let accounts = [vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(2, 103)]];
    let mut net = Net::new(accounts.to_vec());
    let (anna, ben) = (net.user(0), net.user(1));
    let ask = |net: &mut Net, resource: &str| {
        let (from_resource, to_resource, xml) = ("desk".into(), resource.into(), b"<iq/>".to_vec());
        let live = Live { from: anna, from_resource, to: ben, to_resource, xml };
        let mut asked = Err(Unreachable::Busy);
        net.with(0, |core, now| asked = core.send_request(live, now));
        net.run(10);
        asked
    };
    let arrived = |net: &Net| [1, 2].map(|host| net.count(host, |event| matches!(event, Output::Live(_))));
    assert_eq!(ask(&mut net, ""), Err(Unreachable::NotLive));
    net.join(0, 1);
    net.run(10);
    assert!(ask(&mut net, "watch").is_ok(), "its only node knows");
    assert_eq!(arrived(&net), [1, 0]);
    net.join(0, 2);
    net.run(10);
    assert_eq!(ask(&mut net, "watch"), Err(Unreachable::NoSession));
    let first = ask(&mut net, "");
    assert!(first.is_ok() && first == ask(&mut net, ""), "always the same");
    assert_eq!(arrived(&net).iter().sum::<usize>(), 3);
    net.with(2, |core, now| core.set_presence(&ben, vec![session("phone")], vec![anna], now));
    net.run(10);
    let before = arrived(&net);
    assert!(ask(&mut net, "phone").is_ok());
    assert_eq!(arrived(&net), [before[0], before[1] + 1]);
}

#[test]
fn live_stanzas_beyond_what_a_peer_takes_in_a_second_are_refused() {
    let accounts = [vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(3, 103)]];
    let mut net = Net::new(accounts.to_vec());
    let (anna, ben, carl) = (net.user(0), net.user(1), net.user(2));
    net.join(0, 1);
    net.join(0, 2);
    net.run(10);
    let send = |net: &mut Net, to| {
        let xml = vec![b'x'; 240 * 1_024];
        let (from_resource, to_resource) = (String::new(), String::new());
        let mut result = Ok(());
        net.with(0, |core, now| {
            result = core.send_live(Live { from: anna, from_resource, to, to_resource, xml }, now);
        });
        result
    };
    let results: Vec<_> = (0..9).map(|_| send(&mut net, ben)).collect();
    assert_eq!(results[..2], [Ok(()), Ok(())]);
    assert_eq!(results[2..], [Err(Unreachable::Busy); 7]);
    assert_eq!(send(&mut net, carl), Ok(()), "another peer has its own room");
    net.run(400);
    assert_eq!(send(&mut net, ben), Err(Unreachable::Busy));
    net.run(600);
    assert_eq!([send(&mut net, ben), send(&mut net, ben)], [Ok(()), Ok(())]);
    net.run(10);
    assert_eq!(net.count(1, |event| matches!(event, Output::Live(_))), 4);
}

#[test]
fn a_restart_that_nobody_noticed_starts_the_session_anew() {
    let mut net = Net::two();
    let user = net.user(0);
    // Host 0 comes back while host 1 still has the old link: its Hello has another session number.
    let setup = Setup {
        node: node_key(0).clone(),
        seed: [77; 32],
        limits: Limits::default(),
        restored: Restored::default(),
        built: START,
        publishes: false,
    };
    let now = net.now(0);
    net.hosts[0].core = Overlay::new(setup, now);
    let local = net.hosts[0].accounts[0].local();
    net.with(0, |core, now| core.add_local(local, now).unwrap());
    let connected =
        PeerEvent::Connected { node: node_id(1), address: "/memory/1".into(), inbound: false, near: true };
    net.peer_event(0, connected);
    net.run(10);
    assert_eq!(
        net.count(1, |event| matches!(event, Output::Unreachable { user: who, .. } if *who == user)),
        1
    );
    assert_eq!(net.hosts[1].core.reach(&user), Reach::Live);
    assert_eq!(net.hosts[0].core.reach(&net.user(1)), Reach::Live);
}

#[test]
fn a_removed_account_is_gone_for_everybody_at_once() {
    let mut net = Net::two();
    let user = net.user(1);
    net.with(1, |core, now| core.remove_local(&user, now));
    net.run(10);
    assert_eq!(net.hosts[0].core.reach(&user), Reach::Known);
}

#[test]
fn five_hundred_users_are_pushed_in_few_frames() {
    let many = (0..250).map(|index| Account::new(index, 255 - index)).collect();
    let mut net = Net::new(vec![many, vec![Account::new(251, 1)]]);
    net.join(0, 1);
    net.run(10);
    assert_eq!(net.hosts[1].core.peers()[0].users.len(), 250);
    let frames = net.tape.iter().filter(|(from, ..)| *from == 0).count();
    assert!(frames <= 4, "{frames} frames");
}

#[test]
fn who_stops_in_order_is_missed_at_once() {
    let mut net = Net::two();
    let (ada, gone) = (net.user(0), |event: &Output| matches!(event, Output::Unreachable { .. }));
    net.run(5 * SECOND);
    assert_eq!(net.hosts[1].core.reach(&ada), Reach::Live);
    net.with(0, |core, now| core.farewell(now));
    net.run(100);
    net.cut(0, 1);
    net.run(100);
    assert_eq!((net.hosts[1].core.reach(&ada), net.count(1, gone)), (Reach::Known, 1));
}

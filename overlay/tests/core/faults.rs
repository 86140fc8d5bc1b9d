//! Exactly once and in order, whatever happens to cables, power and frames.

use crosstalk_overlay::core::Outcome;
use crosstalk_overlay::time::{MINUTE, SECOND};
use proptest::prelude::*;

use crate::pump::*;

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A host sends the next message to the other.
    Send(usize),
    /// Time passes, milliseconds.
    Wait(u64),
    Cut,
    CutSilently,
    Mend,
    Restart(usize),
    /// A message is accepted, but the power goes before the commit: it was never acknowledged.
    CrashWhileSending(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2usize).prop_map(Step::Send),
        6 => (0..40u64).prop_map(Step::Wait),
        1 => (1_000..40_000u64).prop_map(Step::Wait),
        1 => Just(Step::Cut),
        1 => Just(Step::CutSilently),
        3 => Just(Step::Mend),
        1 => (0..2usize).prop_map(Step::Restart),
        1 => (0..2usize).prop_map(Step::CrashWhileSending),
    ]
}

/// Plays the steps, then lets everything heal. Returns what each host has sent.
fn play(net: &mut Net, steps: &[Step]) -> [Vec<u64>; 2] {
    let users = [net.user(0), net.user(1)];
    let (mut sent, mut number) = ([Vec::new(), Vec::new()], 0);
    for step in steps {
        number += 1;
        match *step {
            Step::Send(host) => {
                net.send(host, users[1 - host], number);
                sent[host].push(number);
            }
            Step::Wait(millis) => net.run(millis),
            Step::Cut => net.cut(0, 1),
            Step::CutSilently => net.cut_silently(0, 1),
            Step::Mend => net.join(0, 1),
            Step::Restart(host) => net.restart(host),
            Step::CrashWhileSending(host) => {
                let message = outgoing(users[host], users[1 - host], number);
                net.crash_during(host, |core, now| core.send(message, now).unwrap());
            }
        }
    }
    net.weather = Weather::default();
    net.join(0, 1);
    net.run(MINUTE);
    net.join(0, 1);
    net.run(5 * MINUTE);
    sent
}

fn check_reports(net: &Net, sent: &[Vec<u64>; 2]) -> Result<(), TestCaseError> {
    for (host, numbers) in sent.iter().enumerate() {
        prop_assert!(net.hosts[host].store.outbox.is_empty(), "nothing is left waiting at {}", host);
        for number in numbers {
            let outcomes = net.outcomes(host, *number);
            prop_assert_eq!(outcomes, vec![Outcome::Delivered], "message {}", number);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn links_that_break_and_nodes_that_crash(steps in prop::collection::vec(step(), 1..120)) {
        let mut net = Net::two();
        let users = [net.user(0), net.user(1)];
        let sent = play(&mut net, &steps);
        prop_assert_eq!(net.got(1, users[0]), sent[0].clone());
        prop_assert_eq!(net.got(0, users[1]), sent[1].clone());
        check_reports(&net, &sent)?;
    }

    #[test]
    fn frames_that_are_doubled_and_come_in_any_order(
        steps in prop::collection::vec(step(), 1..80),
        seed: u64,
    ) {
        let mut net = Net::two();
        net.shuffle_dice(seed);
        net.weather = Weather { loss: 0, duplicates: 200, jitter: 50 };
        let users = [net.user(0), net.user(1)];
        let sent = play(&mut net, &steps);
        prop_assert_eq!(net.got(1, users[0]), sent[0].clone());
        prop_assert_eq!(net.got(0, users[1]), sent[1].clone());
    }

    #[test]
    fn frames_that_are_lost_never_lose_or_double_a_message(
        steps in prop::collection::vec(step(), 1..80),
        seed: u64,
    ) {
        let mut net = Net::two();
        net.shuffle_dice(seed);
        net.weather = Weather { loss: 150, duplicates: 100, jitter: 30 };
        let users = [net.user(0), net.user(1)];
        let mut sent = play(&mut net, &steps);
        for host in 0..2 {
            // A carrier that loses single frames makes gaps that are passed after 30 s: order may suffer, nothing else.
            let mut got = net.got(1 - host, users[host]);
            got.sort_unstable();
            sent[host].sort_unstable();
            prop_assert_eq!(&got, &sent[host]);
        }
    }
}

#[test]
fn a_user_on_two_nodes_gets_everything_once_on_each() {
    let accounts = vec![vec![Account::new(1, 101)], vec![Account::new(2, 102)], vec![Account::new(2, 103)]];
    let mut net = Net::new(accounts);
    let (anna, ben) = (net.user(0), net.user(1));
    net.join(0, 1);
    net.join(0, 2);
    net.join(1, 2);
    net.run(SECOND);
    for number in 1..=200 {
        net.send(0, ben, number);
        match number % 10 {
            3 => net.cut(0, 1),
            5 => net.join(0, 1),
            7 => net.restart((number / 10 % 3) as usize),
            8 => net.cut(0, 2),
            9 => net.join(0, 2),
            _ => net.run(number % 7),
        }
    }
    net.run(5 * MINUTE);
    let all: Vec<u64> = (1..=200).collect();
    assert_eq!(net.got(1, anna), all);
    assert_eq!(net.got(2, anna), all);
    assert!(net.hosts[0].store.outbox.is_empty());
}

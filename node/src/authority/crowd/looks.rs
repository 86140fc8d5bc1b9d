//! What it costs the server that nothing was shown anew: less than what was, however many may be seen.

use std::time::Duration;

use super::Measured;
use super::laptop::Laptop;
use super::pupils::enrol;

/// Whom one may see.
const FRIENDS: usize = 200;
const PASSES: u32 = 20;

#[test]
fn a_look_without_news_reads_nothing_of_those_who_may_be_seen() {
    for mut server in Measured::both() {
        let now = server.wall();
        let mut anna = Laptop::new(0, 0, now);
        enrol(&server.stage.office, &anna, 0, now);
        let mut friends: Vec<Laptop> = (1..=FRIENDS).map(|other| Laptop::new(other, 0, now)).collect();
        for (other, friend) in (1..).zip(&mut friends) {
            enrol(&server.stage.office, friend, other, now);
            friend.befriend(other, (0, &anna.certificate), now - 9);
            anna.befriend(0, (other, &friend.certificate), now - 9);
            friend.pass(&mut server).expect("let in");
            friend.look(&mut server);
        }
        anna.pass(&mut server).expect("let in");
        let mut passes = |server: &mut Measured, times: u32| {
            server.start();
            for _ in 0..times {
                assert_eq!(anna.pass(server), Ok((0, 0)));
                anna.look(server);
            }
            assert_eq!(anna.seen().len(), FRIENDS);
            server.cpu / times
        };
        let all = passes(&mut server, 1);
        let none = passes(&mut server, PASSES);
        server.machine.set(server.machine.mono() + 1_000);
        friends[7].look(&mut server);
        let one = passes(&mut server, 1);
        let [all_us, one_us, none_us] = [all, one, none].map(|time: Duration| time.as_micros());
        println!(
            "of {FRIENDS} friends, {}: all are new {all_us} us, one {one_us} us, none {none_us} us",
            server.kind
        );
        if server.kind == "own" {
            assert!(none * 5 < all, "{none:?} of {all:?}");
        }
    }
}

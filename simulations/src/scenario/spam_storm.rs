//! Strangers come with laptops like everybody's and write and ask without end. Friends are not disturbed in their talk; each
//! blocks the strangers some time, and from then on is shown nothing of them.

use super::cast::{MINUTE, MODERN, Somebody, befriend_in_a_ring, class, ring, somebody, talk};
use crate::world::World;
use crate::world::story::Checked;

/// Strangers by name.
const STRANGERS: [&str; 4] = ["first stranger", "second stranger", "third stranger", "fourth stranger"];
/// Between two rounds of theirs, milliseconds.
const ROUND: u64 = 500;
/// What friends write comes so soon in the middle of a storm.
const UNDISTURBED: u64 = 5_000;

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(2, 6)).unwrap_or_default();
    let friends = class(world, count)?;
    befriend_in_a_ring(world, &friends)?;
    let mut strangers = Vec::new();
    for name in STRANGERS.iter().take(usize::try_from(world.dice.between(1, 4)).unwrap_or_default()) {
        strangers.push(somebody(world, name, MODERN)?);
    }
    let ready = |world: &World| strangers.iter().all(|one| world.clients[one.client.0].is_ready());
    world.until("the strangers are there", MINUTE, ready)?;
    strangers.iter().for_each(|stranger| world.clients[stranger.client.0].lawless = true);

    storm(world, &strangers, &friends, 2 * MINUTE)?;
    let pairs = friends.iter().flat_map(|friend| strangers.iter().map(move |stranger| (*friend, *stranger)));
    for (friend, stranger) in pairs.clone() {
        world.block(friend.client, stranger.person);
    }
    let blocked = |world: &World| {
        pairs.clone().all(|(friend, stranger)| world.has_blocked(friend.client, stranger.person))
    };
    world.until("all strangers are blocked", MINUTE, blocked)?;
    storm(world, &strangers, &friends, 2 * MINUTE)?;
    world.check_ending()
}

/// All strangers write to all friends, and ask them, while the friends talk.
fn storm(world: &mut World, strangers: &[Somebody], friends: &[Somebody], lasts: u64) -> Checked {
    for (one, other) in ring(friends) {
        talk(world, one, other, 10, lasts);
    }
    let rounds = lasts / ROUND;
    for round in 0..rounds {
        for stranger in strangers {
            for friend in friends {
                world.spam(stranger.client, friend.person, round);
                if round % 20 == 0 {
                    let asks = if world.dice.chance(50) { "subscribe" } else { "unsubscribe" };
                    world.subscription(stranger.client, friend.person, asks);
                }
            }
        }
        world.run(ROUND)?;
    }
    world.until("what friends wrote is there, in the middle of it", UNDISTURBED, World::all_delivered)
}

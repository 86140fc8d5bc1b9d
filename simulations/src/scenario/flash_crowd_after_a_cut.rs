//! Two halves of a crowd, each with contacts in the other, are cut from each other for hours; then all meet at once.

use super::cast::{HOUR, MINUTE, all_see_all, befriend, class, talk};
use crate::world::World;
use crate::world::story::Checked;

/// All see all so soon after the cut.
const GREETING: u64 = MINUTE;
/// Bytes that each pair of people may cost in the first two minutes: statements, digests, mailboxes and what waited.
const BYTES_OF_A_PAIR: u64 = 40_000;

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(6, 14)).unwrap_or_default() & !1;
    let all = class(world, count)?;
    let (left, right) = all.split_at(count / 2);
    for (one, other) in left.iter().zip(right) {
        befriend(world, *one, *other)?;
    }
    for somebody in right {
        world.carry(somebody.host, Some("beyond the river"));
    }
    for (one, other) in left.iter().zip(right) {
        let each = world.dice.between(1, 15);
        talk(world, *one, *other, each, 3 * HOUR);
    }
    world.run(3 * HOUR)?;
    let before = world.network.traffic;
    world.gather();
    all_see_all(world, &all, GREETING)?;
    world.until("all that was written has come", 2 * MINUTE, World::all_delivered)?;
    let (pairs, cost) = ((count * count) as u64, world.network.traffic.bytes - before.bytes);
    if cost > pairs * BYTES_OF_A_PAIR {
        return Err(world.violation(format!("to meet again cost {count} people {cost} bytes")));
    }
    world.check_ending()
}

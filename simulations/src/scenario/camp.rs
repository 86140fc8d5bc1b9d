//! People walk about a field with radios that reach part of it: whom one meets, and what comes by others, changes all the time.

use super::cast::{HOUR, MINUTE, befriend_in_a_ring, class, ring, talk};
use crate::world::World;
use crate::world::story::Checked;

/// Metres of the field, and that a radio reaches.
const SIDE: f64 = 400.0;
const RANGE: f64 = 90.0;

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(4, 8)).unwrap_or_default();
    let all = class(world, count)?;
    befriend_in_a_ring(world, &all)?;
    let hosts: Vec<_> = all.iter().map(|one| one.host).collect();
    // What comes by several couriers comes in any order, where a gap is not filled in time.
    world.book.any_order = true;
    // Each misses the one before, in a line that moves.
    world.book.hops = 3;
    world.walk(&hosts, SIDE, RANGE);
    for (one, other) in ring(&all) {
        talk(world, one, other, 6, HOUR);
    }
    world.run(90 * MINUTE)?;
    world.gather();
    world.check_ending()
}

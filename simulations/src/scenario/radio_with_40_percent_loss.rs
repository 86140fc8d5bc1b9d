//! A few people on a bad radio channel: two packets of five are lost, evenly or in bursts.

use super::cast::{MINUTE, class, ring, talk};
use crate::world::World;
use crate::world::radio::Radio;
use crate::world::story::Checked;

/// A message is there within this time.
const PATIENCE: u64 = 5 * MINUTE;
/// Bytes a second of a slow channel.
const RATE: u64 = 125_000;

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(2, 6)).unwrap_or_default();
    let all = class(world, count)?;
    super::cast::befriend_in_a_ring(world, &all)?;
    let bursts = world.dice.chance(50);
    // Where bursts are long, a gap is not filled in the 30 s for which what follows is held back.
    world.book.any_order = true;
    world.network.radio = Some(Radio::new(40, bursts, RATE));
    for (one, other) in ring(&all) {
        talk(world, one, other, 10, 20 * MINUTE);
    }
    world.run(20 * MINUTE)?;
    world.until("all has come through", PATIENCE, World::all_delivered)?;
    world.network.radio = None;
    world.check_ending()
}

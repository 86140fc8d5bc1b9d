//! Laptops whose clocks have forgotten the time: they begin in 1970, and are set right some time, or never.

use super::cast::{HOUR, MINUTE, all_see_all, befriend_in_a_ring, class, ring, talk};
use crate::world::World;
use crate::world::host::EPOCH;
use crate::world::story::Checked;

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(2, 5)).unwrap_or_default();
    let all = class(world, count)?;
    befriend_in_a_ring(world, &all)?;
    let forgetful: Vec<_> = all.iter().filter(|_| world.dice.chance(40)).copied().collect();
    for one in &forgetful {
        world.crash(one.host, crate::world::host::Power::Off)?;
        world.hosts[one.host.0].wrong = -i64::try_from(EPOCH + world.time).unwrap_or_default();
    }
    world.run(2 * MINUTE)?;
    for one in &forgetful {
        world.boot(one.host)?;
    }
    all_see_all(world, &all, 2 * MINUTE)?;
    for (one, other) in ring(&all) {
        talk(world, one, other, 8, HOUR);
    }
    world.run(HOUR / 2)?;
    for one in &forgetful {
        if world.dice.chance(50) {
            world.hosts[one.host.0].wrong = 0;
        }
    }
    world.run(HOUR / 2)?;
    world.until("all is delivered, whatever the clocks say", 2 * MINUTE, World::all_delivered)?;
    all_see_all(world, &all, MINUTE)?;
    world.check_ending()
}

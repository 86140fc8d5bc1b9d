//! A generator that fails every minute: each laptop loses its power about once a minute while its owner talks.

use super::cast::{MINUTE, befriend_in_a_ring, class, ring, talk};
use crate::world::World;
use crate::world::events::Event;
use crate::world::faults::Fault;
use crate::world::host::Power;
use crate::world::story::Checked;

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(2, 4)).unwrap_or_default();
    let all = class(world, count)?;
    befriend_in_a_ring(world, &all)?;
    let minutes = world.dice.between(4, 15);
    for (one, other) in ring(&all) {
        talk(world, one, other, 2 * minutes, minutes * MINUTE);
    }
    for one in &all {
        for minute in 0..minutes {
            let when = world.time + minute * MINUTE + world.dice.below(MINUTE / 2);
            let after = u32::try_from(world.dice.below(20)).ok().filter(|_| world.dice.chance(50));
            let crash = Fault::Crash { host: one.host, power: Power::Off, after };
            let dark = world.dice.between(500, MINUTE / 3);
            let boot = Fault::Boot(one.host);
            world.plan([(when, Event::Fault(crash)), (when + dark, Event::Fault(boot))]);
        }
    }
    world.run(minutes * MINUTE)?;
    world.check_ending()
}

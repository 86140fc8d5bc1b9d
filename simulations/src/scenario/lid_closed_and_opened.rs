//! Two people talk while the lid of one laptop, or of both, is closed and opened, for seconds or for days.

use super::cast::{DAY, HOUR, MINUTE, MODERN, all_see_all, befriend, somebody, talk};
use crate::world::World;
use crate::world::story::Checked;

/// So soon after the lid was opened it is as if it had never been closed.
const AWAKE: u64 = MINUTE;

pub(super) fn run(world: &mut World) -> Checked {
    let both = [somebody(world, "anna", MODERN)?, somebody(world, "ben", MODERN)?];
    all_see_all(world, &both, MINUTE)?;
    befriend(world, both[0], both[1])?;
    for _ in 0..world.dice.between(2, 8) {
        let (each, span) = (world.dice.between(1, 8), world.dice.between(10_000, 3 * MINUTE));
        talk(world, both[0], both[1], each, span);
        let awake = world.dice.between(0, span);
        world.run(awake)?;
        let closed: Vec<_> = match world.dice.below(3) {
            0 => vec![both[0]],
            1 => vec![both[1]],
            _ => both.to_vec(),
        };
        closed.iter().for_each(|one| world.close_lid(one.host));
        let asleep = match world.dice.below(4) {
            0 => world.dice.between(1_000, 20_000),
            1 => world.dice.between(20_000, HOUR),
            2 => world.dice.between(HOUR, 12 * HOUR),
            _ => world.dice.between(DAY, 3 * DAY),
        };
        world.run(asleep)?;
        closed.iter().for_each(|one| world.open_lid(one.host));
        all_see_all(world, &both, AWAKE)?;
        world.run(span)?;
        world.until("all that was written meanwhile has come", AWAKE, World::all_delivered)?;
    }
    world.check_ending()
}

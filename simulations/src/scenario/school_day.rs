//! A class comes to school one by one, talks through lessons and breaks, closes lids, goes home and comes back.

use super::cast::{HOUR, MINUTE, Somebody, befriend_in_a_ring, class, ring, talk};
use crate::world::World;
use crate::world::story::Checked;

/// How soon those who are back see everybody.
const GREETING: u64 = 2 * MINUTE;

/// A small class, whatever the seed says.
pub(super) fn run(world: &mut World) -> Checked {
    let count = world.dice.between(5, 10);
    day_of(world, usize::try_from(count).unwrap_or_default())
}

/// A class of fifty.
pub(super) fn run_with_fifty(world: &mut World) -> Checked {
    day_of(world, 50)
}

fn day_of(world: &mut World, count: usize) -> Checked {
    let pupils = class(world, count)?;
    befriend_in_a_ring(world, &pupils)?;
    for lesson in 0..6 {
        // Few write in a lesson, more in a break.
        for (one, other) in ring(&pupils) {
            if world.dice.chance(30) {
                talk(world, one, other, 2, 45 * MINUTE);
            }
        }
        close_some_lids(world, &pupils)?;
        for (one, other) in ring(&pupils) {
            talk(world, one, other, 2, 14 * MINUTE);
        }
        world.run(15 * MINUTE)?;
        if lesson == 2 {
            to_the_yard_and_back(world, &pupils)?;
        }
    }
    go_home(world, &pupils)?;
    world.check_ending()
}

/// During a lesson some close their lids for a while.
fn close_some_lids(world: &mut World, pupils: &[Somebody]) -> Checked {
    let closed: Vec<Somebody> = pupils.iter().copied().filter(|_| world.dice.chance(20)).collect();
    closed.iter().for_each(|pupil| world.close_lid(pupil.host));
    world.run(30 * MINUTE)?;
    closed.iter().for_each(|pupil| world.open_lid(pupil.host));
    world.run(15 * MINUTE)
}

/// Half of the class takes the laptops out of reach of the others.
fn to_the_yard_and_back(world: &mut World, pupils: &[Somebody]) -> Checked {
    for pupil in pupils.iter().step_by(2) {
        world.carry(pupil.host, Some("the yard"));
    }
    world.run(20 * MINUTE)?;
    for pupil in pupils.iter().step_by(2) {
        world.carry(pupil.host, Some(""));
    }
    super::cast::all_see_all(world, pupils, GREETING)
}

/// Home, each alone, until the next morning.
fn go_home(world: &mut World, pupils: &[Somebody]) -> Checked {
    for pupil in pupils {
        world.carry(pupil.host, None);
        world.close_lid(pupil.host);
    }
    world.run(HOUR)?;
    for pupil in pupils.iter().filter(|pupil| pupil.host.0 % 3 == 0) {
        world.open_lid(pupil.host);
    }
    for (one, other) in ring(pupils) {
        talk(world, one, other, 1, HOUR);
    }
    world.run(16 * HOUR)?;
    for pupil in pupils {
        world.open_lid(pupil.host);
        world.carry(pupil.host, Some(""));
        let pause = world.dice.between(1_000, 30_000);
        world.run(pause)?;
    }
    super::cast::all_see_all(world, pupils, GREETING)
}

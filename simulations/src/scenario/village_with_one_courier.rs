//! Two villages without any line between them, and one person who goes to and fro with a laptop.

use super::cast::{DAY, HOUR, MINUTE, MODERN, befriend, somebody, talk};
use crate::world::World;
use crate::world::story::Checked;

/// A message that was written so long before the courier left comes with that courier.
const PACKED: u64 = 20 * MINUTE;

pub(super) fn run(world: &mut World) -> Checked {
    let anna = somebody(world, "anna", MODERN)?;
    let ben = somebody(world, "ben", MODERN)?;
    let courier = somebody(world, "carl", MODERN)?;
    super::cast::all_see_all(world, &[anna, ben, courier], MINUTE)?;
    befriend(world, anna, ben)?;
    world.run(5 * MINUTE)?;

    // Market day is over.
    world.carry(ben.host, Some("the lower village"));
    world.carry(anna.host, Some("the upper village"));
    world.carry(courier.host, Some("the upper village"));
    for _ in 0..world.dice.between(1, 3) {
        let count = world.dice.between(1, 6);
        talk(world, anna, ben, count, 2 * HOUR);
        world.run(2 * HOUR + PACKED)?;
        ride(world, courier.host, "the lower village")?;
        world.until("the courier has brought what was written above", PACKED, |world| {
            world.all_delivered_to(ben.client)
        })?;
        world.run(2 * HOUR)?;
        ride(world, courier.host, "the upper village")?;
        world.until("the courier has brought what was written below", PACKED, |world| {
            world.all_delivered_to(anna.client)
        })?;
        let night = world.dice.between(DAY / 4, DAY / 2);
        world.run(night)?;
    }
    world.gather();
    world.check_ending()
}

fn ride(world: &mut World, courier: crate::world::events::HostId, to: &'static str) -> Checked {
    world.carry(courier, None);
    if world.dice.chance(50) {
        world.close_lid(courier);
    }
    let way = world.dice.between(HOUR / 2, 3 * HOUR);
    world.run(way)?;
    world.carry(courier, Some(to));
    world.open_lid(courier);
    Ok(())
}

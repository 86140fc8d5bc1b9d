//! A third peer means harm: garbage, replays, forgeries, floods. Nothing of it is shown and nobody is disturbed.

use super::two_laptops::{meet, subscribe};
use crate::world::World;
use crate::world::story::Checked;

pub(super) fn run(world: &mut World) -> Checked {
    world.attacker("stranger")?;
    let pair = meet(world)?;
    subscribe(world, pair.clients, pair.people)?;
    let span = world.dice.between(60_000, 180_000);
    for (client, to) in [(pair.clients[0], pair.people[1]), (pair.clients[1], pair.people[0])] {
        world.chatter(client, to, 30, span);
    }
    world.run(span)?;
    // No fault but the attacker: what was sent has arrived as fast as ever.
    world.until("all is delivered, as without the attacker", 2_000, World::all_delivered)?;
    for host in world.nodes() {
        let status = world.status(host)?;
        world.check_bounds(host, &status)?;
    }
    world.check_ending()
}

//! Somebody is asked by a neighbour, leaves that open, refuses, is asked again and agrees: until then nothing is shown.

use super::cast::MINUTE;
use super::two_laptops::meet;
use crate::world::World;
use crate::world::story::Checked;

pub(super) fn run(world: &mut World) -> Checked {
    let pair = meet(world)?;
    let ([anna, ben], [_, him]) = (pair.clients, pair.people);
    let her = pair.people[0];
    for answer in ["unsubscribed", "subscribed"] {
        world.subscription(anna, him, "subscribe");
        world.until("he is asked", MINUTE, |world| world.is_asked(ben, her))?;
        // His status changes meanwhile; that she is shown none of it is looked at with each stanza.
        let thought = world.dice.between(MINUTE, 5 * MINUTE);
        world.run(thought)?;
        world.subscription(ben, her, answer);
        world.run(MINUTE)?;
    }
    world.until("she sees him as a contact", MINUTE, |world| world.has_subscription(anna, him, "to"))?;
    world.check_ending()
}

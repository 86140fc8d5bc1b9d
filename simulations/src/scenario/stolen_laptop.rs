//! A laptop is stolen, and its thief writes to whoever is near; its owner says so at another one, and the word goes on from
//! meeting to meeting, also to those who never meet the owner.

use super::cast::{HOUR, MINUTE, MODERN, Somebody, befriend, class, talk};
use crate::world::World;
use crate::world::story::Checked;

/// Where people go.
const PLACES: [&str; 4] = ["the market", "the harbour", "the school", "the well"];

pub(super) fn run(world: &mut World) -> Checked {
    let count = usize::try_from(world.dice.between(4, 9)).unwrap_or_default();
    let friends = class(world, count)?;
    let (owner, friends) = (friends[0], &friends[1..]);
    let second = world.host("second laptop")?;
    world.account(owner.person, second)?;
    let couch = world.client("the owner's couch", owner.person, second, "couch", MODERN);
    let all_see = |world: &World| friends.iter().all(|friend| world.sees_online(couch, friend.person));
    world.until("the second laptop sees all", 2 * MINUTE, all_see)?;
    for friend in friends {
        befriend(world, owner, *friend)?;
        talk(world, owner, *friend, 2, 10 * MINUTE);
    }
    world.run(10 * MINUTE)?;
    world.until("all is delivered before it goes", 5 * MINUTE, World::all_delivered)?;

    world.steal(owner.host, owner.client);
    // Friends bring what was written by several ways, and no gap is waited for longer than 30 s.
    world.book.any_order = true;
    world.carry(second, Some("home"));
    for _ in 0..world.dice.between(0, 3) {
        go_about(world, owner, friends)?;
    }
    world.report_theft(owner.person, second)?;
    for step in 0..world.dice.between(6, 20) {
        for friend in friends.iter().filter(|_| step % 2 == 0) {
            world.chatter(friend.client, owner.person, 1, HOUR);
            world.chatter(couch, friend.person, 1, HOUR);
        }
        go_about(world, owner, friends)?;
        let home = world.dice.pick(friends).filter(|_| world.dice.chance(30));
        if let Some(friend) = home {
            world.carry(friend.host, Some("home"));
        }
    }
    world.gather();
    world.run(5 * MINUTE)?;
    world.check_ending()
}

/// Some go elsewhere; the thief writes to all for whom it may be the owner.
fn go_about(world: &mut World, owner: Somebody, friends: &[Somebody]) -> Checked {
    for one in friends.iter().chain([&owner]) {
        if world.dice.chance(40) {
            let place = world.dice.pick(&PLACES);
            world.carry(one.host, place);
        }
    }
    for _ in 0..world.dice.between(1, 3) {
        let pause = world.dice.between(MINUTE, 20 * MINUTE);
        world.run(pause)?;
        friends.iter().for_each(|friend| world.lie(friend.person));
    }
    world.run(MINUTE)
}

//! One person on two nodes: each device gets every message, sees what the other sends, and has the same contact list,
//! whatever was edited where while all went wrong.

use super::cast::CARBONS;
use super::two_laptops::subscribe;
use crate::world::World;
use crate::world::faults::Weather;
use crate::world::story::Checked;

pub(super) fn run(world: &mut World) -> Checked {
    let hosts = [world.host("north")?, world.host("south")?, world.host("west")?];
    let people = [world.person("anna"), world.person("ben")];
    world.account(people[0], hosts[0])?;
    world.account(people[1], hosts[1])?;
    world.account(people[1], hosts[2])?;
    let anna = world.client("anna's phone", people[0], hosts[0], "phone", CARBONS);
    let desk = world.client("ben's desk", people[1], hosts[1], "desk", CARBONS);
    let couch = world.client("ben's couch", people[1], hosts[2], "couch", CARBONS);
    world.until("all nodes are linked", 10_000, |world| {
        world.hosts.iter().all(|host| host.links.len() == 2)
    })?;
    world.until("anna sees ben", 10_000, |world| world.sees_nearby(anna, people[1]))?;
    world.until("ben sees anna", 10_000, |world| {
        world.sees_nearby(desk, people[0]) && world.sees_nearby(couch, people[0])
    })?;
    subscribe(world, [anna, desk], people)?;
    world.until("what ben did at his desk holds on the couch", 10_000, |world| {
        world.has_subscription(couch, people[0], "both") && world.sees_online(couch, people[0])
    })?;

    // While all is well, each message is shown on both devices at once, and each copy too.
    world.chatter(anna, people[1], 5, 10_000);
    world.chatter(desk, people[0], 5, 10_000);
    world.run(10_000)?;
    world.until("both devices have got all", 5_000, World::all_delivered)?;
    world.until("the couch has seen what the desk sent", 5_000, |world| world.all_copied(desk))?;

    let span = world.dice.between(60_000, 180_000);
    for (client, to) in [(anna, people[1]), (desk, people[0]), (couch, people[0])] {
        let count = world.dice.between(10, 25);
        world.chatter(client, to, count, span);
    }
    for client in [desk, couch] {
        let count = world.dice.between(3, 12);
        world.gardening(client, count, span);
    }
    let pause = world.dice.between(3_000, 30_000);
    let until = world.time + span;
    world.forecast(Weather { hosts: &hosts, clients: &[anna, desk, couch], pause }, until);
    world.run(span)?;
    world.check_ending()?;
    world.until("both devices of ben have the same contact list", 90_000, |world| {
        world.lists_agree([desk, couch])
    })?;
    world.check_list(desk)?;

    // One of the two devices goes: ben is still there, on the other.
    world.check_leaving(hosts[1])?;
    world.until("anna still sees ben", 1_000, |world| world.sees_online(anna, people[1]))
}

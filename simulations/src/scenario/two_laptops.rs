//! Two laptops, no server: from first sight to a conversation that survives.

use super::cast::MODERN;
use crate::world::World;
use crate::world::events::{ClientId, HostId, PersonId};
use crate::world::faults::Weather;
use crate::world::story::Checked;

/// Two people, each with a laptop and a chat program.
pub(super) struct Pair {
    pub(super) hosts: [HostId; 2],
    pub(super) people: [PersonId; 2],
    pub(super) clients: [ClientId; 2],
}

pub(super) fn run(world: &mut World) -> Checked {
    let pair = meet(world)?;
    subscribe(world, pair.clients, pair.people)?;
    converse(world, &pair)?;
    world.check_ending()?;
    leave(world, &pair)
}

/// They start their nodes and see each other in "Nearby".
pub(super) fn meet(world: &mut World) -> Result<Pair, crate::world::Violation> {
    let hosts = [world.host("north")?, world.host("south")?];
    let people = [world.person("anna"), world.person("ben")];
    world.account(people[0], hosts[0])?;
    world.account(people[1], hosts[1])?;
    let clients = [
        world.client("anna's phone", people[0], hosts[0], "phone", MODERN),
        world.client("ben's desk", people[1], hosts[1], "desk", MODERN),
    ];
    world.until("each sees the other in Nearby", 5_000, |world| {
        world.sees_nearby(clients[0], people[1]) && world.sees_nearby(clients[1], people[0])
    })?;
    Ok(Pair { hosts, people, clients })
}

/// Each asks to see the other's presence, and grants it.
pub(super) fn subscribe(world: &mut World, clients: [ClientId; 2], people: [PersonId; 2]) -> Checked {
    for (client, other) in [(clients[0], people[1]), (clients[1], people[0])] {
        world.subscription(client, other, "subscribe");
    }
    for (client, other) in [(clients[0], people[1]), (clients[1], people[0])] {
        world.until("the request is shown", 10_000, |world| world.is_asked(client, other))?;
        world.subscription(client, other, "subscribed");
    }
    world.until("both are contacts and see each other", 10_000, |world| {
        [(clients[0], people[1]), (clients[1], people[0])].into_iter().all(|(client, other)| {
            world.has_subscription(client, other, "both") && world.sees_online(client, other)
        })
    })
}

/// 20 to 50 messages each way while everything fails that can.
fn converse(world: &mut World, pair: &Pair) -> Checked {
    let span = world.dice.between(60_000, 240_000);
    for (client, to) in [(pair.clients[0], pair.people[1]), (pair.clients[1], pair.people[0])] {
        let count = world.dice.between(20, 50);
        world.chatter(client, to, count, span);
    }
    // In some runs frames come in any order, twice or not at all, which is harder than any stream.
    world.network.datagrams = world.dice.chance(15);
    world.book.any_order = world.network.datagrams;
    let pause = world.dice.between(2_000, 30_000);
    let until = world.time + span;
    world.forecast(Weather { hosts: &pair.hosts, clients: &pair.clients, pause }, until);
    world.run(span)
}

/// Ben's laptop is closed. Anna sees that within 30 s.
fn leave(world: &mut World, pair: &Pair) -> Checked {
    world.until("they see each other again", 90_000, |world| {
        world.sees_online(pair.clients[0], pair.people[1])
            && world.sees_online(pair.clients[1], pair.people[0])
    })?;
    world.check_leaving(pair.hosts[1])?;
    world.until("ben is gone", 1_000, |world| !world.sees_online(pair.clients[0], pair.people[1]))
}

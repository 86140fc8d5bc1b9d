//! The people of a scenario, each with a laptop and a chat program, and what they do with each other. *Pure.*

use crate::client::Traits;
use crate::world::events::{ClientId, HostId, PersonId};
use crate::world::story::Checked;
use crate::world::{Violation, World};

/// A chat program with XEP-0198.
pub(super) const MODERN: Traits = Traits { resumes: true, carbons: false };
/// One with XEP-0280 too.
pub(super) const CARBONS: Traits = Traits { resumes: true, carbons: true };

pub(super) const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// First names for a class.
const NAMES: [&str; 50] = [
    "ada", "amir", "bela", "bodo", "cleo", "cyril", "dara", "dov", "edda", "emil", "fara", "finn", "gita",
    "goran", "hana", "hugo", "ida", "ivan", "jana", "jun", "kaya", "kofi", "lena", "luca", "mara", "milo",
    "nela", "noah", "oda", "omar", "pia", "petr", "qiu", "quim", "rosa", "rafi", "sana", "sven", "tara",
    "timo", "ula", "udo", "vera", "vito", "wanda", "wim", "xenia", "yuki", "zara", "zeno",
];

/// Somebody with a laptop and a chat program.
#[derive(Clone, Copy)]
pub(super) struct Somebody {
    pub(super) host: HostId,
    pub(super) person: PersonId,
    pub(super) client: ClientId,
}

/// Somebody new.
pub(super) fn somebody(world: &mut World, name: &'static str, traits: Traits) -> Result<Somebody, Violation> {
    let host = world.host(name)?;
    let person = world.person(name);
    world.account(person, host)?;
    let client = world.client(name, person, host, "desk", traits);
    Ok(Somebody { host, person, client })
}

/// As many people, who see each other.
pub(super) fn class(world: &mut World, count: usize) -> Result<Vec<Somebody>, Violation> {
    let mut all = Vec::new();
    for name in NAMES.iter().take(count) {
        all.push(somebody(world, name, MODERN)?);
    }
    all_see_all(world, &all, MINUTE)?;
    Ok(all)
}

/// Everybody sees everybody else in "Nearby" or as a contact, the latest after so many milliseconds.
pub(super) fn all_see_all(world: &mut World, all: &[Somebody], within: u64) -> Checked {
    // Only when these see each other, it is looked for the next ones who do not.
    let mut left = unseen(world, all);
    let seen = world.until("everybody sees everybody", within, |world| {
        if left.is_some_and(|(one, other)| world.sees_online(one.client, other.person)) {
            left = unseen(world, all);
        }
        left.is_none()
    });
    seen.map_err(|mut violation| {
        if let Some((one, other)) = unseen(world, all) {
            let (one, other) = (world.who(one.person), world.who(other.person));
            violation.what = format!("{}: {one} does not see {other}", violation.what);
        }
        violation
    })
}

/// Somebody who does not see somebody else.
fn unseen(world: &World, all: &[Somebody]) -> Option<(Somebody, Somebody)> {
    let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other)));
    let mut pairs = pairs.filter(|(one, other)| one.person != other.person);
    pairs.find(|(one, other)| !world.sees_online(one.client, other.person))
}

/// Two people become contacts of each other.
pub(super) fn befriend(world: &mut World, one: Somebody, other: Somebody) -> Checked {
    super::two_laptops::subscribe(world, [one.client, other.client], [one.person, other.person])
}

/// Each is a contact of the next one, and the last one of the first.
pub(super) fn befriend_in_a_ring(world: &mut World, all: &[Somebody]) -> Checked {
    for (one, other) in ring(all) {
        befriend(world, one, other)?;
    }
    Ok(())
}

/// Each with the next one.
pub(super) fn ring(all: &[Somebody]) -> Vec<(Somebody, Somebody)> {
    let next = all.iter().skip(1).chain(all.first().filter(|_| all.len() > 2));
    all.iter().copied().zip(next.copied()).collect()
}

/// Two people write to each other, `each` messages within `span` milliseconds.
pub(super) fn talk(world: &mut World, one: Somebody, other: Somebody, each: u64, span: u64) {
    world.chatter(one.client, other.person, each, span);
    world.chatter(other.client, one.person, each, span);
}

//! The server of a school is away for a month: people log in, talk, add, remove and block contacts without it, a certificate ends, a
//! laptop is stolen. When it is back everything settles: nothing is lost, doubled or asked.

use std::collections::{BTreeMap, BTreeSet};

use crosstalk::core::admin::{Command, ContactView, Reply, StatusView};

use super::cast::{DAY, HOUR, MINUTE, MODERN, Somebody, befriend, talk};
use crate::world::World;
use crate::world::events::{HostId, PersonId};
use crate::world::host::Power;
use crate::world::story::{Checked, Violation};

/// Until the server is away. Certificates end 400 days after they were made, and are renewed after 60 by who meets the server.
const BEFORE: u64 = 375 * DAY;
/// How long it is away; and how long people talk in it: what has not come after 30 days is given up (DESIGN.md §4).
const MONTH: u64 = 30 * DAY;
const TALKING: u64 = 27 * DAY;
/// How long a meeting takes at most until both have the same.
const SOON: u64 = 3 * MINUTE;

/// A school: anna with two laptops, ben with two of which one is stolen, cleo who was ill for a year.
struct School {
    server: HostId,
    anna: Somebody,
    couch: Somebody,
    ben: Somebody,
    stolen: Somebody,
    cleo: Somebody,
}

impl School {
    fn all(&self) -> [Somebody; 5] {
        [self.anna, self.couch, self.ben, self.stolen, self.cleo]
    }

    fn honest(&self) -> [Somebody; 4] {
        [self.anna, self.couch, self.ben, self.cleo]
    }
}

pub(super) fn run(world: &mut World) -> Checked {
    let school = begin(world)?;
    a_year_goes_by(world, &school)?;
    without_the_server(world, &school)?;
    let new = all_come_back(world, &school)?;
    settled(world, &school, &new)?;
    world.check_ending()
}

/// All get their names, and anna has some contacts.
fn begin(world: &mut World) -> Result<School, Violation> {
    let server = world.server("the server")?;
    let cleo = pupil(world, "cleo", server)?;
    let ben = pupil(world, "ben", server)?;
    befriend(world, ben, cleo)?;
    sleep(world, &[cleo]);
    let anna = pupil(world, "anna", server)?;
    befriend(world, anna, ben)?;
    for (jid, name) in [("kept", "Kept"), ("gone", "Gone"), ("both", "Both")] {
        world.set_contact(anna.client, &far(jid), name, "Old");
    }
    world.set_block(anna.client, "block", &far("foe"));
    let couch = another(world, "anna's couch", anna.person, server)?;
    let stolen = another(world, "ben's other", ben.person, server)?;
    world.until("anna's couch has her list", SOON, |world| world.lists_agree([anna.client, couch.client]))?;
    world.until("and her blocks", SOON, |world| world.blocks(couch.host).contains(&far("foe")))?;
    talk(world, anna, ben, 3, MINUTE);
    world.run(6 * MINUTE)?;
    world.until("all is delivered while the server is there", SOON, World::all_delivered)?;
    Ok(School { server, anna, couch, ben, stolen, cleo })
}

/// Somebody gets a name at the server, with a first laptop.
fn pupil(world: &mut World, name: &'static str, server: HostId) -> Result<Somebody, Violation> {
    let (host, person) = (world.host(name)?, world.person(name));
    world.enrol(person, host, server)?;
    let client = world.client(name, person, host, "desk", MODERN);
    Ok(Somebody { host, person, client })
}

/// A further laptop, with name and password.
fn another(
    world: &mut World,
    name: &'static str,
    person: PersonId,
    server: HostId,
) -> Result<Somebody, Violation> {
    let host = world.host(name)?;
    world.enrol_again(person, host, server)?;
    let client = world.client(name, person, host, "couch", MODERN);
    Ok(Somebody { host, person, client })
}

/// All but cleo meet the server once more, and their certificates are renewed.
fn a_year_goes_by(world: &mut World, school: &School) -> Checked {
    sleep(world, &school.all());
    world.close_lid(school.server);
    world.run(BEFORE)?;
    world.open_lid(school.server);
    let here = [school.anna, school.couch, school.ben, school.stolen];
    for one in here {
        world.open_lid(one.host);
        world.renew_device(one.person, one.host)?;
    }
    world.run(SOON)?;
    for one in here {
        certified_for(world, one, 390 * DAY)?;
    }
    sleep(world, &school.all());
    Ok(())
}

/// A month in which people meet here and there.
fn without_the_server(world: &mut World, school: &School) -> Checked {
    let School { server, anna, couch, ben, stolen, cleo } = *school;
    world.crash(server, Power::Off)?;
    world.carry(server, None);
    world.run(MONTH - TALKING)?;
    // Friends bring what was written by several ways, and no gap is waited for longer than 30 s.
    world.book.any_order = true;
    let (village, town) = ([anna, ben], [couch, stolen, cleo]);
    go(world, &village, "the village");
    go(world, &town, "the town");
    world.renew_device(cleo.person, cleo.host)?;
    world.run(MINUTE)?;
    on_two_laptops(world, school)?;
    chat(world, school);
    world.run(10 * MINUTE)?;
    world.steal(stolen.host, stolen.client);
    let days = world.dice.between(4, 7);
    for day in 1..=days {
        sleep(world, &school.all());
        world.run(TALKING / days)?;
        if day == days / 2 {
            lost_laptop(world, school)?;
        }
        for one in school.all() {
            let place = if world.dice.chance(50) { "the village" } else { "the town" };
            go(world, &[one], place);
        }
        world.run(MINUTE)?;
        if day == days / 2 {
            // She knows the name only, unless they are in the same place by chance.
            world.subscription(anna.client, cleo.person, "subscribe");
        }
        for friend in [anna, couch, cleo] {
            world.lie(friend.person);
        }
        chat(world, school);
        world.run(10 * MINUTE)?;
    }
    let names = status(world, cleo.host)?.names;
    match names.first().is_some_and(|name| !name.valid) && world.clients[cleo.client.0].is_ready() {
        true => Ok(()),
        false => Err(world.violation("cleo's certificate has not ended, or she is not logged in")),
    }
}

/// What anna does on one laptop and, apart from it, on the other.
fn on_two_laptops(world: &mut World, school: &School) -> Checked {
    let School { anna, couch, .. } = *school;
    world.set_contact(anna.client, &far("kept"), "Renamed", "Old");
    world.remove_contact(couch.client, &far("kept"));
    world.remove_contact(anna.client, &far("gone"));
    world.set_contact(anna.client, &far("both"), "New name", "Old");
    world.set_contact(couch.client, &far("both"), "Both", "New group");
    world.set_contact(anna.client, &far("here"), "Here", "New");
    world.set_contact(couch.client, &far("there"), "There", "New");
    world.set_block(anna.client, "block", &far("enemy"));
    world.set_block(couch.client, "unblock", &far("foe"));
    for (one, nickname) in [(anna, "Anni"), (couch, "Nan")] {
        let (account, nickname) = ("anna".to_owned(), Some(nickname.to_owned()));
        match world.ask(one.host, Command::SetProfile { account, nickname, visible: None })? {
            Reply::Account(_) | Reply::Done => {}
            other => return Err(world.violation(format!("a nickname was not changed: {other:?}"))),
        }
    }
    Ok(())
}

/// Whoever runs the server looks after it, where nobody else is, and hears of the theft.
fn lost_laptop(world: &mut World, school: &School) -> Checked {
    world.boot(school.server)?;
    world.run(MINUTE)?;
    world.revoke_stolen(school.ben.person, school.server)?;
    world.crash(school.server, Power::Killed)
}

/// The server is back. Each comes twice, when it likes, and everything that was to be settled is settled by that.
fn all_come_back(world: &mut World, school: &School) -> Result<Vec<Somebody>, Violation> {
    sleep(world, &school.all());
    for one in school.all() {
        world.carry(one.host, Some("home"));
    }
    world.boot(school.server)?;
    world.carry(school.server, Some("school"));
    for _ in 0..2 {
        let mut left = school.all().to_vec();
        while !left.is_empty() {
            let next = usize::try_from(world.dice.below(left.len() as u64)).unwrap_or_default();
            visit(world, school, left.swap_remove(next))?;
        }
    }
    let new = new_laptops(world, school)?;
    agrees(world, school)?;
    Ok(new)
}

/// Each gets one more laptop, which meets nobody but the server, and has everything that the others had when they were there.
fn new_laptops(world: &mut World, school: &School) -> Result<Vec<Somebody>, Violation> {
    let mut all = Vec::new();
    for (name, of) in [("anna's new", school.anna), ("ben's new", school.ben), ("cleo's new", school.cleo)] {
        let host = world.host(name)?;
        world.carry(host, Some("school"));
        world.enrol_again(of.person, host, school.server)?;
        let one = Somebody { host, client: world.client(name, of.person, host, "new", MODERN), ..of };
        world.is_promised_from_now(one.client);
        world.run(SOON)?;
        in_step(world, one, false)?;
        world.check_entrusted(one.person, host)?;
        if one.person == school.anna.person {
            has_all(world, one)?;
        }
        world.carry(host, Some("home"));
        sleep(world, &[one]);
        all.push(one);
    }
    Ok(all)
}

/// Somebody comes to the school for a while, and goes home again.
fn visit(world: &mut World, school: &School, one: Somebody) -> Checked {
    go(world, &[one], "school");
    if world.dice.chance(30) {
        // The power fails in the middle of it.
        let pause = world.dice.between(100, 3_000);
        world.run(pause)?;
        world.crash(school.server, Power::Killed)?;
        world.run(5_000)?;
        world.boot(school.server)?;
    }
    world.run(SOON)?;
    let is_stolen = one.host == school.stolen.host;
    in_step(world, one, is_stolen)?;
    if !is_stolen {
        world.entrusts(one.person, one.host)?;
    }
    world.carry(one.host, Some("home"));
    sleep(world, &[one]);
    let pause = world.dice.between(MINUTE, HOUR);
    world.run(pause)
}

/// What a laptop and the server have is the same. One that was revoked has no account any more, or is refused.
fn in_step(world: &mut World, one: Somebody, revoked: bool) -> Checked {
    let (name, server) = (world.hosts[one.host.0].name, status(world, one.host)?.servers.into_iter().next());
    let met = server.as_ref().is_some_and(|server| server.state == "up" && server.held == 0);
    let refused = server.as_ref().is_none_or(|server| server.state == "refused");
    match (revoked, met, refused) {
        (true, _, false) => {
            Err(world.violation(format!("{name}, which was revoked, is not refused: {server:?}")))
        }
        (false, false, _) => {
            Err(world.violation(format!("{name} and the server are not in step: {server:?}")))
        }
        (true, ..) => Ok(()),
        (false, ..) => certified_for(world, one, 365 * DAY),
    }
}

/// Both laptops of anna have what she did on either.
fn agrees(world: &mut World, school: &School) -> Checked {
    let (anna, couch) = (school.anna, school.couch);
    for one in [anna, couch] {
        world.open_lid(one.host);
    }
    match [has_all(world, anna)?, has_all(world, couch)?] {
        [one, other] if one == other => Ok(()),
        seen => Err(world.violation(format!("anna's laptops disagree: {seen:?}"))),
    }
}

/// What a laptop shows of each contact, and the nickname.
type Shown = (Vec<(String, Option<String>, Vec<String>)>, String);

/// A laptop of anna has what she did on either of the two.
fn has_all(world: &mut World, one: Somebody) -> Result<Shown, Violation> {
    let list = contacts(world, one)?;
    let name = world.hosts[one.host.0].name;
    let is = |jid: &str, name: &str, group: &str| {
        list.get(&far(jid)).is_some_and(|item| {
            (item.name.as_deref(), item.groups.first().map(String::as_str)) == (Some(name), Some(group))
        })
    };
    let conflict = list.get(&far("kept")).is_some_and(|item| item.conflict.is_some());
    let promises = [
        ("keeps what was changed here and removed there", is("kept", "Renamed", "Old")),
        ("says so", conflict),
        ("removes what was removed", !list.contains_key(&far("gone"))),
        ("has the new name and the new group", is("both", "New name", "New group")),
        ("has what was added at the desk", is("here", "Here", "New")),
        ("has what was added on the couch", is("there", "There", "New")),
        ("blocks who was blocked, and nobody else", world.blocks(one.host) == BTreeSet::from([far("enemy")])),
    ];
    if let Some((what, _)) = promises.iter().find(|(_, kept)| !kept) {
        return Err(world.violation(format!("it is not so that {name} {what}: {list:?}")));
    }
    let others = list.into_iter().map(|(jid, item)| (jid, item.name, item.groups)).collect();
    Ok((others, nickname(world, one)?))
}

/// All are together again: who was asked answers, and whoever was added without a server is certified.
fn settled(world: &mut World, school: &School, new: &[Somebody]) -> Checked {
    let School { server, anna, ben, cleo, .. } = *school;
    world.carry(school.stolen.host, None);
    world.carry(server, Some("school"));
    go(world, &school.honest(), "school");
    go(world, new, "school");
    world.until("cleo is asked by anna", SOON, |world| world.is_asked(cleo.client, anna.person))?;
    world.subscription(cleo.client, anna.person, "subscribed");
    world.subscription(cleo.client, anna.person, "subscribe");
    world.until("anna is asked by cleo", SOON, |world| world.is_asked(anna.client, cleo.person))?;
    world.subscription(anna.client, cleo.person, "subscribed");
    world
        .until("they are contacts", SOON, |world| world.has_subscription(anna.client, cleo.person, "both"))?;
    world.until("all that was written has come", SOON, World::all_delivered)?;
    for one in [anna, school.couch] {
        for other in [ben, cleo] {
            is_certified(world, one, other)?;
        }
    }
    Ok(())
}

/// Soon a laptop shows a contact as certified.
fn is_certified(world: &mut World, one: Somebody, other: Somebody) -> Checked {
    let (jid, until) = (world.people[other.person.0].jid.clone(), world.time + SOON);
    loop {
        let tier = contacts(world, one)?.remove(&jid).map(|item| item.tier).unwrap_or_default();
        match tier == "certified" {
            true => return Ok(()),
            false if world.time > until => {
                let name = world.hosts[one.host.0].name;
                return Err(world.violation(format!("{jid} is {tier:?} at {name}, and not certified")));
            }
            false => world.run(5_000)?,
        }
    }
}

/// A friend writes to a friend, wherever that one is.
fn chat(world: &mut World, school: &School) {
    let School { anna, couch, ben, cleo, .. } = *school;
    for (from, to) in [(anna, ben), (couch, ben), (ben, anna), (ben, cleo), (cleo, ben)] {
        let count = world.dice.between(0, 2);
        world.chatter(from.client, to.person, count, 5 * MINUTE);
    }
}

fn go(world: &mut World, those: &[Somebody], place: &'static str) {
    for one in those {
        world.carry(one.host, Some(place));
        world.open_lid(one.host);
    }
}

fn sleep(world: &mut World, those: &[Somebody]) {
    those.iter().for_each(|one| world.close_lid(one.host));
}

/// An address that is nobody's.
fn far(name: &str) -> String {
    format!("nobody-{name}@far.example")
}

fn status(world: &mut World, host: HostId) -> Result<StatusView, Violation> {
    world.status(host)
}

/// Somebody's certificate ends that long from now at the earliest.
fn certified_for(world: &mut World, one: Somebody, millis: u64) -> Checked {
    let (names, now) = (status(world, one.host)?.names, world.now(one.host).wall);
    match names.first().is_some_and(|name| name.valid && name.until > now + millis) {
        true => Ok(()),
        false => {
            let name = world.hosts[one.host.0].name;
            Err(world.violation(format!("the certificate at {name} was not renewed: {names:?}")))
        }
    }
}

fn contacts(world: &mut World, one: Somebody) -> Result<BTreeMap<String, ContactView>, Violation> {
    let account = world.people[one.person.0].name.to_owned();
    match world.ask(one.host, Command::Contacts(account))? {
        Reply::Contacts(all) => Ok(all.into_iter().map(|item| (item.jid.clone(), item)).collect()),
        other => Err(world.violation(format!("a node does not tell its contacts: {other:?}"))),
    }
}

fn nickname(world: &mut World, one: Somebody) -> Result<String, Violation> {
    match world.ask(one.host, Command::ShowAccount(world.people[one.person.0].name.to_owned()))? {
        Reply::Account(view) => Ok(view.nickname),
        other => Err(world.violation(format!("a node does not tell its account: {other:?}"))),
    }
}

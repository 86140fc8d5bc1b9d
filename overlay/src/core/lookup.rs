//! A look-up that somebody watches: what was asked of the hash table, what it said, and whether that counts. *Pure.*

use std::collections::{BTreeMap, VecDeque};

use super::query::Purpose;
use super::{Output, Overlay};
use crate::dht::{Answer, Key, Query, Refused, Trace, Value};
use crate::id::{AuthorityId, DeviceId, UserId};
use crate::time::{DAY, Now};

/// Keys of a domain under which a name is asked for: what was published before the last hand-overs is found until it is
/// renewed.
const KEYS_ASKED: usize = 3;

/// Look-ups under way; a further one gets an empty answer.
const MAX_LOOKUPS: usize = 16;

/// Whom to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By key.
    User(UserId),
    /// By an address, whose domain's authority is known.
    Name(String),
}

/// What a key of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Who has a name.
    Name(AuthorityId),
    /// A user's devices.
    User(UserId),
    /// Where a device of somebody is who shows it to somebody here.
    Presence(DeviceId),
}

/// One question and what came of it.
#[derive(Debug)]
pub struct Step {
    /// What was asked for.
    pub subject: Subject,
    /// Where.
    pub key: Key,
    /// How it went.
    pub trace: Trace,
    /// Each distinct value: its bytes, and what it says or why it does not count.
    pub values: Vec<(usize, Result<Value, Refused>)>,
}

/// A whole look-up.
#[derive(Debug, Default)]
pub struct Lookup {
    /// The questions in the order in which they were asked. None: nobody to ask, or no authority is known.
    pub steps: Vec<Step>,
    /// Who it is, if it is known now.
    pub user: Option<UserId>,
}

#[derive(Debug)]
struct Asked {
    subject: Subject,
    key: Key,
}

#[derive(Debug, Default)]
struct Watched {
    /// The first is being asked.
    todo: VecDeque<Asked>,
    lookup: Lookup,
}

/// Those under way, by the number that whoever watches has given.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    open: BTreeMap<u64, Watched>,
}

impl Overlay {
    /// Starts a look-up; [`Output::LookedUp`] follows.
    pub(super) fn start_lookup(&mut self, ticket: u64, target: &Target, now: Now) {
        let mut watched = Watched::default();
        match target {
            Target::User(user) => self.then_user(&mut watched, *user),
            Target::Name(address) => {
                for authority in self.authorities_of(address).into_iter().take(KEYS_ASKED) {
                    let key = Key::name(&authority, address);
                    watched.todo.push_back(Asked { subject: Subject::Name(authority), key });
                }
            }
        }
        if self.queries.nodes == 0 || self.lookups.open.len() >= MAX_LOOKUPS {
            watched.todo.clear();
        }
        self.lookups.open.insert(ticket, watched);
        self.go_on(ticket, now);
    }

    fn then_user(&self, watched: &mut Watched, user: UserId) {
        watched.lookup.user = Some(user);
        watched.todo.push_back(Asked { subject: Subject::User(user), key: Key::user(&user) });
    }

    fn go_on(&mut self, ticket: u64, now: Now) {
        let Some(watched) = self.lookups.open.get(&ticket) else { return };
        if watched.todo.is_empty() || !self.may_ask_table() {
            let lookup = self.lookups.open.remove(&ticket).map(|watched| watched.lookup).unwrap_or_default();
            self.outputs.push_back(Output::LookedUp { ticket, lookup });
        } else {
            self.ask_table(Purpose::Lookup(ticket), now);
        }
    }

    pub(super) fn lookup_query(&self, ticket: u64) -> Option<Query> {
        Some(Query::Walk(self.lookups.open.get(&ticket)?.todo.front()?.key))
    }

    pub(super) fn lookup_answered(&mut self, ticket: u64, answer: Answer, trace: Trace, now: Now) {
        let Some(mut watched) = self.lookups.open.remove(&ticket) else { return };
        if let Some(Asked { subject, key }) = watched.todo.pop_front() {
            let values = if let Answer::Values(values) = answer { values } else { Vec::new() };
            let context = self.users.context(self.clock.trusted(now));
            let read = |value: &Vec<u8>| (value.len(), Value::verify(&key, value, &context));
            let step = Step { subject, key, trace, values: values.iter().map(read).collect() };
            self.learn_from(&step, &mut watched, now);
            watched.lookup.steps.push(step);
        }
        self.lookups.open.insert(ticket, watched);
        self.go_on(ticket, now);
    }

    /// What counts is taken in like any other answer, and leads to the next question.
    fn learn_from(&mut self, step: &Step, watched: &mut Watched, now: Now) {
        for value in step.values.iter().filter_map(|(_, value)| value.as_ref().ok()) {
            match value {
                // A key that was left may be in other hands.
                Value::Name(name) if watched.lookup.user.is_none() && self.users.may_count(name) => {
                    watched.todo.clear();
                    self.then_user(watched, name.user);
                }
                Value::User(record) => self.take_in(record, now),
                Value::Name(_) | Value::Presence(_) => {}
            }
        }
        if let Subject::User(user) = step.subject {
            let day = self.time(now) / DAY;
            for device in self.audiences.devices_of(&user) {
                if let Some(Query::Get(key)) = self.presence_query(&user, &device, day) {
                    watched.todo.push_back(Asked { subject: Subject::Presence(device), key });
                }
            }
        }
    }
}

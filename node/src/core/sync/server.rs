//! The link to the server of a user's domain: up, or down with what is held (DESIGN.md §7). When it is met, at each change
//! while it is up, and now and then, one `pass` makes both have the same. *Pure.*

use std::collections::BTreeMap;

use crosstalk_overlay::core::{NoAnswer, Server};
use crosstalk_overlay::enrol::{Answer, Ask, Refused, Why};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::mutant::{Mutant, is_on};
use crosstalk_overlay::time::{MINUTE, SECOND};
use crosstalk_storage::tree::account::HomeServer;
use crosstalk_storage::tree::block::Blocked;
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};

use super::own;
use super::pass::{Pass, marks_of};
use super::servers::Search;
use crate::core::account::Account;
use crate::core::upstream::OutsideView;
use crate::core::{Core, Timer};

/// From one look at a server that is up to the next: what others have told it meanwhile.
const LOOK: u64 = 5 * MINUTE;
/// From a change here to telling it, so that several go together.
pub(super) const GATHER: u64 = SECOND;
/// From something that came from elsewhere: whoever said it mostly tells the server, too.
const HEARSAY: u64 = 10 * SECOND;
/// From the loss of a connection to asking whether the server is there: a second, and by lot as much more at most.
const LOST: u64 = 4 * SECOND;
/// Pauses after failures: the first, and the longest.
const FIRST_PAUSE: u64 = 10 * SECOND;
const LONGEST_PAUSE: u64 = 10 * MINUTE;
/// Passes at once.
const AT_ONCE: usize = 4;
/// Numbers of questions of passes; those of the command line are smaller.
const FIRST_TICKET: u64 = 1 << 62;

/// How the servers of all users here stand.
#[derive(Debug, Default)]
pub(in crate::core) struct Servers {
    pub(super) links: BTreeMap<UserId, Link>,
    pub(super) asked: BTreeMap<u64, UserId>,
    next: u64,
}

/// How one user's server stands.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) state: State,
    /// When it became so, Unix milliseconds.
    since: u64,
    failures: u32,
    /// When the next pass is due: monotonic milliseconds.
    pub(super) due: u64,
    /// Something changed here since the present pass began.
    pub(super) changed: bool,
    pub(super) pass: Option<Pass>,
    /// By which the server knows this device since the last whole pass.
    pub(super) session: Option<u64>,
    /// Who is asked.
    pub(super) search: Search,
    /// Bytes of the questions and answers of the last whole pass.
    last: (u64, u64),
    /// Of what it told, how much the server had no room for, how much it took for made in the future, and how much it did not understand.
    left_out: (u32, u32, u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Unknown,
    Up,
    Down,
    /// It says no.
    Refused(Why),
}

/// Whether a server can be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Stands {
    /// It does not answer, or not this user.
    Away,
    /// A pass will tell.
    Soon,
    /// By this number it knows the device.
    Ready(u64),
}

/// How a user's server stands, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// The user's certified address.
    pub address: String,
    /// Node id of the server, hexadecimal.
    pub node: String,
    /// Other servers of the domain that are known, and are asked while that one is away.
    pub others: usize,
    /// `up`, `down`, `refused`, or `unknown`: not asked yet.
    pub state: String,
    /// Since when, Unix milliseconds; 0: never.
    pub since: u64,
    /// What the server says when it refuses, or has not taken.
    pub why: Option<String>,
    /// When both had the same, Unix milliseconds; 0: never yet.
    pub synced: u64,
    /// Changes here since then.
    pub held: usize,
    /// A password of this time waits for it, Unix milliseconds.
    pub password: Option<u64>,
    /// While they are compared: how much is done, of how much.
    pub progress: Option<(usize, usize)>,
    /// The way to addresses outside, if the server has one.
    pub outside: Option<OutsideView>,
    /// Bytes of the last whole pass that went there.
    pub sent: u64,
    /// And came from there.
    pub received: u64,
}

impl Core {
    /// The user has no account here any more, or another server.
    pub(in crate::core) fn forget_server(&mut self, user: &UserId) {
        self.withdraw_questions(user);
        self.sync.servers.links.remove(user);
        self.sync.looks.remove(user);
        self.plan_sync();
    }

    /// Nobody waits for answers to a pass of this user any more.
    pub(super) fn withdraw_questions(&mut self, user: &UserId) {
        let overlay = &mut self.overlay;
        self.sync.servers.asked.retain(|ticket, other| {
            if other == user {
                overlay.withdraw_question(*ticket);
            }
            other != user
        });
    }

    /// After a start, and for a new account: looks out for the user's server.
    pub(in crate::core) fn look_for_server(&mut self, user: UserId) {
        if self.server_of(&user).is_none() {
            return;
        }
        self.watch_servers(user);
        self.sync.servers.links.entry(user).or_default().due = self.now.mono;
        self.plan_sync();
    }

    /// It did not answer, or knows this device no longer by the number `asked`: it is asked nothing else before the next
    /// pass, unless that has begun since.
    pub(in crate::core) fn look_again_for_server(&mut self, user: UserId, asked: Option<u64>) {
        let now = self.now.mono;
        let link = self.sync.servers.links.get_mut(&user);
        if let Some(link) = link.filter(|link| asked.is_some() && link.session == asked) {
            link.session = None;
            link.due = link.due.min(now + GATHER);
        }
        self.plan_sync();
    }

    pub(super) fn home_server(&self, user: &UserId) -> Option<&HomeServer> {
        self.accounts.get(user)?.stored.server.as_ref()
    }

    /// Something that nobody should wait for: the server is asked now, whether it was reached last time or not.
    pub(in crate::core) fn tell_server_now(&mut self, user: UserId) {
        let now = self.now.mono;
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        (link.changed, link.due) = (true, now);
        self.plan_sync();
    }

    /// Something of a user's account changed here.
    pub(in crate::core) fn tell_server_soon(&mut self, user: UserId) {
        self.tell_server_after(user, GATHER);
    }

    /// Something came from elsewhere that the server may have or lack.
    pub(in crate::core) fn tell_server_later(&mut self, user: UserId) {
        self.tell_server_after(user, HEARSAY);
    }

    fn tell_server_after(&mut self, user: UserId, wait: u64) {
        let soon = self.now.mono + wait;
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        link.changed = true;
        if link.state == State::Up {
            link.due = link.due.min(soon);
            self.plan_sync();
        }
    }

    /// A session with a server begins.
    pub(in crate::core) fn server_met(&mut self, node: NodeId) {
        for user in self.users_of_server(node).into_iter().filter(|_| !is_on(Mutant::ServerGivenUp)) {
            self.met_server_of(user, node);
        }
        self.plan_sync();
    }

    /// A session with a server was lost: whether it is still there is found out now. Each laptop takes its own moment, as a
    /// class loses it at once.
    pub(in crate::core) fn server_lost(&mut self, node: NodeId) {
        let moment = GATHER + u64::from(self.rng.next_u32()) % LOST;
        let now = self.now.mono;
        let soon = now + moment;
        for user in self.users_of_server(node) {
            let is_asked = self.server_of(&user).is_some_and(|(asked, _)| asked == node);
            let link = self.sync.servers.links.get_mut(&user);
            if let Some(link) = link.filter(|_| is_asked) {
                link.search.alone = link.search.alone.max(now);
                if link.state == State::Up {
                    link.due = link.due.min(soon);
                }
                if link.pass.is_some() {
                    self.call_others(user);
                }
            }
        }
        self.plan_sync();
    }

    fn plan_sync(&mut self) {
        let waiting = self.sync.servers.links.values().filter(|link| link.pass.is_none());
        let next = waiting.map(|link| link.due).min();
        let next = next.filter(|_| self.sync.servers.asked.len() < AT_ONCE);
        let turns = self.sync.servers.links.keys().filter_map(|user| Some(self.turn_of(user)?.0));
        let next = turns.chain(next).min();
        self.cancel_timer(Timer::Server);
        if let Some(next) = next {
            self.set_timer(next.saturating_sub(self.now.mono), Timer::Server);
        }
    }

    /// Begins the passes that are due.
    pub(in crate::core) fn servers_due(&mut self) {
        let now = self.now.mono;
        let all: Vec<UserId> = self.sync.servers.links.keys().copied().collect();
        for user in all {
            if let Some((_, present, other)) = self.turn_of(&user).filter(|(at, ..)| *at <= now) {
                self.turn_to(user, present, other);
            }
        }
        let due = |link: &Link| link.pass.is_none() && link.due <= now;
        let users = self.sync.servers.links.iter().filter(|(_, link)| due(link));
        let users: Vec<UserId> = users.map(|(user, _)| *user).collect();
        for user in users {
            if self.sync.servers.asked.len() < AT_ONCE {
                self.begin_pass(user);
            }
        }
        self.plan_sync();
    }

    fn begin_pass(&mut self, user: UserId) {
        let begun = self.first_question(user);
        let wait = if begun.is_some() { LOOK } else { MINUTE };
        let now = self.now.mono;
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        link.due = now + wait;
        let Some((pass, ask)) = begun else { return };
        link.changed = false;
        link.pass = Some(pass);
        link.search.alone = now;
        self.ask_home_server(user, &ask);
        self.call_others(user);
    }

    fn ask_home_server(&mut self, user: UserId, ask: &Ask) {
        let Some((node, places)) = self.server_of(&user) else { return };
        // What was brought along is deleted there once it is on the disk here.
        let durable = matches!(ask, Ask::Collect(_));
        let ask = ask.to_bytes();
        let ticket = FIRST_TICKET + self.sync.servers.next;
        self.sync.servers.next += 1;
        self.sync.servers.asked.insert(ticket, user);
        if let Some(pass) = self.sync.servers.links.get_mut(&user).and_then(|link| link.pass.as_mut()) {
            pass.bytes.0 += ask.len() as u64;
        }
        let server = Server::At(node, places);
        match durable {
            true => self.overlay.ask_server_durably(ticket, server, ask, self.now),
            false => self.overlay.ask_server(ticket, server, ask, self.now),
        }
    }

    /// An answer to a question of a pass; false if the question was another's.
    pub(in crate::core) fn home_server_said(
        &mut self,
        ticket: u64,
        answer: &Result<(NodeId, Vec<u8>), NoAnswer>,
    ) -> bool {
        let Some(user) = self.sync.servers.asked.remove(&ticket) else { return ticket >= FIRST_TICKET };
        let pass = self.sync.servers.links.get_mut(&user).and_then(|link| link.pass.take());
        if let Some(mut pass) = pass {
            match answer {
                Ok((_, bytes)) => {
                    pass.bytes.1 += bytes.len() as u64;
                    self.pass_goes_on(user, pass, Answer::from_bytes(bytes));
                }
                Err(NoAnswer::Busy) => self.pass_failed(user, None),
                Err(_) => self.pass_failed(user, Some(State::Down)),
            }
        }
        self.plan_sync();
        true
    }

    fn pass_goes_on(&mut self, user: UserId, mut pass: Pass, answer: Option<Answer>) {
        match answer {
            Some(Answer::Refused(Refused { why, .. }))
                if why == i32::from(Why::Forgotten) || why == i32::from(Why::Busy) =>
            {
                self.pass_failed(user, None);
            }
            Some(Answer::Refused(no)) => {
                let why = no.why();
                self.pass_failed(user, Some(State::Refused(why)));
            }
            Some(answer) => match self.next_question(user, &mut pass, answer) {
                Ok(Some(ask)) => {
                    if let Some(link) = self.sync.servers.links.get_mut(&user) {
                        link.pass = Some(pass);
                        self.ask_home_server(user, &ask);
                    }
                }
                Ok(None) => self.pass_ended(user, &pass),
                Err(why) => {
                    self.count(why);
                    self.pass_failed(user, Some(State::Refused(Why::Policy)));
                }
            },
            None => self.pass_failed(user, Some(State::Refused(Why::Policy))),
        }
    }

    /// What was told and taken in stays; the next pass goes on there.
    fn pass_failed(&mut self, user: UserId, state: Option<State>) {
        let pause = {
            let failures = self.sync.servers.links.get(&user).map_or(0, |link| link.failures);
            let pause = (FIRST_PAUSE << failures.min(6)).min(LONGEST_PAUSE);
            pause - pause / 4 + u64::from(self.rng.next_u32()) % (pause / 2)
        };
        if state.is_some() {
            self.way_shuts(user);
        }
        let Err(state) = self.search_on(user, state) else { return };
        let now = self.now;
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        link.failures = link.failures.saturating_add(1);
        link.session = None;
        // Whoever has just started again is asked at once.
        link.due = now.mono + if state.is_none() && link.failures == 1 { GATHER } else { pause };
        if state == Some(State::Down) && is_on(Mutant::ServerGivenUp) {
            link.due = u64::MAX;
        }
        link.changed = true;
        link.set(state.unwrap_or(link.state), now.wall);
    }

    fn pass_ended(&mut self, user: UserId, pass: &Pass) {
        self.end_look(&user, &pass.looking);
        self.settle_home(user, pass);
        let now = self.now;
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        link.set(State::Up, now.wall);
        (link.failures, link.last, link.left_out) = (0, pass.bytes, pass.left_out);
        let changed = link.changed;
        link.due = now.mono + if changed { GATHER } else { LOOK };
        link.session = Some(pass.session);
        let clock = self.overlay.tick(now).millis;
        self.password_due();
        self.next_search();
        let Some(account) = self.accounts.get_mut(&user).filter(|_| !changed) else { return };
        let (version, root) = (account.stored.roster_version, marks_of(account).root().to_vec());
        let Some(home) = account.stored.server.as_mut() else { return };
        (home.synced, home.version, home.clock, home.root) = (now.wall, version, clock, root);
        let (key, value) = (user.as_bytes().to_vec(), crosstalk_storage::encode(&account.stored));
        self.put_lazily(crosstalk_storage::Tree::Account, key, value);
    }

    /// Whether the server of a user can be asked now.
    pub(in crate::core) fn server_stands(&self, user: &UserId) -> Stands {
        let Some(link) = self.sync.servers.links.get(user) else { return Stands::Away };
        match (link.state, link.session.filter(|_| link.pass.is_none())) {
            (State::Down | State::Refused(_), _) => Stands::Away,
            (_, Some(session)) => Stands::Ready(session),
            (_, None) => Stands::Soon,
        }
    }

    /// Since when the server of a user is reached, Unix milliseconds.
    pub(super) fn server_is_up_since(&self, user: &UserId) -> Option<u64> {
        self.sync.servers.links.get(user).filter(|link| link.state == State::Up).map(|link| link.since)
    }

    /// By which number a server that is reached knows the device here.
    pub(in crate::core) fn server_session(&self, user: &UserId) -> Option<u64> {
        self.sync.servers.links.get(user).and_then(|link| link.session)
    }

    /// How the servers of users here stand.
    pub(in crate::core) fn server_views(&self) -> Vec<ServerView> {
        let links = self.sync.servers.links.iter();
        let view = |(user, link): (&UserId, &Link)| {
            let outside = self.outside_view(user);
            Some(ServerView { outside, ..server_view(self.accounts.get(user)?, link) })
        };
        links.filter_map(view).collect()
    }
}

impl Link {
    fn set(&mut self, state: State, wall: u64) {
        if self.state != state {
            (self.state, self.since) = (state, wall);
        }
    }
}

fn server_view(account: &Account, link: &Link) -> ServerView {
    let home = account.stored.server.clone().unwrap_or_default();
    let (state, why) = match link.state {
        State::Unknown => ("unknown", None),
        State::Up => ("up", left_out(link.left_out)),
        State::Down => ("down", None),
        State::Refused(why) => ("refused", Some(reason(why).to_owned())),
    };
    ServerView {
        address: account.jid.to_string(),
        node: crate::core::hex(&home.node),
        others: home.others.len(),
        state: state.to_owned(),
        since: link.since,
        why,
        synced: home.synced,
        held: held(account, &home),
        password: account.stored.held_password.as_ref().map(|held| held.at),
        progress: link.pass.as_ref().and_then(Pass::progress),
        outside: None,
        sent: link.last.0,
        received: link.last.1,
    }
}

/// What the server did not take of what it was told.
fn left_out((full, ahead, unread): (u32, u32, u32)) -> Option<String> {
    let full = (full > 0).then(|| {
        format!("it keeps as much of this user as it may, and {full} more things are on this laptop only: remove some contacts")
    });
    let ahead = (ahead > 0).then(|| {
        format!(
            "{ahead} changes were made more than two days ahead of its clock: one of the two clocks is wrong"
        )
    });
    let unread = (unread > 0).then(|| {
        format!("it does not understand {unread} things, which are on this laptop only: its program is older than the one here")
    });
    let all: Vec<String> = full.into_iter().chain(ahead).chain(unread).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Changes of the account since both had the same. Opposite ones cancel each other.
fn held(account: &Account, home: &HomeServer) -> usize {
    if marks_of(account).root()[..] == home.root[..] {
        return 0;
    }
    let contacts = account.roster.items.values().filter(|item| item.version > home.version).count();
    let since = |millis: u64| millis > home.clock;
    let blocked = |one: &&Blocked| since(one.edit.as_ref().map_or(one.since, |edit| edit.millis));
    let blocks = account.blocks.values().filter(blocked).count();
    let records = account.roster.relations.values().flat_map(|relation| relation.slots.all());
    let own = own::entries(account).filter(|entry| entry.edits().iter().any(|edit| since(edit.millis)));
    contacts + blocks + own.count() + records.filter(|record| since(record.at.millis)).count()
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Disabled => "the server has ended this account",
        Why::Password => "the server knows this user no longer, or by another key: enrol again",
        Why::Full => {
            "the server keeps what 256 devices of this user have said, and has no room for one more: who runs it can start the user anew \
             (`crosstalk authority user reset`)"
        }
        Why::Trouble => "the server cannot save anything now",
        Why::Revoked => "this laptop was revoked as a device of the account",
        _ => "the server does not understand this node, or this node the server",
    }
}

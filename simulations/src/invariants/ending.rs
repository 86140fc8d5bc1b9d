//! When all is well again: everything is delivered, nothing is left over, both sides agree, bounds were kept. *Pure.*

use crosstalk::core::admin::{Command, Reply, StatusView};

use crate::client::Client;
use crate::client::view::View;
use crate::world::World;
use crate::world::events::{ClientId, HostId};
use crate::world::host::Power;
use crate::world::story::Checked;

/// How long it may take until what was held up is delivered, milliseconds. A dial is put off for a minute at most,
/// before jitter.
const CATCH_UP: u64 = 240_000;
/// Kinds of counters that a node may have; they are named in the code, so no peer can make more of them.
const MOST_COUNTERS: usize = 200;

impl World {
    /// Heals everything, waits until all is done and checks what has to be so then.
    pub(crate) fn check_ending(&mut self) -> Checked {
        for host in self.nodes().into_iter().filter(|host| self.is_lawless(*host)).collect::<Vec<_>>() {
            self.crash(host, Power::Off)?;
        }
        self.heal()?;
        self.until("all clients are logged in", CATCH_UP, |world| {
            world.honest().all(|client| client.is_ready())
        })?;
        self.all_arrives()?;
        self.until("all that was sent is acknowledged", CATCH_UP, |world| {
            world.honest().all(|client| client.is_done())
        })?;
        self.run(5_000)?;
        for host in self.nodes() {
            self.nothing_left(host)?;
        }
        self.views_agree()?;
        self.lists_mirror()
    }

    fn all_arrives(&mut self) -> Checked {
        let arrived = self.until("all is delivered", CATCH_UP, World::all_delivered);
        arrived.map_err(|mut violation| {
            if let Some((to, key)) = self.missing() {
                violation.what =
                    format!("{}: {} has not got {}", violation.what, self.clients[to.0].name, key.body());
            }
            violation
        })
    }

    /// Whether a host has clients to whom nothing is promised.
    pub(crate) fn is_lawless(&self, host: HostId) -> bool {
        self.clients.iter().any(|client| client.lawless && client.host == host)
    }

    /// The other clients.
    fn honest(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| !client.lawless)
    }

    /// Hosts that run a node.
    pub(crate) fn nodes(&self) -> Vec<HostId> {
        (0..self.hosts.len()).map(HostId).filter(|host| self.hosts[host.0].core.is_some()).collect()
    }

    fn nothing_left(&mut self, host: HostId) -> Checked {
        let limit = self.time + CATCH_UP;
        loop {
            let Reply::Outbox(mut waiting) = self.ask(host, Command::Outbox)? else {
                return Err(self.violation("a node does not tell its outbox"));
            };
            waiting.retain(|entry| entry.from != entry.to || !self.was_robbed(&entry.from));
            let status = self.status(host)?;
            let empty = waiting.is_empty() && self.book.outbox_of(host) == 0;
            if empty && status.inbox == 0 {
                return self.check_bounds(host, &status);
            }
            if self.time > limit {
                let name = self.hosts[host.0].name;
                let why = match empty {
                    true => format!("{} messages are held for clients that have them", status.inbox),
                    false => format!("the outbox of {name} is not empty: {waiting:?}"),
                };
                return Err(self.violation(why));
            }
            self.run(1_000)?;
        }
    }

    /// What a node says of itself.
    pub(crate) fn status(&mut self, host: HostId) -> Result<StatusView, crate::world::Violation> {
        match self.ask(host, Command::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(self.violation(format!("a node does not tell its status: {other:?}"))),
        }
    }

    /// A node holds no more than it may.
    pub(crate) fn check_bounds(&self, host: HostId, status: &StatusView) -> Checked {
        let clients = self.clients.iter().filter(|client| client.host == host).count();
        let peers = self.hosts.len() - 1;
        let bounds = [
            ("sessions", status.sessions, 4 * clients),
            ("peers", status.peers, peers),
            ("neighbours", status.neighbours, self.people.len()),
            ("counters", status.counters.len(), MOST_COUNTERS),
        ];
        match bounds.iter().find(|(_, count, most)| count > most) {
            Some((what, count, most)) => {
                Err(self.violation(format!("a node has {count} {what}, {most} is the most that can be")))
            }
            None => Ok(()),
        }
    }

    /// What clients learned by pushes is what they get when they ask.
    fn views_agree(&mut self) -> Checked {
        let all = (0..self.clients.len()).map(ClientId);
        let all: Vec<ClientId> = all.filter(|client| !self.clients[client.0].lawless).collect();
        let before: Vec<View> = self.honest().map(|client| client.view.clone()).collect();
        all.iter().for_each(|client| self.refresh_contacts(*client));
        self.until("all have their contact lists again", CATCH_UP, |world| {
            world.honest().all(|client| client.is_ready())
        })?;
        for (client, before) in self.honest().zip(before) {
            if client.view.real_contacts() != before.real_contacts() {
                let (pushed, fetched) = (before.real_contacts(), client.view.real_contacts());
                let why = format!(
                    "{}'s contact list is {pushed:?} by pushes and {fetched:?} in truth",
                    client.name
                );
                return Err(self.violation(why));
            }
        }
        Ok(())
    }

    /// What one sees as `to` the other sees as `from`.
    fn lists_mirror(&self) -> Checked {
        for client in self.honest() {
            for other in self.honest().filter(|other| other.person != client.person) {
                let (mine, theirs) = (&self.people[client.person.0].jid, &self.people[other.person.0].jid);
                let mirrored = match client.view.subscription(theirs) {
                    "to" => "from",
                    "from" => "to",
                    same => same,
                };
                let (seen, there) = (client.view.subscription(theirs), other.view.subscription(mine));
                if mirrored != there {
                    let (a, b) = (client.name, other.name);
                    return Err(
                        self.violation(format!("{a} has {seen:?} with {b}, who has {there:?} with {a}"))
                    );
                }
            }
        }
        Ok(())
    }

    /// A host goes silent for good. Who was there only is shown as available nowhere after 30 s.
    pub(crate) fn check_leaving(&mut self, host: HostId) -> Checked {
        self.crash(host, Power::Off)?;
        self.run(60_000)
    }
}

//! What the bypass gateway has done since the start, for people and programs: bounded, since it is counted by reason and by
//! entry of the list.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::base::{Alarm, Protocol, Side, Verdict};
use super::course::Learnt;
use super::destinations::Listed;
use super::socks::{Refused, Target};
use super::tls::Certificates;

/// Refused destinations that are remembered; a further one takes the place of the one that was refused longest ago.
const REMEMBERED: usize = 16;

/// What is going on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BypassView {
    /// Where chat programs find it.
    pub listen: Vec<SocketAddr>,
    /// Connections that are passed on now.
    pub open: usize,
    /// Chat programs that are being connected now.
    pub connecting: usize,
    /// Connections since the start, by the protocol that both sides spoke.
    pub spoken: BTreeMap<String, u64>,
    /// Connections since the start that were passed on without being understood.
    pub unknown: u64,
    /// What was refused since the start, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Connections since the start whose TLS ended here.
    #[serde(default)]
    pub secured: u64,
    /// Of these, those of accounts that are not listed: passed on, and neither shown nor listened to.
    #[serde(default)]
    pub unlisted: u64,
    /// What chat programs have to trust whose TLS ends here; nothing if no account is listed.
    #[serde(default)]
    pub certificates: Option<Certificates>,
    /// Who is connected now, as far as servers have said it where it can be read.
    #[serde(default)]
    pub users: Vec<UserView>,
    /// Bytes of chat programs to their networks since the start.
    pub bytes_out: u64,
    /// Bytes of the networks to them.
    pub bytes_in: u64,
    /// What is not as it should be, by destination.
    pub alarms: Vec<Trouble>,
    /// Destinations that were refused last, the newest first.
    pub turned_away: Vec<Trouble>,
}

/// A user of a base network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The address that its server gives it.
    pub address: String,
    /// `HOST:PORT` of the list.
    pub destination: String,
}

/// Something about a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// `HOST:PORT`.
    pub destination: String,
    /// What.
    pub what: String,
    /// How often since the start.
    pub count: u64,
}

/// The figures, shared by all connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    open: usize,
    connecting: usize,
    spoken: BTreeMap<Protocol, u64>,
    unknown: u64,
    secured: u64,
    unlisted: u64,
    refused: BTreeMap<Refused, u64>,
    /// By connection: address, and position in the list.
    users: BTreeMap<u64, (String, usize)>,
    bytes_out: u64,
    bytes_in: u64,
    /// By position in the list.
    alarms: BTreeMap<(usize, Alarm), u64>,
    /// The newest last.
    turned_away: Vec<(Target, Refused, u64)>,
}

/// One connection more of a kind, as long as it lasts.
pub(super) struct Counted {
    figures: Figures,
    number: fn(&mut Counts) -> &mut usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        *(self.number)(&mut self.figures.counts()) -= 1;
    }
}

/// Tells of one connection.
pub(super) struct Teller {
    /// Number of the connection.
    pub(super) number: u64,
    /// Where it is told.
    pub(super) figures: Figures,
    /// Which entry of the list it goes to.
    pub(super) entry: usize,
    /// Its destination.
    pub(super) target: Target,
}

impl Teller {
    /// So many bytes of that side came in.
    pub(super) fn passed(&self, side: Side, count: usize) {
        let mut counts = self.figures.counts();
        match side {
            Side::Client => counts.bytes_out += count as u64,
            Side::Server => counts.bytes_in += count as u64,
        }
    }

    /// What was learnt of it. Only the first alarm of a kind goes into the log.
    pub(super) fn learnt(&self, learnt: Learnt) {
        match learnt {
            Learnt::Verdict(Verdict::Speaks(protocol)) => {
                *self.figures.counts().spoken.entry(protocol).or_default() += 1;
            }
            Learnt::Verdict(Verdict::Passed(alarm)) => {
                self.figures.counts().unknown += 1;
                self.alarm(alarm);
            }
            Learnt::User(user) => {
                self.figures.counts().users.insert(self.number, (user.to_string(), self.entry));
            }
            Learnt::Unlisted => self.figures.counts().unlisted += 1,
            Learnt::Alarm(alarm) => self.alarm(alarm),
        }
    }

    /// Its TLS ends here, on both sides.
    pub(super) fn secured(&self) {
        self.figures.counts().secured += 1;
    }

    fn alarm(&self, alarm: Alarm) {
        if self.figures.is_first(self.entry, alarm) {
            tracing::warn!("a connection to {}: {alarm}", self.target);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.figures.counts().users.remove(&self.number);
    }
}

impl Figures {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, number: fn(&mut Counts) -> &mut usize) -> Counted {
        *number(&mut self.counts()) += 1;
        Counted { figures: self.clone(), number }
    }

    /// A chat program is being connected.
    pub(super) fn connecting(&self) -> Counted {
        self.counted(|counts| &mut counts.connecting)
    }

    /// A connection is passed on.
    pub(super) fn open(&self) -> Counted {
        self.counted(|counts| &mut counts.open)
    }

    /// Counts an alarm at this entry; whether it is the first of its kind there.
    fn is_first(&self, entry: usize, alarm: Alarm) -> bool {
        let mut counts = self.counts();
        let count = counts.alarms.entry((entry, alarm)).or_default();
        *count += 1;
        *count == 1
    }

    /// Somebody was not connected. Returns whether the log is to say so: for the first few destinations, each once.
    pub(super) fn refused(&self, target: Option<&Target>, why: Refused) -> bool {
        let mut counts = self.counts();
        *counts.refused.entry(why).or_default() += 1;
        let Some(target) = target else { return false };
        let known = counts.turned_away.iter().position(|(at, reason, _)| (at, reason) == (target, &why));
        let before = match known {
            Some(at) => counts.turned_away.remove(at).2,
            None => 0,
        };
        let full = counts.turned_away.len() >= REMEMBERED;
        if full {
            counts.turned_away.remove(0);
        }
        counts.turned_away.push((target.clone(), why, before + 1));
        before == 0 && !full
    }

    pub(super) fn view(
        &self,
        listen: &[SocketAddr],
        listed: &[Listed],
        certificates: Option<&Certificates>,
    ) -> BypassView {
        let counts = self.counts();
        let place = |entry: usize| listed.get(entry).map(|one| one.target.to_string()).unwrap_or_default();
        let alarm = |((entry, alarm), count): (&(usize, Alarm), &u64)| Trouble {
            destination: place(*entry),
            what: alarm.to_string(),
            count: *count,
        };
        let away = |(target, why, count): &(Target, Refused, u64)| Trouble {
            destination: target.to_string(),
            what: why.label().to_owned(),
            count: *count,
        };
        let user = |(address, entry): &(String, usize)| UserView {
            address: address.clone(),
            destination: place(*entry),
        };
        BypassView {
            users: counts.users.values().map(user).collect(),
            listen: listen.to_vec(),
            open: counts.open,
            connecting: counts.connecting,
            spoken: counts.spoken.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
            unknown: counts.unknown,
            secured: counts.secured,
            unlisted: counts.unlisted,
            certificates: certificates.cloned(),
            refused: counts.refused.iter().map(|(why, count)| (why.label().to_owned(), *count)).collect(),
            bytes_out: counts.bytes_out,
            bytes_in: counts.bytes_in,
            alarms: counts.alarms.iter().map(alarm).collect(),
            turned_away: counts.turned_away.iter().rev().map(away).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::socks::Host;
    use super::*;

    #[test]
    fn what_is_counted_is_bounded_and_told_once() {
        let figures = Figures::default();
        assert!(figures.is_first(0, Alarm::Client));
        assert!(!figures.is_first(0, Alarm::Client), "not for each connection");
        let target = |number: u16| Target { host: Host::Name("a.example".into()), port: number };
        for number in 1..=100 {
            let fresh = figures.refused(Some(&target(number)), Refused::NotListed);
            assert_eq!(fresh, number <= 16, "a flood of names does not fill the log");
            assert!(!figures.refused(Some(&target(number)), Refused::NotListed));
        }
        let open = figures.open();
        let teller = Teller { number: 7, figures: figures.clone(), entry: 0, target: target(6667) };
        teller.learnt(Learnt::Verdict(Verdict::Speaks(Protocol::Irc)));
        teller.learnt(Learnt::User("romeo@a.example".parse().expect("an address")));
        teller.secured();
        teller.learnt(Learnt::Unlisted);
        let listed = [Listed::read("irc://irc.example:6667").expect("an entry")];
        let view = figures.view(&[], &listed, None);
        assert_eq!((view.secured, view.unlisted), (1, 1));
        assert_eq!((view.open, view.unknown, view.spoken["irc"]), (1, 0, 1));
        assert_eq!(
            (&*view.users[0].address, &*view.users[0].destination),
            ("romeo@a.example", "irc.example:6667")
        );
        assert_eq!(view.refused["destination not listed"], 200);
        assert_eq!((view.turned_away.len(), &*view.turned_away[0].destination), (16, "a.example:100"));
        assert_eq!(view.turned_away[0].count, 2);
        assert_eq!((&*view.alarms[0].destination, view.alarms[0].count), ("irc.example:6667", 2));
        drop((open, teller));
        let view = figures.view(&[], &[], None);
        assert!(view.open == 0 && view.users.is_empty());
    }
}

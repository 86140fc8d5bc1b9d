//! What a node costs when the network is larger than any model here: computed, with what was assumed. *Pure.*

use crosstalk_overlay::dht::{CONTACT, COPIES, PRESENCE_AGAIN};
use serde::Serialize;

use super::figures::{Figures, Spread, line};
use super::{HOUR, LOOK_AGAIN};

/// What is assumed of people and of the wire.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Assumed {
    /// People who use it.
    pub users: f64,
    /// The share of them that is online at a time, …
    pub online: f64,
    /// … and for how many hours together.
    pub session: f64,
    /// Nodes that serve the table, per user.
    pub servers: f64,
    /// Contacts of a user that are away for all of a session, with one device each, …
    pub contacts_away: f64,
    /// … and how often in an hour each is looked for (`overlay/src/dht/pace.rs`).
    pub looks_per_contact: f64,
    /// Times in an hour that a node puts where it is (the same).
    pub publications: f64,
    /// Times in an hour that a node asks who holds its mail (`core/mailbox/places.rs`).
    pub mail_checks: f64,
    /// Letters an hour to people who are away, …
    pub letters: f64,
    /// … and the hours for which one waits.
    pub letter_waits: f64,
    /// Bytes of a question and its answer, with the connection that is made for it.
    pub question: f64,
    /// Bytes of a record.
    pub record: f64,
    /// Bytes of a letter.
    pub letter: f64,
}

/// One in a day, with a fifth of all people online.
const SESSION: f64 = 4.8;

/// How often somebody who stays away is looked for in a session of so many milliseconds.
fn looks(session: f64) -> f64 {
    let (mut looks, mut at) = (0, 0.0);
    while at < session {
        looks += 1;
        at += CONTACT.after(looks) as f64;
    }
    f64::from(looks)
}

impl Assumed {
    /// For so many users.
    pub fn of(users: f64) -> Self {
        Self {
            users,
            online: 0.2,
            session: SESSION,
            servers: 0.02,
            contacts_away: 40.0,
            looks_per_contact: looks(SESSION * HOUR as f64) / SESSION,
            publications: HOUR as f64 / PRESENCE_AGAIN as f64,
            mail_checks: HOUR as f64 / LOOK_AGAIN as f64,
            letters: 0.2,
            letter_waits: 10.0,
            question: 5_000.0,
            record: 1_500.0,
            letter: 2_000.0,
        }
    }
}

/// What follows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// From what.
    pub assumed: Assumed,
    /// Hops of a look-up.
    pub hops: f64,
    /// Nodes that a look-up asks.
    pub asked: f64,
    /// Questions an hour of a node that is online.
    pub asks: f64,
    /// Questions an hour that a server answers, beside those of other servers' upkeep.
    pub answers: f64,
    /// Bytes a second of a node that is online and no server.
    pub client_bytes: f64,
    /// Bytes a second of a server, with upkeep.
    pub server_bytes: f64,
    /// Bytes on the disk of a server, whether it is here or not.
    pub disk: f64,
}

/// Continues the lines through `runs`, of which there have to be two sizes.
pub fn estimate(runs: &[Figures], assumed: Assumed) -> Option<Estimate> {
    let servers = assumed.users * assumed.servers;
    let at =
        |of: fn(&Figures) -> &Spread| line(runs, of).map(|(base, slope, _)| base + slope * servers.log2());
    let (hops, asked) = (at(|run| &run.hops)?, at(|run| &run.asked)?);
    let last = runs.iter().max_by_key(|run| run.here)?;
    let looks = assumed.contacts_away * assumed.looks_per_contact;
    let puts = assumed.publications + assumed.letters;
    let asks = (looks + puts + assumed.mail_checks) * asked + puts * COPIES as f64;
    // The records of everybody, and letters that wait, are kept alive by those who hold them.
    let kept = last.record_upkeep + last.letter_upkeep * assumed.letters * assumed.letter_waits;
    let answers = (asks * assumed.online + kept) / assumed.servers;
    let own = last.load.mean * last.upkeep * 60.0;
    let copies = last.record_copies.mean * assumed.record
        + last.letter_copies.mean * assumed.letters * assumed.letter_waits * assumed.letter;
    Some(Estimate {
        assumed,
        hops,
        asked,
        asks,
        answers,
        client_bytes: asks * assumed.question / 3_600.0,
        server_bytes: (answers + own) * assumed.question / 3_600.0,
        disk: copies / assumed.servers,
    })
}

//! What a node costs when the network is larger than any model here: computed, with what was assumed. *Pure.*

use crosstalk_overlay::dht::{BUCKET, CONTACT, COPIES, PRESENCE_AGAIN};
use serde::Serialize;

use super::figures::{Figures, Spread, line};
use super::lookup::ROUND_TRIPS;
use super::prediction;
use super::{HOUR, LOOK_AGAIN, QUESTION_BYTES};

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
    /// Values that a user has in the table at a time: its record, its name, its presence.
    pub values: f64,
    /// Times that a question wakes a node that asks or answers it: round trips, and the end of the connection.
    pub wakes: f64,
    /// Bytes of memory of an entry of the routing table with its addresses.
    pub entry: f64,
    /// Values that the store of the program holds at most (`node/src/run.rs`).
    pub bound: f64,
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
            question: QUESTION_BYTES,
            record: 1_500.0,
            letter: 2_000.0,
            values: 3.0,
            wakes: ROUND_TRIPS + 1.0,
            entry: 700.0,
            bound: 1_024.0,
        }
    }
}

/// What follows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// From what.
    pub assumed: Assumed,
    /// Hops of a look-up, by the line through the runs …
    pub hops: f64,
    /// … and by the logarithm that is computed without them ([`super::hops`]).
    pub predicted_hops: f64,
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
    /// Values in the store of a server, on average, …
    pub held: f64,
    /// … and of which share of its bound that is; above 1, those farthest from their key are dropped.
    pub held_share: f64,
    /// Nodes in a routing table, …
    pub entries: f64,
    /// … and bytes of memory for them.
    pub table_bytes: f64,
    /// Times a second that the table wakes a node that is online and no server, …
    pub client_wakes: f64,
    /// … and a server.
    pub server_wakes: f64,
    /// By how much, relative to the model, lines through all sizes but the largest are off there, in hops and nodes asked;
    /// nothing with fewer than three sizes.
    pub checked: Option<(f64, f64)>,
}

/// By how much the line through all but the largest size misses the largest.
fn check(runs: &[Figures], of: fn(&Figures) -> &Spread) -> Option<f64> {
    let largest = runs.iter().max_by_key(|run| run.here)?;
    let smaller: Vec<Figures> = runs.iter().filter(|run| run.here < largest.here).cloned().collect();
    let (base, slope, _) = line(&smaller, of)?;
    Some((base + slope * f64::from(largest.here).log2()) / of(largest).mean - 1.0)
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
    let copies = last.record_copies.mean * assumed.values * assumed.record
        + last.letter_copies.mean * assumed.letters * assumed.letter_waits * assumed.letter;
    let held = assumed.values * last.record_copies.mean / assumed.servers;
    let entries = at(|run| &run.entries)?;
    Some(Estimate {
        assumed,
        hops,
        predicted_hops: prediction::hops(servers, BUCKET),
        asked,
        asks,
        answers,
        client_bytes: asks * assumed.question / 3_600.0,
        server_bytes: (answers + own) * assumed.question / 3_600.0,
        disk: copies / assumed.servers,
        held,
        held_share: held / assumed.bound,
        entries,
        table_bytes: entries * assumed.entry,
        client_wakes: asks * assumed.wakes / 3_600.0,
        server_wakes: (answers + own) * assumed.wakes / 3_600.0,
        checked: check(runs, |run| &run.hops).zip(check(runs, |run| &run.asked)),
    })
}

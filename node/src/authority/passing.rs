//! Several processes of one server, of which one keeps the link to other servers: what laptops ask the others about the outside
//! goes to it by the database, and the answers come back the same way.
//!
//! A question that is passed on changes nothing before the leader answers it, and may be put again like any other: where a
//! process dies in between, the laptop asks anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crosstalk_overlay::enrol::{Answer, Ask, Exchange, Why};
use crosstalk_overlay::id::{DeviceId, NodeId, UserId};
use crosstalk_storage::tree::passed::{
    Asked, Blocks, FOR_LEADER, LEADER, Leads, Passed, Word, all_for, all_news_of, for_leader, for_process,
    news_of, read,
};
use jid::Jid;
use tokio::time::Instant;

use super::database::{Change, Database, DatabaseError};
use crate::event_loop::clock::wall_millis;
use crate::upstream::outward::Who;

/// How often a process looks what others have said to it.
pub(super) const LOOK: Duration = Duration::from_millis(150);
/// Questions of laptops that wait for the leader; of more a laptop is told to come again.
const WAITING: usize = 256;
/// Who has no answer by then is told to come again.
const PATIENCE: Duration = Duration::from_secs(8);
/// Words to the leader that it has not read by then are taken back.
const WORD_PATIENCE: Duration = Duration::from_secs(60);
/// Laptops that are told when another process leads, and how long after their last question.
const LAPTOPS: usize = 4_096;
const LATELY: Duration = Duration::from_secs(75);
/// Rows that are read at once.
const AT_ONCE: usize = 128;
/// What is older was left behind by a process that died, or stood in a back-up; clocks of servers differ by less.
const STALE: u64 = 10 * 60 * 1_000;

/// A question that was passed to this process.
pub(super) struct Question {
    key: Vec<u8>,
    pub(super) word: Told,
}

/// What it is.
pub(super) enum Told {
    /// A laptop asks by that process.
    Asked { by: NodeId, who: Who, name: String, ask: Box<Exchange> },
    /// A block list has changed.
    Blocked(UserId, Jid),
    /// A user's name was given up, and all that was kept is deleted.
    Forgotten(UserId),
    /// Nothing that is understood, or not any more.
    Nothing,
}

/// What a process that does not lead waits for.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// By number: the laptop's node, its request, since when.
    waiting: BTreeMap<u64, (NodeId, u64, Instant)>,
    last: u64,
    looked: Option<Instant>,
    /// Changed block lists that the leader was told of, and when.
    told: VecDeque<(u64, Instant)>,
    /// Laptops that have asked by this process lately, and when.
    laptops: BTreeMap<NodeId, Instant>,
    /// Who led when it looked last.
    epoch: u64,
}

/// Answers for laptops, and nodes that something waits for.
pub(super) type Heard = (Vec<(NodeId, u64, Vec<u8>)>, Vec<NodeId>);

impl Passing {
    /// Whether it is time to look again.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if due {
            self.looked = Some(Instant::now());
        }
        due
    }

    /// A number above all that this process has used, also before its last start.
    fn next(&mut self) -> u64 {
        self.last = (self.last + 1).max(wall_millis() << 16);
        self.last
    }

    /// Passes a question of a laptop to whoever leads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn pass(
        &mut self,
        database: &Database,
        own: NodeId,
        (who, name, ask): (Who, String, Vec<u8>),
        request: u64,
    ) -> Result<bool, DatabaseError> {
        if self.waiting.len() >= WAITING {
            return Ok(false);
        }
        let (user, device) = (who.user.as_bytes().to_vec(), who.device.as_bytes().to_vec());
        let asked = Asked { node: who.node.as_bytes().to_vec(), user, device, name, ask };
        let number = self.next();
        database.commit(said(for_leader(own.as_bytes(), number), Word::Asked(asked)))?;
        let now = Instant::now();
        self.waiting.insert(number, (who.node, request, now));
        if self.laptops.len() < LAPTOPS || self.laptops.contains_key(&who.node) {
            self.laptops.insert(who.node, now);
        }
        Ok(true)
    }

    /// Tells whoever leads of changed block lists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn tell_blocks(
        &mut self,
        database: &Database,
        own: NodeId,
        blocks: &[(UserId, Jid)],
    ) -> Result<(), DatabaseError> {
        for (user, jid) in blocks {
            let word = Blocks { user: user.as_bytes().to_vec(), jid: jid.to_string() };
            let number = self.next();
            database.commit(said(for_leader(own.as_bytes(), number), Word::Blocked(word)))?;
            self.told.push_back((number, Instant::now()));
        }
        Ok(())
    }

    /// What the leader has said to this process, and what it has not answered in time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn hear(&mut self, database: &Database, own: NodeId) -> Result<Heard, DatabaseError> {
        let answers = rows(database, &all_for(own.as_bytes()))?;
        let news = rows(database, &all_news_of(own.as_bytes()))?;
        let epoch = epoch(database)?;
        database.rest();
        let mut gone = Change::default();
        let (mut heard, mut nodes) = (Vec::new(), Vec::new());
        let mut answered = BTreeSet::new();
        for (key, passed) in answers {
            let waited = read(&key).and_then(|(_, number)| Some((number, *self.waiting.get(&number)?)));
            if let (Some((number, (node, request, _))), Some(Word::Answer(answer))) = (waited, passed.word) {
                answered.insert(number);
                heard.push((node, request, answer));
            }
            gone = gone.upstream::<Passed>(key, None);
        }
        for (key, _) in news {
            nodes.extend(key.get(33..).and_then(NodeId::from_slice));
            gone = gone.upstream::<Passed>(key, None);
        }
        // Nobody is to carry out later what its laptop was told has failed.
        let late = |(_, (_, _, since)): &(&u64, &(NodeId, u64, Instant))| since.elapsed() > PATIENCE;
        let late = self.waiting.iter().filter(late).map(|(number, _)| *number);
        for number in late.filter(|number| !answered.contains(number)) {
            gone = gone.upstream::<Passed>(for_leader(own.as_bytes(), number), None);
        }
        // A leader reads them within moments, or there is none: then its gate is read anew.
        let old = self.told.partition_point(|(_, since)| since.elapsed() > WORD_PATIENCE);
        for (number, _) in self.told.drain(..old) {
            gone = gone.upstream::<Passed>(for_leader(own.as_bytes(), number), None);
        }
        if !gone.is_empty_upstream() {
            database.commit(gone)?;
        }
        self.waiting.retain(|number, _| !answered.contains(number));
        self.laptops.retain(|_, asked| asked.elapsed() < LATELY);
        if std::mem::replace(&mut self.epoch, epoch) != epoch {
            // Whoever leads now knows nothing of them.
            nodes.extend(std::mem::take(&mut self.laptops).into_keys());
        }
        self.waiting.retain(|_, (node, request, since)| {
            let waits = since.elapsed() <= PATIENCE;
            if !waits {
                heard.push((*node, *request, Answer::refused(Why::Trouble).to_bytes()));
            }
            waits
        });
        Ok((heard, nodes))
    }
}

/// This process begins to lead: from this commit on, with all that is read since the last one, whoever led before can write
/// nothing that it leads by. Its number.
///
/// # Errors
/// When it cannot be written.
pub(super) fn lead(database: &Database, own: NodeId) -> Result<u64, DatabaseError> {
    let epoch = epoch(database)? + 1;
    let word = Word::Leads(Leads { epoch, node: own.as_bytes().to_vec() });
    database.commit(said(LEADER.to_vec(), word))?;
    Ok(epoch)
}

/// How often a process has begun to lead.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn epoch(database: &Database) -> Result<u64, DatabaseError> {
    let word = database.upstream::<Passed>(LEADER)?.and_then(|passed| passed.word);
    Ok(if let Some(Word::Leads(leads)) = word { leads.epoch } else { 0 })
}

/// Tells whoever leads that all that is kept of a user is deleted, in the change that does so. Where nobody ever led there is
/// nobody to tell.
///
/// # Errors
/// When it cannot be read who leads.
pub(super) fn forgotten(
    database: &Database,
    own: NodeId,
    user: &UserId,
    change: Change,
) -> Result<Change, DatabaseError> {
    if epoch(database)? == 0 {
        return Ok(change);
    }
    // The user in place of a number: told twice is told once.
    let number = user.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let passed = Passed { at: wall_millis(), word: Some(Word::Forgotten(user.as_bytes().to_vec())) };
    Ok(change.upstream(for_leader(own.as_bytes(), number), Some(&passed)))
}

/// What was passed to the leader.
///
/// # Errors
/// When it cannot be read.
pub(super) fn questions(database: &Database) -> Result<Vec<Question>, DatabaseError> {
    let rows = rows(database, FOR_LEADER)?;
    database.rest();
    let now = wall_millis();
    let question = |(key, passed): (Vec<u8>, Passed)| {
        let by = read(&key).map(|(process, _)| NodeId::from_bytes(process));
        let fresh = passed.word.filter(|_| passed.at.abs_diff(now) < STALE);
        let word = by.zip(fresh).and_then(|(by, word)| told(by, word)).unwrap_or(Told::Nothing);
        Question { key, word }
    };
    Ok(rows.into_iter().map(question).collect())
}

fn told(by: NodeId, word: Word) -> Option<Told> {
    match word {
        Word::Asked(asked) => {
            let Some(Ask::Exchange(ask)) = Ask::from_bytes(&asked.ask) else { return None };
            let node = NodeId::from_slice(&asked.node)?;
            let (user, device) = (UserId::from_slice(&asked.user)?, DeviceId::from_slice(&asked.device)?);
            Some(Told::Asked { by, who: Who { node, user, device }, name: asked.name, ask: Box::new(ask) })
        }
        Word::Blocked(blocks) => {
            Some(Told::Blocked(UserId::from_slice(&blocks.user)?, Jid::new(&blocks.jid).ok()?))
        }
        Word::Forgotten(user) => Some(Told::Forgotten(UserId::from_slice(&user)?)),
        Word::Leads(_) | Word::Answer(_) | Word::News(_) => None,
    }
}

impl Question {
    /// It is done, with an answer or without.
    pub(super) fn done(self, answer: Option<Vec<u8>>, change: Change) -> Change {
        let change = match (answer, read(&self.key)) {
            (Some(answer), Some((process, number))) => {
                let passed = Passed { at: wall_millis(), word: Some(Word::Answer(answer)) };
                change.upstream(for_process(&process, number), Some(&passed))
            }
            _ => change,
        };
        change.upstream::<Passed>(self.key, None)
    }
}

/// Something waits for users of a node that another process has.
pub(super) fn news(process: NodeId, node: NodeId, change: Change) -> Change {
    let passed = Passed { at: wall_millis(), word: Some(Word::News(true)) };
    change.upstream(news_of(process.as_bytes(), node.as_bytes()), Some(&passed))
}

fn said(key: Vec<u8>, word: Word) -> Change {
    Change::default().upstream(key, Some(&Passed { at: wall_millis(), word: Some(word) }))
}

fn rows(database: &Database, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Passed)>, DatabaseError> {
    database.all_upstream(prefix, AT_ONCE)
}

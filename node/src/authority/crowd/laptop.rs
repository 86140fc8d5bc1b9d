//! A laptop of a pupil: its keys, what it has, and how it settles that with the server, as the core of a node would.

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::enrol::{self, Ask, Begun, Exchange, Letter, Look, Statement, Why};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::{
    ContactRecord, DeviceCert, NodeBinding, PresenceRecord, PresenceSession, Record as _, Says, Unverified,
    UserRecord, Verified,
};
use crosstalk_overlay::time::Hlc;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::roster::{Edit, RosterItem};

use super::{DAY, Measured, node};
use crate::authority::tests_on_postgres::{Said, why};
use crate::core::sync::entry::{Entry, Key, Mark, Marks, marks, short_digest};
use crate::xmpp::Stanza;

/// A laptop of a user: its keys, and what it has.
pub(super) struct Laptop {
    pub(super) node: NodeKey,
    pub(super) user: UserKey,
    pub(super) device: DeviceKey,
    pub(super) sealing: SealingKey,
    pub(super) certificate: Verified<DeviceCert>,
    pub(super) address: String,
    pub(super) has: BTreeMap<Key, Entry>,
    /// What is to be told of the user's devices; empty: nothing.
    pub(super) record: Vec<u8>,
    /// The serial of its certificate.
    pub(super) serial: u64,
    /// How its last pass began.
    pub(super) begun: Begun,
    /// Whose presence it was shown, by the marks of what was said.
    pub(super) sees: BTreeMap<Mark, PresenceRecord>,
    /// Ids of the letters from outside that it has, as they came.
    pub(super) letters: Vec<String>,
    /// The queue of those, and up to which it has them.
    queue: (u64, u64),
    /// A letter for outside that waits for the server.
    pub(super) writes: Option<Letter>,
}

fn seed(user: usize, part: usize) -> [u8; 32] {
    *node(1_000_000 + 10 * user + part).seed()
}

/// The key of a pupil.
pub(super) fn key_of(user: usize) -> UserKey {
    UserKey::from_seed(seed(user, 0))
}

/// What one pupil's first laptop said to another pupil about presence.
fn record(certificate: &Verified<DeviceCert>, from: usize, to: usize, says: Says, millis: u64) -> Entry {
    let (key, device) = (key_of(from), DeviceKey::from_seed(seed(from, 1)));
    let at = Hlc { millis, counter: 0 };
    let (side, device_id) = (says.side(), device.id());
    let record = ContactRecord { from: key.id(), to: key_of(to).id(), device: device_id, side, says, at };
    let signed = Verified::sign(record, &device, Some(certificate)).expect("signed");
    Entry::record(signed.bytes().to_vec()).expect("a record")
}

impl Laptop {
    pub(super) fn new(user: usize, number: usize, now: u64) -> Self {
        let (user_key, device) = (key_of(user), DeviceKey::from_seed(seed(user, 1 + number)));
        let certificate = DeviceCert::issue(&user_key, device.id(), now).expect("issued");
        Self {
            node: NodeKey::from_seed(seed(user, 4 + number)),
            sealing: SealingKey::from_seed(seed(user, 7 + number), now),
            user: user_key,
            device,
            certificate,
            address: format!("pupil{user}@school.example"),
            has: BTreeMap::new(),
            record: Vec::new(),
            serial: u64::MAX,
            begun: Begun::default(),
            sees: BTreeMap::new(),
            letters: Vec::new(),
            queue: (0, 0),
            writes: None,
        }
    }

    pub(super) fn edit(&mut self, number: usize, name: &str, at: u64) {
        let (jid, name) = (format!("contact{number}@school.example"), Some(name.to_owned()));
        self.lists(RosterItem { jid, name, ..RosterItem::default() }, at);
    }

    fn lists(&mut self, item: RosterItem, at: u64) {
        let by = self.device.id().as_bytes().to_vec();
        self.takes(Entry::contact(&RosterItem { edited_millis: at, edited_by: by, ..item }));
    }

    pub(super) fn block(&mut self, jid: &str, at: u64) {
        self.blocks(jid, at, false);
    }

    /// The block ends.
    pub(super) fn unblock(&mut self, jid: &str, at: u64) {
        self.blocks(jid, at, true);
    }

    fn blocks(&mut self, jid: &str, at: u64, lifted: bool) {
        let by = self.device.id().as_bytes().to_vec();
        let edit = Some(Edit { millis: at, by, ..Edit::default() });
        self.takes(Entry::block(jid, &Blocked { since: at, edit, lifted }));
    }

    /// Its contact list has another pupil, under an address that nobody else knows.
    pub(super) fn list(&mut self, jid: &str, other: usize, at: u64) {
        let user = Some(key_of(other).id().as_bytes().to_vec());
        self.lists(RosterItem { jid: jid.to_owned(), user, ..RosterItem::default() }, at);
    }

    /// It and another pupil let each other see their presence.
    pub(super) fn befriend(&mut self, own: usize, other: (usize, &Verified<DeviceCert>), at: u64) {
        let ((number, theirs), mine) = (other, self.certificate.clone());
        self.takes(record(&mine, own, number, Says::Request, at));
        self.takes(record(theirs, number, own, Says::Grant, at + 1));
        self.takes(record(theirs, number, own, Says::Request, at));
        self.takes(record(&mine, own, number, Says::Grant, at + 1));
    }

    fn takes(&mut self, entry: Entry) {
        self.has.insert(entry.key(), entry);
    }

    pub(super) fn marks(&self) -> Marks {
        Marks(self.has.values().filter_map(Entry::mark).collect())
    }

    fn begins(&mut self, school: &mut Measured) -> Result<(), Why> {
        let now = school.wall();
        let binding = NodeBinding::agreed(self.user.id(), self.device.id(), &self.node, now, now + 7 * DAY);
        let binding = Verified::sign(binding, &self.device, None).expect("signed");
        let begin = Ask::Begin(enrol::Begin {
            address: self.address.clone(),
            user: self.user.id().as_bytes().to_vec(),
            certificate: self.certificate.bytes().to_vec(),
            binding: binding.bytes().to_vec(),
            root: self.marks().root().to_vec(),
            serial: self.serial,
            looked: Marks(self.sees.keys().copied().collect()).root().to_vec(),
            ..enrol::Begin::default()
        });
        match school.ask(self.node.id(), &begin) {
            Said::Begun(begun) => self.begun = begun,
            said => return Err(why(&said)),
        }
        Ok(())
    }

    /// One whole pass; how many statements it told and took.
    pub(super) fn pass(&mut self, school: &mut Measured) -> Result<(usize, usize), Why> {
        self.begins(school)?;
        if self.begun.buckets.is_empty() && self.record.is_empty() {
            return Ok((0, 0));
        }
        let (session, differing) = (self.begun.session, self.marks().differing(&self.begun.buckets));
        let compare = Ask::Compare(enrol::Compare { session, buckets: differing.clone() });
        let Said::Compared(theirs) = school.ask(self.node.id(), &compare) else { panic!("refused") };
        let theirs: BTreeSet<Mark> = marks(&theirs.marks).collect();
        let mine = self.marks();
        let lacking: Vec<u8> =
            theirs.iter().filter(|mark| !mine.0.contains(*mark)).flatten().copied().collect();
        let taken = self.fetch(school, session, lacking);
        let differs = |mark: Mark| differing.contains(&mark[0]) && !theirs.contains(&mark);
        let told = self.has.values().filter(|entry| entry.mark().is_some_and(differs));
        let told: Vec<Statement> =
            told.map(|entry| Statement::sign(&self.user.id(), entry.part().write(), &self.device)).collect();
        let mut pages: Vec<Vec<Statement>> = told.chunks(100).map(<[Statement]>::to_vec).collect();
        if pages.is_empty() && !self.record.is_empty() {
            pages.push(Vec::new());
        }
        for statements in pages {
            let tell =
                Ask::Tell(enrol::Tell { session, statements, record: std::mem::take(&mut self.record) });
            let said = school.ask(self.node.id(), &tell);
            assert!(
                matches!(&said, Said::Statements(page) if page.full + page.ahead + page.unread == 0),
                "{said:?}"
            );
        }
        Ok((told.len(), taken))
    }

    /// Tells something whether the server has it or not, as it is done with what was removed.
    pub(super) fn tells_again(&mut self, school: &mut Measured, what: fn(&Entry) -> bool) {
        self.begins(school).expect("let in");
        let said = self.has.values().filter(|entry| what(entry));
        let statements =
            said.map(|entry| Statement::sign(&self.user.id(), entry.part().write(), &self.device)).collect();
        let tell = enrol::Tell { session: self.begun.session, statements, record: Vec::new() };
        let said = school.ask(self.node.id(), &Ask::Tell(tell));
        assert!(matches!(said, Said::Statements(_)), "{said:?}");
    }

    fn fetch(&mut self, school: &mut Measured, session: u64, lacking: Vec<u8>) -> usize {
        let (mut left, mut taken) = (lacking, 0);
        while !left.is_empty() {
            let fetch = Ask::Fetch(enrol::Fetch { session, marks: left.clone() });
            let Said::Statements(page) = school.ask(self.node.id(), &fetch) else { panic!("refused") };
            for statement in &page.statements {
                let entry = Entry::read(&statement.said).expect("one thing");
                let merged = match self.has.remove(&entry.key()) {
                    Some(mine) => mine.merge(entry),
                    None => entry,
                };
                self.takes(merged);
                taken += 1;
            }
            left.drain(
                ..left.len().min(usize::try_from(page.marks).expect("few") * std::mem::size_of::<Mark>()),
            );
            assert!(page.marks > 0, "it goes on");
        }
        taken
    }

    /// Shows that its user is here, and looks what it may see of others.
    pub(super) fn look(&mut self, school: &mut Measured) {
        let millis = school.wall();
        let online =
            PresenceSession { resource: "desk".to_owned(), priority: 0, since: millis, payload: Vec::new() };
        let record = PresenceRecord {
            user: self.user.id(),
            device: self.device.id(),
            at: Hlc { millis, counter: 0 },
            expires: millis + PresenceRecord::MAX_LIFE,
            sessions: vec![online],
        };
        let record = Verified::sign(record, &self.device, None).expect("signed");
        let told: BTreeSet<Mark> = marks(&self.begun.looked).collect();
        if !told.is_empty() {
            self.sees.retain(|mark, _| told.contains(mark));
        }
        let mut wanted: Vec<u8> =
            told.iter().filter(|mark| !self.sees.contains_key(*mark)).flatten().copied().collect();
        let mut presence = record.bytes().to_vec();
        loop {
            let look = Look {
                session: self.begun.session,
                presence: std::mem::take(&mut presence),
                marks: wanted.clone(),
            };
            let Said::Looked(looked) = school.ask(self.node.id(), &Ask::Look(look)) else {
                panic!("refused")
            };
            for seen in looked.seen {
                let claim = Unverified::<PresenceRecord>::parse(&seen.presence).expect("a record");
                self.sees.insert(short_digest(&seen.presence), claim.claim().clone());
            }
            wanted.drain(..usize::try_from(looked.marks).expect("few") * std::mem::size_of::<Mark>());
            if wanted.is_empty() {
                return;
            }
            assert!(looked.marks > 0, "it goes on");
        }
    }

    /// Whom it sees.
    pub(super) fn seen(&self) -> BTreeSet<UserId> {
        self.sees.values().map(|record| record.user).collect()
    }

    /// Brings what it has for outside, fetches what came from there, and says that it has it.
    pub(super) fn exchange(&mut self, school: &mut Measured) {
        let session = self.begun.session;
        let mut ask =
            Exchange { session, fresh: true, queue: self.queue.0, come: self.queue.1, ..Exchange::default() };
        for _ in 0..9 {
            let Said::Exchanged(said) = school.ask(self.node.id(), &Ask::Exchange(ask)) else {
                panic!("refused")
            };
            if self.queue.0 != said.queue {
                self.queue = (said.queue, 0);
            }
            for letter in &said.letters {
                let stanza = Stanza::read(&letter.stanza).expect("a stanza");
                self.letters.push(stanza.id.expect("an id").to_string());
                self.queue.1 = letter.number;
            }
            if self.writes.as_ref().is_some_and(|letter| letter.number <= said.taken) {
                self.writes = None;
            }
            let letters: Vec<Letter> = self.writes.clone().into_iter().collect();
            if said.letters.is_empty() && letters.is_empty() {
                return;
            }
            let (queue, come) = self.queue;
            ask = Exchange { session, letters, queue, come, ..Exchange::default() };
        }
        panic!("it comes to no end");
    }

    /// Whether the server still answers the session that it began last.
    pub(super) fn goes_on(&self, school: &mut Measured) -> bool {
        let compare = Ask::Compare(enrol::Compare { session: self.begun.session, buckets: vec![0] });
        matches!(school.ask(self.node.id(), &compare), Said::Compared(_))
    }

    /// What its user's devices are, as it says it.
    pub(super) fn devices(&self, others: &[&Laptop], now: u64) -> UserRecord {
        let mut record = self.own(now);
        for other in others {
            record.merge(&other.own(now));
        }
        record
    }

    fn own(&self, now: u64) -> UserRecord {
        use crosstalk_overlay::record::{DeviceInfo, SealingPublic};
        let info = DeviceInfo {
            user: self.user.id(),
            device: self.device.id(),
            sealing: vec![SealingPublic { public: self.sealing.public(), created: now }],
            epoch: 1,
            at: Hlc { millis: now, counter: 0 },
            expires: now + 7 * DAY,
            mailboxes: Vec::new(),
        };
        let info = Verified::sign(info, &self.device, None).expect("signed");
        UserRecord::new(self.certificate.clone(), info, None).expect("a record")
    }
}

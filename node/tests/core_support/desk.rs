//! The server's task behind a node of a play: what it keeps of its users, in a database of its own.

use std::collections::BTreeMap;

use crosstalk::authority::database::{Change, Database, Home};
use crosstalk::authority::lists::{Lists, Stop};
use crosstalk::authority::standing::Signs;
use crosstalk_overlay::enrol::{Answer, Ask, Why};
use crosstalk_overlay::id::NodeId;
use crosstalk_storage::tree::authority::{Member, MemberState};
use tempfile::TempDir;

/// Answers laptops that sync.
pub struct Desk {
    data: TempDir,
    database: Database,
    lists: Lists,
    /// It lies: each statement that it gives is altered.
    pub lies: bool,
    /// Questions answered, by kind.
    pub asked: BTreeMap<String, usize>,
}

impl Desk {
    pub fn new() -> Self {
        let data = TempDir::new().unwrap();
        let database = open(&data);
        Self { data, database, lists: Lists::default(), lies: false, asked: BTreeMap::new() }
    }

    /// The process dies and starts again.
    pub fn restart(&mut self) {
        let elsewhere = TempDir::new().unwrap();
        self.database = open(&elsewhere);
        self.database = open(&self.data);
        self.lists = Lists::default();
    }

    pub fn serve(&mut self, node: NodeId, ask: &[u8], now: u64) -> Vec<u8> {
        let Some(ask) = Ask::from_bytes(ask) else { return Vec::new() };
        *self.asked.entry(format!("{ask:?}")).or_default() += 1;
        let (lists, database) = (&mut self.lists, &self.database);
        let answer = match ask {
            Ask::Begin(ask) if !has_name(database, &ask.address, &ask.user) => Err(Stop::No(Why::Password)),
            Ask::Begin(ask) => lists.begin(database, node, &ask, now).map(Answer::Begun),
            Ask::Compare(ask) => lists.compare(database, node, &ask).map(Answer::Compared),
            Ask::Fetch(ask) => lists.fetch(database, node, &ask).map(Answer::Statements),
            Ask::Tell(ask) => lists.tell(database, node, &ask, now).map(Answer::Statements),
            _ => Err(Stop::No(Why::Policy)),
        };
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(Stop::No(why)) => Answer::refused(why),
            Err(Stop::Failed(error)) => panic!("{error}"),
        };
        if let (true, Answer::Statements(page)) = (self.lies, &mut answer) {
            for statement in &mut page.statements {
                let at = statement.said.len() / 2;
                statement.said[at] ^= 1;
            }
        }
        answer.to_bytes()
    }
}

fn open(dir: &TempDir) -> Database {
    Database::open(&Home::Own(dir.path().to_owned()), &Signs::default()).unwrap()
}

/// Whoever comes first with a name has it.
fn has_name(database: &Database, address: &str, user: &[u8]) -> bool {
    let name = address.split('@').next().unwrap();
    let member = database.member(name).unwrap().unwrap_or_else(|| {
        let state = MemberState::Enrolled.into();
        let member = Member { state, user: user.to_vec(), ..Member::default() };
        database.commit(Change::default().member(name, member.clone())).unwrap();
        member
    });
    member.user == user
}

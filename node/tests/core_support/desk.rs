//! The server's task behind a node of a play: what it keeps of its users, in a database of its own.

use std::collections::BTreeMap;

use crosstalk::authority::database::Database;
use crosstalk::authority::lists::{Lists, Stop};
use crosstalk_overlay::enrol::{Answer, Ask, Why};
use crosstalk_overlay::id::NodeId;
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
        let database = Database::open(data.path()).unwrap();
        Self { data, database, lists: Lists::default(), lies: false, asked: BTreeMap::new() }
    }

    /// The process dies and starts again.
    pub fn restart(&mut self) {
        let elsewhere = TempDir::new().unwrap();
        self.database = Database::open(elsewhere.path()).unwrap();
        self.database = Database::open(self.data.path()).unwrap();
        self.lists = Lists::default();
    }

    pub fn serve(&mut self, node: NodeId, ask: &[u8], now: u64) -> Vec<u8> {
        let Some(ask) = Ask::from_bytes(ask) else { return Vec::new() };
        *self.asked.entry(format!("{ask:?}")).or_default() += 1;
        let (lists, database) = (&mut self.lists, &mut self.database);
        let answer = match ask {
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

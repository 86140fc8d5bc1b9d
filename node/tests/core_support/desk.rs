//! The server's task behind a node of a play: what it keeps of its users, in a database of its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use crosstalk::authority::database::{Change, Database, Home};
use crosstalk::authority::lists::{Lists, Stop};
use crosstalk::authority::servers::news;
use crosstalk::authority::standing::Signs;
use crosstalk::upstream::gate::{Effect, Gate};
use crosstalk::upstream::outward::Who;
use crosstalk::xmpp::Stanza;
use crosstalk_overlay::enrol::{Answer, Ask, Begun, Directory, MARK, People, ServerAt, Why};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::time::Now;
use crosstalk_storage::tree::authority::{AuditLine, Member, MemberState};
use tempfile::TempDir;

use super::DOMAIN;
use super::stage::elements;

/// The door to the outside, and a stock server behind it.
pub struct Door {
    pub gate: Gate,
    up: bool,
    /// The stock server handles nothing that it is sent.
    pub deaf: bool,
    got: Vec<String>,
    pub(super) news: Vec<NodeId>,
}

/// Answers laptops that sync.
pub struct Desk {
    data: Rc<TempDir>,
    database: Rc<Database>,
    lists: Lists,
    /// The servers of the domain, as it tells them.
    pub servers: Vec<ServerAt>,
    /// Why it refuses everybody.
    pub refuses: Option<Why>,
    /// It lies: each statement that it gives is altered.
    pub lies: bool,
    /// It dies whenever it is asked for people, and has forgotten all sessions when it answers.
    pub dies_at_searches: bool,
    /// The door to the outside, and what is behind it.
    pub door: Option<Door>,
    /// Questions answered, by kind.
    pub asked: BTreeMap<String, usize>,
    /// Of how many laptops were told that somebody shows something.
    pub told_of: usize,
}

impl Desk {
    pub fn new() -> Self {
        let data = Rc::new(TempDir::new().unwrap());
        Self::on(Rc::new(open(&data)), data)
    }

    /// Another process of this server.
    pub fn beside(&self) -> Self {
        Self { servers: self.servers.clone(), ..Self::on(Rc::clone(&self.database), Rc::clone(&self.data)) }
    }

    fn on(database: Rc<Database>, data: Rc<TempDir>) -> Self {
        Self {
            data,
            database,
            lists: Lists::default(),
            servers: Vec::new(),
            refuses: None,
            lies: false,
            dies_at_searches: false,
            door: None,
            asked: BTreeMap::new(),
            told_of: 0,
        }
    }

    /// The process dies and starts again.
    pub fn restart(&mut self) {
        let elsewhere = TempDir::new().unwrap();
        self.database = Rc::new(open(&elsewhere));
        self.database = Rc::new(open(&self.data));
        self.lists = Lists::default();
        if let Some(door) = &mut self.door {
            door.gate = Gate::open(&self.database, DOMAIN, "stock:5347").unwrap();
            door.up = false;
        }
    }

    /// Opens a door, to a stock server that is not there yet, for this user of the domain.
    pub fn open_door(&mut self, name: &str, user: UserId) {
        self.member(name, user, MemberState::Enrolled);
        let gate = Gate::open(&self.database, DOMAIN, "stock:5347").unwrap();
        self.door = Some(Door { gate, up: false, deaf: false, got: Vec::new(), news: Vec::new() });
    }

    /// Where a user of the domain stands.
    pub fn member(&mut self, name: &str, user: UserId, state: MemberState) {
        let member = Member { state: state.into(), user: user.as_bytes().to_vec(), ..Member::default() };
        self.database.commit(Change::told(AuditLine::default()).member(name, member)).unwrap();
    }

    /// The stock server comes, or goes.
    pub fn stock(&mut self, up: bool, now: Now) {
        let door = self.door.as_mut().unwrap();
        door.up = up;
        match up {
            true => door.gate.connected(&self.database, now).unwrap(),
            false => door.gate.disconnected("gone", now),
        }
        self.perform(now);
    }

    /// The stock server says something.
    pub fn stock_says(&mut self, xml: &str, now: Now) {
        for element in elements(xml) {
            self.door.as_mut().unwrap().gate.came(&self.database, element, now).unwrap();
        }
        self.perform(now);
    }

    /// Some time has gone by.
    pub fn tick(&mut self, now: Now) {
        self.door.as_mut().unwrap().gate.tick(&self.database, now).unwrap();
        self.perform(now);
    }

    /// The server ends in order.
    pub fn close(&mut self, now: Now) {
        self.door.as_mut().unwrap().gate.close(&self.database).unwrap();
        self.perform(now);
    }

    /// What the stock server was sent since it was asked last, as XML; and answers to its pings.
    pub fn stock_got(&mut self) -> Vec<String> {
        std::mem::take(&mut self.door.as_mut().unwrap().got)
    }

    /// A laptop that was let in says something that no honest one says.
    pub fn exchange(&mut self, who: (Who, &str), ask: crosstalk_overlay::enrol::Exchange, now: Now) {
        let door = self.door.as_mut().unwrap();
        door.gate.exchange(&self.database, who, ask, now).unwrap();
        self.perform(now);
    }

    /// Letters that wait for laptops.
    pub fn waiting(&self) -> usize {
        self.door.as_ref().unwrap().gate.view().waiting
    }

    /// What the directory shows of somebody: nickname and full name.
    pub fn shows(&self, name: &str) -> Option<(String, String)> {
        let person = self.database.person(name).unwrap()?;
        Some((person.nickname, person.full_name))
    }

    /// A user starts anew, and what is kept of it is deleted.
    pub fn forget_user(&mut self, user: UserId, now: Now) {
        self.door.as_mut().unwrap().gate.forget_user(&self.database, &user).unwrap();
        self.database.commit(Change::default().forgotten(&user)).unwrap();
        self.perform(now);
    }

    /// As the stock server handles stanzas of a component: in their order, a ping to the component's own domain comes back.
    fn perform(&mut self, now: Now) {
        let Some(door) = &mut self.door else { return };
        let mut echoes = Vec::new();
        for effect in door.gate.effects() {
            match effect {
                Effect::Write(_) if !door.up => {}
                Effect::Write(bytes) => {
                    let text = String::from_utf8(bytes).unwrap();
                    let stanza = Stanza::read(text.as_bytes()).unwrap();
                    let own = |jid: Option<&jid::Jid>| jid.is_some_and(|jid| jid.as_str() == DOMAIN);
                    match own(stanza.to.as_ref()) && own(stanza.from.as_ref()) {
                        true if door.deaf => {}
                        true => echoes.push(text),
                        false => door.got.push(text),
                    }
                }
                Effect::News(node) => door.news.push(node),
                Effect::Cut(_) => {
                    door.up = false;
                    door.gate.disconnected("cut", now);
                }
            }
        }
        echoes.iter().for_each(|echo| self.stock_says(echo, now));
    }

    /// Answers a laptop, as the server at `this` node.
    pub fn serve(&mut self, this: NodeId, node: NodeId, ask: &[u8], now: Now) -> Vec<u8> {
        let answer = self.answer(this, node, ask, now);
        self.perform(now);
        answer
    }

    fn answer(&mut self, this: NodeId, node: NodeId, ask: &[u8], at: Now) -> Vec<u8> {
        let now = at.wall;
        let Some(ask) = Ask::from_bytes(ask) else { return Vec::new() };
        *self.asked.entry(format!("{ask:?}")).or_default() += 1;
        if self.dies_at_searches && matches!(ask, Ask::Search(_)) {
            self.restart();
        }
        let (lists, database) = (&mut self.lists, &self.database);
        let answer = match ask {
            _ if self.refuses.is_some() => Err(Stop::No(self.refuses.unwrap())),
            Ask::Begin(ask) if !has_name(database, &ask.address, &ask.user) => Err(Stop::No(Why::Password)),
            Ask::Begin(ask) => lists.begin(database, node, &ask, now).map(|begun| {
                self.told_of += begun.looked.len() / MARK;
                Answer::Begun(Begun {
                    upstream: self.door.is_some(),
                    directory: Directory::Yes.into(),
                    servers: news(&this, self.servers.clone(), &ask.servers),
                    ..begun
                })
            }),
            Ask::Exchange(ask) if self.door.is_some() => {
                let door = self.door.as_mut().unwrap();
                lists.user_of(database, node, ask.session, now).and_then(|(user, device, name)| {
                    let who = (Who { node, user, device }, &name[..]);
                    let answer = door.gate.exchange(database, who, ask, at).unwrap();
                    answer.map(Answer::Exchanged).ok_or(Stop::No(Why::Disabled))
                })
            }
            Ask::Compare(ask) => lists.compare(database, node, &ask, now).map(Answer::Compared),
            Ask::Fetch(ask) => lists.fetch(database, node, &ask, now).map(Answer::Statements),
            // Nobody is found.
            Ask::Search(ask) => {
                lists.user_of(database, node, ask.session, now).map(|_| Answer::People(People::default()))
            }
            Ask::Look(ask) => lists.look(database, node, &ask, now).map(Answer::Looked),
            Ask::Tell(ask) => {
                let told = lists.tell(database, node, &ask, now).map(Answer::Statements);
                let blocks = lists.take_blocks();
                self.door.iter_mut().for_each(|door| door.gate.blocks_changed(database, &blocks).unwrap());
                told
            }
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
        if let (true, Answer::Looked(page)) = (self.lies, &mut answer) {
            for seen in &mut page.seen {
                let at = seen.presence.len() / 2;
                seen.presence[at] ^= 1;
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

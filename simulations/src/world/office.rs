//! The server of a domain on a host: the real one, over a store in memory, by the clocks of its host and the dice of the world.
//! What laptops ask it is answered one by one; whatever it has answered it still knows after a crash. *Pure.*

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crosstalk::accounts::key_dir::KeyDir;
use crosstalk::accounts::random::NoRandomness;
use crosstalk::authority::database::Database;
use crosstalk::authority::machine::Machine;
use crosstalk::authority::office::{Office, founding};
use crosstalk::authority::opaque::Server;
use crosstalk::authority::standing::Signs;
use crosstalk::authority::{Answer, Known, Question};
use crosstalk::core::Input;
use crosstalk::core::admin::{Command, Reply};
use crosstalk_overlay::id::NodeId;
use crosstalk_overlay::keys::{AuthorityKey, NodeKey};
use crosstalk_overlay::time::Now;
use crosstalk_storage::{MemoryDisk, Options, Store};

use super::World;
use super::dice::Dice;
use super::events::{Event, HostId};
use super::story::{Checked, Violation};

/// Whose names it gives.
pub(crate) const DOMAIN: &str = "school.example";
/// Lines of the audit log that are compared.
const LINES: usize = 10_000;

/// A server's desk.
pub(crate) struct Desk {
    /// While its process runs.
    office: Option<Office>,
    medium: MemoryDisk,
    machine: Arc<Simulated>,
    key: AuthorityKey,
    /// What passwords are registered with.
    passwords: [u8; 32],
    queue: VecDeque<Asked>,
    /// When it has answered all that it has begun with.
    free: u64,
    /// What it knew when its process ended.
    knew: Option<String>,
}

/// A question of a laptop.
struct Asked {
    node: NodeId,
    request: u64,
    ask: Vec<u8>,
    places: Vec<String>,
}

/// An answer that is durable, and what the node hears with it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    node: NodeId,
    request: u64,
    answer: Vec<u8>,
    voids: Vec<Vec<u8>>,
    introduced: Vec<Vec<u8>>,
}

/// Clocks and chance of the host.
#[derive(Debug)]
struct Simulated(Mutex<(Now, Chance)>);

struct Chance(Dice);

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

impl Simulated {
    fn with<T>(&self, work: impl FnOnce(&mut (Now, Chance)) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Machine for Simulated {
    fn now(&self) -> Now {
        self.with(|(now, _)| *now)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        let drawn = self.with(|(_, chance)| chance.0.bytes(bytes.len()));
        bytes.copy_from_slice(&drawn);
        Ok(())
    }
}

impl Desk {
    fn open(&mut self, node: NodeId) -> Result<Known, String> {
        self.medium.crash();
        self.medium.restart();
        let why = |why: &dyn std::fmt::Display| format!("the server does not start: {why}");
        let store = Store::open_memory(&self.medium, Options::default());
        let (store, _, _) = store.map_err(|error| why(&error))?;
        let database = Database::over(store, &Signs::default()).map_err(|error| why(&error))?;
        let (authority, at) = (self.key.id(), self.machine.now().wall);
        if database.domain().map_err(|error| why(&error))?.is_none() {
            database.commit(founding(DOMAIN, authority, at)).map_err(|error| why(&error))?;
        }
        let known = Known::read(&database, authority).map_err(|error| why(&error))?;
        let known = known.ok_or("the server has lost its domain")?;
        // Nobody hands the key over here: no file is looked at.
        let keys = (self.key.clone(), KeyDir::at(Path::new("/nowhere")));
        let opaque = Server::from_seed(&self.passwords);
        let office = Office::new(database, DOMAIN.to_owned(), keys, opaque, node, self.machine.clone());
        self.office = Some(office);
        match self.knew.take().filter(|knew| Some(knew) != self.knows().as_ref()) {
            Some(knew) => {
                Err(format!("the server knew before it crashed {knew}, and now {:?}", self.knows()))
            }
            None => Ok(known),
        }
    }

    /// All certificates, and every line of the audit log.
    fn knows(&mut self) -> Option<String> {
        let office = self.office.as_mut()?;
        let (Answer::Users(users), Answer::Audit(lines)) =
            (office.answer(Question::ListUsers), office.answer(Question::Audit { most: LINES }))
        else {
            return None;
        };
        let users: Vec<_> = users.into_iter().map(|user| (user.name, user.xid, user.until)).collect();
        Some(format!("{users:?} {lines:?}"))
    }

    fn serve(&mut self, asked: &Asked) -> Option<Served> {
        let office = self.office.as_mut()?;
        let answer = office.serve(asked.node, &asked.ask, &asked.places);
        let (voids, introduced) = (office.take_news(), office.take_introduced());
        office.maintain();
        Some(Served { node: asked.node, request: asked.request, answer, voids, introduced })
    }

    /// The process ends; now and then while it writes.
    fn crash(&mut self, dice: &mut Dice) {
        self.knew = self.knows();
        if let Some(asked) = self.queue.pop_front().filter(|_| dice.chance(30)) {
            self.medium.crash_at(0, usize::try_from(dice.below(40)).unwrap_or_default());
            self.serve(&asked);
        }
        self.queue.clear();
        self.office = None;
    }
}

impl World {
    /// A new machine that runs the server of [`DOMAIN`].
    pub(crate) fn server(&mut self, name: &'static str) -> Result<HostId, Violation> {
        let id = self.machine(name)?;
        let (chance, key, passwords) = (Dice::new(self.dice.number()), self.dice.seed(), self.dice.seed());
        let machine = Arc::new(Simulated(Mutex::new((self.now(id), Chance(chance)))));
        self.hosts[id.0].desk = Some(Desk {
            office: None,
            medium: MemoryDisk::new(),
            machine,
            key: AuthorityKey::from_seed(key),
            passwords,
            queue: VecDeque::new(),
            free: 0,
            knew: None,
        });
        self.boot(id)?;
        Ok(id)
    }

    /// As a server starts: what its database says goes to its node.
    pub(super) fn open_desk(&mut self, id: HostId) -> Checked {
        let now = self.now(id);
        let host = &mut self.hosts[id.0];
        let Some(desk) = &mut host.desk else { return Ok(()) };
        desk.machine.with(|(time, _)| *time = now);
        match desk.open(NodeKey::id(&host.node_key)) {
            Ok(Known { domain, authority, revocations, rotations, introductions }) => {
                host.settings.serves = Some((domain, authority));
                (host.settings.revoked, host.settings.rotations) = (revocations, rotations);
                host.settings.introductions = introductions;
                Ok(())
            }
            Err(why) => Err(self.violation(why)),
        }
    }

    pub(super) fn crash_desk(&mut self, id: HostId) {
        if let Some(desk) = &mut self.hosts[id.0].desk {
            desk.crash(&mut self.dice);
        }
    }

    /// A laptop asks the node of a server.
    pub(super) fn asked(
        &mut self,
        id: HostId,
        node: NodeId,
        request: u64,
        ask: Vec<u8>,
        places: Vec<String>,
    ) {
        self.story.mark(self.time, 7, id.0 as u64, &ask);
        let (begin, life) = (self.time + self.dice.below(4), self.life(id));
        let Some(desk) = &mut self.hosts[id.0].desk else { return };
        desk.queue.push_back(Asked { node, request, ask, places });
        desk.free = desk.free.max(begin);
        self.queue.push(desk.free, Event::Asked(life));
    }

    /// It looks at the next question. What it does is durable at once, and answered when the disk has written.
    pub(crate) fn serve(&mut self, id: HostId) -> Checked {
        let (now, life) = (self.now(id), self.life(id));
        let wait = self.hosts[id.0].disk.wait(&mut self.dice);
        let Some(desk) = &mut self.hosts[id.0].desk else { return Ok(()) };
        desk.machine.with(|(time, _)| *time = now);
        let served = desk.queue.pop_front().and_then(|asked| desk.serve(&asked));
        desk.free = desk.free.max(self.time + wait);
        let when = desk.free;
        if let Some(served) = served {
            self.story.mark(self.time, 8, id.0 as u64, &served.answer);
            self.check_served(id, &served.node, &served.answer)?;
            self.queue.push(when, Event::Served(life, Box::new(served)));
        }
        Ok(())
    }

    /// Its node hears the answer.
    pub(crate) fn served(&mut self, id: HostId, served: Served) {
        let Served { node, request, answer, voids, introduced } = served;
        if !voids.is_empty() {
            self.tell(id, Input::Voids(voids));
        }
        self.tell(id, Input::EnrolmentAnswer { node, request, answer });
        if !introduced.is_empty() {
            self.tell(id, Input::Introduced(introduced));
        }
    }

    /// Somebody at the server asks it something, as `crosstalk authority` does; what is void since goes to its node.
    pub(crate) fn administer(&mut self, id: HostId, question: Question) -> Result<Answer, Violation> {
        let (now, asked) = (self.now(id), format!("{question:?}"));
        let desk = self.hosts[id.0].desk.as_mut();
        let answer = desk.and_then(|desk| {
            desk.machine.with(|(time, _)| *time = now);
            Some(desk.office.as_mut()?.answer(question))
        });
        match answer {
            Some(Answer::Done { revocations }) if !revocations.is_empty() => {
                match self.ask(id, Command::AddRevocations(revocations))? {
                    Reply::Done => Ok(Answer::Done { revocations: Vec::new() }),
                    other => Err(self.violation(format!("{asked} was not told on: {other:?}"))),
                }
            }
            Some(Answer::Refused(why)) => Err(self.violation(format!("{asked} was refused: {why}"))),
            Some(answer) => Ok(answer),
            None => Err(self.violation(format!("{asked}: the server does not run"))),
        }
    }

    /// The key of the domain whose server a host is.
    pub(crate) fn authority_of(&self, server: HostId) -> Option<crosstalk_overlay::id::AuthorityId> {
        self.hosts[server.0].desk.as_ref().map(|desk| desk.key.id())
    }
}

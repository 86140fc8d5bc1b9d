//! The server processes of the domain: each says now and then that it is here, and laptops are told of all, so that one that is
//! killed is missed by nobody.

use crosstalk_overlay::enrol::{MAX_SERVERS, ServerAt, Servers, bounded_places};
use crosstalk_overlay::id::NodeId;
use crosstalk_storage::Tree;
use crosstalk_storage::tree::authority::{AuditLine, ServerProcess};

use super::database::{Change, DatabaseError};
use super::office::{Office, OfficeError, done};
use super::{Answer, ServerProcessView};

const MINUTE: u64 = 60 * 1_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// How long one counts that says nothing more.
const COUNTS: u64 = 30 * DAY;
/// From saying that it is here to saying it again.
const AGAIN: u64 = DAY;
/// The same where its addresses have changed.
const MOVED: u64 = MINUTE;

/// What this process has said of itself, and knows of the others.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Where this one is, once that is known: multiaddresses.
    places: Option<Vec<String>>,
    said: Option<ServerProcess>,
    /// Not known before the first look.
    others: Option<Vec<ServerAt>>,
    /// It is a command line, at which no laptop asks.
    silent: bool,
}

impl Processes {
    /// This process is at these multiaddresses.
    pub(super) fn is_at(&mut self, places: &[String]) {
        if self.places.as_deref() != Some(places) {
            self.places = Some(bounded_places(places.to_vec()));
        }
    }

    /// What a laptop is told that knows the list of this digest.
    pub(super) fn news(&self, node: &NodeId, digest: &[u8]) -> Option<Servers> {
        news(node, self.others.clone()?, digest)
    }

    fn is_due(&self, now: u64) -> bool {
        if self.silent {
            return false;
        }
        let Some(said) = &self.said else { return true };
        let moved = self.places.as_ref().is_some_and(|places| *places != said.places);
        now.abs_diff(said.here) >= if moved { MOVED } else { AGAIN }
    }
}

/// What a laptop is told of the servers beside this one: nothing if it knows the list, by its digest.
pub fn news(node: &NodeId, others: Vec<ServerAt>, digest: &[u8]) -> Option<Servers> {
    let (others, _) = Servers::beside(node, others);
    (others.digest() != digest).then_some(others)
}

/// Those that count beside one process: of too many those that were here last.
fn told(mut all: Vec<(NodeId, ServerProcess)>, node: &NodeId, now: u64) -> Vec<ServerAt> {
    all.retain(|(other, process)| other != node && counts(process, now));
    all.sort_by_key(|(other, process)| (std::cmp::Reverse(process.here), *other));
    all.into_iter().take(MAX_SERVERS).map(|(other, process)| ServerAt::new(other, process.places)).collect()
}

/// Clocks differ: what was said in the future counts.
fn counts(process: &ServerProcess, now: u64) -> bool {
    now.saturating_sub(process.here) < COUNTS
}

/// What makes room: who counts no more, and of too many those that were here longest ago.
fn surplus(all: &[(NodeId, ServerProcess)], node: &NodeId, now: u64) -> Vec<NodeId> {
    let mut others: Vec<_> = all.iter().filter(|(other, _)| other != node).collect();
    others.sort_by_key(|(_, process)| std::cmp::Reverse(process.here));
    let room = Tree::ServerProcess.limit() - 1;
    let goes = |(at, (_, process)): &(usize, &(NodeId, ServerProcess))| *at >= room || !counts(process, now);
    others.into_iter().enumerate().filter(goes).map(|(_, (other, _))| *other).collect()
}

impl Office {
    /// No laptop asks this process: it is there for one command.
    pub(super) fn is_no_server(&mut self) {
        self.processes.silent = true;
    }

    /// Says that this process is here, if it is time to, and looks who else is. Where no other process can have the database there
    /// is nobody else: what is known of others is of before a back-up was put back.
    pub(super) fn look_for_servers(&mut self) -> Result<(), OfficeError> {
        let now = self.now().wall;
        if self.processes.is_due(now) {
            self.settled(|office| office.be_here(now))?;
        }
        let mut others = Vec::new();
        if self.database.is_shared() {
            let all = self.database.servers();
            self.database.rest();
            others = told(all?, &self.node, now);
        }
        self.processes.others = Some(others);
        Ok(())
    }

    fn be_here(&mut self, now: u64) -> Result<(), OfficeError> {
        let all = self.database.servers()?;
        let mine = all.iter().find(|(node, _)| *node == self.node).map(|(_, process)| process);
        // Before it knows, it is where it was.
        let known = || mine.map(|process| process.places.clone()).unwrap_or_default();
        let process =
            ServerProcess { places: self.processes.places.clone().unwrap_or_else(known), here: now };
        let mut change = Change::default().server(&self.node, Some(&process));
        for node in surplus(&all, &self.node, now) {
            change = change.server(&node, None);
        }
        self.database.commit(change)?;
        self.processes.said = Some(process);
        Ok(())
    }

    /// Somebody has taken a server out of service.
    pub(super) fn forget_server(&mut self, beginning: &str) -> Result<Answer, OfficeError> {
        let refused = |text: String| Err(OfficeError::Refused(text));
        let wanted = beginning.to_lowercase();
        let all = self.database.servers()?;
        let found: Vec<_> = all.iter().filter(|(node, _)| node.to_hex().starts_with(&wanted)).collect();
        let node = match found[..] {
            [(node, _)] if !wanted.is_empty() => *node,
            [] => {
                return refused(format!(
                    "no server of the domain begins with {beginning}: `crosstalk authority show` lists them"
                ));
            }
            _ => return refused(format!("{beginning} is the beginning of several servers: say more of it")),
        };
        if node == self.node {
            return refused("that is this very server: stop it, and say so at another one".to_owned());
        }
        let line = AuditLine { node: node.as_bytes().to_vec(), ..self.line("server forgotten", "") };
        self.database.commit(Change::told(line).server(&node, None))?;
        self.processes.others.iter_mut().for_each(|others| others.retain(|other| other.id() != Some(node)));
        Ok(done())
    }

    /// All that are known, for people and programs.
    pub(super) fn server_views(&self) -> Result<Vec<ServerProcessView>, DatabaseError> {
        let now = self.now().wall;
        let view = |(node, process): (NodeId, ServerProcess)| ServerProcessView {
            node: node.to_hex(),
            here: process.here,
            this: node == self.node,
            counts: counts(&process, now),
            places: process.places,
        };
        Ok(self.database.servers()?.into_iter().map(view).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100 * DAY;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn here(byte: u8, here: u64) -> (NodeId, ServerProcess) {
        (node(byte), ServerProcess { places: vec!["/a".to_owned()], here })
    }

    #[test]
    fn who_says_nothing_for_thirty_days_counts_no_more_and_the_latest_eight_are_told() {
        let all = vec![here(1, NOW), here(2, NOW - 31 * DAY), here(3, NOW - 29 * DAY), here(4, NOW + DAY)];
        let beside: Vec<_> = told(all.clone(), &node(1), NOW).into_iter().map(|one| one.node[0]).collect();
        assert_eq!(beside, [4, 3]);
        assert_eq!(surplus(&all, &node(1), NOW), [node(2)]);
        let many: Vec<_> = (1..=80).map(|byte| here(byte, NOW - 80 + u64::from(byte))).collect();
        let latest = told(many.clone(), &node(80), NOW);
        assert_eq!(
            latest.iter().map(|one| one.node[0]).collect::<Vec<_>>(),
            [79, 78, 77, 76, 75, 74, 73, 72]
        );
        assert_eq!(surplus(&many, &node(80), NOW).len(), 80 - Tree::ServerProcess.limit());
    }

    #[test]
    fn a_process_says_that_it_is_here_once_a_day_and_when_it_has_moved() {
        let mut processes = Processes::default();
        assert!(processes.is_due(NOW));
        processes.said = Some(here(1, NOW).1);
        assert!(!processes.is_due(NOW + DAY - 1) && processes.is_due(NOW + DAY));
        processes.is_at(&["/a".to_owned()]);
        assert!(!processes.is_due(NOW + MINUTE));
        processes.is_at(&["/b".to_owned()]);
        assert!(!processes.is_due(NOW + MINUTE - 1) && processes.is_due(NOW + MINUTE));
    }

    #[test]
    fn a_laptop_that_knows_the_list_is_told_nothing() {
        let list = vec![ServerAt::new(node(2), vec!["/a".to_owned()])];
        assert_eq!(news(&node(1), Vec::new(), &[]), None, "one server alone");
        let told = news(&node(1), list.clone(), &[]).expect("told");
        assert_eq!(news(&node(1), list, &told.digest()), None);
        assert_eq!(news(&node(1), Vec::new(), &told.digest()), Some(Servers::default()), "it is gone");
    }
}

//! Which of the servers of a user's domain is asked: the one with which a pass came to its end last, the *home*; while it does not
//! answer, the others in turn. Whoever is not in the list of a server that was believed is never asked. *Pure.*

use std::collections::BTreeSet;

use crosstalk_overlay::enrol::{Begun, ServerAt, Servers, Why, bounded_places};
use crosstalk_overlay::id::{NodeId, UserId};
use crosstalk_overlay::time::SECOND;
use crosstalk_storage::tree::account::HomeServer;

use super::pass::Pass;
use super::server::{GATHER, State};
use crate::core::Core;

/// How long one is waited for that has no session, while another one has.
const TURN: u64 = 4 * SECOND;

/// Where a search for a server that answers stands.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Who is asked in place of the home.
    at: Option<NodeId>,
    /// Who has not answered since one did.
    tried: BTreeSet<NodeId>,
    /// What the home said, if it is not that it does not answer.
    word: Option<State>,
    /// When the present pass began, or the session with the one that is asked was lost since: monotonic milliseconds.
    pub(super) alone: u64,
}

/// All servers of a domain that are known, the home first.
fn known(home: &HomeServer) -> Vec<ServerAt> {
    let first = ServerAt { node: home.node.clone(), places: home.places.clone() };
    std::iter::once(first).chain(home.others.iter().cloned()).collect()
}

/// Those beside one of them, as that one would tell.
fn beside(node: &NodeId, home: &HomeServer) -> Servers {
    Servers::beside(node, known(home)).0
}

impl Core {
    /// The server that is asked for a user now, and where it is.
    pub(in crate::core) fn server_of(&self, user: &UserId) -> Option<(NodeId, Vec<String>)> {
        let home = self.home_server(user)?;
        let at = self.sync.servers.links.get(user).and_then(|link| link.search.at);
        let place = |node: NodeId| known(home).into_iter().find(|one| one.id() == Some(node));
        let there = at.and_then(place).or_else(|| known(home).into_iter().next())?;
        Some((there.id()?, there.places))
    }

    /// By which the server that is asked sees which others are known here.
    pub(super) fn servers_digest(&self, user: &UserId) -> Vec<u8> {
        let there = self.server_of(user).zip(self.home_server(user));
        there.map(|((node, _), home)| beside(&node, home).digest()).unwrap_or_default()
    }

    /// Users whose domain has a server at this node.
    pub(super) fn users_of_server(&self, node: NodeId) -> Vec<UserId> {
        let all = self.accounts.iter().filter(|account| {
            let home = account.stored.server.as_ref();
            home.is_some_and(|home| known(home).iter().any(|one| one.id() == Some(node)))
        });
        all.map(|account| account.user).collect()
    }

    /// Says to the overlay who the servers of a user's domain are.
    pub(super) fn watch_servers(&mut self, user: UserId) {
        let Some(home) = self.home_server(&user) else { return };
        let Some(node) = NodeId::from_slice(&home.node) else { return };
        let others: Vec<NodeId> = home.others.iter().filter_map(ServerAt::id).collect();
        self.overlay.set_server(&user, node, &others, self.now);
    }

    /// A session with one of a user's servers begins: with the one that is asked, whatever happened while there was none is told; a pass
    /// under way goes on in it. With another one a pass begins if the one that is asked is away.
    pub(super) fn met_server_of(&mut self, user: UserId, node: NodeId) {
        let now = self.now.mono;
        let Some((present, _)) = self.server_of(&user) else { return };
        let is_met = self.overlay.is_met(&present);
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        if present == node {
            link.due = now;
            return;
        }
        let searching = link.search.at.is_some();
        let away = !is_met && (searching || link.state == State::Down);
        let is_home = self.home_server(&user).is_some_and(|home| home.node == node.as_bytes());
        let idle = self.sync.servers.links.get(&user).is_some_and(|link| link.pass.is_none());
        if away || is_home && searching && idle {
            self.turn_to(user, present, node);
        }
    }

    /// A pass has begun with a server that is to be called up first: the others that it may turn to are called, too.
    pub(super) fn call_others(&mut self, user: UserId) {
        let (Some((present, _)), Some(home)) = (self.server_of(&user), self.home_server(&user)) else {
            return;
        };
        if self.overlay.is_met(&present) {
            return;
        }
        for other in beside(&present, home).servers {
            if let Some(node) = other.id() {
                self.overlay.call_server(node, other.places, self.now);
            }
        }
    }

    /// When a server that is waited for is left for another one that is there.
    pub(super) fn turn_of(&self, user: &UserId) -> Option<(u64, NodeId, NodeId)> {
        let link = self.sync.servers.links.get(user).filter(|link| link.pass.is_some())?;
        let (present, _) = self.server_of(user)?;
        if self.overlay.is_met(&present) {
            return None;
        }
        let all = known(self.home_server(user)?).into_iter().filter_map(|one| one.id());
        let is_there = |node: &NodeId| *node != present && !link.search.tried.contains(node);
        let other = all.into_iter().find(|node| is_there(node) && self.overlay.is_met(node))?;
        Some((link.search.alone + TURN, present, other))
    }

    /// Leaves a server that does not answer for another one, and begins anew there.
    pub(super) fn turn_to(&mut self, user: UserId, present: NodeId, node: NodeId) {
        self.way_shuts(user);
        self.withdraw_questions(&user);
        let now = self.now.mono;
        let home = self.home_server(&user).and_then(|home| NodeId::from_slice(&home.node));
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return };
        (link.pass, link.session, link.changed, link.due) = (None, None, true, now);
        link.search.tried.insert(present);
        link.search.tried.remove(&node);
        link.search.at = Some(node).filter(|node| Some(*node) != home);
    }

    /// A pass has failed: whether the next one goes to another server, and if not, how the home stands. That the home refuses is the
    /// domain's word, that it has no database is not; what another one refuses says nothing of the home.
    pub(super) fn search_on(&mut self, user: UserId, state: Option<State>) -> Result<(), Option<State>> {
        let (Some(state), Some((present, _)), Some(home)) =
            (state, self.server_of(&user), self.home_server(&user))
        else {
            return Err(state);
        };
        let is_home = home.node == present.as_bytes();
        let all: Vec<NodeId> = known(home).iter().filter_map(ServerAt::id).collect();
        let soon = self.now.mono + GATHER;
        let Some(link) = self.sync.servers.links.get_mut(&user) else { return Err(Some(state)) };
        if is_home && !matches!(state, State::Down | State::Refused(Why::Trouble)) {
            link.search = Search::default();
            return Err(Some(state));
        }
        if is_home {
            link.search.word = Some(state);
        }
        link.search.tried.insert(present);
        let next = all.iter().find(|node| !link.search.tried.contains(node));
        let Some(next) = next else {
            let word = link.search.word;
            link.search = Search::default();
            return Err(Some(word.unwrap_or(State::Down)));
        };
        link.search.at = Some(*next).filter(|next| all.first() != Some(next));
        (link.session, link.changed, link.due) = (None, true, soon);
        Ok(())
    }

    /// What a server says of itself and of the others; it counts when the pass has come to its end.
    pub(super) fn hear_servers(&mut self, user: &UserId, pass: &mut Pass, begun: &mut Begun) {
        let Some((node, _)) = self.server_of(user) else { return };
        if !begun.places.is_empty() {
            pass.places = Some(bounded_places(std::mem::take(&mut begun.places)));
        }
        if let Some(told) = begun.servers.take() {
            let (servers, left_out) = Servers::beside(&node, told.servers);
            pass.servers = Some(servers);
            for _ in 0..left_out.min(64) {
                self.count("servers that a server has told of and that cannot be");
            }
        }
    }

    /// A whole pass has ended: who has answered is the home from now on.
    pub(super) fn settle_home(&mut self, user: UserId, pass: &Pass) {
        let Some((node, places)) = self.server_of(&user) else { return };
        let Some(home) = self.home_server(&user) else { return };
        let others = pass.servers.clone().unwrap_or_else(|| beside(&node, home)).servers;
        let places = pass.places.clone().unwrap_or(places);
        let settled = HomeServer { node: node.as_bytes().to_vec(), places, others, ..home.clone() };
        let changed = settled != *home;
        if let Some(link) = self.sync.servers.links.get_mut(&user) {
            link.search = Search::default();
        }
        if changed {
            if let Some(account) = self.accounts.get_mut(&user) {
                account.stored.server = Some(settled);
            }
            self.save_account(&user);
            self.watch_servers(user);
        }
    }
}

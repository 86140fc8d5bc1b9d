//! Presence by the server, for who meets nobody else: what the user shows goes there, and comes from there of those whom it may see
//! (RFC 6121 §4, XEP-0012). *Pure.*

use std::collections::{BTreeSet, VecDeque};

use crosstalk_overlay::dht::PRESENCE_AGAIN;
use crosstalk_overlay::enrol::{Begun, Look, Looked, MAX_FETCH, MAX_LOOKED};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::PresenceSession;

use super::entry::{Mark, Marks, marks, short_digest};
use crate::core::Core;

/// How far a laptop and the server of a user are with that; forgotten when the node ends.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The server takes it.
    takes: bool,
    /// What was shown there last, and when that was said (Unix milliseconds).
    shown: Option<(Vec<PresenceSession>, u64)>,
    /// All that the server told of last.
    looked: BTreeSet<Mark>,
}

/// The same within a pass.
#[derive(Debug, Default)]
pub(super) struct Looking {
    /// A question is under way.
    asked: bool,
    shows: bool,
    shown: Option<(Vec<PresenceSession>, u64)>,
    /// All that the server tells of; none: as last time.
    theirs: BTreeSet<Mark>,
    /// What of it is not here.
    wanted: VecDeque<Mark>,
}

impl Core {
    /// Digest of what the server told of last.
    pub(super) fn looked(&self, user: &UserId) -> Vec<u8> {
        let looked = self.sync.looks.get(user).map(|looks| looks.looked.clone()).unwrap_or_default();
        Marks(looked).root().to_vec()
    }

    /// What a user shows has changed: the server is told, if it is up.
    pub(in crate::core) fn show_server_soon(&mut self, user: UserId) {
        let sessions = self.overlay.own_presence(&user).map(|record| record.sessions.clone());
        if sessions.is_some_and(|sessions| self.is_to_be_shown(&user, &sessions)) {
            self.tell_server_soon(user);
        }
    }

    /// Whether the server is to be told. That somebody is not here it is told only after that somebody was: when the node starts,
    /// nobody has just gone.
    fn is_to_be_shown(&self, user: &UserId, sessions: &[PresenceSession]) -> bool {
        let Some(looks) = self.sync.looks.get(user).filter(|looks| looks.takes) else { return false };
        let watched =
            || self.accounts.get(user).is_some_and(|account| account.roster.watchers().next().is_some());
        let told = match &looks.shown {
            None => sessions.is_empty(),
            Some((before, _)) if sessions.is_empty() => before.is_empty(),
            Some((before, at)) => before == sessions && self.now.wall < at.saturating_add(PRESENCE_AGAIN),
        };
        !told && watched()
    }

    pub(super) fn begin_look(&mut self, user: UserId, looking: &mut Looking, begun: &Begun) {
        let looks = self.sync.looks.entry(user).or_default();
        looks.takes = begun.looks;
        looking.theirs = marks(&begun.looked).take(MAX_LOOKED).collect();
        let before = looks.looked.clone();
        let (Some(account), wall) = (self.accounts.get(&user), self.now.wall) else { return };
        let known: BTreeSet<Mark> = account
            .roster
            .watched()
            .flat_map(|other| {
                self.remote_presence.settled(&other, &user, wall).map(short_digest).collect::<Vec<_>>()
            })
            .collect();
        let new = looking.theirs.iter().filter(|mark| !before.contains(*mark) && !known.contains(*mark));
        looking.wanted = new.copied().collect();
        let sessions = self.overlay.own_presence(&user).map(|record| record.sessions.clone());
        looking.shows = sessions.is_some_and(|sessions| self.is_to_be_shown(&user, &sessions));
    }

    /// What is to be asked, if there is anything.
    pub(super) fn look_more(&mut self, user: UserId, session: u64, looking: &mut Looking) -> Option<Look> {
        let mut presence = Vec::new();
        if std::mem::take(&mut looking.shows)
            && let Some(record) = self.overlay.presence_for_server(&user, self.now)
        {
            presence = record.bytes().to_vec();
            looking.shown = Some((record.sessions.clone(), record.at.millis));
        }
        let marks: Vec<u8> = looking.wanted.iter().take(MAX_FETCH).flatten().copied().collect();
        looking.asked = !presence.is_empty() || !marks.is_empty();
        looking.asked.then_some(Look { session, presence, marks })
    }

    pub(super) fn looks(
        &mut self,
        user: UserId,
        looking: &mut Looking,
        page: &Looked,
    ) -> Result<(), &'static str> {
        let count = usize::try_from(page.marks).unwrap_or(usize::MAX);
        let leads = count <= looking.wanted.len() && (count > 0 || looking.wanted.is_empty());
        if !std::mem::take(&mut looking.asked) || !leads {
            return Err("answers of servers that lead nowhere");
        }
        looking.wanted.drain(..count);
        for seen in page.seen.iter().take(count) {
            if self.overlay.presence_from_server(&user, seen, self.now).is_err() {
                self.count("presence of servers that did not verify");
            }
        }
        self.drain_overlay();
        let shown = looking.shown.take();
        let looks = self.sync.looks.entry(user).or_default();
        looks.shown = shown.or(looks.shown.take());
        Ok(())
    }

    /// Somebody whom the user was shown is out of reach: what the server tells counts again, also what was known before.
    pub(in crate::core) fn look_anew(&mut self, user: &UserId) {
        if let Some(looks) = self.sync.looks.get_mut(user) {
            looks.looked.clear();
        }
    }

    /// The pass has come to its end.
    pub(super) fn end_look(&mut self, user: &UserId, looking: &Looking) {
        if let Some(looks) = self.sync.looks.get_mut(user).filter(|_| !looking.theirs.is_empty()) {
            looks.looked.clone_from(&looking.theirs);
        }
    }
}

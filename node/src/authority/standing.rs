//! How the database of a domain's server stands, for status, metrics, and whoever must be the only one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::event_loop::clock::wall_millis;
use crate::upstream::{ComponentView, Passed};

/// How the database stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What it is: `PostgreSQL`, or `data directory`; empty: none.
    pub kind: String,
    /// Whether it can be asked now.
    pub up: bool,
    /// Since when that is so, Unix milliseconds; 0: it has not been asked yet.
    pub since: u64,
    /// Why not.
    pub why: Option<String>,
    /// Whether this process leads: of all that share a database one does.
    pub leads: bool,
    /// What a question to it takes, microseconds; the newest counts an eighth.
    pub micros: u64,
}

/// What was done since the start, for metrics. Nobody is named in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Users of the domain, when it was looked last.
    pub users: u64,
    /// Lines of the audit log by this process, by what was done.
    pub told: BTreeMap<String, u64>,
    /// Questions of laptops that were refused, by why.
    pub refused: BTreeMap<String, u64>,
    /// Passes of laptops that began.
    pub passes: u64,
    /// Bytes of the questions of passes.
    pub bytes_in: u64,
    /// Bytes of the answers.
    pub bytes_out: u64,
    /// Changes that were made durable.
    pub commits: u64,
    /// What that took, microseconds in all.
    pub commit_micros: u64,
    /// The link to other servers, when it was looked last; nothing: there is none here.
    pub outside: Option<ComponentView>,
    /// What went through it.
    pub passed: Passed,
}

/// Where the database says how it stands, and the server what it did; clones tell the same.
#[derive(Clone, Debug)]
pub struct Signs {
    standing: watch::Sender<Standing>,
    leads: watch::Sender<bool>,
    /// Whether this process wants the link to other servers, and whether it is the one that keeps it.
    wants_link: Arc<AtomicBool>,
    keeps_link: watch::Sender<bool>,
    figures: watch::Sender<Figures>,
}

impl Default for Signs {
    fn default() -> Self {
        Self {
            standing: watch::channel(Standing::default()).0,
            leads: watch::channel(false).0,
            wants_link: Arc::default(),
            keeps_link: watch::channel(false).0,
            figures: watch::channel(Figures::default()).0,
        }
    }
}

impl Signs {
    /// How it stands now.
    pub fn standing(&self) -> Standing {
        Standing { leads: self.leads(), ..self.standing.borrow().clone() }
    }

    /// Whether this process keeps the link to other servers, and when that changes.
    pub fn linking(&self) -> watch::Receiver<bool> {
        self.keeps_link.subscribe()
    }

    /// What was done since the start.
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }

    pub(super) fn count(&self, more: impl FnOnce(&mut Figures)) {
        self.figures.send_modify(more);
    }

    pub(super) fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Who cannot ask does not lead.
    pub(super) fn lead(&self, leads: bool) {
        self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }

    /// This process can keep the link to other servers. One that cannot leaves it to the others, also while it leads.
    pub(super) fn want_link(&self) {
        self.wants_link.store(true, Ordering::Relaxed);
    }

    pub(super) fn wants_link(&self) -> bool {
        self.wants_link.load(Ordering::Relaxed)
    }

    pub(super) fn keeps_link(&self) -> bool {
        *self.keeps_link.borrow()
    }

    pub(super) fn keep_link(&self, keeps: bool) {
        self.keeps_link.send_if_modified(|before| std::mem::replace(before, keeps) != keeps);
    }

    /// There is no other process.
    pub(super) fn alone(&self) {
        self.lead(true);
        self.keep_link(true);
    }

    pub(super) fn is(&self, kind: &str) {
        self.standing.send_modify(|standing| standing.kind = kind.to_owned());
    }

    pub(super) fn why(&self) -> String {
        self.standing.borrow().why.clone().unwrap_or_else(|| "not connected".to_owned())
    }

    /// It can be asked; said once.
    pub(super) fn there(&self) {
        let changed = self.standing.send_if_modified(|standing| {
            let back = standing.why.take().is_some();
            if !standing.up {
                (standing.up, standing.since) = (true, wall_millis());
            }
            back
        });
        if changed {
            tracing::info!("the database of the domain is back: what waited goes on");
        }
    }

    /// It cannot; said once, until it is back.
    pub(super) fn away(&self, why: &str) {
        self.lead(false);
        self.keep_link(false);
        let changed = self.standing.send_if_modified(|standing| {
            let news = standing.up || standing.since == 0;
            if news {
                (standing.up, standing.since) = (false, wall_millis());
            }
            standing.why = Some(why.to_owned());
            news
        });
        if changed {
            tracing::warn!("the database of the domain is away ({why}): laptops are told to come again");
        }
    }

    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.standing.send_if_modified(|standing| {
            standing.micros = standing.micros - standing.micros / 8 + micros / 8;
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_ask_does_not_lead() {
        let signs = Signs::default();
        signs.there();
        signs.alone();
        let mut linking = signs.linking();
        assert!(*linking.borrow_and_update() && signs.leads() && signs.standing().up);
        signs.away("the connection was lost");
        assert!(linking.has_changed().is_ok_and(|changed| changed) && !signs.leads() && !signs.keeps_link());
        let standing = signs.standing();
        assert_eq!((standing.up, standing.why.as_deref()), (false, Some("the connection was lost")));
        signs.there();
        assert_eq!((signs.standing().up, signs.standing().why), (true, None));
    }
}

//! What stands in the modelled table: records of users, and mail for those who are away. *Pure.*
//!
//! Only a sample stands there, as what one costs does not depend on the others.

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_overlay::mailbox;

use super::Tally;
use super::hosts::Hosts;
use super::lookup::{Found, look};
use super::routing::Peer;
use crate::world::dice::Dice;

/// Something that stands somewhere.
pub(super) struct Stored {
    position: u64,
    /// Whose it is: the one who puts a record again, or for whom a letter waits.
    pub(super) owner: u32,
    /// Those who have it on their disks, here or not.
    holders: BTreeSet<u32>,
    /// When the one for whom a letter waits came back and did not find it.
    pub(super) back: Option<u64>,
}

impl Stored {
    pub(super) fn new(owner: u32, dice: &mut Dice) -> Self {
        Self { position: dice.number(), owner, holders: BTreeSet::new(), back: None }
    }

    pub(super) fn find(
        &self,
        hosts: &mut Hosts,
        dice: &mut Dice,
        from: u32,
        now: u64,
        tally: &mut Tally,
    ) -> Found {
        let found = look(hosts, dice, from, self.position, now, |host| self.holders.contains(&host));
        tally.note_cost(&found);
        found
    }

    /// `from` puts it to the `copies` closest nodes.
    pub(super) fn put(
        &mut self,
        hosts: &mut Hosts,
        dice: &mut Dice,
        from: u32,
        copies: usize,
        now: u64,
        tally: &mut Tally,
    ) {
        let closest = self.find(hosts, dice, from, now, tally).closest;
        let new: Vec<u32> = closest
            .iter()
            .take(copies)
            .map(|peer| peer.host)
            .filter(|host| !self.holders.contains(host))
            .collect();
        self.holders.extend(new);
    }

    /// Someone among its holders who is here.
    pub(super) fn holder(&self, hosts: &Hosts, dice: &mut Dice) -> Option<u32> {
        let here: Vec<u32> = self.holders_here(hosts).collect();
        dice.pick(&here)
    }

    pub(super) fn holders_here<'a>(&'a self, hosts: &'a Hosts) -> impl Iterator<Item = u32> + 'a {
        self.holders.iter().copied().filter(|host| hosts.is_here(*host))
    }

    /// Each holder that is here gives it to the closest nodes that lack it.
    pub(super) fn repair(&mut self, hosts: &mut Hosts, dice: &mut Dice, now: u64, tally: &mut Tally) {
        let holders: Vec<u32> = self.holders_here(hosts).collect();
        for holder in holders {
            self.put(hosts, dice, holder, mailbox::COPIES - 1, now, tally);
        }
    }

    /// Whether one of `closest` has it.
    pub(super) fn is_at(&self, closest: &[Peer]) -> bool {
        closest.iter().any(|peer| self.holders.contains(&peer.host))
    }
}

/// Letters, and for whom they wait.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) letters: Vec<Option<Stored>>,
    waiting: BTreeMap<u32, Vec<usize>>,
}

impl Mail {
    /// Keeps a letter; its number.
    pub(super) fn keep(&mut self, letter: Stored) -> usize {
        let number = self.letters.len();
        self.waiting.entry(letter.owner).or_default().push(number);
        self.letters.push(Some(letter));
        number
    }

    /// The numbers of those that wait for somebody.
    pub(super) fn of(&self, owner: u32) -> Vec<usize> {
        self.waiting.get(&owner).cloned().unwrap_or_default()
    }

    /// It has arrived.
    pub(super) fn take(&mut self, number: usize) {
        let Some(letter) = self.letters.get_mut(number).and_then(Option::take) else { return };
        if let Some(waiting) = self.waiting.get_mut(&letter.owner) {
            waiting.retain(|other| *other != number);
        }
    }
}

//! Any history of edits, meetings, broken meetings and restarts of three laptops of one person, with the server of the domain:
//! in the end all have the same list, nothing is deleted silently, nothing comes back that was removed, and what somebody
//! removed while somebody else wanted it is listed as a conflict.
//!
//! `simulations/test histories` plays 1,000 of them with stores on disks and 10,000 without;
//! `SEED=17` repeats one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::core_support::link::{cut, join, rest, rest_until};
use crate::server::School;

const MINUTE: u64 = 60_000;
/// Where the server's knowledge stands, behind that of the laptops.
const SERVER: usize = 3;

/// A small generator: the seed decides everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn laptop(&mut self) -> usize {
        usize::try_from(self.below(3)).unwrap()
    }
}

/// Which deeds a node knows of: for certain, and at most.
#[derive(Clone, Default)]
struct Known {
    sure: BTreeSet<usize>,
    maybe: BTreeSet<usize>,
}

/// Name and groups.
type Item = (Option<String>, Vec<String>);

/// What somebody did with an address.
#[derive(Clone, Debug, PartialEq)]
enum What {
    /// Added or changed as a contact.
    Set(Item),
    Removed,
    Blocked,
    Unblocked,
}

impl What {
    fn is_about_blocking(&self) -> bool {
        matches!(self, Self::Blocked | Self::Unblocked)
    }
}

/// A laptop that knew so much did this.
struct Deed {
    laptop: usize,
    jid: String,
    what: What,
    knew: Known,
}

/// What happened, by the testimony of nobody but the laptops' person.
#[derive(Default)]
struct Book {
    deeds: Vec<Deed>,
    known: [Known; 4],
}

impl Book {
    fn note(&mut self, laptop: usize, jid: &str, what: What) {
        let (number, knew) = (self.deeds.len(), self.known[laptop].clone());
        self.deeds.push(Deed { laptop, jid: jid.to_owned(), what, knew });
        self.known[laptop].sure.insert(number);
        self.known[laptop].maybe.insert(number);
    }

    /// Two meet; if they are in step after it, each knows for certain what the other does.
    fn meet(&mut self, one: usize, other: usize, in_step: bool) {
        let (mine, theirs) = (self.known[one].clone(), self.known[other].clone());
        for (to, from) in [(one, theirs), (other, mine)] {
            self.known[to].maybe.extend(from.maybe);
            if in_step {
                self.known[to].sure.extend(from.sure);
            }
        }
    }

    /// What has to be so in the end, whatever came through of broken meetings.
    fn check(&self, list: &BTreeMap<String, Item>, conflicts: &BTreeSet<String>) {
        for (jid, deeds) in self.by_address(false) {
            if let Some(What::Set(item)) = last_word(&deeds) {
                assert_eq!(list.get(jid), Some(item), "{jid}: who knew all else had the last word");
            }
            let (removals, wants): (Vec<_>, Vec<_>) =
                deeds.into_iter().partition(|(_, deed)| deed.what == What::Removed);
            let stays =
                wants.iter().any(|(want, _)| !removals.iter().any(|(_, it)| it.knew.maybe.contains(want)));
            let goes =
                wants.iter().all(|(want, _)| removals.iter().any(|(_, it)| it.knew.sure.contains(want)));
            assert!(!stays || list.contains_key(jid), "{jid} was wanted and is gone");
            assert!(!goes || !list.contains_key(jid), "{jid} was removed and is back");
            let unsettled: Vec<_> = removals
                .iter()
                .filter(|(removal, _)| !wants.iter().any(|(_, it)| it.knew.maybe.contains(removal)))
                .collect();
            // A want that stands, of a contact that its laptop had by another's or an earlier one, which is what was removed.
            let open = wants.iter().any(|(want, it)| {
                let stands = !removals.iter().any(|(_, removal)| removal.knew.maybe.contains(want));
                let had = |one: &usize| {
                    it.knew.sure.contains(one)
                        && !removals.iter().any(|(removal, by)| {
                            it.knew.maybe.contains(removal) && by.knew.maybe.contains(one)
                        })
                };
                let mut before = wants.iter().map(|(one, _)| *one).filter(had);
                stands && before.any(|one| unsettled.iter().any(|(_, by)| by.knew.sure.contains(&one)))
            });
            let settled = |(removal, deed): &(usize, &Deed)| {
                wants.iter().any(|(_, it)| it.laptop == deed.laptop && it.knew.sure.contains(removal))
            };
            assert!(!open || conflicts.contains(jid), "{jid} was removed and changed apart: no conflict");
            assert!(!removals.iter().all(settled) || !conflicts.contains(jid), "{jid} is in no conflict");
        }
        assert!(conflicts.iter().all(|jid| list.contains_key(jid)), "{conflicts:?} of {list:?}");
    }

    /// The same for who is blocked.
    fn check_blocks(&self, blocked: &BTreeSet<String>) {
        let deeds = self.by_address(true);
        assert!(
            blocked.iter().all(|jid| deeds.contains_key(&jid[..])),
            "{blocked:?}: nobody blocked all of them"
        );
        for (jid, deeds) in deeds {
            let never = deeds.iter().all(|(_, deed)| deed.what == What::Blocked);
            let word = last_word(&deeds).or(never.then_some(&What::Blocked));
            assert!(word != Some(&What::Blocked) || blocked.contains(jid), "{jid} was blocked and is not");
            assert!(
                word != Some(&What::Unblocked) || !blocked.contains(jid),
                "{jid} was unblocked and is not"
            );
        }
    }

    /// Deeds with their numbers, of contact list or blocks.
    fn by_address(&self, blocking: bool) -> BTreeMap<&str, Vec<(usize, &Deed)>> {
        let mut deeds: BTreeMap<&str, Vec<(usize, &Deed)>> = BTreeMap::new();
        let wanted = |(_, deed): &(usize, &Deed)| deed.what.is_about_blocking() == blocking;
        for (number, deed) in self.deeds.iter().enumerate().filter(wanted) {
            deeds.entry(&deed.jid).or_default().push((number, deed));
        }
        deeds
    }
}

/// What was done by a laptop that knew for certain of all else that was.
fn last_word<'a>(deeds: &[(usize, &'a Deed)]) -> Option<&'a What> {
    let knew_all = |(number, deed): &&(usize, &Deed)| {
        deeds.iter().all(|(other, _)| other == number || deed.knew.sure.contains(other))
    };
    deeds.iter().find(knew_all).map(|(_, deed)| &deed.what)
}

/// Laptop and server meet.
fn meet(school: &School, book: &mut Book, laptop: usize) {
    let before = school.view(laptop).synced;
    school.meet(laptop);
    let after = school.view(laptop);
    book.meet(laptop, SERVER, after.synced > before && after.held == 0);
}

/// Three laptops, edits anywhere, meetings with the server and with each other, some of them cut short, restarts. How many
/// conflicts there are in the end.
fn history(seed: u64, mut school: School) -> usize {
    let (mut dice, mut book) = (Dice(seed), Book::default());
    for step in 0..dice.below(40) + 10 {
        let (laptop, n) = (dice.laptop(), dice.below(8));
        let jid = format!("c{n}@far.example");
        match dice.below(12) {
            0..3 => {
                school.set(laptop, &format!("<item jid='{jid}' name='n{step}'/>"));
                book.note(laptop, &jid, What::Set((Some(format!("n{step}")), Vec::new())));
            }
            3 => {
                school.set(laptop, &format!("<item jid='{jid}'><group>g{step}</group></item>"));
                book.note(laptop, &jid, What::Set((None, vec![format!("g{step}")])));
            }
            4 if school.list(laptop).contains_key(&jid) => {
                school.set(laptop, &format!("<item jid='{jid}' subscription='remove'/>"));
                book.note(laptop, &jid, What::Removed);
            }
            4 => {}
            5 | 6 if school.blocks(laptop).contains(&jid) => {
                school.block(laptop, "unblock", &jid);
                book.note(laptop, &jid, What::Unblocked);
            }
            5 | 6 => {
                school.block(laptop, "block", &jid);
                book.note(laptop, &jid, What::Blocked);
            }
            7 | 8 => meet(&school, &mut book, laptop),
            9 => {
                school.join(laptop);
                rest_until(&school.all(), usize::try_from(dice.below(25)).unwrap());
                school.part(laptop);
                book.meet(laptop, SERVER, false);
            }
            10 => school.restart(laptop),
            _ => {
                let other = (laptop + 1) % 3;
                join(&school.all(), &school.laptops[laptop], &school.laptops[other]);
                rest(&school.all());
                cut(&school.all(), &school.laptops[laptop], &school.laptops[other]);
                school.forget();
                book.meet(laptop, other, false);
            }
        }
    }
    let conflicts =
        |school: &School, laptop| school.conflicts(laptop).into_keys().collect::<BTreeSet<String>>();
    let state =
        |school: &School, laptop| (school.list(laptop), school.blocks(laptop), conflicts(school, laptop));
    // Until a whole round of meetings changes nothing: a removal is told only to who has the contact, and letters that other nodes hold
    // come late.
    let mut before = Vec::new();
    for round in 0.. {
        assert!(round < 10, "they never come to rest");
        for laptop in 0..3 {
            school.laptops[laptop].wait(20 * MINUTE);
            meet(&school, &mut book, laptop);
        }
        let now: Vec<_> = (0..3).map(|laptop| state(&school, laptop)).collect();
        if round > 1 && now == before {
            break;
        }
        before = now;
    }
    assert_eq!(before[0], before[1]);
    assert_eq!(before[0], before[2]);
    book.check(&school.list(0), &conflicts(&school, 0));
    book.check_blocks(&school.blocks(0));
    assert!((0..3).all(|laptop| school.view(laptop).held == 0));
    conflicts(&school, 0).len()
}

/// Plays them on all cores.
#[allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "how long it takes is printed, and decides nothing"
)]
fn histories(usual: u64, on_disks: bool) {
    let number = |variable| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let only = number("SEED");
    let seeds = only.map_or(number("SEEDS").unwrap_or(usual), |only| only + 1);
    let (next, conflicts, begun) = (AtomicU64::new(only.unwrap_or(0)), AtomicUsize::new(0), Instant::now());
    let play = |seed: u64| {
        let played = std::panic::catch_unwind(|| history(seed, School::with_cheap_mail(3, on_disks)));
        conflicts.fetch_add(played.unwrap_or_else(|_| panic!("seed {seed}")), Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds)
                {
                    play(seed);
                }
            });
        }
    });
    let conflicts = conflicts.into_inner();
    println!(
        "{} histories in {:?}: {conflicts} contacts in conflict at the end",
        seeds - only.unwrap_or(0),
        begun.elapsed()
    );
    assert!(conflicts > 0 || seeds < 30 || only.is_some(), "they are about conflicts, too");
}

#[test]
fn any_history_ends_alike_everywhere() {
    histories(60, false);
}

/// The same with laptops whose stores are on a disk, as the program has them: each restart reads it.
#[test]
fn any_history_on_disks_ends_alike_everywhere() {
    histories(10, true);
}

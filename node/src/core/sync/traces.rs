//! Whether a contact is listed, where devices of its user add, change and remove it apart (DESIGN.md §6): a removal undoes
//! what its device knew of, and nothing else; who comes out of that listed though somebody removed it is a conflict, until
//! somebody who knows of the removal changes the contact, or removes it again. But who is added by a device that knew nothing of
//! what was removed is simply added. *Pure.*
//!
//! All is maxima by device, so that the merge is commutative, associative and idempotent.

use std::collections::BTreeMap;

use crosstalk_storage::tree::roster::{Clock, Edit, RosterItem, Trace};

/// Devices of which it is remembered; of more those that did nothing for longest are forgotten.
const TRACES: usize = 64;

/// What was done to a contact's being listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// By device.
    traces: BTreeMap<Vec<u8>, Trace>,
    before: Option<Edit>,
}

impl Traces {
    /// As it stands in a contact. Where there are no traces, one device has wanted it, or it was removed before there were any.
    pub(crate) fn of(item: &RosterItem) -> Self {
        let last =
            || Edit { millis: item.edited_millis, counter: item.edited_counter, by: item.edited_by.clone() };
        let listed = || item.listed_edit.clone().unwrap_or_else(last);
        let by_device = |trace: &Trace| (trace.by.clone(), trace.clone());
        let (traces, before) = match (item.traces.is_empty() && item.removed_before.is_none(), item.removed) {
            (false, _) => (item.traces.iter().map(by_device).collect(), item.removed_before.clone()),
            (true, true) => (BTreeMap::new(), Some(listed())),
            (true, false) => {
                let Edit { millis, counter, by } = listed();
                let wanted = Some(Clock { millis, counter });
                (BTreeMap::from([(by.clone(), Trace { by, wanted, ..Trace::default() })]), None)
            }
        };
        Self { traces, before }.pruned()
    }

    /// Writes it into a contact, in the only form that there is for it.
    pub(crate) fn write(self, item: RosterItem) -> RosterItem {
        let said = self.pruned();
        let (removed, listed_edit) = (!said.is_listed(), Some(said.last()));
        let short = RosterItem { removed, listed_edit, traces: Vec::new(), removed_before: None, ..item };
        match Self::of(&short) == said {
            true => short,
            false => {
                let traces = said.traces.into_values().collect();
                RosterItem { traces, removed_before: said.before, ..short }
            }
        }
    }

    /// Two views as one.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for (by, theirs) in other.traces {
            let mine = self.trace(by);
            mine.wanted = mine.wanted.max(theirs.wanted);
            mine.undone = mine.undone.max(theirs.undone);
            mine.removed = mine.removed.max(theirs.removed);
            mine.settled = mine.settled.max(theirs.settled);
            mine.shared = mine.shared.max(theirs.shared);
            mine.added = mine.added.max(theirs.added);
        }
        self.before = self.before.max(other.before);
        self.pruned()
    }

    /// A device adds or changes the contact, knowing all this.
    pub(crate) fn want(&mut self, edit: &Edit) {
        let (listed, others) = (self.is_listed(), self.is_listed_by_others(&edit.by));
        self.traces.values_mut().for_each(|trace| trace.settled = trace.removed);
        // Above what it undoes, wherever this machine's clock is.
        let before = self.before.as_ref().map(|before| after(Some(clock(before)))).unwrap_or_default();
        let trace = self.trace(edit.by.clone());
        trace.wanted = Some(clock(edit).max(after(trace.undone)).max(before));
        match (listed, others) {
            (_, true) => trace.shared = trace.shared.max(trace.wanted),
            (false, _) if trace.undone.max(trace.shared).is_some() => trace.added = trace.wanted,
            _ => {}
        }
    }

    /// A device removes it, knowing all this.
    pub(crate) fn remove(&mut self, edit: &Edit) {
        for trace in self.traces.values_mut() {
            trace.undone = trace.undone.max(trace.wanted.take());
        }
        let trace = self.trace(edit.by.clone());
        trace.removed = Some(clock(edit).max(after(trace.settled)));
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.traces.values().any(|trace| trace.wanted.is_some())
    }

    fn is_listed_by_others(&self, by: &[u8]) -> bool {
        self.traces.values().any(|trace| trace.by != by && trace.wanted.is_some())
    }

    /// The devices that removed it while others changed it, and nobody who knew of that has said what it is to be.
    pub(crate) fn conflict(&self) -> Vec<&[u8]> {
        let changed =
            self.traces.values().any(|trace| trace.wanted.is_some() && is_of_what_was_removed(trace));
        let open = self.traces.values().filter(|trace| trace.removed > trace.settled);
        open.filter(|_| changed).map(|trace| &trace.by[..]).collect()
    }

    fn trace(&mut self, by: Vec<u8>) -> &mut Trace {
        self.traces.entry(by.clone()).or_insert(Trace { by, ..Trace::default() })
    }

    /// Without what was undone, and within the bound.
    fn pruned(mut self) -> Self {
        let before = self.before.clone();
        self.traces.retain(|_, trace| {
            let wanted = trace.wanted.filter(|wanted| Some(*wanted) > trace.undone);
            trace.wanted = wanted.filter(|wanted| Some(edit(*wanted, &trace.by)) > before);
            *trace != Trace { by: trace.by.clone(), ..Trace::default() }
        });
        while self.traces.len() > TRACES {
            let oldest = self.traces.values().map(last_of).min().map(|edit| edit.by);
            oldest.and_then(|by| self.traces.remove(&by));
        }
        self
    }

    /// The last thing that was done.
    fn last(&self) -> Edit {
        self.traces.values().map(last_of).chain(self.before.clone()).max().unwrap_or_default()
    }
}

/// Whether a contact of another device has what is said of its being listed in the form in which it is written here.
pub(crate) fn is_canonical(item: &RosterItem) -> bool {
    let sound = |by: &[u8]| by.len() <= 32;
    item.traces.len() <= TRACES
        && item.traces.iter().all(|trace| sound(&trace.by))
        && item.removed_before.as_ref().is_none_or(|before| sound(&before.by))
        && Traces::of(item).write(item.clone()) == *item
}

/// Whether what a device wants may be what another one has removed: since it added the contact it has learnt that others want it, or one
/// who removed it knew of that. Else it was added by somebody who knew nothing of the contact that was removed.
fn is_of_what_was_removed(trace: &Trace) -> bool {
    trace.shared > trace.added || trace.undone.is_some() && trace.undone >= trace.added
}

fn last_of(trace: &Trace) -> Edit {
    let last = trace.wanted.max(trace.undone).max(trace.removed).max(trace.settled);
    edit(last.unwrap_or_default(), &trace.by)
}

fn edit(at: Clock, by: &[u8]) -> Edit {
    Edit { millis: at.millis, counter: at.counter, by: by.to_vec() }
}

/// Where the clock of a machine was set back by days, what is done now still comes after what the device did before.
fn after(past: Option<Clock>) -> Clock {
    past.map_or(Clock::default(), |past| match past.counter.checked_add(1) {
        Some(counter) => Clock { counter, ..past },
        None => Clock { millis: past.millis.saturating_add(1), counter: 0 },
    })
}

fn clock(edit: &Edit) -> Clock {
    Clock { millis: edit.millis, counter: edit.counter }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What a device does, or from whom it learns.
    #[derive(Clone, Debug)]
    enum Step {
        Want(usize),
        Remove(usize),
        Learn(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..3_usize).prop_map(Step::Want),
            1 => (0..3_usize).prop_map(Step::Remove),
            2 => (0..3_usize, 0..3_usize).prop_map(|(one, other)| Step::Learn(one, other)),
        ]
    }

    /// What was done, by whom it was known: the meaning, computed from whole histories.
    #[derive(Clone, Default)]
    struct Known {
        wants: BTreeSet<usize>,
        removals: BTreeSet<usize>,
    }

    /// Steps of three devices with clocks of their own; each with its traces, and with what it knows.
    fn play(steps: &[Step]) -> Vec<(Traces, Known, bool, (bool, bool))> {
        let mut devices = vec![(Traces::default(), Known::default()); 3];
        // Of each want the removals, and of each removal the wants, that were known there.
        let (mut wants, mut removals) = (BTreeMap::new(), BTreeMap::<usize, BTreeSet<usize>>::new());
        // Of each want whose it is, and the wants that it goes on from, with itself.
        let (mut by, mut lives) = (BTreeMap::new(), BTreeMap::<usize, BTreeSet<usize>>::new());
        for (at, step) in steps.iter().enumerate() {
            // Clocks that differ by more than the whole play: what is later by the clock means nothing.
            let now = |device: usize| Edit {
                millis: at as u64 + [0, 1_000, 500][device],
                by: vec![u8::try_from(device).unwrap_or(9)],
                ..Edit::default()
            };
            match *step {
                Step::Want(device) => {
                    let known = &devices[device].1;
                    wants.insert(at, known.removals.clone());
                    let stands = |want: &&usize| !known.removals.iter().any(|it| removals[it].contains(want));
                    let before = known.wants.iter().filter(stands).flat_map(|want| lives[want].clone());
                    let life: BTreeSet<usize> = before.chain([at]).collect();
                    lives.insert(at, life);
                    by.insert(at, device);
                    devices[device].0.want(&now(device));
                    devices[device].1.wants.insert(at);
                }
                Step::Remove(device) if devices[device].0.is_listed() => {
                    removals.insert(at, devices[device].1.wants.clone());
                    devices[device].0.remove(&now(device));
                    devices[device].1.removals.insert(at);
                }
                Step::Remove(_) => {}
                Step::Learn(device, from) => {
                    let (traces, known) = devices[from].clone();
                    let mine = std::mem::take(&mut devices[device].0);
                    devices[device].0 = mine.merge(traces);
                    devices[device].1.wants.extend(known.wants);
                    devices[device].1.removals.extend(known.removals);
                }
            }
        }
        let meaning = |known: &Known| {
            let undone = |want: &usize| known.removals.iter().any(|removal| removals[removal].contains(want));
            let settled = |removal: &usize| known.wants.iter().any(|want| wants[want].contains(removal));
            let stands: Vec<&usize> = known.wants.iter().filter(|want| !undone(want)).collect();
            let open: Vec<&usize> = known.removals.iter().filter(|removal| !settled(removal)).collect();
            let lives = |want: &usize| &lives[want];
            // One stands that goes back to what one removed that nobody has settled.
            let certain = stands
                .iter()
                .any(|want| open.iter().any(|removal| !lives(want).is_disjoint(&removals[removal])));
            // All that stand are of devices that added the contact by themselves, and nobody who removed anything knew of that.
            let alone = |want: &usize| {
                let own = lives(want).iter().all(|other| by[other] == by[want]);
                own && known.removals.iter().all(|removal| lives(want).is_disjoint(&removals[removal]))
            };
            let possible = !stands.is_empty() && !open.is_empty() && !stands.iter().all(|want| alone(want));
            (!stands.is_empty(), certain, possible)
        };
        let with_meaning = |(traces, known): (Traces, Known)| {
            let (listed, certain, possible) = meaning(&known);
            (traces, known, listed, (certain, possible))
        };
        devices.into_iter().map(with_meaning).collect()
    }

    proptest! {
        /// Whoever knows of the same says the same, and that is what was meant.
        #[test]
        fn a_removal_undoes_what_it_knew_of(steps in prop::collection::vec(step(), 0..24)) {
            for (traces, _, listed, conflict) in play(&steps) {
                prop_assert_eq!(traces.is_listed(), listed);
                let (certain, possible) = conflict;
                prop_assert!(!certain || !traces.conflict().is_empty());
                prop_assert!(possible || traces.conflict().is_empty());
                if traces != Traces::default() {
                    let item = traces.clone().write(RosterItem::default());
                    prop_assert_eq!(item.removed, !listed);
                    prop_assert!(is_canonical(&item));
                    prop_assert_eq!(Traces::of(&item), traces);
                }
            }
        }

        #[test]
        fn listings_converge(steps in prop::collection::vec(step(), 0..24)) {
            let all: Vec<Traces> = play(&steps).into_iter().map(|(traces, ..)| traces).collect();
            let [a, b, c] = [0, 1, 2].map(|device| all[device].clone());
            prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            prop_assert_eq!(a.clone().merge(a.clone()), a.clone());
            prop_assert_eq!(a.clone().merge(b.clone()).merge(c.clone()), a.merge(b.merge(c)));
        }
    }

    /// A laptop that came after the removal adds the contact; one that had it changes it.
    #[test]
    fn who_knew_nothing_of_the_contact_adds_it_and_is_in_no_conflict() {
        let had = Traces::of(&item(false, at(1, 1)));
        let mut removed = had.clone();
        removed.remove(&at(2, 1));
        let mut added = Traces::default();
        added.want(&at(3, 2));
        let fresh = added.clone().merge(removed.clone());
        assert!(fresh.is_listed() && fresh.conflict().is_empty());
        // What it does with the contact after that is its own, too.
        added.want(&at(4, 2));
        assert!(added.clone().merge(removed.clone()).conflict().is_empty());
        let mut changed = had.clone();
        changed.want(&at(3, 2));
        assert_eq!(changed.merge(removed.clone()).conflict(), [[1]]);
        let mut learnt = added.merge(had);
        learnt.want(&at(5, 2));
        assert_eq!(learnt.merge(removed).conflict(), [[1]]);
    }

    /// One who removed it knew of the adding, and not of the change; after that it is added anew.
    #[test]
    fn a_change_of_what_was_removed_is_a_conflict_until_it_is_added_anew() {
        let mut added = Traces::of(&item(false, at(1, 1)));
        let mut removed = added.clone();
        removed.remove(&at(2, 2));
        added.want(&at(3, 1));
        assert_eq!(added.clone().merge(removed.clone()).conflict(), [[2]]);
        let mut anew = removed;
        anew.want(&at(4, 1));
        let mut elsewhere = Traces::of(&item(false, at(1, 3)));
        elsewhere.remove(&at(2, 3));
        assert!(anew.merge(elsewhere).conflict().is_empty());
    }

    fn at(millis: u64, by: u8) -> Edit {
        Edit { millis, counter: 0, by: vec![by] }
    }

    fn item(removed: bool, listed_edit: Edit) -> RosterItem {
        RosterItem { removed, listed_edit: Some(listed_edit), ..RosterItem::default() }
    }

    /// What was stored before there were traces is worth what it was, and a contact of one device takes no more room.
    #[test]
    fn what_was_stored_before_counts_by_its_clock() {
        let (wanted, removed) = (Traces::of(&item(false, at(2, 1))), Traces::of(&item(true, at(3, 2))));
        assert_eq!(wanted.clone().write(RosterItem::default()).traces, []);
        assert!(!wanted.clone().merge(removed.clone()).is_listed());
        let added = Traces::of(&item(false, at(4, 1))).merge(removed);
        assert!(added.is_listed() && added.conflict().is_empty());
    }

    /// Whoever has set the clock back still adds and removes.
    #[test]
    fn a_clock_that_was_set_back_loses_nothing() {
        let mut traces = Traces::of(&item(false, at(100, 1)));
        traces.remove(&at(110, 1));
        traces.want(&at(5, 1));
        let added = traces.clone().write(RosterItem::default());
        assert!(!added.removed && is_canonical(&added));
        traces.remove(&at(6, 1));
        assert!(traces.write(RosterItem::default()).removed);
        // Also what another laptop, whose clock was fast, removed before there were traces.
        let mut traces = Traces::of(&item(true, at(100, 2)));
        traces.want(&at(5, 1));
        let added = traces.write(RosterItem::default());
        assert!(!added.removed && is_canonical(&added) && Traces::of(&added).is_listed());
    }

    #[test]
    fn a_form_of_somebody_elses_is_refused() {
        let trace = |by: u8| Trace {
            by: vec![by],
            wanted: Some(Clock { millis: 1, counter: 0 }),
            ..Trace::default()
        };
        let good = RosterItem { traces: vec![trace(1), trace(2)], ..item(false, at(1, 2)) };
        assert!(is_canonical(&good));
        let many = (0..65).map(trace).collect();
        for wrong in [
            RosterItem { traces: vec![trace(2), trace(1)], ..good.clone() },
            RosterItem { traces: vec![trace(2)], ..good.clone() },
            RosterItem { removed: true, ..good.clone() },
            RosterItem { listed_edit: Some(at(9, 2)), ..good.clone() },
            RosterItem { traces: many, listed_edit: Some(at(1, 64)), ..good.clone() },
        ] {
            assert!(!is_canonical(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn of_too_many_devices_the_busy_ones_are_remembered() {
        let many = (0..70).map(|by| Traces::of(&item(false, at(u64::from(by), by))));
        let all = many.reduce(Traces::merge).unwrap_or_default();
        assert_eq!((all.traces.len(), all.traces.keys().next()), (TRACES, Some(&vec![6])));
    }
}

//! Whether somebody is still there: when to ask, how often to try, when to give up (*pure*).

/// How long nothing has to be heard of a peer before it is asked, milliseconds.
pub(super) const QUIET: u64 = 11_000;
/// How long other packets of a host stand for its records.
pub(super) const HEARSAY: u64 = 40_000;
/// One that another layer watches is looked at so often; it is not asked.
pub(super) const VOUCHED: u64 = 3_600_000;
/// A silence after which a Bonjour client has lost us too (libpurple: 44 s and more).
pub(super) const LOST: u64 = 40_000;
/// How long a vanished peer's addresses are tried; and of one that never answered.
pub(super) const SEARCH: u64 = 600_000;
pub(super) const SHORT_SEARCH: u64 = 60_000;
/// Tries at least, and at most. With the pauses below: gone 17 s after the first try, or 79 s.
const FEWEST: u32 = 10;
const MOST: u32 = 40;
/// The same for somebody who never answered: a name may be invented. With more such names than this at a time, three.
const FEWEST_UNPROVEN: u32 = 4;
const CROWD: usize = 64;
const FEWEST_IN_CROWD: u32 = 3;

/// Milliseconds from one try to the next.
pub(super) fn pause(attempt: u32) -> u64 {
    match attempt {
        0 | 1 => 1_000,
        2 | 3 => 1_500,
        _ => 2_000,
    }
}

/// Milliseconds until a vanished peer is tried again: within 5 s of a heal for up to 10 minutes, unless many vanished.
pub(super) fn search_pause(gone_for: u64, vanished: usize) -> u64 {
    let pause = if gone_for < 120_000 { 2_300 } else { 4_300 };
    pause.max(400 * u64::try_from(vanished).unwrap_or(u64::MAX))
}

/// What share of tries is lost on a link, over the last two hundred or so.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loss {
    tries: u32,
    answers: u32,
}

impl Loss {
    /// A check that was answered took so many tries.
    pub(super) fn learn(&mut self, tries: u32) {
        self.tries += tries.max(1);
        self.answers += 1;
        if self.tries > 400 {
            self.tries /= 2;
            self.answers = (self.answers / 2).max(1);
        }
    }

    /// Somebody was given up wrongly: so many tries more were needed.
    pub(super) fn learn_wrong(&mut self, more: u32) {
        self.learn(self.tries_needed(false) + more);
    }

    /// Tries until somebody is gone: as many as make a wrong verdict rarer than three in 10,000, by what this link
    /// loses. Before anything is known, one in three is taken as lost; when many fail at once, it is probably the link.
    pub(super) fn tries_needed(self, many_fail: bool) -> u32 {
        self.by_loss().max(if many_fail { 30 } else { FEWEST })
    }

    /// The same for one of so many that never answered.
    pub(super) fn tries_needed_unproven(self, unproven: usize) -> u32 {
        if unproven > CROWD { FEWEST_IN_CROWD } else { self.by_loss().max(FEWEST_UNPROVEN) }
    }

    fn by_loss(self) -> u32 {
        let (tries, answers) = (f64::from(self.tries + 6), f64::from(self.answers + 4));
        let lost = 1.0 - (answers / tries).min(1.0);
        let (mut doubt, mut needed) = (1.0, 0);
        while doubt > 3e-4 && needed < MOST {
            doubt *= lost;
            needed += 1;
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds of silence until gone.
    fn patience(loss: Loss, many_fail: bool) -> u64 {
        QUIET + 500 + (0..loss.tries_needed(many_fail)).map(pause).sum::<u64>()
    }

    fn learned(share_answered: u32) -> Loss {
        let mut loss = Loss::default();
        for at in 0..500 {
            loss.learn(if at * 37 % 100 < share_answered { 1 } else { 5 });
        }
        loss
    }

    #[test]
    fn patience_grows_with_loss_and_has_an_end() {
        assert!(patience(Loss::default(), false) <= 30_000);
        assert!(patience(learned(100), false) <= 30_000);
        // 10 % per host and direction: 0.9^4 of the tries are answered, 1.5 tries each.
        assert!(patience(learned(88), false) <= 30_000);
        let bad = patience(learned(10), false);
        assert!((55_000..=90_000).contains(&bad), "{bad}");
        let mut worst = Loss::default();
        (0..100).for_each(|_| worst.learn(40));
        assert!(patience(worst, true) <= 92_000);
    }

    #[test]
    fn an_invented_name_needs_less_than_half_a_minute() {
        let patience = |loss: Loss, among| (0..loss.tries_needed_unproven(among)).map(pause).sum::<u64>();
        assert!(QUIET + 500 + patience(Loss::default(), 1) <= 26_000);
        assert_eq!(learned(100).tries_needed_unproven(64), 4);
        assert_eq!(learned(10).tries_needed_unproven(65), 3);
        assert!(learned(10).tries_needed_unproven(1) > 20, "on a bad link it may be there");
    }
}

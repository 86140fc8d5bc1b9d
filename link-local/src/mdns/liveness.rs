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
/// Tries at least, and at most. With the pauses below: gone 17 s after the first try, or 77 s on a link known as bad.
const FEWEST: u32 = 10;
const MOST: u32 = 40;
/// Tries when many fail at once.
const MANY: u32 = 30;
/// How long all tries together take on a link that is not known as bad, milliseconds, and one of them at least.
const HURRY: u64 = 17_000;
const SHORTEST: u64 = 450;
/// A link is known as bad when it needs more tries than that, by so many answers.
const BAD: u32 = 20;
const KNOWN: u32 = 6;
/// Tries and answers that are believed before any were seen; and for somebody who never answered, and is one of more
/// than `SOME`.
const FIRST: (f64, f64) = (6.0, 1.5);
const FIRST_OF_MANY: (f64, f64) = (6.0, 4.0);
pub(super) const SOME: usize = 12;
/// Tries for somebody who never answered: a name may be invented. With more such names than this at a time, three.
const FEWEST_UNPROVEN: u32 = 4;
const CROWD: usize = 64;
const FEWEST_IN_CROWD: u32 = 3;

/// Milliseconds from one of the tries to the next when so many are needed.
fn pause(attempt: u32, needed: u32, hurried: bool) -> u64 {
    let slow = match attempt {
        0 | 1 => 1_000,
        2 | 3 => 1_500,
        _ => 2_000,
    };
    // More of them in the same time, so that somebody who vanished is gone within half a minute all the same.
    if hurried && needed > FEWEST { (HURRY / u64::from(needed)).clamp(SHORTEST, slow) } else { slow }
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
    /// loses. Before anything is known, three in four are taken as lost, as where each host loses 30 % each way; when
    /// many fail at once, it is probably the link.
    pub(super) fn tries_needed(self, many_fail: bool) -> u32 {
        self.by_loss().max(if many_fail { MANY } else { FEWEST })
    }

    /// Milliseconds from one of the tries to the next when so many are needed: only a link that is known as bad has
    /// more than half a minute for them.
    pub(super) fn pause(self, attempt: u32, needed: u32) -> u64 {
        let is_bad = self.answers >= KNOWN && self.by_loss() > BAD;
        pause(attempt, needed, !is_bad)
    }

    /// The same for one of so many that never answered: everybody at first, also who is invented.
    pub(super) fn tries_needed_unproven(self, unproven: usize) -> u32 {
        if unproven > CROWD {
            return FEWEST_IN_CROWD;
        }
        let first = if unproven > SOME { FIRST_OF_MANY } else { FIRST };
        self.by_loss_if(first).max(FEWEST_UNPROVEN)
    }

    fn by_loss(self) -> u32 {
        self.by_loss_if(FIRST)
    }

    /// `first`: what is believed before anything is known.
    fn by_loss_if(self, first: (f64, f64)) -> u32 {
        let (tries, answers) = (f64::from(self.tries) + first.0, f64::from(self.answers) + first.1);
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
    fn patience(loss: Loss, needed: u32) -> u64 {
        QUIET + 500 + (0..needed).map(|at| loss.pause(at, needed)).sum::<u64>()
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
        for many_fail in [false, true] {
            let patience = |loss: Loss| patience(loss, loss.tries_needed(many_fail));
            assert!(patience(Loss::default()) <= 30_000);
            assert!(patience(learned(100)) <= 30_000);
            // 10 % per host and direction: 0.9^4 of the tries are answered, 1.5 tries each.
            assert!(patience(learned(88)) <= 30_000);
            let bad = patience(learned(10));
            assert!((55_000..=90_000).contains(&bad), "{bad}");
            let mut worst = Loss::default();
            (0..100).for_each(|_| worst.learn(40));
            assert!(patience(worst) <= 92_000);
        }
    }

    #[test]
    fn no_try_follows_another_at_once() {
        for (needed, at) in (0..=MOST).flat_map(|needed| (0..needed).map(move |at| (needed, at))) {
            assert!(
                pause(at, needed, true) >= SHORTEST && pause(at, needed, true) <= pause(at, needed, false)
            );
        }
        assert_eq!((0..FEWEST).map(|at| pause(at, FEWEST, true)).sum::<u64>(), HURRY);
    }

    #[test]
    fn before_anything_is_known_the_link_may_be_a_bad_one() {
        // 30 % per host and direction: 24 % of the tries are answered.
        let wrong = |needed: u32| 0.76_f64.powi(needed.cast_signed());
        assert!(wrong(Loss::default().tries_needed(false)) < 5e-4);
        assert!(wrong(Loss::default().tries_needed_unproven(1)) < 5e-4, "everybody is unproven at first");
        let mut good = Loss::default();
        (0..8).for_each(|_| good.learn(1));
        assert_eq!(good.tries_needed(false), FEWEST, "a good link is soon known");
    }

    #[test]
    fn an_invented_name_needs_less_than_half_a_minute() {
        let patience = |loss: Loss, among| patience(loss, loss.tries_needed_unproven(among));
        assert!(patience(Loss::default(), 1) <= 29_000);
        assert!(patience(Loss::default(), SOME + 1) <= 26_000);
        assert_eq!(learned(100).tries_needed_unproven(64), 4);
        assert_eq!(learned(10).tries_needed_unproven(65), 3);
        assert!(learned(10).tries_needed_unproven(1) > 20, "on a bad link it may be there");
    }
}

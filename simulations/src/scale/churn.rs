//! When nodes come and go: session lengths as they were measured in networks of this kind. *Pure.*

use rand_distr::{Distribution, Exp1, Gamma, Weibull};

use crate::world::dice::Dice;

const HOUR: f64 = 3_600_000.0;

/// How long nodes stay and stay away.
///
/// Session lengths of file-sharing networks and hash tables fit Weibull distributions with a shape well below 1: most
/// sessions are short, few are very long (Stutzbach and Rejaie, "Understanding Churn in Peer-to-Peer Networks", IMC 2006;
/// Steiner, En-Najjary and Biersack, "Long Term Study of Peer Behavior in the KAD DHT", IEEE/ACM ToN 17(5), 2009).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sessions {
    /// Of the Weibull distribution.
    pub shape: f64,
    /// Milliseconds that half of the sessions reach.
    pub median: f64,
    /// The share of its time that a node is here, above 0 and at most 1; 1: nobody ever leaves.
    pub availability: f64,
}

impl Sessions {
    /// Half of all new sessions end within two hours, as crawls of the IPFS network found (ProbeLab, RFM 2, "Uptime and
    /// Churn", 2022); shape 0.5 as in KAD and Gnutella. Here half of the time, which is an assumption.
    pub const PUBLISHED: Self = Self { shape: 0.5, median: 2.0 * HOUR, availability: 0.5 };
    /// Laptops that are opened for a lesson: half an hour, a fifth of the time.
    pub const LESSONS: Self = Self { shape: 0.8, median: 0.5 * HOUR, availability: 0.2 };
    /// Nobody ever leaves.
    pub const STEADY: Self = Self { shape: 1.0, median: HOUR, availability: 1.0 };

    /// The length of a session that begins now, in milliseconds; at least a second.
    pub(super) fn session(&self, dice: &mut Dice) -> u64 {
        if self.is_steady() {
            return u64::MAX / 2;
        }
        Weibull::new(self.scale(), self.shape).map_or(0, |weibull| millis(weibull.sample(dice.rng())))
    }

    /// What is left of the session of somebody who is here at a random time. Long sessions are met more often: the length
    /// is drawn with a probability in proportion to itself, and its end is anywhere in it.
    pub(super) fn rest(&self, dice: &mut Dice) -> u64 {
        if self.is_steady() {
            return u64::MAX / 2;
        }
        let power: f64 =
            Gamma::new(1.0 + 1.0 / self.shape, 1.0).map_or(1.0, |gamma| gamma.sample(dice.rng()));
        millis(self.scale() * power.powf(1.0 / self.shape) * dice.share())
    }

    /// How long somebody stays away.
    pub(super) fn absence(&self, dice: &mut Dice) -> u64 {
        let away = self.mean() * (1.0 - self.availability) / self.availability;
        let exponential: f64 = Exp1.sample(dice.rng());
        millis(away * exponential)
    }

    fn is_steady(&self) -> bool {
        self.availability >= 1.0
    }

    fn scale(&self) -> f64 {
        self.median / std::f64::consts::LN_2.powf(1.0 / self.shape)
    }

    /// Milliseconds.
    fn mean(&self) -> f64 {
        self.scale() * gamma(1.0 + 1.0 / self.shape)
    }
}

/// The gamma function for x of at least 1 (Stirling's series after a shift; NIST DLMF 5.11.3).
fn gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 1.0);
    while x < 12.0 {
        shift *= x;
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3));
    ((x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series).exp() / shift
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn millis(time: f64) -> u64 {
    (time as u64).max(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_sessions_are_shorter_than_the_median() {
        let mut dice = Dice::new(1);
        let sessions = Sessions::PUBLISHED;
        let short = (0..10_000).filter(|_| (sessions.session(&mut dice) as f64) < sessions.median).count();
        assert!((4_800..5_200).contains(&short), "{short}");
    }

    #[test]
    fn means_and_rests_fit_the_distribution() {
        assert!((gamma(5.0) - 24.0).abs() < 1e-6 && (gamma(1.5) - 0.886_226_925).abs() < 1e-8);
        // Weibull with shape 1/2 has the mean 2 λ; the rest of a session met at random has E[X²] / 2 E[X] = 6 λ.
        let (mut dice, sessions) = (Dice::new(2), Sessions::PUBLISHED);
        let mean =
            |sample: &mut dyn FnMut() -> u64| (0..40_000).map(|_| sample() as f64).sum::<f64>() / 40_000.0;
        let session = mean(&mut || sessions.session(&mut dice)) / sessions.scale();
        let rest = mean(&mut || sessions.rest(&mut dice)) / sessions.scale();
        assert!((1.9..2.1).contains(&session) && (5.6..6.4).contains(&rest), "{session} {rest}");
        let away = mean(&mut || sessions.absence(&mut dice)) / sessions.scale();
        assert!((1.9..2.1).contains(&away), "{away}");
    }
}

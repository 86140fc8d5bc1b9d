//! Owns the account of one flow's numbers: delivered, repeated, late; *pure*.

/// How far back a number may be and still be told apart as new or repeated.
const WINDOW: u32 = 128;

/// What the arrival of a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next number, or one further on (then those between are missing so far).
    InOrder,
    /// A missing number after a higher one: delivered, but reordered.
    Late,
    /// A number seen before, or more than 128 behind the highest: not counted as delivered.
    Repeated,
}

/// Watches one flow of numbers from 0, in 24 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequence {
    /// Bit n: the number `next - 1 - n` has arrived.
    seen: u128,
    next: u32,
    delivered: u32,
}

impl Sequence {
    /// Takes note of one arrival.
    pub fn arrive(&mut self, number: u32) -> Arrival {
        if number >= self.next {
            let step = number - self.next + 1;
            self.seen = self.seen.checked_shl(step).unwrap_or(0) | 1;
            self.next = number.saturating_add(1);
            self.delivered += 1;
            return Arrival::InOrder;
        }
        let back = self.next - 1 - number;
        if back >= WINDOW || self.seen & (1 << back) != 0 {
            return Arrival::Repeated;
        }
        self.seen |= 1 << back;
        self.delivered += 1;
        Arrival::Late
    }

    /// How many different numbers have arrived.
    #[must_use]
    pub fn delivered(&self) -> u32 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_gap_then_the_late_one_then_its_repeat() {
        let mut flow = Sequence::default();
        let arrivals: Vec<_> = [0, 2, 1, 1, 3].into_iter().map(|number| flow.arrive(number)).collect();
        use Arrival::{InOrder, Late, Repeated};
        assert_eq!(arrivals, [InOrder, InOrder, Late, Repeated, InOrder]);
        assert_eq!(flow.delivered(), 4);
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_nothing_new() {
        let mut flow = Sequence::default();
        assert_eq!(flow.arrive(1000), Arrival::InOrder);
        assert_eq!(flow.arrive(1000), Arrival::Repeated);
        assert_eq!(flow.arrive(1000 - WINDOW + 1), Arrival::Late);
        assert_eq!(flow.arrive(1000 - WINDOW), Arrival::Repeated);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(numbers in proptest::collection::vec(0u32..100, 0..200)) {
            let mut flow = Sequence::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                let highest = set.last().copied();
                let expected = match (set.insert(number), highest) {
                    (false, _) => Arrival::Repeated,
                    (true, Some(high)) if number < high => Arrival::Late,
                    (true, _) => Arrival::InOrder,
                };
                prop_assert_eq!(flow.arrive(number), expected);
            }
            prop_assert_eq!(flow.delivered() as usize, set.len());
        }
    }
}

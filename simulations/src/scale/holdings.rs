//! How many values each node holds if every one of the network has put one: the tail of storage. *Pure.*

/// The number of values at each of the nodes at these sorted positions, if each value goes to the `copies` closest.
pub(super) fn holdings(positions: &[u64], values: impl Iterator<Item = u64>, copies: usize) -> Vec<f64> {
    let mut held = vec![0_u32; positions.len()];
    let mut near: Vec<usize> = Vec::new();
    for value in values {
        closest(positions, value, copies, &mut near);
        near.iter().for_each(|index| held[*index] += 1);
    }
    held.into_iter().map(f64::from).collect()
}

/// The indexes of the `wanted` positions closest to `target`.
fn closest(positions: &[u64], target: u64, wanted: usize, found: &mut Vec<usize>) {
    // The smallest region of those that share their first bits with the target, and are enough.
    let (mut begin, mut end) = (0, positions.len());
    for bit in (0..64).rev() {
        let middle = begin + positions[begin..end].partition_point(|position| position >> bit & 1 == 0);
        let (low, high) = if target >> bit & 1 == 0 { (begin, middle) } else { (middle, end) };
        if high - low < wanted {
            break;
        }
        (begin, end) = (low, high);
    }
    found.clear();
    found.extend(begin..end);
    found.sort_unstable_by_key(|index| positions[*index] ^ target);
    found.truncate(wanted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::dice::Dice;

    #[test]
    fn the_closest_are_those_of_a_full_sort_and_every_value_has_its_copies() {
        let mut dice = Dice::new(3);
        let mut positions: Vec<u64> = (0..300).map(|_| dice.number() >> dice.below(9)).collect();
        positions.sort_unstable();
        for _ in 0..200 {
            let target = dice.number() >> dice.below(9);
            let mut sorted: Vec<usize> = (0..positions.len()).collect();
            sorted.sort_by_key(|index| positions[*index] ^ target);
            let mut found = Vec::new();
            closest(&positions, target, 8, &mut found);
            assert_eq!(found, sorted[..8]);
        }
        let held = holdings(&positions, (0..100).map(|_| dice.number()), 8);
        assert_eq!((held.len(), held.iter().sum::<f64>()), (300, 800.0));
        assert_eq!(
            holdings(&positions[..3], std::iter::once(1), 8),
            [1.0, 1.0, 1.0],
            "fewer nodes than copies"
        );
    }
}

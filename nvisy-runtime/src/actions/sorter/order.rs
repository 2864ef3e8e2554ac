//! The order of keys.

use crate::actions::key::Keys;

/// How many bytes of a key are compared as one number, beside the number of its item.
const HEAD: usize = 12;

/// Returns the numbers of the keys in their order, equal ones as they come; none if that is the
/// order in which they are.
pub(super) fn order(keys: &Keys) -> Option<Vec<u32>> {
    if (1..keys.len()).all(|index| keys.get(index - 1) <= keys.get(index)) {
        return None;
    }
    let (places, whole) = places(keys);
    let head = |index: usize| {
        let (mut head, key) = ([0; 16], keys.get(index));
        for (byte, place) in head.iter_mut().zip(&places) {
            *byte = key.get(*place).copied().unwrap_or(0);
        }
        head[HEAD..].copy_from_slice(&(index as u32).to_be_bytes());
        u128::from_be_bytes(head)
    };
    let mut heads: Vec<u128> = (0..keys.len()).map(head).collect();
    heads.sort_unstable();
    if !whole {
        let key = |head: &u128| (keys.get(*head as u32 as usize), *head as u32);
        let alike = heads.chunk_by_mut(|one, next| one >> 32 == next >> 32);
        alike
            .filter(|alike| alike.len() > 1)
            .for_each(|alike| alike.sort_unstable_by(|a, b| key(a).cmp(&key(b))));
    }
    Some(heads.into_iter().map(|head| head as u32).collect())
}

/// Returns which bytes of the keys tell most of them apart, and whether they tell all. Bytes that
/// are the same in all keys of one length tell nothing.
fn places(keys: &Keys) -> (Vec<usize>, bool) {
    let Some(mut places) = keys.places() else { return ((0..HEAD).collect(), false) };
    let whole = places.len() <= HEAD;
    places.truncate(HEAD);
    (places, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::key::tests::Dice;

    #[test]
    fn it_is_that_of_a_stable_sort() {
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let (width, places) = (dice.roll(30) as usize, dice.roll(20) as usize);
            let one_width = dice.roll(2) == 0;
            let mut keys = Keys::default();
            for _ in 0..dice.roll(300) {
                // Few bytes differ, and few values are there.
                let mut key = vec![7; if one_width { width } else { dice.roll(width as u64 + 1) as usize }];
                key.iter_mut().rev().take(places).for_each(|byte| *byte = dice.roll(3) as u8);
                keys.push(&key).unwrap();
            }
            let mut expected: Vec<u32> = (0..keys.len() as u32).collect();
            expected.sort_by_key(|index| keys.get(*index as usize));
            let found = order(&keys).unwrap_or_else(|| (0..keys.len() as u32).collect());
            assert_eq!(found, expected, "seed {seed}");

            let sorted = keys.select(&found).unwrap();
            assert_eq!(order(&sorted), None, "seed {seed}: they are in order");
            let bytes = [sorted.to_bytes(), b"more".to_vec()].concat();
            let (read, behind) = Keys::from_bytes(&bytes).unwrap();
            assert_eq!(behind, b"more", "seed {seed}");
            assert!((0..read.len()).all(|index| read.get(index) == sorted.get(index)), "seed {seed}");
            assert_eq!(read.len(), sorted.len(), "seed {seed}");
        }
    }
}

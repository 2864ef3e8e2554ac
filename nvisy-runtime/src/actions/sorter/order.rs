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
    let Some(width) = keys.width() else { return ((0..HEAD).collect(), false) };
    let first = keys.get(0);
    let mut differ = vec![0; width];
    for index in 1..keys.len() {
        let bytes = differ.iter_mut().zip(keys.get(index).iter().zip(first));
        bytes.for_each(|(differ, (byte, first))| *differ |= byte ^ first);
    }
    let mut places: Vec<usize> = (0..width).filter(|place| differ[*place] != 0).collect();
    let whole = places.len() <= HEAD;
    places.truncate(HEAD);
    (places, whole)
}

use std::cmp::Ordering;

use arrow::array::{Float64Array, Int64Array, UInt64Array};
use chrono::{DateTime, TimeDelta};

use super::encoding::*;
use super::*;
use crate::expression::{Type, Value};

/// Numbers that look random, and are the same for a seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    /// Small ones, and ones at the ends of what a double can tell apart.
    fn int(&mut self) -> i64 {
        let near = self.roll(5) as i64 - 2;
        match self.roll(5) {
            0 => near,
            1 => (1 << 53) + near,
            2 => -(1 << 53) + near,
            3 => i64::MAX.wrapping_add(near),
            _ => self.roll(u64::MAX) as i64,
        }
    }
}

/// Compares integers with each other and with doubles by what they stand for.
fn compare(a: Result<i128, f64>, b: Result<i128, f64>) -> Ordering {
    match (a, b) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Err(a), Err(b)) => a.partial_cmp(&b).unwrap(),
        (Ok(a), Err(b)) => {
            // With the whole numbers at both sides of the double.
            let (floor, ceil) = (b.floor() as i128, b.ceil() as i128);
            if a < ceil { Ordering::Less } else { a.cmp(&floor) }
        }
        (Err(_), Ok(_)) => compare(b, a).reverse(),
    }
}

#[test]
fn columns_of_numbers_have_the_keys_of_their_values_and_these_are_in_order() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let len = dice.roll(20) as usize + 1;
        let ints: Vec<i64> = (0..len).map(|_| dice.int()).collect();
        let uints: Vec<u64> = (0..len).map(|_| dice.int() as u64).collect();
        let doubles: Vec<f64> = (0..len).map(|_| dice.int() as f64 + dice.roll(4) as f64 / 4.0).collect();
        let mut direction = || Direction {
            descending: dice.roll(2) == 0,
            nulls_first: dice.roll(2) == 0,
            nulls_last_behind: false,
        };
        let values = [
            (Values::Ints(Int64Array::from(ints.clone())), direction()),
            (Values::UInts(UInt64Array::from(uints.clone())), direction()),
            (Values::Doubles(Float64Array::from(doubles.clone())), direction()),
        ];
        let keys = Keys::of_numbers(&values, len).unwrap().unwrap();
        assert_eq!(keys.len(), len, "seed {seed}");
        let mut key = Vec::new();
        for index in 0..len {
            key.clear();
            values.iter().for_each(|(values, direction)| values.encode(index, *direction, &mut key).unwrap());
            assert_eq!(keys.get(index), key, "seed {seed}, item {index}");
        }
        let numbers: Vec<(Result<i128, f64>, Vec<u8>)> = ints
            .iter()
            .map(|int| (Ok(i128::from(*int)), of_int(*int).to_vec()))
            .chain(uints.iter().map(|uint| (Ok(i128::from(*uint)), integer((*uint).into()).to_vec())))
            .chain(doubles.iter().map(|of| (Err(*of), double(*of).to_vec())))
            .collect();
        for (a, key_of_a) in &numbers {
            for (b, key_of_b) in &numbers {
                assert_eq!(key_of_a.cmp(key_of_b), compare(*a, *b), "seed {seed}: {a:?} and {b:?}");
            }
        }
    }
    let nulls = Values::Ints(Int64Array::from(vec![Some(1), None]));
    assert!(Keys::of_numbers(&[(nulls, Direction::default())], 2).unwrap().is_none());
}

#[test]
fn a_key_says_what_it_was_made_of() {
    let moment = |seconds, nanos| Value::Timestamp(DateTime::from_timestamp(seconds, nanos).unwrap());
    let pairs = [
        (Type::Bool, vec![Value::Bool(false), Value::Bool(true)]),
        (Type::Int, [i64::MIN, -1, 0, 1 << 53, (1 << 53) + 1, i64::MAX].map(Value::Int).to_vec()),
        (Type::UInt, [0, (1 << 53) + 1, u64::MAX - 1, u64::MAX].map(Value::UInt).to_vec()),
        (Type::Double, [f64::NEG_INFINITY, -1.5, 0.0, 1e300, f64::INFINITY].map(Value::Double).to_vec()),
        (Type::Text, ["", "\0", "a\0b\u{ff}", "z"].map(|text| Value::Text(text.to_owned())).to_vec()),
        (Type::Bytes, vec![Value::Bytes(vec![0, 0xff, 0, 0]), Value::Bytes(vec![1])]),
        (Type::Timestamp, vec![moment(-1, 999_999_999), moment(0, 0), moment(1 << 33, 1)]),
        (
            Type::Duration,
            [-1_500, -1, 0, 7_000_000_001].map(|n| Value::Duration(TimeDelta::nanoseconds(n))).to_vec(),
        ),
    ];
    let mut all: Vec<(Type, Value)> = vec![(Type::Null, Value::Null)];
    all.extend(
        pairs.into_iter().flat_map(|(known, values)| values.into_iter().map(move |value| (known, value))),
    );
    for (known, value) in &all {
        let nested =
            Value::Map(vec![(Value::Text("\0".to_owned()), Value::List(vec![value.clone(), Value::Null]))]);
        let mut key = Vec::new();
        let nulls_first = Direction { nulls_first: true, ..Direction::default() };
        for value in [value, &nested, value] {
            Values::One(value.clone()).encode(0, nulls_first, &mut key).unwrap();
        }
        let key = &mut &*key;
        assert_eq!(decode(key, *known).unwrap(), *value);
        assert!(matches!(decode(key, Type::Map), Some(Value::Map(_))));
        assert_eq!(decode(key, *known).unwrap(), *value);
        assert!(key.is_empty() && decode(key, *known).is_none());
    }
}

//! What makes items alike, as 128 bits.

use std::hash::{BuildHasher, RandomState};

use nvisy_core::prelude::*;
use nvisy_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::actions::key::{Direction, Values};
use crate::expression::{Expression, Type};

/// The keys of a batch; those of items that failed mean nothing.
pub(super) struct Keys {
    pub(super) keys: Vec<u128>,
    pub(super) failed: Vec<(u32, Error)>,
}

/// Returns the key of each item: of its content, or of what an expression gives.
pub(super) fn of(batch: &Batch, key: Option<&Expression>, secret: Secret) -> Keys {
    let Some(key) = key else {
        let keys = (0..batch.len()).map(|index| cut(batch.payload(index).content_hash().as_bytes()));
        return Keys { keys: keys.collect(), failed: Vec::new() };
    };
    let values = Values::of(key, batch);
    let (mut bytes, mut failed) = (Vec::new(), Vec::new());
    let keys = (0..batch.len()).map(|index| {
        bytes.clear();
        let error = match values.encode(index, Direction::default(), &mut bytes) {
            Ok(()) if values.type_at(index) != Type::Null => return secret.hash(&bytes),
            Ok(()) => is_null(key),
            Err(error) => error,
        };
        failed.push((index as u32, error.at_item(batch.id(index))));
        0
    });
    Keys { keys: keys.collect(), failed }
}

fn is_null(key: &Expression) -> Error {
    let message = format!("the key `{key}` is null: say what is alike then, as in `has(row.x) ? row.x : id`");
    Error::new(ErrorKind::Validation, message)
}

/// The first half of a hash.
fn cut(hash: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = *hash);
    u128::from_be_bytes(bytes)
}

/// What nobody knows who sends items: without it none can be made that only look alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Secret([u64; 2]);

impl Secret {
    pub(super) fn random() -> Self {
        Self([0, 1].map(|half| RandomState::new().hash_one(half)))
    }

    /// SipHash-2-4 of 128 bits.
    fn hash(self, bytes: &[u8]) -> u128 {
        let [k0, k1] = self.0;
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = bytes.len() as u8;
        for word in words.iter().chain([&last]) {
            let word = u64::from_le_bytes(*word);
            v[3] ^= word;
            rounds::<2>(&mut v);
            v[0] ^= word;
        }
        v[2] ^= 0xee;
        rounds::<4>(&mut v);
        let first = v[0] ^ v[1] ^ v[2] ^ v[3];
        v[1] ^= 0xdd;
        rounds::<4>(&mut v);
        u128::from(first) << 64 | u128::from(v[0] ^ v[1] ^ v[2] ^ v[3])
    }
}

#[inline]
fn rounds<const N: usize>(v: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *v;
    for _ in 0..N {
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
    }
    *v = [v0, v1, v2, v3];
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int8Array, Int64Array, LargeStringArray, RecordBatch,
        StringArray, StringViewArray, UInt8Array, UInt64Array,
    };
    use nvisy_core::primitive::raw::Raw;

    use super::*;

    /// The vectors of the reference implementation (`vectors_sip128`).
    #[test]
    fn it_is_siphash() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes: Vec<u8> = (0..8).collect();
        let hash = |len: usize| {
            let hash = Secret(key).hash(&bytes[..len]);
            [(hash >> 64) as u64, hash as u64].map(u64::to_le_bytes).concat()
        };
        let vector = |hex: &str| {
            (0..16).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(hash(0), vector("a3817f04ba25a8e66df67214c7550293"));
        assert_eq!(hash(1), vector("da87c1d86b99af44347659119b22fc45"));
        assert_ne!(hash(7), hash(8));
        assert_ne!(Secret::random(), Secret::random());
    }

    #[test]
    fn columns_hash_like_the_values_in_them() {
        let texts = || [Some("a"), None, Some(""), Some("a much longer text\0than the others"), Some("1")];
        let columns: [(&str, ArrayRef); 9] = [
            ("small", Arc::new(Int8Array::from(vec![Some(-1), None, Some(0), Some(127), Some(-128)]))),
            (
                "int",
                Arc::new(Int64Array::from(vec![Some(-1), None, Some(0), Some(i64::MAX), Some(i64::MIN)])),
            ),
            ("byte", Arc::new(UInt8Array::from(vec![Some(1), None, Some(0), Some(255), Some(7)]))),
            ("uint", Arc::new(UInt64Array::from(vec![Some(1), None, Some(0), Some(u64::MAX), Some(7)]))),
            (
                "double",
                Arc::new(Float64Array::from(vec![Some(-1.0), None, Some(-0.0), Some(f64::NAN), Some(1e30)])),
            ),
            ("text", Arc::new(StringArray::from_iter(texts()))),
            ("large", Arc::new(LargeStringArray::from_iter(texts()))),
            ("view", Arc::new(StringViewArray::from_iter(texts()))),
            ("truth", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), None]))),
        ];
        let rows = RecordBatch::try_from_iter(columns.clone()).unwrap();
        let items = (0..5_u64).map(|n| Item::detached(&n.to_string(), Raw::Json(n.into())).into_primitive());
        let batch = Batch::from_primitives(items.collect()).with_rows(rows).unwrap();
        let secret = Secret::random();
        let hashes = |key: String| of(&batch, Some(&Expression::compile(&key).unwrap()), secret);
        for (name, _) in columns {
            let quick = hashes(format!(" row.{name} "));
            let slow = hashes(format!("[row.{name}][0]"));
            assert_eq!(quick.keys, slow.keys, "{name}");
            let failed: Vec<u32> = quick.failed.iter().map(|(index, _)| *index).collect();
            assert_eq!(failed, if name == "truth" { vec![1, 4] } else { vec![1] }, "{name}");
            assert!(quick.failed[0].1.message().contains("null"), "{name}");
        }
        let [ints, doubles] = ["row.int", "row.double"].map(|key| hashes(key.into()).keys);
        assert_eq!(ints[..3], doubles[..3], "numbers are alike by value");
        assert!(ints[3] != doubles[3] && ints[4] != doubles[4]);
    }
}

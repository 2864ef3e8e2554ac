//! Keys: values as bytes that sort as the values do, and are equal where they are.

mod encoding;
mod values;

use std::ops::Range;

use arrow::array::{Array, BinaryArray};
use arrow::buffer::OffsetBuffer;
use nvisy_core::{Error, Result};

use self::encoding::{NUMBER_LEN, Number, double, integer, of_int};
pub(super) use self::encoding::{decode, encode};
pub(super) use self::values::Values;

/// How one value of a key is ordered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Direction {
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
    /// Whether nulls come last in the value behind it.
    pub(super) nulls_last_behind: bool,
}

/// A key an item, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    len: usize,
    /// How long each is, as long as they are of one length.
    width: usize,
    /// Where each ends, if they are not.
    ends: Vec<u32>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns how long each key is, if all are of one length.
    pub(super) fn width(&self) -> Option<usize> {
        self.ends.is_empty().then_some(self.width)
    }

    fn start(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            None => 0,
            Some(_) if self.ends.is_empty() => index * self.width,
            Some(before) => self.ends[before] as usize,
        }
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.start(index + 1)]
    }

    pub(super) fn push(&mut self, key: &[u8]) -> Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.end(start)
    }

    /// Ends a key, whose bytes are there from `start` on.
    fn end(&mut self, start: usize) -> Result<()> {
        let (width, end) = (self.bytes.len() - start, self.size()?);
        if self.len == 0 {
            self.width = width;
        } else if self.ends.is_empty() && width != self.width {
            self.ends = (1..=self.len).map(|len| (len * self.width) as u32).collect();
        }
        if !self.ends.is_empty() {
            self.ends.push(end);
        }
        self.len += 1;
        Ok(())
    }

    fn size(&self) -> Result<u32> {
        let size = u32::try_from(self.bytes.len());
        size.map_err(|_| Error::internal("the keys of a part take more than 4 GiB"))
    }

    /// Adds the key that some values of an item make, behind what it begins with.
    pub(super) fn push_values(
        &mut self,
        beginning: &[u8],
        values: &[Values],
        index: usize,
        direction: Direction,
    ) -> Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(beginning);
        let mut values = values.iter();
        let made = values.try_for_each(|values| values.encode(index, direction, &mut self.bytes));
        if made.is_err() {
            self.bytes.truncate(start);
        }
        made.and_then(|()| self.end(start))
    }

    /// Adds the keys that some values make of items side by side.
    pub(super) fn push_range(
        &mut self,
        values: &[Values],
        mut items: Range<usize>,
        direction: Direction,
    ) -> Result<()> {
        match values {
            [Values::Ints(of)] if of.null_count() == 0 && !direction.descending => {
                of.values()[items].iter().try_for_each(|value| self.push(&of_int(*value)))
            }
            _ => items.try_for_each(|index| self.push_values(&[], values, index, direction)),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.len, self.width) = (0, 0);
    }

    pub(super) fn append(&mut self, other: &Self) -> Result<()> {
        self.extend(other, 0..other.len)
    }

    fn extend(&mut self, other: &Self, part: Range<usize>) -> Result<()> {
        if self.ends.is_empty() && other.ends.is_empty() && (self.len == 0 || self.width == other.width) {
            self.bytes.extend_from_slice(&other.bytes[other.start(part.start)..other.start(part.end)]);
            (self.width, self.len) = (other.width, self.len + part.len());
            return self.size().map(drop);
        }
        part.into_iter().try_for_each(|index| self.push(other.get(index)))
    }

    /// Returns the keys of `len` items that have none to tell them apart.
    pub(super) fn none(len: usize) -> Self {
        Self { len, ..Self::default() }
    }

    pub(super) fn select(&self, indices: &[u32]) -> Result<Self> {
        let mut keys = Self { bytes: Vec::with_capacity(indices.len() * self.width), ..Self::default() };
        indices.iter().try_for_each(|index| keys.push(self.get(*index as usize)))?;
        Ok(keys)
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Result<Self> {
        let mut keys = Self::default();
        keys.extend(self, offset..offset + len)?;
        Ok(keys)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    /// Returns in which bytes the keys differ, if they are of one length.
    pub(super) fn places(&self) -> Option<Vec<usize>> {
        let (width, first) = (self.width()?, self.bytes.get(..self.width)?);
        let mut differ = vec![0; width];
        let keys = self.bytes.chunks_exact(width.max(1));
        match (first.first_chunk::<16>(), first.last_chunk::<16>()) {
            // Two words, which have some bytes both.
            (Some(head), Some(tail)) if width <= 32 => {
                let [head, tail] = [head, tail].map(|bytes| u128::from_ne_bytes(*bytes));
                let (mut heads, mut tails) = (0, 0);
                for key in keys {
                    if let (Some(key_head), Some(key_tail)) = (key.first_chunk(), key.last_chunk()) {
                        heads |= u128::from_ne_bytes(*key_head) ^ head;
                        tails |= u128::from_ne_bytes(*key_tail) ^ tail;
                    }
                }
                differ[..16].copy_from_slice(&heads.to_ne_bytes());
                differ[width - 16..]
                    .iter_mut()
                    .zip(tails.to_ne_bytes())
                    .for_each(|(byte, tail)| *byte |= tail);
            }
            _ => {
                for key in keys {
                    let bytes = differ.iter_mut().zip(key.iter().zip(first));
                    bytes.for_each(|(differ, (byte, first))| *differ |= byte ^ first);
                }
            }
        }
        Some((0..width).filter(|place| differ[*place] != 0).collect())
    }

    /// Returns the keys as a column.
    pub(super) fn to_array(&self) -> Result<BinaryArray> {
        let long = |_| Error::internal("the keys of a batch take more than 2 GiB");
        let offsets = (0..=self.len).map(|index| i32::try_from(self.start(index)).map_err(long));
        let offsets: Vec<i32> = offsets.collect::<Result<_>>()?;
        Ok(BinaryArray::new(OffsetBuffer::new(offsets.into()), self.bytes.clone().into(), None))
    }

    /// Writes the keys: bytes that are the same in all stand once.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.bytes() + 5 * self.width);
        let mut numbers = |numbers: &[usize]| {
            numbers.iter().for_each(|number| bytes.extend_from_slice(&(*number as u32).to_le_bytes()));
        };
        let Some(places) = self.places() else {
            numbers(&[self.len, self.bytes.len(), self.ends.len(), 0]);
            bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
            bytes.extend_from_slice(&self.bytes);
            return bytes;
        };
        numbers(&[self.len, self.width, 0, places.len()]);
        numbers(&places);
        bytes.extend_from_slice(&self.bytes[..self.width]);
        for place in places {
            bytes.extend(self.bytes.chunks_exact(self.width).map(|key| key[place]));
        }
        bytes
    }

    /// Reads keys, and returns what is behind them.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        fn numbers(bytes: &[u8], many: usize) -> Option<(Vec<usize>, &[u8])> {
            let (numbers, bytes) = bytes.split_at_checked(many.checked_mul(4)?)?;
            let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize;
            Some((numbers.as_chunks().0.iter().map(number).collect(), bytes))
        }
        let (head, bytes) = numbers(bytes, 4)?;
        let [len, size, ends, places] = head[..] else { return None };
        if ends > 0 {
            let (ends, bytes) = numbers(bytes, ends)?;
            let (keys, bytes) = bytes.split_at_checked(size)?;
            let whole = ends.len() == len && ends.is_sorted() && ends.last() == Some(&size);
            let ends = ends.into_iter().map(|end| end as u32).collect();
            return whole.then(|| (Self { bytes: keys.to_vec(), len, width: 0, ends }, bytes));
        }
        let (places, bytes) = numbers(bytes, places)?;
        let (first, bytes) = bytes.split_at_checked(size)?;
        let (columns, rest) = bytes.split_at_checked(places.len().checked_mul(len)?)?;
        if places.iter().any(|place| *place >= size) {
            return None;
        }
        let mut keys = Self { bytes: first.repeat(len), len, width: size, ends: Vec::new() };
        for (place, column) in places.into_iter().zip(columns.chunks_exact(len.max(1))) {
            let of_keys = keys.bytes.chunks_exact_mut(size);
            of_keys.zip(column).for_each(|(key, byte)| key[place] = *byte);
        }
        Some((keys, rest))
    }

    /// Encodes the values of several expressions, one key an item, if they are all numbers: then
    /// each is as long as the others.
    pub(super) fn of_numbers(values: &[(Values, Direction)], len: usize) -> Result<Option<Self>> {
        let are = values.iter().all(|(values, _)| values.are_numbers());
        if !are || values.is_empty() || len == 0 {
            return Ok(None);
        }
        let width = NUMBER_LEN * values.len();
        let mut bytes = vec![0; width * len];
        for (at, (values, direction)) in values.iter().enumerate() {
            let mut places = bytes[at * NUMBER_LEN..].chunks_mut(width);
            let mut put = |mut number: Number| {
                if direction.descending {
                    number.iter_mut().for_each(|byte| *byte = !*byte);
                }
                if let Some(place) = places.next().and_then(|place| place.first_chunk_mut()) {
                    *place = number;
                }
            };
            match values {
                Values::Ints(of) => of.values().iter().for_each(|value| put(of_int(*value))),
                Values::UInts(of) => of.values().iter().for_each(|value| put(integer((*value).into()))),
                Values::Doubles(of) => of.values().iter().for_each(|value| put(double(*value))),
                _ => {}
            }
        }
        let keys = Self { bytes, len, width, ends: Vec::new() };
        keys.size()?;
        Ok(Some(keys))
    }
}

#[cfg(test)]
pub(super) mod tests;

//! A value a group, in pages: what grows is not copied, and what is not needed takes no room.

/// Values of a page: a power of two.
const PAGE: usize = 1 << 14;

/// A value a group, by the group's number. As long as all are neutral there is none.
#[derive(Clone, Debug)]
pub(super) struct Column<T> {
    neutral: T,
    len: usize,
    pages: Vec<Vec<T>>,
}

impl<T: Clone> Column<T> {
    /// A column without groups.
    pub(super) fn new(neutral: T) -> Self {
        Self { neutral, len: 0, pages: Vec::new() }
    }

    pub(super) fn of(neutral: T, values: impl IntoIterator<Item = T>) -> Self {
        let mut column = Self::new(neutral);
        values.into_iter().for_each(|value| column.push(value));
        column
    }

    pub(super) fn neutral(&self) -> &T {
        &self.neutral
    }

    /// Returns whether all are neutral, as far as is known.
    pub(super) fn is_neutral(&self) -> bool {
        self.pages.is_empty()
    }

    /// Makes so many groups of it; new ones are neutral.
    pub(super) fn grow(&mut self, len: usize) {
        if self.is_neutral() {
            self.len = len.max(self.len);
            return;
        }
        while self.len < len {
            let more = (len - self.len).min(PAGE - self.len % PAGE);
            let neutral = self.neutral.clone();
            let page = self.last_page();
            page.resize(page.len() + more, neutral);
            self.len += more;
        }
    }

    pub(super) fn push(&mut self, value: T) {
        self.touch();
        self.last_page().push(value);
        self.len += 1;
    }

    /// Returns the page that has room.
    fn last_page(&mut self) -> &mut Vec<T> {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Vec::new());
        }
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// Gives every group a value of its own: before the first [`at`](Self::at).
    pub(super) fn touch(&mut self) {
        if self.is_neutral() && self.len > 0 {
            let len = std::mem::take(&mut self.len);
            self.pages.push(Vec::new());
            let neutral = self.neutral.clone();
            let first = len.min(PAGE);
            self.pages[0].resize(first, neutral);
            self.len = first;
            self.grow(len);
        }
    }

    #[inline]
    pub(super) fn get(&self, group: usize) -> &T {
        if self.is_neutral() { &self.neutral } else { &self.pages[group / PAGE][group % PAGE] }
    }

    /// Returns the value of a group, once all have one of their own.
    #[inline]
    pub(super) fn at(&mut self, group: usize) -> &mut T {
        &mut self.pages[group / PAGE][group % PAGE]
    }

    /// Returns the values of some groups, in that order.
    pub(super) fn select(&self, groups: &[u32]) -> Self {
        if self.is_neutral() {
            return Self { neutral: self.neutral.clone(), len: groups.len(), pages: Vec::new() };
        }
        Self::of(self.neutral.clone(), groups.iter().map(|group| self.get(*group as usize).clone()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).map(|group| self.get(group))
    }

    pub(super) fn bytes(&self) -> usize {
        if self.is_neutral() { 0 } else { self.len * size_of::<T>() }
    }
}

/// What has a fixed number of bytes.
pub(super) trait Plain: Copy {
    fn put(self, bytes: &mut Vec<u8>);

    /// Takes a value off the beginning.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! plain {
    ($($number:ty),+) => {$(
        impl Plain for $number {
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (value, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*value))
            }
        }
    )+};
}

plain!(u8, u32, u64, i128, f64);

impl Plain for [f64; 2] {
    fn put(self, bytes: &mut Vec<u8>) {
        self.into_iter().for_each(|part| part.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some([f64::take(bytes)?, f64::take(bytes)?])
    }
}

impl<T: Plain> Column<T> {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        u8::from(!self.is_neutral()).put(bytes);
        if !self.is_neutral() {
            self.iter().for_each(|value| value.put(bytes));
        }
    }

    /// Takes a column of so many groups off the beginning.
    pub(super) fn take(neutral: T, len: usize, bytes: &mut &[u8]) -> Option<Self> {
        let mut column = Self::new(neutral);
        match u8::take(bytes)? {
            0 => column.grow(len),
            _ => {
                for _ in 0..len {
                    column.push(T::take(bytes)?);
                }
            }
        }
        Some(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_neutral_until_it_is_touched_and_reads_back() {
        for len in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            let mut column = Column::new(7_u64);
            column.grow(len);
            assert!(column.is_neutral() && column.bytes() == 0);
            column.touch();
            column.grow(len + 2);
            column.touch();
            *column.at(len + 1) = 9;
            column.push(11);
            let values: Vec<u64> = column.iter().copied().collect();
            assert_eq!(values[..len], vec![7; len]);
            assert_eq!(values[len..], [7, 9, 11]);
            let mut bytes = Vec::new();
            column.put(&mut bytes);
            let read = Column::take(7_u64, len + 3, &mut &*bytes).unwrap();
            assert!(read.iter().eq(column.iter()));
            assert!(Column::take(7_u64, len + 4, &mut &*bytes).is_none());
            assert_eq!(column.select(&[len as u32 + 1, 0]).iter().next(), Some(&9));
        }
    }
}

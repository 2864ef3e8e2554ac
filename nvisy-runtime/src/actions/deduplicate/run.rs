//! Keys on disk: a file of them in order, with a filter and an index in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind as IoKind, Read, Write};
use std::path::{Path, PathBuf};

use nvisy_core::{Error, ErrorKind, Result};

const KEY: usize = size_of::<u128>();
/// Keys that are read at once.
const BLOCK: usize = 64;
/// Bits of the filter a key: of a hundred keys that are not there, one is looked for.
const BITS: usize = 10;

/// A file of keys in order, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    file: File,
    keys: usize,
    blocks: Vec<Block>,
    filter: Filter,
}

/// What is known of a block without reading it.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The first half of its first key.
    first: u64,
    sum: u32,
}

impl Run {
    /// Writes keys, which come in order, into a new file. Its filter takes so many bytes at the
    /// most.
    pub(super) fn write(
        path: PathBuf,
        expected: usize,
        filter: usize,
        mut keys: impl Iterator<Item = Result<u128>>,
    ) -> Result<Self> {
        let failed = |error| failed(&path, error);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
        let mut filter = Filter::new(expected, filter);
        let mut blocks = Vec::with_capacity(expected.div_ceil(BLOCK));
        let mut out = BufWriter::with_capacity(1 << 20, &mut file);
        let (mut written, mut block) = (0, Vec::with_capacity(BLOCK * KEY));
        loop {
            block.clear();
            for key in keys.by_ref().take(BLOCK) {
                let key = key?;
                filter.add(key);
                block.extend_from_slice(&key.to_be_bytes());
            }
            if block.is_empty() {
                break;
            }
            written += block.len() / KEY;
            blocks.push(Block { first: (key_at(&block, 0) >> 64) as u64, sum: crc32c::crc32c(&block) });
            out.write_all(&block).map_err(failed)?;
        }
        out.flush().map_err(failed)?;
        drop(out);
        Ok(Self { path, file, keys: written, blocks, filter })
    }

    pub(super) fn len(&self) -> usize {
        self.keys
    }

    /// Returns how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * size_of::<Block>() + self.filter.bytes()
    }

    /// Returns whether a key is there.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not what was written.
    pub(super) fn contains(&self, key: u128) -> Result<bool> {
        if !self.filter.may_have(key) {
            return Ok(false);
        }
        let half = (key >> 64) as u64;
        // Several blocks may begin with that half, and the one before with a smaller.
        let mut at = self.blocks.partition_point(|block| block.first < half).saturating_sub(1);
        while let Some(block) = self.blocks.get(at).filter(|block| block.first <= half) {
            let mut room = [0; BLOCK * KEY];
            let bytes = &mut room[..self.len_of(at) * KEY];
            read_at(&self.file, bytes, (at * BLOCK * KEY) as u64)
                .map_err(|error| failed(&self.path, error))?;
            self.check(block, bytes)?;
            if has(bytes, key) {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    /// Returns all keys in order.
    pub(super) fn iter(&self) -> Result<impl Iterator<Item = Result<u128>> + '_> {
        let file = File::open(&self.path).map_err(|error| failed(&self.path, error))?;
        let mut input = BufReader::with_capacity(1 << 18, file);
        let blocks = self.blocks.iter().enumerate().map(move |(at, block)| {
            let mut bytes = vec![0; self.len_of(at) * KEY];
            input.read_exact(&mut bytes).map_err(|error| failed(&self.path, error))?;
            self.check(block, &bytes)?;
            Ok(bytes)
        });
        Ok(blocks.flat_map(|block: Result<Vec<u8>>| {
            let (bytes, error) = match block {
                Ok(bytes) => (bytes, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            let keys: Vec<_> = (0..bytes.len() / KEY).map(|at| Ok(key_at(&bytes, at))).chain(error).collect();
            keys
        }))
    }

    fn len_of(&self, block: usize) -> usize {
        (self.keys - block * BLOCK).min(BLOCK)
    }

    fn check(&self, block: &Block, bytes: &[u8]) -> Result<()> {
        if crc32c::crc32c(bytes) == block.sum { Ok(()) } else { Err(damaged(&self.path)) }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // What stays is removed with the folder.
        _ = std::fs::remove_file(&self.path);
    }
}

fn key_at(bytes: &[u8], at: usize) -> u128 {
    let mut key = [0; KEY];
    key.copy_from_slice(&bytes[at * KEY..(at + 1) * KEY]);
    u128::from_be_bytes(key)
}

fn has(bytes: &[u8], key: u128) -> bool {
    let key = key.to_be_bytes();
    let (keys, _) = bytes.as_chunks::<KEY>();
    keys.binary_search(&key).is_ok()
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

/// The error of a file that is there and cannot be used.
pub(super) fn failed(path: &Path, error: std::io::Error) -> Error {
    if error.kind() == IoKind::UnexpectedEof {
        return damaged(path);
    }
    Error::of_file(format_args!("file \"{}\" of what was seen", path.display()), error)
}

/// The error of a file that is not what was written.
pub(super) fn damaged(path: &Path) -> Error {
    let message = format!(
        "the file \"{}\" of what was seen is damaged: restore it, or remove the state of the graph to begin anew",
        path.display()
    );
    Error::new(ErrorKind::Validation, message)
}

/// A split block Bloom filter, as in Apache Parquet (`BloomFilter.md`): one bit in each of the
/// eight words of one block a key.
#[derive(Debug)]
struct Filter(Vec<[u32; 8]>);

const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

impl Filter {
    fn new(keys: usize, most: usize) -> Self {
        const BLOCK: usize = size_of::<[u32; 8]>();
        let blocks = (keys * BITS / 8 / BLOCK).min(most / BLOCK).max(1);
        Self(vec![[0; 8]; blocks])
    }

    fn bytes(&self) -> usize {
        self.0.len() * size_of::<[u32; 8]>()
    }

    fn place(&self, key: u128) -> (usize, [u32; 8]) {
        let block = ((key as u64 >> 32) * self.0.len() as u64) >> 32;
        (block as usize, SALT.map(|salt| 1 << ((key as u32).wrapping_mul(salt) >> 27)))
    }

    fn add(&mut self, key: u128) {
        let (block, bits) = self.place(key);
        self.0[block].iter_mut().zip(bits).for_each(|(word, bit)| *word |= bit);
    }

    fn may_have(&self, key: u128) -> bool {
        let (block, bits) = self.place(key);
        self.0[block].iter().zip(bits).all(|(word, bit)| word & bit != 0)
    }
}

//! The bytes of a log: format 1, which reads forever.
//!
//! | part | bytes |
//! |---|---|
//! | header | `NVISYCKP`, the version (`u32`), the CRC32C of these (`u32`) |
//! | frame | the payload's length (`u64`), a CRC32C (`u32`), the payload |
//!
//! Integers are little-endian. The CRC32C of a frame goes on from that of the frame before it
//! (the header's for the first), over the payload and then its length: a frame fits in no
//! other place than its own.
//!
//! | payload | first byte | then |
//! |---|---|---|
//! | snapshot: the first frame | 0 | the graph's name, the generation, entries |
//! | commit | 1 | the generation that it makes, entries |
//! | continued: nothing after it | 2 | the number of the file that goes on from here |
//!
//! Numbers in payloads are LEB128. A text is its length and its UTF-8. Entries are their
//! number, and for each its key, 0 for a removal or the value's length plus one, the value.

use std::io::{self, Read, Write};

use bytes::Bytes;
use nvisy_core::{Changes, Checkpoint};

const MAGIC: [u8; 8] = *b"NVISYCKP";
const VERSION: u32 = 1;
const HEADER: usize = 16;
const FRAME: u64 = 12;

const SNAPSHOT: u8 = 0;
const COMMIT: u8 = 1;
const CONTINUED: u8 = 2;

/// What a frame holds, to be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Snapshot { graph: &'a str, checkpoint: &'a Checkpoint },
    Commit { generation: u64, changes: &'a Changes },
    Continued { number: u64 },
}

/// What a frame held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Snapshot { graph: String, checkpoint: Checkpoint },
    Commit { generation: u64, changes: Changes },
    Continued { number: u64 },
}

/// Why a log cannot be read on.
#[derive(Debug)]
pub(super) enum Flaw {
    /// What is wrong with its bytes.
    Damaged(&'static str),
    /// It is of a newer format than this program knows.
    Newer(u32),
    /// The disk failed.
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged(SHORT),
            _ => Self::Io(error),
        }
    }
}

const SHORT: &str = "it ends in the middle of a commit";

/// Writes frames, one behind the other.
pub(super) struct Writer<W> {
    out: W,
    /// The CRC of the last frame.
    pub(super) chain: u32,
    /// How many bytes were written.
    pub(super) written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes a header.
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let chain = crc32c::crc32c(&header[..12]);
        header[12..].copy_from_slice(&chain.to_le_bytes());
        out.write_all(&header)?;
        Ok(Self { out, chain, written: HEADER as u64 })
    }

    /// Goes on behind a frame with that CRC.
    pub(super) fn after(chain: u32, out: W) -> Self {
        Self { out, chain, written: 0 }
    }

    /// Returns what it wrote to.
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// Writes a frame, in two passes instead of through memory.
    pub(super) fn frame(&mut self, payload: Payload<'_>) -> io::Result<()> {
        let mut measure = Measure { len: 0, crc: self.chain };
        payload.write(&mut measure)?;
        let crc = crc32c::crc32c_append(measure.crc, &measure.len.to_le_bytes());
        self.out.write_all(&measure.len.to_le_bytes())?;
        self.out.write_all(&crc.to_le_bytes())?;
        payload.write(&mut self.out)?;
        self.out.flush()?;
        self.chain = crc;
        self.written += FRAME + measure.len;
        Ok(())
    }
}

/// Counts what is written.
struct Measure {
    len: u64,
    crc: u32,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Payload<'_> {
    fn write(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Snapshot { graph, checkpoint } => {
                out.write_all(&[SNAPSHOT])?;
                write_bytes(out, graph.as_bytes())?;
                write_number(out, checkpoint.generation)?;
                let entries = checkpoint.entries.iter().map(|(key, value)| (key.as_str(), Some(value)));
                write_entries(out, entries)
            }
            Self::Commit { generation, changes } => {
                out.write_all(&[COMMIT])?;
                write_number(out, generation)?;
                write_entries(out, changes.iter())
            }
            Self::Continued { number } => {
                out.write_all(&[CONTINUED])?;
                write_number(out, number)
            }
        }
    }
}

fn write_entries<'a>(
    out: &mut dyn Write,
    entries: impl ExactSizeIterator<Item = (&'a str, Option<&'a Bytes>)>,
) -> io::Result<()> {
    write_number(out, entries.len() as u64)?;
    for (key, value) in entries {
        write_bytes(out, key.as_bytes())?;
        match value {
            None => write_number(out, 0)?,
            Some(value) => {
                write_number(out, value.len() as u64 + 1)?;
                out.write_all(value)?;
            }
        }
    }
    Ok(())
}

fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    write_number(out, bytes.len() as u64)?;
    out.write_all(bytes)
}

fn write_number(out: &mut dyn Write, mut number: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut len = 0;
    loop {
        bytes[len] = (number & 0x7f) as u8;
        number >>= 7;
        len += 1;
        if number == 0 {
            break;
        }
        bytes[len - 1] |= 0x80;
    }
    out.write_all(&bytes[..len])
}

/// Reads frames, one behind the other.
pub(super) struct Reader<R> {
    input: R,
    left: u64,
    /// The CRC of the last frame.
    pub(super) chain: u32,
    /// Where the last frame ends.
    pub(super) end: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header of a file of that length.
    pub(super) fn open(mut input: R, len: u64) -> Result<Self, Flaw> {
        let mut header = [0; HEADER];
        if len < HEADER as u64 {
            return Err(Flaw::Damaged("it is too short"));
        }
        input.read_exact(&mut header)?;
        let chain = crc32c::crc32c(&header[..12]);
        if header[12..] != chain.to_le_bytes() || header[..8] != MAGIC {
            return Err(Flaw::Damaged("it does not begin as a checkpoint log does"));
        }
        let version = number_of([header[8], header[9], header[10], header[11]]);
        if version != VERSION {
            return Err(Flaw::Newer(version));
        }
        Ok(Self { input, left: len - HEADER as u64, chain, end: HEADER as u64 })
    }

    /// Reads the next frame; none at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Flaw> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.left < FRAME {
            return Err(Flaw::Damaged(SHORT));
        }
        let (mut len, mut crc) = ([0; 8], [0; 4]);
        self.input.read_exact(&mut len)?;
        self.input.read_exact(&mut crc)?;
        let (length, crc) = (u64::from_le_bytes(len), number_of(crc));
        if length > self.left - FRAME {
            return Err(Flaw::Damaged(SHORT));
        }
        // No more than the file has.
        let mut payload = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&mut self.input).take(length).read_to_end(&mut payload)?;
        if payload.len() as u64 != length {
            return Err(Flaw::Damaged(SHORT));
        }
        if crc32c::crc32c_append(crc32c::crc32c_append(self.chain, &payload), &len) != crc {
            return Err(Flaw::Damaged("a checksum does not fit"));
        }
        let frame = Cursor(&payload).frame().ok_or(Flaw::Damaged("a commit cannot be understood"))?;
        self.left -= FRAME + length;
        self.end += FRAME + length;
        self.chain = crc;
        Ok(Some(frame))
    }
}

fn number_of(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// Takes a payload apart.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn frame(mut self) -> Option<Frame> {
        let frame = match self.bytes(1)? {
            [SNAPSHOT] => {
                let graph = self.text()?;
                let generation = self.number()?;
                let entries = self.entries()?.map(|entry| entry.and_then(|(key, value)| Some((key, value?))));
                let entries = entries.collect::<Option<_>>()?;
                Frame::Snapshot { graph, checkpoint: Checkpoint { generation, entries } }
            }
            [COMMIT] => {
                let generation = self.number()?;
                Frame::Commit { generation, changes: self.entries()?.collect::<Option<_>>()? }
            }
            [CONTINUED] => Frame::Continued { number: self.number()? },
            _ => return None,
        };
        self.0.is_empty().then_some(frame)
    }

    fn entries(&mut self) -> Option<impl Iterator<Item = Option<(String, Option<Bytes>)>>> {
        let count = self.number()?;
        Some((0..count).map(|_| {
            let key = self.text()?;
            let value = match self.number()?.checked_sub(1) {
                None => None,
                Some(len) => Some(Bytes::copy_from_slice(self.bytes(len)?)),
            };
            Some((key, value))
        }))
    }

    fn text(&mut self) -> Option<String> {
        let len = self.number()?;
        Some(std::str::from_utf8(self.bytes(len)?).ok()?.to_owned())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes(1)? else { return None };
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<Frame>, Option<Flaw>) {
        let mut frames = Vec::new();
        let mut reader = match Reader::open(bytes, bytes.len() as u64) {
            Ok(reader) => reader,
            Err(flaw) => return (frames, Some(flaw)),
        };
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(flaw) => return (frames, Some(flaw)),
            }
        }
    }

    fn entries() -> impl Strategy<Value = Vec<(String, Option<Bytes>)>> {
        btree_map(".{0,20}", of(vec(any::<u8>(), 0..300).prop_map(Bytes::from)), 0..20)
            .prop_map(|entries| entries.into_iter().collect())
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn noise_is_refused(noise in vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&noise).1.is_some());
        }

        #[test]
        fn noise_behind_a_header_is_refused_or_understood(noise in vec(any::<u8>(), 0..200)) {
            let mut bytes = Vec::new();
            Writer::begin(&mut bytes).unwrap();
            bytes.extend(&noise);
            let (frames, flaw) = read(&bytes);
            prop_assert!(frames.is_empty());
            prop_assert_eq!(flaw.is_some(), !noise.is_empty());
        }

        #[test]
        fn noise_in_a_payload_is_refused_or_understood(
            kind in 0_u8..4,
            noise in vec(prop_oneof![0_u8..4, any::<u8>()], 0..60),
        ) {
            let payload = [vec![kind], noise].concat();
            let _ = Cursor(&payload).frame();
        }

        #[test]
        fn what_is_written_is_read_back(entries in entries(), generation: u64, number: u64, graph in ".{0,20}") {
            let changes: Changes = entries.iter().cloned().collect();
            let kept = entries.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
            let checkpoint = Checkpoint { generation, entries: kept.collect() };
            let mut bytes = Vec::new();
            let mut writer = Writer::begin(&mut bytes).unwrap();
            writer.frame(Payload::Snapshot { graph: &graph, checkpoint: &checkpoint }).unwrap();
            writer.frame(Payload::Commit { generation, changes: &changes }).unwrap();
            writer.frame(Payload::Continued { number }).unwrap();
            let (written, chain) = (writer.written, writer.chain);
            prop_assert_eq!(written, bytes.len() as u64);
            let (frames, flaw) = read(&bytes);
            prop_assert!(flaw.is_none());
            prop_assert_eq!(frames, vec![
                Frame::Snapshot { graph, checkpoint },
                Frame::Commit { generation, changes: changes.clone() },
                Frame::Continued { number },
            ]);

            // A frame fits in no other place than its own.
            let mut next = Vec::new();
            Writer::after(chain, &mut next).frame(Payload::Commit { generation, changes: &changes }).unwrap();
            prop_assert!(read(&[&bytes[..], &next[..], &next[..]].concat()).1.is_some());
        }
    }
}

//! Compression by suffix: gzip and zstd.

use std::borrow::Cow;
use std::io::{self, BufReader, Read, Write};

/// How an object is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How well new gzip files are compressed: the middle between speed and size.
const GZIP_LEVEL: u32 = 6;
/// Likewise for zstd: its own default.
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// Tells it by the suffix of a key.
    pub(crate) fn of(key: &str) -> Self {
        let key = key.to_ascii_lowercase();
        if key.ends_with(".gz") || key.ends_with(".gzip") {
            Self::Gzip
        } else if key.ends_with(".zst") || key.ends_with(".zstd") {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// Returns the key without the suffix of a compression.
    pub(crate) fn strip(key: &str) -> &str {
        match Self::of(key) {
            Self::None => key,
            _ => key.rsplit_once('.').map_or(key, |(name, _)| name),
        }
    }

    /// Reads what is compressed. Members and frames that follow each other are one text.
    pub(crate) fn reader(self, input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, input)))
            }
            Self::Zstd => Box::new(zstd::Decoder::new(input)?),
        })
    }

    /// Returns bytes compressed.
    pub(crate) fn compress(self, bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        if self == Self::None {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut compressor = self.writer(Vec::new())?;
        compressor.write_all(bytes)?;
        compressor.finish().map(Cow::Owned)
    }

    /// Writes compressed.
    pub(crate) fn writer<W: Write>(self, output: W) -> io::Result<Compressor<W>> {
        Ok(match self {
            Self::None => Compressor::None(output),
            Self::Gzip => {
                Compressor::Gzip(flate2::write::GzEncoder::new(output, flate2::Compression::new(GZIP_LEVEL)))
            }
            Self::Zstd => Compressor::Zstd(zstd::Encoder::new(output, ZSTD_LEVEL)?),
        })
    }
}

/// Writes compressed; complete only after [`finish`](Self::finish).
pub(crate) enum Compressor<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Returns what it writes to.
    pub(crate) fn output(&self) -> &W {
        match self {
            Self::None(output) => output,
            Self::Gzip(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
        }
    }

    /// Writes the end and returns what it wrote to.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(output) => output.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) {
        let text = "the same line again\n".repeat(1_000);
        let mut writer = Compression::of(name).writer(Vec::new()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        let written = writer.finish().unwrap();
        let mut read = String::new();
        Compression::of(name)
            .reader(io::Cursor::new(written.clone()))
            .unwrap()
            .read_to_string(&mut read)
            .unwrap();
        assert_eq!(read, text);
        if Compression::of(name) != Compression::None {
            let cut = io::Cursor::new(written[..written.len() - 5].to_vec());
            assert!(
                Compression::of(name).reader(cut).unwrap().read_to_end(&mut Vec::new()).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_written_reads_back_and_a_cut_is_noticed() {
        check("a.jsonl");
        check("a.jsonl.gz");
        check("a.jsonl.ZST");
        assert_eq!(Compression::strip("a.csv.gz"), "a.csv");
        assert_eq!(Compression::strip("a.csv"), "a.csv");
    }
}

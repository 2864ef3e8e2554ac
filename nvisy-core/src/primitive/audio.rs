//! A recording.

mod header;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::ContentHasher;

/// How far a duration may be from what the header says.
const TOLERANCE: Duration = Duration::from_millis(100);

/// How a recording is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AudioFormat {
    /// Waveform samples.
    #[default]
    Wav,
    /// Free Lossless Audio Codec.
    Flac,
    /// MPEG audio, layer III.
    Mp3,
    /// Vorbis or Opus in Ogg.
    Ogg,
}

impl AudioFormat {
    /// Returns the name, as JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Ogg => "ogg",
        }
    }

    /// Returns the MIME type.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Flac => "audio/flac",
            Self::Mp3 => "audio/mpeg",
            Self::Ogg => "audio/ogg",
        }
    }
}

/// The fields of an [`Audio`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioFields {
    /// The bytes, or none for a handle: then the URI says where they are.
    #[serde(default, with = "super::base64_bytes::option")]
    pub bytes: Option<Bytes>,
    /// Where the bytes are, or were found.
    #[serde(default)]
    pub uri: Option<String>,
    /// How many bytes there are.
    pub size: u64,
    /// How it is encoded.
    pub format: AudioFormat,
    /// How many samples there are of each channel in a second.
    pub sample_rate: u32,
    /// How many channels there are.
    pub channels: u16,
    /// How long it lasts, where that is known.
    #[serde(default, with = "crate::config::duration::option")]
    pub duration: Option<Duration>,
    /// What is said in it.
    #[serde(default)]
    pub transcript: Option<String>,
}

impl AudioFields {
    fn check(&self) -> Result<()> {
        if self.sample_rate == 0 {
            return Err(Error::invalid("audio.sample_rate", "is 0"));
        }
        if self.channels == 0 {
            return Err(Error::invalid("audio.channels", "is 0"));
        }
        let Some(bytes) = &self.bytes else {
            return match &self.uri {
                Some(uri) if !uri.is_empty() => Ok(()),
                _ => Err(Error::invalid("audio.uri", "is empty, and there are no bytes either")),
            };
        };
        if bytes.len() as u64 != self.size {
            let message = format!("says {} bytes, there are {}", self.size, bytes.len());
            return Err(Error::invalid("audio.size", message));
        }
        let header = read(bytes)?;
        if header.format != self.format {
            let message = format!("says {}, the bytes are {}", self.format.name(), header.format.name());
            return Err(Error::invalid("audio.format", message));
        }
        if header.sample_rate != self.sample_rate {
            let message = format!("says {} Hz, the header {}", self.sample_rate, header.sample_rate);
            return Err(Error::invalid("audio.sample_rate", message));
        }
        if header.channels != self.channels {
            let message = format!("says {}, the header {}", self.channels, header.channels);
            return Err(Error::invalid("audio.channels", message));
        }
        match (self.duration, header.duration) {
            (Some(says), Some(is)) if says.abs_diff(is) > TOLERANCE => {
                Err(Error::invalid("audio.duration", format!("says {says:?}, the header {is:?}")))
            }
            _ => Ok(()),
        }
    }
}

fn read(bytes: &[u8]) -> Result<header::Header> {
    header::read(bytes)
        .ok_or_else(|| Error::invalid("audio.bytes", "begin with no header of a WAV, FLAC, MP3 or Ogg file"))
}

validated! {
    /// A recording, or a handle to it. What it says of its bytes is what their header says.
    Audio(AudioFields)
}

impl Audio {
    /// Makes a recording of its bytes: the header says the rest, the duration where it can
    /// (WAV and FLAC).
    ///
    /// # Errors
    ///
    /// `validation` if the bytes do not begin with the header of a WAV, FLAC, MP3 or Ogg file.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let header::Header { format, sample_rate, channels, duration } = read(&bytes)?;
        let size = bytes.len() as u64;
        let fields = AudioFields {
            bytes: Some(bytes),
            size,
            format,
            sample_rate,
            channels,
            duration,
            ..Default::default()
        };
        fields.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        let texts = [&self.uri, &self.transcript].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + self.bytes.as_ref().map_or(0, Bytes::len) + texts
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("bytes", &self.bytes);
        hasher.field("uri", &self.uri);
        hasher.field("size", &self.size);
        hasher.field("format", self.format.name());
        hasher.field("sample_rate", &self.sample_rate);
        hasher.field("channels", &self.channels);
        hasher.field("duration", &self.duration);
        hasher.field("transcript", &self.transcript);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MP3: &[u8] = &[0xff, 0xfb, 0x90, 0x64];

    #[test]
    fn what_does_not_agree_is_named() {
        let good = Audio::new(MP3).unwrap().into_fields();
        let check = |edit: fn(&mut AudioFields), field: &str| {
            let mut fields = good.clone();
            edit(&mut fields);
            assert_eq!(Audio::try_from(fields).unwrap_err().context().field.as_deref(), Some(field));
        };
        check(|f| f.sample_rate = 8_000, "audio.sample_rate");
        check(|f| f.channels = 1, "audio.channels");
        check(|f| f.size = 3, "audio.size");
        check(|f| f.format = AudioFormat::Ogg, "audio.format");
        check(|f| f.bytes = None, "audio.uri");
        check(|f| f.bytes = Some(Bytes::from_static(b"text")), "audio.bytes");
    }

    #[test]
    fn a_handle_is_taken_at_its_word() {
        let uri = Some("s3://calls/1.mp3".into());
        let fields = AudioFields { uri, sample_rate: 8_000, channels: 1, ..Default::default() };
        assert!(Audio::try_from(fields).is_ok());
    }
}

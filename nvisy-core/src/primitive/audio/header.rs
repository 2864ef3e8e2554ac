//! What the first bytes of a recording say of it.
//!
//! WAV: RIFF of Microsoft and IBM. FLAC: RFC 9639. MP3: ISO/IEC 11172-3, 2.4.2.3 and ID3v2.4.
//! Ogg: RFC 3533, with Vorbis (Vorbis I, 4.2.2) or Opus (RFC 7845).

use std::time::Duration;

use super::AudioFormat;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: AudioFormat,
    pub(super) sample_rate: u32,
    pub(super) channels: u16,
    /// None where the header does not say.
    pub(super) duration: Option<Duration>,
}

/// Reads the header, or returns none where there is no valid one of a known format.
pub(super) fn read(bytes: &[u8]) -> Option<Header> {
    let header = match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => wav(bytes)?,
        [b'f', b'L', b'a', b'C', ..] => flac(bytes)?,
        [b'O', b'g', b'g', b'S', ..] => ogg(bytes)?,
        [b'I', b'D', b'3', ..] | [0xff, _, ..] => mp3(bytes)?,
        _ => return None,
    };
    (header.sample_rate > 0 && header.channels > 0).then_some(header)
}

fn lasts(samples: u64, rate: u32) -> Option<Duration> {
    let rate = u64::from(rate);
    let whole = samples.checked_div(rate)?;
    let nanoseconds = (samples % rate) * 1_000_000_000 / rate;
    Some(Duration::new(whole, u32::try_from(nanoseconds).ok()?))
}

/// Walks from chunk to chunk: the format stands before the samples.
fn wav(bytes: &[u8]) -> Option<Header> {
    let (mut at, mut format) = (12, None);
    while let (Some(id), Some(len)) = (bytes.get(at..at + 4), le32(bytes, at + 4)) {
        match id {
            b"fmt " => format = Some((le16(bytes, at + 10)?, le32(bytes, at + 12)?, le32(bytes, at + 16)?)),
            b"data" => {
                let (channels, sample_rate, byte_rate) = format?;
                let duration = lasts(len.into(), byte_rate);
                return Some(Header { format: AudioFormat::Wav, sample_rate, channels, duration });
            }
            _ => {}
        }
        // Chunks are padded to an even length.
        at = at.checked_add(8)?.checked_add(usize::try_from(len).ok()?)?.checked_add((len & 1) as usize)?;
    }
    // Cut before the samples: what is known of them is known.
    let (channels, sample_rate, _) = format?;
    Some(Header { format: AudioFormat::Wav, sample_rate, channels, duration: None })
}

fn flac(bytes: &[u8]) -> Option<Header> {
    // The first block is the stream's own, of 34 bytes.
    if *bytes.get(4)? & 0x7f != 0 {
        return None;
    }
    // Twenty bits of rate, three of channels, five of depth, thirty-six of samples.
    let packed = u64::from_be_bytes(*bytes.get(18..)?.first_chunk()?);
    let sample_rate = u32::try_from(packed >> 44).ok()?;
    let channels = ((packed >> 41) & 0x7) as u16 + 1;
    let samples = packed & 0xf_ffff_ffff;
    let duration = if samples == 0 { None } else { lasts(samples, sample_rate) };
    Some(Header { format: AudioFormat::Flac, sample_rate, channels, duration })
}

fn ogg(bytes: &[u8]) -> Option<Header> {
    let segments = usize::from(*bytes.get(26)?);
    let packet = bytes.get(27 + segments..)?;
    let format = AudioFormat::Ogg;
    if packet.starts_with(b"\x01vorbis") {
        let (channels, sample_rate) = (u16::from(*packet.get(11)?), le32(packet, 12)?);
        Some(Header { format, sample_rate, channels, duration: None })
    } else if packet.starts_with(b"OpusHead") {
        // Opus always plays at 48 kHz, whatever rate it was recorded at.
        let channels = u16::from(*packet.get(9)?);
        Some(Header { format, sample_rate: 48_000, channels, duration: None })
    } else {
        None
    }
}

fn mp3(bytes: &[u8]) -> Option<Header> {
    let start = match bytes {
        [b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] => {
            // Seven bits a byte. A footer, where there is one, is as long as the header.
            let size = [a, b, c, d].into_iter().fold(0, |n, byte| n << 7 | usize::from(byte & 0x7f));
            10 + size + if flags & 0x10 != 0 { 10 } else { 0 }
        }
        _ => 0,
    };
    let frame: [u8; 4] = *bytes.get(start..)?.first_chunk()?;
    let [sync, second, third, fourth] = frame;
    let (version, layer) = ((second >> 3) & 0x3, (second >> 1) & 0x3);
    let (bitrate, rate) = (third >> 4, usize::from((third >> 2) & 0x3));
    if sync != 0xff || second & 0xe0 != 0xe0 || layer != 0b01 || bitrate == 0xf {
        return None;
    }
    let full = *[44_100, 48_000, 32_000].get(rate)?;
    let sample_rate = match version {
        0b11 => full,
        0b10 => full / 2,
        0b00 => full / 4,
        _ => return None,
    };
    let channels = if fourth >> 6 == 0b11 { 1 } else { 2 };
    Some(Header { format: AudioFormat::Mp3, sample_rate, channels, duration: None })
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hex: &str, expected: Option<(AudioFormat, u32, u16, Option<u64>)>) {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        let expected = expected.map(|(format, sample_rate, channels, milliseconds)| {
            let duration = milliseconds.map(Duration::from_millis);
            Header { format, sample_rate, channels, duration }
        });
        assert_eq!(read(&bytes), expected, "{hex}");
        for end in 0..bytes.len() {
            read(&bytes[..end]);
        }
    }

    #[test]
    fn headers_are_read() {
        // 8 kHz, one channel of 16 bits: 16,000 bytes a second, 4,000 of them; an odd chunk first.
        let wav = "52494646 00000000 57415645 4c495354 01000000 0000
            666d7420 10000000 0100 0100 401f0000 803e0000 0200 1000 64617461 a00f0000";
        check(wav, Some((AudioFormat::Wav, 8_000, 1, Some(250))));
        // 44,100 Hz, two channels, 16 bits, 22,050 samples.
        let flac = "664c6143 00000022 1000 1000 000000 000000 0ac442f000005622";
        check(flac, Some((AudioFormat::Flac, 44_100, 2, Some(500))));
        check("fffb9064", Some((AudioFormat::Mp3, 44_100, 2, None)));
        check("494433040000 00000002 0000 fff344c4", Some((AudioFormat::Mp3, 24_000, 1, None)));
        let page = "4f676753 00 02 0000000000000000 00000000 00000000 00000000 01 1e";
        let vorbis = format!("{page} 01766f72626973 00000000 02 80bb0000");
        check(&vorbis, Some((AudioFormat::Ogg, 48_000, 2, None)));
        let opus = format!("{page} 4f70757348656164 01 01 0000 401f0000");
        check(&opus, Some((AudioFormat::Ogg, 48_000, 1, None)));
    }

    #[test]
    fn what_is_no_header_is_none() {
        for hex in
            ["", "ff", "ffffffff", "494433040000 7f7f7f7f", "664c6143 01", "52494646 00000000 57415645"]
        {
            check(hex, None);
        }
    }
}

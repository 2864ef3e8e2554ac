//! What the first bytes of a picture say of it.
//!
//! PNG: ISO/IEC 15948, 11.2.2. JPEG: ITU-T T.81, B.2.2. GIF: GIF89a, 18. WebP: RFC 9649. BMP:
//! the BITMAPCOREHEADER and BITMAPINFOHEADER of Windows.

use super::ImageFormat;

/// Format, width and height.
pub(super) type Header = (ImageFormat, u32, u32);

/// Reads the header, or returns none where there is no valid one of a known format.
pub(super) fn read(bytes: &[u8]) -> Option<Header> {
    let (format, width, height) = match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => png(bytes)?,
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes)?,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => {
            (ImageFormat::Gif, le16(bytes, 6)?.into(), le16(bytes, 8)?.into())
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes)?,
        [b'B', b'M', ..] => bmp(bytes)?,
        _ => return None,
    };
    (width > 0 && height > 0).then_some((format, width, height))
}

fn png(bytes: &[u8]) -> Option<Header> {
    if bytes.get(12..16)? != b"IHDR" {
        return None;
    }
    Some((ImageFormat::Png, be32(bytes, 16)?, be32(bytes, 20)?))
}

/// Walks from segment to segment to the one that begins the frame.
fn jpeg(bytes: &[u8]) -> Option<Header> {
    let mut at = 2;
    loop {
        // Any number of 0xff may stand before a marker.
        if *bytes.get(at)? != 0xff {
            return None;
        }
        while *bytes.get(at)? == 0xff {
            at += 1;
        }
        match bytes[at] {
            // The markers of a frame; 0xc4, 0xc8 and 0xcc among them are others.
            0xc0..=0xcf if !matches!(bytes[at], 0xc4 | 0xc8 | 0xcc) => {
                return Some((ImageFormat::Jpeg, be16(bytes, at + 6)?.into(), be16(bytes, at + 4)?.into()));
            }
            // Markers that stand alone.
            0x01 | 0xd0..=0xd8 => at += 1,
            // The end, or the picture itself, before any frame.
            0x00 | 0xd9 | 0xda => return None,
            _ => {
                let len = be16(bytes, at + 1)?;
                if len < 2 {
                    return None;
                }
                at += 1 + usize::from(len);
            }
        }
    }
}

fn webp(bytes: &[u8]) -> Option<Header> {
    let (width, height) = match bytes.get(12..16)? {
        b"VP8 " if bytes.get(23..26)? == [0x9d, 0x01, 0x2a] => {
            ((le16(bytes, 26)? & 0x3fff).into(), (le16(bytes, 28)? & 0x3fff).into())
        }
        b"VP8L" if *bytes.get(20)? == 0x2f => {
            let bits = le32(bytes, 21)?;
            ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)
        }
        b"VP8X" => {
            let le24 = |at: usize| Some(u32::from(le16(bytes, at)?) | u32::from(*bytes.get(at + 2)?) << 16);
            (le24(24)? + 1, le24(27)? + 1)
        }
        _ => return None,
    };
    Some((ImageFormat::Webp, width, height))
}

fn bmp(bytes: &[u8]) -> Option<Header> {
    let (width, height) = match le32(bytes, 14)? {
        12 => (le16(bytes, 18)?.into(), le16(bytes, 20)?.into()),
        // A negative height means that the rows stand from the top down.
        40.. => (le32(bytes, 18)?, le32(bytes, 22)?.cast_signed().unsigned_abs()),
        _ => return None,
    };
    Some((ImageFormat::Bmp, width, height))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
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

    fn check(hex: &str, expected: Option<Header>) {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        assert_eq!(read(&bytes), expected, "{hex}");
        for end in 0..bytes.len() {
            read(&bytes[..end]);
        }
    }

    #[test]
    fn headers_are_read() {
        let png = "89504e470d0a1a0a 0000000d 49484452 00000280 000001e0 0806000000";
        check(png, Some((ImageFormat::Png, 640, 480)));
        let jpeg = "ffd8 ffe0 0004 4a46 ffdb 0003 00 ffff c2 000b 08 0140 00f0 01 011100";
        check(jpeg, Some((ImageFormat::Jpeg, 240, 320)));
        check("474946383961 0a00 1400 00", Some((ImageFormat::Gif, 10, 20)));
        let riff = "52494646 00000000 57454250";
        let vp8 = format!("{riff} 56503820 00000000 300100 9d012a 1000 2000");
        check(&vp8, Some((ImageFormat::Webp, 16, 32)));
        // 13 less one in the low 14 bits, 7 less one in the next.
        let vp8l = format!("{riff} 5650384c 00000000 2f 0c800100");
        check(&vp8l, Some((ImageFormat::Webp, 13, 7)));
        let vp8x = format!("{riff} 56503858 0a000000 00000000 7f0200 df0100");
        check(&vp8x, Some((ImageFormat::Webp, 640, 480)));
        let bmp = "424d 00000000 00000000 00000000 28000000 03000000 fcffffff";
        check(bmp, Some((ImageFormat::Bmp, 3, 4)));
    }

    #[test]
    fn what_is_no_header_is_none() {
        for hex in ["", "00", "ffd8ffd9", "ffd8ffe00000", "474946383961 0000 1400", "424d"] {
            check(hex, None);
        }
    }
}

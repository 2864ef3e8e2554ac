//! A picture.

mod header;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::ContentHasher;

/// How a picture is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageFormat {
    /// Portable Network Graphics.
    #[default]
    Png,
    /// JPEG.
    Jpeg,
    /// Graphics Interchange Format.
    Gif,
    /// WebP.
    Webp,
    /// Windows bitmap.
    Bmp,
}

impl ImageFormat {
    /// Returns the name, as JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Bmp => "bmp",
        }
    }

    /// Returns the MIME type.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Bmp => "image/bmp",
        }
    }
}

/// The fields of an [`Image`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFields {
    /// The bytes, or none for a handle: then the URI says where they are.
    #[serde(default, with = "super::base64_bytes::option")]
    pub bytes: Option<Bytes>,
    /// Where the bytes are, or were found.
    #[serde(default)]
    pub uri: Option<String>,
    /// How many bytes there are.
    pub size: u64,
    /// How it is encoded.
    pub format: ImageFormat,
    /// How many pixels it is wide.
    pub width: u32,
    /// How many pixels it is high.
    pub height: u32,
    /// What is to be seen.
    #[serde(default)]
    pub caption: Option<String>,
}

impl ImageFields {
    fn check(&self) -> Result<()> {
        for (field, value) in [("image.width", self.width), ("image.height", self.height)] {
            if value == 0 {
                return Err(Error::invalid(field, "is 0"));
            }
        }
        let Some(bytes) = &self.bytes else {
            return match &self.uri {
                Some(uri) if !uri.is_empty() => Ok(()),
                _ => Err(Error::invalid("image.uri", "is empty, and there are no bytes either")),
            };
        };
        if bytes.len() as u64 != self.size {
            let message = format!("says {} bytes, there are {}", self.size, bytes.len());
            return Err(Error::invalid("image.size", message));
        }
        let (format, width, height) = read(bytes)?;
        if format != self.format {
            let message = format!("says {}, the bytes are {}", self.format.name(), format.name());
            return Err(Error::invalid("image.format", message));
        }
        for (field, says, is) in [("image.width", self.width, width), ("image.height", self.height, height)] {
            if says != is {
                return Err(Error::invalid(field, format!("says {says} pixels, the header {is}")));
            }
        }
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<header::Header> {
    header::read(bytes).ok_or_else(|| {
        Error::invalid("image.bytes", "begin with no header of a PNG, JPEG, GIF, WebP or BMP file")
    })
}

validated! {
    /// A picture, or a handle to it. What it says of its bytes is what their header says.
    Image(ImageFields)
}

impl Image {
    /// Makes a picture of its bytes: the header says the rest.
    ///
    /// # Errors
    ///
    /// `validation` if the bytes do not begin with the header of a PNG, JPEG, GIF, WebP or BMP
    /// file.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let (format, width, height) = read(&bytes)?;
        let size = bytes.len() as u64;
        ImageFields { bytes: Some(bytes), size, format, width, height, ..Default::default() }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        let texts = [&self.uri, &self.caption].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + self.bytes.as_ref().map_or(0, Bytes::len) + texts
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("bytes", &self.bytes);
        hasher.field("uri", &self.uri);
        hasher.field("size", &self.size);
        hasher.field("format", self.format.name());
        hasher.field("width", &self.width);
        hasher.field("height", &self.height);
        hasher.field("caption", &self.caption);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIF: &[u8] = b"GIF89a\x0a\x00\x14\x00";

    #[test]
    fn the_header_says_the_rest() {
        let image = Image::new(GIF).unwrap();
        assert_eq!((image.format, image.width, image.height, image.size), (ImageFormat::Gif, 10, 20, 10));
        assert_eq!(&**Image::new("text").unwrap_err().context().field.as_ref().unwrap(), "image.bytes");
    }

    #[test]
    fn what_does_not_agree_is_named() {
        let good = Image::new(GIF).unwrap().into_fields();
        let check = |edit: fn(&mut ImageFields), field: &str| {
            let mut fields = good.clone();
            edit(&mut fields);
            assert_eq!(Image::try_from(fields).unwrap_err().context().field.as_deref(), Some(field));
        };
        check(|f| f.width = 11, "image.width");
        check(|f| f.height = 0, "image.height");
        check(|f| f.size = 3, "image.size");
        check(|f| f.format = ImageFormat::Png, "image.format");
        check(|f| f.bytes = None, "image.uri");
    }
}

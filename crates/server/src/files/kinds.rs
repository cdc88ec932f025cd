//! Detects the type of a file from its first bytes. The type that the sender declared is ignored:
//! a page declared as an image would run its scripts on the origin of the API.

/// Number of leading bytes that determine the type.
pub(crate) const SNIFF_BYTES: usize = 32;

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    mime: &'static str,
    is_inline: bool,
}

impl Kind {
    /// A file of unknown type.
    const OTHER: Self = Self {
        mime: "application/octet-stream",
        is_inline: false,
    };

    const fn shown(mime: &'static str) -> Self {
        Self {
            mime,
            is_inline: true,
        }
    }

    /// The media type.
    pub(crate) fn mime(self) -> &'static str {
        self.mime
    }

    /// Whether browsers may display the file inline. SVG and PDF may not, because they can contain
    /// scripts.
    pub(crate) fn is_inline(self) -> bool {
        self.is_inline
    }

    /// Detects the type of a file that starts with these bytes.
    pub(crate) fn of(start: &[u8]) -> Self {
        let at = |from: usize, bytes: &[u8]| {
            start
                .get(from..)
                .is_some_and(|rest| rest.starts_with(bytes))
        };
        match start {
            _ if at(0, b"\x89PNG\r\n\x1a\n") => Self::shown("image/png"),
            _ if at(0, b"\xff\xd8\xff") => Self::shown("image/jpeg"),
            _ if at(0, b"GIF87a") || at(0, b"GIF89a") => Self::shown("image/gif"),
            _ if at(0, b"RIFF") && at(8, b"WEBP") => Self::shown("image/webp"),
            _ if at(0, b"RIFF") && at(8, b"WAVE") => Self::shown("audio/wav"),
            _ if at(0, b"BM") && at(6, b"\0\0\0\0") => Self::shown("image/bmp"),
            _ if at(4, b"ftyp") => Self::of_brand(start.get(8..12).unwrap_or_default()),
            _ if at(0, b"\x1a\x45\xdf\xa3") => Self::shown("video/webm"),
            _ if at(0, b"OggS") => Self::shown("video/ogg"),
            _ if at(0, b"fLaC") => Self::shown("audio/flac"),
            _ if at(0, b"ID3") => Self::shown("audio/mpeg"),
            // MPEG layer III and ADTS frames. The mask excludes the byte order mark of UTF-16,
            // which also starts with 0xff.
            [0xff, second, ..] if second & 0xe6 == 0xe2 => Self::shown("audio/mpeg"),
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Self::shown("audio/aac"),
            _ if at(0, b"%PDF-") => Self {
                mime: "application/pdf",
                is_inline: false,
            },
            _ => Self::OTHER,
        }
    }

    /// Detects the type of an ISO base media file from its brand.
    fn of_brand(brand: &[u8]) -> Self {
        match brand {
            b"avif" | b"avis" => Self::shown("image/avif"),
            b"heic" | b"heix" | b"mif1" | b"msf1" => Self::shown("image/heic"),
            b"M4A " | b"M4B " => Self::shown("audio/mp4"),
            b"qt  " => Self::shown("video/quicktime"),
            _ => Self::shown("video/mp4"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_audio_and_video_are_inline() {
        for (start, mime) in [
            (&b"\x89PNG\r\n\x1a\n\0\0"[..], "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"\0\0\0\x20ftypisom", "video/mp4"),
            (b"\0\0\0\x20ftypavif", "image/avif"),
            (b"ID3\x04", "audio/mpeg"),
            (b"\xff\xfb\x90", "audio/mpeg"),
            (b"\xff\xf1\x50", "audio/aac"),
        ] {
            assert_eq!(
                (Kind::of(start).mime(), Kind::of(start).is_inline()),
                (mime, true)
            );
        }
    }

    #[test]
    fn files_that_can_contain_scripts_are_not_inline() {
        for start in [
            &b"<html>"[..],
            b"<!doctype html>",
            b"<svg xmlns=",
            b"<?xml version",
            b"%PDF-1.7",
            b"alert(1)",
            b"\xef\xbb\xbf<html>",
            b"\xff\xfe<\0h\0",
            b"PK\x03\x04",
            b"",
            b"\xff",
        ] {
            assert!(!Kind::of(start).is_inline(), "{start:?}");
        }
    }
}

//! Range requests for files (RFC 9110, section 14).

use std::ops::Range;

use object_store::GetRange;

/// Parses a `Range` header with a single range. Returns `None` for anything else, because the RFC
/// allows a server to ignore the header then.
pub(crate) fn parse(header: &str) -> Option<GetRange> {
    let part = header.strip_prefix("bytes=")?.trim();
    let (first, last) = part.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", last) => number(last).map(GetRange::Suffix),
        (first, "") => number(first).map(GetRange::Offset),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| GetRange::Bounded(first..last.saturating_add(1)))
        }
    }
}

/// Resolves a range for a file of this size. Returns `None` when it is not satisfiable.
pub(crate) fn resolve(range: &GetRange, size: u64) -> Option<Range<u64>> {
    let range = match range {
        GetRange::Bounded(range) => range.start..range.end.min(size),
        GetRange::Offset(first) => *first..size,
        GetRange::Suffix(last) => size.saturating_sub(*last)..size,
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_to_the_file() {
        let of = |header: &str| parse(header).and_then(|range| resolve(&range, 10));
        assert_eq!(of("bytes=0-3"), Some(0..4));
        assert_eq!(of("bytes=8-99"), Some(8..10));
        assert_eq!(of("bytes=4-"), Some(4..10));
        assert_eq!(of("bytes=-3"), Some(7..10));
        assert_eq!(of("bytes=-99"), Some(0..10));
        assert_eq!(of(&format!("bytes=0-{}", u64::MAX)), Some(0..10));
        for outside in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!((parse(outside).is_some(), of(outside)), (true, None));
        }
        for odd in [
            "",
            "bytes=",
            "bytes=-",
            "bytes=3-1",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "lines=1-2",
        ] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}

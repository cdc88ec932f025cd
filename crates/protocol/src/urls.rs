//! URL validation, as rules for [`garde`] and as patterns for JSON Schema.

/// Maximum length of a URL, in characters.
pub const MAX_URL_CHARS: usize = 2048;

/// JSON Schema pattern equivalent to [`http_url`].
pub const HTTP_URL: &str =
    r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s\x00-\x1f\x7f-\x9f/?#][^\s\x00-\x1f\x7f-\x9f]*$";

/// JSON Schema pattern equivalent to [`rtmp_url`].
pub const RTMP_URL: &str =
    r"^[Rr][Tt][Mm][Pp][Ss]?://[^\s\x00-\x1f\x7f-\x9f/?#][^\s\x00-\x1f\x7f-\x9f]*$";

/// Rejects anything but absolute http and https URLs. An absent URL is valid.
///
/// For use as `#[garde(custom(http_url))]`.
pub fn http_url<C>(url: &Option<String>, _: &C) -> garde::Result {
    absolute_url(url.as_deref(), ["http", "https"])
}

/// Rejects anything but absolute rtmp and rtmps URLs. An absent URL is valid.
///
/// For use as `#[garde(custom(rtmp_url))]`.
pub fn rtmp_url<C>(url: &Option<String>, _: &C) -> garde::Result {
    absolute_url(url.as_deref(), ["rtmp", "rtmps"])
}

/// Checks the scheme, that a host follows, and that no character could break a line or a log entry.
/// Does not check that the host exists.
fn absolute_url(url: Option<&str>, schemes: [&str; 2]) -> garde::Result {
    let Some(url) = url else { return Ok(()) };
    let well_formed = url.split_once("://").is_some_and(|(scheme, rest)| {
        schemes
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
            && !rest.is_empty()
            && !rest.starts_with(['/', '?', '#'])
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    });
    let [plain, secure] = schemes;
    well_formed
        .then_some(())
        .ok_or_else(|| garde::Error::new(format!("not an absolute {plain} or {secure} URL")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_http(url: &str) -> bool {
        http_url(&Some(url.to_owned()), &()).is_ok()
    }

    #[test]
    fn absolute_http_urls_are_taken() {
        for url in [
            "http://a",
            "HTTPS://cdn.example.com/logo.png?size=2#top",
            "https://[::1]:8080/",
            "https://例え.jp/ロゴ",
        ] {
            assert!(is_http(url), "{url}");
        }
        assert!(http_url(&None, &()).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        for url in [
            "",
            "logo.png",
            "//cdn.example.com",
            "http:/a",
            "http://",
            "http:///path",
            "http://?q",
            "https://a b",
            "https://a\nb",
            "javascript:alert(1)//://",
            "data:image/png;base64,AA==",
            "ftp://a",
            " http://a",
        ] {
            assert!(!is_http(url), "{url:?}");
        }
    }

    #[test]
    fn a_stream_goes_to_rtmp_only() {
        assert!(rtmp_url(&Some("rtmps://live.example.com/app".to_owned()), &()).is_ok());
        assert!(rtmp_url(&Some("https://live.example.com/app".to_owned()), &()).is_err());
    }
}

//! `/meet`: a page that joins a meeting with the official SDK and UI kit.
//!
//! Its files are built by `scripts/build-page` and embedded by the build script. A binary that was
//! built without them serves instructions instead.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

/// A file of the page.
#[derive(Debug, Clone, Copy)]
struct File {
    /// Path under `/meet/`, without `.gz`.
    name: &'static str,
    /// Whether `bytes` are gzip-compressed.
    is_gzip: bool,
    /// Whether the name contains a content hash.
    is_named_by_content: bool,
    bytes: &'static [u8],
}

static EMBEDDED: &[File] = include!(concat!(env!("OUT_DIR"), "/meeting_page.rs"));

/// The HTML of the page.
const PAGE: &str = "meet.html";

/// The page that is served if nothing is embedded.
static ABSENT: &[File] = &[
    File {
        name: PAGE,
        is_gzip: false,
        is_named_by_content: false,
        bytes: include_bytes!("../../assets/meet-absent.html"),
    },
    File {
        name: "absent.css",
        is_gzip: false,
        is_named_by_content: false,
        bytes: include_bytes!("../../assets/meet-absent.css"),
    },
];

/// The content security policy. The page connects only to its own server, never to Cloudflare or
/// Google. Participants' pictures may come from anywhere. The UI kit uses inline styles, and its
/// timers run in a worker created from a blob.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; \
     connect-src 'self'; img-src * data: blob:; media-src 'self' blob:; worker-src blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves `/meet` and the paths below it.
pub(crate) fn router() -> Router {
    serving(if EMBEDDED.is_empty() {
        ABSENT
    } else {
        EMBEDDED
    })
}

fn serving(files: &'static [File]) -> Router {
    let page = move || async move { answer(files, PAGE) };
    let file = move |Path(name): Path<String>| async move { answer(files, &name) };
    Router::new()
        .route("/meet", get(page))
        .route("/meet/", get(page))
        .route("/meet/{*file}", get(file))
}

fn answer(files: &'static [File], name: &str) -> Response {
    // Names are looked up in this table only, so path traversal is impossible.
    match files.iter().find(|file| file.name == name) {
        Some(file) => with_headers(file),
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}

fn with_headers(file: &'static File) -> Response {
    let mut response = file.bytes.into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static(kind(file.name));
    headers.insert(header::CONTENT_TYPE, kind);
    let life = if file.is_named_by_content {
        "public, max-age=31536000, immutable"
    } else {
        // The URL may contain a token, so the response must not be cached.
        "no-store"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(life));
    if file.is_gzip {
        // Every browser accepts gzip; other clients can use `curl --compressed`.
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("txt") => "text/plain; charset=utf-8",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    static BUILT: &[File] = &[
        File {
            name: PAGE,
            is_gzip: false,
            is_named_by_content: false,
            bytes: b"<!doctype html>",
        },
        File {
            name: "meet-AAAA.js",
            is_gzip: true,
            is_named_by_content: true,
            bytes: b"compressed",
        },
    ];

    async fn get(files: &'static [File], path: &str) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (head, body) = serving(files).oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, body.to_vec())
    }

    #[tokio::test]
    async fn the_page_is_never_cached_and_sends_no_referrer() {
        for path in [
            "/meet",
            "/meet/",
            "/meet?authToken=eyJ.e30.x",
            "/meet/?video=1",
        ] {
            let (status, headers, body) = get(BUILT, path).await;
            assert_eq!(status, 200, "{path}");
            assert_eq!(body, BUILT[0].bytes, "{path}");
            assert_eq!(headers["content-type"], "text/html; charset=utf-8");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["referrer-policy"], "no-referrer");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert!(!headers.contains_key("content-encoding"));
        }
    }

    #[tokio::test]
    async fn the_page_may_load_scripts_and_connect_only_to_its_server() {
        let (_, headers, _) = get(BUILT, "/meet").await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        let of = |directive: &str| {
            policy
                .split(';')
                .find_map(|rule| rule.trim().strip_prefix(directive)?.strip_prefix(' '))
        };
        assert_eq!(of("default-src"), Some("'none'"));
        assert_eq!(of("script-src"), Some("'self'"));
        assert_eq!(of("connect-src"), Some("'self'"));
        assert_eq!(of("frame-ancestors"), Some("'none'"));
    }

    #[tokio::test]
    async fn a_file_with_a_content_hash_may_be_cached_forever() {
        let (status, headers, body) = get(BUILT, "/meet/meet-AAAA.js").await;
        assert_eq!(status, 200);
        assert_eq!(body, b"compressed");
        assert_eq!(headers["content-type"], "text/javascript; charset=utf-8");
        assert_eq!(headers["content-encoding"], "gzip");
        let life = "public, max-age=31536000, immutable";
        assert_eq!(headers["cache-control"], life);
    }

    #[tokio::test]
    async fn nothing_but_the_files_of_the_page_is_reachable() {
        for path in [
            "/meet/meet-BBBB.js",
            "/meet/meet-AAAA.js.gz",
            "/meet/../Cargo.toml",
            "/meet/..%2f..%2fCargo.toml",
            "/meet/%2e%2e/%2e%2e/etc/passwd",
            "/meet//etc/passwd",
            "/meet/.gitkeep",
            "/meet/%ff",
        ] {
            let (status, _, body) = get(BUILT, path).await;
            assert!(status.is_client_error(), "{path}: {status}");
            assert!(body.len() < 200, "{path}");
        }
    }

    #[tokio::test]
    async fn without_an_embedded_page_instructions_are_served() {
        let (status, headers, body) = get(ABSENT, "/meet").await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert!(body.contains("scripts/build-page"), "{body}");
        let (_, rest) = body.split_once("rel=\"stylesheet\" href=\"").unwrap();
        let (sheet, _) = rest.split_once('"').unwrap();
        assert_eq!(get(ABSENT, sheet).await.0, 200);
    }

    #[tokio::test]
    async fn every_file_referenced_by_the_embedded_page_is_embedded() {
        let Some(page) = EMBEDDED.iter().find(|file| file.name == PAGE) else {
            assert!(EMBEDDED.is_empty(), "files are embedded without a page");
            return;
        };
        let page = std::str::from_utf8(page.bytes).unwrap();
        let named: Vec<&str> = page
            .split('"')
            .filter(|text| text.starts_with("/meet/"))
            .collect();
        assert_eq!(named.len(), 2, "a script and a style sheet");
        for path in named {
            assert_eq!(get(EMBEDDED, path).await.0, 200, "{path}");
        }
    }
}

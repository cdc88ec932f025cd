//! `/meet`: a page that joins a meeting with the official SDK and UI kit.
//!
//! Its files are made by `scripts/build-page` and embedded by the build script. A binary that was
//! built without them says how to get them.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

/// One file of the page.
#[derive(Debug, Clone, Copy)]
struct File {
    /// Its name under `/meet/`, without `.gz`.
    name: &'static str,
    /// Whether `bytes` are compressed.
    is_gzip: bool,
    /// Whether its name changes with its content.
    is_named_by_content: bool,
    bytes: &'static [u8],
}

static EMBEDDED: &[File] = include!(concat!(env!("OUT_DIR"), "/meeting_page.rs"));

/// The page itself.
const PAGE: &str = "meet.html";

/// The page when nothing is embedded.
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

/// What the page may do. It talks to its own server only; nothing goes to Cloudflare or Google.
/// Pictures of participants may be anywhere. The UI kit sets styles inline, and its timers run in
/// a worker made from a blob.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; \
     connect-src 'self'; img-src * data: blob:; media-src 'self' blob:; worker-src blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves `/meet` and what is under it.
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
    // The only way from a name to bytes is this table: there is no path to walk out of.
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
        // Also a token may stand in the address: nobody is to keep an answer to it.
        "no-store"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(life));
    if file.is_gzip {
        // Every browser takes it; whoever does not can ask `curl --compressed`.
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
    async fn the_page_is_never_kept_and_tells_nobody_its_address() {
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
    async fn the_page_may_run_no_script_but_its_own_and_ask_no_other_server() {
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
    async fn a_file_that_is_named_by_its_content_may_be_kept_for_ever() {
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
            assert!(status.is_client_error(), "{path} was answered {status}");
            assert!(body.len() < 200, "{path}");
        }
    }

    #[tokio::test]
    async fn without_the_page_it_says_how_to_get_it() {
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
    async fn every_file_that_the_embedded_page_names_is_embedded() {
        let Some(page) = EMBEDDED.iter().find(|file| file.name == PAGE) else {
            assert!(EMBEDDED.is_empty(), "files without a page");
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

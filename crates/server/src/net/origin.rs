//! What this server is called by who calls it.

use http::uri::Authority;
use http::{Extensions, HeaderMap, header};

use super::{Scheme, ViaTrustedProxy};
use crate::http::ApiError;

/// The scheme and host that a request came to, for links back: `https://api.example.com:8443`.
///
/// # Errors
/// 400 when the request does not name a host.
pub(crate) fn origin(headers: &HeaderMap, extensions: &Extensions) -> Result<String, ApiError> {
    let scheme = extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http);
    let is_trusted = extensions.get::<ViaTrustedProxy>().is_some();
    let trusted = |name| forwarded(headers, name).filter(|_| is_trusted);
    let scheme = match trusted("x-forwarded-proto") {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => scheme,
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = trusted("x-forwarded-host").or(host);
    let host = host
        .and_then(|host| host.parse::<Authority>().ok())
        .filter(|host| !host.as_str().contains('@'))
        .ok_or_else(|| ApiError::bad_request("the Host header names no host"))?;
    Ok(format!("{}://{host}", scheme.as_str()))
}

/// What the proxy nearest to the client said.
fn forwarded<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let said = headers.get(name)?.to_str().ok()?;
    said.split(',').next().map(str::trim)
}

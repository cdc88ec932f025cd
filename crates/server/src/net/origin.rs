//! The origin by which clients address this server.

use http::uri::Authority;
use http::{Extensions, HeaderMap, header};

use super::{Scheme, ViaTrustedProxy};
use crate::http::ApiError;

/// Returns the scheme and host of a request, for links to this server:
/// `https://api.example.com:8443`.
///
/// # Errors
/// 400 when the request has no valid host.
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
        .ok_or_else(|| ApiError::bad_request("the Host header is missing or invalid"))?;
    Ok(format!("{}://{host}", scheme.as_str()))
}

/// The value set by the proxy nearest to the client.
fn forwarded<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim)
}

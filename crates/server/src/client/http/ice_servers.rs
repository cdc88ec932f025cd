//! GET /iceservers: what browsers may use to find a way through their network.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::header;
use http::uri::Authority;
use parlor_sfu::{Media, Relay};
use serde::Serialize;

use super::{json, visitor};
use crate::config::{IceServer, Urls};
use crate::http::ApiError;
use crate::net::Scheme;
use crate::state::Parlor;

/// In a form of its own: neither in `data` nor with the names of the other answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Servers<'p> {
    success: bool,
    ice_servers: Vec<Cow<'p, IceServer>>,
}

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    let joining = visitor(parlor, request.headers()).await?;
    let mut ice_servers = parlor
        .edge
        .ice_servers
        .iter()
        .map(Cow::Borrowed)
        .collect::<Vec<_>>();
    if let Some(relay) = parlor.edge.media.as_ref().and_then(Media::relay) {
        // By person and not by credentials, so that fetching them again makes nobody two.
        let who = joining.participant.id.to_string();
        ice_servers.extend(own(relay, &who, tls_host(&request)).map(Cow::Owned));
    }
    Ok(json(&Servers {
        success: true,
        ice_servers,
    }))
}

/// This server's own TURN, for networks that let nothing else through. There is no STUN: clients
/// need not know their own address, for the server learns it (docs/spec/media.md 9.4). TURN over UDP is
/// not told: whoever can reach it can reach the media port directly, which is the same one, and
/// Chromium hears nothing but TURN from an address that it was told is a TURN server.
fn own(relay: &Relay, who: &str, tls_host: Option<String>) -> Option<IceServer> {
    let tcp = nearest(relay.tcp_addresses()).map(|address| format!("turn:{address}?transport=tcp"));
    let tls = tls_host.map(|host| format!("turns:{host}?transport=tcp"));
    let urls = [tcp, tls].into_iter().flatten().collect::<Vec<_>>();
    if urls.is_empty() {
        return None;
    }
    let credentials = relay.credentials(Instant::now(), who);
    Some(IceServer {
        urls: Urls::Several(urls),
        username: Some(credentials.username),
        credential: Some(credentials.password),
    })
}

/// The address that most clients reach. One is enough: each is another allocation for every
/// client, and browsers grow slow with many.
fn nearest(addresses: &[SocketAddr]) -> Option<&SocketAddr> {
    addresses
        .iter()
        .min_by_key(|address| (address.ip().is_loopback(), address.is_ipv6()))
}

/// What the client called this server when it came over TLS, with the port: TURN over TLS is
/// there, too, and the certificate has that name. `None` if a proxy ended the TLS.
fn tls_host(request: &Request) -> Option<String> {
    if request.extensions().get::<Scheme>() != Some(&Scheme::Https) {
        return None;
    }
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let host: Authority = host.parse().ok()?;
    if host.as_str().contains('@') {
        return None;
    }
    let port = host.port_u16().unwrap_or(443);
    Some(format!("{}:{port}", host.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(scheme: Scheme, host: &str) -> Option<String> {
        let request = Request::builder().header(header::HOST, host);
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(scheme);
        tls_host(&request)
    }

    #[test]
    fn turn_over_tls_is_where_the_client_came_over_tls() {
        let https = |host| asked(Scheme::Https, host);
        assert_eq!(
            https("api.calls.example:8443").as_deref(),
            Some("api.calls.example:8443")
        );
        assert_eq!(
            https("api.calls.example").as_deref(),
            Some("api.calls.example:443")
        );
        assert_eq!(https("[::1]:8443").as_deref(), Some("[::1]:8443"));
        assert_eq!(https("me@calls.example"), None);
        assert_eq!(https("no host"), None);
        assert_eq!(asked(Scheme::Http, "api.calls.example"), None);
    }

    #[test]
    fn one_address_is_told_which_others_can_reach() {
        let addresses = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<SocketAddr>>()
        };
        let all = addresses(&[
            "127.0.0.1:1",
            "[2001:db8::1]:1",
            "192.0.2.1:1",
            "192.0.2.2:1",
        ]);
        assert_eq!(nearest(&all), Some(&all[2]));
        assert_eq!(nearest(&all[..2]), Some(&all[1]));
        assert_eq!(nearest(&all[..1]), Some(&all[0]));
        assert_eq!(nearest(&[]), None);
    }
}

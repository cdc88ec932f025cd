//! GET /iceservers: the ICE servers that browsers may use.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::header;
use http::uri::Authority;
use parlor_sfu::{Media, Relay};
use serde::Serialize;

use super::{authenticate, json};
use crate::config::{IceServer, Urls};
use crate::http::ApiError;
use crate::net::Scheme;
use crate::state::ServerState;

/// This response has neither a `data` member nor the usual field names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Servers<'p> {
    success: bool,
    ice_servers: Vec<Cow<'p, IceServer>>,
}

pub(super) async fn handle(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    let joining = authenticate(state, request.headers()).await?;
    let mut ice_servers = state
        .edge
        .ice_servers
        .iter()
        .map(Cow::Borrowed)
        .collect::<Vec<_>>();
    if let Some(relay) = state.edge.media.as_ref().and_then(Media::relay) {
        // Credentials are per participant, so that fetching them again does not create a second
        // TURN user.
        let participant = joining.participant.id.to_string();
        ice_servers.extend(turn_server(relay, &participant, tls_host(&request)).map(Cow::Owned));
    }
    Ok(json(&Servers {
        success: true,
        ice_servers,
    }))
}

/// Returns this server's own TURN addresses, for networks that block everything else. STUN is not
/// offered: clients need not know their own address, because the server learns it
/// (docs/spec/media.md 9.4). TURN over UDP is not offered either: a client that can reach it can
/// reach the media port directly, since both are the same port, and Chromium accepts only TURN
/// traffic from an address that is listed as a TURN server.
fn turn_server(relay: &Relay, participant: &str, tls_host: Option<String>) -> Option<IceServer> {
    let tcp = most_reachable(relay.tcp_addresses())
        .map(|address| format!("turn:{address}?transport=tcp"));
    let tls = tls_host.map(|host| format!("turns:{host}?transport=tcp"));
    let urls = [tcp, tls].into_iter().flatten().collect::<Vec<_>>();
    if urls.is_empty() {
        return None;
    }
    let credentials = relay.credentials(Instant::now(), participant);
    Some(IceServer {
        urls: Urls::Several(urls),
        username: Some(credentials.username),
        credential: Some(credentials.password),
    })
}

/// Returns the address that most clients can reach. One is enough: each causes another allocation
/// per client, and browsers become slow with many.
fn most_reachable(addresses: &[SocketAddr]) -> Option<&SocketAddr> {
    addresses
        .iter()
        .min_by_key(|address| (address.ip().is_loopback(), address.is_ipv6()))
}

/// Returns the host and port that the client used to connect over TLS: TURN over TLS has the same
/// address and certificate. Returns `None` if a proxy terminated TLS.
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

    fn tls_host_of(scheme: Scheme, host: &str) -> Option<String> {
        let request = Request::builder().header(header::HOST, host);
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(scheme);
        tls_host(&request)
    }

    #[test]
    fn turn_over_tls_has_the_address_of_the_https_request() {
        let https = |host| tls_host_of(Scheme::Https, host);
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
        assert_eq!(tls_host_of(Scheme::Http, "api.calls.example"), None);
    }

    #[test]
    fn the_address_that_most_clients_can_reach_is_offered() {
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
        assert_eq!(most_reachable(&all), Some(&all[2]));
        assert_eq!(most_reachable(&all[..2]), Some(&all[1]));
        assert_eq!(most_reachable(&all[..1]), Some(&all[0]));
        assert_eq!(most_reachable(&[]), None);
    }
}

//! The client's address behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::config::Settings;

/// The address of a request's client: the socket's address, or the address that a trusted proxy has
/// forwarded. An extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// An extension of requests that a trusted proxy has forwarded, whose `X-Forwarded-…` headers can
/// be trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ViaTrustedProxy;

/// The networks of trusted proxies.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    proxy_protocol: bool,
}

impl TrustedProxies {
    /// Reads the settings.
    ///
    /// # Errors
    /// When an entry is neither a network nor an address, or the PROXY protocol is enabled without
    /// trusted proxies.
    pub fn from_settings(settings: &Settings) -> anyhow::Result<Self> {
        let proxy_protocol = settings.proxy_protocol.unwrap_or_default();
        let proxies = match &settings.trusted_proxies {
            Some(networks) => Self::parse(networks.iter().map(String::as_str))?,
            None if settings.trust_forwarded.unwrap_or_default() => Self::loopback(),
            None => {
                anyhow::ensure!(!proxy_protocol, "--proxy-protocol needs --trusted-proxies");
                Self::default()
            }
        };
        Ok(proxies.with_proxy_protocol(proxy_protocol))
    }

    /// Parses networks or single addresses.
    ///
    /// # Errors
    /// When an entry is neither a network nor an address.
    pub fn parse<'t>(networks: impl IntoIterator<Item = &'t str>) -> anyhow::Result<Self> {
        let read = |text: &str| {
            let text = text.trim();
            let net = text.parse::<IpNet>().ok();
            net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
                .ok_or_else(|| {
                    anyhow::anyhow!(
                        "--trusted-proxies {text}: must be a network such as 10.0.0.0/8 or an address"
                    )
                })
        };
        let networks = networks.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self {
            networks,
            proxy_protocol: false,
        })
    }

    /// Trusts the proxies of this host.
    pub fn loopback() -> Self {
        Self::parse(["127.0.0.0/8", "::1"]).expect("both are networks")
    }

    /// Sets whether connections of the proxies begin with a PROXY protocol header.
    #[must_use]
    pub fn with_proxy_protocol(self, proxy_protocol: bool) -> Self {
        Self {
            proxy_protocol,
            ..self
        }
    }

    /// Whether connections from this address begin with a PROXY protocol header.
    pub(crate) fn speaks_proxy_protocol(&self, address: IpAddr) -> bool {
        self.proxy_protocol && self.trusts(address)
    }

    /// Whether the address belongs to a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|net| net.contains(&address))
    }

    /// Returns the client of a request, from its connection's peer and its `X-Forwarded-For`.
    /// Entries are evaluated from the last one, which the nearest proxy has added, for as long as
    /// the address that added them is trusted. Entries before that are untrusted input. If no entry
    /// is an address, the proxy itself is the client.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = headers.get_all("x-forwarded-for").into_iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for entry in entries {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = entry_address(entry.trim_ascii()) else {
                break;
            };
            client = address;
        }
        client
    }
}

/// Parses an address with or without a port.
fn entry_address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(entry).parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_trusted_when_they_are_named() {
        let of = |trust: bool, networks: Option<&str>| {
            let settings = Settings {
                trust_forwarded: Some(trust),
                trusted_proxies: networks.map(|networks| vec![networks.to_owned()]),
                proxy_protocol: Some(networks.is_some()),
                ..Settings::default()
            };
            let trusts = |proxies: TrustedProxies| {
                ["127.0.0.1", "::1", "10.0.0.1"].map(|peer| proxies.trusts(peer.parse().unwrap()))
            };
            TrustedProxies::from_settings(&settings).map(trusts)
        };
        assert_eq!(of(false, None).unwrap(), [false; 3]);
        assert_eq!(of(true, None).unwrap(), [true, true, false]);
        assert_eq!(of(true, Some("10.0.0.0/8")).unwrap(), [false, false, true]);
        assert_eq!(of(false, Some("10.0.0.0/8")).unwrap(), [false, false, true]);
        assert!(of(false, Some("nowhere")).is_err());
        let alone = Settings {
            proxy_protocol: Some(true),
            ..Settings::default()
        };
        assert!(TrustedProxies::from_settings(&alone).is_err());
    }

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let trusted = TrustedProxies::parse(trusted.iter().copied()).unwrap();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        trusted.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client(&[], "127.0.0.1", &["192.0.2.1"]), "127.0.0.1");
        let inner = &["10.0.0.0/8"];
        assert_eq!(client(inner, "192.0.2.9", &["192.0.2.1"]), "192.0.2.9");
        assert_eq!(client(inner, "10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client(inner, "::ffff:10.0.0.1", &["192.0.2.1"]),
            "192.0.2.1"
        );
    }

    #[test]
    fn entries_sent_by_the_client_are_not_believed() {
        let inner = &["10.0.0.0/8"];
        let forwarded = &["203.0.113.1, 192.0.2.1"];
        assert_eq!(client(inner, "10.0.0.1", forwarded), "192.0.2.1");
        let lines = &["203.0.113.1", "198.51.100.1, 192.0.2.1"];
        assert_eq!(client(inner, "10.0.0.1", lines), "192.0.2.1");
        let chain = &["203.0.113.1, 192.0.2.1, 10.0.0.2"];
        assert_eq!(client(inner, "10.0.0.1", chain), "192.0.2.1");
    }

    #[test]
    fn bytes_that_are_not_text_do_not_affect_other_entries() {
        let trusted = TrustedProxies::parse(["127.0.0.1"]).unwrap();
        let client = |lines: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                let line = http::HeaderValue::from_bytes(line).unwrap();
                headers.append("x-forwarded-for", line);
            }
            let client = trusted.client("127.0.0.1".parse().unwrap(), &headers);
            client.to_string()
        };
        assert_eq!(client(&[b"\xff, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&[b"\xff", b"192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&[b"192.0.2.2", b"\xc3\xa4,192.0.2.1 "]), "192.0.2.1");
        assert_eq!(client(&[b"192.0.2.1, \xff"]), "127.0.0.1");
    }

    #[test]
    fn entries_may_have_ports_and_may_be_invalid() {
        let all = &["127.0.0.1"];
        for (forwarded, client_is) in [
            ("192.0.2.1:5000", "192.0.2.1"),
            ("[2001:db8::1]:5000", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("unknown", "127.0.0.1"),
            ("", "127.0.0.1"),
            ("192.0.2.1, _hidden", "127.0.0.1"),
        ] {
            assert_eq!(
                client(all, "127.0.0.1", &[forwarded]),
                client_is,
                "{forwarded}"
            );
        }
    }

    #[test]
    fn a_network_is_a_network_or_an_address() {
        assert!(TrustedProxies::parse(["::1", "fd00::/8", " 10.1.2.3"]).is_ok());
        for wrong in ["", "10.0.0.0/33", "proxy.example"] {
            let error = TrustedProxies::parse([wrong]).unwrap_err().to_string();
            assert!(error.contains("--trusted-proxies"), "{error}");
        }
    }
}

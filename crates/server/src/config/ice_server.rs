//! The `--ice-server` setting.

use serde::{Deserialize, Serialize};

/// An ICE server, as a browser's `RTCIceServer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    pub(crate) urls: Urls,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credential: Option<String>,
}

/// One URL or a list of URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Urls {
    One(String),
    Several(Vec<String>),
}

impl IceServer {
    /// Parses a URL, a JSON object, or a JSON array of objects.
    pub fn read(text: &str) -> Option<Vec<Self>> {
        let text = text.trim();
        let servers = if text.starts_with('[') {
            serde_json::from_str(text).ok()?
        } else if text.starts_with('{') {
            vec![serde_json::from_str(text).ok()?]
        } else {
            vec![Self {
                urls: Urls::One(text.to_owned()),
                username: None,
                credential: None,
            }]
        };
        servers.iter().all(Self::is_valid).then_some(servers)
    }

    /// Whether every URL has a scheme that browsers accept. Otherwise `RTCPeerConnection` throws,
    /// and the client cannot join a call at all.
    fn is_valid(&self) -> bool {
        let urls = match &self.urls {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Several(urls) => urls,
        };
        let known = ["stun:", "stuns:", "turn:", "turns:"];
        let is_known = |url: &String| known.iter().any(|scheme| url.starts_with(scheme));
        !urls.is_empty() && urls.iter().all(is_known)
    }
}

//! GET /iceservers: what browsers may use to find a way through their network.

use axum::extract::Request;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{json, visitor};
use crate::api::ApiError;
use crate::parlor::Parlor;

/// An ICE server in the form of a browser's `RTCIceServer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    urls: Urls,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Several(Vec<String>),
}

impl IceServer {
    /// Reads one or several: a URL, a JSON object, or a JSON list of objects.
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
        servers.iter().all(Self::is_sound).then_some(servers)
    }

    /// A browser throws at a URL of another scheme, and then has no call at all.
    fn is_sound(&self) -> bool {
        let urls = match &self.urls {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Several(urls) => urls,
        };
        let known = ["stun:", "stuns:", "turn:", "turns:"];
        let good = |url: &String| known.iter().any(|scheme| url.starts_with(scheme));
        !urls.is_empty() && urls.iter().all(good)
    }
}

/// In a form of its own: neither in `data` nor with the names of the other answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Servers<'p> {
    success: bool,
    ice_servers: &'p [IceServer],
}

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    visitor(parlor, request.headers()).await?;
    Ok(json(&Servers {
        success: true,
        ice_servers: &parlor.edge.ice_servers,
    }))
}

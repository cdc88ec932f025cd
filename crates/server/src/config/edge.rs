//! The settings of what clients reach: HTTPS, media, files, rooms.

use std::time::Duration;

use parlor_live::{Limits, Rate};

use super::Settings;
use crate::client_api::IceServer;

/// Connections of media, when nobody says how many.
pub(super) const MEDIA_TRANSPORTS: usize = 20_000;
/// How long a connection of media may be without its peer.
const MEDIA_PATIENCE: Duration = Duration::from_secs(60);

impl Settings {
    /// The address to serve HTTPS on, if it is served.
    pub fn tls_listen(&self) -> Option<String> {
        match self.tls_listen.as_deref() {
            Some("off") => None,
            Some(address) => Some(address.to_owned()),
            None => Some(self.free_port().unwrap_or_else(|| "localhost:8443".into())),
        }
    }

    /// The UDP address of the media plane.
    pub fn media_listen(&self) -> String {
        let named = self.media_listen.clone();
        named.unwrap_or_else(|| self.free_port().unwrap_or_else(|| "0.0.0.0:8789".into()))
    }

    /// What the media plane is started with.
    ///
    /// # Errors
    /// When an address is not an IP address and a port.
    pub fn media(&self) -> anyhow::Result<parlor_sfu::Config> {
        let listen = self.media_listen();
        let read = |address: &str| {
            // Who wants a free port may have named the host: `localhost:0`.
            let address = address.trim().replace("localhost", "127.0.0.1");
            address.parse().map_err(|_| {
                anyhow::anyhow!("--media-listen {address}: takes an IP address and a port")
            })
        };
        Ok(parlor_sfu::Config {
            bind: listen.split(',').map(read).collect::<Result<_, _>>()?,
            public: self.media_address.clone().unwrap_or_default(),
            max_transports: self.media_transports.unwrap_or(MEDIA_TRANSPORTS),
            connect_timeout: MEDIA_PATIENCE,
        })
    }

    /// Whoever lets the system choose a port for HTTP, as tests do, wants no fixed port elsewhere.
    fn free_port(&self) -> Option<String> {
        self.listen()
            .ends_with(":0")
            .then(|| self.listen().to_owned())
    }

    /// The bounds of each live meeting.
    pub fn room_limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            grace_ms: i64::from(self.reconnect_grace_secs()) * 1000,
            chat: self.chat_per_minute.map_or(default.chat, Rate::per_minute),
            peers: self.room_peers.unwrap_or(default.peers),
            ..default
        }
    }

    pub(super) fn reconnect_grace_secs(&self) -> u32 {
        self.reconnect_grace_secs.unwrap_or(45)
    }

    /// What browsers are told about ICE servers.
    ///
    /// # Errors
    /// When one is neither a URL of an ICE server nor JSON of one or several.
    pub fn ice_servers(&self) -> anyhow::Result<Vec<IceServer>> {
        let mut servers = Vec::new();
        for text in self.ice_server.iter().flatten() {
            let read = IceServer::read(text);
            // The text may hold a credential, so the error does not show it.
            let message = "--ice-server takes a URL such as stun:stun.example.com:3478, or JSON \
                 such as {\"urls\":\"turn:…\",\"username\":\"…\",\"credential\":\"…\"}";
            servers.extend(read.ok_or_else(|| anyhow::anyhow!(message))?);
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_for_http_means_free_ports_for_all() {
        let free = Settings {
            listen: Some("127.0.0.1:0".into()),
            ..Settings::default()
        };
        assert_eq!(free.tls_listen().as_deref(), Some("127.0.0.1:0"));
        assert_eq!(free.media_listen(), "127.0.0.1:0");
        let plain = Settings::default();
        assert_eq!(plain.tls_listen().as_deref(), Some("localhost:8443"));
        assert_eq!(plain.media().unwrap().bind[0].port(), 8789);
        let off = Settings {
            tls_listen: Some("off".into()),
            ..Settings::default()
        };
        assert_eq!(off.tls_listen(), None);
    }

    #[test]
    fn ice_servers_are_urls_or_json() {
        let of = |text: &str| {
            Settings {
                ice_server: Some(vec![text.into()]),
                ..Settings::default()
            }
            .ice_servers()
        };
        assert_eq!(of("stun:a.example").unwrap().len(), 1);
        let json =
            r#"[{"urls":["turn:a.example","turns:a.example"],"username":"u","credential":"c"}]"#;
        let servers = serde_json::to_value(of(json).unwrap()).unwrap();
        assert_eq!(
            servers,
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
        for wrong in [
            "",
            "http://a.example",
            "{}",
            r#"{"urls":"ftp:x"}"#,
            r#"{"urls":[]}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        let secret = of(r#"{"urls":"turn:x","credential":"hunter2","#).unwrap_err();
        assert!(!secret.to_string().contains("hunter2"));
    }

    #[test]
    fn the_bounds_of_rooms_can_be_set() {
        let settings = Settings {
            reconnect_grace_secs: Some(5),
            chat_per_minute: Some(7),
            room_peers: Some(9),
            ..Settings::default()
        };
        let limits = settings.limits().unwrap().room;
        assert_eq!((limits.grace_ms, limits.peers), (5000, 9));
        assert_eq!(limits.chat, Rate::per_minute(7));
        assert_eq!(Settings::default().room_limits(), Limits::default());
    }
}

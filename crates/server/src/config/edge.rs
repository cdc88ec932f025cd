//! Settings of the client-facing parts: HTTPS, media and meetings.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use parlor_live::{Limits, Rate};
use parlor_sfu::RelayConfig;
use tokio::sync::Semaphore;

use super::{IceServer, SecretText, Settings};
use crate::limits::{ConnectionLimits, UnsentLimits};

/// Maximum timeout, in seconds.
const DAY_SECS: u64 = 24 * 60 * 60;
/// Default maximum number of media transports.
pub(super) const MEDIA_TRANSPORTS: usize = 28_000;
/// Default maximum number of media transports of one meeting: two for each of 10,000 clients.
const MEDIA_TRANSPORTS_PER_MEETING: usize = 20_000;
/// Default maximum number of media transports of one app: one such meeting and some smaller ones.
const MEDIA_TRANSPORTS_PER_APP: usize = 24_000;
/// Default maximum number of media transports of one participant: two for each of 20 clients, and
/// 20 more for clients that reconnect before their old transports are closed.
const MEDIA_TRANSPORTS_PER_PARTICIPANT: usize = 60;
/// How long a media transport may wait for its peer to connect.
const MEDIA_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

impl Settings {
    /// The address to serve HTTPS on, or `None` when HTTPS is off.
    pub fn tls_listen(&self) -> Option<String> {
        match self.tls_listen.as_deref() {
            Some("off") => None,
            Some(address) => Some(address.to_owned()),
            None => Some(
                self.ephemeral_address()
                    .unwrap_or_else(|| "localhost:8443".into()),
            ),
        }
    }

    /// The address to serve metrics on, or `None` when metrics are off.
    pub fn metrics_listen(&self) -> Option<String> {
        match self.metrics_listen.as_deref() {
            Some("off") => None,
            Some(address) => Some(address.to_owned()),
            None => Some(
                self.ephemeral_address()
                    .unwrap_or_else(|| "localhost:8788".into()),
            ),
        }
    }

    /// The limits on connections.
    pub fn connection_limits(&self) -> ConnectionLimits {
        const MIB: usize = 1024 * 1024;
        let unsent = UnsentLimits {
            connection: self.unsent_bytes_per_connection.unwrap_or(64 * MIB),
            address: self.unsent_bytes_per_address.unwrap_or(128 * MIB),
            server: self.unsent_bytes.unwrap_or(512 * MIB),
        };
        ConnectionLimits {
            header: Duration::from_secs(self.header_secs.unwrap_or(30).min(DAY_SECS)),
            connections: self
                .connections
                .unwrap_or(65_536)
                .min(Semaphore::MAX_PERMITS),
            per_address: self.connections_per_address.unwrap_or(8192),
            unsent,
            shutdown: Duration::from_secs(self.shutdown_secs.unwrap_or(30).min(DAY_SECS)),
        }
    }

    /// The UDP addresses of the media plane, separated by commas.
    pub fn media_listen(&self) -> String {
        let configured = self.media_listen.clone();
        configured.unwrap_or_else(|| {
            self.ephemeral_address()
                .unwrap_or_else(|| "0.0.0.0:8789".into())
        })
    }

    /// The configuration of the media plane.
    ///
    /// # Errors
    /// When an address is not an IP address with a port.
    pub fn media(&self, secret: parlor_sfu::Secret) -> anyhow::Result<parlor_sfu::Config> {
        let listen = self.media_listen();
        Ok(parlor_sfu::Config {
            bind: socket_addresses("--media-listen", &listen)?,
            public: self.media_address.clone().unwrap_or_default(),
            max_transports: self.media_transports.unwrap_or(MEDIA_TRANSPORTS),
            shares: self.media_shares(),
            relay: Some(self.relay()?),
            threads: self.media_threads(),
            max_consumers: self.room_limits().consumers,
            connect_timeout: MEDIA_CONNECT_TIMEOUT,
            secret,
        })
    }

    /// Maximum number of media transports of each participant, meeting and app.
    pub(super) fn media_shares(&self) -> parlor_sfu::Shares {
        parlor_sfu::Shares {
            participant: self
                .media_transports_per_person
                .unwrap_or(MEDIA_TRANSPORTS_PER_PARTICIPANT),
            meeting: self
                .media_transports_per_meeting
                .unwrap_or(MEDIA_TRANSPORTS_PER_MEETING),
            app: self
                .media_transports_per_app
                .unwrap_or(MEDIA_TRANSPORTS_PER_APP),
        }
    }

    /// The TCP addresses of the media plane, separated by commas.
    pub(super) fn media_tcp_listen(&self) -> String {
        let configured = self.media_tcp_listen.clone();
        configured.unwrap_or_else(|| self.media_listen())
    }

    /// The configuration of media over TCP and TLS.
    ///
    /// # Errors
    /// When an address is not an IP address with a port.
    pub(super) fn relay(&self) -> anyhow::Result<RelayConfig> {
        let default = RelayConfig::default();
        let listen = match self.media_tcp_listen.as_deref() {
            // The media plane uses its UDP ports, which the operating system may not have chosen
            // yet.
            None => None,
            Some("off") => Some(Vec::new()),
            Some(listen) => Some(socket_addresses("--media-tcp-listen", listen)?),
        };
        Ok(RelayConfig {
            listen,
            streams: self.media_tcp_connections.unwrap_or(default.streams),
            streams_per_ip: self.media_tcp_per_address.unwrap_or(default.streams_per_ip),
            ..default
        })
    }

    /// Number of threads that forward media.
    pub(super) fn media_threads(&self) -> usize {
        let all = || thread::available_parallelism().map_or(1, usize::from);
        self.media_threads.unwrap_or_else(all)
    }

    /// The HTTP address if its port is 0, as in tests: then the operating system chooses the ports
    /// of the other listeners as well, unless they are configured.
    fn ephemeral_address(&self) -> Option<String> {
        self.listen()
            .ends_with(":0")
            .then(|| self.listen().to_owned())
    }

    /// The limits of one live meeting.
    pub fn room_limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            grace_ms: i64::from(self.reconnect_grace_secs()) * 1000,
            chat: self.chat_per_minute.map_or(default.chat, Rate::per_minute),
            peers: self.room_peers.unwrap_or(default.peers),
            consumers: self.media_tracks.unwrap_or(default.consumers),
            chat_stored_bytes: self
                .chat_per_meeting_bytes
                .unwrap_or(default.chat_stored_bytes),
            chat_participant_bytes: self
                .chat_per_person_bytes
                .unwrap_or(default.chat_participant_bytes),
            ..default
        }
    }

    pub(super) fn reconnect_grace_secs(&self) -> u32 {
        self.reconnect_grace_secs.unwrap_or(45)
    }

    /// The ICE servers to announce to browsers.
    ///
    /// # Errors
    /// When a value is neither an ICE server URL nor JSON of one or more ICE servers.
    pub fn ice_servers(&self) -> anyhow::Result<Vec<IceServer>> {
        let mut servers = Vec::new();
        for text in self.ice_server.iter().flatten().map(SecretText::expose) {
            let read = IceServer::read(text);
            // The value may contain a credential, so the error does not quote it.
            let message = "--ice-server must be a URL such as stun:stun.example.com:3478, or JSON \
                 such as {\"urls\":\"turn:…\",\"username\":\"…\",\"credential\":\"…\"}";
            servers.extend(read.ok_or_else(|| anyhow::anyhow!(message))?);
        }
        Ok(servers)
    }
}

/// Parses IP addresses with ports, separated by commas.
fn socket_addresses(setting: &str, listen: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let read = |address: &str| {
        // The default is the address of `--listen` if its port is 0, which may name localhost.
        let address = address.trim().replace("localhost", "127.0.0.1");
        address
            .parse()
            .map_err(|_| anyhow::anyhow!("{setting} {address}: must be an IP address with a port"))
    };
    listen.split(',').map(read).collect()
}

#[cfg(test)]
mod tests {
    use parlor_sfu::Secret;

    use super::*;

    #[test]
    fn an_http_port_of_0_makes_the_other_default_ports_0() {
        let free = Settings {
            listen: Some("127.0.0.1:0".into()),
            ..Settings::default()
        };
        assert_eq!(free.tls_listen().as_deref(), Some("127.0.0.1:0"));
        assert_eq!(free.media_listen(), "127.0.0.1:0");
        assert_eq!(free.metrics_listen().as_deref(), Some("127.0.0.1:0"));
        let plain = Settings::default();
        assert_eq!(plain.tls_listen().as_deref(), Some("localhost:8443"));
        assert_eq!(
            plain.media(Secret::ephemeral()).unwrap().bind[0].port(),
            8789
        );
        assert_eq!(plain.metrics_listen().as_deref(), Some("localhost:8788"));
        let off = Settings {
            tls_listen: Some("off".into()),
            metrics_listen: Some("off".into()),
            ..Settings::default()
        };
        assert_eq!((off.tls_listen(), off.metrics_listen()), (None, None));
    }

    #[test]
    fn media_over_tcp_uses_the_udp_addresses_by_default() {
        let of = |listen: Option<&str>| {
            let settings = Settings {
                media_tcp_listen: listen.map(str::to_owned),
                ..Settings::default()
            };
            settings
                .media(Secret::ephemeral())
                .map(|media| media.relay.unwrap().listen)
        };
        assert_eq!(of(None).unwrap(), None);
        assert_eq!(of(Some("off")).unwrap(), Some(vec![]));
        let two = of(Some("192.0.2.1:443, [::]:8789")).unwrap().unwrap();
        assert_eq!(two.len(), 2);
        let error = of(Some("media.example:443")).unwrap_err().to_string();
        assert!(
            error.contains("--media-tcp-listen media.example"),
            "{error}"
        );
        let toml = Settings::default().to_toml().unwrap();
        assert!(toml.contains("media_tcp_listen = \"0.0.0.0:8789\""));
    }

    #[test]
    fn one_app_cannot_use_all_transports_and_the_largest_meeting_fits() {
        let media = Settings::default().media(Secret::ephemeral()).unwrap();
        let clients = Settings::default().room_limits().peers;
        assert!(media.shares.meeting >= 2 * clients);
        assert!(media.shares.app > media.shares.meeting);
        assert!(media.max_transports > media.shares.app);
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
    fn the_limits_of_rooms_can_be_set() {
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

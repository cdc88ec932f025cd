//! The settings. A flag overrides an environment variable, which overrides the TOML file, which
//! overrides the default.

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use clap::ValueEnum;
use parlor_protocol::ids::AccountId;
use parlor_store::DatabaseLocation;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

mod database;
mod edge;
mod ice_server;
mod secret;
mod settings;
mod storage;

pub use self::ice_server::IceServer;
pub(crate) use self::ice_server::Urls;
pub use self::secret::SecretText;
pub use self::settings::Settings;

use edge::MEDIA_TRANSPORTS;

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human-readable on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Human-readable.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Settings(..)")
    }
}

impl Settings {
    /// If `--config` names a TOML file, takes from it the settings that are not set yet.
    ///
    /// # Errors
    /// When the file cannot be read, is not valid TOML, or has an unknown key.
    pub fn with_file(self) -> anyhow::Result<Self> {
        let Some(path) = &self.config else {
            return Ok(self);
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            anyhow::anyhow!("cannot read the settings file {}: {error}", path.display())
        })?;
        // The full error quotes the line, which may contain a secret.
        let file: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            let (path, message) = (path.display(), redact_value(error.message()));
            anyhow::anyhow!("invalid settings file {path}, line {line}: {message}")
        })?;
        Ok(self.or(file))
    }

    /// The address to serve HTTP on.
    pub fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or("localhost:8787")
    }

    /// The location of the database. Creates the data directory and the file of an embedded one.
    ///
    /// # Errors
    /// When `--database` is not a PostgreSQL URL, or the directory or the file cannot be created.
    pub fn database_location(&self) -> anyhow::Result<DatabaseLocation> {
        let url = self.database.as_ref().map(SecretText::expose);
        if let Some(url) = url.filter(|url| !url.is_empty()) {
            let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
            anyhow::ensure!(known, "--database must be a postgres:// URL");
            return Ok(DatabaseLocation::Postgres(url.to_owned()));
        }
        let dir = self.data_dir();
        // The database contains signing keys, so other users must not be able to read it.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                anyhow::anyhow!(
                    "cannot create the data directory {}: {error}",
                    dir.display()
                )
            })?;
        let file = dir.join("parlor.db");
        // SQLite creates its write-ahead log with the mode of this file.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| {
                anyhow::anyhow!("cannot open the database {}: {error}", file.display())
            })?;
        Ok(DatabaseLocation::Sqlite(file))
    }

    /// The location of the database, which must already exist.
    ///
    /// # Errors
    /// When the embedded database does not exist, or when [`Self::database_location`] fails.
    pub fn existing_database_location(&self) -> anyhow::Result<DatabaseLocation> {
        let file = self.data_dir().join("parlor.db");
        let url = self.database.as_ref().map(SecretText::expose);
        let embedded = url.is_none_or(str::is_empty);
        anyhow::ensure!(
            !embedded || file.exists(),
            "there is no database at {}: start the server first, or pass its --data-dir",
            file.display()
        );
        self.database_location()
    }

    /// The limits in effect.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let default = Limits::default();
        let limits = Limits {
            body_bytes: self.body_bytes.unwrap_or(default.body_bytes),
            body_secs: self.body_secs.unwrap_or(default.body_secs),
            token_life_secs: self.token_life_secs.unwrap_or(default.token_life_secs),
            token_life_max_secs: self
                .token_life_max_secs
                .unwrap_or(default.token_life_max_secs),
            requests_per_minute: self
                .requests_per_minute
                .unwrap_or(default.requests_per_minute),
            reject_existing: self.reject_existing.unwrap_or(default.reject_existing),
            upload_bytes: self.upload_bytes.unwrap_or(default.upload_bytes),
            uploads_per_minute: self
                .uploads_per_minute
                .unwrap_or(default.uploads_per_minute),
            file_life_secs: self.file_life_secs.unwrap_or(default.file_life_secs),
            file_life_max_secs: self
                .file_life_max_secs
                .unwrap_or(default.file_life_max_secs),
            socket_bytes: self.socket_bytes.unwrap_or(default.socket_bytes),
            socket_bytes_per_meeting: self
                .socket_bytes_per_meeting
                .unwrap_or(default.socket_bytes_per_meeting),
            quotas: self.quotas(),
            room: self.room_limits(),
            database: self.database_options()?,
        };
        let in_order = (1..=limits.token_life_max_secs).contains(&limits.token_life_secs);
        anyhow::ensure!(
            in_order,
            "token_life_secs must be between 1 and token_life_max_secs"
        );
        anyhow::ensure!(
            limits.token_life_max_secs <= 1 << 33,
            "token_life_max_secs must not exceed 8589934592"
        );
        let in_order = (1..=limits.file_life_max_secs).contains(&limits.file_life_secs);
        anyhow::ensure!(
            in_order && limits.file_life_max_secs <= 1 << 33,
            "file_life_secs must be between 1 and file_life_max_secs, which must not exceed 8589934592"
        );
        Ok(limits)
    }

    /// The account ID and API token of an unattended install, if they are set.
    ///
    /// # Errors
    /// When only one of the two is set, or one of them is malformed.
    pub fn first_account(&self) -> anyhow::Result<Option<(AccountId, String)>> {
        let (account, token) = match (&self.account_id, &self.api_token) {
            (None, None) => return Ok(None),
            (Some(account), Some(token)) => (account, token.expose()),
            _ => anyhow::bail!("PARLOR_ACCOUNT_ID and PARLOR_API_TOKEN must be set together"),
        };
        let account = account
            .parse()
            .map_err(|_| anyhow::anyhow!("PARLOR_ACCOUNT_ID must be 32 hex digits"))?;
        let is_valid = token.chars().count() >= 32
            && token.chars().all(|character| character.is_ascii_graphic());
        anyhow::ensure!(
            is_valid,
            "PARLOR_API_TOKEN must be at least 32 visible ASCII characters"
        );
        Ok(Some((account, token.to_owned())))
    }

    /// The settings in effect as TOML, including defaults, with secrets hidden.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let (limits, connections) = (self.limits()?, self.connection_limits());
        let relay = self.relay()?;
        let effective = Self {
            listen: Some(self.listen().to_owned()),
            tls_listen: Some(self.tls_listen().unwrap_or_else(|| "off".to_owned())),
            metrics_listen: Some(self.metrics_listen().unwrap_or_else(|| "off".to_owned())),
            media_listen: Some(self.media_listen()),
            media_tcp_listen: Some(self.media_tcp_listen()),
            media_tcp_connections: Some(relay.streams),
            media_tcp_per_address: Some(relay.streams_per_ip),
            media_transports: Some(self.media_transports.unwrap_or(MEDIA_TRANSPORTS)),
            media_transports_per_person: Some(self.media_shares().participant),
            media_transports_per_meeting: Some(self.media_shares().meeting),
            media_transports_per_app: Some(self.media_shares().app),
            media_tracks: Some(self.room_limits().consumers),
            media_threads: Some(self.media_threads()),
            upload_bytes: Some(limits.upload_bytes),
            uploads_per_minute: Some(limits.uploads_per_minute),
            file_life_secs: Some(limits.file_life_secs),
            file_life_max_secs: Some(limits.file_life_max_secs),
            files_per_meeting_bytes: Some(limits.quotas.files_per_meeting),
            files_per_app_bytes: Some(limits.quotas.files_per_app),
            files_total_bytes: Some(limits.quotas.files_total),
            file_retention_days: Some(self.file_retention_days.unwrap_or_default()),
            chat_per_meeting_bytes: Some(limits.room.chat_stored_bytes),
            chat_per_person_bytes: Some(limits.room.chat_participant_bytes),
            chat_per_app_bytes: Some(limits.quotas.chat_per_app),
            chat_total_bytes: Some(limits.quotas.chat_total),
            disk_reserve_bytes: Some(limits.quotas.disk_reserve),
            trust_forwarded: Some(self.trust_forwarded.unwrap_or_default()),
            proxy_protocol: Some(self.proxy_protocol.unwrap_or_default()),
            reconnect_grace_secs: Some(self.reconnect_grace_secs()),
            chat_per_minute: Some(limits.room.chat.count),
            room_peers: Some(limits.room.peers),
            socket_bytes: Some(limits.socket_bytes),
            socket_bytes_per_meeting: Some(limits.socket_bytes_per_meeting),
            data_dir: Some(self.data_dir()),
            database_timeout_secs: Some(limits.database.timeout.as_secs()),
            database_scan_secs: Some(limits.database.scan_timeout.as_secs()),
            database_queue: Some(limits.database.queue_units),
            database_queue_bytes: Some(limits.database.queue_bytes),
            log_format: Some(self.log_format.unwrap_or_default()),
            log: Some(self.log.clone().unwrap_or_else(|| "info".to_owned())),
            token_life_secs: Some(limits.token_life_secs),
            token_life_max_secs: Some(limits.token_life_max_secs),
            reject_existing: Some(limits.reject_existing),
            requests_per_minute: Some(limits.requests_per_minute),
            body_bytes: Some(limits.body_bytes),
            body_secs: Some(limits.body_secs),
            header_secs: Some(connections.header.as_secs()),
            connections: Some(connections.connections),
            connections_per_address: Some(connections.per_address),
            unsent_bytes: Some(connections.unsent.server),
            unsent_bytes_per_address: Some(connections.unsent.address),
            unsent_bytes_per_connection: Some(connections.unsent.connection),
            shutdown_secs: Some(connections.shutdown.as_secs()),
            ..self.clone()
        };
        let effective = serde_json::to_value(effective)?;
        let set = effective
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null());
        Ok(set
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect())
    }

    /// The directory of the embedded database and the server's other files.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "data".into())
    }
}

/// Removes the value of a setting, which may be a secret, from an error message such as
/// `invalid type: string "…", expected usize`.
fn redact_value(message: &str) -> String {
    match (message.split_once(": "), message.rfind(", expected")) {
        (Some((kind, _)), Some(expected)) if kind.starts_with("invalid") => {
            format!("{kind}{}", &message[expected..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_flag_overrides_the_file_and_the_file_the_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "listen = \"0.0.0.0:1\"\nbody_bytes = 5").unwrap();
        let flags = Settings {
            config: Some(file.path().into()),
            listen: Some("[::1]:2".into()),
            ..Settings::default()
        };
        let settings = flags.with_file().unwrap();
        assert_eq!(settings.listen(), "[::1]:2");
        assert_eq!(settings.limits().unwrap().body_bytes, 5);
        assert_eq!(
            settings.limits().unwrap().body_secs,
            Limits::default().body_secs
        );
    }

    #[test]
    fn the_error_for_an_unknown_key_names_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "listne = \"x\"").unwrap();
        let flags = Settings {
            config: Some(file.path().into()),
            ..Settings::default()
        };
        assert!(
            flags
                .with_file()
                .unwrap_err()
                .to_string()
                .contains("listne")
        );
    }

    #[test]
    fn an_error_in_the_file_shows_no_value() {
        for line in [
            "databse = \"postgres://u:hunter2@h/d\"",
            "api_token = \"hunter2",
            "body_bytes = \"hunter2\"",
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writeln!(file, "listen = \"0.0.0.0:1\"\n{line}").unwrap();
            let flags = Settings {
                config: Some(file.path().into()),
                ..Settings::default()
            };
            let error = flags.with_file().unwrap_err().to_string();
            assert!(
                error.contains("line 2") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings {
            database: Some("postgres://u:hunter2@h/d".into()),
            api_token: Some("hunter2hunter2".into()),
            ..Settings::default()
        };
        assert!(!settings.to_toml().unwrap().contains("hunter2"));
    }

    #[test]
    fn the_first_account_requires_an_id_and_a_token() {
        let only_id = Settings {
            account_id: Some("0".repeat(32)),
            ..Settings::default()
        };
        assert!(only_id.first_account().is_err());
        let short = Settings {
            api_token: Some("short".into()),
            ..only_id.clone()
        };
        assert!(short.first_account().is_err());
        let good = Settings {
            api_token: Some("x".repeat(32).into()),
            ..only_id
        };
        assert!(good.first_account().unwrap().is_some());
    }
}

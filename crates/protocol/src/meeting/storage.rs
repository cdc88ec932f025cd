//! The `storage_config` of a recording: the caller's own storage for the files.

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::secret::Secret;

/// The caller's own storage for recordings.
///
/// `aws`, `azure` and `digitalocean` require `access_key` and `region`; `auth_method` `KEY`
/// requires `private_key`, `PASSWORD` requires `password`. Secrets are never returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "StorageConfig")]
#[garde(allow_unvalidated)]
pub struct StorageConfig {
    /// Type of storage.
    #[serde(rename = "type")]
    pub kind: StorageType,
    /// Name of the bucket.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Directory in the bucket or on the server.
    #[garde(length(chars, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Host name of the server.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port of the server.
    #[garde(range(min = 1, max = 65_535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// User name for the login.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Region of the bucket.
    #[garde(
        length(chars, max = 255),
        custom(needed(self.kind.has_access_keys(), "type is aws, azure or digitalocean"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Account that owns a `cloudflare` bucket.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Authentication method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<AuthMethod>,
    /// Access key id.
    #[garde(
        dive,
        custom(needed(self.kind.has_access_keys(), "type is aws, azure or digitalocean"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<Secret>,
    /// Secret access key, or the key file of a service account.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Password for the login or for the private key.
    #[garde(
        dive,
        custom(needed(self.auth_method == Some(AuthMethod::Password), "auth_method is PASSWORD"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Private key for the login.
    #[garde(
        dive,
        custom(needed(self.auth_method == Some(AuthMethod::Key), "auth_method is KEY"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
}

impl StorageConfig {
    /// The configuration without its secrets.
    pub(super) fn public(self) -> Self {
        Self {
            access_key: None,
            secret: None,
            password: None,
            private_key: None,
            ..self
        }
    }
}

/// Type of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StorageType")]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// Google Cloud Storage.
    Gcs,
    /// Amazon S3.
    Aws,
    /// Azure Blob Storage.
    Azure,
    /// `DigitalOcean` Spaces.
    DigitalOcean,
    /// An SFTP server.
    Sftp,
    /// Cloudflare R2.
    Cloudflare,
}

impl StorageType {
    fn has_access_keys(self) -> bool {
        matches!(self, Self::Aws | Self::Azure | Self::DigitalOcean)
    }
}

/// Authentication method of a storage server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StorageAuthMethod")]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthMethod {
    /// A private key.
    Key,
    /// A password.
    Password,
}

/// Requires a field if a condition holds.
fn needed<T, C>(is_needed: bool, when: &str) -> impl Fn(&Option<T>, &C) -> garde::Result {
    move |field, _| {
        if is_needed && field.is_none() {
            Err(garde::Error::new(format_args!("required when {when}")))
        } else {
            Ok(())
        }
    }
}

/// The rules of [`needed`] as a schema. They only apply to requests, because responses have no
/// secrets.
pub(super) fn storage_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Option::<StorageConfig>::json_schema(generator);
    if generator.contract().is_deserialize() {
        let rule = |field: &str, words: &[&str], needed: &[&str]| {
            let present = |name: &&str| ((*name).to_owned(), json!({ "type": "string" }));
            let present: Map<_, _> = needed.iter().map(present).collect();
            json!({
                "if": { "required": [field], "properties": { field: { "enum": words } } },
                "then": { "required": needed, "properties": present },
            })
        };
        schema.insert(
            "allOf".to_owned(),
            json!([
                rule(
                    "type",
                    &["aws", "azure", "digitalocean"],
                    &["access_key", "region"]
                ),
                rule("auth_method", &["KEY"], &["private_key"]),
                rule("auth_method", &["PASSWORD"], &["password"]),
            ]),
        );
    }
    schema
}

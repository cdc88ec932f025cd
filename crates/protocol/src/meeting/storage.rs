//! The `storage_config` of a recording: a place of the caller's own for the files.

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::secret::Secret;

/// A place of the caller's own for recordings.
///
/// `aws`, `azure` and `digitalocean` need `access_key` and `region`; `auth_method`
/// `KEY` needs `private_key`, `PASSWORD` needs `password`. Secrets are never answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub struct StorageConfig {
    /// The kind of storage.
    #[serde(rename = "type")]
    pub kind: StorageType,
    /// The name of the bucket.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The folder in it.
    #[garde(length(chars, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The host name of the server.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port of the server.
    #[garde(range(min = 1, max = 65_535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// The user to log in as.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The region of the bucket.
    #[garde(
        length(chars, max = 255),
        custom(needed(self.kind.has_access_keys(), "type is aws, azure or digitalocean"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The account that owns a `cloudflare` bucket.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// How to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<AuthMethod>,
    /// The public half of a key pair.
    #[garde(
        dive,
        custom(needed(self.kind.has_access_keys(), "type is aws, azure or digitalocean"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<Secret>,
    /// The secret half of a key pair, or the key file of a service account.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The password to log in with, or the one that opens the private key.
    #[garde(
        dive,
        custom(needed(self.auth_method == Some(AuthMethod::Password), "auth_method is PASSWORD"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The key to log in with.
    #[garde(
        dive,
        custom(needed(self.auth_method == Some(AuthMethod::Key), "auth_method is KEY"))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
}

impl StorageConfig {
    /// The same without its secrets.
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

/// A kind of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// Google Cloud Storage.
    Gcs,
    /// Amazon S3.
    Aws,
    /// Azure Blob Storage.
    Azure,
    /// Spaces of `DigitalOcean`.
    DigitalOcean,
    /// A server that speaks SFTP.
    Sftp,
    /// Cloudflare R2.
    Cloudflare,
}

impl StorageType {
    fn has_access_keys(self) -> bool {
        matches!(self, Self::Aws | Self::Azure | Self::DigitalOcean)
    }
}

/// How to log in to a storage server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthMethod {
    /// With a private key.
    Key,
    /// With a password.
    Password,
}

/// The rule of a field that has to be there under a condition.
fn needed<T, C>(is_needed: bool, when: &str) -> impl Fn(&Option<T>, &C) -> garde::Result {
    move |field, _| {
        if is_needed && field.is_none() {
            Err(garde::Error::new(format_args!("required when {when}")))
        } else {
            Ok(())
        }
    }
}

/// What [`needed`] says, as a schema. Replies have no secrets, so that it holds for
/// requests only.
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

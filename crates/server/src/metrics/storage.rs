//! What is stored, and what was refused or deleted so that it stays bounded.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Open;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// Metrics of files and of the chat's records.
#[derive(Default)]
pub(crate) struct Storage {
    uploads: Gauge,
    refused_uploads: Family<Reason, Counter>,
    refused_messages: Family<Reason, Counter>,
    deleted_files: Family<Reason, Counter>,
    unknown_files: Gauge,
    stored: Family<What, Gauge>,
    free: Gauge,
}

impl Storage {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "uploads",
            "Files that are being uploaded",
            self.uploads.clone(),
        );
        registry.register(
            "uploads_refused",
            "Uploads that were refused or cut off, by reason",
            self.refused_uploads.clone(),
        );
        registry.register(
            "chat_refused",
            "Chat messages that were refused because of what is stored already, by reason",
            self.refused_messages.clone(),
        );
        registry.register(
            "files_deleted",
            "Files that were deleted in the background, by reason",
            self.deleted_files.clone(),
        );
        registry.register(
            "files_unknown",
            "Files in the storage of apps that the database does not know, when it was compared last",
            self.unknown_files.clone(),
        );
        registry.register_with_unit(
            "stored",
            "What files and chat messages take, of all apps",
            Unit::Bytes,
            self.stored.clone(),
        );
        registry.register_with_unit(
            "disk_free",
            "Free space of the file system of the data directory",
            Unit::Bytes,
            self.free.clone(),
        );
    }

    /// An upload has begun; it is over when the guard goes.
    pub(crate) fn upload_opened(&self) -> Open {
        Open::one_more(&self.uploads)
    }

    /// An upload was refused or cut off.
    pub(crate) fn upload_refused(&self, reason: &'static str) {
        self.refused_uploads.get_or_create(&Reason { reason }).inc();
    }

    /// A chat message was refused because of what is stored already.
    pub(crate) fn message_refused(&self, reason: &'static str) {
        self.refused_messages
            .get_or_create(&Reason { reason })
            .inc();
    }

    /// A file was deleted in the background.
    pub(crate) fn file_deleted(&self, reason: &'static str) {
        self.deleted_files.get_or_create(&Reason { reason }).inc();
    }

    /// So many files in the storage are of apps that the database does not know.
    pub(crate) fn set_unknown(&self, files: i64) {
        self.unknown_files.set(files);
    }

    /// What files and messages take, in bytes.
    pub(crate) fn set_stored(&self, files: i64, chat: i64) {
        for (what, bytes) in [("files", files), ("chat", chat)] {
            self.stored.get_or_create(&What { what }).set(bytes);
        }
    }

    /// The free space of the file system of the data directory, in bytes.
    pub(crate) fn set_free(&self, bytes: u64) {
        self.free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

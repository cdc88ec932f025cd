//! Metrics of stored files and chat messages.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::GaugeGuard;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// Metrics of stored files and chat messages.
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
        registry.register("uploads", "Uploads in progress", self.uploads.clone());
        registry.register(
            "uploads_refused",
            "Uploads rejected or aborted, by reason",
            self.refused_uploads.clone(),
        );
        registry.register(
            "chat_refused",
            "Chat messages rejected because of a quota or low disk space, by reason",
            self.refused_messages.clone(),
        );
        registry.register(
            "files_deleted",
            "Files deleted in the background, by reason",
            self.deleted_files.clone(),
        );
        registry.register(
            "files_unknown",
            "Files in the storage that belong to apps unknown to the database, at the last comparison",
            self.unknown_files.clone(),
        );
        registry.register_with_unit(
            "stored",
            "Storage used by files and chat messages of all apps",
            Unit::Bytes,
            self.stored.clone(),
        );
        registry.register_with_unit(
            "disk_free",
            "Free space on the file system of the data directory",
            Unit::Bytes,
            self.free.clone(),
        );
    }

    /// Counts an upload in progress until the guard is dropped.
    pub(crate) fn upload_opened(&self) -> GaugeGuard {
        GaugeGuard::new(&self.uploads)
    }

    /// Counts an upload that was rejected or aborted.
    pub(crate) fn upload_refused(&self, reason: &'static str) {
        self.refused_uploads.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a chat message that was rejected because of a quota or low disk space.
    pub(crate) fn message_refused(&self, reason: &'static str) {
        self.refused_messages
            .get_or_create(&Reason { reason })
            .inc();
    }

    /// Counts a file that was deleted in the background.
    pub(crate) fn file_deleted(&self, reason: &'static str) {
        self.deleted_files.get_or_create(&Reason { reason }).inc();
    }

    /// Sets the number of files that belong to apps unknown to the database.
    pub(crate) fn set_unknown(&self, files: i64) {
        self.unknown_files.set(files);
    }

    /// Sets the bytes used by files and by chat messages.
    pub(crate) fn set_stored(&self, files: i64, chat: i64) {
        for (what, bytes) in [("files", files), ("chat", chat)] {
            self.stored.get_or_create(&What { what }).set(bytes);
        }
    }

    /// Sets the free bytes on the file system of the data directory.
    pub(crate) fn set_free(&self, bytes: u64) {
        self.free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

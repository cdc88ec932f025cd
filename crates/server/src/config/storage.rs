//! Settings of the storage quotas.

use super::Settings;
use crate::limits::Quotas;

/// One day, in milliseconds.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Settings {
    /// The storage quotas in effect.
    pub(super) fn quotas(&self) -> Quotas {
        let default = Quotas::default();
        let or = |set: Option<u64>, default: u64| set.unwrap_or(default);
        Quotas {
            files_per_meeting: or(self.files_per_meeting_bytes, default.files_per_meeting),
            files_per_app: or(self.files_per_app_bytes, default.files_per_app),
            files_total: or(self.files_total_bytes, default.files_total),
            chat_per_app: or(self.chat_per_app_bytes, default.chat_per_app),
            chat_total: or(self.chat_total_bytes, default.chat_total),
            disk_reserve: or(self.disk_reserve_bytes, default.disk_reserve),
            file_retention_ms: i64::from(self.file_retention_days.unwrap_or_default()) * DAY_MS,
        }
    }
}

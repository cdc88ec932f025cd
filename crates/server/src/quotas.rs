//! How much may be stored, and what is done when it is: uploads are refused where they reserve their
//! bytes; rooms are told here, every few seconds, whether they may keep more messages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use parlor_live::{ChatFull, Command};
use parlor_protocol::ids::AppId;
use parlor_store::Error;
use uuid::Uuid;

use crate::disk::Disk;
use crate::parlor::Parlor;
use crate::usage::{self, ALL, Used};

/// The bounds on what is stored, in bytes; 0 is no limit. That of a meeting's chat is the room's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Files of a meeting.
    pub files_per_meeting: u64,
    /// Files of an app.
    pub files_per_app: u64,
    /// Files of all apps.
    pub files_total: u64,
    /// Chat messages of an app.
    pub chat_per_app: u64,
    /// Chat messages of all apps.
    pub chat_total: u64,
    /// Free space that uploads and chats leave on the disk, so that records can still be written.
    pub disk_reserve: u64,
    /// How long files are kept, in milliseconds; 0 is as long as their meeting.
    pub file_retention_ms: i64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            files_per_meeting: 10 << 30,
            files_per_app: 100 << 30,
            files_total: 0,
            chat_per_app: 10 << 30,
            chat_total: 0,
            disk_reserve: 512 << 20,
            file_retention_ms: 0,
        }
    }
}

/// What the rooms of each app were told last, of those that were told anything but that there is room.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<AppId, ChatFull>>);

/// Counts for the metrics, and tells the rooms of each app whether they may keep more messages.
///
/// # Errors
/// When the database fails; rooms go on with what they know.
pub(crate) async fn refresh(parlor: &Parlor) -> Result<(), Error> {
    let used = usage::of(parlor, ALL, ALL).await?;
    let shown = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let metrics = &parlor.metrics.storage;
    metrics.set_stored(shown(used.files.all), shown(used.chat.all));
    if let Some(free) = parlor.disk.as_ref().and_then(Disk::free) {
        metrics.set_free(free);
    }
    for app in parlor.live.apps() {
        let used = usage::of(parlor, app.uuid(), ALL).await?;
        let full = full(parlor, used.chat);
        if parlor.told.is_news(app, full) {
            parlor.live.tell_app(app, &Command::ChatFull(full));
        }
    }
    Ok(())
}

/// What a room is opened with: bytes of its chat, and why it may keep no more for now.
///
/// # Errors
/// When the database fails.
pub(crate) async fn of_room(
    parlor: &Parlor,
    app: Uuid,
    meeting: Uuid,
) -> Result<(u64, Option<ChatFull>), Error> {
    let used = usage::of(parlor, app, meeting).await?.chat;
    Ok((used.meeting, full(parlor, used)))
}

fn full(parlor: &Parlor, used: Used) -> Option<ChatFull> {
    let quotas = &parlor.limits.quotas;
    let over = |used: u64, quota: u64| quota > 0 && used >= quota;
    let disk = parlor.disk.as_ref();
    if disk.is_some_and(|disk| disk.is_short(quotas.disk_reserve, 0)) {
        Some(ChatFull::Disk)
    } else if over(used.app, quotas.chat_per_app) {
        Some(ChatFull::App)
    } else if over(used.all, quotas.chat_total) {
        Some(ChatFull::Server)
    } else {
        None
    }
}

impl Told {
    fn is_news(&self, app: AppId, full: Option<ChatFull>) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match full {
            Some(full) => told.insert(app, full),
            None => told.remove(&app),
        };
        before != full
    }
}

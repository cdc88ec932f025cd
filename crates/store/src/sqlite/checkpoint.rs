//! Copies committed pages from the write-ahead log to the database file, off the writer thread.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;

use crate::Error;

use super::connection::open_writer;

/// Delay between a write and its checkpoint.
const INTERVAL: Duration = Duration::from_millis(250);

/// A thread that checkpoints shortly after each write and sleeps otherwise. It ends when this
/// handle is dropped.
pub(super) struct Checkpointer {
    // `None` only while this is being dropped.
    thread: Option<JoinHandle<()>>,
    signals: Arc<Signals>,
}

#[derive(Default)]
struct Signals {
    is_dirty: AtomicBool,
    is_stopped: AtomicBool,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> Result<Self, Error> {
        let connection = open_writer(path)?;
        let signals = Arc::new(Signals::default());
        let shared = Arc::clone(&signals);
        let thread = thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&connection, &shared))
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self {
            thread: Some(thread),
            signals,
        })
    }

    /// Schedules a checkpoint.
    pub(super) fn schedule(&self) {
        if !self.signals.is_dirty.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.signals.is_stopped.store(true, Ordering::Release);
        self.wake();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::warn!("the checkpoint thread panicked");
        }
    }
}

fn run(connection: &Connection, signals: &Signals) {
    while !signals.is_stopped.load(Ordering::Acquire) {
        if signals.is_dirty.load(Ordering::Acquire) {
            thread::park_timeout(INTERVAL);
            signals.is_dirty.store(false, Ordering::Release);
            checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)");
        } else {
            thread::park();
        }
    }
}

/// Runs a checkpoint. Returns `false` when another connection blocked it.
pub(super) fn checkpoint(connection: &Connection, pragma: &str) -> bool {
    let is_busy = connection.query_row(pragma, [], |row| row.get::<_, bool>(0));
    match is_busy {
        Ok(is_busy) => !is_busy,
        Err(error) => {
            tracing::debug!(%error, "a checkpoint failed");
            false
        }
    }
}

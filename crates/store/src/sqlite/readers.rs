//! The connections that read.

use std::{
    mem,
    ops::Deref,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, queue::closed};

use super::connection::open_reader;

/// A few read-only connections. Scans never take the last one, so a point read waits
/// only for other point reads, which take microseconds.
pub(super) struct Readers {
    // `None` once the database is closed. The one used last is lent first: its page
    // cache is the warmest.
    idle: Mutex<Option<Vec<Connection>>>,
    returned: Condvar,
    scans: Arc<Semaphore>,
}

/// A connection on loan; it goes back when this is dropped.
pub(super) struct Reader<'a> {
    connection: Option<Connection>,
    readers: &'a Readers,
}

impl Readers {
    pub(super) fn open(path: &Path, count: usize) -> Result<Self, Error> {
        let count = count.max(2);
        let idle: Vec<_> = (0..count)
            .map(|_| open_reader(path))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            idle: Mutex::new(Some(idle)),
            returned: Condvar::new(),
            scans: Arc::new(Semaphore::new(count - 1)),
        })
    }

    /// Waits until a scan may start.
    pub(super) async fn permit_scan(&self) -> Result<OwnedSemaphorePermit, Error> {
        let permit = Arc::clone(&self.scans).acquire_owned().await;
        permit.map_err(|_| closed())
    }

    /// Lends a connection.
    pub(super) fn take(&self) -> Result<Reader<'_>, Error> {
        let mut idle = self.lock();
        loop {
            match idle.as_mut().map(Vec::pop) {
                None => return Err(closed()),
                Some(None) => {
                    idle = self
                        .returned
                        .wait(idle)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(connection) => {
                    return Ok(Reader {
                        connection,
                        readers: self,
                    });
                }
            }
        }
    }

    /// Closes the idle connections now and each other one when it comes back.
    pub(super) fn close(&self) {
        let idle = mem::take(&mut *self.lock());
        self.scans.close();
        self.returned.notify_all();
        drop(idle);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("the connection leaves only on drop")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let (Some(idle), Some(connection)) = (&mut *self.readers.lock(), self.connection.take())
        {
            idle.push(connection);
            self.readers.returned.notify_one();
        }
    }
}

//! The reader threads.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::{Error, deadline::queue_full, queue::closed};

use super::connection::open_reader;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A few threads, each with a read-only connection. Scans never occupy the last one, so a point
/// read waits only for other point reads, which take microseconds.
pub(super) struct Readers {
    jobs: Arc<Jobs>,
    ended: watch::Receiver<()>,
    scans: Arc<Semaphore>,
}

/// Queued jobs. A mutex and a condition variable wake exactly one thread per job.
struct Jobs {
    state: Mutex<JobQueue>,
    arrived: Condvar,
    limit: usize,
}

#[derive(Default)]
struct JobQueue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Jobs {
    fn push(&self, job: Job) -> Result<(), Error> {
        let mut queue = self.lock();
        if queue.is_closed {
            return Err(closed());
        }
        if queue.jobs.len() >= self.limit {
            return Err(queue_full());
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for the next job. Returns `None` when the queue is closed and empty.
    fn pop(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue = self
                .arrived
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, JobQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    /// Starts `count` threads. At most `queue` reads wait for a thread.
    pub(super) fn open(path: &Path, count: usize, queue: usize) -> Result<Self, Error> {
        let count = count.max(2);
        let jobs = Arc::new(Jobs {
            state: Mutex::default(),
            arrived: Condvar::new(),
            limit: queue.max(1),
        });
        let (alive, ended) = watch::channel(());
        let readers = Self {
            jobs: Arc::clone(&jobs),
            ended,
            scans: Arc::new(Semaphore::new(count - 1)),
        };
        let alive = Arc::new(alive);
        for _ in 0..count {
            let connection = open_reader(path)?;
            let (jobs, alive) = (Arc::clone(&jobs), Arc::clone(&alive));
            thread::Builder::new()
                .name("store-reader".to_owned())
                .spawn(move || {
                    while let Some(job) = jobs.pop() {
                        // A panic drops the job's reply channel, which the caller sees as an error;
                        // the thread continues.
                        let _ = catch_unwind(AssertUnwindSafe(|| job(&connection)));
                    }
                    drop(connection);
                    // `close` must not return before the connection is closed.
                    drop(alive);
                })
                .map_err(|error| Error::Unavailable(error.to_string()))?;
        }
        Ok(readers)
    }

    /// Waits until a scan may start.
    pub(super) async fn permit_scan(&self) -> Result<OwnedSemaphorePermit, Error> {
        let permit = Arc::clone(&self.scans).acquire_owned().await;
        permit.map_err(|_| closed())
    }

    /// Runs `work` on one of the threads, or skips it if the caller stops waiting before it starts.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        self.jobs.push(Box::new(move |connection| {
            if !reply.is_closed() {
                // The caller may have stopped waiting.
                let _ = reply.send(work(connection));
            }
        }))?;
        result
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("a reader thread panicked".to_owned())))
    }

    /// Stops accepting jobs and waits until the threads have exited.
    pub(super) async fn close(&self) {
        self.jobs.close();
        self.scans.close();
        // `changed` returns an error when the last thread drops its sender.
        let _ = self.ended.clone().changed().await;
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // The threads exit when the queue is closed.
        self.jobs.close();
    }
}

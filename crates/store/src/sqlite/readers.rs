//! The threads that read.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::{Error, deadline::full, queue::closed};

use super::connection::open_reader;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A few threads, each with a read-only connection. Scans never take the last one, so a point
/// read waits only for other point reads, which take microseconds.
pub(super) struct Readers {
    jobs: Arc<Jobs>,
    ended: watch::Receiver<()>,
    scans: Arc<Semaphore>,
}

/// What waits for a thread. A lock and a condition, because they wake one thread for a job and no
/// other.
struct Jobs {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    most: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Jobs {
    fn push(&self, job: Job) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(closed());
        }
        if waiting.jobs.len() >= self.most {
            return Err(full());
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next job, as soon as there is one. `None` when it was closed and is empty.
    fn pop(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    /// Starts the threads; at most `queue` reads wait for one.
    pub(super) fn open(path: &Path, count: usize, queue: usize) -> Result<Self, Error> {
        let count = count.max(2);
        let jobs = Arc::new(Jobs {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            most: queue.max(1),
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
                        // Its caller hears that there is no answer; the thread goes on.
                        let _ = catch_unwind(AssertUnwindSafe(|| job(&connection)));
                    }
                    drop(connection);
                    // Whoever waits for the close must find the connection closed.
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

    /// Runs something on one of the threads. It is left out when its caller has gone by then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.jobs.push(Box::new(move |connection| {
            if !reply.is_closed() {
                // Nobody may be waiting any more, which is no failure.
                let _ = reply.send(work(connection));
            }
        }))?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("a reader ended".to_owned())))
    }

    /// Accepts nothing more and waits until the threads have ended.
    pub(super) async fn close(&self) {
        self.jobs.close();
        self.scans.close();
        // An error is what says that the last thread dropped its end.
        let _ = self.ended.clone().changed().await;
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // The threads would wait for ever.
        self.jobs.close();
    }
}

//! The threads that read.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{Error, deadline::full, queue::closed};

use super::connection::open_reader;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A few threads, each with a read-only connection. Scans never take the last one, so a point
/// read waits only for other point reads, which take microseconds.
pub(super) struct Readers {
    // `None` once the database is closed.
    jobs: RwLock<Option<mpsc::Sender<Job>>>,
    ended: watch::Receiver<()>,
    scans: Arc<Semaphore>,
}

impl Readers {
    /// Starts the threads; at most `queue` reads wait for one.
    pub(super) fn open(path: &Path, count: usize, queue: usize) -> Result<Self, Error> {
        let count = count.max(2);
        let (jobs, receiver) = mpsc::channel(queue.max(1));
        let (alive, ended) = watch::channel(());
        let (receiver, alive) = (Arc::new(Mutex::new(receiver)), Arc::new(alive));
        for _ in 0..count {
            let connection = open_reader(path)?;
            let (receiver, alive) = (Arc::clone(&receiver), Arc::clone(&alive));
            thread::Builder::new()
                .name("store-reader".to_owned())
                .spawn(move || {
                    run(&connection, &receiver);
                    drop(connection);
                    // Whoever waits for the close must find the connection closed.
                    drop(alive);
                })
                .map_err(|error| Error::Unavailable(error.to_string()))?;
        }
        Ok(Self {
            jobs: RwLock::new(Some(jobs)),
            ended,
            scans: Arc::new(Semaphore::new(count - 1)),
        })
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
        let job: Job = Box::new(move |connection| {
            if !reply.is_closed() {
                // Nobody may be waiting any more, which is no failure.
                let _ = reply.send(work(connection));
            }
        });
        self.hand_over(job)?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("a reader ended".to_owned())))
    }

    fn hand_over(&self, job: Job) -> Result<(), Error> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let jobs = jobs.as_ref().ok_or_else(closed)?;
        jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => closed(),
        })
    }

    /// Accepts nothing more and waits until the threads have ended.
    pub(super) async fn close(&self) {
        let jobs = self
            .jobs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(jobs);
        self.scans.close();
        // An error is what says that the last thread dropped its end.
        let _ = self.ended.clone().changed().await;
    }
}

/// Serves the queue until it is closed and empty.
fn run(connection: &Connection, jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = {
            let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.blocking_recv()
        };
        match job {
            Some(job) => job(connection),
            None => return,
        }
    }
}

//! The load generator: keep-alive connections that send prepared bytes and parse little of the
//! responses.
//!
//! It is custom-built so that it costs the same few microseconds per request in every cell, on one
//! thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlor_testkit::ServerProcess;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Writes the `n`-th request of a cell, including its headers.
pub(crate) type Request = Rc<dyn Fn(usize, &mut Vec<u8>)>;

/// The load of one cell.
pub(crate) struct Load {
    /// Number of connections, each with one request at a time.
    pub(crate) connections: usize,
    /// Status of a successful response.
    pub(crate) status: u16,
    /// Request to send.
    pub(crate) request: Request,
}

/// The result of one cell.
#[derive(Debug)]
pub(crate) struct Run {
    /// Sorted latencies in microseconds of the requests that began and ended in the measured time.
    pub(crate) micros: Vec<u32>,
    /// Measured time.
    pub(crate) time: Duration,
    /// CPU time of the server in the measured time.
    pub(crate) server_cpu: Duration,
    /// Number of responses with another status, including those outside the measured time.
    pub(crate) failures: usize,
    /// Resident memory of the server at the end, in bytes.
    pub(crate) resident_bytes: u64,
}

impl Run {
    /// Returns the requests per second.
    pub(crate) fn rate(&self) -> f64 {
        as_f64(self.micros.len()) / self.time.as_secs_f64()
    }

    /// Returns a quantile of the latencies; `share` is between 0 and 1.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a length is an index"
        )]
        let index = (as_f64(self.micros.len()) * share) as usize;
        let at_most = self.micros.len().saturating_sub(1);
        let micros = self.micros.get(index.min(at_most)).copied();
        Duration::from_micros(micros.unwrap_or_default().into())
    }

    /// Returns the CPU time of the server per request, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / as_f64(self.micros.len().max(1))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^52"
)]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// What the connections of one run share.
struct Shared {
    next: Cell<usize>,
    failures: Cell<usize>,
    micros: RefCell<Vec<u32>>,
    begin: Instant,
    end: Instant,
}

/// Loads the server for `warm_up` and then `measured`, and measures the latter.
pub(crate) async fn run(
    server: &ServerProcess,
    load: &Load,
    warm_up: Duration,
    measured: Duration,
) -> Result<Run> {
    let begin = Instant::now() + warm_up;
    let shared = Rc::new(Shared {
        next: Cell::new(0),
        failures: Cell::new(0),
        micros: RefCell::new(Vec::with_capacity(1 << 20)),
        begin,
        end: begin + measured,
    });
    let address: SocketAddr = server.url().trim_start_matches("http://").parse()?;
    let tasks = LocalSet::new();
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        let (shared, request) = (Rc::clone(&shared), Rc::clone(&load.request));
        let status = load.status;
        connections.push(tasks.spawn_local(async move {
            let connection = Connection::open(address).await?;
            connection.drive(&shared, &request, status).await
        }));
    }
    let cpu = tasks.run_until(async {
        tokio::time::sleep_until(shared.begin.into()).await;
        let before = server.process().cpu()?;
        tokio::time::sleep_until(shared.end.into()).await;
        anyhow::Ok(server.process().cpu()?.saturating_sub(before))
    });
    let server_cpu = cpu.await?;
    tasks.await;
    for connection in connections {
        connection.await??;
    }
    let mut micros = shared.micros.take();
    ensure!(!micros.is_empty(), "no request succeeded in {measured:?}");
    micros.sort_unstable();
    Ok(Run {
        micros,
        time: measured,
        server_cpu,
        failures: shared.failures.get(),
        resident_bytes: server.process().resident()?,
    })
}

/// One keep-alive connection.
struct Connection {
    stream: TcpStream,
    sending: Vec<u8>,
    received: Vec<u8>,
}

/// Maximum size of a response, in bytes. A page of participants has about 40 kB.
const RESPONSE_BYTES: usize = 1 << 20;

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            sending: Vec::new(),
            received: vec![0; RESPONSE_BYTES],
        })
    }

    async fn drive(mut self, shared: &Shared, request: &Request, success: u16) -> Result<()> {
        loop {
            let number = shared.next.replace(shared.next.get() + 1);
            self.sending.clear();
            request(number, &mut self.sending);
            let sent = Instant::now();
            if sent >= shared.end {
                return Ok(());
            }
            self.send().await?;
            let status = self.receive().await?;
            let answered = Instant::now();
            if status != success {
                if shared.failures.get() == 0 {
                    let answer = self.received[..300].utf8_chunks().next();
                    eprintln!("{}", answer.map_or("", |chunk| chunk.valid()));
                }
                shared.failures.set(shared.failures.get() + 1);
            } else if sent >= shared.begin && answered <= shared.end {
                let micros = (answered - sent).as_micros();
                let micros = u32::try_from(micros).unwrap_or(u32::MAX);
                shared.micros.borrow_mut().push(micros);
            }
        }
    }

    async fn send(&mut self) -> Result<()> {
        let mut rest = self.sending.as_slice();
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads one complete response and returns its status.
    async fn receive(&mut self) -> Result<u16> {
        let mut filled = 0;
        loop {
            let mut buffer = ReadBuf::new(&mut self.received[filled..]);
            // Unlike `try_read`, this needs no second system call to detect that all data was read.
            let stream = &mut self.stream;
            std::future::poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer))
                .await?;
            let read = buffer.filled().len();
            ensure!(
                read > 0,
                "the server closed the connection, or the response is too large"
            );
            filled += read;
            if let Some((status, length)) = head(&self.received[..filled])?
                && filled >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Returns the status and the total length of a response, once its headers are complete.
fn head(received: &[u8]) -> Result<Option<(u16, usize)>> {
    const NAME: &[u8] = b"content-length:";
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let status = str::from_utf8(received.get(9..12).context("a status line")?)?.parse()?;
    let length = received[..end]
        .split(|&byte| byte == b'\n')
        .find(|line| {
            let name = line.get(..NAME.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(NAME))
        })
        .context("a response without content-length")?;
    let length: usize = str::from_utf8(&length[NAME.len()..])?.trim().parse()?;
    Ok(Some((status, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_response_includes_its_headers() -> Result<()> {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(head(whole)?, Some((201, whole.len())));
        assert_eq!(head(&whole[..20])?, None);
        Ok(())
    }

    #[test]
    fn a_response_of_unknown_length_is_an_error() {
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_quantile_is_a_latency_that_was_measured() {
        let run = Run {
            micros: (1..=1000).collect(),
            time: Duration::from_secs(2),
            server_cpu: Duration::from_millis(5),
            failures: 0,
            resident_bytes: 0,
        };
        assert_eq!(run.quantile(0.5), Duration::from_micros(501));
        assert_eq!(run.quantile(0.999), Duration::from_millis(1));
        assert_eq!(run.quantile(1.0), Duration::from_millis(1));
        assert!((run.rate() - 500.0).abs() < 1e-9);
        assert!((run.cpu_micros() - 5.0).abs() < 1e-9);
    }
}

//! Resource usage of processes, as reported by the kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// A process, by its ID.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

/// CPU time of each thread, in nanoseconds, by thread ID.
#[derive(Clone, Debug, Default)]
pub struct Threads(Vec<(u32, u64)>);

impl Process {
    /// Returns this process.
    pub fn current() -> Self {
        Self(std::process::id())
    }

    /// Returns the CPU time of all threads so far, user and system, with a resolution of 10 ms.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn cpu(self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The second field, the program's name, may contain spaces; it ends with the last
        // parenthesis.
        let (_, after_name) = stat.rsplit_once(") ").context("/proc/pid/stat")?;
        let ticks = after_name
            .split(' ')
            .skip(11)
            .take(2)
            .map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        // The kernel reports 100 ticks per second to user space on every architecture.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Returns the CPU time of the busiest thread since an earlier call of [`Process::threads`].
    ///
    /// # Errors
    /// See [`Process::cpu`].
    pub fn busiest_thread(self, before: &Threads) -> Result<Duration> {
        let now = self.threads()?;
        let grown = now.0.iter().map(|(thread, ns)| {
            let earlier = before.0.iter().find(|(earlier, _)| earlier == thread);
            ns - earlier.map_or(0, |(_, ns)| *ns).min(*ns)
        });
        Ok(Duration::from_nanos(grown.max().unwrap_or_default()))
    }

    /// Returns the CPU time of each thread.
    ///
    /// # Errors
    /// See [`Process::cpu`].
    pub fn threads(self) -> Result<Threads> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let path = entry?.path();
            // A thread may end while the directory is read.
            let Ok(text) = fs::read_to_string(path.join("schedstat")) else {
                continue;
            };
            let first = text.split(' ').next().and_then(|word| word.parse().ok());
            let name = path.file_name().and_then(|name| name.to_str());
            if let (Some(ns), Some(Ok(thread))) = (first, name.map(str::parse)) {
                threads.push((thread, ns));
            }
        }
        Ok(Threads(threads))
    }

    /// Returns the resident memory, in bytes.
    ///
    /// # Errors
    /// See [`Process::cpu`].
    pub fn resident(self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.context("no VmRSS")?.parse()?;
        Ok(kibibytes * 1024)
    }

    /// Waits until the resident memory changes by less than 1 MiB within a second, and returns it.
    ///
    /// # Errors
    /// See [`Process::cpu`]; also when the memory does not settle within a minute.
    pub async fn settled_memory(self) -> Result<u64> {
        const MEBIBYTE: u64 = 1024 * 1024;
        let (mut last, mut same) = (self.resident()?, 0);
        for _ in 0..1200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.resident()?;
            if now.abs_diff(last) < MEBIBYTE {
                same += 1;
            } else {
                (last, same) = (now, 0);
            }
            if same == 20 {
                return Ok(now);
            }
        }
        anyhow::bail!("resident memory does not settle: {last} bytes")
    }

    /// Returns the kind of each open descriptor: a path, or `socket`, `pipe` and so on.
    ///
    /// # Errors
    /// See [`Process::cpu`].
    pub fn descriptors(self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.0))? {
            // A descriptor may be closed while the directory is read.
            if let Ok(link) = fs::read_link(entry?.path()) {
                let link = link.to_string_lossy().into_owned();
                found.push(link.split(":[").next().unwrap_or_default().to_owned());
            }
        }
        Ok(found)
    }
}

/// Returns the number of datagrams that this machine has dropped since it started because a
/// socket's receive buffer was full.
///
/// # Errors
/// When the kernel does not report the number.
pub fn receive_buffer_errors() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names.zip(values).context("no Udp in /proc/net/snmp")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let value = pairs
        .find(|(name, _)| *name == "RcvbufErrors")
        .map(|(_, value)| value);
    Ok(value.context("no RcvbufErrors")?.parse()?)
}

//! What the kernel knows of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// A process that is watched, by its id.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

/// Nanoseconds on a CPU of each thread, by its number.
#[derive(Clone, Debug, Default)]
pub struct Threads(Vec<(u32, u64)>);

impl Process {
    /// This process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// The CPU time of all its threads so far, user and system, in steps of 10 ms.
    ///
    /// # Errors
    /// When it is gone, as for all that is asked here.
    pub fn cpu(self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The second field, the program's name, may hold spaces; it ends with the last bracket.
        let (_, after_name) = stat.rsplit_once(") ").context("/proc/pid/stat")?;
        let ticks = after_name
            .split(' ')
            .skip(11)
            .take(2)
            .map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        // The kernel shows user space 100 ticks a second on every architecture.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The CPU time of its busiest thread since the times of an earlier call.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn busiest(self, before: &Threads) -> Result<Duration> {
        let now = self.threads()?;
        let grown = now.0.iter().map(|(thread, ns)| {
            let earlier = before.0.iter().find(|(earlier, _)| earlier == thread);
            ns - earlier.map_or(0, |(_, ns)| *ns).min(*ns)
        });
        Ok(Duration::from_nanos(grown.max().unwrap_or_default()))
    }

    /// The CPU time of each thread.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn threads(self) -> Result<Threads> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let path = entry?.path();
            // A thread may end while its folder is read.
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

    /// The memory it holds resident, in bytes.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn resident(self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.context("no VmRSS")?.parse()?;
        Ok(kibibytes * 1024)
    }

    /// The memory it holds resident once that does not change any more: by less than 1 MiB in a
    /// second.
    ///
    /// # Errors
    /// As [`Process::cpu`], or when it changes for a minute.
    pub async fn settled(self) -> Result<u64> {
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
        anyhow::bail!("{last} bytes, and changing")
    }

    /// What each of its open descriptors is: a path, or `socket`, `pipe` and the like.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn descriptors(self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.0))? {
            // It may be closed while the folder is read.
            if let Ok(link) = fs::read_link(entry?.path()) {
                let link = link.to_string_lossy().into_owned();
                found.push(link.split(":[").next().unwrap_or_default().to_owned());
            }
        }
        Ok(found)
    }
}

/// Datagrams that found the buffer of their socket full, on this whole machine, since it started.
///
/// # Errors
/// When the kernel does not say.
pub fn overflows() -> Result<u64> {
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

//! Cleans up after the test process ends, however it ends.
//!
//! `Drop` does not run when the process is killed, and never runs for a `static`. So a small shell
//! waits on a pipe whose other end only this process holds. The kernel closes that end in every
//! case, and then the shell cleans up.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Runs a cleanup script once: on [`Drop`], or when this process dies.
#[derive(Debug)]
pub(crate) struct CleanupGuard {
    shell: Child,
}

impl CleanupGuard {
    /// Starts a guard. `script` is a POSIX shell script and receives `args` as `"$@"`.
    pub(crate) fn arm<S: AsRef<OsStr>>(
        script: &str,
        args: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let shell = Command::new("sh")
            .arg("-c")
            .arg(format!("read -r _; {script}"))
            .arg("cleanup")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole process group of the test, and the cleanup must outlive it.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Cancels the cleanup.
    pub(crate) fn disarm(&mut self) {
        // An error means that the shell has ended already.
        let _ = self.shell.kill();
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The exit status does not matter: the script is best effort.
        let _ = self.shell.wait();
    }
}

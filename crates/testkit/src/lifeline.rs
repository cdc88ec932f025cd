//! Ends what a test started when the test process ends, however it ends.
//!
//! A `Drop` does not run when a process is killed, and never runs for a `static`. So a small
//! shell waits on a pipe whose other end only this process holds. The kernel closes that end
//! in every case, and then the shell cleans up.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A clean-up script that runs once: on [`Drop`], or when this process dies.
#[derive(Debug)]
pub(crate) struct Lifeline {
    shell: Child,
}

impl Lifeline {
    /// Arms `script`. It is POSIX shell text and finds `args` in `"$@"`.
    pub(crate) fn arm<S: AsRef<OsStr>>(
        script: &str,
        args: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let shell = Command::new("sh")
            .arg("-c")
            .arg(format!("read -r _; {script}"))
            .arg("lifeline")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole process group of the test; the clean-up must outlive it.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Forgets the script: what it would end has ended already.
    pub(crate) fn disarm(&mut self) {
        // An error means that the shell is gone, which is what is wanted.
        let _ = self.shell.kill();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The exit status says nothing: the script is best effort.
        let _ = self.shell.wait();
    }
}

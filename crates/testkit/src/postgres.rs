//! A private PostgreSQL server in a temporary directory: a durable one, as in production, or a
//! faster one that is not.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::cleanup_guard::CleanupGuard;

const SETTINGS: [&str; 4] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_buffers=256MB",
    "max_connections=200",
];

/// The durability settings of production, for tests of what a commit guarantees.
const DURABLE: [&str; 3] = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];

/// Settings without durability: commits do not wait for the disk. They are still visible to every
/// connection and survive the death of a client; only a crash of the machine or of PostgreSQL would
/// lose them.
const VOLATILE: [&str; 3] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
];

/// Number of attempts to bind a free port. Another process may take it before the server binds it.
const PORT_ATTEMPTS: u32 = 5;

/// The superuser of the server, and the system user that it runs as when the tests run as root.
const USER: &str = "postgres";

/// A running server. On [`Drop`], or when this process ends, it stops and its directory is removed.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
    port: u16,
    next_database: AtomicU32,
    _cleanup: CleanupGuard,
}

impl Postgres {
    /// Starts a durable server on a free port of 127.0.0.1, to which every local user may connect.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (the message says what to install) or does not start (the
    /// message includes its log).
    pub async fn start() -> Result<Self> {
        Self::start_with(&DURABLE).await
    }

    async fn start_with(durability: &[&str]) -> Result<Self> {
        let programs = Programs::find()?;
        let home = tempfile::Builder::new()
            .prefix("parlor-postgres-")
            .tempdir()?
            .keep();
        // Started before anything else runs in the directory, so that every failure below cleans
        // up.
        let stop = programs.command("pg_ctl", &home);
        let cleanup = CleanupGuard::arm(
            r#"home=$1; shift; "$@" stop -m immediate -D "$home/cluster"; rm -rf "$home""#,
            [home.as_os_str(), stop.as_std().get_program()]
                .into_iter()
                .chain(stop.as_std().get_args()),
        )?;
        programs.change_owner(&home).await?;
        let cluster = home.join("cluster");
        run(programs
            .command("initdb", &home)
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--username", USER, "--pgdata"])
            .arg(&cluster))
        .await?;
        let port = launch(&programs, &home, &cluster, durability).await?;
        Ok(Self {
            programs,
            port,
            next_database: AtomicU32::new(1),
            _cleanup: cleanup,
        })
    }

    /// Returns the server that the tests of this process share. The first call starts it.
    ///
    /// It is not durable (`fsync=off`). Tests and measurements of durability use
    /// [`Postgres::shared_durable`] or [`Postgres::start`].
    ///
    /// # Errors
    /// See [`Postgres::start`]. The next call retries.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start_with(&VOLATILE)).await
    }

    /// Returns the durable server that the crash tests and the store tests of this process share.
    /// The first call starts it.
    ///
    /// # Errors
    /// See [`Postgres::start`]. The next call retries.
    pub async fn shared_durable() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Whether the programs that [`Postgres::start`] needs are installed.
    pub fn is_installed() -> bool {
        Programs::find().is_ok()
    }

    /// The URL of the maintenance database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// When the statement fails, for example because the server was stopped.
    pub async fn database(&self) -> Result<String> {
        let number = self.next_database.fetch_add(1, Ordering::Relaxed);
        let name = format!("parlor_{number}");
        self.execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(self.url_of(&name))
    }

    /// Executes SQL in the maintenance database, as the superuser.
    ///
    /// # Errors
    /// With the server's error message.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.execute_in(&self.url(), sql).await
    }

    /// Executes SQL in a database of the server, as the superuser.
    ///
    /// # Errors
    /// With the server's error message.
    pub async fn execute_in(&self, url: &str, sql: &str) -> Result<()> {
        run(Command::new(self.programs.folder.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
            .args(["--dbname", url, "--command", sql]))
        .await
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }
}

/// Starts the server and returns its port.
async fn launch(
    programs: &Programs,
    home: &Path,
    cluster: &Path,
    durability: &[&str],
) -> Result<u16> {
    let mut attempt = 1;
    loop {
        let port = free_port()?;
        let mut options = format!("-p {port}");
        for setting in SETTINGS.iter().chain(durability) {
            options.push_str(" -c ");
            options.push_str(setting);
        }
        let log = home.join(format!("log.{attempt}"));
        let started = run(programs
            .command("pg_ctl", home)
            .args(["start", "--wait", "--silent", "--pgdata"])
            .arg(cluster)
            .arg("--log")
            .arg(&log)
            .args(["--options", &options]))
        .await;
        match started {
            Ok(()) => return Ok(port),
            Err(_) if attempt < PORT_ATTEMPTS => attempt += 1,
            Err(error) => {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(error.context(format!("PostgreSQL did not start. Its log: {log}")));
            }
        }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Runs a program to completion. Its standard error becomes the error message.
async fn run(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", name.display()))?;
    ensure!(
        output.status.success(),
        "{} exited with {}: {}",
        name.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The directory of PostgreSQL's programs, and whether they must run as a different user.
#[derive(Debug)]
struct Programs {
    folder: PathBuf,
    is_root: bool,
}

impl Programs {
    /// Searches `PATH`, and then the directories of Debian and Ubuntu, newest version first.
    fn find() -> Result<Self> {
        let on_path = env::var_os("PATH").unwrap_or_default();
        let initdb = env::split_paths(&on_path)
            .map(|folder| folder.join("initdb"))
            .chain(debian_versions().map(|version| version.join("bin/initdb")))
            .find(|file| file.is_file());
        let Some(initdb) = initdb else {
            bail!(
                "PostgreSQL's server programs were found neither on PATH nor in \
                 /usr/lib/postgresql. Install them: `apt-get install postgresql` (Debian, \
                 Ubuntu), `dnf install postgresql-server` (Fedora), `brew install postgresql`."
            )
        };
        // The directory of a symbolic link may not contain pg_ctl and psql.
        let initdb = initdb.canonicalize()?;
        let folder = initdb.parent().context("initdb has no parent directory")?;
        Ok(Self {
            folder: folder.to_owned(),
            is_root: fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0),
        })
    }

    /// Returns a command for one of the programs that refuse to run as root.
    fn command(&self, program: &str, home: &Path) -> Command {
        let program = self.folder.join(program);
        let mut command = if self.is_root {
            let mut command = Command::new("setpriv");
            command.args([
                format!("--reuid={USER}").as_ref(),
                format!("--regid={USER}").as_ref(),
                OsStr::new("--clear-groups"),
                program.as_os_str(),
            ]);
            command
        } else {
            Command::new(program)
        };
        // The other user may not have access to the current directory.
        command.current_dir(home);
        command
    }

    /// Changes the owner of the directory to the user that the server runs as.
    async fn change_owner(&self, home: &Path) -> Result<()> {
        if !self.is_root {
            return Ok(());
        }
        run(Command::new("chown").arg(format!("{USER}:")).arg(home))
            .await
            .context(
                "running as root requires the system user `postgres`, which the package creates",
            )
    }
}

fn debian_versions() -> impl Iterator<Item = PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
        })
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, folder)| folder)
}

//! Listening sockets, and the limit of open files.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::limits::ConnectionLimits;

/// Binds every address that a name resolves to, so that `localhost` is reachable over IPv4 and
/// IPv6. `setting` is the name of the flag, for error messages.
///
/// # Errors
/// When no address can be bound, or one is in use.
pub async fn bind(setting: &str, listen: &str) -> anyhow::Result<Vec<TcpListener>> {
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(listen)
        .await
        .map_err(|error| anyhow::anyhow!("{setting} {listen}: {error}"))?
        .collect();
    addresses.sort();
    addresses.dedup();
    let mut listeners = Vec::new();
    let mut failure = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // A host without IPv4 or IPv6 is fine; a port in use is an error.
            Err(error) if lacks_family(&error) => failure = Some(error),
            Err(error) => anyhow::bail!("{setting}: cannot listen on {address}: {error}"),
        }
        // With port 0, only the first address is used.
        if address.port() == 0 && !listeners.is_empty() {
            break;
        }
    }
    match failure {
        Some(error) if listeners.is_empty() => Err(anyhow::anyhow!(
            "{setting}: cannot listen on {listen}: {error}"
        )),
        _ => Ok(listeners),
    }
}

fn lacks_family(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(
        error.kind(),
        ErrorKind::AddrNotAvailable | ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Raises the process's limit of open files to the hard limit, and warns if that is less than the
/// connections need.
pub fn raise_open_files(bounds: &ConnectionLimits) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(open_files) if open_files < needed_files(bounds) => tracing::warn!(
            open_files,
            connections = bounds.connections,
            "the system allows fewer open files than the connections may need: raise its limit \
             (LimitNOFILE under systemd, ulimit -n) or set --connections lower"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// One per connection, and some for the database, files and the runtime.
fn needed_files(bounds: &ConnectionLimits) -> u64 {
    u64::try_from(bounds.connections)
        .unwrap_or(u64::MAX)
        .saturating_add(256)
}

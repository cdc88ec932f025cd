//! `parlor healthcheck`: asks the server on this machine whether it is ready. Container images that
//! have no HTTP client use it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::Context;

use crate::config::Settings;
use crate::net::TrustedProxies;

/// Timeout for connecting and for sending the request.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the response may take in addition to the database timeout, which `/readyz` waits for.
const RESPONSE: Duration = Duration::from_secs(5);
/// Enough for the status line.
const RESPONSE_BYTES: u64 = 4096;

/// Sends one request to the server that listens where the settings say.
///
/// # Errors
/// When the server cannot be reached or does not respond with 200.
pub(super) fn run(settings: &Settings, path: &str) -> anyhow::Result<()> {
    let proxies = TrustedProxies::from_settings(settings)?;
    let timeout = settings.limits()?.database.timeout + RESPONSE;
    let mut outcome = Err(anyhow::anyhow!("--listen names no address"));
    for address in addresses(settings.listen())? {
        let needs_header = proxies.speaks_proxy_protocol(address.ip());
        outcome = request(address, path, needs_header, timeout)
            .with_context(|| format!("http://{address}{path}"));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The addresses at which a server that listens at `listen` can be reached from this machine.
fn addresses(listen: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let resolved = listen
        .to_socket_addrs()
        .with_context(|| format!("--listen {listen}"))?;
    let addresses: Vec<SocketAddr> = resolved.map(on_loopback).collect();
    anyhow::ensure!(
        addresses.iter().all(|address| address.port() != 0),
        "--listen {listen} lets the server choose a port, which is not known here"
    );
    Ok(addresses)
}

fn on_loopback(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn request(
    address: SocketAddr,
    path: &str,
    needs_header: bool,
    timeout: Duration,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_write_timeout(Some(CONNECT))?;
    stream.set_read_timeout(Some(timeout))?;
    // The PROXY protocol's form for connections that a proxy opens on its own behalf.
    let header = if needs_header {
        "PROXY UNKNOWN\r\n"
    } else {
        ""
    };
    let request =
        format!("{header}GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES).read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    let status = response.lines().next().unwrap_or_default();
    anyhow::ensure!(
        status.starts_with("HTTP/1.1 200 "),
        "the response is {status:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A server that responds to one request: its settings, and the lines that it received.
    fn server(response: &'static str) -> (Settings, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Settings {
            listen: Some(listener.local_addr().unwrap().to_string()),
            ..Settings::default()
        };
        let received = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            stream.write_all(response.as_bytes()).unwrap();
            lines
        });
        (settings, received)
    }

    #[test]
    fn a_server_on_every_interface_is_reached_on_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:8787", "127.0.0.1:8787"),
            ("[::]:8787", "[::1]:8787"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(addresses(listen).unwrap(), [expected.parse().unwrap()]);
        }
        assert!(addresses("0.0.0.0:0").is_err());
        assert!(addresses("8787").is_err());
    }

    #[test]
    fn only_200_is_healthy() {
        let (settings, received) = server("HTTP/1.1 200 OK\r\n\r\nready\n");
        run(&settings, "/readyz").unwrap();
        assert_eq!(received.join().unwrap()[0], "GET /readyz HTTP/1.1");
        for response in [
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "HTTP/1.1 2000\r\n",
            "",
        ] {
            let (settings, received) = server(response);
            assert!(run(&settings, "/readyz").is_err(), "{response:?}");
            received.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_is_gone_is_not_healthy() {
        let (settings, received) = server("");
        assert!(run(&settings, "/healthz").is_err());
        received.join().unwrap();
        let error = format!("{:#}", run(&settings, "/healthz").unwrap_err());
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn the_proxy_protocol_is_spoken_where_this_machine_is_a_trusted_proxy() {
        let (settings, received) = server("HTTP/1.1 200 OK\r\n\r\n");
        let settings = Settings {
            proxy_protocol: Some(true),
            trusted_proxies: Some(vec!["127.0.0.0/8".to_owned()]),
            ..settings
        };
        run(&settings, "/healthz").unwrap();
        let lines = received.join().unwrap();
        assert_eq!(lines[..2], ["PROXY UNKNOWN", "GET /healthz HTTP/1.1"]);
    }
}

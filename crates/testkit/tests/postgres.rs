//! Tests of the private PostgreSQL server: databases are separate, and nothing is left behind.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlor_testkit::Postgres;

fn address(url: &str) -> Result<SocketAddr> {
    let host = url.split(['@', '/']).nth(3).context("a URL has a host")?;
    Ok(host.parse()?)
}

fn wait_until_closed(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_ok() {
        ensure!(
            Instant::now() < deadline,
            "{address} still accepts connections"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[tokio::test]
async fn every_database_is_fresh() -> Result<()> {
    let server = Postgres::shared().await?;
    let (first, second) = (server.database().await?, server.database().await?);
    ensure!(first != second, "two calls returned {first}");
    for url in [&first, &second] {
        ensure!(
            address(url)? == address(&server.url())?,
            "{url} is on a different server"
        );
    }
    Ok(())
}

/// Fails unless the settings that make a commit durable are all `on`, or all `off`.
async fn durability_is(server: &Postgres, value: &str) -> Result<()> {
    let check = format!(
        "DO $$ BEGIN ASSERT current_setting('fsync') = '{value}' \
         AND current_setting('synchronous_commit') = '{value}' \
         AND current_setting('full_page_writes') = '{value}'; END $$"
    );
    server.execute(&check).await
}

#[tokio::test]
async fn an_acknowledged_commit_is_durable() -> Result<()> {
    durability_is(Postgres::shared_durable().await?, "on").await?;
    // The other shared server is faster because it is not durable.
    durability_is(Postgres::shared().await?, "off").await
}

#[tokio::test]
async fn a_failed_statement_is_an_error_with_the_servers_message() -> Result<()> {
    let server = Postgres::shared().await?;
    let error = server.execute("SELECT * FROM nowhere").await;
    let text = error.err().context("it must fail")?.to_string();
    ensure!(text.contains("\"nowhere\" does not exist"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_stops() -> Result<()> {
    let server = Postgres::start().await?;
    durability_is(&server, "on").await?;
    let address = address(&server.url())?;
    TcpStream::connect(address)?;
    drop(server);
    wait_until_closed(address)
}

#[tokio::test]
#[ignore = "the next test runs this one in a separate process and kills it"]
async fn a_process_that_waits_to_be_killed() -> Result<()> {
    eprintln!("{}", Postgres::shared().await?.url());
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[test]
fn a_server_stops_when_its_process_is_killed() -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("a_process_that_waits_to_be_killed")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let url = std::io::BufRead::lines(std::io::BufReader::new(stderr))
        .map_while(Result::ok)
        .find(|line| line.starts_with("postgres://"));
    let address = address(&url.context("the child printed no URL")?)?;
    TcpStream::connect(address)?;
    child.kill()?;
    child.wait()?;
    wait_until_closed(address)
}

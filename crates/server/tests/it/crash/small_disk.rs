//! A real file system that becomes full: a small `tmpfs` in the server's own mount namespace.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::{Client, ServerProcess};
use serde_json::json;

use crate::crash::{create_meeting, kit_path};
use crate::process::BINARY;

/// Large enough for the schema, and quickly filled.
const SIZE: &str = "6m";

/// Writes a program that mounts such a file system on the data directory and starts the server.
fn write_starter(folder: &Path, data: &Path) -> Result<PathBuf> {
    let program = folder.join("starter");
    let text = format!(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c \
         'mount -t tmpfs -o size={SIZE} none \"$0\" && exec \"$@\"' {} {} \"$@\"\n",
        data.display(),
        BINARY,
    );
    fs::write(&program, text)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

fn can_mount(data: &Path) -> bool {
    let mount = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "none"];
    let mounted = Command::new("unshare").args(mount).arg(data).status();
    mounted.is_ok_and(|status| status.success())
}

async fn wait_for_readiness(client: &Client, expected: u16) -> Result<()> {
    for _ in 0..200 {
        if client.get("/readyz").await?.status == expected {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("/readyz never returned {expected}")
}

async fn add(client: &Client, participants: &str, name: &str) -> Result<u16> {
    let picture = format!("https://example.com/{}", "x".repeat(2000));
    let body = json!({
        "custom_participant_id": name,
        "preset_name": crate::crash::load::PRESET,
        "picture": picture,
    });
    let response = client.post(participants, &body).await?;
    let status = response.status.as_u16();
    if status == 503 {
        ensure!(
            response.headers.contains_key("retry-after"),
            "no retry-after"
        );
    } else {
        ensure!(status == 201, "{} {}", response.status, response.body);
    }
    Ok(status)
}

#[tokio::test]
async fn a_full_file_system_loses_nothing_and_recovers_when_space_is_freed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    if !can_mount(&data) {
        eprintln!(
            "skipped: this system does not permit mounts; crates/faults tests the same without one"
        );
        return Ok(());
    }
    let builder = ServerProcess::builder(write_starter(folder.path(), &data)?).data_dir(&data);
    let server = builder.start().await?;
    let client = server.client();
    let kit = kit_path(&server, &mut None).await?;
    let participants = create_meeting(&client, &kit, 0).await?;
    // The data directory in the mount namespace of the server.
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), data.display()));
    let filler = inside.join("filler");
    let mut fill = File::create(&filler)?;
    while fill.write_all(&[0; 4096]).is_ok() {}
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    // The write-ahead log first reuses its own space.
    for number in 0..5000 {
        let name = format!("person-{number}");
        match add(&client, &participants, &name).await? {
            201 => acknowledged.push(name),
            _ => refused += 1,
        }
        if refused == 5 {
            break;
        }
    }
    ensure!(refused == 5, "the disk never became full");
    wait_for_readiness(&client, 503).await?;
    fs::remove_file(&filler)?;
    drop(fill);
    wait_for_readiness(&client, 200).await?;
    ensure!(add(&client, &participants, "after").await? == 201);
    acknowledged.push("after".to_owned());
    for name in &acknowledged {
        let found = client.get(&format!("{participants}/custom:{name}")).await?;
        ensure!(found.status == 200, "{name} was acknowledged, but is lost");
    }
    fs::exists(&inside).context("the mount namespace of the server is gone")?;
    Ok(())
}

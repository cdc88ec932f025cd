//! A real file system that runs full: a small one in memory, in a mount namespace of the server's.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::{Client, Parlor};
use serde_json::json;

use crate::crash::{create_meeting, kit_path};
use crate::process::BINARY;

/// Enough for the schema, and full soon.
const SIZE: &str = "6m";

/// A program that starts the server with such a file system at its data directory.
fn starter(folder: &Path, data: &Path) -> Result<PathBuf> {
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

fn may_mount(data: &Path) -> bool {
    let mount = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "none"];
    let mounted = Command::new("unshare").args(mount).arg(data).status();
    mounted.is_ok_and(|status| status.success())
}

async fn until_ready_is(client: &Client, expected: u16) -> Result<()> {
    for _ in 0..200 {
        if client.get("/readyz").await?.status == expected {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("/readyz is never {expected}")
}

async fn add(client: &Client, participants: &str, name: &str) -> Result<u16> {
    let picture = format!("https://example.com/{}", "x".repeat(2000));
    let body = json!({
        "custom_participant_id": name,
        "preset_name": crate::crash::load::PRESET,
        "picture": picture,
    });
    let answer = client.post(participants, &body).await?;
    let status = answer.status.as_u16();
    if status == 503 {
        ensure!(answer.headers.contains_key("retry-after"), "no retry-after");
    } else {
        ensure!(status == 201, "{} {}", answer.status, answer.body);
    }
    Ok(status)
}

#[tokio::test]
async fn a_full_file_system_loses_nothing_and_is_well_when_there_is_space() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    if !may_mount(&data) {
        eprintln!("skipped: this system lets nobody mount; crates/faults tests the same without");
        return Ok(());
    }
    let builder = Parlor::builder(starter(folder.path(), &data)?).data_dir(&data);
    let server = builder.start().await?;
    let client = server.client();
    let kit = kit_path(&server, &mut None).await?;
    let participants = create_meeting(&client, &kit, 0).await?;
    // The files as the server sees them.
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), data.display()));
    let filler = inside.join("filler");
    let mut fill = File::create(&filler)?;
    while fill.write_all(&[0; 4096]).is_ok() {}
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    // The log has some space left that it uses again.
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
    ensure!(refused == 5, "the disk never ran full");
    until_ready_is(&client, 503).await?;
    fs::remove_file(&filler)?;
    drop(fill);
    until_ready_is(&client, 200).await?;
    ensure!(add(&client, &participants, "after").await? == 201);
    acknowledged.push("after".to_owned());
    for name in &acknowledged {
        let found = client.get(&format!("{participants}/custom:{name}")).await?;
        ensure!(found.status == 200, "{name} was acknowledged and is lost");
    }
    fs::exists(&inside).context("the server still runs")?;
    Ok(())
}

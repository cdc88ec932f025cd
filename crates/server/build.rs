//! Makes the table of the meeting page's files from `page/dist`, which `scripts/build-page` fills.
//! Runs nothing and fetches nothing: without those files the table is empty.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    // Cargo runs build scripts in the directory of their package.
    let dist = Path::new("../../page/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut table = String::from("&[\n");
    for (name, path) in files_of(dist)? {
        let (name, is_gzip) = match name.strip_suffix(".gz") {
            Some(plain) => (plain, true),
            None => (name.as_str(), false),
        };
        let is_named_by_content = name != "meet.html";
        writeln!(
            table,
            "File {{ name: {name:?}, is_gzip: {is_gzip}, is_named_by_content: {is_named_by_content}, \
             bytes: include_bytes!({path:?}) }},"
        )
        .expect("writing to a String never fails");
    }
    table.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it for build scripts"));
    fs::write(out.join("meeting_page.rs"), table)?;
    fs::write(out.join("THIRD-PARTY-LICENSES"), licenses()?)
}

/// The file that `PARLOR_LICENSES` names, relative to the root of the repository; empty without it.
fn licenses() -> io::Result<String> {
    println!("cargo::rerun-if-env-changed=PARLOR_LICENSES");
    let Some(path) = std::env::var_os("PARLOR_LICENSES") else {
        return Ok(String::new());
    };
    let path = Path::new("../..").join(path);
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The files by name, in order, so that the same files make the same binary.
fn files_of(dist: &Path) -> io::Result<Vec<(String, String)>> {
    let entries = match fs::read_dir(dist) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let path = entry.path().canonicalize()?.to_string_lossy().into_owned();
            files.push((name, path));
        }
    }
    files.sort();
    Ok(files)
}

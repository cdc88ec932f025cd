//! Compiles the signalling messages. Needs no protoc.

use std::path::Path;

const FILES: [&str; 13] = [
    "ai",
    "api",
    "chat",
    "common",
    "media",
    "media_edge",
    "message",
    "polls",
    "preset",
    "recording",
    "room",
    "stage",
    "store",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = FILES.map(|name| format!("{name}.proto"));
    let described = protox::compile(files, [root])?;
    prost_build::Config::new()
        // Payloads are passed on, not looked into: share the frame they came in.
        .bytes(["."])
        // The same message is the same bytes.
        .btree_map(["."])
        .include_file("signal.rs")
        .compile_fds(described)?;
    Ok(())
}

//! Compiles the protobuf messages, and generates the field tables that `signal/scan.rs` uses to
//! count fields before decoding. Does not need protoc.

use std::fmt::Write;
use std::path::{Path, PathBuf};

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
    let mut shapes = String::new();
    for file in &described.file {
        let package = file.package();
        let messages = file.message_type.iter();
        let mut open: Vec<_> = messages.map(|it| (format!(".{package}"), it)).collect();
        while let Some((scope, message)) = open.pop() {
            let name = format!("{scope}.{}", message.name());
            let (mut nested, mut lists) = (String::new(), String::new());
            for field in &message.field {
                // Numeric types and labels as in `descriptor.proto`.
                match (field.r#type, field.label) {
                    (Some(MESSAGE), _) => {
                        let shape = constant(field.type_name());
                        write!(nested, "({}, &{shape}), ", field.number())?;
                    }
                    (Some(STRING | BYTES), _) => {}
                    (Some(kind), Some(REPEATED)) => {
                        write!(lists, "({}, Packed::{}), ", field.number(), packed(kind))?;
                    }
                    _ => {}
                }
            }
            writeln!(
                shapes,
                "static {}: Shape = Shape {{ messages: &[{nested}], packed: &[{lists}] }};",
                constant(&name)
            )?;
            if scope == format!(".{package}") {
                let path = name[1..].replace('.', "::");
                writeln!(
                    shapes,
                    "impl Countable for super::generated::{path} {{ fn shape() -> &'static Shape {{ &{} }} }}",
                    constant(&name)
                )?;
            }
            open.extend(message.nested_type.iter().map(|it| (name.clone(), it)));
        }
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("shapes.rs"), shapes)?;
    prost_build::Config::new()
        // Payloads share the frame's buffer, because they are passed on undecoded.
        .bytes(["."])
        // Deterministic encoding: equal messages have equal bytes.
        .btree_map(["."])
        .include_file("signal.rs")
        .compile_fds(described)?;
    Ok(())
}

const STRING: i32 = 9;
const MESSAGE: i32 = 11;
const BYTES: i32 = 12;
const REPEATED: i32 = 3;

/// Encoding of a packed field with this type.
fn packed(kind: i32) -> &'static str {
    match kind {
        1 | 6 | 16 => "Fixed64",
        2 | 7 | 15 => "Fixed32",
        _ => "Varint",
    }
}

/// Name of the constant for the message with this full name.
fn constant(full_name: &str) -> String {
    full_name[1..].replace('.', "_").to_uppercase()
}

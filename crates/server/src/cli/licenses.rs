//! `parlor --licenses`: the license texts of everything in the binary.

use std::io::Write;
use std::process::ExitCode;

/// The output of `scripts/licenses`, or nothing if the binary was built without it.
static EMBEDDED: &str = include_str!(concat!(env!("OUT_DIR"), "/THIRD-PARTY-LICENSES"));

const ABSENT: &str = "\
This binary was built without the license texts of its dependencies. Releases include them. To build
a binary that does:

  scripts/build-page
  scripts/licenses target/THIRD-PARTY-LICENSES
  PARLOR_LICENSES=target/THIRD-PARTY-LICENSES cargo build --release
";

/// Prints the texts. Fails if the binary was built without them.
pub(super) fn print() -> ExitCode {
    if EMBEDDED.is_empty() {
        eprint!("{ABSENT}");
        return ExitCode::FAILURE;
    }
    match std::io::stdout().write_all(EMBEDDED.as_bytes()) {
        // The text is long: `parlor --licenses | head` is not an error.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

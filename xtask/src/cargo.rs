//! Starting cargo and other programs, with errors that name the command line.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

/// What went wrong, for a person.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // Clones that share a target folder share this program: cargo says at the start which of them it is started in.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The cargo that started this program, at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo tells this program of its own package. Some build scripts (ring's) run again when it changes, and
    // everything above them would be compiled anew after each change between `cargo xtask` and plain cargo.
    for (name, _) in std::env::vars_os() {
        let of_package = [&b"CARGO_PKG_"[..], b"CARGO_MANIFEST_"];
        if of_package.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs to the end with inherited streams; anything but exit code 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("can't start `{}`: {error}", describe(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", describe(command))) }
}

/// Runs to the end and hands back standard output; standard error is inherited.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    command.stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("can't start `{}`: {error}", describe(command)))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("`{}` failed ({})", describe(command), output.status))
    }
}

/// `cargo metadata` of a manifest, dependencies of all features included, as resolved for this machine's platform.
pub(crate) fn metadata(manifest: &Path) -> Result<Json> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--all-features"]);
    command.args(["--filter-platform", &host_platform()?, "--manifest-path"]);
    command.arg(manifest);
    let text = capture(&mut command)?;
    serde_json::from_slice(&text).map_err(|error| format!("`{}` printed no JSON: {error}", describe(&command)))
}

/// The command line as a person would type it, the program without its folder.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Whether a program of this name is in `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// As in `x86_64-unknown-linux-gnu`.
fn host_platform() -> Result<String> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = capture(command.arg("-vV"))?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| "`rustc -vV` names no host".to_owned())
}

//! Starts cargo and other programs, with errors that contain the command line.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

/// A result whose error is a message for a person.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // Clones of the repository that share a target folder also share this executable, so the path at compile time may be
    // that of another clone. Cargo sets the variable when it runs the program.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The cargo that started this program, at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Removes the variables that describe this package, which cargo set for this program. Some build scripts (ring's) run
    // again when one of them changes. Every crate that depends on them would be recompiled whenever a build by
    // `cargo xtask` follows one by plain cargo, or the other way round.
    for (name, _) in std::env::vars_os() {
        let of_package = [&b"CARGO_PKG_"[..], b"CARGO_MANIFEST_"];
        if of_package.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end with inherited streams. Any exit code but 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("can't start `{}`: {error}", describe(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", describe(command))) }
}

/// Runs a command to its end and returns its standard output. Standard error is inherited.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    command.stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("can't start `{}`: {error}", describe(command)))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("`{}` failed ({})", describe(command), output.status))
    }
}

/// The output of `cargo metadata` for a manifest: with the dependencies of all features, as resolved for the platform of
/// this machine.
pub(crate) fn metadata(manifest: &Path) -> Result<Json> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--all-features"]);
    command.args(["--filter-platform", &host_platform()?, "--manifest-path"]);
    command.arg(manifest);
    let text = capture(&mut command)?;
    serde_json::from_slice(&text).map_err(|error| format!("`{}` printed invalid JSON: {error}", describe(&command)))
}

/// The command line as a person would type it; the program without its folder.
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

/// The target triple of this machine, as in `x86_64-unknown-linux-gnu`.
pub(crate) fn host_platform() -> Result<String> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = capture(command.arg("-vV"))?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| "`rustc -vV` names no host".to_owned())
}
